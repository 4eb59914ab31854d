"""What every reader returns, and the helpers that they share."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.base.provenance import FileHashes, InputFile
from lvdreg.scan.readers.commas import with_points

MAX_ROWS = 50_000_000
"""More points or faces than this are refused: a scanner's finest scans have a few million."""


@dataclass(frozen=True)
class RawScan:
    """A file's content as read, in the file's own frame and unit; nothing is cleaned.

    Attributes:
        points: (P, 3) float64, may hold NaN and infinity.
        faces: (F, 3) int64 with indices below P, or None for raw points.
        normals: (P, 3) float64, any length, or None.
        colors: (P, 3) uint8, or None.
        viewpoint: (3,) position of the camera, where the file states one.
        notes: What reading found, one plain line each.
        source: The file it was read from.
        files: SHA-256 of other files that it took in, by name.
        unit: Unit of the coordinates where the format leaves no choice.
        is_depth_image: Whether all points were seen from the viewpoint, for certain.
    """

    points: NDArray[np.float64]
    faces: NDArray[np.int64] | None = None
    normals: NDArray[np.float64] | None = None
    colors: NDArray[np.uint8] | None = None
    viewpoint: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    source: InputFile | None = None
    files: FileHashes = field(default_factory=dict)
    unit: str | None = None
    is_depth_image: bool = False


def check_rows(what: str, count: int, min_row_bytes: float, available_bytes: int, limit: int = MAX_ROWS) -> None:
    """Refuse a count that the file cannot hold or that is over the limits.

    Args:
        what: What is counted, as plural, for the message.
        count: The claimed number of rows.
        min_row_bytes: The least number of bytes that one row takes in the file.
        available_bytes: What is left of the file.
        limit: The largest count that is taken.

    Raises:
        ScanError: the count is negative, over the limit, or the file is too short for it.
    """
    if count < 0:
        raise ScanError(f"its header claims {count} {what}; the file is damaged, export it again")
    if count * min_row_bytes > available_bytes:
        raise ScanError(
            f"its header promises {count} {what}, but only {available_bytes} bytes follow; "
            "the file is truncated or damaged, copy or export it again"
        )
    if count > limit:
        raise ScanError(f"it holds {count} {what}, over the limit of {limit}; thin it first")


BLOCK_BYTES = 4 << 20
_END_OF_LINE = re.compile(rb"\r\n|\n\r|\r|\n")


def split_header(data: bytes, last: str, limit: int) -> tuple[list[str], int]:
    """Return the lines of a header of text, and where what follows them begins.

    Lines end as the first one does: by LF, CR LF, CR or LF CR. What follows may be binary, and begin with a byte that
    looks like the end of a line.

    Args:
        data: The file.
        last: The word that the last line begins with.
        limit: Bytes of the largest header.

    Raises:
        ScanError: no such line.
    """
    first = _END_OF_LINE.search(data, 0, limit)
    end = re.compile(rb"[\r\n][ \t]*" + last.encode() + rb"(?![^ \t\r\n])[^\r\n]*", re.IGNORECASE).search(
        data, 0, limit
    )
    if first is None or end is None:
        raise ScanError(f"expected a header that ends in a line {last!r}, got none; the file is truncated or damaged")
    own = _END_OF_LINE.match(data, end.end())
    ending = first[0] if own is None or data.startswith(first[0], end.end()) else own[0]
    lines = re.split(r"[\r\n]+", data[: end.end()].decode("latin-1"))
    return lines, min(end.end() + len(ending), len(data))


_END = b" -7.062951413e307"
"""A number that no scan holds, put at the end: where it is missing, numpy stopped before."""


def text_blocks(data: bytes, start: int = 0, size: int = BLOCK_BYTES, marks: bytes = b"\n\r") -> Iterator[bytes]:
    """Cut text after one of some characters, into blocks of about so many bytes: what is made of a block takes many
    times its size.

    Args:
        data: The text.
        start: Where it begins.
        size: Bytes that a block has at least, but for the last.
        marks: Where it may be cut: after ends of lines, unless others are given.
    """
    ends = re.compile(b"[" + re.escape(marks) + b"]")
    while start < len(data):
        found = ends.search(data, min(start + size, len(data)))
        end = len(data) if found is None else found.end()
        if data[end - 1 : end + 1] == b"\r\n":
            end += 1
        yield data[start:end]
        start = end


def parse_numbers(text: bytes, start: int = 0) -> NDArray[np.float64]:
    """Parse numbers separated by white space, from some byte on; their decimal marks may be commas.

    Raises:
        ScanError: something else than a number is among them.
    """
    parts = [_parse_block(block) for block in text_blocks(text, start, 8 * BLOCK_BYTES, b" \t\n\r")]
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0)])


def _parse_block(text: bytes) -> NDArray[np.float64]:
    if b"," in text:
        text = with_points(text)
    if b"#" in text or b"(" in text:
        # Microsoft's C library prints these for not-a-number and infinity.
        text = re.sub(rb"[-+]?(?:nan\([a-z]*\)|1\.#[A-Za-z]+\d*)", b"nan", text)
    try:
        values = np.fromstring(text + _END, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.zeros(1)
    if values[-1:] != float(_END):  # numpy below 2.3 returns what stands before the first bad token
        raise ScanError(f"expected numbers, got {_first_bad_token(text)}; the file is damaged")
    return values[:-1]


def _first_bad_token(text: bytes) -> str:
    for match in re.finditer(rb"\S+", text):
        try:
            float(match[0])
        except ValueError:
            return repr(match[0][:20].decode("latin-1"))
    return "something else"


def to_indices(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Convert parsed numbers to integers.

    Raises:
        ScanError: a number is not whole, or is beyond any index.
    """
    whole = np.isfinite(numbers) & (np.abs(numbers) < 2**53)
    if not whole.all() or (numbers != np.floor(numbers)).any():
        raise ScanError("expected whole numbers as vertex indices, got something else; the file is damaged")
    return numbers.astype(np.int64)


_LAST_INDEX = b" -7062951413307"


def parse_indices(text: bytes) -> NDArray[np.int64]:
    """Parse whole numbers separated by white space, however they are written.

    Raises:
        ScanError: something else than a whole number is among them.
    """
    try:  # in an eighth of the time that numbers of any kind take
        values = np.fromstring(text + _LAST_INDEX, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.zeros(1, np.int64)
    return values[:-1] if values[-1:] == int(_LAST_INDEX) else to_indices(parse_numbers(text))


def line_words(text: bytes) -> NDArray[np.int64]:
    """Count the words on each line that has any."""
    raw = np.frombuffer(text, np.uint8)
    is_space = raw <= ord(" ")
    begins = np.flatnonzero(~is_space & np.concatenate([[True], is_space[:-1]]))
    ends = np.flatnonzero((raw == ord("\n")) | (raw == ord("\r")))
    upto = np.concatenate([np.searchsorted(begins, ends), [len(begins)]])
    words = np.diff(upto, prepend=0)
    return words[words > 0]


def list_places(firsts: NDArray[np.int64], counts: NDArray[np.int64], size: int = 1) -> NDArray[np.int64]:
    """Return where the values of lists lie: these begin at ``firsts`` (N,) and hold ``counts`` (N,), ``size`` apart."""
    places = np.full(int(counts.sum()), size)
    filled = counts > 0
    firsts, counts = firsts[filled], counts[filled]
    lasts = firsts + size * (counts - 1)
    places[np.cumsum(counts) - counts] = firsts - np.concatenate([[0], lasts[:-1]])[: len(firsts)]
    return np.cumsum(places)


def fan(flat: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Split polygons into triangles around their first corner.

    Args:
        flat: (sum of counts,) vertex indices, polygon after polygon.
        counts: (N,) corners of each polygon; those below 3 give no triangle.

    Returns:
        (F, 3) triangles.
    """
    if len(counts) and (counts == 3).all():
        return flat.reshape(-1, 3)
    starts = np.cumsum(counts) - counts
    num_triangles = np.maximum(counts - 2, 0)
    check_rows("triangles", int(num_triangles.sum()), 0, 0)
    first = np.repeat(starts, num_triangles)
    within = np.arange(len(first)) - np.repeat(np.cumsum(num_triangles) - num_triangles, num_triangles)
    return flat[np.stack([first, first + within + 1, first + within + 2], axis=1)] if len(first) else _no_faces()


def strip(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn one triangle strip into (F, 3) triangles, every second one reversed."""
    if len(indices) < 3:
        return _no_faces()
    triangles = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    triangles[1::2] = triangles[1::2, ::-1]
    return triangles


def _no_faces() -> NDArray[np.int64]:
    return np.zeros((0, 3), np.int64)


def checked_faces(faces: NDArray[np.int64], num_points: int) -> NDArray[np.int64] | None:
    """Return the faces, or None where there is none.

    Raises:
        ScanError: a face refers to a point that does not exist.
    """
    if not len(faces):
        return None
    if faces.min() < 0 or faces.max() >= num_points:
        worst = int(faces.max()) if faces.max() >= num_points else int(faces.min())
        raise ScanError(
            f"a face refers to vertex {worst} (counted from 0) of {num_points}; the file is damaged, export it again"
        )
    return faces


def to_colors(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert (P, 3 or 4) colours to (P, 3) uint8; floats count as 0 to 1 where none is above 1."""
    rgb: NDArray[Any] = values[:, :3]
    if rgb.dtype == np.uint8:
        return rgb.copy()
    if rgb.dtype == np.uint16:
        return (rgb >> 8).astype(np.uint8)
    rgb = np.nan_to_num(rgb.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    is_fraction = np.issubdtype(values.dtype, np.floating) and (not rgb.size or rgb.max() <= 1.0)
    scaled: NDArray[np.float64] = np.rint(rgb * 255 if is_fraction else rgb)
    return np.clip(scaled, 0, 255).astype(np.uint8)


def equal_points(points: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find points with exactly equal coordinates.

    Args:
        points: (P, 3), single or double precision.

    Returns:
        Indices of the first of each, in the order of the file, (Q,); and for each point its index among those, (P,).
    """
    return equal_rows(points + points.dtype.type(0))  # which makes -0.0 and 0.0 the same bytes


def equal_rows(rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find equal rows of numbers of four or eight bytes, (P, C); returns what ``equal_points`` does.

    Of many rows, those that may be equal are compared in parts, which takes less memory.
    """
    keys = _hashes(rows)
    num_parts = -(-len(rows) // _ROWS_AT_ONCE)
    first = np.empty(len(rows), np.int32)  # the first row that is equal
    part = ((keys >> np.uint64(32)) % np.uint64(num_parts)).astype(np.uint8) if num_parts > 1 else None

    def find(number: int) -> None:
        assert part is not None
        own = np.flatnonzero(part == number).astype(np.int32)
        first[own] = own[_first_equal(rows[own], keys[own])]

    if part is None:
        first[:] = _first_equal(rows, keys)
    else:
        from lvdreg.base.threads import side_by_side  # with torch, which readers in processes of their own do without

        side_by_side(find, range(num_parts))
    del keys, part
    is_first = first == np.arange(len(rows), dtype=np.int32)
    keep = np.flatnonzero(is_first)
    inverse = (np.cumsum(is_first, dtype=np.int32) - 1)[first]
    return keep, inverse.astype(np.int64)


def _first_equal(rows: NDArray[Any], keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return for each row (P,) the first one that is equal to it."""
    order, keys = _order_by_hash(keys)
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    rows = whole.ravel()[order].view(rows.dtype).reshape(rows.shape)  # rows[order] takes twice as long
    del whole
    is_new = _differs_from_last(rows)
    clashes = np.flatnonzero(is_new[1:] & (keys[1:] == keys[:-1])) + 1
    if len(clashes):  # different points of one hash
        mixed = np.flatnonzero(np.isin(keys, keys[clashes]))
        sorted_mixed = mixed[np.lexsort((*rows[mixed].T, keys[mixed]))]
        order[mixed], rows[mixed] = order[sorted_mixed], rows[sorted_mixed]
        is_new = _differs_from_last(rows)
    del rows, keys  # of ten million faces without shared corners they take a gigabyte
    # Orders are stable, so the first of each group comes first in the file too.
    first = np.empty(len(order), np.int32)
    first[order] = order[is_new][np.cumsum(is_new) - 1]
    return first


def _differs_from_last(rows: NDArray[Any]) -> NDArray[np.bool_]:
    return np.concatenate([[True], (rows[1:] != rows[:-1]).any(axis=1)])[: len(rows)]


_ROWS_AT_ONCE = 4_000_000
_HASHED_AT_ONCE = 1 << 15
"""So many rows stay in the cache of a core: a seventh of the time."""
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _hashes(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Return hashes (P,): equal for equal rows, and for hardly any others."""
    keys = np.zeros(len(rows), np.uint64)
    for start in range(0, len(rows), _HASHED_AT_ONCE):
        some = keys[start : start + _HASHED_AT_ONCE]
        for column in rows[start : start + _HASHED_AT_ONCE].T:
            some ^= np.ascontiguousarray(column).view(f"u{rows.itemsize}")
            some *= HASH_FACTOR
            some ^= some >> np.uint64(29)
    return keys


def _order_by_hash(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return an order (P,) that brings equal hashes together, and the first digits of the hashes in that order.

    Numbers of a hash and an index are sorted, which takes a quarter of the time of sorting rows.
    """
    bits = np.uint64(max(len(keys) - 1, 1).bit_length())
    keys = keys >> bits << bits | np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64), keys >> bits
