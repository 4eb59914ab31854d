"""The body of a frame from where it was expected: no network is asked, and what is known of the pose comes along."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64

from lvdreg.base.shapes import FloatArray
from lvdreg.base.timing import one_blas_thread
from lvdreg.body.model import BodyModel
from lvdreg.fit.correspond import Target, scan_distances
from lvdreg.fit.kinematics import State, left_jacobian
from lvdreg.fit.known import Known
from lvdreg.fit.scan import RefineConfig, Refiner
from lvdreg.fit.solver import Normal, damped_step

STEPS = 6
KERNEL = 0.03
"""Metres, scale of the first robust kernel: so far a limb may be from where it was expected."""
SWEEPS, SWEPT_KERNEL = 6, 0.05
"""Steps in which the whole body moves first where nothing is known of its velocity, and their kernel, metres."""


@dataclass(frozen=True)
class Tracked:
    """A body and how well it is known.

    Attributes:
        state: The body, world frame.
        information: (Q, Q) of small turns after each joint's rotation, radians, and of the place, metres: the second
            derivatives of the cost at its least, so the inverse of the posterior's covariance as far as the cost is
            quadratic and its weights are true.
        freedom: Of how many of the Q unknowns the scan tells, and not the priors: the effective number of parameters
            (MacKay 1992).
        residual_mm: Mean distance from the scan to the body.
    """

    state: State
    information: Float32[np.ndarray, "Q Q"]
    freedom: float
    residual_mm: float


def tracking(config: RefineConfig) -> RefineConfig:
    """Return the settings of a refinement that begins near its end."""
    last = config.kernel[1]
    return replace(config, max_iterations=min(STEPS, config.max_iterations), kernel=(max(KERNEL, last), last))


@one_blas_thread()
def track_body(
    body: BodyModel, start: State, target: Target, config: RefineConfig, known: Known, sweep: bool = False
) -> Tracked:
    """Refine a body from where it was expected.

    Args:
        body: The model.
        start: Where it was expected, world frame.
        target: The scan in the same frame.
        config: See ``tracking``.
        known: Of the person, the shape above all.
        sweep: Whether the whole body is moved to its place first: its velocity is not known.

    Raises:
        RegistrationError: the target has hardly any points.
    """
    target.check()
    if sweep:
        wide = replace(config, kernel=(max(SWEPT_KERNEL, config.kernel[1]), config.kernel[1]))
        start = _swept(Refiner(body, start, target, None, wide, known))
    refiner = Refiner(body, start, target, None, config, known)
    refiner, state, _ = refiner.refined()
    distance = scan_distances(target, refiner.surface(refiner.posed(state)))
    told, prior = refiner.information(state), refiner.held(state, refiner.stage(1.0)).hessian
    whole, held = turn_information(state, told), turn_information(state, prior)
    floor = 1e-9 * float(whole.diagonal().max()) * np.eye(len(whole))
    freedom = len(whole) - float(np.trace(np.linalg.solve(whole + floor, held + floor)))
    return Tracked(state, whole.astype(np.float32), freedom, 1000 * float(distance.mean()))


def _swept(refiner: Refiner) -> State:
    """Move and turn a body as a whole: points to planes, as the first steps of a refinement have them."""
    state, stage = refiner.start, refiner.stage(0.0)
    size = state.vector.size
    whole = np.r_[:3, size - 3 : size]
    for _ in range(SWEEPS):
        normal = refiner.equations(state, stage)
        step = np.zeros(size)
        step[whole] = damped_step(Normal(normal.hessian[np.ix_(whole, whole)], normal.gradient[whole], 0.0), 0.0)
        state = state.moved(step)
    return state


def turn_information(state: State, hessian: Float64[np.ndarray, "P P"]) -> Float64[np.ndarray, "Q Q"]:
    """Return the information of small turns and of the place, the shape held, from that of ``State.vector``."""
    num = state.pose.size
    # exp(r + d) = exp(r) exp(J d) with the right Jacobian, the left one of -r.
    steps = np.linalg.inv(left_jacobian(-state.pose))

    def changed(rows: FloatArray) -> FloatArray:
        turned = np.einsum("jab,jan->jbn", steps, rows[:num].reshape(-1, 3, rows.shape[1]))
        return np.concatenate([turned.reshape(num, -1), rows[num:]])

    kept = np.r_[:num, num + len(state.betas) : len(hessian)]
    return changed(changed(hessian[np.ix_(kept, kept)]).T)
