"""Second-order fitting: normal equations, steps that are damped and bounded, a robust kernel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lvdreg.base.shapes import FloatArray


@dataclass(frozen=True)
class Normal:
    """A quadratic model of a cost around the current state: ``hessian`` (P, P), ``gradient`` (P,), ``cost``."""

    hessian: Float64[np.ndarray, "N N"]
    gradient: Float64[np.ndarray, " N"]
    cost: float

    def __add__(self, other: "Normal") -> "Normal":
        return Normal(self.hessian + other.hessian, self.gradient + other.gradient, self.cost + other.cost)


def gauss_newton(
    jacobian: Float64[np.ndarray, "N P"],
    residual: Float64[np.ndarray, " N"],
    weights: Float64[np.ndarray, " N"],
    cost: float | None = None,
) -> Normal:
    """Build the normal equations of ``0.5 * sum weights * residual^2``.

    Args:
        jacobian: (N, P).
        residual: (N,).
        weights: (N,), not negative.
        cost: What to report instead of that sum, when the weights stand for a robust cost.
    """
    root = np.sqrt(weights)
    rows = jacobian * root[:, None]
    value = 0.5 * float(weights @ residual**2) if cost is None else cost
    return Normal(rows.T @ rows, rows.T @ (root * residual), value)


@dataclass(frozen=True)
class Room:
    """How far unknowns may move: each step lies between ``low`` and ``high`` (P,); infinite where nothing bounds it."""

    low: Float64[np.ndarray, " N"]
    high: Float64[np.ndarray, " N"]


def damped_step(normal: Normal, damping: float, room: Room | None = None) -> Float64[np.ndarray, " N"]:
    """Solve ``(H + damping * diag H) step = -g`` (Marquardt 1963); unknowns that nothing holds stay where they are.

    Args:
        normal: The quadratic model of the cost.
        damping: The more, the shorter and the safer the step.
        room: What the step may not leave.
    """
    diagonal = np.diag(normal.hessian)
    # The tiny absolute floor holds directions that neither data nor priors see.
    held = normal.hessian + np.diag(damping * diagonal + 1e-9 * max(float(diagonal.max()), 1e-12))
    return bounded_minimum(held, normal.gradient, room)


def bounded_minimum(
    hessian: Float64[np.ndarray, "N N"], gradient: Float64[np.ndarray, " N"], room: Room | None
) -> Float64[np.ndarray, " N"]:
    """Return the step (N,) to where a quadratic is least within its room.

    Unknowns that would leave stop at their bound, and the others are solved for again until none does. What stopped is
    not let go again: near bounds the step is good, not always the best; a diagonal ``hessian`` makes it the best.

    Args:
        hessian: (N, N), positive definite.
        gradient: (N,).
        room: What the step may not leave; None: there are no bounds.
    """
    from scipy.linalg import cho_factor, cho_solve

    step = cho_solve(cho_factor(hessian), -gradient)
    if room is None:
        return step
    is_free = np.ones(len(step), bool)
    while (leaving := is_free & ((step < room.low) | (step > room.high))).any():
        step[leaving] = np.clip(step[leaving], room.low[leaving], room.high[leaving])
        is_free &= ~leaving
        if not is_free.any():
            break
        pull = gradient[is_free] + hessian[np.ix_(is_free, ~is_free)] @ step[~is_free]
        step[is_free] = cho_solve(cho_factor(hessian[np.ix_(is_free, is_free)]), -pull)
    return step


FIRST_DAMPING, MIN_DAMPING, MOST_DAMPING = 1e-3, 1e-9, 1e6


def improving_step(
    normal: Normal,
    damping: float,
    cost_after: Callable[[FloatArray], float],
    least: float = MIN_DAMPING,
    room: Room | None = None,
) -> tuple[FloatArray | None, float]:
    """Find a step that lowers the cost (Levenberg-Marquardt): the more damped, the shorter and the safer it is.

    Args:
        normal: The quadratic model of the cost, and the cost itself.
        damping: What to begin with: ``FIRST_DAMPING``, or what the step before returned.
        cost_after: Returns the cost after a step.
        least: The next damping is no smaller.
        room: What the step may not leave.

    Returns:
        The step, None where none improves; and the damping to begin the next one with.
    """
    while damping < MOST_DAMPING:
        step = damped_step(normal, damping, room)
        if cost_after(step) < normal.cost:
            return step, max(0.2 * damping, least)
        damping *= 8
    return None, damping


def geman_mcclure(squared: Float64[np.ndarray, "*N"]) -> tuple[Float64[np.ndarray, "*N"], Float64[np.ndarray, "*N"]]:
    """Return cost and weight of the Geman-McClure kernel, ``0.5 s / (1 + s)`` and ``1 / (1 + s)^2``.

    Args:
        squared: Squared residuals over the squared scale of the kernel.
    """
    return 0.5 * squared / (1 + squared), 1 / (1 + squared) ** 2
