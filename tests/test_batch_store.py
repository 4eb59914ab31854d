"""Batches from and into a store: the same results, nothing lost or doubled, and one line for what is missing."""

import io
import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from batches import fake_register, make
from PIL import Image

from lvdreg.base.errors import OutputError, UsageError
from lvdreg.base.provenance import InputFile, sha256_of
from lvdreg.base.version import __version__
from lvdreg.batch import Outcome, Remote, Source, find_sources, is_remote, read_list, register_many, store_of
from lvdreg.batch.store import ROWS, Bucket
from lvdreg.batch.table import rows_in, table_of
from lvdreg.result.scan import Registration

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'lvdreg[storage]'")
LocalFileSystem = fsspec.filesystem("file").__class__


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: Image.new("RGB", (4, 4)))


@pytest.fixture
def memory() -> Any:
    """A store in the memory of this process."""
    found = fsspec.filesystem("memory")
    yield found
    found.store.clear()
    found.pseudo_dirs[:] = [""]


def put(memory: Any, **files: str) -> list[Source]:
    for stem, content in files.items():
        memory.pipe_file(f"/in/{stem}.ply", content.encode())
    return [Remote(f"memory://in/{stem}.ply") for stem in files]


def names(memory: Any, place: str = "/out") -> set[str]:
    return {path.removeprefix(place + "/").partition("/")[0] for path in memory.find(place)}


def table(memory: Any) -> list[Outcome]:
    content = io.BytesIO(memory.cat_file("/out/results.csv"))
    return list(rows_in(content, names(memory).__contains__)[0].values())


OUT = Remote("memory://out")


def test_addresses_are_told_from_paths() -> None:
    assert all(map(is_remote, ("s3://b/a.ply", "memory://x", "file:///a", "abfs://c@d/e")))
    assert not any(map(is_remote, ("C://a", "a.ply", "/a//b", "a:b", "scans/*.ply")))
    assert (Remote("s3://b/x y.ply").stem, (Remote("s3://b/") / "a").url) == ("x y", "s3://b/a")


def test_files_folders_patterns_and_lists_of_addresses(memory: Any, tmp_path: Path) -> None:
    put(memory, b="good", a="good")
    memory.pipe_file("/in/no.txt~", b"x")
    memory.pipe_file("/in/.hidden.ply", b"x")
    memory.pipe_file("/in/results.csv", table_of([]))
    memory.pipe_file("/in/deep/c.ply", b"x")
    both = ["memory://in/a.ply", "memory://in/b.ply"]
    for given in ("memory://in", "memory://in/", "memory://in/[ab].ply", "memory://i*/[ab].ply"):
        assert [str(source) for source in find_sources([given, both[1]])] == both, given
    assert find_sources(["memory://in/gone.ply", "memory://none/*.ply"]) == [
        Remote("memory://in/gone.ply"),
        Remote("memory://none/*.ply"),
    ]
    (near,) = make(tmp_path, near="good")
    (tmp_path / "list.csv").write_text("path,up\nmemory://in,+z\nnear.ply,\n", encoding="utf-8")
    sources, own = read_list(tmp_path / "list.csv", {"up": str})
    assert sources == [*map(Remote, both), near] and own == {Remote(each): {"up": "+z"} for each in both}


def test_results_of_a_store_are_those_of_a_folder(memory: Any, tmp_path: Path) -> None:
    far = put(memory, a="good", b="scan", c="check")
    near: list[Source] = [*make(tmp_path / "in", a="good", b="scan", c="check")]
    folder = register_many(near, tmp_path / "out", register=fake_register)
    for sources in (far, near):
        outcomes = register_many(sources, OUT, register=fake_register)
        assert [(each.folder, each.verdict) for each in outcomes] == [(each.folder, each.verdict) for each in folder]
        assert [each.source for each in outcomes] == [str(source) for source in sources]
        assert outcomes == table(memory) and names(memory) == {"a", "c", "results.csv"}
        files = {path.name for path in (tmp_path / "out" / "a").iterdir()}
        assert {path.rpartition("/")[2] for path in memory.find("/out/a")} == files
        assert store_of(OUT).report("a")["input"]["path"] == str(sources[0])  # type: ignore[index]
        memory.store.clear()


def test_only_the_name_of_the_input_is_told_not_where_its_copy_was(memory: Any) -> None:
    (source, gone) = (*put(memory, a="bug"), Remote("memory://in/gone.ply"))
    first, second = register_many([source, gone], OUT, register=fake_register)
    assert "/tmp" not in first.reason and "unexpected ValueError (a.ply: expected" in first.reason
    assert second.reason == "cannot be fetched (memory://in/gone.ply: no such file)"


def test_what_is_finished_in_a_store_is_left_out(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = put(memory, a="good", b="check")
    calls: list[str] = []

    def counting(source: Path, **options: Any) -> Registration:
        calls.append(source.stem)
        return fake_register(source, **options)

    counting.__name__ = fake_register.__name__

    def again(**options: Any) -> list[str]:
        calls.clear()
        register_many(find_sources(["memory://in"]), OUT, register=counting, resume=True, **options)
        return list(calls)

    first = register_many(sources, OUT, register=fake_register)
    assert again() == [] and again(seed=1) == ["a", "b"] and again(seed=1) == []
    assert len(table(memory)) == len(first) == 2
    memory.pipe_file("/in/a.ply", b"good now")
    assert again(seed=1) == ["a"] and table(memory)[0].reason == "good now"
    memory.rm_file("/out/b/body.ply")
    assert again(seed=1) == ["b"]
    memory.rm_file("/out/b/report.json")
    memory.pipe_file("/out/b/notes.txt", b"mine")
    assert again(seed=1) == ["b"] and names(memory) == {"a", "b", "b-2", "results.csv"}
    assert memory.cat_file("/out/b/notes.txt") == b"mine"

    # What a store calls a content says that it is the same: nothing is fetched.
    def tagged(about: dict[str, Any]) -> tuple[int, int, str]:
        return about["size"], 0, str(len(memory.cat_file(about["name"])))

    monkeypatch.setattr("lvdreg.batch.remote._look", tagged)
    assert again(seed=1) == [] and None not in {row.stamp for row in table(memory)}
    monkeypatch.setattr(Remote, "fetch", lambda *_: pytest.fail("fetched"))
    assert again(seed=1) == []


def test_a_table_is_whole_however_many_rows_are_beside_it(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.batch.store.MAX_ROWS", 3)
    bucket = Bucket(OUT)
    row = Outcome("/a", None, None, "1")
    with bucket.table() as found:
        for i in range(8):
            found.add(replace(row, source=f"/{i % 5}", reason=str(i)))
            assert len(memory.find(f"/out/{ROWS}")) < 3
            reasons = [row.reason for row in Bucket(OUT).rows()[0].values()]
            assert sorted(map(int, reasons)) == list(range(max(0, i - 4), i + 1)), "the last of each, from elsewhere"
    assert names(memory) == {"results.csv"} and len(table(memory)) == 5
    with Bucket(OUT).table() as found:
        assert len(found.rows) == 5


def test_the_table_of_a_store_as_parquet(memory: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'lvdreg[parquet]'")
    register_many(put(memory, a="good"), OUT, register=fake_register)
    for _ in range(2):
        store_of(OUT).write_parquet()
    assert parquet.read_table(io.BytesIO(memory.cat_file("/out/results.parquet"))).num_rows == 1
    memory.pipe_file("/out/results.parquet", b"mine")
    with pytest.raises(OutputError, match=r"results.parquet: is not lvdreg's"):
        store_of(OUT).write_parquet()


def test_two_runs_do_not_write_into_one_store(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.base.lock.PATIENCE_S", 0.0)
    sources = put(memory, a="good", b="good")

    def both(source: Path, **options: Any) -> Registration:
        with pytest.raises(OutputError, match=r"another lvdreg .process \d+ on .*if it has ended, remove"):
            register_many(sources, OUT, register=fake_register)
        return fake_register(source, **options)

    assert all(outcome.registered for outcome in register_many(sources, OUT, register=both))
    assert names(memory) == {"a", "b", "results.csv"}

    def robbed(source: Path, **options: Any) -> Registration:
        memory.pipe_file("/out/.lvdreg.lock", b'{"pid": 1, "host": "other", "since": "now"}')
        return fake_register(source, **options)

    with pytest.raises(OutputError, match="process 1 on other, since now"):
        register_many(sources, OUT, register=robbed)
    assert [row.folder for row in table(memory)] == ["a", "b"], "what was done stays"
    assert len(memory.find(f"/out/{ROWS}")) == 1, "and is left to who holds the lock now"
    memory.pipe_file("/out/.lvdreg.lock", b"half a lo")
    assert register_many(sources, OUT, register=fake_register, resume=True)[0].registered


def test_what_is_not_ours_in_a_store_is_not_written_over(memory: Any) -> None:
    sources = put(memory, a="good")
    memory.pipe_file("/out/a/mine.txt", b"mine")
    assert register_many(sources, OUT, register=fake_register)[0].folder == "a-2"
    memory.pipe_file("/out/results.csv", b"theirs")
    with pytest.raises(OutputError, match=r"results.csv: is not lvdreg's"):
        register_many(sources, OUT, register=fake_register)
    assert memory.cat_file("/out/results.csv") == b"theirs"


@dataclass(frozen=True)
class Small:
    """A result of two files."""

    source: InputFile
    seed: int
    verdict: str = "good"
    reason: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    headline: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> list[Path]:
        folder.mkdir()
        report = {"lvdreg": __version__, "files": {"body.ply": "", "report.json": ""}, "input": asdict(self.source)}
        (folder / "body.ply").write_text(f"{self.source.sha256} {self.seed}", encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
        return []


def small_register(source: Path, *, seed: int, **_: Any) -> Small:
    return Small(InputFile(str(source), sha256_of(source)), seed)


def run_killed_at(step: int, sources: list[Source], out: Remote) -> bool:
    """Register in a process that is killed when half of a write is done, or before a removal; False if it ended."""
    pid = os.fork()
    if pid == 0:
        left = [step]

        def dying(call: Callable[..., Any]) -> Callable[..., Any]:
            def count(self: Any, path: str, content: Any = None, *args: Any, **options: Any) -> Any:
                if not left[0]:
                    if content is not None:
                        half = content if isinstance(content, bytes) else Path(path).read_bytes()
                        place = Path(path if isinstance(content, bytes) else content)
                        place.parent.mkdir(exist_ok=True)
                        place.write_bytes(half[: len(half) // 2])
                    os.kill(os.getpid(), 9)
                left[0] -= 1
                return call(self, path, *(() if content is None else (content,)), *args, **options)

            return count

        for name in ("pipe_file", "put_file", "rm_file"):
            setattr(LocalFileSystem, name, dying(getattr(LocalFileSystem, name)))
        try:
            register_many(sources, out, register=small_register, seed=1)
        except BaseException:  # noqa: BLE001 - a child must not go on as pytest
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed before it was killed"
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_killed_at_any_moment_a_store_has_lost_nothing(tmp_path: Path) -> None:
    """A store that other processes see, and that has none of the ways of a folder; writes are not even whole."""
    sources: list[Source] = [*make(tmp_path / "in", a="a", b="b")]
    ends, step = set(), 0
    for step in range(100):
        place = tmp_path / str(step)
        out = Remote(f"file://{place}")
        register_many(sources[:1], out, register=small_register, seed=0)
        if not run_killed_at(step, sources, out):
            break
        ends.add(frozenset(Path(source).name for source in Bucket(out).rows()[0]))
        outcomes = register_many(sources, out, register=small_register, seed=1, resume=True)
        assert [outcome.folder for outcome in outcomes] == ["a", "b"]
        left = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
        assert left == {"a/body.ply", "a/report.json", "b/body.ply", "b/report.json", "results.csv"}, step
        assert all((place / name / "body.ply").read_text(encoding="utf-8").endswith(" 1") for name in "ab")
        assert [row.source for row in Bucket(out).rows()[0].values()] == [str(source) for source in sources]
    assert step > 15 and {frozenset({"a.ply"}), frozenset({"a.ply", "b.ply"})} <= ends, f"{step} steps, {ends}"


def test_a_store_goes_to_other_processes_without_what_was_listed() -> None:
    bucket = Bucket(OUT, {"a": {"b": (1, 2)}}, ["a"], b"note")
    assert pickle.loads(pickle.dumps(bucket)) == Bucket(OUT)


def test_what_is_missing_or_wrong_is_one_line(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, line in (
        ("nowhere://a", r"nowhere://a: nothing that serves nowhere:// \(Protocol not known: nowhere\)"),
        ("http://ann:secret@host/a.ply", "address without a password"),
    ):
        with pytest.raises(UsageError, match=line):
            find_sources([url])
    put(memory, a="good")
    monkeypatch.setattr("lvdreg.batch.remote.MAX_BYTES", 3)
    (outcome,) = register_many([Remote("memory://in/a.ply")], OUT, register=fake_register)
    assert "over the limit of 2 GiB" in outcome.reason
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"needs fsspec: pip install 'lvdreg\[storage\]'"):
        register_many([], OUT, register=fake_register)
