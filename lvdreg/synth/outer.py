"""The surface that clothing makes and sensors see."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Outer:
    """The outer surface of a batch of dressed people: points are sampled from its kept faces only.

    Attributes:
        vertices: world frame, metres, Y up.
        faces: one topology for the whole batch, counter-clockwise seen from outside.
        face_keep: False where a face does not exist in this sample (no skirt) or is covered.
    """

    vertices: Float[Tensor, "B N 3"]
    faces: Int[Tensor, "F 3"]
    face_keep: Bool[Tensor, "B F"]
