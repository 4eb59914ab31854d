"""What the network says from several sides, in the box that explains the scan best.

In the view that the others agree with most all vertices descend, each from where the most alike of the few that chose
the box came to rest: where a descent starts does not matter, but most of the way is saved. descent/uncertainty.py asks
every view once more.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.errors import RegistrationError
from lvdreg.descent.boxes import Box
from lvdreg.descent.choose import Explained, Look, ViewConfig, any_length, choose
from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.field import Features
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.voxel.encoder import VoxelFeatures
from lvdreg.voxel.network import VoxelNet

NEAR_REST = 0.01
"""Mean step, unit frame, at which vertices lie near enough: before they are asked once more they are moved by five
times as much."""


@dataclass(frozen=True)
class Views:
    """One scan seen by the network from several sides.

    Attributes:
        box: The box that won: all vertices refer to it, unturned.
        confidence: How sure the choice of its name is, 0 to 1, as far as boxes and network can tell.
        Rs_view_unit: Rotation of each view about the box's centre.
        features: Features of all views.
        vertices: Vertices at rest, unit frame, as the most agreed view has them.
        step_lengths: Mean step of each round of the descent, unit frame.
        converged: Whether the steps vanished.
        scores: Mean distance between a few vertices and the scan, both ways, of the best box tried of each name; unit
            frame, smaller is better; empty where nothing had to be chosen.
        explained: How well the scan is explained in the box; None of a photo, which has no box to choose.
    """

    box: Box
    confidence: float
    Rs_view_unit: Float[Tensor, "W 3 3"]
    features: Features
    vertices: Float[Tensor, "V 3"]
    step_lengths: Float[Tensor, " S"]
    converged: bool
    scores: dict[str, float]
    explained: Explained | None = None

    def without_features(self) -> "Views":
        """Return the same without what the network saw, which takes most of the memory: nobody can look again."""
        return replace(self, features=VoxelFeatures(()))

    @property
    def T_unit_scan(self) -> NDArray[np.float64]:
        """From the scan to the box."""
        return self.box.T_unit_scan


def view_rotations(config: ViewConfig) -> Float[Tensor, "W 3 3"]:
    """Return the rotations of the views: all around Y, or, where boxes know the way, small ones about all axes."""
    return yaws(config.num_views) if config.tilt is None else tilts(config.num_views, math.radians(config.tilt))


def yaws(count: int) -> Float[Tensor, "W 3 3"]:
    """Return rotations by equal steps about Y."""
    angles = torch.arange(count) * (2 * math.pi / count)
    zero = torch.zeros_like(angles)
    return rotvec_to_rotmat(torch.stack([zero, angles, zero], -1))


def tilts(count: int, angle: float) -> Float[Tensor, "W 3 3"]:
    """Return the identity, and rotations by one angle (radians) about axes spread evenly over the sphere."""
    z = 1 - (2 * torch.arange(count - 1) + 1) / max(count - 1, 1)
    turn = torch.arange(count - 1) * (math.pi * (3 - 5**0.5))
    axes = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], -1)
    return rotvec_to_rotmat(torch.cat([torch.zeros(1, 3), angle * axes]))


def coarse_first(turns: Float[Tensor, "W 3 3"], config: ViewConfig) -> Float[Tensor, "W 3 3"]:
    """Return the rotations with those of coarse descents first: ``coarse_views`` of them, spread evenly."""
    coarse = range(0, len(turns), max(len(turns) // config.coarse_views, 1))[: config.coarse_views]
    return turns[[*coarse, *(i for i in range(len(turns)) if i not in coarse)]]


@torch.no_grad()
def descend_scan(
    net: VoxelNet,
    points_scan: NDArray[np.float64],
    boxes: Sequence[Box],
    turns: Float[Tensor, "W 3 3"],
    config: ViewConfig,
    descent: DescentConfig,
    lengths: Callable[[float], float] = any_length,
) -> Views:
    """Choose the box, and descend in the view that the others agree with.

    Args:
        net: The network.
        points_scan: Points of the scan in its own frame; those outside of a box are cut off by it.
        boxes: Hypotheses, at least one.
        turns: Rotations of the views about a box's centre.
        config: How many vertices, and what makes a box likely.
        descent: Settings of the descent.
        lengths: How likely a body is that long, in the scan's numbers; all alike unless given.

    Returns:
        The views of the best box.

    Raises:
        RegistrationError: no point lies in any box, or two boxes apart hold a hand each.
    """
    turns = coarse_first(turns.to(net.field.codes.device), config)
    look = Look(net, points_scan, config, descent, lengths)
    choice = choose(look, boxes, turns)
    if choice.second is not None:
        both = sorted({choice.box.name, choice.second})
        remedy = "give --side left or --side right, or crop" if len(both) > 1 else "crop"
        raise RegistrationError(f"expected one hand, got two side by side ({' and '.join(both)}): {remedy} to one")
    chosen = choice.coarse
    chosen = look([choice.box], turns, known=[] if chosen is None else [chosen])[0]
    view = most_agreed(chosen.vertices @ turns, config.consensus_cutoff)
    nearest = most_alike(net.field.codes, chosen.subset)
    start = chosen.vertices[view : view + 1, nearest]
    near = replace(descent, tolerance=max(descent.tolerance, NEAR_REST))
    result = descend(net.field, chosen.views[view].features, 1, near, start=start)
    return Views(
        box=choice.box,
        confidence=choice.confidence,
        Rs_view_unit=turns,
        features=chosen.features,
        vertices=result.vertices[0] @ turns[view],
        step_lengths=result.step_lengths[:, 0],
        converged=result.converged[0],
        scores=choice.scores,
        explained=choice.explained,
    )


@torch.no_grad()
def explain(
    net: VoxelNet,
    points_scan: NDArray[np.float64],
    boxes: Sequence[Box],
    turns: Float[Tensor, "W 3 3"],
    config: ViewConfig,
    descent: DescentConfig,
) -> tuple[Explained, Box, Float64[np.ndarray, "N 3"] | None]:
    """Return how well a network explains a scan in the best of the boxes; arguments are those of ``descend_scan``.

    Returns:
        How well, the box, and where a few vertices lie (N, 3), unit frame; None where parts of people were tried.

    Raises:
        RegistrationError: no point lies in any box.
    """
    turns = coarse_first(turns.to(net.field.codes.device), config)
    choice = choose(Look(net, points_scan, config, descent), boxes, turns)
    coarse = choice.coarse
    vertices = None if coarse is None else coarse.middle(turns[: len(coarse.views)])
    return choice.explained, choice.box, vertices


def most_alike(codes: Float[Tensor, "V R"], subset: Int[Tensor, " N"]) -> Int[Tensor, " V"]:
    """Return which of the subset has the code most similar to each vertex's: what moves alike lies together."""
    return torch.cdist(codes, codes[subset]).argmin(-1)


def most_agreed(vertices: Float[Tensor, "W N 3"], tolerance: float) -> int:
    """Return the view closest to all the others; distances are cut off, so that a wrong view sways nothing."""
    apart = (vertices[:, None] - vertices[None]).norm(dim=-1).clamp_max(4 * tolerance)
    return int(apart.mean(-1).sum(-1).argmin())
