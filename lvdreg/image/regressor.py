"""Regression of parameters: a residual network looks at the photo, and a head corrects its estimate of the body.

As HMR and SPIN have it (Kolotouros et al. 2019, section 3.2): 6D rotations (Zhou et al. 2019), and iterative feedback.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat, six_to_rotmat
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.inputs import Sees, assemble, num_inputs
from lvdreg.image.resnet import ResNet, pooled

USUAL_SCALE = 1.0
"""Units of the crop to a metre that scales are told from: a grown person who fills the crop."""


@dataclass(frozen=True)
class RegressorConfig:
    """Sizes: a narrow ResNet-18."""

    size: int = 256
    channels: tuple[int, ...] = (64, 96, 160, 256)
    """Of the stages of the backbone, the finest first."""
    hidden: int = 512
    iterations: int = 3
    """How many times the head corrects its estimate; one is plain regression."""
    inputs: tuple[str, ...] = ImageConfig.inputs
    keypoints: tuple[str, ...] = ImageConfig.keypoints
    """What is seen: all that the image network sees."""


@dataclass(frozen=True)
class RegressorNetConfig:
    """Sizes of the network and of the body whose parameters it predicts; stored in every checkpoint."""

    body: str
    num_betas: int
    num_joints: int
    regressor: RegressorConfig

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RegressorNetConfig":
        """Rebuild from ``to_dict``; unknown keys raise TypeError."""
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["regressor"].items()}
        return cls(values["body"], int(values["num_betas"]), int(values["num_joints"]), RegressorConfig(**sizes))


@dataclass(frozen=True)
class Regressed:
    """What a regressor says of photos.

    Attributes:
        betas: Shape.
        rotations: Of every joint relative to its parent; of the root to the unit frame of the crop.
        scale: Units of the crop to a metre.
        shift: Where the root joint is in the crop, x and y of the unit frame.
    """

    betas: Float[Tensor, "B K"]
    rotations: Float[Tensor, "B J 3 3"]
    scale: Float[Tensor, " B"]
    shift: Float[Tensor, "B 2"]

    @classmethod
    def joined(cls, several: Sequence["Regressed"]) -> "Regressed":
        """Return several estimates as one batch, one after the other."""
        return cls(*(torch.cat([getattr(each, item.name) for each in several]) for item in fields(cls)))

    def placed(self, body: BodyModel) -> tuple[Float[Tensor, "B V 3"], Float[Tensor, "B J 3"]]:
        """Return vertices and joints of the posed body in the crop's unit frame, its root at depth zero."""
        rest, joints = body.rest(self.betas)
        posed = body.turned(rest, joints, self.rotations, torch.zeros_like(self.betas[:, :3]))
        shift = torch.cat([self.shift, torch.zeros_like(self.shift[:, :1])], 1)[:, None]
        root, scale = posed.joints[:, :1], self.scale[:, None, None]
        return (posed.vertices - root) * scale + shift, (posed.joints - root) * scale + shift

    def vertices(self, body: BodyModel) -> Float[Tensor, "B V 3"]:
        """Return the vertices of ``placed``; differentiable."""
        return self.placed(body)[0]

    def in_metres(self, body: BodyModel) -> tuple[BodyParams, Float[Tensor, " B"]]:
        """Return the bodies in metres, roots at depth zero, and logarithms of the metres of the crops' units."""
        root = body.rest(self.betas)[1][:, 0]
        place = torch.cat([self.shift / self.scale[:, None], torch.zeros_like(self.shift[:, :1])], 1)
        return BodyParams(self.betas, rotmat_to_rotvec(self.rotations), place - root), -self.scale.log()

    def detached(self, device: str | torch.device | None = None) -> "Regressed":
        """Return the same without gradients, on a device if one is named."""
        parts = (self.betas, self.rotations, self.scale, self.shift)
        return Regressed(*(part.detach().to(device or part.device) for part in parts))

    @classmethod
    def of(cls, body: BodyModel, params: BodyParams, log_unit: Float[Tensor, " B"]) -> "Regressed":
        """Return what should be said of bodies (B, ...) in metres: the inverse of ``in_metres``, but for depth."""
        scale = (-log_unit).exp()
        root = body.rest(params.betas)[1][:, 0] + params.transl
        return cls(params.betas, rotvec_to_rotmat(params.pose), scale, root[:, :2] * scale[:, None])


class FeedbackHead(nn.Module):
    """Corrects an estimate of the body from features and the estimate itself (Kanazawa et al. 2018, section 3.2).

    Estimates are rows of numbers (B, P): betas, two rows of every rotation, the logarithm of the scale, the shift.
    """

    start: Float[Tensor, " P"]

    def __init__(self, num_features: int, num_betas: int, num_joints: int, hidden: int) -> None:
        """Build it; a new head corrects nothing."""
        super().__init__()
        self.num_betas, self.num_joints = num_betas, num_joints
        with torch.device("cpu"):  # where weights have no memory yet, arithmetic takes seconds to begin with
            six = torch.tensor([1.0, 0, 0, 0, 1.0, 0]).repeat(num_joints)
            self.register_buffer("start", torch.cat([torch.zeros(num_betas), six, torch.zeros(3)]))
        size = num_betas + 6 * num_joints + 3
        self.layers = nn.Sequential(
            nn.Linear(num_features + size, hidden), nn.LayerNorm(hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.ReLU(),
        )  # fmt: skip
        self.answer = nn.Linear(hidden, size)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def mean(self, count: int) -> Float[Tensor, "B P"]:
        """Return the estimate of people of whom nothing is known: of mean shape, at rest, facing the viewer."""
        return self.start.expand(count, -1)

    def forward(self, features: Float[Tensor, "B F"], now: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """Return a better estimate; in single precision whatever the features have."""
        with torch.autocast(now.device.type, enabled=False):
            corrected: Tensor = now + self.answer(self.layers(torch.cat([features.float(), now], 1)))
        return corrected

    def said(self, now: Float[Tensor, "B P"]) -> Regressed:
        """Return the body that an estimate means."""
        betas, six, camera = now.split([self.num_betas, 6 * self.num_joints, 3], 1)
        rotations = six_to_rotmat(six.unflatten(1, (self.num_joints, 6)))
        return Regressed(betas, rotations, USUAL_SCALE * camera[:, 0].exp(), camera[:, 1:])


class Regressor(nn.Module):
    """A network that takes a cropped photo with its mask, and says shape, pose and camera."""

    step_name: ClassVar[str] = "iteration"
    """What one of its ``steps`` is called."""

    @property
    @abstractmethod
    def sees(self) -> Sees:
        """What it sees of photos."""

    @abstractmethod
    def looked(
        self,
        image: Float[Tensor, "B 3 S S"],
        mask: Float[Tensor, "B 1 S S"],
        keypoints: Float[Tensor, "B K 3"] | None = None,
    ) -> list[Tensor]:
        """Return what ``told`` reads of crops; arguments as of ``ImageNet.features``."""

    @abstractmethod
    def told(self, maps: list[Tensor]) -> list[Regressed]:
        """Return what each iteration says of what was looked at, the last one best."""

    def steps(
        self,
        image: Float[Tensor, "B 3 S S"],
        mask: Float[Tensor, "B 1 S S"],
        keypoints: Float[Tensor, "B K 3"] | None = None,
    ) -> list[Regressed]:
        """Look at crops, and return what each iteration says."""
        return self.told(self.looked(image, mask, keypoints))

    def forward(
        self,
        image: Float[Tensor, "B 3 S S"],
        mask: Float[Tensor, "B 1 S S"],
        keypoints: Float[Tensor, "B K 3"] | None = None,
    ) -> Regressed:
        """Return the last of ``steps``."""
        return self.steps(image, mask, keypoints)[-1]


class RegressorNet(Regressor):
    """The network of HMR and SPIN: one look, then iterations of the head."""

    def __init__(self, config: RegressorNetConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.regressor
        self.backbone = ResNet(num_inputs(sizes), sizes.channels)
        self.head = FeedbackHead(sizes.channels[-1], config.num_betas, config.num_joints, sizes.hidden)

    @property
    def sees(self) -> RegressorConfig:
        """What it sees of photos."""
        return self.config.regressor

    def looked(
        self,
        image: Float[Tensor, "B 3 S S"],
        mask: Float[Tensor, "B 1 S S"],
        keypoints: Float[Tensor, "B K 3"] | None = None,
    ) -> list[Tensor]:
        """Return pooled features; arguments as of ``ImageNet.features``."""
        return [pooled(self.backbone(assemble(image, mask, keypoints, self.sees))[-1])]

    def told(self, maps: list[Tensor]) -> list[Regressed]:
        """Return what each iteration says."""
        (features,), said = maps, []
        now = self.head.mean(len(features))
        for _ in range(self.sees.iterations):
            now = self.head(features, now)
            said.append(self.head.said(now))
        return said
