"""The result of registering a photo, as users hold it: what was found, and how to save it."""

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvdreg.base.disk import replacing_folder
from lvdreg.base.provenance import FileHashes, InputFile
from lvdreg.base.timing import Clock
from lvdreg.base.version import __version__
from lvdreg.result.data_photo import PhotoRegistrationData
from lvdreg.result.files import REPORT, RESULT, Saved, with_total, write_json, write_result
from lvdreg.result.files_photo import PHOTO_FORMAT
from lvdreg.result.verdict import SEVERITY, Verdict


class PhotoRegistration(PhotoRegistrationData, Saved):
    """A body model registered to one person in a photo; its attributes are those of ``PhotoRegistrationData``."""

    form = PHOTO_FORMAT


@dataclass(frozen=True)
class People:
    """Everybody in a photo.

    Attributes:
        results: One for each person, the most prominent first.
        failures: Why others could not be registered, one line each.
        lost: Seconds by stage that went into those others.
    """

    results: Sequence[PhotoRegistration]
    failures: tuple[str, ...] = ()
    lost: Mapping[str, float] = field(default_factory=dict)

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
        missed = len(self.results[0].missed)
        missing = f"; somebody may be missing in {missed} place{'s' * (missed > 1)}" if missed else ""
        return f"{len(self.results)} people: {words}{failed}{missing}"

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, of all people together."""
        parts = [*(result.timings for result in self.results), self.lost]
        return {name: math.fsum(part.get(name, 0.0) for part in parts) for part in parts for name in part}

    @property
    def source(self) -> InputFile | None:
        """The photo's file."""
        return self.results[0].source

    @property
    def assets(self) -> FileHashes:
        """Every file of weights and of models that had a part in any of the results."""
        return {name: digest for result in self.results for name, digest in result.assets.items()}

    @property
    def headline(self) -> dict[str, Any]:
        """The worst outline, which stands in the summary of a batch."""
        found = [result.metrics.get("silhouette_iou") for result in self.results]
        known = [value for value in found if value is not None]
        return {"iou": min(known) if known else None}

    def save(self, folder: str | Path) -> list[Path]:
        """Write each person's result into a folder of its own, ``person-1`` and so on, and a report of all of them.

        Folders of people that an earlier run found besides are removed; else this is ``Saved.save``.
        """
        folder, clock = Path(folder), Clock(seconds=dict(self.timings))
        names = [f"person-{result.person}" for result in self.results]
        with replacing_folder(folder, RESULT) as part:
            with clock.stage("write"):
                for name, result in zip(names, self.results, strict=True):
                    (part / name).mkdir()
                    write_result(result, part / name, result.form)
            write_json(part / REPORT, self._report(names, clock.seconds))
        # Where files of others kept the folder from being replaced as a whole.
        for path in folder.iterdir():
            if re.fullmatch(r"person-\d+", path.name) and path.name not in names and RESULT.is_wholly_owned(path):
                shutil.rmtree(path, ignore_errors=True)
        files = [folder / name / file for name in names for file in PHOTO_FORMAT.files]
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
            "seen": self.results[0].people,
            "missed_px": self.results[0].missed,
            "failures": self.failures,
            "input": self.source,
            "assets": self.assets,
            "timings_s": with_total(dict(timings)),
            "files": {**dict.fromkeys(names, "one person; see the report in it"), REPORT: "this file"},
        }
