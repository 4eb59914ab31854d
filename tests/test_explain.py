"""Joining views, and sigma: on cases whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lvdreg.config import UncertaintyConfig
from lvdreg.explain import Views, most_agreed, most_alike, yaws
from lvdreg.field import VertexField
from lvdreg.uncertainty import Calibration, land, smoothed


def test_the_view_that_agrees_with_most_is_chosen() -> None:
    torch.manual_seed(0)
    truth = torch.randn(50, 3)
    views = truth + 0.05 * torch.randn(5, 50, 3)
    views[3] = truth  # the middle of all noisy ones
    views[0] = torch.randn(50, 3)  # wrong everywhere
    assert most_agreed(views, tolerance=0.08) == 3


def test_each_vertex_is_alike_to_the_member_of_the_subset_with_the_closest_code() -> None:
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.1, 0.1], [0.9, 0.2]])
    assert most_alike(codes, torch.tensor([0, 1])).tolist() == [0, 1, 0, 1]


def test_yaws_turn_about_y_by_equal_steps() -> None:
    rotations = yaws(4)
    torch.testing.assert_close(
        rotations[1] @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(torch.linalg.matrix_power(rotations[1], 4), torch.eye(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        rotations @ torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]).expand(4, 3), atol=1e-6, rtol=0
    )


class Shrinking(VertexField):
    """Goes a known share of the way to the origin from wherever it is: the landing spread is known."""

    def __init__(self, share: float) -> None:
        super().__init__(1, torch.zeros(4, 1), 2, 1)
        self.share = share

    def forward(self, features: Tensor, points: Tensor, vertices: Tensor | None = None) -> Tensor:
        return -self.share * points


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_spread_is_what_one_step_leaves_of_the_perturbation(share: float) -> None:
    rotations = yaws(3)
    views = Views("+y", np.eye(4), rotations, lambda p: p[..., :1], torch.zeros(4, 3), torch.zeros(1), True, {})  # type: ignore[arg-type]
    config = UncertaintyConfig(num_samples=400, perturbation=0.05)
    middle, found = land(Shrinking(share), views, torch.tensor([[0, 1, 2], [0, 2, 3]]), config, seed=1)
    # Three axes, each with the perturbation's deviation times what is left of it; 1200 draws estimate it within 5 %.
    expected = (1 - share) * 0.05 * 3**0.5
    assert found.tolist() == pytest.approx([expected] * 4, rel=0.1)
    assert middle.abs().max() < 0.1 * 0.05


def test_smoothing_keeps_a_constant_and_spreads_a_peak_to_neighbours_only() -> None:
    strip = torch.tensor([[i, i + 1, i + 2] for i in range(8)])
    torch.testing.assert_close(smoothed(torch.full((10,), 0.3), strip, 5), torch.full((10,), 0.3))
    peak = torch.zeros(10)
    peak[0] = 1.0
    once = smoothed(peak, strip, 1)
    assert once[0] == pytest.approx(0.5**0.5)
    assert (once[1:3] > 0).all()
    assert (once[3:] == 0).all()


def test_calibration_recovers_a_known_noise() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.005, 0.1, 40_000)
    error = np.abs(rng.normal(size=raw.size)) * 2 * raw
    calibration = Calibration.fit(raw, error)
    sigma = calibration(torch.tensor([0.02, 0.05])).numpy()
    # 68 % of a half-normal lie below 0.994 deviations.
    np.testing.assert_allclose(sigma, [0.04, 0.1], rtol=0.1)
    assert np.mean(error < calibration(torch.from_numpy(raw)).numpy()) == pytest.approx(0.68, abs=0.02)


def test_calibration_is_monotone_and_survives_a_round_trip() -> None:
    rng = np.random.default_rng(1)
    calibration = Calibration.fit(rng.uniform(0, 1, 500), rng.uniform(0, 1, 500))
    assert (np.diff(calibration.sigma) >= 0).all()
    again = Calibration.from_dict(calibration.to_dict())
    np.testing.assert_array_equal(again.sigma, calibration.sigma)
    np.testing.assert_array_equal(again.spread, calibration.spread)
