"""Processes that work for this one: few threads each, deaf to Ctrl-C, which is for this one, and none outlives it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Give processes that are started now so many threads: more than there are cores would wait for each other."""
    old = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(count)))
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def deaf() -> Iterator[None]:
    """Let processes that are started now not hear Ctrl-C, not even while they import; this one hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def settle(threads: int = 1) -> None:
    """Prepare a process: its threads, no interest in Ctrl-C, which the parent hears, and no life without the parent.

    Libraries that are loaded later take the threads of ``with_threads``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
