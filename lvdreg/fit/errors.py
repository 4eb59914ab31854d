"""How wrong a refined body is likely to be, vertex by vertex: sigma of what is delivered, across and along the surface.

The network's sigma tells how wrong its own vertices are. Refinement mends most of that across the surface and little
along it. What is known at the end, the posterior of the refinement (the inverse of its normal equations) above all,
predicts what is left. By which power of each, is learnt from synthetic scans, whose true bodies are known: a linear
regression of the logarithm of the error, on its 68 % quantile (Koenker and Bassett 1978) as one sigma is meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float64

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import CheckpointError
from lvdreg.base.files import read_json
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyData, BodyModel
from lvdreg.fit.correspond import Target, posed_surface, scan_gaps
from lvdreg.fit.kinematics import Kinematics, PosedPoints
from lvdreg.fit.vertices import Fit

SHIPPED = "priors/errors-{}.json"
PREDICTORS = ("sigma_network", "sigma_posterior", "moved", "gap", "residual")
PARTS = ("whole", "across", "along")
SHARE = 0.68
"""One sigma is what this share of errors stays under."""
FLOOR = 1e-4
"""Metres: lengths are added to it before logarithms are taken; nothing is known better."""
ROUNDS, SMALLEST = 60, 0.02
"""Of reweighting, and the least residual, as a logarithm, whose weight still grows."""
RIDGE = 1e-3
"""Holds what the samples say nothing of, as a share of their number."""


@dataclass(frozen=True)
class ErrorEvidence:
    """What is known of a body at the end of its refinement; metres.

    Attributes:
        sigma_network: (V,) of the start's vertices.
        sigma_posterior: (V,) of the refined ones, as far as the cost is quadratic and its weights are true.
        moved: (V,) how far the refinement moved them.
        gap: (V,) from each to the nearest point of the scan.
        residual: Mean distance from the scan to the body.
    """

    sigma_network: Float64[np.ndarray, " V"]
    sigma_posterior: Float64[np.ndarray, " V"]
    moved: Float64[np.ndarray, " V"]
    gap: Float64[np.ndarray, " V"]
    residual: float

    def logs(self) -> Float64[np.ndarray, "V K"]:
        """Return the logarithms of all ``PREDICTORS``."""
        lengths = [np.broadcast_to(getattr(self, name), self.moved.shape) for name in PREDICTORS]
        return np.asarray(np.log(np.stack(lengths, 1) + FLOOR))


@dataclass(frozen=True)
class VertexErrors:
    """Lengths by vertex, metres: the whole error, its part across the surface, and that along it."""

    whole: Float64[np.ndarray, " V"]
    across: Float64[np.ndarray, " V"]
    along: Float64[np.ndarray, " V"]

    @classmethod
    def alike(cls, whole: Float64[np.ndarray, " V"]) -> "VertexErrors":
        """Return errors that are as large in all directions."""
        return cls(whole, whole / np.sqrt(3), whole * np.sqrt(2 / 3))

    def displaced(self, target: Target, vertices: Float64[np.ndarray, "V 3"], noise: float) -> "VertexErrors":
        """Return those of the surface that was displaced onto the scan: it lies there, and has slipped as before.

        Args:
            target: The scan.
            vertices: (V, 3) of the surface.
            noise: One sigma, metres, across it where the scan shows it.
        """
        across = np.minimum(self.across, np.hypot(noise, scan_gaps(target, vertices)))
        return VertexErrors(np.hypot(across, self.along), across, self.along)


def evidence_of(
    body: BodyModel, fit: Fit, refined: Fit, target: Target, sigma: Float64[np.ndarray, " V"]
) -> ErrorEvidence | None:
    """Collect what is known of a refined body; None where it was not refined.

    Args:
        body: The model of both.
        fit: Where refinement began.
        refined: Where it ended, without displacements.
        target: The scan that it was refined to.
        sigma: (V,) of the start's vertices, metres.
    """
    if refined.sigma_posterior is None:
        return None
    before, after = (posed_surface(body, each.params).vertices for each in (fit, refined))
    if refined.seen is not None:
        # What was looked at closely meanwhile began there.
        before[refined.seen.index] = refined.seen.points
    moved = np.linalg.norm(after - before, axis=1)
    residual = refined.residual_mm / 1000
    return ErrorEvidence(sigma, refined.sigma_posterior, moved, scan_gaps(target, after), residual)


def posterior_sigma(
    kernel: Kinematics, posed: PosedPoints, information: Float64[np.ndarray, "P P"]
) -> Float64[np.ndarray, " V"]:
    """Return how far vertices spread (V,) where parameters are drawn from a Gaussian about those of a posed body.

    Args:
        kernel: The body.
        posed: As it is posed.
        information: Of pose, betas and place; the inverse of their covariance.
    """
    from scipy.linalg import solve_triangular

    # Nothing holds what neither scan nor prior sees: it is far off, not nowhere.
    held = information + np.diag(np.full(len(information), 1e-9 * float(np.diag(information).max())))
    rows = kernel.jacobian(posed).reshape(-1, kernel.num_params)
    spread = solve_triangular(np.linalg.cholesky(held), rows.T, lower=True, check_finite=False, overwrite_b=True)
    return np.asarray(np.sqrt(np.einsum("pn,pn->n", spread, spread).reshape(-1, 3).sum(1)))


@dataclass(frozen=True)
class ErrorModel:
    """From what is known to sigma: a product of powers, and a factor by the joint that vertices move with.

    Attributes:
        powers: (3, K) of the whole error and of its two parts, for each of ``PREDICTORS``.
        by_joint: By name the logarithms (3,) of these factors.
    """

    powers: Float64[np.ndarray, "3 K"]
    by_joint: Mapping[str, Float64[np.ndarray, " 3"]]

    def at(self, evidence: ErrorEvidence, data: BodyData) -> VertexErrors:
        """Return one sigma of every vertex of a body; joints that the model does not know have the mean factor.

        Args:
            evidence: What is known of it.
            data: Of the body.
        """
        usual = np.mean(list(self.by_joint.values()), axis=0)
        factors = np.stack([self.by_joint.get(name, usual) for name in data.joint_names])
        logs = evidence.logs() @ self.powers.T + np.asarray(data.weights, np.float64) @ factors
        whole, across, along = np.exp(logs).T
        return VertexErrors(whole, np.minimum(across, whole), np.minimum(along, whole))

    @classmethod
    def fit(cls, evidence: Sequence[ErrorEvidence], errors: Sequence[VertexErrors], data: BodyData) -> "ErrorModel":
        """Learn the powers and factors from bodies whose errors are known; the sides of a body are alike.

        Args:
            evidence: Of each body.
            errors: Of each body, as they are.
            data: Of all of them.
        """
        plain = [name.removeprefix("left_").removeprefix("right_") for name in data.joint_names]
        kinds = sorted(set(plain))
        merged = np.asarray(data.weights, np.float64) @ np.array([[own == kind for kind in kinds] for own in plain])
        rows = np.concatenate([np.hstack([each.logs(), merged]) for each in evidence])
        found = [
            _quantile_regression(rows, np.log(np.concatenate([getattr(each, part) for each in errors]) + FLOOR))
            for part in PARTS
        ]
        solved, num = np.stack(found), len(PREDICTORS)
        factors = dict(zip(kinds, solved[:, num:].T, strict=True))
        return cls(solved[:, :num], {name: factors[own] for name, own in zip(data.joint_names, plain, strict=True)})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "predictors": list(PREDICTORS),
            "powers": self.powers.round(4).tolist(),
            "by_joint": {name: factors.round(4).tolist() for name, factors in self.by_joint.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ErrorModel":
        """Rebuild from ``to_dict``.

        Raises:
            KeyError, TypeError, ValueError: it is no such model.
        """
        powers = np.array(values["powers"], np.float64)
        by_joint = {str(name): np.array(row, np.float64) for name, row in dict(values["by_joint"]).items()}
        if tuple(values["predictors"]) != PREDICTORS or powers.shape != (len(PARTS), len(PREDICTORS)):
            raise ValueError(f"expected powers of {', '.join(PREDICTORS)}")
        if not by_joint or any(row.shape != (len(PARTS),) for row in by_joint.values()):
            raise ValueError("expected three factors of each joint")
        if not np.isfinite(np.concatenate([powers.ravel(), *by_joint.values()])).all():
            raise ValueError("expected finite numbers")
        return cls(powers, by_joint)


@lru_cache(maxsize=4)
def shipped_errors(body: str) -> ErrorModel:
    """Return the model of a free body's or hand's errors that ships with lvdreg.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = assets_dir() / SHIPPED.format(body)
    try:
        return ErrorModel.from_dict(read_json(path))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a model of errors, got none; install lvdreg again") from error


def errors_file(body: str) -> FileHashes:
    """Return the SHA-256 of the file of ``shipped_errors``, by its name."""
    name = SHIPPED.format(body)
    return {name: sha256_of(assets_dir() / name)}


def _quantile_regression(rows: Float64[np.ndarray, "N U"], values: FloatArray) -> FloatArray:
    """Return the coefficients (U,) under whose sum ``SHARE`` of the values lie, by reweighted least squares; none of
    the predictors' is negative: more doubt never means less error."""
    num, used = len(PREDICTORS), np.ones(rows.shape[1], bool)
    while True:
        weight, chosen = np.ones(len(values)), rows[:, used]
        for _ in range(ROUNDS):
            weighted = chosen * weight[:, None]
            held = RIDGE * len(values) / 1000 * np.eye(chosen.shape[1])
            solved = np.linalg.solve(weighted.T @ chosen + held, weighted.T @ values)
            left = values - chosen @ solved
            weight = np.where(left > 0, SHARE, 1 - SHARE) / np.maximum(np.abs(left), SMALLEST)
        out = np.zeros(rows.shape[1])
        out[used] = solved
        if not (out[:num] < 0).any():
            return out
        used[:num] &= out[:num] >= 0
