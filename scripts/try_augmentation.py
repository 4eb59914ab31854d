"""Measure what reposing and reshaping is worth: equal networks, equal budgets, the same people with and without it.

    lvdreg augment --characters 40 --channels scan --points 6000 --seed 5 --out plain
    lvdreg augment --characters 40 --channels scan --points 6000 --seed 5 --poses 6 --shapes 6 --out posed
    python scripts/try_augmentation.py plain posed [--steps 2000]

Each dataset trains a small voxel network; both are measured on the training's validation scans: people, poses and
clothes that neither has seen. Prints a line for every measurement.
"""

import argparse
from pathlib import Path

import torch

from lvdreg.field import FieldConfig
from lvdreg.train.dataset_scans import DatasetScans
from lvdreg.train.run import TrainConfig
from lvdreg.train.voxel import VoxelTrainer
from lvdreg.voxel.network import VoxelConfig, VoxelNetConfig

BODY = "anny"
NET = VoxelNetConfig(
    BODY, VoxelConfig(num_points=5_000, channels=(16, 32, 48, 64, 96, 128)), FieldConfig(hidden=256, rank=64)
)


def measure(data: Path, steps: int, seed: int) -> None:
    """Train on one dataset and print the errors on unseen people at every quarter of the way."""
    config = TrainConfig(
        steps=steps, cooldown=steps // 3, warmup=100, batch=4, points_per_scan=512, scan_points=5_000, seed=seed
    )
    trainer = VoxelTrainer(NET, config, torch.device("cpu"), source=DatasetScans(data, BODY))
    losses: list[float] = []
    while trainer.step < steps:
        losses.append(trainer.train_step())
        if trainer.step % (steps // 4) == 0:
            scores = ", ".join(f"{name} {value:.1f}" for name, value in trainer.validate().items())
            print(f"{data.name}: step {trainer.step}, loss {sum(losses[-100:]) / 100:.4f}, {scores}", flush=True)


def main() -> None:
    """Train on one dataset after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for data in args.data:
        measure(data, args.steps, args.seed)


if __name__ == "__main__":
    main()
