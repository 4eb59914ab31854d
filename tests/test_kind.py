"""A person where a hand was asked for, and a hand where a person was: the networks of the other kind say so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyParams
from lvdreg.descent.boxes import UPS, Box, Size, body_boxes
from lvdreg.descent.choose import Explained
from lvdreg.descent.hand_boxes import hand_pose_hypotheses
from lvdreg.descent.scan import Views, explain, view_rotations
from lvdreg.descent.weights import hand_detector_weights, voxel_weights
from lvdreg.pipeline import kind
from lvdreg.pipeline.config import HAND, RegisterConfig
from lvdreg.pipeline.kind import another_kind
from tests.fake_network import Seen

CLOUD = np.random.default_rng(0).normal(size=(50, 3))
KNOWN, ODD = Size("m", 1.0, False), Size("none", 1.0, True)


def explained_as(explained: Explained) -> Views:
    at = torch.eye(3)[None], Seen(torch.zeros(1, 4, 3)), torch.zeros(4, 3)
    return Views(Box("+y", np.eye(4)), 1.0, *at, torch.zeros(1), True, {}, explained)


def found(score: float, distance: float) -> Views:
    return explained_as(Explained(score, distance, 0.01))


@pytest.mark.parametrize("is_hand", [True, False])
def test_the_other_kind_must_explain_the_scan_clearly_better(is_hand: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    other, word = ("_as_person", "person") if is_hand else ("_as_hand", "hand")

    def said(distance: float, spread: float) -> str | None:
        monkeypatch.setattr(kind, other, lambda points, device: Explained(0.1, distance, spread))
        return another_kind(CLOUD, found(0.3, 1.0), ODD, is_hand, "cpu")

    assert said(0.3, 0.01) == word
    assert said(0.9, 0.01) is None
    assert said(0.3, 0.5) is None  # explained, but every view has it otherwise


def test_what_is_explained_well_and_as_large_as_usual_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("_as_person", "_as_hand"):
        monkeypatch.setattr(kind, other, lambda points, device: pytest.fail("asked"))
    assert another_kind(CLOUD, found(0.05, 0.1), KNOWN, False, "cpu") is None
    assert another_kind(CLOUD, found(0.3, 1.0), KNOWN, True, "cpu") is None


def rest_points(name: str) -> FloatArray:
    body = load_body(name)
    rest = BodyParams(torch.zeros(body.num_betas), torch.zeros(len(body.data.parents), 3), torch.zeros(3))
    points: FloatArray = body(rest).vertices.double().numpy()
    return points


def test_the_shipped_networks_know_a_person_from_a_hand() -> None:
    """At rest; how a hand is explained by the network of people as a whole is enough to doubt it."""
    person, hand = rest_points("anny"), rest_points("anny-hand")
    detector, net = hand_detector_weights("anny-hand").net, voxel_weights("anny-hand").net
    boxes = hand_pose_hypotheses(detector, person, "auto", HAND.views, HAND.clean)
    as_hand = explain(net, person, boxes, view_rotations(HAND.views), HAND.views, HAND.descent)
    assert another_kind(person, explained_as(as_hand), ODD, True, "cpu") == "person"
    config = replace(RegisterConfig().views, part_zooms=())
    boxes = body_boxes(hand, {"+y": UPS["+y"]}, 8000)
    as_person = explain(voxel_weights("anny").net, hand, boxes, view_rotations(config)[:2], config, HAND.descent)
    assert another_kind(hand, explained_as(as_person), ODD, False, "cpu") == "hand"
