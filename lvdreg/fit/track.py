"""The body of a frame from that of the frame before: no network is asked, and what is known of the pose comes along."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from lvdreg.base.timing import one_blas_thread
from lvdreg.body.model import BodyModel
from lvdreg.fit.correspond import Target
from lvdreg.fit.known import Known
from lvdreg.fit.scan import RefineConfig, Refiner, report_of
from lvdreg.fit.solver import State, left_jacobian
from lvdreg.fit.vertices import Fit

STEPS = 10
KERNEL = 0.05
"""Metres, scale of the first robust kernel: so far a limb may be from where it was expected."""


def tracking(config: RefineConfig) -> RefineConfig:
    """Return the settings of a refinement that begins near its end."""
    return replace(
        config,
        max_iterations=min(STEPS, config.max_iterations),
        kernel=(max(KERNEL, config.kernel[1]), config.kernel[1]),
    )


@one_blas_thread()
def track_body(
    body: BodyModel, start: State, target: Target, config: RefineConfig, known: Known
) -> tuple[Fit, Float64[np.ndarray, "Q Q"]]:
    """Refine a body from where it was expected.

    Args:
        body: The model.
        start: Where it was expected, world frame.
        target: The scan in the same frame.
        config: See ``tracking``.
        known: Of the person, the shape above all.

    Returns:
        The refined body, and the covariance (Q, Q) of pose and place, in the order of ``State.vector`` without the
        betas: the posterior, as far as the cost is quadratic and its weights are true.

    Raises:
        RegistrationError: the target has hardly any points.
    """
    target.check()
    refiner = Refiner(body, start, target, None, config, known)
    refiner, state, is_at_rest = refiner.refined()
    hessian, num = refiner.information(state), len(state.betas)
    moving = np.r_[: state.pose.size, state.pose.size + num : len(hessian)]
    held = hessian[np.ix_(moving, moving)]
    covariance = np.linalg.inv(held + 1e-9 * float(np.diag(held).max()) * np.eye(len(held)))
    before = Fit(start.to_params(body.v_template), 1.0, 0.0, True)
    return report_of(body, before, target, refiner, state, is_at_rest), covariance


def turn_covariances(
    state: State, covariance: Float64[np.ndarray, "Q Q"]
) -> tuple[Float64[np.ndarray, "J 3 3"], Float64[np.ndarray, "3 3"]]:
    """Return the covariances of small turns after each joint's rotation (J, 3, 3), and of the place (3, 3)."""
    num = len(state.pose)
    blocks = covariance[: 3 * num, : 3 * num].reshape(num, 3, num, 3)[np.arange(num), :, np.arange(num)]
    # exp(r + d) = exp(r) exp(J d) with the right Jacobian, the left one of -r.
    right = left_jacobian(-state.pose)
    return right @ blocks @ right.transpose(0, 2, 1), covariance[3 * num :, 3 * num :]
