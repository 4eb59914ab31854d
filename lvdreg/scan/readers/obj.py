"""Wavefront OBJ: positions, vertex colours, polygons; materials, texture coordinates and curves are passed over.

Lines are sorted by whole arrays of bytes, some megabytes at a time: ten million one by one, as objects of their own,
would take half a minute and two gigabytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import RawScan, checked_faces, fan, parse_indices, parse_numbers, to_colors

BLOCK_BYTES = 4 << 20
_TAB, _LINE, _SPACE, _HASH, _SLASH = b"\t\n #/"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class _Lines:
    """The numbers of lines of one kind as text, and how many words (L,) are on each."""

    text: bytes
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class _Block:
    """What some lines of the file hold; nothing was yet read of the normals, which may not be needed."""

    vertices: NDArray[np.float64]
    counts: NDArray[np.int64]
    normals: _Lines
    faces: NDArray[np.int64]


def read_obj(data: bytes) -> RawScan:
    """Read all objects of the file as one.

    Normals are taken only where there is exactly one per vertex, and then in order.

    Raises:
        ScanError: no vertices, or a line that cannot be read.
    """
    blocks, num_vertices = list[_Block](), 0
    for text in _blocks(_plain_lines(data)):
        blocks.append(_read_block(text, num_vertices))
        num_vertices += len(blocks[-1].counts)
    if not num_vertices:
        raise ScanError("expected lines 'v x y z', got none; the file holds no vertices")
    vertices = _table([(block.vertices, block.counts) for block in blocks])
    normals = None
    if sum(len(block.normals.counts) for block in blocks) == num_vertices:
        normals = _table([(parse_numbers(block.normals.text), block.normals.counts) for block in blocks])[:, :3]
    # A fourth column alone is a homogeneous weight.
    colors = to_colors(vertices[:, -3:]) if vertices.shape[1] in (6, 7) else None
    faces = np.concatenate([block.faces for block in blocks])
    return RawScan(vertices[:, :3], checked_faces(faces, num_vertices), normals, colors)


def _plain_lines(data: bytes) -> bytes:
    """Return the file with plain ends of lines, and lines that go on joined."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data.replace(b"\\\n", b" ")


def _blocks(data: bytes) -> Iterator[bytes]:
    """Cut a file after ends of lines; the last line gets one."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", min(start + BLOCK_BYTES, len(data) - 1)) + 1 or len(data)
        yield data[start:end] if data[end - 1 : end] == b"\n" else data[start:end] + b"\n"
        start = end


def _read_block(text: bytes, before: int) -> _Block:
    """Read whole lines; so many vertices came before."""
    raw = np.frombuffer(text, np.uint8).copy()
    starts, ends = _words_of_lines(raw)
    first, second = raw[starts], raw[np.minimum(starts + 1, len(raw) - 1)]
    is_short = (second == _SPACE) | (second == _TAB)
    is_vertex, is_face = is_short & (first == ord("v")), is_short & (first == ord("f"))
    is_normal = (first == ord("v")) & (second == ord("n"))
    raw[starts] = _SPACE
    raw[starts[is_normal] + 1] = _SPACE
    vertices, normals = _lines(raw, ends, is_vertex), _lines(raw, ends, is_normal)
    # Of "vertex/texture/normal" only the vertex counts.
    faces = _lines(raw, ends, is_face, passed_over=_SLASH)
    corners = parse_indices(faces.text)
    if len(corners) != faces.counts.sum():  # numpy reads "- 2" as one number
        raise ScanError("expected whole numbers on lines of faces, got something else; the file is damaged")
    if (corners == 0).any():
        raise ScanError("a face refers to vertex 0, but OBJ counts from 1; the file is damaged, export it again")
    # Negative indices count back from the last vertex defined so far.
    seen = np.repeat(before + np.cumsum(is_vertex)[is_face], faces.counts)
    corners = np.where(corners > 0, corners - 1, seen + corners)
    return _Block(parse_numbers(vertices.text), vertices.counts, normals, fan(corners, faces.counts))


def _words_of_lines(raw: Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the first word of each line begins (L,), and where the line ends."""
    ends = np.flatnonzero(raw == _LINE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if ((raw[starts] == _SPACE) | (raw[starts] == _TAB)).any():
        words = np.flatnonzero((raw > _SPACE) | (raw == _LINE))
        starts = words[np.searchsorted(words, starts)]
    return starts, ends


def _lines(raw: Bytes, ends: NDArray[np.int64], chosen: NDArray[np.bool_], passed_over: int | None = None) -> _Lines:
    """Take some lines out, without comments, and without what follows a mark in a word."""
    lengths = np.diff(ends, prepend=-1)
    text = raw[np.repeat(chosen, lengths)]
    if not len(text):
        return _Lines(b"", np.zeros(0, np.int64))
    for mark, last in ((_HASH, _LINE), (passed_over, _SPACE)):
        if mark is not None and (text == mark).any():
            _blank(text, text == mark, text == _LINE if last == _LINE else text <= last)
    is_space = text <= _SPACE
    begins = ~is_space
    begins[1:] &= is_space[:-1]
    starts = np.cumsum(lengths[chosen]) - lengths[chosen]
    return _Lines(text.tobytes(), np.add.reduceat(begins, starts, dtype=np.int64))


def _blank(text: Bytes, marks: NDArray[np.bool_], ends: NDArray[np.bool_]) -> None:
    """Write blanks from each mark to the next end."""
    place = np.arange(len(text))
    last_mark, last_end = (np.maximum.accumulate(np.where(which, place, -1)) for which in (marks, ends))
    text[last_mark > last_end] = _SPACE


def _table(parts: list[tuple[NDArray[np.float64], NDArray[np.int64]]]) -> NDArray[np.float64]:
    """Return numbers, so many on each line, as a table as wide as all lines, or of 3 columns where they differ."""
    counts = np.concatenate([count for _, count in parts])
    short = np.flatnonzero(counts < 3)
    if len(short):
        raise ScanError(
            f"expected three coordinates on vertex line {short[0] + 1}, got {counts[short[0]]}; the file is damaged"
        )
    values = np.concatenate([value for value, _ in parts])
    if len(values) != counts.sum():
        raise ScanError("expected numbers on vertex lines, got something else; the file is damaged")
    if (counts == counts[0]).all():
        return values.reshape(-1, counts[0])
    return values[(np.cumsum(counts) - counts)[:, None] + np.arange(3)]
