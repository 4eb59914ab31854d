"""The body model against slow oracles, and the shipped body against what it promises and against its source."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import BodyError
from lvdreg.body import BodyData, BodyModel, BodyParams, load_body, load_body_data
from lvdreg.body.model import joint_regressor
from lvdreg.body.poses import pose_from_smpl, pose_to_smpl
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat

GOLDEN = Path(__file__).parent / "golden" / "anny_posed.npz"
FLIP = torch.tensor([-1.0, 1, 1], dtype=torch.float64)


def random_params(body: BodyModel, batch: tuple[int, ...], seed: int = 0, pose_sigma: float = 0.4) -> BodyParams:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=g, dtype=torch.float64).to(body.v_template.dtype)

    return BodyParams(
        draw(body.num_betas), pose_sigma * draw(body.num_joints, 3), draw(3), 0.01 * draw(body.num_vertices, 3)
    )


def oracle(data: BodyData, params: BodyParams) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pose one unbatched body by loops over joints and vertices, straight from SMPL's equations."""
    betas, pose, transl = (np.float64(t.numpy()) for t in (params.betas, params.pose, params.transl))
    rotations = [np.float64(rotvec_to_rotmat(torch.from_numpy(r)).numpy()) for r in pose]
    rest = data.v_template + data.shapedirs @ betas
    if data.posedirs is not None:
        feature = np.concatenate([(r - np.eye(3)).ravel() for r in rotations[1:]])
        rest = rest + data.posedirs @ feature
    if params.displacements is not None:
        rest = rest + params.displacements.numpy()
    joints = data.J_template + data.J_shapedirs @ betas
    chain: list[NDArray[np.float64]] = []
    for j, parent in enumerate(data.parents):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        chain.append(local if parent < 0 else chain[parent] @ local)
    vertices = np.zeros_like(rest)
    for v in range(len(rest)):
        for j in range(len(joints)):
            vertices[v] += data.weights[v, j] * (chain[j][:3, :3] @ (rest[v] - joints[j]) + chain[j][:3, 3])
    return vertices + transl, np.stack([t[:3, 3] for t in chain]) + transl


def test_zero_parameters_give_the_template(anny_data: BodyData) -> None:
    body = BodyModel(anny_data)
    posed = body(BodyParams.zeros(body, (2, 3)))
    assert posed.vertices.shape == (2, 3, body.num_vertices, 3)
    torch.testing.assert_close(posed.vertices[1, 2], body.v_template, rtol=0, atol=2e-6)
    torch.testing.assert_close(posed.joints[0, 0], body.J_template, rtol=0, atol=2e-6)


@pytest.mark.parametrize("with_posedirs", [False, True])
def test_equals_the_loop_oracle(toy_data: BodyData, with_posedirs: bool) -> None:
    if with_posedirs:
        size = (len(toy_data.v_template), 3, 9 * (len(toy_data.parents) - 1))
        toy_data = dataclasses.replace(
            toy_data, posedirs=np.float32(0.02 * np.random.default_rng(0).standard_normal(size))
        )
    body = BodyModel(toy_data).double()
    params = random_params(body, (3,))
    posed = body(params)
    for b in range(3):
        one = BodyParams(params.betas[b], params.pose[b], params.transl[b], params.displacements[b])
        vertices, joints = oracle(toy_data, one)
        np.testing.assert_allclose(posed.vertices[b].numpy(), vertices, atol=1e-7)  # float32 rows of weights
        np.testing.assert_allclose(posed.joints[b].numpy(), joints, atol=1e-9)


def test_bone_transforms_carry_rest_joints_to_posed_joints(toy_body: BodyModel) -> None:
    body = toy_body.double()
    params = random_params(body, (4,))
    posed = body(params)
    _, joints = body.rest(params.betas)
    moved = (posed.Ts_world_rest[..., :3, :3] @ joints[..., None])[..., 0] + posed.Ts_world_rest[..., :3, 3]
    torch.testing.assert_close(moved, posed.joints)
    assert (posed.Ts_world_rest[..., 3, :] == torch.tensor([0.0, 0, 0, 1])).all()


def test_arguments_broadcast(toy_body: BodyModel) -> None:
    body = toy_body.double()
    many = random_params(body, (5,))
    one_person = dataclasses.replace(many, betas=many.betas[0], transl=many.transl[0], displacements=None)
    expected = dataclasses.replace(one_person, betas=many.betas[:1].expand(5, -1), transl=many.transl[:1].expand(5, -1))
    torch.testing.assert_close(body(one_person).vertices, body(expected).vertices)


def test_turning_the_root_turns_the_body_rigidly(toy_body: BodyModel) -> None:
    body = toy_body.double()
    params = random_params(body, ())
    before = body(params)
    turn = rotvec_to_rotmat(torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64))
    turned = torch.cat([rotmat_to_rotvec(turn @ rotvec_to_rotmat(params.pose[:1])), params.pose[1:]])
    after = body(dataclasses.replace(params, pose=turned))
    root = before.joints[0]
    torch.testing.assert_close(after.vertices, (before.vertices - root) @ turn.T + root, rtol=0, atol=1e-6)


def test_gradients(toy_body: BodyModel) -> None:
    body = toy_body.double()
    params = random_params(body, ())
    pick = torch.arange(0, body.num_vertices, 25)
    moved = torch.zeros(body.num_vertices, 3, dtype=torch.float64)
    moved[pick] = params.displacements[pick]
    displaced = moved[pick].clone()

    def pose_some(betas: Tensor, pose: Tensor, transl: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        posed = body(BodyParams(betas, pose, transl, moved.index_put((pick,), extra)))
        return posed.vertices[pick], posed.joints

    values = [t.clone().requires_grad_() for t in (params.betas, params.pose, params.transl, displaced)]
    assert torch.autograd.gradcheck(pose_some, values, fast_mode=True)
    values[1] = torch.zeros_like(params.pose, requires_grad=True)
    assert torch.autograd.gradcheck(pose_some, values, fast_mode=True), "at the rest pose"


@pytest.mark.parametrize("name", ["toy", "anny"])
def test_mirrored_parameters_give_the_mirrored_body(name: str, toy_data: BodyData, anny_data: BodyData) -> None:
    """Mirror the pose and, since shapes are symmetric, keep the betas: the mesh is the mirror image."""
    data = toy_data if name == "toy" else anny_data
    body = BodyModel(data).double()
    params = random_params(body, ())
    v_flip, j_flip = data.mirror_vertices, data.mirror_joints
    mirrored = BodyParams(
        params.betas,
        params.pose[j_flip] * -FLIP,  # rotation vectors are axial: the mirror image turns the other way about y and z
        params.transl * FLIP,
        params.displacements[v_flip] * FLIP,
    )
    before, after = body(params), body(mirrored)
    # The stored float32 weights of both sides agree to their last bit or so.
    torch.testing.assert_close(after.vertices[v_flip] * FLIP, before.vertices, rtol=0, atol=1e-6)
    torch.testing.assert_close(after.joints[j_flip] * FLIP, before.joints, rtol=0, atol=1e-9)


def test_detach_and_zeros(toy_body: BodyModel) -> None:
    params = dataclasses.replace(BodyParams.zeros(toy_body, (2,)), betas=torch.zeros(2, 4, requires_grad=True))
    assert params.displacements is None
    assert not params.detach().betas.requires_grad
    assert params.detach().displacements is None


def test_load_body_gives_modules_of_their_own() -> None:
    first, second = load_body("anny"), load_body("anny")
    first.double()
    assert second.v_template.dtype == torch.float32


def test_assets_are_small_enough_to_travel() -> None:
    sizes = {path: path.stat().st_size for path in assets_dir().rglob("*") if path.is_file()}
    assert max(sizes.values()) < 16 * 2**20, max(sizes, key=lambda path: sizes[path])
    assert sum(sizes.values()) < 52 * 2**20


def test_asset_has_smplh_joints_and_enough_directions(anny_data: BodyData) -> None:
    names = anny_data.joint_names
    assert len(names) == 52
    assert names[:4] == ("pelvis", "left_hip", "right_hip", "spine1")
    assert names[19:26] == (
        "right_elbow",
        "left_wrist",
        "right_wrist",
        *(f"left_index{k}" for k in (1, 2, 3)),
        "left_middle1",
    )
    assert names[-3:] == ("right_thumb1", "right_thumb2", "right_thumb3")
    assert names[int(anny_data.parents[names.index("left_pinky2")])] == "left_pinky1"
    assert names[int(anny_data.parents[names.index("right_ring1")])] == "right_wrist"
    assert anny_data.shapedirs.shape[-1] >= 20
    assert 6500 <= len(anny_data.v_template) <= 7500
    assert {"source", "licence", "command", "date"} <= anny_data.provenance.keys()
    assert (assets_dir() / "bodies" / "anny.npz").stat().st_size < 6 * 2**20


def test_asset_is_one_closed_oriented_surface_of_genus_zero(anny_data: BodyData) -> None:
    f = anny_data.faces
    directed = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    edges = {(int(a), int(b)) for a, b in directed}
    assert len(edges) == len(directed), "an edge is used twice in one direction"
    assert all((b, a) in edges for a, b in edges), "an edge has one face only"
    count = len(anny_data.v_template)
    assert count - len(edges) // 2 + len(f) == 2
    graph = coo_array((np.ones(len(directed)), directed.T), shape=(count, count))
    assert connected_components(graph, directed=False)[0] == 1
    a, b, c = anny_data.v_template[f].astype(np.float64).transpose(1, 0, 2)
    volume = np.einsum("fc,fc->", a, np.cross(b, c)) / 6
    assert 0.04 < volume < 0.12, "the mean person has a person's volume, positive: faces look outward"


def test_asset_stands_as_it_should(anny_data: BodyData) -> None:
    """Metres, Y up, facing +Z, left = +X, pelvis near the hips."""
    at = dict(zip(anny_data.joint_names, anny_data.J_template, strict=True))
    assert 1.5 < np.ptp(anny_data.v_template[:, 1]) < 1.9
    assert at["head"][1] > at["pelvis"][1] > at["left_knee"][1]
    assert at["left_shoulder"][0] > 0 > at["right_shoulder"][0]
    assert at["left_foot"][2] > at["left_ankle"][2]
    assert np.linalg.norm(at["pelvis"] - (at["left_hip"] + at["right_hip"]) / 2) < 0.05


def test_asset_is_exactly_symmetric(anny_data: BodyData) -> None:
    mirror, flip = anny_data.mirror_vertices, anny_data.mirror_joints
    sign = np.array([-1.0, 1, 1], np.float32)
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    assert (flip[flip] == np.arange(len(flip))).all()
    np.testing.assert_array_equal(anny_data.v_template[mirror] * sign, anny_data.v_template)
    np.testing.assert_array_equal(anny_data.shapedirs[mirror] * sign[:, None], anny_data.shapedirs)
    np.testing.assert_array_equal(anny_data.J_template[flip] * sign, anny_data.J_template)
    np.testing.assert_allclose(anny_data.weights[mirror][:, flip], anny_data.weights, atol=1e-6)
    as_set = {frozenset(map(int, face)) for face in anny_data.faces}
    assert {frozenset(map(int, face)) for face in mirror[anny_data.faces]} == as_set


def test_asset_weights_are_convex(anny_data: BodyData) -> None:
    assert anny_data.weights.min() >= 0
    np.testing.assert_allclose(anny_data.weights.sum(1), 1, atol=1e-6)


def test_asset_regressor_gives_the_joints_for_all_betas(anny_data: BodyData) -> None:
    body = BodyModel(anny_data).double()
    regressor = torch.from_numpy(joint_regressor(anny_data))
    betas = 3 * torch.randn(20, body.num_betas, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    vertices, joints = body.rest(betas)
    assert (regressor @ vertices - joints).abs().max() < 1e-5
    moved = regressor @ (vertices + torch.tensor([1.0, 2, 3], dtype=torch.float64))
    assert (moved - joints - torch.tensor([1.0, 2, 3], dtype=torch.float64)).abs().max() < 1e-5


def test_betas_are_standardised_over_the_stored_people(anny_data: BodyData) -> None:
    """Children count for a quarter in the variance, so over all stored people it lies a little above one."""
    assert anny_data.people is not None
    spread = anny_data.people.std(0)
    assert np.abs(np.median(anny_data.people, 0)).max() < 0.5
    assert spread.min() > 0.9 and spread.max() < 1.7
    body = load_body("anny")
    height = np.ptp(body.rest(torch.from_numpy(anny_data.people[::10]))[0].numpy()[..., 1], axis=-1)
    assert 0.9 < height.min() < 1.45 and 1.8 < height.max() < 2.2


def test_posed_body_equals_posed_anny() -> None:
    """Golden vertices were posed by the package anny itself, by the same rotations of the bones of each joint."""
    body = load_body("anny").double()
    with np.load(GOLDEN) as file:
        betas, pose, pick, expected = (torch.from_numpy(file[n]) for n in ("betas", "pose", "pick", "vertices"))
    posed = body(BodyParams(betas, pose, torch.zeros(len(betas), 3, dtype=torch.float64)))
    error_mm = 1000 * (posed.vertices[:, pick] - expected).norm(dim=-1)
    assert error_mm.mean() < 0.8
    assert error_mm.max() < 6.0


def test_tpose_puts_arms_and_legs_along_the_axes(anny_data: BodyData) -> None:
    body = load_body("anny").double()
    assert anny_data.tpose is not None
    params = BodyParams.zeros(body)
    posed = body(dataclasses.replace(params, pose=torch.from_numpy(anny_data.tpose).double()))
    at = dict(zip(anny_data.joint_names, posed.joints.numpy(), strict=True))
    expected = {
        ("left_shoulder", "left_elbow"): [1, 0, 0],
        ("right_elbow", "right_wrist"): [-1, 0, 0],
        ("right_wrist", "right_middle1"): [-1, 0, 0],
        ("left_hip", "left_knee"): [0, -1, 0],
    }
    for (joint, child), goal in expected.items():
        bone = at[child] - at[joint]
        np.testing.assert_allclose(bone / np.linalg.norm(bone), goal, atol=1e-5)
    knuckles = at["left_index1"] - at["left_pinky1"]
    assert knuckles[2] > 0 and abs(knuckles[1]) < 1e-5, "palms down, thumbs in front"


def test_pose_conversion_to_smpl_convention(anny_data: BodyData) -> None:
    assert anny_data.tpose is not None
    tpose = torch.from_numpy(anny_data.tpose).double()
    assert pose_to_smpl(tpose, anny_data).abs().max() < 1e-6, "the T-pose is SMPL's zero"
    pose = random_params(load_body("anny").double(), (3,)).pose
    torch.testing.assert_close(pose_from_smpl(pose_to_smpl(pose, anny_data), anny_data), pose, rtol=0, atol=1e-9)


def test_conversion_needs_a_tpose(toy_data: BodyData) -> None:
    with pytest.raises(BodyError, match="T-pose"):
        pose_to_smpl(torch.zeros(6, 3), toy_data)


def test_unknown_and_damaged_bodies_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BodyError, match="no body named 'nobody'"):
        load_body("nobody")
    with pytest.raises(BodyError, match="no such body file"):
        load_body_data(tmp_path / "gone.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes((assets_dir() / "bodies" / "anny.npz").read_bytes()[:100_000])
    with pytest.raises(BodyError, match="broken"):
        load_body_data(broken)
    np.savez(tmp_path / "empty.npz", v_template=np.zeros((3, 3)))
    with pytest.raises(BodyError, match="expected an array"):
        load_body_data(tmp_path / "empty.npz")
    np.savez(tmp_path / "pickled.npz", v_template=np.array([{}], dtype=object))
    with pytest.raises(BodyError, match="plain arrays"):
        load_body_data(tmp_path / "pickled.npz")


@pytest.mark.usefixtures("no_type_checks")
def test_arrays_that_do_not_fit_are_refused(toy_data: BodyData) -> None:
    with pytest.raises(BodyError, match="weights should have shape"):
        dataclasses.replace(toy_data, weights=toy_data.weights[:, :-1])
    with pytest.raises(BodyError, match="parents"):
        dataclasses.replace(toy_data, parents=toy_data.parents[::-1])
    with pytest.raises(BodyError, match="faces"):
        dataclasses.replace(toy_data, faces=toy_data.faces + 1)
