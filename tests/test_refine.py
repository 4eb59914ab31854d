"""The body against the scan: pairs, robustness, holes, clothes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import lvdreg.fit.solver
from lvdreg.base.errors import RegistrationError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.correspond import PosedSurface, ScanIndex, Target
from lvdreg.fit.kinematics import State
from lvdreg.fit.scan import RefineConfig, Refiner, _Pull, refine_body
from lvdreg.fit.solver import damped_step
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.mesh import closest_point_on_mesh, vertex_areas
from tests.scans import disturbed, dressed, heights_over, scan_of, standing, vertices_of

CONFIG = RefineConfig(max_iterations=14, coarse_points=800, fine_points=2000, body_points=1000)


def start(params: BodyParams) -> Fit:
    return Fit(params, 1.0, 0.0, True)


def error_mm(body: BodyModel, params: BodyParams, truth: FloatArray) -> FloatArray:
    return 1000 * np.linalg.norm(vertices_of(body, params) - truth, axis=1)


def body_to_body_mm(body: BodyModel, one: FloatArray, other: FloatArray) -> float:
    faces, total = body.data.faces, 0.0
    for a, b in ((one, other), (other, one)):
        total += 500 * float(np.average(closest_point_on_mesh(a, b, faces).distance, weights=vertex_areas(a, faces)))
    return total


def test_pairs_equal_a_double_loop_over_places_and_normals() -> None:
    rng, reach = np.random.default_rng(0), 0.3
    vertices, faces = rng.normal(size=(8, 3)), np.array([[0, 1, 2], [2, 3, 4], [5, 6, 7]])
    surface = PosedSurface(vertices, faces)
    normals = rng.normal(size=(12, 3))
    target = Target(rng.normal(size=(12, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True))
    index = ScanIndex(target, reach, 12)
    there = index.pair_body(surface, np.arange(8), 9.0, -2.0)
    back = index.pair_scan(surface, np.arange(12), 9.0, -2.0, exact=False)

    def far(v: int, p: int) -> float:
        place = vertices[v] - index.points[p]
        facing = surface.normals[v] - index.normals[p]
        return float(place @ place + reach**2 * facing @ facing)

    for v in range(8):
        np.testing.assert_allclose(there.scan_points[v], index.points[min(range(12), key=lambda p: far(v, p))])
    for p in range(12):
        best = min(range(8), key=lambda v: far(v, p))
        np.testing.assert_allclose(back.body_points[p], vertices[best])
        assert back.distances[p] == pytest.approx(np.linalg.norm(vertices[best] - index.points[p]))


def test_a_scan_point_never_pairs_with_the_far_side() -> None:
    # Two sheets 1 cm apart, facing away from each other: the inside of a thin arm.
    grid = np.array([[x, y, 0.0] for x in range(5) for y in range(5)]) * 0.02
    faces = np.array([[i, i + 5, i + 1] for i in range(20) if i % 5 < 4])
    top = grid + [0, 0, 0.01]
    surface = PosedSurface(np.vstack([grid, top]), np.vstack([faces[:, ::-1], faces + 25]).astype(np.int64))
    down, up = surface.normals[6], surface.normals[31]
    assert down[2] * up[2] < -0.9
    point = Target(np.repeat(grid[[6]] + [0, 0, 0.002], 10, axis=0), np.repeat(up[None], 10, axis=0))
    pairs = ScanIndex(point, 0.05, 10).pair_scan(surface, np.arange(10), 0.1, 0.3, exact=True)
    assert pairs.is_valid.all()
    assert pairs.body_points[:, 2] == pytest.approx(0.01)


def flat(normal: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """A square of points 1 cm apart in the plane z = 0, 60 cm wide, with a round hole of 12 cm radius."""
    axis = np.arange(-30, 31) * 0.01
    points = np.array([[x, y, 0.0] for x in axis for y in axis if np.hypot(x, y) > 0.12])
    return points, np.tile([0.0, 0.0, normal], (len(points), 1))


@pytest.mark.parametrize(("x", "is_valid"), [(0.0, False), (0.05, False), (0.2, True)])
def test_body_over_a_hole_finds_no_partner(x: float, is_valid: bool) -> None:
    points, normals = flat()
    corner = np.array([x, 0.0, -0.02])
    surface = PosedSurface(corner + np.array([[0.0, 0, 0], [0.01, 0, 0], [0, 0.01, 0]]), np.array([[0, 1, 2]]))
    pairs = ScanIndex(Target(points, normals), 0.04, len(points)).pair_body(surface, np.array([0]), 0.15, 0.3)
    assert pairs.is_valid.tolist() == [is_valid]


def test_partners_on_the_rim_of_a_cut_are_not_valid() -> None:
    axis = np.arange(21) * 0.01
    points = np.array([[x, y, 0.0] for x in axis for y in axis])
    corner = np.array([i * 21 + j for i in range(20) for j in range(20)])
    faces = np.vstack(
        [np.stack([corner, corner + 21, corner + 1], 1), np.stack([corner + 1, corner + 21, corner + 22], 1)]
    )
    normals = np.tile([0.0, 0.0, 1.0], (len(points), 1))
    index = ScanIndex(Target(points, normals, points, faces), 0.04, len(points))
    for x, is_valid in ((0.1, True), (0.2, False)):
        surface = PosedSurface(
            np.array([[x, 0.1, 0.01], [x + 0.01, 0.1, 0.01], [x, 0.11, 0.01]]), np.array([[0, 1, 2]])
        )
        assert index.pair_body(surface, np.array([0]), 0.1, 0.3).is_valid.tolist() == [is_valid]


def test_surfaces_that_face_apart_are_not_valid() -> None:
    points, normals = flat(-1.0)
    surface = PosedSurface(np.array([[0.2, 0, 0.0], [0.21, 0, 0], [0.2, 0.01, 0]]), np.array([[0, 1, 2]]))
    away, unknown = (ScanIndex(Target(points, n), 0.04, len(points)) for n in (normals, np.zeros_like(normals)))
    assert not away.pair_body(surface, np.array([0]), 0.1, 0.3).is_valid.any()
    assert unknown.pair_body(surface, np.array([0]), 0.1, 0.3).is_valid.all()
    near = np.flatnonzero(np.hypot(away.points[:, 0] - 0.2, away.points[:, 1]) < 0.03)
    assert not away.pair_scan(surface, near, 0.1, 0.3, exact=True).is_valid.any()
    near = np.flatnonzero(np.hypot(unknown.points[:, 0] - 0.2, unknown.points[:, 1]) < 0.03)
    assert unknown.pair_scan(surface, near, 0.1, 0.3, exact=True).is_valid.all()


def test_refinement_brings_a_disturbed_body_back(body: BodyModel) -> None:
    truth = standing(body, 1)
    target = vertices_of(body, truth)
    begun = disturbed(body, truth, 2)
    fit = refine_body(body, start(begun), scan_of(body, target), None, CONFIG)
    before, after = error_mm(body, begun, target), error_mm(body, fit.params, target)
    assert before.mean() > 30
    assert after.mean() < 8
    assert fit.residual_mm < 2.5
    assert fit.params.displacements is None


@pytest.mark.slow
def test_what_is_at_rest_takes_no_more_steps(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, taken = standing(body, 14), []
    advance = Refiner.advance
    monkeypatch.setattr(Refiner, "advance", lambda *args: taken.append(args) or advance(*args))
    scan, config = scan_of(body, vertices_of(body, truth)), replace(CONFIG, max_iterations=30)
    fit = refine_body(body, start(truth), scan, None, config)
    assert fit.converged and error_mm(body, fit.params, vertices_of(body, truth)).mean() < 3
    # The kernel shrinks over 20 steps.
    assert 20 <= len(taken) < 26
    taken.clear()
    restless = replace(config, rest=0.0)
    assert refine_body(body, start(truth), scan, None, restless).converged and len(taken) == 30


def test_a_step_never_raises_the_cost_of_its_pairs(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps four times too long: they are damped until they lower the cost, or not taken."""
    truth = standing(body, 15)
    begun = State.from_params(disturbed(body, truth, 16))
    refiner = Refiner(body, begun, scan_of(body, vertices_of(body, truth)), None, CONFIG)
    monkeypatch.setattr(lvdreg.fit.solver, "damped_step", lambda *args: 4 * damped_step(*args))
    state, damping = begun, CONFIG.damping
    for progress in (0.0, 0.3, 0.7):
        stage = refiner.stage(progress)
        pull, before = _Pull.joined(refiner._pulls(refiner.kernel.pose(state), stage)), state
        state, damping, motion = refiner.advance(state, damping, refiner.stage(progress))
        here, there = (refiner._cost_after(at, pull, stage, np.zeros_like(begun.vector)) for at in (before, state))
        assert there < here and motion > 0 and damping > CONFIG.damping


def test_a_limb_20_cm_off_is_pulled_in(body: BodyModel) -> None:
    truth = standing(body, 3)
    target = vertices_of(body, truth)
    state, arm = State.from_params(truth), body.joint_names.index("left_shoulder")
    state.pose[arm] += [0.0, 0.0, 0.4]
    begun = state.to_params(body.v_template)
    wrist = body.data.weights[:, body.joint_names.index("left_wrist")] > 0.5
    assert error_mm(body, begun, target)[wrist].mean() > 170
    fit = refine_body(body, start(begun), scan_of(body, target), None, CONFIG)
    assert error_mm(body, fit.params, target)[wrist].mean() < 15


@pytest.mark.slow
def test_result_does_not_depend_on_the_density_of_the_scan(body: BodyModel) -> None:
    truth = standing(body, 4)
    target = vertices_of(body, truth)
    begun = start(disturbed(body, truth, 5))
    thin, dense = (
        vertices_of(body, refine_body(body, begun, scan_of(body, target, count), None, CONFIG).params)
        for count in (4000, 16_000)
    )
    assert body_to_body_mm(body, thin, dense) < 1.5


def test_under_clothes_the_body_stays_inside_and_nears_the_true_one(body: BodyModel) -> None:
    truth = standing(body, 6)
    naked = vertices_of(body, truth)
    outer = dressed(body, naked)
    begun = disturbed(body, truth, 7, angle=0.04, shape=0.3)
    sigma = torch.full((body.num_vertices,), 0.02)
    fit = refine_body(body, start(begun), scan_of(body, outer, 8000), sigma, CONFIG)
    areas = vertex_areas(naked, body.data.faces)

    def share_outside(params: BodyParams) -> float:
        return float(np.average(heights_over(body, vertices_of(body, params), outer) > 0.005, weights=areas))

    assert share_outside(begun) > 0.05
    assert share_outside(fit.params) < 0.03
    before, after = (body_to_body_mm(body, vertices_of(body, p), naked) for p in (begun, fit.params))
    assert after < before
    # What fits the clothes instead of the body lies this far off.
    assert after < 0.6 * body_to_body_mm(body, outer, naked)


def test_holes_are_not_punished(body: BodyModel) -> None:
    truth = standing(body, 8)
    target = vertices_of(body, truth)
    whole = scan_of(body, target, 8000)
    forearm = target[body.data.weights[:, body.joint_names.index("left_elbow")] > 0.5]
    near = np.linalg.norm(whole.points[:, None] - forearm[None, ::10], axis=2).min(1) < 0.05
    chest = np.linalg.norm(whole.points - target[body.data.weights[:, 9] > 0.5].mean(0), axis=1) < 0.17
    keep = ~(near | chest)
    assert 0.75 < keep.mean() < 0.95
    cut = Target(whole.points[keep], whole.normals[keep])
    error = error_mm(body, refine_body(body, start(truth), cut, None, CONFIG).params, target)
    assert error.mean() < 5
    assert np.percentile(error, 95) < 15


def test_one_side_alone_neither_swells_nor_flattens_the_body(body: BodyModel) -> None:
    truth = standing(body, 9)
    target = vertices_of(body, truth)
    whole = scan_of(body, target, 8000)
    front = whole.normals[:, 2] > 0.1
    half = Target(whole.points[front], whole.normals[front])
    fit = refine_body(body, start(disturbed(body, truth, 10, 0.03, 0.2)), half, None, CONFIG)
    assert body_to_body_mm(body, vertices_of(body, fit.params), target) < 8


def test_points_without_normals_do(body: BodyModel) -> None:
    truth = standing(body, 11)
    target = vertices_of(body, truth)
    bare = scan_of(body, target)
    bare = replace(bare, normals=np.zeros_like(bare.normals))
    fit = refine_body(body, start(disturbed(body, truth, 12)), bare, None, CONFIG)
    assert error_mm(body, fit.params, target).mean() < 12
    assert all(torch.isfinite(x).all() for x in (fit.params.pose, fit.params.betas, fit.params.transl))


def test_a_scan_elsewhere_is_said_to_be_far(body: BodyModel) -> None:
    truth = standing(body, 13)
    there = scan_of(body, vertices_of(body, truth) + [2.0, 0, 0], 1000)
    fit = refine_body(body, start(truth), there, None, replace(CONFIG, max_iterations=2))
    assert any("over 10 cm" in line for line in fit.warnings)


def test_an_empty_scan_is_refused(body: BodyModel) -> None:
    nothing = Target(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(RegistrationError, match="only 0 points"):
        refine_body(body, start(BodyParams.zeros(body)), nothing, None, CONFIG)


def test_last_digits_decide_nothing(body: BodyModel) -> None:
    """They say on which face beside an edge a closest point is found, and whether a pair at its limit counts."""
    truth = standing(body, 6)
    scan = scan_of(body, dressed(body, vertices_of(body, truth)), 8000)
    refiner = Refiner(body, State.from_params(truth), scan, None, CONFIG)
    stage, posed = refiner.stage(1.0), refiner.kernel.pose(refiner.start)
    pulls, faces = refiner._pulls(posed, stage), refiner.faces
    assert np.ptp(pulls[0].weights) > 0.1 * pulls[0].weights.max(), "parts under cloth and skin weigh differently"
    refiner.faces = np.roll(faces, 1, axis=1)
    for pull, other in zip(pulls, refiner._pulls(posed, stage), strict=True):
        np.testing.assert_allclose(pull.weights, other.weights, rtol=1e-6)
        np.testing.assert_allclose(pull.goals, other.goals)
    refiner.faces = faces
    pairs = refiner.fine.pair_scan(refiner.surface(posed), np.arange(2000), stage.reach, stage.min_cosine, True)
    one_less = pairs.is_valid.copy()
    one_less[np.flatnonzero(one_less)[0]] = False
    inside = np.ones(body.num_vertices)
    for kind in (0, 1):  # along the normals, and across them
        before, after = (
            refiner._both_pulls(each, each.heights, inside, stage, 1.0)[kind].goals.tolist()
            for each in (pairs, replace(pairs, is_valid=one_less))
        )
        assert len(before) - 1 <= len(after) and all(goal in before for goal in after)
