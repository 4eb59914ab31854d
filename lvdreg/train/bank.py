"""Photos that are drawn once and kept in memory: for what looks at the same ones again and again."""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from lvdreg.base import devices
from lvdreg.synth.photos import Photos, joined
from lvdreg.train.photos import PhotoSource

PartT = TypeVar("PartT")
AT_ONCE, IN_BULK = 8, 512
"""Photos drawn at once, on a CPU and on what likes large operations."""


@dataclass(frozen=True)
class Numbered(Photos):
    """Photos of a bank.

    Attributes:
        numbers: Which ones they are.
    """

    numbers: Int[Tensor, " B"] = field(kw_only=True)


class PhotoBank:
    """Photos by number, and drawn from at random as a source of photos; pictures in half precision."""

    def __init__(self, photos: Photos) -> None:
        """Keep photos."""
        self.kept = replace(photos, image=photos.image.half(), mask=photos.mask.half())

    @classmethod
    def drawn(cls, source: PhotoSource, count: int, device: torch.device, seed: int = 0) -> "PhotoBank":
        """Draw so many photos from a source; the same seed gives the same ones."""
        parts, at_once = [], IN_BULK if devices.in_bulk(device) else AT_ONCE
        for number, first in enumerate(range(0, count, at_once)):
            generator = torch.Generator(device=device).manual_seed(seed + number)
            photos = source.photos(min(at_once, count - first), generator)
            parts.append(replace(photos, image=photos.image.half(), mask=photos.mask.half()))
        return cls(joined(parts))

    def __len__(self) -> int:
        """How many they are."""
        return len(self.kept.image)

    def picked(self, numbers: Int[Tensor, " B"]) -> Numbered:
        """Return photos by number."""
        photos = rows_of(self.kept, numbers)
        return Numbered(**{item.name: getattr(photos, item.name) for item in fields(photos)}, numbers=numbers)

    def photos(self, batch: int, generator: torch.Generator) -> Photos:
        """Return some of the photos; equal generators give equal ones."""
        return self.picked(torch.randint(len(self), (batch,), generator=generator, device=generator.device))


def rows_of(part: PartT, rows: Int[Tensor, " B"]) -> PartT:
    """Return rows of a tensor, or of all tensors in a data class, in single precision; anything else is left alone."""
    if isinstance(part, Tensor):
        return part.index_select(0, rows).float()  # type: ignore[return-value]
    if not is_dataclass(part) or isinstance(part, type):
        return part
    return replace(part, **{item.name: rows_of(getattr(part, item.name), rows) for item in fields(part)})
