"""Tapes on meshes: sections, taut girths and ways over surfaces, on bodies whose lengths are known."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ellipe

from lvdreg.base.shapes import FloatArray
from lvdreg.geometry.tape import Tape, plane_section, surface_path, taut, without

UP = np.array([0.0, 1.0, 0.0])
DIRECTIONS = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array).filter(lambda v: np.linalg.norm(v) > 0.1)


def ball(radii: tuple[float, float, float] = (1, 1, 1), subdivisions: int = 3) -> tuple[FloatArray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return np.asarray(mesh.vertices) * radii, np.asarray(mesh.faces, np.int64)


def tube(radius: float = 0.2, sides: int = 40) -> tuple[FloatArray, np.ndarray]:
    mesh = trimesh.creation.cylinder(radius, 1.0, sections=sides)
    return np.asarray(mesh.vertices)[:, [0, 2, 1]], np.asarray(mesh.faces, np.int64)[:, ::-1].copy()


def at_vertices(*rows: int) -> Tape:
    return Tape(np.array([[row] * 3 for row in rows]), np.tile([1.0, 0, 0], (len(rows), 1)))


def length_of(tapes: list[Tape], vertices: FloatArray) -> float:
    return sum(tape.length(vertices) for tape in tapes)


def test_the_girth_of_a_cylinder_is_that_of_its_polygon() -> None:
    vertices, faces = tube()
    (line,) = plane_section(vertices, faces, np.array([0, 0.13, 0]), UP)
    assert line.closed
    for found in (line, taut([line], vertices, UP)):
        assert found.length(vertices) == pytest.approx(40 * 2 * 0.2 * np.sin(np.pi / 40))


def test_the_girth_of_an_ellipsoid_is_the_ellipse() -> None:
    vertices, faces = ball((0.15, 0.9, 0.1), 5)
    lines = plane_section(vertices, faces, np.array([0, 0.45, 0]), UP)
    a, b = 0.15 * np.sqrt(0.75), 0.1 * np.sqrt(0.75)
    assert taut(lines, vertices, UP).length(vertices) == pytest.approx(4 * a * ellipe(1 - b**2 / a**2), rel=2e-3)


@settings(max_examples=20)
@given(DIRECTIONS, st.floats(-0.8, 0.8))
def test_a_section_is_as_long_as_trimesh_says(normal: FloatArray, offset: float) -> None:
    vertices, faces = ball((1, 0.7, 1.3), 2)
    normal = normal / np.linalg.norm(normal)
    expected = trimesh.intersections.mesh_plane(trimesh.Trimesh(vertices, faces), normal, offset * normal)
    found = plane_section(vertices, faces, offset * normal, normal)
    assert length_of(found, vertices) == pytest.approx(np.linalg.norm(expected[:, 1] - expected[:, 0], axis=1).sum())
    assert all(line.closed for line in found)
    points = np.concatenate([line.points(vertices) for line in found]) if found else np.zeros((0, 3))
    np.testing.assert_allclose(points @ normal, offset, atol=1e-9)


def test_two_pieces_are_two_lines_and_a_part_ends_at_its_rim() -> None:
    vertices, faces = ball(subdivisions=2)
    both = np.concatenate([vertices, vertices + [5, 0, 0]]), np.concatenate([faces, faces + len(vertices)])
    assert len(plane_section(*both, np.array([0, 0.1, 0]), UP)) == 2
    half = without(faces, vertices[:, 0] < 0)
    (line,) = plane_section(vertices, half, np.array([0, 0.1, 0]), UP)
    assert not line.closed
    assert not plane_section(vertices, faces, np.array([0, 7.0, 0]), UP)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_taut_tape_is_the_convex_hull(seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(12, 3)) * [1, 0, 1]
    found = taut([at_vertices(*range(12))], points, UP).length(points)
    # Slow: every pair with all others on one side of it is an edge.
    expected = 0.0
    for i in range(12):
        for j in range(i):
            across = np.cross(points[j] - points[i], UP)
            sides = (points - points[i]) @ across
            if (sides <= 1e-12).all() or (sides >= -1e-12).all():
                expected += float(np.linalg.norm(points[j] - points[i]))
    assert found == pytest.approx(expected)
    with pytest.raises(ValueError, match="encloses nothing"):
        taut([at_vertices(0, 1)], points, UP)


@pytest.mark.parametrize("closed", [False, True])
def test_slopes_of_a_length_are_its_finite_differences(closed: bool) -> None:
    rng = np.random.default_rng(0)
    vertices, weights = rng.normal(size=(9, 3)), rng.dirichlet([1, 1, 1], 5)
    tape = Tape(rng.integers(0, 9, (5, 3)), weights, closed)
    slopes = tape.slopes(vertices)
    for row in range(9):
        for axis in range(3):
            step = np.zeros((9, 3))
            step[row, axis] = 1e-6
            change = (tape.length(vertices + step) - tape.length(vertices - step)) / 2e-6
            assert slopes[row, axis] == pytest.approx(change, abs=1e-6)


def test_the_way_over_a_sphere_is_the_great_circle() -> None:
    vertices, faces = ball(subdivisions=4)
    start, end = (int((vertices @ np.array(to)).argmax()) for to in ((1, 0.1, 0), (-0.3, 0.1, 1)))
    angle = np.arccos(vertices[start] @ vertices[end])
    middle = vertices[start] + vertices[end]
    assert surface_path(vertices, faces, at_vertices(start, end), middle).length(vertices) == pytest.approx(
        angle, rel=2e-3
    )
    # The other way round the ball.
    other = surface_path(vertices, faces, at_vertices(start, end), -middle).length(vertices)
    assert other == pytest.approx(2 * np.pi - angle, rel=2e-3)


def test_a_way_is_never_shorter_than_the_geodesic_and_hardly_longer() -> None:
    import igl

    vertices, faces = ball((0.2, 0.5, 0.13), 3)
    start = int(vertices[:, 1].argmax())
    rng = np.random.default_rng(1)
    ends = rng.choice(np.flatnonzero(vertices[:, 1] < 0.3), 12)
    none = np.zeros(0, np.int64)
    exact = igl.exact_geodesic(vertices, faces, np.array([start]), none, ends.astype(np.int64), none)
    for end, shortest in zip(ends, exact, strict=True):
        outward = vertices[end] * [1, 0, 1]
        found = surface_path(vertices, faces, at_vertices(start, int(end)), outward).length(vertices)
        assert shortest - 1e-9 <= found <= 1.06 * shortest


def test_a_tight_tape_spans_hollows_and_a_loose_one_follows_them() -> None:
    vertices, faces = tube(0.2, 80)
    mesh = trimesh.Trimesh(vertices, faces).subdivide().subdivide().subdivide()
    vertices, faces = np.array(mesh.vertices), np.asarray(mesh.faces, np.int64)
    vertices[:, [0, 2]] *= (0.2 + 3 * vertices[:, 1] ** 2)[:, None]  # a waist
    front = vertices[:, 2] > 0.99 * np.hypot(vertices[:, 0], vertices[:, 2])
    row = [int(np.where(front, np.abs(vertices[:, 1] - y), 9).argmin()) for y in (0.4, -0.4)]
    ends, outward = at_vertices(*row), np.array([0, 0, 1.0])
    straight = float(np.linalg.norm(vertices[row[0]] - vertices[row[1]]))
    tight = surface_path(vertices, faces, ends, outward, spans_hollows=True).length(vertices)
    assert tight == pytest.approx(straight, rel=1e-3)
    assert surface_path(vertices, faces, ends, outward).length(vertices) > 1.02 * straight


def test_places_that_no_surface_joins_are_refused() -> None:
    vertices, faces = ball(subdivisions=1)
    loose = np.concatenate([vertices, [[9.0, 0, 0], [9.0, 1, 0]]])
    with pytest.raises(ValueError, match="no surface"):
        surface_path(loose, faces, at_vertices(len(loose) - 2, len(loose) - 1), np.array([0, 0, 1.0]))
