"""Photos of one person refined together: one shape and, where the person stood still, one pose.

Each photo has normal equations of its own (fit/photo.py). They are scattered into those of all photos, by a table that
says which unknown of a photo is which of all, and the step is gathered back. The shape is shared, and with it what a
metre is in each photo; of who stood still the pose, too. Root orientation, place and unit of the crop are each photo's.

Networks, keypoints, clothes and priors err alike in all photos of a person. So photos do not become surer by their
number: everything that a photo says, the priors with it, is added as it is, and a photo that is given twice changes
nothing. What another photo adds is another side: what is depth in one, and held loosely, is width in the other. So
where another looks from aside, the network's depth is not held against outlines any more, but as what it is: a guess.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.base.timing import one_blas_thread
from lvdreg.body.model import BodyModel
from lvdreg.fit.evidence import Evidence2D
from lvdreg.fit.kinematics import State
from lvdreg.fit.photo import PhotoRefiner, PhotoStart, SilhouetteConfig
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.solver import Normal, Room, damped_step, geman_mcclure
from lvdreg.fit.vertices import Fit, plausibility_warnings

Shared = Literal["shape", "pose"]
"""What photos of one person have in common: the shape, or the shape and the pose but for the root's orientation."""
AGREEING = 0.5
"""Radians: what a photo has further than this from the pose that all agree on counts little: scale of the kernel."""
AGREEING_ROUNDS = 8
SEEN_ASIDE = 0.2
"""As much of what the network knows of a place across the line of sight it knows along it: 28 mm and 60 (LOG.md, "Eight
minutes of a GPU for the image network"), squared."""


@one_blas_thread()
def refine_together(
    body: BodyModel,
    starts: Sequence[PhotoStart],
    config: SilhouetteConfig,
    held: RefineConfig,
    shared: Shared = "shape",
) -> list[tuple[Fit, Evidence2D]]:
    """Refine pose, shape and place of one person's fits, and how long the crops' units are, against all photos.

    Args:
        body: The model of the fits.
        starts: One for each photo, at the same height.
        config: Settings.
        held: What a sigma of None stands for, and the priors.
        shared: What is the same in all photos.

    Returns:
        For each photo its fit, whose ``residual_mm`` is the mean distance of the mask's outline to the body's, and what
        the photo shows at the size that was found. Betas are the same in all, bit for bit; so is ``pose[1:]`` where it
        is shared. Not differentiable.
    """
    refiners = refiners_of(body, starts, config, held, shared)
    index = joint_index(refiners[0].start, len(refiners), shared)
    states, motion = agreed_states(refiners, shared), np.zeros(len(refiners))
    for i in range(config.max_iterations):
        states, motion = _advance(refiners, states, index, i / max(config.max_iterations - 1, 1))
    return [
        (_fit(body, refiner, state.wrapped(), start.fit.scale, bool(moved < config.tolerance)), refiner.shown)
        for refiner, state, start, moved in zip(refiners, states, starts, motion, strict=True)
    ]


def agreed_fits(
    body: BodyModel, starts: Sequence[PhotoStart], config: SilhouetteConfig, held: RefineConfig, shared: Shared
) -> list[tuple[Fit, Evidence2D]]:
    """Return the fits with what photos share, by how well each knows it; nothing is refined, and one alone stays."""
    if len(starts) == 1:
        return [(starts[0].fit, starts[0].shown)]
    return refine_together(body, starts, replace(config, max_iterations=0), held, shared)


def refine_to_photo(
    body: BodyModel,
    fit: Fit,
    shown: Evidence2D,
    sigma: Float[Tensor, " V"] | None,
    config: SilhouetteConfig,
    held: RefineConfig,
) -> tuple[Fit, Evidence2D]:
    """Refine a fit against one photo; see ``refine_together`` and ``PhotoStart``."""
    return refine_together(body, [PhotoStart(fit, shown, sigma)], config, held)[0]


def refiners_of(
    body: BodyModel, starts: Sequence[PhotoStart], config: SilhouetteConfig, held: RefineConfig, shared: Shared
) -> list[PhotoRefiner]:
    """Return each photo's part, with what it must know of the others."""
    states = [State.from_params(start.fit.params) for start in starts]
    aside = seen_aside(states) if shared == "pose" else np.zeros(len(states))
    factors = config.prior_depth_factor ** (1 - aside) * SEEN_ASIDE**aside
    refiners = [
        PhotoRefiner(body, state, start.shown, start.sigma, replace(config, prior_depth_factor=float(factor)), held)
        for state, start, factor in zip(states, starts, factors, strict=True)
    ]
    # Nobody's volume is that of the photo in which the network has the person thinnest.
    log_volume = float(np.mean([refiner.log_volume for refiner in refiners]))
    for refiner in refiners:
        refiner.log_volume = log_volume
    return refiners


def seen_aside(states: Sequence[State]) -> Float64[np.ndarray, " N"]:
    """Return how well some other photo sees what is depth in each (N,): the squared sine between lines of sight."""
    from scipy.spatial.transform import Rotation

    # The line of sight is z; the body sees it so.
    sight = np.stack([Rotation.from_rotvec(state.pose[0]).as_matrix()[2] for state in states])
    return np.asarray(1 - ((sight @ sight.T) ** 2).min(1)).clip(0, 1)


def joint_index(state: State, count: int, shared: Shared) -> Int64[np.ndarray, "N P"]:
    """Return which unknown of all photos each photo's unknowns are: of ``State.vector``, and the log of the unit.

    Args:
        state: Any photo's.
        count: How many photos there are, N.
        shared: What they have in common.
    """
    if count == 1:
        return np.arange(state.vector.size + 1)[None]
    is_shared = np.zeros(state.vector.size + 1, bool)
    is_shared[3 if shared == "pose" else state.pose.size : state.pose.size + len(state.betas)] = True
    num_shared, num_own = int(is_shared.sum()), int((~is_shared).sum())
    index = np.empty((count, len(is_shared)), np.int64)
    index[:, is_shared] = np.arange(num_shared)
    index[:, ~is_shared] = num_shared + np.arange(count * num_own).reshape(count, num_own)
    return index


def scattered(normals: Sequence[Normal], index: Int64[np.ndarray, "N P"]) -> Normal:
    """Add photos' normal equations up to those of all unknowns; a step of these, indexed by ``index``, is each one's.

    Args:
        normals: Each photo's.
        index: ``joint_index``.
    """
    size = int(index.max()) + 1
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    for normal, at in zip(normals, index, strict=True):
        hessian[np.ix_(at, at)] += normal.hessian
        gradient[at] += normal.gradient
    return Normal(hessian, gradient, float(sum(normal.cost for normal in normals)))


def agreed_states(refiners: Sequence[PhotoRefiner], shared: Shared) -> list[State]:
    """Return each photo's start with the shape, and the pose if that is shared, that all photos agree on.

    How well each knows each joint is what its network holds. A photo that has a joint far from the others, as who is
    seen from behind and taken for seen from the front has it, is not followed there, nor held there later on.
    """
    starts = [refiner.start for refiner in refiners]
    if len(starts) == 1:
        return starts
    num_pose = starts[0].pose.size
    shape = slice(num_pose, num_pose + len(starts[0].betas))
    vectors = np.stack([state.vector for state in starts])
    agreed = vectors.copy()
    parts = [slice(3 * j, 3 * j + 3) for j in range(1, num_pose // 3)] if shared == "pose" else []
    for part in (*parts, shape):
        information = np.stack([refiner.prior_matrix[part, part] for refiner in refiners])
        agreed[:, part], trust = agreement(vectors[:, part], information, np.inf if part == shape else AGREEING)
        for refiner, share in zip(refiners, np.sqrt(trust), strict=True):
            refiner.prior_matrix[part] *= share
            refiner.prior_matrix[:, part] *= share
    return [State(vector[:num_pose].reshape(-1, 3), vector[shape], vector[shape.stop :]) for vector in agreed]


def agreement(
    values: Float64[np.ndarray, "N D"], information: Float64[np.ndarray, "N D D"], scale: float
) -> tuple[Float64[np.ndarray, " D"], Float64[np.ndarray, " N"]]:
    """Return the mean of values by how well each is known, robustly, and what each counts in it (N,), at most 1.

    Args:
        values: (N, D).
        information: (N, D, D) of each.
        scale: Of the kernel, in the unit of the values.
    """
    floor = 1e-6 * max(float(np.trace(information.sum(0))), 1e-12) * np.eye(values.shape[1])
    known, mean, trust = information + floor, np.median(values, axis=0), np.ones(len(values))
    for _ in range(AGREEING_ROUNDS):
        trust = geman_mcclure(((values - mean) ** 2).sum(1) / scale**2)[1]
        weight = trust[:, None, None] * known
        mean = np.linalg.solve(weight.sum(0), (weight @ values[..., None]).sum(0)[:, 0])
    return mean, trust


def _advance(
    refiners: Sequence[PhotoRefiner], states: Sequence[State], index: IntArray, progress: float
) -> tuple[list[State], FloatArray]:
    """Take one step; returns the new states and how far each photo's vertices moved on average (N,), metres."""
    normals = [refiner.equations(state, progress) for refiner, state in zip(refiners, states, strict=True)]
    joint = scattered(normals, index)
    low, high = np.empty((2, len(joint.gradient)))
    for refiner, state, at in zip(refiners, states, index, strict=True):
        room = refiner.prior.room(state, extra=1)
        low[at], high[at] = room.low, room.high
    steps = damped_step(joint, refiners[0].config.damping, Room(low, high))[index]
    moved = [state.moved(step[:-1]) for state, step in zip(states, steps, strict=True)]
    motion = []
    for refiner, before, after, step in zip(refiners, states, moved, steps, strict=True):
        refiner.resize(float(step[-1]))
        apart = refiner.kernel.pose(after).vertices - refiner.kernel.pose(before).vertices
        motion.append(float(np.linalg.norm(apart, axis=1).mean()))
    return moved, np.array(motion)


def _fit(body: BodyModel, refiner: PhotoRefiner, state: State, scale: float, is_at_rest: bool) -> Fit:
    warnings = plausibility_warnings(body.data, refiner.prior, state)
    residual_mm = 1000 * refiner.distance(state)
    return Fit(state.to_params(body.v_template), scale, residual_mm, is_at_rest, tuple(warnings))
