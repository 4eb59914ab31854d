"""Legs that look straight in a photo are: which ones those are, and what keeps them so."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_photo import scene, standing

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.fit.legs import StraightConfig, StraightLegs, straight_legs
from lvdreg.fit.photo import SilhouetteConfig, evidence_of
from lvdreg.fit.photo_guard import knee_bends
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.together import refine_to_photo
from lvdreg.fit.vertices import Fit
from lvdreg.image.crop import CutConfig, crop_around

CONFIG = StraightConfig()
NAMES = ("left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle")


def leg(tilt: float = 0.0, away: float = 0.0) -> FloatArray:
    """Hip, knee and ankle (3, 3), 0.4 m each: thigh and shin tilt aside by degrees, and turn out of the picture."""
    turn, out = np.radians(tilt), np.radians(away)
    down = np.cos(out) * np.array([np.sin(turn), -np.cos(turn), 0.0])
    return 0.4 * np.arange(3)[:, None] * (down + [0, 0, np.sin(out)])


def weights(seen: FloatArray, visibility: float = 0.9) -> FloatArray:
    """How sure it is that a left leg of 0.8 m is straight which is seen so; of the right one nothing is seen."""
    places = np.concatenate([leg(), leg()])
    keypoints = np.concatenate([np.c_[seen[:, :2], np.full(3, visibility)], np.zeros((3, 3))])
    return straight_legs(NAMES, places, keypoints, 0.3, CONFIG).weights


def test_legs_that_stand_are_straight() -> None:
    assert weights(leg()) == weights(leg(12)) == pytest.approx([1.0])
    assert 0.2 < weights(leg(25))[0] < 0.5
    assert not len(weights(leg(35))), "a stride, or somebody who lies"
    assert not len(weights(leg() * [1, -1, 1])), "a hand stand"
    assert weights(leg(away=15)) == pytest.approx([1.0]), "a camera that looks down sees them no otherwise"
    assert not len(weights(leg(away=50))), "a shorter leg is one that sits"
    assert not len(weights(leg(), visibility=0.2))
    bent = leg()
    bent[1, 0] += 0.15
    assert len(weights(bent)) == 0 or weights(bent)[0] < 0.7, "a knee that is seen to bend"


def test_a_body_without_knees_has_none() -> None:
    found = straight_legs(NAMES[:1], leg()[:1], np.ones((1, 3)), 0.3, CONFIG)
    assert found.rows.shape == (0, 3)


@pytest.mark.parametrize("turned", [0.0, 0.5, -1.0])
def test_only_the_bow_counts(turned: float) -> None:
    """Whichever way a straight leg leans it has no cost; one that bends has, the less surely the further."""
    legs, wide = StraightLegs(np.array([[0, 1, 2]]), np.ones(1)), replace(CONFIG, reach=10.0)
    nothing = np.zeros((3, 3, 4))
    straight = leg(away=np.degrees(turned))
    assert legs.equations(straight, nothing, CONFIG).cost == pytest.approx(0, abs=1e-12)
    ahead = np.array([[0, 0, 0], [0, np.sin(turned), np.cos(turned)], [0, 0, 0]])
    bent = straight + 0.018 * ahead
    assert legs.equations(bent, nothing, wide).cost == pytest.approx(0.5 * np.cos(turned) ** 2, rel=0.01)
    far = straight + 0.8 * ahead
    assert legs.equations(far, nothing, CONFIG).cost < 0.02 * legs.equations(far, nothing, wide).cost


def test_the_slope_is_that_of_differences() -> None:
    """Along motions of single landmarks, with weights held: lengths of thigh and shin hardly change by them."""
    rng = np.random.default_rng(0)
    places, jacobian = leg(5, 10) + 0.01 * rng.normal(size=(3, 3)), rng.normal(size=(3, 3, 5)) * [[[1e-9], [1e-9], [1]]]
    legs, wide = StraightLegs(np.array([[0, 1, 2]]), np.array([0.7])), replace(CONFIG, reach=100.0)
    found = legs.equations(places, jacobian, wide)

    def cost(step: FloatArray) -> float:
        return legs.equations(places + jacobian @ step, jacobian, wide).cost

    slow = np.array([(cost(1e-6 * axis) - cost(-1e-6 * axis)) / 2e-6 for axis in np.eye(5)])
    # The share of the thigh changes with the bow, by little.
    np.testing.assert_allclose(found.gradient, slow, rtol=0.05, atol=0.05 * np.abs(slow).max())


def test_knees_that_bend_unseen_are_made_straight(body: BodyModel) -> None:
    """The network bends both knees of somebody who stands by 25 degrees, towards a camera that sees straight legs."""
    shot = scene(body, standing(body))
    crop = crop_around(shot.rgb, shot.shown.mask, CutConfig(), 256)
    size = crop.side / 2 / shot.camera.scale
    shift = torch.from_numpy(np.append(crop.to_unit(shot.camera.centre) * size, -shot.joints[0, 2])).float()
    pose = shot.params.pose.clone()
    for side in ("left", "right"):
        for joint, turn in (("hip", -12.5), ("knee", 25.0), ("ankle", -12.5)):
            pose[body.joint_names.index(f"{side}_{joint}"), 0] += np.radians(turn)
    start = Fit(replace(shot.params, pose=pose, transl=shot.params.transl + shift), 1.0, 0.0, True)
    kernel = Kinematics(body.data)

    def bends(fit: Fit) -> FloatArray:
        return np.degrees(knee_bends(body, kernel.pose(State.from_params(fit.params)).joints))

    shown = evidence_of(crop, size, shot.shown.keypoints, SilhouetteConfig())
    sigma = torch.full((len(shot.vertices),), 0.05)
    unbelieved = replace(SilhouetteConfig(), straight=replace(CONFIG, sigma=1e6))
    with_prior, without = (
        bends(refine_to_photo(body, start, shown, sigma, config, RefineConfig())[0])
        for config in (SilhouetteConfig(), unbelieved)
    )
    true = np.degrees(knee_bends(body, shot.joints))
    assert (bends(start) - true).min() > 20 and (without - true).min() > 15 and (with_prior - true).max() < 8
