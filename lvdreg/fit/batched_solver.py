"""Damped normal equations of many bodies at once, in torch on any device: fit/solver.py and fit/priors.py in batch.

The equations are theirs, which stay the oracles, in double precision. Each body has a damping of its own, and is tried
again alone where a step does not improve it, so that a batch takes the steps that each of its bodies would take.
Unknowns are ordered as in ``State.vector``: pose (3 J), betas (K), transl (3), and what else there is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.body.model import BodyParams
from lvdreg.fit.kinematics import State
from lvdreg.fit.priors import BETA_CAP_SIGMA, CHAIN_SIGMA, LIMIT_SIGMA, PosePrior
from lvdreg.fit.solver import MIN_DAMPING, MOST_DAMPING


@dataclass(frozen=True)
class Normals:
    """Quadratic models of costs: ``hessian`` (B, N, N), ``gradient`` (B, N), ``cost`` (B,)."""

    hessian: Float[Tensor, "B N N"]
    gradient: Float[Tensor, "B N"]
    cost: Float[Tensor, " B"]

    def __add__(self, other: "Normals") -> "Normals":
        return Normals(self.hessian + other.hessian, self.gradient + other.gradient, self.cost + other.cost)

    def of(self, index: Int[Tensor, " M"]) -> "Normals":
        """Return those of some bodies."""
        return Normals(self.hessian[index], self.gradient[index], self.cost[index])

    def padded(self, extra: int) -> "Normals":
        """Return the same with so many more unknowns, which they say nothing of."""
        pad = torch.nn.functional.pad
        return Normals(pad(self.hessian, (0, extra, 0, extra)), pad(self.gradient, (0, extra)), self.cost)


@dataclass(frozen=True)
class Rooms:
    """How far unknowns may move: each step lies between ``low`` and ``high`` (B, N)."""

    low: Float[Tensor, "B N"]
    high: Float[Tensor, "B N"]

    def of(self, index: Int[Tensor, " M"]) -> "Rooms":
        """Return those of some bodies."""
        return Rooms(self.low[index], self.high[index])


def gauss_newton_batch(
    rows: Float[Tensor, "B R N"],
    residual: Float[Tensor, "B R"],
    weights: Float[Tensor, "B R"],
    cost: Float[Tensor, " B"] | None = None,
) -> Normals:
    """Build the normal equations of ``0.5 * sum weights * residual^2``; see ``solver.gauss_newton``."""
    root = weights.sqrt()
    scaled = rows * root[..., None]
    value = 0.5 * (weights * residual.square()).sum(1) if cost is None else cost
    return Normals(scaled.mT @ scaled, (scaled.mT @ (root * residual)[..., None])[..., 0], value)


def bounded_minima(
    hessian: Float[Tensor, "B N N"], gradient: Float[Tensor, "B N"], rooms: Rooms
) -> Float[Tensor, "B N"]:
    """Return steps (B, N) to where quadratics are least within their rooms; see ``solver.bounded_minimum``."""
    is_free = torch.ones_like(gradient, dtype=torch.bool)
    step, clipped = gradient, torch.zeros_like(gradient)
    while True:
        # What stopped at its bound is no unknown any more: its row and column are those of the identity.
        pull = gradient + (hessian @ clipped[..., None])[..., 0]
        held = torch.where(is_free[:, :, None] & is_free[:, None], hessian, torch.eye(gradient.shape[1]).to(hessian))
        right = torch.where(is_free, -pull, 0.0)
        step = torch.cholesky_solve(right[..., None], torch.linalg.cholesky(held))[..., 0] + clipped
        leaving = is_free & ((step < rooms.low) | (step > rooms.high))
        if not leaving.any():
            return step
        clipped = torch.where(leaving, step.clamp(rooms.low, rooms.high), clipped)
        is_free = is_free & ~leaving


def damped_steps(normals: Normals, damping: Float[Tensor, " B"], rooms: Rooms) -> Float[Tensor, "B N"]:
    """Solve ``(H + damping * diag H) step = -g``; see ``solver.damped_step``."""
    held = normals.hessian.clone()
    diagonal = held.diagonal(dim1=1, dim2=2)
    floor = 1e-9 * diagonal.amax(1, keepdim=True).clamp_min(1e-12)
    diagonal += damping[:, None] * diagonal + floor
    return bounded_minima(held, normals.gradient, rooms)


def improving_steps(
    here: Normals,
    damping: Float[Tensor, " B"],
    cost_after: Callable[[Float[Tensor, "M N"], Int[Tensor, " M"]], Float[Tensor, " M"]],
    rooms: Rooms,
    least: float = MIN_DAMPING,
) -> tuple[Float[Tensor, "B N"], Bool[Tensor, " B"], Float[Tensor, " B"]]:
    """Find steps that lower the costs; see ``solver.improving_step``.

    Args:
        here: The quadratic models, and the costs themselves.
        damping: What to begin with.
        cost_after: Returns the costs after steps of some bodies.
        rooms: What steps may not leave.
        least: The next damping is no smaller.

    Returns:
        Steps, 0 where none improves; where one does; and the damping to begin the next one with.
    """
    steps, found, damping = (
        torch.zeros_like(here.gradient),
        torch.zeros_like(damping, dtype=torch.bool),
        damping.clone(),
    )
    trying = torch.arange(len(damping), device=damping.device)
    while len(trying := trying[damping[trying] < MOST_DAMPING]):
        step = damped_steps(here.of(trying), damping[trying], rooms.of(trying))
        is_better = cost_after(step, trying) < here.cost[trying]
        steps[trying[is_better]], found[trying] = step[is_better], is_better
        factors = torch.where(is_better, (0.2 * damping[trying]).clamp_min(least), 8 * damping[trying])
        damping[trying] = factors
        trying = trying[~is_better]
    return steps, found, damping


def moved(params: BodyParams, step: Float[Tensor, "B N"]) -> BodyParams:
    """Return parameters (B, ...) after steps whose first 3 J + K + 3 numbers are theirs."""
    num_pose, num_betas = params.pose[0].numel(), params.betas.shape[1]
    turn, betas, transl, _ = step.split([num_pose, num_betas, 3, step.shape[1] - num_pose - num_betas - 3], 1)
    return BodyParams(params.betas + betas, params.pose + turn.unflatten(1, (-1, 3)), params.transl + transl)


def wrapped(params: BodyParams) -> BodyParams:
    """Return the same rotations with every angle at most pi."""
    angle = params.pose.norm(dim=-1, keepdim=True)
    turns = (angle / (2 * np.pi)).round()
    return BodyParams(
        params.betas, params.pose * torch.where(turns > 0, 1 - 2 * np.pi * turns / angle, 1.0), params.transl
    )


def some(params: BodyParams, index: Int[Tensor, " M"]) -> BodyParams:
    """Return the parameters of some bodies."""
    return BodyParams(params.betas[index], params.pose[index], params.transl[index])


def states(params: BodyParams) -> list[State]:
    """Return each body's parameters (B, ...) as those of one."""
    parts = zip(params.betas, params.pose, params.transl, strict=True)
    return [State.from_params(BodyParams(*own)) for own in parts]


def robust(squared: Float[Tensor, "*N"]) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    """Return cost and weight of the Geman-McClure kernel; see ``solver.geman_mcclure``."""
    return 0.5 * squared / (1 + squared), 1 / (1 + squared) ** 2


def weighted_medians(values: Float[Tensor, "B M"], weights: Float[Tensor, "B M"]) -> Float[Tensor, " B"]:
    """Return the smallest of the values (B, M) at and below which lies half of the weight."""
    ordered, order = values.sort(1)
    below = weights.gather(1, order).cumsum(1)
    at = torch.searchsorted(below, 0.5 * below[:, -1:]).clamp_max(values.shape[1] - 1)
    return ordered.gather(1, at)[:, 0]


class BatchedPrior:
    """``priors.PosePrior`` in batch: joint limits, easy poses, chains, and shapes of people.

    Args:
        prior: The prior; what else is known of one person is none of it.
        like: Has the device and the floating type.
    """

    def __init__(self, prior: PosePrior, like: Tensor) -> None:
        weight = prior.config.pose_weight
        pull = np.where(np.isinf(prior.sigma), 0.0, weight / prior.sigma**2)
        arrays = (prior.axes, prior.low, prior.high, pull, prior.beta_caps, prior.beta_limits)
        self.axes, self.low, self.high, self.pull, self.caps, self.limits = (
            torch.as_tensor(a).to(like) for a in arrays
        )
        self.shape_weight = prior.config.shape_weight
        num = prior.axes.shape[0]
        chained = np.zeros((num, num))
        for i, j in prior.chains:
            chained[[i, j], [i, j]] += weight / CHAIN_SIGMA**2
            chained[[i, j], [j, i]] -= weight / CHAIN_SIGMA**2
        self.chained = torch.as_tensor(chained).to(like)

    def rooms(self, params: BodyParams, extra: int = 0) -> Rooms:
        """Return how far steps may go: only the shape is bounded; see ``PosePrior.room``."""
        count, num_pose, num_betas = len(params.betas), params.pose[0].numel(), params.betas.shape[1]
        low = params.betas.new_full((count, num_pose + num_betas + 3 + extra), -torch.inf)
        high = -low
        low[:, num_pose : num_pose + num_betas] = -self.limits - params.betas
        high[:, num_pose : num_pose + num_betas] = self.limits - params.betas
        return Rooms(low, high)

    def equations(self, params: BodyParams) -> Normals:
        """Return the normal equations of the prior; see ``PosePrior.equations``."""
        pose, betas = params.pose, params.betas
        count, num, num_betas = len(pose), pose.shape[1], betas.shape[1]
        size = 3 * num + num_betas + 3
        hessian, gradient = pose.new_zeros(count, size, size), pose.new_zeros(count, size)
        angles = torch.einsum("jab,njb->nja", self.axes, pose)
        over = (angles - self.high).clamp_min(0) + (angles - self.low).clamp_max(0)
        limit = (over != 0) / LIMIT_SIGMA**2
        blocks = torch.einsum("nja,jab,jac->njbc", self.pull + limit, self.axes, self.axes)
        slopes = torch.einsum("jab,nja->njb", self.axes, self.pull * angles + limit * over)
        cost = 0.5 * (self.pull * angles.square() + limit * over.square()).sum((1, 2))
        tied = torch.einsum("ij,njb->nib", self.chained, pose)
        cost = cost + 0.5 * (tied * pose).sum((1, 2))
        of_joints = hessian[:, : 3 * num, : 3 * num].unflatten(2, (-1, 3)).unflatten(1, (-1, 3))
        of_joints.diagonal(dim1=2, dim2=4).copy_(self.chained[None, :, :, None].expand(count, -1, -1, 3))
        of_joints.diagonal(dim1=1, dim2=3).add_(blocks.permute(0, 2, 3, 1))
        gradient[:, : 3 * num] = (slopes + tied).flatten(1)
        beyond = betas - betas.clamp(-self.caps, self.caps)
        capped = (beyond != 0) / BETA_CAP_SIGMA**2
        hessian.diagonal(dim1=1, dim2=2)[:, 3 * num : -3] += self.shape_weight + capped
        gradient[:, 3 * num : -3] += self.shape_weight * betas + capped * beyond
        cost = cost + 0.5 * (self.shape_weight * betas.square() + capped * beyond.square()).sum(1)
        return Normals(hessian, gradient, cost)
