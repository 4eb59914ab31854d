"""Tables by view, as the paper's table 1 has them, with its rows quoted for orientation."""

from dataclasses import dataclass

import numpy as np

from lvdreg.evaluate.table import Table, TextTable

PAPER = "LVD paper, table 1: BUFF"
QUOTED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "SPIN": ((31.96, 42.10, 53.93, 44.54, 43.13), (30.68, 40.87, 52.86, 43.30, 41.92)),
    "ExPose": ((26.07, 40.83, 54.42, 44.34, 41.41), (24.61, 39.60, 53.23, 43.16, 40.15)),
    "ProHMR": ((39.55, 49.26, 55.42, 46.03, 47.56), (38.42, 48.18, 54.41, 44.88, 46.47)),
    "Sengupta": ((27.70, 51.10, 40.11, 53.28, 43.05), (25.96, 49.77, 38.80, 52.03, 41.64)),
    "LVD": ((25.44, 38.24, 54.55, 38.10, 39.08), (23.94, 37.05, 53.55, 36.94, 37.87)),
}
"""Corona et al. 2022, table 1: V2V, then V2S, each at 0, 90, 180 and 270 degrees and on average, mm."""
QUOTED_VIEWS = (0, 90, 180, 270)


@dataclass(frozen=True)
class ByView:
    """Mean errors by view.

    Attributes:
        title: Of whom, and aligned how.
        views: Degrees.
        rows: For each method its V2V (views, then the average) and its V2S, mm; NaN where nothing was registered.
    """

    title: str
    views: tuple[int, ...]
    rows: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]

    def shown(self) -> TextTable:
        """Return the table with the paper's rows below, where the views are the same."""
        names = [*(f"{view}" for view in self.views), "mean"]
        head = ("method", *(f"V2V {name}" for name in names), *(f"V2S {name}" for name in names))
        quoted = QUOTED if self.views == QUOTED_VIEWS else {}
        rows = [*self.rows, *((f"{name} ({PAPER})", *values) for name, values in quoted.items())]
        cells = ((name, *(f"{x:.1f}" if np.isfinite(x) else "-" for x in (*v2v, *v2s))) for name, v2v, v2s in rows)
        return TextTable(f"{self.title}, mm", head, tuple(cells))


@dataclass(frozen=True)
class ViewTable(Table):
    """Figures of a benchmark with tables by view above them."""

    by_view: tuple[ByView, ...] = ()

    def shown(self) -> tuple[TextTable, ...]:
        """Return the tables by view, then the figures."""
        return (*(part.shown() for part in self.by_view), *super().shown())
