"""Everything that is measured of one person or hand, in millimetres with one sigma each."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from lvdreg.base.shapes import FloatArray
from lvdreg.measure.definitions import BODY, HAND, Measure
from lvdreg.measure.model import StandingModel, standing_model
from lvdreg.measure.readings import Reading, StandingBody
from lvdreg.measure.shape import Shape

STATURE = BODY[0]
FACTORS = {"height": 1.5, "girth": 1.35, "length": 1.2, "breadth": 1.15}
"""What the posterior's sigma is multiplied by, by kind; chosen on synthetic people of seed 1, checked on seed 2."""
FLOOR_MM, HAND_SHARE = 1.5, 0.46
"""What is added to every sigma, in squares; and the share of both that holds for hands, whose scans are finer."""


@dataclass(frozen=True)
class Measurement:
    """One measure of one person.

    Attributes:
        measure: Which.
        value_mm: Millimetres at true size.
        sigma_mm: One standard deviation.
        line: (Q, 3) where the tape lies on the standing body, metres.
    """

    measure: Measure
    value_mm: float
    sigma_mm: float
    line: Float64[np.ndarray, "Q 3"] = field(repr=False)


@dataclass(frozen=True)
class Measured:
    """What was measured of one person or hand.

    Attributes:
        body: As it stood, metres at true size but for ``scale``.
        scale: What its lengths are multiplied by.
        measurements: All that could be taken.
        missing: Names of those that could not, and why.
    """

    body: StandingBody
    scale: float
    measurements: tuple[Measurement, ...]
    missing: dict[str, str]


def measures_of(model: StandingModel) -> tuple[Measure, ...]:
    """Return the measures that are taken of a person, or of a hand."""
    return HAND if model.is_hand else BODY


def take(model: str, shape: Shape, scale: float = 1.0, height: float | None = None) -> Measured:
    """Take all measures of a shape.

    Args:
        model: Name of the model, without ``+d``.
        shape: Shape and how sure it is.
        scale: What the model's lengths are multiplied by to be true ones.
        height: Known stature, metres: it fixes the scale, and its sigma is 0.
    """
    standing = standing_model(model)
    body = StandingBody.of(standing, shape.betas)
    by_stature: FloatArray | None = None
    if height is not None:
        stature = body.read(STATURE.how)
        scale = height / stature.value
        by_stature = _slope(standing, stature) / stature.value
    found, missing = [], dict[str, str]()
    for measure in measures_of(standing):
        try:
            reading = body.read(measure.how)
        except ValueError as error:
            missing[measure.name] = str(error)
            continue
        slope = _slope(standing, reading)
        if by_stature is not None:
            slope = slope - reading.value * by_stature
        sigma_mm = 1000 * scale * float(np.sqrt(max(slope @ shape.covariance @ slope, 0.0)))
        is_known = height is not None and measure is STATURE
        sigma_mm = 0.0 if is_known else float(np.hypot(FACTORS[measure.kind] * sigma_mm, FLOOR_MM))
        sigma_mm *= HAND_SHARE if standing.is_hand else 1.0
        found.append(Measurement(measure, 1000 * scale * reading.value, sigma_mm, reading.line))
    return Measured(body, scale, tuple(found), missing)


def _slope(model: StandingModel, reading: Reading) -> Float64[np.ndarray, " K"]:
    """Return how a reading changes with the betas (K,)."""
    return np.einsum("vi,vik->k", reading.slopes, model.shapes)
