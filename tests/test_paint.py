"""Colours of scans on the registered surface: what is seen, what is filled in, and what hides what."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_toy_body
from PIL import Image

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.colours import extended_colours
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.export.paint import Mesh, _Surface, colours_of, painted, read_colours
from lvdreg.result.read import SavedResult
from lvdreg.scan.model import scan_from_arrays
from lvdreg.scan.textured import to_linear, to_srgb

SIZE = 256


def atlas(faces: int) -> tuple[FloatArray, IntArray]:
    """A layout of cells, a triangle in each, with room between them."""
    side = int(np.ceil(np.sqrt(faces)))
    row, column = np.divmod(np.arange(faces), side)
    corners = np.array([[0.15, 0.15], [0.85, 0.15], [0.15, 0.85]])
    uv = (np.stack([column, row], 1)[:, None] + corners) / side
    return uv.reshape(-1, 2), np.arange(3 * faces).reshape(-1, 3)


def toy_result(data: BodyData) -> SavedResult:
    body = BodyModel(data)
    params = replace(BodyParams.zeros(body), displacements=torch.zeros(body.num_vertices, 3))
    surface = body(params).vertices.double().numpy()
    return SavedResult(Path("toy"), {}, body, params, surface, np.eye(4), "toy", 9, None, 1.0)


@pytest.fixture
def result() -> SavedResult:
    data = make_toy_body()
    vt, ft = atlas(len(data.faces))
    return toy_result(replace(data, vt=np.float32(vt), ft=ft))


def smooth(points: FloatArray) -> FloatArray:
    """Colours (sRGB) that change slowly over space."""
    return np.rint(127 + 100 * np.sin(2.5 * points + [0, 1, 2])).astype(np.uint8)


def test_a_seen_surface_gets_the_colours_of_the_scan(result: SavedResult) -> None:
    faces = result.body.data.faces
    colours = colours_of(scan_from_arrays(result.surface, faces, colors=smooth(result.surface)), np.eye(4))
    assert colours is not None
    paint = painted(result, colours, SIZE)
    assert paint.image is not None and paint.seen is not None and (paint.seen == 255).mean() > 0.2
    np.testing.assert_allclose(paint.colours.astype(int), smooth(result.surface), atol=1)
    # The slow way: the middle of each face, looked up in the picture.
    data = result.body.data
    assert data.vt is not None
    middle = data.vt[data.ft].mean(1) * [1, -1] + [0, 1]
    column, row = np.floor(SIZE * middle).astype(int).T
    wanted = smooth(result.surface)[faces].astype(int).mean(1)
    assert np.abs(paint.image[row, column] - wanted).max() < 12 and (paint.seen[row, column] == 255).all()


def test_outside_of_the_layout_the_picture_goes_on(result: SavedResult) -> None:
    red = np.tile(np.uint8([200, 30, 30]), (len(result.surface), 1))
    colours = colours_of(scan_from_arrays(result.surface, result.body.data.faces, colors=red), np.eye(4))
    assert colours is not None
    paint = painted(result, colours, SIZE)
    assert paint.image is not None
    assert (np.abs(paint.image.astype(int) - [200, 30, 30]) <= 1).all()


def test_holes_are_filled_in_and_said_to_be(result: SavedResult) -> None:
    faces = result.body.data.faces
    hole = (result.surface[faces][..., 0] > 0.3).any(1)
    scan = scan_from_arrays(result.surface, faces[~hole], colors=smooth(result.surface))
    colours = colours_of(scan, np.eye(4))
    assert colours is not None
    paint = painted(result, colours, SIZE)
    assert paint.image is not None and paint.seen is not None
    data = result.body.data
    assert data.vt is not None
    column, row = np.floor(SIZE * (data.vt[data.ft].mean(1) * [1, -1] + [0, 1])).astype(int).T
    deep = (result.surface[faces][..., 0] > 0.35).all(1)
    assert (paint.seen[row, column][deep] == 0).all()
    # A mirror-symmetric person: the other arm says what colour it is.
    other = smooth(result.surface * [-1, 1, 1])[faces][deep].astype(int).mean(1)
    assert np.abs(paint.image[row, column][deep] - other).mean() < 25


def test_what_lies_before_a_place_does_not_paint_it() -> None:
    """Two sheets that face the same way, 10 mm apart; the scan has the front one alone, as of a hand on a chest."""
    x, y = np.meshgrid(np.linspace(0, 0.2, 9), np.linspace(0, 0.2, 9), indexing="ij")
    sheet = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1)
    grid = np.arange(81).reshape(9, 9)
    a, b, c, d = (grid[i : i + 8, j : j + 8].ravel() for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    front, back = sheet + [0, 0, 0.01], sheet
    red = np.tile([1.0, 0, 0], (81, 1))
    scan = Mesh(front + [0, 0, 0.001], faces, red)
    toy = toy_result(make_toy_body())
    both = replace(toy, surface=np.concatenate([front, back]))
    both.body.data = replace(toy.body.data, faces=np.concatenate([faces, faces + 81]))
    surface = _Surface(both, scan)
    _, seen = surface.look(surface.vertices, surface.normals)
    assert seen[:81].all() and not seen[81:].any()


def test_clouds_and_turned_scans(result: SavedResult, tmp_path: Path) -> None:
    turn = np.array([[0.0, -1000, 0, 3], [1000, 0, 0, 4], [0, 0, 1000, 5], [0, 0, 0, 1]])
    points = result.surface @ turn[:3, :3].T + turn[:3, 3]
    colours = colours_of(scan_from_arrays(points, colors=smooth(result.surface)), np.linalg.inv(turn))
    assert colours is not None
    found, normals, linear = colours.at(result.surface)
    np.testing.assert_allclose(found, result.surface, atol=1e-9)
    assert not normals.any() and np.abs(to_srgb(linear).astype(int) - smooth(result.surface)).max() <= 1
    assert colours_of(scan_from_arrays(points), np.eye(4)) is None
    rows = np.hstack([points, smooth(result.surface)])
    (tmp_path / "a.xyz").write_text("\n".join(" ".join(map(str, row)) for row in rows), encoding="ascii")
    again = read_colours(tmp_path / "a.xyz", replace(result, T_scan_model=turn))
    assert again is not None
    np.testing.assert_allclose(again.at(result.surface)[2], linear, atol=1e-6)


def test_pictures_of_a_scan_are_read_where_it_is_nearest(result: SavedResult, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd a.png\n", encoding="ascii")
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
    text = f"mtllib a.mtl\n{square}usemtl m\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    (tmp_path / "a.obj").write_text(text, encoding="ascii")
    colours = read_colours(tmp_path / "a.obj", result)
    assert colours is not None
    u, v = np.meshgrid((np.arange(8) + 0.5) / 8, 1 - (np.arange(8) + 0.5) / 8)
    found, normals, linear = colours.at(np.stack([u.ravel(), v.ravel(), np.full(64, 0.1)], 1))
    np.testing.assert_allclose(found[:, 2], 0, atol=1e-12)
    np.testing.assert_allclose(normals, np.tile([0.0, 0, 1], (64, 1)), atol=1e-9)
    np.testing.assert_allclose(to_srgb(linear).astype(int), image.reshape(-1, 3), atol=1)


def test_srgb_there_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3)
    np.testing.assert_array_equal(to_srgb(to_linear(torch.from_numpy(levels)).double().numpy()), levels)


def test_unseen_colours_come_from_the_other_side() -> None:
    data = make_toy_body()
    seen = data.v_template[:, 0] < 0.1
    colours = np.where(data.v_template[:, :1] < -0.3, [0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    filled = extended_colours(np.where(seen[:, None], colours, 0.0), seen, data).numpy()
    assert (filled[data.v_template[:, 0] > 0.5][:, 0] > 0.5).all()
