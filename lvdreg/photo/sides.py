"""Which side is the left one? Looked at again, a little differently, the landmarks' network may say otherwise.

Whoever is seen from behind, or without a face, is easily taken for somebody who faces the camera: all keypoints are in
their places then, but named for the other side. Small changes of the picture, and the mirror, tell how sure that is.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.photo.detector import body_squares
from lvdreg.photo.keypoints import KEYPOINTS, find_landmarks
from lvdreg.photo.warp import Boxes, Pyramid

LOOKS = (
    (1.0, 0.0, True), (1.3, 0.0, False), (1.0, -0.35, False), (1.3, 0.0, True), (0.85, 0.0, False), (1.0, 0.35, False),
    (1.0, 0.35, True), (1.0, -0.35, True),
)  # fmt: skip
"""Squares that are looked at: how large over the usual, how far turned (radians), and whether in the mirror."""
FIRST_LOOKS, ALIKE = 4, 0.8
"""Where so many say the same, that is enough: the others are not asked."""
REACH = 0.88
"""Of the distance from the hips to the furthest keypoint: the usual square's half side over ``body_squares``'s."""
PAIRS = np.array([[KEYPOINTS.index(f"{side}_{joint}") for side in ("left", "right")] for joint in ("shoulder", "hip")])
"""Rows of keypoints that say where left is."""


def sides_agree(
    pyramid: Pyramid, keypoints: Float[np.ndarray, "33 3"], world: Float[np.ndarray, "33 3"], device: str = "cpu"
) -> float:
    """Return how much looks agree with keypoints on which side is left: 1 all of them, -1 none; theirs is one of them.

    What is compared is in space, where left and right of somebody seen from the side are far from each other, too.

    Args:
        pyramid: The photo.
        keypoints: Column, row and visibility.
        world: The same in metres, as ``DetectedPerson.world``.
        device: Where the network runs.
    """
    own = _square(torch.from_numpy(keypoints[:, :2]).to(device))
    said = [1.0]
    for size, turn, mirrored in LOOKS:
        look = Boxes(own.centre, size * own.size, own.angle + turn)
        said.append(alike(world, find_landmarks(pyramid, look, device, mirrored=mirrored).world[0].cpu().numpy()))
        if len(said) == 1 + FIRST_LOOKS and min(said) > ALIKE:
            break
    return float(np.mean(said))


def alike(world: Float[np.ndarray, "33 3"], other: Float[np.ndarray, "33 3"]) -> float:
    """Return whether shoulders and hips lie from right to left in both alike: 1, or the other way round: -1."""
    ours, theirs = (points[PAIRS[:, 0]] - points[PAIRS[:, 1]] for points in (world, other))
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float((ours * theirs).sum() / max(float(lengths.sum()), 1e-9))


def _square(points: Float[Tensor, "33 2"]) -> Boxes:
    """Return the square around a person that its keypoints suggest, turned as the trunk leans."""
    shoulders, hips = points[PAIRS[0]].mean(0), points[PAIRS[1]].mean(0)
    up = torch.nn.functional.normalize(shoulders - hips, dim=0)
    return body_squares(hips[None], (hips + REACH * (points - hips).norm(dim=1).amax() * up)[None])
