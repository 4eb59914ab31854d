"""Training of SPIN's regressor of parameters, by the same loop on the same photos as the image network."""

from functools import partial
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.image.regressor import Regressed, RegressorNet, RegressorNetConfig
from lvdreg.synth.photos import Photos
from lvdreg.train.photos import PhotoSource, PhotoTrainer
from lvdreg.train.regression import Taught, regression_loss
from lvdreg.train.run import RunOptions, TrainConfig, train


class SPINTrainer(PhotoTrainer[RegressorNet]):
    """Trains SPIN's regressor of one body."""

    name = "spin"

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
        """Return the ``regression_loss`` of the last iteration."""
        said = self.net(batch.image, batch.mask, self.keypoints(batch, generator))
        with torch.autocast(self.device.type, enabled=False):
            return regression_loss(said, self.teach(batch, said), self.body, self.weights)

    def teach(self, batch: Photos, said: Regressed) -> Taught:
        """Return what the network should say of photos of which it says something."""
        return Taught.truth(batch)

    def find(self, net: RegressorNet, photos: Photos, vertices: Int[Tensor, " N"], seed: int) -> Float[Tensor, "B N 3"]:
        """Pose the body as the network says."""
        said = net(photos.image, photos.mask, self.keypoints(photos, self.generator(seed)))
        return said.vertices(self.body)[:, vertices]


def train_spin(
    out: Path,
    net_config: RegressorNetConfig,
    config: TrainConfig | None = None,
    *,
    device: str = "cpu",
    source: PhotoSource | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train SPIN's regressor and keep it in ``out``; arguments, result and errors as of ``train_image``."""
    trainer = SPINTrainer(net_config, config or TrainConfig(), torch.device(device), source=source)
    return train(trainer, out, **options)
