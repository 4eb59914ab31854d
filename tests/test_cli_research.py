"""The command line of those who make networks: ``lvdreg evaluate``, ``train`` and ``augment``."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import fake_module, run

pytestmark = pytest.mark.usefixtures("made_up_registering")
TABLE = '{"title": "", "rows": [], "notes": [], "details": {}}'


class FakeTable:
    """What the benchmarks return."""

    def render(self) -> str:
        return "| faust | 17 |"

    def to_json(self) -> str:
        return TABLE


def test_evaluate_prints_and_keeps_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []

    def faust(
        folder: Path, model: str, limit: int | None, out: Path, with_baseline: bool, progress: Any, **rest: Any
    ) -> FakeTable:
        progress(1, 2, "scan")
        calls.append((folder, model, limit, out, with_baseline, rest))
        return FakeTable()

    def synthetic(
        num: int, seed: int, model: str, out: Path, with_baseline: bool, progress: Any, **rest: Any
    ) -> FakeTable:
        calls.append((num, seed, model, out, with_baseline, rest))
        return FakeTable()

    def hands(num: int, views: str, *args: Any, progress: Any, **rest: Any) -> FakeTable:
        calls.append((num, views, *args, rest))
        return FakeTable()

    def rigged(files: list[Path], model: str, out: Path, progress: Any, **rest: Any) -> FakeTable:
        calls.append((files, model, out, rest))
        return FakeTable()

    def brought(*args: Any, progress: Any, **rest: Any) -> FakeTable:
        calls.append((*args, rest))
        return FakeTable()

    known = {"faust": faust, "synthetic": synthetic, "hands": hands, "rigged": rigged}
    known |= dict.fromkeys(("challenge", "clothed", "shrec19"), brought)
    fake_module(monkeypatch, "lvdreg.evaluate", **{f"evaluate_{name}": run for name, run in known.items()})
    result = run("evaluate", "faust", "data", "--limit", "4", "--no-baseline")
    assert (result.exit_code, result.stdout) == (0, "| faust | 17 |\n")
    assert Path("out/faust/table.json").read_text(encoding="utf-8") == TABLE
    assert run("evaluate", "synthetic", "--num", "3", "--seed", "9").exit_code == 0
    assert run("evaluate", "hands", "--num", "3", "--views", "one-sided").exit_code == 0
    assert run("evaluate", "rigged", "a.glb", "b.glb").exit_code == 0
    assert run("evaluate", "hands", "--model", "anny").exit_code == 2
    assert run("evaluate", "faust", "data", "--challenge", "pairs.txt").exit_code == 0
    assert run("evaluate", "clothed", "data", "--limit", "3", "--quality", "fast").exit_code == 0
    assert run("evaluate", "shrec19", "data", "--seed", "1").exit_code == 0
    assert calls == [
        (Path("data"), "anny+d", 4, Path("out/faust"), False, {"device": "cpu", "seed": 0}),
        (3, 9, "anny+d", Path("out/synthetic"), True, {"device": "cpu"}),
        (3, "one-sided", 0, "anny-hand+d", Path("out/hands"), {"with_baseline": False, "device": "cpu"}),
        ([Path("a.glb"), Path("b.glb")], "anny-hand", Path("out/rigged"), {"device": "cpu", "seed": 0}),
        (Path("data"), Path("pairs.txt"), "anny+d", Path("out/faust"), {"device": "cpu", "seed": 0}),
        (Path("data"), "anny", 3, Path("out/clothed"), {"device": "cpu", "seed": 0, "settings": {"quality": "fast"}}),
        (Path("data"), "anny+d", None, Path("out/shrec19"), {"device": "cpu", "seed": 1}),
    ]


def test_train_shows_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(
        out: Path,
        net_config: Any,
        config: Any,
        *,
        device: str,
        resume: bool,
        start: Path | None,
        report: Any,
        source: Any,
    ) -> Path:
        assert (config.steps, config.batch, config.seed, device, resume, start) == (8, 3, 4, "cpu", True, None)
        assert (config.cooldown, net_config.body) == (2, "anny-hand")
        report({"step": 1, "loss": 0.5})
        report({"step": 2, "loss": 0.25, "error_mm_median": 30.0, "error_mm_mean": 40.0})
        return out / "voxel.safetensors"

    fake_module(monkeypatch, "lvdreg.train.voxel", train_voxel=train)
    options = ["--steps", "8", "--batch", "3", "--seed", "4", "--device", "cpu", "--body", "anny-hand"]
    result = run("train", "voxel", "--out", "w", *options, "--resume")
    assert (result.exit_code, result.stdout) == (0, "w/voxel.safetensors\n")
    assert "step 2 of 8, loss 0.25000, error_mm_median 30, error_mm_mean 40" in result.stderr
    Path("old.safetensors").write_text("", encoding="utf-8")
    both = run("train", "voxel", *options, "--resume", "--start", "old.safetensors")
    assert both.exit_code == 2 and "give one of them" in both.stderr


def test_bodies_need_no_hand_detector() -> None:
    refused = run("train", "hand-detector", "--body", "anny")
    assert refused.exit_code == 2 and "expected a hand, got anny" in refused.stderr


MANIFEST = {
    "counts": {"images": 12, "versions": 3, "versions_planned": 4, "scans": 1, "characters": 3},
    "shards": [{"bytes": 3 * 2**20}],
    "draws_rejected": {"webbed": 5},
    "versions_given_up": {"webbed": 1},
}


def augmenting(monkeypatch: pytest.MonkeyPatch, run_it: Callable[..., dict[str, Any]]) -> None:
    fake_module(monkeypatch, "lvdreg.augment.run", augment=run_it)
    plan = SimpleNamespace(left_out={"bob.ply": "not registered"})
    fake_module(monkeypatch, "lvdreg.augment.lookup", plan_of=lambda *given: SimpleNamespace(**vars(plan), given=given))


def test_augment_says_what_came_out_and_why_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(plan: Any, out: Path, workers: int | None, progress: Any) -> dict[str, Any]:
        asked, scans, registrations, body = plan.given
        assert (scans, registrations, body, out, workers) == (["ann.ply"], Path("regs"), "anny", Path("data"), 3)
        assert (asked.poses, asked.views, asked.channels, asked.sensor) == (6, 4, ("image", "mask", "scan"), "ring")
        progress(4, 12)
        progress(12, 12)
        return MANIFEST

    augmenting(monkeypatch, make)
    options = ["--poses", "6", "--channels", "image,mask", "--sensor", "ring", "--workers", "3", "--out", "data"]
    result = run("augment", "ann.ply", "--registrations", "regs", *options)
    assert result.exit_code == 0, result.output
    assert "bob.ply: left out: not registered" in result.stderr
    words = ("12 pictures of 3 of 4 planned versions", "3.0 MiB", "draws rejected: 5 webbed", "data/preview.png")
    assert all(word in result.stdout for word in words), result.stdout


def test_augment_without_pictures_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {**MANIFEST, "counts": {**MANIFEST["counts"], "images": 0}}  # type: ignore[dict-item]
    augmenting(monkeypatch, lambda *given: empty)
    assert run("augment", "--characters", "1", "--out", "data").exit_code == 1


def test_augment_interrupted_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*given: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    augmenting(monkeypatch, interrupt)
    result = run("augment", "--characters", "1", "--out", "data")
    assert result.exit_code == 130 and "Traceback" not in result.output
    assert result.stderr.splitlines()[-1].endswith("what is complete is kept, and the same command goes on from there")


def test_augment_previews_nothing_in_one_line() -> None:
    result = run("augment", "--preview", "nowhere")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "expected a dataset" in result.stderr


def test_train_says_that_data_is_missing() -> None:
    result = run("train", "voxel", "--data", "nowhere")
    assert result.exit_code == 1 and "lvdreg augment makes one" in result.stderr


def test_evaluate_refuses_a_table_of_others_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_module(monkeypatch, "lvdreg.evaluate", evaluate_faust=None, evaluate_challenge=None, evaluate_synthetic=None)
    Path("out").mkdir()
    for content in ("mine", "[]", '{"title": "furniture"}'):
        Path("out/table.json").write_text(content, encoding="utf-8")
        result = run("evaluate", "synthetic", "--out", "out")
        assert result.exit_code == 1 and "table.json: is not lvdreg's" in result.stderr
        assert Path("out/table.json").read_text(encoding="utf-8") == content
    assert run("evaluate", "faust", "data", "--out", "out/table.json").exit_code == 2
