"""The vertex field: from features at a vertex to the step that vertex should take (LVD paper, equation 1).

One trunk is shared by all points; every vertex has a head of its own. The reference code evaluates each of N heads at
each of N points and keeps the diagonal; here point ``i`` meets head ``i`` only. Heads are of low rank: a code per
vertex times a shared basis, so that neighbouring vertices learn from each other and any surface point has a head (a
mixture of codes).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

OUTPUT_SCALE = 0.1
"""Every output is a sum over all codes and hidden units: unscaled, one step of Adam moves vertices by decimetres."""

Features = Callable[[Tensor], Tensor]
"""From points (B, N, 3) in the unit frame to features (B, N, C): voxels or an image, the field does not care."""


class VertexField(nn.Module):
    """Predict, for vertex ``i`` at point ``x_i``, the step towards the vertex's true place, at most ``clip`` long."""

    codes: Tensor

    def __init__(self, num_features: int, codes: Float[Tensor, "V R"], hidden: int, layers: int) -> None:
        """Build the trunk and the heads.

        Args:
            num_features: Channels that the encoder's features have.
            codes: Initial code of every vertex, e.g. principal components of posed vertices (``train.codes``).
            hidden: Width of the trunk.
            layers: Hidden layers of the trunk.
        """
        super().__init__()
        self.entry = nn.Linear(num_features + 3, hidden)
        self.trunk = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))
        self.basis = nn.Linear(hidden, 3 * codes.shape[1])
        nn.init.zeros_(self.basis.weight)
        self.codes = nn.Parameter(codes.clone())

    @property
    def num_vertices(self) -> int:
        """How many vertices have a head."""
        return self.codes.shape[0]

    def hidden(self, features: Float[Tensor, "B N C"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N H"]:
        """Run the shared trunk on points with their features."""
        x = self.norms[0](nn.functional.silu(self.entry(torch.cat([features, points], -1))))
        for layer, norm in zip(self.trunk, self.norms[1:], strict=True):
            x = x + norm(nn.functional.silu(layer(x)))
        return x

    def forward(
        self,
        features: Float[Tensor, "B N C"],
        points: Float[Tensor, "B N 3"],
        vertices: Int[Tensor, " N"] | Int[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B N 3"]:
        """Predict the steps of vertices at points.

        Args:
            features: Features at the points.
            points: Where the vertices are now, unit frame.
            vertices: Which vertex each point belongs to; all of them, in order, when None.

        Returns:
            Steps in the unit frame, differentiable in all float inputs.
        """
        h = self.hidden(features, points)
        codes = self.codes if vertices is None else nn.functional.embedding(vertices, self.codes)
        return (self._per_code(h) * codes[..., None, :]).sum(-1)

    def all_heads(self, features: Float[Tensor, "B N C"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N V 3"]:
        """Evaluate every head at every point, as the reference code does; for tests and for measuring what it costs."""
        return torch.einsum("bnar,vr->bnva", self._per_code(self.hidden(features, points)), self.codes)

    def _per_code(self, hidden: Float[Tensor, "B N H"]) -> Float[Tensor, "B N 3 R"]:
        return self.basis(hidden).unflatten(-1, (3, -1)).float() * OUTPUT_SCALE
