"""A network that takes every scan for what it was told, to test what happens around a network."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lvdreg.descent.uncertainty import Calibration
from lvdreg.descent.weights import TrainedNet
from lvdreg.field import VertexField
from lvdreg.voxel.encoder import VoxelFeatures
from lvdreg.voxel.network import VoxelConfig, VoxelNet, VoxelNetConfig


class Known(VertexField):
    """Carries every vertex to its known place in the box, in one step."""

    def __init__(self, vertices_unit: Tensor) -> None:
        super().__init__(1, vertices_unit.clone(), 2, 1)
        self.known = vertices_unit

    def forward(self, features: Tensor, points: Tensor, vertices: Tensor | None = None) -> Tensor:
        return (self.known if vertices is None else self.known[vertices]) - points


class Seen(VoxelFeatures):
    """Features that remember what points the network was given."""

    def __init__(self, points: Tensor) -> None:
        super().__init__(())
        self.points = points

    @classmethod
    def joined(cls, parts: Sequence[VoxelFeatures]) -> "Seen":
        return cls(torch.cat([part.points for part in parts if isinstance(part, Seen)]))

    def __call__(self, points: Tensor) -> Tensor:
        return points[..., :1]


class KnownNet(VoxelNet):
    """Knows the answer, and gives its field the points that it was given."""

    def __init__(self, vertices_unit: Tensor, num_points: int) -> None:
        nn.Module.__init__(self)
        self.config = VoxelNetConfig(voxel=VoxelConfig(num_points=num_points))
        self.field = Known(vertices_unit)

    def features(self, points: Tensor, valid: Tensor) -> Seen:
        return Seen(points)


class SameSigma(Calibration):
    """Says the same of every vertex."""

    def __call__(self, spread: Tensor) -> Tensor:
        return spread.new_full(spread.shape, float(self.sigma[0]))


def known_weights(vertices_unit: Tensor, sigma_unit: float) -> TrainedNet[VoxelNet]:
    """What stands for the trained network: equally sure of every vertex."""
    sigma = np.array([sigma_unit])
    return TrainedNet(KnownNet(vertices_unit, 8000), (SameSigma(sigma, sigma),), {}, {"weights/known": "abc"})
