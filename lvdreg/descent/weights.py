"""The shipped networks: found by body, loaded once."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import CheckpointError
from lvdreg.base.provenance import FileHashes
from lvdreg.base.tensors import tensor_files
from lvdreg.base.text import one_line
from lvdreg.body.catalogue import load_body
from lvdreg.descent.checkpoint import NetT, load_network
from lvdreg.descent.uncertainty import Calibration, JointErrors
from lvdreg.image.network import ImageNet
from lvdreg.image.pymaf import PyMAFNet
from lvdreg.image.regressor import Regressor, RegressorNet
from lvdreg.voxel.hand_detector import HandDetectorNet
from lvdreg.voxel.network import VoxelNet


@dataclass(frozen=True)
class TrainedNet(Generic[NetT]):
    """A network ready for inference.

    Attributes:
        net: The network, in evaluation mode.
        calibrations: From what the network says of its error to the error that is meant, measured on synthetic data:
            the whole one and, for photos, that along the line of sight.
        meta: How the weights came about.
        files: SHA-256 of the files that they were read from.
    """

    net: NetT
    calibrations: tuple[Calibration, ...]
    meta: dict[str, Any]
    files: FileHashes

    @property
    def calibration(self) -> Calibration:
        """That of the whole error."""
        return self.calibrations[0]


@dataclass(frozen=True)
class TrainedRegressor:
    """A regressor of parameters ready for inference.

    Attributes:
        net: The network, in evaluation mode.
        errors: How wrong it is, measured on synthetic photos.
        errors_tuned: The same after exemplar fine-tuning.
        files: SHA-256 of the files that they were read from.
    """

    net: Regressor
    errors: JointErrors
    errors_tuned: JointErrors
    files: FileHashes


@lru_cache(maxsize=4)
def voxel_weights(body: str, device: str = "cpu") -> TrainedNet[VoxelNet]:
    """Load the network that predicts a body's vertices from voxels.

    Raises:
        CheckpointError: no such weights are shipped, they are damaged, of another body, or not calibrated.
    """
    return _calibrated(f"voxel-{body}", VoxelNet, body, device, "calibration")


@lru_cache(maxsize=4)
def image_weights(body: str, device: str = "cpu") -> TrainedNet[ImageNet]:
    """Load the network that predicts a body's vertices from a photo.

    Raises:
        CheckpointError: no such weights are shipped, they are damaged, of another body, or not calibrated.
    """
    return _calibrated(f"image-{body}", ImageNet, body, device, "calibration", "calibration_depth")


@lru_cache(maxsize=4)
def spin_weights(body: str, device: str = "cpu") -> TrainedRegressor:
    """Load SPIN's regressor of a body.

    Raises:
        CheckpointError: no such weights are shipped, they are damaged, of another body, or nobody measured them.
    """
    return _measured(f"spin-{body}", RegressorNet, body, device)


@lru_cache(maxsize=4)
def pymaf_weights(body: str, device: str = "cpu") -> TrainedRegressor:
    """Load PyMAF's regressors of a body; errors as of ``spin_weights``."""
    return _measured(f"pymaf-{body}", PyMAFNet, body, device)


@lru_cache(maxsize=4)
def hand_detector_weights(body: str, device: str = "cpu") -> TrainedNet[HandDetectorNet]:
    """Load the hand detector that finds a hand.

    Raises:
        CheckpointError: no such weights are shipped, they are damaged, or of another body.
    """
    path, net, meta = _load(f"hand-detector-{body}", HandDetectorNet, body)
    return TrainedNet(net.to(device), (), meta, tensor_files(path))


def _calibrated(name: str, kind: type[NetT], body: str, device: str, *tables: str) -> TrainedNet[NetT]:
    """Load shipped weights with their calibrations."""
    path, net, meta = _load(name, kind, body)
    try:
        calibrations = tuple(Calibration.from_dict(meta[table]) for table in tables)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a calibration in its .json, got none; install lvdreg again") from error
    net.to(device)
    return TrainedNet(net, calibrations, meta, tensor_files(path))


def _measured(name: str, kind: type[RegressorNet] | type[PyMAFNet], body: str, device: str) -> TrainedRegressor:
    """Load shipped weights of a regressor with its errors."""
    path, net, meta = _load(name, kind, body)
    joints = load_body(body).num_joints
    try:
        errors, tuned = (JointErrors.from_dict(meta[table], joints) for table in ("errors", "errors_tuned"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected its errors in its .json, got none; install lvdreg again") from error
    return TrainedRegressor(net.to(device), errors, tuned, tensor_files(path))


def _load(name: str, kind: type[NetT], body: str) -> tuple[Path, NetT, dict[str, Any]]:
    """Load shipped weights and check that they are of the right kind and for the right body."""
    path = assets_dir() / "weights" / f"{name}.safetensors"
    net, meta = load_network(path)
    if not isinstance(net, kind) or net.config.body != body:
        came = one_line(str(net.config.body))[:40]
        raise CheckpointError(f"{path}: expected weights of {body}, got those of {came}; install lvdreg again")
    return path, net, meta
