"""Landmarks of results against those that somebody placed on the scans."""

import math
from pathlib import Path

import numpy as np

from lvdreg.base.errors import LvdregError, RegistrationError, ScanError
from lvdreg.base.files import read_json
from lvdreg.base.shapes import FloatArray
from lvdreg.evaluate.measures import MeasuresTable
from lvdreg.evaluate.methods import Progress
from lvdreg.evaluate.table import Table, TextTable
from lvdreg.measure.subject import Subject, read_subject


def evaluate_landmarks(folder: str | Path, results: str | Path, progress: Progress | None = None) -> Table:
    """Measure how far landmarks of results lie from given ones.

    Args:
        folder: Holds ``NNN.json``: by name the place in the scan's frame and unit.
        results: What ``lvdreg register NNN.ply ... --out results`` left, a folder NNN each.
        progress: Called after each scan.

    Raises:
        ScanError: no landmark file has a result.
        RegistrationError: a landmark file is damaged.
    """
    paths = [path for path in sorted(Path(folder).glob("*.json")) if (Path(results) / path.stem).is_dir()]
    if not paths:
        raise ScanError(f"expected NNN.json in {folder} and folders NNN in {results}, found none that belong together")
    errors: dict[str, list[FloatArray]] = {}
    for number, path in enumerate(paths, 1):
        for name, found in _errors(read_subject(Path(results) / path.stem), _given(path)).items():
            errors.setdefault(name, []).append(found)
        if progress is not None:
            progress(number, len(paths), path.stem)
    return _table(f"Landmarks of {len(paths)} scans", errors)


def _given(path: Path) -> dict[str, FloatArray]:
    try:
        given = read_json(path)
        places = {str(name): np.array(place, np.float64).reshape(3) for name, place in dict(given).items()}
    except (OSError, ValueError, TypeError) as error:
        raise RegistrationError(f"{path}: expected places by name, got something else ({error})") from None
    return places


def _errors(subject: Subject, given: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Return distance and sigma, mm, of each landmark that is given and known."""
    try:
        scan = subject.scan()
    except LvdregError:
        scan = None
    marks = {mark.name: mark for mark in subject.landmarks(scan)}
    return {
        name: np.array([subject.mm * math.dist(marks[name].place, place), marks[name].sigma_mm])
        for name, place in given.items()
        if name in marks
    }


def _table(title: str, errors: dict[str, list[FloatArray]]) -> Table:
    stacked = {name: np.stack(found) for name, found in errors.items()}
    order = sorted(stacked, key=lambda name: float(stacked[name][:, 0].mean()))
    rows = [("all", *_cells(np.concatenate(list(stacked.values()))))]
    rows += [(name, *_cells(stacked[name])) for name in order]
    head = ("landmark", "count", "mean", "median", "largest", "within 1 sigma")
    details = {"errors_mm": {name: found[:, 0] for name, found in stacked.items()}}
    return MeasuresTable(title, (), (), details, (TextTable(f"{title}, mm", head, tuple(rows)),))


def _cells(found: FloatArray) -> tuple[str, ...]:
    error, sigma = found.T
    numbers = (f"{value:.1f}" for value in (error.mean(), np.median(error), error.max()))
    return (str(len(error)), *numbers, f"{(error <= sigma).mean():.0%}")
