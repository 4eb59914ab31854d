"""What became of every input: a line on the disk as soon as it is known, one readable file at the end."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from lvdreg.base.disk import refuse_others, write_file
from lvdreg.base.files import MAX_JSON_BYTES, parse_json, read_bytes, read_json
from lvdreg.base.version import __version__

SUMMARY = "summary.json"
JOURNAL = "summary.jsonl"
"""While a run is at it, and after one that was killed: what is not in the summary yet, an outcome a line."""
_HEAD = '{"lvdreg":'
"""How both begin, also where the end was lost."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        source: Its absolute path.
        folder: Name of its result folder in the output folder; None if it could not be registered.
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
        key: What the result depends on, hashed: the input's content, settings, model and version.
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
    key: str | None = None

    @property
    def registered(self) -> bool:
        """Whether there is a result, whatever its verdict."""
        return self.folder is not None


_KNOWN = frozenset(each.name for each in fields(Outcome))
_NUMBERS = ("error_mm", "iou", "height_m", "side_confidence", "seconds")
_TEXTS = ("source", "folder", "verdict", "reason", "unit", "up", "side", "traceback", "key")
VERDICTS = ("good", "check", "failed", None)


def read_summary(out: Path) -> list[Outcome]:
    """Read what earlier runs left in an output folder, killed ones included; nothing if there is nothing readable.

    Results whose folder is gone are left out.
    """
    found = {outcome.source: outcome for outcome in (*_read_whole(out / SUMMARY), *_read_lines(out / JOURNAL))}
    return [outcome for outcome in found.values() if outcome.folder is None or _is_there(out, outcome.folder)]


def _is_there(out: Path, folder: str) -> bool:
    return Path(folder).name == folder and os.path.isdir(out / folder)  # pathlib's raises where the name is too long


def _read_whole(path: Path) -> list[Outcome]:
    try:
        return [_outcome(entry) for entry in read_json(path)["results"]]
    except (OSError, ValueError, KeyError, TypeError):
        # Without a summary no folder is known to belong to an input but by its report.
        return []


def _read_lines(path: Path) -> Iterator[Outcome]:
    try:
        lines = read_bytes(path, MAX_JSON_BYTES).decode(errors="replace").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        try:
            yield _outcome(parse_json(line.encode()))
        except (ValueError, KeyError, TypeError):
            continue  # half a line: the run was killed while it wrote it


def _outcome(entry: Any) -> Outcome:
    """Read an outcome; fields of later versions are passed over.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(entry, dict):
        raise TypeError("no outcome")
    found = Outcome(**{name: value for name, value in entry.items() if name in _KNOWN})
    timings = found.timings.values() if isinstance(found.timings, dict) else ("none",)
    numbers = (*timings, *(getattr(found, name) for name in _NUMBERS))
    is_whole = isinstance(found.source, str) and isinstance(found.reason, str) and found.verdict in VERDICTS
    is_whole = is_whole and all(isinstance(getattr(found, name), str | None) for name in _TEXTS)
    if not is_whole or not all(isinstance(number, int | float | None) for number in numbers):
        raise TypeError("no outcome")
    return found


def write_summary(out: Path, earlier: Sequence[Outcome], outcomes: Sequence[Outcome]) -> None:
    """Write ``summary.json``: the outcomes of this run after those of earlier runs on other inputs."""
    from lvdreg.result.files import write_json

    new = {outcome.source for outcome in outcomes}
    entries = [asdict(outcome) for outcome in (*(o for o in earlier if o.source not in new), *outcomes)]
    value = {"lvdreg": __version__, "results": entries}
    write_file(out / SUMMARY, lambda path: write_json(path, value))


def refuse_other_summaries(out: Path) -> None:
    """Refuse an output folder whose summary is somebody else's.

    Raises:
        OutputError: says which file is in the way.
    """
    for name in (SUMMARY, JOURNAL):
        refuse_others(out / name, _is_ours)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        start = b"".join(file.read(200).split())
    return start[: len(_HEAD)] == _HEAD.encode()[: len(start)]


class Journal:
    """The outcomes of a run, as they come."""

    def __init__(self, file: IO[str]) -> None:
        """Take the file that they are appended to."""
        self.file = file
        self.outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, on the disk before anything else begins."""
        from lvdreg.result.files import plain

        self.outcomes.append(outcome)
        self.append(plain(asdict(outcome)))

    def append(self, entry: dict[str, Any]) -> None:
        """Write a line."""
        self.file.write(json.dumps(entry, allow_nan=False) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


@contextmanager
def journal(out: Path, earlier: Sequence[Outcome]) -> Iterator[Journal]:
    """Keep the outcomes of a run: line by line while it goes, as ``summary.json`` however it ends but by a kill.

    Args:
        out: Output folder.
        earlier: What earlier runs left there; of inputs that this run does not come to it stays.

    Raises:
        OutputError: a summary of others is in the way.
        OSError: the folder cannot be written.
    """
    refuse_other_summaries(out)
    if (out / JOURNAL).exists():
        write_summary(out, earlier, [])  # a killed run's lines, before its journal is begun anew
    kept = Journal((out / JOURNAL).open("w", encoding="utf-8"))
    try:
        with kept.file:
            kept.append({"lvdreg": __version__})
            yield kept
    finally:
        if kept.outcomes:
            write_summary(out, earlier, kept.outcomes)
        (out / JOURNAL).unlink(missing_ok=True)
