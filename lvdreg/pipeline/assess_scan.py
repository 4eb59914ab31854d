"""From a fit in the world frame to a result in the scan's frame: metrics, verdict and parameters by their usual
names. A left hand comes here as its mirror image, and leaves as itself."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from lvdreg.base.shapes import BoolArray, FloatArray
from lvdreg.body.landmarks import named_parts
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.body.smplx_names import named_params
from lvdreg.descent.boxes import METRES_PER_UNIT, Size
from lvdreg.descent.scan import Views
from lvdreg.fit.correspond import PosedSurface, Target, distinct, posed_surface, rim_of, trim
from lvdreg.fit.errors import ErrorEvidence, VertexErrors
from lvdreg.fit.legs import hanging_cloth
from lvdreg.fit.priors import extreme_share
from lvdreg.fit.size import rest_length
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.frames import is_reflected, transform_points
from lvdreg.geometry.mesh import SurfacePoints, closest_point_on_mesh, flipped, nearest_neighbours, on_rim
from lvdreg.geometry.metrics import Surface, point_to_surfaces
from lvdreg.pipeline.config import RegisterConfig
from lvdreg.result.scan import Registration
from lvdreg.result.verdict import Evidence, judge
from lvdreg.scan.model import Scan

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
"""From the left hand's model to the right one's, and back."""
HANGS_FROM = ("left_hip", "right_hip", "left_knee", "right_knee", "neck")
"""Joints that say where below the waist is, and whether legs hang there."""


@dataclass(frozen=True)
class FoundInScan:
    """What the stages before found out, all of it in the world frame.

    Attributes:
        predicted: The network's vertices (V, 3).
        fit: Body fitted to them.
        body: Body after refinement, under the clothes.
        final: The same with displacements, or ``body`` itself.
        sigma: One-sigma of the network's vertices, metres.
        size: Unit and factor to metres.
        T_world_scan: From the scan to the world frame.
        views: What the network saw: in which box, and whether the descent came to rest.
        looks_like: "person" or "hand" where the scan shows that rather than what was asked for.
        own: What of the scan the body was refined to.
        errors: How wrong ``body`` is likely to be.
        evidence: What that was told from; None where nothing was refined.
    """

    predicted: FloatArray
    fit: Fit
    body: Fit
    final: Fit
    sigma: FloatArray
    size: Size
    T_world_scan: FloatArray
    views: Views
    looks_like: str | None
    own: Target
    errors: VertexErrors
    evidence: ErrorEvidence | None = None


def assemble(
    scan: Scan,
    target: Target,
    body: BodyModel,
    found: FoundInScan,
    asked: dict[str, Any],
    config: RegisterConfig,
) -> Registration:
    """Measure a registration, judge it, and bring it back to the frame and the unit of the scan.

    Args:
        scan: The cleaned scan.
        target: The scan in the world frame.
        body: The body model.
        found: What the stages found.
        asked: What the user asked for: model, unit, up, device, seed.
        config: Settings of the stages.

    Returns:
        The result, its metrics and verdict included; timings and files are the caller's to add.
    """
    faces = body.faces.numpy()
    under = Surface(posed_surface(body, found.body.params).vertices, faces)
    final, errors = under, found.errors
    if found.final is not found.body:
        final = Surface(posed_surface(body, found.final.params).vertices, faces)
        errors = errors.displaced(found.own, final.points, config.displace.noise_left)
    metrics = at_true_size(measure(target, final, under, body, found, config), found.size.body_scale)
    warnings = [*scan.notes, *found.fit.warnings, *found.body.warnings, *found.final.warnings]
    warnings += size_warnings(metrics, body)
    if not found.body.converged:
        warnings.append("the refinement had not settled in its last step: look at the pose in the picture")
    to_mm = 1000 * found.size.body_scale
    T_scan_world = np.linalg.inv(found.T_world_scan).astype(np.float64)
    is_left, side = is_reflected(found.T_world_scan), side_of(found)
    confidence = (found.views.confidence if asked["side"] == "auto" else 1.0) if side else None
    by_part = part_sigmas(body.data, to_mm * found.errors.whole)
    doubted = max(by_part, key=lambda part: by_part[part])
    about = {
        "least_certain": doubted,
        "left_out_share": scan.left_out_share,
        "side_confidence": confidence,
        "looks_like": found.looks_like,
    }
    unit_is_given = asked["unit"] in METRES_PER_UNIT or (asked["unit"] == "auto" and scan.unit is not None)
    verdict, reason = judge(evidence(metrics, found, unit_is_given=unit_is_given, **about), config.verdict)
    return Registration(
        name=scan.name,
        model=str(asked["model"]),
        scan=scan,
        vertices=transform_points(T_scan_world, final.points),
        body_vertices=transform_points(T_scan_world, under.points),
        faces=flipped(faces) if is_left else faces,
        params=named_params(body, mirrored(found.final.params) if is_left else found.final.params),
        sigma_mm=to_mm * errors.whole,
        sigma_across_mm=to_mm * errors.across,
        sigma_along_mm=to_mm * errors.along,
        body_sigma_mm=to_mm * found.errors.whole,
        descent_sigma_mm=to_mm * found.sigma,
        part_sigma_mm=by_part,
        T_scan_model=T_scan_world @ MIRROR if is_left else T_scan_world,
        unit=found.size.unit,
        up="" if side else found.views.box.name,
        unit_is_guess=found.size.is_guess,
        metrics=metrics,
        timings={},
        settings={**asked, **asdict(config), "side_scores" if side else "up_scores": found.views.scores},
        warnings=tuple(dict.fromkeys(warnings)),
        verdict=verdict,
        reason=reason,
        side=side,
        side_confidence=confidence,
        joints=transform_points(T_scan_world, posed_joints(body, found.body.params)),
        steps={name: transform_points(T_scan_world, points) for name, points in steps_of(body, found).items()},
        source=scan.source,
        evidence=found.evidence,
    )


def part_sigmas(data: BodyData, sigma_mm: FloatArray) -> dict[str, float]:
    """Return the median sigma of each part of a body, or of the palm and each finger of a hand, millimetres."""
    names, part = named_parts(data)
    own = {name: sigma_mm[part == i] for i, name in enumerate(names)}
    return {name: float(np.median(sigmas)) for name, sigmas in own.items() if len(sigmas)}


def steps_of(body: BodyModel, found: FoundInScan) -> dict[str, FloatArray]:
    """Return what was found before the refinement, by the names of ``Registration.steps``; world frame."""
    fitted = found.fit.params
    vertices, joints = posed_surface(body, fitted).vertices, posed_joints(body, fitted)
    return {"descent": found.predicted, "fit": vertices, "fit_joints": joints}


@torch.no_grad()
def posed_joints(body: BodyModel, params: BodyParams) -> FloatArray:
    """Return the joints (J, 3) of a posed body, world frame, metres."""
    joints: FloatArray = body(params).joints.double().numpy()
    return joints


def side_of(found: FoundInScan) -> Literal["left", "right"] | None:
    """Return which hand was found; None for bodies, whose boxes are named after axes."""
    name = found.views.box.name
    return "left" if name == "left" else "right" if name == "right" else None


def mirrored(params: BodyParams) -> BodyParams:
    """Return the parameters that pose the mirror image (x to -x) of a body into the mirror image of what these do."""
    polar = params.transl.new_tensor([-1.0, 1.0, 1.0])
    moved = None if params.displacements is None else params.displacements * polar
    # Rotation vectors are axial: under a mirror the other two components change sign.
    return replace(params, pose=params.pose * -polar, transl=params.transl * polar, displacements=moved)


def measure(
    target: Target,
    surface: Surface,
    under: Surface,
    body: BodyModel,
    found: FoundInScan,
    config: RegisterConfig,
) -> dict[str, float]:
    """Return the metrics of design.md that need no truth, by names that end in their unit.

    Distances are those of what the body can explain: of a hand's scan neither forearm nor what it holds.
    """
    rim = rim_of(body.data.faces, body.num_vertices)
    own = own_part(target, PosedSurface(surface.points, body.data.faces, rim), config)
    seen = Surface(own.points, None, own.normals)
    if own.scan_vertices is not None:
        seen = Surface(own.scan_vertices, own.scan_faces)
    both = point_to_surfaces(seen, [surface] if under is surface else [surface, under], config.measure.cover)
    final, naked = both[0], both[-1]
    hit, hanging = hanging_of(target, PosedSurface(under.points, body.data.faces, rim), body, found, config)
    to_body = hit.distance[~hanging & (True if rim is None else ~on_rim(rim, body.data.faces[hit.face], hit.bary))]
    close = final.scan_to_model_mm, final.model_to_scan_mm
    if hanging.any():
        close = _without_hanging(target, hanging, surface)
    length = rest_length(body, found.body.params.betas)
    return {
        "point_to_surface_scan_to_registered_mm": final.scan_to_model_mm,
        "point_to_surface_registered_to_scan_mm": final.model_to_scan_mm,
        "point_to_surface_scan_to_registered_without_hanging_mm": close[0],
        "point_to_surface_registered_to_scan_without_hanging_mm": close[1],
        "point_to_surface_scan_to_body_mm": naked.scan_to_model_mm,
        "point_to_surface_body_to_scan_mm": naked.model_to_scan_mm,
        "seen_share": final.seen_share,
        "hanging_share": float(hanging.mean()),
        "explained_share": float((1000 * to_body < config.verdict.explained_within_mm).mean()),
        "sigma_mean_mm": float(1000 * np.mean(found.errors.whole)),
        "sigma_median_mm": float(1000 * np.median(found.errors.whole)),
        "sigma_p95_mm": float(1000 * np.quantile(found.errors.whole, 0.95)),
        "sigma_descent_median_mm": float(1000 * np.median(found.sigma)),
        "fit_residual_mm": found.fit.residual_mm,
        "shape_size": float(found.body.params.betas.square().mean().sqrt()),
        "shape_extremes": extreme_share(body.data, found.body.params.betas),
        "body_scale": found.size.body_scale,
        **{name: length for name in ("height_m", "length_m") if getattr(config.verdict, name) is not None},
        **({} if config.trim is None else {"hand_share": len(own.points) / len(distinct(target).points)}),
    }


def hanging_of(
    target: Target, worn: PosedSurface, body: BodyModel, found: FoundInScan, config: RegisterConfig
) -> tuple[SurfacePoints, BoolArray]:
    """Return where the body is nearest to the scan's points, and which of these (P,) are cloth around the legs."""
    hit = closest_point_on_mesh(target.points, worn.vertices, worn.faces)
    if not set(HANGS_FROM) <= set(body.joint_names):
        return hit, np.zeros(len(target.points), bool)
    joints = posed_joints(body, found.body.params)[[body.joint_names.index(name) for name in HANGS_FROM]]
    far = config.verdict.explained_within_mm / 1000
    return hit, hanging_cloth(target.points, hit, worn, joints[:2], joints[2:4], joints[4], far)


def _without_hanging(target: Target, hanging: BoolArray, surface: Surface) -> tuple[float, float]:
    """Return mean distances from scan to surface and back, mm, without hanging cloth and what lies under it."""
    assert surface.faces is not None
    there = closest_point_on_mesh(target.points[~hanging], surface.points, surface.faces).distance
    distance, nearest = nearest_neighbours(surface.points, target.points)
    back = distance[~hanging[nearest]]
    mean = (1000 * float(x.mean()) if len(x) else math.nan for x in (there, back))
    return next(mean), next(mean)


def own_part(target: Target, surface: PosedSurface, config: RegisterConfig) -> Target:
    """Return what of the scan the final surface can explain; all of it where that is nothing, or where all is body."""
    if config.trim is None:
        return target
    own = trim(target, surface, None, config.trim, margin=0.0)
    return own if len(own.points) and (own.scan_faces is None or len(own.scan_faces)) else target


def at_true_size(metrics: dict[str, float], body_scale: float) -> dict[str, float]:
    """Return metrics of a body as those of one that is so many times as large: lengths grow, all else stays."""
    return {k: v * body_scale if k.endswith(("_mm", "_m")) else v for k, v in metrics.items()}


def size_warnings(metrics: dict[str, float], body: BodyModel) -> list[str]:
    """Say where no shape of the body is as small or as large as the person or hand."""
    scale, length = metrics["body_scale"], next(metrics[name] for name in ("height_m", "length_m") if name in metrics)
    advice = "lengths are right, proportions are rough"
    return (
        []
        if scale == 1
        else [
            f"{body.data.name} has no shape of {length:.2f} m, the nearest was scaled by {scale:.2f} to fit: {advice}"
        ]
    )


def evidence(metrics: dict[str, float], found: FoundInScan, **about: Any) -> Evidence:
    """Choose from the metrics what the verdict rests on; ``about`` has what is no measure of the fit."""
    return Evidence(
        scan_to_registered_mm=metrics["point_to_surface_scan_to_registered_without_hanging_mm"],
        registered_to_scan_mm=metrics["point_to_surface_registered_to_scan_without_hanging_mm"],
        explained_share=metrics["explained_share"],
        hanging_share=metrics["hanging_share"],
        seen_share=metrics["seen_share"],
        sigma_mean_mm=metrics["sigma_mean_mm"],
        sigma_descent_median_mm=metrics["sigma_descent_median_mm"],
        fit_residual_mm=metrics["fit_residual_mm"],
        shape_size=metrics["shape_size"],
        shape_extremes=metrics["shape_extremes"],
        height_m=metrics.get("height_m"),
        length_m=metrics.get("length_m"),
        converged=found.views.converged,
        size_is_guess=found.size.is_guess,
        was_refined=found.body.was_refined,
        **about,
    )
