"""Graphs of points and faces, against slow searches."""

import numpy as np
import pytest
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

from lvdreg.geometry.graphs import graph_of, pieces_of, shared_edges


@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_those_of_a_slow_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, 40, (25, 2))
    labels = pieces_of(edges, 40)
    slow = np.arange(40)
    for _ in range(40):
        for a, b in edges:
            slow[[a, b]] = min(slow[a], slow[b])
    assert labels.dtype == np.int64 and labels.min() == 0
    np.testing.assert_array_equal(labels[:, None] == labels, slow[:, None] == slow)


def test_edges_of_64_bits_make_graphs_that_every_algorithm_takes() -> None:
    i, j = np.array([0, 1, 2], np.int64), np.array([1, 2, 0], np.int64)
    graph = graph_of(i, j, 4, np.array([1.0, 2.0, 4.0]))
    assert graph.indices.dtype == graph.indptr.dtype == np.int32
    assert minimum_spanning_tree(graph).sum() == 3
    np.testing.assert_array_equal(dijkstra(graph, directed=False, indices=0), [0, 1, 3, np.inf])


def test_shared_edges_are_those_of_two_faces() -> None:
    # Two faces share 1-2; three share 0-2.
    faces = np.array([[0, 1, 2], [2, 1, 3], [0, 2, 4], [2, 0, 5]])
    first, second = shared_edges(faces)
    assert first.tolist() == [1] and second.tolist() == [3]
    half_edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    assert half_edges[first].tolist() == [[1, 2]] and half_edges[second].tolist() == [[2, 1]]
