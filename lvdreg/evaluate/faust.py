"""FAUST: real scans whose true points are followed from one through the registered surfaces to another."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from lvdreg.base.errors import RegistrationError, ScanError
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.catalogue import load_body
from lvdreg.evaluate.baseline import chamfer_from_rest
from lvdreg.evaluate.cache import Arrays, CachedResult, run_key
from lvdreg.evaluate.methods import (
    BASELINE,
    OURS,
    Progress,
    arrays_of,
    folder_of,
    run_files,
    spread,
    verdict_note,
    words_of,
)
from lvdreg.evaluate.regions import RegionTable, region_table, regions_of
from lvdreg.evaluate.sigma import sigma_note, sigma_quality
from lvdreg.evaluate.table import Row, Table, TextTable
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.geometry.metrics import (
    BothWays,
    Surface,
    faust_matrix,
    faust_pairs,
    faust_sigma,
    point_to_surface,
    summarise,
)
from lvdreg.pipeline.scan import register
from lvdreg.scan.model import read_scan

PAIR_FAILURE_MM = 100.0
SCAN_FAILURE_MM = 60.0
"""A scan is lost when the median of its errors to the others is above this."""
SURFACE_FAILURE_MM = 10.0
POSES_PER_PERSON = 10
"""FAUST numbers its scans person * 10 + pose."""
LAYOUTS = ((("scan", ""), ("registration", "")), (("scans", "tr_scan_"), ("registrations", "tr_reg_")))
"""Folders of scans and of their registrations, and what names begin with: short ones, and those of the download."""


def evaluate_faust(
    folder: str | Path,
    model: str = "anny+d",
    limit: int | None = None,
    out: str | Path = "out/faust",
    with_baseline: bool = True,
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Register FAUST scans and follow their true points through the registered surfaces.

    For every ordered pair of scans, ``faust`` (geometry/metrics.py) is averaged over the true points by the area around
    each; points of one side of the body are looked for off the other (``regions``). Pairs of different persons are
    "inter", two poses of one person "intra". A scan's own figure is the median of
    its pairs with all others, whichever way.

    Args:
        folder: Holds ``scan/NNN.ply`` and ``registration/NNN.ply`` in metres, NNN = person * 10 + pose; or, as it is
            downloaded, ``scans/tr_scan_NNN.ply`` and ``registrations/tr_reg_NNN.ply``.
        model: ``anny`` or ``anny+d``.
        limit: Take only so many scans, spread evenly; None = all.
        out: Where results are kept; run again to go on, remove it to start afresh.
        with_baseline: Also run the fit without correspondences.
        progress: Called after each scan.
        settings: Passed to ``register`` for every scan alike.

    Raises:
        ScanError: the folder holds no pairs of scan and registration.
        RegistrationError: not two scans could be registered.
    """
    pairs = faust_scans(Path(folder), limit)
    paths = [scan for scan, _ in pairs]
    truths = [read_mesh(registration) for _, registration in pairs]
    true_points = np.stack([vertices for vertices, _ in truths])
    weights = np.stack([vertex_areas(vertices, faces) for vertices, faces in truths])
    methods: dict[str, Callable[[Path], Arrays]] = {OURS: lambda path: registered(path, model, settings)}
    if with_baseline:
        methods[BASELINE] = lambda path: chamfer_from_rest(path, model)
    rows: list[Row] = []
    notes: list[str] = []
    regions: list[TextTable] = []
    details: dict[str, Any] = {"scans": [path.stem for path in paths]}
    for name, method in methods.items():
        cached_results = run_files(paths, Path(out) / folder_of(name), run_key(model, settings), method, name, progress)
        more_rows, more_notes, details[name], by_region = _faust_figures(
            name, paths, cached_results, true_points, weights, model
        )
        rows += more_rows
        notes += more_notes
        regions += by_region
    title = f"FAUST, {len(paths)} scans, {model}"
    return RegionTable(title, tuple(rows), tuple(notes), details, tuple(regions))


def faust_scans(folder: Path, limit: int | None = None) -> list[tuple[Path, Path]]:
    """Return the scans of the folder with their registrations, in order; at most ``limit``, spread evenly.

    Raises:
        ScanError: there are none.
    """
    pairs = [
        (scan, registration)
        for (scans, own), (truths, true) in LAYOUTS
        for scan in sorted((folder / scans).glob(f"{own}*.ply"))
        if (registration := folder / truths / scan.name.replace(own, true, 1)).is_file() and number_of(scan) >= 0
    ]
    if not pairs:
        raise ScanError(
            f"expected scan/NNN.ply and registration/NNN.ply in {folder}, found none; name the FAUST folder"
        )
    return spread(pairs, limit)


def number_of(path: Path) -> int:
    """Return the number of a FAUST file, which ends its name; -1 where there is none."""
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1


def read_mesh(path: Path) -> tuple[FloatArray, IntArray]:
    """Read vertices and faces of a mesh as they are, with lvdreg's own reader and without cleaning."""
    scan = read_scan(path)
    if scan.faces is None:
        raise ScanError(f"expected a mesh, got {len(scan.points)} points without faces: {path}")
    return scan.points, scan.faces


def registered(source: Path, model: str, settings: dict[str, Any]) -> Arrays:
    """Register one scan and return what is worth keeping of it, in the scan's own frame."""
    return arrays_of(register(source, model=model, **settings))


def _faust_figures(
    name: str,
    paths: Sequence[Path],
    cached_results: Sequence[CachedResult],
    true_points: FloatArray,
    weights: FloatArray,
    model: str,
) -> tuple[list[Row], list[str], dict[str, Any], list[TextTable]]:
    """Return one method's rows, notes, details and tables by region."""
    vertices, faces = _stacked(name, cached_results)
    of = regions_of(load_body(model.removesuffix("+d")).data, faces, vertices, true_points)
    errors = faust_pairs(vertices, faces, true_points, None if of is None else of.halves)
    mean, median = faust_matrix(errors, weights)
    inter, intra = pair_masks([number_of(path) // POSES_PER_PERSON for path in paths])
    per_scan = scan_errors(mean)
    surfaces = [surface_distance(path, o) for path, o in zip(paths, cached_results, strict=True)]
    rows = [
        Row(name, "faust inter-subject, pairs", summarise(mean[inter], PAIR_FAILURE_MM)),
        Row(name, "faust intra-subject, pairs", summarise(mean[intra], PAIR_FAILURE_MM)),
        Row(name, "faust median to the others, scans", summarise(per_scan, SCAN_FAILURE_MM)),
        Row(name, "point_to_surface scan to model", summarise([s[0] for s in surfaces], SURFACE_FAILURE_MM)),
        Row(name, "point_to_surface model to scan", summarise([s[1] for s in surfaces], SURFACE_FAILURE_MM)),
    ]
    near = int((per_scan <= SCAN_FAILURE_MM).sum())
    seen = float(np.nanmean([s.seen_share for s in surfaces]))
    notes = [
        f"{name}: {near} of {len(paths)} scans have a median error to the others of at most {SCAN_FAILURE_MM:g} mm",
        f"{name}: the scans saw {seen:.1%} of the model's area (holes are excluded)",
        f"{name}: {verdict_note(cached_results)}",
    ]
    details = {
        "faust_mean_mm": mean,
        "faust_median_mm": median,
        "faust_unweighted_mean_mm": faust_matrix(errors, np.ones_like(weights))[0],
        "scan_median_mm": per_scan,
        "point_to_surface_mm": [s._asdict() for s in surfaces],
        **words_of(cached_results),
    }
    pairs = {"same person": intra, "other person": inter}
    tables = [] if of is None else [region_table(f"{name}, by region, all points alike", errors, of, pairs)]
    details["by_region"] = [asdict(table) for table in tables]
    if all("sigma_mm" in cached.arrays for cached in cached_results if "vertices" in cached.arrays):
        sigma = _stacked_sigma(vertices, cached_results)
        expected = faust_sigma(sigma, vertices, faces, true_points, None if of is None else of.halves)
        details["sigma"] = {what: _pairs_sigma(errors, expected, mask) for what, mask in pairs.items()}
        notes += [f"{name}: {sigma_note(what, quality)}" for what, quality in details["sigma"].items() if quality]
    return [row for row in rows if row.summary.count], notes, details, tables


def _stacked(name: str, cached_results: Sequence[CachedResult]) -> tuple[FloatArray, IntArray]:
    """Return all surfaces (S, V, 3), NaN where there is none, and their faces."""
    good = [cached.arrays for cached in cached_results if "vertices" in cached.arrays]
    if len(good) < 2:
        reason = cached_results[0].reason
        raise RegistrationError(f"{name}: expected at least two registered scans, got {len(good)}; the first: {reason}")
    lost = np.full_like(good[0]["vertices"], np.nan)
    return np.stack([cached.arrays.get("vertices", lost) for cached in cached_results]), good[0]["faces"]


def _stacked_sigma(vertices: FloatArray, cached_results: Sequence[CachedResult]) -> FloatArray:
    """Return the sigma of all surfaces (S, V), mm; NaN where there is none."""
    lost = np.full(vertices.shape[1], np.nan)
    return np.stack([cached.arrays.get("sigma_mm", lost) for cached in cached_results])


def _pairs_sigma(
    errors: Float32[np.ndarray, "S S P"], expected: Float32[np.ndarray, "S S P"], mask: NDArray[np.bool_]
) -> dict[str, float]:
    """Compare what pairs should be off by with what they are; nothing where there is no pair."""
    known = list(zip(*np.nonzero(mask & np.isfinite(errors).all(2)), strict=True))
    return (
        sigma_quality([(expected[a, b].astype(float), errors[a, b].astype(float)) for a, b in known]) if known else {}
    )


def pair_masks(persons: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which ordered pairs (S, S) are of two persons, and which are two scans of one."""
    same = np.equal.outer(persons, persons)
    return ~same, same & ~np.eye(len(persons), dtype=bool)


def scan_errors(pair_mm: FloatArray) -> FloatArray:
    """Return each scan's median error (S,) over its pairs (S, S) with all others, both ways; NaN for a missing scan."""
    errors = np.full(len(pair_mm), np.nan)
    for i in range(len(pair_mm)):
        pairs = np.concatenate([pair_mm[i], pair_mm[:, i]])
        if np.isfinite(pairs).any():
            errors[i] = np.nanmedian(pairs)
    return errors


def surface_distance(path: Path, cached: CachedResult) -> BothWays:
    """Return distances between a scan and its surface.

    They are measured against the file itself, which is in metres, not against the cleaned scan that was registered.
    """
    if "vertices" not in cached.arrays:
        return BothWays(math.nan, math.nan, math.nan)
    return point_to_surface(Surface(*read_mesh(path)), Surface(cached.arrays["vertices"], cached.arrays["faces"]))
