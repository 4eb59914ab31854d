"""Read what is in a .tflite file: tensors, constants (sparse ones too) and operations, without TensorFlow.

A .tflite file is a FlatBuffer; the numbers of the fields are those of TensorFlow's schema.fbs (Apache-2.0).
"""

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES: dict[int, str] = {0: "<f4", 1: "<f2", 2: "<i4"}


class Table:
    """A table of a FlatBuffer: fields by number, absent ones have defaults."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.index = position - struct.unpack_from("<i", data, position)[0]

    def _field(self, number: int) -> int | None:
        """Position of a field's bytes."""
        size = struct.unpack_from("<H", self.data, self.index)[0]
        entry = 4 + 2 * number
        offset = struct.unpack_from("<H", self.data, self.index + entry)[0] if entry < size else 0
        return self.position + offset if offset else None

    def _target(self, number: int) -> int | None:
        """Position of what a field points at."""
        field = self._field(number)
        return None if field is None else field + struct.unpack_from("<I", self.data, field)[0]

    def number(self, number: int, kind: str = "i", default: Any = 0) -> Any:
        """A scalar, `kind` as in struct."""
        field = self._field(number)
        return default if field is None else struct.unpack_from(f"<{kind}", self.data, field)[0]

    def table(self, number: int) -> "Table | None":
        """A table below this one."""
        target = self._target(number)
        return None if target is None else Table(self.data, target)

    def array(self, number: int, dtype: str) -> NDArray[Any]:
        """A vector of scalars."""
        target = self._target(number)
        if target is None:
            return np.zeros(0, dtype)
        count = struct.unpack_from("<I", self.data, target)[0]
        return np.frombuffer(self.data, dtype, count, target + 4)

    def text(self, number: int) -> str:
        """A string."""
        return self.array(number, "u1").tobytes().decode("utf-8", "replace")

    def tables(self, number: int) -> list["Table"]:
        """A vector of tables."""
        target = self._target(number)
        if target is None:
            return []
        starts = [target + 4 + 4 * i for i in range(struct.unpack_from("<I", self.data, target)[0])]
        return [Table(self.data, start + struct.unpack_from("<I", self.data, start)[0]) for start in starts]


@dataclass(frozen=True)
class Operator:
    """One operation.

    Attributes:
        code: Number of the built-in operation (BuiltinOperator of the schema); 32 for a custom one.
        custom: Name of the custom operation.
        inputs: Tensors that go in; -1 for none.
        outputs: Tensors that come out.
        options: Its options, if it has any.
        custom_options: Bytes of a custom operation's options.
    """

    code: int
    custom: str
    inputs: list[int]
    outputs: list[int]
    options: Table | None
    custom_options: bytes


class Tflite:
    """The first graph of a .tflite file.

    Attributes:
        inputs, outputs: Indices of tensors.
        operators: In the order in which they run.
    """

    def __init__(self, data: bytes) -> None:
        if data[4:8] != b"TFL3":
            raise ValueError("not a .tflite file")
        model = Table(data, struct.unpack_from("<I", data)[0])
        graph = model.tables(2)[0]
        self._codes = [(max(c.number(0, "b"), c.number(3)), c.text(1)) for c in model.tables(1)]
        self._buffers = model.tables(4)
        self._tensors = graph.tables(0)
        self.inputs, self.outputs = (graph.array(i, "<i4").tolist() for i in (1, 2))
        self.operators = [self._operator(table) for table in graph.tables(3)]

    @classmethod
    def read(cls, path: Path) -> "Tflite":
        """Read a file."""
        return cls(path.read_bytes())

    def _operator(self, table: Table) -> Operator:
        code, custom = self._codes[table.number(0, "I")]
        inputs, outputs = (table.array(i, "<i4").tolist() for i in (1, 2))
        return Operator(code, custom, inputs, outputs, table.table(4), table.array(5, "u1").tobytes())

    @cached_property
    def shapes(self) -> list[list[int]]:
        """Shape of each tensor."""
        return [tensor.array(0, "<i4").tolist() for tensor in self._tensors]

    def constant(self, index: int) -> NDArray[Any] | None:
        """What a tensor holds; None if it is computed."""
        tensor = self._tensors[index]
        raw = self._buffers[tensor.number(2, "I")].array(0, "u1")
        if not len(raw):
            return None
        values = np.frombuffer(raw.tobytes(), DTYPES[tensor.number(1, "b")])
        sparsity = tensor.table(6)
        return (values if sparsity is None else _dense(values, sparsity, self.shapes[index])).reshape(
            self.shapes[index]
        )


def _dense(values: NDArray[Any], sparsity: Table, shape: list[int]) -> NDArray[Any]:
    """Fill in the zeros of a tensor of which only the last axis is compressed, as in the networks we read."""
    order, dims = sparsity.array(0, "<i4").tolist(), sparsity.tables(2)
    formats = [dim.number(0, "b") for dim in dims]
    if order != list(range(len(shape))) or len(sparsity.array(1, "<i4")) or formats != [0] * (len(shape) - 1) + [1]:
        raise ValueError(f"a sparse tensor of another layout than expected: {order}, {formats}")
    starts, columns = (_indices(dims[-1], field) for field in (2, 4))
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    dense = np.zeros((int(np.prod(shape[:-1])), shape[-1]), values.dtype)
    dense[rows, columns] = values
    return dense


def _indices(dimension: Table, field: int) -> NDArray[np.int64]:
    """A vector of indices; the field before says whether of 32, 16 or 8 bits."""
    kind = {1: "<i4", 2: "<u2", 3: "u1"}[dimension.number(field, "B")]
    vector = dimension.table(field + 1)
    assert vector is not None
    return vector.array(0, kind).astype(np.int64)
