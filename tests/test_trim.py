"""Open bodies: rims, what lies beyond them, and what a hand holds."""

import numpy as np
import pytest
import trimesh

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.catalogue import load_body
from lvdreg.fit.correspond import PosedSurface, ScanIndex, Target, TrimConfig, rim_of, scan_distances, target_of, trim
from lvdreg.geometry.frames import similarity
from lvdreg.geometry.mesh import boundary_vertices, face_normals, flipped, on_rim, unit_rows
from lvdreg.pipeline.config import HAND
from lvdreg.scan.model import Scan
from tests.scans import scan_of, standing, vertices_of

CONFIG = TrimConfig(margin=0.01, near=0.006, far=0.015)


def tube(length: float = 0.2, radius: float = 0.03, closed_top: bool = True) -> tuple[FloatArray, IntArray]:
    """A tube along +Y from y = 0, open at the foot, with a lid on the other end."""
    mesh = trimesh.creation.cylinder(radius=radius, height=length, sections=48).subdivide().subdivide().subdivide()
    points = np.asarray(mesh.vertices)[:, [1, 2, 0]] + [0, length / 2, 0]
    faces = np.asarray(mesh.faces, np.int64)
    heights = points[faces].mean(1)[:, 1]
    keep = heights > 1e-6 if closed_top else (heights > 1e-6) & (heights < length - 1e-6)
    used, faces = np.unique(faces[keep], return_inverse=True)
    return points[used], faces.reshape(-1, 3).astype(np.int64)


def surface() -> PosedSurface:
    points, faces = tube()
    return PosedSurface(points, faces, rim_of(faces, len(points)))


def wall(low: float, high: float, count: int, radius: float = 0.03, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Points on the tube's wall between two heights, with normals."""
    rng = np.random.default_rng(seed)
    angle, height = rng.uniform(0, 2 * np.pi, count), rng.uniform(low, high, count)
    normals = np.stack([np.cos(angle), np.zeros(count), np.sin(angle)], 1)
    return radius * normals + height[:, None] * [0, 1.0, 0], normals


def test_boundary_is_what_counting_the_faces_of_each_edge_says() -> None:
    faces = tube()[1]
    edges: dict[tuple[int, int], int] = {}
    for face in faces.tolist():
        for a, b in ((0, 1), (1, 2), (2, 0)):
            key = (min(face[a], face[b]), max(face[a], face[b]))
            edges[key] = edges.get(key, 0) + 1
    expected = {v for edge, count in edges.items() if count == 1 for v in edge}
    assert set(np.flatnonzero(boundary_vertices(faces, int(faces.max()) + 1))) == expected
    assert rim_of(load_body("anny").data.faces, load_body("anny").num_vertices) is None


def test_points_on_the_rim_are_told_from_those_on_faces_beside_it() -> None:
    rim, corners = np.array([True, True, False]), np.array([[0, 1, 2]] * 5)
    bary = np.array([[0.5, 0.5, 0.0], [1.0, 0, 0], [0.4, 0.4, 0.2], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    assert on_rim(rim, corners, bary).tolist() == [True, True, False, False, False]


def test_what_lies_beyond_the_rim_pulls_at_nothing() -> None:
    (own, own_normals), (arm, arm_normals) = wall(0.01, 0.15, 300), wall(-0.1, -0.002, 300)
    target = Target(np.concatenate([own, arm]), np.concatenate([own_normals, arm_normals]))
    index = ScanIndex(target, 0.01, 600)
    beyond = index.points[:, 1] < 0
    for exact in (True, False):
        pairs = index.pair_scan(surface(), np.arange(600), 0.2, 0.3, exact)
        assert not pairs.is_valid[beyond].any()
        assert pairs.is_valid[~beyond].mean() > 0.9
        closed = index.pair_scan(PosedSurface(*tube()), np.arange(600), 0.2, 0.3, exact)
        assert closed.is_valid[beyond].any()
    assert len(scan_distances(target, surface())) == 300


def test_forearm_goes_but_for_a_margin_and_the_hand_stays() -> None:
    points, normals = wall(-0.15, 0.19, 4000)
    kept = trim(Target(points, normals), surface(), None, CONFIG)
    assert kept.points[:, 1].min() == pytest.approx(-0.01, abs=1e-3)
    bare = trim(Target(points, normals), surface(), None, CONFIG, margin=0.0)
    assert bare.points[:, 1].min() >= 0
    assert len(bare.points) == (points[:, 1] >= 0).sum()
    assert trim(Target(points, normals), surface(), None, None).points is points


def test_a_thing_that_touches_goes_and_a_finger_a_little_off_stays() -> None:
    own, _ = wall(0.01, 0.19, 6000)
    ball = np.asarray(trimesh.creation.icosphere(subdivisions=4, radius=0.025).vertices)
    held = ball + [0.055, 0.1, 0]
    beside = own[own[:, 1] > 0.14] + [0.0, 0.0, 0.011]  # the tube's end 11 mm off
    rest = own[own[:, 1] <= 0.14]
    points = np.concatenate([rest, beside, held])
    kept = trim(Target(points, np.zeros_like(points)), surface(), None, CONFIG).points
    assert len(kept) < len(points)
    inside = np.linalg.norm(kept - [0.055, 0.1, 0], axis=1) < 0.0251
    off = np.abs(np.linalg.norm(kept[inside][:, [0, 2]], axis=1) - 0.03)
    assert off.max() < CONFIG.near + 1e-6  # of the ball only what lies against the tube
    assert (~inside).sum() >= len(rest) + len(beside) - 5  # a few of the tube's own lie within the ball


def test_where_the_network_is_unsure_more_is_kept() -> None:
    points, normals = wall(0.01, 0.19, 3000, radius=0.05)
    target, unsure = Target(points, normals), np.full(len(tube()[0]), 0.02)
    assert len(trim(target, surface(), None, CONFIG).points) == 0
    assert len(trim(target, surface(), unsure, CONFIG).points) > 2900


def test_normals_that_face_into_the_body_are_turned_over_and_repeated_points_dropped() -> None:
    points, normals = wall(0.01, 0.19, 500)
    wrong = -normals
    wrong[::5] *= -1
    kept = trim(Target(np.repeat(points, 3, axis=0), np.repeat(wrong, 3, axis=0)), surface(), None, CONFIG)
    np.testing.assert_array_equal(kept.points, points)
    np.testing.assert_array_equal(kept.normals, -wrong)
    low, faces = tube()
    inside_out = Target(points, -normals, low, flipped(faces))
    np.testing.assert_array_equal(trim(inside_out, surface(), None, CONFIG).scan_faces, faces)


def test_a_mesh_loses_the_faces_of_what_goes() -> None:
    points, faces = tube(length=0.3)
    low = points - [0, 0.1, 0]
    flat = unit_rows(face_normals(low, faces))
    target = Target(low[faces].mean(1), flat, low, faces)
    kept = trim(target, surface(), None, CONFIG)
    assert kept.scan_faces is not None and kept.scan_vertices is low
    heights = low[kept.scan_faces][:, :, 1]
    assert low[:, 1].min() < -0.09 < -CONFIG.margin <= heights.min() < 0.02
    assert heights.max() == low[:, 1].max()


def test_a_reflection_turns_faces_and_normals_outward_again() -> None:
    points, faces = tube()
    scan = Scan(points, faces, None, None, "tube")
    normals = unit_rows(face_normals(points, faces))
    T = similarity(2.0, np.diag([-1.0, 1, 1]), np.array([0.1, 0.2, 0.3]))
    target = target_of(scan, points[faces].mean(1), normals, T)
    assert target.scan_vertices is not None and target.scan_faces is not None
    np.testing.assert_array_equal(target.scan_faces, flipped(faces))
    out = unit_rows(face_normals(target.scan_vertices, target.scan_faces))
    np.testing.assert_allclose(out, target.normals, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_whole_hand_loses_nothing_to_trimming(seed: int) -> None:
    body = load_body("anny-hand")
    vertices = vertices_of(body, standing(body, seed))
    hand = PosedSurface(vertices, body.data.faces, rim_of(body.data.faces, body.num_vertices))
    target = scan_of(body, vertices, 3000, noise=0.001)
    assert HAND.trim is not None
    kept = trim(target, hand, np.full(body.num_vertices, 0.004), HAND.trim)
    assert len(kept.points) == len(target.points)
