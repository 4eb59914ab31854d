"""Batches: every scan its own folder, failures written down, nothing lost."""

import csv
import json
import os
import shutil
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from batches import fail_on_call, fake_register, make
from fake_registration import fake_hand, fake_registration
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lvdreg.base.errors import OutputError, UsageError
from lvdreg.base.names import name_key
from lvdreg.batch import (
    Folder,
    Listener,
    Outcome,
    expand_inputs,
    read_results,
    register_many,
    result_names,
    write_results,
)
from lvdreg.batch.table import check_parquet
from lvdreg.result.scan import Registration


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: Image.new("RGB", (4, 4)))


def test_results_and_table(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", ann="good", bob="check")
    outcomes = register_many(sources, tmp_path / "out", register=fake_register)
    assert [(outcome.folder, outcome.verdict, outcome.error_mm) for outcome in outcomes] == [
        ("ann", "good", 1.7),
        ("bob", "check", 1.7),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ann", "bob", "results.csv"]
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["source"], row["folder"], row["verdict"]) for row in found] == [
        (str(source), source.stem, verdict) for source, verdict in zip(sources, ("good", "check"), strict=True)
    ]


def test_a_hand_has_a_side_and_no_up(tmp_path: Path) -> None:
    (source,) = make(tmp_path, hand="good")
    register_many([source], tmp_path / "out", register=lambda source, **options: fake_hand("left", up="+z"))
    (outcome,) = read_results(tmp_path / "out")
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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b", "f", "results.csv"]
    assert read_results(tmp_path / "out") == outcomes


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
    assert [outcome.registered for outcome in read_results(tmp_path / "out")] == [True, False]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "results.csv"]


def test_equal_stems_get_distinct_folders(tmp_path: Path) -> None:
    sources = [*make(tmp_path / "1", scan="good one"), *make(tmp_path / "2", scan="good two", Scan="good three")]
    sources += make(tmp_path / "3", **{"scan-2": "good four", "results.csv": "good five"})
    outcomes = register_many(sources, tmp_path / "out", register=fake_register)
    assert [outcome.folder for outcome in outcomes] == ["scan", "scan-3", "Scan-4", "scan-2", "results.csv-2"]
    for source, outcome in zip(sources, outcomes, strict=True):
        report = json.loads((tmp_path / "out" / str(outcome.folder) / "report.json").read_text(encoding="utf-8"))
        assert report["settings"]["source"] == str(source)


def test_a_later_run_never_replaces_another_scans_result(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1", scan="good one") + make(tmp_path / "2", scan="good two")
    for source, folder in ((first, "scan"), (second, "scan-2"), (first, "scan"), (second, "scan-2")):
        (outcome,) = register_many([source], tmp_path / "out", register=fake_register)
        assert outcome.folder == folder
    assert [outcome.source for outcome in read_results(tmp_path / "out")] == [str(first), str(second)]


def test_without_a_table_no_folder_is_replaced(tmp_path: Path) -> None:
    (source,) = make(tmp_path, scan="good")
    (tmp_path / "out" / "scan").mkdir(parents=True)
    for damaged in ("", "sou", "source,folder,verdict,reason\n/a", "source,folder,verdict,reason,x\na,b,strange,,\n"):
        (tmp_path / "out" / "results.csv").write_text(damaged, encoding="utf-8")
        assert read_results(tmp_path / "out") == []
    (outcome,) = register_many([source], tmp_path / "out", register=fake_register)
    assert outcome.folder == "scan-2" and list((tmp_path / "out" / "scan").iterdir()) == []


@pytest.mark.parametrize("content", ["[]", "source,folder,verdict,grade\n", "diary", "x,y,z\n1,2,3\n"])
def test_a_table_of_others_is_refused_before_any_work(tmp_path: Path, content: str) -> None:
    (source,), name = make(tmp_path, scan="bug"), "results.csv"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(content, encoding="utf-8")
    with pytest.raises(OutputError, match=rf"{name}: is not lvdreg's") as caught:
        register_many([source], tmp_path / "out", register=fail_on_call)
    assert "\n" not in str(caught.value)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in (tmp_path / "out").iterdir()] == [(name, content)]


def test_a_failure_keeps_an_earlier_result_of_the_scan(tmp_path: Path) -> None:
    (source,) = make(tmp_path, scan="good first")
    register_many([source], tmp_path / "out", register=fake_register)
    source.write_text("fit", encoding="utf-8")
    register_many([source], tmp_path / "out", register=fake_register)
    assert "good first" in (tmp_path / "out" / "scan" / "report.json").read_text(encoding="utf-8")
    source.write_text("good again", encoding="utf-8")
    (outcome,) = register_many([source], tmp_path / "out", register=fake_register)
    assert outcome.folder is not None and "again" in (tmp_path / "out" / outcome.folder / "report.json").read_text(
        encoding="utf-8"
    )


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(["a", "A", "a-2", "a-3", "results.csv", "b.c", "b", "..", ".a", "a ", "\u00e4", "a\u0308"])
        | st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1, max_size=12),
        min_size=1,
        max_size=8,
    )
)
def test_names_are_distinct_even_where_case_is_not_kept(
    tmp_path_factory: pytest.TempPathFactory, stems: list[str]
) -> None:
    root = tmp_path_factory.mktemp("names")
    (root / "B").mkdir()
    sources = [root / str(i) / f"{stem}.ply" for i, stem in enumerate(stems)]
    names = result_names(sources, Folder(root), {"/elsewhere/x.ply": "a-3"})
    keys = [name_key(name) for name in names]
    assert len(set(keys)) == len(stems) and not {"b", "a-3", "results.csv"} & set(keys)
    assert all((root / name).parent == root and not name.startswith(".") for name in names)
    assert names == result_names(sources, Folder(root), {"/elsewhere/x.ply": "a-3"})


def test_no_result_lands_outside_of_the_output_folder(tmp_path: Path) -> None:
    """A file called ...ply has the stem ``..``; é takes two bytes, whatever the locale takes them for."""
    sources = make(tmp_path / "in", **{"..": "good", "...": "good", ".x": "good", "x ": "good", "y\n": "good"})
    sources += make(tmp_path / "in", **{os.fsdecode("é".encode() * 120): "good", "nul.a": "good", "..\\..\\z": "good"})
    outcomes = register_many(sources, tmp_path / "out", register=fake_register)
    assert all(outcome.registered for outcome in outcomes), [outcome.reason for outcome in outcomes]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    folders = {str(outcome.folder) for outcome in outcomes}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*folders, "results.csv"}
    assert all((tmp_path / "out" / name / "report.json").is_file() for name in folders)


def test_what_is_not_ours_is_not_written_over_and_no_link_followed(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", a="good", b="good", c="good", d="good")
    out = tmp_path / "out"
    (tmp_path / "disk").mkdir()
    out.mkdir()
    (out / "a").symlink_to(tmp_path / "disk")
    (out / "b").mkdir()
    (out / "b" / "body.ply").write_text("another program's", encoding="utf-8")
    (out / "c").write_text("diary", encoding="utf-8")
    (out / "d").mkdir()
    (out / "d" / "report.json").write_text('{"lvdreg": true}', encoding="utf-8")
    outcomes = register_many(sources, out, register=fake_register)
    assert [outcome.folder for outcome in outcomes] == ["a-2", "b-2", "c-2", "d-2"]
    assert not list((tmp_path / "disk").iterdir()) and (out / "c").read_text(encoding="utf-8") == "diary"
    assert [path.read_text(encoding="utf-8") for path in (out / "b").iterdir()] == ["another program's"]
    assert [path.read_text(encoding="utf-8") for path in (out / "d").iterdir()] == ['{"lvdreg": true}']
    # What turns into a link later is not followed either, and the result gets another place.
    shutil.rmtree(out / "a-2")
    (out / "a-2").symlink_to(tmp_path / "disk")
    (outcome,) = register_many(sources[:1], out, register=fake_register)
    assert outcome.folder == "a-3" and not list((tmp_path / "disk").iterdir())


def test_the_output_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    (outcome,) = register_many(make(tmp_path, a="good"), tmp_path / "out", register=fake_register)
    assert outcome.registered and (tmp_path / "disk" / "a" / "report.json").is_file()


def test_a_result_is_known_by_its_report_where_the_table_is_lost(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1", scan="good one") + make(tmp_path / "2", scan="good two")
    register_many([first, second], tmp_path / "out", register=fake_register)
    (tmp_path / "out" / "results.csv").unlink()
    outcomes = register_many([second, first], tmp_path / "out", register=fake_register)
    assert [outcome.folder for outcome in outcomes] == ["scan-2", "scan"]


def test_the_table_as_parquet_says_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'lvdreg[parquet]'")
    sources = make(tmp_path / "in", a="good", b="scan", **{"c\udcff": "bug"})
    outcomes = register_many(sources, tmp_path / "out", register=fake_register)
    Folder(tmp_path / "out").write_parquet()
    Folder(tmp_path / "out").write_parquet()  # its own it replaces
    table = parquet.read_table(tmp_path / "out" / "results.parquet")
    assert table.column_names == [each.name for each in fields(Outcome)]
    rows = table.to_pylist()
    assert [row["source"] for row in rows] == [str(sources[0]), str(sources[1]), json.dumps(str(sources[2]))]
    for name in ("folder", "verdict", "error_mm", "seconds", "quarantined", "up"):
        assert [row[name] for row in rows] == [getattr(outcome, name) for outcome in outcomes], name
    assert json.loads(rows[0]["timings"]) == outcomes[0].timings and "ValueError" in rows[2]["traceback"]
    (tmp_path / "out" / "results.parquet").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"results.parquet: is not lvdreg's"):
        Folder(tmp_path / "out").write_parquet()


def test_without_pyarrow_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"--parquet: needs pyarrow: pip install 'lvdreg\[parquet\]'"):
        check_parquet()


def test_a_table_names_no_folder_elsewhere(tmp_path: Path) -> None:
    (source,) = make(tmp_path, scan="good")
    fake_registration().save(tmp_path / "others")
    write_results(mkdir(tmp_path / "out"), [Outcome(str(source), "../others", "good", "")])
    (outcome,) = register_many([source], tmp_path / "out", register=fake_register)
    assert outcome.folder == "scan"


def mkdir(path: Path) -> Path:
    path.mkdir()
    return path


def test_inputs_are_files_folders_and_patterns(tmp_path: Path) -> None:
    make(tmp_path, b="x", a="x")
    (tmp_path / "c.OBJ").write_text("x", encoding="utf-8")
    (tmp_path / "readme.md").write_text("x", encoding="utf-8")
    (tmp_path / ".hidden.ply").write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd[1].ply").write_text("x", encoding="utf-8")
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
