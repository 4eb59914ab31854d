"""Arguments of the calls that users make: what is wrong is said in one line, before anything is computed."""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from lvdreg.base.arguments import check_type, unexpected
from lvdreg.base.errors import UsageError
from lvdreg.base.text import one_line
from lvdreg.body.model import BodyData

HEIGHTS = (0.4, 2.6)
"""Metres: nobody's height lies outside."""
MOST_SCANS = 100
"""Of one person: all lie in memory until the shape is known."""
MOST_PEOPLE = 12
"""In one scan."""
OF_ONE = ("height", "sex", "age", "keypoints")
"""What users tell of one person, so not of several in a scan."""
_EXPECTED: dict[str, tuple[tuple[type, ...], str]] = {
    "model": ((str,), "the name of a model, such as 'anny'"),
    "unit": ((str,), "the name of a unit, such as 'mm' or 'auto'"),
    "up": ((str,), "the name of an axis, such as '+y' or 'auto'"),
    "side": ((str,), "'left', 'right' or 'auto'"),
    "device": ((str,), "the name of a device, such as 'cpu' or 'cuda'"),
    "seed": ((int,), "a whole number"),
    "mask": ((str, Path), "'auto', 'none', 'rembg' or a file"),
    "person": ((int, NoneType), "a whole number or None"),
    "keypoints": ((str, Path, NoneType), "a file or folder of keypoints, or None"),
    "set_keypoints": ((Mapping, NoneType), "columns and rows by the name of keypoints, or None"),
    "height": ((int, float, NoneType), "metres or None"),
    "sex": ((str, NoneType), "'male', 'female' or None"),
    "age": ((int, float, NoneType), "years or None"),
    "pose": ((str, NoneType), "'t', 'a' or None"),
    "floor": ((bool,), "True or False"),
    "camera": ((str,), "'perspective' or 'weak'"),
    "depth_camera": ((str, Path, NoneType), "the name of a depth camera, a JSON file, or None"),
    "method": ((str,), "'lvd', 'smplify', 'spin', 'eft' or 'pymaf'"),
    "focal": ((int, float, NoneType), "millimetres on 35 mm film, or None"),
}


def check_arguments(progress: object, **given: Any) -> None:
    """Check what can be seen of arguments alone.

    Args:
        progress: Listener to the stages, or None.
        given: Other arguments by name, the device among them.

    Raises:
        UsageError: one is of another type than expected, or there is no such device.
    """
    for name, value in given.items():
        check_type(name, value, *_EXPECTED[name])
    if progress is not None and not callable(progress):
        raise unexpected("progress", "a function that takes the name of a stage, or None", progress)
    if given.get("seed", 0) < 0:
        raise unexpected("seed", "a whole number of at least 0", given["seed"])
    try:
        torch.empty(0, device=given["device"])
    # AssertionError: torch was built without CUDA.
    except (RuntimeError, AssertionError) as error:
        words = f"a device that torch can use, such as 'cpu' ({one_line(str(error))[:100]})"
        raise unexpected("device", words, given["device"]) from error


def check_height(height: float | None) -> None:
    """Check that somebody can be that tall.

    Raises:
        UsageError: nobody is.
    """
    if height is not None and not HEIGHTS[0] <= height <= HEIGHTS[1]:
        raise UsageError(f"--height: expected metres from {HEIGHTS[0]} to {HEIGHTS[1]}, got {height:g}")


def check_num_scans(count: int) -> None:
    """Check that so many scans of one person can be registered together.

    Raises:
        UsageError: they are too few or too many.
    """
    if not 2 <= count <= MOST_SCANS:
        raise UsageError(f"--same-person: expected 2 to {MOST_SCANS} scans of one person, got {count}")


def check_num_people(people: int | None) -> None:
    """Check that a scan may show so many people that are to be told apart; None: as many as it does.

    Raises:
        UsageError: they are too few or too many, or no number.
    """
    check_type("people", people, (int, NoneType), "a whole number or None")
    if people is not None and not 2 <= people <= MOST_PEOPLE:
        raise unexpected("people", f"a whole number from 2 to {MOST_PEOPLE}, or None", people)


def check_kind(name: str, data: BodyData, hands: bool) -> None:
    """Check that a model is of the kind that a call is for.

    Raises:
        UsageError: it is a hand and a body is wanted, or the other way round.
    """
    if data.is_hand != hands:
        kind, call = ("hand", "register_hand") if data.is_hand else ("whole body", "register")
        raise UsageError(f"model: {name} is a {kind}; use {call} for it")
