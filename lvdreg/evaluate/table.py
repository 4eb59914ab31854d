"""Tables of benchmark figures: aligned Markdown for people, JSON for programs."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from lvdreg.geometry.metrics import Summary
from lvdreg.result.files import plain

HEAD = ("method", "metric (mm)", "count", "median", "mean", "p95", "max", "failures")


@dataclass(frozen=True)
class TextTable:
    """A table ready to be shown as Markdown, which rich cannot fit to narrow terminals without loss (LOG.md).

    Attributes:
        title: Stands above.
        head: Names of the columns.
        rows: Their cells.
        left: So many columns of words stand on the left; the figures are set right.
        notes: Plain lines below.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table as aligned Markdown."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.head))]
        rule = tuple("-" * width if i < self.left else "-" * (width - 1) + ":" for i, width in enumerate(widths))
        text = [self._aligned(line, widths) for line in (self.head, rule, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *text, "", *(f"- {note}" for note in self.notes)]).rstrip()

    def _aligned(self, cells: tuple[str, ...], widths: list[int]) -> str:
        sized = list(zip(cells, widths, strict=True))
        padded = (cell.ljust(width) for cell, width in sized[: self.left])
        return "| " + " | ".join([*padded, *(cell.rjust(width) for cell, width in sized[self.left :])]) + " |"


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

    def shown(self) -> tuple[TextTable, ...]:
        """Return what is shown of it, from top to bottom."""
        return (TextTable(self.title, HEAD, tuple(row.cells() for row in self.rows), 2, self.notes),)

    def render(self) -> str:
        """Return everything that is shown as Markdown."""
        return "\n\n".join(table.markdown() for table in self.shown())

    def to_json(self) -> str:
        """Return everything as JSON text; what is not a finite number is null."""
        rows = [{"method": row.method, "metric": row.metric, **asdict(row.summary)} for row in self.rows]
        whole = {"title": self.title, "rows": rows, "notes": self.notes, "details": self.details}
        return json.dumps(plain(whole), indent=2, allow_nan=False)
