"""The surface that sensors see: a body in its clothes, or a hand with its forearm and what it holds."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Outer:
    """The outer surface of a batch of dressed people or hands: points are sampled from its kept faces only.

    Attributes:
        vertices: world frame, metres; Y up for people.
        faces: one topology for the whole batch, counter-clockwise seen from outside.
        face_keep: False where a face does not exist in this sample (no skirt) or is covered.
    """

    vertices: Float[Tensor, "B N 3"]
    faces: Int[Tensor, "F 3"]
    face_keep: Bool[Tensor, "B F"]


def join(parts: list[Outer]) -> Outer:
    """Return several surfaces of the same samples as one; vertices and faces follow each other in the given order."""
    counts = [0, *(part.vertices.shape[1] for part in parts[:-1])]
    first = torch.tensor(counts, device="cpu").cumsum(0).tolist()
    return Outer(
        torch.cat([part.vertices for part in parts], 1),
        torch.cat([part.faces + start for part, start in zip(parts, first, strict=True)]),
        torch.cat([part.face_keep for part in parts], 1),
    )


def tube_faces(rings: int, angles: int) -> Int[Tensor, "F 3"]:
    """Return the triangles of a tube of rings, counted from 0 ring by ring.

    They face outwards where a ring runs counter-clockwise seen from the tube's far end.
    """
    row = torch.arange(rings - 1, device="cpu")[:, None] * angles
    now = torch.arange(angles, device="cpu")
    following = (now + 1) % angles
    a, b, c, d = row + now, row + following, row + angles + now, row + angles + following
    return torch.cat([torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([b, d, c], -1).reshape(-1, 3)])
