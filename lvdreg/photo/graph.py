"""Networks that others trained, as data: a list of operations in JSON, weights in safetensors, run by plain torch.

``scripts/convert_mediapipe.py`` writes such files. Nothing in them is code: an operation is one of a fixed few, and
every size is checked by torch when the graph runs. Arrays are (B, C, H, W); where the original counts channels last,
which shows in what `reshape` gives, the operation itself turns the axes.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import CheckpointError
from lvdreg.base.provenance import FileHashes
from lvdreg.base.tensors import damaged, read_tensors, tensor_files
from lvdreg.base.text import brief
from lvdreg.base.threads import side_by_side

PERSON_NETWORKS = ("detector", "landmarks", "mask")
"""Networks that come with lvdreg, to find people in photos."""

MAX_SIDE = 1024
"""Pixels of the largest picture that a network takes."""
Step = dict[str, Any]
Operation = Callable[[Step, list[Tensor], dict[str, Tensor]], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "relu6": F.relu6, "hard_swish": F.hardswish, "sigmoid": torch.sigmoid,
}  # fmt: skip


def _padded(step: Step, x: Tensor, value: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    """Pad by left, right, top, bottom; what is the same on both sides is left to the operation that follows."""
    left, right, top, bottom = step.get("pad", (0, 0, 0, 0))
    if (left, top) == (right, bottom):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _conv(step: Step, inputs: list[Tensor], weights: dict[str, Tensor]) -> Tensor:
    x, padding = _padded(step, inputs[0])
    kernel, bias = weights[step["weight"]], weights[step["bias"]]
    return F.conv2d(x, kernel, bias, step["stride"], padding, groups=x.shape[1] // kernel.shape[1])


def _conv_transpose(step: Step, inputs: list[Tensor], weights: dict[str, Tensor]) -> Tensor:
    return F.conv_transpose2d(inputs[0], weights[step["weight"]], weights[step["bias"]], step["stride"])


def _max_pool(step: Step, inputs: list[Tensor], _: dict[str, Tensor]) -> Tensor:
    x, padding = _padded(step, inputs[0], -float("inf"))
    return F.max_pool2d(x, step["size"], step["stride"], padding)


def _depth_to_space(step: Step, inputs: list[Tensor], _: dict[str, Tensor]) -> Tensor:
    """Channels in the order block row, block column, channel; torch's `pixel_shuffle` has the channel first."""
    batch, channels, height, width = inputs[0].shape
    block = step["block"]
    parts = inputs[0].reshape(batch, block, block, channels // block**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * block, width * block)


def _reshape(step: Step, inputs: list[Tensor], _: dict[str, Tensor]) -> Tensor:
    return inputs[0].permute(0, 2, 3, 1).reshape(len(inputs[0]), *step["shape"])


def _resize(step: Step, inputs: list[Tensor], _: dict[str, Tensor]) -> Tensor:
    corners = bool(step["align_corners"])
    return F.interpolate(inputs[0], size=tuple(step["size"]), mode="bilinear", align_corners=corners)


def _pad(step: Step, inputs: list[Tensor], _: dict[str, Tensor]) -> Tensor:
    return F.pad(inputs[0], tuple(step["pad"]))


OPERATIONS: dict[str, Operation] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "mean": lambda step, inputs, weights: inputs[0].mean((2, 3), keepdim=True),
    "depth_to_space": _depth_to_space,
    "reshape": _reshape,
    "resize": _resize,
    "pad": _pad,
    "concat": lambda step, inputs, weights: torch.cat(inputs, step["axis"]),
    "add": lambda step, inputs, weights: inputs[0] + inputs[1],
    "mul": lambda step, inputs, weights: inputs[0] * inputs[1],
    "activate": lambda step, inputs, weights: inputs[0],
}


class Graph(nn.Module):
    """A network given by a list of steps.

    Attributes:
        input_shape: (C, H, W) of the image that goes in.
        input_range: The numbers that stand for black and white.
        files: SHA-256 of the files that it was read from.
    """

    files: FileHashes

    def __init__(self, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take a description as the converter writes it, and the weights that its steps name.

        Raises:
            KeyError, ValueError: the description lacks something, or asks for an operation that there is not.
        """
        super().__init__()
        self.files = {}
        self.input_shape: tuple[int, int, int] = tuple(description["input"])
        self.input_range: tuple[float, float] = tuple(description["range"])
        if len(self.input_shape) != 3 or not all(type(n) is int and 0 < n <= MAX_SIDE for n in self.input_shape):
            raise ValueError(f"an input of {str(self.input_shape)[:40]}")
        if len(self.input_range) != 2 or not all(isinstance(end, int | float) for end in self.input_range):
            raise ValueError("a range that is not two numbers")
        self.outputs: dict[str, str] = dict(description["outputs"])
        self.steps: list[Step] = list(description["steps"])
        for name, tensor in tensors.items():
            kernel = tensor.ndim == 4  # convolutions run twice as fast on a CPU with channels last in memory
            self.register_buffer(name, tensor.contiguous(memory_format=torch.channels_last) if kernel else tensor)
        self._check()
        self._last_use = {name: i for i, step in enumerate(self.steps) for name in step["in"]}

    def _check(self) -> None:
        known, weights = {"input"}, dict(self.named_buffers())
        for step in self.steps:
            if step["op"] not in OPERATIONS or step.get("act", "relu") not in ACTIVATIONS:
                raise ValueError(f"no operation {step['op']} with {step.get('act')}")
            lacking = (set(step["in"]) - known) | ({step[k] for k in ("weight", "bias") if k in step} - set(weights))
            if lacking:
                raise ValueError(f"{step['out']} uses {sorted(lacking)}, which come from nowhere")
            known.add(step["out"])
        if not set(self.outputs.values()) <= known:
            raise ValueError("an output comes from nowhere")

    def forward(self, image: Float[Tensor, "B C H W"]) -> dict[str, Tensor]:
        """Run the network.

        Args:
            image: Of `input_shape`, numbers within `input_range`.

        Returns:
            The outputs by name.
        """
        weights = dict(self.named_buffers())
        values: dict[str, Tensor] = {"input": image}
        kept = set(self.outputs.values())
        for i, step in enumerate(self.steps):
            value = OPERATIONS[step["op"]](step, [values[name] for name in step["in"]], weights)
            values[step["out"]] = ACTIVATIONS[step["act"]](value) if "act" in step else value
            for name in step["in"]:
                if self._last_use[name] == i and name not in kept:
                    values.pop(name, None)
        return {name: values[value] for name, value in self.outputs.items()}


def pack(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Bring weights into half precision; of those with many zeros, keep the others and a bit for each.

    Returns:
        What to write, and the shapes of those that were packed.
    """
    packed, shapes = {}, {}
    for name, tensor in tensors.items():
        flat = tensor.half().flatten()
        filled = flat != 0
        if int(filled.sum()) > len(flat) * 15 // 16:  # no smaller with the bits
            packed[name] = tensor.half()
            continue
        packed[f"{name}.values"] = flat[filled]
        packed[f"{name}.bits"] = torch.from_numpy(np.packbits(filled.numpy()))
        shapes[name] = list(tensor.shape)
    return packed, shapes


def unpack(tensors: dict[str, Tensor], shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Undo `pack`: all weights whole and in single precision.

    Raises:
        KeyError, ValueError, RuntimeError: values, bits and shapes do not belong together.
    """
    whole = {name: tensor.float() for name, tensor in tensors.items() if "." not in name}
    for name, shape in shapes.items():
        count, packed = int(np.prod(shape)), tensors[f"{name}.bits"].numpy()
        if len(packed) != -(-count // 8):
            raise ValueError(f"{name} has {len(packed)} bytes of bits for {count} numbers")
        bits = np.unpackbits(packed, count=count).astype(bool)
        flat = torch.zeros(len(bits))
        flat[torch.from_numpy(bits)] = tensors[f"{name}.values"].float()
        whole[name] = flat.reshape(shape)
    return whole


def read_graph(path: Path) -> Graph:
    """Read a converted network, ready for inference on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or describes no network.
    """
    tensors, meta = read_tensors(path)
    try:
        graph = Graph(meta["graph"], unpack(tensors, meta["packed"]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise damaged(path, f"describes no network ({type(error).__name__}: {error})") from error
    if not all(bool(tensor.isfinite().all()) for tensor in graph.buffers()):
        raise damaged(path, "numbers are not finite")
    graph.files = tensor_files(path)
    return graph.eval()


@lru_cache(maxsize=8)
def person_graph(name: str, device: str = "cpu") -> Graph:
    """Load a network that comes with lvdreg: ``detector``, ``landmarks`` or ``mask``.

    Raises:
        CheckpointError: it is not there, or damaged.
    """
    return read_graph(assets_dir() / "weights" / f"person-{name}.safetensors").to(device)


def person_files(device: str = "cpu") -> FileHashes:
    """Return the SHA-256 of the files behind the networks that find people, as they were loaded."""
    graphs = (person_graph(name, device) for name in PERSON_NETWORKS)
    return {name: digest for graph in graphs for name, digest in graph.files.items()}


def run_graph(graph: Graph, image: Float[Tensor, "B C H W"], path: str) -> dict[str, Tensor]:
    """Run a network without gradients on images of numbers 0 to 1, one at a time and side by side.

    Raises:
        CheckpointError: its steps do not fit each other; `path` says which network it is.
    """
    low, high = graph.input_range
    try:
        with torch.inference_mode():
            ready = (image * (high - low) + low).contiguous(memory_format=torch.channels_last)
            parts = side_by_side(graph, ready.split(1))
            return {name: torch.cat([part[name] for part in parts]) for name in graph.outputs}
    except (RuntimeError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"{path}: its steps do not fit each other ({brief(error)}); install lvdreg again"
        ) from error
