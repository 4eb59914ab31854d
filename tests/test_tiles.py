"""Small people: tiles, who of those that they show counts, and who is left where there are too many."""

import numpy as np
import pytest
import torch
from drawn import Canvas, draw_man
from test_search import marks_of
from torch import Tensor

import lvdreg.photo.people as people_module
import lvdreg.photo.tiles as tiles_module
from lvdreg.photo.keypoints import DetectedLandmarks
from lvdreg.photo.model import photo_from_array
from lvdreg.photo.people import MOST_PEOPLE, _distinct, find_people
from lvdreg.photo.search import GRID, whole_photo
from lvdreg.photo.tiles import LEAST_SIDE, OVERLAP, beside, is_somebody, is_within, look_in_tiles, tiles, unlike
from lvdreg.photo.warp import Boxes, Pyramid, lay_back

WHOLE = (GRID, GRID)


@pytest.mark.parametrize("size", [(1280, 960), (480, 640), (1000, 100), (300, 300)])
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_tiles_cover_the_photo_and_overlap(size: tuple[int, int], share: float) -> None:
    squares = tiles(size, share)
    side = share * max(size)
    assert torch.equal(squares.size, torch.full((len(squares), 2), side)) and not squares.angle.any()
    for axis, extent in enumerate(size):
        middles = squares.centre[:, axis].unique()
        assert len(middles) == 1 or float(middles.diff().max()) <= (1 - OVERLAP) * side + 1e-3
        assert float(middles[0]) <= side / 2 + 1e-3 and float(middles[-1]) >= extent - side / 2 - 1e-3
    rows, columns = (len(squares.centre[:, axis].unique()) for axis in (1, 0))
    assert len(squares) == rows * columns


def test_squares_of_one_person_are_looked_at_once() -> None:
    rows = [[0.0, 0, 100, 100], [5, 5, 105, 105], [200, 0, 300, 100], [0, 0, 99, 101], [-60, -60, 160, 160]]
    boxes = Boxes.upright(torch.tensor(rows))
    assert unlike(boxes, boxes[:0]).tolist() == [True, False, True, False, True]
    assert unlike(boxes[2:], boxes[:1]).tolist() == [True, False, True]
    assert unlike(boxes[:0], boxes).tolist() == []


def test_who_lies_in_another_outline_with_head_and_hips() -> None:
    taken = torch.zeros(GRID, GRID, dtype=torch.bool)
    taken[GRID // 2 :] = True  # the lower half of a photo of 400 x 100 pixels
    boxes = Boxes.upright(torch.tensor([[40.0, 60, 80, 100], [40, 30, 80, 70], [40, 0, 80, 40]]))
    assert is_within(boxes, taken, whole_photo((400, 100), "cpu")).tolist() == [True, False, False]


def people_shown(monkeypatch: pytest.MonkeyPatch, *columns: tuple[int, int]) -> Pyramid:
    """Let the selfie segmentation of a photo show people who stand in these columns."""
    truth = marks_of(*columns).segmentation.amax(0, keepdim=True)

    def selfie(pyramid: Pyramid, boxes: Boxes, device: str) -> Tensor:
        return lay_back(truth, whole_photo(WHOLE, device), boxes, (64, 64)).expand(-1, 2, -1, -1)

    monkeypatch.setattr(tiles_module, "selfie_mask", selfie)
    return Pyramid(np.zeros((*WHOLE, 3), np.uint8))


def columns_of(marks: DetectedLandmarks) -> list[tuple[int, int]]:
    """Where people stand, as ``marks_of`` has it."""
    seen = [torch.where(one[0].any(0))[0] for one in marks.segmentation]
    return [(int(at[0]), int(at[-1]) + 1) for at in seen]


def test_whom_both_networks_see_and_nobody_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid = people_shown(monkeypatch, (20, 60), (100, 130), (150, 160))
    # The same person as before, somebody, the same a little worse, somebody whom the segmentation does not see.
    candidates = marks_of((25, 62), (104, 134), (100, 130), (160, 185))
    assert columns_of(beside(pyramid, marks_of((20, 60)), candidates)) == [(100, 130)]
    assert columns_of(beside(pyramid, marks_of((20, 60))[:0], candidates)) == [(100, 130), (25, 62)]
    assert not len(beside(pyramid, marks_of((20, 60)), candidates[:0]))


def test_neighbours_who_were_found_do_not_count_against_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from close by there are two; less the one who was found before it is the candidate alone."""
    pyramid = people_shown(monkeypatch, (60, 85), (85, 100), (100, 125))
    assert not len(beside(pyramid, marks_of((20, 30)), marks_of((85, 100))))
    neighbours = marks_of((60, 85), (100, 125))
    assert columns_of(beside(pyramid, neighbours, marks_of((85, 100)))) == [(85, 100)]


def test_somebody_is_seen_upright_and_small() -> None:
    assert not is_somebody(marks_of((20, 60)), WHOLE).any()
    seen = marks_of((20, 60), (80, 90), (100, 120))
    seen.visibility[:] = 0.9
    assert is_somebody(seen, (600, 400)).all()
    seen.visibility[0], seen.presence[1], seen.boxes.angle[2] = 0.5, 0.4, 1.5
    assert not is_somebody(seen, (600, 400)).any()


def test_tiles_of_small_photos_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(tiles_module, "detect_in", never)
    small = Pyramid(np.zeros((50, int(LEAST_SIDE), 3), np.uint8))
    known = marks_of((20, 60))
    assert look_in_tiles(small, known) is known


def test_who_was_also_taken_the_wrong_way_up_is_one_person() -> None:
    twice = marks_of((20, 60), (22, 60), (100, 140))
    twice.points[1, :, 1], twice.points[2, :, 0] = 190.0, 120.0
    assert _distinct(twice, WHOLE).tolist() == [0, 1, 2]
    twice.boxes.angle[1:] = np.pi
    twice.segmentation[1:] = twice.segmentation[1:].flip(2, 3)
    assert _distinct(twice, WHOLE).tolist() == [0, 2]


def test_of_too_many_people_the_smallest_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = marks_of(*((20 * i, 20 * i + 10) for i in range(MOST_PEOPLE + 1)))
    marks.boxes.size[2] -= 1
    nobody = torch.zeros(GRID, GRID, dtype=torch.bool)
    monkeypatch.setattr(people_module, "find_poses", lambda *_: (marks, nobody))
    monkeypatch.setattr(people_module, "segment", lambda _, m, i, __: m.segmentation[i, 0].numpy())
    photo = photo_from_array(np.zeros((*WHOLE, 3), np.uint8))
    crowd = find_people(photo)
    assert len(crowd.people) == MOST_PEOPLE and crowd.missed.shape == (1, 4)
    assert abs(crowd.missed[0, [0, 2]] - [40, 50]).max() < 2
    # Where landmarks are, but no mask, nobody is.
    monkeypatch.setattr(people_module, "segment", lambda *_: np.zeros(WHOLE, np.float32))
    assert not find_people(photo).people


@pytest.mark.slow
def test_small_people_behind_a_large_one_are_found() -> None:
    canvas, men = Canvas((640, 480)), [(300.0, 20.0, 0.85), (90.0, 200.0, 0.2), (520.0, 210.0, 0.2)]
    masks = []
    for x, y, scale in men:
        alone = Canvas((640, 480))
        draw_man(alone, x, y, scale)
        draw_man(canvas, x, y, scale)
        masks.append(alone.arrays()[1])
    found = find_people(photo_from_array(canvas.arrays()[0])).people
    assert len(found) == 3
    for mask in masks:
        assert max((mask & (one.mask > 0.5)).sum() / (mask | (one.mask > 0.5)).sum() for one in found) > 0.8
