"""Fits to keypoints in batch: kinematics against their oracle, derivatives, the pose prior, and bodies found again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from test_solver import random_body

from lvdreg.base.errors import BodyError
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.batched import BatchedKinematics, left_jacobian
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.fit.mixture import JointAngles, PoseMixture, joints_of_pose, shipped_mixture
from lvdreg.fit.smplify import Found, Seen, SMPLify, best_views, spread
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.synth.people.photo_poses import NAMES, PhotoPoseSampler

DISTANCE = 4.0


def random_params(body: BodyModel, count: int, spread: float = 0.5, seed: int = 0) -> BodyParams:
    """Parameters in double precision, each body its own."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (body.num_betas,), (body.num_joints, 3), (3,)
    betas, pose, transl = (torch.randn(count, *s, generator=generator, dtype=torch.float64) for s in shapes)
    return BodyParams(betas, spread * pose, transl)


def test_points_and_jacobian_are_those_of_one_body_at_a_time() -> None:
    data = random_body(correctives=False)
    body, oracle = BodyModel(data), Kinematics(data)
    params = random_params(body, 3)
    batched = BatchedKinematics(body, oracle, params.betas)
    posed = batched.pose(params)
    jacobian = batched.jacobian(posed)
    for i in range(3):
        one = oracle.pose(State(*(x[i].numpy() for x in (params.pose, params.betas, params.transl))))
        np.testing.assert_allclose(posed.points[i], one.vertices, atol=1e-12)
        np.testing.assert_allclose(jacobian[i], oracle.jacobian(one), atol=1e-12)
    some = batched.jacobian(posed, torch.tensor([4, 0]), with_shape=False)
    columns = [12, 13, 14, 0, 1, 2, -3, -2, -1]
    np.testing.assert_array_equal(some, jacobian[..., columns])


def test_pose_blend_shapes_move_points_too() -> None:
    data = random_body()
    body, oracle = BodyModel(data), Kinematics(data)
    params = random_params(body, 2)
    posed = BatchedKinematics(body, oracle, params.betas).pose(params)
    one = oracle.pose(State(*(x[1].numpy() for x in (params.pose, params.betas, params.transl))))
    np.testing.assert_allclose(posed.points[1], one.vertices, atol=1e-12)


def test_left_jacobian_is_smooth_at_no_rotation() -> None:
    small = torch.tensor([[0.0, 0.0, 0.0], [1e-5, 0.0, 0.0], [2e-4, -1e-4, 0.0]], dtype=torch.float64)
    assert (left_jacobian(small) - torch.eye(3)).abs().max() < 2e-4
    turned = rotvec_to_rotmat(small[2] + torch.tensor([0, 0, 1e-6])) @ rotvec_to_rotmat(small[2]).T
    expected = left_jacobian(small)[2] @ torch.tensor([0, 0, 1e-6], dtype=torch.float64)
    torch.testing.assert_close(rotmat_to_rotvec(turned), expected, atol=1e-12, rtol=1e-3)


def test_mixture_is_the_sum_of_its_gaussians_and_learning_never_makes_it_less_likely() -> None:
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.normal(0, 0.3, (150, 3)), rng.normal(1, 0.1, (50, 3))])
    one = PoseMixture.single(("spine1",), angles, 0.05)
    np.testing.assert_allclose(
        one.log_density(angles),
        multivariate_normal(angles.mean(0), np.cov(angles.T, bias=True) + 0.05**2 * np.eye(3)).logpdf(angles),
    )
    mixture, before = one.split(angles, np.array([0, 199])), -np.inf
    for _ in range(10):
        mixture = mixture.improved(angles, 1e-3)
        now = float(mixture.log_density(angles).mean())
        assert now >= before - 1e-6
        before = now
    assert before > float(one.log_density(angles).mean()) + 0.3
    assert np.exp(mixture.log_weights).min() == pytest.approx(0.25, abs=0.03)


def test_mixture_comes_back_from_its_file_and_other_files_are_refused(tmp_path: Path) -> None:
    mixture = shipped_mixture()
    mixture.save(tmp_path / "prior.npz")
    again = PoseMixture.load(tmp_path / "prior.npz")
    assert again.joints == mixture.joints
    np.testing.assert_array_equal(again.whitening, mixture.whitening)
    np.savez(tmp_path / "other.npz", joints=np.array(["a"]), log_weights=np.zeros(1), means=np.zeros((1, 3)))
    with pytest.raises(BodyError, match="expected a pose prior"):
        PoseMixture.load(tmp_path / "other.npz")
    short = {"log_weights": np.zeros(2), "means": np.zeros((1, 3)), "whitening": np.ones((1, 3, 3))}
    np.savez(tmp_path / "short.npz", joints=np.array(["a"]), **short)
    with pytest.raises(BodyError, match="expected a pose prior"):
        PoseMixture.load(tmp_path / "short.npz")
    with pytest.raises(BodyError, match="install lvdreg anew"):
        PoseMixture.load(tmp_path / "none.npz")


def test_shipped_mixture_tells_people_from_joints_at_random(body: BodyModel) -> None:
    mixture = shipped_mixture()
    assert mixture.joints == joints_of_pose(body.data)
    angles = JointAngles.of(body.data, mixture.joints)
    people = torch.zeros(40, body.num_betas)
    poses = PhotoPoseSampler(body).sample(people, torch.Generator().manual_seed(123)).double().numpy()
    twisted = np.random.default_rng(0).permuted(poses, axis=1)
    assert np.median(mixture.log_density(angles(poses))) > np.median(mixture.log_density(angles(twisted))) + 50


@pytest.fixture(scope="module")
def smplify(body: BodyModel) -> SMPLify:
    """The fit to the shipped body."""
    return SMPLify(body)


def photographed(fit: SMPLify, params: BodyParams, distance: float = DISTANCE) -> Seen:
    """What a camera before people sees of their landmarks, in units of a metre at the pelvis."""
    points = fit.points.pose(params).points
    places = points[..., :2] / (1 - points[..., 2:] / distance)
    return Seen(
        places,
        torch.ones_like(places[..., 0]),
        points.new_zeros(len(points), 2),
        points.new_full((len(points),), 1 / distance),
    )


def people_standing(body: BodyModel, yaws: list[float]) -> BodyParams:
    """People who stand, turned about the vertical, their pelvis at the origin; double precision."""
    count, generator = len(yaws), torch.Generator().manual_seed(11)
    betas = 0.5 * torch.randn(count, body.num_betas, generator=generator)
    sampler = PhotoPoseSampler(body)
    joints = body.rest(betas)[1]
    standing = torch.full((count,), NAMES.index("standing"))
    rotations = sampler._draw(joints, generator, standing)
    turn = rotvec_to_rotmat(torch.tensor([[0.0, yaw, 0.0] for yaw in yaws]))
    rotations[:, 0] = turn @ rotations[:, 0]
    pose = rotmat_to_rotvec(rotations)
    params = BodyParams(betas.double(), pose.double(), torch.zeros(count, 3, dtype=torch.float64))
    return replace(params, transl=-body(BodyParams(betas, pose, torch.zeros(count, 3))).joints[:, 0].double())


@pytest.fixture(scope="module")
def stood(body: BodyModel, smplify: SMPLify) -> tuple[BodyParams, Seen, Found]:
    """Four people, from the front, the left, behind and the right; what is seen of them, and what was fitted."""
    params = people_standing(body, [0.0, 1.57, 3.14, -1.57])
    seen = photographed(smplify, params)
    return params, seen, smplify.fit(seen)


def test_standing_people_are_found_from_any_side(body: BodyModel, stood: tuple[BodyParams, Seen, Found]) -> None:
    params, _, found = stood
    posed = [body(BodyParams(p.betas.float(), p.pose.float(), p.transl.float())) for p in (params, found.params)]
    true, fitted = (p.vertices - p.joints[:, :1] for p in posed)
    assert (1000 * found.missed < 30).all()
    assert 1000 * (true - fitted).norm(dim=-1).mean() < 100
    turns = [rotvec_to_rotmat(p.pose[:, 0]) for p in (params, found.params)]
    assert ((turns[0] * turns[1]).sum((1, 2)) > 2.8).all(), "nobody is turned by more than 26 degrees"


def test_views_that_are_fitted_to_the_end_differ_as_long_as_there_are_others() -> None:
    yaws = torch.tensor([[0.0, 0.1, 3.0, -0.1], [0.0, 1.0, 2.0, 3.0]])
    rotvecs = torch.stack([0 * yaws, yaws, 0 * yaws], -1)
    cost = torch.tensor([[1.0, 2.0, 9.0, 3.0], [4.0, 3.0, 2.0, 1.0]])
    assert best_views(cost, rotvecs, 2).tolist() == [[0, 2], [3, 2]]
    assert best_views(cost, rotvecs, 4).tolist() == [[0, 2, 1, 3], [3, 2, 1, 0]]


def test_a_batch_gives_what_single_photos_give(smplify: SMPLify, stood: tuple[BodyParams, Seen, Found]) -> None:
    _, seen, found = stood
    alone = smplify.fit(seen.of(torch.tensor([2])))
    torch.testing.assert_close(alone.params.pose[0], found.params.pose[2], atol=1e-6, rtol=0)
    torch.testing.assert_close(alone.log_unit[0], found.log_unit[2], atol=1e-6, rtol=0)


def test_a_good_start_stays_where_it_is(smplify: SMPLify, stood: tuple[BodyParams, Seen, Found]) -> None:
    _, seen, found = stood
    again = smplify.fit(seen, start=(found.params, found.log_unit))
    assert (again.cost <= 1.02 * found.cost).all()
    assert (again.params.pose - found.params.pose).abs().max() < 0.3


def test_what_is_not_seen_does_not_count_wherever_it_is_said_to_be(
    smplify: SMPLify, stood: tuple[BodyParams, Seen, Found]
) -> None:
    _, seen, _ = stood
    hidden = seen.weight.clone()
    hidden[:, [i for i, name in enumerate(smplify.names) if name.endswith(("knee", "ankle"))]] = 0.0
    lost = torch.where(hidden[..., None] > 0, seen.places, 100.0)
    a, b = (
        smplify.fit(replace(seen, weight=hidden, places=places).of(torch.tensor([0]))) for places in (seen.places, lost)
    )
    torch.testing.assert_close(a.params.pose, b.params.pose, atol=1e-9, rtol=0)


def test_what_no_keypoint_tells_is_unsure_but_finite(
    body: BodyModel, smplify: SMPLify, stood: tuple[BodyParams, Seen, Found]
) -> None:
    first = stood[1].of(torch.tensor([0]))
    weight = torch.zeros(3, first.weight.shape[1], dtype=torch.float64)
    weight[1, 0], weight[2] = 1.0, first.weight[0]
    seen = replace(first.of(torch.tensor([0, 0, 0])), weight=weight)
    sigma, _ = spread(body, smplify.fit(seen))
    assert sigma.isfinite().all()
    assert (sigma[:2].median(1).values > 3 * sigma[2].median()).all()


@pytest.mark.parametrize("perspective", [0.0, 0.25])
def test_gradient_and_cost_agree(smplify: SMPLify, stood: tuple[BodyParams, Seen, Found], perspective: float) -> None:
    """Central differences of the whole cost along directions in which everything moves."""
    from lvdreg.fit.smplify import _Now, _Stage

    of = smplify.everything
    _, seen, found = stood
    seen = replace(seen, perspective=torch.full_like(seen.perspective, perspective), axis=seen.axis + 0.2)
    generator, size = torch.Generator().manual_seed(1), of.size

    def direction() -> torch.Tensor:
        return torch.randn(4, size, generator=generator, dtype=torch.float64)

    limits = 100 * smplify.prior.beta_limits
    now = _Now(found.params, found.log_unit).moved(0.1 * direction(), of, limits)
    stage, unit = _Stage(0.2, 2.0, 1, of), found.log_unit
    _, gradient, _ = smplify._equations(now, seen, stage, unit)
    along, step = direction(), 1e-6
    costs = [smplify._equations(now.moved(s * along, of, limits), seen, stage, unit)[2] for s in (step, -step)]
    torch.testing.assert_close((costs[0] - costs[1]) / (2 * step), (gradient * along).sum(1), rtol=1e-4, atol=1e-3)
