"""A small software renderer: orthographic z-buffer, no window, no driver, the same picture on every machine."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lvdreg.geometry.mesh import FloatArray, IntArray, interpolate, unit_rows

# Light from the viewer's upper left, in view axes (x right, y up, z towards the viewer).
KEY_LIGHT = np.array([-0.42, 0.56, 0.71])
# Candidate pixels held at once; bounds the memory of very large triangles to about 100 MB.
MAX_CANDIDATES = 1_000_000


@dataclass(frozen=True)
class Raster:
    """What each pixel sees.

    Attributes:
        index: (H, W) number of the face or point seen, -1 where there is none.
        depth: (H, W) distance from the viewer in pixels, up to a constant; infinite where nothing is seen.
        weights: (H, W, 3) barycentric weights of the face's corners; zero where nothing is seen and for points.
    """

    index: IntArray
    depth: FloatArray
    weights: FloatArray

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) True where something is seen."""
        return self.index >= 0


@dataclass(frozen=True)
class Fragments:
    """Pixels that some faces or points cover, nearest not yet chosen."""

    pixel: IntArray
    depth: FloatArray
    index: IntArray
    weights: FloatArray | None


def rasterise(points_px: FloatArray, faces: IntArray, height: int, width: int) -> Raster:
    """Draw triangles into a z-buffer; a pixel sees what lies at its centre (column + 0.5, row + 0.5).

    Args:
        points_px: (V, 3) column, row and depth, all in pixels; smaller depth is nearer. Faces with a non-finite corner
            are left out.
        faces: (F, 3) corners; both sides are drawn.
        height: Rows of the picture.
        width: Columns of the picture.
    Returns:
        The nearest face of every pixel.
    """
    corners = points_px[faces]
    number = np.flatnonzero(np.isfinite(corners).all((1, 2)))
    number = number[doubled_areas(corners[number]) != 0]
    # The pixel centres inside each face's bounding box; most small faces have none and end here.
    first = np.ceil(corners[number, :, :2].min(1) - 0.5).clip(0, [width, height]).astype(np.int64)
    last = np.floor(corners[number, :, :2].max(1) - 0.5).clip(-1, [width - 1, height - 1]).astype(np.int64)
    size = last - first + 1
    drawn = (size > 0).all(1)
    number, first, size = number[drawn], first[drawn], size[drawn]
    parts = [cover(corners[number[part]], number[part], first[part], size[part], width) for part in by_size(size)]
    return nearest(parts, height, width)


def doubled_areas(corners: FloatArray) -> FloatArray:
    """Return twice the signed area of each face (F, 3, 3) as the viewer sees it."""
    a, b, c = corners[:, 0, :2], corners[:, 1, :2], corners[:, 2, :2]
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


def by_size(size: IntArray) -> Iterator[IntArray]:
    """Group boxes (F, 2) into runs of alike extent, so that each run can be tested as one array."""
    if not len(size):
        return
    order = np.argsort(size.max(1), kind="stable")
    largest = size.max(1)[order]
    start = 0
    while start < len(order):
        # Up to twice the smallest box of the run: at most a factor of four of tests is wasted.
        end = int(np.searchsorted(largest, max(2, 2 * largest[start]), side="right"))
        box = int(largest[end - 1]) ** 2
        end = min(end, start + max(1, MAX_CANDIDATES // box))
        yield order[start:end]
        start = end


def cover(corners: FloatArray, number: IntArray, first: IntArray, size: IntArray, width: int) -> Fragments:
    """Return the pixels whose centre lies in one of the faces ``corners`` (F, 3, 3) with boxes ``first``, ``size``."""
    extent = size.max(0)
    grid = np.stack(np.meshgrid(np.arange(extent[0]), np.arange(extent[1])), -1).reshape(-1, 2)
    face, cell = np.nonzero((grid[:, 0] < size[:, :1]) & (grid[:, 1] < size[:, 1:]))
    pixel = first[face] + grid[cell]
    w_b, w_c = corner_weights(corners, face, pixel + 0.5)
    w_a = 1 - w_b - w_c
    inside = (w_a >= 0) & (w_b >= 0) & (w_c >= 0)
    face, pixel, weights = face[inside], pixel[inside], np.stack([w_a[inside], w_b[inside], w_c[inside]], -1)
    depth = np.einsum("ni,ni->n", weights, corners[face, :, 2])
    return Fragments(pixel[:, 1] * width + pixel[:, 0], depth, number[face], weights)


def corner_weights(corners: FloatArray, face: IntArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the barycentric weights (N,) of the second and third of ``corners[face]`` at the positions (N, 2)."""
    a, b, c = corners[:, 0, :2], corners[:, 1, :2], corners[:, 2, :2]
    inverse = 1 / doubled_areas(corners)
    edge_ab, edge_ac = ((b - a) * inverse[:, None])[face], ((c - a) * inverse[:, None])[face]
    offset = at - a[face]
    w_b = offset[:, 0] * edge_ac[:, 1] - offset[:, 1] * edge_ac[:, 0]
    w_c = edge_ab[:, 0] * offset[:, 1] - edge_ab[:, 1] * offset[:, 0]
    return w_b, w_c


def splat(points_px: FloatArray, radius_px: float, height: int, width: int) -> Raster:
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
    return nearest([Fragments(flat, depth, number[point], None)], height, width)


def nearest(parts: list[Fragments], height: int, width: int) -> Raster:
    """Keep the nearest fragment of every pixel."""
    index = np.full(height * width, -1, np.int64)
    depth = np.full(height * width, np.inf)
    weights = np.zeros((height * width, 3))
    for part in parts:
        np.minimum.at(depth, part.pixel, part.depth)
        # Fragments of earlier parts that lie behind are written over; of equally near ones the last stays.
        kept = part.depth == depth[part.pixel]
        pixel = part.pixel[kept]
        index[pixel] = part.index[kept]
        if part.weights is not None:
            weights[pixel] = part.weights[kept]
    return Raster(index.reshape(height, width), depth.reshape(height, width), weights.reshape(height, width, 3))


def seen_values(raster: Raster, faces: IntArray, values: FloatArray) -> FloatArray:
    """Interpolate vertex values (V, C) over the N seen pixels (``raster.mask``, row by row): (N, C)."""
    return interpolate(values, faces, raster.index[raster.mask], raster.weights[raster.mask])


def smooth_over(mask: NDArray[np.bool_], values: FloatArray, sigma: float) -> FloatArray:
    """Blur (H, W) values over the mask only, by normalised convolution; zero outside."""
    total = gaussian_filter(np.where(mask, values, 0.0), sigma, truncate=2.5)
    share = gaussian_filter(mask.astype(np.float64), sigma, truncate=2.5)
    return np.where(mask, total / np.maximum(share, 1e-9), 0.0)


def depth_normals(raster: Raster, sigma: float) -> FloatArray:
    """Estimate view-space normals (N, 3) of the N seen pixels from the depth picture, for points that bring none."""
    depth = np.where(raster.mask, smooth_over(raster.mask, raster.depth, sigma), np.nan)
    slope_down, slope_right = (np.nan_to_num(np.gradient(depth, axis=axis)) for axis in (0, 1))
    # A point (x, y up, z towards the viewer) has z = -depth and y = -row.
    normals = np.stack([slope_right, -slope_down, np.ones_like(depth)], -1)
    return unit_rows(normals[raster.mask])


def hollows(raster: Raster, reach_px: int) -> FloatArray:
    """Say how deep each of the N seen pixels lies behind its surroundings: (N,), in units of ``reach_px``.

    A cheap stand-in for ambient occlusion. The surroundings are smooth, so a quarter of the resolution will do.
    """
    step = 4
    mean = smooth_over(raster.mask[::step, ::step], raster.depth[::step, ::step], reach_px / step)
    rows, columns = np.nonzero(raster.mask)
    around = mean[rows // step, columns // step]
    depth = raster.depth[rows, columns]
    return np.where(raster.mask[::step, ::step][rows // step, columns // step], depth - around, 0) / reach_px


def shade(raster: Raster, normals: FloatArray, colours: FloatArray, reach_px: int) -> FloatArray:
    """Light a picture: key light, headlight, darkened rims and hollows.

    Args:
        raster: What each pixel sees; N pixels see something.
        normals: (N, 3) in view axes; either sign, turned to the viewer here.
        colours: (N, 3) surface colours, 0 to 1.
        reach_px: Size of the hollows that are darkened, pixels.
    Returns:
        (H, W, 4) colours and coverage, 0 to 1.
    """
    normals = normals * np.where(normals[:, 2:] < 0, -1, 1)
    facing = normals[:, 2].clip(0, 1)
    light = 0.32 + 0.50 * (normals @ KEY_LIGHT).clip(0, 1) + 0.24 * facing - 0.16 * (1 - facing) ** 3
    light *= 1 - 0.2 * hollows(raster, reach_px).clip(0, 2)
    shine = 0.10 * (normals @ unit_rows(KEY_LIGHT + np.array([0, 0, 1]))).clip(0, 1) ** 24
    out = np.zeros((*raster.index.shape, 4))
    out[raster.mask, :3] = (colours * light[:, None] + shine[:, None]).clip(0, 1)
    out[..., 3] = raster.mask
    return out


def halve(picture: FloatArray) -> FloatArray:
    """Average 2 x 2 pixels (H, W, 4) into one, colours weighed by coverage: the antialiasing."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    picture = picture[: 2 * height, : 2 * width]
    weighed = np.concatenate([picture[..., :3] * picture[..., 3:], picture[..., 3:]], -1)
    rows = weighed[::2] + weighed[1::2]
    out = (rows[:, ::2] + rows[:, 1::2]) / 4
    out[..., :3] /= np.maximum(out[..., 3:], 1e-9)
    return out
