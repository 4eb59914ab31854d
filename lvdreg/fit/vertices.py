"""Predicted vertices to body parameters: a closed-form start, then a few robust second-order steps.

First a similarity brings the vertices to where the template stands (and to its size, where that is free), so that the
same vertices elsewhere, turned or in another unit give the same fit there. The start turns every part onto its vertices
by weighted Kabsch, root to tips, and solves shape and translation by linear least squares, in turns (as smplfitter
does, Sarandi 2024; written anew). Then Levenberg-Marquardt polishes all unknowns under a Geman-McClure kernel whose
scale shrinks to the noise that is found, so that wrong vertices, whole limbs too, lose their say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.spatial.transform import Rotation

from lvdreg.base.errors import RegistrationError
from lvdreg.base.lengths import length_field
from lvdreg.base.shapes import BoolArray, FloatArray
from lvdreg.base.timing import one_blas_thread
from lvdreg.body.model import BodyData, BodyModel, BodyParams, joined, some_vertices
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.fit.known import NOTHING, PLACE_SAMPLES, PLACE_SIGMA, Known, SeenVertices
from lvdreg.fit.priors import PosePrior, PriorConfig
from lvdreg.fit.solver import (
    FIRST_DAMPING,
    Normal,
    Room,
    bounded_minimum,
    damped_step,
    gauss_newton,
    geman_mcclure,
    improving_step,
)
from lvdreg.geometry.frames import nearest_rotation, similarity, transform_points
from lvdreg.geometry.mesh import farthest_points, vertex_areas
from lvdreg.geometry.metrics import weighted_median


@dataclass(frozen=True)
class FitConfig:
    """Vertices to parameters; lengths in metres. Chosen by hand, not tuned."""

    max_iterations: int = 20
    alternations: int = 5
    vertices_per_part: int = 32
    sigma: float = length_field(0.02)
    """One-sigma of a vertex when none is given, metres."""
    sigma_floor: float = length_field(0.004)
    """No vertex is believed to be surer than this, metres."""
    guess: float = length_field(np.inf)
    """Where the sigma is larger than this, metres, a vertex is a guess; see ``believed``."""
    tolerance: float = length_field(5e-5)
    """Largest motion of a vertex, metres, at which the fit has converged."""
    first_reach: float = length_field(0.3)
    """How far vertices may lie from the first closed-form start before they lose their say."""
    outlier: float = length_field(0.08)
    """Predicted vertices further than this from the fit are said to be wrong."""
    prior: PriorConfig = field(default_factory=PriorConfig)


NOISE_UNSTATED, NOISE_FREE_SCALE, NOISE_STATED = (0.02, 3.0), (0.25, 3.0), (0.5, 3.0)
"""The noise may be found to be this much smaller or larger than the sigma; a stated one is taken at its word, or parts
that are said to be uncertain would regain their say where the rest fits well. With a free scale, exact data would make
a valley so narrow and bent that steps along it are tiny."""
INDEPENDENT_SHARE = 0.2
"""A network's errors are alike over a limb: only so many of its vertices count as independent against the priors."""
KERNEL_SIGMAS = 3.0
"""Scale of the robust kernel in sigmas: errors beyond it count less and less."""
UNDOUBTED = 100.0
"""Its scale for what the user knows, metres."""


@dataclass(frozen=True)
class Fit:
    """A fitted body in the world frame.

    ``scale`` is 1 unless the size was free: then multiply world coordinates by it to reach the parameters' metres.
    ``residual_mm`` is the weighted mean distance between what was given and the fit. ``converged``: the last step moved
    vertices by less than the tolerance. ``was_refined``: False where a refinement only made it worse and was undone.
    ``sigma_posterior`` (V,): how far vertices may be off as far as the refinement's equations tell, metres; None of a
    body that was not refined to a scan. ``seen``: vertices that were looked at closely meanwhile.
    """

    params: BodyParams
    scale: float
    residual_mm: float
    converged: bool
    warnings: tuple[str, ...] = ()
    was_refined: bool = True
    sigma_posterior: FloatArray | None = None
    seen: SeenVertices | None = None


@dataclass(frozen=True)
class Found:
    """What a closer look found.

    Attributes:
        posed: The body with the parts posed that were seen.
        seen: Where their vertices are.
        joints: (J,) which joints these parts hang on.
    """

    posed: Fit
    seen: SeenVertices
    joints: Bool[np.ndarray, " J"]


Look = Callable[[Fit], Found | None]
"""Looks closely at parts of a body that lies near the scan; None where it sees nothing."""


@dataclass(frozen=True)
class _Data:
    """Targets of the kernel's vertices: positions (S, 3), one-sigma (S,), and weights (S,) of mean one.

    Positions and sigma are metres in the frame of the template. ``sure`` (S,): what the user knows, and no kernel
    doubts.
    """

    targets: FloatArray
    sigma: FloatArray
    weights: FloatArray
    stated: bool
    noise_range: tuple[float, float]
    sure: BoolArray


@one_blas_thread()
def fit_body(
    body: BodyModel,
    vertices: Float[torch.Tensor, "V 3"],
    sigma: Float[torch.Tensor, " V"] | None,
    config: FitConfig,
    free_scale: bool = False,
    known: Known = NOTHING,
) -> Fit:
    """Fit pose and shape to vertices in the body's own order.

    Moved, turned and, where ``free_scale``, scaled vertices give the moved, turned and scaled fit.

    Args:
        body: Model to fit.
        vertices: Where each vertex should be, world frame, metres (any unit where ``free_scale``); errors may be large
            and some parts wrong.
        sigma: One-sigma of each vertex, same unit; None = all alike. Floored at ``config.sigma_floor``.
        config: Settings.
        free_scale: Let the size of the world float; the prior on shape decides it, so it is a guess.
        known: What else is known of the person; places in the frame of the vertices.
    Returns:
        Fit, not differentiable.
    Raises:
        RegistrationError: vertices are not finite, their number is not the body's, or they all lie in one point.
    """
    target = _checked(body, vertices)
    sigmas = None if sigma is None else sigma.detach().cpu().double().numpy()
    index, weights = representatives(body.data, config.vertices_per_part)
    there, own = target[index], some_vertices(body.data, index)
    sure = np.zeros(len(index), bool)
    if known.places is not None:
        own, there = joined(own, known.places.body(body.data)), np.vstack([there, known.places.points])
        sure = np.arange(len(there)) >= len(index)
        weights = np.append(weights, np.full(int(sure.sum()), PLACE_SAMPLES))
    kinematics, prior = Kinematics(own), known.prior(body.data, config.prior, in_world=False)
    certainty = weights * ~sure
    if sigmas is not None:
        certainty[~sure] /= sigmas[index] ** 2
    size, T_world_rest = _place_template(kinematics, there, certainty, free_scale)
    spread = np.full(len(index), config.sigma) if sigmas is None else believed(sigmas[index] / size, config.guess)
    data = _Data(
        transform_points(np.linalg.inv(T_world_rest).astype(np.float64), there),
        np.append(np.maximum(spread, config.sigma_floor), np.full(int(sure.sum()), PLACE_SIGMA)),
        weights,
        sigmas is not None,
        NOISE_STATED if sigmas is not None else NOISE_FREE_SCALE if free_scale else NOISE_UNSTATED,
        sure,
    )
    polished = _polish(kinematics, prior, data, _closed_form(kinematics, prior, data, config), config, free_scale)
    distance = np.exp(polished.log_scale) * np.linalg.norm(_errors(kinematics, data, polished), axis=1)
    warnings = [
        *plausibility_warnings(body.data, prior, polished.state),
        *_outlier_warnings(distance, data, config),
        *_stall_warnings(polished),
    ]
    scale = float(np.exp(polished.log_scale)) / size
    state = kinematics.moved(polished.state, T_world_rest[:3, :3] / size, scale * T_world_rest[:3, 3])
    residual_mm = float(1000 * np.average(distance, weights=data.weights * ~sure))
    return Fit(state.to_params(body.v_template), scale, residual_mm, polished.converged, tuple(warnings))


def believed(sigma: FloatArray, guess: float) -> FloatArray:
    """Return the sigma that vertices count with: little more than stated up to ``guess``, far more beyond it.

    The errors of unsure vertices are alike: a network that does not see a leg puts all of it a metre down, or aside. So
    many that agree are worth no more than one, and what a whole person is like tells more.
    """
    return sigma * (1 + (sigma / guess) ** 4)


def _checked(body: BodyModel, vertices: torch.Tensor) -> FloatArray:
    if vertices.shape != (body.num_vertices, 3):
        raise RegistrationError(
            f"expected vertices of shape ({body.num_vertices}, 3) for body {body.data.name}, "
            f"got {tuple(vertices.shape)}; predict with weights made for this body"
        )
    target = vertices.detach().cpu().double().numpy()
    if not np.isfinite(target).all():
        raise RegistrationError("expected finite vertices, got NaN or infinity; check the scan and the weights")
    return target


def representatives(data: BodyData, per_part: int) -> tuple[Int64[np.ndarray, " S"], Float64[np.ndarray, " S"]]:
    """Choose vertices that stand for the whole body: spread over each joint's part, tips of fingers included.

    Returns:
        Indices (S,) and weights (S,) of mean one that grow with the square root of the area each stands for: evenly by
        area alone, fingers would have no say; evenly by vertex alone, they would have most of it.
    """
    points, owner = np.asarray(data.v_template, np.float64), data.weights.argmax(1)
    areas = vertex_areas(points, data.faces)
    chosen, weights = [], []
    for joint in range(len(data.parents)):
        members = np.flatnonzero(owner == joint)
        # The pelvis and the spine are large and carry the shape: they get more.
        share = areas[members].sum() / areas.sum()
        part = members[farthest_points(points[members], int(per_part * (1 + 12 * share)))]
        chosen.append(part)
        weights.append(np.full(len(part), np.sqrt(areas[members].sum() / max(len(part), 1))))
    index, weight = np.concatenate(chosen), np.concatenate(weights)
    return index, weight / weight.mean()


def _closed_form(kinematics: Kinematics, prior: PosePrior, data: _Data, config: FitConfig) -> State:
    """Return a start near the answer: rotations and shape in turns, with the kernel's scale shrinking in between."""
    state, base_weight = kinematics.zero_state(), data.weights / (data.sigma / np.median(data.sigma)) ** 2
    robust = np.ones(len(base_weight))
    for i in range(config.alternations):
        state = _turn_parts(kinematics, prior, data, state, base_weight * robust)
        state = _solve_shape(kinematics, data, state, base_weight * robust, prior)
        errors = np.linalg.norm(kinematics.pose(state).vertices - data.targets, axis=1)
        reach = max(config.first_reach * 0.6**i, 2.5 * weighted_median(errors, data.weights * ~data.sure))
        robust = np.where(data.sure, 1.0, geman_mcclure((errors / reach) ** 2)[1])
    return state.wrapped()


def _place_template(
    kinematics: Kinematics, targets: FloatArray, weights: FloatArray, free_scale: bool
) -> tuple[float, FloatArray]:
    """Return the size and ``T_world_rest``, the similarity that brings the template about onto its posed vertices.

    Each part has a similarity of its own in closed form (Umeyama 1991). The size is the median of theirs, so that
    neither bent limbs nor wrong ones spoil it; the turn is the root's.

    Raises:
        RegistrationError: the size is sought of vertices that lie in one point.
    """
    moments = _part_moments(kinematics, kinematics.template, targets, weights)
    size = 1.0
    if free_scale:
        own = _part_moments(kinematics, kinematics.template, kinematics.template, weights)
        spreads = np.trace(own, axis1=1, axis2=2)
        matches = [float(np.trace(nearest_rotation(moment).T @ moment)) for moment in moments]
        size = weighted_median(np.array(matches) / np.maximum(spreads, 1e-12), spreads)
        if size < 1e-9:
            raise RegistrationError("expected the vertices of a body, got them all in one point; check the scan")
    turn = nearest_rotation(moments[0])
    middle, there = (np.average(points, axis=0, weights=weights) for points in (kinematics.template, targets))
    return size, similarity(size, turn, there - size * turn @ middle)


def _part_moments(kinematics: Kinematics, rest: FloatArray, targets: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the moments (J, 3, 3) of targets over vertices at rest, both about their middles, of each joint's part."""
    # Parts overlap softly: the skinning weight of a vertex says how much it tells of a joint's rotation.
    share = kinematics.weights * weights[:, None]
    mass = share.sum(0) + 1e-12
    centre_rest, centre_target = (share.T @ x / mass[:, None] for x in (rest, targets))
    moments = np.einsum("sj,sa,sb->jab", share, targets, rest, optimize=True)
    return moments - mass[:, None, None] * centre_target[:, :, None] * centre_rest[:, None, :]


def _turn_parts(kinematics: Kinematics, prior: PosePrior, data: _Data, state: State, weights: FloatArray) -> State:
    """Rotate each part onto its vertices, root first; the pull to the parent's rotation holds small or lost parts."""
    moments = _part_moments(kinematics, kinematics.template + kinematics.shapedirs @ state.betas, data.targets, weights)
    noise = np.median(data.sigma) ** 2
    spread = np.where(np.isinf(prior.sigma), 10.0, prior.sigma).max(1)
    Rs = np.empty_like(moments)
    for j, p in enumerate(kinematics.parents):
        guess = np.zeros((3, 3)) if p < 0 else Rs[p]
        Rs[j] = nearest_rotation(moments[j] + noise / spread[j] ** 2 * guess)
    Rs_local = [Rs[j] if p < 0 else Rs[p].T @ Rs[j] for j, p in enumerate(kinematics.parents)]
    return State(Rotation.from_matrix(np.stack(Rs_local)).as_rotvec(), state.betas, state.transl)


def _solve_shape(kinematics: Kinematics, data: _Data, state: State, weights: FloatArray, prior: PosePrior) -> State:
    """Solve betas and translation for given rotations: linear, with the population as prior, within its limits."""
    posed = kinematics.pose(state)
    jacobian = kinematics.shape_jacobian(posed)
    residual = (posed.vertices - data.targets).reshape(-1)
    information = np.repeat(weights / np.median(data.sigma) ** 2, 3)
    normal = gauss_newton(jacobian.reshape(len(residual), -1), residual, information)
    num = len(state.betas)
    hessian, gradient = normal.hessian.copy(), normal.gradient.copy()
    pull, slope, _ = prior.shape_terms(state.betas)
    hessian[:num, :num] += pull
    gradient[:num] += slope
    room = prior.room(state)
    room = Room(room.low[state.pose.size :], room.high[state.pose.size :])
    step = bounded_minimum(hessian + 1e-9 * np.eye(len(hessian)), gradient, room)
    return State(state.pose, state.betas + step[:num], state.transl + step[num:])


@dataclass(frozen=True)
class _Polished:
    """Where a fit is: the body in metres, which ``exp(-log_scale)`` shrinks onto the targets, and how it got there."""

    state: State
    log_scale: float = 0.0
    converged: bool = False
    stalled: bool = False
    """No step improved it, though its gradient asks for a long one."""

    def moved(self, step: FloatArray) -> "_Polished":
        """Return the same after a step in the unknowns, the last of which is the log scale where that is free."""
        num = self.state.vector.size
        return _Polished(self.state.moved(step[:num]), self.log_scale + float(step[num:].sum()))


def _polish(
    kinematics: Kinematics, prior: PosePrior, data: _Data, state: State, config: FitConfig, free_scale: bool
) -> _Polished:
    """Minimise robust vertex distances plus priors by Levenberg-Marquardt."""
    at, damping = _Polished(state.wrapped()), FIRST_DAMPING
    for _ in range(config.max_iterations):
        noise = _noise_scale(kinematics, data, at)
        here = _equations(kinematics, prior, data, at, noise, free_scale)
        # What asks for a short step is at rest; what only took one, because longer ones were no better, is not.
        room = prior.room(at.state, extra=int(free_scale))
        asked = at.moved(damped_step(here, min(damping, FIRST_DAMPING), room))
        motion = np.abs(kinematics.pose(asked.state).vertices - kinematics.pose(at.state).vertices).max()
        cost_after = partial(_cost_after, kinematics, prior, data, at, noise)
        step, damping = improving_step(here, damping, cost_after, room=room)
        is_at_rest = bool(motion < config.tolerance)
        if step is not None:
            at = at.moved(step)
            at = replace(at, state=at.state.wrapped())
        if step is None or is_at_rest:
            return replace(at, converged=is_at_rest, stalled=not is_at_rest)
    return at


def _errors(kinematics: Kinematics, data: _Data, at: _Polished) -> FloatArray:
    """Return model minus target (S, 3), in units of the targets."""
    return kinematics.pose(at.state).vertices * np.exp(-at.log_scale) - data.targets


def _noise_scale(kinematics: Kinematics, data: _Data, at: _Polished) -> float:
    """Return how far true noise is from the stated sigma: a robust ratio, at most 3, at least what means exact data."""
    ratio = np.linalg.norm(_errors(kinematics, data, at), axis=1) / data.sigma
    # The median length of a standard normal 3-vector is 1.538.
    return float(np.clip(weighted_median(ratio, data.weights * ~data.sure) / 1.538, *data.noise_range))


def _robust_cost(errors: FloatArray, data: _Data, noise: float) -> tuple[float, FloatArray]:
    """Return the Geman-McClure cost over vertices and the weight of each vertex's squared error."""
    reach = np.where(data.sure, UNDOUBTED, KERNEL_SIGMAS * noise * data.sigma)
    share = INDEPENDENT_SHARE if data.stated else 1.0
    information = np.where(data.sure, 1.0, share / noise**2) * data.weights / data.sigma**2
    cost, weight = geman_mcclure((errors**2).sum(1) / reach**2)
    return float((information * reach**2 * cost).sum()), information * weight


def _cost_after(
    kinematics: Kinematics, prior: PosePrior, data: _Data, start: _Polished, noise: float, step: FloatArray
) -> float:
    at = start.moved(step)
    return _robust_cost(_errors(kinematics, data, at), data, noise)[0] + prior.equations(at.state).cost


def _equations(
    kinematics: Kinematics, prior: PosePrior, data: _Data, at: _Polished, noise: float, free_scale: bool
) -> Normal:
    """Return the normal equations of data and priors; the last unknown is the log scale when it is free."""
    posed, shrink = kinematics.pose(at.state), np.exp(-at.log_scale)
    errors = posed.vertices * shrink - data.targets
    cost, weight = _robust_cost(errors, data, noise)
    # Whatever is shrunk: errors in metres of the body, and their weights by as much.
    normal = kinematics.vertex_equations(posed, errors / shrink, weight * shrink**2, free_scale)
    normal = replace(normal, cost=cost)
    held = prior.equations(at.state)
    pad = int(free_scale)
    return normal + Normal(np.pad(held.hessian, (0, pad)), np.pad(held.gradient, (0, pad)), held.cost)


def _stall_warnings(polished: _Polished) -> list[str]:
    if not polished.stalled:
        return []
    return ["the fit to the predicted vertices stalled, as no step improves it: look at the pose in the picture"]


def _outlier_warnings(distance: FloatArray, data: _Data, config: FitConfig) -> list[str]:
    """Say in one line that many predicted vertices lie far from the fit."""
    rejected = float(np.average(distance > config.outlier, weights=data.weights * ~data.sure))
    if rejected <= 0.1:
        return []
    apart = f"{rejected:.0%} of the predicted vertices lie over {round(100 * config.outlier, 1):g} cm from the fit"
    return [f"{apart}: the pose may be unlike those learned, look at the picture"]


def plausibility_warnings(data: BodyData, prior: PosePrior, state: State) -> list[str]:
    """Return one plain line for each way in which a body is unlike a person: shape or joints at their limits."""
    warnings = []
    extreme = int((np.abs(state.betas) > prior.beta_caps).sum())
    if extreme:
        warnings.append(
            f"{extreme} shape parameters lie beyond those of nearly all people: take the shape for a rough one"
        )
    excess = np.degrees(np.abs(prior.excess(state.pose)).max(1))
    joints = [data.joint_names[j] for j in np.flatnonzero(excess > 10)]
    if joints:
        warnings.append(
            f"joints bent over 10 degrees beyond their limits, look at them in the picture: {', '.join(joints)}"
        )
    return warnings
