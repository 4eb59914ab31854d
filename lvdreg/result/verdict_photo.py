"""Good, check or failed: one plain judgement of a registration to a photo, and the reason."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lvdreg.result.verdict import NOT_AT_REST, SHAPE_EXTREMES, Finding, Verdict, exceeded, worst


@dataclass(frozen=True)
class PhotoVerdictConfig:
    """Limits of the verdict on a photo: where "good" ends and where "failed" begins; see ``VerdictConfig``.

    Chosen by hand on the seven photos of the data folder and on characters, which LOG.md also reports.
    """

    silhouette_iou: tuple[float, ...] = (0.80, 0.45)
    keypoint_error_m: tuple[float, ...] = (0.10, 0.35)
    seen_share: tuple[float, ...] = (0.90, 0.15)
    """Of the body's outline: what lies within the photo."""
    sigma_median_mm: tuple[float, ...] = (80.0, 220.0)
    fit_residual_mm: tuple[float, ...] = (45.0, 130.0)
    shape_size: tuple[float, ...] = (2.0, 3.4)
    shape_extremes: tuple[float, ...] = SHAPE_EXTREMES
    unseen_bend_deg: tuple[float, ...] = (30.0, 360.0)
    sides_agreement: tuple[float, ...] = (0.6, 0.0)
    height_m: tuple[float, ...] = (0.9, 1.3, 2.1, 2.4)


AGREES_M, LEAST_IOU = 0.05, 0.35
"""Where keypoints lie as near as this on average, only so small an overlap fails: a gown's mask is mostly cloth."""


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
        unseen_bend_deg: By how much knees bend along the line of sight beyond what the photo shows, mean of both.
        sides_agreement: How much speaks for which side of the person is left: 1 everything, 0 as much for the other.
        shape_extremes: Share of the betas that lie beyond those of nearly all people.
        converged: Whether the descent came to rest.
        was_refined: False where the refinement led away from keypoints and network, and was undone.
        missing: What of the person lies beyond the end of the photo, in words.
        has_mask: Whether anything says which pixels are the person's.
        missed_beside: Whether somebody was not told apart where the person is.
    """

    silhouette_iou: float | None
    keypoint_error_m: float | None
    seen_share: float
    sigma_median_mm: float
    fit_residual_mm: float
    shape_size: float
    height_m: float
    shape_extremes: float = 0.0
    unseen_bend_deg: float = 0.0
    sides_agreement: float = 1.0
    converged: bool = True
    was_refined: bool = True
    missing: str = ""
    has_mask: bool = True
    missed_beside: bool = False

    @property
    def cut_off(self) -> str:
        """What the photo cuts off, in words, also where no joint of it is."""
        return self.missing or "part of the person lies beyond the photo"


# What each measure says when it is beyond its limit: what is uncertain, by how much, and what to do.
COMPLAINTS = {
    "silhouette_iou": "body and mask overlap to {value:.0%} only: look at overlay.png, a better mask goes in by --mask",
    "keypoint_error_m": "joints lie {value:.2f} m on average from where the photo shows them: look at overlay.png",
    "seen_share": "{evidence.cut_off}: what is not seen is a guess, use only the rest",
    "sigma_median_mm": "the result is uncertain by {value:.0f} mm (median sigma), as one photo does not show depth: "
    "look at side.png before using it",
    "fit_residual_mm": "the predicted vertices lie {value:.0f} mm from any body: the pose may be unlike those learned, "
    "look at overlay.png",
    "shape_size": "the shape is {value:.1f} times as far from the average as usual: look at overlay.png, and give the "
    "height with --height",
    "shape_extremes": "{value:.0%} of the shape parameters lie beyond those of nearly all people: look at "
    "overlay.png, and give the height with --height",
    "unseen_bend_deg": "the knees bend by {value:.0f} degrees more than the photo shows, along the line of sight: look "
    "at side.png",
    "sides_agreement": "front and back of the person may be taken for each other: look at side.png, and give "
    "--keypoints where they are",
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
    return worst(findings(evidence, config)) or ("good", praise(evidence))


def findings(evidence: PhotoEvidence, config: PhotoVerdictConfig) -> Iterator[Finding]:
    """Yield everything that is not as it should be."""
    if evidence.keypoint_error_m is not None and evidence.keypoint_error_m < AGREES_M:
        config = replace(config, silhouette_iou=(config.silhouette_iou[0], LEAST_IOU))
    yield from exceeded(evidence, config, COMPLAINTS)
    if not evidence.converged:
        yield Finding("check", 0.5, NOT_AT_REST.format("overlay.png"))
    if not evidence.was_refined:
        yield Finding(
            "check",
            0.4,
            "the refinement led away from the keypoints, and was undone: look at overlay.png",
        )
    if evidence.missed_beside:
        yield Finding(
            "check", 0.3, "somebody else may be in this mask: look at mask.png, a better one goes in by --mask"
        )
    if not evidence.has_mask:
        yield Finding(
            "check", 0.2, "no mask was used: the surroundings may have misled the result, look at overlay.png"
        )


def praise(evidence: PhotoEvidence) -> str:
    """Say in one line what makes a registration good."""
    parts = [] if evidence.silhouette_iou is None else [f"body and mask overlap to {evidence.silhouette_iou:.0%}"]
    if evidence.keypoint_error_m is not None:
        parts.append(f"joints within {100 * evidence.keypoint_error_m:.0f} cm")
    return ", ".join([*parts, f"uncertain by {evidence.sigma_median_mm:.0f} mm (median sigma)"])
