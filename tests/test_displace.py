"""Displacements: nothing on one's own mesh, faithful elsewhere, smooth over noise and holes."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import lvdreg.fit.displace
from lvdreg.base.errors import RegistrationError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.correspond import ScanIndex, Target
from lvdreg.fit.displace import DisplaceConfig, DisplacedSurface, displace, final_length, scan_noise, solve_by_axes
from lvdreg.fit.kinematics import State
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.mesh import closest_point_on_mesh, mesh_normals, vertex_areas
from tests.scans import dressed, scan_of, standing, vertices_of

# Fewer points than by default lie farther apart, and ask for a longer smoothing length.
CONFIG = DisplaceConfig(rounds=4, num_points=12_000, smoothing=(0.08, 0.012, 0.03))


@pytest.fixture(scope="module")
def person(body: BodyModel) -> BodyParams:
    return standing(body, 1)


def carried(body: BodyModel, params: BodyParams, target: Target, config: DisplaceConfig = CONFIG) -> Fit:
    return displace(body, Fit(params, 1.0, 0.0, True), target, config)


def sheet_of(body: BodyModel, params: BodyParams) -> DisplacedSurface:
    return DisplacedSurface(body, State.from_params(params))


def distance_mm(body: BodyModel, points: FloatArray, surface: FloatArray) -> FloatArray:
    return 1000 * closest_point_on_mesh(points, surface, body.data.faces).distance


def test_own_mesh_asks_for_nothing(body: BodyModel, person: BodyParams) -> None:
    fit = carried(body, person, scan_of(body, vertices_of(body, person), 12_000))
    assert fit.params.displacements is not None
    assert fit.params.displacements.shape == (body.num_vertices, 3)
    assert 1000 * fit.params.displacements.norm(dim=-1).mean() < 0.4
    assert 1000 * fit.params.displacements.norm(dim=-1).max() < 4
    assert fit.residual_mm < 0.2
    assert torch.equal(fit.params.pose, person.pose)


@pytest.mark.parametrize("most", [200, 2])
def test_a_system_is_solved_whether_its_axes_are_alike_or_not(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvdreg.fit.displace, "MAX_ITERATIONS", most)
    rng = np.random.default_rng(0)
    binding, directions = rng.normal(size=(40, 40)), rng.normal(size=(30, 120)) * (rng.random((30, 120)) < 0.1)
    dense = np.kron(binding @ binding.T + np.eye(40), np.eye(3)) + 50 * directions.T @ directions
    right = rng.normal(size=120)
    found = solve_by_axes(sp.csr_matrix(dense), right, rng.normal(size=(40, 3)), 1e-12)
    np.testing.assert_allclose(found.ravel(), np.linalg.solve(dense, right), rtol=1e-7, atol=1e-9)


def test_surface_follows_clothes_both_ways(body: BodyModel, person: BodyParams) -> None:
    naked = vertices_of(body, person)
    outer = dressed(body, naked)
    fit = carried(body, person, scan_of(body, outer, 12_000))
    reached = vertices_of(body, fit.params)
    areas = vertex_areas(naked, body.data.faces)
    assert np.average(distance_mm(body, naked, outer), weights=areas) > 10
    assert np.average(distance_mm(body, reached, outer), weights=areas) < 1.5
    assert np.average(distance_mm(body, outer, reached), weights=areas) < 1.5
    # Vertices move along the surface hardly at all, and nothing folds.
    assert 1000 * np.average(np.linalg.norm(reached - outer, axis=1), weights=areas) < 8
    assert not sheet_of(body, person).folded(fit.params.displacements.double().numpy()).any()


@pytest.mark.slow
def test_displacements_live_in_the_rest_frame(body: BodyModel, person: BodyParams) -> None:
    outer = dressed(body, vertices_of(body, person))
    target = scan_of(body, outer, 12_000)
    state = State.from_params(person)
    state.pose[0] = [0.0, 2.0, 0.0]
    turned = state.to_params(body.v_template)
    before, after = (rotvec_to_rotmat(p.pose[0].double()).numpy() for p in (person, turned))
    turn = after @ before.T
    pivot = body.rest(person.betas)[1][0].double().numpy() + state.transl
    moved = Target((target.points - pivot) @ turn.T + pivot, target.normals @ turn.T)
    first, second = (carried(body, p, t).params.displacements for p, t in ((person, target), (turned, moved)))
    assert first is not None and second is not None
    assert 1000 * (first - second).norm(dim=-1).mean() < 0.3


def test_holes_are_bridged_smoothly(body: BodyModel, person: BodyParams) -> None:
    naked = vertices_of(body, person)
    outer = naked + 0.02 * mesh_normals(naked, body.data.faces)
    whole = scan_of(body, outer, 12_000)
    belly = naked[body.data.weights[:, body.joint_names.index("spine1")] > 0.5]
    centre = belly[belly[:, 2].argmax()]
    hole = np.linalg.norm(whole.points - centre, axis=1) < 0.09
    assert 0.005 < hole.mean() < 0.05
    fit = carried(body, person, Target(whole.points[~hole], whole.normals[~hole]))
    reached = vertices_of(body, fit.params)
    inside = np.linalg.norm(outer - centre, axis=1) < 0.06
    assert distance_mm(body, reached[inside], outer).mean() < 5
    assert distance_mm(body, reached[inside], outer).max() < 12


def test_unseen_parts_stay_at_the_body(body: BodyModel, person: BodyParams) -> None:
    naked = vertices_of(body, person)
    whole = scan_of(body, naked, 12_000)
    front = whole.normals[:, 2] > 0.1
    fit = carried(body, person, Target(whole.points[front], whole.normals[front]))
    assert fit.params.displacements is not None
    assert 1000 * fit.params.displacements.norm(dim=-1).mean() < 0.5
    assert 1000 * fit.params.displacements.norm(dim=-1).max() < 9


def test_noise_is_averaged_out(body: BodyModel, person: BodyParams) -> None:
    naked = vertices_of(body, person)
    target = scan_of(body, naked, 12_000, noise=0.006)
    fit = carried(body, person, target)
    reached, areas = vertices_of(body, fit.params), vertex_areas(naked, body.data.faces)
    given = np.abs(distance_mm(body, target.points, naked)).mean()
    assert given > 3.5
    assert np.average(distance_mm(body, reached, naked), weights=areas) < 0.5 * given


def test_noise_of_a_scan_is_measured(body: BodyModel, person: BodyParams) -> None:
    naked = vertices_of(body, person)
    rough, fair = (scan_of(body, naked, 12_000, noise=x) for x in (0.008, 0.0))
    assert scan_noise(rough.points, rough.normals) == pytest.approx(0.008, rel=0.3)
    assert scan_noise(fair.points, fair.normals) < 0.001
    assert scan_noise(rough.points, np.zeros_like(rough.points)) == 0.0
    sheet = sheet_of(body, person)
    lengths = [final_length(ScanIndex(t, 0.04, 12_000), sheet, CONFIG) for t in (fair, rough)]
    assert CONFIG.smoothing[1] == lengths[0] < lengths[1] <= CONFIG.smoothing[2]


def test_folded_faces_are_seen(body: BodyModel, person: BodyParams) -> None:
    sheet = sheet_of(body, person)
    displacements = np.zeros_like(sheet.base)
    assert not sheet.folded(displacements).any()
    vertex = int(sheet.areas.argmax())
    displacements[vertex] = 0.2 * sheet.tangents[vertex, 0]
    assert sheet.folded(displacements)[vertex]


def test_an_empty_scan_is_refused(body: BodyModel, person: BodyParams) -> None:
    with pytest.raises(RegistrationError, match="only 0 points"):
        carried(body, person, Target(np.zeros((0, 3)), np.zeros((0, 3))))


@pytest.mark.slow
def test_density_of_the_scan_does_not_matter(body: BodyModel, person: BodyParams) -> None:
    outer = dressed(body, vertices_of(body, person))
    config = replace(CONFIG, num_points=30_000)
    thin, dense = (carried(body, person, scan_of(body, outer, n), config).params.displacements for n in (6000, 24_000))
    assert thin is not None and dense is not None
    assert 1000 * (thin - dense).norm(dim=-1).mean() < 1.5
