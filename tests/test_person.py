"""Finding people: geometry of turned boxes, the detector's arithmetic, and a drawn man the whole way."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from drawn import Canvas, draw_man, man
from numpy.typing import NDArray
from real_data import real_path
from torch import Tensor

import lvdreg.photo.segment as segment_module
from lvdreg.photo.detector import OVERLAP, anchors, body_squares, detect, merge_overlapping, overlap
from lvdreg.photo.keypoints import HEAT_LEAST, KEYPOINTS, MIRRORED, DetectedLandmarks, find_landmarks, refine_by_heat
from lvdreg.photo.model import Photo, photo_from_array, read_photo
from lvdreg.photo.people import DetectedPerson, _distinct, find_people
from lvdreg.photo.warp import Boxes, Pyramid, lay_back, pixel_centres


def turned_boxes() -> Boxes:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    return Boxes(draw(5, 2) * 100, draw(5, 2) * 80 + 20, draw(5) * 6 - 3)


def test_boxes_and_photo_round_trip() -> None:
    boxes, points = turned_boxes(), torch.rand(5, 9, 2) * 2 - 0.5
    photo = boxes.to_photo(points)
    torch.testing.assert_close(boxes.to_box(photo), points, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(boxes.to_photo(torch.full((5, 1, 2), 0.5))[:, 0], boxes.centre)
    for i in range(5):
        up = photo_direction(boxes[i : i + 1], (0.0, -1.0))
        expected = [np.sin(float(boxes.angle[i])), -np.cos(float(boxes.angle[i]))]
        np.testing.assert_allclose(up / np.linalg.norm(up), expected, atol=1e-5)


def photo_direction(box: Boxes, direction: tuple[float, float]) -> NDArray[np.float32]:
    ends = box.to_photo(torch.tensor([[[0.5, 0.5], [0.5 + direction[0], 0.5 + direction[1]]]]))[0]
    return (ends[1] - ends[0]).numpy()


def ramps(width: int, height: int) -> NDArray[np.uint8]:
    """Red tells the column, green the row."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.arange(width), np.arange(height)[:, None]
    return rgb


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.0])
@pytest.mark.parametrize("side", [24.0, 60.0, 130.0])
def test_a_crop_shows_what_lies_there(angle: float, side: float) -> None:
    """At every scale, so from every level: colours tell the place, with half a pixel between centre and corner."""
    pyramid = Pyramid(ramps(240, 200))
    box = Boxes(torch.tensor([[118.0, 102.0]]), torch.full((1, 2), side), torch.tensor([angle]))
    crop = pyramid.crop(box, (20, 30))[0] * 255
    places = box.to_photo(pixel_centres((20, 30)).reshape(1, -1, 2)).reshape(20, 30, 2).permute(2, 0, 1) - 0.5
    rounding = 0.0 if side < 40 else 0.5  # pictures that Pillow reduces are of whole numbers, halves rounded up
    torch.testing.assert_close(crop[:2], places, atol=0.02 + 2 * rounding, rtol=0)
    assert float((crop[:2] - places).mean((1, 2)).abs().max()) < 0.02 + rounding * 1.1


def test_a_whole_photo_is_cropped_to_itself() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    whole = Boxes.upright(torch.tensor([[0.0, 0.0, 53.0, 37.0]]))
    crop = Pyramid(rgb).crop(whole, (37, 53))[0].permute(1, 2, 0)
    np.testing.assert_allclose(crop.numpy(), rgb / 255, atol=1e-4)


@pytest.mark.parametrize(("border", "outside"), [("zeros", 0), ("border", 255)])
def test_what_lies_outside_of_the_photo(border: str, outside: int) -> None:
    pyramid = Pyramid(np.full((40, 40, 3), 255, np.uint8))
    box = Boxes.upright(torch.tensor([[-60.0, -60.0, 20.0, 20.0], [100.0, 100.0, 140.0, 140.0]]))
    crops = pyramid.crop(box, (16, 16), border)
    assert float(crops[0, :, -1, -1].min()) > 0.99
    torch.testing.assert_close(crops[0, :, 0, 0] * 255, torch.full((3,), float(outside)))
    torch.testing.assert_close(crops[1] * 255, torch.full((3, 16, 16), float(outside)))


def test_small_photos_are_not_aliased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = Pyramid(stripes).crop(Boxes.upright(torch.tensor([[0.0, 0.0, 256.0, 256.0]])), (64, 64))
    torch.testing.assert_close(crop, torch.full_like(crop, 0.5), atol=0.01, rtol=0)


def test_every_pixel_counts_in_a_reduced_crop() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    crop = Pyramid(noise).crop(Boxes.upright(torch.tensor([[0.0, 0.0, 256.0, 256.0]])), (64, 64))
    assert float(crop.std()) == pytest.approx(float((noise / 255).std()) / 4, rel=0.05)  # means of 16


def test_what_is_cut_out_is_laid_back_in_place() -> None:
    boxes = Boxes(torch.tensor([[50.0, 40.0]]), torch.tensor([[60.0, 50.0]]), torch.tensor([0.6]))
    target = Boxes.upright(torch.tensor([[0.0, 0.0, 100.0, 80.0]]))
    ramp = pixel_centres((64, 64)).permute(2, 0, 1)[None]
    laid = lay_back(ramp, boxes, target, (80, 100))[0].permute(1, 2, 0)
    inside = boxes.to_box(target.to_photo(pixel_centres((80, 100)).reshape(1, -1, 2)))[0].reshape(80, 100, 2)
    core = ((inside > 0.02) & (inside < 0.98)).all(-1)
    torch.testing.assert_close(laid[core], inside[core], atol=1e-4, rtol=0)
    beyond = ((inside < -0.02) | (inside > 1.02)).any(-1)
    assert core.sum() > 2000 and beyond.sum() > 2000 and not laid[beyond].any()


def test_anchors_count_cells_by_stride() -> None:
    found = anchors(224)
    assert found.shape == (2254, 2)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[2], torch.tensor([1.5 / 28, 0.5 / 28]))  # columns first
    torch.testing.assert_close(found[2 * 28], torch.tensor([0.5 / 28, 1.5 / 28]))
    torch.testing.assert_close(found[1568 + 392 + 6], torch.tensor([1.5 / 7, 0.5 / 7]))


def test_overlap_of_boxes() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.rand(6, 2, 2, generator=generator) * 8 for _ in range(2))
    found = overlap(a, b)
    for i in range(6):
        for j in range(6):
            shared, areas = 1.0, [1.0, 1.0]
            for axis in (0, 1):
                spans = [(float(x[0, axis] - x[1, axis] / 2), float(x[0, axis] + x[1, axis] / 2)) for x in (a[i], b[j])]
                shared *= max(0.0, min(s[1] for s in spans) - max(s[0] for s in spans))
                areas = [area * (s[1] - s[0]) for area, s in zip(areas, spans, strict=True)]
            assert float(found[i, j]) == pytest.approx(shared / (sum(areas) - shared), abs=1e-5)


def test_overlapping_boxes_are_merged_by_their_scores() -> None:
    rows = [[10, 10, 8, 8], [50, 50, 8, 8], [11, 10, 8, 8], [50, 30, 8, 8]]
    points = torch.tensor(rows, dtype=torch.float32).reshape(4, 2, 2).repeat(1, 2, 1)
    merged, scores = merge_overlapping(points, torch.tensor([0.6, 0.8, 0.3, 0.5]))
    torch.testing.assert_close(scores, torch.tensor([0.8, 0.6, 0.5]))
    torch.testing.assert_close(merged[:, 0], torch.tensor([[50.0, 50], [10 + 1 / 3, 10], [50, 30]]))
    assert float(overlap(merged, merged).fill_diagonal_(0).max()) <= OVERLAP
    none, _ = merge_overlapping(points[:0], torch.zeros(0))
    assert none.shape == (0, 4, 2)


def test_squares_point_the_way_the_person_does() -> None:
    squares = body_squares(torch.tensor([[10.0, 20.0], [10.0, 20.0]]), torch.tensor([[10.0, 12.0], [18.0, 20.0]]))
    torch.testing.assert_close(squares.size, torch.full((2, 2), 20.0))
    torch.testing.assert_close(squares.angle, torch.tensor([0.0, np.pi / 2]))
    np.testing.assert_allclose(photo_direction(squares[1:], (0, -1)), [20, 0], atol=1e-5)  # up in the crop is its way


def slow_refine(point: Tensor, heat: Tensor) -> Tensor:
    size = heat.shape[0]
    column, row = int(point[0] * size), int(point[1] * size)
    total, best, place = 0.0, 0.0, np.zeros(2)
    for r in range(row - 3, row + 4):
        for c in range(column - 3, column + 4):
            if 0 <= r < size and 0 <= c < size:
                value = float(heat[r, c])
                total, best, place = total + value, max(best, value), place + value * np.array([c, r])
    return torch.from_numpy(place / total / size).float() if best >= HEAT_LEAST else point


def test_points_move_to_the_heat_around_them() -> None:
    generator = torch.Generator().manual_seed(4)
    heat = torch.rand(2, 5, 16, 16, generator=generator) * torch.tensor([0.4, 1.0]).reshape(2, 1, 1, 1)
    points = torch.rand(2, 5, 2, generator=generator)
    points[1, 0] = torch.tensor([0.01, 0.99])
    found = refine_by_heat(points, heat)
    torch.testing.assert_close(found[0], points[0])  # nowhere hot
    for k in range(5):
        torch.testing.assert_close(found[1, k], slow_refine(points[1, k], heat[1, k]), atol=1e-5, rtol=0)
    outside = torch.full((1, 5, 2), 1.2)
    torch.testing.assert_close(refine_by_heat(outside, heat[1:]), outside)
    assert refine_by_heat(points[:0], heat[:0]).shape == (0, 5, 2)


@cache
def found_man() -> tuple[Photo, DetectedPerson]:
    photo = photo_from_array(man()[0])
    people = find_people(photo).people
    assert len(people) == 1
    return photo, people[0]


def names(person: DetectedPerson) -> dict[str, NDArray[np.float32]]:
    return dict(zip(person.keypoint_names, person.keypoints, strict=True))


def test_the_drawn_man_is_found_with_joints_and_mask() -> None:
    _, mask, joints = man()
    person = found_man()[1]
    assert person.score > 0.9 and person.keypoints.shape == (33, 3) and person.keypoint_names == KEYPOINTS
    found = names(person)
    for name, place in joints.items():
        assert np.linalg.norm(found[name][:2] - place) < 30, name  # of 540 pixels
        assert found[name][2] > 0.5
    assert person.mask.shape == mask.shape and person.mask.dtype == np.float32
    assert person.mask.min() >= 0 and person.mask.max() <= 1
    assert ((person.mask > 0.5) & mask).sum() / ((person.mask > 0.5) | mask).sum() > 0.95
    rows, columns = np.nonzero(mask)
    np.testing.assert_allclose(person.box, [columns.min(), rows.min(), columns.max(), rows.max()], atol=8)


def test_the_same_photo_gives_the_same_bytes() -> None:
    photo, person = found_man()
    again = find_people(photo).people[0]
    assert again.keypoints.tobytes() == person.keypoints.tobytes() and again.mask.tobytes() == person.mask.tobytes()


@pytest.mark.parametrize("turn", [1, 2])
def test_a_man_who_lies_or_stands_on_his_head(turn: int) -> None:
    rgb, mask, joints = man()
    height, width = mask.shape
    person = find_people(photo_from_array(np.ascontiguousarray(np.rot90(rgb, turn)))).people[0]
    found = names(person)
    for name in ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_knee"):
        x, y = joints[name]
        place = (y, width - x) if turn == 1 else (width - x, height - y)
        assert np.linalg.norm(found[name][:2] - place) < 40, name
    turned = np.rot90(mask, turn)
    assert ((person.mask > 0.5) & turned).sum() / ((person.mask > 0.5) | turned).sum() > 0.85


@pytest.mark.parametrize("rows", [150, 260, 420])
def test_half_a_man_is_found(rows: int) -> None:
    """Head and shoulders, to the waist, to the knees: what is seen is in place, the rest is not said to be seen."""
    rgb, mask, joints = man()
    person = find_people(photo_from_array(rgb[:rows])).people[0]
    found = names(person)
    for name, (x, y) in joints.items():
        if y < rows - 15:
            assert np.linalg.norm(found[name][:2] - (x, y)) < 30, name
        elif y > rows + 40:
            assert found[name][2] < 0.3, name
    part = mask[:rows]
    assert ((person.mask > 0.5) & part).sum() / ((person.mask > 0.5) | part).sum() > 0.9


def test_people_are_told_apart_and_the_largest_comes_first() -> None:
    masks, joints, whole = [], [], Canvas((900, 640))
    for x, y, scale in ((180.0, 180.0, 0.75), (520.0, 50.0, 1.05)):
        alone = Canvas((900, 640))
        draw_man(alone, x, y, scale)
        joints.append(draw_man(whole, x, y, scale, (170, 40, 40)))
        masks.append(alone.arrays()[1])
    people = find_people(photo_from_array(whole.arrays()[0])).people
    assert len(people) == 2
    for person, mask, places in zip(people, masks[::-1], joints[::-1], strict=True):
        assert ((person.mask > 0.5) & mask).sum() / ((person.mask > 0.5) | mask).sum() > 0.9
        assert np.linalg.norm(names(person)["nose"][:2] - places["nose"]) < 20
    assert not ((people[0].mask > 0.5) & (people[1].mask > 0.5)).any()


def test_nobody_is_found_where_nobody_is() -> None:
    grey = np.full((300, 400, 3), 140, np.uint8)
    assert find_people(photo_from_array(grey)).people == []


def test_a_second_look_from_the_landmarks_stays_on_the_person() -> None:
    pyramid = Pyramid(man()[0])
    first = find_landmarks(pyramid, detect(pyramid, 0.5).boxes)
    second = find_landmarks(pyramid, first.next)
    assert float((first.points - second.points).norm(dim=-1)[first.visibility > 0.5].mean()) < 8
    assert len(first + second) == 2 and len((first + second)[:1]) == 1


def halves(first: slice, second: slice) -> DetectedLandmarks:
    """Two people in one square of 64 pixels, outlined by columns; their landmarks are far apart."""
    outlines = torch.zeros(2, 1, 64, 64)
    outlines[0, :, 8:56, first], outlines[1, :, 8:56, second] = 1, 1
    points = torch.zeros(2, 33, 2)
    points[0, :, 0], points[1, :, 0], points[:, :, 1] = 10, 50, 32
    boxes = Boxes.upright(torch.tensor([[0.0, 0.0, 64.0, 64.0]] * 2))
    return DetectedLandmarks(
        points, torch.ones(2, 33), torch.tensor([0.9, 0.99]), boxes, outlines, boxes, torch.zeros(2, 33, 3)
    )


def test_a_part_taken_for_a_whole_person_is_dropped() -> None:
    """The part is smaller, however sure of it the detector was."""
    small = Boxes(torch.full((2, 2), 32.0), torch.tensor([[64.0, 64.0], [40.0, 40.0]]), torch.zeros(2))
    within, beside = halves(slice(5, 60), slice(30, 40)), halves(slice(5, 35), slice(40, 58))
    assert _distinct(replace(within, boxes=small), (64, 64)).tolist() == [0]
    assert _distinct(replace(within, boxes=small)[torch.tensor([1, 0])], (64, 64)).tolist() == [1]
    assert _distinct(replace(beside, boxes=small), (64, 64)).tolist() == [0, 1]


def test_duplicates_are_judged_by_keypoints() -> None:
    """Neighbours stay two, even where their outlines are one; the same man with his sides swapped is one."""
    same = halves(slice(5, 60), slice(5, 60))
    assert _distinct(same, (64, 64)).tolist() == [0, 1]
    close = halves(slice(5, 30), slice(35, 58))
    close.points[1, :, 0] = 12
    assert _distinct(close, (64, 64)).tolist() == [0]
    swapped = halves(slice(5, 30), slice(5, 30))
    swapped.points[0] = torch.rand(33, 2, generator=torch.Generator().manual_seed(0)) * 64
    swapped.points[1] = swapped.points[0, MIRRORED]
    assert _distinct(swapped, (64, 64)).tolist() == [0]
    hidden = replace(close, points=close.points.clone(), visibility=close.visibility.clone())
    hidden.points[1, 11:, 0], hidden.visibility[1, 11:] = 60, 0  # guesses do not count
    assert _distinct(hidden, (64, 64)).tolist() == [0]


def test_what_is_another_persons_is_not_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The selfie segmentation sees both as one."""
    monkeypatch.setattr(segment_module, "selfie_mask", lambda pyramid, boxes, device: torch.ones(len(boxes), 2, 64, 64))
    pyramid = Pyramid(np.full((64, 64, 3), 90, np.uint8))
    marks = halves(slice(5, 32), slice(32, 58))
    first, second = (segment_module.segment(pyramid, marks, i) for i in (0, 1))
    assert first[30, 20] == 1 and first[30, 36] == 0 and second[30, 28] == 0 and second[30, 45] == 1


@pytest.mark.real
@pytest.mark.parametrize("name", ["standing.png", "standing2.png", "apose_front.png", "wild1.png", "wild2.jpg"])
def test_keypoints_lie_on_real_people(name: str) -> None:
    person = find_people(read_photo(real_path(f"images/{name}"))).people[0]
    seen = person.keypoints[person.keypoints[:, 2] > 0.8]
    assert person.score > 0.9 and len(seen) >= 15
    rows, columns = (seen[:, i].astype(int).clip(0, person.mask.shape[1 - i] - 1) for i in (1, 0))
    assert (person.mask[rows, columns] > 0.5).mean() > 0.85
