"""Predicted vertices of many scans to bodies at once, in torch on any device: ``vertices.fit_body`` in batch.

The steps are those of fit/vertices.py, which stays the oracle: the similarity that places the template, turns and
shape in closed form, then Levenberg and Marquardt's steps under a robust kernel. Warnings are left to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.batched import BatchedKinematics, PosedBatch
from lvdreg.fit.batched_solver import (
    BatchedPrior,
    Normals,
    Rooms,
    bounded_minima,
    damped_steps,
    gauss_newton_batch,
    improving_steps,
    moved,
    robust,
    some,
    states,
    weighted_medians,
    wrapped,
)
from lvdreg.fit.kinematics import Kinematics
from lvdreg.fit.priors import pose_prior
from lvdreg.fit.solver import FIRST_DAMPING
from lvdreg.fit.vertices import (
    INDEPENDENT_SHARE,
    KERNEL_SIGMAS,
    NOISE_STATED,
    Fit,
    FitConfig,
    representatives,
)
from lvdreg.geometry.frames import rotmat_to_rotvec


@dataclass(frozen=True)
class _Data:
    """Targets (B, S, 3) in the frame of the template, their one-sigma (B, S), and weights (S,) of mean one."""

    targets: Float[Tensor, "B S 3"]
    sigma: Float[Tensor, "B S"]
    weights: Float[Tensor, " S"]

    def of(self, index: Int[Tensor, " M"]) -> "_Data":
        """Return those of some bodies."""
        return _Data(self.targets[index], self.sigma[index], self.weights)

    def medians(self, values: Float[Tensor, "B S"]) -> Float[Tensor, " B"]:
        """Return the medians of values of the vertices by their weights."""
        return weighted_medians(values, self.weights.expand_as(values))


@torch.no_grad()
def fit_bodies(
    body: BodyModel,
    vertices: Float[Tensor, "B V 3"],
    sigma: Float[Tensor, "B V"],
    config: FitConfig,
    free_scale: bool = False,
) -> list[Fit]:
    """Fit pose and shape to the vertices of many bodies; see ``fit_body``.

    Args:
        body: Model to fit, on the device on which to compute.
        vertices: (B, V, 3) where each vertex should be, metres (any unit where ``free_scale``).
        sigma: (B, V) one-sigma of each, same unit.
        config: Settings.
        free_scale: Let the size float.

    Returns:
        What ``fit_body`` returns, on the CPU, without warnings.
    """
    prior_of_one = pose_prior(body.data, config.prior)
    index, weights = representatives(body.data, config.vertices_per_part)
    kinematics, like = Kinematics(body.data, index), body.v_template.double()
    points, prior = BatchedKinematics(body, kinematics, like), BatchedPrior(prior_of_one, like)
    there = vertices[:, torch.as_tensor(index, device=vertices.device)].to(like)
    spread = sigma[:, torch.as_tensor(index, device=sigma.device)].to(like)
    weight = torch.as_tensor(weights).to(like)
    size, turn, middle = _place_template(points, there, weight / spread**2, free_scale)
    spread = spread / size[:, None]
    spread = (spread * (1 + (spread / config.guess) ** 4)).clamp_min(config.sigma_floor)
    data = _Data((there - middle[:, None]) @ turn / size[:, None, None], spread, weight)
    # Softness by which joints follow their parents where they have no vertices to speak of.
    softness = np.where(np.isinf(prior_of_one.sigma), 10.0, prior_of_one.sigma).max(1)
    start = _closed_form(points, prior, data, config, torch.as_tensor(softness).to(like))
    polisher = _Polisher(points, prior, data, config, free_scale)
    params, log_scale, converged = polisher.polished(wrapped(start))
    distance = log_scale.exp()[:, None] * polisher.errors(params, log_scale, data).norm(dim=-1)
    residual = 1000 * (distance * weight).sum(1) / weight.sum()
    fits = []
    for i, state in enumerate(states(params)):
        own, R, t = float(size[i]), turn[i].cpu().numpy(), middle[i].cpu().numpy()
        scale = float(log_scale[i].exp()) / own
        # In metres of the parameters, of which ``own`` is one of the template in the targets' unit.
        found = kinematics.moved(state, R, scale * t)
        fits.append(Fit(found.to_params(torch.zeros(0)), scale, float(residual[i]), bool(converged[i])))
    return fits


def nearest_rotations(moments: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """Return the proper rotations that maximise trace(R^T M) (Kabsch 1976)."""
    u, _, vt = torch.linalg.svd(moments)
    sign = torch.linalg.det(u @ vt).sign()
    u = torch.cat([u[..., :2], u[..., 2:] * torch.where(sign == 0, 1.0, sign)[..., None, None]], -1)
    return u @ vt


def _moments(
    points: BatchedKinematics,
    rest: Float[Tensor, "B S 3"],
    there: Float[Tensor, "B S 3"],
    weights: Float[Tensor, "B S"],
) -> Float[Tensor, "B J 3 3"]:
    """Return the moments of targets over vertices at rest of each joint's part; see ``vertices._part_moments``."""
    share = points.weights * weights[..., None]
    mass = share.sum(1) + 1e-12
    centre_rest, centre_there = ((share.mT @ x) / mass[..., None] for x in (rest, there))
    moments = torch.einsum("bsj,bsa,bsc->bjac", share, there, rest)
    return moments - mass[..., None, None] * centre_there[..., :, None] * centre_rest[..., None, :]


def _place_template(
    points: BatchedKinematics, there: Float[Tensor, "B S 3"], weights: Float[Tensor, "B S"], free_scale: bool
) -> tuple[Float[Tensor, " B"], Float[Tensor, "B 3 3"], Float[Tensor, "B 3"]]:
    """Return size, rotation and place of the similarities that bring the template onto its posed vertices."""
    template = points.template.expand_as(there)
    moments = _moments(points, template, there, weights)
    size = torch.ones_like(there[:, 0, 0])
    if free_scale:
        spreads = _moments(points, template, template, weights).diagonal(dim1=2, dim2=3).sum(-1)
        matches = (nearest_rotations(moments) * moments).sum((2, 3))
        size = weighted_medians(matches / spreads.clamp_min(1e-12), spreads)
    turn = nearest_rotations(moments[:, 0])
    share = (weights / weights.sum(1, keepdim=True))[..., None]
    middle, goal = (template * share).sum(1), (there * share).sum(1)
    return size, turn, goal - size[:, None] * (turn @ middle[..., None])[..., 0]


def _closed_form(
    points: BatchedKinematics, prior: BatchedPrior, data: _Data, config: FitConfig, softness: Float[Tensor, " J"]
) -> BodyParams:
    """Return starts near the answers: rotations and shapes in turns; see ``vertices._closed_form``."""
    count, zero = len(data.targets), data.targets.new_zeros
    params = BodyParams(zero(count, points.shapedirs.shape[-1]), zero(count, len(points.parents), 3), zero(count, 3))
    middle = data.sigma.quantile(0.5, dim=1)
    base = data.weights / (data.sigma / middle[:, None]) ** 2
    say = torch.ones_like(base)
    for i in range(config.alternations):
        weights = base * say
        params = _turn_parts(points, data, params, weights, softness, middle)
        params, posed = _solve_shape(points, prior, data, params, weights, middle)
        errors = (posed.points - data.targets).norm(dim=-1)
        reach = (2.5 * data.medians(errors)).clamp_min(config.first_reach * 0.6**i)
        say = robust((errors / reach[:, None]) ** 2)[1]
    return params


def _turn_parts(
    points: BatchedKinematics,
    data: _Data,
    params: BodyParams,
    weights: Float[Tensor, "B S"],
    softness: Float[Tensor, " J"],
    middle: Float[Tensor, " B"],
) -> BodyParams:
    """Rotate each part onto its vertices, those nearer to the root first; see ``vertices._turn_parts``."""
    rest = points.template + torch.einsum("sck,bk->bsc", points.shapedirs, params.betas)
    moments = _moments(points, rest, data.targets, weights)
    hold = middle[:, None] ** 2 / softness**2
    parents = points.parents.tolist()
    Rs, Rs_local = torch.zeros_like(moments), torch.zeros_like(moments)
    for level in _levels(parents):
        own = torch.tensor(level, device=moments.device)
        above = points.parents[own].clamp_min(0)
        guess = Rs[:, above] * (points.parents[own] >= 0)[None, :, None, None]
        Rs[:, own] = nearest_rotations(moments[:, own] + hold[:, own, None, None] * guess)
        Rs_local[:, own] = torch.where(
            (points.parents[own] >= 0)[None, :, None, None], Rs[:, above].mT @ Rs[:, own], Rs[:, own]
        )
    return replace(params, pose=rotmat_to_rotvec(Rs_local))


def _levels(parents: Sequence[int]) -> list[list[int]]:
    """Return joints by how many are above them."""
    depth = list[int]()
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return [[j for j, own in enumerate(depth) if own == level] for level in range(max(depth) + 1)]


def _solve_shape(
    points: BatchedKinematics,
    prior: BatchedPrior,
    data: _Data,
    params: BodyParams,
    weights: Float[Tensor, "B S"],
    middle: Float[Tensor, " B"],
) -> tuple[BodyParams, PosedBatch]:
    """Solve betas and translation for given rotations; see ``vertices._solve_shape``."""
    posed = points.pose(params)
    rows = points.jacobian(posed, points.parents[:0]).flatten(1, 2)
    information = (weights / middle[:, None] ** 2).repeat_interleave(3, 1)
    normal = gauss_newton_batch(rows, (posed.points - data.targets).flatten(1), information)
    num, betas = params.betas.shape[1], params.betas
    normal.hessian.diagonal(dim1=1, dim2=2)[:, :num] += prior.shape_weight
    normal.hessian.diagonal(dim1=1, dim2=2)[:] += 1e-9
    normal.gradient[:, :num] += prior.shape_weight * betas
    rooms, num_pose = prior.rooms(params), params.pose[0].numel()
    rooms = Rooms(rooms.low[:, num_pose:], rooms.high[:, num_pose:])
    step = bounded_minima(normal.hessian, normal.gradient, rooms)
    params = BodyParams(betas + step[:, :num], params.pose, params.transl + step[:, num:])
    return params, points.pose(params)


@dataclass(frozen=True)
class _Polisher:
    """Minimises robust vertex distances plus priors; see ``vertices._polish``."""

    points: BatchedKinematics
    prior: BatchedPrior
    data: _Data
    config: FitConfig
    free_scale: bool

    def polished(self, params: BodyParams) -> tuple[BodyParams, Float[Tensor, " B"], Tensor]:
        """Return the bodies, the logarithms of their sizes, and (B,) which came to rest."""
        params, log_scale = replace(params), torch.zeros_like(params.betas[:, 0])
        damping = torch.full_like(log_scale, FIRST_DAMPING)
        converged = torch.zeros_like(log_scale, dtype=torch.bool)
        active = torch.arange(len(log_scale), device=log_scale.device)
        for _ in range(self.config.max_iterations):
            if not len(active):
                break
            data, now, scale = self.data.of(active), some(params, active), log_scale[active]
            noise = self._noise(now, scale, data)
            here, posed = self._equations(now, scale, data, noise)
            rooms = self.prior.rooms(now, extra=int(self.free_scale))
            asked = self._moved(now, scale, damped_steps(here, damping[active].clamp_max(FIRST_DAMPING), rooms))[0]
            motion = (self.points.pose(asked).points - posed.points).abs().amax((1, 2))

            def cost_after(step: Tensor, index: Tensor) -> Tensor:
                after, size = self._moved(some(now, index), scale[index], step)  # noqa: B023
                own = data.of(index)  # noqa: B023
                cost = self._cost(self.errors(after, size, own), own, noise[index])[0]  # noqa: B023
                return cost + self.prior.equations(after).cost

            step, found, damping[active] = improving_steps(here, damping[active], cost_after, rooms)
            now, scale = self._moved(now, scale, step)
            now = wrapped(now)
            for kept, new in ((params.betas, now.betas), (params.pose, now.pose), (params.transl, now.transl)):
                kept[active] = new
            log_scale[active] = scale
            is_at_rest = motion < self.config.tolerance
            converged[active] = is_at_rest
            going = found & ~is_at_rest
            converged[active[going]] = False
            active = active[going]
        return params, log_scale, converged

    def errors(self, params: BodyParams, log_scale: Float[Tensor, " B"], data: _Data) -> Float[Tensor, "B S 3"]:
        """Return model minus target, in units of the targets."""
        return self.points.pose(params).points * (-log_scale).exp()[:, None, None] - data.targets

    def _moved(
        self, params: BodyParams, log_scale: Float[Tensor, " B"], step: Float[Tensor, "B N"]
    ) -> tuple[BodyParams, Float[Tensor, " B"]]:
        return moved(params, step), log_scale + step[:, -1] if self.free_scale else log_scale

    def _noise(self, params: BodyParams, log_scale: Float[Tensor, " B"], data: _Data) -> Float[Tensor, " B"]:
        ratio = self.errors(params, log_scale, data).norm(dim=-1) / data.sigma
        return (data.medians(ratio) / 1.538).clamp(*NOISE_STATED)

    def _cost(
        self, errors: Float[Tensor, "B S 3"], data: _Data, noise: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B S"]]:
        """Return the robust cost and the weight of each vertex's squared error; see ``vertices._robust_cost``."""
        reach = KERNEL_SIGMAS * noise[:, None] * data.sigma
        information = INDEPENDENT_SHARE / noise[:, None] ** 2 * data.weights / data.sigma**2
        cost, weight = robust(errors.square().sum(-1) / reach**2)
        return (information * reach**2 * cost).sum(1), information * weight

    def _equations(
        self, params: BodyParams, log_scale: Float[Tensor, " B"], data: _Data, noise: Float[Tensor, " B"]
    ) -> tuple[Normals, PosedBatch]:
        posed, shrink = self.points.pose(params), (-log_scale).exp()[:, None, None]
        errors = posed.points * shrink - data.targets
        cost, weight = self._cost(errors, data, noise)
        rows = self.points.jacobian(posed).flatten(1, 2)
        if self.free_scale:
            rows = torch.cat([rows, -posed.points.flatten(1)[..., None]], -1)
        rows = rows * shrink
        normal = gauss_newton_batch(rows, errors.flatten(1), weight.repeat_interleave(3, 1), cost)
        return normal + self.prior.equations(params).padded(int(self.free_scale)), posed
