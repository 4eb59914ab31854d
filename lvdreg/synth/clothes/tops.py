"""Chooses what somebody wears above the waist: shirts, sweaters, jackets, coats, dresses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from lvdreg.synth.choice import RandomChoice
from lvdreg.synth.paint import garments as g
from lvdreg.synth.paint.fabric import Fabric, Rgb, any_fabric, cloth_colour, denim, knit, leather, plain, shade
from lvdreg.synth.paint.garments import Detail, Garment

Places = Mapping[str, float]
BARE, TIGHT, LIGHT, HEAVY, GOWN = range(5)
METAL: Rgb = (0.45, 0.44, 0.42)
_TIES: tuple[Rgb, ...] = ((0.2, 0.01, 0.02), (0.01, 0.02, 0.1), (0.01, 0.01, 0.01), (0.05, 0.15, 0.1), (0.3, 0.2, 0.02))


@dataclass(frozen=True)
class Trunk:
    """Lengths of the mean person that places of garments are measured with, metres.

    Attributes:
        hip: height of the hips above the rest frame's origin.
        length: from hips to the base of the neck.
    """

    hip: float
    length: float

    def y(self, height: float) -> float:
        """Return the rest frame's y of a height as Regions counts it."""
        return self.hip + height * self.length


def draw_top(
    kind: int, places: Places, trunk: Trunk, low: float, band: float | None, choice: RandomChoice
) -> Garment | None:
    """Draw what is worn above; ``band`` is where it ends in Regions' lower, when it has a band."""
    if kind == BARE:
        return Garment(any_fabric(choice, "accent")) if choice.chance(0.4) else None
    makers = {
        TIGHT: {"tee": 3.0, "sport": 4.0},
        LIGHT: {"tee": 5.0, "shirt": 4.0, "polo": 1.5, "sweater": 2.0, "blouse": 2.0},
        HEAVY: {"jacket": 4.0, "hoodie": 3.0, "blazer": 2.5, "coat": 2.0, "sweater": 1.5, "puffer": 1.0},
        GOWN: {"dress": 6.0, "shirt": 1.0, "tee": 1.0},
    }  # fmt: skip
    name = choice.weighted(makers[kind])
    if name in ("sweater", "shirt", "polo") and places["sleeve"] < 0.15:
        name = "tee"
    # A band brings its own hem.
    garment = _TOPS[name](places, trunk, low if band is None else -9.0, choice)
    if band is None:
        return garment
    colour = shade(garment.fabric.colours[0], choice.uniform(0.4, 1.5))
    trim = partial(g.band_hem, lowest=band, width=choice.uniform(0.008, 0.05), colour=colour)
    return Garment(garment.fabric, (*garment.details, trim), garment.cut)


def _trims(places: Places, trunk: Trunk, low: float, width: float, colour: Rgb) -> tuple[Detail, ...]:
    """Return neckline, cuffs and hem of one colour."""
    return (
        partial(g.neck_trim, neck=places["neck"], length=trunk.length, width=0.6 * width, colour=colour),
        partial(g.cuffs, end=places["sleeve"], width=width, colour=colour),
        partial(g.hem, bottom=low, length=trunk.length, width=width, colour=colour),
    )


def _tee(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = any_fabric(choice, "top")
    base = fabric.colours[0]
    trim = cloth_colour(choice, "accent") if choice.chance(0.25) else shade(base, choice.uniform(0.75, 1.1))
    details: list[Detail] = [partial(g.shoulder_seams, strength=choice.uniform(0.1, 0.4))]
    if choice.chance(0.12):
        details.append(partial(g.sleeves, fabric=plain(choice, "accent")))
    if choice.chance(0.08):
        details.append(partial(g.yoke, height=choice.uniform(0.65, 0.85), colour=cloth_colour(choice, "accent")))
    details += _trims(places, trunk, low, choice.uniform(0.012, 0.03), trim)
    if fabric.pattern in ("plain", "heather", "fade") and choice.chance(0.6):
        details += _prints(trunk, choice)
    return Garment(fabric, tuple(details), choice.uniform(0.03, 0.2) if choice.chance(0.2) else 0.0)


def _prints(trunk: Trunk, choice: RandomChoice) -> list[Detail]:
    """Draw prints on chest and back."""
    kinds = {"disk": 1.0, "star": 0.6, "text": 3.0, "picture": 2.0, "bars": 0.7, "number": 1.0}
    colours = (cloth_colour(choice, "accent"), cloth_colour(choice, "accent"))
    out: list[Detail] = []
    if choice.chance(0.75):
        small = choice.chance(0.25)
        middle = (0.07, trunk.y(0.8)) if small else (0.0, trunk.y(choice.uniform(0.58, 0.72)))
        size = choice.uniform(0.025, 0.04) if small else choice.uniform(0.07, 0.13)
        out.append(partial(g.chest_print, kind=choice.weighted(kinds), middle=middle, size=size, colours=colours))
    if choice.chance(0.25):
        middle = (0.0, trunk.y(choice.uniform(0.6, 0.75)))
        size = -choice.uniform(0.08, 0.14)
        out.append(partial(g.chest_print, kind=choice.weighted(kinds), middle=middle, size=size, colours=colours))
    return out


def _sport(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    base, accent = cloth_colour(choice, "top"), cloth_colour(choice, "accent")
    fabric = Fabric("plain", (base,), grain=0.02, gloss=choice.uniform(0.03, 0.18), fold=0.0006, crease=0.05)
    details: list[Detail] = [*_trims(places, trunk, low, 0.015, accent if choice.chance(0.5) else base)]
    if choice.chance(0.4):
        details.append(partial(g.flanks, colour=accent, half=choice.uniform(0.02, 0.05)))
    if choice.chance(0.4):
        details.append(
            partial(g.stripe, on_arms=True, half=choice.uniform(0.01, 0.03), count=choice.pick((1, 3)), colour=accent)
        )
    if choice.chance(0.3):
        details.append(partial(g.yoke, height=choice.uniform(0.6, 0.85), colour=accent))
    if choice.chance(0.5):
        details += _prints(trunk, choice)
    if choice.chance(0.25):
        details.append(partial(g.zipper, low=trunk.y(0.75), high=trunk.y(1.2), colour=accent))
    return Garment(fabric, tuple(details))


def _shirt(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = (
        any_fabric(choice, "top")
        if choice.chance(0.6)
        else denim(choice)
        if choice.chance(0.2)
        else plain(choice, "top")
    )
    base = fabric.colours[0]
    same = base if choice.chance(0.8) else (0.75, 0.75, 0.74)
    button = choice.pick(((0.6, 0.58, 0.55), (0.02, 0.02, 0.02), shade(base, 0.5)))
    reach = choice.uniform(0.0, 0.04)
    details: list[Detail] = [
        partial(g.shoulder_seams, strength=0.3),
        partial(
            g.placket, half=choice.uniform(0.012, 0.02), spacing=choice.uniform(0.07, 0.1), button=button,
            low=trunk.y(-3), high=trunk.y(1.3), side=0.0,
        ),
        partial(g.cuffs, end=places["sleeve"], width=choice.uniform(0.02, 0.06), colour=shade(same, 0.95)),
        partial(g.collar, neck=places["neck"], length=trunk.length, colour=shade(same, 1.05), reach=reach),
    ]  # fmt: skip
    if choice.chance(0.5):
        sides = (choice.uniform(0.07, 0.09), trunk.y(0.72))
        details.append(partial(g.pocket, middle=sides, half=(0.04, 0.045), on_back=False, colour=None))
    return Garment(fabric, tuple(details), choice.uniform(0.03, 0.15) if choice.chance(0.3) else 0.0)


def _polo(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = any_fabric(choice, "top")
    base = fabric.colours[0]
    trim = cloth_colour(choice, "accent") if choice.chance(0.4) else shade(base, 0.9)
    details: tuple[Detail, ...] = (
        *_trims(places, trunk, low, 0.02, trim),
        partial(
            g.placket, half=0.016, spacing=0.05, button=shade(trim, 1.4), low=trunk.y(0.72), high=trunk.y(1.3), side=0.0
        ),
        partial(g.collar, neck=places["neck"], length=trunk.length, colour=trim, reach=0.02),
    )
    return Garment(fabric, details)


def _blouse(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = any_fabric(choice, "gown")
    details = _trims(
        places, trunk, low, choice.uniform(0.006, 0.02), shade(fabric.colours[0], choice.uniform(0.6, 1.2))
    )
    return Garment(fabric, details, choice.uniform(0.04, 0.25) if choice.chance(0.5) else 0.0)


def _sweater(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = knit(choice, "top") if choice.chance(0.6) else any_fabric(choice, "top")
    trim = shade(fabric.colours[0], choice.uniform(0.6, 1.0))
    details = _trims(places, trunk, low, choice.uniform(0.03, 0.06), trim)
    return Garment(fabric, details, choice.uniform(0.05, 0.2) if choice.chance(0.25) else 0.0)


def _hoodie(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = plain(choice, "top") if choice.chance(0.8) else any_fabric(choice, "top")
    base = fabric.colours[0]
    details: list[Detail] = [
        partial(g.shoulder_seams, strength=0.35),
        *_trims(places, trunk, low, choice.uniform(0.04, 0.07), shade(base, 0.8)),
        partial(
            g.pocket,
            middle=(0.0, trunk.y(max(low, 0.05) + 0.25)),
            half=(0.13, 0.08),
            on_back=False,
            colour=shade(base, 0.93),
        ),
    ]
    if choice.chance(0.45):
        details.append(partial(g.zipper, low=trunk.y(-3), high=trunk.y(1.3), colour=METAL))
    elif choice.chance(0.6):
        details += _prints(trunk, choice)
    if choice.chance(0.15):
        details.append(partial(g.sleeves, fabric=plain(choice, "accent")))
    return Garment(fabric, tuple(details))


def _jacket(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    material = choice.weighted({"cloth": 4.0, "leather": 1.5, "denim": 1.5, "shell": 2.0})
    colour = cloth_colour(choice, "bottom" if choice.chance(0.6) else "top")
    fabric = {
        "cloth": plain(choice, "top", colour),
        "leather": leather(choice, shade(colour, 0.6)),
        "denim": denim(choice),
        "shell": Fabric("plain", (colour,), grain=0.0, gloss=choice.uniform(0.1, 0.4), fold=0.0025, crease=0.035),
    }[material]
    base = fabric.colours[0]
    metal = choice.pick((METAL, (0.02, 0.02, 0.02), (0.5, 0.35, 0.12), shade(base, 1.6)))
    details: list[Detail] = [
        partial(g.shoulder_seams, strength=0.4),
        *_trims(places, trunk, low, choice.uniform(0.02, 0.05), shade(base, choice.uniform(0.5, 1.1))),
        partial(g.pocket, middle=(0.10, trunk.y(0.70)), half=(0.042, 0.05), on_back=False, colour=None),
    ]
    if choice.chance(0.25):
        details.append(partial(g.yoke, height=choice.uniform(0.6, 0.85), colour=cloth_colour(choice, "accent")))
    if choice.chance(0.4):
        details.append(_open_front(trunk, choice))
    elif material == "denim" or choice.chance(0.3):
        details.append(
            partial(g.placket, half=0.02, spacing=0.09, button=metal, low=trunk.y(-2), high=trunk.y(1.3), side=0.0)
        )
    else:
        details.append(partial(g.zipper, low=trunk.y(-2), high=trunk.y(1.3), colour=metal))
    return Garment(fabric, tuple(details))


def _open_front(trunk: Trunk, choice: RandomChoice) -> Detail:
    """Draw a front that hangs open over a shirt."""
    inner = Garment(plain(choice, "top") if choice.chance(0.6) else any_fabric(choice, "top"))
    edge = partial(g.gap_edge, half=choice.uniform(0.02, 0.08), spread=choice.uniform(0.0, 0.12), waist=trunk.y(0.3))
    return partial(g.opening, edge=edge, inner=inner, tie=None)


def _blazer(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = any_fabric(choice, "bottom") if choice.chance(0.15) else plain(choice, "bottom")
    if choice.chance(0.2):
        fabric = Fabric(
            "pinstripes", (fabric.colours[0], shade(fabric.colours[0], 2.0)), scale=0.02, duty=0.2, fold=0.001
        )
    base = fabric.colours[0]
    shirt = (0.8, 0.8, 0.79) if choice.chance(0.6) else cloth_colour(choice, "top")
    edge = partial(
        g.v_edge,
        neck=places["neck"],
        depth=choice.uniform(0.3, 0.5),
        length=trunk.length,
        slope=choice.uniform(0.28, 0.42),
    )
    tie = choice.pick(_TIES) if choice.chance(0.6) else None
    button = shade(base, 0.4)
    details = (
        partial(g.shoulder_seams, strength=0.3),
        partial(g.placket, half=0.012, spacing=0.12, button=button, low=trunk.y(0.1), high=trunk.y(0.5), side=0.0),
        partial(g.pocket, middle=(0.115, trunk.y(0.2)), half=(0.06, 0.022), on_back=False, colour=None),
        partial(g.lapels, edge=edge, width=choice.uniform(0.03, 0.06), colour=shade(base, 0.9)),
        partial(g.opening, edge=edge, inner=Garment(Fabric("plain", (shirt,), fold=0.0005)), tie=tie),
        partial(g.cuffs, end=places["sleeve"], width=0.015, colour=shirt),
    )
    return Garment(fabric, details)


def _coat(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = plain(choice, "bottom") if choice.chance(0.7) else any_fabric(choice, "top")
    base = fabric.colours[0]
    details: list[Detail] = [
        partial(g.shoulder_seams, strength=0.35),
        partial(g.collar, neck=places["neck"], length=trunk.length, colour=shade(base, 0.85), reach=0.05),
        partial(
            g.placket, half=choice.uniform(0.03, 0.07), spacing=choice.uniform(0.1, 0.15), button=shade(base, 0.35),
            low=trunk.y(-2), high=trunk.y(0.85), side=choice.uniform(0.0, 0.04),
        ),
        partial(g.pocket, middle=(0.12, trunk.y(0.05)), half=(0.06, 0.07), on_back=False, colour=None),
    ]  # fmt: skip
    if choice.chance(0.35):
        details.append(
            partial(g.belt, waist=0.42, length=trunk.length, width=0.045, colour=shade(base, 0.7), buckle=METAL)
        )
    return Garment(fabric, tuple(details))


def _puffer(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    base = cloth_colour(choice, "top")
    quilt = Fabric(
        "stripes", (base, shade(base, 0.62)), scale=choice.uniform(0.05, 0.09), duty=1.2, grain=0.0,
        gloss=choice.uniform(0.1, 0.4), fold=0.002, crease=0.04,
    )  # fmt: skip
    quilt = replace(quilt, colours=(shade(base, 0.7), base))
    details: tuple[Detail, ...] = (
        partial(g.zipper, low=trunk.y(-2), high=trunk.y(1.4), colour=shade(base, 0.4)),
        *_trims(places, trunk, low, 0.03, shade(base, 0.8)),
    )
    return Garment(quilt, details)


def _gown(places: Places, trunk: Trunk, low: float, choice: RandomChoice) -> Garment:
    fabric = any_fabric(choice, "gown")
    base = fabric.colours[0]
    trim = cloth_colour(choice, "accent") if choice.chance(0.25) else shade(base, choice.uniform(0.6, 1.2))
    details: list[Detail] = [*_trims(places, trunk, -9.0, choice.uniform(0.006, 0.02), trim)]
    if choice.chance(0.35):
        belt = partial(g.belt, waist=choice.uniform(0.4, 0.5), length=trunk.length, width=choice.uniform(0.02, 0.06))
        details.append(partial(belt, colour=cloth_colour(choice, "shoe"), buckle=METAL))
    if choice.chance(0.15):
        details.append(
            partial(g.placket, half=0.012, spacing=0.08, button=trim, low=trunk.y(-2), high=trunk.y(1.2), side=0.0)
        )
    return Garment(fabric, tuple(details), choice.uniform(0.03, 0.25) if choice.chance(0.5) else 0.0)


_TOPS: dict[str, Callable[[Places, Trunk, float, RandomChoice], Garment]] = {
    "tee": _tee, "sport": _sport, "shirt": _shirt, "polo": _polo, "blouse": _blouse, "sweater": _sweater,
    "hoodie": _hoodie, "jacket": _jacket, "blazer": _blazer, "coat": _coat, "puffer": _puffer, "dress": _gown,
}  # fmt: skip
