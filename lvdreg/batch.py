"""Register many scans: each result in a folder of its own, failures written down, the rest carried on."""

import glob
import json
import os
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.text import one_line
from lvdreg.base.version import __version__

SUMMARY = "summary.json"
PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".ppm", ".jp2")
)
"""What is taken for a photo in a folder."""


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes:
        source: Absolute path of the scan.
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

    @property
    def registered(self) -> bool:
        """Whether there is a result, whatever its verdict."""
        return self.folder is not None


class Result(Protocol):
    """What registering gives: of a scan, of a person in a photo, or of everybody in it."""

    @property
    def verdict(self) -> str:
        """``good``, ``check`` or ``failed``."""
        ...

    @property
    def reason(self) -> str:
        """Why, in one line."""
        ...

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage."""
        ...

    @property
    def headline(self) -> dict[str, Any]:
        """Fields of an ``Outcome`` that are of this kind of result."""
        ...

    def save(self, folder: Path) -> list[Path]:
        """Write the result into a folder."""
        ...


class Listener:
    """Hears how a batch is getting on; this one ignores it."""

    def start(self, source: Path, number: int, count: int) -> None:
        """Scan ``number`` of ``count`` begins."""

    def stage(self, name: str) -> None:
        """The present scan enters a stage."""

    def done(self, outcome: Outcome) -> None:
        """The present scan is finished and its result written."""


def expand_inputs(inputs: Iterable[str | Path], suffixes: Collection[str] | None = None) -> list[Path]:
    """List the scans meant by files, folders and glob patterns, each once, in order.

    What matches nothing stays in the list, so that it is reported as a scan that could not be read and not passed over.

    Args:
        inputs: Files, folders and patterns.
        suffixes: In lower case, of what is taken from folders; those of scans when None.
    """
    if suffixes is None:
        from lvdreg.scan.read import SUFFIXES

        suffixes = SUFFIXES.keys()
    found: dict[str, Path] = {}
    for given in map(str, inputs):
        if os.path.isdir(given):
            inside = (Path(given, name) for name in sorted(os.listdir(given)) if not name.startswith("."))
            scans = [path for path in inside if path.suffix.lower() in suffixes and path.is_file()]
        elif not os.path.exists(given) and glob.has_magic(given):
            scans = [Path(name) for name in sorted(glob.glob(given, recursive=True)) if os.path.isfile(name)]
        else:
            scans = []
        for path in scans or [Path(given)]:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def result_names(sources: Sequence[Path], out: Path, earlier: dict[str, str]) -> list[str]:
    """Choose a result folder in ``out`` for every scan, so that no result is ever written over another scan's.

    Args:
        sources: Scans, all different.
        out: Output folder; may hold earlier results.
        earlier: Folder by absolute source, from earlier runs; a scan registered again keeps its folder.
    Returns:
        Names in the order of ``sources``: the file's stem, or ``stem-2`` and so on where that is taken. Names that
        differ only in case count as equal, since some file systems cannot tell them apart.
    """
    own = {str(source.absolute()) for source in sources}
    kept = {key: name for key, name in earlier.items() if key in own}
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    taken = {name.casefold() for name in (there - set(kept.values())) | {*earlier.values(), SUMMARY}}
    names = dict(kept)
    # Plain stems first: of scan.ply, other/scan.ply and scan-2.ply it is the last that is called scan-2.
    for source in sources:
        if str(source.absolute()) not in names and source.stem.casefold() not in taken:
            names[str(source.absolute())] = source.stem
            taken.add(source.stem.casefold())
    for source in sources:
        if str(source.absolute()) not in names:
            names[str(source.absolute())] = _free_name(source.stem, taken)
            taken.add(names[str(source.absolute())].casefold())
    return [names[str(source.absolute())] for source in sources]


def _free_name(stem: str, taken: set[str]) -> str:
    number = 2
    while f"{stem}-{number}".casefold() in taken:
        number += 1
    return f"{stem}-{number}"


def register_many(
    sources: Sequence[Path],
    out: Path,
    *,
    register: Callable[..., Result],
    listener: Listener | None = None,
    **options: Any,
) -> list[Outcome]:
    """Register scans one after the other; a failure is written down and the others go on.

    Args:
        sources: Scan files, all different; see ``expand_inputs``.
        out: Output folder: one result folder for each scan, and ``summary.json``, brought up to date after every scan.
        register: What registers one scan: ``lvdreg.register``, ``lvdreg.register_hand``, or for photos
            ``lvdreg.register_image`` or ``lvdreg.register_people``.
        listener: Hears of the progress.
        options: Passed on to ``register``: model, unit, up or side, device, seed, config.
    Returns:
        Outcomes in the order of the sources.
    Raises:
        UsageError: the options, not a scan, are wrong.
        OSError: the output folder itself cannot be written.
    """
    listener = listener or Listener()
    out.mkdir(parents=True, exist_ok=True)
    earlier = read_summary(out)
    folders = {outcome.source: outcome.folder for outcome in earlier if outcome.folder is not None}
    names = result_names(sources, out, folders)
    outcomes: list[Outcome] = []
    for number, (source, name) in enumerate(zip(sources, names, strict=True), 1):
        listener.start(source, number, len(sources))
        outcomes.append(_register_one(source, out / name, register, {**options, "progress": listener.stage}))
        write_summary(out, earlier, outcomes)
        listener.done(outcomes[-1])
    return outcomes


def _register_one(source: Path, folder: Path, register: Callable[..., Result], options: dict[str, Any]) -> Outcome:
    begin = time.perf_counter()
    where = None
    try:
        result = register(source, **options)
        registered = time.perf_counter()
        options["progress"]("write")
        result.save(folder)
        end = time.perf_counter()
        return _success(source, folder, result, end - begin, {**result.timings, "write": end - registered})
    except UsageError:
        raise
    except LvdregError as error:
        reason = str(error)
    except MemoryError:
        reason = "not enough memory: thin the scan, or close other programs"
    except OSError as error:
        reason = f"cannot read or write ({error}): check permissions and free space"
    except Exception as error:  # noqa: BLE001 - a fault of ours in one scan must not lose the other scans' results
        reason = f"unexpected {type(error).__name__} ({error}): a fault in lvdreg, please report it"
        where = traceback.format_exc()
    seconds = time.perf_counter() - begin
    return Outcome(str(source.absolute()), None, None, one_line(reason), seconds=seconds, traceback=where)


def _success(source: Path, folder: Path, result: Result, seconds: float, timings: dict[str, float]) -> Outcome:
    return Outcome(
        source=str(source.absolute()),
        folder=folder.name,
        verdict=result.verdict,
        reason=result.reason,
        **result.headline,
        seconds=seconds,
        timings=timings,
    )


def read_summary(out: Path) -> list[Outcome]:
    """Read what earlier runs left in an output folder; nothing if there is no readable summary.

    Results whose folder is gone are left out.
    """
    try:
        entries = json.loads((out / SUMMARY).read_text(encoding="utf-8"))["results"]
        outcomes = [Outcome(**entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        # Without a summary no folder is known to belong to a scan, so none will be written over.
        return []
    return [outcome for outcome in outcomes if outcome.folder is None or (out / outcome.folder).is_dir()]


def write_summary(out: Path, earlier: Sequence[Outcome], outcomes: Sequence[Outcome]) -> None:
    """Write ``summary.json``: the outcomes of this run after those of earlier runs on other scans."""
    from lvdreg.result.files_scan import write_file, write_json

    new = {outcome.source for outcome in outcomes}
    entries = [asdict(outcome) for outcome in (*(o for o in earlier if o.source not in new), *outcomes)]
    value = {"lvdreg": __version__, "results": entries}
    write_file(out / SUMMARY, lambda path: write_json(path, value))
