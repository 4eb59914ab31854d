"""SMPLify (Bogo et al., "Keep it SMPL", ECCV 2016): a body from keypoints alone, many photos at once.

As there: the camera first, from the trunk; then everything, robustly against the keypoints, under priors of pose, of
joint limits and of shape that weigh less from stage to stage. What differs: steps are of second order (Levenberg and
Marquardt, all photos of a batch at once), the camera stage tries the body from four sides, and parts that pass through
each other are not kept apart. The world is that of fit/photo.py: x right, y up, z towards the viewer, and the size of
the picture is an unknown, the logarithm of the metres of the crop's unit, so that focal lengths may be infinite.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.lengths import length_field
from lvdreg.body.landmarks import landmarks_of
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.batched import BatchedKinematics
from lvdreg.fit.landmarks import kinematics_of, seen_landmarks
from lvdreg.fit.mixture import JointAngles, PoseMixture, shipped_mixture
from lvdreg.fit.priors import BETA_CAP_SIGMA, LIMIT_SIGMA, pose_prior
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.image.camera import NEAREST
from lvdreg.image.crop import Crop
from lvdreg.photo.keypoints import KEYPOINTS

TRUNK = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
LIMBS = (
    ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"), ("left_hip", "left_knee"),
    ("right_hip", "right_knee"), ("left_knee", "left_ankle"), ("right_knee", "right_ankle"),
    ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"), ("left_shoulder", "right_shoulder"),
)  # fmt: skip
"""Pairs whose distance in the picture tells the size: seen from the side they are the longest."""
SIDES = (0.0, 0.5, 1.0, 1.5)
"""From where the camera stage tries to see the body, as multiples of pi; 0 is from the front."""
SAME_VIEW = np.pi / 6
"""Views of the camera stage that differ by less are the same, whatever they began with."""
UNKNOWN_SIGMA = 3.0
"""Radians, metres and so on: nothing is less sure than this, though no keypoint tell it."""


@dataclass(frozen=True)
class SMPLifyConfig:
    """Weights and steps, chosen by hand on characters of seed 0 ("SMPLify" in LOG.md)."""

    keypoint_sigma: float = length_field(0.03)
    """One-sigma of a keypoint's place, metres."""
    kernels: tuple[float, ...] = (0.4, 0.2, 0.1)
    """Scale of the robust kernel by stage, metres."""
    priors: tuple[float, ...] = (10.0, 3.0, 1.0)
    """How many times the priors of pose and shape count, by stage."""
    iterations: tuple[int, ...] = (8, 8, 12)
    camera_iterations: int = 8
    min_visibility: float = 0.3
    min_keypoints: int = 4
    """Of fewer, nothing is known of how a body is turned."""
    depth_sigma: float = length_field(0.02)
    """How near the pelvis stays to the plane z = 0, metres: the size of the picture says how far the camera is."""
    hypotheses: int = 2
    """So many views that the camera stage likes best are fitted to the end."""
    at_rest: float = 1e-4
    """Radians, metres and so on: who moves by less in a step is done."""


@dataclass(frozen=True)
class Seen:
    """What photos show of people, in the crops' unit frames.

    Attributes:
        places: (B, L, 2) of landmarks.
        weight: (B, L) how sure they are, 0 where they are not seen.
        axis: (B, 2) where the camera's axis meets the plane z = 0.
        perspective: (B,) one over the camera's distance from it, in units of the crop; 0 in weak perspective.
    """

    places: Float[Tensor, "B L 2"]
    weight: Float[Tensor, "B L"]
    axis: Float[Tensor, "B 2"]
    perspective: Float[Tensor, " B"]

    def of(self, index: Int[Tensor, " N"]) -> "Seen":
        """Return some of the photos, any number of times."""
        return Seen(self.places[index], self.weight[index], self.axis[index], self.perspective[index])


@dataclass(frozen=True)
class Found:
    """What was fitted.

    Attributes:
        params: The bodies, (B, ...).
        log_unit: (B,) logarithm of the metres of a unit of the crop.
        cost: (B,) what it came to, priors and all.
        missed: (B,) mean distance to the keypoints that are seen, metres.
        information: (B, N, N) second derivatives of the cost: the inverse of the posterior's covariance, as far as it
            is Gaussian.
        unknowns: What its rows are.
        converged: (B,) whether the last step was at rest.
        stages: Bodies and ``log_unit`` at the end of each stage but the last.
    """

    params: BodyParams
    log_unit: Float[Tensor, " B"]
    cost: Float[Tensor, " B"]
    missed: Float[Tensor, " B"]
    information: Float[Tensor, "B N N"]
    unknowns: "Unknowns"
    converged: Bool[Tensor, " B"]
    stages: tuple[tuple[BodyParams, Float[Tensor, " B"]], ...] = ()


@dataclass(frozen=True)
class Unknowns:
    """What a stage looks for, in this order: rotation vectors of joints, betas, place, the log of the crop's unit.

    Attributes:
        joints: (Q,) that turn.
        num_betas: How many betas; 0 where the shape stays.
    """

    joints: Int[Tensor, " Q"]
    num_betas: int

    @property
    def size(self) -> int:
        """How many numbers it is."""
        return 3 * len(self.joints) + self.num_betas + 4


@dataclass(frozen=True)
class _Now:
    """A batch as it is: the bodies, and the logarithm of the crop's unit."""

    params: BodyParams
    log_unit: Float[Tensor, " B"]

    def moved(self, step: Float[Tensor, "B N"], of: Unknowns, limits: Float[Tensor, " K"]) -> "_Now":
        """Return the batch after a step; no shape leaves what people are."""
        p = self.params
        turn, betas, transl, log_unit = step.split([3 * len(of.joints), of.num_betas, 3, 1], 1)
        pose = p.pose.index_add(1, of.joints, turn.unflatten(1, (-1, 3)))
        if of.num_betas:
            betas = torch.maximum(torch.minimum(p.betas + betas, limits), -limits)
        params = BodyParams(betas if of.num_betas else p.betas, pose, p.transl + transl)
        return _Now(params, self.log_unit + log_unit[:, 0])

    def replaced(self, index: Int[Tensor, " N"], other: "_Now") -> "_Now":
        """Return the batch with some of it exchanged."""
        p, q = self.params, other.params
        params = BodyParams(*(x.index_copy(0, index, y) for x, y in
                              ((p.betas, q.betas), (p.pose, q.pose), (p.transl, q.transl))))  # fmt: skip
        return _Now(params, self.log_unit.index_copy(0, index, other.log_unit))

    def of(self, index: Int[Tensor, " N"]) -> "_Now":
        """Return some of the batch, any number of times."""
        p = self.params
        return _Now(BodyParams(p.betas[index], p.pose[index], p.transl[index]), self.log_unit[index])


@dataclass(frozen=True)
class _Stage:
    kernel: float
    prior: float
    iterations: int
    unknowns: Unknowns


class SMPLify:
    """Fits one body to keypoints of many photos.

    Args:
        body: The body.
        config: Weights and steps.
        like: Has the device and the floating type of the fit; float64 unless a GPU is in a hurry.
        mixture: Pose prior; the shipped one when None.
    """

    def __init__(
        self,
        body: BodyModel,
        config: SMPLifyConfig | None = None,
        like: Tensor | None = None,
        mixture: PoseMixture | None = None,
    ) -> None:
        self.config = config or SMPLifyConfig()
        like = torch.zeros(1, dtype=torch.float64) if like is None else like
        self.like, data = like, body.data
        landmarks, self.rows = landmarks_of(data, KEYPOINTS)
        self.names = landmarks.names
        self.points = BatchedKinematics(body, kinematics_of(data, landmarks), like)
        self.unsure = torch.as_tensor(landmarks.unsure).to(like)
        mixture = shipped_mixture() if mixture is None else mixture
        known = JointAngles.of(data, mixture.joints).rows
        joints = np.union1d(self.points.moving.cpu().numpy(), known)
        self.everything = Unknowns(torch.as_tensor(joints, device=like.device), body.num_betas)
        """All but the joints that neither move a landmark nor have a likely pose: fingers stay as they are."""
        self.prior = _Priors(body, mixture, joints, like)
        self.num_joints, self.num_betas = body.num_joints, body.num_betas

    def seen(self, crops: Sequence[Crop], keypoints: Sequence[NDArray[np.floating]]) -> Seen:
        """Read keypoints (33, 3), columns, rows and visibility in the photos, as crops and their lenses see them."""
        least = self.config.min_visibility
        found = np.stack(
            [seen_landmarks(crop, own, self.rows, least) for crop, own in zip(crops, keypoints, strict=True)]
        )
        axes = [crop.to_unit(crop.lens.principal) if crop.lens.is_perspective else np.zeros(2) for crop in crops]
        perspective = [crop.side / 2 / crop.lens.focal for crop in crops]
        parts = (found[..., :2], found[..., 2], axes, perspective)
        return Seen(*(torch.as_tensor(np.asarray(x)).to(self.like) for x in parts))

    def fit(self, seen: Seen, start: tuple[BodyParams, Float[Tensor, " B"]] | None = None) -> Found:
        """Fit bodies to keypoints.

        Args:
            seen: Landmarks in the order of ``names``.
            start: Bodies, and logarithms of the metres of the crops' units, to start from, as SPIN does with what a
                network says (Kolotouros et al. 2019, section 3.3); None: the mean body, seen from four sides.
        """
        config, device = self.config, self.like.device
        stages = [
            _Stage(*row, self.everything) for row in zip(config.kernels, config.priors, config.iterations, strict=True)
        ]
        if start is not None:
            now = _Now(
                BodyParams(*(x.to(self.like) for x in (start[0].betas, start[0].pose, start[0].transl))),
                start[1].to(self.like),
            )
            passed, _, converged = self._run(now, seen, stages[-1:])
            return self._found(passed, converged, seen, stages[-1])
        count, sides = len(seen.places), len(SIDES)
        index = torch.arange(count, device=device).repeat_interleave(sides)
        camera = Unknowns(torch.zeros(1, dtype=torch.int64, device=device), 0)
        first = _Stage(config.kernels[0], 1.0, config.camera_iterations, camera)
        passed, cost, _ = self._run(self._before(seen), seen.of(index), [first])
        views = passed[-1].params.pose[:, 0].view(count, sides, 3)
        best = best_views(cost.view(count, sides), views, config.hypotheses)
        chosen = (best + sides * torch.arange(count, device=device)[:, None]).flatten()
        before = passed[-1].of(chosen)
        passed, cost, converged = self._run(before, seen.of(index[chosen]), stages)
        winner = cost.view(count, -1).argmin(1) + config.hypotheses * torch.arange(count, device=device)
        return self._found([x.of(winner) for x in (before, *passed)], converged[winner], seen, stages[-1])

    def likely_units(self, seen: Seen) -> Float[Tensor, " B"]:
        """Return logarithms of the metres of a unit of the crop, by the limbs that look longest for what they are."""
        zero = self.like.new_zeros
        rest = self.points.pose(BodyParams(zero(1, self.num_betas), zero(1, self.num_joints, 3), zero(1, 3))).points[0]
        pairs = [[self.names.index(a), self.names.index(b)] for a, b in LIMBS]
        length = torch.stack([(rest[a] - rest[b]).norm() for a, b in pairs])
        apart = torch.stack([(seen.places[:, a] - seen.places[:, b]).norm(dim=-1) for a, b in pairs], 1)
        both = torch.stack([(seen.weight[:, a] > 0) & (seen.weight[:, b] > 0) for a, b in pairs], 1)
        ratio = torch.where(both, apart / length, 0.0)
        # Nothing is longer in the picture than it is; one pair may be a mistake.
        units = ratio.sort(1, descending=True).values[:, :2].mean(1)
        return -torch.where(units > 0, units, 1.0).log()

    def _before(self, seen: Seen) -> _Now:
        """Return the mean person at rest, seen from each of the sides (B x sides): as large, and leaning, as seen."""
        count, sides, zero = len(seen.places), len(SIDES), self.like.new_zeros
        units = (-self.likely_units(seen)).exp()
        up = self._middle(seen, ("left_shoulder", "right_shoulder")) - self._middle(seen, ("left_hip", "right_hip"))
        lean = torch.where(up.norm(dim=1) > 0, torch.atan2(-up[:, 0], up[:, 1]), 0.0)
        yaw = np.pi * torch.tensor(SIDES).to(self.like).repeat(count)
        lean, units = lean.repeat_interleave(sides), units.repeat_interleave(sides)
        nothing = torch.zeros_like(yaw)
        turned = rotvec_to_rotmat(torch.stack([nothing, nothing, lean], 1))
        turned = turned @ rotvec_to_rotmat(torch.stack([nothing, yaw, nothing], 1))
        pose = zero(count * sides, self.num_joints, 3)
        pose[:, 0] = rotmat_to_rotvec(turned)
        params = BodyParams(zero(count * sides, self.num_betas), pose, zero(count * sides, 3))
        there, weight = self.points.pose(params).points, seen.weight.repeat_interleave(sides, 0)[..., None]
        places = seen.places.repeat_interleave(sides, 0) / units[:, None, None]
        offset = ((places - there[..., :2]) * weight).sum(1) / weight.sum(1).clamp_min(1e-9)
        transl = torch.cat([offset, -self.points.joint_template[:1, 2:].expand(len(offset), 1)], 1)
        return _Now(replace(params, transl=transl), -units.log())

    def _middle(self, seen: Seen, names: tuple[str, str]) -> Float[Tensor, "B 2"]:
        """Return the middle of two landmarks; 0 where one is not seen."""
        a, b = (self.names.index(name) for name in names)
        both = (seen.weight[:, a] > 0) & (seen.weight[:, b] > 0)
        return torch.where(both[:, None], (seen.places[:, a] + seen.places[:, b]) / 2, 0.0)

    def _run(self, now: _Now, seen: Seen, stages: Sequence[_Stage]) -> tuple[list[_Now], Tensor, Tensor]:
        """Minimise (Marquardt 1963), each photo with a damping of its own.

        Returns:
            What each stage came to, the last one's cost (B,), and who is at rest (B,).
        """
        passed = []
        count = len(seen.places)
        cost, resting = self.like.new_zeros(count), torch.zeros(count, dtype=torch.bool, device=self.like.device)
        for stage in stages:
            first = now.log_unit
            damping = torch.full((count,), 1e-3).to(self.like)
            hessian, gradient, cost = self._equations(now, seen, stage, first)
            resting = torch.zeros_like(resting)
            for _ in range(stage.iterations):
                # Who is at rest costs nothing more.
                active = (~resting).nonzero()[:, 0]
                if not len(active):
                    break
                step = _step(hessian[active], gradient[active], damping[active])
                moved = now.of(active).moved(step, stage.unknowns, self.prior.beta_limits)
                after = self._equations(moved, seen.of(active), stage, first[active])
                is_better = after[2] < cost[active]
                better = active[is_better]
                now = now.replaced(better, moved.of(is_better.nonzero()[:, 0]))
                for kept, new in zip((hessian, gradient, cost), after, strict=True):
                    kept[better] = new[is_better]
                damping[active] *= torch.where(is_better, 0.2, 8.0).to(self.like)
                damping.clamp_(min=1e-9)
                resting[active] = (is_better & (step.abs().amax(1) < self.config.at_rest)) | (damping[active] > 1e6)
            passed.append(now)
        return passed, cost, resting

    def _equations(
        self, now: _Now, seen: Seen, stage: _Stage, first: Float[Tensor, " B"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return second derivatives (B, N, N), gradient (B, N) and cost (B,) of all terms.

        Errors in the picture count as metres at the size that the stage began with (``first``): measured at the present
        size they would be small as soon as everything is. Where only the camera is sought, priors say nothing.
        """
        offsets, slopes = self._offsets(now, seen, stage.unknowns)
        unit = first.exp()[:, None]
        squared = offsets.square().sum(-1) * unit**2
        scale = (stage.kernel * self.unsure) ** 2
        weight = seen.weight / (self.config.keypoint_sigma * self.unsure) ** 2
        cost = (weight * 0.5 * squared / (1 + squared / scale)).sum(1)
        robust = (weight.sqrt() / (1 + squared / scale) * unit)[..., None]
        rows = slopes.mul_(robust[..., None]).flatten(1, 2)
        hessian, gradient = rows.mT @ rows, (rows.mT @ (offsets * robust).flatten(1)[..., None])[..., 0]
        size = stage.unknowns.size - 1
        if stage.unknowns.num_betas:
            own, slope, more = self.prior.equations(now.params, stage.prior)
            hessian[:, :size, :size] += own
            gradient[:, :size] += slope
            cost = cost + more
        depth, weight = now.params.transl[:, 2] + self.points.joint_template[0, 2], self.config.depth_sigma**-2.0
        hessian[:, size - 1, size - 1] += weight
        gradient[:, size - 1] += weight * depth
        return hessian, gradient, cost + 0.5 * weight * depth**2

    def _offsets(self, now: _Now, seen: Seen, of: Unknowns) -> tuple[Float[Tensor, "B L 2"], Float[Tensor, "B L 2 N"]]:
        """Return how far landmarks are seen from the keypoints, units of the crop, and how that changes."""
        posed = self.points.pose(now.params)
        unit = now.log_unit.exp()[:, None, None]
        jacobian = self.points.jacobian(posed, of.joints, of.num_betas > 0)
        at = posed.points / unit
        perspective, axis = seen.perspective[:, None, None], seen.axis[:, None]
        larger = 1 / (1 - perspective * at[..., 2:]).clamp_min(NEAREST)
        from_axis = at[..., :2] - axis
        offsets = axis + from_axis * larger - seen.places
        outwards = perspective * larger**2 * from_axis
        slopes = jacobian.new_empty(*jacobian.shape[:2], 2, of.size)
        torch.mul(jacobian[..., :2, :], (larger / unit)[..., None], out=slopes[..., :-1])
        slopes[..., :-1].addcmul_(jacobian[..., 2:, :], (outwards / unit)[..., None])
        slopes[..., -1] = -(larger * at[..., :2] + outwards * at[..., 2:])
        return offsets, slopes

    def _found(self, passed: Sequence[_Now], converged: Tensor, seen: Seen, stage: _Stage) -> Found:
        now = passed[-1]
        # At the size that came out: comparable, whatever size the fit began with.
        hessian, _, cost = self._equations(now, seen, stage, now.log_unit)
        apart = self._offsets(now, seen, stage.unknowns)[0].norm(dim=-1) * now.log_unit.exp()[:, None]
        shown = seen.weight > 0
        missed = (apart * shown).sum(1) / shown.sum(1).clamp_min(1)
        stages = tuple((each.params, each.log_unit) for each in passed[:-1])
        return Found(now.params, now.log_unit, cost, missed, hessian, stage.unknowns, converged, stages)


def best_views(cost: Float[Tensor, "B S"], rotvecs: Float[Tensor, "B S 3"], count: int) -> Int[Tensor, "B C"]:
    """Return the cheapest views, one of those that came to the same as long as there are others.

    Args:
        cost: (B, S) of the views of each photo.
        rotvecs: (B, S, 3) how the body is turned in them.
        count: C, how many are wanted, at most S.
    """
    Rs = rotvec_to_rotmat(rotvecs)
    traces = torch.einsum("bsij,btij->bst", Rs, Rs)
    more, best = cost.amax() + 1, list[Tensor]()
    for _ in range(count):
        best.append(cost.argmin(1))
        alike = traces[torch.arange(len(cost), device=cost.device), best[-1]] > 1 + 2 * np.cos(SAME_VIEW)
        cost = torch.where(alike, cost + more, cost).scatter(1, best[-1][:, None], torch.inf)
    return torch.stack(best, 1)


def _step(
    hessian: Float[Tensor, "B N N"], gradient: Float[Tensor, "B N"], damping: Float[Tensor, " B"]
) -> Float[Tensor, "B N"]:
    """Solve ``(H + damping * diag H) step = -g``; the tiny floor holds what nothing sees."""
    held = hessian.clone()
    diagonal = held.diagonal(dim1=1, dim2=2)
    diagonal += damping[:, None] * diagonal + 1e-9 * diagonal.amax(1, keepdim=True)
    return -torch.cholesky_solve(gradient[..., None], torch.linalg.cholesky(held))[..., 0]


@torch.no_grad()
def spread(
    body: BodyModel, found: Found, draws: int = 32, seed: int = 0
) -> tuple[Float[Tensor, "B V"], Float[Tensor, "B V"]]:
    """Return how unsure vertices are, one sigma, and its part along the line of sight, units of the crop.

    Of the Gaussian posterior around the fit, by drawing from it: what else keypoints would allow, a leg bent towards
    the camera instead of away from it, is not in it.

    Args:
        body: The body.
        found: What was fitted.
        draws: How many bodies are drawn of each photo.
        seed: Of the draws.
    """
    count, size = found.information.shape[:2]
    information = found.information.double()
    factor = torch.linalg.cholesky(information + UNKNOWN_SIGMA**-2.0 * torch.eye(size).to(information))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, size, draws, generator=generator, dtype=torch.float64).to(factor)
    steps = torch.linalg.solve_triangular(factor.mT, noise, upper=True).to(found.information)
    drawn = []
    for step in (torch.zeros_like(steps[..., 0]), *steps.unbind(-1)):
        now = _Now(found.params, found.log_unit).moved(
            step, found.unknowns, torch.full_like(found.params.betas[0], torch.inf)
        )
        params = BodyParams(*(x.to(body.v_template) for x in (now.params.betas, now.params.pose, now.params.transl)))
        drawn.append(body(params).vertices / now.log_unit.exp().to(body.v_template)[:, None, None])
    squared = (torch.stack(drawn[1:]) - drawn[0]).square().mean(0)
    return squared.sum(-1).sqrt(), squared[..., 2].sqrt()


class _Priors:
    """Limits of joints, the mixture of poses, and the shapes of people, in batch; see fit/priors.py for the first."""

    def __init__(self, body: BodyModel, mixture: PoseMixture, joints: NDArray[np.int64], like: Tensor) -> None:
        data = body.data
        usual, angles = pose_prior(data), JointAngles.of(data, mixture.joints)
        known = (3 * angles.known[:, None] + np.arange(3)).ravel()
        sigma = usual.sigma.copy()
        sigma[angles.rows] = np.inf

        def as_tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array).to(like)

        self.joints = torch.as_tensor(joints, device=like.device)
        self.axes, self.low, self.high = (as_tensor(x[joints]) for x in (usual.axes, usual.low, usual.high))
        self.pull = as_tensor(np.where(np.isinf(sigma), 0.0, sigma**-2.0)[joints])
        self.beta_caps, self.beta_limits = as_tensor(usual.beta_caps), as_tensor(usual.beta_limits)
        # Angles the body lacks are left out: the marginal of a Gaussian is that of its covariance's block.
        whitening = mixture.whitening
        covariances = np.linalg.inv(whitening.transpose(0, 2, 1) @ whitening)[:, known][:, :, known]
        marginal = np.linalg.inv(np.linalg.cholesky(covariances))
        part = PoseMixture(mixture.joints, mixture.log_weights, mixture.means[:, known], marginal)
        self.constants = as_tensor(part.constants)
        turned = np.zeros((len(known), 3 * len(angles.rows)))
        for i, axes in enumerate(angles.axes):
            turned[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = axes
        self.white = as_tensor(marginal @ turned)
        self.white_means = as_tensor((marginal @ (part.means - angles.offset.ravel())[..., None])[..., 0])
        rows = (3 * np.searchsorted(joints, angles.rows)[:, None] + np.arange(3)).ravel()
        self.rows, size = torch.as_tensor(rows, device=like.device), 3 * len(joints) + body.num_betas + 3
        self.information = like.new_zeros(len(part.means), size, size)
        self.information[:, self.rows[:, None], self.rows] = self.white.mT @ self.white

    def equations(self, params: BodyParams, factor: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return second derivatives (B, N, N), gradient (B, N) and cost (B,), N = 3 Q + K + 3.

        Of the mixture the likeliest component counts (Bogo et al., Eq. 4): so the cost is quadratic but for the seams.
        Limits do not depend on ``factor``, which the other priors are multiplied by.
        """
        pose, betas = params.pose[:, self.joints], params.betas
        count, num_pose, num_betas = len(pose), pose[0].numel(), betas.shape[1]
        size = num_pose + num_betas + 3
        hessian, gradient = pose.new_zeros(count, size, size), pose.new_zeros(count, size)
        angles = torch.einsum("jab,njb->nja", self.axes, pose)
        over = (angles - self.high).clamp_min(0) + (angles - self.low).clamp_max(0)
        limit = (over != 0) / LIMIT_SIGMA**2
        pull = factor * self.pull
        blocks = torch.einsum("nja,jab,jac->njbc", pull + limit, self.axes, self.axes)
        slopes = torch.einsum("jab,nja->njb", self.axes, pull * angles + limit * over)
        cost = 0.5 * (pull * angles.square() + limit * over.square()).sum((1, 2))
        of_joints = hessian[:, :num_pose, :num_pose].unflatten(2, (-1, 3)).unflatten(1, (-1, 3))
        of_joints.diagonal(dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
        gradient[:, :num_pose] = slopes.flatten(1)
        body = pose.flatten(1)[:, self.rows]
        white = torch.einsum("mij,nj->nmi", self.white, body) - self.white_means
        each = 0.5 * white.square().sum(-1) + self.constants
        best, everybody = each.argmin(1), torch.arange(count, device=pose.device)
        chosen = white[everybody, best]
        hessian.add_(self.information[best], alpha=factor)
        gradient[:, self.rows] += factor * (self.white[best].mT @ chosen[..., None])[..., 0]
        beyond = betas - betas.clamp(-self.beta_caps, self.beta_caps)
        capped = (beyond != 0) / BETA_CAP_SIGMA**2
        hessian.diagonal(dim1=1, dim2=2)[:, num_pose:-3] += factor + capped
        gradient[:, num_pose:-3] += factor * betas + capped * beyond
        shape_cost = 0.5 * (factor * betas.square() + capped * beyond.square()).sum(1)
        return hessian, gradient, cost + factor * each[everybody, best] + shape_cost
