"""Benchmarks on data that users bring, in the layouts in which it is downloaded: tiny, of the toy figure."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from numpy.typing import NDArray

from lvdreg.base.errors import OutputError, RegistrationError, ScanError
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.evaluate import challenge, clothed, clothed_people, faust, shrec19
from lvdreg.evaluate.methods import spread

Arrays = dict[str, NDArray[Any]]
WORDS = {"verdict": np.array("good"), "reason": np.array("fine"), "metres": np.array(1.0)}


@pytest.fixture(autouse=True)
def code_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes meanwhile: hashing the code and the weights takes its time."""
    for module in (challenge, clothed, shrec19):
        monkeypatch.setattr(module, "run_key", lambda model, settings: "key")


def figure(body: BodyModel, bend: float) -> NDArray[np.float64]:
    """The toy figure with bent elbows."""
    pose = torch.zeros(1, 6, 3)
    pose[:, 4:, 2] = bend
    with torch.no_grad():
        return body(BodyParams(torch.zeros(1, 4), pose, torch.zeros(1, 3))).vertices[0].double().numpy()


def write(path: Path, vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.Trimesh(vertices, faces, process=False).export(path)


def as_found(body: BodyModel, bends: dict[str, float], shift: float = 0.0) -> Callable[..., Arrays]:
    """A registration that knows the pose of every file by its name, and lies beside it by ``shift`` metres."""

    def registered(path: Path, model: str, settings: dict[str, Any]) -> Arrays:
        if path.stem not in bends:
            raise RegistrationError("nobody there")
        return {"vertices": figure(body, bends[path.stem]) + [0, 0, shift], "faces": body.data.faces, **WORDS}

    return registered


def test_the_challenge_gets_a_place_for_every_vertex(
    tmp_path: Path, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bends = {"test_scan_006": 0.2, "test_scan_021": 0.6}
    for name, bend in bends.items():
        write(tmp_path / "scans" / f"{name}.ply", figure(toy_body, bend), toy_body.data.faces)
    pairs = tmp_path / "inter_challenge.txt"
    pairs.write_text("006_021\r\n021_006\n")
    monkeypatch.setattr(challenge, "registered", as_found(toy_body, bends))
    table = challenge.evaluate_challenge(tmp_path, pairs, out=tmp_path / "out")
    assert [row.summary.count for row in table.rows] == [2, 2]
    for _ in range(2):  # A second run replaces the zip of the first.
        with zipfile.ZipFile(tmp_path / "out" / "inter_challenge.zip") as upload:
            assert upload.namelist() == ["006_021.txt", "021_006.txt"]
            places = np.array([line.split() for line in upload.read("006_021.txt").decode().splitlines()], float)
        np.testing.assert_allclose(places, figure(toy_body, 0.6), atol=2e-6)
        challenge.evaluate_challenge(tmp_path, pairs, out=tmp_path / "out")
    monkeypatch.setattr(challenge, "registered", as_found(toy_body, {"test_scan_006": 0.2}))
    with pytest.raises(RegistrationError, match="nobody there; the challenge takes all"):
        challenge.evaluate_challenge(tmp_path, pairs, out=tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "out" / "inter_challenge.zip", "w") as others:
        others.writestr("my novel.txt", "Once")
    with pytest.raises(OutputError, match="is not lvdreg's"):
        challenge.evaluate_challenge(tmp_path, pairs, out=tmp_path / "out")
    for text, complaint in (("006-021", "such as 006_021"), ("", "such as 006_021"), ("006_007", "test_scan_007")):
        pairs.write_text(text)
        with pytest.raises(ScanError, match=complaint):
            challenge.evaluate_challenge(tmp_path, pairs, out=tmp_path / "out")


def test_faust_is_read_as_it_is_downloaded(tmp_path: Path) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=1)
    for number in ("000", "011"):
        write(tmp_path / "scans" / f"tr_scan_{number}.ply", sphere.vertices, sphere.faces)
        write(tmp_path / "registrations" / f"tr_reg_{number}.ply", sphere.vertices, sphere.faces)
    found = faust.faust_scans(tmp_path)
    assert [(scan.name, true.name) for scan, true in found] == [
        ("tr_scan_000.ply", "tr_reg_000.ply"),
        ("tr_scan_011.ply", "tr_reg_011.ply"),
    ]
    assert [faust.number_of(scan) for scan, _ in found] == [0, 11]
    assert [faust.number_of(Path(name)) for name in ("scan/010.ply", "notes.ply")] == [10, -1]


@pytest.fixture
def shrec(tmp_path: Path, toy_body: BodyModel) -> Path:
    """Three meshes, the second with its vertices the other way round; matches counted from 1 and from 0."""
    num = toy_body.num_vertices
    write(tmp_path / "obj" / "1.obj", figure(toy_body, 0.1), toy_body.data.faces)
    write(tmp_path / "obj" / "2.obj", figure(toy_body, 0.5)[::-1], num - 1 - toy_body.data.faces)
    write(tmp_path / "obj" / "10.obj", figure(toy_body, 0.9), toy_body.data.faces)
    (tmp_path / "FARMgt_txt").mkdir()
    backwards, forwards = np.arange(num)[::-1], np.arange(num)
    for name, matches in {"1_2": backwards + 1, "2_1": backwards, "1_10": forwards + 1}.items():
        np.savetxt(tmp_path / "FARMgt_txt" / f"{name}.txt", matches, fmt="%d")
    return tmp_path


def test_matches_of_shrec19_are_followed(shrec: Path, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrec19, "_registered", as_found(toy_body, {"1": 0.1, "2": 0.5, "10": 0.9}))
    table = shrec19.evaluate_shrec19(shrec, out=shrec / "out")
    assert table.details["pairs"] == [("1", "2"), ("1", "10"), ("2", "1")]
    assert table.details["meshes"] == ["1", "2", "10"]
    assert np.allclose(table.details["mean_mm"], 0, atol=1e-9)
    assert "100.0% under 50 mm" in table.render()
    (shrec / shrec19.PAIRS).write_text("1,2\n5,6\n")
    assert [(p.first, p.second) for p in shrec19.shrec19_pairs(shrec)] == [("1", "2")]
    # A mesh that is not registered leaves its pairs without figures.
    monkeypatch.setattr(shrec19, "_registered", as_found(toy_body, {"1": 0.1, "10": 0.9}))
    (shrec / shrec19.PAIRS).unlink()
    lost = shrec19.evaluate_shrec19(shrec, out=shrec / "other")
    assert [row.summary.missing for row in lost.rows] == [2, 2]
    with pytest.raises(RegistrationError, match="nobody there"):
        monkeypatch.setattr(shrec19, "_registered", as_found(toy_body, {}))
        shrec19.evaluate_shrec19(shrec, out=shrec / "third")


def test_wrong_matches_are_measured_along_the_surface(
    shrec: Path, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left and right are exchanged: the way through the body is shorter than around it, and no edge leads to an arm."""
    mirror = toy_body.data.mirror_vertices
    assert mirror is not None
    right = as_found(toy_body, {"1": 0.1, "10": 0.9})

    def exchanged(path: Path, *rest: Any) -> Arrays:
        found = right(path, *rest)
        return found if path.stem == "1" else found | {"vertices": found["vertices"][mirror]}

    monkeypatch.setattr(shrec19, "_registered", exchanged)
    np.savetxt(shrec / shrec19.PAIRS, [[1, 10]], fmt="%d", delimiter=",")
    table = shrec19.evaluate_shrec19(shrec, out=shrec / "out")
    there = figure(toy_body, 0.9)
    straight = 1000 * np.linalg.norm(there[mirror] - there, axis=1)
    assert table.details["mean_mm"][0, 0] == pytest.approx(straight.mean(), rel=1e-6)
    edges = shrec19.Shape(there, toy_body.data.faces, shrec19.CachedResult({}, 0, "", "")).edges
    trunk = np.arange(82)
    along = 1000 * shrec19.along_edges(edges, trunk, mirror[trunk])
    assert (along >= straight[trunk] - 1e-6).all() and along.max() > 1.2 * straight[trunk].max()
    assert np.isinf(shrec19.along_edges(edges, np.array([82]), mirror[[82]])).all()
    expected = (along.sum() + straight[82:].sum()) / len(straight)
    assert table.details["mean_mm"][0, 1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "complaint"), [("1 2", "expected 246 numbers of 246"), ("x", "a vertex's number"), ("-1 " * 246, "other")]
)
def test_matches_of_other_meshes_are_refused(shrec: Path, text: str, complaint: str) -> None:
    (shrec / "FARMgt_txt" / "1_2.txt").write_text(text)
    with pytest.raises(ScanError, match=complaint):
        shrec19.read_matches(shrec / "FARMgt_txt" / "1_2.txt", 246, 246)
    with pytest.raises(ScanError, match="FARMgt_txt or corres"):
        shrec19.shrec19_pairs(shrec / "obj")
    (shrec / "obj" / "2.obj").unlink()
    with pytest.raises(ScanError, match=r"2\.obj"):
        shrec19.evaluate_shrec19(shrec, out=shrec / "out")


@pytest.fixture
def dress(tmp_path: Path, toy_body: BodyModel) -> Path:
    """Two scans of 4D-Dress, the first in SMPL-X, the second in SMPL."""
    for outfit, kind, bend in (("Inner", "SMPLX", 0.1), ("Outer", "SMPL", 0.5)):
        take = tmp_path / "00122" / outfit / "Take5"
        vertices, faces = figure(toy_body, bend), toy_body.data.faces
        write(take / kind / f"mesh-f00011_{kind.lower()}.ply", vertices, faces)
        (take / "Meshes_pkl").mkdir()
        scan = {
            "vertices": np.float32(1.1 * vertices),
            "faces": faces,
            "colors": np.zeros((len(vertices), 4), np.uint8),
        }
        (take / "Meshes_pkl" / "mesh-f00011.pkl").write_bytes(pickle.dumps(scan))
    return tmp_path


def clothed_as(body: BodyModel, lift: float) -> Callable[..., Arrays]:
    """A registration that finds the body of a scan of ``dress``, lifted by so many metres."""

    def registered(scan: clothed_people.Mesh, name: str, model: str, settings: dict[str, Any]) -> Arrays:
        if lift and "Outer" in name:
            raise RegistrationError("nobody there")
        vertices = scan.vertices / 1.1 + [0, lift, 0]
        sigma = np.full(len(vertices), 5.0)
        return {"body_vertices": vertices, "faces": body.data.faces, "refined_sigma_mm": sigma, **WORDS}

    return registered


def test_bodies_under_clothes_are_held_against_the_true_ones(
    dress: Path, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clothed, "load_body", lambda name: toy_body)
    monkeypatch.setattr(clothed, "_registered", clothed_as(toy_body, 0.0))
    table = clothed.evaluate_clothed(dress, out=dress / "out")
    assert table.details["scans"] == ["00122_Inner_Take5_mesh-f00011", "00122_Outer_Take5_mesh-f00011"]
    assert [row.metric for row in table.rows][3:] == ["body_to_body, Inner", "body_to_body, Outer"]
    assert np.abs(table.details["both_ways_mm"]).max() < 1e-3
    assert "100% of the body's vertices are within one sigma" in table.render()
    monkeypatch.setattr(clothed, "_registered", clothed_as(toy_body, 0.02))
    lifted = clothed.evaluate_clothed(dress, out=dress / "other")
    assert lifted.rows[0].summary.missing == 1
    assert 5 < lifted.rows[0].summary.mean_mm < 20
    # The trunk stands upright: sliding along itself brings it off its surface at its ends alone; arms lie.
    cells = dict(zip(lifted.shown()[1].head, lifted.shown()[1].rows[0], strict=True))
    assert float(cells["arms"].split()[0]) > 2 * float(cells["trunk"].split()[0])


def test_scans_without_bodies_are_refused(dress: Path) -> None:
    scan, other = sorted(dress.rglob("mesh-f*.pkl"))
    scan.write_bytes(pickle.dumps({"vertices": np.zeros((3, 2))}))
    with pytest.raises(ScanError, match="expected vertices and faces"):
        clothed_people.read_4d_dress(scan)
    next(dress.rglob("*_smpl.ply")).unlink()
    with pytest.raises(ScanError, match="expected its naked body"):
        clothed_people.read_4d_dress(other)
    with pytest.raises(ScanError, match="found none"):
        clothed_people.clothed_people(dress / "nothing")


def test_the_body_of_cape_takes_the_pose_of_its_clothes(
    tmp_path: Path, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skinning the clothed figure and, apart from it, the naked one gives what the difference of both gives."""
    rng = np.random.default_rng(0)
    naked = toy_body.data.v_template.astype(np.float64)
    worn = naked + 0.03 * rng.normal(size=naked.shape)
    pose, transl = torch.as_tensor(0.5 * rng.normal(size=(6, 3))), torch.tensor([0.3, 0.2, -1.0], dtype=torch.float64)
    joints = torch.as_tensor(toy_body.data.J_template).double()
    bones = toy_body.bone_transforms(clothed_people.rotvec_to_rotmat(pose), joints, transl).numpy()
    blended = np.einsum("vj,jab->vab", toy_body.data.weights, bones)
    posed = {
        name: np.einsum("vab,vb->va", blended[..., :3], v) + blended[..., 3] for name, v in (("n", naked), ("w", worn))
    }
    sequence = tmp_path / "sequences" / "00032" / "shortlong_hips"
    sequence.mkdir(parents=True)
    (tmp_path / "minimal_body_shape" / "00032").mkdir(parents=True)
    minimal = tmp_path / "minimal_body_shape" / "00032" / "00032_minimal.npy"
    np.save(minimal, naked)
    frame = {"v_cano": worn, "v_posed": posed["w"], "pose": pose.numpy().ravel(), "transl": transl.numpy()}
    np.savez(sequence / "shortlong_hips.000001.npz", **frame)
    monkeypatch.setattr(clothed_people, "load_body", lambda name: toy_body)
    (person,) = clothed_people.clothed_people(tmp_path)
    assert (person.name, person.group) == ("00032_shortlong_hips.000001", "shortlong")
    scan, true = person.load()
    np.testing.assert_array_equal(scan.vertices, posed["w"])
    np.testing.assert_allclose(true.vertices, posed["n"], atol=1e-7)
    minimal.unlink()
    with pytest.raises(ScanError, match="frame of CAPE"):
        person.load()


def test_a_limit_spreads() -> None:
    assert [spread(range(10), n) for n in (1, 2, 4)] == [[0], [0, 9], [0, 3, 6, 9]]
    assert spread(range(10), 12) == spread(range(10), None) == [*range(10)]
