"""Rotations and transforms between frames.

Transforms are 4x4 and named destination-source: ``p_world = T_world_scan @ [p_scan, 1]``. They are similarities: a
uniform scale times a rotation, plus a translation. The rotation is proper but for left hands, which a reflection turns
into right ones.
"""

from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.shapes import Transform

SIMILAR = 1e-3
"""What R @ R.T of a rotation that somebody wrote down may differ from one by."""

ArrayT = TypeVar("ArrayT", NDArray[np.float64], Tensor)


def rotvec_to_rotmat(rotvec: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Convert rotation vectors (radians) to rotation matrices; exact and differentiable at zero (Rodrigues)."""
    theta_sq = (rotvec * rotvec).sum(-1)[..., None, None]
    small = theta_sq < 1e-6
    theta = torch.where(small, 1.0, theta_sq).sqrt()
    # Taylor series below 1e-3 rad: the closed forms divide zero by zero there, and so do their gradients.
    a = torch.where(small, 1 - theta_sq / 6, theta.sin() / theta)
    b = torch.where(small, 0.5 - theta_sq / 24, (1 - theta.cos()) / theta**2)
    k = skew(rotvec)
    return torch.eye(3, dtype=rotvec.dtype, device=rotvec.device) + a * k + b * (k @ k)


def skew(v: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Return the matrices of the cross products ``v x``."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def rotmat_to_rotvec(rotmat: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3"]:
    """Convert rotation matrices to rotation vectors of length at most pi, by way of quaternions.

    The quaternion branch with the largest component is taken, so the result is accurate at 0 and at pi too.
    """
    m = rotmat
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # Row i of the symmetric 4x4 matrix is 4 q_i q; the longest row is the best conditioned.
    d = torch.stack([m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]], -1)
    w_row = torch.stack(
        [1 + trace, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1
    )
    off = m + m.transpose(-1, -2)
    rows = [w_row]
    for i in range(3):
        row = [w_row[..., i + 1]]
        row += [1 + 2 * d[..., i] - trace if j == i else off[..., i, j] for j in range(3)]
        rows.append(torch.stack(row, -1))
    q_rows = torch.stack(rows, -2)
    best = torch.stack([trace, d[..., 0], d[..., 1], d[..., 2]], -1).argmax(-1)
    q = torch.gather(q_rows, -2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    q = torch.where(q[..., :1] < 0, -q, q)
    sin_sq = (q[..., 1:] ** 2).sum(-1, keepdim=True)
    small = sin_sq < 1e-12
    sin_half = torch.where(small, torch.ones_like(sin_sq), sin_sq).sqrt()
    factor = torch.where(small, torch.full_like(sin_half, 2.0), 2 * torch.atan2(sin_half, q[..., :1]) / sin_half)
    return q[..., 1:] * factor


def six_to_rotmat(six: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 3 3"]:
    """Turn two rows into a rotation matrix by Gram-Schmidt (Zhou et al. 2019): no jumps, so a network can learn it."""
    x = torch.nn.functional.normalize(six[..., :3], dim=-1)
    y = torch.nn.functional.normalize(six[..., 3:] - (x * six[..., 3:]).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -2)


def similarity(scale: float, rotation: Float64[np.ndarray, "3 3"], translation: Float64[np.ndarray, " 3"]) -> Transform:
    """Build the 4x4 transform ``p -> scale * rotation @ p + translation``."""
    out = np.eye(4)
    out[:3, :3] = scale * rotation
    out[:3, 3] = translation
    return out


def nearest_rotation(moment: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"]:
    """Return the proper rotation R that maximises trace(R^T M) (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(moment)
    u[:, 2] *= np.sign(np.linalg.det(u @ vt)) or 1.0
    return u @ vt


def nearest_similarity(points: Float64[np.ndarray, "N 3"], there: Float64[np.ndarray, "N 3"]) -> Transform:
    """Return ``T_there_points``, the similarity that brings points nearest to where they belong (Umeyama 1991)."""
    middle, goal = points.mean(0), there.mean(0)
    centred = points - middle
    moment = (there - goal).T @ centred
    turn = nearest_rotation(moment)
    scale = float(np.trace(turn.T @ moment)) / max(float((centred**2).sum()), 1e-300)
    return similarity(scale, turn, goal - scale * turn @ middle)


def scale_of(transform: Transform) -> float:
    """Return the uniform scale of a similarity, positive also with a reflection."""
    return float(np.cbrt(abs(np.linalg.det(transform[:3, :3]))))


def is_reflected(transform: Transform) -> bool:
    """Say whether a similarity turns left hands into right ones: surfaces come out wound the other way."""
    return bool(np.linalg.det(transform[:3, :3]) < 0)


def is_similarity(matrix: Transform) -> bool:
    """Say whether a matrix, as a file may hold it, is a similarity of finite numbers, and so can be inverted."""
    linear = matrix[:3, :3]
    with np.errstate(all="ignore"):
        scale = np.linalg.norm(linear) / np.sqrt(3)
        turn = linear / scale
        is_turn = np.abs(turn @ turn.T - np.eye(3)).max() < SIMILAR and np.isfinite(1 / scale)
    return bool(is_turn and np.isfinite(matrix).all() and (matrix[3] == [0, 0, 0, 1]).all())


def transform_points(transform: ArrayT, points: ArrayT) -> ArrayT:
    """Apply a 4x4 transform to points of shape (..., 3)."""
    return points @ transform[:3, :3].T + transform[:3, 3]


def transform_directions(transform: Transform, directions: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N 3"]:
    """Rotate (and reflect) unit directions of shape (..., 3) by a similarity; lengths, zero included, are kept.

    Outward normals stay outward, under a reflection too.
    """
    return directions @ (transform[:3, :3] / scale_of(transform)).T
