"""Stacked hourglass: a photo to maps of features (LVD paper, section 3.3; Newell et al. 2016).

Every stack goes down to a few cells, where the whole person is seen at once, and up again with what was seen on the way
down. One class covers the paper's size and the narrow shipped one, whose channels grow as the resolution falls.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.base.threads import side_by_side
from lvdreg.image.layers import ChannelNorm
from lvdreg.image.sampling import sample_map


@dataclass(frozen=True)
class ImageConfig:
    """The crop and the stacked hourglass (image/)."""

    size: int = 256
    """Side of the crop, pixels."""
    inputs: tuple[str, ...] = ("rgb", "mask", "keypoints")
    """What the network sees: "rgb" (masked), "mask", "edges", "keypoints"."""
    keypoints: tuple[str, ...] = tuple(
        f"{side}_{joint}"
        for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    )
    """Joints of the body whose heat maps are seen, if "keypoints" are."""
    stem: int = 32
    stacks: int = 2
    stride: int = 4
    """Pixels of the crop to one cell of the features."""
    channels: tuple[int, ...] = (64, 96, 128, 176, 224)
    """Of every level of the hourglasses, the finest first."""
    pyramid: bool = True
    """Whether the coarser levels of the last stack are read too."""

    def __post_init__(self) -> None:
        cells = self.stride * 2 ** (len(self.channels) - 1)
        if self.stride < 2 or self.stride & (self.stride - 1) or self.size % cells or len(self.channels) < 2:
            raise ValueError(
                f"size: expected a multiple of {cells} with a stride that is a power of two and at least two channels, "
                f"got size {self.size}, stride {self.stride}, channels {self.channels}"
            )


PAPER_IMAGE = ImageConfig(stem=64, stacks=4, stride=2, channels=(256,) * 5, pyramid=False)
"""The paper's encoder: four stacks, features of 128 x 128 x 256 from each."""


COARSE = 8
"""Levels of at most so many cells a side are computed in single precision: see ``voxel.encoder``."""


class Residual(nn.Module):
    """Newell's unit: normalise, rectify, convolve, three times, narrow in the middle; added to its input."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        """Build the unit; a 1 x 1 convolution leads around it where the number of channels changes."""
        super().__init__()
        middle = channels_out // 2
        self.norms = nn.ModuleList(ChannelNorm(c) for c in (channels_in, middle, middle))
        first = nn.Conv2d(channels_in, middle, 1, bias=False)
        last = nn.Conv2d(middle, channels_out, 1)
        self.convs = nn.ModuleList([first, nn.Conv2d(middle, middle, 3, padding=1, bias=False), last])
        same = channels_in == channels_out
        self.around = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, bias=False)
        # Each unit begins as doing nothing, so that deep stacks learn from the first step.
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Return the unit's output, of the same resolution."""
        with torch.autocast(x.device.type, enabled=x.shape[-1] > COARSE and torch.is_autocast_enabled(x.device.type)):
            x = x if x.shape[-1] > COARSE else x.float()
            y = x
            for norm, conv in zip(self.norms, self.convs, strict=True):
                y = conv(nn.functional.relu(norm(y)))
            out: Tensor = self.around(x) + y
        return out


class Hourglass(nn.Module):
    """Down to half the resolution, on to whatever lies below, and up again."""

    def __init__(self, channels: Sequence[int]) -> None:
        """Build the levels: ``channels[0]`` at the resolution of the input, the next ones at a half, a quarter, ..."""
        super().__init__()
        here, below = channels[:2]
        self.beside, self.down, self.up = Residual(here, here), Residual(here, below), Residual(below, here)
        self.inner = Hourglass(channels[1:]) if len(channels) > 2 else Residual(below, below)

    def forward(self, x: Float[Tensor, "B C H W"], levels: list[Tensor]) -> Float[Tensor, "B C H W"]:
        """Return the map at the input's resolution; append the maps of all coarser levels, coarsest first."""
        # Of about the same cost.
        halves: list[Callable[[Tensor], Tensor]] = [self.beside, lambda x: self._raised(x, levels)]
        beside, raised = side_by_side(lambda half: half(x), halves)
        out: Tensor = beside + raised
        return out

    def _raised(self, x: Float[Tensor, "B C H W"], levels: list[Tensor]) -> Float[Tensor, "B C H W"]:
        """Return what is seen at half the resolution and below, brought back to that of the input."""
        low = self.down(nn.functional.max_pool2d(x, 2))
        low = self.inner(low, levels) if isinstance(self.inner, Hourglass) else self.inner(low)
        levels.append(low)
        return nn.functional.interpolate(self.up(low), scale_factor=2.0, mode="nearest")


class ImageFeatures:
    """Feature maps of a batch of photos; a callable from points of the unit frame to features."""

    def __init__(self, maps: Sequence[Float[Tensor, "B _C _H _W"]]) -> None:
        self.maps = tuple(maps)

    def only(self, index: int) -> "ImageFeatures":
        """Return the features of one photo of the batch, as a batch of one."""
        return ImageFeatures([m[index : index + 1] for m in self.maps])

    def __call__(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N C"]:
        """Read every map where the points project and join the channels; the field appends the points with depth."""
        return torch.cat([sample_map(m, points) for m in self.maps], -1)


class ImageEncoder(nn.Module):
    """Stem and stacked hourglasses; the features of every stack are kept, as in the paper."""

    def __init__(self, config: ImageConfig, num_inputs: int) -> None:
        """Build the encoder for ``num_inputs`` channels."""
        super().__init__()
        self.config = config
        top, coarse = config.channels[0], config.channels[1:]
        stacks = range(config.stacks)
        self.entry = nn.Conv2d(num_inputs, config.stem, 7, stride=2, padding=3)
        self.stem = nn.ModuleList([Residual(config.stem, top)])
        self.hourglasses = nn.ModuleList(Hourglass(config.channels) for _ in stacks)
        self.after = nn.ModuleList(
            nn.Sequential(Residual(top, top), nn.Conv2d(top, top, 1), ChannelNorm(top)) for _ in stacks
        )
        self.back = nn.ModuleList(nn.Conv2d(top, top, 1) for _ in stacks[1:])
        self.level_norms = nn.ModuleList(ChannelNorm(c) for c in reversed(coarse) if config.pyramid)
        self.num_features = top * config.stacks + (sum(coarse) if config.pyramid else 0)

    def forward(self, inputs: Float[Tensor, "B C S S"]) -> ImageFeatures:
        """Encode photos; one map per stack, then, if so configured, the coarser levels of the last stack."""
        x = self.entry(inputs.contiguous(memory_format=torch.channels_last))
        for _ in range(int(math.log2(self.config.stride)) - 1):
            x = nn.functional.avg_pool2d(x, 2)
        for residual in self.stem:
            x = residual(x)
        maps: list[Tensor] = []
        levels: list[Tensor] = []
        for number, (hourglass, after) in enumerate(zip(self.hourglasses, self.after, strict=True)):
            levels = []
            maps.append(nn.functional.relu(after(hourglass(x, levels))))
            if number < len(self.back):
                x = x + self.back[number](maps[-1])
        return ImageFeatures(maps + [norm(level) for norm, level in zip(self.level_norms, levels, strict=False)])
