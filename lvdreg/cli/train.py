"""``lvdreg train``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lvdreg.base.errors import UsageError
from lvdreg.cli.options import Device, DeviceOption, SeedOption, TrainedMethod, unfolded
from lvdreg.cli.status import plain_errors

if TYPE_CHECKING:
    from lvdreg.train.run import TrainConfig

train_app = typer.Typer(help="Train a network anew.", no_args_is_help=True)
RunOption = Annotated[Path, typer.Option(help="Folder for weights, and the state to resume from.")]

DataOption = Annotated[
    Path | None, typer.Option(help="Train on this dataset of `lvdreg augment`, not on the endless stream.")
]


@dataclass(frozen=True)
class Loop:
    """What the training of every network has in common."""

    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all; the default is that of TrainConfig.")] = None
    cooldown: Annotated[
        int | None, typer.Option(min=0, help="Last steps, over which the rate falls; the default is a quarter.")
    ] = None
    batch: Annotated[int | None, typer.Option(min=1, help="Samples a step.")] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue what lies in --out.")] = False
    start: Annotated[Path | None, typer.Option(metavar="FILE", help="Begin from these weights.")] = None
    device: DeviceOption = Device.AUTO
    seed: SeedOption = 0

    def applied(self, config: "TrainConfig") -> "TrainConfig":
        """Return the settings of the loop with what the user wants otherwise."""
        from dataclasses import replace

        cooldown = self.steps // 4 if self.cooldown is None and self.steps is not None else self.cooldown
        wanted: dict[str, Any] = {"steps": self.steps, "cooldown": cooldown, "batch": self.batch, "seed": self.seed}
        return replace(config, **{name: value for name, value in wanted.items() if value is not None})


@train_app.command("voxel")
@unfolded
def train_voxel(
    *,
    out: RunOption = Path("runs/voxel"),
    body: Annotated[str, typer.Option(help="Body whose vertices are predicted.")] = "anny",
    data: DataOption = None,
    loop: Loop,
) -> None:
    """Train the voxel network of a body or a hand on endless synthetic scans, or on those of a dataset."""
    with plain_errors():
        from lvdreg.train.dataset_scans import DatasetScans
        from lvdreg.train.plans import voxel_plan
        from lvdreg.train.voxel import train_voxel as run

        source = None if data is None else DatasetScans(data, body)
        train(run, voxel_plan(body), loop, out, source=source)


@train_app.command("hand-detector")
@train_app.command("compass", hidden=True, deprecated=True)
@unfolded
def train_hand_detector(
    *,
    out: RunOption = Path("runs/hand-detector"),
    body: Annotated[str, typer.Option(help="Hand that is to be found.")] = "anny-hand",
    loop: Loop,
) -> None:
    """Train the hand detector, which finds a hand in a cloud, on endless synthetic scans."""
    with plain_errors():
        from lvdreg.train.hand_detector import train_hand_detector as run
        from lvdreg.train.plans import hand_detector_plan

        train(run, hand_detector_plan(body), loop, out)


@train_app.command("image")
@unfolded
def train_image(
    *,
    out: RunOption = Path("runs/image"),
    body: Annotated[str, typer.Option(help="Body whose vertices are predicted.")] = "anny",
    method: Annotated[
        TrainedMethod, typer.Option(help="Whose network: that of learned vertex descent, SPIN's regressor or PyMAF's.")
    ] = TrainedMethod.LVD,
    data: DataOption = None,
    hidden: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of photos whose truth --method spin replaces by fits to keypoints."),
    ] = 0.0,
    photos: Annotated[
        int, typer.Option(min=8, help="With --hidden: so many photos are kept in memory, with the best fit of each.")
    ] = 2_000,
    loop: Loop,
) -> None:
    """Train a network that sees photos of a body, on endless synthetic ones or on a rendered dataset."""
    with plain_errors():
        from lvdreg.train.dataset_photos import DatasetPhotos
        from lvdreg.train.image import train_image as by_descent
        from lvdreg.train.plans import image_plan, pymaf_plan, spin_plan
        from lvdreg.train.pymaf import train_pymaf
        from lvdreg.train.spin import train_spin

        if hidden and method is not TrainedMethod.SPIN:
            raise UsageError(
                f"--hidden: expected it with --method spin, got {method.value}, which learns from the truth"
            )
        source = None if data is None else DatasetPhotos(data, body, image_plan(body)[0].image.size)
        if hidden:
            from lvdreg.train.spin_loop import SPINConfig, train_spin_loop

            count = photos if source is None else min(photos, len(source.dataset))
            wanted: dict[str, Any] = {"photos": count, "spin": SPINConfig(hidden)}
            train(train_spin_loop, spin_plan(body), loop, out, source=source, **wanted)
        elif method is TrainedMethod.SPIN:
            train(train_spin, spin_plan(body), loop, out, source=source)
        elif method is TrainedMethod.PYMAF:
            train(train_pymaf, pymaf_plan(body), loop, out, source=source)
        else:
            train(by_descent, image_plan(body), loop, out, source=source)


def train(run: Callable[..., Path], plan: "tuple[Any, TrainConfig]", loop: Loop, out: Path, **options: Any) -> None:
    """Train what a plan says, with what the user wants otherwise, and print where the weights are.

    Args:
        run: Trains a network: folder, sizes, settings of the loop, then the options of ``train.run.train``.
        plan: Sizes and settings; see ``train.plans``.
        loop: What the user wants otherwise.
        out: Folder for the weights.
        options: More for ``run``.
    """
    from lvdreg.cli.console import trained
    from lvdreg.cli.doctor import check_device

    if loop.resume and loop.start is not None:
        raise UsageError("--resume continues from --out, --start from other weights: give one of them")
    net_config, config = plan[0], loop.applied(plan[1])
    device = check_device(loop.device.value)
    begin: dict[str, Any] = {"resume": loop.resume, "start": loop.start}
    with trained(config.steps) as progress:
        typer.echo(run(out, net_config, config, device=device, report=progress, **begin, **options))
