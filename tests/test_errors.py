"""How wrong a refined body is said to be: the posterior, what it is told from, and the model that was learnt."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lvdreg.base.errors import CheckpointError
from lvdreg.body.model import BodyData, BodyModel
from lvdreg.fit.correspond import Target, scan_gaps
from lvdreg.fit.errors import (
    FLOOR,
    PARTS,
    PREDICTORS,
    ErrorEvidence,
    ErrorModel,
    VertexErrors,
    evidence_of,
    posterior_sigma,
    shipped_errors,
)
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.fit.scan import RefineConfig, refine_body
from lvdreg.fit.vertices import Fit
from lvdreg.pipeline.assess_scan import part_sigmas
from tests.scans import disturbed, person, scan_of, vertices_of

CONFIG = RefineConfig(max_iterations=6, coarse_points=400, fine_points=1000, body_points=500)


def a_state(kernel: Kinematics, rng: np.random.Generator) -> State:
    num, betas = kernel.num_joints, kernel.shapedirs.shape[-1]
    return State(0.2 * rng.normal(size=(num, 3)), 0.3 * rng.normal(size=betas), rng.normal(size=3))


def test_posterior_is_the_spread_of_bodies_drawn_from_it(toy_data: BodyData) -> None:
    rng, kernel = np.random.default_rng(0), Kinematics(toy_data)
    state = a_state(kernel, rng)
    root = rng.normal(size=(kernel.num_params, kernel.num_params))
    information = 1e6 * (root @ root.T / kernel.num_params + np.eye(kernel.num_params))
    sigma = posterior_sigma(kernel, kernel.pose(state), information)
    steps = rng.multivariate_normal(np.zeros(kernel.num_params), np.linalg.inv(information), size=4000)
    drawn = np.stack([kernel.pose(state.moved(step)).vertices for step in steps])
    np.testing.assert_allclose(sigma, np.sqrt(drawn.var(0).sum(-1)), rtol=0.06)


def test_posterior_of_what_nothing_holds_is_large_and_finite(toy_data: BodyData) -> None:
    kernel = Kinematics(toy_data)
    information = np.zeros((kernel.num_params, kernel.num_params))
    information[0, 0] = 1e4
    sigma = posterior_sigma(kernel, kernel.pose(kernel.zero_state()), information)
    assert np.isfinite(sigma).all() and (sigma > 10).all()


def test_what_the_scan_does_not_show_has_a_larger_posterior(toy_body: BodyModel) -> None:
    true = person(toy_body, 1)
    vertices = vertices_of(toy_body, true)
    target = scan_of(toy_body, vertices)
    low, high = np.quantile(vertices[:, 1], [0.3, 0.7])
    half = target.points[:, 1] > high
    begun = Fit(disturbed(toy_body, true, 2, 0.02, 0.1), 1.0, 0.0, True)
    refined = refine_body(toy_body, begun, Target(target.points[half], target.normals[half]), None, CONFIG)
    assert refined.sigma_posterior is not None
    unseen, seen = (refined.sigma_posterior[which] for which in (vertices[:, 1] < low, vertices[:, 1] > high))
    assert np.median(unseen) > 1.5 * np.median(seen)


def test_evidence_says_how_far_the_body_moved_and_lies_from_the_scan(toy_body: BodyModel) -> None:
    true = person(toy_body, 1)
    target = scan_of(toy_body, vertices_of(toy_body, true))
    begun = Fit(disturbed(toy_body, true, 2, 0.02, 0.1), 1.0, 0.0, True)
    refined = refine_body(toy_body, begun, target, None, CONFIG)
    sigma = np.full(toy_body.num_vertices, 0.03)
    evidence = evidence_of(toy_body, begun, refined, target, sigma)
    assert evidence is not None
    moved = vertices_of(toy_body, refined.params) - vertices_of(toy_body, begun.params)
    np.testing.assert_allclose(evidence.moved, np.linalg.norm(moved, axis=1), atol=1e-6)
    assert evidence.residual == pytest.approx(refined.residual_mm / 1000) and np.median(evidence.gap) < 0.01
    assert evidence_of(toy_body, begun, replace(refined, sigma_posterior=None), target, sigma) is None


def test_gaps_are_heights_over_the_scan_and_ways_beyond_its_end() -> None:
    at = np.linspace(-1, 1, 101)
    plane = np.stack([x.ravel() for x in np.meshgrid(at, at)] + [np.zeros(101**2)], 1)
    target = Target(plane, np.tile([0.0, 0.0, 1.0], (len(plane), 1)))
    points = np.array([[0.0, 0, 0.3], [0.01, 0.01, -0.2], [0.011, 0.009, 0.0], [2.0, 0, 0], [2.0, 0, 0.5]])
    beyond = 1 - 2 * 0.02
    np.testing.assert_allclose(scan_gaps(target, points), [0.3, 0.2, 0.0, beyond, np.hypot(beyond, 0.5)], atol=1e-9)


def test_gaps_without_normals_are_distances_but_for_the_spacing() -> None:
    target = Target(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), np.zeros((3, 3)))
    np.testing.assert_allclose(scan_gaps(target, np.array([[0.0, 5, 0], [0, 1, 0]])), [3.0, 0.0])


# ---- the model


def drawn(data: BodyData, powers: np.ndarray, seed: int) -> tuple[ErrorEvidence, VertexErrors]:
    """What is known of a body, and errors that are products of powers of it and a factor that is drawn."""
    rng, count = np.random.default_rng(seed), len(data.v_template)
    lengths = np.exp(rng.uniform(-6, -2, size=(4, count)))
    evidence = ErrorEvidence(*lengths, float(np.exp(rng.uniform(-6, -2))))
    usual = evidence.logs() @ powers.T
    errors = np.exp(usual + 0.5 * rng.normal(size=usual.shape))
    return evidence, VertexErrors(*errors.T)


POWERS = np.array([[0.3, 0.5, 0.1, 0.0, 0.2], [0.1, 0.7, 0.2, 0.3, 0.0], [0.4, 0.3, 0.0, 0.2, 0.1]])


def test_model_finds_powers_and_what_68_percent_stay_under(toy_data: BodyData) -> None:
    learnt = [drawn(toy_data, POWERS, seed) for seed in range(40)]
    model = ErrorModel.fit([evidence for evidence, _ in learnt], [errors for _, errors in learnt], toy_data)
    np.testing.assert_allclose(model.powers, POWERS, atol=0.06)
    others = [drawn(toy_data, POWERS, seed) for seed in range(100, 120)]
    sigmas = [model.at(evidence, toy_data) for evidence, _ in others]
    missed = np.concatenate([errors.across for _, errors in others])
    assert (missed <= np.concatenate([each.across for each in sigmas])).mean() == pytest.approx(0.68, abs=0.04)


def test_more_doubt_never_means_less_error(toy_data: BodyData) -> None:
    against = np.array([[0.5, 0.5, -0.4, 0.0, 0.0]] * 3)
    learnt = [drawn(toy_data, against, seed) for seed in range(20)]
    model = ErrorModel.fit([evidence for evidence, _ in learnt], [errors for _, errors in learnt], toy_data)
    assert (model.powers >= 0).all() and (model.powers[:, 2] == 0).all()
    np.testing.assert_allclose(model.powers[:, :2], 0.5, atol=0.1)


def test_joints_that_the_model_does_not_know_have_the_usual_factor(toy_data: BodyData) -> None:
    names = list(toy_data.joint_names)
    model = ErrorModel(np.zeros((3, len(PREDICTORS))), {names[0]: np.zeros(3), "another": np.full(3, np.log(4.0))})
    evidence = drawn(toy_data, POWERS, 0)[0]
    known = np.asarray(toy_data.weights)[:, 0]
    np.testing.assert_allclose(np.log(model.at(evidence, toy_data).whole), (1 - known) * np.log(2.0), atol=1e-6)


def test_parts_are_never_more_than_the_whole(toy_data: BodyData) -> None:
    model = ErrorModel(np.zeros((3, len(PREDICTORS))), {"any": np.log([1.0, 2.0, 0.5])})
    found = model.at(drawn(toy_data, POWERS, 0)[0], toy_data)
    np.testing.assert_allclose([found.across, found.along], [found.whole, found.whole / 2])


def test_displaced_surfaces_lie_on_the_scan_and_have_slipped_as_before() -> None:
    plane = np.stack([x.ravel() for x in np.meshgrid(*[np.linspace(-1, 1, 101)] * 2)] + [np.zeros(101**2)], 1)
    target = Target(plane, np.tile([0.0, 0.0, 1.0], (len(plane), 1)))
    errors = VertexErrors(np.full(3, 0.05), np.full(3, 0.03), np.full(3, 0.04))
    found = errors.displaced(target, np.array([[0.0, 0, 0], [0, 0, 0.01], [9, 0, 0]]), 0.001)
    np.testing.assert_allclose(found.across, [0.001, np.hypot(0.001, 0.01), 0.03])
    np.testing.assert_allclose(found.whole, np.hypot(found.across, 0.04))
    np.testing.assert_allclose(found.along, 0.04)


def test_errors_alike_have_the_length_of_the_whole() -> None:
    found = VertexErrors.alike(np.array([0.02, 0.3]))
    np.testing.assert_allclose(np.hypot(found.across, found.along), found.whole)


def test_model_survives_its_file(toy_data: BodyData) -> None:
    learnt = [drawn(toy_data, POWERS, seed) for seed in range(5)]
    model = ErrorModel.fit([evidence for evidence, _ in learnt], [errors for _, errors in learnt], toy_data)
    again = ErrorModel.from_dict(json.loads(json.dumps(model.to_dict())))
    evidence = learnt[0][0]
    np.testing.assert_allclose(again.at(evidence, toy_data).whole, model.at(evidence, toy_data).whole, rtol=1e-2)


@pytest.mark.parametrize(
    "change",
    [
        {"predictors": ["moved"]},
        {"powers": [[1.0]]},
        {"powers": [[float("nan")] * len(PREDICTORS)] * len(PARTS)},
        {"by_joint": {}},
        {"by_joint": {"pelvis": [0.0]}},
    ],
)
def test_other_files_are_refused(change: dict[str, object]) -> None:
    good = ErrorModel(np.zeros((3, len(PREDICTORS))), {"pelvis": np.zeros(3)}).to_dict()
    with pytest.raises(ValueError, match="expected"):
        ErrorModel.from_dict(good | change)


def test_a_body_without_a_model_is_said_plainly() -> None:
    with pytest.raises(CheckpointError, match="expected a model of errors, got none"):
        shipped_errors("nobody")


@pytest.mark.parametrize("name", ["anny", "anny-hand"])
def test_shipped_models_know_all_joints(name: str) -> None:
    from lvdreg.body import load_body

    model, data = shipped_errors(name), load_body(name).data
    assert set(data.joint_names) == set(model.by_joint) and (model.powers >= 0).all()
    count = len(data.v_template)
    sure, unsure = (
        model.at(ErrorEvidence(*np.full((4, count), length), length), data).whole
        for length in (10 * FLOOR, 100 * FLOOR)
    )
    assert (unsure > sure).all()


@pytest.mark.parametrize(
    ("name", "joint", "part", "count"), [("anny", "left_wrist", "left hand", 15), ("anny-hand", "thumb2", "thumb", 6)]
)
def test_parts_have_the_sigma_of_their_vertices(name: str, joint: str, part: str, count: int) -> None:
    from lvdreg.body import load_body

    data = load_body(name).data
    own = data.weights.argmax(1) == data.joint_names.index(joint)
    sigmas = part_sigmas(data, np.where(own, 9.0, 1.0))
    assert len(sigmas) == count and all(sigma == 1.0 for name, sigma in sigmas.items() if name != part)
    everywhere = part_sigmas(data, np.full(len(own), 2.0))
    assert set(everywhere) == set(sigmas) and set(everywhere.values()) == {2.0} and part in everywhere
