"""The stages of a run as a user sees them: which is at work, how long each took, how many threads it may use."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

Progress = Callable[[str], None]
"""Receives the name of each stage as it begins."""


@dataclass
class Clock:
    """Tells a listener of each stage and keeps its seconds.

    A stage is charged with all that passed since the one before it ended, or since the clock was made: no time lies
    between the stages, so that they add up to the whole.
    """

    listener: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start."""
        self._last = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage and time it; a stage that comes again adds to its time."""
        if self.listener is not None:
            self.listener(name)
        try:
            yield
        finally:
            now = time.perf_counter()
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
            self._last = now


class _BlasLimit:
    """How many threads BLAS uses belongs to the process: one while anybody asks for it, then as many as before."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._num_inside = 0
        self._first: Any = None

    def enter(self) -> Any:
        """Limit BLAS; returns what ``leave`` needs."""
        from threadpoolctl import threadpool_limits

        with self._lock:
            _free_control()
            limits = threadpool_limits(1, user_api="blas")
            _free_control()
            self._first = limits if not self._num_inside else self._first
            self._num_inside += 1
            return limits

    def leave(self, limits: Any) -> None:
        """Give BLAS its threads back if nobody else is inside."""
        with self._lock:
            _free_control()
            self._num_inside -= 1
            if limits is not self._first:
                limits.restore_original_limits()  # one, but for libraries that count per thread
            if not self._num_inside:
                self._first.restore_original_limits()
            _free_control()


def _free_control() -> None:
    """Let this thread set limits, and then others: since 3.8 threadpoolctl ignores all threads but the one that did so
    first, as long as it lives."""
    from threadpoolctl import OpenBLASController

    free = getattr(OpenBLASController, "clear_controlling_thread", None)
    if free is not None:
        free(force=True)


_blas_limit = _BlasLimit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread: at the size of a fit's matrices several wait for each other longer than they compute.

    Sums come in another order with several threads, so equal results need it all the way. It may be entered by several
    threads at once: the first sets the limit for the process, the last gives BLAS its threads back.
    """
    limits = _blas_limit.enter()
    try:
        yield
    finally:
        _blas_limit.leave(limits)
