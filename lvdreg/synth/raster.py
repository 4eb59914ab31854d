"""What the pixels of a camera see of triangles: a z-buffer in pure torch, for batches, watertight and exact.

Edge functions are taken in float64, and what is inside but for their rounding counts as inside: faces that share an
edge or a corner never all miss a pixel centre on it. The nearest face is found by one minimum over keys of depth and face number, so the result depends neither
on the order of the work nor on the rest of the batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.synth.camera import Cameras
from lvdreg.synth.outer import Outer

NEAREST = 0.05
"""Faces with a corner nearer to the camera's plane than this, metres, are dropped."""
_BOXES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192)
_ROUNDING = 2.0**-49  # of an edge function, as a share of the largest coordinate's square
_FLAT = 1e-12  # twice the area, in pixels, below which a triangle is only a line
_MAX_CANDIDATES = 1 << 17  # pixels tested at once: what still fits into a processor's cache


@dataclass(frozen=True)
class Raster:
    """What each pixel sees.

    Attributes:
        face: Number of the nearest face, -1 where there is none.
        bary: Weights of its corners, perspective-correct; zero where nothing is seen.
        depth: Along the camera's axis from the anchor, metres; infinite where nothing is seen.
        front: Whether the face is seen from outside (counter-clockwise).
    """

    face: Int[Tensor, "B S S"]
    bary: Float[Tensor, "B S S 3"]
    depth: Float[Tensor, "B S S"]
    front: Bool[Tensor, "B S S"]


@dataclass(frozen=True)
class Screen:
    """Triangles on the screen: T of all samples that face_keep and the camera leave.

    Attributes:
        points: Column, row, and depth over ``1 + perspective * depth`` of all vertices of all samples; the last is
            affine on the screen, and grows with the depth.
        stretch: ``1 + perspective * depth``.
        depth: Metres.
        sample: Of each triangle.
        face: Its number.
        corners: Its vertices' rows among ``points``.
        front: Whether it is seen from outside.
        batch: Number of samples.
    """

    points: Float[Tensor, "M 3"]
    stretch: Float[Tensor, " M"]
    depth: Float[Tensor, " M"]
    sample: Int[Tensor, " T"]
    face: Int[Tensor, " T"]
    corners: Int[Tensor, "T 3"]
    front: Bool[Tensor, " T"]
    batch: int

    @property
    def num_vertices(self) -> int:
        """Vertices of one sample."""
        return len(self.points) // self.batch


@dataclass(frozen=True)
class Seen:
    """The P pixels that see something, in the order of samples, rows and columns.

    Attributes:
        pixel: Number of the pixel, counted through all samples, rows and columns.
        sample: Its sample.
        face: The face seen.
        corners: The face's vertices.
        bary: Their weights, perspective-correct, float64.
        depth: Metres, float64.
        front: Whether the face is seen from outside.
    """

    pixel: Int[Tensor, " P"]
    sample: Int[Tensor, " P"]
    face: Int[Tensor, " P"]
    corners: Int[Tensor, "P 3"]
    bary: Float[Tensor, "P 3"]
    depth: Float[Tensor, " P"]
    front: Bool[Tensor, " P"]


@torch.no_grad()
def rasterise(outer: Outer, cameras: Cameras, size: int, cull: bool = False) -> Raster:
    """Find what every pixel centre of a square picture sees.

    Args:
        outer: Surfaces, world, metres; faces that are not kept are not seen.
        cameras: One for each sample.
        size: Width and height of the picture, pixels.
        cull: Leave out faces seen from inside.

    Returns:
        The nearest face of every pixel, and of equally near ones the first.
    """
    batch = len(outer.vertices)
    seen = look(place(outer, cameras, cull), size)
    shape = (batch, size, size)

    def spread(values: Tensor, empty: float) -> Tensor:
        out = values.new_full((batch * size * size, *values.shape[1:]), empty)
        out[seen.pixel] = values
        return out.view(*shape, *values.shape[1:])

    kind = outer.vertices.dtype
    face, front = spread(seen.face, -1), spread(seen.front, 0)
    return Raster(face, spread(seen.bary.to(kind), 0.0), spread(seen.depth.to(kind), torch.inf), front)


def place(outer: Outer, cameras: Cameras, cull: bool = False) -> Screen:
    """Bring triangles to the screen, in float64; the arguments are those of ``rasterise``."""
    cameras = cameras.double()
    column, row, depth = cameras.project(outer.vertices.double()).unbind(-1)
    stretch = 1 + cameras.perspective[:, None] * depth
    points = torch.stack([column, row, depth / stretch], -1)
    near = (stretch <= NEAREST * cameras.perspective[:, None]) | ~torch.isfinite(points).all(-1)
    keep = outer.face_keep & ~near[:, outer.faces].any(-1)
    first = torch.arange(len(points), device=points.device)[:, None, None] * points.shape[1]
    flat, all_corners = points.flatten(0, 1), outer.faces + first
    area = doubled_areas(flat[all_corners.reshape(-1), :2].view(*keep.shape, 3, 2))
    keep = keep & ((area < -_FLAT) if cull else (area.abs() > _FLAT))
    sample, face = keep.nonzero(as_tuple=True)
    # Rows run downwards: what is counter-clockwise to the eye has a negative area.
    front = area[sample, face] < 0
    return Screen(flat, stretch.flatten(), depth.flatten(), sample, face, all_corners[sample, face], front, len(points))


def doubled_areas(corners: Float[Tensor, "*T 3 2"]) -> Float[Tensor, "*T"]:
    """Return twice the signed area of triangles: positive where y follows x."""
    (ax, ay), (bx, by), (cx, cy) = (corner.unbind(-1) for corner in corners.unbind(-2))
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def look(screen: Screen, size: int, step: float = 1.0) -> Seen:
    """Find what is seen at the centres of a grid of size x size cells, each ``step`` pixels wide."""
    face_bits = max(1, len(screen.face)).bit_length()
    nothing = torch.iinfo(torch.int64).max
    nearest = torch.full((screen.batch * size * size,), nothing, dtype=torch.int64, device=screen.points.device)
    if len(screen.face):
        for pixel, key in _fragments(screen, size, step, face_bits):
            nearest.scatter_reduce_(0, pixel, key, "amin")
    pixel = (nearest != nothing).nonzero()[:, 0]
    return _seen(screen, pixel, nearest[pixel] & ((1 << face_bits) - 1), size, step)


def _fragments(
    screen: Screen, size: int, step: float, face_bits: int
) -> Iterator[tuple[Int[Tensor, " n"], Int[Tensor, " n"]]]:
    """Yield the pixels that triangles cover, with keys: depth, then number of the triangle in the lower bits."""
    corners = screen.points[screen.corners]
    first = torch.ceil(corners[..., :2].amin(1) / step - 0.5).clamp(0, size).long()
    last = torch.floor(corners[..., :2].amax(1) / step - 0.5).clamp(-1, size - 1).long()
    drawn = (last >= first).all(1).nonzero()[:, 0]
    first, extent, corners = first[drawn], (last - first + 1)[drawn], corners[drawn]
    edges = _edges(corners, screen.front[drawn], size * step)
    levels = _levels(screen.sample[drawn], corners, screen.batch, 62 - face_bits)
    offset = screen.sample[drawn] * (size * size)
    for rows, width, height in _by_box(extent, size):
        column = first[rows, 0].clamp(max=size - width)
        row = first[rows, 1].clamp(max=size - height)
        which, right, down = _inside(edges[rows], column, row, width, height, step)
        column, row, triangle = column[which] + right, row[which] + down, rows[which]
        depth = _depth_key(levels, triangle, column, row, step)
        yield offset[triangle] + row * size + column, (depth << face_bits) | drawn[triangle]


def _edges(corners: Float[Tensor, "T 3 3"], front: Bool[Tensor, " T"], size: float) -> Float[Tensor, "T 3 3"]:
    """Return factors of column, row and 1 of three edge functions each, positive inside; the first is for corner 0."""
    x, y = corners[..., 0], corners[..., 1]
    x1, y1, x2, y2 = x.roll(-1, 1), y.roll(-1, 1), x.roll(-2, 1), y.roll(-2, 1)
    edges = torch.stack([y1 - y2, x2 - x1, x1 * y2 - x2 * y1], -1)
    edges = torch.where(front[:, None, None], -edges, edges)
    edges[..., 2] += (_ROUNDING * (corners[..., :2].abs().amax((1, 2)) + size) ** 2)[:, None]
    return edges


def _levels(sample: Int[Tensor, " T"], corners: Float[Tensor, "T 3 3"], batch: int, bits: int) -> Float[Tensor, "T 7"]:
    """Return each triangle's depth as integer levels: first corner (x, y, level), slopes, least and largest level."""
    low, high = corners[..., 2].amin(1), corners[..., 2].amax(1)
    start = low.new_full((batch,), torch.inf).scatter_reduce_(0, sample, low, "amin")
    end = low.new_full((batch,), -torch.inf).scatter_reduce_(0, sample, high, "amax")
    unit = ((1 << bits) - 1) / (end - start).clamp(min=1e-9)
    level = (corners[..., 2] - start[sample, None]) * unit[sample, None]
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    rise_b, rise_c = level[:, 1] - level[:, 0], level[:, 2] - level[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    slope_x = (rise_b * ac[:, 1] - rise_c * ab[:, 1]) / area
    slope_y = (rise_c * ab[:, 0] - rise_b * ac[:, 0]) / area
    return torch.stack([a[:, 0], a[:, 1], level[:, 0], slope_x, slope_y, level.amin(1), level.amax(1)], -1)


def _depth_key(levels: Tensor, triangle: Tensor, column: Tensor, row: Tensor, step: float) -> Int[Tensor, " n"]:
    x, y, level, slope_x, slope_y, low, high = levels[triangle].unbind(-1)
    depth = level + slope_x * ((column + 0.5) * step - x) + slope_y * ((row + 0.5) * step - y)
    # A sliver's slopes may be wildly wrong; its depths never leave those of its corners.
    return torch.minimum(torch.maximum(depth, low), high).long()


def _by_box(extent: Int[Tensor, "T 2"], size: int) -> Iterator[tuple[Int[Tensor, " n"], int, int]]:
    """Group triangles by the size of their bounding boxes, so that each group is tested as one array."""
    boxes = torch.tensor(_BOXES, device=extent.device)
    kind = torch.bucketize(extent, boxes)
    kind = kind[:, 0] * len(_BOXES) + kind[:, 1]
    order = kind.argsort(stable=True)
    start = 0
    for number, count in enumerate(torch.bincount(kind, minlength=len(_BOXES) ** 2).tolist()):
        if not count:
            continue
        width, height = (min(_BOXES[i], size) for i in divmod(number, len(_BOXES)))
        for part in order[start : start + count].split(max(1, _MAX_CANDIDATES // (width * height))):
            yield part, width, height
        start += count


def _inside(
    edges: Float[Tensor, "n 3 3"], column: Tensor, row: Tensor, width: int, height: int, step: float
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Return which triangle covers which cell of its box: triangle, cells to the right, cells down."""
    x = (column[:, None] + torch.arange(width, device=column.device) + 0.5) * step
    y = (row[:, None] + torch.arange(height, device=row.device) + 0.5) * step
    least: Tensor | None = None
    for a, b, c in (edge.unbind(-1) for edge in edges.unbind(1)):
        value = (a[:, None] * x)[:, None, :] + (b[:, None] * y + c[:, None])[:, :, None]
        least = value if least is None else torch.minimum(least, value, out=least)
    assert least is not None
    cell = (least >= 0).view(-1).nonzero()[:, 0]
    which = torch.div(cell, width * height, rounding_mode="floor")
    cell = cell - which * (width * height)
    down = torch.div(cell, width, rounding_mode="floor")
    return which, cell - down * width, down


def _seen(screen: Screen, pixel: Tensor, triangle: Tensor, size: int, step: float) -> Seen:
    """Work out where on its triangle each pixel that sees one looks."""
    rest = pixel % (size * size)
    y = (torch.div(rest, size, rounding_mode="floor") + 0.5) * step
    x = (rest % size + 0.5) * step
    corners = screen.corners[triangle]
    points = screen.points[corners]
    dx, dy = points[..., 0] - x[:, None], points[..., 1] - y[:, None]
    edge = dx.roll(-1, 1) * dy.roll(-2, 1) - dx.roll(-2, 1) * dy.roll(-1, 1)
    front = screen.front[triangle]
    weight = torch.where(front[:, None], -edge, edge).clamp(min=0) / screen.stretch[corners]
    total = weight.sum(1, keepdim=True)
    bary = torch.where(total > 0, weight / total, 1 / 3)
    depth = (bary * screen.depth[corners]).sum(1)
    sample = screen.sample[triangle]
    own = corners - sample[:, None] * screen.num_vertices
    return Seen(pixel, sample, screen.face[triangle], own, bary, depth, front)
