"""A T-pose for bodies that rest otherwise, and pose parameters relative to it, as SMPL has them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.errors import BodyError
from lvdreg.body.model import FINGERS, BodyData
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat

_ARM_AWAY, _LEG_APART = np.radians(20.0), np.radians(2.0)
"""From hanging straight down, in the pose in which people are measured."""
_LIMBS = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1"))


def tpose_of(
    names: Sequence[str], parents: Sequence[int], joints: Float64[np.ndarray, "J 3"]
) -> Float64[np.ndarray, "J 3"]:
    """Return rotation vectors (J, 3) that bring SMPL-H-named joints (J, 3) at rest to a T-pose.

    Arms go along the x axis with the palms down, legs along the y axis; feet, torso and head keep their orientation.
    """
    index = {name: j for j, name in enumerate(names)}
    world = np.tile(np.eye(3), (len(names), 1, 1))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        turns = {}
        for joint, child in _LIMBS:
            bone = joints[index[f"{side}_{child}"]] - joints[index[f"{side}_{joint}"]]
            goal = np.array([0.0, -1.0, 0.0]) if joint in ("hip", "knee") else np.array([sign, 0.0, 0.0])
            turns[joint] = _shortest_turn(bone, goal)
        turns["wrist"] = _palm_down(turns["wrist"], joints, index, side)
        turns["elbow"] = _half_twist(turns["elbow"], turns["wrist"])
        for name, j in index.items():
            part = name.removeprefix(f"{side}_")
            if part != name:
                hand = part[-1].isdigit()
                world[j] = turns["wrist"] if hand else turns.get(part, np.eye(3))
    return _relative(world, parents)


def standing_of(data: BodyData) -> Float64[np.ndarray, "J 3"]:
    """Return rotation vectors (J, 3) that make a body at rest stand as people are measured.

    Legs straight down and a hand's breadth apart, arms straight and a little away from the sides; feet, torso and head
    keep their orientation. A hand lies flat with straight fingers; its thumb stays as it rests.
    """
    world, joints = np.tile(np.eye(3), (len(data.parents), 1, 1)), np.asarray(data.J_template, np.float64)
    index = {name: j for j, name in enumerate(data.joint_names)}
    if data.is_hand:
        _straighten(world, joints, index)
        return _relative(world, data.parents)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for joint, child in _LIMBS:
            angle = _LEG_APART if joint in ("hip", "knee") else _ARM_AWAY
            goal = np.array([sign * np.sin(angle), -np.cos(angle), 0.0])
            # Bodies without fingers: the hand goes on as the forearm.
            tip = index.get(f"{side}_{child}", index.get(f"{side}_hand"))
            if tip is None or f"{side}_{joint}" not in index:
                continue
            world[index[f"{side}_{joint}"]] = _shortest_turn(joints[tip] - joints[index[f"{side}_{joint}"]], goal)
        for name, j in index.items():
            if f"{side}_wrist" in index and (name == f"{side}_hand" or (name.startswith(side) and name[-1].isdigit())):
                world[j] = world[index[f"{side}_wrist"]]
    return _relative(world, data.parents)


def _straighten(world: NDArray[np.float64], joints: NDArray[np.float64], index: dict[str, int]) -> None:
    """Lay the fingers of a hand into the plane of its palm, each along its first bone."""
    wrist = joints[index["wrist"]]
    normal = np.cross(joints[index["index1"]] - wrist, joints[index["pinky1"]] - wrist)
    normal /= np.linalg.norm(normal)
    for finger in FINGERS:
        first, second, third = (index[f"{finger}{i}"] for i in (1, 2, 3))
        bone = joints[second] - joints[first]
        goal = bone - (bone @ normal) * normal
        if finger != "thumb":
            world[first] = _shortest_turn(bone, goal)
            world[second] = world[third] = _shortest_turn(joints[third] - joints[second], goal)


def _relative(world: NDArray[np.float64], parents: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return rotation vectors (J, 3) relative to the parents from rotations (J, 3, 3) in the world."""
    local = np.stack([world[j] if p < 0 else world[p].T @ world[j] for j, p in enumerate(parents)])
    return rotmat_to_rotvec(torch.from_numpy(local)).numpy()


def _shortest_turn(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest rotation matrix that takes the direction of ``a`` to that of ``b`` (not opposite to it)."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    x, y, z = np.cross(a, b)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + k + k @ k / (1 + a @ b)


def _palm_down(
    turn: NDArray[np.float64], joints: NDArray[np.float64], index: dict[str, int], side: str
) -> NDArray[np.float64]:
    """Add the twist about the x axis that puts the knuckles into the ground plane, thumb side in front."""
    knuckles = turn @ (joints[index[f"{side}_index1"]] - joints[index[f"{side}_pinky1"]])
    angle = np.arctan2(knuckles[1], knuckles[2])
    return _about_x(angle) @ turn


def _half_twist(elbow: NDArray[np.float64], wrist: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the forearm half of the wrist's twist about the x axis."""
    relative = wrist @ elbow.T
    angle = np.arctan2(relative[2, 1] - relative[1, 2], relative[1, 1] + relative[2, 2])
    return _about_x(angle / 2) @ elbow


def _about_x(angle: float) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])


def pose_to_smpl(pose: Float[Tensor, "*B J 3"], data: BodyData) -> Float[Tensor, "*B J 3"]:
    """Rewrite a pose relative to the body's rest as one relative to its T-pose, SMPL's convention.

    With T the world rotations of the T-pose, ``R' = T_parent R T^-1``: zero then means the T-pose, and rotation axes
    are those of the T-pose. Joint 0 keeps its rotation. The body itself is still skinned from its own rest pose.

    Raises:
        BodyError: the body has no T-pose.
    """
    above, own = _tpose_world(data, pose)
    return rotmat_to_rotvec(above @ rotvec_to_rotmat(pose) @ own.mT)


def pose_from_smpl(pose: Float[Tensor, "*B J 3"], data: BodyData) -> Float[Tensor, "*B J 3"]:
    """Rewrite a pose in SMPL's convention as one relative to the body's own rest; inverse of `pose_to_smpl`.

    Raises:
        BodyError: the body has no T-pose.
    """
    above, own = _tpose_world(data, pose)
    return rotmat_to_rotvec(above.mT @ rotvec_to_rotmat(pose) @ own)


def _tpose_world(data: BodyData, like: Tensor) -> tuple[Float[Tensor, "J 3 3"], Float[Tensor, "J 3 3"]]:
    """Return the T-pose's world rotations of each joint's parent and of the joint itself."""
    if data.tpose is None:
        raise BodyError(f"body {data.name} has no T-pose stored: expected an array 'tpose' in its file; rebuild it")
    local = rotvec_to_rotmat(torch.from_numpy(data.tpose).to(like))
    world = [local[0]]
    for j in range(1, len(local)):
        world.append(world[int(data.parents[j])] @ local[j])
    eye = torch.eye(3, dtype=like.dtype, device=like.device)
    above = [eye, *(world[int(p)] for p in data.parents[1:])]
    return torch.stack(above), torch.stack(world)
