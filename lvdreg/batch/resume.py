"""Which inputs need not be registered again: content, settings and everything that was loaded are the same."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from lvdreg.base.assets import assets_dir, models_dir
from lvdreg.base.errors import BodyError
from lvdreg.base.provenance import looks_of, sha256_of
from lvdreg.base.version import __version__
from lvdreg.batch.remote import Look, Source
from lvdreg.batch.store import Store
from lvdreg.batch.table import Outcome

YOUNG_NS = 2_000_000_000
"""A file changed so lately may change again and keep its time and size: clocks of file systems are that coarse."""


def run_key(source: Path, how: str, options: dict[str, Any]) -> str | None:
    """Return what a result depends on, hashed; None where the input cannot be read.

    Args:
        source: The input; its content counts.
        how: What registers it.
        options: Settings, the model among them; of those that name files, such as a mask, the content counts, too, and
            of those in lists.
    """
    from lvdreg.result.files import plain

    try:
        contents = [_sha256_now(path) for path in (source, *_named(options)) if path.is_file()]
        if not source.is_file():
            return None
    except (OSError, ValueError):
        return None
    return _hashed(json.dumps(plain([__version__, how, options, contents]), sort_keys=True))


def _named(options: dict[str, Any]) -> Iterator[Path]:
    """Yield what may be files among options."""
    flat = (each for option in options.values() for each in (option if isinstance(option, list) else [option]))
    return (Path(option) for option in flat if isinstance(option, str | Path))


def common_stamp(how: str, options: dict[str, Any]) -> str:
    """Return what goes into the stamps of all inputs of a run: settings, version, and times and sizes of files.

    Args:
        how: What registers them.
        options: Settings; files and folders that they name count, too.
    """
    from lvdreg.result.files import plain

    files = list(looks_of((assets_dir() / "bodies", assets_dir() / "weights", models_dir())))
    for path in _named(options):
        inside = [entry.path for entry in os.scandir(path) if entry.is_file()] if os.path.isdir(path) else [path]
        files += looks_of(sorted(map(os.fspath, inside)))
    return _hashed(json.dumps(plain([__version__, how, options, files]), sort_keys=True))


def look(source: Source) -> Look | None:
    """Return size and time of change, nanoseconds, of an input, or what a store says; None if it is not there."""
    if not isinstance(source, Path):
        try:
            return source.look()
        except OSError:
            return None
    try:
        about = source.stat()
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns


def settled_look(source: Source) -> Look | None:
    """Return ``look``; None if the input was changed just now, by this machine's clock, or later: it may go on so.

    Where a store names contents, they tell.
    """
    seen = look(source)
    return None if seen is None or (len(seen) == 2 and time.time_ns() - seen[1] < YOUNG_NS) else seen


def stamp(common: str, seen: Look | None, looks: list[tuple[Any, ...]]) -> str | None:
    """Return by what an input and its result are known without being read: times and sizes, hashed.

    Args:
        common: ``common_stamp``.
        seen: ``look`` of the input.
        looks: ``Store.looks`` of its result.

    Returns:
        None where one is not there.
    """
    return None if seen is None or not looks else _hashed(f"{common} {seen} {looks}")


def _hashed(words: str) -> str:
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()


def is_finished(outcome: Outcome, key: str | None, source: Path, store: Store) -> bool:
    """Whether an earlier run has left the very result that this one would make, and it is still whole.

    Args:
        outcome: What the earlier run has noted.
        key: ``run_key`` of now.
        source: The input, on this machine.
        store: Where its result is.
    """
    if key is None or outcome.key != key or outcome.folder is None or not outcome.registered:
        return False
    report = store.report(outcome.folder)
    if report is None or not set(report["files"]) <= store.owned(outcome.folder):
        return False
    origin = report.get("input")
    if not isinstance(origin, dict) or origin.get("sha256") != _sha256_now(source):
        return False
    assets = report.get("assets", {})
    return isinstance(assets, dict) and all(_is_current(name, digest, source) for name, digest in assets.items())


def _is_current(name: str, digest: object, source: Path) -> bool:
    """Whether a file that had a part in a result is still what it was; unknown ones count as such: ``run_key``'s."""
    from lvdreg.body import store

    folder, _, rest = name.partition("/")
    places = {"bodies": assets_dir() / name, "weights": assets_dir() / name, "input": source.parent / rest}
    places["models"] = store.models_dir() / rest
    path = places.get(folder)
    if path is None:
        return True
    try:
        return _sha256_now(path) == digest
    except (OSError, ValueError):  # ValueError: no name of a file at all
        pass
    try:
        # Of an added model the file itself is not kept, but what it was.
        return folder == "models" and store.entry(Path(rest).parent.name).sha256 == digest
    except BodyError:
        return False


def _sha256_now(path: Path) -> str:
    about = path.stat()
    return _sha256(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=64)
def _sha256(path: Path, changed: int, size: int) -> str:
    """Hash a file once for every time it ``changed``."""
    return sha256_of(path)
