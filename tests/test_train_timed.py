"""Training for a given time: over in time, at a rate that reaches zero; what is written is used and gone on with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lvdreg.base.errors import OutputError
from lvdreg.base.tensors import read_tensors
from lvdreg.descent.checkpoint import load_network
from lvdreg.image.regressor import RegressorConfig, RegressorNet, RegressorNetConfig
from lvdreg.train import timed
from lvdreg.train.run import TrainConfig, Trainer
from lvdreg.train.timed import Clock, Pupil, rows_of, train_for, train_together

SIZES = RegressorNetConfig("anny", 3, 5, RegressorConfig(32, (4, 8), 8, inputs=("rgb", "mask"), keypoints=()))
CONFIG = TrainConfig(batch=4, warmup=2, learning_rate=1e-3, ema=0.9)


class FakeTime:
    """A clock that goes on only when something is said to take time."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Numbers:
    """A bulk of nothing but numbers."""

    value: Tensor
    beside: "Numbers | None" = None


class Tiny(Trainer[RegressorNet]):
    """Pulls all weights towards numbers; drawing, steps, validation and writing take the seconds they are told to."""

    name = "tiny"

    def __init__(self, clock: FakeTime, step: float = 2.0, sample: float = 0.1, other: float = 3.0) -> None:
        super().__init__(lambda: RegressorNet(SIZES), CONFIG, torch.device("cpu"))
        self.clock, self.seconds = clock, (step, sample, other)
        self.bulks: list[int] = []
        self.seen: list[float] = []
        self.rates: list[float] = []
        self.writes: list[float] = []

    def draw(self, seed: int) -> Numbers:
        raise AssertionError("bulks are drawn, never single batches")

    def bulk(self, count: int, seed: int) -> Numbers:
        self.bulks.append(count)
        self.clock.seconds += self.seconds[1] * count
        values = torch.arange(count) + 1000.0 * len(self.bulks)
        return Numbers(values, Numbers(2 * values))

    def loss(self, batch: Numbers, generator: torch.Generator) -> Tensor:
        assert len(batch.value) == CONFIG.batch and batch.beside is not None
        assert torch.equal(batch.beside.value, 2 * batch.value)
        self.seen += batch.value.tolist()
        self.clock.seconds += self.seconds[0]
        self.rates.append(self.optimiser.param_groups[0]["lr"])
        return sum((p.square().mean() for p in self.net.parameters()), torch.zeros(()))

    def validate(self) -> dict[str, float]:
        self.clock.seconds += self.seconds[2]
        return {"score": 1.0}

    def save(self, folder: Path, meta: dict[str, Any]) -> None:
        self.clock.seconds += self.seconds[2]
        self.writes.append(self.clock.seconds)
        super().save(folder, meta)


@pytest.mark.parametrize(("step", "sample"), [(1.0, 0.05), (7.0, 0.5)])
def test_a_run_is_over_in_time_and_uses_it(tmp_path: Path, step: float, sample: float) -> None:
    clock = FakeTime()
    trainer = Tiny(clock, step, sample)
    path = train_for(trainer, tmp_path, 5, bulk=40, now=clock)
    taken = clock.seconds - 1000
    assert 0.85 * 300 < taken <= 300
    assert path == tmp_path / "tiny.safetensors" and path.exists()
    assert max(trainer.bulks) <= 40 and len(trainer.seen) == len(set(trainer.seen)) == sum(trainer.bulks)


def test_the_rate_rises_stays_and_falls_to_zero_with_the_time_that_is_left(tmp_path: Path) -> None:
    clock = FakeTime()
    trainer = Tiny(clock, 0.8, 0.001)
    train_for(trainer, tmp_path, 5, bulk=40, now=clock)
    rates = torch.tensor(trainer.rates) / CONFIG.learning_rate
    assert rates[0] < 0.6 and rates.max() == pytest.approx(1)
    assert rates[-1] < 0.03
    peak = int(rates.argmax())
    assert (rates[peak:].diff() <= 1e-6).all()
    falling = (rates[peak:] < 0.999).float().mean()
    assert abs(falling - timed.COOLDOWN) < 0.05
    # Linear in time, and steps take equal time: the middle of the fall is half the peak.
    assert rates[-int(0.5 * timed.COOLDOWN * len(rates))] == pytest.approx(0.5, abs=0.05)


def test_weights_are_written_every_minute_in_half_precision(tmp_path: Path) -> None:
    clock = FakeTime()
    trainer = Tiny(clock, 2.0, 0.02)
    train_for(trainer, tmp_path, 8, bulk=40, now=clock)
    gaps = torch.tensor(trainer.writes).diff()
    assert len(trainer.writes) >= 7 and gaps.max() < timed.WRITE_EVERY + 40 and gaps[:-1].min() >= timed.WRITE_EVERY
    with safe_open(tmp_path / "tiny.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    net, meta = load_network(tmp_path / "tiny.safetensors")
    assert isinstance(net, nn.Module) and meta["step"] == trainer.step and meta["validation"] == {"score": 1.0}
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, trainer.ema[name], atol=1e-3, rtol=1e-3)


def test_a_run_goes_on_where_it_was_and_warms_up_again(tmp_path: Path) -> None:
    clock = FakeTime()
    first = Tiny(clock)
    train_for(first, tmp_path, 3, bulk=16, now=clock)
    again = Tiny(clock)
    train_for(again, tmp_path, 3, bulk=16, now=clock)
    assert again.step > first.step > 0 and again.rates[0] < again.rates[10]
    assert int(read_tensors(tmp_path / "state.safetensors")[1]["step"]) == again.step
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"state{suffix}").unlink()
    with pytest.raises(OutputError, match=r"tiny\.safetensors"):
        train_for(Tiny(clock), tmp_path, 3, now=clock)


def test_too_little_time_ends_after_what_is_least(tmp_path: Path) -> None:
    clock = FakeTime()
    trainer = Tiny(clock, 0.5, 0.02)
    train_for(trainer, tmp_path, 0.1, bulk=40, now=clock)
    assert trainer.step == sum(timed.FIRST_BATCHES)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_nobody_waits_for_gradients_that_overflow_and_they_move_nothing(
    monkeypatch: pytest.MonkeyPatch, on_gpu: bool
) -> None:
    monkeypatch.setattr("lvdreg.base.devices.in_bulk", lambda device: on_gpu)

    class Overflowing(Tiny):
        def loss(self, batch: Numbers, generator: torch.Generator) -> Tensor:
            return super().loss(batch, generator) * (torch.inf if self.step == 1 else 1.0)

    trainer = Overflowing(FakeTime())
    batch = Numbers(torch.zeros(CONFIG.batch), Numbers(torch.zeros(CONFIG.batch)))
    trainer.advance(batch, 1e-3, wait=False)
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    trainer.advance(batch, 0.0, wait=False)
    for name, value in trainer.net.state_dict().items():
        assert torch.equal(value, before[name]), name
    trainer.advance(batch, 1e-3, wait=False)
    assert all(value.isfinite().all() for value in trainer.net.state_dict().values())
    assert any(not torch.equal(value, before[name]) for name, value in trainer.net.state_dict().items())


def test_several_networks_learn_from_the_same_samples(tmp_path: Path) -> None:
    clock = FakeTime()
    first, second = Tiny(clock), Tiny(clock, 0.5)
    said: list[dict[str, float]] = []
    first.name, second.name = "one", "two"
    train_together(
        [Pupil(first, tmp_path / "a"), Pupil(second, tmp_path / "b")], 5, bulk=40, report=said.append, now=clock
    )
    assert 0.85 * 300 < clock.seconds - 1000 <= 300
    assert first.seen == second.seen and second.bulks == [] and first.step == second.step > 10
    assert {"one loss", "two loss"} < set(said[0])
    for path in (tmp_path / "a" / "one.safetensors", tmp_path / "b" / "two.safetensors"):
        assert load_network(path)[1]["validation"] == {"score": 1.0}


def test_bulks_are_cut_whatever_they_hold() -> None:
    bulk = Numbers(torch.arange(6.0), Numbers(torch.arange(12.0).view(6, 2)))
    part = rows_of(bulk, 2, 4)
    assert part.value.tolist() == [2, 3] and part.beside is not None and part.beside.value.tolist() == [[4, 5], [6, 7]]
    assert rows_of(Numbers(torch.arange(6.0)), 0, 2).beside is None


def test_the_share_of_the_rate_is_what_the_clock_says() -> None:
    now = FakeTime()
    clock = Clock(10, now)
    now.seconds += 100
    clock.measured, clock.reserve = now.seconds, 20.0
    for gone, share in ((0, 1), (0.2, 1), (0.6, 0.5), (1, 0), (1.1, 0)):
        now.seconds = clock.measured + gone * (600 - 100 - 20)
        assert clock.share() == pytest.approx(share)
    assert not clock.fits(1)


class NoWaits(TorchDispatchMode):
    """Fails where the CPU would wait for a device."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        assert func.name() not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"), func.name()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bad", [False, True])
def test_a_step_waits_for_nothing_and_survives_an_overflow(monkeypatch: pytest.MonkeyPatch, bad: bool) -> None:
    trainer = Tiny(FakeTime())
    before = {name: value.clone() for name, value in trainer.net.named_parameters()}
    factor = torch.tensor(float("inf") if bad else 1.0)
    # Adam counts its steps on the CPU, whatever the device: reading them waits for nobody.
    stepped = trainer.optimiser.step
    monkeypatch.setattr(trainer.optimiser, "step", lambda: None)
    monkeypatch.setattr(
        trainer, "loss", lambda batch, generator: factor * sum(p.square().sum() for p in trainer.net.parameters())
    )
    with NoWaits():
        trainer.advance(Numbers(torch.zeros(4)), 1e-3, wait=False)
    grads = [p.grad for p in trainer.net.parameters() if p.grad is not None]
    assert all(bool(grad.isfinite().all()) for grad in grads)
    assert bad == all(bool((grad == 0).all()) for grad in grads)
    stepped()
    assert all(bool(value.isfinite().all()) for value in trainer.net.parameters())
    assert trainer.step == 1 and before.keys() == dict(trainer.net.named_parameters()).keys()
