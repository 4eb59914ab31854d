"""Tables of benchmark figures: aligned Markdown for people, JSON for programs."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lvdreg.geometry.metrics import Summary

HEAD = ("method", "metric (mm)", "count", "median", "mean", "p95", "max", "failures")
LEFT = 2
"""So many columns of words stand on the left; the figures are set right."""


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured of which method, and over how many scans or pairs."""

    method: str
    metric: str
    summary: Summary

    def cells(self) -> tuple[str, ...]:
        """Return the line's words and figures, in the order of ``HEAD``."""
        s = self.summary
        figures = (f"{value:.1f}" for value in (s.median_mm, s.mean_mm, s.p95_mm, s.max_mm))
        return (self.method, self.metric, str(s.count), *figures, f"{s.failures} (> {s.failure_above_mm:g})")


@dataclass(frozen=True)
class Table:
    """Figures of a benchmark.

    Attributes:
        title: What was measured, with the model and the number of scans.
        rows: Errors, in millimetres.
        notes: Plain lines below the table: counts, shares, times.
        details: Everything behind it; arrays are welcome.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def render(self) -> str:
        """Return the table as aligned Markdown."""
        lines = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
        rule = ["-" * width if i < LEFT else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
        text = [_aligned(line, widths) for line in lines]
        text.insert(1, "| " + " | ".join(rule) + " |")
        return "\n".join([f"**{self.title}**", "", *text, "", *(f"- {note}" for note in self.notes)]).rstrip()

    def to_json(self) -> str:
        """Return everything as JSON text; what is not a finite number is null."""
        rows = [{"method": row.method, "metric": row.metric, **asdict(row.summary)} for row in self.rows]
        whole = {"title": self.title, "rows": rows, "notes": self.notes, "details": self.details}
        return json.dumps(_plain(whole), indent=2, allow_nan=False)


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = (c.ljust(w) if i < LEFT else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
    return "| " + " | ".join(padded) + " |"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: arrays and tuples as lists, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
