"""Files that are not in folders of this machine: addresses such as ``s3://bucket/scan.ply``, by fsspec.

What serves a protocol, and how one signs in there, is the user's: plugins of fsspec, as s3fs, and their own settings.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from lvdreg.base.disk import PART, beside, recover, refuse_full
from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.names import folder_name
from lvdreg.base.text import brief, one_line
from lvdreg.batch.table import TABLE, is_beginning

MAX_BYTES = 2 << 30
"""Readers of scans take no more."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # a single letter is a drive
_TAGS = ("ETag", "etag", "md5", "md5Hash", "checksum", "generation")
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "created")

Look = tuple[int, int] | tuple[int, int, str]
"""Size, time of change in nanoseconds, and what a store calls this content, if it does: it changes with it."""


def is_remote(text: str) -> bool:
    """Whether a text is an address, not a path of this machine."""
    return _ADDRESS.match(text) is not None


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for files that are on their way; what killed processes of this machine have left goes."""
    clear_scratch()
    folder = beside(Path(tempfile.gettempdir()) / "lvdreg", PART)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_scratch() -> None:
    """Remove what killed processes of this machine have left."""
    from lvdreg.result.files import RESULT

    recover(Path(tempfile.gettempdir()), RESULT)


@dataclass(frozen=True)
class Remote:
    """A file or a folder of a store, by its address.

    Attributes:
        url: The address.
        listed: What was seen of it when its folder was listed; None where it was not.
    """

    url: str
    listed: Look | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Return the address."""
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        """Return what is inside."""
        return Remote(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(self.url).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.url).stem

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot."""
        return PurePosixPath(self.url).suffix

    def absolute(self) -> "Remote":
        """Return the same, as it does not depend on where one is."""
        return self

    @contextmanager
    def at(self) -> Iterator[tuple[Any, str]]:
        """Give fsspec's file system and the path in it; whatever goes wrong there is an OSError of one line.

        Raises:
            UsageError: fsspec or what serves the protocol is not installed, or a password is in the address.
        """
        try:
            import fsspec
        except ImportError:
            raise UsageError(f"{one_line(self.url)}: needs fsspec: pip install 'lvdreg[storage]'") from None
        try:
            with suppress(ValueError):  # no address of the web
                if urlsplit(self.url).password is not None:
                    raise UsageError("expected an address without a password: it would stand in results.csv")
            system, path = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            protocol = self.url.partition("://")[0]
            raise UsageError(f"{one_line(self.url)}: nothing that serves {protocol}:// ({brief(error)})") from None
        try:
            yield system, path
        except (OSError, LvdregError):
            raise
        except Exception as error:
            raise OSError(f"{one_line(self.url)}: {type(error).__name__}: {brief(error)}") from error

    def look(self) -> Look | None:
        """Return what tells its content from another; None if it is not there."""
        with self.at() as (system, path):
            system.invalidate_cache()
            try:
                found = system.info(path)
            except FileNotFoundError:
                return None
            return None if found.get("type") == "directory" else _look(found)

    def read(self, limit: int) -> bytes | None:
        """Return the content of a small file; None if it is not there.

        Raises:
            OSError: it has more than ``limit`` bytes, or cannot be read.
        """
        seen = self.look()
        if seen is None:
            return None
        if seen[0] > limit:
            raise OSError(f"{self.url}: has {seen[0]} bytes, over the limit of {limit}")
        with self.at() as (system, path):
            try:
                return bytes(system.cat_file(path))
            except FileNotFoundError:
                return None

    def write(self, content: bytes, *, is_new: bool = False) -> None:
        """Write a small file.

        Raises:
            FileExistsError: there is one, and it is to be new; not every store can tell in one step.
        """
        with self.at() as (system, path):
            if is_new and system.exists(path):
                raise FileExistsError(self.url)

            def put() -> None:
                system.pipe_file(path, content, **({"mode": "create"} if is_new else {}))

            _in_folder(system, path, put)

    def put(self, source: Path) -> None:
        """Copy a file of this machine to here."""
        with self.at() as (system, path):
            _in_folder(system, path, lambda: system.put_file(str(source), path))

    def remove(self) -> None:
        """Remove a file; nothing need be there."""
        with self.at() as (system, path), suppress(FileNotFoundError):
            system.rm_file(path)

    def files(self) -> dict[str, Look]:
        """Return what was seen of every file inside, by its path from here; nothing where there is no such folder."""
        with self.at() as (system, path):
            system.invalidate_cache()
            try:
                found = system.find(path, detail=True)
            except FileNotFoundError:
                return {}
            base = path.rstrip("/") + "/"
            return {name.removeprefix(base): _look(about) for name, about in found.items() if name.startswith(base)}

    def fetch(self, folder: Path) -> Path:
        """Copy a file into a folder of this machine.

        Raises:
            OSError: it is not there, has more than ``MAX_BYTES``, or cannot be read.
            OutputError: there is no room for it.
        """
        seen = self.look()
        if seen is None:
            raise FileNotFoundError(f"{self.url}: no such file")
        if seen[0] > MAX_BYTES:
            raise OSError(f"{self.url}: {seen[0] / 2**30:.1f} GiB is over the limit of 2 GiB; thin it first")
        refuse_full(folder, seen[0])
        suffix = self.suffix if self.suffix[1:].isalnum() and len(self.suffix) < 12 else ""
        place = folder / (folder_name(self.stem) + suffix)
        with self.at() as (system, path), system.open(path, "rb") as source, place.open("wb") as target:
            left = MAX_BYTES
            while left > 0 and (part := source.read(min(left, 8 << 20))):
                left -= target.write(part)
        return place


Source = Path | Remote
"""An input."""


@contextmanager
def at_hand(source: Source) -> Iterator[Path]:
    """Give an input as a file of this machine: as it is, or a copy, which goes again."""
    if isinstance(source, Path):
        yield source
        return
    with scratch() as folder:
        yield source.fetch(folder)


def expand_address(url: str, suffixes: Collection[str]) -> list[Remote]:
    """List the inputs that an address means, as ``inputs.expand_inputs`` does for paths: a file, a folder or a pattern.

    Raises:
        OSError, UsageError: it cannot be looked at.
    """
    with Remote(url).at() as (system, path):
        system.invalidate_cache()
        has_magic = any(mark in path for mark in "*?[")
        if system.isdir(path):
            found = {each["name"]: each for each in system.ls(path, detail=True) if each["type"] == "file"}
            found = {name: about for name, about in found.items() if PurePosixPath(name).suffix.lower() in suffixes}
            start = path
        elif has_magic and not system.exists(path):
            found = {name: each for name, each in system.glob(path, detail=True).items() if each["type"] == "file"}
            start = re.split(r"[*?\[]", path)[0].rpartition("/")[0]
        else:
            return [Remote(url)]
    # Addresses may say more than paths do, as the name of a host: what is inside begins with the same.
    is_end = url.rstrip("/").endswith(path := path.rstrip("/"))
    root = url.rstrip("/").removesuffix(path) + start.rstrip("/") if is_end else system.unstrip_protocol(start)
    inside = {name: root + name.removeprefix(start.rstrip("/")) for name in sorted(found)}
    sources = [Remote(inside[name], _look(found[name])) for name in inside]
    sources = [source for source in sources if not source.name.startswith(".")]
    return [source for source in sources if source.name != TABLE or not _is_table(source)] or [Remote(url)]


def _is_table(source: Remote) -> bool:
    with source.at() as (system, path), system.open(path, "rb") as file:
        return is_beginning(file.read(64))


def _look(about: dict[str, Any]) -> Look:
    """Return what fsspec says of a file; where it says no time, it is as if it had changed just now."""
    changed = next((about[key] for key in _TIMES if about.get(key)), None)
    seconds = changed.timestamp() if isinstance(changed, datetime) else changed
    changed_ns = int(1e9 * seconds) if isinstance(seconds, int | float) else time.time_ns()
    size = int(about.get("size") or 0)
    tag = next((str(about[key]) for key in _TAGS if about.get(key)), None)
    return (size, changed_ns) if tag is None else (size, 0, tag)


def _in_folder(system: Any, path: str, write: Callable[[], object]) -> None:
    """Write a file; where stores have folders, make its folder, but no bucket."""
    try:
        write()
    except FileNotFoundError:
        top = path.partition("/")[0]
        if top and not system.exists(top):
            raise
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        write()
