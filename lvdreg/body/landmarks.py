"""Where on a body the points lie that detectors of keypoints name: near joints, and on the surface found from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.body.model import BodyData

JOINTS = {
    "shoulder": "shoulder", "elbow": "elbow", "wrist": "wrist", "hip": "hip", "knee": "knee", "ankle": "ankle",
    "little": "pinky1", "index": "index1", "thumb": "thumb2",
}  # fmt: skip
"""Joint of the body by name of the keypoint, without its side."""
SKIN: dict[str, tuple[tuple[float, float, float], float]] = {
    "shoulder": ((-0.024, 0.069, -0.013), 0.45),
    "elbow": ((-0.087, 0.113, -0.053), 0.15),
    "hip": ((-0.027, -0.010, 0.117), 0.30),
    "knee": ((0.0, -0.133, 0.020), 0.15),
    "ankle": ((-0.013, 0.070, 0.037), 0.30),
}
"""Detectors are taught by what people see: a shoulder is its top, a hip the front. So these lie by a share of the way
from the joint to a place on the skin, which is found at this distance from the left joint, metres, rest frame. Found on
drawn photos ("Where detectors see joints" in LOG.md)."""
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
        joints: (K,) joint, and
        vertices: (K,) vertex between which it lies, and
        share: (K,) of the way from the joint to the vertex: 1 where it is the vertex.
        unsure: (K,) factor on the detector's error.
    """

    names: tuple[str, ...]
    joints: Int64[np.ndarray, " K"]
    vertices: Int64[np.ndarray, " K"]
    share: Float64[np.ndarray, " K"]
    unsure: Float64[np.ndarray, " K"]

    def chosen(self, names: Sequence[str]) -> "Landmarks":
        """Return those of such names, in their order.

        Raises:
            ValueError: the body has no landmark of a name.
        """
        rows = [self.names.index(name) for name in names]
        parts = (self.joints, self.vertices, self.share, self.unsure)
        return Landmarks(tuple(names), *(part[rows] for part in parts))

    def at_joints(self) -> "Landmarks":
        """Return the same at the joints that they lie near, as sets that have joints mark them."""
        return replace(self, share=np.where(self.share < 1, 0.0, self.share))

    def of(self, vertices: Float[Tensor, "B V 3"], joints: Float[Tensor, "B J 3"]) -> Float[Tensor, "B K 3"]:
        """Return where they are on bodies, in whatever frame these are given in."""
        at, origins = (torch.as_tensor(rows, device=vertices.device) for rows in (self.vertices, self.joints))
        share = torch.as_tensor(self.share, device=vertices.device).to(vertices)[:, None]
        return torch.lerp(joints.index_select(1, origins), vertices.index_select(1, at), share)


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
    joints, vertices, share = zip(*kinds, strict=True) if kinds else ((), (), ())
    found = Landmarks(
        tuple(name for _, name in known),
        np.array(joints, np.int64),
        np.array(vertices, np.int64),
        np.array(share, np.float64),
        np.array(unsure),
    )
    return found, np.array([i for i, _ in known], np.int64)


def named_points(data: BodyData) -> Landmarks:
    """Return all joints of a body by their own names, and those points of its skin that detectors name, as ``nose``."""
    joints = {name: (j, 0, 0.0) for j, name in enumerate(data.joint_names)}
    places = {**_surface(data), **joints}
    joint, vertex, share = (np.array(column) for column in zip(*places.values(), strict=True))
    return Landmarks(
        tuple(places), joint.astype(np.int64), vertex.astype(np.int64), share.astype(np.float64), np.ones(len(places))
    )


def _joints(data: BodyData) -> dict[str, tuple[int, int, float]]:
    """Find joints, and places between them and the skin: joint, vertex, share."""
    names = list(data.joint_names)
    out: dict[str, tuple[int, int, float]] = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for name, joint in JOINTS.items():
            if f"{side}_{joint}" not in names:
                continue
            index = names.index(f"{side}_{joint}")
            offset, share = SKIN.get(name, ((0.0, 0.0, 0.0), 0.0))
            place = data.J_template[index] + np.multiply(offset, (sign, 1, 1))
            nearest = np.square(data.v_template - place).sum(1).argmin()
            out[f"{side}_{name}"] = (index, int(nearest), share)
    return out


def _surface(data: BodyData) -> dict[str, tuple[int, int, float]]:
    """Find tip of the nose, ears, heels and toes, as ``_joints``: the outermost points of head and feet at rest."""
    points, owner = np.asarray(data.v_template, np.float64), data.weights.argmax(1)
    names = list(data.joint_names)
    out: dict[str, tuple[int, int, float]] = {}
    if "head" in names:
        head = np.flatnonzero(owner == names.index("head"))
        middle = head[np.abs(points[head, 0]) < 0.25 * np.ptp(points[head, 0])]
        out["nose"] = (0, int(middle[points[middle, 2].argmax()]), 1.0)
        out["left_ear"] = (0, int(head[points[head, 0].argmax()]), 1.0)
        out["right_ear"] = (0, int(head[points[head, 0].argmin()]), 1.0)
    for side in ("left", "right"):
        if f"{side}_foot" not in names or f"{side}_ankle" not in names:
            continue
        foot = np.flatnonzero(np.isin(owner, [names.index(f"{side}_foot"), names.index(f"{side}_ankle")]))
        out[f"{side}_toe"] = (0, int(foot[points[foot, 2].argmax()]), 1.0)
        out[f"{side}_heel"] = (0, int(foot[(points[foot, 2] + points[foot, 1]).argmin()]), 1.0)
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


def named_parts(data: BodyData) -> tuple[tuple[str, ...], Int64[np.ndarray, " V"]]:
    """Return what reports call parts: those of a body, the palm and the fingers of a hand; and each vertex's (V,)."""
    names, part = parts_of(data)
    if data.is_hand:
        plain = [name.rstrip("0123456789").replace("wrist", "palm") for name in data.joint_names]
        found, number = np.unique(plain, return_inverse=True)
        names, part = tuple(found.tolist()), np.asarray(number[data.weights.argmax(1)], np.int64)
    return tuple(name.replace("_", " ") for name in names), part


def body_of(data: BodyData, landmarks: Landmarks) -> BodyData:
    """Return a body whose vertices are landmarks of another: what is joint of them rides on its own bone."""
    at, joints = landmarks.vertices, landmarks.joints

    def rows(vertices: NDArray[np.float32], bones: NDArray[np.float32]) -> NDArray[np.float32]:
        share = landmarks.share.reshape(-1, *[1] * (vertices.ndim - 1))
        return (share * vertices[at] + (1 - share) * bones[joints]).astype(np.float32)

    posedirs = None
    if data.posedirs is not None:
        posedirs = (landmarks.share[:, None, None] * data.posedirs[at]).astype(np.float32)
    return replace(
        data,
        v_template=rows(data.v_template, data.J_template),
        shapedirs=rows(data.shapedirs, data.J_shapedirs),
        posedirs=posedirs,
        weights=rows(data.weights, np.eye(len(data.parents), dtype=np.float32)),
        faces=np.zeros((1, 3), np.int64),
        mirror_vertices=None,
        vt=None,
        ft=None,
    )
