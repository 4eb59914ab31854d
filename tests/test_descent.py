"""The vertex field against its N x N x 3 oracle, and the descent on fields whose answer is known."""

import math

import pytest
import torch
from torch import Tensor

from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.field import INITIAL_LOG_SIGMA, OUTPUT_SCALE, VertexField
from lvdreg.train.loss import clip_norm


def small_field(vertices: int = 9) -> VertexField:
    torch.manual_seed(0)
    field = VertexField(num_features=5, codes=torch.randn(vertices, 4), hidden=16, layers=3)
    torch.nn.init.normal_(field.basis.weight)  # zero before training, which would make every head alike
    return field


class KnownField(VertexField):
    """Answers with the exact displacement to known targets, clipped."""

    def __init__(self, targets: Tensor, clip: float) -> None:
        super().__init__(1, torch.zeros(len(targets), 1), 2, 1)
        self.targets, self.clip = targets, clip

    def forward(self, features: Tensor, points: Tensor, vertices: Tensor | None = None) -> Tensor:
        targets = self.targets if vertices is None else self.targets[vertices]
        return clip_norm(targets - points, self.clip)


def nothing(points: Tensor) -> Tensor:
    return points[..., :1]


def test_diagonal_equals_the_all_pairs_oracle() -> None:
    """Point i through head i, as taken from the reference's N x N x 3 tensor."""
    field = small_field()
    features, points = torch.randn(2, 9, 5), torch.randn(2, 9, 3)
    everything = field.all_heads(features, points)
    assert everything.shape == (2, 9, 9, 3)
    diagonal = everything[:, range(9), range(9)]
    torch.testing.assert_close(field(features, points), diagonal, atol=1e-5, rtol=1e-5)


def test_doubts_are_every_vertex_own_and_leave_the_steps_alone() -> None:
    torch.manual_seed(0)
    field = VertexField(num_features=5, codes=torch.randn(9, 40), hidden=16, layers=3, num_log_sigmas=2)
    torch.nn.init.normal_(field.basis.weight)
    features, points = torch.randn(2, 9, 5), torch.randn(2, 9, 3)
    steps, log_sigma = field.with_log_sigma(features, points)
    torch.testing.assert_close(steps, field(features, points))
    assert torch.equal(log_sigma, torch.full((2, 9, 2), INITIAL_LOG_SIGMA)), "before training all are alike"
    assert field.log_sigma is not None
    torch.nn.init.normal_(field.log_sigma.weight)
    _, log_sigma = field.with_log_sigma(features, points)
    hidden = field.hidden(features, points)
    for i in range(9):
        per_code = field.log_sigma(hidden[:, i]).view(2, 2, 32)
        torch.testing.assert_close(log_sigma[:, i], INITIAL_LOG_SIGMA + OUTPUT_SCALE * per_code @ field.codes[i, :32])
    chosen = torch.tensor([7, 0, 3])
    torch.testing.assert_close(
        field.with_log_sigma(features[:, chosen], points[:, chosen], chosen)[1], log_sigma[:, chosen]
    )
    with pytest.raises(ValueError, match="log-sigma"):
        small_field().with_log_sigma(features, points)


def test_chosen_vertices_meet_their_own_heads() -> None:
    field = small_field()
    features, points = torch.randn(1, 9, 5), torch.randn(1, 9, 3)
    chosen = torch.tensor([7, 0, 3])
    torch.testing.assert_close(
        field(features[:, chosen], points[:, chosen], chosen), field(features, points)[:, chosen], atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        field(features[:, chosen], points[:, chosen], chosen[None]),
        field(features, points)[:, chosen],
        atol=1e-5,
        rtol=1e-5,
    )


def test_descent_takes_as_many_steps_as_the_clip_demands() -> None:
    targets = torch.tensor([[0.9, 0.0, 0.0], [0.0, -0.5, 0.0]])
    result = descend(KnownField(targets, 0.25), nothing, 3, DescentConfig(max_steps=10, tolerance=1e-4))
    torch.testing.assert_close(result.vertices, targets.expand(3, -1, -1))
    assert result.converged == (True, True, True)
    # ceil(0.9 / 0.25) steps to arrive and one to see that nothing moves any more.
    assert len(result.step_lengths) == math.ceil(0.9 / 0.25) + 1


def test_descent_says_when_it_has_not_converged() -> None:
    targets = torch.tensor([[0.9, 0.0, 0.0]])
    result = descend(KnownField(targets, 0.1), nothing, 1, DescentConfig(max_steps=4, tolerance=1e-4))
    assert result.converged == (False,)
    assert result.vertices[0, 0, 0] == pytest.approx(0.4)


class Torn(VertexField):
    """Sends vertices to whichever of two places is farther, and to and fro for ever; the first one goes straight."""

    def __init__(self) -> None:
        super().__init__(1, torch.zeros(2, 1), 2, 1)

    def forward(self, features: Tensor, points: Tensor, vertices: Tensor | None = None) -> Tensor:
        step = torch.tensor([0.5, 0.0, 0.0]) - points
        step[:, 1, 0] = -2.0 * points[:, 1, 0]
        return step


def test_vertices_that_go_to_and_fro_come_to_rest_between() -> None:
    start = torch.full((1, 2, 3), 0.2)
    restless, calm = (
        descend(
            Torn(),
            nothing,
            1,
            DescentConfig(max_steps=12, tolerance=1e-6, reversal_damping=reversal_damping),
            start=start.clone(),
        )
        for reversal_damping in (1.0, 0.5)
    )
    assert restless.converged == (False,) and abs(restless.vertices[0, 1, 0]) == pytest.approx(0.2)
    assert calm.converged == (True,) and calm.vertices[0, 1, 0] == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(calm.vertices[0, 0], torch.tensor([0.5, 0.0, 0.0]))
    assert len(calm.step_lengths) <= 4


def test_descent_is_independent_of_where_it_starts() -> None:
    targets = torch.rand(6, 3) * 2 - 1
    field = KnownField(targets, 0.35)
    config = DescentConfig(max_steps=20, tolerance=1e-5)
    from_point = descend(field, nothing, 1, config).vertices
    from_elsewhere = descend(field, nothing, 1, config, start=torch.rand(1, 6, 3) * 2 - 1).vertices
    torch.testing.assert_close(from_point, from_elsewhere, atol=1e-5, rtol=0)


def test_clip_keeps_direction_and_short_vectors() -> None:
    vectors = torch.tensor([[3.0, 4.0, 0.0], [0.03, 0.0, 0.04], [0.0, 0.0, 0.0]])
    clipped = clip_norm(vectors, 1.0)
    torch.testing.assert_close(clipped[0], vectors[0] / 5)
    torch.testing.assert_close(clipped[1:], vectors[1:])
