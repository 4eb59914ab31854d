"""The verdict: each measure can spoil it, the worst one is named, and nothing unknown passes as good."""

from dataclasses import fields, replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvdreg.result.verdict import COMPLAINTS, Evidence, VerdictConfig, beyond, judge

GOOD = Evidence(
    scan_to_registered_mm=2.0,
    registered_to_scan_mm=2.5,
    explained_share=0.99,
    seen_share=0.9,
    sigma_mean_mm=9.0,
    sigma_descent_median_mm=25.0,
    fit_residual_mm=12.0,
    shape_size=0.9,
    height_m=1.75,
)
ORDER = ("good", "check", "failed")
RANGES = ("height_m", "length_m", "side_confidence")
KINDS = {"person": "hand", "hand": "person"}


def test_good_says_why() -> None:
    assert judge(GOOD) == (
        "good",
        "scan and surface 2.0 mm apart, 90% of the body seen, uncertain by 9 mm on average (sigma)",
    )


@pytest.mark.parametrize(
    ("measure", "check", "failed", "words"),
    [
        ("scan_to_registered_mm", 30.0, 70.0, "mm from the result"),
        ("registered_to_scan_mm", 20.0, 60.0, "from the scan on average"),
        ("explained_share", 0.8, 0.3, "lies near the fitted body"),
        ("seen_share", 0.3, 0.05, "shows only"),
        ("sigma_mean_mm", 60.0, 160.0, "uncertain by"),
        ("sigma_descent_median_mm", 80.0, 150.0, "the network is unsure"),
        ("fit_residual_mm", 60.0, 150.0, "unlike those learned"),
        ("shape_size", 3.0, 5.0, "from the average"),
        ("shape_extremes", 0.08, 0.2, "shape parameters"),
        ("height_m", 2.3, 17.5, "tall"),
        ("height_m", 0.45, 0.3, "tall"),
    ],
)
def test_each_measure_can_spoil_it(measure: str, check: float, failed: float, words: str) -> None:
    for value, verdict in ((check, "check"), (failed, "failed"), (nan, "failed"), (inf, "failed")):
        changes: dict[str, Any] = {measure: value}
        found, reason = judge(replace(GOOD, **changes))
        assert found == verdict
        assert (words if value < inf else "could not be measured") in reason and "\n" not in reason


def test_a_gown_is_worth_a_look_and_no_failure() -> None:
    for share in (0.3, 0.5, 0.9):
        verdict, reason = judge(replace(GOOD, hanging_share=share))
        assert verdict == "check" and f"cloth hangs around the legs ({share:.0%}" in reason
    verdict, reason = judge(replace(GOOD, hanging_share=0.1))
    assert verdict == "good" and "cloth hangs around the legs (10%" in reason
    assert "cloth" not in judge(replace(GOOD, hanging_share=0.01))[1]
    # Whatever else is wrong, it is said why.
    _, reason = judge(replace(GOOD, hanging_share=0.5, registered_to_scan_mm=30.0))
    assert reason.startswith("the result lies 30 mm") and "; also, cloth hangs around the legs (50%" in reason


def test_rest_and_size_ask_for_a_look() -> None:
    verdict, reason = judge(replace(GOOD, was_refined=False))
    assert verdict == "check" and "undone" in reason
    assert judge(replace(GOOD, converged=False))[0] == "check"
    verdict, reason = judge(replace(GOOD, size_is_guess=True))
    assert verdict == "check" and "--unit" in reason


@pytest.mark.parametrize("height", [0.5, 0.75, 1.0, 1.7, 2.2])
def test_children_and_tall_people_are_good(height: float) -> None:
    assert judge(replace(GOOD, height_m=height))[0] == "good"


def test_a_unit_that_was_given_is_not_doubted() -> None:
    given = replace(GOOD, unit_is_given=True)
    assert judge(replace(given, height_m=2.4))[0] == "good"
    for name, value in (("height_m", 17.0), ("shape_size", 3.0)):
        changes: dict[str, Any] = {name: value}
        assert "--unit" in judge(replace(GOOD, **changes))[1]
        verdict, reason = judge(replace(given, **changes))
        assert verdict != "good" and "unit" not in reason


def test_what_was_left_out_is_said_whatever_else_is_wrong() -> None:
    two = replace(GOOD, left_out_share=0.49)
    verdict, reason = judge(two)
    assert verdict == "check" and reason.startswith("a large piece was left out (49% of the scan)")
    verdict, reason = judge(replace(two, scan_to_registered_mm=70.0))
    assert verdict == "failed" and reason.startswith("the scan lies 70 mm from") and "(49% of the scan)" in reason
    assert judge(replace(GOOD, left_out_share=0.15))[0] == "good"


def test_a_doubtful_side_is_not_good() -> None:
    config = VerdictConfig(height_m=None, side_confidence=(0.9, 0.0))
    hand = replace(GOOD, height_m=None, side_confidence=0.97)
    assert judge(hand, config)[0] == "good"
    verdict, reason = judge(replace(hand, side_confidence=0.51), config)
    assert verdict == "check" and "51%" in reason and "--side" in reason


@pytest.mark.parametrize(("kind", "command"), [("person", "lvdreg register"), ("hand", "lvdreg hands")])
def test_another_kind_is_said_before_all_else(kind: str, command: str) -> None:
    verdict, reason = judge(replace(GOOD, looks_like=kind, explained_share=0.1))
    assert (
        verdict == "failed" and reason == f"this looks like a {kind}, not a {KINDS[kind]}: register it with {command}"
    )


def test_the_worst_finding_is_named() -> None:
    bunny = replace(GOOD, scan_to_registered_mm=10.0, explained_share=0.3, converged=False, size_is_guess=True)
    assert judge(bunny)[0] == "failed" and "30%" in judge(bunny)[1]
    # A failure comes before any number of things to check.
    assert judge(replace(GOOD, sigma_mean_mm=79.0, height_m=9.0))[1].startswith("the person would be 9.00 m")


def test_every_limit_has_its_words() -> None:
    limits = {field.name for field in fields(VerdictConfig)} - {"explained_within_mm"}
    assert limits == set(COMPLAINTS) <= {field.name for field in fields(Evidence)}


@given(st.data())
def test_worse_evidence_never_gives_a_better_verdict(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in COMPLAINTS if name not in RANGES]))
    low, high = sorted(data.draw(st.lists(st.floats(0, 200), min_size=2, max_size=2)))
    better, worse = (high, low) if name in ("explained_share", "seen_share") else (low, high)
    verdicts = [judge(replace(GOOD, **{name: value}))[0] for value in (better, worse)]
    assert ORDER.index(verdicts[0]) <= ORDER.index(verdicts[1])


def test_beyond_measures_from_good_to_failed() -> None:
    assert [beyond(value, (8, 40)) for value in (0, 8, 24, 40, 72)] == [0, 0, 0.5, 1, 2]
    assert [beyond(value, (0.8, 0.4)) for value in (1, 0.8, 0.5)] == [0, 0, pytest.approx(0.75)]
    assert [beyond(value, (1, 2, 4, 6)) for value in (0, 1, 1.5, 3, 5, 8)] == [2, 1, 0.5, 0, 0.5, 2]
