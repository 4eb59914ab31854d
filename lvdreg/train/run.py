"""The training loop: plain, resumable, one device.

Every step's randomness is seeded by the run's seed and the step's number, so a resumed run repeats what an
uninterrupted one would have done (on a CPU bit for bit). The learning rate warms up, stays, and falls linearly to zero
over the last ``cooldown`` steps: a run can be prolonged by resuming with more steps.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.checkpoint import fill_network, load_network, read_tensors, save_network, write_tensors
from lvdreg.config import DescentConfig, TrainConfig
from lvdreg.descent import descend
from lvdreg.errors import CheckpointError
from lvdreg.normalise import unit_box
from lvdreg.synth.stream import Samples, SynthStream
from lvdreg.train.codes import pose_codes
from lvdreg.train.loss import choose_vertices, descent_loss, query_points, visited_points
from lvdreg.voxel.network import VoxelNet, VoxelNetConfig

Report = Callable[[dict[str, float]], None]
"""Receives ``step``, ``loss`` and, now and then, ``error_mm_median`` and ``error_mm_mean`` of the validation set."""

VALIDATION_SEED = 777_000_000
ADAM_KEYS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class UnitBatch:
    """Samples in the unit frame: what the network sees and what it should find."""

    points: Tensor
    valid: Tensor
    vertices: Tensor
    metres_per_unit: Tensor


def to_unit(samples: Samples, jitter: float, generator: torch.Generator) -> UnitBatch:
    """Normalise as inference does, with a little play in scale and place since real boxes are never quite alike."""
    scale, centre = unit_box(samples.points, samples.valid)
    device = samples.points.device
    play = 1 - jitter * torch.rand(len(scale), generator=generator, device=device)
    shift = 0.5 * jitter * (torch.rand(len(scale), 3, generator=generator, device=device) - 0.5)
    scale = scale * play

    def apply(p: Tensor) -> Tensor:
        return (p - centre[:, None]) * scale[:, None, None] + shift[:, None]

    return UnitBatch(apply(samples.points), samples.valid, apply(samples.vertices), 1 / scale)


class Trainer:
    """State of one run and the step that advances it."""

    def __init__(
        self,
        net_config: VoxelNetConfig,
        config: TrainConfig,
        device: torch.device,
        body: BodyModel | None = None,
        codes: Tensor | None = None,
    ) -> None:
        """Build body, network and optimiser on the device; nothing is trained yet.

        Args:
            net_config: Sizes and body of the network.
            config: The loop's settings.
            device: Where to train.
            body: The body, where it is loaded already.
            codes: Initial vertex codes (V, R); principal components of random bodies when None.
        """
        self.config, self.device = config, device
        self.body = (body or load_body(net_config.body)).to(device)
        codes = pose_codes(self.body, net_config.field.rank) if codes is None else codes
        self.stream = SynthStream(self.body)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net = VoxelNet(net_config, codes).to(device)
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        codes_only = [self.net.field.codes]
        others = [p for p in self.net.parameters() if p is not self.net.field.codes]
        # The codes begin as principal components, nearly right: they may drift, not jump.
        groups = [{"params": others, "pace": 1.0}, {"params": codes_only, "pace": 0.1, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=config.weight_decay)
        self.weights = vertex_weights(self.body)
        self.step = 0

    def generator(self, seed: int) -> torch.Generator:
        """Return a generator on the training device."""
        return torch.Generator(device=self.device).manual_seed(seed)

    def batch(self, size: int, seed: int, jitter: float) -> UnitBatch:
        """Make samples from a seed."""
        generator = self.generator(seed)
        return to_unit(self.stream.scans(size, self.config.scan_points, generator), jitter, generator)

    def learning_rate(self) -> float:
        """Return the rate of the present step."""
        c = self.config
        rising = min(1.0, (self.step + 1) / max(c.warmup, 1))
        falling = min(1.0, (c.steps - self.step) / max(c.cooldown, 1))
        return c.learning_rate * min(rising, falling)

    def train_step(self) -> float:
        """Advance by one step; return its loss in box units."""
        c = self.config
        seed = c.seed * 1_000_003 + self.step
        samples = self.batch(c.batch, seed, c.box_jitter)
        generator = self.generator(seed + 500_000_000)
        for group in self.optimiser.param_groups:
            group["lr"] = group["pace"] * self.learning_rate()
        self.net.train()
        # No cache: before torch 2.11 weights that were cast without gradients (visited_points) stayed without them.
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            features = self.net.features(samples.points, samples.valid)
            vertices = choose_vertices(self.weights, c.batch, c.points_per_scan, generator)
            true = torch.gather(samples.vertices, 1, vertices[..., None].expand(-1, -1, 3))
            points = query_points(true, generator)
            share = c.points_per_scan // 4
            points[:, :share] = visited_points(self.net.field, features, vertices[:, :share], 1 + self.step % 6)
            loss = descent_loss(self.net.field, features, points, true, vertices, self.net.config.field.clip)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        if bool(norm.isfinite()):
            # One overflow in bfloat16 would otherwise end the run: clipping an infinite gradient makes all weights NaN.
            self.optimiser.step()
        decay = min(c.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.net.state_dict().items():
            self.ema[name].lerp_(value.to(self.ema[name].dtype), 1 - decay)
        self.step += 1
        return loss.item()

    def averaged(self) -> VoxelNet:
        """Return the network with averaged weights, ready for inference."""
        net = deepcopy(self.net)
        net.load_state_dict(self.ema)
        return net.eval().requires_grad_(False)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return vertex errors in millimetres of full descents on a fixed set of unseen samples, no fitting."""
        net = self.averaged()
        errors: list[Tensor] = []
        subset = choose_vertices(self.weights, 1, 1024, self.generator(VALIDATION_SEED))[0]
        for first in range(0, self.config.validation_scans, 8):
            count = min(8, self.config.validation_scans - first)
            samples = self.batch(count, VALIDATION_SEED + first, 0.0)
            features = net.features(samples.points, samples.valid)
            found = descend(net.field, features, count, DescentConfig(), subset).vertices
            distance = (found - samples.vertices[:, subset]).norm(dim=-1).mean(-1)
            errors.append(1000 * distance * samples.metres_per_unit)
        per_scan = torch.cat(errors)
        return {
            "error_mm_median": float(per_scan.median()),
            "error_mm_mean": float(per_scan.mean()),
            "error_mm_max": float(per_scan.max()),
        }

    def save(self, folder: Path, meta: dict[str, Any]) -> None:
        """Write the averaged network to ship and the full state to resume from."""
        state: dict[str, Tensor] = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        state |= {f"ema.{k}": v for k, v in self.ema.items()}
        for name, parameter in self.net.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                state[f"adam.{key}.{name}"] = torch.as_tensor(value)
        about = {"step": self.step, "train": asdict(self.config), **meta}
        write_tensors(folder / "state.safetensors", state, {"network": self.net.config.to_dict(), **about})
        save_network(folder / "voxel.safetensors", self.averaged(), about)

    def resume(self, folder: Path) -> None:
        """Continue from a state written by ``save``.

        Raises:
            CheckpointError: the state is missing, damaged, or of another network.
        """
        path = folder / "state.safetensors"
        state, meta = read_tensors(path)
        made_for = meta.get("network", {}).get("body")
        if made_for != self.net.config.body:
            raise CheckpointError(f"{path}: expected a run with body {self.net.config.body}, got one with {made_for}")
        fill_network(self.net, {k[4:]: v for k, v in state.items() if k.startswith("net.")}, path)
        try:
            self.ema = {k: state[f"ema.{k}"].to(self.device) for k in self.ema}
            self.step = int(meta["step"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: not the state of a run, lacks {error}; train anew") from error
        for name, parameter in self.net.named_parameters():
            self.optimiser.state[parameter] = {
                # Adam counts its steps on the CPU wherever the weights are.
                key: state[f"adam.{key}.{name}"].to("cpu" if key == "step" else self.device)
                for key in ADAM_KEYS
                if f"adam.{key}.{name}" in state
            }

    def start_from(self, weights: Path) -> None:
        """Take shipped weights as the starting point: a new run, its step and optimiser at the beginning.

        Raises:
            CheckpointError: the weights are missing, damaged, or of another network.
        """
        net, _ = load_network(weights)
        fill_network(self.net, net.state_dict(), weights)
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}


def vertex_weights(body: BodyModel) -> Tensor:
    """Return how often each vertex is asked: half by its surface area, half alike, so that hands and face count too."""
    template, faces = body.v_template, body.faces
    corners = template[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    per_vertex = template.new_zeros(len(template)).index_add_(0, faces.reshape(-1), area.repeat_interleave(3))
    return 0.5 * per_vertex / per_vertex.sum() + 0.5 / len(template)


def train_voxel(
    out: Path,
    net_config: VoxelNetConfig | None = None,
    config: TrainConfig | None = None,
    *,
    device: str = "cpu",
    resume: bool = False,
    start: Path | None = None,
    report: Report | None = None,
) -> Path:
    """Train the voxel network and keep it in ``out``.

    Args:
        out: Folder for ``voxel.safetensors`` (to ship) and ``state.safetensors`` (to resume), each with its JSON.
        net_config: Sizes and body of the network.
        config: The loop's settings.
        device: "cpu" or "cuda"; both train in bfloat16 with single-precision weights.
        resume: Continue what lies in ``out``.
        start: Begin from these weights instead of from scratch; ignored when resuming.
        report: Receives progress.

    Returns:
        Path of the averaged weights.

    Raises:
        CheckpointError: nothing to resume from, or it is damaged.
        BodyError: the body is missing.
    """
    from lvdreg import __version__

    net_config, config = net_config or VoxelNetConfig(), config or TrainConfig()
    body = load_body(net_config.body)
    # Codes that will be read from a file need not be computed first.
    codes = torch.zeros(body.num_vertices, net_config.field.rank) if resume or start else None
    trainer = Trainer(net_config, config, torch.device(device), body, codes)
    if resume:
        trainer.resume(out)
    elif start is not None:
        trainer.start_from(start)
    meta: dict[str, Any] = {"lvdreg": __version__, "seed": config.seed, "device": device}
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
    return out / "voxel.safetensors"
