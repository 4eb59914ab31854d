"""Train a network where nothing is installed but torch, numpy, jaxtyping and safetensors, as on a lent GPU.

    PYTHONPATH=. python scripts/train_bare.py image --start assets/weights/image-anny.safetensors --steps 40000

Knows the networks of ``lvdreg train``: image, regressor, voxel, hand-detector. Weights and the state to resume from lie
in --out; where a state lies there, the run goes on, so the same command may be given again until it is done.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lvdreg.train import plans
from lvdreg.train.hand_detector import train_hand_detector
from lvdreg.train.image import train_image
from lvdreg.train.regressor import train_regressor
from lvdreg.train.run import TrainConfig
from lvdreg.train.voxel import train_voxel

NETWORKS: dict[str, tuple[Callable[..., Path], Callable[[str], tuple[Any, TrainConfig]]]] = {
    "image": (train_image, plans.image_plan),
    "regressor": (train_regressor, plans.regressor_plan),
    "voxel": (train_voxel, plans.voxel_plan),
    "hand-detector": (train_hand_detector, plans.hand_detector_plan),
}


def say(progress: dict[str, float]) -> None:
    """Print every hundredth step, and what was measured."""
    if progress["step"] % 100 == 0 or len(progress) > 2:
        print(", ".join(f"{name} {value:.5g}" for name, value in progress.items()), flush=True)


def main() -> None:
    """Train, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--body", help="anny, or anny-hand for the hand detector, unless said otherwise")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--cooldown", type=int, help="last steps, over which the rate falls; the default is a half")
    parser.add_argument("--batch", type=int, help="samples a step")
    parser.add_argument("--start", type=Path, help="weights to begin from")
    parser.add_argument("--out", type=Path, help="the default is runs/NETWORK, which git ignores")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    run, plan = NETWORKS[args.network]
    sizes, loop = plan(args.body or ("anny-hand" if args.network == "hand-detector" else "anny"))
    cooldown = args.steps // 2 if args.cooldown is None else args.cooldown
    loop = replace(loop, steps=args.steps, cooldown=cooldown, batch=args.batch or loop.batch)
    out = args.out or Path("runs") / args.network
    resume = (out / "state.safetensors").exists()
    print(run(out, sizes, loop, device=args.device, resume=resume, start=args.start, report=say))


if __name__ == "__main__":
    main()
