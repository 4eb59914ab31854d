"""Who is in a photo and which pixels are theirs: found by the networks, by a mask that was given, or by alpha."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvdreg.errors import PhotoError, UsageError
from lvdreg.image.person import Person, find_people
from lvdreg.image.photo import Photo, read_photo

FloatArray = NDArray[np.float32]

LEAST_OVERLAP = 0.25
"""Keypoints are those of the person whose mask shares at least this part of the union with the mask that was given."""
ASPECT_TOLERANCE = 0.02
GREY_TOLERANCE = 3
"""Channels that differ by no more are grey: JPEG moves them a little."""


@dataclass(frozen=True)
class Shown:
    """One person in a photo.

    Attributes:
        mask: (H, W) how much each pixel is the person, 0 to 1.
        keypoints: (33, 3) column, row and visibility, in the order of ``image.keypoints.KEYPOINTS``; None without pose.
        whence: Where the mask comes from: "found", "file", "alpha", or "none" when there is none.
        number: From 1, the most prominent person first.
        count: How many people were found.
        notes: What a user should know, one plain line each.
    """

    mask: FloatArray = field(repr=False)
    keypoints: FloatArray | None = field(repr=False)
    whence: str
    number: int = 1
    count: int = 1
    notes: tuple[str, ...] = ()

    @property
    def is_whole_photo(self) -> bool:
        """Whether nothing says which pixels are the person's."""
        return self.whence == "none"


def people_in(photo: Photo, mask: "str | Path | FloatArray", device: str = "cpu") -> list[Shown]:
    """Find the people in a photo.

    Args:
        photo: As read.
        mask: "auto": the photo's alpha channel where it has one, else what the networks find; "none": the photo is cut
            around one person and nothing is masked; a file or an array (H, W): that.
        device: Where the networks run.

    Returns:
        At least one person, the most prominent first.

    Raises:
        PhotoError: nobody is found, or the mask cannot be used.
        CheckpointError: the networks are missing or damaged.
    """
    found = find_people(photo, device)
    given, whence = _given_mask(photo, mask)
    if given is not None:
        return [_with_keypoints(given, whence, found)]
    if not found:
        raise PhotoError(
            f"{photo.name}: expected a person in the photo, found none; crop it to one, or give a mask with --mask FILE"
        )
    return [
        Shown(person.mask, _pose(person), "found", number, len(found)) for number, person in enumerate(found, start=1)
    ]


def choose_person(people: list[Shown], number: int | None) -> Shown:
    """Return one person: the ``number``-th from 1, or the most prominent when None, which is said.

    Raises:
        PhotoError: there are not so many.
    """
    if number is None:
        first = people[0]
        if len(people) == 1:
            return first
        note = f"{len(people)} people found; this is the most prominent: --person N takes another, --all takes all"
        return replace(first, notes=(*first.notes, note))
    if not 1 <= number <= len(people):
        raise PhotoError(f"--person: expected 1 to {len(people)}, so many people were found; got {number}")
    return people[number - 1]


def _given_mask(photo: Photo, mask: "str | Path | FloatArray") -> tuple[FloatArray | None, str]:
    """Return the mask that comes from the user or from the photo itself, and its origin."""
    if isinstance(mask, np.ndarray):
        return _fitting(mask_values(mask), photo, "the mask"), "file"
    if str(mask) == "none":
        return np.ones(photo.rgb.shape[:2], np.float32), "none"
    if str(mask) == "auto":
        return (photo.alpha, "alpha") if photo.alpha is not None else (None, "found")
    return read_mask(mask, photo), "file"


def read_mask(path: str | Path, photo: Photo) -> FloatArray:
    """Read a mask for a photo: grey (white is the person), labelled by colours (black is nobody), or by alpha.

    Args:
        path: An image with the photo's aspect ratio.
        photo: The photo it belongs to.

    Returns:
        (H, W) of the photo's size, 0 to 1.

    Raises:
        PhotoError: it cannot be read, shows nobody, or belongs to another photo.
    """
    given = read_photo(path)
    values = given.alpha if given.alpha is not None else mask_values(given.rgb)
    return _fitting(values, photo, str(path))


def mask_values(array: NDArray[np.generic]) -> FloatArray:
    """Turn a mask (H, W) or picture (H, W, C) into shares 0 to 1; colours, and greys up to 1, are labels.

    Raises:
        UsageError: it has another shape.
    """
    if array.ndim not in (2, 3):
        raise UsageError(f"expected a mask (H, W), got an array of shape {array.shape}")
    if array.dtype.kind == "f":
        shares = np.nan_to_num(array.astype(np.float32).reshape(*array.shape[:2], -1).max(-1))
        return np.asarray(shares.clip(0, 1), np.float32)
    values = array.reshape(*array.shape[:2], -1).astype(np.float32)
    is_grey = bool((np.ptp(values, axis=-1) <= GREY_TOLERANCE).all())
    are_labels = not is_grey or float(values.max()) <= 1
    return np.asarray((values > 0).any(-1) if are_labels else values[..., 0] / 255, np.float32)


def _fitting(mask: FloatArray, photo: Photo, name: str) -> FloatArray:
    """Bring a mask to the size of the photo, and check that it tells something apart."""
    from PIL import Image

    width, height = photo.size
    if abs(mask.shape[1] * height / (mask.shape[0] * width) - 1) > ASPECT_TOLERANCE:
        raise PhotoError(
            f"{name}: expected a mask of {width} x {height} pixels as the photo, got {mask.shape[1]} x {mask.shape[0]}"
        )
    if mask.shape != (height, width):
        mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    if not (mask >= 0.5).any():
        raise PhotoError(f"{name}: expected a mask that shows the person in white, got an empty one")
    return mask.clip(0, 1)


def _with_keypoints(mask: FloatArray, whence: str, found: list[Person]) -> Shown:
    """Give a mask the keypoints of whoever was found there."""
    inside = mask >= 0.5
    overlaps = [float((inside & (p.mask >= 0.5)).sum() / max((inside | (p.mask >= 0.5)).sum(), 1)) for p in found]
    least = 0.0 if whence == "none" else LEAST_OVERLAP
    best = int(np.argmax(overlaps)) if overlaps else 0
    keypoints = _pose(found[best]) if overlaps and overlaps[best] >= least else None
    return Shown(mask, keypoints, whence)


def _pose(person: Person) -> FloatArray | None:
    return person.keypoints if float(person.keypoints[:, 2].max()) > 0 else None
