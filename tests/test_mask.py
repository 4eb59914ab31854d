"""Masks: merged and sharpened by what can be computed slowly, given by files, and right on real photos."""

import hashlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import man
from numpy.typing import NDArray
from PIL import Image
from real_data import real_path
from torch import Tensor

import lvdreg.photo.mask as mask_module
from lvdreg.base.errors import LvdregError, PhotoError, UsageError
from lvdreg.photo.mask import GivenMask, given_mask, mask_of, people_in, read_mask, with_mask
from lvdreg.photo.model import Photo, photo_from_array, read_photo
from lvdreg.photo.people import Crowd, DetectedPerson, find_people, mask_bounds
from lvdreg.photo.search import GRID
from lvdreg.photo.segment import (
    Rect,
    answers_in,
    connected,
    guided_filter,
    rect_of,
    segment_all,
    sharpen,
    solve_symmetric,
    turned_upright,
    window_mean,
)
from lvdreg.photo.warp import Boxes, Pyramid

GIVEN = {
    "standing2.png": ("standing2_mask.png", 0.96), "apose_front.png": ("apose_front_parts.png", 0.97),
    "apose_side.png": ("apose_side_parts.png", 0.96), "skater.jpg": ("skater_mask.png", 0.88),
}  # fmt: skip


def iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    a, b = first > 0.5, second > 0.5
    return float((a & b).sum() / (a | b).sum())


def picture(*shape: int) -> Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))


def test_window_means_at_the_rim_count_what_is_inside() -> None:
    image = picture(2, 7, 9)
    found = window_mean(image, 2)
    for r in range(7):
        for c in range(9):
            window = image[0, :, max(0, r - 2) : r + 3, max(0, c - 2) : c + 3]
            torch.testing.assert_close(found[0, :, r, c], window.mean((1, 2)))


def test_symmetric_systems_are_solved() -> None:
    root = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    matrix = torch.einsum("ijhw,kjhw->hwik", root, root) + 0.1 * torch.eye(3)
    right = torch.randn(1, 3, 4, 5)
    entries = [matrix[..., i, j][None] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    expected = torch.linalg.solve(matrix, right[0].permute(1, 2, 0)[..., None])[..., 0].permute(2, 0, 1)
    torch.testing.assert_close(solve_symmetric(entries, right)[0], expected, atol=1e-3, rtol=1e-3)


def test_the_guided_filter_is_ridge_regression_in_windows() -> None:
    guide, mask, radius, eps = picture(3, 8, 9), picture(1, 8, 9) ** 2, 2, 1e-2
    slopes, offset = torch.zeros(3, 8, 9), torch.zeros(1, 8, 9)
    for r in range(8):
        for c in range(9):
            rows, columns = slice(max(0, r - radius), r + radius + 1), slice(max(0, c - radius), c + radius + 1)
            x, y = guide[0, :, rows, columns].reshape(3, -1).double(), mask[0, 0, rows, columns].reshape(-1).double()
            centred = x - x.mean(1, keepdim=True)
            matrix = centred @ centred.T / x.shape[1] + eps * torch.eye(3)
            slope = torch.linalg.solve(matrix, centred @ (y - y.mean()) / x.shape[1])
            slopes[:, r, c], offset[0, r, c] = slope.float(), float(y.mean() - slope @ x.mean(1))
    found = guided_filter(guide, mask, radius, eps)
    torch.testing.assert_close(found[0], window_mean(slopes[None], radius), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found[1], window_mean(offset[None], radius), atol=1e-4, rtol=1e-3)


def test_a_coarse_mask_takes_the_edges_of_the_photo() -> None:
    """A disc known only in cells of 16 pixels; edges come out closer than the cells, and nothing changes far away."""
    y, x = np.mgrid[:900, :1200]
    disc = (x - 620) ** 2 + (y - 440) ** 2 < 300**2
    rgb = np.where(disc[..., None], (200, 150, 120), (60, 90, 70)).astype(np.uint8)
    rect = Rect(200, 100, 1000, 900)
    coarse = torch.from_numpy(disc[100:900, 200:1000][8::16, 8::16].astype(np.float32))
    rough = torch.nn.functional.interpolate(coarse[None, None], size=rect.work_size(), mode="bilinear")[0, 0]
    found = sharpen(Pyramid(rgb), rect, rough)
    assert found.shape == (900, 1200) and found.dtype == np.float32 and iou(found, disc) > 0.998
    blocky = np.zeros((900, 1200), np.float32)
    blocky[100:900, 200:1000] = np.kron(coarse.numpy(), np.ones((16, 16)))
    assert iou(blocky, disc) < 0.98
    assert not found[:, :200].any() and found[440, 620] == 1 and found[110, 210] == 0


def test_a_photo_without_edges_leaves_the_mask_as_it_is() -> None:
    rough = torch.zeros(80, 100)
    rough[20:60, 30:70] = 1
    found = sharpen(Pyramid(np.full((80, 100, 3), 90, np.uint8)), Rect(0, 0, 100, 80), rough)
    assert iou(found, rough.numpy()) > 0.95


def test_pieces_that_hold_nothing_of_the_core_are_dropped() -> None:
    mask = torch.zeros(20, 30)
    mask[2:8, 2:8], mask[2:8, 8:10], mask[12:18, 20:28] = 0.9, 0.2, 0.8
    core = torch.zeros(20, 30, dtype=torch.bool)
    core[4, 4] = True
    expected = mask.clone()
    expected[12:18, 20:28] = 0
    torch.testing.assert_close(connected(mask, core), expected)
    torch.testing.assert_close(connected(mask, core & False), mask)


def test_answers_count_only_where_there_are_any() -> None:
    boxes = Boxes.upright(torch.tensor([[10.0, 10.0, 30.0, 30.0]]))
    target = Boxes.upright(torch.tensor([[0.0, 0.0, 40.0, 40.0]]))
    laid, seen = answers_in(target, (40, 40), boxes, torch.full((1, 1, 8, 8), 0.7))
    torch.testing.assert_close(laid[seen > 0.01], torch.full_like(laid[seen > 0.01], 0.7))
    assert seen[0, 0, 20, 20] == 1 and seen[0, 0, 5, 5] == 0 and laid[0, 0, 5, 5] == 0


@pytest.mark.parametrize("quarter", [-2, -1, 1, 2])
def test_turned_crops_cover_the_same_pixels(quarter: int) -> None:
    box = Boxes.upright(torch.tensor([[10.0, 20.0, 50.0, 120.0]]))
    (turned,) = turned_upright([box], torch.tensor(quarter * np.pi / 2 + 0.3))
    corners = torch.tensor([[[0.0, 0], [1, 0], [1, 1], [0, 1]]])
    a, b = (sorted(map(tuple, x.to_photo(corners)[0].round().tolist())) for x in (box, turned))
    assert a == b
    top = turned.to_photo(torch.tensor([[[0.5, 0.0]]]))[0, 0]
    assert (float(top[1]) < 50) == (quarter == 0) and (float(top[0]) > 45) == (quarter == 1)


def test_rects_are_whole_pixels_inside_of_the_photo() -> None:
    rect = rect_of(Boxes.upright(torch.tensor([[-4.5, 3.2, 20.1, 900.0]])), (100, 80))
    assert rect == Rect(0, 3, 21, 80)
    height, width = Rect(0, 0, 3000, 2000).work_size()
    assert max(height, width) <= 512 and width / height == pytest.approx(1.5, abs=0.01)


def test_bounds_are_of_the_largest_piece() -> None:
    mask = np.zeros((200, 300), np.float32)
    mask[20:120, 30:90], mask[150:160, 200:210] = 1, 1
    np.testing.assert_array_equal(mask_bounds(mask), [30, 20, 90, 120])
    np.testing.assert_allclose(mask_bounds(np.kron(mask, np.ones((8, 8), np.float32))), [240, 160, 720, 960], atol=5)
    assert mask_bounds(mask * 0.4) is None and mask_bounds(mask * (np.arange(300) > 205)) is None


@pytest.mark.slow
def test_without_a_pose_the_segmentation_of_the_photo_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    import lvdreg.photo.people as person_module

    photo, truth = photo_from_array(man()[0]), man()[1]
    monkeypatch.setattr(person_module, "MIN_PRESENCE", 2.0)
    monkeypatch.setattr(person_module, "SURE_PRESENCE", 2.0)
    nothing = torch.zeros(GRID, GRID, dtype=torch.bool)
    monkeypatch.setattr(person_module, "search", lambda pyramid, marks, device: (marks, nothing))
    (person,) = find_people(photo).people
    assert person.score == 0 and not person.keypoints[:, 2].any() and np.isfinite(person.keypoints).all()
    assert iou(person.mask, truth) > 0.8
    assert iou(segment_all(Pyramid(photo.rgb), None), truth) > 0.7


@pytest.fixture
def photo() -> Photo:
    return photo_from_array(man()[0], "man")


def half(width: int = 480, height: int = 640) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    return mask


def test_masks_come_from_files(tmp_path: Path, photo: Photo) -> None:
    Image.fromarray(half()).save(tmp_path / "same.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "same.png", photo).values, half() / np.float32(255))
    Image.fromarray(half(240, 320)).save(tmp_path / "small.png")
    small = read_mask(tmp_path / "small.png", photo).values
    assert small.shape == (640, 480) and iou(small, half() / 255) > 0.99
    rgba = np.dstack([np.zeros((640, 480, 3), np.uint8), half()])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "alpha.png", photo).values, half() / np.float32(255))


def test_labels_other_than_zero_are_the_person(tmp_path: Path, photo: Photo) -> None:
    coloured = np.zeros((640, 480, 3), np.uint8)
    coloured[:, :100], coloured[:, 100:240] = (0, 0, 60), (255, 85, 0)
    Image.fromarray(coloured).save(tmp_path / "parts.png")
    Image.fromarray((half() > 0).astype(np.uint8) * 3).save(tmp_path / "numbers.png")
    for name in ("parts.png", "numbers.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, photo).values, half() / np.float32(255))


def test_masks_of_another_photo_are_refused(tmp_path: Path, photo: Photo) -> None:
    for shape, word in (((640, 480), "side"), ((300, 300), "300 x 300")):
        Image.fromarray(half(*shape)).save(tmp_path / "mask.png")
        with pytest.raises(PhotoError, match=word):
            read_mask(tmp_path / "mask.png", photo)
    Image.fromarray(half() * 0).save(tmp_path / "empty.png")
    with pytest.raises(PhotoError, match="empty"):
        given_mask(photo, tmp_path / "empty.png")
    with pytest.raises(PhotoError, match=r"no\.png"):
        given_mask(photo, tmp_path / "no.png")


def test_the_alpha_channel_is_the_mask(photo: Photo) -> None:
    alpha = np.where(man()[1], 255, 0).astype(np.uint8)
    given = photo_from_array(np.dstack([photo.rgb, alpha]))
    np.testing.assert_array_equal(mask_of(given), alpha / np.float32(255))
    assert given_mask(photo, "auto") is None
    whole = given_mask(given, "none").values
    assert whole is not None and whole.all() and whole.shape == alpha.shape


def fake_person(left: int, right: int) -> DetectedPerson:
    mask = np.zeros((60, 100), np.float32)
    mask[10:50, left:right] = 1
    return DetectedPerson(np.array([left, 10, right, 50], np.float32), np.full((33, 3), left, np.float32), mask, 0.9)


def test_a_given_mask_goes_to_whom_it_shows() -> None:
    people = [fake_person(5, 40), fake_person(60, 90)]
    mask = np.zeros((60, 100), np.float32)
    mask[20:55, 55:95] = 1
    found = with_mask(people, GivenMask(mask, {"mask/m.png": "abc"}))
    assert found.files == {"mask/m.png": "abc"}
    assert found.keypoints[0, 0] == 60 and found.mask is mask
    np.testing.assert_array_equal(found.box, [55, 20, 95, 55])
    alone = with_mask([], GivenMask(mask))
    assert alone.score == 0 and not alone.keypoints[:, 2].any() and alone.keypoints[0, 0] == 75


def test_people_are_chosen_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, people = photo_from_array(np.zeros((60, 100, 3))), [fake_person(5, 40), fake_person(60, 90)]
    monkeypatch.setattr(mask_module, "find_people", lambda photo, device: Crowd(people))
    assert people_in(photo).people == people[:1] and people_in(photo, person=2).people == people[1:]
    assert people_in(photo, everyone=True).people == people
    with pytest.raises(PhotoError, match="at least 3 people, found 2"):
        people_in(photo, person=3)
    with pytest.raises(UsageError, match="1 or more"):
        people_in(photo, person=0)
    people.clear()
    with pytest.raises(PhotoError, match="found none"):
        people_in(photo)


def test_rembg_is_an_extra(monkeypatch: pytest.MonkeyPatch, photo: Photo, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(UsageError, match="rembg") as missing:
        given_mask(photo, "rembg")
    assert "pip install" in str(missing.value) and "\n" not in str(missing.value)
    (tmp_path / "net.onnx").write_bytes(b"abc")
    session = types.SimpleNamespace(download_models=lambda: str(tmp_path / "net.onnx"))
    fake = types.SimpleNamespace(new_session=lambda name: session, remove=lambda image, **_: Image.fromarray(half()))
    monkeypatch.setitem(sys.modules, "rembg", fake)
    found = given_mask(photo, "rembg")
    np.testing.assert_array_equal(found.values, half() / np.float32(255))
    assert found.files == {"rembg/net.onnx": hashlib.sha256(b"abc").hexdigest()}

    def offline(name: str) -> str:
        raise ConnectionError("no\nroute")

    fake.new_session = offline
    with pytest.raises(LvdregError, match="no route"):
        given_mask(photo, "rembg")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", list(GIVEN))
def test_real_people_are_cut_out(name: str) -> None:
    photo = read_photo(real_path(f"images/{name}"))
    truth, least = GIVEN[name]
    assert iou(mask_of(photo), read_mask(real_path(f"images/{truth}"), photo).values) > least


@pytest.mark.real
def test_a_real_upper_body_is_found_where_the_whole_one_shows_it() -> None:
    photo = read_photo(real_path("images/standing.png"))
    whole = find_people(photo).people[0]
    top, bottom = whole.box[1], whole.box[3]
    rows = int(top + 0.45 * (bottom - top))
    part = find_people(photo_from_array(photo.rgb[:rows])).people[0]
    seen = (whole.keypoints[:, 1] < rows - 10) & (whole.keypoints[:, 2] > 0.5)
    apart = np.linalg.norm(whole.keypoints[seen, :2] - part.keypoints[seen, :2], axis=1)
    assert np.median(apart) < 0.02 * (bottom - top) and iou(part.mask, whole.mask[:rows]) > 0.95
