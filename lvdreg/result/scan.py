"""The result of one registration, as users hold it: what was found, and how to save it."""

from dataclasses import dataclass
from typing import Any

from lvdreg.result.data_scan import RegistrationData
from lvdreg.result.files import Saved
from lvdreg.result.files_scan import SCAN_FORMAT
from lvdreg.result.several import Several


class Registration(RegistrationData, Saved):
    """A body model registered to a scan; its attributes are those of ``RegistrationData``."""

    form = SCAN_FORMAT


@dataclass(frozen=True)
class Group(Several[Registration]):
    """Everybody in a scan, along the axis of the scan on which they are spread most; attributes are of ``Several``."""

    form = SCAN_FORMAT

    @property
    def headline(self) -> dict[str, Any]:
        """What stands in the summary of a batch: of all the worst error, and what they have in common."""
        each = [result.headline for result in self.results]
        same = {name: each[0][name] if len({str(one[name]) for one in each}) == 1 else None for name in each[0]}
        errors = [one["error_mm"] for one in each if one["error_mm"] is not None]
        return same | {"error_mm": max(errors, default=None)}

    def _about(self) -> dict[str, Any]:
        return {"seen": len(self.results) + len(self.failures)}
