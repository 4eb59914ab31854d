"""One input after the other, or many at once; a failure is written down, nothing that is done is lost."""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lvdreg.base.disk import recover, refuse_full
from lvdreg.base.lock import locked
from lvdreg.batch.crew import Crew, Limits, Lost
from lvdreg.batch.inputs import result_names
from lvdreg.batch.one import Job, Result, Work, unheard
from lvdreg.batch.resume import common_stamp, is_finished, look, settled_look, stamp
from lvdreg.batch.table import Outcome, Table, opened

ROOM_BYTES = 32 << 20
"""So much must be free for each result that is being made."""

Engine = Callable[[Callable[[], Job | None], Work], Generator[tuple[Job, Outcome | Lost], None, None]]
"""Does jobs, one after the other or many at once: see ``Crew.__call__``."""


class Listener:
    """Hears how a batch is getting on; this one ignores it."""

    def plan(self, count: int, left: int) -> None:
        """Of ``count`` scans so many are left to be done, as far as can be told at once."""

    def start(self, source: Path, number: int, count: int) -> None:
        """Scan ``number`` of ``count`` begins."""

    def stage(self, name: str) -> None:
        """The present scan enters a stage."""

    def done(self, outcome: Outcome) -> None:
        """The present scan is finished and its result written."""

    def skipped(self, outcome: Outcome) -> None:
        """The present scan is left out: it has its result from an earlier run, or is in quarantine."""


def register_many(
    sources: Sequence[Path],
    out: Path,
    *,
    register: Callable[..., Result],
    listener: Listener | None = None,
    resume: bool = False,
    release: bool = False,
    workers: int = 1,
    limits: Limits | None = None,
    engine: Engine | None = None,
    own: Mapping[Path, Mapping[str, Any]] | None = None,
    **options: Any,
) -> list[Outcome]:
    """Register scans one after the other, or several at once; a failure is written down and the others go on.

    What became of a scan is on the disk before the next one begins. Killed at any instant, every result is whole, and
    the next run clears up what is left. Results do not depend on the number of workers.

    Args:
        sources: Scan files, all different; see ``expand_inputs``.
        out: Output folder: one result folder for each scan, and the table ``results.csv``. May be a link.
        register: What registers one scan: ``lvdreg.register``, ``lvdreg.register_hand``, or for photos
            ``lvdreg.register_image`` or ``lvdreg.register_people``.
        listener: Hears of the progress; of the stages of scans only if they are registered in this process, and with
            several workers of a scan only when it is done.
        resume: Leave out scans whose results are there already, whole and made from the same content with the same
            settings, model and version; and those in quarantine, whose process died or passed a limit.
        release: Try those in quarantine again.
        workers: So many processes, each with its share of the cores; with more than one, or with limits, ``register``
            is to be a function of a module, and a script needs ``if __name__ == "__main__":``, as they import it. One
            that is killed costs no more than its scan.
        limits: What each scan may take; with limits even a single worker is a process of its own.
        engine: What does the jobs instead of processes of this machine.
        own: Options of single scans, over those of all.
        options: Passed on to ``register``: model, unit, up or side, device, seed, settings.

    Returns:
        Outcomes in the order of the sources.

    Raises:
        UsageError: the options, not a scan, are wrong.
        OutputError: another run is writing into the output folder, its table is somebody else's, or its disk is full.
        OSError: the output folder itself cannot be written.
    """
    from lvdreg.result.files import RESULT

    listener = listener or Listener()
    out.mkdir(parents=True, exist_ok=True)
    workers = max(1, min(workers, len(sources)))
    is_alone = engine is None and workers == 1
    is_here, limits = is_alone and limits is None, limits or Limits()
    engine = _one_after_the_other if is_here else engine or Crew(workers, limits)
    work = Work(register, options, listener.stage if is_here else unheard)
    room = workers * ROOM_BYTES
    with locked(out):
        recover(out, RESULT, alone=True)
        refuse_full(out, room, probe=True)
        try:
            with opened(out) as table:
                run = _Run(sources, out, table, listener, work, own or {}, limits.retries, room, is_alone)
                run.plan(resume, release)
                with closing(engine(run.next_job, work)) as found:
                    for job, outcome in found:
                        run.done(job, outcome)
        finally:
            recover(out, RESULT, alone=True)  # what processes that were ended have left
    return [run.outcomes[source] for source in sources]


def _one_after_the_other(
    next_job: Callable[[], Job | None], work: Work
) -> Generator[tuple[Job, Outcome | Lost], None, None]:
    """Do jobs in this process."""
    while (job := next_job()) is not None:
        yield job, work(job)


@dataclass
class _Run:
    """What there is to do, and what was done.

    Attributes:
        room: Bytes that must be free on the disk before another job begins.
        is_alone: Whether one job after the other is done.
        outcomes: What became of each input so far.
        todo: Jobs to come, and what an earlier run has noted of them.
        again: Jobs whose process died, to be given to another.
    """

    sources: Sequence[Path]
    out: Path
    table: Table
    listener: Listener
    work: Work
    own: Mapping[Path, Mapping[str, Any]]
    retries: int
    room: int
    is_alone: bool
    outcomes: dict[Path, Outcome] = field(default_factory=dict)
    todo: deque[tuple[Job, Outcome | None]] = field(default_factory=deque)
    again: deque[Job] = field(default_factory=deque)

    def plan(self, resume: bool, release: bool) -> None:
        """Pass over what is finished, as far as times and sizes tell; the others are to be done, each with a folder."""
        common = common_stamp(self.work.how, self.work.options)
        left: list[tuple[Job, Outcome | None]] = []
        for number, source in enumerate(self.sources, 1):
            own = self.own.get(source, {})
            its = common_stamp(self.work.how, self.work.options_of(own)) if own else common
            job = Job(number, source, self.out, its, own)
            before = self.table.rows.get(job.name) if resume else None
            if before is not None and _is_same(before, its, source, self.out):
                self._skip(job, before)
            else:
                left.append((job, None if before is not None and before.quarantined and release else before))
        earlier = {name: row.folder for name, row in self.table.rows.items() if row.folder is not None}
        names = result_names([job.source for job, _ in left], self.out, earlier)
        self.todo.extend(
            (replace(job, folder=self.out / name), before) for (job, before), name in zip(left, names, strict=True)
        )
        self.listener.plan(len(self.sources), len(left))

    def next_job(self) -> Job | None:
        """Return the next job, which begins; None when there is none, unless a process dies yet.

        Raises:
            OutputError: there is no room for its result.
        """
        while self.again or self.todo:
            job, before = (self.again.popleft(), None) if self.again else self.todo.popleft()
            if before is not None and self._is_finished(job, before):
                continue
            refuse_full(self.out, self.room)
            if self.is_alone:
                self.listener.start(job.source, job.number, len(self.sources))
            return job
        return None

    def _is_finished(self, job: Job, before: Outcome) -> bool:
        """Look whether an input need not be registered again, and say so."""
        seen, key = settled_look(job.source), self.work.key(job)
        if before.quarantined and before.key == key is not None:
            self._skip(job, before)
            return True
        if not is_finished(before, key, job.source, self.out):
            return False
        mark = stamp(job.common, seen, self.out / str(before.folder))
        if mark is not None:
            self.table.add(before := replace(before, stamp=mark))
        self._skip(job, before)
        return True

    def _skip(self, job: Job, before: Outcome) -> None:
        self.outcomes[job.source] = before
        self.listener.start(job.source, job.number, len(self.sources))
        self.listener.skipped(before)

    def done(self, job: Job, found: Outcome | Lost) -> None:
        """Note what became of a job, or that it is to be tried again.

        Raises:
            OSError: nothing can be written any more.
        """
        if isinstance(found, Lost):
            if found.is_innocent or (found.may_retry and job.tries < self.retries):
                self.again.append(replace(job, tries=job.tries + (not found.is_innocent)))
                return
            found = job.not_registered(found.reason, key=self.work.key(job), quarantined=True)
        if not self.is_alone:
            self.listener.start(job.source, job.number, len(self.sources))
        self.table.add(found)
        self.outcomes[job.source] = found
        self.listener.done(found)
        if not found.registered:
            refuse_full(self.out, self.room, probe=True)


def _is_same(before: Outcome, common: str, source: Path, out: Path) -> bool:
    """Whether times and sizes of an input and of its result are what they were when it was registered."""
    known = before.registered and before.stamp is not None and before.folder is not None
    return known and before.stamp == stamp(common, look(source), out / str(before.folder))
