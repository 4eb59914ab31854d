"""A whole dataset: its plan pinned, its missing shards made by several processes, its manifest written last.

Killed at any moment and run again, only what is missing is made, and the finished set is the same to the last byte.
"""

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvdreg.augment.photograph import rest_box
from lvdreg.augment.plan import Pinned, Plan, differences
from lvdreg.augment.shards import MAKERS, Makers, OpenSource, is_made, make_shard
from lvdreg.augment.sheet import write_sheet
from lvdreg.base.disk import recover, write_file
from lvdreg.base.errors import DatasetError, UsageError
from lvdreg.base.lock import LOCK, locked
from lvdreg.base.processes import deaf, settle, with_threads
from lvdreg.base.provenance import sha256_of
from lvdreg.base.text import brief
from lvdreg.body.model import BodyModel
from lvdreg.dataset import (
    MANIFEST,
    PLAN,
    about_of,
    json_text,
    read_json,
    shard_name,
    tally,
)

Progress = Callable[[int, int], None]
"""Receives how many pictures are done, and how many there will be."""

POLL_S = 0.3


def augment(
    plan: Plan,
    folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
    makers: Makers = MAKERS,
    start: str = "spawn",
) -> dict[str, Any]:
    """Make a dataset, or what is missing of it.

    Args:
        plan: What is to be made.
        folder: Where; made if it is not there.
        workers: So many processes; None: one for each core. The bytes do not depend on it.
        progress: Hears how far it is.
        makers: Who makes people and pictures.
        start: How processes are started; "spawn" is safe with threads and GPUs.

    Returns:
        The manifest.

    Raises:
        UsageError: another dataset lies in the folder, or the settings differ from those it was begun with.
        OutputError: another run is writing into the folder.
        DatasetError: a process died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        pin(plan, folder)
        recover(folder, alone=True)
        todo = [number for number in range(len(plan.shards)) if not is_made(plan, number, folder)]
        for number in todo:
            (folder / shard_name(number)).unlink(missing_ok=True)
        if todo:
            pool_of_workers = WorkerPool(workers or os.cpu_count() or 1, makers, start)
            make_shards(plan, todo, folder, pool_of_workers, progress)
        manifest = manifest_of(plan, folder, makers.load_body(plan.body))
        write_text(folder / MANIFEST, json_text(manifest))
        write_sheet(folder)
    return manifest


def pin(plan: Pinned, folder: Path) -> None:
    """Write the plan, or make sure that it is the one that the folder was begun with.

    Raises:
        UsageError: it is another one, or something else lies in the folder.
        DatasetError: it is damaged.
    """
    wanted = plan.to_json()
    if not (folder / PLAN).exists():
        others = [path.name for path in folder.iterdir() if not path.name.endswith(".part") and path.name != LOCK]
        if others:
            raise UsageError(f"--out: expected a new folder or a dataset, got {folder} with {sorted(others)[0]} in it")
        write_text(folder / PLAN, json_text(wanted))
        return
    found = read_json(folder / PLAN)
    try:
        changed = differences(found, json.loads(json_text(wanted)))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DatasetError(f"{folder / PLAN}: damaged ({brief(error)}); make the dataset again") from error
    if changed:
        raise UsageError(
            f"--out: {folder} was begun with other settings: {'; '.join(changed)}; use them again or another folder"
        )


def write_text(path: Path, text: str) -> None:
    """Write a text that appears complete or not at all."""
    write_file(path, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace"))


def jobs_of(plan: Plan, todo: list[int], workers: int) -> list[list[int]]:
    """Split shards into jobs: those of one scan together, since it has to be bound first, unless workers would idle."""
    groups: dict[int, list[int]] = {}
    for number in todo:
        source = plan.shards[number].start // plan.versions_per_source
        groups.setdefault(source if source < len(plan.scans) else -1 - number, []).append(number)
    most = max(1, -(-len(todo) // (2 * workers)))
    return [group[first : first + most] for group in groups.values() for first in range(0, len(group), most)]


@dataclass(frozen=True)
class WorkerPool:
    """Processes: how many, who works in them, and how they are started."""

    workers: int
    makers: Makers
    start: str


def make_shards(
    plan: Plan, todo: list[int], folder: Path, pool_of_workers: WorkerPool, progress: Progress | None
) -> None:
    """Make shards in processes of one thread each; when interrupted, end them at once.

    Raises:
        DatasetError: a process died.
    """
    jobs, others = jobs_of(plan, todo, pool_of_workers.workers), set(multiprocessing.active_children())
    context = multiprocessing.get_context(pool_of_workers.start)
    with with_threads(1):  # several would share cores, and could change the last bits
        pool = ProcessPoolExecutor(min(pool_of_workers.workers, len(jobs)), context, settle)
        try:
            with deaf():
                running = {pool.submit(_work, plan, job, folder, pool_of_workers.makers) for job in jobs}
            _watch(plan, todo, folder, running, progress)
        except BrokenProcessPool as error:
            why = "a process was ended from outside, perhaps for want of memory"
            raise DatasetError(f"{folder}: {why}; run again with fewer --workers, what is complete is kept") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
                process.join()


def _watch(plan: Plan, todo: list[int], folder: Path, running: set[Future[None]], progress: Progress | None) -> None:
    """Wait until all jobs have ended, and count the shards that appear meanwhile."""
    missing = set(todo)
    while running:
        ended, running = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()
        missing -= {number for number in missing if (folder / shard_name(number)).exists()}
        if progress is not None:
            progress(plan.num_images - sum(plan.images_in(number) for number in missing), plan.num_images)


def _work(plan: Plan, numbers: list[int], folder: Path, makers: Makers) -> None:
    opened = OpenSource(plan, makers)
    for number in numbers:
        make_shard(plan, number, folder, opened)


def manifest_of(plan: Pinned, folder: Path, body: BodyModel) -> dict[str, Any]:
    """Say what a finished dataset holds; depends on the plan and the shards alone.

    Raises:
        DatasetError: a shard is missing or damaged.
    """
    paths = [folder / shard_name(number) for number in range(len(plan.shards))]
    abouts = [about_of(path) for path in paths]
    shards = [
        {
            "file": path.name,
            "images": about["images"],
            "versions": about["versions"],
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
        }
        for path, about in zip(paths, abouts, strict=True)
    ]
    counts = {
        "images": sum(about["images"] for about in abouts),
        "versions": sum(about["versions"] for about in abouts),
        "versions_planned": plan.num_sources * plan.versions_per_source,
        "scans": len(plan.scans),
        "characters": plan.asked.characters,
    }
    pinned = plan.to_json()
    pinned["body"] |= {
        "vertices": body.num_vertices,
        "joint_names": list(body.joint_names),
        "betas": body.num_betas,
    }
    return pinned | {
        "counts": counts,
        "draws_rejected": tally(abouts, "rejected"),
        "versions_given_up": tally(abouts, "given_up"),
        "rest_box": rest_box(body).tolist(),
        "shards": shards,
    }
