"""Graphs of points and faces: what is connected with what."""

import numpy as np
from jaxtyping import Int, Int64
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from lvdreg.base.shapes import Faces, FloatArray


def graph_of(
    i: NDArray[np.integer], j: NDArray[np.integer], count: int, weights: FloatArray | None = None
) -> csr_array:
    """Return the graph of ``count`` nodes with edges (E,) from i to j; a weight of zero means no edge.

    Weights of an edge that is given twice add up.
    """
    values = np.ones(len(i)) if weights is None else weights
    # In 32 bits: before 1.13 scipy's graph algorithms take no others.
    return coo_array((values, (np.int32(i), np.int32(j))), shape=(count, count)).tocsr()


def pieces_of(edges: Int[np.ndarray, "E 2"], count: int) -> Int64[np.ndarray, " N"]:
    """Label ``count`` nodes so that those that edges (E, 2) connect, directly or through others, share a label."""
    graph = graph_of(edges[:, 0], edges[:, 1], count)
    labels: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels


def shared_edges(faces: Faces) -> tuple[Int64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
    """Return the pairs of half edges (E,) that lie on an edge of exactly two faces; half edge ``3 f + k`` of the face
    ``f`` leads from its corner ``k`` to the next."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    keys = edges.min(axis=1) * (int(faces.max()) + 1) + edges.max(axis=1)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(keys[order]) != 0])
    pairs = starts[np.diff(np.r_[starts, len(order)]) == 2]
    return order[pairs], order[pairs + 1]
