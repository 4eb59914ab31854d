"""People whose legs nothing shows: feet under a hem, legs that are guessed, the axis of a cone."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.correspond import Target, posed_surface
from lvdreg.fit.kinematics import State
from lvdreg.fit.legs import hanging_cloth, hidden_legs, is_upright
from lvdreg.fit.scan import RefineConfig, Refiner
from lvdreg.fit.vertices import FitConfig, believed, fit_body
from lvdreg.geometry.mesh import closest_point_on_mesh, mesh_normals, unit_rows
from lvdreg.geometry.metrics import Surface
from lvdreg.pipeline.assess_scan import HANGS_FROM, _without_hanging
from lvdreg.pipeline.config import HAND, RegisterConfig
from lvdreg.scan.segment import CleanConfig, main_cluster
from tests.scans import scan_of, standing, vertices_of


def cone(count: int = 6000) -> FloatArray:
    """A skirt: from a waist of 0.15 m at a height of 1 m to a hem of 0.45 m at 0.3 m, with a trunk above it."""
    rng = np.random.default_rng(0)
    height, angle = rng.uniform(0.3, 1.6, count), rng.uniform(0, 2 * np.pi, count)
    radius = np.where(height < 1.0, 0.15 + 0.3 * (1.0 - height) / 0.7, 0.15)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1)


def blob(middle: tuple[float, float, float], count: int) -> FloatArray:
    """A foot, or something else that is as large."""
    return np.array(middle) + 0.05 * np.random.default_rng(1).uniform(-1, 1, (count, 3))


@pytest.mark.parametrize(
    ("middle", "count", "is_kept"),
    [
        ((0.1, 0.2, 0.0), 60, True),  # a foot: in the middle of the hem, no path to it over the surface
        ((0.1, 0.2, 0.0), 400, True),
        ((0.1, 0.2, 0.0), 10, False),  # as few as noise makes
        ((0.9, 0.2, 0.0), 60, False),  # beside the hem
        ((0.1, -0.4, 0.0), 60, False),  # far below it
    ],
)
def test_feet_under_a_hem_belong_to_the_person(middle: tuple[float, float, float], count: int, is_kept: bool) -> None:
    points = np.vstack([cone(), blob(middle, count)])
    for turn in (np.eye(3), np.eye(3)[[1, 0, 2]], np.eye(3)[[0, 2, 1]]):  # no axis is known to be up
        keep, _ = main_cluster(points @ turn.T, np.ones(len(points)), CleanConfig())
        assert keep[:6000].all() and keep[6000:].all() == is_kept
    keep, _ = main_cluster(points, np.ones(len(points)), HAND.clean)
    assert not keep[6000:].any() or count == 400, "what lies beside a hand is a thing"


@pytest.mark.parametrize(("thickness", "is_kept"), [(0.001, False), (0.003, False), (0.05, True)])
def test_patches_of_a_floor_under_a_hem_are_no_feet(thickness: float, is_kept: bool) -> None:
    patch = blob((0.1, 0.2, 0.0), 300) * [1, thickness / 0.05, 1] + [0, 0.2, 0]
    keep, _ = main_cluster(np.vstack([cone(), patch]), np.ones(6300), CleanConfig())
    assert keep[:6000].all() and keep[6000:].any() == is_kept


def test_sure_vertices_count_as_they_did_and_guesses_hardly() -> None:
    sigma = np.array([0.02, 0.04, 0.1, 0.2])
    np.testing.assert_array_equal(believed(sigma, inf), sigma)
    factor = believed(sigma, 0.1) / sigma
    assert factor[0] < 1.01 and factor[1] < 1.03 and factor[2] == 2 and factor[3] > 10


def test_a_leg_guessed_a_metre_down_makes_nobody_taller(body: BodyModel) -> None:
    params = BodyParams.zeros(body)
    vertices, owner = body(params).vertices.clone(), body.data.weights.argmax(1)
    lower = [f"{side}_{part}" for side in ("left", "right") for part in ("knee", "ankle", "foot")]
    shins = np.isin(owner, [body.joint_names.index(name) for name in lower])
    vertices[shins] -= torch.tensor([0.0, 0.6, 0.0])
    sigma = torch.where(torch.from_numpy(shins), 0.24, 0.03)
    config, tall = FitConfig(max_iterations=6), {}
    for guess in (inf, RegisterConfig().fit.guess):
        betas = fit_body(body, vertices, sigma, replace(config, guess=guess)).params.betas
        tall[guess] = float(np.ptp(body.rest(betas)[0].numpy()[:, 1]))
    true = float(np.ptp(body.rest(params.betas)[0].numpy()[:, 1]))
    assert abs(tall[RegisterConfig().fit.guess] - true) < 0.05 < tall[inf] - true


def test_legs_are_hidden_where_shins_are_guessed(body: BodyModel) -> None:
    owner, sigma = body.data.weights.argmax(1), np.full(body.num_vertices, 0.03)
    posed = vertices_of(body, BodyParams.zeros(body))
    bare = scan_of(body, posed)
    skirt = scan_of(body, posed + 0.1 * mesh_normals(posed, body.data.faces))
    assert hidden_legs(body.data, sigma, 0.1, posed, skirt) == () == hidden_legs(body.data, None, 0.1, posed, skirt)
    knee, hip = body.joint_names.index("right_knee"), body.joint_names.index("right_hip")
    sigma[owner == knee] = 0.2
    (leg,) = hidden_legs(body.data, sigma, 0.1, posed, skirt)
    assert hidden_legs(body.data, sigma, 0.1, posed, bare) == (), "a leg that is seen is where it is seen"
    assert leg.hip == hip and knee in leg.parts
    ankle = body.data.J_template[body.joint_names.index("right_ankle")]
    assert np.linalg.norm(body.data.v_template[leg.heel] - ankle) < 0.08
    assert hidden_legs(body.data, sigma, inf, posed, skirt) == ()


def test_hidden_legs_hang_from_the_hips_of_who_is_upright(body: BodyModel) -> None:
    """Nothing but what draws a leg: seen from above, its ankle comes to lie under its hip."""
    params = BodyParams.zeros(body)
    state = State.from_params(params)
    hip, ankle = body.joint_names.index("left_hip"), body.joint_names.index("left_ankle")
    state.pose[hip] = [-0.6, 0.0, 0.3]
    sigma = torch.full((body.num_vertices,), 0.03)
    sigma[torch.from_numpy(body.data.weights.argmax(1) == body.joint_names.index("left_knee"))] = 0.2
    naked = vertices_of(body, state.to_params(body.v_template))
    target = scan_of(body, naked + 0.1 * mesh_normals(naked, body.data.faces), 3000)
    refiner = Refiner(body, state, target, sigma, RefineConfig(guess=0.1, body_points=200, fine_points=300))
    posed = refiner.kernel.pose(state)
    (pull,) = refiner._hanging(posed)
    offset = pull.heights(posed.vertices)
    expected = posed.joints[ankle] - posed.joints[hip]
    np.testing.assert_allclose(offset, expected[[0, 2]], atol=0.08)
    lying = State(np.vstack([[[np.pi / 2, 0, 0]], state.pose[1:]]), state.betas, state.transl)
    assert refiner._hanging(refiner.kernel.pose(lying)) == []
    assert is_upright(posed.joints, body.joint_names)


def hanging(
    body: BodyModel, points: FloatArray, turn: FloatArray | None = None, is_sitting: bool = False
) -> FloatArray:
    """Which of some points about a person who stands or sits, turned any way, are called hanging cloth."""
    params = standing(body, 3)
    if is_sitting:
        bent = params.pose.clone()
        for name, angle in (("hip", -1.5), ("knee", 1.5)):
            for side in ("left", "right"):
                bent[body.joint_names.index(f"{side}_{name}"), 0] = angle
        params = replace(params, pose=bent)
    surface, posed = posed_surface(body, params), body(params)
    joints = posed.joints.double().numpy()[[body.joint_names.index(name) for name in HANGS_FROM]]
    turn = np.eye(3) if turn is None else turn
    surface = replace(surface, vertices=surface.vertices @ turn.T)
    points, joints = (points + joints[:2].mean(0)) @ turn.T, joints @ turn.T
    hit = closest_point_on_mesh(points, surface.vertices, surface.faces)
    return np.asarray(hanging_cloth(points, hit, surface, joints[:2], joints[2:4], joints[4], 0.08))


def test_distances_leave_out_hanging_cloth_and_what_is_under_it(body: BodyModel) -> None:
    vertices = vertices_of(body, standing(body, 3))
    low = vertices[:, 1] < np.quantile(vertices[:, 1], 0.4)
    around = vertices[low] + 0.3 * unit_rows((vertices[low] - vertices.mean(0)) * [1, 0, 1])
    target = Target(np.vstack([vertices[~low] + [0, 0.004, 0], around]), np.zeros((len(vertices), 3)))
    hangs = np.arange(len(vertices)) >= (~low).sum()
    there, back = _without_hanging(target, hangs, Surface(vertices, body.data.faces))
    with_all = _without_hanging(target, np.zeros_like(hangs), Surface(vertices, body.data.faces))
    assert there < 4.01 and there < with_all[0] / 10
    assert back < with_all[1] / 2


def bell(radius: float, low: float, high: float, angles: tuple[float, float] = (0.0, 2 * np.pi)) -> FloatArray:
    """Points on a tube about the vertical through the hips, heights counted from them."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(*angles, 3000)
    return np.stack([radius * np.cos(angle), rng.uniform(low, high, 3000), radius * np.sin(angle)], 1)


@pytest.mark.parametrize("turn", [np.eye(3), np.eye(3)[[1, 2, 0]]])
def test_cloth_around_the_legs_hangs_whatever_is_up(body: BodyModel, turn: FloatArray) -> None:
    assert hanging(body, bell(0.4, -0.7, -0.1), turn).mean() > 0.98
    assert hanging(body, bell(0.4, -0.7, -0.1, (0.5, 2 * np.pi - 0.5)), turn).mean() > 0.98, "a coat is open in front"


def test_what_is_near_above_or_on_one_side_does_not_hang(body: BodyModel) -> None:
    skin = vertices_of(body, standing(body, 3)) - body(standing(body, 3)).joints[1:3].mean(0).double().numpy()
    assert not hanging(body, skin).any()
    assert not hanging(body, bell(1.2, 0.3, 0.5)).any(), "around the shoulders"
    assert not hanging(body, bell(0.4, -0.7, -0.1, (0.0, np.pi))).any(), "a box beside the legs"
    both = hanging(body, np.vstack([skin, bell(0.4, -0.7, -0.1)]))
    assert not both[: len(skin)].any() and both[len(skin) :].mean() > 0.98
    assert not hanging(body, bell(0.4, -1.2, -0.95)).any(), "what one stands on"


def test_what_one_sits_on_does_not_hang(body: BodyModel) -> None:
    assert hanging(body, bell(0.25, -0.5, -0.2)).mean() > 0.5
    assert not hanging(body, bell(0.25, -0.5, -0.2), is_sitting=True).any()
