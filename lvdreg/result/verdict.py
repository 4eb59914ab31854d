"""Good, check or failed: one plain judgement of a registration, and the reason."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lvdreg.base.lengths import length_field

Verdict = Literal["good", "check", "failed"]
SEVERITY: tuple[Verdict, ...] = ("good", "check", "failed")
SHAPE_EXTREMES = (0.06, 0.12)
"""Of 1,500 sampled people of the free body (50 parameters) two have more than three parameters beyond those of nearly
all, and none has more than five."""


@dataclass(frozen=True)
class VerdictConfig:
    """Limits of the verdict.

    Each pair is where "good" ends and where "failed" begins, with "check" in between; four numbers are a range:
    failed, good, good, failed. None: does not apply.

    Chosen by hand on synthetic scans and a few real ones; how often they are right is not known ("Verdicts" in LOG.md
    gives counts, no error rate).
    """

    explained_within_mm: float = length_field(80.0)
    """How far clothes may stand off the body. Any length from 40 to 80 mm keeps well registered synthetic people above
    ``explained_share``, and teapot, calf and a lost one below it; checked on a bunny, FAUST and clothed people (LOG.md,
    "What a body explains")."""
    explained_share: tuple[float, ...] = (0.90, 0.60)
    scan_to_registered_mm: tuple[float, ...] = length_field((8.0, 40.0))
    registered_to_scan_mm: tuple[float, ...] = length_field((8.0, 40.0))
    seen_share: tuple[float, ...] = (0.40, 0.12)
    sigma_median_mm: tuple[float, ...] = length_field((40.0, 120.0))
    fit_residual_mm: tuple[float, ...] = length_field((35.0, 90.0))
    shape_size: tuple[float, ...] = (2.0, 3.4)
    shape_extremes: tuple[float, ...] = SHAPE_EXTREMES
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
        shape_extremes: Share of the betas that lie beyond those of nearly all people.
        height_m: Height of the person standing upright; None of a hand.
        length_m: Length of the hand stretched out, from the wrist's rim; None of a person.
        converged: Whether the descent and the fit came to rest.
        size_is_guess: Whether the size was assumed because the unit says nothing.
        was_refined: False where the refinement led away from the scan, and was undone.
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
    shape_extremes: float = 0.0
    was_refined: bool = True


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: how bad, how far beyond its limit, and in words."""

    verdict: Verdict
    excess: float
    reason: str


# What each measure says when it is beyond its limit: what is uncertain, by how much, and what to do.
COMPLAINTS = {
    "explained_share": "only {value:.0%} of the scan lies near the fitted body: look at preview.png, and cut away what "
    "is not the person or hand",
    "scan_to_registered_mm": "the scan lies {value:.0f} mm from the result on average: look at preview.png for what "
    "was missed",
    "registered_to_scan_mm": "the result lies {value:.0f} mm from the scan on average: look at preview.png for limbs "
    "in the wrong place",
    "seen_share": "the scan shows only {value:.0%} of the body, the rest is a guess: use it where sigma is small, or "
    "scan from more sides",
    "fit_residual_mm": "the predicted vertices lie {value:.0f} mm from any body: pose or object may be unlike those "
    "learned, look at preview.png",
    "sigma_median_mm": "the result is uncertain by {value:.0f} mm (median sigma): look at preview.png before using it",
    "shape_size": "the shape is {value:.1f} times as far from the average as usual: check the unit (--unit) and what "
    "the scan shows",
    "shape_extremes": "{value:.0%} of the shape parameters lie beyond those of nearly all people: look at "
    "preview.png, and cut away what is not the person or hand",
    "height_m": "the person would be {value:.2f} m tall: the unit may be wrong, give it with --unit",
    "length_m": "the hand would be {value:.2f} m long: the unit may be wrong, give it with --unit",
}
NOT_AT_REST = "the predicted vertices still moved in the last step: the pose may be unlike those learned, look at {}"


def judge(evidence: Evidence, config: VerdictConfig | None = None) -> tuple[Verdict, str]:
    """Judge a registration.

    Args:
        evidence: The measures; NaN in any of them makes the verdict ``failed``.
        config: Limits.
    Returns:
        The verdict, and one plain reason: the worst finding, or what makes it good.
    """
    return worst(findings(evidence, config or VerdictConfig())) or ("good", praise(evidence))


def worst(found: Iterable[Finding]) -> tuple[Verdict, str] | None:
    """Return verdict and reason of the finding that is furthest beyond its limit; None where nothing is."""
    first = max(found, key=lambda finding: finding.excess, default=None)
    return None if first is None else (first.verdict, first.reason)


def findings(evidence: Evidence, config: VerdictConfig) -> Iterator[Finding]:
    """Yield everything that is not as it should be."""
    yield from exceeded(evidence, config, COMPLAINTS)
    if not evidence.converged:
        yield Finding("check", 0.5, NOT_AT_REST.format("preview.png"))
    if not evidence.was_refined:
        what = "the refinement led away from the scan and was undone"
        yield Finding("check", 0.6, f"{what}: look at preview.png, and cut away what is not the person or hand")
    if evidence.size_is_guess:
        yield Finding("check", 0.0, "the size is a guess, as the file's unit is not known: give it with --unit")


def exceeded(evidence: Any, config: Any, complaints: Mapping[str, str]) -> Iterator[Finding]:
    """Yield every measure that is beyond its limit.

    Args:
        evidence: Has the measures as attributes; None: there was nothing to measure.
        config: Has their limits under the same names; None: does not apply.
        complaints: By measure what is to be said, with ``{value}``, and ``{evidence}`` for more of it.
    """
    for name, complaint in complaints.items():
        value, limits = getattr(evidence, name), getattr(config, name)
        if value is None or limits is None:
            continue
        if not math.isfinite(value):
            reason = f"{name} could not be measured: nothing could be registered, check that this is the right file"
            yield Finding("failed", math.inf, reason)
        elif excess := beyond(value, limits):
            verdict: Verdict = "failed" if excess > 1 else "check"
            yield Finding(verdict, excess, complaint.format(value=value, evidence=evidence))


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
        f"scan and surface {evidence.scan_to_registered_mm:.1f} mm apart, {evidence.seen_share:.0%} of the body seen, "
        f"uncertain by {evidence.sigma_median_mm:.0f} mm (median sigma)"
    )
