"""Tell people in one scan apart, register each, and hold each against its registration alone.

    python scripts/bench_groups.py [--seed 2] [--kinds touching hugging] [--groups 5]
    python scripts/bench_groups.py --faust ../shared/data/bodies/faust/scan [--pairs 10] [--gap 0.2] [--cloud]

Five kinds of groups (lvdreg/synth/groups.py), or pairs of scans of a folder, of different people: one is moved towards
the other from a side until they are a gap apart, 0 for touching. --cloud takes points without faces and normals. The
figure is the mean distance between the vertices of a person's body in the group and of the same alone.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from lvdreg.base.errors import LvdregError
from lvdreg.body.catalogue import load_body
from lvdreg.geometry.mesh import sample_surface
from lvdreg.pipeline.people import register_group
from lvdreg.pipeline.scan import register
from lvdreg.scan.model import Scan, read_scan, scan_from_arrays
from lvdreg.synth.groups import KINDS, TOUCHING, GroupStream, beside
from lvdreg.synth.scenes import Mesh

CLOUD_POINTS = 60_000


def pairs(folder: Path, count: int, gap: float, as_cloud: bool, seed: int) -> Iterator[tuple[str, Scan, list[Scan]]]:
    """Yield pairs of the folder's scans: name, both in one, each alone."""
    paths, rng = sorted(folder.glob("*.ply")), np.random.default_rng(seed)
    for _ in range(count):
        i, j = rng.integers(len(paths), size=2)
        while i // 10 == j // 10:  # Ten poses of each person.
            j = rng.integers(len(paths))
        first, second = (read_scan(paths[k]) for k in (i, j))
        angle = rng.uniform(-np.pi, np.pi)
        away = np.array([np.sin(angle), 0.0, np.cos(angle)])
        meshes = [Mesh(scan.points, np.asarray(scan.faces)) for scan in (first, second)]
        way = beside(meshes[0], meshes[1], away, max(gap, TOUCHING))
        both = [first, replace(second, points=second.points + way)]
        faces = [np.asarray(scan.faces) for scan in both]
        whole = scan_from_arrays(
            np.concatenate([scan.points for scan in both]),
            np.concatenate([faces[0], faces[1] + len(first.points)]),
            name=f"{paths[i].stem}_{paths[j].stem}",
        )
        if as_cloud:
            rng_points = np.random.default_rng(0)
            assert whole.faces is not None
            points = sample_surface(whole.points, whole.faces, CLOUD_POINTS, rng_points)[0]
            whole = scan_from_arrays(points, name=whole.name)
            both = [
                scan_from_arrays(sample_surface(scan.points, each, CLOUD_POINTS // 2, rng_points)[0], name=scan.name)
                for scan, each in zip(both, faces, strict=True)
            ]
        yield whole.name, whole, both


def groups(kinds: list[str], count: int, seed: int) -> Iterator[tuple[str, Scan, list[Scan]]]:
    """Yield synthetic groups likewise."""
    stream = GroupStream(load_body("anny"))
    for kind in kinds:
        for number in range(count):
            group = stream.group(kind, number, seed)
            yield f"{kind} {number} {group.form}", group.whole, list(group.alone)


def main() -> None:
    """Print a line for each group, and how many came out right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--people", type=int, help="tell how many there are")
    parser.add_argument("--faust", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--gap", type=float, default=0.2)
    parser.add_argument("--cloud", action="store_true")
    args = parser.parse_args()
    drawn = groups(args.kinds, args.groups, args.seed)
    if args.faust is not None:
        drawn = pairs(args.faust, args.pairs, args.gap, args.cloud, args.seed)
    num_right, num_all, errors = 0, 0, list[float]()
    print("| group | seen | mm | verdicts | s |\n| --- | --- | --- | --- | --- |")
    for name, whole, alone in drawn:
        num_all += 1
        start = time.perf_counter()
        try:
            found = register_group(whole, people=args.people).results
        except LvdregError as error:
            print(f"| {name} | refused ({error}) | | | {time.perf_counter() - start:.0f} |", flush=True)
            continue
        seconds, own = time.perf_counter() - start, list[float]()
        for scan in alone:
            vertices = register(scan).body_vertices
            own.append(min(1000 * float(np.linalg.norm(r.body_vertices - vertices, axis=1).mean()) for r in found))
        num_right += len(found) == len(alone) and max(own) < 50
        errors += own
        verdicts, each = " ".join(r.verdict for r in found), " ".join(f"{error:.1f}" for error in own)
        print(f"| {name} | {len(found)} of {len(alone)} | {each} | {verdicts} | {seconds:.0f} |", flush=True)
    near = np.mean(np.array(errors) < 5)
    print(
        f"\n{num_right} of {num_all} right; of all people found {near:.0%} within 5 mm, median {np.median(errors):.1f}"
    )


if __name__ == "__main__":
    main()
