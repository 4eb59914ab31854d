"""The machines of a Ray cluster: each of their cores has a process that does one thing at a time, as ``crew`` has here.

All machines see the same files under the same paths, and have the same version of lvdreg. A machine that goes costs
nothing but time: what it was at is given to another. Machines that join are put to work.
"""

import logging
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.text import brief, one_line
from lvdreg.base.version import __version__
from lvdreg.batch.crew import STILLBORN, Limits, Lost

JobT = TypeVar("JobT")
DoneT = TypeVar("DoneT")

LOOK_EVERY_S = 2.0
"""How often it is looked whether machines have come, and whether a job has passed its limit of time."""


class Cluster:
    """Processes on all machines of a cluster."""

    def __init__(self, address: str | None, workers: int | None, limits: Limits) -> None:
        """Prepare to use a cluster.

        Args:
            address: Of the cluster; None: the one that ``RAY_ADDRESS`` names, else this machine by itself.
            workers: So many processes; None: one for each core of the cluster, also of machines that join later.
            limits: What a job may take; memory is left to Ray.

        Raises:
            UsageError: Ray is not installed, or memory is to be limited.
        """
        if limits.memory_mb is not None:
            raise UsageError("--memory-limit: Ray limits memory by itself: leave it out with --engine ray")
        try:
            import ray  # noqa: F401
        except ImportError:
            raise UsageError("--engine ray: needs Ray: pip install 'lvdreg[cluster]'") from None
        self.address, self.workers, self.limits = address, workers, limits

    def __call__(
        self, next_job: Callable[[], JobT | None], work: Callable[[JobT], DoneT]
    ) -> Generator[tuple[JobT, DoneT | Lost], None, None]:
        """Do jobs; see ``Crew.__call__``."""
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        is_ours = not ray.is_initialized()
        if is_ours:
            try:
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise LvdregError(f"--address: no cluster at {self.address} ({brief(error)})") from None
        team = _Team(ray, ray.put(work), self.limits)
        try:
            yield from team.do(next_job, lambda: self.workers or int(ray.cluster_resources().get("CPU", 1)))
        finally:
            team.end()
            if is_ours:
                ray.shutdown()


class _Hand:
    """What is in another process, perhaps on another machine: does jobs."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def there(self) -> str:
        """Say that it is there, and its version."""
        return __version__

    def do(self, job: Any) -> Any:
        """Do a job."""
        return self.work(job)


@dataclass
class _Held:
    """A process of the cluster, as this one knows it.

    Attributes:
        actor: Ray's handle.
        call: What it is asked for: to say that it is there, or to do a job; None when it is idle.
        job: What it is at.
        began: When.
    """

    actor: Any
    call: Any
    job: Any = None
    began: float = 0.0


class _Team:
    """All processes of a cluster that work for this run."""

    def __init__(self, ray: Any, work: Any, limits: Limits) -> None:
        self.ray, self.work, self.limits = ray, work, limits
        self.held: list[_Held] = []
        self.stillborn = 0

    def do(
        self, next_job: Callable[[], JobT | None], wanted: Callable[[], int]
    ) -> Generator[tuple[JobT, Any], None, None]:
        """Do jobs by as many processes as are wanted, which is asked again and again."""
        looked = -LOOK_EVERY_S
        while True:
            for held in self.held:
                if held.call is None and (job := next_job()) is not None:
                    held.job, held.began = job, time.monotonic()
                    held.call = held.actor.do.remote(job)
            is_idle = any(held.call is None for held in self.held)
            if is_idle and not any(held.job is not None for held in self.held):
                return
            if not is_idle and time.monotonic() - looked >= LOOK_EVERY_S:
                looked = time.monotonic()
                self.hire(wanted() - len(self.held))
            calls = {held.call: held for held in self.held if held.call is not None}
            done, _ = self.ray.wait(list(calls), timeout=LOOK_EVERY_S)
            for call in done:
                yield from self.answer(calls[call])
            for held in list(self.held):
                over = self.limits.seconds is not None and time.monotonic() - held.began >= self.limits.seconds
                if held.job is not None and held.call not in done and over:
                    self.dismiss(held)
                    reason = f"took more than {self.limits.seconds:g} s: raise the limit of time, or thin the scan"
                    yield held.job, Lost(reason, may_retry=False)

    def hire(self, count: int) -> None:
        """Ask for so many processes more; each says that it is there before it is given a job."""
        hand = self.ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Hand)
        for _ in range(count):
            actor = hand.remote(self.work)
            self.held.append(_Held(actor, actor.there.remote()))

    def answer(self, held: _Held) -> Generator[tuple[Any, Any], None, None]:
        """Take what a process says, or note that it has died.

        Raises:
            LvdregError: it has another version, or processes cannot be started.
            Exception: what the work raised.
        """
        job, held.job = held.job, None
        try:
            found = self.ray.get(held.call)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except self.ray.exceptions.RayError as error:
            self.dismiss(held)
            if job is None:
                self.stillborn += 1
                if self.stillborn == STILLBORN * max(1, len(self.held)):
                    last = str(error).strip().splitlines()[-1]
                    raise LvdregError(f"processes of the cluster cannot be started: {one_line(last)[:200]}") from None
            else:
                yield job, Lost("its process or its machine was ended from outside: look at Ray's log", may_retry=True)
            return
        held.call = None
        if job is not None:
            yield job, found
        elif found != __version__:
            raise LvdregError(f"the cluster has lvdreg {found}, this machine {__version__}: install the same one")
        self.stillborn = 0

    def dismiss(self, held: _Held) -> None:
        """End a process."""
        self.held.remove(held)
        self.ray.kill(held.actor, no_restart=True)

    def end(self) -> None:
        """End all of them."""
        for held in list(self.held):
            self.dismiss(held)
