"""What is made: sources, the versions of each, and which shard holds which. Everything else follows from it."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lvdreg.base.assets import PACKAGE
from lvdreg.base.errors import UsageError
from lvdreg.base.text import one_line
from lvdreg.base.version import __version__
from lvdreg.dataset import CHANNELS, FORMAT, FORMAT_VERSION, MAX_SIZE, json_text

SHARD_BYTES = 96 * 2**20
"""Arrays of a shard together, before compression: a few of them are in memory while a dataset is read."""
CODE = ("augment", "body", "synth")
"""Packages that decide the bytes."""
DEFAULT_CHANNELS = ("image", "mask", "depth", "normals", "parts")
MOST_DIFFERENCES = 8
"""So many are told to who goes on with other settings."""
SENSORS = ("mixed", "closed", "ring", "fused", "single")
_BYTES_A_PIXEL = {"image": 3, "mask": 1, "depth": 2, "normals": 3, "parts": 1, "rest": 6, "scan": 0}


@dataclass(frozen=True)
class Asked:
    """What the user wants.

    Attributes:
        seed: Equal seeds give equal bytes.
        poses: Poses of each source; the first is its own.
        shapes: Shapes of each source; the first is its own.
        views: Cameras around each version.
        lights: Pictures from each camera, lit differently.
        size: Width and height of the pictures, pixels.
        channels: What is kept of each picture; see ``dataset.CHANNELS``.
        sensor: Who scans, for the channel "scan"; one of ``SENSORS``.
        points: Points of each scan.
        characters: So many synthetic people besides the scans.
        device: "cpu" or "cuda"; the two differ in the last bits.
    """

    seed: int = 0
    poses: int = 1
    shapes: int = 1
    views: int = 4
    lights: int = 1
    size: int = 256
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    sensor: str = "mixed"
    points: int = 8_000
    characters: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("poses", "shapes", "views", "lights", "size", "points"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name}: expected at least 1, got {getattr(self, name)}")
        if self.size > MAX_SIZE:
            raise UsageError(f"--size: expected at most {MAX_SIZE} pixels, got {self.size}")
        unknown = [channel for channel in self.channels if channel not in CHANNELS]
        if unknown or not self.channels:
            got = repr(unknown[0]) if unknown else "none"
            raise UsageError(f"--channels: expected some of {', '.join(CHANNELS)}, got {got}")
        if self.sensor not in SENSORS:
            raise UsageError(f"--sensor: expected one of {', '.join(SENSORS)}, got {self.sensor!r}")

    @property
    def images_per_version(self) -> int:
        """How many pictures one person in one pose and shape gives."""
        return self.views * self.lights


@dataclass(frozen=True)
class Source:
    """Somebody to be photographed: a registered scan, or a synthetic character.

    Attributes:
        name: Unique in the dataset.
        hashes: SHA-256 of the files it is made from; none of a character.
        scan: The scan's file; None of a character.
        result: Its result folder.
    """

    name: str
    hashes: dict[str, str] = field(default_factory=dict)
    scan: Path | None = None
    result: Path | None = None


@dataclass(frozen=True)
class Version:
    """One source in one pose and shape; 0 is its own."""

    source: Source
    pose: int
    shape: int


@runtime_checkable
class Pinned(Protocol):
    """What a dataset is made from, whoever makes it."""

    @property
    def asked(self) -> Asked:
        """What the user wants."""
        ...

    @property
    def scans(self) -> tuple[Source, ...]:
        """Registered scans."""
        ...

    @property
    def num_sources(self) -> int:
        """How many people there are."""
        ...

    @property
    def versions_per_source(self) -> int:
        """How many versions each of them has."""
        ...

    @property
    def shards(self) -> tuple[range, ...]:
        """Numbers of the versions in each shard."""
        ...

    @property
    def digest(self) -> str:
        """A hash of all that pins the bytes."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what pins the bytes of the dataset."""
        ...


@dataclass(frozen=True)
class Plan:
    """A whole dataset before it is made.

    Attributes:
        asked: What the user wants.
        body: Name of the body.
        body_hash: SHA-256 of its arrays.
        scans: Registered scans, names all different.
        left_out: Why other scans are not among them, by name.
        shard_bytes: About so large are the arrays of a shard together, before compression.
    """

    asked: Asked
    body: str
    body_hash: str
    scans: tuple[Source, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    shard_bytes: int = SHARD_BYTES

    @property
    def num_sources(self) -> int:
        """How many people there are."""
        return len(self.scans) + self.asked.characters

    @property
    def versions_per_source(self) -> int:
        """How many versions each of them has."""
        return self.asked.poses * self.asked.shapes

    @property
    def num_images(self) -> int:
        """How many pictures there are if no version is given up."""
        return self.num_sources * self.versions_per_source * self.asked.images_per_version

    @property
    def versions_per_shard(self) -> int:
        """How many versions fill a shard."""
        per_image = sum(_BYTES_A_PIXEL[channel] for channel in self.asked.channels) * self.asked.size**2
        return max(1, self.shard_bytes // max(1, per_image * self.asked.images_per_version))

    @cached_property
    def shards(self) -> tuple[range, ...]:
        """Numbers of the versions in each shard; no shard has two scans, since each must be bound first."""
        own, most = self.versions_per_source, self.versions_per_shard
        spans = [range(i * own, (i + 1) * own) for i in range(len(self.scans))]
        spans.append(range(len(self.scans) * own, self.num_sources * own))
        return tuple(span[first : first + most] for span in spans for first in range(0, len(span), most))

    def images_in(self, shard: int) -> int:
        """Return how many pictures a shard has if no version is given up."""
        return len(self.shards[shard]) * self.asked.images_per_version

    def version(self, number: int) -> Version:
        """Return a version by its number, counted source by source, pose by pose."""
        source, within = divmod(number, self.versions_per_source)
        return Version(self.source(source), *divmod(within, self.asked.shapes))

    def source(self, number: int) -> Source:
        """Return a source by its number: scans, then characters."""
        if number < len(self.scans):
            return self.scans[number]
        return Source(f"character-{number - len(self.scans):06d}")

    def versions(self, shard: int) -> Iterator[Version]:
        """Yield the versions of a shard."""
        yield from (self.version(number) for number in self.shards[shard])

    def to_json(self) -> dict[str, Any]:
        """Return what pins the bytes of the dataset; neither paths nor anything of this machine."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "made_with": made_with(),
            "asked": {**asdict(self.asked), "channels": list(self.asked.channels)},
            "body": {"name": self.body, "sha256": self.body_hash},
            "sources": [{"name": source.name, "sha256": source.hashes} for source in self.scans],
            "left_out": self.left_out,
            "shard_bytes": self.shard_bytes,
        }

    @cached_property
    def digest(self) -> str:
        """A hash of all that pins the bytes: shards of another plan are not taken for this one's."""
        return hashlib.sha256(json_text(self.to_json()).encode()).hexdigest()


@lru_cache(maxsize=1)
def made_with() -> dict[str, str]:
    """Name the code that makes pictures: going on with another one would mix two sets."""
    digest = hashlib.sha256()
    for path in sorted(path for part in CODE for path in (PACKAGE / part).rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return {
        "lvdreg": __version__,
        "code": digest.hexdigest()[:16],
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Say in words which settings differ between two plans as JSON, of very many the first.

    Raises:
        TypeError, ValueError, KeyError, AttributeError: one of them is no plan.
    """
    flat_found, flat_wanted = _flat(found), _flat(wanted)
    differing = [name for name in sorted(flat_found | flat_wanted) if flat_found.get(name) != flat_wanted.get(name)]
    return [
        one_line(f"{name[:80]} {str(flat_found.get(name, 'absent'))[:80]} (now {flat_wanted.get(name, 'absent')})")
        for name in differing[:MOST_DIFFERENCES]
    ]


def _flat(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan's settings by the names that users know."""
    flat = {key: value for key, value in plan.items() if not isinstance(value, dict | list)}
    flat |= {f"--{key}": ",".join(v) if isinstance(v, list) else v for key, v in plan.get("asked", {}).items()}
    for what in ("made_with", "lifted_by", "lifted_from"):
        flat |= plan.get(what, {})
    flat |= {f"body's {key}": value for key, value in plan.get("body", {}).items()}
    flat |= {f"scan {source['name']}": _brief(source["sha256"]) for source in plan.get("sources", [])}
    return flat | {f"left-out scan {name}": reason for name, reason in plan.get("left_out", {}).items()}


def _brief(hashes: dict[str, str]) -> str:
    return "/".join(value[:8] for _, value in sorted(hashes.items()))
