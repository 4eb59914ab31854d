"""What hands can do: rules, axes and limits of a hand of its own; the body's stay what they were."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lvdreg.body import BodyData, load_body
from lvdreg.fit.priors import FINGERS, HAND_RULES, RULES, PosePrior, joint_axes, pose_prior, rest_angles, rule_of
from lvdreg.geometry.frames import rotvec_to_rotmat

LONG = FINGERS[:4]


@pytest.fixture(scope="module")
def hand() -> BodyData:
    return load_body("anny-hand").data


@pytest.fixture(scope="module")
def prior(hand: BodyData) -> PosePrior:
    return pose_prior(hand)


def joint(hand: BodyData, name: str) -> int:
    return hand.joint_names.index(name)


def turned(hand: BodyData, name: str, component: int) -> NDArray[np.float64]:
    """Return where a small turn about one axis of a joint moves its bone: metres per radian, rest frame."""
    number = joint(hand, name)
    child = hand.J_template[np.flatnonzero(hand.parents == number)[0]] - hand.J_template[number]
    rotation = rotvec_to_rotmat(torch.from_numpy(1e-3 * joint_axes(hand, number)[component])).numpy()
    return (rotation @ child.astype(np.float64) - child) / 1e-3


def test_fingers_without_a_side_have_rules_of_their_own() -> None:
    assert rule_of("index1") is rule_of("pinky1") is HAND_RULES["1"]
    assert rule_of("middle3") is HAND_RULES["3"] and rule_of("thumb2") is HAND_RULES["thumb2"]
    assert rule_of("left_index1") is RULES["index"] and rule_of("right_thumb1") is RULES["thumb1"]
    assert rule_of("wrist") is RULES["wrist"] is rule_of("right_wrist")
    assert min(rule_of(f"{finger}1").sigma[1] for finger in LONG) >= 45, "a fist is nothing unlikely"


def test_axes_are_right_handed_frames_up_to_the_side(hand: BodyData) -> None:
    for number in range(1, len(hand.joint_names)):
        axes = joint_axes(hand, number)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("finger", LONG)
@pytest.mark.parametrize("place", [1, 2])
def test_flexion_takes_fingers_to_the_palm_and_side_to_the_thumb(hand: BodyData, finger: str, place: int) -> None:
    flexed, aside = (turned(hand, f"{finger}{place}", component) for component in (1, 2))
    assert flexed[2] > 0.85 * np.linalg.norm(flexed), "the palm faces +Z"
    assert aside[0] > 0.85 * np.linalg.norm(aside), "the thumb is at +X"


def test_the_thumb_flexes_across_the_palm_and_aside_from_the_fingers(hand: BodyData) -> None:
    for name in ("thumb1", "thumb2"):
        flexed, aside = (turned(hand, name, component) for component in (1, 2))
        assert flexed[0] < -0.6 * np.linalg.norm(flexed)
        assert aside[1] < -0.5 * np.linalg.norm(aside), "away from the fingers"


def test_fingers_rest_a_little_bent_and_limits_count_from_straight(hand: BodyData, prior: PosePrior) -> None:
    for finger in LONG:
        number = joint(hand, f"{finger}1")
        bent = np.degrees(rest_angles(hand, number)[1])
        assert 5 < bent < 30
        assert np.degrees(prior.high[number, 1]) == pytest.approx(HAND_RULES["1"].high[1] - bent)
    assert rest_angles(hand, joint(hand, "thumb1")).tolist() == [0, 0, 0]


def test_rest_and_fist_are_within_the_limits_and_a_finger_bent_back_is_not(hand: BodyData, prior: PosePrior) -> None:
    pose = np.zeros((len(hand.joint_names), 3))
    assert not prior.excess(pose).any()
    for finger in LONG:
        for place, angle in ((1, 65), (2, 90), (3, 60)):
            number = joint(hand, f"{finger}{place}")
            pose[number] = np.radians(angle) * prior.axes[number, 1]
    assert not prior.excess(pose).any()
    back = joint(hand, "index2")
    pose[back] = np.radians(-60) * prior.axes[back, 1]
    assert np.degrees(prior.excess(pose)[back, 1]) < -20


TWIST, FLEX, SIDE = range(3)
# Degrees that healthy people reach one joint at a time (American Academy of Orthopaedic Surgeons, Joint Motion, 1965):
# from the straight limb, of the shoulder from the arm held sideways.
REACHED = [
    ("hip", FLEX, 120), ("hip", FLEX, -30), ("hip", SIDE, 45), ("hip", TWIST, 45), ("hip", TWIST, -45),
    ("knee", FLEX, 0), ("knee", FLEX, 135), ("ankle", FLEX, 20), ("ankle", FLEX, -50),
    ("shoulder", SIDE, 90), ("shoulder", SIDE, -90), ("elbow", FLEX, 0), ("elbow", FLEX, 150),
    ("wrist", FLEX, 80), ("wrist", FLEX, -70), ("index1", FLEX, 90), ("index2", FLEX, 100),
]  # fmt: skip
BEYOND = [
    ("hip", FLEX, 180), ("hip", FLEX, -90), ("hip", SIDE, 110), ("knee", FLEX, -30), ("knee", FLEX, 180),
    ("knee", SIDE, 45), ("ankle", FLEX, 90), ("ankle", FLEX, -90), ("shoulder", SIDE, 150), ("shoulder", SIDE, -160),
    ("elbow", FLEX, -40), ("elbow", SIDE, 60), ("wrist", FLEX, 130), ("wrist", FLEX, -130), ("index2", FLEX, 140),
]  # fmt: skip


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_bodys_limits_are_those_of_people(anny_data: BodyData, side: str) -> None:
    """What people reach costs nothing, and what breaks their bones does: on either side and from any rest pose."""
    prior = pose_prior(anny_data)

    def beyond(name: str, component: int, degrees: float) -> float:
        number = joint(anny_data, f"{side}_{name}")
        pose = np.zeros((len(anny_data.joint_names), 3))
        angle = np.radians(degrees) - rest_angles(anny_data, number)[component]
        pose[number] = angle * prior.axes[number, component]
        return float(np.degrees(np.abs(prior.excess(pose)).max()))

    assert [case for case in REACHED if beyond(*case) > 1e-6] == []
    assert [case for case in BEYOND if beyond(*case) < 10] == []
