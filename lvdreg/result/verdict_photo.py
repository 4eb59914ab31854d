"""Good, check or failed: one plain judgement of a registration to a photo, and the reason."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lvdreg.result.verdict import Finding, Verdict, beyond


@dataclass(frozen=True)
class PhotoVerdictConfig:
    """Limits of the verdict on a photo: where "good" ends and where "failed" begins; see ``VerdictConfig``."""

    silhouette_iou: tuple[float, ...] = (0.80, 0.45)
    keypoint_error_m: tuple[float, ...] = (0.10, 0.35)
    seen_share: tuple[float, ...] = (0.90, 0.15)
    """Of the body's outline: what lies within the photo."""
    sigma_median_mm: tuple[float, ...] = (80.0, 220.0)
    fit_residual_mm: tuple[float, ...] = (45.0, 130.0)
    shape_size: tuple[float, ...] = (2.0, 4.0)
    height_m: tuple[float, ...] = (0.9, 1.3, 2.1, 2.4)


@dataclass(frozen=True)
class PhotoEvidence:
    """What a registration to a photo is judged by; None: there was nothing to measure.

    Attributes:
        silhouette_iou: Intersection over union of body and mask.
        keypoint_error_m: Mean distance of keypoints that are seen from their places on the body, in the photo's plane.
        seen_share: Share of the body's surface that lies within the photo.
        sigma_median_mm: Median calibrated uncertainty over the surface.
        fit_residual_mm: How far the network's vertices lie from the body that was fitted to them.
        shape_size: Root mean square of the betas; 1 is an ordinary person.
        height_m: Height of the person standing upright.
        converged: Whether the descent came to rest.
        missing: What of the person lies beyond the end of the photo, in words.
        has_mask: Whether anything says which pixels are the person's.
    """

    silhouette_iou: float | None
    keypoint_error_m: float | None
    seen_share: float
    sigma_median_mm: float
    fit_residual_mm: float
    shape_size: float
    height_m: float
    converged: bool = True
    missing: str = ""
    has_mask: bool = True


# What each measure says when it is beyond its limit, and what to do about it.
COMPLAINTS = {
    "silhouette_iou": "body and mask agree to {value:.0%} only: pose or mask may be wrong, look at overlay.png",
    "keypoint_error_m": "joints lie {value:.2f} m on average from where they are seen: look at overlay.png",
    "seen_share": "{missing}: what is not seen is guessed",
    "sigma_median_mm": "the network is unsure: median sigma {value:.0f} mm",
    "fit_residual_mm": "the network's vertices miss every body by {value:.0f} mm: the pose may be unlike those learned",
    "shape_size": "the body shape is {value:.1f} times as unusual as an ordinary one",
    "height_m": "the person would be {value:.2f} m tall: give the height with --height",
}


def judge_photo(evidence: PhotoEvidence, config: PhotoVerdictConfig) -> tuple[Verdict, str]:
    """Judge a registration to a photo.

    Args:
        evidence: The measures; NaN in any of them makes the verdict ``failed``.
        config: Limits.

    Returns:
        The verdict, and one plain reason: the worst finding, or what makes it good.
    """
    found = list(findings(evidence, config))
    if not found:
        return "good", praise(evidence)
    worst = max(found, key=lambda finding: finding.excess)
    return worst.verdict, worst.reason


def findings(evidence: PhotoEvidence, config: PhotoVerdictConfig) -> Iterator[Finding]:
    """Yield everything that is beyond its limit."""
    for name, complaint in COMPLAINTS.items():
        value = getattr(evidence, name)
        if value is None:
            continue
        if not math.isfinite(value):
            yield Finding("failed", math.inf, f"{name} could not be measured: nothing of the photo could be registered")
        elif excess := beyond(value, getattr(config, name)):
            verdict: Verdict = "failed" if excess > 1 else "check"
            missing = evidence.missing or "part of the person lies beyond the photo"
            yield Finding(verdict, excess, complaint.format(value=value, missing=missing))
    if not evidence.converged:
        yield Finding("check", 0.5, "the descent did not come to rest: the pose may be unlike those learned")
    if not evidence.has_mask:
        yield Finding("check", 0.2, "no mask: the network saw the surroundings as well")


def praise(evidence: PhotoEvidence) -> str:
    """Say in one line what makes a registration good."""
    parts = [] if evidence.silhouette_iou is None else [f"body and mask agree to {evidence.silhouette_iou:.0%}"]
    if evidence.keypoint_error_m is not None:
        parts.append(f"joints to {100 * evidence.keypoint_error_m:.0f} cm")
    return ", ".join([*parts, f"median sigma {evidence.sigma_median_mm:.0f} mm"])
