"""What was found in a photo: a body in metres before a camera that sees it as the photo does."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from lvdreg.image.camera import Camera
from lvdreg.image.crop import Crop
from lvdreg.result.data import ResultData

MM_PER_M = 1000.0


@dataclass(frozen=True, kw_only=True)
class PhotoRegistrationData(ResultData):
    """A body model registered to one person in a photo; vertices, joints and steps are in the world.

    The world is in metres: x right in the photo, y up, z towards the viewer, the pelvis joint at the origin; the
    parameters pose the model into it. Reading and looking for people is in the timings of the first person.

    Attributes:
        rgb: (H, W, 3) the photo, upright.
        mask: (H, W) how much each pixel is the person, 0 to 1.
        keypoints: (33, 3) column, row and visibility, ``photo.keypoints.KEYPOINTS``; None without a pose.
        crop: What the network was shown.
        camera: Projects the world onto the photo.
        sigma_depth_mm: (V,) the uncertainty's part along the line of sight.
        size_is_guess: Whether nothing but the likely size of people decided it.
        person: Number of the person in the photo, from 1.
        people: How many were found.
        missed: (M, 4) left, top, right, bottom, pixels, of places that show somebody who was not told apart.
        shape_with: Names of the other photos that have the same betas, to the last bit; see ``register_photos``.
        pose_with: Of those with the same pose, too, but for the root's orientation.
    """

    rgb: UInt8[np.ndarray, "H W 3"] = field(repr=False)
    mask: Float32[np.ndarray, "H W"] = field(repr=False)
    keypoints: Float32[np.ndarray, "N 3"] | None = field(repr=False)
    crop: Crop = field(repr=False)
    camera: Camera
    sigma_depth_mm: Float64[np.ndarray, " V"] = field(repr=False)
    size_is_guess: bool
    person: int
    people: int
    missed: Float32[np.ndarray, "M 4"] = field(default_factory=lambda: np.zeros((0, 4), np.float32), repr=False)
    shape_with: tuple[str, ...] = ()
    pose_with: tuple[str, ...] = ()

    @property
    def sigma(self) -> Float64[np.ndarray, " V"]:
        """(V,) one-sigma uncertainty, metres."""
        return self.sigma_mm / MM_PER_M

    @property
    def headline(self) -> dict[str, Any]:
        """What stands in the summary of a batch."""
        height = self.metrics["height_m"]
        return {"iou": self.metrics.get("silhouette_iou"), "height_m": height, "height_is_guess": self.size_is_guess}
