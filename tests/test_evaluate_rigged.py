"""Joints of rigged hands: names, sides, scale and alignment, on files made here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_registration import fake_hand
from numpy.typing import NDArray

from lvdreg.base.errors import RegistrationError, ScanError
from lvdreg.body import load_body
from lvdreg.evaluate import evaluate_rigged, rigged
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.result.scan import Registration

NAMES = load_body("anny-hand").joint_names


def positions() -> dict[str, NDArray[np.float64]]:
    """A flat hand: every finger straight along +Y, its joints 3 cm apart; the middle finger's chain is 0.19 m long."""
    found = {"wrist": np.zeros(3)}
    for x, finger in enumerate(("index", "middle", "ring", "pinky")):
        for y, bone in enumerate(("metacarpal", *rigged._BONES, "tip")):
            name = f"{finger}-finger-{bone}"
            found[name] = np.array([0.02 * (1 - x), 0.04 + 0.0375 * y, 0.0])
    for y, bone in enumerate(("metacarpal", "phalanx-proximal", "phalanx-distal", "tip")):
        found[f"thumb-{bone}"] = np.array([0.05, 0.02 + 0.03 * y, 0.0])
    return found


def rigged_file(path: Path, scale: float = 1.0, without: str = "", mesh: str = "l_handMeshNode") -> Path:
    nodes = [{"name": n, "translation": (scale * p).tolist()} for n, p in positions().items() if n != without]
    document = {"asset": {"version": "2.0"}, "nodes": [*nodes, {"name": mesh}]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def answer(path: Path, off: NDArray[np.float64], turn: NDArray[np.float64], scale: float) -> Registration:
    """Joints where they are, but turned about their middle and moved."""
    by_name = {ours: scale * positions()[theirs] for theirs, ours in rigged.SHARED_JOINTS.items()}
    joints = np.stack([by_name[name] for name in NAMES])
    middle = joints.mean(0)
    return fake_hand("left", unit="m", joints=(joints - middle) @ turn.T + middle + off, verdict="good")


def test_all_joints_of_the_hand_model_are_shared() -> None:
    assert sorted(rigged.SHARED_JOINTS.values()) == sorted(NAMES)


@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_joints_are_compared_as_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    path = rigged_file(tmp_path / "some.gltf", scale)
    off = scale * np.array([0.003, 0.0, 0.004])
    monkeypatch.setattr(rigged, "register_hand", lambda *_, **__: answer(path, off, np.eye(3), scale))
    table = evaluate_rigged([path], out=tmp_path / "out")
    figures = {row.metric: row.summary for row in table.rows}
    # The chain is 0.04 + 4 * 0.0375 m long, and the first bone leans by nothing: the factor to 190 mm is 1 / scale.
    assert figures["some: joint"].mean_mm == pytest.approx(5, rel=1e-3)
    assert figures["some: joint"].count == 16
    assert figures["some: joint, rigidly aligned"].max_mm == pytest.approx(0, abs=1e-6)
    assert "left hand (right), unit m; joints 5.0 mm on average" in table.render()


def test_a_turn_is_an_error_until_it_is_aligned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    turn = rotvec_to_rotmat(torch.tensor([0.1, 0.2, -0.1], dtype=torch.float64)).numpy()
    path = rigged_file(tmp_path / "some.gltf", mesh="r_handMeshNode")
    monkeypatch.setattr(rigged, "register_hand", lambda *_, **__: answer(path, np.zeros(3), turn, 1.0))
    table = evaluate_rigged([path], out=tmp_path / "out")
    plain, aligned = (row.summary for row in table.rows)
    assert plain.mean_mm > 5 and aligned.max_mm < 1e-6
    assert "left hand (WRONG, it is a right hand)" in table.render()


def test_a_hand_that_cannot_be_registered_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> Registration:
        raise RegistrationError("no hand")

    monkeypatch.setattr(rigged, "register_hand", lost)
    table = evaluate_rigged([rigged_file(tmp_path / "some.gltf")], out=tmp_path / "out")
    assert [row.summary.missing for row in table.rows] == [16, 16]
    assert "not registered: no hand" in table.render()


def test_files_without_a_hand_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="found no thumb-phalanx-distal"):
        rigged.read_truth(rigged_file(tmp_path / "a.gltf", without="thumb-phalanx-distal"))
    with pytest.raises(ScanError, match=r"got .*nowhere.glb"):
        rigged.read_truth(tmp_path / "nowhere.glb")


@pytest.mark.parametrize(
    ("names", "side"),
    [
        (["wrist", "l_handMeshNode"], "left"),
        (["thumb-tip", "r_hand", "left"], "right"),
        (["Armature", "rigged_right"], "right"),
        (["Hand.L"], "left"),
        (["hand_LEFT_2"], "left"),
        (["xr_standard_trigger_pressed_min", "pinky-finger-phalanx-proximal", "Armature"], None),
    ],
)
def test_sides_are_read_from_names(names: list[str], side: str | None) -> None:
    assert rigged.side_of(names) == side
