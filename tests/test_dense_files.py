"""Readers of dense files: whole arrays at once give what a line at a time would give."""

import numpy as np
import pytest

from lvdreg.base.errors import ScanError
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.scan.readers import obj, off, raw, stl, table


def read_by_line(text: str) -> tuple[list[list[float]], list[list[int]]]:
    """Read an OBJ the obvious way: vertices, and triangles around the first corner of each face."""
    vertices: list[list[float]] = []
    triangles: list[list[int]] = []
    for line in text.replace("\\\n", " ").split("\n"):
        words = line.split("#")[0].split()
        if words[:1] == ["v"]:
            vertices.append([float(word) for word in words[1:4]])
        elif words[:1] == ["f"]:
            corners = [int(word.split("/")[0]) for word in words[1:]]
            corners = [corner - 1 if corner > 0 else len(vertices) + corner for corner in corners]
            triangles += [[corners[0], *corners[i : i + 2]] for i in range(1, len(corners) - 1)]
    return vertices, triangles


def messy_obj(rng: np.random.Generator) -> str:
    """An OBJ as exporters and people write them."""
    lines, count = ["# made by hand", "mtllib x.mtl", "o one two"], 0
    for _ in range(int(rng.integers(5, 60))):
        if count < 3 or rng.random() < 0.5:
            lines.append("v " + " ".join(f"{x:.{rng.integers(1, 7)}g}" for x in rng.normal(size=3)))
            count += 1
        else:
            corners = rng.integers(1, count + 1, rng.integers(2, 6))
            signed = [int(c) if rng.random() < 0.7 else int(c) - count - 1 for c in corners]
            lines.append("f " + " ".join(f"{c}" + rng.choice(["", "/1", "//2", "/3/4"]) for c in signed))
        if rng.random() < 0.3:
            odd = [lines[-1].replace(" ", "\t"), f"  {lines[-1]}", f"{lines[-1]}  # 1/2 f 1 2 3", f"{lines[-1]} \\\n"]
            lines[-1] = str(rng.choice(odd))
        if rng.random() < 0.2:
            lines.append(str(rng.choice(["", "vt 0.5 0.5", "s off", "l 1 2", "g v f", "usemtl v", "#v 9 9 9", "   "])))
    return "\n".join(lines) + str(rng.choice(["", "\n"]))


@pytest.mark.parametrize("block_bytes", [1, 40, 4 << 20])
def test_obj_is_read_as_line_by_line_wherever_blocks_end(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obj, "BLOCK_BYTES", block_bytes)
    for seed in range(40):
        text = messy_obj(np.random.default_rng(seed))
        vertices, triangles = read_by_line(text)
        for written in (text, text.replace("\n", "\r\n")):
            found = obj.read_obj(written.encode())
            np.testing.assert_array_equal(found.points, np.array(vertices))
            if triangles:
                np.testing.assert_array_equal(found.faces, np.array(triangles))
            else:
                assert found.faces is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"v 1 2 3\nv 1 2\n", "expected three coordinates on vertex line 2, got 2; the file is damaged"),
        (b"v 1 2 3-4\n", "expected numbers, got '3-4'; the file is damaged"),
        (b"v 1 2 3\nf 1 - 1 1\n", "expected whole numbers on lines of faces, got something else; the file is damaged"),
        (b"v 1 2 3\nf 1 1.5 1\n", "expected whole numbers as vertex indices, got something else; the file is damaged"),
        (b"v 1 2 3\nf 1 one 1\n", "expected numbers, got 'one'; the file is damaged"),
    ],
)
def test_obj_lines_that_are_no_numbers_are_refused(text: bytes, message: str) -> None:
    with pytest.raises(ScanError) as refused:
        obj.read_obj(text)
    assert str(refused.value) == message


def test_normals_that_are_not_used_are_not_read() -> None:
    assert obj.read_obj(b"v 1 2 3\nv 3 2 1\nvn a b c\n").normals is None


def test_indices_are_read_however_they_are_written() -> None:
    assert raw.parse_indices(b" 1 -2\n3\t").tolist() == raw.parse_indices(b"1.0 -2e0 3").tolist() == [1, -2, 3]
    assert raw.parse_indices(b"").tolist() == []


def firsts_by_dictionary(rows: FloatArray | IntArray) -> tuple[list[int], list[int]]:
    first: dict[bytes, int] = {}
    keep: list[int] = []
    inverse = []
    for i, row in enumerate(rows + 0):
        if row.tobytes() not in first:
            first[row.tobytes()] = len(keep)
            keep.append(i)
        inverse.append(first[row.tobytes()])
    return keep, inverse


@pytest.mark.parametrize(
    ("factor", "at_once"), [(raw.HASH_FACTOR, 10**6), (1 << 62, 10**6), (0, 10**6), (raw.HASH_FACTOR, 30)]
)
def test_equal_points_are_found_whatever_their_hashes(
    factor: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bad factor different points share a hash, with zero all do; in parts or not."""
    monkeypatch.setattr(raw, "HASH_FACTOR", np.uint64(factor))
    monkeypatch.setattr(raw, "_ROWS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    for kind in (np.float32, np.float64):
        for count in (1, 2, 7, 400):
            points = rng.integers(-2, 3, (count, 3)).astype(kind)
            points[rng.random(points.shape) < 0.2] *= -1  # zeros of both signs
            keep, inverse = raw.equal_points(points)
            assert (keep.tolist(), inverse.tolist()) == firsts_by_dictionary(points + kind(0))
    keep, inverse = raw.equal_points(np.zeros((0, 3)))
    assert not len(keep) and not len(inverse)


def test_points_that_are_no_numbers_equal_none() -> None:
    keep, inverse = raw.equal_points(np.array([[np.nan, 0, 0], [1, 2, 3], [np.nan, 0, 0], [1, 2, 3]]))
    assert keep.tolist() == [0, 1, 2] and inverse.tolist() == [0, 1, 2, 1]


def test_text_in_blocks_is_read_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, OFF and STL in blocks of few bytes: comments, empty lines, decimal commas, both ends of lines."""
    rng = np.random.default_rng(0)
    rows = [" ".join(f"{v:.3f}" for v in row) for row in rng.normal(size=(60, 6))]
    table_text = "x y z\n# words\n" + "\r\n".join(
        f"{row} // {i}\n" if i % 7 == 0 else row for i, row in enumerate(rows)
    )
    corners = "\n".join(
        f"vertex {' '.join(row.split()[:3])}\n" + ("endfacet" if i % 3 == 2 else "") for i, row in enumerate(rows)
    )
    readers = {
        table_text: table.read_text,
        "60\n" + "\n".join(rows): table.read_text,
        "\n".join(row.replace(".", ",").replace(" ", ";") for row in rows): table.read_text,
        "OFF\n60 2 0\n" + "\n".join(rows) + "\n3 0 1 2 9 9\n# no\n4 1 2 3 4\n": off.read_off,
        f"solid\n{corners}\nendsolid": stl.read_stl,
    }
    whole = [read(text.encode()) for text, read in readers.items()]
    monkeypatch.setattr(table, "_BLOCK_BYTES", 200)
    cut = raw.text_blocks
    for module in (off, stl):
        monkeypatch.setattr(module, "text_blocks", lambda data, start=0: cut(data, start, 50))
    for found, (text, read) in zip(whole, readers.items(), strict=True):
        again = read(text.encode())
        np.testing.assert_array_equal(again.points, found.points)
        assert again.notes == found.notes and (again.faces is None) == (found.faces is None)
        if found.faces is not None:
            np.testing.assert_array_equal(again.faces, found.faces)
