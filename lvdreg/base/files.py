"""Files that users bring: plain files only, read up to a limit; JSON whose values are counted before they are made."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

MAX_JSON_BYTES = 64 << 20
MAX_JSON_VALUES = 2_000_000
"""A value takes up to a hundred bytes of memory: so many stay within a fifth of a gigabyte."""

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def not_a_file(path: Path) -> str | None:
    """Say what is there instead of a file, as "a pipe"; None for files, and where nothing can be seen."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)


def plain_size(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        OSError: there is none, or it is a folder, a pipe, a device or a socket: reading one might never end.
    """
    kind = not_a_file(path)
    if kind is not None:
        raise OSError(f"is {kind}, not a file")
    try:
        return path.stat().st_size
    except ValueError as error:
        raise OSError(str(error)) from None


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading bytes; see ``plain_size`` for what is refused."""
    plain_size(path)
    return path.open("rb")


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises:
        OSError: it is larger, or what ``plain_size`` refuses.
    """
    size = plain_size(path)
    if size > limit:
        raise OSError(f"has {size} bytes, over the limit of {limit}")
    return path.read_bytes()


def parse_json(data: bytes) -> Any:
    """Parse JSON of at most ``MAX_JSON_VALUES`` values.

    Raises:
        ValueError: it is none, holds more values, or is nested too deep.
    """
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise ValueError(f"it holds more than {MAX_JSON_VALUES} values")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_json(path: Path) -> Any:
    """Read a file of JSON of at most ``MAX_JSON_BYTES``.

    Raises:
        OSError: it cannot be read, or is larger.
        ValueError: it holds no JSON.
    """
    return parse_json(read_bytes(path, MAX_JSON_BYTES))
