"""Tapes on a mesh: sections by planes, taut girths, the way over a surface from one point to another.

A tape is given by the places on the mesh that it runs through, each a mixture of at most three vertices. So it moves
with the mesh, and how its length changes with every vertex is known in closed form.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64
from scipy.spatial import ConvexHull, QhullError

from lvdreg.base.shapes import Faces, FloatArray, Points, Vertices
from lvdreg.geometry.mesh import unit_rows


@dataclass(frozen=True)
class Tape:
    """A line through places on a mesh.

    Attributes:
        corners: (P, 3) vertices whose mixture each place is.
        weights: (P, 3) of what shares; they sum to one.
        closed: Whether the last place is joined to the first.
    """

    corners: Int64[np.ndarray, "P 3"]
    weights: Float64[np.ndarray, "P 3"]
    closed: bool = False

    def points(self, vertices: Vertices) -> Points:
        """Return the places (P, 3) on the mesh as it is."""
        return np.einsum("pi,pic->pc", self.weights, vertices[self.corners])

    def length(self, vertices: Vertices) -> float:
        """Return the length of the line through all places, in the unit of the mesh."""
        return float(np.linalg.norm(self._steps(vertices), axis=1).sum())

    def slopes(self, vertices: Vertices) -> Vertices:
        """Return how the length changes with each vertex (V, 3), the places staying where on the mesh they are."""
        ahead = unit_rows(self._steps(vertices))
        pull = np.zeros((len(self.corners), 3))
        if self.closed:
            pull -= ahead
            pull += np.roll(ahead, 1, axis=0)
        else:
            pull[:-1] -= ahead
            pull[1:] += ahead
        return self.spread(pull, len(vertices))

    def spread(self, pull: Points, num_vertices: int) -> Vertices:
        """Return what change by ``pull`` (P, 3) of each place means for each vertex (V, 3): the chain rule."""
        out = np.zeros((num_vertices, 3))
        np.add.at(out, self.corners, self.weights[:, :, None] * pull[:, None])
        return out

    def chosen(self, rows: Sequence[int] | Int[np.ndarray, " Q"], closed: bool = False) -> "Tape":
        """Return the line through some of the places, in the given order."""
        index = np.asarray(rows, np.int64)
        return Tape(self.corners[index], self.weights[index], closed)

    def _steps(self, vertices: Vertices) -> Points:
        points = self.points(vertices)
        return np.roll(points, -1, axis=0) - points if self.closed else np.diff(points, axis=0)


def joined(tapes: Sequence[Tape], closed: bool = False) -> Tape:
    """Return one line through the places of several, one after the other."""
    return Tape(np.concatenate([t.corners for t in tapes]), np.concatenate([t.weights for t in tapes]), closed)


def plane_section(
    vertices: Vertices, faces: Faces, origin: Float64[np.ndarray, " 3"], normal: Float64[np.ndarray, " 3"]
) -> list[Tape]:
    """Cut a mesh by a plane.

    Args:
        vertices: (V, 3).
        faces: (F, 3); where they are a part of a closed mesh, lines end at its rim.
        origin: (3,) a point of the plane.
        normal: (3,) across it.

    Returns:
        The lines in which the plane meets the mesh. A vertex that lies in the plane counts as above it.
    """
    height = (vertices - origin) @ normal
    below = height < 0
    cut = faces[(below[faces].sum(1) % 3) > 0]
    if not len(cut):
        return []
    # The corner that is alone on its side first: the plane meets the two edges that leave it.
    alone = np.where(below[cut].sum(1, keepdims=True) == 1, below[cut], ~below[cut]).argmax(1)
    a, b, c = (cut[np.arange(len(cut)), (alone + k) % 3] for k in range(3))
    edges = np.sort(np.stack([np.stack([a, b], 1), np.stack([a, c], 1)], 1).reshape(-1, 2), axis=1)
    unique, number = np.unique(edges[:, 0] * len(vertices) + edges[:, 1], return_inverse=True)
    low, high = np.divmod(unique, len(vertices))
    share = height[low] / (height[low] - height[high])
    corners = np.stack([low, high, high], 1)
    weights = np.stack([1 - share, share, np.zeros_like(share)], 1)
    return [
        Tape(corners[chain], weights[chain], closed) for chain, closed in _chains(number.reshape(-1, 2), len(unique))
    ]


def _chains(links: Int64[np.ndarray, "L 2"], count: int) -> list[tuple[list[int], bool]]:
    """Follow links between places to lines: rows of places, and whether they close; each place has one or two links."""
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for a, b in links.tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    left = [True] * count
    ends = [i for i, near in enumerate(neighbours) if len(near) == 1]
    chains = []
    for start in (*ends, *range(count)):
        if not left[start]:
            continue
        chain, at = [start], start
        left[start] = False
        while (following := next((i for i in neighbours[at] if left[i]), None)) is not None:
            chain.append(following)
            left[following] = False
            at = following
        chains.append((chain, len(chain) > 2 and start in neighbours[at]))
    return chains


def taut(tapes: Sequence[Tape], vertices: Vertices, normal: Float64[np.ndarray, " 3"]) -> Tape:
    """Return the tape drawn tight around lines in a plane: their convex hull, closed.

    Args:
        tapes: Lines of one section.
        vertices: (V, 3) of the mesh.
        normal: (3,) across the plane.

    Raises:
        ValueError: the lines enclose nothing.
    """
    whole = joined(tapes)
    flat = whole.points(vertices) @ plane_axes(normal).T
    try:
        return whole.chosen(ConvexHull(flat).vertices, closed=True)
    except QhullError:
        raise ValueError("a section that encloses nothing") from None


def plane_axes(normal: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "2 3"]:
    """Return two unit vectors (2, 3) at right angles to a direction (3,) and to each other."""
    normal = unit_rows(normal)
    first = unit_rows(np.cross(normal, np.eye(3)[np.abs(normal).argmin()]))
    return np.stack([first, np.cross(normal, first)])


def surface_path(
    vertices: Vertices,
    faces: Faces,
    ends: Tape,
    outward: Float64[np.ndarray, " 3"],
    spans_hollows: bool = False,
) -> Tape:
    """Lay a tape straight over a surface from one place to another.

    It stays in the plane of both places and the outward direction: on a sphere the shortest way, elsewhere close to it
    (a geodesic is never longer).

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        ends: The two places; more places are passed one after the other.
        outward: (3,) the side of the body on which it lies.
        spans_hollows: Drawn tight, so that it leaves the surface where this is hollow.

    Raises:
        ValueError: the surface does not join the places in that plane.
    """
    if len(ends.corners) > 2:
        legs = [
            surface_path(vertices, faces, ends.chosen([i, i + 1]), outward, spans_hollows)
            for i in range(len(ends.corners) - 1)
        ]
        return joined([legs[0], *(leg.chosen(range(1, len(leg.corners))) for leg in legs[1:])])
    start, end = ends.points(vertices)
    along = end - start
    normal = unit_rows(np.cross(along, outward))
    sections = [line for line in plane_section(vertices, faces, start, normal) if len(line.corners) > 2]
    if not sections:
        raise ValueError("no surface between the two places")
    points = [line.points(vertices) for line in sections]
    gaps = [_gap(line, start) + _gap(line, end) for line in points]
    line, around = sections[int(np.argmin(gaps))], points[int(np.argmin(gaps))]
    first, last = (int(np.linalg.norm(around - place, axis=1).argmin()) for place in (start, end))
    steps = (1, -1) if line.closed else (1 if first <= last else -1,)
    side = unit_rows(outward - (outward @ along) / (along @ along) * along)
    ways = [np.array(_between(first, last, len(around), step)[1:-1], np.int64) for step in steps]
    way = max(ways, key=lambda rows: float(((around[rows] - start) @ side).mean()) if len(rows) else -np.inf)
    if spans_hollows:
        shares = (around[way] - start) @ along / (along @ along)
        way = way[(shares > 0) & (shares < 1)]
        way = way[_upper_hull((around[way] - start) @ along / (along @ along), (around[way] - start) @ side)]
    return joined([ends.chosen([0]), line.chosen(way), ends.chosen([1])])


def _gap(line: Points, place: FloatArray) -> float:
    return float(np.linalg.norm(line - place, axis=1).min())


def _between(first: int, last: int, count: int, step: int) -> list[int]:
    """Return the places of a line from one to another, walking up or down, around its end if need be."""
    return [(first + step * i) % count for i in range((step * (last - first)) % count + 1)]


def _upper_hull(x: Float64[np.ndarray, " P"], y: Float64[np.ndarray, " P"]) -> list[int]:
    """Return which points are touched by a cord from (0, 0) to (1, 0) that is drawn tight over them from above."""
    points = [(0.0, 0.0, -1), *((float(x[i]), float(y[i]), int(i)) for i in np.argsort(x)), (1.0, 0.0, -1)]
    hull: list[tuple[float, float, int]] = []
    for point in points:
        while len(hull) > 1 and _turns_left(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return [number for _, _, number in hull if number >= 0]


def _turns_left(a: tuple[float, float, int], b: tuple[float, float, int], c: tuple[float, float, int]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) >= (b[1] - a[1]) * (c[0] - a[0])


def without(faces: Faces, hidden: Bool[np.ndarray, " V"]) -> Int64[np.ndarray, "G 3"]:
    """Return the faces that have a corner which is not hidden (V,)."""
    return faces[~hidden[faces].all(1)]
