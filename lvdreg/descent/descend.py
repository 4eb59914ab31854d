"""The descent: all vertices start at one point and follow the field until the steps vanish (LVD paper, equation 2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.base.threads import side_by_side
from lvdreg.field import Features, VertexField


@dataclass(frozen=True)
class DescentConfig:
    """The descent loop; steps and tolerance were chosen by hand: descents rest after four to six steps."""

    max_steps: int = 10
    tolerance: float = 0.002
    reversal_damping: float = 1.0
    """So much is taken of steps that turn back against the one before."""


PHOTO_DESCENT = DescentConfig(reversal_damping=0.5)
"""In photos a hand may be in either of two places: vertices would go to and fro."""


@dataclass(frozen=True)
class Descent:
    """Where the vertices came to rest.

    Attributes:
        vertices: Final vertices, unit frame.
        step_lengths: Mean length of each step taken, unit frame, one row per step.
        converged: Whether the last mean step of each sample was under the tolerance.
    """

    vertices: Float[Tensor, "B N 3"]
    step_lengths: Float[Tensor, "S B"]
    converged: tuple[bool, ...]


@torch.no_grad()
def descend(
    field: VertexField,
    features: Features,
    batch: int,
    config: DescentConfig,
    vertices: Int[Tensor, " N"] | None = None,
    start: Float[Tensor, "B N 3"] | None = None,
) -> Descent:
    """Carry vertices from a single point (or ``start``) to the body.

    Args:
        field: The trained field.
        features: Features of the batch of scans.
        batch: How many scans ``features`` holds.
        config: Number of steps and tolerance.
        vertices: Which vertices descend; all when None.
        start: Where they start, unit frame; the centre of the box when None.

    Returns:
        Final vertices with the history of step lengths; no gradients.
    """
    count = field.num_vertices if vertices is None else len(vertices)
    x = field.codes.new_zeros(batch, count, 3) if start is None else start
    walked, lengths = walk(field, features, x, vertices, config.reversal_damping), list[Tensor]()
    while len(lengths) < config.max_steps and not (lengths and bool((lengths[-1] < config.tolerance).all())):
        x, step = next(walked)
        lengths.append(step.norm(dim=-1).mean(-1))
    return Descent(x, torch.stack(lengths), tuple((lengths[-1] < config.tolerance).tolist()))


ROWS_AT_ONCE = 1000
"""So many points meet the field at once; pieces of fewer take longer for all of them together."""
ROWS_ON_GPU = 1 << 16
"""The same on a GPU, which takes as long for few as for many."""


def steps_at(
    field: VertexField, features: Features, x: Float[Tensor, "B N 3"], vertices: Int[Tensor, " N"] | None = None
) -> Float[Tensor, "B N 3"]:
    """Return the steps that the field predicts at points, some points at a time and side by side.

    Args:
        field: The trained field.
        features: Features of the batch.
        x: Where vertices are, unit frame.
        vertices: Which vertices these are; all when None.
    """
    batch, count = x.shape[:2]
    width = max((ROWS_AT_ONCE if x.device.type == "cpu" else ROWS_ON_GPU) // batch, 1)
    if count <= width:
        return field(features(x), x, vertices)
    index = torch.arange(count, device=x.device) if vertices is None else vertices

    def steps(start: int) -> Tensor:
        some = x[:, start : start + width]
        return field(features(some), some, index[start : start + width])

    return torch.cat(side_by_side(steps, range(0, count, width)), 1)


@torch.no_grad()
def walk(
    field: VertexField,
    features: Features,
    x: Float[Tensor, "B N 3"],
    vertices: Int[Tensor, " N"] | None = None,
    reversal_damping: float = 1.0,
) -> Iterator[tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N 3"]]]:
    """Take one step after another, without end.

    Args:
        field: The trained field.
        features: Features of the batch.
        x: Where vertices start, unit frame.
        vertices: Which vertices these are; all when None.
        reversal_damping: Where a step turns back against the one before, so much of it is taken: vertices that the
            field sends to and fro between two places come to rest between them.

    Yields:
        Where vertices are after each step, and the step.
    """
    last = torch.zeros_like(x)
    while True:
        step = steps_at(field, features, x, vertices)
        back = (step * last).sum(-1, keepdim=True) < 0
        last = torch.where(back, reversal_damping * step, step)
        x = x + last
        yield x, last
