"""A body is followed through frames, found again where it was lost, smoothed; a run that was stopped goes on."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scans import scan_of, vertices_of
from scipy.spatial.transform import Rotation

import lvdreg
from lvdreg.base.errors import RegistrationError, ScanError, UsageError
from lvdreg.body.chosen import Chosen
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.cli.sequence import parse_frames
from lvdreg.descent.boxes import Box, Size
from lvdreg.descent.scan import Views, yaws
from lvdreg.fit.correspond import Target
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.fit.known import Known
from lvdreg.fit.track import Tracked, track_body, tracking, turn_information
from lvdreg.fit.vertices import Fit
from lvdreg.pipeline.config import RegisterConfig
from lvdreg.pipeline.frames import PERSON
from lvdreg.pipeline.scan import FittedScan
from lvdreg.pipeline.sequence import gone_on
from lvdreg.result.motion import Motion
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.voxel.encoder import VoxelFeatures

BETAS = [0.5, -1.0, 0.8, 0.3]
NUM, MISSING = 7, 2
SURE = 0.002


def params_at(body: BodyModel, t: int) -> BodyParams:
    """The toy walks along Z, turns, and swings its arms."""
    pose = torch.zeros(body.num_joints, 3, dtype=body.v_template.dtype)
    pose[0, 1], pose[2, 2], pose[4, 2] = 0.1 * t, 0.5 * np.sin(0.4 * t), 0.4 * np.cos(0.4 * t)
    return BodyParams(body.v_template.new_tensor(BETAS), pose, body.v_template.new_tensor([0, 0, 0.05 * t]))


def frame(body: BodyModel, t: int) -> Scan:
    target = scan_of(body, vertices_of(body, params_at(body, t)), 600)
    return scan_from_arrays(target.points, normals=target.normals, name=f"frame_{t}")


def fitted(body: BodyModel, scan: Scan) -> FittedScan:
    """What a frame is taken for by itself: the truth, in a world of its own."""
    t = int(scan.name.removeprefix("frame_"))
    target = scan_of(body, vertices_of(body, params_at(body, t)), 600)
    views = Views(Box("+y", np.eye(4)), 1.0, yaws(1), VoxelFeatures(()), torch.zeros(9, 3), torch.zeros(1), True, {})
    vertices = torch.from_numpy(vertices_of(body, params_at(body, t))).float()
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec([0, 0.3 * t, 0]).as_matrix(), [0.2 * t, 0, 0]
    moved = Kinematics(body.data).moved(State.from_params(params_at(body, t)), T[:3, :3], T[:3, 3])
    fit = Fit(moved.to_params(body.v_template), 1.0, 3.0, True)
    found = vertices, torch.full((body.num_vertices,), SURE), Known(), fit, fit, Size("m", 1.0, False), T, views
    return FittedScan(scan, target.points, target, target, body, *found, {}, "anny")


@pytest.fixture
def story(toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pipeline with a toy body; the network knows the truth, and says what it was asked for."""
    module = import_module("lvdreg.pipeline.sequence")
    asked = list[str]()

    def scan_of_source(source: Scan | str | Path, *_: Any) -> Scan:
        if isinstance(source, Scan):
            return source
        if not Path(source).exists():
            raise ScanError("no such file")
        return frame(toy_body, int(Path(source).read_text().split()[0]))

    def fit_scan(source: Scan | str | Path, *_: Any) -> FittedScan:
        scan = scan_of_source(source)
        asked.append(scan.name)
        return fitted(toy_body, scan)

    monkeypatch.setattr(module, "fit_scan", fit_scan)
    monkeypatch.setattr(module, "KEYS", 2)
    monkeypatch.setattr(module, "smooth_poses", partial(module.smooth_poses, rounds=3))
    monkeypatch.setattr(module, "_shape", lambda *_: np.array(BETAS))
    monkeypatch.setattr(module, "choose", lambda *_: Chosen(toy_body, toy_body))
    monkeypatch.setattr(module, "scan_of", scan_of_source)
    monkeypatch.setattr(module, "clean_scan", lambda scan, _: scan)
    monkeypatch.setattr(module, "oriented_points", lambda scan, *_: (scan.points, scan.normals))
    return asked


@pytest.fixture
def frames(toy_body: BodyModel) -> list[Any]:
    found: list[Any] = [frame(toy_body, t) for t in range(NUM)]
    found[MISSING] = "missing.ply"
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for t in set(range(NUM)) - {MISSING}:
        (tmp_path / f"frame_{t}.ply").write_text(f"{t} ")
    return [tmp_path / f"frame_{t}.ply" for t in range(NUM)]


@pytest.fixture
def followed(toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Frames are followed at once: what is left of where they were expected is a tenth.

    Returns:
        Forgets what was followed, and interrupts at that number; returns the frames that are followed from now on.
        Scans in which nobody is, and bodies that do not begin at their place if that is wanted, do not fit.
    """
    numbers = {frame(toy_body, t).points.tobytes(): t for t in range(NUM)}
    done, stop_at, strict, empty = list[int](), [99], [False], set[int]()

    def track(body: BodyModel, start: State, target: Target, *_: Any) -> Tracked:
        if len(done) == stop_at[0]:
            raise KeyboardInterrupt
        done.append(numbers[target.points.tobytes()])
        true = State.from_params(params_at(body, done[-1]))
        pose, place = (a + 0.1 * (b - a) for a, b in ((true.pose, start.pose), (true.transl, start.transl)))
        size = pose.size + 3
        is_off = done[-1] in empty or (strict[0] and bool(np.abs(start.transl - true.transl).max() > 1e-3))
        told = 1e4 * np.eye(size, dtype=np.float32)
        return Tracked(State(pose, start.betas, place), told, float(size), 100.0 if is_off else 3.0)

    def forget(stop: int = 99, must_begin_right: bool = False, nobody_in: tuple[int, ...] = ()) -> list[int]:
        done.clear()
        empty.update(nobody_in)
        stop_at[0], strict[0] = stop, must_begin_right
        return done

    monkeypatch.setattr(import_module("lvdreg.pipeline.sequence"), "track_body", track)
    return forget


def errors_of(motion: Motion, body: BodyModel) -> np.ndarray:
    """Mean distance of vertices from the truth, frame by frame, metres."""
    kernel = Kinematics(body.data)
    states = [State(pose, motion.betas, place) for pose, place in zip(motion.pose, motion.transl, strict=True)]
    off = [kernel.pose(state).vertices - vertices_of(body, params_at(body, t)) for t, state in enumerate(states)]
    return np.linalg.norm(np.array(off), axis=2).mean(1)


def test_frames_are_followed_and_a_missing_one_is_filled(
    story: list[str], frames: list[Any], followed: Any, toy_body: BodyModel
) -> None:
    said = list[str]()
    motion = lvdreg.register_sequence(frames, fps=25, progress=said.append)
    assert motion.how == ("alone", "forwards", "filled", "backwards", "backwards", "backwards", "alone")
    assert story == ["frame_0", "frame_6"] and f"frame 4 of {NUM}" in said
    assert np.isnan(motion.residual_mm[MISSING]) and np.nanmax(motion.residual_mm) < 10
    assert errors_of(motion, toy_body).max() < 0.02
    assert (motion.betas == BETAS).all()
    assert motion.sigma_mm[MISSING] > 1.2 * np.median(motion.sigma_mm)
    assert motion.sigma_mm.min() > 1000 * SURE, "no frame is surer than all together may be wrong"
    assert motion.velocities[1:-1, 0, 2] == pytest.approx(0.05 * 25, rel=0.2)
    assert set(motion.timings) == {"shape", "read", "track", "smooth"}


def test_what_is_lost_is_found_again(story: list[str], frames: list[Any], followed: Any, toy_body: BodyModel) -> None:
    followed(must_begin_right=True, nobody_in=(4,))
    motion = lvdreg.register_sequence(frames, fps=25)
    assert motion.how == ("alone", "found again", "filled", "found again", "filled", "found again", "alone")
    assert len(story) == NUM - 1 and errors_of(motion, toy_body).max() < 0.03


def test_a_run_that_was_stopped_goes_on(story: list[str], files: list[Path], followed: Any, tmp_path: Path) -> None:
    def run(**options: Any) -> Motion:
        return lvdreg.register_sequence(files, fps=25, keep=tmp_path / "kept", **options)

    whole = lvdreg.register_sequence(files, fps=25)
    followed(4)
    with pytest.raises(KeyboardInterrupt):
        run()
    story.clear()
    done = followed()
    resumed = run()
    assert not story and done == [4, 3]
    assert resumed.how == whole.how and np.array_equal(resumed.raw_pose, whole.raw_pose)
    # Information is kept in single precision.
    assert np.abs(resumed.pose - whole.pose).max() < 1e-6
    # What changed or is damaged is done anew, and nothing else.
    files[1].write_text("1 again")
    (tmp_path / "kept" / "00005.npz").write_bytes(b"PK\3\4 no more")
    done = followed()
    run()
    assert sorted(done) == [1, 4] and not story
    (tmp_path / "kept" / PERSON).unlink()
    done = followed()
    run()
    assert not done and len(story) == 2


def test_parts_are_joined_without_a_seam(story: list[str], files: list[Path], followed: Any, tmp_path: Path) -> None:
    whole = lvdreg.register_sequence(files, fps=25)
    for part in ((1, 3), (4, 7)):
        found = lvdreg.register_sequence(files, fps=25, frames=part, keep=tmp_path / "kept")
        assert found.frames == whole.frames[part[0] - 1 : part[1]] and len(found.pose) == len(found.sigma_mm)
    done = followed()
    joined = lvdreg.register_sequence(files, fps=25, keep=tmp_path / "kept")
    assert not done and np.array_equal(joined.raw_pose, whole.raw_pose)
    assert np.abs(joined.pose - whole.pose).max() < 1e-6


def test_nobody_and_too_few_are_refused(story: list[str]) -> None:
    with pytest.raises(UsageError, match="2 to"):
        lvdreg.register_sequence(["one.ply"])
    with pytest.raises(UsageError, match="--fps"):
        lvdreg.register_sequence(["a.ply", "b.ply"], fps=0)
    with pytest.raises(UsageError, match="--frames"):
        lvdreg.register_sequence(["a.ply", "b.ply"], frames=(2, 3))
    with pytest.raises(UsageError, match="--frames"):
        parse_frames("3")
    with pytest.raises(UsageError, match="displacements"):
        lvdreg.register_sequence(["a.ply", "b.ply"], model="anny+d")
    with pytest.raises(RegistrationError, match="frame 1: no such file"):
        lvdreg.register_sequence(["a.ply", "b.ply"])


def test_what_turns_and_moves_goes_on() -> None:
    states = [State(np.array([[0.0, 0.4 * t, 0.0]]), np.zeros(2), np.array([0.1 * t, 0, 0])) for t in range(3)]
    after = gone_on(states[0], states[1])
    assert np.allclose(after.pose, states[2].pose) and np.allclose(after.transl, states[2].transl)


def test_information_of_turns_is_that_of_small_turns_after(toy_body: BodyModel) -> None:
    rng, kernel = np.random.default_rng(0), Kinematics(toy_body.data)
    state = replace(kernel.zero_state(), pose=rng.normal(size=(kernel.num_joints, 3)))
    root = rng.normal(size=(kernel.num_params, kernel.num_params))
    told = turn_information(state, root @ root.T)
    turns, moves = 1e-5 * rng.normal(size=(kernel.num_joints, 3)), 1e-5 * rng.normal(size=3)
    after = (Rotation.from_rotvec(state.pose) * Rotation.from_rotvec(turns)).as_rotvec()
    step = np.concatenate([(after - state.pose).ravel(), np.zeros(len(state.betas)), moves])
    small = np.concatenate([turns.ravel(), moves])
    assert small @ told @ small == pytest.approx(step @ root @ root.T @ step, rel=1e-3)


@pytest.mark.parametrize("sweep", [False, True])
def test_a_body_is_drawn_from_beside_to_its_place(toy_body: BodyModel, sweep: bool) -> None:
    target = scan_of(toy_body, vertices_of(toy_body, params_at(toy_body, 3)), 800)
    config = tracking(RegisterConfig().refine)
    start = State.from_params(params_at(toy_body, 1 if sweep else 2))
    found = track_body(toy_body, start, target, config, Known(betas=np.array(BETAS)), sweep)
    error = vertices_of(toy_body, found.state.to_params(toy_body.v_template)) - vertices_of(
        toy_body, params_at(toy_body, 3)
    )
    assert np.linalg.norm(error, axis=1).mean() < 0.01
    size = start.pose.size + 3
    assert found.information.shape == (size, size) and 0 < found.freedom <= size
    assert np.linalg.eigvalsh(found.information.astype(float)).min() > 0
