"""The other way: one look at the whole photo, and out come shape, pose and camera.

This is what LVD is measured against (LVD paper, table 1): a residual network regresses the parameters of the body.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.body.model import BodyModel
from lvdreg.geometry.frames import six_to_rotmat
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.inputs import assemble, num_inputs
from lvdreg.image.layers import ChannelNorm

USUAL_SCALE = 1.0
"""Units of the crop to a metre that scales are told from: a grown person who fills the crop."""


@dataclass(frozen=True)
class RegressorConfig:
    """Sizes: those of a ResNet-18 (He et al. 2016), with group norm."""

    size: int = 256
    channels: tuple[int, ...] = (64, 128, 256, 512)
    """Two basic blocks of each; all but the first halve the resolution."""
    hidden: int = 1024
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
    """What the network says of photos.

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

    def vertices(self, body: BodyModel) -> Float[Tensor, "B V 3"]:
        """Pose the body and place it in the crop's unit frame, its root at depth zero; differentiable."""
        rest, joints = body.rest(self.betas)
        posed = body.turned(rest, joints, self.rotations, torch.zeros_like(self.betas[:, :3]))
        shift = torch.cat([self.shift, torch.zeros_like(self.shift[:, :1])], 1)
        return (posed.vertices - posed.joints[:, :1]) * self.scale[:, None, None] + shift[:, None]


class _Block(nn.Module):
    """The basic block of a residual network."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(ChannelNorm(channels_out) for _ in range(2))
        self.around = nn.Sequential()
        if stride > 1 or channels_in != channels_out:
            self.around.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))
            self.around.append(ChannelNorm(channels_out))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D _ _"]:
        """Return the block's output."""
        y = self.second(nn.functional.relu(self.norms[0](self.first(x))))
        return nn.functional.relu(self.around(x) + self.norms[1](y))


class RegressorNet(nn.Module):
    """A cropped photo with its mask in, parameters of the body out."""

    def __init__(self, config: RegressorNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, hidden = config.regressor.channels, config.regressor.hidden
        entry = nn.Conv2d(num_inputs(config.regressor), channels[0], 7, 2, 3, bias=False)
        self.entry = nn.Sequential(entry, ChannelNorm(channels[0]), nn.ReLU())
        blocks: list[nn.Module] = []
        for number, (a, b) in enumerate(zip((channels[0], *channels), channels, strict=False)):
            blocks += [_Block(a, b, 1 if number == 0 else 2), _Block(b, b, 1)]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(nn.Linear(channels[-1], hidden), nn.ReLU(), nn.LayerNorm(hidden))
        self.answer = nn.Linear(hidden, config.num_betas + 6 * config.num_joints + 3)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def forward(
        self,
        image: Float[Tensor, "B 3 S S"],
        mask: Float[Tensor, "B 1 S S"],
        keypoints: Float[Tensor, "B K 3"] | None = None,
    ) -> Regressed:
        """Look at crops; arguments as of ``ImageNet.features``."""
        seen = assemble(image, mask, keypoints, self.config.regressor)
        x = nn.functional.max_pool2d(self.entry(seen.contiguous(memory_format=torch.channels_last)), 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        pooled = x.mean((2, 3)).float()
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = self.answer(self.head(pooled))
        betas, six, camera = out.split([self.config.num_betas, 6 * self.config.num_joints, 3], 1)
        start = out.new_tensor([1.0, 0, 0, 0, 1.0, 0])
        rotations = six_to_rotmat(six.unflatten(1, (-1, 6)) + start)
        return Regressed(betas, rotations, USUAL_SCALE * camera[:, 0].exp(), camera[:, 1:])
