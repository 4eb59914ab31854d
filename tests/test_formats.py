"""Every format: written here or by trimesh, read back exactly; wrong and damaged files give one clear line."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.read import READERS, read_raw, sniff
from lvdreg.scan.readers import obj, off, pcd, ply, raw, stl, table

Array = NDArray[Any]

TRIANGLES = [[0, 1, 2], [0, 2, 3]]
SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0.5], [0, 1, 0.25]])
COLORS = np.array([[255, 0, 1], [0, 128, 2], [3, 4, 255], [9, 8, 7]], np.uint8)


@pytest.fixture(scope="module")
def mesh() -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(subdivisions=2)
    ball.apply_scale([0.3, 1.7, 0.2])
    return ball


def same_surface(found: raw.RawScan, points: Array, faces: Array, tolerance: float = 1e-5) -> None:
    """The same triangles in the same order, corner by corner, whatever the numbering of the vertices."""
    assert found.faces is not None
    np.testing.assert_allclose(found.points[found.faces], points[faces], atol=tolerance)


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "stl_ascii", "off", "glb"])
def test_what_trimesh_writes_is_read_back(mesh: trimesh.Trimesh, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"ball.{suffix.removesuffix('_ascii')}"
    mesh.export(path, file_type=suffix)
    found = read_raw(path)
    same_surface(found, mesh.vertices, mesh.faces)
    assert len(found.points) == len(mesh.vertices)
    assert found.notes == ()


def test_ascii_ply_of_trimesh(mesh: trimesh.Trimesh, tmp_path: Path) -> None:
    mesh.export(tmp_path / "ball.ply", encoding="ascii", vertex_normal=True)
    found = read_raw(tmp_path / "ball.ply")
    same_surface(found, mesh.vertices, mesh.faces)
    assert found.normals is not None
    np.testing.assert_allclose(found.normals, mesh.vertex_normals, atol=1e-5)


def ply_bytes(order: str, mixed: bool = True) -> bytes:
    """A square as a quad (and a triangle), with colours, a list per vertex, flags per face and a strange element."""
    names = {"<": "binary_little_endian", ">": "binary_big_endian", "": "ascii"}
    faces = [[0, 1, 2, 3], [0, 2, 3]] if mixed else [[0, 1, 2, 3], [3, 2, 1, 0]]
    head = (
        f"ply\nformat {names[order]} 1.0\ncomment hello\nobj_info x\nelement camera 1\nproperty double f\n"
        "element vertex 4\nproperty double x\nproperty float y\nproperty double z\nproperty uchar red\n"
        "property uchar green\nproperty uchar blue\nelement face 2\nproperty uchar flag\n"
        "property list uchar int vertex_indices\nelement edge 0\nproperty int a\nend_header\n"
    ).encode()
    if order == "":
        rows = [" ".join(map(str, [*p, *c])) for p, c in zip(SQUARE.tolist(), COLORS.tolist(), strict=True)]
        rows += [" ".join(map(str, [7, len(f), *f])) for f in faces]
        return head + "\n".join(["35.0", *rows]).encode() + b"\n"
    body = struct.pack(order + "d", 35.0)
    for point, color in zip(SQUARE, COLORS, strict=True):
        body += struct.pack(order + "dfd3B", *point, *color.tolist())
    for face in faces:
        body += struct.pack(order + f"BB{len(face)}i", 7, len(face), *face)
    return head + body


@pytest.mark.parametrize("order", ["<", ">", ""])
@pytest.mark.parametrize("mixed", [True, False])
def test_ply_of_every_encoding(order: str, mixed: bool) -> None:
    found = ply.read_ply(ply_bytes(order, mixed))
    np.testing.assert_array_equal(found.points, SQUARE)
    np.testing.assert_array_equal(found.colors, COLORS)
    second = [[0, 2, 3]] if mixed else [[3, 2, 1], [3, 1, 0]]
    np.testing.assert_array_equal(found.faces, TRIANGLES + second)


def test_ply_strips_and_points_only() -> None:
    head = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    rows = "\n".join(" ".join(map(str, p)) for p in SQUARE.tolist())
    found = ply.read_ply(f"{head}end_header\n{rows}".encode())
    assert found.faces is None and len(found.points) == 4
    strips = "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    found = ply.read_ply(f"{head}{strips}{rows}\n8 0 1 2 3 -1 2 1 0\n".encode())
    np.testing.assert_array_equal(found.faces, [[0, 1, 2], [3, 2, 1], [2, 1, 0]])


def test_obj_polygons_negative_indices_colours_and_objects() -> None:
    text = (
        "mtllib missing.mtl\no first\nv 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 1 0.5 0 0 1 # last\nv 0 1 0.25 0.5 0.5 0.5\n"
        "vt 0 0\nvn 0 0 1\nusemtl none\nf 1/1/1 2/1/1 \\\n 3/1/1 4/1/1\ng second\ns off\n"
        "v 5 5 5 0 0 0\nf -1//1 -2//1 -3//1\nf 1 2 3\nl 1 2\n"
    )
    found = obj.read_obj(text.encode())
    np.testing.assert_array_equal(found.faces, [*TRIANGLES, [4, 3, 2], [0, 1, 2]])
    np.testing.assert_array_equal(found.points, [*SQUARE, [5, 5, 5]])
    assert found.colors is not None and found.colors.tolist()[:4] == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [128] * 3]


def test_obj_without_faces_and_with_a_weight() -> None:
    found = obj.read_obj(b"v 1 2 3 1.0\nvn 0 0 2\nv 4 5 6 1.0\nvn 0 1 0\n")
    assert found.faces is None and found.colors is None
    np.testing.assert_array_equal(found.points, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(found.normals, [[0, 0, 2], [0, 1, 0]])


def test_obj_with_colours_on_some_vertices_only() -> None:
    found = obj.read_obj(b"v 1 2 3\r\nv 4 5 6 0.1 0.2 0.3\r\nv 7 8 9\r\nf 1 2 3\r\n")
    np.testing.assert_array_equal(found.points, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    np.testing.assert_array_equal(found.faces, [[0, 1, 2]])


@pytest.mark.parametrize(
    "text",
    [
        "OFF\n4 1 0\n{rows}\n4 0 1 2 3\n",
        "# hello\nOFF 4 1 0\n\n{rows}\n4 0 1 2 3 0.1 0.2 0.3 # a red face\n",
        "4 1 0\n{rows}\n4 0 1 2 3\n",
    ],
)
def test_off_variants(text: str) -> None:
    rows = "\n".join(" ".join(map(str, p)) for p in SQUARE.tolist())
    found = off.read_off(text.format(rows=rows).encode())
    np.testing.assert_array_equal(found.points, SQUARE)
    np.testing.assert_array_equal(found.faces, TRIANGLES)


def test_off_with_normals_and_colours() -> None:
    rows = "\n".join(f"{x} {y} {z} 0 0 1 255 128 0 255" for x, y, z in SQUARE.tolist())
    found = off.read_off(f"CNOFF\n4 2 0\n{rows}\n3 0 1 2\n3 0 2 3\n".encode())
    np.testing.assert_array_equal(found.normals, [[0, 0, 1]] * 4)
    np.testing.assert_array_equal(found.colors, [[255, 128, 0]] * 4)
    found = off.read_off(f"COFF\n4 0 0\n{rows.replace(' 0 0 1', '')}\n".encode())
    np.testing.assert_array_equal(found.colors, [[255, 128, 0]] * 4)


def test_binary_stl_that_starts_with_solid(mesh: trimesh.Trimesh) -> None:
    data = mesh.export(file_type="stl")
    same_surface(stl.read_stl(b"solid" + data[5:]), mesh.vertices, mesh.faces)


@pytest.mark.parametrize("cut", ["the end", "two facets", "a line"])
def test_text_stl_that_lost_facets_is_refused(mesh: trimesh.Trimesh, cut: str) -> None:
    whole = mesh.export(file_type="stl_ascii")
    facets = whole.split("facet normal")
    lost = {
        "the end": "facet normal".join(facets[:-40]),
        "two facets": whole.replace("endfacet", "", 2),
        "a line": whole.replace("endsolid", ""),
    }
    assert len(stl.read_stl(whole.upper().encode()).faces) == len(mesh.faces)
    with pytest.raises(ScanError, match="the file is truncated or damaged"):
        stl.read_stl(lost[cut].encode())


def pcd_bytes(encoding: str, compress: Any = None) -> bytes:
    """Fields in another order, padding, packed colours and normals."""
    fields = [("_", "u1", 3), ("z", "<f8", 1), ("x", "<f4", 1), ("rgb", "<f4", 1), ("y", "<f4", 1)]
    fields += [(f"normal_{a}", "<f4", 1) for a in "xyz"]
    rows = np.zeros(len(SQUARE), [(n, t, (c,)) for n, t, c in fields])
    for i, axis in enumerate("xyz"):
        rows[axis][:, 0] = SQUARE[:, i]
        rows[f"normal_{axis}"][:, 0] = i
    packed = COLORS.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    rows["rgb"][:, 0] = packed.astype(np.uint32).view(np.float32)
    kinds = {"u1": "U", "<f4": "F", "<f8": "F"}
    head = (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {' '.join(f[0] for f in fields)}\n"
        f"SIZE {' '.join(str(np.dtype(f[1]).itemsize) for f in fields)}\nTYPE {' '.join(kinds[f[1]] for f in fields)}\n"
        f"COUNT {' '.join(str(f[2]) for f in fields)}\nWIDTH 2\nHEIGHT 2\nVIEWPOINT 1 2 3 1 0 0 0\nPOINTS 4\n"
        f"DATA {encoding}\n"
    ).encode()
    if encoding == "ascii":
        lines = [" ".join(repr(float(v)) for f in fields for v in row[f[0]]) for row in rows]
        return head + "\n".join(lines).encode() + b"\n"
    if encoding == "binary":
        return head + rows.tobytes()
    columns = b"".join(np.ascontiguousarray(rows[f[0]]).tobytes() for f in fields)
    stream = compress(columns)
    return head + struct.pack("<II", len(stream), len(columns)) + stream


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd_of_every_encoding(encoding: str) -> None:
    found = pcd.read_pcd(pcd_bytes(encoding, lzf_compress))
    np.testing.assert_array_equal(found.points, SQUARE)
    np.testing.assert_array_equal(found.colors, COLORS)
    np.testing.assert_array_equal(found.normals, [[0, 1, 2]] * 4)
    np.testing.assert_array_equal(found.viewpoint, [1, 2, 3])


def lzf_compress(data: bytes) -> bytes:
    """Greedy LZF: copies of up to 264 bytes from up to 8192 back, literal runs of up to 32."""
    out, literals, at = bytearray(), bytearray(), 0

    def flush() -> None:
        for start in range(0, len(literals), 32):
            run = literals[start : start + 32]
            out.extend([len(run) - 1, *run])
        literals.clear()

    while at < len(data):
        start, length = longest_match(data, at)
        if length < 3:
            literals.append(data[at])
            at += 1
            continue
        flush()
        back, code = at - start - 1, length - 2
        out.extend([(code << 5) | back >> 8] if code < 7 else [7 << 5 | back >> 8, code - 7])
        out.append(back & 255)
        at += length
    flush()
    return bytes(out)


def longest_match(data: bytes, at: int) -> tuple[int, int]:
    best = (0, 0)
    for start in range(max(0, at - 100), at):
        length = 0
        while length < 264 and at + length < len(data) and data[start + length] == data[at + length]:
            length += 1
        best = max(best, (start, length), key=lambda m: m[1])
    return best


def slow_lzf(data: bytes) -> bytes:
    """The definition, byte by byte."""
    out: list[int] = []
    stream = iter(data)
    for control in stream:
        if control < 32:
            out.extend(next(stream) for _ in range(control + 1))
            continue
        length = control >> 5
        if length == 7:
            length += next(stream)
        back = ((control & 31) << 8) + next(stream) + 1
        for _ in range(length + 2):
            out.append(out[-back])
    return bytes(out)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 80)), max_size=6))
def test_lzf_is_undone(runs: list[tuple[bytes, int]]) -> None:
    data = b"".join(part * count for part, count in runs)
    packed = lzf_compress(data)
    assert pcd.lzf_decompress(packed, len(data)) == data == slow_lzf(packed)


def test_lzf_by_hand() -> None:
    # "ab", then 3 + 2 bytes from 2 back (overlapping), then 7 + 1 + 2 bytes from 1 back.
    assert pcd.lzf_decompress(bytes([1, 97, 98, 3 << 5, 1, 7 << 5, 1, 0]), 17) == b"abababa" + b"a" * 10
    for damaged, size in (([1, 97], 2), ([1, 97, 98, 32, 5], 5), ([1, 97, 98], 3), ([0, 97, 255, 255], 99)):
        with pytest.raises(ScanError, match="compressed data are damaged"):
            pcd.lzf_decompress(bytes(damaged), size)


@pytest.mark.parametrize(
    ("text", "has_normals", "has_colors"),
    [
        ("{p}\n", False, False),
        ("4\n{p}\n", False, False),
        ("x,y,z\n{c}\n", False, False),
        ("# comment\n\n{p} 0.6 -0.8 0\n", True, False),
        ("//X Y Z R G B\n{p} 10 20 30\n", False, True),
        ("{p} 0.1 0.2 0.3\n", False, True),
        ("4\n{p} -512 10 20 30\n", False, True),
        ("{p} 0.6 -0.8 0 1 2 3\n", True, True),
        ("{p} 1 2 3 0.6 -0.8 0\n", True, True),
        ("{p} 17\n", False, False),
    ],
)
def test_text_tables(text: str, has_normals: bool, has_colors: bool) -> None:
    head, _, row = text.removesuffix("\n").rpartition("\n")
    lines = [row.format(p=" ".join(map(str, p)), c=", ".join(map(str, p))) for p in SQUARE.tolist()]
    found = table.read_text("\n".join([*([head] if head else []), *lines]).encode())
    np.testing.assert_array_equal(found.points, SQUARE)
    assert (found.normals is not None, found.colors is not None) == (has_normals, has_colors)


def test_text_with_decimal_commas() -> None:
    np.testing.assert_array_equal(
        table.read_text(b"X;Y;Z\n1,5;2,25;-3\n4;5;6,5\n").points, [[1.5, 2.25, -3], [4, 5, 6.5]]
    )


def npy_bytes(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def npz_bytes(**arrays: Array) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def test_numpy_files() -> None:
    np.testing.assert_array_equal(
        table.read_npy(npy_bytes(np.asfortranarray(SQUARE.astype(np.float32)))).points, SQUARE
    )
    both = table.read_npy(npy_bytes(np.c_[SQUARE, np.tile([0.6, -0.8, 0], (4, 1))]))
    assert both.normals is not None and both.colors is None
    found = table.read_npz(
        npz_bytes(vertices=SQUARE, faces=np.array(TRIANGLES, np.uint32), colors=COLORS, x=np.ones(3))
    )
    np.testing.assert_array_equal(found.faces, TRIANGLES)
    np.testing.assert_array_equal(found.colors, COLORS)
    assert found.normals is None


def test_content_decides_over_the_suffix(mesh: trimesh.Trimesh, tmp_path: Path) -> None:
    path = tmp_path / "scan.stl"
    mesh.export(path, file_type="ply")
    found = read_raw(path)
    same_surface(found, mesh.vertices, mesh.faces)
    assert found.notes == ("named .stl but holds ply data: read as ply",)
    mesh.export(tmp_path / "SCAN.unknown", file_type="obj")
    assert read_raw(tmp_path / "SCAN.unknown").notes == ()


def test_sniffing_knows_what_trimesh_writes(mesh: trimesh.Trimesh) -> None:
    for kind in ("ply", "obj", "stl", "stl_ascii", "off", "glb"):
        data = mesh.export(file_type=kind)
        assert sniff(data if isinstance(data, bytes) else data.encode()) == kind.removesuffix("_ascii")
    assert sniff(pcd_bytes("binary")) == "pcd"
    assert sniff(npy_bytes(SQUARE)) == "npy" and sniff(npz_bytes(points=SQUARE)) == "npz"
    assert sniff(b"1 2 3\n4 5 6\n") is None


MESSAGES = [
    ("empty.obj", b"", "empty.obj: the file is empty (0 bytes); copy or export it again"),
    (
        "header.ply",
        b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\nend_header\n",
        "header.ply: expected vertices with x, y and z, got none; the file holds nothing to register",
    ),
    ("words.obj", b"o nothing\n", "words.obj: expected lines 'v x y z', got none; the file holds no vertices"),
    (
        "short.ply",
        ply_bytes("<")[:-50],
        "short.ply: its header promises 4 vertex rows, but only 74 bytes follow; "
        "the file is truncated or damaged, copy or export it again",
    ),
    (
        "short.off",
        b"OFF\n4 1 0\n0 0 0\n",
        "short.off: its header promises 4 vertices and 1 faces, but 1 lines follow; the file is truncated or damaged",
    ),
    ("far.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n",
     "far.obj: a face refers to vertex 8 (counted from 0) of 3; the file is damaged, export it again"),
    ("bad.xyz", b"1 2 3\n4 5 six\n", "bad.xyz: expected numbers, got 'six'; the file is damaged"),
    ("odd.xyz", b"1 2 3\n4 5 6 7\n", "odd.xyz: expected 3 numbers on every row, got 4 on data row 2"),
    ("two.csv", b"1,2\n3,4\n",
     "two.csv: expected 3, 4, 6, 7 or 9 numbers per row (x y z, then normals or colours), got 2"),
    ("photo.ply", b"\x89PNG\r\n",
     "photo.ply: expected a 3D scan, got a PNG picture; lvdreg image registers photos"),
    ("page.obj", b"<!DOCTYPE html>",
     "page.obj: expected a 3D scan, got a web page; download the file itself"),
    ("mesh.xml", b"hello", "mesh.xml: not a supported scan file; supported are "
     "ply, obj, stl, off, glb, gltf, pcd, xyz, npy, npz, pts, txt, csv, asc, xyzn, xyzrgb, "
     "las, laz, e57, fbx, 3ds, dae, usd, usda, usdc, usdz, and depth images"),
    ("none.npz", npz_bytes(a=np.ones(3)),
     "none.npz: expected an array 'points' or 'vertices' in the npz file, got none; save it under that name"),
    ("code.npy", npy_bytes(np.array([{"a": 1}], dtype=object)),
     "code.npy: the array is not a readable numpy array (it holds Python objects, not numbers); "
     "save it again as plain floats"),
    ("flat.npy", npy_bytes(np.ones(3)),
     "flat.npy: expected numbers of shape (P, 3) in the array, got float64 of shape (3,)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "message"), MESSAGES, ids=[m[0] for m in MESSAGES])
def test_messages(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ScanError) as caught:
        read_raw(tmp_path / name)
    assert str(caught.value) == message


def test_large_files_are_refused_before_parsing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"1 2 3\n" * 400_000)
    (tmp_path / "b.npy").write_bytes(npy_bytes(np.zeros((100_000, 3))))
    monkeypatch.setattr("lvdreg.scan.read.MAX_BLOCK_TEXT_BYTES", 1 << 20)
    with pytest.raises(ScanError, match=r"^a\.xyz: 2 MiB of text are over the limit of 1 MiB; thin the scan, or save"):
        read_raw(tmp_path / "a.xyz")
    assert len(read_raw(tmp_path / "b.npy").points) == 100_000
    monkeypatch.setattr("lvdreg.scan.read.MAX_BYTES", 1 << 20)
    with pytest.raises(ScanError, match=r"^b\.npy: 0\.0 GiB is over the limit of 2 GiB; thin the scan first$"):
        read_raw(tmp_path / "b.npy")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"none\.ply: no such file; check the path$"):
        read_raw(tmp_path / "none.ply")
    with pytest.raises(
        ScanError, match=r"expected a scan file, got a folder with nothing in it; name a scan, or a folder of them"
    ):
        read_raw(tmp_path)


BOMBS = {
    "ply": b"ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\nproperty float x\nproperty float y\n"
    b"property float z\nend_header\n" + bytes(100),
    "ply without columns": b"ply\nformat ascii 1.0\nelement nothing 99999999999\nend_header\n",
    "stl": bytes(80) + struct.pack("<I", 4_000_000_000) + bytes(100),
    "off": b"OFF\n4000000000 4000000000 0\n0 0 0\n",
    "pcd": b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 4000000000\nHEIGHT 4000000000\nDATA binary\n\0\0",
    "pcd lzf": b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nPOINTS 100000000\n"
    b"DATA binary_compressed\n" + struct.pack("<II", 3, 1_200_000_000) + b"\xff\xff\0",
    "xyz": b"4000000000\n1 2 3\n",
    "npy": npy_header((4_000_000_000, 3)) + bytes(96),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_claimed_sizes_are_not_believed(kind: str, limited_memory: None) -> None:
    with pytest.raises(ScanError, match=r"promise|claims|match|truncated"):
        READERS[kind.split()[0]](BOMBS[kind])


def test_zip_bombs_are_refused(limited_memory: None) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("points.npy", "w") as member:
        for _ in range(70):
            member.write(bytes(1 << 20))
    with pytest.raises(ScanError, match="would unpack to 73400320 bytes"):
        table.read_npz(stream.getvalue())


@pytest.fixture
def limited_memory() -> Any:
    """Let nothing allocate more than 64 MiB."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
