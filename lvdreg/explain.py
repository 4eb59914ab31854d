"""Which way up, and what the network says from several sides.

The network is asked about the scan turned to several yaws, and, where the up axis is not known, under several axes. How well it
explains a scan is how close the vertices it carries to rest lie to the scan's points and the points to them. The best axis
wins; the yaws of that axis become views of one scan: their agreement is worth more than any one of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
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
        vertices: Vertices at rest of each view, each in its own view frame.
        step_lengths: Mean steps of the descent, unit frame.
        converged: Whether every view's steps vanished.
        scores: Mean distance between vertices and scan, both ways, of each axis tried; unit frame, smaller is better.
    """

    up: str
    T_unit_scan: NDArray[np.float64]
    Rs_view_unit: Float[Tensor, "W 3 3"]
    features: VoxelFeatures
    vertices: Float[Tensor, "W V 3"]
    step_lengths: Float[Tensor, "S W"]
    converged: bool
    scores: dict[str, float]

    def in_unit(self) -> Float[Tensor, "W V 3"]:
        """Return every view's vertices turned back to the unit frame."""
        return self.vertices @ self.Rs_view_unit


def yaws(count: int) -> Float[Tensor, "W 3 3"]:
    """Return rotations by equal steps about Y."""
    angles = torch.arange(count) * (2 * math.pi / count)
    zero = torch.zeros_like(angles)
    return rotvec_to_rotmat(torch.stack([zero, angles, zero], -1))


def look(
    net: VoxelNet, points_scan: NDArray[np.float64], ups: Mapping[str, NDArray[np.float64]], config: ViewConfig, descent: DescentConfig
) -> Views:
    """Choose the up axis and descend from all views of it.

    Args:
        net: The network.
        points_scan: Points of the scan in its own frame.
        ups: Rotations ``R_world_scan`` to try, by the name of the axis they bring up.
        config: How many views and vertices.
        descent: Settings of the descent.

    Returns:
        The views of the best axis.
    """
    rotations = yaws(config.num_views)
    best, scores = next(iter(ups)), {next(iter(ups)): 0.0}
    if len(ups) > 1:
        scores = {name: _score(net, points_scan, R, rotations, config, descent) for name, R in ups.items()}
        best = min(scores, key=lambda name: scores[name] * (1 if name in config.usual_ups else config.unusual_up_penalty))
    T_unit_scan = box_transform(points_scan, ups[best])
    features, count = _encode(net, points_scan, T_unit_scan, rotations)
    result = descend(net.field, features, count, descent)
    return Views(best, T_unit_scan, rotations, features, result.vertices, result.step_lengths, all(result.converged), scores)


def _encode(
    net: VoxelNet, points_scan: NDArray[np.float64], T_unit_scan: NDArray[np.float64], rotations: Float[Tensor, "W 3 3"]
) -> tuple[VoxelFeatures, int]:
    points = to_unit(points_scan, T_unit_scan).to(net.field.codes.device)
    turned = points @ rotations.to(points).mT
    with torch.inference_mode():
        return net.features(turned, torch.ones(turned.shape[:2], dtype=torch.bool, device=turned.device)), len(rotations)


def _score(
    net: VoxelNet,
    points_scan: NDArray[np.float64],
    R_world_scan: NDArray[np.float64],
    rotations: Float[Tensor, "W 3 3"],
    config: ViewConfig,
    descent: DescentConfig,
) -> float:
    """Return how badly the network explains the scan under one axis: the median over views of the distance both ways."""
    T_unit_scan = box_transform(points_scan, R_world_scan)
    features, count = _encode(net, points_scan, T_unit_scan, rotations)
    subset = torch.arange(0, net.field.num_vertices, max(net.field.num_vertices // config.score_vertices, 1))
    found = descend(net.field, features, count, descent, subset).vertices @ rotations
    points = to_unit(points_scan, T_unit_scan).numpy()[:: max(len(points_scan) // config.score_points, 1)]
    tree = cKDTree(points)
    per_view = []
    for vertices in found.cpu().numpy():
        per_view.append(tree.query(vertices)[0].mean() + cKDTree(vertices).query(points)[0].mean())
    return float(np.median(per_view))


def consensus(vertices: Float[Tensor, "W V 3"], tolerance: float) -> tuple[Float[Tensor, "V 3"], Float[Tensor, " V"]]:
    """Join the views: at every vertex the mean of those near the view that agrees best with all the others.

    Args:
        vertices: Vertices of each view in a common frame.
        tolerance: Views farther than this from the most agreed one are left out at that vertex, frame units.

    Returns:
        Joint vertices, and how far the views lie apart at each (root mean square).
    """
    apart = (vertices[:, None] - vertices[None]).norm(dim=-1)
    # The sum of distances, each cut off, elects the medoid: a view that is wrong everywhere cannot sway it.
    centre = apart.clamp_max(4 * tolerance).mean(-1).sum(-1).argmin()
    weight = (apart[centre] < tolerance).float()
    joint = (weight[..., None] * vertices).sum(0) / weight.sum(0)[:, None]
    return joint, ((vertices - joint) ** 2).sum(-1).mean(0).sqrt()


