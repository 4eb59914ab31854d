"""How dressed people look: skin, hair and cloth at every pixel, from where on the mean person it lies.

All is computed from coordinates on the mean person (and around the rings of a band), so there are no seams, no images
and no files, and a character looks the same in every pose. Borders of garments are decided at each pixel, which makes
them sharp however coarse the mesh is. Pixels are coloured sample by sample: measures are then plain numbers, a
character pays only for what it wears, and what is worked on stays in the processor's cache.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lvdreg.base import devices
from lvdreg.body.model import BodyData, BodyModel
from lvdreg.synth.choice import RandomChoice
from lvdreg.synth.clothes.layers import Dressed, Wardrobe
from lvdreg.synth.clothes.outfits import Clothes, dress_up
from lvdreg.synth.clothes.tops import GOWN, Trunk
from lvdreg.synth.draw import Draw
from lvdreg.synth.paint.bulk import Coat, paint_together
from lvdreg.synth.paint.canvas import TORSO_RADIUS, Canvas, Ground
from lvdreg.synth.paint.fabric import Noise
from lvdreg.synth.paint.face import FacePlaces, Head, draw_head, find_face, hair_border, paint_hair, paint_skin
from lvdreg.synth.paint.garments import Garment, paint_cloth, v_edge
from lvdreg.synth.paint.numbers import Mixed, Number, Rgb, Table, some, together
from lvdreg.synth.people.regions import Regions
from lvdreg.synth.subjects import Material, Pixels, Texture

_DICE = 400
_THIGH = 0.40  # metres for a unit of Regions' lower on the legs
_GROWN = 0.8
NUM_ZONES = 12
SKIN, SOCKS, BOTTOM, TOP, BAND, SHOES, GLOVES, WATCH, HAIR, HAT, PACK, SCARF = range(NUM_ZONES)


class Appearance:
    """Colours dressed people at random.

    Args:
        body: the body.
        wardrobe: dresses it.
    """

    def __init__(self, body: BodyModel, wardrobe: Wardrobe) -> None:
        regions, data = wardrobe.regions, body.data
        skin = _skin_columns(data, regions)
        band = _band_columns(data, skin, wardrobe.num_rings, wardrobe.num_angles)
        device = body.faces.device
        rows = np.concatenate([np.stack(list(skin.values()), 1), np.stack([band[name] for name in skin], 1)])
        self.columns = {name: i for i, name in enumerate(skin)}
        self.table: Float[Tensor, "N C"] = torch.from_numpy(rows.astype(np.float32)).to(device)
        self.noise = Noise(device)
        head, torso = (part.double().cpu().numpy() for part in (regions.is_head, regions.is_torso))
        self.face = find_face(data, head, torso)
        neck = data.J_template[data.joint_names.index("neck")][1]
        hip = data.J_template[[data.joint_names.index(f"{side}_hip") for side in ("left", "right")], 1].mean()
        self.trunk = Trunk(float(hip), float(neck - hip))

    def draw(self, dressed: Dressed, draw: Draw) -> Texture:
        """Draw skin, hair, face and garments for every sample of a batch."""
        numbers = draw.uniform(shape=(_DICE,)).tolist()
        places = {name: value[:, 0].tolist() for name, value in dressed.places.items()}
        looks = []
        for i, kind in enumerate(dressed.kind.tolist()):
            own = {name: values[i] for name, values in places.items()}
            looks.append(self._look(kind, own, RandomChoice(numbers[i])))
        return _Painter(self.table, self.columns, self.noise, self.face, self.trunk, looks)

    def _look(self, kind: int, places: dict[str, float], choice: RandomChoice) -> "_Look":
        grown = places["size"] > _GROWN
        head = draw_head(self.face, int(places["hair"]), grown, kind == GOWN, choice, self.table.device)
        return _Look(places, head, dress_up(kind, places, self.trunk, cast(Rgb, head.skin), choice), kind == 0)


def _skin_columns(data: BodyData, w: Regions) -> dict[str, NDArray[np.floating]]:
    """Return what is known of every vertex of the body."""
    v = data.v_template.astype(np.float64)
    torso = w.is_torso.double().cpu().numpy()
    middle = (torso @ v[:, 2]) / torso.sum()
    names = (
        "height", "lower", "arm", "leg", "is_arm", "is_leg", "is_head", "front", "hairline", "neck_back", "back_panel",
    )  # fmt: skip
    columns = {name: getattr(w, name).double().cpu().numpy() for name in names}
    columns |= {"x": v[:, 0], "y": v[:, 1], "z": v[:, 2], "ahead": v[:, 2] - middle, "ring": np.full(len(v), -1.0)}
    columns |= _limb_axes(data, v, columns["arm"], ("shoulder", "elbow", "wrist"), "arm")
    columns |= _limb_axes(data, v, columns["leg"], ("hip", "knee", "ankle"), "leg")
    return columns | _foot_axes(v, columns["leg"], columns["is_leg"])


def _limb_axes(
    data: BodyData, v: NDArray[np.floating], along: NDArray[np.floating], names: tuple[str, ...], limb: str
) -> dict[str, NDArray[np.floating]]:
    """Return how far each vertex lies ahead of its limb's middle line, and above it (arms) or outside it (legs)."""
    sides = [
        data.J_template[[data.joint_names.index(f"{side}_{name}") for name in names]] for side in ("left", "right")
    ]
    ahead, other = np.zeros(len(v)), np.zeros(len(v))
    at = np.clip(along, 0, 2)
    for sign, line in zip((1.0, -1.0), sides, strict=True):
        axis = (line[2] - line[0]) / np.linalg.norm(line[2] - line[0])
        forward = np.array([0, 0, 1.0]) - axis[2] * axis
        forward /= np.linalg.norm(forward)
        aside = np.cross(forward, axis) * sign  # Up for arms, outwards for legs.
        middle = np.stack([np.interp(at, np.arange(3), line[:, i]) for i in range(3)], 1)
        own = sign * v[:, 0] >= 0
        ahead[own] = ((v - middle) @ forward)[own]
        other[own] = ((v - middle) @ aside)[own]
    return {f"{limb}_ahead": ahead, "arm_up" if limb == "arm" else "leg_out": other}


def _foot_axes(
    v: NDArray[np.floating], leg: NDArray[np.floating], is_leg: NDArray[np.floating]
) -> dict[str, NDArray[np.floating]]:
    """Return distances from the ground, from the tip of the toes, and from the foot's own middle line outwards."""
    foot = (leg > 2) & (is_leg > 0.5)
    out = np.abs(v[:, 0])
    slope, start = np.polyfit(v[foot, 2], out[foot], 1)
    return {
        "above_ground": v[:, 1] - v[foot, 1].min(),
        "toe_tip": v[foot, 2].max() - v[:, 2],
        "foot_out": out - (start + slope * v[:, 2]),
    }


def _band_columns(
    data: BodyData, skin: dict[str, NDArray[np.floating]], rings: int, angles: int
) -> dict[str, NDArray[np.floating]]:
    """Return the same of the band's vertices: a tube around the torso; heights follow with each sample's measures."""
    ring, angle = np.meshgrid(np.linspace(0, 1, rings), np.arange(angles) * (2 * np.pi / angles), indexing="ij")
    zeros = np.zeros(ring.size)
    x, ahead = TORSO_RADIUS * np.cos(angle).ravel(), TORSO_RADIUS * np.sin(angle).ravel()
    columns = dict.fromkeys(skin, zeros) | {"leg": zeros - 1, "arm": zeros - 1, "toe_tip": zeros + 1}
    return columns | {"x": x, "ahead": ahead, "z": ahead, "ring": ring.ravel(), "above_ground": zeros + 1}


@dataclass(frozen=True)
class _Look:
    """One character: its measures, its head and its clothes."""

    places: dict[str, float]
    head: Head
    clothes: Clothes
    bare: bool


@dataclass(frozen=True)
class _Borders(Mixed):
    """Where what is worn begins and ends, of one character or of every pixel's; whether it is, as 1 or 0.

    Attributes:
        dress: Whether the top reaches down to ``dress_end``, in Regions' lower.
        tucked: Whether trousers lie over the top.
        long_hair: Whether hair falls on the back.
        socks, top, shoes, gloves, watch, scarf, hat, pack, band, bare: Whether there are any; ``bare``: nothing else.
    """

    sock_top: Number
    waist: Number
    leg_end: Number
    top_low: Number
    dress_end: Number
    cut: Number
    neck: Number
    sleeve: Number
    shaft: Number
    hair_end: Number
    brim: Number
    pack_low: Number
    band_top: Number
    hem: Number
    dress: Number
    tucked: Number
    long_hair: Number
    has_hair: Number
    socks: Number
    top: Number
    shoes: Number
    gloves: Number
    watch: Number
    scarf: Number
    hat: Number
    pack: Number
    band: Number
    bare: Number

    @classmethod
    def of(cls, look: "_Look") -> "_Borders":
        """Return those of a character."""
        clothes, places = look.clothes, look.places
        worn = {
            name: float(getattr(clothes, name) is not None)
            for name in ("socks", "top", "shoes", "gloves", "watch", "scarf", "hat", "pack")
        }
        same = ("neck", "sleeve", "shaft", "hair_end", "brim", "pack_low", "band_top", "hem")
        return cls(
            **{
                name: float(getattr(clothes, name)) for name in ("sock_top", "waist", "leg_end", "top_low", "dress_end")
            },
            **{name: float(places[name]) for name in same},
            **worn,
            cut=cast(float, clothes.top.cut) if clothes.top is not None else 0.0,
            dress=float(clothes.dress_end > -9),
            tucked=float(clothes.tucked),
            long_hair=float(places["hair"] == 2),
            has_hair=float(look.head.has_hair > 0),
            band=float(places["wears_band"] > 0),
            bare=float(look.bare),
        )


@dataclass(frozen=True)
class _Painter:
    """The looks of a batch; see Texture."""

    table: Float[Tensor, "N C"]
    columns: dict[str, int]
    noise: Noise
    face: FacePlaces
    trunk: Trunk
    looks: list[_Look]

    @torch.no_grad()
    def __call__(self, pixels: Pixels) -> Material:
        """Return the material at pixels."""
        if devices.in_bulk(pixels.sample.device):
            return self._in_bulk(pixels)
        if (pixels.sample[1:] < pixels.sample[:-1]).any():
            return self._unordered(pixels)
        seen = self._seen(pixels)
        counts = torch.bincount(pixels.sample, minlength=len(self.looks)).tolist()
        out = Material(seen.new_empty(len(seen), 3), seen.new_empty(len(seen)), seen.new_empty(len(seen)))
        parts = zip(*(values.split(counts) for values in (seen, out.albedo, out.gloss, out.relief)), strict=True)
        for look, (own, albedo, gloss, relief) in zip(self.looks, parts, strict=True):
            if len(own):
                at = Ground(dict(zip(self.columns, own.T.contiguous(), strict=True)), self.noise)
                self._paint(look, self._place_band(_Borders.of(look), at), Material(albedo, gloss, relief))
        return Material(out.albedo.clamp_(0, 1), out.gloss, out.relief)

    def _seen(self, pixels: Pixels) -> Float[Tensor, "P C"]:
        """Return what is known of the places that pixels see."""
        bary = pixels.bary.to(self.table.dtype)
        return functional.embedding_bag(pixels.corners, self.table, mode="sum", per_sample_weights=bary)

    def _in_bulk(self, pixels: Pixels) -> Material:
        """Colour the pixels of all samples at once; they are sorted by what is painted alike."""
        at = Ground(dict(zip(self.columns, self._seen(pixels).T.contiguous(), strict=True)), self.noise, in_bulk=True)
        borders = together([_Borders.of(look) for look in self.looks], pixels.sample)
        at = self._place_band(borders, at)
        zones = self._zones_within(borders, self._hair_lines(pixels.sample), at)
        coats = [self._coat(look, zone) for look in self.looks for zone in range(NUM_ZONES)]
        canvas = paint_together(coats, pixels.sample * NUM_ZONES + zones, at)
        return Material(canvas.albedo.clamp(0, 1), canvas.gloss, canvas.relief)

    def _hair_lines(self, sample: Int[Tensor, " P"]) -> Head:
        """Return heads whose hairlines are those of every pixel's own sample."""
        lines = Table(torch.stack([look.head.hairline for look in self.looks]), sample)  # type: ignore[misc]
        straying = torch.tensor([look.head.straying for look in self.looks], device="cpu").to(sample.device)[sample]
        return replace(self.looks[0].head, hairline=lines, straying=straying)

    def _unordered(self, pixels: Pixels) -> Material:
        order = torch.argsort(pixels.sample, stable=True)
        found = self(Pixels(pixels.sample[order], pixels.corners[order], pixels.bary[order]))
        back = torch.argsort(order)
        return Material(found.albedo[back], found.gloss[back], found.relief[back])

    def _paint(self, look: _Look, at: Ground, out: Material) -> None:
        """Colour one sample's pixels, one kind of surface after another."""
        zones = self._zones(look, at)
        counts = torch.bincount(zones, minlength=NUM_ZONES).tolist()
        for zone, rows in enumerate(torch.argsort(zones, stable=True).split(counts)):
            if len(rows):
                canvas = self._coat(look, zone).paint(at.take(rows))
                out.albedo[rows], out.gloss[rows], out.relief[rows] = canvas.albedo, canvas.gloss, canvas.relief

    def _place_band(self, borders: _Borders, at: Ground) -> Ground:
        """Give pixels on the band the heights that their rings have in this sample."""
        if not some(borders.band):
            return at
        on = (at["ring"] >= 0) & (torch.as_tensor(borders.band, device=at["ring"].device) > 0)
        lower = borders.band_top + (borders.hem - borders.band_top) * at["ring"]
        y = self.trunk.hip - torch.where(lower < 0, lower * self.trunk.length, lower * _THIGH)
        height = (y - self.trunk.hip) / self.trunk.length
        values = {"lower": lower, "y": y, "height": height}
        return at.replace(**{name: torch.where(on, value, at[name]) for name, value in values.items()})

    def _zones(self, look: _Look, at: Ground) -> Int[Tensor, " P"]:
        """Tell what each pixel of a sample shows."""
        return self._zones_within(_Borders.of(look), look.head, at)

    def _zones_within(self, borders: _Borders, head: Head, at: Ground) -> Int[Tensor, " P"]:
        """Tell what each pixel shows, by the borders of what its sample wears, and its hairline."""
        b, zone = borders, torch.full_like(at["x"], SKIN, dtype=torch.int64)
        band, on_head = at["ring"] > -0.5, at["is_head"] > 0.5

        def dress(zone: Tensor, number: int, where: Tensor, worn: Number = 1.0) -> Tensor:
            return torch.where(where & _is(worn, where), number, zone) if some(worn) else zone

        zone = dress(zone, SOCKS, at.on_leg & (at["leg"] > b.sock_top), b.socks)
        body = ~at.on_arm & ~on_head
        below = body & (at["height"] < b.waist) & ((at["leg"] < b.leg_end) | ~at.on_leg)
        zone = dress(zone, BOTTOM, below)
        top = self._top(b, at) & ~on_head & ~(below & _is(b.tucked, below))
        zone = dress(zone, TOP, top, b.top)
        zone = dress(zone, BAND, band)
        zone = dress(zone, SHOES, at.on_leg & (at["leg"] > b.shaft) & ~band, b.shoes)
        zone = dress(zone, GLOVES, at.on_arm & (at["arm"] > 1.9), b.gloves)
        watch = at.on_arm & ((at["arm"] - 1.88).abs() < 0.05) & (at["x"] > 0) & (zone == SKIN)
        zone = dress(zone, WATCH, watch & ~_is(b.gloves, watch), b.watch)
        zone = self._head_zones(b, head, at, zone)
        return dress(zone, PACK, self._pack(b, at), b.pack)

    def _top(self, b: _Borders, at: Ground) -> Tensor:
        height = at["height"]
        bare = ~at.on_arm & (height > 0.56) & (height < 0.78 - 0.05 * at["front"])
        low = torch.where(_is(b.dress, height), at["lower"] < b.dress_end, height > b.top_low)
        torso = low & (height < b.neck - 0.12 * at["front"])
        if some(b.cut):
            inside = at.ahead & (v_edge(at, b.neck, b.cut, self.trunk.length, 0.5) > 0)
            torso &= ~(inside & (torch.as_tensor(b.cut, device=height.device) > 0))
        return torch.where(_is(b.bare, height), bare, torch.where(at.on_arm, at["arm"] < b.sleeve, torso))

    def _head_zones(self, b: _Borders, head: Head, at: Ground, zone: Tensor) -> Tensor:
        """Tell hair, hat and scarf from skin."""
        near = (at["is_head"] > 0.3) | (at["neck_back"] > 0.3)
        if at.in_bulk:
            zone = torch.where(near, self._on_head(b, head, at, zone), zone)
        else:
            rows = near.nonzero()[:, 0]
            if not len(rows):
                return zone
            zone[rows] = self._on_head(b, head, at.take(rows), zone[rows])
        if not some(b.scarf):
            return zone
        wound = (at["height"] > b.neck - 0.1) & ~at.on_arm & (at["is_head"] <= 0.3)
        return torch.where(wound & _is(b.scarf, wound), SCARF, zone)

    def _on_head(self, b: _Borders, head: Head, at: Ground, zone: Tensor) -> Tensor:
        """Tell the same of pixels of a head."""
        face = self.face
        skull = at["is_head"] > 0.45
        hair = skull & (hair_border(face, head, at) > 0)
        if some(b.long_hair):
            ends = b.hair_end + 0.03 * at.noise.smooth(at["x"], at["y"], 0.012, 0.05)
            hair |= (at["neck_back"] > 0.4) & (at["height"] > ends) & _is(b.long_hair, hair)
        zone = torch.where(hair & _is(b.has_hair, hair), HAIR, zone)
        if some(b.scarf):
            across, up = (
                at["x"] / (0.062 * face.scale),
                (at["y"] - face.eye + 0.025 * face.scale) / (0.088 * face.scale),
            )
            oval = (torch.hypot(across, up) < 1) & (at["z"] > face.middle)
            zone = torch.where(~oval & _is(b.scarf, hair), SCARF, zone)
        if some(b.hat):
            tilt = at["y"] - face.eye - (0.055 + 0.4 * (at["z"] - face.middle)) * face.scale
            under = skull & ((at["hairline"] > b.brim) | (tilt > 0))
            zone = torch.where(under & _is(b.hat, hair), HAT, zone)
        return zone

    def _pack(self, b: _Borders, at: Ground) -> Tensor:
        panel = (at["back_panel"] > 0.35) & (at["height"] > b.pack_low)
        inner = (at.across - 0.1).abs() < 0.018
        return panel | (inner & at.ahead & (at["height"] > 0.45) & ~at.on_arm & (at["is_head"] < 0.3))

    def _coat(self, look: _Look, zone: int) -> Coat:
        """Return what is painted where somebody shows something."""
        clothes = look.clothes
        if zone == HAIR:
            # Beards and glasses are none of its business.
            return Coat(partial(paint_hair, face=self.face, head=replace(look.head, beard="", glasses="")))
        if zone == WATCH:
            return Coat(partial(Canvas.plain, colour=clothes.watch or look.head.skin, gloss=0.5))
        garments: dict[int, Garment | None] = {
            SOCKS: clothes.socks, BOTTOM: clothes.bottom, TOP: clothes.top, BAND: clothes.band, SHOES: clothes.shoes,
            GLOVES: clothes.gloves, HAT: clothes.hat, PACK: clothes.pack, SCARF: clothes.scarf,
        }  # fmt: skip
        garment = garments.get(zone)
        if garment is None:
            return Coat(partial(paint_skin, face=self.face, head=look.head))
        return Coat(partial(paint_cloth, fabric=garment.fabric), garment.details)


def _is(number: Number, like: Tensor) -> Tensor:
    """Return whether something that is 1 or 0 is, for everybody or for each pixel."""
    return torch.as_tensor(number, device=like.device) > 0.5
