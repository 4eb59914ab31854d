"""One input after the other; a failure is written down, nothing that is done is lost."""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lvdreg.base.disk import recover
from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.lock import locked
from lvdreg.base.text import one_line
from lvdreg.batch.inputs import result_names
from lvdreg.batch.resume import is_finished, run_key
from lvdreg.batch.summary import Outcome, journal, read_summary


@runtime_checkable
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

    def skipped(self, outcome: Outcome) -> None:
        """The present scan has its result from an earlier run."""


def register_many(
    sources: Sequence[Path],
    out: Path,
    *,
    register: Callable[..., Result],
    listener: Listener | None = None,
    resume: bool = False,
    **options: Any,
) -> list[Outcome]:
    """Register scans one after the other; a failure is written down and the others go on.

    What became of a scan is on the disk before the next one begins. Killed at any instant, every result is whole, and
    the next run clears up what is left.

    Args:
        sources: Scan files, all different; see ``expand_inputs``.
        out: Output folder: one result folder for each scan, and at the end ``summary.json``. May be a link.
        register: What registers one scan: ``lvdreg.register``, ``lvdreg.register_hand``, or for photos
            ``lvdreg.register_image`` or ``lvdreg.register_people``.
        listener: Hears of the progress.
        resume: Leave out scans whose results are there already, whole and made from the same content with the same
            settings, model and version.
        options: Passed on to ``register``: model, unit, up or side, device, seed, settings.

    Returns:
        Outcomes in the order of the sources.

    Raises:
        UsageError: the options, not a scan, are wrong.
        OutputError: another run is writing into the output folder, or its summary is somebody else's.
        OSError: the output folder itself cannot be written.
    """
    from lvdreg.result.files import RESULT

    listener = listener or Listener()
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        recover(out, RESULT, alone=True)
        earlier = read_summary(out)
        known = {outcome.source: outcome for outcome in earlier}
        folders = {outcome.source: outcome.folder for outcome in earlier if outcome.folder is not None}
        with journal(out, earlier) as kept:
            names = result_names(sources, out, folders)
            for number, (source, name) in enumerate(zip(sources, names, strict=True), 1):
                listener.start(source, number, len(sources))
                key = run_key(source, getattr(register, "__name__", ""), options)
                before = known.get(str(source.absolute()))
                if resume and before is not None and is_finished(before, key, source, out):
                    kept.add(before)
                    listener.skipped(before)
                    continue
                found = _register_one(source, out / name, register, {**options, "progress": listener.stage})
                kept.add(replace(found, key=key))
                listener.done(found)
    return kept.outcomes


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
