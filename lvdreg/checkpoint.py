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
from lvdreg.text import one_line
from lvdreg.voxel.compass import CompassNet, CompassNetConfig
from lvdreg.voxel.network import VoxelNet, VoxelNetConfig

Network = VoxelNet | CompassNet


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and their JSON; whoever reads meanwhile finds whole files, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, part)
    part.chmod(0o644)  # safetensors makes files private; weights are read by whoever uses the install
    text = path.with_suffix(".json.part")
    text.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
    os.replace(text, path.with_suffix(".json"))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a pair written by ``write_tensors``.

    Raises:
        CheckpointError: either file is missing or damaged.
    """
    for file in (path, path.with_suffix(".json")):
        if not file.exists():
            raise CheckpointError(f"{path}: expected a .safetensors file with its .json beside it; missing: {file}")
    try:
        meta = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        tensors = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise _damaged(path, f"not a readable checkpoint ({error})") from error
    if not isinstance(meta, dict):
        raise _damaged(path, f"its .json should hold an object, got {type(meta).__name__}")
    return tensors, meta


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {one_line(reason)}; install lvdreg again or train anew")


def fill_network(net: Network, tensors: dict[str, Tensor], path: Path) -> None:
    """Load tensors into a network; ``path`` says where they came from.

    Raises:
        CheckpointError: they belong to a network of other sizes, or hold numbers that are not finite.
    """
    expected, found = ({k: tuple(v.shape) for k, v in t.items()} for t in (net.state_dict(), tensors))
    wrong = [name for name in expected | found if expected.get(name) != found.get(name)]
    if wrong:
        want, got = (shapes.get(wrong[0], "nothing") for shapes in (expected, found))
        reason = f"{len(wrong)} tensors do not fit the network, {wrong[0]} first: expected {want}, got {got}"
        raise _damaged(path, reason)
    net.load_state_dict(tensors)
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise _damaged(path, f"numbers are not finite in {', '.join(broken)}")


def save_network(path: Path, net: Network, meta: dict[str, Any]) -> None:
    """Write a network in half precision, ready to ship."""
    write_tensors(path, {k: v.half() for k, v in net.state_dict().items()}, {"network": net.config.to_dict(), **meta})


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """Load a network for inference, in single precision on the CPU, with its metadata.

    Raises:
        CheckpointError: the file is missing, damaged, or its tensors do not fit its configuration.
    """
    tensors, meta = read_tensors(path)
    try:
        net = _build(meta["network"], tensors)
    except KeyError as error:
        raise _damaged(path, f"lacks {error}") from error
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError, RuntimeError) as error:
        raise _damaged(path, f"describes no network ({error})") from error
    fill_network(net, tensors, path)
    return net.eval().requires_grad_(False), meta


def _build(sizes: dict[str, Any], tensors: dict[str, Tensor]) -> Network:
    """Build the network that a configuration describes, its weights not yet filled in."""
    if "compass" in sizes:
        return CompassNet(CompassNetConfig.from_dict(sizes))
    return VoxelNet(VoxelNetConfig.from_dict(sizes), torch.zeros(tensors["field.codes"].shape))
