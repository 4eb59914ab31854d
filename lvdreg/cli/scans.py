"""``lvdreg register`` and ``lvdreg hands``."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lvdreg.base.errors import UsageError
from lvdreg.base.text import shown
from lvdreg.cli.batch import Batch, check_out, limits_of, register_all
from lvdreg.cli.config import chosen_settings
from lvdreg.cli.options import (
    ConfigOption,
    Device,
    DeviceOption,
    ExampleKind,
    ExportOption,
    MaxSigmaOption,
    ModelOption,
    OutOption,
    Posture,
    QualityOption,
    ReportOption,
    ResumeOption,
    ScansArgument,
    SeedOption,
    Sex,
    Side,
    Unit,
    Up,
    WorkersOption,
    unfolded,
)
from lvdreg.cli.status import plain_errors

if TYPE_CHECKING:
    from lvdreg.batch import Result

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
    max_sigma: MaxSigmaOption = None
    max_distance: Annotated[
        float | None, typer.Option(metavar="MM", help="Good is what lies no further from the scan, on average.")
    ] = None
    seed: SeedOption = 0
    resume: ResumeOption = False
    workers: WorkersOption = 1
    export: ExportOption = None
    camera: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="What took the depth images: a JSON file, or a name as kinect-azure."),
    ] = None
    report: ReportOption = False


@dataclass(frozen=True)
class Known:
    """What the user may know of the people in scans."""

    height: Annotated[
        float | None, typer.Option(metavar="METRES", help="Height of the person; found if not given.")
    ] = None
    sex: Annotated[Sex | None, typer.Option(help="Of the person: which shapes are likely.")] = None
    age: Annotated[float | None, typer.Option(metavar="YEARS", help="Of the person: which shapes are likely.")] = None
    pose: Annotated[Posture | None, typer.Option(help="The person stands in a T-pose or an A-pose.")] = None
    keypoints: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Places of joints by name (JSON), or a folder of such files."),
    ] = None
    floor: Annotated[bool, typer.Option("--floor", help="The person stands on a floor: no foot goes below it.")] = False
    same_person: Annotated[
        bool, typer.Option("--same-person", help="The scans show one person: all get the same shape.")
    ] = False
    people: Annotated[
        str, typer.Option(metavar="N|all", help="People in each scan: 1, so many, or all that are seen.")
    ] = "1"


@unfolded
def register(
    scans: ScansArgument,
    *,
    model: ModelOption = "anny",
    up: Annotated[Up, typer.Option(help="Axis of the scans that points up.")] = Up.AUTO,
    known: Known,
    run: Run,
) -> None:
    """Register scans of people: fit a body model to each and write meshes, parameters, report and preview."""
    told = {field.name: getattr(known, field.name) for field in fields(known)}
    told |= {name: told[name] and told[name].value for name in ("sex", "pose")}
    same_person, people = told.pop("same_person"), told.pop("people")
    if people != "1":
        told = told_of_all(told, same_person, people)
    register_scans(ExampleKind.BODY, scans, run, same_person, model=model, up=up.value, **told)


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


def register_scans(kind: ExampleKind, scans: list[str], run: Run, same_person: bool = False, **options: Any) -> None:
    """Register scans, show how it goes, and leave with the status that says how it went; see ``STATUSES``."""
    with plain_errors():
        from lvdreg.batch import expand_inputs
        from lvdreg.cli.doctor import check_device, check_model

        check_out(run.out)
        check_model(options["model"], hands=kind is ExampleKind.HAND)
        settings = chosen_settings(
            "hands" if kind is ExampleKind.HAND else "register",
            run.config,
            run.quality,
            max_sigma_mm=run.max_sigma,
            max_distance_mm=run.max_distance,
        )
        asked = {**options, "unit": run.unit.value, "device": check_device(run.device.value), "seed": run.seed}
        asked |= {"camera": run.camera}
        sources = expand_inputs(scans)
        if same_person:
            check_together(len(sources), run.workers)
            asked |= {"together": [str(source) for source in sources]}
        check_keypoints(options.get("keypoints"), len(sources))
        how: Batch = {
            "resume": run.resume,
            "strict": run.strict,
            "workers": run.workers,
            "exports": run.export or (),
            "report": run.report,
            "limits": limits_of(scans, len(sources), same_person),
        }
        what = registrar(kind, same_person, several="people" in asked)
        register_all(sources, run.out, what, settings=settings, **how, **asked)


def told_of_all(told: dict[str, Any], same_person: bool, people: str) -> dict[str, Any]:
    """Return what is told of all people in a scan, and how many ``--people`` says that there are; None: all."""
    with plain_errors():
        from lvdreg.pipeline.arguments import MOST_PEOPLE, OF_ONE

        if people != "all" and not (people.isascii() and people.isdigit() and 1 < int(people[:9]) <= MOST_PEOPLE):
            raise UsageError(f"--people: expected all, or a number from 1 to {MOST_PEOPLE}, got {shown(people)}")
        of_one = [name for name in OF_ONE if told[name] is not None] + ["same-person"] * same_person
        if of_one:
            raise UsageError(f"--people: expected it without --{of_one[0]}, got both: that is of one person")
    number = None if people == "all" else int(people)
    return {name: value for name, value in told.items() if name not in OF_ONE} | {"people": number}


def check_together(count: int, workers: int) -> None:
    """Refuse what scans of one person cannot be.

    Raises:
        UsageError: says what.
    """
    from lvdreg.pipeline.arguments import check_num_scans

    check_num_scans(count)
    if workers > 1:
        raise UsageError("--workers: scans of one person are registered together: leave it out")


def check_keypoints(keypoints: str | None, count: int) -> None:
    """Refuse one file of keypoints for several scans.

    Raises:
        UsageError: says what it may be.
    """
    if keypoints is not None and count > 1 and not Path(keypoints).expanduser().is_dir():
        raise UsageError(f"--keypoints: expected a folder of files NAME.json for {count} scans; got {keypoints}")


def registrar(kind: ExampleKind, together: bool = False, several: bool = False) -> "Callable[..., Result]":
    """Return the function that registers one scan, everybody in it, or the scans of one person."""
    if several:
        from lvdreg.pipeline.people import register_group

        return register_group
    if together:
        from lvdreg.batch import Together
        from lvdreg.pipeline.scans import register_scans as register_together

        return Together(register_together)
    if kind is ExampleKind.HAND:
        from lvdreg.pipeline.scan import register_hand

        return register_hand
    from lvdreg.pipeline.scan import register

    return register
