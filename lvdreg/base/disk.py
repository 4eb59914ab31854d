"""Write files and folders so that a kill or a power cut at any instant leaves the old content or the new one, whole.

What is being written lies beside its place under a hidden name that says whose it is, as in
``.NAME.PID-MACHINE-RANDOM.part``, and is moved there in one step once it is on the disk (fsync of every file, then of
the folder it is moved in). What a killed process leaves is known by that name: ``recover`` finishes or removes it.
"""

import ctypes
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lvdreg.base.errors import OutputError

PART, READY, OLD = "part", "ready", "old"
"""What hidden siblings are: not complete; complete and being moved file by file; moved aside for its successor."""
_LEFTOVER = re.compile(
    r"\.(?P<name>.+)\.(?P<owner>(?P<pid>[0-9a-f]+)-(?P<machine>[0-9a-f]{8})-[0-9a-f]{4}|[0-9a-f]{8})\."
    rf"(?P<kind>{PART}|{READY}|{OLD})",
    re.DOTALL,
)
"""Eight digits alone are those of versions before 0.2, which did not say whose they were."""
STALE_S = 3600.0
"""What another machine has not touched for so long is given up: results are written in seconds."""
_AT_CWD, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2."""
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""What file systems that cannot fsync a folder answer."""


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that is written as a whole.

    Attributes:
        marker: The file in it that says what it is; a folder without it is not complete.
        owned: From a folder to the names in it that provably are lvdreg's: those that may be replaced.
    """

    marker: str
    owned: Callable[[Path], frozenset[str]]

    def is_wholly_owned(self, folder: Path) -> bool:
        """Whether a folder, and not a link to one, holds something and nothing but what is lvdreg's."""
        if folder.is_symlink() or not folder.is_dir():
            return False
        names = set(os.listdir(folder))
        return bool(names) and names <= self.owned(folder)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write a file beside ``path``, then move it there: readers see the old file or the new one.

    A link at ``path`` is replaced and not followed.
    """
    part = beside(path, PART)
    try:
        write(part)
        _sync(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    _sync(path.parent)


def refuse_others(path: Path, is_ours: Callable[[Path], bool]) -> None:
    """Refuse to replace a file that is not lvdreg's.

    Args:
        path: What is to be written; nothing need be there.
        is_ours: Says so of a file that is there.

    Raises:
        OutputError: something else is there, or a link.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file() or not is_ours(path):
        raise OutputError(f"{path}: is not lvdreg's and is not overwritten; move it away or choose another folder")


def refuse_full(folder: Path, needed: int, *, probe: bool = False) -> None:
    """Refuse a folder in which there is no room for so many bytes.

    Args:
        folder: Exists.
        needed: Bytes.
        probe: Whether to try it with a file of that size, too, which goes again: a quota is seen in no other way.

    Raises:
        OutputError: there is less.
        OSError: the folder cannot be written, or its disk has no room for the file.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(f"{folder}: {free / 1e6:.0f} MB are free, {needed / 1e6:.0f} MB are needed; make room")
    if probe and hasattr(os, "posix_fallocate"):
        path = beside(folder / "room", PART)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.posix_fallocate(descriptor, 0, needed)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(descriptor)
            path.unlink()


@contextmanager
def replacing_folder(folder: Path, kind: FolderKind) -> Iterator[Path]:
    """Give a fresh folder to write into, and put it in place of ``folder`` if all goes well.

    A folder that holds nothing but an earlier result is replaced in one step. In a folder with files of other origin
    the earlier result's files are replaced one by one, its marker taken away first and written last; the others stay.

    Args:
        folder: Where it is to be; parents are made.
        kind: What is written.

    Raises:
        OutputError: a link or a file is in its place, or a file of others bears a name that is to be written.
        OSError: it cannot be written. Whatever was there is then still whole.
    """
    folder = folder.resolve() if folder.name in ("", "..") else folder.parent.resolve() / folder.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder.parent, kind)
    _refuse_no_folder(folder)
    part = beside(folder, PART)
    part.mkdir()
    try:
        yield part
        _sync_tree(part)
        _put(part, folder, kind)
        _sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_no_folder(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or not folder.name:
        found = "a link" if folder.is_symlink() else "a file" if folder.name else "the root"
        raise OutputError(f"{folder}: expected a folder of results or nothing, got {found}; choose another folder")


def _put(part: Path, folder: Path, kind: FolderKind) -> None:
    """Move a complete folder into its place; afterwards ``part`` is gone, or holds what was replaced."""
    _refuse_no_folder(folder)
    if not folder.exists():
        os.rename(part, folder)
        return
    clashing = next(clashes(part, folder, kind), None)
    if clashing is not None:
        raise OutputError(f"{clashing}: is not lvdreg's and is not overwritten; move it away or choose another folder")
    if kind.is_wholly_owned(folder):
        _swap(part, folder, kind)
    else:
        _fill(part, folder, kind)


def clashes(new: Path, folder: Path, kind: FolderKind) -> Iterator[Path]:
    """Yield what in a folder bears the name of something in a new one and is not lvdreg's."""
    owned = kind.owned(folder)
    for name in sorted(os.listdir(new)):
        target = folder / name
        if target.is_dir() and not target.is_symlink() and (new / name).is_dir():
            yield from clashes(new / name, target, kind)
        elif os.path.lexists(target) and name not in owned:
            yield target


def _swap(part: Path, folder: Path, kind: FolderKind) -> None:
    """Replace a folder in one step; where the system has none, in two, which ``recover`` turns back."""
    owned = kind.owned(folder)
    if _exchanged(part, folder):
        # What somebody put there in the last instant goes back to where they put it.
        for name in set(os.listdir(part)) - owned:
            os.rename(part / name, folder / name)
        return
    old = part.with_suffix(f".{OLD}")
    try:
        os.rename(folder, old)
        os.rename(part, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two folders in one step (Linux's renameat2); False where system or file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a libc before 2018
        return False
    return bool(rename(_AT_CWD, os.fsencode(first), _AT_CWD, os.fsencode(second), _EXCHANGE) == 0)


def _fill(part: Path, folder: Path, kind: FolderKind) -> None:
    """Replace a result among files of others, one by one: once a file of it is there, it can only be finished."""
    ready, files = part.with_suffix(f".{READY}"), _files(part)
    os.rename(part, ready)
    try:
        _move_in(ready, folder, kind.marker)
    except BaseException:
        if files <= _files(ready):
            _take_back(ready, folder, kind.marker)
            os.rename(ready, part)
        else:
            with suppress(OSError):
                _move_in(ready, folder, kind.marker)
        raise


def _move_in(ready: Path, folder: Path, marker: str) -> None:
    """Move everything in, the old marker taken out first and the new one put in last; can be begun again anywhere."""
    folder.mkdir(exist_ok=True)
    aside = ready / _aside(marker)
    names = sorted(set(os.listdir(ready)) - {aside.name}, key=lambda name: (name == marker, name))
    if marker in names and (folder / marker).exists():
        os.replace(folder / marker, aside)
    for name in names:
        source, target = ready / name, folder / name
        if source.is_dir() and target.is_dir():
            _move_in(source, target, marker)
        else:
            os.replace(source, target)
    _sync(folder)
    aside.unlink(missing_ok=True)
    ready.rmdir()


def _take_back(ready: Path, folder: Path, marker: str) -> None:
    """Give the old markers back that ``_move_in`` has taken out."""
    for aside in ready.rglob(_aside(marker)):
        os.replace(aside, folder / aside.relative_to(ready).with_name(marker))


def _aside(marker: str) -> str:
    return f".{marker}.{OLD}"


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}


def recover(folder: Path, kind: FolderKind | None = None, *, alone: bool = False) -> None:
    """Finish or remove what killed processes left half done in a folder.

    Results that were complete are put in their place, those that had been moved aside come back where nothing took
    their place, all else goes. What a living process is at is left alone, and what bears no such name is not touched.

    Args:
        folder: Holds results or files; need not exist.
        kind: Of the folders in it that are written as a whole; those are left alone when None.
        alone: Whether nobody else can be writing there (the caller holds the lock): then what says nothing of a living
            process of this machine is nobody's. Otherwise that is so after ``STALE_S``.
    """
    try:
        found = [(Path(entry), match) for entry in os.scandir(folder) if (match := _LEFTOVER.fullmatch(entry.name))]
    except OSError:
        return
    for path, match in found:
        with suppress(OSError):
            if not path.is_symlink() and _is_nobodys(path, match, alone):
                _settle(path, folder / match["name"], match["kind"], kind)


def _settle(path: Path, place: Path, what: str, kind: FolderKind | None) -> None:
    if not path.is_dir():
        if what == PART:
            path.unlink()
    elif kind is None:
        return
    elif what == READY:
        _refuse_no_folder(place)
        _move_in(path, place, kind.marker)
    elif what == OLD and not os.path.lexists(place):
        os.rename(path, place)
    elif what == PART or kind.owned(place):
        shutil.rmtree(path)


def _is_nobodys(path: Path, match: re.Match[str], alone: bool) -> bool:
    if match["machine"] == _machine() and os.name == "posix":
        return not is_running(int(match["pid"], 16))
    if alone:
        return match["machine"] != _machine() or int(match["pid"], 16) != os.getpid()
    # A name of an earlier version might be another program's.
    return match["pid"] is not None and time.time() - path.lstat().st_mtime > STALE_S


def is_running(pid: int) -> bool:
    """Whether a process of this machine is at work."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended, but its parent has not asked how: its number is taken, nothing of it is at work."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:  # another system than Linux
        return False
    return state[:1] in (["Z"], ["X"])


def beside(path: Path, kind: str) -> Path:
    """Return the hidden name, never used before, of what is made beside a path: PART, READY or OLD."""
    return path.with_name(f".{path.name}.{os.getpid():x}-{_machine()}-{secrets.token_hex(2)}.{kind}")


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return what tells machines, boots and containers apart: a process number means something in one of them only."""
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with suppress(OSError):
        known.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(known).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _sync_tree(folder: Path) -> None:
    for where, _, names in os.walk(folder):
        for name in names:
            _sync(Path(where, name))
        _sync(Path(where))


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, last through a power cut, where the system lets us."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
