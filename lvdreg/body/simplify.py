"""Thin a mirror-symmetric mesh to a subset of its own vertices, keeping it symmetric and manifold.

Build-time code: bodies are simplified once, by `scripts/build_bodies.py`. Keeping a subset (half-edge collapses) lets
weights and shape directions of the source carry over without any resampling.
"""

import heapq
from collections import defaultdict

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from lvdreg.base.shapes import Faces, Vertices

MIN_NORMAL_COSINE = 0.3
"""A collapse that turns a face further than this from its old normal is refused."""
MIN_SHAPE = 0.25
"""A collapse that makes a triangle worse than this is refused (1 = equilateral), unless it was worse before."""
NORMAL_COST = 4.0
"""How much turning a face by a right angle costs, in squared target edge lengths."""


class HalfMesh:
    """One side (x >= 0) of a symmetric closed mesh under half-edge collapse; the vertices at x = 0 are its border."""

    def __init__(
        self,
        vertices: NDArray[np.float64],
        faces: NDArray[np.int64],
        middle: NDArray[np.bool_],
        target: NDArray[np.float64],
    ) -> None:
        self.vertices, self.middle, self.target = vertices, middle, target
        self.faces: dict[int, tuple[int, int, int]] = {i: (int(a), int(b), int(c)) for i, (a, b, c) in enumerate(faces)}
        self.incident: dict[int, set[int]] = defaultdict(set)
        for i, face in self.faces.items():
            for v in face:
                self.incident[v].add(i)

    def neighbours(self, v: int) -> set[int]:
        """Return the vertices that share a face with ``v``."""
        return {w for i in self.incident[v] for w in self.faces[i]} - {v}

    def edge_faces(self, u: int, v: int) -> set[int]:
        """Return the faces at an edge: two inside, one on the border."""
        return self.incident[u] & self.incident[v]

    def cost(self, u: int, v: int) -> float:
        """Return what removing ``u`` into ``v`` costs, infinite when it may not be done."""
        if not self._keeps_topology(u, v):
            return np.inf
        length = float(np.linalg.norm(self.vertices[u] - self.vertices[v]))
        turn = self._worst_turn(u, v)
        return (length / self.target[u]) ** 2 + NORMAL_COST * turn if np.isfinite(turn) else np.inf

    def _keeps_topology(self, u: int, v: int) -> bool:
        """Check the link condition of both the half and the whole mesh it stands for."""
        near_u, near_v, shared = self.neighbours(u), self.neighbours(v), self.edge_faces(u, v)
        if len(near_u & near_v) != len(shared) or len(near_u | near_v) <= 4:
            return False
        if self.middle[u]:
            return bool(self.middle[v]) and len(shared) == 1
        if not self.middle[v]:
            return True
        # A second way from u to the border would leave an edge across the half that its mirror image doubles.
        return all(len(self.edge_faces(v, w)) == 1 for w in near_u if w != v and self.middle[w])

    def _worst_turn(self, u: int, v: int) -> float:
        """Return one minus the cosine of the largest turn of a face normal, infinite when it is too large."""
        moved = [self.faces[i] for i in self.incident[u] - self.incident[v]]
        if not moved:
            return np.inf
        old = self.vertices[np.array(moved)]
        new = self.vertices[np.array([[v if w == u else w for w in face] for face in moved])]
        old_cross, new_cross = _cross(old), _cross(new)
        old_area, new_area = np.linalg.norm(old_cross, axis=1), np.linalg.norm(new_cross, axis=1)
        cosine = (old_cross * new_cross).sum(1) / np.maximum(old_area * new_area, 1e-18)
        shape_old, shape_new = _shape(old, old_area), _shape(new, new_area)
        if cosine.min() < MIN_NORMAL_COSINE or (shape_new < np.minimum(shape_old, MIN_SHAPE)).any():
            return np.inf
        return float(1 - cosine.min())

    def collapse(self, u: int, v: int) -> set[int]:
        """Remove ``u`` into ``v`` and return the vertices whose costs have changed."""
        for i in self.edge_faces(u, v):
            for w in self.faces.pop(i):
                self.incident[w].discard(i)
        for i in self.incident.pop(u):
            a, b, c = (v if w == u else w for w in self.faces[i])
            self.faces[i] = (a, b, c)
            self.incident[v].add(i)
        ring = self.neighbours(v)
        return ring | {v}


def simplify_half(
    vertices: Vertices,
    faces: Faces,
    middle: Bool[np.ndarray, " V"],
    target: Float64[np.ndarray, " V"],
    num_whole: int,
) -> Int64[np.ndarray, "G 3"]:
    """Collapse the half of a symmetric mesh, cheapest first, until the whole has at most ``num_whole`` vertices.

    Args:
        vertices: (V, 3) positions.
        faces: (F, 3) faces of the side x >= 0.
        middle: (V,) whether a vertex lies on the mirror plane.
        target: (V,) wanted edge length at each vertex, in the vertices' unit: shorter edges go first.
        num_whole: vertices of half and mirror image together.

    Returns:
        (F', 3) remaining faces of the half, in the given vertex numbers.
    """
    mesh = HalfMesh(vertices, faces, middle, target)
    count = sum(1 if middle[v] else 2 for v in mesh.incident)
    version = dict.fromkeys(mesh.incident, 0)
    heap: list[tuple[float, int, int, int, int]] = []

    def push(u: int, v: int) -> None:
        cost = mesh.cost(u, v)
        if np.isfinite(cost):
            heapq.heappush(heap, (cost, u, v, version[u], version[v]))

    for u in list(mesh.incident):
        for v in mesh.neighbours(u):
            push(u, v)
    while heap and count > num_whole:
        _, u, v, stamp_u, stamp_v = heapq.heappop(heap)
        if version.get(u) != stamp_u or version.get(v) != stamp_v:
            continue
        changed = mesh.collapse(u, v)
        count -= 1 if middle[u] else 2
        del version[u]
        for w in changed:
            version[w] += 1
        edges = {(a, b) for a in changed for b in mesh.neighbours(a)}
        for a, b in sorted(edges | {(b, a) for a, b in edges}):
            push(a, b)
    return np.array(sorted(mesh.faces.values()), np.int64)


def mirror_faces(faces: Faces, mirror: Int64[np.ndarray, " V"]) -> Int64[np.ndarray, "2*F 3"]:
    """Return the faces of a half and of its mirror image, all with the same orientation."""
    return np.concatenate([faces, mirror[faces[:, ::-1]]])


def cap_hole(vertices: Vertices, loop: list[int]) -> Faces:
    """Close a polygon of vertices by cutting ears, the one with the shortest new edge first.

    Args:
        vertices: (V, 3) positions.
        loop: vertex numbers in the order that the new faces shall have.

    Returns:
        (len(loop) - 2, 3) faces without new vertices.
    """
    ring, faces = list(loop), []
    while len(ring) > 3:
        lengths = [
            np.linalg.norm(vertices[ring[i - 1]] - vertices[ring[(i + 1) % len(ring)]]) for i in range(len(ring))
        ]
        i = int(np.argmin(lengths))
        faces.append((ring[i - 1], ring[i], ring[(i + 1) % len(ring)]))
        del ring[i]
    return np.array([*faces, tuple(ring)], np.int64)


def border_loops(faces: Faces) -> list[list[int]]:
    """Return the closed loops of border edges, ordered so that faces built on them close the surface."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = {(int(a), int(b)) for a, b in edges}
    following = {b: a for a, b in directed if (b, a) not in directed}
    loops = []
    while following:
        start, current = next(iter(following.items()))
        loop = [start]
        del following[start]
        while current != start:
            loop.append(current)
            current = following.pop(current)
        loops.append(loop)
    return loops


def _cross(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def _shape(triangles: NDArray[np.float64], double_area: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for equilateral triangles, 0 for slivers."""
    squares = ((triangles - triangles[:, [1, 2, 0]]) ** 2).sum((1, 2))
    return 2 * np.sqrt(3) * double_area / np.maximum(squares, 1e-18)
