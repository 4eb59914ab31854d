"""Choosing a box, joining views, and sigma: on cases whose answer is known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lvdreg.base.errors import RegistrationError
from lvdreg.base.shapes import FloatArray
from lvdreg.descent.boxes import UPS, Box, body_boxes
from lvdreg.descent.choose import Look, ViewConfig, _Part, any_length
from lvdreg.descent.descend import DescentConfig
from lvdreg.descent.scan import Views, descend_scan, most_agreed, most_alike, tilts, view_rotations, yaws
from lvdreg.descent.uncertainty import Calibration, UncertaintyConfig, one_step_spread, one_step_with_sigma, smoothed
from lvdreg.field import VertexField
from lvdreg.geometry.frames import rotmat_to_rotvec, similarity, transform_points
from tests.fake_network import KnownNet, Seen


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


def test_tilts_turn_by_one_angle_about_different_axes_and_the_first_not_at_all() -> None:
    rotations = view_rotations(ViewConfig(num_views=4, tilt=15.0))
    vectors = rotmat_to_rotvec(rotations)
    np.testing.assert_allclose(vectors.norm(dim=-1), [0, *[math.radians(15)] * 3], atol=1e-6)
    axes = torch.nn.functional.normalize(vectors[1:], dim=-1)
    assert (axes @ axes.mT - torch.eye(3)).max() < 0.5
    torch.testing.assert_close(tilts(1, 0.3), torch.eye(3)[None])
    torch.testing.assert_close(view_rotations(ViewConfig(num_views=3)), yaws(3))


# Points of an unsymmetric shape well inside the box: what the fake network takes every scan for.
SHAPE = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.5, 1.0, 0.4]) - 0.2


def seen_by_network(scan: FloatArray, boxes: list[Box], **changes: Any) -> Views:
    net = KnownNet(SHAPE, num_points=30)
    config = ViewConfig(**{"coarse_vertices": 40, "part_zooms": (), "second_hand_ratio": 8.0, **changes})
    return descend_scan(net, scan, boxes, torch.eye(3)[None], config, DescentConfig())


T_SCAN_UNIT = similarity(30.0, yaws(5)[1].double().numpy(), np.array([100.0, -20.0, 7.0]))
SCAN = transform_points(T_SCAN_UNIT, SHAPE.double().numpy())
RIGHT: FloatArray = np.linalg.inv(T_SCAN_UNIT).astype(np.float64)
LEFT: FloatArray = (np.diag([-1.0, 1, 1, 1]) @ RIGHT).astype(np.float64)


def test_the_box_that_explains_the_scan_wins_and_says_how_surely() -> None:
    views = seen_by_network(SCAN, [Box("left", LEFT, 0.6), Box("right", RIGHT, 0.4)])
    assert views.box.name == "right"
    assert views.scores["right"] < 0.2 * views.scores["left"]
    assert 0.99 < views.confidence <= 1
    torch.testing.assert_close(views.vertices, SHAPE)


@pytest.mark.parametrize(
    ("changes", "views"),
    [({}, 2 + 3), ({"rival_ratio": math.inf}, 2 * 2 + 2), ({"doubtful_score": 0.0}, 2 * 2 + 2), ({"num": 1}, 2)],
)
def test_more_views_look_only_where_the_first_explains_the_scan_well(changes: dict[str, float], views: int) -> None:
    """Of two boxes the wrong one is looked in once; the right one by all views, by none of them twice."""
    asked = list[Tensor]()

    class Counting(KnownNet):
        def features(self, points: Tensor, valid: Tensor) -> Seen:
            asked.append(points)
            return super().features(points, valid)

    config = ViewConfig(**{"coarse_vertices": 40, "part_zooms": (), **{k: v for k, v in changes.items() if k != "num"}})
    turns = yaws(int(changes.get("num", 4)))
    boxes = [Box("left", LEFT, 0.5), Box("right", RIGHT, 0.5)]
    seen = descend_scan(Counting(SHAPE, num_points=30), SCAN, boxes, turns, config, DescentConfig())
    assert seen.box.name == "right" and len(asked) == views
    assert isinstance(seen.features, Seen) and seen.features.points.shape == (len(turns), 30, 3)
    torch.testing.assert_close(seen.Rs_view_unit, turns[[0, 2, 1, 3]] if len(turns) == 4 else turns)
    for turn, points in zip(seen.Rs_view_unit, seen.features.points, strict=True):
        torch.testing.assert_close(points, SHAPE[torch.linspace(0, 39, 30).round().long()] @ turn.T, atol=1e-5, rtol=0)


def test_an_unlikely_box_gets_no_glance_and_an_equal_one_goes_by_its_probability() -> None:
    sure = seen_by_network(SCAN, [Box("left", LEFT, 0.98), Box("right", RIGHT, 0.02)])
    assert (sure.box.name, sure.scores) == ("left", {})
    assert sure.confidence == pytest.approx(0.98)
    equal = seen_by_network(SCAN, [Box("right", RIGHT, 0.3), Box("left", RIGHT, 0.7)])
    assert equal.box.name == "left"
    assert equal.confidence == pytest.approx(0.7)


def test_of_bodies_an_unusual_axis_must_explain_the_scan_clearly_better() -> None:
    assert seen_by_network(SCAN, [Box("+x", RIGHT), Box("+y", RIGHT)]).box.name == "+y"
    assert seen_by_network(SCAN, [Box("+x", RIGHT), Box("+y", LEFT)]).box.name == "+x"


def test_parts_are_weighed_by_how_views_agree_and_by_how_large_bodies_are() -> None:
    """A gown is no upper half of a giant: what is beyond its hem does not count, but nobody is that tall."""
    box, turns, seen = Box("+y", RIGHT), torch.eye(3)[None], list[float]()

    def cost(spread: float, likely: float = 1.0) -> float:
        def lengths(length: float) -> float:
            seen.append(length)
            return likely

        look = Look(KnownNet(SHAPE, num_points=30), SCAN, ViewConfig(coarse_vertices=40), DescentConfig(), lengths)
        return _Part.of(box, replace(look([box], turns)[0], spread=spread, shown_score=0.1), turns, look).cost

    assert cost(0.04) == pytest.approx(2 * cost(0.01)), "their fourth power, of which the eighth root is taken"
    assert cost(0.01, likely=0.5**8) == pytest.approx(2 * cost(0.01))
    assert any_length(3.0) == any_length(0.1) == 1.0
    size = float((SHAPE.amax(0) - SHAPE.amin(0)).max())
    assert seen == pytest.approx([30 * size] * len(seen)), "in the scan's numbers"


def test_two_hands_are_refused_and_a_hand_beside_a_thing_is_not() -> None:
    there = similarity(1.0, np.eye(3), np.array([90.0, 0, 0]))
    rng = np.random.default_rng(0)
    thing = transform_points(there @ T_SCAN_UNIT, rng.uniform(-0.9, 0.9, (60, 3)))
    second = transform_points(there, SCAN)
    right, other = Box("right", RIGHT, group=1), Box("right", RIGHT @ np.linalg.inv(there), group=2)
    both = np.concatenate([SCAN, second])
    with pytest.raises(RegistrationError, match=r"expected one hand, got two side by side \(right\): crop to one"):
        seen_by_network(both, [right, other])
    assert seen_by_network(np.concatenate([SCAN, thing]), [other, right]).box is right
    # Boxes that hold the same points are of one hand.
    assert seen_by_network(SCAN, [Box("right", RIGHT), replace(right, probability=0.5)]).box.group == 0


def test_hands_side_by_side_in_one_piece_are_refused_and_a_side_takes_its_own() -> None:
    there = similarity(1.0, np.eye(3), np.array([25.0, 0, 0]))
    mirrored = transform_points(there @ np.linalg.inv(LEFT), SHAPE.double().numpy())
    both = np.concatenate([SCAN, mirrored])
    right, left = Box("right", RIGHT, 0.5), Box("left", LEFT @ np.linalg.inv(there), 0.5)
    words = r"got two side by side \(left and right\): give --side left or --side right, or crop to one"
    with pytest.raises(RegistrationError, match=words):
        seen_by_network(both, [right, left])
    assert seen_by_network(both, [left]).box is left
    # Two opinions on one hand are not two hands, and people have no second hand.
    assert seen_by_network(SCAN, [right, Box("left", LEFT, 0.5)]).box is right
    assert seen_by_network(both, [right, left], second_hand_ratio=0.0).box.name in {"left", "right"}


BODY = torch.from_numpy(np.random.default_rng(1).uniform([-0.5, -0.9, -0.2], [0.5, 0.9, 0.2], (900, 3))).float()


@pytest.mark.parametrize("share", [0.35, 0.5, 0.7])
def test_the_upper_part_of_somebody_is_looked_at_in_the_box_of_all_of_it(share: float) -> None:
    """The network always sees the same body in its box; of it the scan holds what is above a plane."""
    T_scan_unit = similarity(40.0, np.eye(3), np.array([5.0, 6.0, 7.0]))
    body = BODY.double().numpy()
    part = transform_points(T_scan_unit, body[body[:, 1] > 0.9 - 1.8 * share])
    boxes = body_boxes(part, {"+y": UPS["+y"]}, 8000)
    config = ViewConfig(coarse_vertices=900, part_zooms=(1.4, 2.0, 2.8))
    found = descend_scan(KnownNet(BODY, 8000), part, boxes, torch.eye(3)[None], config, DescentConfig())
    placed = transform_points(np.linalg.inv(found.T_unit_scan), found.vertices.double().numpy())
    whole = descend_scan(
        KnownNet(BODY, 8000), part, boxes, torch.eye(3)[None], replace(config, part_zooms=()), DescentConfig()
    )
    alone = transform_points(np.linalg.inv(whole.T_unit_scan), whole.vertices.double().numpy())
    truth = transform_points(T_scan_unit, body)
    errors = [float(np.linalg.norm(points - truth, axis=1).mean()) / 40 for points in (placed, alone)]
    assert errors[0] < 0.15 < errors[1]


def test_what_lies_outside_of_the_box_is_neither_shown_nor_scored() -> None:
    forearm = transform_points(
        T_SCAN_UNIT, np.random.default_rng(0).uniform([-0.2, -3, -0.2], [0.2, -1.1, 0.2], (90, 3))
    )
    boxes = [Box("left", LEFT, 0.5), Box("right", RIGHT, 0.5)]
    alone, attached = (seen_by_network(scan, boxes) for scan in (SCAN, np.concatenate([forearm, SCAN])))
    given: Any = attached.features
    assert given.points.shape == (1, 30, 3)
    assert given.points.abs().max() <= 1
    assert attached.scores == pytest.approx(alone.scores, rel=1e-4)


def test_a_box_without_points_is_refused_and_passed_over() -> None:
    nowhere = np.diag([1.0, 1, 1, 1])
    with pytest.raises(RegistrationError, match="found no points"):
        seen_by_network(SCAN, [Box("right", nowhere)])
    assert seen_by_network(SCAN, [Box("left", nowhere), Box("right", RIGHT)]).box.name == "right"


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
    features: Any = Seen(torch.zeros(1, 4, 3))
    views = Views(Box("+y", np.eye(4)), 1.0, rotations, features, torch.zeros(4, 3), torch.zeros(1), True, {})
    config = UncertaintyConfig(num_samples=400, perturbation=0.05)
    middle, found = one_step_spread(Shrinking(share), views, torch.tensor([[0, 1, 2], [0, 2, 3]]), config, seed=1)
    # Three axes, each with the perturbation's deviation times what is left of it; 1200 draws estimate it within 5 %.
    expected = (1 - share) * 0.05 * 3**0.5
    assert found.tolist() == pytest.approx([expected] * 4, rel=0.1)
    assert middle.abs().max() < 0.1 * 0.05


def test_few_views_spread_as_much_as_many_on_average() -> None:
    """Two predictions lie nearer to their own mean than eight do: the calibration must not take that for certainty."""
    config, sizes = UncertaintyConfig(num_samples=2, smoothing_rounds=0), []
    for count in (1, 4, 16):
        features: Any = Seen(torch.zeros(1, 4, 3))
        views = Views(Box("+y", np.eye(4)), 1.0, yaws(count), features, torch.zeros(4000, 3), torch.zeros(1), True, {})
        _, spread = one_step_spread(Shrinking(0.0), views, torch.tensor([[0, 1, 2]]), config, seed=1)
        sizes.append(float(spread.square().mean().sqrt()))
    assert sizes == pytest.approx([sizes[1]] * 3, rel=0.03)


class Doubting(Shrinking):
    """Expects errors that are known."""

    def with_log_sigma(self, features: Tensor, points: Tensor, vertices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        whole = torch.tensor([0.1, 0.1, 0.1, 0.4])
        return self(features, points), torch.stack([whole, whole / 2], -1)[None].log()


def test_doubts_are_read_where_vertices_are() -> None:
    features: Any = Seen(torch.zeros(1, 4, 3))
    at = torch.tensor([[0.2, 0.0, 0.0]]).repeat(4, 1)
    views = Views(Box("photo", np.eye(4)), 1.0, yaws(1), features, at, torch.zeros(1), True, {})
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    predicted, whole, depth = one_step_with_sigma(Doubting(0.5), views, faces, 0)
    torch.testing.assert_close(predicted, 0.5 * at)
    torch.testing.assert_close(whole, torch.tensor([0.1, 0.1, 0.1, 0.4]))
    torch.testing.assert_close(depth, whole / 2)
    assert one_step_with_sigma(Doubting(0.5), views, faces, 3)[1][3] < 0.4


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
