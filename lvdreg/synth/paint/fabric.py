"""Cloth: colours, patterns, weave and wrinkles over two coordinates in metres; no images and no files.

``u`` runs around a limb or the torso, ``v`` upwards along it. Smooth noise comes from one small periodic table of fixed
random numbers (a basis, not a sample), read bilinearly.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.synth.choice import RandomChoice
from lvdreg.synth.paint.numbers import Colour, Mixed, Number, Rgb, blend, rgb, shade, some

_TABLE, _WAVELENGTH = 256, 16  # texels; the table holds 16 x 16 features
_STATIC = 512

# Colours of cloth, sRGB.
_PALETTE = {
    "black": "17171a", "charcoal": "333438", "grey": "77787c", "silver": "b4b5b8", "white": "ededeb", "cream": "e5dcc6",
    "navy": "1e2740", "blue": "2f55a0", "sky": "8fb4d8", "denim": "3d5a80", "teal": "1f6f75", "mint": "a3cdbb",
    "green": "2f7a48", "forest": "213f2e", "olive": "60603a", "khaki": "a3946f", "beige": "cdb899", "tan": "a9825a",
    "brown": "5a3d2a", "burgundy": "5d1d2b", "red": "b3282d", "rust": "a5502c", "orange": "dc7a2a", "yellow": "e2be45",
    "pink": "dfa0ad", "magenta": "b23a72", "purple": "58397a", "lilac": "b09fc9",
}  # fmt: skip
_BRIGHT = dict.fromkeys(_PALETTE, 1.0)
_MUTED = {"black": 6, "white": 5, "grey": 3, "charcoal": 3, "navy": 3, "silver": 2, "cream": 1.5}
# What colours garments of each slot have, by weight.
COLOURS: dict[str, dict[str, float]] = {
    "top": _BRIGHT | _MUTED,
    "bottom": {
        "black": 7, "charcoal": 4, "navy": 5, "grey": 3, "khaki": 3, "beige": 2, "olive": 2, "brown": 1.5, "white": 1.5,
        "cream": 1, "forest": 0.7, "burgundy": 0.7, "sky": 0.6, "silver": 1, "pink": 0.4, "red": 0.4,
    },
    "shoe": {"black": 6, "white": 6, "brown": 4, "grey": 2, "navy": 1.5, "tan": 2.5, "red": 0.7, "blue": 0.7},
    "gown": _BRIGHT | {"black": 5, "white": 3, "red": 2, "navy": 2},
    "accent": _BRIGHT | {"white": 8, "black": 4, "red": 3, "yellow": 2},
}  # fmt: skip


def linear(hexadecimal: str) -> Rgb:
    """Return the linear colour of six hexadecimal sRGB digits."""
    parts = [int(hexadecimal[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return r, g, b


def cloth_colour(choice: RandomChoice, slot: str) -> Rgb:
    """Draw a colour for a garment: one of the palette, a little lighter or darker, and a little off in hue."""
    r, g, b = linear(_PALETTE[choice.weighted(COLOURS[slot])])
    light, hue, tint = math.exp(choice.uniform(-0.35, 0.3)), choice.uniform(-0.12, 0.12), choice.uniform(-0.08, 0.08)
    return min(r * light * (1 + hue), 0.8), min(g * light * (1 + tint), 0.8), min(b * light * (1 - hue), 0.8)


class Noise:
    """Fixed random tables on one device.

    Args:
        device: where they live.
    """

    def __init__(self, device: torch.device) -> None:
        rng = np.random.default_rng(5)  # fixed: a basis, not a sample
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_TABLE), np.fft.fftfreq(_TABLE)))
        gain = np.exp(-0.5 * ((frequency * _WAVELENGTH - 1) / 0.35) ** 2)
        fields = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(_TABLE, _TABLE))) * gain).real for _ in range(3)]
        smooth = np.stack([field / field.std() for field in fields]).clip(-3, 3)
        wrapped = np.pad(smooth, ((0, 0), (0, 1), (0, 1)), mode="wrap").astype(np.float32)
        self.smooth_table = torch.from_numpy(wrapped)[None].to(device)
        static = rng.normal(size=_STATIC * _STATIC).clip(-2, 2).astype(np.float32)
        self.static_table = torch.from_numpy(static).to(device)

    def smooth(
        self, u: Float[Tensor, " P"], v: Float[Tensor, " P"], along_u: Number, along_v: Number, which: int = 0
    ) -> Float[Tensor, " P"]:
        """Return smooth noise of unit variance with features of the given lengths, metres; several are independent."""
        grid = torch.stack([_wrap(u / (along_u * 16)), _wrap(v / (along_v * 16))], -1)
        table = self.smooth_table[:, which : which + 1]
        return functional.grid_sample(table, grid[None, None], align_corners=True)[0, 0, 0]

    def static(self, u: Float[Tensor, " P"], v: Float[Tensor, " P"], size: Number) -> Float[Tensor, " P"]:
        """Return white noise of unit variance in cells of a size, metres."""
        return self.static_table[self.cells(u, v, size)]

    @staticmethod
    def cells(u: Float[Tensor, " P"], v: Float[Tensor, " P"], size: Number) -> Int[Tensor, " P"]:
        """Return the number of the square cell in which each place lies; far cells share numbers."""
        column, row = (u / size).floor().long(), (v / size).floor().long()
        return (column & (_STATIC - 1)) + (row & (_STATIC - 1)) * _STATIC


def _wrap(turns: Tensor) -> Tensor:
    return 2 * (turns - turns.floor()) - 1


@dataclass(frozen=True)
class Fabric(Mixed):
    """One cloth; of several that are painted together, numbers and colours are those of every pixel.

    Attributes:
        pattern: a name of PATTERNS.
        colours: linear; patterns use as many as they have.
        scale: size of the pattern, metres.
        duty: a free number of the pattern, 0 to 1.
        grain: how much threads differ in colour.
        gloss: strength of highlights.
        rib: height of knitted ribs, metres.
        fold: height of wrinkles, metres.
        crease: length of wrinkles, metres.
        wear: how far it is bleached where it stands out.
    """

    pattern: str
    colours: tuple[Colour, ...]
    scale: Number = 0.03
    duty: Number = 0.5
    grain: Number = 0.04
    gloss: Number = 0.03
    rib: Number = 0.0
    fold: Number = 0.0015
    crease: Number = 0.05
    wear: Number = 0.0

    def padded(self, count: int = 4) -> "Fabric":
        """Return the same cloth with so many colours, the last one repeated: patterns of one name look alike then."""
        return replace(self, colours=(self.colours + self.colours[-1:] * count)[:count])


def weave(
    fabric: Fabric, u: Float[Tensor, " P"], v: Float[Tensor, " P"], noise: Noise
) -> tuple[Float[Tensor, "P 3"], Float[Tensor, " P"]]:
    """Return colours and heights of the cloth's own structure (metres)."""
    albedo = PATTERNS[fabric.pattern](fabric, u, v, noise)
    if some(fabric.grain):
        albedo = albedo * (1 + fabric.grain * noise.static(u, v, 0.004))[:, None]
    height = torch.zeros_like(u)
    if some(fabric.rib):
        height = fabric.rib * torch.cos(u * (2 * math.pi / 0.012))
        albedo = albedo * (1 + 60 * height)[:, None]
    return albedo, height


def folds(
    fabric: Fabric, u: Float[Tensor, " P"], v: Float[Tensor, " P"], bent: Float[Tensor, " P"], noise: Noise
) -> Float[Tensor, " P"]:
    """Return the height of wrinkles, metres: long soft ones, and rings around the limb where it bends (0 to 1)."""
    length = fabric.crease
    where = noise.smooth(u, v, 0.16, 0.16, 2)
    soft = noise.smooth(u + 0.6 * v + 0.03 * where, v - 0.3 * u, 0.9 * length, 2.2 * length) * (0.6 + 0.5 * where)
    rings = noise.smooth(u, v + 0.25 * u, 3.5 * length, 0.55 * length, 1)
    sharp = 1 - (rings.square() + 0.1).sqrt()
    return fabric.fold * (0.55 * soft + bent * sharp)


def plain(choice: RandomChoice, slot: str, colour: Rgb | None = None) -> Fabric:
    """Draw a cloth of one colour."""
    return Fabric(
        choice.weighted({"plain": 3.0, "heather": 1.0}),
        (colour or cloth_colour(choice, slot),),
        duty=choice.uniform(),
        grain=choice.uniform(0.0, 0.08),
        gloss=choice.uniform(0.0, 0.06),
        fold=choice.uniform(0.0003, 0.0026),
        crease=choice.uniform(0.045, 0.11),
    )


def any_fabric(choice: RandomChoice, slot: str) -> Fabric:
    """Draw a cloth with any pattern, often none."""
    pattern = choice.weighted(_PATTERN_WEIGHTS)
    low, high = _SCALES.get(pattern, (0.02, 0.06))
    colours = tuple(cloth_colour(choice, slot if i == 0 else "accent") for i in range(4))
    if choice.chance(0.4):  # Tone in tone.
        colours = (colours[0], *(shade(colours[0], choice.uniform(0.35, 2.2)) for _ in range(3)))
    return Fabric(
        pattern,
        colours,
        scale=low * (high / low) ** choice.uniform(),
        duty=choice.uniform(0.15, 0.85),
        grain=choice.uniform(0.0, 0.07),
        gloss=choice.uniform(0.0, 0.06),
        fold=choice.uniform(0.0003, 0.0026),
        crease=choice.uniform(0.045, 0.11),
    )


def denim(choice: RandomChoice) -> Fabric:
    """Draw denim: blue, black or grey, worn."""
    blues = {"25344f": 3.0, "35527c": 4.0, "5f80a8": 3.0, "9ab2cc": 1.5, "1d1e22": 2.5, "6d6f74": 1.0}
    colour = linear(choice.weighted(blues))
    return Fabric(
        "denim",
        (shade(colour, math.exp(choice.uniform(-0.2, 0.2))), blend(colour, (0.6, 0.65, 0.7), 0.4)),
        grain=choice.uniform(0.02, 0.05),
        gloss=0.01,
        fold=choice.uniform(0.0008, 0.0028),
        crease=choice.uniform(0.05, 0.09),
        wear=choice.uniform(0, 0.9) ** 1.5,
    )


def knit(choice: RandomChoice, slot: str) -> Fabric:
    """Draw knitted wool with ribs."""
    base = plain(choice, slot)
    return Fabric(
        choice.weighted({"heather": 2.0, "stripes": 1.0}),
        (base.colours[0], cloth_colour(choice, "accent")),
        scale=choice.uniform(0.05, 0.25),
        duty=choice.uniform(0.3, 0.7),
        grain=0.06,
        gloss=0.0,
        rib=choice.uniform(0.0006, 0.0018),
        fold=choice.uniform(0.0008, 0.002),
        crease=choice.uniform(0.05, 0.09),
    )


def leather(choice: RandomChoice, colour: Rgb) -> Fabric:
    """Draw leather or coated cloth."""
    return Fabric(
        "plain",
        (colour,),
        grain=0.03,
        gloss=choice.uniform(0.15, 0.6),
        fold=choice.uniform(0.0004, 0.002),
        crease=0.035,
    )


def _picked(like: Tensor, colours: tuple[Colour, ...], index: Int[Tensor, " P"]) -> Float[Tensor, "P 3"]:
    """Return one of some colours for each pixel."""
    if not isinstance(colours[0], Tensor):
        return like.new_tensor(colours)[index]
    table = torch.stack([rgb(like, colour) for colour in colours], 1)
    return table.gather(1, index[:, None, None].expand(-1, 1, 3))[:, 0]


def _two(share: Tensor, first: Colour, second: Colour) -> Float[Tensor, "P 3"]:
    return torch.lerp(rgb(share, first), rgb(share, second), share[:, None])


def _frac(x: Tensor) -> Tensor:
    return x - x.floor()


def _plain(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    return rgb(u, f.colours[0]).expand(len(u), 3)


def _heather(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    speckle = 1 + (0.04 + 0.12 * f.duty**2) * noise.static(u, v, 0.005) + 0.04 * noise.smooth(u, v, 0.02, 0.02, 2)
    return rgb(u, f.colours[0]) * speckle[:, None]


def _denim(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    speckle = 0.05 * noise.static(u, v, 0.004) + 0.05 * noise.smooth(u, v, 0.015, 0.07, 2)
    return _two((0.25 + speckle).clamp(0, 1), *f.colours[:2])


def _stripes(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    return _two((_frac(v / f.scale) < 0.15 + 0.5 * f.duty).float(), *f.colours[:2])


def _pinstripes(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    return _two((_frac(u / f.scale) < 0.08 + 0.5 * f.duty**3).float(), *f.colours[:2])


def _blocks(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    return _picked(u, f.colours, (v / (6 * f.scale) + f.duty).floor().long() % 3)


def _gingham(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    dark = (_frac(u / f.scale) < 0.5).float() + (_frac(v / f.scale) < 0.5).float()
    return _two(0.5 * dark, f.colours[0], shade(f.colours[1], 1.2))


def _tartan(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    edges, last = (0.3, 0.36, 0.42, 0.48, 0.78), 0.82 + 0.1 * f.duty
    order = torch.tensor([0, 1, 0, 1, 0, 2, 3], device=u.device)

    def threads(x: Tensor) -> Tensor:
        place = _frac(x / (3 * f.scale))
        return _picked(u, f.colours, order[torch.bucketize(place, u.new_tensor(edges), right=True) + (place >= last)])

    return 0.5 * (threads(u) + threads(v))


def _dots(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    row = v / f.scale
    across = _frac(u / f.scale + 0.5 * (row.floor() % 2)) - 0.5
    inside = across.square() + (_frac(row) - 0.5).square() < (0.12 + 0.25 * f.duty) ** 2
    return _two(inside.float(), *f.colours[:2])


def _camouflage(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    fields = [noise.smooth(u, v, 2 * f.scale, f.scale, i) > 0.35 for i in range(3)]
    out = rgb(u, f.colours[0]).expand(len(u), 3)
    for colour, field in zip(f.colours[1:], fields, strict=False):
        out = torch.where(field[:, None], rgb(u, colour), out)
    return out


def _floral(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    cell = noise.cells(u, v, f.scale)
    chance = noise.static_table[cell]
    across = _frac(u / f.scale) - 0.5 + 0.08 * chance
    along = _frac(v / f.scale) - 0.5 + 0.08 * noise.static_table[cell ^ 77]
    petals = 0.22 + 0.05 * chance + 0.09 * torch.cos(5 * torch.atan2(along, across) + 9 * chance)
    radius = torch.hypot(across, along)
    leaf = noise.smooth(u, v, 0.5 * f.scale, 0.5 * f.scale) > 1.1
    kind = torch.where(radius < petals, 1 + (chance > 0.3).long(), 3 * leaf.long())
    return _picked(u, f.colours, torch.where(radius < 0.07, 3, kind))


def _tie_dye(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    share = 0.5 + 0.5 * noise.smooth(u, v, 3 * f.scale, 3 * f.scale)
    return _two(share.clamp(0, 1), *f.colours[:2])


def _fade(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    return _two((v / 0.6 + f.duty).clamp(0, 1), *f.colours[:2])


def _chevron(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    place = v / f.scale + (2 * _frac(u / (2 * f.scale)) - 1).abs()
    return _two((_frac(place) < 0.5).float(), *f.colours[:2])


def _argyle(f: Fabric, u: Tensor, v: Tensor, noise: Noise) -> Tensor:
    a, b = u / f.scale, 0.6 * v / f.scale
    kind = (_frac((a + b) / 2) < 0.5).long() + 2 * (_frac((a - b) / 2) < 0.5).long()
    return _picked(u, f.colours, torch.tensor([0, 1, 2, 0], device=u.device)[kind])


Pattern = Callable[[Fabric, Tensor, Tensor, Noise], Tensor]
PATTERNS: dict[str, Pattern] = {
    "plain": _plain, "heather": _heather, "denim": _denim, "stripes": _stripes, "pinstripes": _pinstripes,
    "blocks": _blocks, "gingham": _gingham, "tartan": _tartan, "dots": _dots, "camouflage": _camouflage,
    "floral": _floral, "tie-dye": _tie_dye, "fade": _fade, "chevron": _chevron, "argyle": _argyle,
}  # fmt: skip
_PATTERN_WEIGHTS = {
    "plain": 8.0, "heather": 4.0, "stripes": 3.0, "pinstripes": 1.5, "blocks": 1.2, "gingham": 1.5, "tartan": 1.5,
    "dots": 1.0, "camouflage": 0.6, "floral": 1.5, "tie-dye": 0.6, "fade": 0.7, "chevron": 0.4, "argyle": 0.3,
}  # fmt: skip
_SCALES = {
    "stripes": (0.012, 0.12), "pinstripes": (0.012, 0.06), "gingham": (0.012, 0.06), "tartan": (0.02, 0.06),
    "dots": (0.015, 0.06), "camouflage": (0.025, 0.06), "floral": (0.035, 0.11), "blocks": (0.03, 0.09),
}  # fmt: skip
