"""Hands that were looked at closely, brought into the pose of a body."""

import numpy as np
import torch
from jaxtyping import Bool

from lvdreg.body.hands import SIDES, joints_of_hand
from lvdreg.body.model import BodyModel
from lvdreg.fit.correspond import posed_surface
from lvdreg.fit.known import NOTHING, Known, SeenVertices
from lvdreg.fit.vertices import Fit, FitConfig, Found, fit_body

HELD = 0.004
"""Metres, one-sigma: how firmly the rest of the body stays where it is while hands are posed."""


def pose_hands(body: BodyModel, fit: Fit, seen: SeenVertices, config: FitConfig, known: Known = NOTHING) -> Found:
    """Bring hands into the pose of a body.

    Args:
        body: The model.
        fit: The body, world frame.
        seen: Where vertices of its hands are.
        config: Settings of fits to vertices.
        known: What else is known of the person.
    """
    there = posed_surface(body, fit.params).vertices
    sigma = np.full(len(there), HELD)
    there[seen.index], sigma[seen.index] = seen.points, seen.sigma
    like = body.v_template
    posed = fit_body(body, torch.from_numpy(there).to(like), torch.from_numpy(sigma).to(like), config, known=known)
    own = np.zeros(body.num_vertices, bool)
    own[seen.index] = True
    return Found(posed, seen, _moving(body, own))


def _moving(body: BodyModel, own: Bool[np.ndarray, " V"]) -> Bool[np.ndarray, " J"]:
    """Return which joints (J,) turn hands that were seen."""
    joints = np.zeros(body.num_joints, bool)
    for side in SIDES:
        of_side = joints_of_hand(body.data, side)
        joints |= of_side & bool((own & of_side[np.asarray(body.data.weights).argmax(1)]).any())
    return joints
