"""People ready to be photographed or scanned: an outer surface, how it looks, and the naked body that is the truth.

Synthetic characters (characters.py) and reposed scans (augment/repose/bound.py) both end here; renderer and sensors
begin here.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.body.model import BodyParams
from lvdreg.synth.surface import Outer


@dataclass(frozen=True)
class Pixels:
    """What P pixels see: a place on a face of one of the samples of a batch.

    Attributes:
        sample: Which sample of the batch.
        corners: The outer vertices whose mixture is seen.
        bary: Their weights, perspective-correct.
    """

    sample: Int[Tensor, " P"]
    corners: Int[Tensor, "P 3"]
    bary: Float[Tensor, "P 3"]

    def read(self, values: Float[Tensor, "B N C"]) -> Float[Tensor, "P C"]:
        """Interpolate what every outer vertex of every sample has."""
        rows = self.corners + self.sample[:, None] * values.shape[1]
        return functional.embedding_bag(rows, values.flatten(0, 1), per_sample_weights=self.bary, mode="sum")

    def read_shared(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "P C"]:
        """Interpolate what the outer vertices of all samples have in common."""
        # On a CPU seven times as fast as to gather, multiply and sum.
        return functional.embedding_bag(self.corners, values, per_sample_weights=self.bary, mode="sum")


@dataclass(frozen=True)
class Material:
    """How the surface looks at P pixels.

    Attributes:
        albedo: Linear red, green, blue, 0 to 1.
        gloss: Strength of highlights, 0 (cloth) to 1 (patent leather).
        relief: Height of fine structure above the surface, metres.
    """

    albedo: Float[Tensor, "P 3"]
    gloss: Float[Tensor, " P"]
    relief: Float[Tensor, " P"]


@runtime_checkable
class Texture(Protocol):
    """Says how the outer surfaces of a batch look."""

    def __call__(self, pixels: Pixels) -> Material:
        """Return the material at pixels; no gradients."""
        ...


@dataclass(frozen=True)
class _Chosen:
    """The texture of some samples of a batch, any of them more than once."""

    texture: Texture
    rows: Int[Tensor, " M"]

    def __call__(self, pixels: Pixels) -> Material:
        return self.texture(replace(pixels, sample=self.rows[pixels.sample]))


@dataclass(frozen=True)
class Subjects:
    """A batch of people, world frame, metres, Y up.

    Attributes:
        outer: What is seen of them.
        texture: How it looks.
        labels: The part of the body that each outer vertex belongs to: the joint that moves it most.
        rest: Where on the mean person at rest each outer vertex lies, metres: dense correspondence.
        params: Pose and shape of the naked body.
        vertices: The naked body's vertices.
        joints: Its joints.
    """

    outer: Outer
    texture: Texture
    labels: Int[Tensor, "B N"]
    rest: Float[Tensor, "B N 3"]
    params: BodyParams
    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 3"]

    def repeated(self, times: int) -> "Subjects":
        """Return every person ``times`` times in a row, for as many views of each."""
        batch = torch.arange(len(self.vertices), device=self.vertices.device)
        return self.chosen(batch.repeat_interleave(times))

    def chosen(self, rows: Int[Tensor, " M"]) -> "Subjects":
        """Return some of the people, any of them more than once."""
        displacements = None if self.params.displacements is None else self.params.displacements[rows]
        return Subjects(
            replace(self.outer, vertices=self.outer.vertices[rows], face_keep=self.outer.face_keep[rows]),
            _Chosen(self.texture, rows),
            self.labels[rows],
            self.rest[rows],
            BodyParams(self.params.betas[rows], self.params.pose[rows], self.params.transl[rows], displacements),
            self.vertices[rows],
            self.joints[rows],
        )
