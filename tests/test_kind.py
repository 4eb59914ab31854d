"""A person where a hand was asked for, and a hand where a person was: the networks of the other kind say so."""

import numpy as np
import pytest
import torch

from lvdreg.descent.boxes import Box, Size
from lvdreg.descent.choose import Explained
from lvdreg.descent.scan import Views
from lvdreg.pipeline import kind
from lvdreg.pipeline.kind import another_kind
from tests.fake_network import Seen

CLOUD = np.random.default_rng(0).normal(size=(50, 3))
KNOWN, ODD = Size("m", 1.0, False), Size("none", 1.0, True)


def explained_as(explained: Explained) -> Views:
    at = torch.eye(3)[None], Seen(torch.zeros(1, 4, 3)), torch.zeros(4, 3)
    return Views(Box("+y", np.eye(4)), 1.0, *at, torch.zeros(1), True, {}, explained)


def found(score: float, distance: float) -> Views:
    return explained_as(Explained(score, distance, 0.04))


@pytest.mark.parametrize("is_hand", [True, False])
def test_the_other_kind_must_explain_the_scan_clearly_better(is_hand: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    other, word = ("_as_person", "person") if is_hand else ("_as_hand", "hand")

    def said(distance: float, spread: float) -> str | None:
        monkeypatch.setattr(kind, other, lambda points, device: Explained(0.1, distance, spread))
        return another_kind(CLOUD, found(0.3, 1.0), ODD, is_hand, "cpu")

    assert said(0.3, 0.01) == word
    assert said(1.1, 0.01) is None
    assert said(0.3, 0.03) is None  # explained, but views agree no better


def test_what_is_explained_well_and_as_large_as_usual_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("_as_person", "_as_hand"):
        monkeypatch.setattr(kind, other, lambda points, device: pytest.fail("asked"))
    assert another_kind(CLOUD, found(0.05, 0.1), KNOWN, False, "cpu") is None
    assert another_kind(CLOUD, found(0.3, 1.0), KNOWN, True, "cpu") is None


# What both networks said of whole people and hands, and of upper halves (LOG.md, "Persons and hands"): distance and
# spread of the network of people, then of that of hands.
MEASURED = (
    ("person", 0.050, 0.011, 0.077, 0.0242),
    ("person", 0.044, 0.009, 0.086, 0.0370),
    ("person", 0.061, 0.009, 0.164, 0.0325),
    ("hand", 0.068, 0.032, 0.059, 0.0098),
    ("hand", 0.079, 0.034, 0.050, 0.0064),
    ("hand", 0.133, 0.125, 0.090, 0.0076),
    ("upper half", 0.139, 0.252, 0.128, 0.0386),
    ("upper half", 0.055, 0.039, 0.067, 0.0217),
    ("upper half", 0.123, 0.081, 0.265, 0.0604),
)


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: f"{case[0]} {case[1]}")
def test_people_and_hands_that_were_measured_are_told_apart(
    case: tuple[str, float, float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = case[0]
    person, hand = Explained(0.3, case[1], case[2]), Explained(0.3, case[3], case[4])
    monkeypatch.setattr(kind, "_as_person", lambda points, device: person)
    monkeypatch.setattr(kind, "_as_hand", lambda points, device: hand)
    asked_for_hand = another_kind(CLOUD, explained_as(hand), ODD, True, "cpu")
    asked_for_person = another_kind(CLOUD, explained_as(person), ODD, False, "cpu")
    if shown == "upper half":
        assert asked_for_person is None
    else:
        assert asked_for_hand == ("person" if shown == "person" else None)
        assert asked_for_person == ("hand" if shown == "hand" else None)
