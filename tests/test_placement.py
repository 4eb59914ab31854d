"""How the benchmark of photos places bodies: as seen, at the best depth, at the best place; and its distances."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import trimesh
from naked import rendered_view

from lvdreg.body.model import BodyModel
from lvdreg.evaluate import placement
from lvdreg.evaluate.placement import AS_SEEN, MOVED
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.geometry.metrics import Surface
from lvdreg.image.camera import Camera

pytestmark = pytest.mark.usefixtures("small_photos")


def sphere(radius: float, at: Sequence[float] = (0, 0, 0)) -> Surface:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Surface(np.array(mesh.vertices) + at, np.array(mesh.faces, np.int64))


def test_a_body_is_placed_where_its_own_camera_saw_it() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    true = Camera(80.0, np.array([30.0, 34.0]))
    origin = np.array([0.2, -0.1, 0.4])
    # Found 1.3 times as large, about another origin: seen alike.
    found, camera = 1.3 * (points - origin), Camera(80.0 / 1.3, true.project(origin))
    np.testing.assert_allclose(camera.project(found), true.project(points), atol=1e-9)
    np.testing.assert_allclose(placement.placed(found, camera, true), points - [0, 0, 0.4], atol=1e-9)
    kept = placement.placed(found, camera, true, size_is_told=True)
    np.testing.assert_allclose(np.ptp(kept, axis=0), 1.3 * np.ptp(points, axis=0))
    np.testing.assert_allclose(kept - found, np.broadcast_to([0.2, -0.1, 0], found.shape), atol=1e-9)


def test_the_best_depth_is_the_best_of_all(body: BodyModel) -> None:
    truth, points = rendered_view().surface, rendered_view().mean_bodies["mean body in the true pose"]
    found = placement.at_best_depth(Surface(points + [0, 0, 0.23], body.data.faces), truth)
    np.testing.assert_array_equal(found[:, :2], points[:, :2])
    assert np.ptp(found[:, 2] - points[:, 2]) < 1e-12

    def mean_distance(shift: float) -> float:
        d = placement.distances(found + [0, 0, shift], body.data.faces, truth)
        return d.v2v

    assert mean_distance(0) < min(mean_distance(shift) for shift in (0.02, -0.02, 0.1, -0.1, 0.25))


def test_the_true_body_is_found_again_from_any_depth_and_place() -> None:
    truth = rendered_view().surface
    again = placement.at_best_depth(Surface(truth.points + [0, 0, -0.31], truth.faces), truth)
    assert np.abs(again - truth.points).max() < 5e-4
    again = placement.at_best_place(Surface(1.07 * truth.points + [0.03, -0.04, 0.02], truth.faces), truth)
    assert np.abs(again - truth.points).max() < 2e-3


def test_aligning_never_turns() -> None:
    turn = rotvec_to_rotmat(torch.tensor([0.0, 0.3, 0.0]).double()).numpy()
    points = rendered_view().surface.points @ turn.T
    model = Surface(points, rendered_view().surface.faces)
    for align in (placement.at_best_depth, placement.at_best_place):
        moved = align(model, rendered_view().surface)
        bones = (moved - moved[0]) / np.linalg.norm(moved[-1] - moved[0])
        np.testing.assert_allclose(bones, (points - points[0]) / np.linalg.norm(points[-1] - points[0]), atol=1e-6)


def test_distances_between_spheres_are_the_difference_of_their_radii() -> None:
    d = placement.distances(sphere(0.52).points, sphere(0.52).faces, sphere(0.5))  # type: ignore[arg-type]
    assert d.v2s == pytest.approx(20, abs=0.3) and d.v2s_model == pytest.approx(20, abs=0.3)
    assert d.v2v >= d.v2s and d.v2v_model == pytest.approx(20, abs=0.3)


def test_corresponding_vertices_are_aligned_by_themselves(body: BodyModel) -> None:
    true, faces = rendered_view().vertices, body.data.faces
    off = placement.corresponding(true + [0.003, 0.004, 0.7], true, faces, AS_SEEN)
    np.testing.assert_allclose(off, 5.0, atol=1e-6)
    assert placement.corresponding(1.2 * true + [0.3, 0.4, 0.7], true, faces, MOVED).max() < 1e-6
    tilted = true + np.stack([0 * true[:, 0], 0 * true[:, 0], 0.1 * true[:, 1]], 1)
    by_area = np.average(placement.corresponding(tilted, true, faces, AS_SEEN), weights=vertex_areas(true, faces))
    areas, height = vertex_areas(true, faces), true[:, 1]
    assert by_area == pytest.approx(
        1000 * np.average(np.abs(0.1 * (height - np.average(height, weights=areas))), weights=areas)
    )
