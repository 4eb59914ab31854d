"""Metrics against slow oracles, known offsets, and surfaces with holes."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import real_path

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.geometry import metrics
from lvdreg.geometry.mesh import closest_point_on_mesh
from lvdreg.geometry.metrics import (
    Halves,
    Surface,
    body_to_body,
    corresponding_vertex,
    corresponding_vertex_errors,
    faust,
    faust_errors,
    faust_matrix,
    faust_pairs,
    faust_sigma,
    joint,
    nearest_vertex,
    point_to_surface,
    point_to_surfaces,
    seen_points,
    summarise,
    weighted_median,
)


def sphere(radius: float = 0.5, subdivisions: int = 3) -> tuple[FloatArray, IntArray]:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)


def cut(vertices: FloatArray, faces: IntArray, keep: NDArray[np.bool_]) -> Surface:
    """The mesh without the vertices that are not kept, and what hung on them."""
    new = np.cumsum(keep) - 1
    return Surface(vertices[keep], new[faces[keep[faces].all(1)]])


def triangle_distance(p: FloatArray, a: FloatArray, b: FloatArray, c: FloatArray, steps: int = 60) -> float:
    """Distance from a point to a triangle, by trying a dense grid of points on it."""
    u, v = np.meshgrid(np.linspace(0, 1, steps), np.linspace(0, 1, steps))
    inside = u + v <= 1
    points = a + u[inside][:, None] * (b - a) + v[inside][:, None] * (c - a)
    return float(np.linalg.norm(points - p, axis=1).min())


def area_oracle(vertices: FloatArray, faces: IntArray) -> FloatArray:
    out = np.zeros(len(vertices))
    for face in faces:
        a, b, c = vertices[face]
        for i in face:
            out[i] += np.linalg.norm(np.cross(b - a, c - a)) / 6
    return out


def test_corresponding_vertex_is_weighed_by_area() -> None:
    vertices, faces = sphere(subdivisions=1)
    rng = np.random.default_rng(0)
    predicted = vertices + rng.normal(0, 0.02, vertices.shape)
    areas = area_oracle(vertices, faces)
    expected = sum(w * np.linalg.norm(p - t) for w, p, t in zip(areas, predicted, vertices, strict=True)) / areas.sum()
    assert corresponding_vertex(predicted, vertices, faces) == pytest.approx(1000 * expected)
    # A dense patch must not count more than its area: squeeze half of the vertices to where they weigh little.
    dense = np.where(vertices[:, :1] > 0.4, [0.5, 0, 0] + 0.01 * vertices, vertices)
    moved = dense + np.where(vertices[:, :1] > 0.4, 1.0, 0.0)
    assert corresponding_vertex(moved, dense, faces) < 1000 * (vertices[:, 0] > 0.4).mean()


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
@settings(max_examples=20)
def test_a_shift_is_its_length(x: float, y: float, z: float) -> None:
    vertices, faces = sphere(subdivisions=1)
    shift = np.array([x, y, z])
    length = 1000 * np.linalg.norm(shift)
    assert corresponding_vertex(vertices + shift, vertices, faces) == pytest.approx(length, abs=1e-6)
    assert joint(vertices[:5] + shift, vertices[:5]) == pytest.approx(length, abs=1e-6)


@pytest.mark.usefixtures("no_type_checks")
def test_different_counts_are_refused() -> None:
    vertices, faces = sphere(subdivisions=1)
    with pytest.raises(ValueError, match="same points"):
        corresponding_vertex(vertices[:-1], vertices, faces)
    with pytest.raises(ValueError, match="same points"):
        faust(vertices, vertices, faces, vertices[:3], vertices[:4])


def test_nearest_vertex_is_the_double_loop() -> None:
    rng = np.random.default_rng(1)
    vertices, faces = sphere(0.5, 1)
    scan, model = Surface(*sphere(0.53, 2)), Surface(vertices + rng.normal(0, 0.01, vertices.shape), faces)
    there = [min(np.linalg.norm(p - q) for q in model.points) for p in scan.points]
    back = [min(np.linalg.norm(p - q) for q in scan.points) for p in model.points]
    got = nearest_vertex(scan, model)
    assert got.scan_to_model_mm == pytest.approx(1000 * np.average(there, weights=area_oracle(scan.points, scan.faces)))
    assert got.model_to_scan_mm == pytest.approx(1000 * np.average(back, weights=area_oracle(model.points, faces)))
    assert got.seen_share == pytest.approx(1)


def test_point_to_surface_is_the_double_loop() -> None:
    rng = np.random.default_rng(2)
    vertices, faces = sphere(0.5, 0)
    scan = Surface(vertices * 1.1 + rng.normal(0, 0.02, vertices.shape), faces)
    model = Surface(vertices, faces)
    there = [min(triangle_distance(p, *model.points[f]) for f in faces) for p in scan.points]
    back = [min(triangle_distance(p, *scan.points[f]) for f in faces) for p in model.points]
    got = point_to_surface(scan, model)
    # The oracle's grid has a pitch of 9 mm: its distances are too long by at most pitch^2 / (2 distance), about 1 mm.
    assert got.scan_to_model_mm == pytest.approx(1000 * np.average(there, weights=area_oracle(*_pair(scan))), abs=1)
    assert got.model_to_scan_mm == pytest.approx(1000 * np.average(back, weights=area_oracle(*_pair(model))), abs=1)


def _pair(surface: Surface) -> tuple[FloatArray, IntArray]:
    assert surface.faces is not None
    return surface.points, surface.faces


def test_body_to_body_of_two_spheres() -> None:
    (small, faces_small), (large, faces_large) = sphere(0.5, 4), sphere(0.52, 3)
    # Chords of the coarser sphere lie up to 0.5 % of the radius inside.
    assert body_to_body(small, large, faces_small, faces_large) == pytest.approx(20, abs=1.5)
    assert body_to_body(small, large, faces_small, faces_large) == body_to_body(large, small, faces_large, faces_small)


def test_a_hole_is_left_out_on_the_models_side() -> None:
    vertices, faces = sphere(0.5, 4)
    scan = cut(vertices, faces, vertices[:, 1] < 0.3)
    model = Surface(vertices * 1.02, faces)
    seen = seen_points(scan, model)
    above, below = vertices[:, 1] > 0.33, vertices[:, 1] < 0.25
    assert not seen[above].any()
    assert seen[below].all()
    got = point_to_surface(scan, model)
    assert got.model_to_scan_mm == pytest.approx(10, abs=0.5)
    assert got.seen_share == pytest.approx(np.mean(vertices[:, 1] < 0.3), abs=0.03)


def test_a_closed_scan_has_seen_everything_even_a_model_inside_out() -> None:
    vertices, faces = sphere()
    assert seen_points(Surface(vertices, faces), Surface(vertices * 0.5, faces[:, ::-1])).all()


def test_a_far_limb_is_punished_although_the_scan_has_a_hole() -> None:
    vertices, faces = sphere(0.5, 4)
    scan = cut(vertices, faces, vertices[:, 1] > -0.45)
    folded = np.where(vertices[:, 1:2] > 0.4, vertices * 0.3, vertices)
    got = point_to_surface(scan, Surface(folded, faces))
    assert got.scan_to_model_mm > 5
    seen = seen_points(scan, Surface(folded, faces))
    assert seen[vertices[:, 1] > 0.4].mean() > 0.9


@pytest.mark.parametrize("with_normals", [True, False])
def test_one_side_of_a_cloud(with_normals: bool) -> None:
    vertices, faces = sphere(0.5, 4)
    dense, _ = sphere(0.5, 5)
    front = dense[:, 2] > 0.05
    scan = Surface(dense[front], None, dense[front] / 0.5 if with_normals else None)
    model = Surface(vertices * 1.01, faces)
    seen = seen_points(scan, model)
    assert seen[vertices[:, 2] > 0.06].all()
    assert not seen[vertices[:, 2] < -0.1].any()
    got = point_to_surface(scan, model)
    # The plane through the nearest point and not the point: the spacing of this cloud is 18 mm, the gap 5.
    assert got.model_to_scan_mm == pytest.approx(5, abs=1)
    assert got.scan_to_model_mm == pytest.approx(5, abs=1)
    assert nearest_vertex(scan, model).model_to_scan_mm > 6


def test_a_cloud_facing_away_is_not_seen() -> None:
    """A thin slab seen from the front: the model's back lies within reach of the front's points."""
    vertices, faces = sphere(0.5, 4)
    flat = vertices * [1, 1, 0.004]
    front = vertices[:, 2] > 0
    normals = np.tile([0.0, 0.0, 1.0], (int(front.sum()), 1))
    seen = seen_points(Surface(flat[front], None, normals), Surface(flat, faces))
    assert seen[vertices[:, 2] > 0.1].all()
    assert not seen[vertices[:, 2] < -0.1].any()


def test_nothing_seen_is_not_a_number() -> None:
    vertices, faces = sphere()
    spot = Surface(np.array([[0, 0, 9.0]]), None, np.array([[1.0, 0, 0]]))
    got = point_to_surface(spot, Surface(vertices, faces))
    assert np.isnan(got.model_to_scan_mm)
    assert got.seen_share == 0
    assert got.scan_to_model_mm == pytest.approx(8500)


def test_faust_of_perfect_surfaces_is_zero_and_needs_no_topology() -> None:
    vertices_a, faces = sphere(0.5, 3)
    true_a, _ = sphere(0.5, 1)
    scale = np.array([1.3, 0.8, 1.1])
    assert faust(vertices_a, vertices_a * scale, faces, true_a, true_a * scale) == pytest.approx(0, abs=0.01)


def test_faust_is_the_slow_way() -> None:
    rng = np.random.default_rng(3)
    vertices, faces = sphere(0.5, 1)
    a, b = (vertices + rng.normal(0, 0.03, vertices.shape) for _ in range(2))
    true_a = vertices[:6] * 1.05
    true_b = rng.normal(0, 0.5, true_a.shape)
    closest, _, index = trimesh_closest(a, faces, true_a)
    bary = trimesh.triangles.points_to_barycentric(a[faces[index]], closest)
    expected = [1000 * np.linalg.norm(w @ b[faces[i]] - t) for w, i, t in zip(bary, index, true_b, strict=True)]
    np.testing.assert_allclose(faust_errors(a, b, faces, true_a, true_b), expected, rtol=1e-6)
    weights = rng.random(6)
    assert faust(a, b, faces, true_a, true_b, weights) == pytest.approx(np.average(expected, weights=weights))


def trimesh_closest(
    vertices: FloatArray, faces: IntArray, points: FloatArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Closest points by trying every triangle."""
    best, distance, index = np.zeros_like(points), np.full(len(points), np.inf), np.zeros(len(points), int)
    for i, face in enumerate(faces):
        close = trimesh.triangles.closest_point(np.tile(vertices[face], (len(points), 1, 1)), points)
        gap = np.linalg.norm(close - points, axis=1)
        nearer = gap < distance
        best[nearer], distance[nearer], index[nearer] = close[nearer], gap[nearer], i
    return best, distance, index


def test_faust_matrix_is_faust_of_every_pair() -> None:
    rng = np.random.default_rng(4)
    vertices, faces = sphere(0.5, 1)
    surfaces = vertices + rng.normal(0, 0.02, (4, *vertices.shape))
    surfaces[2] = np.nan
    true = vertices[:7] + rng.normal(0, 0.02, (4, 7, 3))
    weights = rng.random((4, 7))
    mean, median = faust_matrix(faust_pairs(surfaces, faces, true), weights)
    assert np.isnan(np.diag(mean)).all()
    assert np.isnan(mean[2]).all() and np.isnan(mean[:, 2]).all()
    for a, b in ((0, 1), (1, 0), (3, 0)):
        errors = faust_errors(surfaces[a], surfaces[b], faces, true[a], true[b])
        assert mean[a, b] == pytest.approx(np.average(errors, weights=weights[a]), rel=1e-6)
        assert median[a, b] == pytest.approx(weighted_median(errors, weights[a]), rel=1e-6)


def test_sigma_of_a_pair_is_that_of_its_point_on_both_surfaces() -> None:
    rng = np.random.default_rng(5)
    vertices, faces = sphere(0.5, 1)
    surfaces, true = np.stack([vertices, np.full_like(vertices, np.nan), 2 * vertices]), rng.normal(size=(3, 5, 3))
    sigma = rng.uniform(1, 9, surfaces.shape[:2])
    found = faust_sigma(sigma, surfaces, faces, true)
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    hit = closest_point_on_mesh(true[0], surfaces[0], faces)
    for point, (face, bary) in enumerate(zip(hit.face, hit.bary, strict=True)):
        own, other = (float(sigma[s][faces[face]] @ bary) for s in (0, 2))
        assert found[0, 2, point] == pytest.approx(np.hypot(own, other), rel=1e-5)


def test_points_of_one_hand_are_not_looked_for_on_the_other() -> None:
    """Two balls that swap places between two scans, and interlock in the first."""
    ball, faces = sphere(0.1, 2)
    both = np.vstack([faces, faces + len(ball)])
    clasped, apart = (np.vstack([ball + [x, 0, 0], ball - [x, 0, 0]]) for x in (0.07, 0.5))
    sides = np.repeat([1, -1], [len(faces), len(faces)]), np.repeat([1, -1], [len(ball), len(ball)])
    true = np.stack([clasped, apart]) + 0.003 * np.random.default_rng(0).normal(size=(2, 2 * len(ball), 3))
    surfaces = np.stack([clasped, apart])
    assert faust_pairs(surfaces, both, true)[0, 1].max() > 500, "the nearest surface is the other ball's"
    halved = faust_pairs(surfaces, both, true, Halves(*sides))
    assert halved[0, 1].max() < 60 and halved[1, 0].max() < 60
    for i in (0, len(ball)):
        own = faces if i == 0 else faces + len(ball)
        alone = faust_errors(clasped, apart, own, true[0, i : i + len(ball)], true[1, i : i + len(ball)])
        np.testing.assert_allclose(halved[0, 1, i : i + len(ball)], alone, rtol=1e-4, atol=1e-3)


def test_of_dense_scans_some_points_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over a few thousand points of a ball is that over all; what the model is far from is still seen."""
    ball, faces = sphere(0.5, 4)
    scan, model = Surface(ball, faces), Surface(1.02 * ball + [0.01, 0, 0], faces)
    whole = point_to_surface(scan, model)
    monkeypatch.setattr(metrics, "MEASURED_POINTS", 800)
    some = point_to_surface(scan, model)
    assert some.scan_to_model_mm != whole.scan_to_model_mm
    assert some.scan_to_model_mm == pytest.approx(whole.scan_to_model_mm, rel=0.02)
    assert some[1:] == whole[1:]


def test_several_models_are_measured_as_each_alone() -> None:
    ball, faces = sphere(0.5, 3)
    scan = Surface(ball, faces[200:])
    models = [Surface(1.02 * ball, faces), Surface(*sphere(0.45, 2))]
    assert point_to_surfaces(scan, models) == [point_to_surface(scan, model) for model in models]


def test_weighted_median() -> None:
    assert weighted_median(np.array([5.0, 1.0, 3.0]), np.ones(3)) == 3
    assert weighted_median(np.array([5.0, 1.0, 3.0]), np.array([9.0, 1.0, 1.0])) == 5
    assert weighted_median(np.arange(10.0), np.ones(10)) == 4


def test_summary_counts_failures_and_the_missing() -> None:
    values = [*np.arange(1.0, 101.0), float("nan"), float("inf")]
    got = summarise(values, failure_mm=90)
    assert (got.count, got.failures, got.missing) == (102, 12, 2)
    assert (got.median_mm, got.mean_mm, got.max_mm) == (50.5, 50.5, 100)
    assert got.p95_mm == pytest.approx(95.05)
    assert got.to_json()["failure_above_mm"] == 90


def test_summary_of_nothing_good() -> None:
    got = summarise([float("nan")], failure_mm=100)
    assert (got.count, got.failures, got.missing) == (1, 1, 1)
    assert np.isnan(got.mean_mm)


def test_errors_keep_the_order_of_vertices() -> None:
    vertices, _ = sphere(subdivisions=0)
    predicted = vertices.copy()
    predicted[4] += [0, 0.003, 0]
    np.testing.assert_allclose(corresponding_vertex_errors(predicted, vertices), np.eye(12)[4] * 3, atol=1e-9)


def test_the_middle_of_a_face_is_no_rim_even_when_all_its_corners_are() -> None:
    triangle = Surface(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    above_and_beside = np.array([[0.2, 0.2, 0.1], [-0.3, 0.2, 0.1], [0.2, -0.3, 0.1]])
    seen = seen_points(triangle, Surface(above_and_beside, np.array([[0, 1, 2]])))
    np.testing.assert_array_equal(seen, [True, False, False])


def test_tilted_normals_of_a_cloud_do_not_excuse_what_is_far_above_it() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 101), np.linspace(-1, 1, 101)), -1).reshape(-1, 2)
    tilt = np.radians(15)
    normals = np.tile([np.sin(tilt), 0, np.cos(tilt)], (len(grid), 1))
    scan = Surface(np.column_stack([grid, np.zeros(len(grid))]), None, normals)
    raised = np.array([[0.0, 0, 0.4], [0.3, 0, 0.4], [0, 0.3, 0.4]])
    assert seen_points(scan, Surface(raised, np.array([[0, 1, 2]]))).all()


@pytest.mark.real
def test_official_registrations_lie_on_their_scans() -> None:
    """FAUST's own registrations lie one to one and a half millimetres from the scans, and cover them."""
    folder = real_path("bodies/faust")
    for name in ("000", "022"):
        scan, true = (trimesh.load(folder / kind / f"{name}.ply", process=False) for kind in ("scan", "registration"))
        got = point_to_surface(*(Surface(np.array(m.vertices, np.float64), np.array(m.faces)) for m in (scan, true)))
        assert 0.5 < got.scan_to_model_mm < 1.6
        assert 0.5 < got.model_to_scan_mm < 1.6
        assert got.seen_share > 0.95
