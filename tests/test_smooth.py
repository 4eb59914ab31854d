"""Smoothing over time against the dense least squares that it stands for."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lvdreg.fit import smooth
from lvdreg.fit.smooth import WIDTHS, likeliest_widths, smooth_places, smooth_rotations

RNG = np.random.default_rng(0)


def drawn(frames: int, width: float, noise: float, joints: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths with accelerations of a width, and noisy measurements: truth, measured (N, J, 3), covariances."""
    rng = np.random.default_rng(1)
    true = np.cumsum(np.cumsum(width * rng.normal(size=(frames, joints, 3)), 0), 0)
    spread = np.tile(noise**2 * np.eye(3), (frames, joints, 1, 1))
    return true, true + noise * rng.normal(size=true.shape), spread


def test_means_and_covariances_are_those_of_the_dense_problem() -> None:
    frames, width = 7, 0.02
    _, measured, _ = drawn(frames, width, 0.05, 1)
    roots = RNG.normal(size=(frames, 1, 3, 3))
    spread = 0.002 * roots @ roots.transpose(0, 1, 3, 2) + 0.0005 * np.eye(3)
    seen, bends = np.arange(frames) != 3, 0.01 * RNG.normal(size=(frames, 1, 3))
    weights = RNG.uniform(0.3, 2, (frames, 1))
    found = smooth._smooth(measured, spread, seen, bends, np.array([width]), weights)
    H, b = np.zeros((3 * frames, 3 * frames)), np.zeros(3 * frames)
    for t in np.flatnonzero(seen):
        at = slice(3 * t, 3 * t + 3)
        H[at, at] += np.linalg.inv(spread[t, 0])
        b[at] += np.linalg.solve(spread[t, 0], measured[t, 0])
    for t in range(1, frames - 1):
        row = np.zeros((3, 3 * frames))
        for k, factor in ((t - 1, 1.0), (t, -2.0), (t + 1, 1.0)):
            row[:, 3 * k : 3 * k + 3] = factor * np.eye(3)
        H += weights[t, 0] / width**2 * row.T @ row
        b -= weights[t, 0] / width**2 * row.T @ bends[t, 0]
    assert np.allclose(found.means[:, 0].ravel(), np.linalg.solve(H, b), atol=1e-6)
    inverse = np.linalg.inv(H).reshape(frames, 3, frames, 3)
    assert np.allclose(found.covariances[:, 0], [inverse[t, :, t] for t in range(frames)], atol=1e-7)


@pytest.mark.parametrize("width", [0.0005, 0.01])
def test_widths_of_accelerations_are_found(width: float) -> None:
    _, measured, spread = drawn(120, width, 0.01)
    found = likeliest_widths(measured, spread, np.ones(120, bool), np.zeros_like(measured))
    step = WIDTHS[1] / WIDTHS[0]
    assert np.median(found) == pytest.approx(width, rel=step - 1)


def test_noise_goes_and_a_missing_frame_is_filled() -> None:
    true, measured, spread = drawn(60, 0.002, 0.02)
    seen = np.arange(60) != 30
    found = smooth_places(measured, spread, seen).means
    error, before = (np.linalg.norm(x - true, axis=-1) for x in (found, measured))
    assert error[seen].mean() < 0.5 * before[seen].mean()
    assert error[30].mean() < 0.02
    bend, before = (np.linalg.norm(np.diff(x - true, 2, axis=0), axis=-1).mean() for x in (found, measured))
    assert bend < before / 3


def test_a_jerk_stays_sharp() -> None:
    true = np.zeros((60, 1, 3))
    true[30:, 0, 0] = 0.3
    measured = true + 0.01 * RNG.normal(size=true.shape)
    found = smooth_places(measured, np.tile(1e-4 * np.eye(3), (60, 1, 1, 1)), np.ones(60, bool)).means
    assert np.abs(found - true)[[28, 29, 30, 31], 0, 0].max() < 0.05


def test_rotations_of_more_than_a_turn_are_smoothed_as_small_ones_are() -> None:
    frames, noise = 50, 0.05
    turn = Rotation.from_rotvec(np.outer(np.linspace(0, 4 * np.pi, frames), [0, 1.0, 0]))
    wobble = Rotation.from_rotvec(noise * RNG.normal(size=(frames, 3)))
    spread = np.tile(noise**2 * np.eye(3), (frames, 1, 1, 1))
    found = smooth_rotations((turn * wobble).as_rotvec()[:, None], spread, np.arange(frames) != 20)
    off = (turn.inv() * Rotation.from_rotvec(found.means[:, 0])).magnitude()
    assert off.mean() < 0.5 * wobble.magnitude().mean()
    base = Rotation.from_rotvec([0.4, -2.0, 1.0])
    moved = smooth_rotations((base * turn * wobble).as_rotvec()[:, None], spread, np.arange(frames) != 20)
    same = (base * Rotation.from_rotvec(found.means[:, 0])).inv() * Rotation.from_rotvec(moved.means[:, 0])
    assert same.magnitude().max() < 1e-6
