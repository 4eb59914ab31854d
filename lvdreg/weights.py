"""The shipped networks: found by body, loaded once."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lvdreg.assets import assets_dir
from lvdreg.checkpoint import load_network
from lvdreg.errors import CheckpointError
from lvdreg.uncertainty import Calibration
from lvdreg.voxel.network import VoxelNet


@dataclass(frozen=True)
class TrainedNet:
    """A network ready for inference.

    Attributes:
        net: The network, in evaluation mode.
        calibration: From the spread of equation 3 to millimetres of error, measured on synthetic scans.
        meta: How the weights came about.
    """

    net: VoxelNet
    calibration: Calibration
    meta: dict[str, Any]


@lru_cache(maxsize=4)
def voxel_weights(body: str, device: str = "cpu") -> TrainedNet:
    """Load the network that predicts a body's vertices from voxels.

    Raises:
        CheckpointError: no such weights are shipped, they are damaged, of another body, or not calibrated.
    """
    path = assets_dir() / "weights" / f"voxel-{body}.safetensors"
    net, meta = load_network(path)
    if net.config.body != body:
        raise CheckpointError(
            f"{path}: expected weights of {body}, got those of {net.config.body}; install lvdreg again"
        )
    try:
        calibration = Calibration.from_dict(meta["calibration"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a calibration in its .json, got none; install lvdreg again") from error
    return TrainedNet(net.to(device), calibration, meta)
