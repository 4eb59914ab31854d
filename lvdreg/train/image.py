"""The image network's training: descents on endless synthetic photos (LVD paper, section 3.4)."""

from functools import partial
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.descent.descend import PHOTO_DESCENT, descend
from lvdreg.image.network import ImageNet, ImageNetConfig
from lvdreg.synth.photos import Photos
from lvdreg.train.codes import pose_codes
from lvdreg.train.loss import choose_vertices, clip_norm, visited_points
from lvdreg.train.photos import PhotoSource, PhotoTrainer
from lvdreg.train.run import RunOptions, TrainConfig, train

DEPTH_WEIGHT = 1.0
"""How much the error along the line of sight counts where the error across it has 1."""
LOG_SIGMA_WEIGHT = 0.02
"""How much it counts that the field is wrong about its errors: little, for their logarithms are large numbers."""
LOG_SIGMA_QUANTILE = 0.68
MIN_ERROR = 1e-3
"""Unit frame, 1 mm of a person: smaller errors are all alike."""

VISITED = 6
"""The step is trained at so many places on each vertex's way."""
WANDER = 0.02
"""Standard deviation of their distance from the way, unit frame."""


class ImageTrainer(PhotoTrainer[ImageNet]):
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
        body = (body or load_body(net_config.body)).to(device)
        codes = pose_codes(body, net_config.field.rank) if codes is None else codes
        build = partial(ImageNet, net_config, codes)
        super().__init__(build, config, device, body, source, net_config.image)

    def loss(self, batch: Photos, generator: torch.Generator) -> Tensor:
        """Return the mean error of steps on the ways of vertices, in units of the crop, and of what is said of it."""
        c, net = self.config, self.net
        features = net.features(batch.image, batch.mask, self.keypoints(batch, generator))
        vertices = choose_vertices(self.weights, len(batch.image), c.points_per_scan // VISITED, generator)
        start = any_starts(batch.vertices, vertices, generator)
        path = visited_points(net.field, features, vertices, VISITED - 1, start)
        points = path.movedim(0, 1).flatten(1, 2)
        points = points + WANDER * torch.randn(points.shape, generator=generator, device=points.device)
        repeated = vertices.repeat(1, VISITED)
        true = torch.gather(batch.vertices, 1, repeated[..., None].expand(-1, -1, 3))
        steps, log_sigma = net.field.with_log_sigma(features(points), points, repeated)
        error = steps - clip_norm(true - points, net.config.field.clip)
        return parted_loss(error) + LOG_SIGMA_WEIGHT * log_sigma_loss(log_sigma, error.detach())

    def find(self, net: ImageNet, photos: Photos, vertices: Int[Tensor, " N"], seed: int) -> Float[Tensor, "B N 3"]:
        """Let vertices descend from the centre."""
        features = net.features(photos.image, photos.mask, self.keypoints(photos, self.generator(seed)))
        return descend(net.field, features, len(photos.image), PHOTO_DESCENT, vertices).vertices


def any_starts(
    bodies: Float[Tensor, "B V 3"], vertices: Int[Tensor, "B N"], generator: torch.Generator
) -> Float[Tensor, "B N 3"]:
    """Draw where vertices begin: at the centre, at somebody else's body, anywhere.

    None of it tells where the vertices of this body are. Points near the truth, which scans are trained on, would: what
    the photo leaves open, depth above all, would be accepted wherever the vertex is, and descents would end as many
    ways as they begin. Every photo is a second one of the same person (``PhotoStream``): others are half a batch away.
    """
    other = torch.gather(bodies.roll(len(bodies) // 2, 0), 1, vertices[..., None].expand(-1, -1, 3))
    anywhere = 2 * torch.rand(other.shape, generator=generator, device=other.device) - 1
    kind = torch.rand(other.shape[:2], generator=generator, device=other.device)[..., None]
    return torch.where(kind < 0.4, torch.zeros_like(other), torch.where(kind < 0.7, other, anywhere))


def parted_loss(error: Float[Tensor, "B N 3"]) -> Float[Tensor, ""]:
    """Mean error across the line of sight plus, weighted, along it; unit frame.

    The length of the whole error, as for scans, has a gradient of length one: where depth is uncertain, and in a photo
    it is, what the image tells exactly would hardly be learnt.
    """
    return (error[..., :2].norm(dim=-1) + DEPTH_WEIGHT * error[..., 2].abs()).mean()


def log_sigma_loss(log_sigma: Float[Tensor, "*N 2"], error: Float[Tensor, "*N 3"]) -> Float[Tensor, ""]:
    """Score the logarithms that are expected of two errors, the whole one and that along the line of sight.

    The quantile loss (Koenker and Bassett 1978): least where ``LOG_SIGMA_QUANTILE`` of errors are smaller. Its gradient
    is bounded, unlike that of a likelihood, so that a field that is too sure of itself does not disturb the steps.
    """
    sizes = torch.stack([error.norm(dim=-1), error[..., 2].abs()], -1)
    short = sizes.clamp_min(MIN_ERROR).log() - log_sigma
    return torch.maximum(LOG_SIGMA_QUANTILE * short, (LOG_SIGMA_QUANTILE - 1) * short).mean()


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
