"""Real hands, the whole way: sides, joints, distances and units of scans that nobody here made.

Sides of the scans were read off their shape by eye, palm creases and thumb; those of the rigged hands are in the files.
"""

from functools import cache

import numpy as np
import pytest
from real_data import real_path

import lvdreg
from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import LvdregError
from lvdreg.evaluate.cache import CachedResult
from lvdreg.evaluate.rigged import joint_errors, read_truth
from lvdreg.result.scan import Registration

NETWORKS = ("voxel-anny-hand", "hand-detector-anny-hand")
pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(autouse=True)
def needs_weights() -> None:
    lacking = [name for name in NETWORKS if not (assets_dir() / "weights" / f"{name}.safetensors").is_file()]
    if lacking:
        pytest.skip(f"the weights {', '.join(lacking)} are not shipped yet")


@cache
def registered(name: str) -> Registration:
    return lvdreg.register_hand(real_path(f"hands/{name}"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_rigged_hands_have_their_side_and_their_joints_in_place(side: str) -> None:
    result = registered(f"rigged_{side}.glb")
    assert (result.side, result.unit) == (side, "m")
    truth = read_truth(real_path(f"hands/rigged_{side}.glb"))
    assert truth.side == side
    outcome = CachedResult({"joints": result.joints}, 0.0, result.verdict, result.reason)
    plain, _ = joint_errors(outcome, truth, lvdreg.load_body("anny-hand").joint_names)
    assert np.mean(list(plain.values())) <= 10


@pytest.mark.parametrize(
    "name", ["lvd_sample_0.obj", *(pytest.param(f"lvd_sample_{n}.obj", marks=pytest.mark.whole) for n in (1, 3))]
)
def test_the_hand_in_a_scan_lies_on_the_model(name: str) -> None:
    """A ball, bent fingers, a pinch; no displacements, which would bend to anything."""
    result = registered(name)
    assert result.side == "left"
    assert result.metrics["point_to_surface_scan_to_registered_mm"] <= 2
    assert result.metrics["hand_share"] > 0.5


@pytest.mark.parametrize(("name", "unit"), [("forearm_metres.obj", "m"), ("knit_mm.off", "mm")])
def test_forearms_are_cut_off_and_units_are_found(name: str, unit: str) -> None:
    result = registered(name)
    assert (result.side, result.unit, result.unit_is_guess) == ("right", unit, False)
    assert result.metrics["point_to_surface_scan_to_registered_mm"] <= 2
    assert result.metrics["hand_share"] < 0.9
    assert 0.14 < result.metrics["length_m"] < 0.22


@pytest.mark.whole
def test_a_noisy_depth_view_is_registered_and_not_called_good() -> None:
    """Its unit is close to none of those there are, and most of the hand is unseen: only "check" is honest."""
    result = registered("depth_points.ply")
    assert result.verdict == "check"
    assert result.unit == "dm" or result.unit_is_guess
    assert result.metrics["point_to_surface_scan_to_registered_mm"] <= 4


@pytest.mark.parametrize(
    "name",
    [
        "empty.obj",
        "empty.ply",
        "busted.STL",
        "stanford-bunny.obj",
        *(pytest.param(name, marks=pytest.mark.whole) for name in ("teapot.obj", "body_part_calf.stl")),
    ],
)
def test_what_is_no_hand_is_refused_or_not_called_good(name: str) -> None:
    # Fast is what looks least closely.
    path = real_path(f"junk/{name}")
    try:
        verdict = lvdreg.register_hand(path, settings={"quality": "fast"}).verdict
    except LvdregError as error:
        assert str(error).strip() and "\n" not in str(error)
        return
    assert verdict != "good"
