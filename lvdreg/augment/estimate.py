"""What a dataset will cost: a small part of it is made and measured, the rest is reckoned."""

import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lvdreg.augment.photograph import rest_box
from lvdreg.augment.plan import Asked, Plan
from lvdreg.augment.shards import MAKERS, Makers, OpenSource, assemble
from lvdreg.augment.versions import Made, Tally, find, keep
from lvdreg.base.errors import DatasetError, LvdregError
from lvdreg.dataset import Arrays, write_shard

SCANS, CHARACTERS, VERSIONS, IMAGES = 2, 4, 2, 16
"""At most so many scans and characters are tried, versions of each, and pictures of each version."""


@dataclass(frozen=True)
class Estimate:
    """What a part of a dataset cost.

    Attributes:
        plan: The whole.
        workers: Processes it will be made by.
        measured: Pictures that were made to find out.
        source_s: Seconds to bind a scan.
        version_s: Seconds to find a version without faults, and to scan it.
        image_s: Seconds to take and store a picture, its share of the compression included.
        bytes: Of a picture with all that belongs to it, as stored.
        tries: Draws a version.
    """

    plan: Plan
    workers: int
    measured: int
    source_s: float
    version_s: float
    image_s: float
    bytes: float
    tries: float

    @property
    def seconds(self) -> float:
        """Time for the whole."""
        versions = self.plan.num_sources * self.plan.versions_per_source
        work = self.source_s * len(self.plan.scans) + self.version_s * versions + self.image_s * self.plan.num_images
        return work / self.workers

    def lines(self) -> list[str]:
        """Say it in words."""
        plan, asked = self.plan, self.plan.asked
        versions = plan.num_sources * plan.versions_per_source
        who = f"{len(plan.scans)} scans and {asked.characters} characters"
        return [
            f"{who}, {asked.poses} poses x {asked.shapes} shapes each: {versions:,} versions",
            f"{asked.views} views x {asked.lights} lights of each, {asked.size} x {asked.size}: {plan.num_images:,} "
            f"pictures in {len(plan.shards):,} shards, with {', '.join(asked.channels)}",
            f"measured on {self.measured} pictures, one process: {self.source_s:.1f} s a scan, {self.version_s:.2f} s "
            f"a version ({self.tries:.1f} draws), {1000 * self.image_s:.0f} ms and {self.bytes / 1024:.0f} KiB "
            "a picture",
            f"the whole: about {words_for(self.seconds)} with {self.workers} workers "
            f"({plan.num_images / max(self.seconds, 1e-9):.1f} pictures a second), "
            f"{self.bytes * plan.num_images / 2**30:.1f} GiB",
        ]


def words_for(seconds: float) -> str:
    """Say a time as people do."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def estimate(plan: Plan, workers: int, makers: Makers = MAKERS) -> Estimate:
    """Make a small part of a dataset in this process, in one thread, and reckon the whole from it.

    Raises:
        DatasetError: no version of the part could be made.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(plan, workers, makers)
    finally:
        torch.set_num_threads(threads)


def _few(plan: Plan) -> tuple[list[int], Asked]:
    """Return versions of a part, evenly from all sources, and fewer views and lights of them."""
    asked, own = plan.asked, plan.versions_per_source
    lights = min(asked.lights, 4)
    small = replace(asked, lights=lights, views=min(asked.views, max(1, IMAGES // lights)))
    num = len(plan.scans)
    sources = {i * num // SCANS for i in range(min(SCANS, num))} | {
        num + i for i in range(min(CHARACTERS, asked.characters))
    }
    # The last versions: the first one has no new pose and costs least.
    return [s * own + own - 1 - i for s in sorted(sources) for i in range(min(VERSIONS, own))], small


def _measured(plan: Plan, workers: int, makers: Makers) -> Estimate:
    numbers, asked = _few(plan)
    plan_now, body, tally = replace(plan, asked=asked), makers.load_body(plan.body), Tally()
    box, opened, made, watch = rest_box(body), OpenSource(plan_now, makers), list[Made](), Stopwatch()
    for version in map(plan.version, numbers):
        is_new = opened.name != version.source.name
        try:
            person = opened.open(version.source)
        except LvdregError:
            continue
        watch.stop("source" if is_new and version.source.scan is not None else "nothing")
        found = find(person, version, asked, tally)
        watch.stop("version")
        if found is not None:
            made.append(keep(*found, version, asked, box, makers.render))
            watch.stop("image")
    if not made:
        raise DatasetError("expected versions to measure, got none: all were rejected; try other scans")
    size = _stored(assemble(plan_now.asked, body, made))
    watch.stop("image", 0)
    images = len(made) * asked.images_per_version
    tries = sum(float(each.person["tries"]) for each in made) / len(made)
    image_s = watch.mean("image") / asked.images_per_version
    return Estimate(plan, workers, images, watch.mean("source"), watch.mean("version"), image_s, size / images, tries)


class Stopwatch:
    """Seconds since the last stop, added up by what they were spent on."""

    def __init__(self) -> None:
        """Start."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.times: Counter[str] = Counter()
        self.last = time.perf_counter()

    def stop(self, what: str, times: int = 1) -> None:
        """Note what the time since the last stop was spent on, and how often that was done."""
        now = time.perf_counter()
        self.seconds[what] += now - self.last
        self.times[what] += times
        self.last = now

    def mean(self, what: str) -> float:
        """Return the mean time; 0 for what was never done."""
        return self.seconds[what] / max(1, self.times[what])


def _stored(arrays: Arrays) -> int:
    """Return how many bytes arrays take on disk."""
    with tempfile.TemporaryDirectory() as folder:
        write_shard(Path(folder) / "part.npz", arrays)
        return (Path(folder) / "part.npz").stat().st_size
