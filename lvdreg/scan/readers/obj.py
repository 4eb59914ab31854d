"""Wavefront OBJ: positions, vertex colours, polygons; materials, texture coordinates and curves are passed over."""

import re

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import RawScan, checked_faces, fan, parse_numbers, to_colors, to_indices


def read_obj(data: bytes) -> RawScan:
    """Read all objects of the file as one.

    Normals are taken only where there is exactly one per vertex, and then in order.

    Raises:
        ScanError: no vertices, or a line that cannot be read.
    """
    vertices, normals, faces, seen = _sort_lines(data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" "))
    if not vertices:
        raise ScanError("expected lines 'v x y z', got none; the file holds no vertices")
    table = _table(vertices)
    normal_table = _table(normals)[:, :3] if len(normals) == len(vertices) else None
    colors = to_colors(table[:, -3:]) if table.shape[1] in (6, 7) else None
    return RawScan(table[:, :3], checked_faces(_triangles(faces, seen), len(table)), normal_table, colors)


def _sort_lines(data: bytes) -> tuple[list[bytes], list[bytes], list[bytes], list[int]]:
    """Return the rests of the v, vn and f lines, and how many vertices were defined before each face."""
    vertices: list[bytes] = []
    normals: list[bytes] = []
    faces: list[bytes] = []
    seen: list[int] = []
    for line in data.splitlines():
        line = line.strip()
        key, rest = line[:2], line[2:]
        if key in (b"v ", b"v\t"):
            vertices.append(rest)
        elif key in (b"f ", b"f\t"):
            faces.append(rest)
            seen.append(len(vertices))
        elif key == b"vn":
            normals.append(rest)
    return vertices, normals, faces, seen


def _table(lines: list[bytes]) -> NDArray[np.float64]:
    """Parse lines of numbers into a table as wide as the first, or of 3 columns where the lines differ.

    A fourth column alone is a homogeneous weight, and is dropped by the caller.
    """
    text = b"\n".join(lines)
    if b"#" in text:
        lines = [line.split(b"#")[0] for line in lines]
        text = b"\n".join(lines)
    width = len(lines[0].split())
    values = parse_numbers(text)
    if width >= 3 and values.size == width * len(lines):
        return values.reshape(-1, width)
    rows = [line.split()[:3] for line in lines]
    short = next((i for i, row in enumerate(rows) if len(row) < 3), None)
    if short is not None:
        raise ScanError(
            f"expected three coordinates on vertex line {short + 1}, got {len(rows[short])}; the file is damaged"
        )
    return parse_numbers(b"\n".join(b" ".join(row) for row in rows)).reshape(-1, 3)


def _triangles(faces: list[bytes], seen: list[int]) -> NDArray[np.int64]:
    if not faces:
        return np.zeros((0, 3), np.int64)
    # Of "vertex/texture/normal" only the vertex counts.
    text = re.sub(rb"/[^\s]*|#[^\n]*", b"", b"\n".join(faces))
    counts = np.array([len(line.split()) for line in text.split(b"\n")])
    flat = to_indices(parse_numbers(text))
    before = np.repeat(seen, counts)
    if (flat == 0).any():
        raise ScanError("a face refers to vertex 0, but OBJ counts from 1; the file is damaged, export it again")
    # Negative indices count back from the last vertex defined so far.
    return fan(np.where(flat > 0, flat - 1, before + flat), counts)
