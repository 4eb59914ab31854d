"""Things that hands hold: balls, boxes, cylinders, sticks, sheets and lumps, one formula and one topology for all.

Every prop is a superellipsoid (Barr 1981), its radius varied by a few smooth waves where it is a lump. With
``s = (|x/a|^(2/e2) + |y/b|^(2/e2))^(e2/2)`` and ``rho = (s^(2/e1) + |z/c|^(2/e1))^(e1/2)`` the surface is ``rho = 1``:
e1 = e2 = 1 is an ellipsoid, small e1 with e2 = 1 a cylinder along z, both small a box.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.draw import Draw
from lvdreg.synth.surface import tube_faces

NUM_RINGS, NUM_ANGLES = 13, 24
NUM_BUMPS = 4
BALL, ELLIPSOID, CYLINDER, STICK, BOX, SHEET, BLOB = range(7)
KIND_PROBABILITIES = (0.15, 0.15, 0.18, 0.18, 0.14, 0.08, 0.12)
_EPS = 1e-9


@dataclass(frozen=True)
class Prop:
    """A batch of props, one per sample; metres, in the frame of ``centre``.

    Attributes:
        centre: Where its middle is.
        R: Columns are its axes; its long axis (sticks) or its axis of revolution (cylinders) is the third.
        radii: Half its extent along each axis.
        exponents: e1 (profile along the third axis) and e2 (cross-section), each above 0 and at most 2.
        present: Which samples have a prop at all.
        bumps: Wave vectors and phases of a lump's surface over the directions from its middle.
        bump_height: By what share of the radius each of these waves swells and shrinks it; zero for all but lumps.
    """

    centre: Float[Tensor, "B 3"]
    R: Float[Tensor, "B 3 3"]
    radii: Float[Tensor, "B 3"]
    exponents: Float[Tensor, "B 2"]
    present: Bool[Tensor, " B"]
    bumps: Float[Tensor, "B W 4"]
    bump_height: Float[Tensor, " B"]

    @property
    def faces(self) -> Int[Tensor, "F 3"]:
        """Triangles, counter-clockwise seen from outside: the same for every prop."""
        return _sphere_faces().to(self.centre.device)

    def take(self, rows: Tensor) -> "Prop":
        """Return the props of some samples, by index or mask."""
        return type(self)(**{name: value[rows] for name, value in vars(self).items()})

    def put(self, rows: Tensor, some: "Prop") -> "Prop":
        """Return these props with those of some samples, by index or mask, replaced."""
        values = {name: value.clone() for name, value in vars(self).items()}
        for name, value in vars(some).items():
            values[name][rows] = value
        return type(self)(**values)

    def vertices(self) -> Float[Tensor, "B N 3"]:
        """Return points on the surface; the last two are the poles."""
        turn = torch.arange(NUM_ANGLES, device=self.centre.device) * (2 * math.pi / NUM_ANGLES)
        lift = (torch.arange(NUM_RINGS, device=self.centre.device) + 1) * (math.pi / (NUM_RINGS + 1)) - math.pi / 2
        e1, e2 = self.exponents[:, :1, None], self.exponents[:, 1:, None]
        flat = _power(lift.cos()[:, None], e1)  # (B, R, 1)
        ring = [flat * _power(turn.cos(), e2), flat * _power(turn.sin(), e2)]
        high = _power(lift.sin()[:, None], e1).expand_as(ring[0])
        unit = torch.stack([*ring, high], -1).flatten(1, 2)
        poles = unit.new_tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]).expand(len(unit), 2, 3)
        unit = torch.cat([unit, poles], 1)
        local = unit * self.radii[:, None] * self._swelling(unit)
        return local @ self.R.mT + self.centre[:, None]

    def depth(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N"]:
        """Return approximate signed distances to the surface: negative inside, metres.

        Outside it is the larger of two lower bounds of the distance, inside the smaller of its upper bounds: one step
        of Newton along the gradient of the convex ``rho``, the distance to the bounding box, and the way straight out
        along an axis. Exact for boxes and near balls; lumps are taken as if they swelled evenly. Differentiable almost
        everywhere. Props that are not present answer too.
        """
        local = (points - self.centre[:, None]) @ self.R
        swelling = self._swelling(local / self.radii[:, None])
        local = (local / swelling).abs()
        ratio = (local / self.radii[:, None]).clamp(min=_EPS)
        p1, p2 = 2 / self.exponents[:, :1], 2 / self.exponents[:, 1:]
        s = _norm_of(ratio[..., 0], ratio[..., 1], p2)
        rho = _norm_of(s, ratio[..., 2], p1)
        along_s = (s / rho) ** (p1 - 1)
        slope = torch.stack(
            [
                along_s * (ratio[..., 0] / s) ** (p2 - 1),
                along_s * (ratio[..., 1] / s) ** (p2 - 1),
                (ratio[..., 2] / rho) ** (p1 - 1),
            ],
            -1,
        )
        newton = (rho - 1) / (slope / self.radii[:, None]).norm(dim=-1)
        outside = torch.maximum(newton, (local - self.radii[:, None]).clamp(min=0).norm(dim=-1))
        inside = torch.maximum(newton, -self._way_out(ratio, s, p1, p2))
        return torch.where(rho < 1, inside, outside) * swelling[..., 0]

    def _way_out(self, ratio: Tensor, s: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
        """Return the shortest way (B, N) from points inside straight out along one of the axes."""
        x, y, z = ratio.clamp(max=1).unbind(-1)
        widest = (1 - z**p1) ** (1 / p1)
        ends = [
            (widest**p2 - y**p2).clamp(min=0) ** (1 / p2) - x,
            (widest**p2 - x**p2).clamp(min=0) ** (1 / p2) - y,
            (1 - s.clamp(max=1) ** p1) ** (1 / p1) - z,
        ]
        return (torch.stack(ends, -1).clamp(min=0) * self.radii[:, None]).amin(-1)

    def _swelling(self, unit: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        """Return by what factor the waves of a lump lengthen the radius in some directions (in units of the radii)."""
        direction = functional.normalize(unit, dim=-1)
        wave = torch.sin(direction @ self.bumps[..., :3].mT + self.bumps[:, None, :, 3])
        return 1 + (self.bump_height[:, None] * wave.sum(-1))[..., None]


def draw_props(draw: Draw, probability: float = 1.0) -> Prop:
    """Draw props of all kinds about the origin, turned at random: 2 to 11 cm across, sticks to 30, sheets to 25 cm.

    Args:
        draw: Says how many samples.
        probability: How many of them have a prop.
    """
    kind = draw.choice(KIND_PROBABILITIES)
    spread = draw.uniform(0, 1, (3,))
    lumps = kind == BLOB
    bumps = torch.cat([2.5 * draw.normal((NUM_BUMPS, 3)), draw.uniform(0, 2 * math.pi, (NUM_BUMPS, 1))], -1)
    return Prop(
        centre=torch.zeros(draw.batch, 3, device=draw.device),
        R=draw_rotations(draw),
        radii=_radii(kind, spread),
        exponents=_exponents(kind, draw.uniform(0, 1, (2,))),
        present=draw.chance(probability)[:, 0],
        bumps=bumps,
        bump_height=lumps * draw.uniform(0.02, 0.07)[:, 0],
    )


def draw_rotations(draw: Draw) -> Float[Tensor, "B 3 3"]:
    """Draw rotations evenly over all of them (from normalised four-dimensional normals)."""
    quat = functional.normalize(draw.normal((4,)), dim=-1)
    sine = quat[:, 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quat[:, :1])
    return rotvec_to_rotmat(quat[:, 1:] / sine.clamp(min=_EPS) * angle)


def _radii(kind: Int[Tensor, " B"], u: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3"]:
    """Return half extents by kind from even numbers in 0 to 1."""
    ball = 0.012 + 0.04 * u[:, :1].expand(-1, 3)
    ellipsoid = 0.012 + 0.042 * u
    upright = torch.cat([(0.012 + 0.033 * u[:, :1]).expand(-1, 2), 0.015 + 0.085 * u[:, 1:2]], 1)
    stick = torch.cat([0.003 + 0.013 * u[:, :1], 0.003 + 0.013 * u[:, :1], 0.05 + 0.10 * u[:, 1:2]], 1)
    box = torch.stack([0.010 + 0.035 * u[:, 0], 0.010 + 0.045 * u[:, 1], 0.015 + 0.065 * u[:, 2]], 1)
    sheet = torch.stack([0.03 + 0.095 * u[:, 0], 0.0008 + 0.003 * u[:, 1] ** 2, 0.04 + 0.085 * u[:, 2]], 1)
    blob = 0.02 + 0.025 * u
    return torch.stack([ball, ellipsoid, upright, stick, box, sheet, blob])[
        kind, torch.arange(len(kind), device=kind.device)
    ]


def _exponents(kind: Int[Tensor, " B"], u: Float[Tensor, "B 2"]) -> Float[Tensor, "B 2"]:
    """Return how sharp the edges are by kind: 0.1 nearly sharp, 1 round."""
    sharp, soft = 0.1 + 0.2 * u[:, 0], 0.15 + 0.5 * u[:, 1]
    one = torch.ones_like(sharp)
    pairs = [(one, one), (one, one), (sharp, one), (sharp, one), (soft, soft), (sharp, sharp), (one, one)]
    return torch.stack([torch.stack(pair, 1) for pair in pairs])[kind, torch.arange(len(kind), device=kind.device)]


def _power(value: Tensor, exponent: Tensor) -> Tensor:
    """Return the power of the size with the sign kept."""
    return value.sign() * value.abs().clamp(min=_EPS) ** exponent


def _norm_of(a: Tensor, b: Tensor, p: Tensor) -> Tensor:
    """Return (a^p + b^p)^(1/p) of positive numbers without overflow."""
    top = torch.maximum(a, b)
    return top * ((a / top) ** p + (b / top) ** p) ** (1 / p)


@lru_cache(maxsize=1)
def _sphere_faces() -> Int[Tensor, "F 3"]:
    """Return the triangles of rings from the lower to the upper pole, which are the last two points."""
    now = torch.arange(NUM_ANGLES, device="cpu")
    following = (now + 1) % NUM_ANGLES
    last, low = (NUM_RINGS - 1) * NUM_ANGLES, NUM_RINGS * NUM_ANGLES
    bottom = torch.stack([following, now, torch.full_like(now, low)], 1)
    top = torch.stack([last + now, last + following, torch.full_like(now, low + 1)], 1)
    return torch.cat([tube_faces(NUM_RINGS, NUM_ANGLES), bottom, top])
