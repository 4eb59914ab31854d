"""The command line: thin, and light until a command runs (``lvdreg --help`` imports neither torch nor scipy)."""

import io
import sys
import warnings
from typing import Annotated

import typer

from lvdreg.base.version import __version__
from lvdreg.cli.augment import EPILOG, augment
from lvdreg.cli.config import config
from lvdreg.cli.convert import EPILOG as CONVERT_EPILOG
from lvdreg.cli.convert import convert
from lvdreg.cli.evaluate import evaluate_app
from lvdreg.cli.export import EPILOG as EXPORT_EPILOG
from lvdreg.cli.export import export
from lvdreg.cli.help import doctor, example
from lvdreg.cli.image import image
from lvdreg.cli.lift import EPILOG as LIFT_EPILOG
from lvdreg.cli.lift import lift
from lvdreg.cli.many import register_batch
from lvdreg.cli.measure import EPILOG as MEASURE_EPILOG
from lvdreg.cli.measure import measure
from lvdreg.cli.models import models_app
from lvdreg.cli.options import ExampleKind, Side, Unit, Up
from lvdreg.cli.scans import STATUSES, hands, register, registrar
from lvdreg.cli.sequence import sequence
from lvdreg.cli.serve import serve
from lvdreg.cli.train import train_app
from lvdreg.cli.view import render, view

__all__ = ["ExampleKind", "Side", "Unit", "Up", "app", "registrar", "run"]

app = typer.Typer(
    help="Register 3D scans of people and hands to body models by Learned Vertex Descent.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(epilog=STATUSES)(register)
app.command(epilog=STATUSES)(hands)
app.command(epilog=STATUSES)(image)
app.command("batch", epilog=STATUSES)(register_batch)
app.command(epilog=EPILOG)(augment)
app.command(epilog=LIFT_EPILOG)(lift)
app.command(epilog=EXPORT_EPILOG)(export)
app.command(epilog=MEASURE_EPILOG)(measure)
app.command(epilog=CONVERT_EPILOG)(convert)
app.command()(sequence)
app.command()(view)
app.command()(render)
app.command()(serve)
app.command()(config)
app.command()(doctor)
app.command()(example)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(models_app, name="models")


def show_version(wanted: bool) -> bool:
    """Print the version and leave."""
    if wanted:
        typer.echo(f"lvdreg {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Register 3D scans of people and hands to body models by Learned Vertex Descent."""
    if not sys.warnoptions:
        # Those of other packages, as Pillow's of large photos; what users should know lvdreg says itself. Here, since
        # the process is ours: filters belong to all of its threads.
        warnings.simplefilter("ignore")


def run() -> None:
    """Run the command line: what a terminal's encoding lacks is written as an escape, and never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="lvdreg")
