"""How far a body that was found in a photo is from the truth, once what no photo tells has been taken away.

Two ways of aligning, and nothing is ever turned:

``as seen``  across the line of sight the body stays where the photo shows it; it is brought to the scale of the true
             camera (where the person's height was told, it keeps its own size), and shifted along the line of sight.
``moved``    besides, it is shifted in all directions and scaled to lie nearest to the truth, as evaluations by iterated
             closest points do.

Both see surfaces only, so that scans and bodies of any mesh are treated alike; corresponding vertices are aligned by
themselves. Metres; x right, y up, z towards the viewer.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.spatial import cKDTree

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.geometry.metrics import Surface, corresponding_vertex_errors, nearest_vertex, point_to_surface
from lvdreg.image.camera import Camera

REACH, STEPS = 0.4, 17
"""Shifts along the line of sight are tried this far either way from where the middles meet, metres, and so many."""
TRIED_POINTS = 1000
ROUNDS = 30
SOFT = 0.005
TOLERANCE = 2e-4
"""Metres: rounds that move nothing further end the search."""
AS_SEEN, MOVED = "as seen", "moved"


@dataclass(frozen=True)
class Distances:
    """Distances of one body to the truth, mm.

    Attributes:
        v2v: From vertices to the nearest vertex, mean of both ways.
        v2s: From vertices to the surface, mean of both ways.
        v2v_model: From the vertices of the body alone.
        v2s_model: From the vertices of the body alone.
    """

    v2v: float
    v2s: float
    v2v_model: float
    v2s_model: float


def placed(points: FloatArray, camera: Camera, true: Camera, size_is_told: bool = False) -> FloatArray:
    """Bring points (N, 3) of the world of one camera to that of the true one, so that both see them alike.

    Args:
        points: Metres.
        camera: The weak-perspective camera that they were found with.
        true: The true one.
        size_is_told: Whether the points are in true metres: then they keep their size about their world's origin, which
            alone is seen where it was.
    """
    origin = (camera.project(np.zeros(3)) - true.centre) / true.scale * [1.0, -1.0]
    return points * (1.0 if size_is_told else camera.scale / true.scale) + [*origin, 0.0]


def distances(points: FloatArray, faces: IntArray, truth: Surface) -> Distances:
    """Return the distances between the surface of points (V, 3) and the truth, as they lie."""
    found = Surface(points, faces)
    v2v, v2s = nearest_vertex(truth, found), point_to_surface(truth, found)
    return Distances(
        (v2v.scan_to_model_mm + v2v.model_to_scan_mm) / 2,
        (v2s.scan_to_model_mm + v2s.model_to_scan_mm) / 2,
        v2v.model_to_scan_mm,
        v2s.model_to_scan_mm,
    )


def at_best_depth(model: Surface, truth: Surface) -> FloatArray:
    """Shift a body along z to where it lies nearest to the truth: the mean distance of both ways is least.

    Returns:
        The points (V, 3) of the model, shifted.
    """
    points = model.points
    (few, ours), (some, theirs) = _some(model), _some(truth)
    trees = cKDTree(points), cKDTree(truth.points)

    def apart(z: float) -> float:
        shift = np.array([0.0, 0.0, z])
        return float(ours @ trees[1].query(few + shift)[0] + theirs @ trees[0].query(some - shift)[0])

    middle = _middle_depth(truth.points) - _middle_depth(points)
    tried = middle + np.linspace(-REACH, REACH, STEPS)
    best = float(tried[int(np.argmin([apart(z) for z in tried]))])
    step = 2 * REACH / (STEPS - 1)
    found = minimize_scalar(apart, bounds=(best - step, best + step), method="bounded", options={"xatol": 2e-4})
    return points + [0.0, 0.0, float(found.x)]


def at_best_place(model: Surface, truth: Surface) -> FloatArray:
    """Shift and scale a body by iterated closest points, both ways.

    Returns:
        The points (V, 3) of the model after the round that leaves the least mean distance.
    """
    points, own = model.points, model.weights()
    tree, (some, theirs) = cKDTree(truth.points), _some(truth)
    best, least = points, np.inf
    for _ in range(ROUNDS):
        few, ours = _some(Surface(points), own)
        (there, to_truth), (back, to_points) = tree.query(few), cKDTree(points).query(some)
        apart = float(ours @ there + theirs @ back)
        best, least = (points, apart) if apart < least else (best, least)
        pairs = np.concatenate([few, points[to_points]]), np.concatenate([truth.points[to_truth], some])
        # Divided by the distance, squares count as distances do: what is least is their mean, as it is measured.
        weights = np.concatenate([ours / (there + SOFT), theirs / (back + SOFT)])
        moved = similar(*pairs, weights, points)
        if float(np.abs(moved - points).max()) < TOLERANCE:
            break
        points = moved
    return best


def similar(ours: FloatArray, theirs: FloatArray, weights: FloatArray, points: FloatArray) -> FloatArray:
    """Shift and scale points (V, 3) as brings ``ours`` (N, 3) nearest to ``theirs`` (N, 3) in weighted squares."""
    centre, goal = (np.average(x, axis=0, weights=weights) for x in (ours, theirs))
    a, b = ours - centre, theirs - goal
    scale = float((weights[:, None] * a * b).sum() / max((weights[:, None] * a * a).sum(), 1e-12))
    return (points - centre) * scale + goal


def corresponding(points: FloatArray, true: FloatArray, faces: IntArray, alignment: str) -> FloatArray:
    """Return the distance (V,) in mm between vertices of the same index, aligned as in ``AS_SEEN`` or ``MOVED``.

    Args:
        points: (V, 3) where the camera sees them.
        true: (V, 3).
        faces: (F, 3) of both.
        alignment: By area-weighted least squares of the vertices themselves.
    """
    areas = vertex_areas(true, faces)
    if alignment == MOVED:
        return corresponding_vertex_errors(similar(points, true, areas, points), true)
    shift = np.average(true[:, 2] - points[:, 2], weights=areas)
    return corresponding_vertex_errors(points + [0.0, 0.0, shift], true)


def _some(surface: Surface, weights: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Return some of the points of a surface, and the share of each in a mean over it."""
    chosen = slice(None, None, max(1, len(surface.points) // TRIED_POINTS))
    share = (surface.weights() if weights is None else weights)[chosen]
    return surface.points[chosen], share / share.sum()


def _middle_depth(points: FloatArray) -> float:
    return float(points[:, 2].min() + points[:, 2].max()) / 2
