"""Pictures of a body registered to a photo: over the photo, from other sides, and coloured by uncertainty."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lvdreg.base.shapes import FloatArray
from lvdreg.base.threads import one_torch_thread
from lvdreg.geometry.mesh import mesh_normals, unit_rows
from lvdreg.geometry.raster import rasterise, seen_values
from lvdreg.result.data_photo import PhotoRegistrationData
from lvdreg.result.shade import halve, shade
from lvdreg.result.sheet import (
    BODY_COLOUR,
    CAPTION,
    FAINT,
    HEADER,
    MARGIN,
    Window,
    flat_image,
    font,
    footer,
    key_numbers,
    new_sheet,
    sigma_colours,
    sigma_top_mm,
)

PHOTO_PIXELS = 620 * 620
"""About so large is each of the two pictures of the photo."""
LONGEST = 900
"""Neither is longer than this, pixels."""
AROUND = 1.45
"""The photo is shown around the person: so many times as wide as the crop, as far as there is photo."""
BODY_PIXELS = 250 * 420
MASK_COLOUR, BODY_LINE = np.array([1.0, 0.78, 0.1]), np.array([0.10, 0.24, 0.52])
OPACITY = 0.82
"""How much of the photo the body hides."""
ALONE_HEIGHT = 600
"""Height of the pictures that stand alone, pixels."""
KEY_NUMBERS = {
    "silhouette_iou": "body and mask overlap to {:.0%}",
    "keypoint_error_m": "joints to {:.3f} m",
    "height_m": "{:.2f} m tall",
    "sigma_median_mm": "median sigma {:.0f} mm",
}
TURNS = {"as the photo sees it": 0.0, "from the right": 90.0, "from behind": 180.0}
"""Degrees about Y by which the body is turned; at 90 what was on the right of the photo comes to the front."""


@one_torch_thread()
def overlay(result: PhotoRegistrationData) -> Image.Image:
    """Draw the photo, the body over it, the body from three sides, and its uncertainty, with verdict and numbers."""
    cutout = _cutout(result)
    photos = [cutout.photo, over_photo(result, cutout)]
    top_mm = sigma_top_mm(result.sigma_mm)
    frame = _frame(result, BODY_PIXELS)
    plain = np.broadcast_to(BODY_COLOUR, result.vertices.shape)
    sigma = sigma_colours(result.sigma_mm, top_mm) / 255
    skins = {name: [plain] if turn else [plain, sigma] for name, turn in TURNS.items()}
    drawn = {name: _body(result, skins[name], turn, frame) for name, turn in TURNS.items()}
    bodies = {name: pictures[0] for name, pictures in drawn.items()}
    bodies["uncertainty"] = next(pictures[1] for pictures in drawn.values() if len(pictures) > 1)
    return _compose(result, photos, bodies, top_mm)


@one_torch_thread()
def side_view(result: PhotoRegistrationData) -> Image.Image:
    """Draw the body alone, from the photo's right."""
    frame = _frame(result, None)
    return _body(result, [np.broadcast_to(BODY_COLOUR, result.vertices.shape)], 90.0, frame)[0]


@one_torch_thread()
def uncertainty_map(result: PhotoRegistrationData) -> Image.Image:
    """Draw the body as the photo sees it, coloured by sigma; the scale is in the report."""
    colours = sigma_colours(result.sigma_mm, sigma_top_mm(result.sigma_mm)) / 255
    return _body(result, [colours], 0.0, _frame(result, None))[0]


@dataclass(frozen=True)
class Cutout:
    """The part of a photo that is shown.

    Attributes:
        low: (2,) its left and upper end, pixels of the photo.
        zoom: Pixels of the picture for one of the photo.
        photo: The picture.
        mask: (h, w) the mask, of the picture's size.
    """

    low: FloatArray
    zoom: float
    photo: Image.Image
    mask: NDArray[np.float32]


def _cutout(result: PhotoRegistrationData) -> Cutout:
    """Choose what is shown of the photo: the surroundings of the person, or all of it where that is little more."""
    height, width = result.rgb.shape[:2]
    reach = AROUND * result.crop.side / 2
    low = np.floor(np.clip(result.crop.centre - reach, 0, [width - 1, height - 1])).astype(int)
    high = np.ceil(np.clip(result.crop.centre + reach, low + 1, [width, height])).astype(int)
    extent = high - low
    zoom = float(min(np.sqrt(PHOTO_PIXELS / extent.prod()), LONGEST / extent.max()))
    size = (max(round(extent[0] * zoom), 1), max(round(extent[1] * zoom), 1))
    shown, mask = (image[low[1] : high[1], low[0] : high[0]] for image in (result.rgb, result.mask))
    filter_ = Image.Resampling.LANCZOS if zoom < 1 else Image.Resampling.BICUBIC
    photo = Image.fromarray(np.ascontiguousarray(shown)).resize(size, filter_)
    small = np.asarray(Image.fromarray(np.ascontiguousarray(mask)).resize(size, Image.Resampling.BILINEAR))
    return Cutout(low.astype(np.float64), zoom, photo, small)


def over_photo(result: PhotoRegistrationData, cutout: Cutout) -> Image.Image:
    """Draw the shaded body over the photo, with its outline (blue) and the mask's (yellow)."""
    width, height = cutout.photo.size
    pixels = (result.camera.project(result.vertices) - cutout.low) * cutout.zoom * 2
    depth = -result.camera.seen(result.vertices)[:, 2:] * result.camera.scale * cutout.zoom * 2
    colours = np.broadcast_to(BODY_COLOUR, result.vertices.shape)
    normals = mesh_normals(result.vertices, result.faces)
    size = (2 * height, 2 * width)
    drawn = halve(_shaded(np.concatenate([pixels, depth], 1), result, normals, [colours], size)[0])
    cover = OPACITY * drawn[..., 3:]
    base = np.asarray(cutout.photo, np.float64) / 255
    out = base * (1 - cover) + drawn[..., :3] * cover
    for share, colour, strength in ((drawn[..., 3], BODY_LINE, 0.9), (cutout.mask, MASK_COLOUR, 0.8)):
        line = strength * outline_of(share)[..., None]
        out = out * (1 - line) + colour * line
    return Image.fromarray((out.clip(0, 1) * 255).round().astype(np.uint8))


def outline_of(share: NDArray[np.floating]) -> FloatArray:
    """Return a soft line (H, W), 0 to 1, about two pixels wide, where a cover crosses one half."""
    soft = ndimage.gaussian_filter(share.astype(np.float64), 0.7)
    slope = np.hypot(*np.gradient(soft))
    # The distance to the crossing, in pixels, as long as the cover is a ramp.
    away = np.abs(soft - 0.5) / np.maximum(slope, 0.04)
    return np.asarray(np.clip(1.6 - away, 0, 1) * (slope > 0.04), np.float64)


@dataclass(frozen=True)
class _Frame:
    """What all views of the body share: the window, and its centre (3,) in the world."""

    centre: FloatArray
    window: Window


def _frame(result: PhotoRegistrationData, area: int | None) -> _Frame:
    """Fit a window around the body seen from any side, of about so many pixels, or ``ALONE_HEIGHT`` high."""
    low, high = result.vertices.min(0), result.vertices.max(0)
    extent = high - low
    seen = np.array([max(extent[0], extent[2]), extent[1]])
    return _Frame((low + high) / 2, Window.around(seen, 0.5, area, ALONE_HEIGHT))


def _body(result: PhotoRegistrationData, skins: list[FloatArray], turn: float, frame: _Frame) -> list[Image.Image]:
    """Draw the body, turned about the vertical, once for each colouring."""
    angle = np.radians(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    points = (result.vertices - frame.centre) @ rotation.T
    normals = mesh_normals(points, result.faces)
    window = frame.window
    pixels = points * [1, -1, -1] * (2 * window.pixels_per_metre) + [window.width, window.height, 0]
    drawn = _shaded(pixels, result, normals, skins, (2 * window.height, 2 * window.width))
    return [flat_image(halve(picture)) for picture in drawn]


def _shaded(
    points_px: FloatArray,
    result: PhotoRegistrationData,
    normals: FloatArray,
    skins: list[FloatArray],
    size: tuple[int, int],
) -> list[FloatArray]:
    raster = rasterise(points_px, result.faces, *size)
    seen = unit_rows(seen_values(raster, result.faces, normals))
    reach = max(8, size[0] // 40)
    return [shade(raster, seen, seen_values(raster, result.faces, skin), reach) for skin in skins]


def _compose(
    result: PhotoRegistrationData, photos: list[Image.Image], bodies: dict[str, Image.Image], top_mm: float
) -> Image.Image:
    """Lay out header, photos side by side, views of the body below them, and the colour scale."""
    gap = MARGIN
    view_width, view_height = next(iter(bodies.values())).size
    rows = (2 * photos[0].width + gap, len(bodies) * view_width)
    width = max(2 * MARGIN + max(rows), 760)
    bodies_top = HEADER + CAPTION + photos[0].height + gap
    body_height = bodies_top - HEADER + CAPTION + view_height
    sheet, draw = new_sheet(width, body_height, result.verdict, result.name, (result.reason, _size_line(result)))
    for number, (photo, caption) in enumerate(zip(photos, ("photo", "body (blue) and mask (yellow)"), strict=True)):
        left = (width - rows[0]) // 2 + number * (photo.width + gap)
        draw.text((left, HEADER), caption, FAINT, font(15))
        sheet.paste(photo, (left, HEADER + CAPTION))
    for number, (caption, body) in enumerate(bodies.items()):
        left = (width - rows[1]) // 2 + number * view_width
        draw.text((left + view_width // 2, bodies_top), caption, FAINT, font(15), anchor="ma")
        sheet.paste(body, (left, bodies_top + CAPTION))
    footer(sheet, draw, top_mm, key_numbers(result.metrics, KEY_NUMBERS))
    return sheet


def _size_line(result: PhotoRegistrationData) -> str:
    method = result.settings.get("method")
    named = f"{result.model} by {method}" if method else result.model
    return f"{named}, {result.metrics['height_m']:.2f} m tall{' (a guess)' if result.size_is_guess else ''}"
