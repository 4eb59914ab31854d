"""Read a scan, clean it, and sample oriented points from it.

Everything here is in the scan's own frame and unit ("scan" frame); units and axes are found later, by descent/boxes.py.
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray

from lvdreg.base.arguments import check_type
from lvdreg.base.errors import ScanError
from lvdreg.base.provenance import FileHashes, InputFile
from lvdreg.base.shapes import Faces, Points
from lvdreg.geometry.mesh import face_normals, interpolate, sample_surface, unit_rows
from lvdreg.scan.readers.raw import RawScan, checked_faces, to_colors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Scan:
    """Points or a mesh, in the file's own frame and unit.

    Attributes:
        points: (P, 3).
        faces: (F, 3), or None for raw points.
        normals: (P, 3) unit and outward as far as can be told, zero where unknown; or None.
        colors: (P, 3), or None.
        name: Stem of the file, or "array".
        notes: What reading and cleaning found or changed, one plain line each.
        viewpoint: (3,) position of the camera, where the file states one.
        source: The file it was read from; None of arrays.
        files: SHA-256 of other files that its file took in, by name: buffers of a glTF, depth images.
        left_out_share: Share of the surface in the largest piece that cleaning left out, a second person perhaps.
        unit: Unit of the coordinates where the format leaves no choice: metres of depth images and E57.
        is_depth_image: Whether all points were seen from the viewpoint, for certain.
    """

    points: Points
    faces: Faces | None
    normals: Float64[np.ndarray, "P 3"] | None
    colors: UInt8[np.ndarray, "P 3"] | None
    name: str
    notes: tuple[str, ...] = ()
    viewpoint: Float64[np.ndarray, " 3"] | None = field(default=None, repr=False)
    source: InputFile | None = None
    files: FileHashes = field(default_factory=dict)
    left_out_share: float = 0.0
    unit: str | None = None
    is_depth_image: bool = False

    def __post_init__(self) -> None:
        """Check the arrays.

        Raises:
            ScanError: one is of another shape or type than stated above.
        """
        _check_table("points", self.points, np.float64, None)
        _check_table("faces", self.faces, np.int64, None)
        _check_table("normals", self.normals, np.float64, len(self.points))
        _check_table("colors", self.colors, np.uint8, len(self.points))


def _check_table(name: str, array: Any, kind: type[np.generic], rows: int | None) -> None:
    if array is None and name != "points":
        return
    is_table = isinstance(array, np.ndarray) and array.ndim == 2 and array.shape[1] == 3
    if not is_table or array.dtype.type is not kind or rows not in {None, len(array)}:
        wanted = f"{kind.__name__} of shape ({rows or 'N'}, 3)"
        came = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ScanError(f"{name}: expected {wanted}, got {came}; scan_from_arrays takes any numbers")


def read_scan(path: str | Path, camera: str | Path | None = None) -> Scan:
    """Read a file of any supported format (see `lvdreg.scan.read`); nothing is cleaned.

    Args:
        path: The file; its content decides over its suffix.
        camera: What a depth image was taken with: a name of `lvdreg.scan.readers.camera.PRESETS`, or a JSON file.

    Returns:
        The scan in the file's frame and unit; it has at least one point, which may be NaN.

    Raises:
        ScanError: the file is missing, empty, too large, damaged, or of no supported format.
    """
    from lvdreg.scan.read import read_raw

    check_type("path", path, (str, Path), "a file", ScanError)
    check_type("camera", camera, (str, Path, NoneType), "a camera's name or file, or None", ScanError)
    path = Path(path).expanduser()
    raw = read_raw(path, camera)
    return _from_raw(raw, path.stem)


def _from_raw(raw: RawScan, name: str) -> Scan:
    normals = None if raw.normals is None else unit_rows(raw.normals)
    about = raw.notes, raw.viewpoint, raw.source, raw.files
    return Scan(
        raw.points, raw.faces, normals, raw.colors, name, *about, unit=raw.unit, is_depth_image=raw.is_depth_image
    )


def scan_from_arrays(
    points: "ArrayLike",
    faces: "ArrayLike | None" = None,
    normals: "ArrayLike | None" = None,
    colors: "ArrayLike | None" = None,
    name: str = "array",
) -> Scan:
    """Check arrays and make a scan of copies of them.

    Args:
        points: (P, 3) numbers in any unit.
        faces: (F, 3) whole numbers below P, or None for raw points.
        normals: (P, 3) of any length, or None.
        colors: (P, 3) or (P, 4), integers 0 to 255 or floats 0 to 1, or None.
        name: How the scan is called in reports and file names.

    Raises:
        ScanError: a shape or a type is wrong; the message says which, what was expected and what came.
    """
    checked_points = _numbers("points", points, None)
    count = len(checked_points)
    if not count:
        raise ScanError("expected points of shape (P, 3), got none; pass at least a few hundred points")
    checked_colors = None if colors is None else to_colors(_numbers("colors", colors, count, widths=(3, 4)))
    checked_normals = None if normals is None else unit_rows(_numbers("normals", normals, count).astype(np.float64))
    whole_faces = None
    if faces is not None:
        table = _numbers("faces", faces, None)
        if (table != np.floor(table)).any() or (np.abs(table) > 2**53).any():
            raise ScanError("expected whole numbers in faces, got fractions; pass vertex indices of shape (F, 3)")
        whole_faces = checked_faces(table.astype(np.int64), count)
    return Scan(checked_points.astype(np.float64), whole_faces, checked_normals, checked_colors, name)


def _numbers(what: str, values: "ArrayLike", count: int | None, widths: tuple[int, ...] = (3,)) -> NDArray[Any]:
    try:
        array = np.array(values)
    except (ValueError, TypeError) as error:
        raise ScanError(f"expected {what} as an array of numbers ({error}); pass a numpy array") from None
    expected = f"({'N' if count is None else count}, {widths[0]})"
    if array.ndim != 2 or array.shape[1] not in widths or (count is not None and len(array) != count):
        raise ScanError(f"expected {what} of shape {expected}, got {array.shape}; pass one row per item")
    if array.dtype.kind not in "fiu":
        raise ScanError(f"expected numbers in {what}, got {array.dtype}; pass floats or integers")
    return array


def scan_of(source: "str | Path | Scan | ArrayLike", camera: str | Path | None = None) -> Scan:
    """Return the scan meant by a file, by a scan itself, or by points (P, 3); ``camera`` took a file of depths.

    Raises:
        ScanError: the file or the points hold no scan.
    """
    if isinstance(source, Scan):
        return source
    return read_scan(source, camera) if isinstance(source, str | Path) else scan_from_arrays(source)


def oriented_points(
    scan: Scan, num_points: int, seed: int = 0
) -> tuple[Float64[np.ndarray, "N 3"], Float64[np.ndarray, "N 3"]]:
    """Sample points with normals: by area on a mesh, evened in density from raw points.

    Args:
        scan: A cleaned scan.
        num_points: How many; a cloud with fewer points gives some of them more than once.
        seed: Of the choice; the same seed gives the same points.

    Returns:
        Points (num_points, 3) and unit normals (num_points, 3), zero where unknown; scan frame and unit.
    """
    rng = np.random.default_rng(seed)
    if scan.faces is not None and len(scan.faces):
        return sample_oriented(scan.points, scan.faces, scan.normals, num_points, rng)
    chosen = _even_choice(scan.points, num_points, rng)
    normals = np.zeros((num_points, 3)) if scan.normals is None else scan.normals[chosen]
    return scan.points[chosen], normals


def sample_oriented(
    points: NDArray[np.float64],
    faces: NDArray[np.int64],
    normals: NDArray[np.float64] | None,
    num_samples: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sample a mesh evenly by area, with normals.

    Args:
        points: (P, 3).
        faces: (F, 3).
        normals: (P, 3) of the vertices, interpolated; None, or where they cancel: the face's own normal.
        num_samples: How many.
        rng: Source of randomness.

    Returns:
        Points (N, 3) and unit normals (N, 3).

    Raises:
        ScanError: the mesh has no area.
    """
    samples, chosen, weights = sample_surface(points, faces, num_samples, rng)
    flat = unit_rows(face_normals(points, faces[chosen]))
    if normals is None:
        return samples, flat
    smooth = interpolate(normals, faces, chosen, weights)
    unusable = np.linalg.norm(smooth, axis=1) < 0.1
    return samples, np.where(unusable[:, None], flat, unit_rows(smooth))


def _even_choice(points: NDArray[np.float64], num_points: int, rng: np.random.Generator) -> NDArray[np.int64]:
    from lvdreg.scan.normals import thinned

    if len(points) < num_points:
        extra = rng.choice(len(points), num_points - len(points), replace=num_points > 2 * len(points))
        return np.concatenate([np.arange(len(points)), extra])
    chosen: NDArray[np.int64] = rng.permutation(thinned(points, num_points, rng))[:num_points]
    return chosen
