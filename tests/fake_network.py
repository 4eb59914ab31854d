"""A network that takes every scan for what it was told, to test what happens around a network."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lvdreg.field import VertexField


class Known(VertexField):
    """Carries every vertex to its known place in the box, in one step."""

    def __init__(self, vertices_unit: Tensor) -> None:
        super().__init__(1, vertices_unit.clone(), 2, 1)
        self.known = vertices_unit

    def forward(self, features: Tensor, points: Tensor, vertices: Tensor | None = None) -> Tensor:
        return (self.known if vertices is None else self.known[vertices]) - points


class Seen:
    """Features that remember what points the network was given."""

    def __init__(self, points: Tensor) -> None:
        self.points = points

    def only(self, _view: int) -> "Seen":
        return self

    def __call__(self, points: Tensor) -> Tensor:
        return points[..., :1]


def known_network(vertices_unit: Tensor, num_points: int) -> Any:
    """What stands for a ``VoxelNet`` that knows the answer."""
    config = SimpleNamespace(voxel=SimpleNamespace(num_points=num_points))
    return SimpleNamespace(config=config, field=Known(vertices_unit), features=lambda points, _valid: Seen(points))


def known_weights(vertices_unit: Tensor, sigma_unit: float) -> Any:
    """What stands for ``TrainedNet``: equally sure of every vertex."""
    net = known_network(vertices_unit, 8000)
    return SimpleNamespace(
        net=net, files={"weights/known": "abc"}, calibration=lambda spread: torch.full_like(spread, sigma_unit)
    )
