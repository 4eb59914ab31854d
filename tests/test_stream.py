"""Training samples: repeatable, finite, near the bodies they show, and made where their generator lives."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from lvdreg.body import load_body
from lvdreg.synth.people.collisions import CollisionProxies
from lvdreg.synth.scans import Samples, SynthStream


@pytest.fixture(scope="module")
def stream() -> SynthStream:
    """The stream of the shipped body."""
    return SynthStream(load_body("anny"))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tensors(samples: Samples) -> dict[str, Tensor]:
    return {field.name: getattr(samples, field.name) for field in fields(samples)}


def test_equal_seeds_give_equal_samples_and_others_do_not(stream: SynthStream) -> None:
    first, again, other = (tensors(stream.scans(2, 300, seeded(seed))) for seed in (5, 5, 6))
    torch.manual_seed(1)  # the global generator has no say
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in ("points", "vertices", "joints"))
    assert (first["points"][0] - first["points"][1]).norm(dim=-1).median() > 0.05


def test_shapes_and_types(stream: SynthStream) -> None:
    samples = stream.scans(2, 123, seeded(0))
    body = stream.body
    expected = {
        "points": (2, 123, 3),
        "normals": (2, 123, 3),
        "valid": (2, 123),
        "vertices": (2, body.num_vertices, 3),
        "joints": (2, body.num_joints, 3),
    }
    assert {name: tuple(value.shape) for name, value in tensors(samples).items()} == expected
    assert samples.valid.dtype == torch.bool and samples.points.dtype == samples.vertices.dtype == torch.float32
    assert not any(value.requires_grad for value in tensors(samples).values())


def test_the_truth_is_the_posed_body_under_the_clothes(stream: SynthStream) -> None:
    samples = stream.scans(3, 200, seeded(2))
    params = stream.params(3, seeded(2))
    posed = stream.body(params)
    torch.testing.assert_close(samples.vertices, posed.vertices)
    torch.testing.assert_close(samples.joints, posed.joints)
    assert params.betas.shape == (3, stream.body.num_betas) and params.displacements is None
    assert torch.equal(params.transl, torch.zeros(3, 3))


def test_scans_are_finite_and_near_their_bodies(stream: SynthStream) -> None:
    """Ten batches: clothes and hair stand off by centimetres, few points are clutter, nothing lies deep inside."""
    middle, outer, covered = [], [], []
    for seed in range(10):
        samples = stream.scans(2, 300, seeded(seed))
        assert all(bool(value.isfinite().all()) for value in tensors(samples).values())
        assert samples.valid.any(1).all()
        length = samples.normals.norm(dim=-1)
        assert ((length - 1).abs().lt(1e-3) | (length == 0)).all()
        apart = torch.cdist(samples.points, samples.vertices).amin(-1)
        for distance, valid in zip(apart, samples.valid, strict=True):
            middle.append(distance[valid].median())
            outer.append(distance[valid].quantile(0.9))
        covered.append(samples.valid.float().mean())
    assert max(middle) < 0.15 and 0.003 < torch.stack(middle).median() < 0.06
    assert max(outer) < 0.35 and torch.stack(outer).median() > 0.015, "and people do wear clothes"
    assert torch.stack(covered).mean() > 0.8


def test_people_of_all_sizes_stand_everywhere_around(stream: SynthStream) -> None:
    generator = seeded(3)
    betas = stream.params(60, generator).betas
    joints = stream.body.rest(betas)[1]
    height = joints[..., 1].amax(1) - joints[..., 1].amin(1)
    assert height.min() < 1.3 and height.max() > 1.55, "children and adults"
    # Half are drawn near the sampled people, half from the standard normal.
    people = stream.people
    assert people is not None
    nearest = torch.cdist(betas, people).amin(1)
    expected = 0.3 * betas.shape[1] ** 0.5
    assert 0.3 < (nearest < 1.3 * expected).float().mean() < 0.7
    posed = stream.bodies(20, generator)
    index = stream.poses.index
    across = posed.joints[:, index["left_hip"]] - posed.joints[:, index["right_hip"]]
    assert across[:, 0].min() < -0.05 and across[:, 0].max() > 0.05, "seen from all sides"


def test_a_body_without_sampled_people_has_normal_shapes(stream: SynthStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "people", None)
    betas = stream._betas(500, seeded(0))
    assert betas.abs().max() <= 3
    assert abs(float(betas.mean())) < 0.02 and abs(float(betas.std()) - 1) < 0.03


def test_nothing_is_made_on_the_default_device(stream: SynthStream) -> None:
    """Where a device is left out, torch takes the default: "meta" here, which nothing can be computed with.

    So a machine without a GPU sees that everything is made on the generator's device, and training on a GPU works.
    """
    expected = tensors(stream.scans(2, 150, seeded(4)))
    with torch.device("meta"):
        assert torch.zeros(1).is_meta
        found = tensors(stream.scans(2, 150, seeded(4)))
        proxies = CollisionProxies(stream.body)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(proxies.pairs, stream.poses.proxies.pairs)
