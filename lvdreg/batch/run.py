"""One input after the other, or several at once; a failure is written down, nothing that is done is lost."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lvdreg.base.disk import recover
from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.lock import locked
from lvdreg.base.text import one_line
from lvdreg.batch.crew import done_by_crew
from lvdreg.batch.inputs import result_names
from lvdreg.batch.resume import is_finished, run_key
from lvdreg.batch.summary import Journal, Outcome, journal, read_summary


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


@dataclass(frozen=True)
class _Job:
    """An input that is to be registered: its number in the batch, from 1, result folder and key."""

    number: int
    source: Path
    folder: Path
    key: str | None


def register_many(
    sources: Sequence[Path],
    out: Path,
    *,
    register: Callable[..., Result],
    listener: Listener | None = None,
    resume: bool = False,
    workers: int = 1,
    **options: Any,
) -> list[Outcome]:
    """Register scans one after the other, or several at once; a failure is written down and the others go on.

    What became of a scan is on the disk before the next one begins. Killed at any instant, every result is whole, and
    the next run clears up what is left. Results do not depend on the number of workers.

    Args:
        sources: Scan files, all different; see ``expand_inputs``.
        out: Output folder: one result folder for each scan, and at the end ``summary.json``. May be a link.
        register: What registers one scan: ``lvdreg.register``, ``lvdreg.register_hand``, or for photos
            ``lvdreg.register_image`` or ``lvdreg.register_people``.
        listener: Hears of the progress; with several workers of what is done alone.
        resume: Leave out scans whose results are there already, whole and made from the same content with the same
            settings, model and version.
        workers: So many processes, each with its share of the cores; with more than one ``register`` is to be a
            function of a module, and a script needs ``if __name__ == "__main__":``, as they import it. One that is
            killed costs no more than its scan.
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
        folders = {outcome.source: outcome.folder for outcome in earlier if outcome.folder is not None}
        with journal(out, earlier) as kept:
            names = result_names(sources, out, folders)
            batch = _Batch(sources, listener, kept, {o.source: o for o in earlier} if resume else {}, out)
            todo = batch.todo(names, lambda source: run_key(source, getattr(register, "__name__", ""), options))
            if workers == 1 or len(sources) == 1:
                for job in todo:
                    batch.done(job, _register_one(job, register, {**options, "progress": listener.stage}))
            else:
                work = partial(_register_one, register=register, options={**options, "progress": _unheard})
                for job, found in done_by_crew(todo, work, _died, min(workers, len(sources))):
                    listener.start(job.source, job.number, len(sources))
                    batch.done(job, found)
    place = {str(source.absolute()): number for number, source in enumerate(sources)}
    return sorted(kept.outcomes, key=lambda outcome: place[outcome.source])


@dataclass
class _Batch:
    """What there is to do, and what was done."""

    sources: Sequence[Path]
    listener: Listener
    kept: Journal
    known: dict[str, Outcome]
    out: Path

    def todo(self, names: Sequence[str], key_of: Callable[[Path], str | None]) -> Iterator[_Job]:
        """Yield what is not finished; say of the others that they are."""
        for number, (source, name) in enumerate(zip(self.sources, names, strict=True), 1):
            self.listener.start(source, number, len(self.sources))
            key, before = key_of(source), self.known.get(str(source.absolute()))
            if before is not None and is_finished(before, key, source, self.out):
                self.kept.add(before)
                self.listener.skipped(before)
            else:
                yield _Job(number, source, self.out / name, key)

    def done(self, job: _Job, found: Outcome) -> None:
        """Keep what became of an input."""
        self.kept.add(replace(found, key=job.key))
        self.listener.done(found)


def _unheard(stage: str) -> None:
    """Nobody hears of the stages of several scans at once."""


def _died(job: _Job) -> Outcome:
    reason = "its process was ended from outside, perhaps for want of memory: try fewer --workers, or thin the scan"
    return Outcome(str(job.source.absolute()), None, None, reason)


def _register_one(job: _Job, register: Callable[..., Result], options: dict[str, Any]) -> Outcome:
    source, folder = job.source, job.folder
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
