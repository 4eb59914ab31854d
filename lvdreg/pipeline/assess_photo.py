"""From a body fitted in the frame of a crop to a result: metric size, world about the pelvis, metrics and verdict."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from lvdreg.base.provenance import FileHashes
from lvdreg.base.shapes import BoolArray, FloatArray
from lvdreg.body.model import BodyModel
from lvdreg.body.smplx_names import named_params
from lvdreg.descent.uncertainty import sigma_factor
from lvdreg.fit.correspond import posed_surface
from lvdreg.fit.evidence import Evidence2D, silhouette_iou
from lvdreg.fit.kinematics import Kinematics, upright_height
from lvdreg.fit.photo import keypoint_distances
from lvdreg.fit.photo_guard import knee_bends
from lvdreg.fit.priors import extreme_share
from lvdreg.fit.size import SizeConfig
from lvdreg.fit.vertices import Fit, FitConfig, fit_body
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.image.crop import Crop, visible_box
from lvdreg.photo.keypoints import MIRRORED
from lvdreg.photo.model import Photo
from lvdreg.photo.shown import Shown
from lvdreg.pipeline.assess_scan import posed_joints
from lvdreg.pipeline.config import ImageRegisterConfig
from lvdreg.result.photo import PhotoRegistration
from lvdreg.result.verdict_photo import PhotoEvidence, judge_photo

HEIGHT_ROUNDS = 6
HEIGHT_TOLERANCE = 0.0005
"""The scale is sought until the height is right to so much of it."""
HEIGHT_SHOWN = 0.3
"""So much of the way from the usual height to the one that proportions make likely is true, in logarithms. Regression
says 0.7 on 34 synthetic photos (seed 10), where it was chosen, 0.1 on 34 of seed 11, 0.4 on both and 17 of seed 0."""
HEIGHT_MISS = 0.01
"""What is further from the height that was given than this share of it is said."""
PARTS = {
    "head": ("head",), "shoulders": ("left_shoulder", "right_shoulder"), "hips": ("left_hip", "right_hip"),
    "knees": ("left_knee", "right_knee"), "feet": ("left_ankle", "right_ankle"),
    "hands": ("left_wrist", "right_wrist"),
}  # fmt: skip
"""Joints that stand for what a photo may cut off, from the top; hands last."""


@dataclass(frozen=True)
class Sized:
    """A fit at metric size.

    Attributes:
        fit: In metres, the frame of the crop.
        metres_per_unit: Metres by unit of the crop.
        is_guess: Whether only the likely size of people decided it.
    """

    fit: Fit
    metres_per_unit: float
    is_guess: bool


@dataclass(frozen=True)
class FittedPhoto:
    """One person in one photo, as far as the network tells.

    Attributes:
        photo: As read.
        person: Who of it.
        crop: What the network saw, and the photo's lens.
        predicted: The network's vertices (V, 3), unit frame: where they are seen, and how near.
        placed: Where they are (V, 3), units of the crop.
        sigma: (V,) units of the crop.
        sigma_depth: (V,) units of the crop.
        sigma_fit: (V,) as the fit believes them, units of the crop.
        sized: Body fitted to them.
        converged: Whether the descent came to rest.
        files: SHA-256 of every file that had a part, by name.
        is_body: Whether ``predicted`` are a body's vertices, so that the fit's distance from them says nothing.
        steps: What the method said on the way, by name, as ``predicted``.
    """

    photo: Photo
    person: Shown
    crop: Crop
    predicted: FloatArray
    placed: Tensor
    sigma: Tensor
    sigma_depth: Tensor
    sigma_fit: Tensor
    sized: Sized
    converged: bool
    files: FileHashes
    is_body: bool = False
    steps: Mapping[str, FloatArray] = field(default_factory=dict)

    def at_height(self, body: BodyModel, height: float, config: FitConfig) -> "FittedPhoto":
        """Return the same with a body of a height, metres, that somebody guessed."""
        sized = fit_at_size(body, self.placed, self.sigma_fit, height, config)
        return replace(self, sized=replace(sized, is_guess=True))

    def sigmas(self, floor: float) -> tuple[Tensor, Tensor]:
        """Return the sigma (V,) and its part along the line of sight (V,), metres, neither below ``floor``."""
        whole, depth = (x * self.sized.metres_per_unit for x in (self.sigma, self.sigma_depth))
        return whole.clamp_min(floor), depth.clamp_min(floor)


@dataclass(frozen=True)
class FoundInPhoto:
    """What the stages before found out.

    Attributes:
        predicted: The network's vertices (V, 3), unit frame: where they are seen, and how near.
        sized: Body fitted to them.
        refined: Body after refinement, or the same.
        sigma: (V,) metres.
        sigma_depth: (V,) metres.
        evidence: What the photo shows, at the size that the refinement found.
        converged: Whether the descent came to rest.
        on_the_way: What the method said before ``predicted``, by name.
    """

    predicted: FloatArray
    sized: Sized
    refined: Fit
    sigma: FloatArray
    sigma_depth: FloatArray
    evidence: Evidence2D
    converged: bool
    on_the_way: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def placed(self) -> FloatArray:
        """``predicted`` (V, 3) where they are, units of the crop."""
        return self.evidence.crop.camera(1.0).unprojected(self.predicted)

    def steps(self, last: str) -> dict[str, FloatArray]:
        """Return all that the method said, ``predicted`` by the name ``last``: vertices (V, 3) in metres."""
        unit, camera = self.evidence.metres_per_unit, self.evidence.crop.camera(1.0)
        return {
            name: unit * camera.unprojected(seen) for name, seen in {**self.on_the_way, last: self.predicted}.items()
        }


def as_faced(person: Shown, swapped: bool, sides: float) -> Shown:
    """Return a person with the sides that were decided on: those of the keypoints, or the others; and how surely."""
    if not swapped or person.keypoints is None:
        return replace(person, sides=sides)
    notes = (*person.notes, "left and right were taken the other way round than the keypoints were found: see side.png")
    return replace(person, keypoints=person.keypoints[MIRRORED], sides=sides, notes=notes)


def fit_at_size(
    body: BodyModel, vertices_unit: Tensor, sigma_unit: Tensor, height: float | None, config: FitConfig
) -> Sized:
    """Fit a body to vertices of the unit frame and find how large it is.

    Args:
        body: The model.
        vertices_unit: (V, 3).
        sigma_unit: (V,).
        height: Metres from head to heel of the person standing upright; None: a guess between people's usual height and
            the one that is likely for the body's proportions.
        config: Settings of the fit.

    Raises:
        RegistrationError: vertices are not finite.
    """
    likely = fit_body(body, vertices_unit, sigma_unit, config, free_scale=True)
    scale = likely.scale
    fit = _fit_scaled(body, vertices_unit, sigma_unit, scale, config)
    tried = [(np.log(scale), np.log(height_of(body, fit)))]
    wanted = float(np.log(height or likely_height(height_of(body, fit))))
    while len(tried) < HEIGHT_ROUNDS and abs(tried[-1][1] - wanted) > HEIGHT_TOLERANCE:
        scale = float(np.exp(_next_log_scale(tried, wanted)))
        fit = _fit_scaled(body, vertices_unit, sigma_unit, scale, config)
        tried.append((np.log(scale), np.log(height_of(body, fit))))
    return Sized(fit, scale, height is None)


def likely_height(proportions: float) -> float:
    """Return the height to expect, metres, where that of likely proportions is as given: they tell little."""
    usual = SizeConfig().usual
    return float(usual * (proportions / usual) ** HEIGHT_SHOWN)


def _fit_scaled(body: BodyModel, vertices_unit: Tensor, sigma_unit: Tensor, scale: float, config: FitConfig) -> Fit:
    return fit_body(body, vertices_unit * scale, sigma_unit * scale, config)


def _next_log_scale(tried: list[tuple[float, float]], wanted: float) -> float:
    """Return the next log scale to try: the secant, once there are two points on it."""
    slope = 1.0
    if len(tried) > 1 and abs(tried[-1][0] - tried[-2][0]) > 1e-6:
        slope = (tried[-1][1] - tried[-2][1]) / (tried[-1][0] - tried[-2][0])
    # The prior on shape holds heights back: a body never grows faster than its scale, but it may grow slowly.
    return tried[-1][0] + (wanted - tried[-1][1]) / float(np.clip(slope, 0.3, 1.5))


def height_of(body: BodyModel, fit: Fit) -> float:
    """Return the height of a fitted body standing upright, metres."""
    return upright_height(Kinematics(body.data), fit.params.betas.double().numpy())[0]


def assemble_photo(
    photo: Photo,
    person: Shown,
    body: BodyModel,
    found: FoundInPhoto,
    asked: Mapping[str, Any],
    config: ImageRegisterConfig,
) -> PhotoRegistration:
    """Measure a registration, judge it, and put the world's origin at the pelvis; timings are the caller's to add.

    Args:
        photo: As read.
        person: Who of it.
        body: The model.
        found: What the stages found.
        asked: What the user asked for.
        config: Settings of the stages.
    """
    crop, unit = found.evidence.crop, found.evidence.metres_per_unit
    metrics, missing = measure_photo(body, found, person, config)
    verdict, reason = judge_photo(_evidence(metrics, missing, found, person), config.verdict)
    if missing and missing not in reason:  # whatever else is wrong, only what is seen can be right
        reason = f"{missing}, the rest is a guess; {reason}"
    vertices, joints = posed_surface(body, found.refined.params).vertices, posed_joints(body, found.refined.params)
    origin = joints[0]
    params = replace(found.refined.params, transl=found.refined.params.transl - torch.from_numpy(origin).float())
    grown = unit / found.sized.metres_per_unit
    said = found.steps("descent" if asked["method"] == "lvd" else str(asked["method"]))
    steps = {**said, "fit": grown * posed_surface(body, found.sized.fit.params).vertices}
    return PhotoRegistration(
        name=photo.name if person.number == 1 else f"{photo.name}, person {person.number}",
        model=str(asked["model"]),
        rgb=photo.rgb,
        mask=person.mask,
        keypoints=person.keypoints,
        crop=crop,
        camera=crop.camera(unit).moved(origin),
        vertices=vertices - origin,
        faces=body.faces.numpy(),
        joints=joints - origin,
        params=named_params(body, params),
        sigma_mm=1000 * grown * found.sigma,
        sigma_depth_mm=1000 * grown * found.sigma_depth,
        size_is_guess=found.sized.is_guess,
        person=person.number,
        people=person.count,
        missed=person.missed,
        metrics=metrics,
        timings={},
        settings={**asked, **asdict(config)},
        warnings=tuple(dict.fromkeys(_warnings(photo, person, found, missing, metrics["height_m"]))),
        verdict=verdict,
        reason=reason,
        steps={name: points - origin for name, points in steps.items()},
        source=photo.source,
    )


def with_fitted_sigma(found: FoundInPhoto) -> FoundInPhoto:
    """Return the same with the sigma that is to be expected once a body was fitted; half bodies were not measured."""
    if (found.evidence.crop.beyond(found.predicted) > 0).any():
        return found
    factor = sigma_factor(float(1000 * np.median(found.sigma)), found.sized.fit.residual_mm)
    return replace(found, sigma=factor * found.sigma, sigma_depth=factor * found.sigma_depth)


def measure_photo(
    body: BodyModel, found: FoundInPhoto, person: Shown, config: ImageRegisterConfig
) -> tuple[dict[str, float], str]:
    """Return the metrics, by names that end in their unit, and in words what the photo cuts off."""
    faces, evidence = np.asarray(body.data.faces, np.int64), found.evidence
    before, after = found.sized.fit, found.refined
    fitted = evidence.resized(found.sized.metres_per_unit / evidence.metres_per_unit)
    surfaces = [posed_surface(body, fit.params).vertices for fit in (before, after)]
    metrics: dict[str, float] = {}
    if person.has_mask:
        metrics["silhouette_iou_fit"] = silhouette_iou(surfaces[0], faces, fitted)
        metrics["silhouette_iou"] = silhouette_iou(surfaces[1], faces, evidence)
    for name, fit, shown in (("keypoint_error_fit_m", before, fitted), ("keypoint_error_m", after, evidence)):
        apart = keypoint_distances(body, fit, shown, config.silhouette.min_visibility)
        if apart:
            metrics[name] = float(np.mean(list(apart.values())))
    areas = vertex_areas(surfaces[1], faces)
    joints = posed_joints(body, after.params)
    seen = evidence.crop.beyond(found.predicted) == 0
    seen = seen if seen.any() else np.ones_like(seen)
    joints_seen = evidence.camera.seen(joints)
    bends = knee_bends(body, joints) - knee_bends(body, joints_seen * [1.0, 1.0, 0.0])
    return {
        **metrics,
        "sides_agreement": person.sides,
        "unseen_bend_deg": float(np.degrees(np.mean(bends))) if len(bends) else 0.0,
        "seen_share": float(np.average(evidence.within(evidence.camera.seen(surfaces[1]), 0.0), weights=areas)),
        "sigma_median_mm": float(1000 * np.median(found.sigma[seen])),
        "sigma_depth_median_mm": float(1000 * np.median(found.sigma_depth[seen])),
        "fit_residual_mm": before.residual_mm if seen.all() else seen_residual_mm(surfaces[0], areas, seen, found),
        "shape_size": float(after.params.betas.square().mean().sqrt()),
        "shape_extremes": extreme_share(body.data, after.params.betas),
        "height_m": height_of(body, after),
    }, cut_off(dict(zip(body.joint_names, evidence.within(joints_seen, 0.0).tolist(), strict=True)))


def seen_residual_mm(surface: FloatArray, areas: FloatArray, seen: BoolArray, found: FoundInPhoto) -> float:
    """Return the mean distance of the network's vertices to the body fitted to them, of what lies in the photo.

    What lies beyond is not meant to be where the network has it.

    Args:
        surface: (V, 3) the fitted body, metres.
        areas: (V,) weights.
        seen: (V,) which vertices lie in the photo.
        found: What the stages found.
    """
    apart = np.linalg.norm(surface - found.placed * found.sized.metres_per_unit, axis=1)
    return float(1000 * np.average(apart[seen], weights=areas[seen]))


def cut_off(within: Mapping[str, bool]) -> str:
    """Say in words what of a person lies beyond the end of the photo; empty if nothing does.

    Args:
        within: By name of the joint, whether it lies in the photo.
    """
    lost = [part for part, joints in PARTS.items() if not any(within.get(joint, True) for joint in joints)]
    if "hips" in lost and "shoulders" not in lost and not within.get("spine1", True):
        return "the photo shows head and shoulders only"
    if "hips" in lost and "shoulders" not in lost:
        return "the photo shows the upper body only"
    if "knees" in lost and "hips" not in lost:
        return "the photo ends above the knees"
    if {"head", "shoulders"} & set(lost) and "hips" not in lost:
        return "the photo shows the lower body only" if "shoulders" in lost else "the photo cuts off the head"
    return f"the photo cuts off {' and '.join(lost)}" if lost else ""


def _evidence(metrics: Mapping[str, float], missing: str, found: FoundInPhoto, person: Shown) -> PhotoEvidence:
    return PhotoEvidence(
        silhouette_iou=metrics.get("silhouette_iou"),
        keypoint_error_m=metrics.get("keypoint_error_m"),
        seen_share=metrics["seen_share"],
        sigma_median_mm=metrics["sigma_median_mm"],
        fit_residual_mm=metrics["fit_residual_mm"],
        shape_size=metrics["shape_size"],
        shape_extremes=metrics["shape_extremes"],
        height_m=metrics["height_m"],
        unseen_bend_deg=metrics["unseen_bend_deg"],
        converged=found.converged,
        was_refined=found.refined.was_refined,
        missing=missing,
        sides_agreement=metrics["sides_agreement"],
        has_mask=person.has_mask,
        missed_beside=is_beside(person.missed, person.mask),
    )


def is_beside(boxes: Float32[np.ndarray, "M 4"], mask: Float32[np.ndarray, "H W"]) -> bool:
    """Say whether any box (left, top, right, bottom, pixels) overlaps that of a mask's person."""
    left, top, right, bottom = visible_box(mask)
    wide = np.minimum(boxes[:, 2], right) > np.maximum(boxes[:, 0], left)
    return bool((wide & (np.minimum(boxes[:, 3], bottom) > np.maximum(boxes[:, 1], top))).any())


def height_warnings(height: float, wanted: float | None) -> list[str]:
    """Say where a body did not come to the height, metres, that was given."""
    if wanted is None or abs(np.log(height / wanted)) <= HEIGHT_MISS:
        return []
    return [f"the body is {height:.2f} m tall, not {wanted:.2f} m as given: check the height, or look at the picture"]


def _warnings(photo: Photo, person: Shown, found: FoundInPhoto, missing: str, height: float) -> list[str]:
    warnings = [*photo.notes, *person.notes, *found.sized.fit.warnings, *found.refined.warnings]
    warnings += height_warnings(height, found.evidence.height)
    if missing:
        warnings.append(missing)
    if found.sized.is_guess:
        warnings.append(
            "the size is a guess from the body's proportions, as a photo does not tell it: give it with --height"
        )
    if not found.refined.converged:
        warnings.append("the refinement had not settled in its last step: look at the pose in the picture")
    if person.keypoints is None:
        warnings.append(
            "no keypoints were found: only the outline guided the refinement, look at arms and legs in overlay.png"
        )
    return warnings
