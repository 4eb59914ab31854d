"""Damages of scans are what they are called, and a body that suffers is seen to."""

from pathlib import Path

import numpy as np
import pytest

from lvdreg.base.errors import RegistrationError, UsageError
from lvdreg.evaluate import evaluate_robustness
from lvdreg.evaluate import robustness as module
from lvdreg.evaluate.robustness import Cloud, Dressed, damages
from lvdreg.geometry.frames import scale_of, transform_points

CUBE = np.array([[x, y, z] for x in (-0.3, 0.3) for y in (-0.9, 0.9) for z in (-0.2, 0.2)])
FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 7, 5], [4, 6, 7], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]
)  # fmt: skip
BLOCK = Dressed(CUBE, FACES, CUBE)


def damaged(kind: str, step: str) -> Cloud:
    return damages()[kind][step](BLOCK, np.random.default_rng(0))


def test_orientations_are_all_those_of_a_cube() -> None:
    turns = [damaged("orientation", step).T_scan_world[:3, :3] for step in damages()["orientation"]]
    assert len({tuple(turn.round(6).ravel()) for turn in turns}) == 24
    for turn in turns:
        assert turn @ turn.T == pytest.approx(np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["none", "orientation", "unit", "points", "holes", "cut off", "one side"])
def test_points_lie_on_the_surface_in_their_own_frame(kind: str) -> None:
    for step in list(damages()[kind])[:3]:
        cloud = damaged(kind, step)
        world = transform_points(np.linalg.inv(cloud.T_scan_world), cloud.points)
        apart = np.abs(np.abs(world) - CUBE.max(0)).min(1)
        assert apart.max() < 1e-6 and len(cloud.points) == len(cloud.normals) > 900


def test_steps_are_what_they_are_called() -> None:
    assert scale_of(damaged("unit", "mm").T_scan_world) == pytest.approx(1000)
    assert len(damaged("points", "1,000").points) == 1000
    noisy = damaged("noise", "20 mm")
    off = np.abs(np.abs(noisy.points) - CUBE.max(0)).min(1)
    assert 0.005 < off.mean() < 0.02 and not noisy.normals.any()
    outside = (np.abs(damaged("outliers", "10%").points) > CUBE.max(0) + 1e-6).any(1).mean()
    assert 0.06 < outside <= 0.1
    assert np.ptp(damaged("cut off", "50%").points[:, 1]) == pytest.approx(0.9, abs=0.01)
    front, back = (damaged("one side", name).points[:, 2].mean() for name in ("front", "back"))
    assert front > 0.1 > -0.1 > back
    fewer = [len(damaged("holes", step).points) for step in damages()["holes"]]
    assert fewer == sorted(fewer, reverse=True) and fewer[0] < module.POINTS


def test_bodies_that_suffer_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A register that only minds units: bodies in millimetres are 0.15 m off, those in centimetres are not there."""
    seen: list[str] = []

    def registered(cloud: Cloud, name: str, model: str, settings: object) -> dict[str, np.ndarray]:
        seen.append(name)
        scale = scale_of(cloud.T_scan_world)
        if scale == pytest.approx(100):
            raise RegistrationError("no body")
        off = 0.15 if scale == pytest.approx(1000) else 0.001
        found = transform_points(cloud.T_scan_world, CUBE + [off, 0, 0])
        return {"body_vertices": found, "verdict": np.array("good"), "reason": np.array("so")}

    monkeypatch.setattr(module, "_registered", registered)
    monkeypatch.setattr(module, "dressed", lambda *_: BLOCK)
    told = {"num": 2, "out": tmp_path, "kinds": ("unit",)}
    table = evaluate_robustness(**told)  # type: ignore[arg-type]
    assert len(seen) == 12
    row = table.rows[1].summary
    assert (row.count, row.failures, row.missing, row.max_mm) == (10, 4, 2, pytest.approx(150))
    assert table.details["right"] == {"none": 1.0, "unit": pytest.approx(0.6)}
    assert evaluate_robustness(**told).rows == table.rows and len(seen) == 12  # type: ignore[arg-type]


def test_a_damage_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected any of none, orientation"):
        evaluate_robustness(num=1, out=tmp_path, kinds=("rust",))
    assert not list(tmp_path.iterdir())
