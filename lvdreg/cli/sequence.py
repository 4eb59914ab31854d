"""``lvdreg sequence``."""

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


def sequence(
    scans: Annotated[
        list[str],
        typer.Argument(metavar="DIR|GLOB", help="The frames in order of their names: a folder, a pattern, or files."),
    ],
    fps: Annotated[float, typer.Option(help="Frames a second.")] = 30.0,
    model: ModelOption = "anny",
    unit: Annotated[Unit, typer.Option(help="Unit of the scans.")] = Unit.AUTO,
    up: Annotated[Up, typer.Option(help="Axis of the scans that points up.")] = Up.AUTO,
    height: Annotated[
        float | None, typer.Option(metavar="METRES", help="Height of the person; found if not given.")
    ] = None,
    sex: Annotated[Sex | None, typer.Option(help="Of the person: which shapes are likely.")] = None,
    age: Annotated[float | None, typer.Option(metavar="YEARS", help="Of the person: which shapes are likely.")] = None,
    bones: Annotated[BoneNames, typer.Option(help="Whose names the joints get.")] = BoneNames.SMPL,
    quality: QualityOption = None,
    config: ConfigOption = None,
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("out/sequence"),
) -> None:
    """Register scans of one moving person: one shape, smooth poses, an animated model, BVH, and a film strip."""
    with plain_errors():
        from lvdreg.batch import expand_inputs
        from lvdreg.cli.doctor import check_device, check_model
        from lvdreg.export.motion import write_motion
        from lvdreg.pipeline.sequence import register_sequence

        check_out(out)
        check_model(model)
        given: dict[str, Any] = {"model": model.removesuffix("+d"), "unit": unit.value, "up": up.value, "seed": seed}
        given |= {"height": height, "sex": sex and sex.value, "age": age, "device": check_device(device.value)}
        settings = chosen_settings("register", config, quality)
        sources = expand_inputs(scans)
        motion = register_sequence(sources, fps=fps, settings=settings, **given)
        for path in write_motion(motion, out, bones.value):
            typer.echo(str(path))
        lost = motion.how.count("filled")
        if lost:
            typer.echo(f"note: {lost} of {len(motion.how)} frames show nobody, and were filled in", err=True)
