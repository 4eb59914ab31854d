"""Files and folders are replaced whole: killed at any instant, what is found is the old content or the new one."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dying import killed_at

from lvdreg.base import disk
from lvdreg.base.disk import FolderKind, beside, recover, refuse_others, replacing_folder, write_file
from lvdreg.base.errors import OutputError
from lvdreg.base.lock import LOCK, is_nobodys, locked, own_note, refusal

MARKER = "about.json"


def owned(folder: Path) -> frozenset[str]:
    """The names that the marker lists."""
    try:
        listed = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError):
        return frozenset()
    there = (name for name in listed if (folder / name).is_file() or KIND.is_wholly_owned(folder / name))
    return frozenset((*there, MARKER))


KIND = FolderKind(MARKER, owned)


def write(folder: Path, what: str, names: tuple[str, ...] = ("a", "b"), inside: tuple[str, ...] = ()) -> None:
    with replacing_folder(folder, KIND) as part:
        write_into(part, what, names, inside)


def write_into(part: Path, what: str, names: tuple[str, ...] = ("a", "b"), inside: tuple[str, ...] = ()) -> None:
    for name in names:
        (part / name).write_text(what, encoding="utf-8")
    for name in inside:
        (part / name).mkdir()
        write_into(part / name, what)
    (part / MARKER).write_text(json.dumps({"files": [*names, *inside], "what": what}), encoding="utf-8")


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*")) if p.is_file()}


def whole(folder: Path) -> str | None:
    """Say which result is whole there; None where the marker says that there is none."""
    try:
        about = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    for name in about["files"]:
        content = whole(folder / name) if (folder / name).is_dir() else (folder / name).read_text(encoding="utf-8")
        assert content == about["what"], f"{name} is of another result"
    return str(about["what"])


# ---- killed at every step

FOLDERS: dict[str, dict[str, Any]] = {
    "new": {},
    "alone": {"old": {}},
    "alone, in two renames": {"old": {}, "exchange": False},
    "with others' files": {"old": {}, "others": True},
    "with others' files and no old result": {"others": True},
    "other names": {"old": {"names": ("a", "c", "d")}},
    "other names, in two renames": {"old": {"names": ("a", "c", "d")}, "exchange": False},
    "folders inside": {"old": {"inside": ("p-1", "p-2")}, "new": {"inside": ("p-1",)}},
    "folders inside, with others' files": {
        "old": {"inside": ("p-1",)},
        "new": {"inside": ("p-1", "p-2")},
        "others": True,
    },
}


def prepare(root: Path, old: dict[str, Any] | None = None, others: bool = False, **_: Any) -> Path:
    folder = root / "result"
    if old is not None:
        write(folder, "old", **old)
    if others:
        (folder / "mine").mkdir(parents=True)
        (folder / "mine" / "thesis").write_text("years of work", encoding="utf-8")
        (folder / "thesis").write_text("years of work", encoding="utf-8")
    return folder


def check(folder: Path, case: dict[str, Any]) -> str | None:
    """Nothing of others is lost, and no result is half of one."""
    if case.get("others"):
        assert (
            (folder / "thesis").read_text(encoding="utf-8")
            == (folder / "mine" / "thesis").read_text(encoding="utf-8")
            == "years of work"
        )
    return whole(folder)


@pytest.mark.skipif(os.name != "posix", reason="forks")
@pytest.mark.parametrize("name", list(FOLDERS))
def test_killed_at_every_step_the_old_or_the_new_result_is_whole(tmp_path: Path, name: str) -> None:
    """Forks a process for every call that changes a folder, and kills it there as the system does."""
    case, ends, step = FOLDERS[name], [], 0
    while True:
        root = tmp_path / str(step)
        root.mkdir()
        folder = prepare(root, **case)
        if not killed_at(step, partial(write, folder, "new", **case.get("new", {})), case.get("exchange", True)):
            break
        found = check(folder, case)
        # In one step, or in the last of several: until then what is there says that it is not complete.
        in_steps = case.get("exchange") is False or case.get("others")
        assert found in ("old", "new", None) if in_steps or "old" not in case else found in ("old", "new")
        recover(root, KIND)
        found = check(folder, case)
        assert found in ("old", "new") if "old" in case else found in (None, "new")
        ends.append(found)
        assert not [path.name for path in root.iterdir() if path.name != "result"], f"litter after step {step}"
        write(folder, "newer", **case.get("new", {}))
        assert check(folder, case) == "newer" and [path.name for path in root.iterdir()] == ["result"]
        step += 1
    assert check(folder, case) == "new" and [path.name for path in root.iterdir()] == ["result"]
    assert step > 1 and ends[0] == ("old" if "old" in case else None) and (ends[-1] == "new" or not case)
    assert ends == sorted(ends, key=lambda end: end == "new"), "once the new one is there it stays"


# ---- failures that are no kills


@pytest.mark.parametrize("name", [name for name in FOLDERS if "two renames" not in name])
def test_a_failure_at_any_move_leaves_the_old_or_the_new_result_and_no_litter(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_exchanged", lambda first, second: False)
    case, step = FOLDERS[name], 0
    while True:
        root = tmp_path / str(step)
        root.mkdir()
        folder = prepare(root, **case)
        with pytest.MonkeyPatch.context() as patch:
            failed = fail_once(patch, step)
            try:
                write(folder, "new", **case.get("new", {}))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        found = check(folder, case)
        assert found == "new" if not failed else found in ("new", "old" if "old" in case else None)
        assert not [path.name for path in root.iterdir() if path.name != "result"]
        if not failed:
            break
        step += 1
    assert step >= (2 if len(case) else 1)


def fail_once(patch: pytest.MonkeyPatch, step: int) -> list[str]:
    """Let the move of that number fail; returns a list that then is not empty."""
    count, failed = [step], list[str]()
    for name in ("rename", "replace"):
        call = getattr(os, name)

        def moved(source: Any, target: Any, call: Callable[..., Any] = call) -> None:
            count[0] -= 1
            if count[0] == -1:
                failed.append(str(source))
                raise OSError(errno.ENOSPC, "No space left on device")
            call(source, target)

        patch.setattr(os, name, moved)
    return failed


def test_a_folder_that_cannot_be_written_keeps_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As across a mount point: nothing can be moved in, whatever is tried."""
    write(tmp_path / "result", "old")
    (tmp_path / "result" / "thesis").write_text("years of work", encoding="utf-8")
    replace = os.replace

    def crossing(source: Any, target: Any) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    before = tree(tmp_path)
    monkeypatch.setattr(os, "replace", crossing)
    with pytest.raises(OSError, match="cross-device"):
        write(tmp_path / "result", "new")
    assert tree(tmp_path) == before


def test_what_is_put_there_in_the_last_instant_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "result", "old")
    exchanged = disk._exchanged

    def late(first: Path, second: Path) -> bool:
        (tmp_path / "result" / "thesis").write_text("years of work", encoding="utf-8")
        return exchanged(first, second)

    monkeypatch.setattr(disk, "_exchanged", late)
    if not late(tmp_path / "result", tmp_path / "result"):
        pytest.skip("this file system exchanges nothing")
    (tmp_path / "result" / "thesis").unlink()
    write(tmp_path / "result", "new")
    assert (
        whole(tmp_path / "result") == "new"
        and (tmp_path / "result" / "thesis").read_text(encoding="utf-8") == "years of work"
    )


# ---- what is left over


def leftover(root: Path, name: str, pid: str = "7fffffff", machine: str | None = None, age_s: float = 0.0) -> Path:
    """Make a hidden file as a process leaves it that is no more (a number that none can have)."""
    path = root / f".{name}.{pid}-{machine or disk._machine()}-0a1b.part"
    path.write_text("half", encoding="utf-8")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says so")
def test_a_process_that_ended_unnoticed_is_dead(tmp_path: Path) -> None:
    """Its parent has not asked how it ended, so its number is still taken."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    path = leftover(tmp_path, "a", f"{process.pid:x}")
    recover(tmp_path, KIND)
    assert not path.exists()
    process.wait()


def test_only_leftovers_of_dead_processes_go(tmp_path: Path) -> None:
    gone = [
        leftover(tmp_path, "a"),
        leftover(tmp_path, "b\nc"),
        leftover(tmp_path, "d", "1", "0" * 8, 2 * disk.STALE_S),
    ]
    stays = [
        leftover(tmp_path, "mine", f"{os.getpid():x}"),
        leftover(tmp_path, "others", "1", "0" * 8),
        tmp_path / ".a.0a1b2c3d.part",  # of a version that did not say whose; or of another program
        tmp_path / "notes.part",
        tmp_path / ".notes.part",
        tmp_path / f".a.1-{'0' * 8}-0a1b.backup",
    ]
    for path in stays[2:]:
        path.write_text("not to be touched", encoding="utf-8")
    link = leftover(tmp_path, "link")
    link.unlink()
    link.symlink_to("notes.part")
    recover(tmp_path, KIND)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in (*stays, link))
    assert not any(path.exists() for path in gone)


def test_who_is_alone_in_a_folder_clears_up_after_everybody(tmp_path: Path) -> None:
    leftover(tmp_path, "others", "1", "0" * 8)
    (tmp_path / ".a.0a1b2c3d.part").write_text("half", encoding="utf-8")
    mine = leftover(tmp_path, "mine", f"{os.getpid():x}")
    (tmp_path / "notes.part").write_text("years of work", encoding="utf-8")
    recover(tmp_path, alone=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, "notes.part"])


@pytest.mark.parametrize("taken", ["not", "by ours", "by others"])
def test_what_an_earlier_version_had_moved_aside_comes_back(tmp_path: Path, taken: str) -> None:
    write(tmp_path / "result", "old")
    (tmp_path / "result").rename(tmp_path / ".result.0a1b2c3d.old")
    if taken == "by ours":
        write(tmp_path / "result", "new")
    elif taken == "by others":
        (tmp_path / "result").write_text("diary", encoding="utf-8")
    recover(tmp_path, KIND, alone=True)
    if taken == "by others":
        assert (tmp_path / "result").read_text(encoding="utf-8") == "diary" and whole(
            tmp_path / ".result.0a1b2c3d.old"
        ) == "old"
    else:
        assert whole(tmp_path / "result") == ("new" if taken == "by ours" else "old")
        assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path: Path) -> None:
    recover(tmp_path / "nowhere", KIND)
    assert not list(tmp_path.iterdir())


# ---- files


def test_a_file_is_replaced_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("secret", encoding="utf-8")
    (tmp_path / "summary").symlink_to("diary")
    write_file(tmp_path / "summary", lambda part: part.write_text("new", encoding="utf-8"))
    assert not (tmp_path / "summary").is_symlink() and (tmp_path / "summary").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "diary").read_text(encoding="utf-8") == "secret" and len(list(tmp_path.iterdir())) == 2


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may come in any order of what was not synced."""
    done: list[str] = []
    fsync, replace, rename = os.fsync, os.replace, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(f"to {Path(b).name}"), replace(a, b)))
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append(f"to {Path(b).name}"), rename(a, b)))
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("nothing here says which file is synced")
    write_file(tmp_path / "file", lambda part: part.write_text("x", encoding="utf-8"))
    assert [name.endswith(".part") or name for name in done] == [True, "to file", tmp_path.name]
    done.clear()
    write(tmp_path / "result", "new")
    assert (
        set(done[:3]) == {"a", "b", MARKER} and done[3].endswith(".part") and done[4:] == ["to result", tmp_path.name]
    )


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_others_files_are_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
    elif what == "file":
        path.write_text("others'", encoding="utf-8")
    else:
        (tmp_path / "y").write_text("ours", encoding="utf-8")
        path.symlink_to("y")
    with pytest.raises(OutputError, match="x: is not lvdreg's") as caught:
        refuse_others(path, lambda found: found.read_bytes() == b"ours")
    assert isinstance(caught.value, OSError) and "\n" not in str(caught.value)


def test_what_is_ours_or_not_there_is_not_refused(tmp_path: Path) -> None:
    refuse_others(tmp_path / "x", lambda found: False)
    (tmp_path / "x").write_text("ours", encoding="utf-8")
    refuse_others(tmp_path / "x", lambda found: found.read_bytes() == b"ours")


def test_the_hidden_name_says_whose_it_is(tmp_path: Path) -> None:
    first, second = (beside(tmp_path / "name", "part") for _ in range(2))
    assert first != second and first.parent == tmp_path and first.name.startswith(f".name.{os.getpid():x}-")


def test_result_folders_may_be_named_in_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "there" / "deep")
    for given, place in ((".", "there/deep"), ("..", "there"), ("x/../y", "there/deep/y"), ("../../z/", "z")):
        write(Path(given), "new")
        assert whole(tmp_path / place) == "new"
    with pytest.raises(OutputError, match="got the root"):
        write(Path("/"), "new")


CODE = """
import sys, time
from pathlib import Path
from lvdreg.base.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills")
def test_a_lock_says_who_holds_it_and_ends_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lvdreg.base import lock

    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    with subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
            words = rf"another lvdreg \(process {holder.pid} on .*, since 20"
            with pytest.raises(OutputError, match=words) as caught, lock.locked(tmp_path):
                raise AssertionError("the lock is held")
            assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
        finally:
            holder.kill()
    assert (tmp_path / lock.LOCK).exists(), "killed, it could not remove it"
    with lock.locked(tmp_path):
        assert json.loads((tmp_path / lock.LOCK).read_text(encoding="utf-8"))["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="flock")
def test_where_there_are_no_locks_the_file_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some file systems of clusters."""
    import fcntl

    from lvdreg.base import lock

    def none_here(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none_here)
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    words = f"process {os.getpid()} on .*remove .lvdreg.lock"
    with lock.locked(tmp_path), pytest.raises(OutputError, match=words), lock.locked(tmp_path):
        raise AssertionError("the lock is held")
    path, here = tmp_path / LOCK, lock.platform.node()
    path.write_text(json.dumps({"pid": 2**22 + 1, "host": here, "since": "then"}), encoding="utf-8")
    with lock.locked(tmp_path):
        assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid(), "it has ended"
    path.write_text(json.dumps({"pid": 2**22 + 1, "host": "elsewhere", "since": "then"}), encoding="utf-8")
    with pytest.raises(OutputError, match="on elsewhere, since then"), lock.locked(tmp_path):
        raise AssertionError("nobody knows whether it has ended")


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no file that is open")
def test_a_lock_whose_file_was_just_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the run before, which ended after the file was opened and before it was locked."""
    from lvdreg.base import lock

    take, opened = lock._lock, list[int]()

    def late(descriptor: int) -> bool:
        if not opened:
            (tmp_path / lock.LOCK).unlink()
        opened.append(descriptor)
        return take(descriptor)

    monkeypatch.setattr(lock, "_lock", late)
    with lock.locked(tmp_path):
        assert (tmp_path / lock.LOCK).exists() and len(opened) == 2


@pytest.mark.skipif(os.name != "posix", reason="pipes in folders are POSIX's")
@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder"])
def test_what_is_no_lock_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / LOCK
    {"a link": lambda: path.symlink_to("/dev/zero"), "a pipe": lambda: os.mkfifo(path), "a folder": path.mkdir}[kind]()
    with pytest.raises(OutputError, match=f"expected the lock of a run or nothing, got {kind}"), locked(tmp_path):
        pass
    assert os.path.lexists(path)


@pytest.mark.parametrize(
    "note",
    [b"[" * 4096, b"[]", b'{"pid": 1e999, "host": 1, "since": 2}', b'{"pid": 7, "host": 1, "since": 2}', b"", b"\xff"],
)
def test_a_lock_that_says_nothing_names_nobody(note: bytes) -> None:
    assert is_nobodys(note)
    assert refusal("out", note, is_sure=True).startswith("out: another lvdreg is writing into it; wait for it")


def test_a_lock_names_who_holds_it() -> None:
    assert not is_nobodys(own_note()), "this process is at work"
    assert f"(process {os.getpid()} on " in refusal("out", own_note(), is_sure=True)
