"""Read a photo: any format that Pillow knows, upright, as plain colours.

Pixels: (column, row); the centre of pixel (c, r) is at (c + 0.5, r + 0.5), so that a photo spans [0, W] x [0, H].
"""

import io
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import PhotoError
from lvdreg.base.files import not_a_file, read_bytes
from lvdreg.base.foreign import ZIP, foreign_kind, inside
from lvdreg.base.provenance import InputFile, input_file
from lvdreg.base.text import one_line
from lvdreg.photo.exif import focal_mm35

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from PIL.Image import Image

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".ppm", ".jp2")
)
"""What is taken for a photo in a folder."""
MAX_PIXELS = 25_000_000
"""Photos with more are halved until they fit: a body is not seen better, and memory would be."""
MAX_BYTES = 512 << 20
MAX_DECODED = 178_000_000
"""Pixels: photos with more are refused before they are decoded, which takes a few bytes of each."""
MIN_SIDE = 16
SLIMMEST = 50
"""Pictures with sides of a greater ratio are strips, not photos."""
ORIENTATION = 0x0112
"""EXIF tag."""
BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, MemoryError, Warning,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files; SyntaxError, for example, for a wrong chunk of a PNG; a warning, as of
odd metadata, where Python is told to take warnings for errors."""


@dataclass(frozen=True)
class Photo:
    """Colours of a photo, turned upright as its EXIF data say.

    Attributes:
        rgb: (H, W, 3) sRGB.
        alpha: (H, W) from 0 to 1, only where the file's alpha channel tells something apart; else None.
        name: Stem of the file, or "array".
        notes: What reading found or changed, one plain line each.
        source: The file it was read from; None of an array.
        reduction: How many pixels of the file became one, along each side.
        focal_mm35: Focal length by its EXIF data, as millimetres on 35 mm film, by the diagonal; None: they say none.
    """

    rgb: NDArray[np.uint8] = field(repr=False)
    alpha: NDArray[np.float32] | None = field(repr=False)
    name: str
    notes: tuple[str, ...] = ()
    source: InputFile | None = None
    reduction: int = 1
    focal_mm35: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]


def read_photo(path: str | Path) -> Photo:
    """Read an image file.

    Args:
        path: The file; its content decides over its suffix. Of an animation the first picture is taken.

    Returns:
        The photo, upright; those above 25 million pixels are reduced by a whole factor, which `notes` says.

    Raises:
        PhotoError: the file is missing, empty, damaged, no image, of a format that needs another package, or so small
            or so large that no person can be found in it.
    """
    path, notes = Path(path).expanduser(), list[str]()
    image, source = _open(path)
    try:
        focal = focal_mm35(image, notes)
        rgb, alpha, reduction = _upright_colours(image, notes)
    except BROKEN as error:
        reason = one_line(str(error)) or type(error).__name__
        raise PhotoError(f"{path}: expected a whole image, got a damaged one ({reason}); send it again") from None
    return Photo(rgb, _telling(alpha, notes), path.stem, tuple(notes), source, reduction, focal)


def photo_from_array(rgb: "ArrayLike", name: str = "array") -> Photo:
    """Check an array of colours and make a photo of a copy of it.

    Args:
        rgb: (H, W, 3), or with alpha (H, W, 4), or grey (H, W); integers 0 to 255 or floats 0 to 1.
        name: How the photo is called in reports and file names.

    Raises:
        PhotoError: shape, type or range are others.
    """
    array = np.asarray(rgb)
    array = np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (3, 4) or min(array.shape[:2]) < MIN_SIDE:
        raise PhotoError(f"expected a photo (H, W, 3) of {MIN_SIDE} pixels or more, got {np.shape(rgb)}; pass one")
    whole = array.dtype.kind in "iu"
    if not whole and array.dtype.kind != "f":
        raise PhotoError(f"expected a photo of numbers, got {array.dtype}; pass integers 0..255 or floats 0..1")
    top = 255 if whole else 1
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= top):
        raise PhotoError(f"expected colours from 0 to {top} in an array of {array.dtype}, got others; scale them")
    values = array.astype(np.uint8) if whole else np.round(array * 255).astype(np.uint8)
    notes: list[str] = []
    alpha = _telling(values[..., 3], notes) if values.shape[2] == 4 else None
    return Photo(np.ascontiguousarray(values[..., :3]), alpha, name, tuple(notes))


def photo_of(source: "str | Path | Photo | ArrayLike") -> Photo:
    """Return the photo meant by a file, by a photo itself, or by an array of colours.

    Raises:
        PhotoError: the file or the array holds no photo.
    """
    if isinstance(source, Photo):
        return source
    return read_photo(source) if isinstance(source, str | Path) else photo_from_array(source)


def _open(path: Path) -> "tuple[Image, InputFile]":
    """Open a file as far as its header, and refuse what is no image; also say what was read."""
    from PIL import Image, UnidentifiedImageError

    what = not_a_file(path)
    if what == "a folder":
        raise PhotoError(f"{path}: expected an image file, got a folder{inside(path, SUFFIXES, 'photo')}")
    if what is not None:
        raise PhotoError(f"{path}: expected an image file, got {what}; save what it gives to a file first")
    try:
        size = path.stat().st_size
        content = read_bytes(path, MAX_BYTES) if size <= MAX_BYTES else b""
    except (OSError, ValueError) as error:  # a null byte in the path is a ValueError
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        raise PhotoError(f"{path}: expected an image file, got none ({reason}); check the path") from None
    if size > MAX_BYTES:
        raise PhotoError(
            f"{path}: expected an image of at most {MAX_BYTES >> 20} MiB, got {size >> 20}; reduce it first"
        )
    if not content:
        raise PhotoError(f"{path}: expected an image, got an empty file; send the file again")
    _teach_heif(path, content[:64])
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        found = foreign_kind(content, SUFFIXES)
        kind = found.what if found else "text" if _is_text(content[:64]) else "something else"
        remedy = found.remedy if found and content.startswith(ZIP) else "export the photo as JPEG or PNG"
        raise PhotoError(f"{path}: expected an image, got {kind}; {remedy}") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{path}: expected an image below 178 million pixels, got more; reduce it first") from None
    except BROKEN as error:
        raise PhotoError(f"{path}: expected an image, got a damaged one ({one_line(str(error))}); send again") from None
    width, height = image.size
    if width * height > MAX_DECODED:
        raise PhotoError(f"{path}: expected an image below 178 million pixels, got more; reduce it first")
    if image.format == "EPS":  # Pillow would let Ghostscript run it
        raise PhotoError(f"{path}: expected a photo, got PostScript, which is a program; export it as JPEG or PNG")
    if min(width, height) < MIN_SIDE or max(width, height) > SLIMMEST * min(width, height):
        raise PhotoError(
            f"{path}: expected a photo of {MIN_SIDE} pixels a side or more, got {width} x {height}; send another"
        )
    return image, input_file(path, content)


def _is_text(head: bytes) -> bool:
    return not any(byte < 9 or 13 < byte < 32 for byte in head)


def _teach_heif(path: Path, head: bytes) -> None:
    """Photos of iPhones: Pillow reads them once pillow-heif is there."""
    if head[4:8] != b"ftyp" or head[8:12] not in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise PhotoError(
            f"{path}: expected JPEG, PNG or the like, got HEIC; export it as JPEG or pip install 'lvdreg[heif]'"
        ) from None
    register_heif_opener()


def _upright_colours(image: "Image", notes: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, int]:
    """Decode, reduce, turn upright and bring into RGB; alpha as bytes where the file has it; by how much reduced."""
    from PIL import ImageOps

    full = image.size
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"the file holds {image.n_frames} pictures: the first was used")  # type: ignore[attr-defined]
    factor = 1
    while full[0] * full[1] > MAX_PIXELS * factor**2:
        factor *= 2
    if factor > 1:
        image.draft("RGB", (full[0] // factor, full[1] // factor))  # JPEG decodes at a half or less far faster
        notes.append(f"reduced from {full[0]} x {full[1]} pixels by a factor of {factor}")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if image.getexif().get(ORIENTATION, 1) in range(2, 9):
        notes.append("turned upright by its EXIF data")
    small = upright.reduce(factor) if factor > 1 and image.size == full else upright
    return *_to_rgb(_to_bytes(small, notes)), factor


def _to_bytes(image: "Image", notes: list[str]) -> "Image":
    """Bring 16 and 32 bits to 8, by the range of the type where it has one, else by that of the values."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some of its numbers are not finite")
    low, high = float(values.min()), float(values.max())
    sixteen = image.mode != "F" and low >= 0 and high <= 65535
    low, high = (0.0, 65535.0) if sixteen else (low, max(high, low + 1e-9))
    notes.append(
        "16-bit grey was brought to 8 bits" if sixteen else "grey of other than 8 bits was stretched to 8 bits"
    )
    return Image.fromarray(np.round((values - low) / (high - low) * 255).astype(np.uint8))


def _to_rgb(image: "Image") -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Split any mode into RGB and alpha."""
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        both = np.array(image.convert("RGBA"))
        return np.ascontiguousarray(both[..., :3]), both[..., 3]
    return np.array(image.convert("RGB")), None


def _telling(alpha: NDArray[Any] | None, notes: list[str]) -> NDArray[np.float32] | None:
    """Keep an alpha channel only if part of the photo is solid and part is clear."""
    if alpha is None:
        return None
    solid = float((alpha > 127).mean())
    if not 0.001 < solid < 0.999:
        return None
    notes.append("the mask was taken from the file's alpha channel")
    return (alpha / 255).astype(np.float32)
