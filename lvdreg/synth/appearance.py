"""How dressed people look: colours of skin, hair and cloth at every pixel, from where on the mean person it lies.

All is computed from coordinates on the mean person (and around the rings of a band), so there are no seams, no images
and no files, and a character looks the same in every pose. Borders of garments are decided at each pixel, which makes
them sharp however coarse the mesh is. Pixels are coloured sample by sample: measures are then plain numbers, a
character pays only for what it wears, and what is worked on stays in the processor's cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lvdreg.body.model import BodyModel
from lvdreg.synth.clothing import Dressed, Wardrobe
from lvdreg.synth.draw import Draw
from lvdreg.synth.subjects import Material, Pixels, Texture

T = TypeVar("T")
_DICE = 256


class Dice:
    """Random numbers of one sample, used up one after another."""

    def __init__(self, values: list[float]) -> None:
        self._values = iter(values)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw evenly from [low, high)."""
        return low + (high - low) * next(self._values)

    def chance(self, probability: float) -> bool:
        """Draw True with a probability."""
        return next(self._values) < probability

    def pick(self, options: Sequence[T]) -> T:
        """Draw one of some options."""
        return options[min(int(next(self._values) * len(options)), len(options) - 1)]


class Appearance:
    """Colours dressed people at random.

    Args:
        body: the body.
        wardrobe: dresses it.
    """

    def __init__(self, body: BodyModel, wardrobe: Wardrobe) -> None:
        w = wardrobe.regions
        columns = {
            "height": w.height, "arm": w.arm, "leg": w.leg, "is_arm": w.is_arm, "is_leg": w.is_leg,
            "is_head": w.is_head, "front": w.front, "hairline": w.hairline, "neck_back": w.neck_back,
        }  # fmt: skip
        self.columns = {name: 3 + i for i, name in enumerate(columns)} | {"x": 0, "y": 1, "z": 2}
        self.table = torch.cat([body.v_template, torch.stack(list(columns.values()), 1)], 1)

    def draw(self, dressed: Dressed, draw: Draw) -> Texture:
        """Draw colours for every sample of a batch."""
        dice = draw.uniform(shape=(_DICE,)).tolist()
        places = {name: value.tolist() for name, value in dressed.places.items()}
        looks = [
            _draw_look({name: value[i][0] for name, value in places.items()}, Dice(dice[i])) for i in range(len(dice))
        ]
        band = self.table.new_zeros(dressed.outer.vertices.shape[1] - len(self.table), self.table.shape[1])
        return _Texture(torch.cat([self.table, band]), len(self.table), self.columns, looks)


@dataclass(frozen=True)
class _Look:
    """One character: measures and colours."""

    places: dict[str, float]
    colours: dict[str, tuple[float, float, float]]


def _draw_look(places: dict[str, float], dice: Dice) -> _Look:
    """Draw the colours of one character."""
    skin = dice.pick(((0.65, 0.42, 0.31), (0.5, 0.29, 0.19), (0.25, 0.13, 0.08), (0.12, 0.06, 0.035)))
    hair = dice.pick(((0.01, 0.008, 0.006), (0.05, 0.025, 0.012), (0.35, 0.2, 0.08), (0.3, 0.3, 0.3)))
    colours = {"skin": skin, "hair": hair}
    for name in ("top", "bottom", "shoe", "hat"):
        grey = dice.uniform(0.02, 0.7)
        colours[name] = (grey * dice.uniform(0.5, 1.2), grey * dice.uniform(0.5, 1.2), grey * dice.uniform(0.5, 1.2))
    return _Look(places, colours)


@dataclass(frozen=True)
class _Texture:
    """The looks of a batch; see Texture."""

    table: Float[Tensor, "N C"]
    num_skin: int
    columns: dict[str, int]
    looks: list[_Look]

    @torch.no_grad()
    def __call__(self, pixels: Pixels) -> Material:
        order = torch.argsort(pixels.sample, stable=True)
        counts = torch.bincount(pixels.sample, minlength=len(self.looks)).tolist()
        albedo = self.table.new_zeros(len(order), 3)
        for look, rows in zip(self.looks, order.split(counts), strict=True):
            if len(rows):
                albedo[rows] = self._paint(look, pixels.corners[rows], pixels.bary[rows])
        return Material(albedo, albedo.new_zeros(len(order)), albedo.new_zeros(len(order)))

    def _paint(self, look: _Look, corners: Tensor, bary: Tensor) -> Float[Tensor, "P 3"]:
        seen = functional.embedding_bag(corners, self.table, mode="sum", per_sample_weights=bary.to(self.table.dtype)).T
        place, at = look.places, {name: seen[column] for name, column in self.columns.items()}
        arm, head = at["is_arm"] > 0.5, at["is_head"] > 0.5
        torso = (at["height"] > place["waist"] - 0.15) & (at["height"] < place["neck"] - 0.12 * at["front"])
        top = torch.where(arm, at["arm"] < place["sleeve"], torso) & (place["top"] > 0) & ~head
        band = corners[:, 0] >= self.num_skin
        bottom = ~arm & (at["height"] < place["waist"]) & (at["leg"] < place["leg"])
        zones = {
            "bottom": bottom,
            "top": top | band,
            "shoe": (at["leg"] > place["shaft"]) & (at["is_leg"] > 0.5) & (place["wears_shoes"] > 0),
            "hair": head & (at["hairline"] > place["hair_start"]),
        }
        zone = torch.zeros(len(corners), dtype=torch.int64, device=corners.device)
        for i, mask in enumerate(zones.values(), 1):
            zone[mask] = i
        return self.table.new_tensor([look.colours[name] for name in ("skin", *zones)])[zone]
