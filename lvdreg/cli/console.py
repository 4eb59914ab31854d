"""What the command line shows while it works and at the end, by rich: progress to standard error, results to stdout.

Where nobody watches (a pipe, a log) nothing moves and nothing is coloured: there is a line for every scan that is done,
and rows of tables are never folded.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from lvdreg.base.text import one_line, side_words
from lvdreg.batch import TABLE, Listener, Outcome, Remote, Source
from lvdreg.cli.doctor import Check

SPEED_OVER_S = 3600.0
"""The pace of a production is that of so many seconds: one picture of a slow one may take minutes."""
COLOURS = {"good": "green", "check": "yellow", "failed": "red", None: "red"}
PIPED_WIDTH = 10_000
MOST_SKIPPED = 20
"""So many scans that are left out get a line each."""
SAY_EVERY_S = 60.0
"""How often a log says how a long run is getting on."""
MOST_ROWS = 100
"""Of so many scans the last table has all, of more those that want to be looked at."""
MAY_LACK = ("error mm", "mask", "height", "unit", "up", "side")
"""Columns of the last table that not every kind of result fills."""


def console(stderr: bool = False) -> Console:
    """Return a console that is wide where it is not a terminal."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


class MovingLine(Progress):
    """A line on standard error that says what is being done, and is gone at the end; shown on terminals only."""

    def __init__(self, *columns: ProgressColumn) -> None:
        """Prepare to show columns after the words; the elapsed time if there are none."""
        shown = console(stderr=True)
        # The default spinner is not in every encoding.
        words = SpinnerColumn("line"), TextColumn("{task.description}", markup=False)
        super().__init__(
            *words,
            *(columns or [TimeElapsedColumn()]),
            console=shown,
            transient=True,
            disable=not shown.is_terminal,
            speed_estimate_period=SPEED_OVER_S,
        )
        self.add_task("starting", total=None)

    def show(self, words: str, done: int | None = None, total: int | None = None) -> None:
        """Say what is being done, and how much of how much."""
        self.update(self.task_ids[0], description=one_line(words), completed=done, total=total)

    def leave(self, words: str | Text) -> None:
        """Leave a line that stays, wherever it goes."""
        self.console.print(words, soft_wrap=True, markup=False)


class ScanProgress(Listener):
    """Shows the present scan and its stage on a line, and leaves one for every scan that is done.

    Of many that are left out it leaves one for some; of long runs also how many are done, how fast it goes, and how
    long it will take: with each scan on a terminal, elsewhere once a minute.
    """

    def __init__(self, line: MovingLine, clock: Callable[[], float] = time.monotonic) -> None:
        """Show it there."""
        self.line, self.title, self.clock = line, "", clock
        self.count = self.left = self.num_done = self.num_skipped = 0
        self.begun = self.said = clock()

    def plan(self, count: int, left: int) -> None:
        """Note how many there are, and say how many are left."""
        self.count, self.left, self.begun = count, left, self.clock()
        if self.num_skipped > MOST_SKIPPED:
            self.line.leave(f"{count - left} of {count} are there already")

    def start(self, source: Source, number: int, count: int) -> None:
        """Show the scan."""
        self.title = f"[{number}/{count}] {one_line(source.name)}"
        self.line.reset(self.line.task_ids[0], description=self.title)

    def stage(self, name: str) -> None:
        """Show the stage."""
        self.line.show(f"{self.title}: {name}")

    def skipped(self, outcome: Outcome) -> None:
        """Leave a line for the first ones, and for what is in quarantine."""
        self.num_skipped += 1
        self.left -= 1 if self.left else 0
        if outcome.quarantined:
            self.line.leave(Text(f"{self.title}: in quarantine: ", "red").append(one_line(outcome.reason)))
        elif self.num_skipped <= MOST_SKIPPED:
            self.line.leave(Text(f"{self.title}: there already: ").append(f"{outcome.verdict}"))

    def done(self, outcome: Outcome) -> None:
        """Leave a line: the stages and their times, or why there is no result; and say how long it will take."""
        self.line.leave(done_line(self.title, outcome))
        self.num_done += 1
        words = pace_words(self.count, self.left - self.num_done, self.num_done, self.clock() - self.begun)
        self.line.show(words)
        if self.clock() - self.said > SAY_EVERY_S and not self.line.console.is_terminal:
            self.said = self.clock()
            self.line.leave(words)


def pace_words(count: int, left: int, num_done: int, seconds: float) -> str:
    """Say how many of how many are done, how fast it goes, and how long it will take.

    Args:
        count: Inputs of the run.
        left: How many of them are not done yet.
        num_done: How many were done in so many seconds.
        seconds: See there.
    """
    minutes = left * seconds / num_done / 60
    time_left = (
        f"{minutes / 60:.1f} h" if minutes > 90 else f"{minutes:.0f} min" if minutes > 1.5 else f"{60 * minutes:.0f} s"
    )
    return f"{count - left} of {count}, {60 * num_done / max(seconds, 1e-3):.1f} a minute, {time_left} to go"


@contextmanager
def registered() -> Iterator[ScanProgress]:
    """Give a listener that shows how a batch is getting on."""
    with MovingLine() as line:
        yield ScanProgress(line)


@contextmanager
def trained(steps: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """Give a function that shows step, loss and validation error of a training run; every validation leaves a line."""
    with MovingLine() as line:

        def show(report: dict[str, float]) -> None:
            words = f"step {report['step']:.0f} of {steps}, loss {report['loss']:.5f}"
            line.show(words)
            scores = [f"{name} {value:.3g}" for name, value in report.items() if name not in {"step", "loss"}]
            if scores:
                line.leave(", ".join([words, *scores]))

        yield show


@contextmanager
def counted() -> Iterator[Callable[[int, int, str], None]]:
    """Give a function that shows how many scans of a benchmark are done."""
    with MovingLine() as line:
        yield lambda done, count, what: line.show(f"{done} of {count}: {what}")


@contextmanager
def generated(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows how much of a long production is done, how fast it goes, and how long it will take."""
    with MovingLine(BarColumn(), SpeedColumn(), TimeRemainingColumn()) as line:
        yield lambda done, total: line.show(f"{done} of {total} {what}", done, total)


class SpeedColumn(ProgressColumn):
    """How many are made a second; what was there before the first time it was asked does not count."""

    def render(self, task: Task) -> Text:
        """Say it; nothing while it is not known."""
        return Text("" if task.speed is None else f"{task.speed:.1f} a second")


@contextmanager
def worked(title: str) -> Iterator[Callable[[str], None]]:
    """Give a function that shows which step of one long task is being done."""
    with MovingLine() as line:
        line.show(title)
        yield lambda step: line.show(f"{title}: {step}")


def done_line(title: str, outcome: Outcome) -> Text:
    """Say in one line what became of a scan."""
    line = Text(f"{title}: ")
    if not outcome.registered:
        return line.append("not registered: ", "red").append(one_line(outcome.reason))
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in outcome.timings.items() if name != "total")
    line.append(f"{outcome.verdict}", COLOURS[outcome.verdict]).append(f", {outcome.seconds:.1f} s")
    return line.append(f" ({stages})" if stages else "", "dim")


def print_summary(outcomes: Sequence[Outcome], out: Path | Remote) -> None:
    """Print the table at the end, and a last line that counts; of many scans only those that are not good."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = outcomes if len(outcomes) <= MOST_ROWS else [each for each in outcomes if each.verdict != "good"]
    rows = [summary_cells(outcome) for outcome in shown[:MOST_ROWS]]
    # Bodies have an up, hands a side, photos neither: a column in which nothing stands is left out.
    names = [name for name in rows[0] if name not in MAY_LACK or any(row[name] for row in rows)] if rows else []
    for name in names:
        table.add_column(name, justify="right" if name in ("error mm", "seconds") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in names))
    found = console()
    found.print(table)
    if len(shown) > MOST_ROWS:
        found.print(Text(f"and {len(shown) - MOST_ROWS} more that are not good: see {one_line(str(out / TABLE))}"))
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


def last_line(outcomes: Sequence[Outcome], out: Path | Remote) -> str:
    """Count the verdicts and say where the results are."""
    verdicts = Counter(outcome.verdict for outcome in outcomes if outcome.registered)
    kinds = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("good", "check", "failed") if verdicts[verdict])
    line = f"{sum(verdicts.values())} of {len(outcomes)} registered" + (f" ({kinds})" if kinds else "")
    if in_quarantine := sum(outcome.quarantined for outcome in outcomes):
        line += f"; {in_quarantine} in quarantine, which lvdreg batch --release tries again"
    if any(outcome.traceback for outcome in outcomes):
        line += f"; tracebacks in {one_line(str(out / TABLE))}"
    place = one_line(str(out))
    is_here = isinstance(out, Path)  # pages are built in folders of this machine alone
    seen = f"; to look at them: lvdreg view {place}" if is_here and verdicts else ""
    return f"{line}; results in {place}{seen}"


def print_checks(checks: Sequence[Check]) -> None:
    """Print what lvdreg doctor found."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("!!", "red")
        table.add_row(mark, Text(check.name), Text(one_line(check.found), overflow="fold"))
    console().print(table)
