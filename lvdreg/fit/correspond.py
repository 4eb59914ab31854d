"""Which point of the scan belongs to which point of the body, in both directions, and which pairs to believe.

Pairs must agree in place and in the way their surfaces face: nearest neighbours are sought among (position, reach *
normal), so that the front of an arm never pairs with its back. Where the scan has a hole, or sees one side only, body
points find only points beside them, not above them: such pairs are dropped, so holes are not punished. A hand ends at
its wrist: what lies beyond the rim there is nearest to the rim, and pulls at nothing.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from scipy.spatial import cKDTree

from lvdreg.base.errors import RegistrationError
from lvdreg.base.lengths import length_field
from lvdreg.base.shapes import BoolArray, Faces, FloatArray, IntArray, Points, Transform, Vertices
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import is_reflected, transform_directions, transform_points
from lvdreg.geometry.graphs import pieces_of
from lvdreg.geometry.mesh import (
    boundary_vertices,
    closest_point_on_mesh,
    flipped,
    interpolate,
    mesh_normals,
    on_rim,
    unit_rows,
)
from lvdreg.scan.model import Scan


@dataclass(frozen=True)
class TrimConfig:
    """What of a scan a hand can explain: neither forearm nor what it holds; lengths in metres, of a person.

    Chosen by hand on synthetic hands with forearms and things; not tuned.
    """

    margin: float = length_field(0.09)
    """What is nearest to the wrist's rim, and further than this, is forearm."""
    near: float = length_field(0.06)
    far: float = length_field(0.14)
    """Connected chunks of scan that all lie further from the hand than the first, and somewhere than the second, are
    no hand."""
    sigmas: float = 1.0
    """So many sigmas of the nearest vertices are taken off the distance first."""
    link: float = 1.5
    """Points closer than so many times the distance to the sixth neighbour are connected."""


SPACING_POINTS, SPACINGS = 1000, 2.0
"""From so many samples the spacing of a scan is estimated; a place so many spacings from one is between samples."""


@dataclass(frozen=True)
class Target:
    """The scan in the world frame: oriented points, evenly spread, and its mesh where it has one."""

    points: Points
    """(P, 3) metres."""
    normals: Float64[np.ndarray, "P 3"]
    """(P, 3) unit and outward; zeros where unknown."""
    scan_vertices: Vertices | None = None
    scan_faces: Faces | None = None

    @cached_property
    def rim_points(self) -> FloatArray:
        """Vertices (R, 3) of the scan's mesh on the rims of its holes and cuts; none where it has no mesh."""
        if self.scan_vertices is None or self.scan_faces is None:
            return np.zeros((0, 3))
        return self.scan_vertices[boundary_vertices(self.scan_faces, len(self.scan_vertices))]

    def check(self) -> None:
        """Refuse what nothing can be fitted to.

        Raises:
            RegistrationError: there is hardly a point.
        """
        if len(self.points) < 10:
            raise RegistrationError(
                f"only {len(self.points)} points of the scan are near what was found: it may show something else; "
                "check the scan"
            )


def target_of(
    scan: Scan,
    points: Points,
    normals: Float64[np.ndarray, "P 3"],
    T_world_scan: Transform,
) -> Target:
    """Bring a scan and the oriented points sampled from it (scan frame) to the world frame, mirrored where that is."""
    whole = None if scan.faces is None else transform_points(T_world_scan, scan.points)
    directions = transform_directions(T_world_scan, normals)
    faces = flipped(scan.faces) if scan.faces is not None and is_reflected(T_world_scan) else scan.faces
    return Target(transform_points(T_world_scan, points), directions, whole, faces)


@dataclass(frozen=True)
class PosedSurface:
    """The body as posed: vertices (V, 3), faces (F, 3), its ``rim`` (V,) and unit vertex normals (V, 3).

    ``rim`` marks the vertices where the body ends though what was scanned goes on; None: it is closed.
    """

    vertices: Vertices
    faces: Faces
    rim: Bool[np.ndarray, " V"] | None = None
    normals: Float64[np.ndarray, "V 3"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "normals", mesh_normals(self.vertices, self.faces))


@dataclass(frozen=True)
class Pairs:
    """Body points paired with scan points.

    ``corners`` (N, 3) and ``bary`` (N, 3) say where the body points are on the body; ``directions`` (N, 3) are unit,
    outward, and half-way between both surfaces' normals; ``is_valid`` (N,) tells which pairs count.
    """

    corners: Int64[np.ndarray, "N 3"]
    bary: Float64[np.ndarray, "N 3"]
    body_points: Float64[np.ndarray, "N 3"]
    scan_points: Float64[np.ndarray, "N 3"]
    directions: Float64[np.ndarray, "N 3"]
    is_valid: Bool[np.ndarray, " N"]

    @property
    def heights(self) -> Float64[np.ndarray, " N"]:
        """How far the body lies outside the scan's surface (N,), metres; negative inside."""
        return np.einsum("ni,ni->n", self.body_points - self.scan_points, self.directions)

    @property
    def distances(self) -> Float64[np.ndarray, " N"]:
        """Distance between paired points (N,), metres."""
        return np.linalg.norm(self.body_points - self.scan_points, axis=1)

    @property
    def nearest_corners(self) -> Int64[np.ndarray, " N"]:
        """The corner (N,) with the most weight in each body point.

        Closest points often lie on edges, and the last digits say which of the faces there is found: ask what lies at
        a point by all its weights, or by this corner, never by the first corner of its face.
        """
        return np.take_along_axis(self.corners, self.bary.argmax(1)[:, None], 1)[:, 0]


class ScanIndex:
    """A scan made ready for pairing.

    Args:
        target: The scan.
        reach: Metres that opposite normals are apart: half of the distance at which facing the right way still decides.
        count: Use at most so many points.
        seed: Of the choice of points.
    """

    def __init__(self, target: Target, reach: float, count: int, seed: int = 0) -> None:
        order = np.random.default_rng(seed).permutation(len(target.points))[:count]
        self.points, self.normals = target.points[order], target.normals[order]
        self.reach = reach
        self.known = np.linalg.norm(self.normals, axis=1) > 0.5
        self._tree = cKDTree(np.hstack([self.points, reach * self.normals]))
        plain = cKDTree(self.points)
        self.spacing = float(np.median(plain.query(self.points, k=2)[0][:, 1])) if len(order) > 1 else 0.0
        self.on_rim = self._near_rim(target)

    def _near_rim(self, target: Target) -> BoolArray:
        """Mark points beside a cut of the scan's mesh: what pairs with them may belong to the missing part."""
        if not len(target.rim_points):
            return np.zeros(len(self.points), bool)
        return cKDTree(target.rim_points).query(self.points)[0] < self.spacing

    def pair_body(self, surface: PosedSurface, index: IntArray, reach: float, min_cosine: float) -> Pairs:
        """Pair body vertices with the scan.

        Args:
            surface: The posed body.
            index: (N,) vertices to pair.
            reach: Pairs further apart than this are not valid, metres.
            min_cosine: Nor those whose normals agree less.
        """
        points, normals = surface.vertices[index], surface.normals[index]
        found = self._tree.query(np.hstack([points, self.reach * normals]))[1]
        corners, bary = _at_vertices(index)
        pairs = self._pairs(corners, bary, points, normals, found, reach, min_cosine)
        offset = points - self.points[found]
        along = np.einsum("ni,ni->n", offset, pairs.directions)
        beside = np.linalg.norm(offset - along[:, None] * pairs.directions, axis=1)
        # Above a seen patch the nearest point lies across the normal, up to the spacing; over a hole it lies beside.
        seen = beside < 3 * self.spacing + 0.5 * np.abs(along) + 0.2 * reach
        return replace(pairs, is_valid=pairs.is_valid & seen & ~self.on_rim[found])

    def pair_scan(self, surface: PosedSurface, chosen: IntArray, reach: float, min_cosine: float, exact: bool) -> Pairs:
        """Pair scan points with the body.

        Args:
            surface: The posed body.
            chosen: (N,) scan points to pair.
            reach: Pairs further apart than this are not valid, metres.
            min_cosine: Nor those whose normals agree less.
            exact: Closest points of the surface where these face the right way, not only vertices.
        """
        points, normals = self.points[chosen], self.normals[chosen]
        corners, bary = np.empty((len(chosen), 3), np.int64), np.empty((len(chosen), 3))
        elsewhere = np.ones(len(chosen), bool)
        if exact:
            close = closest_point_on_mesh(points, surface.vertices, surface.faces)
            corners, bary = np.asarray(surface.faces[close.face], np.int64), close.bary
            facing = np.einsum("ni,nji,nj->n", normals, surface.normals[corners], bary)
            elsewhere = ~(facing > min_cosine) & self.known[chosen]
        if elsewhere.any():
            tree = cKDTree(np.hstack([surface.vertices, self.reach * surface.normals]))
            found = tree.query(np.hstack([points, self.reach * normals])[elsewhere])[1]
            corners[elsewhere], bary[elsewhere] = _at_vertices(found)
        body_points = np.einsum("nj,nji->ni", bary, surface.vertices[corners])
        body_normals = unit_rows(np.einsum("nj,nji->ni", bary, surface.normals[corners]))
        pairs = self._pairs(corners, bary, body_points, body_normals, chosen, reach, min_cosine)
        if surface.rim is None:
            return pairs
        return replace(pairs, is_valid=pairs.is_valid & ~on_rim(surface.rim, corners, bary))

    def _pairs(
        self,
        corners: IntArray,
        bary: FloatArray,
        body_points: FloatArray,
        body_normals: FloatArray,
        found: IntArray,
        reach: float,
        min_cosine: float,
    ) -> Pairs:
        scan_points, normals = self.points[found], self.normals[found]
        agree = np.einsum("ni,ni->n", normals, body_normals)
        near = np.linalg.norm(body_points - scan_points, axis=1) < reach
        is_valid = near & ((agree > min_cosine) | ~self.known[found])
        return Pairs(corners, bary, body_points, scan_points, unit_rows(normals + body_normals), is_valid)


def _at_vertices(index: IntArray) -> tuple[IntArray, FloatArray]:
    """Write vertices as points of a surface: each its own corner three times, all weight on the first."""
    index = np.asarray(index, np.int64)
    return np.stack([index] * 3, axis=1), np.tile([1.0, 0.0, 0.0], (len(index), 1))


def scan_distances(target: Target, surface: PosedSurface, count: int = 4000) -> Float64[np.ndarray, " P"]:
    """Return the distance (N,) from scan points to the surface, metres; at most ``count`` points, evenly chosen.

    Points beyond the rim of the surface are left out.
    """
    step = max(1, len(target.points) // count)
    hit = closest_point_on_mesh(target.points[::step], surface.vertices, surface.faces)
    if surface.rim is None:
        return hit.distance
    return hit.distance[~on_rim(surface.rim, surface.faces[hit.face], hit.bary)]


def scan_gaps(target: Target, points: Points) -> Float64[np.ndarray, " N"]:
    """Return how far places (N, 3) lie from what the scan shows, metres: in front of or behind it, or beyond its end.

    Samples of the scan lie apart; that a place lies between them does not make it unseen.
    """
    tree = cKDTree(target.points)
    some = target.points[:: max(1, len(target.points) // SPACING_POINTS)]
    spacing = SPACINGS * float(np.median(tree.query(some, k=2)[0][:, -1]))
    distance, nearest = tree.query(points)
    height = np.abs(np.einsum("ni,ni->n", points - target.points[nearest], target.normals[nearest]))
    beside = np.sqrt(np.maximum(distance**2 - height**2, 0.0))
    return np.asarray(np.hypot(height, np.maximum(beside - spacing, 0.0)))


def scan_noise(points: Points, normals: Float64[np.ndarray, "P 3"], count: int = 2000) -> float:
    """Return the roughness of a scan in metres: how far neighbours lie apart along their common normal.

    Returns:
        A robust standard deviation from at most ``count`` points; 0 where no normals are known.
    """
    known = np.flatnonzero(np.linalg.norm(normals, axis=1) > 0.5)
    if len(known) < 10:
        return 0.0
    some = known[:: max(1, len(known) // count)]
    near = cKDTree(points).query(points[some], k=7)[1][:, 1:]
    # A chord of a bent surface lies across the mean of its end normals, so curvature does not count as noise.
    middle = unit_rows(normals[near] + normals[some][:, None])
    heights = np.einsum("nki,nki->nk", points[near] - points[some][:, None], middle)
    # Both ends are noisy: the difference spreads by the square root of two more.
    return float(1.48 * np.median(np.abs(heights)) / np.sqrt(2))


def rim_of(faces: Faces, num_vertices: int) -> Bool[np.ndarray, " V"] | None:
    """Return which vertices (V,) are the rim of an open body, None for a closed one."""
    rim = boundary_vertices(faces, num_vertices)
    return rim if rim.any() else None


def posed_surface(body: BodyModel, params: BodyParams) -> PosedSurface:
    """Pose a body, displacements included, world frame, metres."""
    with torch.no_grad():
        vertices = body(params).vertices.double().numpy()
    return PosedSurface(vertices, body.data.faces, rim_of(body.data.faces, body.num_vertices))


def trim(
    target: Target,
    surface: PosedSurface,
    sigma: FloatArray | None,
    config: TrimConfig | None,
    margin: float | None = None,
) -> Target:
    """Cut a scan down to what a body can explain: off goes what lies beyond its rim, and what it holds or touches.

    Points given more than once are kept once, or their spacing would be zero. Normals that on the whole face into the
    body are turned over: with things in a hand, the signs found without knowing the hand may be wrong.

    Args:
        target: The scan, world frame.
        surface: The body about where it lies.
        sigma: One-sigma of its vertices (V,), metres: where it may be off by much, much is kept; None: it is exact.
        config: Settings; None: all of it is body.
        margin: Instead of the one in ``config``.

    Returns:
        The scan without these points, and without the faces of its mesh around them.
    """
    if config is None:
        return target
    target = distinct(target)
    margin = config.margin if margin is None else margin
    hit = closest_point_on_mesh(target.points, surface.vertices, surface.faces)
    corners = surface.faces[hit.face]
    beyond = np.zeros(len(target.points), bool)
    if surface.rim is not None:
        beyond = on_rim(surface.rim, corners, hit.bary)
    apart = np.where(beyond, 0.0, hit.distance)
    if sigma is not None:
        apart = apart - config.sigmas * np.einsum("pi,pi->p", sigma[corners], hit.bary)
    facing = np.einsum("pi,pji,pj->p", target.normals, surface.normals[corners], hit.bary)
    if facing[~beyond & (hit.distance < config.near)].sum() < 0:
        target = _turned_over(target)
    keep = ~((beyond & (hit.distance > margin)) | _chunks_apart(target.points, apart, config))
    if target.scan_vertices is None or target.scan_faces is None:
        return replace(target, points=target.points[keep], normals=target.normals[keep])
    kept = keep[cKDTree(target.points).query(target.scan_vertices)[1]]
    faces = target.scan_faces[kept[target.scan_faces].all(1)]
    return replace(target, points=target.points[keep], normals=target.normals[keep], scan_faces=faces)


def distinct(target: Target) -> Target:
    """Return a scan with every point once: clouds with too few points come with some repeated."""
    first = np.sort(np.unique(target.points, axis=0, return_index=True)[1])
    if len(first) == len(target.points):
        return target
    return replace(target, points=target.points[first], normals=target.normals[first])


def _turned_over(target: Target) -> Target:
    faces = None if target.scan_faces is None else flipped(target.scan_faces)
    return replace(target, normals=-target.normals, scan_faces=faces)


def _chunks_apart(points: FloatArray, apart: FloatArray, config: TrimConfig) -> BoolArray:
    """Mark points of connected chunks that lie apart everywhere, and far apart somewhere: a finger in the wrong place
    is as thick as it is far, what is held is thicker."""
    marked = np.zeros(len(points), bool)
    loose = np.flatnonzero(apart > config.near)
    if not (apart > config.far).any():
        return marked
    tree = cKDTree(points[loose])
    spacing = float(np.median(cKDTree(points).query(points[loose], k=min(7, len(points)))[0][:, -1]))
    labels = pieces_of(tree.query_pairs(config.link * spacing, output_type="ndarray"), len(loose))
    farthest = np.zeros(labels.max() + 1)
    np.maximum.at(farthest, labels, apart[loose])
    marked[loose] = farthest[labels] > config.far
    return marked


__all__ = [
    "Pairs",
    "ScanIndex",
    "PosedSurface",
    "Target",
    "distinct",
    "interpolate",
    "posed_surface",
    "rim_of",
    "scan_distances",
    "scan_noise",
    "target_of",
    "trim",
]
