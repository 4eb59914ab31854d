"""The results of everybody in one scan or photo: each in a folder of its own, and a report of all of them."""

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from lvdreg.base.disk import replacing_folder
from lvdreg.base.provenance import FileHashes, InputFile
from lvdreg.base.timing import Clock
from lvdreg.base.version import __version__
from lvdreg.result.data import ResultData
from lvdreg.result.files import REPORT, RESULT, Format, with_total, write_json, write_result
from lvdreg.result.verdict import SEVERITY, Verdict

ResultT = TypeVar("ResultT", bound=ResultData)


@dataclass(frozen=True)
class Several(Generic[ResultT]):
    """Everybody in a scan or a photo.

    Attributes:
        results: One for each person.
        failures: Why others could not be registered, one line each.
        lost: Seconds by stage that went into those others.
    """

    results: Sequence[ResultT]
    failures: tuple[str, ...] = ()
    lost: Mapping[str, float] = field(default_factory=dict)

    form: ClassVar[Format[Any]]

    @property
    def verdict(self) -> Verdict:
        """The worst one's."""
        worst = max(SEVERITY.index(result.verdict) for result in self.results)
        return SEVERITY[max(worst, 1 if self.failures else 0)]

    @property
    def reason(self) -> str:
        """How many of which verdict, in one line."""
        counts = [(sum(r.verdict == verdict for r in self.results), verdict) for verdict in SEVERITY]
        words = ", ".join(f"{count} {verdict}" for count, verdict in counts if count)
        failed = f"; not registered: {'; '.join(self.failures)}" if self.failures else ""
        return f"{len(self.results)} people: {words}{failed}{self._missing()}"

    def _missing(self) -> str:
        """Say who else may be there, after the reason."""
        return ""

    @property
    def numbers(self) -> Sequence[int]:
        """The number of each person, from 1."""
        return range(1, len(self.results) + 1)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, of all people together."""
        parts = [*(result.timings for result in self.results), self.lost]
        return {name: math.fsum(part.get(name, 0.0) for part in parts) for part in parts for name in part}

    @property
    def source(self) -> InputFile | None:
        """The file of all of them."""
        return self.results[0].source

    @property
    def assets(self) -> FileHashes:
        """Every file of weights and of models that had a part in any of the results."""
        return {name: digest for result in self.results for name, digest in result.assets.items()}

    def save(self, folder: str | Path) -> list[Path]:
        """Write each person's result into a folder of its own, ``person-1`` and so on, and a report of all of them.

        Folders of people that an earlier run found besides are removed; else this is ``Saved.save``.
        """
        folder, clock = Path(folder), Clock(seconds=dict(self.timings))
        names = [f"person-{number}" for number in self.numbers]
        with replacing_folder(folder, RESULT) as part:
            with clock.stage("write"):
                for name, result in zip(names, self.results, strict=True):
                    (part / name).mkdir()
                    write_result(result, part / name, self.form)
            write_json(part / REPORT, self._report(names, clock.seconds))
        # Where files of others kept the folder from being replaced as a whole.
        for path in folder.iterdir():
            if re.fullmatch(r"person-\d+", path.name) and path.name not in names and RESULT.is_wholly_owned(path):
                shutil.rmtree(path, ignore_errors=True)
        files = [folder / name / file for name in names for file in self.form.files]
        return [*files, folder / REPORT]

    def _report(self, names: Sequence[str], timings: Mapping[str, float]) -> dict[str, Any]:
        people = [
            {"folder": name, "name": result.name, "verdict": result.verdict, "reason": result.reason}
            for name, result in zip(names, self.results, strict=True)
        ]
        return {
            "lvdreg": __version__,
            "verdict": self.verdict,
            "reason": self.reason,
            "people": people,
            **self._about(),
            "failures": self.failures,
            "input": self.source,
            "assets": self.assets,
            "timings_s": with_total(dict(timings)),
            "files": {**dict.fromkeys(names, "one person; see the report in it"), REPORT: "this file"},
        }

    def _about(self) -> dict[str, Any]:
        """Return what only this kind's report says."""
        return {}
