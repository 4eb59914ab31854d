"""Clothing: outwards, seeded, told apart by joint names, and closed around both legs where it is a skirt."""

from copy import copy
from dataclasses import replace
from functools import cache

import igl
import numpy as np
import pytest
import torch
from torch import Tensor

from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.clothes.layers import HANGING, Wardrobe
from lvdreg.synth.people.regions import hull_radius
from lvdreg.synth.scanner import SynthConfig
from lvdreg.synth.surface import Outer

OUTFITS = ("bare", "tight", "light", "heavy", "gown")


@pytest.fixture(scope="module")
def people(body: BodyModel) -> Tensor:
    """Vertices of four people in the rest pose, arms away from the body."""
    betas = 0.7 * torch.randn(4, body.num_betas, generator=torch.Generator().manual_seed(2))
    return body(BodyParams(betas, torch.zeros(4, body.num_joints, 3), torch.zeros(4, 3))).vertices


def only(outfit: str) -> SynthConfig:
    return replace(SynthConfig(), outfit_probabilities=tuple(float(outfit == name) for name in OUTFITS))


def bald_and_barefoot(config: SynthConfig) -> SynthConfig:
    return replace(config, hair_probabilities=(1.0, 0.0, 0.0, 0.0), shoes_probabilities=(0.0,) * 5)


@cache
def wardrobe_of(body: BodyModel) -> Wardrobe:
    return Wardrobe(body)


def dress(body: BodyModel, vertices: Tensor, config: SynthConfig, seed: int = 0) -> Outer:
    wardrobe = copy(wardrobe_of(body))
    wardrobe.config = config
    return wardrobe.dress(vertices, torch.Generator().manual_seed(seed))


def kept_skin(outer: Outer, sample: int, num_vertices: int) -> np.ndarray:
    faces = outer.faces[outer.face_keep[sample]]
    return faces[faces.amax(1) < num_vertices].unique().numpy()


def has_band(outer: Outer) -> Tensor:
    return outer.face_keep[:, -1]


@pytest.mark.parametrize("outfit", OUTFITS)
def test_clothes_lie_outside_the_body(body: BodyModel, people: Tensor, outfit: str) -> None:
    outer = dress(body, people, only(outfit))
    for i, naked in enumerate(people.double().numpy()):
        skin = kept_skin(outer, i, body.num_vertices)[::3]
        distance = igl.signed_distance(outer.vertices[i].double().numpy()[skin], naked, body.data.faces)[0]
        # Between the thighs, cloth of both legs is pressed together: there a vertex may sink in by a hair.
        assert np.mean(distance < -1e-3) < 1e-3
        assert distance.min() > -5e-3
        assert distance.max() > (0.02 if outfit == "heavy" else 5e-4)


def test_outfits_differ_in_how_much_they_hide(body: BodyModel, people: Tensor) -> None:
    torso = wardrobe_of(body).regions.is_torso > 0.9
    mean = []
    for outfit in ("bare", "tight", "light", "heavy"):
        moved = dress(body, people, bald_and_barefoot(only(outfit))).vertices[:, : body.num_vertices] - people
        mean.append(moved[:, torso].norm(dim=-1).mean().item())
    assert mean[0] < 0.002 < mean[2] < mean[3] < 0.08
    assert mean[0] < mean[1] < mean[2]


def test_bare_people_keep_their_skin(body: BodyModel, people: Tensor) -> None:
    moved = dress(body, people, bald_and_barefoot(only("bare"))).vertices[:, : body.num_vertices] - people
    regions = wardrobe_of(body).regions
    skin = (regions.is_head > 0.9) | (regions.is_arm > 0.9) | (regions.leg > 1.0)
    assert moved[:, skin].abs().max() == 0


def test_same_seed_same_clothes(body: BodyModel, people: Tensor) -> None:
    first, again, other = (dress(body, people, SynthConfig(), seed) for seed in (5, 5, 6))
    assert torch.equal(first.vertices, again.vertices)
    assert torch.equal(first.face_keep, again.face_keep)
    assert not torch.equal(first.vertices, other.vertices)


def test_clothes_turn_with_the_person(body: BodyModel, people: Tensor) -> None:
    """Yaw and translation change nothing: gravity stays, and nothing depends on where the person stands."""
    turn = rotvec_to_rotmat(torch.tensor([0.0, 1.1, 0.0]))
    shift = torch.tensor([0.4, -0.2, 1.0])
    here = dress(body, people, SynthConfig()).vertices
    there = dress(body, people @ turn.T + shift, SynthConfig()).vertices
    gap = (there - (here @ turn.T + shift)).abs()
    assert gap.quantile(0.99) < 1e-4
    assert gap.max() < 2e-3  # where rounding decides on which side of the middle between the legs a vertex lies


def test_skirts_enclose_the_thighs(body: BodyModel, people: Tensor) -> None:
    """Standing, each covered thigh vertex lies inside the polygon of the ring at its own height."""
    outer = dress(body, people, only("gown"))
    regions = wardrobe_of(body).regions
    assert has_band(outer).all()
    for i in range(len(people)):
        rings = outer.vertices[i, body.num_vertices :].view(-1, 40, 3)
        hem = rings[-1, :, 1].mean()
        covered = (regions.leg > 0.1) & (regions.leg < 0.95) & (regions.is_leg > 0.9) & (people[i, :, 1] > hem + 0.02)
        thighs = people[i, covered]
        nearest = (rings[:, :, 1].mean(1)[None] - thighs[:, 1:2]).abs().argmin(1)
        assert inside_polygons(thighs[:, [0, 2]], rings[nearest][:, :, [0, 2]]).float().mean() > 0.97


@pytest.mark.parametrize("garment", HANGING)
def test_what_hangs_reaches_the_shins_not_below_the_floor(body: BodyModel, people: Tensor, garment: str) -> None:
    outer = wardrobe_of(body).only(garment).dress(people, torch.Generator().manual_seed(4))
    assert has_band(outer).all()
    for i, naked in enumerate(people):
        hem = outer.vertices[i, body.num_vertices :].view(-1, 40, 3)[-1, :, 1]
        height = naked[:, 1].max() - naked[:, 1].min()
        above_floor = (hem - naked[:, 1].min()) / height
        assert above_floor.min() > -0.03 and above_floor.max() < 0.3


def test_hems_go_down_with_their_coordinate_beyond_the_last_level(body: BodyModel, people: Tensor) -> None:
    wardrobe, hems = wardrobe_of(body).only("gown"), []
    for end in (1.9, 2.0, 2.1, 2.2):
        wardrobe.fixed = {"hem": (end, end), "flare": (0.0, 0.0), "wrinkle": (0.0, 0.0)}
        outer = wardrobe.dress(people, torch.Generator().manual_seed(4))
        hems.append(outer.vertices[:, body.num_vertices :].view(len(people), -1, 40, 3)[:, -1, :, 1].mean(1))
    steps = -torch.stack(hems).diff(dim=0)
    assert ((steps > 0.015) & (steps < 0.06)).all()


def inside_polygons(points: Tensor, polygons: Tensor) -> Tensor:
    """Even-odd rule, written out: points (N, 2), one polygon (A, 2) for each."""
    a, b = polygons, polygons.roll(-1, 1)
    crosses = (a[..., 1] > points[:, None, 1]) != (b[..., 1] > points[:, None, 1])
    x = a[..., 0] + (points[:, None, 1] - a[..., 1]) / (b[..., 1] - a[..., 1]) * (b[..., 0] - a[..., 0])
    return (crosses & (x > points[:, None, 0])).sum(1) % 2 == 1


def test_band_faces_outwards_and_hides_the_skin_below(body: BodyModel, people: Tensor) -> None:
    outer = dress(body, people, only("gown"))
    band = outer.faces[outer.faces.amin(1) >= body.num_vertices]
    corners = outer.vertices[0, band]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(1)
    outwards = middle - outer.vertices[0, body.num_vertices :].mean(0)
    assert ((normals * outwards)[:, [0, 2]].sum(1) > 0).float().mean() > 0.98
    mid_thigh = (wardrobe_of(body).regions.lower - 0.3).abs() < 0.1
    skirted = outer.face_keep[:, : len(body.faces)]
    assert not skirted[:, mid_thigh[body.faces].all(1)].any()


def test_no_skirt_where_legs_are_split(body: BodyModel) -> None:
    pose = torch.zeros(1, body.num_joints, 3)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[0, body.joint_names.index(f"{side}_hip"), 2] = sign * 1.4
    vertices = body(BodyParams(torch.zeros(1, body.num_betas), pose, torch.zeros(1, 3))).vertices
    split = [has_band(dress(body, vertices, only("gown"), seed)).item() for seed in range(6)]
    assert not all(split)


def test_parts_follow_joint_names(body: BodyModel) -> None:
    """Moving one joint moves exactly the vertices that the parts say belong to it."""
    regions = wardrobe_of(body).regions
    zero = BodyParams.zeros(body, (1,))
    rest = body(zero).vertices[0]
    for joint, part in (("left_shoulder", regions.is_arm), ("right_hip", regions.is_leg), ("head", regions.is_head)):
        pose = zero.pose.clone()
        pose[0, body.joint_names.index(joint)] = 0.5
        moved = (body(replace(zero, pose=pose)).vertices[0] - rest).norm(dim=-1) > 1e-5
        assert (part[moved] > 0).all()
    side = {"left": rest[:, 0] > 0.02, "right": rest[:, 0] < -0.02}
    for name, where in side.items():
        column = 0 if name == "left" else 1
        assert (regions.foot_side[where][:, 1 - column] == 0).all()


def test_coordinates_count_joints(body: BodyModel) -> None:
    regions = wardrobe_of(body).regions
    for name, along, part in (("knee", regions.leg, regions.is_leg), ("elbow", regions.arm, regions.is_arm)):
        joint = body.J_template[body.joint_names.index(f"left_{name}")]
        near = ((body.v_template - joint).norm(dim=-1) < 0.07) & (part > 0.9)
        assert near.any()
        assert (along[near] - 1).abs().max() < 0.4
    ankle = body.J_template[body.joint_names.index("right_ankle")]
    toes = (body.v_template[:, 2] > ankle[2] + 0.1) & (body.v_template[:, 1] < ankle[1])
    assert regions.leg[toes].min() > 2


def test_sizes_and_limb_radii_survive_the_pose(body: BodyModel, people: Tensor) -> None:
    regions = wardrobe_of(body).regions
    zero = BodyParams.zeros(body, (1,))
    pose = zero.pose.clone()
    pose[0, body.joint_names.index("left_hip"), 0] = -1.2
    straight, lifted = body(zero).vertices, body(replace(zero, pose=pose)).vertices
    assert (regions.size(straight) / regions.size(lifted)).item() == pytest.approx(1, abs=0.06)
    shin = (regions.leg > 1.2) & (regions.leg < 1.8) & (regions.is_leg > 0.99)
    assert (regions.limb_radius(straight) - regions.limb_radius(lifted))[:, shin].abs().max() < 0.01


def test_smoothing_equals_a_dense_average(body: BodyModel) -> None:
    regions = wardrobe_of(body).regions
    values = torch.randn(2, body.num_vertices, 3, generator=torch.Generator().manual_seed(0))
    adjacency = torch.zeros(body.num_vertices, body.num_vertices)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        adjacency[body.faces[:, i], body.faces[:, j]] = 1
        adjacency[body.faces[:, j], body.faces[:, i]] = 1
    slow = 0.25 * values + 0.75 * (adjacency @ values) / adjacency.sum(1, keepdim=True)
    assert torch.allclose(regions.smooth(values, 1), slow, atol=1e-5)


def test_hull_radius_of_a_circle_and_a_square() -> None:
    angle = torch.arange(40) * (2 * torch.pi / 40)
    assert torch.allclose(hull_radius(torch.full((40,), 0.3), angle), torch.full((40,), 0.3))
    square = torch.maximum(angle.cos().abs(), angle.sin().abs())
    support = angle.cos().abs() + angle.sin().abs()
    assert torch.allclose(hull_radius(support, angle), 1 / square, atol=1e-5)
