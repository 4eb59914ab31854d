"""The fitted body against the scan: robust, both ways, and under the clothes.

A Gauss-Newton form of iterated closest points (point to plane, Chen and Medioni 1992; symmetric normals, Rusinkiewicz
2019) on pose, shape and place at once. Reach and kernel shrink from arm's thickness to the noise of scans. What lies
outside the scan is pulled in at full strength; what lies inside is pulled out only as far as the part looks like skin:
where the scan stands off the body smoothly by more than a fit's error, it is taken for cloth and may stay there.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.base.lengths import length_field
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.base.threads import side_by_side
from lvdreg.base.timing import one_blas_thread
from lvdreg.body.model import BodyModel
from lvdreg.fit.correspond import Pairs, PosedSurface, ScanIndex, Target, rim_of, scan_distances, scan_noise
from lvdreg.fit.errors import posterior_sigma
from lvdreg.fit.guard import GuardConfig, Misfit, is_worse, misfit
from lvdreg.fit.kinematics import Kinematics, PosedPoints, State
from lvdreg.fit.known import NOTHING, Known, SeenTerm
from lvdreg.fit.legs import hidden_legs, is_upright
from lvdreg.fit.priors import PriorConfig
from lvdreg.fit.solver import Normal, gauss_newton, geman_mcclure, improving_step
from lvdreg.fit.vertices import Fit, Look, believed, plausibility_warnings, representatives
from lvdreg.geometry.mesh import vertex_areas


@dataclass(frozen=True)
class RefineConfig:
    """The body against the scan; lengths in metres.

    Chosen by hand while the stage was built, one at a time; no search was made. What it costs to have fewer steps or
    more points stands in LOG.md ("Three qualities").
    """

    max_iterations: int = 30
    kernel: tuple[float, float] = length_field((0.12, 0.015))
    """Scale of the robust kernel, first and last."""
    kernel_noises: float = 0.0
    """The last kernel is no narrower than so many times the scan's noise."""
    min_reach: float = length_field(0.06)
    """Pairs up to this far apart are considered however small the kernel is."""
    coarse_points: int = 1500
    fine_points: int = 5000
    """Points of the scan that are paired while the kernel is wide, and at last."""
    body_points: int = 2500
    coarse_stride: int = 3
    """Vertices of the body that are paired at last, and of which every so-manieth is before."""
    coarse_reach: float = length_field(0.12)
    fine_reach: float = length_field(0.04)
    """Length that turns normals into coordinates when pairs are sought."""
    noise: float = length_field(0.006)
    """One-sigma of a pair, metres: scanners are better, bodies with few parameters are not."""
    effective_samples: float = 1000.0
    """How many independent observations a scan counts as, at most, against the priors."""
    body_share: float = 0.5
    """Weight of pairs from body to scan."""
    tangential_weight: float = 0.03
    tangential_stride: int = 4
    """Weight of motion across the normals, and which pairs speak of it."""
    prior_pose_samples: tuple[float, float] = (300.0, 15.0)
    prior_shape_samples: tuple[float, float] = (2000.0, 150.0)
    """As how many independent vertices the start counts, first and last."""
    outside: float = 3.0
    """Weight of what lies outside the scan; skin that lies inside has 1."""
    coarse_inside: float = 0.3
    """The weight inside while the kernel is wide and nothing is known of clothes."""
    sigma: float = length_field(0.03)
    sigma_floor: float = length_field(0.008)
    """One-sigma of the start's vertices where none is given, and the least that is believed."""
    skin: float = length_field(0.008)
    """Up to this spread between scan and body a part counts as skin."""
    min_skin_weight: float = 0.03
    """What is left of the pull outwards where a part is cloth beyond doubt."""
    shrinkage_samples: float = 40.0
    """A part with so many points is judged half by itself, half as the whole scan is."""
    smooth_neighbours: int = 8
    """Heights are averaged over so many points before they are taken for cloth or skin: noise is neither."""
    damping: float = 1e-3
    """The least, and the first."""
    rest: float = length_field(0.0003)
    """Mean motion of a step, metres, below which no more are taken once the kernel is at its last. At half a millimetre
    a lone limb may still be sliding to its place."""
    tolerance: float = length_field(0.002)
    """Mean motion of the last step, metres, below which the body has come to rest."""
    guess: float = length_field(np.inf)
    """Vertices of the start with a larger sigma, metres, are guesses (``believed``), and so are legs: they hang."""
    hang: float = length_field(0.1)
    """One-sigma of how far below its hip the ankle of a leg that is not seen stands aside, metres."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    held_harder: float = 30.0
    """What makes a body worse is tried again with the start held so much harder, and undone if it does so again."""
    far: float = length_field(0.1)
    """Scan points further than this from the body are said to be far."""
    prior: PriorConfig = field(default_factory=PriorConfig)


SHRINKING = 0.65
"""The kernel shrinks over this share of the steps."""

__all__ = ["Refiner", "Target", "refine_body"]


@one_blas_thread()
def refine_body(
    body: BodyModel,
    fit: Fit,
    target: Target,
    sigma: Float[Tensor, " V"] | None,
    config: RefineConfig,
    known: Known = NOTHING,
    look: Look | None = None,
) -> Fit:
    """Refine pose and shape of a fit against the scan.

    Args:
        body: The model of the fit.
        fit: Where to start, in the world frame; limbs may be off by some 20 cm.
        target: The scan in the same frame.
        sigma: One-sigma of the start's vertices, metres; the surer, the longer the start is held. None = all alike.
        config: Settings.
        known: What else is known of the person, world frame.
        look: Looks closely at parts of the body once it has come near the scan.
    Returns:
        Fit with the body inside the scan; ``residual_mm`` is the mean distance from scan to body. Not differentiable.
    Raises:
        RegistrationError: the target has hardly any points.
    """
    target.check()
    refiner = Refiner(body, State.from_params(fit.params), target, sigma, config, known)
    before = refiner.misfit(refiner.start)
    for held in (1.0, config.held_harder):
        closer, state, is_at_rest = refiner.refined(held, look)
        if not is_worse(refiner.misfit(state), before, config.guard):
            return _report(body, fit, target, closer, state, is_at_rest)
    kept = _report(body, fit, target, refiner, refiner.start, True)
    warnings = [
        "the refinement led away from the scan and was undone: the body is as the network's vertices have it",
        *kept.warnings,
    ]
    return replace(kept, warnings=tuple(warnings), was_refined=False)


@one_blas_thread()
def shape_information(
    body: BodyModel,
    fit: Fit,
    target: Target,
    sigma: Float[Tensor, " V"] | None,
    config: RefineConfig,
    known: Known = NOTHING,
) -> Float64[np.ndarray, "K K"]:
    """Return what a scan tells of the shape of a refined body: the information (K, K) of its betas, priors left out.

    What might as well be pose or place is none of it (Schur complement of the last normal equations). Arguments are
    those of ``refine_body``, whose result ``fit`` is.
    """
    refiner = Refiner(body, State.from_params(fit.params), target, sigma, config, known)
    state = refiner.start
    hessian = refiner.information(state)
    shape = np.arange(state.pose.size, state.pose.size + len(state.betas))
    others = np.setdiff1d(np.arange(len(hessian)), shape)
    rest = hessian[np.ix_(others, others)]
    rest = rest + 1e-9 * float(np.diag(rest).max()) * np.eye(len(rest))
    explained = hessian[np.ix_(shape, others)] @ np.linalg.solve(rest, hessian[np.ix_(others, shape)])
    return hessian[np.ix_(shape, shape)] - explained - refiner.prior.shape_terms(state.betas)[0]


def _report(body: BodyModel, fit: Fit, target: Target, refiner: "Refiner", state: State, converged: bool) -> Fit:
    surface = refiner.surface(refiner.posed(state))
    distance = scan_distances(target, surface)
    warnings = plausibility_warnings(body.data, refiner.prior, state)
    far = float(np.mean(distance > refiner.config.far))
    if far > 0.1:
        apart = f"{far:.0%} of the scan lies over {round(100 * refiner.config.far, 1):g} cm from the fitted body"
        warnings.append(f"{apart}: wide clothes, or things that are not the body")
    params, residual_mm = state.to_params(body.v_template), 1000 * float(distance.mean())
    sigma = posterior_sigma(refiner.kernel, refiner.posed(state), refiner.information(state))
    return Fit(params, fit.scale, residual_mm, converged, tuple(warnings), sigma_posterior=sigma, seen=refiner.seen)


@dataclass(frozen=True)
class Stage:
    """What one iteration works with: kernel scale and reach in metres, how fine, how strongly the start is held."""

    scale: float
    reach: float
    min_cosine: float
    fine: bool
    prior_pose_samples: float
    prior_shape_samples: float


@dataclass(frozen=True)
class _Pull:
    """Points of the body drawn along fixed directions to fixed places.

    ``corners`` and ``bary`` (N, 3) say where they are on the body; ``goals`` (N, 3), unit ``directions`` (N, 3) and
    ``weights`` (N,) where they are drawn to, along what, and how strongly.
    """

    corners: IntArray
    bary: FloatArray
    goals: FloatArray
    directions: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, pairs: Pairs, which: IntArray, directions: FloatArray, weights: FloatArray) -> "_Pull":
        """Draw the body points of some pairs to their scan points."""
        return cls(pairs.corners[which], pairs.bary[which], pairs.scan_points[which], directions, weights)

    @classmethod
    def joined(cls, pulls: Sequence["_Pull"]) -> "_Pull":
        """Return all of some pulls as one."""
        names = [part.name for part in fields(cls)]
        return cls(**{name: np.concatenate([getattr(pull, name) for pull in pulls]) for name in names})

    def heights(self, vertices: FloatArray) -> FloatArray:
        """Return how far the points lie beyond their goals along the directions (N,), metres."""
        points = np.einsum("nj,nji->ni", self.bary, vertices[self.corners])
        return np.einsum("ni,ni->n", points - self.goals, self.directions)

    def cost(self, vertices: FloatArray) -> float:
        """Return the weighted squares of the heights, halved."""
        return 0.5 * float(self.weights @ self.heights(vertices) ** 2)

    def equations(self, kinematics: Kinematics, posed: PosedPoints) -> Normal:
        """Return the normal equations of that cost."""
        heights = self.heights(posed.vertices)
        return kinematics.directional_equations(posed, self.corners, self.bary, self.directions, heights, self.weights)


class Refiner:
    """Everything that stays the same over the iterations."""

    def __init__(
        self,
        body: BodyModel,
        start: State,
        target: Target,
        sigma: Tensor | None,
        config: RefineConfig,
        known: Known = NOTHING,
    ) -> None:
        self.config, self.target = config, target
        self.body, self.seen = body, known.seen
        self.kernel, self.prior = Kinematics(body.data), known.prior(body.data, config.prior, in_world=True)
        self._last: PosedPoints | None = None
        self.faces = np.asarray(body.data.faces, np.int64)
        self.rim = rim_of(self.faces, body.num_vertices)
        self.owner, self.joint_names = body.data.weights.argmax(1), body.joint_names
        self.coarse = ScanIndex(target, config.coarse_reach, config.coarse_points)
        self.fine = ScanIndex(target, config.fine_reach, config.fine_points)
        self.neighbours = _neighbours(self.fine.points, config.smooth_neighbours)
        self.vertices = _even_vertices(body, config.body_points)
        noise = scan_noise(target.points, target.normals) if config.kernel_noises else 0.0
        self.kernels = (config.kernel[0], max(config.kernel[1], config.kernel_noises * noise))
        self.start = self.prior.inside(start)
        self.prior_matrix = prior_information(body, self.start, sigma, config)
        stated = None if sigma is None else sigma.double().cpu().numpy()
        posed = self.posed(self.start).vertices
        self.hidden = hidden_legs(body.data, stated, config.guess, posed, target)

    def refined(self, held: float = 1.0, look: Look | None = None) -> tuple["Refiner", State, bool]:
        """Take all steps from the start.

        Args:
            held: Factor on how strongly the start is held.
            look: Looks closely at parts of the body once the kernel is as narrow as it gets.

        Returns:
            What took the last steps, the body, and whether it has come to rest.
        """
        refiner, state, damping, motion = self, self.start, self.config.damping, np.inf
        for i in range(self.config.max_iterations):
            progress = i / max(self.config.max_iterations - 1, 1)
            if look is not None and progress >= SHRINKING:
                (refiner, state), look = self.looked(state, look), None
            state, damping, motion = refiner.advance(state, damping, refiner.stage(progress, held))
            if progress >= SHRINKING and motion < self.config.rest:
                break
        return refiner, state.wrapped(), bool(motion < self.config.tolerance)

    def looked(self, state: State, look: Look) -> tuple["Refiner", State]:
        """Look closely at a body; return what goes on from there, and the body with what was seen posed."""
        found = look(Fit(state.wrapped().to_params(self.body.v_template), 1.0, 0.0, converged=False))
        if found is None:
            return self, state
        posed, closer = State.from_params(found.posed.params), copy(self)
        # The start is held on: but for what it is known not to be.
        pose = np.where(found.joints[:, None], posed.pose, self.start.pose)
        closer.start = State(pose, self.start.betas, self.start.transl)
        term = SeenTerm.of(self.body.data, found.seen)
        closer.prior, closer.seen = replace(self.prior, terms=(*self.prior.terms, term)), found.seen
        return closer, posed

    def information(self, state: State) -> FloatArray:
        """Return the second derivatives (P, P) of the cost at a body at rest."""
        return self.equations(state, self.stage(1.0)).hessian

    def equations(self, state: State, stage: Stage) -> Normal:
        """Return the normal equations at a body."""
        return self._equations(state, self.posed(state), stage)[1]

    def held(self, state: State, stage: Stage) -> Normal:
        """Return those of the priors alone."""
        return self.prior.equations(state) + self._held(state, stage)

    def misfit(self, state: State) -> Misfit:
        """Hold the body of a state against the scan."""
        return misfit(self.target, self.surface(self.posed(state)), self.vertices, self.config.guard)

    def stage(self, progress: float, held: float = 1.0) -> Stage:
        """Return the settings at a progress from 0 to 1; the start is held by a factor ``held``."""
        part, config = min(1.0, progress / SHRINKING), self.config
        scale, pose, shape = (
            a * (b / a) ** part for a, b in (self.kernels, config.prior_pose_samples, config.prior_shape_samples)
        )
        fine, reach = scale < 2.5 * self.kernels[1], max(2.5 * scale, config.min_reach)
        return Stage(scale, reach, 0.5 if fine else 0.2, fine, held * pose, held * shape)

    def posed(self, state: State) -> PosedPoints:
        """Pose the body; the last one is kept, for a step that is taken was tried before."""
        if self._last is None or not np.array_equal(self._last.state.vector, state.vector):
            self._last = self.kernel.pose(state)
        return self._last

    def surface(self, posed: PosedPoints) -> PosedSurface:
        """Return the posed body as a surface."""
        return PosedSurface(posed.vertices, self.faces, self.rim)

    def advance(self, state: State, damping: float, stage: Stage) -> tuple[State, float, float]:
        """Take one step, unless none lowers the cost of the pairs and priors as they are now.

        Returns:
            The new state, the damping of the next step, and how far vertices moved on average, metres.
        """
        posed = self.posed(state)
        pull, normal = self._equations(state, posed, stage)
        cost_after = partial(self._cost_after, state, pull, stage)
        room = self.prior.room(state)
        step, damping = improving_step(normal, damping, cost_after, self.config.damping, room)
        if step is None:
            return state, self.config.damping, 0.0
        moved = state.moved(step)
        return moved, damping, float(np.linalg.norm(self.posed(moved).vertices - posed.vertices, axis=1).mean())

    def _equations(self, state: State, posed: PosedPoints, stage: Stage) -> tuple[_Pull, Normal]:
        """Return what pulls at a body, and the normal equations of that and of the priors."""
        pull = _Pull.joined(self._pulls(posed, stage))
        return pull, self.held(state, stage) + pull.equations(self.kernel, posed)

    def _cost_after(self, state: State, pull: _Pull, stage: Stage, step: FloatArray) -> float:
        moved = state.moved(step)
        return self.held(moved, stage).cost + pull.cost(self.posed(moved).vertices)

    def _held(self, state: State, stage: Stage) -> Normal:
        """Return the pull to the start: a quadratic in the unknowns, without ties between pose and shape."""
        num = state.pose.size
        strength = np.full(len(self.prior_matrix), stage.prior_pose_samples)
        strength[num : num + len(state.betas)] = stage.prior_shape_samples
        root = np.sqrt(strength)
        hessian = self.prior_matrix * (root[:, None] * root)
        offset = state.vector - self.start.vector
        return Normal(hessian, hessian @ offset, 0.5 * float(offset @ hessian @ offset))

    def _pulls(self, posed: PosedPoints, stage: Stage) -> list[_Pull]:
        """Pair body and scan, both directions, and return what the pairs pull at."""
        surface, index = self.surface(posed), self.fine if stage.fine else self.coarse
        vertices = self.vertices if stage.fine else self.vertices[:: self.config.coarse_stride]
        both = (
            partial(index.pair_scan, surface, np.arange(len(index.points)), exact=stage.fine),
            partial(index.pair_body, surface, vertices),
        )
        scan, body = side_by_side(lambda pair: pair(reach=stage.reach, min_cosine=stage.min_cosine), both)
        inside = self._inside_factor(scan) if stage.fine else np.full(len(posed.vertices), self.config.coarse_inside)
        for leg in self.hidden:
            # What hides a leg says nothing of it, but that it is inside.
            inside[np.isin(self.owner, leg.parts)] = 0.0
        heights = scan.heights
        smooth = heights[self.neighbours].mean(1) if stage.fine else heights
        return [
            *self._both_pulls(scan, smooth, inside, stage, 1.0),
            *self._both_pulls(body, body.heights, inside, stage, self.config.body_share),
            *self._hanging(posed),
        ]

    def _hanging(self, posed: PosedPoints) -> list[_Pull]:
        """Return what draws the ankles of legs that are not seen below their hips, where the trunk is upright."""
        if not self.hidden or not is_upright(posed.joints, self.joint_names):
            return []
        heels = np.repeat([leg.heel for leg in self.hidden], 2)
        goals = np.repeat(posed.joints[[leg.hip for leg in self.hidden]], 2, axis=0)
        directions = np.tile([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], (len(self.hidden), 1))
        weights = np.full(len(heels), self.config.hang**-2.0)
        return [_Pull(np.stack([heels] * 3, 1), np.tile([1.0, 0.0, 0.0], (len(heels), 1)), goals, directions, weights)]

    def _both_pulls(
        self, pairs: Pairs, heights: FloatArray, inside: FloatArray, stage: Stage, share: float
    ) -> tuple[_Pull, _Pull]:
        """Return what pairs pull at: along the normals, and a little across them, from every fourth: it stops sliding.

        Weights are those of a Geman-McClure kernel at the distances as they are: at fixed weights the cost lies above
        the robust one and touches it here, so a step that lowers it lowers the robust one too.
        """
        outside = heights > 0
        kernel = np.where(outside, 2.0, 1.0) * stage.scale
        weight = geman_mcclure((pairs.distances / kernel) ** 2)[1] * pairs.is_valid
        weight *= np.where(outside, self.config.outside, np.einsum("nj,nj->n", pairs.bary, inside[pairs.corners]))
        noise = max(self.config.noise, 0.4 * stage.scale)
        weight *= share * self.config.effective_samples / (len(weight) * noise**2)
        keep = np.flatnonzero(weight > 1e-6 * max(float(weight.max()), 1e-12))
        # By their own numbers: one pair more or less must not exchange all others.
        some = keep[keep % self.config.tangential_stride == 0]
        offset = pairs.body_points[some] - pairs.scan_points[some]
        beside = offset - np.einsum("ni,ni->n", offset, pairs.directions[some])[:, None] * pairs.directions[some]
        across = beside / np.maximum(np.linalg.norm(beside, axis=1), 1e-9)[:, None]
        weak = self.config.tangential_stride * self.config.tangential_weight * weight[some]
        return _Pull.of(pairs, keep, pairs.directions[keep], weight[keep]), _Pull.of(pairs, some, across, weak)

    def _inside_factor(self, scan: Pairs) -> FloatArray:
        """Return how strongly the body is drawn outwards at each vertex (V,): 1 for skin, little under cloth.

        Skin is where the scan lies within a fit's error of the body. The spread is that of locally averaged heights, so
        a noisy sensor does not look like cloth, pooled over the part that each joint moves.
        """
        heights = np.abs(scan.heights[self.neighbours].mean(1))
        owner = self.owner[scan.nearest_corners]
        overall = _median(heights[scan.is_valid])
        spread = np.full(self.kernel.num_joints, overall)
        for joint in np.unique(owner[scan.is_valid]):
            own = heights[scan.is_valid & (owner == joint)]
            share = len(own) / (len(own) + self.config.shrinkage_samples)
            spread[joint] = share * _median(own) + (1 - share) * overall
        factor = np.clip((self.config.skin / np.maximum(1.48 * spread, 1e-6)) ** 2, self.config.min_skin_weight, 1.0)
        return factor[self.owner]


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _neighbours(points: FloatArray, count: int) -> IntArray:
    """Return the indices (P, count) of the nearest points of each, itself included."""
    count = min(count, len(points))
    return np.asarray(cKDTree(points).query(points, k=count)[1], np.int64).reshape(len(points), count)


def _even_vertices(body: BodyModel, count: int, seed: int = 0) -> IntArray:
    """Choose at most ``count`` vertices evenly by area, without repeats."""
    areas = vertex_areas(np.asarray(body.data.v_template, np.float64), body.data.faces)
    count = min(count, int((areas > 0).sum()))
    return np.random.default_rng(seed).choice(len(areas), count, replace=False, p=areas / areas.sum())


def prior_information(
    body: BodyModel,
    start: State,
    sigma: Tensor | None,
    config: RefineConfig,
    axes: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> FloatArray:
    """Return the information (P, P) that the vertices of a start hold, as if one of them had been seen.

    Args:
        body: The model.
        start: Where they are known.
        sigma: One-sigma of each vertex, metres; None = all alike.
        config: What sigma None stands for, and the least that is used.
        axes: Factors on what is known along x, y and z.
    """
    index, weights = representatives(body.data, 6)
    sigmas = np.full(body.num_vertices, config.sigma) if sigma is None else sigma.detach().cpu().double().numpy()
    information = weights / np.maximum(believed(sigmas[index], config.guess), config.sigma_floor) ** 2
    kernel = Kinematics(body.data, index)
    rows = kernel.jacobian(kernel.pose(start)).reshape(3 * len(index), -1)
    hessian = gauss_newton(rows, np.zeros(len(rows)), np.outer(information, axes).ravel()).hessian
    shape = slice(3 * kernel.num_joints, -3)
    hessian[shape, : shape.start] = hessian[: shape.start, shape] = 0
    hessian[shape, shape.stop :] = hessian[shape.stop :, shape] = 0
    return hessian / len(index)
