"""Which point of the scan belongs to which point of the body, in both directions, and which pairs to believe.

Pairs must agree in place and in the way their surfaces face: nearest neighbours are sought among (position, reach *
normal), so that the front of an arm never pairs with its back. Where the scan has a hole, or sees one side only, body
points find only points beside them, not above them: such pairs are dropped, so holes are not punished.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lvdreg.frames import transform_directions, transform_points
from lvdreg.geometry import boundary_vertices, closest_point_on_mesh, interpolate, mesh_normals, unit_rows
from lvdreg.scan import Scan

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Target:
    """The scan in the world frame: oriented points, evenly spread, and its mesh where it has one."""

    points: FloatArray
    """(P, 3) metres."""
    normals: FloatArray
    """(P, 3) unit and outward; zeros where unknown."""
    scan_vertices: FloatArray | None = None
    scan_faces: IntArray | None = None
    is_partial: bool = False
    """Large parts of the person were never seen."""


def target_of(scan: Scan, points: FloatArray, normals: FloatArray, T_world_scan: FloatArray) -> Target:
    """Bring a scan and the oriented points sampled from it (scan frame) to the world frame."""
    whole = None if scan.faces is None else transform_points(T_world_scan, scan.points)
    directions = transform_directions(T_world_scan, normals)
    return Target(transform_points(T_world_scan, points), directions, whole, scan.faces)


@dataclass(frozen=True)
class Surface:
    """The body as posed: vertices (V, 3), faces (F, 3) and unit vertex normals (V, 3)."""

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "normals", mesh_normals(self.vertices, self.faces))


@dataclass(frozen=True)
class Pairs:
    """Body points paired with scan points.

    ``corners`` (N, 3) and ``bary`` (N, 3) say where the body points are on the body; ``directions`` (N, 3) are unit,
    outward, and half-way between both surfaces' normals; ``believed`` (N,) tells which pairs count.
    """

    corners: IntArray
    bary: FloatArray
    body_points: FloatArray
    scan_points: FloatArray
    directions: FloatArray
    believed: BoolArray

    @property
    def heights(self) -> FloatArray:
        """How far the body lies outside the scan's surface (N,), metres; negative inside."""
        return np.einsum("ni,ni->n", self.body_points - self.scan_points, self.directions)

    @property
    def distances(self) -> FloatArray:
        """Distance between paired points (N,), metres."""
        return np.linalg.norm(self.body_points - self.scan_points, axis=1)


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
        if target.scan_vertices is None or target.scan_faces is None or not len(target.scan_faces):
            return np.zeros(len(self.points), bool)
        rim = target.scan_vertices[boundary_vertices(target.scan_faces, len(target.scan_vertices))]
        if not len(rim):
            return np.zeros(len(self.points), bool)
        return cKDTree(rim).query(self.points)[0] < self.spacing

    def pair_body(self, surface: Surface, index: IntArray, reach: float, min_cosine: float) -> Pairs:
        """Pair body vertices with the scan.

        Args:
            surface: The posed body.
            index: (N,) vertices to pair.
            reach: Pairs further apart than this are not believed, metres.
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
        return Pairs(**{**pairs.__dict__, "believed": pairs.believed & seen & ~self.on_rim[found]})

    def pair_scan(self, surface: Surface, chosen: IntArray, reach: float, min_cosine: float, exact: bool) -> Pairs:
        """Pair scan points with the body.

        Args:
            surface: The posed body.
            chosen: (N,) scan points to pair.
            reach: Pairs further apart than this are not believed, metres.
            min_cosine: Nor those whose normals agree less.
            exact: Closest points of the surface where these face the right way, not only vertices.
        """
        points, normals = self.points[chosen], self.normals[chosen]
        tree = cKDTree(np.hstack([surface.vertices, self.reach * surface.normals]))
        corners, bary = _at_vertices(tree.query(np.hstack([points, self.reach * normals]))[1])
        if exact:
            close = closest_point_on_mesh(points, surface.vertices, surface.faces)
            faces = surface.faces[close.face]
            facing = np.einsum("ni,nji,nj->n", normals, surface.normals[faces], close.bary)
            better = (facing > min_cosine) | ~self.known[chosen]
            corners = np.where(better[:, None], faces, corners)
            bary = np.where(better[:, None], close.bary, bary)
        body_points = np.einsum("nj,nji->ni", bary, surface.vertices[corners])
        body_normals = unit_rows(np.einsum("nj,nji->ni", bary, surface.normals[corners]))
        return self._pairs(corners, bary, body_points, body_normals, chosen, reach, min_cosine)

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
        believed = near & ((agree > min_cosine) | ~self.known[found])
        return Pairs(corners, bary, body_points, scan_points, unit_rows(normals + body_normals), believed)


def _at_vertices(index: IntArray) -> tuple[IntArray, FloatArray]:
    """Write vertices as points of a surface: each its own corner three times, all weight on the first."""
    index = np.asarray(index, np.int64)
    return np.stack([index] * 3, axis=1), np.tile([1.0, 0.0, 0.0], (len(index), 1))


def scan_distances(target: Target, surface: Surface, count: int = 4000) -> FloatArray:
    """Return the distance (N,) from scan points to the surface, metres; at most ``count`` points, evenly chosen."""
    step = max(1, len(target.points) // count)
    return closest_point_on_mesh(target.points[::step], surface.vertices, surface.faces).distance


__all__ = ["Pairs", "ScanIndex", "Surface", "Target", "interpolate", "scan_distances"]
