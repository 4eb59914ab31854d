"""Fits of many bodies at once: every part against the one that fits one after the other, its oracle."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from test_smplify import random_params
from test_solver import random_body

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.fit import batched_scan, scan
from lvdreg.fit.batched_displace import displace_bodies
from lvdreg.fit.batched_scan import refine_bodies
from lvdreg.fit.batched_solver import BatchedPrior, Rooms, bounded_minima, weighted_medians, wrapped
from lvdreg.fit.batched_vertices import fit_bodies
from lvdreg.fit.correspond import Target
from lvdreg.fit.displace import DisplaceConfig, displace
from lvdreg.fit.kinematics import State
from lvdreg.fit.legs import Leg
from lvdreg.fit.priors import PriorConfig, pose_prior
from lvdreg.fit.scan import RefineConfig, refine_body
from lvdreg.fit.solver import Room, bounded_minimum
from lvdreg.fit.vertices import Fit, FitConfig, fit_body
from lvdreg.geometry.batched import closest_of_all, closest_on_meshes, closest_on_triangles, nearest_of_all
from lvdreg.geometry.mesh import closest_point_on_mesh, face_normals, sample_surface, unit_rows
from lvdreg.geometry.metrics import weighted_median

TIGHT = 1e-7
"""Metres."""


def posed(body: BodyModel, params: BodyParams) -> FloatArray:
    with torch.no_grad():
        return (
            body(BodyParams(*(x.float() for x in (params.betas, params.pose, params.transl)))).vertices.double().numpy()
        )


def alike(body: BodyModel, many: Sequence[Fit], one_by_one: Sequence[Fit]) -> None:
    for fit, oracle in zip(many, one_by_one, strict=True):
        np.testing.assert_allclose(posed(body, fit.params), posed(body, oracle.params), atol=1e-5)
        for name in ("betas", "pose", "transl"):
            np.testing.assert_allclose(getattr(fit.params, name), getattr(oracle.params, name), atol=1e-5)
        assert fit.scale == pytest.approx(oracle.scale, rel=1e-6)
        assert fit.residual_mm == pytest.approx(oracle.residual_mm, rel=1e-5)
        assert (fit.converged, fit.was_refined) == (oracle.converged, oracle.was_refined)


@pytest.mark.parametrize("free_scale", [False, True])
def test_vertices_are_fitted_as_one_after_the_other(toy_body: BodyModel, free_scale: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    params = random_params(toy_body, 3, 0.4)
    there = torch.as_tensor(posed(toy_body, params)).float() * (0.5 if free_scale else 1.0)
    sigma = 0.01 + 0.03 * torch.rand(there.shape[:2], generator=generator)
    there += 0.5 * sigma[..., None] * torch.randn(there.shape, generator=generator)
    there[1, :60] += 0.4  # A part that is wrong,
    sigma[2, 60:90] = 0.6  # and one that is a guess.
    config = FitConfig(max_iterations=6, alternations=3, vertices_per_part=8, guess=0.15)
    alike(
        toy_body,
        fit_bodies(toy_body, there, sigma, config, free_scale),
        [fit_body(toy_body, *pair, config, free_scale) for pair in zip(there, sigma, strict=True)],
    )


def scan_of(body: BodyModel, vertices: FloatArray, count: int, seed: int) -> Target:
    points, face, _ = sample_surface(vertices, body.data.faces, count, np.random.default_rng(seed))
    return Target(points, unit_rows(face_normals(vertices, body.data.faces))[face])


def test_scans_are_fitted_as_one_after_the_other(toy_data: BodyData, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has few points, and a hidden leg (an arm of the toy's); another is of two people, and its fit is undone."""
    toy_body = BodyModel(replace(toy_data, joint_names=("pelvis", "neck", *toy_data.joint_names[2:])))
    leg = Leg(2, np.array([2, 4]), 100)
    monkeypatch.setattr(scan, "hidden_legs", lambda *given: (leg,) * (len(given[-1].points) == 150))
    params = random_params(toy_body, 3, 0.15)
    vertices = posed(toy_body, params)
    vertices[1] *= [1.06, 1.0, 1.06]  # Clothes.
    counts = (900, 150, 900)
    targets = [scan_of(toy_body, own, count, i) for i, (own, count) in enumerate(zip(vertices, counts, strict=True))]
    targets[0] = replace(targets[0], normals=np.where(np.arange(900)[:, None] % 7 == 0, 0.0, targets[0].normals))
    elsewhere = np.r_[targets[2].points[::4], targets[2].points[::4] + [0.25, 0.0, 0.0]]
    targets[2] = Target(elsewhere, np.r_[-targets[2].normals[::4], targets[2].normals[::4]])
    parts = zip(params.betas, params.pose + 0.05, params.transl + 0.03, strict=True)
    starts = [Fit(BodyParams(*own), 1.0, 0.0, True) for own in parts]
    sigma = torch.linspace(0.01, 0.06, toy_body.num_vertices).repeat(3, 1)
    config = RefineConfig(max_iterations=5, coarse_points=100, fine_points=200, body_points=100)
    config = replace(config, guard=replace(config.guard, most_lost=0.02, most_unexplained=0.01))
    monkeypatch.setattr(batched_scan, "AT_ONCE", 2)
    many = refine_bodies(toy_body, starts, targets, sigma, config)
    oracles = [refine_body(toy_body, *given, config) for given in zip(starts, targets, sigma, strict=True)]
    alike(toy_body, many, oracles)
    for fit, oracle in zip(many, oracles, strict=True):
        np.testing.assert_allclose(fit.sigma_posterior, oracle.sigma_posterior, rtol=1e-5)
    assert [fit.was_refined for fit in many] == [True, True, False]
    with pytest.raises(ValueError, match="a closed body"):
        refine_bodies(toy_body, starts[:1], targets[:1], sigma[:1], replace(config, kernel_noises=3.0))


def test_surfaces_are_carried_as_one_after_the_other(toy_body: BodyModel) -> None:
    """One scan is much smaller than the other's, and is torn in two, where nothing is left."""
    params = random_params(toy_body, 2, 0.15)
    vertices = posed(toy_body, params)
    targets = [
        scan_of(toy_body, own * [1.05, 1.0, 1.08], count, 0) for own, count in zip(vertices, (900, 300), strict=True)
    ]
    left = np.abs(targets[1].points[:, 1]) > 0.1
    targets[1] = Target(targets[1].points[left], targets[1].normals[left])
    fits = [Fit(BodyParams(*own), 1.0, 0.0, True) for own in zip(params.betas, params.pose, params.transl, strict=True)]
    config = DisplaceConfig(rounds=3, num_points=500)
    many = displace_bodies(toy_body, fits, targets, config)
    for fit, own, target in zip(many, fits, targets, strict=True):
        oracle = displace(toy_body, own, target, config)
        assert fit.params.displacements is not None and oracle.params.displacements is not None
        np.testing.assert_allclose(fit.params.displacements, oracle.params.displacements, atol=2e-5)
        assert fit.residual_mm == pytest.approx(oracle.residual_mm, abs=0.01)
        assert float(fit.params.displacements.abs().max()) > 0.005


def test_priors_are_those_of_one_body_at_a_time() -> None:
    body = BodyModel(random_body(correctives=False))
    prior = pose_prior(body.data, PriorConfig(0.7, 0.4))
    params = random_params(body, 4, 1.5)
    params = replace(params, betas=3 * params.betas)
    found = BatchedPrior(prior, params.betas).equations(params)
    for i in range(4):
        one = prior.equations(State(*(x[i].numpy() for x in (params.pose, params.betas, params.transl))))
        np.testing.assert_allclose(found.hessian[i], one.hessian, atol=1e-9)
        np.testing.assert_allclose(found.gradient[i], one.gradient, atol=1e-9)
        assert float(found.cost[i]) == pytest.approx(one.cost)
    assert (prior.excess(params.pose[0].numpy()) != 0).any() and len(prior.chains) > 0


def test_steps_stop_at_their_bounds() -> None:
    rng = np.random.default_rng(0)
    root, gradient = rng.normal(size=(20, 6, 6)), rng.normal(size=(20, 6))
    hessian = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(6)
    low, high = -np.abs(rng.normal(size=(20, 6))) * 0.5, np.abs(rng.normal(size=(20, 6))) * 0.5
    low[0], high[0] = -1e-3, 1e-3
    tensors = [torch.as_tensor(array) for array in (hessian, gradient, low, high)]
    found = bounded_minima(tensors[0], tensors[1], Rooms(tensors[2], tensors[3])).numpy()
    for i in range(20):
        np.testing.assert_allclose(found[i], bounded_minimum(hessian[i], gradient[i], Room(low[i], high[i])), atol=1e-9)


def test_medians_and_angles() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(5, 9)), rng.random((5, 9))
    found = weighted_medians(torch.as_tensor(values), torch.as_tensor(weights))
    assert found.tolist() == [weighted_median(v, w) for v, w in zip(values, weights, strict=True)]
    mask = torch.as_tensor(rng.random((5, 9)) > 0.5)
    mask[0] = False
    medians = batched_scan._medians(torch.as_tensor(values), mask)
    assert medians.tolist() == [
        0.0,
        *(float(np.median(v[m])) for v, m in zip(values[1:], mask[1:].numpy(), strict=True)),
    ]
    far = torch.tensor([[[7.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]], dtype=torch.float64)
    near = wrapped(BodyParams(torch.zeros(1, 1), far, torch.zeros(1, 3))).pose
    state = State(far[0].numpy(), np.zeros(1), np.zeros(3)).wrapped()
    np.testing.assert_allclose(near[0], state.pose, atol=1e-12)


def test_comparing_all_with_all_finds_what_trees_find(toy_body: BodyModel) -> None:
    rng, faces = np.random.default_rng(0), torch.as_tensor(toy_body.data.faces)
    vertices = np.stack([toy_body.data.v_template.astype(np.float64) * s for s in (1.0, 1.3)])
    points = vertices[:, rng.integers(0, vertices.shape[1], 200)] + rng.normal(size=(2, 200, 3)) * 0.3
    points[:, 0] = 5.0
    tensors = torch.as_tensor(points), torch.as_tensor(vertices)
    for found in (closest_of_all(*tensors, faces), closest_on_meshes(*tensors, faces)):
        for i in range(2):
            hit = closest_point_on_mesh(points[i], vertices[i], toy_body.data.faces)
            np.testing.assert_allclose(found.distance[i], hit.distance, atol=1e-12)
            there = np.einsum("nj,nji->ni", found.bary[i], vertices[i][toy_body.data.faces[found.face[i]]])
            np.testing.assert_allclose(there, hit.points, atol=1e-9)
    nearest = nearest_of_all(*tensors)
    for i in range(2):
        np.testing.assert_array_equal(nearest[i], cKDTree(vertices[i]).query(points[i])[1])


def test_closest_points_of_thin_triangles() -> None:
    corner = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
    bary, squared = closest_on_triangles(torch.tensor([1.5, 1.0, 0.0], dtype=torch.float64), corner)
    np.testing.assert_allclose(bary @ corner, [1.5, 0.0, 0.0], atol=1e-12)
    assert float(squared) == pytest.approx(1.0)
    bary, squared = closest_on_triangles(torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64), torch.zeros_like(corner))
    assert float(squared) == pytest.approx(9.0) and float(bary.sum()) == pytest.approx(1.0)
