"""Chooses what somebody wears: which garments, of which cloth, with which details, to fit a dressed body's measures."""

from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from lvdreg.synth.choice import RandomChoice
from lvdreg.synth.clothes.tops import BARE, GOWN, HEAVY, LIGHT, METAL, TIGHT, Places, Trunk, draw_top
from lvdreg.synth.paint import garments as g
from lvdreg.synth.paint.fabric import (
    Fabric,
    Rgb,
    any_fabric,
    cloth_colour,
    denim,
    knit,
    leather,
    linear,
    plain,
    shade,
)
from lvdreg.synth.paint.garments import Detail, Garment

_STITCH = linear("c98a3c")


@dataclass(frozen=True)
class Clothes:
    """What one person wears; None where nothing.

    Attributes:
        top, bottom, shoes, socks, hat, pack, gloves, scarf: garments.
        band: what the band is made of.
        top_low: height where the top ends.
        waist: height where trousers or skirt begin.
        dress_end: the top covers everything down to here (Regions' lower); -9 for no dress.
        tucked: whether the trousers lie over the top.
        leg_end: where the trouser legs end.
        sock_top: where the socks begin (leg coordinate).
        watch: colour of a watch, or None.
        straps: whether the backpack has straps in front.
    """

    top: Garment | None
    bottom: Garment
    band: Garment
    shoes: Garment | None
    socks: Garment | None
    hat: Garment | None
    pack: Garment | None
    gloves: Garment | None
    scarf: Garment | None
    top_low: float
    waist: float
    dress_end: float
    tucked: bool
    leg_end: float
    sock_top: float
    watch: Rgb | None


def dress_up(kind: int, places: Places, trunk: Trunk, skin: Rgb, choice: RandomChoice) -> Clothes:
    """Choose clothes.

    Args:
        kind: row of the outfit.
        places: measures by name, see Dressed.
        trunk: lengths of the mean person.
        skin: colour of the skin, which no garment has: cloth would pass for none.
        choice: random numbers.
    """
    has_band, hem = places["wears_band"] > 0, places["hem"]
    is_dress = has_band and kind == GOWN and choice.chance(0.75)
    is_tail = has_band and not is_dress and kind in (LIGHT, HEAVY) and choice.chance(0.8)
    waist, leg_end = places["waist"], min(places["leg"], 2.03)
    top_low = waist - 0.15
    if is_tail:
        top_low = min(top_low, -places["band_top"] - 0.1)
    elif has_band and not is_dress:
        waist = max(waist, -places["band_top"] + 0.02)
    whole = is_dress or is_tail
    top = draw_top(kind, places, trunk, top_low, hem if whole else None, choice)
    bottom = _draw_bottom(kind, places, trunk, waist, leg_end, has_band, choice)
    if kind in (LIGHT, HEAVY) and top is not None and choice.chance(0.14):  # Suits, tracksuits, overalls.
        bottom = Garment(top.fabric, bottom.details)
    if has_band and not whole:
        bottom = _legwear(choice, leg_end)
    top, bottom = top and _unlike(top, skin), _unlike(bottom, skin)
    band = top if whole and top is not None else _unlike(_draw_skirt(hem, trunk, waist, choice), skin)
    shaft, wears_shoes = places["shaft"], places["wears_shoes"] > 0
    return Clothes(
        top=top,
        bottom=bottom,
        band=band,
        shoes=_draw_shoes(shaft, choice) if wears_shoes else None,
        socks=Garment(_sock_fabric(choice)) if choice.chance(0.85 if wears_shoes else 0.35) else None,
        hat=_draw_hat(choice) if places["hair"] == 3 else None,
        pack=_draw_pack(trunk, choice) if places["wears_pack"] > 0 else None,
        gloves=Garment(plain(choice, "shoe")) if kind == HEAVY and choice.chance(0.12) else None,
        scarf=Garment(_scarf_fabric(choice)) if places["hair"] == 2 and kind > BARE and choice.chance(0.10) else None,
        top_low=top_low,
        waist=waist,
        dress_end=hem - 0.02 if is_dress else -9.0,
        tucked=not is_tail and kind != HEAVY and choice.chance(0.35),
        leg_end=leg_end,
        sock_top=min(shaft, 1.9) - choice.uniform(0.0, 0.45) ** 1.5,
        watch=choice.pick(((0.01, 0.01, 0.01), (0.3, 0.29, 0.27), (0.1, 0.04, 0.015))) if choice.chance(0.18) else None,
    )


def _unlike(garment: Garment, skin: Rgb) -> Garment:
    """Return a garment that differs from skin: colours that come close are made darker, or on dark skin lighter."""
    first, *others = cast(tuple[Rgb, ...], garment.fabric.colours)
    factor = 0.25 if sum(skin) > 0.5 else 5.0
    colours = (shade(first, factor) if _close(first, skin) else first, *others)
    details = tuple(_recoloured(detail, skin, factor) for detail in garment.details)
    return replace(garment, fabric=replace(garment.fabric, colours=colours), details=details)


def _close(colour: Rgb, skin: Rgb) -> bool:
    """Tell whether a colour could be taken for skin in another light."""
    tints = [abs(c / max(sum(colour), 1e-6) - s / sum(skin)) for c, s in zip(colour, skin, strict=True)]
    return 0.4 < sum(colour) / sum(skin) < 2.2 and max(tints) < 0.14


def _recoloured(detail: Detail, skin: Rgb, factor: float) -> Detail:
    """Return a detail with another colour if its own comes close to skin: trims are darker than their garment."""
    if not isinstance(detail, partial):
        return detail
    colour = detail.keywords.get("colour")
    if colour is None or not _close(colour, skin):
        return detail
    return partial(detail.func, *detail.args, **(detail.keywords | {"colour": shade(colour, factor)}))


def _draw_bottom(
    kind: int, places: Places, trunk: Trunk, waist: float, leg_end: float, has_band: bool, choice: RandomChoice
) -> Garment:
    """Draw what is worn below."""
    if kind == BARE:
        fabric = any_fabric(choice, "accent")
        trim = partial(
            g.waistband, waist=waist, length=trunk.length, width=0.025, colour=cloth_colour(choice, "accent")
        )
        return Garment(fabric, (trim,))
    if kind == GOWN or (has_band and kind == TIGHT):
        return _legwear(choice, leg_end)
    if kind == TIGHT:
        base = cloth_colour(choice, "bottom")
        fabric = Fabric("plain", (base,), grain=0.02, gloss=choice.uniform(0.02, 0.15), fold=0.0005, crease=0.05)
        side = partial(
            g.stripe, on_arms=False, half=choice.uniform(0.01, 0.03), count=1, colour=cloth_colour(choice, "accent")
        )
        return Garment(fabric, (side,) if choice.chance(0.4) else ())
    if choice.chance(0.38):
        return _jeans(trunk, waist, leg_end, choice)
    return _trousers(trunk, waist, leg_end, choice)


def _jeans(trunk: Trunk, waist: float, leg_end: float, choice: RandomChoice) -> Garment:
    fabric = denim(choice)
    thread = _STITCH if choice.chance(0.7) else shade(fabric.colours[0], 0.5)
    top = trunk.y(waist)
    details: list[Detail] = [
        partial(g.fly, top=top, thread=thread),
        partial(g.side_pockets, top=top, curved=True, thread=thread),
        partial(g.pocket, middle=(0.085, top - 0.14), half=(0.06, 0.065), on_back=True, colour=None),
        partial(g.outer_seam, thread=thread, strength=0.35),
        partial(g.leg_hem, end=leg_end, width=choice.pick((0.015, 0.015, 0.05)), colour=shade(fabric.colours[0], 1.25)),
        partial(g.waistband, waist=waist, length=trunk.length, width=0.04, colour=shade(fabric.colours[0], 1.1)),
    ]
    return Garment(fabric, (*details, *_maybe_belt(trunk, waist, 0.45, choice)))


def _maybe_belt(trunk: Trunk, waist: float, chance: float, choice: RandomChoice) -> tuple[Detail, ...]:
    if not choice.chance(chance):
        return ()
    colour = choice.pick(((0.01, 0.01, 0.01), (0.08, 0.035, 0.015), (0.2, 0.1, 0.04), (0.3, 0.29, 0.27)))
    width = choice.uniform(0.028, 0.04)
    return (partial(g.belt, waist=waist, length=trunk.length, width=width, colour=colour, buckle=METAL),)


def _trousers(trunk: Trunk, waist: float, leg_end: float, choice: RandomChoice) -> Garment:
    fabric = any_fabric(choice, "bottom") if choice.chance(0.2) else plain(choice, "bottom")
    base, top = fabric.colours[0], trunk.y(waist)
    style = choice.weighted({"chinos": 4.0, "cargo": 1.2, "track": 2.0, "formal": 1.5})
    seam = partial(g.outer_seam, thread=shade(base, 0.55), strength=0.5)
    end = partial(
        g.leg_hem, end=leg_end, width=choice.uniform(0.01, 0.05), colour=shade(base, choice.uniform(0.85, 1.1))
    )
    band = partial(g.waistband, waist=waist, length=trunk.length, width=0.035, colour=shade(base, 0.9))
    details: list[Detail] = [seam, end, band]
    if style == "track":
        colour, count = cloth_colour(choice, "accent"), choice.pick((1, 2, 3))
        details.append(partial(g.stripe, on_arms=False, half=choice.uniform(0.012, 0.03), count=count, colour=colour))
        return Garment(fabric, tuple(details))
    details += [
        partial(g.fly, top=top, thread=shade(base, 0.7)),
        partial(g.side_pockets, top=top, curved=False, thread=shade(base, 0.7)),
        partial(g.pocket, middle=(0.085, top - 0.13), half=(0.06, 0.012), on_back=True, colour=None),
    ]
    if style == "cargo":
        details.append(partial(g.cargo, colour=shade(base, 0.95)))
    if style == "formal":
        details.append(g.crease)
    return Garment(fabric, (*details, *_maybe_belt(trunk, waist, 0.6, choice)))


def _legwear(choice: RandomChoice, leg_end: float) -> Garment:
    """Draw leggings or tights."""
    if choice.chance(0.8):
        return Garment(Fabric("plain", (cloth_colour(choice, "bottom"),), grain=0.02, gloss=0.05, fold=0.0004))
    return Garment(any_fabric(choice, "bottom"))


def _draw_skirt(hem: float, trunk: Trunk, waist: float, choice: RandomChoice) -> Garment:
    fabric = denim(choice) if choice.chance(0.15) else any_fabric(choice, "gown")
    base = fabric.colours[0]
    details: list[Detail] = [
        partial(
            g.band_hem, lowest=hem, width=choice.uniform(0.006, 0.04), colour=shade(base, choice.uniform(0.6, 1.2))
        ),
        partial(
            g.waistband, waist=waist, length=trunk.length, width=0.03, colour=shade(base, choice.uniform(0.6, 1.0))
        ),
    ]
    return Garment(fabric, (*details, *_maybe_belt(trunk, waist, 0.2, choice)))


def _sock_fabric(choice: RandomChoice) -> Fabric:
    colour = choice.pick(((0.75, 0.75, 0.74), (0.015, 0.015, 0.017), (0.1, 0.1, 0.11), cloth_colour(choice, "accent")))
    if choice.chance(0.15):
        return Fabric("stripes", (colour, cloth_colour(choice, "accent")), scale=choice.uniform(0.02, 0.06))
    return Fabric("plain", (colour,), grain=0.04, gloss=0.0, fold=0.0005)


def _draw_shoes(shaft: float, choice: RandomChoice) -> Garment:
    styles = {"sneaker": 5.0, "leather": 2.5, "canvas": 2.0, "running": 2.5}
    style = choice.weighted({"boot": 5.0, "rubber": 1.0} if shaft < 1.86 else styles)
    colour = cloth_colour(choice, "shoe")
    pale = (0.72, 0.72, 0.70)
    if style in ("leather", "boot", "rubber"):
        tone = choice.pick(((0.008, 0.008, 0.008), (0.06, 0.028, 0.014), (0.18, 0.09, 0.04), shade(colour, 0.6)))
        fabric = leather(choice, colour if style == "rubber" else tone)
        details: list[Detail] = [
            partial(g.sole, height=choice.uniform(0.014, 0.026), colour=shade(tone, 0.4), line=shade(tone, 0.3)),
        ]
        if style != "rubber" and choice.chance(0.7):
            details.append(partial(g.laces, colour=shade(tone, 0.5), tongue=shade(tone, 0.8)))
        return Garment(fabric, tuple(details))
    accent = cloth_colour(choice, "accent")
    fabric = Fabric("plain", (colour,), grain=0.04, gloss=choice.uniform(0.03, 0.2), fold=0.0006, crease=0.03)
    under = choice.weighted({pale: 6.0, (0.015, 0.015, 0.015): 2.0, accent: 1.0, (0.35, 0.2, 0.09): 0.7})
    details = [
        partial(g.shoe_side, kind=choice.pick(("stripes", "swoosh", "heel", "")), colour=accent),
        partial(g.laces, colour=pale if choice.chance(0.7) else accent, tongue=shade(colour, choice.uniform(0.5, 1.1))),
        partial(
            g.sole, height=choice.uniform(0.018, 0.034), colour=under, line=accent if choice.chance(0.3) else under
        ),
    ]
    if style == "canvas":
        details.insert(1, partial(g.toe_cap, colour=pale))
    return Garment(fabric, tuple(details))


def _draw_hat(choice: RandomChoice) -> Garment:
    fabric = choice.weighted({"knit": 1.0, "plain": 1.0})
    return Garment(
        knit(choice, "top") if fabric == "knit" else plain(choice, "bottom" if choice.chance(0.5) else "top")
    )


def _scarf_fabric(choice: RandomChoice) -> Fabric:
    return plain(choice, "gown") if choice.chance(0.7) else any_fabric(choice, "gown")


def _draw_pack(trunk: Trunk, choice: RandomChoice) -> Garment:
    colour = cloth_colour(choice, "shoe" if choice.chance(0.6) else "accent")
    fabric = Fabric("plain", (colour,), grain=0.05, gloss=0.05, fold=0.001, crease=0.05)
    low = partial(g.pocket, middle=(0.0, trunk.y(0.5)), half=(0.09, 0.07), on_back=True, colour=shade(colour, 0.85))
    return Garment(
        fabric, (low, partial(g.hem, bottom=0.75, length=trunk.length, width=0.02, colour=shade(colour, 0.6)))
    )
