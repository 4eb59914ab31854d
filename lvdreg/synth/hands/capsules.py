"""Fingers as capsules: where they go when joints bend, how deep they press into each other and into the palm.

Only joints and capsules are carried along, no skin, and every finger by itself: hundreds of candidates for each hand
cost less than one skinned mesh.
"""

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.body.model import BodyModel
from lvdreg.fit.priors import FINGERS, joint_axes, pose_prior, rest_angles
from lvdreg.geometry.frames import rotvec_to_rotmat

TWIST, FLEX, SIDE = 0, 1, 2
"""Components of the angles of a joint; see fit/priors.py."""
LONG = [FINGERS.index(name) for name in ("index", "middle", "ring", "pinky")]
"""The four fingers from the thumb outwards."""
THUMB = FINGERS.index("thumb")
_RING = (0.2, 0.8)
"""The part of a bone around which the skin says how thick the finger is."""
_PALM = (0.45, 0.8)
"""The part of the palm that fingers meet: before it the balls of the thumb and of the little finger, then knuckles."""
_PALM_STRIP = 0.07
"""Half the width of the skin that counts for each of the palm's bones, by their length."""
_WEB = 0.004
"""Metres that the web of the thumb gives way on top of what other flesh does."""
_PULP = 0.6
"""Where on the last bone the pad of a finger is."""


@dataclass(frozen=True)
class FingerRig:
    """Where a body's finger joints are, their axes and how far they are bent at rest."""

    joints: list[list[int]]
    """Joint numbers, by finger and place in it."""
    axes: Float[Tensor, "5 3 3 3"]
    rest: Float[Tensor, "5 3 3"]
    low: Float[Tensor, "5 3 3"]
    high: Float[Tensor, "5 3 3"]
    """The prior's limits."""

    @classmethod
    def of(cls, body: BodyModel, prefix: str = "") -> "FingerRig":
        """Read the rig of the hand whose joints' names begin with a prefix ("left_", "right_" or none)."""
        names = list(body.joint_names)
        joints = [[names.index(f"{prefix}{finger}{k}") for k in (1, 2, 3)] for finger in FINGERS]

        def stacked(values: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(values)).to(body.v_template).unflatten(0, (len(FINGERS), 3))

        flat = [joint for finger in joints for joint in finger]
        axes, rest = (stacked([of(body.data, joint) for joint in flat]) for of in (joint_axes, rest_angles))
        prior = pose_prior(body.data)
        low, high = (stacked(list(bound[flat])) + rest for bound in (prior.low, prior.high))
        return cls(joints, axes, rest, low, high)

    def held(self, angles: Float[Tensor, "*B 5 3 3"]) -> Float[Tensor, "*B 5 3 3"]:
        """Hold angles within the limits of the joints."""
        return torch.minimum(torch.maximum(angles, self.low), self.high)

    def rotvecs(self, angles: Float[Tensor, "*B 5 3 3"]) -> Float[Tensor, "*B 5 3 3"]:
        """Turn angles (twist, flexion, side) from the straight finger into rotation vectors from rest."""
        return torch.einsum("...fka,fkac->...fkc", angles - self.rest, self.axes)


@dataclass(frozen=True)
class Capsules:
    """Capsules of hands, metres, frame of the wrist; L poses of each of B hands. Radii are the same in every pose."""

    ends: Float[Tensor, "B L F 3 2 3"]
    """Start and end of each finger's three."""
    pads: Float[Tensor, "B L F 3"]
    """The middle of each finger's pad, on the skin."""
    pad_normals: Float[Tensor, "B L F 3"]
    radii: Float[Tensor, "B F 3"]
    palm: Float[Tensor, "B 4 2 3"]
    palm_radii: Float[Tensor, "B 4"]

    def joined(self, other: "Capsules") -> "Capsules":
        """Return hands with the fingers of both, these first; poses of the one that has a single pose are repeated."""
        many = max(self.ends.shape[1], other.ends.shape[1])

        def both(name: str) -> Tensor:
            mine, its = getattr(self, name), getattr(other, name)
            return torch.cat([v.expand(-1, many, *[-1] * (v.ndim - 2)) for v in (mine, its)], 2)

        radii = torch.cat([self.radii, other.radii], 1)
        return type(self)(both("ends"), both("pads"), both("pad_normals"), radii, self.palm, self.palm_radii)

    def samples(self, count: int) -> tuple[Float[Tensor, "B L F S 3"], Float[Tensor, "B F S"]]:
        """Return the centres and radii of ``count`` spheres along each capsule, S in all for each finger."""
        share = (torch.arange(count, device=self.ends.device) + 1) / count
        start, end = self.ends[..., None, 0, :], self.ends[..., None, 1, :]
        return start.lerp(end, share[:, None]).flatten(3, 4), self.radii.repeat_interleave(count, -1)


@dataclass(frozen=True)
class HandShape:
    """One batch of hands at rest: joints, and capsules as they lie about them."""

    joints: Float[Tensor, "B 5 3 3"]
    ends: Float[Tensor, "B 5 3 2 3"]
    pads: Float[Tensor, "B 5 3"]
    pad_normals: Float[Tensor, "5 3"]
    radii: Float[Tensor, "B 5 3"]
    palm: Float[Tensor, "B 4 2 3"]
    palm_radii: Float[Tensor, "B 4"]

    def take(self, rows: Tensor) -> "HandShape":
        """Return some of the hands, by index or mask."""
        own = {name: value[rows] for name, value in vars(self).items() if name != "pad_normals"}
        return type(self)(pad_normals=self.pad_normals, **own)

    def posed(self, rotvecs: Float[Tensor, "B L F 3 3"], fingers: list[int] | None = None) -> Capsules:
        """Carry the capsules of some fingers (all by default) along with the joints' rotation vectors from rest."""
        some = list(range(len(FINGERS))) if fingers is None else fingers
        joints, ends = self.joints[:, None, some], self.ends[:, None, some]
        local = rotvec_to_rotmat(rotvecs)
        turn, moved = [local[..., 0, :, :]], [joints[..., 0, :] - _apply(local[..., 0, :, :], joints[..., 0, :])]
        for k in (1, 2):
            turn.append(turn[-1] @ local[..., k, :, :])
            moved.append(moved[-1] + _apply(turn[-2] - turn[-1], joints[..., k, :]))
        turns, shifts = torch.stack(turn, -3), torch.stack(moved, -2)
        posed = torch.einsum("...ij,...ej->...ei", turns, ends) + shifts[..., None, :]
        pads = _apply(turn[-1], self.pads[:, None, some]) + moved[-1]
        normals = _apply(turn[-1], self.pad_normals[some])
        return Capsules(posed, pads, normals, self.radii[:, some], self.palm, self.palm_radii)


def _apply(rotation: Tensor, vector: Tensor) -> Tensor:
    return (rotation @ vector[..., None]).squeeze(-1)


class HandCapsules:
    """Measures capsules on the skin of each hand, and how deep they lie in each other."""

    tolerance = 0.003
    """Metres that flesh gives way."""

    def __init__(self, body: BodyModel, rig: FingerRig) -> None:
        """Find which part of the skin belongs to which bone."""
        self.body, self.rig = body, rig
        skin, joints = body.v_template, body.J_template
        nearest = body.weights.argmax(-1)
        # The last bones end at the tips, the palm's bones at the four long fingers' knuckles.
        tips = []
        for finger in rig.joints:
            along = joints[finger[2]] - joints[finger[1]]
            own = (nearest == finger[2]).nonzero()[:, 0]
            tips.append(own[(skin[own] @ along).argmax()])
        self.tips = torch.stack(tips)
        bones = [pair for f in rig.joints for pair in ((f[0], f[1]), (f[1], f[2]), (f[2], -1))]
        self.starts = torch.tensor([a for a, _ in bones] + [0] * len(LONG), device=skin.device)
        start, end = (ends[0] for ends in self._bones(skin[None], joints[None]))
        weights = torch.stack([self._girdle(number, bone, start, end) for number, (bone, _) in enumerate(bones)])
        palm = torch.stack(
            [self._palm_girdle(f, start[len(bones) + i], end[len(bones) + i]) for i, f in enumerate(LONG)]
        )
        weights = torch.cat([weights, palm])
        self.owner, self.ring = weights.nonzero().unbind(-1)
        self.weights = weights[self.owner, self.ring]
        self.share, _ = _along(skin[self.ring], start[self.owner], end[self.owner])
        self.pairs, self.slack = self._pairs()

    def _girdle(self, number: int, bone: int, start: Tensor, end: Tensor) -> Tensor:
        """Return weights (V,) of the skin around the middle of a finger's bone."""
        share, _ = _along(self.body.v_template, start[number], end[number])
        own = (self.body.weights.argmax(-1) == bone) & (share > _RING[0]) & (share < _RING[1])
        return own / own.sum()

    def _palm_girdle(self, finger: int, start: Tensor, end: Tensor) -> Tensor:
        """Return weights (V,) of the skin before and behind a bone of the palm, as much of the one as of the other."""
        skin, normal = self.body.v_template, -self.rig.axes[finger, 0, SIDE]
        share, _ = _along(skin, start, end)
        away = skin - start.lerp(end, share[:, None])
        level = away @ normal
        beside = (away - level[:, None] * normal).norm(dim=-1) / (end - start).norm()
        own = (self.body.weights.argmax(-1) == 0) & (share > _PALM[0]) & (share < _PALM[1]) & (beside < _PALM_STRIP)
        front, back = own & (level > 0), own & (level <= 0)
        return 0.5 * (front / front.sum() + back / back.sum())

    def _bones(self, vertices: Float[Tensor, "B V 3"], joints: Float[Tensor, "B J 3"]) -> tuple[Tensor, Tensor]:
        """Return where each capsule's bone starts and ends: three of each finger, then the palm's four."""
        fingers = torch.stack([joints[:, [f[1], f[2], f[0]]] for f in self.rig.joints], 1)
        ends = torch.cat([fingers[:, :, :2], vertices[:, self.tips, None]], 2).flatten(1, 2)
        knuckles = joints[:, [self.rig.joints[f][0] for f in LONG]]
        return joints[:, self.starts], torch.cat([ends, knuckles], 1)

    def shape(self, betas: Float[Tensor, "B K"]) -> HandShape:
        """Measure hands of given betas: bones lie nearer to the back of the finger, capsules within the skin."""
        vertices, joints = self.body.rest(betas)
        start, end = self._bones(vertices, joints)
        ring = vertices[:, self.ring]
        on_bone = start[:, self.owner].lerp(end[:, self.owner], self.share[:, None])
        middle = self._sums((ring - on_bone) * self.weights[:, None])
        along = torch.nn.functional.normalize(end - start, dim=-1)
        middle = middle - (middle * along).sum(-1, keepdim=True) * along
        away = ring - on_bone - middle[:, self.owner]
        direction = along[:, self.owner]
        away = (away - (away * direction).sum(-1, keepdim=True) * direction).norm(dim=-1, keepdim=True)
        radii = self._sums(away * self.weights[:, None])[..., 0]
        last = torch.zeros(len(self.starts), dtype=torch.bool, device=ring.device)
        last[2 : 3 * len(FINGERS) : 3] = True
        # Tips are round: the last capsule ends a radius before the skin. A palm's begin where it is as wide as they.
        ends = end + middle - torch.where(last, radii, 0.0)[..., None] * along
        starts = start + middle
        split = 3 * len(FINGERS)
        palm = torch.stack([starts[:, split:].lerp(ends[:, split:], share) for share in _PALM], 2)
        fingers = torch.stack([starts, ends], 2)[:, :split].unflatten(1, (len(FINGERS), 3))
        finger_radii = radii[:, :split].unflatten(1, (len(FINGERS), 3))
        normals = -self.rig.axes[:, 2, SIDE]
        pads = fingers[:, :, 2, 0].lerp(fingers[:, :, 2, 1], _PULP) + finger_radii[:, :, 2:] * normals
        rest = joints[:, self.rig.joints]
        return HandShape(rest, fingers, pads, normals, finger_radii, palm, radii[:, split:])

    def _sums(self, values: Float[Tensor, "B N C"]) -> Float[Tensor, "B S C"]:
        """Add up what belongs to each capsule."""
        return values.new_zeros(len(values), len(self.starts), values.shape[-1]).index_add_(1, self.owner, values)

    def _pairs(self) -> tuple[Tensor, Tensor]:
        """Return pairs of capsules that should stay apart (N, 2), and how deep they are in each other at rest (N,)."""
        size, pairs = len(FINGERS), []
        for f, g in combinations(range(size), 2):
            pairs += [(3 * f + i, 3 * g + k) for i, k in product(range(3), repeat=2)]
        for f in range(size):
            pairs += [(3 * f + i, 3 * size + p) for i, p in product((1, 2), range(len(LONG)))]
        numbers = torch.tensor(pairs, device=self.body.v_template.device)
        shape = self.shape(self.body.J_template.new_zeros(1, self.body.num_betas))
        rest = shape.posed(torch.zeros(1, 1, size, 3, 3).to(shape.joints))
        web = (numbers[:, 0] == 3 * THUMB + 1) & (numbers[:, 1] >= 3 * size)
        return numbers, self._overlap(rest, numbers)[0, 0].clamp_min(0) + _WEB * web

    @staticmethod
    def _overlap(capsules: Capsules, pairs: Tensor) -> Float[Tensor, "B L N"]:
        ends = capsules.ends.flatten(2, 3)
        palm = capsules.palm[:, None].expand(-1, ends.shape[1], -1, -1, -1)
        ends = torch.cat([ends, palm], 2)
        radii = torch.cat([capsules.radii.flatten(1), capsules.palm_radii], 1)
        first, second = pairs.unbind(-1)
        gap = segment_distance(ends[:, :, first, 0], ends[:, :, first, 1], ends[:, :, second, 0], ends[:, :, second, 1])
        return (radii[:, first] + radii[:, second])[:, None] - gap

    def penetration(self, capsules: Capsules, watched: Tensor | slice = slice(None)) -> Float[Tensor, "B L N"]:
        """Return how deep pairs of capsules are in each other beyond what they are at rest; negative when apart.

        Args:
            capsules: All five fingers, in the order of ``FINGERS``.
            watched: Which of ``pairs`` to look at.
        """
        return self._overlap(capsules, self.pairs[watched]) - self.slack[watched]

    def palm_depths(self, capsules: Capsules) -> Float[Tensor, "B L 5"]:
        """Return how deep each finger is in the palm; see ``penetration``."""
        count = 2 * len(LONG)
        return self.penetration(capsules, slice(-count * len(FINGERS), None)).unflatten(-1, (-1, count)).amax(-1)

    def of_finger(self, finger: int) -> Tensor:
        """Say which of the watched pairs (N,) a finger is in."""
        return ((self.pairs // 3) == finger).any(-1)


def _along(points: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Return where along each bone points lie (0 to 1 within it), and their distance from it."""
    bone = end - start
    share = ((points - start) * bone).sum(-1) / bone.square().sum(-1).clamp_min(1e-12)
    nearest = start + share.clamp(0, 1)[..., None] * bone
    return share, (points - nearest).norm(dim=-1)


def segment_distance(
    a: Float[Tensor, "*B 3"], b: Float[Tensor, "*B 3"], c: Float[Tensor, "*B 3"], d: Float[Tensor, "*B 3"]
) -> Float[Tensor, "*B"]:
    """Return the distance of the straight pieces a-b and c-d.

    Either the closest points lie within both pieces, or one of them is an end: the least of five distances.
    """
    u, v, w = b - a, d - c, c - a
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    cross = (uu * vv - uv**2).clamp_min(1e-14)
    s = ((w * u).sum(-1) * vv - (w * v).sum(-1) * uv) / cross
    t = ((w * u).sum(-1) * uv - (w * v).sum(-1) * uu) / cross
    within = (s > 0) & (s < 1) & (t > 0) & (t < 1)
    inner = torch.where(within, (a + s[..., None] * u - c - t[..., None] * v).norm(dim=-1), torch.inf)
    ends = [_along(p, start, end)[1] for p, start, end in ((a, c, d), (b, c, d), (c, a, b), (d, a, b))]
    return torch.stack([inner, *ends]).amin(0)
