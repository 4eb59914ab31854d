"""Scans with their colours and their registrations are read, or refused in one clear line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from lvdreg.augment.repose.bound import Bound
from lvdreg.augment.repose.sources import GREY, UvTexture, load_bound
from lvdreg.base.errors import RegistrationError, ScanError
from lvdreg.base.shapes import FloatArray
from lvdreg.body import BodyModel, BodyParams
from lvdreg.body.smplx_names import named_params, params_from_named
from lvdreg.geometry.frames import transform_points
from lvdreg.result.ply import write_ply
from lvdreg.scan.textured import bilinear, read_pictured, to_linear
from lvdreg.synth.subjects import Pixels
from tests.fake_registration import T_SCAN_MODEL
from tests.scans import standing, vertices_of


@pytest.fixture(scope="module")
def params(body: BodyModel) -> BodyParams:
    return standing(body, 3)


@pytest.fixture(scope="module")
def scan(body: BodyModel, params: BodyParams) -> FloatArray:
    """The person, in millimetres, Z up, far off."""
    return transform_points(T_SCAN_MODEL, vertices_of(body, params))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, body: BodyModel, params: BodyParams, scan: FloatArray) -> Path:
    """What lvdreg register would leave."""
    folder = tmp_path_factory.mktemp("result")
    write_result(folder, body, params, scan)
    return folder


def write_result(folder: Path, body: BodyModel, params: BodyParams, scan: FloatArray, **report: Any) -> None:
    folder.mkdir(exist_ok=True)
    write_ply(folder / "registered.ply", scan, body.data.faces)
    named = {name: np.atleast_2d(value) for name, value in named_params(body, params).items()}
    np.savez(folder / "params.npz", model=np.array("anny+d"), T_scan_model=T_SCAN_MODEL, **named)
    about = {"name": "person", "verdict": "good", "reason": "fine", "side": None, "scan": {"points": len(scan)}}
    (folder / "report.json").write_text(json.dumps(about | report), encoding="utf-8")


def where(body: BodyModel) -> FloatArray:
    """A colour for each vertex: where it lies on the mean person, 0 to 1."""
    v = body.data.v_template.astype(np.float64)
    return (v - v.min(0)) / np.ptp(v, axis=0)


def seen_at(bound: Bound, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices of the bound scan next to points, and their colours in sRGB."""
    vertices = bound.pose(bound.params).outer.vertices[0, : len(bound.scan.base)]
    near = torch.cdist(points, vertices, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    face = torch.stack([(bound.faces == v).any(1).nonzero()[0, 0] for v in near])
    corners = bound.faces[face]
    bary = (corners == near[:, None]).float()
    linear = bound.texture(Pixels(torch.zeros_like(near), corners, bary)).albedo
    return vertices[near], torch.where(linear < 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


Writer = Callable[[Path, FloatArray, BodyModel], Path]


def picture_of(body: BodyModel) -> tuple[Image.Image, FloatArray]:
    """A picture with red rising to the right and green rising upwards, and uv that give (x, y) on the mean person."""
    ramp = np.linspace(0, 255, 256).round().astype(np.uint8)
    red, green = np.meshgrid(ramp, ramp[::-1])
    return Image.fromarray(np.stack([red, green, np.full_like(red, 128)], 2)), where(body)[:, :2]


def write_coloured_ply(folder: Path, scan: FloatArray, body: BodyModel) -> Path:
    colours = (255 * np.concatenate([where(body)[:, :2], np.full((len(scan), 1), 0.5)], 1)).round().astype(np.uint8)
    write_ply(folder / "scan.ply", scan, body.data.faces, colours=colours)
    return folder / "scan.ply"


def write_obj(folder: Path, scan: FloatArray, body: BodyModel) -> Path:
    image, uv = picture_of(body)
    image.save(folder / "skin.png")
    (folder / "scan.mtl").write_text("newmtl skin\nKd 1 1 1\nmap_Kd skin.png\n", encoding="utf-8")
    lines = ["mtllib scan.mtl", *(f"v {x!r} {y!r} {z!r}" for x, y, z in scan.tolist())]
    # Every second face lies in the next repetition of the picture: edges between them are seams.
    flat = 0.998 * uv[body.data.faces.ravel()] + 0.001 + (np.arange(body.data.faces.size) // 3 % 2)[:, None]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in flat.tolist()] + ["usemtl skin"]
    for k, (a, b, c) in enumerate((body.data.faces + 1).tolist()):
        lines.append(f"f {a}/{3 * k + 1} {b}/{3 * k + 2} {c}/{3 * k + 3}")
    (folder / "scan.obj").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "scan.obj"


def write_glb(folder: Path, scan: FloatArray, body: BodyModel) -> Path:
    image, uv = picture_of(body)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image)
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    mesh = trimesh.Trimesh(scan, body.data.faces, visual=visual, process=False)
    (folder / "scan.glb").write_bytes(mesh.export(file_type="glb"))
    return folder / "scan.glb"


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_coloured_ply, write_obj, write_glb])
def test_colours_are_where_they_belong(
    write: Writer, tmp_path: Path, result: Path, body: BodyModel, params: BodyParams, scan: FloatArray
) -> None:
    bound = load_bound(write(tmp_path, scan, body), result)
    some = torch.arange(0, body.num_vertices, 331)
    points = torch.from_numpy(vertices_of(body, params)[some]).float()
    found, colours = seen_at(bound, points)
    assert (found - points).norm(dim=-1).max() < 1e-3
    wanted = torch.from_numpy(where(body)[some, :2]).float()
    assert (colours[:, :2] - wanted).abs().max() < 0.01
    assert (colours[:, 2] - 0.5).abs().max() < 0.01
    assert isinstance(bound.texture.scan, UvTexture) == (write is not write_coloured_ply)  # type: ignore[attr-defined]


def test_the_parameters_pose_the_scan(tmp_path: Path, result: Path, body: BodyModel, scan: FloatArray) -> None:
    write_ply(tmp_path / "scan.ply", scan, body.data.faces)
    bound = load_bound(tmp_path / "scan.ply", result)
    naked = bound.body(bound.params).vertices[0]
    assert (
        torch.cdist(bound.pose(bound.params).outer.vertices[0, : len(bound.scan.base)][::50], naked).min(1).values.max()
        < 1e-3
    )
    corners = bound.faces[:5]
    pixels = Pixels(torch.zeros(5, dtype=torch.int64), corners, torch.full((5, 3), 1 / 3))
    assert torch.allclose(bound.texture(pixels).albedo, torch.full((5, 3), GREY))


def test_a_floor_is_no_part_of_the_person(tmp_path: Path, result: Path, body: BodyModel, scan: FloatArray) -> None:
    low = scan.min(0) - 5
    x, y = np.meshgrid(np.linspace(-1500, 1500, 40), np.linspace(-1500, 1500, 40))
    floor = np.stack([x.ravel() + scan[:, 0].mean(), y.ravel() + scan[:, 1].mean(), np.full(x.size, low[2])], 1)
    a = (np.arange(39)[:, None] * 40 + np.arange(39)).ravel()
    tiles = np.concatenate([np.stack([a, a + 1, a + 40], 1), np.stack([a + 1, a + 41, a + 40], 1)])
    write_ply(tmp_path / "s.ply", np.concatenate([scan, floor]), np.concatenate([body.data.faces, tiles + len(scan)]))
    bound = load_bound(tmp_path / "s.ply", result)
    assert 0.97 * len(scan) < len(bound.scan.base) <= len(scan)


def test_small_pieces_off_the_person_go(tmp_path: Path, result: Path, body: BodyModel, scan: FloatArray) -> None:
    """Where cleaning keeps them, because they lie near: crumbs of a floor around the feet."""
    foot = scan[scan[:, 2].argmin()]
    square = np.array([[0, 0, 0], [20, 0, 0], [20, 20, 2], [0, 20, 0.0]])
    crumbs = np.concatenate([foot + square + [60 * k, -90, -5] for k in range(-3, 4)])
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * k + len(scan) for k in range(7)])
    write_ply(tmp_path / "s.ply", np.concatenate([scan, crumbs]), np.concatenate([body.data.faces, faces]))
    assert len(load_bound(tmp_path / "s.ply", result).faces) == len(body.data.faces)


def test_a_cloud_lends_its_colours_to_the_registered_surface(
    tmp_path: Path, result: Path, body: BodyModel, params: BodyParams, scan: FloatArray
) -> None:
    rng = np.random.default_rng(0)
    # Only the front was seen.
    front = np.flatnonzero(body.data.v_template[:, 2] > 0.0)[::2]
    cloud = scan[front] + rng.normal(size=(len(front), 3))
    colours = np.where(np.arange(3) == 0, 200, 60) * np.ones((len(front), 1))
    lines = [" ".join(map(repr, (*p, *c))) for p, c in zip(cloud.tolist(), colours.astype(int).tolist(), strict=True)]
    (tmp_path / "cloud.xyz").write_text("\n".join(lines) + "\n", encoding="utf-8")
    bound = load_bound(tmp_path / "cloud.xyz", result)
    assert len(bound.scan.base) == body.num_vertices
    _, seen = seen_at(bound, torch.from_numpy(vertices_of(body, params)[::301]).float())
    assert (255 * seen - torch.tensor([200.0, 60.0, 60.0])).abs().max() < 3


def test_parameters_come_back_from_their_names(body: BodyModel, params: BodyParams) -> None:
    back = params_from_named(body, {k: np.atleast_2d(v) for k, v in named_params(body, params).items()})
    assert torch.equal(back.pose, params.pose)
    assert torch.equal(back.betas, params.betas) and torch.equal(back.transl, params.transl)


def test_pictures_are_read_as_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (5, 7, 3), generator=generator).to(torch.uint8)
    uv = torch.rand(50, 2, generator=generator)
    linear = to_linear(image)
    for (u, v), mine in zip(uv.tolist(), bilinear(image, uv), strict=True):
        x, y = min(max(u * 7 - 0.5, 0), 6), min(max((1 - v) * 5 - 0.5, 0), 4)
        c, r = min(int(x), 5), min(int(y), 3)
        a, b = x - c, y - r
        above = (1 - a) * linear[r, c] + a * linear[r, c + 1]
        below = (1 - a) * linear[r + 1, c] + a * linear[r + 1, c + 1]
        assert torch.allclose(mine, (1 - b) * above + b * below, atol=1e-5)
    assert torch.allclose(bilinear(image, uv + torch.tensor([2.0, -1.0])), bilinear(image, uv), atol=1e-4)
    assert torch.allclose(bilinear(image, torch.tensor([[1.0, 1.0]])), linear[:1, 6])


def test_light_is_linear() -> None:
    colours = to_linear(torch.tensor([[0, 255, 188]], dtype=torch.uint8))[0]
    assert colours.tolist() == pytest.approx([0.0, 1.0, 0.5029], abs=1e-3)


def test_meshes_without_pictures_have_none(tmp_path: Path, body: BodyModel, scan: FloatArray) -> None:
    lines = [f"v {x} {y} {z}" for x, y, z in scan.tolist()] + ["vt 0.5 0.5"]
    lines += [f"f {a}/1 {b}/1 {c}/1" for a, b, c in (body.data.faces + 1).tolist()]
    (tmp_path / "plain.obj").write_text("\n".join(lines), encoding="utf-8")
    assert read_pictured(tmp_path / "plain.obj") is None
    (tmp_path / "broken.glb").write_bytes(b"glTF nonsense")
    assert read_pictured(tmp_path / "broken.glb") is None


def test_what_trimesh_lacks_is_no_fault_of_the_file(
    tmp_path: Path, body: BodyModel, scan: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_obj(tmp_path, scan, body)
    assert read_pictured(path) is not None
    # Text that is no UTF-8 is guessed by a package that trimesh does not bring.
    path.write_bytes(b"# \xe9\xff\n" + path.read_bytes())
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    monkeypatch.setitem(sys.modules, "chardet", None)
    with pytest.raises(ScanError, match=r"its pictures need the package \w+, which is not installed; pip install"):
        read_pictured(path)
    monkeypatch.delattr(trimesh, "load_scene")
    with pytest.raises(AttributeError):
        read_pictured(path)


def break_result(folder: Path, what: str, body: BodyModel, params: BodyParams, scan: FloatArray) -> None:
    """Spoil a good result."""
    changes: dict[str, Any] = {"failed": {"verdict": "failed", "reason": "nobody there"}, "hand": {"side": "left"}}.get(
        what, {}
    )
    write_result(folder, body, params, scan + (np.array([0, 0, 400.0]) if what == "other" else 0), **changes)
    for name in ("report.json", "params.npz", "registered.ply"):
        if what == f"no {name}":
            (folder / name).unlink()
        if what == f"damaged {name}":
            (folder / name).write_bytes((folder / name).read_bytes()[:40])
    if what == "few":
        write_ply(folder / "registered.ply", scan[:100], np.array([[0, 1, 2]]))
    if what == "poor":
        np.savez(folder / "params.npz", model=np.array("anny"), T_scan_model=T_SCAN_MODEL, betas=np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("failed", "registration failed (nobody there); leave this scan out"),
        ("hand", "expected a registered person, got a hand"),
        ("other", "it is of another scan"),
        ("few", "got 100 vertices instead of"),
        ("poor", "no parameters of a body"),
        ("no report.json", "got one that holds none"),
        *[(f"no {name}", "no such file") for name in ("params.npz", "registered.ply")],
        ("damaged report.json", "damaged JSON"),
        ("damaged params.npz", "a damaged file"),
        ("damaged registered.ply", "registered.ply: expected what lvdreg register wrote"),
    ],
)
def test_results_that_cannot_be_used_are_refused(
    what: str, words: str, tmp_path: Path, body: BodyModel, params: BodyParams, scan: FloatArray
) -> None:
    write_ply(tmp_path / "scan.ply", scan, body.data.faces)
    break_result(tmp_path / "result", what, body, params, scan)
    with pytest.raises(RegistrationError) as caught:
        load_bound(tmp_path / "scan.ply", tmp_path / "result")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_scan_is_named(tmp_path: Path, result: Path) -> None:
    with pytest.raises(ScanError, match=r"gone\.ply"):
        load_bound(tmp_path / "gone.ply", result)
