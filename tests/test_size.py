"""The unit and the size: people and hands as large as they are, whatever the numbers of the file."""

import math

import numpy as np
import pytest
import torch

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyParams
from lvdreg.descent.boxes import METRES_PER_UNIT
from lvdreg.fit.size import (
    HAND_SIZE,
    STRETCH,
    SizeConfig,
    find_size,
    length_density,
    length_range,
    likeliest_unit,
    rest_length,
)
from lvdreg.fit.vertices import Fit

PERSON = SizeConfig()


def likely_of(length: float, config: SizeConfig = PERSON) -> float:
    """Return the likely length of a fit to somebody of a true length, as proportions usually have it."""
    return config.usual * (length / config.usual) ** config.shown


def found(length: float, unit: str, config: SizeConfig = PERSON, off: float = 1.0) -> tuple[str, float]:
    """Find the unit of a scan of somebody of a true length, whose likely length is off by a factor."""
    likely = off * likely_of(length, config)
    return likeliest_unit(likely, likely * METRES_PER_UNIT[unit] / length, config)


@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
@pytest.mark.parametrize("height", [0.5, 0.75, 0.996, 1.37, 1.68, 2.2])
def test_people_of_all_sizes_are_found_in_the_usual_units(unit: str, height: float) -> None:
    name, probability = found(height, unit)
    if unit == "cm" and height < 0.9:  # a man in inches
        assert (name, probability < PERSON.sure) == ("inch", True) or name == "cm"
    else:
        assert name == unit and probability > PERSON.sure


@pytest.mark.parametrize("unit", list(METRES_PER_UNIT))
@pytest.mark.parametrize("off", [0.85, 1.0, 1.2])
def test_grown_people_are_found_in_every_unit(unit: str, off: float) -> None:
    assert found(1.7, unit, off=off)[0] == unit


def test_proportions_tell_a_baby_in_centimetres_from_a_man_in_inches() -> None:
    for likely, name in ((1.15, "cm"), (1.7, "inch")):
        unit, _ = likeliest_unit(likely, likely / 68, PERSON)
        assert unit == name


@pytest.mark.parametrize("length", [0.1, 0.15, 0.19, 0.21])
@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
def test_hands_of_all_sizes_are_found(length: float, unit: str) -> None:
    assert found(length, unit, HAND_SIZE, off=0.8)[0] == unit


@pytest.mark.parametrize("factor", [0.23, 0.0003, 40.0])
def test_numbers_that_make_no_person_in_any_unit_mean_nothing(factor: float) -> None:
    assert likeliest_unit(1.7, factor, PERSON) == ("none", pytest.approx(1.0, abs=0.2))


@pytest.mark.parametrize(("unit", "factor"), [("m", 1.0), ("mm", 1000.0), ("auto", 1.0), ("auto", 100.0)])
def test_bodies_are_as_long_as_people_whatever_they_do(unit: str, factor: float) -> None:
    standing, sitting, reaching, giant = (
        length_density(factor * length, unit, PERSON) for length in (1.7, 1.25, 2.1, 3.2)
    )
    assert standing > sitting > 0.3 * standing and reaching > 0.3 * standing
    assert 0 < giant < 0.05 * standing


def test_without_a_unit_all_lengths_are_alike() -> None:
    assert length_density(0.3, "none", PERSON) == length_density(3000.0, "none", PERSON) > 0


def test_the_density_over_both_lengths_is_one() -> None:
    from lvdreg.fit.size import _density

    true, likely = np.geomspace(PERSON.least, PERSON.most, 400), np.geomspace(0.2, 5, 400)
    joint = np.stack([_density(true, float(length), PERSON) for length in likely])
    steps = math.log(PERSON.most / PERSON.least) / 399, math.log(25) / 399
    assert joint.sum() * math.prod(steps) == pytest.approx(1, abs=0.02)


def fit_of(betas: torch.Tensor, scale: float) -> Fit:
    body = load_body("anny")
    return Fit(BodyParams(betas, torch.zeros(len(body.data.parents), 3), torch.zeros(3)), scale, 0.0, True)


def test_a_unit_that_was_given_is_not_argued_with_and_the_body_is_scaled_to_it() -> None:
    body = load_body("anny")
    mean = fit_of(torch.zeros(body.num_betas), 1.0)
    height = rest_length(body, mean.params.betas)
    low, high = length_range(body)
    assert find_size("m", body, mean, 1.0, PERSON).body_scale == 1
    # The same scan in decimetres shows somebody of 17 cm, in "none" the likely person.
    small = find_size("dm", body, mean, 1.0, PERSON)
    assert (small.unit, small.is_guess) == ("dm", False)
    assert small.body_scale * STRETCH[0] * low == pytest.approx(0.1 * height)
    assert find_size("none", body, mean, 1.0, PERSON).is_guess
    huge = find_size("m", body, mean, 0.5, PERSON)
    assert huge.body_scale * STRETCH[1] * high == pytest.approx(2 * height)


def test_the_range_of_a_body_is_that_of_its_people() -> None:
    body = load_body("anny")
    assert body.data.people is not None
    some = [rest_length(body, torch.as_tensor(betas)) for betas in body.data.people[::50]]
    low, high = length_range(body)
    assert low <= min(some) and max(some) <= high
    assert (low, high) == (pytest.approx(0.996, abs=0.005), pytest.approx(2.128, abs=0.005))
