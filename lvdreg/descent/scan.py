"""Where the body lies, and what the network says from several sides.

A box is one hypothesis of where and how the body lies: an axis that points up, or the side and the place of a hand. The
network is asked about the scan turned in several ways in each plausible box; a few hundred vertices are enough to see
how well it explains each: how close the vertices it carries to rest lie to the points in the box, and the points to
them. The best box wins. In the view that the others agree with most all vertices then descend, each from where the most
alike of the few came to rest: where a descent starts does not matter, but most of the way is saved.
descent/uncertainty.py asks every view once more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.base.errors import RegistrationError
from lvdreg.descent.boxes import Box, evenly, to_unit
from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.field import Features
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.voxel.encoder import VoxelFeatures
from lvdreg.voxel.network import VoxelNet


@dataclass(frozen=True)
class ViewConfig:
    """From how many sides the network looks at a scan.

    Numbers of views, coarse vertices and steps are what descents cost and still decided as all vertices did (LOG.md,
    "Views"); exponents, tilt and the number of coarse views of hands were chosen on 80 synthetic hands and checked on
    100 others (LOG.md, "Which hand it is"). The rest was chosen by hand, not tuned.
    """

    num_views: int = 4
    tilt: float | None = None
    """Views turn by so many degrees about different axes, the first not at all; None: all around Y by equal steps."""
    coarse_vertices: int = 350
    coarse_steps: int = 6
    coarse_points: int = 1500
    rare_ups: tuple[str, ...] = ("-y", "-z", "+x", "-x")
    rare_up_penalty: float = 1.1
    """Boxes of these names must explain the scan clearly better."""
    min_probability: float = 0.05
    """Boxes less likely than this are not tried by a coarse descent."""
    score_exponent: float = 8.0
    """How much a coarse descent decides: the likelihood is the probability times the score to the minus this."""
    consensus_exponent: float = 4.0
    """How much it decides that views agree: times their spread to the minus this. In a wide skirt the body upside down
    explains the cone as well as the right one does, but views only agree on the right one."""
    extent_exponent: float = 4.0
    """Times how far the vertices reach to this: views that know nothing agree on a clump in the middle. Both were
    chosen on 20 people in gowns and coats (scripts/bench_gowns.py, seed 0), and 3 of seed 1: all 23 are right, 6 are
    not by the scores alone."""
    coarse_views: int = 2
    """Views of a coarse descent, where there is more than one box to choose from."""
    second_hand_ratio: float = 8.0
    second_hand_spread: float = 0.028
    """A box apart holds a hand as well if its score times its spread is less than so many times the best one's, and its
    spread less than this: second hands had 0.011 to 0.026, and one 0.034, things 0.031 and more. Both were chosen on
    the very scans whose figures LOG.md gives ("A hand among pieces"): on others they will do worse."""
    consensus_cutoff: float = 0.08
    detector_rounds: int = 2
    """How often the hand detector looks again where its last answer was."""
    detector_hypotheses: int = 2
    """At how many frames of each side."""

    def __post_init__(self) -> None:
        if self.num_views < 1:
            raise ValueError(f"num_views: expected at least 1, got {self.num_views}")


MIN_SPREAD = 1e-4
"""Views that agree better than this, in box units, agree."""
LARGEST_OVERLAP = 0.2
"""Boxes apart share less than this of the points of the one that holds fewer."""


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
        scores: Mean distance between vertices and scan, both ways, of the best box tried of each name; unit frame,
            smaller is better; empty where nothing had to be chosen.
    """

    box: Box
    confidence: float
    Rs_view_unit: Float[Tensor, "W 3 3"]
    features: Features
    vertices: Float[Tensor, "V 3"]
    step_lengths: Float[Tensor, " S"]
    converged: bool
    scores: dict[str, float]

    @property
    def T_unit_scan(self) -> NDArray[np.float64]:
        """From the scan to the box."""
        return self.box.T_unit_scan


@dataclass(frozen=True)
class _CoarseDescent:
    """What a few vertices, ``subset``, say in one box; each view's are in its own frame.

    ``score`` is their mean distance to the scan, both ways, and ``spread`` how far views disagree; smaller is better.
    ``extent`` is their standard deviation along the axis where it is largest.
    """

    features: VoxelFeatures
    subset: Int[Tensor, " N"]
    vertices: Float[Tensor, "W N 3"]
    score: float
    spread: float
    extent: float = 1.0


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


@torch.no_grad()
def descend_scan(
    net: VoxelNet,
    points_scan: NDArray[np.float64],
    boxes: Sequence[Box],
    turns: Float[Tensor, "W 3 3"],
    config: ViewConfig,
    descent: DescentConfig,
) -> Views:
    """Choose the box, and descend in the view that the others agree with.

    Args:
        net: The network.
        points_scan: Points of the scan in its own frame; those outside of a box are cut off by it.
        boxes: Hypotheses, at least one.
        turns: Rotations of the views about a box's centre.
        config: How many vertices, and what makes a box likely.
        descent: Settings of the descent.

    Returns:
        The views of the best box.

    Raises:
        RegistrationError: no point lies in any box, or two boxes apart hold a hand each.
    """
    turns, count = turns.to(net.field.codes.device), net.config.voxel.num_points
    inside = [_inside(points_scan, box, count) for box in boxes]
    plausible = [i for i, box in enumerate(boxes) if len(inside[i]) and box.probability >= config.min_probability]
    plausible = plausible or [i for i in range(len(boxes)) if len(inside[i])][:1]
    if not plausible:
        raise RegistrationError("expected a body in the scan, found no points where it should be; check the scan")
    few = turns[:: max(len(turns) // config.coarse_views, 1)] if len(plausible) > 1 else turns
    coarse_descents = {i: _coarse_descent(net, inside[i], few, config, descent) for i in plausible}
    likely = {i: _likelihood(coarse, boxes[i], config) for i, coarse in coarse_descents.items()}
    best = max(likely, key=lambda i: likely[i])
    others_apart = [i for i in _apart(points_scan, boxes, best) if i in coarse_descents]
    if any(_is_second_hand(coarse_descents[i], coarse_descents[best], config) for i in others_apart):
        what = "two pieces that both look like hands"
        raise RegistrationError(f"expected one hand, got {what}: crop to one and run again")
    box, chosen = boxes[best], coarse_descents[best]
    if len(few) < len(turns):
        chosen = _coarse_descent(net, inside[best], turns, config, descent)
    tried = {i: coarse.score for i, coarse in coarse_descents.items()} if len(plausible) > 1 else {}
    view = most_agreed(chosen.vertices @ turns, config.consensus_cutoff)
    nearest = most_alike(net.field.codes, chosen.subset)
    start = chosen.vertices[view : view + 1, nearest]
    result = descend(net.field, chosen.features.only(view), 1, descent, start=start)
    return Views(
        box=box,
        confidence=_confidence(box.name, likely, boxes),
        Rs_view_unit=turns,
        features=chosen.features,
        vertices=result.vertices[0] @ turns[view],
        step_lengths=result.step_lengths[:, 0],
        converged=result.converged[0],
        scores={boxes[i].name: tried[i] for i in sorted(tried, key=lambda i: -tried[i]) if boxes[i].keep is box.keep},
    )


def _inside(points_scan: NDArray[np.float64], box: Box, count: int) -> Float[Tensor, "P 3"]:
    """Return points in a box, unit frame, at most ``count``: how many cells of the grid are filled should look as it
    did in training."""
    points = to_unit(points_scan if box.keep is None else points_scan[box.keep], box.T_unit_scan)
    points = points[_in_box(points)]
    return points[torch.from_numpy(evenly(len(points), count))]


def _in_box(points_unit: Float[Tensor, "P 3"]) -> Bool[Tensor, " P"]:
    return (points_unit.abs() <= 1).all(-1)


def _apart(points_scan: NDArray[np.float64], boxes: Sequence[Box], best: int) -> list[int]:
    """Return which boxes of other groups share hardly a point with the best one."""
    others = [i for i, box in enumerate(boxes) if box.group != boxes[best].group]
    if not others:
        return []
    held = {i: _in_box(to_unit(points_scan, boxes[i].T_unit_scan)) for i in (best, *others)}
    shared = {i: int((held[i] & held[best]).sum()) / max(int(min(held[i].sum(), held[best].sum())), 1) for i in others}
    return [i for i in others if shared[i] < LARGEST_OVERLAP]


def _is_second_hand(other: _CoarseDescent, best: _CoarseDescent, config: ViewConfig) -> bool:
    """Tell whether another box holds a hand as well: it explains its points and its views agree about as well."""
    ratio = max(other.spread, MIN_SPREAD) / max(best.spread, MIN_SPREAD)
    return other.spread < config.second_hand_spread and other.score * ratio < config.second_hand_ratio * best.score


def _likelihood(coarse: _CoarseDescent, box: Box, config: ViewConfig) -> float:
    """Weigh how likely a box was with how well the network explains the scan in it, and how surely.

    Scanners write Y or Z up; another axis must explain the scan clearly better.
    """
    score = coarse.score * (config.rare_up_penalty if box.name in config.rare_ups else 1.0)
    consensus = max(coarse.spread, MIN_SPREAD) ** -config.consensus_exponent * coarse.extent**config.extent_exponent
    return float(box.probability * score**-config.score_exponent * consensus)


def _confidence(name: str, likely: dict[int, float], boxes: Sequence[Box]) -> float:
    """Return the share of the boxes of one name; what was not tried counts as it was thought before."""
    before = np.array([box.probability for box in boxes]) / max(sum(box.probability for box in boxes), 1.0)
    tried = list(likely)
    own = sum(value for i, value in likely.items() if boxes[i].name == name) / sum(likely.values())
    rest = sum(float(before[i]) for i, box in enumerate(boxes) if i not in likely and box.name == name)
    return float(own * before[tried].sum() + rest)


def _coarse_descent(
    net: VoxelNet,
    points_unit: Float[Tensor, "P 3"],
    turns: Float[Tensor, "W 3 3"],
    config: ViewConfig,
    descent: DescentConfig,
) -> _CoarseDescent:
    """Let a few vertices descend in every view of one box; the score is the median view's distance, both ways."""
    points = points_unit.to(turns.device)
    turned = points @ turns.mT
    features = net.features(turned, torch.ones(turned.shape[:2], dtype=torch.bool, device=turned.device))
    stride = max(net.field.num_vertices // config.coarse_vertices, 1)
    subset = torch.arange(0, net.field.num_vertices, stride, device=turned.device)
    short = replace(descent, max_steps=min(descent.max_steps, config.coarse_steps))
    vertices = descend(net.field, features, len(turns), short, subset).vertices
    some = points[:: max(len(points) // config.coarse_points, 1)].cpu().numpy()
    tree = cKDTree(some)
    in_unit = (vertices @ turns).cpu().numpy()
    per_view = [tree.query(found)[0].mean() + cKDTree(found).query(some)[0].mean() for found in in_unit]
    spread = float((vertices @ turns).std(0, correction=0).norm(dim=-1).median())
    extent = max(float(vertices.std(1, correction=0).amax(-1).median()), MIN_SPREAD)
    return _CoarseDescent(features, subset, vertices, float(np.median(per_view)), spread, extent)


def most_alike(codes: Float[Tensor, "V R"], subset: Int[Tensor, " N"]) -> Int[Tensor, " V"]:
    """Return which of the subset has the code most similar to each vertex's: what moves alike lies together."""
    return torch.cdist(codes, codes[subset]).argmin(-1)


def most_agreed(vertices: Float[Tensor, "W N 3"], tolerance: float) -> int:
    """Return the view closest to all the others; distances are cut off, so that a wrong view sways nothing."""
    apart = (vertices[:, None] - vertices[None]).norm(dim=-1).clamp_max(4 * tolerance)
    return int(apart.mean(-1).sum(-1).argmin())
