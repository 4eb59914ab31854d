"""Write a result folder: meshes, parameters, report and preview, all of them or none."""

import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.assets import assets_dir
from lvdreg.base.version import __version__
from lvdreg.result.data_scan import RegistrationData
from lvdreg.result.draw_scan import preview
from lvdreg.result.sheet import SIGMA_COLOURS, sigma_colours, sigma_top_mm

# Single precision is kept where it moves no vertex by more than this share of the mesh; far from the origin it does.
FLOAT32_SHARE = 1e-6
UNITS = {
    "_mm": "millimetres at true size",
    "_m": "metres at true size",
    "_share": "0 to 1",
    "_deg": "degrees",
    "_s": "seconds",
    "_mib": "MiB",
}
# By the side of a hand; None: a body.
MODEL_FRAMES = {
    None: "the posed body in metres, Y up",
    "right": "the posed right hand in metres, fingers about along Y, palm about towards Z",
    "left": "the posed left hand in metres, fingers about along Y, palm about towards Z; a mirrored right one",
}
FILES = {
    "body.ply": "the fitted parametric model itself, under clothes, without displacements",
    "registered.ply": "the final surface; sigma as a vertex property, in the scan's own unit",
    "uncertainty.ply": "the same surface coloured by sigma; the scale is in uncertainty_colours",
    "params.npz": "pose and shape under smplx's argument names, (1, K) each (of a hand: MANO's), model, T_scan_model",
    "report.json": "this file",
    "preview.png": "scan, result and uncertainty from four sides",
}


def write_result(registration: RegistrationData, folder: Path) -> list[Path]:
    """Write everything a run leaves behind; see ``Registration.save``."""
    with replacing_folder(folder) as part:
        write_meshes(registration, part)
        write_params(registration, part / "params.npz")
        write_json(part / "report.json", report_of(registration))
        preview(registration).save(part / "preview.png")
    return [folder / name for name in FILES]


@contextmanager
def replacing_folder(folder: Path, files: Collection[str] = tuple(FILES)) -> Iterator[Path]:
    """Give a fresh folder to write into, and put it in place of ``folder`` if all goes well.

    The new folder lies beside the old one, so that moving it is one rename. A folder that holds files of other origin
    is not replaced but filled, file by file: nothing but results of lvdreg is ever removed.

    Args:
        folder: The result's.
        files: Names of what results hold.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    part.mkdir()
    try:
        yield part
        if _holds_others(folder, files):
            for path in sorted(part.iterdir(), key=lambda path: path.name == "report.json"):
                os.replace(path, folder / path.name)
        else:
            _swap(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _holds_others(folder: Path, files: Collection[str]) -> bool:
    """Say whether the folder exists and holds anything that is not a result, or is itself a link."""
    return folder.is_symlink() or (folder.exists() and bool({path.name for path in folder.iterdir()} - set(files)))


def _swap(part: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
    if not folder.exists():
        os.rename(part, folder)
        return
    os.rename(folder, old)
    try:
        os.rename(part, folder)
    except BaseException:
        os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write a file beside ``path``, then move it there: readers see the old file or the new one."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_meshes(registration: RegistrationData, folder: Path) -> None:
    """Write the three meshes, scan frame and unit."""
    top_mm = sigma_top_mm(registration.sigma_mm)
    about = [f"lvdreg, model {registration.model}, scan frame, unit {registration.unit}"]
    sigma_note = "sigma: one standard deviation of the surface, in the unit of the coordinates"
    colour_note = f"colours: sigma from 0 (pale) to {top_mm:g} mm and more (dark)"
    surface, faces, sigma = registration.vertices, registration.faces, registration.sigma
    colours = sigma_colours(registration.sigma_mm, top_mm)
    write_ply(folder / "body.ply", registration.body_vertices, faces, comments=about)
    write_ply(folder / "registered.ply", surface, faces, sigma=sigma, comments=[*about, sigma_note])
    write_ply(folder / "uncertainty.ply", surface, faces, colours=colours, comments=[*about, colour_note])


def write_ply(
    path: Path,
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
    *,
    sigma: NDArray[np.float64] | None = None,
    colours: NDArray[np.uint8] | None = None,
    comments: list[str] | None = None,
) -> None:
    """Write a binary little-endian ply.

    Args:
        path: File to write.
        vertices: (V, 3), stored in double precision where single would move them by over a millionth of the extent.
        faces: (F, 3).
        sigma: (V,) stored as the vertex property ``sigma``.
        colours: (V, 3) stored as ``red``, ``green``, ``blue``.
        comments: Lines of the header.
    """
    kind = "f4" if _single_suffices(vertices) else "f8"
    columns: list[tuple[str, str, NDArray[Any]]] = [(name, f"<{kind}", vertices[:, i]) for i, name in enumerate("xyz")]
    columns += [("sigma", "<f4", sigma)] if sigma is not None else []
    columns += [] if colours is None else [(n, "u1", colours[:, i]) for i, n in enumerate(("red", "green", "blue"))]
    vertex_table = np.empty(len(vertices), [(name, dtype) for name, dtype, _ in columns])
    for name, _, values in columns:
        vertex_table[name] = values
    face_table = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    face_table["count"], face_table["corners"] = 3, faces
    words = {"<f4": "float", "<f8": "double", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {line}" for line in comments or []),
        f"element vertex {len(vertices)}",
        *(f"property {words[dtype]} {name}" for name, dtype, _ in columns),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    # Some readers take bytes beyond ASCII in a header for damage.
    text = ("\n".join(header) + "\n").encode("ascii", "replace")
    path.write_bytes(text + vertex_table.tobytes() + face_table.tobytes())


def _single_suffices(vertices: NDArray[np.float64]) -> bool:
    if not len(vertices):
        return True
    lost = np.abs(vertices - vertices.astype(np.float32)).max()
    return bool(lost <= FLOAT32_SHARE * np.ptp(vertices, axis=0).max())


def write_params(registration: RegistrationData, path: Path) -> None:
    """Write the parameters as plain arrays: ``np.load(path, allow_pickle=False)`` reads them.

    Arguments of smplx are batches of one, (1, K), as its ``create`` takes them; ``displacements`` (V, 3) and ``scale``
    are none of its arguments.
    """
    about: dict[str, Any] = {"model": registration.model, "unit": registration.unit}
    if registration.side is None:
        about |= {"up": registration.up}
    else:
        about |= {"side": registration.side, "side_confidence": registration.side_confidence}
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in registration.params.items()}
    arrays = {name: array[None] if array.ndim == 1 else array for name, array in arrays.items()}
    arrays |= {name: np.array(value) for name, value in about.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays, T_scan_model=registration.T_scan_model)


def report_of(registration: RegistrationData) -> dict[str, Any]:
    """Gather the report, ready for JSON."""
    scan, top_mm = registration.scan, sigma_top_mm(registration.sigma_mm)
    return {
        "lvdreg": __version__,
        "name": registration.name,
        "model": registration.model,
        "verdict": registration.verdict,
        "reason": registration.reason,
        "warnings": registration.warnings,
        "scan": {
            "points": len(scan.points),
            "faces": 0 if scan.faces is None else len(scan.faces),
            "unit": registration.unit,
            "unit_is_guess": registration.unit_is_guess,
            "up": registration.up if registration.side is None else None,
            "notes": scan.notes,
        },
        "side": registration.side,
        "side_confidence": registration.side_confidence,
        "metrics": registration.metrics,
        "units": {f"*{ending}": meaning for ending, meaning in UNITS.items()},
        "timings_s": registration.timings,
        "transforms": {
            "T_scan_model": registration.T_scan_model,
            "meaning": f"4x4, p_scan = T_scan_model @ [p_model, 1]; model: {MODEL_FRAMES[registration.side]}",
        },
        "uncertainty_colours": {"from_mm": 0.0, "to_mm": top_mm, "red_green_blue": SIGMA_COLOURS},
        "settings": registration.settings,
        "assets": assets_of(registration.model),
        "files": FILES,
    }


def assets_of(model: str) -> dict[str, str]:
    """Return the SHA-256 of the body and of every network file for it: which weights made this result."""
    body = model.removesuffix("+d")
    files = [assets_dir() / "bodies" / f"{body}.npz", *sorted((assets_dir() / "weights").glob(f"*-{body}.*"))]
    return {
        f"{path.parent.name}/{path.name}": _sha256(path, path.stat().st_mtime_ns) for path in files if path.is_file()
    }


@lru_cache(maxsize=32)
def _sha256(path: Path, changed: int) -> str:
    """Hash a file once for every time it ``changed``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON that every reader accepts: numbers that are not finite become null."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Rows of numbers on one line each; line breaks are never inside JSON's strings, so no string is touched.
    text = re.sub(r'\[\n([^\[\]{}"]*)\n *\]', lambda found: f"[{' '.join(found[1].split())}]", text)
    # A file name that is no text holds surrogates; written as \udcXX they are JSON's own escapes.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def plain(value: Any) -> Any:
    """Turn dataclasses, arrays, paths and tuples into what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
