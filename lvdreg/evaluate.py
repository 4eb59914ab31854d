"""Benchmarks: real scans with known correspondence (FAUST) and fresh synthetic scans with known bodies.

Both register every scan with one setting, keep each result (outcomes.py), and end in a table that names what was
measured, in millimetres. Beside lvdreg stands a baseline that anyone could run: the same refinement, started from the
rest pose, without a network and without correspondences (baseline.py).
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from lvdreg.assess import in_hand
from lvdreg.baseline import chamfer_from_rest
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.config import RegisterConfig
from lvdreg.errors import RegistrationError, ScanError
from lvdreg.explain import look, turns_of
from lvdreg.frames import transform_points
from lvdreg.geometry import vertex_areas
from lvdreg.metrics import (
    BothWays,
    Surface,
    body_to_body,
    corresponding_vertex,
    corresponding_vertex_errors,
    faust_matrix,
    joint,
    point_to_surface,
    summarise,
)
from lvdreg.normalise import body_boxes, up_candidates
from lvdreg.outcomes import Arrays, Outcome, kept, run_key
from lvdreg.register import register
from lvdreg.registration import Registration
from lvdreg.scan import Scan, clean_scan, oriented_points, read_scan, scan_from_arrays
from lvdreg.synth.stream import SynthStream
from lvdreg.table import Row, Table
from lvdreg.uncertainty import land
from lvdreg.weights import voxel_weights

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Progress = Callable[[int, int, str], None]
"""Called after each scan with how many are done, how many there are, and what was done."""

OURS, BASELINE = "lvdreg", "chamfer from rest"
PAIR_FAILURE_MM = 100.0
SCAN_FAILURE_MM = 60.0
"""A scan is lost when the median of its errors to the others is above this."""
SURFACE_FAILURE_MM = 10.0
VERTEX_FAILURE_MM = 100.0
POSES_PER_PERSON = 10
"""FAUST numbers its scans person * 10 + pose."""
SYNTHETIC_POINTS = 30_000


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

    For every ordered pair of scans, ``faust`` (metrics.py) is averaged over the true points by the area around each.
    Pairs of different persons are "inter", two poses of one person "intra". A scan's own figure is the median of its
    pairs with all others, whichever way.

    Args:
        folder: Holds ``scan/NNN.ply`` and ``registration/NNN.ply`` in metres, NNN = person * 10 + pose.
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
    paths = faust_scans(Path(folder), limit)
    truths = [read_mesh(Path(folder) / "registration" / path.name) for path in paths]
    true_points = np.stack([vertices for vertices, _ in truths])
    weights = np.stack([vertex_areas(vertices, faces) for vertices, faces in truths])
    methods: dict[str, Callable[[Path], Arrays]] = {OURS: lambda path: registered(path, model, settings)}
    if with_baseline:
        methods[BASELINE] = lambda path: chamfer_from_rest(path, model)
    rows: list[Row] = []
    notes: list[str] = []
    details: dict[str, Any] = {"scans": [path.stem for path in paths]}
    for name, method in methods.items():
        outcomes = _run_files(paths, Path(out) / _folder(name), run_key(model, settings), method, name, progress)
        more_rows, more_notes, details[name] = _faust_figures(name, paths, outcomes, true_points, weights)
        rows += more_rows
        notes += more_notes
    return Table(f"FAUST, {len(paths)} scans, {model}", tuple(rows), tuple(notes), details)


def faust_scans(folder: Path, limit: int | None = None) -> list[Path]:
    """Return the scans of the folder that have a registration, in order; at most ``limit``, spread evenly.

    Raises:
        ScanError: there are none.
    """
    paths = [p for p in sorted((folder / "scan").glob("*.ply")) if (folder / "registration" / p.name).is_file()]
    if not paths:
        raise ScanError(
            f"expected scan/NNN.ply and registration/NNN.ply in {folder}, found none; name the FAUST folder"
        )
    if limit is None or limit >= len(paths):
        return paths
    return [paths[round(i * (len(paths) - 1) / max(limit - 1, 1))] for i in range(limit)]


def read_mesh(path: Path) -> tuple[FloatArray, IntArray]:
    """Read vertices and faces of a mesh as they are, with lvdreg's own reader and without cleaning."""
    scan = read_scan(path)
    if scan.faces is None:
        raise ScanError(f"expected a mesh, got {len(scan.points)} points without faces: {path}")
    return scan.points, scan.faces


def registered(source: Path, model: str, settings: dict[str, Any]) -> Arrays:
    """Register one scan and return what is worth keeping of it, in the scan's own frame."""
    result = register(source, model=model, **settings)
    return {
        "vertices": result.vertices,
        "body_vertices": result.body_vertices,
        "faces": result.faces,
        "sigma_mm": result.sigma_mm,
        "verdict": np.array(result.verdict),
        "reason": np.array(result.reason),
    }


def registered_in_steps(scan: Scan, model: str, settings: dict[str, Any]) -> Arrays:
    """Register one scan; returns what ``registered`` does, the joints, and the vertices after the descent alone."""
    result = register(scan, model=model, **settings)
    return {
        "vertices": result.vertices,
        "body_vertices": result.body_vertices,
        "joints": _joints(result, load_body(model.removesuffix("+d"))),
        "descent_vertices": descended(scan, model, **settings),
        "sigma_mm": result.sigma_mm,
        "verdict": np.array(result.verdict),
        "reason": np.array(result.reason),
    }


def descended(
    scan: Scan,
    model: str,
    *,
    up: str = "auto",
    device: str = "cpu",
    seed: int = 0,
    config: RegisterConfig | None = None,
    **_: Any,
) -> FloatArray:
    """Return the vertices (V, 3) that the fit is given, scan frame: the first stages of ``register`` once more."""
    config = config or RegisterConfig()
    body = model.removesuffix("+d")
    net = voxel_weights(body, device).net
    points, _normals = oriented_points(clean_scan(scan, config.clean), config.clean.num_points, seed)
    boxes = body_boxes(points, up_candidates(up), net.config.voxel.num_points)
    views = look(net, points, boxes, turns_of(config.views), config.views, config.descent)
    vertices_unit, _spread = land(net.field, views, load_body(body).faces, config.uncertainty, seed)
    T_scan_unit = np.asarray(np.linalg.inv(views.T_unit_scan), np.float64)
    return transform_points(T_scan_unit, vertices_unit.cpu().double().numpy())


@torch.no_grad()
def _joints(result: Registration, body: BodyModel) -> FloatArray:
    """Return the joints (J, 3) of a result, scan frame."""
    # SMPL-H's order: the body's joints, then each hand's.
    parts = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose")
    pose = torch.from_numpy(np.concatenate([result.params[part].reshape(-1, 3) for part in parts]))
    params = BodyParams(torch.from_numpy(result.params["betas"]), pose, torch.from_numpy(result.params["transl"]))
    joints: torch.Tensor = body(params).joints
    return transform_points(result.T_scan_model, joints.double().numpy())


def _run_files(
    paths: Sequence[Path],
    out: Path,
    key: str,
    method: Callable[[Path], Arrays],
    name: str,
    progress: Progress | None,
) -> list[Outcome]:
    """Apply a method to all files, in order."""
    outcomes = []
    for i, path in enumerate(paths):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        outcomes.append(kept(out / f"{path.stem}.npz", f"{key} {digest}", partial(method, path)))
        if progress is not None:
            progress(i + 1, len(paths), f"{name} {path.stem}")
    return outcomes


def _folder(method: str) -> str:
    return method.replace(" ", "_")


def _faust_figures(
    name: str, paths: Sequence[Path], outcomes: Sequence[Outcome], true_points: FloatArray, weights: FloatArray
) -> tuple[list[Row], list[str], dict[str, Any]]:
    """Return one method's rows, notes and details."""
    vertices, faces = _stacked(name, outcomes)
    mean, median = faust_matrix(vertices, faces, true_points, weights)
    inter, intra = pair_masks([int(path.stem) // POSES_PER_PERSON for path in paths])
    per_scan = scan_errors(mean)
    surfaces = [_surface_distance(path, o) for path, o in zip(paths, outcomes, strict=True)]
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
        f"{name}: {_verdicts(outcomes)}",
    ]
    details = {
        "faust_mean_mm": mean,
        "faust_median_mm": median,
        "faust_unweighted_mean_mm": faust_matrix(vertices, faces, true_points, np.ones_like(weights))[0],
        "scan_median_mm": per_scan,
        "point_to_surface_mm": [s._asdict() for s in surfaces],
        **_words(outcomes),
    }
    return [row for row in rows if row.summary.count], notes, details


def _stacked(name: str, outcomes: Sequence[Outcome]) -> tuple[FloatArray, IntArray]:
    """Return all surfaces (S, V, 3), NaN where there is none, and their faces."""
    good = [outcome.arrays for outcome in outcomes if "vertices" in outcome.arrays]
    if len(good) < 2:
        reason = outcomes[0].reason
        raise RegistrationError(f"{name}: expected at least two registered scans, got {len(good)}; the first: {reason}")
    lost = np.full_like(good[0]["vertices"], np.nan)
    return np.stack([outcome.arrays.get("vertices", lost) for outcome in outcomes]), good[0]["faces"]


def _verdicts(outcomes: Sequence[Outcome]) -> str:
    words = Counter(outcome.verdict for outcome in outcomes)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
    return f"verdicts {counts}; median {np.median([outcome.seconds for outcome in outcomes]):.1f} s a scan"


def _words(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "seconds": [outcome.seconds for outcome in outcomes],
        "verdicts": [outcome.verdict for outcome in outcomes],
        "reasons": [outcome.reason for outcome in outcomes],
    }


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


def _surface_distance(path: Path, outcome: Outcome) -> BothWays:
    """Measure against the file itself, which is in metres, not against the cleaned scan that was registered."""
    if "vertices" not in outcome.arrays:
        return BothWays(math.nan, math.nan, math.nan)
    return point_to_surface(Surface(*read_mesh(path)), Surface(outcome.arrays["vertices"], outcome.arrays["faces"]))


def evaluate_synthetic(
    num: int = 200,
    seed: int = 0,
    model: str = "anny+d",
    out: str | Path = "out/synthetic",
    with_baseline: bool = True,
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Register fresh synthetic scans, clothed and noisy, and compare with the naked bodies they were made from.

    The scans are drawn from seeds that training never uses. ``corresponding_vertex`` is measured after the descent and,
    for the body under the clothes, after refinement; the uncertainty is compared with both errors, vertex by vertex.

    Args:
        num: How many scans.
        seed: Which set of scans.
        model: ``anny`` or ``anny+d``.
        out: Where results are kept; run again to go on, remove it to start afresh.
        with_baseline: Also run the fit without correspondences, which is told the unit and the up axis.
        progress: Called after each scan.
        settings: Passed to ``register`` for every scan alike.

    Raises:
        RegistrationError: no scan could be registered.
    """
    body = load_body(model.removesuffix("+d"))
    methods: dict[str, Callable[[Scan], Arrays]] = {OURS: lambda scan: registered_in_steps(scan, model, settings)}
    if with_baseline:
        methods[BASELINE] = lambda scan: chamfer_from_rest(scan, model)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in methods}
    errors: dict[str, list[Arrays]] = {name: [] for name in methods}
    key = run_key(model, settings)
    for i in range(num):
        scan, vertices, joints = synthetic_scan(model, seed, i)
        digest = hashlib.sha256(scan.points.tobytes()).hexdigest()
        for name, method in methods.items():
            path = Path(out) / _folder(name) / f"{scan.name}.npz"
            outcomes[name].append(kept(path, f"{key} {digest}", partial(method, scan)))
            errors[name].append(_synthetic_errors(outcomes[name][-1], vertices, joints, body))
        if progress is not None:
            progress(i + 1, num, scan.name)
    return _synthetic_table(f"Synthetic scans, {num}, seed {seed}, {model}", errors, outcomes)


def synthetic_scan(model: str, seed: int, index: int) -> tuple[Scan, FloatArray, FloatArray]:
    """Draw one synthetic scan with its naked body's vertices (V, 3) and joints (J, 3), all in metres, in one frame."""
    stream = _stream(model.removesuffix("+d"))
    # Training counts its seeds up from zero: a hash is nowhere near.
    digest = hashlib.sha256(f"evaluate synthetic {seed} {index}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    sample = stream.scans(1, SYNTHETIC_POINTS, generator)
    valid = sample.valid[0]
    points, normals = (x[0][valid].double().numpy() for x in (sample.points, sample.normals))
    known = normals if normals.any() else None
    scan = scan_from_arrays(points, normals=known, name=f"synthetic_{seed}_{index:04d}")
    return scan, sample.vertices[0].double().numpy(), sample.joints[0].double().numpy()


@lru_cache(maxsize=2)
def _stream(name: str) -> SynthStream:
    return SynthStream(load_body(name))


SYNTHETIC_METRICS = {
    "descent": "corresponding_vertex after descent",
    "refined": "corresponding_vertex after refinement",
    "joint": "joint after refinement, all",
    "body_joint": "joint after refinement, without fingers",
    "body_to_body": "body_to_body after refinement",
}


def _synthetic_errors(outcome: Outcome, vertices: FloatArray, joints: FloatArray, body: BodyModel) -> Arrays:
    """Return what one result misses by, mm: means by the names in ``SYNTHETIC_METRICS``, and arrays over vertices."""
    found = outcome.arrays
    if "body_vertices" not in found:
        return {name: np.array(np.nan) for name in SYNTHETIC_METRICS}
    under, faces = found["body_vertices"], body.faces.cpu().numpy()
    # Three joints in five are fingers': by themselves they would decide the mean over all.
    is_body = np.array([not (in_hand(name, "left") or in_hand(name, "right")) for name in body.joint_names])
    errors = {
        "refined_mm": corresponding_vertex_errors(under, vertices),
        "refined": np.array(corresponding_vertex(under, vertices, faces)),
        "joint": np.array(joint(found["joints"], joints)),
        "body_joint": np.array(joint(found["joints"][is_body], joints[is_body])),
        "body_to_body": np.array(body_to_body(under, vertices, faces, faces)),
    }
    if "descent_vertices" in found:
        errors["descent_mm"] = corresponding_vertex_errors(found["descent_vertices"], vertices)
        errors["descent"] = np.array(corresponding_vertex(found["descent_vertices"], vertices, faces))
        errors["sigma_mm"] = found["sigma_mm"]
    return errors


def _synthetic_table(title: str, errors: dict[str, list[Arrays]], outcomes: dict[str, list[Outcome]]) -> Table:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for name, scans in errors.items():
        values = {metric: [float(e[metric]) for e in scans if metric in e] for metric in SYNTHETIC_METRICS}
        # The baseline has no descent: its lost scans must not make a row of that name.
        values = {metric: found for metric, found in values.items() if np.isfinite(found).any()}
        rows += [Row(name, SYNTHETIC_METRICS[m], summarise(v, VERTEX_FAILURE_MM)) for m, v in values.items()]
        details[name] = {"errors_mm": values, **_words(outcomes[name])}
    known = [e for e in errors[OURS] if "sigma_mm" in e]
    if not known:
        raise RegistrationError(
            f"expected at least one registered scan, got none; the first: {outcomes[OURS][0].reason}"
        )
    steps = ("descent", "refined")
    details["sigma"] = {step: sigma_quality([(e["sigma_mm"], e[f"{step}_mm"]) for e in known]) for step in steps}
    notes = [f"{name}: {_verdicts(found)}" for name, found in outcomes.items()]
    notes += [_sigma_note(step, quality) for step, quality in details["sigma"].items()]
    return Table(title, tuple(rows), tuple(notes), details)


def _sigma_note(step: str, quality: dict[str, float]) -> str:
    return (
        f"sigma against the error, {step}: Spearman {quality['spearman']:.2f} over all vertices, "
        f"{quality['spearman_within_scan']:.2f} within a scan (median); "
        f"{quality['within_1_sigma']:.0%} within one sigma, {quality['within_2_sigma']:.0%} within two"
    )


def sigma_quality(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> dict[str, float]:
    """Compare sigma with the true error, vertex by vertex.

    Args:
        pairs: Sigma (V,) and error (V,) of each scan, same unit.

    Returns:
        ``spearman`` over the vertices of all scans, ``spearman_within_scan`` (median over scans), and the shares of
        vertices whose error is ``within_1_sigma`` and ``within_2_sigma``. Sigma is calibrated when the first share is
        0.68 (uncertainty.py).
    """
    sigma, error = (np.concatenate([pair[i] for pair in pairs]) for i in range(2))
    within = [float(spearmanr(s, e).statistic) for s, e in pairs]
    return {
        "spearman": float(spearmanr(sigma, error).statistic),
        "spearman_within_scan": float(np.median(within)),
        "within_1_sigma": float((error <= sigma).mean()),
        "within_2_sigma": float((error <= 2 * sigma).mean()),
    }
