"""Reading feature maps at the projections of points: bilinear interpolation.

The image's unit frame has x to the right, y up and z towards the viewer; the crop is [-1, 1]^2 in x and y, and depth
has the same scale. The projection simply drops z; row 0 of a map is at the top, y = 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def sample_map(features: Float[Tensor, "B C H W"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N C"]:
    """Read a map of the crop where points project, clamped to the outermost pixel centres.

    Pixel (column c, row r) of a map with W columns and H rows has its centre at ``x = (c + 0.5) * 2 / W - 1`` and
    ``y = 1 - (r + 0.5) * 2 / H``. Equals ``grid_sample(align_corners=False, padding_mode="border")`` at (x, -y) but
    gathers whole feature rows, as ``voxel.sampling`` does. Differentiable in ``features``, not in ``points``.
    """
    batch, channels, height, width = features.shape
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
    p = points.detach().float()
    column = ((p[..., 0] + 1) * (width / 2) - 0.5).clamp(0, width - 1)
    row = ((1 - p[..., 1]) * (height / 2) - 0.5).clamp(0, height - 1)
    left, top = (x.floor().clamp(max=max(size - 2, 0)) for x, size in ((column, width), (row, height)))
    right_share, bottom_share = column - left, row - top
    first = torch.arange(batch, device=p.device)[:, None] * (height * width)
    corner = first + top.long() * width + left.long()
    across, down = int(width > 1), width * int(height > 1)
    corners = torch.stack([corner, corner + across, corner + down, corner + down + across], -1)
    weights = torch.stack(
        [
            (1 - right_share) * (1 - bottom_share),
            right_share * (1 - bottom_share),
            (1 - right_share) * bottom_share,
            right_share * bottom_share,
        ],
        -1,
    )
    out = torch.nn.functional.embedding_bag(
        corners.view(-1, 4), rows, mode="sum", per_sample_weights=weights.view(-1, 4).to(rows.dtype)
    )
    return out.view(batch, points.shape[1], channels)
