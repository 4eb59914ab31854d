"""Meshes with pictures on them (OBJ with MTL, glTF, PLY with a texture file), read by trimesh."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.errors import ScanError
from lvdreg.base.files import leads_outside, read_bytes

LARGEST = 2048
"""Pictures are brought down to this many pixels a side: a person fills a few hundred of a photo."""
_STUMBLES = (
    ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, OSError, EOFError,
    RuntimeError, MemoryError, SyntaxError, struct.error,
)  # fmt: skip
"""What trimesh and Pillow raise on damaged files: a scan is still a scan when they stumble over its pictures."""
MAX_BYTES = 1 << 30
"""Of each file that a mesh names."""
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
    """Read a mesh with its pictures; None where the file has none or they are damaged.

    Raises:
        ScanError: trimesh needs another package to read the file.
    """
    if path.suffix.lower() not in FORMATS:
        return None
    import trimesh
    from PIL import Image

    class Beside(trimesh.resolvers.FilePathResolver):
        """What a mesh names: plain files in its own folder, not pipes, devices or files elsewhere."""

        def get(self, name: str) -> bytes:
            if leads_outside(name.strip()):
                raise ValueError("a file outside of its folder")
            return read_bytes(path.parent / name.strip(), MAX_BYTES)

    # Looked up here: what a version of trimesh lacks is no fault of the file.
    load, dump = trimesh.load_scene, trimesh.Scene.dump
    try:
        meshes = [
            mesh
            for mesh in dump(load(path, process=False, resolver=Beside(str(path))))
            if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)
        ]
        parts = [_part(mesh) for mesh in meshes]
    except ImportError as error:
        what = f"its pictures need the package {error.name}, which is not installed"
        raise ScanError(f"{path.name}: {what}; pip install {error.name}") from error
    except (*_STUMBLES, Image.DecompressionBombError):
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


def bilinear(image: UInt8[Tensor, "H W 3"], uv: Float[Tensor, "P 2"]) -> Float[Tensor, "P 3"]:
    """Read a picture (sRGB, 8 bit) between its pixels: linear colours at uv, (0, 0) the lower left corner."""
    height, width = image.shape[:2]
    size = uv.new_tensor([width, height])
    upright = torch.stack([uv[:, 0], 1 - uv[:, 1]], -1)
    # A place on the right edge is the right edge, not the left one of the next repetition.
    place = torch.where(upright == 1, upright, upright - upright.floor()) * size - 0.5
    low = place.floor()
    share = place - low
    columns = torch.stack([low[:, 0], low[:, 0] + 1], 1).long().clamp(0, width - 1)
    rows = torch.stack([low[:, 1], low[:, 1] + 1], 1).long().clamp(0, height - 1)
    texels = to_linear(image[rows[:, :, None], columns[:, None, :]])
    across = texels[:, :, 0].lerp(texels[:, :, 1], share[:, None, :1])
    return across[:, 0].lerp(across[:, 1], share[:, 1:])


def to_linear(srgb: UInt8[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """Turn 8-bit sRGB into linear light, 0 to 1 (IEC 61966-2-1)."""
    x = srgb.float() / 255
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Float[np.ndarray, "*B 3"]) -> UInt8[np.ndarray, "*B 3"]:
    """Turn linear light into 8-bit sRGB; inverse of ``to_linear``."""
    x = np.clip(linear, 0, 1)
    return np.rint(255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)).astype(np.uint8)
