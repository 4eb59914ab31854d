"""Synthetic characters: random people in random clothes of random colours, ready for a camera or a scanner."""

from copy import copy

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lvdreg.base import devices
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.synth.appearance import Appearance
from lvdreg.synth.clothes.layers import Dressed
from lvdreg.synth.draw import Draw
from lvdreg.synth.scans import SynthStream
from lvdreg.synth.subjects import Subjects

# What hangs on these joints belongs to them: fingers to the hand, jaw and eyes to the head.
_WHOLE = ("left_wrist", "right_wrist", "head")
WEARERS_AT_ONCE = 64
"""Of bands, on a GPU: the distances of their rings take 13 MB each."""


class Characters:
    """Draws clothed, coloured people; the same generator state gives the same people.

    Args:
        body: The body; its joint names tell the parts.
    """

    def __init__(self, body: BodyModel) -> None:
        self.body = body
        self.stream = SynthStream(body)
        self.wardrobe = self.stream.wardrobe.for_street()
        self.appearance = Appearance(body, self.wardrobe)
        self.labels = part_labels(body.data).to(body.faces.device)

    def wearing(self, garment: str) -> "Characters":
        """Return the same people, all of them in one kind of garment that falls around the legs (``HANGING``)."""
        one = copy(self)
        one.wardrobe = self.wardrobe.only(garment)
        return one

    @torch.no_grad()
    def draw(self, batch: int, generator: torch.Generator) -> Subjects:
        """Draw people of all shapes in all poses, dress and colour them."""
        return self.dress(self.stream.params(batch, generator), generator)

    @torch.no_grad()
    def dress(self, params: BodyParams, generator: torch.Generator) -> Subjects:
        """Dress and colour people; equal generators give the same clothes in all poses and shapes."""
        posed = self.body(params)
        dressed = self.wardrobe.outfit(posed.vertices, generator)
        texture = self.appearance.draw(dressed, Draw(len(params.pose), generator))
        index = self._naked(posed.vertices, dressed)
        return Subjects(
            outer=dressed.outer,
            texture=texture,
            labels=self.labels[index],
            rest=self.body.v_template[index],
            params=params,
            vertices=posed.vertices,
            joints=posed.joints,
        )

    def _naked(self, vertices: Tensor, dressed: Dressed) -> Int[Tensor, "B N"]:
        """Return the naked vertex of each outer one: itself, or for a band's the nearest on torso and legs."""
        count, inside = vertices.shape[1], self.wardrobe.regions.lower_body
        own = torch.arange(dressed.outer.vertices.shape[1], device=vertices.device).repeat(len(vertices), 1)
        own[:, count:] = inside[0]  # Rings that do not exist: anything.
        wearers = dressed.places["wears_band"][:, 0].nonzero()[:, 0]
        for rows in wearers.split(WEARERS_AT_ONCE if devices.in_bulk(vertices.device) else 1):
            candidates, rings = vertices[rows][:, inside], dressed.outer.vertices[rows, count:]
            # The square of the distance less what all candidates have in common: one product, no differences.
            closeness = torch.baddbmm(candidates.square().sum(-1)[:, None], rings, candidates.mT, beta=-0.5)
            own[rows, count:] = inside[closeness.argmax(-1)]
        return own


def part_labels(data: BodyData) -> Int[Tensor, " V"]:
    """Return the joint that moves each vertex most; what hangs on wrists and head counts as theirs."""
    whole = [data.joint_names.index(name) for name in _WHOLE if name in data.joint_names]
    owner = np.arange(len(data.parents))
    for joint, parent in enumerate(data.parents):
        if joint > 0 and owner[parent] in whole:
            owner[joint] = owner[parent]
    shares = np.zeros_like(data.weights)
    np.add.at(shares.T, owner, data.weights.T)
    return torch.from_numpy(shares.argmax(1))
