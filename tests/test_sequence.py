"""A body is followed through frames, found again where it was lost, smoothed, and written as an animation."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scans import scan_of, vertices_of
from scipy.spatial.transform import Rotation

import lvdreg
from lvdreg.base.errors import RegistrationError, ScanError, UsageError
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.boxes import Box, Size
from lvdreg.descent.scan import Views, yaws
from lvdreg.fit.known import Known
from lvdreg.fit.solver import Kinematics, State
from lvdreg.fit.track import track_body, tracking, turn_covariances
from lvdreg.fit.vertices import Fit
from lvdreg.pipeline.scan import FittedScan
from lvdreg.pipeline.sequence import gone_on
from lvdreg.result.motion import Motion
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.voxel.encoder import VoxelFeatures

BETAS = [0.5, -1.0, 0.8, 0.3]
NUM, MISSING = 7, 2
QUICK = {"refine_iterations": 4}


def params_at(body: BodyModel, t: int) -> BodyParams:
    """The toy walks along Z, turns, and swings its arms."""
    pose = torch.zeros(body.num_joints, 3, dtype=body.v_template.dtype)
    pose[0, 1], pose[2, 2], pose[4, 2] = 0.1 * t, 0.5 * np.sin(0.4 * t), 0.4 * np.cos(0.4 * t)
    return BodyParams(body.v_template.new_tensor(BETAS), pose, body.v_template.new_tensor([0, 0, 0.05 * t]))


def frame(body: BodyModel, t: int) -> Scan:
    target = scan_of(body, vertices_of(body, params_at(body, t)), 600)
    return scan_from_arrays(target.points, normals=target.normals, name=f"frame_{t}")


def fitted(body: BodyModel, scan: Scan) -> FittedScan:
    """What a frame is taken for by itself: the truth."""
    t = int(scan.name.removeprefix("frame_"))
    target = scan_of(body, vertices_of(body, params_at(body, t)), 600)
    views = Views(Box("+y", np.eye(4)), 1.0, yaws(1), VoxelFeatures(()), torch.zeros(9, 3), torch.zeros(1), True, {})
    vertices = torch.from_numpy(vertices_of(body, params_at(body, t))).float()
    fit = Fit(params_at(body, t), 1.0, 3.0, True)
    found = vertices, torch.full((body.num_vertices,), 0.03), Known(), fit, fit, Size("m", 1.0, False), np.eye(4), views
    return FittedScan(scan, target.points, target, target, body, *found, {}, "anny")


@pytest.fixture
def story(toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline with a toy body; the network knows the truth, and is asked for what ``asked`` lists."""
    module = import_module("lvdreg.pipeline.sequence")
    asked = list[str]()

    def fit_scan(scan: Scan | str, *_: Any) -> FittedScan:
        if isinstance(scan, str):
            raise ScanError("no such file")
        asked.append(scan.name)
        return fitted(toy_body, scan)

    def scan_of_source(source: Scan | str, *_: Any) -> Scan:
        if isinstance(source, str):
            raise ScanError("no such file")
        return source

    monkeypatch.setattr(module, "fit_scan", fit_scan)
    monkeypatch.setattr(module, "KEYS", 2)
    monkeypatch.setattr(module, "with_one_shape", lambda keys, *_: keys)
    monkeypatch.setattr(module, "scan_of", scan_of_source)
    monkeypatch.setattr(module, "clean_scan", lambda scan, _: scan)
    monkeypatch.setattr(module, "oriented_points", lambda scan, *_: (scan.points, scan.normals))
    return asked


@pytest.fixture
def frames(toy_body: BodyModel) -> list[Any]:
    found: list[Any] = [frame(toy_body, t) for t in range(NUM)]
    found[MISSING] = "missing.ply"
    return found


def errors_of(motion: Motion, body: BodyModel) -> np.ndarray:
    """Mean distance of vertices from the truth, frame by frame, metres."""
    kernel = Kinematics(body.data)
    posed = [
        kernel.pose(State(*each)).vertices
        for each in zip(motion.pose, [motion.betas] * NUM, motion.transl, strict=True)
    ]
    true = [vertices_of(body, params_at(body, t)) for t in range(NUM)]
    return np.array([np.linalg.norm(a - b, axis=1).mean() for a, b in zip(posed, true, strict=True)])


def test_frames_are_followed_and_a_missing_one_is_filled(story: Any, frames: list[Any], toy_body: BodyModel) -> None:
    motion = lvdreg.register_sequence(frames, fps=25, settings=QUICK)
    assert motion.how[MISSING] == "filled" and np.isnan(motion.residual_mm[MISSING])
    assert motion.how.count("alone") == len(story) == 2 and motion.how.count("forwards") > 1
    errors = errors_of(motion, toy_body)
    assert errors.max() < 0.02
    assert np.allclose(motion.betas, BETAS, atol=1e-6)
    assert motion.sigma_mm[MISSING] > np.median(motion.sigma_mm) > 0
    assert motion.velocities[1:-1, 0, 2] == pytest.approx(0.05 * 25, rel=0.2)


def test_what_is_lost_is_found_again(
    story: Any, frames: list[Any], toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("lvdreg.pipeline.sequence")
    monkeypatch.setattr(module, "LOST", (0.0, 0.0))
    motion = lvdreg.register_sequence(frames, fps=25, settings=QUICK)
    assert set(motion.how) == {"alone", "found again", "filled"} and len(story) == NUM - 1
    assert errors_of(motion, toy_body).max() < 0.02


def test_nobody_and_too_few_are_refused(story: Any) -> None:
    with pytest.raises(UsageError, match="2 to"):
        lvdreg.register_sequence(["one.ply"])
    with pytest.raises(UsageError, match="--fps"):
        lvdreg.register_sequence(["a.ply", "b.ply"], fps=0)
    with pytest.raises(RegistrationError, match="frame 1: no such file"):
        lvdreg.register_sequence(["a.ply", "b.ply"])


def test_what_turns_and_moves_goes_on() -> None:
    states = [State(np.array([[0.0, 0.4 * t, 0.0]]), np.zeros(2), np.array([0.1 * t, 0, 0])) for t in range(3)]
    after = gone_on(states[0], states[1])
    assert np.allclose(after.pose, states[2].pose) and np.allclose(after.transl, states[2].transl)


def test_covariances_of_turns_are_those_of_small_turns_after(toy_body: BodyModel) -> None:
    rng = np.random.default_rng(0)
    kernel = Kinematics(toy_body.data)
    state = replace(kernel.zero_state(), pose=rng.normal(size=(kernel.num_joints, 3)))
    root = 1e-4 * rng.normal(size=(3 * kernel.num_joints + 3,) * 2)
    turns, place = turn_covariances(state, root @ root.T)
    drawn = rng.normal(size=(20_000, len(root))) @ root.T
    after = Rotation.from_rotvec(state.pose[1] + drawn[:, 3:6])
    small = (Rotation.from_rotvec(state.pose[1]).inv() * after).as_rotvec()
    assert np.allclose(np.cov(small.T), turns[1], atol=0.05 * np.abs(turns[1]).max())
    assert np.allclose(place, (root @ root.T)[-3:, -3:])


def test_a_body_is_drawn_from_beside_to_its_place(toy_body: BodyModel) -> None:
    target = scan_of(toy_body, vertices_of(toy_body, params_at(toy_body, 3)), 1500)
    config = tracking(lvdreg.pipeline.config.RegisterConfig().refine)
    start = State.from_params(params_at(toy_body, 2))
    fit, covariance = track_body(toy_body, start, target, config, Known(betas=np.array(BETAS)))
    found = vertices_of(toy_body, fit.params)
    assert np.linalg.norm(found - vertices_of(toy_body, params_at(toy_body, 3)), axis=1).mean() < 0.01
    assert len(covariance) == start.pose.size + 3 and np.linalg.eigvalsh(covariance).min() > 0
