"""Another model's vertices as points of the free body: what lets one network serve every topology.

The template of the model was registered with the free body. Each of its vertices then has a place on the free body's
surface, and a small offset from there, for the free body cannot take the template's very shape. Wherever the network
finds the free body, the model's vertices follow. Poses cancel out: both surfaces are interpolated as they are posed, so
it does not matter that one model rests in an A-pose and the other in a T-pose.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lvdreg.base.errors import BodyError
from lvdreg.base.shapes import Faces, FloatArray, IntArray, Vertices
from lvdreg.body.model import BodyData
from lvdreg.geometry.mesh import barycentric, closest_point_on_mesh, face_areas, interpolate, mesh_normals, unit_rows

CANDIDATES = 12
"""Faces that are looked at for each vertex beside the closest: the nearest by centre and normal."""
NORMAL_REACH = 0.02
"""Opposite normals count as so many times the body's size apart: 3.5 cm of a person, an arm's front from its back."""
FAR = 0.01
"""A place further from its vertex than so many times the body's size is none: 1.7 cm of a person."""
MIN_COSINE = 0.3
BLIND_SIGMAS = 5.0
"""How much less sure a vertex is that has no place of its own."""
OFFSET_SHARE = 0.3
"""How much of an offset may be wrong on another person in another pose, one sigma."""


@runtime_checkable
class Template(Protocol):
    """As much of a model as places are sought for: ``v_template`` (V, 3) and ``faces`` (F, 3)."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def v_template(self) -> NDArray[Any]:
        """(V, 3) vertices, metres."""
        ...

    @property
    def faces(self) -> IntArray:
        """(F, 3) triangles."""
        ...


@dataclass(frozen=True)
class Correspondence:
    """Where each vertex of a model lies on a free body.

    Attributes:
        source: Name of the free body.
        faces_index: (V,) its face that each vertex lies on.
        bary: (V, 3) where on it.
        offsets: (V, 3) from there to the vertex, metres, along the frame of the surface (see ``surface_frames``).
        residual_mm: (V,) distance from the vertex of the template to the registered surface of the free body.
        blind: (V,) vertices that nothing of the free body corresponds to, as inside of the mouth: they hang on the
            nearest vertex that has a place, and count little.
        size: Root of the area of the free body as it lay on the template, metres.
        key: Hash of both bodies; see ``key_of``.
    """

    source: str
    faces_index: Int64[np.ndarray, " V"]
    bary: Float64[np.ndarray, "V 3"]
    offsets: Float64[np.ndarray, "V 3"]
    residual_mm: Float64[np.ndarray, " V"]
    blind: Bool[np.ndarray, " V"]
    size: float
    key: str

    def __post_init__(self) -> None:
        arrays = (self.faces_index, self.bary, self.offsets, self.residual_mm, self.blind)
        if self.faces_index.ndim != 1 or [array.dtype.kind for array in arrays] != ["i", "f", "f", "f", "b"]:
            raise ValueError("expected places as numbers of faces, numbers and truths, got other types")
        num = len(self.faces_index)
        shapes = (self.bary.shape, self.offsets.shape, self.residual_mm.shape, self.blind.shape)
        if shapes != ((num, 3), (num, 3), (num,), (num,)):
            raise ValueError(f"expected arrays of {num} vertices, got shapes {shapes}")
        finite = all(np.isfinite(array).all() for array in (self.bary, self.offsets, self.residual_mm, self.size))
        if not finite or self.size <= 0 or not num or self.faces_index.min() < 0:
            raise ValueError("expected places on faces and a positive size, got numbers that are none")

    @property
    def num_vertices(self) -> int:
        """How many vertices the model has."""
        return len(self.faces_index)

    def carry(self, vertices: Float64[np.ndarray, "S 3"], faces: Faces) -> Vertices:
        """Return the model's vertices (V, 3) where the free body's are (S, 3), in any pose, frame and unit.

        Args:
            vertices: Of the free body, not mirrored.
            faces: Its faces.
        """
        places = interpolate(vertices, faces, self.faces_index, self.bary)
        frames = surface_frames(vertices, faces, self.faces_index, self.bary)
        return places + self._scale(vertices, faces) * np.einsum("vij,vi->vj", frames, self.offsets)

    def carry_sigma(
        self, sigma: Float64[np.ndarray, " S"], vertices: Float64[np.ndarray, "S 3"], faces: Faces
    ) -> Float64[np.ndarray, " V"]:
        """Return the one-sigma (V,) of the model's vertices, in the unit of ``vertices``, from the free body's (S,)."""
        variance = interpolate(sigma[:, None] ** 2, faces, self.faces_index, self.bary)[:, 0]
        deviation = OFFSET_SHARE * self._scale(vertices, faces) * np.linalg.norm(self.offsets, axis=1)
        return np.sqrt(variance + deviation**2) * np.where(self.blind, BLIND_SIGMAS, 1.0)

    def _scale(self, vertices: FloatArray, faces: IntArray) -> float:
        """Return by how much the free body is larger than it was on the template; the unit of its vertices included."""
        return float(np.sqrt(face_areas(vertices, faces).sum())) / self.size


def key_of(model: Template, source: BodyData) -> str:
    """Return a hash of what a correspondence depends on: both templates and how their vertices are joined."""
    digest = hashlib.sha256()
    both: tuple[Template, Template] = (model, source)
    for data in both:
        for array in (data.v_template, data.faces):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def place_template(
    model: Template,
    source: BodyData,
    body_vertices: Float64[np.ndarray, "S 3"],
    surface_vertices: Float64[np.ndarray, "S 3"],
) -> Correspondence:
    """Find the place of each vertex of a model's template on a free body that was registered to it.

    Places are sought on the registered surface (with displacements, which meets the template), among faces that look
    the same way; offsets count from the free body itself, which is what networks find.

    Args:
        model: The model; its template is what was registered to.
        source: The free body.
        body_vertices: (S, 3) the registered free body under the displacements, in the template's frame, metres.
        surface_vertices: (S, 3) the same with displacements.
    """
    points, faces = np.asarray(model.v_template, np.float64), np.asarray(source.faces, np.int64)
    size = float(np.sqrt(face_areas(body_vertices, faces).sum()))
    normals = mesh_normals(points, np.asarray(model.faces, np.int64))
    index, bary, distance, cosine = _places(points, normals, surface_vertices, faces, size)
    # A vertex without faces, as regressors may use, looks nowhere: what is near is valid.
    blind = (distance > FAR * size) | ((cosine < MIN_COSINE) & (np.linalg.norm(normals, axis=1) > 0.5))
    seeing = np.flatnonzero(~blind)
    if not len(seeing):
        raise BodyError(f"model {model.name}: expected a template of a person or a hand, found nothing alike in it")
    nearest = seeing[cKDTree(points[seeing]).query(points[blind])[1]]
    index[blind], bary[blind] = index[nearest], bary[nearest]
    places = interpolate(body_vertices, faces, index, bary)
    frames = surface_frames(body_vertices, faces, index, bary)
    offsets = np.einsum("vij,vj->vi", frames, points - places)
    return Correspondence(source.name, index, bary, offsets, 1000 * distance, blind, size, key_of(model, source))


def _places(
    points: FloatArray, normals: FloatArray, vertices: FloatArray, faces: IntArray, size: float
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Return face, barycentric coordinates, distance and cosine of normals of the best place for each point.

    That is the closest one, unless it looks the other way and another, not much farther, does not.
    """
    corner_normals = mesh_normals(vertices, faces)
    reach, count = NORMAL_REACH * size / 2, min(CANDIDATES, len(faces))
    tree = cKDTree(np.hstack([vertices[faces].mean(1), reach * unit_rows(corner_normals[faces].sum(1))]))
    alike = np.asarray(tree.query(np.hstack([points, reach * normals]), k=count)[1], np.int64)
    closest = closest_point_on_mesh(points, vertices, faces).face
    index = np.column_stack([closest, alike.reshape(len(points), count)]).ravel()
    queries, looks = (np.repeat(x, count + 1, axis=0) for x in (points, normals))
    bary = barycentric(queries, vertices[faces[index]])
    distance = np.linalg.norm(queries - interpolate(vertices, faces, index, bary), axis=1)
    cosine = np.einsum("pi,pi->p", unit_rows(interpolate(corner_normals, faces, index, bary)), looks)
    cost = (distance + 2 * reach * (cosine < MIN_COSINE)).reshape(len(points), count + 1)
    best = np.arange(len(points)) * (count + 1) + cost.argmin(1)
    return index[best], bary[best], distance[best], cosine[best]


def surface_frames(
    vertices: Vertices,
    faces: Faces,
    index: Int64[np.ndarray, " P"],
    bary: Float64[np.ndarray, "P 3"],
) -> Float64[np.ndarray, "P 3 3"]:
    """Return orthonormal frames (V, 3, 3) of points on a surface: rows are tangent, the other tangent, and normal.

    The tangent follows the first side of the face; the normal is smooth, mixed from the face's corners.
    """
    normal = unit_rows(interpolate(mesh_normals(vertices, faces), faces, index, bary))
    side = vertices[faces[index, 1]] - vertices[faces[index, 0]]
    tangent = unit_rows(side - np.einsum("vi,vi->v", side, normal)[:, None] * normal)
    return np.stack([tangent, np.cross(normal, tangent), normal], axis=1)


def transfer_notes(found: Correspondence) -> list[str]:
    """Return what a user should know of a correspondence, one plain line each."""
    limit = 1000 * FAR * found.size
    near = found.residual_mm[~found.blind]
    lines = []
    if found.blind.any():
        lines.append(
            f"{found.blind.mean():.0%} of the vertices have no place on {found.source} "
            "(inner mouth and eyes usually): they follow their neighbours"
        )
    if np.median(near) > limit / 4 or found.blind.mean() > 0.25:
        lines.append(
            f"the template lies {np.mean(near):.1f} mm from {found.source} on average: it may not be a person or "
            "a hand at rest"
        )
    return lines
