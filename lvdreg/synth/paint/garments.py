"""Garments: cloth with collars, buttons, zips, prints, pockets, belts, cuffs, laces and soles painted on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from lvdreg.synth.paint.canvas import Canvas, Ground
from lvdreg.synth.paint.fabric import Fabric, folds, weave
from lvdreg.synth.paint.numbers import Colour, Mixed, Number, shade, some

Detail = Callable[[Canvas], None]


@dataclass(frozen=True)
class Garment(Mixed):
    """One garment.

    Attributes:
        fabric: its cloth.
        details: what is painted on it, in this order.
        cut: depth of a V below the neckline, heights; 0 for none.
    """

    fabric: Fabric
    details: tuple[Detail, ...] = ()
    cut: Number = 0.0


def paint_garment(garment: Garment, at: Ground) -> Canvas:
    """Return a garment's material at pixels."""
    canvas = paint_cloth(at, garment.fabric)
    for detail in garment.details:
        detail(canvas)
    return canvas


def paint_cloth(at: Ground, fabric: Fabric) -> Canvas:
    """Return a cloth's material at pixels, with wrinkles that are darker in their depth and worn on their height."""
    v = torch.where(at.ahead, at.v, at.v + 0.37)  # Back and front are cut from different places.
    albedo, height = weave(fabric, at.u, v, at.noise)
    wrinkles = folds(fabric, at.u, v, at.bent, at.noise)
    height = height + wrinkles
    depth = (wrinkles / 0.004).clamp(-1, 1)
    albedo = albedo * (1 + 0.12 * depth)[:, None]
    canvas = Canvas(at, albedo, torch.zeros_like(height) + fabric.gloss, height)
    if fabric.pattern == "denim" and some(fabric.wear):
        _bleach(canvas, fabric, depth)
    return canvas


def _bleach(canvas: Canvas, fabric: Fabric, depth: Tensor) -> None:
    at = canvas.at
    thigh = _bump((at["leg"] - 0.45) / 0.6) * at["is_leg"] * (at["leg_ahead"] / 0.06).clamp(0, 1)
    knee = 0.6 * _bump((at["leg"] - 1.0) / 0.22) * at["is_leg"] * (at["leg_ahead"] / 0.06).clamp(0, 1)
    share = (thigh + knee).clamp(0, 1) * (0.8 + 0.3 * depth)
    pale = fabric.colours[-1]
    canvas.lay(share.clamp(0, 1), shade(pale, 1.5), 0.75 * fabric.wear)


def _bump(x: Tensor) -> Tensor:
    return (1 - x.square()).clamp(min=0)


def _line(distance: Tensor, half_width: float = 0.003) -> Tensor:
    """Return 1 on a line, falling to 0 at its borders."""
    return ((half_width - distance.abs()) / half_width + 0.3).clamp(0, 1)


# ---- details of tops ------------------------------------------------------------------------------------------------


def _below_neck(at: Ground, neck: Number, length: Number) -> Tensor:
    """Return how far below the neckline it is, metres; large on arms."""
    return (neck - 0.12 * at["front"] - at["height"]) * length + 9.0 * at.on_arm


def neck_trim(canvas: Canvas, neck: Number, length: Number, width: Number, colour: Colour, rib: Number = 0.0) -> None:
    """Paint a border along the neckline."""
    below = _below_neck(canvas.at, neck, length)
    canvas.lay(below < width, colour)
    canvas.darken(_line(below - width), 0.35)
    canvas.raise_by(below < width, 0.0015 + rib)


def v_trim(canvas: Canvas, edge: Callable[[Ground], Tensor], width: Number, colour: Colour) -> None:
    """Paint a border along a V neck."""
    distance = edge(canvas.at)
    canvas.lay((distance > -width) & canvas.at.ahead & ~canvas.at.on_arm, colour)


def cuffs(canvas: Canvas, end: Number, width: Number, colour: Colour) -> None:
    """Paint the ends of sleeves; width in metres."""
    at = canvas.at
    below = (end - at["arm"]) * 0.27 + 9.0 * ~at.on_arm
    canvas.lay(below < width, colour)
    canvas.darken(_line(below - width), 0.4)
    canvas.raise_by(below < width, 0.001)


def hem(canvas: Canvas, bottom: Number, length: Number, width: Number, colour: Colour) -> None:
    """Paint the lower border of a top."""
    at = canvas.at
    above = (at["height"] - bottom) * length + 9.0 * at.on_arm
    canvas.lay(above < width, colour)
    canvas.darken(_line(above - width), 0.4)


def band_hem(canvas: Canvas, lowest: Number, width: Number, colour: Colour) -> None:
    """Paint the border of a skirt, a dress or a coat; ``lowest`` in Regions' lower."""
    at = canvas.at
    above = (lowest - at["lower"]) * 0.42 + 9.0 * at.on_arm
    canvas.lay(above < width, colour)
    canvas.darken(_line(above - width), 0.3)


def sleeves(canvas: Canvas, fabric: Fabric) -> None:
    """Make sleeves of another cloth."""
    at = canvas.at
    on = at["is_arm"] > 0.62
    if at.in_bulk:
        canvas.albedo = torch.where(on[:, None], paint_cloth(at, fabric).albedo, canvas.albedo)
        return
    rows = on.nonzero()[:, 0]
    if len(rows):
        part = paint_cloth(at.take(rows), fabric)
        canvas.albedo[rows] = part.albedo


def shoulder_seams(canvas: Canvas, strength: Number) -> None:
    """Paint where the sleeves are sewn on, and the side seams."""
    at = canvas.at
    canvas.darken(((0.05 - (at["is_arm"] - 0.55).abs()) / 0.05).clamp(0, 1), strength)
    canvas.darken(_line(at["ahead"], 0.005) * ~at.on_arm * ~at.on_leg, 0.6 * strength)


def placket(
    canvas: Canvas, half: Number, spacing: Number, button: Colour, low: Number, high: Number, side: Number
) -> None:
    """Paint a row of buttons on a strip down the front."""
    at = canvas.at
    x = at["x"] - side
    inside = at.ahead & ~at.on_arm & (at["y"] > low) & (at["y"] < high)
    canvas.darken((_line(x - half, 0.0035) + 0.5 * _line(x + half, 0.0025)) * inside, 0.45)
    row = ((at["y"] / spacing) % 1 - 0.5) * spacing
    round_ = torch.hypot(x, row)
    canvas.lay(inside & (round_ < 0.0075), button)
    canvas.darken(_line(round_ - 0.009, 0.003) * inside, 0.4)
    canvas.raise_by(inside & (x.abs() < half), 0.001)


def zipper(canvas: Canvas, low: Number, high: Number, colour: Colour) -> None:
    """Paint a zip down the front."""
    at = canvas.at
    inside = at.ahead & ~at.on_arm & (at["y"] > low) & (at["y"] < high)
    canvas.darken(_line(at.across - 0.008, 0.004) * inside, 0.5)
    canvas.lay(inside & (at.across < 0.004), colour)
    canvas.shine(inside & (at.across < 0.004), 0.5)


def collar(canvas: Canvas, neck: Number, length: Number, colour: Colour, reach: Number) -> None:
    """Paint a shirt's collar: it points downwards in front."""
    at = canvas.at
    below = _below_neck(at, neck, length)
    point = 0.028 + reach * _bump((at.across - 0.05) / 0.03) * at.ahead
    gap = at.ahead & (at.across < 0.012)
    inside = (below < point) & ~gap
    canvas.lay(inside, colour)
    canvas.darken(_line(below - point, 0.005), 0.5)
    canvas.raise_by(inside, 0.002)


def lapels(canvas: Canvas, edge: Callable[[Ground], Tensor], width: Number, colour: Colour) -> None:
    """Paint the lapels of a jacket beside its opening."""
    at = canvas.at
    beside = -edge(at)
    ahead = at.ahead & ~at.on_arm
    canvas.lay(ahead & (beside < width), colour)
    canvas.darken(_line(beside - width, 0.005) * ahead, 0.6)
    canvas.raise_by(ahead & (beside < width), 0.002)


def opening(canvas: Canvas, edge: Callable[[Ground], Tensor], inner: Garment, tie: Colour | None) -> None:
    """Show what is worn below an open jacket."""
    at = canvas.at
    inside = edge(at)
    shown = (inside > 0) & at.ahead & ~at.on_arm
    if at.in_bulk:
        canvas.show(shown, _inner(inner, tie, inside, at))
        return
    rows = shown.nonzero()[:, 0]
    if len(rows):
        part = _inner(inner, tie, inside[rows], at.take(rows))
        canvas.albedo[rows], canvas.gloss[rows], canvas.relief[rows] = part.albedo, part.gloss, part.relief


def _inner(garment: Garment, tie: Colour | None, inside: Tensor, at: Ground) -> Canvas:
    """Return what is worn below a jacket, ``inside`` metres from its edge."""
    part = paint_garment(garment, at)
    if tie is not None:
        width = 0.016 + 0.05 * (0.1 - inside).clamp(0, 0.25)
        part.lay(at.across < width, tie)
        part.darken(_line(at.across - width), 0.4)
    part.darken((1 - inside / 0.012).clamp(0, 1), 0.6)
    return part


def v_edge(at: Ground, neck: Number, depth: Number, length: Number, slope: Number) -> Tensor:
    """Return how far inside a V below the neckline a place lies, metres; negative outside."""
    tip = neck - 0.12 - depth
    return (at["height"] - tip) * length * slope - at.across


def gap_edge(at: Ground, half: Number, spread: Number, waist: Number) -> Tensor:
    """Return how far inside the opening of a jacket that hangs open a place lies, metres."""
    return half + spread * (at["y"] - waist).abs() - at.across


def chest_print(
    canvas: Canvas, kind: str, middle: tuple[Number, Number], size: Number, colours: tuple[Colour, Colour]
) -> None:
    """Paint a print on chest or back; a negative size means the back."""
    at = canvas.at
    side = at.ahead == (size > 0)
    reach: Any = abs(size)
    x, y = (at["x"] - middle[0]) / reach, (at["y"] - middle[1]) / reach
    inside = side & ~at.on_arm & (x.abs() < 1) & (y.abs() < 1)
    radius = torch.hypot(x, y)
    if kind == "disk":
        canvas.lay(inside & (radius < 0.95), colours[0])
        canvas.lay(inside & (((radius - 0.65).abs() < 0.08) | (y.abs() < 0.12) & (radius < 0.6)), colours[1])
    elif kind == "star":
        wave = 0.65 + 0.3 * torch.cos(5 * torch.atan2(x, y))
        canvas.lay(inside & (radius < wave), colours[0])
    elif kind == "text":
        row, letter = (y * 2.5).floor(), (x * 5).floor()
        stroke = at.noise.static(x + 7 * row, y, 0.11) > 0.1
        margin = ((x * 5 - letter - 0.5).abs() < 0.38) & ((y * 2.5 - row - 0.5).abs() < 0.36)
        canvas.lay(inside & stroke & margin & (row.abs() < 2), colours[0])
    elif kind == "picture":
        canvas.lay(inside & (x.abs() < 0.8), colours[0])
        canvas.lay(inside & (x.abs() < 0.75) & (at.noise.smooth(x, y, 0.35, 0.35) > 0.2), colours[1])
        canvas.lay(inside & (x.abs() < 0.75) & (at.noise.smooth(x, y, 0.3, 0.3, 1) > 0.9), shade(colours[1], 0.3))
    elif kind == "bars":
        canvas.lay(inside & ((y * 2).floor() % 2 == 0), colours[0])
    else:  # A number: seven segments, two digits.
        _number(canvas, inside, x, y, colours[0], torch.as_tensor(10 * cast(Any, abs(middle[1]))).long() % 10)


_SEGMENTS = (119, 18, 93, 91, 58, 107, 111, 82, 127, 123)  # bits of seven segments for the digits


def _number(canvas: Canvas, inside: Tensor, x: Tensor, y: Tensor, colour: Colour, digit: Tensor) -> None:
    along, wide = (x.abs() - 0.5) * 2.6, 0.22
    up = [(y - level).abs() < wide * 0.5 for level in (0.8, 0.0, -0.8)]
    left, right = ((along + 0.8).abs() < wide, (along - 0.8).abs() < wide)
    bars = (up[0], left & (y > 0), right & (y > 0), up[1], left & (y < 0), right & (y < 0), up[2])
    shown = torch.zeros_like(inside)
    segments = torch.tensor(_SEGMENTS, device=x.device)[digit]
    for bit, bar in enumerate(bars):
        shown |= bar & (along.abs() < 1.0) & (y.abs() < 0.95) & ((segments >> (6 - bit)) % 2 == 1)
    canvas.lay(inside & shown, colour)


def pocket(
    canvas: Canvas, middle: tuple[Number, Number], half: tuple[Number, Number], on_back: bool, colour: Colour | None
) -> None:
    """Paint a patch pocket; on both sides where its middle is right of zero."""
    at = canvas.at
    x, y = (at.across - middle[0]).abs() - half[0], (at["y"] - middle[1]).abs() - half[1]
    distance = torch.maximum(x, y)
    side = (~at.ahead if on_back else at.ahead) & ~at.on_arm
    if colour is not None:
        canvas.lay(side & (distance < 0), colour)
    canvas.darken(_line(distance, 0.0035) * side, 0.5)
    canvas.raise_by(side & (distance < 0), 0.0012)


def stripe(canvas: Canvas, on_arms: bool, half: Number, count: Number, colour: Colour) -> None:
    """Paint stripes down the outer side of sleeves or trouser legs."""
    at = canvas.at
    out = (at["arm_up"] > 0) & at.on_arm if on_arms else (at["leg_out"] > 0.02) & ~at.on_arm
    place = (at["arm_ahead"] if on_arms else at["leg_ahead"]) / half
    several = torch.as_tensor(count > 1, device=place.device)
    canvas.lay(out & (place.abs() < 1) & (((place + 1) * count / 2) % 1 < torch.where(several, 0.6, 2.0)), colour)


def flanks(canvas: Canvas, colour: Colour, half: Number) -> None:
    """Paint panels at the sides of the torso."""
    at = canvas.at
    canvas.lay((at["ahead"].abs() < half) & (at.across > 0.06) & ~at.on_arm, colour)


def yoke(canvas: Canvas, height: Number, colour: Colour) -> None:
    """Paint shoulders and upper chest."""
    at = canvas.at
    canvas.lay((at["height"] > height) | (at.on_arm & (at["arm"] < 0.15)), colour)


# ---- details of trousers and shoes -----------------------------------------------------------------------------------


def belt(canvas: Canvas, waist: Number, length: Number, width: Number, colour: Colour, buckle: Colour) -> None:
    """Paint a belt with its buckle."""
    at = canvas.at
    below = (waist - at["height"]) * length
    on = (below < width + 0.008) & (below > 0.008)
    canvas.lay(on, colour)
    canvas.shine(on, 0.3)
    held = on & at.ahead & (at.across < 0.024)
    canvas.lay(held & ((at.across > 0.016) | ((below - 0.008 - width / 2).abs() > 0.3 * width)), buckle)
    canvas.raise_by(on, 0.002)


def waistband(canvas: Canvas, waist: Number, length: Number, width: Number, colour: Colour) -> None:
    """Paint an elastic or sewn waistband."""
    below = (waist - canvas.at["height"]) * length
    canvas.lay(below < width, colour)
    canvas.darken(_line(below - width), 0.4)


def fly(canvas: Canvas, top: Number, thread: Colour) -> None:
    """Paint the fly of trousers and the seam between the legs."""
    at = canvas.at
    below = top - at["y"]
    canvas.darken(_line(at["x"], 0.004) * (below > 0) * (below < 0.3), 0.35)
    curve = 0.03 * (1 - (below / 0.17).clamp(0, 1) ** 3).clamp(min=0)
    canvas.lay(_line(at["x"] - curve, 0.0025) * at.ahead * (below > 0) * (below < 0.17), thread, 0.5)


def side_pockets(canvas: Canvas, top: Number, curved: bool, thread: Colour) -> None:
    """Paint the openings of the front pockets."""
    at = canvas.at
    out, below = (0.155 - at.across) / 0.075, (top - at["y"]) / 0.13
    distance = torch.hypot(1.1 - out, 1.1 - below) - 1.0 if curved else out - 0.75 + 0.75 * below
    shown = at.ahead & (below > 0.1) & (below < 1.0) & (out > -1) & (out < 1)
    canvas.darken(_line(distance * 0.075, 0.004) * shown, 0.45)
    canvas.lay(_line(distance * 0.075 + 0.008, 0.002) * shown, thread, 0.5)


def crease(canvas: Canvas) -> None:
    """Paint pressed creases down the trouser legs."""
    at = canvas.at
    canvas.raise_by(_line(at["leg_out"], 0.006) * at.on_leg * at.ahead, 0.0015)
    canvas.darken(_line(at["leg_out"] - 0.006, 0.006) * at.on_leg * at.ahead, 0.12)


def outer_seam(canvas: Canvas, thread: Colour, strength: Number) -> None:
    """Paint the seams at the outer sides of the legs."""
    at = canvas.at
    canvas.lay(_line(at["leg_ahead"], 0.003) * at.on_leg, thread, strength)


def leg_hem(canvas: Canvas, end: Number, width: Number, colour: Colour) -> None:
    """Paint the ends of trouser legs."""
    at = canvas.at
    above = (end - at["leg"]) * 0.4
    canvas.lay((above < width) & at.on_leg, colour)
    canvas.darken(_line(above - width, 0.004) * at.on_leg, 0.35)


def cargo(canvas: Canvas, colour: Colour) -> None:
    """Paint pockets at the outer sides of the thighs."""
    at = canvas.at
    distance = torch.maximum(at["leg_ahead"].abs() - 0.055, (at["leg"] - 0.62).abs() * 0.4 - 0.08)
    out = at.on_leg & (at["leg_out"] > 0.02)
    canvas.lay(out & (distance < 0), colour)
    canvas.darken(_line(distance, 0.004) * out, 0.5)
    canvas.darken(_line((at["leg"] - 0.5) * 0.4, 0.003) * out * (distance < 0), 0.5)


def sole(canvas: Canvas, height: Number, colour: Colour, line: Colour) -> None:
    """Paint a sole up to a height above the ground."""
    at = canvas.at
    canvas.lay(at["above_ground"] < height, colour)
    canvas.lay(_line(at["above_ground"] - height * 0.62, 0.0025), line, 0.5)
    canvas.darken(_line(at["above_ground"] - height, 0.004), 0.4)


def toe_cap(canvas: Canvas, colour: Colour) -> None:
    """Paint the tip of a shoe."""
    canvas.lay(canvas.at["toe_tip"] < 0.055, colour)


def laces(canvas: Canvas, colour: Colour, tongue: Colour) -> None:
    """Paint laces over the instep."""
    at = canvas.at
    along = at["toe_tip"]
    inside = (along > 0.085) & (along < 0.19) & (at["foot_out"].abs() < 0.024) & (at["above_ground"] > 0.035)
    canvas.lay(inside & (at["foot_out"].abs() < 0.017), tongue)
    canvas.lay(inside & ((along / 0.017) % 1 < 0.45), colour)


def shoe_side(canvas: Canvas, kind: str, colour: Colour) -> None:
    """Paint marks on the sides of a shoe."""
    at = canvas.at
    along, up = at["toe_tip"], at["above_ground"]
    if kind == "stripes":
        canvas.lay((((along + 0.5 * up) / 0.022) % 1 < 0.5) & (along > 0.10) & (along < 0.165) & (up < 0.075), colour)
    elif kind == "heel":
        canvas.lay(along > 0.21, colour)
    elif kind == "swoosh":
        canvas.lay(((along - 0.10) * 0.35 + 0.03 - up).abs() < 0.006 + 0.05 * (0.2 - along).clamp(0, 0.1) * 0.8, colour)
