"""Sensors: what is seen agrees with ray casting, faults appear as often as asked, the same seed scans the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from lvdreg.geometry.mesh import closest_point_on_mesh
from lvdreg.synth.draw import Draw
from lvdreg.synth.scanner import GRAZING, SynthConfig, sample_surface, scan_points, visible
from lvdreg.synth.surface import Outer

CLEAN = SynthConfig(
    view_probabilities=(1.0, 0.0, 0.0, 0.0), hole_probability=0.0, sole_missing_probability=0.0,
    top_missing_probability=0.0, crop_probability=0.0, uneven_probability=0.0, sparse_probability=0.0, noise_sigma=0.0,
    rough_probability=0.0, depth_step=0.0, misalignment=0.0, outlier_probability=0.0, floor_probability=0.0,
    flying_probability=0.0,
    normals_absent_probability=0.0, normals_flipped_probability=0.0,
)  # fmt: skip


def figure() -> trimesh.Trimesh:
    """A body, a head, and an arm in front of the body, about as large as a person."""
    body = trimesh.creation.capsule(height=0.9, radius=0.16, count=[16, 16])
    head = trimesh.creation.icosphere(subdivisions=2, radius=0.12)
    head.apply_translation([0, 0, 1.3])
    arm = trimesh.creation.capsule(height=0.5, radius=0.05, count=[12, 12])
    arm.apply_translation([0.05, 0.35, 0.2])
    for part in (body, head, arm):
        part.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
    vertices = np.concatenate([part.vertices for part in (body, head, arm)])
    offsets = (0, len(body.vertices), len(body.vertices) + len(head.vertices))
    faces = np.concatenate([part.faces + offset for part, offset in zip((body, head, arm), offsets, strict=True)])
    return trimesh.Trimesh(vertices, faces, process=False)


def outer_of(mesh: trimesh.Trimesh, batch: int) -> Outer:
    vertices = torch.as_tensor(np.array(mesh.vertices), dtype=torch.float32).expand(batch, -1, -1)
    faces = torch.as_tensor(np.array(mesh.faces), dtype=torch.int64)
    return Outer(vertices, faces, torch.ones(batch, len(faces), dtype=torch.bool))


@pytest.fixture(scope="module")
def surface() -> Outer:
    return outer_of(figure(), 6)


def scan(outer: Outer, config: SynthConfig, seed: int = 0, num_points: int = 1500) -> tuple[Tensor, Tensor, Tensor]:
    return scan_points(outer, num_points, torch.Generator().manual_seed(seed), config)


def blocked(origin: np.ndarray, targets: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Ray casting written out (Moeller and Trumbore 1997): does any triangle lie well before the target?"""
    ray = targets - origin
    a, ab, ac = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    out = np.zeros(len(targets), bool)
    margin = 5e-3 / np.linalg.norm(ray, axis=1)
    for i, d in enumerate(ray):
        p = np.cross(d, ac)
        det = (ab * p).sum(1)
        det = np.where(np.abs(det) < 1e-12, np.inf, det)
        s = origin - a
        u = (s * p).sum(1) / det
        q = np.cross(s, ab)
        v = (q @ d) / det
        t = (ac * q).sum(1) / det
        out[i] = ((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 1 - margin[i])).any()
    return out


def test_visibility_agrees_with_ray_casting(surface: Outer) -> None:
    one = Outer(surface.vertices[:1], surface.faces, surface.face_keep[:1])
    points, normals = sample_surface(one, 16_000, Draw(1, torch.Generator().manual_seed(1)), CLEAN)
    cameras = torch.tensor([[[0.0, 0.4, 2.5], [2.0, 1.0, -1.5], [-0.3, 2.5, 0.8]]])
    seen = visible(points, normals, cameras)[0].numpy()
    some = np.arange(0, 16_000, 16)
    triangles = surface.vertices[0].double().numpy()[surface.faces.numpy()]
    for camera, mine in zip(cameras[0].double().numpy(), seen, strict=True):
        targets = points[0, some].double().numpy()
        ray = targets - camera
        slant = -(ray * normals[0, some].double().numpy()).sum(1) / np.linalg.norm(ray, axis=1)
        truth = (slant > GRAZING) & ~blocked(camera, targets, triangles)
        assert truth.mean() > 0.2
        assert (truth == mine[some]).mean() > 0.97


def test_complete_scans_are_even_and_on_the_surface(surface: Outer) -> None:
    points, normals, valid = scan(surface, CLEAN, num_points=4000)
    assert valid.all()
    mesh = figure()
    distance = closest_point_on_mesh(
        points[0, :300].double().numpy(), np.asarray(mesh.vertices), np.asarray(mesh.faces)
    ).distance
    assert distance.max() < 1e-6
    assert torch.allclose(normals.norm(dim=-1), torch.ones(()), atol=1e-5)
    upper = (points[..., 1] > 0).float().mean(1)
    centres, areas = mesh.triangles_center, mesh.area_faces
    assert upper.numpy() == pytest.approx(areas[centres[:, 1] > 0].sum() / areas.sum(), abs=0.03)


def test_faces_not_kept_are_never_sampled(surface: Outer) -> None:
    keep = surface.vertices[:, surface.faces].mean(2)[..., 1] > 0.2
    points, _, valid = scan(Outer(surface.vertices, surface.faces, keep), CLEAN)
    assert valid.all()
    lowest = surface.vertices[0, surface.faces][keep[0]][..., 1].min()
    assert (points[..., 1] >= lowest - 1e-6).all()


def test_same_seed_same_scan(surface: Outer) -> None:
    first, again, other = (scan(surface, SynthConfig(), seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_every_scan_is_finite_and_never_empty(surface: Outer) -> None:
    for seed in range(8):
        points, normals, valid = scan(surface, SynthConfig(), seed, 600)
        assert points.isfinite().all()
        assert normals.isfinite().all()
        assert valid.any(1).all()
        length = normals.norm(dim=-1)
        assert ((length < 1e-6) | ((length - 1).abs() < 1e-4)).all()


def test_rows_outside_the_mask_repeat_a_real_point(surface: Outer) -> None:
    points, _, valid = scan(surface, replace(CLEAN, sparse_probability=1.0))
    assert 0 < valid.float().mean() < 0.6
    for i in range(len(points)):
        repeated = points[i, ~valid[i]][:20, None] == points[i, valid[i]]
        assert repeated.all(-1).any(1).all()


def test_one_camera_sees_one_side(surface: Outer) -> None:
    _, normals, valid = scan(surface, replace(CLEAN, view_probabilities=(0.0, 0.0, 0.0, 1.0)), num_points=4000)
    for n, keep in zip(normals, valid, strict=True):
        mean = n[keep].mean(0)
        assert mean.norm() > 0.35  # a closed surface's normals cancel out
        assert ((n[keep] @ mean) > -0.3).float().mean() > 0.9
    ring = scan(surface, replace(CLEAN, view_probabilities=(0.0, 1.0, 0.0, 0.0)))
    assert ring[1].mean(1).norm(dim=-1).max() < 0.3


@pytest.mark.parametrize("fault", [replace(CLEAN, hole_probability=1.0), replace(CLEAN, crop_probability=1.0)])
def test_faults_remove_places(surface: Outer, fault: SynthConfig) -> None:
    whole = scan(surface, CLEAN, num_points=3000)[0]
    harmed = scan(surface, fault, num_points=3000)[0]
    gap = torch.cdist(whole, harmed).amin(2).amax(1)
    assert (gap > 0.05).sum() >= 4


def test_soles_are_missing_where_asked(surface: Outer) -> None:
    harmed, normals, _ = scan(surface, replace(CLEAN, sole_missing_probability=1.0))
    floor = surface.vertices[..., 1].min()
    assert not ((harmed[..., 1] < floor + 0.01) & (normals[..., 1] < -0.4)).any()


def test_noise_has_the_asked_size(surface: Outer) -> None:
    noisy, _, _ = scan(surface, replace(CLEAN, rough_probability=1.0, rough_sigma=0.02), num_points=2000)
    mesh = figure()
    spread = [
        closest_point_on_mesh(
            p[:200].double().numpy(), np.asarray(mesh.vertices), np.asarray(mesh.faces)
        ).distance.std()
        for p in noisy
    ]
    assert 0.005 < np.mean(spread) < 0.02  # half-normal: 0.6 of 6 to 20 mm


def test_outliers_and_floor_appear(surface: Outer) -> None:
    floor, normals, _ = scan(surface, replace(CLEAN, floor_probability=1.0, max_floor=0.3), num_points=3000)
    on_floor = (floor[..., 1] - surface.vertices[..., 1].min()).abs() < 0.012
    assert (on_floor & (normals[..., 1] > 0.9)).float().mean() > 0.03
    stray, _, _ = scan(surface, replace(CLEAN, outlier_probability=1.0, max_outliers=0.05), num_points=3000)
    gap = torch.cdist(stray, scan(surface, CLEAN, num_points=3000)[0]).amin(2)
    assert 0 < (gap > 0.06).float().mean() < 0.08


def test_normals_flip_and_vanish_as_asked(surface: Outer) -> None:
    points, flipped, _ = scan(surface, replace(CLEAN, normals_flipped_probability=1.0))
    head = points[..., 1] > 1.25
    away = points - torch.tensor([0.0, 1.3, 0.0])
    assert ((flipped * away).sum(-1)[head] < 0).float().mean() > 0.9
    assert (scan(surface, replace(CLEAN, normals_absent_probability=1.0))[1] == 0).all()


def test_flying_pixels_trail_behind_the_silhouette(surface: Outer) -> None:
    single = replace(CLEAN, view_probabilities=(0.0, 0.0, 0.0, 1.0))
    calm = scan(surface, single, num_points=3000)[0]
    wild = scan(surface, replace(single, flying_probability=1.0), num_points=3000)[0]
    moved = (wild - calm).norm(dim=-1)  # equal draws up to here: the same points
    assert 0 < (moved > 0.01).float().mean() < 0.3
    assert moved.max() <= SynthConfig().flying_depth
