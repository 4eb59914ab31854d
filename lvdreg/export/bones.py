"""What other programs call the joints of a body: by their names animations and retargeting find them."""

from collections.abc import Sequence
from typing import Literal

Bones = Literal["smpl", "mixamo", "vrm"]

_CENTRAL = {
    "pelvis": ("Hips", "hips"), "spine1": ("Spine", "spine"), "spine2": ("Spine1", "chest"),
    "spine3": ("Spine2", "upperChest"), "neck": ("Neck", "neck"), "head": ("Head", "head"), "jaw": ("Jaw", "jaw"),
}  # fmt: skip
_SIDED = {
    "hip": ("UpLeg", "UpperLeg"), "knee": ("Leg", "LowerLeg"), "ankle": ("Foot", "Foot"), "foot": ("ToeBase", "Toes"),
    "collar": ("Shoulder", "Shoulder"), "shoulder": ("Arm", "UpperArm"), "elbow": ("ForeArm", "LowerArm"),
    "wrist": ("Hand", "Hand"), "eye_smplhf": ("Eye", "Eye"),
}  # fmt: skip
"""By SMPL's names: Mixamo's and VRM's, without prefix and side."""
_FINGERS = {"index": "Index", "middle": "Middle", "ring": "Ring", "pinky": "Little", "thumb": "Thumb"}
_PARTS = {True: ("Metacarpal", "Proximal", "Distal"), False: ("Proximal", "Intermediate", "Distal")}
"""VRM 1.0 names the three joints of a thumb otherwise than those of the other fingers."""


def bone_names(joints: Sequence[str], kind: Bones, side: str | None = None) -> tuple[str, ...]:
    """Return names for joints; a joint that the other program does not know keeps its own.

    Args:
        joints: SMPL's names, or those of a hand, which name no side.
        kind: Whose names: SMPL's, Mixamo's (prefix ``mixamorig:``) or those of VRM 1.0.
        side: Of a hand.
    """
    own = [f"{side}_{name}" for name in joints] if side is not None else list(joints)
    return tuple(own if kind == "smpl" else (_renamed(name, kind) for name in own))


def _renamed(name: str, kind: Bones) -> str:
    is_vrm = kind == "vrm"
    prefix = "" if is_vrm else "mixamorig:"
    if name in _CENTRAL:
        return prefix + _CENTRAL[name][is_vrm]
    side, _, part = name.partition("_")
    if side not in ("left", "right"):
        return name
    if part in _SIDED:
        return prefix + (side if is_vrm else side.capitalize()) + _SIDED[part][is_vrm]
    finger, number = part[:-1], part[-1:]
    if finger not in _FINGERS or number not in "123":
        return name
    if is_vrm:
        return side + _FINGERS[finger] + _PARTS[finger == "thumb"][int(number) - 1]
    return f"{prefix}{side.capitalize()}Hand{finger.capitalize()}{number}"
