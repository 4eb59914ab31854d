"""The hand detector: where in a cloud a hand is, which way it points, and whether it is a right or a left one.

A hand has no up. Principal axes bring any cloud to a frame of its own, up to the signs of the axes and to a mirror
image: eight hypotheses. One small network looks at the cloud under each. It scores how well a right hand in its palm
frame is what it sees, and says by which rotation, shift and scale the hand differs from the palm frame. Under its own
answer it can look again, closer. Left hands are seen as the right hands that they are in a mirror, so that both are
recognised equally well.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lvdreg.geometry.frames import six_to_rotmat
from lvdreg.voxel.encoder import VoxelEncoder
from lvdreg.voxel.grid import voxelise


@dataclass(frozen=True)
class HandDetectorConfig:
    """The hand detector, which finds hands."""

    resolution: int = 32
    num_points: int = 6_000
    channels: tuple[int, ...] = (16, 40, 80, 112, 160)
    hidden: int = 256


OLD_DETECTOR = "compass"
"""What weights of lvdreg 0.1 call the sizes of the detector: both are read."""
REACH = 2.5
"""Where the principal box ends, in standard deviations along the longest axis."""
HALF_EXTENT = 0.7
"""Half of the longest side of a hand's bounding box in the network's box; what lies beyond the box is cut off."""

_SIGNS = ((1.0, 1.0, 1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, -1.0, -1.0))


@dataclass(frozen=True)
class HandDetectorNetConfig:
    """Sizes of the hand detector and the body that it finds; stored in every checkpoint."""

    body: str = "anny-hand"
    detector: HandDetectorConfig = field(default_factory=HandDetectorConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "HandDetectorNetConfig":
        """Rebuild from ``to_dict``; unknown keys raise TypeError."""
        sizes = values.get("detector") or values[OLD_DETECTOR]
        detector: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}
        return cls(values["body"], HandDetectorConfig(**detector))


@dataclass(frozen=True)
class Poses:
    """Frames of a batch of clouds: ``p_here = linear @ p + shift``, with ``linear`` a similarity, mirrored or not."""

    linear: Float[Tensor, "B 3 3"]
    shift: Float[Tensor, "B 3"]

    def apply(self, points: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P 3"]:
        """Bring points into the frames."""
        return points @ self.linear.mT + self.shift[:, None]

    def then(self, linear: Float[Tensor, "*B 3 3"], shift: Float[Tensor, "*B 3"]) -> "Poses":
        """Apply another transform after this one."""
        return Poses(linear @ self.linear, (linear @ self.shift[..., None])[..., 0] + shift)


@dataclass(frozen=True)
class HandDetections:
    """What the hand detector says of clouds in given frames.

    Attributes:
        logits: How well each fits; compare by softmax among the hypotheses of one cloud.
        R_palm_here: Rotations from the frame looked at to the palm's.
        centre: Centre of the hand's bounding box (taken in the palm's axes), in the frame looked at.
        half_extent: Half of that box's longest side.
    """

    logits: Float[Tensor, " B"]
    R_palm_here: Float[Tensor, "B 3 3"]
    centre: Float[Tensor, "B 3"]
    half_extent: Float[Tensor, " B"]

    @classmethod
    def joined(cls, parts: Sequence["HandDetections"]) -> "HandDetections":
        """Return what was said of several batches as of one."""
        return cls(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(cls)))


class HandDetectorNet(nn.Module):
    """Clouds in the unit frame in, readings out."""

    def __init__(self, config: HandDetectorNetConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.detector
        self.encoder = VoxelEncoder(sizes.channels, sizes.resolution)
        seen = 8 * sizes.channels[-2] + sizes.channels[-1]
        self.head = nn.Sequential(
            nn.LayerNorm(seen), nn.Linear(seen, sizes.hidden), nn.SiLU(), nn.Linear(sizes.hidden, sizes.hidden),
            nn.SiLU(), nn.LayerNorm(sizes.hidden),
        )  # fmt: skip
        self.answer = nn.Linear(sizes.hidden, 11)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def forward(self, points: Float[Tensor, "B P 3"], valid: Bool[Tensor, "B P"]) -> HandDetections:
        """Look at clouds; points outside of the unit box are not seen."""
        volumes = self.encoder(voxelise(points, valid, self.config.detector.resolution)).volumes
        seen = torch.cat([volumes[-2].flatten(1), volumes[-1].flatten(1)], 1).float()
        with torch.autocast(points.device.type, enabled=False):
            out = self.answer(self.head(seen))
        rotation = six_to_rotmat(out[:, 1:7] + out.new_tensor([1.0, 0, 0, 0, 1.0, 0]))
        return HandDetections(out[:, 0], rotation, 0.5 * out[:, 7:10], HALF_EXTENT * (0.5 * out[:, 10]).exp())


def principal_poses(points: Float[Tensor, "B P 3"], valid: Bool[Tensor, "B P"]) -> Poses:
    """Return the frame of each cloud's principal axes: longest along y, shortest along z, centred, right-handed."""
    weight = valid.to(points.dtype)[..., None]
    count = weight.sum(1).clamp_min(1)
    mean = (weight * points).sum(1) / count
    centred = (points - mean[:, None]) * weight
    covariance = (centred.mT @ centred) / count[..., None]
    # float64: thin clouds far from the origin would lose their short axis
    values, vectors = torch.linalg.eigh(covariance.double().cpu())
    rows = vectors.mT[:, [1, 2, 0]].to(points)
    rows = rows * torch.linalg.det(rows).sign()[:, None, None]
    scale = 1 / (REACH * values[:, 2].clamp_min(1e-18).sqrt()).to(points)
    linear = scale[:, None, None] * rows
    return Poses(linear, -(linear @ mean[..., None])[..., 0])


def hypotheses(device: torch.device) -> Float[Tensor, "8 3 3"]:
    """Return the changes of sign to try: four rotations, then the same of the mirror image."""
    flips = torch.diag_embed(torch.tensor(_SIGNS, device=device))
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], device=device))
    return torch.cat([flips, flips @ mirror])


def toward_palm(poses: Poses, readings: HandDetections) -> Poses:
    """Return the frames that readings point to: the hand in its palm's axes, in the middle of the box, hand-sized."""
    linear = (HALF_EXTENT / readings.half_extent)[:, None, None] * readings.R_palm_here
    return poses.then(linear, -(linear @ readings.centre[..., None])[..., 0])
