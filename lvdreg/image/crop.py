"""The square around a person that the network sees, and exact ways between crop, photo and metres.

Pixels of the photo are (column, row); the centre of pixel (c, r) is at (c + 0.5, r + 0.5). The unit frame of the crop
has x right, y up and z towards the viewer; the crop is [-1, 1]^2, and depth has the same scale. The network says where
vertices are seen; camera.py brings that to where they are.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.errors import PhotoError
from lvdreg.base.shapes import FloatArray, Transform
from lvdreg.geometry.frames import similarity
from lvdreg.image.camera import Camera, Lens
from lvdreg.image.inputs import CROP_FILL


@dataclass(frozen=True)
class CutConfig:
    """Cutting the person out of a photo; chosen by hand, but for ``fill``, which is that of training."""

    fill: float = CROP_FILL
    min_box: float = 24.0
    """A visible person with a shorter longer side, pixels of the photo, is too small to be registered."""
    min_piece: float = 0.05
    """Pieces of the mask with less than this share of the largest are stray."""
    min_lean: float = 30.0
    """Who leans by so many degrees is looked at upright as well."""


CORNERS = 1.42
"""Half sides of a crop to its corners, and a little: what turns into the picture lies within."""


@dataclass(frozen=True)
class Crop:
    """A square of a photo, resampled.

    Attributes:
        image: sRGB, 0 to 1; black outside of the photo.
        mask: How much each pixel is the person; 0 outside of the photo.
        centre: (2,) of the square, pixels of the photo.
        side: Of the square, pixels of the photo.
        borders: Where the photo ends in the unit frame: left, right, bottom, top.
        lens: Of the photo.
    """

    image: Float[Tensor, "3 S S"] = field(repr=False)
    mask: Float[Tensor, "1 S S"] = field(repr=False)
    centre: Float64[np.ndarray, " 2"]
    side: float
    borders: tuple[float, float, float, float]
    lens: Lens = field(default_factory=Lens)

    def to_unit(self, pixels: Float64[np.ndarray, "*N 2"]) -> Float64[np.ndarray, "*N 2"]:
        """Return x and y (..., 2) in the unit frame of columns and rows (..., 2) of the photo."""
        return (pixels - self.centre) * np.array([2.0, -2.0]) / self.side

    def to_photo(self, points: Float64[np.ndarray, "*N D"]) -> Float64[np.ndarray, "*N 2"]:
        """Return column and row (..., 2) in the photo of points (..., 2) or (..., 3) of the unit frame."""
        return self.centre + points[..., :2] * np.array([0.5, -0.5]) * self.side

    def beyond(self, points: Float64[np.ndarray, "*N D"]) -> Float64[np.ndarray, "*N"]:
        """Return how far points (..., 2) or (..., 3) of the unit frame lie beyond the end of the photo; 0 within it."""
        left, right, bottom, top = self.borders
        x, y = points[..., 0], points[..., 1]
        return np.hypot(np.maximum(np.maximum(left - x, x - right), 0), np.maximum(np.maximum(bottom - y, y - top), 0))

    def camera(self, metres_per_unit: float) -> Camera:
        """Return the camera before a world whose plane z = 0 is seen as the unit frame, made so many times as large."""
        return Camera(self.side / 2 / metres_per_unit, self.centre, self.lens)


def crop_around(
    rgb: UInt8[np.ndarray, "H W 3"],
    mask: Float32[np.ndarray, "H W"],
    config: CutConfig,
    size: int,
    box: Float64[np.ndarray, " 4"] | None = None,
) -> Crop:
    """Cut out the square around a person, as training does: centred on what is visible, which fills most of it.

    Args:
        rgb: (H, W, 3) sRGB.
        mask: (H, W) how much each pixel is the person, 0 to 1.
        config: What share of the crop the person fills.
        size: Side of the crop, pixels: what the network was made for (``ImageConfig.size``).
        box: (4,) left, top, right and bottom of the person, pixels; from the mask when None.

    Raises:
        PhotoError: the mask shows nobody, or somebody too small.
    """
    left, top, right, bottom = visible_box(mask, config.min_piece) if box is None else box
    extent = max(right - left, bottom - top)
    if extent < config.min_box:
        raise PhotoError(
            f"expected a person of {config.min_box:.0f} pixels or more, got one of {extent:.0f}; send a larger photo"
        )
    centre, side = np.array([left + right, top + bottom]) / 2, float(extent / config.fill)
    height, width = mask.shape
    low, high = centre - side / 2, centre + side / 2
    image = torch.from_numpy(resampled(rgb, low, high, size) / 255).permute(2, 0, 1).contiguous()
    seen = torch.from_numpy(resampled(mask, low, high, size).clip(0, 1))[None]
    ends = (np.array([width, height]) - centre) * 2 / side
    begins = -centre * 2 / side
    borders = (float(begins[0]), float(ends[0]), -float(ends[1]), -float(begins[1]))
    return Crop(image, seen, centre, side, borders)


def turned_crop(rgb: UInt8[np.ndarray, "H W 3"], crop: Crop, angle: float, config: CutConfig) -> tuple[Crop, Transform]:
    """Cut out the same person turned, so that who lies or leans is shown upright, as large.

    Args:
        rgb: (H, W, 3) sRGB, the photo of the crop.
        crop: The crop as the photo has it.
        angle: Radians by which the picture is turned, counter-clockwise.
        config: What share of the crop the person fills.

    Returns:
        A crop of the turned picture, and the similarity ``T_turned_crop`` between both unit frames.

    Raises:
        PhotoError: the turned mask is empty.
    """
    from PIL import Image

    reach, own_size = CORNERS * crop.side / 2, crop.mask.shape[-1]
    size = 2 * own_size
    low, high = crop.centre - reach, crop.centre + reach
    bilinear = Image.Resampling.BILINEAR
    colours = Image.fromarray(resampled(rgb, low, high, size).round().astype(np.uint8))
    # The crop's own mask will do: a turned one is smooth anyway, and the photo's may be large.
    share = resampled(crop.mask[0].numpy(), crop_pixels(crop, low), crop_pixels(crop, high), size)
    degrees = float(np.degrees(angle))
    image, mask = (np.asarray(x.rotate(degrees, bilinear)) for x in (colours, Image.fromarray(share)))
    own = crop_around(image, mask, config, own_size)
    middle = np.array([size, size]) / 2
    # From the turned picture back to the crop: its middle stays, rows run downwards.
    scale = own.side / size * 2 * reach / crop.side
    back = similarity(scale, _about_z(-angle), np.zeros(3))
    offset = (own.centre - middle) * [1, -1] * (2 * CORNERS / size)
    back[:2, 3] = _about_z(-angle)[:2, :2] @ offset
    return own, np.linalg.inv(back).astype(np.float64)


def crop_pixels(crop: Crop, at: FloatArray) -> FloatArray:
    """Return column and row in the crop's own pixels of a column and row of the photo."""
    return (at - crop.centre + crop.side / 2) * crop.mask.shape[-1] / crop.side


def _about_z(angle: float) -> FloatArray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def visible_box(mask: Float32[np.ndarray, "H W"], min_piece: float = 0.05) -> Float64[np.ndarray, " 4"]:
    """Return left, top, right and bottom (4,) of a mask's person, pixels; stray pieces do not count.

    Raises:
        PhotoError: the mask is empty.
    """
    from scipy import ndimage

    inside = mask >= 0.5
    if not inside.any():
        raise PhotoError("expected a person in the photo, found none: the mask is empty; give another with --mask FILE")
    labels, count = ndimage.label(inside)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = np.isin(labels, 1 + np.flatnonzero(sizes >= min_piece * sizes.max()))
    columns, rows = np.flatnonzero(kept.any(0)), np.flatnonzero(kept.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def resampled(image: NDArray[Any], low: FloatArray, high: FloatArray, size: int) -> NDArray[np.float32]:
    """Resample a square of an image with a triangle as wide as a pixel of the coarser grid; 0 outside of the image.

    Args:
        image: (H, W, 3) bytes, or (H, W) float32.
        low: (2,) column and row where the square begins, pixels; may lie outside.
        high: (2,) where it ends.
        size: Side of the result, pixels.

    Returns:
        (size, size, 3) or (size, size) in the numbers of the input.
    """
    from PIL import Image

    margin = int(np.ceil(max((high - low).max() / size, 1.0))) + 1
    # Whole pixels that hold the square and all that the triangle reads; black where there is no photo.
    first, last = np.floor(low).astype(int) - margin, np.ceil(high).astype(int) + margin
    padded = np.zeros((last[1] - first[1], last[0] - first[0], *image.shape[2:]), image.dtype)
    begin, end = np.maximum(first, 0), np.minimum(last, [image.shape[1], image.shape[0]])
    if (end > begin).all():
        there = image[begin[1] : end[1], begin[0] : end[0]]
        padded[begin[1] - first[1] : end[1] - first[1], begin[0] - first[0] : end[0] - first[0]] = there
    box = (*(low - first), *(high - first))
    out = Image.fromarray(padded).resize((size, size), Image.Resampling.BILINEAR, box)
    return np.asarray(out, np.float32)
