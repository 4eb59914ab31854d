"""What result folders of scans and of photos have in common: how they are written, recognised and described."""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from lvdreg.base.arrays import write_npz
from lvdreg.base.disk import FolderKind, replacing_folder, write_file
from lvdreg.base.files import read_json
from lvdreg.base.timing import Clock
from lvdreg.base.version import __version__
from lvdreg.result.data import ResultData
from lvdreg.result.sheet import SIGMA_COLOURS, sigma_top_mm

REPORT = "report.json"
PAGE, THUMB = "report.html", "thumbnail.webp"
"""What lvdreg/report/ adds."""
EXPORTS = "exports"
"""Key of the report: files for other programs, and pages, that were added later, and their formats."""
UNITS = {
    "_mm": "millimetres at true size",
    "_m": "metres at true size",
    "_share": "0 to 1",
    "_deg": "degrees",
    "_s": "seconds",
    "_mib": "MiB",
}


DataT = TypeVar("DataT", bound=ResultData)


@dataclass(frozen=True)
class Format(Generic[DataT]):
    """How results of one kind are written.

    Attributes:
        files: What each file in the folder is, the report among them.
        write: Writes all of them but the report.
        report: What only this kind's report says.
    """

    files: dict[str, str]
    write: Callable[[DataT, Path], None]
    report: Callable[[DataT], dict[str, Any]]


class Saved:
    """What results of scans and of photos do alike."""

    form: ClassVar[Format[Any]]

    def save(self, folder: str | Path) -> list[Path]:
        """Write everything a run leaves behind into a folder: all of it, or nothing.

        Args:
            folder: Made if it is missing; an earlier result in it is replaced once the new one is complete. Other files
                in it are left alone.

        Returns:
            The files written.

        Raises:
            OutputError: a link or a file is in the folder's place, or a file of others bears the name of one of ours.
            OSError: the folder cannot be written. Whatever was in it is then still whole.
        """
        with replacing_folder(Path(folder), RESULT) as part:
            write_result(self, part, self.form)
        return [Path(folder) / name for name in self.form.files]


def write_result(result: Any, folder: Path, form: Format[Any]) -> None:
    """Write a result into an empty folder, the report last."""
    clock = Clock(seconds=dict(result.timings))
    with clock.stage("write"):
        form.write(result, folder)
    report = {**common_report(result, clock.seconds), **form.report(result), "files": form.files}
    write_json(folder / REPORT, report)


def common_report(result: ResultData, timings: dict[str, float]) -> dict[str, Any]:
    """Return what every report says; ``timings`` are seconds by stage, writing all but the report included."""
    return {
        "lvdreg": __version__,
        "name": result.name,
        "model": result.model,
        "verdict": result.verdict,
        "reason": result.reason,
        "warnings": result.warnings,
        "input": result.source,
        "assets": result.assets,
        "metrics": result.metrics,
        "units": {f"*{ending}": meaning for ending, meaning in UNITS.items()},
        "timings_s": with_total(timings),
        "uncertainty_colours": {
            "from_mm": 0.0, "to_mm": sigma_top_mm(result.sigma_mm), "red_green_blue": SIGMA_COLOURS,
        },
        "settings": result.settings,
    }  # fmt: skip


def with_total(timings: dict[str, float]) -> dict[str, float]:
    """Return seconds by stage and, last, their sum: the stages leave no time between them."""
    return {**timings, "total": math.fsum(timings.values())}


def write_params(result: ResultData, path: Path, about: dict[str, Any]) -> None:
    """Write the parameters as plain arrays: ``np.load(path, allow_pickle=False)`` reads them.

    Arguments of smplx are batches of one, (1, K), as its ``create`` takes them; ``displacements`` (V, 3) and ``scale``
    are none of its arguments.

    Args:
        result: Whose parameters.
        path: File to write.
        about: What else to write, as it is.
    """
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in result.params.items()}
    arrays = {name: array[None] if array.ndim == 1 else array for name, array in arrays.items()}
    write_npz(path, {**arrays, "model": result.model, **about})


def read_report(folder: Path) -> dict[str, Any] | None:
    """Return the report of a result folder; None where there is none of lvdreg's, or behind a link only."""
    path = folder / REPORT
    if folder.is_symlink() or path.is_symlink():
        return None
    try:
        return checked_report(read_json(path))
    except (OSError, ValueError):
        return None


def checked_report(report: Any) -> dict[str, Any] | None:
    """Return what was read of a report; None if it is none of lvdreg's."""
    is_ours = isinstance(report, dict) and "lvdreg" in report and isinstance(report.get("files"), dict)
    return report if is_ours else None


def owned_names(folder: Path) -> frozenset[str]:
    """Return what in a folder provably is a result's: the files that a report of lvdreg names, and folders of such."""
    there = ((name, folder / name) for name in named_in(read_report(folder)))
    # What the report names may be no name of a file at all: os.path says no where pathlib raises.
    return frozenset(
        name
        for name, path in there
        if not os.path.islink(path) and (os.path.isfile(path) or (os.path.isdir(path) and RESULT.is_wholly_owned(path)))
    )


def named_in(report: dict[str, Any] | None) -> frozenset[str]:
    """Return the names of files that a report calls its result's, itself among them; none where there is no report."""
    if report is None:
        return frozenset()
    exports = report.get(EXPORTS)
    later = exports if isinstance(exports, dict) else {}
    named = {*report["files"], *later, REPORT}
    return frozenset(name for name in named if Path(name).name == name and name not in ("", ".."))


def note_exports(folder: Path, report: dict[str, Any], made: dict[str, str]) -> None:
    """Name files, with their formats, in the report of the result they were added to: they go when it is replaced."""
    earlier = report.get(EXPORTS)
    known = earlier if isinstance(earlier, dict) else {}
    if not made.items() <= known.items():
        changed = report | {EXPORTS: {**known, **made}}
        write_file(folder / REPORT, lambda path: write_json(path, changed))


RESULT = FolderKind(REPORT, owned_names)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that every reader accepts: numbers that are not finite become null."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Rows of numbers on one line each; line breaks are never inside JSON's strings, so no string is touched.
    text = re.sub(r'\[\n([^\[\]{}"]*)\n *\]', lambda found: f"[{' '.join(found[1].split())}]", text)
    # A file name that is no text holds surrogates; written as \udcXX they are JSON's own escapes.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def plain(value: Any) -> Any:
    """Turn dataclasses, arrays, paths and tuples into what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
