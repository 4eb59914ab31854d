"""How big a person or hand is: which unit makes the fitted body one that there are.

Proportions tell sizes a little: a fit whose scale is free ends at the likeliest one. How far off it may be, how often
people of each size are met, and how often scans come in each unit are weighed against each other (Bayes): a toddler in
metres is likelier than a scan without a unit, and a grown man in inches likelier than a baby in centimetres.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyData, BodyModel
from lvdreg.descent.boxes import METRES_PER_UNIT, Size
from lvdreg.fit.vertices import Fit

UNIT_SHARES = {"m": 0.4, "mm": 0.3, "cm": 0.2, "inch": 0.03, "dm": 0.02}
"""How often scans come in each unit, as far as anyone can say; of the rest the numbers mean nothing."""
WRONG_UNIT = 0.001
"""Share of units given that are wrong."""
POSTURE = 0.25
"""How much longer than a person stands the box around one is, or shorter: sitting, arms raised; of the logarithm."""
LOG_RANGE = math.log(1e6)
"""Factors to metres of scans without a unit are spread evenly over so many e-folds."""
NUM_LENGTHS = 200
STRETCH = 0.9, 1.05
"""Shapes are good for a little more than the people they were made from: a child of 0.9 m is met to 1.4 mm, and to 5 mm
at 0.5 m, with many parameters out of range."""
MAX_DEVIATIONS = 3.0
"""How far shapes go of which no people were sampled."""


@dataclass(frozen=True)
class SizeConfig:
    """Which lengths there are (people's heights, or hands' from the wrist's rim to the tip of the longest finger), in
    metres, and how well proportions tell them.

    ``shown`` and ``error`` are measured; the others are chosen by hand, from what is known of people's statures.
    """

    usual: float = 1.66
    spread: float = 0.09
    """Median of most, and standard deviation of the logarithm."""
    others: float = 0.2
    """Share of those, children most of all, whose length is anything from ``least`` to ``most``."""
    least: float = 0.4
    most: float = 2.5
    shown: float = 0.2
    """How much of the logarithm's distance from the usual the likely length shows: network and shape prior hide the
    rest. Measured on 14 synthetic people of 1.03 m and more (LOG.md, "Units and sizes"), as is ``error``."""
    error: float = 0.12
    """Standard deviation of the logarithm of the likely length about that."""
    sure: float = 0.85
    """Less probable units are a guess."""


HAND_SIZE = SizeConfig(usual=0.18, spread=0.1, least=0.05, most=0.28)
"""A hand's shape hardly tells its size, either."""


def find_size(
    unit: str,
    body: BodyModel,
    likely: Fit,
    scale_unit_scan: float,
    config: SizeConfig,
    height: float | None = None,
) -> Size:
    """Decide the unit and the size from a fit whose scale was free.

    Args:
        unit: The user's word: "auto", "none", or a unit, which is then taken as it is.
        body: The model that was fitted.
        likely: That fit, in the unit frame.
        scale_unit_scan: From the scan to that frame.
        config: What lengths there are.
        height: The length itself, metres, where it is known.

    Returns:
        The unit and its factor; "none" with the likely size, or the known one, when no unit makes sense of it.
    """
    likely_metres, likely_length = likely.scale * scale_unit_scan, rest_length(body, likely.params.betas)
    found, probability = unit, 1.0
    if unit == "auto":
        found, probability = likeliest_unit(likely_length, likely_metres, config)
    if found == "none" and height is None:
        return Size("none", likely_metres, True)
    metres = METRES_PER_UNIT[found] if height is None or found != "none" else likely_metres * height / likely_length
    length = likely_length * metres / likely_metres
    low, high = length_range(body)
    body_scale = length / float(np.clip(length, STRETCH[0] * low, STRETCH[1] * high))
    return Size(found, metres, height is None and probability < config.sure, body_scale)


def likeliest_unit(likely_length: float, likely_metres: float, config: SizeConfig) -> tuple[str, float]:
    """Return the likeliest unit, "none" among them, and its probability.

    Args:
        likely_length: Of a fit whose scale was free, metres.
        likely_metres: Of that fit for each unit of the scan.
        config: What lengths there are.
    """
    lengths = np.array([likely_length * metres / likely_metres for metres in METRES_PER_UNIT.values()])
    shares = np.array([UNIT_SHARES[name] for name in METRES_PER_UNIT])
    every = np.geomspace(config.least, config.most, NUM_LENGTHS)
    # Densities over the logarithms of the true length and of the likely one; without a unit nothing ties the two.
    without = (1 - shares.sum()) * _density(every, likely_length, config).mean() * math.log(config.most / config.least)
    weights = np.append(shares * _density(lengths, likely_length, config), without / LOG_RANGE)
    best = int(weights.argmax())
    return [*METRES_PER_UNIT, "none"][best], float(weights[best] / weights.sum())


def length_density(length: float, unit: str, config: SizeConfig) -> float:
    """Return how likely a body is that long in whatever it does, before it is looked at: over the logarithm.

    Args:
        length: Longest side of its bounding box, in the scan's numbers.
        unit: "auto", "none", or the unit that the user gave.
        config: What lengths there are.
    """
    shares = UNIT_SHARES if unit == "auto" else {} if unit == "none" else {unit: 1.0}
    metres = np.array([length * METRES_PER_UNIT[name] for name in shares])
    inside = (metres >= config.least) & (metres <= config.most)
    known = (1 - config.others) * _normal(np.log(np.maximum(metres, 1e-12) / config.usual), POSTURE)
    known += config.others * inside / math.log(config.most / config.least)
    weights = np.array(list(shares.values()))
    return float(weights @ known + max(1 - weights.sum(), WRONG_UNIT) / LOG_RANGE)


def _density(lengths: FloatArray, likely_length: float, config: SizeConfig) -> FloatArray:
    """Return the joint density of true lengths and a likely length, over their logarithms."""
    far = np.log(lengths / config.usual)
    inside = (lengths >= config.least) & (lengths <= config.most)
    known = (1 - config.others) * _normal(far, config.spread)
    known += config.others * inside / math.log(config.most / config.least)
    return known * _normal(math.log(likely_length / config.usual) - config.shown * far, config.error)


def _normal(x: FloatArray, sigma: float) -> FloatArray:
    return np.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))


@torch.no_grad()
def rest_length(body: BodyModel, betas: torch.Tensor) -> float:
    """Return the height of a person standing upright, or the length of a hand stretched out, metres."""
    rest, _ = body.rest(betas)
    extents = rest.max(0).values - rest.min(0).values
    # People stand in their rest frame; a hand may rest with its fingers along any axis.
    return float(extents.max() if body.data.is_hand else extents[1])


def length_range(body: BodyModel) -> tuple[float, float]:
    """Return the least and the largest length of a body's shapes: those of people, or within three deviations."""
    growth = _growth(body.data)
    if body.data.people is None:
        least = -MAX_DEVIATIONS * growth / np.linalg.norm(growth)
        extremes = np.stack([least, -least])
    else:
        grown = body.data.people @ growth
        extremes = body.data.people[[grown.argmin(), grown.argmax()]]
    low, high = (rest_length(body, torch.as_tensor(betas, dtype=torch.float32)) for betas in extremes)
    return low, high


def _growth(data: BodyData) -> FloatArray:
    """Return how the length grows with each shape parameter (K,), metres."""
    extents = np.ptp(data.v_template, axis=0)
    axis = int(extents.argmax()) if data.is_hand else 1
    top, bottom = data.v_template[:, axis].argmax(), data.v_template[:, axis].argmin()
    return np.asarray(data.shapedirs[top, axis] - data.shapedirs[bottom, axis], np.float64)
