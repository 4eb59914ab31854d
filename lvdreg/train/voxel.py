"""The voxel network's training: descents on endless synthetic scans (LVD paper, section 3.4)."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, Unpack, runtime_checkable

import torch
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.scans import Samples
from lvdreg.synth.streams import stream_of
from lvdreg.train.codes import pose_codes
from lvdreg.train.loss import choose_vertices, descent_loss, query_points, visited_points
from lvdreg.train.run import VALIDATION_SEED, RunOptions, TrainConfig, Trainer, train
from lvdreg.voxel.network import VoxelNet, VoxelNetConfig


@runtime_checkable
class ScanSource(Protocol):
    """Gives scans with the bodies beneath them."""

    def scans(self, batch: int, num_points: int, generator: torch.Generator) -> Samples:
        """Return a batch; equal generators give equal ones."""
        ...


@dataclass(frozen=True)
class UnitBatch:
    """Samples in the unit frame: what the network sees and what it should find."""

    points: Tensor
    valid: Tensor
    vertices: Tensor
    metres_per_unit: Tensor


def to_unit(
    samples: Samples, box: tuple[Tensor, Tensor], jitter: float, turn: float, generator: torch.Generator
) -> UnitBatch:
    """Normalise as inference does, with a little play since real boxes are never quite alike.

    Args:
        samples: Scans and bodies.
        box: Scale and centre of each scan's box.
        jitter: Share by which boxes may be too large, and half of it by which they may be off.
        turn: Standard deviation of each component of a rotation vector, radians.
        generator: Source of randomness.
    """
    scale, centre = box
    device = samples.points.device
    play = 1 - jitter * torch.rand(len(scale), generator=generator, device=device)
    shift = 0.5 * jitter * (torch.rand(len(scale), 3, generator=generator, device=device) - 0.5)
    scale = scale * play
    linear = torch.diag_embed(scale[:, None].expand(-1, 3))
    if turn:
        linear = linear @ rotvec_to_rotmat(turn * torch.randn(len(scale), 3, generator=generator, device=device))

    def apply(p: Tensor) -> Tensor:
        return (p - centre[:, None]) @ linear.mT + shift[:, None]

    return UnitBatch(apply(samples.points), samples.valid, apply(samples.vertices), 1 / scale)


class VoxelTrainer(Trainer[VoxelNet]):
    """Trains the voxel network of one body."""

    name = "voxel"

    def __init__(
        self,
        net_config: VoxelNetConfig,
        config: TrainConfig,
        device: torch.device,
        body: BodyModel | None = None,
        codes: Tensor | None = None,
        source: ScanSource | None = None,
    ) -> None:
        """Build body, network and optimiser on the device; nothing is trained yet.

        Args:
            net_config: Sizes and body of the network.
            config: The loop's settings.
            device: Where to train.
            body: The body, where it is loaded already.
            codes: Initial vertex codes (V, R); principal components of random bodies when None.
            source: Gives what is learnt from; the endless stream when None. Validation is on the stream either way.
        """
        self.body = (body or load_body(net_config.body)).to(device)
        codes = pose_codes(self.body, net_config.field.rank) if codes is None else codes
        self.stream = stream_of(self.body)
        self.source: ScanSource = source or self.stream
        self.weights = vertex_weights(self.body)
        super().__init__(partial(VoxelNet, net_config, codes), config, device)

    def draw(self, seed: int) -> UnitBatch:
        """Make a batch from a seed."""
        return self.bulk(self.config.batch, seed)

    def bulk(self, count: int, seed: int) -> UnitBatch:
        """Make so many samples at once."""
        return self.batch(count, seed, self.config.box_jitter, self.config.turn_jitter, self.source)

    def batch(
        self, size: int, seed: int, jitter: float, turn: float = 0.0, source: ScanSource | None = None
    ) -> UnitBatch:
        """Make samples from a seed, of the stream unless another source is given."""
        generator = self.generator(seed)
        samples = (source or self.stream).scans(size, self.config.scan_points, generator)
        return to_unit(samples, self.stream.box(samples), jitter, turn, generator)

    def loss(self, batch: UnitBatch, generator: torch.Generator) -> Tensor:
        """Return the mean error of steps from all kinds of points, in box units."""
        c, net = self.config, self.net
        features = net.features(batch.points, batch.valid)
        vertices = choose_vertices(self.weights, c.batch, c.points_per_scan, generator)
        true = torch.gather(batch.vertices, 1, vertices[..., None].expand(-1, -1, 3))
        points = query_points(true, generator)
        share = c.points_per_scan // 4
        points[:, :share] = visited_points(net.field, features, vertices[:, :share], 1 + self.step % 6)[-1]
        return descent_loss(net.field, features, points, true, vertices, net.config.field.clip)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return vertex errors in millimetres of full descents on a fixed set of unseen samples, no fitting."""
        net = self.averaged()
        errors: list[Tensor] = []
        subset = choose_vertices(self.weights, 1, 1024, self.generator(VALIDATION_SEED))[0]
        for first in range(0, self.config.validation_scans, 8):
            count = min(8, self.config.validation_scans - first)
            samples = self.batch(count, VALIDATION_SEED + first, 0.0, 0.5 * self.config.turn_jitter)
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
    source: ScanSource | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train the voxel network and keep it in ``out``.

    Args:
        out: Folder for ``voxel.safetensors`` (to ship) and ``state.safetensors`` (to resume), each with its JSON.
        net_config: Sizes and body of the network.
        config: The loop's settings.
        device: "cpu" or "cuda"; both train in bfloat16 with single-precision weights.
        source: Gives what is learnt from; endless synthetic scans when None.
        options: How the run begins, and who hears of it; see ``train``.

    Returns:
        Path of the averaged weights.

    Raises:
        CheckpointError: nothing to resume from, or it is damaged.
        BodyError: the body is missing.
    """
    net_config, config = net_config or VoxelNetConfig(), config or TrainConfig()
    body = load_body(net_config.body)
    # Codes that will be read from a file need not be computed first.
    are_read = options.get("resume") or options.get("start")
    codes = torch.zeros(body.num_vertices, net_config.field.rank) if are_read else None
    trainer = VoxelTrainer(net_config, config, torch.device(device), body, codes, source)
    return train(trainer, out, **options)
