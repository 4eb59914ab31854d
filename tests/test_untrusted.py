"""Files made to take memory, time or what is not theirs: each refused in one line, within a few dozen megabytes."""

import base64
import bz2
import io
import json
import os
import pickle
import signal
import socket
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from lvdreg.base.arrays import open_npz, read_npz
from lvdreg.base.errors import BodyError, CheckpointError, DatasetError, LvdregError, PhotoError, ScanError
from lvdreg.base.files import MAX_JSON_VALUES, parse_json
from lvdreg.body import pickle_machine
from lvdreg.body.files import load_body_data
from lvdreg.body.licensed import read_model
from lvdreg.body.pickles import Unreadable, load_npz, load_pickle
from lvdreg.dataset import Dataset
from lvdreg.descent.checkpoint import load_network, save_network
from lvdreg.photo.mask import read_mask
from lvdreg.photo.model import photo_from_array, read_photo
from lvdreg.scan.model import read_scan
from lvdreg.scan.readers import gltf as gltf_reader
from lvdreg.scan.readers.gltf import read_gltf
from lvdreg.scan.readers.raw import fan
from lvdreg.voxel.network import VoxelNet, VoxelNetConfig
from tests.fabricate import chumpy_classes

MAX_MEMORY = 128 << 20


@pytest.fixture
def in_little_memory() -> Iterator[None]:
    """Let nothing take more than ``MAX_MEMORY``, nor compute for a minute, nor wait for ten."""

    def too_long(*_: Any) -> None:
        raise AssertionError("it takes too long")

    before = {number: signal.signal(number, too_long) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, 60)
    signal.alarm(600)
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)
    assert peak < MAX_MEMORY


# --- Pickles ----------------------------------------------------------------------------------------------------------

ENCODE = b"c_codecs\nencode\n"


def text(content: str) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content.encode()


def in_dictionary(value: bytes) -> bytes:
    """A pickle of {"it": value}."""
    return b"\x80\x02}" + text("it") + value + b"s."


def many_copies(count: int) -> bytes:
    """Text of 0.2 MB, and bytes made of it again and again."""
    return text("a" * 200_000) + b"q\x01" + ENCODE + b"q\x02" + b"(" + b"h\x02h\x01\x85R" * count + b"l"


def chumpy(content: dict[str, Any]) -> bytes:
    """A pickle with chumpy's objects, each given by its name and its attributes; equal ones are one."""
    made: dict[int, Any] = {}

    def built(thing: Any) -> Any:
        if not isinstance(thing, tuple):
            return thing
        if id(thing) not in made:
            made[id(thing)] = make("chumpy.reordering", thing[0])()
            vars(made[id(thing)]).update({key: built(value) for key, value in thing[1].items()})
        return made[id(thing)]

    with chumpy_classes() as make:
        return pickle.dumps({key: built(value) for key, value in content.items()}, protocol=2)


def doubled(start: Any, double: Callable[[Any], Any], times: int) -> Any:
    for _ in range(times):
        start = double(start)
    return start


def joined_with_itself(array: Any) -> Any:
    return "Concatenate", {"dterms": ["a", "b"], "a": array, "b": array}


def selections(count: int) -> dict[str, Any]:
    """Many arrays of 8 MB, all out of the same one."""
    places, source = np.zeros(1_000_000, np.uint8), np.zeros(1)
    return {f"it{i}": ("Select", {"a": source, "idxs": places}) for i in range(count)}


def sparse(shape: bytes) -> bytes:
    """A sparse matrix of a claimed shape that holds nothing."""
    number = pickle.dumps(np.zeros(0), protocol=2)[2:-1]
    place = pickle.dumps(np.zeros(0, np.int32), protocol=2)[2:-1]
    parts = text("data") + number + text("row") + place + text("col") + place + text("_shape") + shape
    return b"cscipy.sparse.coo\ncoo_matrix\n)\x81}(" + parts + b"ub"


PICKLES: dict[str, Callable[[], bytes]] = {
    "place of the memo": lambda: in_dictionary(b"]r\xff\xff\xff\x7f0N"),
    "text place of the memo": lambda: in_dictionary(b"]p99999999999\n0N"),
    "copies of text": lambda: in_dictionary(many_copies(3000)),
    "copies of lists": lambda: in_dictionary(
        b"(" + b"N" * 20_000 + b"lq\x01ccollections\nOrderedDict\nq\x020(" + b"h\x02h\x01\x85R" * 3000 + b"l"
    ),
    "classes": lambda: in_dictionary(b"(" + text("chumpy") + b"q\x010" + b"h\x01h\x01\x93" * 60_000 + b"l"),
    "steps": lambda: in_dictionary(b"(" + b"N" * (pickle_machine.MAX_STEPS + 1) + b"l"),
    "claimed bytes": lambda: in_dictionary(b"\x8e" + struct.pack("<Q", 1 << 40) + b"a"),
    "claimed bytearray": lambda: in_dictionary(b"\x96" + struct.pack("<Q", 1 << 34) + b"a"),
    "claimed frame": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "negative text": lambda: in_dictionary(b"T\xff\xff\xff\xff"),
    "long number": lambda: in_dictionary(b"L" + b"9" * 200_000 + b"L\n"),
    "tuples as key": lambda: b"}" + b")" + b"2\x86" * 60 + b"Ns.",
    "sparse matrix": lambda: in_dictionary(sparse(b"K\x18\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"\x86")),
    "joined with itself": lambda: chumpy({"it": doubled(("Ch", {"x": np.zeros(100)}), joined_with_itself, 40)}),
    "arrays of the same": lambda: chumpy(selections(40)),
    "lists of the same": lambda: chumpy({"it": ("Ch", {"x": doubled([1.0], lambda x: [x, x], 40)})}),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_take_memory_in_proportion(name: str, tmp_path: Path, in_little_memory: None) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(PICKLES[name]())
    assert path.stat().st_size < 3 << 20
    try:
        found = load_pickle(path)
    except BodyError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert found["it"] is None or isinstance(found["it"], Unreadable | list)


def test_what_pickles_share_is_built_once(tmp_path: Path) -> None:
    array = np.arange(12.0)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"a": [array] * 3, "b": array}))
    found = load_pickle(path)
    assert found["a"][0] is found["a"][2] is found["b"]


def test_deep_notes_end_in_one_line(tmp_path: Path, in_little_memory: None) -> None:
    # Calls whose argument is a call, so deep that no recursion comes to the end.
    path = tmp_path / "model.pkl"
    path.write_bytes(in_dictionary(b"N" + b"".join(b"q\x01" + ENCODE + b"h\x01\x85R" for _ in range(5_000))))
    with pytest.raises(BodyError, match="expected a pickle of a model"):
        load_pickle(path)


# --- npz --------------------------------------------------------------------------------------------------------------


def npy(shape: tuple[int, ...], descr: str = "<f8", data: bytes = b"") -> bytes:
    head = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def npz(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def zeros(megabytes: int) -> bytes:
    return npy((megabytes << 17, 1), data=bytes(megabytes << 20))


def claims_little() -> bytes:
    """An archive packed by bzip2 whose member claims 100 bytes and unpacks to a hundred million."""
    content = bytearray(npz({"f": npy((3,), data=bytes(24))}, zipfile.ZIP_STORED))
    packed = bz2.compress(bytes(150 << 20))
    start = content.index(b"f.npy") + 5
    end = content.index(b"PK\x01\x02")
    content[start:end] = packed
    content[8:10] = struct.pack("<H", zipfile.ZIP_BZIP2)
    content[18:22] = struct.pack("<I", len(packed))
    listed = start + len(packed)
    content[listed + 10 : listed + 12] = struct.pack("<H", zipfile.ZIP_BZIP2)
    content[listed + 20 : listed + 24] = struct.pack("<I", len(packed))
    where = content.index(b"PK\x05\x06")
    content[where + 16 : where + 20] = struct.pack("<I", listed)
    return bytes(content)


NPZ: dict[str, Callable[[], bytes]] = {
    "one large array": lambda: npz({"f": zeros(150)}),
    "many arrays": lambda: npz({"f": zeros(1)} | {f"v{i}": zeros(10) for i in range(16)}),
    "claimed shape": lambda: npz({"f": npy((1 << 40,))}),
    "negative shape": lambda: npz({"f": npy((-1, -1 << 40), data=bytes(64))}),
    "claimed items": lambda: npz({"f": npy((1,), "<U268435455")}),
    "nothing in many": lambda: npz({"f": npy((1 << 40,), "|S0")}),
    "packed another way": claims_little,
    "names": lambda: npz({"f": b""} | {f"a{i:06}": b"" for i in range(40_000)}, zipfile.ZIP_STORED),
    "deep header": lambda: npz({"f": npy((1,), "'" + "[" * 3000)}),
}


@pytest.fixture(scope="module")
def npz_files() -> dict[str, bytes]:
    """Made before memory is counted."""
    return {name: make() for name, make in NPZ.items()}


@pytest.mark.parametrize("name", NPZ)
def test_npz_files_take_memory_in_proportion(
    name: str, npz_files: dict[str, bytes], tmp_path: Path, in_little_memory: None
) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz_files[name])
    assert path.stat().st_size < 8 << 20
    with pytest.raises(ValueError, match=r"\w") as caught:
        read_npz(path)
    assert "\n" not in str(caught.value)
    for read in (load_body_data, read_scan):
        with pytest.raises(LvdregError):
            read(path)
    if name != "many arrays":  # of which only what is asked for counts
        with pytest.raises(BodyError):
            load_npz(path, ["f"])


def test_arrays_of_every_kind_are_read_as_numpy_wrote_them(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "floats": np.linspace(0, 1, 24).reshape(2, 3, 4), "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "none": np.zeros((0, 3)), "number": np.array(2.5), "text": np.array("{}"), "names": np.array(["é", "pelvis"]),
        "big": np.arange(6, dtype=">i4"), "bits": np.array([True, False]),
    }  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)  # type: ignore[operator]
        found = read_npz(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            assert found[key].dtype == array.dtype and found[key].flags.writeable
            np.testing.assert_array_equal(found[key], array)
    with open_npz((tmp_path / "a.npz").read_bytes()) as npz_file:
        np.testing.assert_array_equal(npz_file.array("big"), arrays["big"])


# --- glTF -------------------------------------------------------------------------------------------------------------


def gltf(**changes: Any) -> bytes:
    """One triangle of 36 bytes, and what is changed."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": 36, "uri": "data:;base64," + base64.b64encode(points).decode()}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
    }
    return json.dumps(document | changes).encode()


def large(count: int) -> dict[str, Any]:
    """A mesh of ``count`` bytes of corners between the same three points."""
    corners = base64.b64encode(bytes([0, 1, 2]) * (count // 3)).decode()
    return {
        "buffers": [
            {"uri": "data:;base64," + base64.b64encode(np.eye(3, dtype="<f4").tobytes()).decode()},
            {"uri": "data:;base64," + corners},
        ],
        "bufferViews": [{"buffer": 0}, {"buffer": 1}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5121, "count": count // 3 * 3, "type": "SCALAR"},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
    }


GLTF: dict[str, Callable[[], bytes]] = {
    "faces shown often": lambda: gltf(**large(450_000), nodes=[{"mesh": 0}] * 400),
    "normals of few points": lambda: gltf(
        **large(450_000) | {"meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}}] * 400}]}
    ),
    "meshes of nothing": lambda: gltf(
        accessors=[{"bufferView": 0, "componentType": 5126, "count": 0, "type": "VEC3"}],
        meshes=[{"primitives": [{"attributes": {"POSITION": 0}}] * 3000}],
        nodes=[{"mesh": 0}] * 3000,
    ),
    "zeros of nothing": lambda: gltf(
        accessors=[
            {"componentType": 5126, "count": 40_000_000, "type": "VEC3",
             "sparse": {"count": 1, "indices": {"bufferView": 0, "componentType": 5121}, "values": {"bufferView": 0}}}
        ]
    ),
    "claimed count": lambda: gltf(
        accessors=[{"bufferView": 0, "componentType": 5126, "count": 1 << 40, "type": "VEC3"}]
    ),
    "nodes": lambda: gltf(nodes=[{}] * 200_000),
    "values": lambda: gltf(extras=[[]] * (MAX_JSON_VALUES // 2 + 1)),
    "depth": lambda: b'{"asset": ' + b"[" * 100_000,
    "joints of many nodes": lambda: gltf(
        nodes=[{"mesh": 0, "skin": 0}] * 3000, skins=[{"joints": list(range(3000))}],
        meshes=[{"primitives": [{"attributes": {"POSITION": 0, "JOINTS_0": 0, "WEIGHTS_0": 0}}]}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GLTF)
def test_gltf_scenes_take_memory_in_proportion(
    name: str, monkeypatch: pytest.MonkeyPatch, in_little_memory: None
) -> None:
    monkeypatch.setattr(gltf_reader, "_SMALL_NUMBERS", 800_000)  # a tenth, to be quicker
    with pytest.raises(ScanError) as caught:
        read_gltf(GLTF[name]())
    assert "\n" not in str(caught.value)


def test_meshes_may_be_shown_often() -> None:
    nodes = [{"mesh": 0, "translation": [float(i), 0, 0]} for i in range(1000)]
    scan = read_gltf(gltf(nodes=nodes))
    assert scan.points.shape == (3000, 3) and scan.faces is not None and len(scan.faces) == 1000


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("my scan.bin", "my%20scan.bin"), ("my scan.bin", "my scan.bin"), ("мяч.bin", "%D0%BC%D1%8F%D1%87.bin"),
        ("扫描.bin", "扫描.bin"), ("100%.bin", "100%25.bin"), ("100%.bin", "100%.bin"), ("5%20.bin", "5%20.bin"),
        ("a#b?c.bin", "a%23b%3Fc.bin"), ("a#b?c.bin", "a#b?c.bin"), ("in/data.bin", "in%2Fdata.bin"),
        ("a+b.bin", "a+b.bin"), ("..data.bin", "..data.bin"),
    ],
)  # fmt: skip
def test_names_of_gltf_buffers(file: str, uri: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(np.eye(3, dtype="<f4").tobytes())
    np.testing.assert_array_equal(read_gltf(gltf(buffers=[{"uri": uri}]), tmp_path).points, np.eye(3))


@pytest.mark.parametrize(
    "uri",
    [
        "../data.bin", "%2e%2e/data.bin", "in/..%2F..%2Fdata.bin", "..\\data.bin", "/etc/hostname", "%2Fetc%2Fhostname",
        "file:///etc/hostname", "http://127.0.0.1/data.bin", "C:\\data.bin", "c%3A\\data.bin", "\\\\host\\share\\a.bin",
        "a%00b.bin",
    ],
)  # fmt: skip
def test_gltf_buffers_outside_the_folder_are_refused(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    (tmp_path / "data.bin").write_bytes(bytes(36))
    with pytest.raises(ScanError, match="outside its own folder"):
        read_gltf(gltf(buffers=[{"uri": uri}]), folder)


@pytest.mark.parametrize("uri", ["none.bin", "n" * 5000, "", "."])
def test_missing_gltf_buffers_are_said(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="its data file"):
        read_gltf(gltf(buffers=[{"uri": uri}]), tmp_path)


# --- Other scans, JSON, weights, datasets, photos ---------------------------------------------------------------------


def test_triangles_are_counted_before_they_are_made(in_little_memory: None) -> None:
    with pytest.raises(ScanError, match="triangles, over the limit"):
        fan(np.zeros(3, np.int64), np.array([10**9]))


PLY_HEAD = b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
OTHER_SCANS = {
    "digits.ply": PLY_HEAD.replace(b"vertex 3", b"vertex " + b"3" * 5000) + b"end_header\n0 0 0\n",
    "superscript.ply": PLY_HEAD.replace(b"vertex 3", b"vertex 3\xb2") + b"end_header\n0 0 0\n",
    "infinite.ply": PLY_HEAD.replace(b"ascii", b"binary_little_endian")
    + b"element face 1\nproperty list float int vertex_indices\nend_header\n"
    + bytes(36)
    + b"\x00\x00\x80\x7f"
    + bytes(12),
    "none.pts": b"0\n1 2 3\n4 5 6\n",
    "fields.pcd": b"FIELDS x\nSIZE 4\nTYPE F\nCOUNT 999999999999\nPOINTS 0\nDATA binary\n",
    "back.ply": b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    b"element face 3\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n-4 0 1 2\n-4\n",
}


@pytest.mark.parametrize("name", OTHER_SCANS)
def test_odd_counts_are_one_line(name: str, tmp_path: Path, in_little_memory: None) -> None:
    (tmp_path / name).write_bytes(OTHER_SCANS[name])
    with pytest.raises(ScanError):
        read_scan(tmp_path / name)


def test_json_is_counted_before_it_is_made(in_little_memory: None) -> None:
    assert parse_json(b'{"a": [1, 2]}') == {"a": [1, 2]}
    with pytest.raises(ValueError, match="values"):
        parse_json(b"[" + b"[]," * MAX_JSON_VALUES + b"[]]")
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" * 100_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"voxel": {"resolution": 100_000}}, "resolution of 100000"),
        ({"voxel": {"channels": [8, 100_000, 100_000, 100_000]}}, "do not fit the network"),
        ({"field": {"hidden": 300_000}}, "do not fit the network"),
        ({"field": {"layers": 10**12}}, "layers of 1000000000000"),
        ({"voxel": {"num_points": 10**15}}, "num_points of"),
    ],
)
def test_networks_are_no_larger_than_their_file(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    sizes = {
        "body": "anny", "voxel": {"resolution": 16, "num_points": 50, "channels": [4, 4, 4, 4]},
        "field": {"hidden": 8, "layers": 2, "rank": 4},
    }  # fmt: skip
    path = tmp_path / "net.safetensors"
    save_network(path, VoxelNet(VoxelNetConfig.from_dict(sizes), torch.zeros(10, 4)), {})
    assert isinstance(load_network(path)[0], VoxelNet)
    for part, values in change.items():
        sizes[part].update(values)  # type: ignore[attr-defined]
    path.with_suffix(".json").write_text(json.dumps({"network": sizes}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=words):
        load_network(path)


def test_headers_of_weights_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    path.with_suffix(".json").write_text("{}", encoding="utf-8")
    path.write_bytes((1 << 40).to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="its header claims 1099511627776 bytes"):
        load_network(path)


@pytest.mark.parametrize("counts", [(10**12, 1), (1, 10**12), (-1, 1)])
def test_datasets_have_no_more_rows_than_bytes(counts: tuple[int, int], tmp_path: Path, in_little_memory: None) -> None:
    shard = {"file": "shard-000000.npz", "images": counts[0], "versions": counts[1], "sha256": "", "bytes": 10}
    (tmp_path / "shard-000000.npz").write_bytes(bytes(10))
    manifest = {
        "format": "lvdreg-dataset", "version": 1, "shards": [shard], "body": {"name": "anny"},
        "asked": {"size": 8, "channels": []}, "rest_box": [[0, 0, 0], [1, 1, 1]],
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DatasetError, match="damaged"):
        Dataset(tmp_path)


def test_pixels_are_counted_whatever_pillow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.new("1", (20_000, 9_000)).save(tmp_path / "a.png")
    with pytest.raises(PhotoError, match="178 million"):
        read_photo(tmp_path / "a.png")


def test_photos_that_are_programs_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "a.eps")
    with pytest.raises(PhotoError, match="PostScript, which is a program"):
        read_photo(tmp_path / "a.eps")


# --- What is no file --------------------------------------------------------------------------------------------------


def strange(kind: str, folder: Path) -> Path:
    """A path that is there and is no file."""
    path = folder / "it"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


def beside(path: Path, suffix: str) -> Path:
    """The same under another name."""
    other = path.with_name(f"net{suffix}")
    other.symlink_to(path)
    return other


def weights(path: Path) -> None:
    beside(path, ".json")
    load_network(beside(path, ".safetensors"))


def manifest(path: Path) -> None:
    path.with_name("manifest.json").symlink_to(path)
    Dataset(path.parent)


READERS: dict[str, Callable[[Path], Any]] = {
    "scan": read_scan,
    "model": read_model,
    "body": load_body_data,
    "photo": read_photo,
    "mask": lambda path: read_mask(path, photo_from_array(np.zeros((20, 20, 3), np.uint8))),
    "weights": weights,
    "dataset": manifest,
    "buffer": lambda path: read_gltf(gltf(buffers=[{"uri": path.name}]), path.parent),
}


@pytest.mark.skipif(os.name != "posix", reason="pipes in folders are POSIX's")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused(reader: str, kind: str, tmp_path: Path, in_little_memory: None) -> None:
    path = strange(kind, tmp_path)
    with pytest.raises(LvdregError, match=rf"(got|is) a {kind}") as caught:
        READERS[reader](path)
    assert "\n" not in str(caught.value)
