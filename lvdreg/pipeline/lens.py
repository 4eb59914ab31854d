"""Which lens a photo was taken with: as the user says, as the file says, or the likeliest."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.image.camera import Lens
from lvdreg.photo.exif import MM35
from lvdreg.photo.model import Photo

CAMERAS = ("perspective", "weak")
LIKELY_DISTANCE = 4.0
"""Metres from which a person is photographed, as far as nothing else is known: where cameras stand whose distances are
even in their logarithm from 1.5 to 12 m, as in training, and a few far off, the mean of one over the distance is so."""


def check_camera(camera: str, focal: float | None) -> None:
    """Check what users say of the camera.

    Raises:
        UsageError: there is no such camera, or no such lens.
    """
    if camera not in CAMERAS:
        raise UsageError(f"--camera: expected {' or '.join(CAMERAS)}, got {camera[:60]}")
    if focal is not None and not MM35[0] <= focal <= MM35[1]:
        raise UsageError(
            f"--focal: expected millimetres on 35 mm film from {MM35[0]:g} to {MM35[1]:g}, as 26; got {focal:g}"
        )
    if focal is not None and camera == "weak":
        raise UsageError("--focal: expected it with --camera perspective, got weak, which has no focal length")


def lens_of(photo: Photo, pixels_per_metre: Sequence[float], asked: dict[str, Any]) -> Lens:
    """Choose the lens of a photo, one for all people in it.

    Args:
        photo: As read; its middle is taken for where the camera's axis meets it.
        pixels_per_metre: How large each person is likely to be seen, pixels of the photo.
        asked: "camera" and "focal" as the user gave them.
    """
    if asked["camera"] == "weak":
        return Lens()
    if asked["focal"] is not None:
        return Lens.of_photo(photo.size, asked["focal"], "given")
    if photo.focal_mm35 is not None:
        return Lens.of_photo(photo.size, photo.focal_mm35, "exif")
    return Lens(likely_focal(photo, pixels_per_metre), np.array(photo.size) / 2, "guess")


def likely_focal(photo: Photo, pixels_per_metre: Sequence[float]) -> float:
    """Return the likeliest focal length, pixels.

    The photo's diagonal (Kissos et al., "Beyond Weak Perspective for Monocular 3D Human Pose Estimation", 2020; Li et
    al., CLIFF, ECCV 2022), unless that puts the camera nearer than cameras mostly are: photos may be cropped. Of
    several people the median decides, so that no one who is taken for too large or too small does.
    """
    return max(math.hypot(*photo.size), LIKELY_DISTANCE * float(np.median(pixels_per_metre)))


def likely_unit(vertices_unit: FloatArray, body: BodyModel, height: float | None) -> float:
    """Return the metres of a unit of the crop that give a person's surface its usual area, or that of their height.

    Args:
        vertices_unit: (V, 3) unit frame.
        body: The model of the vertices.
        height: Metres, where it is known.
    """
    faces, rest = np.asarray(body.data.faces, np.int64), np.asarray(body.data.v_template, np.float64)
    grown = 1.0 if height is None else height / float(np.ptp(rest[:, 1]))
    areas = [vertex_areas(points, faces).sum() for points in (grown * rest, vertices_unit)]
    return math.sqrt(areas[0] / max(areas[1], 1e-12))
