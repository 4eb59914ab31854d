"""Training of PyMAF's regressors, by the same loop on the same photos as the image network."""

from functools import partial
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.image.pymaf import PyMAFNet, PyMAFNetConfig
from lvdreg.image.regressor import Regressed
from lvdreg.synth.photos import Photos
from lvdreg.train.dense import dense_loss, dense_target
from lvdreg.train.photos import PhotoSource, PhotoTrainer
from lvdreg.train.regression import Taught, regression_loss
from lvdreg.train.run import RunOptions, TrainConfig, train


class PyMAFTrainer(PhotoTrainer[PyMAFNet]):
    """Trains PyMAF's regressors of one body, and beside them a map of dense correspondence, which is not shipped."""

    name = "pymaf"

    def __init__(
        self,
        net_config: PyMAFNetConfig,
        config: TrainConfig,
        device: torch.device,
        body: BodyModel | None = None,
        source: PhotoSource | None = None,
    ) -> None:
        """Build body, network and optimiser on the device; arguments as of ``ImageTrainer``."""
        body = (body or load_body(net_config.body)).to(device)
        super().__init__(partial(PyMAFNet, net_config, body.data), config, device, body, source, net_config.pymaf)

    def loss(self, batch: Photos, generator: torch.Generator) -> Tensor:
        """Return the mean of the ``regression_loss`` of all levels, and the ``dense_loss``."""
        dense = self.net.dense
        # First: rendering waits for the device, which has the least to do now.
        true = None if dense is None else dense_target(self.body, batch.vertices, self.net.sees.finest)
        maps = self.net.looked(batch.image, batch.mask, self.keypoints(batch, generator))
        levels = self.net.told(maps)
        with torch.autocast(self.device.type, enabled=False):
            # All levels at once: a GPU takes as long for a few bodies as for many.
            taught = Taught.truth(batch).repeated(len(levels))
            loss = regression_loss(Regressed.joined(levels), taught, self.body, self.weights)
        return loss if dense is None or true is None else loss + dense_loss(dense(maps[-1]), true)

    def find(self, net: PyMAFNet, photos: Photos, vertices: Int[Tensor, " N"], seed: int) -> Float[Tensor, "B N 3"]:
        """Pose the body as the last level says."""
        said = net(photos.image, photos.mask, self.keypoints(photos, self.generator(seed)))
        return said.vertices(self.body)[:, vertices]

    def averaged(self) -> PyMAFNet:
        """Return the network with averaged weights, without the map of dense correspondence."""
        return super().averaged().without_dense()

    def start_from(self, weights: Path) -> None:
        """Take weights as the starting point; the map of dense correspondence, which they lack, begins anew."""
        dense, self.net.dense = self.net.dense, None
        super().start_from(weights)
        self.net.dense = dense
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}


def train_pymaf(
    out: Path,
    net_config: PyMAFNetConfig,
    config: TrainConfig | None = None,
    *,
    device: str = "cpu",
    source: PhotoSource | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train PyMAF's regressors and keep them in ``out``; arguments, result and errors as of ``train_image``."""
    trainer = PyMAFTrainer(net_config, config or TrainConfig(), torch.device(device), source=source)
    return train(trainer, out, **options)
