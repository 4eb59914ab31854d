"""Line plots in the style of the other pictures, by Pillow alone."""

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw

from lvdreg.result.sheet import BACKGROUND, FAINT, INK, MARGIN, font

WIDTH, HEIGHT = 360, 300
LEFT, TOP, BOTTOM, LEGEND = 66, 44, 54, 40
GRID = (226, 226, 222)
FINE = 2
"""Lines are drawn so many times as large, then reduced: Pillow's own are jagged."""


@dataclass(frozen=True)
class Curve:
    """One line: its name, colour, values at 0, 1, 2 and so on, and width in pixels."""

    name: str
    colour: tuple[int, int, int]
    values: tuple[float, ...]
    width: int = 2


@dataclass(frozen=True)
class Panel:
    """Lines in one frame; of the same name, lines have the same colour in all panels."""

    title: str
    curves: tuple[Curve, ...]


def draw_panels(panels: list[Panel], across: str, up: str) -> Image.Image:
    """Draw panels side by side with one scale, from zero, and one legend.

    Args:
        panels: At least one, with at least one line of two values.
        across: What is counted from left to right.
        up: What is measured, with its unit.
    """
    top = nice_top(max(value for panel in panels for curve in panel.curves for value in curve.values))
    steps = max(len(curve.values) for panel in panels for curve in panel.curves) - 1
    width = MARGIN + len(panels) * (LEFT + WIDTH) + MARGIN
    height = TOP + HEIGHT + BOTTOM + LEGEND
    sheet = Image.new("RGB", (width * FINE, height * FINE), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, panel in enumerate(panels):
        _frame(draw, (MARGIN + i * (LEFT + WIDTH) + LEFT, TOP), panel, top, steps)
    _legend(draw, {curve.name: curve for panel in panels for curve in panel.curves}, TOP + HEIGHT + BOTTOM + 8)
    for i, panel in enumerate(panels):
        middle = MARGIN + i * (LEFT + WIDTH) + LEFT + WIDTH / 2
        _write(draw, (middle, TOP - 16), panel.title, 16, INK, "ms")
        _write(draw, (middle, TOP + HEIGHT + 28), across, 14, FAINT, "ma")
    _write(draw, (MARGIN, TOP - 16), up, 14, FAINT, "ls")
    return sheet.resize((width, height), Image.Resampling.BOX)


def nice_top(value: float) -> float:
    """Return the round number at or above a positive one: 1, 2, 2.5, 4, 5, 6 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next((n * power for n in (1, 2, 2.5, 4, 5, 6, 8) if n * power >= value), 10 * power)


def _frame(draw: ImageDraw.ImageDraw, corner: tuple[int, int], panel: Panel, top: float, steps: int) -> None:
    left, upper = corner
    for i in range(5):
        y, value = upper + HEIGHT * (1 - i / 4), top * i / 4
        _line(draw, [(left, y), (left + WIDTH, y)], GRID, 1)
        _write(draw, (left - 8, y), f"{value:g}", 13, FAINT, "rm")
    for step in range(0, steps + 1, max(1, steps // 5)):
        _write(draw, (left + WIDTH * step / max(steps, 1), upper + HEIGHT + 8), f"{step}", 13, FAINT, "ma")
    for curve in sorted(panel.curves, key=lambda curve: curve.width):
        points = [
            (left + WIDTH * i / max(steps, 1), upper + HEIGHT * (1 - y / top)) for i, y in enumerate(curve.values)
        ]
        _line(draw, points, curve.colour, curve.width)


def _legend(draw: ImageDraw.ImageDraw, curves: dict[str, Curve], y: float) -> None:
    x = float(MARGIN + LEFT)
    for name, curve in curves.items():
        _line(draw, [(x, y + 8), (x + 22, y + 8)], curve.colour, curve.width)
        _write(draw, (x + 28, y + 8), name, 14, INK, "lm")
        x += 28 + draw.textlength(name, font(14)) + 24


def _line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: tuple[int, int, int], w: int) -> None:
    draw.line([(x * FINE, y * FINE) for x, y in points], colour, w * FINE, "curve")


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], words: str, size: int, colour: tuple[int, int, int], anchor: str
) -> None:
    draw.text((at[0] * FINE, at[1] * FINE), words, colour, font(size * FINE), anchor=anchor)
