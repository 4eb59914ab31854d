"""Kill batches at random moments and see that nothing is lost and nothing stands twice; measure what batches cost.

    python scripts/check_batch.py kills [--count 1000] [--kills 20]    # made-up scans that take 30 ms each
    python scripts/check_batch.py kills --store                        # the same into a store: file:// by fsspec
    python scripts/check_batch.py kills SCAN... [--kills 5]            # the same with real scans
    python scripts/check_batch.py finished [--count 10000]             # how long finished inputs take to be recognised
    python scripts/check_batch.py overhead [--count 500]               # what the engine adds to a scan
    python scripts/check_batch.py ray [--count 200]                    # one machine of two goes; the driver goes
    python scripts/check_batch.py workers SCAN... [--out FOLDER]       # real scans, by one worker and by two

`kills` registers odd names, too: 255 bytes, accents in both forms, devices of Windows, line breaks, equal stems. A run
is killed (SIGKILL of the parent, of a worker, SIGTERM), begun again until it ends, and compared with one that was not:
the same folders with the same bytes, a table that says the same as the folders, and nothing left over.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvdreg.base.disk import replacing_folder
from lvdreg.base.lock import LOCK
from lvdreg.base.provenance import sha256_of
from lvdreg.base.version import __version__
from lvdreg.batch import TABLE, Limits, Remote, is_remote, read_results, register_many
from lvdreg.batch.cluster import Cluster
from lvdreg.result.files import REPORT, RESULT, read_report

WORK_S = 0.03
VERDICTS = ("good", "check", "failed")
TIMED = ("timings_s", "peak_memory_mib", "created")
"""Keys of reports."""


@dataclass(frozen=True)
class Quick:
    """A result that depends on the content of its input, and on nothing else."""

    source: Path
    digest: str
    verdict: str
    reason: str
    timings: dict[str, float] = field(default_factory=dict)
    headline: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> list[Path]:
        """Write three files, as real results are written."""
        files = {"body.ply": "the body", "registered.ply": "the surface", "report.json": "this"}
        report = {
            "lvdreg": __version__, "verdict": self.verdict, "reason": self.reason, "files": files, "assets": {},
            "input": {"path": str(self.source.absolute()), "sha256": self.digest},
        }  # fmt: skip
        with replacing_folder(folder, RESULT) as part:
            for name in ("body.ply", "registered.ply"):
                (part / name).write_text(f"{name} {self.digest}\n" * 500, encoding="utf-8")
            (part / "report.json").write_text(json.dumps(report), encoding="utf-8")
        return [folder / name for name in files]


def quick_register(source: Path, work_s: float = WORK_S, **_: Any) -> Quick:
    """Register a scan in no time."""
    digest = sha256_of(source)
    time.sleep(work_s)
    return Quick(source, digest, VERDICTS[int(digest[0], 16) % 3], f"the scan begins with {digest[:6]}")


def make_inputs(folder: Path, count: int) -> list[Path]:
    """Write scans of odd and of equal names, in two folders, and set their times back."""
    odd = [
        "é" * 125 + "x",
        unicodedata.normalize("NFD", "bär"),
        "bär",
        "CON",
        "nul.a",
        "a\nb",
        "..",
        " x ",
        "人体",
        "Ab",
        "aB",
    ]
    names = [f"{name}.ply" for name in odd] + [f"scan{i:05}.ply" for i in range(count // 2 + 1)]
    paths = [folder / str(i % 2) / names[i // 2] for i in range(count)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"scan {i}", encoding="utf-8")
        os.utime(path, (1e9, 1e9))
    return paths


def run_child(folder: Path, out: str, workers: int, work_s: float, address: str | None) -> None:
    """Register what lies in a folder, as the command line does."""
    from lvdreg.cli.status import plain_errors

    limits = Limits(retries=30)
    engine = None if address is None else Cluster(address, None, limits)
    how: dict[str, Any] = {"resume": True, "workers": workers, "limits": limits, "engine": engine}
    sources = sorted(path for path in folder.rglob("*") if path.is_file())
    begin, used = time.perf_counter(), time.process_time()
    with plain_errors():
        place = Remote(out) if is_remote(out) else Path(out)
        done = register_many(sources, place, register=quick_register, work_s=work_s, **how)
    seconds, used = time.perf_counter() - begin, time.process_time() - used
    print(f"{len(done)} in {seconds:.2f} s, {used:.2f} s of the processor for the engine", flush=True)


def started(
    folder: Path, out: Path | str, workers: int = 2, work_s: float = WORK_S, address: str | None = None
) -> "subprocess.Popen[str]":
    """Start ``run_child`` in a process of its own."""
    words = ["child", str(folder), "--out", str(out), "--workers", str(workers), "--work", str(work_s)]
    words += [] if address is None else ["--address", address]
    return begun([__file__, *words])


def begun(words: list[str]) -> "subprocess.Popen[str]":
    """Start Python in a process of its own."""
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        words = " ".join(Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii") for task in tasks)
    except OSError:
        return []
    return [int(word) for word in words.split()]


def check_kills(scans: list[Path], count: int, kills: int, seed: int, to_store: bool) -> None:
    """Compare a run that was killed again and again with one that was not.

    Args:
        scans: Real ones; if there are none, so many are made up.
        count: See there.
        kills: How many.
        seed: Of what is killed, and when.
        to_store: Whether the killed run writes into a store.
    """
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        folder, whole, killed = Path(root, "in"), Path(root, "whole"), Path(root, "killed")
        sources = [scan.absolute() for scan in scans] or make_inputs(folder, count)

        def run(out: Path) -> "subprocess.Popen[str]":
            place = f"file://{out}" if to_store and out == killed else str(out)
            if not scans:
                return started(folder, place)
            words = ["--out", place, "--workers", "2", "--retries", "30"]
            return begun(["-m", "lvdreg", "batch", *map(str, sources), *words])

        begin = time.perf_counter()
        assert run(whole).wait() == 0
        pace = (time.perf_counter() - begin) / kills
        said = {"parent": 0, "worker": 0, "SIGTERM": 0}
        process = run(killed)
        while sum(said.values()) < kills:
            time.sleep(chance.uniform(0.2, 1.0) * pace)
            if process.poll() is not None:
                print(f"it ended after {sum(said.values())} kills")
                break
            what = chance.choices(list(said), (2, 2, 1))[0]
            workers = children(process.pid)
            while what == "worker" and not workers and process.poll() is None:
                time.sleep(0.1)
                workers = children(process.pid)
            if what == "worker" and not workers:
                continue
            said[what] += 1
            os.kill(
                chance.choice(workers) if what == "worker" else process.pid,
                signal.SIGTERM if what == "SIGTERM" else signal.SIGKILL,
            )
            if what != "worker":
                process.wait()
                process = run(killed)
        status = process.wait()
        if status:
            status = run(killed).wait()
        print(f"killed: {said}; last status {status}")
        report_differences(sources, whole, killed)


def check_ray(count: int) -> None:
    """Let one machine of two go half-way (two raylets of this one), then the driver."""
    from ray.cluster_utils import Cluster as Machines

    with tempfile.TemporaryDirectory() as root:
        folder, whole, killed = Path(root, "in"), Path(root, "whole"), Path(root, "killed")
        sources = make_inputs(folder, count)
        assert started(folder, whole).wait() == 0
        machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0})
        nodes = [machines.add_node(num_cpus=2) for _ in range(2)]
        process = started(folder, killed, work_s=0.3, address=machines.address)
        for share, what in ((0.35, "machine"), (0.7, "driver")):
            while len(read_results(killed)) < share * count:
                assert process.poll() is None, "it ended early"
                time.sleep(0.1)
            print(f"{what} goes after {len(read_results(killed))} of {count}", flush=True)
            if what == "machine":
                machines.remove_node(nodes[0], allow_graceful=False)
            else:
                process.kill()
                process.wait()
        process = started(folder, killed, address=machines.address, work_s=0.3)
        print(f"begun again: {process.communicate()[0].strip()}; status {process.returncode}")
        machines.shutdown()
        report_differences(sources, whole, killed)


def report_differences(sources: Iterable[Path], whole: Path, killed: Path) -> None:
    """Say what was lost, what stands twice, and where results, table and folders differ; leave with status 1 if so."""
    faults: list[str] = []
    for out in (whole, killed):
        names = {path.relative_to(out).parts[0] for path in out.rglob("*") if path.is_file()} - {TABLE}
        lines = (out / TABLE).read_bytes().splitlines()[1:]
        rows = read_results(out)
        by_source = {row.source: row for row in rows}
        faults += [f"{out.name}: {len(lines)} lines, {len(rows)} rows"] if len(lines) != len(rows) else []
        faults += [f"{out.name}: lost {source}" for source in sources if str(source) not in by_source]
        faults += [f"{out.name}: left over {name}" for name in names - {row.folder for row in rows}]
        faults += [f"{out.name}: {LOCK}"] if LOCK in names else []
        for row in rows:
            report = read_report(out / str(row.folder)) or {}
            same = (row.verdict, row.reason, row.source) == (
                report.get("verdict"), report.get("reason"), report.get("input", {}).get("path")
            )  # fmt: skip
            faults += [] if same else [f"{out.name}: table and folder differ: {row.folder}"]
    faults += [f"differs: {name}" for name, _ in set(hashes(whole).items()) ^ set(hashes(killed).items())]
    print(f"{len(hashes(killed))} files compared; {len(faults)} faults")
    for fault in faults[:20]:
        print(fault)
    if faults:
        raise SystemExit(1)


def hashes(out: Path) -> dict[str, str]:
    """Return the content of every file of results, hashed; of real reports without what differs each time."""
    found = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file() and path.name != TABLE}
    return {name: hashlib.sha256(lasting(path)).hexdigest() for name, path in found.items()}


def lasting(path: Path) -> bytes:
    """Return what does not say how long things took."""
    if path.name != REPORT:
        return path.read_bytes()
    report = json.loads(path.read_bytes())
    return json.dumps({key: value for key, value in report.items() if key not in TIMED}, sort_keys=True).encode()


def check_finished(count: int) -> None:
    """Time how long finished inputs take."""
    with tempfile.TemporaryDirectory() as root:
        folder, out = Path(root, "in"), Path(root, "out")
        make_inputs(folder, count)
        assert started(folder, out, 2, 0.0).wait() == 0
        for _ in range(3):
            begin = time.perf_counter()
            process = started(folder, out, 2, 0.0)
            said = process.communicate()[0].strip()
            print(f"recognised: {said}; with imports {time.perf_counter() - begin:.2f} s", flush=True)


def check_overhead(count: int) -> None:
    """Time jobs that do next to nothing, and such that wait: what is not in the jobs is the engine's."""
    for workers in (1, 2):
        for work_s in (0.0, 0.1):
            with tempfile.TemporaryDirectory() as root:
                folder, out = Path(root, "in"), Path(root, "out")
                make_inputs(folder, count)
                said = started(folder, out, workers, work_s).communicate()[0].strip()
                inside = sum(row.seconds for row in read_results(out))
                print(f"{workers} workers, jobs of {work_s} s: {said}; {inside:.2f} s in jobs", flush=True)


def check_workers(scans: list[str], out: Path) -> None:
    """Time real scans with one worker and with two."""
    for workers in (1, 2):
        place = out / str(workers)
        begin, load = time.perf_counter(), os.getloadavg()[0]
        words = [sys.executable, "-m", "lvdreg", "batch", *scans, "--out", str(place), "--workers", str(workers)]
        subprocess.run([*words, "--again"], check=False, capture_output=True)
        rows = read_results(place)
        inside = sum(row.seconds for row in rows)
        wall = time.perf_counter() - begin
        in_scans = f"{len(rows)} scans in {wall:.1f} s, of which {inside / workers:.1f} s in scans"
        print(f"{workers} workers: {in_scans}; load {load:.1f}")


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "finished", "overhead", "workers", "ray", "child"])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--count", type=int)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="out/check-batch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=float, default=WORK_S)
    parser.add_argument("--address")
    parser.add_argument("--store", action="store_true")
    args = parser.parse_args()
    if args.what == "child":
        run_child(Path(args.paths[0]), args.out, args.workers, args.work, args.address)
    elif args.what == "kills":
        check_kills([*map(Path, args.paths)], args.count or 1000, args.kills, args.seed, args.store)
    elif args.what == "finished":
        check_finished(args.count or 10_000)
    elif args.what == "ray":
        check_ray(args.count or 200)
    elif args.what == "overhead":
        check_overhead(args.count or 500)
    else:
        check_workers(args.paths, Path(args.out))


if __name__ == "__main__":
    main()
