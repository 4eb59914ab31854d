"""Poses of a hand of its own, drawn at random within the limits of its joints: named kinds that people show.

A pose is angles of the finger joints about their own axes (fit/priors.py), counted from the straight finger: (B, 5, 3,
3) for finger (in the order of ``FINGERS``), joint (knuckle first) and component (twist, flexion, side).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lvdreg.body.model import BodyModel
from lvdreg.fit.priors import FINGERS
from lvdreg.synth.draw import Draw
from lvdreg.synth.hands.capsules import FLEX, LONG, SIDE, THUMB, TWIST, Capsules, FingerRig, HandCapsules, HandShape
from lvdreg.synth.hands.grasps import Hand, close_on
from lvdreg.synth.hands.props import Prop

_DEGREE = math.pi / 180

Range = tuple[float, float]

FAN = (1.0, 0.1, -0.65, -1.2)
"""How far each of the four fingers goes aside when all are spread by one."""
THUMB_CANDIDATES = 20
PINCH_CANDIDATES = 128
_PINCHES_TRIED = 16
"""How many of the pairs of candidates are looked at for other fingers in the way."""
_PINCH_WIDTH = 0.014
"""Metres between neighbouring finger tips that meet the thumb together."""
_DEEP_COSTS = 4.0
"""Metres of gap that a metre of depth is worth."""
_AHEAD, _AVERTED_COSTS = 0.6, 0.02
"""Cosine between a pad and the way to the other tip from which on they face; metres of gap that one less costs."""
# What is searched when finger tips shall meet the thumb, degrees: knuckle, middle joint, aside; the thumb's first joint
# (flexion, palmar abduction, twist), second and third.
_PINCH_FINGER: tuple[Range, ...] = ((5, 85), (8, 90), (-10, 10))
_PINCH_THUMB: tuple[Range, ...] = ((-5, 54), (-30, 28), (0, 40), (0, 45), (-10, 60))


class PoseKind(NamedTuple):
    """How a kind of hand is drawn: ranges in degrees, each from straight."""

    weight: float
    knuckle: Range
    middle: Range
    """Flexion of the middle joint; the outer one follows with two thirds."""
    fan: Range
    """Spreading; see ``FAN``."""
    thumb: str


# Thumbs: flexion and palmar abduction of the first joint, its twist, flexion of the second and of the third.
THUMB_KINDS: dict[str, tuple[Range, Range, Range, Range, Range]] = {
    "loose": ((-15, 18), (-25, 10), (-12, 15), (0, 25), (-5, 35)),
    "flat": ((-15, 8), (-40, -15), (-15, 5), (-5, 15), (-15, 15)),
    "out": ((-42, -15), (-30, 15), (-15, 15), (-10, 15), (-18, 20)),
    "opposed": ((10, 48), (-15, 18), (0, 35), (0, 45), (0, 50)),
    "over": ((10, 54), (-28, 25), (0, 40), (5, 60), (5, 78)),
    "folded": ((15, 54), (-40, 5), (0, 40), (15, 68), (10, 78)),
}

KINDS: dict[str, PoseKind] = {
    "flat": PoseKind(1.2, (-12, 12), (0, 12), (-6, 6), "flat"),
    "relaxed": PoseKind(2.0, (5, 45), (5, 50), (-6, 6), "loose"),
    "spread": PoseKind(1.2, (-18, 15), (0, 18), (4, 16), "out"),
    "counting": PoseKind(2.5, (-10, 15), (0, 14), (-4, 10), "loose"),
    "pointing": PoseKind(1.2, (-10, 40), (0, 30), (-4, 6), "over"),
    "scissors": PoseKind(0.6, (-8, 20), (0, 15), (2, 14), "folded"),
    "thumb_up": PoseKind(0.6, (60, 90), (75, 106), (-6, 4), "out"),
    "fist": PoseKind(1.3, (60, 90), (78, 106), (-6, 4), "over"),
    "fist_thumb_in": PoseKind(0.3, (45, 70), (75, 100), (-6, 4), "folded"),
    "hook": PoseKind(0.6, (-15, 15), (65, 106), (-5, 5), "loose"),
    "cupped": PoseKind(0.9, (20, 55), (12, 45), (-8, 2), "flat"),
    "claw": PoseKind(0.8, (-20, 20), (45, 95), (4, 14), "out"),
    "pinch": PoseKind(1.6, (5, 60), (10, 65), (-4, 6), "opposed"),
    "ok": PoseKind(0.8, (-15, 15), (0, 20), (-2, 12), "opposed"),
    "pinch_curled": PoseKind(0.5, (55, 85), (75, 100), (-6, 4), "opposed"),
    "tips_together": PoseKind(0.9, (25, 55), (20, 50), (-6, 2), "opposed"),
    "holding": PoseKind(1.8, (15, 65), (15, 75), (-6, 8), "opposed"),
    "anyhow": PoseKind(1.5, (-20, 88), (-4, 105), (-12, 14), "loose"),
}
SNUG = ("over", "folded")
"""Thumbs that lie on fingers or in the palm."""
PINCHES = ("pinch", "ok", "pinch_curled", "tips_together")
# Which of the four fingers stay extended where not all do alike; the others are curled as in a fist.
EXTENDED = {"pointing": (True, False, False, False), "scissors": (True, True, False, False)}
_CURLED: tuple[Range, Range] = KINDS["fist"].knuckle, KINDS["fist"].middle


class HandPoseSampler:
    """Draws poses of a free hand, within the limits of the prior that fits it."""

    def __init__(self, body: BodyModel) -> None:
        """Prepare for a hand with MANO's joint names."""
        self.body = body
        self.rig = FingerRig.of(body)
        self.capsules = HandCapsules(body, self.rig)
        on_finger = (self.capsules.pairs < 3 * len(FINGERS)).all(-1) & (self.capsules.pairs % 3 > 0).all(-1)
        self._thumb_on_fingers = on_finger[self.capsules.of_finger(THUMB)]

    def sample(self, betas: Float[Tensor, "B K"], generator: torch.Generator) -> Float[Tensor, "B J 3"]:
        """Draw one pose for each shape: rotation vectors, the wrist's zero."""
        draw = Draw(len(betas), generator)
        kind = draw.choice(tuple(k.weight for k in KINDS.values()))
        return self.pose(self.angles(self.capsules.shape(betas), draw, kind))

    def grasp(self, betas: Float[Tensor, "B K"], prop: Prop, generator: torch.Generator) -> Float[Tensor, "B J 3"]:
        """Draw poses of hands that close on things lying where ``grasp_place`` says; free poses where there is none.

        Args:
            betas: The hands' shapes.
            prop: Things in the hands' own frames.
            generator: The source of randomness.
        """
        draw, shape = Draw(len(betas), generator), self.capsules.shape(betas)
        kind = draw.choice(tuple(k.weight for k in KINDS.values()))
        angles = self.angles(shape, draw, kind)
        rows = prop.present.nonzero()[:, 0]
        if len(rows):
            hand = Hand(shape.take(rows), self.rig, self.capsules)
            fan = 0.5 * angles[rows]
            angles[rows] = self.rig.held(close_on(prop.take(rows), hand, fan, Draw(len(rows), generator)))
        return self.pose(angles)

    def pose(self, angles: Float[Tensor, "B 5 3 3"]) -> Float[Tensor, "B J 3"]:
        """Turn angles into the pose of the whole hand."""
        pose = angles.new_zeros(len(angles), self.body.num_joints, 3)
        pose[:, self.rig.joints] = self.rig.rotvecs(angles)
        return pose

    def depths(self, shape: HandShape, angles: Float[Tensor, "B L 5 3 3"]) -> Float[Tensor, "B L N"]:
        """Return how deep capsules are in each other; see ``HandCapsules.penetration``."""
        return self.capsules.penetration(shape.posed(self.rig.rotvecs(angles)))

    def angles(self, shape: HandShape, draw: Draw, kind: Tensor) -> Float[Tensor, "B 5 3 3"]:
        """Draw the angles of hands of the given kinds (B,), fingers beside and not within each other.

        Whoever is too deep in himself is drawn again, and the better of the two is kept.
        """
        angles = self._attempt(shape, draw, kind)
        depth = self.depths(shape, angles[:, None]).amax(-1)
        rows = (depth[:, 0] > HandCapsules.tolerance).nonzero()[:, 0]
        if len(rows):
            some = shape.take(rows)
            pair = torch.stack([angles[rows], self._attempt(some, Draw(len(rows), draw.generator), kind[rows])], 1)
            angles[rows] = first_clear(pair, self.depths(some, pair).amax(-1), HandCapsules.tolerance)
        return angles

    def _attempt(self, shape: HandShape, draw: Draw, kind: Tensor) -> Float[Tensor, "B 5 3 3"]:
        angles = torch.zeros(draw.batch, len(FINGERS), 3, 3, device=draw.device)
        self._long_fingers(angles, draw, kind)
        angles = self._apart(shape, self.rig.held(self._unbent(shape, self.rig.held(angles))))
        angles = self._thumb(shape, draw, angles, kind)
        rows = torch.isin(kind, torch.tensor([list(KINDS).index(k) for k in PINCHES], device=draw.device))
        rows = rows.nonzero()[:, 0]
        if len(rows):
            pinch = self._pinch(shape.take(rows), Draw(len(rows), draw.generator), angles[rows], kind[rows])
            angles[rows] = self.rig.held(pinch)
        return angles

    def _long_fingers(self, angles: Tensor, draw: Draw, kind: Tensor) -> None:
        """Draw the four fingers: neighbours bend alike, outer joints follow the middle ones."""
        names, kinds = list(KINDS), list(KINDS.values())
        loose = (kind == names.index("anyhow"))[:, None]
        extended = self._extended(draw, kind)
        knuckle, middle = (
            torch.where(
                extended,
                _alike(draw, [getattr(k, joint) for k in kinds], kind, loose),
                _alike(draw, [curled] * len(kinds), kind, loose),
            )
            for joint, curled in zip(("knuckle", "middle"), _CURLED, strict=True)
        )
        fan = _between(draw, [k.fan for k in kinds], kind, (1,)) * torch.tensor(FAN, device=draw.device)
        fan = fan + 2.5 * _DEGREE * draw.normal((4,))
        # A bent knuckle hardly goes aside.
        straight = 1 - 0.85 * (knuckle / (80 * _DEGREE)).clamp(0, 1)
        angles[:, LONG, 0, FLEX], angles[:, LONG, 0, SIDE] = knuckle, fan * straight
        angles[:, LONG, 0, TWIST] = 2 * _DEGREE * draw.normal((4,))
        angles[:, LONG, 1, FLEX] = middle
        angles[:, LONG, 2, FLEX] = (draw.uniform(0.5, 0.85) * middle + 5 * _DEGREE * draw.normal((4,))).clamp(
            -8 * _DEGREE, 78 * _DEGREE
        )

    @staticmethod
    def _extended(draw: Draw, kind: Tensor) -> Bool[Tensor, "B 4"]:
        """Say which of the four fingers are as their kind has them and not curled."""
        names = list(KINDS)
        table = torch.tensor([EXTENDED.get(name, (True,) * 4) for name in names], device=draw.device)
        counting = (kind == names.index("counting"))[:, None]
        return torch.where(counting, draw.chance(0.5, (4,)), table[kind])

    def _unbent(self, shape: HandShape, angles: Tensor) -> Tensor:
        """Unbend the middle and outer joints of each finger as far as it would press into the palm."""
        levels = torch.linspace(0, 1, 8, device=angles.device)
        candidates = angles[:, None].repeat(1, len(levels), 1, 1, 1)
        for joint, most in ((1, 0.35), (2, 0.75)):
            candidates[..., LONG, joint, FLEX] *= 1 - most * levels[:, None]
        depths = self.capsules.palm_depths(shape.posed(self.rig.rotvecs(candidates)))
        for finger in LONG:
            angles[:, finger] = first_clear(candidates[:, :, finger], depths[..., finger], 0.5 * HandCapsules.tolerance)
        return angles

    def _apart(self, shape: HandShape, angles: Tensor) -> Tensor:
        """Spread the four fingers as far as they would press into each other."""
        levels = torch.tensor([0.0, -3.0, 3.0, 6.0, -6.0, 9.0, 12.0], device=angles.device) * _DEGREE
        candidates = angles[:, None].repeat(1, len(levels), 1, 1, 1)
        candidates[..., LONG, 0, SIDE] += levels[:, None] * torch.tensor(FAN, device=angles.device)
        depths = self.depths(shape, candidates)[..., ~self.capsules.of_finger(THUMB)]
        return first_clear(candidates, depths.amax(-1), 0.5 * HandCapsules.tolerance)

    def _thumb(self, shape: HandShape, draw: Draw, angles: Tensor, kind: Tensor) -> Tensor:
        """Draw the thumb, mostly as the kind has it; where it would be in a finger draw again, then take it away."""
        names = list(THUMB_KINDS)
        usual = torch.tensor([names.index(k.thumb) for k in KINDS.values()], device=draw.device)[kind]
        thumb = torch.where(draw.chance(0.25, ()), draw.choice((1.0,) * len(names)), usual)
        drawn = thumb_angles(draw, list(THUMB_KINDS.values()), thumb, THUMB_CANDIDATES)
        out = thumb_angles(draw, list(THUMB_KINDS.values()), torch.full_like(thumb, names.index("out")), 1)
        share = torch.linspace(0.2, 1, 5, device=draw.device)[:, None, None]
        drawn = torch.cat([drawn, drawn[:, :1].lerp(out, share)], 1)
        drawn = torch.minimum(torch.maximum(drawn, self.rig.low[THUMB]), self.rig.high[THUMB])
        depth = self._thumb_depths(shape, angles, drawn)
        kept = first_clear(drawn, depth.amax(-1), 0.5 * HandCapsules.tolerance)
        # Thumbs on fingers touch them: the closest of those that are not within them.
        fingers = depth[:, :THUMB_CANDIDATES, self._thumb_on_fingers].amax(-1)
        clear = depth[:, :THUMB_CANDIDATES].amax(-1) <= 0.5 * HandCapsules.tolerance
        closest = torch.where(clear, fingers, -torch.inf).argmax(1)
        snug = torch.isin(thumb, torch.tensor([names.index(n) for n in SNUG], device=draw.device)) & clear.any(1)
        rows = torch.arange(draw.batch, device=draw.device)
        angles = angles.clone()
        angles[:, THUMB] = torch.where(snug[:, None, None], drawn[rows, closest], kept)
        return angles

    def _thumb_depths(self, shape: HandShape, angles: Tensor, thumbs: Float[Tensor, "B L 3 3"]) -> Tensor:
        """Return how deep thumbs are in the rest of the hand: (B, L, N) for the pairs that the thumb is in."""
        rest, axes = self.rig.rest[THUMB], self.rig.axes[THUMB]
        others = shape.posed(self.rig.rotvecs(angles)[:, None, :THUMB], list(range(THUMB)))
        thumb = shape.posed(torch.einsum("blka,kac->blkc", thumbs - rest, axes)[:, :, None], [THUMB])
        return self.capsules.penetration(others.joined(thumb), self.capsules.of_finger(THUMB))

    def _pinch(self, shape: HandShape, draw: Draw, angles: Tensor, kind: Tensor) -> Tensor:
        """Let the tips of some fingers meet the thumb's: search many bends of each."""
        angles, count = angles.clone(), PINCH_CANDIDATES
        one = torch.nn.functional.one_hot(draw.choice((5.0, 2.0, 1.0, 1.0)), 4).bool()
        several = torch.arange(4, device=draw.device) <= draw.choice((0.0, 5.0, 2.0, 3.0))[:, None]
        meeting = torch.where((kind == list(KINDS).index("tips_together"))[:, None], several, one)
        fingers = angles[:, None].repeat(1, count, 1, 1, 1)
        ranges = torch.tensor(_PINCH_FINGER, device=draw.device) * _DEGREE
        knuckle, middle, aside = ranges[:, 0].lerp(ranges[:, 1], draw.uniform(shape=(count, 4, 3))).unbind(-1)
        fingers[:, :, LONG, 0, FLEX], fingers[:, :, LONG, 0, SIDE] = knuckle, aside
        fingers[:, :, LONG, 1, FLEX] = middle
        fingers[:, :, LONG, 2, FLEX] = middle * draw.uniform(0.1, 0.8, (count, 4))
        thumbs = thumb_angles(draw, [_PINCH_THUMB], torch.zeros_like(kind), count)
        fingers[:, :, THUMB] = thumbs
        posed = shape.posed(self.rig.rotvecs(self.rig.held(fingers)))
        score = self._pinch_gaps(shape, posed, meeting)
        # The best finger for each thumb, then the best thumbs.
        together = (score.amin(2) * meeting[..., None]).sum(1)
        best = together.topk(_PINCHES_TRIED, largest=False).indices
        rows = torch.arange(draw.batch, device=draw.device)[:, None]
        tried = angles[:, None].repeat(1, _PINCHES_TRIED, 1, 1, 1)
        tried[:, :, THUMB] = thumbs[rows, best]
        for number, finger in enumerate(LONG):
            mine = fingers[rows, score[rows, number, :, best].argmin(-1), finger]
            tried[:, :, finger] = torch.where(meeting[:, number, None, None, None], mine, tried[:, :, finger])
        return self._closest_pinch(shape, tried, meeting)

    @staticmethod
    def _pinch_gaps(shape: HandShape, posed: Capsules, meeting: Bool[Tensor, "B 4"]) -> Float[Tensor, "B 4 L M"]:
        """Return how far each fingertip (in L poses) is from touching the thumb's (in M poses), pad to pad, metres."""
        # Several tips lie side by side on the thumb's: each finger looks for a place of its own.
        order = (meeting.cumsum(-1) - 1) - 0.5 * (meeting.sum(-1, keepdim=True) - 1)
        across = torch.nn.functional.normalize(shape.joints[:, LONG[0], 0] - shape.joints[:, LONG[-1], 0], dim=-1)
        tips = posed.ends[:, :, :, 2, 1]
        place = (tips[:, :, LONG] + _PINCH_WIDTH * order[:, None, :, None] * across[:, None, None]).movedim(2, 1)
        thumb = tips[:, None, :, THUMB]
        distance = torch.cdist(place, thumb).clamp_min(1e-6)
        touching = shape.radii[:, LONG, 2] + shape.radii[:, [THUMB], 2]
        normal, thumb_normal = posed.pad_normals[:, :, LONG].movedim(2, 1), posed.pad_normals[:, None, :, THUMB]
        # How much each pad looks at the other tip: cosines.
        ahead = (normal @ thumb.mT - (normal * place).sum(-1, keepdim=True)) / distance
        back = (place @ thumb_normal.mT - (thumb_normal * thumb).sum(-1)[..., None, :]) / distance
        averted = (_AHEAD - ahead).clamp_min(0) + (_AHEAD - back).clamp_min(0)
        return (distance - touching[..., None, None]).abs() + _AVERTED_COSTS * averted

    def _closest_pinch(self, shape: HandShape, tried: Float[Tensor, "B L 5 3 3"], meeting: Tensor) -> Tensor:
        """Return the pose (B, 5, 3, 3) whose pads meet best without fingers in each other."""
        posed = shape.posed(self.rig.rotvecs(tried))
        gaps = self._pinch_gaps(shape, posed, meeting).diagonal(dim1=2, dim2=3)
        gap = (gaps * meeting[..., None]).amax(1)
        deep = (self.capsules.penetration(posed).amax(-1) - 0.5 * HandCapsules.tolerance).clamp_min(0)
        best = (gap + _DEEP_COSTS * deep).argmin(1)
        return tried[torch.arange(len(best), device=best.device), best]


def first_clear(
    candidates: Float[Tensor, "B L *S"], depth: Float[Tensor, "B L"], tolerance: float
) -> Float[Tensor, "B *S"]:
    """Return for each row the first candidate at most ``tolerance`` deep, or the least deep one."""
    best = torch.where(depth <= tolerance, torch.zeros_like(depth), depth).argmin(1)
    return candidates[torch.arange(len(best), device=best.device), best]


def thumb_angles(draw: Draw, table: list[tuple[Range, ...]], kind: Tensor, count: int) -> Float[Tensor, "B L 3 3"]:
    """Draw ``count`` thumbs for each sample from the ranges of its kind, ordered as in ``THUMB_KINDS``."""
    ranges = torch.tensor(table, device=draw.device)[kind][:, None] * _DEGREE
    drawn = ranges[..., 0].lerp(ranges[..., 1], draw.uniform(shape=(count, 5)))
    angles = drawn.new_zeros(draw.batch, count, 3, 3)
    places = ((0, FLEX), (0, SIDE), (0, TWIST), (1, FLEX), (2, FLEX))
    for value, (joint, component) in zip(drawn.unbind(-1), places, strict=True):
        angles[:, :, joint, component] = value
    return angles


def _between(draw: Draw, table: list[Range], kind: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Draw evenly from the range (degrees) of each sample's kind: (B, *shape), radians."""
    low, high = (torch.tensor(table, device=draw.device)[kind] * _DEGREE).unbind(-1)
    share = draw.uniform(shape=shape)
    return low.view(-1, *[1] * len(shape)).lerp(high.view(-1, *[1] * len(shape)), share)


def _alike(draw: Draw, table: list[Range], kind: Tensor, loose: Tensor) -> Tensor:
    """Draw the flexion of the four fingers within the range of their kind, neighbours alike unless loose: (B, 4)."""
    shared = draw.uniform()
    slope = 0.25 * draw.normal() * torch.linspace(-1, 1, 4, device=draw.device)
    together = (shared + slope + 0.12 * draw.normal((4,))).clamp(0, 1)
    share = torch.where(loose, draw.uniform(shape=(4,)), together)
    low, high = (torch.tensor(table, device=draw.device)[kind] * _DEGREE).unbind(-1)
    return low[:, None].lerp(high[:, None], share)
