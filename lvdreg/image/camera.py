"""Cameras of photos: perspective and weak perspective by one formula, and the lens that a photo was taken with.

A camera's world is in metres and has its axes: x right, y up, z towards the viewer. Where its origin lies is free: at
the pelvis in results, at the pelvis's depth in the middle of the crop while a body is fitted. Pixels of the photo are
(column, row). Distances are along the camera's axis; an infinite focal length is weak perspective, in which depth moves
nothing in the picture.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float64

from lvdreg.base.shapes import FloatArray, Transform
from lvdreg.photo.exif import FULL_FRAME_MM

NEAREST = 0.1
"""What is nearer to the camera than this share of the origin's distance is seen as if it were so far away."""
Source = Literal["given", "exif", "guess", "weak"]
_UP = np.array([1.0, -1.0])


@dataclass(frozen=True)
class Lens:
    """A photo's focal length, and where its camera looks.

    Attributes:
        focal: Pixels of the photo; infinite: weak perspective.
        principal: (2,) column and row where the camera's axis meets the photo.
        source: Where the focal length came from: the user, the file, the likeliest; or weak perspective was asked for.
    """

    focal: float = math.inf
    principal: Float64[np.ndarray, " 2"] = field(default_factory=lambda: np.zeros(2))
    source: Source = "weak"

    @property
    def is_perspective(self) -> bool:
        """Whether depth is seen."""
        return self.focal < math.inf

    @staticmethod
    def of_photo(size: tuple[int, int], mm35: float, source: Source) -> "Lens":
        """Return the lens of a photo that was not cropped.

        Args:
            size: Width and height, pixels.
            mm35: Focal length that gives the same angle across the diagonal of 35 mm film, millimetres.
            source: Where that came from.
        """
        return Lens(mm35 / FULL_FRAME_MM * math.hypot(*size), np.array(size) / 2, source)

    def mm35(self, size: tuple[int, int]) -> float:
        """Return the focal length as millimetres on 35 mm film, for a photo's width and height."""
        return self.focal * FULL_FRAME_MM / math.hypot(*size)

    @property
    def intrinsics(self) -> Float64[np.ndarray, "3 3"]:
        """The matrix that brings camera axes (x right, y down, z away) to homogeneous pixels of the whole photo."""
        return np.array([[self.focal, 0, self.principal[0]], [0, self.focal, self.principal[1]], [0, 0, 1.0]])


@dataclass(frozen=True)
class Camera:
    """A camera before a world in metres.

    Attributes:
        scale: Pixels of the photo for one metre in the plane z = 0.
        centre: (2,) column and row where the world's origin is seen.
        lens: Of the photo.
    """

    scale: float
    centre: Float64[np.ndarray, " 2"]
    lens: Lens = field(default_factory=Lens)

    @property
    def perspective(self) -> float:
        """One over the camera's distance from the plane z = 0, 1/m; 0 in weak perspective."""
        return self.scale / self.lens.focal

    @property
    def distance(self) -> float:
        """Of the camera from the plane z = 0, metres; infinite in weak perspective."""
        return self.lens.focal / self.scale

    @property
    def T_camera_world(self) -> Transform:
        """From the world to the usual axes of cameras (OpenCV's): x right, y down, z away; not of weak perspective."""
        out = np.diag([1.0, -1.0, -1.0, 1.0])
        out[:3, 3] = [*(self.centre - self.lens.principal) / self.scale, self.distance]
        return out

    def seen(self, points: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N 3"]:
        """Return points (..., 3) where the picture shows them: x and y in the plane z = 0, metres.

        Their z is such that straight lines stay straight and what is hidden stays hidden.
        """
        larger = self._larger(points)
        return np.concatenate([self._axis + (points[..., :2] - self._axis) * larger, points[..., 2:] * larger], -1)

    def project(self, points: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N 2"]:
        """Return column and row (..., 2) of points (..., 3) of the world."""
        return self.centre + self.scale * self.seen(points)[..., :2] * _UP

    def slopes(
        self, points: Float64[np.ndarray, "*N 3"], directions: Float64[np.ndarray, "*N 2"]
    ) -> Float64[np.ndarray, "*N 3"]:
        """Return how fast x and y of ``seen`` move along directions (..., 2) as points (..., 3) move on each axis."""
        larger = self._larger(points)
        outwards = ((points[..., :2] - self._axis) * directions).sum(-1, keepdims=True)
        return np.concatenate([directions * larger, self.perspective * larger**2 * outwards], -1)

    def unprojected(self, points: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N 3"]:
        """Return points of the world of which a network says where they are seen, and how near they are.

        What looks at a crop alone takes its middle for where the camera looks: depth is meant along the line of sight
        to the origin, not along the camera's axis.

        Args:
            points: (..., 3) x and y as of ``seen``, and how much nearer than the origin each lies along the line of
                sight to it; metres.
        """
        perspective, axis, flat = self.perspective, self._axis, points[..., :2]
        lean = math.sqrt(1 + perspective**2 * float(axis @ axis))
        ahead = np.maximum(1 - perspective**2 * ((flat - axis) @ axis), NEAREST)
        z = ((lean * points[..., 2] - perspective * (flat @ axis)) / ahead)[..., None]
        return np.concatenate([axis + (flat - axis) * np.maximum(1 - perspective * z, NEAREST), z], -1)

    def looked_at(self, points: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N 3"]:
        """Return what a network should say of points (..., 3) of the world: the inverse of ``unprojected``."""
        perspective, axis, flat = self.perspective, self._axis, self.seen(points)[..., :2]
        lean = math.sqrt(1 + perspective**2 * float(axis @ axis))
        ahead = np.maximum(1 - perspective**2 * ((flat - axis) @ axis), NEAREST)
        near = (points[..., 2] * ahead + perspective * (flat @ axis)) / lean
        return np.concatenate([flat, near[..., None]], -1)

    def moved(self, origin: Float64[np.ndarray, " 3"]) -> "Camera":
        """Return the camera for a world whose origin lies at ``origin`` (3,) of the present one."""
        return Camera(self.scale * float(self._larger(origin)[0]), self.project(origin), self.lens)

    @property
    def _axis(self) -> Float64[np.ndarray, " 2"]:
        """Where the camera's axis meets the plane z = 0: x and y (2,), metres."""
        return (self.lens.principal - self.centre) * _UP / self.scale

    def _larger(self, points: FloatArray) -> FloatArray:
        """Return how many times as large as at z = 0 things are seen where points (..., 3) lie: (..., 1)."""
        return np.asarray(1 / np.maximum(1 - self.perspective * points[..., 2:], NEAREST))
