"""Poses over time: as smooth as the scans are noisy, and as sharp as people move.

Each frame measures the rotation of every joint, with a covariance. Between frames rotations go on as they went, but for
an acceleration that is drawn from a Gaussian of each joint's own width, which makes the measurements most likely; where
a joint is jerked, the Gaussian is wider (Student's t, by reweighting). Means given all frames are those of Rauch, Tung
and Striebel (1965), about the rotations as measured, so that turns of any size are no trouble.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial.transform import Rotation

from lvdreg.base.shapes import BoolArray, FloatArray

WIDTHS = np.geomspace(1e-4, 0.3, 15)
"""One-sigma of accelerations that are tried, radians or metres by frame squared."""
DEGREES = 4.0
"""Of freedom of Student's t."""
ROUNDS = 3
FAR = 1e6
"""Variance of what nothing is known of."""


@dataclass(frozen=True)
class Smoothed:
    """What is known of a few quantities at each frame, all frames considered.

    Attributes:
        means: (N, J, 3).
        covariances: (N, J, 3, 3).
    """

    means: Float64[np.ndarray, "N J 3"]
    covariances: Float64[np.ndarray, "N J 3 3"]


def smooth_rotations(
    rotvecs: Float64[np.ndarray, "N J 3"], covariances: Float64[np.ndarray, "N J 3 3"], seen: Bool[np.ndarray, " N"]
) -> Smoothed:
    """Smooth rotations over time.

    Args:
        rotvecs: Of each frame and joint, radians; any where nothing was seen.
        covariances: Of small rotations after these, radians squared.
        seen: Which frames were measured.

    Returns:
        Rotation vectors, and covariances as they were given.
    """
    shape = rotvecs.shape
    measured = Rotation.from_rotvec(_filled(rotvecs, seen).reshape(-1, 3))
    at, weights, width = measured, np.ones((shape[0], shape[1])), None
    for _ in range(ROUNDS):
        offsets = (at.inv() * measured).as_rotvec().reshape(shape)
        found = at.as_matrix().reshape(*shape, 3)
        steps = Rotation.from_matrix((found[:-1].transpose(0, 1, 3, 2) @ found[1:]).reshape(-1, 3, 3)).as_rotvec()
        # What accelerations are as it is: a step is one of this and of the offsets' second difference.
        bends = np.zeros(shape)
        bends[1:-1] = np.diff(steps.reshape(shape[0] - 1, *shape[1:]), axis=0)
        width = likeliest_widths(offsets, covariances, seen, bends) if width is None else width
        smoothed = _smooth(offsets, covariances, seen, bends, width, weights)
        at = at * Rotation.from_rotvec(smoothed.means.reshape(-1, 3))
        weights = _weights(smoothed.means, bends, width)
    return Smoothed(at.as_rotvec().reshape(shape), smoothed.covariances)


def smooth_places(
    places: Float64[np.ndarray, "N J 3"], covariances: Float64[np.ndarray, "N J 3 3"], seen: Bool[np.ndarray, " N"]
) -> Smoothed:
    """Smooth places over time, metres; arguments as of ``smooth_rotations``."""
    bends, weights = np.zeros_like(places), np.ones(places.shape[:2])
    width = likeliest_widths(places, covariances, seen, bends)
    for _ in range(ROUNDS):
        smoothed = _smooth(places, covariances, seen, bends, width, weights)
        weights = _weights(smoothed.means, bends, width)
    return smoothed


def likeliest_widths(
    measured: Float64[np.ndarray, "N J 3"],
    covariances: Float64[np.ndarray, "N J 3 3"],
    seen: Bool[np.ndarray, " N"],
    bends: Float64[np.ndarray, "N J 3"],
) -> Float64[np.ndarray, " J"]:
    """Return the one-sigma of accelerations (J,) under which measurements are most likely, of ``WIDTHS``."""
    ones = np.ones(measured.shape[:2])
    likely = [
        _filtered(measured, covariances, seen, bends, np.full(measured.shape[1], width), ones)[2] for width in WIDTHS
    ]
    return np.asarray(WIDTHS[np.argmax(likely, axis=0)])


def _filled(rotvecs: FloatArray, seen: BoolArray) -> FloatArray:
    """Return rotation vectors with those of frames that were not seen between their neighbours'."""
    out, index = rotvecs.copy(), np.flatnonzero(seen)
    for t in np.flatnonzero(~seen):
        later = int(np.searchsorted(index, t))
        a, b = index[max(later - 1, 0)], index[min(later, len(index) - 1)]
        share = 0.0 if a == b else (t - a) / (b - a)
        step = (Rotation.from_rotvec(rotvecs[a]).inv() * Rotation.from_rotvec(rotvecs[b])).as_rotvec()
        out[t] = (Rotation.from_rotvec(rotvecs[a]) * Rotation.from_rotvec(share * step)).as_rotvec()
    return out


def _weights(means: FloatArray, bends: FloatArray, width: FloatArray) -> FloatArray:
    """Return how narrow the Gaussian of each acceleration is (N, J): that of a jerk is wide."""
    bent = bends.copy()
    bent[1:-1] += means[2:] - 2 * means[1:-1] + means[:-2]
    squared = (bent**2).sum(-1) / width**2
    return np.asarray((DEGREES + 3) / (DEGREES + squared))


def _filtered(
    measured: FloatArray, covariances: FloatArray, seen: BoolArray, bends: FloatArray, width: FloatArray,
    weights: FloatArray,
) -> tuple[list[tuple[FloatArray, ...]], list[tuple[FloatArray, ...]], FloatArray]:  # fmt: skip
    """Filter forwards (Kalman 1960); the state is the quantity (3,) here and one frame before.

    Returns:
        What was predicted of each frame and what was then known, as means (J, 6) and covariances (J, 6, 6), and the
        logarithm of how likely the measurements are (J,).
    """
    num, eye = measured.shape[1], np.eye(3)
    F = np.block([[2 * eye, -eye], [eye, np.zeros((3, 3))]])
    mean, covariance = np.zeros((num, 6)), np.tile(FAR * np.eye(6), (num, 1, 1))
    predicted, known, likely = list[tuple[FloatArray, ...]](), list[tuple[FloatArray, ...]](), np.zeros(num)
    for t in range(len(measured)):
        if t > 1:
            mean, covariance = mean @ F.T, F @ covariance @ F.T
            # The bend of the frame before: x[t] - 2 x[t-1] + x[t-2] + bend is the acceleration.
            mean[:, :3] -= bends[t - 1]
            covariance[:, :3, :3] += (width**2 / weights[t - 1])[:, None, None] * eye
        elif t == 1:
            mean, covariance = _shifted(mean, covariance)
        predicted.append((mean, covariance))
        if seen[t]:
            spread = covariance[:, :3, :3] + covariances[t]
            gain = np.linalg.solve(spread, covariance[:, :3]).transpose(0, 2, 1)
            missed = measured[t] - mean[:, :3]
            if t > 1:
                bent = np.einsum("ji,ji->j", missed, np.linalg.solve(spread, missed[..., None])[..., 0])
                likely -= 0.5 * (bent + np.linalg.slogdet(spread)[1])
            mean = mean + np.einsum("jab,jb->ja", gain, missed)
            covariance = covariance - gain @ covariance[:, :3]
            covariance = (covariance + covariance.transpose(0, 2, 1)) / 2
        known.append((mean, covariance))
    return predicted, known, likely


def _shifted(mean: FloatArray, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the state one frame on, where nothing is known of the new frame."""
    later, spread = np.zeros_like(mean), np.zeros_like(covariance)
    later[:, :3] = later[:, 3:] = mean[:, :3]
    spread[:, 3:, 3:] = covariance[:, :3, :3]
    spread[:, :3, :3] = FAR * np.eye(3)
    return later, spread


def _smooth(
    measured: FloatArray, covariances: FloatArray, seen: BoolArray, bends: FloatArray, width: FloatArray,
    weights: FloatArray,
) -> Smoothed:  # fmt: skip
    """Filter forwards, then go back (Rauch, Tung, Striebel 1965)."""
    eye = np.eye(3)
    F = np.block([[2 * eye, -eye], [eye, np.zeros((3, 3))]])
    predicted, known, _ = _filtered(measured, covariances, seen, bends, width, weights)
    mean, covariance = known[-1]
    means, spreads = [mean[:, :3]], [covariance[:, :3, :3]]
    for t in range(len(measured) - 2, 0, -1):
        own, own_spread = known[t]
        back = np.linalg.solve(predicted[t + 1][1], F @ own_spread).transpose(0, 2, 1)
        mean = own + np.einsum("jab,jb->ja", back, mean - predicted[t + 1][0])
        covariance = own_spread + back @ (covariance - predicted[t + 1][1]) @ back.transpose(0, 2, 1)
        means.append(mean[:, :3])
        spreads.append(covariance[:, :3, :3])
    # The state of the second frame has the first in it.
    means.append(mean[:, 3:])
    spreads.append(covariance[:, 3:, 3:])
    return Smoothed(np.stack(means[::-1]), np.stack(spreads[::-1]))
