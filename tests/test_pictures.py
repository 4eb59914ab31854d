"""The renderer against a slow ray caster, and what the preview shows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from fake_registration import T_SCAN_MODEL, fake_hand, fake_registration, mitten
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from lvdreg import load_body
from lvdreg.base.shapes import FloatArray
from lvdreg.geometry import raster as zbuffer
from lvdreg.geometry.frames import rotmat_to_rotvec
from lvdreg.geometry.raster import rasterise, seen_values, splat
from lvdreg.result import draw_scan as pictures
from lvdreg.result.draw_scan import preview
from lvdreg.result.scan import Registration
from lvdreg.result.shade import depth_normals, halve, shade
from lvdreg.result.sheet import BACKGROUND, CAPTION, FOOTER, HEADER, SIGMA_COLOURS, sigma_colours, sigma_top_mm
from lvdreg.scan.model import scan_from_arrays

Rows = Callable[[Registration], dict[str, list[NDArray[np.bool_]]]]


@pytest.fixture(autouse=True)
def small_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw small: what the tests look at does not depend on it."""
    monkeypatch.setattr(pictures, "PANEL_PIXELS", 80 * 120)


def ray_cast(points: FloatArray, faces: NDArray[np.int64], height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """The oracle: for every pixel and every face, solve for the point of the face behind the pixel's centre."""
    depth, index = np.full((height, width), np.inf), np.full((height, width), -1)
    for row in range(height):
        for column in range(width):
            for number, face in enumerate(faces):
                corners = points[face]
                system = np.vstack([corners[:, :2].T, np.ones(3)])
                if not np.isfinite(corners).all() or abs(np.linalg.det(system)) < 1e-12:
                    continue
                weights = np.linalg.solve(system, [column + 0.5, row + 0.5, 1])
                if (weights >= 0).all() and weights @ corners[:, 2] < depth[row, column]:
                    depth[row, column], index[row, column] = weights @ corners[:, 2], number
    return depth, index


def random_mesh(seed: int, num_faces: int = 30) -> tuple[FloatArray, NDArray[np.int64]]:
    """Triangles of all sizes, many reaching beyond a picture of 20 x 14, one without area, one with a NaN."""
    rng = np.random.default_rng(seed)
    spread = rng.choice([0.5, 3.0, 30.0], (num_faces, 1, 1))
    corners = rng.uniform([0, 0, 0], [20, 14, 10], (num_faces, 1, 3)) + spread * rng.normal(size=(num_faces, 3, 3))
    corners[0, 2] = corners[0, 1]
    corners[1, 0, rng.integers(3)] = np.nan
    return corners.reshape(-1, 3), np.arange(3 * num_faces).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(4))
def test_rasterise_sees_what_rays_hit(seed: int) -> None:
    points, faces = random_mesh(seed)
    raster = rasterise(points, faces, 14, 20)
    depth, index = ray_cast(points, faces, 14, 20)
    assert (index >= 0).sum() > 40
    np.testing.assert_array_equal(raster.index, index)
    np.testing.assert_allclose(raster.depth, depth, atol=1e-9)


def test_rasterise_does_not_depend_on_how_faces_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    points, faces = random_mesh(9, 60)
    whole = rasterise(points, faces, 14, 20)
    monkeypatch.setattr(zbuffer, "_MAX_CANDIDATES", 10)
    parts = rasterise(points, faces, 14, 20)
    np.testing.assert_array_equal(whole.index, parts.index)
    np.testing.assert_allclose(
        whole.weights, parts.weights, rtol=0, atol=1e-12
    )  # groups of other sizes round otherwise


def test_weights_give_back_the_place_in_the_picture() -> None:
    points, faces = random_mesh(5)
    raster = rasterise(points, faces, 14, 20)
    rows, columns = np.nonzero(raster.mask)
    seen = seen_values(raster, faces, points)
    np.testing.assert_allclose(seen[:, :2], np.stack([columns, rows], -1) + 0.5, atol=1e-9)


def test_nothing_to_draw() -> None:
    none = rasterise(np.zeros((0, 3)), np.zeros((0, 3), np.int64), 4, 5)
    assert not none.mask.any() and none.index.shape == (4, 5)
    outside = rasterise(np.array([[-9.0, 0, 0], [-8, 0, 0], [-8, 3, 0]]), np.array([[0, 1, 2]]), 4, 5)
    assert not outside.mask.any()


def test_splat_sees_the_nearest_sphere() -> None:
    rng = np.random.default_rng(0)
    points, radius = rng.uniform([-2, -2, 0], [22, 16, 30], (60, 3)), 2.5
    raster = splat(points, radius, 14, 20)
    for row in range(14):
        for column in range(20):
            aside = np.linalg.norm(points[:, :2] - [column + 0.5, row + 0.5], axis=1)
            front = np.where(aside <= radius, points[:, 2] - np.sqrt(np.maximum(radius**2 - aside**2, 0)), np.inf)
            assert raster.index[row, column] == (front.argmin() if np.isfinite(front).any() else -1)


def test_small_points_never_vanish() -> None:
    points = np.array([[3.02, 4.97, 1.0], [7.5, 2.5, 1.0], [np.nan, 1, 1]])
    raster = splat(points, 0.1, 8, 10)
    assert raster.index[4, 3] == 0 and raster.index[2, 7] == 1 and raster.mask.sum() == 2


def test_depth_normals_of_a_slope() -> None:
    column, row = np.meshgrid(np.arange(30) + 0.5, np.arange(30) + 0.5)
    # Farther to the right and nearer to the bottom: the surface looks to the left... of x right, y up, z to the viewer.
    points = np.stack([column.ravel(), row.ravel(), (0.5 * column - 0.25 * row).ravel()], -1)
    normals = depth_normals(splat(points, 0.5, 30, 30), 1.0).reshape(30, 30, 3)
    expected = np.array([0.5, 0.25, 1.0]) / np.linalg.norm([0.5, 0.25, 1.0])
    np.testing.assert_allclose(normals[8:-8, 8:-8], np.broadcast_to(expected, (14, 14, 3)), atol=0.02)


def test_shading_is_brighter_towards_the_light() -> None:
    raster = splat(np.array([[1.5, 1.5, 0.0], [4.5, 1.5, 0.0]]), 0.4, 3, 6)
    normals = np.array([[-0.4, 0.6, 0.7], [0.6, -0.6, 0.5]])
    picture = shade(raster, normals, np.full((2, 3), 0.5), 8)
    assert picture[1, 1, 0] > picture[1, 4, 0] + 0.1
    flipped = shade(raster, -normals, np.full((2, 3), 0.5), 8)
    np.testing.assert_array_equal(picture, flipped)


def test_halve_averages_by_coverage() -> None:
    picture = np.zeros((2, 2, 4))
    picture[0, 0] = [1.0, 0.5, 0.0, 1.0]
    picture[1, 1] = [0.0, 0.5, 1.0, 1.0]
    np.testing.assert_allclose(halve(picture)[0, 0], [0.5, 0.5, 0.5, 0.5])


def test_colours_of_sigma_darken_steadily() -> None:
    luma = SIGMA_COLOURS @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luma) < -10).all()
    colours = sigma_colours(np.array([-1.0, 0.0, 50.0, 80.0, np.nan, np.inf]), 50.0)
    np.testing.assert_array_equal(colours[:2], SIGMA_COLOURS[[0, 0]])
    np.testing.assert_array_equal(colours[2:], SIGMA_COLOURS[[-1, -1, -1, -1]])


def test_colour_scale_ends_at_a_round_number() -> None:
    assert sigma_top_mm(np.array([4.0, 9.0])) == 10.0
    assert sigma_top_mm(np.full(10, 31.0)) == 50.0
    assert sigma_top_mm(np.full(10, 9e9)) == 500.0
    assert sigma_top_mm(np.full(10, np.nan)) == 500.0


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.5])
def test_sides_are_the_persons_own(yaw: float) -> None:
    registration = fake_registration(params={"global_orient": np.array([0.0, yaw, 0.0])})
    facing = pictures.facing(pictures.stance_of(registration))
    left = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    np.testing.assert_allclose(facing, [np.sin(yaw), 0.0, np.cos(yaw)], atol=1e-12)
    views = [camera.rotation for camera in pictures.cameras_of(pictures.stance_of(registration))]
    # Seen from the front, the person's left hand is on the right of the picture; from the left, they look to the left.
    np.testing.assert_allclose([views[0] @ left, views[2] @ left], [[1, 0, 0], [-1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose([views[1] @ facing, views[3] @ facing], [[-1, 0, 0], [1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose([view @ [0, 1, 0] for view in views], [[0, 1, 0]] * 4, atol=1e-12)


def test_lying_person_still_has_a_front() -> None:
    registration = fake_registration(params={"global_orient": np.array([-np.pi / 2, 0.0, 0.0])})
    facing = pictures.facing(pictures.stance_of(registration))
    np.testing.assert_allclose([facing[1], np.linalg.norm(facing)], [0, 1], atol=1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_are_the_hands_own(side: str) -> None:
    """The wrist is turned by a quarter about the fingers' axis and the fingers point to -X."""
    fingers, palm = np.array([-1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    rotation = np.stack([np.cross(fingers, palm), fingers, palm], -1)
    rotvec = rotmat_to_rotvec(torch.from_numpy(rotation)).numpy()
    cameras = pictures.cameras_of(pictures.stance_of(fake_hand(side, params={"global_orient": rotvec})))
    assert [camera.name for camera in cameras] == ["palm", "thumb side", "back of the hand", "finger tips"]
    thumb = rotation[:, 0] if side == "right" else -rotation[:, 0]
    right = np.array([1.0, 0, 0]) if side == "right" else np.array([-1.0, 0, 0])
    views = [camera.rotation for camera in cameras]
    # Looking into a right palm, fingers up, the thumb is on the right; the same looking down on the tips, palm below.
    np.testing.assert_allclose(
        [views[0] @ thumb, views[2] @ thumb, views[3] @ thumb], [right, -right, right], atol=1e-9
    )
    np.testing.assert_allclose([view @ fingers for view in views[:3]], [[0, 1, 0]] * 3, atol=1e-9)
    towards = [view[2] for view in views]
    np.testing.assert_allclose(towards, [palm, thumb, -palm, fingers], atol=1e-9)
    np.testing.assert_allclose(views[3] @ palm, [0, -1, 0], atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(views), 1)


def drawn(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (np.abs(picture.astype(int) - BACKGROUND) > 12).any(-1)


def panels(picture: NDArray[np.uint8]) -> list[list[NDArray[np.bool_]]]:
    """Cut a preview into what is drawn in its three rows of four panels."""
    rows = np.array_split(drawn(picture)[HEADER + CAPTION : -FOOTER], 3)
    return [np.array_split(row[CAPTION:], 4, axis=1) for row in rows]


def test_preview_shows_the_person_upright_in_three_rows_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has Z up and millimetres far from the origin; the picture has the tip of the cone on top."""
    monkeypatch.setattr(pictures, "PANEL_PIXELS", 200 * 300)
    for row in panels(np.asarray(preview(fake_registration()))):
        for panel in row:
            filled = np.flatnonzero(panel.any(1))
            width = panel.sum(1)
            assert len(filled) > 0.8 * len(panel)
            assert width[filled[-5]] > 5 * width[filled[5]] > 0


def scale(registration: Registration, factor: float) -> Registration:
    """The same in another unit."""
    T_scaled = np.diag([factor, factor, factor, 1.0])
    scan = replace(registration.scan, points=registration.scan.points * factor)
    vertices = registration.vertices * factor
    return replace(registration, scan=scan, vertices=vertices, T_scan_model=T_scaled @ registration.T_scan_model)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """Draw a preview and give what is drawn in its panels, by the row's caption."""
    found: dict[str, list[Image.Image]] = {}

    def compose(_registration: Registration, rows: dict[str, list[Image.Image]], *_: Any) -> Image.Image:
        found.clear()
        found.update(rows)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(pictures, "_compose", compose)

    def draw(registration: Registration) -> dict[str, list[NDArray[np.bool_]]]:
        preview(registration)
        return {name: [drawn(np.asarray(panel)) for panel in row] for name, row in found.items()}

    return draw


@pytest.mark.parametrize("factor", [1.0, 0.001, 1 / 25.4])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_left_hand_looks_like_a_left_hand_in_any_unit(rows: Rows, side: str, factor: float) -> None:
    found = rows(scale(fake_hand(side), factor))
    assert list(found) == ["scan", "anny-hand+d", "uncertainty"]
    for palm, _, back, _ in found.values():
        for panel, thumb_is_right in ((palm, side == "right"), (back, side == "left")):
            filled = np.flatnonzero(panel.any(1))
            assert len(filled) > 0.7 * len(panel)
            low, high = np.flatnonzero(panel.any(0))[[0, -1]]
            # The highest finger is off the middle, away from the thumb.
            tip = np.flatnonzero(panel[filled[2]]).mean()
            assert (tip < (low + high) / 2 - 3) == thumb_is_right and abs(tip - (low + high) / 2) > 3


@pytest.mark.parametrize("as_mesh", [True, False])
def test_only_what_is_around_a_hand_is_drawn(rows: Rows, as_mesh: bool) -> None:
    vertices, faces = mitten("right")
    edges = [np.linspace([x, 0, 0], [x, -9, 0], 2000) for x in (-0.03, 0.03)]
    strip = np.array([[i, i + 1, i + 2000] for i in range(1999)]) + len(vertices)
    points = np.concatenate([vertices, *edges]) @ T_SCAN_MODEL[:3, :3].T + T_SCAN_MODEL[:3, 3]
    with_arm = replace(fake_hand().scan, points=points, faces=np.concatenate([faces, strip]) if as_mesh else None)
    found = rows(fake_hand("right", scan=with_arm))
    assert "scan, cut around the hand" in found
    for panel in found["anny-hand+d"][:3]:
        assert panel.any(1).sum() > 0.7 * len(panel)
    arm = found["scan, cut around the hand"][0]
    assert arm[-len(arm) // 10 :].any()
    # A hand that was put far from the scan: both are drawn, so that one sees it.
    lost = rows(fake_hand("right", scan=replace(with_arm, points=points + 5000)))
    assert "scan" in lost and all(row[0].any() for row in lost.values())
    assert lost["anny-hand+d"][0].any(1).sum() < 0.1 * len(lost["anny-hand+d"][0])


@pytest.mark.parametrize("seed", [0, 1])
def test_preview_of_odd_results(seed: int) -> None:
    registration = fake_registration()
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(400, 3)) * 300 + registration.vertices.mean(0)
    cloud = replace(registration.scan, points=points, faces=None, normals=None, colors=None)
    coloured = replace(cloud, colors=rng.integers(0, 255, (400, 3)).astype(np.uint8), normals=np.zeros((400, 3)))
    single = replace(cloud, points=points[:1])
    broken = registration.vertices.copy()
    broken[3] = np.nan
    for scan in (cloud, coloured, single):
        odd = fake_registration(scan=scan, sigma_mm=np.full(len(broken), np.nan), vertices=broken, verdict="failed")
        assert preview(odd).size[0] > 500 and preview(replace(odd, side="left")).size[0] > 500
    assert preview(fake_registration(name="\udcff\n[red] 体 " * 30, reason="x" * 500)).size[0] > 500


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_hand_is_seen_by_its_joints_in_whatever_frame_its_model_rests(side: str) -> None:
    body = load_body("anny-hand", side=side)
    joints = body.data.J_template.astype(np.float64)
    turn = Rotation.from_rotvec([0.4, -1.2, 0.7]).as_matrix()
    registration = fake_registration(side=side, T_scan_model=np.eye(4), joints=joints @ turn.T)
    thumb, fingers, palm = pictures.palm_axes(pictures.stance_of(registration))
    sign = 1.0 if side == "right" else -1.0
    for found, true in ((thumb, [sign, 0, 0]), (fingers, [0, 1, 0]), (palm, [0, 0, 1])):
        np.testing.assert_allclose(found, turn @ np.array(true, float), atol=1e-3)


def test_dense_meshes_are_drawn_as_thinner_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    ball = trimesh.creation.icosphere(4)
    points, faces = np.asarray(ball.vertices, np.float64), np.asarray(ball.faces, np.int64)
    red = np.tile(np.array([[200, 0, 0]], np.uint8), (len(points), 1))
    registration = fake_registration(scan=scan_from_arrays(points, faces, colors=red))
    monkeypatch.setattr(pictures, "MAX_DRAWN_VERTICES", 600)
    shape = pictures._scan_shape(registration, points, points[:, 2] > -0.5)
    assert shape.faces is not None and 150 < len(shape.points) <= 600
    assert np.linalg.norm(shape.points, axis=1) == pytest.approx(1, abs=0.02) and shape.points[:, 2].min() > -0.55
    np.testing.assert_allclose(shape.colours, np.broadcast_to([200 / 255, 0, 0], shape.points.shape))
