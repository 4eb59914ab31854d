"""Hands through the whole pipeline, with a network that knows the answer but for an error: sides, scale, objects."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import lvdreg
from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import UsageError
from lvdreg.base.lengths import HAND_SCALE, scaled
from lvdreg.base.provenance import sha256_of
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.boxes import Box
from lvdreg.fit.correspond import Target
from lvdreg.fit.displace import displace
from lvdreg.fit.scan import refine_body
from lvdreg.fit.vertices import FitConfig, fit_body
from lvdreg.geometry.frames import rotvec_to_rotmat, scale_of, similarity, transform_points
from lvdreg.geometry.mesh import face_normals, sample_surface, unit_rows, vertex_areas
from lvdreg.pipeline.config import HAND, RegisterConfig
from lvdreg.result.scan import Registration
from lvdreg.scan.model import Scan
from lvdreg.voxel.hand_detector import HandDetectorNet, HandDetectorNetConfig
from tests.fake_network import known_weights
from tests.scans import person, scan_of, vertices_of

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
# One view: the fake network does not turn its answer with the views.
SETTINGS = {"num_views": 1}


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("anny-hand")


def predicted(body: BodyModel, vertices: FloatArray, seed: int, size: float = 0.003) -> FloatArray:
    """Vertices as a network would have them: each bone is off by some millimetres, tips more."""
    shifts = size * np.random.default_rng(seed).normal(size=(body.num_joints, 3))
    for joint, parent in enumerate(body.data.parents):
        shifts[joint] += 0.7 * shifts[parent] if parent >= 0 else 0
    return np.asarray(vertices + body.data.weights @ shifts, np.float64)


def mean_mm(body: BodyModel, params: BodyParams, vertices: FloatArray) -> float:
    apart = np.linalg.norm(vertices_of(body, params) - vertices, axis=1)
    return float(1000 * np.average(apart, weights=vertex_areas(vertices, body.data.faces)))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_clean_scan_gives_the_hand_to_less_than_a_millimetre(body: BodyModel, seed: int) -> None:
    truth = person(body, seed, 0.3)
    vertices = vertices_of(body, truth)
    start, sigma = torch.from_numpy(predicted(body, vertices, seed)).float(), torch.full((len(vertices),), 0.005)
    fit = fit_body(body, start, sigma, HAND.fit)
    refined = refine_body(body, fit, scan_of(body, vertices, 8000), sigma, HAND.refine)
    final = displace(body, refined, scan_of(body, vertices, 8000), HAND.displace)
    assert mean_mm(body, fit.params, vertices) > 2
    assert mean_mm(body, refined.params, vertices) < 0.8
    assert mean_mm(body, final.params, vertices) < 0.8
    assert final.residual_mm < 0.1
    assert refined.converged and not refined.warnings


def test_noise_of_a_poor_scanner_is_averaged_out(body: BodyModel) -> None:
    truth = person(body, 2, 0.3)
    vertices = vertices_of(body, truth)
    start, sigma = torch.from_numpy(predicted(body, vertices, 2)).float(), torch.full((len(vertices),), 0.005)
    fit = fit_body(body, start, sigma, HAND.fit)
    noisy = scan_of(body, vertices, 8000, noise=0.002)
    assert mean_mm(body, refine_body(body, fit, noisy, sigma, HAND.refine).params, vertices) < 1.2


def lengths_of(config: Any) -> dict[str, Any]:
    """Every value of nested settings by its path, and whether it is marked as a length."""
    found: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            found |= {f"{item.name}.{name}": entry for name, entry in lengths_of(value).items()}
        else:
            found[item.name] = (item.metadata.get("is_length", False), value)
    return found


def test_scaling_settings_scales_lengths_and_nothing_else() -> None:
    before, after = lengths_of(RegisterConfig()), lengths_of(scaled(RegisterConfig(), 0.5))
    assert before.keys() == after.keys()
    for name, (is_length, value) in before.items():
        expected = tuple(0.5 * np.array(value).ravel()) if is_length else value
        got = tuple(np.array(after[name][1]).ravel()) if is_length else after[name][1]
        assert got == expected, name
    assert {"fit.sigma", "refine.kernel", "displace.smoothing", "verdict.sigma_mean_mm"} <= {
        name for name, (is_length, _) in before.items() if is_length
    }
    assert HAND.fit == scaled(FitConfig(), HAND_SCALE)


def test_a_hand_of_any_size_is_fitted_alike(body: BodyModel) -> None:
    """The same hand ten times as large, with settings as much larger: the same pose and shape."""
    data = body.data
    large = BodyModel(
        replace(
            data,
            v_template=10 * data.v_template,
            shapedirs=10 * data.shapedirs,
            J_template=10 * data.J_template,
            J_shapedirs=10 * data.J_shapedirs,
        )
    )
    vertices = vertices_of(body, person(body, 3, 0.3))
    start, sigma = torch.from_numpy(predicted(body, vertices, 3)).float(), torch.full((len(vertices),), 0.005)
    target = scan_of(body, vertices, 3000)
    bigger, config = Target(10 * target.points, target.normals), scaled(HAND, 10.0)
    short = replace(HAND.refine, max_iterations=6)
    small_fit = refine_body(body, fit_body(body, start, sigma, HAND.fit), target, sigma, short)
    large_start = fit_body(large, 10 * start, 10 * sigma, config.fit)
    large_fit = refine_body(large, large_start, bigger, 10 * sigma, scaled(short, 10.0))
    small_vertices, large_vertices = vertices_of(body, small_fit.params), vertices_of(large, large_fit.params)
    np.testing.assert_allclose(large_vertices, 10 * small_vertices, atol=1e-3)


def hand_scan(body: BodyModel, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """True vertices (V, 3), and points and normals of a scan, palm frame, metres."""
    vertices = vertices_of(body, replace(person(body, seed, 0.3), transl=torch.zeros(3)))
    points, index, _ = sample_surface(vertices, body.data.faces, 8000, np.random.default_rng(seed))
    return vertices, points, unit_rows(face_normals(vertices, body.data.faces))[index]


def registered(
    monkeypatch: pytest.MonkeyPatch,
    body: BodyModel,
    seed: int,
    hand: str,
    T_scan_palm: FloatArray,
    thing: tuple[FloatArray, FloatArray] | None = None,
    **options: Any,
) -> tuple[Registration, FloatArray]:
    """Register a synthetic hand, or its mirror image for a left one; returns true vertices, scan frame, too.

    ``thing`` is points and normals in the palm frame of what is scanned with it.
    """
    vertices, points, normals = hand_scan(body, seed)
    if thing is not None:
        points, normals = np.concatenate([points, thing[0]]), np.concatenate([normals, thing[1]])
    T_unit_palm = similarity(8.0, np.eye(3), -8.0 * vertices.mean(0))
    T_scan_right = T_scan_palm @ (MIRROR if hand == "left" else np.eye(4))
    T_unit_scan = np.asarray(T_unit_palm @ np.linalg.inv(T_scan_right), np.float64)
    known = torch.from_numpy(transform_points(T_unit_palm, predicted(body, vertices, seed))).float()
    linear = T_scan_right[:3, :3] / scale_of(T_scan_right)
    scan = Scan(transform_points(T_scan_right, points), None, normals @ linear.T, None, hand)
    # ``lvdreg.register`` is the function; the module hides behind it.
    module = import_module("lvdreg.pipeline.scan")
    monkeypatch.setattr(module, "voxel_weights", lambda *_: known_weights(known, 0.04))
    monkeypatch.setattr(module, "clean_scan", lambda scan, _config: scan)
    monkeypatch.setattr(module, "oriented_points", lambda scan, *_: (scan.points, scan.normals))
    detector = SimpleNamespace(net=HandDetectorNet(HandDetectorNetConfig()), files={"weights/detector": "def"})
    monkeypatch.setattr("lvdreg.descent.weights.hand_detector_weights", lambda *_: detector)
    monkeypatch.setattr("lvdreg.descent.hand_boxes.find_hand", lambda *_: [Box(hand, T_unit_scan, 0.97)])
    result = lvdreg.register_hand(scan, settings=SETTINGS, **options)
    return result, transform_points(T_scan_right, vertices)


TURN = rotvec_to_rotmat(torch.tensor([0.4, -2.0, 1.0])).double().numpy()
T_SCAN_PALM = similarity(1000.0, TURN, np.array([300.0, -20.0, 5000.0]))


@pytest.fixture(scope="module")
def both(body: BodyModel) -> Iterator[tuple[Registration, Registration]]:
    """A right hand, and the left one that is its image in the scan's mirror x = 0."""
    monkeypatch = pytest.MonkeyPatch()
    right, _ = registered(monkeypatch, body, 0, "right", T_SCAN_PALM, model="anny-hand+d")
    # MIRROR @ T_SCAN_PALM @ MIRROR is the proper similarity under which the mirrored scan is a mirrored hand.
    left, _ = registered(monkeypatch, body, 0, "left", MIRROR @ T_SCAN_PALM @ MIRROR, model="anny-hand+d")
    yield right, left
    monkeypatch.undo()


def test_stages_add_up_to_the_whole_and_files_to_all_that_were_loaded(
    monkeypatch: pytest.MonkeyPatch, body: BodyModel
) -> None:
    """By a clock that knows no rest: every reading is a second after the one before."""
    readings: list[float] = []

    def perf_counter() -> float:
        readings.append(float(len(readings)))
        return readings[-1]

    monkeypatch.setattr("lvdreg.base.timing.time", SimpleNamespace(perf_counter=perf_counter))
    result, _ = registered(monkeypatch, body, 0, "right", T_SCAN_PALM, model="anny-hand+d")
    assert list(result.timings) == ["load", "read", "descend", "uncertainty", "fit", "refine", "displace", "assess"]
    assert sum(result.timings.values()) == readings[-1] - readings[0]
    names = ("bodies/anny-hand.npz", "priors/errors-anny-hand.json")
    free = {name: sha256_of(assets_dir() / name) for name in names}
    assert result.assets == {**free, "weights/known": "abc", "weights/detector": "def"} and result.source is None


def test_two_threads_give_bit_for_bit_what_one_gives(
    both: tuple[Registration, Registration], body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blas_threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def again(_: int) -> Registration:
        return registered(monkeypatch, body, 0, "right", T_SCAN_PALM, model="anny-hand+d")[0]

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(again, range(2)))
        assert blas_threads() == before
    for result in results:
        for found, alone in ((result.vertices, both[0].vertices), (result.body_vertices, both[0].body_vertices)):
            np.testing.assert_array_equal(found, alone)


def test_the_mirrored_scan_gives_the_mirrored_hand(both: tuple[Registration, Registration], body: BodyModel) -> None:
    right, left = both
    assert (right.side, left.side) == ("right", "left")
    np.testing.assert_allclose(left.vertices, right.vertices * [-1, 1, 1], atol=1e-3)
    np.testing.assert_allclose(left.joints, right.joints * [-1, 1, 1], atol=1e-3)
    np.testing.assert_allclose(left.params["betas"], right.params["betas"], atol=1e-4)
    assert left.metrics == pytest.approx(right.metrics, rel=1e-3)
    assert (left.unit, left.reason) == (right.unit, right.reason) and left.unit == "mm"
    assert left.verdict == "good", left.reason
    for result in both:
        assert np.linalg.det(result.T_scan_model[:3, :3]) == pytest.approx(1e9)
        # Faces wind outward on both sides: a closed hand has a positive volume.
        a, b, c = (result.vertices[result.faces[:, i]] - result.vertices.mean(0) for i in range(3))
        assert np.einsum("fi,fi->", a, np.cross(b, c)) > 0


def test_parameters_of_a_left_hand_pose_the_mirrored_model(
    both: tuple[Registration, Registration], body: BodyModel
) -> None:
    data, flip = body.data, np.array([-1.0, 1, 1])
    mirrored = BodyModel(
        replace(
            data,
            v_template=(data.v_template * flip).astype(np.float32),
            shapedirs=(data.shapedirs * flip[:, None]).astype(np.float32),
            J_template=(data.J_template * flip).astype(np.float32),
            J_shapedirs=(data.J_shapedirs * flip[:, None]).astype(np.float32),
        )
    )
    for result, model in zip(both, (body, mirrored), strict=True):
        p = {name: torch.from_numpy(np.asarray(value)).float() for name, value in result.params.items()}
        assert set(p) == {"betas", "global_orient", "hand_pose", "transl", "scale", "displacements"}
        pose = torch.cat([p["global_orient"], p["hand_pose"]]).view(-1, 3)
        with torch.no_grad():
            posed = model(BodyParams(p["betas"], pose, p["transl"], p["displacements"])).vertices.double().numpy()
        np.testing.assert_allclose(transform_points(result.T_scan_model, posed), result.vertices, atol=0.01)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_hand_comes_back_where_it_was(monkeypatch: pytest.MonkeyPatch, body: BodyModel, side: str) -> None:
    result, truth = registered(monkeypatch, body, 1, side, T_SCAN_PALM)
    assert (result.unit, result.up, result.side) == ("mm", "", side)
    assert result.side_confidence == pytest.approx(0.97)
    assert np.linalg.norm(result.vertices - truth, axis=1).mean() < 0.8
    assert result.metrics["hand_share"] > 0.99
    assert "height_m" not in result.metrics and 0.12 < result.metrics["length_m"] < 0.24
    assert result.verdict == "good", result.reason


def test_a_larger_thing_apart_pulls_at_nothing(monkeypatch: pytest.MonkeyPatch, body: BodyModel) -> None:
    """A ball with three times the hand's points, 8 cm off the fingers."""
    alone, truth = registered(monkeypatch, body, 1, "right", T_SCAN_PALM)
    normals = unit_rows(np.random.default_rng(0).normal(size=(24_000, 3)))
    ball = 0.08 * normals + [0.25, 0.1, 0]
    beside, _ = registered(monkeypatch, body, 1, "right", T_SCAN_PALM, (ball, normals))
    assert np.linalg.norm(beside.vertices - truth, axis=1).mean() < 0.8
    assert np.linalg.norm(beside.vertices - alone.vertices, axis=1).mean() < 0.3


def test_the_users_side_is_certain(monkeypatch: pytest.MonkeyPatch, body: BodyModel) -> None:
    result, _ = registered(monkeypatch, body, 1, "left", T_SCAN_PALM, side="left")
    assert (result.side, result.side_confidence) == ("left", 1.0)


def test_wrong_words_are_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="--side: expected auto, left or right, got 'both'"):
        lvdreg.register_hand("no-such-file.ply", side="both")
    with pytest.raises(UsageError, match="--unit"):
        lvdreg.register_hand("no-such-file.ply", unit="mile")
