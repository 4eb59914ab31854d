"""The benchmark of photos: tables of registrations with known answers, what it keeps, its options."""

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from naked import naked, rendered_view
from typer.testing import CliRunner

from lvdreg import evaluate
from lvdreg.base.errors import CheckpointError, PhotoError, RegistrationError, UsageError
from lvdreg.body.model import BodyModel
from lvdreg.cli import app
from lvdreg.evaluate import convergence, images
from lvdreg.evaluate.placement import AS_SEEN, MOVED
from lvdreg.evaluate.subjects import PhotoSubject, RenderedView, photograph
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.image.camera import Camera
from lvdreg.image.crop import Crop
from lvdreg.image.regressor import Regressed, RegressorConfig, RegressorNet, RegressorNetConfig

pytestmark = pytest.mark.usefixtures("small_photos")


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

    def watched(
        photo_subject: PhotoSubject, views: Sequence[int], body: BodyModel, distance: float
    ) -> list[RenderedView]:
        taken = photograph(photo_subject, views, body, distance)
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


def test_what_refinement_changed_is_said_by_group(run: Callable[..., Any]) -> None:
    def grown(shot: RenderedView) -> Any:
        """A right fit, which refinement makes thicker by a tenth."""
        found = answer(shot)
        found.vertices = found.vertices * [1.1, 1.0, 1.0]
        return found

    words = run(answer, num=1, gowned=2, views=(0,)).details["refinement"]
    assert list(words) == ["characters standing", "characters standing in skirts and coats"]
    assert "0.0 after" in words["characters standing"] and "in 0 of 2 photos" in list(words.values())[1]
    worse = run(grown, num=0, gowned=1, views=(0,), seed=1)
    said = worse.details["refinement"]["characters standing in skirts and coats"]
    assert "in 1 of 1 photos" in said and "10% at most, off by 0% before and 10% after" in said
    assert f"refinement, characters standing in skirts and coats: {said}" in worse.notes


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

        def steps(
            self, image: torch.Tensor, mask: torch.Tensor, keypoints: torch.Tensor | None = None
        ) -> list[Regressed]:
            assert keypoints is not None
            assert keypoints.shape == (1, len(RegressorConfig.keypoints), 3)
            assert image.shape == (1, 3, 64, 64) and mask.shape == (1, 1, 64, 64)
            one = naked().params
            crop = images.crop_around(shot.rgb, shot.mask, images.CutConfig(), 64)
            pelvis = torch.from_numpy(crop.to_unit(shot.camera.centre)).float()
            unit = 2 * shot.camera.scale / crop.side
            return [Regressed(one.betas, rotvec_to_rotmat(one.pose), torch.tensor([unit]), pelvis[None])]

    found = images.by_regressor(shot, body, Told())
    assert found["figures"][0, 0, -1] < 0.1 and found["figures"][0, 1, 1] < 0.1
    np.testing.assert_allclose(found["betas"], shot.betas, atol=1e-6)


def test_only_a_regressor_is_a_regressor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "load_network", lambda path: (SimpleNamespace(), {}))
    with pytest.raises(CheckpointError, match="expected a regressor"):
        images.regressor_of(Path("voxel.safetensors"), "anny")


def test_wrong_options_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert images.views_of("0, 90,-15") == (0, 90, -15)
    for call in (
        lambda: images.views_of("front"),
        lambda: images.evaluate_images(views=(0, 0)),
        lambda: images.evaluate_images(num=0),
        lambda: images.evaluate_images(distance=0.5),
        lambda: images.evaluate_images(distance=float("nan")),
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
    result = CliRunner().invoke(app, [*words, "--distance", "2", "--focal"])
    assert result.exit_code == 0 and "the table" in result.output, result.output
    assert asked["given"] == (4, 0, (0, 45), None, None, "anny", tmp_path)
    assert asked["with_height"] and asked["device"] == "cpu" and asked["regressor"] is None
    assert asked["distance"] == 2 and asked["with_focal"] and asked["camera"] == "perspective"
    assert asked["convergence"] == (5, 3, 0, (0, 45), "anny", tmp_path)
    assert (tmp_path / "table.json").is_file() and (tmp_path / "convergence" / "table.json").is_file()


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
