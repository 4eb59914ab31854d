"""Where results go: a folder of this machine, or of a store that fsspec knows. A run does the same in both.

A store has no file that grows, no folder that is renamed and no lock that ends with its process. So in one, a row is a
file of its own until the table is written anew; the report of a result, which makes it one, is written last, and a note
says before what is on its way; and the lock is a file that names who holds it, looked at before every input.
"""

import io
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lvdreg.base import lock
from lvdreg.base.disk import recover, refuse_full, refuse_others, write_file
from lvdreg.base.errors import OutputError
from lvdreg.base.files import MAX_JSON_BYTES, parse_json
from lvdreg.base.provenance import looks_of
from lvdreg.batch.remote import Look, Remote, clear_scratch, scratch
from lvdreg.batch.table import (
    PARQUET,
    TABLE,
    Outcome,
    Table,
    is_beginning,
    opened,
    parquet_of,
    read_results,
    rows_in,
    table_of,
)

BEGUN, ROWS = ".lvdreg.begun", ".lvdreg.rows"
"""Folders in a store: a note for every result that is on its way, and rows that are not in the table yet."""
MAX_ROWS = 200
"""Rows of their own; then the table is written anew."""
MAX_TABLE_BYTES, MAX_NOTE_BYTES = 4 << 30, 4096
_PROBE = ".lvdreg.probe"


@runtime_checkable
class Saves(Protocol):
    """What can write itself into a folder."""

    def save(self, folder: Path) -> list[Path]:
        """Write all of it, or nothing."""
        ...


@runtime_checkable
class Store(Protocol):
    """Where results go, a folder each; goes to other processes as it is."""

    def held(self, room: int) -> AbstractContextManager[None]:
        """Keep other runs out, and clear up what killed ones have left; so many bytes must be free.

        Raises:
            OutputError: another run is writing there, or its disk is full.
            OSError: it cannot be written.
        """
        ...

    def table(self) -> AbstractContextManager[Table]:
        """Give the table to add to; however it ends but by a kill, each input then stands once.

        Raises:
            OutputError: something of others is in its place.
        """
        ...

    def check(self, room: int, *, probe: bool = False) -> None:
        """Refuse to go on where so many bytes are not free, or another run has come in.

        Args:
            room: Bytes.
            probe: Whether to try to write.

        Raises:
            OutputError, OSError: see above.
        """
        ...

    def names(self) -> list[str]:
        """Return the names of all that lies there."""
        ...

    def is_free(self, name: str) -> bool:
        """Whether nothing of that name lies there."""
        ...

    def report(self, name: str) -> dict[str, Any] | None:
        """Return the report of a result; None where there is none of lvdreg's."""
        ...

    def owned(self, name: str) -> frozenset[str]:
        """Return which files there provably are a result's."""
        ...

    def looks(self, name: str) -> list[tuple[Any, ...]]:
        """Return name, size and time of change of a result's files, whatever tells that they are what they were."""
        ...

    def save(self, result: Saves, name: str) -> None:
        """Write a result in the place of an earlier one.

        Raises:
            OutputError: files of others bear its names.
            OSError: it cannot be written.
        """
        ...

    def write_parquet(self) -> None:
        """Write the table as Parquet, too.

        Raises:
            UsageError: pyarrow is not installed.
            OutputError: something of others is in its place.
        """
        ...


def store_of(out: Path | Remote) -> Store:
    """Return what writes there."""
    return Folder(out) if isinstance(out, Path) else Bucket(out)


@dataclass(frozen=True)
class Folder:
    """An output folder of this machine; may be a link. See ``Store``."""

    out: Path

    @contextmanager
    def held(self, room: int) -> Iterator[None]:
        """Lock the folder, which is made, and settle what lies half done there, now and at the end."""
        from lvdreg.result.files import RESULT

        self.out.mkdir(parents=True, exist_ok=True)
        with lock.locked(self.out):
            recover(self.out, RESULT, alone=True)
            self.check(room, probe=True)
            try:
                yield
            finally:
                # What processes that were ended have left.
                recover(self.out, RESULT, alone=True)
                clear_scratch()

    def table(self) -> AbstractContextManager[Table]:
        """See ``table.opened``."""
        return opened(self.out)

    def check(self, room: int, *, probe: bool = False) -> None:
        """See ``disk.refuse_full``."""
        refuse_full(self.out, room, probe=probe)

    def names(self) -> list[str]:
        """List the folder."""
        return os.listdir(self.out) if self.out.is_dir() else []

    def is_free(self, name: str) -> bool:
        """Look."""
        return not os.path.lexists(self.out / name)

    def report(self, name: str) -> dict[str, Any] | None:
        """Read the file."""
        from lvdreg.result.files import read_report

        return read_report(self.out / name)

    def owned(self, name: str) -> frozenset[str]:
        """See ``result.files.owned_names``."""
        from lvdreg.result.files import owned_names

        return owned_names(self.out / name)

    def looks(self, name: str) -> list[tuple[Any, ...]]:
        """Look at all files."""
        return list(looks_of((self.out / name,)))

    def save(self, result: Saves, name: str) -> None:
        """Write into the folder, in one step."""
        result.save(self.out / name)

    def write_parquet(self) -> None:
        """Write the file in one step."""
        refuse_others(self.out / PARQUET, lambda found: found.read_bytes()[:4] == b"PAR1")
        content = parquet_of(read_results(self.out))
        write_file(self.out / PARQUET, lambda path: path.write_bytes(content))


@dataclass
class Bucket:
    """A folder of a store. See ``Store``.

    Attributes:
        out: Its address.
        listed: What was seen of all files, by result, when the run began; each is given out once.
        here: Names of all that was there then; None outside of a run.
        note: What its lock says while it is held.
    """

    out: Remote
    listed: dict[str, dict[str, Look]] = field(default_factory=dict, repr=False)
    here: list[str] | None = None
    note: bytes | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to other processes without what was listed, and without the lock."""
        return Bucket, (self.out,)

    @contextmanager
    def held(self, room: int) -> Iterator[None]:
        """Write the lock, remove what is half done, and remove the lock."""
        place = self.out / lock.LOCK
        self.note = _taken(self.out, place)
        try:
            self.check(room)
            for name in (self.out / BEGUN).files():
                self._settle(name)
            yield
        finally:
            clear_scratch()
            with suppress(OSError):
                if self._is_held():
                    place.remove()
            self.note = self.here = None

    @contextmanager
    def table(self) -> Iterator[Table]:
        """Give a table whose rows are files."""
        table = BucketTable(self)
        try:
            yield table
        finally:
            if self._is_held():  # else another run writes it, and finds the rows
                table.write()

    def check(self, room: int, *, probe: bool = False) -> None:
        """Look whether the lock is still there; room is needed where files are on their way."""
        refuse_full(Path(tempfile.gettempdir()), room)
        if not self._is_held():
            note = (self.out / lock.LOCK).read(MAX_NOTE_BYTES) or b""
            raise OutputError(lock.refusal(str(self.out), note, is_sure=False))
        if probe:
            (self.out / _PROBE).write(b"")
            (self.out / _PROBE).remove()

    def names(self) -> list[str]:
        """List everything, at once."""
        if self.here is not None:
            return self.here
        self.listed = {}
        for path, seen in self.out.files().items():
            name, _, rest = path.partition("/")
            self.listed.setdefault(name, {})[rest] = seen
        self.here = [name for name in self.listed if name not in (BEGUN, ROWS, lock.LOCK)]
        return self.here

    def is_free(self, name: str) -> bool:
        """Look; a store has no empty folders."""
        return not self._files(name)

    def report(self, name: str) -> dict[str, Any] | None:
        """Read the file."""
        from lvdreg.result.files import REPORT, checked_report

        try:
            found = (self.out / name / REPORT).read(MAX_JSON_BYTES)
            return None if found is None else checked_report(parse_json(found))
        except (OSError, ValueError):
            return None

    def owned(self, name: str) -> frozenset[str]:
        """Return what the report names and is there."""
        from lvdreg.result.files import named_in

        return named_in(self.report(name)) & {path.partition("/")[0] for path in self._files(name)}

    def looks(self, name: str) -> list[tuple[Any, ...]]:
        """Return what was listed, or look again."""
        found = self.listed.pop(name, None)
        return sorted((path, *seen) for path, seen in (self._files(name) if found is None else found).items())

    def save(self, result: Saves, name: str) -> None:
        """Write on this machine, then note what comes, remove the old report, copy all files, the new report last."""
        from lvdreg.result.files import REPORT, named_in

        self.listed.pop(name, None)
        place, there, owned = self.out / name, self._files(name), named_in(self.report(name))
        with scratch() as folder:
            result.save(folder / name)
            paths = sorted(path for path in (folder / name).rglob("*") if path.is_file())
            new = {path.relative_to(folder / name).as_posix(): path for path in paths}
            old = {path for path in there if path.partition("/")[0] in owned}
            clash = next((path for path in there if path in new and path not in old), None)
            if clash is not None:
                raise OutputError(
                    f"{place / clash}: is not lvdreg's and is not overwritten; move it away or choose another folder"
                )
            (self.out / BEGUN / name).write(json.dumps(sorted(old | set(new))).encode())
            (place / REPORT).remove()
            for path in sorted(new, key=lambda path: path == REPORT):
                if path == REPORT:
                    for gone in old - set(new):
                        (place / gone).remove()
                (place / path).put(new[path])
        (self.out / BEGUN / name).remove()

    def write_parquet(self) -> None:
        """Write the file."""
        place = self.out / PARQUET
        if (head := self._head(place, 4)) is not None and head != b"PAR1":
            raise OutputError(f"{place}: is not lvdreg's and is not overwritten; move it away or choose another folder")
        place.write(parquet_of(list(self.rows()[0].values())))

    def rows(self) -> tuple[dict[str, Outcome], list[str], bool]:
        """Return the outcomes by source, the names of rows that are files, in order, and whether the table is tidy."""
        names = frozenset(self.names())
        parts = sorted(self.listed.get(ROWS, {}))
        found: dict[str, Outcome] = {}
        is_tidy = False
        for place in (self.out / TABLE, *(self.out / ROWS / part for part in parts)):
            content = place.read(MAX_TABLE_BYTES) or b""
            rows, is_tidy = rows_in(io.BytesIO(content), names.__contains__)
            found |= rows
        return found, parts, is_tidy and not parts

    def _is_held(self) -> bool:
        return self.note is None or (self.out / lock.LOCK).read(MAX_NOTE_BYTES) == self.note

    def _files(self, name: str) -> dict[str, Look]:
        return (self.out / name).files()

    def _head(self, place: Remote, count: int) -> bytes | None:
        if place.look() is None:
            return None
        with place.at() as (system, path), system.open(path, "rb") as file:
            return bytes(file.read(count))

    def _settle(self, name: str) -> None:
        """Remove what a killed process has begun to write, unless it was complete."""
        begun = self.out / BEGUN / name
        if self.report(name) is None:
            try:
                paths = parse_json(begun.read(MAX_JSON_BYTES) or b"[]")
            except ValueError:  # nothing else was written yet
                paths = []
            there = self._files(name)
            for path in paths if isinstance(paths, list) else []:
                if path in there:
                    (self.out / name / path).remove()
        begun.remove()


class BucketTable:
    """The table of a store: what ``results.csv`` says, and after it files of a row each, numbered."""

    def __init__(self, bucket: Bucket) -> None:
        """Take the table up; see ``Bucket.table``."""
        self.bucket, self.place = bucket, bucket.out / TABLE
        head = bucket._head(self.place, 64)
        if head is not None and not is_beginning(head):
            raise OutputError(
                f"{self.place}: is not lvdreg's and is not overwritten; move it away or choose another folder"
            )
        self.rows, self.parts, self.is_tidy = bucket.rows()
        numbers = [int(part[:9]) for part in self.parts if part[:9].isdecimal()]
        self.number = max(numbers, default=0)

    def add(self, outcome: Outcome) -> None:
        """Add a row; see ``Table.add``."""
        self._write_part(table_of([outcome]))
        self.rows[outcome.source] = outcome
        self.is_tidy = False
        if len(self.parts) >= MAX_ROWS:
            self.write()

    def write(self) -> None:
        """Write every input once, first beside the table: where a store writes it in pieces, nothing is lost."""
        if self.is_tidy:
            return
        content = table_of(self.rows.values())
        self._write_part(content)
        if self.rows:
            self.place.write(content)
        else:
            self.place.remove()
        for part in self.parts:
            (self.bucket.out / ROWS / part).remove()
        self.parts, self.is_tidy = [], True

    def _write_part(self, content: bytes) -> None:
        self.number += 1
        part = f"{self.number:09}-{secrets.token_hex(4)}.csv"  # which no other run writes
        (self.bucket.out / ROWS / part).write(content)
        self.parts.append(part)


def _taken(out: Remote, place: Remote) -> bytes:
    """Write a lock and return what it says.

    Raises:
        OutputError: another run holds it.
    """
    note, deadline = lock.own_note(), time.monotonic() + lock.PATIENCE_S
    while True:
        with suppress(FileExistsError):
            place.write(note, is_new=True)
        found = place.read(MAX_NOTE_BYTES)
        if found == note:
            return note
        if found is not None and lock.is_nobodys(found):
            place.remove()
        elif time.monotonic() > deadline:
            raise OutputError(lock.refusal(str(out), found or b"", is_sure=False))
        else:
            time.sleep(0.05)
