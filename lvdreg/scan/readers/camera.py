"""Depth cameras: intrinsics, lens and pose, from a preset or a JSON file; and the points that their pixels see."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.base.files import read_json
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.base.text import brief, shown
from lvdreg.geometry.frames import is_reflected, is_similarity, scale_of, transform_points

MILLIMETRES, METRES = 0.001, 1.0
"""Metres for each unit of what is stored in whole numbers, and in floating point: what nearly all cameras write."""
_MAX_SIDE = 65_536
_MAX_TERMS = 8
_ITERATIONS = 20
_NAMES_IN_FILES = {
    "width": ("width", "w"), "height": ("height", "h"), "fx": ("fx",), "fy": ("fy",),
    "cx": ("cx", "ppx"), "cy": ("cy", "ppy"), "matrix": ("K", "intrinsic_matrix", "intrinsics", "camera_matrix"),
    "distortion": ("distortion", "distortion_coefficients", "coeffs"), "depth_scale": ("depth_scale",),
    "along_ray": ("along_ray",), "T_world_camera": ("T_world_camera",), "camera": ("camera",),
}  # fmt: skip


@dataclass(frozen=True)
class DepthCamera:
    """A pinhole camera with a lens; x right, y down, z away from it, the centre of the first pixel at (0, 0).

    Attributes:
        width, height: Of the image that the intrinsics are of, pixels; images of other sizes and the same shape are
            taken for scaled ones.
        fx, fy: Focal lengths, pixels.
        cx, cy: Principal point, pixels.
        distortion: k1, k2, p1, p2, k3, k4, k5, k6 (OpenCV's order and model), or the first of them.
        depth_scale: Metres for each unit of what is stored; None: millimetres of whole numbers, metres of others.
        along_ray: Whether depth is stored along the ray of the pixel, not along z.
        T_world_camera: (4, 4) rigid pose, metres.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    depth_scale: float | None = None
    along_ray: bool = False
    T_world_camera: Float64[np.ndarray, "4 4"] = field(default_factory=lambda: np.eye(4), repr=False)

    def of_size(self, width: int, height: int) -> "DepthCamera":
        """Return the camera for images of another size.

        Raises:
            ScanError: they are of another shape, and so not the same image scaled.
        """
        across, down = width / self.width, height / self.height
        if abs(across / down - 1) > 0.01:
            raise ScanError(
                f"expected a depth image of {self.width} x {self.height} pixels or its shape, as its camera has, got "
                f"{width} x {height}; give the camera of this image"
            )
        cx, cy = (self.cx + 0.5) * across - 0.5, (self.cy + 0.5) * down - 0.5
        return replace(self, width=width, height=height, fx=self.fx * across, fy=self.fy * down, cx=cx, cy=cy)

    def points(self, depth: NDArray[Any]) -> Float64[np.ndarray, "P 3"]:
        """Return the point in the world that each pixel with a depth sees.

        Args:
            depth: (H, W) as stored; 0, negative, not finite, and the largest number of 16 bits say that nothing was
                seen.

        Returns:
            Metres, in the order of the rows.

        Raises:
            ScanError: the image is not of this camera.
        """
        camera = self.of_size(depth.shape[1], depth.shape[0])
        is_whole = depth.dtype.kind in "iu"
        seen = np.isfinite(depth) & (depth > 0) & ((depth < 65535) | (not is_whole))
        rows, columns = np.nonzero(seen)
        scale = self.depth_scale or (MILLIMETRES if is_whole else METRES)
        z = depth[rows, columns].astype(np.float64) * scale
        across, down = columns.astype(np.float64) - camera.cx, rows.astype(np.float64) - camera.cy
        x, y = camera._undistorted(across / camera.fx, down / camera.fy)
        if self.along_ray:
            z = z / np.sqrt(1 + x**2 + y**2)
        return transform_points(self.T_world_camera, np.stack([x * z, y * z, z], axis=1))

    def _undistorted(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Take the lens out of normalised coordinates, by fixed-point iteration (as OpenCV's undistortPoints)."""
        if not any(self.distortion):
            return x, y
        k1, k2, p1, p2, k3, k4, k5, k6 = (*self.distortion, *[0.0] * (_MAX_TERMS - len(self.distortion)))
        seen_x, seen_y = x, y
        for _ in range(_ITERATIONS):
            r2 = x**2 + y**2
            radial = (1 + r2 * (k4 + r2 * (k5 + r2 * k6))) / (1 + r2 * (k1 + r2 * (k2 + r2 * k3)))
            shift_x, shift_y = 2 * p1 * x * y + p2 * (r2 + 2 * x**2), p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
            x, y = (seen_x - shift_x) * radial, (seen_y - shift_y) * radial
        return x, y


PRESETS: dict[str, DepthCamera] = {
    # OpenNI's nominal values.
    "kinect-v1": DepthCamera(640, 480, 575.82, 575.82, 319.5, 239.5),
    # libfreenect2's values of the infrared camera.
    "kinect-v2": DepthCamera(512, 424, 365.456, 365.456, 254.878, 205.395, (0.0905474, -0.26819, 0, 0, 0.0950862)),
    # Factory values of one device, narrow field of view, unbinned (Azure-Kinect-Sensor-SDK, issue 1488).
    "kinect-azure": DepthCamera(
        640, 576, 503.85, 503.74, 321.5, 328.9,
        (4.724737, 3.209223, 0.000124, 0.000006, 0.170596, 5.055860, 4.775780, 0.886494),
    ),
    # Factory values of single devices; each resolution has a field of view of its own.
    "realsense-d400-480": DepthCamera(640, 480, 385.1, 385.1, 319.5, 239.5),
    "realsense-d400-720": DepthCamera(1280, 720, 639.0, 639.0, 639.5, 359.5),
    "realsense-d400-848": DepthCamera(848, 480, 423.4, 423.4, 423.5, 239.5),
    # From the fields of view that makers state: 70 degrees; 26 and 24 mm, and 23 mm of the front camera, on 35 mm film.
    "realsense-l515": DepthCamera(1024, 768, 731.2, 731.2, 511.5, 383.5),
    "iphone-12-lidar": DepthCamera(256, 192, 192.3, 192.3, 127.5, 95.5),
    "iphone-14-lidar": DepthCamera(256, 192, 177.5, 177.5, 127.5, 95.5),
    "iphone-truedepth": DepthCamera(640, 480, 434.5, 434.5, 319.5, 239.5),
}  # fmt: skip
"""Nominal cameras: those of single devices differ by some per cent, and so do sizes across the line of sight."""


def camera_of(given: str | Path) -> DepthCamera:
    """Return the camera of a preset's name, or of a JSON file.

    Raises:
        ScanError: there is neither, or the file holds no camera.
    """
    if str(given) in PRESETS:
        return PRESETS[str(given)]
    path = Path(given).expanduser()
    try:
        found = read_json(path)
    except OSError as error:
        known = f"a JSON file with its intrinsics, or one of {', '.join(PRESETS)}"
        raise ScanError(f"camera {shown(str(given))}: expected {known}; got none ({brief(error)})") from None
    except ValueError as error:
        raise ScanError(f"{path.name}: expected JSON with the intrinsics of a camera ({brief(error)})") from None
    try:
        return camera_from(found)
    except ScanError as error:
        raise ScanError(f"{path.name}: {error}") from None


def camera_files(given: str | Path | None) -> FileHashes:
    """Return the SHA-256 of the file that describes a camera; of a preset, and where there is none, nothing."""
    if given is None or str(given) in PRESETS:
        return {}
    path = Path(given).expanduser()
    return {f"camera/{path.name}": sha256_of(path)}


def camera_from(found: Any, default: DepthCamera | None = None) -> DepthCamera:
    """Return the camera that an object of JSON describes.

    Args:
        found: ``width``, ``height``, and ``fx``, ``fy``, ``cx``, ``cy`` or a matrix ``K``, as nested rows or as nine
            numbers by rows or columns (Open3D, Record3D, ARKit); or ``camera``: a preset's name. ``distortion``,
            ``depth_scale``, ``along_ray`` and ``T_world_camera`` may follow.
        default: What holds where nothing is said.

    Raises:
        ScanError: something is missing, or is no such number.
    """
    if not isinstance(found, dict):
        raise ScanError(f"expected an object with the intrinsics of a camera, got {shown(found)}")
    lower = {str(name).lower(): value for name, value in found.items()}
    told = {key: lower[n.lower()] for key, names in _NAMES_IN_FILES.items() for n in names if n.lower() in lower}
    if "camera" in told:
        if not isinstance(told["camera"], str) or told["camera"] not in PRESETS:
            raise ScanError(f"expected one of {', '.join(PRESETS)} as camera, got {shown(told['camera'])}")
        default = PRESETS[told["camera"]]
    if "matrix" in told:
        told |= _from_matrix(told["matrix"])
    changes: dict[str, Any] = {name: _number(told, name, 0.0) for name in ("fx", "fy", "cx", "cy") if name in told}
    changes |= {name: int(_number(told, name, 1.0, _MAX_SIDE)) for name in ("width", "height") if name in told}
    missing = [name for name in ("width", "height", "fx", "fy", "cx", "cy") if name not in changes]
    if missing and default is None:
        raise ScanError(f"expected width, height, fx, fy, cx and cy of a camera, or camera; {missing[0]} is missing")
    if told.get("depth_scale") is not None:
        changes["depth_scale"] = _number(told, "depth_scale", 1e-9)
    if "along_ray" in told:
        changes["along_ray"] = bool(told["along_ray"])
    if told.get("distortion") is not None:
        changes["distortion"] = tuple(_numbers(told["distortion"], "distortion", range(_MAX_TERMS + 1)).tolist())
    if "T_world_camera" in told:
        changes["T_world_camera"] = _pose(told["T_world_camera"])
    camera = DepthCamera(**changes) if default is None else replace(default, **changes)
    if min(camera.fx, camera.fy) <= 0:
        raise ScanError("expected focal lengths above 0 pixels")
    return camera


def _number(told: Mapping[str, Any], name: str, least: float, most: float = 1e6) -> float:
    value = told[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ScanError(f"expected a number from {least:g} to {most:g} as {name}, got {shown(value)}")
    return float(value)


def _numbers(value: Any, name: str, lengths: range) -> NDArray[np.float64]:
    """Return a list of numbers, or of lists of them, as one row."""
    try:
        row = np.array(value, np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        row = np.zeros(lengths.stop)
    if len(row) not in lengths or not np.isfinite(row).all():
        raise ScanError(f"expected {lengths.stop - 1} numbers as {name}, got {shown(value)}")
    return row


def _from_matrix(value: Any) -> dict[str, float]:
    """Return focal lengths and principal point of nine numbers; those by columns have zeros where rows have these."""
    matrix = _numbers(value, "K", range(9, 10)).reshape(3, 3)
    matrix = matrix if not matrix[2, :2].any() else matrix.T
    if matrix[2, :2].any() or matrix[1, 0] or matrix[2, 2] != 1:
        raise ScanError(f"expected K as [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {shown(value)}")
    return {"fx": matrix[0, 0], "fy": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}


def _pose(value: Any) -> NDArray[np.float64]:
    pose = _numbers(value, "T_world_camera", range(16, 17)).reshape(4, 4)
    if not is_similarity(pose) or is_reflected(pose) or abs(scale_of(pose) - 1) > 1e-3:
        raise ScanError("expected T_world_camera as a rotation and a translation in metres, [[R, t], [0, 0, 0, 1]]")
    return pose
