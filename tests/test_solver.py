"""The posed body's closed-form Jacobian against autograd through the torch body model, and the damped step."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_info, threadpool_limits

from lvdreg.base.timing import one_blas_thread
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.fit import kinematics
from lvdreg.fit.kinematics import Kinematics, State, left_jacobian
from lvdreg.fit.scan import refine_body
from lvdreg.fit.solver import (
    FIRST_DAMPING,
    FloatArray,
    Normal,
    Room,
    bounded_minimum,
    damped_step,
    gauss_newton,
    geman_mcclure,
    improving_step,
)
from lvdreg.fit.together import refine_to_photo
from lvdreg.fit.vertices import fit_body


def random_body(seed: int = 0, correctives: bool = True) -> BodyData:
    """A body with no meaning but every array in use: 6 joints in a branching tree, 20 vertices, 4 shape directions."""
    rng = np.random.default_rng(seed)
    weights = rng.random((20, 6)) ** 3
    return BodyData(
        name="random",
        v_template=rng.normal(size=(20, 3)).astype(np.float32),
        shapedirs=0.3 * rng.normal(size=(20, 3, 4)).astype(np.float32),
        posedirs=0.2 * rng.normal(size=(20, 3, 45)).astype(np.float32) if correctives else None,
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        faces=np.array([[0, 1, 2], [2, 3, 4]]),
        parents=np.array([-1, 0, 1, 0, 3, 3]),
        joint_names=("pelvis", "spine1", "spine2", "left_hip", "left_knee", "thing"),
        J_template=rng.normal(size=(6, 3)).astype(np.float32),
        J_shapedirs=0.3 * rng.normal(size=(6, 3, 4)).astype(np.float32),
        mirror_vertices=np.arange(20),
        mirror_joints=np.arange(6),
        provenance={},
    )


def random_state(seed: int = 1) -> State:
    rng = np.random.default_rng(seed)
    return State(rng.normal(size=(6, 3)), rng.normal(size=4), rng.normal(size=3))


@pytest.mark.parametrize("correctives", [False, True])
def test_kernel_poses_and_differentiates_as_the_body_model_does(correctives: bool) -> None:
    data = random_body(correctives=correctives)
    body, state, index = BodyModel(data).double(), random_state(), np.array([3, 0, 17])
    kernel = Kinematics(data, index)
    posed = kernel.pose(state)

    def vertices(x: torch.Tensor) -> torch.Tensor:
        params = BodyParams(betas=x[18:22], pose=x[:18].reshape(6, 3), transl=x[22:])
        return body(params).vertices[torch.from_numpy(index)]

    x = torch.from_numpy(state.vector)
    expected = torch.autograd.functional.jacobian(vertices, x)
    np.testing.assert_allclose(posed.vertices, vertices(x).numpy(), atol=1e-6)
    np.testing.assert_allclose(kernel.jacobian(posed), expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("limb_joints", [1, 3, 6])
def test_directional_rows_and_equations_are_those_of_the_jacobian(
    limb_joints: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinematics, "LIMB_JOINTS", limb_joints)
    rng, data = np.random.default_rng(4), random_body(correctives=False)
    # Most vertices follow few joints, and single vertices are points, too.
    kernel = Kinematics(replace(data, weights=np.where(data.weights < 0.2, 0, data.weights)))
    posed = kernel.pose(random_state())
    corners, bary, directions = rng.integers(0, 20, (40, 3)), rng.random((40, 3)), rng.normal(size=(40, 3))
    bary[::3, 1:] = 0
    expected = np.einsum("ni,nicp,nc->np", bary, kernel.jacobian(posed)[corners], directions)
    np.testing.assert_allclose(kernel.directional_rows(posed, corners, bary, directions), expected, atol=1e-12)
    residual, weights = rng.normal(size=40), rng.random(40)
    whole = gauss_newton(expected, residual, weights)
    parts = kernel.directional_equations(posed, corners, bary, directions, residual, weights)
    np.testing.assert_allclose(parts.hessian, whole.hessian, atol=1e-11)
    np.testing.assert_allclose(parts.gradient, whole.gradient, atol=1e-11)
    assert parts.cost == pytest.approx(whole.cost)


@pytest.mark.parametrize("log_scale", [False, True])
@pytest.mark.parametrize("correctives", [False, True])
def test_equations_of_vertices_are_those_of_the_jacobian(correctives: bool, log_scale: bool) -> None:
    rng, data = np.random.default_rng(5), random_body(correctives=correctives)
    kernel = Kinematics(replace(data, weights=np.where(data.weights < 0.2, 0, data.weights)))
    posed, errors, weights = kernel.pose(random_state()), rng.normal(size=(20, 3)), rng.random(20)
    rows = kernel.jacobian(posed).reshape(60, -1)
    if log_scale:
        rows = np.hstack([rows, -posed.vertices.reshape(60, 1)])
    whole = gauss_newton(rows, errors.ravel(), np.repeat(weights, 3))
    found = kernel.vertex_equations(posed, errors, weights, log_scale)
    np.testing.assert_allclose(found.hessian, whole.hessian, atol=1e-10)
    np.testing.assert_allclose(found.gradient, whole.gradient, atol=1e-11)
    assert found.cost == pytest.approx(whole.cost)


def test_left_jacobian_is_the_derivative_of_the_exponential_at_zero_too() -> None:
    np.testing.assert_allclose(left_jacobian(np.zeros((1, 3)))[0], np.eye(3))
    near, far = np.array([[1e-4, 2e-5, 0]]), np.array([[1.1e-4, 2e-5, 0]])
    np.testing.assert_allclose(left_jacobian(near), left_jacobian(far), atol=1e-5)


def test_a_full_step_solves_a_linear_problem_and_unheld_unknowns_stay() -> None:
    rng = np.random.default_rng(0)
    jacobian = np.hstack([rng.normal(size=(30, 4)), np.zeros((30, 1))])
    truth = np.array([1.0, -2, 3, 0.5, 0])
    normal = gauss_newton(jacobian, -jacobian @ truth, np.ones(30))
    np.testing.assert_allclose(damped_step(normal, 0.0), truth, atol=1e-6)
    assert normal.cost == pytest.approx(0.5 * ((jacobian @ truth) ** 2).sum())


@pytest.mark.parametrize("seed", range(6))
def test_a_bounded_step_stays_within_its_room_and_is_the_best_of_what_did_not_stop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root, gradient = rng.normal(size=(12, 8)), 5 * rng.normal(size=8)
    hessian, room = root.T @ root + 0.1 * np.eye(8), Room(-rng.random(8), rng.random(8))
    step = bounded_minimum(hessian, gradient, room)
    assert (step >= room.low).all() and (step <= room.high).all()
    is_free = (step > room.low) & (step < room.high)
    np.testing.assert_allclose((hessian @ step + gradient)[is_free], 0, atol=1e-9)
    assert not is_free.all(), "the bounds are to matter here"
    wide = Room(np.full(8, -np.inf), np.full(8, np.inf))
    np.testing.assert_array_equal(bounded_minimum(hessian, gradient, wide), bounded_minimum(hessian, gradient, None))
    # Without coupling the best step is the free one, clipped.
    diagonal = np.diag(np.diag(hessian))
    clipped = np.clip(-gradient / np.diag(hessian), room.low, room.high)
    np.testing.assert_allclose(bounded_minimum(diagonal, gradient, room), clipped)


def test_what_lies_outside_of_its_room_is_brought_inside() -> None:
    step = bounded_minimum(np.eye(2), np.zeros(2), Room(np.array([-np.inf, 0.5]), np.array([np.inf, 2.0])))
    np.testing.assert_allclose(step, [0, 0.5])


def test_geman_mcclure_weight_is_the_slope_of_its_cost() -> None:
    squared, step = np.linspace(0, 5, 11), 1e-6
    slope = (geman_mcclure(squared + step)[0] - geman_mcclure(squared)[0]) / step
    np.testing.assert_allclose(geman_mcclure(squared)[1], 2 * slope, atol=1e-5)


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_fits_use_one_blas_thread_and_give_the_others_back() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with pytest.raises(ZeroDivisionError), one_blas_thread(), one_blas_thread():
            assert blas_threads() == {1}
            raise ZeroDivisionError
        assert blas_threads() == before


def test_blas_is_limited_until_the_last_thread_has_left_and_not_after() -> None:
    def entered() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(one_blas_thread())
        return stack

    # Also where the thread that calls lvdreg's threads has set a limit of its own.
    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        before = blas_threads()
        stacks = [thread.submit(entered).result() for thread in (first, second)]
        assert blas_threads() == {1}
        first.submit(stacks[0].close).result()
        assert blas_threads() == {1}
        second.submit(stacks[1].close).result()
        assert blas_threads() == before


def test_what_computes_with_matrices_keeps_to_one_blas_thread() -> None:
    for entry in (fit_body, refine_body, refine_to_photo):
        assert entry.__wrapped__.__name__ == entry.__name__, "these are the places where it matters"  # type: ignore[attr-defined]


def test_moving_a_state_moves_its_body() -> None:
    kernel, state, rng = Kinematics(random_body()), random_state(), np.random.default_rng(2)
    turn, offset = Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3)
    expected = kernel.pose(state).vertices @ turn.T + offset
    np.testing.assert_allclose(kernel.pose(kernel.moved(state, turn, offset)).vertices, expected, atol=1e-6)


def test_steps_are_damped_until_they_improve_and_none_is_taken_that_does_not() -> None:
    normal = Normal(np.eye(2), np.array([1.0, -2.0]), 2.5)

    def steep(step: FloatArray) -> float:
        """Its slope is as stated, but it curves a hundred times as much."""
        return float(2.5 + normal.gradient @ step + 50 * step @ step)

    step, damping = improving_step(normal, FIRST_DAMPING, steep)
    assert step is not None and steep(step) < 2.5
    assert damping > FIRST_DAMPING
    assert improving_step(normal, FIRST_DAMPING, lambda step: 2.5 + float(step @ step))[0] is None
    right = improving_step(normal, FIRST_DAMPING, lambda step: 2.5 + float(normal.gradient @ step + 0.5 * step @ step))
    assert right[0] is not None and right[1] < FIRST_DAMPING
