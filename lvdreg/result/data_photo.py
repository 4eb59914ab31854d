"""What was found in a photo: a body in metres before a camera that sees it as the photo does."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.image.crop import Camera, Crop
from lvdreg.result.verdict import Verdict

MM_PER_M = 1000.0


@dataclass(frozen=True)
class PhotoRegistrationData:
    """A body model registered to one person in a photo.

    The world is in metres: x right in the photo, y up, z towards the viewer, the pelvis joint at the origin.

    Attributes:
        name: Name of the photo.
        model: Name of the body.
        rgb: (H, W, 3) the photo, upright.
        mask: (H, W) how much each pixel is the person, 0 to 1.
        keypoints: (33, 3) column, row and visibility, ``image.keypoints.KEYPOINTS``; None without a pose.
        crop: What the network was shown.
        camera: Weak perspective: projects the world onto the photo.
        vertices: (V, 3) world.
        faces: (F, 3).
        joints: (J, 3) world.
        params: smplx's arguments, as of a ``Registration``: they pose the model into the world.
        sigma_mm: (V,) calibrated one-sigma uncertainty, millimetres.
        sigma_depth_mm: (V,) its part along the line of sight.
        size_is_guess: Whether nothing but the likely size of people decided it.
        person: Number of the person in the photo, from 1.
        people: How many were found.
        metrics: Numbers by name; the name ends in the unit.
        timings: Seconds by stage.
        settings: What the run was asked for.
        warnings: What a user should know, one plain line each.
        verdict: ``good``, ``check`` or ``failed``.
        reason: Why, in one plain line.
        steps: World: vertices (V, 3) as the network has them ("descent") and of the body fitted to those ("fit").
    """

    name: str
    model: str
    rgb: NDArray[np.uint8] = field(repr=False)
    mask: NDArray[np.float32] = field(repr=False)
    keypoints: NDArray[np.float32] | None = field(repr=False)
    crop: Crop = field(repr=False)
    camera: Camera
    vertices: NDArray[np.float64] = field(repr=False)
    faces: NDArray[np.int64] = field(repr=False)
    joints: NDArray[np.float64] = field(repr=False)
    params: dict[str, NDArray[Any]] = field(repr=False)
    sigma_mm: NDArray[np.float64] = field(repr=False)
    sigma_depth_mm: NDArray[np.float64] = field(repr=False)
    size_is_guess: bool
    person: int
    people: int
    metrics: dict[str, float]
    timings: dict[str, float]
    settings: dict[str, Any] = field(repr=False)
    warnings: tuple[str, ...]
    verdict: Verdict
    reason: str
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @property
    def sigma(self) -> NDArray[np.float64]:
        """(V,) one-sigma uncertainty, metres."""
        return self.sigma_mm / MM_PER_M

    @property
    def headline(self) -> dict[str, Any]:
        """What stands in the summary of a batch."""
        height = self.metrics["height_m"]
        return {"iou": self.metrics.get("silhouette_iou"), "height_m": height, "height_is_guess": self.size_is_guess}
