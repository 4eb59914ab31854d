"""Weights on disk: safetensors beside JSON; nothing in them can run.

``NAME.safetensors`` holds tensors, ``NAME.json`` the configuration, how the weights came about and their calibration.
Shipped weights are in half precision, those of SPIN and PyMAF in eight bits where they are large.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Float16, Int8
from torch import Tensor

from lvdreg.base.errors import BodyError
from lvdreg.base.tensors import damaged, read_tensors, write_tensors
from lvdreg.base.text import brief
from lvdreg.body.catalogue import load_body
from lvdreg.image.network import ImageNet, ImageNetConfig
from lvdreg.image.pymaf import PyMAFNet, PyMAFNetConfig
from lvdreg.image.regressor import RegressorNet, RegressorNetConfig
from lvdreg.voxel.hand_detector import OLD_DETECTOR, HandDetectorNet, HandDetectorNetConfig
from lvdreg.voxel.network import VoxelNet, VoxelNetConfig

Network = VoxelNet | HandDetectorNet | ImageNet | RegressorNet | PyMAFNet
NetT = TypeVar("NetT", bound=Network)

OLD_TENSORS = {"field.doubt.": "field.log_sigma."}
"""Names of tensors in weights of lvdreg 0.1, and what they are now: both are read."""
SCALE = ".scale"
"""Ends the name of what a tensor of eight bits is multiplied with, row by row."""
SMALLEST_ROUNDED = 4096
"""Tensors of fewer numbers are not worth rounding."""
LARGEST = {"resolution": 256, "size": 1024, "num_points": 1_000_000, "iterations": 16, "levels": 16, "grid": 256}
"""Sizes that tensors say nothing of, and that memory or time depend on."""


def fill_network(net: Network, tensors: dict[str, Tensor], path: Path) -> None:
    """Load tensors into a network, which may still be without memory; ``path`` says where they came from.

    Raises:
        CheckpointError: they belong to a network of other sizes, or hold numbers that are not finite.
    """
    tensors = _in_single_precision(_renamed(tensors))
    check_tensors(net.state_dict(), tensors, path)
    is_empty = any(parameter.is_meta for parameter in net.parameters())
    net.load_state_dict(tensors, assign=is_empty)


def check_tensors(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors of a file that have other names or shapes than those that are wanted, or are not finite.

    Raises:
        CheckpointError: says which.
    """
    expected, found = ({k: tuple(v.shape) for k, v in t.items()} for t in (wanted, tensors))
    wrong = [name for name in expected | found if expected.get(name) != found.get(name)]
    if wrong:
        want, got = (shapes.get(wrong[0], "nothing") for shapes in (expected, found))
        reason = f"{len(wrong)} tensors do not fit the network, {wrong[0][:80]} first: expected {want}, got {got}"
        raise damaged(path, reason)
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise damaged(path, f"numbers are not finite in {', '.join(broken)}")


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for old, new in OLD_TENSORS.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return tensors


def save_network(path: Path, net: Network, meta: dict[str, Any], in_eight_bits: bool = False) -> None:
    """Write a network in half precision, ready to ship; or its large tensors in eight bits, in half the space."""
    tensors = {name: value.half() for name, value in net.state_dict().items()}
    if in_eight_bits:
        for name, value in net.state_dict().items():
            if value.ndim > 1 and value.numel() >= SMALLEST_ROUNDED:
                tensors |= dict(zip((name, name + SCALE), rounded(value), strict=True))
    write_tensors(path, tensors, {"network": net.config.to_dict(), **meta})


def rounded(weights: Float[Tensor, "R *_n"]) -> tuple[Int8[Tensor, "R *_n"], Float16[Tensor, " R"]]:
    """Round weights to eight bits: whole numbers from -127 to 127, and what each row of them is multiplied with."""
    rows = weights.flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp(min=torch.finfo(torch.half).tiny).half()
    whole = (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return whole.view(weights.shape), scale


def _in_single_precision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they are computed with; scales that fit no tensor stay, and are noticed as such."""
    out = {name: tensor.float() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        scale = tensors.get(name + SCALE)
        if tensor.dtype == torch.int8 and scale is not None and scale.shape == tensor.shape[:1]:
            out[name] *= out.pop(name + SCALE).view(-1, *[1] * (tensor.ndim - 1))
    return out


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """Load a network for inference, in single precision on the CPU, with its metadata.

    Raises:
        CheckpointError: the file is missing, damaged, or its tensors do not fit its configuration.
    """
    tensors, meta = read_tensors(path)
    try:
        with torch.device("meta"):  # Without memory, and random numbers: the tensors of the file take their places.
            net = _build(meta["network"], tensors)
    except KeyError as error:
        raise damaged(path, f"lacks {error}") from error
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError, RuntimeError, BodyError) as error:
        raise damaged(path, f"describes no network ({brief(error)})") from error
    fill_network(net, tensors, path)
    return net.eval().requires_grad_(False), meta


def _build(sizes: dict[str, Any], tensors: dict[str, Tensor]) -> Network:
    """Build the network that a configuration describes, its weights not yet filled in."""
    given = {key: value for part in sizes.values() if isinstance(part, dict) for key, value in part.items()}
    too_large = [key for key, limit in LARGEST.items() if given.get(key, 0) > limit]
    too_large += [key for key in ("layers", "stacks") if given.get(key, 0) > len(tensors)]
    if too_large:
        raise ValueError(f"{too_large[0]} of {given[too_large[0]]}")
    if "detector" in sizes or OLD_DETECTOR in sizes:
        return HandDetectorNet(HandDetectorNetConfig.from_dict(sizes))
    if "regressor" in sizes:
        return RegressorNet(RegressorNetConfig.from_dict(sizes))
    if "pymaf" in sizes:
        with torch.device("cpu"):
            body = load_body(sizes["body"])
        return PyMAFNet(PyMAFNetConfig.from_dict(sizes), body.data)
    codes = torch.zeros(tensors["field.codes"].shape)
    if "image" in sizes:
        return ImageNet(ImageNetConfig.from_dict(sizes), codes)
    return VoxelNet(VoxelNetConfig.from_dict(sizes), codes)
