"""Poses of a free hand: within limits, fingers beside each other, kinds that look like their names, grasps."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lvdreg.body import BodyModel, BodyParams, load_body
from lvdreg.body.model import Posed
from lvdreg.fit.priors import FINGERS, pose_prior
from lvdreg.synth.draw import Draw
from lvdreg.synth.hands.capsules import FLEX, LONG, THUMB, HandCapsules, segment_distance
from lvdreg.synth.hands.grasps import contact, grasp_place
from lvdreg.synth.hands.poses import KINDS, PINCHES, HandPoseSampler, first_clear
from lvdreg.synth.hands.props import Prop, draw_props

DEGREE = math.pi / 180


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("anny-hand")


@pytest.fixture(scope="module")
def sampler(body: BodyModel) -> HandPoseSampler:
    return HandPoseSampler(body)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def people(body: BodyModel, count: int, seed: int = 0) -> Tensor:
    assert body.data.people is not None
    return torch.from_numpy(body.data.people)[torch.randint(len(body.data.people), (count,), generator=seeded(seed))]


def posed(body: BodyModel, betas: Tensor, pose: Tensor) -> Posed:
    return body(BodyParams(betas, pose, torch.zeros(len(betas), 3)))


def of_kind(sampler: HandPoseSampler, kind: str, count: int = 24, seed: int = 0) -> Tensor:
    """Draw the angles of mean hands of one kind: (B, 5, 3, 3)."""
    shape = sampler.capsules.shape(torch.zeros(count, sampler.body.num_betas))
    return sampler.angles(shape, Draw(count, seeded(seed)), torch.full((count,), list(KINDS).index(kind)))


def ball(centre: Tensor, radius: float) -> Prop:
    """Return balls (B) of one size."""
    drawn = draw_props(Draw(len(centre), seeded()))
    one = torch.ones(len(centre), 2)
    return replace(
        drawn,
        centre=centre,
        radii=torch.full((len(centre), 3), radius),
        exponents=one,
        bump_height=torch.zeros(len(centre)),
        present=torch.ones(len(centre), dtype=torch.bool),
    )


def test_samples_are_poses_within_the_priors_limits(sampler: HandPoseSampler, body: BodyModel) -> None:
    pose = sampler.sample(people(body, 160), seeded())
    assert pose.shape == (160, body.num_joints, 3) and bool(pose.isfinite().all())
    assert not pose[:, 0].any(), "the wrist's turn is drawn elsewhere"
    prior = pose_prior(body.data)
    excess = torch.stack([torch.from_numpy(prior.excess(one)) for one in pose.double().numpy()])
    assert (excess.abs() < 1e-4).float().mean() > 0.999


def test_equal_seeds_give_equal_hands_and_no_two_are_alike(sampler: HandPoseSampler, body: BodyModel) -> None:
    betas = people(body, 12)
    first, again, other = (sampler.sample(betas, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert ((first[1:] - first[:-1]).norm(dim=-1).amax(1) > 0.05).all()


def test_capsules_follow_the_skinned_hand(sampler: HandPoseSampler, body: BodyModel) -> None:
    """The oracle: the body's own bone transforms, applied to the resting capsules."""
    betas = people(body, 6)
    pose = sampler.sample(betas, seeded(1))
    there, shape = posed(body, betas, pose), sampler.capsules.shape(betas)
    capsules = shape.posed(pose[:, sampler.rig.joints][:, None])
    for number, finger in enumerate(sampler.rig.joints):
        for place, joint in enumerate(finger):
            T = there.Ts_world_rest[:, joint]
            ends = shape.ends[:, number, place] @ T[:, :3, :3].mT + T[:, None, :3, 3]
            torch.testing.assert_close(capsules.ends[:, 0, number, place], ends, atol=1e-5, rtol=0)
        pads = torch.einsum("bij,bj->bi", T[:, :3, :3], shape.pads[:, number]) + T[:, :3, 3]
        torch.testing.assert_close(capsules.pads[:, 0, number], pads, atol=1e-5, rtol=0)


def test_capsules_lie_within_every_hands_skin(sampler: HandPoseSampler, body: BodyModel) -> None:
    betas = people(body, 20)
    shape, (vertices, _) = sampler.capsules.shape(betas), body.rest(betas)
    middle = shape.ends.mean(-2)
    depth = torch.cdist(middle.flatten(1, 2), vertices).amin(-1).unflatten(1, (5, 3))
    ratio = depth / shape.radii
    # Fingers are flatter than wide and taper; the thumb's first bone lies in its ball, which is anything but round.
    assert (ratio[:, LONG] > 0.45).all() and (ratio[:, LONG] < 1.4).all()
    tips = shape.ends[:, :, 2, 1]
    reach = (vertices[:, sampler.capsules.tips] - tips).norm(dim=-1) / shape.radii[:, :, 2]
    assert (reach > 0.9).all() and (reach < 1.5).all()
    assert (shape.pads - tips).norm(dim=-1).amax() < 0.03
    palm = torch.cdist(shape.palm.mean(2), vertices).amin(-1) / shape.palm_radii
    assert (palm > 0.6).all() and (palm < 1.2).all()


point = st.tuples(*[st.floats(-1, 1, width=32)] * 3)


@settings(max_examples=60)
@given(st.tuples(point, point, point, point))
def test_distance_of_pieces_equals_a_search_along_both(points: tuple[tuple[float, float, float], ...]) -> None:
    a, b, c, d = torch.tensor(points, dtype=torch.float64)
    share = torch.linspace(0, 1, 81, dtype=torch.float64)[:, None]
    found = float(segment_distance(a, b, c, d))
    searched = float(torch.cdist(a.lerp(b, share), c.lerp(d, share)).min())
    # Steps of an eightieth of at most 3.5: the search is that far above at most, and never below.
    assert searched - 0.05 < found <= searched + 1e-6
    assert found == pytest.approx(float(segment_distance(c, d, b, a)), abs=1e-6)


def test_fingers_through_each_other_are_found(sampler: HandPoseSampler) -> None:
    angles = sampler.rig.rest.clone()[None, None]
    shape = sampler.capsules.shape(torch.zeros(1, sampler.body.num_betas))
    assert sampler.depths(shape, angles).max() < HandCapsules.tolerance
    crossed = angles.clone()
    crossed[..., LONG[0], 0, 2] -= 35 * DEGREE
    assert sampler.depths(shape, crossed).max() > 2 * HandCapsules.tolerance
    in_palm = angles.clone()
    in_palm[..., LONG, :, FLEX] = torch.tensor([90.0, 110.0, 80.0]) * DEGREE
    depth = sampler.capsules.palm_depths(shape.posed(sampler.rig.rotvecs(in_palm)))
    assert (depth[..., LONG] > HandCapsules.tolerance).all() and depth[..., THUMB] < 0


def test_few_hands_have_fingers_in_each_other(sampler: HandPoseSampler, body: BodyModel) -> None:
    betas = people(body, 250)
    pose = sampler.sample(betas, seeded(2))
    capsules = sampler.capsules.shape(betas).posed(pose[:, sampler.rig.joints][:, None])
    depth = sampler.capsules.penetration(capsules).flatten(1).amax(-1)
    assert (depth > HandCapsules.tolerance).float().mean() < 0.02
    assert depth.max() < 0.012


@pytest.mark.slow
def test_kinds_are_what_they_are_called(sampler: HandPoseSampler) -> None:
    curl = {kind: of_kind(sampler, kind)[:, LONG, :2, FLEX].sum(-1) / DEGREE for kind in KINDS}
    assert curl["fist"].min() > 100 and curl["flat"].max() < 40
    assert (curl["pointing"][:, 1:].amin(-1) > curl["pointing"][:, 0] + 20).all()
    assert curl["scissors"][:, :2].max() < 60 < 100 < curl["scissors"][:, 2:].min()
    assert 0.2 < (curl["counting"] > 100).float().mean() < 0.8
    fan = {kind: of_kind(sampler, kind)[:, LONG, 0, 2] for kind in ("spread", "flat")}
    assert (fan["spread"][:, 0] - fan["spread"][:, 3]).mean() > (fan["flat"][:, 0] - fan["flat"][:, 3]).mean() + 0.2


def test_fists_close_on_the_palm(sampler: HandPoseSampler, body: BodyModel) -> None:
    betas = torch.zeros(24, body.num_betas)
    there = posed(body, betas, sampler.pose(of_kind(sampler, "fist")))
    tips = there.vertices[:, sampler.capsules.tips][:, LONG]
    assert (tips[..., 2] > 0.01).all(), "before the palm, not behind the hand"
    assert (tips[..., 1] < there.joints[:, [sampler.rig.joints[f][0] for f in LONG], 1]).all()


@pytest.mark.parametrize("kind", PINCHES)
def test_tips_meet_when_pinching(sampler: HandPoseSampler, kind: str) -> None:
    shape = sampler.capsules.shape(torch.zeros(24, sampler.body.num_betas))
    capsules = shape.posed(sampler.rig.rotvecs(of_kind(sampler, kind))[:, None])
    tips = capsules.ends[:, 0, :, 2, 1]
    gap = (tips[:, LONG] - tips[:, [THUMB]]).norm(dim=-1) - shape.radii[:, LONG, 2] - shape.radii[:, [THUMB], 2]
    nearest = gap.abs().amin(-1)
    assert nearest.median() < 0.002 and nearest.quantile(0.8) < 0.006


def test_the_first_clear_candidate_is_kept_or_the_least_deep() -> None:
    candidates = torch.arange(6.0).view(2, 3)
    depth = torch.tensor([[0.5, 0.1, 0.0], [0.5, 0.3, 0.4]])
    assert first_clear(candidates, depth, 0.2).tolist() == [1, 4]


def test_contact_is_where_the_gap_closes_for_the_first_time_after_it_opened() -> None:
    gaps = torch.tensor([[3.0, 1.0, -1.0, 2.0], [-1.0, 2.0, 1.0, -3.0], [1.0, 1.0, 1.0, 1.0], [-3.0, -1.0, -2.0, -4.0]])
    stop, touched = contact(gaps.T[None])
    assert (3 * stop[0]).tolist() == pytest.approx([1.5, 2.25, 3, 1]) and touched[0].tolist() == [
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("radius", [0.025, 0.04])
def test_hands_close_on_balls_without_entering_them(sampler: HandPoseSampler, body: BodyModel, radius: float) -> None:
    betas = people(body, 24)
    joints = body.rest(betas)[1]
    centre, _ = grasp_place(joints, torch.full((24, 3), radius), seeded(1))
    balls = ball(centre, radius)
    pose = sampler.grasp(betas, balls, seeded(2))
    capsules = sampler.capsules.shape(betas).posed(pose[:, sampler.rig.joints][:, None])
    # The oracle: the distance of a ball's middle from the bones.
    start, end = capsules.ends[:, 0].flatten(1, 2).unbind(-2)
    middle = centre[:, None].expand_as(start)
    gap = (segment_distance(start, end, middle, middle) - radius).unflatten(1, (5, 3)) - capsules.radii
    nearest = gap.amin(-1)
    assert (nearest > -0.004).float().mean() > 0.97
    assert (nearest.abs() < 0.004).sum(-1).float().mean() > 2.5, "fingers touch"
    assert (nearest[:, THUMB].abs() < 0.005).float().mean() > 0.5
    assert sampler.capsules.penetration(capsules).flatten(1).amax(-1).median() < HandCapsules.tolerance


def test_hands_without_things_are_free(sampler: HandPoseSampler, body: BodyModel) -> None:
    betas = people(body, 8)
    balls = replace(ball(torch.full((8, 3), 0.05), 0.03), present=torch.arange(8) % 2 == 0)
    held, free = sampler.grasp(betas, balls, seeded(5)), sampler.sample(betas, seeded(5))
    assert torch.equal(held[1::2], free[1::2])
    assert ((held - free)[::2].norm(dim=-1).amax(-1) > 0.05).all()


def test_things_lie_before_the_palm_as_their_shape_demands(sampler: HandPoseSampler, body: BodyModel) -> None:
    count = 200
    betas, draw = people(body, count), Draw(count, seeded(4))
    radii = draw_props(draw).radii
    joints = body.rest(betas)[1]
    centre, axes = grasp_place(joints, radii, seeded(5))
    torch.testing.assert_close(axes.mT @ axes, torch.eye(3).expand(count, 3, 3), atol=1e-4, rtol=0)
    assert (torch.linalg.det(axes) > 0.99).all()
    thin = axes.gather(2, radii.argmin(-1)[:, None, None].expand(-1, 3, 1))[..., 0]
    length = (joints[:, 4] - joints[:, 0]).norm(dim=-1)
    in_palm = thin[:, 2].abs() > 0.99
    assert 0.5 < in_palm.float().mean() < 0.95, "most lie in the palm, some at the finger tips"
    assert (centre[in_palm, 2] > (radii.amin(-1) + 0.15 * length)[in_palm]).all()
    # Nothing that lies in the palm has its middle in the wrist or beyond the fingers.
    assert (centre[in_palm, 1] > 0.3 * length[in_palm]).all() and (centre[in_palm, 1] < 1.6 * length[in_palm]).all()


def test_names_of_fingers_are_manos(sampler: HandPoseSampler, body: BodyModel) -> None:
    named = [[body.joint_names[joint] for joint in finger] for finger in sampler.rig.joints]
    assert named == [[f"{finger}{place}" for place in (1, 2, 3)] for finger in FINGERS]
