"""``lvdreg sequence``."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from lvdreg.cli.batch import check_out
from lvdreg.cli.config import chosen_settings
from lvdreg.cli.options import (
    BoneNames,
    ConfigOption,
    Device,
    DeviceOption,
    ModelOption,
    QualityOption,
    SeedOption,
    Sex,
    Unit,
    Up,
)
from lvdreg.cli.status import plain_errors

KEPT = "frames"
"""Folder beside the results in which what is found of each frame is kept."""


def sequence(
    scans: Annotated[
        list[str],
        typer.Argument(metavar="DIR|GLOB", help="The frames in order of their names: a folder, a pattern, or files."),
    ],
    fps: Annotated[float, typer.Option(help="Frames a second.")] = 30.0,
    frames: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Only these, counted from 1; all if not given.")
    ] = None,
    model: ModelOption = "anny",
    unit: Annotated[Unit, typer.Option(help="Unit of the scans.")] = Unit.AUTO,
    up: Annotated[Up, typer.Option(help="Axis of the scans that points up.")] = Up.AUTO,
    height: Annotated[
        float | None, typer.Option(metavar="METRES", help="Height of the person; found if not given.")
    ] = None,
    sex: Annotated[Sex | None, typer.Option(help="Of the person: which shapes are likely.")] = None,
    age: Annotated[float | None, typer.Option(metavar="YEARS", help="Of the person: which shapes are likely.")] = None,
    camera: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="What took depth images: a JSON file, or a camera's name.")
    ] = None,
    bones: Annotated[BoneNames, typer.Option(help="Whose names the joints get.")] = BoneNames.SMPL,
    resume: Annotated[bool, typer.Option(help="Go on where an earlier run into the folder was stopped.")] = True,
    quality: QualityOption = None,
    config: ConfigOption = None,
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("out/sequence"),
) -> None:
    """Register scans of one moving person: one shape, smooth poses, an animated model, BVH, and a film strip."""
    with plain_errors("frames that were found are kept, and the same command goes on from there"):
        from lvdreg.batch import expand_inputs
        from lvdreg.cli.console import worked
        from lvdreg.cli.doctor import check_device, check_model
        from lvdreg.export.motion import write_motion
        from lvdreg.pipeline.sequence import register_sequence

        check_out(out)
        check_model(model)
        given: dict[str, Any] = {"model": model, "unit": unit.value, "up": up.value, "seed": seed}
        given |= {"height": height, "sex": sex and sex.value, "age": age, "device": check_device(device.value)}
        given |= {"camera": camera, "frames": parse_frames(frames), "keep": out / KEPT if resume else None}
        settings = chosen_settings("register", config, quality)
        with worked("sequence") as progress:
            motion = register_sequence(expand_inputs(scans), fps=fps, settings=settings, progress=progress, **given)
            progress("write")
            paths = write_motion(motion, out, bones.value)
        for path in paths:
            typer.echo(str(path))
        lost = motion.how.count("filled")
        if lost:
            typer.echo(f"note: {lost} of {len(motion.how)} frames show nobody, and were filled in", err=True)


def parse_frames(words: str | None) -> tuple[int, int] | None:
    """Read FIRST-LAST.

    Raises:
        UsageError: it is none.
    """
    from lvdreg.base.errors import UsageError

    if words is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", words)
    if found is None:
        raise UsageError(f"--frames: expected FIRST-LAST, as 1-30, got {words}")
    return int(found[1]), int(found[2])
