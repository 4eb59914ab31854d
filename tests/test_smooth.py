"""Smoothing over time against the dense least squares that it stands for."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lvdreg.fit import smooth
from lvdreg.fit.smooth import Measured, Smoothed, smooth_poses, solve_band


def informations(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Random information in which all unknowns are tied."""
    roots = np.random.default_rng(seed).normal(size=(count, size, size))
    return 300 * roots @ roots.transpose(0, 2, 1) / size


def walked(frames: int, width: float, noise: float, joints: int = 3) -> tuple[Rotation, np.ndarray, Measured]:
    """Rotations and places whose accelerations have a width, and measurements of them with noise: truth, measured."""
    rng = np.random.default_rng(1)
    turns, place = (np.cumsum(np.cumsum(width * rng.normal(size=(frames, n, 3)), 0), 0) for n in (joints, 1))
    true = Rotation.from_rotvec(turns.reshape(-1, 3))
    rotvecs = (true * Rotation.from_rotvec(noise * rng.normal(size=(frames * joints, 3)))).as_rotvec()
    size = 3 * joints + 3
    told = [noise**-2.0 * np.eye(size)] * frames
    placed = place[:, 0] + noise * rng.normal(size=(frames, 3))
    return true, place[:, 0], Measured(rotvecs.reshape(frames, joints, 3), placed, told, np.full(frames, float(size)))


def smoothed(measured: Measured, rounds: int = smooth.ROUNDS) -> Smoothed:
    return smooth_poses(measured, lambda pose, place, covariance: float(np.trace(covariance)), rounds)


def off(true: Rotation, pose: np.ndarray) -> np.ndarray:
    """Radians (N, J) between rotations."""
    return np.reshape((true.inv() * Rotation.from_rotvec(pose.reshape(-1, 3))).magnitude(), pose.shape[:2])


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_steps_and_covariances_are_those_of_the_dense_problem(frames: int) -> None:
    rng, groups = np.random.default_rng(0), 2
    size, told = 3 * groups, list[np.ndarray | None](informations(frames, 3 * groups))
    if frames > 3:
        told[3] = None
    offsets, bends = rng.normal(size=(frames, groups, 3)), rng.normal(size=(max(frames - 2, 0), groups, 3))
    precision = rng.uniform(20, 400, bends.shape[:2])
    found = solve_band(told, offsets, bends, precision)
    H, b = np.zeros((size * frames, size * frames)), np.zeros(size * frames)
    for t, own in enumerate(told):
        at = slice(size * t, size * t + size)
        if own is not None:
            H[at, at] += own
            b[at] += own @ offsets[t].ravel()
    for t in range(frames - 2):
        row = np.zeros((size, size * frames))
        for k, factor in enumerate((1.0, -2.0, 1.0)):
            row[:, size * (t + k) : size * (t + k + 1)] = factor * np.eye(size)
        weight = np.repeat(precision[t], 3)
        H += row.T @ (weight[:, None] * row)
        b -= row.T @ (weight * bends[t].ravel())
    assert np.allclose(found.steps.ravel(), np.linalg.solve(H, b), atol=1e-5)
    inverse = np.linalg.inv(H).reshape(frames, size, frames, size)
    for t in range(frames):
        assert len(found.blocks[t]) == min(3, frames - t)
        assert all(np.allclose(block, inverse[t + k, :, t], atol=1e-7) for k, block in enumerate(found.blocks[t]))
    for t in range(frames - 2):
        mean = bends[t] + found.steps[t] - 2 * found.steps[t + 1] + found.steps[t + 2]
        row = np.zeros((size, size * frames))
        for k, factor in enumerate((1.0, -2.0, 1.0)):
            row[:, size * (t + k) : size * (t + k + 1)] = factor * np.eye(size)
        spread = np.diag(row @ np.linalg.inv(H) @ row.T).reshape(groups, 3)
        assert np.allclose(found.bent(bends[t], t), (mean**2 + spread).sum(1), rtol=1e-5)


@pytest.mark.parametrize(("width", "wrong"), [(0.008, 1.0), (0.006, 2.0)])
def test_widths_and_scale_are_found(width: float, wrong: float) -> None:
    _, _, measured = walked(40, width, 0.01, 6)
    told = [each * wrong**2 for each in measured.information if each is not None]
    found = smoothed(Measured(measured.pose, measured.place, told, measured.freedom))
    # Student's t has a tail: its width is narrower than the Gaussian's that was drawn from.
    assert np.median(found.widths) == pytest.approx(width, rel=0.4)
    assert found.scale == pytest.approx(wrong, rel=0.2)


def test_noise_goes_and_what_is_missing_is_filled() -> None:
    true, place, measured = walked(40, 0.004, 0.02)
    told = list(measured.information)
    told[20] = told[21] = None
    found = smoothed(Measured(measured.pose, measured.place, told, measured.freedom))
    seen = np.array([each is not None for each in told])
    assert off(true, found.pose)[seen].mean() < 0.6 * off(true, measured.pose)[seen].mean()
    assert off(true, found.pose)[~seen].mean() < 0.03
    assert np.linalg.norm(found.place - place, axis=1)[~seen].max() < 0.04
    assert found.spread[~seen].min() > 1.5 * np.median(found.spread)
    bend, before = (np.linalg.norm(np.diff(x - place, 2, axis=0), axis=1).mean() for x in (found.place, measured.place))
    assert bend < before / 3


def test_what_another_joint_makes_up_for_is_moved_with_it() -> None:
    # Only the sum of two joints' turns about x is known well: noise of each is as large as that of the other, reversed.
    frames, rng = 40, np.random.default_rng(3)
    wobble = 0.1 * rng.normal(size=frames)
    pose = np.zeros((frames, 2, 3))
    pose[:, 0, 0], pose[:, 1, 0] = wobble, -wobble
    row = np.zeros(9)
    row[0] = row[3] = 1.0
    told = [1e6 * np.outer(row, row) + 100 * np.eye(9)] * frames
    found = smoothed(Measured(pose, np.zeros((frames, 3)), told, np.full(frames, 9.0)))
    assert np.abs(found.pose[:, 0, 0] + found.pose[:, 1, 0]).max() < 0.005
    assert np.abs(np.diff(found.pose[:, 0, 0], 2)).mean() < 0.2 * np.abs(np.diff(wobble, 2)).mean()


def test_a_jerk_stays_sharp() -> None:
    rng, frames = np.random.default_rng(0), 30
    true = np.zeros((frames, 1, 3))
    true[15:, 0, 0] = 0.3
    told = [1e4 * np.eye(6)] * frames
    pose = true + 0.01 * rng.normal(size=true.shape)
    found = smoothed(Measured(pose, np.zeros((frames, 3)), told, np.full(frames, 6.0)))
    assert np.abs(found.pose - true)[[13, 14, 15, 16], 0, 0].max() < 0.05


def test_more_than_a_turn_is_smoothed_as_small_turns_are() -> None:
    frames, noise = 24, 0.05
    turn = Rotation.from_rotvec(np.outer(np.linspace(0, 4 * np.pi, frames), [0, 1.0, 0]))
    wobble = Rotation.from_rotvec(noise * np.random.default_rng(0).normal(size=(frames, 3)))
    told = [None if t == 12 else noise**-2.0 * np.eye(6) for t in range(frames)]

    def found(turned: Rotation) -> np.ndarray:
        about = turned.as_rotvec()[:, None], np.zeros((frames, 3)), told, np.full(frames, 6.0)
        return smoothed(Measured(*about)).pose

    pose = found(turn * wobble)
    assert off(turn, pose).mean() < 0.5 * wobble.magnitude().mean()
    base = Rotation.from_rotvec([0.4, -2.0, 1.0])
    assert off(base * Rotation.from_rotvec(pose[:, 0]), found(base * turn * wobble)).max() < 1e-6


def test_windows_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, measured = walked(60, 0.01, 0.01, 1)
    whole = smoothed(measured, 3)
    monkeypatch.setattr(smooth, "WINDOW", 30)
    monkeypatch.setattr(smooth, "MARGIN", 20)
    parts = smoothed(measured, 3)
    assert np.abs(parts.pose - whole.pose).max() < 1e-6
    assert np.abs(parts.place - whole.place).max() < 1e-6


@pytest.mark.parametrize("frames", [1, 2])
def test_too_few_frames_to_bend_stay_as_they_are(frames: int) -> None:
    _, _, measured = walked(frames, 0.01, 0.01)
    assert np.allclose(smoothed(measured).pose, measured.pose, atol=1e-9)
