"""The hand detector's training: synthetic hands under right and wrong hypotheses, from afar and from close by."""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lvdreg.body.catalogue import load_body
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.synth.hand_scans import HandStream
from lvdreg.train.run import VALIDATION_SEED, RunOptions, TrainConfig, Trainer, train
from lvdreg.voxel.hand_detector import (
    HALF_EXTENT,
    HandDetectorNet,
    HandDetectorNetConfig,
    Poses,
    hypotheses,
    principal_poses,
)

SOFTNESS = 0.35
"""Radians: among hypotheses nearly as far from the palm's frame, none is called the right one alone."""
CLOSE_TURN, CLOSE_SCALE, CLOSE_SHIFT = 0.35, 0.25, 0.15
"""How wrong a first answer may be that the hand detector looks at again: radians per axis, share, box units per
axis."""
NUM_TRIED = 4
"""Of the eight hypotheses so many are trained on, the right one among them: more hands a step for the same work."""


@dataclass(frozen=True)
class HandDetectorBatch:
    """Several views of each hand (H, at most eight), and the truth in each.

    Attributes:
        points: Clouds under each hypothesis; where there are eight, those of the right hand come first.
        valid: Which points exist.
        share: How much each of a hand's hypotheses is the right one; sums to one.
        R_palm_here: True rotations from each view to the palm; of no meaning where the share is zero.
        centre: True centres of the hands' boxes in each view.
        log_extent: Logarithm of half the box's longest side over HALF_EXTENT.
    """

    points: Float[Tensor, "B H P 3"]
    valid: Bool[Tensor, "B P"]
    share: Float[Tensor, "B H"]
    R_palm_here: Float[Tensor, "B H 3 3"]
    centre: Float[Tensor, "B H 3"]
    log_extent: Float[Tensor, "B H"]


class HandDetectorTrainer(Trainer[HandDetectorNet]):
    """Trains the hand detector of one hand."""

    name = "hand-detector"

    def __init__(self, net_config: HandDetectorNetConfig, config: TrainConfig, device: torch.device) -> None:
        """Build body, network and optimiser on the device; nothing is trained yet."""
        self.body = load_body(net_config.body).to(device)
        self.stream = HandStream(self.body)
        super().__init__(partial(HandDetectorNet, net_config), config, device)

    def draw(self, seed: int) -> HandDetectorBatch:
        """Make a batch from a seed: by turns whole clouds in their principal frames, and from close to the palm's."""
        batch = self.views(self.config.batch, seed, close=self.step % 2 == 1)
        return some_views(batch, self.generator(seed + 500_000_000))

    def bulk(self, count: int, seed: int) -> HandDetectorBatch:
        """Make so many samples at once, from afar and from close by in turn."""
        halves = []
        for close, number in ((False, count - count // 2), (True, count // 2)):
            if number:
                views = self.views(number, seed + 250_000_000 * close, close)
                halves.append(some_views(views, self.generator(seed + 500_000_000 + close)))
        both = {f.name: torch.cat([getattr(half, f.name) for half in halves]) for f in fields(HandDetectorBatch)}
        return HandDetectorBatch(**both)

    def views(self, count: int, seed: int, close: bool) -> HandDetectorBatch:
        """Draw hands and turn each to eight hypotheses."""
        generator = self.generator(seed)
        samples = self.stream.scans(count, self.config.scan_points, generator)
        pose = near_palm(samples.vertices, generator) if close else principal_poses(samples.points, samples.valid)
        tried = hypotheses(self.device)
        points = pose.apply(samples.points)[:, None] @ tried.mT
        # Samples lie in the palm's frame: the rotation back from a hypothesis is the rotation there, transposed.
        scale = pose.linear.det().abs() ** (1 / 3)
        R_here_palm = tried @ (pose.linear / scale[:, None, None])[:, None]
        low, high = samples.vertices.amin(1), samples.vertices.amax(1)
        middle = pose.apply(((low + high) / 2)[:, None])
        centre = (tried @ middle[:, :, :, None])[..., 0]
        extent = 0.5 * (high - low).amax(-1) * scale
        log_extent = (extent / HALF_EXTENT).log()[:, None].expand(-1, len(tried))
        return HandDetectorBatch(points, samples.valid, shares(R_here_palm), R_here_palm.mT, centre, log_extent)

    def loss(self, batch: HandDetectorBatch, generator: torch.Generator) -> Tensor:
        """Return cross entropy among hypotheses plus the errors of rotation, centre and size where one is right."""
        count, tried = batch.share.shape
        readings = self.net(batch.points.flatten(0, 1), batch.valid.repeat_interleave(tried, 0))
        which = nn.functional.cross_entropy(readings.logits.view(count, tried), batch.share)
        turn = (readings.R_palm_here.view(count, tried, 3, 3) - batch.R_palm_here).flatten(2).norm(dim=-1)
        place = (readings.centre.view(count, tried, 3) - batch.centre).norm(dim=-1)
        size = ((readings.half_extent.view(count, tried) / HALF_EXTENT).log() - batch.log_extent).abs()
        return which + (batch.share * (turn + 2 * place + size)).sum(1).mean()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return how often the side is right, and the error of the rotation in degrees, from afar and from close by."""
        net = self.averaged()
        scores: dict[str, float] = {}
        for close in (False, True):
            right, degrees = [], []
            for first in range(0, self.config.validation_scans, 8):
                batch = self.views(8, VALIDATION_SEED + first, close)
                readings = net(batch.points.flatten(0, 1), batch.valid.repeat_interleave(8, 0))
                best = readings.logits.view(8, 8).argmax(1)
                rows = torch.arange(8, device=best.device)
                off = readings.R_palm_here.view(8, 8, 3, 3)[rows, best] @ batch.R_palm_here[rows, best].mT
                right.append((best < 4).float())
                degrees.append(rotmat_to_rotvec(off).norm(dim=-1).rad2deg())
            where = "close" if close else "afar"
            scores[f"side_{where}"] = float(torch.cat(right).mean())
            scores[f"turn_{where}_deg"] = float(torch.cat(degrees)[torch.cat(right) > 0].median())
        return scores


def some_views(batch: HandDetectorBatch, generator: torch.Generator) -> HandDetectorBatch:
    """Keep the best hypothesis of each hand and others at random, NUM_TRIED in all."""
    chance = torch.rand(batch.share.shape, generator=generator, device=batch.share.device)
    chance.scatter_(1, batch.share.argmax(1, keepdim=True), 2.0)
    kept = chance.topk(NUM_TRIED, dim=1).indices
    rows = torch.arange(len(kept), device=kept.device)[:, None]
    share = batch.share[rows, kept]
    rest = {name: getattr(batch, name)[rows, kept] for name in ("points", "R_palm_here", "centre", "log_extent")}
    return HandDetectorBatch(valid=batch.valid, share=share / share.sum(1, keepdim=True), **rest)


def near_palm(vertices: Float[Tensor, "B V 3"], generator: torch.Generator) -> Poses:
    """Return frames as a first answer might give them: the palm's, turned, shifted and scaled a little."""
    count, device = len(vertices), vertices.device

    def randn(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, device=device).clamp(-2.5, 2.5)

    low, high = vertices.amin(1), vertices.amax(1)
    scale = HALF_EXTENT / (0.5 * (high - low).amax(-1)) * (CLOSE_SCALE * randn()).exp()
    linear = scale[:, None, None] * rotvec_to_rotmat(CLOSE_TURN * randn(3))
    shift = CLOSE_SHIFT * randn(3) - (linear @ ((low + high) / 2)[..., None])[..., 0]
    return Poses(linear, shift)


def shares(R_here_palm: Float[Tensor, "B H 3 3"]) -> Float[Tensor, "B H"]:
    """Return how much each hypothesis is right: by its angle to the palm's frame, none for mirror images."""
    proper = R_here_palm[:, :4]
    angle = ((proper.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1).acos()
    share = (-0.5 * (angle / SOFTNESS) ** 2).softmax(1)
    return torch.cat([share, torch.zeros_like(share)], 1)


def train_hand_detector(
    out: Path,
    net_config: HandDetectorNetConfig | None = None,
    config: TrainConfig | None = None,
    *,
    device: str = "cpu",
    **options: Unpack[RunOptions],
) -> Path:
    """Train the hand detector and keep it in ``out``; arguments, result and errors as of ``train_voxel``."""
    trainer = HandDetectorTrainer(net_config or HandDetectorNetConfig(), config or TrainConfig(), torch.device(device))
    return train(trainer, out, **options)
