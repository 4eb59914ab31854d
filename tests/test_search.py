"""Who is left after the first look: leftovers, how candidates explain them, and masks that share nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import Canvas, draw_man
from scipy import ndimage

from lvdreg.photo.keypoints import KEYPOINTS, DetectedLandmarks
from lvdreg.photo.model import photo_from_array
from lvdreg.photo.people import DetectedPerson, apart, find_people, missed_places
from lvdreg.photo.search import GRID, GROWN, LEAST_BESIDE, LEAST_PIECE, explains, leftovers
from lvdreg.photo.segment import head_and_shoulders
from lvdreg.photo.warp import Boxes

SIZE = (384, 96)


def marks_of(*columns: tuple[int, int], presence: float = 0.9) -> DetectedLandmarks:
    """People who stand in these columns of a photo of 192 x 192 pixels, from row 40 to 150."""
    outlines = torch.zeros(len(columns), 1, GRID, GRID)
    for outline, (left, right) in zip(outlines, columns, strict=True):
        outline[0, 40:150, left:right] = 1
    boxes = Boxes.upright(torch.tensor([[0.0, 0.0, GRID, GRID]]).repeat(len(columns), 1))
    nothing = torch.zeros(len(columns), len(KEYPOINTS))
    points = torch.zeros(len(columns), len(KEYPOINTS), 2)
    return DetectedLandmarks(
        points, nothing, torch.full((len(columns),), presence), boxes, outlines, boxes, torch.zeros(len(columns), 33, 3)
    )


@pytest.mark.parametrize("seed", range(4))
def test_leftovers_are_what_nobody_explains(seed: int) -> None:
    """Against a slow search: each is a piece of what is shown and in nobody's outline, and no large one is left out."""
    rng = np.random.default_rng(seed)
    shown = ndimage.gaussian_filter(rng.normal(size=(GRID, GRID)), 9) > 0.01
    outline = np.stack([ndimage.gaussian_filter(rng.normal(size=(GRID, GRID)), 14) > 0.03 for _ in range(2)])
    found = leftovers(shown, outline, SIZE)
    taken = ndimage.binary_dilation(outline.any(0), iterations=GROWN)
    pieces, count = ndimage.label(shown & ~taken)
    expected = []
    for index in range(1, count + 1):
        cells = pieces == index
        touches = any(
            taken[max(r - 1, 0) : r + 2, c].any() or taken[r, max(c - 1, 0) : c + 2].any()
            for r, c in np.argwhere(cells)
        )
        least = LEAST_BESIDE * outline.sum((1, 2)).max() if touches else 0
        if cells.sum() >= max(least, LEAST_PIECE * GRID**2):
            expected.append(int(cells.sum()))
    assert [int(piece.cells.sum()) for piece in found] == sorted(expected, reverse=True)
    for piece in found:
        rows, columns = np.nonzero(piece.cells.numpy())
        left, top, right, bottom = piece.bounds
        assert (left, right) == (2 * columns.min(), 2 * columns.max() + 2)
        assert (top, bottom) == (rows.min() / 2, (rows.max() + 1) / 2)


def test_who_explains_a_leftover() -> None:
    """Best the one who fills it; nobody who was found before, is half in others, or of whom a network is unsure."""
    left = marks_of((80, 110)).segmentation[0, 0].numpy() > 0
    (piece,) = leftovers(left, np.zeros((1, GRID, GRID), bool), (GRID, GRID))
    shown = torch.zeros(GRID, GRID, dtype=torch.bool)
    shown[40:150, 20:110] = True
    taken = torch.zeros(GRID, GRID, dtype=torch.bool)
    taken[40:150, 20:80] = True
    candidates = marks_of((80, 110), (80, 100), (30, 60), (50, 110), (80, 150))
    worth = explains(candidates, taken, piece.cells, shown, (GRID, GRID))
    assert worth[0] > worth[1] > 0 and not worth[2:].any()
    assert not explains(marks_of((80, 110), presence=0.3), taken, piece.cells, shown, (GRID, GRID)).any()


def one(mask: np.ndarray, at: tuple[float, float] | None = None) -> DetectedPerson:
    keypoints = np.zeros((len(KEYPOINTS), 3), np.float32)
    if at is not None:
        keypoints[:] = (*at, 0.9)
    return DetectedPerson(np.zeros(4, np.float32), keypoints, mask.astype(np.float32), 0.9)


@pytest.mark.parametrize("seed", range(4))
def test_no_pixel_is_given_to_two(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.normal(size=(60, 80)), 6) for _ in range(3)]
    masks = [np.clip(30 * values, 0, 1).astype(np.float32) for values in noise]
    found = np.stack([person.mask for person in apart([one(mask) for mask in masks])])
    assert ((found > 0).sum(0) <= 1).all() and (found > 0).any((1, 2)).all()
    # Each keeps what was his alone and no stray piece, and nobody gains anything.
    assert all((mine <= mask).all() for mine, mask in zip(found, masks, strict=True))
    assert np.isin(found.max(0), [0, *np.stack(masks).ravel()]).all()


def test_stray_pieces_go_to_the_neighbour() -> None:
    first, second = np.zeros((50, 50)), np.zeros((50, 50))
    first[:, :20], second[:, 20:45] = 0.9, 0.8
    first[20:25, 30:35] = 1.0
    mine, other = (person.mask for person in apart([one(first), one(second, (40, 5))]))
    assert not mine[:, 20:].any() and (other[20:25, 30:35] == np.float32(0.8)).all()
    # His hand before the neighbour is his.
    mine, other = (person.mask for person in apart([one(first, (32, 22)), one(second, (40, 5))]))
    assert mine[22, 32] == 1 and other[22, 32] == 0


def test_who_was_missed() -> None:
    shown = np.zeros((GRID, GRID), bool)
    shown[40:150, 20:60] = shown[40:150, 100:140] = True
    mask = np.zeros((96, 192), np.float32)
    mask[20:75, 20:60] = 1
    (place,) = missed_places(shown, [one(mask)])
    np.testing.assert_allclose(place, [100, 20, 140, 75], atol=1)
    mask[20:75, 100:140] = 1
    assert missed_places(shown, [one(mask)]).shape == (0, 4)


def test_faces_and_shoulders_that_are_seen_are_kept() -> None:
    marks = marks_of((40, 60))
    at = {
        "nose": (50, 60),
        "left_ear": (56, 60),
        "right_ear": (44, 60),
        "left_shoulder": (70, 90),
        "right_shoulder": (30, 90),
    }
    for name, place in at.items():
        marks.points[0, KEYPOINTS.index(name)] = torch.tensor(place, dtype=torch.float32)
    target = Boxes.upright(torch.tensor([[0.0, 0.0, 100.0, 120.0]]))
    assert not head_and_shoulders(marks, 0, target, (120, 100)).any()
    near = head_and_shoulders(replace(marks, visibility=torch.ones_like(marks.visibility)), 0, target, (120, 100))
    assert near[60, 50] and near[50, 45] and near[88, 32] and near[85, 66] and not near[110, 50] and not near[60, 80]


@pytest.mark.slow
def test_everybody_in_a_row_is_found() -> None:
    """Shoulder to shoulder, each is found once and told apart."""
    canvas, masks = Canvas((620, 400)), []
    for x in (100.0, 240.0, 380.0, 520.0):
        alone = Canvas((620, 400))
        draw_man(alone, x, 30.0, 0.7)
        front = alone.arrays()[1]
        masks = [*(mask & ~front for mask in masks), front]
        draw_man(canvas, x, 30.0, 0.7)
    crowd = find_people(photo_from_array(canvas.arrays()[0]))
    assert len(crowd.people) == 4 and not len(crowd.missed)
    found = np.stack([person.mask > 0.5 for person in sorted(crowd.people, key=lambda person: person.box[0])])
    for mine, mask in zip(found, masks, strict=True):
        assert (mine & mask).sum() / (mine | mask).sum() > 0.85
