"""The command line: exit statuses, options that reach the method, one line for each failure, interruptions."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from command_line import OPTIONS_SEEN, fake_module, fake_register, run, scans

from lvdreg.base.errors import ScanError
from lvdreg.batch import read_results

pytestmark = pytest.mark.usefixtures("made_up_registering")


def test_all_registered_is_status_0() -> None:
    scans(ann="good", bob="failed")
    result = run("register", "ann.ply", "bob.ply")
    assert result.exit_code == 0, result.output
    assert {path.name for path in Path("out").iterdir()} == {"ann", "bob", "results.csv"}
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
    assert "Traceback" not in result.output and "tracebacks in out/results.csv" in result.stdout
    assert "ZeroDivisionError" in (read_results(Path("out"))[0].traceback or "")


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
    assert OPTIONS_SEEN.pop("camera") is None
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


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_as_an_interruption_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(signal, name)
    # Whoever runs the tests may have it ignored, as nohup does.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        # In the middle of writing: what is half written goes.
        monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: os.kill(os.getpid(), number))
        scans(a="good")
        result = run("register", "a.ply")
        assert result.exit_code == 128 + number and "interrupted" in result.stderr and "Traceback" not in result.output
        assert not list(Path("out").iterdir()) and signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


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


def test_what_is_known_of_a_person_reaches_the_registration() -> None:
    scans(a="good")
    words = ["--height", "1.8", "--sex", "female", "--age", "30", "--pose", "a", "--keypoints", "k.json", "--floor"]
    assert run("register", "a.ply", *words).exit_code == 0
    told = {"height": 1.8, "sex": "female", "age": 30.0, "pose": "a", "keypoints": "k.json", "floor": True}
    assert {name: OPTIONS_SEEN[name] for name in told} == told
    assert all(type(value) in (str, float, bool) for value in told.values()) and "together" not in OPTIONS_SEEN


def test_scans_of_one_person_are_registered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_together(sources: list[str], **options: Any) -> list[Any]:
        found: list[Any] = []
        for source in sources:
            try:
                found.append(fake_register(Path(source), **options))
            except ScanError as error:
                found.append(error)
        return found

    fake_module(monkeypatch, "lvdreg.pipeline.scans", register_scans=fake_together)
    scans(a="good", b="bad", c="check")
    result = run("register", "a.ply", "b.ply", "c.ply", "--same-person")
    assert result.exit_code == 1 and "2 of 3 registered" in result.stdout
    assert all(Path("out", name).is_dir() for name in ("a", "c")) and not Path("out/b").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.ply", "--same-person"], "--same-person: expected 2 to 100 scans of one person, got 1"),
        (["a.ply", "b.ply", "--same-person", "--workers", "2"], "--workers: scans of one person are registered"),
        (["a.ply", "b.ply", "--keypoints", "k.json"], "--keypoints: expected a folder of files NAME.json for 2 scans"),
    ],
)
def test_what_goes_ill_together_is_refused(words: list[str], said: str) -> None:
    scans(a="good", b="good")
    result = run("register", *words)
    assert result.exit_code == 2 and said in result.stderr
