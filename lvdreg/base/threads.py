"""Sums that do not depend on the number of threads: refinement amplifies their last digits to millimetres.

Libraries that add numbers with several threads add them in an order of their own. So whoever promises equal results
computes with one thread of BLAS (``base.timing``) and one of torch, and cuts what takes long into pieces that are the
same whatever the number of threads. The pieces are done side by side, by as many threads as torch was given.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_given = threading.local()
_setting = threading.Lock()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch use one thread for each operation of the calling thread; ``side_by_side`` uses those it had before.

    Other threads keep what they have, and threads begun meanwhile get what they would get.
    """
    before, outer = torch.get_num_threads(), getattr(_given, "count", 1)
    _given.count = max(before, outer)
    _set_own(1)
    try:
        yield
    finally:
        _given.count = outer
        _set_own(before)


def _set_own(count: int) -> None:
    """Set the number of torch's threads for this thread only.

    torch sets it for this thread, and for those that are yet to begin: the latter is put back by another thread.
    """
    if torch.get_num_threads() == count:
        return
    with _setting, ThreadPoolExecutor(1) as fresh:
        of_new_threads = fresh.submit(torch.get_num_threads).result()
        torch.set_num_threads(count)
        fresh.submit(torch.set_num_threads, of_new_threads).result()


def side_by_side(work: Callable[[T], R], pieces: Sequence[T]) -> list[R]:
    """Do pieces of work, none of which needs another.

    Within ``one_torch_thread`` as many are done at once as torch had threads, each with one thread of its own: the
    results are those of doing one after the other.

    Args:
        work: What to do with a piece; gradients are off where they are off for the caller.
        pieces: What to work on.

    Returns:
        The results in the order of the pieces.
    """
    workers = min(getattr(_given, "count", 1), len(pieces))
    if workers <= 1:
        return [work(piece) for piece in pieces]
    with_gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def done(piece: T) -> R:
        with torch.inference_mode(inference), torch.set_grad_enabled(with_gradients):
            return work(piece)

    return list(_pool(workers, os.getpid()).map(done, pieces))


@cache
def _pool(workers: int, _process: int) -> ThreadPoolExecutor:
    """Return so many threads, for a process: forked ones have none of those of their parent."""
    return ThreadPoolExecutor(workers, "lvdreg", _set_own, (1,))
