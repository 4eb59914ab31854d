"""OFF and its variants with colours, normals and texture coordinates (Geomview); text only."""

import re

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import RawScan, check_rows, checked_faces, fan, parse_numbers, to_colors, to_indices

HEADER = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?OFF\b")


def read_off(data: bytes) -> RawScan:
    """Read vertices and polygons; the keyword and the counts may share a line, or the keyword be missing.

    Raises:
        ScanError: the counts are missing, or promise more lines than follow.
    """
    text = re.sub(rb"#[^\r\n]*", b"", data)
    header = HEADER.match(text)
    if header and header[4]:
        raise ScanError("expected points in three dimensions, got a 4OFF file; export it as plain OFF")
    if header and text[header.end() :].split(None, 1)[:1] == [b"BINARY"]:
        raise ScanError("binary OFF is not supported; export it as text OFF or PLY")
    lines = [line for line in text[header.end() if header else 0 :].splitlines() if line.strip()]
    counts = to_indices(parse_numbers(lines[0])) if lines else np.zeros(0, np.int64)
    if len(counts) < 2:
        raise ScanError("expected the numbers of vertices and faces after 'OFF', got none; the file is truncated")
    num_points, num_faces = int(counts[0]), int(counts[1])
    if min(num_points, num_faces) < 0 or num_points + num_faces > len(lines) - 1:
        raise ScanError(
            f"its header promises {num_points} vertices and {num_faces} faces, but {len(lines) - 1} lines follow; "
            "the file is truncated or damaged"
        )
    check_rows("vertices", num_points, 1, len(data))
    table = _vertex_table(lines[1 : 1 + num_points])
    faces = checked_faces(_triangles(lines[1 + num_points : 1 + num_points + num_faces]), len(table))
    has_normals = bool(header and header[3]) and table.shape[1] >= 6
    normals = table[:, 3:6] if has_normals else None
    return RawScan(table[:, :3], faces, normals, _colors(table, bool(header and header[2]), 6 if has_normals else 3))


def _vertex_table(lines: list[bytes]) -> NDArray[np.float64]:
    if not lines:
        raise ScanError("its header promises no vertices; nothing to register")
    values = parse_numbers(b"\n".join(lines))
    width = len(lines[0].split())
    if width < 3 or values.size != width * len(lines):
        raise ScanError(f"expected {max(width, 3)} numbers on each vertex line, got others; the file is damaged")
    return values.reshape(-1, width)


def _triangles(lines: list[bytes]) -> NDArray[np.int64]:
    if not lines:
        return np.zeros((0, 3), np.int64)
    rows = [line.split() for line in lines]
    counts = to_indices(parse_numbers(b"\n".join(row[0] for row in rows)))
    if any(count < 0 or len(row) < count + 1 for row, count in zip(rows, counts.tolist(), strict=True)):
        raise ScanError("a face line is shorter than its own count; the file is damaged")
    # Colours may follow the corners.
    corners = b"\n".join(b" ".join(row[1 : count + 1]) for row, count in zip(rows, counts.tolist(), strict=True))
    return fan(to_indices(parse_numbers(corners)), counts)


def _colors(table: NDArray[np.float64], is_colored: bool, start: int) -> NDArray[np.uint8] | None:
    return to_colors(table[:, start : start + 3]) if is_colored and table.shape[1] >= start + 3 else None
