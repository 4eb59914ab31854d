"""What is in the result folder of a photo: pictures, meshes, parameters and report."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.result.data_photo import PhotoRegistrationData
from lvdreg.result.draw_photo import overlay, side_view, uncertainty_map
from lvdreg.result.files import Format, write_params
from lvdreg.result.glb import write_glb
from lvdreg.result.ply import write_ply
from lvdreg.result.sheet import BODY_COLOUR, sigma_colours, sigma_top_mm

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


def write_photo_files(result: PhotoRegistrationData, folder: Path) -> None:
    """Write all files but the report."""
    _write_meshes(result, folder)
    camera = {"camera_scale": result.camera.scale, "camera_centre": result.camera.centre}
    write_params(result, folder / "params.npz", camera)
    overlay(result).save(folder / "overlay.png")
    side_view(result).save(folder / "side.png")
    uncertainty_map(result).save(folder / "uncertainty.png")
    Image.fromarray((result.mask.clip(0, 1) * 255).round().astype(np.uint8)).save(folder / "mask.png")


def _write_meshes(result: PhotoRegistrationData, folder: Path) -> None:
    top_mm = sigma_top_mm(result.sigma_mm)
    about = [f"lvdreg, model {result.model}, metres, x right in the photo, y up, z towards the viewer"]
    vertices, faces = result.vertices, result.faces
    colours, colour_note = sigma_colours(result.sigma_mm, top_mm), f"colours: sigma from 0 to {top_mm:g} mm and more"
    write_ply(folder / "body.ply", vertices, faces, comments=about)
    write_ply(folder / "registered.ply", vertices, faces, sigma=result.sigma, comments=[*about, "sigma: metres"])
    write_ply(folder / "uncertainty.ply", vertices, faces, colours=colours, comments=[*about, colour_note])
    write_glb(folder / "body.glb", vertices, faces, BODY_COLOUR, "lvdreg")


def report_of_photo(result: PhotoRegistrationData) -> dict[str, Any]:
    """Return what only the report of a photo says."""
    height, width = result.rgb.shape[:2]
    keypoints = None
    if result.keypoints is not None:
        keypoints = {name: row for name, row in zip(KEYPOINTS, result.keypoints, strict=True)}
    return {
        "photo": {
            "width": width,
            "height": height,
            "person": result.person,
            "people": result.people,
            "missed_px": result.missed,
            "missed_meaning": "left, top, right, bottom of places that show somebody who is none of the people",
        },
        "camera": {"scale_px_per_m": result.camera.scale, "centre_px": result.camera.centre, "meaning": CAMERA},
        "crop": {"centre_px": result.crop.centre, "side_px": result.crop.side},
        "size_is_guess": result.size_is_guess,
        "keypoints": keypoints,
        "keypoints_meaning": "column and row in pixels, visibility 0 to 1",
    }


PHOTO_FORMAT = Format(FILES, write_photo_files, report_of_photo)
