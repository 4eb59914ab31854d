"""Rotations and transforms: round trips, and values and gradients where the formulas are delicate."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lvdreg.geometry.frames import (
    is_reflected,
    is_similarity,
    rotmat_to_rotvec,
    rotvec_to_rotmat,
    scale_of,
    similarity,
    skew,
    transform_directions,
    transform_points,
)

unit = st.floats(-1, 1)
directions = st.tuples(unit, unit, unit).filter(lambda v: np.linalg.norm(v) > 0.1)
angles = st.one_of(
    st.floats(0, np.pi), st.sampled_from([0.0, 1e-12, 1e-7, 1e-4, 9.99e-4, 1.01e-3, np.pi - 1e-6, np.pi])
)


def rotvec(direction: tuple[float, float, float], angle: float) -> torch.Tensor:
    axis = np.array(direction) / np.linalg.norm(direction)
    return torch.from_numpy(axis * angle)


@settings(max_examples=40)
@given(directions, angles)
def test_rotmat_equals_scipy_and_is_a_rotation(direction: tuple[float, float, float], angle: float) -> None:
    vector = rotvec(direction, angle)
    matrix = rotvec_to_rotmat(vector)
    np.testing.assert_allclose(matrix.numpy(), Rotation.from_rotvec(vector.numpy()).as_matrix(), atol=1e-10)
    np.testing.assert_allclose((matrix @ matrix.T).numpy(), np.eye(3), atol=1e-10)


@settings(max_examples=40)
@given(directions, angles)
def test_round_trip_through_the_vector(direction: tuple[float, float, float], angle: float) -> None:
    """The vector comes back; at exactly half a turn its sign is free, so compare rotations there."""
    vector = rotvec(direction, angle)
    back = rotmat_to_rotvec(rotvec_to_rotmat(vector))
    assert back.norm() <= np.pi + 1e-9
    np.testing.assert_allclose(rotvec_to_rotmat(back).numpy(), rotvec_to_rotmat(vector).numpy(), atol=1e-9)
    if angle < np.pi - 1e-3:
        np.testing.assert_allclose(back.numpy(), vector.numpy(), atol=1e-8)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 9.9e-4, 1.1e-3, 1.0, np.pi - 1e-3])
def test_gradients_of_the_exponential(angle: float) -> None:
    vector = rotvec((0.2, -0.5, 0.7), angle).requires_grad_()
    assert torch.autograd.gradcheck(rotvec_to_rotmat, vector)


@pytest.mark.parametrize("angle", [1e-8, 3e-4, 9.99e-4, 1.001e-3, 0.01])
def test_small_angles_are_exact_to_the_last_digits(angle: float) -> None:
    """Both sides of the switch to the series: sin and 1 - cos of the angle, relative to the angle."""
    matrix = rotvec_to_rotmat(torch.tensor([0.0, 0.0, angle], dtype=torch.float64))
    assert float(matrix[1, 0]) == pytest.approx(np.sin(angle), rel=1e-12)
    assert float(1 - matrix[0, 0]) == pytest.approx(2 * np.sin(angle / 2) ** 2, rel=1e-6, abs=1e-15)


def test_gradient_at_zero_is_the_cross_product() -> None:
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(rotvec_to_rotmat, zero)
    basis = torch.eye(3, dtype=torch.float64)
    for axis in range(3):
        torch.testing.assert_close(jacobian[..., axis], skew(basis[axis]))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.5, 2.0, np.pi - 1e-4])
@pytest.mark.parametrize("direction", [(1, 0.1, 0.2), (0.1, 1, 0.2), (0.1, 0.2, -1)])
def test_gradients_of_the_logarithm_along_rotations(direction: tuple[float, float, float], angle: float) -> None:
    """Perturb the rotation itself (matrices off the rotation group have no logarithm to differentiate)."""
    base = rotvec_to_rotmat(rotvec(direction, angle))
    nudge = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda n: rotmat_to_rotvec(base @ rotvec_to_rotmat(n)), nudge)


def test_batches_of_any_shape_and_float32() -> None:
    vectors = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    matrices = rotvec_to_rotmat(vectors)
    assert matrices.shape == (2, 5, 3, 3)
    assert matrices.dtype == torch.float32
    torch.testing.assert_close(matrices[1, 4], rotvec_to_rotmat(vectors[1, 4]))
    torch.testing.assert_close(rotmat_to_rotvec(matrices), vectors, rtol=1e-4, atol=1e-5)


def test_what_is_no_similarity_is_told() -> None:
    turn = rotvec_to_rotmat(rotvec((1, 0.2, 0.3), 1.0)).numpy()
    good = similarity(1000.0, turn, np.array([1.0, 2, 3]))
    assert is_similarity(good) and is_similarity(good @ np.diag([-1.0, 1, 1, 1])) and is_similarity(np.eye(4) * 1.0)
    assert is_similarity(good.astype(np.float32).astype(np.float64))
    bad = [good * 0, good + np.inf, good + np.nan, np.ones((4, 4)), good @ np.diag([1.0, 1, 1.01, 1]), good.T]
    bad += [np.diag([1.0, 1, 0, 1]), similarity(1e-320, turn, np.zeros(3)), np.diag([1.0, 1, 1, 2]), good + 1e300]
    assert not any(is_similarity(matrix) for matrix in bad)


@settings(max_examples=40)
@given(st.floats(0.01, 100), directions, st.floats(0, 3), st.tuples(unit, unit, unit))
def test_similarities_invert(
    scale: float, direction: tuple[float, float, float], angle: float, shift: tuple[float, float, float]
) -> None:
    rotation = rotvec_to_rotmat(rotvec(direction, angle)).numpy()
    T_world_scan = similarity(scale, rotation, np.array(shift))
    assert scale_of(T_world_scan) == pytest.approx(scale, rel=1e-9)
    points = np.random.default_rng(0).standard_normal((7, 3))
    moved = transform_points(T_world_scan, points)
    np.testing.assert_allclose(moved, scale * points @ rotation.T + shift, atol=1e-9)
    np.testing.assert_allclose(transform_points(np.linalg.inv(T_world_scan), moved), points, atol=1e-9)
    turned = transform_directions(T_world_scan, points)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(points, axis=1), atol=1e-9)


def test_torch_and_numpy_transforms_agree() -> None:
    T_world_scan = similarity(2.0, Rotation.from_euler("y", 40, degrees=True).as_matrix(), np.array([1.0, 2, 3]))
    points = np.random.default_rng(0).standard_normal((4, 3))
    on_torch = transform_points(torch.from_numpy(T_world_scan), torch.from_numpy(points))
    np.testing.assert_allclose(on_torch.numpy(), transform_points(T_world_scan, points))


def test_a_reflection_keeps_its_scale_and_outward_normals_outward() -> None:
    rotation = Rotation.from_euler("xyz", [20, 40, -70], degrees=True).as_matrix()
    T_world_scan = similarity(0.001, np.diag([-1.0, 1, 1]) @ rotation, np.array([1.0, 2, 3]))
    assert scale_of(T_world_scan) == pytest.approx(0.001)
    assert is_reflected(T_world_scan) and not is_reflected(similarity(2.0, rotation, np.zeros(3)))
    # On a sphere about the origin, a point is its own outward normal; its image is a sphere about the image's centre.
    normals = np.random.default_rng(0).standard_normal((9, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    moved = transform_points(T_world_scan, 5 * normals) - transform_points(T_world_scan, np.zeros(3))
    np.testing.assert_allclose(transform_directions(T_world_scan, normals), moved / 0.005, atol=1e-12)
