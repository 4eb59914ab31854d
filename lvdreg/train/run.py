"""The training loop: plain, resumable, one device; the same for every network.

Every step's randomness is seeded by the run's seed and the step's number, so a resumed run repeats what an
uninterrupted one would have done (on a CPU bit for bit). The learning rate warms up, stays, and falls linearly to zero
over the last ``cooldown`` steps: a run can be prolonged by resuming with more steps.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypedDict

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lvdreg.base import devices
from lvdreg.base.errors import CheckpointError, OutputError
from lvdreg.base.provenance import sha256_of
from lvdreg.base.tensors import read_tensors, write_tensors
from lvdreg.base.text import shown
from lvdreg.base.version import __version__
from lvdreg.descent.checkpoint import NetT, check_tensors, fill_network, load_network, save_network
from lvdreg.train.codes import parameter_groups


@dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    steps: int = 20_000
    cooldown: int = 5_000
    warmup: int = 300
    batch: int = 8
    points_per_scan: int = 768
    scan_points: int = 8_000
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.01
    ema: float = 0.998
    box_jitter: float = 0.12
    turn_jitter: float = 0.0
    """Standard deviation of each component of the rotation that hands are turned by, radians."""
    validate_every: int = 500
    validation_scans: int = 48
    save_every: int = 250
    seed: int = 0
    ahead: bool = False
    """Whether photos are rendered in a second thread, a batch ahead: for two cores or more."""


Report = Callable[[dict[str, float]], None]
"""Receives ``step``, ``loss`` and, now and then, what the validation set measures."""

VALIDATION_SEED = 777_000_000
MOST_STEPS = 1 << 40
"""Seeds, which are counted by the step, are numbers of 64 bits."""
ADAM_KEYS = ("step", "exp_avg", "exp_avg_sq")


class RunOptions(TypedDict, total=False):
    """How a run begins, and who hears of it; see ``train``."""

    resume: bool
    start: Path | None
    report: Report | None


class Trainer(ABC, Generic[NetT]):
    """State of one run and the step that advances it."""

    name: ClassVar[str]
    """Stem of the weights' file."""

    def __init__(self, build: Callable[[], NetT], config: TrainConfig, device: torch.device) -> None:
        """Build network and optimiser on the device.

        Args:
            build: Builds the network; its initial weights depend on the seed of the run and on nothing else.
            config: The loop's settings.
            device: Where to train.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net: NetT = build()
        self.net.to(device)
        self.config, self.device = config, device
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        groups = parameter_groups(self.net)
        # On a GPU one launch for all parameters.
        self.is_fused = devices.in_bulk(device)
        self.optimiser = torch.optim.AdamW(
            groups, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=self.is_fused or None
        )
        self.step = 0

    @abstractmethod
    def draw(self, seed: int) -> Any:
        """Make a batch from a seed."""

    @abstractmethod
    def bulk(self, count: int, seed: int) -> Any:
        """Make so many samples at once: a data class of tensors, or of such, all with one row a sample."""

    @abstractmethod
    def loss(self, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch; runs in mixed precision."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Return scores of the averaged network on a fixed set of unseen samples."""

    def generator(self, seed: int) -> torch.Generator:
        """Return a generator on the training device."""
        return torch.Generator(device=self.device).manual_seed(seed)

    def learning_rate(self) -> float:
        """Return the rate of the present step."""
        c = self.config
        rising = min(1.0, (self.step + 1) / max(c.warmup, 1))
        falling = min(1.0, (c.steps - self.step) / max(c.cooldown, 1))
        return c.learning_rate * min(rising, falling)

    def train_step(self) -> float:
        """Advance by one step; return its loss."""
        batch = self.draw(self.seed())
        return self.advance(batch, self.learning_rate()).item()

    def seed(self) -> int:
        """Return the seed of the present step's samples."""
        return self.config.seed * 1_000_003 + self.step

    def advance(self, batch: Any, rate: float, wait: bool = True) -> Tensor:
        """Advance by one step on a batch at a learning rate; return its loss, on the training device.

        Args:
            batch: As of ``draw``.
            rate: Learning rate.
            wait: Whether the CPU waits to hear if the gradient overflowed, in which case the step is left out; else it
                is a step without a gradient, and nobody waits. A GPU's optimiser leaves it out without a word.
        """
        c = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate_scale"] * rate
        self.net.train()
        # No cache: before torch 2.11 weights that were cast without gradients (visited_points) stayed without them.
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            loss = self.loss(batch, self.generator(self.seed() + 500_000_000))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        is_finite = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0).isfinite()
        # One overflow in bfloat16 would otherwise end the run: clipping an infinite gradient makes all weights NaN.
        if self.is_fused:
            self.optimiser.grad_scale, self.optimiser.found_inf = None, (~is_finite).float()  # type: ignore[attr-defined]
        elif not wait:
            for parameter in self.net.parameters():
                if parameter.grad is not None:
                    parameter.grad = torch.where(is_finite, parameter.grad, 0.0)
        if self.is_fused or not wait or bool(is_finite):
            self.optimiser.step()
        decay = min(c.ema, (1 + self.step) / (10 + self.step))
        values = self.net.state_dict()
        average = get_ema_multi_avg_fn(decay)
        average([self.ema[name] for name in values], list(values.values()), None)
        self.step += 1
        return loss.detach()

    def averaged(self) -> NetT:
        """Return the network with averaged weights, ready for inference."""
        net: NetT = deepcopy(self.net)
        net.load_state_dict(self.ema)
        net.eval()
        net.requires_grad_(False)
        return net

    def save(self, folder: Path, meta: dict[str, Any]) -> None:
        """Write the averaged network to ship and the full state to resume from."""
        state: dict[str, Tensor] = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        state |= {f"ema.{k}": v for k, v in self.ema.items()}
        for name, parameter in self.net.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                state[f"adam.{key}.{name}"] = torch.as_tensor(value)
        about = {"step": self.step, "train": asdict(self.config), **meta}
        write_tensors(folder / "state.safetensors", state, {"network": self.net.config.to_dict(), **about})
        save_network(folder / f"{self.name}.safetensors", self.averaged(), about)

    def resume(self, folder: Path) -> dict[str, Any]:
        """Continue from a state written by ``save``; return what it says of the weights that it began from.

        Raises:
            CheckpointError: the state is missing, damaged, or of another network.
        """
        path = folder / "state.safetensors"
        state, meta = read_tensors(path)
        network, step = meta.get("network"), meta.get("step")
        made_for = network.get("body") if isinstance(network, dict) else None
        if made_for != self.net.config.body:
            wanted = self.net.config.body
            raise CheckpointError(f"{path}: expected a run with body {wanted}, got one with {shown(made_for)}")
        if type(step) is not int or not 0 <= step <= MOST_STEPS:
            raise CheckpointError(f"{path}: not the state of a run, after {shown(step)} steps; train anew")
        fill_network(self.net, {k[4:]: v for k, v in state.items() if k.startswith("net.")}, path)
        check_tensors(self.ema, {k[4:]: v for k, v in state.items() if k.startswith("ema.")}, path)
        self.ema = {k: state[f"ema.{k}"].to(self.device, v.dtype) for k, v in self.ema.items()}
        self.step = step
        for name, parameter in self.net.named_parameters():
            kept = {key: state[f"adam.{key}.{name}"] for key in ADAM_KEYS if f"adam.{key}.{name}" in state}
            if kept:
                check_tensors({key: torch.zeros(()) if key == "step" else parameter for key in ADAM_KEYS}, kept, path)
            # Adam counts its steps on the CPU wherever the weights are, unless it is fused.
            counted = self.device if self.is_fused else "cpu"
            self.optimiser.state[parameter] = {
                key: value.float().to(counted if key == "step" else self.device) for key, value in kept.items()
            }
        return {"start": meta["start"]} if "start" in meta else {}

    def start_from(self, weights: Path) -> None:
        """Take shipped weights as the starting point: a new run, its step and optimiser at the beginning.

        Raises:
            CheckpointError: the weights are missing, damaged, or of another network.
        """
        fill_network(self.net, load_network(weights)[0].state_dict(), weights)
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}


def refuse_weights(folder: Path, name: str) -> None:
    """Refuse to write a new run over whatever lies in a folder under its names.

    Raises:
        OutputError: says what.
    """
    for path in (folder / f"{stem}{suffix}" for stem in ("state", name) for suffix in (".safetensors", ".json")):
        if os.path.lexists(path):
            raise OutputError(f"{path}: is there already; give --resume to go on with that run, or another --out")


def begin(trainer: Trainer[NetT], out: Path, resume: bool, start: Path | None) -> dict[str, Any]:
    """Fill a trainer with what a run begins from; arguments and errors as of ``train``.

    Returns:
        What is to be said of the run beside its weights.
    """
    meta: dict[str, Any] = {"lvdreg": __version__, "seed": trainer.config.seed, "device": trainer.device.type}
    if resume:
        return meta | trainer.resume(out)
    refuse_weights(out, trainer.name)
    if start is not None:
        trainer.start_from(start)
        meta["start"] = {"file": start.name, "sha256": sha256_of(start)}
    return meta


def train(
    trainer: Trainer[NetT], out: Path, *, resume: bool = False, start: Path | None = None, report: Report | None = None
) -> Path:
    """Train to the last step and keep the network in ``out``.

    Args:
        trainer: What to train, and how.
        out: Folder for ``NAME.safetensors`` (to ship) and ``state.safetensors`` (to resume), each with its JSON.
        resume: Continue what lies in ``out``; else nothing of these names may lie there.
        start: Begin from these weights instead of from scratch; ignored when resuming.
        report: Receives progress.

    Returns:
        Path of the averaged weights.

    Raises:
        CheckpointError: nothing to resume from, or it is damaged.
        OutputError: weights lie in ``out``, and are not to be resumed.
    """
    config = trainer.config
    meta = begin(trainer, out, resume, start)
    while trainer.step < config.steps:
        loss = trainer.train_step()
        done = trainer.step == config.steps
        progress: dict[str, float] = {"step": trainer.step, "loss": loss}
        if trainer.step % config.validate_every == 0 or done:
            scores = trainer.validate()
            progress |= scores
            meta["validation"] = scores
        if trainer.step % config.save_every == 0 or done:
            trainer.save(out, meta)
        if report is not None:
            report(progress)
    return out / f"{trainer.name}.safetensors"
