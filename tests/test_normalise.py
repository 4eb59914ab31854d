"""Units, axes and boxes: exact round trips."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvdreg.base.errors import UsageError
from lvdreg.descent.boxes import (
    METRES_PER_UNIT,
    UPS,
    Size,
    box_transform,
    check_unit,
    to_unit,
    up_candidates,
    world_transform,
)
from lvdreg.geometry.frames import transform_points

CLOUD = np.random.default_rng(0).normal(size=(400, 3)) * [0.3, 0.9, 0.2] + [4.0, -2.0, 7.0]
AXES = {"x": 0, "y": 1, "z": 2}


@pytest.mark.parametrize("name", list(UPS))
def test_each_rotation_is_proper_and_brings_its_axis_up(name: str) -> None:
    rotation = UPS[name]
    axis = np.zeros(3)
    axis[AXES[name[1]]] = 1.0 if name[0] == "+" else -1.0
    np.testing.assert_allclose(rotation @ axis, [0, 1, 0])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), up=st.sampled_from(sorted(UPS)))
def test_the_box_does_not_depend_on_scale_and_place(scale: float, shift: float, up: str) -> None:
    here = to_unit(CLOUD, box_transform(CLOUD, UPS[up]))
    moved = CLOUD * scale + shift
    there = to_unit(moved, box_transform(moved, UPS[up]))
    np.testing.assert_allclose(here, there, atol=1e-5)
    assert np.abs(here.numpy()).max() == pytest.approx(0.9, abs=1e-5)


@pytest.mark.parametrize("unit", list(METRES_PER_UNIT))
def test_world_is_metres_and_comes_back_exactly(unit: str) -> None:
    scan = CLOUD / METRES_PER_UNIT[unit]
    T_world_scan = world_transform(box_transform(scan, UPS["+z"]), Size(unit, METRES_PER_UNIT[unit], False))
    world = transform_points(T_world_scan, scan)
    np.testing.assert_allclose(np.ptp(world, axis=0)[1], np.ptp(CLOUD, axis=0)[2], rtol=1e-9)
    np.testing.assert_allclose(transform_points(np.linalg.inv(T_world_scan), world), scan, rtol=1e-9, atol=1e-6)


def test_wrong_words_name_the_right_ones() -> None:
    with pytest.raises(UsageError, match="--unit: expected auto, none or one of mm, cm"):
        check_unit("furlong")
    with pytest.raises(UsageError, match=r"--up: expected auto or one of \+y"):
        up_candidates("up")
