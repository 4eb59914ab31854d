"""What trainings on photos share: where photos come from, batches made ahead, and how errors are measured."""

import os
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.landmarks import landmarks_of
from lvdreg.body.model import BodyModel
from lvdreg.descent.checkpoint import NetT
from lvdreg.image.inputs import Sees
from lvdreg.synth.draw import Draw
from lvdreg.synth.photos import Photos, PhotoStream
from lvdreg.train.loss import choose_vertices
from lvdreg.train.run import VALIDATION_SEED, TrainConfig, Trainer
from lvdreg.train.voxel import vertex_weights

BatchT = TypeVar("BatchT")
DETECTED = (
    (0.07, 0.0, 0.05, 0.30),
    (0.07, 0.05, 0.3, 0.12),
    (0.07, 0.3, 0.6, 0.06),
    (0.17, 0.6, 0.95, 0.03),
    (0.62, 0.95, 1.0, 0.02),
)
"""How keypoints are found: their share, lowest and highest confidence, and the standard deviation of their errors, unit
frame, where 0.01 is about a centimetre of a person. As the shipped detector finds them on drawn photos ("Where
detectors see joints" in LOG.md)."""
ERROR_SPREAD = 0.5
"""Standard deviation of the logarithm of that standard deviation from keypoint to keypoint."""
GROSS, GROSS_SHARE = 8.0, 0.06
"""So many times as far are so many of them off, however sure the detector is."""
COMMON_NOISE = 0.01
"""Standard deviation of what all keypoints of a photo are off by, unit frame."""


def mirrored(name: str) -> str:
    """Return the name of the joint on the other side."""
    left, right = name.startswith("left_"), name.startswith("right_")
    return f"right_{name[5:]}" if left else f"left_{name[6:]}" if right else name


@runtime_checkable
class PhotoSource(Protocol):
    """Whatever gives photos: the endless stream, or a rendered dataset."""

    def photos(self, batch: int, generator: torch.Generator) -> Photos:
        """Return photos; the same generator state gives the same ones."""
        ...


class Ahead(Generic[BatchT]):
    """Makes the next batch in a second thread while the network trains on this one; batches are what they were.

    Tensor operations leave Python's lock to others, so two threads use two cores; each gets half of the cores.
    """

    def __init__(self, make: Callable[[int], BatchT]) -> None:
        """Prepare; ``make`` turns a seed into a batch and draws from nothing else."""
        self.make = make
        # OpenMP counts threads per thread that asks: unasked, both would take all cores and wait for each other.
        threads = max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // 2))
        torch.set_num_threads(threads)
        self.pool = ThreadPoolExecutor(1, "photos", torch.set_num_threads, (threads,))
        self.promised: tuple[int, Future[BatchT]] | None = None

    def __call__(self, seed: int, following: int | None) -> BatchT:
        """Return the batch of a seed and begin with the ``following`` one, if there is one."""
        promised = self.promised
        now = promised[1] if promised is not None and promised[0] == seed else self.pool.submit(self.make, seed)
        self.promised = None if following is None else (following, self.pool.submit(self.make, following))
        return now.result()


class PhotoTrainer(Trainer[NetT]):
    """Trains a network that sees photos of one body."""

    def __init__(
        self,
        build: Callable[[], NetT],
        config: TrainConfig,
        device: torch.device,
        body: BodyModel,
        source: PhotoSource | None,
        seen: Sees,
    ) -> None:
        """Build network and optimiser, and find photos.

        Args:
            build: Builds the network; see ``Trainer``.
            config: The loop's settings.
            device: Where to train.
            body: The body, on the device.
            source: Where photos come from; rendered while training when None.
            seen: What the network sees of photos.
        """
        super().__init__(build, config, device)
        self.body = body
        self.detected = landmarks_of(body.data, seen.keypoints)[0].chosen(seen.keypoints)
        other = [mirrored(name) for name in seen.keypoints]
        other_side = [seen.keypoints.index(n) if n in seen.keypoints else i for i, n in enumerate(other)]
        # An index on the device: a GPU waits for lists.
        self.other_side = torch.tensor(other_side, device=device)
        self.size = seen.size
        self.source = self.unseen if source is None else source
        self.weights = vertex_weights(body)
        self.ahead = Ahead(lambda seed: self.batch(config.batch, seed)) if config.ahead else None

    @cached_property
    def unseen(self) -> PhotoSource:
        """Where photos to validate on come from: rendered whatever trains the network, so that runs can be compared."""
        return PhotoStream(self.body, self.size)

    @abstractmethod
    def find(self, net: NetT, photos: Photos, vertices: Int[Tensor, " N"], seed: int) -> Float[Tensor, "B N 3"]:
        """Return where the network sees some vertices, unit frame."""

    def draw(self, seed: int) -> Photos:
        """Make a batch from a seed."""
        if self.ahead is None:
            return self.batch(self.config.batch, seed)
        return self.ahead(seed, seed + 1 if self.step + 1 < self.config.steps else None)

    def bulk(self, count: int, seed: int) -> Photos:
        """Make so many photos at once."""
        return self.batch(count, seed)

    def batch(self, size: int, seed: int) -> Photos:
        """Make photos from a seed."""
        return self.source.photos(size, self.generator(seed))

    def keypoints(self, photos: Photos, generator: torch.Generator) -> Float[Tensor, "B K 3"] | None:
        """Return what a detector might say of the landmarks that the network sees: a little off, some wrong."""
        if not self.detected.names:
            return None
        places = self.detected.of(photos.vertices, photos.joints)[..., :2]
        draw = Draw(len(places), generator)
        swapped = draw.chance(0.03, (1, 1))  # now and then detectors take left for right
        places = torch.where(swapped, places.index_select(1, self.other_side), places)
        count = (places.shape[1],)
        kind = draw.uniform(shape=count)
        share, low, high, sigma = torch.tensor(DETECTED, device=places.device).T
        row = torch.bucketize(kind, share.cumsum(0)[:-1])
        error = sigma[row] * (ERROR_SPREAD * draw.normal(count)).exp()
        error = error * torch.where(draw.chance(GROSS_SHARE, count), GROSS, 1.0)
        places = places + error[..., None] * draw.normal((*count, 2)) + COMMON_NOISE * draw.normal((1, 2))
        sure = low[row] + (high - low)[row] * draw.uniform(shape=count)
        confidence = torch.where(draw.chance(0.04), 0.0, sure)
        return torch.cat([places, confidence[..., None]], -1)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return vertex errors in millimetres on a fixed set of unseen photos, no fitting.

        One photo does not tell how far away its person is, so each body's mean depth is that of the truth. ``across``
        and ``depth`` are the parts of the error in the image plane and along the line of sight.
        """
        net = self.averaged()
        errors: list[Tensor] = []
        subset = choose_vertices(self.weights, 1, 1024, self.generator(VALIDATION_SEED))[0]
        for first in range(0, self.config.validation_scans, 8):
            seed = VALIDATION_SEED + first
            photos = self.unseen.photos(min(8, self.config.validation_scans - first), self.generator(seed))
            parts = error_parts(self.find(net, photos, subset, seed), photos.vertices[:, subset])
            errors.append(1000 * photos.metres_per_unit[:, None] * parts)
        whole, across, depth = torch.cat(errors).unbind(1)
        return {
            "error_mm_median": float(whole.median()),
            "error_mm_mean": float(whole.mean()),
            "error_mm_max": float(whole.max()),
            "across_mm_median": float(across.median()),
            "depth_mm_median": float(depth.median()),
        }


def error_parts(found: Float[Tensor, "B N 3"], true: Float[Tensor, "B N 3"]) -> Float[Tensor, "B 3"]:
    """Return mean distance, and its parts across and along z, with the mean depths aligned."""
    error = found - true
    error = error - error.mean(1, keepdim=True) * error.new_tensor([0.0, 0.0, 1.0])
    return torch.stack(
        [error.norm(dim=-1).mean(1), error[..., :2].norm(dim=-1).mean(1), error[..., 2].abs().mean(1)], 1
    )
