"""Weights on disk: safetensors beside JSON; nothing in them can run.

``NAME.safetensors`` holds tensors, ``NAME.json`` the configuration, how the weights came about and their calibration.
Shipped weights are in half precision.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lvdreg.errors import CheckpointError
from lvdreg.voxel.network import VoxelNet, VoxelNetConfig


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and their JSON so that a reader finds the old pair or the new one, never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, part)
    text = path.with_suffix(".json.part")
    text.write_text(json.dumps(meta, indent=1) + "\n")
    os.replace(part, path)
    os.replace(text, path.with_suffix(".json"))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a pair written by ``write_tensors``.

    Raises:
        CheckpointError: either file is missing or damaged.
    """
    try:
        meta = json.loads(path.with_suffix(".json").read_text())
        return load_file(path), meta
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected a .safetensors file with its .json beside it; missing: {error.filename}") from error
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error}); install lvdreg again or train anew") from error


def save_network(path: Path, net: VoxelNet, meta: dict[str, Any]) -> None:
    """Write a network in half precision, ready to ship."""
    write_tensors(path, {k: v.half() for k, v in net.state_dict().items()}, {"network": net.config.to_dict(), **meta})


def load_network(path: Path) -> tuple[VoxelNet, dict[str, Any]]:
    """Load a network for inference, in single precision on the CPU, with its metadata.

    Raises:
        CheckpointError: the file is missing, damaged, or its tensors do not fit its configuration.
    """
    tensors, meta = read_tensors(path)
    try:
        config = VoxelNetConfig.from_dict(meta["network"])
        net = VoxelNet(config, torch.zeros(tensors["field.codes"].shape))
        net.load_state_dict({k: v.float() for k, v in tensors.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: tensors and configuration do not match ({reason}); install lvdreg again") from error
    return net.eval().requires_grad_(False), meta
