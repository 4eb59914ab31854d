"""Where the field is asked during training, and how wrong its answers are (LVD paper, section 3.4)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.field import Features, VertexField


def clip_norm(vectors: Float[Tensor, "*B 3"], limit: float) -> Float[Tensor, "*B 3"]:
    """Shorten vectors longer than ``limit``. By norm: clipping each component bends the direction (field.md, 4.1)."""
    length = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return vectors * (limit / length).clamp_max(1)


def choose_vertices(
    weights: Float[Tensor, " V"], batch: int, count: int, generator: torch.Generator
) -> Int[Tensor, "B N"]:
    """Draw vertices of each sample in proportion to ``weights``."""
    flat = torch.multinomial(weights, batch * count, replacement=True, generator=generator)
    return flat.view(batch, count)


def query_points(true: Float[Tensor, "B N 3"], generator: torch.Generator) -> Float[Tensor, "B N 3"]:
    """Draw where each vertex is asked from: around its true place, on its way there, at another vertex, anywhere.

    Args:
        true: True places of the chosen vertices, unit frame.
        generator: Source of randomness on the same device.

    Returns:
        Query points, unit frame.
    """
    batch, count = true.shape[:2]

    def rand(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, device=true.device)

    def randn() -> Tensor:
        return torch.randn(batch, count, 3, generator=generator, device=true.device)

    near = true + randn() * 10 ** (-2.5 + 1.8 * rand(count, 1))
    on_the_way = true * rand(count, 1) + 0.05 * randn()
    elsewhere = true[:, torch.randperm(count, generator=generator, device=true.device)] + 0.03 * randn()
    anywhere = rand(count, 3) * 2 - 1
    kind = rand(count, 1)
    return torch.where(
        kind < 0.55, near, torch.where(kind < 0.8, on_the_way, torch.where(kind < 0.92, elsewhere, anywhere))
    )


@torch.no_grad()
def visited_points(
    field: VertexField,
    features: Features,
    vertices: Int[Tensor, "B N"],
    steps: int,
    start: Float[Tensor, "B N 3"] | None = None,
) -> Float[Tensor, "S B N 3"]:
    """Let the present field descend ``steps`` times from the centre, or from ``start``.

    What the descent sees is what it is trained on.

    Returns:
        Where the vertices were at the start and after each step, S = steps + 1.
    """
    along = [torch.zeros(*vertices.shape, 3, device=vertices.device) if start is None else start]
    for _ in range(steps):
        along.append((along[-1] + field(features(along[-1]), along[-1], vertices)).clamp(-1.2, 1.2))
    return torch.stack(along)


def descent_loss(
    field: VertexField,
    features: Features,
    points: Float[Tensor, "B N 3"],
    true: Float[Tensor, "B N 3"],
    vertices: Int[Tensor, "B N"],
    clip: float,
) -> Float[Tensor, ""]:
    """Mean distance between predicted steps and clipped true displacements, unit frame."""
    predicted = field(features(points), points, vertices)
    return (predicted - clip_norm(true - points, clip)).norm(dim=-1).mean()
