"""OFF and its variants with colours, normals and texture coordinates (Geomview); text only."""

import re

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import (
    RawScan,
    check_rows,
    checked_faces,
    fan,
    line_words,
    list_places,
    parse_numbers,
    text_blocks,
    to_colors,
    to_indices,
)

HEADER = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?OFF\b")


def read_off(data: bytes) -> RawScan:
    """Read vertices and polygons; the keyword and the counts may share a line, or the keyword be missing.

    Raises:
        ScanError: the counts are missing, or promise more lines than follow.
    """
    text = re.sub(rb"#[^\r\n]*", b"", data) if b"#" in data else data
    header = HEADER.match(text)
    if header and header[4]:
        raise ScanError("expected points in three dimensions, got a 4OFF file; export it as plain OFF")
    if header and text[header.end() : header.end() + 100].split(None, 1)[:1] == [b"BINARY"]:
        raise ScanError("binary OFF is not supported; export it as text OFF or PLY")
    lines, values = _numbers(text, header.end() if header else 0)
    counts = to_indices(values[: lines[0]]) if len(lines) else np.zeros(0, np.int64)
    if len(counts) < 2:
        raise ScanError("expected the numbers of vertices and faces after 'OFF', got none; the file is truncated")
    num_points, num_faces = int(counts[0]), int(counts[1])
    if min(num_points, num_faces) < 0 or num_points + num_faces > len(lines) - 1:
        raise ScanError(
            f"its header promises {num_points} vertices and {num_faces} faces, but {len(lines) - 1} lines follow; "
            "the file is truncated or damaged"
        )
    check_rows("vertices", num_points, 1, len(data))
    starts = np.cumsum(lines) - lines
    table = _vertex_table(values[lines[0] :], lines[1 : 1 + num_points])
    ours = slice(1 + num_points, 1 + num_points + num_faces)
    faces = checked_faces(_triangles(values, starts[ours], lines[ours]), len(table))
    has_normals = bool(header and header[3]) and table.shape[1] >= 6
    normals = table[:, 3:6] if has_normals else None
    return RawScan(table[:, :3], faces, normals, _colors(table, bool(header and header[2]), 6 if has_normals else 3))


def _numbers(text: bytes, start: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many numbers are on each line that has any, and all numbers."""
    lines, values = list[NDArray[np.int64]](), list[NDArray[np.float64]]()
    for block in text_blocks(text, start):
        lines.append(line_words(block))
        values.append(parse_numbers(block))
        if len(values[-1]) != lines[-1].sum():
            raise ScanError("expected numbers separated by blanks, got something else; the file is damaged")
    return np.concatenate(lines or [np.zeros(0, np.int64)]), np.concatenate(values or [np.zeros(0)])


def _vertex_table(values: NDArray[np.float64], lines: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(lines):
        raise ScanError("its header promises no vertices; nothing to register")
    width = int(lines[0])
    if width < 3 or (lines != width).any():
        raise ScanError(f"expected {max(width, 3)} numbers on each vertex line, got others; the file is damaged")
    return values[: width * len(lines)].reshape(-1, width)


def _triangles(values: NDArray[np.float64], starts: NDArray[np.int64], lines: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the triangles of lines of faces, which begin at ``starts``; colours may follow the corners."""
    counts = to_indices(values[starts])
    if (counts < 0).any() or (lines < counts + 1).any():
        raise ScanError("a face line is shorter than its own count; the file is damaged")
    return fan(to_indices(values[list_places(starts + 1, counts)]), counts)


def _colors(table: NDArray[np.float64], is_colored: bool, start: int) -> NDArray[np.uint8] | None:
    return to_colors(table[:, start : start + 3]) if is_colored and table.shape[1] >= start + 3 else None
