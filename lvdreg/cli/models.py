"""``lvdreg models``."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, no_type_check

import typer

from lvdreg.cli.status import plain_errors

models_app = typer.Typer(help="List the models that --model takes, add licensed ones, remove them.")


@models_app.callback(invoke_without_command=True)
@no_type_check  # typer hands over a context of another class than the one that it asks to be named
def models(context: typer.Context) -> None:
    """List the models that --model takes, add licensed ones, remove them; alone the same as lvdreg models list."""
    if context.invoked_subcommand is None:
        models_list()


@models_app.command("list")
def models_list() -> None:
    """List the models that --model takes: the free ones, then those that were added."""
    with plain_errors():
        from lvdreg.cli.doctor import describe_model, model_names

        for name in model_names():
            typer.echo(f"{name:12} {describe_model(name)}")


@models_app.command("add")
def models_add(
    file: Annotated[
        Path,
        typer.Argument(
            help="Model as downloaded (SMPL, SMPL-H, SMPL-X, MANO: pkl, npz), or a mesh (ply, obj, glb ...)."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="What to call it; by its kind or file if not given.")] = None,
    hand: Annotated[bool, typer.Option("--hand", help="The mesh is of a hand.")] = False,
    betas: Annotated[int | None, typer.Option(min=1, help="Shape directions to keep; 10 of more than 16.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of that name.")] = False,
) -> None:
    """Read a licensed model or any mesh of a person and find how it corresponds to the free model, so that the shipped
    network serves it too. A mesh needs no rig: it gets that of the free model.

    Takes about half a minute, once. Pickles are read without running anything in them; the file itself is not kept.
    """
    with plain_errors():
        from lvdreg.body import store
        from lvdreg.body.transfer import transfer_notes
        from lvdreg.cli.console import worked
        from lvdreg.cli.doctor import command_of, describe_transfer
        from lvdreg.pipeline.scan import correspond
        from lvdreg.pipeline.template import rig_mesh

        with worked(file.name) as progress:
            rig = partial(rig_mesh, is_hand=hand)
            how: dict[str, Any] = {"replace": replace, "num_betas": betas, "progress": progress}
            added = store.add(file, name, correspond=correspond, rig=rig, **how)
        typer.echo(f"added {added}: {describe_transfer(added)}")
        changed = store.load(added).provenance.get("changed")
        for note in ([f"put right in it: {changed}"] if changed else []) + transfer_notes(store.correspondence(added)):
            typer.echo(f"note: {note}")
        typer.echo(f"use: {command_of(added)} SCAN --model {added}+d")


@models_app.command("remove")
def models_remove(name: Annotated[str, typer.Argument(help="Name of an added model: see lvdreg models list.")]) -> None:
    """Remove a model that was added."""
    with plain_errors():
        from lvdreg.body import store

        store.remove(name)
        typer.echo(f"removed {name}")


@models_app.command("where")
def models_where() -> None:
    """Print the folder of the added models; the environment variable LVDREG_MODELS sets another."""
    with plain_errors():
        from lvdreg.body.store import models_dir

        typer.echo(models_dir())
