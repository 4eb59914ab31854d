"""UV layouts: carried over to a thinner mesh, and those of the shipped bodies."""

from dataclasses import replace

import numpy as np
import pytest

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.layout import FineLayout, carried_layout


def tube(around: int, along: int) -> tuple[FloatArray, IntArray, FloatArray, IntArray]:
    """A tube with a layout that is cut along one line: vertices, faces, coordinates, corners."""
    i, j = np.meshgrid(np.arange(around), np.arange(along), indexing="ij")
    angle, height = 2 * np.pi * i.ravel() / around, j.ravel() / (along - 1)
    vertices = np.stack([np.cos(angle), 3 * height, -np.sin(angle)], 1)
    u, v = np.meshgrid(np.arange(around + 1) / around, np.arange(along) / (along - 1), indexing="ij")
    uv = np.stack([u.ravel(), v.ravel()], 1)
    faces, corners = [], []
    for a in range(around):
        for b in range(along - 1):
            here = [(a, b), (a + 1, b), (a + 1, b + 1), (a, b + 1)]
            wrapped, flat = [((p % around) * along + q) for p, q in here], [p * along + q for p, q in here]
            faces += [[wrapped[0], wrapped[1], wrapped[2]], [wrapped[0], wrapped[2], wrapped[3]]]
            corners += [[flat[0], flat[1], flat[2]], [flat[0], flat[2], flat[3]]]
    return vertices, np.array(faces), uv, np.array(corners)


def areas(uv: FloatArray, corners: IntArray) -> FloatArray:
    a, b, c = (uv[corners[:, i]] for i in range(3))
    u, v = b - a, c - a
    return 0.5 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


def test_a_mesh_that_keeps_the_seam_gets_the_layout_itself() -> None:
    fine = FineLayout(*tube(48, 13))
    vertices, faces, uv, corners = tube(24, 7)
    found, shared = carried_layout(fine, vertices, faces)
    np.testing.assert_allclose(found[shared], uv[corners], atol=1e-4)
    assert len(found) == len(uv), "what no seam parts is shared"
    # Of a layout that is stretched unevenly the places themselves are taken, not how it goes on.
    stretched = replace(fine, uv=fine.uv**1.5)
    found, shared = carried_layout(stretched, vertices, faces)
    np.testing.assert_allclose(found[shared], uv[corners] ** 1.5, atol=1e-4)


def test_faces_across_the_seam_go_on_over_it() -> None:
    fine = FineLayout(*tube(48, 13))
    vertices, faces, uv, corners = tube(24, 7)
    # Turned by one vertex of the fine mesh: faces lie across its seam, their vertices are its own.
    turn = 2 * np.pi / 48
    x, y, z = vertices.T
    turned = np.stack([np.cos(turn) * x + np.sin(turn) * z, y, np.cos(turn) * z - np.sin(turn) * x], 1)
    found, shared = carried_layout(fine, turned, faces)
    offset = (found[shared] - uv[corners])[..., 0]
    whole = np.abs(((offset - 1 / 48) + 0.5) % 1 - 0.5)
    assert whole.max() < 0.003, "the same up to a turn around the tube"
    assert (areas(found, shared) > 0).all() and len(found) <= len(uv) + 6, "the seam runs in zigzag"
    assert found[:, 0].min() > -0.03 and found[:, 0].max() < 1.03


@pytest.mark.parametrize(("name", "most_places", "folded"), [("anny", 7900, 20), ("anny-hand", 1400, 0)])
def test_layouts_of_the_free_bodies(name: str, most_places: int, folded: int) -> None:
    data = load_body(name).data
    assert data.vt is not None and data.ft is not None
    vertex_of = np.full(len(data.vt), -1)
    vertex_of[data.ft.ravel()] = data.faces.ravel()
    np.testing.assert_array_equal(vertex_of[data.ft], data.faces, "one place is of one vertex")
    assert len(data.v_template) < len(data.vt) <= most_places and data.vt.min() >= 0 and data.vt.max() <= 1
    signed = areas(data.vt.astype(float), data.ft)
    assert (signed <= 0).sum() <= folded, "caps of mouth and eyes"
    # Nothing lies over another face: the middle of a face is in this face alone.
    middles = data.vt[data.ft[:: len(data.ft) // 300]].mean(1)[:, None]
    inside = np.ones((len(middles), len(data.ft)), bool)
    for k in range(3):
        p, q = data.vt[data.ft[:, k]], data.vt[data.ft[:, (k + 1) % 3]]
        along, to = q - p, middles - p
        inside &= along[:, 0] * to[..., 1] - along[:, 1] * to[..., 0] > 0
    assert (inside.sum(1) == 1).mean() > 0.99
