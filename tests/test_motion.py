"""What a sequence leaves behind: an animation that other programs play as it was found, arrays, a film, a report."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from lvdreg.body.model import BodyModel
from lvdreg.export import motion as module
from lvdreg.export.motion import FILES, figures_of, write_motion
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.result.motion import Motion

NUM = 5


@pytest.fixture
def moved(toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Motion:
    """A toy that turns its whole body further than pi, and goes on."""
    monkeypatch.setattr(module, "load_body", lambda _: toy_body)
    monkeypatch.setattr(module, "bone_names", lambda names, *_: tuple(names))
    monkeypatch.setattr(module, "SHOWN_HEIGHT", 40)
    monkeypatch.setattr(module, "MOST_SHOWN", 2)
    num_joints, num_betas = toy_body.num_joints, toy_body.data.shapedirs.shape[-1]
    pose, betas = np.zeros((NUM, num_joints, 3)), np.linspace(-1, 1, num_betas)
    turns = np.outer(np.arange(NUM), [0, 1.2, 0])
    pose[:, 0], pose[:, 2, 0] = Rotation.from_rotvec(turns).as_rotvec(), 0.2 * np.arange(NUM)
    transl, kernel = np.outer(np.arange(NUM), [0.0, 0.01, 0.04]), Kinematics(toy_body.data)
    joints = np.stack([kernel.pose(State(*each)).joints for each in zip(pose, [betas] * NUM, transl, strict=True)])
    about = {"name": "walk", "model": "toy", "fps": 25.0, "body_scale": 0.9, "T_scan_model": np.eye(4)}
    arrays = {"pose": pose, "transl": transl, "betas": betas, "joints": joints, "sigma_mm": np.ones(NUM)}
    residual = np.array([1.0, np.nan, 1, 1, 1])
    how = ("alone", "filled", "forwards", "forwards", "alone")
    raw = {"raw_pose": pose, "raw_transl": transl, "residual_mm": residual, "how": how}
    return Motion(frames=tuple(f"{i}.ply" for i in range(NUM)), timings={"track": 1.0}, **about, **arrays, **raw)


def glb_of(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Read document and accessors of floating-point numbers."""
    data = path.read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    document, content = json.loads(data[20 : 20 + length]), data[28 + length :]
    widths = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}

    def read(item: dict[str, Any]) -> np.ndarray:
        start = document["bufferViews"][item["bufferView"]]["byteOffset"]
        width = widths[item["type"]]
        return np.frombuffer(content, "<f4", item["count"] * width, start).reshape(-1, width)

    return document, [read(item) if item["componentType"] == 5126 else np.zeros(0) for item in document["accessors"]]


def test_the_animation_has_every_frame_as_it_was_found(moved: Motion, toy_body: BodyModel, tmp_path: Path) -> None:
    paths = write_motion(moved, tmp_path / "out")
    assert {path.name for path in paths} == set(FILES) and all(path.exists() for path in paths)
    document, arrays = glb_of(tmp_path / "out" / "motion.glb")
    (animation,) = document["animations"]
    tracks = {
        (document["nodes"][channel["target"]["node"]]["name"], channel["target"]["path"]): animation["samplers"][
            channel["sampler"]
        ]
        for channel in animation["channels"]
    }
    times = document["accessors"][animation["samplers"][0]["input"]]
    # glTF wants lists here, and players their range.
    assert times["min"] == [0.0] and times["max"] == pytest.approx([(NUM - 1) / 25])
    for j, name in enumerate(toy_body.joint_names):
        quaternions = arrays[tracks[name, "rotation"]["output"]]
        off = Rotation.from_quat(quaternions).inv() * Rotation.from_rotvec(moved.pose[:, j])
        assert off.magnitude().max() < 1e-6
        # No two neighbours are on other sides: between them players would go the long way.
        assert ((quaternions[1:] * quaternions[:-1]).sum(1) > 0).all()
    root = arrays[tracks[toy_body.joint_names[0], "translation"]["output"]]
    assert np.allclose(np.diff(root, axis=0), 0.9 * np.diff(moved.transl, axis=0), atol=1e-6)
    figures = figures_of(moved, toy_body)
    between = [np.linalg.norm(figure.posed()[:, None] - figure.posed()[None], axis=-1) for figure in figures]
    kernel = Kinematics(toy_body.data)
    for t, distances in enumerate(between):
        vertices = 0.9 * kernel.pose(State(moved.pose[t], moved.betas, moved.transl[t])).vertices
        assert np.allclose(distances, np.linalg.norm(vertices[:, None] - vertices[None], axis=-1), atol=1e-5)
    assert figures[0].posed()[:, 1].min() == pytest.approx(0, abs=1e-6)


def test_arrays_report_and_film_say_the_same(moved: Motion, tmp_path: Path) -> None:
    write_motion(moved, tmp_path)
    arrays, report = np.load(tmp_path / "motion.npz"), json.loads((tmp_path / "report.json").read_text())
    assert np.array_equal(arrays["pose"], moved.pose) and str(arrays["model"]) == "toy"
    # From joint to joint, metres a second at true size.
    velocity = 0.9 * (moved.joints[2] - moved.joints[0]) * 25 / 2
    assert np.allclose(arrays["velocities"][1], velocity)
    assert [frame["how"] for frame in report["frames"]] == list(moved.how) == arrays["how"].tolist()
    assert report["frames"][1]["residual_mm"] is None and report["how"]["filled"] == 1
    assert set(report["files"]) == {path.name for path in tmp_path.iterdir()}
    lines = (tmp_path / "motion.bvh").read_text().splitlines()
    start = lines.index("MOTION")
    assert lines[start + 1] == f"Frames: {NUM}" and float(lines[start + 2].split()[-1]) == pytest.approx(1 / 25)
    assert len(lines) == start + 3 + NUM
    with Image.open(tmp_path / "film.png") as film:
        assert len(np.unique(np.asarray(film).reshape(-1, 3), axis=0)) > 20
