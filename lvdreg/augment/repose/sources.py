"""From files to a bound scan: the scan with its colours, and what ``lvdreg register`` found in it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.augment.repose.bound import Bound, bind
from lvdreg.base.errors import RegistrationError
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.base.text import one_line, shown
from lvdreg.body.colours import extended_colours
from lvdreg.geometry.frames import transform_points
from lvdreg.geometry.mesh import closest_point_on_mesh, face_areas
from lvdreg.result.read import SavedResult, read_result, read_saved_report
from lvdreg.scan.clean import clean_scan, keep_faces
from lvdreg.scan.model import Scan, read_scan
from lvdreg.scan.normals import face_pieces
from lvdreg.scan.textured import Pictured, bilinear, read_pictured, to_linear
from lvdreg.synth.subjects import Material, Pixels, Texture

GREY = 0.35
"""Linear albedo of scans without colours."""
FARTHEST = 0.15
"""A registration lies this near to nine tenths of its scan, metres."""
STRAY = (0.005, 0.03)
"""A piece with less than this share of the scan's surface, and further off the person than this, metres, goes."""
SAME_PLACE = 1e-6
"""Two readers put one vertex within this share of the scan's extent."""


def load_bound(scan_file: str | Path, result_folder: str | Path) -> Bound:
    """Bind a scan to its registration.

    Args:
        scan_file: A person's scan, of any format that `lvdreg register` reads.
        result_folder: What ``lvdreg register SCAN --out`` left for it.

    Returns:
        The bound scan, in metres, in the frame of the posed model. A scan without faces is replaced by the registered
        surface, in its colours.

    Raises:
        ScanError: the scan cannot be read.
        RegistrationError: a file of the result is missing or damaged, belongs to another scan, is of a hand, or the
            verdict is "failed".
        BodyError: its body model is not there.
    """
    result = read_registered_person(Path(result_folder).expanduser())
    scan = clean_scan(read_scan(scan_file))
    T_model_scan = _inverse(result.T_scan_model)
    points = transform_points(T_model_scan, scan.points)
    _check_same(scan, points, result)
    scan = _without_strays(scan, points, result.surface, result.body.data.faces)
    if scan.faces is None:
        look = _surface_look(result, scan, points)
    else:
        look = _pictured_look(scan, Path(scan_file)) or Look(scan.points, scan.faces, _vertex_texture(scan))
        look = Look(transform_points(T_model_scan, look.vertices), look.faces, look.texture)
    return bind(look.vertices, look.faces, look.texture, result.body, result.params, result.surface)


@dataclass(frozen=True)
class Look:
    """A mesh and how it looks."""

    vertices: FloatArray
    faces: IntArray
    texture: Texture


def read_registered_person(folder: Path) -> SavedResult:
    """Read a result folder of ``lvdreg register`` for a body; without displacements, the surface has them.

    Raises:
        RegistrationError, BodyError: see ``load_bound``.
    """
    report = read_saved_report(folder)
    if report.get("side"):
        raise RegistrationError(f"{folder}: expected a registered person, got a hand; only people are augmented")
    if report.get("verdict") == "failed":
        reason = one_line(str(report.get("reason", "no reason given")))[:200]
        raise RegistrationError(f"{folder}: its registration failed ({reason}); leave this scan out")
    result = read_result(folder)
    return replace(result, params=replace(result.params, displacements=None))


def _inverse(transform: FloatArray) -> FloatArray:
    return np.linalg.inv(transform).astype(np.float64)


def _check_same(scan: Scan, points: FloatArray, result: SavedResult) -> None:
    """Raise RegistrationError when the registration is nowhere near the scan."""
    some = points[:: max(1, len(points) // 3000)]
    distance = float(np.quantile(cKDTree(result.surface).query(some)[0], 0.9))
    if distance > FARTHEST:
        raise RegistrationError(
            f"{result.folder}: a registration of {shown(result.name)} that lies {distance:.2g} m off {scan.name!r}: "
            "it is of another scan; name the folder of this one"
        )


def _without_strays(scan: Scan, points: FloatArray, surface: FloatArray, faces: IntArray) -> Scan:
    """Remove small pieces of a mesh that lie off the person: what is left of a floor, say.

    Args:
        scan: Cleaned.
        points: Its points in the model's frame, metres.
        surface: The registered surface there.
        faces: Its triangles.
    """
    if scan.faces is None:
        return scan
    piece = face_pieces(scan.faces, len(points))
    areas = np.bincount(piece, face_areas(points, scan.faces))
    apart = closest_point_on_mesh(points[scan.faces].mean(1), surface, faces).distance > STRAY[1]
    off = np.bincount(piece, apart) > 0.5 * np.bincount(piece)
    return keep_faces(scan, ~((areas < STRAY[0] * areas.sum()) & off)[piece])


def _vertex_texture(scan: Scan) -> Texture:
    if scan.colors is None:
        return VertexColours(torch.full((len(scan.points), 3), GREY))
    return VertexColours(to_linear(torch.from_numpy(scan.colors)))


def _surface_look(result: SavedResult, scan: Scan, points: FloatArray) -> Look:
    """Show the registered surface in the colours of a cloud's nearest points."""
    texture = _vertex_texture(Scan(points, None, None, scan.colors, scan.name))
    distance, found = cKDTree(points).query(result.surface, k=4)
    assert isinstance(texture, VertexColours)
    colours = texture.colours[torch.from_numpy(found)].mean(1).double().numpy()
    filled = extended_colours(colours, distance[:, 0] < 0.02, result.body.data)
    return Look(result.surface, result.body.data.faces, VertexColours(filled))


def _pictured_look(scan: Scan, path: Path) -> Look | None:
    """Return the scan with its vertices split where its pictures are; None without pictures."""
    pictured = read_pictured(path)
    if pictured is None or scan.faces is None:
        return None
    faces = _faces_of(scan, pictured)
    if faces is None:
        return None
    used, index = np.unique(faces, return_inverse=True)
    texture = UvTexture(
        torch.from_numpy(pictured.uv[used]).float(), torch.from_numpy(pictured.image_of[used]), pictured.images
    )
    return Look(pictured.points[used], index.reshape(-1, 3).astype(np.int64), texture)


def _faces_of(scan: Scan, pictured: Pictured) -> IntArray | None:
    """Return the pictured faces that cleaning kept, wound as it says; None where the two meshes are not the same."""
    assert scan.faces is not None
    distance, place = cKDTree(scan.points).query(pictured.points)
    near = distance < SAME_PLACE * float(np.ptp(scan.points, axis=0).max()) + 1e-12
    kept = {tuple(sorted(face)): face for face in scan.faces.tolist()}
    out = []
    for face in pictured.faces[near[pictured.faces].all(1)].tolist():
        corners = place[face].tolist()
        wanted = kept.pop(tuple(sorted(corners)), None)
        if wanted is not None:
            out.append([face[corners.index(corner)] for corner in wanted])
    return np.array(out, np.int64) if len(out) > 0.95 * len(scan.faces) else None


@dataclass(frozen=True)
class VertexColours:
    """Linear colours of vertices, interpolated over faces."""

    colours: Float[Tensor, "N 3"]

    def __call__(self, pixels: Pixels) -> Material:
        """Return the material at pixels: cloth and skin without gloss or relief."""
        return _matt(pixels.read_shared(self.colours))


@dataclass(frozen=True)
class UvTexture:
    """Pictures (sRGB, 8 bit) laid over the surface; corners of one face share one.

    Attributes:
        uv: Of each vertex, (0, 0) the lower left corner of its picture; beyond 1 the picture repeats.
        image_of: Which picture.
        images: Each (H, W, 3), first row on top.
    """

    uv: Float[Tensor, "N 2"]
    image_of: Int[Tensor, " N"]
    images: tuple[Tensor, ...]

    def __call__(self, pixels: Pixels) -> Material:
        """Return the material at pixels, bilinear in linear light."""
        uv, number = pixels.read_shared(self.uv), self.image_of[pixels.corners[:, 0]]
        albedo = torch.zeros(len(uv), 3, device=uv.device)
        for k, image in enumerate(self.images):
            mine = number == k
            albedo[mine] = bilinear(image, uv[mine])
        return _matt(albedo)


def _matt(albedo: Float[Tensor, "P 3"]) -> Material:
    nothing = albedo.new_zeros(len(albedo))
    return Material(albedo, nothing, nothing)


__all__ = ["Bound", "UvTexture", "VertexColours", "bilinear", "load_bound"]
