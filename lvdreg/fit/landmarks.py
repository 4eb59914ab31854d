"""Landmarks of a body in the solver's hands, and where a photo shows them."""

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from lvdreg.body.landmarks import Landmarks, body_of
from lvdreg.body.model import BodyData
from lvdreg.fit.kinematics import Kinematics
from lvdreg.image.crop import Crop


def kinematics_of(data: BodyData, landmarks: Landmarks) -> Kinematics:
    """Return what poses landmarks as it poses vertices."""
    return Kinematics(body_of(data, landmarks))


def seen_landmarks(
    crop: Crop, keypoints: NDArray[np.floating], rows: Int64[np.ndarray, " K"], min_visibility: float
) -> Float64[np.ndarray, "K 3"]:
    """Return where a photo shows landmarks: x and y of the crop's unit frame, and how sure that is, 0 where unseen.

    Args:
        crop: Around the person.
        keypoints: (33, 3) column, row and visibility in the photo.
        rows: Which of them the landmarks are.
        min_visibility: Keypoints less visible are not seen.
    """
    found = keypoints[rows].astype(np.float64)
    sure = np.where(found[:, 2] >= min_visibility, found[:, 2], 0.0)
    return np.concatenate([crop.to_unit(found[:, :2]), sure[:, None]], 1)
