"""The result of registering a photo, as users hold it: what was found, and how to save it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lvdreg.result.data_photo import PhotoRegistrationData
from lvdreg.result.files import Saved
from lvdreg.result.files_photo import PHOTO_FORMAT
from lvdreg.result.several import Several


class PhotoRegistration(PhotoRegistrationData, Saved):
    """A body model registered to one person in a photo; its attributes are those of ``PhotoRegistrationData``."""

    form = PHOTO_FORMAT


@dataclass(frozen=True)
class People(Several[PhotoRegistration]):
    """Everybody in a photo, the most prominent first; attributes are those of ``Several``."""

    form = PHOTO_FORMAT

    def _missing(self) -> str:
        missed = len(self.results[0].missed)
        return f"; somebody may be missing in {missed} place{'s' * (missed > 1)}" if missed else ""

    @property
    def numbers(self) -> Sequence[int]:
        """The number of each person, from 1."""
        return [result.person for result in self.results]

    @property
    def headline(self) -> dict[str, Any]:
        """The worst outline, which stands in the summary of a batch."""
        found = [result.metrics.get("silhouette_iou") for result in self.results]
        known = [value for value in found if value is not None]
        return {"iou": min(known) if known else None}

    def _about(self) -> dict[str, Any]:
        return {"seen": self.results[0].people, "missed_px": self.results[0].missed}
