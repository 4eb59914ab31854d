"""Meshes for everybody: binary PLY."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray

from lvdreg.base.shapes import Faces, Vertices

# Single precision is kept where it moves no vertex by more than this share of the mesh; far from the origin it does.
FLOAT32_SHARE = 1e-6


def write_ply(
    path: Path,
    vertices: Vertices,
    faces: Faces,
    *,
    properties: Mapping[str, Float64[np.ndarray, " V"]] | None = None,
    colours: UInt8[np.ndarray, "V 3"] | None = None,
    comments: list[str] | None = None,
) -> None:
    """Write a binary little-endian ply.

    Args:
        path: File to write.
        vertices: (V, 3), stored in double precision where single would move them by over a millionth of the extent.
        faces: (F, 3).
        properties: More of each vertex, by name, (V,) each.
        colours: (V, 3) stored as ``red``, ``green``, ``blue``.
        comments: Lines of the header.
    """
    kind = "f4" if _single_suffices(vertices) else "f8"
    columns: list[tuple[str, str, NDArray[Any]]] = [(name, f"<{kind}", vertices[:, i]) for i, name in enumerate("xyz")]
    columns += [(name, "<f4", values) for name, values in (properties or {}).items()]
    columns += [] if colours is None else [(n, "u1", colours[:, i]) for i, n in enumerate(("red", "green", "blue"))]
    vertex_table = np.empty(len(vertices), [(name, dtype) for name, dtype, _ in columns])
    for name, _, values in columns:
        vertex_table[name] = values
    face_table = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    face_table["count"], face_table["corners"] = 3, faces
    words = {"<f4": "float", "<f8": "double", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {line}" for line in comments or []),
        f"element vertex {len(vertices)}",
        *(f"property {words[dtype]} {name}" for name, dtype, _ in columns),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    # Some readers take bytes beyond ASCII in a header for damage.
    text = ("\n".join(header) + "\n").encode("ascii", "replace")
    path.write_bytes(text + vertex_table.tobytes() + face_table.tobytes())


def _single_suffices(vertices: NDArray[np.float64]) -> bool:
    if not len(vertices):
        return True
    lost = np.abs(vertices - vertices.astype(np.float32)).max()
    return bool(lost <= FLOAT32_SHARE * np.ptp(vertices, axis=0).max())
