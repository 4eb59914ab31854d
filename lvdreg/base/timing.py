"""The stages of a run as a user sees them: which is at work, how long each took, how many threads it may use."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[str], None]
"""Receives the name of each stage as it begins."""


@dataclass
class Clock:
    """Tells a listener of each stage and keeps its seconds."""

    listener: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage and time it; a stage that comes again adds to its time."""
        if self.listener is not None:
            self.listener(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread: at the size of a fit's matrices several wait for each other longer than they compute."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
