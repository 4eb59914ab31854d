"""One input after the other, or many at once; a failure is written down, nothing that is done is lost."""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lvdreg.base.errors import OutputError
from lvdreg.batch.crew import Crew, Limits, Lost
from lvdreg.batch.inputs import result_names
from lvdreg.batch.one import Job, Result, Work, unheard
from lvdreg.batch.remote import Remote, Source, at_hand
from lvdreg.batch.resume import common_stamp, is_finished, look, settled_look, stamp
from lvdreg.batch.store import Store, store_of
from lvdreg.batch.table import Outcome, Table

ROOM_BYTES = 32 << 20
"""So much must be free for each result that is being made."""

Engine = Callable[[Callable[[], Job | None], Work], Generator[tuple[Job, Outcome | Lost], None, None]]
"""Does jobs, one after the other or many at once: see ``Crew.__call__``."""


class Listener:
    """Hears how a batch is getting on; this one ignores it."""

    def plan(self, count: int, left: int) -> None:
        """Of ``count`` scans so many are left to be done, as far as can be told at once."""

    def start(self, source: Source, number: int, count: int) -> None:
        """Scan ``number`` of ``count`` begins."""

    def stage(self, name: str) -> None:
        """The present scan enters a stage."""

    def done(self, outcome: Outcome) -> None:
        """The present scan is finished and its result written."""

    def skipped(self, outcome: Outcome) -> None:
        """The present scan is left out: it has its result from an earlier run, or is in quarantine."""


def register_many(
    sources: Sequence[Source],
    out: Path | Remote,
    *,
    register: Callable[..., Result],
    listener: Listener | None = None,
    resume: bool = False,
    release: bool = False,
    workers: int = 1,
    limits: Limits | None = None,
    engine: Engine | None = None,
    own: Mapping[Source, Mapping[str, Any]] | None = None,
    **options: Any,
) -> list[Outcome]:
    """Register scans one after the other, or several at once; a failure is written down and the others go on.

    What became of a scan is on the disk before the next one begins. Killed at any instant, every result is whole, and
    the next run clears up what is left. Results do not depend on the number of workers.

    Args:
        sources: Scan files, all different; see ``expand_inputs``.
        out: Output folder, of this machine or of a store: one result folder for each scan, and the table
            ``results.csv``. May be a link.
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
    listener, store = listener or Listener(), store_of(out)
    workers = max(1, min(workers, len(sources)))
    is_alone = engine is None and workers == 1
    is_here, limits = is_alone and limits is None, limits or Limits()
    engine = _one_after_the_other if is_here else engine or Crew(workers, limits)
    work = Work(register, options, listener.stage if is_here else unheard, store)
    room = workers * ROOM_BYTES
    with store.held(room), store.table() as table:
        run = _Run(sources, store, table, listener, work, own or {}, limits.retries, room, is_alone)
        run.plan(resume, release)
        with closing(engine(run.next_job, work)) as found:
            for job, outcome in found:
                run.done(job, outcome)
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

    sources: Sequence[Source]
    store: Store
    table: Table
    listener: Listener
    work: Work
    own: Mapping[Source, Mapping[str, Any]]
    retries: int
    room: int
    is_alone: bool
    outcomes: dict[Source, Outcome] = field(default_factory=dict)
    todo: deque[tuple[Job, Outcome | None]] = field(default_factory=deque)
    again: deque[Job] = field(default_factory=deque)

    def plan(self, resume: bool, release: bool) -> None:
        """Pass over what is finished, as far as times and sizes tell; the others are to be done, each with a folder."""
        common = common_stamp(self.work.how, self.work.options)
        left: list[tuple[Job, Outcome | None]] = []
        for number, source in enumerate(self.sources, 1):
            own = self.own.get(source, {})
            its = common_stamp(self.work.how, self.work.options_of(own)) if own else common
            job = Job(number, source, "", its, own)
            before = self.table.rows.get(job.name) if resume else None
            if before is not None and _is_same(before, its, source, self.store):
                self._skip(job, before)
            else:
                left.append((job, None if before is not None and before.quarantined and release else before))
        earlier = {name: row.folder for name, row in self.table.rows.items() if row.folder is not None}
        names = result_names([job.source for job, _ in left], self.store, earlier)
        self.todo.extend((replace(job, folder=name), before) for (job, before), name in zip(left, names, strict=True))
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
            self.store.check(self.room)
            if self.is_alone:
                self.listener.start(job.source, job.number, len(self.sources))
            return job
        return None

    def _is_finished(self, job: Job, before: Outcome) -> bool:
        """Look whether an input need not be registered again, and say so."""
        if not before.registered and not before.quarantined:
            return False
        seen = settled_look(job.source)
        try:
            with at_hand(job.source) as source:
                key = self.work.key(job, source)
                if before.quarantined and before.key == key is not None:
                    self._skip(job, before)
                    return True
                if not is_finished(before, key, source, self.store):
                    return False
        except (OutputError, OSError):  # whoever does the job says what is wrong
            return False
        mark = stamp(job.common, seen, self.store.looks(str(before.folder)))
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
            found = self.work.not_registered(job, found.reason, key=self._key(job), quarantined=True)
        if not self.is_alone:
            self.listener.start(job.source, job.number, len(self.sources))
        self.table.add(found)
        self.outcomes[job.source] = found
        self.listener.done(found)
        if not found.registered:
            self.store.check(self.room, probe=True)

    def _key(self, job: Job) -> str | None:
        try:
            with at_hand(job.source) as source:
                return self.work.key(job, source)
        except (OutputError, OSError):
            return None


def _is_same(before: Outcome, common: str, source: Source, store: Store) -> bool:
    """Whether times and sizes of an input and of its result are what they were when it was registered."""
    if not before.registered or before.stamp is None or before.folder is None:
        return False
    seen = look(source) if isinstance(source, Path) or source.listed is None else source.listed
    return before.stamp == stamp(common, seen, store.looks(before.folder))
