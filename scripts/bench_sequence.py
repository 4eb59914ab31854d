"""Register a synthetic walk as a sequence and frame by frame, and hold both against the truth.

    python scripts/bench_sequence.py [--frames 60] [--noise 5] [--missing 20] [--seed 1] [--alone 8] [--out FOLDER]

One naked person walks; each frame is a mesh whose vertices are off by Gaussian noise, one cannot be read. --alone also
registers so many frames by themselves, those around the missing one; --out writes the result. Costs are CPU seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyParams
from lvdreg.export.motion import write_motion
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.geometry.frames import rotmat_to_rotvec, transform_points
from lvdreg.pipeline.scan import register
from lvdreg.pipeline.sequence import register_sequence
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.gaits import GAITS, WalkSampler
from lvdreg.synth.scans import draw_betas

FPS = 30.0
SPEED, STRIDES = 1.2, 0.9
"""Metres, and strides, a second."""


def walk(frames: int, noise: float, seed: int) -> tuple[list[Scan], np.ndarray]:
    """Return noisy scans of a walk, and true vertices (N, V, 3), metres."""
    body, generator = load_body("anny"), torch.Generator().manual_seed(seed)
    people = None if body.data.people is None else torch.as_tensor(body.data.people)
    betas = draw_betas(body, people, 1, generator)
    sampler, rng = WalkSampler(body, GAITS["walking"]), np.random.default_rng(seed)
    joints, scans, true = body.rest(betas)[1], list[Scan](), list[np.ndarray]()
    for t in range(frames):
        draw = Draw(1, torch.Generator().manual_seed(seed))
        rotations = sampler.moment(joints, torch.tensor([(t / FPS * STRIDES) % 1]), draw)
        place = torch.tensor([[0.0, 0.0, SPEED * t / FPS]])
        with torch.no_grad():
            vertices = body(BodyParams(betas, rotmat_to_rotvec(rotations), place)).vertices[0].double().numpy()
        true.append(vertices)
        noisy = vertices + noise * rng.normal(size=vertices.shape)
        scans.append(scan_from_arrays(noisy, body.data.faces, name=f"walk_{t:03d}"))
    return scans, np.array(true)


def errors(found: np.ndarray, true: np.ndarray, numbers: np.ndarray) -> tuple[float, float]:
    """Return mean errors of vertices, mm, and of their accelerations, m/s2, where three frames follow each other."""
    off = found - true[numbers]
    follow = (numbers[1:-1] - numbers[:-2] == 1) & (numbers[2:] - numbers[1:-1] == 1)
    bend = np.linalg.norm(np.diff(off, 2, axis=0)[follow] * FPS**2, axis=-1)
    return float(1000 * np.linalg.norm(off, axis=-1).mean()), float(bend.mean()) if len(bend) else np.nan


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--noise", type=float, default=5.0, help="millimetres")
    parser.add_argument("--missing", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", type=int, default=0, help="so many frames by themselves")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    scans, true = walk(args.frames, args.noise / 1000, args.seed)
    sources: list[Scan | Path] = [*scans]
    sources[args.missing] = Path("missing.ply")
    start = time.process_time()
    motion = register_sequence(sources, fps=FPS)
    seconds = time.process_time() - start
    kernel = Kinematics(load_body("anny").data)

    def vertices_of(poses: np.ndarray, places: np.ndarray) -> np.ndarray:
        states = [State(pose, motion.betas, transl) for pose, transl in zip(poses, places, strict=True)]
        return np.stack([transform_points(motion.T_scan_model, kernel.pose(state).vertices) for state in states])

    smooth, raw = vertices_of(motion.pose, motion.transl), vertices_of(motion.raw_pose, motion.raw_transl)
    seen = np.flatnonzero(np.arange(args.frames) != args.missing)
    rows = [("sequence", smooth, seen, seconds / args.frames), ("not smoothed", raw, seen, None)]
    if args.alone:
        first = max(0, args.missing - args.alone // 2)
        which = np.setdiff1d(np.arange(first, first + args.alone + 1), [args.missing])
        start = time.process_time()
        alone = np.stack([register(scans[i]).body_vertices for i in which])
        rows += [
            ("each frame alone", alone, which, (time.process_time() - start) / args.alone),
            ("sequence, the same frames", smooth[which], which, None),
        ]
    print("| | frames | vertices mm | accelerations m/s2 | CPU s a frame |\n| --- | --- | --- | --- | --- |")
    for name, found, numbers, cost in rows:
        own = found[numbers] if len(found) == args.frames else found
        vertex, bend = errors(own, true, numbers)
        print(f"| {name} | {len(numbers)} | {vertex:.2f} | {bend:.2f} | {'' if cost is None else f'{cost:.2f}'} |")
    filled = 1000 * np.linalg.norm((smooth - true)[args.missing], axis=-1).mean()
    print(f"missing frame {filled:.1f} mm; sigma {np.median(motion.sigma_mm):.1f} mm;", dict(motion.timings))
    print("accelerations over all frames", errors(smooth, true, np.arange(args.frames))[1], " ".join(motion.how))
    if args.out:
        print(*write_motion(motion, args.out), sep="\n")


if __name__ == "__main__":
    main()
