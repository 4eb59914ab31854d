"""How sure the network is of every vertex (LVD paper, equation 3).

Vertices at rest are perturbed and take one step each; the spread of where they land is the uncertainty. Letting them converge
fully would collapse the spread to nothing (design.md). Landing points of all views of the scan are pooled. A table that was
measured on synthetic scans turns the spread into millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.config import UncertaintyConfig
from lvdreg.explain import Views
from lvdreg.field import VertexField


@torch.no_grad()
def land(
    field: VertexField, views: Views, config: UncertaintyConfig, seed: int
) -> tuple[Float[Tensor, "V 3"], Float[Tensor, " V"]]:
    """Perturb the vertices at rest, let each take one step in every view, and see where they land.

    Args:
        field: The vertex field.
        views: Views of one scan.
        config: Number and size of perturbations.
        seed: Seed of the perturbations.

    Returns:
        The median landing point of every vertex, and equation 3: the standard deviation of ``x_j + step(x_j)`` over
        perturbations and views. Both in the unit frame.
    """
    rotations, vertices = views.Rs_view_unit, views.vertices
    generator = torch.Generator().manual_seed(seed)
    landed = []
    for _ in range(config.num_samples):
        noise = torch.randn(len(rotations), *vertices.shape, generator=generator).to(vertices)
        x = (vertices + config.perturbation * noise) @ rotations.mT
        landed.append((x + field(views.features(x), x)) @ rotations)
    points = torch.cat(landed)
    middle = (points.quantile(0.5, dim=0)).to(vertices)
    return middle, points.var(0, correction=0).sum(-1).sqrt()


@dataclass(frozen=True)
class Calibration:
    """A monotone table from the spread to the error it stands for, both in parts of the body's box.

    Attributes:
        spread: Knots, unit frame, increasing.
        sigma: Error, unit frame, under which 68 % of the vertices with that spread lie.
    """

    spread: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def __call__(self, spread: Float[Tensor, " V"]) -> Float[Tensor, " V"]:
        """Interpolate in the logarithms; outside of the table its ends hold."""
        log = np.interp(np.log(spread.cpu().numpy() + 1e-9), np.log(self.spread), np.log(self.sigma))
        return torch.from_numpy(np.exp(log)).to(spread)

    @classmethod
    def fit(cls, spread: NDArray[np.float64], error: NDArray[np.float64], num_knots: int = 12, share: float = 0.68) -> "Calibration":
        """Measure the table: the ``share`` quantile of the error in equally filled bins of the spread, made monotone."""
        edges = np.quantile(spread, np.linspace(0, 1, num_knots + 1))
        bins = np.clip(np.searchsorted(edges, spread, side="right") - 1, 0, num_knots - 1)
        knots = [float(np.exp(np.log(spread[bins == b] + 1e-9).mean())) for b in range(num_knots)]
        sigma = [float(np.quantile(error[bins == b], share)) for b in range(num_knots)]
        return cls(np.array(knots), np.maximum.accumulate(np.array(sigma)))

    def to_dict(self) -> dict[str, Sequence[float]]:
        """Return plain JSON values."""
        return {"spread": self.spread.tolist(), "sigma": self.sigma.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Calibration":
        """Rebuild from ``to_dict``."""
        return cls(np.array(values["spread"], dtype=np.float64), np.array(values["sigma"], dtype=np.float64))
