"""Several processes that each do one thing at a time; one that dies or takes too much takes no other's work with it."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from lvdreg.base.errors import LvdregError
from lvdreg.base.processes import deaf, settle, with_threads

JobT = TypeVar("JobT")
DoneT = TypeVar("DoneT")

TICK_S = 0.25
"""How often the memory of processes is looked at, where it is limited: a scan takes seconds to fill it."""
STILLBORN = 4
"""So many processes in a row may die before they have begun; then it is not chance."""
_OOM_SCORE = "500"
"""Linux, when it lacks memory, ends a process that works before the one that keeps account."""


@dataclass(frozen=True)
class Limits:
    """What one job may take.

    Attributes:
        seconds: Time; None: any.
        memory_mb: Resident memory of its process, libraries and models included, MB of 10^6 bytes; None: any.
            Elsewhere than on Linux it is not looked at.
        retries: How often a job is given to another process when its own has died.
    """

    seconds: float | None = None
    memory_mb: float | None = None
    retries: int = 1


@dataclass(frozen=True)
class Lost:
    """A job whose process has ended without an answer.

    Attributes:
        reason: Why, and what to do, in one line.
        may_retry: Whether another process may fare better; not where a limit was passed.
        is_innocent: Whether the job had no part in it.
    """

    reason: str
    may_retry: bool
    is_innocent: bool = False


class Crew:
    """Processes that do jobs, each with its share of the cores."""

    def __init__(self, workers: int, limits: Limits) -> None:
        """Prepare to start so many, each when there is a job for it."""
        self.workers, self.limits = workers, limits
        self.threads = max(1, (os.cpu_count() or 1) // workers)

    def __call__(
        self, next_job: Callable[[], JobT | None], work: Callable[[JobT], DoneT]
    ) -> Generator[tuple[JobT, DoneT | Lost], None, None]:
        """Do jobs; yield what came of them, as it comes.

        Args:
            next_job: Gives the next job when a process is free; None when there is none, which another one that is
                done may change.
            work: Does a job, in a process of its own; a function of a module, as are the arguments of a ``partial``.

        Yields:
            Jobs and what came of them.

        Raises:
            Exception: what ``work`` raises; the other processes are ended then, as they are when nobody asks any more.
            LvdregError: no process can be started.
        """
        crew = [_Worker(work, self.threads) for _ in range(self.workers)]
        stillborn = 0
        try:
            while True:
                for worker in crew:
                    if worker.job is None and (job := next_job()) is not None:
                        worker.give(job)
                busy = [worker for worker in crew if worker.job is not None]
                if not busy:
                    return
                for worker in _ready(busy, self.limits):
                    found = worker.answer(self.limits)
                    if found is None:
                        continue
                    stillborn = stillborn + 1 if isinstance(found[1], Lost) and found[1].is_innocent else 0
                    if stillborn == STILLBORN and isinstance(found[1], Lost):
                        raise LvdregError(f"processes that register cannot be started: {found[1].reason}")
                    yield found
        finally:
            for worker in crew:
                worker.end()


def _ready(busy: "list[_Worker]", limits: Limits) -> "list[_Worker]":
    """Wait until something may have happened to some processes: they answered, died, or passed a limit."""
    waits = [limits.seconds - worker.seconds() for worker in busy] if limits.seconds is not None else []
    waits += [TICK_S] if limits.memory_mb is not None else []
    answered = wait([worker.pipe for worker in busy], max(0.0, min(waits)) if waits else None)
    return [worker for worker in busy if worker.pipe in answered or worker.is_over(limits) is not None]


class _Worker:
    """A process, started when it is first given a job, and again after it has died."""

    def __init__(self, work: Callable[[Any], Any], threads: int) -> None:
        self.work, self.threads = work, threads
        self.process: BaseProcess | None = None
        self.pipe: Connection[Any, Any]
        self.job: Any = None
        self.began: float | None = None

    def give(self, job: Any) -> None:
        """Hand over a job; its clock runs once the process is there."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")  # safe with threads and GPUs
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.work, self.threads), daemon=True)
            with deaf(), with_threads(self.threads):
                self.process.start()
            theirs.close()
            self.began = None
        else:
            self.began = time.monotonic()
        self.job = job
        with suppress(OSError):  # it has died: its answer says so
            self.pipe.send(job)

    def seconds(self) -> float:
        """Return for how long it has been at its job."""
        return 0.0 if self.began is None else time.monotonic() - self.began

    def is_over(self, limits: Limits) -> str | None:
        """Say which limit it has passed; None if none."""
        if limits.seconds is not None and self.seconds() >= limits.seconds:
            return f"took more than {limits.seconds:g} s: raise the limit of time, or thin the scan"
        pid = None if self.process is None else self.process.pid
        if limits.memory_mb is not None and pid is not None and resident_mb(pid) > limits.memory_mb:
            return f"took more than {limits.memory_mb:g} MB: raise the limit of memory, or thin the scan"
        return None

    def answer(self, limits: Limits) -> tuple[Any, Any] | None:
        """Return the job and what came of it; None when the process only said that it is there.

        Raises:
            Exception: what the work raised.
        """
        assert self.process is not None
        over = None if self.pipe.poll() else self.is_over(limits)
        if over is None:
            try:
                kind, found = self.pipe.recv()
            except (EOFError, OSError):
                return self._lost(_ending(self.process), may_retry=True)
            if kind == "there":
                self.began = time.monotonic()
                return None
            job, self.job = self.job, None
            if kind == "raised":
                raise found
            return job, found
        return self._lost(over, may_retry=False)

    def _lost(self, reason: str, may_retry: bool) -> tuple[Any, Lost]:
        job, is_innocent = self.job, self.began is None
        self.end()
        return job, Lost(reason, may_retry, is_innocent)

    def end(self) -> None:
        """End the process, whatever it is at."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process.close()
            self.pipe.close()
        self.process = self.job = None


def _ending(process: BaseProcess) -> str:
    """Say how a process has come to its end."""
    process.join()
    status = process.exitcode or 0
    if status == -int(signal.SIGSEGV):
        return "its process crashed (segmentation fault in a library): look at this scan in another program"
    if status < 0:
        end = f"signal {-status}"
        return f"its process was ended from outside ({end}), perhaps for want of memory: try fewer --workers"
    return f"its process ended (status {status}) without a word: run it alone to see why"


def _serve(pipe: "Connection[Any, Any]", work: Callable[[Any], Any], threads: int) -> None:
    """Do jobs until the pipe is closed: the main function of a process."""
    settle(threads)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    pipe.send(("there", None))
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("done", work(job))
        except BaseException as error:  # noqa: BLE001 - raised again in the parent
            answer = ("raised", error)
        pipe.send(answer)


def resident_mb(pid: int) -> float:
    """Return how much memory a process has, MB of 10^6 bytes; 0 where that cannot be seen."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0.0
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6
