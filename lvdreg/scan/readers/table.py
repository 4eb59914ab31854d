"""Tables of numbers: text (xyz, pts, txt, csv, asc) and numpy's npy and npz."""

import ast
import io
import operator
import re
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import MAX_ROWS, RawScan, check_rows, checked_faces, parse_numbers, to_colors, to_indices

_MAX_HEADER_LINES = 50
_MAX_NPY_HEADER = 10_000
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf(inity)?)", re.IGNORECASE)
_KEYS = {
    "points": ("points", "vertices", "verts", "xyz", "v", "arr_0"),
    "faces": ("faces", "triangles", "f"),
    "normals": ("normals", "vertex_normals"),
    "colors": ("colors", "colours", "rgb", "vertex_colors"),
}

# NotImplementedError and RuntimeError are the zip module's answers to unknown compression and to passwords.
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip


def is_number_row(line: bytes) -> bool:
    """Tell whether a line consists of numbers only, separated by white space, commas or semicolons."""
    words = re.split(rb"[\s,;]+", line.strip(b" \t\r\n,;"))
    return all(_NUMBER.fullmatch(word) for word in words)


def read_text(data: bytes) -> RawScan:
    """Read rows of 3 (position), 4 (and intensity), 6, 7 (pts: intensity, colour) or 9 numbers.

    Three further columns are colours or normals, as their values say. Lines of words at the top, comments (# and //)
    and a line with the count of the rows are passed over.

    Raises:
        ScanError: no rows of numbers, rows of different width, or a width that says nothing.
    """
    lines = _data_lines(data)
    if not lines:
        raise ScanError("expected rows of numbers 'x y z', got none; the file holds no points")
    promised = None
    if len(lines[0].split()) == 1:
        promised = int(to_indices(parse_numbers(lines[0]))[0])
        lines = lines[1:]
    if not lines or (promised is not None and not 0 <= promised <= len(lines)):
        raise ScanError(f"its first line promises {promised} points, but {len(lines)} follow; the file is truncated")
    table = _rectangle(lines[:promised])
    return from_columns(table)


def _data_lines(data: bytes) -> list[bytes]:
    text = re.sub(rb"(#|//)[^\n]*", b"", data.removeprefix(b"\xef\xbb\xbf"))
    if b";" in text:
        # Where semicolons separate, commas are decimal points.
        text = text.replace(b",", b".").replace(b";", b" ")
    lines = [line for line in text.replace(b",", b" ").splitlines() if line.strip()]
    for i, line in enumerate(lines[:_MAX_HEADER_LINES]):
        if is_number_row(line):
            return lines[i:]
    return []


def _rectangle(lines: list[bytes]) -> NDArray[np.float64]:
    width = len(lines[0].split())
    values = parse_numbers(b"\n".join(lines))
    if values.size != width * len(lines):
        odd = next((i for i, line in enumerate(lines) if len(line.split()) != width), 0)
        raise ScanError(f"expected {width} numbers on every row, got {len(lines[odd].split())} on data row {odd + 1}")
    return values.reshape(-1, width)


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
    return bool(len(finite)) and finite.min() >= 0 and finite.max() <= 255


def read_npy(data: bytes) -> RawScan:
    """Read one array, (P, 3) or with normals or colours in further columns.

    Raises:
        ScanError: not an array of numbers with such columns; pickled objects are never loaded.
    """
    return from_columns(_as_table("the array", _load_array("the array", data)))


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
    return array.astype(np.float64)


def _load_array(name: str, data: bytes) -> NDArray[np.generic]:
    """Load an npy file after holding the claimed shape against its length; never by pickle."""
    try:
        shape, is_fortran, dtype, start = _npy_header(data)
    except (ValueError, TypeError, KeyError, IndexError, SyntaxError, MemoryError, RecursionError) as error:
        reason = str(error).splitlines()[0][:60] if str(error) else type(error).__name__
        raise ScanError(f"{name} is not a readable numpy array ({reason}); save it again") from None
    if dtype.hasobject:
        raise ScanError(f"{name} holds Python objects, not numbers; save it as a plain float array")
    count = _product(shape)
    check_rows("numbers", count, max(1, dtype.itemsize), len(data) - start, 10 * MAX_ROWS)
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if is_fortran else "C")


def _npy_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether columns come first, type, and where the numbers start."""
    if data[:6] != b"\x93NUMPY" or data[6] not in (1, 2, 3):
        raise ValueError("no numpy header")
    start = 10 if data[6] == 1 else 12
    end = start + int.from_bytes(data[8:start], "little")
    if end > min(len(data), _MAX_NPY_HEADER):
        raise ValueError("the header is cut short")
    header = ast.literal_eval(data[start:end].decode("utf-8" if data[6] == 3 else "latin-1"))
    shape = tuple(operator.index(n) for n in header["shape"])
    return shape, bool(header["fortran_order"]), np.dtype(header["descr"]), end


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for n in shape:
        if n < 0:
            return -1
        product *= n
    return product


def _load_members(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Load the arrays that are asked for by name; members that would unpack to far more than the file are refused."""
    arrays: dict[str, NDArray[np.generic]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = {info.filename.removesuffix(".npy").lower(): info for info in archive.infolist()}
            for key, names in _KEYS.items():
                name = next((n for n in names if n in infos), None)
                if name is None:
                    continue
                info = infos[name]
                if info.file_size > max(1 << 26, 200 * len(data)):
                    raise ScanError(f"the array {name!r} would unpack to {info.file_size} bytes; the file is damaged")
                with archive.open(info) as member:
                    arrays[key] = _load_array(f"the array {name!r}", member.read(info.file_size))
    except _ARCHIVE_ERRORS as error:
        reason = str(error)[:80]
        raise ScanError(f"expected an npz file of arrays, got a damaged archive ({reason}); save it again") from None
    return arrays
