"""Files as users bring them: decimal commas, byte-order marks, odd line ends and headers, archives, wild numbers.

Each is a recipe of what was reported. Right is: read as the plain file is, or one line that says what the file is.
"""

import io
import json
import os
import signal
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_fuzz import FILES
from test_untrusted import PLY_HEAD, gltf, strange
from typer.testing import CliRunner

from lvdreg.base.errors import BodyError, PhotoError, ScanError, UsageError
from lvdreg.base.files import read_json
from lvdreg.body.licensed import read_model
from lvdreg.cli import app
from lvdreg.photo.model import read_photo
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import read_scan, scan_from_arrays
from lvdreg.scan.read import read_raw
from lvdreg.settings import Settings, read_file

BALL = trimesh.creation.icosphere(subdivisions=3)
BALL.apply_scale([0.3, 0.9, 0.2])
POINTS: NDArray[np.float64] = BALL.vertices - [0, 0.001, 0]


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def rows(points: NDArray[np.float64], separator: str, digits: int = 6) -> bytes:
    """Points with decimal commas."""
    lines = (separator.join(f"{value:.{digits}f}".replace(".", ",") for value in row) for row in points)
    return "\n".join(lines).encode()


# --- Decimal commas ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"", b"642\n", b"X Y Z\n", b"# x, y, z\n", b"//X;Y;Z\n"])
@pytest.mark.parametrize("separator", [" ", "\t", ";", "; ", "  "])
def test_decimal_commas_are_read(separator: str, head: bytes, tmp_path: Path) -> None:
    found = read_raw(write(tmp_path, "a.xyz", head + rows(POINTS, separator)))
    np.testing.assert_allclose(found.points, POINTS, atol=1e-6)
    assert found.notes == ("decimal commas were read as points",)


def test_decimal_commas_of_millimetres_within_quotes(tmp_path: Path) -> None:
    quoted = "\n".join(",".join(f'"{value:.3f}"'.replace(".", ",") for value in row) for row in 1000 * POINTS)
    found = read_raw(write(tmp_path, "a.csv", ("x,y,z\n" + quoted).encode()))
    np.testing.assert_allclose(found.points, 1000 * POINTS, atol=1e-3)


@given(st.lists(st.tuples(*[st.floats(-2, 2)] * 3), min_size=2, max_size=8), st.sampled_from(" \t;"), st.integers(1, 8))
def test_commas_and_points_are_the_same_numbers(points: list[tuple[float, ...]], separator: str, digits: int) -> None:
    from lvdreg.scan.readers.table import read_text

    with_commas = rows(np.array(points), separator, digits)
    np.testing.assert_array_equal(read_text(with_commas).points, read_text(with_commas.replace(b",", b".")).points)


@pytest.mark.parametrize("text", [",5 ,25 -,5\n", "0,5 ,25 -,5\n", "0,5 ,25 -5e-1\n", "5e-1 2,5E-1 -,5\n"])
def test_decimal_commas_without_a_nought(text: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_raw(write(tmp_path, "a.xyz", text.encode())).points, [[0.5, 0.25, -0.5]])


@pytest.mark.parametrize("text", ["1.5, 2.5, 3.5\n", "1.5,2.5,3.5\n", "1,2,3\n", "  1, 10,100\n", "1 ,2 ,3\n"])
def test_commas_that_separate_still_do(text: str, tmp_path: Path) -> None:
    found = read_raw(write(tmp_path, "a.csv", text.encode() * 3))
    assert found.points.shape == (3, 3) and found.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "0,5,1,25,-0,75\n2,5,3,05,4,5\n", "1,5, 2,5, 3,5\n", "1,234.5 2,345.5 3,456.5\n", "1,234.5;2,345.5;3.5\n",
        "1.234,5;2.345,5;3,5\n", "1,234 999 2,345\n",
    ],
)  # fmt: skip
def test_commas_that_could_be_either_are_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"^a\.xyz: a comma in '\S.*' could be a decimal point or a separator; export"):
        read_raw(write(tmp_path, "a.xyz", text.encode() * 3))


@pytest.mark.parametrize("name", ["ascii.ply", "mesh.obj", "ascii.stl", "mesh.off", "ascii.pcd", "table.xyz"])
def test_decimal_commas_in_every_format_of_text(name: str, tmp_path: Path) -> None:
    plain = FILES[name]()
    _, _, body = plain.partition(b"DATA ascii\n") if name.endswith("pcd") else plain.partition(b"end_header\n")
    commas = plain.replace(b".", b",") if not body else plain[: -len(body)] + body.replace(b".", b",")
    assert commas.count(b",") > 1000
    expected, found = (read_raw(write(tmp_path, name, content)) for content in (plain, commas))
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_array_equal(found.faces, expected.faces)


@pytest.mark.parametrize("vertex", ["v 1,234.5 0 0", "v 1,5 2.5 3", "v 1,2,3 4 5"])
def test_other_commas_in_obj_are_named(vertex: str, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"a comma in '1,\S*' could be"):
        read_raw(write(tmp_path, "a.obj", (vertex + "\n").encode()))


# --- Byte-order marks and line ends -----------------------------------------------------------------------------------

TEXTS = ("ascii.ply", "mesh.obj", "ascii.stl", "mesh.off", "mesh.gltf", "ascii.pcd", "table.xyz")


@pytest.mark.parametrize("name", TEXTS)
def test_byte_order_marks_in_every_format_of_text(name: str, tmp_path: Path) -> None:
    plain = FILES[name]()
    expected, text = read_raw(write(tmp_path, name, plain)), plain.decode()
    for encoding in ("utf-8-sig", "utf-16-le", "utf-16-be", "utf-32"):
        mark = "\ufeff" if encoding.endswith("e") else ""
        for suffix in ("", ".other"):
            if name.endswith((".xyz", ".off")) and suffix:
                continue  # nothing but its name tells what a table is
            found = read_raw(write(tmp_path, name + suffix, (mark + text).encode(encoding)))
            np.testing.assert_array_equal(found.points, expected.points)
            np.testing.assert_array_equal(found.faces, expected.faces)


def test_a_mark_before_binary_ply(tmp_path: Path) -> None:
    expected = read_raw(write(tmp_path, "a.ply", FILES["binary.ply"]()))
    found = read_raw(write(tmp_path, "b.ply", b"\xef\xbb\xbf" + FILES["binary.ply"]()))
    np.testing.assert_array_equal(found.points, expected.points)


def test_a_mark_before_the_first_vertex_loses_none(tmp_path: Path) -> None:
    found = read_raw(write(tmp_path, "a.obj", b"\xef\xbb\xbfv 0 0 0\nv 1 0 0\nv 0 1 0\nv 9 9 9\nf 1 2 3\n"))
    np.testing.assert_array_equal(found.points, [[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]])


LINE_ENDS = [b"\n", b"\r\n", b"\r", b"\n\r"]


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("first", [b"\n\0\0\x3f", b"\r\0\0\x3f", b"\r\n\0\x3f", b"\n\r\0\x3f"])
def test_line_ends_of_binary_headers(end: bytes, first: bytes, tmp_path: Path) -> None:
    body = first + np.linspace(0.1, 1, 8, dtype="<f4").tobytes()
    head = PLY_HEAD.replace(b"ascii", b"binary_little_endian") + b"comment \xc3\x85 element vertex 7\nend_header\n"
    points = np.frombuffer(body, "<f4").reshape(3, 3).astype(np.float64)
    np.testing.assert_array_equal(read_raw(write(tmp_path, "a.ply", head.replace(b"\n", end) + body)).points, points)
    head = b"# .PCD\nVERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nPOINTS 3\nDATA binary\n"
    np.testing.assert_array_equal(read_raw(write(tmp_path, "a.pcd", head.replace(b"\n", end) + body)).points, points)


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("name", TEXTS)
def test_line_ends_of_text(name: str, end: bytes, tmp_path: Path) -> None:
    plain = FILES[name]()
    comment = {"ply": b"", "gltf": b"", "stl": b""}.get(name.partition(".")[2], b"# a comment\n")
    expected = read_raw(write(tmp_path, name, plain))
    found = read_raw(write(tmp_path, name, (comment + plain).replace(b"\n", end)))
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_array_equal(found.faces, expected.faces)


# --- Binary STL -------------------------------------------------------------------------------------------------------

HEADERS = [
    b"solid", b"solid a facet normal", b"glTF", b"ply\n", b"OFF\n3 1 0", b"v 1 2 3\n", b"\xef\xbb\xbfsolid",
    b"\xff\xfe", b"BLENDER", b"PK\x03\x04", b"\x93NUMPY", b"<?xml", b"VERSION .7\n",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("spare", [0, 1, 2, 80])
def test_binary_stl_whatever_its_header_says(header: bytes, spare: int, tmp_path: Path) -> None:
    plain = BALL.export(file_type="stl")
    expected = read_raw(write(tmp_path, "a.stl", plain))
    found = read_raw(write(tmp_path, "b.stl", header.ljust(80, b"\0") + plain[80:] + bytes(spare)))
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_array_equal(found.faces, expected.faces)
    words = f"{spare} bytes after the {len(BALL.faces)} triangles of the header were passed over"
    assert found.notes == ((words,) if spare else ())


def test_spare_bytes_of_stl_without_its_suffix(tmp_path: Path) -> None:
    data = b"solid".ljust(80) + BALL.export(file_type="stl")[80:] + b"\0\0"
    assert read_raw(write(tmp_path, "a.bin", data)).points.shape == POINTS.shape


# --- Archives and folders ---------------------------------------------------------------------------------------------


def archive(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name in names:
            opened.writestr(name, "x")
    return stream.getvalue()


ARCHIVES = [
    (("[Content_Types].xml", "3D/3dmodel.model"), "a 3MF model; export it as STL, PLY or OBJ"),
    (("[Content_Types].xml", "word/document.xml"), "a Word document; give the file itself"),
    (("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook; export its table as CSV"),
    (("archive/data.pkl", "archive/version"), "a PyTorch file; save its arrays as npz"),
    (("notes.txt.doc", "in/Scan.OBJ"), "a zip archive of Scan.OBJ and 1 more; unpack it and give Scan.OBJ"),
    (("a.xyzzy",), "a zip archive of a.xyzzy; unpack it and give what is in it"),
    ((), "an empty zip archive; unpack it and give what is in it"),
]


@pytest.mark.parametrize(("names", "words"), ARCHIVES, ids=[words[:12] for _, words in ARCHIVES])
def test_archives_are_named(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    for name in ("a.usdz", "a.npz", "a.ply"):
        with pytest.raises(ScanError) as caught:
            read_raw(write(tmp_path, name, archive(*names)))
        assert str(caught.value) == f"{name}: expected a 3D scan, got {words}"


def test_archives_of_models_and_photos_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "smpl.zip", archive("readme.txt", "models/basicmodel_f.pkl"))
    with pytest.raises(BodyError, match=r"got a zip archive of basicmodel_f\.pkl and 1 more; unpack it and give basic"):
        read_model(path)
    path = write(tmp_path, "photos.zip", archive("one.jpg", "two.jpg"))
    with pytest.raises(PhotoError, match=r"expected an image, got a zip archive of one\.jpg and 1 more; unpack it and"):
        read_photo(path)


def test_folders_without_a_scan_say_what_is_in_them(tmp_path: Path) -> None:
    write(tmp_path, "a.docx", archive("word/document.xml"))
    write(tmp_path, "b.3mf", archive("3D/3dmodel.model"))
    with pytest.raises(
        ScanError, match=r"got a folder with only \.3mf, \.docx in it; name a scan, or a folder of them"
    ):
        read_raw(tmp_path)
    with pytest.raises(PhotoError, match=r"got a folder with only \.3mf, \.docx in it; name a photo, or a folder of"):
        read_photo(tmp_path)
    write(tmp_path, "c.ply", b"ply")
    with pytest.raises(ScanError, match=r"expected a scan file, got a folder; name a file in it, such as c\.ply$"):
        read_raw(tmp_path)


# --- Wild numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["-2", "nan", "inf", "1e300", "2.5", "-1e18"])
@pytest.mark.parametrize("first", [True, False])
def test_counts_of_lists_in_text(count: str, first: bool, tmp_path: Path) -> None:
    faces = [f"{count} 0 1 2", "3 0 1 2"] if first else ["3 0 1 2", f"{count} 0 1 2"]
    head = PLY_HEAD + b"element face 2\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n"
    with pytest.raises(ScanError, match=r"expected (lists|whole numbers)"):
        read_raw(write(tmp_path, "a.ply", head + "\n".join(faces).encode()))


@pytest.mark.parametrize("far", [1e6, 1e12, 1e14])
@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("at", [0, 641])
def test_one_far_vertex_costs_no_faces(far: float, used: bool, at: int) -> None:
    points, faces = POINTS.copy(), np.array(BALL.faces)
    if used:
        points[at] = far
    else:
        points = np.insert(points, at, far, axis=0)
        faces = np.where(faces >= at, faces + 1, faces)
    found = clean_scan(scan_from_arrays(points, faces))
    assert found.faces is not None and len(found.faces) >= len(faces) - 6
    assert any("far away" in note for note in found.notes)


def test_models_beyond_single_precision_are_refused(tmp_path: Path) -> None:
    from lvdreg.body.files import body_arrays, load_body_data
    from tests.conftest import make_toy_body
    from tests.fabricate import fabricate_arrays, write_model

    arrays = fabricate_arrays("mano")
    for value, words in ((1e39, r"numbers up to 1e\+06, got 1e\+39"), (1e30, r"got 1e\+30")):
        wild = arrays["v_template"].copy()
        wild[5, 1] = value
        with pytest.raises(BodyError, match=f"expected v_template with .*{words}"):
            read_model(write_model(arrays | {"v_template": wild}, tmp_path / "a", "npz"))
    toy = body_arrays(make_toy_body())
    toy["shapedirs"] = toy["shapedirs"].astype(np.float64) + 1e39
    np.savez(tmp_path / "toy.npz", **toy)
    with pytest.raises(BodyError, match="too large for single precision"):
        load_body_data(tmp_path / "toy.npz")


def test_buffers_named_by_percent_encoding(tmp_path: Path) -> None:
    write(tmp_path, "körper scan.bin", np.eye(3, dtype="<f4").tobytes())
    path = write(tmp_path, "a.gltf", gltf(buffers=[{"uri": "k%C3%B6rper%20scan.bin", "byteLength": 36}]))
    np.testing.assert_array_equal(read_scan(path).points, np.eye(3))
    path = write(tmp_path, "b.gltf", gltf(buffers=[{"uri": "n" * 1500}]))
    with pytest.raises(ScanError, match=r"its data file 'n+' is missing"):
        read_scan(path)


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def structured() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, points=POINTS, colors=np.zeros(len(POINTS), [("r", "u1"), ("g", "u1")]))
    return stream.getvalue()


BROKEN: dict[str, Callable[[], bytes]] = {
    "item size 0.npy": lambda: header((42, 3), "|S0") + bytes(1000),
    "70 dimensions.npy": lambda: header((1,) * 70) + bytes(8),
    "nothing of many.npy": lambda: header((0, 10**21)),
    "structured.npz": structured,
    "structure of nothing.npz": lambda: structured().replace(b"('r', '|u1'), ('g', '|u1')", b"".ljust(26)),
    "count.pcd": lambda: b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 99999999999\nPOINTS 1\nDATA ascii\n0 0 0\n",
    "superscript.ply": lambda: PLY_HEAD.replace(b"3", "1²".encode(), 1) + b"end_header\n0 0 0\n",
    "digits.ply": lambda: PLY_HEAD.replace(b"vertex 3", b"vertex " + b"9" * 5000) + b"end_header\n0 0 0\n",
    "nan.ply": lambda: (
        PLY_HEAD.replace(b"ascii", b"binary_little_endian")
        + b"element face 1\nproperty list float int vertex_indices\nend_header\n"
        + bytes(36) + struct.pack("<f", float("nan")) + bytes(12)
    ),
    "none.pts": lambda: b"0\n1 2 3\n",
    "deep.gltf": lambda: b'{"asset": {}, "nodes": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    "text.gltf": lambda: json.dumps({"asset": {"version": "2.0"}, "nodes": "none", "scenes": [{}]}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_line(name: str, tmp_path: Path, in_little_memory: None) -> None:
    with pytest.raises(ScanError) as caught:
        read_scan(write(tmp_path, name, BROKEN[name]()))
    assert str(caught.value).startswith(f"{name}: ") and "\n" not in str(caught.value)


# --- Pipes at the command line ----------------------------------------------------------------------------------------


def named(pipe: Path, name: str) -> str:
    """A folder in which a file of that name is the pipe."""
    folder = pipe.parent / f"with {name}"
    folder.mkdir()
    (folder / name).symlink_to(pipe)
    return str(folder)


def paired(pipe: Path) -> str:
    """Weights whose files both are the pipe."""
    for suffix in (".json", ".safetensors"):
        pipe.with_name(f"net{suffix}").symlink_to(pipe)
    return str(pipe.with_name("net.safetensors"))


PHOTO = str(Path(__file__).parent.parent / "assets" / "examples" / "person.jpg")
COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "register": lambda pipe: ["register", str(pipe)],
    "hands": lambda pipe: ["hands", str(pipe)],
    "image": lambda pipe: ["image", str(pipe)],
    "mask": lambda pipe: ["image", PHOTO, "--mask", str(pipe)],
    "settings": lambda pipe: ["register", "none.ply", "--config", str(pipe)],
    "config": lambda pipe: ["config", str(pipe)],
    "results": lambda pipe: ["register", str(pipe), "--out", named(pipe, "results.csv")],
    "models add": lambda pipe: ["models", "add", str(pipe)],
    "augment": lambda pipe: ["augment", str(pipe), "--registrations", str(pipe.parent)],
    "registrations": lambda pipe: ["augment", PHOTO, "--registrations", named(pipe, "results.csv")],
    "preview": lambda pipe: ["augment", "--preview", named(pipe, "manifest.json")],
    "rigged": lambda pipe: ["evaluate", "rigged", str(pipe)],
    "keypoints": lambda pipe: ["image", PHOTO, "--keypoints", str(pipe)],
    "lock": lambda pipe: ["register", str(pipe), "--out", named(pipe, ".lvdreg.lock")],
    "plan": lambda pipe: ["augment", "--characters", "1", "--out", named(pipe, "plan.json")],
    "table": lambda pipe: ["evaluate", "synthetic", "--out", named(pipe, "table.json")],
    "start": lambda pipe: ["train", "hand-detector", "--start", paired(pipe), "--steps", "1"],
    "data": lambda pipe: ["train", "voxel", "--data", named(pipe, "manifest.json"), "--steps", "1"],
}


@pytest.mark.skipif(os.name != "posix", reason="pipes in folders are POSIX's")
@pytest.mark.parametrize(
    ("command", "kind"), [*((one, kind) for one in COMMANDS for kind in ("pipe", "device")), ("start", "folder")]
)
def test_no_command_waits_for_a_pipe(command: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    signal.alarm(300)  # which ends a test that waits, whatever it waits for
    done = CliRunner().invoke(app, COMMANDS[command](strange(kind, tmp_path)))
    signal.alarm(0)
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit | type(None))
    assert "Traceback" not in done.output and "fault in lvdreg" not in done.output
    assert len(done.stderr.splitlines()) == 1


# --- Settings and JSON ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_settings_and_json_in_any_unicode(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.toml", 'quality = "fast"\n[register]\nnum_points = 5000\n'.encode(encoding))
    assert read_file(path)["register"] == Settings(quality="fast", num_points=5000)
    assert read_json(write(tmp_path, "a.json", '{"a": "é"}'.encode(encoding))) == {"a": "é"}


def test_settings_with_decimal_commas_are_told_so(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"a\.toml: expected TOML .*; write numbers with a decimal point, not a comma$"
    ):
        read_file(write(tmp_path, "a.toml", b"outlier_distance_mm = 12,5\n"))
    for text in (b"a = 1979-99-99\n", b"a = " + b"[" * 5000, b"\xff"):
        with pytest.raises(UsageError, match=r"a\.toml"):
            read_file(write(tmp_path, "a.toml", text))
