"""What every command that registers does: show how it goes, print the table, leave with the status that says it."""

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import typer

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.text import one_line
from lvdreg.cli.status import FAILED, NOT_GOOD, plain_words

if TYPE_CHECKING:
    from lvdreg.batch import Engine, Limits, Remote, Result, Source
    from lvdreg.export.run import Wanted


def check_out(out: "Path | Remote") -> None:
    """Refuse a file where a folder is wanted.

    Raises:
        UsageError: it is one.
    """
    if isinstance(out, Path) and out.exists() and not out.is_dir():
        raise UsageError(f"--out: expected a folder, got the file {out}")


class Batch(TypedDict):
    """How a batch is run.

    Attributes:
        resume: Whether to leave out what is finished.
        strict: Whether a verdict other than good is a failure.
        workers: How many processes.
        exports: Formats for other programs in which results are written, too.
        report: Whether the pages of the results are built, too.
        release: Whether to try again what is in quarantine.
        limits: What each input may take.
        engine: What does the jobs; None: processes of this machine.
        own: Options of single inputs.
        parquet: Whether the table is written as Parquet, too.
    """

    resume: bool
    strict: bool
    workers: int
    exports: Sequence[str]
    report: bool
    release: NotRequired[bool]
    limits: NotRequired["Limits | None"]
    engine: NotRequired["Engine | None"]
    own: NotRequired["dict[Source, dict[str, Any]]"]
    parquet: NotRequired[bool]


def limits_of(inputs: Sequence[str], count: int, together: bool = False) -> "Limits | None":
    """Return the limits, which are none, of inputs that are each registered in a process that may die; else None.

    So are those of folders and patterns, which may be many; a few that are named are registered here, which is sooner.
    """
    from lvdreg.batch import Limits

    are_many = any(os.path.isdir(each) or (glob.has_magic(each) and not os.path.exists(each)) for each in inputs)
    return Limits() if are_many and count > 1 and not together else None


def register_all(
    sources: "Sequence[Source]",
    out: "Path | Remote",
    register: "Callable[..., Result]",
    *,
    strict: bool,
    exports: Sequence[str] = (),
    report: bool = False,
    parquet: bool = False,
    **options: Any,
) -> None:
    """Register everything, and exit with status 1 if something could not be, 3 if ``strict`` and not all is good.

    Args:
        sources: What to register.
        out: Folder for the results, of this machine or of a store.
        register: What registers one of them.
        strict: As of ``Batch``.
        exports: Likewise.
        report: Likewise.
        parquet: Likewise.
        options: The others of ``Batch``, and those for ``register``.
    """
    from lvdreg.batch import register_many, store_of
    from lvdreg.batch.table import check_parquet
    from lvdreg.cli.console import print_summary, registered

    if parquet:
        check_parquet()
    if not isinstance(out, Path) and (exports or report):
        what = "--report" if report else "--export"
        raise UsageError(f"{what}: expected --out in a folder of this machine; copy the results to one first")
    wanted = wanted_formats(exports) if exports else None
    with registered() as progress:
        outcomes = register_many(sources, out, register=register, listener=progress, **options)
    print_summary(outcomes, out)
    if parquet:
        store_of(out).write_parquet()
    if wanted is not None and isinstance(out, Path):
        export_all([out / str(outcome.folder) for outcome in outcomes if outcome.registered], wanted)
    if report and isinstance(out, Path) and any(outcome.registered for outcome in outcomes):
        build_pages(out, workers=int(options.get("workers", 1)))
    if not all(outcome.registered for outcome in outcomes):
        raise typer.Exit(FAILED)
    if strict and any(outcome.verdict != "good" for outcome in outcomes):
        raise typer.Exit(NOT_GOOD)


def build_pages(path: Path, *, force: bool = False, workers: int = 1) -> Path:
    """Build the pages of results that are missing; say where one looks at them, and return that page.

    Args:
        path: A result, or a folder of results.
        force: Whether pages are built again that are up to date.
        workers: How many processes build them.
    """
    from lvdreg.cli.console import counted
    from lvdreg.report.run import page_for

    with counted() as progress:
        page = page_for(path, force=force, workers=workers, progress=progress)
    typer.echo(one_line(str(page)))
    return page


def wanted_formats(kinds: Sequence[str], **options: Any) -> "Wanted":
    """Return what to write, each format once.

    Raises:
        UsageError: one needs a package that is not installed.
    """
    from lvdreg.export.run import Wanted, check_wanted

    wanted = Wanted(tuple(dict.fromkeys(map(str, kinds))), **options)
    check_wanted(wanted)
    return wanted


def export_all(folders: list[Path], wanted: "Wanted", out: Path | None = None, *, force: bool = False) -> None:
    """Export one result after the other, say which files were written, and exit with status 1 if one could not be.

    Args:
        folders: Of results; of all people in a photo theirs is in it.
        wanted: What to write.
        out: Folder for the files; None: into the results.
        force: Whether files that are in the way are replaced.
    """
    from lvdreg.export.run import export_result
    from lvdreg.result.read import find_results

    failed = 0
    for folder in find_results(folders):
        try:
            done = export_result(folder, wanted, out, force=force)
            for path in done.files:
                typer.echo(one_line(str(path)))
            if done.note is not None:
                typer.echo(f"note: {one_line(str(folder))}: {done.note}", err=True)
        except (LvdregError, OSError) as error:
            failed += 1
            typer.echo(f"lvdreg: {one_line(plain_words(error))}", err=True)
    if failed:
        raise typer.Exit(FAILED)
