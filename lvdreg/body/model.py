"""The body model: SMPL's arrays, shape blending and linear blend skinning in torch.

Frames: the rest frame of every body is in metres with Y up, facing +Z, the person's left at +X; a posed body with
its translation lives in the world frame. Nothing here knows how many vertices, joints or shape directions a body has.
Source: Loper et al., "SMPL: a skinned multi-person linear model", 2015, Eqs. 2-10, pose blend shapes optional.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, Int64
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.arguments import check_type
from lvdreg.base.errors import BodyError
from lvdreg.base.shapes import Faces
from lvdreg.geometry.frames import rotvec_to_rotmat

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
"""As they stand in the names of joints, ``index1`` the nearest to the wrist; MANO's order."""


@dataclass(frozen=True)
class BodyData:
    """Arrays of one body, as SMPL stores them; lengths in metres, rest frame.

    Betas are standardised: independent, zero mean and unit variance over the people the body was made from.
    """

    name: str
    v_template: Float32[np.ndarray, "V 3"]
    """(V, 3) mean person in the rest pose."""
    shapedirs: Float32[np.ndarray, "V 3 K"]
    """(V, 3, K) metres per unit of beta."""
    posedirs: Float32[np.ndarray, "V 3 P"] | None
    """(V, 3, 9 * (J - 1)) pose blend shapes, or None when the body has none."""
    weights: Float32[np.ndarray, "V J"]
    """(V, J) skinning weights, rows sum to one."""
    faces: Faces
    """(F, 3) triangles, counter-clockwise seen from outside."""
    parents: Int64[np.ndarray, " J"]
    """(J,) parent of each joint, which comes before it; ``parents[0] == -1``."""
    joint_names: tuple[str, ...]
    J_template: Float32[np.ndarray, "J 3"]
    """(J, 3) joints of the mean person."""
    J_shapedirs: Float32[np.ndarray, "J 3 K"]
    """(J, 3, K) metres per unit of beta; with J_template equal to the joint regressor applied to the rest shape."""
    mirror_vertices: Int64[np.ndarray, " V"] | None
    """(V,) the vertex on the other side of x = 0; an involution. None for a hand: its mirror image is another body."""
    mirror_joints: Int64[np.ndarray, " J"] | None
    """(J,) the joint on the other side, or None."""
    provenance: dict[str, str]
    """Source, version, licence, command and the numbers reached, in words."""
    tpose: Float32[np.ndarray, "J 3"] | None = None
    """(J, 3) rotation vectors from the mean person's rest pose to a T-pose, palms down; None: unknown."""
    people: Float32[np.ndarray, "S K"] | None = None
    """(S, K) betas of sampled people, children among them: what a Gaussian on betas cannot say."""
    vt: Float32[np.ndarray, "T 2"] | None = None
    """(T, 2) texture coordinates, (0, 0) the lower left corner; None: there is no UV layout."""
    ft: Int64[np.ndarray, "F 3"] | None = None
    """(F, 3) those of each face's corners."""
    sha256: str = ""
    """Of the file that it was read from; empty of one that was put together."""

    def __post_init__(self) -> None:
        _check_shapes(self)

    @property
    def is_hand(self) -> bool:
        """Whether this is a hand by itself: its root is the wrist."""
        return self.joint_names[0] == "wrist"


def mirror_image(data: BodyData) -> BodyData:
    """Return the mirror image (x to -x) of a body: of a right hand the left one.

    Rotation vectors (x, y, z) of the one pose the other as (x, -y, -z); rotation matrices R as M R M with
    M = diag(-1, 1, 1), which is how pose blend shapes read them.
    """
    polar = np.array([-1.0, 1.0, 1.0], np.float32)
    posedirs = data.posedirs
    if posedirs is not None:
        posedirs = posedirs * polar[:, None] * np.tile(np.outer(polar, polar).ravel(), posedirs.shape[-1] // 9)
    return replace(
        data,
        v_template=data.v_template * polar,
        shapedirs=data.shapedirs * polar[:, None],
        posedirs=posedirs,
        faces=np.ascontiguousarray(data.faces[:, [0, 2, 1]]),
        J_template=data.J_template * polar,
        J_shapedirs=data.J_shapedirs * polar[:, None],
        ft=None if data.ft is None else np.ascontiguousarray(data.ft[:, [0, 2, 1]]),
    )


def some_vertices(data: BodyData, chosen: Sequence[int] | Int64[np.ndarray, " S"]) -> BodyData:
    """Return a body of some of its vertices alone, without faces, which is posed and shaped as the whole one is."""
    index = np.array(chosen, np.int64)
    posedirs = None if data.posedirs is None else data.posedirs[index]
    return replace(
        data,
        v_template=data.v_template[index],
        shapedirs=data.shapedirs[index],
        posedirs=posedirs,
        weights=data.weights[index],
        faces=data.faces[:0],
        mirror_vertices=None,
        vt=None,
        ft=None,
    )


def joined(data: BodyData, more: BodyData) -> BodyData:
    """Return a body of the vertices of two that have the same joints and betas, without faces."""
    posedirs = None
    if data.posedirs is not None and more.posedirs is not None:
        posedirs = np.concatenate([data.posedirs, more.posedirs])
    return replace(
        data,
        v_template=np.concatenate([data.v_template, more.v_template]),
        shapedirs=np.concatenate([data.shapedirs, more.shapedirs]),
        posedirs=posedirs,
        weights=np.concatenate([data.weights, more.weights]),
        faces=data.faces[:0],
        mirror_vertices=None,
    )


def joint_regressor(data: BodyData) -> Float64[np.ndarray, "J V"]:
    """Return a regressor (J, V) that gives the joints of the rest shape, as SMPL's does; bodies are stored without one.

    The one of minimum norm, exact on the mean, on every shape direction and under translation; neither local nor
    non-negative, as SMPL's is: a local one misses Anny's joints by millimetres.
    """

    def columns(mean: NDArray[np.float32], dirs: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.concatenate([mean, dirs.reshape(len(dirs), -1), np.ones((len(mean), 1))], 1).astype(np.float64)

    joints = columns(data.J_template, data.J_shapedirs)
    regressor: NDArray[np.float64] = joints @ np.linalg.pinv(columns(data.v_template, data.shapedirs), rcond=1e-8)
    if data.mirror_joints is None or data.mirror_vertices is None:
        return regressor
    return (regressor + regressor[data.mirror_joints][:, data.mirror_vertices]) / 2


def _check_shapes(data: BodyData) -> None:
    """Raise BodyError when the arrays of a body do not fit together."""
    v, j, k = len(data.v_template), len(data.parents), data.shapedirs.shape[-1]
    expected: dict[str, tuple[int, ...]] = {
        "parents": (j,), "v_template": (v, 3), "shapedirs": (v, 3, k), "posedirs": (v, 3, 9 * (j - 1)),
        "weights": (v, j), "J_template": (j, 3), "J_shapedirs": (j, 3, k), "mirror_vertices": (v,),
        "mirror_joints": (j,), "tpose": (j, 3), "ft": (len(data.faces), 3),
    }  # fmt: skip
    for name, shape in expected.items():
        array = getattr(data, name)
        if array is not None and array.shape != shape:
            raise BodyError(f"body {data.name}: {name} should have shape {shape}, got {array.shape}; rebuild its file")
    in_order = (data.parents[1:] >= 0) & (data.parents[1:] < np.arange(1, j))
    if len(data.joint_names) != j or data.parents[0] != -1 or not in_order.all():
        raise BodyError(f"body {data.name}: parents must come before children and joint_names name each; rebuild it")
    corners = data.faces
    if corners.ndim != 2 or corners.shape[1] != 3 or (corners.size and not 0 <= corners.min() <= corners.max() < v):
        raise BodyError(f"body {data.name}: faces must be (F, 3) indices below {v}; rebuild the body file")
    if (data.vt is None) != (data.ft is None):
        raise BodyError(f"body {data.name}: vt and ft belong together, got one of them; rebuild the body file")
    if data.vt is not None and data.ft is not None and not 0 <= data.ft.min() <= data.ft.max() < len(data.vt):
        raise BodyError(f"body {data.name}: ft must be (F, 3) indices below {len(data.vt)}; rebuild the body file")


@dataclass(frozen=True)
class BodyParams:
    """What poses and shapes a body; any leading batch shape, radians and metres."""

    betas: Float[Tensor, "*#B K"]
    pose: Float[Tensor, "*#B J 3"]
    """Rotation vectors relative to the parent, in the axes of the rest frame as in SMPL; joint 0 is the global one."""
    transl: Float[Tensor, "*#B 3"]
    displacements: Float[Tensor, "*#B V 3"] | None = None
    """Added to the rest shape before skinning (SMPL+D)."""

    @classmethod
    def zeros(cls, body: "BodyModel", batch: tuple[int, ...] = ()) -> "BodyParams":
        """Return the mean person in the rest pose, in the dtype and on the device of ``body``."""
        new = body.v_template.new_zeros
        return cls(new(*batch, body.num_betas), new(*batch, body.num_joints, 3), new(*batch, 3))

    def detach(self) -> "BodyParams":
        """Return the same values cut from the autograd graph."""
        extra = None if self.displacements is None else self.displacements.detach()
        return replace(
            self, betas=self.betas.detach(), pose=self.pose.detach(), transl=self.transl.detach(), displacements=extra
        )


@dataclass(frozen=True)
class Posed:
    """A posed body in the world frame."""

    vertices: Float[Tensor, "*B V 3"]
    joints: Float[Tensor, "*B J 3"]
    Ts_world_rest: Float[Tensor, "*B J 4 4"]
    """Transform of each bone from the rest frame to the world frame, translation included; skinning blends these."""


class BodyModel(torch.nn.Module):
    """A body in torch: differentiable, any leading batch shape, arguments broadcast against each other.

    The arrays are buffers: ``.to(device)`` and ``.double()`` move them. There are no trainable parameters.
    """

    v_template: Float[Tensor, "V 3"]
    shapedirs: Float[Tensor, "V*3 K"]
    posedirs: Float[Tensor, "V*3 P"] | None
    weights: Float[Tensor, "V J"]
    J_template: Float[Tensor, "J 3"]
    J_shapedirs: Float[Tensor, "J*3 K"]
    faces: Int[Tensor, "F 3"]
    _order: Int[Tensor, " J"]

    def __init__(self, data: BodyData) -> None:
        super().__init__()
        check_type("data", data, BodyData, "the arrays of a body (BodyData); load_body takes a name", BodyError)
        self.data = data
        self.joint_names = data.joint_names
        self.parents: tuple[int, ...] = tuple(int(p) for p in data.parents)
        num_betas = data.shapedirs.shape[-1]
        arrays = {
            "v_template": data.v_template,
            "shapedirs": data.shapedirs.reshape(-1, num_betas),
            "posedirs": None if data.posedirs is None else data.posedirs.reshape(-1, data.posedirs.shape[-1]),
            "weights": data.weights,
            "J_template": data.J_template,
            "J_shapedirs": data.J_shapedirs.reshape(-1, num_betas),
            "faces": data.faces,
        }
        for name, array in arrays.items():
            self.register_buffer(name, None if array is None else torch.from_numpy(array.copy()), persistent=False)
        order, levels = _chain_levels(self.parents)
        # On the body's device: a list as an index would make the CPU wait for a GPU.
        indices = {"order": order, **{f"level_{i}_{name}": part for i, level in enumerate(levels) for name, part in
                                      zip(("members", "parents"), level, strict=True)}}  # fmt: skip
        for name, index in indices.items():
            self.register_buffer(f"_{name}", torch.tensor(index), persistent=False)
        self._num_levels = len(levels)

    @property
    def num_vertices(self) -> int:
        """How many vertices the body has."""
        return self.v_template.shape[0]

    @property
    def num_joints(self) -> int:
        """How many joints the body has, the root included."""
        return len(self.parents)

    @property
    def num_betas(self) -> int:
        """How many shape directions the body has."""
        return self.shapedirs.shape[-1]

    def rest(
        self, betas: Float[Tensor, "*#B K"], displacements: Float[Tensor, "*#B V 3"] | None = None
    ) -> tuple[Float[Tensor, "*B V 3"], Float[Tensor, "*B J 3"]]:
        """Return vertices and joints of a person in the rest pose (SMPL Eqs. 8 and 10).

        Displacements move vertices only: joints belong to the body under the clothes.
        """
        vertices = self.v_template + (betas @ self.shapedirs.mT).unflatten(-1, (-1, 3))
        joints = self.J_template + (betas @ self.J_shapedirs.mT).unflatten(-1, (-1, 3))
        return (vertices if displacements is None else vertices + displacements), joints

    def forward(self, params: BodyParams) -> Posed:
        """Pose a body by linear blend skinning about its own joints; joint 0 turns about its rest position.

        Returns:
            Vertices, joints and bone transforms in the world frame, metres.

        Raises:
            BodyError: the parameters are those of a body with other joints or betas.
        """
        self._check(params)
        vertices, joints = self.rest(params.betas, params.displacements)
        return self.turned(vertices, joints, rotvec_to_rotmat(params.pose), params.transl)

    def _check(self, params: BodyParams) -> None:
        """Raise BodyError when parameters are not those of this body."""
        expected = {"betas": (self.num_betas,), "pose": (self.num_joints, 3), "transl": (3,)}
        for name, shape in expected.items():
            given = tuple(getattr(params, name).shape)
            if given[-len(shape) :] != shape:
                wanted = ", ".join(map(str, shape))
                raise BodyError(f"{name}: expected shape (..., {wanted}) for body {self.data.name}, got {given}")

    def turned(
        self,
        vertices: Float[Tensor, "*#B V 3"],
        joints: Float[Tensor, "*#B J 3"],
        rotations: Float[Tensor, "*#B J 3 3"],
        transl: Float[Tensor, "*#B 3"],
    ) -> Posed:
        """Pose what ``rest`` returns by rotation matrices relative to the parents; see ``forward``."""
        if self.posedirs is not None:
            feature = rotations[..., 1:, :, :] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            vertices = vertices + (feature.flatten(-3) @ self.posedirs.mT).unflatten(-1, (-1, 3))
        transforms = self.bone_transforms(rotations, joints, transl)
        posed_joints = (transforms[..., :3] @ joints[..., None]).squeeze(-1) + transforms[..., 3]
        blended = (self.weights @ transforms.flatten(-2)).unflatten(-1, (3, 4))
        posed = (blended[..., :3] @ vertices[..., None]).squeeze(-1) + blended[..., 3]
        bottom = torch.eye(4, dtype=transforms.dtype, device=transforms.device)[3:].expand(*transforms.shape[:-2], 1, 4)
        return Posed(posed, posed_joints, torch.cat([transforms, bottom], -2))

    def bone_transforms(
        self, rotations: Float[Tensor, "*#B J 3 3"], joints: Float[Tensor, "*#B J 3"], transl: Float[Tensor, "*#B 3"]
    ) -> Float[Tensor, "*B J 3 4"]:
        """Compose rotations along the kinematic tree, one depth level at a time (SMPL Eqs. 3 and 4).

        A bone takes a rest point p to ``G p + t`` where ``G = G_parent R`` and its own joint moves with its parent.
        """
        batch = np.broadcast_shapes(rotations.shape[:-3], joints.shape[:-2], transl.shape[:-1])
        rotations = rotations.expand(*batch, -1, -1, -1)
        joints = joints.expand(*batch, -1, -1)
        root = rotations[..., :1, :, :]
        turned = (root @ joints[..., :1, :, None]).squeeze(-1)
        level_rot, level_t = root, joints[..., :1, :] - turned + transl[..., None, :]
        all_rot, all_t = [level_rot], [level_t]
        for level in range(self._num_levels):
            members, slots = (getattr(self, f"_level_{level}_{name}") for name in ("members", "parents"))
            parent_rot, parent_t = level_rot.index_select(-3, slots), level_t.index_select(-2, slots)
            own = joints.index_select(-2, members)[..., None]
            level_rot = parent_rot @ rotations.index_select(-3, members)
            level_t = parent_t + ((parent_rot - level_rot) @ own).squeeze(-1)
            all_rot.append(level_rot)
            all_t.append(level_t)
        rot, t = torch.cat(all_rot, -3), torch.cat(all_t, -2)
        return torch.cat([rot, t[..., None]], -1).index_select(-3, self._order)


def _chain_levels(parents: tuple[int, ...]) -> tuple[list[int], list[tuple[list[int], list[int]]]]:
    """Split a tree into depth levels.

    Returns:
        The place of each joint when levels are concatenated, and for each level below the root its joints and the
        slots of their parents within the level above.
    """
    depth = [0] * len(parents)
    for j, parent in enumerate(parents[1:], start=1):
        depth[j] = depth[parent] + 1
    levels = [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
    steps = [(low, [high.index(parents[j]) for j in low]) for high, low in pairwise(levels)]
    order = [j for level in levels for j in level]
    return [order.index(j) for j in range(len(parents))], steps
