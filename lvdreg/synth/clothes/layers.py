"""Clothes, shoes and hair on posed bodies: the outer surface that a scanner meets.

Garments are layered offsets along smoothed normals, so that they follow the skin where they are tight and hide it
where they are loose: tubes around the limbs (trousers, sleeves), cloth that falls from the chest, curtains (long hair),
soles. What cannot be an offset of the skin (skirts, dresses, coat tails, shirts worn over the trousers) is a band of
rings around both legs: each is the support function of what it encloses, hence its convex hull, let out and waved.

Everything is batched over samples and vertices, and asks the body by joint names, never by vertex numbers.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.body.model import BodyModel
from lvdreg.geometry.mesh import vertex_normals
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.regions import LAST_LEVEL, LEVEL_STEP, Regions, fall
from lvdreg.synth.scanner import SynthConfig
from lvdreg.synth.surface import Outer, tube_faces

# Ranges of each outfit's measures: bare, tight, light, heavy, gown; metres for a grown person, or Regions' coordinates.
_MEASURES: dict[str, tuple[tuple[float, float], ...]] = {
    "top": ((0.0, 0.0), (0.001, 0.003), (0.003, 0.012), (0.010, 0.035), (0.002, 0.015)),  # thickness of the torso
    "belly": ((0.0, 0.0), (0.0, 0.0), (0.0, 0.04), (0.0, 0.05), (0.0, 0.03)),  # slack at belly and back
    "fill": ((0.0, 0.0), (0.0, 0.3), (0.3, 1.0), (0.7, 1.0), (0.3, 1.0)),  # how much of the hollows cloth bridges
    "drape": ((1.0, 1.0), (1.0, 1.0), (0.0, 0.2), (0.0, 0.12), (0.0, 0.25)),  # how fast it draws in below the chest
    "sleeve": ((-1.0, -1.0), (-0.3, 2.0), (0.25, 2.0), (1.7, 2.15), (-0.2, 2.1)),  # where the sleeve ends
    "cuff": ((0.0, 0.0), (0.0, 0.0), (0.02, 0.09), (0.045, 0.09), (0.02, 0.13)),  # radius of the sleeve
    "neck": ((0.0, 0.0), (0.80, 1.0), (0.85, 1.02), (0.95, 1.12), (0.75, 1.02)),  # where the neckline lies
    "bottom": ((0.001, 0.002), (0.001, 0.003), (0.003, 0.010), (0.004, 0.014), (0.002, 0.006)),
    "leg": ((0.05, 0.3), (0.2, 1.95), (0.4, 2.1), (1.7, 2.1), (-0.1, 1.9)),  # where the trouser leg ends
    "waist": ((0.1, 0.3), (0.1, 0.4), (0.15, 0.4), (0.15, 0.4), (0.2, 0.4)),  # where the trousers begin
    "tube": ((0.0, 0.0), (0.0, 0.0), (0.04, 0.15), (0.05, 0.13), (0.0, 0.06)),  # radius of the trouser leg at the hem
    "wrinkle": ((0.0, 0.0), (0.0, 0.001), (0.0, 0.010), (0.002, 0.014), (0.0, 0.010)),
    "band": ((-4.0, 0.0), (-8.0, 1.0), (-0.7, 1.0), (-0.4, 1.0), (1.0, 2.0)),  # a band exists where positive
    "hem": ((0.2, 0.5), (0.3, 0.5), (0.15, 0.45), (0.2, 0.9), (0.5, 1.85)),  # where the band ends
    "flare": ((0.0, 0.05), (0.0, 0.05), (0.0, 0.04), (0.0, 0.06), (0.0, 0.16)),
    "hang": ((0.0, 1.0), (0.0, 1.0), (0.0, 0.5), (0.0, 0.4), (-0.05, 0.4)),  # how fast a ring may shrink downwards
}
# Lengths that are worn most in the street: which measure, of which outfits, how often, from where to where.
_USUAL: tuple[tuple[str, tuple[int, ...], float, tuple[float, float]], ...] = (
    ("leg", (2, 3), 0.75, (1.8, 2.08)),  # trousers that reach the ankles
    ("leg", (2,), 0.15, (0.65, 0.98)),  # shorts
    ("sleeve", (2,), 0.35, (0.4, 0.85)),
    ("sleeve", (2, 3), 0.40, (1.85, 2.08)),
    ("neck", (1, 2, 3), 0.8, (0.95, 1.06)),
    ("band", (2,), 0.55, (-1.0, -0.1)),  # shirts that end at the hips
    ("band", (3,), 0.35, (-1.0, -0.1)),
    ("hem", (2,), 0.5, (0.1, 0.25)),
)
# What falls around the legs to the shins or the floor: the outfit it is worn with, and what of its measures differ.
_HANGING: dict[str, tuple[str, dict[str, tuple[float, float]]]] = {
    "bell skirt": ("gown", {"hem": (1.3, 2.15), "flare": (0.2, 0.4), "hang": (0.0, 0.1)}),
    "gown": ("gown", {"hem": (1.9, 2.2), "flare": (0.08, 0.3), "hang": (-0.05, 0.1)}),
    "long coat": ("heavy", {"hem": (1.2, 1.9), "flare": (0.0, 0.15), "hang": (0.0, 0.2), "band": (1.0, 2.0)}),
    "robe": (
        "gown",
        {
            "top": (0.01, 0.03),
            "belly": (0.0, 0.05),
            "fill": (0.9, 1.0),
            "drape": (0.0, 0.1),
            "sleeve": (1.7, 2.15),
            "cuff": (0.1, 0.16),
            "hem": (1.7, 2.2),
            "flare": (0.05, 0.2),
            "hang": (-0.1, 0.1),
            "wrinkle": (0.003, 0.015),
        },
    ),
}
HANGING = tuple(_HANGING)
OUTFITS = ("bare", "tight", "light", "heavy", "gown")
"""Outfits by the row of their measures."""
_NUM_ANGLES = 40
_NUM_RINGS = 20


@dataclass(frozen=True)
class Outfit:
    """Random measures of a batch of outfits.

    Attributes:
        kind: row of the outfit (B,).
        measures: by name, each (B, 1), lengths already scaled to the person.
        size: (B, 1), 1 for a grown person.
    """

    kind: Tensor
    measures: dict[str, Tensor]
    size: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return self.measures[name]


@dataclass(frozen=True)
class Dressed:
    """Dressed people, and where on them each garment begins and ends.

    Attributes:
        outer: what is seen of them.
        kind: row of the outfit (B,): bare, tight, light, heavy, gown.
        places: by name, each (B, C): the outfit's measures, and those of hair, hat, shoes, backpack and band, in the
            coordinates of Regions; ``wears_shoes``, ``wears_pack``, ``wears_bun`` and ``wears_band`` are 0 or 1,
            ``hair`` is 0 none, 1 short, 2 long, 3 under a hat.
    """

    outer: Outer
    kind: Int[Tensor, " B"]
    places: dict[str, Float[Tensor, "B _"]]


class Wardrobe:
    """Dresses posed bodies at random.

    Args:
        body: the body; its joint names tell the parts.
        config: probabilities and ranges.
    """

    def __init__(self, body: BodyModel, config: SynthConfig | None = None) -> None:
        self.config = config or SynthConfig()
        self.usual = False
        self.fixed: dict[str, tuple[float, float]] = {}
        self.regions = Regions(body).to(body.faces.device)
        band = tube_faces(_NUM_RINGS, _NUM_ANGLES) + body.num_vertices
        self.faces = torch.cat([body.faces, band.to(body.faces.device)])
        self.num_rings, self.num_angles, self.num_band_faces = _NUM_RINGS, _NUM_ANGLES, len(band)

    def for_street(self) -> "Wardrobe":
        """Return a wardrobe that dresses people as they are met and photographed: hardly bare, usual lengths."""
        street = copy(self)
        street.usual = True
        street.config = replace(
            self.config,
            outfit_probabilities=(0.05, 0.11, 0.48, 0.25, 0.11),
            shoes_probabilities=(0.25, 0.75, 0.95, 0.99, 0.85),
            hair_probabilities=(0.15, 0.45, 0.28, 0.12),
        )
        return street

    def only(self, garment: str) -> "Wardrobe":
        """Return a wardrobe of one kind of garment that falls around the legs: one of ``HANGING``."""
        kind, fixed = _HANGING[garment]
        one = copy(self)
        one.fixed = fixed
        one.config = replace(self.config, outfit_probabilities=tuple(float(name == kind) for name in OUTFITS))
        return one

    def dress(self, vertices: Float[Tensor, "B V 3"], generator: torch.Generator) -> Outer:
        """Dress each body of a batch with its own random outfit.

        Args:
            vertices: posed bodies, world frame, metres, Y up (cloth hangs towards -Y).
            generator: seeded, on the vertices' device.

        Returns:
            The outer surface: first the V body vertices moved outwards, then the rings of a band (skirt, tail). Faces
            under a band, and the bands of samples without one, are not kept.
        """
        return self.outfit(vertices, generator).outer

    def outfit(self, vertices: Float[Tensor, "B V 3"], generator: torch.Generator) -> Dressed:
        """Dress each body as ``dress`` does, and say what covers what."""
        draw, regions = Draw(vertices.shape[0], generator), self.regions
        outfit = _draw_outfit(regions.size(vertices), draw, self.config, self.fixed)
        if self.usual:
            outfit = _usual_lengths(outfit, draw)
        normals = vertex_normals(vertices, self.faces[: -self.num_band_faces])
        normals = functional.normalize(regions.smooth(normals, 2), dim=-1)
        skin, places = _offset_surface(regions, vertices, normals, outfit, draw, self.config)
        rings, has_band, top = _band(regions, skin, outfit, draw, always=bool(self.fixed))
        covered = regions.under_band(top, outfit["hem"]) & has_band
        keep_skin = ~covered[:, self.faces[: -self.num_band_faces]].all(-1)
        keep = torch.cat([keep_skin, has_band.expand(-1, self.num_band_faces)], 1)
        places |= {"wears_band": has_band.float(), "band_top": top, "size": outfit.size}
        outer = Outer(torch.cat([skin, rings.flatten(1, 2)], 1), self.faces, keep)
        return Dressed(outer, outfit.kind, outfit.measures | places)


def step_up(value: Tensor, edge: Tensor | float, width: float = 0.04) -> Tensor:
    """Return 0 below the edge and 1 above it, smoothly over the width."""
    t = ((value - edge) / width + 0.5).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _draw_outfit(size: Tensor, draw: Draw, config: SynthConfig, fixed: Mapping[str, tuple[float, float]]) -> Outfit:
    kind = draw.choice(config.outfit_probabilities)
    ranges = [(fixed[name],) * len(OUTFITS) if name in fixed else row for name, row in _MEASURES.items()]
    table = torch.tensor(ranges, device=draw.device)  # (measures, outfits, 2)
    low, high = table[:, kind].unbind(-1)
    values = low.T + (high - low).T * draw.uniform(shape=(len(_MEASURES),))
    lengths = {"top", "belly", "cuff", "bottom", "tube", "wrinkle", "flare"}
    scale = torch.tensor([name in lengths for name in _MEASURES], device=draw.device)
    values = torch.where(scale, values * size, values)
    return Outfit(kind, dict(zip(_MEASURES, values.split(1, dim=1), strict=True)), size)


def _usual_lengths(outfit: Outfit, draw: Draw) -> Outfit:
    """Make most garments end where most do."""
    measures = dict(outfit.measures)
    for name, kinds, probability, (low, high) in _USUAL:
        concerned = torch.stack([outfit.kind == kind for kind in kinds]).any(0)[:, None]
        value = draw.uniform(low, high)
        measures[name] = torch.where(concerned & draw.chance(probability), value, measures[name])
    return replace(outfit, measures=measures)


def _offset_surface(
    regions: Regions, vertices: Tensor, normals: Tensor, outfit: Outfit, draw: Draw, config: SynthConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Move the skin outwards by all layers; cloth is smoothed and the two trouser legs do not cross."""
    top, bottom = _cover_top(regions, outfit), _cover_bottom(regions, outfit)
    loose, cloth, bridge = _cloth(regions, vertices, normals, top, bottom, outfit, draw)
    hair, hair_places = _hair(regions, outfit.size, draw, config)
    shoes, down, shoe_places = _shoes(regions, vertices, normals, outfit, draw, config)
    pack, pack_places = _backpack(regions, outfit, draw, config)
    thickness = torch.maximum(torch.maximum(cloth, hair), shoes) + pack
    moved = vertices + thickness[..., None] * normals + bridge + down
    soft = torch.maximum(loose, (hair / 0.01).clamp(0, 0.7))[..., None]
    smooth = torch.lerp(moved, regions.smooth(moved, 3), soft)
    inside = (0.6 * thickness - ((smooth - vertices) * normals).sum(-1)).clamp(min=0)
    parted = regions.part_legs(vertices, smooth + inside[..., None] * normals)
    return parted, hair_places | shoe_places | pack_places


def _cover_top(w: Regions, outfit: Outfit) -> Tensor:
    """Return how far the top covers each vertex, 0 to 1 (B, V)."""
    dips = outfit["neck"] - 0.12 * w.front * outfit.size.new_ones(1)
    torso = step_up(w.height, outfit["waist"] - 0.15) * (1 - step_up(w.height, dips))
    arms = 1 - step_up(w.arm, outfit["sleeve"])
    on = (outfit["top"] > 0).float()
    return on * ((1 - w.is_arm) * torso + w.is_arm * arms)


def _cover_bottom(w: Regions, outfit: Outfit) -> Tensor:
    """Return how far trousers cover each vertex, 0 to 1 (B, V)."""
    return (1 - w.is_arm) * (1 - step_up(w.height, outfit["waist"])) * (1 - step_up(w.leg, outfit["leg"]))


def _cloth(
    w: Regions, vertices: Tensor, normals: Tensor, top: Tensor, bottom: Tensor, outfit: Outfit, draw: Draw
) -> tuple[Tensor, Tensor, Tensor]:
    """Return looseness (B, V) in 0 to 1, thickness with wrinkles (B, V), and its stand-off from the torso (B, V, 3)."""
    radius = w.limb_radius(vertices)
    hangs = 0.6 - 0.4 * normals[..., 1]  # cloth rests on what faces up and hangs below what faces down
    leg_tube = outfit["tube"] * (1.15 - 0.15 * w.leg) - radius
    leg_slack = leg_tube.clamp(0, 0.12) * step_up(w.leg, 0.35, 0.6) * hangs
    arm_slack = (outfit["cuff"] - radius).clamp(0, 0.08) * step_up(w.arm, 0.3, 0.6) * hangs
    slack = top * (w.is_torso * outfit["belly"] * w.belly + w.is_arm * arm_slack) + bottom * w.is_leg * leg_slack
    layers = top * outfit["top"] + bottom * outfit["bottom"]
    stand_off, outwards = w.torso_slack(vertices, outfit["drape"])
    bridge = (torch.maximum(top, 0.5 * bottom) * w.is_torso * outfit["fill"])[..., None] * stand_off
    loose = ((slack + layers + bridge[..., 0]) / 0.03).clamp(0, 1) * torch.maximum(top, bottom)
    folds = outfit["wrinkle"] * _wrinkles(w, draw) * (0.3 + loose) * torch.maximum(top, bottom)
    return loose, (slack + layers + folds).clamp(min=0), bridge * outwards


def _wrinkles(w: Regions, draw: Draw) -> Tensor:
    """Return folds (B, V) of about unit height: smooth noise of a random band of wavelengths, its crests sharpened."""
    centre = draw.uniform(w.log_frequency.min().item(), w.log_frequency.max().item())
    gain = torch.exp(-0.5 * ((w.log_frequency - centre) / 0.35) ** 2) * draw.normal((len(w.log_frequency),))
    noise = functional.normalize(gain, dim=1) @ w.waves * 1.4
    sharp = draw.uniform()
    return torch.lerp(noise, 1 - 2 * noise.abs().clamp(max=1), sharp)


def _shoes(
    w: Regions, vertices: Tensor, normals: Tensor, outfit: Outfit, draw: Draw, config: SynthConfig
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return the thickness of shoes or boots (B, V), soles as displacements (B, V, 3) along the foot's own down, and
    where the shoes end.
    """
    likely = torch.tensor(config.shoes_probabilities, device=draw.device)[outfit.kind][:, None]
    on = (draw.uniform() < likely).float()
    shaft = torch.where(draw.chance(0.2), draw.uniform(1.2, 1.85), draw.uniform(1.88, 2.0))
    cover = step_up(w.leg, shaft) * w.is_leg * on
    upper = cover * outfit.size * (draw.uniform(0.003, 0.010) + 0.008 * draw.uniform() * w.toe)
    sole = on * outfit.size * (draw.uniform(0.006, 0.035) + draw.uniform(0, 0.02) * draw.chance(0.3) * w.heel)
    down = w.sole_direction(normals)  # (B, V, 3), zero away from the feet
    return upper, down * (sole * w.sole)[..., None], {"wears_shoes": on, "shaft": shaft}


def _hair(w: Regions, size: Tensor, draw: Draw, config: SynthConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the thickness of hair or hat (B, V), and where it ends."""
    kind = draw.choice(config.hair_probabilities)[:, None]
    start = draw.uniform(-0.02, 0.25)
    cap = step_up(w.hairline, start, 0.12) * w.is_head
    noise = 1 + 0.5 * _wrinkles(w, draw) * draw.uniform()
    volume = cap * (0.004 + 0.05 * draw.uniform() ** 2) * noise
    end = draw.uniform(0.55, 1.15)
    curtain = step_up(w.height, end, 0.08) * (w.neck_gap + draw.uniform(0.005, 0.03)) * w.neck_back * noise
    bun_at = functional.normalize(torch.cat([0 * end, draw.uniform(0.0, 1.0), -draw.uniform(0.5, 1.0)], 1), dim=1)
    bun = torch.exp((bun_at @ w.head_direction.T - 1) / 0.03) * draw.uniform(0.03, 0.07) * cap
    brim = draw.uniform(0.0, 0.4)
    hat = step_up(w.hairline, brim, 0.06) * w.is_head * draw.uniform(0.006, 0.03)
    has_bun = draw.chance(config.bun_probability) & ((kind == 1) | (kind == 2))
    hair = torch.where(kind == 0, 0.0, torch.where(kind == 3, hat, volume))
    hair = torch.where(kind == 2, torch.maximum(hair, curtain), hair) + bun * has_bun
    places = {"hair": kind.float(), "hair_start": start, "hair_end": end, "brim": brim, "wears_bun": has_bun.float()}
    return size * hair.clamp(min=0), places


def _backpack(w: Regions, outfit: Outfit, draw: Draw, config: SynthConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the depth of a backpack (B, V), and where it ends."""
    wears = (outfit.kind == 2) | (outfit.kind == 3)
    on = draw.chance(config.backpack_probability) & wears[:, None]
    lower, depth = draw.uniform(0.25, 0.5), draw.uniform(0.08, 0.2)
    pack = on * outfit.size * depth * step_up(w.height, lower, 0.15) * w.back_panel
    return pack, {"wears_pack": on.float(), "pack_low": lower}


def _band(w: Regions, skin: Tensor, outfit: Outfit, draw: Draw, always: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return rings (B, R, A, 3) from waist to hem, whether the sample has them (B, 1), and where they begin (B, 1).

    Who stands too wide for a skirt gets none, unless it is there ``always``.
    """
    levels = w.levels(skin)
    angle = torch.arange(_NUM_ANGLES, device=skin.device) * (2 * torch.pi / _NUM_ANGLES)
    support = levels.support(angle)
    support = fall(support, outfit["hang"])
    top = draw.uniform(*w.band_top)
    down = torch.linspace(0, 1, _NUM_RINGS, device=skin.device)
    coordinate = top + (outfit["hem"] - top) * down
    mix = w.level_mix(coordinate)  # (B, R, L)
    ease = (outfit["top"] * 0.3 + 0.004)[..., None] + outfit["flare"][..., None] * down[:, None] ** 1.5
    reach = mix @ support + ease
    slope = (reach.roll(-1, 2) - reach.roll(1, 2)) * (_NUM_ANGLES / (4 * torch.pi))
    reach = reach + _hem_waves(angle, down, outfit, draw)
    across, along = angle.cos(), angle.sin()
    x, y = reach * across - slope * along, reach * along + slope * across
    e1, e2 = mix @ levels.side, mix @ levels.front
    rings = (mix @ levels.centre)[:, :, None] + x[..., None] * e1[:, :, None] + y[..., None] * e2[:, :, None]
    # Below the last level, which is at the ankles, rings go on straight down.
    shin = (levels.centre[:, -2] - levels.centre[:, -6]) / (4 * LEVEL_STEP)
    rings = rings + ((coordinate - LAST_LEVEL).clamp(min=0)[..., None] * shin[:, None])[:, :, None]
    fits = (reach.amax((1, 2)) < 0.5 * outfit.size[:, 0])[:, None]  # no skirt spans a split
    return rings, (outfit["band"] > 0) & (fits | always), top


def _hem_waves(angle: Tensor, down: Tensor, outfit: Outfit, draw: Draw) -> Tensor:
    """Return outward waves (B, R, A) of a band, growing towards its hem."""
    count = draw.uniform(4, 10).floor()[..., None]
    phase = draw.uniform(0, 6.28)[..., None] + draw.uniform(-2, 2)[..., None] * down[:, None]
    wave = 1 + torch.cos(count * angle + phase) + 0.5 * torch.cos((count - 2) * angle - 2 * phase)
    height = (outfit["wrinkle"] + 0.2 * outfit["flare"] * draw.uniform())[..., None]
    return height * down[:, None] * wave.clamp(min=0)
