#!/usr/bin/env python3
"""Kill `lvdreg augment` at random moments, let it go on, and compare the set with one that was never interrupted.

    python scripts/try_interrupts.py --times 10 -- --characters 40 --views 4 --size 128
    python scripts/try_interrupts.py -- scans/*.ply --registrations regs --poses 6 --shapes 6

What follows `--` are arguments of `lvdreg augment`. Each time all of its processes are left to themselves: only the
first one is killed, as the system does it. Prints what was there each time; status 1 if one byte differs.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def command(arguments: list[str], out: Path) -> list[str]:
    """Return the command that makes a set, or goes on with it."""
    return [sys.executable, "-m", "lvdreg", "augment", *arguments, "--out", str(out)]


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a set, hidden ones included."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def killed(arguments: list[str], out: Path, seconds: float) -> bool:
    """Run for so long and kill; False if it came to its end before."""
    process = subprocess.Popen(command(arguments, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="so many kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="work here; a temporary folder if not given")
    parser.add_argument("arguments", nargs="+", help="arguments of lvdreg augment, after --")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    whole, part, rng = folder / "whole", folder / "part", random.Random(options.seed)
    start = time.perf_counter()
    subprocess.run(command(options.arguments, whole), check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    print(f"uninterrupted: {seconds:.1f} s, {len(list(whole.glob('shard-*.npz')))} shards", flush=True)
    for i in range(options.times):
        moment = rng.uniform(0, 2 * seconds / options.times) + rng.choice([0, 0.3 * seconds])
        was_killed = killed(options.arguments, part, moment)
        made, stale = len(list(part.glob("shard-*.npz"))), len(list(part.glob(".*.part")))
        print(
            f"{i + 1}: {'killed' if was_killed else 'ended'} after {moment:.1f} s, {made} shards, {stale} half written"
        )
    subprocess.run(command(options.arguments, part), check=True, stdout=subprocess.DEVNULL)
    same = hashes(whole) == hashes(part)
    print("identical" if same else "DIFFERENT")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
