"""``lvdreg convert``."""

from pathlib import Path
from typing import Annotated

import typer

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.text import one_line
from lvdreg.cli.batch import check_out
from lvdreg.cli.status import FAILED, plain_errors, plain_words

EPILOG = "Exit status: 0 all carried over, 1 something could not be read, carried over or written, 2 wrong usage."


def convert(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT", help="Result folders, or folders of them such as out.")
    ],
    to: Annotated[str, typer.Option(metavar="MODEL", help="A free or an added model of a body: see lvdreg models.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the new results; beside each as NAME-MODEL if not given.")
    ] = None,
) -> None:
    """Carry results over to another model, vertex by vertex: meshes, pose and shape."""
    with plain_errors():
        if out is not None:
            check_out(out)
        from lvdreg.cli.doctor import check_model
        from lvdreg.pipeline.convert import convert as run
        from lvdreg.pipeline.convert import save_converted
        from lvdreg.result.read import find_results, read_result

        if to.endswith("+d"):
            raise UsageError(
                f"--to: expected a model without +d, got {to}: displacements come along where there are any"
            )
        model, failed = check_model(to, option="--to"), 0
        for folder in find_results(results):
            try:
                result = read_result(folder)
                place = folder.with_name(f"{folder.name}-{model}") if out is None else out / folder.name
                found = run(result, model)
                save_converted(result, found, model, place)
                typer.echo(one_line(f"{place}: {found.residual_mm:.1f} mm from what was carried over"))
            except (LvdregError, OSError) as error:
                failed += 1
                typer.echo(f"lvdreg: {one_line(plain_words(error))}", err=True)
        if failed:
            raise typer.Exit(FAILED)
