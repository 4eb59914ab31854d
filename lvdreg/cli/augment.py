"""``lvdreg augment``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lvdreg.base.errors import UsageError
from lvdreg.cli.batch import check_out
from lvdreg.cli.options import Device, DeviceOption, SeedOption, unfolded
from lvdreg.cli.status import FAILED, plain_errors

if TYPE_CHECKING:
    from lvdreg.augment.plan import Asked, Plan

EPILOG = (
    "Interrupted or killed, the same command goes on where it was; what comes out depends neither on that nor on "
    "--workers. docs/dataset.md says what is in it."
)


@dataclass(frozen=True)
class Wanted:
    """What the dataset should hold; see ``augment.plan.Asked``."""

    characters: Annotated[int, typer.Option(min=0, help="So many synthetic people, with scans or without.")] = 0
    poses: Annotated[int, typer.Option(min=1, help="Poses of each person; the first is their own.")] = 1
    shapes: Annotated[int, typer.Option(min=1, help="Shapes of each; the first is their own.")] = 1
    views: Annotated[int, typer.Option(min=1, help="Cameras around each pose and shape.")] = 4
    lights: Annotated[int, typer.Option(min=1, help="Pictures from each camera, lit differently.")] = 1
    size: Annotated[int, typer.Option(min=1, help="Width and height of the pictures, pixels.")] = 256
    channels: Annotated[
        str, typer.Option(help="What is kept of them: some of image,mask,depth,normals,parts,rest,scan.")
    ] = "image,mask,depth,normals,parts"
    sensor: Annotated[
        str | None, typer.Option(help="Scan each pose and shape, too: mixed, closed, ring, fused or single.")
    ] = None
    points: Annotated[int, typer.Option(min=1, help="Points of such a scan.")] = 8_000
    device: DeviceOption = Device.CPU
    seed: SeedOption = 0

    def asked(self) -> "Asked":
        """Return the same as the library takes it."""
        from lvdreg.augment.plan import Asked
        from lvdreg.cli.doctor import check_device

        kept = [word.strip() for word in self.channels.split(",") if word.strip()]
        kept += ["scan"] if self.sensor is not None and "scan" not in kept else []
        changed = {
            "channels": tuple(dict.fromkeys(kept)),
            "sensor": self.sensor or "mixed",
            "device": check_device(self.device.value),
        }
        return Asked(**{**asdict(self), **changed})


@unfolded
def augment(
    scans: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCAN", help="Registered scans: files, folders, or patterns like 'in/*.ply'."),
    ] = None,
    *,
    registrations: Annotated[Path | None, typer.Option(help="What lvdreg register --out left for the scans.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the dataset.")] = None,
    wanted: Wanted,
    body: Annotated[str, typer.Option(help="Body of synthetic people; scans bring their own.")] = "anny",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core if not given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it costs; only a small part is made.")] = False,
    preview: Annotated[Path | None, typer.Option(help="Draw the contact sheet of this dataset, and no more.")] = None,
) -> None:
    """Make a training set: people in new poses and shapes, photographed from all around, with all that is known."""
    with plain_errors("what is complete is kept, and the same command goes on from there"):
        if preview is not None:
            from lvdreg.augment.sheet import write_sheet

            typer.echo(write_sheet(preview))
            return
        if out is None and not dry_run:
            raise UsageError("--out: expected a folder for the dataset, got none")
        if out is not None:
            check_out(out)
        from lvdreg.augment.lookup import plan_of

        plan = plan_of(wanted.asked(), scans or [], registrations, body)
        for name, reason in plan.left_out.items():
            typer.echo(f"{name}: left out: {reason}", err=True)
        if dry_run or out is None:
            say_costs(plan, workers)
        else:
            make(plan, out, workers)


def say_costs(plan: "Plan", workers: int | None) -> None:
    """Print what a dataset would cost."""
    import os

    from lvdreg.augment.estimate import estimate

    for line in estimate(plan, workers or os.cpu_count() or 1).lines():
        typer.echo(line)


def make(plan: "Plan", out: Path, workers: int | None) -> None:
    """Make a dataset, show how it goes, and say what came out; status 1 if that is nothing."""
    from lvdreg.augment.run import augment as run
    from lvdreg.cli.console import generated

    with generated("pictures") as progress:
        manifest = run(plan, out, workers, progress)
    for line in summary(manifest):
        typer.echo(line)
    typer.echo(f"dataset in {out}; look at {out / 'preview.png'}")
    if not manifest["counts"]["images"]:
        raise typer.Exit(FAILED)


def summary(manifest: dict[str, Any]) -> list[str]:
    """Say what a dataset holds, and what was rejected why."""
    counts, size = manifest["counts"], sum(shard["bytes"] for shard in manifest["shards"])
    lines = [
        f"{counts['images']} pictures of {counts['versions']} of {counts['versions_planned']} planned versions "
        f"({counts['scans']} scans, {counts['characters']} characters), {size / 2**20:.1f} MiB in "
        f"{len(manifest['shards'])} shards"
    ]
    for title, key in (("draws rejected", "draws_rejected"), ("versions given up", "versions_given_up")):
        reasons = ", ".join(f"{count} {reason}" for reason, count in manifest[key].items())
        lines.append(f"{title}: {reasons or 'none'}")
    return lines
