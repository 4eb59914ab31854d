"""Where on the body each place of a photo looks: the auxiliary supervision of PyMAF, in training only.

PyMAF (Zhang et al. 2021, section 3.3) predicts DensePose's part and UV values of every pixel, rendered from the true
bodies. Here a place of the map is told from the coordinates of what it sees on the mean person at rest instead: no
atlas with seams has to be made of every body, and left and right, front and back differ in them as parts do.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lvdreg.body.model import BodyModel
from lvdreg.synth.camera.raster import rasterise
from lvdreg.synth.camera.view import Cameras
from lvdreg.synth.surface import Outer

ROUND = 0.1
"""Errors of coordinates below this, metres, count by their square (smooth L1)."""
FOREGROUND_WEIGHT = 0.1
"""Weight of the cross-entropy of what is body at all, where the coordinates' errors, metres, have 1."""


@dataclass(frozen=True)
class Dense:
    """What each cell of a square map sees of the naked body, as if nothing stood before it.

    Attributes:
        rest: Coordinates on the mean person at rest, metres, rest frame; zero where no body is seen.
        is_body: Whether the centre of the cell sees the body.
    """

    rest: Float[Tensor, "B 3 S S"]
    is_body: Bool[Tensor, "B S S"]


@torch.no_grad()
def dense_target(body: BodyModel, vertices: Float[Tensor, "B V 3"], side: int) -> Dense:
    """Render where on the body each cell looks.

    Args:
        body: Whose vertices they are.
        vertices: True places in the crop's unit frame, which is looked at along z; the crop is [-1, 1]^2.
        side: Cells each way.
    """
    batch = len(vertices)
    # Numbers that are sent over would make the CPU wait for a GPU; these are made there.
    away = torch.diag(1.0 - 2.0 * (torch.arange(3, device=vertices.device) > 0)).to(vertices)
    cameras = Cameras(
        away.expand(batch, 3, 3),
        vertices.new_zeros(batch, 3),
        vertices.new_full((batch,), side / 2),
        vertices.new_zeros(batch),
        vertices.new_full((batch, 2), side / 2),
    )
    keep = torch.ones(batch, len(body.faces), dtype=torch.bool, device=vertices.device)
    seen = rasterise(Outer(vertices, body.faces, keep), cameras, side)
    corners = body.v_template[body.faces[seen.face.clamp(min=0)]]
    # Nothing is seen with weights of zero.
    rest = (seen.bary[..., None] * corners).sum(-2)
    return Dense(rest.permute(0, 3, 1, 2), seen.face >= 0)


def dense_loss(said: Float[Tensor, "B 4 S S"], true: Dense) -> Float[Tensor, ""]:
    """Return how wrong a map of rest coordinates and of logits of being body is (PyMAF, equation 4).

    The mean error of coordinates over the cells that see a body, and the cross-entropy over all.
    """
    rest, logits = said.float().split([3, 1], 1)
    error = torch.nn.functional.smooth_l1_loss(rest, true.rest, reduction="none", beta=ROUND).sum(1)
    is_body = true.is_body.to(error.dtype)
    cells = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], is_body)
    return (error * is_body).sum() / is_body.sum().clamp(min=1) + FOREGROUND_WEIGHT * cells
