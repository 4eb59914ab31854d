"""How commands end: exit statuses, and one line for each expected failure."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.text import one_line

FAILED, WRONG_USAGE, NOT_GOOD, INTERRUPTED = 1, 2, 3, 130


@contextmanager
def plain_errors(interrupted: str = "what was written so far is complete") -> Iterator[None]:
    """Turn expected errors into one line and an exit status; anything else is a fault and keeps its traceback.

    Args:
        interrupted: What to say of the results when the user interrupts.
    """
    try:
        yield
    except UsageError as error:
        stop(str(error), WRONG_USAGE)
    except (LvdregError, OSError) as error:
        stop(str(error), FAILED)
    except KeyboardInterrupt:
        stop(f"interrupted; {interrupted}", INTERRUPTED)


def stop(message: str, status: int) -> NoReturn:
    """Say why in one line on standard error and leave with a status."""
    typer.echo(f"lvdreg: {one_line(message)}", err=True)
    raise typer.Exit(status)
