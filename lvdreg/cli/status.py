"""How commands end: exit statuses, and one line for each expected failure."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.text import one_line

FAILED, WRONG_USAGE, NOT_GOOD = 1, 2, 3
SIGNALLED = 128
"""Added to the number of the signal that ended a command, as shells do: 130 after Ctrl-C."""
SIGNALS = ("SIGTERM", "SIGHUP")
"""Signals that end a command as Ctrl-C does: what is being done is cleared away, what is done stays."""


class Signalled(KeyboardInterrupt):
    """A signal has asked the command to end."""

    def __init__(self, number: int) -> None:
        """Take the signal's number."""
        super().__init__(number)
        self.number = number


@contextmanager
def plain_errors(interrupted: str = "what was written so far is complete") -> Iterator[None]:
    """Turn expected errors into one line and an exit status; anything else is a fault and keeps its traceback.

    Args:
        interrupted: What to say of the results when the user interrupts.
    """
    try:
        with signals_raise():
            yield
    except UsageError as error:
        stop(str(error), WRONG_USAGE)
    except LvdregError as error:
        stop(str(error), FAILED)
    except OSError as error:
        stop(plain_words(error), FAILED)
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, Signalled) else int(signal.SIGINT)
        stop(f"interrupted; {interrupted}", SIGNALLED + number)


def plain_words(error: LvdregError | OSError) -> str:
    """Say what an error says; of the system's own which file it is about, and what to do."""
    if isinstance(error, LvdregError) or error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror.lower()}; check the path, its permissions and the space left there"


@contextmanager
def signals_raise() -> Iterator[None]:
    """Let signals that end a process raise ``Signalled`` instead, but for those that somebody has seen to already."""

    def end(number: int, _frame: object) -> NoReturn:
        raise Signalled(number)

    is_main = threading.current_thread() is threading.main_thread()
    known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)] if is_main else []
    ours = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def stop(message: str, status: int) -> NoReturn:
    """Say why in one line on standard error and leave with a status."""
    typer.echo(f"lvdreg: {one_line(message)}", err=True)
    raise typer.Exit(status)
