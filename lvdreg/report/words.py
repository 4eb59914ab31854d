"""What numbers of a report are called for people, and how they are written."""

import math
from typing import Any

VERDICTS = {
    "good": "Nothing was found that speaks against the result.",
    "check": "Something is unusual, or less certain than usual: look before you use it.",
    "failed": "Something is so far off that the result is most likely wrong: do not use it.",
}
METRICS = {
    "point_to_surface_scan_to_registered_mm": "scan to the registered surface, mean distance",
    "point_to_surface_registered_to_scan_mm": "registered surface to the scan, mean distance",
    "point_to_surface_scan_to_registered_without_hanging_mm": "scan to the surface, without hanging cloth",
    "point_to_surface_registered_to_scan_without_hanging_mm": "surface to the scan, without hanging cloth",
    "point_to_surface_scan_to_body_mm": "scan to the body under the clothes, mean distance",
    "point_to_surface_body_to_scan_mm": "body under the clothes to the scan, mean distance",
    "seen_share": "share of the body that was seen",
    "explained_share": "share of the scan near the body",
    "hanging_share": "share of the scan that is hanging cloth",
    "hand_share": "share of the scan that is the hand",
    "sigma_mean_mm": "error to be expected of the body (mean sigma)",
    "sigma_median_mm": "uncertainty of the body (median sigma)",
    "sigma_p95_mm": "95 % of the body are less uncertain than",
    "sigma_descent_median_mm": "uncertainty of the network's vertices (median sigma)",
    "sigma_depth_median_mm": "uncertainty along the line of sight (median sigma)",
    "fit_residual_mm": "network's vertices to the fitted body",
    "shape_size": "size of the shape parameters (1 is ordinary)",
    "shape_extremes": "share of unusual shape parameters",
    "body_scale": "factor from the model's to true lengths",
    "height_m": "height, standing upright",
    "length_m": "length of the hand",
    "unseen_bend_deg": "bend of the knees that the photo does not show",
    "sides_agreement": "agreement on left and right",
    "silhouette_iou_fit": "overlap of body and mask before refinement",
    "silhouette_iou": "overlap of body and mask",
    "keypoint_error_fit_m": "keypoints to the body before refinement, mean distance",
    "keypoint_error_m": "keypoints to the body, mean distance",
    "conversion_residual_mm": "distance from what was carried over",
}
"""By the key in ``report.json``, in the order in which they are shown."""
_ENDINGS = (("_mm", 1.0, "mm", 1), ("_m", 1.0, "m", 3), ("_share", 100.0, "%", 1), ("_deg", 1.0, "degrees", 1))
_SHARES = ("silhouette_iou", "silhouette_iou_fit", "sides_agreement", "shape_extremes")


def measured(key: str, value: Any) -> str:
    """Write a number with the unit that the end of its key says."""
    if not is_number(value):
        return "not measured"
    if key in _SHARES:
        key = "_share"
    factor, unit, digits = next(((f, u, d) for ending, f, u, d in _ENDINGS if key.endswith(ending)), (1.0, "", 2))
    return f"{factor * value:.{digits}f} {unit}".rstrip()


def number_of(value: Any) -> float:
    """Return a number of a report; zero where it is none."""
    return float(value) if is_number(value) else 0.0


def is_number(value: Any) -> bool:
    """Tell whether something of a report is a number, and finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
