"""Legs of which nothing, or not all, is shown: where they are without evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from lvdreg.base.shapes import BoolArray, FloatArray, IntArray, Points
from lvdreg.body.model import BodyData
from lvdreg.fit.correspond import PosedSurface, Target
from lvdreg.fit.solver import Normal, gauss_newton, geman_mcclure
from lvdreg.geometry.mesh import SurfacePoints, interpolate, unit_rows

SIDES = ("left", "right")
UNDER_CLOTH = 0.03
"""Metres: skin that is seen lies less deep under the scan, wherever the network took it to be."""
WAIST = 0.25
"""Skirts hang from somewhere below this share of the way from the hips to the neck."""
SECTORS, LEAST_IN_SECTOR, AROUND = 16, 0.1, 0.75
"""Cloth is around the legs that has a tenth of its even share in three quarters of the directions: coats are open."""
ABOVE_SOLES = 0.85
"""Of the way from the hips to the lowest skin: floors and pedestals begin below it, on all sides; cloth does not."""


@dataclass(frozen=True)
class Leg:
    """One leg: its ``hip`` joint, joints whose ``parts`` cloth hides, and ``heel``, the vertex next to the ankle."""

    hip: int
    parts: IntArray
    heel: int


def hidden_legs(
    data: BodyData, sigma: FloatArray | None, guess: float, vertices: FloatArray, target: Target
) -> tuple[Leg, ...]:
    """Return the legs that cloth hides: the network only guesses them, and they lie deep inside of the scan.

    Args:
        data: The body.
        sigma: (V,) one-sigma of each vertex, metres; None: nothing is hidden.
        guess: Shins whose median sigma is larger are guesses, metres.
        vertices: (V, 3) of the body where it begins.
        target: The scan.
    """
    names, owner = list(data.joint_names), data.weights.argmax(1)
    legs = []
    for side in SIDES:
        joints = [names.index(name) for part in ("hip", "knee", "ankle") if (name := f"{side}_{part}") in names]
        if len(joints) < 3 or sigma is None or np.median(sigma[owner == joints[1]]) <= guess:
            continue
        if np.median(depths(vertices[owner == joints[1]], target)) > UNDER_CLOTH:
            heel = np.linalg.norm(data.v_template - data.J_template[joints[2]], axis=1).argmin()
            legs.append(Leg(joints[0], np.array(joints[:2]), int(heel)))
    return tuple(legs)


def depths(points: FloatArray, target: Target) -> FloatArray:
    """Return how deep points (P, 3) lie under the nearest place of a scan (P,), metres; negative outside of it."""
    index = cKDTree(target.points).query(points)[1]
    return np.asarray(((target.points[index] - points) * target.normals[index]).sum(1))


def is_upright(joints: FloatArray, names: tuple[str, ...]) -> bool:
    """Tell whether a trunk leans by less than 45 degrees, from its joints (J, 3), Y up."""
    trunk = joints[names.index("neck")] - joints[names.index("pelvis")]
    return bool(trunk[1] > np.sqrt(0.5) * np.linalg.norm(trunk))


def hanging_cloth(
    points: Points,
    hit: SurfacePoints,
    surface: PosedSurface,
    hips: Float64[np.ndarray, "2 3"],
    knees: Float64[np.ndarray, "2 3"],
    neck: Float64[np.ndarray, " 3"],
    far: float,
) -> BoolArray:
    """Say which points of a scan (P,) are cloth that hangs around the legs: of a gown, a bell skirt, a long coat.

    They lie outside of the body and far from it, below the waist, and on all sides of thighs that hang, too: what
    stands beside somebody, or what they lie on, is on some; what they sit on is not along their thighs, and what they
    stand on is not above their soles.

    Args:
        points: (P, 3) of the scan.
        hit: Where the body is nearest to them.
        surface: The body.
        hips: The left and the right hip joint.
        knees: The left and the right knee joint.
        neck: The joint.
        far: Metres from which on a point is far from the body.
    """
    middle = hips.mean(0)
    trunk = neck - middle
    length = max(float(np.linalg.norm(trunk)), 1e-9)
    up, offset = trunk / length, points - middle
    normals = interpolate(surface.normals, surface.faces, hit.face, hit.bary)
    is_outside = np.einsum("pi,pi->p", points - hit.points, normals) > 0
    loose = is_outside & (hit.distance > far) & (offset @ up < WAIST * length)
    sideways = hips[0] - hips[1]
    left = unit_rows(sideways - (sideways @ up) * up)
    lowest = float(((surface.vertices - middle) @ up).min())
    telling = offset[loose & (offset @ up > ABOVE_SOLES * lowest)]
    angle = np.arctan2(telling @ np.cross(left, up), telling @ left)
    counts = np.bincount((SECTORS * (angle / (2 * np.pi) + 0.5)).astype(np.int64) % SECTORS, minlength=SECTORS)
    is_around = np.mean(counts > LEAST_IN_SECTOR * len(telling) / SECTORS) >= AROUND
    thighs = knees.mean(0) - middle
    hang = thighs @ up < -np.sqrt(0.5) * np.linalg.norm(thighs)
    return loose & bool(is_around and hang)


@dataclass(frozen=True)
class StraightConfig:
    """Legs that look straight and upright in a photo. A knee that bends towards the camera shows there by little.

    The spread is that of the truth: knees of people who stand or walk lie 8 +- 18 mm before the line from hip to ankle
    (12 photos of six characters of seed 0). The rest was chosen by hand; LOG.md, "Straight legs", says on what it was
    tried.
    """

    sigma: float = 0.018
    """How far a knee lies before or behind the line from hip to ankle, one-sigma, metres;"""
    reach: float = 0.12
    """what the network has much further away than this may be so: the scale of a robust kernel, metres."""
    tilt: tuple[float, float] = (15.0, 30.0)
    """Degrees in the picture from vertical, of thigh and shin, to which a leg stands, and from which on it does not."""
    length: tuple[float, float] = (0.8, 0.9)
    """Share of its own length that a leg has in the picture, from which on it may be straight, and is."""


@dataclass(frozen=True)
class StraightLegs:
    """Legs that look straight: rows of landmarks of hip, knee and ankle (L, 3), and how sure that is (L,)."""

    rows: IntArray
    weights: FloatArray

    def equations(self, places: FloatArray, jacobian: FloatArray, config: StraightConfig) -> Normal:
        """Return the normal equations that keep knees between hips and ankles in depth.

        Only the bow of each leg counts: to lean, or to stride towards the camera, costs nothing, whatever its pitch.

        Args:
            places: (K, 3) landmarks now, metres, z along the line of sight.
            jacobian: (K, 3, P) their change with the unknowns.
            config: How straight.
        """
        hip, knee, ankle = self.rows.T
        thigh, shin = (np.linalg.norm(places[a] - places[b], axis=1) for a, b in ((hip, knee), (knee, ankle)))
        share = thigh / np.maximum(thigh + shin, 1e-12)
        bow = places[knee, 2] - (1 - share) * places[hip, 2] - share * places[ankle, 2]
        rows = jacobian[knee, 2] - (1 - share)[:, None] * jacobian[hip, 2] - share[:, None] * jacobian[ankle, 2]
        robust = geman_mcclure((bow / config.reach) ** 2)[1]
        return gauss_newton(rows, bow, self.weights * robust / config.sigma**2)


def straight_legs(
    names: Sequence[str], places: FloatArray, keypoints: FloatArray, min_visibility: float, config: StraightConfig
) -> StraightLegs:
    """Find the legs that stand in a photo as far as it shows: straight, upright and as long as they are.

    Args:
        names: Of K landmarks.
        places: (K, 3) where the body has them, metres.
        keypoints: (K, 3) where the photo shows them, x right and y up, metres, and visibility.
        min_visibility: What is seen less is not seen.
        config: What is straight.
    """
    rows, weights = [], []
    for side in SIDES:
        leg = [names.index(name) for part in ("hip", "knee", "ankle") if (name := f"{side}_{part}") in names]
        if len(leg) < 3 or keypoints[leg, 2].min() < min_visibility:
            continue
        down = -np.diff(keypoints[leg, :2], axis=0)
        tilt = float(np.degrees(np.arctan2(np.abs(down[:, 0]), down[:, 1])).max())
        own = float(np.linalg.norm(np.diff(places[leg], axis=0), axis=1).sum())
        length = float(np.linalg.norm(keypoints[leg[0], :2] - keypoints[leg[2], :2])) / max(own, 1e-12)
        weight = np.interp(tilt, config.tilt, (1, 0)) * np.interp(length, config.length, (0, 1))
        if weight > 0:
            rows.append(leg)
            weights.append(weight)
    return StraightLegs(np.array(rows, np.int64).reshape(-1, 3), np.array(weights, np.float64))
