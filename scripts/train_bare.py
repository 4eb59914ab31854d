"""Train a network where nothing is installed but torch, numpy, jaxtyping and safetensors, as on a lent GPU.

    PYTHONPATH=. python scripts/train_bare.py image --minutes 50 --start assets/weights/image-anny.safetensors
    PYTHONPATH=. python scripts/train_bare.py image spin pymaf --minutes 50 --start image=assets/weights/image-anny.safetensors
    PYTHONPATH=. python scripts/train_bare.py next --minutes 180
    PYTHONPATH=. python scripts/train_bare.py voxel --steps 40000

Knows: image, spin, pymaf, voxel, hand (the voxel network of hands), hand-detector, and next: a larger image network,
from scratch. With --minutes it draws samples in bulk, finds its speed, lets the learning rate fall to zero as the time
runs out, validates, writes half-precision weights every minute, and is over in time; see docs/training.md. With --steps
the plain loop of ``lvdreg train`` runs. Weights and the state to resume from lie in --out; where a state lies there,
the run goes on, so the same command may be given again.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lvdreg.body.catalogue import load_body
from lvdreg.train import plans
from lvdreg.train.hand_detector import HandDetectorTrainer
from lvdreg.train.image import ImageTrainer
from lvdreg.train.pymaf import PyMAFTrainer
from lvdreg.train.run import TrainConfig, Trainer, train
from lvdreg.train.spin import SPINTrainer
from lvdreg.train.timed import train_for
from lvdreg.train.voxel import VoxelTrainer

Plan = Callable[[str], tuple[Any, TrainConfig]]


@dataclass(frozen=True)
class Network:
    """What one name of the command line stands for."""

    trainer: type[Trainer[Any]]
    plan: Plan
    body: str = "anny"
    batch_on_gpu: int = 64
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


def made(network: Network, loop: TrainConfig, sizes: Any, device: torch.device, are_read: bool) -> Trainer[Any]:
    """Build a trainer; vertex codes that will be read from a file (``are_read``) need not be computed first."""
    if are_read and network.trainer in (ImageTrainer, VoxelTrainer):
        body = load_body(sizes.body)
        codes = torch.zeros(body.num_vertices, sizes.field.rank)
        return network.trainer(sizes, loop, device, body, codes)  # type: ignore[call-arg]
    return network.trainer(sizes, loop, device)


def main() -> None:
    """Train, or go on."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--body", help="anny, or anny-hand for hand and hand detector, unless said otherwise")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="what the whole run may take")
    length.add_argument("--steps", type=int)
    parser.add_argument("--cooldown", type=int, help="last steps, over which the rate falls; the default is a half")
    parser.add_argument("--batch", type=int, help="samples a step; on a GPU with --minutes 64 unless said otherwise")
    parser.add_argument("--bulk", type=int, help="samples drawn at once, with --minutes; 512, on a CPU 32")
    parser.add_argument("--rate", type=float, help="peak learning rate")
    parser.add_argument("--start", type=Path, help="weights to begin from")
    parser.add_argument("--out", type=Path, help="the default is runs/NETWORK, which git ignores")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    network, device = NETWORKS[args.network], torch.device(args.device)
    sizes, loop = network.plan(args.body or network.body)
    out = args.out or Path("runs") / args.network
    resume = (out / "state.safetensors").exists()
    batch = args.batch or (network.batch_on_gpu if args.minutes and device.type != "cpu" else loop.batch)
    loop = replace(loop, batch=batch, learning_rate=args.rate or loop.learning_rate)
    are_read = resume or args.start is not None
    if args.minutes is not None:
        trainer = made(network, replace(loop, ahead=False), sizes, device, are_read)
        bulk = args.bulk or (32 if device.type == "cpu" else 512)
        print(train_for(trainer, out, args.minutes, bulk=bulk, start=args.start, report=say, began=began))
        return
    cooldown = args.steps // 2 if args.cooldown is None else args.cooldown
    trainer = made(network, replace(loop, steps=args.steps, cooldown=cooldown), sizes, device, are_read)
    print(train(trainer, out, resume=resume, start=args.start, report=seldom))


if __name__ == "__main__":
    main()
