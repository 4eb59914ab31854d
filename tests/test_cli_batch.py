"""``lvdreg batch``: lists with options of single inputs, going on, what a long run says."""

from pathlib import Path
from typing import Any

import pytest
from command_line import run, scans

from lvdreg.batch import Outcome, Remote
from lvdreg.cli.console import MOST_SKIPPED, MovingLine, ScanProgress, last_line, print_summary

pytestmark = pytest.mark.usefixtures("made_up_registering")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a batch is asked to do; nothing is done."""
    seen: dict[str, Any] = {}

    def register_many(sources: list[Path], out: Path, **options: Any) -> list[Outcome]:
        seen.update(options, sources=sources)
        return [Outcome(str(source), "a", "good", "") for source in sources]

    monkeypatch.setattr("lvdreg.batch.register_many", register_many)
    return seen


def batch(*words: str) -> Any:
    return run("batch", *words)


def test_a_list_gives_single_inputs_options_of_their_own(asked: dict[str, Any]) -> None:
    scans(ann="good", bob="good", cat="good", dan="good")
    Path("more").mkdir()
    table = "\ufeffpath,unit,height,#day,floor\nann.ply,mm,1.7,mo,yes\n[bc]*.ply,cm,,tu,\nann.ply,mm,1.7,we,yes\n,,,,\n"
    Path("list.csv").write_text(table, encoding="utf-8")
    result = batch("dan.ply", "ann.ply", "--list", "list.csv", "--option", "up=+z", "--model", "anny+d")
    assert result.exit_code == 0, result.output
    assert [source.name for source in asked["sources"]] == ["ann.ply", "bob.ply", "cat.ply", "dan.ply"]
    assert {source.name: chosen for source, chosen in asked["own"].items()} == {
        "ann.ply": {"unit": "mm", "height": 1.7, "floor": True}, "bob.ply": {"unit": "cm"}, "cat.ply": {"unit": "cm"},
    }  # fmt: skip
    assert (asked["model"], asked["up"], asked["unit"], asked["resume"]) == ("anny+d", "+z", "auto", True)


def test_a_text_is_a_list_too(asked: dict[str, Any]) -> None:
    scans(ann="good", **{"bob, jr": "good"})
    Path("list.txt").write_text("# mine\nbob, jr.ply\n\nann.ply\n", encoding="utf-8")
    assert batch("--list", "list.txt", "--again").exit_code == 0
    assert [source.name for source in asked["sources"]] == ["bob, jr.ply", "ann.ply"] and not asked["resume"]


@pytest.mark.parametrize(
    ("words", "table", "line"),
    [
        (["--out", "memory://out", "--report"], "ann.ply", "--report: expected --out in a folder of this machine"),
        ([], "path,unit\nann.ply,feet\n", "--list: list.csv, line 2: unit: expected one of auto, mm,"),
        ([], "path,heigth\nann.ply,1\n", "expected columns among model, unit, up, height"),
        ([], "path,height\nann.ply,tall\n", "line 2: height: expected a number, got 'tall'"),
        ([], "path,unit\nann.ply,mm\nann.ply,cm\n", "line 3: 'ann.ply' stands twice, unlike each time"),
        ([], 'path,unit\n"ann.ply,mm\n', "expected a table of cells between commas"),
        ([], "# nothing\n", "expected a path a line, got none"),
        ([], "path,model\nann.ply,smp\n", "--model: expected one of anny, anny+d, got 'smp'"),
        (["--option", "unit"], "ann.ply", "--option: expected NAME=VALUE, NAME one of model, unit,"),
        (["--option", "side=left"], "ann.ply", "NAME one of model, unit, up"),
        (["--option", "seed=1.5"], "ann.ply", "--option: seed: expected a whole number, got '1.5'"),
        (["--kind", "hand", "--option", "side=both"], "ann.ply", "--option: side: expected one of auto, left, right"),
        (["--list", "gone.csv"], "", "--list: gone.csv cannot be read"),
    ],
)
def test_faults_of_lists_and_options_are_one_line_before_any_work(words: list[str], table: str, line: str) -> None:
    scans(ann="good")
    Path("list.csv").write_text(table, encoding="utf-8")
    result = batch("--list", "list.csv", *words)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1, result.output
    assert line in result.stderr and not Path("out").exists()


def test_no_inputs_are_wrong_usage() -> None:
    assert "expected inputs or --list FILE" in batch().stderr


@pytest.mark.parametrize("kind", ["body", "hand", "photo"])
def test_options_are_those_of_the_other_commands(
    kind: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``lvdreg register`` has finished is finished for a batch, too: the settings are equal."""
    from command_line import fake_module

    fake_module(monkeypatch, "lvdreg.pipeline.photo", register_image=print, register_people=print)
    scans(ann="good")
    Path("ann.jpg").write_bytes(b"")
    source = "ann.jpg" if kind == "photo" else "ann.ply"
    command = {"body": "register", "hand": "hands", "photo": "image"}[kind]
    assert batch(source, "--kind", kind).exit_code == 0
    ours = dict(asked)
    asked.clear()
    assert run(command, source).exit_code == 0
    about_the_run = {"listener", "resume", "workers", "release", "limits", "own", "engine"}
    assert {name: ours[name] for name in ours if name not in about_the_run} == {
        name: asked[name] for name in asked if name not in about_the_run
    }


def test_long_runs_say_how_long_they_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    line = MovingLine()
    monkeypatch.setattr(line, "leave", lambda words: said.append(str(words)))
    now = [0.0]
    progress = ScanProgress(line, lambda: now[0])
    for number in range(100):
        progress.start(Path("a"), number, 1000)
        progress.skipped(Outcome("a", "a", "good", ""))
    progress.plan(1000, 900)
    assert len(said) == MOST_SKIPPED + 1 and said[-1] == "100 of 1000 are there already"
    for _ in range(61):
        now[0] += 2.0
        progress.done(Outcome("a", "a", "good", ""))
    assert [words for words in said if "to go" in words] == ["131 of 1000, 30.0 a minute, 29 min to go"]
    progress.skipped(Outcome("a", None, None, "it kills", quarantined=True))
    assert "in quarantine: it kills" in said[-1]


def test_of_many_only_what_wants_to_be_looked_at_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [Outcome(str(i), str(i), "good" if i % 2 else "check", "x") for i in range(300)]
    outcomes += [Outcome("q", None, None, "it kills", quarantined=True)]
    print_summary(outcomes, Path("out"))
    shown = capsys.readouterr().out
    assert "and 51 more that are not good: see out/results.csv" in shown and shown.count("good") < 5
    assert "1 in quarantine, which lvdreg batch --release tries again" in last_line(outcomes, Path("out"))
    assert last_line(outcomes, Path("out")).endswith("results in out; to look at them: lvdreg view out")
    assert last_line(outcomes, Remote("s3://b/out")).endswith("results in s3://b/out"), "pages are built in folders"
