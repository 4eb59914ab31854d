"""What the command line shows while it works and at the end: progress to standard error, tables to standard output."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from lvdreg.base.text import one_line, side_words
from lvdreg.batch import SUMMARY, Listener, Outcome
from lvdreg.cli.doctor import Check

COLOURS = {"good": "green", "check": "yellow", "failed": "red", None: "red"}
# Tables in a pipe or a log are not squeezed into rich's default of 80 columns.
PIPED_WIDTH = 150
MAY_LACK = ("error mm", "mask", "height", "unit", "up", "side")
"""Columns of the last table that not every kind of result fills."""


def console(stderr: bool = False) -> Console:
    """Return a console that is wide where it is not a terminal."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


class Progress(Listener):
    """Shows the present scan and its stage, and leaves one line for every scan that is done."""

    def __init__(self) -> None:
        """Prepare; nothing is shown before the first scan."""
        self.console = console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self.bars = Bars(*columns, console=self.console, transient=True)
        self.title = ""
        self.task = self.bars.add_task("", visible=False)

    def __enter__(self) -> "Progress":
        """Start to show."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the moving line."""
        self.bars.stop()

    def start(self, source: Path, number: int, count: int) -> None:
        """Show the scan."""
        self.title = f"[{number}/{count}] {one_line(source.name)}"
        self.bars.reset(self.task, description=self.title, visible=True)

    def stage(self, name: str) -> None:
        """Show the stage."""
        self.bars.update(self.task, description=f"{self.title}: {name}")

    def done(self, outcome: Outcome) -> None:
        """Leave a line: the stages and their times, or why there is no result."""
        self.console.print(done_line(self.title, outcome), soft_wrap=True)


def done_line(title: str, outcome: Outcome) -> Text:
    """Say in one line what became of a scan."""
    line = Text(f"{title}: ")
    if not outcome.registered:
        return line.append("not registered: ", "red").append(one_line(outcome.reason))
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in outcome.timings.items() if name != "total")
    line.append(f"{outcome.verdict}", COLOURS[outcome.verdict]).append(f", {outcome.seconds:.1f} s")
    return line.append(f" ({stages})" if stages else "", "dim")


def print_summary(outcomes: Sequence[Outcome], out: Path) -> None:
    """Print the table at the end, and a last line that counts."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [summary_cells(outcome) for outcome in outcomes]
    # Bodies have an up, hands a side, photos neither: a column in which nothing stands is left out.
    names = [name for name in rows[0] if name not in MAY_LACK or any(row[name] for row in rows)] if rows else []
    for name in names:
        table.add_column(name, justify="right" if name in ("error mm", "seconds") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in names))
    found = console()
    found.print(table)
    found.print(Text(last_line(outcomes, out)), soft_wrap=True)


def summary_cells(outcome: Outcome) -> dict[str, Text]:
    """Return the cells of one scan by column, as text that rich does not take for markup."""
    error = outcome.error_mm
    words = {
        "scan": outcome.folder or Path(outcome.source).name,
        "verdict": outcome.verdict or "none",
        "error mm": "" if error is None or not math.isfinite(error) else f"{error:.1f}",
        "mask": "" if outcome.iou is None else f"{outcome.iou:.0%}",
        "height": height_words(outcome),
        "unit": outcome.unit or "",
        "up": outcome.up or "",
        "side": side_words(outcome.side, outcome.side_confidence) if outcome.side else "",
        "seconds": f"{outcome.seconds:.1f}",
        "reason": outcome.reason,
    }
    cells = {name: Text(one_line(word)) for name, word in words.items()}
    cells["verdict"].stylize(COLOURS[outcome.verdict])
    return cells


def height_words(outcome: Outcome) -> str:
    """Say how tall the person in a photo is, with a question mark where that is a guess."""
    if outcome.height_m is None:
        return ""
    return f"{outcome.height_m:.2f} m{'?' if outcome.height_is_guess else ''}"


def last_line(outcomes: Sequence[Outcome], out: Path) -> str:
    """Count the verdicts and say where the results are."""
    verdicts = Counter(outcome.verdict for outcome in outcomes if outcome.registered)
    kinds = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("good", "check", "failed") if verdicts[verdict])
    line = f"{sum(verdicts.values())} of {len(outcomes)} registered" + (f" ({kinds})" if kinds else "")
    if any(outcome.traceback for outcome in outcomes):
        line += f"; tracebacks in {one_line(str(out / SUMMARY))}"
    return f"{line}; results in {one_line(str(out))}"


def print_checks(checks: Sequence[Check]) -> None:
    """Print what lvdreg doctor found."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("!!", "red")
        table.add_row(mark, Text(check.name), Text(one_line(check.found), overflow="fold"))
    console().print(table)


class TrainingProgress:
    """Shows steps, loss and validation error of a training run; every validation leaves a line."""

    def __init__(self, steps: int) -> None:
        """Prepare for so many steps."""
        self.console = console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.bars = Bars(*columns, console=self.console, transient=True)
        self.steps, self.task = steps, self.bars.add_task("starting")

    def __enter__(self) -> "TrainingProgress":
        """Start to show."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the moving line."""
        self.bars.stop()

    def __call__(self, report: dict[str, float]) -> None:
        """Show one step."""
        words = f"step {report['step']:.0f} of {self.steps}, loss {report['loss']:.5f}"
        self.bars.update(self.task, description=words)
        scores = [f"{name} {value:.3g}" for name, value in report.items() if name not in {"step", "loss"}]
        if scores:
            self.console.print(", ".join([words, *scores]))


@contextmanager
def counted() -> Iterator[Callable[[int, int, str], None]]:
    """Give a function that shows how many scans of a benchmark are done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bars(*columns, console=console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting")
        yield lambda done, count, what: bars.update(task, description=f"{done} of {count}: {one_line(what)}")


@contextmanager
def generated(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows how much of a long production is done, how fast it goes, and how long it will take."""
    shown, start = console(stderr=True), Rate()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=shown, transient=True) as bars:
        task = bars.add_task("starting")

        def show(done: int, total: int) -> None:
            bars.update(
                task, completed=done, total=total, description=f"{done} of {total} {what}{start.words(done, total)}"
            )

        yield show


class Rate:
    """How fast something goes since the first time it was asked, and how long the rest takes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock."""
        self.clock = clock
        self.first: tuple[int, float] | None = None

    def words(self, done: int, total: int) -> str:
        """Say it; nothing while it is not known."""
        now = self.clock()
        self.first = self.first or (done, now)
        since, seconds = done - self.first[0], now - self.first[1]
        if since <= 0 or seconds <= 0:
            return ""
        left = (total - done) * seconds / since
        hours, minutes = int(left // 3600), int(left % 3600 // 60)
        rest = f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{int(left % 60):02d}"
        return f", {since / seconds:.1f} a second, {rest} left"


@contextmanager
def worked(title: str) -> Iterator[Callable[[str], None]]:
    """Give a function that shows which step of one long task is being done; nothing where nobody watches."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    shown = console(stderr=True)
    with Bars(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bars:
        task = bars.add_task(one_line(title))
        yield lambda step: bars.update(task, description=f"{one_line(title)}: {step}")
