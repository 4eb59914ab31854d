"""Results of a benchmark, each kept in a file of its own, so that an interrupted run goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.arrays import expect, read_npz, write_npz
from lvdreg.base.assets import PACKAGE, assets_dir
from lvdreg.base.disk import refuse_others, write_file
from lvdreg.base.errors import LvdregError
from lvdreg.base.version import __version__
from lvdreg.body import store

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class CachedResult:
    """What a method made of one scan: arrays by name (none when it failed), seconds, verdict and its reason."""

    arrays: Arrays
    seconds: float
    verdict: str
    reason: str


def kept(path: Path, key: str, compute: Callable[[], Arrays]) -> CachedResult:
    """Read an outcome from a file, or compute it and write it there.

    Args:
        path: The npz file.
        key: What the result depends on; a file that was made under another key is made anew.
        compute: Returns arrays by name, among them ``verdict`` and ``reason``; a LvdregError is kept as a failure.

    Raises:
        OutputError: a file of others is there.
    """
    found = _read(path, key)
    if found is not None:
        return found
    start = time.perf_counter()
    try:
        arrays = compute()
    except LvdregError as error:
        arrays = {"verdict": np.array("failed"), "reason": np.array(str(error))}
    seconds = time.perf_counter() - start
    _write(path, {"key": np.array(key), "seconds": np.array(seconds), **arrays})
    return _cached(arrays, seconds)


def run_key(model: str, settings: dict[str, Any]) -> str:
    """Return what all results of a run depend on besides the scan: code, model, settings, bodies and weights."""
    digest = hashlib.sha256()
    code = PACKAGE.rglob("*.py")
    folders = [assets_dir() / name for name in ("bodies", "correspondences", "priors", "weights")]
    if model.removesuffix("+d") in store.names():
        folders.append(store.models_dir() / model.removesuffix("+d"))
    assets = (path for folder in folders for path in folder.glob("*") if path.is_file())
    for path in (*sorted(code), *sorted(assets)):
        digest.update(path.name.encode() + path.read_bytes())
    return json.dumps([__version__, model, {k: repr(v) for k, v in sorted(settings.items())}, digest.hexdigest()])


def _write(path: Path, contents: dict[str, Any]) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:
            write_npz(file, contents)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, write)


def _read(path: Path, key: str) -> CachedResult | None:
    arrays = _arrays(path)
    refuse_others(path, lambda _: arrays is not None)
    if arrays is None:
        return None
    seconds, found = float(arrays.pop("seconds")), str(arrays.pop("key"))
    return _cached(arrays, seconds) if found == key else None


def _arrays(path: Path) -> Arrays | None:
    """Return the arrays of a kept result; None where there is none, or something else."""
    try:
        arrays = read_npz(path)
        for name, kind in {"key": "U", "seconds": "f", "verdict": "U", "reason": "U"}.items():
            expect(arrays, name, kind, ())
    except (OSError, ValueError):
        return None
    return arrays


def _cached(arrays: Arrays, seconds: float) -> CachedResult:
    data = {name: array for name, array in arrays.items() if name not in ("verdict", "reason")}
    return CachedResult(data, seconds, str(arrays["verdict"]), str(arrays["reason"]))
