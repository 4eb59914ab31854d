"""Read a result folder again: the body as it was registered, its parameters and the final surface."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from lvdreg.base.arrays import expect, read_npz
from lvdreg.base.errors import RegistrationError, ScanError
from lvdreg.base.files import read_json
from lvdreg.base.provenance import sha256_of
from lvdreg.base.shapes import Transform, Vertices
from lvdreg.base.text import brief
from lvdreg.body.chosen import registered_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.body.smplx_names import params_from_named
from lvdreg.geometry.frames import is_reflected, is_similarity, transform_points
from lvdreg.result.files import REPORT, read_report
from lvdreg.scan.model import Scan, read_scan
from lvdreg.scan.read import read_raw


@dataclass(frozen=True)
class SavedResult:
    """What a result folder says.

    Attributes:
        folder: The folder.
        report: Its report.
        body: The body; of a left hand the mirror image that its parameters pose.
        params: Without batch axis; with displacements where the folder has them.
        surface: (V, 3) the registered surface, in the frame of the posed model, metres of the model.
        T_scan_model: (4, 4) from there to the scan's frame and unit; the identity of a photo, whose world it is.
        name: Of the scan or photo.
        num_points: Points of the cleaned scan; 0 of a photo.
        side: Of a hand.
        body_scale: What lengths of the model are multiplied by to be true ones.
    """

    folder: Path
    report: dict[str, Any]
    body: BodyModel
    params: BodyParams
    surface: Vertices
    T_scan_model: Transform
    name: str
    num_points: int
    side: Literal["left", "right"] | None
    body_scale: float


def read_result(folder: Path) -> SavedResult:
    """Read what ``lvdreg register``, ``hands`` or ``image`` left.

    Raises:
        RegistrationError: a file of the result is missing or damaged.
        BodyError: its body model is not there.
    """
    report = read_saved_report(folder)
    arrays = _read_params(folder / "params.npz")
    side: Literal["left", "right"] | None = next((s for s in ("left", "right") if report.get("side") == s), None)
    try:
        T_scan_model = np.eye(4)
        if "T_scan_model" in arrays or "photo" not in report:
            T_scan_model = expect(arrays, "T_scan_model", "f", (4, 4)).astype(np.float64)
        body = registered_body(str(expect(arrays, "model", "U", ())).removesuffix("+d"), side)
        params = params_from_named(body, arrays)
    except ValueError as error:
        raise _bad(folder / "params.npz", f"no parameters of a body ({brief(error)})") from None
    surface = _read_surface(folder / "registered.ply", body.num_vertices)
    if not is_similarity(T_scan_model) or is_reflected(T_scan_model):
        raise _bad(folder / "params.npz", "a transform that no body has")
    in_model = transform_points(np.linalg.inv(T_scan_model).astype(np.float64), surface)
    points = report.get("scan", {}).get("points", 0)
    return SavedResult(
        folder, report, body, params, in_model, T_scan_model, str(report.get("name", "")), points, side, _scale(report)
    )


def original_file(report: dict[str, Any]) -> Path | None:
    """Return the file that a result was made from, if it is where it was and has not changed."""
    origin = report.get("input")
    if not isinstance(origin, dict):
        return None
    try:
        path = Path(str(origin.get("path")))
        return path if path.is_file() and sha256_of(path) == origin.get("sha256") else None
    except (OSError, ValueError):
        return None


def original_scan(report: dict[str, Any]) -> Scan | None:
    """Read the scan that a result was made from, a depth image by its camera; None: see ``original_file``.

    Raises:
        ScanError: it cannot be read any more.
    """
    path, settings = original_file(report), report.get("settings")
    camera = settings.get("camera") if isinstance(settings, dict) else None
    return None if path is None else read_scan(path, camera if isinstance(camera, str) else None)


def find_results(inputs: Iterable[str | Path]) -> list[Path]:
    """List the result folders meant by folders: results themselves, those in them, and people of a photo.

    What holds none stays in the list, so that it is reported and not passed over.
    """
    found: dict[Path, None] = {}
    for given in map(Path, inputs):
        found |= dict.fromkeys(_inside(given) or [given])
    return list(found)


def _inside(folder: Path, depth: int = 2) -> list[Path]:
    report = read_report(folder)
    if report is not None and "params.npz" in report["files"]:
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path for each in below for path in _inside(each, depth - 1)]


def _scale(report: dict[str, Any]) -> float:
    metrics = report.get("metrics")
    scale = metrics.get("body_scale") if isinstance(metrics, dict) else None
    return float(scale) if isinstance(scale, int | float) and 0.01 < scale < 100 else 1.0


def _bad(path: Path, what: str) -> RegistrationError:
    return RegistrationError(f"{path}: expected what lvdreg register wrote, got {what}; register the scan again")


def read_saved_report(folder: Path) -> dict[str, Any]:
    """Return the report of a result folder.

    Raises:
        RegistrationError: it is missing or damaged.
    """
    path = folder / REPORT
    try:
        report = read_json(path)
    except OSError:
        if folder.is_dir() and not path.exists():
            found = "an empty one" if next(folder.iterdir(), None) is None else "one that holds none"
            raise RegistrationError(
                f"{folder}: expected a result of lvdreg register, hands or image, or a folder of such, got {found}"
            ) from None
        raise _bad(path, "no such file") from None
    except ValueError:
        raise _bad(path, "damaged JSON") from None
    scan = report.get("scan", {}) if isinstance(report, dict) else None
    if not isinstance(scan, dict) or not isinstance(scan.get("points", 0), int):
        raise _bad(path, "something else")
    return dict(report)


def _read_params(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_npz(path)
    except FileNotFoundError:
        raise _bad(path, "no such file") from None
    except (OSError, ValueError):
        raise _bad(path, "a damaged file") from None


def _read_surface(path: Path, num_vertices: int) -> Float64[np.ndarray, "V 3"]:
    try:
        surface = read_raw(path).points
    except ScanError as error:
        raise _bad(path, f"none ({error})") from None
    if len(surface) != num_vertices or not np.isfinite(surface).all():
        raise _bad(path, f"{len(surface)} vertices instead of {num_vertices}")
    return surface
