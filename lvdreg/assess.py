"""From a fit in the world frame to a result in the scan's frame: metrics, verdict and parameters by their usual
names."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.config import RegisterConfig
from lvdreg.explain import Views
from lvdreg.fit import Fit
from lvdreg.frames import transform_points
from lvdreg.geometry import closest_point_on_mesh
from lvdreg.metrics import Surface, point_to_surface
from lvdreg.normalise import Size
from lvdreg.refine import Target
from lvdreg.registration import Registration
from lvdreg.scan import Scan
from lvdreg.stages import Clock
from lvdreg.verdict import Evidence, judge

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What the stages before found out, all of it in the world frame.

    Attributes:
        fit: Body fitted to the network's vertices.
        body: Body after refinement, under the clothes.
        final: The same with displacements, or ``body`` itself.
        sigma: One-sigma per vertex, metres.
        size: Unit and factor to metres.
        T_world_scan: From the scan to the world frame.
        views: What the network saw: the axis that points up, and whether the descent came to rest.
    """

    fit: Fit
    body: Fit
    final: Fit
    sigma: FloatArray
    size: Size
    T_world_scan: FloatArray
    views: Views


def posed_vertices(body: BodyModel, params: BodyParams) -> FloatArray:
    """Pose a body and return its vertices (V, 3), world frame, metres."""
    with torch.no_grad():
        return body(params).vertices.double().numpy()


def assemble(
    scan: Scan,
    target: Target,
    body: BodyModel,
    found: Found,
    asked: dict[str, Any],
    config: RegisterConfig,
    clock: Clock,
) -> Registration:
    """Measure a registration, judge it, and bring it back to the frame and the unit of the scan.

    Args:
        scan: The cleaned scan.
        target: The scan in the world frame.
        body: The body model.
        found: What the stages found.
        asked: What the user asked for: model, unit, up, device, seed.
        config: Settings of the stages.
        clock: Seconds of the stages so far.

    Returns:
        The result, its metrics and verdict included.
    """
    surface, under = (posed_vertices(body, fit.params) for fit in (found.final, found.body))
    faces = body.faces.numpy()
    metrics = measure(target, Surface(surface, faces), Surface(under, faces), body, found, config)
    warnings = [*scan.notes, *found.fit.warnings, *found.body.warnings, *found.final.warnings]
    if not found.body.converged:
        warnings.append("the refinement was still moving when it ended")
    verdict, reason = judge(evidence(metrics, found), config.verdict)
    T_scan_world = np.linalg.inv(found.T_world_scan).astype(np.float64)
    return Registration(
        name=scan.name,
        model=str(asked["model"]),
        scan=scan,
        vertices=transform_points(T_scan_world, surface),
        body_vertices=transform_points(T_scan_world, under),
        faces=faces,
        params=named_params(body, found.final.params),
        sigma_mm=1000 * found.sigma,
        T_scan_model=T_scan_world,
        unit=found.size.unit,
        up=found.views.box.name,
        unit_is_guess=found.size.is_guess,
        metrics=metrics,
        timings=dict(clock.seconds),
        settings={**asked, **asdict(config), "up_scores": found.views.scores},
        warnings=tuple(dict.fromkeys(warnings)),
        verdict=verdict,
        reason=reason,
    )


def measure(
    target: Target, surface: Surface, under: Surface, body: BodyModel, found: Found, config: RegisterConfig
) -> dict[str, float]:
    """Return the metrics of design.md that need no truth, by names that end in their unit."""
    seen = Surface(target.points, None, target.normals)
    if target.scan_vertices is not None:
        seen = Surface(target.scan_vertices, target.scan_faces)
    final, naked = point_to_surface(seen, surface), point_to_surface(seen, under)
    to_body = closest_point_on_mesh(target.points, under.points, body.faces.numpy()).distance
    rest, _ = body.rest(found.body.params.betas)
    return {
        "point_to_surface_scan_to_registered_mm": final.scan_to_model_mm,
        "point_to_surface_registered_to_scan_mm": final.model_to_scan_mm,
        "point_to_surface_scan_to_body_mm": naked.scan_to_model_mm,
        "point_to_surface_body_to_scan_mm": naked.model_to_scan_mm,
        "seen_share": final.seen_share,
        "explained_share": float((1000 * to_body < config.verdict.explained_within_mm).mean()),
        "sigma_median_mm": float(1000 * np.median(found.sigma)),
        "fit_residual_mm": found.fit.residual_mm,
        "shape_size": float(found.body.params.betas.square().mean().sqrt()),
        "height_m": float(rest[:, 1].max() - rest[:, 1].min()),
    }


def evidence(metrics: dict[str, float], found: Found) -> Evidence:
    """Choose from the metrics what the verdict rests on."""
    return Evidence(
        scan_to_registered_mm=metrics["point_to_surface_scan_to_registered_mm"],
        registered_to_scan_mm=metrics["point_to_surface_registered_to_scan_mm"],
        explained_share=metrics["explained_share"],
        seen_share=metrics["seen_share"],
        sigma_median_mm=metrics["sigma_median_mm"],
        fit_residual_mm=metrics["fit_residual_mm"],
        shape_size=metrics["shape_size"],
        height_m=metrics["height_m"],
        converged=found.views.converged,
        size_is_guess=found.size.is_guess,
    )


def named_params(body: BodyModel, params: BodyParams) -> dict[str, NDArray[Any]]:
    """Split parameters into smplx's arguments: the root, the body's joints and the joints of each hand."""
    pose = params.pose.numpy()
    hands = {side: [i for i, name in enumerate(body.joint_names) if in_hand(name, side)] for side in ("left", "right")}
    rest = [i for i in range(1, body.num_joints) if i not in {*hands["left"], *hands["right"]}]
    named = {
        "betas": params.betas.numpy(),
        "global_orient": pose[0],
        "body_pose": pose[rest].reshape(-1),
        "left_hand_pose": pose[hands["left"]].reshape(-1),
        "right_hand_pose": pose[hands["right"]].reshape(-1),
        "transl": params.transl.numpy(),
        "scale": np.array(1.0),
    }
    if params.displacements is not None:
        named["displacements"] = params.displacements.numpy()
    return named


def in_hand(joint: str, side: str) -> bool:
    """Say whether a joint is a finger's of one side."""
    return joint.startswith(side) and joint.rstrip("123").removeprefix(f"{side}_") in {
        "index",
        "middle",
        "pinky",
        "ring",
        "thumb",
    }
