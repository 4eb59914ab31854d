"""Hands of whole bodies: where they lie on the hand model, how they are looked at, what a refinement makes of that."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_network import KnownNet, SameSigma
from scans import scan_of, standing, vertices_of

from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.chosen import Chosen
from lvdreg.body.hands import HAND, SIDES, hand_places, has_fingers, joints_of_hand, of_hand, palm_frame
from lvdreg.body.model import BodyModel, BodyParams, mirror_image
from lvdreg.descent.boxes import unit_box
from lvdreg.descent.hands import HandLookConfig, SeenHand, look_at_hands, with_hands
from lvdreg.descent.weights import TrainedNet
from lvdreg.fit.hands import pose_hands
from lvdreg.fit.kinematics import State
from lvdreg.fit.known import Known, SeenTerm, SeenVertices
from lvdreg.fit.priors import joint_axes
from lvdreg.fit.scan import RefineConfig, refine_body
from lvdreg.fit.vertices import Fit, FitConfig
from lvdreg.geometry.frames import nearest_similarity, transform_points
from lvdreg.pipeline.assess_scan import posed_joints
from lvdreg.voxel.hand_detector import HALF_EXTENT

LOOK = HandLookConfig(min_points=50)
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def curled(body: BodyModel, params: BodyParams, side: str, angle: float) -> BodyParams:
    """Bend all fingers of one hand towards its palm."""
    pose = params.pose.clone()
    for j in np.flatnonzero(joints_of_hand(body.data, side)):
        if not body.joint_names[j].endswith(("wrist", "thumb1", "thumb2", "thumb3")):
            pose[j] = angle * torch.from_numpy(joint_axes(body.data, int(j))[1])
    return replace(params, pose=pose)


def seen_of(vertices: FloatArray, index: FloatArray, sigma: float = 0.003) -> SeenVertices:
    return SeenVertices(index, vertices[index], np.full(len(index), sigma))


@pytest.mark.parametrize("side", SIDES)
def test_both_models_have_one_hand(body: BodyModel, side: str) -> None:
    """Bone by bone the hand at rest is that of the body at rest; a left one is its mirror image."""
    places, hand = hand_places(), load_body(HAND).data
    index, there = places.vertices[side], places.at(np.asarray(hand.v_template, np.float64))
    own = transform_points(MIRROR if side == "left" else np.eye(4), np.asarray(body.data.v_template, np.float64)[index])
    owner = np.asarray(body.data.weights).argmax(1)[index]
    assert set(owner) == set(np.flatnonzero(joints_of_hand(body.data, side)))
    for joint in np.unique(owner):
        part = owner == joint
        moved = transform_points(nearest_similarity(own[part], there[part]), own[part])
        assert np.linalg.norm(moved - there[part], axis=1).max() < 0.0015


@pytest.mark.parametrize("side", SIDES)
def test_palms_lie_as_the_hand_model_does(body: BodyModel, side: str) -> None:
    params = standing(body, 3)
    joints, data = posed_joints(body, params), body.data
    T_palm_world = palm_frame(data, joints, side)
    assert np.linalg.det(T_palm_world[:3, :3]) == pytest.approx(-1.0 if side == "left" else 1.0)
    at = {
        name: transform_points(T_palm_world, joints[data.joint_names.index(f"{side}_{name}")])
        for name in ("wrist", "middle1", "index1", "pinky1")
    }
    hand = load_body(HAND).data
    rest = {name: np.asarray(hand.J_template[hand.joint_names.index(name)]) for name in at}
    assert at["wrist"] == pytest.approx(0, abs=1e-9)
    for name in ("middle1", "index1", "pinky1"):
        cosine = at[name] @ rest[name] / np.linalg.norm(at[name]) / np.linalg.norm(rest[name])
        assert cosine > np.cos(np.radians(8))


def test_bodies_without_fingers_have_no_hands_to_look_at(body: BodyModel) -> None:
    keep = [j for j, name in enumerate(body.joint_names) if "index" not in name]
    less = replace(
        body.data,
        joint_names=tuple(body.joint_names[j] for j in keep),
        parents=np.array([-1] + [0] * (len(keep) - 1)),
        weights=body.data.weights[:, keep],
        J_template=body.data.J_template[keep],
        J_shapedirs=body.data.J_shapedirs[keep],
        mirror_joints=None,
        tpose=None,
    )
    for side in SIDES:
        assert has_fingers(body.data, side) and not has_fingers(less, side)


class Sees(KnownNet):
    """Knows where a hand lies in the palm's axes, as far as it is given points of one."""


def looked_at(body: BodyModel, params: BodyParams, points: FloatArray, config: HandLookConfig) -> list[SeenHand]:
    """What a network sees that takes every hand for the hand model at rest."""
    hand = load_body(HAND)
    rest = torch.from_numpy(np.asarray(hand.data.v_template))[None]
    scale, centre = unit_box(rest, torch.ones(rest.shape[:2], dtype=torch.bool), HALF_EXTENT)
    net = Sees(scale * (rest[0] - centre), 2000)
    trained = TrainedNet(net, (SameSigma(np.array([1.0]), np.array([0.02])),), {}, {})
    about = vertices_of(body, params), posed_joints(body, params)
    return look_at_hands(trained, hand.data, points, body.data, *about, config, 0)


def test_hands_are_looked_at_where_they_are(body: BodyModel) -> None:
    params = standing(body, 5)
    points = scan_of(body, vertices_of(body, params), 9000).points
    seen = looked_at(body, params, points, LOOK)
    assert [hand.side for hand in seen] == ["left", "right"]
    for hand in seen:
        own = vertices_of(body, params)[of_hand(body.data, hand.side)]
        assert np.linalg.norm(hand.vertices.mean(0) - own.mean(0)) < 0.03
        assert 0.0 < hand.sigma.min() <= hand.sigma.max() < 0.01


@pytest.mark.parametrize("why", ["unseen", "elsewhere", "uncertain"])
def test_what_is_not_seen_is_not_said(body: BodyModel, why: str) -> None:
    params = standing(body, 5)
    points = scan_of(body, vertices_of(body, params), 9000).points
    config = {"elsewhere": replace(LOOK, reach=0.0), "uncertain": replace(LOOK, max_sigma=1e-4)}.get(why, LOOK)
    if why == "unseen":
        points = points[points[:, 0] < np.median(points[:, 0]) + 0.2]
    seen = [hand.side for hand in looked_at(body, params, points, config)]
    assert seen == (["right"] if why == "unseen" else [])


def test_hands_take_the_place_of_what_was_predicted(body: BodyModel) -> None:
    hand, free = load_body(HAND), torch.zeros(body.num_vertices, 3)
    seen = SeenHand("left", np.asarray(hand.data.v_template, np.float64) + 1.0, np.full(hand.num_vertices, 0.002))
    vertices, sigma, own = with_hands(Chosen(body, body), free, torch.full((body.num_vertices,), 0.03), [seen])
    assert np.array_equal(np.flatnonzero(own), np.sort(hand_places().vertices["left"]))
    assert (vertices[~own] == 0).all() and (vertices[own] > 0.8).all()
    assert sigma[own].numpy() == pytest.approx(0.002, rel=1e-4) and (sigma[~own] == 0.03).all()


@pytest.mark.parametrize("side", SIDES)
def test_hands_are_posed_and_nothing_else(body: BodyModel, side: str) -> None:
    open_hand = standing(body, 7)
    truth = vertices_of(body, curled(body, open_hand, side, 0.9))
    own = of_hand(body.data, side)
    fit = Fit(open_hand, 1.0, 0.0, converged=True)
    found = pose_hands(body, fit, seen_of(truth, np.flatnonzero(own)), FitConfig())
    assert np.array_equal(found.joints, joints_of_hand(body.data, side))
    missed = np.linalg.norm(vertices_of(body, found.posed.params) - truth, axis=1)
    before = np.linalg.norm(vertices_of(body, open_hand) - truth, axis=1)
    assert before[own].mean() > 0.015 and missed[own].mean() < 0.003
    assert missed[~own].mean() < 0.002


def test_a_closer_look_mends_fingers_while_the_body_is_refined(body: BodyModel) -> None:
    start = standing(body, 8)
    truth = vertices_of(body, curled(body, start, "right", 0.9))
    target, own = scan_of(body, truth, 2500), of_hand(body.data, "right")
    fit, quick = Fit(start, 1.0, 0.0, converged=True), RefineConfig(max_iterations=6)
    alone = refine_body(body, fit, target, None, quick)
    looks = []

    def look(near: Fit) -> object:
        looks.append(near)
        return pose_hands(body, near, seen_of(truth, np.flatnonzero(own)), FitConfig())

    closer = refine_body(body, fit, target, None, quick, look=look)  # type: ignore[arg-type]
    missed = [np.linalg.norm(vertices_of(body, each.params) - truth, axis=1)[own].mean() for each in (alone, closer)]
    assert len(looks) == 1 and missed[1] < 0.004 < 0.5 * missed[0]
    assert closer.seen is not None and alone.seen is None
    assert closer.sigma_posterior is not None and alone.sigma_posterior is not None
    assert closer.sigma_posterior[own].mean() < 0.5 * alone.sigma_posterior[own].mean()


def test_a_look_that_sees_nothing_changes_nothing(body: BodyModel) -> None:
    start = standing(body, 9)
    target, quick = scan_of(body, vertices_of(body, start), 2000), RefineConfig(max_iterations=3)
    fit = Fit(start, 1.0, 0.0, converged=True)
    plain, looked = (refine_body(body, fit, target, None, quick, look=look) for look in (None, lambda _fit: None))
    assert torch.equal(plain.params.pose, looked.params.pose) and looked.seen is None


def test_what_is_far_off_loses_its_say(body: BodyModel) -> None:
    state = State.from_params(standing(body, 10))
    truth, index = vertices_of(body, state.to_params(body.v_template)), np.flatnonzero(of_hand(body.data, "left"))
    costs = []
    for off in (0.0, 0.01, 0.5, 5.0):
        seen = SeenVertices(index, truth[index] + [off, 0, 0], np.full(len(index), 0.003))
        costs.append(SeenTerm.of(body.data, seen).equations(state).cost)
    assert costs[0] == pytest.approx(0, abs=1e-6) and costs[1] > 1
    assert costs[3] == pytest.approx(costs[2], rel=0.01)
    assert Known(seen=seen_of(truth, index)).prior(body.data, RefineConfig().prior, in_world=False).terms == ()


def test_the_mirror_image_of_a_body_has_the_hands_of_the_other_side(body: BodyModel) -> None:
    params = standing(body, 11)
    joints, swapped = posed_joints(body, params), mirror_image(body.data)
    assert swapped.joint_names == body.data.joint_names
    T_left = palm_frame(body.data, joints, "left")
    other = joints * [-1.0, 1.0, 1.0]
    names = list(body.joint_names)
    order = [names.index(n.replace("left_", "_").replace("right_", "left_").replace("_", "right_", 1))
             if n.startswith("left_") else names.index(n.replace("right_", "left_")) for n in names]  # fmt: skip
    T_right = palm_frame(body.data, other[order], "right")
    assert T_left == pytest.approx(T_right @ MIRROR, abs=1e-9)
