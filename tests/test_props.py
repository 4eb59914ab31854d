"""Things to hold: the mesh lies on the formula's surface, depths agree with a slow search, sizes are as asked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lvdreg.synth.draw import Draw
from lvdreg.synth.hands import props
from lvdreg.synth.hands.props import (
    BALL,
    BLOB,
    BOX,
    CYLINDER,
    ELLIPSOID,
    SHEET,
    STICK,
    Prop,
    draw_props,
    draw_rotations,
)

KINDS = (BALL, ELLIPSOID, CYLINDER, STICK, BOX, SHEET, BLOB)
Array = NDArray[np.float64]


def seeded(seed: int, batch: int) -> Draw:
    return Draw(batch, torch.Generator().manual_seed(seed))


def some(kind: int, batch: int, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Prop:
    """Props of one kind, moved about."""
    monkeypatch.setattr(props, "KIND_PROBABILITIES", tuple(float(k == kind) for k in KINDS))
    draw = seeded(seed, batch)
    return replace(draw_props(draw), centre=0.1 * draw.normal((3,)))


def level(prop: Prop, i: int, local: Array) -> Array:
    """The formula of the module's docstring in numpy, the waves of a lump included: 1 on the surface."""
    radii, (e1, e2) = prop.radii[i].double().numpy(), prop.exponents[i].double().tolist()
    unit = local / radii
    direction = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    waves = prop.bumps[i].double().numpy()
    swelling = 1 + float(prop.bump_height[i]) * np.sin(direction @ waves[:, :3].T + waves[:, 3]).sum(1)
    x, y, z = np.abs(unit / swelling[:, None]).T
    return ((x ** (2 / e2) + y ** (2 / e2)) ** (e2 / e1) + z ** (2 / e1)) ** (e1 / 2)


def surface(prop: Prop, i: int, count: int = 60_000) -> Array:
    """Dense points on the surface, frame of the prop: where rays from the middle and near the edges meet it."""
    rng = np.random.default_rng(0)
    # Rays towards points spread over a box of the same extent reach flat parts and edges alike.
    radii = prop.radii[i].double().numpy()
    by_area = (1 / radii) / (1 / radii).sum()
    toward = rng.uniform(-1, 1, (count, 3))
    side = rng.choice(3, count, p=(by_area + 1 / 3) / 2)
    toward[np.arange(count), side] = rng.choice([-1.0, 1.0], count)
    toward = toward * radii
    # The formula is homogeneous of degree one along rays.
    return toward / level(prop, i, toward)[:, None]


def slow_depth(prop: Prop, i: int, points: Array) -> Array:
    local = (points - prop.centre[i].double().numpy()) @ prop.R[i].double().numpy()
    area = 8 * prop.radii[i].prod() * (1 / prop.radii[i]).sum()
    distance, _ = cKDTree(surface(prop, i, 60_000 + int(4e6 * area))).query(local)
    return np.where(level(prop, i, local) < 1, -distance, distance)


# Beyond the rims of thin sheets the formula knows least; nobody is held there.
TYPICAL = {SHEET: (0.10, 0.35)}


@pytest.mark.parametrize("kind", KINDS)
def test_depth_agrees_with_a_slow_search(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prop = some(kind, 4, monkeypatch)
    rng = np.random.default_rng(1)
    for i in range(4):
        near = surface(prop, i)[::120] + 0.004 * rng.standard_normal((500, 3))
        points = near @ prop.R[i].double().numpy().T + prop.centre[i].double().numpy()
        truth = slow_depth(prop, i, points)
        found = prop.depth(torch.as_tensor(points, dtype=torch.float32).expand(4, -1, -1))[i].double().numpy()
        sure = np.abs(truth) > 0.001
        assert (np.sign(found) == np.sign(truth))[sure].mean() > 0.995
        relative = np.abs(found - truth)[sure] / (np.abs(truth[sure]) + 0.0005)
        usual, most = TYPICAL.get(kind, (0.05, 0.22))
        assert np.median(relative) < usual and np.quantile(relative, 0.9) < most
        if kind != BLOB:
            # What moves by its depth never enters, and what it finds inside is no deeper than it says.
            spacing = 1e-3  # of the points that the search goes over
            assert (np.abs(found) - np.abs(truth))[truth > 0.001].max(initial=0) < spacing
            assert (np.abs(found) - np.abs(truth))[truth < -0.001].min(initial=0) > -spacing


@pytest.mark.parametrize("kind", KINDS)
def test_vertices_lie_on_the_surface(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prop = some(kind, 6, monkeypatch)
    vertices = prop.vertices()
    assert prop.depth(vertices).abs().max() < 2e-5
    for i in range(6):
        local = (vertices[i] - prop.centre[i]) @ prop.R[i]
        assert level(prop, i, local.double().numpy()) == pytest.approx(1, abs=1e-3)


def test_the_mesh_is_closed_and_faces_outwards() -> None:
    prop = draw_props(seeded(0, 60))
    faces, vertices = prop.faces, prop.vertices()
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert {(int(a), int(b)) for a, b in edges} == {(int(b), int(a)) for a, b in edges}
    corners = (vertices - prop.centre[:, None])[:, faces]
    volume = (corners[:, :, 0] * torch.linalg.cross(corners[:, :, 1], corners[:, :, 2])).sum((1, 2)) / 6
    box = 8 * prop.radii.prod(1)
    assert (volume > 0.35 * box).all() and (volume < 1.6 * box).all(), "an ellipsoid fills 0.52 of its box"


def test_sizes_are_those_of_things_that_hands_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        prop = some(kind, 200, monkeypatch, seed=kind)
        across = 2 * prop.radii.sort(dim=1).values
        longest = {STICK: 0.30, SHEET: 0.25, CYLINDER: 0.20}.get(kind, 0.16)
        assert across[:, 2].max() <= longest and across[:, 2].min() > 0.02
        assert across[:, 1].max() <= (0.25 if kind == SHEET else 0.12)
        swelling = prop._swelling(torch.randn(200, 50, 3, generator=torch.Generator().manual_seed(0)))
        assert swelling.min() > 0.6 and swelling.max() < 1.4
        assert (swelling == 1).all() == (kind != BLOB)


def test_some_samples_have_none_and_seeds_repeat() -> None:
    first, again, other = (draw_props(seeded(seed, 400), 0.5) for seed in (3, 3, 4))
    assert 0.4 < first.present.float().mean() < 0.6
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert not torch.equal(first.radii, other.radii)
    few = first.take(torch.tensor([5, 2]))
    torch.testing.assert_close(few.vertices(), first.vertices()[[5, 2]], rtol=0, atol=1e-6)  # a batch rounds otherwise


def test_rotations_are_even_and_proper() -> None:
    R = draw_rotations(seeded(0, 4000))
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(4000, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(R) > 0).all()
    assert R.mean(0).abs().max() < 0.04, "no direction is preferred"
    angle = torch.arccos(((R.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert float(angle.mean()) == pytest.approx(torch.pi / 2 + 2 / torch.pi, abs=0.03), "the Haar measure's mean angle"
