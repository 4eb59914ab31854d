"""PLY, ascii and binary of both byte orders (Turk, 1994)."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import (
    MAX_ROWS,
    RawScan,
    check_rows,
    checked_faces,
    fan,
    list_places,
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
_INDEX_LISTS = ("vertex_indices", "vertex_index", "vertex_indexes", "vertexindices", "indices")
_ELEMENTS = {"vertices": "vertex", "point": "vertex", "points": "vertex", "faces": "face", "triangle": "face"}
_POINTS = (("x", "y", "z"), ("px", "py", "pz"), ("posx", "posy", "posz"), ("position_x", "position_y", "position_z"))
_NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"), ("normalx", "normaly", "normalz"))
_COLORS = (
    ("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("ambient_red", "ambient_green", "ambient_blue"), ("color_r", "color_g", "color_b"),
)  # fmt: skip
_COUNT = re.compile(r"-?[0-9]{1,18}")
_MAX_STRIPS = 1_000_000
_MAX_SLOW_ROWS = 2_000_000
"""Rows with two lists or more are read one by one."""
_MAX_HEADER_BYTES = 1 << 20
_PLACES_AT_ONCE = 1 << 22


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
    body = _TextBody(data, start) if order == "" else _BinaryBody(data, start, order)
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
    body = _TextBody(data, start) if order == "" else _BinaryBody(data, start, order)
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
        if words[:1] in (["comment"], ["obj_info"]):
            continue
        if words[:1] == ["format"] and len(words) > 1:
            order = _ORDERS.get(words[1])
        elif words[:1] == ["element"]:
            if len(words) != 3 or not _COUNT.fullmatch(words[2]):
                raise _unreadable(words)
            name = words[1].lower()
            elements.append(_Element(_ELEMENTS.get(name, name), int(words[2])))
        elif words[:1] == ["property"]:
            _add_property(elements, words)
    if order is None:
        raise ScanError("expected 'format ascii' or 'format binary_..._endian' in the PLY header, got neither")
    return order, elements, start


def _unreadable(words: list[str]) -> ScanError:
    return ScanError(f"cannot read the PLY header line {' '.join(words)[:60]!r}; the file is damaged")


def _add_property(elements: list[_Element], words: list[str]) -> None:
    is_list = words[1:2] == ["list"]
    types = [word.lower() for word in (words[2:4] if is_list else words[1:2])]
    if not elements or len(words) != (5 if is_list else 3) or any(t not in _TYPES for t in types):
        raise _unreadable(words)
    numpy_types = [_TYPES[t] for t in types]
    if is_list and numpy_types[0].startswith("f"):
        raise _unreadable(words)
    elements[-1].properties.append(_Property(words[-1].lower(), numpy_types[-1], numpy_types[0] if is_list else None))


class _TextBody:
    """The numbers of an ascii body, consumed element by element."""

    def __init__(self, text: bytes, start: int) -> None:
        self._text, self._start = text, start
        self._values: NDArray[np.float64] | None = None
        self._at = 0
        self.left = len(text) - start + 1

    def read(self, element: _Element) -> tuple[_Columns, _Lists]:
        if self._values is None:
            self._values = parse_numbers(self._text, self._start)
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
        assert self._values is not None
        layout = _one_list(element)
        if layout is None:
            return self._read_slowly(element)
        before, after = len(layout[0]), len(layout[2])

        def ends(start: int, stop: int) -> NDArray[np.int64]:
            assert self._values is not None
            counts = self._values[start + before : stop + before]
            whole = np.where((counts >= 0) & (counts < 1e9), counts, 0).astype(np.int64)
            return np.arange(start, start + len(whole)) + before + 1 + whole + after

        starts = _walk(self._at, element.count, len(self._values) - before, ends)
        counts = to_indices(self._values[starts + before])
        self._at = _checked_end(starts, counts, before + 1, 1, after, len(self._values))
        columns: _Columns = {p.name: _typed(self._values[starts + i], p) for i, p in enumerate(layout[0])}
        after_list = starts + before + 1 + counts
        columns |= {p.name: _typed(self._values[after_list + i], p) for i, p in enumerate(layout[2])}
        return columns, {layout[1].name: (self._values[list_places(starts + before + 1, counts)], counts)}

    def _read_slowly(self, element: _Element) -> tuple[_Columns, _Lists]:
        check_rows(f"{element.name} rows with several lists", element.count, 0, 0, _MAX_SLOW_ROWS)
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


_Layout = tuple[list[_Property], _Property, list[_Property]]


def _one_list(element: _Element) -> _Layout | None:
    """Return what stands before the only list of a row, the list, and what stands after it; None of other rows."""
    places = [i for i, prop in enumerate(element.properties) if prop.count_dtype]
    if len(places) != 1:
        return None
    return element.properties[: places[0]], element.properties[places[0]], element.properties[places[0] + 1 :]


def _walk(start: int, count: int, stop: int, ends: Callable[[int, int], NDArray[np.int64]]) -> NDArray[np.int64]:
    """Find where rows begin of which each says how long it is: a walk along the links from every place to the next.

    Args:
        start: Where the first row begins.
        count: Rows.
        stop: No row begins there or later.
        ends: Says for every place of a range, as if a row began there, where it would end.

    Returns:
        (count,) places.

    Raises:
        ScanError: fewer rows.
    """
    parts, found = list[NDArray[np.int64]](), 0
    while found < count and start < stop:
        links = ends(start, min(start + _PLACES_AT_ONCE, stop)) - start
        num = len(links)
        graph = csr_array((np.ones(num), np.minimum(links, num), np.minimum(np.arange(num + 2), num)), (num + 1,) * 2)
        order = breadth_first_order(graph, 0, return_predecessors=False)[: count - found].astype(np.int64)
        own = order[order < num]
        parts.append(own + start)
        found += len(own)
        start += int(links[own[-1]])
    if found < count:
        raise ScanError("the rows end before the header's count; the file is truncated, copy or export it again")
    return np.concatenate(parts)


def _checked_end(
    starts: NDArray[np.int64], counts: NDArray[np.int64], before: int, size: int, after: int, stop: int
) -> int:
    """Return where the last row ends; ``before`` with the count, ``size`` of each value of the list."""
    if counts.min() < 0:
        raise ScanError(f"expected lists of 0 values or more, got one of {counts.min()}; the file is damaged")
    end = int(starts[-1]) + before + size * int(counts[-1]) + after
    if end > stop:
        raise ScanError("the rows end before the header's count; the file is truncated, copy or export it again")
    return end


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
        layout = _one_list(element)
        if layout is None:
            return self._read_slowly(element)
        before, after = (sum(np.dtype(p.dtype).itemsize for p in part) for part in (layout[0], layout[2]))
        size, head = np.dtype(layout[1].dtype).itemsize, np.dtype(layout[1].count_dtype).itemsize
        lengths = self._everywhere(str(layout[1].count_dtype))

        def ends(start: int, stop: int) -> NDArray[np.int64]:
            counts = lengths[start + before : stop + before].astype(np.int64).clip(0, len(self._data))
            return np.arange(start, start + len(counts)) + before + head + size * counts + after

        starts = _walk(self._at, element.count, len(self._data) - before - head + 1, ends)
        counts = lengths[starts + before].astype(np.int64)
        self._at = _checked_end(starts, counts, before + head, size, after, len(self._data))
        columns: _Columns = {}
        for part, at in ((layout[0], starts), (layout[2], starts + before + head + size * counts)):
            for prop in part:
                columns[prop.name] = self._everywhere(prop.dtype)[at]
                at = at + np.dtype(prop.dtype).itemsize
        values = self._everywhere(layout[1].dtype)[list_places(starts + before + head, counts, size)]
        return columns, {layout[1].name: (values, counts)}

    def _everywhere(self, dtype: str) -> NDArray[Any]:
        """Return the number that begins at each byte of the file, for all bytes that one can begin at."""
        count = max(0, len(self._data) - np.dtype(dtype).itemsize + 1)
        return np.ndarray((count,), self._order + dtype, self._data, 0, (1,))

    def _read_slowly(self, element: _Element) -> tuple[_Columns, _Lists]:
        check_rows(f"{element.name} rows with several lists", element.count, 0, 0, _MAX_SLOW_ROWS)
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
    found = found or (list(lists.values()) if len(lists) == 1 else [])
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
    names = _named(vertex or {}, _POINTS)
    if vertex is None or not names:
        raise ScanError("expected vertices with x, y and z, got none; the file holds nothing to register")
    points = _stack(vertex, names).astype(np.float64)
    normal_names, color_names = _named(vertex, _NORMALS), _named(vertex, _COLORS)
    normals = _stack(vertex, normal_names).astype(np.float64) if normal_names else None
    colors = to_colors(_stack(vertex, color_names)) if color_names else None
    return RawScan(points, checked_faces(faces, len(points)), normals, colors)


def _named(vertex: _Columns, choices: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the first names of three properties that are all there; nothing where none are."""
    return next((list(names) for names in choices if all(name in vertex for name in names)), [])


def _stack(columns: _Columns, names: list[str]) -> NDArray[np.generic]:
    return np.stack([columns[n] for n in names], axis=1)
