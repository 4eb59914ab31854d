"""Measures of synthetic people whose girths are known, naked and dressed, scanned from all sides."""

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvdreg.base.errors import RegistrationError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.evaluate.cache import Arrays, CachedResult, kept, run_key
from lvdreg.evaluate.methods import Progress
from lvdreg.evaluate.table import Table, TextTable
from lvdreg.measure.measured import Measured, measures_of, take
from lvdreg.measure.model import standing_model
from lvdreg.measure.readings import StandingBody
from lvdreg.measure.shape import shape_under
from lvdreg.measure.subject import SCAN_TO_BODY, SCAN_TO_SURFACE
from lvdreg.pipeline.scan import register
from lvdreg.result.scan import Registration
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.synth.clothes.layers import Wardrobe
from lvdreg.synth.people.gaits import draw_pose
from lvdreg.synth.scanner import SynthConfig, scan_points
from lvdreg.synth.scans import draw_betas
from lvdreg.synth.surface import Outer

POINTS = 30_000
SCANNER = SynthConfig(
    view_probabilities=(0.3, 0.7, 0.0, 0.0), crop_probability=0.0, sparse_probability=0.0, rough_probability=0.0
)
"""People who are measured stand in a scanner that sees all of them; otherwise it is that of the other benchmarks."""
DRESSED = replace(SCANNER, outfit_probabilities=(0.0, 0.15, 0.47, 0.24, 0.14))
"""Nobody of the dressed wears nothing: tight, light, heavy clothes and gowns."""
BETAS, MOVED = "betas", "displacements"
WEAR = ("naked, --bare", "naked", "dressed")


@dataclass(frozen=True)
class MeasuresTable(Table):
    """A table of errors by kind of measure and by measure."""

    tables: tuple[TextTable, ...] = ()

    def shown(self) -> tuple[TextTable, ...]:
        """Return what is shown of it, from top to bottom."""
        return self.tables


def evaluate_measures(
    num: int = 100,
    seed: int = 0,
    model: str = "anny+d",
    out: str | Path = "out/measures",
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Register so many synthetic people, naked and dressed, and compare their measures with those of the true bodies.

    They are people of all builds, children among them, in any upright pose.

    Args:
        num: How many people; each is scanned naked and dressed.
        seed: Which set; factors of sigma were chosen on seed 1.
        model: ``anny`` or ``anny+d``.
        out: Where results are kept; run again to go on.
        progress: Called after each scan.
        settings: Passed to ``register`` for every scan alike.

    Raises:
        RegistrationError: nobody could be registered.
    """
    body = load_body(model.removesuffix("+d"))
    wardrobe, key = Wardrobe(body, DRESSED), run_key(model, settings)
    found: dict[str, list[tuple[FloatArray, FloatArray, str]]] = {wear: [] for wear in WEAR}
    for i in range(num):
        for wear in ("naked", "dressed"):
            scan, betas = draw_measured(body, seed, i, wardrobe if wear == "dressed" else None)
            digest = hashlib.sha256(scan.points.tobytes()).hexdigest()
            compute = partial(_registered, scan, model, settings)
            cached = kept(Path(out) / wear / f"{scan.name}.npz", f"{key} {digest}", compute)
            for each in (name for name in WEAR if name.startswith(wear)):
                if BETAS in cached.arrays:
                    found[each].append(_errors(cached, betas, body.data.name, "bare" in each))
            if progress is not None:
                progress(2 * i + 1 + (wear == "dressed"), 2 * num, scan.name)
    if not any(found.values()):
        raise RegistrationError("expected at least one registered scan, got none")
    return _table(f"Measures of synthetic people, {num}, seed {seed}, {model}", found, body.data.name)


@torch.no_grad()
def draw_measured(body: BodyModel, seed: int, index: int, wardrobe: Wardrobe | None) -> tuple[Scan, FloatArray]:
    """Draw one person, dressed by a wardrobe or naked, and return the scan and the true shape (K,)."""
    digest = hashlib.sha256(f"evaluate measures {seed} {index}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    people = body.data.people
    betas = draw_betas(body, None if people is None else torch.as_tensor(people), 1, generator)
    pose = draw_pose("sampled", body, betas, generator)
    skin = body(BodyParams(betas, pose, torch.zeros(1, 3))).vertices
    outer = Outer(skin, body.faces, torch.ones(1, len(body.faces), dtype=torch.bool))
    if wardrobe is not None:
        outer = wardrobe.dress(skin, generator)
    points, normals, valid = scan_points(outer, POINTS, generator, SCANNER)
    kept_points, kept_normals = (x[0][valid[0]].double().numpy() for x in (points, normals))
    name = f"{'naked' if wardrobe is None else 'dressed'}_{seed}_{index:04d}"
    scan = scan_from_arrays(kept_points, normals=kept_normals if kept_normals.any() else None, name=name)
    return scan, betas[0].double().numpy()


def _registered(scan: Scan, model: str, settings: dict[str, Any]) -> Arrays:
    result: Registration = register(scan, model=model, unit="m", **settings)
    words = {"verdict": np.array(result.verdict), "reason": np.array(result.reason)}
    moved: Arrays = {str(name): result.params[name] for name in (BETAS, MOVED) if name in result.params}
    metrics = {name: np.array(result.metrics[name]) for name in (SCAN_TO_BODY, SCAN_TO_SURFACE, "body_scale")}
    return {**moved, **metrics, "sigma_mm": result.sigma_mm, **words}


def _errors(cached: CachedResult, true: FloatArray, model: str, bare: bool) -> tuple[FloatArray, FloatArray, str]:
    """Return errors and sigmas (M,) of one person's measures, mm, and the verdict."""
    arrays = cached.arrays
    moved = arrays[MOVED].astype(np.float64) if MOVED in arrays else None
    gap = float(arrays[SCAN_TO_BODY]) - (0.0 if moved is None else float(arrays[SCAN_TO_SURFACE]))
    scale = float(arrays["body_scale"])
    sigma = arrays["sigma_mm"] / (1000 * scale)
    standing = standing_model(model)
    shape = shape_under(standing, arrays[BETAS].astype(np.float64), moved, sigma, gap, bare)
    body = StandingBody.of(standing, true)
    truth = {measure.name: 1000 * body.read(measure.how).value for measure in measures_of(standing)}
    return *_compared(take(model, shape, scale), truth), cached.verdict


def _compared(measured: Measured, truth: dict[str, float]) -> tuple[FloatArray, FloatArray]:
    values = {found.measure.name: found for found in measured.measurements}
    errors = [values[name].value_mm - true if name in values else np.nan for name, true in truth.items()]
    return np.array(errors), np.array([values[name].sigma_mm if name in values else np.nan for name in truth])


def _table(title: str, found: dict[str, list[tuple[FloatArray, FloatArray, str]]], model: str) -> Table:
    measures = measures_of(standing_model(model))
    kinds = np.array([measure.kind for measure in measures])
    rows, single, details = [], [], {}
    for wear, people in found.items():
        if not people:
            continue
        errors, sigma = np.stack([p[0] for p in people]), np.stack([p[1] for p in people])
        good = np.array([p[2] == "good" for p in people])
        everyone, every = np.ones(len(errors), bool), np.ones(len(measures), bool)
        groups = {"all": (everyone, every), **{kind: (everyone, kinds == kind) for kind in dict.fromkeys(kinds)}}
        groups |= {"all, verdict good": (good, every)} if good.any() else {}
        rows += [(wear, name, *_cells(errors[np.ix_(*at)], sigma[np.ix_(*at)])) for name, at in groups.items()]
        single += [(wear, measure.name, *_cells(errors[:, [m]], sigma[:, [m]])) for m, measure in enumerate(measures)]
        details[wear] = {"errors_mm": errors, "sigma_mm": sigma, "verdicts": [p[2] for p in people]}
    head = ("people", "measures", "count", "mean", "median", "bias", "within 1 sigma", "within 2 sigma")
    tables = (TextTable(f"{title}, mm", head, tuple(rows), 2), TextTable("By measure, mm", head, tuple(single), 2))
    return MeasuresTable(title, (), (), {**details, "measures": [measure.name for measure in measures]}, tables)


def _cells(errors: FloatArray, sigma: FloatArray) -> tuple[str, ...]:
    """Return count, errors and shares within sigma as words."""
    size, known = np.abs(errors), np.isfinite(errors)
    shares = [f"{(size[known] <= k * sigma[known]).mean():.0%}" for k in (1, 2)]
    means = (size[known].mean(), np.median(size[known]), errors[known].mean())
    return (str(len(errors)), *(f"{value:.1f}" for value in means), *shares)
