"""Poses of a hand of its own, drawn at random within the limits of its joints: named kinds that people show.

A pose is angles of the finger joints about their own axes (priors.py), counted from the straight finger: (B, 5, 3, 3)
for finger (in the order of ``FINGERS``), joint (knuckle first) and component (twist, flexion, side).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.body.model import BodyModel
from lvdreg.priors import FINGERS, joint_axes, pose_prior, rest_angles
from lvdreg.synth.draw import Draw

_DEGREE = math.pi / 180

Range = tuple[float, float]

TWIST, FLEX, SIDE = 0, 1, 2
LONG = [FINGERS.index(name) for name in ("index", "middle", "ring", "pinky")]
"""The four fingers from the thumb outwards."""
THUMB = FINGERS.index("thumb")
FAN = (1.0, 0.1, -0.65, -1.2)
"""How far each of the four fingers goes aside when all are spread by one."""


@dataclass(frozen=True)
class FingerRig:
    """Where a body's finger joints are, their axes and how far they are bent at rest."""

    joints: list[list[int]]
    """Joint numbers, by finger and place in it."""
    axes: Float[Tensor, "5 3 3 3"]
    rest: Float[Tensor, "5 3 3"]

    @classmethod
    def of(cls, body: BodyModel, prefix: str = "") -> "FingerRig":
        """Read the rig of the hand whose joints' names begin with a prefix ("left_", "right_" or none)."""
        names = list(body.joint_names)
        joints = [[names.index(f"{prefix}{finger}{k}") for k in (1, 2, 3)] for finger in FINGERS]

        def stacked(values: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(values)).to(body.v_template).unflatten(0, (len(FINGERS), 3))

        flat = [joint for finger in joints for joint in finger]
        axes, rest = (stacked([of(body.data, joint) for joint in flat]) for of in (joint_axes, rest_angles))
        return cls(joints, axes, rest)

    def rotvecs(self, angles: Float[Tensor, "B 5 3 3"]) -> Float[Tensor, "B 5 3 3"]:
        """Turn angles from the straight finger into rotation vectors from rest."""
        return torch.einsum("bfka,fkac->bfkc", angles - self.rest, self.axes)


class Kind(NamedTuple):
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
    "flat": ((-15, 8), (-48, -25), (-15, 5), (-5, 15), (-15, 15)),
    "out": ((-42, -15), (-30, 15), (-15, 15), (-10, 15), (-18, 20)),
    "opposed": ((10, 48), (-15, 18), (0, 35), (0, 45), (0, 50)),
    "over": ((10, 32), (-32, -8), (5, 30), (15, 50), (25, 70)),
    "folded": ((15, 45), (-30, -5), (0, 30), (30, 65), (20, 75)),
}

KINDS: dict[str, Kind] = {
    "flat": Kind(1.2, (-12, 12), (0, 12), (-6, 6), "flat"),
    "relaxed": Kind(2.0, (5, 45), (5, 50), (-6, 6), "loose"),
    "spread": Kind(1.2, (-18, 15), (0, 18), (4, 16), "out"),
    "counting": Kind(2.5, (-10, 15), (0, 14), (-4, 10), "loose"),
    "pointing": Kind(1.2, (-10, 40), (0, 30), (-4, 6), "over"),
    "scissors": Kind(0.6, (-8, 20), (0, 15), (2, 14), "folded"),
    "thumb_up": Kind(0.6, (60, 90), (75, 106), (-6, 4), "out"),
    "fist": Kind(1.3, (60, 90), (78, 106), (-6, 4), "over"),
    "fist_thumb_in": Kind(0.3, (45, 70), (75, 100), (-6, 4), "folded"),
    "hook": Kind(0.6, (-15, 15), (65, 106), (-5, 5), "loose"),
    "cupped": Kind(0.9, (20, 55), (12, 45), (-8, 2), "flat"),
    "claw": Kind(0.8, (-20, 20), (45, 95), (4, 14), "out"),
    "holding": Kind(1.8, (15, 65), (15, 75), (-6, 8), "opposed"),
    "anyhow": Kind(1.5, (-20, 88), (-4, 105), (-12, 14), "loose"),
}
# Which of the four fingers stay extended where not all do alike; the others are curled as in a fist.
EXTENDED = {"pointing": (True, False, False, False), "scissors": (True, True, False, False)}
_CURLED: tuple[Range, Range] = KINDS["fist"].knuckle, KINDS["fist"].middle


def _between(draw: Draw, table: list[Range], kind: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Draw evenly from the range (degrees) of each sample's kind: (B, *shape), radians."""
    low, high = (torch.tensor(table, device=draw.device)[kind] * _DEGREE).unbind(-1)
    share = draw.uniform(shape=shape)
    return low.view(-1, *[1] * len(shape)).lerp(high.view(-1, *[1] * len(shape)), share)


class HandPoseSampler:
    """Draws poses of a free hand, within the limits of the prior that fits it."""

    def __init__(self, body: BodyModel) -> None:
        """Prepare for a hand with MANO's joint names."""
        self.body = body
        self.rig = FingerRig.of(body)
        prior = pose_prior(body.data)
        flat = [joint for finger in self.rig.joints for joint in finger]
        limits = (torch.from_numpy(bound[flat]).to(body.v_template) for bound in (prior.low, prior.high))
        self.low, self.high = (bound.unflatten(0, (len(FINGERS), 3)) + self.rig.rest for bound in limits)

    def sample(self, betas: Float[Tensor, "B K"], generator: torch.Generator) -> Float[Tensor, "B J 3"]:
        """Draw one pose for each shape: rotation vectors, the wrist's zero."""
        draw = Draw(len(betas), generator)
        kind = draw.choice(tuple(k.weight for k in KINDS.values()))
        return self.pose(self.angles(draw, kind))

    def pose(self, angles: Float[Tensor, "B 5 3 3"]) -> Float[Tensor, "B J 3"]:
        """Turn angles into the pose of the whole hand, held within the limits."""
        angles = angles.clamp(self.low, self.high)
        pose = angles.new_zeros(len(angles), self.body.num_joints, 3)
        pose[:, self.rig.joints] = self.rig.rotvecs(angles)
        return pose

    def angles(self, draw: Draw, kind: Tensor) -> Float[Tensor, "B 5 3 3"]:
        """Draw the angles of hands of the given kinds (B,)."""
        angles = torch.zeros(draw.batch, len(FINGERS), 3, 3, device=draw.device)
        self._long_fingers(angles, draw, kind)
        self._thumb(angles, draw, kind)
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
    def _extended(draw: Draw, kind: Tensor) -> Tensor:
        """Say which of the four fingers (B, 4) are as their kind has them and not curled."""
        names = list(KINDS)
        table = torch.tensor([EXTENDED.get(name, (True,) * 4) for name in names], device=draw.device)
        counting = (kind == names.index("counting"))[:, None]
        return torch.where(counting, draw.chance(0.5, (4,)), table[kind])

    @staticmethod
    def _thumb(angles: Tensor, draw: Draw, kind: Tensor) -> None:
        """Draw the thumb: mostly as the kind has it, now and then as another might."""
        names = list(THUMB_KINDS)
        usual = torch.tensor([names.index(k.thumb) for k in KINDS.values()], device=draw.device)[kind]
        other = draw.choice((1.0,) * len(names))
        thumb = torch.where(draw.chance(0.25, ()), other, usual)
        places = ((0, FLEX), (0, SIDE), (0, TWIST), (1, FLEX), (2, FLEX))
        for number, (joint, component) in enumerate(places):
            table = [ranges[number] for ranges in THUMB_KINDS.values()]
            angles[:, THUMB, joint, component] = _between(draw, table, thumb, ())


def _alike(draw: Draw, table: list[Range], kind: Tensor, loose: Tensor) -> Tensor:
    """Draw the flexion of the four fingers within the range of their kind, neighbours alike unless loose: (B, 4)."""
    shared = draw.uniform()
    slope = 0.25 * draw.normal() * torch.linspace(-1, 1, 4, device=draw.device)
    together = (shared + slope + 0.12 * draw.normal((4,))).clamp(0, 1)
    share = torch.where(loose, draw.uniform(shape=(4,)), together)
    low, high = (torch.tensor(table, device=draw.device)[kind] * _DEGREE).unbind(-1)
    return low[:, None].lerp(high[:, None], share)
