"""Train a network where nothing is installed but torch, numpy, jaxtyping and safetensors, as on a lent GPU.

    PYTHONPATH=. python scripts/train_bare.py image --minutes 50 --start assets/weights/image-anny.safetensors
    PYTHONPATH=. python scripts/train_bare.py image spin --minutes 9 --start image=assets/weights/image-anny.safetensors
    PYTHONPATH=. python scripts/train_bare.py next --minutes 180
    PYTHONPATH=. python scripts/train_bare.py voxel --steps 40000

Knows: image, spin, pymaf, voxel, hand (the voxel network of hands), hand-detector, and next: a larger image network,
from scratch. With --minutes it draws samples in bulk, finds its speed, lets the learning rate fall to zero as the time
runs out, validates, writes half-precision weights every minute, and is over in time; see docs/training.md. Several
networks on photos learn from the same ones, each in a folder of its own in --out. With --steps the plain loop of
``lvdreg train`` runs. Weights and the state to resume from lie in --out; where a state lies there, the run goes on, so
the same command may be given again.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lvdreg.base.errors import UsageError
from lvdreg.body.catalogue import load_body
from lvdreg.train import plans
from lvdreg.train.hand_detector import HandDetectorTrainer
from lvdreg.train.image import ImageTrainer
from lvdreg.train.photos import PhotoTrainer
from lvdreg.train.pymaf import PyMAFTrainer
from lvdreg.train.run import TrainConfig, Trainer, train
from lvdreg.train.spin import SPINTrainer
from lvdreg.train.timed import Pupil, train_together
from lvdreg.train.voxel import VoxelTrainer

Plan = Callable[[str], tuple[Any, TrainConfig]]


@dataclass(frozen=True)
class Network:
    """What one name of the command line stands for."""

    trainer: type[Trainer[Any]]
    plan: Plan
    body: str = "anny"


BATCH_ON_GPU = 128
"""A GPU takes as long for a step of so many samples as for one of few."""

NETWORKS = {
    "image": Network(ImageTrainer, plans.image_plan),
    "spin": Network(SPINTrainer, plans.spin_plan),
    "pymaf": Network(PyMAFTrainer, plans.pymaf_plan),
    "voxel": Network(VoxelTrainer, plans.voxel_plan),
    "hand": Network(VoxelTrainer, plans.voxel_plan, "anny-hand"),
    "hand-detector": Network(HandDetectorTrainer, plans.hand_detector_plan, "anny-hand"),
    "next": Network(ImageTrainer, plans.next_image_plan),
}


def say(progress: dict[str, float]) -> None:
    """Print what was measured."""
    print(", ".join(f"{name} {value:.5g}" for name, value in progress.items()), flush=True)


def seldom(progress: dict[str, float]) -> None:
    """Print every hundredth step, and what was measured."""
    if progress["step"] % 100 == 0 or len(progress) > 2:
        say(progress)


def made(
    network: Network, loop: TrainConfig, sizes: Any, device: torch.device, are_read: bool, beside: Trainer[Any] | None
) -> Trainer[Any]:
    """Build a trainer.

    Args:
        network: What to train.
        loop: The loop's settings.
        sizes: Of the network.
        device: Where to train.
        are_read: Whether weights will be read from a file: vertex codes need not be computed first then.
        beside: A trainer on photos of the same body, which draws them for both.
    """
    options: dict[str, Any] = {}
    if are_read and network.trainer in (ImageTrainer, VoxelTrainer):
        options["body"] = load_body(sizes.body)
        options["codes"] = torch.zeros(options["body"].num_vertices, sizes.field.rank)
    if isinstance(beside, PhotoTrainer):
        options |= {"body": beside.body, "source": beside.source}
    trainer = network.trainer(sizes, loop, device, **options)
    if isinstance(beside, PhotoTrainer) and isinstance(trainer, PhotoTrainer):
        trainer.unseen = beside.unseen
    return trainer


def by_network(given: Sequence[str], names: Sequence[str], what: str) -> dict[str, str]:
    """Return what is given as VALUE, for all networks, or as NAME=VALUE for one.

    Raises:
        UsageError: there is no such network here.
    """
    found: dict[str, str] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        if name and name not in names:
            raise UsageError(f"{what}: expected VALUE or NAME=VALUE with a name of {', '.join(names)}, got {text}")
        found |= dict.fromkeys([name] if name else names, value)
    return found


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", choices=NETWORKS, nargs="+", metavar="network")
    parser.add_argument("--body", help="anny, or anny-hand for hand and hand detector, unless said otherwise")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="what the whole run may take")
    length.add_argument("--steps", type=int)
    parser.add_argument("--cooldown", type=int, help="last steps, over which the rate falls; the default is a half")
    parser.add_argument("--batch", type=int, help="samples a step; on a GPU with --minutes 128 unless said otherwise")
    parser.add_argument("--bulk", type=int, help="samples drawn at once, with --minutes; 1024, on a CPU 32")
    parser.add_argument("--rate", default=[], nargs="+", help="peak learning rate, or NETWORK=RATE")
    parser.add_argument("--start", default=[], nargs="+", help="weights to begin from, or NETWORK=FILE")
    parser.add_argument("--seed", type=int, default=0, help="of samples and of networks that begin from scratch")
    parser.add_argument("--out", type=Path, help="the default is runs/NETWORK, which git ignores; of several runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    together = [issubclass(NETWORKS[name].trainer, PhotoTrainer) for name in args.networks]
    if len(together) > 1 and not (all(together) and args.minutes):
        parser.error("several networks: expected networks on photos and --minutes")
    return args


def main() -> None:
    """Train, or go on."""
    began = time.monotonic()
    args = parsed()
    device = torch.device(args.device)
    try:
        rates = by_network(args.rate, args.networks, "--rate")
        starts = by_network(args.start, args.networks, "--start")
    except UsageError as error:
        raise SystemExit(str(error)) from None
    pupils: list[Pupil] = []
    for name in args.networks:
        network = NETWORKS[name]
        sizes, loop = network.plan(args.body or network.body)
        start = Path(starts[name]) if name in starts else None
        out = (args.out or Path("runs")) / name if len(args.networks) > 1 or args.out is None else args.out
        resume = (out / "state.safetensors").exists()
        batch = args.batch or (BATCH_ON_GPU if args.minutes and device.type != "cpu" else loop.batch)
        loop = replace(loop, batch=batch, learning_rate=float(rates.get(name, loop.learning_rate)), seed=args.seed)
        if args.minutes is not None:
            loop = replace(loop, ahead=False)
        else:
            cooldown = args.steps // 2 if args.cooldown is None else args.cooldown
            loop = replace(loop, steps=args.steps, cooldown=cooldown)
        beside = pupils[0].trainer if pupils else None
        pupils.append(Pupil(made(network, loop, sizes, device, resume or start is not None, beside), out, start))
    if args.minutes is not None:
        bulk = args.bulk or (32 if device.type == "cpu" else 1024)
        train_together(pupils, args.minutes, bulk=bulk, report=say, began=began)
        return
    one = pupils[0]
    resume = (one.out / "state.safetensors").exists()
    print(train(one.trainer, one.out, resume=resume, start=one.start, report=seldom))


if __name__ == "__main__":
    main()
