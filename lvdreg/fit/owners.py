"""Whose the surface of a scan is, once it is known where its people are: of the nearest, and of a piece."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from lvdreg.base.shapes import FloatArray
from lvdreg.fit.correspond import PosedSurface
from lvdreg.geometry.mesh import closest_point_on_mesh
from lvdreg.scan.cuts import SurfaceGraph

NEAR = 0.03
"""One-sigma, metres, of how far a person's surface lies from the body."""
FAR = 0.02
"""How likely a place is, of what it is on the body, where nothing is known of whose it is: further than 2.8 sigma."""
FACING = 0.06
"""What faces the other way than the body counts as so much further away, metres."""
BELIEF = 0.1
"""How strongly that holds against a neighbour that faces the same way."""


def owners(graph: SurfaceGraph, surfaces: Sequence[PosedSurface], metres: float) -> Int64[np.ndarray, " S"]:
    """Return whose each sample is (S,), by its number among the bodies.

    Args:
        graph: Of samples of the scan, scan frame.
        surfaces: Of the bodies, scan frame.
        metres: By unit of the scan.
    """
    distances = np.stack([_distances(graph, surface, metres) for surface in surfaces], 1)
    near = np.exp(-0.5 * (distances / NEAR) ** 2)
    likely = near / (near.sum(1, keepdims=True) + FAR)
    return np.asarray(graph.shared_out(likely, BELIEF).argmax(1), np.int64)


def _distances(graph: SurfaceGraph, surface: PosedSurface, metres: float) -> FloatArray:
    """Return how far samples lie from a body (S,), metres."""
    hit = closest_point_on_mesh(graph.points, surface.vertices, surface.faces)
    own = np.einsum("sji,sj->si", surface.normals[surface.faces[hit.face]], hit.bary)
    cosine: Float64[np.ndarray, " S"] = np.einsum("si,si->s", own, graph.normals)
    return np.asarray(metres * hit.distance + FACING * np.clip(-cosine, 0, 1))
