"""Scans of hands: repeatable, near what they show, seen from everywhere, whole where asked, and nothing from inside."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lvdreg.body import load_body
from lvdreg.geometry.mesh import closest_point_on_mesh
from lvdreg.synth.draw import Draw
from lvdreg.synth.hand_scans import COMPLETE, CONTACT, ONE_SIDED, HandStream, draw_turns, lay_beside, surface_of
from lvdreg.synth.hands.props import draw_props
from lvdreg.synth.scanner import SynthConfig
from lvdreg.synth.scans import Samples

CLEAN = replace(
    SynthConfig.for_hands(), hole_probability=0.0, uneven_probability=0.0, sparse_probability=0.0, noise_sigma=0.0,
    rough_probability=0.0, depth_step=0.0, misalignment=0.0, outlier_probability=0.0, floor_probability=0.0,
    flying_probability=0.0, normals_absent_probability=0.0, normals_flipped_probability=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def stream() -> HandStream:
    return HandStream(load_body("anny-hand"))


@pytest.fixture(scope="module")
def clean(stream: HandStream) -> HandStream:
    """The same hands before sensors without faults."""
    return HandStream(stream.body, CLEAN)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tensors(samples: Samples) -> dict[str, Tensor]:
    return {field.name: getattr(samples, field.name) for field in fields(samples)}


def test_equal_seeds_give_equal_samples_and_others_do_not(stream: HandStream) -> None:
    first, again, other = (tensors(stream.scans(4, 300, seeded(seed))) for seed in (5, 5, 6))
    torch.manual_seed(1)  # the global generator has no say
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in ("points", "vertices", "joints"))


def test_shapes_and_the_truth(stream: HandStream) -> None:
    samples, params = stream.scans(3, 120, seeded(2)), stream.params(3, seeded(2))
    posed = stream.body(params)
    torch.testing.assert_close(samples.vertices, posed.vertices)
    torch.testing.assert_close(samples.joints, posed.joints)
    torch.testing.assert_close(stream.bodies(3, seeded(2)).vertices, posed.vertices)
    assert samples.points.shape == samples.normals.shape == (3, 120, 3) and samples.valid.shape == (3, 120)
    assert samples.valid.dtype == torch.bool and samples.points.dtype == torch.float32
    assert torch.equal(params.pose[:, 0], torch.zeros(3, 3)), "the palm lies in its frame"
    assert samples.joints[:, 0].abs().max() < 1e-6


def test_scans_are_finite_and_near_what_they_show(stream: HandStream) -> None:
    middle = []
    for seed in range(3):
        samples, scene = stream.scans(8, 400, seeded(seed)), stream.scenes(8, seeded(seed))
        assert all(bool(value.isfinite().all()) for value in tensors(samples).values())
        length = samples.normals.norm(dim=-1)
        assert ((length - 1).abs().lt(1e-3) | (length == 0)).all()
        things = torch.where(scene.prop.present[:, None, None], scene.prop.vertices(), samples.vertices[:, :1])
        around = torch.cat([samples.vertices, scene.forearm.vertices, things], 1)
        apart = torch.cdist(samples.points, around).amin(-1)
        middle += [d[v].median() for d, v in zip(apart, samples.valid, strict=True)]
    assert max(middle) < 0.012 and torch.stack(middle).median() < 0.005


def test_points_lie_on_the_surfaces_and_nothing_is_seen_from_inside(clean: HandStream) -> None:
    samples, scene = clean.scans(8, 400, seeded(4)), clean.scenes(8, seeded(4))
    assert scene.prop.present.any()
    for i in range(8):
        points, normals = (x[i][samples.valid[i]].double().numpy() for x in (samples.points, samples.normals))
        outer = surface_of(clean.body, scene, Draw(8, seeded(0)))
        vertices = outer.vertices[i].double().numpy()
        present = outer.face_keep[i].numpy() | (np.arange(len(outer.faces)) < len(clean.body.faces))
        near = closest_point_on_mesh(points, vertices, outer.faces.numpy()[present])
        assert near.distance.max() < 1e-5
        corners = vertices[outer.faces.numpy()[present][near.face]]
        outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert (np.einsum("pi,pi->p", outward, normals) > 0).mean() > 0.97, "they turn with their points"
    depth = scene.prop.depth(samples.points)[scene.prop.present]
    inside = (depth < -2 * CONTACT) & samples.valid[scene.prop.present]
    assert inside.float().mean() < 0.01


def test_skin_inside_a_thing_is_not_there(clean: HandStream) -> None:
    """A ball put into the palm hides what it swallows, and only where it is present."""
    scene = clean.scenes(2, seeded(7))
    ball = replace(
        scene.prop,
        centre=scene.posed.joints[:, clean.body.joint_names.index("middle1")] * 0.6,
        radii=torch.full((2, 3), 0.03),
        exponents=torch.ones(2, 2),
        bump_height=torch.zeros(2),
        present=torch.tensor([True, False]),
    )
    outer = surface_of(clean.body, replace(scene, prop=ball), Draw(2, seeded(0)))
    skin = outer.face_keep[:, : len(clean.body.faces)]
    middle = scene.posed.vertices[:, clean.body.faces].mean(2)
    inside = (middle - ball.centre[:, None]).norm(dim=-1) < 0.026
    assert inside[0].sum() > 50 and not skin[0][inside[0]].any()
    assert skin[0][(middle[0] - ball.centre[0]).norm(dim=-1) > 0.036].all()
    assert skin[1].all() and not outer.face_keep[1, -len(ball.faces) :].any()


def test_complete_scans_show_every_side_and_one_camera_does_not(clean: HandStream) -> None:
    unseen: dict[tuple[float, ...], list[float]] = {COMPLETE: [], ONE_SIDED: []}
    for views, shares in unseen.items():
        samples, scene = clean.scans(8, 4000, seeded(1), views), clean.scenes(8, seeded(1))
        off = ~scene.prop.present[:, None] | (scene.prop.depth(samples.vertices) > 0.004)
        for points, valid, vertices, free in zip(samples.points, samples.valid, samples.vertices, off, strict=True):
            gap = torch.cdist(vertices[free], points[valid]).amin(1)
            shares.append(float((gap > 0.012).float().mean()))
    assert max(unseen[COMPLETE]) < 0.005
    assert min(unseen[ONE_SIDED]) > 0.05 and np.mean(unseen[ONE_SIDED]) > 0.15


def test_cameras_look_from_everywhere(clean: HandStream) -> None:
    samples = clean.scans(64, 300, seeded(3), ONE_SIDED)
    seen = torch.stack([n[v].mean(0) for n, v in zip(samples.normals, samples.valid, strict=True)])
    seen = torch.nn.functional.normalize(seen, dim=1)
    assert seen.mean(0).norm() < 0.35
    assert (seen.amax(0) > 0.7).all() and (seen.amin(0) < -0.7).all()


def test_turns_are_proper_and_some_hands_lie_flat() -> None:
    R = draw_turns(Draw(2000, seeded(0)))
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(2000, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(R) > 0).all()
    down = -R[:, 1, 2]  # how far the palm's normal points down
    assert 0.12 < (down > 0.9).float().mean() < 0.19, "5 % of all directions, and most of those that lie flat"


def test_things_beside_hands_do_not_enter_them(stream: HandStream) -> None:
    scene = stream.scenes(40, seeded(8))
    around = torch.cat([scene.posed.vertices, scene.forearm.vertices], 1)
    laid = lay_beside(draw_props(Draw(40, seeded(1))), scene.posed.vertices, around, Draw(40, seeded(2)))
    nearest = laid.depth(around).amin(1)
    assert nearest.min() > -0.006, "vertices that were skipped may touch"
    assert (nearest < 0.003).float().mean() > 0.2 and nearest.median() < 0.03, "many touch, most are near"


def test_half_of_the_hands_have_a_thing(stream: HandStream) -> None:
    assert 0.4 < stream.scenes(100, seeded(0)).prop.present.float().mean() < 0.6


def test_nothing_is_made_on_the_default_device(stream: HandStream) -> None:
    """As in test_stream.py: the default is "meta" here, which nothing can be computed with."""
    expected = tensors(stream.scans(3, 150, seeded(4)))
    with torch.device("meta"):
        found = tensors(stream.scans(3, 150, seeded(4)))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_held_things_are_in_hands_that_touch_them_and_others_are_not_entered(stream: HandStream) -> None:
    scene = stream.scenes(60, seeded(9))
    assert not (scene.held & ~scene.prop.present).any()
    assert 0.2 < scene.held.float().mean() < 0.45
    depth = scene.prop.depth(scene.posed.vertices)
    nearest = depth.amin(1)
    assert nearest[scene.held].min() > -0.008 and nearest[scene.held].median() < 0.001
    touching = (depth[scene.held] < 0.003).sum(1).float()
    assert touching.median() > 15 and (touching > 0).float().mean() > 0.8
    assert nearest[scene.prop.present & ~scene.held].min() > -0.006
