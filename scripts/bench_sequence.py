"""Register a synthetic walk as a sequence and frame by frame, and hold both against the truth.

    python scripts/bench_sequence.py [--frames 60] [--noise 5] [--missing 20] [--seed 1] [--alone]

One naked person walks; each frame is a mesh whose vertices are off by Gaussian noise, one cannot be read. --alone also
registers every frame by itself.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyParams
from lvdreg.fit.solver import Kinematics, State
from lvdreg.geometry.frames import transform_points
from lvdreg.pipeline.scan import register
from lvdreg.pipeline.sequence import register_sequence
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.gaits import GAITS, WalkSampler
from lvdreg.synth.scans import draw_betas

SPEED, STRIDES = 1.2, 0.9
"""Metres, and strides, a second."""


def walk(frames: int, noise: float, seed: int) -> tuple[list[Scan], np.ndarray]:
    """Return noisy scans of a walk, and true vertices (N, V, 3), metres."""
    body, generator = load_body("anny"), torch.Generator().manual_seed(seed)
    people = None if body.data.people is None else torch.as_tensor(body.data.people)
    betas = draw_betas(body, people, 1, generator)
    sampler, rng = WalkSampler(body, GAITS["walking"]), np.random.default_rng(seed)
    joints, scans, true = body.rest(betas)[1], list[Scan](), list[np.ndarray]()
    from lvdreg.geometry.frames import rotmat_to_rotvec

    for t in range(frames):
        draw = Draw(1, torch.Generator().manual_seed(seed))
        rotations = sampler.moment(joints, torch.tensor([(t / 30 * STRIDES) % 1]), draw)
        place = torch.tensor([[0.0, 0.0, SPEED * t / 30]])
        with torch.no_grad():
            vertices = body(BodyParams(betas, rotmat_to_rotvec(rotations), place)).vertices[0].double().numpy()
        true.append(vertices)
        noisy = vertices + noise * rng.normal(size=vertices.shape)
        scans.append(scan_from_arrays(noisy, body.data.faces, name=f"walk_{t:03d}"))
    return scans, np.array(true)


def figures(found: np.ndarray, true: np.ndarray, which: np.ndarray) -> tuple[float, float]:
    """Return mean errors of vertices, mm, over some frames, and of their accelerations, m/s2, over all."""
    vertex = 1000 * np.linalg.norm(found - true, axis=-1)[which].mean()
    bend = np.diff(found - true, 2, axis=0) * 900
    return float(vertex), float(np.linalg.norm(bend, axis=-1).mean())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--noise", type=float, default=5.0, help="millimetres")
    parser.add_argument("--missing", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", type=int, default=0, help="so many frames from the missing one on by themselves")
    args = parser.parse_args()
    scans, true = walk(args.frames, args.noise / 1000, args.seed)
    sources: list[Scan | Path] = [*scans]
    sources[args.missing] = Path("missing.ply")
    start = time.perf_counter()
    motion = register_sequence(sources)
    seconds = time.perf_counter() - start
    kernel = Kinematics(load_body("anny").data)

    def vertices_of(poses: np.ndarray) -> np.ndarray:
        states = [State(pose, motion.betas, transl) for pose, transl in zip(poses, motion.transl, strict=True)]
        return np.stack([transform_points(motion.T_scan_model, kernel.pose(state).vertices) for state in states])

    seen = np.arange(args.frames) != args.missing
    print("| | vertices mm | accelerations m/s2 | s a frame |\n| --- | --- | --- | --- |")
    for name, poses in (("sequence", motion.pose), ("not smoothed", motion.alone_pose)):
        vertex, bend = figures(vertices_of(poses), true, seen)
        print(f"| {name} | {vertex:.1f} | {bend:.2f} | {seconds / args.frames:.2f} |")
    filled = 1000 * np.linalg.norm(vertices_of(motion.pose) - true, axis=-1)[args.missing].mean()
    print(f"missing frame {filled:.1f} mm; sigma {np.median(motion.sigma_mm):.1f} mm;", dict(motion.timings))
    print(" ".join(motion.how))
    if args.alone:
        which = np.arange(args.missing + 1, args.missing + 1 + args.alone)
        start = time.perf_counter()
        found = np.stack([register(scans[i]).body_vertices for i in which])
        seconds = (time.perf_counter() - start) / args.alone
        vertex, bend = figures(found, true[which], np.ones(args.alone, bool))
        print(f"| alone | {vertex:.1f} | {bend:.2f} | {seconds:.2f} |")
        vertex, bend = figures(vertices_of(motion.pose)[which], true[which], np.ones(args.alone, bool))
        print(f"| sequence, the same frames | {vertex:.1f} | {bend:.2f} | |")


if __name__ == "__main__":
    main()
