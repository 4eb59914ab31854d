"""Depth images of one camera, or of several that were calibrated together: PNG and TIFF of 16 or 32 bits, EXR, npy."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.arrays import read_npy
from lvdreg.base.errors import ScanError
from lvdreg.base.files import leads_outside, parse_json, read_bytes
from lvdreg.base.provenance import FileHashes
from lvdreg.base.text import brief, shown
from lvdreg.scan.readers.camera import DepthCamera, camera_from
from lvdreg.scan.readers.raw import MAX_ROWS, RawScan, check_rows

EXR = b"\x76\x2f\x31\x01"
_PNG, _NPY = b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*")
_MODES = ("I;16", "I;16B", "I;16L", "I", "F")
_LEAST_SIDE = 32
"""An array of no fewer rows and columns is an image: tables of points are narrower."""
_MAX_VIEWS = 64
_MAX_BYTES = 1 << 30


def is_depth_image(data: bytes) -> bool:
    """Tell depth images that are nothing else: EXR, TIFF, PNG of 16 bits of grey, arrays of many rows and columns."""
    if data.startswith(_NPY):
        header = data[:256].partition(b"'shape': (")[2].partition(b")")[0]
        sides = [int(side) for side in header.split(b",") if side.strip().isdigit()]
        return len(sides) == 2 and min(sides) >= _LEAST_SIDE
    return data.startswith((EXR, *_TIFF)) or (data.startswith(_PNG) and data[24:26] == b"\x10\0")


def read_depth(data: bytes, camera: DepthCamera) -> RawScan:
    """Read what one camera saw: points in metres, seen from where the camera stands.

    Raises:
        ScanError: no depth image, or of another camera.
    """
    return _cloud([camera.points(depth_of(data))], camera, {})


def read_views(data: bytes, folder: Path) -> RawScan:
    """Read a JSON file of calibrated cameras, and the depth images that it names, as one cloud in the world's frame.

    Args:
        data: ``{"views": [{"image": "front.png", "T_world_camera": [...], ...}, ...]}``; see ``camera_from`` for what
            describes a camera. What all have in common may stand beside ``views``.
        folder: Where the images are; none is read from outside it.

    Raises:
        ScanError: a camera is not described, or an image cannot be read.
    """
    try:
        document = parse_json(data)
    except ValueError as error:
        raise ScanError(f"expected JSON with views of depth cameras ({brief(error)})") from None
    views = document.get("views") if isinstance(document, dict) else None
    if not isinstance(views, list) or not 1 <= len(views) <= _MAX_VIEWS:
        raise ScanError(f"expected a list of 1 to {_MAX_VIEWS} views, got {shown(views)}")
    common = {key: value for key, value in document.items() if key != "views"}
    parts, files, count = list[NDArray[np.float64]](), FileHashes(), 0
    for number, view in enumerate(views, 1):
        try:
            if not isinstance(view, dict):
                raise ScanError(f"expected an object, got {shown(view)}")
            camera = camera_from(common | view)
            content = _image(folder, view.get("image"), files)
            parts.append(camera.points(depth_of(content)))
        except ScanError as error:
            raise ScanError(f"view {number}: {error}") from None
        count += len(parts[-1])
        check_rows("points", count, 0, 0)
    return _cloud(parts, camera, files)


def _cloud(parts: list[NDArray[np.float64]], camera: DepthCamera, files: FileHashes) -> RawScan:
    """Return the points of all views; of a single one it is known where its camera stood."""
    alone = len(parts) == 1
    viewpoint = camera.T_world_camera[:3, 3].copy() if alone else None
    return RawScan(np.concatenate(parts), viewpoint=viewpoint, files=files, unit="m", is_depth_image=alone)


def _image(folder: Path, name: Any, files: FileHashes) -> bytes:
    if not isinstance(name, str) or not name or leads_outside(name):
        raise ScanError(f"expected 'image': the name of a depth image beside the JSON file, got {shown(name)}")
    try:
        content = read_bytes(folder / name, _MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ScanError(f"its image {shown(name)} cannot be read ({brief(error)})") from None
    files[name] = hashlib.sha256(content).hexdigest()
    return content


def depth_of(data: bytes) -> NDArray[Any]:
    """Return a depth image as it is stored, (H, W) numbers.

    Raises:
        ScanError: no image of numbers.
    """
    depth = _of_array(data) if data.startswith(_NPY) else _of_exr(data) if data.startswith(EXR) else _of_picture(data)
    if depth.ndim != 2 or depth.dtype.kind not in "fiu" or min(depth.shape) < 2:
        raise ScanError(f"expected a depth image (H, W) of numbers, got {depth.dtype} of shape {depth.shape}")
    check_rows("pixels", depth.size, 0, 0)
    return depth


def _of_array(data: bytes) -> NDArray[Any]:
    try:
        return np.squeeze(read_npy(io.BytesIO(data), len(data)))
    except ValueError as error:
        raise ScanError(f"expected an array of depths, got none ({brief(error)}); save it again") from None


def _of_picture(data: bytes) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "TIFF", "PPM")) as image:
            if image.mode not in _MODES:
                raise ScanError(
                    f"expected a depth image of 16 or 32 bits of grey, got a picture of mode {image.mode}: colours "
                    "that stand for depths cannot be read; save depths, or give photos to lvdreg image"
                )
            check_rows("pixels", image.width * image.height, 0, 0, MAX_ROWS)
            return np.asarray(image)
    except (ScanError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - Pillow raises whatever a damaged file leads to
        raise ScanError(f"expected a depth image, got a damaged one or none ({brief(error)}); save it again") from None


def _of_exr(data: bytes) -> NDArray[Any]:
    from lvdreg.scan.readers.isolated import exr_depth

    return exr_depth(data)
