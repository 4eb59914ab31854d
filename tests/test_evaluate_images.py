"""The benchmark of photos: who sits, how bodies are aligned and measured, tables, convergence; with known answers."""

import importlib.util
import json
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from fake_network import Known, Seen
from fake_photo import KnownImageNet
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from lvdreg import evaluate
from lvdreg.base.errors import CheckpointError, OutputError, PhotoError, RegistrationError, UsageError
from lvdreg.body import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.cli import app
from lvdreg.evaluate import convergence, images, placement
from lvdreg.evaluate import subjects as photo_subjects
from lvdreg.evaluate.placement import AS_SEEN, MOVED
from lvdreg.evaluate.plot import draw_panels
from lvdreg.evaluate.subjects import BROAD, STANDING, PhotoSubject, RenderedView, facing, photograph, read_photo_subject
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.geometry.metrics import Surface
from lvdreg.image.crop import Camera, Crop
from lvdreg.image.regressor import Regressed, RegressorConfig, RegressorNet, RegressorNetConfig
from lvdreg.synth.subjects import Material, Pixels, Subjects
from lvdreg.synth.surface import Outer

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here is about places, not about pixels."""
    monkeypatch.setattr(photo_subjects, "SIZE", 64)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("anny")


def grey(pixels: Pixels) -> Material:
    nothing = torch.zeros(len(pixels.bary))
    return Material(torch.full((len(nothing), 3), 0.5), nothing, nothing)


def naked(
    seed: int = 0, yaw: float = 0.0, name: str = "somebody", pose: str = STANDING, model: BodyModel | None = None
) -> PhotoSubject:
    """Somebody with nothing on, in a pose that is near to rest, turned about the vertical."""
    body, generator = model or load_body("anny"), torch.Generator().manual_seed(seed)
    turns = 0.15 * torch.randn(1, body.num_joints, 3, generator=generator)
    turns[:, 0] = torch.tensor([0.0, yaw, 0.0])
    params = BodyParams(torch.randn(1, body.num_betas, generator=generator), turns, torch.tensor([[0.3, 1.0, -0.2]]))
    posed = body(params)
    outer = Outer(posed.vertices, body.faces, torch.ones(1, len(body.faces), dtype=torch.bool))
    labels = body.weights.argmax(-1)[None]
    subjects = Subjects(outer, grey, labels, body.v_template[None], params, posed.vertices, posed.joints)
    return PhotoSubject(
        name, subjects, Surface(posed.vertices[0].double().numpy(), body.data.faces), params, True, (pose,)
    )


@cache
def rendered_view(view: int = 0) -> RenderedView:
    """One photo of somebody; views are told apart, nobody may change it."""
    return photograph(naked(), (view,), load_body("anny"))[0]


def sphere(radius: float, at: Sequence[float] = (0, 0, 0)) -> Surface:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Surface(np.array(mesh.vertices) + at, np.array(mesh.faces, np.int64))


# ---- how bodies are placed


def test_a_body_is_placed_where_its_own_camera_saw_it() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    true = Camera(80.0, np.array([30.0, 34.0]))
    origin = np.array([0.2, -0.1, 0.4])
    # Found 1.3 times as large, about another origin: seen alike.
    found, camera = 1.3 * (points - origin), Camera(80.0 / 1.3, true.project(origin))
    np.testing.assert_allclose(camera.project(found), true.project(points), atol=1e-9)
    np.testing.assert_allclose(placement.placed(found, camera, true), points - [0, 0, 0.4], atol=1e-9)
    kept = placement.placed(found, camera, true, size_is_told=True)
    np.testing.assert_allclose(np.ptp(kept, axis=0), 1.3 * np.ptp(points, axis=0))
    np.testing.assert_allclose(kept - found, np.broadcast_to([0.2, -0.1, 0], found.shape), atol=1e-9)


def test_the_best_depth_is_the_best_of_all(body: BodyModel) -> None:
    truth, points = rendered_view().surface, rendered_view().mean_bodies["mean body in the true pose"]
    found = placement.at_best_depth(Surface(points + [0, 0, 0.23], body.data.faces), truth)
    np.testing.assert_array_equal(found[:, :2], points[:, :2])
    assert np.ptp(found[:, 2] - points[:, 2]) < 1e-12

    def mean_distance(shift: float) -> float:
        d = placement.distances(found + [0, 0, shift], body.data.faces, truth)
        return d.v2v

    assert mean_distance(0) < min(mean_distance(shift) for shift in (0.02, -0.02, 0.1, -0.1, 0.25))


def test_the_true_body_is_found_again_from_any_depth_and_place() -> None:
    truth = rendered_view().surface
    again = placement.at_best_depth(Surface(truth.points + [0, 0, -0.31], truth.faces), truth)
    assert np.abs(again - truth.points).max() < 5e-4
    again = placement.at_best_place(Surface(1.07 * truth.points + [0.03, -0.04, 0.02], truth.faces), truth)
    assert np.abs(again - truth.points).max() < 2e-3


def test_aligning_never_turns() -> None:
    turn = rotvec_to_rotmat(torch.tensor([0.0, 0.3, 0.0]).double()).numpy()
    points = rendered_view().surface.points @ turn.T
    model = Surface(points, rendered_view().surface.faces)
    for align in (placement.at_best_depth, placement.at_best_place):
        moved = align(model, rendered_view().surface)
        bones = (moved - moved[0]) / np.linalg.norm(moved[-1] - moved[0])
        np.testing.assert_allclose(bones, (points - points[0]) / np.linalg.norm(points[-1] - points[0]), atol=1e-6)


def test_distances_between_spheres_are_the_difference_of_their_radii() -> None:
    d = placement.distances(sphere(0.52).points, sphere(0.52).faces, sphere(0.5))  # type: ignore[arg-type]
    assert d.v2s == pytest.approx(20, abs=0.3) and d.v2s_model == pytest.approx(20, abs=0.3)
    assert d.v2v >= d.v2s and d.v2v_model == pytest.approx(20, abs=0.3)


def test_corresponding_vertices_are_aligned_by_themselves(body: BodyModel) -> None:
    true, faces = rendered_view().vertices, body.data.faces
    off = placement.corresponding(true + [0.003, 0.004, 0.7], true, faces, AS_SEEN)
    np.testing.assert_allclose(off, 5.0, atol=1e-6)
    assert placement.corresponding(1.2 * true + [0.3, 0.4, 0.7], true, faces, MOVED).max() < 1e-6
    tilted = true + np.stack([0 * true[:, 0], 0 * true[:, 0], 0.1 * true[:, 1]], 1)
    by_area = np.average(placement.corresponding(tilted, true, faces, AS_SEEN), weights=vertex_areas(true, faces))
    areas, height = vertex_areas(true, faces), true[:, 1]
    assert by_area == pytest.approx(
        1000 * np.average(np.abs(0.1 * (height - np.average(height, weights=areas))), weights=areas)
    )


# ---- who sits


@pytest.mark.parametrize("yaw", [0.0, 1.2, -2.5])
def test_people_are_seen_from_the_way_they_face(yaw: float, toy_body: BodyModel) -> None:
    one = naked(yaw=yaw, model=toy_body)
    assert float(facing(one.params)) == pytest.approx(yaw, abs=1e-5)
    front, turned = (photograph(who, (0,), toy_body)[0] for who in (naked(model=toy_body), one))
    np.testing.assert_allclose(turned.vertices, front.vertices, atol=1e-5)
    # Boxes along the world's axes have other middles: the camera stands a little elsewhere.
    np.testing.assert_allclose(turned.camera.scale, front.camera.scale, rtol=0.03)


def test_who_lies_is_seen_as_one_who_bends() -> None:
    params = naked().params
    on_the_back = rotvec_to_rotmat(torch.tensor([-math.pi / 2, 0.0, 0.0]))  # the hips face up, the head is at -z
    for turn in (0.0, 1.0):
        root = rotvec_to_rotmat(torch.tensor([0.0, turn, 0.0])) @ on_the_back
        pose = params.pose.clone()
        pose[0, 0] = rotmat_to_rotvec(root)
        assert float(facing(BodyParams(params.betas, pose, params.transl))) == pytest.approx(turn, abs=1e-5)


def test_views_go_around_by_the_left(body: BodyModel) -> None:
    head, left, right = (body.joint_names.index(name) for name in ("head", "left_wrist", "right_wrist"))
    mine = body.data.weights.argmax(1)
    front, side, back = (rendered_view(view).vertices for view in (0, 90, 180))
    assert front[mine == left].mean(0)[0] > 0.1 > front[mine == right].mean(0)[0], "the left hand is on the right"
    assert side[mine == left].mean(0)[2] > side[mine == right].mean(0)[2] + 0.2, "the left hand is nearer"
    assert back[mine == left].mean(0)[0] < -0.1
    assert all(v[mine == head].mean(0)[1] > 0.3 for v in (front, side, back))
    np.testing.assert_allclose(
        np.linalg.norm(side[::50, None] - side[None, ::50], axis=-1),
        np.linalg.norm(front[::50, None] - front[None, ::50], axis=-1),
        atol=1e-5,
    )


def test_a_photo_shows_its_truth(body: BodyModel) -> None:
    shot = rendered_view(90)
    pixels = np.floor(shot.camera.project(shot.vertices)).astype(int).clip(0, 63)
    # The camera of the truth is weak and that of the picture is not: rims may differ by a pixel.
    assert (shot.mask[pixels[:, 1], pixels[:, 0]] > 0).mean() > 0.9
    rows = np.flatnonzero((shot.mask > 0.5).any(1))
    assert 50 <= rows[-1] - rows[0] + 1 <= 56, "the person fills 85 % of 64 pixels"
    assert shot.rgb[0, 0].tolist() == [140, 140, 140] and shot.mask[0, 0] == 0
    assert shot.photo.alpha is not None and shot.photo.size == (64, 64)
    pelvis = naked().subjects.joints[0, 0].double().numpy()
    assert np.abs(shot.vertices).max() < 1.5 and np.abs(pelvis).max() > 0.5, "the origin is the pelvis"
    assert shot.height == pytest.approx(float(np.ptp(body.rest(naked().params.betas)[0][0, :, 1].numpy())), abs=1e-3)
    assert shot.digest() == photograph(naked(), (90,), body)[0].digest() != rendered_view(0).digest()


def test_mean_bodies_stand_where_the_true_one_does(body: BodyModel) -> None:
    shot = rendered_view(180)
    rest, posed = shot.mean_bodies["mean body at rest"], shot.mean_bodies["mean body in the true pose"]
    assert np.linalg.norm(rest.mean(0) - shot.vertices.mean(0)) < 0.2
    errors = [np.linalg.norm(v - shot.vertices, axis=1).mean() for v in (rest, posed)]
    assert errors[1] < 0.6 * errors[0]


def test_standing_people_stand(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = BodyParams.zeros(body, (1,))
    assert photo_subjects.stands(body, rest)
    bent, raised, lying = (rest.pose.clone() for _ in range(3))
    bent[0, body.joint_names.index("left_hip")] = torch.tensor([-1.2, 0.0, 0.0])
    raised[0, body.joint_names.index("right_shoulder")] = torch.tensor([0.0, 0.0, -2.2])
    lying[0, 0] = torch.tensor([-math.pi / 2, 0.0, 0.0])
    for pose in (bent, raised, lying):
        assert not photo_subjects.stands(body, BodyParams(rest.betas, pose, rest.transl))
    draws = iter([bent, lying, rest.pose, rest.pose])
    one = naked()
    fake = SimpleNamespace(
        params=lambda _count, _generator: BodyParams(rest.betas, next(draws), rest.transl),
        people=SimpleNamespace(
            dress=lambda params, _generator: one.subjects,
            stream=SimpleNamespace(params=lambda _count, _generator: BodyParams(rest.betas, lying, rest.transl)),
        ),
    )
    monkeypatch.setattr(photo_subjects, "_stream", lambda model: fake)
    standing, broad = (
        photo_subjects.draw_character("anny", 3, 5, STANDING),
        photo_subjects.draw_character("anny", 3, 5, BROAD),
    )
    assert torch.equal(standing.params.pose, rest.pose) and torch.equal(broad.params.pose, lying)
    assert (standing.name, broad.name) == ("standing_3_0005", "broad_3_0005")


def test_scans_sit_in_the_frame_of_their_registration(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = naked(yaw=0.5)
    T_scan_model = np.eye(4)
    T_scan_model[:3, 3] = [5.0, 2.0, 1.0]
    mesh = trimesh.Trimesh(one.surface.points + T_scan_model[:3, 3], one.surface.faces, process=False)
    mesh.export(tmp_path / "007.ply")
    params = {
        "betas": one.params.betas[0].numpy(),
        "global_orient": one.params.pose[0, 0].numpy(),
        "transl": one.params.transl[0].numpy(),
        "body_pose": np.zeros(63, np.float32),
        "left_hand_pose": np.zeros(45, np.float32),
        "right_hand_pose": np.zeros(45, np.float32),
    }
    calls: list[Path] = []

    def fake(path: Path, **asked: Any) -> Any:
        calls.append(path)
        assert asked == {"model": "anny", "unit": "m", "up": "+y"}
        return SimpleNamespace(params=params, T_scan_model=T_scan_model, verdict="good", reason="well")

    monkeypatch.setattr(photo_subjects, "register", fake)
    for _ in range(2):
        found = read_photo_subject(tmp_path / "007.ply", "anny", tmp_path / "kept", "key")
    assert len(calls) == 1, "what was registered once is kept"
    np.testing.assert_allclose(found.surface.points, one.surface.points, atol=1e-5)
    assert not found.is_exact and float(facing(found.params)) == pytest.approx(0.5, abs=1e-5)
    shots = photograph(found, (0, 90), body)
    assert all((shot.mask > 0.5).mean() > 0.05 and not shot.is_exact for shot in shots)

    def failing(path: Path, **asked: Any) -> Any:
        raise RegistrationError("too odd")

    monkeypatch.setattr(photo_subjects, "register", failing)
    with pytest.raises(RegistrationError, match="too odd"):
        read_photo_subject(tmp_path / "007.ply", "anny", tmp_path / "other", "key")


# ---- the whole benchmark


Answer = Callable[[RenderedView], Any]


def answer(shot: RenderedView, scale: float = 1.0, off: Sequence[float] = (0.0, 0.0, 0.0), betas: float = 1.0) -> Any:
    """What registering gives that finds the body ``scale`` times as large, but seen alike, and off by a vector."""
    moved = scale * (shot.vertices + np.array(off))
    wave = np.linspace(0.99, 1.01, len(moved))
    return SimpleNamespace(
        steps={"descent": moved + scale * np.array([0.012, 0, 0]) * wave[:, None], "fit": moved},
        vertices=moved + scale * np.array([1e-5, 0, 0]) * wave[:, None],
        camera=Camera(shot.camera.scale / scale, shot.camera.centre),
        sigma_mm=np.linspace(9.0, 11.0, len(moved)) * scale,
        params={"betas": betas * shot.betas},
        metrics={"silhouette_iou_fit": 0.7, "silhouette_iou": 0.9, "height_m": shot.height + 0.05},
        keypoints=None,
        verdict="good",
        reason="all is well",
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_body: BodyModel) -> Callable[..., Any]:
    """Run the benchmark on small figures, with an answer for each photo."""
    shots: dict[str, RenderedView] = {}

    def watched(photo_subject: PhotoSubject, views: Sequence[int], body: BodyModel) -> list[RenderedView]:
        taken = photograph(photo_subject, views, body)
        shots.update({shot.photo.name: shot for shot in taken})
        return taken

    def benchmark(respond: Answer, **options: Any) -> Any:
        monkeypatch.setattr(images, "register_image", lambda photo, **asked: respond(shots[photo.name]))
        return images.evaluate_images(**{"num": 2, "views": (0, 90), "out": tmp_path / "out", **options})

    monkeypatch.setattr(images, "photograph", watched)
    monkeypatch.setattr(
        images,
        "draw_character",
        lambda model, seed, i, pose: naked(7 * i + len(pose), name=f"{pose}_{i}", pose=pose, model=toy_body),
    )
    monkeypatch.setattr(images, "load_body", lambda model: toy_body)
    return benchmark


def test_a_perfect_registration_of_any_size_has_no_error(run: Callable[..., Any]) -> None:
    calls: list[tuple[int, int, str]] = []
    table = run(lambda shot: answer(shot, 1.4, (0, 0, 0.6)), progress=lambda *call: calls.append(call))
    figures = {(row.method, row.metric): row.summary for row in table.rows}
    for group in ("characters standing", "characters in any pose"):
        final = figures["network, fit, silhouette", f"corresponding vertex, {group}"]
        assert final.count == 2 and final.max_mm < 0.02
        assert figures["network, fit, silhouette", f"V2S, {group}"].max_mm < 0.3
        assert figures["network alone", f"corresponding vertex, {group}"].mean_mm == pytest.approx(12, abs=0.1)
        assert figures["mean body at rest", f"V2S, {group}"].mean_mm > 5
    assert [call[:2] for call in calls] == [(i, 4) for i in range(1, 5)] and calls[0][2] == "standing_0 at 0 degrees"
    # Sigma is about 10 mm at true scale; the descent is 12 off, more or less, the final body nowhere.
    sigma = table.details["sigma"]
    assert sigma["descent"]["within_1_sigma"] == 0 and sigma["descent"]["within_2_sigma"] == 1
    assert sigma["final"]["within_1_sigma"] == 1
    text = table.render()
    assert "IoU of body and mask 0.700 after the fit, 0.900" in text and "height off by 50 mm" in text
    assert "keypoints were found in 0%" in text and "not comparable one to one" in text
    assert len(json.loads(table.to_json())["details"]["by_view"]) == 4


def test_sideways_errors_stay_unless_bodies_are_moved(run: Callable[..., Any]) -> None:
    table = run(lambda shot: answer(shot, 1.0, (0.02, 0.0, 0.0)), num=1, views=(0,))
    seen, moved = (next(part for part in table.by_view if part.title.endswith(how)) for how in (AS_SEEN, MOVED))
    ours = {part.title: {name: v2s for name, _, v2s in part.rows} for part in (seen, moved)}
    assert ours[seen.title]["network, fit, silhouette"][0] > 5
    assert ours[moved.title]["network, fit, silhouette"][0] < 0.5
    assert "SPIN" not in seen.shown().markdown(), "the paper's views are others"


def test_told_heights_leave_the_size_as_it_was_found(run: Callable[..., Any]) -> None:
    def mean_of(**options: Any) -> float:
        table = run(lambda shot: answer(shot, 1.05), num=1, views=(0,), **options)
        return next(
            row.summary.mean_mm
            for row in table.rows
            if row.method == "network, fit, silhouette" and row.metric.startswith("corresponding")
        )

    assert mean_of() < 0.02
    assert mean_of(with_height=True) > 10, "the body is five per cent too large, and nobody shrinks it"


def test_results_are_kept_and_failures_are_missing(run: Callable[..., Any]) -> None:
    asked: list[str] = []

    def respond(shot: RenderedView) -> Any:
        asked.append(f"{shot.name} {shot.view}")
        if shot.view == 90:
            raise PhotoError("nobody there")
        return answer(shot)

    first, second = run(respond), run(respond)
    assert len(asked) == len(set(asked)) == 4
    assert first.to_json() == second.to_json()
    row = next(r for r in first.rows if r.method == "network alone" and r.metric == "V2S, characters standing")
    assert (row.summary.count, row.summary.missing, row.summary.failures) == (2, 1, 1)
    by_view = next(part for part in first.by_view if part.title == "characters standing, as seen")
    assert all(
        np.isnan(v2v[1]) and np.isfinite(v2v[0]) for name, v2v, _ in by_view.rows if name in images.STAGES.values()
    )
    assert "| -" in by_view.shown().markdown().replace("  ", " ")

    def never(shot: RenderedView) -> Any:
        raise PhotoError("nobody anywhere")

    with pytest.raises(RegistrationError, match="nobody anywhere"):
        run(never, seed=1)


def test_all_views_of_the_paper_stand_beside_its_rows(run: Callable[..., Any]) -> None:
    table = run(answer, num=1, views=(0, 90, 180, 270))
    text = table.by_view[0].shown().markdown()
    spin = next(line for line in text.splitlines() if line.startswith("| SPIN"))
    assert "LVD paper, table 1: BUFF" in spin and "41.9 |" in spin
    assert len({len(line) for line in text.splitlines()[2:]}) == 1, "columns are aligned"
    head = [cell.strip() for cell in text.splitlines()[2].strip("|").split("|")]
    assert head[:6] == ["method", "V2V 0", "V2V 90", "V2V 180", "V2V 270", "V2V mean"] and head[-1] == "V2S mean"


def test_shapes_are_compared_component_by_component(run: Callable[..., Any]) -> None:
    table = run(lambda shot: answer(shot, betas=-0.5), num=6, views=(0,))
    shape = table.details["shape"]["lvdreg, characters standing"]
    np.testing.assert_allclose(shape["std"], 0.5 * shape["true_std"])
    np.testing.assert_allclose(shape["correlation"], -1.0)
    assert f"of the truth {shape['true_std'][1]:.2f}; correlation with the truth -1.00" in table.render()


def test_correlation_is_pearsons() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 30, 4))
    b += 0.5 * a
    np.testing.assert_allclose(images.correlations(a, b), [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(4)])
    assert images.correlations(0 * a, b).tolist() == [0, 0, 0, 0]


def test_the_regressor_is_measured_where_it_puts_the_body(body: BodyModel) -> None:
    shot = rendered_view()

    class Told(RegressorNet):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.config = RegressorNetConfig("anny", 50, 52, RegressorConfig(size=64))

        def forward(self, image: torch.Tensor, mask: torch.Tensor, keypoints: torch.Tensor | None = None) -> Regressed:
            assert keypoints is not None
            assert keypoints.shape == (1, len(RegressorConfig.keypoints), 3)
            assert image.shape == (1, 3, 64, 64) and mask.shape == (1, 1, 64, 64)
            one = naked().params
            crop = images.crop_around(shot.rgb, shot.mask, images.CutConfig(), 64)
            pelvis = torch.from_numpy(crop.to_unit(shot.camera.centre)).float()
            unit = 2 * shot.camera.scale / crop.side
            return Regressed(one.betas, rotvec_to_rotmat(one.pose), torch.tensor([unit]), pelvis[None])

    found = images.by_regressor(shot, body, Told())
    assert found["figures"][0, 0, -1] < 0.1 and found["figures"][0, 1, 1] < 0.1
    np.testing.assert_allclose(found["betas"], shot.betas, atol=1e-6)


def test_only_a_regressor_is_a_regressor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "load_network", lambda path: (SimpleNamespace(), {}))
    with pytest.raises(CheckpointError, match="expected a direct regressor"):
        images.regressor_of(Path("voxel.safetensors"), "anny")


def test_wrong_options_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert images.views_of("0, 90,-15") == (0, 90, -15)
    for call in (
        lambda: images.views_of("front"),
        lambda: images.evaluate_images(views=(0, 0)),
        lambda: images.evaluate_images(num=0),
        lambda: convergence.evaluate_convergence(num=0),
    ):
        with pytest.raises(UsageError):
            call()
    monkeypatch.delenv("LVDREG_REAL_DATA", raising=False)
    assert images.known_faust() is None
    (tmp_path / "bodies" / "faust").mkdir(parents=True)
    monkeypatch.setenv("LVDREG_REAL_DATA", str(tmp_path))
    assert images.known_faust() == tmp_path / "bodies" / "faust"


def test_the_command_passes_everything_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}
    table = SimpleNamespace(to_json=lambda: "{}", render=lambda: "the table")

    def fake(*given: Any, **more: Any) -> Any:
        asked.update(given=given, **more)
        return table

    monkeypatch.setattr(evaluate, "evaluate_images", fake)
    monkeypatch.setattr(evaluate, "evaluate_convergence", lambda *given, **_: asked.update(convergence=given) or table)
    monkeypatch.delenv("LVDREG_REAL_DATA", raising=False)
    words = ["evaluate", "images", "--num", "4", "--views", "0,45", "--height", "--starts", "3", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "the table" in result.output, result.output
    assert asked["given"] == (4, 0, (0, 45), None, None, "anny", tmp_path)
    assert asked["with_height"] and asked["device"] == "cpu" and asked["regressor"] is None
    assert asked["convergence"] == (5, 3, 0, (0, 45), "anny", tmp_path)
    assert (tmp_path / "table.json").is_file() and (tmp_path / "convergence" / "table.json").is_file()


# ---- convergence


class Halfway(Known):
    """Takes every vertex half of its way."""

    def forward(self, features: Any, points: torch.Tensor, vertices: torch.Tensor | None = None) -> torch.Tensor:
        return 0.5 * super().forward(features, points, vertices)


def test_convergence_is_measured_by_iteration_part_and_start(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(net: Any, crop: Crop, keypoints: Any, config: Any) -> Any:
        true, _ = convergence.true_in_crop(rendered_view(), crop)
        net.field = Halfway(torch.from_numpy(true).float())
        return SimpleNamespace(features=Seen(torch.zeros(1)))

    shown = SimpleNamespace(mask=rendered_view().mask, keypoints=None)
    monkeypatch.setattr(convergence, "people_shown", lambda photo, mode: [shown])
    monkeypatch.setattr(convergence, "descend_crop", seen)
    monkeypatch.setattr(convergence, "draw_character", lambda model, seed, i, pose: naked())
    net = KnownImageNet(Halfway(torch.zeros(body.num_vertices, 3)))
    monkeypatch.setattr(convergence, "image_weights", lambda model, device: SimpleNamespace(net=net))
    table = convergence.evaluate_convergence(1, 3, 0, (0,), "anny", tmp_path)
    curves = table.details["curves_mm"]
    for start in (convergence.POINT, convergence.TPOSE, convergence.RANDOM):
        whole = curves[start]["whole body"]
        assert len(whole) == 11 and set(curves[start]) == set(convergence.COLOURS)
        np.testing.assert_allclose(whole[1:] / whole[:-1], 0.5, rtol=2e-2)
    assert curves["a point"]["shins and feet"][0] > 1.3 * curves["a point"]["torso"][0], "feet have the longest way"
    spread = table.details["spread_mm"][0]
    assert 0 < spread < 1.0 and "this is robustness, not uncertainty" in table.render()
    picture = np.asarray(Image.open(tmp_path / "convergence.png").convert("RGB"))
    assert all((picture == colour).all(-1).any() for colour in convergence.COLOURS.values())
    # Drawn again over its own, but over no picture of others.
    convergence.evaluate_convergence(1, 3, 0, (0,), "anny", tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "convergence.png")
    monkeypatch.setattr(convergence, "draw_character", lambda *_: 1 / 0)
    with pytest.raises(OutputError, match=r"convergence\.png: is not lvdreg's"):
        convergence.evaluate_convergence(1, 3, 0, (0,), "anny", tmp_path)
    with Image.open(tmp_path / "convergence.png") as picture:
        assert picture.size == (9, 9)


def test_errors_along_the_way_do_not_count_the_unknown_depth() -> None:
    true = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(0))
    along = [true + torch.tensor([0.0, 0.0, 7.0]), true + torch.tensor([0.3, 0.4, -2.0])]
    np.testing.assert_allclose(convergence.errors_along(along, true), np.repeat([[0.0], [0.5]], 40, 1), atol=1e-5)


def test_spread_is_the_standard_deviation_of_the_ends(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Still(Known):
        def forward(self, features: Any, points: torch.Tensor, vertices: torch.Tensor | None = None) -> torch.Tensor:
            return torch.zeros_like(points)

    shown = SimpleNamespace(mask=rendered_view().mask, keypoints=None)
    monkeypatch.setattr(convergence, "people_shown", lambda photo, mode: [shown])
    monkeypatch.setattr(
        convergence,
        "descend_crop",
        lambda net, crop, keypoints, config: SimpleNamespace(features=Seen(torch.zeros(1))),
    )
    net = KnownImageNet(Still(torch.zeros(body.num_vertices, 3)))
    found = convergence.descents_on(net, rendered_view(), body, 4, 11)
    starts = convergence.random_bodies(body, 4, 11)[:, :: convergence.EVERY].double().numpy()
    apart = np.sqrt(((starts - starts.mean(0)) ** 2).sum(-1).mean(0))
    crop = images.crop_around(rendered_view().rgb, rendered_view().mask, images.CutConfig(), 256)
    np.testing.assert_allclose(
        found.spread_mm, 1000 * apart * convergence.true_in_crop(rendered_view(), crop)[1], rtol=1e-4
    )
    assert np.all(found.steps_mm == 0)


def test_starts_are_as_large_as_people_in_crops(body: BodyModel) -> None:
    for vertices in (convergence.tpose(body)[None], convergence.random_bodies(body, 3, 0)):
        extent = np.ptp(vertices.numpy(), axis=1)[:, :2].max(-1)
        np.testing.assert_allclose(extent, 1.7, atol=1e-4)
        assert np.abs(vertices.numpy().max(1) + vertices.numpy().min(1)).max() < 1e-4
    parts = convergence.parts_of(body)
    assert set(parts) == set(convergence.COLOURS) - {"whole body"}
    assert parts[body.v_template[:, 1].argmax()] == "head" and parts[body.v_template[:, 1].argmin()] == "shins and feet"
    assert parts[body.v_template[:, 0].argmax()] == "forearms and hands"


def test_true_places_in_a_crop_are_those_seen_in_the_photo() -> None:
    crop = images.crop_around(rendered_view().rgb, rendered_view().mask, images.CutConfig(), 64)
    unit, metres = convergence.true_in_crop(rendered_view(), crop)
    np.testing.assert_allclose(crop.to_photo(unit), rendered_view().camera.project(rendered_view().vertices), atol=1e-9)
    np.testing.assert_allclose(np.ptp(unit, axis=0) * metres, np.ptp(rendered_view().vertices, axis=0), rtol=1e-9)


def test_what_falls_goes_down_in_a_plot(tmp_path: Path) -> None:
    falls = {"a": np.array([4.0, 2.0, 0.0]), "b": np.array([1.0, 1.0, 1.0])}
    colours = {"a": (255, 0, 0), "b": (0, 0, 255)}
    assert draw_panels(tmp_path / "one.png", {"one": falls, "two": falls}, colours, "step", "mm") is None
    image = np.asarray(Image.open(tmp_path / "one.png").convert("RGB"))
    red = np.argwhere((image == (255, 0, 0)).all(-1))
    red = red[(red[:, 1] < image.shape[1] / 2) & (red[:, 0] < 0.8 * image.shape[0])]
    assert len(red) > 100
    columns = red[:, 1]
    first, last = (red[columns == column][:, 0].mean() for column in (columns.min() + 5, columns.max() - 5))
    assert first < last - 50


def test_a_plot_without_matplotlib_is_a_line_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    missing = draw_panels(tmp_path / "one.png", {"one": {"a": np.ones(3)}}, {"a": (0, 0, 0)}, "step", "mm")
    assert missing is not None and "lvdreg[plots]" in missing and not (tmp_path / "one.png").exists()


# ---- shipping


def test_shipped_calibration_compares_in_the_crop() -> None:
    path = Path(__file__).parent.parent / "scripts" / "ship_weights.py"
    spec = importlib.util.spec_from_file_location("ship_weights", path)
    assert spec is not None and spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    blank = torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)
    whole = Crop(*blank, np.array([32.0, 32.0]), 64.0, (-1, 1, -1, 1))
    np.testing.assert_allclose(script.in_crop(points, 64, whole)[0], points, atol=1e-12)
    half = Crop(*blank, np.array([32.0, 16.0]), 32.0, (-1, 1, -1, 1))
    moved, grown = script.in_crop(points, 64, half)
    assert grown == 2
    np.testing.assert_allclose(moved, 2 * points - [0, 1, 0], atol=1e-12)
