"""One person, photographed from all around in several lights, and scanned: the arrays of a dataset."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.augment.plan import Asked
from lvdreg.augment.seeds import Seeds
from lvdreg.body.model import BodyModel
from lvdreg.dataset import IMAGE_CHANNELS, Arrays, encode_normals, encode_rest, part_type
from lvdreg.synth.camera.light import Lights, draw_lights
from lvdreg.synth.camera.render import Rendered, render
from lvdreg.synth.camera.view import Cameras, framing, yaw_sweep
from lvdreg.synth.draw import Draw
from lvdreg.synth.scanner import SynthConfig, scan_points
from lvdreg.synth.subjects import Subjects

Renderer = Callable[[Subjects, Cameras, Lights, int], Rendered]
RowsT = TypeVar("RowsT", Cameras, Lights)

BATCH = 8
"""Pictures taken at once; fixed, so that nothing depends on it."""
PITCH = 0.09
"""One sigma of how far cameras look down or up, radians."""
WEAK_SHARE = 0.25
DISTANCE = (1.8, 6.0)
"""Nearest and farthest camera, metres; a share of the sweeps is in weak perspective, infinitely far."""
FILL = (0.78, 0.93)
"""Share of the picture that the person takes."""
REST_MARGIN = 0.1
"""So far beyond the mean body its clothes may reach, metres."""
SENSOR_KINDS = ("closed", "ring", "fused", "single")


def rest_box(body: BodyModel) -> NDArray[np.float64]:
    """Return (2, 3) the box of all places on the mean person, clothes included, metres."""
    places = body.data.v_template.astype(np.float64)
    return np.round(np.stack([places.min(0) - REST_MARGIN, places.max(0) + REST_MARGIN]), 3)


def photograph(subjects: Subjects, asked: Asked, seeds: Seeds, box: NDArray[np.float64], take: Renderer) -> Arrays:
    """Take all pictures of one version.

    Args:
        subjects: The person, a batch of one.
        asked: How many views and lights, their size, and what is kept.
        seeds: Of the version.
        box: See ``rest_box``.
        take: Renders; ``render`` itself but for tests.

    Returns:
        Arrays of N = views * lights pictures, the lights of a view in a row.
    """
    cameras, yaw = draw_cameras(subjects, asked, Draw(1, seeds.generator("cameras")))
    rows = torch.arange(asked.views * asked.lights, device=yaw.device) // asked.lights
    cameras = chosen(cameras, rows)
    lights = draw_lights(Draw(len(rows), seeds.generator("lights")), yaw[rows])
    parts: list[Arrays] = []
    for batch in torch.arange(len(rows), device=yaw.device).split(BATCH):
        cameras_now, lights_now = chosen(cameras, batch), chosen(lights, batch)
        rendered = take(subjects.chosen(torch.zeros_like(batch)), cameras_now, lights_now, asked.size)
        parts.append(picture_arrays(rendered, asked.channels, box) | light_arrays(cameras_now, lights_now))
    out = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    numbers = np.arange(len(rows), dtype=np.int32)
    return out | {"view": numbers // asked.lights, "light": numbers % asked.lights}


def draw_cameras(subjects: Subjects, asked: Asked, draw: Draw) -> tuple[Cameras, Float[Tensor, " V"]]:
    """Place cameras evenly around a person, from a random one on; one height and distance for all, framed each."""
    points = subjects.outer.vertices
    first, pitch = draw.uniform(-math.pi, math.pi)[:, 0], PITCH * draw.normal()[:, 0].clamp(-2.5, 2.5)
    nearness = draw.uniform(1 / DISTANCE[1], 1 / DISTANCE[0])[:, 0]
    perspective = torch.where(draw.chance(WEAK_SHARE)[:, 0], 0.0, nearness)
    middle = (points.amin(1) + points.amax(1)) / 2
    cameras = yaw_sweep(middle, asked.views, first, pitch, torch.ones_like(pitch), perspective, asked.size)
    cameras = framing(
        points.expand(asked.views, -1, -1), cameras, asked.size, draw.uniform(*FILL)[:, 0].expand(asked.views)
    )
    turn = torch.arange(asked.views, device=first.device) * (2 * math.pi / asked.views)
    return cameras, first + turn


def chosen(rows: RowsT, index: Tensor) -> RowsT:
    """Return some of the cameras, or of the lights."""
    return replace(rows, **{name: values[index] for name, values in vars(rows).items()})


def picture_arrays(rendered: Rendered, channels: tuple[str, ...], box: NDArray[np.float64]) -> Arrays:
    """Turn pictures into what is stored of them."""
    mask = to_numpy(rendered.mask)
    kind = part_type(rendered.joints.shape[1])
    made: dict[str, Callable[[], NDArray[Any]]] = {
        "image": lambda: np.rint(255 * to_numpy(rendered.image).clip(0, 1)).astype(np.uint8),
        "mask": lambda: np.rint(255 * to_numpy(rendered.alpha).clip(0, 1)).astype(np.uint8),
        "depth": lambda: np.where(mask, to_numpy(rendered.depth), np.inf).astype(np.float16),
        "normals": lambda: encode_normals(to_numpy(rendered.normals) * mask[..., None]),
        "parts": lambda: np.where(mask, to_numpy(rendered.labels), np.iinfo(kind).max).astype(kind),
        "rest": lambda: encode_rest(to_numpy(rendered.rest), mask, box),
    }
    kept: Arrays = {name: made[name]() for name in IMAGE_CHANNELS if name in channels}
    return kept | {"joints_px": to_numpy(rendered.joints).astype(np.float32)}


def light_arrays(cameras: Cameras, lights: Lights) -> Arrays:
    """Return cameras and lights, a row for each picture."""
    named: dict[str, Cameras | Lights] = {"camera": cameras, "light": lights}
    return {
        f"{name}_{key}": to_numpy(values).astype(np.float32)
        for name, rows in named.items()
        for key, values in vars(rows).items()
    }


def scan(subjects: Subjects, asked: Asked, seeds: Seeds) -> Arrays:
    """Scan one version with the sensor that was asked for; see ``sensors.scan_points``."""
    shares = tuple(float(asked.sensor == kind) for kind in SENSOR_KINDS)
    config = SynthConfig() if asked.sensor == "mixed" else SynthConfig(view_probabilities=shares)
    points, normals, valid = scan_points(subjects.outer, asked.points, seeds.generator("scanner"), config)
    return {
        "scan_points": to_numpy(points[0]).astype(np.float32),
        "scan_normals": encode_normals(to_numpy(normals[0])),
        "scan_valid": to_numpy(valid[0]),
    }


def to_numpy(values: Tensor) -> NDArray[Any]:
    """Return a tensor's values as an array."""
    array: NDArray[Any] = values.detach().cpu().numpy()
    return array


__all__ = ["Renderer", "draw_cameras", "photograph", "render", "rest_box", "scan"]
