"""What every command that registers does: show how it goes, print the table, leave with the status that says it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import typer

from lvdreg.base.errors import UsageError
from lvdreg.cli.status import FAILED, NOT_GOOD

if TYPE_CHECKING:
    from lvdreg.batch import Result


def check_out(out: Path) -> None:
    """Refuse a file where a folder is wanted.

    Raises:
        UsageError: it is one.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: expected a folder, got the file {out}")


class Batch(TypedDict):
    """How a batch is run.

    Attributes:
        resume: Whether to leave out what is finished.
        strict: Whether a verdict other than good is a failure.
        workers: How many processes.
    """

    resume: bool
    strict: bool
    workers: int


def register_all(
    sources: list[Path],
    out: Path,
    register: "Callable[..., Result]",
    *,
    resume: bool,
    strict: bool,
    workers: int,
    **options: Any,
) -> None:
    """Register everything, and exit with status 1 if something could not be, 3 if ``strict`` and not all is good.

    Args:
        sources: What to register.
        out: Folder for the results.
        register: What registers one of them.
        resume: As of ``Batch``, and so the others.
        strict: Likewise.
        workers: Likewise.
        options: For ``register``.
    """
    from lvdreg.batch import register_many
    from lvdreg.cli.console import print_summary, registered

    with registered() as progress:
        outcomes = register_many(
            sources, out, register=register, listener=progress, resume=resume, workers=workers, **options
        )
    print_summary(outcomes, out)
    if not all(outcome.registered for outcome in outcomes):
        raise typer.Exit(FAILED)
    if strict and any(outcome.verdict != "good" for outcome in outcomes):
        raise typer.Exit(NOT_GOOD)
