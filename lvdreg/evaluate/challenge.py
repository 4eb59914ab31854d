"""The file that FAUST's challenge takes: where each vertex of one test scan lies on another, pair by pair."""

import zipfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lvdreg.base.arrays import member_names
from lvdreg.base.disk import refuse_others, write_file
from lvdreg.base.errors import RegistrationError, ScanError
from lvdreg.base.files import read_text
from lvdreg.base.shapes import FloatArray
from lvdreg.evaluate.cache import CachedResult, run_key
from lvdreg.evaluate.faust import SURFACE_FAILURE_MM, number_of, read_mesh, registered, surface_distance
from lvdreg.evaluate.methods import OURS, Progress, folder_of, run_files, verdict_note, words_of
from lvdreg.evaluate.table import Row, Table
from lvdreg.geometry.metrics import carry, summarise

LAYOUTS = (("scan", "*.ply"), ("scans", "test_scan_*.ply"))
"""Folders of scans and their names: short ones, and those of the download."""


def evaluate_challenge(
    folder: str | Path,
    pairs: str | Path,
    model: str = "anny+d",
    out: str | Path = "out/faust",
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Register the scans that FAUST's challenge names, and write the zip that is uploaded, beside the results.

    It holds for each pair ``NNN_MMM.txt``: a line for each vertex of the first scan with its place on the second, which
    was carried there through the two registered surfaces. The truth is the challenge's own: what is returned are
    distances between scans and surfaces.

    Args:
        folder: Holds ``scans/test_scan_NNN.ply`` or ``scan/NNN.ply``, in metres.
        pairs: ``inter_challenge.txt`` or ``intra_challenge.txt``: a pair ``NNN_MMM`` a line. The zip is named after it.
        model: ``anny`` or ``anny+d``.
        out: Where results are kept, and the zip; run again to go on.
        progress: Called after each scan.
        settings: Passed to ``register`` for every scan alike.

    Raises:
        ScanError: the pairs cannot be read, or a scan is not there.
        RegistrationError: a scan could not be registered; the challenge takes all pairs or none.
        OutputError: the zip's name is taken by a file of others.
    """
    named = read_pairs(Path(pairs))
    numbers = sorted({number for pair in named for number in pair})
    paths = [_scan(Path(folder), number) for number in numbers]
    upload = Path(out) / f"{Path(pairs).stem}.zip"
    refuse_others(upload, _is_upload)
    method = partial(registered, model=model, settings=settings)
    results = run_files(paths, Path(out) / folder_of(OURS), run_key(model, settings), method, OURS, progress)
    for path, found in zip(paths, results, strict=True):
        if "vertices" not in found.arrays:
            raise RegistrationError(f"{path}: {found.reason}; the challenge takes all pairs or none")
    at = {number: (path, found) for number, path, found in zip(numbers, paths, results, strict=True)}
    write_file(upload, lambda part: _write(part, ((a, b, matches(*at[a], at[b][1])) for a, b in named)))
    surfaces = [surface_distance(path, found) for path, found in zip(paths, results, strict=True)]
    rows = tuple(
        Row(OURS, f"point_to_surface {words}", summarise([s[way] for s in surfaces], SURFACE_FAILURE_MM))
        for way, words in enumerate(("scan to model", "model to scan"))
    )
    notes = (f"{upload}: {len(named)} pairs, to be uploaded", f"{OURS}: {verdict_note(results)}")
    return Table(f"FAUST challenge, {len(paths)} scans, {model}", rows, notes, words_of(results))


def read_pairs(path: Path) -> list[tuple[int, int]]:
    """Read a list of pairs of the challenge, ``NNN_MMM`` a line.

    Raises:
        ScanError: it is something else.
    """
    try:
        pairs = [tuple(int(word) for word in line.split("_")) for line in read_text(path).split()]
    except (OSError, ValueError) as error:
        raise ScanError(f"{path}: expected pairs of scans such as 006_021, one a line ({error})") from None
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ScanError(f"{path}: expected pairs of scans such as 006_021, one a line")
    return [(pair[0], pair[1]) for pair in pairs]


def matches(path: Path, first: CachedResult, second: CachedResult) -> FloatArray:
    """Return where the vertices (N, 3) of a scan lie on another, given the registered surfaces of both."""
    points = read_mesh(path)[0].astype(np.float64)
    return carry(points, first.arrays["vertices"], second.arrays["vertices"], first.arrays["faces"])


def _scan(folder: Path, number: int) -> Path:
    for name, pattern in LAYOUTS:
        found = [path for path in sorted((folder / name).glob(pattern)) if number_of(path) == number]
        if found:
            return found[0]
    raise ScanError(f"expected scans/test_scan_{number:03d}.ply in {folder}, which the list of pairs names")


def _write(path: Path, pairs: Iterable[tuple[int, int, FloatArray]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for a, b, places in pairs:
            with archive.open(f"{a:03d}_{b:03d}.txt", "w") as file:
                np.savetxt(file, places, fmt="%.6f")


def _is_upload(path: Path) -> bool:
    """Whether a file is a zip of nothing but pairs."""
    try:
        names = member_names(path)
    except (OSError, ValueError):
        return False
    return all(len(parts := Path(name).stem.split("_")) == 2 and "".join(parts).isdecimal() for name in names)
