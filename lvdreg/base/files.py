"""Files that users bring: plain files only, read up to a limit; text in the encoding that its first bytes name.

Of JSON the values are counted before they are made.
"""

import codecs
import json
import stat
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path, PureWindowsPath
from typing import Any

MAX_JSON_BYTES = 64 << 20
MAX_JSON_VALUES = 2_000_000
"""A value takes up to a hundred bytes of memory: so many stay within a fifth of a gigabyte."""
MAX_JSON_DEPTH = 100
"""Lists within lists: far fewer than Python can write, print and compare again."""

MAX_TEXT_BYTES = 16 << 20
"""Of settings and the like."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # which begins as UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

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


def open_plain(path: Path) -> BufferedReader:
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
    with path.open("rb") as file:
        # No more than was looked at: what has no size, as some files that systems make, may have no end.
        return file.read(size)


def leads_outside(name: str) -> bool:
    """Tell whether a name is anything but a place below a folder, on whatever system."""
    path = PureWindowsPath(name)  # which takes both kinds of slashes
    return bool(path.anchor) or ".." in path.parts or "\0" in name


def has_mark(data: bytes) -> bool:
    """Tell whether text begins with a byte-order mark."""
    return any(data.startswith(mark) for mark, _ in _MARKS)


def as_utf8(data: bytes) -> bytes:
    """Return text that begins with a byte-order mark as UTF-8 without it; all else as it is."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            rest = data[len(mark) :]
            return rest if encoding == "utf-8" else rest.decode(encoding, "replace").encode()
    return data


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Read a file of text, in UTF-8 unless a byte-order mark says otherwise.

    Raises:
        OSError: it cannot be read, or is larger.
        ValueError: it holds no text.
    """
    return as_utf8(read_bytes(path, limit)).decode()


def parse_json(data: bytes) -> Any:
    """Parse JSON of at most ``MAX_JSON_VALUES`` values.

    Raises:
        ValueError: it is none, holds more values, or is nested too deep.
    """
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise ValueError(f"it holds more than {MAX_JSON_VALUES} values")
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    level = [found]
    for _ in range(MAX_JSON_DEPTH):
        level = [each for one in level if isinstance(one, dict | list) for each in _inside(one)]
    if level:
        raise ValueError("it is nested too deep")
    return found


def _inside(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def read_json(path: Path) -> Any:
    """Read a file of JSON of at most ``MAX_JSON_BYTES``.

    Raises:
        OSError: it cannot be read, or is larger.
        ValueError: it holds no JSON.
    """
    return parse_json(read_bytes(path, MAX_JSON_BYTES))
