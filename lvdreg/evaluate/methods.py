"""What every benchmark does with a method: apply it to all scans, keep what it made of them, and say how it went."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lvdreg.base.provenance import sha256_of
from lvdreg.evaluate.cache import Arrays, CachedResult, kept
from lvdreg.result.scan import Registration

Progress = Callable[[int, int, str], None]
"""Called after each scan with how many are done, how many there are, and what was done."""
ItemT = TypeVar("ItemT")
OURS, BASELINE = "lvdreg", "chamfer from rest"


def arrays_of(result: Registration) -> Arrays:
    """Return what is worth keeping of a registration, in the scan's own frame."""
    return {
        "vertices": result.vertices,
        "body_vertices": result.body_vertices,
        "faces": result.faces,
        "joints": result.joints,
        "sigma_mm": result.sigma_mm,
        "descent_sigma_mm": result.descent_sigma_mm,
        "refined_sigma_mm": result.body_sigma_mm,
        "unit": np.array(result.unit),
        "verdict": np.array(result.verdict),
        "reason": np.array(result.reason),
        **({} if result.side is None else {"side": np.array(result.side)}),
    }


def run_files(
    paths: Sequence[Path],
    out: Path,
    key: str,
    method: Callable[[Path], Arrays],
    name: str,
    progress: Progress | None,
) -> list[CachedResult]:
    """Apply a method to all files, in order.

    Args:
        paths: The files.
        out: Where results are kept, one file each.
        key: What all results depend on besides the file.
        method: What makes a result of a file.
        name: How the method is called.
        progress: Called after each file.
    """
    cached_results = []
    for i, path in enumerate(paths):
        cached_results.append(kept(out / f"{path.stem}.npz", f"{key} {sha256_of(path)}", partial(method, path)))
        if progress is not None:
            progress(i + 1, len(paths), f"{name} {path.stem}")
    return cached_results


def spread(items: Sequence[ItemT], limit: int | None) -> list[ItemT]:
    """Return at most so many of the items, spread evenly over them, the first and the last among them."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[round(i * (len(items) - 1) / max(limit - 1, 1))] for i in range(limit)]


def folder_of(method: str) -> str:
    """Return the name of the folder in which a method's results are kept."""
    return method.replace(" ", "_")


def verdict_note(cached_results: Sequence[CachedResult]) -> str:
    """Say how many verdicts there were of each kind, and how long a scan took."""
    words = Counter(cached.verdict for cached in cached_results)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
    return f"verdicts {counts}; median {np.median([cached.seconds for cached in cached_results]):.1f} s a scan"


def words_of(cached_results: Sequence[CachedResult]) -> dict[str, Any]:
    """Return seconds, verdicts and reasons of all results, for the details of a table."""
    return {
        "seconds": [cached.seconds for cached in cached_results],
        "verdicts": [cached.verdict for cached in cached_results],
        "reasons": [cached.reason for cached in cached_results],
    }
