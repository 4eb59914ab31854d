"""Tables of numbers: text (xyz, pts, txt, csv, asc) and numpy's npy and npz."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.arrays import open_npz
from lvdreg.base.arrays import read_npy as read_array
from lvdreg.base.errors import ScanError
from lvdreg.base.text import brief
from lvdreg.scan.readers.commas import plain_rows
from lvdreg.scan.readers.raw import (
    RawScan,
    check_rows,
    checked_faces,
    line_words,
    parse_numbers,
    text_blocks,
    to_colors,
    to_indices,
)

_MAX_HEADER_LINES = 50
_MAX_COMMENTS = 100_000
_BLOCK_BYTES = 32 << 20
_LINE = re.compile(rb"[^\r\n]+")
_COMMENT = re.compile(rb"(?:#|//)[^\r\n]*")
_MAX_COLUMNS = 10
"""Position, intensity, normal and colour; what follows is passed over."""
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf(inity)?)", re.IGNORECASE)
_KEYS = {
    "points": ("points", "vertices", "verts", "xyz", "v", "arr_0"),
    "faces": ("faces", "triangles", "f"),
    "normals": ("normals", "vertex_normals"),
    "colors": ("colors", "colours", "rgb", "vertex_colors"),
}


def is_number_row(line: bytes) -> bool:
    """Tell whether a line consists of numbers only, separated by white space, commas or semicolons."""
    words = re.split(rb'[\s,;"]+', re.sub(rb"([-+]),", rb"\1", line).strip(b' \t\r\n,;"'))
    return all(_NUMBER.fullmatch(word) for word in words)


def read_text(data: bytes) -> RawScan:
    """Read rows of 3 (position), 4 (and intensity), 6, 7 (pts: intensity, colour) or 9 numbers.

    White space, commas or semicolons separate them; decimal marks are points, or commas where that is clear.
    Three further columns are colours or normals, as their values say. Lines of words at the top, comments (# and //)
    and a line with the count of the rows are passed over.

    Raises:
        ScanError: no rows of numbers, rows of different width, or a width that says nothing.
    """
    parts, widths, commas_are_points = list[NDArray[np.float64]](), list[NDArray[np.int64]](), False
    for number, block in enumerate(text_blocks(data, _first_row(data), _BLOCK_BYTES)):
        text, decimal = _plain(block)
        if number and decimal != commas_are_points:
            raise ScanError("commas are decimal points in some of its rows, and separators in others; export points")
        commas_are_points = decimal
        parts.append(parse_numbers(text))
        widths.append(line_words(text))
    words, promised = np.concatenate(widths or [np.zeros(0, np.int64)]), None
    if not len(words):
        raise ScanError("expected rows of numbers 'x y z', got none; the file holds no points")
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if words[0] == 1:
        promised = int(to_indices(values[:1])[0])
        values, words = values[1:], words[1:]
    if not len(words) or (promised is not None and not 1 <= promised <= len(words)):
        raise ScanError(f"its first line promises {promised} points, but {len(words)} follow; the file is truncated")
    cloud = from_columns(_rectangle(values, words, promised))
    return replace(cloud, notes=("decimal commas were read as points",) if commas_are_points else ())


def _first_row(data: bytes) -> int:
    """Return where the first row of numbers begins, after lines of words and comments."""
    words = 0
    for number, line in enumerate(_LINE.finditer(data)):
        text = _COMMENT.sub(b"", line[0])
        if text.strip() and is_number_row(text):
            return line.start()
        words += bool(text.strip())
        if words >= _MAX_HEADER_LINES or number > _MAX_COMMENTS:
            break
    return len(data)


def _plain(block: bytes) -> tuple[bytes, bool]:
    """Return text with white space alone between numbers, and whether commas were decimal points."""
    if b"#" in block or b"//" in block:
        block = _COMMENT.sub(b"", block)
    if not any(mark in block for mark in (b",", b";", b'"')):
        return block, False
    rows, decimal = plain_rows([line for line in block.splitlines() if line.strip()])
    return b"\n".join(rows), decimal


def _rectangle(values: NDArray[np.float64], words: NDArray[np.int64], promised: int | None) -> NDArray[np.float64]:
    words = words[:promised]
    odd = np.flatnonzero(words != words[0])
    if len(odd):
        raise ScanError(f"expected {words[0]} numbers on every row, got {words[odd[0]]} on data row {odd[0] + 1}")
    if len(values) < words.sum():
        raise ScanError("expected numbers separated by blanks or commas, got something else; the file is damaged")
    return values[: words.sum()].reshape(-1, words[0])


def from_columns(table: NDArray[np.float64]) -> RawScan:
    """Tell positions, normals and colours apart by the number of columns and by their values.

    Raises:
        ScanError: fewer than 3, or 5 or 8 columns.
    """
    width = table.shape[1]
    triples = {3: [], 4: [], 6: [3], 7: [4], 9: [3, 6], 10: [4, 7]}.get(min(width, 10))
    if triples is None:
        raise ScanError(f"expected 3, 4, 6, 7 or 9 numbers per row (x y z, then normals or colours), got {width}")
    normals: NDArray[np.float64] | None = None
    colors: NDArray[np.uint8] | None = None
    for start in triples:
        columns = table[:, start : start + 3]
        if _are_normals(columns):
            normals = columns
        elif _are_colors(columns):
            colors = to_colors(columns)
    return RawScan(table[:, :3].astype(np.float64), None, normals, colors)


def _are_normals(columns: NDArray[np.float64]) -> bool:
    finite = columns[np.isfinite(columns).all(axis=1)]
    lengths = np.linalg.norm(np.clip(finite, -1e6, 1e6), axis=1)
    return bool(len(lengths)) and bool((finite < 0).any()) and abs(float(np.median(lengths)) - 1) < 0.05


def _are_colors(columns: NDArray[np.float64]) -> bool:
    finite = columns[np.isfinite(columns).all(axis=1)]
    return bool(len(finite) and finite.min() >= 0 and finite.max() <= 255)


def read_npy(data: bytes) -> RawScan:
    """Read one array, (P, 3) or with normals or colours in further columns.

    Raises:
        ScanError: not an array of numbers with such columns; pickled objects are never loaded.
    """
    array = _loaded("the array", lambda: read_array(io.BytesIO(data), len(data)))
    return from_columns(_as_table("the array", array))


def read_npz(data: bytes) -> RawScan:
    """Read the arrays points (or vertices), faces, normals and colors, of which only the first is needed.

    Raises:
        ScanError: no points among them, or arrays whose shapes do not belong together.
    """
    arrays = _load_members(data)
    if "points" not in arrays:
        raise ScanError("expected an array 'points' or 'vertices' in the npz file, got none; save it under that name")
    cloud = from_columns(_as_table("points", arrays["points"]))
    faces = cloud.faces
    if "faces" in arrays and arrays["faces"].size:
        table = _as_table("faces", arrays["faces"])
        if table.shape[1] != 3:
            raise ScanError(f"expected triangles of shape (F, 3) as faces, got {arrays['faces'].shape}")
        faces = checked_faces(to_indices(table), len(cloud.points))
    normals = _per_point(arrays.get("normals"), "normals", len(cloud.points))
    colors = _per_point(arrays.get("colors"), "colors", len(cloud.points))
    return RawScan(
        cloud.points,
        faces,
        cloud.normals if normals is None else _as_table("normals", normals)[:, :3],
        cloud.colors if colors is None else to_colors(colors),
    )


def _per_point(array: NDArray[np.generic] | None, name: str, count: int) -> NDArray[np.generic] | None:
    if array is not None and (array.ndim != 2 or len(array) != count or array.shape[1] not in (3, 4)):
        raise ScanError(f"expected {name} of shape ({count}, 3), one row per point, got {array.shape}")
    return array


def _as_table(name: str, array: NDArray[np.generic]) -> NDArray[np.float64]:
    if array.ndim != 2 or not len(array) or array.dtype.kind not in "fiu":
        raise ScanError(f"expected numbers of shape (P, 3) in {name}, got {array.dtype} of shape {array.shape}")
    check_rows(f"rows in {name}", len(array), 0, 0)
    return array[:, :_MAX_COLUMNS].astype(np.float64)


def _loaded(name: str, load: Callable[[], NDArray[np.generic]]) -> NDArray[np.generic]:
    """Load an array and say what is wrong with it by its name; objects are never unpickled."""
    try:
        return load()
    except ValueError as error:
        raise ScanError(
            f"{name} is not a readable numpy array ({brief(error)}); save it again as plain floats"
        ) from None


def _load_members(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Load the arrays that are asked for by name."""
    try:
        with open_npz(data) as npz:
            there = {name.lower(): name for name in npz.names}
            found = {key: next((n for n in names if n in there), None) for key, names in _KEYS.items()}
            return {
                key: _loaded(f"the array {name!r}", partial(npz.array, there[name]))
                for key, name in found.items()
                if name is not None
            }
    except ValueError as error:
        raise ScanError(
            f"expected an npz file of arrays, got a damaged archive ({brief(error)}); save it again"
        ) from None
