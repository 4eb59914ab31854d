"""Parameters by the names of smplx's arguments, so that results go on there as they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.body.model import FINGERS, BodyModel, BodyParams

FACE = {"jaw": "jaw_pose", "left_eye_smplhf": "leye_pose", "right_eye_smplhf": "reye_pose"}
"""SMPL-X's joints of the face, and the arguments for them."""


def named_params(body: BodyModel, params: BodyParams) -> dict[str, NDArray[Any]]:
    """Split parameters into smplx's arguments, one person's each: of a hand root and fingers; of a body root, body,
    each hand if it has fingers, jaw and eyes if it has these.

    Fingers are rotation vectors from the rest pose, not from a mean pose: ``use_pca=False, flat_hand_mean=True``.
    """
    pose = params.pose.numpy()
    named = {"betas": params.betas.numpy(), "global_orient": pose[0]}
    if all(in_hand(name) for name in body.joint_names[1:]):
        named["hand_pose"] = pose[1:].reshape(-1)
    else:
        parts: dict[str, list[int]] = {"body_pose": []}
        for i, name in enumerate(body.joint_names[1:], start=1):
            parts.setdefault(argument_of(name), []).append(i)
        named |= {argument: pose[own].reshape(-1) for argument, own in parts.items()}
        if "jaw_pose" in parts:
            # The face is not fitted; smplx's own default has ten expressions.
            named["expression"] = np.zeros(10, np.float32)
    named |= {"transl": params.transl.numpy(), "scale": np.array(1.0)}
    if params.displacements is not None:
        named["displacements"] = params.displacements.numpy()
    return named


def argument_of(joint: str) -> str:
    """Return the argument of smplx that holds the rotation of a body's joint (not of its root)."""
    side = next((side for side in ("left", "right") if in_hand(joint, side)), None)
    return f"{side}_hand_pose" if side else FACE.get(joint, "body_pose")


def in_hand(joint: str, side: str = "") -> bool:
    """Say whether a joint is a finger's of one side of a body, or of a hand whose joints name no side."""
    prefix = f"{side}_" if side else ""
    return joint.startswith(prefix) and joint.removeprefix(prefix).rstrip("123") in FINGERS
