"""What pictures of results have in common: paper, ink, header with the verdict, and the scale of sigma's colours."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw, ImageFont

from lvdreg.base.shapes import FloatArray
from lvdreg.base.text import one_line
from lvdreg.result.verdict import Verdict

BACKGROUND, INK, FAINT = (250, 250, 248), (38, 38, 42), (125, 125, 130)
VERDICT_COLOURS = {"good": (46, 125, 80), "check": (190, 125, 20), "failed": (190, 50, 45)}
BODY_COLOUR = np.array([0.56, 0.69, 0.83])
# Colours of sigma from certain to uncertain: lightness falls steadily, so it reads in grey and by the colour-blind too.
SIGMA_COLOURS = np.array(
    [(243, 240, 200), (245, 210, 120), (240, 160, 80), (217, 100, 82), (163, 53, 99), (90, 20, 90)]
)
SIGMA_TOPS_MM = (2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 100.0, 200.0, 500.0)
MARGIN, CAPTION, HEADER, FOOTER = 20, 24, 84, 62
SCALE_WIDTH = 260


def sigma_colours(sigma_mm: Float64[np.ndarray, " V"], top_mm: float) -> UInt8[np.ndarray, "V 3"]:
    """Colour uncertainties (V,): pale at zero, dark at ``top_mm`` and above; (V, 3) red, green, blue."""
    at = np.clip(np.nan_to_num(sigma_mm / top_mm, nan=1.0, posinf=1.0), 0, 1) * (len(SIGMA_COLOURS) - 1)
    columns = [np.interp(at, np.arange(len(SIGMA_COLOURS)), SIGMA_COLOURS[:, channel]) for channel in range(3)]
    return np.stack(columns, -1).round().astype(np.uint8)


def sigma_top_mm(sigma_mm: FloatArray) -> float:
    """Choose the upper end of the colour scale: the first round number that holds 95 % of the uncertainties."""
    finite = sigma_mm[np.isfinite(sigma_mm)]
    most = float(np.quantile(finite, 0.95)) if len(finite) else np.inf
    return next((top for top in SIGMA_TOPS_MM if top >= most), SIGMA_TOPS_MM[-1])


def flat_image(picture: FloatArray) -> Image.Image:
    """Lay a picture (H, W, 4) over the paper."""
    cover = picture[..., 3:]
    flat = picture[..., :3] * cover + np.array(BACKGROUND) / 255 * (1 - cover)
    return Image.fromarray((flat * 255).round().astype(np.uint8))


@dataclass(frozen=True)
class Window:
    """What all views of a body share: zoom, and the size of each in pixels of the finished picture."""

    pixels_per_metre: float
    width: int
    height: int

    @classmethod
    def around(cls, extent: FloatArray, narrowest: float, area: int | None = None, height: int = 0) -> "Window":
        """Fit a window around what is shown.

        Args:
            extent: (2,) metres across and up.
            narrowest: Least ratio of width and height.
            area: About so many pixels; None: the window is ``height`` pixels high.
            height: Pixels.
        """
        extent = np.maximum(extent * 1.06, 1e-6)
        aspect = float(np.clip(extent[0] / extent[1], narrowest, 1.6))
        height = height if area is None else round(float(np.sqrt(area / aspect)))
        width = round(height * aspect)
        return cls(float(min(width / extent[0], height / extent[1])), width, height)


def new_sheet(
    width: int, height: int, verdict: Verdict, name: str, lines: tuple[str, ...]
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Take fresh paper with the header on it; ``height`` is that of what stands between header and footer."""
    sheet = Image.new("RGB", (width, HEADER + height + FOOTER), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, verdict, name, "   |   ".join(lines), width)
    return sheet, draw


def key_numbers(metrics: Mapping[str, float], templates: Mapping[str, str], **words: str) -> str:
    """Write the metrics that could be measured in one line, each by its template."""
    found = [name for name in templates if np.isfinite(metrics.get(name, np.nan))]
    return ",  ".join(templates[name].format(metrics[name], **words) for name in found)


def _header(draw: ImageDraw.ImageDraw, verdict: Verdict, name: str, line: str, sheet_width: int) -> None:
    """Write verdict and name, and below them one line."""
    box = draw.textbbox((0, 0), verdict, font(19))
    draw.rounded_rectangle((MARGIN, 16, MARGIN + box[2] + 24, 46), 8, VERDICT_COLOURS[verdict])
    draw.text((MARGIN + 12, 31), verdict, (255, 255, 255), font(19), anchor="lm")
    title_at = MARGIN + round(box[2]) + 38
    title = shortened(draw, name, sheet_width - MARGIN - title_at, 24)
    draw.text((title_at, 31), title, INK, font(24), anchor="lm")
    draw.text((MARGIN, 58), shortened(draw, line, sheet_width - 2 * MARGIN, 15), INK, font(15))


def footer(sheet: Image.Image, draw: ImageDraw.ImageDraw, top_mm: float, numbers: str) -> None:
    """Draw the scale of sigma's colours at the bottom, and beside it the numbers."""
    top = sheet.height - FOOTER
    _colour_scale(sheet, draw, top_mm, top)
    numbers_at = MARGIN + SCALE_WIDTH + 22
    numbers = shortened(draw, numbers, sheet.width - MARGIN - numbers_at, 14)
    draw.text((numbers_at, top + 32), numbers, INK, font(14))


def shortened(draw: ImageDraw.ImageDraw, text: str, width: int, size: int) -> str:
    """Cut a text to one line that fits."""
    text = one_line(text)
    while len(text) > 4 and draw.textlength(text, font(size)) > width:
        text = text[:-4].rstrip() + "..."
    return text


def _colour_scale(sheet: Image.Image, draw: ImageDraw.ImageDraw, top_mm: float, top: int) -> None:
    width, height = SCALE_WIDTH, 14
    ramp = sigma_colours(np.linspace(0, top_mm, width), top_mm)
    sheet.paste(Image.fromarray(np.repeat(ramp[None], height, 0)), (MARGIN, top + 12))
    for share in np.linspace(0, 1, 3):
        draw.text((MARGIN + share * width, top + 32), f"{share * top_mm:g}", INK, font(14), anchor="ma")
    words = "sigma, mm: one standard deviation of the surface"
    draw.text((MARGIN + width + 22, top + 19), words, FAINT, font(14), anchor="lm")


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow, so that pictures are the same on every machine."""
    return ImageFont.load_default(size)
