"""Errors by unambiguous names, in millimetres at true body size.

Every function takes metres (numpy float64, any one frame for all of its arguments) and returns millimetres. Over
vertices the mean is weighed by surface area, because head and hands hold most vertices of a body; over scans,
``summarise`` reports median, mean, 95th percentile, maximum and the number of failures.

==================== ==================================================================================================
corresponding_vertex vertices of the same index (LVD's "vertex error")
joint                joints of the same index
nearest_vertex       vertex to nearest vertex, both directions (LVD's V2V)
point_to_surface     point to nearest surface point, both directions (LVD's V2S)
body_to_body         point to surface between predicted and true naked body, both directions averaged
faust                through the registered surfaces from scan A to scan B, against the true point of B
==================== ==================================================================================================

Both-way distances leave out, on the model's side, what the scan never saw: see ``seen_points``. Scan to model alone
looks fine with a limb folded inside; model to scan without the exclusion punishes every hole of the scan.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.spatial import cKDTree

from lvdreg.base.lengths import length_field
from lvdreg.base.shapes import BoolArray, Faces, FloatArray, IntArray, Points, Vertices
from lvdreg.geometry.mesh import (
    SurfacePoints,
    boundary_vertices,
    closest_point_on_mesh,
    face_normals,
    interpolate,
    mesh_normals,
    nearest_neighbours,
    on_rim,
    unit_rows,
    vertex_areas,
)

MM = 1000.0
# A raw cloud has no rims, only spacing: this many median distances to the sixth neighbour count as covered, but of a
# person never less than a centimetre, since sensors with millimetre spacing still leave such gaps between their scan
# lines.
# Estimated normals are some degrees off, which moves a far point sideways: half its height is allowed on top.
COVER_SPACINGS = 3.0
MIN_COVER_M = 0.010
COVER_SLOPE = 0.5
NEIGHBOURS = 12
MEASURED_POINTS = 50_000
"""Of denser scans every other point, every third ... is measured."""


@dataclass(frozen=True)
class MeasureConfig:
    """Distances between scan and result; chosen by hand."""

    cover: float = length_field(MIN_COVER_M)
    """A point of a cloud covers at least so much around it, metres; see ``seen_points``."""


@dataclass(frozen=True)
class Surface:
    """A mesh, or a cloud of points where ``faces`` is None.

    Attributes:
        points: (P, 3), metres; the vertices of a mesh.
        faces: (F, 3) or None.
        normals: (P, 3) outward unit normals, zero where unknown, or None; of a mesh they are computed from the faces.
    """

    points: Points
    faces: Faces | None = None
    normals: Float64[np.ndarray, "P 3"] | None = None

    def weights(self) -> Float64[np.ndarray, " P"]:
        """Return the share of each point in a mean over the surface (P,): by area for a mesh, equal for a cloud."""
        areas = np.ones(len(self.points)) if self.faces is None else vertex_areas(self.points, self.faces)
        return areas / areas.sum()

    @cached_property
    def rim(self) -> BoolArray:
        """Vertices (P,) on the rim of a hole or a cut of a mesh."""
        assert self.faces is not None
        return boundary_vertices(self.faces, len(self.points))

    def point_normals(self) -> Points:
        """Return unit normals (P, 3), zero where unknown."""
        if self.faces is not None:
            return mesh_normals(self.points, self.faces)
        return np.zeros_like(self.points) if self.normals is None else self.normals


class BothWays(NamedTuple):
    """A distance in both directions.

    Attributes:
        scan_to_model_mm: Mean over the scan's surface.
        model_to_scan_mm: Mean over the part of the model's surface that the scan saw; NaN if it saw none.
        seen_share: That part's share of the model's area, 0 to 1.
    """

    scan_to_model_mm: float
    model_to_scan_mm: float
    seen_share: float


@dataclass(frozen=True)
class Summary:
    """Errors over scans. ``missing`` ones (not finite: nothing was registered) are failures, and in no other figure."""

    count: int
    median_mm: float
    mean_mm: float
    p95_mm: float
    max_mm: float
    failures: int
    missing: int
    failure_above_mm: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name, for a report."""
        return asdict(self)


def corresponding_vertex_errors(
    predicted: Float64[np.ndarray, "*N 3"], true: Float64[np.ndarray, "*N 3"]
) -> Float64[np.ndarray, "*N"]:
    """Return the distance (V,) in mm between vertices (V, 3) of the same index."""
    _same_shape(predicted, true)
    return np.linalg.norm(predicted - true, axis=-1) * MM


def corresponding_vertex(predicted: Vertices, true: Vertices, faces: Faces) -> float:
    """Return the mean distance in mm between vertices of the same index, weighed by the area of the true surface."""
    return _mean(corresponding_vertex_errors(predicted, true), vertex_areas(true, faces))


def joint(predicted: Float64[np.ndarray, "J 3"], true: Float64[np.ndarray, "J 3"]) -> float:
    """Return the mean distance in mm between joints (J, 3) of the same index."""
    _same_shape(predicted, true)
    return float(np.linalg.norm(predicted - true, axis=-1).mean() * MM)


def nearest_vertex(scan: Surface, model: Surface, cover: float = MIN_COVER_M) -> BothWays:
    """Return mean distances in mm from each point to the nearest vertex of the other, both directions."""
    to_model, _ = nearest_neighbours(scan.points[:: _step(scan)], model.points)
    to_scan, _ = nearest_neighbours(model.points, scan.points)
    return _both_ways(scan, model, to_model, to_scan, seen_points(scan, model, cover))


def point_to_surface(scan: Surface, model: Surface, cover: float = MIN_COVER_M) -> BothWays:
    """Return mean distances in mm from each point to the other's surface, both directions.

    Where the scan is a cloud, its surface near a point is the plane through that point across its normal: the distance
    to the point itself would add the spacing of the cloud to every figure.

    Args:
        scan: Metres.
        model: In the same frame.
        cover: See ``seen_points``.
    """
    (both,) = point_to_surfaces(scan, [model], cover)
    return both


def point_to_surfaces(scan: Surface, models: Sequence[Surface], cover: float = MIN_COVER_M) -> list[BothWays]:
    """Return ``point_to_surface`` for several models of one scan, whose search tree is built once."""
    hits = _closest(scan, np.concatenate([model.points for model in models]))
    ends = np.cumsum([len(model.points) for model in models])[:-1]
    parts = zip(*(np.split(x, ends) for x in (hits.points, hits.distance, hits.face, hits.bary)), strict=True)
    found = []
    for model, part in zip(models, parts, strict=True):
        hit = SurfacePoints(*part)
        to_model = _closest(model, scan.points[:: _step(scan)]).distance
        to_scan = hit.distance
        if scan.faces is None:
            normals = _normals_at(scan, hit)
            across = np.abs(np.einsum("pi,pi->p", model.points - hit.points, normals))
            # Beyond the covered patch the plane goes on for ever; there the point itself is all that is known.
            to_scan = np.where(_above(scan, model.points - hit.points, normals, cover), across, hit.distance)
        found.append(_both_ways(scan, model, to_model, to_scan, _seen(scan, model, hit, cover)))
    return found


def body_to_body(
    predicted: Vertices,
    true: Float64[np.ndarray, "W 3"],
    faces_predicted: Faces,
    faces_true: Int64[np.ndarray, "G 3"],
) -> float:
    """Return the point-to-surface distance in mm between two complete bodies, both directions averaged."""
    there = closest_point_on_mesh(predicted, true, faces_true).distance * MM
    back = closest_point_on_mesh(true, predicted, faces_predicted).distance * MM
    return 0.5 * (_mean(there, vertex_areas(predicted, faces_predicted)) + _mean(back, vertex_areas(true, faces_true)))


def seen_points(scan: Surface, model: Surface, cover: float = MIN_COVER_M) -> Bool[np.ndarray, " V"]:
    """Say which points of the model lie where the scan has surface.

    A point p of the model with normal n is seen if the nearest point q of the scan

    1. is not on a rim: for a mesh, q lies neither on a boundary edge nor at a boundary vertex; for a cloud, p lies
       above q: p - q is sideways to the scan's normal at q by no more than three spacings of the cloud (at least
       ``cover``, metres) plus half its height; and
    2. does not face away: n and the scan's normal at q make less than 90 degrees, where the scan has normals.

    A mesh without any rim has seen everything: there, 2 would only excuse a model that is inside out or folded. The
    length of p - q never decides, so a limb that is far from the scan is punished and not excused.

    Returns:
        Mask (V,) over the model's points.
    """
    return _seen(scan, model, _closest(scan, model.points), cover)


def _seen(scan: Surface, model: Surface, hit: SurfacePoints, cover: float) -> BoolArray:
    """Return ``seen_points`` for the points of the scan that are nearest to those of the model."""
    if scan.faces is not None and not scan.rim.any():
        return np.ones(len(model.points), bool)
    normals = _normals_at(scan, hit)
    if scan.faces is not None:
        covered = ~on_rim(scan.rim, scan.faces[hit.face], hit.bary)
    else:
        covered = _above(scan, model.points - hit.points, normals, cover)
    # Planes fitted to a cloud have no sign, and must not decide what faces away.
    known = _known_normals(scan, hit)
    facing = np.einsum("pi,pi->p", model.point_normals(), known)
    return covered & ((facing > 0) | ~known.any(1))


def carry(
    points: Points,
    from_vertices: Vertices,
    to_vertices: Vertices,
    faces: Faces,
) -> Points:
    """Carry points (N, 3) to the same place on another surface of the same faces, by way of the nearest point."""
    hit = closest_point_on_mesh(points, from_vertices, faces)
    return interpolate(to_vertices, faces, hit.face, hit.bary)


def faust_errors(
    vertices_a: Vertices,
    vertices_b: Vertices,
    faces: Faces,
    true_a: Points,
    true_b: Points,
) -> Float64[np.ndarray, " P"]:
    """Return the correspondence error (N,) in mm of each true point of scan A in scan B (FAUST, Bogo et al. 2014).

    Args:
        vertices_a: Our surface registered to scan A, (V, 3), in A's frame.
        vertices_b: The same for scan B, same vertex order, in B's frame.
        faces: (F, 3) of our surface.
        true_a: True points of A, (N, 3); any points will do, they need no topology in common with ours.
        true_b: The same points of the person in B, (N, 3).
    """
    _same_shape(true_a, true_b)
    return np.linalg.norm(carry(true_a, vertices_a, vertices_b, faces) - true_b, axis=-1) * MM


def faust(
    vertices_a: Vertices,
    vertices_b: Vertices,
    faces: Faces,
    true_a: Points,
    true_b: Points,
    weights: Float64[np.ndarray, " P"] | None = None,
) -> float:
    """Return the mean of ``faust_errors``, weighed by ``weights`` (N,), such as the areas around A's true points."""
    errors = faust_errors(vertices_a, vertices_b, faces, true_a, true_b)
    return _mean(errors, np.ones(len(errors)) if weights is None else weights)


@dataclass(frozen=True)
class Halves:
    """On which side of a body things are: 1 left, -1 right, 0 both or neither.

    Attributes:
        faces: (F,) of a surface.
        points: (P,) true points. Those of one side are looked for off the other: the surface next to them may be the
            other hand's.
    """

    faces: Int64[np.ndarray, " F"]
    points: Int64[np.ndarray, " P"]


def closest_in_halves(points: Points, vertices: Vertices, faces: Faces, halves: Halves | None) -> SurfacePoints:
    """Return the closest points of a surface, but on the other side of the body; see ``Halves``."""
    if halves is None:
        return closest_point_on_mesh(points, vertices, faces)
    num = len(points)
    found = SurfacePoints(np.zeros((num, 3)), np.zeros(num), np.zeros(num, np.int64), np.zeros((num, 3)))
    for side in (-1, 0, 1):
        chosen = np.flatnonzero(halves.points == side)
        allowed = np.flatnonzero(halves.faces != -side) if side else np.arange(len(faces))
        hit = closest_point_on_mesh(points[chosen], vertices, faces[allowed])
        found.points[chosen], found.distance[chosen], found.bary[chosen] = hit.points, hit.distance, hit.bary
        found.face[chosen] = allowed[hit.face]
    return found


def faust_pairs(
    vertices: Float64[np.ndarray, "S V 3"],
    faces: Faces,
    true_points: Float64[np.ndarray, "S P 3"],
    halves: Halves | None = None,
) -> Float32[np.ndarray, "S S P"]:
    """Return ``faust_errors`` of every ordered pair of scans, mm, row = A, column = B.

    Args:
        vertices: Our surfaces, (S, V, 3); NaN for a scan that was not registered.
        faces: (F, 3) of our surfaces.
        true_points: (S, P, 3).
        halves: On which side of the body things are, where it is known.

    Returns:
        (S, S, P); NaN on the diagonal and wherever a scan is missing.
    """
    num = len(vertices)
    errors = np.full((num, num, true_points.shape[1]), np.nan, np.float32)
    there = np.flatnonzero(np.isfinite(vertices).all((1, 2)))
    for a in there:
        hit = closest_in_halves(true_points[a], vertices[a], faces, halves)
        for b in there[there != a]:
            carried = interpolate(vertices[b], faces, hit.face, hit.bary)
            errors[a, b] = np.linalg.norm(carried - true_points[b], axis=-1) * MM
    return errors


def faust_sigma(
    sigma_mm: Float64[np.ndarray, "S V"],
    vertices: Float64[np.ndarray, "S V 3"],
    faces: Faces,
    true_points: Float64[np.ndarray, "S P 3"],
    halves: Halves | None = None,
) -> Float32[np.ndarray, "S S P"]:
    """Return what ``faust_pairs`` should be off by if one sigma is one sigma: both scans miss a point independently.

    Args:
        sigma_mm: One-sigma of the vertices of our surfaces, (S, V).
        vertices: Our surfaces, (S, V, 3), as for ``faust_pairs``, and so are the others.
        faces: (F, 3).
        true_points: (S, P, 3).
        halves: On which side of the body things are.

    Returns:
        (S, S, P), mm; NaN wherever a scan is missing.
    """
    variance = np.full((len(vertices), len(vertices), true_points.shape[1]), np.nan, np.float32)
    there = np.flatnonzero(np.isfinite(vertices).all((1, 2)))
    for a in there:
        hit = closest_in_halves(true_points[a], vertices[a], faces, halves)
        own, *others = (interpolate(sigma_mm[b][:, None], faces, hit.face, hit.bary)[:, 0] for b in (a, *there))
        for b, other in zip(there, others, strict=True):
            variance[a, b] = own**2 + other**2
    return np.asarray(np.sqrt(variance))


def faust_matrix(
    errors: Float32[np.ndarray, "S S P"], weights: Float64[np.ndarray, "S P"]
) -> tuple[Float64[np.ndarray, "S S"], Float64[np.ndarray, "S S"]]:
    """Return ``faust`` for every ordered pair of scans.

    Args:
        errors: Of ``faust_pairs``.
        weights: (S, P) of the points of A, such as the areas around them.

    Returns:
        Weighted mean and weighted median over the points, (S, S) each, mm; NaN where there are no errors.
    """
    mean, median = np.full(errors.shape[:2], np.nan), np.full(errors.shape[:2], np.nan)
    for a, b in zip(*np.nonzero(np.isfinite(errors).all(2)), strict=True):
        own = errors[a, b].astype(np.float64)
        mean[a, b], median[a, b] = _mean(own, weights[a]), weighted_median(own, weights[a])
    return mean, median


def summarise(values_mm: FloatArray | list[float], failure_mm: float) -> Summary:
    """Summarise one error per scan; those above ``failure_mm`` and those that are not finite are failures."""
    values = np.asarray(values_mm, np.float64)
    good = values[np.isfinite(values)]
    missing = len(values) - len(good)
    if len(good) == 0:
        nan = float("nan")
        return Summary(len(values), nan, nan, nan, nan, missing, missing, failure_mm)
    return Summary(
        count=len(values),
        median_mm=float(np.median(good)),
        mean_mm=float(good.mean()),
        p95_mm=float(np.percentile(good, 95)),
        max_mm=float(good.max()),
        failures=int((good > failure_mm).sum()) + missing,
        missing=missing,
        failure_above_mm=failure_mm,
    )


def weighted_median(values: Float64[np.ndarray, " N"], weights: Float64[np.ndarray, " N"]) -> float:
    """Return the smallest of ``values`` (N,) at and below which lies half of the weight."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(below, 0.5 * below[-1])]])


def _both_ways(scan: Surface, model: Surface, to_model: FloatArray, to_scan: FloatArray, seen: BoolArray) -> BothWays:
    weights = model.weights()
    back = _mean(to_scan[seen] * MM, weights[seen]) if seen.any() else float("nan")
    there = _mean(to_model * MM, scan.weights()[:: _step(scan)])
    return BothWays(there, back, float(weights[seen].sum()))


def _step(scan: Surface) -> int:
    """Return of how many points of a scan one is measured: means of dense scans need not all of them."""
    return max(1, len(scan.points) // MEASURED_POINTS)


def _closest(surface: Surface, points: FloatArray) -> SurfacePoints:
    """Find the nearest point of a mesh or of a cloud; for a cloud, ``face`` is the index of the point."""
    if surface.faces is not None:
        return closest_point_on_mesh(points, surface.points, surface.faces)
    distance, index = nearest_neighbours(points, surface.points)
    return SurfacePoints(surface.points[index], distance, index, np.ones((len(points), 3)) / 3)


def _known_normals(scan: Surface, hit: SurfacePoints) -> FloatArray:
    """Return the scan's own outward normals (P, 3) at closest points, zero where it has none."""
    if scan.faces is not None:
        return unit_rows(face_normals(scan.points, scan.faces))[hit.face]
    return scan.point_normals()[hit.face]


def _normals_at(scan: Surface, hit: SurfacePoints) -> FloatArray:
    """Return the scan's normals (P, 3) at closest points; of a cloud without any, up to their sign."""
    known = _known_normals(scan, hit)
    unknown = np.all(known == 0, axis=1, keepdims=True)
    return np.where(unknown, _plane_normals(scan.points, hit.face), known) if unknown.any() else known


def _plane_normals(points: FloatArray, index: IntArray) -> FloatArray:
    """Return the unsigned normals of planes through the nearest neighbours of some of the points of a cloud."""
    unique, inverse = np.unique(index, return_inverse=True)
    _, near = cKDTree(points).query(points[unique], k=min(NEIGHBOURS, len(points)))
    patches = points[near.reshape(len(unique), -1)]
    patches = patches - patches.mean(1, keepdims=True)
    # eigh sorts upwards: the first eigenvector is the direction in which the patch is thinnest.
    _, vectors = np.linalg.eigh(patches.transpose(0, 2, 1) @ patches)
    return np.asarray(vectors[:, :, 0])[inverse]


def _above(scan: Surface, offsets: FloatArray, normals: FloatArray, cover: float) -> BoolArray:
    """Say which offsets (P, 3) from points of a cloud stay above the patch that the point stands for."""
    height = np.einsum("pi,pi->p", offsets, normals)
    sideways = np.linalg.norm(offsets - height[:, None] * normals, axis=1)
    sixth, _ = cKDTree(scan.points).query(scan.points, k=[min(7, len(scan.points))])
    radius = max(COVER_SPACINGS * float(np.median(sixth)), cover)
    return np.asarray(sideways <= radius + COVER_SLOPE * np.abs(height))


def _mean(values: FloatArray, weights: FloatArray) -> float:
    return float(np.average(values, weights=weights))


def _same_shape(one: FloatArray, other: FloatArray) -> None:
    if one.shape != other.shape:
        raise ValueError(f"expected the same points twice, got shapes {one.shape} and {other.shape}")
