"""The same numbers as smplx, and results that load there; with model files fabricated in the public formats."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lvdreg.base.shapes import FloatArray
from lvdreg.body import store
from lvdreg.body.catalogue import load_body
from lvdreg.body.licensed import read_model
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.body.smplx_names import named_params
from lvdreg.geometry.frames import transform_points
from lvdreg.pipeline.scan import correspond, register, register_hand
from lvdreg.result.files import write_params
from lvdreg.scan.model import scan_from_arrays
from tests.fabricate import fabricate
from tests.fake_registration import fake_registration

smplx = pytest.importorskip("smplx", reason="smplx is not installed: pip install 'lvdreg[smplx]'")

JOINTS = {"smpl": 24, "smplh": 52, "smplx": 55, "mano": 16}
ARGUMENTS = {
    "smpl": {"body_pose": 69},
    "smplh": {"body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45},
    "smplx": {
        "body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45,
        "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3, "expression": 10,
    },
    "mano": {"hand_pose": 45},
}  # fmt: skip
NOT_SMPLX = {"scale", "displacements", "model", "unit", "up", "side", "side_confidence", "T_scan_model"}


@dataclass(frozen=True)
class File:
    """A model file, and what lvdreg and smplx make of it."""

    kind: str
    path: Path
    body: BodyModel
    reference: Any


@pytest.fixture(scope="module", autouse=True)
def fitting_smplx() -> Iterator[None]:
    """Let smplx read fabricated files.

    Of a file with fewer than 300 shape directions it takes ten, unless it is told that these are all: SMPL-H has 16.
    Its extra joints of SMPL-X are vertices that the fabricated model, which is smaller, does not have.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smplx.SMPLH, "SHAPE_SPACE_DIM", 16)
        patch.setattr(smplx.SMPLX, "SHAPE_SPACE_DIM", 300, raising=False)
        ids = smplx.body_models.VERTEX_IDS
        patch.setitem(ids, "smplx", ids["smplh"])
        yield


@pytest.fixture(scope="module", params=["smpl pkl", "smplh pkl", "smplx npz", "mano pkl", "mano npz"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> File:
    kind, form = request.param.split()
    return made(kind, tmp_path_factory.mktemp("models"), form)


def made(kind: str, folder: Path, form: str, num_betas: int | None = None, **options: Any) -> File:
    path = fabricate(kind, folder, form, **options)
    body = BodyModel(read_model(path, num_betas).data)
    return File(kind, path, body, create(path, as_batch(named_params(body, BodyParams.zeros(body)))))


def create(path: Path, arguments: dict[str, Any]) -> Any:
    """Make smplx's model as docs/models.md does."""
    betas = arguments["betas"].shape[1]
    return smplx.create(
        str(path), ext=path.suffix[1:], num_betas=betas, use_pca=False, flat_hand_mean=True, **arguments
    )


def random_params(body: BodyModel, seed: int) -> BodyParams:
    rng = torch.Generator().manual_seed(seed)
    zeros = BodyParams.zeros(body)
    draws = [torch.randn(part.shape, generator=rng) for part in (zeros.betas, zeros.pose, zeros.transl)]
    return BodyParams(draws[0], 0.5 * draws[1], draws[2])


def as_batch(named: dict[str, Any]) -> dict[str, Any]:
    return {name: array[None] for name, array in named.items() if name not in NOT_SMPLX}


def same_as_smplx(file: File, params: BodyParams) -> None:
    """Compare vertices and joints, 1e-5 m."""
    ours, count = file.body(params), JOINTS[file.kind]
    arguments = as_batch(named_params(file.body, params))
    with torch.no_grad():
        theirs = file.reference(**{name: torch.from_numpy(array) for name, array in arguments.items()})
    assert file.body.num_joints == count
    assert np.ptp(ours.vertices.numpy(), axis=0).max() > 0.1
    np.testing.assert_allclose(ours.vertices.numpy(), theirs.vertices[0].numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.joints.numpy(), theirs.joints[0, :count].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_forward_equals_smplx(file: File, seed: int) -> None:
    same_as_smplx(file, random_params(file.body, seed))


def test_all_betas_of_smplx_count(tmp_path: Path) -> None:
    file = made("smplx", tmp_path, "npz", num_betas=300)
    assert file.body.num_betas == 300
    same_as_smplx(file, random_params(file.body, 6))


def test_arguments_have_smplx_names_and_sizes(file: File) -> None:
    named = named_params(file.body, random_params(file.body, 0))
    sizes = {"betas": file.body.num_betas, "global_orient": 3, "transl": 3, **ARGUMENTS[file.kind]}
    assert {name: array.size for name, array in named.items() if name not in NOT_SMPLX} == sizes
    theirs = {name: tuple(parameter.shape) for name, parameter in file.reference.named_parameters()}
    # smplx gives its hand a body_pose that it never uses.
    theirs = {name: shape for name, shape in theirs.items() if (file.kind, name) != ("mano", "body_pose")}
    assert theirs == {name: (1, size) for name, size in sizes.items()}


def test_params_file_loads_into_smplx(file: File, tmp_path: Path) -> None:
    params = random_params(file.body, 3)
    vertices = file.body(params).vertices.double().numpy()
    result = fake_registration(
        vertices=vertices, body_vertices=vertices, faces=file.body.data.faces, T_scan_model=np.eye(4),
        model=file.kind, params=named_params(file.body, params), sigma_mm=np.ones(len(vertices)),
    )  # fmt: skip
    write_params(result, tmp_path / "params.npz", {"T_scan_model": result.T_scan_model})
    with np.load(tmp_path / "params.npz", allow_pickle=False) as saved:
        assert {saved[name].shape[:1] for name in saved.files if name not in NOT_SMPLX} == {(1,)}
    assert np.linalg.norm(posed_by_smplx(file.path, tmp_path) - vertices, axis=1).max() < 1e-4


def posed_by_smplx(path: Path, folder: Path) -> FloatArray:
    """Do with a result what docs/models.md says: everything that was saved goes to smplx."""
    with np.load(folder / "params.npz", allow_pickle=False) as saved, torch.no_grad():
        vertices = create(path, {**saved})().vertices[0].double().numpy()
        return transform_points(saved["T_scan_model"], vertices)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["smpl", "smplh", "smplx", "mano"])
def test_a_registration_is_posed_alike_by_smplx(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the model file through a scan in millimetres, far from the origin, and back."""
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "models"))
    path = fabricate(kind, tmp_path, "npz" if kind == "smplx" else "pkl")
    body = load_body(store.add(path, correspond=correspond))
    params = random_params(body, 7)
    truth = body(replace(params, betas=0.5 * params.betas, pose=0.2 * params.pose))
    offset = np.array([300.0, -200.0, 100.0])
    scan = scan_from_arrays(1000 * truth.vertices.double().numpy() + offset, body.data.faces, name="made")
    find = register_hand if kind == "mano" else register
    result = find(scan, model=f"{kind}+d", unit="mm")
    result.save(tmp_path / "out")
    apart = np.linalg.norm(posed_by_smplx(path, tmp_path / "out") - result.body_vertices, axis=1)
    assert apart.max() < 0.1
    joints = 1000 * truth.joints.double().numpy() + offset
    assert np.median(np.linalg.norm(result.joints - joints, axis=1)) < 8


def test_a_left_hand_with_the_sign_bug_needs_the_usual_remedy_in_smplx(tmp_path: Path) -> None:
    left = made("mano", tmp_path, "pkl", side="left", left_bug=True)
    params = random_params(left.body, 4)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        same_as_smplx(left, params)
    left.reference.shapedirs[:, 0, :] *= -1
    same_as_smplx(left, params)


def test_manopth_arguments_pose_the_same_hand(tmp_path: Path) -> None:
    """manopth: ``th_pose_coeffs`` (1, 48) of root and full finger rotations, ``th_betas`` (1, 10), ``th_trans``.

    It cannot be installed from PyPI; its layer poses a hand as smplx does, about the wrist, translated last.
    """
    hand = made("mano", tmp_path, "pkl")
    named = as_batch(named_params(hand.body, random_params(hand.body, 5)))
    coefficients = np.concatenate([named["global_orient"], named["hand_pose"]], 1)
    assert (coefficients.shape, named["betas"].shape, named["transl"].shape) == ((1, 48), (1, 10), (1, 3))
    pose = torch.from_numpy(coefficients).view(16, 3)
    same_as_smplx(hand, BodyParams(torch.from_numpy(named["betas"][0]), pose, torch.from_numpy(named["transl"][0])))
