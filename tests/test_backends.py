"""Other ways of searching give the default's answers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lvdreg.base.errors import UsageError
from lvdreg.geometry import mesh as geometry
from lvdreg.geometry import nearest
from lvdreg.geometry.mesh import FloatArray, IntArray

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def open3d() -> str:
    pytest.importorskip("open3d", reason="open3d is not installed: pip install 'lvdreg[open3d]'", exc_type=ImportError)
    return "open3d"


@pytest.fixture
def kaolin(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Stand in for kaolin, which PyPI does not have: its signatures, shapes and squared distances, on the CPU."""
    root, metrics = ModuleType("kaolin"), ModuleType("kaolin.metrics")
    clouds, meshes = ModuleType("kaolin.metrics.pointcloud"), ModuleType("kaolin.metrics.trianglemesh")
    clouds.sided_distance = sided_distance  # type: ignore[attr-defined]
    meshes.point_to_mesh_distance = point_to_mesh_distance  # type: ignore[attr-defined]
    for module in (root, metrics, clouds, meshes):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(nearest.BACKENDS, "kaolin", lambda: nearest.Kaolin("cpu"))
    nearest._made.cache_clear()
    yield "kaolin"
    nearest._made.cache_clear()


def sided_distance(p1: torch.Tensor, p2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, P, 3) and (B, Q, 3) to squared distances (B, P) and indices (B, P)."""
    found = torch.cdist(p1, p2).square().min(-1)
    return found.values, found.indices


def point_to_mesh_distance(
    pointclouds: torch.Tensor, face_vertices: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(B, P, 3) and (B, F, 3, 3) to squared distances, faces and kinds of distance, each (B, P)."""
    assert pointclouds.shape[0] == face_vertices.shape[0] == 1
    points, triangles = pointclouds[0].numpy(), face_vertices[0].numpy()
    count = len(triangles)
    own = nearest.closest_on_triangles(np.repeat(points, count, 0), np.tile(triangles, (len(points), 1, 1)))
    squared = torch.from_numpy(((own - np.repeat(points, count, 0)) ** 2).sum(1).reshape(-1, count)).min(1)
    return squared.values[None], squared.indices[None], torch.zeros_like(squared.indices)[None]


def bumpy_sphere(rings: int = 20, at: float = 0.0) -> tuple[FloatArray, IntArray]:
    import trimesh

    mesh = trimesh.creation.uv_sphere(count=(rings, rings))
    noise = np.random.default_rng(0).normal(scale=0.02, size=mesh.vertices.shape)
    return np.asarray(mesh.vertices + noise + at, np.float64), np.asarray(mesh.faces, np.int64)


@pytest.fixture(params=["open3d", "kaolin"])
def other(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("at", [0.0, 1000.0])
def test_distances_to_a_mesh_are_the_defaults(other: str, at: float) -> None:
    vertices, faces = bumpy_sphere(at=at)
    points = at + np.random.default_rng(1).normal(size=(500, 3))
    ours = geometry.closest_point_on_mesh(points, vertices, faces, backend="default")
    theirs = geometry.closest_point_on_mesh(points, vertices, faces, backend=other)
    np.testing.assert_allclose(theirs.distance, ours.distance, rtol=0, atol=2e-6)
    rebuilt = geometry.interpolate(vertices, faces, theirs.face, theirs.bary)
    np.testing.assert_allclose(rebuilt, theirs.points, rtol=0, atol=1e-9 * max(at, 1))
    # A point in the middle is as near to several places; elsewhere the place is the same.
    same = np.linalg.norm(theirs.points - ours.points, axis=1) < 1e-5
    assert same.mean() > 0.99
    assert theirs.face.dtype == ours.face.dtype
    assert theirs.points.dtype == theirs.distance.dtype == np.float64


def test_nearest_points_are_the_defaults(other: str) -> None:
    rng = np.random.default_rng(2)
    queries, points = rng.normal(size=(300, 3)), rng.normal(size=(1000, 3))
    ours = geometry.nearest_neighbours(queries, points, backend="default")
    theirs = geometry.nearest_neighbours(queries, points, backend=other)
    np.testing.assert_array_equal(theirs[1], ours[1])
    np.testing.assert_allclose(theirs[0], ours[0], rtol=0, atol=1e-12)


def test_the_variable_chooses(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(nearest.find_backend(), nearest.Default)
    monkeypatch.setenv(nearest.VARIABLE, other)
    assert not isinstance(nearest.find_backend(), nearest.Default)
    assert isinstance(nearest.find_backend("default"), nearest.Default), "an argument counts for more"


def test_a_metric_by_another_backend_is_the_same(open3d: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lvdreg.geometry.metrics import Surface, point_to_surface

    vertices, faces = bumpy_sphere()
    scan, model = Surface(vertices, faces), Surface(1.02 * vertices, faces)
    ours = point_to_surface(scan, model)
    monkeypatch.setenv(nearest.VARIABLE, open3d)
    theirs = point_to_surface(scan, model)
    assert theirs.scan_to_model_mm == pytest.approx(ours.scan_to_model_mm, abs=1e-3)
    assert theirs.model_to_scan_mm == pytest.approx(ours.model_to_scan_mm, abs=1e-3)


def test_closest_on_triangles_equals_libigl() -> None:
    rng = np.random.default_rng(4)
    triangles, points = rng.normal(size=(400, 3, 3)), 2 * rng.normal(size=(400, 3))
    found = nearest.closest_on_triangles(points, triangles)
    for point, triangle, closest in zip(points, triangles, found, strict=True):
        _, expected, _ = nearest.Default().closest_on_mesh(point[None], triangle, np.array([[0, 1, 2]]))
        np.testing.assert_allclose(closest, expected[0], rtol=0, atol=1e-9)


def test_flat_triangles_are_segments_and_points() -> None:
    rng = np.random.default_rng(5)
    triangles, points = rng.normal(size=(100, 3, 3)), 2 * rng.normal(size=(100, 3))
    triangles[:40, 2] = triangles[:40, 1]
    triangles[40:70, 1:] = triangles[40:70, :1]
    share = rng.random((30, 1))
    triangles[70:, 2] = share * triangles[70:, 0] + (1 - share) * triangles[70:, 1]
    found = nearest.closest_on_triangles(points, triangles)
    along = np.linspace(0, 1, 2001)[:, None, None]
    on_segment = (1 - along) * triangles[:, 0] + along * triangles[:, 1]
    expected = np.linalg.norm(on_segment - points, axis=2).min(0)
    np.testing.assert_allclose(np.linalg.norm(found - points, axis=1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"), [("fastest", "default, open3d, kaolin.*'fastest'"), ("kaolin", "not on PyPI.*LVDREG_BACKEND")]
)
def test_a_backend_that_is_not_there_says_so_in_one_line(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaolin", None)
    nearest._made.cache_clear()
    with pytest.raises(UsageError, match=words) as error:
        nearest.find_backend(name)
    assert "\n" not in str(error.value)


def test_the_default_brings_in_no_other_package() -> None:
    code = "import sys, lvdreg.pipeline.scan; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not {"smplx", "chumpy", "manopth", "kaolin", "open3d"} & set(run.stdout.split())
