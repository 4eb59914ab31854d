"""The command line: thin, and light until a command runs (``lvdreg --help`` imports neither torch nor scipy)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lvdreg.errors import LvdregError, UsageError
from lvdreg.text import one_line

if TYPE_CHECKING:
    from lvdreg.config import TrainConfig
    from lvdreg.registration import Registration
    from lvdreg.table import Table

FAILED, WRONG_USAGE, NOT_GOOD, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    help="Register 3D scans of people and hands to body models by Learned Vertex Descent.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train a network anew.", no_args_is_help=True)
evaluate_app = typer.Typer(help="Measure registrations where the truth is known.", no_args_is_help=True)
models_app = typer.Typer(help="List the models that --model takes, add licensed ones, remove them.")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(models_app, name="models")


class Unit(StrEnum):
    """Units a scan may be in; see normalise.py."""

    AUTO = "auto"
    MM = "mm"
    CM = "cm"
    DM = "dm"
    M = "m"
    INCH = "inch"
    NONE = "none"


class Up(StrEnum):
    """Axes of a scan that may point up; see normalise.py."""

    AUTO = "auto"
    PLUS_X = "+x"
    MINUS_X = "-x"
    PLUS_Y = "+y"
    MINUS_Y = "-y"
    PLUS_Z = "+z"
    MINUS_Z = "-z"


class Side(StrEnum):
    """Hands a scan may show."""

    AUTO = "auto"
    LEFT = "left"
    RIGHT = "right"


class Kind(StrEnum):
    """What is registered."""

    BODY = "body"
    HAND = "hand"


class Device(StrEnum):
    """Where to compute."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


ScansArgument = Annotated[
    list[str], typer.Argument(metavar="SCAN", help="Scan files, folders of scans, or patterns like 'in/*.ply'.")
]
ModelOption = Annotated[
    str, typer.Option(help="Model to register, with +d to follow the surface of the scan too: see lvdreg models.")
]
OutOption = Annotated[Path, typer.Option(help="Folder for the results, one folder each.")]
UnitOption = Annotated[Unit, typer.Option(help="Unit of the scans; none: their size means nothing.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with status 3 if a verdict is not good.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU where there is one.")]
SeedOption = Annotated[int, typer.Option(help="Equal seeds give equal results.")]
STATUSES = (
    "Exit status: 0 all registered, 1 some scan could not be registered, 2 wrong usage, 3 with --strict when a verdict "
    "is not good."
)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn expected errors into one line and an exit status; anything else is a fault and keeps its traceback."""
    try:
        yield
    except UsageError as error:
        stop(str(error), WRONG_USAGE)
    except (LvdregError, OSError) as error:
        stop(str(error), FAILED)
    except KeyboardInterrupt:
        stop("interrupted; what was written so far is complete", INTERRUPTED)


def stop(message: str, status: int) -> NoReturn:
    """Say why in one line on standard error and leave with a status."""
    typer.echo(f"lvdreg: {one_line(message)}", err=True)
    raise typer.Exit(status)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from lvdreg import __version__

        typer.echo(f"lvdreg {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Register 3D scans of people and hands to body models by Learned Vertex Descent."""


@app.command(epilog=STATUSES)
def register(
    scans: ScansArgument,
    model: ModelOption = "anny",
    out: OutOption = Path("out"),
    unit: UnitOption = Unit.AUTO,
    up: Annotated[Up, typer.Option(help="Axis of the scans that points up.")] = Up.AUTO,
    device: DeviceOption = Device.CPU,
    strict: StrictOption = False,
    seed: SeedOption = 0,
) -> None:
    """Register scans of people: fit a body model to each and write meshes, parameters, report and preview."""
    options = {"model": model, "unit": unit.value, "up": up.value, "device": device.value, "seed": seed}
    register_scans(Kind.BODY, scans, out, strict, options)


@app.command(epilog=STATUSES)
def hands(
    scans: ScansArgument,
    model: ModelOption = "anny-hand",
    out: OutOption = Path("out"),
    unit: UnitOption = Unit.AUTO,
    side: Annotated[Side, typer.Option(help="Which hand the scans show.")] = Side.AUTO,
    device: DeviceOption = Device.CPU,
    strict: StrictOption = False,
    seed: SeedOption = 0,
) -> None:
    """Register scans of single hands: fit a hand model to each and write meshes, parameters, report and preview."""
    options = {"model": model, "unit": unit.value, "side": side.value, "device": device.value, "seed": seed}
    register_scans(Kind.HAND, scans, out, strict, options)


def register_scans(kind: Kind, scans: list[str], out: Path, strict: bool, options: dict[str, Any]) -> None:
    """Register scans, show how it goes, and leave with the status that says how it went; see ``STATUSES``."""
    with plain_errors():
        from lvdreg.batch import expand_inputs, register_many
        from lvdreg.console import Progress, print_summary
        from lvdreg.doctor import check_device, check_model

        if out.exists() and not out.is_dir():
            raise UsageError(f"--out: expected a folder, got the file {out}")
        check_model(options["model"], hands=kind is Kind.HAND)
        options = {**options, "device": check_device(options["device"])}
        with Progress() as progress:
            sources = expand_inputs(scans)
            outcomes = register_many(sources, out, register=registrar(kind), listener=progress, **options)
        print_summary(outcomes, out)
        if not all(outcome.registered for outcome in outcomes):
            raise typer.Exit(FAILED)
        if strict and any(outcome.verdict != "good" for outcome in outcomes):
            raise typer.Exit(NOT_GOOD)


def registrar(kind: Kind) -> "Callable[..., Registration]":
    """Return the function that registers one scan."""
    if kind is Kind.HAND:
        from lvdreg.register import register_hand

        return register_hand
    from lvdreg.register import register

    return register


@app.command()
def doctor() -> None:
    """Say what is installed and which bodies, weights and examples are found; status 1 if registering cannot work."""
    with plain_errors():
        from lvdreg.console import print_checks
        from lvdreg.doctor import diagnose

        checks = diagnose()
        print_checks(checks)
        if not all(check.ok for check in checks):
            raise typer.Exit(FAILED)


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the models that --model takes, add licensed ones, remove them; alone the same as lvdreg models list."""
    if context.invoked_subcommand is None:
        models_list()


@models_app.command("list")
def models_list() -> None:
    """List the models that --model takes: the free ones, then those that were added."""
    with plain_errors():
        from lvdreg.doctor import describe_model, model_names

        for name in model_names():
            typer.echo(f"{name:12} {describe_model(name)}")


@models_app.command("add")
def models_add(
    file: Annotated[Path, typer.Argument(help="Model file as downloaded: SMPL, SMPL-H, SMPL-X or MANO; pkl or npz.")],
    name: Annotated[str | None, typer.Option(help="What to call it; by its kind if not given.")] = None,
    betas: Annotated[int | None, typer.Option(min=1, help="Shape directions to keep; 10 of more than 16.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of that name.")] = False,
) -> None:
    """Read a licensed model and find how it corresponds to the free one, so that the shipped network serves it too.

    Takes about half a minute, once. Pickles are read without running anything in them; the file itself is not kept.
    """
    with plain_errors():
        from lvdreg.body import store
        from lvdreg.body.transfer import doubts
        from lvdreg.console import worked
        from lvdreg.doctor import command_of, describe_transfer
        from lvdreg.register import correspond

        with worked(file.name) as progress:
            added = store.add(file, name, correspond=correspond, replace=replace, num_betas=betas, progress=progress)
        typer.echo(f"added {added}: {describe_transfer(added)}")
        changed = store.load(added).provenance.get("changed")
        for note in ([f"put right in it: {changed}"] if changed else []) + doubts(store.correspondence(added)):
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


@app.command()
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


StepsOption = Annotated[int | None, typer.Option(min=1, help="Steps in all; the default is that of TrainConfig.")]
CooldownOption = Annotated[
    int | None, typer.Option(min=0, help="Last steps, over which the rate falls; the default is a quarter.")
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Samples a step.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue what lies in --out.")]
StartOption = Annotated[Path | None, typer.Option(help="Begin from these weights.", exists=True, dir_okay=False)]
RunOption = Annotated[Path, typer.Option(help="Folder for weights, and the state to resume from.")]


@train_app.command("voxel")
def train_voxel(
    out: RunOption = Path("runs/voxel"),
    steps: StepsOption = None,
    cooldown: CooldownOption = None,
    batch: BatchOption = None,
    body: Annotated[str, typer.Option(help="Body whose vertices are predicted.")] = "anny",
    resume: ResumeOption = False,
    start: StartOption = None,
    device: DeviceOption = Device.AUTO,
    seed: SeedOption = 0,
) -> None:
    """Train the voxel network of a body or a hand on endless synthetic scans."""
    with plain_errors():
        from lvdreg.train.plans import voxel_plan
        from lvdreg.train.voxel import train_voxel as run

        loop = {"steps": steps, "cooldown": cooldown, "batch": batch, "seed": seed}
        train(run, voxel_plan(body), loop, out, device, resume, start)


@train_app.command("compass")
def train_compass(
    out: RunOption = Path("runs/compass"),
    steps: StepsOption = None,
    cooldown: CooldownOption = None,
    batch: BatchOption = None,
    body: Annotated[str, typer.Option(help="Hand that is to be found.")] = "anny-hand",
    resume: ResumeOption = False,
    start: StartOption = None,
    device: DeviceOption = Device.AUTO,
    seed: SeedOption = 0,
) -> None:
    """Train the compass, which finds a hand in a cloud, on endless synthetic scans."""
    with plain_errors():
        from lvdreg.train.compass import train_compass as run
        from lvdreg.train.plans import compass_plan

        loop = {"steps": steps, "cooldown": cooldown, "batch": batch, "seed": seed}
        train(run, compass_plan(body), loop, out, device, resume, start)


def train(
    run: Callable[..., Path],
    plan: tuple[Any, "TrainConfig"],
    loop: dict[str, int | None],
    out: Path,
    device: Device,
    resume: bool,
    start: Path | None,
) -> None:
    """Train what a plan says, with what the user wants otherwise, and print where the weights are."""
    from dataclasses import replace

    from lvdreg.console import TrainingProgress
    from lvdreg.doctor import check_device

    if resume and start is not None:
        raise UsageError("--resume continues from --out, --start from other weights: give one of them")
    if loop["cooldown"] is None and loop["steps"] is not None:
        loop["cooldown"] = loop["steps"] // 4
    net_config, config = plan
    config = replace(config, **{name: value for name, value in loop.items() if value is not None})
    with TrainingProgress(config.steps) as progress:
        options: dict[str, Any] = {"resume": resume, "start": start, "report": progress}
        typer.echo(run(out, net_config, config, device=check_device(device.value), **options))


@evaluate_app.command("faust")
def evaluate_faust(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds scan/NNN.ply and registration/NNN.ply.")],
    model: ModelOption = "anny+d",
    limit: Annotated[int | None, typer.Option(min=2, help="Take only so many scans.")] = None,
    out: Annotated[Path, typer.Option(help="Where results are kept; run again to go on.")] = Path("out/faust"),
    baseline: Annotated[bool, typer.Option(help="Also run the fit without correspondences.")] = True,
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
) -> None:
    """Measure correspondence and surface distance on FAUST scans (bring your own copy)."""
    with plain_errors():
        from lvdreg.console import counted
        from lvdreg.doctor import check_device, check_model
        from lvdreg.evaluate import evaluate_faust as run

        settings = {"device": check_device(device.value), "seed": seed}
        with counted() as progress:
            table = run(folder, check_model(model), limit, out, with_baseline=baseline, progress=progress, **settings)
        keep(table, out)


@evaluate_app.command("synthetic")
def evaluate_synthetic(
    num: Annotated[int, typer.Option(min=1, help="So many fresh scans.")] = 200,
    model: ModelOption = "anny+d",
    out: Annotated[Path, typer.Option(help="Where results are kept; run again to go on.")] = Path("out/synthetic"),
    baseline: Annotated[bool, typer.Option(help="Also run the fit without correspondences.")] = True,
    device: DeviceOption = Device.CPU,
    seed: Annotated[int, typer.Option(help="Which set of scans.")] = 0,
) -> None:
    """Measure errors and uncertainty on clothed, noisy synthetic scans whose true bodies are known."""
    with plain_errors():
        from lvdreg.console import counted
        from lvdreg.doctor import check_device, check_model
        from lvdreg.evaluate import evaluate_synthetic as run

        settings = {"device": check_device(device.value)}
        check_model(model)
        with counted() as progress:
            table = run(num, seed, model, out, with_baseline=baseline, progress=progress, **settings)
        keep(table, out)


class Views(StrEnum):
    """What of a hand synthetic scans show."""

    COMPLETE = "complete"
    ONE_SIDED = "one-sided"
    MIXED = "mixed"


@evaluate_app.command("hands")
def evaluate_hands(
    num: Annotated[int, typer.Option(min=1, help="So many fresh scans.")] = 200,
    views: Annotated[Views, typer.Option(help="Whole surfaces, depth views from one side, or both.")] = Views.COMPLETE,
    model: ModelOption = "anny-hand+d",
    out: Annotated[Path, typer.Option(help="Where results are kept; run again to go on.")] = Path("out/hands"),
    baseline: Annotated[bool, typer.Option(help="Also run the fit without correspondences.")] = False,
    device: DeviceOption = Device.CPU,
    seed: Annotated[int, typer.Option(help="Which set of scans.")] = 0,
) -> None:
    """Measure errors, sides and uncertainty on synthetic scans of hands, half of them left, half with an object."""
    with plain_errors():
        from lvdreg.console import counted
        from lvdreg.doctor import check_device, check_model
        from lvdreg.evaluate import evaluate_hands as run

        settings = {"device": check_device(device.value)}
        check_model(model, hands=True)
        with counted() as progress:
            table = run(num, views.value, seed, model, out, with_baseline=baseline, progress=progress, **settings)
        keep(table, out)


@evaluate_app.command("rigged")
def evaluate_rigged(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Rigged hands (.glb) with WebXR's joint names.")],
    model: ModelOption = "anny-hand",
    out: Annotated[Path, typer.Option(help="Where results are kept; run again to go on.")] = Path("out/rigged"),
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
) -> None:
    """Measure sides and joints on hands that others modelled and rigged."""
    with plain_errors():
        from lvdreg.console import counted
        from lvdreg.doctor import check_device, check_model
        from lvdreg.evaluate import evaluate_rigged as run

        settings = {"device": check_device(device.value), "seed": seed}
        with counted() as progress:
            table = run(files, check_model(model, hands=True), out, progress=progress, **settings)
        keep(table, out)


def keep(table: "Table", out: Path) -> None:
    """Print a table and keep it beside its results."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.json").write_text(table.to_json(), encoding="utf-8")
    typer.echo(table.render())
