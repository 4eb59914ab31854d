"""The command line: exit statuses, one line for each failure, and light help."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from fake_registration import fake_hand, fake_registration
from PIL import Image
from typer.testing import CliRunner, Result

import lvdreg
from lvdreg.base.errors import BodyError, ScanError
from lvdreg.base.provenance import InputFile, sha256_of
from lvdreg.cli import Side, Unit, Up, app
from lvdreg.cli.options import unfolded
from lvdreg.result.scan import Registration

ROOT = Path(__file__).resolve().parent.parent
OPTIONS_SEEN: dict[str, Any] = {}


def fake_register(source: Path, make: Callable[..., Registration] = fake_registration, **options: Any) -> Registration:
    OPTIONS_SEEN.clear()
    OPTIONS_SEEN.update(options)
    if not source.exists():
        raise ScanError(f"{source}: no such file; check the path")
    words = source.read_text(encoding="utf-8").split()
    if words[0] == "interrupt":
        raise KeyboardInterrupt
    if words[0] == "bug":
        raise ZeroDivisionError("by zero")
    if words[0] == "bad":
        raise ScanError(f"{source.name}: expected points,\ngot [red]none[/red]; export it again")
    origin = InputFile(str(source.absolute()), sha256_of(source))
    return make(name=source.stem, verdict=words[0], source=origin)


def fake_register_hand(source: Path, **options: Any) -> Registration:
    return fake_register(source, fake_hand, **options)


@pytest.fixture(autouse=True)
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with made-up registering, a body and a hand."""
    module = ModuleType("lvdreg.pipeline.scan")
    vars(module).update(register=fake_register, register_hand=fake_register_hand)
    monkeypatch.setitem(sys.modules, "lvdreg.pipeline.scan", module)
    monkeypatch.setattr("lvdreg.body.files.body_names", lambda: ("anny", "anny-hand"))
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: Image.new("RGB", (4, 4)))
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "added-models"))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def scans(**files: str) -> None:
    for stem, content in files.items():
        Path(f"{stem}.ply").write_text(content, encoding="utf-8")


def test_all_registered_is_status_0() -> None:
    scans(ann="good", bob="failed")
    result = run("register", "ann.ply", "bob.ply")
    assert result.exit_code == 0, result.output
    assert {path.name for path in Path("out").iterdir()} == {"ann", "bob", "summary.json"}
    assert "2 of 2 registered (1 good, 1 failed); results in out" in result.stdout
    assert "surface 1.7 mm from the scan" in result.stdout


def test_a_scan_that_cannot_be_registered_is_status_1_and_one_line() -> None:
    scans(ann="bad", bob="good")
    result = run("register", "ann.ply", "bob.ply", "missing.ply", "--strict")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if "not registered" in line]
    assert errors == [
        "[1/3] ann.ply: not registered: ann.ply: expected points, got [red]none[/red]; export it again",
        "[3/3] missing.ply: not registered: missing.ply: no such file; check the path",
    ]
    assert "Traceback" not in result.output and Path("out/bob/report.json").exists()


def test_a_fault_of_ours_is_one_line_too_and_its_traceback_is_kept() -> None:
    scans(ann="bug", bob="good")
    result = run("register", "ann.ply", "bob.ply")
    assert result.exit_code == 1 and "unexpected ZeroDivisionError (by zero)" in result.stderr
    assert "Traceback" not in result.output and "tracebacks in out/summary.json" in result.stdout
    assert (
        "ZeroDivisionError"
        in json.loads(Path("out/summary.json").read_text(encoding="utf-8"))["results"][0]["traceback"]
    )


@pytest.mark.parametrize(("verdict", "status"), [("good", 0), ("check", 3), ("failed", 3)])
def test_strict_is_status_3_unless_all_is_good(verdict: str, status: int) -> None:
    scans(ann="good", bob=verdict)
    assert run("register", "ann.ply", "bob.ply", "--strict").exit_code == status
    assert run("register", "ann.ply", "bob.ply").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["register"],
        ["register", "ann.ply", "--unit", "feet"],
        ["register", "ann.ply", "--up", "y"],
        ["register", "ann.ply", "--device", "tpu"],
        ["register", "ann.ply", "--seed", "x"],
        ["register", "ann.ply", "--model", "smpl+x"],
        ["register", "ann.ply", "--model", "mano"],
        ["register", "ann.ply", "--model", "anny+x"],
        ["register", "ann.ply", "--model", "anny-hand"],
        ["register", "ann.ply", "--side", "left"],
        ["hands"],
        ["hands", "ann.ply", "--model", "anny"],
        ["hands", "ann.ply", "--model", "smpl+d"],
        ["models", "nonsense"],
        ["models", "add"],
        ["hands", "ann.ply", "--side", "both"],
        ["hands", "ann.ply", "--up", "+y"],
        ["hands", "ann.ply", "--out", "ann.ply"],
        ["example", "foot"],
        ["register", "ann.ply", "--out", "ann.ply"],
        ["register", "ann.ply", "--nonsense"],
        ["nonsense"],
        ["evaluate", "nonsense"],
        ["train", "voxel", "--steps", "0"],
        ["augment"],
        ["augment", "--out", "out"],
        ["augment", "ann.ply", "--out", "out"],
        ["augment", "ann.ply", "--registrations", "regs", "--out", "out"],
        ["augment", "--characters", "1"],
        ["augment", "--characters", "1", "--out", "ann.ply"],
        ["augment", "--characters", "1", "--out", "out", "--channels", "image,colour"],
        ["augment", "--characters", "1", "--out", "out", "--channels", ""],
        ["augment", "--characters", "1", "--out", "out", "--sensor", "xray"],
        ["augment", "--characters", "1", "--out", "out", "--views", "0"],
        ["augment", "--characters", "1", "--out", "out", "--body", "anny-hand"],
    ],
)
def test_wrong_usage_is_status_2_and_does_nothing(arguments: list[str]) -> None:
    scans(ann="good")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output and not Path("out").exists()


def test_wrong_values_are_named_with_what_is_expected() -> None:
    scans(ann="good")
    assert (
        run("register", "ann.ply", "--model", "smp").stderr
        == "lvdreg: --model: expected one of anny, anny+d, got 'smp'; lvdreg models add FILE brings others\n"
    )
    assert "'feet'" in run("register", "ann.ply", "--unit", "feet").stderr
    assert "'both'" in run("hands", "ann.ply", "--side", "both").stderr


def test_a_model_of_the_other_kind_is_sent_to_its_command() -> None:
    assert run("register", "ann.ply", "--model", "anny-hand+d").stderr == (
        "lvdreg: --model: anny-hand+d is a hand, use lvdreg hands for it; expected one of anny, anny+d\n"
    )
    assert run("hands", "ann.ply", "--model", "anny").stderr == (
        "lvdreg: --model: anny is a whole body, use lvdreg register for it; expected one of anny-hand, anny-hand+d\n"
    )


def test_a_licensed_model_that_was_not_added_is_said_where_to_get() -> None:
    scans(ann="good")
    for command, model, site in (("register", "smplx+d", "smpl-x"), ("hands", "mano", "mano")):
        refused = run(command, "ann.ply", "--model", model)
        assert refused.exit_code == 1 and not Path("out").exists()
        (line,) = refused.stderr.splitlines()
        words = (f"https://{site}.is.tue.mpg.de", "non-commercial", "lvdreg models add FILE")
        assert all(word in line for word in words), line
    # The other command first: whoever fetches the file should not be told afterwards.
    assert "smpl is a whole body, use lvdreg register" in run("hands", "ann.ply", "--model", "smpl").stderr
    assert "mano+d is a hand, use lvdreg hands" in run("register", "ann.ply", "--model", "mano+d").stderr


def test_cuda_without_a_gpu_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    scans(ann="good")
    result = run("register", "ann.ply", "--device", "cuda")
    assert result.exit_code == 2 and "no GPU" in result.stderr and len(result.stderr.splitlines()) == 1
    assert run("register", "ann.ply", "--device", "auto").exit_code == 0
    assert OPTIONS_SEEN["device"] == "cpu"


def test_options_reach_register() -> None:
    scans(ann="good")
    arguments = ["--model", "anny+d", "--unit", "mm", "--up", "-z", "--seed", "5", "--out", "there"]
    assert run("register", "ann.ply", *arguments).exit_code == 0
    seen = {name: OPTIONS_SEEN[name] for name in ("model", "unit", "up", "seed", "device")}
    assert seen == {"model": "anny+d", "unit": "mm", "up": "-z", "seed": 5, "device": "cpu"}
    assert Path("there/ann/report.json").exists()
    # Plain strings and not enum members: they end up in report.json.
    assert all(type(value) in (str, int) for value in seen.values())


def test_options_reach_register_hand() -> None:
    scans(ann="good")
    result = run("hands", "ann.ply", "--model", "anny-hand+d", "--unit", "cm", "--side", "right", "--seed", "5")
    assert result.exit_code == 0, result.output
    OPTIONS_SEEN.pop("progress")
    assert OPTIONS_SEEN.pop("settings") == {"quality": "standard"}
    assert OPTIONS_SEEN == {"model": "anny-hand+d", "unit": "cm", "side": "right", "seed": 5, "device": "cpu"}
    assert all(type(value) in (str, int) for value in OPTIONS_SEEN.values())
    assert run("hands", "ann.ply").exit_code == 0
    assert (OPTIONS_SEEN["model"], OPTIONS_SEEN["side"]) == ("anny-hand", "auto")


def test_the_table_has_the_side_of_hands_and_the_up_of_bodies() -> None:
    scans(ann="good")
    hands, bodies = run("hands", "ann.ply", "--out", "h").stdout, run("register", "ann.ply", "--out", "b").stdout
    assert "left (98 %)" in hands and "side" in hands and "+z" not in hands
    assert "+z" in bodies and "side" not in bodies


def test_hands_has_the_statuses_of_register() -> None:
    scans(ann="good", bob="bad", eve="bug", dan="check")
    result = run("hands", ".", "--strict")
    assert result.exit_code == 1 and "Traceback" not in result.output
    failures = [line for line in result.stderr.splitlines() if "not registered" in line]
    assert len(failures) == 2 and "2 of 4 registered (1 good, 1 check)" in result.stdout
    assert run("hands", "ann.ply", "dan.ply", "--strict").exit_code == 3
    assert run("hands", "ann.ply", "dan.ply").exit_code == 0
    scans(ann="interrupt")
    assert run("hands", "ann.ply").exit_code == 130


def test_an_interruption_is_one_line() -> None:
    scans(a="good", b="interrupt", c="good")
    result = run("register", "a.ply", "b.ply", "c.ply")
    assert result.exit_code == 130 and "interrupted" in result.stderr and "Traceback" not in result.output
    assert Path("out/a/report.json").exists() and not Path("out/c").exists()


def test_folders_patterns_and_odd_names() -> None:
    scans(ann="good", bob="good")
    Path("[bold]x.ply").write_text("good", encoding="utf-8")
    os.rename("bob.ply", b"bob\xff.ply")
    result = run("register", ".")
    assert result.exit_code == 0, result.output
    assert "[bold]x" in result.stdout and "3 of 3" in result.stdout


def test_nothing_in_a_folder_is_a_failure() -> None:
    Path("empty").mkdir()
    result = run("register", "empty", "no*.ply")
    assert result.exit_code == 1 and "0 of 2 registered" in result.stdout


def test_expected_errors_of_other_commands_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise BodyError("bodies/anny.npz: damaged; install lvdreg again")

    monkeypatch.setattr("lvdreg.body.catalogue.load_body", fail)
    models, doctor = run("models"), run("doctor")
    assert (models.exit_code, models.stderr) == (1, "lvdreg: bodies/anny.npz: damaged; install lvdreg again\n")
    assert doctor.exit_code == 1 and "!!" in doctor.stdout and "damaged" in doctor.stdout


def test_doctor_and_models_on_an_empty_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    monkeypatch.setattr("lvdreg.body.files.body_names", lambda: ())
    result = run("doctor")
    assert result.exit_code == 1
    for found in ("torch", "weights", "body", str(tmp_path)):
        assert found in result.stdout
    assert run("models").stdout == ""
    assert "none found" in run("register", "x.ply").stderr


def test_doctor_looks_for_both_bodies_and_their_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    monkeypatch.setattr("lvdreg.cli.doctor.describe_body", lambda name: f"{name} is fine")
    for folder in ("weights", "examples"):
        (tmp_path / folder).mkdir()
    for name in ("voxel-anny", "image-anny", "voxel-anny-hand", "hand-detector-anny-hand", "voxel-mine"):
        (tmp_path / "weights" / f"{name}.safetensors").write_text("", encoding="utf-8")
        (tmp_path / "weights" / f"{name}.json").write_text('{"step": 7}', encoding="utf-8")
    for name in ("dressed", "hand"):
        (tmp_path / "examples" / f"{name}.ply").write_text("", encoding="utf-8")
    found = run("doctor")
    assert found.exit_code == 0, found.output
    words = (
        "body anny ",
        "body anny-hand",
        "weights hand-detector-anny-hand",
        "weights voxel-mine",
        "7 steps",
        "hand.ply",
    )
    assert all(word in found.stdout for word in words)
    (tmp_path / "weights" / "hand-detector-anny-hand.safetensors").unlink()
    found = run("doctor")
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("!!")]
    assert found.exit_code == 1 and "weights hand-detector-anny-hand" in line and "install lvdreg again" in line


def test_doctor_promises_what_the_package_declares_and_uses() -> None:
    from lvdreg.cli.doctor import OPTIONAL, REQUIRED

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for name, group in project["optional-dependencies"].items() if name != "dev" for one in group]
    assert {*REQUIRED} == {package_of(one) for one in project["dependencies"]}
    assert {*OPTIONAL} <= {package_of(one) for one in extras}
    code = "".join(
        path.read_text(encoding="utf-8") for top in ("lvdreg", "scripts") for path in (ROOT / top).rglob("*.py")
    )
    modules = [{"warp-lang": "warp"}.get(name, name.replace("-", "_")) for name in OPTIONAL]
    used = [rf'(import|from) {module}\b|_imported\("{module}' for module in modules]
    assert all(re.search(pattern, code) for pattern in used)


def package_of(requirement: str) -> str:
    return re.split(r"[\[><=~! ]", requirement)[0]


def test_models_say_which_command_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.describe_body", lambda name: f"about {name}")
    assert [line.split()[:3] for line in run("models").stdout.splitlines()] == [
        ["anny", "lvdreg", "register"],
        ["anny+d", "lvdreg", "register"],
        ["anny-hand", "lvdreg", "hands"],
        ["anny-hand+d", "lvdreg", "hands"],
    ]


def test_the_example_hand_is_named_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    (tmp_path / "examples").mkdir()
    for name in ("walker", "hand"):
        (tmp_path / "examples" / f"{name}.ply").write_text("good", encoding="utf-8")
    (tmp_path / "examples" / "stroller.jpg").write_text("good", encoding="utf-8")
    both, body, hand = run("example"), run("example", "body"), run("example", "hand")
    assert run("example", "photo").stdout == f"{tmp_path}/examples/stroller.jpg\n"
    assert f"{tmp_path}/examples/stroller.jpg (a photo, for lvdreg image" in both.stderr
    assert body.stdout == both.stdout == f"{tmp_path}/examples/walker.ply\n" and body.stderr == ""
    assert hand.stdout == f"{tmp_path}/examples/hand.ply\n"
    assert f"{tmp_path}/examples/hand.ply" in both.stderr and "lvdreg hands" in both.stderr
    assert run("hands", hand.stdout.strip()).exit_code == 0
    run("example", "--out", "copy")
    assert sorted(path.name for path in Path("copy").iterdir()) == ["hand.ply", "stroller.jpg", "walker.ply"]
    (tmp_path / "examples" / "hand.ply").unlink()
    assert run("example", "hand").exit_code == 1 and "hand.ply" not in run("example").stderr


def test_example_prints_paths_that_register_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    assert run("example").exit_code == 1
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "walker.ply").write_text("good", encoding="utf-8")
    (there,) = run("example").stdout.splitlines()
    assert run("register", there).exit_code == 0
    assert run("example", "--out", "copy").stdout.splitlines() == ["copy/walker.ply"]
    assert Path("copy/walker.ply").read_text(encoding="utf-8") == "good"


def test_units_and_axes_are_those_of_the_pipeline() -> None:
    from lvdreg.descent.boxes import METRES_PER_UNIT, UPS

    assert {unit.value for unit in Unit} == {"auto", "none", *METRES_PER_UNIT}
    assert {up.value for up in Up} == {"auto", *UPS}
    assert {side.value for side in Side} == {"auto", "left", "right"}


TABLE = '{"title": "", "rows": [], "notes": [], "details": {}}'


class FakeTable:
    """What the benchmarks return."""

    def render(self) -> str:
        return "| faust | 17 |"

    def to_json(self) -> str:
        return TABLE


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Any) -> None:
    module = ModuleType(name)
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)


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

    all_four = {"faust": faust, "synthetic": synthetic, "hands": hands, "rigged": rigged}
    fake_module(monkeypatch, "lvdreg.evaluate", **{f"evaluate_{name}": run for name, run in all_four.items()})
    result = run("evaluate", "faust", "data", "--limit", "4", "--no-baseline")
    assert (result.exit_code, result.stdout) == (0, "| faust | 17 |\n")
    assert Path("out/faust/table.json").read_text(encoding="utf-8") == TABLE
    assert run("evaluate", "synthetic", "--num", "3", "--seed", "9").exit_code == 0
    assert run("evaluate", "hands", "--num", "3", "--views", "one-sided").exit_code == 0
    assert run("evaluate", "rigged", "a.glb", "b.glb").exit_code == 0
    assert run("evaluate", "hands", "--model", "anny").exit_code == 2
    assert calls == [
        (Path("data"), "anny+d", 4, Path("out/faust"), False, {"device": "cpu", "seed": 0}),
        (3, 9, "anny+d", Path("out/synthetic"), True, {"device": "cpu"}),
        (3, "one-sided", 0, "anny-hand+d", Path("out/hands"), {"with_baseline": False, "device": "cpu"}),
        ([Path("a.glb"), Path("b.glb")], "anny-hand", Path("out/rigged"), {"device": "cpu", "seed": 0}),
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


def test_the_pace_is_that_of_what_was_made_now(monkeypatch: pytest.MonkeyPatch) -> None:
    from lvdreg.cli.console import MovingLine, SpeedColumn

    now, speed = [0.0], SpeedColumn()
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    with MovingLine(speed) as line:
        assert str(speed.render(line.tasks[0])) == ""
        for seconds, done in ((0.0, 100), (100.0, 100), (200.0, 120)):
            now[0] = seconds
            line.show("pictures", done, 1000)
        assert str(speed.render(line.tasks[0])) == "0.1 a second"
        assert line.tasks[0].time_remaining == pytest.approx(8800)


def test_a_pipe_gets_plain_lines_that_are_never_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "a-long-name-" * 12
    scans(**{long: "good", "bob": "bad"})
    result = run("register", f"{long}.ply", "bob.ply")
    assert "\x1b" not in result.output and len(result.stderr.splitlines()) == 2
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:2] for row in rows[:3]] == [["scan", "verdict"], [long, "good"], ["bob.ply", "none"]]
    assert len(rows) == 4


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_gets_colours_unless_it_asks_for_none(monkeypatch: pytest.MonkeyPatch, more: dict[str, str]) -> None:
    terminal = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "0", "TERM": "xterm-256color", "COLUMNS": "60"}
    for name, value in {**terminal, **more}.items():
        monkeypatch.setenv(name, value)
    scans(ann="good")
    result = run("register", "ann.ply")
    assert ("\x1b[32m" in result.stdout) == ("\x1b[32m" in result.stderr) == (not more)


@pytest.mark.parametrize("command", [["augment", "--help"], ["register", "b\u00e4r.ply"]])
def test_terminals_of_other_encodings_get_escapes(command: list[str]) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "lvdreg", *command], env=env, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr and done.stdout.isascii()
    assert done.returncode == (0 if "--help" in command else 1)
    assert "--help" in command or b"b\\xe4r.ply" in done.stdout


def test_options_of_a_dataclass_are_options_of_the_command() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Both:
        size: Annotated[int, typer.Option(min=1)] = 3
        fast: Annotated[bool, typer.Option("--fast")] = False

    seen: list[Any] = []

    @unfolded
    def command(
        name: Annotated[str, typer.Argument()], *, both: Both, last: Annotated[int, typer.Option()] = 1
    ) -> None:
        seen.append((name, both, last))

    small = typer.Typer()
    small.command()(command)
    assert CliRunner().invoke(small, ["ann", "--size", "7", "--fast", "--last", "2"]).exit_code == 0
    assert CliRunner().invoke(small, ["ann"]).exit_code == 0
    assert CliRunner().invoke(small, ["ann", "--size", "0"]).exit_code == 2
    assert seen == [("ann", Both(7, True), 2), ("ann", Both(), 1)]


HEAVY = ("torch", "scipy", "numpy", "trimesh", "PIL", "igl")


@pytest.mark.parametrize(
    "command", ["--help", "register --help", "hands --help", "--version", "train voxel --help", "augment --help"]
)
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\n"
        "from lvdreg.cli import app\n"
        f"try: app({command.split()!r})\n"
        "except SystemExit as error: assert not error.code\n"
        f"assert not [name for name in {HEAVY!r} if name in sys.modules], 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout or "lvdreg" in done.stdout


def test_public_names_are_lazy_and_register_stays_a_function() -> None:
    code = (
        "import sys, lvdreg\n"
        "assert 'torch' not in sys.modules and 'register' in dir(lvdreg)\n"
        "import lvdreg.pipeline.scan\n"
        "assert callable(lvdreg.register) and callable(lvdreg.register_image)\n"
        "from lvdreg import Registration, Scan, read_scan, LvdregError, BodyModel, BodyParams, load_body\n"
        "assert lvdreg.Scan is Scan and issubclass(lvdreg.LvdregError, Exception)\n"
        "try: lvdreg.nonsense\n"
        "except AttributeError: pass\n"
        "else: raise SystemExit('a name from nowhere')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version_and_module_run() -> None:
    done = subprocess.run([sys.executable, "-m", "lvdreg", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"lvdreg {lvdreg.__version__}\n"
    assert np.all([part.isdigit() for part in lvdreg.__version__.split(".")])


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_as_an_interruption_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    # In the middle of writing: what is half written goes.
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: os.kill(os.getpid(), number))
    scans(a="good")
    result = run("register", "a.ply")
    assert result.exit_code == 128 + number and "interrupted" in result.stderr and "Traceback" not in result.output
    assert not list(Path("out").iterdir()) and signal.getsignal(number) == before


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_signal_that_is_ignored_stays_so() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        scans(a="good")
        assert run("register", "a.ply").exit_code == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_resume_leaves_out_what_is_finished() -> None:
    scans(ann="good", bob="bad")
    for _ in range(2):
        result = run("register", "ann.ply", "bob.ply", "--resume")
    assert result.exit_code == 1 and "[1/2] ann.ply: there already: good" in result.stderr
    assert "[2/2] bob.ply: not registered" in result.stderr and "1 of 2 registered" in result.stdout


@pytest.mark.parametrize("there", ["file", "link", "folder"])
def test_examples_are_copied_over_nothing(there: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "walker.ply").write_text("good", encoding="utf-8")
    Path("diary").write_text("mine", encoding="utf-8")
    Path("copy").mkdir()
    target = Path("copy/walker.ply")
    if there == "file":
        target.write_text("mine", encoding="utf-8")
    elif there == "link":
        target.symlink_to("../diary")
    else:
        target.mkdir()
    result = run("example", "--out", "copy")
    assert result.exit_code == 1 and "walker.ply: is not lvdreg's" in result.stderr
    assert Path("diary").read_text(encoding="utf-8") == "mine" and (
        there != "file" or target.read_text(encoding="utf-8") == "mine"
    )
    assert [path.name for path in Path("copy").iterdir()] == ["walker.ply"]


def test_evaluate_refuses_a_table_of_others_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_module(monkeypatch, "lvdreg.evaluate", evaluate_faust=None, evaluate_synthetic=None)
    Path("out").mkdir()
    for content in ("mine", "[]", '{"title": "furniture"}'):
        Path("out/table.json").write_text(content, encoding="utf-8")
        result = run("evaluate", "synthetic", "--out", "out")
        assert result.exit_code == 1 and "table.json: is not lvdreg's" in result.stderr
        assert Path("out/table.json").read_text(encoding="utf-8") == content
    assert run("evaluate", "faust", "data", "--out", "out/table.json").exit_code == 2
