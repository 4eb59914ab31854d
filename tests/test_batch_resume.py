"""Batches that go on: what is finished is left out, and a run that was killed has lost nothing."""

import json
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from batches import fail_on_call, fake_register, make
from dying import killed_at
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lvdreg.base.errors import OutputError
from lvdreg.base.provenance import sha256_of
from lvdreg.batch import Listener, Outcome, read_results, register_many, write_results
from lvdreg.batch.table import opened
from lvdreg.result.scan import Registration


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: Image.new("RGB", (4, 4)))


def fail_named(*_: Any, **__: Any) -> Registration:
    raise AssertionError("nothing may be computed")


fail_named.__name__ = fake_register.__name__

# ---- going on


def test_what_is_finished_is_left_out(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", a="good", b="scan", c="check")
    first = register_many(sources, tmp_path / "out", register=fake_register, model="anny", seed=1)
    calls: list[str] = []

    def counting(source: Path, **options: Any) -> Registration:
        calls.append(source.stem)
        return fake_register(source, **options)

    counting.__name__ = fake_register.__name__

    def again(**changes: Any) -> list[Outcome]:
        calls.clear()
        options = {"model": "anny", "seed": 1, **changes}
        return register_many(sources, tmp_path / "out", register=counting, resume=True, **options)

    found = again()
    assert calls == ["b"] and found[0] == first[0] and found[2] == first[2] and not found[1].registered
    assert read_results(tmp_path / "out") == found
    for change in ({"seed": 2}, {"model": "anny+d"}, {"config": (1, 2)}):
        again(**change)
        assert calls == ["a", "b", "c"], change
        again()
    sources[0].write_text("good now", encoding="utf-8")
    assert again()[0].reason == "good now" and calls == ["a", "b"]
    (tmp_path / "out" / "c" / "body.ply").unlink()
    again()
    assert calls == ["b", "c"]
    (tmp_path / "out" / "c" / "report.json").write_text("{}", encoding="utf-8")
    again()
    assert calls == ["b", "c"] and not (tmp_path / "out" / "c-3").exists()
    assert register_many(sources, tmp_path / "out", register=counting, model="anny", seed=1) and calls[-3:] == [*"abc"]


def test_another_version_or_other_weights_make_a_result_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = make(tmp_path, a="good")
    (tmp_path / "assets" / "weights").mkdir(parents=True)
    (tmp_path / "assets" / "weights" / "net").write_bytes(b"old")
    monkeypatch.setattr("lvdreg.batch.resume.assets_dir", lambda: tmp_path / "assets")
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "models"))
    calls: list[int] = []

    def register(source: Path, **options: Any) -> Registration:
        calls.append(1)
        assets = {"weights/net": sha256_of(tmp_path / "assets" / "weights" / "net"), "mask/m.png": "known by the key"}
        return replace(fake_register(source, **options), assets={**assets, **more})

    def times(**options: Any) -> int:
        calls.clear()
        register_many([source], tmp_path / "out", register=register, resume=True, **options)
        return len(calls)

    more: dict[str, str] = {}
    assert (times(), times()) == (1, 0)
    (tmp_path / "assets" / "weights" / "net").write_bytes(b"new weights")
    assert (times(), times()) == (1, 0)
    monkeypatch.setattr("lvdreg.batch.resume.__version__", "99.0")
    assert (times(), times()) == (1, 0)
    # A file among the options counts by its content.
    (tmp_path / "mask.png").write_bytes(b"one")
    assert (times(mask=str(tmp_path / "mask.png")), times(mask=str(tmp_path / "mask.png"))) == (1, 0)
    (tmp_path / "mask.png").write_bytes(b"two")
    assert times(mask=str(tmp_path / "mask.png")) == 1
    more["models/gone/x.npz"] = "of a model that was removed"
    source.write_text("good still", encoding="utf-8")
    assert (times(), times()) == (1, 1)


def test_the_listener_hears_of_what_is_left_out(tmp_path: Path) -> None:
    heard: list[str] = []

    class Ear(Listener):
        def skipped(self, outcome: Outcome) -> None:
            heard.append(str(outcome.folder))

    for _ in range(2):
        register_many(make(tmp_path, a="good"), tmp_path / "out", register=fake_register, listener=Ear(), resume=True)
    assert heard == ["a"]


# ---- killed, interrupted, and not alone


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_killed_at_any_moment_nothing_is_lost_and_nothing_left(tmp_path: Path) -> None:
    sources, ends = make(tmp_path / "in", a="good old", b="good old"), set()
    for step in range(400):
        out = tmp_path / str(step)
        register_many(sources[:1], out, register=fake_register)
        if not killed_at(step, partial(register_many, sources, out, register=fake_register, seed=1)):
            break
        known = {outcome.source: outcome for outcome in read_results(out)}
        assert known[str(sources[0])].folder == "a", "what the summary knew it still knows"
        assert json.loads((out / "a" / "report.json").read_text(encoding="utf-8"))["reason"] == "good old"
        ends.add(len(known))
        outcomes = register_many(sources, out, register=fake_register, seed=1, resume=True)
        assert [outcome.folder for outcome in outcomes] == ["a", "b"]
        assert sorted(path.name for path in out.iterdir()) == ["a", "b", "results.csv"]
        shutil.rmtree(out)
    assert step > 12 and ends == {1, 2}, f"{step} steps, {ends}"


def test_every_outcome_is_on_the_disk_before_the_next_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row each: the table itself is written once, before them."""
    written: list[int] = []

    def counted(*args: Any) -> None:
        written.append(1)
        write_results(*args)

    def looking(source: Path, **options: Any) -> Registration:
        assert len(read_results(tmp_path / "out")) == int(source.stem) and written == [1]
        return fake_register(source, **options)

    monkeypatch.setattr("lvdreg.batch.table.write_results", counted)
    sources = make(tmp_path / "in", **{str(i): "good" for i in range(5)})
    assert all(outcome.registered for outcome in register_many(sources, tmp_path / "out", register=looking))
    assert written == [1]


def test_half_a_row_of_a_killed_run_is_mended(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", a="good", b="good")
    outcomes = register_many(sources, tmp_path / "out", register=fake_register)
    table = tmp_path / "out" / "results.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[:-40])
    assert read_results(tmp_path / "out") == outcomes[:1]
    register_many(sources[1:], tmp_path / "out", register=fake_register)
    assert [outcome.folder for outcome in read_results(tmp_path / "out")] == ["a", "b"]
    assert table.read_bytes().count(b"\n") == whole.count(b"\n")


def test_a_row_for_which_there_is_no_room_leaves_the_table_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = make(tmp_path / "in", a="good", b="good")
    register_many(sources[:1], tmp_path / "out", register=fake_register)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path / "out") as table, monkeypatch.context() as patch:
        patch.setattr("lvdreg.batch.table.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            table.add(Outcome("/b", None, None, "x"))
    assert (tmp_path / "out" / "results.csv").read_bytes().endswith(b"\n")
    assert [outcome.folder for outcome in read_results(tmp_path / "out")] == ["a"]


texts = st.text(max_size=20) | st.sampled_from(['"', '"x"', "a\nb", "\udcff", "\u2028", "a,b", " ", "\r", '"\\'])


@given(
    st.builds(
        Outcome,
        source=texts.map(lambda text: f"/{text}"),
        folder=st.none(),
        verdict=st.sampled_from(["good", "check", "failed", None]),
        reason=texts,
        error_mm=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        height_is_guess=st.none() | st.booleans(),
        quarantined=st.booleans(),
        timings=st.dictionaries(texts, st.floats(0, 1e6), max_size=3),
        traceback=st.none() | texts.filter(bool),
    )
)
def test_rows_are_read_as_they_were_written_and_are_one_line(
    tmp_path_factory: pytest.TempPathFactory, outcome: Outcome
) -> None:
    out = tmp_path_factory.mktemp("out")
    with opened(out) as table:
        table.add(outcome)
        table.add(Outcome("last", None, None, "x"))
    assert read_results(out) == [outcome, Outcome("last", None, None, "x")]
    assert len((out / "results.csv").read_bytes().splitlines()) == 3


def test_what_is_done_again_stands_once(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", a="good", b="good")
    for word in ("good", "check"):
        sources[0].write_text(word, encoding="utf-8")
        register_many(sources, tmp_path / "out", register=fake_register)
    rows = (tmp_path / "out" / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3 and rows[1].startswith(f"{sources[0]},a,check,") and rows[2].startswith(f"{sources[1]},b,")


def test_a_failure_names_the_earlier_result_that_stays(tmp_path: Path) -> None:
    (source,) = make(tmp_path, a="good")
    register_many([source], tmp_path / "out", register=fake_register)
    source.write_text("fit", encoding="utf-8")
    (outcome,) = register_many([source], tmp_path / "out", register=fake_register, resume=True)
    assert (outcome.folder, outcome.verdict, outcome.registered) == ("a", None, False)
    source.write_text("check", encoding="utf-8")
    (outcome,) = register_many([source], tmp_path / "out", register=fake_register, resume=True)
    assert (outcome.folder, outcome.verdict) == ("a", "check")


def test_finished_inputs_are_known_by_size_and_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = make(tmp_path / "in", a="good", b="good")
    for source in sources:
        os.utime(source, (1e9, 1e9))
    first = register_many(sources, tmp_path / "out", register=fake_register)

    def again(register: Any = fail_named) -> list[Outcome]:
        return register_many(sources, tmp_path / "out", register=register, resume=True)

    with monkeypatch.context() as patch:
        patch.setattr("lvdreg.batch.resume.sha256_of", fail_on_call)
        patch.setattr("lvdreg.result.files.read_json", fail_on_call)
        assert again() == first
    # Another time, as after a copy, is looked into once, and then known.
    os.utime(sources[0], (1e9, 1e9 + 1))
    assert again() != first
    monkeypatch.setattr("lvdreg.batch.resume.sha256_of", fail_on_call)
    assert [replace(outcome, stamp=None) for outcome in again()] == [replace(each, stamp=None) for each in first]


def test_what_changes_while_it_is_registered_or_just_before_is_looked_into(tmp_path: Path) -> None:
    (source,) = make(tmp_path, a="good")
    assert register_many([source], tmp_path / "out", register=fake_register)[0].stamp is None, "young"
    os.utime(source, (1e9, 1e9))

    def touched(source: Path, **options: Any) -> Registration:
        found = fake_register(source, **options)
        os.utime(source, (1e9, 1e9 + 1))
        return found

    assert register_many([source], tmp_path / "out", register=touched)[0].stamp is None
    os.utime(source, (1e9, time.time() + 1e6))
    assert register_many([source], tmp_path / "out", register=fake_register)[0].stamp is None, "a clock went back"
    os.utime(source, (1e9, 1e9))
    assert register_many([source], tmp_path / "out", register=fake_register)[0].stamp is not None


def test_a_full_disk_is_noticed_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = make(tmp_path / "in", a="good", b="good", c="good")
    free = [10**9, 10**9, 10**6]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=free.pop(0)))
    with pytest.raises(OutputError, match=r"out: 1 MB are free, 34 MB are needed; make room"):
        register_many(sources, tmp_path / "out", register=fake_register)
    assert [outcome.folder for outcome in read_results(tmp_path / "out")] == ["a"]


def test_a_result_that_cannot_be_written_ends_the_run_if_nothing_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota is seen by trying only."""
    calls: list[int] = []

    def over_quota(*_: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr("os.posix_fallocate", over_quota, raising=False)
    with pytest.raises(OSError, match="quota"):
        register_many(make(tmp_path / "in", a="scan", b="good"), tmp_path / "out", register=fake_register)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.csv"]


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.base.lock.PATIENCE_S", 0.0)
    sources = make(tmp_path / "in", a="good", b="good")

    def both(source: Path, **options: Any) -> Registration:
        with pytest.raises(OutputError, match=f"another lvdreg .process {os.getpid()} on .* is writing into it"):
            register_many(sources, tmp_path / "out", register=fail_on_call)
        return fake_register(source, **options)

    assert all(outcome.registered for outcome in register_many(sources, tmp_path / "out", register=both))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "results.csv"]


def test_a_folder_that_cannot_be_written_is_noticed_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_CREAT and Path(os.fsdecode(path)).parent == tmp_path / "out":
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        register_many(make(tmp_path, a="good"), tmp_path / "out", register=fail_on_call)
