"""Write the result folder of a photo: pictures, meshes, parameters and report, all of them or none."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lvdreg.base.version import __version__
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.result.data_photo import PhotoRegistrationData
from lvdreg.result.draw_photo import overlay, side_view, uncertainty_map
from lvdreg.result.files_scan import FILES as SCAN_FILES
from lvdreg.result.files_scan import UNITS, assets_of, replacing_folder, write_json, write_ply
from lvdreg.result.glb import write_glb
from lvdreg.result.sheet import BODY_COLOUR, SIGMA_COLOURS, sigma_colours, sigma_top_mm

FILES = {
    "overlay.png": "the body over the photo, from other sides, and its uncertainty",
    "side.png": "the body seen from its side: what the photo tells least about",
    "uncertainty.png": "the body as the photo sees it, coloured by sigma",
    "mask.png": "which pixels were taken for the person",
    "body.ply": "the fitted body: metres, x right in the photo, y up, z towards the viewer, pelvis at the origin",
    "registered.ply": "the same with sigma as a vertex property, metres",
    "uncertainty.ply": "the same coloured by sigma; the scale is in uncertainty_colours",
    "body.glb": "the same for viewers",
    "params.npz": "pose and shape under smplx's argument names, (1, K) each, model, camera_scale, camera_centre",
    "report.json": "this file",
}
CAMERA = "weak perspective: column = centre[0] + scale * x, row = centre[1] - scale * y; x, y of the meshes, metres"


def write_photo_result(result: PhotoRegistrationData, folder: Path) -> list[Path]:
    """Write everything a run leaves behind; see ``PhotoRegistration.save``."""
    with replacing_folder(folder, {*FILES, *SCAN_FILES}) as part:
        _write_meshes(result, part)
        _write_params(result, part / "params.npz")
        overlay(result).save(part / "overlay.png")
        side_view(result).save(part / "side.png")
        uncertainty_map(result).save(part / "uncertainty.png")
        Image.fromarray((result.mask.clip(0, 1) * 255).round().astype(np.uint8)).save(part / "mask.png")
        write_json(part / "report.json", report_of_photo(result))
    return [folder / name for name in FILES]


def remove_results(folders: Iterable[Path]) -> None:
    """Remove folders that hold nothing but results of photos."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink() and {path.name for path in folder.iterdir()} <= set(FILES):
            shutil.rmtree(folder, ignore_errors=True)


def _write_meshes(result: PhotoRegistrationData, folder: Path) -> None:
    top_mm = sigma_top_mm(result.sigma_mm)
    about = [f"lvdreg, model {result.model}, metres, x right in the photo, y up, z towards the viewer"]
    vertices, faces = result.vertices, result.faces
    colours, colour_note = sigma_colours(result.sigma_mm, top_mm), f"colours: sigma from 0 to {top_mm:g} mm and more"
    write_ply(folder / "body.ply", vertices, faces, comments=about)
    write_ply(folder / "registered.ply", vertices, faces, sigma=result.sigma, comments=[*about, "sigma: metres"])
    write_ply(folder / "uncertainty.ply", vertices, faces, colours=colours, comments=[*about, colour_note])
    write_glb(folder / "body.glb", vertices, faces, BODY_COLOUR, "lvdreg")


def _write_params(result: PhotoRegistrationData, path: Path) -> None:
    """Write the parameters as plain arrays: ``np.load(path, allow_pickle=False)`` reads them."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in result.params.items()}
    arrays = {name: array[None] if array.ndim == 1 else array for name, array in arrays.items()}
    camera = {"camera_scale": np.array(result.camera.scale), "camera_centre": result.camera.centre}
    np.savez_compressed(path, allow_pickle=False, **arrays, **camera, model=np.array(result.model))


def report_of_photo(result: PhotoRegistrationData) -> dict[str, Any]:
    """Gather the report, ready for JSON."""
    height, width = result.rgb.shape[:2]
    keypoints = None
    if result.keypoints is not None:
        keypoints = {name: row for name, row in zip(KEYPOINTS, result.keypoints, strict=True)}
    return {
        "lvdreg": __version__,
        "name": result.name,
        "model": result.model,
        "verdict": result.verdict,
        "reason": result.reason,
        "warnings": result.warnings,
        "photo": {"width": width, "height": height, "person": result.person, "people": result.people},
        "camera": {"scale_px_per_m": result.camera.scale, "centre_px": result.camera.centre, "meaning": CAMERA},
        "crop": {"centre_px": result.crop.centre, "side_px": result.crop.side},
        "size_is_guess": result.size_is_guess,
        "metrics": result.metrics,
        "units": {f"*{ending}": meaning for ending, meaning in UNITS.items()},
        "keypoints": keypoints,
        "keypoints_meaning": "column and row in pixels, visibility 0 to 1",
        "timings_s": result.timings,
        "uncertainty_colours": {
            "from_mm": 0.0, "to_mm": sigma_top_mm(result.sigma_mm), "red_green_blue": SIGMA_COLOURS,
        },
        "settings": result.settings,
        "assets": assets_of(result.model),
        "files": FILES,
    }  # fmt: skip
