"""Line plots by matplotlib, an extra: without it a benchmark is complete but for its pictures, and says so."""

from collections.abc import Mapping
from pathlib import Path

from lvdreg.base.disk import write_file
from lvdreg.base.shapes import FloatArray

PLOTS_HELP = "matplotlib is missing: pip install 'lvdreg[plots]'"
SOFTWARE = {"Software": "lvdreg"}
SIGNATURE = b"tEXtSoftware\0lvdreg"
"""How that stands in a PNG."""
Colours = Mapping[str, tuple[int, int, int]]


def is_plot(path: Path) -> bool:
    """Whether a file is a picture by ``draw_panels``."""
    with path.open("rb") as file:
        return SIGNATURE in file.read(4096)


def draw_panels(
    path: Path, panels: Mapping[str, Mapping[str, FloatArray]], colours: Colours, across: str, up: str
) -> str | None:
    """Draw panels of lines side by side, with one scale from zero and one legend.

    Args:
        path: Where the picture is written, as PNG.
        panels: By title, the lines by name: values at 0, 1, 2 and so on.
        colours: Of the lines by name, red, green and blue, 0 to 255; the first is drawn last and thickest.
        across: What is counted from left to right.
        up: What is measured, with its unit.

    Returns:
        Why nothing was drawn, in one line; None if it was.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return PLOTS_HELP
    figure = Figure(figsize=(4.2 * len(panels) + 0.6, 4), dpi=100, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    thick = next(iter(colours))
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, values in lines.items():
            width, order = (3.2, 3) if name == thick else (1.6, 2)
            colour = [part / 255 for part in colours[name]]
            axis.plot(values, color=colour, linewidth=width, zorder=order, label=name)
        axis.set(title=title, xlabel=across, xlim=(0, None))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(axis="y", color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    # Only now: a limit that is set while there are panels to come holds for them, too.
    axes[0].set_ylim(0, None)
    axes[0].set_ylabel(up)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(colours), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda part: figure.savefig(part, format="png", metadata=SOFTWARE))
    return None
