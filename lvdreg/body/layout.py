"""Carry a UV layout from a fine mesh to one that was thinned from it.

Build-time code: the free bodies get their layouts once, by `scripts/build_layouts.py`. Thinning pays no heed to seams,
so some faces lie across one. Each face takes the side that its centre is on; corners beyond the seam are put where the
layout would go on.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lvdreg.base.shapes import Faces, FloatArray, IntArray, Vertices
from lvdreg.geometry.mesh import closest_point_on_mesh

GRID = 2.0**16
"""Coordinates are rounded to 1 / GRID."""
NEAR = 0.7
"""Two places in a layout are one if they are closer than this share of the size of the faces around."""


@dataclass(frozen=True)
class FineLayout:
    """A mesh with a layout: vertices (V, 3), faces (F, 3), coordinates (T, 2), and those of faces' corners (F, 3)."""

    vertices: Vertices
    faces: Faces
    uv: Float64[np.ndarray, "T 2"]
    corners: Int64[np.ndarray, "F 3"]


def carried_layout(
    fine: FineLayout, vertices: Float64[np.ndarray, "S 3"], faces: Int64[np.ndarray, "G 3"]
) -> tuple[Float64[np.ndarray, "R 2"], Int64[np.ndarray, "G 3"]]:
    """Return coordinates and those of each face's corners for a coarser mesh that lies on a fine one.

    Corners of faces at one vertex share their coordinates unless a seam lies between them.
    """
    places = vertices[faces]
    found = closest_point_on_mesh(places.mean(1), fine.vertices, fine.faces)
    guess = _continued(fine, found.face, places)
    reach = np.linalg.norm(guess - guess.mean(1, keepdims=True), axis=2).max(1)
    exact = _nearest_copies(fine, places, guess, NEAR * reach)
    shared = _shared_corners(faces, exact, reach)
    uv = np.stack([np.bincount(shared, exact[..., i].ravel()) / np.bincount(shared) for i in range(2)], 1)
    return np.round(uv * GRID) / GRID, shared.reshape(-1, 3)


def _continued(fine: FineLayout, index: IntArray, places: FloatArray) -> FloatArray:
    """Return coordinates (G, 3, 2) of points (G, 3, 3) as the layout of the faces ``index`` goes on in their plane."""
    corners, uv = fine.vertices[fine.faces[index]], fine.uv[fine.corners[index]]
    sides = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 2)
    moves = np.stack([uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]], 2)
    slopes = moves @ np.linalg.pinv(sides)
    out: FloatArray = uv[:, :1] + np.einsum("gij,gkj->gki", slopes, places - corners[:, :1])
    return out


def _nearest_copies(fine: FineLayout, places: FloatArray, guess: FloatArray, limit: FloatArray) -> FloatArray:
    """Replace guesses by what the fine layout has at that very vertex, if it has something within ``limit``."""
    own = np.asarray(cKDTree(fine.vertices).query(places.reshape(-1, 3))[1])
    pairs = np.unique(np.stack([fine.faces.ravel(), fine.corners.ravel()], 1), axis=0)
    start = np.searchsorted(pairs[:, 0], np.arange(len(fine.vertices) + 1))
    out = guess.reshape(-1, 2).copy()
    for i, (vertex, most) in enumerate(zip(own, np.repeat(limit, 3), strict=True)):
        copies = fine.uv[pairs[start[vertex] : start[vertex + 1], 1]]
        distance = np.linalg.norm(copies - out[i], axis=1)
        if len(copies) and distance.min() < most:
            out[i] = copies[distance.argmin()]
    return out.reshape(guess.shape)


def _shared_corners(faces: IntArray, uv: FloatArray, reach: FloatArray) -> IntArray:
    """Number the corners (3 G,) of faces: those of one vertex that lie on each other, nearly, have one number."""
    flat, near = uv.reshape(-1, 2), NEAR * np.repeat(reach, 3)
    order = np.argsort(faces.ravel(), kind="stable")
    bounds = np.flatnonzero(np.diff(faces.ravel()[order], prepend=-1, append=-1))
    pairs = []
    for begin, end in pairwise(bounds):
        own = order[begin:end]
        i, j = np.triu_indices(len(own), 1)
        i, j = own[i], own[j]
        alike = np.linalg.norm(flat[i] - flat[j], axis=1) < np.minimum(near[i], near[j])
        pairs.append(np.stack([i[alike], j[alike]]))
    i, j = np.concatenate(pairs, 1)
    graph = coo_matrix((np.ones(len(i)), (i, j)), shape=(len(flat), len(flat)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
