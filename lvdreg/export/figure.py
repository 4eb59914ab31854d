"""A result as animators hold it: a surface at rest, a skeleton, weights, and the pose it stands in.

Metres at true size, Y up. Of a body the lowest vertex is at y = 0 and the pelvis above the origin; of a hand the wrist
is at the origin.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from lvdreg.base.errors import RegistrationError
from lvdreg.base.shapes import Faces, Vertices
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.body.poses import pose_to_smpl
from lvdreg.export.bones import Bones, bone_names
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.result.read import SavedResult

PoseKind = Literal["scan", "t", "a"]
OFF_MM = 1.0
"""A model that poses its own result further off than this is not the one that it was registered with."""
MAX_WEIGHTS = 8


@dataclass(frozen=True)
class Layout:
    """A UV layout: texture coordinates (T, 2), (0, 0) the lower left corner, and those of each face's corners."""

    uv: Float64[np.ndarray, "T 2"]
    corners: Int64[np.ndarray, "F 3"]


@dataclass(frozen=True)
class Paint:
    """How a surface looks.

    Attributes:
        image: (S, S, 3) sRGB for the layout, first row on top; None without a layout.
        seen: (S, S) 255 where the scan shows the surface, 0 where it was filled in; None without an image.
        colours: (V, 3) sRGB of the vertices.
    """

    image: UInt8[np.ndarray, "S S 3"] | None
    seen: UInt8[np.ndarray, "S S"] | None
    colours: UInt8[np.ndarray, "V 3"]


@dataclass(frozen=True)
class Figure:
    """A rigged person or hand.

    Attributes:
        name: Of the result.
        bones: Names of the joints.
        parents: (J,) -1 of the root, others come after their parents.
        rest: (V, 3) the person's surface at rest, displacements included.
        joints: (J, 3) at rest.
        rotations: (J, 3, 3) of the pose, relative to the parent; all frames are those of the world at rest.
        transl: (3,) added after posing.
        weights: (V, J) rows sum to one, at most 8 each.
        faces: (F, 3).
        morphs: (K, V, 3) what one unit more of each shape parameter adds to ``rest``; joints do not follow.
        correction: (V, 3) what the pose adds to ``rest`` before skinning (SMPL's pose blend shapes); None without.
        layout: UV layout, if the model has one.
        paint: Colours of the scan.
    """

    name: str
    bones: tuple[str, ...]
    parents: Int64[np.ndarray, " J"]
    rest: Vertices
    joints: Float64[np.ndarray, "J 3"]
    rotations: Float64[np.ndarray, "J 3 3"]
    transl: Float64[np.ndarray, " 3"]
    weights: Float64[np.ndarray, "V J"]
    faces: Faces
    morphs: Float64[np.ndarray, "K V 3"]
    correction: Float64[np.ndarray, "V 3"] | None = None
    layout: Layout | None = None
    paint: Paint | None = None

    @property
    def offsets(self) -> Float64[np.ndarray, "J 3"]:
        """(J, 3) from each joint's parent to it, at rest; of the root from the origin, translation included."""
        above = np.where(self.parents[:, None] >= 0, self.joints[self.parents], 0)
        return self.joints - above + np.where(self.parents[:, None] >= 0, 0, self.transl)

    def bone_transforms(self) -> Float64[np.ndarray, "J 4 4"]:
        """Return where each joint's frame is in the posed world, (J, 4, 4)."""
        out = np.tile(np.eye(4), (len(self.parents), 1, 1))
        for j, parent in enumerate(self.parents):
            own = np.eye(4)
            own[:3, :3], own[:3, 3] = self.rotations[j], self.offsets[j]
            out[j] = own if parent < 0 else out[parent] @ own
        return out

    def posed(self) -> Vertices:
        """Skin the surface, (V, 3): what every reader of an export should show."""
        turned = self.bone_transforms()
        skin = turned[:, :3].copy()
        skin[:, :, 3] -= np.einsum("jab,jb->ja", turned[:, :3, :3], self.joints)
        blended = np.einsum("vj,jab->vab", self.weights, skin)
        rest = self.rest if self.correction is None else self.rest + self.correction
        return np.einsum("vab,vb->va", blended[..., :3], rest) + blended[..., 3]

    def named_morphs(self) -> dict[str, tuple[Vertices, float]]:
        """Return all that may be added to ``rest`` by name, (V, 3), and how much of it is: the pose's part, betas."""
        own = {} if self.correction is None else {"pose_correction": (self.correction, 1.0)}
        return own | {f"beta_{k}": (morph, 0.0) for k, morph in enumerate(self.morphs)}

    def grounded(self, is_hand: bool) -> "Figure":
        """Return the figure moved to its place: see the module."""
        root = self.joints[0] + self.transl
        low = root[1] if is_hand else self.posed()[:, 1].min()
        return replace(self, transl=self.transl - np.array([root[0], low, root[2]]))


def figure_of(
    result: SavedResult, pose: PoseKind = "scan", bones: Bones = "smpl", num_weights: int = MAX_WEIGHTS, morphs: int = 0
) -> Figure:
    """Rig a result.

    Args:
        result: As read from its folder.
        pose: That of the scan, a T-pose or an A-pose; a hand that is not in the scan's pose is at rest, flat.
        bones: Whose names joints get.
        num_weights: So many joints move a vertex at most: the strongest, whose weights then sum to one.
        morphs: How many shape parameters become morphs.

    Raises:
        RegistrationError: the model is no longer the one that the result was made with.
    """
    _check_same(result)
    about = result.name or result.folder.name, bone_names(result.body.data.joint_names, bones, result.side)
    return rigged(result.body, posed_params(result, pose), result.body_scale, *about, num_weights, morphs)


def rigged(
    model: BodyModel,
    params: BodyParams,
    scale: float,
    name: str,
    bones: tuple[str, ...],
    num_weights: int = MAX_WEIGHTS,
    morphs: int = 0,
) -> Figure:
    """Rig a body in a pose, on its place; arguments are those of ``figure_of``.

    Args:
        model: The body.
        params: Without batch axis.
        scale: What lengths of the model are multiplied by to be true ones.
        name: Of the figure.
        bones: Names of the joints.
        num_weights: As of ``figure_of``.
        morphs: Likewise.
    """
    body, params = BodyModel(model.data).double(), _double(params)
    data = body.data
    rest, joints = body.rest(params.betas, params.displacements)
    rotations = rotvec_to_rotmat(params.pose)
    correction = None
    if body.posedirs is not None:
        feature = (rotations[1:] - torch.eye(3, dtype=torch.float64)).flatten()
        correction = scale * (body.posedirs @ feature).reshape(-1, 3).numpy()
    figure = Figure(
        name=name,
        bones=bones,
        parents=data.parents,
        rest=scale * rest.numpy(),
        joints=scale * joints.numpy(),
        rotations=rotations.numpy(),
        transl=scale * params.transl.numpy(),
        weights=strongest(data.weights.astype(np.float64), num_weights),
        faces=data.faces,
        morphs=scale * np.moveaxis(data.shapedirs[..., :morphs].astype(np.float64), -1, 0),
        correction=correction,
        layout=None if data.vt is None or data.ft is None else Layout(data.vt.astype(np.float64), data.ft),
    )
    return figure.grounded(data.is_hand)


def posed_params(result: SavedResult, pose: PoseKind) -> BodyParams:
    """Return the parameters of a result in its own pose or in another, which then faces along +Z."""
    if pose == "scan":
        return result.params
    return replace(result.params, pose=named_pose(result.body.data, pose), transl=torch.zeros(3))


def _double(params: BodyParams) -> BodyParams:
    moved = None if params.displacements is None else params.displacements.double()
    return BodyParams(params.betas.double(), params.pose.double(), params.transl.double(), moved)


def _check_same(result: SavedResult) -> None:
    posed = result.body(result.params).vertices.double().numpy()
    off = 1000 * float(np.abs(posed - result.surface).max())
    if off > OFF_MM:
        raise RegistrationError(
            f"{result.folder}: its parameters pose {result.body.data.name} {off:.0f} mm off its surface: the model is "
            "another than it was registered with; register the scan again"
        )


def named_pose(data: BodyData, pose: Literal["t", "a"]) -> Float[Tensor, "J 3"]:
    """Return rotation vectors that bring a body from its rest to a T-pose or an A-pose; zero, rest, of a hand.

    A body that has no T-pose stored rests in one, as SMPL does; its A-pose is that in which the free body rests.
    """
    rest = torch.zeros(len(data.parents), 3)
    if data.is_hand or (pose == "t") == (data.tpose is None):
        return rest
    if pose == "t":
        return torch.from_numpy(np.asarray(data.tpose, np.float32))
    free = load_body("anny").data
    found = dict(zip(free.joint_names, pose_to_smpl(torch.zeros(len(free.parents), 3), free), strict=True))
    return torch.stack([found.get(name, rest[j]) for j, name in enumerate(data.joint_names)])


def strongest(weights: Float64[np.ndarray, "V J"], count: int) -> Float64[np.ndarray, "V J"]:
    """Keep the largest weights of each row, at most ``count``, and let them sum to one."""
    if weights.shape[1] > count:
        weights = np.where(weights >= np.sort(weights, 1)[:, -count, None], weights, 0)
    return weights / weights.sum(1, keepdims=True)
