"""Dense meshes: thinned before anything grows with them, without moving, closing or opening what they show."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.geometry.mesh import boundary_vertices, closest_point_on_mesh, face_areas
from lvdreg.scan import clean
from lvdreg.scan.clean import clean_scan, thin_mesh
from lvdreg.scan.model import Scan, scan_from_arrays

MOST = 8000


def ball(radius: float = 0.5) -> tuple[FloatArray, IntArray]:
    """A sphere of 40,962 vertices."""
    made = trimesh.creation.icosphere(6, radius)
    return np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64)


def thinned(points: FloatArray, faces: IntArray) -> Scan:
    scan = thin_mesh(scan_from_arrays(points, faces), MOST)
    assert 0.3 * MOST < len(scan.points) <= MOST
    assert scan.notes[-1] == f"thinned {len(points)} points to {len(scan.points)}, evenly"
    return scan


def rim_of(scan: Scan) -> FloatArray:
    assert scan.faces is not None
    return scan.points[boundary_vertices(scan.faces, len(scan.points))]


def test_what_is_not_dense_stays_as_it_is() -> None:
    scan = scan_from_arrays(*ball())
    assert thin_mesh(scan, len(scan.points)) is scan
    cloud = scan_from_arrays(ball()[0])
    assert thin_mesh(cloud, MOST) is cloud


def test_a_closed_surface_stays_closed_and_where_it_is() -> None:
    points, faces = ball()
    scan = thinned(points, faces)
    assert scan.faces is not None and not len(rim_of(scan))
    assert np.linalg.norm(scan.points, axis=1) == pytest.approx(0.5, abs=0.0005)
    assert face_areas(scan.points, scan.faces).sum() == pytest.approx(np.pi, rel=0.005)
    assert closest_point_on_mesh(points, scan.points, scan.faces).distance.max() < 0.001


def test_both_sides_of_a_thin_wall_stay() -> None:
    """A hollow ball: its wall of two millimetres is a tenth of a voxel."""
    points, faces = ball()
    scan = thinned(np.vstack([points, 0.996 * points]), np.vstack([faces, faces[:, ::-1] + len(points)]))
    assert scan.faces is not None and not len(rim_of(scan))
    radius = np.linalg.norm(scan.points, axis=1)
    assert (np.abs(radius - 0.5) < 0.0006).sum() == pytest.approx(len(radius) / 2, rel=0.1)
    assert (np.minimum(np.abs(radius - 0.5), np.abs(radius - 0.498)) < 0.0006).all()


def test_rims_stay_rims_and_no_others_appear() -> None:
    points, faces = ball()
    scan = thinned(points, faces[points[faces].mean(1)[:, 2] < 0.3])
    rim = rim_of(scan)
    assert len(rim) > 50 and (np.abs(rim[:, 2] - 0.3) < 0.03).all()


def test_noise_does_not_open_a_surface_and_colours_are_averaged() -> None:
    points, faces = ball()
    points = points + 0.001 * np.random.default_rng(0).normal(size=points.shape)
    red = (255 * (points[:, :1] > 0) * [1, 0, 0]).astype(np.uint8)
    scan = thin_mesh(scan_from_arrays(points, faces, colors=red), MOST)
    assert not len(rim_of(scan)) and scan.colors is not None
    assert (scan.colors[scan.points[:, 0] > 0.05] == [255, 0, 0]).all() and (scan.colors[:, 1:] == 0).all()


def test_a_far_away_point_does_not_decide_the_voxels() -> None:
    points, faces = ball()
    far = np.array([[1e9, 0, 0], [1e9, 0, 1], [1e9, 1, 0]])
    scan = thin_mesh(scan_from_arrays(np.vstack([points, far]), np.vstack([faces, [[40962, 40963, 40964]]])), MOST)
    assert len(scan.points) > 0.3 * MOST and np.abs(scan.points).max() < 1


def test_points_that_hardly_a_face_uses_are_not_thinned_as_a_mesh() -> None:
    points, faces = ball()
    scan = scan_from_arrays(points, faces[:500])
    assert thin_mesh(scan, MOST) is scan


def test_a_soup_counts_as_its_faces_and_becomes_one_surface() -> None:
    """Files without shared vertices hold each one six times."""
    points, faces = ball()
    soup = scan_from_arrays(points[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3))
    assert thin_mesh(soup, len(faces) // 2) is soup
    scan = thin_mesh(soup, MOST)
    assert 0.3 * MOST < len(scan.points) <= MOST and not len(rim_of(scan))


def test_cleaning_thins_what_is_left_of_a_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean, "MAX_MESH", MOST)
    points, faces = ball()
    stretched = replace(scan_from_arrays(points * [0.5, 1.7, 0.3], faces), name="dense")
    scan = clean_scan(stretched)
    assert len(scan.points) <= MOST and scan.normals is not None
    assert (np.einsum("pi,pi->p", scan.normals, scan.points) > 0).all()
