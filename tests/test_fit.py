"""Vertices to parameters: round trips, wrong vertices, free size, and what a person cannot be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

import lvdreg.fit.vertices
from lvdreg.base.errors import RegistrationError
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.kinematics import State
from lvdreg.fit.priors import joint_axes, pose_prior, rule_of
from lvdreg.fit.vertices import FitConfig, fit_body, plausibility_warnings, representatives
from lvdreg.geometry.frames import nearest_rotation
from lvdreg.geometry.mesh import farthest_points
from lvdreg.pipeline.config import HAND
from tests.scans import person

CONFIG = FitConfig()


def error_mm(body: BodyModel, params: BodyParams, truth: BodyParams) -> Tensor:
    return 1000 * (body(params).vertices - body(truth).vertices).norm(dim=-1)


@pytest.mark.parametrize("seed", range(4))
def test_round_trip_gives_the_same_mesh(body: BodyModel, seed: int) -> None:
    truth = person(body, seed)
    fit = fit_body(body, body(truth).vertices, None, CONFIG)
    assert error_mm(body, fit.params, truth).max() < 0.5
    assert fit.residual_mm < 0.1
    assert fit.converged and fit.scale == 1.0 and not fit.warnings


def test_corrupted_vertices_have_no_say(body: BodyModel) -> None:
    truth, generator = person(body, 5), torch.Generator().manual_seed(0)
    vertices = body(truth).vertices
    noisy = vertices + 0.02 * torch.randn(vertices.shape, generator=generator)
    wrong = torch.rand(len(noisy), generator=generator) < 0.1
    direction = torch.nn.functional.normalize(torch.randn(vertices.shape, generator=generator), dim=-1)
    noisy[wrong] += 0.5 * direction[wrong]
    error = error_mm(body, fit_body(body, noisy, None, CONFIG).params, truth)
    assert error.mean() < 8
    # The noise alone displaces vertices by 32 mm: the fit must do better than what it was given everywhere.
    assert error.max() < 40


def test_vertices_count_by_their_sigma(body: BodyModel) -> None:
    truth = person(body, 6)
    vertices, wrong = body(truth).vertices, torch.arange(body.num_vertices) % 5 != 0
    moved = vertices + 0.1 * wrong[:, None]
    sigma = torch.where(wrong, 0.1, 0.005)
    weighed = error_mm(body, fit_body(body, moved, sigma, CONFIG).params, truth)
    alike = error_mm(body, fit_body(body, moved, torch.full_like(sigma, 0.05), CONFIG).params, truth)
    # Four in five are wrong together by 17 cm: alike they win, weighed they lose.
    assert alike.mean() > 100
    assert weighed.mean() < 10


def test_free_size_finds_the_size_of_an_average_person(body: BodyModel) -> None:
    truth = person(body, 7)
    truth = BodyParams(0 * truth.betas, truth.pose, truth.transl)
    fit = fit_body(body, body(truth).vertices / 1.25, None, CONFIG, free_scale=True)
    assert fit.scale == pytest.approx(1.25, rel=0.03)
    assert error_mm(body, fit.params, truth).mean() < 30
    shape = (body(fit.params).vertices / fit.scale - body(truth).vertices / 1.25).norm(dim=-1)
    assert 1000 * shape.mean() < 3


@pytest.mark.parametrize("name", ["anny", "anny-hand"])
@pytest.mark.parametrize("free_scale", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_moved_vertices_give_the_moved_fit(name: str, free_scale: bool, seed: int) -> None:
    """Any turn, any place within 100 m and, where the size is free, any unit: the same fit there."""
    body, rng = load_body(name), np.random.default_rng(seed)
    config = HAND.fit if body.data.is_hand else CONFIG
    sigma = torch.full((body.num_vertices,), config.sigma, dtype=torch.float64)
    vertices = body(person(body, seed)).vertices.double()
    vertices = vertices + 0.3 * config.sigma * torch.from_numpy(rng.normal(size=vertices.shape))
    here = fit_body(body, vertices, sigma if seed else None, config, free_scale)
    assert here.converged and not here.warnings
    shape = body(here.params).vertices.double() / here.scale
    factors = np.exp(rng.uniform(*np.log([1e-3, 1e3]), 2)) if free_scale else (1.0, 1.0)
    for factor in factors:
        turn = torch.from_numpy(Rotation.random(random_state=rng).as_matrix())
        offset = torch.from_numpy(rng.uniform(-100, 100, 3))
        moved = factor * (vertices @ turn.T + offset)
        there = fit_body(body, moved, factor * sigma if seed else None, config, free_scale)
        assert there.scale * factor == pytest.approx(here.scale, rel=1e-6)
        found = (body(there.params).vertices.double() / (there.scale * factor) - offset) @ turn
        # Parameters are single precision: 100 m away that is some hundredths of a millimetre.
        torch.testing.assert_close(found, shape, atol=1e-4, rtol=0.0)


def test_the_size_of_a_point_is_refused(body: BodyModel) -> None:
    with pytest.raises(RegistrationError, match="in one point"):
        fit_body(body, torch.ones(body.num_vertices, 3), None, CONFIG, free_scale=True)


def test_a_fit_that_ran_out_of_steps_has_not_converged(body: BodyModel) -> None:
    vertices = body(person(body, 3)).vertices
    fit = fit_body(body, vertices, None, replace(CONFIG, max_iterations=1))
    assert not fit.converged and not any("stalled" in line for line in fit.warnings)
    assert fit_body(body, vertices, None, CONFIG).converged


def test_where_no_step_improves_only_a_short_one_counts_as_rest(
    body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cost that every step raises: at the answer the fit has converged, elsewhere it has stalled and says so."""
    truth = person(body, 1)
    vertices = body(truth).vertices
    monkeypatch.setattr(lvdreg.fit.vertices, "_cost_after", lambda *_: np.inf)
    stalled = fit_body(body, vertices, None, replace(CONFIG, alternations=1))
    assert not stalled.converged and any("stalled" in line for line in stalled.warnings)
    exact = fit_body(body, vertices, None, replace(CONFIG, tolerance=1.0))
    assert exact.converged and not any("stalled" in line for line in exact.warnings)


def test_impossible_bodies_are_named_in_words(body: BodyModel) -> None:
    state = State.from_params(BodyParams.zeros(body))
    prior, knee = pose_prior(body.data), body.joint_names.index("left_knee")
    assert plausibility_warnings(body.data, prior, state) == []
    state.pose[knee] = -0.9 * prior.axes[knee, 1]
    state.betas[2] = prior.beta_caps[2] + 1
    shape, joints = plausibility_warnings(body.data, prior, state)
    assert "1 shape parameter" in shape
    assert joints.endswith("left_knee")


@pytest.mark.parametrize("free_scale", [False, True])
def test_no_evidence_takes_a_shape_beyond_what_people_reach(body: BodyModel, free_scale: bool) -> None:
    limits = pose_prior(body.data).beta_limits
    assert body.data.people is not None and (np.abs(body.data.people) <= limits).all()
    monster = BodyParams.zeros(body)
    monster = replace(monster, betas=torch.tensor([8.0, -9.0, 8.0, -8.0] * 13)[: body.num_betas])
    fit = fit_body(body, body(monster).vertices, None, FitConfig(max_iterations=4), free_scale)
    betas = np.abs(fit.params.betas.double().numpy())
    assert (betas <= limits + 1e-5).all()
    assert (betas > limits - 1e-5).any(), "the limits are to matter here"


def test_prior_is_a_quadratic_with_the_slopes_it_states(body: BodyModel) -> None:
    """The gradient against finite differences, with limits and caps in force."""
    prior, rng = pose_prior(body.data), np.random.default_rng(2)
    state = State(rng.normal(size=(body.num_joints, 3)), 4 * rng.normal(size=body.num_betas), np.zeros(3))
    here = prior.equations(state)
    for i in rng.choice(state.vector.size, 30, replace=False):
        step = np.zeros(state.vector.size)
        step[i] = 1e-6
        slope = (prior.equations(state.moved(step)).cost - prior.equations(state.moved(-step)).cost) / 2e-6
        assert here.gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(here.hessian, here.hessian.T, atol=1e-9)


def test_wrong_input_is_refused_in_one_line(body: BodyModel) -> None:
    with pytest.raises(RegistrationError, match=r"got \(5, 3\)"):
        fit_body(body, torch.zeros(5, 3), None, CONFIG)
    with pytest.raises(RegistrationError, match="NaN"):
        fit_body(body, torch.full((body.num_vertices, 3), float("nan")), None, CONFIG)


def test_representatives_cover_every_part(body: BodyModel) -> None:
    index, weights = representatives(body.data, 18)
    assert len(set(index)) == len(index) and weights.mean() == pytest.approx(1)
    counts = np.bincount(body.data.weights[index].argmax(1), minlength=body.num_joints)
    assert counts.min() >= 10


def test_farthest_points_spread_and_stop_at_the_end() -> None:
    line = np.array([[0.0, 0, 0], [1, 0, 0], [10, 0, 0], [5, 0, 0]])
    assert farthest_points(line, 3).tolist() == [0, 2, 3]
    assert len(farthest_points(line, 9)) == 4


def test_nearest_rotation_is_proper_even_for_reflections() -> None:
    moment = np.diag([3.0, 2.0, -1.0])
    rotation = nearest_rotation(moment)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("name", ["knee", "elbow", "index2", "shoulder", "hip"])
def test_right_side_mirrors_the_left(body: BodyModel, name: str) -> None:
    names = list(body.joint_names)
    left, right = (joint_axes(body.data, names.index(f"{side}_{name}")) for side in ("left", "right"))
    np.testing.assert_allclose(left * [1, -1, -1], right, atol=1e-3)
    np.testing.assert_allclose(left @ left.T, np.eye(3), atol=1e-6)


def test_positive_flexion_bends_as_people_do(body: BodyModel) -> None:
    """Each tip must move the right way when its joint flexes by 40 degrees."""
    prior, names = pose_prior(body.data), list(body.joint_names)
    rest = body(BodyParams.zeros(body)).joints

    def motion(joint: str, tip: str) -> Tensor:
        params = BodyParams.zeros(body)
        axis = prior.axes[names.index(joint), 1]
        params.pose[names.index(joint)] = torch.from_numpy(np.radians(40) * axis).float()
        return (body(params).joints - rest)[names.index(tip)]

    assert motion("left_knee", "left_ankle")[2] < -0.2
    assert motion("right_hip", "right_knee")[2] > 0.2
    assert motion("left_elbow", "left_wrist")[2] > 0
    assert motion("spine1", "head")[2] > 0.2
    # In the A-pose the palms face each other: curled fingers move inwards.
    assert motion("left_index1", "left_index3")[0] < -0.02
    assert motion("right_index1", "right_index3")[0] > 0.02


def test_rules_go_by_name() -> None:
    assert rule_of("left_thumb1") is not rule_of("left_thumb2")
    assert rule_of("right_ring3") is rule_of("left_index1")
    assert rule_of("antenna").high == (120, 120, 120)
