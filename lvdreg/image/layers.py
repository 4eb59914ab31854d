"""Layers that the networks on photos share."""

import math

from jaxtyping import Float
from torch import Tensor, nn

NUM_GROUPS = 8


class ChannelNorm(nn.GroupNorm):
    """Group norm (Wu and He 2018), as LVD's supplement has it, in single precision.

    With bfloat16 in channels-last order its gradient takes three times as long on a CPU (torch 2.13), a quarter of a
    training step.
    """

    def __init__(self, channels: int) -> None:
        """Normalise eight groups of channels, or as many as divide them."""
        super().__init__(math.gcd(NUM_GROUPS, channels), channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the normalised map in the precision of the input."""
        return super().forward(x.float()).to(x.dtype)
