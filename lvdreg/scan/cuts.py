"""Cut what is one piece into several: where its surface is narrow or creased, and then by what is known of its parts.

Samples of a surface make a graph in which neighbours hold together the more, the more alike they face: where two bodies
touch, their surfaces face each other and meet in a crease, which is concave. Cuts with little to cut and much on either
side come from the eigenvectors of the graph's Laplacian (Shi and Malik 2000).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int64
from scipy.sparse.linalg import eigsh, splu
from scipy.spatial import cKDTree

from lvdreg.base.shapes import BoolArray, FloatArray, IntArray, Points
from lvdreg.geometry.graphs import graph_of

NEIGHBOURS = 12
CREASE, BEND = np.radians(15.0), np.radians(60.0)
"""Neighbours hold together by e to the minus their angle over this, where the surface between them is concave, and
where it is convex."""
SEAM = 0.05
"""Neighbours on pieces of a mesh that no edge connects hold together by so much of that: scans have cracks, too."""
LOOSE = 1e-4
"""How strongly pieces hold together that nothing connects."""
NUM_VECTORS, CUTS_OF_EACH = 3, 2
LEAST = 0.12
"""The smaller side of a cut has at least this share of the samples."""


@dataclass(frozen=True)
class SurfaceGraph:
    """Samples of a surface, and how strongly neighbours hold together.

    Attributes:
        points: (S, 3).
        normals: (S, 3) unit, zero where unknown.
        piece: (S,) which connected piece of a mesh each lies on; None of a cloud.
    """

    points: Points
    normals: Float64[np.ndarray, "S 3"]
    piece: Int64[np.ndarray, " S"] | None = None

    @cached_property
    def weights(self) -> sp.csr_array:
        """The symmetric matrix (S, S) of how strongly neighbours hold together."""
        count = len(self.points)
        distance, near = cKDTree(self.points).query(self.points, k=min(NEIGHBOURS + 1, count))
        i, j = np.repeat(np.arange(count), near.shape[1] - 1), near[:, 1:].ravel()
        reach = 3 * float(np.median(distance[:, min(6, near.shape[1] - 1)]))
        held = np.where(distance[:, 1:].ravel() < reach, self._held(i, j), LOOSE)
        held = np.maximum(held, LOOSE)
        graph = graph_of(i, j, count, held)
        return sp.csr_array(graph.maximum(graph.T))

    def _held(self, i: IntArray, j: IntArray) -> FloatArray:
        """Return how strongly pairs hold together (E,), 0 to 1."""
        ahead, other = self.normals[i], self.normals[j]
        known = ahead.any(1) & other.any(1)
        cosine = np.einsum("ei,ei->e", ahead, other)
        angle = np.where(known, np.arccos(np.clip(cosine, -1, 1)), BEND)
        is_concave = np.einsum("ei,ei->e", ahead - other, self.points[j] - self.points[i]) > 0
        apart = np.zeros(len(i), bool) if self.piece is None else self.piece[i] != self.piece[j]
        return np.asarray(np.exp(-angle / np.where(is_concave, CREASE, BEND)) * np.where(apart, SEAM, 1.0))

    def part(self, which: BoolArray) -> "SurfaceGraph":
        """Return the graph of some samples."""
        piece = None if self.piece is None else self.piece[which]
        return SurfaceGraph(self.points[which], self.normals[which], piece)

    def cuts(self) -> list[Bool[np.ndarray, " S"]]:
        """Return ways to cut into two, the cheapest first: one side of each (S,)."""
        weights, count = self.weights, len(self.points)
        degree = np.asarray(weights.sum(1)).ravel()
        root = 1 / np.sqrt(np.maximum(degree, 1e-12))
        laplacian = sp.csc_array(sp.eye_array(count) - sp.diags_array(root) @ weights @ sp.diags_array(root))
        start = np.random.default_rng(0).normal(size=count)
        vectors = eigsh(laplacian, k=NUM_VECTORS + 1, sigma=-1e-4, v0=start)[1]
        found = list[tuple[float, BoolArray]]()
        for vector in (vectors * root[:, None])[:, 1:].T:
            found += self._sweep(vector, weights, degree)
        distinct = list[BoolArray]()
        for _, side in sorted(found, key=lambda each: each[0]):
            alike = (abs(float((side == other).mean()) - 0.5) for other in distinct)
            if all(share < 0.47 for share in alike):
                distinct.append(side)
        return distinct

    def _sweep(self, vector: FloatArray, weights: sp.csr_array, degree: FloatArray) -> list[tuple[float, BoolArray]]:
        """Cut along an eigenvector where least is cut for what is on the smaller side (conductance)."""
        order = np.argsort(vector, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        entries = weights.tocoo()
        low, high = np.minimum(rank[entries.row], rank[entries.col]), np.maximum(rank[entries.row], rank[entries.col])
        # An edge is cut by every threshold between its ends.
        steps = np.bincount(low, entries.data, len(order)) - np.bincount(high, entries.data, len(order))
        cut, volume = np.cumsum(steps) / 2, np.cumsum(degree[order])
        conductance = cut / np.maximum(np.minimum(volume, volume[-1] - volume), 1e-12)
        first, last = int(LEAST * len(order)), int((1 - LEAST) * len(order))
        inside = conductance[first:last]
        found = list[tuple[float, BoolArray]]()
        for _ in range(CUTS_OF_EACH):
            if not len(inside) or not np.isfinite(inside).any():
                break
            best = int(np.argmin(inside))
            found.append((float(inside[best]), rank <= first + best))
            inside = inside.copy()
            apart = len(order) // 10
            inside[max(best - apart, 0) : best + apart] = np.inf
        return found

    def shared_out(self, likely: Float64[np.ndarray, "S K"], belief: float) -> FloatArray:
        """Return how surely each sample is of each part (S, K): random walks with priors (Grady, CVPR 2005).

        Args:
            likely: How likely each is of each part by itself, rows of sum 1; zeros where nothing is known.
            belief: How strongly that holds against the neighbours.
        """
        weights = self.weights
        degree = np.asarray(weights.sum(1)).ravel()
        prior = belief * likely.sum(1) + 1e-6
        factor = splu(sp.csc_matrix(sp.diags_array(degree + prior) - weights))
        found = factor.solve(belief * likely + 1e-6 / likely.shape[1])
        return np.asarray(found / found.sum(1, keepdims=True))
