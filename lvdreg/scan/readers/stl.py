"""STL, ascii and binary."""

import re

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import RawScan, check_rows, equal_rows, parse_numbers, text_blocks

_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER_BYTES = 84
_TAIL_BYTES = 1000  # names of solids are short
_SNIFF_BYTES = 4096


def looks_binary(data: bytes) -> bool:
    """Tell binary STL by its exact length: its 80 bytes of header may say anything, as "solid" or another format."""
    return _spare_bytes(data) == 0


def may_be_binary(data: bytes) -> bool:
    """Tell whether it can be binary STL, perhaps with spare bytes at its end; text never can."""
    return _spare_bytes(data) >= 0


def _spare_bytes(data: bytes) -> int:
    """Return how many bytes follow the triangles that the header counts; less than 0: they are missing, or are none."""
    count = int.from_bytes(data[80:84], "little")
    return len(data) - _HEADER_BYTES - _RECORD.itemsize * count if count else -1


def is_text(data: bytes) -> bool:
    """Tell STL in text; many binary files begin with the word "solid", too, but no text has zeros in it."""
    return data[:_SNIFF_BYTES].lstrip()[:5].lower() == b"solid" and b"\0" not in data[:_SNIFF_BYTES]


def read_stl(data: bytes) -> RawScan:
    """Read triangles; equal corners become one vertex, facet normals are ignored (they follow from the corners).

    Raises:
        ScanError: the file is shorter than its header promises, or holds no triangles.
    """
    in_text = is_text(data)
    corners: NDArray[np.floating] = _read_text(data) if in_text else _read_binary(data)
    if not len(corners):
        raise ScanError("expected triangles, got none; the file holds no surface")
    corners += corners.dtype.type(0)  # which makes -0.0 and 0.0 the same bytes, without the copy of equal_points
    keep, inverse = equal_rows(corners)
    spare = 0 if in_text else _spare_bytes(data)
    notes = (f"{spare} bytes after the {len(corners) // 3} triangles of the header were passed over",) if spare else ()
    return RawScan(corners[keep].astype(np.float64), inverse.reshape(-1, 3), notes=notes)


def _read_binary(data: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    if len(data) < _HEADER_BYTES:
        raise ScanError(f"expected an STL header of {_HEADER_BYTES} bytes, got {len(data)}; the file is truncated")
    count = int.from_bytes(data[80:84], "little")
    check_rows("triangles", count, _RECORD.itemsize, len(data) - _HEADER_BYTES)
    records = np.frombuffer(data, _RECORD, count, _HEADER_BYTES)
    return records["corners"].astype(np.float32).reshape(-1, 3)


_VERTEX = re.compile(rb"(?:^|[\r\n])\s*vertex([^\r\n]*)", re.IGNORECASE)


def _read_text(data: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    parts, num_rows, complete = [np.zeros(0)], 0, 0
    for block in text_blocks(data):
        rows = _VERTEX.findall(block)
        parts.append(parse_numbers(b"\n".join(rows)))
        num_rows, complete = num_rows + len(rows), complete + block.lower().count(b"endfacet")
    values = np.concatenate(parts)
    if values.size != 3 * num_rows or num_rows % 3:
        raise ScanError(
            f"expected three vertices of three coordinates per facet, got {num_rows} vertices and {values.size} "
            "coordinates; the file is truncated or damaged"
        )
    # Text that stops between two facets, or lost some of its lines, still holds whole vertices.
    if 3 * complete != num_rows or b"endsolid" not in data[-_TAIL_BYTES:].lower():
        raise ScanError(
            f"expected 'endfacet' after every three vertices and 'endsolid' at the end, got {num_rows} vertices and "
            f"{complete} facets; the file is truncated or damaged"
        )
    return values.reshape(-1, 3)
