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
    "params.npz": "pose and shape under smplx's argument names, (1, K) each, model, and the camera",
    "report.json": "this file",
}
CAMERA = (
    "world: that of the meshes, metres; column = u / w and row = v / w of [u, v, w] = intrinsics @ (T_camera_world @ "
    "[x, y, z, 1])[:3]; where they are null, column = centre[0] + scale * x, row = centre[1] - scale * y, which else "
    "holds at the pelvis's depth"
)


def write_photo_files(result: PhotoRegistrationData, folder: Path) -> None:
    """Write all files but the report."""
    _write_meshes(result, folder)
    camera = result.camera
    arrays = {"camera_scale": camera.scale, "camera_centre": camera.centre}
    if camera.lens.is_perspective:
        arrays |= {"camera_intrinsics": camera.lens.intrinsics, "camera_extrinsics": camera.T_camera_world}
    write_params(result, folder / "params.npz", arrays)
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
    write_ply(
        folder / "registered.ply",
        vertices,
        faces,
        properties={"sigma": result.sigma},
        comments=[*about, "sigma: metres"],
    )
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
        "shared": {"shape_with": result.shape_with, "pose_with": result.pose_with},
        "camera": _camera(result),
        "crop": {"centre_px": result.crop.centre, "side_px": result.crop.side},
        "size_is_guess": result.size_is_guess,
        "keypoints": keypoints,
        "keypoints_meaning": "column and row in pixels, visibility 0 to 1",
    }


def _camera(result: PhotoRegistrationData) -> dict[str, Any]:
    height, width = result.rgb.shape[:2]
    camera, lens = result.camera, result.camera.lens
    known = lens.is_perspective
    return {
        "focal_px": lens.focal,
        "focal_mm35": lens.mm35((width, height)),
        "focal_source": lens.source,
        "principal_px": lens.principal if known else None,
        "distance_m": camera.distance,
        "intrinsics": lens.intrinsics if known else None,
        "T_camera_world": camera.T_camera_world if known else None,
        "scale_px_per_m": camera.scale,
        "centre_px": camera.centre,
        "meaning": CAMERA,
    }


PHOTO_FORMAT = Format(FILES, write_photo_files, report_of_photo)
