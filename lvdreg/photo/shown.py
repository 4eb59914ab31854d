"""One person of a photo as the later stages take them: mask, keypoints that belong to it, and who of how many."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import PhotoError
from lvdreg.base.provenance import FileHashes
from lvdreg.photo.given import corrected, read_keypoints, with_given
from lvdreg.photo.mask import people_in
from lvdreg.photo.model import Photo
from lvdreg.photo.people import DetectedPerson
from lvdreg.photo.sides import sides_agree
from lvdreg.photo.warp import Pyramid

VISIBLE = 0.5
MIN_INSIDE = 0.4
"""Keypoints belong to a mask if so many of those that are visible lie in it."""


@dataclass(frozen=True)
class Shown:
    """One person in a photo.

    Attributes:
        mask: (H, W) how much each pixel is the person, 0 to 1.
        keypoints: (33, 3) column, row and visibility, in the order of ``image.keypoints.KEYPOINTS``; None without pose.
        has_mask: Whether the mask tells the person from the surroundings.
        number: From 1, the most prominent person first.
        count: How many people were found, as far as that is known.
        missed: (M, 4) left, top, right, bottom, pixels, of places that show somebody who was not told apart.
        notes: What a user should know, one plain line each.
        files: SHA-256 of the files of weights that found the person, and of a given mask, by name.
        sides: How much the networks agree with themselves on which side of the person is left: see ``sides_agree``; 1
            also of keypoints that somebody gave.
    """

    mask: NDArray[np.float32] = field(repr=False)
    keypoints: NDArray[np.float32] | None = field(repr=False)
    has_mask: bool = True
    number: int = 1
    count: int = 1
    missed: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32), repr=False)
    notes: tuple[str, ...] = ()
    files: FileHashes = field(default_factory=dict, repr=False)
    sides: float = 1.0


def people_shown(
    photo: Photo,
    mode: str | Path,
    person: int | None = None,
    *,
    everyone: bool = False,
    device: str = "cpu",
    keypoints: Path | None = None,
    places: Mapping[str, tuple[float, float]] | None = None,
) -> list[Shown]:
    """Find one person, or everybody, in a photo.

    Args:
        photo: As read.
        mode: "auto", "none", "rembg" or a file: see ``image.mask.people_in``.
        person: From 1, the most prominent first; that one when None, which is said where there are more.
        everyone: Return all.
        device: Where the networks run.
        keypoints: A file or folder of keypoints, which then count instead of the networks'.
        places: Where keypoints of the one person are, column and row in pixels of the photo's file, by name.

    Returns:
        At least one person.

    Raises:
        PhotoError: nobody is found, or not so many; the mask cannot be read, is empty or of another shape; keypoints
            cannot be read, or are nobody's here.
        UsageError: ``person`` is not 1 or more, rembg is not installed, or there is no keypoint of a name.
        CheckpointError: the networks are missing or damaged.
    """
    pyramid = Pyramid(photo.rgb, device)
    crowd = people_in(photo, mode, person if person is not None and person < 1 else None, True, device)
    people, missed = crowd.people, missed_warnings(crowd.missed)
    if keypoints is not None:
        people = with_given(people, *read_keypoints(keypoints, photo))
    if everyone:
        return [
            replace(
                _sided(shown_of(one, mode, number, len(people), missed), one.world, pyramid, device),
                missed=crowd.missed,
            )
            for number, one in enumerate(people, start=1)
        ]
    if person is not None and person > len(people):
        raise PhotoError(f"{photo.name}: --person: expected at most {len(people)}, so many were found; got {person}")
    notes: tuple[str, ...] = missed
    if person is None and len(people) > 1:
        several = f"{len(people)} people found, this is the most prominent: --person N takes another, --all takes all"
        notes = (several, *missed)
    one = corrected(people[(person or 1) - 1], places or {}, photo)
    shown = replace(shown_of(one, mode, person or 1, len(people), notes), missed=crowd.missed)
    return [_sided(shown, one.world, pyramid, device)]


def _sided(shown: Shown, world: NDArray[np.float32] | None, pyramid: Pyramid, device: str) -> Shown:
    if shown.keypoints is None or world is None:
        return shown
    return replace(shown, sides=sides_agree(pyramid, shown.keypoints, world, device))


def missed_warnings(missed: NDArray[np.float32]) -> tuple[str, ...]:
    """Say where somebody may be missing; nothing if nobody is."""
    if not len(missed):
        return ()
    places = "; ".join("columns {0:.0f} to {2:.0f}, rows {1:.0f} to {3:.0f}".format(*box) for box in missed)
    return (f"somebody, or a part of somebody, may be missing ({places}): crop the photo there, or give --mask FILE",)


def shown_of(person: DetectedPerson, mode: str | Path, number: int, count: int, notes: tuple[str, ...] = ()) -> Shown:
    """Take what later stages need of a person; keypoints that lie elsewhere than the mask are somebody else's."""
    height, width = person.mask.shape
    at = np.floor(person.keypoints[:, :2]).astype(int).clip(0, [width - 1, height - 1])
    visible = person.keypoints[:, 2] >= VISIBLE
    on_mask = person.mask[at[:, 1], at[:, 0]] >= VISIBLE
    is_theirs = bool(visible.any()) and float(on_mask[visible].mean()) >= MIN_INSIDE
    keypoints, has_mask = person.keypoints if is_theirs else None, str(mode) != "none"
    return Shown(person.mask, keypoints, has_mask, number, count, notes=notes, files=person.files)
