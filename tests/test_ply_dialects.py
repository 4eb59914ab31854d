"""PLY as all kinds of programs write it: names, types, orders, ends of lines, lists of any length."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers import ply
from lvdreg.scan.readers.ply import read_ply

POINTS = np.array([[0, 0, 0], [3, 0, 0], [3, 4, 0], [0, 4, 5], [1, 2, 3]], float)
POLYGONS = [[0, 1, 2], [0, 2, 3, 4], [], [1], [4, 3, 2, 1, 0], [0, 1]]
TRIANGLES = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [4, 3, 2], [4, 2, 1], [4, 1, 0]]
CODES = {"uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d", "char": "b"}


def made(
    order: str, xyz: str = "float", count: str = "uchar", index: str = "int", before: str = "", after: str = "",
    end: str = "\n", names: str = "x y z", vertex: str = "vertex", face: str = "face", indices: str = "vertex_indices",
) -> bytes:  # fmt: skip
    """Return a ply with ``POLYGONS`` as faces, with flags before and after each list where a type is named."""
    head = ["ply", "comment property float wrong", f"format {order} 1.0", "obj_info element face 7"]
    head += [f"element {vertex} {len(POINTS)}", *(f"property {xyz} {name}" for name in names.split())]
    head += [f"element {face} {len(POLYGONS)}"]
    head += [f"property {before} flag"] * bool(before) + [f"property list {count} {index} {indices}"]
    head += [f"property {after} tail"] * bool(after) + ["end_header"]
    if order == "ascii":
        rows = [" ".join(map(str, point)) for point in POINTS.tolist()]
        rows += [" ".join(map(str, [*([9] * bool(before)), len(p), *p, *([8] * bool(after))])) for p in POLYGONS]
        return end.join([*head, *rows, ""]).encode()
    mark = "<" if "little" in order else ">"
    body = b"".join(struct.pack(mark + 3 * CODES[xyz], *map(int if xyz[0] in "su" else float, p)) for p in POINTS)
    for polygon in POLYGONS:
        body += struct.pack(mark + CODES[before], 9) if before else b""
        body += struct.pack(mark + CODES[count] + len(polygon) * CODES[index], len(polygon), *polygon)
        body += struct.pack(mark + CODES[after], 8) if after else b""
    return (end.join(head) + end).encode() + body


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"end": "\r\n"},
        {"xyz": "double", "count": "int", "index": "uint"},
        {"xyz": "short", "count": "ushort", "index": "ushort"},
        {"before": "uchar", "after": "double"},
        {"count": "uint", "index": "uchar", "before": "float"},
        {"names": "X Y Z", "vertex": "Vertex", "face": "faces", "indices": "corners"},
        {"names": "position_x position_y position_z", "vertex": "point", "indices": "vertex_index"},
    ],
)
def test_dialects(order: str, how: dict[str, Any]) -> None:
    found = read_ply(made(order, **how))
    np.testing.assert_array_equal(found.points, POINTS)
    assert found.faces is not None and found.faces.tolist() == TRIANGLES


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 60), st.booleans())
def test_lists_of_any_length_are_those_read_one_by_one(lengths: list[int], at_once: int, in_text: bool) -> None:
    """However few places are looked at together; the reader of rows with several lists is the oracle."""
    cells = [[length, *range(length)] for length in lengths]
    if in_text:
        data = b" ".join(str(v).encode() for row in cells for v in row)
        bodies = [ply._TextBody(data, 0) for _ in range(2)]
    else:
        data = b"".join(struct.pack(f">B{row[0]}h", *row) for row in cells)
        bodies = [ply._BinaryBody(data, 0, ">") for _ in range(2)]
    element = ply._Element("face", len(lengths), [ply._Property("a", "i2", "u1")])
    for body in bodies:
        if isinstance(body, ply._TextBody):
            body.read(ply._Element("none", 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ply, "_PLACES_AT_ONCE", at_once)
        (fast, counts), (slow, own) = (read(element)[1]["a"] for read in (bodies[0]._read_rows, bodies[1]._read_slowly))
    assert counts.tolist() == own.tolist() == lengths
    assert fast.tolist() == slow.tolist()
    assert bodies[0]._at == bodies[1]._at


@pytest.mark.parametrize("order", ["ascii", "binary_big_endian"])
def test_truncated_lists_are_told(order: str) -> None:
    whole = made(order, before="uchar")
    for cut in (3, 9, 20):
        with pytest.raises(ScanError, match=r"truncated|header"):
            read_ply(whole[:-cut])


def test_16_bit_colours_and_other_names_of_normals() -> None:
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
    names = [*(f"property double {n}" for n in "xyz"), *(f"property float normal_{n}" for n in "xyz")]
    names += [f"property ushort diffuse_{name}" for name in ("red", "green", "blue")]
    data = (head + "\n".join(names) + "\nend_header\n").encode() + struct.pack(
        "<3d3f3H", 5e5, 1, 2, 0, 0, 1, 65535, 256, 0
    )
    found = read_ply(data)
    assert found.points.tolist() == [[5e5, 1, 2]]
    assert found.normals is not None and found.normals.tolist() == [[0, 0, 1]]
    assert found.colors is not None and found.colors.tolist() == [[255, 1, 0]]
