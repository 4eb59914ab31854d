"""Meshes with pictures on them (OBJ with MTL, glTF, PLY with a texture file), read by trimesh."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST = 2048
"""Pictures are brought down to this many pixels a side: a person fills a few hundred of a photo."""
FORMATS = (".obj", ".glb", ".gltf", ".ply")


@dataclass(frozen=True)
class Pictured:
    """A mesh whose vertices are split where its pictures are.

    Attributes:
        points: (M, 3) the file's frame and unit.
        faces: (F, 3).
        uv: (M, 2), (0, 0) the lower left corner.
        image_of: (M,) which of the images.
        images: Each (H, W, 3) 8-bit sRGB.
    """

    points: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64]
    image_of: NDArray[np.int64]
    images: tuple[Tensor, ...]


def read_pictured(path: Path) -> Pictured | None:
    """Read a mesh with its pictures; None where the file has none or they cannot be read."""
    if path.suffix.lower() not in FORMATS:
        return None
    import trimesh

    try:
        scene = trimesh.load_scene(path, process=False)
        meshes = [mesh for mesh in scene.dump() if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)]
        parts = [_part(mesh) for mesh in meshes]
    # A scan is still a scan when a foreign reader stumbles over its pictures: any of its errors means "none".
    except Exception:  # noqa: BLE001
        return None
    if not any(part[2] for part in parts):
        return None
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Pictured(
        np.concatenate([np.asarray(mesh.vertices, np.float64) for mesh in meshes]),
        np.concatenate([np.asarray(mesh.faces, np.int64) + start for mesh, start in zip(meshes, starts, strict=False)]),
        np.concatenate([part[0] for part in parts]),
        np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]),
        tuple(part[1] for part in parts),
    )


def _part(mesh: Any) -> tuple[NDArray[np.float64], Tensor, bool]:
    """Return uv and picture of one mesh, and whether it has a picture of its own, not one colour only."""
    material = getattr(mesh.visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uv = getattr(mesh.visual, "uv", None)
    # Without a picture trimesh makes one of 2 by 2 pixels of its own.
    if image is None or max(image.size) < 4 or uv is None or len(uv) != len(mesh.vertices):
        colour = getattr(material, "main_color", np.array([160, 160, 160, 255]))
        flat = torch.from_numpy(np.asarray(colour, np.uint8)[None, None, :3].copy())
        return np.zeros((len(mesh.vertices), 2)), flat, False
    image = image.convert("RGB")
    image.thumbnail((LARGEST, LARGEST))
    return np.asarray(uv, np.float64), torch.from_numpy(np.array(image, np.uint8)), True
