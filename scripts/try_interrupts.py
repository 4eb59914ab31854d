#!/usr/bin/env python3
"""Kill the making of a dataset at random moments, let it go on, and compare it with one that was never interrupted.

    python scripts/try_interrupts.py --characters 20
    python scripts/try_interrupts.py scans/*.ply --registrations regs --characters 10 --times 10

Shards are small, so that there are many. Each time one to a few new ones are awaited and, after a random while more,
the first process is killed as the system does it; its workers are left to notice. Prints what was there each time;
status 1 if a single byte differs.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lvdreg.augment.lookup import plan_of
from lvdreg.augment.plan import DEFAULT_CHANNELS, Asked, Plan
from lvdreg.augment.run import augment


def planned(options: argparse.Namespace) -> Plan:
    """Return the plan that the options ask for."""
    asked = Asked(
        poses=2, views=2, size=128, channels=(*DEFAULT_CHANNELS, "rest", "scan"), characters=options.characters
    )
    return replace(plan_of(asked, options.scans, options.registrations, "anny"), shard_bytes=2**19)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a set, hidden ones included."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def num_shards(folder: Path) -> int:
    """Count the shards that are complete."""
    return len(list(folder.glob("shard-*.npz")))


def killed(folder: Path, more: int, wait_s: float) -> bool:
    """Begin or go on, wait for so many more shards and so long, and kill; False if it came to its end before."""
    enough = num_shards(folder) + more
    process = subprocess.Popen([sys.executable, *sys.argv, "--make", str(folder)])
    while num_shards(folder) < enough and process.poll() is None:
        time.sleep(0.01)
    time.sleep(wait_s)
    was_running = process.poll() is None
    process.kill()
    process.wait()
    return was_running


def compare(options: argparse.Namespace, folder: Path) -> bool:
    """Make one set at one go and one with interruptions, and say whether they are the same."""
    plan, rng = planned(options), random.Random(options.seed)
    whole, part = folder / "whole", folder / "part"
    start = time.perf_counter()
    augment(plan, whole)
    pace = (time.perf_counter() - start) / len(plan.shards)
    print(f"uninterrupted: {len(plan.shards)} shards, {plan.num_images} pictures, {pace:.2f} s a shard", flush=True)
    for i in range(options.times):
        left = len(plan.shards) - (num_shards(part) if part.exists() else 0)
        more, wait_s = rng.randint(0, max(1, left // (options.times - i + 1))), rng.uniform(0, 2 * pace)
        how = "killed" if killed(part, more, wait_s) else "ended by itself"
        stale = len(list(part.glob(".*.part")))
        print(f"{i + 1}: {how}, {num_shards(part)} shards, {stale} half written", flush=True)
    augment(plan, part)
    return hashes(whole) == hashes(part)


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="*", help="registered scans")
    parser.add_argument("--registrations", type=Path, help="what lvdreg register left for them")
    parser.add_argument("--characters", type=int, default=0, help="so many synthetic people")
    parser.add_argument("--times", type=int, default=10, help="so many kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="work here; a temporary folder if not given")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        augment(planned(options), options.make)
        return 0
    same = compare(options, options.folder or Path(tempfile.mkdtemp()))
    print("identical" if same else "DIFFERENT")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
