"""Fitted bodies against their scans, many at once, in torch on any device: ``scan.refine_body`` in batch.

The steps are those of fit/scan.py, which prepares each scan and stays the oracle. Pairs are sought by comparing all
with all. What a closer look at hands would find, and what a user knows, is none of it; warnings are left to it, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.batched import BatchedKinematics, PosedBatch
from lvdreg.fit.batched_pairs import PairBatch, Samples, Surfaces, pair_bodies, pair_scans
from lvdreg.fit.batched_solver import (
    BatchedPrior,
    Normals,
    gauss_newton_batch,
    improving_steps,
    moved,
    robust,
    some,
    states,
    wrapped,
)
from lvdreg.fit.correspond import Target
from lvdreg.fit.guard import Misfit, is_worse
from lvdreg.fit.kinematics import State
from lvdreg.fit.scan import SHRINKING, RefineConfig, Refiner, Stage
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.batched import closest_on_meshes, nearest_rows, rows_of

AT_ONCE = 8
"""Equations are built of so many bodies at once, which takes up to 2 GB."""
SCORED_POINTS = 4000
"""At most so many points of a scan say how far the body lies from it."""


@dataclass(frozen=True)
class _Pulls:
    """Points of bodies drawn along fixed directions to fixed places; see ``scan._Pull``. Weights may be 0."""

    corners: Int[Tensor, "B N 3"]
    bary: Float[Tensor, "B N 3"]
    goals: Float[Tensor, "B N 3"]
    directions: Float[Tensor, "B N 3"]
    weights: Float[Tensor, "B N"]

    @classmethod
    def joined(cls, pulls: Sequence["_Pulls"]) -> "_Pulls":
        """Return all of some pulls as one."""
        return cls(*(torch.cat([vars(pull)[name] for pull in pulls], 1) for name in cls.__annotations__))

    def of(self, index: Int[Tensor, " M"]) -> "_Pulls":
        """Return those of some bodies."""
        return _Pulls(*(value[index] for value in vars(self).values()))

    def heights(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B N"]:
        """Return how far the points lie beyond their goals along the directions, metres."""
        points = torch.einsum("bnj,bnji->bni", self.bary, rows_of(vertices, self.corners))
        return ((points - self.goals) * self.directions).sum(-1)

    def cost(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, " B"]:
        """Return the weighted squares of the heights, halved."""
        return 0.5 * (self.weights * self.heights(vertices).square()).sum(1)

    def equations(self, kinematics: BatchedKinematics, posed: PosedBatch) -> Normals:
        """Return the normal equations of that cost."""
        jacobian = kinematics.jacobian(posed)
        rows = torch.zeros_like(jacobian[:, :1, 0])
        for k in range(3):
            moves = rows_of(jacobian, self.corners[..., k])
            rows = rows + torch.einsum("bnc,bncu->bnu", self.bary[..., k, None] * self.directions, moves)
        return gauss_newton_batch(rows, self.heights(posed.points), self.weights)


@dataclass(frozen=True)
class _Scans:
    """What is known of each scan; everything but the last three is in batch.

    Attributes:
        start: Where bodies begin.
        prior_matrix: (B, N, N) how the start is held.
        coarse, fine: Points of the scans.
        neighbours: (B, P, K) of each of the fine points.
        hidden: (B, V) vertices of legs that cloth hides.
        hips, heels: (B, 2) joints and vertices of these legs, and ``hanging`` (B, 2) whether there are any.
    """

    start: BodyParams
    prior_matrix: Float[Tensor, "B N N"]
    coarse: Samples
    fine: Samples
    neighbours: Int[Tensor, "B P K"]
    hidden: Bool[Tensor, "B V"]
    hips: Int[Tensor, "B 2"]
    heels: Int[Tensor, "B 2"]
    hanging: Bool[Tensor, "B 2"]

    def of(self, index: Int[Tensor, " M"]) -> "_Scans":
        """Return some of them."""
        parts = (self.prior_matrix, self.neighbours, self.hidden, self.hips, self.heels, self.hanging)
        matrix, neighbours, *rest = (part[index] for part in parts)
        return _Scans(some(self.start, index), matrix, self.coarse.of(index), self.fine.of(index), neighbours, *rest)


@torch.no_grad()
def refine_bodies(
    body: BodyModel,
    fits: Sequence[Fit],
    targets: Sequence[Target],
    sigma: Float[Tensor, "B V"],
    config: RefineConfig,
) -> list[Fit]:
    """Refine pose and shape of fits against their scans; see ``refine_body``.

    Args:
        body: The model of the fits, closed, on the device on which to compute.
        fits: Where to start, in the world frame.
        targets: The scans in the same frame.
        sigma: (B, V) one-sigma of the starts' vertices, metres.
        config: Settings; ``kernel_noises`` is 0.

    Returns:
        What ``refine_body`` returns, on the CPU, without warnings.

    Raises:
        RegistrationError: a target has hardly any points.
        ValueError: scans would need kernels of their own, or the body is open.
    """
    refiners = []
    for fit, target, own in zip(fits, targets, sigma, strict=True):
        target.check()
        refiners.append(Refiner(body, State.from_params(fit.params), target, own.cpu(), config))
    if config.kernel_noises or refiners[0].rim is not None:
        raise ValueError("expected a closed body and kernels that do not depend on the scan's noise")
    batch = _Batch(body, refiners)
    before = batch.misfits(batch.scans.start, refiners)
    params, is_at_rest, was_refined = batch.scans.start, torch.ones(len(fits), dtype=torch.bool), [False] * len(fits)
    left = list(range(len(fits)))
    for held in (1.0, config.held_harder):
        index = torch.tensor(left, device=sigma.device)
        found, rests = batch.refined(index, held)
        after = batch.misfits(found, [refiners[i] for i in left])
        good = [k for k, i in enumerate(left) if not is_worse(after[k], before[i], config.guard)]
        params = _exchanged(params, index[good], some(found, torch.tensor(good, device=index.device, dtype=torch.long)))
        for k in good:
            is_at_rest[left[k]], was_refined[left[k]] = rests[k], True
        left = [i for k, i in enumerate(left) if k not in good]
        if not left:
            break
    return batch.reported(params, fits, refiners, is_at_rest.tolist(), was_refined)


def _exchanged(params: BodyParams, index: Int[Tensor, " M"], new: BodyParams) -> BodyParams:
    pairs = ((params.betas, new.betas), (params.pose, new.pose), (params.transl, new.transl))
    return BodyParams(*(old.index_copy(0, index, own) for old, own in pairs))


class _Batch:
    """Everything that stays the same over the iterations; see ``scan.Refiner``."""

    def __init__(self, body: BodyModel, refiners: Sequence[Refiner]) -> None:
        first, like = refiners[0], body.v_template.double()
        device, config = like.device, first.config
        self.config, self.stage = config, first.stage
        self.kinematics, self.prior = BatchedKinematics(body, first.kernel, like), BatchedPrior(first.prior, like)
        self.faces = torch.as_tensor(first.faces, device=device)
        self.vertices = torch.as_tensor(first.vertices, device=device)
        self.owner = torch.as_tensor(first.owner, device=device)
        self.trunk = [first.joint_names.index(name) for name in ("neck", "pelvis") if name in first.joint_names]
        starts = [refiner.start.to_params(like) for refiner in refiners]
        fine = [refiner.fine for refiner in refiners]
        most = max(len(index.points) for index in fine)
        neighbours = [np.pad(refiner.neighbours, ((0, most - len(refiner.neighbours)), (0, 0))) for refiner in refiners]
        hidden = [np.isin(first.owner, [part for leg in refiner.hidden for part in leg.parts]) for refiner in refiners]
        legs = [([leg.hip for leg in refiner.hidden], [leg.heel for leg in refiner.hidden]) for refiner in refiners]
        self.scans = _Scans(
            BodyParams(*(torch.stack([getattr(p, name) for p in starts]) for name in ("betas", "pose", "transl"))),
            torch.as_tensor(np.stack([refiner.prior_matrix for refiner in refiners])).to(like),
            Samples.of_scans([refiner.coarse for refiner in refiners], like),
            Samples.of_scans(fine, like),
            torch.as_tensor(np.stack(neighbours), device=device),
            torch.as_tensor(np.stack(hidden), device=device),
            torch.tensor([(hips + [0, 0])[:2] for hips, _ in legs], device=device),
            torch.tensor([(heels + [0, 0])[:2] for _, heels in legs], device=device),
            torch.tensor([[k < len(hips) for k in range(2)] for hips, _ in legs], device=device),
        )

    def refined(self, index: Int[Tensor, " M"], held: float) -> tuple[BodyParams, list[bool]]:
        """Take all steps from the starts of some scans; return the bodies, and which came to rest."""
        all_scans = self.scans.of(index)
        params = some(all_scans.start, torch.arange(len(index), device=index.device))
        damping = torch.full_like(params.betas[:, 0], self.config.damping)
        motion = torch.full_like(damping, torch.inf)
        active = torch.arange(len(index), device=index.device)
        for i in range(self.config.max_iterations):
            progress = i / max(self.config.max_iterations - 1, 1)
            scans = all_scans.of(active)
            now, damping[active], motion[active] = self._advance(
                some(params, active), damping[active], scans, self.stage(progress, held)
            )
            params = _exchanged(params, active, now)
            if progress >= SHRINKING:
                active = active[motion[active] >= self.config.rest]
            if not len(active):
                break
        return wrapped(params), (motion < self.config.tolerance).tolist()

    def _advance(
        self, params: BodyParams, damping: Float[Tensor, " B"], scans: _Scans, stage: Stage
    ) -> tuple[BodyParams, Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Take one step each; see ``Refiner.advance``."""
        vertices = self.kinematics.pose(params).points
        pulls, normals = self.equations(params, scans, stage)

        def cost_after(step: Tensor, index: Tensor) -> Tensor:
            after, own = moved(some(params, index), step), scans.of(index)
            held = self.prior.equations(after).cost + self._held(after, own, stage).cost
            return held + pulls.of(index).cost(self.kinematics.pose(after).points)

        rooms, least = self.prior.rooms(params), self.config.damping
        step, found, tried = improving_steps(normals, damping, cost_after, rooms, least)
        now = moved(params, step)
        motion = (self.kinematics.pose(now).points - vertices).norm(dim=-1).mean(1)
        return now, torch.where(found, tried, least), motion

    def equations(self, params: BodyParams, scans: _Scans, stage: Stage) -> tuple[_Pulls, Normals]:
        """Return what pulls at bodies, and the normal equations of that and of the priors."""
        parts = []
        for index in torch.arange(len(params.betas), device=self.faces.device).split(AT_ONCE):
            own, some_scans = some(params, index), scans.of(index)
            posed = self.kinematics.pose(own)
            pulls = _Pulls.joined(self._pulls(posed, some_scans, stage))
            normals = self.prior.equations(own) + self._held(own, some_scans, stage)
            parts.append((pulls, normals + pulls.equations(self.kinematics, posed)))
        pulls = _Pulls(*(torch.cat([vars(p)[name] for p, _ in parts]) for name in _Pulls.__annotations__))
        return pulls, Normals(*(torch.cat([vars(n)[name] for _, n in parts]) for name in Normals.__annotations__))

    def _held(self, params: BodyParams, scans: _Scans, stage: Stage) -> Normals:
        """Return the pull to the start; see ``Refiner._held``."""
        num_pose, num_betas = params.pose[0].numel(), params.betas.shape[1]
        strength = torch.full_like(scans.prior_matrix[0, 0], stage.prior_pose_samples)
        strength[num_pose : num_pose + num_betas] = stage.prior_shape_samples
        root = strength.sqrt()
        hessian = scans.prior_matrix * (root[:, None] * root)
        offset = torch.cat([(params.pose - scans.start.pose).flatten(1), params.betas - scans.start.betas,
                            params.transl - scans.start.transl], 1)  # fmt: skip
        gradient = (hessian @ offset[..., None])[..., 0]
        return Normals(hessian, gradient, 0.5 * (offset * gradient).sum(1))

    def _pulls(self, posed: PosedBatch, scans: _Scans, stage: Stage) -> list[_Pulls]:
        """Pair bodies and scans, both directions, and return what the pairs pull at; see ``Refiner._pulls``."""
        surfaces, samples = Surfaces.of_vertices(posed.points, self.faces), scans.fine if stage.fine else scans.coarse
        vertices = self.vertices if stage.fine else self.vertices[:: self.config.coarse_stride]
        reach = torch.full_like(samples.spacing, stage.reach)
        on_scan = pair_scans(samples, surfaces, reach, stage.min_cosine, stage.fine)
        on_body = pair_bodies(samples, surfaces, vertices, reach, stage.min_cosine)
        heights = on_scan.heights
        smooth = rows_of(heights, scans.neighbours).mean(-1) if stage.fine else heights
        inside = torch.full_like(posed.points[..., 0], self.config.coarse_inside)
        if stage.fine:
            inside = self._inside_factor(on_scan, smooth)
        inside = torch.where(scans.hidden, 0.0, inside)
        everyone = torch.ones_like(on_body.is_valid)
        share = self.config.body_share
        return [
            *self._both_pulls(on_scan, samples.there, smooth, inside, stage, 1.0),
            *self._both_pulls(on_body, everyone, on_body.heights, inside, stage, share),
            self._hanging(posed, scans),
        ]

    def _hanging(self, posed: PosedBatch, scans: _Scans) -> _Pulls:
        """Return what draws the ankles of legs that are not seen below their hips; see ``Refiner._hanging``."""
        joints = (posed.Rs_world @ posed.rest_joints[..., None])[..., 0] + posed.offsets
        hanging = scans.hanging
        if len(self.trunk) == 2:
            trunk = joints[:, self.trunk[0]] - joints[:, self.trunk[1]]
            hanging = hanging & (trunk[:, 1] > np.sqrt(0.5) * trunk.norm(dim=-1))[:, None]
        goals = rows_of(joints, scans.hips).repeat_interleave(2, 1)
        directions = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).to(goals).repeat(2, 1).expand_as(goals)
        corners = scans.heels.repeat_interleave(2, 1)[..., None].expand(-1, -1, 3)
        bary = torch.eye(3).to(goals)[0].expand_as(goals)
        weights = hanging.repeat_interleave(2, 1) * self.config.hang**-2.0
        return _Pulls(corners, bary, goals, directions, weights.to(goals))

    def _both_pulls(
        self,
        pairs: PairBatch,
        there: Bool[Tensor, "B N"],
        heights: Float[Tensor, "B N"],
        inside: Float[Tensor, "B V"],
        stage: Stage,
        share: float,
    ) -> tuple[_Pulls, _Pulls]:
        """Return what pairs pull at along the normals, and across them; see ``Refiner._both_pulls``."""
        config, outside = self.config, heights > 0
        kernel = torch.where(outside, 2.0, 1.0) * stage.scale
        weight = robust((pairs.distances / kernel) ** 2)[1] * pairs.is_valid
        factor = (pairs.bary * rows_of(inside, pairs.corners)).sum(-1)
        weight = weight * torch.where(outside, config.outside, factor)
        noise = max(config.noise, 0.4 * stage.scale)
        weight = weight * (share * config.effective_samples / noise**2) / there.sum(1, keepdim=True)
        weight = torch.where(weight > 1e-6 * weight.amax(1, keepdim=True).clamp_min(1e-12), weight, 0.0)
        every = slice(None, None, config.tangential_stride)
        offset, directions = pairs.offsets[:, every], pairs.directions[:, every]
        beside = offset - (offset * directions).sum(-1, keepdim=True) * directions
        across = beside / beside.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        weak = config.tangential_stride * config.tangential_weight * weight[:, every]
        return (
            _Pulls(pairs.corners, pairs.bary, pairs.scan_points, pairs.directions, weight),
            _Pulls(pairs.corners[:, every], pairs.bary[:, every], pairs.scan_points[:, every], across, weak),
        )

    def _inside_factor(self, pairs: PairBatch, smooth: Float[Tensor, "B N"]) -> Float[Tensor, "B V"]:
        """Return how strongly bodies are drawn outwards at each vertex; see ``Refiner._inside_factor``."""
        heights, config = smooth.abs(), self.config
        corner = pairs.corners.gather(2, pairs.bary.argmax(2, keepdim=True))[..., 0]
        owner = self.owner[corner]
        overall = _medians(heights, pairs.is_valid)
        parts = torch.arange(len(self.kinematics.parents), device=owner.device)
        mine = (owner[:, None] == parts[:, None]) & pairs.is_valid[:, None]
        share = mine.sum(2) / (mine.sum(2) + config.shrinkage_samples)
        spread = share * _medians(heights[:, None].expand_as(mine), mine) + (1 - share) * overall[:, None]
        factor = ((config.skin / (1.48 * spread).clamp_min(1e-6)) ** 2).clamp(config.min_skin_weight, 1.0)
        return factor[:, self.owner]

    def misfits(self, params: BodyParams, refiners: Sequence[Refiner]) -> list[Misfit]:
        """Hold bodies against their scans; see ``guard.misfit``."""
        found, guard = [], self.config.guard
        for i, refiner in enumerate(refiners):
            vertices = self.kinematics.pose(some(params, torch.tensor([i], device=self.faces.device))).points
            points = torch.as_tensor(refiner.target.points, device=self.faces.device).to(vertices)[None]
            few = points[:, :: max(1, points.shape[1] // guard.points)]
            on_body = vertices[:, self.vertices]
            there = closest_on_meshes(few, vertices, self.faces).distance[0]
            back = (rows_of(points, nearest_rows(on_body, points)) - on_body).norm(dim=-1)[0]
            shares = (((d - guard.fits) / (guard.apart - guard.fits)).clamp(0, 1).cpu().numpy() for d in (there, back))
            found.append(Misfit(*shares))
        return found

    def reported(
        self,
        params: BodyParams,
        fits: Sequence[Fit],
        refiners: Sequence[Refiner],
        is_at_rest: Sequence[bool],
        was_refined: Sequence[bool],
    ) -> list[Fit]:
        """Return the bodies with their distances from the scans and the spread of their vertices; see ``_report``."""
        found = []
        for i, (fit, refiner) in enumerate(zip(fits, refiners, strict=True)):
            one = torch.tensor([i], device=self.faces.device)
            own = some(params, one)
            posed = self.kinematics.pose(own)
            points = refiner.target.points[:: max(1, len(refiner.target.points) // SCORED_POINTS)]
            queries = torch.as_tensor(points).to(posed.points)[None]
            distance = closest_on_meshes(queries, posed.points, self.faces).distance
            hessian = self.equations(own, self.scans.of(one), self.stage(1.0))[1].hessian[0]
            held = hessian + 1e-9 * hessian.diagonal().max() * torch.eye(len(hessian)).to(hessian)
            rows = self.kinematics.jacobian(posed)[0].flatten(0, 1)
            spread = torch.linalg.solve_triangular(torch.linalg.cholesky(held), rows.mT, upper=False)
            sigma = spread.square().sum(0).unflatten(0, (-1, 3)).sum(1).sqrt().cpu().numpy()
            (state,) = states(own)
            plain = Fit(state.to_params(torch.zeros(0)), fit.scale, 1000 * float(distance.mean()), is_at_rest[i])
            found.append(replace(plain, was_refined=was_refined[i], sigma_posterior=sigma))
        return found


def _medians(values: Float[Tensor, "*B N"], mask: Bool[Tensor, "*B N"]) -> Float[Tensor, " *B"]:
    """Return the medians of those values that a mask names, between the middle two of an even number; 0 of none."""
    ordered, count = torch.where(mask, values, torch.inf).sort(-1).values, mask.sum(-1, keepdim=True)
    low, high = ((count - 1) // 2).clamp_min(0), (count // 2).clamp_max(values.shape[-1] - 1)
    middle = (ordered.gather(-1, low) + ordered.gather(-1, high)) / 2
    return torch.where(count > 0, middle, 0.0)[..., 0]
