"""What the body knows of itself (weights, shape directions) carried to the vertices of a scan, smoothly and seam-free.

Points of the scan that lie close to the registered surface, and face the way it does, take what is there; all others
are filled in over the scan's own surface, so that loose clothes and hair follow what they hang from. Idea: Abdrashitov
et al., "Robust skin weights transfer via weight inpainting", 2023. Here all is one screened Laplace equation
``(confidence * M / length^2 + L) x = confidence * M / length^2 * target``: its solutions are means of the targets, so
weights stay positive and sum to one. Equal positions are one vertex of it (no seams open), and edges that join parts
far apart on the body, where an arm touches the trunk, do not count as joined.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from lvdreg.base.shapes import BoolArray, FloatArray, IntArray
from lvdreg.geometry.mesh import (
    closest_point_on_mesh,
    cotangent_laplacian,
    mesh_normals,
    unit_rows,
    vertex_areas,
)
from lvdreg.scan.readers.raw import equal_points

LENGTH = 0.012
"""Detail of what is carried that is shorter than this is smoothed away, metres: a fold of cloth is no part."""
REACH = 0.03
"""Confidence falls with the distance to the registered surface like a bell of this width, metres."""
NORMAL_REACH = 0.05
"""Half of the distance at which facing the right way still decides between two parts, metres."""
MIN_COSINE = 0.3
MIN_CONFIDENCE = 1e-6
JUMP = (5.0, 0.03)
"""An edge joins what is apart on the body if this many times its length, and this much more, lie between there."""
ISLAND = 0.003
"""Patches smaller than this (square metres) that lie elsewhere on the body than all around them were mistaken."""


@dataclass(frozen=True)
class WeldedMesh:
    """A mesh whose vertices are welded: vertices (N, 3) metres, faces (F, 3), unit normals and areas of vertices."""

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray
    areas: FloatArray

    @classmethod
    def of(cls, vertices: FloatArray, faces: IntArray) -> "WeldedMesh":
        """Prepare a mesh; faces counter-clockwise seen from outside."""
        return cls(vertices, faces, mesh_normals(vertices, faces), vertex_areas(vertices, faces))


@dataclass(frozen=True)
class Matches:
    """Where on the registered surface each of N points belongs: ``bary`` (N, 3) of ``corners`` (N, 3).

    ``distance`` (N,) is how far that is, metres; ``confidence`` (N,) is 0 to 1.
    """

    corners: IntArray
    bary: FloatArray
    distance: FloatArray
    confidence: FloatArray

    def read(self, values: FloatArray) -> FloatArray:
        """Interpolate what the body's vertices have (V, C) at the matches: (N, C)."""
        return np.einsum("ni,nic->nc", self.bary, values[self.corners])


def weld(vertices: FloatArray) -> tuple[IntArray, IntArray]:
    """Find vertices that share a place: the first of each (W,), and for every vertex which of those it is (N,)."""
    return equal_points(vertices)


def match(scan: WeldedMesh, body: WeldedMesh, usable: BoolArray) -> Matches:
    """Match vertices of the scan to the registered surface, by distance and normal.

    Args:
        scan: The scan.
        body: The registered surface, same frame.
        usable: (F,) faces of the body that may be matched.
    """
    faces = body.faces[usable]
    close = closest_point_on_mesh(scan.vertices, body.vertices, faces)
    corners, bary, distance = faces[close.face], close.bary, close.distance
    cosine = _cosine(scan, body, corners, bary)
    # What faces elsewhere lies across a gap, or on the other side of something thin: look for what faces right.
    seen = np.unique(faces)
    tree = cKDTree(np.hstack([body.vertices[seen], NORMAL_REACH * body.normals[seen]]))
    wrong = np.flatnonzero(cosine < 0.5)
    other = seen[tree.query(np.hstack([scan.vertices[wrong], NORMAL_REACH * scan.normals[wrong]]))[1]]
    apart = np.linalg.norm(scan.vertices[wrong] - body.vertices[other], axis=1)
    other_cosine = np.einsum("ni,ni->n", scan.normals[wrong], body.normals[other])
    better = (other_cosine > cosine[wrong] + 0.3) & (apart < distance[wrong] + 2 * NORMAL_REACH)
    taken, other = wrong[better], other[better]
    corners[taken], bary[taken] = other[:, None], np.array([1.0, 0.0, 0.0])
    distance[taken], cosine[taken] = apart[better], other_cosine[better]
    facing = np.clip((cosine - MIN_COSINE) / (0.8 - MIN_COSINE), 0, 1)
    confidence = facing * np.exp(-((distance / REACH) ** 2))
    return Matches(corners, bary, distance, np.maximum(confidence, MIN_CONFIDENCE))


def _cosine(scan: WeldedMesh, body: WeldedMesh, corners: IntArray, bary: FloatArray) -> FloatArray:
    return np.einsum("ni,ni->n", scan.normals, unit_rows(np.einsum("ni,nij->nj", bary, body.normals[corners])))


class Carrier:
    """The equation that carries values of the body to the vertices of a scan.

    Args:
        scan: The welded scan.
        matches: Where its vertices belong.
        rest: (V, 3) the body at rest, arms and legs apart: tells parts that only touch from parts that are joined.
    """

    def __init__(self, scan: WeldedMesh, matches: Matches, rest: FloatArray) -> None:
        self.scan = scan
        graph = _surface_graph(scan) + _neighbour_graph(scan)
        graph, self.matches = _without_jumps(graph, scan, matches, rest)
        self.laplacian = _laplacian(_joined(graph, scan, self.matches))
        self.pull = self.matches.confidence * np.maximum(scan.areas, 1e-8) / LENGTH**2
        self._factor = splu((self.laplacian + sp.diags(self.pull)).tocsc(), permc_spec="COLAMD")

    def carry(self, values: FloatArray) -> FloatArray:
        """Carry (V, C) values of the body's vertices to the scan's: (N, C)."""
        return self._factor.solve(self.pull[:, None] * self.matches.read(values))


def _surface_graph(scan: WeldedMesh) -> sp.csr_matrix:
    """Return the edges of a mesh (N, N) with their cotangent weights, all positive."""
    laplacian = cotangent_laplacian(scan.vertices, scan.faces)
    return sp.csr_matrix(sp.diags(laplacian.diagonal()) - laplacian)


def _neighbour_graph(scan: WeldedMesh, count: int = 5, weight: float = 0.05) -> sp.csr_matrix:
    """Join vertices to near ones that face the same way: pieces that only lie on each other then move together."""
    num = len(scan.vertices)
    distance, found = cKDTree(scan.vertices).query(scan.vertices, k=min(count + 1, num))
    i, j, d = np.repeat(np.arange(num), count), found[:, 1:].ravel(), distance[:, 1:].ravel()
    facing = np.einsum("ni,ni->n", scan.normals[i], scan.normals[j])
    good = (facing > 0.5) & (d < REACH)
    half = sp.csr_matrix((np.full(int(good.sum()), weight), (i[good], j[good])), shape=(num, num))
    return half.maximum(half.T)


def _without_jumps(
    graph: sp.csr_matrix, scan: WeldedMesh, matches: Matches, rest: FloatArray
) -> tuple[sp.csr_matrix, Matches]:
    """Take out the edges that join what is apart on the body, and the confidence of islands in wrong places."""
    edges = sp.coo_matrix(graph)
    places = matches.read(rest)
    i, j = edges.row, edges.col
    long = JUMP[0] * np.linalg.norm(scan.vertices[i] - scan.vertices[j], axis=1) + JUMP[1]
    sure = np.minimum(matches.confidence[i], matches.confidence[j]) > 0.05
    jump = sure & (np.linalg.norm(places[i] - places[j], axis=1) > long)
    kept = sp.csr_matrix((edges.data[~jump], (i[~jump], j[~jump])), shape=graph.shape)
    label = connected_components(kept, directed=False)[1]
    area = np.bincount(label, scan.areas)
    beside = np.zeros(len(area), bool)
    beside[label[i[jump]]] = True
    island = (beside & (area < ISLAND))[label]
    back = jump & (island[i] | island[j])
    data = np.where(jump & ~back, 0.0, edges.data)
    graph = sp.csr_matrix((data, (i, j)), shape=graph.shape)
    graph.eliminate_zeros()
    return graph, replace(matches, confidence=np.where(island, MIN_CONFIDENCE, matches.confidence))


def _joined(graph: sp.csr_matrix, scan: WeldedMesh, matches: Matches) -> sp.csr_matrix:
    """Tie pieces that hardly match anything to what lies next to them."""
    label = connected_components(graph, directed=False)[1]
    best = np.zeros(label.max() + 1)
    np.maximum.at(best, label, matches.confidence)
    lost = best[label] < 0.05
    if not lost.any() or lost.all():
        return graph
    sure = np.flatnonzero(~lost)
    found = sure[cKDTree(scan.vertices[sure]).query(scan.vertices[lost])[1]]
    i = np.flatnonzero(lost)
    ties = sp.csr_matrix((np.full(len(i), 0.05), (i, found)), shape=graph.shape)
    return sp.csr_matrix(graph + ties + ties.T)


def _laplacian(graph: sp.csr_matrix) -> sp.csr_matrix:
    return sp.csr_matrix(sp.diags(np.asarray(graph.sum(1)).ravel()) - graph)
