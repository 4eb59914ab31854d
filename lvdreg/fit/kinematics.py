"""The posed body and its Jacobian in closed form, and the normal equations of what is asked of its points.

Everything here is numpy in float64: fits have some 200 unknowns and a few thousand residuals, where factorising beats
descending. Fitting to vertices (fit/vertices.py) and to a scan (fit/scan.py) share it. SciPy is imported when it is
needed: what trains networks comes by here for the states alone.

Unknowns are ordered as ``State.vector``: pose (3 J, rotation vectors), betas (K), transl (3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64

from lvdreg.base.shapes import BoolArray, FloatArray, IntArray
from lvdreg.base.threads import side_by_side
from lvdreg.body.model import BodyData, BodyParams
from lvdreg.fit.solver import Normal, gauss_newton


@dataclass(frozen=True)
class State:
    """Body parameters in float64: ``pose`` (J, 3) rotation vectors, ``betas`` (K,), ``transl`` (3,) in metres."""

    pose: Float64[np.ndarray, "J 3"]
    betas: Float64[np.ndarray, " K"]
    transl: Float64[np.ndarray, " 3"]

    @property
    def vector(self) -> Float64[np.ndarray, " N"]:
        """All unknowns in one row (3 J + K + 3,)."""
        return np.concatenate([self.pose.ravel(), self.betas, self.transl])

    def moved(self, step: Float64[np.ndarray, " N"]) -> "State":
        """Return the state plus a step in ``vector``'s order."""
        x, n = self.vector + step, self.pose.size
        return State(x[:n].reshape(-1, 3), x[n : n + len(self.betas)], x[n + len(self.betas) :])

    def wrapped(self) -> "State":
        """Return the same rotations with every angle at most pi."""
        from scipy.spatial.transform import Rotation

        return State(Rotation.from_rotvec(self.pose).as_rotvec(), self.betas, self.transl)

    def to_params(self, like: torch.Tensor) -> BodyParams:
        """Convert to unbatched ``BodyParams`` with the dtype and device of ``like``."""
        return BodyParams(*(torch.as_tensor(x).to(like) for x in (self.betas, self.pose, self.transl)))

    @classmethod
    def from_params(cls, params: BodyParams) -> "State":
        """Read unbatched parameters; displacements are dropped."""
        return cls(*(x.detach().cpu().double().numpy() for x in (params.pose, params.betas, params.transl)))


@dataclass(frozen=True)
class PosedPoints:
    """What one state gives: ``vertices`` (S, 3), and the parts its Jacobian needs."""

    state: State
    vertices: Float64[np.ndarray, "S 3"]
    rest: Float64[np.ndarray, "S 3"]
    turns: Float64[np.ndarray, "S 3 3"]
    """Of each vertex (S, 3, 3): the skinning-weighted sum of the bones' rotations, which is no rotation."""
    Rs_local: Float64[np.ndarray, "J 3 3"]
    Rs_world: Float64[np.ndarray, "J 3 3"]
    joints: Float64[np.ndarray, "J 3"]
    """Joints in the world, (J, 3)."""
    rest_joints: Float64[np.ndarray, "J 3"]


@dataclass(frozen=True)
class LimbRows:
    """How those points that one limb carries move along their directions.

    ``points`` (M,) of the points asked about, ``unknowns`` (U,) that move any of them, and the derivative ``rows``
    (M, U) of the points by these.
    """

    points: Int64[np.ndarray, " M"]
    unknowns: Int64[np.ndarray, " U"]
    rows: Float64[np.ndarray, "M U"]


@dataclass(frozen=True)
class _LimbJacobian:
    """How vertices of a limb, ``points`` (M,), move with the ``unknowns`` (U,) of their pose: ``by_pose`` (M, 3, U)."""

    points: IntArray
    unknowns: IntArray
    by_pose: FloatArray


LIMB_JOINTS = 16
"""A joint and all below it are one limb where they are at most so many: a hand, a leg."""


class Kinematics:
    """Linear blend skinning of some of a body's vertices, with its exact Jacobian.

    Args:
        data: The body's arrays; parents must precede their children.
        index: Vertices to keep (S,), or None for all of them.
    """

    def __init__(self, data: BodyData, index: Int64[np.ndarray, " S"] | None = None) -> None:
        keep = slice(None) if index is None else index
        self.parents = [int(p) for p in data.parents]
        self.template = np.asarray(data.v_template, np.float64)[keep]
        self.shapedirs = np.asarray(data.shapedirs, np.float64)[keep]
        self.posedirs = None if data.posedirs is None else np.asarray(data.posedirs, np.float64)[keep]
        self.weights = np.asarray(data.weights, np.float64)[keep]
        self.joint_template = np.asarray(data.J_template, np.float64)
        self.joint_shapedirs = np.asarray(data.J_shapedirs, np.float64)
        above = _ancestors(self.parents)
        self._moved_by = (self.weights > 0) @ above
        self._limbs = _limbs(above)[self.weights.argmax(1)]

    @property
    def num_joints(self) -> int:
        """Number of joints J."""
        return len(self.parents)

    @property
    def num_params(self) -> int:
        """Length of ``State.vector``: 3 J + K + 3."""
        return 3 * self.num_joints + self.shapedirs.shape[-1] + 3

    def zero_state(self) -> State:
        """Return the rest pose of the mean body."""
        return State(np.zeros((self.num_joints, 3)), np.zeros(self.shapedirs.shape[-1]), np.zeros(3))

    def pose(self, state: State) -> PosedPoints:
        """Pose the vertices (the equations of SMPL, Loper et al. 2015, Eqs. 2 to 7)."""
        from scipy.spatial.transform import Rotation

        Rs_local = Rotation.from_rotvec(state.pose).as_matrix()
        rest_joints = self.joint_template + self.joint_shapedirs @ state.betas
        rest = self.template + self.shapedirs @ state.betas
        if self.posedirs is not None:
            rest = rest + self.posedirs @ (Rs_local[1:] - np.eye(3)).ravel()
        Rs_world, joints = Rs_local.copy(), rest_joints + state.transl
        for j, p in enumerate(self.parents):
            if p >= 0:
                Rs_world[j] = Rs_world[p] @ Rs_local[j]
                joints[j] = joints[p] + Rs_world[p] @ (rest_joints[j] - rest_joints[p])
        offsets = joints - np.einsum("jab,jb->ja", Rs_world, rest_joints)
        blended = self.blend(Rs_world)
        vertices = (blended @ rest[..., None])[..., 0] + self.weights @ offsets
        return PosedPoints(state, vertices, rest, blended, Rs_local, Rs_world, joints, rest_joints)

    def moved(
        self, state: State, rotation: Float64[np.ndarray, "3 3"], translation: Float64[np.ndarray, " 3"]
    ) -> State:
        """Return the state that poses the body as ``state`` does, then rotated (3, 3) and translated (3,)."""
        from scipy.spatial.transform import Rotation

        root = Rotation.from_matrix(rotation) * Rotation.from_rotvec(state.pose[0])
        joint = self.joint_template[0] + self.joint_shapedirs[0] @ state.betas
        transl = rotation @ (joint + state.transl) + translation - joint
        return State(np.vstack([root.as_rotvec(), state.pose[1:]]), state.betas, transl)

    def blend(self, Rs_world: Float64[np.ndarray, "J 3 3"]) -> Float64[np.ndarray, "S 3 3"]:
        """Return the skinning-weighted sum of the bones' rotations at each vertex, (S, 3, 3)."""
        return (self.weights @ Rs_world.reshape(len(Rs_world), 9)).reshape(-1, 3, 3)

    def jacobian(self, posed: PosedPoints) -> Float64[np.ndarray, "S 3 N"]:
        """Return d vertices / d unknowns, (S, 3, 3 J + K + 3)."""
        num = len(posed.vertices)
        out = np.zeros((num, 3, self.num_params))
        for limb in self._limb_jacobians(posed):
            out[np.ix_(limb.points, np.arange(3), limb.unknowns)] = limb.by_pose
        out[..., 3 * self.num_joints :] = self.shape_jacobian(posed)
        return out

    def shape_jacobian(self, posed: PosedPoints) -> Float64[np.ndarray, "S 3 N"]:
        """Return d vertices / d (betas, transl), (S, 3, K + 3): exact, for vertices are linear in these."""
        out = np.empty((len(posed.vertices), 3, self.shapedirs.shape[-1] + 3))
        carried = np.tensordot(self.weights, self._shape_offsets(posed), axes=(1, 0))
        out[..., :-3] = posed.turns @ self.shapedirs + carried
        out[..., -3:] = np.eye(3)
        return out

    def _shape_offsets(self, posed: PosedPoints) -> FloatArray:
        """Return how the translation of each bone changes with the betas, (J, 3, K)."""
        djoints = self.joint_shapedirs
        moved = djoints.copy()
        for j, p in enumerate(self.parents):
            if p >= 0:
                moved[j] = moved[p] + posed.Rs_world[p] @ (djoints[j] - djoints[p])
        return moved - posed.Rs_world @ djoints

    def directional_rows(
        self,
        posed: PosedPoints,
        corners: Int64[np.ndarray, "N 3"],
        bary: Float64[np.ndarray, "N 3"],
        directions: Float64[np.ndarray, "N 3"],
    ) -> Float64[np.ndarray, "N U"]:
        """Return the derivative of surface points along given directions, (N, 3 J + K + 3); see ``limb_rows``."""
        out = np.zeros((len(corners), self.num_params))
        for limb in self.limb_rows(posed, corners, bary, directions):
            out[np.ix_(limb.points, limb.unknowns)] = limb.rows
        return out

    def directional_equations(
        self,
        posed: PosedPoints,
        corners: Int64[np.ndarray, "N 3"],
        bary: Float64[np.ndarray, "N 3"],
        directions: Float64[np.ndarray, "N 3"],
        residual: Float64[np.ndarray, " N"],
        weights: Float64[np.ndarray, " N"],
    ) -> Normal:
        """Return ``gauss_newton`` of ``directional_rows``, of which most numbers are zero: limb by limb."""
        limbs = self.limb_rows(posed, corners, bary, directions)
        parts = [
            (limb.unknowns, gauss_newton(limb.rows, residual[limb.points], weights[limb.points])) for limb in limbs
        ]
        return _summed(self.num_params, parts)

    def vertex_equations(
        self,
        posed: PosedPoints,
        errors: Float64[np.ndarray, "S 3"],
        weights: Float64[np.ndarray, " S"],
        log_scale: bool = False,
    ) -> Normal:
        """Return the normal equations of ``0.5 * sum weights * |errors|^2``, limb by limb.

        Args:
            posed: The posed vertices.
            errors: (S, 3) of them, linear in where they are.
            weights: (S,).
            log_scale: Whether there is one more unknown, the last: what is posed is shrunk by its exponential.
        """
        by_shape = self.shape_jacobian(posed)
        if log_scale:
            by_shape = np.concatenate([by_shape, -posed.vertices[..., None]], axis=2)
        others = 3 * self.num_joints + np.arange(by_shape.shape[2])

        def own(limb: _LimbJacobian) -> tuple[IntArray, Normal]:
            rows = np.concatenate([limb.by_pose, by_shape[limb.points]], axis=2)
            residual, weight = errors[limb.points].ravel(), np.repeat(weights[limb.points], 3)
            return np.concatenate([limb.unknowns, others]), gauss_newton(
                rows.reshape(len(residual), -1), residual, weight
            )

        return _summed(3 * self.num_joints + len(others), side_by_side(own, self._limb_jacobians(posed)))

    def limb_rows(
        self,
        posed: PosedPoints,
        corners: Int64[np.ndarray, "N 3"],
        bary: Float64[np.ndarray, "N 3"],
        directions: Float64[np.ndarray, "N 3"],
    ) -> list[LimbRows]:
        """Return the derivative of surface points along given directions, limb by limb.

        Turning joint j by a small world rotation ``w`` moves a point by ``w x m``, where the lever ``m`` sums, over the
        bones below j, the skinning weight times (the point as that bone carries it minus joint j). A point is below few
        joints, so this is much cheaper than the full Jacobian. SMPL's pose blend shapes are taken as constant: their
        share is millimetres per radian.

        Args:
            posed: The posed body.
            corners: (N, 3) vertices whose mixture each point is.
            bary: (N, 3) its weights.
            directions: (N, 3) in the world.
        """
        turns, offsets = self._turns(posed), self._shape_offsets(posed)
        by_shape = self._shape_rows(posed, corners, bary, directions)
        limbs, others = self._limbs[corners[:, 0]], 3 * self.num_joints + np.arange(self.shapedirs.shape[-1] + 3)

        def rows_of(limb: int) -> LimbRows:
            points = np.flatnonzero(limbs == limb)
            joints, mass, levers = self._levers(posed, corners[points], bary[points])
            pulled = (mass.T[..., None] * directions[points, None]).reshape(len(points), -1)
            own_shape = by_shape[points] + pulled @ offsets[joints].reshape(3 * len(joints), -1)
            by_pose = (np.cross(levers, directions[points]) @ turns[joints]).transpose(1, 0, 2)
            unknowns = np.concatenate([(3 * joints[:, None] + np.arange(3)).ravel(), others])
            by_place = directions[points] * bary[points].sum(1)[:, None]
            rows = np.hstack([by_pose.reshape(len(points), -1), own_shape, by_place])
            return LimbRows(points, unknowns, rows)

        return side_by_side(rows_of, np.unique(limbs).tolist())

    def _shape_rows(
        self, posed: PosedPoints, corners: IntArray, bary: FloatArray, directions: FloatArray
    ) -> FloatArray:
        """Return how points move along directions with the betas (N, K), as far as bones stay where they are."""
        import scipy.sparse as sp

        used = bary != 0
        point, corner = np.nonzero(used)
        vertices = corners[used]
        values = bary[point, corner, None] * np.einsum("nab,na->nb", posed.turns[vertices], directions[point])
        starts = 3 * np.append(0, used.sum(1).cumsum())
        columns = (3 * vertices[:, None] + np.arange(3)).ravel()
        mixing = sp.csr_matrix((values.ravel(), columns, starts), shape=(len(corners), 3 * len(posed.rest)))
        return np.asarray(mixing @ self.shapedirs.reshape(3 * len(posed.rest), -1), np.float64)

    def _limb_jacobians(self, posed: PosedPoints) -> list["_LimbJacobian"]:
        """Return how vertices move with the pose, limb by limb; see ``limb_rows``. With SMPL's pose blend shapes, by
        which every joint moves every vertex, all are one limb."""
        turns = self._turns(posed)

        def of(limb: int) -> _LimbJacobian:
            points = np.flatnonzero(self._limbs == limb)
            joints, _, levers = self._levers(posed, points[:, None], np.ones((len(points), 1)))
            by_pose = _turned(turns[joints], levers).transpose(1, 2, 0, 3).reshape(len(points), 3, -1)
            return _LimbJacobian(points, (3 * joints[:, None] + np.arange(3)).ravel(), by_pose)

        limbs = side_by_side(of, np.unique(self._limbs).tolist())
        if self.posedirs is None:
            return limbs
        whole = self._corrective_jacobian(posed).reshape(len(posed.vertices), 3, -1)
        for limb in limbs:
            whole[np.ix_(limb.points, np.arange(3), limb.unknowns)] += limb.by_pose
        return [_LimbJacobian(np.arange(len(whole)), np.arange(whole.shape[2]), whole)]

    def _levers(
        self, posed: PosedPoints, corners: Int64[np.ndarray, "M C"], bary: Float64[np.ndarray, "M C"]
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return the joints (A,) that move any of some points, how strongly the bone of each carries each (A, M), and
        the lever of each at each (A, M, 3); see ``limb_rows``."""
        joints = np.flatnonzero(self._moved_by[corners].any((0, 1)))
        bones = posed.joints[joints] - np.einsum("jab,jb->ja", posed.Rs_world[joints], posed.rest_joints[joints])
        shares = self.weights[corners[..., None], joints] * bary[..., None]
        mixed = np.einsum("mia,mix->amx", shares, posed.rest[corners])
        mass = np.ascontiguousarray(shares.sum(1).T)
        sums = mixed @ posed.Rs_world[joints].transpose(0, 2, 1) + mass[..., None] * bones[:, None]
        below = mass.copy()
        for child in range(len(joints) - 1, 0, -1):
            parent = np.searchsorted(joints, self.parents[joints[child]])
            sums[parent] += sums[child]
            below[parent] += below[child]
        return joints, mass, sums - below[..., None] * posed.joints[joints, None]

    def _turns(self, posed: PosedPoints) -> FloatArray:
        """Return the world rotation that a change of each rotation vector causes, (J, 3, 3)."""
        turns = left_jacobian(posed.state.pose)
        for j, p in enumerate(self.parents):
            if p >= 0:
                turns[j] = posed.Rs_world[p] @ turns[j]
        return turns

    def _corrective_jacobian(self, posed: PosedPoints) -> FloatArray:
        """Return the share of the pose Jacobian that comes through SMPL's pose blend shapes, (S, 3, J, 3)."""
        assert self.posedirs is not None
        num = len(posed.vertices)
        turns = left_jacobian(posed.state.pose)
        # d R / d r_a = [J_l e_a]x R for each joint but the root.
        dR = np.cross(turns.transpose(0, 2, 1)[:, :, None, :], posed.Rs_local.transpose(0, 2, 1)[:, None, :, :])
        dR = dR.transpose(0, 3, 2, 1).reshape(self.num_joints, 9, 3)[1:]
        moved = np.einsum("scjn,jna->scja", self.posedirs.reshape(num, 3, -1, 9), dR, optimize=True)
        out = np.zeros((num, 3, self.num_joints, 3))
        out[:, :, 1:] = np.einsum("sdc,scja->sdja", posed.turns, moved, optimize=True)
        return out


def upright_height(kernel: Kinematics, betas: FloatArray) -> tuple[float, FloatArray]:
    """Return the height of a person standing upright, metres, and its change with the betas (K,)."""
    rest = kernel.template[:, 1] + kernel.shapedirs[:, 1] @ betas
    top, bottom = int(rest.argmax()), int(rest.argmin())
    return float(rest[top] - rest[bottom]), kernel.shapedirs[top, 1] - kernel.shapedirs[bottom, 1]


def _ancestors(parents: list[int]) -> BoolArray:
    """Say which joints (J, J) are above each, itself included."""
    above = np.eye(len(parents), dtype=bool)
    for j, p in enumerate(parents):
        if p >= 0:
            above[j] |= above[p]
    return above


def _limbs(above: BoolArray) -> Int64[np.ndarray, " J"]:
    """Return for each joint its limb, by the joint where that begins: the highest with at most ``LIMB_JOINTS`` below
    it; a joint with more is a limb by itself."""
    is_small = above.sum(0) <= LIMB_JOINTS
    return np.where(is_small, (above & is_small).argmax(1), np.arange(len(above)))


def _summed(num: int, parts: Sequence[tuple[IntArray, Normal]]) -> Normal:
    """Return the sum of normal equations in ``num`` unknowns, each of which is in some of them only."""
    hessian, gradient, cost = np.zeros((num, num)), np.zeros(num), 0.0
    for unknowns, part in parts:
        hessian[np.ix_(unknowns, unknowns)] += part.hessian
        gradient[unknowns] += part.gradient
        cost += part.cost
    return Normal(hessian, gradient, cost)


def _turned(turns: FloatArray, levers: FloatArray) -> FloatArray:
    """Return how points on levers (A, M, 3) move with the rotation vectors of their joints, (A, M, 3, 3): column a is
    ``turns[:, a] x lever``, for turns (A, 3, 3)."""
    a, b, c = turns[:, None, 0], turns[:, None, 1], turns[:, None, 2]
    x, y, z = (levers[..., i, None] for i in range(3))
    return np.stack([b * z - c * y, c * x - a * z, a * y - b * x], axis=2)


def left_jacobian(rotvecs: Float64[np.ndarray, "J 3"]) -> Float64[np.ndarray, "J 3 3"]:
    """Return J_l (N, 3, 3) with exp(r + d) = exp(J_l d) exp(r) to first order (Chirikjian 2012, Eq. 10.86)."""
    theta_sq = (rotvecs**2).sum(-1)[:, None, None]
    small = theta_sq < 1e-8
    theta = np.sqrt(np.where(small, 1.0, theta_sq))
    a = np.where(small, 0.5 - theta_sq / 24, (1 - np.cos(theta)) / theta**2)
    b = np.where(small, 1 / 6 - theta_sq / 120, (theta - np.sin(theta)) / theta**3)
    K = -np.cross(np.eye(3)[None], rotvecs[:, None]).transpose(0, 2, 1)
    return np.eye(3) + a * K + b * (K @ K)
