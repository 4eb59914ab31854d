"""Outlines in a picture: of a mask, and of a body as a camera sees it.

Both are points with outward normals in the plane of the picture: x right, y up. The body's lie on edges of its mesh
between a face that looks at the viewer and one that looks away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from lvdreg.base.shapes import Faces, FloatArray, IntArray, Vertices
from lvdreg.geometry.raster import rasterise

JUST_OUTSIDE = 1.5
"""Cells from an edge to where nothing of the body may be seen, if the edge is its outline."""


@dataclass(frozen=True)
class MaskOutline:
    """Where a mask ends: ``points`` (N, 2) and outward unit ``normals`` (N, 2)."""

    points: Float64[np.ndarray, "N 2"]
    normals: Float64[np.ndarray, "N 2"]


@dataclass(frozen=True)
class BodyOutline:
    """Where a body ends in the picture: points in the middle of edges of its mesh.

    Attributes:
        points: (N, 2).
        normals: (N, 2) outward, unit.
        edges: (N, 2) the edges' vertices.
        lengths: (N,) of the edges, in the picture.
    """

    points: Float64[np.ndarray, "N 2"]
    normals: Float64[np.ndarray, "N 2"]
    edges: Int64[np.ndarray, "N 2"]
    lengths: Float64[np.ndarray, " N"]


def mask_outline(mask: Float[np.ndarray, "H W"], blur: float = 1.0) -> MaskOutline:
    """Find where a mask (H, W) falls below one half, to a part of a pixel.

    Args:
        mask: 0 to 1.
        blur: Standard deviation, pixels, of the smoothing that turns stairs of hard masks into lines.

    Returns:
        Points and outward normals in the unit frame of the picture, which is [-1, 1] along its width: x right, y up.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(mask.astype(np.float64), blur, mode="nearest") - 0.5
    slopes = np.gradient(smooth)
    found = [_crossings(smooth, slopes, axis) for axis in range(2)]
    at, normals = (np.concatenate(parts) for parts in zip(*found, strict=True))
    height, width = mask.shape
    points = (at[:, ::-1] + 0.5) * [2, -2] / width + [-1, height / width]
    length = np.linalg.norm(normals, axis=1)
    sure = length > 1e-9
    # The mask falls outwards; rows grow downwards, y upwards.
    return MaskOutline(points[sure], (normals[:, ::-1] * [-1, 1] / np.maximum(length, 1e-9)[:, None])[sure])


def _crossings(values: FloatArray, slopes: Sequence[FloatArray], axis: int) -> tuple[FloatArray, FloatArray]:
    """Return where neighbours along an axis have different signs: row and column (N, 2), and the slopes there."""
    first = [slice(None), slice(None)]
    second = list(first)
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    a, b = values[tuple(first)], values[tuple(second)]
    rows, columns = np.nonzero((a >= 0) != (b >= 0))
    share = a[rows, columns] / (a[rows, columns] - b[rows, columns])
    at = np.stack([rows, columns], 1).astype(np.float64)
    at[:, axis] += share
    gradient = [s[tuple(first)][rows, columns] * (1 - share) + s[tuple(second)][rows, columns] * share for s in slopes]
    return at, np.stack(gradient, 1)


def edges_with_faces(faces: IntArray) -> tuple[IntArray, IntArray]:
    """Return the edges (E, 2) that two faces share, and these faces (E, 2); the first has the edge in its own order."""
    half = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    owner = np.repeat(np.arange(len(faces)), 3)
    keys = half.min(1) * (faces.max() + 1) + half.max(1)
    # The half-edge in ascending order comes first; only edges of exactly two faces wound alike are kept.
    order = np.lexsort((half[:, 0] > half[:, 1], keys))
    _, start, count = np.unique(keys[order], return_index=True, return_counts=True)
    first = order[start[count == 2]]
    second = order[start[count == 2] + 1]
    alike = half[first, 0] == half[second, 1]
    return half[first[alike]], np.stack([owner[first], owner[second]], 1)[alike]


def covered_cells(points: Vertices, faces: Faces, size: int) -> Bool[np.ndarray, "S S"]:
    """Return which cells (S, S) of the unit frame see a mesh; row 0 is at the top.

    Args:
        points: (V, 3) unit frame: x right, y up, z towards the viewer; the picture is [-1, 1]^2.
        faces: (F, 3).
        size: S.
    """
    cells = np.stack([(points[:, 0] + 1) * size / 2, (1 - points[:, 1]) * size / 2, -points[:, 2]], -1)
    return rasterise(cells, faces, size, size).mask


def body_outline(
    points: Vertices,
    faces: Faces,
    edges: Int64[np.ndarray, "E 2"],
    sides: Int64[np.ndarray, "E 2"],
    size: int,
) -> tuple[BodyOutline, Bool[np.ndarray, "S S"]]:
    """Find the outline of a mesh: edges where it turns away from the viewer, beyond which nothing of it is seen.

    Args:
        points: (V, 3) unit frame: x right, y up, z towards the viewer.
        faces: (F, 3).
        edges: (E, 2) from ``edges_with_faces``.
        sides: (E, 2) from there too.
        size: Cells along the picture by which is decided what is seen.

    Returns:
        The outline, and the covered cells (S, S). What lies outside of the picture is part of the outline too.
    """
    covered = covered_cells(points, faces, size)
    a, b, c = (points[faces[:, i], :2] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    fronts = (area > 0)[sides]
    turning = fronts[:, 0] != fronts[:, 1]
    edges, front_first = edges[turning], fronts[turning, 0]
    along = points[edges[:, 1], :2] - points[edges[:, 0], :2]
    # A front face lies to the left of its own edges, so outside is to their right.
    outward = np.stack([along[:, 1], -along[:, 0]], 1) * np.where(front_first, 1, -1)[:, None]
    lengths = np.linalg.norm(along, axis=1)
    middle = points[edges, :2].mean(1)
    normals = outward / np.maximum(lengths, 1e-12)[:, None]
    cell = (middle + normals * (2 * JUST_OUTSIDE / size)) * [0.5, -0.5] + 0.5
    index = np.floor(cell * size).astype(np.int64)
    within = ((index >= 0) & (index < size)).all(1)
    index = index.clip(0, size - 1)
    open_air = ~within | ~covered[index[:, 1], index[:, 0]]
    keep = open_air & (lengths > 1e-9)
    return BodyOutline(middle[keep], normals[keep], edges[keep], lengths[keep]), covered
