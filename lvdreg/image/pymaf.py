"""PyMAF (Zhang et al., "3D human pose and shape regression with pyramidal mesh alignment feedback loop", ICCV 2021).

A residual network and deconvolutions give a pyramid of maps, the coarsest first. On the first the parameters are told
from features on a grid; on every further one from the features where vertices of the body project that has been told
so far, so that a finer map says how the body is to be moved to lie over the person. Every level has its own regressor.
"""

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.body.model import BodyData, BodyModel, some_vertices
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.inputs import assemble, num_inputs
from lvdreg.image.layers import ChannelNorm
from lvdreg.image.regressor import FeedbackHead, Regressed, Regressor
from lvdreg.image.resnet import ResNet, pooled
from lvdreg.image.sampling import sample_map

READ = ("mesh", "grid", "global")
"""What the levels after the first read: features at the body's projections, on the grid again, or means over the photo
(the last also at the first level), which is the feedback of HMR and SPIN."""


@dataclass(frozen=True)
class PyMAFConfig:
    """Sizes."""

    size: int = 256
    channels: tuple[int, ...] = (32, 64, 128, 192)
    """Of the residual network's stages."""
    levels: int = 3
    """Maps of the pyramid, each by a deconvolution that doubles the resolution."""
    maps: int = 64
    """Channels of each of them."""
    reduced: int = 5
    """What remains of the features of a point."""
    grid: int = 21
    """Points each way that the first level reads."""
    points: tuple[int, ...] = ()
    """Vertices at whose projections later levels read."""
    hidden: int = 192
    read: str = "mesh"
    """One of ``READ``."""
    dense: bool = True
    """Whether there is a head that says where on the body each cell of the finest map looks: in training only."""
    inputs: tuple[str, ...] = ImageConfig.inputs
    keypoints: tuple[str, ...] = ImageConfig.keypoints
    """What is seen: all that the image network sees."""

    def __post_init__(self) -> None:
        if self.read not in READ:
            raise ValueError(f"read: expected one of {', '.join(READ)}, got {self.read}")

    @property
    def finest(self) -> int:
        """Cells each way of the last map of the pyramid."""
        return self.size // 2 ** (len(self.channels) + 1) * 2**self.levels


@dataclass(frozen=True)
class PyMAFNetConfig:
    """Sizes of the network and the body whose parameters it predicts; stored in every checkpoint."""

    body: str
    pymaf: PyMAFConfig

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PyMAFNetConfig":
        """Rebuild from ``to_dict``; unknown keys raise TypeError."""
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["pymaf"].items()}
        return cls(values["body"], PyMAFConfig(**sizes))


def grid_points(side: int, device: torch.device | None = None) -> Float[Tensor, "N 3"]:
    """Return the centres of the cells of a square grid over the crop, row by row from the top, unit frame."""
    at = (torch.arange(side, device=device) + 0.5) * (2 / side) - 1
    y, x = torch.meshgrid(-at, at, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)], -1).flatten(0, 1)


class Pyramid(nn.Module):
    """A residual network, and deconvolutions that each double the resolution of its last map (PyMAF, section 4.1)."""

    def __init__(self, num_inputs: int, sizes: PyMAFConfig) -> None:
        super().__init__()
        self.backbone = ResNet(num_inputs, sizes.channels)
        widths = (sizes.channels[-1], *(sizes.maps,) * sizes.levels)
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), ChannelNorm(b), nn.ReLU())
            for a, b in pairwise(widths)
        )

    def forward(self, seen: Float[Tensor, "B C S S"]) -> list[Tensor]:
        """Return the last map of the residual network, then those of the pyramid, the finest last."""
        maps = self.backbone(seen)[-1:]
        for up in self.up:
            maps.append(up(maps[-1]))
        return maps


class PointReader(nn.Module):
    """Features of points, each reduced by the same perceptron, one after the other (PyMAF, equation 1)."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        first, second = channels // 2, channels // 4
        self.layers = nn.Sequential(
            nn.Linear(channels, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, reduced)
        )

    def forward(self, features: Float[Tensor, "B C H W"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B M"]:
        """Read a map where points of the unit frame project: ``reduced`` numbers for each of them."""
        read: Tensor = self.layers(sample_map(features, points))
        return read.flatten(1)


class PyMAFNet(Regressor):
    """A cropped photo with its mask in, parameters of the body out, better from level to level."""

    step_name = "level"

    def __init__(self, config: PyMAFNetConfig, body: BodyData) -> None:
        """Build it for a body, of which it keeps the vertices at whose projections it reads."""
        super().__init__()
        self.config = config
        sizes = config.pymaf
        with torch.device("cpu"):  # the body is there, even where weights have no memory yet
            self.points = BodyModel(some_vertices(body, sizes.points))
        self.pyramid = Pyramid(num_inputs(sizes), sizes)
        on_mesh, on_grid = len(sizes.points) * sizes.reduced, sizes.grid**2 * sizes.reduced
        later = {"mesh": on_mesh, "grid": on_grid, "global": sizes.channels[-1]}[sizes.read]
        first = sizes.channels[-1] if sizes.read == "global" else on_grid
        self.readers = nn.ModuleList(
            PointReader(sizes.maps, sizes.reduced) for _ in range(sizes.levels if sizes.read != "global" else 0)
        )
        self.heads = nn.ModuleList(
            FeedbackHead(first if level == 0 else later, self.points.num_betas, self.points.num_joints, sizes.hidden)
            for level in range(sizes.levels)
        )
        self.dense: nn.Conv2d | None = nn.Conv2d(sizes.maps, 4, 1) if sizes.dense else None

    @property
    def sees(self) -> PyMAFConfig:
        """What it sees of photos."""
        return self.config.pymaf

    def without_dense(self) -> "PyMAFNet":
        """Drop the map of dense correspondence, which only training needs; return the network itself."""
        self.dense = None
        self.config = replace(self.config, pymaf=replace(self.sees, dense=False))
        return self

    def looked(
        self,
        image: Float[Tensor, "B 3 S S"],
        mask: Float[Tensor, "B 1 S S"],
        keypoints: Float[Tensor, "B K 3"] | None = None,
    ) -> list[Tensor]:
        """Return what ``told`` reads, the maps of ``Pyramid``; arguments as of ``ImageNet.features``."""
        maps: list[Tensor] = self.pyramid(assemble(image, mask, keypoints, self.sees))
        return maps

    def told(self, maps: list[Tensor]) -> list[Regressed]:
        """Return what each level says; gradients of one level do not reach the estimates of those before it."""
        said: list[Regressed] = []
        heads = cast("list[FeedbackHead]", list(self.heads))
        now = heads[0].mean(len(maps[0]))
        for level, head in enumerate(heads):
            features = self._read(level, maps, said[-1] if said else None)
            now = head(features, now.detach())
            said.append(head.said(now))
        return said

    def _read(self, level: int, maps: list[Tensor], before: Regressed | None) -> Float[Tensor, "B F"]:
        """Return what the regressor of a level is told of the photo, given what the level before said."""
        sizes, features = self.sees, maps[level + 1]
        if sizes.read == "global":
            return pooled(maps[0])
        if before is None or sizes.read == "grid":
            points = grid_points(sizes.grid, features.device).expand(len(features), -1, -1)
        else:
            with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
                points = before.vertices(self.points)
        read: Tensor = self.readers[level](features, points)
        return read
