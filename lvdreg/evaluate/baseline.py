"""What anyone could do without a network: a Chamfer fit from the rest pose, without correspondences.

It is given more than lvdreg asks for, the unit and the up axis, and the best of several yaws (of a hand: unit, side and
orientation); then it runs the very same refinement and displacement as lvdreg, so that only the start differs.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams, Posed
from lvdreg.descent.boxes import METRES_PER_UNIT, UPS
from lvdreg.fit.correspond import Target, target_of
from lvdreg.fit.displace import displace
from lvdreg.fit.scan import refine_body
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.frames import similarity, transform_points
from lvdreg.geometry.metrics import Surface, point_to_surface
from lvdreg.pipeline.config import RegisterConfig
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import Scan, oriented_points, read_scan

NUM_YAWS = 4
"""From so many headings people are tried; the first faces the world's +Z."""


def chamfer_from_rest(
    source: Path | Scan,
    model: str = "anny+d",
    unit: str = "m",
    frame: FloatArray = UPS["+y"],
    num_yaws: int = NUM_YAWS,
    heights: tuple[float, ...] = (0.5,),
    config: RegisterConfig | None = None,
) -> dict[str, NDArray[Any]]:
    """Fit a body to a scan from its rest pose; of all starts the one that ends nearest to the scan's points counts.

    Args:
        source: The scan, or its file.
        model: Name of a body, with ``+d`` for displacements.
        unit: Unit of the scan's coordinates; one of ``normalise.METRES_PER_UNIT``.
        frame: (3, 3) from the scan's axes to the body's; a reflection is in it for a left hand.
        num_yaws: How many headings are tried, in equal steps about Y.
        heights: In each, where the boxes of body and scan meet: their feet (0), centres (0.5), tops (1). A hand with a
            forearm is at the top.
        config: Settings of the stages; the defaults of ``register`` when None.

    Returns:
        ``vertices`` and ``body_vertices`` (V, 3) and ``joints`` (J, 3) in the scan's frame and unit, ``faces``, and
        ``verdict`` and ``reason`` in words.
    """
    config = config or RegisterConfig()
    body = load_body(model.removesuffix("+d"))
    faces = body.faces.cpu().numpy()
    scan = source if isinstance(source, Scan) else read_scan(source)
    target, T_world_scan = _target(clean_scan(scan, config.clean), unit, frame, config)
    yaws = [2 * np.pi * i / num_yaws for i in range(num_yaws)]
    starts = [rest_start(body, target, yaw, height) for yaw in yaws for height in heights]
    fits = [refine_body(body, start, target, None, config.refine) for start in starts]
    surfaces = [Surface(_numpy(_posed(body, fit).vertices), faces) for fit in fits]
    gaps = [point_to_surface(Surface(target.points), surface).scan_to_model_mm for surface in surfaces]
    best = fits[int(np.argmin(gaps))]
    final = displace(body, best, target, config.displace) if model.endswith("+d") else best
    T_scan_world = np.asarray(np.linalg.inv(T_world_scan), np.float64)
    return {
        "vertices": transform_points(T_scan_world, _numpy(_posed(body, final).vertices)),
        "body_vertices": transform_points(T_scan_world, _numpy(_posed(body, best).vertices)),
        "joints": transform_points(T_scan_world, _numpy(_posed(body, best).joints)),
        "faces": faces,
        "verdict": np.array("fitted"),
        "reason": np.array(f"start {int(np.argmin(gaps))} of {len(starts)}, {min(gaps):.1f} mm from the scan"),
    }


def rest_start(body: BodyModel, target: Target, yaw: float, height: float = 0.5) -> Fit:
    """Return the mean body in its rest pose, turned about Y by ``yaw`` radians, its box on the scan's box.

    Both boxes have their centres above each other, and meet at a share of their heights: centres at 0.5, tops at 1.
    """
    params = BodyParams.zeros(body)
    pose = params.pose.clone()
    pose[0, 1] = yaw
    turned = replace(params, pose=pose)
    with torch.no_grad():
        low, high = body(turned).vertices.aminmax(dim=0)
    share = params.transl.new_tensor([0.5, height, 0.5])
    first, last = (torch.from_numpy(end).to(params.transl) for end in (target.points.min(0), target.points.max(0)))
    transl = torch.lerp(first, last, share) - torch.lerp(low, high, share)
    return Fit(replace(turned, transl=transl), 1.0, float("inf"), False)


def _target(scan: Scan, unit: str, frame: FloatArray, config: RegisterConfig) -> tuple[Target, FloatArray]:
    """Sample a cleaned scan as ``register`` does; returns the target and ``T_world_scan``."""
    points, normals = oriented_points(scan, config.clean.num_points)
    centre = (scan.points.min(0) + scan.points.max(0)) / 2
    factor = METRES_PER_UNIT[unit]
    T_world_scan = similarity(factor, frame, -factor * frame @ centre)
    return target_of(scan, points, normals, T_world_scan), T_world_scan


@torch.no_grad()
def _posed(body: BodyModel, fit: Fit) -> Posed:
    posed: Posed = body(fit.params)
    return posed


def _numpy(tensor: torch.Tensor) -> FloatArray:
    return np.asarray(tensor.detach().cpu().numpy(), np.float64)
