"""Where on a body the points lie that detectors of keypoints name: joints, and places of the surface found from it."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from lvdreg.body.model import BodyData
from lvdreg.fit.solver import Kinematics
from lvdreg.image.crop import Crop

JOINTS = {
    "shoulder": "shoulder", "elbow": "elbow", "wrist": "wrist", "hip": "hip", "knee": "knee", "ankle": "ankle",
    "little": "pinky1", "index": "index1", "thumb": "thumb2",
}  # fmt: skip
"""Joint of the body by name of the keypoint, without its side."""
PARTS = {
    "spine": "trunk", "collar": "trunk", "hip": "thigh", "knee": "shin", "ankle": "foot", "foot": "foot",
    "neck": "neck", "head": "head", "shoulder": "upper arm", "elbow": "forearm", "wrist": "hand",
}  # fmt: skip
"""Part that moves with a joint, by how its name begins; others belong to their parent's, the root to the trunk."""
UNSURE = {"hip": 1.6, "shoulder": 1.2, "ear": 1.3, "heel": 1.3, "little": 1.3, "index": 1.3, "thumb": 1.3}
"""How much worse than others detectors find these, or body and detector agree on what they are."""


@dataclass(frozen=True)
class Landmarks:
    """Points fixed to a body.

    Attributes:
        names: Of the keypoints (K).
        vertices: (K,) vertex, or -1 where it is a joint.
        joints: (K,) joint, or -1.
        unsure: (K,) factor on the detector's error.
    """

    names: tuple[str, ...]
    vertices: Int64[np.ndarray, " K"]
    joints: Int64[np.ndarray, " K"]
    unsure: Float64[np.ndarray, " K"]


def landmarks_of(data: BodyData, keypoints: tuple[str, ...]) -> tuple[Landmarks, Int64[np.ndarray, " K"]]:
    """Find those keypoints on a body that it has.

    Args:
        data: The body; it rests upright and faces +Z, its left at +X.
        keypoints: Names, as ``image.keypoints.KEYPOINTS``.

    Returns:
        The landmarks, and which rows of ``keypoints`` they are (K,).
    """
    places = {**_joints(data), **_surface(data)}
    known = [(i, name) for i, name in enumerate(keypoints) if name in places]
    kinds = [places[name] for _, name in known]
    unsure = [UNSURE.get(name.removeprefix("left_").removeprefix("right_"), 1.0) for _, name in known]
    found = Landmarks(
        tuple(name for _, name in known),
        np.array([index if kind == "vertex" else -1 for kind, index in kinds], np.int64),
        np.array([index if kind == "joint" else -1 for kind, index in kinds], np.int64),
        np.array(unsure),
    )
    return found, np.array([i for i, _ in known], np.int64)


def _joints(data: BodyData) -> dict[str, tuple[str, int]]:
    names = list(data.joint_names)
    pairs = {f"{side}_{name}": f"{side}_{joint}" for side in ("left", "right") for name, joint in JOINTS.items()}
    return {name: ("joint", names.index(joint)) for name, joint in pairs.items() if joint in names}


def _surface(data: BodyData) -> dict[str, tuple[str, int]]:
    """Find tip of the nose, ears, heels and toes: the outermost points of head and feet in the rest pose."""
    points, owner = np.asarray(data.v_template, np.float64), data.weights.argmax(1)
    names = list(data.joint_names)
    out: dict[str, tuple[str, int]] = {}
    if "head" in names:
        head = np.flatnonzero(owner == names.index("head"))
        middle = head[np.abs(points[head, 0]) < 0.25 * np.ptp(points[head, 0])]
        out["nose"] = ("vertex", int(middle[points[middle, 2].argmax()]))
        out["left_ear"] = ("vertex", int(head[points[head, 0].argmax()]))
        out["right_ear"] = ("vertex", int(head[points[head, 0].argmin()]))
    for side in ("left", "right"):
        if f"{side}_foot" not in names or f"{side}_ankle" not in names:
            continue
        foot = np.flatnonzero(np.isin(owner, [names.index(f"{side}_foot"), names.index(f"{side}_ankle")]))
        out[f"{side}_toe"] = ("vertex", int(foot[points[foot, 2].argmax()]))
        out[f"{side}_heel"] = ("vertex", int(foot[(points[foot, 2] + points[foot, 1]).argmin()]))
    return out


def parts_of(data: BodyData) -> tuple[tuple[str, ...], Int64[np.ndarray, " V"]]:
    """Return names of parts, those of the limbs with their side, and which of them each vertex (V,) belongs to."""
    of_joint: list[str] = []
    for name, parent in zip(data.joint_names, data.parents, strict=True):
        side = next((word for word in ("left_", "right_") if name.startswith(word)), "")
        own = [part for word, part in PARTS.items() if name.removeprefix(side).startswith(word)]
        inherited = of_joint[parent] if parent >= 0 else "trunk"
        of_joint.append((own[0] if own[0] == "trunk" else side + own[0]) if own else inherited)
    names, number = np.unique(of_joint, return_inverse=True)
    return tuple(names.tolist()), np.asarray(number[data.weights.argmax(1)], np.int64)


def body_of(data: BodyData, landmarks: Landmarks) -> BodyData:
    """Return a body whose vertices are landmarks of another: joints ride on their own bones."""
    at, on_bone = landmarks.vertices.clip(0), landmarks.joints >= 0
    joints = landmarks.joints.clip(0)

    def rows(vertices: NDArray[np.float32], bones: NDArray[np.float32]) -> NDArray[np.float32]:
        chosen = on_bone.reshape(-1, *[1] * (vertices.ndim - 1))
        return np.where(chosen, bones[joints], vertices[at]).astype(np.float32)

    posedirs = None
    if data.posedirs is not None:
        posedirs = np.where(on_bone[:, None, None], 0, data.posedirs[at]).astype(np.float32)
    return replace(
        data,
        v_template=rows(data.v_template, data.J_template),
        shapedirs=rows(data.shapedirs, data.J_shapedirs),
        posedirs=posedirs,
        weights=rows(data.weights, np.eye(len(data.parents), dtype=np.float32)),
        faces=np.zeros((1, 3), np.int64),
        mirror_vertices=None,
    )


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
