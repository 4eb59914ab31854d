"""Pictures of results from any side, and turntables: light as in the preview, without window or driver."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.base.text import shown as shown_text
from lvdreg.base.threads import one_torch_thread, side_by_side
from lvdreg.geometry.mesh import mesh_normals
from lvdreg.report.scene import DISTANCE, DISTANCE_COLOURS, Layer, layers_of
from lvdreg.report.subject import SIGMAS, Shown
from lvdreg.result.draw_scan import Camera, Frame, Shape, pictures, point_spacing
from lvdreg.result.sheet import Window, sigma_colours, sigma_top_mm

What = Literal["scan", "surface", "body", "sigma", "distance"]
WHATS: dict[What, tuple[str, str]] = {
    "scan": ("scan", ""),
    "surface": ("surface", ""),
    "body": ("body", ""),
    "sigma": ("surface", SIGMAS["sigma"]),
    "distance": ("scan", DISTANCE),
}
"""Layer, and what it is coloured by."""
Film = Literal["gif", "mp4"]
FRAMES, FRAMES_A_SECOND = 36, 12
"""Of a turntable: ten degrees a picture, three seconds a turn."""
MAX_DEGREES = 360.0
ENDS = (0.0005, 0.9995)
"""Quantiles of the points that are sure to be in the picture: strays do not shrink the rest."""


def camera_of(text: str, cameras: Sequence[Camera]) -> Camera:
    """Return a view by the name of a camera, or by ``TURN`` or ``TURN,RISE``.

    These are degrees: about what points up, from the front to the person's left, and upwards.

    Raises:
        UsageError: it is none.
    """
    named = next((camera for camera in cameras if camera.name == text), None)
    if named is not None:
        return replace(named, name=text.replace(" ", "-"))
    try:
        degrees = [float(part) for part in text.split(",")]
    except ValueError:
        degrees = []
    if len(degrees) not in (1, 2) or not all(abs(each) <= MAX_DEGREES for each in degrees):
        expected = ", ".join(camera.name for camera in cameras)
        raise UsageError(f"--from: expected {expected}, or degrees such as 30 or 30,15; got {shown_text(text)}")
    return turned("_".join(f"{each:g}" for each in degrees), cameras[0], *degrees)


def turned(name: str, camera: Camera, turn: float, rise: float = 0.0) -> Camera:
    """Go around what a camera sees by degrees to the left, then up by degrees."""
    a, b = np.radians([turn, rise])
    around = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    upwards = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return Camera(name, 0, upwards @ around @ camera.rotation)


def turntable(cameras: Sequence[Camera]) -> list[Camera]:
    """Return the views of a film that goes once around."""
    return [turned(f"{i}", cameras[0], 360 * i / FRAMES) for i in range(FRAMES)]


@one_torch_thread()
def drawn(shown: Shown, what: What, cameras: Sequence[Camera], height: int) -> list[Image.Image]:
    """Draw a result from several sides, all pictures about its middle and with the same zoom.

    Args:
        shown: The result.
        what: What of it.
        cameras: From where.
        height: Of the pictures, pixels.

    Raises:
        UsageError: there is nothing of that kind to draw.
    """
    key, by = WHATS[what]
    layer = next((each for each in layers_of(shown) if each.key == key and (not by or by in each.values)), None)
    if layer is None:
        raise UsageError(f"--show {what}: {shown.saved.folder}: {shown.scan_note or 'the result has none'}")
    shape, skin = _shape(layer), coloured(layer, by)
    middle = np.quantile(shape.points, ENDS, axis=0).mean(0)
    reach = [np.quantile(np.abs((shape.points - middle) @ each.rotation[:2].T), ENDS[1], axis=0) for each in cameras]
    window = Window.around(2 * np.max(reach, axis=0), 0.3, height=height)
    todo = [(replace(each, column=0), Frame((each.rotation[:2] @ middle)[None], window)) for each in cameras]
    return side_by_side(lambda about: pictures(shape, [skin], *about)[0], todo)


def coloured(layer: Layer, by: str) -> FloatArray:
    """Return the colours (P, 3) of a layer, 0 to 1: by values, by its own colours, or one."""
    if by == DISTANCE:
        values = layer.values[by]
        top = sigma_top_mm(np.abs(values))
        at = np.linspace(-top, top, len(DISTANCE_COLOURS))
        return np.stack([np.interp(values, at, stops) / 255 for stops in np.transpose(DISTANCE_COLOURS)], -1)
    if by:
        return sigma_colours(layer.values[by], sigma_top_mm(layer.values[by])) / 255
    if layer.colours is not None:
        return layer.colours / 255
    return np.array(np.broadcast_to(layer.colour, layer.points.shape))


def _shape(layer: Layer) -> Shape:
    points, empty = layer.points, np.empty((0, 3))
    if layer.faces is not None:
        return Shape(points, layer.faces, mesh_normals(points, layer.faces), empty)
    return Shape(points, None, layer.normals, empty, point_spacing(points))


def write_film(path: Path, frames: Sequence[Image.Image], film: Film) -> None:
    """Write a film that runs in a circle: GIF, or MP4 by ffmpeg.

    Raises:
        UsageError: ffmpeg is not installed.
        OSError: ffmpeg fails, or the file cannot be written.
    """
    if film == "gif":
        first, *others = [frame.quantize(128) for frame in frames]
        first.save(path, "GIF", save_all=True, append_images=others, duration=1000 // FRAMES_A_SECOND, loop=0)
        return
    ffmpeg = find_ffmpeg()
    width, height = (size - size % 2 for size in frames[0].size)
    command = [
        ffmpeg, "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", str(FRAMES_A_SECOND), "-i", "-", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path),
    ]  # fmt: skip
    content = b"".join(np.asarray(frame.convert("RGB"))[:height, :width].tobytes() for frame in frames)
    run = subprocess.run(command, input=content, capture_output=True, check=False)
    if run.returncode:
        raise OSError(f"ffmpeg could not write {path}: {run.stderr.decode(errors='replace')[-200:]}")


def find_ffmpeg() -> str:
    """Return where ffmpeg is.

    Raises:
        UsageError: it is not installed.
    """
    found = shutil.which("ffmpeg")
    if found is None:
        raise UsageError("--turntable mp4: needs ffmpeg, which is not there; install it, or take gif")
    return found
