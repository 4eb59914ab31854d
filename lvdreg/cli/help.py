"""``lvdreg doctor`` and ``lvdreg example``: what is there to begin with."""

from pathlib import Path
from typing import Annotated

import typer

from lvdreg.base.errors import LvdregError
from lvdreg.cli.options import ExampleKind
from lvdreg.cli.status import FAILED, plain_errors


def doctor() -> None:
    """Say what is installed and which bodies, weights and examples are found; status 1 if registering cannot work."""
    with plain_errors():
        from lvdreg.cli.console import print_checks
        from lvdreg.cli.doctor import diagnose

        checks = diagnose()
        print_checks(checks)
        if not all(check.ok for check in checks):
            raise typer.Exit(FAILED)


def example(
    kind: Annotated[ExampleKind | None, typer.Argument(help="Only examples of this kind.")] = None,
    out: Annotated[Path | None, typer.Option(help="Copy the examples into this folder.")] = None,
) -> None:
    """Print where the shipped examples are.

    Use: lvdreg register $(lvdreg example), lvdreg hands $(lvdreg example hand), lvdreg image $(lvdreg example photo).
    Without a kind, all but scans of people are named on standard error, so that what is handed on are these.
    """
    with plain_errors():
        from lvdreg.cli.doctor import examples

        kinds = [kind] if kind is not None else list(ExampleKind)
        found = {each: examples(each.value) for each in kinds}
        if not found[kinds[0]]:
            raise LvdregError(f"no example of a {kinds[0].value} is found: install lvdreg again")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            found = {each: [copied(path, out / path.name) for path in paths] for each, paths in found.items()}
        for path in found[kinds[0]]:
            typer.echo(path)
        for other, command in ((ExampleKind.HAND, "hands"), (ExampleKind.PHOTO, "image")):
            for path in found[other] if kind is None else []:
                typer.echo(f"{path} (a {other.value}, for lvdreg {command}: lvdreg example {other.value})", err=True)


def copied(source: Path, target: Path) -> Path:
    """Copy a file to where nothing or the same lies already; return the copy.

    Raises:
        OutputError: something else is there.
    """
    from lvdreg.base.disk import refuse_others, write_file

    content = source.read_bytes()
    refuse_others(target, lambda there: there.read_bytes() == content)
    write_file(target, lambda part: part.write_bytes(content))
    return target
