"""Geometry of glTF that is packed by Draco or meshopt, as their libraries unpack it, in a process of its own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def draco(data: bytes, attributes: dict[str, int]) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Unpack a mesh of Draco.

    Args:
        data: As KHR_draco_mesh_compression has it.
        attributes: Number in the packed mesh by name.

    Returns:
        Values (P, C) by the names of the attributes, and triangles (F, 3).
    """
    import DracoPy

    mesh = DracoPy.decode(data)
    found = {name: np.asarray(mesh.get_attribute_by_unique_id(number)["data"]) for name, number in attributes.items()}
    faces = getattr(mesh, "faces", None)
    corners = np.zeros((0, 3), np.int64) if faces is None else np.asarray(faces, np.int64).reshape(-1, 3)
    return {name: values.reshape(len(values), -1) for name, values in found.items()}, corners


def meshopt(data: bytes, count: int, stride: int, mode: str, filter_name: str) -> bytes:
    """Unpack a buffer view of EXT_meshopt_compression into ``count * stride`` bytes.

    Args:
        data: The packed bytes.
        count: Elements.
        stride: Bytes of each.
        mode: ATTRIBUTES, TRIANGLES or INDICES.
        filter_name: NONE, OCTAHEDRAL, QUATERNION or EXPONENTIAL.
    """
    import meshopt as library

    kind = None if filter_name == "NONE" else filter_name
    return np.ascontiguousarray(library.decode_gltf_buffer(data, count, stride, mode, kind)).tobytes()
