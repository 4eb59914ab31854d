"""Gaits look like gaits: legs and arms take turns, people stand upright, and equal seeds give equal poses."""

import pytest
import torch
from torch import Tensor

from lvdreg.base.errors import UsageError
from lvdreg.body import BodyModel, BodyParams
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.collisions import CollisionProxies
from lvdreg.synth.people.gaits import GAITS, KINDS, WalkSampler, at_phase, draw_pose

COUNT = 64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def joints_of(body: BodyModel, pose: Tensor) -> dict[str, Tensor]:
    """Posed joints (B, 3) by name."""
    zeros = BodyParams.zeros(body, (len(pose),))
    joints = body(BodyParams(zeros.betas, pose, zeros.transl)).joints
    return {name: joints[:, j] for j, name in enumerate(body.joint_names)}


def moments(body: BodyModel, kind: str, phase: float) -> dict[str, Tensor]:
    """Joints of many people at one phase of their stride."""
    rest = body.J_template.expand(COUNT, -1, -1)
    rotations = WalkSampler(body, GAITS[kind]).moment(rest, torch.full((COUNT,), phase), Draw(COUNT, seeded()))
    return joints_of(body, rotmat_to_rotvec(rotations))


@pytest.mark.parametrize("kind", GAITS)
@pytest.mark.parametrize(("phase", "front", "back"), [(0.0, "left", "right"), (0.5, "right", "left")])
def test_legs_and_arms_take_turns(body: BodyModel, kind: str, phase: float, front: str, back: str) -> None:
    joints = moments(body, kind, phase)
    step = joints[f"{front}_ankle"][:, 2] - joints[f"{back}_ankle"][:, 2]
    assert step.min() > 0.1
    swing = joints[f"{front}_elbow"][:, 2] - joints[f"{back}_elbow"][:, 2]
    assert swing.mean() < -0.08
    assert (swing < 0.03).float().mean() > 0.9


@pytest.mark.parametrize("kind", GAITS)
def test_the_leg_in_the_air_is_bent_and_lifted(body: BodyModel, kind: str) -> None:
    joints = moments(body, kind, 0.65)
    assert (joints["left_ankle"][:, 1] - joints["right_ankle"][:, 1]).mean() > 0.05


def test_runners_bend_knees_and_elbows_more(body: BodyModel) -> None:
    def bend(kind: str, first: str, middle: str, last: str) -> Tensor:
        joints = moments(body, kind, 0.6)
        a, b = joints[middle] - joints[first], joints[last] - joints[middle]
        return torch.acos(torch.nn.functional.cosine_similarity(a, b)).mean()

    for chain in (("left_hip", "left_knee", "left_ankle"), ("left_shoulder", "left_elbow", "left_wrist")):
        assert bend("running", *chain) > bend("walking", *chain) + 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_is_upright_and_faces_the_camera(body: BodyModel, kind: str) -> None:
    pose = draw_pose(kind, body, torch.zeros(COUNT, body.num_betas), seeded(1))
    root = rotvec_to_rotmat(pose[:, 0])
    assert pose.shape == (COUNT, body.num_joints, 3)
    # Bowing is upright still.
    assert (root[:, 1, 1] > 0.15).all() and (root[:, 1, 1] > 0.9).float().mean() > 0.8
    assert torch.linalg.cross(root[:, :, 0], torch.tensor([[0.0, 1.0, 0.0]]).expand(COUNT, -1))[:, 2].min() > 0.7


@pytest.mark.parametrize("kind", GAITS)
def test_parts_hardly_ever_pass_through_each_other(body: BodyModel, kind: str) -> None:
    betas = torch.randn(COUNT, body.num_betas, generator=seeded(5)).clamp(-2, 2)
    pose = draw_pose(kind, body, betas, seeded(6))
    depth = CollisionProxies(body).penetration(body.rest(betas)[1], rotvec_to_rotmat(pose))
    assert (depth < CollisionProxies.tolerance).float().mean() > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_poses(body: BodyModel, kind: str) -> None:
    betas = torch.zeros(4, body.num_betas)
    first, again, other = (draw_pose(kind, body, betas, seeded(seed)) for seed in (2, 2, 3))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert (first - first[0]).abs().amax((1, 2))[1:].min() > 0.1


def test_people_of_several_gaits_move_each_by_its_own(body: BodyModel) -> None:
    rest, phase = body.J_template.expand(6, -1, -1), torch.rand(6, generator=seeded())
    gait = torch.tensor([0, 1, 1, 0, 1, 0])
    both = WalkSampler(body, *GAITS.values()).moment(rest, phase, Draw(6, seeded(1)), gait)
    for number, one in enumerate(GAITS.values()):
        alone = WalkSampler(body, one).moment(rest, phase, Draw(6, seeded(1)))
        torch.testing.assert_close(both[gait == number], alone[gait == number])


def test_an_unknown_kind_is_named(body: BodyModel) -> None:
    with pytest.raises(UsageError, match=r"walking, running, sampled.*got 'crawling'"):
        draw_pose("crawling", body, torch.zeros(1, body.num_betas), seeded())


def test_curves_pass_through_their_values_and_repeat() -> None:
    curve = (1.0, 5.0, -2.0, 0.5)
    knots = torch.arange(8, dtype=torch.float64) / 4
    assert torch.allclose(at_phase(curve, knots), torch.tensor([*curve, *curve], dtype=torch.float64))
    fine = torch.linspace(0, 1, 4001, dtype=torch.float64)
    slope = at_phase(curve, fine).diff() * 4000
    assert slope.diff().abs().max() < 0.2, "a kink"
    assert abs(float(slope[0] - slope[-1])) < 0.2
