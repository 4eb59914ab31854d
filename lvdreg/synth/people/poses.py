"""Poses of people in front of scanners and cameras, drawn at random within anatomical limits.

Limbs are posed by directions: an arm is the direction of its upper bone, a twist about it and a flexion of the hinge;
where a hand or a foot has somewhere to be (on the hip, at the other knee, behind the head) two-bone inverse kinematics
finds the directions. So named poses can be written in terms a person understands, for any body with SMPL-H's joint
names. Poses in which parts of the body pass through each other are drawn again (collisions.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.body.model import FINGERS, BodyModel
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.synth.draw import Draw
from lvdreg.synth.hands.capsules import FLEX, SIDE, FingerRig
from lvdreg.synth.people.collisions import CollisionProxies

_DEGREE = math.pi / 180

Range = tuple[float, float]
Offset = tuple[float, float, float]

# Ranges are degrees (low, high). Arms: weight, then elevation from hanging, azimuth from sideways (90 = forwards),
# flexion of the elbow, and twist either way.
ARM_KINDS: dict[str, tuple[float, Range, Range, Range, float]] = {
    "side": (3.0, (3, 25), (-40, 50), (2, 35), 12),
    "a_pose": (2.0, (25, 60), (-25, 30), (0, 30), 15),
    "t_pose": (1.5, (70, 105), (-25, 30), (0, 30), 20),
    "bent_up": (1.0, (60, 115), (-20, 50), (55, 130), 60),
    "overhead": (2.0, (125, 178), (-20, 95), (0, 70), 35),
    "front": (1.5, (50, 115), (55, 115), (0, 80), 35),
    "back": (1.0, (12, 60), (-120, -60), (0, 50), 25),
    "walking": (1.0, (5, 45), (-120, 120), (5, 100), 15),
    "anywhere": (2.5, (0, 170), (-60, 125), (0, 145), 50),
}


class Place(NamedTuple):
    """Where a wrist may rest on the body: said of the left arm in the rest frame, x outwards.

    Lengths are metres of a person whose head is 0.6 above the pelvis.
    """

    weight: float
    carrier: str
    """The bone that carries the place along."""
    origin: str
    """The joint from which it is measured."""
    offset: Offset
    spread: float
    elbow: Offset
    """Where the elbow points."""


ARM_TARGETS = {
    "hip": Place(1.0, "pelvis", "own_hip", (0.12, 0.13, 0.03), 0.04, (1, 0, -0.5)),
    "pocket": Place(0.6, "pelvis", "own_hip", (0.12, 0.05, 0.06), 0.04, (0.6, 0, -1)),
    "crossed": Place(0.6, "spine3", "spine3", (-0.10, 0.02, 0.20), 0.04, (0.8, -1, 0.3)),
    "belly": Place(0.6, "pelvis", "pelvis", (0.05, 0.08, 0.20), 0.06, (1, -0.2, -0.3)),
    "behind_back": Place(0.5, "spine2", "spine2", (0.04, -0.08, -0.17), 0.04, (1, 0, -0.6)),
    "head": Place(0.8, "head", "head", (0.14, 0.06, 0.02), 0.06, (1, 0.4, 0.3)),
    "shoulder": Place(0.4, "spine3", "other_shoulder", (0.02, 0.0, 0.14), 0.04, (0.5, 0, 1)),
    "knee": Place(0.3, "own_hip", "own_knee", (0.02, 0.12, 0.12), 0.04, (1, 0, -0.4)),
}

# Legs: weight, then hip flexion, abduction, external rotation, knee flexion of the first and of the second leg.
LegRanges = tuple[Range, Range, Range, Range]
_STAND: LegRanges = ((-6, 8), (-2, 12), (-5, 25), (0, 8))
LEG_KINDS: dict[str, tuple[float, LegRanges, LegRanges]] = {
    "stand": (5.0, _STAND, _STAND),
    "wide": (1.5, ((-10, 15), (8, 35), (-5, 35), (0, 15)), ((-10, 15), (8, 35), (-5, 35), (0, 15))),
    "raised": (1.5, ((25, 120), (-10, 30), (-15, 35), (10, 135)), _STAND),
    "side_kick": (0.6, ((-10, 40), (25, 75), (-10, 40), (0, 60)), _STAND),
    "back_kick": (0.7, ((-40, 5), (-5, 20), (-5, 25), (0, 120)), _STAND),
    "walk": (1.5, ((8, 40), (-4, 10), (-5, 15), (0, 30)), ((-28, -2), (-4, 10), (-5, 20), (0, 50))),
    "run": (0.8, ((30, 85), (-5, 10), (-10, 15), (40, 120)), ((-35, 5), (-5, 10), (-10, 15), (5, 100))),
    "lunge": (0.7, ((45, 105), (-5, 25), (-10, 30), (40, 110)), ((-35, 0), (-5, 20), (-10, 20), (0, 70))),
    "sit": (1.0, ((65, 105), (-5, 28), (-10, 30), (60, 115)), ((65, 105), (-5, 28), (-10, 30), (60, 115))),
    "squat": (0.7, ((75, 130), (5, 40), (0, 40), (85, 148)), ((75, 130), (5, 40), (0, 40), (85, 148))),
    "kneel": (0.4, ((-10, 25), (-5, 20), (-5, 20), (80, 135)), ((-10, 25), (-5, 20), (-5, 20), (80, 135))),
    "half_kneel": (0.4, ((70, 105), (-5, 20), (-10, 25), (70, 115)), ((-10, 20), (-5, 15), (-5, 20), (75, 120))),
    "cross_legged": (0.3, ((75, 110), (25, 50), (30, 60), (110, 145)), ((75, 110), (25, 50), (30, 60), (110, 145))),
    "anyhow": (1.0, ((-30, 120), (-10, 50), (-20, 50), (0, 135)), ((-30, 120), (-10, 50), (-20, 50), (0, 135))),
}
CURLED = (80.0, 95.0, 60.0)
"""Flexion from rest of a closed finger's joints, degrees."""
STRAIGHT = 0.1
"""Sine of an elbow's bend at rest below which the arm counts as straight; the free body's is 0.6."""
FOOT_AT_KNEE_SHARE = 0.18
"""Of those who stand, how many do so on one leg with the other foot at its knee."""


@dataclass(frozen=True)
class Style:
    """What people of one kind do, and how often.

    Attributes:
        legs: Weights of kinds of legs, by name; what is missing is not done. None: those in the tables.
        arms: Weights of kinds of arms and of places where wrists rest, likewise.
        wild: Share whose trunk is bent and twisted as far as trunks go.
        bowing: Share who bow from the hips.
        mirrored: Share whose arms do the same.
        foot_at_knee: Share, of those whose legs "stand", who do so on one leg with the other foot at its knee; None:
            ``FOOT_AT_KNEE_SHARE``.
        ankles: How far feet are turned: 1 as far as they go, 0 not at all.
    """

    legs: Mapping[str, float] | None = None
    arms: Mapping[str, float] | None = None
    wild: float = 0.35
    bowing: float = 0.1
    mirrored: float = 0.45
    foot_at_knee: float | None = None
    ankles: float = 1.0


ANYTHING = Style()
"""What is in front of a scanner: all that there is, by the weights in its tables."""


@dataclass(frozen=True)
class Repertoire:
    """All that legs and arms can do, and the styles that people do it in."""

    legs: Mapping[str, tuple[float, LegRanges, LegRanges]] = field(default_factory=lambda: LEG_KINDS)
    arms: Mapping[str, tuple[float, Range, Range, Range, float]] = field(default_factory=lambda: ARM_KINDS)
    places: Mapping[str, Place] = field(default_factory=lambda: ARM_TARGETS)
    styles: tuple[Style, ...] = (ANYTHING,)

    def weights(self, of: str) -> list[list[float]]:
        """Return how often each style does each kind of ``legs``, or of ``arms`` and then places."""
        usual = {name: row[0] for name, row in (self.legs if of == "legs" else self.arms).items()}
        usual |= {} if of == "legs" else {name: place.weight for name, place in self.places.items()}
        chosen = (getattr(style, of) for style in self.styles)
        return [[weights.get(name, 0.0) for name in usual] for weights in (usual if c is None else c for c in chosen)]


def _rows(draw: Draw, table: list[list[Range]], kind: Tensor) -> list[Tensor]:
    """Draw evenly from the ranges (degrees) in row ``kind`` of a table: one tensor (B,) per column, in radians."""
    ranges = torch.tensor(table, device=draw.device)[kind] * _DEGREE
    share = draw.uniform(shape=(ranges.shape[1],))
    return list(ranges[..., 0].lerp(ranges[..., 1], share).unbind(-1))


def _uniform_vector(draw: Draw, limits: Offset) -> Tensor:
    """Draw rotation vectors (B, 3) evenly within limits in degrees either way."""
    return torch.stack([draw.uniform(-limit, limit, ()) for limit in limits], -1) * _DEGREE


def _normalise(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def rotation_about(axis: Float[Tensor, "*#B 3"], angle: Float[Tensor, "*#B"]) -> Float[Tensor, "*B 3 3"]:
    """Return rotations by angles (radians) about axes of any length."""
    return rotvec_to_rotmat(_normalise(axis) * angle[..., None])


def turn_between(source: Float[Tensor, "*B 3"], target: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Return the smallest rotation that takes one unit vector to another."""
    axis = torch.linalg.cross(source, target)
    sine, cosine = axis.norm(dim=-1), (source * target).sum(-1)
    return rotation_about(axis + 1e-9, torch.atan2(sine, cosine))


def _basis(first: Tensor, second: Tensor) -> Tensor:
    """Return the right-handed frame of ``first`` and ``second``, the second made orthogonal to the first."""
    x = _normalise(first)
    y = _normalise(second - (second * x).sum(-1, keepdim=True) * x)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def two_bone_reach(
    root: Float[Tensor, "B 3"],
    target: Float[Tensor, "B 3"],
    hint: Float[Tensor, "B 3"],
    upper: Float[Tensor, " B"],
    lower: Float[Tensor, " B"],
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3"]]:
    """Solve a two-bone chain in closed form.

    Args:
        root: Where the chain begins.
        target: Where its end should be; brought within reach along the straight line.
        hint: Direction to which the middle joint bends, any length; one along the reach stands for any direction.
        upper: Length of the first bone.
        lower: Length of the second bone.

    Returns:
        Unit directions of the first and of the second bone.
    """
    reach = target - root
    distance = reach.norm(dim=-1).clamp_min(1e-6)
    along = reach / distance[:, None]
    distance = torch.minimum(torch.maximum(distance, (upper - lower).abs() * 1.01 + 1e-4), (upper + lower) * 0.995)
    cosine = ((upper**2 + distance**2 - lower**2) / (2 * upper * distance)).clamp(-1, 1)
    # A thousandth of the axis most across the reach decides where the hint says nothing.
    hint = _normalise(hint) + 1e-3 * (along.abs().argmin(-1, keepdim=True) == torch.arange(3, device=along.device))
    aside = _normalise(hint - (hint * along).sum(-1, keepdim=True) * along)
    first = along * cosine[:, None] + aside * (1 - cosine**2).sqrt()[:, None]
    second = _normalise(along * distance[:, None] - first * upper[:, None])
    return first, second


def elbow_axis(first: Float[Tensor, "B 3"], second: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3"]:
    """Return the hinge of an elbow from the rest directions of upper and lower arm.

    A forearm that is bent at rest shows it; of an arm that rests straight, as SMPL's, it is what bends it forwards.
    """
    axis = torch.linalg.cross(first, second)
    ahead = torch.tensor([0.0, 0.0, 1.0], dtype=first.dtype, device=first.device).expand_as(first)
    return torch.where(axis.norm(dim=-1, keepdim=True) < STRAIGHT, torch.linalg.cross(first, ahead), axis)


class PoseSampler:
    """Draws poses for one body; everything it needs to know of the body it takes from joint names and rest joints."""

    def __init__(self, body: BodyModel, repertoire: Repertoire | None = None) -> None:
        """Prepare for a body with SMPL-H's joint names; those of fingers may be missing, as in SMPL."""
        self.body, self.repertoire = body, repertoire or Repertoire()
        self.index = {name: i for i, name in enumerate(body.joint_names)}
        sides = [side for side in ("left", "right") if f"{side}_index1" in self.index]
        self.fingers = {side: FingerRig.of(body, f"{side}_") for side in sides}

    @cached_property
    def proxies(self) -> CollisionProxies:
        """What tells whether parts of a pose pass through each other."""
        return CollisionProxies(self.body)

    def choose(self, count: int, generator: torch.Generator) -> Int[Tensor, " B"]:
        """Choose everybody's style; where there is but one, nothing is drawn."""
        return torch.zeros(count, dtype=torch.int64, device=generator.device)

    def sample(self, betas: Float[Tensor, "B K"], generator: torch.Generator) -> Float[Tensor, "B J 3"]:
        """Draw one pose for each shape; rotation vectors, joint 0 turned to a random yaw.

        Three candidates of one style are drawn for each and the one whose parts pass least through each other is kept.
        """
        attempts = 3
        style = self.choose(len(betas), generator).repeat(attempts)
        joints = self.body.rest(betas)[1].repeat(attempts, 1, 1)
        rotations = self._draw(joints, generator, style)
        depth = self.proxies.penetration(joints, rotations).view(attempts, -1)
        # Any candidate under the tolerance will do; the first such one keeps the mixture of kinds unbiased.
        best = torch.where(depth < CollisionProxies.tolerance, torch.zeros_like(depth), depth).argmin(0)
        chosen = rotations.view(attempts, len(betas), -1, 3, 3)[best, torch.arange(len(betas), device=betas.device)]
        return rotmat_to_rotvec(chosen)

    def _draw(
        self, joints: Float[Tensor, "B J 3"], generator: torch.Generator, style: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B J 3 3"]:
        draw = Draw(len(joints), generator)
        rotations = torch.eye(3, device=joints.device).expand(*joints.shape[:2], 3, 3).clone()
        bend = self._pose_trunk(rotations, draw, style)
        self._pose_legs(rotations, joints, draw, bend, style)
        for side in ("left", "right"):
            self._pose_arm(rotations, joints, draw, side, style)
            if side in self.fingers:
                self._pose_hand(rotations, draw, side)
        self._mirror_arms(rotations, draw, style)
        self._orient(rotations, draw)
        return rotations

    def _set(self, rotations: Tensor, name: str, value: Tensor) -> None:
        rotations[:, self.index[name]] = value

    def _of(self, name: str, style: Tensor | None, usual: float = 0.0) -> Tensor:
        """Return a number of everybody's style, by the name of the attribute; without styles, the first one's (1,)."""
        values = [getattr(one, name) for one in self.repertoire.styles]
        numbers = torch.tensor([usual if value is None else value for value in values], device=self.body.faces.device)
        return numbers[:1] if style is None else numbers[style]

    def _pose_trunk(self, rotations: Tensor, draw: Draw, style: Tensor | None = None) -> Tensor:
        """Bend, lean and twist the spine, turn the head; return the pelvis' forward pitch, which the hips take up."""
        wild = draw.uniform(shape=()) < self._of("wild", style)
        forward = torch.where(wild, draw.uniform(-25, 60, ()), 5 * draw.normal(()) + 2) * _DEGREE
        aside = torch.where(wild, draw.uniform(-28, 28, ()), 3 * draw.normal(())) * _DEGREE
        twist = torch.where(wild, draw.uniform(-50, 50, ()), 6 * draw.normal(())) * _DEGREE
        vector = torch.stack([forward, twist, aside], -1)
        for name, share in (("spine1", 0.3), ("spine2", 0.35), ("spine3", 0.35)):
            jitter = 2.5 * _DEGREE * draw.normal((3,))
            self._set(rotations, name, rotvec_to_rotmat(vector * share + jitter))
        turn = _uniform_vector(draw, (25, 50, 15))
        turn = turn * draw.uniform(0, 1, ())[:, None]
        self._set(rotations, "neck", rotvec_to_rotmat(0.5 * turn + 2 * _DEGREE * draw.normal((3,))))
        self._set(rotations, "head", rotvec_to_rotmat(0.5 * turn + 2 * _DEGREE * draw.normal((3,))))
        bowing = draw.uniform(shape=()) < self._of("bowing", style)
        return torch.where(bowing, draw.uniform(10, 75, ()), 3 * draw.normal(())) * _DEGREE

    def _pose_legs(
        self, rotations: Tensor, joints: Tensor, draw: Draw, bend: Tensor, style: Tensor | None = None
    ) -> None:
        """Pose both legs in the frame of the pelvis, then pitch the pelvis by ``bend``."""
        kinds = list(self.repertoire.legs.values())
        kind = draw.choice_by(self.repertoire.weights("legs"), style)
        swap = draw.chance(0.5, ())
        first = torch.stack(_rows(draw, [list(k[1]) for k in kinds], kind), -1)
        second = torch.stack(_rows(draw, [list(k[2]) for k in kinds], kind), -1)
        sideways = torch.tensor([[1.0, 0.0, 0.0]], device=draw.device)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            mine = torch.where((swap == (side == "left"))[:, None], first, second)
            flexion, abduction, external, knee = mine.unbind(-1)
            hip = self._hip_rotation(flexion + bend, abduction, external, sign)
            self._set(rotations, f"{side}_hip", hip)
            self._set(rotations, f"{side}_knee", rotation_about(sideways, knee - self._rest_knee(joints, side)))
            ankle = _uniform_vector(draw, (22, 12, 10)) * self._of("ankles", style)[:, None]
            self._set(rotations, f"{side}_ankle", rotvec_to_rotmat(ankle))
            toes = sideways * (draw.uniform(-25, 5, ()) * _DEGREE * draw.chance(0.3, ()))[:, None]
            self._set(rotations, f"{side}_foot", rotvec_to_rotmat(toes))
        stands = kind == list(self.repertoire.legs).index("stand")
        at_knee = stands & (draw.uniform(shape=()) < self._of("foot_at_knee", style, FOOT_AT_KNEE_SHARE))
        self._foot_at_knee(rotations, joints, draw, at_knee, swap)
        # The pelvis pitches and the hips took the same angle up, so that the legs stay where they were.
        self._set(rotations, "pelvis", rotation_about(sideways, bend))

    def _rest_knee(self, joints: Tensor, side: str) -> Tensor:
        """Return how far the knee is bent at rest, seen from the side: ranges count from the straight leg."""
        hip, knee, ankle = (joints[:, self.index[f"{side}_{part}"]] for part in ("hip", "knee", "ankle"))
        thigh, shank = knee - hip, ankle - knee
        return torch.atan2(thigh[:, 2], -thigh[:, 1]) - torch.atan2(shank[:, 2], -shank[:, 1])

    @staticmethod
    def _hip_rotation(flexion: Tensor, abduction: Tensor, external: Tensor, sign: float) -> Tensor:
        zero = torch.zeros_like(flexion)
        swing = rotvec_to_rotmat(torch.stack([zero, zero, sign * abduction], -1)) @ rotvec_to_rotmat(
            torch.stack([-flexion, zero, zero], -1)
        )
        return swing @ rotvec_to_rotmat(torch.stack([zero, sign * external, zero], -1))

    def _foot_at_knee(
        self, rotations: Tensor, joints: Tensor, draw: Draw, where: Bool[Tensor, " B"], swap: Tensor
    ) -> None:
        """Stand on one leg with the foot of the other at its knee or shin (figure four, tree)."""
        level, knee_out = draw.uniform(-0.1, 0.75, ()), draw.uniform(0.1, 1.2, ())
        forward = draw.uniform(-0.02, 0.14, ())
        _, posed = self._bones(rotations, joints)
        for side, other, sign in (("left", "right", 1.0), ("right", "left", -1.0)):
            names = (f"{side}_hip", f"{side}_knee", f"{side}_ankle")
            hip, knee, ankle = (joints[:, self.index[name]] for name in names)
            there = posed[:, self.index[f"{other}_knee"]].lerp(posed[:, self.index[f"{other}_ankle"]], level[:, None])
            target = there + torch.stack([sign * (0.05 + 0.3 * forward), torch.zeros_like(level), forward], -1)
            hint = torch.stack([sign * knee_out, torch.full_like(level, 0.1), torch.full_like(level, 0.7)], -1)
            directions = two_bone_reach(hip, target, hint, (knee - hip).norm(dim=-1), (ankle - knee).norm(dim=-1))
            turned = self._hinge(joints, names, *directions)
            mine = where & (swap == (side == "left"))
            for name, value in zip(names, turned, strict=False):
                self._set(rotations, name, torch.where(mine[:, None, None], value, rotations[:, self.index[name]]))

    def _bones(self, rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transforms (B, J, 3, 4) of the bones as posed so far, and the posed joints (B, J, 3)."""
        transforms = self.body.bone_transforms(rotations, joints, torch.zeros_like(joints[:, 0]))
        return transforms, (transforms[..., :3] @ joints[..., None]).squeeze(-1) + transforms[..., 3]

    def _hinge(
        self, joints: Tensor, names: tuple[str, str, str], first: Tensor, second: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rotate a hinged limb (root, middle, end) from its rest directions to the given ones, hinge to hinge."""
        a, b, c = (joints[:, self.index[name]] for name in names)
        rest_first, rest_second = _normalise(b - a), _normalise(c - b)
        if "knee" in names[1]:
            rest_axis = torch.tensor([1.0, 0.0, 0.0], device=joints.device).expand_as(a)
        else:
            rest_axis = elbow_axis(rest_first, rest_second)
        axis = torch.linalg.cross(first, second)
        upper = _basis(first, axis) @ _basis(rest_first, rest_axis).transpose(-1, -2)
        lower = turn_between(rest_second, (upper.transpose(-1, -2) @ second[..., None]).squeeze(-1))
        return upper, lower

    def _pose_arm(self, rotations: Tensor, joints: Tensor, draw: Draw, side: str, style: Tensor | None = None) -> None:
        """Pose one arm in the frame of the chest."""
        sign = 1.0 if side == "left" else -1.0
        names = (f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist")
        shoulder, elbow, wrist = (joints[:, self.index[name]] for name in names)
        kind, free = draw.choice_by(self.repertoire.weights("arms"), style), len(self.repertoire.arms)
        reaching = kind >= free
        first, upper, lower = self._free_arm(joints, draw, side, kind.clamp_max(free - 1))
        target, hint = self._hand_target(rotations, joints, draw, side, (kind - free).clamp_min(0))
        first = torch.where(reaching[:, None], _normalise(target - shoulder), first)
        collar = self._collar(first, draw, sign)
        pivot = joints[:, self.index[f"{side}_collar"]]
        moved = pivot + (collar @ (shoulder - pivot)[..., None]).squeeze(-1)
        directions = two_bone_reach(moved, target, hint, (elbow - shoulder).norm(dim=-1), (wrist - elbow).norm(dim=-1))
        reach_upper, reach_lower = self._hinge(joints, names, *directions)
        upper = torch.where(reaching[:, None, None], reach_upper, upper)
        lower = torch.where(reaching[:, None, None], reach_lower, lower)
        self._set(rotations, f"{side}_collar", collar)
        # What the shoulder blade takes, the shoulder gives back.
        self._set(rotations, names[0], collar.mT @ upper)
        forearm = wrist - elbow
        self._set(rotations, names[1], lower @ rotation_about(forearm, draw.uniform(-20, 20, ()) * _DEGREE))
        pronation = rotation_about(forearm, draw.uniform(-60, 60, ()) * _DEGREE)
        self._set(rotations, names[2], pronation @ rotvec_to_rotmat(draw.normal((3,)) * 14 * _DEGREE))

    def _free_arm(self, joints: Tensor, draw: Draw, side: str, kind: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return direction of the upper arm, its rotation, and that of the forearm within it, by ARM_KINDS."""
        sign = 1.0 if side == "left" else -1.0
        shoulder, elbow, wrist = (joints[:, self.index[f"{side}_{part}"]] for part in ("shoulder", "elbow", "wrist"))
        kinds = list(self.repertoire.arms.values())
        elevation, azimuth, flexion = _rows(draw, [list(k[1:4]) for k in kinds], kind)
        twist = draw.uniform(-1, 1, ()) * torch.tensor([k[4] for k in kinds], device=draw.device)[kind] * _DEGREE
        across = elevation.sin()
        first = torch.stack([sign * across * azimuth.cos(), -elevation.cos(), across * azimuth.sin()], -1)
        rest_first, rest_second = _normalise(elbow - shoulder), _normalise(wrist - elbow)
        hinge = elbow_axis(rest_first, rest_second)
        bent = torch.linalg.cross(rest_first, rest_second).norm(dim=-1)
        rest_flexion = torch.atan2(bent, (rest_first * rest_second).sum(-1))
        upper = rotation_about(first, sign * twist) @ turn_between(rest_first, first)
        return first, upper, rotation_about(hinge, flexion - rest_flexion)

    @staticmethod
    def _collar(first: Tensor, draw: Draw, sign: float) -> Tensor:
        """Turn the shoulder blade along as the arm rises or comes forwards."""
        lift = (first[:, 1] + 0.3).clamp_min(0) * draw.uniform(0.1, 0.4, ()) + 0.04 * draw.normal(())
        protract = (first[:, 2].clamp_min(0) * draw.uniform(0, 0.3, ())) + 0.03 * draw.normal(())
        return rotvec_to_rotmat(torch.stack([torch.zeros_like(lift), -sign * protract, sign * lift], -1))

    def _hand_target(
        self, rotations: Tensor, joints: Tensor, draw: Draw, side: str, number: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return where the wrist shall be on the body as posed so far, and where the elbow points; chest's frame."""
        rows, device = torch.arange(draw.batch, device=draw.device), draw.device
        outwards = torch.tensor([1.0 if side == "left" else -1.0, 1.0, 1.0], device=device)
        places = list(self.repertoire.places.values())

        def chosen(values: list[Any]) -> Tensor:
            return torch.tensor(values, device=device)[number]

        bone = chosen([self._index_of(p.carrier, side) for p in places])
        origin = chosen([self._index_of(p.origin, side) for p in places])
        offset, hint = (chosen(v) * outwards for v in ([p.offset for p in places], [p.elbow for p in places]))
        spread = chosen([p.spread for p in places])
        head, pelvis = joints[:, self.index["head"]], joints[:, self.index["pelvis"]]
        size = (head - pelvis).norm(dim=-1, keepdim=True) / 0.6
        place = joints[rows, origin] + size * (offset + spread[:, None] * draw.normal((3,)))
        transforms, _ = self._bones(rotations, joints)
        carrier, chest = transforms[rows, bone], transforms[:, self.index["spine3"]]
        posed = (carrier[..., :3] @ place[..., None]).squeeze(-1) + carrier[..., 3]
        inside = (chest[..., :3].mT @ (posed - chest[..., 3])[..., None]).squeeze(-1)
        return inside, hint + 0.25 * draw.normal((3,))

    def _index_of(self, name: str, side: str) -> int:
        """Return the index of a joint named from one arm's point of view."""
        other = "right" if side == "left" else "left"
        return self.index[name.replace("own_", f"{side}_").replace("other_", f"{other}_")]

    def _pose_hand(self, rotations: Tensor, draw: Draw, side: str) -> None:
        """Curl and spread the fingers: flat, relaxed, fist, pointing, or each its own way."""
        rig = self.fingers[side]
        overall = draw.uniform(-0.1, 1.0, ()) ** 2
        pointing = draw.chance(0.12, ())
        angles = rig.rest.repeat(draw.batch, 1, 1, 1)
        for number, finger in enumerate(FINGERS):
            curl = (overall + 0.15 * draw.normal(())).clamp(-0.1, 1.0)
            if finger == "index":
                curl = torch.where(pointing, torch.zeros_like(curl), curl)
            elif finger != "thumb":
                curl = torch.where(pointing, draw.uniform(0.7, 1.0, ()), curl)
            angles[:, number, 0, SIDE] += 0.08 * draw.normal(())
            closed = torch.tensor(CURLED, device=draw.device) * (0.45 if finger == "thumb" else 1.0) * _DEGREE
            angles[:, number, :, FLEX] += curl[:, None] * closed
        rotations[:, rig.joints] = rotvec_to_rotmat(rig.rotvecs(angles))

    def _mirror_arms(self, rotations: Tensor, draw: Draw, style: Tensor | None = None) -> None:
        """Give nearly half of the samples the same arm twice: people pose symmetrically."""
        same = (draw.uniform(shape=()) < self._of("mirrored", style))[:, None, None, None]
        left = [i for i, name in enumerate(self.body.joint_names) if name.startswith("left_") and self._in_arm(name)]
        right = [self.index["right_" + self.body.joint_names[i][5:]] for i in left]
        flip = torch.tensor([1.0, -1.0, -1.0], device=draw.device)
        mirrored = rotations[:, left] * flip[:, None] * flip
        jitter = rotvec_to_rotmat(0.05 * draw.normal((len(left), 3)))
        rotations[:, right] = torch.where(same, mirrored @ jitter, rotations[:, right])

    @staticmethod
    def _in_arm(name: str) -> bool:
        return not any(part in name for part in ("hip", "knee", "ankle", "foot"))

    @staticmethod
    def _orient(rotations: Tensor, draw: Draw) -> None:
        """Turn the whole body: any yaw, a slight tilt, now and then lying down."""
        lying = draw.chance(0.03, ())
        face_down = torch.where(draw.chance(0.5, ()), 1.0, -1.0)
        pitch = torch.where(lying, face_down * draw.uniform(75, 105, ()), 4 * draw.normal(()))
        roll = torch.where(lying, draw.uniform(-40, 40, ()), 4 * draw.normal(()))
        zero = torch.zeros_like(pitch)
        yaw = rotvec_to_rotmat(torch.stack([zero, draw.uniform(-math.pi, math.pi, ()), zero], -1))
        tilt = rotvec_to_rotmat(torch.stack([pitch * _DEGREE, zero, roll * _DEGREE], -1))
        rotations[:, 0] = yaw @ tilt @ rotations[:, 0]
