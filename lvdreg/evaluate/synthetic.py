"""Fresh synthetic scans: how far the registered body lies from the one that a scan was made from, and what sigma says.

People and hands are measured alike: population.py says who is scanned.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lvdreg.base.disk import refuse_others
from lvdreg.base.errors import RegistrationError
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.body.smplx_names import in_hand
from lvdreg.evaluate.cache import Arrays, CachedResult, kept, run_key
from lvdreg.evaluate.methods import BASELINE, OURS, Progress, arrays_of, folder_of, verdict_note, words_of
from lvdreg.evaluate.plot import draw_panels, is_plot
from lvdreg.evaluate.population import Population, Subject, hands, people
from lvdreg.evaluate.sigma import sigma_note, sigma_quality, sparsification
from lvdreg.evaluate.table import Row, Table
from lvdreg.geometry.metrics import body_to_body, corresponding_vertex, corresponding_vertex_errors, joint, summarise
from lvdreg.result.scan import Registration

FILE = "sparsification.png"
COLOURS = {"sigma": (20, 20, 20), "oracle": (46, 145, 90)}
JUDGED = ("descent", "refined")
"""Steps whose sigma is compared with their errors."""
SURFACE_METRIC = "point_to_surface_scan_to_registered_mm"


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

    The scans are drawn from seeds that training never uses. ``corresponding_vertex`` is measured after the descent,
    after the fit and, for the body under the clothes, after refinement; the uncertainty is compared with the errors of
    the first and the last, vertex by vertex.

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
        OutputError: the name of the picture, ``sparsification.png``, is taken by a file of others.
    """
    return measured(people(model), num, seed, Path(out), with_baseline, progress, settings)


def evaluate_hands(
    num: int = 200,
    views: str = "complete",
    seed: int = 0,
    model: str = "anny-hand+d",
    out: str | Path = "out/hands",
    with_baseline: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Register fresh synthetic scans of hands, half of them left, half with an object, and compare with the truth.

    Side, unit and orientation are found, not given. Everything is said of hands made 190 mm long.

    Args:
        num: How many scans.
        views: "complete" surfaces, "one-sided" depth views, or "mixed" as in training.
        seed: Which set of scans.
        model: ``anny-hand`` or ``anny-hand+d``.
        out: Where results are kept; run again to go on, remove it to start afresh.
        with_baseline: Also run the fit without correspondences, which is told unit, side and orientation.
        progress: Called after each scan.
        settings: Passed to ``register_hand`` for every scan alike.

    Raises:
        UsageError: no such views.
        RegistrationError: no scan could be registered.
    """
    return measured(hands(model, views), num, seed, Path(out), with_baseline, progress, settings)


@dataclass(frozen=True)
class MethodResults:
    """What one method made of all subjects, in order.

    Attributes:
        errors: What each result misses by, see ``errors_of``.
        cached_results: The results, without their arrays.
        answers: Side and unit of each, and whether they are right; by "side" and "unit".
        groups: What else was known of each subject.
    """

    errors: list[Arrays] = field(default_factory=list)
    cached_results: list[CachedResult] = field(default_factory=list)
    answers: dict[str, list[bool]] = field(default_factory=dict)
    groups: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, subject: Subject, cached: CachedResult, errors: Arrays) -> None:
        """Take in the result of one more subject."""
        self.errors.append(errors)
        self.cached_results.append(CachedResult({}, cached.seconds, cached.verdict, cached.reason))
        self.groups.append(subject.groups)
        for name, true in (("side", subject.side), ("unit", subject.unit)):
            if true is not None:
                right = name in cached.arrays and str(cached.arrays[name]) == true
                self.answers.setdefault(name, []).append(right)

    def values(self, metric: str, group: str | None = None) -> list[float]:
        """Return a metric of every subject, or of every one in a group; NaN where nothing was registered."""
        pairs = zip(self.errors, self.groups, strict=True)
        return [float(errors.get(metric, np.nan)) for errors, of in pairs if group is None or group in of]


def measured(
    population: Population,
    num: int,
    seed: int,
    out: Path,
    with_baseline: bool,
    progress: Progress | None,
    settings: dict[str, Any],
) -> Table:
    """Register subjects of a population and return the table of what they miss by; see ``evaluate_synthetic``."""
    model, body = population.model, load_body(population.model.removesuffix("+d"))
    refuse_others(out / FILE, is_plot)

    def ours(subject: Subject) -> Arrays:
        return kept_of(population.register(subject.scan, model=model, **settings))

    methods: dict[str, Callable[[Subject], Arrays]] = {OURS: ours}
    if with_baseline:
        methods[BASELINE] = population.baseline
    found = {name: MethodResults() for name in methods}
    key = run_key(model, settings)
    for i in range(num):
        subject = population.draw(seed, i)
        digest = hashlib.sha256(subject.scan.points.tobytes()).hexdigest()
        for name, method in methods.items():
            path = out / folder_of(name) / f"{subject.scan.name}.npz"
            cached = kept(path, f"{key} {digest}", partial(method, subject))
            found[name].add(subject, cached, errors_of(cached, subject, body))
        if progress is not None:
            progress(i + 1, num, subject.scan.name)
    table = _table(f"{population.title}, {num}, seed {seed}, {model}", population, found)
    missing = draw_sparsification(out / FILE, found[OURS].errors)
    return table if missing is None else replace(table, notes=(*table.notes, f"{FILE} is not drawn: {missing}"))


def draw_sparsification(path: Path, errors: Sequence[Arrays]) -> str | None:
    """Draw how the mean error falls as the most uncertain vertices are left out; why not, where it cannot be drawn."""
    panels = {}
    for step in JUDGED:
        known = [each for each in errors if f"{step}_mm" in each]
        sigma, error = (np.concatenate([each[name] for each in known]) for name in (f"{step}_sigma_mm", f"{step}_mm"))
        panels[step] = {"sigma": sparsification(sigma, error), "oracle": sparsification(error, error)}
    return draw_panels(path, panels, COLOURS, "left out, per cent", "mean error of the rest, mm")


def kept_of(result: Registration) -> Arrays:
    """Return what is worth keeping of a registration, with the steps on the way."""
    more = {"surface_mm": np.array(result.metrics.get(SURFACE_METRIC, np.nan))}
    return {**arrays_of(result), **{f"step_{name}": points for name, points in result.steps.items()}, **more}


def errors_of(cached: CachedResult, subject: Subject, body: BodyModel) -> Arrays:
    """Return what one result misses by, mm: means by the names of ``Population.metrics``, and arrays over vertices.

    The arrays are ``descent_mm`` and ``refined_mm`` (V,), and sigma of both. Nothing where nothing was registered.
    """
    found = cached.arrays
    if "body_vertices" not in found:
        return {}
    faces, true, true_joints = body.data.faces, subject.metres * subject.vertices, subject.metres * subject.joints
    surfaces = {"descent": "step_descent", "fit": "step_fit", "refined": "body_vertices", "registered": "vertices"}
    there = {name: subject.metres * found[key] for name, key in surfaces.items() if key in found}
    errors: Arrays = {name: np.array(corresponding_vertex(v, true, faces)) for name, v in there.items()}
    errors |= {f"{name}_mm": corresponding_vertex_errors(there[name], true) for name in there}
    errors["body_to_body"] = np.array(body_to_body(there["refined"], true, faces, faces))
    joints = subject.metres * found["joints"]
    # Three joints in five are fingers': by themselves they would decide the mean over all.
    is_body = np.array([not (in_hand(name, "left") or in_hand(name, "right")) for name in body.joint_names])
    errors["joint"] = np.array(joint(joints, true_joints))
    errors["body_joint"] = np.array(joint(joints[is_body], true_joints[is_body]))
    if "step_fit_joints" in found:
        errors["fit_joint"] = np.array(joint(subject.metres * found["step_fit_joints"], true_joints))
    # In millimetres at true size already; the baseline has neither.
    for name, key in (("surface", "surface_mm"), *((f"{step}_sigma_mm",) * 2 for step in JUDGED)):
        if key in found:
            errors[name] = subject.size * found[key]
    return errors


def _table(title: str, population: Population, found: dict[str, MethodResults]) -> Table:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for name, made in found.items():
        rows += _rows(name, population, made)
        details[name] = {
            "errors_mm": {metric: made.values(metric) for metric in population.metrics},
            "right": made.answers,
            "groups": made.groups,
            **words_of(made.cached_results),
        }
    known = [errors for errors in found[OURS].errors if "descent_mm" in errors]
    if not known:
        reason = found[OURS].cached_results[0].reason
        raise RegistrationError(f"expected at least one registered scan, got none; the first: {reason}")
    details["sigma"] = {
        step: sigma_quality([(e[f"{step}_sigma_mm"], e[f"{step}_mm"]) for e in known]) for step in JUDGED
    }
    notes = [f"{name}: {verdict_note(made.cached_results)}" for name, made in found.items()]
    notes += _right_notes(found[OURS], population)
    notes += [sigma_note(step, quality) for step, quality in details["sigma"].items()]
    return Table(title, tuple(rows), (*notes, *population.notes), details)


def _rows(name: str, population: Population, made: MethodResults) -> list[Row]:
    """Return the lines of one method: every metric, then those told apart by group."""
    lines = [(words, made.values(metric)) for metric, words in population.metrics.items()]
    groups = sorted({group for of in made.groups for group in of})
    for metric in population.grouped:
        lines += [(f"{population.metrics[metric]}, {group}", made.values(metric, group)) for group in groups]
    # The baseline has no descent: its lost scans must not make a line of that name.
    return [
        Row(name, what, summarise(values, population.failure_mm)) for what, values in lines if np.isfinite(values).any()
    ]


def _right_notes(made: MethodResults, population: Population) -> list[str]:
    """Say how often what was found besides the body is right, and whether the verdicts knew of failures."""
    notes = [
        f"{what} right in {np.mean(right):.1%} ({sum(right)} of {len(right)})" for what, right in made.answers.items()
    ]
    refused = sum(not errors for errors in made.errors)
    if refused:
        notes.append(f"{refused} of {len(made.errors)} were not registered, and count as wrong")
    pairs = zip(made.values("refined"), made.cached_results, strict=True)
    lost = [cached.verdict for error, cached in pairs if not error <= population.failure_mm]
    if lost:
        notes.append(f"{lost.count('good')} of {len(lost)} failures were called good")
    errors, verdicts = np.array(made.values("refined")), np.array([cached.verdict for cached in made.cached_results])
    good, right = verdicts == "good", errors <= population.right_mm
    wrong = int((good & ~(errors <= population.wrong_mm)).sum())
    notes.append(
        f'verdicts: of {good.sum()} "good" {wrong} are off by more than {population.wrong_mm:g} mm, of {right.sum()} '
        f'that are off by at most {population.right_mm:g} mm {(right & ~good).sum()} are not "good"'
    )
    return notes
