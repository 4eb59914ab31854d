"""Convert the person networks inside the Apache-2.0 wheel of MediaPipe into assets/weights/person-*.

    pip download --no-deps mediapipe==0.10.21 --python-version 3.11 --only-binary=:all: -d wheels
    python scripts/convert_mediapipe.py wheels/mediapipe-0.10.21-*.whl [--out assets/weights] [--verify PYTHON]

Writes for each network its weights in half precision (.safetensors), its operations (.json, run by
lvdreg/image/graph.py) and a card with licence, source and differences (.md). Differences are taken against the original
run by ai-edge-litert (2.3.0 was used) in the Python named by ``--verify``: it need not be the one that converts, and
should not be, for nothing else here needs that package.
"""

import argparse
import hashlib
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tflite_source import Operator, Table, Tflite  # beside this script

from lvdreg.base.tensors import write_tensors
from lvdreg.photo.graph import Graph, pack, unpack

WHEEL = "mediapipe 0.10.21 (PyPI)"
ACTIVATIONS = {1: "relu", 3: "relu6"}
PLAIN = {14: "sigmoid", 19: "relu", 117: "hard_swish"}
LOG_ODDS = {"scores", "segmentation", "heatmap"}
"""Outputs that are compared, as they are used, after a sigmoid."""
FOLDED = {6, 124}  # DEQUANTIZE and DENSIFY of constants
NETWORKS: dict[str, dict[str, Any]] = {
    "detector": {
        "file": "mediapipe/modules/pose_detection/pose_detection.tflite",
        "range": [-1.0, 1.0],
        "outputs": ["boxes", "scores"],
        "what": "finds people: box, hip centre, and the points that give size and direction of the whole body",
        "model_card": "BlazePose (MediaPipe Pose, detector), Google, 2021",
    },
    "landmarks": {
        "file": "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "range": [0.0, 1.0],
        "outputs": ["landmarks", "presence", "segmentation", "heatmap", "world"],
        "what": "33 landmarks with visibility, six helpers, and a segmentation, in a turned crop around one person",
        "model_card": "BlazePose GHUM 3D (MediaPipe Pose, landmarks, full), Google, 2021",
    },
    "mask": {
        "file": "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
        "range": [0.0, 1.0],
        "outputs": ["mask"],
        "what": "separates people from their surroundings",
        "model_card": "MediaPipe Selfie Segmentation (general), Google, 2021",
    },
}
CARD = """# person-{name}: {what}

- Source: `{file}` in {wheel}, sha256 `{digest}`; model card "{model_card}".
  Converted by `scripts/convert_mediapipe.py`: the same operations in the order of the original, constants in half
  precision as there; nothing was trained or changed. {parameters:.2f} million parameters{packed}.
- Input {shape} (channels, height, width), red first, from {low:g} (black) to {high:g} (white).
- Differences to the original run by ai-edge-litert on {samples}: {differences}.
- Licence: Apache-2.0, in `person-LICENSE.txt`, as it lies in the wheel, which has no NOTICE. Copyright The MediaPipe
  Authors. Changed by us: the format. The rest of lvdreg is under other terms.
- Data: not ours; what Google says of it stands in the model card.
- Limits: {limits}
"""
LIMITS = {
    "detector": "needs the face or the torso to be seen; small people (below about a tenth of the photo) are missed.",
    "landmarks": "one person in the crop; what is hidden is guessed, with low visibility; not for telling who it is.",
    "mask": "does not tell people from each other; 256 x 256, so that thin things and far people are lost.",
}


class Converter:
    """Turns the operators of one file into steps and weights."""

    def __init__(self, model: Tflite) -> None:
        self.model, self.steps, self.weights = model, [], {}
        self.names = {model.inputs[0]: "input"}
        self.constants: dict[int, NDArray[Any]] = {}

    def constant(self, index: int) -> NDArray[Any] | None:
        """A constant, also one that has been through DEQUANTIZE or DENSIFY."""
        return self.constants[index] if index in self.constants else self.model.constant(index)

    def weight(self, index: int, axes: tuple[int, ...]) -> str:
        """Register a constant with its axes in torch's order; return its name."""
        values = self.constant(index)
        assert values is not None
        name = f"w{index}"
        self.weights[name] = torch.from_numpy(values.astype(np.float32).transpose(axes).copy())
        return name

    def convert(self) -> list[dict[str, Any]]:
        """Convert all operators."""
        for operator in self.model.operators:
            if operator.code in FOLDED:
                values = self.constant(operator.inputs[0])
                assert values is not None, "only constants are stored in half precision or sparse"
                self.constants[operator.outputs[0]] = values
                continue
            step = self.step(operator)
            output = operator.outputs[0]
            self.names[output] = step["out"] = f"x{output}"
            self.steps.append(step)
        return self.steps

    def step(self, op: Operator) -> dict[str, Any]:
        """Convert one operator; its output is not named yet."""
        live = [self.names[i] for i in op.inputs if i in self.names]
        shape_in, shape_out = self.model.shapes[op.inputs[0]], self.model.shapes[op.outputs[0]]
        activation = None
        if op.code in (3, 4):
            step, activation = self.conv(op, shape_in), op.options.number(3 if op.code == 3 else 4, "b")
        elif op.code in PLAIN:
            step = {"op": "activate", "act": PLAIN[op.code]}
        elif op.code in (0, 18):
            step, activation = {"op": "add" if op.code == 0 else "mul"}, op.options.number(0, "b")
            assert len(live) == 2, "constants are not added"
        elif op.code in (1, 17):
            step = self.pool(op, shape_in)
        elif op.code == 23:
            assert op.options.number(3, "?") and not op.options.number(2, "?"), "only half-pixel centres are known"
            step = {"op": "resize", "size": shape_out[1:3], "align_corners": False}
        elif op.code == 34:
            before_after = self.constant(op.inputs[1]).tolist()
            assert before_after[0] == before_after[3] == [0, 0]
            step = {"op": "pad", "pad": [*before_after[2], *before_after[1]]}
        elif op.code == 5:
            step = {"op": "depth_to_space", "block": op.options.number(0)}
        elif op.code == 22:
            step = {"op": "reshape", "shape": shape_out[1:]}
        elif op.code == 2:
            assert len(shape_in) == 3, "axes of images would have to be turned"
            step = {"op": "concat", "axis": op.options.number(0)}
        elif op.custom == "Convolution2DTransposeBias":
            _, *stride = np.frombuffer(op.custom_options, "<i4").tolist()
            assert self.model.shapes[op.inputs[1]][1:3] == stride, "windows must not overlap, so padding is none"
            step = {"op": "conv_transpose", "stride": stride, "weight": self.weight(op.inputs[1], (3, 0, 1, 2))}
            step["bias"] = self.weight(op.inputs[2], (0,))
        else:
            raise ValueError(f"operator {op.code} {op.custom} is not known here")
        if activation:
            step["act"] = ACTIVATIONS[activation]
        return {"op": step.pop("op"), "in": live, **step}

    def conv(self, op: Operator, shape_in: list[int]) -> dict[str, Any]:
        """Convert CONV_2D (3) and DEPTHWISE_CONV_2D (4)."""
        dilation = [op.options.number(i, "i", 1) for i in ((4, 5) if op.code == 3 else (5, 6))]
        assert dilation == [1, 1]
        axes = (0, 3, 1, 2) if op.code == 3 else (3, 0, 1, 2)
        size = self.model.shapes[op.inputs[1]][1:3]
        return {
            "op": "conv", "weight": self.weight(op.inputs[1], axes), "bias": self.weight(op.inputs[2], (0,)),
            **window(op.options, shape_in, size),
        }  # fmt: skip

    def pool(self, op: Operator, shape_in: list[int]) -> dict[str, Any]:
        """Convert AVERAGE_POOL_2D (1), only over whole images, and MAX_POOL_2D (17)."""
        assert not op.options.number(5, "b")
        size = [op.options.number(i) for i in (4, 3)]
        if op.code == 17:
            return {"op": "max_pool", "size": size, **window(op.options, shape_in, size)}
        assert size == shape_in[1:3]
        return {"op": "mean"}


def window(options: Table, shape_in: list[int], size: list[int]) -> dict[str, Any]:
    """Stride, and padding as left, right, top, bottom: "same" (0) puts the odd one after, "valid" (1) is none."""
    stride = [options.number(2), options.number(1)]
    pads = []
    for length, step, extent in zip(shape_in[1:3], stride, size, strict=True):
        total = max((-(-length // step) - 1) * step + extent - length, 0) if options.number(0, "b") == 0 else 0
        pads.append([total // 2, total - total // 2])
    return {"stride": stride, **({"pad": [*pads[1], *pads[0]]} if any(map(any, pads)) else {})}


def convert(data: bytes, about: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the description of a graph and its weights."""
    model = Tflite(data)
    converter = Converter(model)
    steps = converter.convert()
    _, height, width, channels = model.shapes[model.inputs[0]]
    outputs = {name: converter.names[i] for name, i in zip(about["outputs"], model.outputs, strict=True)}
    description = {"input": [channels, height, width], "range": about["range"], "outputs": outputs, "steps": steps}
    return description, converter.weights


RUN_ORIGINAL = """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
net = Interpreter(model_path=sys.argv[1]); net.allocate_tensors()
images, found = np.load(sys.argv[2]), []
for image in images:
    net.set_tensor(net.get_input_details()[0]["index"], image[None]); net.invoke()
    found.append([net.get_tensor(o["index"]).copy() for o in net.get_output_details()])
np.savez(sys.argv[3], *[np.concatenate(x) for x in zip(*found)])
"""


def sample_images(shape: list[int], spread: list[float]) -> NDArray[np.float32]:
    """Four smooth random pictures and one of noise, channels last."""
    generator = torch.Generator().manual_seed(0)
    coarse = [torch.rand(1, 3, n, n, generator=generator) for n in (3, 6, 12, 24)]
    size = tuple(shape[1:])
    smooth = [torch.nn.functional.interpolate(c, size, mode="bicubic").clip(0, 1) for c in coarse]
    images = torch.cat([*smooth, torch.rand(1, 3, *size, generator=generator)])
    return (images * (spread[1] - spread[0]) + spread[0]).permute(0, 2, 3, 1).contiguous().numpy()


def differences(python: Path, data: bytes, graph: Graph, names: list[str]) -> dict[str, tuple[float, float]]:
    """Greatest difference of each output to the original, and the original's greatest value."""
    images = sample_images(list(graph.input_shape), list(graph.input_range))
    with tempfile.TemporaryDirectory() as folder:
        model, given, found = (Path(folder) / name for name in ("net.tflite", "in.npy", "out.npz"))
        model.write_bytes(data)
        np.save(given, images)
        subprocess.run([python, "-c", RUN_ORIGINAL, model, given, found], check=True, capture_output=True)
        with np.load(found) as archive:
            originals = [archive[name] for name in archive.files]
    with torch.inference_mode():
        ours = graph(torch.from_numpy(images).permute(0, 3, 1, 2))
    result = {}
    for name, original in zip(names, originals, strict=True):
        own = (ours[name].permute(0, 2, 3, 1) if ours[name].ndim == 4 else ours[name]).numpy()
        if name in LOG_ODDS:
            own, original = (torch.from_numpy(x).sigmoid().numpy() for x in (own, original))
        result[name] = float(np.abs(own - original).max()), float(np.abs(original).max())
    return result


def convert_one(wheel: zipfile.ZipFile, name: str, out: Path, python: Path | None) -> None:
    """Convert one network and write its three files."""
    about = NETWORKS[name]
    data = wheel.read(about["file"])
    description, weights = convert(data, about)
    packed, shapes = pack(weights)
    found = {} if python is None else differences(
        python, data, Graph(description, unpack(packed, shapes)).eval(), about["outputs"]
    )  # fmt: skip
    words = "; ".join(f"{key} at most {a:.1g} (values up to {b:.3g})" for key, (a, b) in found.items())
    digest, path = hashlib.sha256(data).hexdigest(), out / f"person-{name}.safetensors"
    meta = {"source": {"wheel": WHEEL, "file": about["file"], "sha256": digest, "licence": "Apache-2.0"}}
    write_tensors(path, packed, {**meta, "differences": found, "packed": shapes, "graph": description})
    count = sum(w.numel() for w in weights.values())
    zeros = 1 - sum(int((w != 0).sum()) for w in weights.values()) / count
    low, high = about["range"]
    card = CARD.format(
        name=name, wheel=WHEEL, digest=digest, parameters=count / 1e6, shape=description["input"], low=low, high=high,
        packed=f", {zeros:.0%} of them zero and stored as one bit" if zeros > 0.05 else "", limits=LIMITS[name],
        samples="five synthetic pictures", differences=words or "not measured",
        **{key: about[key] for key in ("what", "file", "model_card")},
    )  # fmt: skip
    path.with_suffix(".md").write_text(card, encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {words}")


def main() -> None:
    """Convert all networks of the wheel named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "assets" / "weights")
    parser.add_argument("--verify", type=Path, metavar="PYTHON", help="a Python with ai-edge-litert")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    with zipfile.ZipFile(given.wheel) as wheel:
        for name in NETWORKS:
            convert_one(wheel, name, given.out, given.verify)
        (licence,) = (name for name in wheel.namelist() if name.endswith(".dist-info/LICENSE"))
        (given.out / "person-LICENSE.txt").write_bytes(wheel.read(licence))


if __name__ == "__main__":
    main()
