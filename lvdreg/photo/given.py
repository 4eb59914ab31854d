"""Keypoints that come with a photo: files of OpenPose and COCO, results of an earlier run, and corrections by hand.

All are in pixels of the photo as its file has it, turned upright.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy.optimize import linear_sum_assignment

from lvdreg.base.errors import PhotoError, UsageError
from lvdreg.base.files import not_a_file, parse_json, read_bytes
from lvdreg.base.provenance import input_file
from lvdreg.base.text import one_line
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.photo.model import Photo
from lvdreg.photo.people import DetectedPerson

Rows = Float32[np.ndarray, "33 3"]
"""Column, row and visibility 0 to 1, in the order of ``KEYPOINTS``."""

_COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
_ARMS = (
    "nose", "", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
_LEGS = ("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")
_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")
_FEET = ("left_toe", "", "left_heel", "right_toe", "", "right_heel")
LAYOUTS = {17: _COCO, 18: (*_ARMS, *_LEGS, *_FACE), 25: (*_ARMS, "", *_LEGS, *_FACE, *_FEET), 33: KEYPOINTS}
"""Names by how many keypoints there are: COCO, OpenPose's COCO and BODY_25, MediaPipe; "" is none of ours."""
_FLAGS = np.array([0.0, 0.6, 1.0])
"""Visibility of what COCO calls not labelled, labelled but hidden, and visible."""
ON_PERSON = 0.4
"""Keypoints are somebody's if so many of those that are visible lie in the mask."""
MAX_BYTES = 64 << 20
_EXPECTED = "expected keypoints as OpenPose or COCO write them, or a report.json of lvdreg"


def read_keypoints(source: Path, photo: Photo) -> tuple[list[Rows], dict[str, str]]:
    """Read the keypoints of the people in a photo.

    Args:
        source: A JSON file of OpenPose or COCO (annotations or results), a report.json of lvdreg, or a folder of such
            files named ``NAME_keypoints.json`` or ``NAME.json`` after the photo.
        photo: As read.

    Returns:
        One (33, 3) for each person, in pixels of the photo as read, and the SHA-256 of the file by its name.

    Raises:
        PhotoError: there is no such file, it holds no keypoints, or none of this photo.
    """
    path = _file_of(source, photo)
    if (what := not_a_file(path)) is not None:
        raise PhotoError(f"{path}: {_EXPECTED}, got {what}")
    try:
        content = read_bytes(path, MAX_BYTES)
        written = parse_json(content)
        found = [_rows(values, flags) for values, flags in _people(written, photo.name)]
        is_report = isinstance(written, dict) and "photo" in written
        shrink = photo.size[0] / int(written["photo"]["width"]) if is_report else 1 / photo.reduction
        if not 0 < shrink <= photo.size[0]:
            raise ValueError("a photo without width")
    except OSError as error:
        raise PhotoError(f"{path}: {_EXPECTED}, got none ({error.strerror or error}); check the path") from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError) as error:
        reason = one_line(str(error))[:120] or type(error).__name__
        raise PhotoError(f"{path}: {_EXPECTED}, got something else ({reason}); export it again") from None
    found = [rows for rows in found if (rows[:, 2] > 0).any()]
    if not found:
        raise PhotoError(f"{path}: {_EXPECTED}, got nobody's of {photo.name}; check that it is of this photo")
    factors = np.array([shrink, shrink, 1], np.float32)
    return [rows * factors for rows in found], {f"keypoints/{path.name}": input_file(path, content).sha256}


def with_given(people: list[DetectedPerson], given: list[Rows], files: Mapping[str, str]) -> list[DetectedPerson]:
    """Give keypoints to the people on whom they lie; who gets none keeps what was found.

    Raises:
        PhotoError: some lie on nobody.
    """
    shares = np.array([[_share_on(rows, person) for rows in given] for person in people])
    chosen = [(i, j) for i, j in zip(*linear_sum_assignment(-shares), strict=True) if shares[i, j] >= ON_PERSON]
    if not chosen:
        raise PhotoError(
            "--keypoints: expected keypoints on a person of the photo, got none on anybody; check that they are of "
            "this photo, in its pixels"
        )
    found = list(people)
    for i, j in chosen:
        found[i] = replace(people[i], keypoints=given[j], files={**people[i].files, **files}, world=None)
    return found


def corrected(person: DetectedPerson, places: Mapping[str, tuple[float, float]], photo: Photo) -> DetectedPerson:
    """Put keypoints where the user says that they are.

    Args:
        person: Whose.
        places: Column and row in pixels of the photo's file, by name.
        photo: As read.

    Raises:
        UsageError: there is no such keypoint, or the place is not in the photo.
    """
    rows = person.keypoints.copy()
    for name, place in places.items():
        if name not in KEYPOINTS:
            raise UsageError(f"--set: expected a keypoint such as left_knee, got {name[:60]}; they are in report.json")
        at = np.array(place, np.float64) / photo.reduction
        if at.shape != (2,) or not ((at >= 0) & (at <= photo.size)).all():
            width, height = (side * photo.reduction for side in photo.size)
            raise UsageError(f"--set: expected {name} in the photo, 0,0 to {width},{height}, got {place}")
        rows[KEYPOINTS.index(name)] = [*at, 1.0]
    return replace(person, keypoints=rows, world=None if places else person.world)


def is_of_many(path: Path) -> bool:
    """Tell whether a source of keypoints can be of several photos: a folder, or a file that names photos."""
    if path.is_dir():
        return True
    try:
        found = parse_json(read_bytes(path, MAX_BYTES))
    except (OSError, ValueError):
        return True  # reading it says what is wrong
    return isinstance(found, dict) and "images" in found


def _file_of(source: Path, photo: Photo) -> Path:
    source = source.expanduser()
    if not source.is_dir():
        return source
    names = [f"{photo.name}_keypoints.json", f"{photo.name}.json"]
    for name in names:
        if os.path.isfile(source / name):  # pathlib's raises where the name is too long
            return source / name
    raise PhotoError(f"{source}: expected {' or '.join(names)} in the folder, got neither; name the files so")


def _people(found: Any, name: str) -> list[tuple[Any, bool]]:
    """Return each person's keypoints as they are written, and whether visibilities are COCO's flags."""
    if isinstance(found, dict) and "people" in found:
        return [(person["pose_keypoints_2d"], False) for person in found["people"]]
    if isinstance(found, dict) and "annotations" in found:
        ids = {image["id"] for image in found["images"] if Path(str(image["file_name"])).stem == name}
        return [(a["keypoints"], True) for a in found["annotations"] if a["image_id"] in ids and "keypoints" in a]
    if isinstance(found, dict):
        return [(found["keypoints"], False)]
    images = {one.get("image_id") for one in found}
    if len(images) > 1:
        raise ValueError(f"results of {len(images)} photos, which it does not name: give those of one")
    return [(one["keypoints"], False) for one in found]


def _rows(values: Any, is_flags: bool) -> Rows:
    """Bring one person's keypoints, named or in a layout, into ours."""
    rows = np.zeros((len(KEYPOINTS), 3))
    if isinstance(values, dict):
        for name, value in values.items():
            rows[KEYPOINTS.index(name)] = value if len(value) == 3 else [*value, 1.0]
    else:
        given = np.asarray(values, np.float64).reshape(-1, 3)
        if len(given) not in LAYOUTS:
            raise ValueError(f"{len(given)} keypoints of a person, not {', '.join(map(str, LAYOUTS))}")
        # COCO's own files have flags; so have results that were made of them.
        if is_flags or (np.isin(given[:, 2], (0, 1, 2)).all() and (given[:, 2] == 2).any()):
            given[:, 2] = _FLAGS[given[:, 2].astype(int).clip(0, 2)]
        for name, row in zip(LAYOUTS[len(given)], given, strict=True):
            if name:
                rows[KEYPOINTS.index(name)] = row
    if not np.isfinite(rows).all() or np.abs(rows).max() > 1e6:
        raise ValueError("places that are no pixels")
    rows[:, 2] = rows[:, 2].clip(0, 1)
    return rows.astype(np.float32)


def _share_on(rows: Rows, person: DetectedPerson) -> float:
    """Return how many of the visible keypoints lie in the mask."""
    height, width = person.mask.shape
    at = np.floor(rows[rows[:, 2] > 0, :2]).astype(int)
    inside = ((at >= 0) & (at < [width, height])).all(1)
    at = at.clip(0, [width - 1, height - 1])
    return float((inside & (person.mask[at[:, 1], at[:, 0]] >= 0.5)).mean())
