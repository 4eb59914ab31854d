"""Crop and camera: exact ways between photo, crop and metres; what the crop holds; who is shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lvdreg.base.errors import PhotoError
from lvdreg.descent.photo import UNSEEN_SLOPE, leaning, widened
from lvdreg.geometry.frames import scale_of, transform_points
from lvdreg.image.camera import Camera
from lvdreg.image.crop import CutConfig, crop_around, resampled, turned_crop, visible_box
from lvdreg.image.inputs import CROP_FILL
from lvdreg.photo import shown as shown_module
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.photo.model import photo_from_array
from lvdreg.photo.people import Crowd, DetectedPerson
from lvdreg.photo.shown import people_shown, shown_of


def photo(width: int, height: int) -> NDArray[np.uint8]:
    """Colours that say where they are: red grows with the column, green with the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([columns % 256, rows % 256, np.full_like(rows, 200)], -1).astype(np.uint8)


def box_mask(width: int, height: int, left: int, top: int, right: int, bottom: int) -> NDArray[np.float32]:
    mask = np.zeros((height, width), np.float32)
    mask[top:bottom, left:right] = 1
    return mask


def slow_resampled(image: NDArray[np.float64], low: float, high: float, size: int) -> NDArray[np.float64]:
    """Along columns only: the mean under a triangle, pixel by pixel; black outside."""
    step = (high - low) / size
    reach = max(step, 1.0)
    out = np.zeros(size)
    for i in range(size):
        centre = low + (i + 0.5) * step
        total = 0.0
        for j in range(int(np.floor(centre - reach)) - 1, int(np.ceil(centre + reach)) + 2):
            weight = max(0.0, 1 - abs(j + 0.5 - centre) / reach)
            total += weight
            out[i] += weight * (image[j] if 0 <= j < len(image) else 0.0)
        out[i] /= total
    return out


@pytest.mark.parametrize(("width", "height"), [(640, 480), (93, 700), (2000, 300)])
def test_ways_between_photo_and_crop_are_exact(width: int, height: int) -> None:
    crop = crop_around(photo(width, height), box_mask(width, height, 20, 30, 77, 291), CutConfig(), 256)
    pixels = np.random.default_rng(0).uniform(-100, 2000, (50, 2))
    assert np.abs(crop.to_photo(crop.to_unit(pixels)) - pixels).max() < 1e-9
    assert np.allclose(crop.to_unit(crop.centre), 0)
    upper_left = crop.centre - crop.side / 2
    assert np.allclose(crop.to_unit(upper_left), [-1, 1])
    camera = crop.camera(0.9)
    world = np.random.default_rng(1).normal(size=(20, 3))
    assert np.abs(camera.project(world) - crop.to_photo(world / 0.9)).max() < 1e-9


def test_the_person_fills_the_share_of_training() -> None:
    crop = crop_around(photo(640, 480), box_mask(640, 480, 300, 100, 360, 400), CutConfig(), 256)
    assert np.allclose(crop.centre, [330, 250]) and crop.side == pytest.approx(300 / CROP_FILL)
    rows = np.flatnonzero((crop.mask[0] > 0.5).any(1).numpy())
    assert (rows[-1] - rows[0] + 1) / 256 == pytest.approx(CROP_FILL, abs=0.006)
    left, right, bottom, top = crop.borders
    assert np.allclose(crop.to_photo(np.array([[left, top], [right, bottom]])), [[0, 0], [640, 480]])


def test_pixels_lie_where_the_maps_say() -> None:
    image = photo(640, 480)
    crop = crop_around(image, box_mask(640, 480, 100, 60, 170, 250), CutConfig(), 256)
    for row, column in ((128, 128), (40, 200), (200, 90)):
        unit = np.array([(column + 0.5) * 2 / 256 - 1, 1 - (row + 0.5) * 2 / 256])
        at = crop.to_photo(unit)
        # Red is the column's number at the middle of a pixel: half a pixel of error would show.
        found = crop.image[:2, row, column].numpy() * 255
        assert np.abs(found - (at - 0.5)).max() < 0.75, (at, found)


@pytest.mark.parametrize(("low", "high"), [(-30.0, 120.0), (10.3, 30.7), (-5.0, 400.0), (40.2, 44.9)])
def test_resampling_is_the_mean_under_a_triangle(low: float, high: float) -> None:
    line = np.random.default_rng(0).uniform(0, 1, 100)
    image = np.repeat(line[None], 90, 0).astype(np.float32)
    middle = np.array([low, 45 - (high - low) / 2])
    found = resampled(image, middle, middle + (high - low), 16)
    inside = [i for i in range(16) if 10 < middle[1] + (i + 0.5) * (high - low) / 16 < 80]
    expected = slow_resampled(line, low, high, 16)
    rows = inside if high - low < 60 else inside[len(inside) // 2 : len(inside) // 2 + 1]
    assert np.abs(found[rows] - expected).max() < (2e-6 if high - low < 160 else 0.06)


def test_outside_of_the_photo_is_black_and_nobody() -> None:
    crop = crop_around(np.full((100, 100, 3), 255, np.uint8), box_mask(100, 100, 0, 0, 60, 100), CutConfig(), 256)
    assert float(crop.image[:, :, 0].max()) == 0 and float(crop.mask[0, :, 0].max()) == 0
    assert float(crop.image[:, 128, 128].min()) == 1


def test_a_fine_pattern_is_averaged_not_sampled() -> None:
    board = np.indices((1200, 1200)).sum(0) % 2 * 255
    crop = crop_around(
        np.repeat(board[..., None], 3, -1).astype(np.uint8), np.ones((1200, 1200), np.float32), CutConfig(), 256
    )
    centre = crop.image[:, 60:196, 60:196]
    assert float(centre.std()) < 0.03 and float(centre.mean()) == pytest.approx(0.5, abs=0.01)


def test_stray_pieces_do_not_move_the_box() -> None:
    mask = box_mask(300, 300, 100, 50, 160, 250)
    mask[5:9, 5:9] = 1
    assert visible_box(mask).tolist() == [100, 50, 160, 250]


def test_empty_masks_and_tiny_people_are_refused() -> None:
    with pytest.raises(PhotoError, match="empty"):
        crop_around(photo(100, 100), np.zeros((100, 100), np.float32), CutConfig(), 256)
    with pytest.raises(PhotoError, match="got one of 10"):
        crop_around(photo(100, 100), box_mask(100, 100, 10, 10, 15, 20), CutConfig(), 256)


def test_a_moved_camera_sees_the_same() -> None:
    camera = Camera(200.0, np.array([320.0, 240.0]))
    origin, points = np.array([0.3, -0.2, 5.0]), np.random.default_rng(0).normal(size=(9, 3))
    assert np.allclose(camera.moved(origin).project(points - origin), camera.project(points))


def person(mask: NDArray[np.float32], at: tuple[float, float], visibility: float = 0.9) -> DetectedPerson:
    keypoints = np.tile(np.array([*at, visibility], np.float32), (len(KEYPOINTS), 1))
    return DetectedPerson(np.zeros(4, np.float32), keypoints, mask, 0.9)


def test_keypoints_beside_the_mask_are_somebody_elses() -> None:
    mask = box_mask(100, 100, 10, 10, 40, 90)
    assert shown_of(person(mask, (20, 50)), "auto", 1, 1).keypoints is not None
    assert shown_of(person(mask, (80, 50)), "auto", 1, 1).keypoints is None
    assert shown_of(person(mask, (20, 50), 0.0), "auto", 1, 1).keypoints is None
    # Guesses beyond the photo must not be looked up in it.
    assert shown_of(person(mask, (500, -70)), "auto", 1, 1).keypoints is None


def test_one_of_several_people(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = [box_mask(100, 100, 10, 10, 40, 90), box_mask(100, 100, 60, 10, 90, 90)]
    crowd = Crowd([person(masks[0], (20, 50)), person(masks[1], (70, 50))])
    monkeypatch.setattr(shown_module, "people_in", lambda *_: crowd)
    image = photo_from_array(photo(100, 100))
    (first,), (second,) = people_shown(image, "auto"), people_shown(image, "auto", 2)
    assert np.array_equal(first.mask, masks[0]) and "2 people found" in first.notes[0]
    assert np.array_equal(second.mask, masks[1]) and second.number == 2 and not second.notes
    assert [one.number for one in people_shown(image, "auto", everyone=True)] == [1, 2]
    with pytest.raises(PhotoError, match="at most 2"):
        people_shown(image, "auto", 3)
    crowd = Crowd(crowd.people, np.array([[1, 2, 30, 40]], np.float32))
    missing = "columns 1 to 30, rows 2 to 40"
    for shown in (*people_shown(image, "auto"), *people_shown(image, "auto", everyone=True)):
        assert shown.missed.tolist() == [[1, 2, 30, 40]] and missing in shown.notes[-1]


def test_without_a_mask_everything_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.photo.mask.find_people", lambda *_: Crowd([]))
    Image.fromarray(photo(80, 60)).save(tmp_path / "a.png")
    (one,) = people_shown(photo_from_array(photo(80, 60)), "none")
    assert not one.has_mask and one.keypoints is None and float(one.mask.min()) == 1


@pytest.mark.parametrize("degrees", [90.0, -60.0, 170.0])
def test_a_turned_crop_shows_the_same_places(degrees: float) -> None:
    """Where a turned crop says a place of the crop lies, it shows its colours."""
    image = np.full((600, 800, 3), 30, np.uint8)
    for number, (column, row) in enumerate(((300, 150), (420, 380), (350, 260))):
        image[row - 12 : row + 12, column - 12 : column + 12] = np.eye(3, dtype=np.uint8)[number] * 225
    mask = box_mask(800, 600, 280, 120, 450, 420)
    crop = crop_around(image, mask, CutConfig(), 256)
    turned, T_turned_crop = turned_crop(image, crop, np.radians(degrees), CutConfig())
    for number, place in enumerate(((300, 150), (420, 380), (350, 260))):
        at = transform_points(T_turned_crop, np.append(crop.to_unit(np.array(place, float)), 0.0))
        column, row = (at[0] + 1) * 128, (1 - at[1]) * 128
        colour = turned.image[:, int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2].mean((1, 2))
        assert int(colour.argmax()) == number and float(colour.max()) > 0.6, (place, colour)
        spot = turned.image[number] - turned.image.mean(0) > 0.3
        rows, columns = np.nonzero(spot.numpy())
        assert abs(rows.mean() + 0.5 - row) < 0.7 and abs(columns.mean() + 0.5 - column) < 0.7
    share = float((turned.mask > 0.5).sum()) / float((crop.mask > 0.5).sum())
    assert share == pytest.approx(scale_of(T_turned_crop) ** 2, rel=0.05)


@pytest.mark.parametrize(("up", "degrees"), [((0, -1), 0), ((-1, 0), 90), ((1, 0), -90), ((-1, -1), 45)])
def test_how_a_trunk_leans(up: tuple[float, float], degrees: float) -> None:
    keypoints = np.zeros((len(KEYPOINTS), 3), np.float32)
    for name, along in (("shoulder", 50.0), ("hip", 0.0)):
        for side in ("left", "right"):
            keypoints[KEYPOINTS.index(f"{side}_{name}")] = (*(np.array(up) * along + 200), 0.9)
    assert np.degrees(leaning(keypoints)) == pytest.approx(degrees, abs=1e-4)
    keypoints[KEYPOINTS.index("left_hip"), 2] = 0.1
    assert leaning(keypoints) == 0.0 == leaning(None)


def test_sigma_grows_with_the_distance_beyond_the_photo() -> None:
    """Against a slow search for the nearest point of the photo; what is seen keeps its sigma to the bit."""
    crop = crop_around(photo(60, 50), box_mask(60, 50, 10, 5, 40, 50), CutConfig(), 64)
    points = np.random.default_rng(0).uniform(-2, 2, (200, 3))
    left, right, bottom, top = crop.borders
    nearest = np.clip(points[:, :2], [left, bottom], [right, top])
    away = np.linalg.norm(points[:, :2] - nearest, axis=1)
    np.testing.assert_allclose(crop.beyond(points), away, atol=1e-12)
    sigma = torch.full((200,), 0.03)
    wide = widened(sigma, torch.from_numpy(points), crop).numpy()
    seen = away == 0
    assert 20 < seen.sum() < 180 and (wide[seen] == sigma.numpy()[seen]).all()
    np.testing.assert_allclose(wide[~seen], np.hypot(0.03, UNSEEN_SLOPE * away[~seen]), rtol=1e-5)
