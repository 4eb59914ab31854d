"""A closer look at the hands of a whole person, by the network for hands.

In the box of a whole person a hand is five cells of the grid wide: that is too little to see fingers. Where the hands
are, which is which and how they lie is known once a body has been fitted. So the hand's own network looks at the points
there in a box as in training: first from one side, around the hand of the fitted body, then from several, around what
it found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.spatial import cKDTree

from lvdreg.base.lengths import length_field
from lvdreg.base.shapes import Points, Transform, Vertices
from lvdreg.base.threads import side_by_side
from lvdreg.body.chosen import Chosen
from lvdreg.body.hands import SIDES, hand_places, has_fingers, of_forearm, of_hand, palm_frame
from lvdreg.body.model import BodyData
from lvdreg.descent.boxes import Box, unit_box
from lvdreg.descent.choose import ViewConfig
from lvdreg.descent.descend import DescentConfig
from lvdreg.descent.scan import descend_scan, view_rotations
from lvdreg.descent.uncertainty import UncertaintyConfig, one_step_spread
from lvdreg.descent.weights import TrainedNet
from lvdreg.geometry.frames import is_reflected, nearest_similarity, scale_of, similarity, transform_points
from lvdreg.voxel.hand_detector import HALF_EXTENT
from lvdreg.voxel.network import VoxelNet


@dataclass(frozen=True)
class HandLookConfig:
    """How the hands of a whole person are looked at; lengths in metres.

    As scans of hands are, but from two sides: more gained nothing. Chosen on twenty synthetic scans, of seeds 701 and
    702 (LOG.md, "Fingers of whole bodies").
    """

    views: ViewConfig = field(
        default_factory=partial(
            ViewConfig, num_views=2, tilt=15.0, coarse_vertices=160, coarse_steps=5, part_zooms=(), coarse_views=4
        )
    )
    descent: DescentConfig = field(default_factory=DescentConfig)
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    min_points: int = 100
    """Of fewer points in its box nothing is said of a hand."""
    reach: float = length_field(0.1)
    """A hand found farther than this from the fitted one is another thing."""
    max_sigma: float = length_field(0.008)
    """Of a hand less certain than this, one-sigma of its median vertex, the body's own network knows as much."""


@dataclass(frozen=True)
class SeenHand:
    """What the network for hands says of one hand.

    Attributes:
        side: "left" or "right".
        vertices: (H, 3) of the free hand model, world frame, metres.
        sigma: (H,) one-sigma of each, metres.
    """

    side: str
    vertices: Float64[np.ndarray, "H 3"]
    sigma: Float64[np.ndarray, " H"]


def look_at_hands(
    trained: TrainedNet[VoxelNet],
    hand: BodyData,
    points: Points,
    body: BodyData,
    vertices: Vertices,
    joints: Float64[np.ndarray, "J 3"],
    config: HandLookConfig,
    seed: int,
) -> list[SeenHand]:
    """Look at both hands of a person, as far as the scan shows them.

    Args:
        trained: The network for hands.
        hand: The free hand model.
        points: (P, 3) of the scan, world frame, metres.
        body: The body that was fitted.
        vertices: (V, 3) of it.
        joints: (J, 3) of it.
        config: Settings.
        seed: Of perturbations.
    """
    nearest = cKDTree(vertices).query(points)[1]

    def look(side: str) -> SeenHand | None:
        own = of_hand(body, side)
        # What lies nearest to the other hand, a hip or a head is no part of this one.
        arm = points[(own | of_forearm(body, side))[nearest]]
        return _look(trained, hand, arm, vertices[own], palm_frame(body, joints, side), side, config, seed)

    found = side_by_side(look, [side for side in SIDES if has_fingers(body, side)])
    return [seen for seen in found if seen is not None]


def _look(
    trained: TrainedNet[VoxelNet],
    hand: BodyData,
    points: Points,
    fitted: Vertices,
    T_palm_world: Transform,
    side: str,
    config: HandLookConfig,
    seed: int,
) -> SeenHand | None:
    """Look at one hand; None where the scan does not show it, or something else."""
    rest = np.asarray(hand.v_template, np.float64)
    of_palm, turns = np.asarray(hand.weights)[:, 0] > 0.5, view_rotations(config.views)
    found = fitted
    for seen_from in (turns[:1], turns):
        box = _box_of(found, T_palm_world, side)
        if (np.abs(transform_points(box.T_unit_scan, points)) <= 1).all(1).sum() < config.min_points:
            return None
        views = descend_scan(trained.net, points, [box], seen_from, config.views, config.descent)
        T_world_unit = np.linalg.inv(views.T_unit_scan).astype(np.float64)
        found = transform_points(T_world_unit, views.vertices.double().cpu().numpy())
        T_palm_world = _palm_of(found, rest, of_palm, is_reflected(T_world_unit))
    predicted, spread = one_step_spread(
        trained.net.field, views, torch.from_numpy(hand.faces), config.uncertainty, seed
    )
    vertices = transform_points(T_world_unit, predicted.double().cpu().numpy())
    sigma = scale_of(T_world_unit) * trained.calibration(spread).double().cpu().numpy()
    is_there = np.linalg.norm(fitted.mean(0) - vertices.mean(0)) < config.reach
    return SeenHand(side, vertices, sigma) if is_there and np.median(sigma) < config.max_sigma else None


def _box_of(found: Points, T_palm_world: Transform, side: str) -> Box:
    """Return the box around a hand in the axes of its palm, as in training."""
    palm = torch.from_numpy(transform_points(T_palm_world, found))[None]
    scale, centre = unit_box(palm, torch.ones(palm.shape[:2], dtype=torch.bool), HALF_EXTENT)
    factor = float(scale[0])
    return Box(side, similarity(factor, np.eye(3), -factor * centre[0].numpy()) @ T_palm_world)


def _palm_of(vertices: Points, rest: Points, of_palm: Bool[np.ndarray, " H"], is_left: bool) -> Transform:
    """Return the frame of the palm that vertices show, in which the hand is as large as at rest."""
    mirror = np.diag([-1.0 if is_left else 1.0, 1.0, 1.0, 1.0])
    own = transform_points(mirror, vertices[of_palm])
    return nearest_similarity(own, rest[of_palm]) @ mirror


def with_hands(
    model: Chosen, free: torch.Tensor, sigma: torch.Tensor, hands: Sequence[SeenHand]
) -> tuple[torch.Tensor, torch.Tensor, Bool[np.ndarray, " V"]]:
    """Put what was seen of hands in the place of what the network for bodies says.

    Args:
        model: The model that is fitted.
        free: (S, 3) vertices of the free body, world frame.
        sigma: (S,) of them.
        hands: What was seen.

    Returns:
        Vertices (V, 3) of the model, their sigma (V,), and which of them (V,) are of hands that were seen.
    """
    free, sigma, places = free.clone(), sigma.clone(), hand_places()
    own = np.zeros(len(free), bool)
    for hand in hands:
        index = places.vertices[hand.side]
        free[index] = torch.from_numpy(places.at(hand.vertices)).to(free)
        sigma[index] = torch.from_numpy(places.at(hand.sigma[:, None])[:, 0]).to(sigma)
        own[index] = True
    vertices, spread = model.carried(free, sigma)
    found = model.correspondence
    if found is not None:
        own = own[np.asarray(model.source.data.faces)[found.faces_index]].all(1) & ~found.blind
    return vertices, spread, own
