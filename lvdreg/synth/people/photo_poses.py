"""What people do in photos: one table of kinds and shares, all drawn in one pass.

Most stand, sit or walk upright with their arms down, hands held or in pockets; the rest do whatever bodies can, up to
standing on their hands. What a network never sees it does not know, so nothing that bodies do has the share zero.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.model import BodyModel
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.gaits import GAITS, UprightSampler, WalkSampler
from lvdreg.synth.people.poses import ANYTHING, ARM_KINDS, ARM_TARGETS, LEG_KINDS, Place, Repertoire, Style

# What is added to the tables of poses.py, in the same units. Weights stand in the styles below.
_STRAIGHT = ((-4, 5), (-1, 8), (-4, 20), (0, 7))
_LEGS = LEG_KINDS | {
    "straight": (0.0, _STRAIGHT, _STRAIGHT),
    "one leg eased": (0.0, ((8, 25), (0, 12), (0, 25), (12, 38)), _STRAIGHT),
    "apart": (0.0, *(((-4, 5), (8, 18), (0, 25), (0, 8)),) * 2),
    "on a chair": (0.0, *(((75, 100), (-4, 18), (-5, 20), (70, 105)),) * 2),
    "legs crossed": (0.0, ((88, 108), (-20, -8), (0, 15), (50, 95)), ((75, 95), (0, 12), (0, 10), (70, 100))),
    "outstretched": (0.0, *(((70, 100), (-3, 20), (-5, 20), (5, 60)),) * 2),
}
_ARMS = ARM_KINDS | {
    "hanging": (0.0, (3, 13), (-25, 45), (3, 28), 12),
    "hand in hand": (0.0, (10, 32), (-20, 30), (2, 25), 15),
    "holding": (0.0, (5, 28), (10, 100), (60, 125), 30),
    "on a table": (0.0, (20, 60), (60, 100), (45, 100), 25),
}
_PLACES = ARM_TARGETS | {
    "clasped": Place(0.0, "pelvis", "pelvis", (0.03, 0.0, 0.17), 0.03, (1, -0.2, -0.3)),
    "thigh": Place(0.0, "own_hip", "own_knee", (0.02, 0.12, 0.12), 0.05, (1, 0, -0.4)),
}
_ANY_LEGS = {name: row[0] for name, row in LEG_KINDS.items()}
_IN_FRONT = {"hanging": 42, "pocket": 13, "hand in hand": 6, "clasped": 8, "hip": 6, "holding": 9, "crossed": 5}
_STANDING_ARMS = _IN_FRONT | {"behind_back": 4, "a_pose": 3, "bent_up": 2, "overhead": 1, "head": 1}
_SITTING_ARMS = {"thigh": 40, "belly": 12, "clasped": 8, "holding": 12, "on a table": 12, "crossed": 4, "hanging": 6,
                 "bent_up": 3, "head": 3}  # fmt: skip


class Kind(NamedTuple):
    """One kind of what people do in photos."""

    share: float
    """Of all people."""
    style: Style | None
    """How they do it; None: as the gait of the same name says."""
    upright: bool = True
    """Whether the body stands as it is drawn; else it is turned over, any way up."""


PHOTO_POSES: dict[str, Kind] = {
    "standing": Kind(
        0.40, Style({"straight": 66, "one leg eased": 22, "apart": 12}, _STANDING_ARMS, 0.05, 0.03, 0.45, 0.0, 0.3)
    ),
    "walking": Kind(0.17, None),
    "running": Kind(0.04, None),
    "sitting": Kind(
        0.13,
        Style({"on a chair": 55, "legs crossed": 20, "outstretched": 15, "sit": 10}, _SITTING_ARMS, 0.1, 0.25, 0.35),
    ),
    "low down": Kind(
        0.04, Style({"squat": 3, "kneel": 2, "half_kneel": 2, "cross_legged": 3}, _SITTING_ARMS, 0.2, 0.25, 0.4)
    ),
    "anything": Kind(0.16, ANYTHING),
    "acrobatic": Kind(
        0.06, Style(_ANY_LEGS, {"overhead": 6, "front": 3, "t_pose": 1, "anywhere": 2}, 0.5, 0.1, 0.7), False
    ),
}
"""What people do in photos, by their shares; they sum to one. Chosen by what goes wrong in photos of people who stand
and of people on their hands (issue 14): a network that saw standing people alone forgot the others."""

NAMES = tuple(PHOTO_POSES)
_STYLES = tuple(kind.style or ANYTHING for kind in PHOTO_POSES.values())


class PhotoPoseSampler(UprightSampler):
    """Draws poses by the shares of ``PHOTO_POSES``; all but the acrobatic ones are upright and face about +Z."""

    def __init__(self, body: BodyModel) -> None:
        super().__init__(body, Repertoire(_LEGS, _ARMS, _PLACES, _STYLES))
        self.walk = WalkSampler(body, *GAITS.values())

    def choose(self, count: int, generator: torch.Generator) -> Int[Tensor, " B"]:
        """Choose what everybody does: numbers of ``NAMES``."""
        return Draw(count, generator).choice(tuple(kind.share for kind in PHOTO_POSES.values()))

    def _draw(
        self, joints: Float[Tensor, "B J 3"], generator: torch.Generator, style: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B J 3 3"]:
        draw = Draw(len(joints), generator)
        style = self.choose(len(joints), generator) if style is None else style
        # All are drawn both ways: on a GPU to sort people costs more than to pose them twice.
        rotations = super()._draw(joints, generator, style)
        gaits = [NAMES.index(name) for name in GAITS]
        gait = (style - gaits[0]).clamp(0, len(gaits) - 1)
        moving = self.walk.moment(joints, draw.uniform(shape=()), draw, gait)
        goes = torch.isin(style, torch.tensor(gaits, device=style.device))
        rotations = torch.where(goes[:, None, None, None], moving, rotations)
        upright = torch.tensor([kind.upright for kind in PHOTO_POSES.values()], device=style.device)[style]
        over = torch.cat([draw.uniform(-math.pi, math.pi), draw.uniform(-math.pi, math.pi), 0.3 * draw.normal()], 1)
        # Forwards or backwards about the sideways axis, and any way round.
        turned = rotvec_to_rotmat(over * over.new_tensor([0, 1, 0])) @ rotvec_to_rotmat(
            over * over.new_tensor([1, 0, 1])
        )
        rotations[:, 0] = torch.where(upright[:, None, None], rotations[:, 0], turned @ rotations[:, 0])
        return rotations
