"""``lvdreg doctor`` and ``lvdreg example``: what is there to begin with."""

from pathlib import Path
from typing import Annotated

import typer

from lvdreg.cli.options import Kind
from lvdreg.cli.status import FAILED, plain_errors
from lvdreg.errors import LvdregError


def doctor() -> None:
    """Say what is installed and which bodies, weights and examples are found; status 1 if registering cannot work."""
    with plain_errors():
        from lvdreg.console import print_checks
        from lvdreg.doctor import diagnose

        checks = diagnose()
        print_checks(checks)
        if not all(check.ok for check in checks):
            raise typer.Exit(FAILED)


def example(
    kind: Annotated[Kind | None, typer.Argument(help="Only scans of this kind.")] = None,
    out: Annotated[Path | None, typer.Option(help="Copy the example scans into this folder.")] = None,
) -> None:
    """Print where the shipped example scans are.

    Use: lvdreg register $(lvdreg example), lvdreg hands $(lvdreg example hand). Without a kind, hands are named on
    standard error, so that what is handed on are scans of people.
    """
    with plain_errors():
        import shutil

        from lvdreg.doctor import example_scans

        kinds = [kind] if kind is not None else list(Kind)
        found = {each: example_scans(hands=each is Kind.HAND) for each in kinds}
        if not found[kinds[0]]:
            raise LvdregError(f"no example scan of a {kinds[0].value} is found: install lvdreg again")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            found = {
                each: [Path(shutil.copy(scan, out / scan.name)) for scan in scans] for each, scans in found.items()
            }
        for scan in found[kinds[0]]:
            typer.echo(scan)
        if kind is None:
            for scan in found[Kind.HAND]:
                typer.echo(f"{scan} (a hand, for lvdreg hands: lvdreg example hand)", err=True)
