"""The vertex field: from features at a vertex to the step that vertex should take (LVD paper, equation 1).

One trunk is shared by all points; every vertex has a head of its own. The reference code evaluates each of N heads at
each of N points and keeps the diagonal; here point ``i`` meets head ``i`` only. Heads are of low rank: a code per
vertex times a shared basis, so that neighbouring vertices learn from each other and any surface point has a head (a
mixture of codes).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class FieldConfig:
    """The vertex field."""

    hidden: int = 512
    layers: int = 3
    rank: int = 128
    clip: float = 0.35
    num_log_sigmas: int = 0
    """Of how many kinds of error it predicts the size, as a logarithm (aleatoric uncertainty)."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FieldConfig":
        """Rebuild from plain JSON values, those of lvdreg 0.1 too; unknown keys raise TypeError."""
        return cls(**{OLD_KEYS.get(name, name): value for name, value in values.items()})


OLD_KEYS = {"doubts": "num_log_sigmas"}
"""Names of sizes in weights of lvdreg 0.1: both are read."""


OUTPUT_SCALE = 0.1
"""Every output is a sum over all codes and hidden units: unscaled, one step of Adam moves vertices by decimetres."""

INITIAL_LOG_SIGMA = -3.0
"""Logarithm of the error, unit frame, that an untrained field expects of itself."""
LOG_SIGMA_CODES = 32
"""How wrong vertices may be is smoother than where they are: the first codes, which are the strongest, do for it."""

Features = Callable[[Tensor], Tensor]
"""From points (B, N, 3) in the unit frame to features (B, N, C): voxels or an image, the field does not care."""


class VertexField(nn.Module):
    """Predict, for vertex ``i`` at point ``x_i``, the step towards the vertex's true place, at most ``clip`` long."""

    codes: Tensor

    def __init__(
        self, num_features: int, codes: Float[Tensor, "V R"], hidden: int, layers: int, num_log_sigmas: int = 0
    ) -> None:
        """Build the trunk and the heads.

        Args:
            num_features: Channels that the encoder's features have.
            codes: Initial code of every vertex, e.g. principal components of posed vertices (``train.codes``).
            hidden: Width of the trunk.
            layers: Hidden layers of the trunk.
            num_log_sigmas: Of how many kinds of error the field predicts the size.
        """
        super().__init__()
        self.entry = nn.Linear(num_features + 3, hidden)
        self.trunk = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))
        self.basis = nn.Linear(hidden, 3 * codes.shape[1])
        nn.init.zeros_(self.basis.weight)
        self.log_sigma = (
            nn.Linear(hidden, num_log_sigmas * min(LOG_SIGMA_CODES, codes.shape[1])) if num_log_sigmas else None
        )
        for parameter in () if self.log_sigma is None else self.log_sigma.parameters():
            nn.init.zeros_(parameter)
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
        return self._met(self.basis, self.hidden(features, points), vertices)

    def with_log_sigma(
        self,
        features: Float[Tensor, "B N C"],
        points: Float[Tensor, "B N 3"],
        vertices: Int[Tensor, " N"] | Int[Tensor, "B N"] | None = None,
    ) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N D"]]:
        """Predict steps as ``forward`` does, and the logarithm of their error (aleatoric uncertainty).

        Returns:
            Steps, and the logarithm of what each kind of their error stays under in 68 % of such cases, unit frame.

        Raises:
            ValueError: the field predicts no log-sigma.
        """
        if self.log_sigma is None:
            raise ValueError("expected a field that predicts log-sigma, got one that does not")
        h = self.hidden(features, points)
        return self._met(self.basis, h, vertices), INITIAL_LOG_SIGMA + self._met(self.log_sigma, h, vertices)

    def all_heads(self, features: Float[Tensor, "B N C"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N V 3"]:
        """Evaluate every head at every point, as the reference code does; for tests and for measuring what it costs."""
        per_code = self._per_code(self.basis, self.hidden(features, points))
        return torch.einsum("bnar,vr->bnva", per_code, self.codes)

    def _met(self, head: nn.Linear, hidden: Float[Tensor, "B N H"], vertices: Tensor | None) -> Float[Tensor, "B N _"]:
        """Let each point meet its own vertex's code."""
        codes = self.codes if vertices is None else nn.functional.embedding(vertices, self.codes)
        per_code = self._per_code(head, hidden)
        return (per_code * codes[..., None, : per_code.shape[-1]]).sum(-1)

    def _per_code(self, head: nn.Linear, hidden: Float[Tensor, "B N H"]) -> Float[Tensor, "B N _A _R"]:
        num_codes = self.codes.shape[1] if head is self.basis else min(LOG_SIGMA_CODES, self.codes.shape[1])
        return head(hidden).unflatten(-1, (-1, num_codes)).float() * OUTPUT_SCALE
