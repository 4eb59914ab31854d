"""What pixels see of triangles and points: a z-buffer in pure torch, for batches, watertight and exact.

Edge functions are taken in float64, and what is inside but for their rounding counts as inside: faces that share an
edge or a corner never all miss a pixel centre on it. The nearest face is found by one minimum over keys of depth and
face number, so the result depends neither on the order of the work nor on the rest of the batch, and is the same on
every machine. Cameras are in synth/camera/raster.py; ``rasterise`` draws one mesh without any.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from lvdreg.base import devices
from lvdreg.base.shapes import Faces, FloatArray, IntArray, Points, Vertices
from lvdreg.geometry.mesh import interpolate

FLAT = 1e-12
"""Twice the area, in pixels, below which a triangle is only a line, and not drawn."""
_BOXES = tuple(2**i for i in range(14))
_ROUNDING = 2.0**-49  # of an edge function, as a share of the largest coordinate's square
_DEPTH_BITS = 42  # of a key: depths that agree but for rounding are equal, so that the first face is seen
_MAX_CANDIDATES = 1 << 16  # places tested at once: what still fits into a processor's cache


@dataclass(frozen=True)
class Raster:
    """What each pixel sees.

    Attributes:
        index: (H, W) number of the face or point seen, -1 where there is none.
        depth: (H, W) distance from the viewer in pixels, up to a constant; infinite where nothing is seen.
        weights: (H, W, 3) barycentric weights of the face's corners; zero where nothing is seen and for points.
    """

    index: Int64[np.ndarray, "H W"]
    depth: Float64[np.ndarray, "H W"]
    weights: Float64[np.ndarray, "H W 3"]

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """(H, W) True where something is seen."""
        return self.index >= 0


@dataclass(frozen=True)
class Screen:
    """Triangles on the screen: T of all samples that are to be drawn.

    Attributes:
        points: Column, row, depth (any unit) and stretch, ``1 + perspective * depth``, of all vertices of all samples.
        sample: Of each triangle.
        face: Its number.
        corners: Its vertices' rows among ``points``.
        front: Whether it is seen from outside.
        batch: Number of samples.
    """

    points: Float[Tensor, "4 M"]
    sample: Int[Tensor, " T"]
    face: Int[Tensor, " T"]
    corners: Int[Tensor, "T 3"]
    front: Bool[Tensor, " T"]
    batch: int

    @property
    def num_vertices(self) -> int:
        """Vertices of one sample."""
        return self.points.shape[1] // self.batch


@dataclass(frozen=True)
class Grid:
    """Where is looked, in each of the pictures of a batch: a square of places.

    Attributes:
        side: Places each way.
        start: Column and row of the first, pixels.
        step: From one to the next, pixels.
    """

    side: int
    start: float = 0.5
    step: float = 1.0

    def at(self, numbers: Int[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the columns or rows of places, pixels, float64."""
        return numbers.double() * self.step + self.start


@dataclass(frozen=True)
class SeenPixels:
    """The P places of a grid that see something, in the order of samples, rows and columns.

    Attributes:
        pixel: Number of the place, counted through all samples, rows and columns.
        sample: Its sample.
        face: The face seen.
        corners: The face's vertices.
        bary: Their weights, perspective-correct, float64.
        depth: As on the screen, float64.
        front: Whether the face is seen from outside.
    """

    pixel: Int[Tensor, " P"]
    sample: Int[Tensor, " P"]
    face: Int[Tensor, " P"]
    corners: Int[Tensor, "P 3"]
    bary: Float[Tensor, "P 3"]
    depth: Float[Tensor, " P"]
    front: Bool[Tensor, " P"]

    def chosen(self, rows: Int[Tensor, " Q"], pixel: Int[Tensor, " Q"]) -> "SeenPixels":
        """Return some of the places, under new numbers."""
        sample, face, corners = (x.index_select(0, rows) for x in (self.sample, self.face, self.corners))
        bary, depth, front = (x.index_select(0, rows) for x in (self.bary, self.depth, self.front))
        return SeenPixels(pixel, sample, face, corners, bary, depth, front)


def rasterise(points_px: Vertices, faces: Faces, height: int, width: int) -> Raster:
    """Draw triangles into a z-buffer; a pixel sees what lies at its centre (column + 0.5, row + 0.5).

    Args:
        points_px: (V, 3) column, row and depth, all in pixels; smaller depth is nearer. Faces with a non-finite corner
            are left out.
        faces: (F, 3) corners; both sides are drawn.
        height: Rows of the picture.
        width: Columns of the picture.

    Returns:
        The nearest face of every pixel, and of equally near ones the first.
    """
    points, corners = torch.from_numpy(np.ascontiguousarray(points_px.T, np.float64)), torch.from_numpy(faces)
    x, y = points[0][corners], points[1][corners]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    face = (points.isfinite().all(0)[corners].all(1) & (area.abs() > FLAT)).nonzero()[:, 0]
    # Without perspective nothing is stretched.
    table = torch.cat([points, torch.ones_like(points[:1])])
    screen = Screen(table, torch.zeros_like(face), face, corners[face], (area < 0)[face], 1)
    side = max(height, width)
    seen = look(screen, Grid(side))
    whole = _picture(seen.pixel.numpy(), seen.face.numpy(), seen.depth.numpy(), side, side)
    whole.weights.reshape(-1, 3)[seen.pixel.numpy()] = seen.bary.numpy()
    return Raster(whole.index[:height, :width], whole.depth[:height, :width], whole.weights[:height, :width])


def _picture(pixel: IntArray, index: IntArray, depth: FloatArray, height: int, width: int) -> Raster:
    """Spread what some pixels see over a picture, without weights."""
    whole = Raster(np.full((height, width), -1), np.full((height, width), np.inf), np.zeros((height, width, 3)))
    whole.index.reshape(-1)[pixel], whole.depth.reshape(-1)[pixel] = index, depth
    return whole


def splat(points_px: Points, radius_px: float, height: int, width: int) -> Raster:
    """Draw points (P, 3) (column, row, depth in pixels) as small spheres of the given radius into a z-buffer."""
    reach = int(np.ceil(radius_px))
    grid = np.stack(np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1)), -1).reshape(-1, 2)
    number = np.flatnonzero(np.isfinite(points_px).all(1))
    centre = np.floor(points_px[number, :2]).clip(-2 * reach, max(height, width) + 2 * reach).astype(np.int64)
    pixel = centre[:, None] + grid
    distance_sq = ((pixel + 0.5 - points_px[number, None, :2]) ** 2).sum(-1)
    # The pixel that holds the point always counts: points never vanish between pixel centres.
    drawn = (distance_sq <= radius_px**2) | (grid == 0).all(-1)
    columns, rows = pixel[..., 0], pixel[..., 1]
    drawn &= (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    point, cell = np.nonzero(drawn)
    depth = points_px[number[point], 2] - np.sqrt(np.maximum(radius_px**2 - distance_sq[point, cell], 0))
    flat = pixel[point, cell, 1] * width + pixel[point, cell, 0]
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, flat, depth)
    kept = depth == nearest[flat]
    return _picture(flat[kept], number[point[kept]], depth[kept], height, width)


def seen_values(raster: Raster, faces: Faces, values: Float64[np.ndarray, "V C"]) -> Float64[np.ndarray, "N C"]:
    """Interpolate vertex values (V, C) over the N seen pixels (``raster.mask``, row by row): (N, C)."""
    return interpolate(values, faces, raster.index[raster.mask], raster.weights[raster.mask])


def look(screen: Screen, grid: Grid) -> SeenPixels:
    """Find what is seen at each place of a grid."""
    face_bits = max(1, len(screen.face)).bit_length()
    nothing = torch.iinfo(torch.int64).max
    shape = (screen.batch * grid.side**2,)
    nearest = torch.full(shape, nothing, dtype=torch.int64, device=screen.points.device)
    if len(screen.face):
        for pixel, key in _fragments(screen, grid, face_bits):
            nearest.scatter_reduce_(0, pixel, key, "amin")
    pixel = (nearest != nothing).nonzero()[:, 0]
    return _seen(screen, pixel, nearest.index_select(0, pixel) & ((1 << face_bits) - 1), grid)


@dataclass(frozen=True)
class _Boxes:
    """Triangles with places of a grid in their bounding boxes, ready to be tested; sorted by the size of the box.

    Attributes:
        triangle: Their numbers.
        offset: Number of the first place of their sample.
        column: The box's first one.
        row: Likewise.
        edges: Factors of column, row and 1 in three edge functions, positive inside.
        slopes: Growth of the depth level a column and a row, and the level at column and row 0.
        limits: The least and the largest level.
    """

    triangle: Int[Tensor, " T"]
    offset: Int[Tensor, " T"]
    column: Int[Tensor, " T"]
    row: Int[Tensor, " T"]
    edges: Float[Tensor, "3 3 T"]
    slopes: Float[Tensor, "3 T"]
    limits: Float[Tensor, "2 T"]

    def part(self, start: int, end: int) -> "_Boxes":
        """Return some of the triangles."""
        parts = (getattr(self, name)[..., start:end] for name in self.__dataclass_fields__)
        return _Boxes(*parts)


def _fragments(screen: Screen, grid: Grid, face_bits: int) -> Iterator[tuple[Int[Tensor, " n"], Int[Tensor, " n"]]]:
    """Yield the places that triangles cover, with keys: depth, then number of the triangle in the lower bits."""
    x, y, depth, stretch = _columns(screen.points, screen.corners)
    first_column, columns = _span(x, grid)
    first_row, rows = _span(y, grid)
    drawn = ((columns > 0) & (rows > 0)).nonzero()[:, 0]
    order, runs = _by_box(columns.index_select(0, drawn), rows.index_select(0, drawn), grid.side)
    triangle = drawn.index_select(0, order)
    # Depth over stretch is affine on the screen, and grows with the depth.
    x, y, level = x[:, triangle], y[:, triangle], (depth / stretch)[:, triangle]
    front = screen.front.index_select(0, triangle)
    sample = screen.sample.index_select(0, triangle)
    level = _levels(level, sample, screen.batch, min(_DEPTH_BITS, 62 - face_bits))
    boxes = _Boxes(
        triangle,
        sample * grid.side**2,
        first_column.index_select(0, triangle),
        first_row.index_select(0, triangle),
        _edges(x, y, front, grid),
        _slopes(x, y, level),
        torch.stack([level.amin(0), level.amax(0)]),
    )
    for start, end, width, height in runs:
        yield _covered(boxes.part(start, end), width, height, grid, face_bits)


def _columns(table: Float[Tensor, "C M"], rows: Int[Tensor, "n 3"]) -> Float[Tensor, "C 3 n"]:
    """Gather from a table, one column of ``rows`` after the other: much faster than whole rows of the table."""
    flat = rows.T.flatten()
    return torch.stack([column.index_select(0, flat) for column in table]).view(len(table), 3, -1)


def _span(x: Float[Tensor, "3 T"], grid: Grid) -> tuple[Int[Tensor, " T"], Int[Tensor, " T"]]:
    """Return the first place between a triangle's corners, along one axis, and how many there are."""
    low = torch.minimum(torch.minimum(x[0], x[1]), x[2])
    high = torch.maximum(torch.maximum(x[0], x[1]), x[2])
    first = ((low - grid.start) / grid.step).ceil().clamp(0, grid.side)
    last = ((high - grid.start) / grid.step).floor().clamp(-1, grid.side - 1)
    return first.long(), (last - first + 1).long()


def _by_box(
    columns: Int[Tensor, " T"], rows: Int[Tensor, " T"], side: int
) -> tuple[Int[Tensor, " T"], list[tuple[int, int, int, int]]]:
    """Sort triangles by the size of their boxes: the order, and runs that are tested as one array.

    Each run is its start, its end, and the width and height that all its boxes fit in.
    """
    sizes = torch.tensor(_BOXES, device=columns.device)
    wide, high = torch.bucketize(columns, sizes), torch.bucketize(rows, sizes)
    limit = _MAX_CANDIDATES
    if devices.in_bulk(columns.device):
        wide = high = torch.maximum(wide, high)
        limit *= 256
    kind = wide * len(_BOXES) + high
    runs, start = [], 0
    for number, count in enumerate(torch.bincount(kind, minlength=len(_BOXES) ** 2).tolist()):
        width, height = (min(_BOXES[i], side) for i in divmod(number, len(_BOXES)))
        most = max(1, limit // (width * height))
        runs += [(at, min(at + most, start + count), width, height) for at in range(start, start + count, most)]
        start += count
    return kind.argsort(stable=True), runs


def _edges(x: Float[Tensor, "3 T"], y: Float[Tensor, "3 T"], front: Tensor, grid: Grid) -> Float[Tensor, "3 3 T"]:
    """Return factors of column, row and 1 in the three edge functions, so that inside all are at least 0."""
    x1, y1, x2, y2 = x.roll(-1, 0), y.roll(-1, 0), x.roll(-2, 0), y.roll(-2, 0)
    sign = torch.where(front, -1.0, 1.0).to(x.dtype)
    rounding = _ROUNDING * (x.abs().amax(0) + y.abs().amax(0) + grid.side * grid.step + abs(grid.start)) ** 2
    edges = [(y1 - y2) * sign, (x2 - x1) * sign, (x1 * y2 - x2 * y1) * sign + rounding]
    return torch.stack(edges, 1)


def _levels(depth: Float[Tensor, "3 T"], sample: Int[Tensor, " T"], batch: int, bits: int) -> Float[Tensor, "3 T"]:
    """Return depths of corners in steps of which so many bits hold all that occur in the sample."""
    low, high = depth.amin(0), depth.amax(0)
    start = low.new_full((batch,), torch.inf).scatter_reduce_(0, sample, low, "amin")
    end = low.new_full((batch,), -torch.inf).scatter_reduce_(0, sample, high, "amax")
    unit = ((1 << bits) - 1) / (end - start).clamp(min=1e-9)
    return (depth - start.index_select(0, sample)) * unit.index_select(0, sample)


def _slopes(x: Float[Tensor, "3 T"], y: Float[Tensor, "3 T"], level: Float[Tensor, "3 T"]) -> Float[Tensor, "3 T"]:
    """Return the growth of a triangle's level a column and a row, and its level at column and row 0."""
    (x_b, x_c), (y_b, y_c), (rise_b, rise_c) = (v[1:] - v[0] for v in (x, y, level))
    area = x_b * y_c - y_b * x_c
    right = (rise_b * y_c - rise_c * y_b) / area
    down = (rise_c * x_b - rise_b * x_c) / area
    return torch.stack([right, down, level[0] - right * x[0] - down * y[0]])


def _covered(
    boxes: _Boxes, width: int, height: int, grid: Grid, face_bits: int
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Test all places of boxes of one size: the places inside the triangles, and their keys."""
    # Boxes are moved into the picture rather than cut: what lies outside the triangle fails the test.
    column = boxes.column.clamp(max=grid.side - width)
    row = boxes.row.clamp(max=grid.side - height)
    x = grid.at(column[:, None] + torch.arange(width, device=column.device))
    y = grid.at(row[:, None] + torch.arange(height, device=row.device))
    inside = _plane(boxes.edges[0], x, y)
    for edge in boxes.edges[1:]:
        torch.minimum(inside, _plane(edge, x, y), out=inside)
    if devices.in_bulk(inside.device):
        return _all_candidates(boxes, inside, column, row, x, y, grid, face_bits)
    cell = (inside >= 0).view(-1).nonzero()[:, 0]
    which = torch.div(cell, width * height, rounding_mode="floor")
    within = cell - which * (width * height)
    down = torch.div(within, width, rounding_mode="floor")
    corner = boxes.offset + row * grid.side + column
    pixel = corner.index_select(0, which) + down * (grid.side - width) + within
    level = _plane(boxes.slopes, x, y).view(-1).index_select(0, cell)
    low, high = (limit.index_select(0, which) for limit in boxes.limits)
    # A sliver's slopes may be wildly wrong; its depths never leave those of its corners.
    level = torch.minimum(torch.maximum(level, low), high).long()
    return pixel, (level << face_bits) | boxes.triangle.index_select(0, which)


def _all_candidates(
    boxes: _Boxes,
    inside: Float[Tensor, "n height width"],
    column: Int[Tensor, " n"],
    row: Int[Tensor, " n"],
    x: Float[Tensor, "n width"],
    y: Float[Tensor, "n height"],
    grid: Grid,
    face_bits: int,
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Return all places of boxes, those outside the triangles with a key that loses: to list the others is to wait."""
    height, width = inside.shape[1:]
    down = torch.arange(height, device=row.device)[:, None] * grid.side + torch.arange(width, device=row.device)
    pixel = (boxes.offset + row * grid.side + column)[:, None, None] + down
    low, high = boxes.limits[:, :, None, None]
    level = torch.minimum(torch.maximum(_plane(boxes.slopes, x, y), low), high).long()
    key = (level << face_bits) | boxes.triangle[:, None, None]
    return pixel.flatten(), torch.where(inside >= 0, key, torch.iinfo(torch.int64).max).flatten()


def _plane(
    factors: Float[Tensor, "3 n"], x: Float[Tensor, "n width"], y: Float[Tensor, "n height"]
) -> Float[Tensor, "n height width"]:
    """Evaluate planes, given by their factors of column, row and 1, at all places of their boxes."""
    a, b, c = factors
    return (a[:, None] * x)[:, None, :] + (b[:, None] * y + c[:, None])[:, :, None]


def _seen(screen: Screen, pixel: Int[Tensor, " P"], triangle: Int[Tensor, " P"], grid: Grid) -> SeenPixels:
    """Work out where on its triangle each place that sees one looks."""
    sample, corners = screen.sample.index_select(0, triangle), screen.corners.index_select(0, triangle)
    line = torch.div(pixel, grid.side, rounding_mode="floor")
    x, y, depth, stretch = _columns(screen.points, corners)
    dx = x - grid.at(pixel - line * grid.side)
    dy = y - grid.at(line - sample * grid.side)
    weights = dx.roll(-1, 0) * dy.roll(-2, 0) - dx.roll(-2, 0) * dy.roll(-1, 0)
    front = screen.front.index_select(0, triangle)
    weights = torch.where(front, -weights, weights).clamp(min=0) / stretch
    total = weights.sum(0)
    weights = torch.where(total > 0, weights / total, 1 / 3)
    depth = (weights * depth).sum(0)
    own = corners - sample[:, None] * screen.num_vertices
    face = screen.face.index_select(0, triangle)
    return SeenPixels(pixel, sample, face, own, weights.T.contiguous(), depth, front)
