"""From the scan's frame to the frames lvdreg works in, and back exactly.

``scan`` is the file's own frame and unit; ``world`` is metres with Y up, centred; ``unit`` is the network's box. The
network only sees the box, so up is decided before size: first the box under which the network explains the scan best
(descent/choose.py), then the unit under which the body it found is as large as people are (fit/size.py). The box of a
left hand mirrors, so that everything after it sees right hands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import Points, Transform
from lvdreg.geometry.frames import scale_of, similarity, transform_points

METRES_PER_UNIT = {"mm": 0.001, "cm": 0.01, "inch": 0.0254, "dm": 0.1, "m": 1.0}
"""Units a scan can be in; "none" stands for a scan whose scale means nothing."""

HALF_EXTENT = 0.9
"""Where the longest side of a body's bounding box ends, in box units."""

_UP_ROWS = {
    "+y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "+z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "-z": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "+x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    "-x": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
}
UPS: dict[str, NDArray[np.float64]] = {name: np.array(rows, dtype=np.float64) for name, rows in _UP_ROWS.items()}
"""Proper rotations ``R_world_scan`` that bring the named axis of the scan to +Y."""


def up_candidates(up: str) -> dict[str, Float64[np.ndarray, "3 3"]]:
    """Return the rotations to try: all six for "auto", else the one named.

    Raises:
        UsageError: no such axis.
    """
    if up == "auto":
        return UPS
    if up not in UPS:
        raise UsageError(f"--up: expected auto or one of {', '.join(UPS)}, got {up!r}")
    return {up: UPS[up]}


def check_unit(unit: str) -> str:
    """Return the unit unchanged.

    Raises:
        UsageError: no such unit.
    """
    if unit not in {"auto", "none", *METRES_PER_UNIT}:
        raise UsageError(f"--unit: expected auto, none or one of {', '.join(METRES_PER_UNIT)}, got {unit!r}")
    return unit


def check_side(side: str) -> str:
    """Return the side unchanged.

    Raises:
        UsageError: no such side.
    """
    if side not in {"auto", "left", "right"}:
        raise UsageError(f"--side: expected auto, left or right, got {side!r}")
    return side


def unit_box(
    points: Float[Tensor, "B P 3"], valid: Bool[Tensor, "B P"], half_extent: float = HALF_EXTENT
) -> tuple[Float[Tensor, " B"], Float[Tensor, "B 3"]]:
    """Find the similarity that brings each cloud into the unit box.

    Args:
        points: Clouds in any frame.
        valid: Which points count.
        half_extent: Where the longest side of the bounding box ends, in box units.

    Returns:
        ``(scale, centre)`` with ``p_unit = scale * (p - centre)``.
    """
    mask = valid[..., None]
    low = points.masked_fill(~mask, torch.inf).amin(1)
    high = points.masked_fill(~mask, -torch.inf).amax(1)
    extent = (high - low).amax(-1).clamp_min(1e-9)
    return 2 * half_extent / extent, (low + high) / 2


def box_transform(points: Points, rotation: Float64[np.ndarray, "3 3"]) -> Transform:
    """Return ``T_unit_scan``: rotate, then bring the bounding box into the network's box, as training does."""
    turned = torch.from_numpy(points @ rotation.T)[None]
    scale, centre = unit_box(turned, torch.ones(turned.shape[:2], dtype=torch.bool))
    return similarity(float(scale[0]), rotation, -float(scale[0]) * centre[0].numpy())


@dataclass(frozen=True)
class Box:
    """One hypothesis of where and how the body lies.

    Attributes:
        name: What it takes for true: the axis that points up (bodies), or the side (hands).
        T_unit_scan: (4, 4) similarity that brings the scan into the network's box, the body as in training; with a
            reflection for a left hand.
        probability: How likely it is before the network has been asked.
        group: Boxes of different groups come from different pieces of the scan.
        keep: Which points of the scan it is about (P,); None: all that lie in it.
    """

    name: str
    T_unit_scan: Transform
    probability: float = 1.0
    group: int = 0
    keep: Bool[np.ndarray, " P"] | None = None


def body_boxes(points: Points, ups: Mapping[str, Float64[np.ndarray, "3 3"]], count: int) -> list[Box]:
    """Return one box for each up axis, all of them as likely.

    Args:
        points: (P, 3) of the scan, scan frame.
        ups: Rotations ``R_world_scan`` to try, by the name of the axis they bring up.
        count: Points that the network is given; the box is that of no more.
    """
    seen = points[evenly(len(points), count)]
    return [Box(name, box_transform(seen, rotation)) for name, rotation in ups.items()]


def boxes_without(
    find_boxes: "Callable[[Points], list[Box]]", points: Points, keep: Bool[np.ndarray, " P"]
) -> list[Box]:
    """Return the boxes of a scan as it is, and those of what may be left of it without things.

    Args:
        find_boxes: Finds boxes for points.
        points: (P, 3) of the scan, scan frame.
        keep: (P,) what is left.
    """
    boxes = find_boxes(points)
    if keep.all() or not keep.any():
        return boxes
    groups = 1 + max(box.group for box in boxes)
    rest = find_boxes(points[keep])
    return [*boxes, *(replace(box, keep=keep, group=groups + box.group) for box in rest)]


def of_part(box: Box, top: float, zoom: float) -> Box:
    """Return the box of somebody ``zoom`` times as large, of whom the box's scan shows what is under the top.

    Args:
        box: Around what was scanned.
        top: Highest coordinate of the scan in it.
        zoom: Size of the whole to that of the part.
    """
    T_whole_part = similarity(1 / zoom, np.eye(3), np.array([0.0, HALF_EXTENT - top / zoom, 0.0]))
    return replace(box, T_unit_scan=T_whole_part @ box.T_unit_scan)


def around(box: Box, body_unit: Points) -> Box:
    """Return the box around a body that was found in another, turned as that is."""
    return replace(box, T_unit_scan=box_transform(body_unit, np.eye(3)) @ box.T_unit_scan)


def evenly(length: int, count: int) -> Int64[np.ndarray, " N"]:
    """Return at most ``count`` indices spread evenly along a list."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(np.int64)


def to_unit(points: Points, T_unit_scan: Transform) -> Float[Tensor, "P 3"]:
    """Bring scan points into the network's box."""
    return torch.from_numpy(transform_points(T_unit_scan, points)).float()


@dataclass(frozen=True)
class Size:
    """How big the scan is.

    Attributes:
        unit: One of METRES_PER_UNIT, or "none".
        metres_per_scan_unit: Factor from the file's numbers to metres.
        is_guess: True when nothing but the likely size of people decided it.
        body_scale: What lengths of the body are multiplied by to be true ones: 1 but for people who are smaller or
            larger than any shape of the body.
    """

    unit: str
    metres_per_scan_unit: float
    is_guess: bool
    body_scale: float = 1.0


def world_transform(T_unit_scan: Transform, size: Size) -> Transform:
    """Return ``T_world_scan``: the box's rotation (and reflection), the body's metres, the box's centre as origin."""
    factor = size.metres_per_scan_unit / (size.body_scale * scale_of(T_unit_scan))
    return np.diag([factor, factor, factor, 1.0]) @ T_unit_scan
