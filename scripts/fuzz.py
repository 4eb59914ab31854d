"""Break files of every kind that lvdreg reads, and count how that ends.

    python scripts/fuzz.py [--minutes 10] [--seed 0] [--workers 2] [--kinds scan photo ...] [--keep FOLDER]
    python scripts/fuzz.py --case 4711 [--seed 0] [--kinds ...]

A case is a seed and its changes, drawn from ``--seed`` and the number of the case: it is the same in every run. Right
ends are a result, or one line of an error of lvdreg. All else is wrong: other exceptions, 20 s of processor time, 4 GiB
of memory, a process that dies. Each worker is a process of its own; one that hangs or dies is replaced. The status is 1
if anything is wrong.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_changes import broken

SECONDS, PATIENCE = 20.0, 120.0
"""Of the processor that a case may take, and on the clock: other programs may be at work, too."""
MEMORY = 4 << 30
"""Bytes that a case may take beside what the packages do."""
LONGEST_LINE = 1500
RIGHT = ("read", "refused")
KINDS = (
    "scan",
    "packaged",
    "depth",
    "pictured",
    "model",
    "weights",
    "photo",
    "keypoints",
    "dataset",
    "settings",
    "results",
)


@dataclass(frozen=True)
class Outcome:
    """How a case ended: as what, and what there is to say of it."""

    kind: str
    end: str
    words: str = ""
    seconds: float = 0.0
    peak_mib: int = 0


def files_of(seed: Any, alike: list[Any], rng: np.random.Generator) -> tuple[dict[str, bytes], str]:
    """Return the files of a case, one of them broken, and what was done."""
    names = seed.broken or tuple(seed.files)
    name = names[rng.integers(len(names))]
    others = [other.files[other.name] for other in alike if other.name in other.files]
    content, done = broken(name, seed.files[name], others, rng)
    return {**seed.files, name: content}, f"{name}: {done}"


def run_case(seeds: list[Any], number: int, run_seed: int, folder: Path) -> tuple[Outcome, str]:
    """Break a seed and read it; returns how that ended, and what had been done."""
    from lvdreg.base.errors import LvdregError

    rng = np.random.default_rng([run_seed, number])
    # Every kind in its turn: few kinds have many seeds.
    kinds = sorted({seed.kind for seed in seeds})
    kind = kinds[number % len(kinds)]
    alike = [seed for seed in seeds if seed.kind == kind]
    seed = alike[rng.integers(len(alike))]
    files, done = files_of(seed, alike, rng)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    start = time.process_time()
    try:
        seed.read(folder / seed.name)
        end, words = "read", ""
    except LvdregError as error:
        words = str(error)
        end = "memory" if "not enough memory" in words else "refused"
        if "\n" in words or len(words.replace(str(folder), "")) > LONGEST_LINE:
            end = "not one line"
    except MemoryError:
        end, words = "memory", traceback.format_exc()
    except Exception:  # noqa: BLE001 - that is what is looked for
        end, words = "other", traceback.format_exc()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return Outcome(kind, end, words, time.process_time() - start, peak), f"{seed.name}: {done}"


def chosen_seeds(kinds: list[str]) -> list[Any]:
    """Return the seeds of some kinds."""
    from fuzz_seeds import all_seeds

    return [seed for seed in all_seeds() if seed.kind in kinds]


def work(pipe: Connection, kinds: list[str], run_seed: int) -> None:
    """Answer every number of a case with how it ended."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # as on the command line
    seeds = chosen_seeds(kinds)
    limit = _address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send("ready")
    while True:
        number = pipe.recv()
        with tempfile.TemporaryDirectory() as folder:
            pipe.send(run_case(seeds, number, run_seed, Path(folder)))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


class Worker:
    """A process that reads broken files."""

    def __init__(self, kinds: list[str], run_seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, kinds, run_seed), daemon=True)
        self.process.start()
        other.close()
        self.number: int | None = None
        self.begun = self.spent = 0.0

    def give(self, number: int) -> None:
        """Let it do a case."""
        self.number, self.begun, self.spent = number, time.monotonic(), self._processor_seconds()
        self.pipe.send(number)

    def is_late(self) -> bool:
        """Whether its case takes too long."""
        if self.number is None:
            return False
        return self._processor_seconds() - self.spent > SECONDS or time.monotonic() - self.begun > PATIENCE

    def _processor_seconds(self) -> float:
        try:
            words = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def outcomes(
    minutes: float, cases: int | None, kinds: list[str], run_seed: int, num_workers: int
) -> Iterator[tuple[int, Outcome, str]]:
    """Run cases until the time is over, and say how each ended."""
    workers = [Worker(kinds, run_seed) for _ in range(num_workers)]
    number, deadline = 0, 0.0
    try:
        while True:
            for worker in [w for w in workers if w.is_late()]:
                yield worker.number or 0, Outcome("?", "hang"), ""
                worker.end()
                workers[workers.index(worker)] = Worker(kinds, run_seed)
            for pipe in wait([worker.pipe for worker in workers], 1.0):
                worker = next(w for w in workers if w.pipe is pipe)
                try:
                    answer = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join(1)
                    yield worker.number or 0, Outcome("?", "died", f"status {worker.process.exitcode}"), ""
                    worker.end()
                    workers[workers.index(worker)] = Worker(kinds, run_seed)
                    continue
                if answer == "ready":
                    deadline = deadline or time.monotonic() + 60 * minutes
                else:
                    yield worker.number or 0, *answer
                    worker.number = None
                if time.monotonic() < deadline and number != cases:
                    worker.give(number)
                    number += 1
            is_over = deadline and (time.monotonic() >= deadline or number == cases)
            if is_over and all(worker.number is None for worker in workers):
                return
    finally:
        for worker in workers:
            worker.end()


def report(found: Counter[tuple[str, str]], slowest: float, peak: int) -> str:
    """Return a table of kinds and ends."""
    ends = [*RIGHT, *sorted({end for _, end in found} - set(RIGHT))]
    lines = [f"{'':10}" + "".join(f"{end:>14}" for end in ends)]
    for kind in (*KINDS, "?"):
        if any(found[kind, end] for end in ends):
            lines.append(f"{kind:10}" + "".join(f"{found[kind, end]:14}" for end in ends))
    total = sum(found.values())
    lines.append(f"{total} files; at most {slowest:.1f} s of the processor, {peak} MiB of memory")
    return "\n".join(lines)


def show_case(args: argparse.Namespace) -> None:
    """Do one case in this process, and keep its files."""
    folder = args.keep or Path(tempfile.mkdtemp())
    outcome, done = run_case(chosen_seeds(args.kinds), args.case, args.seed, folder)
    print(f"{done}\n{outcome.end} after {outcome.seconds:.2f} s; files in {folder}\n{outcome.words}")


def main() -> int:
    """Break files and say how that ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cases", type=int, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--case", type=int, help="do this one alone")
    parser.add_argument("--keep", type=Path, help="folder for the files of --case")
    args = parser.parse_args()
    if args.case is not None:
        show_case(args)
        return 0
    found: Counter[tuple[str, str]] = Counter()
    slowest, peak = 0.0, 0
    for number, outcome, done in outcomes(args.minutes, args.cases, args.kinds, args.seed, args.workers):
        found[outcome.kind, outcome.end] += 1
        slowest, peak = max(slowest, outcome.seconds), max(peak, outcome.peak_mib)
        if outcome.end not in RIGHT:
            last = outcome.words.strip().splitlines()[-1:] or [""]
            print(f"case {number}: {outcome.end}: {done}: {last[0][:300]}", flush=True)
    print(report(found, slowest, peak))
    return int(any(end not in RIGHT for _, end in found))


if __name__ == "__main__":
    sys.exit(main())
