"""Training of the direct regressor: what the image network is measured against, by the same loop on the same photos."""

from functools import partial
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.image.regressor import RegressorNet, RegressorNetConfig
from lvdreg.synth.photos import Photos
from lvdreg.train.photos import PhotoSource, PhotoTrainer
from lvdreg.train.run import RunOptions, TrainConfig, train

POSE_WEIGHT = 0.1
SHAPE_WEIGHT = 0.01
"""Weights of the errors of rotation matrices and of betas where vertices' distances in the unit frame have 1."""


class RegressorTrainer(PhotoTrainer[RegressorNet]):
    """Trains the direct regressor of one body."""

    name = "regressor"

    def __init__(
        self,
        net_config: RegressorNetConfig,
        config: TrainConfig,
        device: torch.device,
        body: BodyModel | None = None,
        source: PhotoSource | None = None,
    ) -> None:
        """Build body, network and optimiser on the device; arguments as of ``ImageTrainer``."""
        body = (body or load_body(net_config.body)).to(device)
        super().__init__(partial(RegressorNet, net_config), config, device, body, source, net_config.regressor)

    def loss(self, batch: Photos, generator: torch.Generator) -> Tensor:
        """Return the mean distance of vertices, unit frame, plus the errors of pose and shape where these are known."""
        said = self.net(batch.image, batch.mask, self.keypoints(batch, generator))
        with torch.autocast(self.device.type, enabled=False):
            loss = (said.vertices(self.body) - batch.vertices).norm(dim=-1).mean()
            if batch.params is not None:
                turn = (said.rotations - rotvec_to_rotmat(batch.params.pose)).flatten(2).norm(dim=-1).mean()
                loss = loss + POSE_WEIGHT * turn + SHAPE_WEIGHT * (said.betas - batch.params.betas).abs().mean()
        return loss

    def find(self, net: RegressorNet, photos: Photos, vertices: Int[Tensor, " N"], seed: int) -> Float[Tensor, "B N 3"]:
        """Pose the body as the network says."""
        said = net(photos.image, photos.mask, self.keypoints(photos, self.generator(seed)))
        return said.vertices(self.body)[:, vertices]


def train_regressor(
    out: Path,
    net_config: RegressorNetConfig,
    config: TrainConfig | None = None,
    *,
    device: str = "cpu",
    source: PhotoSource | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train the direct regressor and keep it in ``out``; arguments, result and errors as of ``train_image``."""
    trainer = RegressorTrainer(net_config, config or TrainConfig(), torch.device(device), source=source)
    return train(trainer, out, **options)
