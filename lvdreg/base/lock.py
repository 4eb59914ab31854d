"""Keep a second run out of a folder; the lock says who holds it and ends with the process, however that ends."""

import errno
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from lvdreg.base.disk import is_running
from lvdreg.base.errors import OutputError
from lvdreg.base.files import not_a_file, parse_json
from lvdreg.base.text import one_line

LOCK = ".lvdreg.lock"
"""Lies in the folder while a run is at it."""
PATIENCE_S = 3.0
"""So long a run that was just killed may take to let go of the folder: its workers hold the lock, too."""
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_FAR = 1 << 30
"""Windows forbids others to read what is locked: it locks a byte far behind what is written."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. On file systems without locks what the file says keeps a second run out.

    Args:
        folder: Exists.

    Raises:
        OutputError: another run is writing there; says which.
        OSError: the folder cannot be written.
    """
    path = folder / LOCK
    descriptor = _acquired(path, time.monotonic() + PATIENCE_S)
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, own_note())
        yield
    finally:
        # While it is held still, or another run might take a file that is about to vanish; Windows removes none open.
        with suppress(OSError):
            if os.name == "posix":
                path.unlink()
        os.close(descriptor)
        with suppress(OSError):
            if os.name != "posix":
                path.unlink()


def _acquired(path: Path, deadline: float) -> int:
    found = "a link" if path.is_symlink() else not_a_file(path)
    if found is not None:
        raise OutputError(f"{path}: expected the lock of a run or nothing, got {found}; remove it")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        is_ours = _lock(descriptor)
        note = _note_in(descriptor)
        if (is_ours or (is_ours is None and is_nobodys(note))) and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise OutputError(refusal(str(path.parent), note, is_sure=is_ours is False))
        time.sleep(0.05)


def own_note() -> bytes:
    """Return what a lock of this process says."""
    holder = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    return json.dumps(holder | {"run": secrets.token_hex(4)}).encode()


def is_nobodys(note: bytes) -> bool:
    """Whether the run that a note names has ended; of runs on other machines nobody knows."""
    found = _said(note)
    is_here = found is not None and found[1] == platform.node() and os.name == "posix"
    return found is None or (is_here and not is_running(found[0]))


def refusal(folder: str, note: bytes, *, is_sure: bool) -> str:
    """Say that another run holds a folder, which one by its note, and what to do if that may have ended."""
    found = _said(note)
    holder = "" if found is None else f" (process {found[0]} on {found[1][:60]}, since {found[2][:30]})"
    return f"{folder}: another lvdreg{holder} is writing into it; wait for it, stop it or use another folder" + (
        "" if is_sure else f" (if it has ended, remove {LOCK})"
    )


def _lock(descriptor: int) -> bool | None:
    """Take the lock if it is free; None where there are no locks."""
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that was locked is still the one of that name: its holder removes it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _note_in(descriptor: int) -> bytes:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def _said(note: bytes) -> tuple[int, str, str] | None:
    """Return process, machine and time that a note names; None if it names none."""
    try:
        found = parse_json(note)
        return int(found["pid"]), one_line(found["host"]), one_line(found["since"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
