"""PCD of the Point Cloud Library: ascii, binary and binary_compressed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import RawScan, check_rows, parse_numbers, split_header, to_colors

_MAX_HEADER_BYTES = 1 << 16
_MAX_UNPACKED = 2 << 30
_TYPES = {
    ("F", 4): "<f4", ("F", 8): "<f8", ("I", 1): "i1", ("I", 2): "<i2", ("I", 4): "<i4", ("I", 8): "<i8",
    ("U", 1): "u1", ("U", 2): "<u2", ("U", 4): "<u4", ("U", 8): "<u8",
}  # fmt: skip
_Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class _Header:
    names: list[str]
    dtypes: list[str]
    counts: list[int]
    num_points: int
    encoding: str
    viewpoint: NDArray[np.float64] | None

    @property
    def row_bytes(self) -> int:
        return sum(np.dtype(t).itemsize * c for t, c in zip(self.dtypes, self.counts, strict=True))


def read_pcd(data: bytes) -> RawScan:
    """Read points, normals, colours (packed as rgb or rgba, or apart) and the viewpoint.

    Raises:
        ScanError: the header is incomplete, or promises more points than follow.
    """
    header, start = _parse_header(data)
    readers = {"ascii": _read_text, "binary": _read_binary, "binary_compressed": _read_compressed}
    if header.encoding not in readers:
        raise ScanError(f"expected DATA ascii, binary or binary_compressed, got {header.encoding[:30]!r}")
    columns = readers[header.encoding](header, memoryview(data)[start:]) if header.num_points else {}
    missing = [axis for axis in "xyz" if axis not in columns]
    if missing:
        raise ScanError("expected fields x, y and z and at least one point, got none; nothing to register")
    normal_names = ["normal_x", "normal_y", "normal_z"]
    normals = _stack(columns, normal_names).astype(np.float64) if all(n in columns for n in normal_names) else None
    return RawScan(
        _stack(columns, ["x", "y", "z"]).astype(np.float64), None, normals, _colors(columns), header.viewpoint
    )


def _parse_header(data: bytes) -> tuple[_Header, int]:
    lines, start = split_header(data, "DATA", _MAX_HEADER_BYTES)
    words = (line.split("#")[0].split() for line in lines)
    return _header({line[0].upper(): line[1:] for line in words if line}), start


def _header(entries: dict[str, list[str]]) -> _Header:
    names = entries.get("FIELDS", entries.get("COLUMNS", []))
    sizes, types = _integers(entries, "SIZE"), [t.upper() for t in entries.get("TYPE", [])]
    counts = _integers(entries, "COUNT") or [1] * len(names)
    if not names or not len(names) == len(sizes) == len(types) == len(counts) or min(counts) < 0:
        raise ScanError("expected FIELDS, SIZE, TYPE and COUNT of equal length in the PCD header; the file is damaged")
    unknown = [pair for pair in zip(types, sizes, strict=True) if pair not in _TYPES]
    if unknown:
        raise ScanError(f"unknown number type {unknown[0][0][:9]}{unknown[0][1]} in the PCD header; it is damaged")
    dtypes = [_TYPES[pair] for pair in zip(types, sizes, strict=True)]
    points, size = _integers(entries, "POINTS"), _integers(entries, "WIDTH") + _integers(entries, "HEIGHT")
    num_points = points[0] if points else size[0] * size[1] if len(size) == 2 else -1
    return _Header(names, dtypes, counts, num_points, " ".join(entries["DATA"]).lower(), _viewpoint(entries))


def _integers(entries: dict[str, list[str]], key: str) -> list[int]:
    words = entries.get(key, [])
    if not all(w.isascii() and w.isdigit() and len(w) < 19 for w in words):
        raise ScanError(f"expected whole numbers after {key} in the PCD header, got {' '.join(words)[:40]!r}")
    return [int(w) for w in words]


def _viewpoint(entries: dict[str, list[str]]) -> NDArray[np.float64] | None:
    try:
        values = np.array([float(w) for w in entries.get("VIEWPOINT", [])[:3]])
    except ValueError:
        return None
    return values if values.shape == (3,) and np.isfinite(values).all() else None


def _read_text(header: _Header, body: memoryview) -> _Columns:
    width = sum(header.counts)
    check_rows("points", header.num_points, max(1, 2 * width), len(body) + 1)
    values = parse_numbers(bytes(body))
    if values.size < header.num_points * width:
        raise ScanError(f"its header promises {header.num_points} points, but fewer follow; the file is truncated")
    table = values[: header.num_points * width].reshape(header.num_points, width)
    starts = np.cumsum(header.counts) - header.counts
    with np.errstate(invalid="ignore", over="ignore"):
        # A NaN among integers and an overflow give some number; only coordinates matter, and those are floats.
        triples = zip(header.names, header.dtypes, starts, header.counts, strict=True)
        return {n: table[:, s].astype(t) for n, t, s, c in triples if c == 1}


def _read_binary(header: _Header, body: memoryview) -> _Columns:
    check_rows("points", header.num_points, header.row_bytes, len(body))
    triples = zip(header.dtypes, header.counts, strict=True)
    dtype = np.dtype([(f"f{i}", t, (c,)) for i, (t, c) in enumerate(triples)])
    if not dtype.itemsize:
        return {}
    table = np.frombuffer(body, dtype, header.num_points)
    return {n: table[f"f{i}"][:, 0] for i, (n, c) in enumerate(zip(header.names, header.counts, strict=True)) if c == 1}


def _read_compressed(header: _Header, body: memoryview) -> _Columns:
    """Decompress; the fields lie one after another, each as an array over all points."""
    packed, size = int.from_bytes(body[:4], "little"), int.from_bytes(body[4:8], "little")
    if len(body) < 8 or packed > len(body) - 8:
        raise ScanError("its compressed data end early; the file is truncated, copy or export it again")
    if size != header.row_bytes * header.num_points or size > _MAX_UNPACKED:
        raise ScanError("its compressed data do not match the header's number of points; the file is damaged")
    check_rows("points", header.num_points, header.row_bytes / LZF_MAX_RATIO, packed)
    raw = lzf_decompress(bytes(body[8 : 8 + packed]), size)
    columns: _Columns = {}
    at = 0
    for name, dtype, count in zip(header.names, header.dtypes, header.counts, strict=True):
        if count == 1:
            columns[name] = np.frombuffer(raw, dtype, header.num_points, at)
        at += np.dtype(dtype).itemsize * count * header.num_points
    return columns


LZF_MAX_RATIO = 88
"""Three bytes of LZF stand for at most 264."""


def lzf_decompress(data: bytes, size: int) -> bytearray:
    """Decompress LZF (Marc Lehmann's liblzf format).

    A control byte below 32 is followed by that many plus one literal bytes. Otherwise its upper three bits hold a
    length (7: the next byte is added), its lower five and the next byte how far back to copy from; a copy may overlap
    itself.

    Args:
        data: The compressed bytes.
        size: The number of bytes that must come out; the memory used never exceeds it by more than one copy.

    Raises:
        ScanError: the data end early, refer to before the start, or give another number of bytes.
    """
    out = bytearray()
    at, end = 0, len(data)
    try:
        while at < end and len(out) <= size:
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            start = len(out) - ((control & 31) << 8) - data[at] - 1
            at += 1
            if start < 0:
                raise IndexError
            _copy_within(out, start, length + 2)
    except IndexError:
        raise ScanError("its compressed data are damaged; copy or export the file again") from None
    if len(out) != size or at > end:
        raise ScanError("its compressed data are damaged or truncated; copy or export the file again")
    return out


def _copy_within(out: bytearray, start: int, length: int) -> None:
    period = len(out) - start
    if period >= length:
        out += out[start : start + length]
    else:
        out += (out[start:] * (length // period + 1))[:length]


def _stack(columns: _Columns, names: list[str]) -> NDArray[np.generic]:
    return np.stack([columns[n] for n in names], axis=1)


def _colors(columns: _Columns) -> NDArray[np.uint8] | None:
    packed = columns.get("rgb", columns.get("rgba"))
    if packed is not None and packed.dtype.itemsize == 4:
        bits = np.ascontiguousarray(packed).view("<u4")
        return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1).astype(np.uint8)
    if all(n in columns for n in "rgb"):
        return to_colors(_stack(columns, ["r", "g", "b"]))
    return None
