"""Cameras of synthetic pictures: perspective and weak perspective by one formula, sweeps around people, framing.

World: metres, Y up. Camera axes: x right, y down, z away from the camera; the origin is the anchor that the camera
looks at. Pixels are (column, row), and the centre of the first one is at (0.5, 0.5).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.geometry.frames import rotvec_to_rotmat


@dataclass(frozen=True)
class Cameras:
    """A batch of cameras, one for each sample.

    Attributes:
        rotation: ``R_camera_world``.
        translation: Where the world's origin lies in camera axes, metres.
        scale: Pixels a metre at depth 0, that of the anchor.
        perspective: One over the distance of the camera from the anchor, 1/m; 0 is weak perspective.
        centre: Where the camera's axis meets the picture, pixels.
    """

    rotation: Float[Tensor, "B 3 3"]
    translation: Float[Tensor, "B 3"]
    scale: Float[Tensor, " B"]
    perspective: Float[Tensor, " B"]
    centre: Float[Tensor, "B 2"]

    def double(self) -> "Cameras":
        """Return the same cameras in float64."""
        return Cameras(
            self.rotation.double(),
            self.translation.double(),
            self.scale.double(),
            self.perspective.double(),
            self.centre.double(),
        )

    def view(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Move points from the world to camera axes, metres."""
        # Written out: a matrix product may round differently when the batch is of another size.
        columns, terms = self.rotation[:, None].unbind(-1), points[..., None, :].unbind(-1)
        x, y, z = (column * term for column, term in zip(columns, terms, strict=True))
        return x + y + z + self.translation[:, None]

    def project(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Return column and row (pixels) and depth (metres beyond the anchor) of points in the world."""
        seen = self.view(points)
        scale = self.scale[:, None, None] / (1 + self.perspective[:, None, None] * seen[..., 2:])
        return torch.cat([self.centre[:, None] + scale * seen[..., :2], seen[..., 2:]], -1)

    def to_unit(
        self, points: Float[Tensor, "B N 3"], size: int, origin_depth: Float[Tensor, " B"]
    ) -> Float[Tensor, "B N 3"]:
        """Return points of the world in the unit frame of a square picture.

        Args:
            points: World, metres.
            size: Width and height of the picture, pixels.
            origin_depth: The depth that becomes 0: the pelvis joint's.

        Returns:
            x right, y up, z towards the viewer; the picture is [-1, 1]^2, and depth has the same scale.
        """
        column, row, depth = self.project(points).unbind(-1)
        half = size / 2
        nearness = (origin_depth[:, None] - depth) * self.scale[:, None] / half
        return torch.stack([column / half - 1, 1 - row / half, nearness], -1)


def look_at(
    anchor: Float[Tensor, "B 3"],
    yaw: Float[Tensor, " B"],
    pitch: Float[Tensor, " B"],
    roll: Float[Tensor, " B"],
    scale: Float[Tensor, " B"],
    perspective: Float[Tensor, " B"],
    size: int,
) -> Cameras:
    """Return cameras that look at points, which they see in the middle of the picture.

    Args:
        anchor: What is looked at, world, metres.
        yaw: Radians; 0 looks at the front of who faces +Z, a quarter turn at their left side.
        pitch: Radians; positive looks down from above.
        roll: Radians; positive turns the picture clockwise.
        scale: Pixels a metre at the anchor.
        perspective: One over the distance of camera and anchor, 1/m.
        size: Width and height of the picture, pixels.
    """
    axes = torch.eye(3, dtype=anchor.dtype, device=anchor.device)
    about_y = rotvec_to_rotmat(-yaw[:, None] * axes[1])
    about_x = rotvec_to_rotmat(pitch[:, None] * axes[0])
    about_z = rotvec_to_rotmat(roll[:, None] * axes[2])
    # Before it is turned the camera stands before the person: right is +X, down is -Y, away is -Z.
    rotation = about_z @ about_x @ (axes * anchor.new_tensor([1.0, -1.0, -1.0])) @ about_y
    translation = -(rotation @ anchor[:, :, None])[..., 0]
    return Cameras(rotation, translation, scale, perspective, anchor.new_full((len(anchor), 2), size / 2))


def yaw_sweep(
    anchor: Float[Tensor, "B 3"],
    views: int,
    first: Float[Tensor, " B"],
    pitch: Float[Tensor, " B"],
    scale: Float[Tensor, " B"],
    perspective: Float[Tensor, " B"],
    size: int,
) -> Cameras:
    """Return ``views`` cameras around each person, at equal steps of yaw from ``first`` on.

    The cameras of a person follow each other, as the samples of ``Subjects.repeated(views)`` do: (B * views) in all.
    """
    turn = torch.arange(views, dtype=anchor.dtype, device=anchor.device) * (2 * torch.pi / views)
    yaw = (first[:, None] + turn).flatten()
    anchor, pitch, scale, perspective = (x.repeat_interleave(views, 0) for x in (anchor, pitch, scale, perspective))
    return look_at(anchor, yaw, pitch, torch.zeros_like(yaw), scale, perspective, size)


def framing(points: Float[Tensor, "B N 3"], cameras: Cameras, size: int, fill: Float[Tensor, " B"]) -> Cameras:
    """Zoom and shift cameras so that points fill a share of the picture and lie in its middle.

    Args:
        points: World, metres, all before the camera.
        cameras: Only their scale and centre are changed: neither moves what hides what.
        size: Width and height of the picture, pixels.
        fill: Share of the picture's side that the longer side of the points' bounding box takes.
    """
    seen = cameras.view(points)
    flat = seen[..., :2] / (1 + cameras.perspective[:, None, None] * seen[..., 2:])
    low, high = flat.amin(1), flat.amax(1)
    scale = fill * size / (high - low).amax(-1).clamp(min=1e-6)
    return replace(cameras, scale=scale, centre=size / 2 - scale[:, None] * (low + high) / 2)
