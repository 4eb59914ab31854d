"""A worse body is never delivered: what refinement made of a body is held against what it began with."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.correspond import PosedSurface, Target
from lvdreg.fit.guard import GuardConfig, Misfit, is_worse, misfit
from lvdreg.fit.kinematics import State
from lvdreg.fit.priors import extreme_share
from lvdreg.fit.scan import RefineConfig, Refiner, refine_body
from lvdreg.fit.vertices import Fit, Look
from tests.scans import disturbed, scan_of, standing, vertices_of

CONFIG = RefineConfig(max_iterations=10, coarse_points=600, fine_points=1200, body_points=800)


def plane(height: float) -> PosedSurface:
    """A square of one metre at a height, 121 vertices."""
    axis = np.linspace(0, 1, 11)
    vertices = np.array([[x, y, height] for x in axis for y in axis])
    corner = np.array([11 * i + j for i in range(10) for j in range(10)])
    faces = [np.stack([corner, corner + 11, corner + 1], 1), np.stack([corner + 1, corner + 11, corner + 12], 1)]
    return PosedSurface(vertices, np.vstack(faces).astype(np.int64))


def held(surface: PosedSurface, points: np.ndarray, config: GuardConfig | None = None) -> Misfit:
    return misfit(
        Target(points, np.zeros_like(points)), surface, np.arange(len(surface.vertices)), config or GuardConfig()
    )


def test_misfit_rises_from_what_fits_to_what_lies_apart() -> None:
    config, points = GuardConfig(fits=0.02, apart=0.06), plane(0.0).vertices
    for height, expected in ((0.0, 0.0), (0.02, 0.0), (0.04, 0.5), (0.06, 1.0), (0.3, 1.0)):
        found = held(plane(height), points, config)
        np.testing.assert_allclose(found.scan, expected, atol=1e-9)
        np.testing.assert_allclose(found.body, expected, atol=1e-9)
        assert found.mean == pytest.approx(expected)


def test_worse_is_what_explains_less_and_what_loses_a_part() -> None:
    config = GuardConfig(most_unexplained=0.03, most_lost=0.04)
    good, bad = Misfit(np.zeros(100), np.zeros(100)), Misfit(np.ones(100), np.ones(100))
    assert is_worse(bad, good, config) and not is_worse(good, bad, config) and not is_worse(good, good, config)
    some = np.arange(100) < 5
    # As much is won as is lost: nothing is worse on the whole, but a part that was right is gone.
    swapped = Misfit(some.astype(float), np.zeros(100)), Misfit(np.roll(some, 5).astype(float), np.zeros(100))
    assert swapped[0].mean == swapped[1].mean and is_worse(*swapped, config)
    assert not is_worse(*swapped, replace(config, most_lost=0.06))


def test_what_lies_beyond_the_end_of_a_body_is_not_asked() -> None:
    square = plane(0.0)
    rim = (np.abs(square.vertices[:, :2] - 0.5) > 0.49).any(1)
    beside = np.array([[1.5, 0.5, 0.0], [0.5, 0.5, 0.5]])
    assert held(square, beside).scan.tolist() == [1, 1]
    assert held(PosedSurface(square.vertices, square.faces, rim), beside).scan.tolist() == [0, 1]


def led_away(self: Refiner, held: float = 1.0, look: Look | None = None) -> tuple[Refiner, State, bool]:
    """A refinement that bends both knees and raises an arm."""
    pose = self.start.pose.copy()
    pose[[4, 5, 16]] += 0.9
    return self, State(pose, self.start.betas, self.start.transl), True


def test_a_body_that_was_led_away_is_not_delivered(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = standing(body, 3)
    target = scan_of(body, vertices_of(body, truth))
    start = Fit(disturbed(body, truth, 4), 1.0, 0.0, True)
    right = refine_body(body, start, target, None, CONFIG)
    assert right.was_refined and not right.warnings
    monkeypatch.setattr(Refiner, "refined", led_away)
    kept = refine_body(body, start, target, None, CONFIG)
    assert not kept.was_refined and "undone" in kept.warnings[0]
    torch.testing.assert_close(vertices(body, kept.params), vertices(body, start.params))


def test_what_goes_wrong_at_first_is_tried_with_the_start_held(
    body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, asked, refined = standing(body, 3), [], Refiner.refined

    def first_wrong(self: Refiner, held: float = 1.0, look: Look | None = None) -> tuple[Refiner, State, bool]:
        asked.append(held)
        return led_away(self) if held == 1 else refined(self, held, look)

    monkeypatch.setattr(Refiner, "refined", first_wrong)
    target, start = scan_of(body, vertices_of(body, truth)), Fit(disturbed(body, truth, 4), 1.0, 0.0, True)
    fit = refine_body(body, start, target, None, CONFIG)
    assert asked == [1.0, CONFIG.held_harder] and fit.was_refined


def vertices(body: BodyModel, params: BodyParams) -> torch.Tensor:
    return body(params).vertices


def test_many_extreme_parameters_are_counted(body: BodyModel) -> None:
    betas = torch.zeros(body.num_betas)
    assert extreme_share(body.data, betas) == 0
    betas[:10] = 7.0
    assert extreme_share(body.data, betas) == pytest.approx(10 / body.num_betas)
