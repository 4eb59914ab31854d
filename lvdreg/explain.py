"""Which way up, and what the network says from several sides.

The network is asked about the scan turned to several yaws, and, where the up axis is not known, under several axes; a
few hundred vertices are enough to see how well it explains each: how close the vertices it carries to rest lie to the
scan's points, and the points to them. The best axis wins. In the view that the others agree with most all vertices then
descend, each from where the most alike of the few came to rest: where a descent starts does not matter, but most of the
way is saved. uncertainty.py asks every view once more.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.config import DescentConfig, ViewConfig
from lvdreg.descent import descend
from lvdreg.frames import rotvec_to_rotmat
from lvdreg.normalise import box_transform, to_unit
from lvdreg.voxel.encoder import VoxelFeatures
from lvdreg.voxel.network import VoxelNet


@dataclass(frozen=True)
class Views:
    """One scan seen by the network from several yaws.

    Attributes:
        up: Axis of the scan that points up.
        T_unit_scan: Box of the unturned scan, to which all vertices refer.
        Rs_view_unit: Yaw of each view.
        features: Features of all views.
        vertices: Vertices at rest, unit frame, as the most agreed view has them.
        step_lengths: Mean step of each round of the descent, unit frame.
        converged: Whether the steps vanished.
        scores: Mean distance between vertices and scan, both ways, of each axis tried; unit frame, smaller is better.
    """

    up: str
    T_unit_scan: NDArray[np.float64]
    Rs_view_unit: Float[Tensor, "W 3 3"]
    features: VoxelFeatures
    vertices: Float[Tensor, "V 3"]
    step_lengths: Float[Tensor, " S"]
    converged: bool
    scores: dict[str, float]


@dataclass(frozen=True)
class _Glance:
    """What a few vertices, ``subset``, say under one axis; each view's are in its own frame."""

    T_unit_scan: NDArray[np.float64]
    features: VoxelFeatures
    subset: Int[Tensor, " N"]
    vertices: Float[Tensor, "W N 3"]
    score: float


def yaws(count: int) -> Float[Tensor, "W 3 3"]:
    """Return rotations by equal steps about Y."""
    angles = torch.arange(count) * (2 * math.pi / count)
    zero = torch.zeros_like(angles)
    return rotvec_to_rotmat(torch.stack([zero, angles, zero], -1))


@torch.no_grad()
def look(
    net: VoxelNet,
    points_scan: NDArray[np.float64],
    ups: Mapping[str, NDArray[np.float64]],
    config: ViewConfig,
    descent: DescentConfig,
) -> Views:
    """Choose the up axis, and descend in the view that the others agree with.

    Args:
        net: The network.
        points_scan: Points of the scan in its own frame.
        ups: Rotations ``R_world_scan`` to try, by the name of the axis they bring up.
        config: How many views and vertices.
        descent: Settings of the descent.

    Returns:
        The views of the best axis.
    """
    points_scan = _as_many_as_in_training(points_scan, net.config.voxel.num_points)
    rotations = yaws(config.num_views).to(net.field.codes.device)
    scores: dict[str, float] = {}
    if len(ups) > 1:
        few = rotations[:: max(config.num_views // 2, 1)]
        scores = {name: _glance(net, points_scan, R, few, config, descent).score for name, R in ups.items()}
    best = min(ups, key=lambda name: _penalised(scores.get(name, 0.0), name, config))
    chosen = _glance(net, points_scan, ups[best], rotations, config, descent)
    view = most_agreed(chosen.vertices @ rotations, config.agreement)
    nearest = most_alike(net.field.codes, chosen.subset)
    start = chosen.vertices[view : view + 1, nearest]
    result = descend(net.field, chosen.features.only(view), 1, descent, start=start)
    vertices = result.vertices[0] @ rotations[view]
    lengths = result.step_lengths[:, 0]
    return Views(best, chosen.T_unit_scan, rotations, chosen.features, vertices, lengths, result.converged[0], scores)


def _as_many_as_in_training(points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Choose points evenly along the list: how many cells of the grid are filled should look as it did in training."""
    return points[np.linspace(0, len(points) - 1, min(count, len(points))).round().astype(np.int64)]


def _penalised(score: float, up: str, config: ViewConfig) -> float:
    """Scanners write Y or Z up; another axis must explain the scan clearly better."""
    return score * (1 if up in config.usual_ups else config.unusual_up_penalty)


def _glance(
    net: VoxelNet,
    points_scan: NDArray[np.float64],
    R_world_scan: NDArray[np.float64],
    rotations: Float[Tensor, "W 3 3"],
    config: ViewConfig,
    descent: DescentConfig,
) -> _Glance:
    """Let a few vertices descend in every view of one axis; the score is the median view's distance, both ways."""
    T_unit_scan = box_transform(points_scan, R_world_scan)
    points = to_unit(points_scan, T_unit_scan).to(rotations.device)
    turned = points @ rotations.mT
    features = net.features(turned, torch.ones(turned.shape[:2], dtype=torch.bool, device=turned.device))
    stride = max(net.field.num_vertices // config.glance_vertices, 1)
    subset = torch.arange(0, net.field.num_vertices, stride, device=turned.device)
    short = replace(descent, max_steps=min(descent.max_steps, config.glance_steps))
    vertices = descend(net.field, features, len(rotations), short, subset).vertices
    some = points[:: max(len(points) // config.glance_points, 1)].cpu().numpy()
    tree = cKDTree(some)
    in_unit = (vertices @ rotations).cpu().numpy()
    per_view = [tree.query(found)[0].mean() + cKDTree(found).query(some)[0].mean() for found in in_unit]
    return _Glance(T_unit_scan, features, subset, vertices, float(np.median(per_view)))


def most_alike(codes: Float[Tensor, "V R"], subset: Int[Tensor, " N"]) -> Int[Tensor, " V"]:
    """Return which of the subset has the code most similar to each vertex's: what moves alike lies together."""
    return torch.cdist(codes, codes[subset]).argmin(-1)


def most_agreed(vertices: Float[Tensor, "W N 3"], tolerance: float) -> int:
    """Return the view closest to all the others; distances are cut off, so that a wrong view sways nothing."""
    apart = (vertices[:, None] - vertices[None]).norm(dim=-1).clamp_max(4 * tolerance)
    return int(apart.mean(-1).sum(-1).argmin())
