"""Which inputs need not be registered again: content, settings and everything that was loaded are the same."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import BodyError
from lvdreg.base.provenance import sha256_of
from lvdreg.base.version import __version__
from lvdreg.batch.summary import Outcome


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
        flat = (each for option in options.values() for each in (option if isinstance(option, list) else [option]))
        given = (Path(option) for option in flat if isinstance(option, str | Path))
        contents = [_sha256_now(path) for path in (source, *given) if path.is_file()]
        if not source.is_file():
            return None
    except (OSError, ValueError):
        return None
    words = json.dumps(plain([__version__, how, options, contents]), sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def is_finished(outcome: Outcome, key: str | None, source: Path, out: Path) -> bool:
    """Whether an earlier run has left the very result that this one would make, and it is still whole.

    Args:
        outcome: What the earlier run has noted.
        key: ``run_key`` of now.
        source: The input.
        out: Output folder.
    """
    from lvdreg.result.files import owned_names, read_report

    if key is None or outcome.key != key or outcome.folder is None:
        return False
    folder = out / outcome.folder
    report = read_report(folder)
    if report is None or not set(report["files"]) <= owned_names(folder):
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
