"""IF-Net encoder: a voxelised scan to a pyramid of feature volumes (LVD paper, section 3.3; Chibane et al. 2020)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.voxel.grid import NUM_CHANNELS
from lvdreg.voxel.sampling import sample_volume

COARSE = 8
"""Stages that read volumes of at most so many cells a side are computed in single precision."""


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of every cell: no batch statistics, and on a CPU far cheaper than group norm."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        rows = nn.functional.layer_norm(x.permute(0, 2, 3, 4, 1), self.normalized_shape, weight, bias, self.eps)
        return rows.permute(0, 4, 1, 2, 3)


class _Stage(nn.Module):
    """Halve the resolution to ``side`` cells a side, then one residual convolution.

    Kernels have three cells a side, but where a single cell is left: of kernels that reach over the edge of the volume
    on all sides most weights would never be used.
    """

    def __init__(self, channels_in: int, channels_out: int, normalised: bool, side: int) -> None:
        super().__init__()
        self.down = nn.Conv3d(channels_in, channels_out, 3 if side > 1 else 2, stride=2, padding=1 if side > 1 else 0)
        self.conv = nn.Conv3d(channels_out, channels_out, 3 if side > 1 else 1, padding="same")
        for conv in (self.down, self.conv):
            # As volumes are laid out: no convolution copies its kernels.
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last_3d)
        self.norm_down, self.norm_conv = (_ChannelNorm(channels_out) if normalised else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.norm_down(_convolved(self.down, x)))
        return x + nn.functional.silu(self.norm_conv(_convolved(self.conv, x)))


def _convolved(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Convolve; of a single small volume torch itself takes a way that is up to five times slower than oneDNN's."""
    is_single = len(x) == 1 and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()
    if not is_single or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
        return conv(x)
    padding = [size // 2 for size in conv.kernel_size] if conv.padding == "same" else list(conv.padding)
    strides = list(conv.stride), list(conv.dilation), conv.groups
    return torch.ops.aten.mkldnn_convolution(x, conv.weight, conv.bias, padding, *strides)


class VoxelFeatures:
    """Feature volumes of a batch of scans; a callable from points of the unit frame to features."""

    def __init__(self, volumes: Sequence[Float[Tensor, "B _ _ _ _"]]) -> None:
        """Hold the levels of the encoder: volumes (B, C, D, D, D), each with its own number of channels and cells."""
        self.volumes = tuple(volumes)

    @classmethod
    def joined(cls, parts: Sequence["VoxelFeatures"]) -> "VoxelFeatures":
        """Return features of several batches as those of one."""
        return (
            parts[0]
            if len(parts) == 1
            else cls([torch.cat(volumes) for volumes in zip(*(part.volumes for part in parts), strict=True)])
        )

    def __call__(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N C"]:
        """Read every level at the points and join the channels."""
        return torch.cat([sample_volume(volume, points) for volume in self.volumes], -1)


class VoxelEncoder(nn.Module):
    """Strided 3D convolutions whose every level is kept: fine levels say where, coarse levels say what."""

    def __init__(self, channels: Sequence[int], resolution: int) -> None:
        """Build one stage per entry of ``channels``; entry ``i`` has ``1 / 2^(i+1)`` of the grid's resolution."""
        super().__init__()
        inputs = (NUM_CHANNELS, *channels[:-1])
        # The first stage holds most of the cells and its inputs have one scale already: a norm there costs and gives
        # nothing.
        self.stages = nn.ModuleList(
            _Stage(a, b, i > 0, resolution >> (i + 1)) for i, (a, b) in enumerate(zip(inputs, channels, strict=True))
        )
        self.num_features = NUM_CHANNELS + sum(channels)

    def forward(self, volume: Float[Tensor, "B 4 D D D"]) -> VoxelFeatures:
        """Encode volumes; the input volume itself is the finest level."""
        levels = [volume]
        x = volume.contiguous(memory_format=torch.channels_last_3d)
        for stage in self.stages:
            # Coarse levels in single precision: they cost nothing, gradients of thousands of points meet in each of
            # their cells, and oneDNN's bfloat16 weight gradient of a 2^3 convolution reads memory nobody has written
            # (LOG.md).
            with torch.autocast(
                x.device.type, enabled=x.shape[-1] > COARSE and torch.is_autocast_enabled(x.device.type)
            ):
                x = stage(x if x.shape[-1] > COARSE else x.float())
            # So laid out, features are read without copying the volume.
            levels.append(x.contiguous(memory_format=torch.channels_last_3d))
        return VoxelFeatures(levels)
