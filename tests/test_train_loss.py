"""What training asks and how it scores: queries, the loss, the box that scans are put in."""

import math

import pytest
import torch
from torch import Tensor

from lvdreg.body import BodyModel
from lvdreg.field import VertexField
from lvdreg.synth.scans import Samples, SynthStream
from lvdreg.train.loss import choose_vertices, clip_norm, descent_loss, query_points, visited_points
from lvdreg.train.voxel import UnitBatch, to_unit, vertex_weights


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_clipping_shortens_and_never_bends() -> None:
    vectors = torch.randn(200, 3, generator=seeded()) * torch.logspace(-4, 1, 200)[:, None]
    clipped = clip_norm(vectors, 0.3)
    torch.testing.assert_close(clipped.norm(dim=-1), vectors.norm(dim=-1).clamp_max(0.3))
    assert torch.nn.functional.cosine_similarity(clipped, vectors).min() > 1 - 1e-5
    assert torch.equal(clip_norm(torch.zeros(1, 3), 0.3), torch.zeros(1, 3))


def test_vertices_are_chosen_by_their_weight() -> None:
    chosen = choose_vertices(torch.tensor([0.0, 1.0, 3.0]), 4, 5000, seeded())
    assert chosen.shape == (4, 5000)
    share = torch.bincount(chosen.flatten(), minlength=3) / chosen.numel()
    assert share.tolist() == pytest.approx([0, 0.25, 0.75], abs=0.02) and share[0] == 0
    assert not torch.equal(chosen[0], chosen[1])


def test_queries_are_a_mixture_of_near_on_the_way_elsewhere_and_anywhere() -> None:
    here, there = torch.tensor([0.8, 0.8, 0.8]), torch.tensor([-0.8, 0.8, 0.0])
    first = torch.rand(3, 4000, 1, generator=seeded(1)) < 0.5
    true = torch.where(first, here, there)
    points = query_points(true, seeded())
    assert points.shape == true.shape and bool(points.isfinite().all())
    away = (points - true).norm(dim=-1)
    other = (points - torch.where(first, there, here)).norm(dim=-1)
    along = (points * true).sum(-1) / true.square().sum(-1)
    beside = (points - along[..., None] * true).norm(dim=-1)
    on_the_way = (along > 0.15) & (along < 0.75) & (beside < 0.2)
    below = points[..., 1] < -0.35  # neither near a vertex nor between it and the centre
    # 55 % near at all scales, 25 % on the way, 12 % at another vertex (half of them at the other place), 8 % anywhere.
    shares = [float(mask.float().mean()) for mask in (away < 0.02, away < 0.2, on_the_way, other < 0.15, below)]
    expected = [0.20, 0.59, 0.15, 0.06, 0.027]
    assert shares == pytest.approx(expected, abs=0.015)
    assert torch.equal(points, query_points(true, seeded()))


class StraightField(VertexField):
    """Steps of a fixed length share towards given places; what the trained field should do."""

    def __init__(self, true: Tensor, share: float) -> None:
        torch.nn.Module.__init__(self)
        self.true, self.share = true, torch.nn.Parameter(torch.tensor(share))

    def forward(self, features: Tensor, points: Tensor, vertices: Tensor | None = None) -> Tensor:
        assert vertices is not None
        goal = torch.gather(self.true, 1, vertices[..., None].expand(-1, -1, 3))
        return self.share * clip_norm(goal - points, 0.35)


def test_visited_points_are_those_of_the_descent_from_the_centre() -> None:
    true = torch.rand(2, 30, 3, generator=seeded()) - 0.5
    vertices = torch.randint(30, (2, 7), generator=seeded())
    goal = torch.gather(true, 1, vertices[..., None].expand(-1, -1, 3))
    field = StraightField(true, 0.5)
    visited = visited_points(field, lambda points: points, vertices, 3)
    assert visited.shape == (4, 2, 7, 3) and not visited.requires_grad
    x = torch.zeros(2, 7, 3)
    for points in visited:
        torch.testing.assert_close(points, x)
        x = x + 0.5 * clip_norm(goal - x, 0.35)
    elsewhere = torch.rand(2, 7, 3, generator=seeded(1))
    once = visited_points(field, lambda points: points, vertices, 1, elsewhere)
    assert torch.equal(once[0], elsewhere)
    torch.testing.assert_close(once[1], elsewhere + 0.5 * clip_norm(goal - elsewhere, 0.35))
    far = StraightField(100 * true, 20.0)
    assert visited_points(far, lambda points: points, vertices, 3).abs().max() == pytest.approx(1.2)


def test_the_loss_is_the_mean_distance_of_steps_and_zero_for_the_perfect_field() -> None:
    true = torch.rand(2, 30, 3, generator=seeded()) - 0.5
    vertices = torch.arange(30).expand(2, 30)
    points = torch.rand(2, 30, 3, generator=seeded(1)) * 2 - 1
    perfect = StraightField(true, 1.0)
    lazy = StraightField(true, 0.0)
    assert descent_loss(perfect, lambda p: p, points, true, vertices, 0.35) == 0
    loss = descent_loss(lazy, lambda p: p, points, true, vertices, 0.35)
    by_hand = sum(min(0.35, math.dist(a, b)) for a, b in zip(points.view(-1, 3), true.view(-1, 3), strict=True)) / 60
    assert loss.item() == pytest.approx(by_hand, rel=1e-4)
    loss.backward()
    assert lazy.share.grad < 0, "longer steps would be better"


def make_samples(batch: int = 3) -> Samples:
    generator = seeded(4)
    points = torch.randn(batch, 50, 3, generator=generator) * torch.tensor([0.3, 0.6, 0.2]) + 5
    valid = torch.rand(batch, 50, generator=generator) < 0.7
    points = torch.where(valid[..., None], points, 1e3)
    vertices = torch.randn(batch, 20, 3, generator=generator) * 0.4 + 5
    return Samples(points, torch.zeros_like(points), valid, vertices, vertices[:, :4])


def boxed(samples: Samples, jitter: float) -> UnitBatch:
    return to_unit(samples, SynthStream.box(samples), jitter, 0.0, seeded())


def test_the_box_is_one_similarity_for_points_and_vertices() -> None:
    samples = make_samples()
    found = boxed(samples, 0.2)
    assert torch.equal(found.valid, samples.valid)
    for b, metres in enumerate(found.metres_per_unit):
        scale = 1 / metres
        shift = found.points[b, samples.valid[b]][0] - scale * samples.points[b, samples.valid[b]][0]
        for before, after in (
            (samples.points[b, samples.valid[b]], found.points[b, samples.valid[b]]),
            (samples.vertices[b], found.vertices[b]),
        ):
            torch.testing.assert_close(after, scale * before + shift, atol=1e-4, rtol=1e-4)
        assert found.points[b, samples.valid[b]].abs().max() < 1


def test_without_play_the_longest_side_fills_the_box_and_with_it_boxes_differ() -> None:
    samples = make_samples()
    plain = boxed(samples, 0.0)
    for points, valid in zip(plain.points, samples.valid, strict=True):
        low, high = points[valid].amin(0), points[valid].amax(0)
        assert float((high - low).max()) == pytest.approx(1.8, abs=1e-4)
        assert (high + low).abs().max() < 1e-3
    played = boxed(samples, 0.2)
    ratio = played.metres_per_unit / plain.metres_per_unit
    assert ((ratio >= 1) & (ratio <= 1.25)).all() and ratio.std() > 0
    assert torch.equal(played.points, boxed(samples, 0.2).points)


def test_vertices_are_asked_by_area_and_evenly(toy_body: BodyModel) -> None:
    weights = vertex_weights(toy_body)
    template, area = toy_body.v_template, torch.zeros(toy_body.num_vertices)
    for a, b, c in toy_body.faces.tolist():
        across = torch.linalg.cross(template[b] - template[a], template[c] - template[a]).norm()
        for corner in (a, b, c):
            area[corner] += across
    torch.testing.assert_close(weights, 0.5 * area / area.sum() + 0.5 / toy_body.num_vertices)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
