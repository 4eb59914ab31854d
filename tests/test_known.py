"""What the user knows of a person: each term against finite differences, and what fits make of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scans import person, scan_of, standing, vertices_of

from lvdreg.base.errors import ScanError, UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.landmarks import named_points
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.kinematics import Kinematics, State, upright_height
from lvdreg.fit.known import FloorTerm, Known, Places, posture_of, soles
from lvdreg.fit.people import likely_height, likely_shape, people_alike
from lvdreg.fit.priors import PriorConfig, ShapePrior
from lvdreg.fit.scan import RefineConfig, refine_body
from lvdreg.fit.size import SizeConfig, find_size
from lvdreg.fit.vertices import Fit, FitConfig, fit_body
from lvdreg.geometry.frames import similarity
from lvdreg.pipeline.told import Person, Told, floor_under, read_places, with_doubts
from lvdreg.scan.model import scan_from_arrays

NAMES = ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "head", "nose", "left_heel")
QUICK = FitConfig(max_iterations=8)


def height_of(body: BodyModel, params: BodyParams) -> float:
    return upright_height(Kinematics(body.data), params.betas.double().numpy())[0]


def places_of(body: BodyModel, params: BodyParams, names: tuple[str, ...] = NAMES) -> Places:
    chosen = named_points(body.data).chosen(names)
    posed = body(params)
    points = chosen.of(posed.vertices[None], posed.joints[None])[0]
    return Places(chosen, points.double().numpy())


def everything(body: BodyModel) -> Known:
    rng = np.random.default_rng(0)
    mean = 0.3 * rng.normal(size=body.num_betas)
    return Known(
        height=(1.8, 0.02),
        shape=ShapePrior(mean, np.eye(len(mean)) + 0.1),
        posture="a",
        places=places_of(body, person(body, 1)),
        floor=-0.8,
    )


@pytest.mark.parametrize("what", ["all", "height", "shape", "posture", "places", "floor"])
def test_gradients_are_those_of_the_costs(body: BodyModel, what: str) -> None:
    every = everything(body)
    known = every if what == "all" else replace(Known(), **{what: getattr(every, what)})
    prior = known.prior(body.data, PriorConfig(), in_world=True)
    state, rng = State.from_params(person(body, 2, spread=0.2)), np.random.default_rng(1)
    for _ in range(3):
        direction = rng.normal(size=state.vector.size)
        step = 1e-5 * direction
        slope = (prior.equations(state.moved(step)).cost - prior.equations(state.moved(-step)).cost) / 2e-5
        assert prior.equations(state).gradient @ direction == pytest.approx(slope, rel=2e-4, abs=1e-3)


def test_nothing_known_changes_nothing(body: BodyModel) -> None:
    prior, state = Known().prior(body.data, PriorConfig(), in_world=True), State.from_params(person(body, 3))
    pull, slope, cost = prior.shape_terms(state.betas)
    assert (pull == np.eye(body.num_betas)).all() and (slope == state.betas).all()
    assert cost == pytest.approx(0.5 * state.betas @ state.betas)


def test_a_height_is_kept(body: BodyModel) -> None:
    truth = standing(body, 4)
    tall = 1.1 * height_of(body, truth)
    known = Known(height=(tall, 0.001))
    sigma = torch.full((body.num_vertices,), 0.37 * 0.03)
    free = fit_body(body, 0.37 * body(truth).vertices, sigma, QUICK, free_scale=True, known=known)
    assert height_of(body, free.params) == pytest.approx(tall, abs=0.01)
    size = find_size("none", body, free, 1.0, SizeConfig(), tall)
    assert not size.is_guess and size.metres_per_scan_unit == pytest.approx(1.1 / 0.37, rel=0.02)


def test_places_win_against_the_network(body: BodyModel) -> None:
    truth = standing(body, 5)
    joint = body.joint_names.index("left_shoulder")
    wrong = truth.pose.clone()
    wrong[joint] += torch.tensor([0.0, 0.0, 0.8])
    seen = body(replace(truth, pose=wrong)).vertices
    sigma = torch.full((body.num_vertices,), 0.03)
    wrist = body.joint_names.index("left_wrist")
    misses = [
        float((body(fit_body(body, seen, sigma, QUICK, known=known).params).joints - body(truth).joints)[wrist].norm())
        for known in (Known(), Known(places=places_of(body, truth)))
    ]
    assert misses[0] > 0.2 and misses[1] < 0.03
    unit = similarity(0.6, np.eye(3), np.array([0.1, 0.2, 0.3]))
    known = Known(places=places_of(body, truth)).at(unit)
    in_unit = 0.6 * seen + torch.tensor([0.1, 0.2, 0.3])
    free = fit_body(body, in_unit, 0.6 * sigma, QUICK, free_scale=True, known=known)
    apart = body(free.params).joints[wrist] / free.scale - (
        0.6 * body(truth).joints[wrist] + in_unit[0] - 0.6 * seen[0]
    )
    assert float(apart.norm()) < 0.03


def test_a_known_shape_is_no_unknown(body: BodyModel) -> None:
    truth = standing(body, 6)
    betas = truth.betas.double().numpy() + 0.2
    known = Known(betas=betas)
    fit = fit_body(body, body(truth).vertices, None, QUICK, known=known)
    target = scan_of(body, vertices_of(body, truth), 1500)
    refined = refine_body(body, fit, target, None, RefineConfig(max_iterations=3), known)
    for found in (fit, refined):
        assert np.array_equal(found.params.betas.numpy(), betas.astype(np.float32))


@pytest.mark.parametrize(("posture", "slope"), [("t", 0.0), ("a", 45.0)])
def test_postures_are_what_they_are_called(body: BodyModel, posture: str, slope: float) -> None:
    pose = torch.from_numpy(posture_of(body.data, posture)).float()
    joints = body(replace(BodyParams.zeros(body), pose=pose)).joints
    for side in ("left", "right"):
        shoulder, elbow = (joints[body.joint_names.index(f"{side}_{name}")] for name in ("shoulder", "elbow"))
        bone = (elbow - shoulder) / (elbow - shoulder).norm()
        assert np.degrees(np.arcsin(-float(bone[1]))) == pytest.approx(slope, abs=3)


def test_arms_that_nobody_saw_are_those_of_the_posture(body: BodyModel) -> None:
    pose = torch.from_numpy(posture_of(body.data, "t")).float()
    seen = body(BodyParams.zeros(body)).vertices
    arm = [j for j, name in enumerate(body.joint_names) if name.startswith("left_") and "shoulder" in name]
    sigma = torch.where(body.weights[:, arm].sum(1) > 0.1, 5.0, 0.01)
    shoulder = arm[0]
    apart = [
        float((fit_body(body, seen, sigma, QUICK, known=known).params.pose[shoulder] - pose[shoulder]).norm())
        for known in (Known(), Known(posture="t"))
    ]
    assert apart[1] < apart[0]


def test_soles_come_onto_the_floor_and_lifted_feet_stay(body: BodyModel) -> None:
    kernel, parts = soles(body.data)
    state = State.from_params(BodyParams.zeros(body))
    lowest = kernel.pose(state).vertices[:, 1].min()
    term = FloorTerm(kernel, parts, lowest + 0.01)
    down = term.equations(state).gradient[-2]
    assert down < 0, "what is sunk is pushed up"
    assert term.equations(state).cost > 0
    raised = FloorTerm(kernel, parts, lowest - 0.3)
    near = FloorTerm(kernel, parts, lowest - 0.04)
    shod = FloorTerm(kernel, (np.arange(5),), kernel.pose(state).vertices[:5, 1].min() - 0.02)
    assert shod.equations(state).cost == 0
    assert 0 < raised.equations(state).gradient[-2] < 0.05 * near.equations(state).gradient[-2]


def test_people_of_a_sex_and_an_age(body: BodyModel) -> None:
    heights = {who: likely_height(body.data, people_alike(*who)) for who in (("male", 30), ("female", 30), (None, 7))}
    assert heights["male", 30][0] > heights["female", 30][0] + 0.06 > heights[None, 7][0] + 0.3
    child = likely_shape(body.data, people_alike(None, 7))
    assert height_of(body, replace(BodyParams.zeros(body), betas=torch.from_numpy(child.mean).float())) < 1.35
    assert (np.linalg.eigvalsh(child.information) > 0).all()
    assert people_alike(None, None) == pytest.approx(1 / 1500)


def written(path: Path, what: object) -> Path:
    path.write_text(json.dumps(what), encoding="utf-8")
    return path


def test_places_are_read(body: BodyModel, tmp_path: Path) -> None:
    path = written(tmp_path / "scan.json", {"keypoints": {"nose": [1, 2, 3], "left_wrist": [4, 5, 6.5]}})
    for source in (path, tmp_path):
        places, files = read_places(source, "scan", body.data)
        assert places.landmarks.names == ("nose", "left_wrist") and places.points[1].tolist() == [4, 5, 6.5]
        assert list(files) == ["keypoints/scan.json"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"left_wrst": [1, 2, 3]}, "did you mean left_wrist"),
        ({"tail": [1, 2, 3]}, "no such joint; expected one of"),
        ({"nose": [1, 2]}, "three numbers"),
        ({"nose": [1, 2, "x"]}, "something else"),
        ({"nose": [1, 2, float("nan")]}, "something else"),
        ({}, "no joint by its name"),
        ([1, 2], "no joint by its name"),
    ],
)
def test_wrong_places_are_refused_in_one_line(body: BodyModel, tmp_path: Path, what: object, words: str) -> None:
    with pytest.raises(ScanError, match=words) as caught:
        read_places(written(tmp_path / "k.json", what), "scan", body.data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "words"),
    [({"height": 17.0}, "--height"), ({"sex": "x"}, "--sex"), ({"age": -1.0}, "--age"), ({"pose": "y"}, "--pose")],
)
def test_what_cannot_be_is_refused(told: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Told(**told)  # type: ignore[arg-type]


def test_what_does_not_go_with_the_scan_is_said(body: BodyModel) -> None:
    truth, scan = standing(body, 7), scan_from_arrays(np.zeros((3, 3)))
    fit = Fit(truth, 1.0, 0.0, True)
    tall = 1.3 * height_of(body, truth)
    person_ = Person.of(Told(height=tall, sex="male"), body.data, scan)
    size = find_size("m", body, fit, 1.0, person_.sizes(SizeConfig()), person_.height)
    off = replace(person_.known, places=places_of(body, truth)).at(similarity(1.0, np.eye(3), np.full(3, 0.4)))
    warnings = with_doubts(fit, person_, off, body, fit, np.eye(4), size).warnings
    assert len(warnings) == 2 and "--height says" in warnings[0] and "69 cm" in warnings[1]
    right = Person.of(Told(height=height_of(body, truth)), body.data, scan)
    assert not with_doubts(fit, right, right.known, body, fit, np.eye(4), size).warnings


def test_the_floor_is_what_was_taken_out_or_the_lowest_point() -> None:
    rng = np.random.default_rng(0)
    someone = rng.uniform([-0.2, 0.01, -0.2], [0.2, 1.7, 0.2], (5000, 3))
    floor = np.column_stack([rng.uniform(-1, 1, 4000), 0.001 * rng.normal(size=4000), rng.uniform(-1, 1, 4000)])
    raw: FloatArray = np.vstack([someone, floor, [[np.nan] * 3]])
    assert floor_under(raw, someone, np.eye(4)) == pytest.approx(0.0, abs=0.003)
    assert floor_under(someone, someone, np.eye(4)) == pytest.approx(0.013, abs=0.006)
