"""Several processes that each do one thing at a time; one that dies takes no other's work with it."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from lvdreg.base.processes import deaf, settle, with_threads

JobT = TypeVar("JobT")
DoneT = TypeVar("DoneT")


def done_by_crew(
    jobs: Iterable[JobT], work: Callable[[JobT], DoneT], died: Callable[[JobT], DoneT], workers: int
) -> Iterator[tuple[JobT, DoneT]]:
    """Do jobs in several processes, each of which has its share of the cores; yield what came of them, as it comes.

    Args:
        jobs: What to do; the next one is asked for when a process is free.
        work: Does a job, in a process of its own; a function of a module, as are the arguments of a ``partial``.
        died: What to yield for a job whose process was killed from outside, as for want of memory.
        workers: How many processes.

    Yields:
        Jobs and what came of them.

    Raises:
        Exception: what ``work`` raises; the other processes are ended then, as they are when nobody asks any more.
    """
    crew = _Crew(max(1, (os.cpu_count() or 1) // workers))
    left, running = iter(jobs), dict[Future[DoneT], tuple[JobT, ProcessPoolExecutor]]()
    try:
        free = [crew.hired() for _ in range(workers)]
        while True:
            while free and (job := next(left, None)) is not None:
                one = free.pop()
                with deaf(), with_threads(crew.threads):
                    running[one.submit(work, job)] = (job, one)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, one = running.pop(future)
                try:
                    yield job, future.result()
                except BrokenProcessPool:
                    crew.dismiss(one)
                    one = crew.hired()
                    yield job, died(job)
                free.append(one)
    finally:
        crew.end()


class _Crew:
    """Processes, each in a pool of its own: what breaks one pool leaves the others whole."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.others = set(multiprocessing.active_children())
        self.pools: list[ProcessPoolExecutor] = []

    def hired(self) -> ProcessPoolExecutor:
        """Return a pool of one process, which starts with its first job."""
        context = multiprocessing.get_context("spawn")  # safe with threads and GPUs
        self.pools.append(ProcessPoolExecutor(1, context, settle, (self.threads,)))
        return self.pools[-1]

    def dismiss(self, pool: ProcessPoolExecutor) -> None:
        """Let go of a pool whose process has died."""
        self.pools.remove(pool)
        pool.shutdown(wait=False)

    def end(self) -> None:
        """End all processes."""
        for pool in self.pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - self.others:
            process.terminate()
            process.join()
