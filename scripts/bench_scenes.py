"""Measure what things that touch a person do to a registration: sixty scenes against the same people alone.

    python scripts/bench_scenes.py [--seed 1] [--kinds chair bed] [--people 5] [--poses 2] [--keep out/scenes]

Six kinds of support and furniture (lvdreg/synth/scenes.py), five people each, two poses each; hands lie on plates. The
figure of a scene is the mean distance between the vertices of the body with the thing and of the body without. --keep
keeps the results without things, which a change for things leaves as they are.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from lvdreg.base.errors import LvdregError
from lvdreg.body.catalogue import load_body
from lvdreg.pipeline.scan import register, register_hand
from lvdreg.scan.model import Scan
from lvdreg.synth.scenes import KINDS, SceneStream

NEAR_MM, FAR_MM = 15.0, 60.0


def body_of(scan: Scan, kind: str) -> tuple[np.ndarray | None, str, float]:
    """Register a scan: vertices (V, 3) of the body, its verdict, and the seconds that it took."""
    start = time.perf_counter()
    try:
        result = (register_hand if kind == "plate" else register)(scan)
    except LvdregError as error:
        return None, f"refused ({error})", time.perf_counter() - start
    reason = "" if result.verdict == "good" else f" ({result.reason[:60]})"
    return result.body_vertices, result.verdict + reason, time.perf_counter() - start


def alone(scan: Scan, kind: str, keep: Path | None) -> np.ndarray | None:
    """Register the person without the thing, or take what was kept."""
    file = None if keep is None else keep / f"{scan.name}.npy"
    if file is not None and file.exists():
        return np.load(file)
    vertices = body_of(scan, kind)[0]
    if file is not None and vertices is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, vertices)
    return vertices


def main() -> None:
    """Print a line for each scene, and how many came out right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--poses", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    scenes, errors, wrong = SceneStream(load_body("anny"), load_body("anny-hand")), [], 0
    print("| scene | form | mm | verdict | s |\n| --- | --- | --- | --- | --- |")
    for kind in args.kinds:
        for person in range(args.people):
            for pose in range(args.poses):
                scene = scenes.scene(kind, person, pose, args.seed)
                true = alone(scene.alone, kind, args.keep)
                found, verdict, seconds = body_of(scene.whole, kind)
                error = np.inf
                if true is not None and found is not None:
                    error = 1000 * float(np.linalg.norm(found - true, axis=1).mean())
                errors.append(error)
                wrong += error > FAR_MM and verdict.startswith(("good", "check"))
                print(
                    f"| {kind} {person} {pose} | {scene.form} | {error:.1f} | {verdict} | {seconds:.1f} |", flush=True
                )
    near = np.mean(np.array(errors) < NEAR_MM)
    print(f"\n{near:.0%} of {len(errors)} within {NEAR_MM:g} mm; {wrong} over {FAR_MM:g} mm not called failed")


if __name__ == "__main__":
    main()
