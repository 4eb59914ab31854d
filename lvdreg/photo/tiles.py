"""Look for small people in tiles of a photo.

The detector sees the whole photo at 224 pixels a side and leaves most of those who are shorter than a third of it. In
tiles they are large. Tiles also show limbs, shadows and things that look like people: so whom a tile shows counts only
where the landmarks' network is sure and the selfie segmentation, looking from close by, sees the same outline.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from lvdreg.photo.detector import detect_in
from lvdreg.photo.keypoints import DetectedLandmarks, find_landmarks
from lvdreg.photo.search import GRID, outlines, share_in, whole_photo
from lvdreg.photo.segment import agreement, crops_around, person_bounds, selfie_mask
from lvdreg.photo.warp import Boxes, Pyramid, joined_boxes, lay_back

SHARES = (0.5, 0.25)
"""Sides of tiles over the photo's longer side."""
OVERLAP = 1 / 3
"""Least overlap of neighbouring tiles, over their side."""
LEAST_SIDE = 160
"""Pixels: who is small in a smaller tile is too small to be registered."""
MIN_DETECTION, MIN_PRESENCE, MIN_VISIBILITY, AGREED, NEW = 0.3, 0.5, 0.6, 0.5, 0.6
"""Least scores of detector and landmarks' network, mean visibility of keypoints, overlap (intersection over union) of
the two networks' outlines, and share of the outline that is nobody else's."""
WORTH_A_SECOND = (0.3, 0.3)
"""Least presence and share that is nobody else's for a second look."""
MOST_TURNED = 0.8
"""Radians: who is far away stands or sits."""
MOST_SIDE = 0.75
"""Largest square, over the photo's longer side: who is larger is seen in the whole photo, if at all."""
NEAR, ALIKE = 0.15, 1.5
"""Squares are of one person if their middles are as near as this, over the smaller side, and sides differ by no more
than this factor."""
HEAD = (0.5, 0.2)
"""Where the head is in the square around a person, box frame."""
CLOSELY, COMPARED = 1.3, 96
"""How large the closer look is, over the extent of what was found, and pixels a side in which outlines are compared."""
MOST_CANDIDATES = 12


def tiles(size: tuple[int, int], share: float, device: torch.device | str = "cpu") -> Boxes:
    """Return overlapping squares that cover a photo of (W, H) pixels, each of a share of its longer side."""
    side = share * max(size)
    columns, rows = (_middles(extent, side) for extent in size)
    centre = torch.tensor([[x, y] for y in rows for x in columns], device=device)
    return Boxes(centre, torch.full_like(centre, side), torch.zeros_like(centre[:, 0]))


def _middles(extent: float, side: float) -> list[float]:
    """Return the middles of tiles along one side of the photo, evenly from end to end."""
    if extent <= side:
        return [extent / 2]
    count = 1 + math.ceil((extent - side) / ((1 - OVERLAP) * side) - 1e-9)
    return [side / 2 + i * (extent - side) / (count - 1) for i in range(count)]


def look_in_tiles(pyramid: Pyramid, marks: DetectedLandmarks, device: str = "cpu") -> DetectedLandmarks:
    """Find whom tiles show beside those that were found before.

    Args:
        pyramid: The photo.
        marks: Who was found in the whole of it, each once.
        device: Where the networks run.

    Returns:
        Who was found before, and whom tiles show. Of whom the two networks saw different outlines before gives way to
        whom tiles show in the same place.
    """
    shares = [share for share in SHARES if share * max(pyramid.size) >= LEAST_SIDE]
    if not shares:
        return marks
    squares = joined_boxes([tiles(pyramid.size, share, device) for share in shares])
    found = detect_in(pyramid, squares, MIN_DETECTION, device).boxes
    is_sure = torch.tensor([is_confirmed(pyramid, one, device) for one in each(marks)], dtype=torch.bool, device=device)
    sure, unsure = marks[is_sure], marks[~is_sure]
    taken = outlines(sure, pyramid.size).any(0)
    found = found[unlike(found, sure.boxes)]
    found = found[~is_within(found, taken, whole_photo(pyramid.size, device))][:MOST_CANDIDATES]
    first = find_landmarks(pyramid, found, device)
    presence, new = WORTH_A_SECOND
    first = first[(first.presence >= presence) & (share_in(outlines(first, pyramid.size), ~taken) >= new)]
    both = first + find_landmarks(pyramid, first.next, device)
    people = sure + beside(pyramid, sure, both[is_somebody(both, pyramid.size)], device)
    is_new = share_in(outlines(unsure, pyramid.size), ~outlines(people, pyramid.size).any(0)) >= NEW
    return people + unsure[is_new]


def is_somebody(marks: DetectedLandmarks, size: tuple[int, int]) -> Bool[Tensor, " B"]:
    """Return who is surely seen, upright, and small in a photo of (W, H) pixels."""
    is_seen = (marks.presence >= MIN_PRESENCE) & (marks.visibility.mean(1) >= MIN_VISIBILITY)
    is_small = marks.boxes.size[:, 0] <= MOST_SIDE * max(size)
    return is_seen & is_small & (marks.boxes.angle.abs() <= MOST_TURNED)


def unlike(boxes: Boxes, known: Boxes) -> Bool[Tensor, " B"]:
    """Return which squares are neither like known ones nor like those before them."""
    all_boxes = joined_boxes([known, boxes])
    centre, side = all_boxes.centre, all_boxes.size[:, 0]
    apart = torch.cdist(centre, centre) / torch.minimum(side[:, None], side)
    alike = ((apart < NEAR) & ((side[:, None] / side).log().abs() < math.log(ALIKE))).tolist()
    kept = list(range(len(known)))
    for i in range(len(known), len(side)):
        if not any(alike[i][j] for j in kept):
            kept.append(i)
    return torch.tensor([i in kept for i in range(len(known), len(side))], dtype=torch.bool, device=side.device)


def is_within(boxes: Boxes, taken: Bool[Tensor, "G G"], whole: Boxes) -> Bool[Tensor, " B"]:
    """Return whether both head and hips of whoever is in a square lie in others' outlines."""
    places = boxes.to_photo(torch.tensor([HEAD, (0.5, 0.5)], device=taken.device).expand(len(boxes), -1, -1))
    cells = (whole.to_box(places.reshape(1, -1, 2)) * GRID).long().clamp(0, GRID - 1).reshape(-1, 2, 2)
    return taken[cells[..., 1], cells[..., 0]].all(1)


def each(marks: DetectedLandmarks) -> list[DetectedLandmarks]:
    """Return batches of one."""
    return [marks[i : i + 1] for i in range(len(marks))]


def beside(
    pyramid: Pyramid, marks: DetectedLandmarks, candidates: DetectedLandmarks, device: str = "cpu"
) -> DetectedLandmarks:
    """Choose candidates whom both networks see, and who are none of the others, the surest first."""
    taken, outline = outlines(marks, pyramid.size).any(0), outlines(candidates, pyramid.size)
    views = [Closely.around(pyramid, one, device) for one in each(candidates)]
    kept: list[int] = []
    while True:
        agreed = torch.tensor([view.agreed(taken) for view in views], device=taken.device)
        good = (agreed >= AGREED) & (share_in(outline, ~taken) >= NEW)
        good[kept] = False
        if not bool(good.any()):
            return candidates[torch.tensor(kept, dtype=torch.long, device=taken.device)]
        kept.append(int(torch.where(good, candidates.presence * agreed, 0.0).argmax()))
        taken = taken | outline[kept[-1]]


def is_confirmed(pyramid: Pyramid, one: DetectedLandmarks, device: str = "cpu") -> bool:
    """Return whether both networks see the same outline, from close by or in the whole photo."""
    nobody = torch.zeros(GRID, GRID, dtype=torch.bool, device=one.presence.device)
    boxes = crops_around(person_bounds(one, pyramid.size)[0], CLOSELY), whole_photo(pyramid.size, device)
    return any(Closely.of(pyramid, one, box, device).agreed(nobody) >= AGREED for box in boxes)


@dataclass(frozen=True)
class Closely:
    """Somebody's outline as both networks see it, in a box of the photo.

    Attributes:
        pose: As the landmarks' network has it.
        selfie: As the selfie segmentation has it: that of everybody.
        box: The box.
        whole: That of the whole photo.
    """

    pose: Bool[Tensor, "h w"]
    selfie: Bool[Tensor, "h w"]
    box: Boxes
    whole: Boxes

    @classmethod
    def around(cls, pyramid: Pyramid, one: DetectedLandmarks, device: str) -> "Closely":
        """Look at somebody from close by."""
        return cls.of(pyramid, one, crops_around(person_bounds(one, pyramid.size)[0], CLOSELY), device)

    @classmethod
    def of(cls, pyramid: Pyramid, one: DetectedLandmarks, box: Boxes, device: str) -> "Closely":
        """Look at somebody in a box."""
        size = (COMPARED, COMPARED)
        pose = lay_back(one.segmentation, one.boxes, box, size)[0, 0] > 0.5
        selfie = lay_back(selfie_mask(pyramid, box, device), box, box, size)[0].mean(0) > 0.5
        return cls(pose, selfie, box, whole_photo(pyramid.size, device))

    def agreed(self, taken: Bool[Tensor, "G G"]) -> float:
        """Return intersection over union of both, without what others have taken."""
        others = lay_back(taken[None, None].float(), self.whole, self.box, self.pose.shape)[0, 0] > 0.5
        return agreement(self.pose, self.selfie & (self.pose | ~others))
