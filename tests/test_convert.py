"""Models of meshes without a rig, and results carried over from one model to another."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run as lvdreg
from conftest import make_toy_body
from test_export import write_result

from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import IntArray
from lvdreg.body import store
from lvdreg.body.catalogue import load_body
from lvdreg.body.licensed import LicensedModel
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.body.rigless import MeshTemplate, rigged_like
from lvdreg.body.transfer import Correspondence
from lvdreg.pipeline.convert import convert
from lvdreg.pipeline.template import _layout
from lvdreg.result.ply import write_ply
from lvdreg.result.read import read_result
from lvdreg.scan.model import read_scan


def drawn(body: BodyModel, seed: int, spread: float = 0.3) -> BodyParams:
    rng = np.random.default_rng(seed)
    betas, pose = rng.normal(0, 0.5, body.num_betas), rng.normal(0, spread, (body.num_joints, 3))
    return BodyParams(*(torch.from_numpy(np.float32(x)) for x in (betas, pose, np.array([0.2, 0.1, -0.3]))))


def shuffled(body: BodyModel, params: BodyParams, name: str) -> tuple[MeshTemplate, IntArray]:
    """The posed body as a mesh whose vertices come in another order, and which of the body's each is."""
    order = np.random.default_rng(3).permutation(body.num_vertices)
    place = np.argsort(order)
    return MeshTemplate(name, body(params).vertices.double().numpy()[order], place[body.data.faces]), order


def test_a_mesh_gets_the_rig_of_what_was_registered_to_it() -> None:
    """The oracle is the body itself: the same vertices in another order, posed and shaped anew."""
    body = BodyModel(make_toy_body())
    mesh, order = shuffled(body, drawn(body, 0), "mine")
    data, found = rigged_like(mesh, body, drawn(body, 0))
    anew = drawn(body, 1)
    np.testing.assert_allclose(BodyModel(data)(anew).vertices, body(anew).vertices[order], atol=2e-5)
    np.testing.assert_array_equal(data.faces, mesh.faces)
    carried = found.carry(body(anew).vertices.double().numpy(), body.data.faces)
    np.testing.assert_allclose(carried, body(anew).vertices[order], atol=1e-4)
    assert not found.blind.any()


def test_details_of_the_mesh_beyond_the_free_model_are_its_own() -> None:
    body = BodyModel(make_toy_body())
    params = drawn(body, 0)
    mesh, _ = shuffled(body, params, "mine")
    bump = np.random.default_rng(0).normal(0, 0.002, mesh.v_template.shape)
    data, _ = rigged_like(replace(mesh, v_template=mesh.v_template + bump), body, params)
    np.testing.assert_allclose(BodyModel(data)(params).vertices, mesh.v_template + bump, atol=2e-5)


def test_the_layout_of_a_mesh_is_kept_where_both_readers_agree(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd a.png\n", encoding="ascii")
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nvt .5 .5\n"
    text = f"mtllib a.mtl\n{square}usemtl m\nf 1/1 2/2 3/3\nf 1/5 3/3 4/4\n"
    (tmp_path / "a.obj").write_text(text, encoding="ascii")
    vt, ft = _layout(tmp_path / "a.obj", read_scan(tmp_path / "a.obj"))
    assert vt is not None and ft is not None
    np.testing.assert_allclose(vt[ft][0], [[0, 0], [1, 0], [1, 1]])
    np.testing.assert_allclose(vt[ft][1], [[0.5, 0.5], [1, 1], [0, 1]])


def add_shuffled(folder: Path, monkeypatch: pytest.MonkeyPatch, file: str = "My mesh_1.ply") -> tuple[str, IntArray]:
    """Add the free body as a mesh of another order; nothing is registered."""
    monkeypatch.setenv("LVDREG_MODELS", str(folder / "models"))
    body = load_body("anny")
    params = BodyParams.zeros(body)
    order: list[IntArray] = []

    def rig(path: Path, name: str) -> tuple[LicensedModel, Correspondence]:
        mesh, own = shuffled(body, params, name)
        order.append(own)
        data, found = rigged_like(mesh, body, params)
        return LicensedModel("mesh", None, data), found

    def never(model: LicensedModel) -> Correspondence:
        raise AssertionError("a mesh is registered by what rigs it")

    write_ply(folder / file, body.data.v_template.astype(float), body.data.faces)
    return store.add(folder / file, correspond=never, rig=rig), order[0]


@pytest.mark.slow
def test_results_go_to_another_model_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, order = add_shuffled(tmp_path, monkeypatch)
    assert name == "My-mesh-1" and store.entry(name).kind == "mesh" and store.is_current(name)
    write_result(tmp_path / "out" / "person")
    first = read_result(tmp_path / "out" / "person")
    done = lvdreg("convert", tmp_path / "out" / "person", "--to", name)
    assert done.exit_code == 0, done.stderr
    there = read_result(tmp_path / "out" / f"person-{name}")
    # Displacements of a few millimetres at each vertex by itself are rough: places on such a surface are a little off.
    np.testing.assert_allclose(there.surface, first.surface[order], atol=0.002)
    assert there.report["model"] == f"{name}+d" and there.report["converted_from"]["model"] is None
    posed = (one.body(replace(one.params, displacements=None)) for one in (first, there))
    np.testing.assert_allclose(*(each.joints for each in posed), atol=0.004)
    back = convert(there, "anny")
    np.testing.assert_allclose(back.vertices, first.surface, atol=0.003)
    np.testing.assert_allclose(back.body(back.params).vertices, back.vertices, atol=1e-6)


def test_hands_are_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "models"))
    write_result(tmp_path / "hand", "anny-hand", "left")
    with pytest.raises(UsageError, match="hands are not converted"):
        convert(read_result(tmp_path / "hand"), "anny")
    done = lvdreg("convert", tmp_path / "hand", "--to", "nobody")
    assert done.exit_code == 2 and "--to: expected one of" in done.stderr
    done = lvdreg("convert", tmp_path / "hand", "--to", "anny+d")
    assert done.exit_code == 2 and "--to: expected a model without +d" in done.stderr
    done = lvdreg("convert", tmp_path / "hand", "--to", "anny")
    assert done.exit_code == 1 and "hands are not converted" in done.stderr


def test_meshes_of_reserved_names_need_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="kept for a licensed model"):
        add_shuffled(tmp_path, monkeypatch, "smplx.ply")
    with pytest.raises(UsageError, match="a free model of lvdreg"):
        add_shuffled(tmp_path, monkeypatch, "anny.ply")
    assert store.names() == ()
    name, _ = add_shuffled(tmp_path, monkeypatch, "mesh.ply")
    note = json.loads((tmp_path / "models" / name / "model.json").read_text(encoding="utf-8"))
    assert (note["kind"], note["side"], note["source"]) == ("mesh", None, "mesh.ply")
    assert not store.entry(name).is_hand


def test_a_registered_result_is_never_replaced_by_a_converted_one(tmp_path: Path) -> None:
    source, other = tmp_path / "out" / "person", tmp_path / "two" / "person"
    write_result(source)
    write_result(other)
    before = {path: path.read_bytes() for folder in (source, other) for path in folder.iterdir()}
    for out in (source.parent, other.parent):
        done = lvdreg("convert", source, "--to", "anny", "--out", out)
        assert done.exit_code == 1 and "expected a folder without a result, got one with another" in done.stderr
    assert {path: path.read_bytes() for folder in (source, other) for path in folder.iterdir()} == before
    for _ in range(2):
        assert lvdreg("convert", source, "--to", "anny", "--out", tmp_path / "new").exit_code == 0
    there = tmp_path / "new" / "person"
    again = lvdreg("convert", there, "--to", "anny", "--out", tmp_path / "new")
    assert again.exit_code == 1 and "give another --out" in again.stderr
