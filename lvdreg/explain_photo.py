"""What the network says of a photo: every vertex descends from the middle of the crop."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.config import DescentConfig
from lvdreg.descent import descend
from lvdreg.explain import Views
from lvdreg.image.crop import Crop
from lvdreg.image.keypoints import KEYPOINTS
from lvdreg.image.network import ImageNet
from lvdreg.normalise import Box

OTHER_NAMES = {"pinky1": "little", "index1": "index", "thumb2": "thumb"}
"""Joints that detectors of keypoints call otherwise."""


@torch.no_grad()
def look_at_photo(net: ImageNet, crop: Crop, keypoints: NDArray[np.floating] | None, config: DescentConfig) -> Views:
    """Encode a crop, and let all vertices descend.

    Args:
        net: The network.
        crop: The crop around the person.
        keypoints: (33, 3) column, row and visibility in the photo; None without a pose.
        config: Settings of the descent.

    Returns:
        The one view of the crop; its box is the crop's unit frame itself.
    """
    device = net.field.codes.device
    seen = _seen_joints(crop, keypoints, net.config.image.keypoints)
    features = net.features(crop.image[None].to(device), crop.mask[None].to(device), seen.to(device)[None])
    result = descend(net.field, features, 1, config)
    return Views(
        box=Box("photo", np.eye(4)),
        confidence=1.0,
        Rs_view_unit=torch.eye(3, device=device)[None],
        features=features,
        vertices=result.vertices[0],
        step_lengths=result.step_lengths[:, 0],
        converged=result.converged[0],
        scores={},
    )


def _seen_joints(crop: Crop, keypoints: NDArray[np.floating] | None, joints: tuple[str, ...]) -> Float[Tensor, "K 3"]:
    """Return x, y of the unit frame and confidence of the joints that the network is told of; 0 where unknown."""
    out = np.zeros((len(joints), 3), np.float32)
    if keypoints is None:
        return torch.from_numpy(out)
    for row, joint in enumerate(joints):
        side, _, plain = joint.partition("_")
        name = f"{side}_{OTHER_NAMES.get(plain, plain)}"
        if name in KEYPOINTS:
            found = keypoints[KEYPOINTS.index(name)]
            out[row] = (*crop.to_unit(found[:2].astype(np.float64)), found[2])
    return torch.from_numpy(out)
