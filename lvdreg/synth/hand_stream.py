"""Training samples: scanned synthetic hands with what hangs on them and what they hold, and the hands beneath.

World frame: the canonical palm frame, metres. Which way a hand lies in space is of no use to the network, which is
given hands upright; but sensors look at hands from everywhere, so they see them turned at random.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.body.model import BodyModel, BodyParams, Posed
from lvdreg.config import HAND_SCALE, SynthConfig
from lvdreg.geometry import vertex_normals
from lvdreg.normalise import unit_box
from lvdreg.synth.draw import Draw
from lvdreg.synth.forearm import Forearm, draw_forearms
from lvdreg.synth.hand_poses import HandPoseSampler
from lvdreg.synth.outer import Outer, join
from lvdreg.synth.props import Prop, draw_props, draw_rotations
from lvdreg.synth.sensors import scan_points
from lvdreg.synth.stream import Samples, draw_betas

COMPLETE, ONE_SIDED = (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)
"""Probabilities of views: the whole surface, or what one camera sees."""
PROP_PROBABILITY = 0.5
LARGEST_GAP = 0.05
"""How far off the hand a thing may lie that it does not hold, metres."""
LARGEST_HALF_EXTENT = 0.8
"""Half of the longest side of a hand's bounding box in training, before play makes it smaller: about the compass's."""
CONTACT = 0.002
"""Skin so close to a thing (metres, at most) is not seen by any scanner."""


@dataclass(frozen=True)
class Scene:
    """Hands and what is with them, before they are scanned.

    Attributes:
        params: The hands' parameters.
        posed: The hands, canonical palm frame.
        prop: Things held, or lying about.
        forearm: Forearms and sleeves.
    """

    params: BodyParams
    posed: Posed
    prop: Prop
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
        pose = self.poses.sample(betas, generator)
        params = BodyParams(betas, pose, torch.zeros(batch, 3, device=draw.device))
        posed = self.body(params)
        forearm = self.forearm.build(posed.vertices, draw_forearms(draw))
        around = torch.cat([posed.vertices, forearm.vertices], 1)
        prop = lay_beside(draw_props(draw, PROP_PROBABILITY), posed.vertices, self._normals(posed), around, draw)
        return Scene(params, posed, prop, forearm)

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
        turn = draw_rotations(draw)  # R_sensor_palm
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

    def _normals(self, posed: Posed) -> Float[Tensor, "B V 3"]:
        return vertex_normals(posed.vertices, self.body.faces)


def lay_beside(
    prop: Prop,
    skin: Float[Tensor, "B V 3"],
    normals: Float[Tensor, "B V 3"],
    around: Float[Tensor, "B N 3"],
    draw: Draw,
) -> Prop:
    """Move things from afar towards a place on the skin until they touch a hand or lie a little off it.

    Args:
        prop: Things, wherever they are.
        skin: Vertices of the hands.
        normals: Their outward normals.
        around: All vertices that a thing must not enter.
        draw: The source of randomness.
    """
    row = draw.uniform(0, skin.shape[1]).long()[..., None].expand(-1, -1, 3)
    place, normal = skin.gather(1, row)[:, 0], normals.gather(1, row)[:, 0]
    away = torch.nn.functional.normalize(normal + 0.5 * draw.normal((3,)), dim=-1)
    gap = (LARGEST_GAP * draw.uniform() ** 2)[:, 0] * draw.chance(0.7)[:, 0]
    distance = torch.full_like(gap, 0.5)
    for _ in range(8):
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
