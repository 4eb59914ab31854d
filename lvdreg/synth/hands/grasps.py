"""Hands that hold things: where a thing lies in a hand, and fingers that close until they touch it."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lvdreg.synth.draw import Draw
from lvdreg.synth.hands.capsules import FLEX, LONG, SIDE, THUMB, TWIST, Capsules, FingerRig, HandCapsules, HandShape
from lvdreg.synth.hands.props import Prop

_DEGREE = math.pi / 180

PRESS = 0.001
"""How deep fingers press on what they hold, metres."""
LEVELS, WRAP_LEVELS = 12, 8
"""Steps tested on the way from an open finger to a closed one; the contact is found between two of them."""
SPHERES = 3
"""Spheres by which a capsule is tested."""
SHEET = (0.006, 0.02)
"""Half extents, metres: what is thinner than the first and wider than the second lies between thumb and fingers."""
# In lengths of the palm, wrist to middle knuckle. The skin of the palm is at PALM_HEIGHT before the bones.
PALM_HEIGHT = 0.2
PALM_CENTRE = (0.0, 0.86)
PINCH_CENTRE = (0.2, 0.93, 0.64)
PINCH_AXIS = (-0.4, 0.91, 0.0)
"""Where thumb and finger tips meet, and the direction from the one to the others: medians of pinching hands."""


class ThumbPath(NamedTuple):
    """How a thumb closes, degrees: from and to, for flexion, palmar abduction, twist, second and third joint."""

    start: tuple[float, float, float, float, float]
    end: tuple[float, float, float, float, float]


# Against the finger tips, around a thick thing, and along the edge of the palm.
THUMB_PATHS = (
    ThumbPath((-32, 12, 10, -8, -12), (52, 12, 38, 55, 65)),
    ThumbPath((-44, -8, 0, -10, -15), (40, -12, 20, 55, 70)),
    ThumbPath((-32, -25, -10, -10, -15), (30, -45, 0, 40, 60)),
)


def grasp_place(
    joints: Float[Tensor, "B J 3"], radii: Float[Tensor, "B 3"], generator: torch.Generator
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3 3"]]:
    """Say where things of some size lie when a hand holds them.

    Thick things lie in the palm, their long axis across it; sheets and some thin things between thumb and finger tips,
    the thin axis from the one to the other.

    Args:
        joints: Of the resting hands, canonical palm frame, MANO's order (the middle finger's knuckle is the fourth).
        radii: Half extents of the things along their own axes, metres.
        generator: The source of randomness.

    Returns:
        Centres and axes (columns) of the things, as ``Prop`` has them.
    """
    draw = Draw(len(joints), generator)
    length = (joints[:, 4] - joints[:, 0]).norm(dim=-1)
    order = radii.argsort(-1)
    thin, middle, long = radii.gather(1, order).unbind(-1)
    sheet = (thin < SHEET[0]) & (middle > SHEET[1])
    tips = sheet | (draw.uniform(shape=()) > 0.35 + 25 * middle)
    palm_place, palm_axes = _in_palm(draw, length, thin, middle, long)
    tips_place, tips_axes = _at_tips(draw, length, middle, long)
    centre = torch.where(tips[:, None], tips_place, palm_place)
    axes = torch.where(tips[:, None, None], tips_axes, palm_axes)
    # Columns come as thin, middle, long; sort them back, and keep the frame right-handed.
    rotation = torch.zeros_like(axes).scatter(2, order[:, None].expand(-1, 3, -1), axes)
    rotation[..., 0] *= torch.linalg.det(rotation)[:, None]
    return centre + joints[:, 0], rotation


def _in_palm(
    draw: Draw, length: Tensor, thin: Tensor, middle: Tensor, long: Tensor
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3 3"]]:
    """Return centre and axes (thin, middle, long) of things that lie in the palm, the long axis obliquely across."""
    tilt = draw.uniform(-10, 40, ()) * _DEGREE
    zero = torch.zeros_like(tilt)
    along = torch.stack([tilt.cos(), tilt.sin(), zero], -1)
    aside = torch.stack([-tilt.sin(), tilt.cos(), zero], -1)
    up = torch.stack([zero, zero, torch.ones_like(tilt)], -1)
    x, y = (length * (place + 0.05 * draw.normal(())) for place in PALM_CENTRE)
    # What is thick lies further from the wrist: the ball of the thumb is in its way.
    y = y + 0.4 * (middle - 0.015).clamp_min(0)
    z = PALM_HEIGHT * length + thin + 0.003 * draw.uniform(0, 1, ())
    slide = draw.uniform(-1, 1, ()) * (long - 0.4 * length).clamp_min(0)
    return torch.stack([x, y, z], -1) + slide[:, None] * along, torch.stack([up, aside, along], -1)


def _at_tips(
    draw: Draw, length: Tensor, middle: Tensor, long: Tensor
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3 3"]]:
    """Return centre and axes (thin, middle, long) of things between thumb and finger tips."""
    pitch, turn = draw.uniform(-25, 25, ()) * _DEGREE, draw.uniform(-60, 60, ()) * _DEGREE
    axis = torch.tensor(PINCH_AXIS, device=draw.device).expand(draw.batch, 3)
    up = torch.tensor([0.0, 0.0, 1.0], device=draw.device)
    # From thumb to fingers; then out of the hand, as far as the thing is turned about that.
    between = functional.normalize(pitch.cos()[:, None] * axis + pitch.sin()[:, None] * up, dim=-1)
    across = functional.normalize(torch.linalg.cross(between, up.expand_as(axis)), dim=-1)
    out = torch.linalg.cross(across, between)
    along = turn.cos()[:, None] * out + turn.sin()[:, None] * across
    aside = torch.linalg.cross(along, between)
    place = length[:, None] * (torch.tensor(PINCH_CENTRE, device=draw.device) + 0.05 * draw.normal((3,)))
    # Held near its edge if it would reach into the palm.
    slide = (long - 0.4 * length).clamp_min(0)[:, None] * along
    outwards = (aside * out).sum(-1, keepdim=True)
    slide = slide + (middle[:, None] * outwards.abs() - 0.3 * length[:, None]).clamp_min(0) * outwards.sign() * aside
    return place + slide, torch.stack([between, aside, along], -1)


class Hand(NamedTuple):
    """What closing needs to know of a batch of hands."""

    shape: HandShape
    rig: FingerRig
    capsules: HandCapsules

    def posed(self, angles: Float[Tensor, "B L 5 3 3"]) -> Capsules:
        """Pose all fingers."""
        return self.shape.posed(self.rig.rotvecs(self.rig.held(angles)))


def close_on(prop: Prop, hand: Hand, open_angles: Float[Tensor, "B 5 3 3"], draw: Draw) -> Float[Tensor, "B 5 3 3"]:
    """Bend fingers until they touch what is there; those that meet nothing bend as far as others might.

    Knuckles and outer joints bend together until a finger touches; then the outer joints go on by themselves, so that
    fingers wrap around what is thick. The thumb closes last, along the path that brings it nearest.

    Args:
        prop: Things, in the frame of the palm.
        hand: The hands.
        open_angles: Fingers to begin with; of these only abduction and twist of the four long ones are kept.
        draw: The source of randomness.
    """
    straightness = draw.uniform(0.45, 1.0, ())
    reach = draw.uniform(0.1, 1.0)
    start, end = open_angles.clone(), open_angles.clone()
    start[:, LONG, 0, FLEX] = -18 * _DEGREE
    end[:, LONG, 0, FLEX] = 85 * _DEGREE
    for joint, opened, closed in ((1, 2, 100), (2, 0, 65)):
        start[:, LONG, joint, FLEX] = opened * _DEGREE
        end[:, LONG, joint, FLEX] = closed * _DEGREE * straightness[:, None]
    angles, touched = _bend(prop, hand, start, end, LEVELS, reach)
    wrapped = angles.clone()
    wrapped[:, LONG, 1, FLEX] = 105 * _DEGREE
    wrapped[:, LONG, 2, FLEX] = 70 * _DEGREE
    further, _ = _bend(prop, hand, angles, wrapped, WRAP_LEVELS, torch.ones_like(reach))
    angles[:, LONG] = torch.where(touched[..., None, None], further[:, LONG], angles[:, LONG])
    return _close_thumb(prop, hand, angles, draw)


def _gaps(prop: Prop, capsules: Capsules) -> Float[Tensor, "B L F"]:
    """Return how far each finger is from the thing; negative inside."""
    centres, radii = capsules.samples(SPHERES)
    batch, levels, fingers, spheres, _ = centres.shape
    depth = prop.depth(centres.reshape(batch, -1, 3)).view(batch, levels, fingers, spheres)
    return (depth - radii[:, None]).amin(-1)


def _bend(
    prop: Prop, hand: Hand, start: Tensor, end: Tensor, levels: int, reach: Float[Tensor, "B 1"]
) -> tuple[Float[Tensor, "B 5 3 3"], Bool[Tensor, "B 4"]]:
    """Bend the four long fingers from ``start`` towards ``end`` until they touch; say which did.

    Those that do not touch go as far as the others, or ``reach`` of the way when none does.
    """
    share = torch.linspace(0, 1, levels, device=start.device)
    path = start[:, None].lerp(end[:, None], share[:, None, None, None])
    posed = hand.posed(path)
    palm = hand.capsules.palm_depths(posed)[..., LONG]
    gaps = torch.minimum(_gaps(prop, posed)[..., LONG] + PRESS, 0.5 * HandCapsules.tolerance - palm)
    stop, touched = contact(gaps)
    others = (stop * touched).sum(-1, keepdim=True) / touched.sum(-1, keepdim=True).clamp_min(1)
    stop = torch.where(touched, stop, torch.where(touched.any(-1, keepdim=True), 0.9 * others, reach))
    angles = start.clone()
    angles[:, LONG] = start[:, LONG].lerp(end[:, LONG], stop[..., None, None])
    return angles, touched


def contact(gaps: Float[Tensor, "B L F"]) -> tuple[Float[Tensor, "B F"], Bool[Tensor, "B F"]]:
    """Return how far along its way (0 to 1) each finger gets from where it is first clear until its gap is zero.

    A finger that is nowhere clear stays where it is least deep. The second result says who touches at all.
    """
    count = gaps.shape[1]
    clear = gaps >= 0
    begun = clear.cumsum(1) > 0
    running = (clear | ~begun).long().cumprod(1).bool() & clear
    number = torch.arange(count, device=gaps.device)[:, None]
    last = torch.where(running, number, -1).amax(1)
    following = (last + 1).clamp_max(count - 1)
    before, after = (gaps.gather(1, at.clamp_min(0)[:, None])[:, 0] for at in (last, following))
    part = (before / (before - after).clamp_min(1e-6)).clamp(0, 1) * (following > last)
    stuck = last < 0
    level = torch.where(stuck, gaps.argmax(1), last + part)
    return level / (count - 1), stuck | (following > last)


def _close_thumb(prop: Prop, hand: Hand, angles: Float[Tensor, "B 5 3 3"], draw: Draw) -> Float[Tensor, "B 5 3 3"]:
    """Close the thumb along each of its paths, and take the one that ends nearest to the thing."""
    places = ((0, FLEX), (0, SIDE), (0, TWIST), (1, FLEX), (2, FLEX))
    jitter = 6 * _DEGREE * draw.normal((len(places),))
    share = torch.linspace(0, 1, LEVELS, device=draw.device)
    ends = torch.tensor(THUMB_PATHS, device=draw.device) * _DEGREE
    path = ends[:, :1].lerp(ends[:, 1:], share[:, None]).flatten(0, 1) + jitter[:, None]
    # Some thumbs press with the tip, some with the flat of the pad.
    path[..., 3:] *= draw.uniform(0.2, 1.0)[..., None]
    tried = angles[:, None].repeat(1, path.shape[1], 1, 1, 1)
    for number, (joint, component) in enumerate(places):
        tried[:, :, THUMB, joint, component] = path[..., number]
    posed = hand.posed(tried)
    gap = _gaps(prop, posed)[..., THUMB] + PRESS
    deep = hand.capsules.penetration(posed, hand.capsules.of_finger(THUMB)).amax(-1)
    free = torch.minimum(gap, 0.5 * HandCapsules.tolerance - deep).unflatten(1, (len(THUMB_PATHS), LEVELS))
    stop, _ = contact(free.mT)
    low = (stop * (LEVELS - 1)).long().clamp_max(LEVELS - 2)
    rest = (stop * (LEVELS - 1) - low)[..., None]
    rows, numbers = (
        torch.arange(draw.batch, device=draw.device)[:, None],
        torch.arange(len(THUMB_PATHS), device=draw.device) * LEVELS,
    )
    first = low + numbers
    ended = tried[rows, first].lerp(tried[rows, first + 1], rest[..., None, None])
    left = gap[rows, first].lerp(gap[rows, first + 1], rest[..., 0])
    best = (left.abs() + 4 * (-left).clamp_min(0)).argmin(1)
    return ended[rows[:, 0], best]
