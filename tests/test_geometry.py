"""Fast kernels of geometry.py against slow obvious ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.base.threads import one_torch_thread
from lvdreg.geometry import mesh as geometry

TETRA = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
TETRA_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def sphere(rings: int = 12) -> tuple[FloatArray, IntArray]:
    """A closed unit sphere, faces counter-clockwise seen from outside."""
    import trimesh

    mesh = trimesh.creation.uv_sphere(count=(rings, rings))
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)


def test_face_normals_in_pieces_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = sphere()
    corners = vertices[faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    whole = geometry.face_normals(vertices, faces)
    np.testing.assert_allclose(whole, crosses, atol=1e-15)
    monkeypatch.setattr(geometry, "FACES_AT_ONCE", 7)
    with one_torch_thread():
        np.testing.assert_array_equal(geometry.face_normals(vertices, faces), whole)
    assert geometry.face_normals(vertices, faces[:0]).shape == (0, 3)


def closest_on_triangle(point: NDArray, triangle: NDArray) -> NDArray:
    """Closest point by trying the plane, then the three edges: the oracle."""
    normal = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
    foot = point - normal * (normal @ (point - triangle[0])) / (normal @ normal)
    sides = [np.cross(triangle[(i + 1) % 3] - triangle[i], foot - triangle[i]) @ normal for i in range(3)]
    if min(sides) >= 0:
        return foot
    candidates = []
    for i in range(3):
        a, b = triangle[i], triangle[(i + 1) % 3]
        candidates.append(a + (b - a) * np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1))
    return min(candidates, key=lambda c: float(np.linalg.norm(point - c)))


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_closest_point_equals_the_search_over_all_triangles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices, faces = rng.normal(size=(9, 3)), np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    points = 2 * rng.normal(size=(7, 3))
    found = geometry.closest_point_on_mesh(points, vertices, faces)
    for i, point in enumerate(points):
        options = [closest_on_triangle(point, vertices[f]) for f in faces]
        best = min(options, key=lambda c: float(np.linalg.norm(point - c)))
        np.testing.assert_allclose(found.points[i], best, atol=1e-9)
        assert found.distance[i] == pytest.approx(np.linalg.norm(point - best))
    rebuilt = geometry.interpolate(vertices, faces, found.face, found.bary)
    np.testing.assert_allclose(rebuilt, found.points, atol=1e-9)


def test_nearest_neighbours_equal_a_double_loop() -> None:
    rng = np.random.default_rng(3)
    queries, points = rng.normal(size=(11, 3)), rng.normal(size=(17, 3))
    distance, index = geometry.nearest_neighbours(queries, points)
    for q in range(11):
        all_distances = [float(np.linalg.norm(queries[q] - p)) for p in points]
        assert index[q] == int(np.argmin(all_distances))
        assert distance[q] == pytest.approx(min(all_distances))


def test_normals_of_a_sphere_point_outwards_in_torch_and_numpy() -> None:
    vertices, faces = sphere()
    normals = geometry.mesh_normals(vertices, faces)
    assert (np.einsum("vi,vi->v", normals, vertices) > 0.98).all()
    batch = torch.from_numpy(np.stack([vertices, 3 * vertices]))
    both = geometry.vertex_normals(batch, torch.from_numpy(faces)).numpy()
    np.testing.assert_allclose(both[0], normals, atol=1e-12)
    np.testing.assert_allclose(both[1], normals, atol=1e-12)


def test_vertex_normals_pass_gradcheck() -> None:
    vertices = torch.from_numpy(TETRA).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: geometry.vertex_normals(v, torch.from_numpy(TETRA_FACES)), vertices)


def test_areas_add_up_and_degenerate_faces_do_no_harm() -> None:
    faces = np.vstack([TETRA_FACES, [[1, 1, 2]]])
    areas = geometry.face_areas(TETRA, faces)
    np.testing.assert_allclose(areas, [0.5, 0.5, 0.5, np.sqrt(3) / 2, 0])
    assert geometry.vertex_areas(TETRA, faces).sum() == pytest.approx(areas.sum())
    np.testing.assert_allclose(geometry.mesh_normals(TETRA, faces), geometry.mesh_normals(TETRA, TETRA_FACES))
    assert (geometry.mesh_normals(np.zeros((4, 3)), TETRA_FACES) == 0).all()


def test_surface_samples_lie_on_their_faces_and_fall_by_area() -> None:
    points, index, bary = geometry.sample_surface(TETRA, TETRA_FACES, 6000, np.random.default_rng(0))
    np.testing.assert_allclose(geometry.interpolate(TETRA, TETRA_FACES, index, bary), points)
    assert geometry.closest_point_on_mesh(points, TETRA, TETRA_FACES).distance.max() < 1e-12
    areas = geometry.face_areas(TETRA, TETRA_FACES)
    np.testing.assert_allclose(np.bincount(index) / 6000, areas / areas.sum(), atol=0.02)
    # Evenly inside the face: the mean of barycentric coordinates is a third each.
    np.testing.assert_allclose(bary.mean(0), 1 / 3, atol=0.01)


def test_boundary_is_found_only_where_the_surface_is_cut() -> None:
    vertices, faces = sphere()
    assert not geometry.boundary_vertices(faces, len(vertices)).any()
    cut = geometry.boundary_vertices(faces[1:], len(vertices))
    assert sorted(np.flatnonzero(cut)) == sorted(faces[0])


def test_laplacians_vanish_on_constants_and_agree_with_loops() -> None:
    vertices, faces = sphere(6)
    num = len(vertices)
    uniform = geometry.uniform_laplacian(faces, num).toarray()
    cotangent = geometry.cotangent_laplacian(vertices, faces).toarray()
    for operator in (uniform, cotangent):
        np.testing.assert_allclose(operator @ np.ones(num), 0, atol=1e-12)
    np.testing.assert_allclose(cotangent, cotangent.T)
    assert np.linalg.eigvalsh(cotangent).min() > -1e-9
    for v in range(num):
        around = {int(u) for f in faces if v in f for u in f} - {v}
        np.testing.assert_allclose(uniform[v] @ vertices, vertices[v] - vertices[sorted(around)].mean(0), atol=1e-12)


def test_cotangents_of_an_equilateral_triangle() -> None:
    vertices, faces = np.array([[0.0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]]), np.array([[0, 1, 2]])
    matrix = geometry.cotangent_laplacian(vertices, faces).toarray()
    assert matrix[0, 1] == pytest.approx(-0.5 / np.tan(np.pi / 3))
