"""Whether two versions of lvdreg give the same vertices on the real data: run it with each, then compare.

    python scripts/compare_results.py run /tmp/before        # with the old version first on sys.path
    python scripts/compare_results.py run /tmp/after
    python scripts/compare_results.py compare /tmp/before /tmp/after

FAUST 000 to 009 and the suit with ``anny+d``, both rigged hands, the seven photos, equal seeds, one thread. Differences
are given as a share of the size of the result (the diagonal of its bounding box). Reads the folder of real data from
LVDREG_REAL_DATA, ../shared/data by default, and uses nothing but the public names of lvdreg.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import lvdreg

DATA = Path(os.environ.get("LVDREG_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SCANS = [f"bodies/faust/scan/{number:03d}.ply" for number in range(10)] + ["bodies/clothed_suit_cm.obj"]
HANDS = ["hands/rigged_left.glb", "hands/rigged_right.glb"]
PHOTOS = [
    f"images/{name}"
    for name in ("standing.png", "standing2.png", "apose_front.png", "apose_side.png", "skater.jpg", "wild1.png")
] + ["images/wild2.jpg"]


def run(out: Path, data: Path) -> None:
    """Register everything, and save the vertices of the body and of the surface."""
    out.mkdir(parents=True, exist_ok=True)
    for name in SCANS + HANDS + PHOTOS:
        path = out / (name.replace("/", "__") + ".npz")
        if path.exists():
            continue
        if name in HANDS:
            result = lvdreg.register_hand(data / name, model="anny-hand+d")
        elif name in PHOTOS:
            result = lvdreg.register_image(data / name)
        else:
            result = lvdreg.register(data / name, model="anny+d")
        arrays = {
            "body": getattr(result, "body_vertices", result.vertices),
            "surface": result.vertices,
            "sigma_mm": result.sigma_mm,
        }
        np.savez(path, verdict=str(result.verdict), **arrays)
        print(name, result.verdict, flush=True)


def compare(before: Path, after: Path) -> None:
    """Print the largest difference of each result, as a share of its size."""
    for path in sorted(before.glob("*.npz")):
        if not (after / path.name).exists():
            print(f"{path.stem}: only in {before}")
            continue
        old, new = np.load(path), np.load(after / path.name)
        size = np.linalg.norm(np.ptp(old["surface"], axis=0))
        shares = {
            key: float(np.abs(new[key] - old[key]).max()) / size if new[key].shape == old[key].shape else np.inf
            for key in ("body", "surface")
        }
        told = ", ".join(f"{key} {share:.2e}" for key, share in shares.items())
        print(f"{path.stem}: {told}, {old['verdict']} -> {new['verdict']}")


def main() -> None:
    """Run, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("out", type=Path)
    runs.add_argument("--data", type=Path, default=DATA)
    compares = commands.add_parser("compare")
    compares.add_argument("before", type=Path)
    compares.add_argument("after", type=Path)
    args = parser.parse_args()
    if args.command == "run":
        run(args.out, args.data)
    else:
        compare(args.before, args.after)


if __name__ == "__main__":
    main()
