"""``lvdreg register`` and ``lvdreg hands``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lvdreg.cli.batch import Batch, check_out, register_all
from lvdreg.cli.config import chosen_settings
from lvdreg.cli.options import (
    ConfigOption,
    Device,
    DeviceOption,
    ExampleKind,
    ExportOption,
    ModelOption,
    OutOption,
    QualityOption,
    ResumeOption,
    ScansArgument,
    SeedOption,
    Side,
    Unit,
    Up,
    WorkersOption,
    unfolded,
)
from lvdreg.cli.status import plain_errors

if TYPE_CHECKING:
    from lvdreg.result.scan import Registration

STATUSES = (
    "Exit status: 0 all registered, 1 some scan could not be registered, 2 wrong usage, 3 with --strict when a verdict "
    "is not good."
)


@dataclass(frozen=True)
class Run:
    """What registering people and hands has in common."""

    out: OutOption = Path("out")
    unit: Annotated[Unit, typer.Option(help="Unit of the scans; none: their size means nothing.")] = Unit.AUTO
    quality: QualityOption = None
    config: ConfigOption = None
    device: DeviceOption = Device.CPU
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 if a verdict is not good.")] = False
    seed: SeedOption = 0
    resume: ResumeOption = False
    workers: WorkersOption = 1
    export: ExportOption = None


@unfolded
def register(
    scans: ScansArgument,
    *,
    model: ModelOption = "anny",
    up: Annotated[Up, typer.Option(help="Axis of the scans that points up.")] = Up.AUTO,
    run: Run,
) -> None:
    """Register scans of people: fit a body model to each and write meshes, parameters, report and preview."""
    register_scans(ExampleKind.BODY, scans, run, model=model, up=up.value)


@unfolded
def hands(
    scans: ScansArgument,
    *,
    model: ModelOption = "anny-hand",
    side: Annotated[Side, typer.Option(help="Which hand the scans show.")] = Side.AUTO,
    run: Run,
) -> None:
    """Register scans of single hands: fit a hand model to each and write meshes, parameters, report and preview."""
    register_scans(ExampleKind.HAND, scans, run, model=model, side=side.value)


def register_scans(kind: ExampleKind, scans: list[str], run: Run, **options: str) -> None:
    """Register scans, show how it goes, and leave with the status that says how it went; see ``STATUSES``."""
    with plain_errors():
        from lvdreg.batch import expand_inputs
        from lvdreg.cli.doctor import check_device, check_model

        check_out(run.out)
        check_model(options["model"], hands=kind is ExampleKind.HAND)
        settings = chosen_settings("hands" if kind is ExampleKind.HAND else "register", run.config, run.quality)
        asked = {**options, "unit": run.unit.value, "device": check_device(run.device.value), "seed": run.seed}
        sources = expand_inputs(scans)
        how: Batch = {"resume": run.resume, "strict": run.strict, "workers": run.workers, "exports": run.export or ()}
        register_all(sources, run.out, registrar(kind), settings=settings, **how, **asked)


def registrar(kind: ExampleKind) -> "Callable[..., Registration]":
    """Return the function that registers one scan."""
    if kind is ExampleKind.HAND:
        from lvdreg.pipeline.scan import register_hand

        return register_hand
    from lvdreg.pipeline.scan import register

    return register
