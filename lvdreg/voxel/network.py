"""The voxel network: encoder and vertex field of one body, and what it was made for."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lvdreg.base.threads import side_by_side
from lvdreg.field import FieldConfig, VertexField
from lvdreg.voxel.encoder import VoxelEncoder, VoxelFeatures
from lvdreg.voxel.grid import voxelise


@dataclass(frozen=True)
class VoxelConfig:
    """The voxel grid and the encoder (voxel/)."""

    resolution: int = 64
    num_points: int = 8_000
    channels: tuple[int, ...] = (24, 64, 96, 128, 192, 256)


@dataclass(frozen=True)
class VoxelNetConfig:
    """Sizes of the network and the body whose vertices it predicts; stored in every checkpoint."""

    body: str = "anny"
    voxel: VoxelConfig = field(default_factory=VoxelConfig)
    field: FieldConfig = field(default_factory=FieldConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VoxelNetConfig":
        """Rebuild from ``to_dict``; unknown keys raise TypeError."""
        voxel: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["voxel"].items()}
        return cls(values["body"], VoxelConfig(**voxel), FieldConfig.from_dict(values["field"]))


class VoxelNet(nn.Module):
    """Points of a scan in, features to descend on out."""

    def __init__(self, config: VoxelNetConfig, codes: Float[Tensor, "V R"]) -> None:
        """Build the network; ``codes`` are the initial vertex codes (``train.codes.pose_codes``)."""
        super().__init__()
        self.config = config
        self.encoder = VoxelEncoder(config.voxel.channels, config.voxel.resolution)
        self.field = VertexField(self.encoder.num_features, codes, config.field.hidden, config.field.layers)

    def features(self, points: Float[Tensor, "B P 3"], valid: Bool[Tensor, "B P"]) -> VoxelFeatures:
        """Encode scans given as points of the unit frame.

        Without gradients one at a time, so that none depends on how many there are, or on the number of threads.
        """
        if torch.is_grad_enabled():
            return self._encoded(points, valid)
        rows = [slice(i, i + 1) for i in range(len(points))]
        return VoxelFeatures.joined(side_by_side(lambda row: self._encoded(points[row], valid[row]), rows))

    def _encoded(self, points: Float[Tensor, "B P 3"], valid: Bool[Tensor, "B P"]) -> VoxelFeatures:
        features: VoxelFeatures = self.encoder(voxelise(points, valid, self.config.voxel.resolution))
        return features
