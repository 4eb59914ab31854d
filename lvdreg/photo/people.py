"""Find people in a photo: where they are, 33 keypoints, and a mask of each."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lvdreg.base.provenance import FileHashes
from lvdreg.photo.detector import detect
from lvdreg.photo.graph import person_files
from lvdreg.photo.keypoints import KEYPOINTS, DetectedLandmarks, find_landmarks
from lvdreg.photo.model import Photo
from lvdreg.photo.segment import person_bounds, segment, segment_all
from lvdreg.photo.warp import Boxes, Pyramid, lay_back

MIN_DETECTION, SURE_DETECTION = 0.2, 0.5
"""Weak detections are tried, too: the landmarks' network decides, and has to be surer of them."""
MIN_PRESENCE, SURE_PRESENCE = 0.5, 0.9
MOST_PEOPLE = 8
SAME_PERSON = 0.12
"""Mean distance of landmarks over the square's side below which two detections are of one person."""
SHARED, SHARED_SIDE = 0.5, 192
"""Share of the smaller outline inside the other above which they are of one person; pixels a side to compare them."""
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
    """

    box: NDArray[np.float32]
    keypoints: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.float32] = field(repr=False)
    score: float
    keypoint_names: tuple[str, ...] = field(default=KEYPOINTS, repr=False)
    files: FileHashes = field(default_factory=dict, repr=False)


def find_people(photo: Photo, device: str = "cpu") -> list[DetectedPerson]:
    """Find all people, the most prominent (large and central) first.

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
        marks = find_poses(pyramid, device)
        if not len(marks.boxes):
            return _without_pose(pyramid, device)
        people = [_person(pyramid, marks, i, device) for i in range(len(marks.boxes))]
    return sorted((p for p in people if p.mask.mean() > 0), key=_prominence, reverse=True)


def find_poses(pyramid: Pyramid, device: str = "cpu") -> DetectedLandmarks:
    """Find everybody's landmarks: detect, look, and look again from where the landmarks say the person is."""
    found = detect(pyramid, MIN_DETECTION, device)
    least = torch.where(found.scores >= SURE_DETECTION, MIN_PRESENCE, SURE_PRESENCE)
    marks = _look_twice(pyramid, found.boxes[:MOST_PEOPLE], least[:MOST_PEOPLE], device)
    if not len(marks):
        guess = _guess(pyramid, device)
        marks = _look_twice(pyramid, guess, torch.full((len(guess),), SURE_PRESENCE, device=device), device)
    return marks[_distinct(marks, pyramid.size)]


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
    """Indices of landmarks that are not of the same person as those before them: the detector's surest come first."""
    whole = Boxes.upright(torch.tensor([[0, 0, *size]], device=marks.presence.device).float())
    inside = lay_back(marks.segmentation, marks.boxes, whole, (SHARED_SIDE, SHARED_SIDE))[:, 0] > 0.5
    kept: list[int] = []
    for i in range(len(marks)):
        if not any(_same(marks, inside, i, j) for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long, device=marks.presence.device)


def _same(marks: DetectedLandmarks, inside: Tensor, i: int, j: int) -> bool:
    """Whether two are close in all landmarks, or one lies in the other: a part of a body taken for a whole one."""
    distance = (marks.points[i] - marks.points[j]).norm(dim=-1).mean() / marks.boxes.size[j].max()
    shared = (inside[i] & inside[j]).sum() / torch.minimum(inside[i].sum(), inside[j].sum()).clamp(min=1)
    return bool(distance < SAME_PERSON or shared > SHARED)


def _person(pyramid: Pyramid, marks: DetectedLandmarks, index: int, device: str) -> DetectedPerson:
    mask = segment(pyramid, marks, index, device)
    keypoints = torch.cat([marks.points[index], marks.visibility[index][:, None]], 1).cpu().numpy()
    bounds = mask_bounds(mask)
    if bounds is None:
        bounds = person_bounds(marks[index : index + 1], pyramid.size)[0].cpu().numpy()
    return DetectedPerson(bounds, keypoints, mask, float(marks.presence[index]), files=person_files(device))


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
