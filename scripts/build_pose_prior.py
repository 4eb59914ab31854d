"""Learn the pose prior of lvdreg/fit/mixture.py from poses that lvdreg draws of people in photos, and ship it.

    python scripts/build_pose_prior.py [--samples 40000] [--components 8] [--seed 0] [--out FILE]

Prints the mean log-likelihood, in nats a pose, of poses that were not learnt from: of one Gaussian, and of the mixture.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from lvdreg.base.assets import assets_dir
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.fit.mixture import SHIPPED, JointAngles, PoseMixture, joints_of_pose
from lvdreg.synth.people.photo_poses import PhotoPoseSampler

FLOOR = np.radians(3)
"""Nobody's angles are known better than this: the poses drawn are too regular."""
ROUNDS = 60


def drawn(count: int, seed: int) -> tuple[tuple[str, ...], FloatArray]:
    """Return names of joints, and angles (count, D) of people in photos."""
    body = load_body("anny")
    sampler, generator = PhotoPoseSampler(body), torch.Generator().manual_seed(seed)
    people = torch.as_tensor(body.data.people)
    joints = joints_of_pose(body.data)
    angles = JointAngles.of(body.data, joints)
    parts = []
    for begin in range(0, count, 1000):
        chosen = torch.randint(len(people), (min(1000, count - begin),), generator=generator)
        with torch.no_grad():
            parts.append(angles(sampler.sample(people[chosen], generator).double().numpy()))
    return joints, np.concatenate(parts)


def main() -> None:
    """Learn, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=40_000)
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=assets_dir() / SHIPPED)
    args = parser.parse_args()
    joints, angles = drawn(args.samples, args.seed)
    _, others = drawn(max(1000, args.samples // 8), args.seed + 1)
    one = PoseMixture.single(joints, angles, FLOOR)
    print(f"one Gaussian: {one.log_density(others).mean():.2f} nats", flush=True)
    rng = np.random.default_rng(args.seed)
    best = one
    for _ in range(3):
        mixture = one.split(angles, rng.choice(len(angles), args.components, replace=False))
        for _ in range(ROUNDS):
            mixture = mixture.improved(angles, FLOOR)
        if mixture.log_density(angles).mean() > best.log_density(angles).mean():
            best = mixture
    print(f"{args.components} Gaussians: {best.log_density(others).mean():.2f} nats")
    print("shares", np.exp(best.log_weights).round(3))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    best.save(args.out)
    print(args.out, args.out.stat().st_size)


if __name__ == "__main__":
    main()
