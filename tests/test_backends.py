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
from beartype import beartype
from jaxtyping import Float, Int32, Int64, TypeCheckError, jaxtyped
from torch import Tensor

from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.geometry import mesh as geometry
from lvdreg.geometry import nearest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def open3d() -> str:
    pytest.importorskip("open3d", reason="open3d is not installed: pip install 'lvdreg[open3d]'", exc_type=ImportError)
    return "open3d"


@pytest.fixture
def kaolin(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Stand in for kaolin, which PyPI does not have, on the CPU."""
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


# Signatures, shapes and types as in kaolin's documentation (kaolin.readthedocs.io, kaolin.metrics.pointcloud and
# kaolin.metrics.trianglemesh) and in its source (NVIDIAGameWorks/kaolin, commits 4e07173 and 729d52b). They refuse a
# call of other shapes, and two arguments of different types.
@jaxtyped(typechecker=beartype)
def sided_distance(
    p1: Float[Tensor, "batch_size num_points1 3"], p2: Float[Tensor, "batch_size num_points2 3"]
) -> tuple[Float[Tensor, "batch_size num_points1"], Int64[Tensor, "batch_size num_points1"]]:
    """Return squared distances to the nearest of ``p2``, and its index."""
    assert p1.dtype == p2.dtype
    found = (p1[:, :, None] - p2[:, None]).square().sum(-1).min(-1)
    return found.values, found.indices


@jaxtyped(typechecker=beartype)
def point_to_mesh_distance(
    pointclouds: Float[Tensor, "batch_size num_points 3"], face_vertices: Float[Tensor, "batch_size num_faces 3 3"]
) -> tuple[
    Float[Tensor, "batch_size num_points"],
    Int64[Tensor, "batch_size num_points"],
    Int32[Tensor, "batch_size num_points"],
]:
    """Return squared distances, the faces, and whether the nearest is inside (0), a corner or a side of the face."""
    assert pointclouds.dtype == face_vertices.dtype
    squared, index = [], []
    for points, triangles in zip(pointclouds.double().numpy(), face_vertices.double().numpy(), strict=True):
        each = np.repeat(points, len(triangles), 0)
        own = nearest.closest_on_triangles(each, np.tile(triangles, (len(points), 1, 1)))
        found = torch.from_numpy(((own - each) ** 2).sum(1).reshape(-1, len(triangles))).min(1)
        squared.append(found.values.to(pointclouds.dtype))
        index.append(found.indices)
    # Which kind of distance it is, the adapter does not ask.
    return torch.stack(squared), torch.stack(index), torch.zeros(pointclouds.shape[:2], dtype=torch.int32)


def test_the_stand_in_answers_as_kaolins_documentation() -> None:
    """The examples of kaolin's own documentation, with its numbers."""
    point = torch.tensor([[[0.5, 0.5, 0.5], [3.0, 4.0, 5.0]]])
    triangle = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]])
    distance, index, _ = point_to_mesh_distance(point, triangle)
    torch.testing.assert_close(distance, torch.tensor([[0.25, 41.0]]))
    assert index.tolist() == [[0, 0]]
    p1 = torch.tensor([[[5.9336, 4.9742, 8.1047]], [[4.1939, 3.3612, 9.5407]]])
    p2 = torch.tensor(
        [[[1.6998, 0.7719, 2.9987], [0.1812, 8.9342, 10.0285]], [[10.0184, 0.3928, 5.2545], [4.2934, 11.2127, 4.5247]]]
    )
    squared, nearest_of = sided_distance(p1, p2)
    torch.testing.assert_close(squared, torch.tensor([[52.4727], [61.1077]]), rtol=0, atol=1e-3)
    assert nearest_of.tolist() == [[1], [0]]


def test_the_stand_in_refuses_what_kaolin_would() -> None:
    """Its former signature (points, vertices, faces), no batch, and vertices instead of corners."""
    points, vertices, faces = torch.zeros(1, 2, 3), torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]])
    with pytest.raises(TypeError):
        point_to_mesh_distance(points, vertices, faces)  # type: ignore[call-arg]
    for wrong in ((points, vertices), (points[0], vertices[:, None]), (points, vertices[:, None].long())):
        with pytest.raises(TypeCheckError):
            point_to_mesh_distance(*wrong)
    with pytest.raises(TypeCheckError):
        sided_distance(points[0], vertices)


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
