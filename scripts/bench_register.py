"""Measure what a registration costs: seconds by stage in a warm process, peak memory, and diagonal against N x N x 3.

    python scripts/bench_register.py [SCAN] [--runs 3]

Without a scan, the shipped example is divided to some 40,000 vertices. Prints a table in Markdown.
"""

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable

import torch
import trimesh

from lvdreg import register
from lvdreg.assets import assets_dir
from lvdreg.normalise import UPS, box_transform, to_unit
from lvdreg.scan import Scan, clean_scan, oriented_points, read_scan, scan_from_arrays
from lvdreg.weights import voxel_weights

NUM_VERTICES = 40_000


def example() -> Scan:
    """Return the shipped example, its longest edges divided until it has about 40,000 vertices."""
    scan = clean_scan(read_scan(assets_dir() / "examples" / "dressed.ply"))
    mesh = trimesh.Trimesh(scan.points, scan.faces, process=False)
    missing = NUM_VERTICES - len(mesh.vertices)
    if missing > 0:
        largest = mesh.area_faces.argsort()[::-1][: missing * 2 // 3]
        mesh = mesh.subdivide(largest)
    return scan_from_arrays(mesh.vertices, mesh.faces, name="example")


def seconds(work: Callable[[], object], runs: int) -> float:
    """Return the median time of a call, the first left out."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.no_grad()
def diagonal_against_all_pairs(scan: Scan, runs: int) -> tuple[float, float]:
    """Time one step of the descent both ways with the same network: diagonal, and all heads at all points."""
    net = voxel_weights("anny").net
    points, _ = oriented_points(scan, net.config.voxel.num_points)
    cloud = to_unit(points, box_transform(points, UPS["+z"]))[None]
    features = net.features(cloud, torch.ones(cloud.shape[:2], dtype=torch.bool))
    x = 0.1 * torch.randn(1, net.field.num_vertices, 3)
    read = features(x)
    diagonal = net.field(read, x)[0]
    index = torch.arange(net.field.num_vertices)
    everything = net.field.all_heads(read, x)[0, index, index]
    assert torch.allclose(diagonal, everything, atol=1e-4)
    return (
        seconds(lambda: net.field(read, x), runs),
        seconds(lambda: net.field.all_heads(read, x)[0, index, index], runs),
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", nargs="?")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    scan = example() if args.scan is None else read_scan(args.scan)
    machine = platform.processor() or platform.machine()
    print(f"{len(scan.points)} vertices; {machine}, {torch.get_num_threads()} threads")
    register(scan, model="anny+d")
    timings = [register(scan, model="anny+d").timings for _ in range(args.runs)]
    print("\n| stage | seconds |\n| --- | --- |")
    for stage in timings[0]:
        print(f"| {stage} | {statistics.median(t[stage] for t in timings):.2f} |")
    print(f"| **all** | {statistics.median(sum(t.values()) for t in timings):.2f} |")
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB (registering)")
    diagonal, everything = diagonal_against_all_pairs(scan, args.runs)
    print(f"one step, diagonal {diagonal:.3f} s, all pairs {everything:.3f} s: ratio {everything / diagonal:.1f}")


if __name__ == "__main__":
    main()
