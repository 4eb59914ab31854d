"""What the viewer of a page draws: surfaces and the scan with values at each vertex, packed into text.

Places take 16 bits along each axis of their box: 0.02 mm of a person. All arrays are little-endian, deflated, base64.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.report.subject import SIGMAS, Shown
from lvdreg.result.draw_scan import SCAN_COLOUR
from lvdreg.result.sheet import BODY_COLOUR, SIGMA_COLOURS, sigma_top_mm

STEPS = 65_535
DISTANCE = "distance to the surface"
DISTANCE_COLOURS = (
    (33, 82, 150),
    (102, 160, 207),
    (190, 215, 232),
    (240, 240, 235),
    (244, 200, 150),
    (222, 124, 62),
    (150, 60, 20),
)
"""From inside over the surface to outside: blue and brown, which the colour-blind tell apart."""
SURFACE_COLOUR = np.array([0.50, 0.74, 0.62])


@dataclass(frozen=True)
class Layer:
    """A mesh, or points, that can be shown and hidden.

    Attributes:
        key: Short name.
        title: For people.
        points: (P, 3).
        colour: (3,) 0 to 1.
        faces: (F, 3); None: points.
        normals: (P, 3) of points.
        colours: (P, 3) of its own, 0 to 255.
        values: (P,) each, millimetres, by what they are called.
    """

    key: str
    title: str
    points: FloatArray
    colour: FloatArray
    faces: IntArray | None = None
    normals: FloatArray | None = None
    colours: NDArray[np.uint8] | None = None
    values: Mapping[str, FloatArray] = field(default_factory=dict)


def layers_of(shown: Shown) -> list[Layer]:
    """Return what there is to show, from inside to outside: that is the order in which the viewer draws."""
    faces, scan = shown.faces, shown.scan
    of_body = {} if shown.body_sigma_mm is None else {SIGMAS["sigma"]: shown.body_sigma_mm}
    layers = []
    if not shown.is_photo:
        layers.append(Layer("body", "Body under the clothes", shown.body, BODY_COLOUR, faces, values=of_body))
    of_surface = {SIGMAS[name]: values for name, values in shown.sigmas_mm.items()}
    title = "Body" if shown.is_photo else "Registered surface"
    layers.append(Layer("surface", title, shown.surface, SURFACE_COLOUR, faces, values=of_surface))
    if scan is not None and shown.distance_mm is not None:
        about = {DISTANCE: shown.distance_mm}
        layers.append(Layer("scan", "Scan", scan.points, SCAN_COLOUR, scan.faces, scan.normals, scan.colors, about))
    return layers


def scene_of(shown: Shown) -> dict[str, Any]:
    """Return what the viewer reads, as JSON has it."""
    found = shown.surface[np.isfinite(shown.surface).all(1)]
    low, high = (found.min(0), found.max(0)) if len(found) else (np.zeros(3), np.ones(3))
    layers = layers_of(shown)
    views = [{"name": camera.name, "axes": camera.rotation.round(6).tolist()} for camera in shown.cameras]
    return {
        "centre": ((low + high) / 2).round(5).tolist(),
        "radius": round(float(np.linalg.norm(high - low)) / 2, 5),
        "views": views,
        "maps": {"sigma": SIGMA_COLOURS.tolist(), "distance": DISTANCE_COLOURS},
        "topology": packed_faces(shown.faces),
        "layers": [_packed(layer, shown) for layer in layers],
    }


def _packed(layer: Layer, shown: Shown) -> dict[str, Any]:
    low, size, places = packed_places(layer.points)
    out: dict[str, Any] = {
        "key": layer.key,
        "title": layer.title,
        "colour": layer.colour.round(3).tolist(),
        "count": len(layer.points),
        "low": low.tolist(),
        "size": size.tolist(),
        "points": places,
        "values": [_packed_values(name, values) for name, values in layer.values.items()],
    }
    if layer.faces is not None:
        out["faces"] = "topology" if layer.faces is shown.faces else packed_faces(layer.faces)
    elif layer.normals is not None:
        out["normals"] = packed(np.round(127 * layer.normals.clip(-1, 1)).astype(np.int8))
    if layer.colours is not None:
        out["colours"] = packed(np.ascontiguousarray(layer.colours, np.uint8))
    return out


def _packed_values(name: str, values: FloatArray) -> dict[str, Any]:
    """Pack values (P,), with the range that colours cover: of distances as far inside as outside of the surface."""
    low, high = float(values.min()), float(values.max())
    steps = np.round((values - low) / max(high - low, 1e-9) * STEPS).astype("<u2")
    is_signed, top = name == DISTANCE, sigma_top_mm(np.abs(values))
    return {
        "name": name,
        "map": "distance" if is_signed else "sigma",
        "from": -top if is_signed else 0.0,
        "to": top,
        "low": low,
        "high": high,
        "steps": packed(steps),
    }


def packed_places(points: FloatArray) -> tuple[FloatArray, FloatArray, str]:
    """Pack points (P, 3): the lower end (3,) of their box, its size (3,), and steps of 1 / 65535 of it.

    Those that are no numbers lie at the lower end.
    """
    finite = points[np.isfinite(points).all(1)]
    low, high = (finite.min(0), finite.max(0)) if len(finite) else (np.zeros(3), np.ones(3))
    size = np.maximum(high - low, 1e-9)
    steps = np.nan_to_num(np.round((points - low) / size * STEPS)).clip(0, STEPS).astype("<u2")
    return low, size, packed(steps)


def packed_faces(faces: IntArray) -> dict[str, Any]:
    """Pack faces (F, 3), each number as what it is more than the one before it, which deflates to two thirds."""
    bits = 16 if faces.size == 0 or faces.max() <= STEPS else 32
    numbers = faces.reshape(-1).astype(f"<u{bits // 8}")
    return {"bits": bits, "count": len(faces), "steps": packed(np.diff(numbers, prepend=numbers.dtype.type(0)))}


def packed(array: NDArray[Any]) -> str:
    """Return an array's bytes, deflated, as base64."""
    return base64.b64encode(zlib.compress(array.tobytes(), 6)).decode("ascii")
