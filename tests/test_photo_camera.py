"""Cameras of photos: what is seen where, the way back, slopes, and the matrices that others know."""

import math

import numpy as np
import pytest
import torch

from lvdreg.base.shapes import FloatArray
from lvdreg.image.camera import FULL_FRAME_MM, Camera, Lens
from lvdreg.synth.camera.view import Cameras, look_at

LENS = Lens(900.0, np.array([410.0, 300.0]), "given")
NEAR = Camera(430.0, np.array([330.0, 350.0]), LENS)
FAR = Camera(430.0, np.array([330.0, 350.0]), Lens(430e6, np.array([410.0, 300.0]), "given"))
WEAK = Camera(430.0, np.array([330.0, 350.0]))


def points(seed: int = 0, count: int = 40) -> FloatArray:
    return np.random.default_rng(seed).normal(scale=[0.4, 0.6, 0.3], size=(count, 3))


def test_matrices_give_what_the_camera_projects() -> None:
    homogeneous = np.pad(points(), ((0, 0), (0, 1)), constant_values=1.0)
    seen = (homogeneous @ NEAR.T_camera_world.T)[:, :3] @ LENS.intrinsics.T
    assert np.abs(seen[:, :2] / seen[:, 2:] - NEAR.project(points())).max() < 1e-9
    assert NEAR.distance == pytest.approx(900 / 430) and np.linalg.det(NEAR.T_camera_world) == pytest.approx(1)
    # The camera stands before the person, and the matrix says so.
    assert NEAR.T_camera_world[2, 3] == pytest.approx(NEAR.distance)


def test_an_endless_focal_length_is_weak_perspective() -> None:
    flat = WEAK.centre + WEAK.scale * points()[:, :2] * [1, -1]
    assert np.abs(WEAK.project(points()) - flat).max() < 1e-9 and np.abs(WEAK.seen(points()) - points()).max() < 1e-12
    assert WEAK.distance == math.inf and WEAK.perspective == 0
    assert np.abs(FAR.project(points()) - flat).max() < 1e-3 < 10 < np.abs(NEAR.project(points()) - flat).max()
    assert np.abs(WEAK.unprojected(points()) - points()).max() < 1e-12
    assert np.abs(FAR.unprojected(points()) - points()).max() < 1e-5
    assert np.abs(WEAK.slopes(points(), points(1)[:, :2]) - points(1) * [1, 1, 0]).max() < 1e-12


@pytest.mark.parametrize("camera", [NEAR, FAR, WEAK])
def test_slopes_are_those_of_small_steps(camera: Camera) -> None:
    at, directions, step = points(), points(1)[:, :2], 1e-6

    def along(moved: FloatArray) -> FloatArray:
        return np.asarray((camera.seen(moved)[:, :2] * directions).sum(1))

    numeric = np.stack([(along(at + e) - along(at - e)) / (2 * step) for e in step * np.eye(3)], 1)
    assert np.abs(camera.slopes(at, directions) - numeric).max() < 1e-7


@pytest.mark.parametrize("camera", [NEAR, WEAK])
def test_a_moved_camera_sees_the_same_and_stands_where_it_stood(camera: Camera) -> None:
    origin = np.array([0.3, -0.2, 0.5])
    moved = camera.moved(origin)
    assert np.abs(moved.project(points() - origin) - camera.project(points())).max() < 1e-9
    assert moved.lens == camera.lens
    if camera is NEAR:
        assert moved.distance == pytest.approx(camera.distance - 0.5)


def test_what_is_seen_keeps_lines_straight_and_what_is_hidden_hidden() -> None:
    a, b = points(2), points(3)
    third, ends = NEAR.seen(0.7 * a + 0.3 * b), (NEAR.seen(a), NEAR.seen(b))
    assert np.abs(np.cross(third - ends[0], ends[1] - ends[0])).max() < 1e-9
    # Points on one line of sight come in the order of their depth.
    ray = NEAR.moved(np.zeros(3)).unprojected(np.array([[0.2, -0.1, z] for z in np.linspace(-1, 1, 9)]))
    seen = NEAR.seen(ray)
    assert np.abs(seen[:, :2] - [0.2, -0.1]).max() < 1e-9 and (np.diff(seen[:, 2]) > 0).all()


@pytest.mark.parametrize("camera", [NEAR, FAR])
def test_points_are_put_on_their_lines_of_sight(camera: Camera) -> None:
    said = points(4)
    placed = camera.unprojected(said)
    assert np.abs(camera.seen(placed)[:, :2] - said[:, :2]).max() < 1e-6
    # Their nearness is meant along the line of sight to the origin.
    eye = np.linalg.inv(camera.T_camera_world)[:3, 3]
    assert np.allclose(placed @ eye / np.linalg.norm(eye), said[:, 2], atol=1e-6)
    assert np.allclose(camera.looked_at(placed), said, atol=1e-9)


def training_camera(seed: int) -> Cameras:
    """A camera that looks at the origin from 1.6 m, as training has them."""
    generator = torch.Generator().manual_seed(seed)
    yaw, pitch, roll = (0.5 * torch.randn(3, 1, generator=generator, dtype=torch.float64)).unbind()
    one = torch.ones(1, dtype=torch.float64)
    return look_at(torch.zeros(1, 3, dtype=torch.float64), yaw, pitch, roll, 90 * one, one / 1.6, 256)


@pytest.mark.parametrize("seed", range(3))
def test_what_training_shows_is_undone(seed: int) -> None:
    """The oracle is what the network learns from: people about the origin, their pelvis where the camera looks."""
    cameras, world = training_camera(seed), torch.from_numpy(points(seed))
    unit = cameras.to_unit(world[None], 256, torch.zeros(1, dtype=torch.float64))[0].numpy()
    truth = cameras.view(world[None])[0].numpy() * [1, -1, -1]
    crop = Camera(128.0, np.array([128.0, 128.0]), Lens(90 * 1.6, np.array([128.0, 128.0])))
    assert np.abs(crop.unprojected(unit) * 128 / 90 - truth).max() < 1e-9
    # Weak perspective leaves the error of perspective, which is large at that distance.
    assert np.abs(unit * 128 / 90 - truth).max() > 0.05


def test_focal_lengths_on_film() -> None:
    lens = Lens.of_photo((4000, 3000), 26.0, "exif")
    assert lens.focal == pytest.approx(26 / FULL_FRAME_MM * 5000) and np.array_equal(lens.principal, [2000, 1500])
    assert lens.mm35((4000, 3000)) == pytest.approx(26) and pytest.approx(43.2666, abs=1e-4) == FULL_FRAME_MM
    # A reduced and a turned photo have the same angle of view.
    small, turned = Lens.of_photo((2000, 1500), 26.0, "exif"), Lens.of_photo((3000, 4000), 26.0, "exif")
    assert small.focal == pytest.approx(lens.focal / 2) and turned.focal == lens.focal
