"""``lvdreg config``: what can be set, and whether a settings file is right."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lvdreg.cli.options import Quality, QualityOption
from lvdreg.cli.status import plain_errors
from lvdreg.settings import COMMANDS, KNOBS, Settings, Value, as_toml, read_file, with_given, words

if TYPE_CHECKING:
    from rich.table import Table


def config(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Settings file to check; shows what it comes to.")
    ] = None,
    toml: Annotated[bool, typer.Option("--toml", help="Print a commented settings file to begin with.")] = False,
    quality: QualityOption = None,
) -> None:
    """Show all settings with value, unit, range and meaning; print a settings file; check one."""
    with plain_errors():
        from lvdreg.cli.console import console

        chosen = read_file(file) if file is not None else {command: Settings() for command in COMMANDS}
        word = None if quality is None else quality.value
        chosen = {command: with_given(settings, quality=word) for command, settings in chosen.items()}
        if toml:
            typer.echo(as_toml(chosen), nl=False)
            return
        if file is not None:
            typer.echo(f"{file}: no fault found; it comes to:", err=True)
        console().print(table_of(chosen))


def table_of(chosen: dict[str, Settings]) -> "Table":
    """Return a table of all settings: their values for each command, and what they mean."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("setting", *COMMANDS, "unit", "range", "meaning"):
        table.add_column(name, overflow="fold", no_wrap=name != "meaning")
    values = {command: settings.effective(command) for command, settings in chosen.items()}
    for name, knob in KNOBS.items():
        cells = [words(values[command][name]) if name in values[command] else "-" for command in COMMANDS]
        table.add_row(*(Text(cell) for cell in (name, *cells, knob.unit, knob.range, knob.meaning)))
    return table


def chosen_settings(
    command: str, file: Path | None, quality: Quality | None, **given: Value | None
) -> dict[str, Value]:
    """Return the settings that a command runs with: those of the file, and those of the command line over it.

    Raises:
        UsageError: the file has a fault, or a setting has no such value.
    """
    found = Settings() if file is None else read_file(file)[command]
    return with_given(found, quality=None if quality is None else quality.value, **given).given()
