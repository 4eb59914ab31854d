"""Geometry of meshes and point sets: normals, areas, sampling, nearest points, Laplacians.

Torch functions are batched and differentiable where they say so; numpy ones work in float64 on single meshes. Lengths
are in the unit of the input and every function is frame-free.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from lvdreg.base.errors import ScanError
from lvdreg.base.shapes import Faces, IntArray, Points, Vertices
from lvdreg.base.threads import side_by_side
from lvdreg.geometry.nearest import find_backend

# Training needs this module but no sparse matrices: it runs with torch and numpy alone.
if TYPE_CHECKING:
    import scipy.sparse as sp


FACES_AT_ONCE = 1 << 17
"""Normals of more faces are computed in pieces, side by side: the same bits."""


def face_normals(vertices: Vertices, faces: Faces) -> Float64[np.ndarray, "F 3"]:
    """Return the unnormalised normals (F, 3) of a mesh: their lengths are twice the face areas."""
    by_axis = np.ascontiguousarray(vertices.T)

    def piece(some: Faces) -> Float64[np.ndarray, "G 3"]:
        a, b, c = np.ascontiguousarray(some.T)
        # Coordinate by coordinate: a quarter of the time of np.cross on rows, and the same bits.
        start = [axis[a] for axis in by_axis]
        u, v = ([axis[end] - x for axis, x in zip(by_axis, start, strict=True)] for end in (b, c))
        return np.stack([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]], axis=1)

    if len(faces) <= FACES_AT_ONCE:
        return piece(faces)
    return np.concatenate(
        side_by_side(piece, [faces[i : i + FACES_AT_ONCE] for i in range(0, len(faces), FACES_AT_ONCE)])
    )


def flipped(faces: Faces) -> Faces:
    """Return the faces (F, 3) wound the other way: what a reflection asks for."""
    return faces[:, [0, 2, 1]]


def face_areas(vertices: Vertices, faces: Faces) -> Float64[np.ndarray, " F"]:
    """Return the area (F,) of each face."""
    return 0.5 * np.linalg.norm(face_normals(vertices, faces), axis=1)


def vertex_areas(vertices: Vertices, faces: Faces) -> Float64[np.ndarray, " V"]:
    """Return a third of the area of the faces around each vertex, (V,): the sum is the area of the mesh."""
    areas = np.repeat(face_areas(vertices, faces) / 3, 3)
    return np.bincount(faces.ravel(), weights=areas, minlength=len(vertices)).astype(np.float64)


def volume_slopes(vertices: Vertices, faces: Faces) -> Vertices:
    """Return how the volume that a closed mesh encloses changes with each vertex (V, 3)."""
    corners = vertices[faces]
    slopes = np.stack([np.cross(corners[:, i - 2], corners[:, i - 1]) for i in range(3)], 1).reshape(-1, 3) / 6
    columns = [np.bincount(faces.ravel(), weights=slopes[:, i], minlength=len(vertices)) for i in range(3)]
    return np.stack(columns, axis=1)


def enclosed_volume(vertices: Vertices, faces: Faces) -> float:
    """Return the volume that a closed mesh, wound outwards, encloses."""
    return float((volume_slopes(vertices, faces) * vertices).sum() / 3)


def mesh_normals(vertices: Vertices, faces: Faces) -> Vertices:
    """Return unit vertex normals (V, 3), area weighted; zero where no face gives a direction."""
    per_corner = np.repeat(face_normals(vertices, faces), 3, axis=0)
    columns = [np.bincount(faces.ravel(), weights=per_corner[:, i], minlength=len(vertices)) for i in range(3)]
    return unit_rows(np.stack(columns, axis=1))


def unit_rows(vectors: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N 3"]:
    """Scale vectors (..., 3) to unit length; zero vectors stay zero, and those without a finite length become it."""
    with np.errstate(all="ignore"):  # damaged files hold anything
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        usable = (lengths > 0) & (lengths < np.inf)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=usable)


def vertex_normals(vertices: Float[Tensor, "*B V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*B V 3"]:
    """Return unit vertex normals, area weighted. Differentiable and batched; zero where undefined."""
    a, b, c = (vertices[..., faces[:, i], :] for i in range(3))
    crosses = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for i in range(3):
        total = total.index_add(-2, faces[:, i], crosses)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-20)


def sample_surface(
    vertices: Vertices, faces: Faces, num_points: int, rng: np.random.Generator
) -> tuple[Points, Int64[np.ndarray, " P"], Points]:
    """Draw points by area, one from each of equal slices of it: more even than independent draws.

    Returns:
        Points (P, 3), the face of each (P,), and barycentric coordinates (P, 3).

    Raises:
        ScanError: the mesh has no area.
    """
    below = np.cumsum(face_areas(vertices, faces))
    if not len(below) or not below[-1] > 0:
        raise ScanError("expected a surface with an area, got a degenerate mesh; clean the scan first")
    places = (np.arange(num_points) + rng.random(num_points)) / num_points * below[-1]
    index = np.minimum(np.searchsorted(below, places, side="right"), len(below) - 1)
    u, v = rng.random((2, num_points))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    bary = np.stack([1 - u - v, u, v], axis=1)
    return interpolate(vertices, faces, index, bary), index, bary


def interpolate(
    values: Float64[np.ndarray, "V C"],
    faces: Faces,
    index: Int64[np.ndarray, " P"],
    bary: Float64[np.ndarray, "P 3"],
) -> Float64[np.ndarray, "P C"]:
    """Interpolate per-vertex values (V, C) at barycentric points of the faces ``index``; returns (P, C)."""
    return np.einsum("pi,pic->pc", bary, values[faces[index]])


def barycentric(points: Points, triangles: Float64[np.ndarray, "P 3 3"]) -> Points:
    """Return barycentric coordinates (P, 3) of points (P, 3) in the planes of triangles (P, 3, 3).

    Coordinates are clipped to the triangle and sum to one; a degenerate triangle gives its nearest corner.
    """
    a = triangles[:, 0]
    e1, e2, d = triangles[:, 1] - a, triangles[:, 2] - a, points - a
    d11, d12, d22 = (np.einsum("pi,pi->p", x, y) for x, y in ((e1, e1), (e1, e2), (e2, e2)))
    b1, b2 = np.einsum("pi,pi->p", d, e1), np.einsum("pi,pi->p", d, e2)
    det = d11 * d22 - d12 * d12
    good = det > 1e-12 * np.maximum(d11 * d22, 1e-300)
    safe = np.where(good, det, 1.0)
    v, w = (d22 * b1 - d12 * b2) / safe, (d11 * b2 - d12 * b1) / safe
    bary = np.clip(np.stack([1 - v - w, v, w], axis=1), 0, None)
    nearest = np.linalg.norm(triangles - points[:, None], axis=2).argmin(1)
    bary = np.where(good[:, None], bary, np.eye(3)[nearest])
    return bary / bary.sum(1, keepdims=True)


@dataclass(frozen=True)
class SurfacePoints:
    """Closest points on a mesh: ``points`` (P, 3), ``distance`` (P,), ``face`` (P,), ``bary`` (P, 3)."""

    points: Points
    distance: Float64[np.ndarray, " P"]
    face: Int64[np.ndarray, " P"]
    bary: Float64[np.ndarray, "P 3"]


def closest_point_on_mesh(
    points: Points,
    vertices: Vertices,
    faces: Faces,
    backend: str | None = None,
) -> SurfacePoints:
    """Find the closest point of the surface to each query point, exact.

    Args:
        points: (P, 3).
        vertices: (V, 3).
        faces: (F, 3).
        backend: One of ``nearest.BACKENDS``; None: what LVDREG_BACKEND says, and the default (libigl) without.

    Raises:
        UsageError: there is no such backend, or it is not installed.
    """
    distance, closest, face = find_backend(backend).closest_on_mesh(points, vertices, faces)
    return SurfacePoints(closest, distance, face, barycentric(closest, vertices[faces[face]]))


def nearest_neighbours(
    queries: Float64[np.ndarray, "Q 3"], points: Points, backend: str | None = None
) -> tuple[Float64[np.ndarray, " Q"], Int64[np.ndarray, " Q"]]:
    """Return distance (Q,) and index (Q,) of the nearest of ``points`` to each query, exact.

    Args:
        queries: (Q, 3).
        points: (P, 3).
        backend: One of ``nearest.BACKENDS``; None: what LVDREG_BACKEND says, and the default (SciPy) without.

    Raises:
        UsageError: there is no such backend, or it is not installed.
    """
    return find_backend(backend).nearest_points(queries, points)


def farthest_points(points: Float64[np.ndarray, "P D"], count: int) -> Int64[np.ndarray, " S"]:
    """Return indices of at most ``count`` points, each the farthest from those before it; the first is index 0."""
    count = min(count, len(points))
    index = np.zeros(count, np.int64)
    distance = np.full(len(points), np.inf)
    for i in range(1, count):
        distance = np.minimum(distance, ((points - points[index[i - 1]]) ** 2).sum(1))
        index[i] = distance.argmax()
    return index


def edges_of(faces: Faces) -> Int64[np.ndarray, "E 2"]:
    """Return the unique undirected edges (E, 2) of a triangle mesh, smaller index first."""
    return np.unique(np.sort(_half_edges(faces), axis=1), axis=0)


def boundary_vertices(faces: Faces, num_vertices: int) -> Bool[np.ndarray, " V"]:
    """Mark the vertices (V,) that lie on an edge with one face only: rims of holes and cuts."""
    ends = np.sort(_half_edges(faces), axis=1)
    # One number for each edge: sorting pairs takes ten times as long.
    keys, count = np.unique(ends[:, 0] * num_vertices + ends[:, 1], return_counts=True)
    mask = np.zeros(num_vertices, bool)
    mask[np.concatenate(np.divmod(keys[count == 1], num_vertices))] = True
    return mask


def on_rim(
    rim: Bool[np.ndarray, " V"], corners: Int64[np.ndarray, "P 3"], bary: Float64[np.ndarray, "P 3"]
) -> Bool[np.ndarray, " P"]:
    """Say which points (P,) of a surface lie on an edge between rim vertices or at a rim vertex.

    Args:
        rim: (V,) from ``boundary_vertices``.
        corners: (P, 3) vertices whose mixture each point is.
        bary: (P, 3) its weights.
    """
    used = bary > 1e-6
    return np.logical_and(~np.all(used, axis=1), np.all(rim[corners] | ~used, axis=1))


def _half_edges(faces: IntArray) -> IntArray:
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def uniform_laplacian(faces: Faces, num_vertices: int) -> "sp.csr_matrix":
    """Return the umbrella operator (V, V): ``(L x)_i = x_i - mean of the neighbours``; zero rows for lone vertices."""
    import scipy.sparse as sp

    edges = edges_of(faces)
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    adjacency = sp.csr_matrix((np.ones(len(i)), (i, j)), shape=(num_vertices, num_vertices))
    degree = np.asarray(adjacency.sum(1)).ravel()
    inverse = np.divide(1.0, degree, out=np.zeros(num_vertices), where=degree > 0)
    return sp.csr_matrix(sp.diags((degree > 0).astype(float)) - sp.diags(inverse) @ adjacency)


def cotangent_laplacian(vertices: Vertices, faces: Faces, clamp: float = 10.0) -> "sp.csr_matrix":
    """Return the symmetric positive semi-definite cotangent matrix (V, V) (Pinkall and Polthier 1993).

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        clamp: Each cotangent is clipped to [1 / clamp, clamp]: slivers and obtuse faces then keep positive weights, and
            the maximum principle holds.
    """
    import scipy.sparse as sp

    num = len(vertices)
    rows, columns, weights = [], [], []
    for k in range(3):
        i, j, o = faces[:, (k + 1) % 3], faces[:, (k + 2) % 3], faces[:, k]
        u, v = vertices[i] - vertices[o], vertices[j] - vertices[o]
        sine = np.linalg.norm(np.cross(u, v), axis=1)
        cot = np.einsum("fi,fi->f", u, v) / np.maximum(sine, 1e-20)
        rows.append(i)
        columns.append(j)
        weights.append(0.5 * np.clip(cot, 1 / clamp, clamp))
    i, j, w = np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)
    half = sp.csr_matrix((w, (i, j)), shape=(num, num))
    adjacency = half + half.T
    return sp.csr_matrix(sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency)
