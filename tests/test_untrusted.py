"""Files made to take memory, time or what is not theirs: each refused in one line, within a few dozen megabytes."""

import base64
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lvdreg.base.errors import CheckpointError, DatasetError, LvdregError, PhotoError, ScanError
from lvdreg.base.files import MAX_JSON_VALUES, parse_json
from lvdreg.body.files import load_body_data
from lvdreg.body.licensed import read_model
from lvdreg.dataset import Dataset
from lvdreg.descent.checkpoint import load_network, save_network
from lvdreg.photo.mask import read_mask
from lvdreg.photo.model import photo_from_array, read_photo
from lvdreg.scan.model import read_scan
from lvdreg.scan.readers import gltf as gltf_reader
from lvdreg.scan.readers.gltf import read_gltf
from lvdreg.scan.readers.raw import fan
from lvdreg.voxel.network import VoxelNet, VoxelNetConfig

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
