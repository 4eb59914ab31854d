"""Points to a voxel grid.

The grid covers [-1, 1]^3 of the unit frame with cells of side ``2 / resolution``; volumes are stored ``(B, C, z, y,
x)``. Cell ``i`` along an axis has its centre at ``-1 + (i + 0.5) * cell``. One convention, tested with a one-hot voxel:
both public codes of this method swap the axes and read half a voxel off (field.md, 4.1).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NUM_CHANNELS = 4
"""Occupancy, and the mean offset (x, y, z) of a cell's points from its centre in cells."""


def voxelise(points: Float[Tensor, "B P 3"], valid: Bool[Tensor, "B P"], resolution: int) -> Float[Tensor, "B 4 D D D"]:
    """Scatter points of the unit frame into a grid; points outside of it are dropped.

    The occupancy is binary and the offsets are means, so that the volume hardly depends on how dense the scan is.
    """
    batch = points.shape[0]
    num_cells = resolution**3
    position = (points + 1) * (resolution / 2)
    cell = position.floor()
    inside = valid & ((cell >= 0) & (cell < resolution)).all(-1)
    index = cell.clamp(0, resolution - 1).long()
    flat = (index[..., 2] * resolution + index[..., 1]) * resolution + index[..., 0]
    flat = flat + torch.arange(batch, device=points.device)[:, None] * num_cells
    values = torch.cat([torch.ones_like(points[..., :1]), position - cell - 0.5], -1) * inside[..., None]
    sums = points.new_zeros(batch * num_cells, NUM_CHANNELS).index_add_(
        0, flat.reshape(-1), values.reshape(-1, NUM_CHANNELS)
    )
    count = sums[:, :1]
    volume = torch.cat([count.clamp_max(1), sums[:, 1:] / count.clamp_min(1)], -1)
    return volume.view(batch, resolution, resolution, resolution, NUM_CHANNELS).permute(0, 4, 1, 2, 3)
