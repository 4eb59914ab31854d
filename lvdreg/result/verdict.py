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

    ``sigma_mean_mm`` says how wrong a result is likely to be, and decides; the other limits tell what is no person, or
    no hand. LOG.md ("Verdict by the predicted error") has how often verdicts are right, on scans that they were not
    chosen on.
    """

    explained_within_mm: float = length_field(80.0)
    """How far clothes may stand off the body. Any length from 40 to 80 mm keeps well registered synthetic people above
    ``explained_share``, and teapot, calf and a lost one below it; checked on a bunny, FAUST and clothed people (LOG.md,
    "What a body explains")."""
    explained_share: tuple[float, ...] = (0.90, 0.60)
    scan_to_registered_mm: tuple[float, ...] = length_field((25.0, 60.0))
    registered_to_scan_mm: tuple[float, ...] = length_field((15.0, 40.0))
    """Thick coats stand off a body that is right under them."""
    hanging_share: tuple[float, ...] = (0.25, 2.0)
    """However much cloth hangs around the legs, it is no failure; under this much they are a guess."""
    seen_share: tuple[float, ...] = (0.40, 0.12)
    sigma_mean_mm: tuple[float, ...] = length_field((22.0, 150.0))
    sigma_descent_median_mm: tuple[float, ...] = length_field((70.0, 120.0))
    fit_residual_mm: tuple[float, ...] = length_field((35.0, 90.0))
    shape_size: tuple[float, ...] = (2.0, 3.4)
    shape_extremes: tuple[float, ...] = SHAPE_EXTREMES
    height_m: tuple[float, ...] | None = (0.4, 0.5, 2.2, 2.5)
    """People from birth on; where the unit was given, only what is no person's height is said."""
    length_m: tuple[float, ...] | None = None
    """Of a hand, from the wrist's rim to the tip of the longest finger."""
    left_out_share: tuple[float, ...] = (0.2, 1.0)
    side_confidence: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Evidence:
    """What a registration is judged by. Lengths at true body size; a number that could not be found is NaN.

    Attributes:
        scan_to_registered_mm: Mean distance from the scan's points to the final surface, but for cloth that hangs.
        registered_to_scan_mm: Mean distance from the final surface to the scan; unseen parts are excluded, and those
            under cloth that hangs.
        explained_share: Share of the scan within reach of the **body** (not of the displaced surface, which would
            follow any shape): ``explained_within_mm`` of ``VerdictConfig``; but for cloth that hangs.
        hanging_share: Share of the scan that is cloth hanging around the legs: a gown, a bell skirt, a long coat.
        seen_share: Share of the body's area that the scan shows.
        sigma_mean_mm: Mean uncertainty of the body over its vertices: the error to be expected.
        sigma_descent_median_mm: The same as the median of the network's vertices, before anything was fitted.
        fit_residual_mm: How far the network's vertices lie from the body that was fitted to them.
        shape_size: Root mean square of the betas; 1 is an ordinary person or hand.
        shape_extremes: Share of the betas that lie beyond those of nearly all people.
        height_m: Height of the person standing upright; None of a hand.
        length_m: Length of the hand stretched out, from the wrist's rim; None of a person.
        left_out_share: Share of the scan in the largest piece that was left out, a second person perhaps.
        side_confidence: How sure it is which hand it is; None of a person.
        converged: Whether the descent and the fit came to rest.
        size_is_guess: Whether the size was assumed because the unit says nothing.
        was_refined: False where the refinement led away from the scan, and was undone.
        unit_is_given: Whether the user named the unit, so that it is not doubted.
        looks_like: What the scan is rather than what was asked for: "person" or "hand"; None: nothing says so.
        least_certain: Part that is the most uncertain.
    """

    scan_to_registered_mm: float
    registered_to_scan_mm: float
    explained_share: float
    seen_share: float
    sigma_mean_mm: float
    sigma_descent_median_mm: float
    fit_residual_mm: float
    shape_size: float
    height_m: float | None = None
    length_m: float | None = None
    left_out_share: float = 0.0
    side_confidence: float | None = None
    converged: bool = True
    size_is_guess: bool = False
    shape_extremes: float = 0.0
    hanging_share: float = 0.0
    was_refined: bool = True
    unit_is_given: bool = False
    looks_like: str | None = None
    least_certain: str = "hidden parts"

    @property
    def unit_advice(self) -> str:
        """What to do about a size or a shape that is unlike people's."""
        return "look at preview.png for what the scan shows" if self.unit_is_given else "give the unit with --unit"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: how bad, how far beyond its limit, in words, and what was measured."""

    verdict: Verdict
    excess: float
    reason: str
    measure: str = ""


# What each measure says when it is beyond its limit: what is uncertain, by how much, and what to do.
COMPLAINTS = {
    "explained_share": "only {value:.0%} of the scan lies near the fitted body: look at preview.png, and cut away what "
    "is not the person or hand",
    "hanging_share": "cloth hangs around the legs ({value:.0%} of the scan): where they are under it is a guess, look "
    "at preview.png",
    "scan_to_registered_mm": "the scan lies {value:.0f} mm from the result on average: look at preview.png for what "
    "was missed",
    "registered_to_scan_mm": "the result lies {value:.0f} mm from the scan on average: look at preview.png for limbs "
    "in the wrong place",
    "seen_share": "the scan shows only {value:.0%} of the body, the rest is a guess: use it where sigma is small, or "
    "scan from more sides",
    "fit_residual_mm": "the predicted vertices lie {value:.0f} mm from any body: pose or object may be unlike those "
    "learned, look at preview.png",
    "sigma_mean_mm": "the body is uncertain by {value:.0f} mm on average (sigma), above all the "
    "{evidence.least_certain}: look at uncertainty.ply",
    "sigma_descent_median_mm": "the network is unsure by {value:.0f} mm (median sigma of its vertices): the pose may "
    "be unlike those learned, look at preview.png",
    "shape_size": "the shape is {value:.1f} times as far from the average as usual: {evidence.unit_advice}",
    "shape_extremes": "{value:.0%} of the shape parameters lie beyond those of nearly all people: look at "
    "preview.png, and cut away what is not the person or hand",
    "height_m": "the person would be {value:.2f} m tall: {evidence.unit_advice}",
    "length_m": "the hand would be {value:.2f} m long: {evidence.unit_advice}",
    "left_out_share": "a large piece was left out ({value:.0%} of the scan), a second person or hand perhaps: cut "
    "to the one you mean, or give --people all",
    "side_confidence": "which hand it is is not sure ({value:.0%}): look at preview.png, and give it with --side",
}
ALWAYS_SAID = ("left_out_share", "hanging_share")
"""What must be known also where something else is worse."""
HANGS = 0.02
"""More cloth than this around the legs, of the scan, is said also of what is good."""
DOUBTS_OF_UNIT = ("height_m", "length_m")
"""What is worth a look only as long as the unit was not given; sizes that nobody has are said in any case."""
ANOTHER_KIND = {
    "person": "this looks like a person, not a hand: register it with lvdreg register",
    "hand": "this looks like a hand, not a person: register it with lvdreg hands",
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
    """Return verdict and reason of the finding that is furthest beyond its limit; None where nothing is.

    What must be known in any case follows it in the same line.
    """
    ordered = sorted(found, key=lambda finding: -finding.excess)
    if not ordered:
        return None
    said = [finding.reason for i, finding in enumerate(ordered) if i == 0 or finding.measure in ALWAYS_SAID]
    return ordered[0].verdict, "; also, ".join(said)


def findings(evidence: Evidence, config: VerdictConfig) -> Iterator[Finding]:
    """Yield everything that is not as it should be."""
    for finding in exceeded(evidence, config, COMPLAINTS):
        is_doubt = finding.measure in DOUBTS_OF_UNIT and finding.verdict == "check"
        if not (is_doubt and evidence.unit_is_given):
            yield finding
    if evidence.looks_like is not None:
        yield Finding("failed", math.inf, ANOTHER_KIND[evidence.looks_like])
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
            yield Finding("failed", math.inf, reason, measure=name)
        elif excess := beyond(value, limits):
            verdict: Verdict = "failed" if excess > 1 else "check"
            yield Finding(verdict, excess, complaint.format(value=value, evidence=evidence), measure=name)


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
    said = (
        f"scan and surface {evidence.scan_to_registered_mm:.1f} mm apart, {evidence.seen_share:.0%} of the body seen, "
        f"uncertain by {evidence.sigma_mean_mm:.0f} mm on average (sigma)"
    )
    if evidence.hanging_share <= HANGS:
        return said
    return f"{said}; cloth hangs around the legs ({evidence.hanging_share:.0%} of the scan): less is known of them"
