"""Wrong shapes and types: refused by the checks under which tests run, and in plain words where users pass them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import lvdreg
from lvdreg.base.errors import BodyError, LvdregError, PhotoError, ScanError, UsageError
from lvdreg.body.landmarks import landmarks_of
from lvdreg.body.model import BodyData
from lvdreg.descent.boxes import Box, box_transform, to_unit
from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.fit.correspond import Target
from lvdreg.fit.solver import gauss_newton
from lvdreg.fit.vertices import FitConfig, fit_body
from lvdreg.geometry import frames, mesh, metrics, raster
from lvdreg.image.camera import Camera
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.result.ply import write_ply
from lvdreg.result.sheet import sigma_colours
from lvdreg.scan.model import scan_from_arrays
from lvdreg.voxel.grid import voxelise
from lvdreg.voxel.sampling import sample_volume

VERTICES = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
INDEX = np.array([0, 1])
BARY = np.full((3, 3), 1 / 3)
POINTS = torch.zeros(2, 5, 3)
PICTURE = np.zeros((32, 32, 3), np.uint8)
ZEROS = torch.zeros

WRONG: dict[str, Callable[[BodyData], object]] = {
    "flat vertices": lambda _: mesh.face_normals(VERTICES[:, :2], FACES),
    "single precision": lambda _: mesh.vertex_areas(VERTICES.astype(np.float32), FACES),
    "faces of four corners": lambda _: mesh.closest_point_on_mesh(VERTICES, VERTICES, np.zeros((2, 4), np.int64)),
    "faces that are no whole numbers": lambda _: mesh.mesh_normals(VERTICES, FACES.astype(np.float64)),
    "one weight too many": lambda _: mesh.interpolate(VERTICES, FACES, INDEX, BARY),
    "rows of points": lambda _: mesh.nearest_neighbours(VERTICES[0], VERTICES),
    "a rotation of four": lambda _: frames.similarity(1.0, np.eye(4), np.zeros(3)),
    "quaternions for rotation vectors": lambda _: frames.rotvec_to_rotmat(ZEROS(7, 4)),
    "other vertices": lambda _: metrics.corresponding_vertex(VERTICES, VERTICES[:3], FACES),
    "pixels without depth": lambda _: raster.rasterise(VERTICES[:, :2], FACES, 8, 8),
    "joints missing": lambda _: lvdreg.BodyParams(ZEROS(10), ZEROS(23), ZEROS(3)),
    "batches that do not meet": lambda _: lvdreg.BodyParams(ZEROS(2, 10), ZEROS(3, 23, 3), ZEROS(3)),
    "whole numbers for betas": lambda data: lvdreg.BodyModel(data).rest(ZEROS(4, dtype=torch.int64)),
    "a body's own array": lambda data: lvdreg.BodyModel({"v_template": data.v_template}),
    "keypoints that are no names": lambda data: landmarks_of(data, (1, 2)),
    "a rotation and a half": lambda _: box_transform(VERTICES, np.zeros((3, 4))),
    "a matrix without its last row": lambda _: to_unit(VERTICES, np.eye(4)[:3]),
    "a box without its last row": lambda _: Box("+y", np.eye(4)[:3]),
    "a network that is none": lambda _: descend("net", len, 1, DescentConfig()),
    "one sigma for each coordinate": lambda data: fit_body(
        lvdreg.BodyModel(data), torch.from_numpy(data.v_template), ZEROS(len(data.v_template), 3), FitConfig()
    ),
    "normals missing": lambda _: Target(VERTICES, VERTICES[:3]),
    "weights missing": lambda _: gauss_newton(np.zeros((5, 2)), np.zeros(5), np.zeros(4)),
    "a point": lambda _: mesh.farthest_points(VERTICES[0], 2),
    "valid points of others": lambda _: voxelise(POINTS, torch.ones(2, 4, dtype=torch.bool), 8),
    "a volume that is no cube": lambda _: sample_volume(ZEROS(2, 4, 8, 8, 4), POINTS),
    "a photo of real numbers": lambda _: crop_around(PICTURE / 255, np.ones((32, 32), np.float32), CutConfig(), 64),
    "a mask of another size": lambda _: crop_around(PICTURE, np.ones((32, 31), np.float32), CutConfig(), 64),
    "a world without depth": lambda _: Camera(1.0, np.zeros(2)).project(VERTICES[:, :2]),
    "sigma of other vertices": lambda _: write_ply(
        Path("never.ply"), VERTICES, FACES, properties={"sigma": np.zeros(3)}
    ),
    "sigma in three directions": lambda _: sigma_colours(VERTICES, 1.0),
    "a name that is none": lambda _: lvdreg.load_body(5),
    "a seed that is none": lambda _: lvdreg.register(VERTICES, seed="seed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_annotations_are_checked(case: str, toy_data: BodyData) -> None:
    with pytest.raises(TypeCheckError):
        WRONG[case](toy_data)


@pytest.mark.usefixtures("no_type_checks")
def test_nothing_is_checked_where_checks_are_off() -> None:
    """What the test above sees is no other error, and users pay for no checks."""
    assert mesh.face_normals(VERTICES.astype(np.float32), FACES).dtype == np.float32


CLOUD = np.random.default_rng(0).random((500, 3))
ANY: Any = {"a": 1}
REFUSED: dict[str, tuple[Callable[[], object], type[LvdregError], str]] = {
    "a number": (lambda: lvdreg.register(42), ScanError, r"expected points of shape \(N, 3\), got \(\)"),
    "flat points": (lambda: lvdreg.register(CLOUD[:, :2]), ScanError, r"shape \(N, 3\), got \(500, 2\)"),
    "words": (lambda: lvdreg.register(np.array([["a", "b", "c"]])), ScanError, "expected numbers in points, got <U1"),
    "model": (lambda: lvdreg.register(CLOUD, model=ANY), UsageError, "the name of a model, .* got {'a'"),
    "unit": (lambda: lvdreg.register(CLOUD, unit=ANY), UsageError, "unit: expected the name of a unit"),
    "up": (lambda: lvdreg.register(CLOUD, up=np.eye(3)), UsageError, "up: expected the name of an axis"),
    "device": (lambda: lvdreg.register(CLOUD, device="gpu"), UsageError, "expected a device that torch can use"),
    "device 0": (lambda: lvdreg.register(CLOUD, device=0), UsageError, "device: expected the name of a device"),
    "seed": (lambda: lvdreg.register(CLOUD, seed=-1), UsageError, "a whole number of at least 0, got -1"),
    "settings": (lambda: lvdreg.register(CLOUD, settings=5), UsageError, "settings: expected lvdreg.Settings"),
    "progress": (lambda: lvdreg.register(CLOUD, progress=ANY), UsageError, "progress: expected a function"),
    "a hand": (lambda: lvdreg.register(CLOUD, model="anny-hand"), UsageError, "is a hand; use register_hand for it"),
    "a body": (lambda: lvdreg.register_hand(CLOUD, model="anny"), UsageError, "is a whole body; use register for it"),
    "side": (lambda: lvdreg.register_hand(CLOUD, side=ANY), UsageError, "side: expected 'left', 'right' or 'auto'"),
    "hand's seed": (lambda: lvdreg.register_hand(CLOUD, seed=1.5), UsageError, "a whole number, got 1.5"),
    "a photo": (lambda: lvdreg.register_image(5), PhotoError, r"expected a photo \(H, W, 3\)"),
    "mask": (lambda: lvdreg.register_image(PICTURE, mask=CLOUD), UsageError, "mask: expected 'auto', 'none'"),
    "person": (lambda: lvdreg.register_image(PICTURE, person=ANY), UsageError, "person: expected a whole number"),
    "height": (lambda: lvdreg.register_image(PICTURE, height=ANY), UsageError, "height: expected metres or None"),
    "people": (lambda: lvdreg.register_people(PICTURE, model=ANY), UsageError, "model: expected the name of a model"),
    "a file": (lambda: lvdreg.read_scan(ANY), ScanError, "path: expected a file, got {'a'"),
    "a body's name": (lambda: lvdreg.load_body(ANY), BodyError, "name: expected the name of a body"),
    "a body's arrays": (lambda: lvdreg.BodyModel(ANY), BodyError, "data: expected the arrays of a body"),
    "betas": (
        lambda: lvdreg.load_body()(lvdreg.BodyParams(ZEROS(3), ZEROS(52, 3), ZEROS(3))),
        BodyError, r"betas: expected shape \(..., \d+\) for body anny, got \(3,\)",
    ),
    "pose": (
        lambda: lvdreg.load_body()(lvdreg.BodyParams(ZEROS(lvdreg.load_body().num_betas), ZEROS(7, 3), ZEROS(3))),
        BodyError, r"pose: expected shape \(..., \d+, 3\) for body anny, got \(7, 3\)",
    ),
    "faces": (lambda: scan_from_arrays(CLOUD, FACES[:, [0, 1, 2, 0]]), ScanError, r"expected faces of shape \(N, 3\)"),
    "colors": (lambda: scan_from_arrays(CLOUD, colors="red"), ScanError, r"colors of shape \(500, 3\), got \(\)"),
    "a scan's points": (
        lambda: lvdreg.Scan(CLOUD[:, :2], None, None, None, "flat"),
        ScanError, r"points: expected float64 of shape \(N, 3\), got float64 of shape \(500, 2\); scan_from_arrays",
    ),
    "a scan's normals": (
        lambda: lvdreg.Scan(CLOUD, None, CLOUD[:9], None, "few"),
        ScanError, r"normals: expected float64 of shape \(500, 3\), got float64 of shape \(9, 3\)",
    ),
    "a scan's faces": (
        lambda: lvdreg.Scan(CLOUD, FACES.astype(float), None, None, "real"), ScanError, "faces: expected int64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("no_type_checks")
def test_users_get_a_line_of_their_own(case: str) -> None:
    call, error, line = REFUSED[case]
    with pytest.raises(error, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)
