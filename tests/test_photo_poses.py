"""What people do in photos is what the table says, and cameras stand where people hold them."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from lvdreg.body import BodyModel, BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.camera.view import look_at
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.collisions import CollisionProxies
from lvdreg.synth.people.gaits import GAITS
from lvdreg.synth.people.photo_poses import NAMES, PHOTO_POSES, PhotoPoseSampler
from lvdreg.synth.photos import FARTHEST_CAMERA, NEAREST_CAMERA, aimed_aside, stand

COUNT = 320


class Drawn(NamedTuple):
    """Poses of people of the mean shape: what they do, rotation vectors, posed joints by name."""

    kind: Tensor
    pose: Tensor
    joints: dict[str, Tensor]

    def of(self, *kinds: str) -> Tensor:
        """Who does one of these."""
        return torch.isin(self.kind, torch.tensor([NAMES.index(kind) for kind in kinds]))

    def bend(self, first: str, middle: str, last: str) -> Tensor:
        """Flexion of both sides' hinge, degrees (2, B)."""
        sides = []
        for side in ("left", "right"):
            a, b, c = (self.joints[f"{side}_{name}"] for name in (first, middle, last))
            sides.append(torch.nn.functional.cosine_similarity(b - a, c - b).clamp(-1, 1).acos().rad2deg())
        return torch.stack(sides)

    def apart(self) -> Tensor:
        """From the right to the left ankle, metres."""
        return self.joints["left_ankle"] - self.joints["right_ankle"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def drawn(body: BodyModel) -> Drawn:
    sampler, betas = PhotoPoseSampler(body), torch.zeros(COUNT, body.num_betas)
    kind, pose = sampler.choose(COUNT, seeded()), sampler.sample(betas, seeded())
    joints = body(BodyParams(betas, pose, torch.zeros(COUNT, 3))).joints
    return Drawn(kind, pose, {name: joints[:, j] for j, name in enumerate(body.joint_names)})


def test_the_table_is_whole() -> None:
    assert sum(kind.share for kind in PHOTO_POSES.values()) == pytest.approx(1)
    assert all(kind.share > 0.02 for kind in PHOTO_POSES.values())  # what is never seen is forgotten
    assert {name for name, kind in PHOTO_POSES.items() if kind.style is None} == set(GAITS)


def test_everybody_does_what_the_table_says_as_often_as_it_says(body: BodyModel) -> None:
    kinds = PhotoPoseSampler(body).choose(20_000, seeded(3))
    for number, kind in enumerate(PHOTO_POSES.values()):
        found = float((kinds == number).float().mean())
        assert abs(found - kind.share) < 4 * (kind.share * (1 - kind.share) / 20_000) ** 0.5, NAMES[number]


def test_poses_look_as_the_table_says(drawn: Drawn) -> None:
    knees, hips = drawn.bend("hip", "knee", "ankle"), drawn.bend("shoulder", "hip", "knee")
    stands, sits = drawn.of("standing"), drawn.of("sitting")
    assert knees[:, stands].amin(0).max() < 15  # one leg carries
    level = (knees.amax(0) < 15) & (drawn.apart()[:, 1].abs() < 0.06) & (drawn.apart()[:, 2].abs() < 0.15)
    assert level[stands].float().mean() > 0.55
    # As many of all people as the table promises: 16 % were straight and level before it was made.
    assert level.float().mean() > 0.6 * PHOTO_POSES["standing"].share
    assert hips[:, sits].amin(0).float().quantile(0.1) > 40
    down = drawn.joints["neck"][:, 1] - drawn.joints["pelvis"][:, 1]
    assert (down[sits] > 0.2).all()
    stride = drawn.apart()[:, 2].abs()
    assert stride[drawn.of("walking", "running")].mean() > 2 * stride[stands].mean()


def test_arms_mostly_hang_or_rest_below_the_shoulders(drawn: Drawn) -> None:
    stands = drawn.of("standing")
    for side in ("left", "right"):
        lower = drawn.joints[f"{side}_shoulder"][:, 1] - drawn.joints[f"{side}_wrist"][:, 1]
        assert (lower[stands] > 0.05).float().mean() > 0.85


def test_only_acrobats_are_upside_down_and_they_are_any_way_up(drawn: Drawn) -> None:
    up = rotvec_to_rotmat(drawn.pose[:, 0])[:, 1, 1]
    acrobats = drawn.of("acrobatic")
    assert (up[~acrobats] > 0.1).all()
    assert 0.2 < (up[acrobats] < 0).float().mean() < 0.8


def test_parts_hardly_ever_pass_through_each_other(body: BodyModel, drawn: Drawn) -> None:
    rest = body.J_template.expand(COUNT, -1, -1)
    depth = CollisionProxies(body).penetration(rest, rotvec_to_rotmat(drawn.pose))
    assert (depth < CollisionProxies.tolerance).float().mean() > 0.95


def test_cameras_stand_where_people_hold_them() -> None:
    people = torch.rand(400, 20, 3, generator=seeded()) * torch.tensor([0.5, 1.8, 0.4])
    cameras, _ = stand(people, 256, Draw(400, seeded(1)))
    near = cameras.perspective > 0
    middle = (people.amin(1) + people.amax(1)) / 2
    away = torch.stack([torch.zeros(400), torch.zeros(400), 1 / cameras.perspective], 1)
    place = -(cameras.rotation.mT @ (cameras.translation + away)[..., None])[near, :, 0]
    distance = (place - middle[near]).norm(dim=1)
    assert distance.min() > 0.99 * NEAREST_CAMERA and distance.max() < 1.01 * FARTHEST_CAMERA
    assert (distance < 2).float().mean() > 0.08 and (distance > 8).float().mean() > 0.1
    assert 0.8 < near.float().mean() < 0.95
    height = place[:, 1] - people[near].amin((1, 2)).clamp(max=0)
    assert (height < 0.8).float().mean() > 0.04 and (height > 1.75).float().mean() > 0.04
    assert ((height > 1.0) & (height < 1.8)).float().mean() > 0.5
    # Everybody is before the camera, and not at the edge of what it sees.
    seen = cameras.view(people)[near] + away[near, None]
    assert seen[..., 2].min() > 0.5
    assert (seen[..., :2].norm(dim=-1) / seen[..., 2]).max() < 1.5


def test_cameras_that_look_aside_stand_where_they_stood_and_see_as_pinholes_do() -> None:
    anchor, points = torch.randn(5, 3, generator=seeded()).double(), torch.randn(5, 7, 3, generator=seeded(1)).double()
    yaw, zero, one = torch.randn(5, generator=seeded(2)).double(), torch.zeros(5).double(), torch.ones(5).double()
    straight = look_at(anchor, yaw, 0.3 * one, zero, 100 * one, one / 6, 256)
    turned = look_at(anchor, yaw + 0.2, 0.1 * one, zero, 100 * one, one / 6, 256)
    found = aimed_aside(turned, straight, anchor)
    place = anchor - 6 * straight.rotation[:, 2]  # its own axis points away from the camera
    ray = torch.einsum("bij,bnj->bni", turned.rotation, points - place[:, None])
    # Pixels a metre at the depth of the anchor, so the focal length is that times the depth.
    focal = 100 * ((anchor - place) * turned.rotation[:, 2]).sum(-1)[:, None, None]
    torch.testing.assert_close(found.project(points)[..., :2], 128 + focal * ray[..., :2] / ray[..., 2:])
    flat = replace(straight, perspective=zero)
    kept = aimed_aside(turned, flat, anchor)
    torch.testing.assert_close(kept.project(points), flat.project(points))
