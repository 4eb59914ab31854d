"""Good, check or failed: one plain judgement of a registration, and the reason."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lvdreg.base.settings import length_field

Verdict = Literal["good", "check", "failed"]
SEVERITY: tuple[Verdict, ...] = ("good", "check", "failed")


@dataclass(frozen=True)
class VerdictConfig:
    """Limits of the verdict.

    Each pair is where "good" ends and where "failed" begins, with "check" in between; four numbers are a range:
    failed, good, good, failed. None: does not apply.
    """

    explained_within_mm: float = length_field(80.0)  # clothes stand off the body, a bunny stands off much further
    explained_share: tuple[float, ...] = (0.90, 0.60)
    scan_to_registered_mm: tuple[float, ...] = length_field((8.0, 40.0))
    registered_to_scan_mm: tuple[float, ...] = length_field((8.0, 40.0))
    seen_share: tuple[float, ...] = (0.40, 0.12)
    sigma_median_mm: tuple[float, ...] = length_field((40.0, 120.0))
    fit_residual_mm: tuple[float, ...] = length_field((35.0, 90.0))
    shape_size: tuple[float, ...] = (2.0, 4.0)
    height_m: tuple[float, ...] | None = (0.9, 1.3, 2.1, 2.4)
    length_m: tuple[float, ...] | None = None
    """Of a hand, from the wrist's rim to the tip of the longest finger."""


@dataclass(frozen=True)
class Evidence:
    """What a registration is judged by. Lengths at true body size; a number that could not be found is NaN.

    Attributes:
        scan_to_registered_mm: Mean distance from the scan's points to the final surface.
        registered_to_scan_mm: Mean distance from the final surface to the scan, unseen parts excluded.
        explained_share: Share of the scan within reach of the **body** (not of the displaced surface, which would
            follow any shape): ``explained_within_mm`` of ``VerdictConfig``.
        seen_share: Share of the body's area that the scan shows.
        sigma_median_mm: Median calibrated uncertainty over the surface.
        fit_residual_mm: How far the network's vertices lie from the body that was fitted to them.
        shape_size: Root mean square of the betas; 1 is an ordinary person or hand.
        height_m: Height of the person standing upright; None of a hand.
        length_m: Length of the hand stretched out, from the wrist's rim; None of a person.
        converged: Whether the descent and the fit came to rest.
        size_is_guess: Whether the size was assumed because the unit says nothing.
    """

    scan_to_registered_mm: float
    registered_to_scan_mm: float
    explained_share: float
    seen_share: float
    sigma_median_mm: float
    fit_residual_mm: float
    shape_size: float
    height_m: float | None = None
    length_m: float | None = None
    converged: bool = True
    size_is_guess: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: how bad, how far beyond its limit, and in words."""

    verdict: Verdict
    excess: float
    reason: str


# What each measure says when it is beyond its limit, and what to do about it.
COMPLAINTS = {
    "explained_share": "only {value:.0%} of the scan looks like the model: it may show more, or something else",
    "scan_to_registered_mm": "the scan lies {value:.0f} mm from the surface on average: look at preview.png",
    "registered_to_scan_mm": "the surface lies {value:.0f} mm from the scan on average: look at preview.png",
    "seen_share": "the scan shows only {value:.0%} of the body: the rest is guessed",
    "fit_residual_mm": "the network's vertices miss every body by {value:.0f} mm: pose or object is unlike people",
    "sigma_median_mm": "the network is unsure: median sigma {value:.0f} mm",
    "shape_size": "the body shape is {value:.1f} times as unusual as an ordinary one: unit or object may be wrong",
    "height_m": "the person would be {value:.2f} m tall: the unit may be wrong; give it with --unit",
    "length_m": "the hand would be {value:.2f} m long: the unit may be wrong; give it with --unit",
}


def judge(evidence: Evidence, config: VerdictConfig | None = None) -> tuple[Verdict, str]:
    """Judge a registration.

    Args:
        evidence: The measures; NaN in any of them makes the verdict ``failed``.
        config: Limits.
    Returns:
        The verdict, and one plain reason: the worst finding, or what makes it good.
    """
    found = list(findings(evidence, config or VerdictConfig()))
    if not found:
        return "good", praise(evidence)
    worst = max(found, key=lambda finding: finding.excess)
    return worst.verdict, worst.reason


def findings(evidence: Evidence, config: VerdictConfig) -> Iterator[Finding]:
    """Yield everything that is beyond its limit."""
    for name, complaint in COMPLAINTS.items():
        value, limits = getattr(evidence, name), getattr(config, name)
        if value is None or limits is None:
            continue
        if not math.isfinite(value):
            yield Finding("failed", math.inf, f"{name} could not be measured: nothing of the scan could be registered")
        elif excess := beyond(value, limits):
            verdict: Verdict = "failed" if excess > 1 else "check"
            yield Finding(verdict, excess, complaint.format(value=value))
    if not evidence.converged:
        yield Finding("check", 0.5, "the descent did not come to rest: the pose may be unlike those learned")
    if evidence.size_is_guess:
        yield Finding("check", 0.0, "the size is a guess: the file's unit is not known; give it with --unit")


def beyond(value: float, limits: tuple[float, ...]) -> float:
    """Return how far a value is beyond its limits: 0 while good, up to 1 while to be checked, more when failed.

    Args:
        value: What was measured.
        limits: (good, failed) for values with one bad side, in either order; (failed, good, good, failed) for values
            that must lie between.
    """
    if len(limits) == 4:
        return max(beyond(value, (limits[1], limits[0])), beyond(value, limits[2:]))
    good, failed = limits
    return max(0.0, (value - good) / (failed - good))


def praise(evidence: Evidence) -> str:
    """Say in one line what makes a registration good."""
    return (
        f"surface {evidence.scan_to_registered_mm:.1f} mm from the scan, {evidence.seen_share:.0%} of it seen, "
        f"median sigma {evidence.sigma_median_mm:.0f} mm"
    )
