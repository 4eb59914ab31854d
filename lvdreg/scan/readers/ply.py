"""PLY, ascii and binary of both byte orders (Turk, 1994)."""

import re
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import (
    MAX_ROWS,
    RawScan,
    check_rows,
    checked_faces,
    fan,
    parse_numbers,
    split_header,
    strip,
    to_colors,
    to_indices,
)

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "int64": "i8", "uint64": "u8",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_INDEX_LISTS = ("vertex_indices", "vertex_index")
_COUNT = re.compile(r"-?[0-9]{1,18}")
_MAX_STRIPS = 1_000_000
_MAX_HEADER_BYTES = 1 << 20


@dataclass
class _Property:
    name: str
    dtype: str
    count_dtype: str | None = None


@dataclass
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)

    def row_bytes(self, in_text: bool) -> int:
        """Return the least number of bytes of one row."""
        if in_text:
            return max(1, 2 * len(self.properties))
        return max(1, sum(np.dtype(p.count_dtype or p.dtype).itemsize for p in self.properties))


_Columns = dict[str, NDArray[np.generic]]
_Lists = dict[str, tuple[NDArray[np.generic], NDArray[np.int64]]]  # name -> flat values, count per row


def read_ply(data: bytes) -> RawScan:
    """Read vertices, normals, colours and faces (also triangle strips); other elements are passed over.

    Raises:
        ScanError: the header is not PLY's, or the body is shorter than the header promises.
    """
    order, elements, start = _parse_header(data)
    body = _TextBody(data[start:]) if order == "" else _BinaryBody(data, start, order)
    vertex: _Columns | None = None
    triangles = [np.zeros((0, 3), np.int64)]
    for element in elements:
        check_rows(f"{element.name} rows", element.count, element.row_bytes(order == ""), body.left)
        columns, lists = body.read(element)
        if element.name == "vertex":
            vertex = columns
        triangles += _triangles(element.name, lists)
        if vertex is not None and (element.name in ("face", "tristrips") or not _faces_follow(element, elements)):
            break
    return _assemble(vertex, np.concatenate(triangles))


def vertex_columns(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Return the properties of the vertices by name, where these come first, as in what lvdreg writes.

    Raises:
        ScanError: the file is damaged, or something else.
    """
    order, elements, start = _parse_header(data)
    if not elements or elements[0].name != "vertex":
        raise ScanError("expected vertices first, got something else")
    body = _TextBody(data[start:]) if order == "" else _BinaryBody(data, start, order)
    check_rows("vertex rows", elements[0].count, elements[0].row_bytes(order == ""), body.left)
    return body.read(elements[0])[0]


def _faces_follow(element: _Element, elements: list[_Element]) -> bool:
    after = elements[elements.index(element) + 1 :]
    return any(e.name in ("face", "tristrips") for e in after)


def _parse_header(data: bytes) -> tuple[str, list[_Element], int]:
    """Return the byte order ("" for text), the elements, and where the body starts."""
    if not data.startswith(b"ply"):
        raise ScanError("expected a PLY header, got none; the file is damaged")
    lines, start = split_header(data, "end_header", _MAX_HEADER_BYTES)
    order: str | None = None
    elements: list[_Element] = []
    for line in lines:
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            order = _ORDERS.get(words[1])
        elif words[:1] == ["element"]:
            if len(words) != 3 or not _COUNT.fullmatch(words[2]):
                raise _unreadable(words)
            elements.append(_Element(words[1], int(words[2])))
        elif words[:1] == ["property"]:
            _add_property(elements, words)
    if order is None:
        raise ScanError("expected 'format ascii' or 'format binary_..._endian' in the PLY header, got neither")
    return order, elements, start


def _unreadable(words: list[str]) -> ScanError:
    return ScanError(f"cannot read the PLY header line {' '.join(words)[:60]!r}; the file is damaged")


def _add_property(elements: list[_Element], words: list[str]) -> None:
    is_list = words[1:2] == ["list"]
    types = words[2:4] if is_list else words[1:2]
    if not elements or len(words) != (5 if is_list else 3) or any(t not in _TYPES for t in types):
        raise _unreadable(words)
    numpy_types = [_TYPES[t] for t in types]
    if is_list and numpy_types[0].startswith("f"):
        raise _unreadable(words)
    elements[-1].properties.append(_Property(words[-1], numpy_types[-1], numpy_types[0] if is_list else None))


class _TextBody:
    """The numbers of an ascii body, consumed element by element."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._values: NDArray[np.float64] | None = None
        self._at = 0
        self.left = len(text) + 1

    def read(self, element: _Element) -> tuple[_Columns, _Lists]:
        if self._values is None:
            self._values = parse_numbers(self._text)
            self._text = b""
        if not element.count:
            return {}, {}
        start = self._at
        lengths = [self._length(p) for p in element.properties]
        self._at = start
        width = sum(lengths) + sum(1 for p in element.properties if p.count_dtype)
        if start + element.count * width > len(self._values):
            return self._read_rows(element)
        table = self._values[start : start + element.count * width].reshape(element.count, width)
        return self._split(element, table, lengths) or self._read_rows(element)

    def _length(self, prop: _Property) -> int:
        """Step over one cell, and return how many values it holds."""
        length = int(to_indices(self._take(1))[0]) if prop.count_dtype else 1
        self._take(length)
        return length

    def _take(self, count: int) -> NDArray[np.float64]:
        assert self._values is not None
        taken = self._values[self._at : self._at + count]
        if count < 0:
            raise ScanError(f"expected lists of 0 values or more, got one of {count}; the file is damaged")
        if len(taken) < count:
            raise ScanError("the rows end before the header's count; the file is truncated, copy or export it again")
        self._at += count
        return taken

    def _split(
        self, element: _Element, table: NDArray[np.float64], lengths: list[int]
    ) -> tuple[_Columns, _Lists] | None:
        """Split a table in which every list is as long as in the first row; None where one is not."""
        columns: _Columns = {}
        lists: _Lists = {}
        at = 0
        for prop, length in zip(element.properties, lengths, strict=True):
            if prop.count_dtype:
                if (table[:, at] != length).any():
                    return None
                lists[prop.name] = (table[:, at + 1 : at + 1 + length].ravel(), np.full(len(table), length))
                at += 1
            else:
                columns[prop.name] = _typed(table[:, at], prop)
            at += length
        self._at += table.size
        return columns, lists

    def _read_rows(self, element: _Element) -> tuple[_Columns, _Lists]:
        cells: list[list[NDArray[np.float64]]] = [[] for _ in element.properties]
        for _ in range(element.count):
            for prop, cell in zip(element.properties, cells, strict=True):
                cell.append(self._take(int(to_indices(self._take(1))[0]) if prop.count_dtype else 1))
        columns: _Columns = {}
        lists: _Lists = {}
        for prop, cell in zip(element.properties, cells, strict=True):
            if prop.count_dtype:
                lists[prop.name] = (np.concatenate(cell), np.array([len(values) for values in cell]))
            else:
                columns[prop.name] = _typed(np.concatenate(cell), prop)
        return columns, lists


def _typed(column: NDArray[np.float64], prop: _Property) -> NDArray[np.generic]:
    """Give bytes their type back: colours are told apart by it."""
    return np.clip(np.nan_to_num(column), 0, 255).astype(np.uint8) if prop.dtype == "u1" else column


class _BinaryBody:
    """The bytes of a binary body, consumed element by element."""

    def __init__(self, data: bytes, start: int, order: str) -> None:
        self._data = data
        self._at = start
        self._order = order

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def read(self, element: _Element) -> tuple[_Columns, _Lists]:
        if not element.count:
            return {}, {}
        table = self._read_table(element)
        if table is None:
            return self._read_rows(element)
        fields = {p.name: (p, table[f"f{i}"]) for i, p in enumerate(element.properties)}
        columns = {n: column for n, (p, column) in fields.items() if not p.count_dtype}
        return columns, {n: _constant(column) for n, (p, column) in fields.items() if p.count_dtype}

    def _read_table(self, element: _Element) -> Shaped[np.ndarray, " N"] | None:
        """Read all rows at once as if every list were as long as in the first row; None where that is not so."""
        fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
        lengths: dict[str, int] = {}
        at = self._at
        for i, prop in enumerate(element.properties):
            value = self._order + prop.dtype
            if prop.count_dtype:
                lengths[f"n{i}"] = length = self._scalar(prop.count_dtype, at)
                if not 0 <= length < 1000:
                    return None
                fields += [(f"n{i}", self._order + prop.count_dtype), (f"f{i}", value, (length,))]
                at += np.dtype(prop.count_dtype).itemsize + length * np.dtype(value).itemsize
            else:
                fields.append((f"f{i}", value))
                at += np.dtype(value).itemsize
        dtype = np.dtype(fields)
        if dtype.itemsize * element.count > self.left:
            return None
        table = np.frombuffer(self._data, dtype, element.count, self._at)
        if any((table[name] != length).any() for name, length in lengths.items()):
            return None
        self._at += dtype.itemsize * element.count
        return table

    def _scalar(self, dtype: str, at: int) -> int:
        if at + np.dtype(dtype).itemsize > len(self._data):
            raise ScanError("the file ends before the header's count of rows; it is truncated, copy or export it again")
        return int(np.frombuffer(self._data, self._order + dtype, 1, at)[0])

    def _read_rows(self, element: _Element) -> tuple[_Columns, _Lists]:
        cells: list[list[bytes]] = [[] for _ in element.properties]
        sizes = [np.dtype(p.dtype).itemsize for p in element.properties]
        for _ in range(element.count):
            for prop, size, cell in zip(element.properties, sizes, cells, strict=True):
                cell.append(self._cell(prop, size))
        columns: _Columns = {}
        lists: _Lists = {}
        for prop, size, cell in zip(element.properties, sizes, cells, strict=True):
            flat = np.frombuffer(b"".join(cell), self._order + prop.dtype)
            if prop.count_dtype:
                lists[prop.name] = (flat, np.array([len(c) // size for c in cell]))
            else:
                columns[prop.name] = flat
        return columns, lists

    def _cell(self, prop: _Property, size: int) -> bytes:
        count = 1
        if prop.count_dtype:
            count = self._scalar(prop.count_dtype, self._at)
            self._at += np.dtype(prop.count_dtype).itemsize
        if count < 0:
            raise ScanError(f"expected lists of 0 values or more, got one of {count}; the file is damaged")
        if count * size > self.left:
            raise ScanError("the file ends before the header's count of rows; it is truncated, copy or export it again")
        self._at += count * size
        return self._data[self._at - count * size : self._at]


def _constant(table: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    return table.ravel(), np.full(len(table), table.shape[1])


def _triangles(name: str, lists: _Lists) -> list[NDArray[np.int64]]:
    found = [lists[key] for key in _INDEX_LISTS if key in lists]
    if not found or name not in ("face", "tristrips"):
        return []
    corners, counts = found[0]
    check_rows("corners of faces", len(corners), 0, 0, 4 * MAX_ROWS)
    flat = corners.astype(np.int64) if corners.dtype.kind in "iu" else to_indices(corners.astype(np.float64))
    if name == "face":
        return [fan(flat, counts)]
    check_rows("strips of triangles", len(counts), 0, 0, _MAX_STRIPS)
    rows = np.split(flat, np.cumsum(counts)[:-1])
    return [strip(part[part >= 0]) for row in rows for part in np.split(row, np.flatnonzero(row < 0))]


def _assemble(vertex: _Columns | None, faces: NDArray[np.int64]) -> RawScan:
    missing = [axis for axis in "xyz" if axis not in (vertex or {})]
    if vertex is None or missing:
        raise ScanError("expected vertices with x, y and z, got none; the file holds nothing to register")
    points = _stack(vertex, ["x", "y", "z"]).astype(np.float64)
    normal_names, color_names = ["nx", "ny", "nz"], _color_names(vertex)
    normals = _stack(vertex, normal_names).astype(np.float64) if all(n in vertex for n in normal_names) else None
    colors = to_colors(_stack(vertex, color_names)) if color_names else None
    return RawScan(points, checked_faces(faces, len(points)), normals, colors)


def _color_names(vertex: _Columns) -> list[str]:
    for names in (["red", "green", "blue"], ["r", "g", "b"], ["diffuse_red", "diffuse_green", "diffuse_blue"]):
        if all(n in vertex for n in names):
            return names
    return []


def _stack(columns: _Columns, names: list[str]) -> NDArray[np.generic]:
    return np.stack([columns[n] for n in names], axis=1)
