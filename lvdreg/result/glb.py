"""Write a mesh as binary glTF 2.0, which browsers, phones and Blender open: metres, Y up, as the world is."""

import json
import struct
from pathlib import Path
from typing import Any

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.geometry.mesh import mesh_normals

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
UNSIGNED_INT, FLOAT = 5125, 5126


def write_glb(path: Path, vertices: FloatArray, faces: IntArray, colour: FloatArray, about: str) -> None:
    """Write vertices (V, 3) in metres and faces (F, 3), in one matt ``colour`` (3,), sRGB 0 to 1."""
    positions, normals = vertices.astype("<f4"), mesh_normals(vertices, faces).astype("<f4")
    corners = faces.astype("<u4")
    blocks = [(positions, ARRAY_BUFFER), (normals, ARRAY_BUFFER), (corners, ELEMENT_ARRAY_BUFFER)]
    binary, views = b"", []
    for array, target in blocks:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes, "target": target})
        binary += array.tobytes()
    low, high = positions.min(0).tolist(), positions.max(0).tolist()
    accessors: list[dict[str, Any]] = [
        {"bufferView": 0, "componentType": FLOAT, "count": len(vertices), "type": "VEC3", "min": low, "max": high},
        {"bufferView": 1, "componentType": FLOAT, "count": len(vertices), "type": "VEC3"},
        {"bufferView": 2, "componentType": UNSIGNED_INT, "count": corners.size, "type": "SCALAR"},
    ]
    # glTF's colours are linear.
    linear = [*(float(c) ** 2.2 for c in colour), 1.0]
    surface = {"baseColorFactor": linear, "metallicFactor": 0.0, "roughnessFactor": 0.9}
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2, "material": 0}
    document = {
        "asset": {"version": "2.0", "generator": about},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "body"}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": surface}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    path.write_bytes(_container(json.dumps(document, separators=(",", ":")).encode(), binary))


def _container(text: bytes, binary: bytes) -> bytes:
    """Join both chunks, each filled up to a multiple of four bytes."""
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
