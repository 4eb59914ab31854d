"""What is written of one person or hand, and the table over all."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lvdreg.base.disk import FolderKind, refuse_others, replacing_folder, write_file
from lvdreg.base.files import read_json
from lvdreg.base.shapes import FloatArray
from lvdreg.base.version import __version__
from lvdreg.measure.draw import measures_sheet
from lvdreg.measure.measured import Measured
from lvdreg.measure.places import caesar_names
from lvdreg.measure.subject import Landmark, Subject
from lvdreg.result.files import write_json

MEASURES, LANDMARKS, LND, DRAWING = "measures.json", "landmarks.json", "landmarks.lnd", "measures.png"
TABLE = "measures.csv"
FILES = {
    MEASURES: "every measure with its definition, millimetres, and one sigma",
    LANDMARKS: "landmarks in the frame and unit of the scan",
    LND: "the same in CAESAR's format: millimetres, Z up",
    DRAWING: "every measure drawn on the body",
}
_HEAD = ("name", "model", "verdict", "measured", "size_is_guess")


@dataclass(frozen=True)
class Sheet:
    """One line of the table.

    Attributes:
        name: Of the scan.
        subject: Who.
        measured: What was measured.
        bare: Whether nothing loose was worn.
        height: The stature that was given, metres.
    """

    name: str
    subject: Subject
    measured: Measured
    bare: bool
    height: float | None = None

    @property
    def what(self) -> str:
        """What was measured."""
        return "skin" if self.bare or self.subject.saved.side is not None else "under the clothes"

    @property
    def size_is_guess(self) -> bool:
        """Whether nobody said how large the person is."""
        return self.height is None and self.subject.size_is_guess


def save(sheet: Sheet, folder: Path, landmarks: Sequence[Landmark]) -> None:
    """Write the files of one person into a folder: all of them, or none.

    Raises:
        OutputError: a file of others is in the way.
    """
    with replacing_folder(folder, KIND) as part:
        measures_sheet(sheet.measured, sheet.name, f"{sheet.what}, model {sheet.subject.model}").save(part / DRAWING)
        write_json(part / LANDMARKS, landmarks_report(sheet, landmarks))
        (part / LND).write_text(lnd_text(sheet, landmarks), encoding="utf-8", errors="backslashreplace")
        write_json(part / MEASURES, measures_report(sheet))


def measures_report(sheet: Sheet) -> dict[str, Any]:
    """Return what ``measures.json`` says."""
    return {
        "lvdreg": __version__,
        "name": sheet.name,
        "model": sheet.subject.model,
        "verdict": sheet.subject.verdict,
        "measured": sheet.what,
        "size_is_guess": sheet.size_is_guess,
        "height_given_m": sheet.height,
        "result": str(sheet.subject.saved.folder.absolute()),
        "units": "millimetres at true size; sigma_mm is one standard deviation",
        "measures": {
            found.measure.name: {
                "value_mm": round(found.value_mm, 1),
                "sigma_mm": round(found.sigma_mm, 1),
                "kind": found.measure.kind,
                "standard": found.measure.standard,
                "definition": found.measure.definition,
            }
            for found in sheet.measured.measurements
        },
        "missing": sheet.measured.missing,
        "files": FILES,
    }


def landmarks_report(sheet: Sheet, landmarks: Sequence[Landmark]) -> dict[str, Any]:
    """Return what ``landmarks.json`` says."""
    known = set(caesar_names())
    return {
        "lvdreg": __version__,
        "name": sheet.name,
        "frame": "the scan's own frame and unit; sigma_mm is one standard deviation, millimetres at true size",
        "unit": sheet.subject.unit,
        "landmarks": {
            mark.name: {
                "scan": mark.scan,
                "surface": mark.surface,
                "body": mark.body,
                "sigma_mm": round(mark.sigma_mm, 1),
                "caesar": mark.name in known,
            }
            for mark in landmarks
        },
    }


def lnd_text(sheet: Sheet, landmarks: Sequence[Landmark]) -> str:
    """Return landmarks as the files of CAESAR have them: number, flags, radius about the axis, x, y, z and name.

    Millimetres, turned so that Z is up; the origin stays that of the scan.
    """
    turn = _to_z_up(sheet.subject)
    rows = []
    for number, mark in enumerate(landmarks, 1):
        x, y, z = sheet.subject.mm * (turn @ mark.place)
        rows.append(f"{number:3d} {0:2d} {number:3d} {np.hypot(x, y):9.2f} {x:9.2f} {y:9.2f} {z:9.2f} {mark.name}")
    head = [f"SUBJECT_ID = {sheet.name}", f"STD_LAND = {len(landmarks)}", "AUX_LAND = 0", "STANDARD ="]
    return "\n".join([*head, *rows, "END ="]) + "\n"


def _to_z_up(subject: Subject) -> FloatArray:
    """Return the rotation (3, 3) from the scan's axes to axes of which the third points up; of a hand none."""
    up = str(subject.saved.report.get("scan", {}).get("up") or "+z")
    axis = "xyz".index(up[-1]) if up[-1] in "xyz" else 2
    # A turn of the axes among themselves: what is up becomes z, and the other two follow in their order.
    order = [(axis + 1) % 3, (axis + 2) % 3, axis]
    turn = np.eye(3)[order]
    return turn if up[0] != "-" else np.diag([-1.0, 1.0, -1.0]) @ turn


def write_table(path: Path, sheets: Sequence[Sheet]) -> None:
    """Write the table over all: a line each, and for each measure its value and its sigma.

    Raises:
        OutputError: a file of others is there.
    """
    names = list(dict.fromkeys(found.measure.name for sheet in sheets for found in sheet.measured.measurements))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_HEAD, *(f"{_key(name)}_{ending}" for name in names for ending in ("mm", "sigma_mm"))])
    for sheet in sheets:
        values = {found.measure.name: found for found in sheet.measured.measurements}
        row = [sheet.name, sheet.subject.model, sheet.subject.verdict, sheet.what, sheet.size_is_guess]
        for name in names:
            row += [f"{values[name].value_mm:.1f}", f"{values[name].sigma_mm:.1f}"] if name in values else ["", ""]
        table.writerow(row)
    refuse_others(path, _is_table)
    write_file(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace"))


def _key(name: str) -> str:
    return name.replace(",", "").replace(" ", "_").replace("-", "_")


def _is_table(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(200).startswith(",".join(_HEAD))


def _owned(folder: Path) -> frozenset[str]:
    try:
        report = read_json(folder / MEASURES)
    except (OSError, ValueError):
        return frozenset()
    is_ours = isinstance(report, dict) and "lvdreg" in report and isinstance(report.get("measures"), dict)
    return frozenset(name for name in FILES if (folder / name).is_file()) if is_ours else frozenset()


KIND = FolderKind(MEASURES, _owned)
