"""Learn SMPL's arrays from sampled people of another model: shape directions, joints that follow them, a regressor.

Build-time code: a body is baked once, by `scripts/build_bodies.py`. Nothing here knows the model people come from.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.geometry.mesh import vertex_areas

Array = NDArray[np.float64]

SEED = 20240
JOINT_WEIGHT = 0.6
"""How much a joint that moves the whole body counts in the PCA, beside vertices whose weights sum to one."""
ADULT_YEARS = 13.0
"""Younger people are children here: spanned by the betas, at larger values."""
CHILD_WEIGHT = 0.25
"""How much a child counts in the variance that betas are standardised by: at full weight children would stretch it."""
GRID = 2.0**20
"""Arrays are rounded to 1 / GRID metres (1 um), which makes the file a third smaller."""


@dataclass(frozen=True)
class BakedMesh:
    """The baked mesh, a subset of the source's vertices, and the skeleton it is skinned to."""

    kept: NDArray[np.int64]
    """(V,) vertices of the source."""
    faces: NDArray[np.int64]
    mirror: NDArray[np.int64] | None
    """(V,) the vertex on the other side; None for a body that is no mirror image of itself."""
    weights: Array
    """(V, J)"""
    parents: NDArray[np.int64]
    mirror_joints: NDArray[np.int64] | None


@dataclass(frozen=True)
class SampledPeople:
    """Sampled people in the rest pose, symmetric if the body is: vertices (N, V, 3) and joints (N, J, 3), metres."""

    age: Array
    plain: NDArray[np.bool_]
    """Whether a person has the source's own phenotypes only, without changes of single body parts."""
    vertices: Array
    joints: Array


@dataclass(frozen=True)
class Shape:
    """Mean person and standardised directions of vertices (V, 3, K) and joints (J, 3, K), metres."""

    mean_v: Array
    dirs_v: Array
    mean_j: Array
    dirs_j: Array

    def fit(self, vertices: Array, joints: Array, root: Array) -> Array:
        """Return least-squares betas (N, K) of people, coordinates weighed by `root_weights` squared."""
        num = self.dirs_v.shape[-1]
        basis = np.concatenate([self.dirs_v.reshape(-1, num), self.dirs_j.reshape(-1, num)]) * root[:, None]
        residual = np.concatenate([_rows(vertices - self.mean_v), _rows(joints - self.mean_j)], 1) * root
        return np.asarray(np.linalg.lstsq(basis, residual.T, rcond=None)[0].T)


def symmetric(
    bodies: Float64[np.ndarray, "*B V 3"], mirror: Int64[np.ndarray, " V"] | None
) -> Float64[np.ndarray, "*B V 3"]:
    """Average each body (..., V, 3) with its mirror image, where it has one."""
    if mirror is None:
        return bodies
    return np.asarray((bodies + bodies[..., mirror, :] * [-1, 1, 1]) / 2)


def area_shares(vertices: Array, faces: NDArray[np.int64]) -> Array:
    """Return the area around each vertex as a share of the whole, (V,)."""
    areas = vertex_areas(vertices, faces)
    return areas / areas.sum()


def root_weights(area: Array, skin: BakedMesh) -> Array:
    """Return the square roots of how much each coordinate of vertices and joints counts.

    Vertices weigh by area; joints by the share of the surface that they carry, with all that hangs on them: what misses
    a joint is multiplied by every rotation.
    """
    carried = area @ skin.weights
    for j in range(len(skin.parents) - 1, 0, -1):
        carried[skin.parents[j]] += carried[j]
    return np.asarray(np.sqrt(np.repeat(np.concatenate([area, JOINT_WEIGHT * carried]), 3)))


def learn_shape(people: SampledPeople, root: Array, skin: BakedMesh, num_betas: tuple[int, int]) -> Shape:
    """Span people by PCA over weighted vertices and joints, then standardise the betas.

    The first directions are those of plain people alone, so that they are held best; the others take up what changes of
    single body parts add, which lie closer to how real bodies differ.
    """
    flat = np.concatenate([_rows(people.vertices), _rows(people.joints)], 1)
    mean = flat[people.plain].mean(0)
    x = torch.from_numpy((flat - mean) * root)
    first = _principal(x[people.plain], num_betas[0])
    rest = x[~people.plain] - (x[~people.plain] @ first) @ first.T
    basis = torch.cat([first, _principal(rest, num_betas[1])], 1)
    centre, axes = _standardised((x @ basis).numpy(), people.age)
    middle = mean + (basis.numpy() @ centre) / root
    dirs = (basis.numpy() @ axes) / root[:, None]
    dirs = dirs * np.where(dirs.sum(0) < 0, -1, 1)  # a sign of its own, whatever the solver returns
    split = people.vertices[0].size
    arrays = (a.reshape(-1, 3, *a.shape[1:]) for a in (middle[:split], dirs[:split], middle[split:], dirs[split:]))
    return _round_symmetric(Shape(*arrays), skin)


def _rows(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _principal(x: Tensor, count: int) -> Tensor:
    torch.manual_seed(SEED)
    return torch.svd_lowrank(x, q=count + 24, niter=3)[2][:, :count]


def _standardised(scores: Array, age: Array) -> tuple[Array, Array]:
    """Return the mean of scores (N, K) and axes (K, K) such that ``centre + axes @ beta`` has unit-variance betas."""
    weight = np.where(age < ADULT_YEARS, CHILD_WEIGHT, 1.0)
    weight = weight / weight.sum()
    centre = weight @ scores
    _, spread, turn = np.linalg.svd((scores - centre) * np.sqrt(weight)[:, None], full_matrices=False)
    return centre, turn.T * spread


def _round_symmetric(shape: Shape, skin: BakedMesh) -> Shape:
    """Make the arrays of a symmetric body exactly so, and round them to the grid."""

    def clean(array: Array, mirror: NDArray[np.int64] | None) -> Array:
        sign = np.array([-1.0, 1, 1]).reshape((3,) + (1,) * (array.ndim - 2))
        even = array if mirror is None else (array + array[mirror] * sign) / 2
        return np.asarray(np.round(even * GRID) / GRID + 0.0)

    v, j = skin.mirror, skin.mirror_joints
    return Shape(clean(shape.mean_v, v), clean(shape.dirs_v, v), clean(shape.mean_j, j), clean(shape.dirs_j, j))


def held_out(shape: Shape, people: SampledPeople, area: Array, root: Array) -> dict[str, float]:
    """Return errors of people that the directions have not seen, millimetres, vertices weighed by area."""
    betas = shape.fit(people.vertices, people.joints, root)
    v = shape.mean_v + np.einsum("vck,nk->nvc", shape.dirs_v, betas)
    j = shape.mean_j + np.einsum("vck,nk->nvc", shape.dirs_j, betas)
    error = 1000 * np.linalg.norm(v - people.vertices, axis=-1)
    joint_error = 1000 * np.linalg.norm(j - people.joints, axis=-1)
    per_person = error @ area
    child = people.age < ADULT_YEARS
    return {
        "mean_mm": float(per_person.mean()),
        "p95_person_mm": float(np.quantile(per_person, 0.95)),
        "max_mm": float(error.max()),
        "children_mean_mm": float(per_person[child].mean()),
        "joint_mean_mm": float(joint_error.mean()),
        "joint_max_mm": float(joint_error.max()),
        "beta_abs_p99_adults": float(np.quantile(np.abs(betas[~child]), 0.99)),
        "beta_abs_max_children": float(np.abs(betas[child]).max()),
    }
