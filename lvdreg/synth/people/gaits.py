"""People walking and running, and any other poses, all upright: what a camera in a street sees.

A gait is a table of joint angles over one stride of the left leg, from its heel strike on; the right leg is half a
stride behind. Angles in degrees follow the usual figures of gait analysis (Perry and Burnfield, "Gait Analysis", 2010;
Novacheck, "The biomechanics of running", 1998), read off coarsely and varied freely: no motion capture is used.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.base.errors import UsageError
from lvdreg.body.model import BodyModel
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.poses import PoseSampler, Range, elbow_axis, rotation_about, turn_between

_DEGREE = math.pi / 180


@dataclass(frozen=True)
class Gait:
    """A way of moving on two legs, degrees; curves hold ten values evenly over a stride.

    Attributes:
        hip, knee: Flexion.
        ankle: Toes up.
        stride: Range of what hip and ankle are multiplied by: short to long steps.
        pelvis, thorax: How far each turns either way about the vertical, against each other.
        lean: Of the trunk forwards.
        arm: How far the upper arm swings either way.
        arm_middle: About which direction, forwards of hanging.
        elbow: Flexion; more while the arm is in front.
    """

    hip: tuple[float, ...]
    knee: tuple[float, ...]
    ankle: tuple[float, ...]
    stride: Range
    pelvis: Range
    thorax: Range
    lean: Range
    arm: Range
    arm_middle: Range
    elbow: Range


GAITS = {
    "walking": Gait(
        hip=(30, 25, 16, 6, -4, -10, 2, 20, 31, 32),
        knee=(4, 16, 15, 8, 6, 14, 40, 60, 48, 16),
        ankle=(0, -4, 3, 8, 11, 4, -17, -7, 1, 1),
        stride=(0.5, 1.25),
        pelvis=(1, 7),
        thorax=(1, 8),
        lean=(-3, 7),
        arm=(4, 32),
        arm_middle=(-10, 12),
        elbow=(5, 40),
    ),
    "running": Gait(
        hip=(34, 28, 14, 0, -8, 2, 24, 44, 46, 38),
        knee=(16, 38, 36, 20, 26, 70, 98, 88, 52, 20),
        ankle=(6, 16, 18, -6, -20, -10, -4, 0, 4, 6),
        stride=(0.65, 1.35),
        pelvis=(2, 9),
        thorax=(5, 18),
        lean=(2, 16),
        arm=(15, 45),
        arm_middle=(-22, 5),
        elbow=(65, 115),
    ),
}
KINDS = (*GAITS, "sampled")


def draw_pose(
    kind: str, body: BodyModel, betas: Float[Tensor, "B K"], generator: torch.Generator
) -> Float[Tensor, "B J 3"]:
    """Draw upright poses that face about +Z; parts of the body do not pass through each other if three draws allow.

    Args:
        kind: "walking", "running", or "sampled": all that ``PoseSampler`` knows.
        body: With SMPL-H's joint names; those of fingers may be missing.
        betas: Shapes.
        generator: The only source of randomness.

    Returns:
        Rotation vectors from the body's rest pose, radians.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"expected a kind of pose ({', '.join(KINDS)}), got {kind!r}")
    return _sampler(kind, body).sample(betas, generator)


@lru_cache(maxsize=8)
def _sampler(kind: str, body: BodyModel) -> PoseSampler:
    return WalkSampler(body, GAITS[kind]) if kind in GAITS else UprightSampler(body)


class UprightSampler(PoseSampler):
    """Draws what ``PoseSampler`` draws, but nobody lies or leans over, and all face about +Z."""

    @staticmethod
    def _orient(rotations: Tensor, draw: Draw) -> None:
        tilt = torch.stack([2 * draw.normal(()), 8 * draw.normal(()), 2 * draw.normal(())], -1) * _DEGREE
        rotations[:, 0] = rotvec_to_rotmat(tilt) @ rotations[:, 0]


class WalkSampler(UprightSampler):
    """Draws moments of gaits: any phase, long and short steps, stiff and swinging arms."""

    def __init__(self, body: BodyModel, *gaits: Gait) -> None:
        super().__init__(body)
        self.gaits = gaits

    def _draw(
        self, joints: Float[Tensor, "B J 3"], generator: torch.Generator, style: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B J 3 3"]:
        draw = Draw(len(joints), generator)
        return self.moment(joints, draw.uniform(shape=()), draw, style)

    def moment(
        self,
        joints: Float[Tensor, "B J 3"],
        phase: Float[Tensor, " B"],
        draw: Draw,
        gait: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B J 3 3"]:
        """Return rotations of all joints at a phase of the stride, 0 to 1 from one heel strike of the left to the next.

        Args:
            joints: At rest.
            phase: Of the stride.
            draw: For all that differs between people and steps.
            gait: Which of the sampler's gaits everybody has; None: the first.
        """
        gait = torch.zeros_like(phase, dtype=torch.int64) if gait is None else gait
        rotations = torch.eye(3, device=joints.device).expand(*joints.shape[:2], 3, 3).clone()
        swing = (2 * math.pi * phase).cos()
        turn, lean = self._pose_middle(rotations, draw, swing, gait)
        stride = self._range(draw, "stride", gait)
        reach = [self._range(draw, name, gait) * _DEGREE for name in ("arm", "arm_middle")]
        elbow = self._range(draw, "elbow", gait) * _DEGREE
        for side, ahead in (("left", 0.0), ("right", 0.5)):
            angles = self._leg_angles((phase + ahead) % 1, gait)
            self._pose_leg(rotations, joints, draw, side, angles, stride, turn, lean)
            forwards = -swing if side == "left" else swing
            self._swing_arm(rotations, joints, draw, side, reach[1] + reach[0] * forwards, elbow, forwards)
            if side in self.fingers:
                self._pose_hand(rotations, draw, side)
        self._orient(rotations, draw)
        return rotations

    def _range(self, draw: Draw, name: str, gait: Tensor) -> Float[Tensor, " B"]:
        """Draw from a range of everybody's gait."""
        ranges = torch.tensor([getattr(one, name) for one in self.gaits], dtype=torch.float32, device=draw.device)
        low, high = ranges[gait].unbind(1)
        return low + (high - low) * draw.uniform(shape=())

    def _leg_angles(self, phase: Tensor, gait: Tensor) -> list[Tensor]:
        """Return flexion of hip, knee and ankle at a phase of everybody's gait, degrees."""
        names = ("hip", "knee", "ankle")
        curves = torch.tensor([[getattr(one, name) for name in names] for one in self.gaits], dtype=phase.dtype)
        return list(at_phases(curves.to(phase.device)[gait], phase).unbind(1))

    def _pose_middle(self, rotations: Tensor, draw: Draw, swing: Tensor, gait: Tensor) -> tuple[Tensor, Tensor]:
        """Turn pelvis and thorax against each other; return the pelvis' turn and pitch, which the hips take back."""
        # About +Y a positive turn takes the left side back: the pelvis follows the leg in front, the thorax the arm.
        turn = -self._range(draw, "pelvis", gait) * _DEGREE * swing
        thorax = self._range(draw, "thorax", gait) * _DEGREE * swing
        lean, pitch = self._range(draw, "lean", gait) * _DEGREE, 3 * _DEGREE * draw.normal(())
        aside = 2 * _DEGREE * draw.normal(())
        bend = torch.stack([lean - pitch, thorax - turn, aside], -1)
        for name, share in (("spine1", 0.3), ("spine2", 0.35), ("spine3", 0.35)):
            self._set(rotations, name, rotvec_to_rotmat(bend * share + 1.5 * _DEGREE * draw.normal((3,))))
        look = torch.stack([draw.uniform(-15, 20, ()), 25 * draw.normal(()).clamp(-2, 2), 4 * draw.normal(())], -1)
        look = look * _DEGREE * draw.uniform(0, 1, ())[:, None]
        level = torch.stack([-0.7 * lean, -thorax, -aside], -1)
        for name in ("neck", "head"):
            self._set(rotations, name, rotvec_to_rotmat(0.5 * (look + level) + 2 * _DEGREE * draw.normal((3,))))
        zero = torch.zeros_like(turn)
        self._set(rotations, "pelvis", rotvec_to_rotmat(torch.stack([pitch, turn, zero], -1)))
        return turn, pitch

    def _pose_leg(
        self,
        rotations: Tensor,
        joints: Tensor,
        draw: Draw,
        side: str,
        angles: list[Tensor],
        stride: Tensor,
        turn: Tensor,
        pitch: Tensor,
    ) -> None:
        sign = 1.0 if side == "left" else -1.0
        hip, knee, ankle = angles
        noise = 3 * draw.normal((4,))
        flexion = (hip * stride + noise[:, 0]) * _DEGREE + pitch
        inwards = self._rest_abduction(joints, side) + (draw.uniform(-3, 2, ()) - 2) * _DEGREE
        external = (5 + noise[:, 1]) * _DEGREE + sign * -turn
        self._set(rotations, f"{side}_hip", self._hip_rotation(flexion, -inwards, external, sign))
        bent = (knee * (0.5 + 0.5 * stride) + noise[:, 2].abs()) * _DEGREE
        sideways = torch.tensor([[1.0, 0.0, 0.0]], device=draw.device)
        self._set(rotations, f"{side}_knee", rotation_about(sideways, bent - self._rest_knee(joints, side)))
        toes_up = -(ankle * stride + noise[:, 3]) * _DEGREE
        self._set(rotations, f"{side}_ankle", rotation_about(sideways.expand(len(hip), -1), toes_up))
        # On the ball of the foot the toes stay on the ground.
        push = (-ankle - 8).clamp_min(0) * stride * 1.5 * _DEGREE
        self._set(rotations, f"{side}_foot", rotation_about(sideways.expand(len(hip), -1), -push))

    def _rest_abduction(self, joints: Tensor, side: str) -> Float[Tensor, " B"]:
        """Return how far a leg points outwards at rest."""
        leg = joints[:, self.index[f"{side}_ankle"]] - joints[:, self.index[f"{side}_hip"]]
        return torch.atan2(leg[:, 0].abs(), -leg[:, 1])

    def _swing_arm(
        self, rotations: Tensor, joints: Tensor, draw: Draw, side: str, angle: Tensor, elbow: Tensor, forwards: Tensor
    ) -> None:
        """Let an arm hang, swung forwards by an angle, and bend the elbow more in front than behind."""
        sign = 1.0 if side == "left" else -1.0
        shoulder, middle, wrist = (joints[:, self.index[f"{side}_{part}"]] for part in ("shoulder", "elbow", "wrist"))
        aside = draw.uniform(8, 22, ()) * _DEGREE
        along = torch.stack([sign * aside.sin(), -aside.cos() * angle.cos(), aside.cos() * angle.sin()], -1)
        upper_rest, lower_rest = (torch.nn.functional.normalize(v, dim=-1) for v in (middle - shoulder, wrist - middle))
        twist = sign * draw.uniform(-15, 25, ()) * _DEGREE
        upper = rotation_about(along, -twist) @ turn_between(upper_rest, along)
        collar = self._collar(along, draw, sign)
        self._set(rotations, f"{side}_collar", collar)
        self._set(rotations, f"{side}_shoulder", collar.mT @ upper)
        cross = torch.linalg.cross(upper_rest, lower_rest).norm(dim=-1)
        rest_flexion = torch.atan2(cross, (upper_rest * lower_rest).sum(-1))
        flexion = (elbow * (1 + 0.3 * forwards) + 4 * _DEGREE * draw.normal(())).clamp_min(3 * _DEGREE)
        hinge = elbow_axis(upper_rest, lower_rest)
        self._set(rotations, f"{side}_elbow", rotation_about(hinge, flexion - rest_flexion))
        roll = rotation_about(wrist - middle, draw.uniform(-25, 25, ()) * _DEGREE)
        self._set(rotations, f"{side}_wrist", roll @ rotvec_to_rotmat(8 * _DEGREE * draw.normal((3,))))


def at_phase(curve: tuple[float, ...], phase: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Read a periodic curve of evenly spaced values smoothly (Catmull-Rom); phase 0 to 1."""
    values = torch.tensor(curve, dtype=phase.dtype, device=phase.device)
    return at_phases(values.expand(len(phase), 1, -1), phase)[:, 0]


def at_phases(curves: Float[Tensor, "B C N"], phase: Float[Tensor, " B"]) -> Float[Tensor, "B C"]:
    """Read everybody's own curves at their phase, as ``at_phase`` does."""
    count = curves.shape[2]
    place = phase[:, None] * count
    index = place.floor()
    around = (index.long() + torch.arange(-1, 3, device=phase.device)) % count
    a, b, c, d = curves.gather(2, around[:, None].expand(-1, curves.shape[1], -1)).unbind(2)
    t = place - index
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
