"""Posed points of many bodies at once with their Jacobian, in torch on any device: ``solver.Kinematics`` in batch.

The equations are those of fit/solver.py, which stays the oracle; what differs is that bodies come in batches, and that
chains are summed by one product with the matrix of who hangs below whom instead of joint by joint. Unknowns are ordered
alike: pose (3 J, rotation vectors), betas (K), transl (3).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.kinematics import Kinematics
from lvdreg.geometry.frames import rotvec_to_rotmat


@dataclass(frozen=True)
class PosedBatch:
    """What parameters give: ``points`` (B, S, 3) in the world, metres, and the parts their Jacobian needs."""

    params: BodyParams
    points: Float[Tensor, "B S 3"]
    rest: Float[Tensor, "B S 3"]
    rest_joints: Float[Tensor, "B J 3"]
    Rs_world: Float[Tensor, "B J 3 3"]
    offsets: Float[Tensor, "B J 3"]
    """(B, J, 3) where each bone takes the origin of the rest frame."""


class BatchedKinematics:
    """Linear blend skinning of points of a body, for a batch of parameters.

    Args:
        body: The body; only its chain of joints is read.
        points: Of which body, and which points: see ``landmarks.kinematics_of``.
        like: Has the device and the floating type that everything is computed with.
    """

    def __init__(self, body: BodyModel, points: Kinematics, like: Tensor) -> None:
        self.body, num = body, points.num_joints
        self.template, self.shapedirs, self.weights = (
            torch.as_tensor(array).to(like) for array in (points.template, points.shapedirs, points.weights)
        )
        self.posedirs = None if points.posedirs is None else torch.as_tensor(points.posedirs).to(like)
        self.joint_template = torch.as_tensor(points.joint_template).to(like)
        self.joint_shapedirs = torch.as_tensor(points.joint_shapedirs).to(like)
        below = np.eye(num)
        for j in range(num - 1, 0, -1):
            below[points.parents[j]] += below[j]
        self.below = torch.as_tensor(below).to(like)
        """(J, J) 1 where the joint of the column is that of the row, or hangs below it."""
        self.parents = torch.tensor(points.parents, device=like.device)

    @property
    def num_params(self) -> int:
        """Number of unknowns: 3 J + K + 3."""
        return 3 * len(self.parents) + self.shapedirs.shape[-1] + 3

    def pose(self, params: BodyParams) -> PosedBatch:
        """Pose the points (Loper et al. 2015, Eqs. 2 to 7) of parameters with one leading batch dimension."""
        Rs_local = rotvec_to_rotmat(params.pose)
        rest_joints = self.joint_template + torch.einsum("jck,bk->bjc", self.joint_shapedirs, params.betas)
        rest = self.template + torch.einsum("sck,bk->bsc", self.shapedirs, params.betas)
        if self.posedirs is not None:
            feature = (Rs_local[:, 1:] - torch.eye(3).to(rest)).flatten(1)
            rest = rest + torch.einsum("scp,bp->bsc", self.posedirs, feature)
        bones = self.body.bone_transforms(Rs_local, rest_joints, params.transl)
        blended = torch.einsum("sj,bjcd->bscd", self.weights, bones)
        points = (blended[..., :3] @ rest[..., None])[..., 0] + blended[..., 3]
        return PosedBatch(params, points, rest, rest_joints, bones[..., :3], bones[..., 3])

    @property
    def moving(self) -> Int[Tensor, " Q"]:
        """Joints that turn any of the points."""
        return (self.below @ self.weights.T).amax(1).nonzero()[:, 0]

    def jacobian(
        self, posed: PosedBatch, joints: Int[Tensor, " Q"] | None = None, with_shape: bool = True
    ) -> Float[Tensor, "B S 3 N"]:
        """Return d points / d unknowns, (B, S, 3, 3 J + K + 3); see ``Kinematics.motion``.

        SMPL's pose blend shapes are taken as constant: their share is millimetres per radian.

        Args:
            posed: The points as they are.
            joints: Only these are unknown, and their columns come in this order; None: all are.
            with_shape: Whether the betas are unknown, too; without, their columns are left out.
        """
        joints = torch.arange(len(self.parents), device=self.parents.device) if joints is None else joints
        num, num_shape = 3 * len(joints), self.shapedirs.shape[-1] if with_shape else 0
        levers, turns = self._levers(posed, joints), self._turns(posed)[:, joints, None]
        out = levers.new_zeros(*posed.points.shape[:2], 3, num + num_shape + 3)
        # Written where they belong: all these numbers are read and written once.
        by_pose = out[..., :num].unflatten(-1, (len(joints), 3)).permute(0, 3, 1, 2, 4)
        for axis, (y, z) in enumerate(((1, 2), (2, 0), (0, 1))):
            torch.mul(turns[..., y, :], levers[..., z, None], out=by_pose[..., axis, :])
            by_pose[..., axis, :].addcmul_(turns[..., z, :], levers[..., y, None], value=-1)
        if with_shape:
            out[..., num : num + num_shape] = self._by_shape(posed)
        out[..., -3:] = torch.eye(3).to(out)
        return out

    def _levers(self, posed: PosedBatch, joints: Int[Tensor, " Q"]) -> Float[Tensor, "B Q S 3"]:
        """Return what each joint turns at each point: of the bones below it, by skinning weight, point less joint."""
        carried = torch.einsum("bjcd,bsd->bjsc", posed.Rs_world, posed.rest) + posed.offsets[:, :, None]
        summed = torch.einsum("ij,bjsc->bisc", self.below[joints], carried * self.weights.T[..., None])
        places = (posed.Rs_world[:, joints] @ posed.rest_joints[:, joints, :, None])[..., 0] + posed.offsets[:, joints]
        return summed - (self.below @ self.weights.T)[joints, :, None] * places[:, :, None]

    def _turns(self, posed: PosedBatch) -> Float[Tensor, "B J 3 3"]:
        """Return the world rotation that a change of each rotation vector causes."""
        return self._of_parents(posed) @ left_jacobian(posed.params.pose)

    def _of_parents(self, posed: PosedBatch) -> Float[Tensor, "B J 3 3"]:
        """Return the world rotation of each joint's parent; the root's does not turn."""
        Rs_parent = posed.Rs_world[:, self.parents.clamp(min=0)].clone()
        Rs_parent[:, 0] = torch.eye(3).to(Rs_parent)
        return Rs_parent

    def _by_shape(self, posed: PosedBatch) -> Float[Tensor, "B S 3 K"]:
        """Return d points / d betas: through the rest shape, and through the joints about which bones turn."""
        own = (self._of_parents(posed) - posed.Rs_world) @ self.joint_shapedirs
        offsets = torch.einsum("ij,bick->bjck", self.below, own)
        blended = torch.einsum("sj,bjcd->bscd", self.weights, posed.Rs_world)
        return blended @ self.shapedirs + torch.einsum("sj,bjck->bsck", self.weights, offsets)


def left_jacobian(rotvecs: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Return J_l (..., 3, 3) with exp(r + d) = exp(J_l d) exp(r) to first order (Chirikjian 2012, Eq. 10.86)."""
    squared = rotvecs.square().sum(-1)[..., None, None]
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    a = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / angle**2)
    b = torch.where(small, 1 / 6 - squared / 120, (angle - angle.sin()) / angle**3)
    eye = torch.eye(3).to(rotvecs)
    cross = torch.linalg.cross(
        rotvecs[..., None, :].expand(*rotvecs.shape, 3).clone(), eye.expand(*rotvecs.shape, 3)
    ).mT
    return eye + a * cross + b * (cross @ cross)
