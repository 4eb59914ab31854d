"""The residual backbone of networks that regress bodies (He et al. 2016), with group norm."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.image.layers import ChannelNorm


class BasicBlock(nn.Module):
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


class ResNet(nn.Module):
    """Two basic blocks a stage, like a ResNet-18; every stage but the first halves the resolution."""

    def __init__(self, num_inputs: int, channels: tuple[int, ...]) -> None:
        """Build it; ``channels`` are those of the stages, the finest first."""
        super().__init__()
        entry = nn.Conv2d(num_inputs, channels[0], 7, 2, 3, bias=False)
        self.entry = nn.Sequential(entry, ChannelNorm(channels[0]), nn.ReLU())
        stages = [nn.Sequential(BasicBlock(channels[0], channels[0], 1), BasicBlock(channels[0], channels[0], 1))]
        stages += [nn.Sequential(BasicBlock(a, b, 2), BasicBlock(b, b, 1)) for a, b in pairwise(channels)]
        self.stages = nn.ModuleList(stages)

    def forward(self, seen: Float[Tensor, "B C S S"]) -> list[Tensor]:
        """Return the map of each stage (B, C, S / 4 / 2^stage, ...), the finest first."""
        maps = [nn.functional.max_pool2d(self.entry(seen.contiguous(memory_format=torch.channels_last)), 3, 2, 1)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


def pooled(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
    """Return the mean over a map, in single precision."""
    return features.float().mean((2, 3))
