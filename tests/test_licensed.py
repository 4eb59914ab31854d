"""Model files in every form read the same, pose as the papers say, and fail in one line that names the field."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lvdreg.base.errors import BodyError
from lvdreg.body.licensed import JOINT_NAMES, LicensedModel, has_wrong_sign, read_model
from lvdreg.body.model import BodyModel, BodyParams
from tests.fabricate import Form, fabricate, fabricate_arrays, write_model

KINDS = ("smpl", "smplh", "smplx", "mano")
Arrays = dict[str, Any]

# smplx's own tables (joint names and parents), written out: what the code derives is held against them.
SMPLX_PARENTS = (
    [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
    + [20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38]
    + [21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53]
)


def thinned(content: Arrays, step: int = 8) -> Arrays:
    """Every eighth vertex of a body, joined by any triangles: what a file's reader sees is the same, and quick."""
    content = dict(content)
    for name in ("v_template", "shapedirs", "posedirs", "weights"):
        content[name] = content[name][::step]
    regressor = content["J_regressor"].toarray()
    # Each vertex that goes leaves its share to the one before it.
    content["J_regressor"] = scipy.sparse.csc_matrix(np.add.reduceat(regressor, range(0, regressor.shape[1], step), 1))
    content["J"] = content["J_regressor"] @ content["v_template"]
    count = len(content["v_template"])
    content["f"] = np.stack([np.arange(count - 2), np.arange(1, count - 1), np.arange(2, count)], 1).astype(np.uint32)
    return content


@pytest.fixture(scope="module")
def arrays() -> Callable[[str], Arrays]:
    """What the files of each kind hold; made once, SMPL-X's with its old ten and ten directions."""
    made: dict[str, Arrays] = {}

    def of(kind: str) -> Arrays:
        if kind not in made:
            whole = fabricate_arrays(kind, num_betas=20 if kind == "smplx" else None)
            made[kind] = whole if kind == "mano" else thinned(whole)
        return dict(made[kind])

    return of


def assert_same(a: LicensedModel, b: LicensedModel) -> None:
    """Same values in everything but where they come from."""
    assert (a.kind, a.side, a.shapes_in_file) == (b.kind, b.side, b.shapes_in_file)
    assert (a.data.joint_names, a.data.name) == (b.data.joint_names, b.data.name)
    for name in ("v_template", "shapedirs", "posedirs", "weights", "faces", "parents"):
        np.testing.assert_array_equal(getattr(a.data, name), getattr(b.data, name), err_msg=name)
    # Products with a sparse and with a dense regressor add up in another order: half a step of float32 to either side
    # for bodies of up to two metres. A vertex that a joint lacks would move it by millimetres.
    for name in ("J_template", "J_shapedirs"):
        np.testing.assert_allclose(getattr(a.data, name), getattr(b.data, name), rtol=0, atol=2.5e-7, err_msg=name)
    for name in ("hand_mean", "hand_components", "expression"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_all_forms_read_the_same(kind: str, arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    content = arrays(kind)
    forms: list[tuple[Form, bool]] = [("pkl", False), ("pkl", True), ("chumpy", False), ("npz", True)]
    read = [read_model(write_model(content, tmp_path / f"{form}{dense}", form, dense)) for form, dense in forms]
    for other in read[1:]:
        assert_same(read[0], other)
    data = read[0].data
    assert data.joint_names == JOINT_NAMES[kind]
    np.testing.assert_allclose(data.v_template, content["v_template"], atol=1e-6)
    np.testing.assert_allclose(data.J_template, content["J"], atol=1e-6)
    assert data.faces.dtype == np.int64
    assert data.is_hand == (kind == "mano")
    assert (data.tpose is None) if kind == "mano" else not np.any(data.tpose)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_reads_the_same(protocol: int, arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(arrays("mano"), protocol))
    assert_same(read_model(path), read_model(write_model(arrays("mano"), tmp_path / "npz", "npz")))


def test_a_sparse_regressor_within_npz(arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    content = arrays("mano")
    dense = read_model(write_model(content, tmp_path / "dense", "npz"))
    np.savez(tmp_path / "sparse.npz", **{**content, "J_regressor": np.array(content["J_regressor"], dtype=object)})
    assert_same(dense, read_model(tmp_path / "sparse.npz"))


def test_the_form_is_told_from_the_content(arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    path = write_model(arrays("mano"), tmp_path / "a", "npz")
    wrong = path.rename(tmp_path / "renamed.pkl")
    assert read_model(wrong).kind == "mano"


def test_the_tree_is_that_of_smplx(arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    data = read_model(write_model(arrays("smplx"), tmp_path / "a", "npz")).data
    assert data.parents.tolist() == SMPLX_PARENTS
    assert data.joint_names[22:27] == ("jaw", "left_eye_smplhf", "right_eye_smplhf", "left_index1", "left_index2")


@pytest.mark.parametrize(
    "root", [np.array(-1, np.int64), np.array(2**32 - 1, np.int64), np.array(2**64 - 1, np.uint64)]
)
def test_every_root_in_circulation(root: NDArray[Any], arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    content = arrays("mano")
    table = content["kintree_table"].astype(root.dtype)
    table[0, 0] = root
    path = write_model({**content, "kintree_table": table}, tmp_path / "a", "npz")
    assert read_model(path).data.parents.tolist() == [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]


# --- numbers of shape directions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "there", "asked", "kept", "shapes", "expressions"),
    [
        ("mano", 10, None, 10, 10, None),
        ("mano", 10, 4, 4, 10, None),
        ("smpl", 10, None, 10, 10, None),
        ("smpl", 300, None, 10, 300, None),
        ("smpl", 300, 60, 60, 300, None),
        ("smplh", 16, None, 16, 16, None),
        ("smplx", 400, None, 10, 300, 100),
        ("smplx", 400, 300, 300, 300, 100),
        ("smplx", 20, None, 10, 10, 10),
        ("smplx", 10, None, 10, 10, None),
        ("smplx", 16, None, 10, 10, 6),
    ],
)
def test_numbers_of_directions(
    kind: str, there: int, asked: int | None, kept: int, shapes: int, expressions: int | None,
    arrays: Callable[[str], Arrays], tmp_path: Path,
) -> None:  # fmt: skip
    content = arrays(kind)
    rng = np.random.default_rng(there)
    content["shapedirs"] = rng.normal(size=(len(content["v_template"]), 3, there)).astype(np.float32)
    model = read_model(write_model(content, tmp_path / "a", "npz"), asked)
    assert (model.data.shapedirs.shape[-1], model.shapes_in_file) == (kept, shapes)
    np.testing.assert_array_equal(model.data.shapedirs, content["shapedirs"][..., :kept])
    if expressions is None:
        assert model.expression is None
    else:
        assert model.expression is not None
        np.testing.assert_array_equal(model.expression, content["shapedirs"][..., shapes : shapes + expressions])


@pytest.mark.parametrize("asked", [0, 11])
def test_more_betas_than_there_are(asked: int, arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    path = write_model(arrays("mano"), tmp_path / "a", "npz")
    with pytest.raises(BodyError, match=rf"expected 1 to 10 betas, as the file has them, got {asked}"):
        read_model(path, asked)


# --- hands ------------------------------------------------------------------------------------------------------------


def test_hand_poses(arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    content = arrays("mano")
    hand = read_model(write_model(content, tmp_path / "a", "chumpy"))
    assert hand.hand_mean is not None and hand.hand_components is not None
    np.testing.assert_allclose(hand.hand_mean, content["hands_mean"][None], atol=1e-6)
    np.testing.assert_allclose(hand.hand_components, content["hands_components"][None], atol=1e-6)
    content = arrays("smplh")
    body = read_model(write_model(content, tmp_path / "b", "npz"))
    assert body.hand_mean is not None and body.hand_components is not None
    np.testing.assert_allclose(body.hand_mean, [content["hands_meanl"], content["hands_meanr"]], atol=1e-6)
    assert body.hand_components.shape == (2, 45, 45)
    for name in [name for name in content if name.startswith("hands_")]:
        del content[name]
    bare = read_model(write_model(content, tmp_path / "c", "npz"))
    assert bare.hand_mean is None and bare.hand_components is None
    np.testing.assert_array_equal(bare.data.posedirs, body.data.posedirs)


@pytest.mark.parametrize("bug", [True, False])
def test_the_left_hand(bug: bool, tmp_path: Path) -> None:
    right = read_model(fabricate("mano", tmp_path))
    left = read_model(fabricate("mano", tmp_path, side="left", left_bug=bug))
    assert (left.kind, left.side, left.data.name) == ("mano", "left", "mano-left")
    assert (right.side, right.data.name, right.mended_shapes) == ("right", "mano", False)
    assert left.mended_shapes == bug
    assert ("changed" in left.data.provenance) == bug
    # The left hand is the mirror image of the right one, whatever its betas.
    polar = np.array([-1, 1, 1], np.float32)
    np.testing.assert_allclose(left.data.shapedirs, right.data.shapedirs * polar[:, None], atol=1e-7)
    np.testing.assert_allclose(left.data.J_shapedirs, right.data.J_shapedirs * polar[:, None], atol=1e-6)
    np.testing.assert_allclose(left.data.v_template, right.data.v_template * polar, atol=1e-7)


def test_the_sign_can_be_left_alone(tmp_path: Path) -> None:
    path = fabricate("mano", tmp_path, side="left", left_bug=True)
    raw = read_model(path, mend_left=False)
    assert not raw.mended_shapes
    np.testing.assert_array_equal(raw.data.shapedirs[:, 0], -read_model(path).data.shapedirs[:, 0])
    assert read_model(fabricate("mano", tmp_path), mend_left=True).mended_shapes is False, "a right hand has no bug"


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_sign_is_found_in_other_frames_and_with_noise(count: int) -> None:
    content = fabricate_arrays("mano", num_betas=count)
    rng = np.random.default_rng(3)
    noise = rng.normal(scale=5e-4, size=content["shapedirs"].shape)
    turned = np.array([-1.0, 1, 1])[:, None]
    for moved in (0.0, 3.0):
        template, directions = content["v_template"] + moved, content["shapedirs"] + noise
        assert not has_wrong_sign(template, directions)
        assert has_wrong_sign(template, directions * turned)


# --- the forward pass -------------------------------------------------------------------------------------------------


def oracle(
    content: Arrays, betas: NDArray[Any], pose: NDArray[Any], transl: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """SMPL Eqs. 2 to 10 one joint and one vertex at a time, from the arrays of the file; float64."""
    shaped = content["v_template"] + content["shapedirs"][..., : len(betas)] @ betas
    regressor = content["J_regressor"]
    joints = (regressor.toarray() if scipy.sparse.issparse(regressor) else regressor) @ shaped
    rotations = [Rotation.from_rotvec(vector).as_matrix() for vector in pose]
    feature = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in rotations[1:]])
    posed = shaped + content["posedirs"] @ feature
    parents = content["kintree_table"][0].astype(int)
    chain: list[NDArray[Any]] = []
    for j, rotation in enumerate(rotations):
        step = np.eye(4)
        step[:3, :3] = rotation
        step[:3, 3] = joints[j] if j == 0 else joints[j] - joints[parents[j]]
        chain.append(step if j == 0 else chain[parents[j]] @ step)
    moves = []
    for j, whole in enumerate(chain):
        back = np.eye(4)
        back[:3, 3] = -joints[j]
        moves.append(whole @ back)
    stack = np.array(moves)
    vertices = np.empty_like(posed)
    for v, (weights, point) in enumerate(zip(content["weights"], posed, strict=True)):
        blended = np.einsum("j,jkl->kl", weights, stack)
        vertices[v] = blended[:3, :3] @ point + blended[:3, 3] + transl
    return vertices, np.array([whole[:3, 3] for whole in chain]) + transl


@pytest.mark.parametrize("kind", KINDS)
def test_forward_equals_the_equations(kind: str, arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    content = arrays(kind)
    # Pose blend shapes that matter: centimetres.
    content["posedirs"] = content["posedirs"] * 5
    model = read_model(write_model(content, tmp_path / "a", "npz"))
    body = BodyModel(model.data).double()
    rng = np.random.default_rng(7)
    betas = rng.normal(size=body.num_betas)
    pose = rng.normal(scale=0.5, size=(body.num_joints, 3))
    transl = rng.normal(size=3)
    vertices, joints = oracle(content, betas, pose, transl)
    posed = body(BodyParams(*(torch.from_numpy(array) for array in (betas, pose, transl))))
    assert np.abs(posed.vertices.numpy() - vertices).max() < 1e-6
    assert np.abs(posed.joints.numpy() - joints).max() < 1e-6
    still = oracle({**content, "posedirs": 0 * content["posedirs"]}, betas, pose, transl)[0]
    assert np.abs(still - vertices).max() > 3e-3, "pose blend shapes are part of what is compared"


# --- what is wrong with a file ----------------------------------------------------------------------------------------


def without(content: Arrays, name: str) -> Arrays:
    return {key: value for key, value in content.items() if key != name}


def with_value(content: Arrays, name: str, place: tuple[int, ...], value: float) -> Arrays:
    array = np.array(content[name])
    array[place] = value
    return {**content, name: array}


# Each with the line that it gets, after the path.
BROKEN: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "missing field": (
        lambda a: without(a, "posedirs"),
        "expected a field posedirs, found J_regressor, f, hands_components, hands_mean, kintree_table, shapedirs, "
        "v_template, weights; bring the model's own file, as it is downloaded",
    ),
    "wrong shape": (
        lambda a: {**a, "weights": a["weights"][:-1]},
        "expected weights with shape (1200, 16), got shape (1199, 16); download the file again",
    ),
    "faces out of range": (
        lambda a: with_value(a, "f", (3, 1), 1200),
        "expected f with indices of 1200 vertices, got numbers from 0 to 1200; download the file again",
    ),
    "regressor of wrong width": (
        lambda a: {**a, "J_regressor": a["J_regressor"][:, :-5]},
        "expected J_regressor with shape (16, 1200), got shape (16, 1195); download the file again",
    ),
    "no tree": (
        lambda a: with_value(a, "kintree_table", (0, 2), 7),
        "expected kintree_table with a tree whose parents come before their children, got one that is no tree; "
        "download the file again",
    ),
    "another tree": (
        lambda a: with_value(a, "kintree_table", (0, 4), 3),
        "expected kintree_table with the joints of MANO, got parent 3 of joint 4, not 0; download the file again",
    ),
    "another number of joints": (
        lambda a: {**a, "kintree_table": a["kintree_table"][:, :5]},
        "expected kintree_table with shape (2, J), J one of 16 of MANO, 24 of SMPL, 52 of SMPLH, 55 of SMPLX, got "
        "shape (2, 5); download the file again",
    ),
    "NaN in the template": (
        lambda a: with_value(a, "v_template", (5, 1), np.nan),
        "expected v_template with finite numbers, got 1 that are not; download the file again",
    ),
    "pose directions of other joints": (
        lambda a: {**a, "posedirs": a["posedirs"][..., :-9]},
        "expected posedirs with shape (1200, 3, 135), got shape (1200, 3, 126); download the file again",
    ),
    "flat template": (
        lambda a: {**a, "v_template": a["v_template"].ravel()},
        "expected v_template with shape (V, 3), got shape (3600,); download the file again",
    ),
    "weights that do not add up": (
        lambda a: {**a, "weights": a["weights"] * 0.5},
        "expected weights with rows that sum to one, got sums from 0.5; download the file again",
    ),
    "words for numbers": (
        lambda a: {**a, "shapedirs": "male"},
        "expected shapedirs with plain numbers, got a str; download the file again",
    ),
    "hands of another model": (
        lambda a: without(a, "hands_mean"),
        "expected a field hands_mean, found J_regressor, f, hands_components, kintree_table, posedirs, shapedirs, "
        "v_template, weights; bring the model's own file, as it is downloaded",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_models_are_one_line(name: str, arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    breaks, line = BROKEN[name]
    path = write_model(breaks(arrays("mano")), tmp_path / "model", "pkl")
    with pytest.raises(BodyError) as caught:
        read_model(path)
    assert str(caught.value) == f"{path}: {line}"


def truncated(form: Form, share: float) -> Callable[[Arrays, Path], Path]:
    def write(content: Arrays, stem: Path) -> Path:
        path = write_model(content, stem, form)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        return path

    return write


def object_array(content: Arrays, stem: Path) -> Path:
    ragged = np.empty(2, dtype=object)
    ragged[:] = [[1, 2], [3]]
    return write_model({**content, "v_template": ragged}, stem, "npz")


def of_bytes(raw: bytes) -> Callable[[Arrays, Path], Path]:
    def write(content: Arrays, stem: Path) -> Path:
        stem.write_bytes(raw)
        return stem

    return write


FILES: dict[str, tuple[Callable[[Arrays, Path], Path], str]] = {
    "truncated pickle": (truncated("pkl", 0.6), "expected a pickle of a model, got something else or a truncated one"),
    "truncated old pickle": (truncated("chumpy", 0.6), "expected a pickle of a model, got something else or a trunc"),
    "truncated npz": (truncated("npz", 0.6), "expected a model's pkl or npz, got a damaged zip archive"),
    "object array": (object_array, "expected v_template with plain numbers, got one that is an array of objects"),
    "a mesh": (of_bytes(b"ply\nformat ascii 1.0\n"), "expected a pickle of a model, got something else"),
    "a web page": (
        of_bytes(b"<!DOCTYPE html><html>log in first</html>"),
        "expected a model's pkl or npz, got a web page",
    ),
    "empty": (of_bytes(b""), "expected a pickle of a model, got something else"),
    "another pickle": (of_bytes(pickle.dumps([1.0])), "expected a pickled dictionary of arrays, got a list"),
    "pickled parameters": (of_bytes(pickle.dumps({"betas": 1})), "expected a field kintree_table, found none of a mod"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_models(name: str, arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    write, line = FILES[name]
    path = write(arrays("mano"), tmp_path / "model")
    with pytest.raises(BodyError) as caught:
        read_model(path)
    assert str(caught.value).startswith(f"{path}: {line}")
    assert "\n" not in str(caught.value)


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(BodyError, match="cannot be read"):
        read_model(tmp_path / "none.pkl")
    with pytest.raises(BodyError, match="cannot be read"):
        read_model(tmp_path)


def test_a_field_that_chumpy_would_have_to_compute(arrays: Callable[[str], Arrays], tmp_path: Path) -> None:
    from tests.fabricate import chumpy_classes

    with chumpy_classes() as make:
        product = make("chumpy.ch_ops", "dot")()
        vars(product).update({"a": 1, "b": 2})
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps({**arrays("mano"), "weights": product}))
    with pytest.raises(BodyError, match="expected weights with plain numbers, got one that is chumpy's dot"):
        read_model(path)
