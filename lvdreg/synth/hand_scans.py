"""Training samples: scanned synthetic hands with what hangs on them and what they hold, and the hands beneath.

World frame: the canonical palm frame, metres. Which way a hand lies in space is of no use to the network, which is
given hands upright; but sensors look at hands from everywhere, so they see them turned at random.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lvdreg.base.lengths import HAND_SCALE
from lvdreg.body.model import BodyModel, BodyParams, Posed
from lvdreg.descent.boxes import unit_box
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.draw import Draw
from lvdreg.synth.hands.forearm import Forearm, draw_forearms
from lvdreg.synth.hands.grasps import grasp_place
from lvdreg.synth.hands.poses import HandPoseSampler
from lvdreg.synth.hands.props import Prop, draw_props, draw_rotations
from lvdreg.synth.scanner import SynthConfig, scan_points
from lvdreg.synth.scans import Samples, draw_betas
from lvdreg.synth.surface import Outer, join

COMPLETE, ONE_SIDED = (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)
"""Probabilities of views: the whole surface, or what one camera sees."""
PROP_PROBABILITY = 0.5
HELD_PROBABILITY = 0.65
"""Of the hands that have a thing, how many hold it."""
FLAT_PROBABILITY = 0.15
LARGEST_GAP = 0.05
"""How far off the hand a thing may lie that it does not hold, metres."""
LARGEST_HALF_EXTENT = 0.8
"""Half of the longest side of a hand's bounding box in training, before play makes it smaller: about the hand
detector's."""
CONTACT = 0.002
"""Skin so close to a thing (metres, at most) is not seen by any scanner."""


@dataclass(frozen=True)
class Scene:
    """Hands and what is with them, before they are scanned.

    Attributes:
        params: The hands' parameters.
        posed: The hands, canonical palm frame.
        prop: Things held, or lying about.
        held: Which of them are held.
        forearm: Forearms and sleeves.
    """

    params: BodyParams
    posed: Posed
    prop: Prop
    held: Bool[Tensor, " B"]
    forearm: Outer


class HandStream:
    """Draws hands and scans of them; the same generator state gives the same samples."""

    def __init__(self, body: BodyModel, config: SynthConfig | None = None) -> None:
        """Prepare poses, forearms and sensors for a hand."""
        self.body = body
        self.config = config or SynthConfig.for_hands()
        self.poses = HandPoseSampler(body)
        self.forearm = Forearm(body)
        people = body.data.people
        self.people = None if people is None else torch.as_tensor(people, device=body.faces.device)

    @torch.no_grad()
    def params(self, batch: int, generator: torch.Generator) -> BodyParams:
        """Draw shapes over the whole population and poses to go with them and with what they hold."""
        return self.scenes(batch, generator).params

    @torch.no_grad()
    def bodies(self, batch: int, generator: torch.Generator) -> Posed:
        """Draw posed hands."""
        return self.scenes(batch, generator).posed

    @torch.no_grad()
    def scenes(self, batch: int, generator: torch.Generator) -> Scene:
        """Draw hands, forearms and things."""
        draw = Draw(batch, generator)
        betas = draw_betas(self.body, self.people, batch, generator)
        prop = draw_props(draw, PROP_PROBABILITY)
        centre, axes = grasp_place(self.body.rest(betas)[1], prop.radii, generator)
        held = prop.present & draw.chance(HELD_PROBABILITY)[:, 0]
        prop = replace(prop, centre=centre, R=torch.where(held[:, None, None], axes, prop.R))
        pose = self.poses.grasp(betas, replace(prop, present=held), generator)
        params = BodyParams(betas, pose, torch.zeros(batch, 3, device=draw.device))
        posed = self.body(params)
        forearm = self.forearm.build(posed.vertices, draw_forearms(draw))
        rows = (prop.present & ~held).nonzero()[:, 0]
        around = torch.cat([posed.vertices, forearm.vertices], 1)[rows]
        beside = lay_beside(prop.take(rows), posed.vertices[rows], around, Draw(len(rows), generator))
        return Scene(params, posed, prop.put(rows, beside), held, forearm)

    @torch.no_grad()
    def scans(
        self,
        batch: int,
        num_points: int,
        generator: torch.Generator,
        views: tuple[float, ...] | None = None,
    ) -> Samples:
        """Draw hands and scan them.

        Args:
            batch: Number of samples.
            num_points: Points per sample.
            generator: Seeded, on the body's device.
            views: Probabilities of the kinds of scanner (SynthConfig.view_probabilities): ``COMPLETE``, ``ONE_SIDED``,
                or the usual mixture when None.
        """
        scene = self.scenes(batch, generator)
        draw = Draw(batch, generator)
        outer = surface_of(self.body, scene, draw)
        config = self.config if views is None else replace(self.config, view_probabilities=views)
        centre = scene.posed.vertices.mean(1, keepdim=True)
        turn = draw_turns(draw)
        seen = replace(outer, vertices=(outer.vertices - centre) @ turn.mT / HAND_SCALE)
        points, normals, valid = scan_points(seen, num_points, generator, config)
        return Samples(
            points @ turn * HAND_SCALE + centre, normals @ turn, valid, scene.posed.vertices, scene.posed.joints
        )

    @staticmethod
    def box(samples: Samples) -> tuple[Float[Tensor, " B"], Float[Tensor, "B 3"]]:
        """Return scale and centre of the box in which the network sees each sample: the hand's, whatever it holds."""
        every = torch.ones(samples.vertices.shape[:2], dtype=torch.bool, device=samples.vertices.device)
        return unit_box(samples.vertices, every, LARGEST_HALF_EXTENT)


def draw_turns(draw: Draw) -> Float[Tensor, "B 3 3"]:
    """Draw how hands lie before their sensors (Y up): rotations from the palm frame, some flat, palm down or up."""
    anyhow = draw_rotations(draw)
    spin = torch.zeros(draw.batch, 3, device=draw.device)
    spin[:, 1] = draw.uniform(0, 2 * math.pi)[:, 0]
    down = torch.where(draw.chance(0.8), 0.5 * math.pi, -0.5 * math.pi)[:, 0]
    tilt = 0.15 * draw.normal((3,))
    tilt[:, 0] += down  # the palm's normal, +Z, turns to -Y or +Y
    flat = rotvec_to_rotmat(spin) @ rotvec_to_rotmat(tilt)
    return torch.where(draw.chance(FLAT_PROBABILITY)[..., None], flat, anyhow)


def lay_beside(prop: Prop, skin: Float[Tensor, "B V 3"], around: Float[Tensor, "B N 3"], draw: Draw) -> Prop:
    """Move things from afar towards a place on the skin until they touch a hand or lie a little off it.

    Args:
        prop: Things, wherever they are.
        skin: Vertices of the hands.
        around: Vertices of hands and forearms, which a thing must not enter.
        draw: The source of randomness, for as many samples.
    """
    row = draw.uniform(0, skin.shape[1]).long()[..., None].expand(-1, -1, 3)
    place = skin.gather(1, row)[:, 0]
    away = functional.normalize(place - skin.mean(1), dim=-1) + 0.7 * functional.normalize(draw.normal((3,)), dim=-1)
    away = functional.normalize(away, dim=-1)
    gap = (LARGEST_GAP * draw.uniform() ** 2 * draw.chance(0.7))[:, 0]
    distance = torch.full_like(gap, 0.5)
    around = around[:, ::3]
    for _ in range(6):
        # The depth is a lower bound of the distance, so steps of this length never enter.
        here = replace(prop, centre=place + away * distance[:, None])
        distance = distance - (here.depth(around).amin(1) - gap)
    return replace(prop, centre=place + away * distance[:, None])


def surface_of(body: BodyModel, scene: Scene, draw: Draw) -> Outer:
    """Join hand, forearm and prop; skin inside a prop or pressed to it has no surface, nor have absent props."""
    skin = Outer(scene.posed.vertices, body.faces, scene.posed.vertices.new_ones(draw.batch, len(body.faces)).bool())
    flesh = join([skin, scene.forearm])
    free = scene.prop.depth(flesh.vertices) > CONTACT * draw.uniform()
    present = scene.prop.present[:, None]
    # A face counts as free where most of it is.
    covered = present & (free[:, flesh.faces].sum(-1) < 2)
    vertices = torch.where(present[..., None], scene.prop.vertices(), scene.posed.joints[:, :1])
    thing = Outer(vertices, scene.prop.faces, present.expand(-1, len(scene.prop.faces)))
    return join([replace(flesh, face_keep=flesh.face_keep & ~covered), thing])
