"""Batches: every scan its own folder, failures written down, nothing lost."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_registration import fake_hand, fake_registration
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lvdreg.base.errors import RegistrationError, ScanError, UsageError
from lvdreg.batch import Listener, Outcome, expand_inputs, read_summary, register_many, result_names
from lvdreg.result.scan import Registration


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: Image.new("RGB", (4, 4)))


def fake_register(source: Path, **options: Any) -> Registration:
    """Register what the file says: a verdict, or the error to raise."""
    words = source.read_text().split()
    errors = {
        "scan": ScanError,
        "fit": RegistrationError,
        "usage": UsageError,
        "bug": ValueError,
        "memory": MemoryError,
    }
    if words[0] in errors:
        raise errors[words[0]](f"{source.name}: expected\na scan, got {words[0]}")
    options["progress"]("read")
    return fake_registration(
        name=source.stem, verdict=words[0], reason=source.read_text(), settings={"source": str(source)}
    )


def make(folder: Path, **files: str) -> list[Path]:
    """Write files ``stem="content"`` as .ply."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        (folder / f"{stem}.ply").write_text(content)
    return [folder / f"{stem}.ply" for stem in files]


def test_results_and_summary(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", ann="good", bob="check")
    outcomes = register_many(sources, tmp_path / "out", register=fake_register)
    assert [(outcome.folder, outcome.verdict, outcome.error_mm) for outcome in outcomes] == [
        ("ann", "good", 1.7),
        ("bob", "check", 1.7),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ann", "bob", "summary.json"]
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["results"]
    assert [(entry["source"], entry["folder"]) for entry in found] == [(str(s), s.stem) for s in sources]


def test_a_hand_has_a_side_and_no_up(tmp_path: Path) -> None:
    (source,) = make(tmp_path, hand="good")
    register_many([source], tmp_path / "out", register=lambda source, **options: fake_hand("left", up="+z"))
    (outcome,) = read_summary(tmp_path / "out")
    assert (outcome.side, outcome.side_confidence, outcome.up) == ("left", 0.983, None)
    (outcome,) = register_many([source], tmp_path / "out", register=lambda source, **options: fake_registration())
    assert (outcome.side, outcome.side_confidence, outcome.up) == (None, None, "+z")


def test_failures_are_written_down_and_the_others_done(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", a="scan", b="good", c="bug", d="memory", e="fit", f="good")
    outcomes = register_many(sources, tmp_path / "out", register=fake_register)
    assert [outcome.registered for outcome in outcomes] == [False, True, False, False, False, True]
    assert outcomes[0].reason == "a.ply: expected a scan, got scan"
    assert "ValueError" in outcomes[2].reason and "fake_register" in (outcomes[2].traceback or "")
    assert outcomes[0].traceback is None and "memory" in outcomes[3].reason
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b", "f", "summary.json"]
    assert read_summary(tmp_path / "out") == outcomes


def test_a_result_that_cannot_be_written_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Registration, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Registration, "save", full)
    (outcome,) = register_many(make(tmp_path, a="good"), tmp_path / "out", register=fake_register)
    assert not outcome.registered and "No space left" in outcome.reason and "free space" in outcome.reason


def test_wrong_usage_stops_the_batch(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        register_many(make(tmp_path, a="usage"), tmp_path / "out", register=fake_register)


def test_an_interruption_keeps_what_is_done(tmp_path: Path) -> None:
    def interrupted(source: Path, **options: Any) -> Registration:
        if source.stem == "c":
            raise KeyboardInterrupt
        return fake_register(source, **options)

    with pytest.raises(KeyboardInterrupt):
        register_many(make(tmp_path, a="good", b="scan", c="good"), tmp_path / "out", register=interrupted)
    assert [outcome.registered for outcome in read_summary(tmp_path / "out")] == [True, False]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "summary.json"]


def test_equal_stems_get_distinct_folders(tmp_path: Path) -> None:
    sources = [*make(tmp_path / "1", scan="good one"), *make(tmp_path / "2", scan="good two", Scan="good three")]
    sources += make(tmp_path / "3", **{"scan-2": "good four", "summary.json": "good five"})
    outcomes = register_many(sources, tmp_path / "out", register=fake_register)
    assert [outcome.folder for outcome in outcomes] == ["scan", "scan-3", "Scan-4", "scan-2", "summary.json-2"]
    for source, outcome in zip(sources, outcomes, strict=True):
        report = json.loads((tmp_path / "out" / str(outcome.folder) / "report.json").read_text())
        assert report["settings"]["source"] == str(source)


def test_a_later_run_never_replaces_another_scans_result(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1", scan="good one") + make(tmp_path / "2", scan="good two")
    for source, folder in ((first, "scan"), (second, "scan-2"), (first, "scan"), (second, "scan-2")):
        (outcome,) = register_many([source], tmp_path / "out", register=fake_register)
        assert outcome.folder == folder
    assert [outcome.source for outcome in read_summary(tmp_path / "out")] == [str(first), str(second)]


def test_without_a_summary_no_folder_is_replaced(tmp_path: Path) -> None:
    (source,) = make(tmp_path, scan="good")
    (tmp_path / "out" / "scan").mkdir(parents=True)
    for damaged in ("", "[]", '{"results": 3}', '{"results": [{"x": 1}]}'):
        (tmp_path / "out" / "summary.json").write_text(damaged)
        assert read_summary(tmp_path / "out") == []
    (outcome,) = register_many([source], tmp_path / "out", register=fake_register)
    assert outcome.folder == "scan-2" and list((tmp_path / "out" / "scan").iterdir()) == []


def test_a_failure_keeps_an_earlier_result_of_the_scan(tmp_path: Path) -> None:
    (source,) = make(tmp_path, scan="good first")
    register_many([source], tmp_path / "out", register=fake_register)
    source.write_text("fit")
    register_many([source], tmp_path / "out", register=fake_register)
    assert "good first" in (tmp_path / "out" / "scan" / "report.json").read_text()
    source.write_text("good again")
    (outcome,) = register_many([source], tmp_path / "out", register=fake_register)
    assert outcome.folder is not None and "again" in (tmp_path / "out" / outcome.folder / "report.json").read_text()


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "A", "a-2", "a-3", "summary.json", "b.c", "b"]), min_size=1, max_size=8))
def test_names_are_distinct_even_where_case_is_not_kept(
    tmp_path_factory: pytest.TempPathFactory, stems: list[str]
) -> None:
    root = tmp_path_factory.mktemp("names")
    (root / "B").mkdir()
    sources = [root / str(i) / f"{stem}.ply" for i, stem in enumerate(stems)]
    folded = [name.casefold() for name in result_names(sources, root, {"/elsewhere/x.ply": "a-3"})]
    assert len(set(folded)) == len(stems) and not {"b", "a-3", "summary.json"} & set(folded)


def test_inputs_are_files_folders_and_patterns(tmp_path: Path) -> None:
    make(tmp_path, b="x", a="x")
    (tmp_path / "c.OBJ").write_text("x")
    (tmp_path / "readme.md").write_text("x")
    (tmp_path / ".hidden.ply").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd[1].ply").write_text("x")
    names = ["a.ply", "b.ply", "c.OBJ", "odd[1].ply"]
    assert [path.name for path in expand_inputs([tmp_path])] == names
    assert [path.name for path in expand_inputs([f"{tmp_path}/[ab].ply"])] == ["a.ply", "b.ply"]
    assert [path.name for path in expand_inputs([tmp_path / "odd[1].ply"])] == ["odd[1].ply"]
    # Each once, and what is not there is kept, so that it is reported.
    again = expand_inputs([tmp_path / "b.ply", tmp_path, tmp_path / "no.ply", f"{tmp_path}/*.stl", tmp_path / "empty"])
    assert [path.name for path in again] == ["b.ply", "a.ply", "c.OBJ", "odd[1].ply", "no.ply", "*.stl", "empty"]


def test_the_listener_hears_everything(tmp_path: Path) -> None:
    heard: list[Any] = []

    class Ear(Listener):
        def start(self, source: Path, number: int, count: int) -> None:
            heard.append((source.stem, number, count))

        def stage(self, name: str) -> None:
            heard.append(name)

        def done(self, outcome: Outcome) -> None:
            assert outcome.folder is None or (tmp_path / "out" / outcome.folder / "report.json").exists()
            heard.append(outcome.verdict)

    register_many(make(tmp_path, a="good", b="scan"), tmp_path / "out", listener=Ear(), register=fake_register)
    assert heard == [("a", 1, 2), "read", "write", "good", ("b", 2, 2), None]


def test_options_reach_register(tmp_path: Path) -> None:
    def check(source: Path, **options: Any) -> Registration:
        assert (options["model"], options["unit"], options["seed"]) == ("anny", "cm", 7)
        return fake_registration()

    (outcome,) = register_many(make(tmp_path, a="x"), tmp_path / "out", register=check, model="anny", unit="cm", seed=7)
    assert outcome.registered
    assert outcome.error_mm == fake_registration().metrics["point_to_surface_scan_to_registered_mm"]
