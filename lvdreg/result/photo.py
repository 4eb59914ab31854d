"""The result of registering a photo, as users hold it: what was found, and how to save it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvdreg.result.data_photo import PhotoRegistrationData
from lvdreg.result.files_photo import remove_results, write_photo_result
from lvdreg.result.verdict import SEVERITY, Verdict


class PhotoRegistration(PhotoRegistrationData):
    """A body model registered to one person in a photo; its attributes are those of ``PhotoRegistrationData``."""

    def save(self, folder: str | Path) -> list[Path]:
        """Write pictures, meshes, parameters and report into a folder: all of them, or none.

        Args:
            folder: Made if it is missing; an earlier result in it is replaced once the new one is complete. Other files
                in it are left alone.

        Returns:
            The files written.

        Raises:
            OSError: the folder cannot be written; an earlier result is then still whole.
        """
        return write_photo_result(self, Path(folder))


@dataclass(frozen=True)
class People:
    """Everybody in a photo.

    Attributes:
        results: One for each person, the most prominent first.
        failures: Why others could not be registered, one line each.
    """

    results: Sequence[PhotoRegistration]
    failures: tuple[str, ...] = ()

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
        return f"{len(self.results)} people: {words}{failed}"

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, of all people together."""
        names = dict.fromkeys(name for result in self.results for name in result.timings)
        return {name: sum(result.timings.get(name, 0.0) for result in self.results) for name in names}

    @property
    def headline(self) -> dict[str, Any]:
        """The worst outline, which stands in the summary of a batch."""
        found = [result.metrics.get("silhouette_iou") for result in self.results]
        known = [value for value in found if value is not None]
        return {"iou": min(known) if known else None}

    def save(self, folder: str | Path) -> list[Path]:
        """Write each person's result into a folder of its own, ``person-1`` and so on; see ``PhotoRegistration.save``.

        Folders of people that an earlier run found besides are removed.
        """
        folder = Path(folder)
        written = [path for result in self.results for path in result.save(folder / f"person-{result.person}")]
        kept = {f"person-{result.person}" for result in self.results}
        remove_results(path for path in folder.glob("person-*") if path.name not in kept)
        return written
