"""The image network's training: descents on endless synthetic photos (LVD paper, section 3.4)."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar, Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.config import DescentConfig, TrainConfig
from lvdreg.descent import descend
from lvdreg.field import Features, VertexField
from lvdreg.image.network import ImageNet, ImageNetConfig
from lvdreg.synth.photos import Photos, PhotoStream
from lvdreg.train.codes import pose_codes
from lvdreg.train.loss import choose_vertices, clip_norm, query_points, visited_points
from lvdreg.train.run import VALIDATION_SEED, RunOptions, Trainer, train
from lvdreg.train.voxel import vertex_weights

DEPTH_WEIGHT = 1.0
"""How much the error along the line of sight counts where the error across it has 1."""
KEYPOINT_NOISE = 0.02
"""Standard deviation of keypoints' errors, unit frame: 2 cm of a person."""
BatchT = TypeVar("BatchT")


class PhotoSource(Protocol):
    """Whatever gives photos: the endless stream, or a rendered dataset."""

    def photos(self, batch: int, generator: torch.Generator) -> Photos:
        """Return photos; the same generator state gives the same ones."""
        ...


class Ahead(Generic[BatchT]):
    """Makes the next batch in a second thread while the network trains on this one; batches are what they were.

    Tensor operations leave Python's lock to others, so two threads use two cores.
    """

    def __init__(self, make: Callable[[int], BatchT]) -> None:
        """Prepare; ``make`` turns a seed into a batch and draws from nothing else."""
        self.make = make
        threads = max(1, torch.get_num_threads() // 2)
        # OpenMP counts threads per thread that asks: unasked, both would take all cores and wait for each other.
        self.pool = ThreadPoolExecutor(1, "photos", torch.set_num_threads, (threads,))
        self.promised: tuple[int, Future[BatchT]] | None = None

    def __call__(self, seed: int, following: int | None) -> BatchT:
        """Return the batch of a seed and begin with the ``following`` one, if there is one."""
        promised = self.promised
        now = promised[1] if promised is not None and promised[0] == seed else self.pool.submit(self.make, seed)
        self.promised = None if following is None else (following, self.pool.submit(self.make, following))
        return now.result()


class ImageTrainer(Trainer[ImageNet]):
    """Trains the image network of one body."""

    name = "image"

    def __init__(
        self,
        net_config: ImageNetConfig,
        config: TrainConfig,
        device: torch.device,
        body: BodyModel | None = None,
        codes: Tensor | None = None,
        source: PhotoSource | None = None,
    ) -> None:
        """Build body, network and optimiser on the device; nothing is trained yet.

        Args:
            net_config: Sizes and body of the network.
            config: The loop's settings.
            device: Where to train.
            body: The body, where it is loaded already.
            codes: Initial vertex codes (V, R); principal components of random bodies when None.
            source: Where photos come from; rendered while training when None.
        """
        self.body = (body or load_body(net_config.body)).to(device)
        codes = pose_codes(self.body, net_config.field.rank) if codes is None else codes
        self.source = PhotoStream(self.body, net_config.image.size) if source is None else source
        self.weights = vertex_weights(self.body)
        self.seen_joints = [self.body.data.joint_names.index(name) for name in net_config.image.keypoints]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            net = ImageNet(net_config, codes).to(device)
        self.ahead = Ahead(lambda seed: self.batch(config.batch, seed)) if config.ahead else None
        others = [p for p in net.parameters() if p is not net.field.codes]
        slow = {"params": [net.field.codes], "pace": 0.1, "weight_decay": 0.0}
        super().__init__(net, [{"params": others, "pace": 1.0}, slow], config, device)

    def draw(self, seed: int) -> Photos:
        """Make a batch from a seed."""
        if self.ahead is None:
            return self.batch(self.config.batch, seed)
        return self.ahead(seed, seed + 1 if self.step + 1 < self.config.steps else None)

    def batch(self, size: int, seed: int) -> Photos:
        """Make photos from a seed."""
        return self.source.photos(size, self.generator(seed))

    def keypoints(self, photos: Photos, generator: torch.Generator) -> Float[Tensor, "B K 3"] | None:
        """Return what a detector might say of the joints that the network sees: a little off, some missing."""
        if not self.seen_joints:
            return None
        places = photos.joints[:, self.seen_joints, :2]
        noise = torch.randn(places.shape, generator=generator, device=places.device)
        sure = torch.rand(places.shape[:2], generator=generator, device=places.device)
        confidence = torch.where(sure < 0.15, 0.0, 0.5 + 0.5 * sure)
        return torch.cat([places + KEYPOINT_NOISE * noise, confidence[..., None]], -1)

    def loss(self, batch: Photos, generator: torch.Generator) -> Tensor:
        """Return the mean error of steps from all kinds of points, in units of the crop."""
        c, net = self.config, self.net
        features = net.features(batch.image, batch.mask, self.keypoints(batch, generator))
        vertices = choose_vertices(self.weights, len(batch.image), c.points_per_scan, generator)
        true = torch.gather(batch.vertices, 1, vertices[..., None].expand(-1, -1, 3))
        points = query_points(true, generator)
        share = c.points_per_scan // 4
        points[:, :share] = visited_points(net.field, features, vertices[:, :share], 1 + self.step % 6)
        return parted_loss(net.field, features, points, true, vertices, net.config.field.clip)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return vertex errors in millimetres of full descents on a fixed set of unseen photos, no fitting.

        One photo does not tell how far away its person is, so each body's mean depth is that of the truth. ``across``
        and ``depth`` are the parts of the error in the image plane and along the line of sight.
        """
        net = self.averaged()
        errors: list[Tensor] = []
        subset = choose_vertices(self.weights, 1, 1024, self.generator(VALIDATION_SEED))[0]
        for first in range(0, self.config.validation_scans, 8):
            count = min(8, self.config.validation_scans - first)
            photos = self.batch(count, VALIDATION_SEED + first)
            keypoints = self.keypoints(photos, self.generator(VALIDATION_SEED + first))
            features = net.features(photos.image, photos.mask, keypoints)
            found = descend(net.field, features, count, DescentConfig(), subset).vertices
            errors.append(1000 * photos.metres_per_unit[:, None] * error_parts(found, photos.vertices[:, subset]))
        whole, across, depth = torch.cat(errors).unbind(1)
        return {
            "error_mm_median": float(whole.median()),
            "error_mm_mean": float(whole.mean()),
            "error_mm_max": float(whole.max()),
            "across_mm_median": float(across.median()),
            "depth_mm_median": float(depth.median()),
        }


def parted_loss(
    field: VertexField,
    features: Features,
    points: Float[Tensor, "B N 3"],
    true: Float[Tensor, "B N 3"],
    vertices: Int[Tensor, "B N"],
    clip: float,
) -> Float[Tensor, ""]:
    """Mean error of predicted steps across the line of sight plus, weighted, along it; unit frame.

    The length of the whole error, as for scans, has a gradient of length one: where depth is uncertain, and in a photo
    it is, what the image tells exactly would hardly be learnt.
    """
    error = field(features(points), points, vertices) - clip_norm(true - points, clip)
    return (error[..., :2].norm(dim=-1) + DEPTH_WEIGHT * error[..., 2].abs()).mean()


def error_parts(found: Float[Tensor, "B N 3"], true: Float[Tensor, "B N 3"]) -> Float[Tensor, "B 3"]:
    """Return mean distance, and its parts across and along z, with the mean depths aligned."""
    error = found - true
    error = error - error.mean(1, keepdim=True) * error.new_tensor([0.0, 0.0, 1.0])
    return torch.stack(
        [error.norm(dim=-1).mean(1), error[..., :2].norm(dim=-1).mean(1), error[..., 2].abs().mean(1)], 1
    )


def train_image(
    out: Path,
    net_config: ImageNetConfig | None = None,
    config: TrainConfig | None = None,
    *,
    device: str = "cpu",
    source: PhotoSource | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train an image network and keep it in ``out``.

    Args:
        out: Folder for ``image.safetensors`` (to ship) and ``state.safetensors`` (to resume), each with its JSON.
        net_config: Sizes and body of the network.
        config: Settings of the loop.
        device: Where to train: ``cpu``, ``cuda``, ``cuda:1``.
        source: Where photos come from; rendered while training when None.
        options: How the run begins, and who hears of it; see ``train.run.train``.

    Returns:
        Path of the averaged weights.

    Raises:
        CheckpointError: nothing to resume from, or it is damaged.
        BodyError: the body is missing.
    """
    net_config, config = net_config or ImageNetConfig(), config or TrainConfig()
    body = load_body(net_config.body)
    are_read = options.get("resume") or options.get("start")
    codes = torch.zeros(body.num_vertices, net_config.field.rank) if are_read else None
    return train(ImageTrainer(net_config, config, torch.device(device), body, codes, source), out, **options)
