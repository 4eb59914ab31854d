"""What a scan may suffer before its registration goes wrong: one damage at a time, in steps, on otherwise clean scans.

Each damaged scan is registered with nothing told, and its body is compared with the true one. Damages know nothing of
the network's training: they are drawn here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from lvdreg.base.disk import refuse_others
from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.base.threads import one_torch_thread
from lvdreg.body.catalogue import load_body
from lvdreg.descent.boxes import METRES_PER_UNIT
from lvdreg.evaluate.cache import CachedResult, kept, run_key
from lvdreg.evaluate.methods import OURS, Progress, arrays_of, verdict_note, words_of
from lvdreg.evaluate.plot import draw_panels, is_plot
from lvdreg.evaluate.subjects import seed_of
from lvdreg.evaluate.table import Row, Table
from lvdreg.geometry.frames import similarity, transform_directions, transform_points
from lvdreg.geometry.mesh import face_normals, sample_surface, unit_rows
from lvdreg.geometry.metrics import MM, summarise
from lvdreg.pipeline.scan import register
from lvdreg.scan.model import scan_from_arrays
from lvdreg.synth.scanner import visible
from lvdreg.synth.scans import SynthStream

POINTS = 40_000
"""Of a scan without damages."""
WRONG_MM = 100.0
"""A body is wrong when its vertices lie farther than this from the true ones on average."""
WORSE_MM = 20.0
"""It suffered when they lie so much farther than those of the scan without damages."""
COUNTS = (1_000, 3_000, 10_000, 100_000, 1_000_000)
NOISES_MM = (1, 2, 5, 10, 20)
OUTLIERS = (0.01, 0.02, 0.05, 0.1)
HOLES = (5, 10, 20, 40)
HOLE = 0.08
"""Radius of a hole, metres."""
KEPT = (0.9, 0.75, 0.6, 0.5)
"""How much of the height is left where the lower part is cut off."""
SIDES = {"front": (0, 1), "left": (1, 0), "back": (0, -1), "right": (-1, 0)}
CAMERA = 3.0
"""Metres from a camera to the person."""
FILE = "robustness.png"
PLOTTED = ("points", "noise", "outliers", "holes", "cut off")
MEDIAN, WORST = "median", "worst"
COLOURS = {MEDIAN: (20, 20, 20), WORST: (200, 60, 60)}


@dataclass(frozen=True)
class Dressed:
    """Somebody in clothes: the surface, and the body beneath; world frame, metres, Y up.

    Attributes:
        vertices: (N, 3) of the surface.
        faces: (F, 3) its triangles.
        body: (V, 3) the true body's vertices.
    """

    vertices: Float64[np.ndarray, "N 3"]
    faces: Any
    body: Float64[np.ndarray, "V 3"]

    def sampled(self, count: int, rng: np.random.Generator) -> "Cloud":
        """Return points of the surface, evenly by area, with the normals of their faces."""
        points, face, _ = sample_surface(self.vertices, self.faces, count, rng)
        return Cloud(points, unit_rows(face_normals(self.vertices, self.faces))[face], np.eye(4))


@dataclass(frozen=True)
class Cloud:
    """A scan: ``points`` (P, 3) and unit ``normals`` (P, 3) in its own frame, to which ``T_scan_world`` leads."""

    points: Float64[np.ndarray, "P 3"]
    normals: Float64[np.ndarray, "P 3"]
    T_scan_world: Float64[np.ndarray, "4 4"]

    def moved(self, T: FloatArray) -> "Cloud":
        """Return the same scan in another frame."""
        turned = transform_directions(T, self.normals)
        return Cloud(transform_points(T, self.points), turned, T @ self.T_scan_world)

    def part(self, keep: Any) -> "Cloud":
        """Return some of the points."""
        return Cloud(self.points[keep], self.normals[keep], self.T_scan_world)


Errors = Mapping[tuple[str, str], FloatArray]
"""By kind and step of the damage the error of each person's body, mm."""
Damage = Callable[[Dressed, np.random.Generator], Cloud]


def damages() -> dict[str, dict[str, Damage]]:
    """Return all damages by kind and step; every kind but the first is drawn with the person upright, in metres."""
    turns = [
        np.array(rows, np.float64)
        for rows in product(*[[tuple(s * np.eye(3)[i]) for i in range(3) for s in (1, -1)]] * 3)
        if np.linalg.det(np.array(rows)) > 0.5
    ]
    return {
        "none": {"": partial(_clean)},
        "orientation": {str(i): partial(_turned, R) for i, R in enumerate(turns)},
        "unit": {unit: partial(_scaled, 1 / metres) for unit, metres in METRES_PER_UNIT.items()},
        "points": {f"{count:,}": partial(_clean, count=count) for count in COUNTS},
        "noise": {f"{mm} mm": partial(_noisy, mm / MM) for mm in NOISES_MM},
        "outliers": {f"{share:.0%}": partial(_outliers, share) for share in OUTLIERS},
        "holes": {str(count): partial(_holes, count) for count in HOLES},
        "cut off": {f"{1 - share:.0%}": partial(_cut, share) for share in KEPT},
        "one side": {name: partial(_one_side, way) for name, way in SIDES.items()},
    }


def _clean(person: Dressed, rng: np.random.Generator, count: int = POINTS) -> Cloud:
    return person.sampled(count, rng)


def _turned(R: FloatArray, person: Dressed, rng: np.random.Generator) -> Cloud:
    return _clean(person, rng).moved(similarity(1.0, R, rng.normal(size=3)))


def _scaled(factor: float, person: Dressed, rng: np.random.Generator) -> Cloud:
    return _clean(person, rng).moved(similarity(factor, np.eye(3), factor * rng.normal(size=3)))


def _noisy(sigma: float, person: Dressed, rng: np.random.Generator) -> Cloud:
    """Move points along their normals; who measures so badly knows no normals."""
    cloud = _clean(person, rng)
    moved = cloud.points + sigma * rng.normal(size=(len(cloud.points), 1)) * cloud.normals
    return replace(cloud, points=moved, normals=np.zeros_like(moved))


def _outliers(share: float, person: Dressed, rng: np.random.Generator) -> Cloud:
    """Put points anywhere in a box half as large again."""
    cloud = _clean(person, rng)
    low, high = cloud.points.min(0), cloud.points.max(0)
    wrong = rng.choice(len(cloud.points), round(share * len(cloud.points)), replace=False)
    points, normals = cloud.points.copy(), cloud.normals.copy()
    points[wrong] = (low + high) / 2 + 0.75 * (high - low) * rng.uniform(-1, 1, (len(wrong), 3))
    normals[wrong] = unit_rows(rng.normal(size=(len(wrong), 3)))
    return replace(cloud, points=points, normals=normals)


def _holes(count: int, person: Dressed, rng: np.random.Generator) -> Cloud:
    cloud = _clean(person, rng)
    middles = cloud.points[rng.choice(len(cloud.points), count, replace=False)]
    far = np.linalg.norm(cloud.points[:, None] - middles, axis=2) > HOLE
    return cloud.part(far.all(1))


def _cut(share: float, person: Dressed, rng: np.random.Generator) -> Cloud:
    cloud = _clean(person, rng)
    y = cloud.points[:, 1]
    return cloud.part(y > y.max() - share * np.ptp(y))


def _one_side(way: tuple[int, int], person: Dressed, rng: np.random.Generator) -> Cloud:
    """Return what one camera at breast height sees."""
    cloud = person.sampled(3 * POINTS, rng)
    camera = cloud.points.mean(0) + CAMERA * np.array([way[0], 0.1, way[1]])
    points, normals, cameras = (torch.from_numpy(x).float()[None] for x in (cloud.points, cloud.normals, camera[None]))
    return cloud.part(visible(points, normals, cameras)[0, 0].numpy())


def evaluate_robustness(
    num: int = 3,
    seed: int = 0,
    model: str = "anny",
    out: str | Path = "out/robustness",
    kinds: Sequence[str] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Damage scans of synthetic people, register them, and compare their bodies with the true ones.

    Args:
        num: How many people; each is scanned some fifty times.
        seed: Which set of people.
        model: ``anny`` or ``anny+d``.
        out: Where results are kept, and the picture; run again to go on, remove it to start afresh.
        kinds: Only these damages, by name; all when empty.
        progress: Called after each scan.
        settings: Passed to ``register`` for every scan alike.

    Raises:
        UsageError: there is no such damage.
        OutputError: the picture's name is taken by a file of others.
    """
    every = damages()
    unknown = set(kinds) - set(every)
    if unknown:
        raise UsageError(f"--kind: expected any of {', '.join(every)}, got {', '.join(sorted(unknown))}")
    chosen = {kind: steps for kind, steps in every.items() if not kinds or kind in (*kinds, "none")}
    path, key = Path(out) / FILE, run_key(model, settings)
    refuse_others(path, is_plot)
    people = [dressed(model, seed, i) for i in range(num)]
    tasks = [(kind, step, i) for kind, steps in chosen.items() for step in steps for i in range(num)]
    missed: dict[tuple[str, str], list[float]] = {}
    results: list[CachedResult] = []
    for done, (kind, step, i) in enumerate(tasks, 1):
        rng = np.random.default_rng(seed_of(f"robustness {seed} {i} {kind} {step}"))
        cloud = chosen[kind][step](people[i], rng)
        name = f"{i:03d}_{kind}_{step}".replace(" ", "_").replace("%", "").replace(",", "").rstrip("_")
        found = kept(Path(out) / OURS / f"{name}.npz", key, partial(_registered, cloud, name, model, settings))
        results.append(found)
        missed.setdefault((kind, step), []).append(error_of(found, cloud, people[i]))
        if progress is not None:
            progress(done, len(tasks), f"{kind} {step}, person {i}".replace("  ", " "))
    errors = {at: np.array(values) for at, values in missed.items()}
    table = _table(errors, results, chosen, num, seed, model)
    panels = {kind: _lines(errors, kind, chosen[kind]) for kind in PLOTTED if kind in chosen}
    missing = draw_panels(path, panels, COLOURS, "step", "error, mm") if panels else None
    return table if missing is None else replace(table, notes=(*table.notes, f"{FILE} is not drawn: {missing}"))


@torch.no_grad()
@one_torch_thread()
def dressed(model: str, seed: int, index: int) -> Dressed:
    """Draw somebody in clothes, as training does, from seeds that it never uses."""
    stream = SynthStream(load_body(model.removesuffix("+d")))
    generator = torch.Generator().manual_seed(seed_of(f"evaluate robustness {seed} {index}"))
    posed = stream.bodies(1, generator)
    outer = stream.wardrobe.dress(posed.vertices, generator)
    faces = outer.faces[outer.face_keep[0]].numpy()
    return Dressed(outer.vertices[0].double().numpy(), faces, posed.vertices[0].double().numpy())


def _registered(cloud: Cloud, name: str, model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    normals = cloud.normals if cloud.normals.any() else None
    return arrays_of(register(scan_from_arrays(cloud.points, normals=normals, name=name), model=model, **settings))


def error_of(found: CachedResult, cloud: Cloud, person: Dressed) -> float:
    """Return how far a registered body lies from the true one, mean over its vertices, mm; NaN where there is none."""
    if "body_vertices" not in found.arrays:
        return float("nan")
    own = transform_points(np.linalg.inv(cloud.T_scan_world).astype(np.float64), found.arrays["body_vertices"])
    return float(MM * np.linalg.norm(own - person.body, axis=1).mean())


def _lines(errors: Errors, kind: str, steps: Mapping[str, Damage]) -> dict[str, Any]:
    """Return the median and the worst error by step, the scans without damages first."""
    rows = [errors["none", ""], *(errors[kind, step] for step in steps)]
    worst = [np.nanmax(row) if np.isfinite(row).any() else np.nan for row in rows]
    return {MEDIAN: np.array([np.nanmedian(row) for row in rows]), WORST: np.array(worst)}


def _table(
    errors: Errors,
    results: Sequence[CachedResult],
    chosen: Mapping[str, Mapping[str, Damage]],
    num: int,
    seed: int,
    model: str,
) -> Table:
    clean = errors["none", ""]
    by_kind = {kind: np.concatenate([errors[kind, step] for step in steps]) for kind, steps in chosen.items()}
    rows = tuple(Row(OURS, f"body, {kind}", summarise(values, WRONG_MM)) for kind, values in by_kind.items())
    names = {at: " ".join(at).strip() for at in errors}
    right = {at: float((values <= clean + WORSE_MM).mean()) for at, values in errors.items()}
    shares = {kind: float(np.mean([right[kind, step] for step in steps])) for kind, steps in chosen.items()}
    stepped = [at for at in errors if at[0] not in ("none", "orientation", "unit")]
    notes = (
        f"error: mean over the vertices of the naked body; wrong above {WRONG_MM:g} mm",
        f"within {WORSE_MM:g} mm of what the same person gives without damages: "
        + ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items() if kind != "none"),
        "by step, median and worst, mm: "
        + "; ".join(f"{names[at]} {np.nanmedian(errors[at]):.0f}, {np.nanmax(errors[at]):.0f}" for at in stepped),
        verdict_note(results),
    )
    steps_mm = {names[at]: {"errors_mm": values, "right": right[at]} for at, values in errors.items()}
    details = {"steps": steps_mm, "right": shares, **words_of(results)}
    return Table(f"Robustness, {num} people, seed {seed}, {model}", rows, notes, details)


__all__ = ["Dressed", "Cloud", "damages", "dressed", "error_of", "evaluate_robustness"]
