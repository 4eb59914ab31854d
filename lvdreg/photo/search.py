"""Look again, closer, where a photo shows people whom the first look does not explain.

The detector looks at the whole photo and finds faces: who stands beside somebody, turns away, is small or cut off by
the photo's end is easily left. The selfie segmentation finds all of every person, but does not tell people apart. So
whatever it shows that is in nobody's outline is looked at from close by, until nothing is left or nothing new is found.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from lvdreg.photo.detector import detect_in
from lvdreg.photo.keypoints import DetectedLandmarks, find_landmarks
from lvdreg.photo.segment import crops_around, person_bounds, selfie_mask
from lvdreg.photo.warp import Boxes, Pyramid, joined_boxes, lay_back

GRID = 192
"""Outlines are compared in a picture of the whole photo with so many pixels a side."""
GROWN = 4
"""Pixels of it by which outlines are widened before what is left counts: networks disagree about rims."""
LEAST_PIECE = 0.004
"""Of the photo: smaller leftovers are noise."""
LEAST_BESIDE = 0.15
"""Of the largest outline: smaller leftovers that touch a person are his or her coat, bag or lost limb."""
CLOSER = 1.5
"""The closer look, over the longer side of what is left."""
MIN_DETECTION, MIN_PRESENCE = 0.2, 0.5
NEW, AGREED, COVERED = 0.6, 0.7, 0.3
"""Shares of a new person's outline that are in nobody else's and that the selfie segmentation confirms, and of the
leftover that it explains. Chosen on the four photos of groups and mirrors in the data folder's images/people."""
OWN = 0.2
"""Share of it that the segmentation of the person's own surroundings confirms, at least."""
MOST_LOOKS = 6
PROMISING = 2
"""So many candidates are looked at twice."""
GUESSES = ((0.5, 1.25), (1.0, 2.5), (1.8, 5.0))
"""Where the hips may be in a leftover, as a share of its height from the top, and how large the whole body's square is
over its longer side: a whole body, one to the hips, head and shoulders."""


@dataclass(frozen=True)
class Leftover:
    """A piece of the photo that shows people and is in nobody's outline.

    Attributes:
        cells: (GRID, GRID) which cells of the grid.
        bounds: left, top, right, bottom in pixels of the photo.
    """

    cells: Bool[Tensor, "G G"]
    bounds: tuple[float, float, float, float]

    @property
    def side(self) -> float:
        """The longer side, pixels."""
        left, top, right, bottom = self.bounds
        return max(right - left, bottom - top)

    def squares(self) -> Boxes:
        """Upright squares in which a whole person may be of whom the piece shows something."""
        left, top, right, bottom = self.bounds
        rows = [(top + share * (bottom - top), size * self.side) for share, size in GUESSES]
        middle = (left + right) / 2
        corners = [[middle - s / 2, y - s / 2, middle + s / 2, y + s / 2] for y, s in rows]
        return Boxes.upright(torch.tensor(corners, device=self.cells.device))

    def closer(self) -> Boxes:
        """The upright square around it that is looked at."""
        left, top, right, bottom = self.bounds
        x, y, half = (left + right) / 2, (top + bottom) / 2, CLOSER * self.side / 2
        return Boxes.upright(torch.tensor([[x - half, y - half, x + half, y + half]], device=self.cells.device))


def outlines(marks: DetectedLandmarks, size: tuple[int, int]) -> Bool[Tensor, "B G G"]:
    """Everybody's outline as the landmarks' network sees it, laid over the whole photo of (W, H) pixels."""
    return lay_back(marks.segmentation, marks.boxes, whole_photo(size, marks.presence.device), (GRID, GRID))[:, 0] > 0.5


def share_in(outline: Bool[Tensor, "B G G"], where: Bool[Tensor, "G G"]) -> Float[Tensor, " B"]:
    """Return the share of each outline that lies in some cells."""
    return (outline & where).sum((1, 2)) / outline.sum((1, 2)).clamp(min=1)


def whole_photo(size: tuple[int, int], device: torch.device | str) -> Boxes:
    """Return the box of a whole photo of (W, H) pixels."""
    return Boxes.upright(torch.tensor([[0, 0, *size]], device=device).float())


def shown_in(pyramid: Pyramid, box: Boxes, device: str) -> Float[Tensor, "G G"]:
    """How much each cell shows anybody, as seen in a box; one of the two answers, plain and mirrored, suffices."""
    seen = selfie_mask(pyramid, box, device).amax(1, keepdim=True)
    return lay_back(seen, box, whole_photo(pyramid.size, device), (GRID, GRID))[0, 0]


def leftovers(
    shown: Bool[np.ndarray, "G G"], outline: Bool[np.ndarray, "B G G"], size: tuple[int, int]
) -> list[Leftover]:
    """Find what shows people and is in nobody's outline, the largest first.

    Args:
        shown: Which cells show anybody.
        outline: Everybody's outline.
        size: (W, H) of the photo in pixels.
    """
    taken = outline.any(0)
    grown = ndimage.binary_dilation(taken, iterations=GROWN)
    pieces, count = ndimage.label(shown & ~grown)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    largest = max((int(one.sum()) for one in outline), default=0)
    beside = np.unique(pieces[ndimage.binary_dilation(grown) & (pieces > 0)])
    found = []
    for index in np.argsort(-areas[1:], kind="stable") + 1:
        least = max(LEAST_PIECE * shown.size, LEAST_BESIDE * largest if index in beside else 0.0)
        if areas[index] < least:
            continue
        cells = pieces == index
        rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
        scale = np.array(size * 2) / GRID
        bounds = scale * [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        found.append(Leftover(torch.from_numpy(cells), tuple(bounds.tolist())))
    return found


def search(
    pyramid: Pyramid, marks: DetectedLandmarks, device: str = "cpu"
) -> tuple[DetectedLandmarks, Bool[Tensor, "G G"]]:
    """Look for whom the first look left.

    Args:
        pyramid: The photo.
        marks: Who was found, each once.
        device: Where the networks run.

    Returns:
        Everybody found so far, then who else is there; and which cells of the grid show somebody from close by, too,
        who was not found.
    """
    shown = shown_in(pyramid, whole_photo(pyramid.size, device), device)
    looked = torch.zeros_like(shown, dtype=torch.bool)
    sure = torch.zeros_like(looked)
    for _ in range(MOST_LOOKS):
        unseen, taken = (shown > 0.5) & ~looked, outlines(marks, pyramid.size)
        left = leftovers(unseen.cpu().numpy(), taken.cpu().numpy(), pyramid.size)
        if not left:
            break
        piece = left[0]
        closer = shown_in(pyramid, piece.closer(), device)
        shown = torch.maximum(shown, closer)
        found = look_closer(pyramid, marks, piece, shown > 0.5, device)
        if len(found):
            marks = marks + found
        else:
            cells = piece.cells.to(looked.device)
            looked |= cells
            sure |= cells & (closer > 0.5)
    return marks, sure


def look_closer(
    pyramid: Pyramid, marks: DetectedLandmarks, piece: Leftover, shown: Bool[Tensor, "G G"], device: str
) -> DetectedLandmarks:
    """Look for one more person in a leftover: the best of those whom detector and guesses suggest, or nobody."""
    detected = detect_in(pyramid, piece.closer(), MIN_DETECTION, device).boxes
    guesses = piece.squares()
    boxes = joined_boxes([detected, guesses])
    taken, cells = outlines(marks, pyramid.size).any(0), piece.cells.to(shown.device)
    first = find_landmarks(pyramid, boxes, device)
    promising = explains(first, taken, cells, shown, pyramid.size, 0.0).argsort(descending=True)[:PROMISING]
    both = first + find_landmarks(pyramid, first.next[promising], device)
    worth = explains(both, taken, cells, shown, pyramid.size)
    best = int(worth.argmax())
    if float(worth[best]) == 0:
        return both[:0]
    one = both[best : best + 1]
    # The segmentation of a large piece may take surroundings for people: it has to say so from close by, too.
    own = shown_in(pyramid, crops_around(person_bounds(one, pyramid.size)[0], CLOSER), device) > 0.5
    return one if float(share_in(outlines(one, pyramid.size), own)) >= OWN else both[:0]


def explains(
    marks: DetectedLandmarks,
    taken: Bool[Tensor, "G G"],
    piece: Bool[Tensor, "G G"],
    shown: Bool[Tensor, "G G"],
    size: tuple[int, int],
    least: float = MIN_PRESENCE,
) -> Float[Tensor, " B"]:
    """How well each candidate explains a leftover: 0 for those that are nobody, or somebody who was found before.

    Args:
        marks: The candidates.
        taken: What is in others' outlines.
        piece: The leftover.
        shown: What shows anybody.
        size: (W, H) of the photo in pixels.
        least: Presence below which a candidate is nobody.
    """
    outline = outlines(marks, size)
    new, agreed = (share_in(outline, where) for where in (~taken, shown))
    covered = (outline & piece).sum((1, 2)) / piece.sum().clamp(min=1)
    good = (marks.presence >= least) & (new >= NEW) & (agreed >= AGREED) & (covered >= COVERED)
    return torch.where(good, marks.presence * new * agreed * covered, 0.0)
