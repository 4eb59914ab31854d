"""What is painted on: the pixels of one sample, where on the mean person they lie, and their material so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.synth.paint.fabric import Noise
from lvdreg.synth.paint.numbers import Colour, Number, rgb

ARM_RADIUS, LEG_RADIUS, TORSO_RADIUS = 0.045, 0.075, 0.15  # metres; they only scale patterns
_ARM_LENGTH = 0.27


class Ground:
    """Where P pixels of one sample lie: coordinates by name.

    Args:
        columns: what is known, by name.
        noise: random tables.
        in_bulk: whether the pixels are those of many samples: then what is worked out of them is worked out once, for
            all, and nothing is listed whose number would have to be waited for.
    """

    def __init__(self, columns: Mapping[str, Float[Tensor, " P"]], noise: Noise, in_bulk: bool = False) -> None:
        self.noise, self.in_bulk = noise, in_bulk
        self._columns = dict(columns)
        self._source: tuple[Ground, Tensor] | None = None

    def __getitem__(self, name: str) -> Float[Tensor, " P"]:
        """Return one coordinate; of a part of the pixels, each is copied when it is first asked for."""
        if name not in self._columns and self._source is not None:
            whole, rows = self._source
            self._columns[name] = whole[name].index_select(0, rows)
        return self._columns[name]

    def __len__(self) -> int:
        return len(self["x"])

    def take(self, rows: Int[Tensor, " Q"]) -> "Ground":
        """Return some of the pixels."""
        part = Ground({}, self.noise, self.in_bulk)
        part._source = (self, rows)
        return part

    def replace(self, **columns: Float[Tensor, " P"]) -> "Ground":
        """Return the same pixels with other coordinates."""
        return Ground(self._columns | columns, self.noise, self.in_bulk)

    def _whole(self, name: str) -> Tensor | None:
        """Return what the whole knows already of these pixels, if they are a part of a bulk."""
        if self._source is None or not self.in_bulk:
            return None
        whole, rows = self._source
        found: Tensor = getattr(whole, name)
        return found.index_select(0, rows)

    @cached_property
    def on_arm(self) -> Bool[Tensor, " P"]:
        """Whether it is the arm."""
        known = self._whole("on_arm")
        return self["is_arm"] > 0.5 if known is None else known

    @cached_property
    def on_leg(self) -> Bool[Tensor, " P"]:
        """Whether it is a leg."""
        known = self._whole("on_leg")
        return self["is_leg"] > 0.5 if known is None else known

    @cached_property
    def ahead(self) -> Bool[Tensor, " P"]:
        """Whether it is on the front of torso, arm or leg."""
        known = self._whole("ahead")
        return self._axes[1] > 0 if known is None else known

    @cached_property
    def across(self) -> Float[Tensor, " P"]:
        """Distance from the person's middle plane, metres."""
        return self["x"].abs()

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        across = torch.where(self.on_arm, self["arm_up"], torch.where(self.on_leg, self["leg_out"], self["x"]))
        ahead = torch.where(self.on_arm, self["arm_ahead"], torch.where(self.on_leg, self["leg_ahead"], self["ahead"]))
        return across, ahead

    @cached_property
    def u(self) -> Float[Tensor, " P"]:
        """Coordinate of cloth around limb or torso, metres; front and back meet at the sides, as cut cloth does."""
        known = self._whole("u")
        if known is not None:
            return known
        across, ahead = self._axes
        radius = torch.where(self.on_arm, ARM_RADIUS, torch.where(self.on_leg, LEG_RADIUS, TORSO_RADIUS))
        return radius * torch.atan2(across, ahead.abs())

    @cached_property
    def v(self) -> Float[Tensor, " P"]:
        """Coordinate of cloth upwards along limb or torso, metres."""
        return torch.where(self.on_arm, -_ARM_LENGTH * self["arm"], self["y"])

    @cached_property
    def bent(self) -> Float[Tensor, " P"]:
        """Return how near elbow, knee, armpit and groin it is, 0 to 1."""
        known = self._whole("bent")
        if known is not None:
            return known
        elbow = self["is_arm"] * _bump((self["arm"] - 1) / 0.3)
        armpit = 0.5 * _bump((self["is_arm"] - 0.4) / 0.35)
        knee = self["is_leg"] * (_bump((self["leg"] - 1) / 0.3) + 0.7 * _bump((self["leg"] - 1.9) / 0.25))
        groin = 0.5 * _bump((self["is_leg"] - 0.45) / 0.4)
        return torch.maximum(torch.maximum(elbow, armpit), torch.maximum(knee, groin))


def _bump(x: Tensor) -> Tensor:
    return (1 - x.square()).clamp(min=0)


@dataclass
class Canvas:
    """The material of P pixels, changed by painting.

    Attributes:
        at: where they lie.
        albedo: linear colours.
        gloss: strength of highlights.
        relief: heights, metres.
    """

    at: Ground
    albedo: Float[Tensor, "P 3"]
    gloss: Float[Tensor, " P"]
    relief: Float[Tensor, " P"]

    @classmethod
    def plain(cls, at: Ground, colour: Colour, gloss: Number = 0.0) -> "Canvas":
        """Return one colour everywhere, or of every pixel its own."""
        nothing = torch.zeros_like(at["x"])
        return cls(at, rgb(nothing, colour) + nothing[:, None], nothing + gloss, nothing)

    def lay(self, where: Tensor, colour: Colour, strength: Number = 1.0) -> None:
        """Paint a colour where told (Boolean, or a share of coverage)."""
        share = (where * strength)[:, None].to(self.albedo.dtype)
        self.albedo = torch.lerp(self.albedo, rgb(self.albedo, colour), share)

    def darken(self, where: Tensor, strength: Number) -> None:
        """Darken where told by a share."""
        self.albedo = self.albedo * (1 - strength * where)[:, None]

    def shine(self, where: Tensor, gloss: Number) -> None:
        """Set the strength of highlights where told."""
        self.gloss = torch.where(where, gloss, self.gloss)

    def show(self, where: Tensor, other: "Canvas") -> None:
        """Show another canvas of the same pixels where told."""
        self.albedo = torch.where(where[:, None], other.albedo, self.albedo)
        self.gloss = torch.where(where, other.gloss, self.gloss)
        self.relief = torch.where(where, other.relief, self.relief)

    def raise_by(self, where: Tensor, height: Number) -> None:
        """Lift the surface where told, metres."""
        self.relief = self.relief + height * where
