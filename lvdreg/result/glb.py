"""Write binary glTF 2.0, which browsers, phones, engines and Blender open: metres, Y up, as the world is."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.geometry.mesh import mesh_normals

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
_COMPONENTS = {"u1": 5121, "u2": 5123, "u4": 5125, "f4": 5126}
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Glb:
    """A document that grows: arrays and images go into its one buffer, all else into ``document``."""

    def __init__(self, about: str) -> None:
        """Begin; ``about`` says what wrote it."""
        self.document: dict[str, Any] = {"asset": {"version": "2.0", "generator": about}, "scene": 0}
        self._blocks: list[bytes] = []
        self._length = 0

    def add(self, name: str, item: dict[str, Any]) -> int:
        """Append to one of the document's lists, such as ``nodes``; returns the number there."""
        self.document.setdefault(name, []).append(item)
        return len(self.document[name]) - 1

    def array(
        self, values: NDArray[Any], kind: str, target: int | None = None, *, extent: bool = False, unit: bool = False
    ) -> int:
        """Store rows of an array; returns the number of its accessor.

        Args:
            values: (N,) or (N, C) with C of 2, 3, 4 or 16; matrices column by column.
            kind: Type of its numbers: u1, u2, u4 or f4; rows are filled to four bytes by the caller's choice of C.
            target: What for: ``ARRAY_BUFFER`` or ``ELEMENT_ARRAY_BUFFER``; None of matrices.
            extent: Whether to say between what they lie, as positions must.
            unit: Whether whole numbers stand for 0 to 1.
        """
        table = np.ascontiguousarray(values, f"<{kind}")
        view = self.view(table.tobytes(), target)
        width = 1 if table.ndim == 1 else table.shape[1]
        item = {"bufferView": view, "componentType": _COMPONENTS[kind], "count": len(table), "type": _TYPES[width]}
        if extent:
            rows = table.reshape(len(table), width)
            item |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        return self.add("accessors", item | ({"normalized": True} if unit else {}))

    def view(self, content: bytes, target: int | None = None) -> int:
        """Store bytes, as those of an image; returns the number of their view."""
        item = {"buffer": 0, "byteOffset": self._length, "byteLength": len(content)}
        content += b"\0" * (-len(content) % 4)
        self._blocks.append(content)
        self._length += len(content)
        return self.add("bufferViews", item if target is None else item | {"target": target})

    def surface(self, vertices: FloatArray, faces: IntArray, normals: FloatArray) -> dict[str, Any]:
        """Store a mesh (V, 3), (F, 3) with unit normals (V, 3); returns the primitive, to which more may be added."""
        # Vertices without faces have none, and glTF knows no zero ones.
        normals = np.where(normals.any(1, keepdims=True), normals, [0.0, 1.0, 0.0])
        attributes = {
            "POSITION": self.array(vertices, "f4", ARRAY_BUFFER, extent=True),
            "NORMAL": self.array(normals, "f4", ARRAY_BUFFER),
        }
        return {"attributes": attributes, "indices": self.array(faces.ravel(), "u4", ELEMENT_ARRAY_BUFFER)}

    def matt(self, colour: FloatArray) -> int:
        """Store a matt material of one colour (3,), sRGB 0 to 1; returns its number."""
        # glTF's colours are linear.
        linear = [*(float(c) ** 2.2 for c in colour), 1.0]
        surface = {"baseColorFactor": linear, "metallicFactor": 0.0, "roughnessFactor": 0.9}
        return self.add("materials", {"pbrMetallicRoughness": surface})

    def save(self, path: Path) -> None:
        """Write the file."""
        self.document["buffers"] = [{"byteLength": self._length}]
        text = json.dumps(self.document, separators=(",", ":")).encode()
        path.write_bytes(_container(text, b"".join(self._blocks)))


def write_glb(path: Path, vertices: FloatArray, faces: IntArray, colour: FloatArray, about: str) -> None:
    """Write vertices (V, 3) in metres and faces (F, 3), in one matt ``colour`` (3,), sRGB 0 to 1."""
    glb = Glb(about)
    mesh = glb.add(
        "meshes",
        {"primitives": [glb.surface(vertices, faces, mesh_normals(vertices, faces)) | {"material": glb.matt(colour)}]},
    )
    glb.document["scenes"] = [{"nodes": [glb.add("nodes", {"mesh": mesh, "name": "body"})]}]
    glb.save(path)


def _container(text: bytes, binary: bytes) -> bytes:
    """Join both chunks, each filled up to a multiple of four bytes."""
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
