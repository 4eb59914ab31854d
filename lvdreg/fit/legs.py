"""Legs that nothing shows, as under a gown: where they are without evidence."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.model import BodyData
from lvdreg.fit.correspond import Target

SIDES = ("left", "right")
UNDER_CLOTH = 0.03
"""Metres: skin that is seen lies less deep under the scan, wherever the network took it to be."""


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
