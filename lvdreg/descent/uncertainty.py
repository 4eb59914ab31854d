"""How sure the network is of every vertex.

On scans (LVD paper, equation 3) vertices at rest are perturbed and take one step each; the spread of those
one-step predictions is the uncertainty. Letting them converge fully would collapse the spread to nothing (design.md).
The predictions of all views of the scan are pooled.

A photo leaves much open, depth above all, that descents from everywhere agree on all the same: there the spread says
little, and the field predicts the size of its own error (log-sigma, aleatoric; ``VertexField.with_log_sigma``).

Tables that were measured on synthetic scans and photos turn either into millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lvdreg.descent.descend import steps_at
from lvdreg.descent.scan import Views
from lvdreg.field import VertexField


@dataclass(frozen=True)
class UncertaintyConfig:
    """Sigma from the spread of one step.

    Chosen by hand, not tuned. The tables that ship with the weights were measured with these very numbers and four
    views (scripts/ship_weights.py): whoever changes them measures the tables anew.
    """

    num_samples: int = 2
    perturbation: float = 0.05
    smoothing_rounds: int = 10


CALIBRATED_PREDICTIONS = 8
"""From so many predictions of each vertex (four views, two samples) comes the spread that the shipped tables turn into
millimetres."""


EXPECTED_MM, SIGMA_MM, RESIDUAL_MM = 80.0, 85.0, 17.5
EXPONENT = 0.7
"""What sigma becomes where median sigma and residual are as usual, and with which power of both it grows. Chosen on 18
synthetic photos (seed 10: 67 % of errors within one sigma) and checked on 18 others (seed 11: 68 %); see LOG.md."""
FACTORS = (0.5, 2.0)
FACTOR_KNOTS = 4
"""So many that tell by the keypoints how wrong a regressor is in a photo: it is measured on a few dozen."""


@torch.no_grad()
def one_step_spread(
    field: VertexField, views: Views, faces: Int[Tensor, "F 3"], config: UncertaintyConfig, seed: int
) -> tuple[Float[Tensor, "V 3"], Float[Tensor, " V"]]:
    """Perturb the vertices at rest, and let each take one step in every view.

    Args:
        field: The vertex field.
        views: Views of one scan.
        faces: Triangles of the body.
        config: Number and size of perturbations.
        seed: Seed of the perturbations.

    Returns:
        The median one-step prediction of every vertex, and equation 3: the standard deviation of ``x_j + step(x_j)``
        over perturbations and views, smoothed over the surface. Both in the unit frame. Few predictions spread less
        than many about their own mean: that is made good, so that the calibration holds for any number of views.
    """
    rotations, vertices = views.Rs_view_unit, views.vertices
    generator = torch.Generator().manual_seed(seed)
    predicted = []
    for _ in range(config.num_samples):
        noise = torch.randn(len(rotations), *vertices.shape, generator=generator).to(vertices)
        x = (vertices + config.perturbation * noise) @ rotations.mT
        predicted.append((x + steps_at(field, views.features, x)) @ rotations)
    points = torch.cat(predicted)
    count, usual = len(points), CALIBRATED_PREDICTIONS
    unbiased = (count * (usual - 1)) / max((count - 1) * usual, 1)
    spread = (unbiased * points.var(0, correction=0)).sum(-1).sqrt()
    return points.quantile(0.5, dim=0).to(views.vertices), smoothed(spread, faces, config.smoothing_rounds)


@torch.no_grad()
def one_step_with_sigma(
    field: VertexField, views: Views, faces: Int[Tensor, "F 3"], rounds: int
) -> tuple[Float[Tensor, "V 3"], Float[Tensor, " V"], Float[Tensor, " V"]]:
    """Let the vertices take one more step in the only view of a photo, and take the log-sigma that the field predicts.

    Args:
        field: A field that predicts log-sigma.
        views: The view.
        faces: Triangles of the body.
        rounds: Of smoothing; see ``smoothed``.

    Returns:
        Where vertices are, and the errors that are expected of the whole and along z, the line of sight; unit frame.
    """
    x = views.vertices[None]
    steps, log_sigma = field.with_log_sigma(views.features(x), x)
    whole, depth = (smoothed(d, faces, rounds) for d in log_sigma[0].exp().unbind(-1))
    return (x + steps)[0], whole, depth


def sigma_factor(sigma_median_mm: float, residual_mm: float) -> float:
    """Return by what the sigma of a photo's vertices is to be multiplied once a body was fitted to them.

    Vertices that lie far from any body are more wrong than each of them knows: both say alike much of the error.

    Args:
        sigma_median_mm: Their median sigma.
        residual_mm: How far they lie from the body that was fitted to them.
    """
    expected_mm = EXPECTED_MM * (sigma_median_mm / SIGMA_MM * residual_mm / RESIDUAL_MM) ** EXPONENT
    return float(np.clip(expected_mm / max(sigma_median_mm, 1e-9), *FACTORS))


def smoothed(spread: Float[Tensor, " V"], faces: Int[Tensor, "F 3"], rounds: int) -> Float[Tensor, " V"]:
    """Average the variance over neighbours: a few perturbations estimate it badly at one vertex, well over a patch.

    Args:
        spread: Standard deviation per vertex.
        faces: Triangles that say who neighbours whom.
        rounds: How often each vertex takes the mean of itself and its neighbours' mean; the patch grows with its root.

    Returns:
        Standard deviation per vertex.
    """
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).to(spread.device)
    ends = torch.cat([sides, sides.flip(1)])
    count = torch.zeros_like(spread).index_add_(0, ends[:, 0], torch.ones_like(spread)[:1].expand(len(ends)))
    variance = spread**2
    for _ in range(rounds):
        around = torch.zeros_like(variance).index_add_(0, ends[:, 0], variance[ends[:, 1]])
        variance = 0.5 * variance + 0.5 * around / count.clamp_min(1)
    return variance.sqrt()


@dataclass(frozen=True)
class Calibration:
    """A monotone table from the spread, or a predicted sigma, to the error it stands for, both in parts of the body's
    box.

    Attributes:
        spread: Knots, unit frame, increasing.
        sigma: Error, unit frame, under which 68 % of the vertices with that spread lie.
    """

    spread: Float64[np.ndarray, " N"]
    sigma: Float64[np.ndarray, " N"]

    def __call__(self, spread: Float[Tensor, " V"]) -> Float[Tensor, " V"]:
        """Interpolate in the logarithms; outside of the table its ends hold."""
        log = np.interp(np.log(spread.cpu().numpy() + 1e-9), np.log(self.spread), np.log(self.sigma))
        return torch.from_numpy(np.exp(log)).to(spread)

    @classmethod
    def fit(
        cls,
        spread: Float64[np.ndarray, " P"],
        error: Float64[np.ndarray, " P"],
        num_knots: int = 12,
        share: float = 0.68,
    ) -> "Calibration":
        """Measure the table: the ``share`` quantile of the error in equally filled bins of the spread, made
        monotone."""
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
        """Rebuild from ``to_dict``.

        Raises:
            KeyError, TypeError, ValueError: it is no table.
        """
        spread, sigma = (np.array(values[name], dtype=np.float64) for name in ("spread", "sigma"))
        is_table = spread.ndim == 1 and spread.shape == sigma.shape and len(spread) > 0
        if not is_table or not np.isfinite([spread, sigma]).all() or min(spread.min(), sigma.min()) <= 0:
            raise ValueError("spread and sigma are no two rows of positive numbers")
        return cls(spread, sigma)


@dataclass(frozen=True)
class JointErrors:
    """How wrong a regressor of parameters usually is, by the joint that vertices move with: it does not say itself.

    Attributes:
        whole: Error, unit frame, under which 68 % of the vertices lie that move with a joint, in the usual photo.
        depth: Its part along the line of sight.
        by_missed: From the mean distance to the keypoints, unit frame, to how many times as wrong it is in that photo.
    """

    whole: Float64[np.ndarray, " J"]
    depth: Float64[np.ndarray, " J"]
    by_missed: Calibration | None = None

    def at(
        self, weights: Float[Tensor, "V J"], missed: float | None = None
    ) -> tuple[Float[Tensor, " V"], Float[Tensor, " V"]]:
        """Return both errors of vertices that move with joints by these weights.

        Args:
            weights: (V, J).
            missed: Mean distance to the keypoints, unit frame, where there are any.
        """
        factor = 1.0
        if missed is not None and self.by_missed is not None:
            factor = float(self.by_missed(torch.tensor([missed], dtype=torch.float64))[0])
        whole, depth = (factor * (weights @ torch.from_numpy(each).to(weights)) for each in (self.whole, self.depth))
        return whole, depth

    @classmethod
    def fit(
        cls,
        whole: Float64[np.ndarray, "N V"],
        depth: Float64[np.ndarray, "N V"],
        weights: Float64[np.ndarray, "V J"],
        missed: Float64[np.ndarray, " N"],
        share: float = 0.68,
    ) -> "JointErrors":
        """Measure them: the ``share`` quantile over N photos of every vertex's error, averaged by joint, after errors
        were made those of a usual photo; joints that move no vertex have the mean of all."""
        each = whole.mean(1)
        by_missed = Calibration.fit(missed, each / np.median(each), FACTOR_KNOTS, 0.5)
        factors = by_missed(torch.from_numpy(missed)).numpy()[:, None]
        total = weights.sum(0)
        quantiles = (np.quantile(part / factors, share, axis=0) for part in (whole, depth))
        own, along = (np.where(total > 0, q @ weights / np.maximum(total, 1e-9), q.mean()) for q in quantiles)
        return cls(own, along, by_missed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        more = {} if self.by_missed is None else {"by_missed": self.by_missed.to_dict()}
        return {"whole": self.whole.tolist(), "depth": self.depth.tolist(), **more}

    @classmethod
    def from_dict(cls, values: dict[str, Any], num_joints: int) -> "JointErrors":
        """Rebuild from ``to_dict``.

        Raises:
            KeyError, TypeError, ValueError: these are no errors of so many joints.
        """
        whole, depth = (np.array(values[name], dtype=np.float64) for name in ("whole", "depth"))
        if not whole.shape == depth.shape == (num_joints,):
            raise ValueError(f"whole and depth are no two rows of {num_joints} numbers")
        if not np.isfinite([whole, depth]).all() or min(whole.min(), depth.min()) <= 0:
            raise ValueError("whole and depth are not positive")
        return cls(whole, depth, Calibration.from_dict(values["by_missed"]) if "by_missed" in values else None)
