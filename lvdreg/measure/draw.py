"""Every measure drawn on the body, one picture each, on one sheet."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from lvdreg.base.shapes import FloatArray
from lvdreg.geometry.mesh import mesh_normals, unit_rows
from lvdreg.geometry.raster import Raster, rasterise, seen_values
from lvdreg.measure.measured import Measured, Measurement
from lvdreg.result.shade import shade
from lvdreg.result.sheet import BACKGROUND, BODY_COLOUR, FAINT, INK, MARGIN, flat_image, font, shortened

COLOURS = {"height": (30, 90, 160), "girth": (190, 50, 45), "length": (20, 125, 80), "breadth": (150, 85, 10)}
VIEWS = {
    "front": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "back": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "right": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "above": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}
"""Right, up and towards the viewer of each view; the body faces +Z, its right side is at -X."""
COLUMNS, TILE, CAPTION, HEAD = 8, 190, 40, 56
PIXELS = 1000
"""Of the longest side of a view, before tiles are cut out of it."""
AROUND, LEAST = 1.5, 0.16
"""A tile shows so many times the extent of its measure, and at least that share of the body's."""
LINE, HIDDEN_LINE = 8, 4
"""Half pixels that lines are wide, of measures and of their parts under the surface."""
HIDDEN = 0.012
"""A line deeper than this share of the body's extent under the surface is drawn thin."""


@dataclass(frozen=True)
class _View:
    """A body seen from one side.

    Attributes:
        axes: (3, 3) right, up and towards the viewer.
        low: (2,) the left lower corner of the picture, metres.
        scale: Pixels a metre.
        raster: What each of its pixels sees.
        picture: Shaded.
    """

    axes: FloatArray
    low: FloatArray
    scale: float
    raster: Raster
    picture: Image.Image

    def pixels(self, points: FloatArray) -> FloatArray:
        """Return column, row and depth (Q, 3) of points in the picture."""
        seen = points @ self.axes.T
        column, up = ((seen[:, :2] - self.low) * self.scale).T
        return np.stack([column, self.picture.height - up, -seen[:, 2] * self.scale], axis=1)


def measures_sheet(measured: Measured, name: str, line: str) -> Image.Image:
    """Draw all measures of one person or hand.

    Args:
        measured: What was measured.
        name: Of the scan.
        line: What else stands in the head.
    """
    vertices, faces = measured.body.vertices, measured.body.model.faces
    views = [_look(vertices, faces, np.array(axes, np.float64)) for axes in VIEWS.values()]
    rows = -(-len(measured.measurements) // COLUMNS)
    sheet = Image.new("RGB", (2 * MARGIN + COLUMNS * TILE, HEAD + rows * (TILE + CAPTION) + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 12), shortened(draw, name, sheet.width // 2, 22), INK, font(22))
    draw.text(
        (MARGIN, 38), shortened(draw, f"{line}; millimetres, one sigma", sheet.width - 2 * MARGIN, 13), FAINT, font(13)
    )
    for number, found in enumerate(measured.measurements):
        left, top = MARGIN + number % COLUMNS * TILE, HEAD + number // COLUMNS * (TILE + CAPTION)
        sheet.paste(_tile(found, views), (left, top))
        words = f"{found.value_mm:.0f} ± {found.sigma_mm:.0f}"
        draw.text((left + 4, top + TILE + 2), shortened(draw, found.measure.name, TILE - 8, 13), INK, font(13))
        draw.text((left + 4, top + TILE + 18), words, COLOURS[found.measure.kind], font(15))
    return sheet


def _look(vertices: FloatArray, faces: np.ndarray, axes: FloatArray) -> _View:
    """Draw the body from one side."""
    seen = vertices @ axes.T
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    margin = 0.05 * float((high - low).max())
    low, high = low - margin, high + margin
    scale = PIXELS / float(np.ptp(vertices, axis=0).max() * 1.1)
    width, height = (int(np.ceil(side)) for side in (high - low) * scale)
    points = np.stack([(seen[:, 0] - low[0]) * scale, height - (seen[:, 1] - low[1]) * scale, -seen[:, 2] * scale], 1)
    raster = rasterise(points, faces, height, width)
    normals = unit_rows(seen_values(raster, faces, mesh_normals(vertices, faces))) @ axes.T
    colours = np.tile(0.5 + 0.5 * BODY_COLOUR, (len(normals), 1))
    return _View(axes, low, scale, raster, flat_image(shade(raster, normals, colours, 12)))


def _tile(found: Measurement, views: list[_View]) -> Image.Image:
    """Cut the tile of one measure out of the view that shows most of it."""
    view = max(views, key=lambda view: _shown_length(found.line, view))
    line, hidden = _fine(found.line, view)
    low, high = line[:, :2].min(0), line[:, :2].max(0)
    size = max(AROUND * float((high - low).max()), LEAST * PIXELS)
    corner = (low + high) / 2 - size / 2
    box = (*corner.tolist(), *(corner + size).tolist())
    tile = Image.new("RGB", (TILE, TILE), BACKGROUND)
    whole = Image.new("RGB", view.picture.size, BACKGROUND)
    whole.paste(view.picture)
    tile = whole.transform(
        (2 * TILE, 2 * TILE), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR, fillcolor=BACKGROUND
    )
    draw = ImageDraw.Draw(tile)
    at = (line[:, :2] - corner) / size * 2 * TILE
    for start, end, under in zip(at[:-1], at[1:], hidden[:-1] | hidden[1:], strict=True):
        draw.line((*start, *end), COLOURS[found.measure.kind], HIDDEN_LINE if under else LINE)
    return tile.resize((TILE, TILE), Image.Resampling.LANCZOS)


def _fine(line: FloatArray, view: _View) -> tuple[FloatArray, np.ndarray]:
    """Return a line in pixels (Q, 3), finely divided, and which of its points lie under the surface that is seen."""
    steps = np.linspace(0, 1, 9)[:-1, None]
    pieces = [start + steps * (end - start) for start, end in pairwise(line)]
    points = view.pixels(np.concatenate([*pieces, line[-1:]]))
    height, width = view.raster.index.shape
    column, row = (np.clip(points[:, i].astype(int), 0, side - 1) for i, side in ((0, width), (1, height)))
    return points, view.raster.depth[row, column] < points[:, 2] - HIDDEN * PIXELS


def _shown_length(line: FloatArray, view: _View) -> float:
    points, hidden = _fine(line, view)
    lengths = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    return float((lengths * np.where(hidden[:-1] | hidden[1:], 0.4, 1.0)).sum())
