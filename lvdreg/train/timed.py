"""Training for a given time, as on a GPU that is lent by the minute: in bulk, without waiting, and over in time.

Samples are drawn hundreds at once, for a launch costs a GPU the same for 8 and for 512. The learning rate follows the
clock, so nobody has to know how fast the machine is: it falls to zero over the last ``COOLDOWN`` of the time that is
left once the speed has been measured. Inside a step the CPU never waits for the device; it does between bulks, where
the time is looked at.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lvdreg.descent.checkpoint import NetT
from lvdreg.train.run import Report, Trainer, begin

BatchT = TypeVar("BatchT")

COOLDOWN = 0.8
"""Share of the time left after the first steps, at its end, over which the rate falls to zero."""
WRITE_EVERY = 60.0
"""Seconds between two writings of the weights."""
SPARE = 1.3
"""The next bulk, the last validation and the last writing are expected to take so much longer than the last ones."""
FIRST_BATCHES = (1, 2)
"""Batches of the first two bulks: the second tells the speed, for in the first everything is built and cached."""
VALIDATION = 0.05
"""Share of the whole time that the validation at the end may take, by the speed of training; at least 8 samples."""


class Clock:
    """How much of the time a run may take is gone.

    Args:
        minutes: What it may take in all.
        now: Seconds, from any beginning.
        start: When the time began to run; now if None.
    """

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic, start: float | None = None) -> None:
        self.now = now
        self.start = now() if start is None else start
        self.end = self.start + 60 * minutes
        self.measured = now()
        self.reserve = 0.0
        """Seconds that are kept for what comes after the last step."""

    @property
    def last(self) -> float:
        """When the last step must be done."""
        return self.end - self.reserve

    def share(self) -> float:
        """Return how much of the peak learning rate is left: 1 at first, 0 when the last step must be done."""
        falls = COOLDOWN * max(self.last - self.measured, 1e-9)
        return min(1.0, max(0.0, (self.last - self.now()) / falls))

    def fits(self, seconds: float) -> bool:
        """Tell whether so much more fits in before the last step must be done."""
        return self.now() + SPARE * seconds <= self.last


def rows_of(batch: BatchT, start: int, end: int) -> BatchT:
    """Return some samples of a bulk: of a data class of tensors, or of such, or None."""
    cut: BatchT = _cut(batch, start, end)
    return cut


def _cut(part: Any, start: int, end: int) -> Any:
    if isinstance(part, Tensor):
        return part[start:end]
    if not is_dataclass(part) or isinstance(part, type):
        return part
    return replace(part, **{item.name: _cut(getattr(part, item.name), start, end) for item in fields(part)})


@dataclass
class Pupil:
    """One of the networks that a run trains."""

    trainer: Trainer[Any]
    out: Path
    """Folder for ``NAME.safetensors`` (to ship; half precision) and ``state.safetensors`` (to resume)."""
    start: Path | None = None
    """Begin from these weights instead of from scratch; ignored when going on with the run that lies in ``out``."""
    meta: dict[str, Any] = field(default_factory=dict)
    """What is said beside the weights."""


class TimedRun:
    """A run that is given minutes instead of steps.

    Args:
        networks: What to train, all of them on the same samples, which the first one draws; of their settings steps,
            cooldown, validate_every, save_every and ahead do not count.
        clock: Of the run.
        bulk: Samples drawn at once, about.
        report: Receives progress once a bulk.
    """

    def __init__(self, networks: Sequence[Pupil], clock: Clock, bulk: int, report: Report | None) -> None:
        self.networks, self.clock, self.report = networks, clock, report
        self.first = networks[0].trainer
        self.batch = self.first.config.batch
        self.most = max(1, bulk // self.batch)
        self.first_step, self.written = self.first.step, clock.now()
        self.seconds_a_batch = 0.0
        self.after: dict[str, float] = {}

    def run(self) -> None:
        """Measure the speed, train until the time is over, validate, and write."""
        for batches in FIRST_BATCHES:
            # Machines that many share may be so slow that the first step is all there is time for.
            if self.clock.fits(batches * self.seconds_a_batch):
                self._bulk(batches)
        self._write()
        self._plan_validation()
        self.clock.measured = self.clock.now()
        while (batches := self._next()) > 0:
            self._bulk(batches)
            if self.clock.now() - self.written >= WRITE_EVERY:
                self._write()
        if self.clock.now() + self.after["validate"] <= self.clock.end - SPARE * self.after["write"]:
            self._validate()
        self._write()

    def _plan_validation(self) -> None:
        """Validate on as many samples as there is time for."""
        seconds = self.seconds_a_batch / self.batch
        affordable = int(VALIDATION * (self.clock.end - self.clock.start) / max(seconds, 1e-9))
        affordable //= len(self.networks)
        count = max(8, min(self.first.config.validation_scans, affordable // 8 * 8))
        for network in self.networks:
            network.trainer.config = replace(network.trainer.config, validation_scans=count)
        self._keep_back(validate=len(self.networks) * count * seconds)

    def _next(self) -> int:
        """Return how many batches to draw next: a bulk, or what still fits, but no more than until the next writing."""
        for batches in (self.most, *(self.most // 2**k for k in range(1, 12))):
            if batches < 1:
                break
            seconds = batches * self.seconds_a_batch
            if self.clock.fits(seconds) and (batches == 1 or seconds <= WRITE_EVERY):
                return batches
        return 0

    def _bulk(self, batches: int) -> None:
        """Draw samples, and let every network take a step on every batch of them."""
        began = self.clock.now()
        with torch.no_grad():
            samples = self.first.bulk(batches * self.batch, self.first.seed())
        losses = {
            network.trainer.name: [
                network.trainer.advance(batch, self.rate(network.trainer), wait=False)
                for batch in self._batches(samples, batches)
            ]
            for network in self.networks
        }
        # Here alone the CPU waits for the device.
        means = {self._label(name, "loss"): float(torch.stack(of).float().mean()) for name, of in losses.items()}
        self.seconds_a_batch = (self.clock.now() - began) / batches
        if self.report is not None:
            gone = (self.clock.now() - self.clock.start) / 60
            self.report({"step": self.first.step, **means, "rate": self.rate(self.first), "minutes": gone})

    def _label(self, name: str, what: str) -> str:
        return what if len(self.networks) == 1 else f"{name} {what}"

    def _batches(self, samples: Any, batches: int) -> Iterator[Any]:
        for number in range(batches):
            yield rows_of(samples, number * self.batch, (number + 1) * self.batch)

    def rate(self, trainer: Trainer[Any]) -> float:
        """Return a network's present learning rate: it rises over the first steps, and then follows the clock."""
        c = trainer.config
        rising = min(1.0, (self.first.step - self.first_step + 1) / max(1, self._warmup(c.warmup)))
        return c.learning_rate * min(rising, self.clock.share())

    def _warmup(self, asked: int) -> float:
        """Return over how many steps the rate rises: no more than a tenth of what is expected in all."""
        if not self.seconds_a_batch:
            return asked
        expected = (self.clock.last - self.clock.measured) / self.seconds_a_batch
        return min(asked, 0.1 * expected)

    def _validate(self) -> None:
        for network in self.networks:
            scores = network.trainer.validate()
            network.meta["validation"] = scores
            if self.report is not None:
                said = {self._label(network.trainer.name, name): value for name, value in scores.items()}
                self.report({"step": network.trainer.step, **said})

    def _write(self) -> None:
        """Write averaged weights in half precision, and the states to resume from."""
        began = self.clock.now()
        for network in self.networks:
            network.meta["minutes"] = (began - self.clock.start) / 60
            network.trainer.save(network.out, network.meta)
        self.written = self.clock.now()
        self._keep_back(write=self.written - began)

    def _keep_back(self, **seconds: float) -> None:
        """Keep time for the last validation and the last writing, as long as they took the last time."""
        self.after |= seconds
        self.clock.reserve = SPARE * sum(self.after.values())


def train_for(
    trainer: Trainer[NetT],
    out: Path,
    minutes: float,
    *,
    bulk: int = 512,
    start: Path | None = None,
    report: Report | None = None,
    now: Callable[[], float] = time.monotonic,
    began: float | None = None,
) -> Path:
    """Train one network for some minutes; arguments and errors as of ``train_together`` and ``Pupil``.

    Returns:
        Path of the averaged weights.
    """
    train_together([Pupil(trainer, out, start)], minutes, bulk=bulk, report=report, now=now, began=began)
    return out / f"{trainer.name}.safetensors"


def train_together(
    networks: Sequence[Pupil],
    minutes: float,
    *,
    bulk: int = 512,
    report: Report | None = None,
    now: Callable[[], float] = time.monotonic,
    began: float | None = None,
) -> None:
    """Train networks on the same samples for some minutes, all in; go on with runs that lie in their folders.

    Args:
        networks: What to train, and where it is kept; the first one draws the samples of all.
        minutes: What may be used, from the beginning to the end; at least what a few steps, a validation and two
            writings take. A run that goes on rises and falls again within its own minutes.
        bulk: Samples drawn at once, about; fewer where they would take more than a minute.
        report: Receives progress, once a bulk; what several networks have apart begins with their names.
        now: The clock, seconds.
        began: When the minutes began, by that clock, if it was before the call.

    Raises:
        CheckpointError: a state is damaged, or weights to start from are.
        OutputError: weights without a state lie in a folder.
    """
    clock = Clock(minutes, now, began)
    for network in networks:
        resume = (network.out / "state.safetensors").exists()
        network.meta |= begin(network.trainer, network.out, resume, network.start)
    TimedRun(networks, clock, bulk, report).run()
