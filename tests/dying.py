"""A process that is killed just before one of its changes to a folder, to see what it leaves."""

import os
from collections.abc import Callable
from typing import Any

from lvdreg.base import disk

CALLS = ("rename", "replace", "mkdir", "rmdir", "unlink")
"""Whatever changes a folder goes through one of these, or through renameat2."""


def killed_at(step: int, work: Callable[[], object], exchange: bool = True) -> bool:
    """Work in a process of its own that is killed at a step; False if it came to its end before.

    Args:
        step: So many changes are made.
        work: What is to be done; must not fail.
        exchange: Whether the system can exchange folders.
    """
    pid = os.fork()
    if pid == 0:
        try:
            die_at(step, exchange)
            work()
        except BaseException:  # noqa: BLE001 - a child must not go on as pytest
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed before it was killed"
    return os.WIFSIGNALED(status)


def die_at(step: int, exchange: bool) -> None:
    """Let this process be killed just before the call of that number; what happens after the last one is seen, too."""
    left = [step]

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **options: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), 9)
            left[0] -= 1
            return call(*args, **options)

        return count

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    disk._exchanged = wrapped(disk._exchanged) if exchange else lambda first, second: False  # type: ignore[assignment]
