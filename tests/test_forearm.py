"""Forearms: they begin exactly at the wrist, go where they are bent to, face outwards, and end as asked."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lvdreg.base.errors import BodyError
from lvdreg.body import BodyModel, load_body
from lvdreg.synth.draw import Draw
from lvdreg.synth.hands.forearm import NUM_RINGS, Forearm, ForearmShape, boundary_ring, draw_forearms
from lvdreg.synth.surface import Outer, join


@pytest.fixture(scope="module")
def hand() -> BodyModel:
    return load_body("anny-hand")


@pytest.fixture(scope="module")
def forearm(hand: BodyModel) -> Forearm:
    return Forearm(hand)


def drawn(batch: int, seed: int = 0) -> ForearmShape:
    return draw_forearms(Draw(batch, torch.Generator().manual_seed(seed)))


def straight(batch: int, length: float) -> ForearmShape:
    """Bare forearms, open at the end, in line with the hand."""
    zero, no = torch.zeros(batch, 1), torch.zeros(batch, 1, dtype=torch.bool)
    return ForearmShape(
        zero + length, torch.zeros(batch, 2), torch.full((batch, 2), 0.5), no, zero, zero, zero + 0.01, no
    )


def hands(body: BodyModel, batch: int) -> Tensor:
    return body.v_template.expand(batch, -1, -1)


def rings(built: Outer, forearm: Forearm) -> Tensor:
    return built.vertices[:, : NUM_RINGS * len(forearm.ring)].unflatten(1, (NUM_RINGS, -1))


def test_it_begins_exactly_at_the_wrist(hand: BodyModel, forearm: Forearm) -> None:
    generator = torch.Generator().manual_seed(0)
    vertices, _ = hand.rest(torch.randn(32, hand.num_betas, generator=generator))
    built = forearm.build(vertices, drawn(32))
    torch.testing.assert_close(rings(built, forearm)[:, 0], vertices[:, forearm.ring], atol=1e-7, rtol=0)
    assert built.vertices.isfinite().all()


def test_hand_and_capped_forearm_make_one_closed_surface_facing_outwards(hand: BodyModel, forearm: Forearm) -> None:
    shape = replace(straight(1, 0.2), capped=torch.ones(1, 1, dtype=torch.bool))
    built = forearm.build(hands(hand, 1), shape)
    whole = join([Outer(hands(hand, 1), hand.faces, torch.ones(1, len(hand.faces), dtype=torch.bool)), built])
    faces = whole.faces[whole.face_keep[0]]
    # The forearm repeats the wrist's vertices: merge them.
    merged = torch.arange(whole.vertices.shape[1])
    merged[hand.num_vertices : hand.num_vertices + len(forearm.ring)] = forearm.ring
    faces = merged[faces]
    edges = [(int(a), int(b)) for a, b in torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])]
    assert len(set(edges)) == len(edges) and set(edges) == {(b, a) for a, b in edges}
    corners = built.vertices[0, built.faces[built.face_keep[0]]] - built.vertices[0].mean(0)
    volume = (corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 4e-4 < volume < 1.2e-3, "20 cm of forearm hold about 0.7 litres"


def test_a_straight_one_has_its_length_and_widens(hand: BodyModel, forearm: Forearm) -> None:
    built = rings(forearm.build(hands(hand, 1), straight(1, 0.2)), forearm)[0]
    centre = built.mean(1)
    torch.testing.assert_close(centre[-1] - centre[0], torch.tensor([0.0, -0.2, 0.0]), atol=1e-5, rtol=0)
    width, thickness = (built[..., k].amax(1) - built[..., k].amin(1) for k in (0, 2))
    torch.testing.assert_close(width[-1], 1.5 * width[0])
    torch.testing.assert_close(thickness[-1], 1.5 * thickness[0])
    assert (width.diff() > 0).all()
    assert (built[-1, :, 1] - centre[-1, 1]).abs().max() < 1e-6, "the cut is square"


@pytest.mark.parametrize(
    ("bend", "axis", "sign"), [((40.0, 0.0), 2, 1), ((-40.0, 0.0), 2, -1), ((0.0, 20.0), 0, 1), ((0.0, -20.0), 0, -1)]
)
def test_it_bends_to_the_palm_and_to_the_thumb(
    hand: BodyModel, forearm: Forearm, bend: tuple[float, float], axis: int, sign: int
) -> None:
    shape = replace(straight(1, 0.25), bend=torch.tensor([bend]) * math.pi / 180)
    centre = rings(forearm.build(hands(hand, 1), shape), forearm)[0].mean(1)
    end = centre[-1] - centre[-2]
    angle = math.degrees(math.atan2(float(end[axis]), -float(end[1])))
    assert angle == pytest.approx(sign * max(map(abs, bend)), abs=0.5)
    assert (centre.diff(dim=0).norm(dim=1).sum() - 0.25).abs() < 2e-3


def test_rings_do_not_pass_through_each_other_however_bent(hand: BodyModel, forearm: Forearm) -> None:
    """Every point of a ring lies ahead of the ring before it, but for the inside of the sharpest bends."""
    shape = drawn(200)
    built = rings(forearm.build(hands(hand, 200), shape), forearm)
    centre = built.mean(2)
    ahead = functional.normalize(centre[:, -1] - centre[:, -2], dim=-1)
    forward = ((built[:, -1] - built[:, -2]) * ahead[:, None]).sum(-1)
    assert (forward[shape.length[:, 0] > 0.05] > 0).all()
    along = functional.normalize(centre.diff(dim=1), dim=-1)[:, :, None]
    step = (built.diff(dim=1) * along).sum(-1)
    assert (step > -0.004).float().mean() > 0.995


def test_ends_and_sleeves_are_kept_as_asked(hand: BodyModel, forearm: Forearm) -> None:
    shape = drawn(300)
    built = forearm.build(hands(hand, 300), shape)
    count = len(forearm.ring)
    bands, cap = 2 * (NUM_RINGS - 1) * count, count
    skin, capped, sleeve = built.face_keep.split([bands, cap, built.face_keep.shape[1] - bands - cap], 1)
    assert all(torch.equal(some(1), shape.capped[:, 0]) for some in (capped.all, capped.any))
    assert torch.equal(sleeve.any(1, keepdim=True), shape.sleeved)
    assert torch.equal(skin.any(1, keepdim=True), shape.length > 0)
    bare = ~shape.sleeved[:, 0] & (shape.length[:, 0] > 0)
    assert skin[bare].all()
    assert not skin[shape.sleeved[:, 0]].all(1).any(), "skin under a sleeve is not seen"
    # A sleeve stands off the skin that it hides.
    one = int((shape.sleeved[:, 0] & (shape.sleeve_gap[:, 0] > 0.01)).nonzero()[0])
    tube = built.vertices[one, -len(forearm.sleeve_faces) // 2 - count :].unflatten(0, (-1, count))
    radius = (tube - tube.mean(1, keepdim=True)).norm(dim=-1)
    skin_end = rings(built, forearm)[one, -1]
    at_skin = (skin_end - skin_end.mean(0)).norm(dim=-1)
    assert (radius[-1] - at_skin > 0.008).all()


def test_lengths_and_bends_are_spread_as_real_scans_are() -> None:
    shape = drawn(4000)
    length = shape.length[:, 0]
    assert ((length == 0).float().mean() - 0.25).abs() < 0.03 and length.max() <= 0.28
    assert 0.3 < ((length > 0) & (length < 0.04)).float().mean() < 0.45
    assert 0.2 < (length > 0.1).float().mean() < 0.3
    flexion, deviation = np.rad2deg(shape.bend.double().numpy()).T
    assert flexion.min() >= -60.1 and flexion.max() <= 60.1 and abs(flexion.mean()) < 2
    assert deviation.min() >= -30.1 and deviation.max() <= 20.1
    same = drawn(4000)
    assert all(torch.equal(a, b) for a, b in zip(vars(shape).values(), vars(same).values(), strict=True))


def test_a_mesh_without_one_opening_has_no_wrist() -> None:
    tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    with pytest.raises(BodyError, match="0 vertices"):
        boundary_ring(tetrahedron)
    assert sorted(boundary_ring(tetrahedron[:3])) == [0, 2, 3]
    assert boundary_ring(tetrahedron[:3])[0] == 0
    two = np.concatenate([tetrahedron[:3], tetrahedron[:3] + 4])
    with pytest.raises(BodyError, match="6 vertices"):
        boundary_ring(two)
