"""glTF by hand: node transforms, skins, strips, sparse values, and where its data may come from."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from real_data import real_path

from lvdreg.base.errors import ScanError
from lvdreg.base.provenance import sha256_of
from lvdreg.scan.read import read_raw
from lvdreg.scan.readers import gltf

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0.5], [0, 1, 0.25]])


@pytest.fixture(scope="module")
def mesh() -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(subdivisions=2)
    ball.apply_scale([0.3, 1.7, 0.2])
    return ball


def gltf_document(mesh: trimesh.Trimesh) -> tuple[dict[str, Any], bytes]:
    """A mesh under two nodes, the upper with a matrix, the lower with translation, rotation and scale."""
    points = mesh.vertices.astype("<f4").tobytes()
    faces = mesh.faces.astype("<u2").tobytes()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"children": [1], "matrix": [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 5, 6, 7, 1]},
            {"mesh": 0, "translation": [1, 2, 3], "rotation": [0, 0.6, 0, 0.8], "scale": [2, 3, 0.5]},
            {"mesh": 0},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 2}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(mesh.vertices), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": mesh.faces.size, "type": "SCALAR"},
            {"bufferView": 2, "componentType": 5126, "count": len(mesh.vertices), "type": "VEC3"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": len(points)},
            {"buffer": 0, "byteOffset": len(points), "byteLength": len(faces)},
            {"buffer": 0, "byteOffset": len(points) + len(faces), "byteLength": len(points)},
        ],
        "buffers": [{"byteLength": 2 * len(points) + len(faces)}],
    }
    return document, points + faces + mesh.vertex_normals.astype("<f4").tobytes()


def glb_bytes(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def test_gltf_transforms(mesh: trimesh.Trimesh, tmp_path: Path) -> None:
    document, binary = gltf_document(mesh)
    found = gltf.read_gltf(glb_bytes(document, binary))
    upper = np.array(document["nodes"][0]["matrix"]).reshape(4, 4).T
    rotation = trimesh.transformations.quaternion_matrix([0.8, 0, 0.6, 0])[:3, :3]
    moved = mesh.vertices * [2, 3, 0.5] @ rotation.T + [1, 2, 3]
    expected = moved @ upper[:3, :3].T + upper[:3, 3]
    np.testing.assert_allclose(found.points, expected, atol=1e-5)
    np.testing.assert_array_equal(found.faces, mesh.faces)
    assert found.normals is not None
    T_world_mesh = upper[:3, :3] @ rotation * [2, 3, 0.5]
    true_normals = mesh.vertex_normals @ np.linalg.inv(T_world_mesh)
    for normals in (found.normals, true_normals):
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(found.normals, true_normals, atol=1e-6)

    embedded = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    (tmp_path / "part 1.bin").write_bytes(binary)
    for uri in (embedded, "part%201.bin"):
        document["buffers"][0]["uri"] = uri
        (tmp_path / "a.gltf").write_text(json.dumps(document), encoding="utf-8")
        raw = read_raw(tmp_path / "a.gltf")
        np.testing.assert_array_equal(raw.points, found.points)
        assert raw.files == ({} if uri is embedded else {"part 1.bin": sha256_of(tmp_path / "part 1.bin")})
    for uri in ("../secret.bin", "/etc/passwd", "http://example.org/a.bin"):
        document["buffers"][0]["uri"] = uri
        with pytest.raises(ScanError, match="outside its own folder"):
            gltf.read_gltf(json.dumps(document).encode(), tmp_path)


def test_gltf_skin(mesh: trimesh.Trimesh) -> None:
    document, binary = gltf_document(mesh)
    joints = np.zeros((len(mesh.vertices), 4), "u1")
    joints[:, 1] = 1
    weights = np.tile(np.array([0.25, 0.75, 0, 0], "<f4"), (len(mesh.vertices), 1))
    binds = np.stack([np.eye(4), np.eye(4)]).astype("<f4")
    binds[1, 3, :3] = [0, 0, -1]  # column by column: a translation
    for array, kind, code in ((joints, "VEC4", 5121), (weights, "VEC4", 5126), (binds, "MAT4", 5126)):
        view = {"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes}
        document["bufferViews"].append(view)
        index = len(document["bufferViews"]) - 1
        document["accessors"].append({"bufferView": index, "componentType": code, "count": len(array), "type": kind})
        binary += array.tobytes()
    document["meshes"][0]["primitives"][0]["attributes"] |= {"JOINTS_0": 3, "WEIGHTS_0": 4}
    document["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [100, 0, 0]},
        {"translation": [1, 0, 0]},
        {"translation": [0, 4, 1]},
    ]
    document["scenes"][0]["nodes"] = [0, 1, 2]
    document["skins"] = [{"joints": [1, 2], "inverseBindMatrices": 5}]
    found = gltf.read_gltf(glb_bytes(document, binary))
    # The node of a skinned mesh is ignored; joint 2 moved by (0, 4, 1) from its bind pose at (0, 0, 1).
    np.testing.assert_allclose(found.points, mesh.vertices + [0.25, 3, 0], atol=1e-5)


def test_gltf_strips_fans_points_and_sparse() -> None:
    points = SQUARE.astype("<f4").tobytes()
    changed = np.array([[7, 7, 7]], "<f4").tobytes()
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": mode} for mode in (5, 6, 0, 1)]}],
        "accessors": [
            {
                "bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3",
                "sparse": {
                    "count": 1,
                    "indices": {"bufferView": 1, "componentType": 5121},
                    "values": {"bufferView": 2},
                },
            }
        ],
        "bufferViews": [{"buffer": 0}, {"buffer": 0, "byteOffset": 48}, {"buffer": 0, "byteOffset": 49}],
        "buffers": [{}],
    }  # fmt: skip
    found = gltf.read_gltf(glb_bytes(document, points + b"\x03" + changed))
    np.testing.assert_array_equal(found.faces, [[0, 1, 2], [3, 2, 1], [4, 5, 6], [4, 6, 7]])
    np.testing.assert_array_equal(found.points, np.tile([*SQUARE[:3], [7, 7, 7]], (3, 1)))


def test_positions_of_named_nodes_agree_with_trimesh(mesh: trimesh.Trimesh, tmp_path: Path) -> None:
    document, binary = gltf_document(mesh)
    document["nodes"][0]["name"], document["nodes"][1]["name"] = "upper", "lower"
    data = glb_bytes(document, binary)
    found = gltf.node_positions(data)
    (tmp_path / "a.glb").write_bytes(data)
    graph = trimesh.load(tmp_path / "a.glb").graph
    assert set(found) == {"upper", "lower"}
    for name, position in found.items():
        np.testing.assert_allclose(position, graph[name][0][:3, 3], atol=1e-9)
    with pytest.raises(ScanError, match="malformed"):
        gltf.node_positions(b'{"nodes": 3}')


@pytest.mark.real
@pytest.mark.parametrize("side", ["left", "right"])
def test_joints_of_real_hands_lie_within_the_mesh_as_read(side: str) -> None:
    """The skin is applied: in bind pose or not, the points are around the joints."""
    path = real_path(f"hands/rigged_{side}.glb")
    positions = gltf.node_positions(path.read_bytes())
    joints = {name: at for name, at in positions.items() if "finger" in name or "thumb" in name or name == "wrist"}
    assert len(joints) == 25
    graph = trimesh.load(path).graph
    raw = read_raw(path)
    for name, position in joints.items():
        np.testing.assert_allclose(position, graph[name][0][:3, 3], atol=1e-6)
        distance = np.linalg.norm(raw.points - position, axis=1).min()
        assert 0.004 < distance < 0.025, name
