"""What lies nearest: the search behind distances, by libigl and SciPy or by what the user has installed instead.

Another backend is asked only which point or which face is nearest. Where on that face, and how far, is computed here in
double precision, so one that searches in single precision gives the default's distances to within rounding.
``LVDREG_BACKEND`` chooses for a whole run; open3d and kaolin are imported when first asked for.
"""

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import Faces, FloatArray, IntArray, Points, Vertices

if TYPE_CHECKING:
    from torch import Tensor


VARIABLE = "LVDREG_BACKEND"
OPEN3D_HELP = "pip install 'lvdreg[open3d]'"
KAOLIN_HELP = "its wheels are not on PyPI, see kaolin.readthedocs.io/en/latest/notes/installation.html"


@runtime_checkable
class Backend(Protocol):
    """A way of searching; coordinates are finite, in one frame and unit, and none of the arrays is empty."""

    def nearest_points(
        self, queries: Float64[np.ndarray, "Q 3"], points: Points
    ) -> tuple[Float64[np.ndarray, " Q"], Int64[np.ndarray, " Q"]]:
        """Return distance (Q,) and index (Q,) of the nearest of ``points`` (P, 3) to each of ``queries`` (Q, 3)."""
        ...

    def closest_on_mesh(
        self, queries: Float64[np.ndarray, "Q 3"], vertices: Vertices, faces: Faces
    ) -> tuple[Float64[np.ndarray, " Q"], Float64[np.ndarray, "Q 3"], Int64[np.ndarray, " Q"]]:
        """Return distance (Q,), closest point (Q, 3) and its face (Q,) on a mesh (V, 3), (F, 3) for each query."""
        ...


class Default:
    """SciPy's k-d tree and libigl's bounding-volume tree: exact, double precision, always there.

    Imported when first asked for, as networks train where there is nothing but torch and numpy.
    """

    def nearest_points(
        self, queries: Float64[np.ndarray, "Q 3"], points: Points
    ) -> tuple[Float64[np.ndarray, " Q"], Int64[np.ndarray, " Q"]]:
        """Search with a k-d tree; see ``Backend``."""
        from scipy.spatial import cKDTree

        distance, index = cKDTree(points).query(queries)
        return distance, np.asarray(index, np.int64)

    def closest_on_mesh(
        self, queries: Float64[np.ndarray, "Q 3"], vertices: Vertices, faces: Faces
    ) -> tuple[Float64[np.ndarray, " Q"], Float64[np.ndarray, "Q 3"], Int64[np.ndarray, " Q"]]:
        """Search with a tree of boxes; see ``Backend``."""
        import igl

        squared, face, closest = igl.point_mesh_squared_distance(
            np.ascontiguousarray(queries, np.float64),
            np.ascontiguousarray(vertices, np.float64),
            np.ascontiguousarray(faces, np.int64),
        )
        return np.sqrt(np.maximum(squared, 0)), closest, np.asarray(face, np.int64)


class Open3d:
    """Open3D on the CPU: its nearest-neighbour search (double precision) and its ray-casting scene (single).

    Raises:
        UsageError: open3d cannot be imported.
    """

    def __init__(self) -> None:
        self._o3d = _imported("open3d", OPEN3D_HELP)

    def nearest_points(self, queries: FloatArray, points: FloatArray) -> tuple[FloatArray, IntArray]:
        """Search with ``open3d.core.nns``; see ``Backend``."""
        core = self._o3d.core
        search = core.nns.NearestNeighborSearch(core.Tensor(np.ascontiguousarray(points, np.float64)))
        search.knn_index()
        found, _ = search.knn_search(core.Tensor(np.ascontiguousarray(queries, np.float64)), 1)
        return _measured(queries, points, found.numpy().reshape(-1))

    def closest_on_mesh(
        self, queries: FloatArray, vertices: FloatArray, faces: IntArray
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        """Search with ``open3d.t.geometry.RaycastingScene``; see ``Backend``."""
        core, middle = self._o3d.core, vertices.mean(0)
        scene = self._o3d.t.geometry.RaycastingScene()
        # About the middle: far from the origin single precision would go to the offset.
        own = core.Tensor(np.ascontiguousarray(vertices - middle, np.float32))
        scene.add_triangles(own, core.Tensor(np.ascontiguousarray(faces, np.uint32)))
        hit = scene.compute_closest_points(core.Tensor(np.ascontiguousarray(queries - middle, np.float32)))
        return _on_faces(queries, vertices, faces, hit["primitive_ids"].numpy())


class Kaolin:
    """NVIDIA Kaolin's distances, by comparing all with all on a GPU.

    Args:
        device: Of torch.

    Raises:
        UsageError: kaolin cannot be imported.
    """

    def __init__(self, device: str = "cuda") -> None:
        self._points = _imported("kaolin.metrics.pointcloud", KAOLIN_HELP)
        self._meshes = _imported("kaolin.metrics.trianglemesh", KAOLIN_HELP)
        self._device = device

    def nearest_points(self, queries: FloatArray, points: FloatArray) -> tuple[FloatArray, IntArray]:
        """Search with ``kaolin.metrics.pointcloud.sided_distance``; see ``Backend``."""
        _, found = self._points.sided_distance(self._batch(queries), self._batch(points))
        return _measured(queries, points, found[0].cpu().numpy())

    def closest_on_mesh(
        self, queries: FloatArray, vertices: FloatArray, faces: IntArray
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        """Search with ``kaolin.metrics.trianglemesh.point_to_mesh_distance``; see ``Backend``."""
        _, face, _ = self._meshes.point_to_mesh_distance(self._batch(queries), self._batch(vertices[faces]))
        return _on_faces(queries, vertices, faces, face[0].cpu().numpy())

    def _batch(self, array: FloatArray) -> "Tensor":
        import torch

        return torch.from_numpy(np.ascontiguousarray(array, np.float64)).to(self._device)[None]


BACKENDS: dict[str, Callable[[], Backend]] = {"default": Default, "open3d": Open3d, "kaolin": Kaolin}


def find_backend(name: str | None = None) -> Backend:
    """Return a backend by name.

    Args:
        name: One of ``BACKENDS``; None: what LVDREG_BACKEND says, and the default where it says nothing.

    Raises:
        UsageError: there is no backend of that name, or its package cannot be imported.
    """
    name = name or os.environ.get(VARIABLE) or "default"
    if name not in BACKENDS:
        raise UsageError(f"expected a backend ({VARIABLE}) among {', '.join(BACKENDS)}, got {name!r}")
    return _made(name)


@cache
def _made(name: str) -> Backend:
    return BACKENDS[name]()


def _imported(module: str, remedy: str) -> Any:
    try:
        return import_module(module)
    # OSError: a compiled package that misses a library of the system.
    except (ImportError, OSError) as error:
        package = module.split(".")[0]
        raise UsageError(f"backend {package} cannot be imported ({error}): {remedy}; or unset {VARIABLE}") from error


def _measured(queries: FloatArray, points: FloatArray, index: NDArray[Any]) -> tuple[FloatArray, IntArray]:
    index = np.asarray(index, np.int64)
    return np.linalg.norm(queries - points[index], axis=1), index


def _on_faces(
    queries: FloatArray, vertices: FloatArray, faces: IntArray, face: NDArray[Any]
) -> tuple[FloatArray, FloatArray, IntArray]:
    face = np.asarray(face, np.int64)
    closest = closest_on_triangles(queries, vertices[faces[face]])
    return np.linalg.norm(closest - queries, axis=1), closest, face


def closest_on_triangles(points: Points, triangles: Float64[np.ndarray, "P 3 3"]) -> Points:
    """Return of each triangle (P, 3, 3) the point (P, 3) closest to its own query (P, 3); flat triangles are fine."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    squared = np.einsum("pi,pi->p", normal, normal)
    height = np.einsum("pi,pi->p", points - triangles[:, 0], normal)
    foot = points - _ratio(height, squared)[:, None] * normal
    inside = squared > 0
    on_sides = []
    for i in range(3):
        start, side = triangles[:, i], triangles[:, (i + 1) % 3] - triangles[:, i]
        inside &= np.einsum("pi,pi->p", np.cross(side, foot - start), normal) >= 0
        along = _ratio(np.einsum("pi,pi->p", points - start, side), np.einsum("pi,pi->p", side, side))
        on_sides.append(start + np.clip(along, 0, 1)[:, None] * side)
    nearest = np.linalg.norm(np.stack(on_sides) - points, axis=2).argmin(0)
    return np.where(inside[:, None], foot, np.stack(on_sides)[nearest, np.arange(len(points))])


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
