"""What lies behind the wrist: a forearm of any length, bent at the wrist, bare or in a sleeve, cut open or closed.

The boundary ring of the hand is carried along a curved middle line and widens to the ellipse of a forearm. Frame: the
canonical palm frame, +Y to the fingers, +Z where the palm faces, +X on the thumb's side; metres.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lvdreg.base.errors import BodyError
from lvdreg.base.shapes import IntArray
from lvdreg.body.model import BodyModel
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.draw import Draw
from lvdreg.synth.surface import Outer, join, tube_faces

NUM_RINGS = 12  # the wrist's own ring included
NUM_SLEEVE_RINGS = 8
CUT, STUMP, MIDDLE, LONG = range(4)
LENGTH_PROBABILITIES = (0.25, 0.35, 0.15, 0.25)
LENGTHS = ((0.0, 0.0), (0.0, 0.04), (0.04, 0.10), (0.10, 0.28))
BEND_LENGTH = 0.035  # metres over which the wrist bends; a flexed wrist is about this thick
_DEGREE = math.pi / 180


@dataclass(frozen=True)
class ForearmShape:
    """What one forearm per sample is like, each (B, 1): metres, radians, factors.

    Attributes:
        length: How far it reaches from the wrist's ring; 0 leaves a flat cut.
        bend: (B, 2) flexion (towards the palm) and deviation (towards the thumb) of the forearm against the palm.
        widening: (B, 2) growth of width and of thickness along the first 20 cm, as a factor less one.
        capped: Whether its end is closed.
        dome: How far the middle of the closed end stands out, in mean radii.
        sleeve_from: Where a sleeve begins, along the middle line.
        sleeve_gap: How far a sleeve stands off.
        sleeved: Whether there is a sleeve.
    """

    length: Float[Tensor, "B 1"]
    bend: Float[Tensor, "B 2"]
    widening: Float[Tensor, "B 2"]
    capped: Bool[Tensor, "B 1"]
    dome: Float[Tensor, "B 1"]
    sleeve_from: Float[Tensor, "B 1"]
    sleeve_gap: Float[Tensor, "B 1"]
    sleeved: Bool[Tensor, "B 1"]


def draw_forearms(draw: Draw, probability: float = 1.0) -> ForearmShape:
    """Draw forearms; a quarter have no length (the wrist cut open or closed), a third are stumps of up to 4 cm.

    Args:
        draw: Says how many samples.
        probability: How often there may be a length at all.
    """
    kind = draw.choice(LENGTH_PROBABILITIES)
    ranges = torch.tensor(LENGTHS, device=draw.device)[kind]
    length = ranges[:, :1].lerp(ranges[:, 1:], draw.uniform()) * draw.chance(probability)
    lazy = torch.where(draw.chance(0.4), 0.3, 1.0)  # most wrists are nearly straight
    flexion = (28 * draw.normal()).clamp(-60, 60) * lazy
    deviation = (5 + 12 * draw.normal()).clamp(-20, 30) * -lazy  # 5 and 30 degrees to the side of the little finger
    sleeve_from = draw.uniform(0.003, 0.08)
    sleeved = draw.chance(0.3) & (length > sleeve_from + 0.03)
    return ForearmShape(
        length=length,
        # The hand stays and the forearm moves: a hand bent to the little finger's side has the forearm there too.
        bend=torch.cat([flexion, deviation], 1) * _DEGREE,
        widening=torch.cat([draw.uniform(0.15, 0.7), draw.uniform(0.4, 1.1)], 1),
        capped=draw.chance(0.5),
        dome=draw.uniform(-0.3, 0.6) * draw.chance(0.5),
        sleeve_from=sleeve_from,
        sleeve_gap=draw.uniform(0.002, 0.02),
        sleeved=sleeved,
    )


class Forearm:
    """Builds forearms onto hands of one body; the topology is the same for every sample."""

    def __init__(self, body: BodyModel) -> None:
        """Find the wrist's ring.

        Raises:
            BodyError: the body has no single boundary ring.
        """
        device = body.faces.device
        ring = boundary_ring(body.faces.cpu().numpy())
        self.ring = torch.tensor(ring, device=device)
        count = len(ring)
        end, tip = (NUM_RINGS - 1) * count, NUM_RINGS * count
        now = torch.arange(count, device=device)
        cap = torch.stack([end + now, end + (now + 1) % count, torch.full_like(now, tip)], 1)
        self.skin_faces = torch.cat([tube_faces(NUM_RINGS, count).to(device), cap])
        self.sleeve_faces = tube_faces(NUM_SLEEVE_RINGS, count).to(device)

    def build(self, vertices: Float[Tensor, "B V 3"], shape: ForearmShape) -> Outer:
        """Return forearms that begin exactly at the wrists of the given hands, sleeves among them."""
        wrist = vertices[:, self.ring]
        share = torch.linspace(0, 1, NUM_RINGS, device=vertices.device) ** 1.4  # denser where the wrist bends
        along = shape.length * share
        rings = self._rings(wrist, along, shape, torch.zeros_like(along))
        radius = (rings[:, -1] - rings[:, -1].mean(1, keepdim=True)).norm(dim=-1).mean(1, keepdim=True)
        axis = functional.normalize(_area_vector(rings[:, -1]), dim=-1)
        tip = rings[:, -1].mean(1) + axis * (radius * shape.dome)
        skin = Outer(torch.cat([rings.flatten(1, 2), tip[:, None]], 1), self.skin_faces, self._skin_keep(along, shape))
        return join([skin, self._sleeve(wrist, shape)])

    def _skin_keep(self, along: Float[Tensor, "B R"], shape: ForearmShape) -> Bool[Tensor, "B F"]:
        """Keep what has a length and is not under a sleeve, and the cap of closed ends."""
        bare = ~shape.sleeved | (along[:, :-1] < shape.sleeve_from)
        bands = (bare & (shape.length > 1e-4)).repeat_interleave(len(self.ring), 1)
        return torch.cat([bands, bands, shape.capped.expand(-1, len(self.ring))], 1)

    def _sleeve(self, wrist: Float[Tensor, "B N 3"], shape: ForearmShape) -> Outer:
        """Return a wider tube to the forearm's end, its edge turned in to the skin; all in one place where none is."""
        # The first two rings stand at the hem: the inner edge on the skin, and the outer one.
        share = torch.linspace(-1 / (NUM_SLEEVE_RINGS - 2), 1, NUM_SLEEVE_RINGS, device=wrist.device).clamp(min=0)
        start = torch.minimum(shape.sleeve_from, shape.length)
        along = start + (shape.length - start) * share
        standing = shape.sleeve_gap * (torch.arange(NUM_SLEEVE_RINGS, device=wrist.device) > 0)
        folds = 1 + 0.15 * torch.sin(90 * along + 200 * shape.sleeve_gap)  # a wave of 7 cm
        rings = self._rings(wrist, along, shape, standing * folds)
        keep = shape.sleeved.expand(-1, len(self.sleeve_faces))
        return Outer(rings.flatten(1, 2), self.sleeve_faces, keep)

    def _rings(
        self, wrist: Float[Tensor, "B N 3"], along: Float[Tensor, "B R"], shape: ForearmShape, gap: Float[Tensor, "B R"]
    ) -> Float[Tensor, "B R N 3"]:
        """Return rings at arc lengths ``along`` of the middle line, ``gap`` metres outside the skin."""
        centre, turn = _middle_line(wrist, along, shape)
        offset = (wrist - wrist.mean(1, keepdim=True))[:, None]
        growth = 1 + shape.widening[:, None] * _swell(along / 0.2)[..., None]  # (B, R, 2)
        wide = torch.stack([growth[..., 0], torch.ones_like(along), growth[..., 1]], -1)[:, :, None]
        local = offset * wide
        # Past the wrist the cut is square to the middle line, whatever the slant of the ring.
        square = _ease(along / 0.02)[..., None, None]
        local = local * (1 - square * local.new_tensor([0.0, 1.0, 0.0]))
        out = functional.normalize(local * local.new_tensor([1.0, 0.0, 1.0]), dim=-1)
        local = local + out * gap[..., None, None]
        return centre[:, :, None] + local @ turn.mT


def _middle_line(
    wrist: Float[Tensor, "B N 3"], along: Float[Tensor, "B R"], shape: ForearmShape
) -> tuple[Float[Tensor, "B R 3"], Float[Tensor, "B R 3 3"]]:
    """Return points of the middle line (B, R, 3) and the rotation of its cross-section from the palm's axes."""
    fine = torch.linspace(0, 1, 33, device=wrist.device)
    length = along.amax(1, keepdim=True).clamp(min=BEND_LENGTH)
    steps = length * (fine[1:] + fine[:-1]) / 2
    # Flexion turns -Y towards +Z: about -X. Deviation to the thumb's side turns -Y towards +X: about +Z.
    full = torch.stack([-shape.bend[:, 0], torch.zeros_like(shape.bend[:, 0]), shape.bend[:, 1]], -1)

    def turned(at: Tensor) -> Tensor:
        return rotvec_to_rotmat(full[:, None] * _ease(at / BEND_LENGTH)[..., None])

    heading = -turned(steps)[..., 1] * (length / len(steps[0]))[..., None]  # (B, 32, 3): -Y turned
    path = torch.cat([torch.zeros_like(heading[:, :1]), heading.cumsum(1)], 1)
    place = (along / length * (len(fine) - 1)).clamp(max=len(fine) - 1 - 1e-4)
    low = place.floor().long()
    rows = low[..., None].expand(-1, -1, 3)
    start, end = path.gather(1, rows), path.gather(1, rows + 1)
    return wrist.mean(1, keepdim=True) + start.lerp(end, (place - low)[..., None]), turned(along)


def boundary_ring(faces: IntArray) -> list[int]:
    """Return the vertices around a mesh's only hole, against the mesh's own winding there: as a tube goes on from it.

    Raises:
        BodyError: the mesh is closed or has more than one hole.
    """
    half_edges = {(int(a), int(b)) for face in faces for a, b in pairwise([*face, face[0]])}
    follows = {b: a for a, b in half_edges if (b, a) not in half_edges}
    ring = [min(follows)] if follows else []
    while ring and len(ring) <= len(follows) and follows[ring[-1]] != ring[0]:
        ring.append(follows[ring[-1]])
    if not ring or len(ring) != len(follows):
        raise BodyError(f"expected a hand open at its wrist only, got a boundary of {len(follows)} vertices")
    return ring


def _area_vector(ring: Float[Tensor, "B N 3"]) -> Float[Tensor, "B 3"]:
    """Return the vector area of a closed polygon, along the normal that its winding gives."""
    offset = ring - ring.mean(1, keepdim=True)
    return 0.5 * torch.linalg.cross(offset, offset.roll(-1, 1)).sum(1)


def _ease(t: Tensor) -> Tensor:
    """Return a smooth step from 0 at 0 to 1 at 1."""
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)


def _swell(t: Tensor) -> Tensor:
    """Return how far a forearm has widened: slowly at the wrist, most where its muscles are, less at the elbow."""
    return _ease(t) - 0.25 * (t - 1).clamp(min=0)
