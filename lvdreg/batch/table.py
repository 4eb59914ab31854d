"""What became of every input: one table, to which a row is added as soon as it is known.

A row is one line of the file, whatever it says, and on the disk before the next input begins. What is done again gets
another row: the last one of an input counts, and earlier ones go when the run ends, or the next one begins. Half a
line, which a kill may leave at the end, goes, too.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lvdreg.base.disk import refuse_others, write_file
from lvdreg.base.errors import UsageError
from lvdreg.base.files import open_plain, parse_json

TABLE, PARQUET = "results.csv", "results.parquet"
MAX_LINE_BYTES = 1 << 20
"""A row has half a kilobyte; a traceback has some more."""
_HEAD = b"source,folder,verdict,reason,"
"""How the table begins, also where the end of its first line was lost."""
_MOST_SECONDS = 1e12
"""Of a stage; whole numbers of JSON may be too large for any other."""
_ODD = re.compile(r'^"|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
"""What would break a line or is no text; such text, and what looks like it, stands in the table as JSON."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        source: Its absolute path.
        folder: Name of its result folder in the output folder; None if there is none. Of one that could not be
            registered now it is the folder where an earlier result lies.
        verdict: ``good``, ``check`` or ``failed``; None if it could not be registered.
        reason: Why, in one line; of a failure also what to do.
        error_mm: Mean distance from the scan to the registered surface.
        iou: Intersection over union of body and mask, of a photo.
        height_m: Height of the person in a photo.
        height_is_guess: Whether the height was not given.
        unit: Unit found or given.
        up: Up axis found or given; None of a hand.
        side: Which hand, found or given; None of a body.
        side_confidence: How sure the side is, 0 to 1.
        seconds: Time from reading to writing.
        timings: Seconds by stage, writing included.
        traceback: Where an unexpected error came from; None otherwise.
        quarantined: Whether its process died or passed a limit: a run that goes on leaves it out.
        key: What the result depends on, hashed: the input's content, settings, model and version.
        stamp: Sizes and times of the input and the result's files, hashed: where they are the same, nothing need be
            read to know the result again. None where they were too young to tell.
    """

    source: str
    folder: str | None
    verdict: str | None
    reason: str
    error_mm: float | None = None
    iou: float | None = None
    height_m: float | None = None
    height_is_guess: bool | None = None
    unit: str | None = None
    up: str | None = None
    side: str | None = None
    side_confidence: float | None = None
    seconds: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    traceback: str | None = None
    quarantined: bool = False
    key: str | None = None
    stamp: str | None = None

    @property
    def registered(self) -> bool:
        """Whether it was registered, whatever the verdict."""
        return self.verdict is not None


VERDICTS = ("good", "check", "failed", None)
_COLUMNS = tuple(each.name for each in fields(Outcome))
_NUMBERS = frozenset(("error_mm", "iou", "height_m", "side_confidence", "seconds"))
_FLAGS = frozenset(("height_is_guess", "quarantined"))
_WORDS = {True: "true", False: "false"}


def read_results(out: Path) -> list[Outcome]:
    """Read what runs have left in an output folder, killed ones included; nothing if there is nothing readable.

    Each input stands once. Results whose folder is gone are left out.
    """
    return list(_read(out)[0].values())


def _read(out: Path) -> tuple[dict[str, Outcome], bool]:
    try:
        with open_plain(out / TABLE) as file:
            return rows_in(file, lambda folder: _is_there(out, folder))
    except OSError:
        return {}, False


def rows_in(file: io.BufferedReader | io.BytesIO, is_there: Callable[[str], bool]) -> tuple[dict[str, Outcome], bool]:
    """Read what a table holds, or what a kill has left of it.

    Args:
        file: The table.
        is_there: Whether a result has a folder of that name; rows of others are left out.

    Returns:
        The outcomes by source, and whether the table holds just these, each once, and all columns.
    """
    found: dict[str, Outcome] = {}
    lines = iter(lambda: file.readline(MAX_LINE_BYTES), b"")
    head = next(lines, b"")
    names = _cells(head)
    is_tidy = head == _line(_COLUMNS)
    for line in lines:
        outcome = _outcome(dict(zip(names, _cells(line), strict=False))) if line.endswith(b"\n") else None
        if outcome is None or (outcome.folder is not None and not is_there(outcome.folder)):
            is_tidy = False
            continue
        is_tidy = is_tidy and outcome.source not in found
        found[outcome.source] = outcome
    return found, is_tidy


def _is_there(out: Path, folder: str) -> bool:
    return Path(folder).name == folder and os.path.isdir(out / folder)  # pathlib's raises where the name is too long


def _cells(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode().removesuffix("\n")], strict=True), [])
    except (csv.Error, UnicodeDecodeError):
        return []


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str):
        return json.dumps(value) if _ODD.search(value) else value
    if isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, dict):
        return json.dumps({name: number for name, number in value.items() if math.isfinite(number)})
    return repr(float(value))


def _outcome(cells: dict[str, str]) -> Outcome | None:
    """Read a row; columns of later versions are passed over. None if it is none."""
    try:
        values = {name: _value(name, cells[name]) for name in _COLUMNS if name in cells}
        found = Outcome(**values)
    except (ValueError, TypeError):
        return None
    timings = found.timings.values() if isinstance(found.timings, dict) else ("none",)
    is_whole = bool(found.source) and found.verdict in VERDICTS
    return found if is_whole and all(isinstance(s, int | float) and abs(s) < _MOST_SECONDS for s in timings) else None


def _value(name: str, cell: str) -> Any:
    """Return what a cell says.

    Raises:
        ValueError: it says nothing that this column may.
    """
    if name == "timings":
        return parse_json(cell.encode()) if cell else {}
    if name in _FLAGS:
        return {"true": True, "false": False, "": None}.get(cell)
    if name in _NUMBERS:
        return float(cell) if cell else None
    is_json = cell.startswith('"')
    text = parse_json(cell.encode()) if is_json else cell
    if not isinstance(text, str) or (not is_json and _ODD.search(text)):
        raise ValueError("expected text")
    return text if text or name in ("source", "reason") else None


def table_of(outcomes: Iterable[Outcome]) -> bytes:
    """Return what the file of a table holds."""
    return b"".join((_line(_COLUMNS), *(_row(outcome) for outcome in outcomes)))


def _row(outcome: Outcome) -> bytes:
    return _line(_cell(getattr(outcome, name)) for name in _COLUMNS)


def write_results(out: Path, outcomes: Iterable[Outcome]) -> None:
    """Write the whole table anew, in one step."""
    content = table_of(outcomes)
    write_file(out / TABLE, lambda path: path.write_bytes(content))


def is_table(path: Path) -> bool:
    """Tell whether a file is a table of lvdreg, or the beginning of one."""
    try:
        with path.open("rb") as file:
            return is_beginning(file.read(len(_HEAD)))
    except OSError:
        return False


def is_beginning(content: bytes) -> bool:
    """Tell whether a table of lvdreg begins so."""
    return content[: len(_HEAD)] == _HEAD[: len(content)]


@runtime_checkable
class Table(Protocol):
    """The table of a place for results that a run writes; nobody else may (see ``base.lock``)."""

    rows: dict[str, Outcome]

    def add(self, outcome: Outcome) -> None:
        """Add a row, which stays whatever happens before anything else begins.

        Raises:
            OSError: it cannot be written; the table is what it was.
        """
        ...


class FileTable:
    """The table of an output folder."""

    def __init__(self, out: Path) -> None:
        """Take the table up, or begin one; see ``opened``."""
        self.out = out
        self.rows, self.is_tidy = _read(out)
        if not self.is_tidy:
            self.write()
        self.file = (out / TABLE).open("ab", buffering=0)

    def write(self) -> None:
        """Write every input once."""
        write_results(self.out, self.rows.values())
        self.is_tidy = True

    def add(self, outcome: Outcome) -> None:
        """Add a row; see ``Table.add``."""
        line, size = _row(outcome), self.file.tell()
        try:
            if self.file.write(line) != len(line):
                raise OSError(f"{self.out / TABLE}: only part of a row could be written: check free space")
            os.fsync(self.file.fileno())
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.file.fileno(), size)
            raise
        self.is_tidy = self.is_tidy and outcome.source not in self.rows
        self.rows[outcome.source] = outcome


@contextmanager
def opened(out: Path) -> Iterator[FileTable]:
    """Give the table of an output folder to add to; however it ends but by a kill, each input then stands once.

    Raises:
        OutputError: something of others is in its place.
        OSError: the folder cannot be written.
    """
    refuse_others(out / TABLE, is_table)
    table = FileTable(out)
    try:
        yield table
    finally:
        table.file.close()
        if not table.rows:
            (out / TABLE).unlink(missing_ok=True)
        elif not table.is_tidy:
            table.write()


def check_parquet() -> None:
    """Refuse to write Parquet without what writes it.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError("--parquet: needs pyarrow: pip install 'lvdreg[parquet]'") from None


def parquet_of(outcomes: Sequence[Outcome]) -> bytes:
    """Return what a table holds as Parquet.

    Raises:
        UsageError: pyarrow is not installed.
    """
    check_parquet()
    import pyarrow
    from pyarrow import parquet

    kinds = {**dict.fromkeys(_COLUMNS, pyarrow.string()), **dict.fromkeys(_NUMBERS, pyarrow.float64())}
    kinds |= {**dict.fromkeys(_FLAGS, pyarrow.bool_())}
    columns = {name: [_plain(getattr(each, name)) for each in outcomes] for name in _COLUMNS}
    table = pyarrow.table(columns, schema=pyarrow.schema(list(kinds.items())))
    content = io.BytesIO()
    parquet.write_table(table, content)
    return content.getvalue()


def _plain(value: Any) -> Any:
    """Return a value as a column of its type takes it; text that is none with its escapes."""
    return _cell(value) if isinstance(value, str | dict) else value
