"""Layers that the networks on photos share."""

import math

from torch import nn

NUM_GROUPS = 8


def channel_norm(channels: int) -> nn.GroupNorm:
    """Return a group norm (Wu and He 2018): the same for any batch, as LVD's supplement has it."""
    return nn.GroupNorm(math.gcd(NUM_GROUPS, channels), channels)
