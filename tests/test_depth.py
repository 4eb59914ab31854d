"""Depth images: what their pixels see, cameras from presets and files, several views as one cloud."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lvdreg import read_scan
from lvdreg.base.errors import ScanError
from lvdreg.geometry.frames import transform_points
from lvdreg.geometry.mesh import unit_rows
from lvdreg.scan.clean import orient_cloud
from lvdreg.scan.readers.camera import PRESETS, DepthCamera, camera_from, camera_of
from lvdreg.scan.readers.depth import depth_of, is_depth_image

SMALL = DepthCamera(64, 48, 60.0, 61.0, 30.5, 24.0, (0.1, -0.05, 0.001, -0.002, 0.01, 0.02, 0.003, 0.001))
T_WORLD_CAMERA = [[0, 0, 1, 5], [1, 0, 0, 6], [0, 1, 0, 7], [0, 0, 0, 1]]


def seen_by(camera: DepthCamera, points: np.ndarray) -> np.ndarray:
    """Return the pixels (P, 2) that points in front of a camera fall on: OpenCV's model, written out one by one."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*camera.distortion, *[0.0] * (8 - len(camera.distortion)))
    pixels = []
    for X, Y, Z in points:
        x, y = X / Z, Y / Z
        r = x * x + y * y
        radial = (1 + k1 * r + k2 * r**2 + k3 * r**3) / (1 + k4 * r + k5 * r**2 + k6 * r**3)
        u = x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)
        v = y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y
        pixels.append((camera.fx * u + camera.cx, camera.fy * v + camera.cy))
    return np.array(pixels)


def json_of(camera: DepthCamera) -> dict[str, object]:
    return {name: getattr(camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy", "distortion")}


@pytest.mark.parametrize("camera", [SMALL, PRESETS["kinect-v2"], PRESETS["kinect-azure"]])
def test_points_fall_back_onto_their_pixels(camera: DepthCamera) -> None:
    rng = np.random.default_rng(0)
    depth = np.zeros((camera.height, camera.width), np.float32)
    near = slice(camera.height // 4, -camera.height // 4, 7), slice(camera.width // 4, -camera.width // 4, 5)
    depth[near] = rng.uniform(1, 3, depth[near].shape)
    points = camera.points(depth)
    rows, columns = np.nonzero(depth)
    assert np.abs(seen_by(camera, points) - np.stack([columns, rows], 1)).max() < 0.01
    np.testing.assert_allclose(points[:, 2], depth[rows, columns])


def test_depth_along_the_ray_is_the_distance() -> None:
    camera = camera_from(json_of(SMALL) | {"along_ray": True})
    points = camera.points(np.full((48, 64), 2.0))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 2.0)


def test_pixels_without_depth_are_left_out() -> None:
    depth = np.full((48, 64), 1500, np.uint16)
    depth[0, :3] = 0, 65535, 1
    assert len(SMALL.points(depth)) == depth.size - 2
    metres = depth.astype(float) / 1000
    metres[0, :4] = np.nan, np.inf, -1, 0
    assert len(SMALL.points(metres)) == depth.size - 4


def test_a_scaled_image_has_scaled_intrinsics() -> None:
    """A pixel of an image of half the size covers four: its ray is their mean."""
    plain = DepthCamera(64, 48, 60.0, 60.0, 31.5, 23.5)
    whole = plain.points(np.ones((48, 64))).reshape(24, 2, 32, 2, 3).mean((1, 3))
    np.testing.assert_allclose(plain.points(np.ones((24, 32))).reshape(24, 32, 3), whole)
    with pytest.raises(ScanError, match="64 x 48 pixels or its shape"):
        plain.points(np.ones((48, 48)))


@pytest.mark.parametrize(
    "found",
    [
        {"width": 64, "height": 48, "K": [[60, 0, 31], [0, 61, 23], [0, 0, 1]]},
        {"w": 64, "h": 48, "K": [60, 0, 0, 0, 61, 0, 31, 23, 1]},
        {"width": 64, "height": 48, "intrinsic_matrix": [60, 0, 31, 0, 61, 23, 0, 0, 1]},
        {"Width": 64, "Height": 48, "fx": 60, "fy": 61, "ppx": 31, "ppy": 23, "coeffs": [0, 0, 0, 0, 0]},
    ],
)
def test_files_of_other_programs(found: dict[str, object]) -> None:
    camera = camera_from(found)
    assert (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy) == (64, 48, 60, 61, 31, 23)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "an object with the intrinsics"),
        ({"width": 64}, "height is missing"),
        ({"camera": "kinect-9"}, "expected one of kinect-v1"),
        ({"camera": "kinect-v1", "fx": 0}, "above 0 pixels"),
        ({"camera": "kinect-v1", "fx": "wide"}, "as fx, got 'wide'"),
        ({"camera": "kinect-v1", "fx": 10**400}, "as fx"),
        ({"camera": "kinect-v1", "width": True}, "as width"),
        ({"camera": "kinect-v1", "K": [1, 2]}, "9 numbers as K"),
        ({"camera": "kinect-v1", "K": [1, 2, 3, 4, 5, 6, 7, 8, 9]}, "expected K as"),
        ({"camera": "kinect-v1", "depth_scale": 0}, "as depth_scale"),
        ({"camera": "kinect-v1", "distortion": ["a"]}, "numbers as distortion"),
        ({"camera": "kinect-v1", "T_world_camera": (2 * np.eye(4)).tolist()}, "a rotation and a translation"),
    ],
)
def test_what_is_no_camera_is_refused(found: object, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        camera_from(found)


def test_pictures_and_arrays_hold_the_same_depths(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).integers(1, 5000, (48, 64)).astype(np.uint16)
    (tmp_path / "K.json").write_text(json.dumps(json_of(SMALL)))
    Image.fromarray(depth).save(tmp_path / "a.png")
    Image.fromarray(depth).save(tmp_path / "a.tif")
    np.save(tmp_path / "a.npy", depth)
    np.save(tmp_path / "metres.npy", depth / 1000)
    scans = [read_scan(tmp_path / name, tmp_path / "K.json") for name in ("a.png", "a.tif", "a.npy", "metres.npy")]
    for scan in scans:
        np.testing.assert_allclose(scan.points, SMALL.points(depth), atol=1e-12)
        assert scan.unit == "m" and scan.viewpoint is not None and not scan.viewpoint.any()


def test_views_are_fused_in_the_world(tmp_path: Path) -> None:
    depth = np.full((48, 64), 1500, np.uint16)
    Image.fromarray(depth).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", depth / 1000)
    views = [{"image": "a.png"}, {"image": "b.npy", "T_world_camera": T_WORLD_CAMERA}]
    (tmp_path / "rig.json").write_text(json.dumps({**json_of(SMALL), "views": views}))
    scan = read_scan(tmp_path / "rig.json")
    own = SMALL.points(depth)
    expected = np.concatenate([own, transform_points(np.array(T_WORLD_CAMERA, float), own)])
    np.testing.assert_allclose(scan.points, expected, atol=1e-12)
    assert sorted(scan.files) == ["a.png", "b.npy"] and scan.viewpoint is None


def test_normals_of_a_depth_image_face_its_camera(tmp_path: Path) -> None:
    """Whatever the extremes of the cloud say: here they are those of a bowl that is seen from inside."""
    rows, columns = np.mgrid[:48, :64]
    depth = 1.5 - 0.4 * np.clip(((columns - 30.5) / 60) ** 2 + ((rows - 24) / 61) ** 2, 0, 1)
    np.save(tmp_path / "bowl.npy", depth)
    (tmp_path / "K.json").write_text(json.dumps({**json_of(SMALL), "distortion": []}))
    scan = orient_cloud(read_scan(tmp_path / "bowl.npy", tmp_path / "K.json"))
    assert scan.normals is not None
    towards = -unit_rows(scan.points)
    assert (np.einsum("pi,pi->p", scan.normals, towards) > 0).mean() > 0.99


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ([], "1 to 64 views"),
        ([{"image": "../a.png"}], "view 1: expected 'image'"),
        ([{"image": "none.png"}], "view 1: its image 'none.png' cannot be read"),
        ([{"image": "a.png"}, 7], "view 2: expected an object"),
        ([{"image": "rig.json"}], "view 1: expected a depth image"),
    ],
)
def test_what_are_no_views_is_refused(tmp_path: Path, views: object, words: str) -> None:
    Image.fromarray(np.ones((48, 64), np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "rig.json").write_text(json.dumps({**json_of(SMALL), "views": views}))
    with pytest.raises(ScanError, match=words):
        read_scan(tmp_path / "rig.json")


def test_a_depth_image_needs_its_camera_and_nothing_else_has_one(tmp_path: Path) -> None:
    Image.fromarray(np.ones((48, 64), np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.ones((48, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    np.savetxt(tmp_path / "a.xyz", np.ones((3, 3)))
    with pytest.raises(ScanError, match=r"--camera FILE.json or one of kinect-v1"):
        read_scan(tmp_path / "a.png")
    with pytest.raises(ScanError, match="512 x 424 pixels"):
        read_scan(tmp_path / "a.png", "kinect-v2")
    with pytest.raises(ScanError, match="16 or 32 bits of grey, got a picture of mode RGB"):
        read_scan(tmp_path / "photo.png", "kinect-v2")
    with pytest.raises(ScanError, match="lvdreg image registers photos"):
        read_scan(tmp_path / "photo.png")
    with pytest.raises(ScanError, match="--camera is for depth images"):
        read_scan(tmp_path / "a.xyz", "kinect-v2")
    with pytest.raises(ScanError, match="expected a JSON file with its intrinsics, or one of kinect-v1"):
        camera_of(tmp_path / "none.json")


def test_tables_of_points_are_no_images() -> None:
    def npy(*shape: int) -> bytes:
        stream = io.BytesIO()
        np.save(stream, np.zeros(shape, np.float32))
        return stream.getvalue()

    assert is_depth_image(npy(48, 64)) and not is_depth_image(npy(48, 3)) and not is_depth_image(npy(3, 48, 64))
    with pytest.raises(ScanError, match="expected a depth image"):
        depth_of(npy(48, 64, 2))
