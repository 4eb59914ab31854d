"""Which pixels are the person: found by the networks, read from a file or the alpha channel, or asked of rembg."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import PhotoError, UsageError
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.photo.model import Photo, read_photo
from lvdreg.photo.people import MIN_AREA, Crowd, DetectedPerson, find_people, mask_bounds

MODES = ("auto", "none", "rembg")
LABELS = 64
"""Grey pictures without anything as bright as this hold labels, not shares: whatever is not 0 is the person."""
ASPECT_SLACK = 0.02


@dataclass(frozen=True)
class GivenMask:
    """A mask that the networks need not find: (H, W) from 0 to 1, and the SHA-256 of the file that it is from."""

    values: NDArray[np.float32] = field(repr=False)
    files: FileHashes = field(default_factory=dict)


def people_in(
    photo: Photo,
    mode: str | Path = "auto",
    person: int | None = None,
    everyone: bool = False,
    device: str = "cpu",
) -> Crowd:
    """Find who is meant in a photo, with keypoints and mask.

    Args:
        photo: As read.
        mode: "auto" (the photo's alpha channel where it tells something apart, else the networks), "none" (the whole
            photo is taken), "rembg" (the package of that name), or a file with a mask.
        person: 1 for the most prominent (large and central), 2 for the next ...; None for the first.
        everyone: Return all; only for masks that the networks find, which tell people apart.
        device: Where the networks run.

    Returns:
        One person, or with `everyone` all, the most prominent first; and where others may have been missed.

    Raises:
        PhotoError: nobody is found, or not so many; the mask cannot be read, is empty or of another shape.
        UsageError: `person` is not 1 or more, or rembg is not installed.
    """
    if person is not None and person < 1:
        raise UsageError(f"expected --person 1 or more, got {person}; 1 is the most prominent")
    given = given_mask(photo, mode)
    crowd = find_people(photo, device)
    people = crowd.people
    if given is not None:
        return Crowd([with_mask(people, given)])
    if not people:
        raise PhotoError(f"{photo.name}: expected a person, found none; crop the photo closer or give --mask FILE")
    if everyone:
        return crowd
    if person is not None and person > len(people):
        raise PhotoError(f"{photo.name}: expected at least {person} people, found {len(people)}; choose a lower number")
    return replace(crowd, people=[people[(person or 1) - 1]])


def mask_of(
    photo: Photo, mode: str | Path = "auto", person: int | None = None, device: str = "cpu"
) -> NDArray[np.float32]:
    """Return the mask (H, W), 0 to 1, of whom `people_in` finds; same arguments and errors."""
    return people_in(photo, mode, person, device=device).people[0].mask


def given_mask(photo: Photo, mode: str | Path) -> GivenMask | None:
    """Return the mask that comes with the photo or from elsewhere; None if the networks have to find it.

    Raises:
        PhotoError, UsageError: as `people_in`.
    """
    if mode == "auto":
        return None if photo.alpha is None else GivenMask(photo.alpha)
    if mode == "none":
        return GivenMask(np.ones(photo.rgb.shape[:2], np.float32))
    found = ask_rembg(photo) if mode == "rembg" else read_mask(Path(mode), photo)
    if (found.values > 0.5).mean() < MIN_AREA:
        source = "rembg" if mode == "rembg" else str(mode)
        raise PhotoError(f"{source}: expected a mask with the person in white, got an empty one; check it")
    return found


def with_mask(people: list[DetectedPerson], given: GivenMask) -> DetectedPerson:
    """Give a mask to the person whom it shows best; without people, one without keypoints is made of it."""
    mask = given.values
    bounds = mask_bounds(mask)
    box = np.array([0, 0, *mask.shape[::-1]], np.float32) if bounds is None else bounds
    if not people:
        middle = np.tile(np.append((box[:2] + box[2:]) / 2, 0), (len(KEYPOINTS), 1))
        return DetectedPerson(box, middle.astype(np.float32), mask, 0.0, files=given.files)
    best = max(people, key=lambda one: float(np.minimum(one.mask, mask).sum()))
    return replace(best, mask=mask, box=box, files=best.files | given.files)


def read_mask(path: Path, photo: Photo) -> GivenMask:
    """Read a mask of a photo: white or opaque is the person, or whatever has a label other than 0.

    Args:
        path: An image of the photo's shape, of any size.
        photo: Upright, as read.

    Returns:
        The mask, of the photo's size.

    Raises:
        PhotoError: the file holds no image, or one of another shape.
    """
    from PIL import Image

    picture = read_photo(path)
    shares = picture.alpha if picture.alpha is not None else _shares(picture.rgb)
    (width, height), size = picture.size, photo.size
    if abs(width * size[1] / (height * size[0]) - 1) > ASPECT_SLACK:
        turned = " (it lies on its side: turn it as the photo is shown)" if (height, width) == size else ""
        raise PhotoError(
            f"{path}: expected a mask of {size[0]} x {size[1]} pixels or that shape, got {width} x {height}{turned}; "
            "make it from this photo"
        )
    if (width, height) != size:
        resized = Image.fromarray(shares).resize(size, Image.Resampling.BILINEAR)
        shares = np.asarray(resized, dtype=np.float32).clip(0, 1)
    return GivenMask(shares, {} if picture.source is None else {f"mask/{path.name}": picture.source.sha256})


def _shares(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What colours mean: in a colourful or dark picture labels, else shares."""
    brightest = rgb.max(axis=2)
    coloured = bool((brightest - rgb.min(axis=2) > LABELS).mean() > MIN_AREA)
    if coloured or brightest.max() < LABELS:
        return (brightest > 0).astype(np.float32)
    return (rgb.mean(axis=2) / 255).astype(np.float32)


def ask_rembg(photo: Photo) -> GivenMask:
    """Let the package rembg find the foreground; it fetches its network when it first runs.

    Raises:
        UsageError: rembg is not installed.
        PhotoError: it fails, for example without a connection.
    """
    from PIL import Image

    try:
        from rembg import new_session, remove
    except (ImportError, SystemExit) as error:  # it exits where it finds no onnxruntime
        reason = str(error) or type(error).__name__
        raise UsageError(f"expected the package rembg, got none ({reason}); pip install 'lvdreg[rembg]'") from None
    try:
        session = new_session("u2net_human_seg")
        found = remove(Image.fromarray(photo.rgb), session=session, only_mask=True)
        network = Path(session.download_models())  # where it lies, since it is there by now
        files = {f"rembg/{network.name}": sha256_of(network)}
    except Exception as error:  # whatever it, its network or the download raises
        reason = " ".join(str(error).split())[:200]
        raise PhotoError(f"{photo.name}: rembg failed ({reason}); use --mask auto or a file") from error
    return GivenMask((np.asarray(found.convert("L")) / 255).astype(np.float32), files)
