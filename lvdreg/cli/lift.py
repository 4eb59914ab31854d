"""``lvdreg lift``."""

from pathlib import Path
from typing import Annotated

import typer

from lvdreg.cli.batch import check_out
from lvdreg.cli.options import Device, DeviceOption
from lvdreg.cli.status import FAILED, plain_errors

EPILOG = "Interrupted or killed, the same command goes on where it was. docs/dataset.md says what is in the set."


def lift(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset, or a folder of photos.")],
    out: Annotated[Path, typer.Option(help="Folder for the set of bodies.")],
    keypoints: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keypoints of photos by OpenPose or COCO (JSON), or a folder of such files."),
    ] = None,
    max_error: Annotated[
        float, typer.Option(min=0, help="Leave out who misses the keypoints by more, pixels of a crop of 256.")
    ] = 8.0,
    device: DeviceOption = Device.CPU,
) -> None:
    """Find bodies for pictures of which only keypoints are known, and write them as a training set."""
    with plain_errors("what is complete is kept, and the same command goes on from there"):
        check_out(out)
        from lvdreg.augment.lift import Limits
        from lvdreg.augment.lift import lift as run
        from lvdreg.cli.console import generated
        from lvdreg.cli.doctor import check_device

        with generated("pictures") as progress:
            limits = Limits(max_error=max_error)
            found = run(dataset, out, keypoints, limits=limits, device=check_device(device.value), progress=progress)
        kept, lost = found["counts"]["images"], found["versions_given_up"]
        reasons = ", ".join(f"{count} {reason}" for reason, count in lost.items()) or "none"
        typer.echo(f"{kept} bodies of {found['counts']['versions_planned']} pictures; left out: {reasons}")
        typer.echo(f"dataset in {out}; look at {out / 'preview.png'}")
        if not kept:
            raise typer.Exit(FAILED)
