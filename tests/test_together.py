"""Photos of one person refined together: the joint normal equations, what is agreed on, and what another side adds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_photo import scene, standing
from scipy.spatial.transform import Rotation
from test_silhouette import in_crop

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.kinematics import State
from lvdreg.fit.photo import PhotoStart, SilhouetteConfig
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.together import (
    agreed_states,
    agreement,
    joint_index,
    refine_to_photo,
    refine_together,
    refiners_of,
    scattered,
    seen_aside,
)
from lvdreg.fit.vertices import Fit

CONFIG, HELD = SilhouetteConfig(max_iterations=5), RefineConfig()


def turned(params: BodyParams, yaw: float) -> BodyParams:
    """The same body seen from a yaw, radians."""
    pose = params.pose.clone()
    root = Rotation.from_rotvec([0, yaw, 0]) * Rotation.from_rotvec(pose[0].double().numpy())
    pose[0] = torch.from_numpy(root.as_rotvec()).float()
    return replace(params, pose=pose)


def starts_of(body: BodyModel, yaws: tuple[float, ...], joint: str, angles: tuple[float, ...]) -> list[PhotoStart]:
    """Photos of one body from some sides, each with a fit of its own in which a joint is turned away from the viewer or
    to them, by angles: what one photo does not show."""
    starts = []
    for yaw, angle in zip(yaws, angles, strict=True):
        moved, shown = in_crop(scene(body, turned(standing(body, yaw=0.0), yaw), distance=4.0), body)
        state = State.from_params(moved.params)
        pose = state.pose.copy()
        # About the vertical as the body's own frame has it: an arm held sideways comes forward.
        pose[body.joint_names.index(joint)] += [0.0, angle, 0.0]
        fit = Fit(State(pose, state.betas, state.transl).to_params(body.v_template), 1.0, 0.0, True)
        starts.append(PhotoStart(fit, shown, torch.full((body.num_vertices,), 0.08)))
    return starts


@pytest.fixture(scope="module")
def two(body: BodyModel) -> list[PhotoStart]:
    """An arm is wrong in depth from the front, and right from its side."""
    return starts_of(body, (0.0, np.pi / 2), "left_shoulder", (0.5, 0.0))


@pytest.mark.parametrize("shared", ["shape", "pose"])
def test_the_joint_equations_are_those_of_one_cost_of_all_unknowns(
    body: BodyModel, two: list[PhotoStart], shared: str
) -> None:
    """The slow way: one function of all unknowns, by differences. Outlines and keypoints are left out, whose pairs are
    found anew for every body."""
    bare = [replace(start, shown=replace(start.shown, outline=None, keypoints=None, height=1.7)) for start in two]
    refiners = refiners_of(body, bare, CONFIG, HELD, shared)
    state = refiners[0].start
    index = joint_index(state, 2, shared)
    own = {"shape": state.pose.size + 4, "pose": 3 + 4}[shared]
    assert index.max() + 1 == state.vector.size + 1 + own and len(np.unique(index)) == index.max() + 1
    states = agreed_states(refiners, shared)
    assert np.array_equal(states[0].betas, states[1].betas)

    def cost(step: FloatArray) -> float:
        total = 0.0
        for refiner, state, at in zip(refiners, states, index, strict=True):
            refiner.log_size = step[at[-1]]
            total += refiner.equations(state.moved(step[at[:-1]]), 0.5).cost
            refiner.log_size = 0.0
        return total

    joint = scattered([r.equations(s, 0.5) for r, s in zip(refiners, states, strict=True)], index)
    generator = np.random.default_rng(3)
    for _ in range(2):
        away = generator.normal(size=index.max() + 1)
        h = 1e-6
        slope = (cost(h * away) - cost(-h * away)) / (2 * h)
        assert float(joint.gradient @ away) == pytest.approx(slope, rel=1e-3, abs=1e-3 * abs(joint.cost))


def test_a_step_of_all_is_each_ones() -> None:
    state = State(np.zeros((3, 3)), np.zeros(2), np.zeros(3))
    step = np.arange(100.0)
    first, second = step[joint_index(state, 2, "pose")]
    assert np.array_equal(first[3:11], second[3:11]) and not (set(first[[0, 1, 2, 11, 14]]) & set(second))
    first, second = step[joint_index(state, 2, "shape")]
    assert np.array_equal(first[9:11], second[9:11]) and not (set(first[:9]) & set(second))
    assert np.array_equal(joint_index(state, 1, "pose")[0], np.arange(15))


def test_what_is_agreed_on_is_the_mean_by_how_well_it_is_known() -> None:
    values = np.array([[1.0, 0.0], [0.0, 1.0]])
    mean, trust = agreement(values, np.array([np.diag([9.0, 1.0]), np.diag([1.0, 9.0])]), np.inf)
    assert mean == pytest.approx([0.9, 0.9], abs=1e-4) and np.array_equal(trust, [1, 1])
    # One of four who is far from the others is not followed, nor is anybody where nothing is known.
    mean, trust = agreement(np.array([[0.1], [0.0], [-0.1], [2.0]]), np.ones((4, 1, 1)), 0.5)
    assert abs(mean[0]) < 0.05 and trust[3] < 0.02 and trust[:3].min() > 0.8
    assert np.isfinite(agreement(values, np.zeros((2, 2, 2)), np.inf)[0]).all()


def test_how_well_another_photo_sees_what_is_depth_in_one() -> None:
    def state(yaw: float) -> State:
        return State(np.array([[0.0, yaw, 0.0]]), np.zeros(2), np.zeros(3))

    assert seen_aside([state(0.0), state(np.pi)]) == pytest.approx([0, 0], abs=1e-9)
    assert seen_aside([state(0.0), state(np.pi / 2), state(np.pi)]) == pytest.approx([1, 1, 1])
    assert seen_aside([state(0.0), state(np.pi / 6)]) == pytest.approx([0.25, 0.25])


@pytest.mark.slow
def test_a_photo_given_twice_changes_nothing(body: BodyModel, two: list[PhotoStart]) -> None:
    few = replace(CONFIG, max_iterations=2)
    start = two[0]
    alone, _ = refine_to_photo(body, start.fit, start.shown, start.sigma, few, HELD)
    first, second = refine_together(body, [start, start], few, HELD, "pose")
    for part in ("pose", "betas", "transl"):
        assert torch.equal(getattr(first[0].params, part), getattr(second[0].params, part))
    apart = body(first[0].params).vertices - body(alone.params).vertices
    assert float(apart.norm(dim=-1).max()) < 1e-4


def wrist_error_m(body: BodyModel, fit: Fit, true: BodyParams) -> float:
    """How far the left wrist is from its place, about the pelvis, in the body's own frame."""
    places = []
    for params in (fit.params, true):
        pose = params.pose.clone()
        pose[0] = 0
        joints = body(replace(params, pose=pose)).joints
        places.append(joints[body.joint_names.index("left_wrist")] - joints[0])
    return float((places[0] - places[1]).norm())


@pytest.mark.slow
def test_a_second_side_shows_depth(body: BodyModel, two: list[PhotoStart]) -> None:
    true = standing(body, yaw=0.0)
    alone = refine_to_photo(body, two[0].fit, two[0].shown, two[0].sigma, CONFIG, HELD)[0]
    (front, _), (side, _) = refine_together(body, two, CONFIG, HELD, "pose")
    errors = [wrist_error_m(body, fit, true) for fit in (two[0].fit, alone, front)]
    assert errors[2] < 0.03 < 0.12 < min(errors[:2]), errors
    assert torch.equal(front.params.pose[1:], side.params.pose[1:])
    assert torch.equal(front.params.betas, side.params.betas)
    assert not torch.equal(front.params.pose[0], side.params.pose[0])


def test_who_is_taken_for_seen_from_the_front_is_not_followed(body: BodyModel) -> None:
    """Of four sides one has left and right swapped: its arm that is raised is the other one."""
    sides = starts_of(body, (0.0, np.pi / 2, np.pi, -np.pi / 2), "left_shoulder", (0.0, 0.0, 2.0, 0.0))
    refiners = refiners_of(body, sides, CONFIG, HELD, "pose")
    joint = body.joint_names.index("left_shoulder")
    agreed = agreed_states(refiners, "pose")[0].pose[joint]
    assert np.abs(agreed - standing(body, yaw=0.0).pose[joint].double().numpy()).max() < 0.1


def test_the_shape_is_that_of_all_photos(body: BodyModel, two: list[PhotoStart]) -> None:
    generator = torch.Generator().manual_seed(5)
    betas = two[0].fit.params.betas + 0.5 * torch.randn(body.num_betas, generator=generator)
    other = replace(two[0].fit.params, betas=betas)
    starts = [replace(two[0], fit=replace(two[0].fit, params=other)), two[1]]
    fits = [fit.params for fit, _ in refine_together(body, starts, replace(CONFIG, max_iterations=1), HELD, "shape")]
    assert torch.equal(fits[0].betas, fits[1].betas) and not torch.equal(fits[0].pose, fits[1].pose)
