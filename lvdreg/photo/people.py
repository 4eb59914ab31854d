"""Find people in a photo: where they are, 33 keypoints, and a mask of each."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lvdreg.base.provenance import FileHashes
from lvdreg.photo.detector import detect
from lvdreg.photo.graph import person_files
from lvdreg.photo.keypoints import KEYPOINTS, MIRRORED, DetectedLandmarks, find_landmarks
from lvdreg.photo.model import Photo
from lvdreg.photo.search import GRID, leftovers, outlines, search
from lvdreg.photo.segment import SEEN, VISIBLE, agreement, person_bounds, segment, segment_all
from lvdreg.photo.tiles import look_in_tiles
from lvdreg.photo.warp import Boxes, Pyramid

MIN_DETECTION, SURE_DETECTION = 0.2, 0.5
"""Weak detections are tried, too: the landmarks' network decides, and has to be surer of them."""
MIN_PRESENCE, SURE_PRESENCE = 0.5, 0.9
MOST_PEOPLE = 8
SAME_PERSON = 0.1
"""Mean distance of the keypoints that both see, over the smaller square's side, below which two are one person; people
shoulder to shoulder are 0.2 apart."""
SAME_OUTLINE = 0.7
"""Intersection over union of outlines beyond which two who are turned over are one person."""
PART, SHARED = 0.7, 0.5
"""Who is so much smaller than another, and has so much of his outline in the other's, is a part of that person's body
that was taken for a whole one."""
STRAY = 0.2
"""Pieces of a mask that have so much less of it than the largest, and no keypoint, are stray."""
WORSE = 0.05
"""A second look that makes the network this much less sure is not taken."""
MIN_AREA = 0.002
"""Of the photo: smaller masks are nobody."""

BOUNDS_SIDE = 512
"""Bounds of masks are found among so many pixels."""


@dataclass(frozen=True)
class DetectedPerson:
    """One person in a photo.

    Attributes:
        box: (4,) left, top, right, bottom of what is seen, in pixels.
        keypoints: (33, 3) x, y in pixels and visibility 0 to 1; hidden ones are guesses, and may lie outside of the
            photo. Without a pose, all are at the box's centre with visibility 0.
        mask: (H, W) 0 to 1, of the photo's size.
        score: 0 to 1, the network's confidence that this is a person; 0 without a pose.
        keypoint_names: Of the rows of keypoints; left and right are the person's own.
        files: SHA-256 of the files of weights that found the person, and of a given mask, by name.
        world: (33, 3) the keypoints in metres about the hips, along the photo's axes: x right, y up, z towards the
            viewer; None where the networks did not find them.
    """

    box: NDArray[np.float32]
    keypoints: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.float32] = field(repr=False)
    score: float
    keypoint_names: tuple[str, ...] = field(default=KEYPOINTS, repr=False)
    files: FileHashes = field(default_factory=dict, repr=False)
    world: NDArray[np.float32] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Crowd:
    """Everybody in a photo, as far as they were found.

    Attributes:
        people: The most prominent (large and central) first; no pixel is in two masks.
        missed: (M, 4) left, top, right, bottom, pixels, of places that show somebody whom nobody's mask explains, and
            of the smallest people where there are too many.
    """

    people: list[DetectedPerson]
    missed: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))


def find_people(photo: Photo, device: str = "cpu") -> Crowd:
    """Find all people, and where somebody may have been missed.

    Where no pose is found, whatever the segmentation of the whole photo shows is one person without keypoints.

    Args:
        photo: As read.
        device: Where the networks run.

    Returns:
        At most eight people; none if there is nothing like one.

    Raises:
        CheckpointError: the networks are missing or damaged.
    """
    pyramid = Pyramid(photo.rgb, device)
    with torch.inference_mode():
        marks, shown = find_poses(pyramid, device)
        if not len(marks):
            return Crowd(_without_pose(pyramid, device))
        by_size = marks.boxes.size[:, 0].argsort(descending=True, stable=True)
        chosen, others = marks[by_size[:MOST_PEOPLE]], marks[by_size[MOST_PEOPLE:]]
        people = apart([_person(pyramid, chosen, i, device) for i in range(len(chosen))])
    people = sorted((p for p in people if p.mask.mean() > 0), key=_prominence, reverse=True)
    if not people:
        return Crowd([])
    missed = [missed_places(shown.cpu().numpy(), people)]
    if len(others):
        missed.append(person_bounds(others, pyramid.size).cpu().numpy())
    return Crowd(people, np.concatenate(missed))


def find_poses(pyramid: Pyramid, device: str = "cpu") -> tuple[DetectedLandmarks, Tensor]:
    """Find everybody's landmarks: detect, look, look again from where they say the person is; then look for others,
    who are small, and for whom what has been found does not explain.

    Returns:
        The landmarks, and which cells of a grid over the photo show somebody else (``photo.search``).
    """
    found = detect(pyramid, MIN_DETECTION, device)
    least = torch.where(found.scores >= SURE_DETECTION, MIN_PRESENCE, SURE_PRESENCE)
    marks = _look_twice(pyramid, found.boxes[:MOST_PEOPLE], least[:MOST_PEOPLE], device)
    marks = look_in_tiles(pyramid, marks[_distinct(marks, pyramid.size)], device)
    if not len(marks):
        guess = _guess(pyramid, device)
        marks = _look_twice(pyramid, guess, torch.full((len(guess),), SURE_PRESENCE, device=device), device)
    marks, shown = search(pyramid, marks[_distinct(marks, pyramid.size)], device)
    return marks[_distinct(marks, pyramid.size)], shown


def apart(people: list[DetectedPerson]) -> list[DetectedPerson]:
    """Give each pixel to one person: whose mask is strongest there, and of stray pieces whom they lie beside.

    A piece is stray if it is far smaller than the largest and holds none of the person's visible keypoints.
    """
    if len(people) == 1:
        return people
    masks = np.stack([person.mask for person in people])
    stray = np.stack([_stray(np.where(masks.argmax(0) == i, mask, 0), people[i]) for i, mask in enumerate(masks)])
    masks = np.where(stray, 0, masks)
    owner = masks.argmax(0)
    own = [np.where(owner == i, mask, np.float32(0)) for i, mask in enumerate(masks)]
    boxes = (mask_bounds(mask) for mask in own)
    found = zip(people, own, boxes, strict=True)
    return [replace(one, mask=mask, box=one.box if box is None else box) for one, mask, box in found]


def _stray(mask: NDArray[np.float32], person: DetectedPerson) -> NDArray[np.bool_]:
    """Which pixels are in pieces of a mask that are another's."""
    pieces, count = ndimage.label(mask > 0)
    areas = np.bincount(pieces.ravel(), weights=mask.ravel(), minlength=count + 1)
    areas[0] = 0
    height, width = mask.shape
    columns, rows, visible = person.keypoints.T
    inside = (visible > SEEN) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    held = pieces[rows[inside].astype(int), columns[inside].astype(int)]
    is_stray = areas < STRAY * areas.max()
    is_stray[held] = False
    is_stray[0] = False
    return np.asarray(is_stray[pieces])


def missed_places(shown: NDArray[np.bool_], people: list[DetectedPerson]) -> NDArray[np.float32]:
    """Left, top, right, bottom (M, 4) in pixels of what shows somebody and is in nobody's mask.

    Args:
        shown: Which cells of the grid over the photo show somebody who was not found.
        people: With masks of the photo's size.
    """
    height, width = people[0].mask.shape
    rows, columns = (((np.arange(GRID) + 0.5) * n / GRID).astype(int) for n in (height, width))
    masks = np.stack([person.mask[rows[:, None], columns] > 0.5 for person in people])
    places = [piece.bounds for piece in leftovers(shown, masks, (width, height))]
    return np.array(places, np.float32).reshape(-1, 4)


def _look_twice(pyramid: Pyramid, boxes: Boxes, least: Float[Tensor, " B"], device: str) -> DetectedLandmarks:
    """Find landmarks, then once more in the squares that they suggest; those below the least presence are dropped."""
    first = find_landmarks(pyramid, boxes, device)
    first = first[first.presence >= least]
    first = first[_distinct(first, pyramid.size)]
    second = find_landmarks(pyramid, first.next, device)
    better = second.presence >= first.presence - WORSE
    rows = torch.arange(len(first), device=better.device)
    return (first + second)[torch.where(better, rows + len(first), rows)]


def _guess(pyramid: Pyramid, device: str) -> Boxes:
    """Upright squares to try where the detector finds nobody: whole bodies, and half ones, around the whole-photo mask.

    The landmarks' network wants the hips in the middle; of a half body they are at the mask's lower rim.
    """
    bounds = mask_bounds(segment_all(pyramid, None, device))
    if bounds is None:
        return Boxes.upright(torch.zeros(0, 4, device=device))
    left, top, right, bottom = bounds.tolist()
    side = max(bottom - top, right - left)
    middle, hips = (left + right) / 2, (top + bottom) / 2
    squares = [(middle, hips, 1.25 * side), (middle, bottom, 2.5 * side)]
    rows = [[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for x, y, s in squares]
    return Boxes.upright(torch.tensor(rows, device=device))


def mask_bounds(mask: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Left, top, right, bottom of the largest piece of a mask, or None if there is none of some size."""
    step = max(1, max(mask.shape) // BOUNDS_SIDE)
    pieces, count = ndimage.label(mask[::step, ::step] > 0.5)
    if not count:
        return None
    areas = np.bincount(pieces.ravel())[1:]
    if areas.max() < MIN_AREA * pieces.size:
        return None
    rows, columns = ndimage.find_objects(pieces)[int(areas.argmax())]
    bounds = step * np.array([columns.start, rows.start, columns.stop, rows.stop], dtype=np.float32)
    return np.minimum(bounds, np.array(mask.shape[::-1] * 2, dtype=np.float32))


def _distinct(marks: DetectedLandmarks, size: tuple[int, int]) -> Tensor:
    """Indices of landmarks that are not of the same person as those before them, nor a part of another's body."""
    inside = outlines(marks, size)
    kept: list[int] = []
    for i in range(len(marks)):
        if not any(_same(marks, i, j) or _is_turned_over(marks, inside, i, j) for j in kept):
            kept.append(i)
    whole = [i for i in kept if not any(_is_part(marks, inside, i, j) for j in kept)]
    return torch.tensor(whole, dtype=torch.long, device=marks.presence.device)


def _same(marks: DetectedLandmarks, i: int, j: int) -> bool:
    """Whether two are close in the keypoints that both see, be their sides named alike or the other way round."""
    seen = (marks.visibility[i] > VISIBLE) & (marks.visibility[j] > VISIBLE)
    seen = seen if bool(seen.any()) else torch.ones_like(seen)
    side = torch.minimum(marks.boxes.size[i].max(), marks.boxes.size[j].max())
    apart = [
        (marks.points[i] - other).norm(dim=-1)[seen].mean() for other in (marks.points[j], marks.points[j][MIRRORED])
    ]
    return bool(torch.stack(apart).amin() < SAME_PERSON * side)


def _is_turned_over(marks: DetectedLandmarks, inside: Tensor, i: int, j: int) -> bool:
    """Whether two have one outline, but one of them stands on the head: a body that was also taken the wrong way up."""
    turn = float((marks.boxes.angle[i] - marks.boxes.angle[j]).cos())
    return turn < 0 and agreement(inside[i], inside[j]) > SAME_OUTLINE


def _is_part(marks: DetectedLandmarks, inside: Tensor, i: int, j: int) -> bool:
    """Whether the first is far smaller and lies in the second's outline: a limb that was taken for a person."""
    shared = (inside[i] & inside[j]).sum() / inside[i].sum().clamp(min=1)
    return bool(marks.boxes.size[i].max() < PART * marks.boxes.size[j].max() and shared > SHARED)


def _person(pyramid: Pyramid, marks: DetectedLandmarks, index: int, device: str) -> DetectedPerson:
    mask = segment(pyramid, marks, index, device)
    keypoints = torch.cat([marks.points[index], marks.visibility[index][:, None]], 1).cpu().numpy()
    bounds = mask_bounds(mask)
    if bounds is None:
        bounds = person_bounds(marks[index : index + 1], pyramid.size)[0].cpu().numpy()
    world = marks.world[index].cpu().numpy()
    return DetectedPerson(
        bounds, keypoints, mask, float(marks.presence[index]), files=person_files(device), world=world
    )


def _without_pose(pyramid: Pyramid, device: str) -> list[DetectedPerson]:
    """Whatever the segmentation shows, looked at again from close by."""
    bounds = mask_bounds(segment_all(pyramid, None, device))
    if bounds is None:
        return []
    mask = segment_all(pyramid, torch.from_numpy(bounds).to(device), device)
    closer = mask_bounds(mask)
    if closer is None:
        return []
    keypoints = np.zeros((len(KEYPOINTS), 3), np.float32)
    keypoints[:, :2] = (closer[:2] + closer[2:]) / 2
    return [DetectedPerson(closer, keypoints, mask, 0.0, files=person_files(device))]


def _prominence(person: DetectedPerson) -> float:
    """Area of the mask, less the further from the photo's middle."""
    height, width = person.mask.shape
    middle = (person.box[:2] + person.box[2:]) / 2 / np.array([width, height]) - 0.5
    return float(person.mask.sum() * np.exp(-2 * (middle**2).sum()))
