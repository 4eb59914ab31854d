"""Sampled poses: reach, hinges that bend one way, named kinds that do what their names say, collisions."""

import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import lvdreg.synth.people.poses as poses
from lvdreg.body import BodyModel, load_body
from lvdreg.body.model import BodyParams
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.collisions import CollisionProxies
from lvdreg.synth.people.poses import ARM_KINDS, ARM_TARGETS, LEG_KINDS, PoseSampler, two_bone_reach

DEGREE = math.pi / 180
SIDES = (("left", 1.0), ("right", -1.0))


@pytest.fixture(scope="module")
def sampler() -> PoseSampler:
    """The sampler of the shipped body."""
    return PoseSampler(load_body("anny"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def people(body: BodyModel, count: int, seed: int = 0) -> Tensor:
    """Return betas of people of all sizes, children among them."""
    assert body.data.people is not None
    rows = torch.randint(len(body.data.people), (count,), generator=seeded(seed))
    return torch.from_numpy(body.data.people)[rows]


class Drawn(SimpleNamespace):
    """A batch of drawn poses, no candidate rejected, with where it puts the joints when the chest is upright."""

    joints: Tensor
    rotations: Tensor
    posed: Tensor
    bones: Tensor


def draw(sampler: PoseSampler, count: int = 48, seed: int = 0) -> Drawn:
    _, joints = sampler.body.rest(people(sampler.body, count, seed))
    rotations = sampler._draw(joints, seeded(seed + 1))
    bones, posed = sampler._bones(rotations, joints)
    return Drawn(joints=joints, rotations=rotations, posed=posed, bones=bones)


def unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True)


def in_chest(sampler: PoseSampler, drawn: Drawn, name: str) -> Tensor:
    """Return where a joint is, as the chest sees it."""
    chest = drawn.bones[:, sampler.index["spine3"]]
    away = drawn.posed[:, sampler.index[name]] - chest[..., 3]
    return (chest[..., :3].mT @ away[..., None]).squeeze(-1)


def bone_in_chest(sampler: PoseSampler, drawn: Drawn, start: str, end: str) -> Tensor:
    return unit(in_chest(sampler, drawn, end) - in_chest(sampler, drawn, start))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Let only one kind of arms, or of legs, be drawn."""

    def arms(name: str) -> None:
        for kind, values in ARM_KINDS.items():
            monkeypatch.setitem(ARM_KINDS, kind, (float(kind == name), *values[1:]))
        for kind, place in ARM_TARGETS.items():
            monkeypatch.setitem(ARM_TARGETS, kind, place._replace(weight=float(kind == name)))

    def legs(name: str) -> None:
        for kind, values in LEG_KINDS.items():
            monkeypatch.setitem(LEG_KINDS, kind, (float(kind == name), *values[1:]))

    yield SimpleNamespace(arms=arms, legs=legs)


def random_reach(count: int = 500) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = seeded()
    root, target, hint = torch.randn(3, count, 3, generator=generator).unbind(0)
    upper, lower = (0.3 + 1.5 * torch.rand(2, count, generator=generator)).unbind(0)
    return root, target, hint, upper, lower


def test_two_bones_end_at_every_target_within_reach() -> None:
    root, target, hint, upper, lower = random_reach()
    first, second = two_bone_reach(root, target, hint, upper, lower)
    for direction in (first, second):
        torch.testing.assert_close(direction.norm(dim=-1), torch.ones(len(root)), atol=1e-5, rtol=0)
    end = root + upper[:, None] * first + lower[:, None] * second
    distance = (target - root).norm(dim=-1)
    within = (distance < 0.99 * (upper + lower)) & (distance > 1.02 * (upper - lower).abs() + 1e-3)
    assert within.sum() > 100 and (~within).sum() > 100
    assert (end - target).norm(dim=-1)[within].max() < 1e-4
    # What is out of reach is approached in a straight line, as far as the bones allow.
    nearest = torch.maximum(distance - upper - lower, (upper - lower).abs() - distance)
    assert ((end - target).norm(dim=-1) - nearest)[~within].max() < 0.03
    assert (unit(end - root) * unit(target - root)).sum(-1).min() > 1 - 1e-4


def test_the_middle_joint_lies_on_the_side_of_the_hint() -> None:
    root, target, hint, upper, lower = random_reach()
    first, _ = two_bone_reach(root, target, hint, upper, lower)
    along = unit(target - root)
    aside, wanted = (v - (v * along).sum(-1, keepdim=True) * along for v in (first, unit(hint)))
    bent = (aside.norm(dim=-1) > 0.1) & (wanted.norm(dim=-1) > 0.1)
    assert (unit(aside) * unit(wanted)).sum(-1)[bent].min() > 0.99


def test_reach_knows_a_way_where_the_hint_or_the_target_says_nothing() -> None:
    root, along = torch.zeros(3, 3), torch.eye(3)
    length = torch.full((3,), 0.3)
    for target, hint in ((0.4 * along, along), (0.4 * along, -2 * along), (0 * along, along), (0.4 * along, 0 * along)):
        for direction in two_bone_reach(root, target, hint, length, length):
            torch.testing.assert_close(direction.norm(dim=-1), torch.ones(3), atol=1e-4, rtol=0)


def flexion(drawn: Drawn, sampler: PoseSampler, names: tuple[str, str, str], axis: Tensor) -> Tensor:
    """Return how far a hinge is bent about its axis, radians from straight: negative is the wrong way."""
    a, b, c = (drawn.joints[:, sampler.index[name]] for name in names)
    turned = (drawn.rotations[:, sampler.index[names[1]]] @ (c - b)[..., None]).squeeze(-1)
    # The angle as seen along the axis.
    first, second = (v - (v * axis).sum(-1, keepdim=True) * axis for v in (b - a, turned))
    return torch.atan2((torch.linalg.cross(first, second) * axis).sum(-1), (first * second).sum(-1))


def elbow_flexion(drawn: Drawn, sampler: PoseSampler, side: str) -> Tensor:
    names = (f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist")
    a, b, c = (drawn.joints[:, sampler.index[name]] for name in names)
    return flexion(drawn, sampler, names, unit(torch.linalg.cross(b - a, c - b)))


def knee_flexion(drawn: Drawn, sampler: PoseSampler, side: str) -> Tensor:
    names = (f"{side}_hip", f"{side}_knee", f"{side}_ankle")
    return flexion(drawn, sampler, names, torch.tensor([1.0, 0.0, 0.0]).expand(len(drawn.joints), 3))


def test_elbows_and_knees_bend_one_way(sampler: PoseSampler) -> None:
    drawn = draw(sampler, 150)
    for side, _ in SIDES:
        elbow = elbow_flexion(drawn, sampler, side) / DEGREE
        knee = knee_flexion(drawn, sampler, side) / DEGREE
        assert elbow.min() > -12 and elbow.max() < 175, "copied arms tremble by 3 degrees"
        assert knee.min() > -1 and knee.max() < 165
        assert elbow.max() > 120 and knee.max() > 120, "and they do bend"
        assert elbow.median() > 10 and knee.min() < 4


def test_rotations_are_rotations(sampler: PoseSampler) -> None:
    drawn = draw(sampler)
    eye = torch.eye(3).expand_as(drawn.rotations)
    torch.testing.assert_close(drawn.rotations @ drawn.rotations.mT, eye, atol=1e-4, rtol=0)
    assert (torch.linalg.det(drawn.rotations) > 0.99).all()
    pose = sampler.sample(people(sampler.body, 8), seeded())
    assert pose.shape == (8, sampler.body.num_joints, 3) and bool(pose.isfinite().all())


def test_joints_stay_in_range(sampler: PoseSampler) -> None:
    turned = rotmat_to_rotvec(draw(sampler, 150).rotations).norm(dim=-1).amax(0) / DEGREE
    limits = {"spine": 50, "neck": 45, "head": 45, "ankle": 30, "foot": 26, "collar": 60, "wrist": 120, "index": 125}
    for name, largest in zip(sampler.body.joint_names, turned, strict=True):
        for part, limit in limits.items():
            assert part not in name or largest < limit, (name, float(largest))


@pytest.mark.parametrize("kind", ARM_KINDS)
def test_upper_arms_point_where_their_kind_says(sampler: PoseSampler, only: SimpleNamespace, kind: str) -> None:
    only.arms(kind)
    drawn = draw(sampler)
    _, elevations, azimuths, flexions, _ = ARM_KINDS[kind]
    for side, sign in SIDES:
        slack = 0.1 if side == "left" else 12  # degrees: the right arm may tremble
        x, y, z = bone_in_chest(sampler, drawn, f"{side}_shoulder", f"{side}_elbow").unbind(-1)
        elevation, azimuth = torch.acos((-y).clamp(-1, 1)) / DEGREE, torch.atan2(z, sign * x) / DEGREE
        assert elevation.min() > elevations[0] - slack and elevation.max() < elevations[1] + slack
        told = (elevation > 15) & (elevation < 165)  # the azimuth of what hangs or stands says little
        assert azimuth[told].min() > azimuths[0] - 4 * slack and azimuth[told].max() < azimuths[1] + 4 * slack
        bent = elbow_flexion(drawn, sampler, side) / DEGREE
        # The forearm also turns about itself, which is not quite in the plane of the hinge.
        assert bent.min() > flexions[0] - 1 - slack and bent.max() < flexions[1] + 1 + slack


def test_names_mean_what_people_mean(sampler: PoseSampler, only: SimpleNamespace) -> None:
    only.arms("t_pose")
    drawn = draw(sampler)
    for side, sign in SIDES:
        arm = bone_in_chest(sampler, drawn, f"{side}_shoulder", f"{side}_wrist")
        assert (sign * arm[:, 0]).median() > 0.9 and (sign * arm[:, 0]).min() > 0.7 and arm[:, 1].abs().max() < 0.45
    only.arms("overhead")
    drawn = draw(sampler)
    for side, _ in SIDES:
        above = in_chest(sampler, drawn, f"{side}_elbow")[:, 1] - in_chest(sampler, drawn, f"{side}_shoulder")[:, 1]
        assert above.min() > 0.05
        wrist = in_chest(sampler, drawn, f"{side}_wrist")[:, 1]
        # The head nods; where it would be at rest does not.
        assert (wrist > drawn.joints[:, sampler.index["head"], 1]).float().mean() > 0.95
    only.arms("side")
    drawn = draw(sampler)
    for side, _ in SIDES:
        assert bone_in_chest(sampler, drawn, f"{side}_shoulder", f"{side}_wrist")[:, 1].max() < -0.7
    only.arms("front")
    drawn = draw(sampler)
    for side, _ in SIDES:
        assert bone_in_chest(sampler, drawn, f"{side}_shoulder", f"{side}_elbow")[:, 2].min() > 0.3


@pytest.mark.parametrize("kind", ARM_TARGETS)
def test_wrists_reach_their_place_however_the_body_is_bent(
    sampler: PoseSampler, only: SimpleNamespace, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only.arms(kind)
    place = ARM_TARGETS[kind]._replace(spread=0.0)
    monkeypatch.setitem(ARM_TARGETS, kind, place)
    monkeypatch.setattr(PoseSampler, "_mirror_arms", lambda *arguments: None)
    drawn = draw(sampler, 48)
    head, pelvis = (drawn.joints[:, sampler.index[name]] for name in ("head", "pelvis"))
    size = (head - pelvis).norm(dim=-1, keepdim=True) / 0.6
    for side, sign in SIDES:
        offset = torch.tensor(place.offset) * torch.tensor([sign, 1.0, 1.0])
        rest = drawn.joints[:, sampler._index_of(place.origin, side)] + size * offset
        carrier = drawn.bones[:, sampler._index_of(place.carrier, side)]
        goal = (carrier[..., :3] @ rest[..., None]).squeeze(-1) + carrier[..., 3]
        wrist, elbow, shoulder = (drawn.posed[:, sampler.index[f"{side}_{p}"]] for p in ("wrist", "elbow", "shoulder"))
        length = (elbow - shoulder).norm(dim=-1) + (wrist - elbow).norm(dim=-1)
        near = (goal - shoulder).norm(dim=-1) < 0.99 * length
        assert (goal - wrist).norm(dim=-1)[near].max() < 1e-3
        # Knees are out of reach of who stands; other places only of those who turn away from them.
        assert near.float().mean() > (0.05 if kind == "knee" else 0.6)
        assert ((wrist - shoulder).norm(dim=-1)[~near] > 0.98 * length[~near]).all()


def test_hands_on_hips_and_head_are_near_hips_and_head(sampler: PoseSampler, only: SimpleNamespace) -> None:
    for kind in ("hip", "head"):
        only.arms(kind)
        drawn = draw(sampler)
        for side, _ in SIDES:
            joint = sampler.index["head" if kind == "head" else f"{side}_hip"]
            distance = (drawn.posed[:, sampler.index[f"{side}_wrist"]] - drawn.posed[:, joint]).norm(dim=-1)
            assert distance.median() < 0.25 and (distance < 0.35).float().mean() > 0.9


def test_legs_take_the_angles_of_their_kind(sampler: PoseSampler, only: SimpleNamespace) -> None:
    for kind, least, most in (("stand", -1, 9), ("sit", 59, 116), ("squat", 84, 149)):
        only.legs(kind)
        drawn = draw(sampler)
        on_one_leg = 0.0
        for side, _ in SIDES:
            knee = knee_flexion(drawn, sampler, side) / DEGREE
            in_range = (knee > least) & (knee < most)
            on_one_leg = max(on_one_leg, 1 - float(in_range.float().mean()))
        assert on_one_leg < (0.25 if kind == "stand" else 1e-6)
        assert kind != "stand" or on_one_leg > 0, "some stand with one foot at the other knee"


def test_a_foot_at_the_knee_is_at_the_other_knee_or_shin(
    sampler: PoseSampler, only: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    only.legs("stand")
    monkeypatch.setattr(poses, "FOOT_AT_KNEE_SHARE", 1.0)
    drawn = draw(sampler)
    at = {name: drawn.posed[:, sampler.index[name]] for name in sampler.index}
    left = knee_flexion(drawn, sampler, "left") > knee_flexion(drawn, sampler, "right")
    assert 10 < left.sum() < 38, "either leg"
    lifted = torch.where(left[:, None], at["left_ankle"], at["right_ankle"])
    knee = torch.where(left[:, None], at["right_knee"], at["left_knee"])
    ankle = torch.where(left[:, None], at["right_ankle"], at["left_ankle"])
    shank = ankle - knee
    share = ((lifted - knee) * shank).sum(-1) / shank.square().sum(-1)
    beside = (lifted - knee - share[:, None] * shank).norm(dim=-1)
    assert beside.max() < 0.2 and share.min() > -0.3 and share.max() < 0.9


def test_bowing_keeps_the_legs_where_they_were(sampler: PoseSampler, only: SimpleNamespace) -> None:
    """The pelvis pitches forwards, up to 75 degrees, and the hips take that up."""
    only.legs("stand")
    _, joints = sampler.body.rest(people(sampler.body, 32))
    rotations = torch.eye(3).expand(*joints.shape, 3).clone()
    upright = draw_legs(sampler, rotations.clone(), joints, torch.zeros(32))
    bent = draw_legs(sampler, rotations.clone(), joints, torch.full((32,), 1.2))
    for side, _ in SIDES:
        thigh = [
            unit(p[:, sampler.index[f"{side}_knee"]] - p[:, sampler.index[f"{side}_hip"]]) for p in (upright, bent)
        ]
        assert (thigh[0] * thigh[1]).sum(-1).median() > math.cos(10 * DEGREE)
    assert (bent[:, sampler.index["spine1"]] - bent[:, 0])[:, 2].min() > 0.03


def draw_legs(sampler: PoseSampler, rotations: Tensor, joints: Tensor, bend: Tensor) -> Tensor:
    sampler._pose_legs(rotations, joints, Draw(len(joints), seeded()), bend)
    return sampler._bones(rotations, joints)[1]


def test_nearly_half_of_the_arms_are_mirrored(sampler: PoseSampler) -> None:
    drawn = draw(sampler, 150)
    left, right = (
        torch.stack([in_chest(sampler, drawn, f"{side}_{part}") for part in ("elbow", "wrist", "index3")], 1)
        for side in ("left", "right")
    )
    apart = (left * torch.tensor([-1.0, 1.0, 1.0]) - right).norm(dim=-1).amax(1)
    # The chest's frame is not its middle.
    assert 0.35 < (apart < 0.15).float().mean() < 0.6


def test_fingers_curl_towards_the_palm(sampler: PoseSampler) -> None:
    body = sampler.body
    _, joints = body.rest(torch.zeros(200, body.num_betas))
    rotations = torch.eye(3).expand(*joints.shape, 3).clone()
    for side, _ in SIDES:
        sampler._pose_hand(rotations, Draw(200, seeded()), side)
    _, posed = sampler._bones(rotations, joints)
    for side, sign in SIDES:
        wrist, index, pinky, middle = (
            body.J_template[sampler.index[f"{side}_{n}"]] for n in ("wrist", "index1", "pinky1", "middle1")
        )
        palm = sign * unit(torch.linalg.cross(middle - wrist, index - pinky))
        thumb = body.J_template[sampler.index[f"{side}_thumb3"]]
        assert (thumb - index) @ palm > 0.02, "thumbs are on the side of the palm"
        fingers = [sampler.index[f"{side}_{finger}3"] for finger in ("index", "middle", "ring", "pinky")]
        moved = (posed[:, fingers] - joints[:, fingers]) @ palm
        assert moved.min() > -0.015 and moved.max() > 0.03


def test_people_face_everywhere_and_a_few_lie_down(sampler: PoseSampler, only: SimpleNamespace) -> None:
    only.legs("stand")
    count = 4000
    rotations = torch.eye(3).expand(count, 1, 3, 3).clone()
    sampler._orient(rotations, Draw(count, seeded()))
    forward, up = rotations[:, 0, :, 2], rotations[:, 0, :, 1]
    lying = up[:, 1] < 0.5
    assert 0.015 < lying.float().mean() < 0.05
    assert up[~lying, 1].min() > 0.85
    yaw = torch.atan2(forward[~lying, 0], forward[~lying, 2])
    share = torch.histc(yaw, 12, -math.pi, math.pi) / len(yaw)
    assert (share - 1 / 12).abs().max() < 0.02


def test_equal_seeds_give_equal_poses(sampler: PoseSampler) -> None:
    betas = people(sampler.body, 6)
    first, again, other = (sampler.sample(betas, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert ((first - other).norm(dim=-1).amax(1) > 0.1).all()
    assert ((first[1:] - first[:-1]).norm(dim=-1).amax(1) > 0.1).all(), "no two in a batch are alike"


def ancestry(body: BodyModel, bone: int) -> set[int]:
    """Return a bone and all above it."""
    above = set()
    while bone >= 0:
        above.add(bone)
        bone = body.parents[bone]
    return above


def test_penetration_equals_a_loop_over_spheres(sampler: PoseSampler) -> None:
    drawn = draw(sampler, 3, seed=8)
    proxies, body = sampler.proxies, sampler.body
    upright = torch.eye(3).expand_as(drawn.rotations[:1])
    (rest,), (rest_radii,) = (t.tolist() for t in proxies.spheres(body.J_template[None], upright))
    centres, radii = (t.tolist() for t in proxies.spheres(drawn.joints, drawn.rotations))
    bones = proxies.bones.tolist()
    in_trunk = [abs(float(body.J_template[bone, 0])) < 1e-3 for bone in bones]
    deepest, watched = [0.0] * 3, set()
    for i in range(len(bones)):
        for k in range(i):
            # Along the tree: up from one bone to the common ancestor and down to the other.
            apart = len(ancestry(body, bones[i]) ^ ancestry(body, bones[k]))
            meets = math.dist(rest[i], rest[k]) - rest_radii[i] - rest_radii[k] <= 0.02
            if (in_trunk[i] and in_trunk[k]) or apart < 2 or (apart <= 3 and meets):
                continue
            watched.add((k, i))
            for n in range(3):
                overlap = radii[n][i] + radii[n][k] - math.dist(centres[n][i], centres[n][k])
                deepest[n] = max(deepest[n], overlap - (0.04 if apart <= 3 else 0.0))
    assert watched == {tuple(pair) for pair in proxies.pairs.tolist()} and max(deepest) > 0.01
    assert proxies.penetration(drawn.joints, drawn.rotations).tolist() == pytest.approx(deepest, abs=1e-5)


def test_spheres_lie_within_every_persons_skin(sampler: PoseSampler) -> None:
    """Spheres of all people, children too, are in their bodies: they are carried by each one's own joints."""
    body = sampler.body
    betas = people(body, 12)
    drawn = draw(sampler, 12)
    posed = body(BodyParams(betas, rotmat_to_rotvec(drawn.rotations), torch.zeros(12, 3)))
    centres, radii = sampler.proxies.spheres(drawn.joints, drawn.rotations)
    depth = torch.cdist(centres, posed.vertices).amin(-1)
    assert 0.8 < (depth / radii).median() < 1.3 and (depth / radii < 2.5).float().mean() > 0.98
    smaller = sampler.proxies.spheres(0.6 * drawn.joints, drawn.rotations)
    for small, large in zip(smaller, (centres, radii), strict=True):
        torch.testing.assert_close(small, 0.6 * large, atol=1e-5, rtol=1e-4)
    named = {body.joint_names[bone] for bone in sampler.proxies.bones.tolist()}
    assert {"head", "neck", "pelvis", "spine3", "left_elbow", "right_knee", "left_wrist", "right_ankle"} <= named
    assert not [name for name in named if "index" in name or "thumb" in name]
    width = centres[:, [body.joint_names[b] == "spine1" for b in sampler.proxies.bones.tolist()]]
    assert (width.flatten(0, 1).std(0) > 0.02).all(), "the trunk is filled sideways too"


def test_limbs_through_each_other_are_found(sampler: PoseSampler) -> None:
    _, joints = sampler.body.rest(people(sampler.body, 20))
    rotations = torch.eye(3).expand(*joints.shape, 3).clone()
    assert sampler.proxies.penetration(joints, rotations).max() < CollisionProxies.tolerance
    for joint, turn in (("left_hip", (0.0, 0.0, -0.6)), ("right_shoulder", (0.0, 0.0, 1.2))):
        crossed = rotations.clone()
        crossed[:, sampler.index[joint]] = rotvec_to_rotmat(torch.tensor(turn))
        assert sampler.proxies.penetration(joints, crossed).min() > CollisionProxies.tolerance, joint


def test_the_first_candidate_without_collision_is_kept(sampler: PoseSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 60
    betas = people(sampler.body, count)
    _, joints = sampler.body.rest(betas)
    seen: list[Tensor] = []
    measure = sampler.proxies.penetration

    def watch(joints: Tensor, rotations: Tensor) -> Tensor:
        seen.extend((rotations, measure(joints, rotations)))
        return seen[1]

    monkeypatch.setattr(sampler.proxies, "penetration", watch)
    kept = measure(joints, rotvec_to_rotmat(sampler.sample(betas, seeded())))
    candidates, depth = seen[0].view(-1, *seen[0].shape[-3:]), seen[1].view(3, count)
    assert (kept < depth.amin(0).clamp_min(CollisionProxies.tolerance) + 1e-4).all()
    fine = depth < CollisionProxies.tolerance
    assert (kept > CollisionProxies.tolerance).float().mean() < (~fine[0]).float().mean() < 0.3
    first = candidates.view(3, count, *candidates.shape[1:])[0]
    again = rotvec_to_rotmat(sampler.sample(betas, seeded()))
    assert (again[fine[0]] - first[fine[0]]).abs().max() < 1e-3, "kinds keep their shares"
