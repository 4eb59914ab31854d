"""Exports: what other programs show is what our own skinning gives, and files go where they belong."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from command_line import fake_stories, scans
from command_line import run as lvdreg
from conftest import make_toy_body
from scipy.spatial.transform import Rotation

from lvdreg.base.errors import OutputError, RegistrationError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.chosen import registered_body
from lvdreg.body.model import BodyData, BodyModel, BodyParams, mirror_image
from lvdreg.body.poses import pose_from_smpl
from lvdreg.body.smplx_names import named_params, params_from_named
from lvdreg.export import run
from lvdreg.export.bones import bone_names
from lvdreg.export.bvh import write_bvh
from lvdreg.export.figure import Layout, Paint, figure_of, named_pose, strongest
from lvdreg.export.meshes import write_obj
from lvdreg.export.rigged import split_at_seams, weight_sets, write_rigged_glb
from lvdreg.export.run import Wanted, export_result
from lvdreg.result.files import RESULT, owned_names, read_report, write_json
from lvdreg.result.ply import write_ply
from lvdreg.result.read import SavedResult, find_results, read_result
from lvdreg.scan.read import read_raw
from lvdreg.scan.readers.gltf import node_positions

T_SCAN_MODEL = np.array([[0, -1000, 0, 3.0], [1000, 0, 0, 4.0], [0, 0, 1000, 5.0], [0, 0, 0, 1.0]])


def some_params(body: BodyModel, seed: int = 0) -> BodyParams:
    rng = np.random.default_rng(seed)
    betas, pose = rng.normal(0, 0.5, body.num_betas), rng.normal(0, 0.3, (body.num_joints, 3))
    moved = rng.normal(0, 0.003, (body.num_vertices, 3))
    arrays = (betas, pose, np.array([0.3, -0.2, 0.5]), moved)
    return BodyParams(*(torch.from_numpy(np.float32(array)) for array in arrays))


def result_of(data: BodyData, folder: Path = Path("person"), **changes: object) -> SavedResult:
    """A result in memory, with displacements, its model half as large again in the scan."""
    body = BodyModel(data)
    params = some_params(body)
    surface = body(params).vertices.double().numpy()
    report = {"lvdreg": "0", "files": {}}
    fields = (folder, report, body, params, surface, np.eye(4), "person", 9, None, 1.5)
    return replace(SavedResult(*fields), **changes)


def write_result(folder: Path, name: str = "anny", side: str | None = None) -> BodyParams:
    """What ``lvdreg register --model anny+d`` leaves, as far as exports read it."""
    folder.mkdir(parents=True)
    body = registered_body(name, side)
    params = some_params(body)
    surface = body(params).vertices.double().numpy() @ T_SCAN_MODEL[:3, :3].T + T_SCAN_MODEL[:3, 3]
    write_ply(folder / "registered.ply", surface, body.data.faces)
    arrays = {k: np.atleast_2d(v) for k, v in named_params(body, params).items()}
    np.savez(folder / "params.npz", **arrays, T_scan_model=T_SCAN_MODEL, model=np.array(f"{name}+d"))
    files = dict.fromkeys(("params.npz", "registered.ply"), "")
    scan = {"points": 9}
    report = {"lvdreg": "0", "name": folder.name, "scan": scan, "side": side, "metrics": {}, "files": files}
    write_json(folder / "report.json", report)
    return params


def on_floor(vertices: FloatArray, root: FloatArray) -> FloatArray:
    return vertices - np.array([root[0], vertices[:, 1].min(), root[2]])


@pytest.fixture
def curved() -> BodyData:
    """The toy figure with pose blend shapes and a UV layout that cuts every face off."""
    data = make_toy_body()
    rng, faces = np.random.default_rng(1), len(data.faces)
    posedirs = np.float32(rng.normal(0, 0.002, (len(data.v_template), 3, 9 * 5)))
    vt = np.float32(rng.uniform(0, 1, (3 * faces, 2)))
    return replace(data, posedirs=posedirs, vt=vt, ft=np.arange(3 * faces).reshape(-1, 3))


# --- The figure -------------------------------------------------------------------------------------------------------


def test_a_figure_stands_as_our_own_skinning_has_it(curved: BodyData) -> None:
    result = result_of(curved)
    posed = result.body(result.params)
    expected = on_floor(1.5 * posed.vertices.numpy(), 1.5 * posed.joints[0].numpy())
    np.testing.assert_allclose(figure_of(result).posed(), expected, atol=1e-5)


def test_a_left_hand_is_the_mirror_image_that_was_registered(tmp_path: Path) -> None:
    params = write_result(tmp_path / "hand", "anny-hand", "left")
    result = read_result(tmp_path / "hand")
    figure, posed = figure_of(result), BodyModel(mirror_image(load_body("anny-hand").data))(params)
    assert result.side == "left" and figure.bones[:2] == ("left_wrist", "left_index1")
    np.testing.assert_allclose(figure.posed(), posed.vertices.numpy() - posed.joints[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(figure.offsets[0], 0, atol=1e-12)


def test_another_model_than_the_one_registered_is_noticed(curved: BodyData) -> None:
    result = result_of(curved)
    with pytest.raises(RegistrationError, match="pose toy 2 mm off its surface"):
        figure_of(replace(result, surface=result.surface + 0.002))


def test_poses_have_arms_where_they_should_be(anny_data: BodyData) -> None:
    body = load_body("anny")
    t_pose = body(replace(BodyParams.zeros(body), pose=named_pose(anny_data, "t"))).joints.numpy()
    elbow, wrist = (body.joint_names.index(f"left_{name}") for name in ("elbow", "wrist"))
    arm = t_pose[wrist] - t_pose[elbow]
    assert arm[0] > 0.99 * np.linalg.norm(arm)
    assert not named_pose(anny_data, "a").any(), "it rests in its A-pose"
    # The same body, baked in a T-pose as SMPL is: its A-pose is the free body's.
    resting = replace(anny_data, tpose=None, J_template=np.float32(t_pose))
    assert not named_pose(resting, "t").any()
    model = BodyModel(resting)
    a_pose = model(replace(BodyParams.zeros(model), pose=named_pose(resting, "a"))).joints.numpy()
    bones = [(j, int(p)) for j, p in enumerate(anny_data.parents) if p >= 0]
    for found, wanted in ((a_pose[j] - a_pose[p], anny_data.J_template[j] - anny_data.J_template[p]) for j, p in bones):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_strongest_weights() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(9), 50)
    kept = strongest(weights, 4)
    assert ((kept > 0).sum(1) == 4).all() and np.allclose(kept.sum(1), 1)
    for row, own in zip(weights, kept, strict=True):
        best = np.argsort(row)[-4:]
        np.testing.assert_allclose(own[best], row[best] / row[best].sum())


@pytest.mark.parametrize("kind", ["smpl", "mixamo", "vrm"])
def test_every_joint_has_a_name_of_its_own(anny_data: BodyData, kind: str) -> None:
    names = bone_names(anny_data.joint_names, kind)
    assert len(set(names)) == len(names) == 52
    if kind == "mixamo":
        assert all(name.startswith("mixamorig:") for name in names)
        assert {"mixamorig:Hips", "mixamorig:LeftForeArm", "mixamorig:RightHandThumb3"} <= set(names)
    if kind == "vrm":
        required = "hips spine head leftUpperLeg leftLowerLeg leftFoot rightUpperArm rightLowerArm rightHand"
        assert {*required.split(), "leftThumbMetacarpal", "rightLittleIntermediate", "upperChest"} <= set(names)
    hand = bone_names(("wrist", "index1"), kind, "right")
    assert hand == (
        names[anny_data.joint_names.index("right_wrist")],
        names[anny_data.joint_names.index("right_index1")],
    )


# --- Files of other programs ------------------------------------------------------------------------------------------


def test_weights_come_in_sets_that_sum_to_one() -> None:
    weights = strongest(np.random.default_rng(0).dirichlet(np.ones(11), 40) ** 3, 6)
    sets = weight_sets(weights)
    assert len(sets) == 2
    back = np.zeros_like(weights)
    for joints, shares in sets:
        assert (joints[shares == 0] == 0).all()
        np.add.at(back, (np.arange(40)[:, None], joints), shares)
    np.testing.assert_allclose(back, weights, atol=1e-6)
    assert sets[0][1].min() >= sets[1][1].max(1).min() and (sets[0][1].min(1) >= sets[1][1].max(1)).all()
    total = sum(shares.astype(np.float32).astype(np.float64).sum(1) for _, shares in sets)
    np.testing.assert_allclose(total, 1, atol=2e-7)


def test_seams_split_vertices_after_all_others(curved: BodyData) -> None:
    assert curved.vt is not None and curved.ft is not None
    layout = Layout(curved.vt.astype(np.float64), curved.ft)
    split = split_at_seams(curved.faces, layout, len(curved.v_template))
    np.testing.assert_array_equal(split.source[: len(curved.v_template)], np.arange(len(curved.v_template)))
    np.testing.assert_array_equal(split.source[split.faces], curved.faces)
    np.testing.assert_array_equal(split.uv[split.faces], layout.uv[layout.corners])


def test_glb_read_with_its_skeleton_is_the_posed_surface(curved: BodyData, tmp_path: Path) -> None:
    plain = figure_of(result_of(replace(curved, posedirs=None)), morphs=2)
    write_rigged_glb(tmp_path / "a.glb", plain, "test")
    raw = read_raw(tmp_path / "a.glb")
    assert raw.faces is not None
    np.testing.assert_allclose(raw.points[raw.faces], plain.posed()[plain.faces], atol=1e-6)
    places = node_positions((tmp_path / "a.glb").read_bytes())
    found = np.stack([places[name] for name in plain.bones])
    np.testing.assert_allclose(found, plain.bone_transforms()[:, :3, 3], atol=1e-6)


def test_glb_holds_morphs_of_shape_and_of_the_pose(curved: BodyData, tmp_path: Path) -> None:
    figure = figure_of(result_of(curved), morphs=2)
    write_rigged_glb(tmp_path / "a.glb", figure, "test")
    content = (tmp_path / "a.glb").read_bytes()
    (mesh,) = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])["meshes"]
    assert mesh["extras"]["targetNames"] == ["pose_correction", "beta_0", "beta_1"] and mesh["weights"] == [1, 0, 0]
    grown = result_of(curved)
    betas = grown.params.betas + torch.eye(grown.body.num_betas)[1]
    rest = 1.5 * grown.body.rest(betas, grown.params.displacements)[0].numpy()
    np.testing.assert_allclose(figure.rest + figure.morphs[1], rest, atol=1e-6)


def test_colours_are_told_in_linear_light(tmp_path: Path) -> None:
    figure = figure_of(result_of(make_toy_body()))
    colours = np.random.default_rng(0).integers(0, 256, (len(figure.rest), 3)).astype(np.uint8)
    write_rigged_glb(tmp_path / "a.glb", replace(figure, paint=Paint(None, None, colours)), "test")
    linear = read_raw(tmp_path / "a.glb").colors
    assert linear is not None
    np.testing.assert_allclose(linear / 255.0, (colours / 255.0) ** 2.2, atol=0.003)


def test_obj_keeps_the_order_and_the_layout(curved: BodyData, tmp_path: Path) -> None:
    figure = figure_of(result_of(curved, name="a\nv 1 2 3"))
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    paint = Paint(image, np.zeros((8, 8), np.uint8), np.zeros((len(figure.rest), 3), np.uint8))
    files = write_obj(tmp_path / "a.obj", replace(figure, paint=paint), "test")
    assert sorted(path.name for path in files) == ["a.mtl", "a.obj", "a.png"]
    raw = read_raw(tmp_path / "a.obj")
    np.testing.assert_allclose(raw.points, figure.posed(), atol=1e-6)
    np.testing.assert_array_equal(raw.faces, figure.faces)
    mesh = trimesh.load(tmp_path / "a.obj", process=False)
    assert figure.layout is not None
    np.testing.assert_allclose(mesh.visual.uv[mesh.faces], figure.layout.uv[figure.layout.corners], atol=1e-6)
    assert np.asarray(mesh.visual.material.image).shape == (8, 8, 3)


def bvh_joints(lines: Iterator[str]) -> dict[str, FloatArray]:
    """Read a BVH file the slow way: where its joints are."""
    stack: list[str | None] = []
    parents: dict[str, str | None] = {}
    offsets: dict[str, FloatArray] = {}
    name: str | None = None
    for line in lines:
        words = line.split()
        if words[0] in ("ROOT", "JOINT"):
            parents[words[1]], name = (stack[-1] if stack else None), words[1]
        elif words[0] == "End":
            name = None
        elif words[0] == "{":
            stack.append(name)
        elif words[0] == "}":
            stack.pop()
        elif words[0] == "OFFSET" and stack[-1] is not None:
            offsets[stack[-1]] = np.array(words[1:], float)
        elif words[0] == "MOTION":
            break
    assert next(lines).split() == ["Frames:", "1"] and next(lines).startswith("Frame Time:")
    numbers = np.array(next(lines).split(), float)
    worlds: dict[str, FloatArray] = {}
    for (joint, parent), angles in zip(parents.items(), numbers[3:].reshape(-1, 3), strict=True):
        own = np.eye(4)
        own[:3, :3] = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()
        own[:3, 3] = offsets[joint] + (numbers[:3] if parent is None else 0)
        worlds[joint] = own if parent is None else worlds[parent] @ own
    return {joint: world[:3, 3] for joint, world in worlds.items()}


def test_bvh_has_the_joints_where_they_are(anny_data: BodyData, tmp_path: Path) -> None:
    result = result_of(anny_data, body_scale=1.0)
    figure = figure_of(result)
    write_bvh(tmp_path / "a.bvh", [figure], figure_of(result, "t"))
    found = bvh_joints(iter((tmp_path / "a.bvh").read_text(encoding="utf-8").splitlines()))
    places = np.stack([found[name] for name in figure.bones])
    np.testing.assert_allclose(places, figure.bone_transforms()[:, :3, 3], atol=1e-5)


def test_usd_skins_to_the_posed_surface(curved: BodyData, tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="needs usd-core")
    from lvdreg.export.usd import write_usd

    plain = figure_of(result_of(replace(curved, posedirs=None)), morphs=1, bones="mixamo")
    write_usd(tmp_path / "a.usdc", plain, "test")
    from pxr import Usd, UsdGeom, UsdSkel

    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    cache, root = UsdSkel.Cache(), UsdSkel.Root(stage.GetDefaultPrim())
    cache.Populate(root, Usd.PrimDefaultPredicate)
    (bound,) = cache.ComputeSkelBindings(root, Usd.PrimDefaultPredicate)
    (skin,) = bound.GetSkinningTargets()
    points = UsdGeom.Mesh(skin.GetPrim()).GetPointsAttr().Get()
    transforms = cache.GetSkelQuery(bound.GetSkeleton()).ComputeSkinningTransforms(Usd.TimeCode.Default())
    assert skin.ComputeSkinnedPoints(transforms, points)
    np.testing.assert_allclose(np.array(points), plain.posed(), atol=1e-5)


def test_npz_is_in_the_convention_of_smplx(tmp_path: Path) -> None:
    params = write_result(tmp_path / "person")
    (path,) = export_result(tmp_path / "person", Wanted(("npz",))).files
    body = load_body("anny")
    with np.load(path, allow_pickle=False) as saved:
        found = params_from_named(body, dict(saved))
        vertices, faces = saved["vertices"], saved["faces"]
    back = BodyParams(found.betas, pose_from_smpl(found.pose, body.data), found.transl, params.displacements)
    np.testing.assert_allclose(body(back).vertices.numpy(), vertices, atol=1e-4)
    assert abs(vertices[:, 1].min()) < 1e-6 and faces.shape == body.data.faces.shape


# --- Where files go ---------------------------------------------------------------------------------------------------


def test_exports_belong_to_the_result(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "person"
    write_result(folder)
    report = read_report(folder)
    files = export_result(folder, Wanted(("obj", "bvh"))).files
    assert [path.name for path in files] == ["export.obj", "export.bvh"]
    changed = read_report(folder)
    assert changed is not None and changed.pop("exports") == {"export.obj": "obj", "export.bvh": "bvh"}
    assert changed == report
    assert owned_names(folder) == {"params.npz", "registered.ply", "report.json", "export.obj", "export.bvh"}
    assert RESULT.is_wholly_owned(folder), "it is replaced as a whole when the scan is registered again"
    export_result(folder, Wanted(("bvh", "npz")))
    assert set((read_report(folder) or {})["exports"]) == {"export.obj", "export.bvh", "export.npz"}


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    write_result(tmp_path / "person")
    (tmp_path / "person" / "export.bvh").write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        export_result(tmp_path / "person", Wanted(("obj", "bvh")))
    assert (tmp_path / "person" / "export.bvh").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "person").iterdir()) == [
        "export.bvh", "params.npz", "registered.ply", "report.json",
    ]  # fmt: skip
    export_result(tmp_path / "person", Wanted(("bvh",)), tmp_path / "all")
    with pytest.raises(OutputError):
        export_result(tmp_path / "person", Wanted(("bvh",)), tmp_path / "all")
    export_result(tmp_path / "person", Wanted(("bvh",)), tmp_path / "all", force=True)
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["person.bvh"]


def test_nothing_is_left_of_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(tmp_path / "person")

    def full(path: Path, source: object) -> list[Path]:
        path.write_text("half")
        raise OSError("no space left")

    monkeypatch.setitem(run.FORMATS, "npz", (".npz", full))
    with pytest.raises(OSError, match="no space"):
        export_result(tmp_path / "person", Wanted(("bvh", "npz")))
    assert {path.name for path in (tmp_path / "person").iterdir()} == {"params.npz", "registered.ply", "report.json"}


def test_results_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    for name in ("a", "photo/person-1", "photo/person-2"):
        folder = tmp_path / "out" / name
        folder.mkdir(parents=True)
        write_json(folder / "report.json", {"lvdreg": "0", "files": {"params.npz": ""}})
    write_json(tmp_path / "out" / "photo" / "report.json", {"lvdreg": "0", "files": {"person-1": ""}})
    found = find_results([tmp_path / "out", tmp_path / "out" / "a", tmp_path / "none"])
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["out/a", "out/photo/person-1", "out/photo/person-2", "none"]


def test_the_command_exports_what_it_can(tmp_path: Path) -> None:
    write_result(tmp_path / "out" / "person")
    done = lvdreg("export", tmp_path / "out", tmp_path / "none", "--to", "bvh", "--to", "bvh", "--pose", "t")
    assert done.exit_code == 1
    assert done.stdout.strip() == str(tmp_path / "out" / "person" / "export-t.bvh")
    assert "none/report.json: expected what lvdreg register wrote, got no such file" in done.stderr
    assert lvdreg("export", tmp_path / "out", "--to", "fbx").exit_code == 2
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    done = lvdreg("export", tmp_path / "empty", tmp_path / "empty" / "sub", "--to", "bvh")
    for line, what in zip(done.stderr.splitlines(), ("one that holds none", "an empty one"), strict=True):
        assert "expected a result of lvdreg register, hands or image, or a folder of such" in line and line.endswith(
            what
        )


@pytest.mark.parametrize("command", ["export", "convert", "measure"])
def test_help_tells_the_exit_statuses(command: str) -> None:
    assert "Exit status: 0 all" in lvdreg(command, "--help").stdout


def test_registering_exports_what_it_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of a made-up result is not the one it names: that is said, and is a failure, after the table."""
    fake_stories(monkeypatch, tmp_path)
    scans(ann="good", bob="bad")
    done = lvdreg("register", "ann.ply", "bob.ply", "--export", "npz", "--export", "bvh")
    assert done.exit_code == 1 and "1 of 2 registered" in done.stdout
    assert done.stderr.count("out/ann/") == 1 and "expected what lvdreg register wrote" in done.stderr
    seen: list[tuple[str, Wanted]] = []

    def export(folder: Path, wanted: Wanted, out: Path | None, *, force: bool) -> run.Exported:
        seen.append((folder.name, wanted))
        return run.Exported([folder / "export.npz"], "without colours")

    monkeypatch.setattr(run, "export_result", export)
    done = lvdreg("register", "ann.ply", "--export", "npz", "--export", "bvh", "--export", "npz")
    assert done.exit_code == 0 and "out/ann/export.npz" in done.stdout.replace("\n", "")
    assert "note: out/ann: without colours" in done.stderr
    assert seen == [("ann", Wanted(("npz", "bvh")))]
