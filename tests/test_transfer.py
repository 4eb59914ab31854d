"""Models of other topologies, found by the free body's network: places on the surface, and whole registrations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricate import fabricate
from real_data import real_path
from scans import person

from lvdreg.base.errors import BodyError
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body import BodyData, BodyModel, BodyParams, load_body, store
from lvdreg.body.licensed import JOINT_NAMES, read_model
from lvdreg.body.model import mirror_image
from lvdreg.body.transfer import BLIND_SIGMAS, Correspondence, key_of, place_template, transfer_notes
from lvdreg.evaluate.faust import read_mesh
from lvdreg.fit.priors import RULES, UNKNOWN, joint_axes, pose_prior, rule_of
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.metrics import corresponding_vertex
from lvdreg.pipeline.assess_scan import mirrored
from lvdreg.pipeline.scan import correspond, register, register_hand
from lvdreg.result.scan import Registration
from lvdreg.scan.model import Scan, scan_from_arrays

WHOLE = pytest.mark.whole


def halved(faces: IntArray, num_vertices: int) -> tuple[IntArray, IntArray]:
    """Each triangle as four: the ends of the edges whose middles are new vertices (E, 2), and the faces."""
    sides = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    ends, index = np.unique(sides, axis=0, return_inverse=True)
    middle = num_vertices + index.reshape(-1, 3)
    a, b, c = faces.T
    ab, bc, ca = middle.T
    parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return ends, np.concatenate([np.stack(part, axis=1) for part in parts])


def posed(body: BodyModel, params: BodyParams) -> FloatArray:
    with torch.no_grad():
        return np.asarray(body(params).vertices.double())


def with_middles(vertices: FloatArray, ends: IntArray) -> FloatArray:
    return np.concatenate([vertices, vertices[ends].mean(1)])


class Template(BodyData):
    """As much of a body as places are sought for, in double precision."""

    def __init__(self, vertices: FloatArray, faces: IntArray) -> None:
        vars(self).update(v_template=vertices, faces=faces, name="finer")


@pytest.fixture
def finer(toy_data: BodyData) -> tuple[BodyModel, IntArray, IntArray]:
    """The toy figure, the edges whose middles a finer model has beside its vertices, and that model's faces."""
    return BodyModel(toy_data), *halved(toy_data.faces, len(toy_data.v_template))


def test_vertices_follow_the_free_body_into_any_pose_and_unit(finer: tuple[BodyModel, IntArray, IntArray]) -> None:
    body, ends, faces = finer
    at_rest, elsewhere = (posed(body, params) for params in (BodyParams.zeros(body), person(body, 2)))
    found = place_template(Template(with_middles(at_rest, ends), faces), body.data, at_rest, at_rest)
    assert found.residual_mm.max() < 1e-6
    assert not found.blind.any()
    assert not transfer_notes(found)
    wanted = with_middles(elsewhere, ends)
    np.testing.assert_allclose(found.carry(elsewhere, body.data.faces), wanted, atol=1e-9)
    np.testing.assert_allclose(found.carry(100 * elsewhere, body.data.faces), 100 * wanted, atol=1e-7)


def test_what_the_free_body_cannot_be_is_an_offset_that_turns_and_grows_with_it(
    finer: tuple[BodyModel, IntArray, IntArray],
) -> None:
    body, ends, faces = finer
    lean, fat = (posed(body, replace(BodyParams.zeros(body), betas=torch.tensor([b, 0, 0, 0.0]))) for b in (0, 0.05))
    found = place_template(Template(with_middles(fat, ends), faces), body.data, lean, fat)
    assert found.residual_mm.max() < 1e-6
    assert np.linalg.norm(found.offsets, axis=1).max() > 0.002
    turn = rotvec_to_rotmat(torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)).numpy()
    carried = found.carry(3 * lean @ turn.T + 5, body.data.faces)
    np.testing.assert_allclose(carried, 3 * with_middles(fat, ends) @ turn.T + 5, atol=1e-9)


def test_a_vertex_without_a_place_follows_its_neighbours_and_counts_little(
    finer: tuple[BodyModel, IntArray, IntArray],
) -> None:
    body, ends, faces = finer
    rest = posed(body, BodyParams.zeros(body))
    whole = with_middles(rest, ends)
    # A tetrahedron within the trunk, as eyes lie within a head.
    inner = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]) * 0.01 + rest[: len(rest) // 3].mean(0)
    inner_faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]) + len(whole)
    model = Template(np.concatenate([whole, inner]), np.concatenate([faces, inner_faces]))
    found = place_template(model, body.data, rest, rest)
    assert found.blind.nonzero()[0].tolist() == list(range(len(whole), len(whole) + 4))
    np.testing.assert_allclose(found.carry(rest, body.data.faces), model.v_template, atol=1e-9)
    sigma = found.carry_sigma(np.full(len(rest), 0.01), rest, body.data.faces)
    np.testing.assert_allclose(sigma[: len(whole)], 0.01, atol=1e-9)
    assert (sigma[len(whole) :] > 0.01 * BLIND_SIGMAS).all()
    assert "follow their neighbours" in transfer_notes(found)[0]


def test_a_template_that_is_no_person_is_refused(toy_body: BodyModel) -> None:
    rest = posed(toy_body, BodyParams.zeros(toy_body))
    with pytest.raises(BodyError, match="expected a template"):
        place_template(Template(rest + 10, toy_body.data.faces), toy_body.data, rest, rest)


def test_the_key_changes_with_either_body(toy_data: BodyData, anny_data: BodyData) -> None:
    moved = replace(toy_data, v_template=toy_data.v_template + np.float32(1e-4))
    assert len({key_of(toy_data, anny_data), key_of(moved, anny_data), key_of(toy_data, toy_data)}) == 3


@pytest.mark.usefixtures("no_type_checks")
def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="expected arrays of 2 vertices"):
        empty = np.zeros((2, 3))
        Correspondence("anny", np.zeros(2, int), empty, empty[:1], empty[:, 0], empty[:, 0] > 0, 1.0, "")


def test_the_mirror_image_has_mirrored_pose_blend_shapes(toy_data: BodyData) -> None:
    shape = (len(toy_data.v_template), 3, 9 * (len(toy_data.parents) - 1))
    posedirs = 0.02 * np.random.default_rng(0).normal(size=shape).astype(np.float32)
    data = replace(toy_data, posedirs=posedirs)
    params = person(BodyModel(data), 3)
    other = posed(BodyModel(mirror_image(data)), mirrored(params))
    np.testing.assert_allclose(other * [-1, 1, 1], posed(BodyModel(data), params), atol=1e-5)
    again = mirror_image(mirror_image(data))
    assert (again.faces == data.faces).all()
    np.testing.assert_array_equal(again.posedirs, posedirs)


def test_every_joint_of_a_licensed_model_has_a_rule(tmp_path: Path) -> None:
    for names in JOINT_NAMES.values():
        assert all(rule_of(name) is not UNKNOWN for name in names[1:])
    assert rule_of("left_hand") is RULES["hand"]
    assert rule_of("left_eye_smplhf") is RULES["eye"]
    assert rule_of("jaw") is RULES["jaw"]


def test_a_wrist_of_a_t_pose_bends_down_with_fingers_and_without(tmp_path: Path) -> None:
    for kind in ("smpl", "smplh"):
        data = read_model(fabricate(kind, tmp_path)).data
        for side, down in (("left", -1), ("right", 1)):
            flex = joint_axes(data, data.joint_names.index(f"{side}_wrist"))[1]
            # Turning the left hand down is a turn to -Z, for its fingers point to +X.
            assert flex[2] * down > 0.8, (kind, side, flex)


# --- Whole registrations, of models made in the public formats --------------------------------------------------------


def moderate(data: BodyData, seed: int) -> BodyParams:
    """A person or hand with likely joint angles, turned somehow; who rests in a T-pose lowers the arms."""
    rng, prior = np.random.default_rng(seed), pose_prior(data)
    free = np.isinf(prior.sigma)
    angles = rng.normal(size=prior.sigma.shape) * 0.5 * np.where(free, 0, prior.sigma)
    pose = np.einsum(
        "ja,jab->jb", np.clip(angles, np.where(free, 0, prior.low), np.where(free, 0, prior.high)), prior.axes
    )
    if data.is_hand:
        pose[0] = [0.3, -0.4, 1.2]
    else:
        pose[0, 1] = rng.uniform(-3, 3)
        for side, turn in (("left", -0.7), ("right", 0.7)):
            pose[data.joint_names.index(f"{side}_shoulder"), 2] += turn
    betas = 0.8 * rng.normal(size=data.shapedirs.shape[-1])
    return BodyParams(torch.tensor(betas).float(), torch.tensor(pose).float(), torch.zeros(3))


def scan_and_truth(data: BodyData, params: BodyParams) -> tuple[Scan, FloatArray, FloatArray]:
    """The model's own surface as a scan, far from the origin; its vertices and joints there."""
    with torch.no_grad():
        found = BodyModel(data)(params)
    vertices, joints = (x.double().numpy() + [3.0, 0, -2] for x in (found.vertices, found.joints))
    return scan_from_arrays(vertices, data.faces, name="made"), vertices, joints


def assert_recovered(result: Registration, vertices: FloatArray, joints: FloatArray) -> None:
    for surface in (result.vertices, result.body_vertices):
        assert np.median(np.linalg.norm(surface - vertices, axis=1)) < 0.008
    assert np.linalg.norm(result.joints - joints, axis=1).mean() < 0.008
    assert result.verdict == "good"


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "models"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("smpl", marks=WHOLE), pytest.param("smplh", marks=WHOLE), "smplx"])
def test_a_body_is_recovered_from_a_scan_of_itself(kind: str, tmp_path: Path) -> None:
    name = store.add(fabricate(kind, tmp_path), correspond=correspond)
    places, data = store.correspondence(name), store.load(name)
    assert places.source == "anny"
    assert places.residual_mm[~places.blind].mean() < 2
    scan, vertices, joints = scan_and_truth(data, moderate(data, 1))
    # Both qualities: what is well predicted needs little refinement.
    result = register(scan, model=f"{name}+d", settings={"quality": "standard" if kind == "smplh" else "fast"})
    assert_recovered(result, vertices, joints)
    assert (result.faces == data.faces).all()
    assert result.params["displacements"].shape == vertices.shape
    assert result.sigma_mm.shape == (len(vertices),)


@pytest.mark.slow
def test_a_left_hand_is_fitted_in_its_own_file_where_there_is_one(tmp_path: Path) -> None:
    """First by the mirror image of the right hand's file, then by the left hand's own."""
    right = store.add(fabricate("mano", tmp_path), correspond=correspond)
    assert store.correspondence(right).source == "anny-hand"
    assert store.correspondence(right).residual_mm.mean() < 0.5
    mirror = mirror_image(store.load(right))
    scan, vertices, joints = scan_and_truth(mirror, mirrored(moderate(store.load(right), 2)))
    result = register_hand(scan, model="mano+d", settings={"quality": "fast"})
    assert result.side == "left"
    assert_recovered(result, vertices, joints)
    own = store.add(fabricate("mano", tmp_path, side="left", seed=5), correspond=correspond)
    assert own == "mano-left"
    data = store.load(own)
    assert not np.allclose(data.posedirs, mirror.posedirs, atol=1e-4)
    scan, vertices, joints = scan_and_truth(data, mirrored(moderate(store.load(right), 2)))
    result = register_hand(scan, model="mano")
    assert_recovered(result, vertices, joints)
    # Its parameters pose the file's own hand.
    p = {key: torch.from_numpy(np.asarray(value)).float() for key, value in result.params.items()}
    params = BodyParams(p["betas"], torch.cat([p["global_orient"], p["hand_pose"]]).view(-1, 3), p["transl"])
    again = posed(BodyModel(data), params) @ result.T_scan_model[:3, :3].T + result.T_scan_model[:3, 3]
    np.testing.assert_allclose(again, result.vertices, atol=1e-5)
    assert (result.faces == data.faces).all()


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.whole
def test_smpls_own_topology_on_a_real_scan(tmp_path: Path) -> None:
    """A registration of FAUST as the template of a model, another person's scan found with it."""
    from scripts.bench_transfer import add_template

    faust = real_path("bodies/faust")
    name = add_template(faust / "registration" / "000.ply", tmp_path)
    places = store.correspondence(name)
    assert places.residual_mm[~places.blind].mean() < 2.5
    result = register(faust / "scan" / "011.ply", model=f"{name}+d", unit="m", settings={"quality": "fast"})
    truth, faces = read_mesh(faust / "registration" / "011.ply")
    assert corresponding_vertex(result.vertices, truth, faces) < 32


def test_a_free_body_needs_no_correspondence() -> None:
    from lvdreg.body.chosen import source_of

    assert source_of("anny+d") == "anny"
    assert load_body(source_of("anny-hand")).data.is_hand
