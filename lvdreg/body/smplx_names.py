"""Parameters by the names of smplx's arguments, so that results go on there as they are."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lvdreg.base.arrays import expect
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


def params_from_named(body: BodyModel, arrays: dict[str, NDArray[Any]]) -> BodyParams:
    """Return parameters (without batch axis) from smplx's arguments, as a result or its folder has them.

    Raises:
        ValueError: an argument is missing, or of a wrong type or size.
    """
    pose = np.zeros((body.num_joints, 3), np.float32)
    owners: dict[str, list[int]] = {"global_orient": [0]}
    is_hand = body.data.is_hand
    for j, name in enumerate(body.joint_names[1:], start=1):
        owners.setdefault("hand_pose" if is_hand else argument_of(name), []).append(j)
    for argument, joints in owners.items():
        pose[joints] = _floats(arrays, argument, 3 * len(joints)).reshape(-1, 3)
    betas, transl = _floats(arrays, "betas", body.num_betas), _floats(arrays, "transl", 3)
    moved = None
    if "displacements" in arrays:
        moved = torch.from_numpy(expect(arrays, "displacements", "f", (body.num_vertices, 3)).astype(np.float32))
    return BodyParams(torch.from_numpy(betas), torch.from_numpy(pose), torch.from_numpy(transl), moved)


def _floats(arrays: dict[str, NDArray[Any]], name: str, count: int) -> NDArray[np.float32]:
    """Return an argument of smplx: of a file a batch of one, of a result in memory by itself."""
    is_batch = name in arrays and arrays[name].ndim == 2
    with np.errstate(over="ignore"):
        numbers = expect(arrays, name, "f", (1, count) if is_batch else (count,)).reshape(count).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"the array {name} has numbers too large for single precision")
    return numbers


def argument_of(joint: str) -> str:
    """Return the argument of smplx that holds the rotation of a body's joint (not of its root)."""
    side = next((side for side in ("left", "right") if in_hand(joint, side)), None)
    return f"{side}_hand_pose" if side else FACE.get(joint, "body_pose")


def in_hand(joint: str, side: str = "") -> bool:
    """Say whether a joint is a finger's of one side of a body, or of a hand whose joints name no side."""
    prefix = f"{side}_" if side else ""
    return joint.startswith(prefix) and joint.removeprefix(prefix).rstrip("123") in FINGERS
