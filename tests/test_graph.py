"""Networks as data: every operation against slow loops, packing, damage, and the reader of .tflite files."""

import importlib
import json
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import CheckpointError
from lvdreg.base.tensors import CHECKSUM, read_tensors, write_tensors
from lvdreg.photo.graph import OPERATIONS, Graph, pack, person_graph, read_graph, run_graph, unpack

NAMES = ("detector", "landmarks", "mask")
SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
X = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))


def run(op: str, inputs: list[Tensor], weights: dict[str, Tensor] | None = None, **step: Any) -> Tensor:
    return OPERATIONS[op]({"op": op, **step}, inputs, weights or {})


def slow_conv(x: Tensor, kernel: Tensor, bias: Tensor, stride: tuple[int, int], pad: list[int], groups: int) -> Tensor:
    left, right, top, bottom = pad
    batch, channels, height, width = x.shape
    big = torch.zeros(batch, channels, height + top + bottom, width + left + right)
    big[:, :, top : top + height, left : left + width] = x
    size, out = kernel.shape[2:], len(kernel)
    rows, columns = ((big.shape[2 + i] - size[i]) // stride[i] + 1 for i in (0, 1))
    result = torch.zeros(batch, out, rows, columns)
    for o in range(out):
        group = o * groups // out
        part = big[:, group * kernel.shape[1] : (group + 1) * kernel.shape[1]]
        for r in range(rows):
            for c in range(columns):
                y, x0 = r * stride[0], c * stride[1]
                window = part[:, :, y : y + size[0], x0 : x0 + size[1]]
                result[:, o, r, c] = (window * kernel[o]).sum((1, 2, 3)) + bias[o]
    return result


@pytest.mark.parametrize("pad", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 2]])
@pytest.mark.parametrize(("groups", "out"), [(1, 4), (3, 3), (3, 6)])
def test_convolutions(pad: list[int], groups: int, out: int) -> None:
    weights = {"w": torch.randn(out, 3 // groups, 3, 2), "b": torch.randn(out)}
    found = run("conv", [X], weights, weight="w", bias="b", stride=[2, 1], pad=pad)
    torch.testing.assert_close(found, slow_conv(X, weights["w"], weights["b"], (2, 1), pad, groups))


def test_transposed_convolution() -> None:
    weights = {"w": torch.randn(3, 2, 2, 2), "b": torch.randn(2)}
    expected = weights["b"].reshape(1, 2, 1, 1).expand(2, 2, 10, 12).clone()
    for r in range(5):
        for c in range(6):
            patch = torch.einsum("bi,iohw->bohw", X[:, :, r, c], weights["w"])
            expected[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2] += patch
    torch.testing.assert_close(run("conv_transpose", [X], weights, weight="w", bias="b", stride=[2, 2]), expected)


@pytest.mark.parametrize("pad", [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
def test_max_pool_ignores_what_is_padded(pad: list[int]) -> None:
    left, right, top, bottom = pad
    found = run("max_pool", [X - 10], size=[2, 2], stride=[2, 2], pad=pad)
    rows, columns = (5 + top + bottom) // 2, (6 + left + right) // 2
    assert found.shape == (2, 3, rows, columns)
    for r in range(rows):
        for c in range(columns):
            y, x = (slice(max(0, 2 * i - o), 2 * i - o + 2) for i, o in ((r, top), (c, left)))
            torch.testing.assert_close(found[:, :, r, c], (X - 10)[:, :, y, x].amax((2, 3)))


def test_operations_that_move_numbers() -> None:
    torch.testing.assert_close(run("mean", [X]), X.sum((2, 3), keepdim=True) / 30)
    torch.testing.assert_close(run("add", [X, X[:1]]), X + X[0])
    torch.testing.assert_close(run("mul", [X, X[:, :, :1, :1]]), X * X[:, :, 0, 0][..., None, None])
    torch.testing.assert_close(run("concat", [X, -X], axis=1)[:, 3:], -X)
    padded = run("pad", [X], pad=[1, 0, 2, 0])
    assert padded.shape == (2, 3, 7, 7) and not padded[:, :, :2].any() and not padded[..., 0].any()
    flat = run("reshape", [X], shape=[30, 3])
    assert all(torch.equal(flat[:, r * 6 + c], X[:, :, r, c]) for r in range(5) for c in range(6))
    wide = torch.randn(1, 8, 2, 3)
    deep = run("depth_to_space", [wide], block=2)
    for r in range(4):
        for c in range(6):
            block = (r % 2) * 2 + c % 2
            assert torch.equal(deep[0, :, r, c], wide[0, 2 * block : 2 * block + 2, r // 2, c // 2])


def test_resize_has_half_pixel_centres() -> None:
    line = torch.tensor([0.0, 1.0, 4.0]).reshape(1, 1, 1, 3).expand(1, 1, 2, 3)
    found = run("resize", [line], size=[4, 6], align_corners=False)[0, 0]
    torch.testing.assert_close(found[1], torch.tensor([0.0, 0.25, 0.75, 1.75, 3.25, 4.0]))


def small_graph() -> tuple[dict[str, Any], dict[str, Tensor]]:
    steps = [
        {"op": "conv", "in": ["input"], "weight": "w", "bias": "b", "stride": [1, 1], "act": "relu6", "out": "x1"},
        {"op": "mean", "in": ["x1"], "out": "x2"},
        {"op": "mul", "in": ["x1", "x2"], "act": "hard_swish", "out": "x3"},
        {"op": "activate", "in": ["x3"], "act": "sigmoid", "out": "x4"},
    ]
    description = {"input": [3, 5, 6], "range": [-1, 1], "outputs": {"a": "x1", "b": "x4"}, "steps": steps}
    weights = {"w": torch.randn(4, 3, 1, 1).half().float(), "b": torch.randn(4).half().float()}
    weights["w"][:, 1] = 0
    return description, weights


def test_a_graph_runs_its_steps_in_order() -> None:
    description, weights = small_graph()
    found = run_graph(Graph(description, weights), X, "small")
    x1 = (torch.einsum("oi,bihw->bohw", weights["w"][..., 0, 0], 2 * X - 1) + weights["b"][:, None, None]).clamp(0, 6)
    product = x1 * x1.mean((2, 3), keepdim=True)
    torch.testing.assert_close(found["a"], x1, atol=1e-5, rtol=1e-5)
    expected = torch.sigmoid(product * (product + 3).clamp(0, 6) / 6)
    torch.testing.assert_close(found["b"], expected, atol=1e-5, rtol=1e-5)


def test_packing_keeps_every_number() -> None:
    generator = torch.Generator().manual_seed(1)
    sparse = torch.randn(7, 3, 3, 5, generator=generator) * (torch.rand(7, 3, 3, 5, generator=generator) < 0.3)
    tensors = {"full": torch.randn(4, 5, generator=generator), "sparse": sparse, "zero": torch.zeros(9)}
    packed, shapes = pack(tensors)
    assert set(shapes) == {"sparse", "zero"} and packed["full"].dtype == torch.float16
    assert sum(t.numel() * t.element_size() for t in packed.values()) < 0.6 * sum(
        t.numel() * 2 for t in tensors.values()
    )
    again = unpack(packed, shapes)
    for name, tensor in tensors.items():
        assert torch.equal(again[name], tensor.half().float())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A healthy file."""
    description, weights = small_graph()
    packed, shapes = pack(weights)
    assert shapes
    path = tmp_path / "person-small.safetensors"
    write_tensors(path, packed, {"graph": description, "packed": shapes})
    return path


def test_a_file_gives_the_same_graph(path: Path) -> None:
    graph = read_graph(path)
    assert graph.input_shape == (3, 5, 6) and graph.input_range == (-1, 1) and not graph.training
    assert run_graph(graph, X, "x")["b"].shape == (2, 4, 5, 6)


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        meta = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        meta.pop(CHECKSUM)
        change(meta)
        path.with_suffix(".json").write_text(json.dumps(meta), encoding="utf-8")

    return apply


def broken_number(path: Path) -> None:
    tensors, meta = read_tensors(path)
    tensors["b"][0] = torch.nan
    write_tensors(path, tensors, meta)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "no json": lambda path: path.with_suffix(".json").unlink(),
    "no graph": edit(lambda meta: meta.pop("graph")),
    "no packed": edit(lambda meta: meta.pop("packed")),
    "unknown operation": edit(lambda meta: meta["graph"]["steps"][0].update(op="__import__")),
    "unknown activation": edit(lambda meta: meta["graph"]["steps"][0].update(act="eval")),
    "no such weight": edit(lambda meta: meta["graph"]["steps"][0].update(weight="w9")),
    "a step too early": edit(lambda meta: meta["graph"]["steps"].reverse()),
    "no such output": edit(lambda meta: meta["graph"]["outputs"].update(c="x9")),
    "wrong shape": edit(lambda meta: meta["packed"].update(w=[9, 3, 1, 1])),
    "steps are text": edit(lambda meta: meta["graph"].update(steps="none")),
    "not a number": broken_number,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_damage_is_one_clear_line(path: Path, name: str) -> None:
    DAMAGE[name](path)
    with pytest.raises(CheckpointError) as error:
        read_graph(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_steps_that_do_not_fit_each_other_are_one_clear_line(path: Path) -> None:
    edit(lambda meta: meta["graph"]["steps"][0].update(stride=["a"]))(path)
    with pytest.raises(CheckpointError, match="person-small"):
        run_graph(read_graph(path), X, "person-small")


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_networks_run_and_say_where_they_are_from(name: str) -> None:
    graph = person_graph(name)
    first = run_graph(graph, torch.rand(2, *graph.input_shape, generator=torch.Generator().manual_seed(2)), name)
    assert all(len(value) == 2 and bool(value.isfinite().all()) for value in first.values())
    path = assets_dir() / "weights" / f"person-{name}.safetensors"
    tensors, meta = read_tensors(path)
    assert {tensor.dtype for tensor in tensors.values()} <= {torch.float16, torch.uint8}
    assert meta["source"]["licence"] == "Apache-2.0" and meta["source"]["sha256"] in path.with_suffix(".md").read_text(
        encoding="utf-8"
    )
    assert all(
        error <= max(1e-3, 1e-4 * top, 1e-2 * (key == "segmentation"))
        for key, (error, top) in meta["differences"].items()
    )


def test_all_three_are_small() -> None:
    folder = assets_dir() / "weights"
    assert sum(path.stat().st_size for path in folder.glob("person-*")) < 10e6
    assert "Apache License" in (folder / "person-LICENSE.txt").read_text(encoding="utf-8")


# A FlatBuffer by hand: tables are written after what points at them, so all offsets are positive.


class Builder:
    """Writes tables of fields: ints (4 bytes), bytes of a vector with its count, Builders, or lists of Builders."""

    def __init__(self, **fields: Any) -> None:
        self.fields = {int(name[1:]): value for name, value in fields.items()}

    def write(self, at: int) -> bytes:
        """Bytes of this table and all below it, for the position `at`; the table itself comes first."""
        count = max(self.fields, default=-1) + 1
        index = struct.pack("<HH", 4 + 2 * count, 4 + 4 * count)
        index += b"".join(struct.pack("<H", 4 + 4 * i if i in self.fields else 0) for i in range(count))
        index += b"\0" * (-len(index) % 4)
        body = bytearray(struct.pack("<i", -(4 + 4 * count)) + b"\0" * 4 * count)
        tail = bytearray(index)
        for number, value in self.fields.items():
            place = 4 + 4 * number
            if isinstance(value, int):
                body[place : place + 4] = struct.pack("<i", value)
                continue
            here = at + len(body) + len(tail)
            struct.pack_into("<I", body, place, here - at - place)
            tail += self._below(value, here)
            tail += b"\0" * (-len(tail) % 4)
        return bytes(body + tail)

    @staticmethod
    def _below(value: Any, here: int) -> bytes:
        if isinstance(value, Builder):
            return value.write(here)
        if isinstance(value, np.ndarray | bytes):
            return struct.pack("<I", len(value)) + (value if isinstance(value, bytes) else value.tobytes())
        slots, tables = bytearray(4 + 4 * len(value)), bytearray()
        struct.pack_into("<I", slots, 0, len(value))
        for i, table in enumerate(value):
            struct.pack_into("<I", slots, 4 + 4 * i, len(slots) + len(tables) - 4 - 4 * i)
            tables += table.write(here + len(slots) + len(tables))
        return bytes(slots + tables)


def ints(*values: int) -> np.ndarray:
    return np.array(values, "<i4")


def tflite(kernel: np.ndarray, sparsity: Builder | None) -> bytes:
    """One convolution with stride 2 and "same" padding, relu6; its kernel is in half precision, and may be sparse."""
    shapes, kinds = ([1, 5, 6, 3], [4, 1, 1, 3], [4], [4, 1, 1, 3], [1, 3, 3, 4]), (0, 1, 0, 0, 0)
    tensors = [Builder(f0=ints(*s), f1=k, f2=i) for i, (s, k) in enumerate(zip(shapes, kinds, strict=True))]
    if sparsity is not None:
        tensors[1].fields[6] = sparsity
    buffers = [
        Builder(),
        Builder(f0=kernel.tobytes()),
        Builder(f0=np.arange(4, dtype="<f4").tobytes()),
        Builder(),
        Builder(),
    ]
    dequantize = Builder(f0=1, f1=ints(1), f2=ints(3))
    options = Builder(f0=0, f1=2, f2=2, f3=3)
    conv = Builder(f0=0, f1=ints(0, 3, 2), f2=ints(4), f4=options)
    graph = Builder(f0=tensors, f1=ints(0), f2=ints(4), f3=[dequantize, conv])
    model = Builder(f1=[Builder(f0=3), Builder(f0=6)], f2=[graph], f4=buffers)
    return struct.pack("<I4s", 8, b"TFL3") + model.write(8)


@pytest.fixture
def convert_mediapipe(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The script, which finds what lies beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("convert_mediapipe", "tflite_source"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("convert_mediapipe")


def test_padding_to_the_same_size_puts_the_odd_pixel_after(convert_mediapipe: types.ModuleType) -> None:
    """Output o of a window of 3 at stride 2 over 4 pixels sees 2 o to 2 o + 2; over 5, one earlier."""
    options = types.SimpleNamespace(number=lambda field, kind="i": {0: 0, 1: 2, 2: 2}[field])
    assert convert_mediapipe.window(options, [1, 5, 4, 3], [3, 3]) == {"stride": [2, 2], "pad": [0, 1, 1, 1]}
    assert convert_mediapipe.window(options, [1, 4, 6, 3], [2, 2]) == {"stride": [2, 2]}


@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_tflite_file_becomes_a_graph(convert_mediapipe: types.ModuleType, is_sparse: bool) -> None:
    kernel = np.arange(1, 13, dtype="<f2").reshape(4, 3)
    stored, sparsity = kernel.ravel(), None
    if is_sparse:
        kernel[1], kernel[2, :2] = 0, 0
        stored = kernel[kernel != 0]
        starts = np.concatenate([[0], np.cumsum((kernel != 0).sum(1))])
        columns = np.nonzero(kernel)[1]
        dense = [Builder(f0=0, f1=n) for n in (4, 1, 1)]
        last = Builder(f0=1, f2=1, f3=Builder(f0=ints(*starts)), f4=1, f5=Builder(f0=ints(*columns)))
        sparsity = Builder(f0=ints(0, 1, 2, 3), f2=[*dense, last])
    about = {"outputs": ["out"], "range": [0, 1]}
    description, weights = convert_mediapipe.convert(tflite(stored, sparsity), about)
    found = Graph(description, weights)(X)["out"]
    expected = torch.einsum("oi,bihw->bohw", torch.from_numpy(kernel).float(), X[:, :, ::2, ::2])
    torch.testing.assert_close(found, (expected + torch.arange(4.0)[:, None, None]).clamp(0, 6))
