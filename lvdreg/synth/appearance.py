"""How dressed people look: skin, hair and cloth at every pixel, from where on the mean person it lies.

All is computed from coordinates on the mean person (and around the rings of a band), so there are no seams, no images
and no files, and a character looks the same in every pose. Borders of garments are decided at each pixel, which makes
them sharp however coarse the mesh is. Pixels are coloured sample by sample: measures are then plain numbers, a
character pays only for what it wears, and what is worked on stays in the processor's cache.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lvdreg.body.model import BodyData, BodyModel
from lvdreg.synth.choice import RandomChoice
from lvdreg.synth.clothes.layers import Dressed, Wardrobe
from lvdreg.synth.clothes.outfits import Clothes, dress_up
from lvdreg.synth.clothes.tops import GOWN, Trunk
from lvdreg.synth.draw import Draw
from lvdreg.synth.paint.canvas import TORSO_RADIUS, Canvas, Ground
from lvdreg.synth.paint.fabric import Noise
from lvdreg.synth.paint.face import FacePlaces, Head, draw_head, find_face, hair_border, paint_hair, paint_skin
from lvdreg.synth.paint.garments import Garment, paint_garment, v_edge
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
        return _Look(places, head, dress_up(kind, places, self.trunk, head.skin, choice), kind == 0)


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
        if (pixels.sample[1:] < pixels.sample[:-1]).any():
            return self._unordered(pixels)
        seen = functional.embedding_bag(
            pixels.corners, self.table, mode="sum", per_sample_weights=pixels.bary.to(self.table.dtype)
        )
        counts = torch.bincount(pixels.sample, minlength=len(self.looks)).tolist()
        out = Material(seen.new_empty(len(seen), 3), seen.new_empty(len(seen)), seen.new_empty(len(seen)))
        parts = zip(*(values.split(counts) for values in (seen, out.albedo, out.gloss, out.relief)), strict=True)
        for look, (own, albedo, gloss, relief) in zip(self.looks, parts, strict=True):
            if len(own):
                at = Ground(dict(zip(self.columns, own.T.contiguous(), strict=True)), self.noise)
                self._paint(look, self._place_band(look, at), Material(albedo, gloss, relief))
        return Material(out.albedo.clamp_(0, 1), out.gloss, out.relief)

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
                canvas = self._paint_zone(look, zone, at.take(rows))
                out.albedo[rows], out.gloss[rows], out.relief[rows] = canvas.albedo, canvas.gloss, canvas.relief

    def _place_band(self, look: _Look, at: Ground) -> Ground:
        """Give pixels on the band the heights that their rings have in this sample."""
        if not look.places["wears_band"]:
            return at
        on = at["ring"] >= 0
        lower = look.places["band_top"] + (look.places["hem"] - look.places["band_top"]) * at["ring"]
        y = self.trunk.hip - torch.where(lower < 0, lower * self.trunk.length, lower * _THIGH)
        height = (y - self.trunk.hip) / self.trunk.length
        values = {"lower": lower, "y": y, "height": height}
        return at.replace(**{name: torch.where(on, value, at[name]) for name, value in values.items()})

    def _zones(self, look: _Look, at: Ground) -> Int[Tensor, " P"]:
        """Tell what each pixel shows."""
        places, clothes = look.places, look.clothes
        zone = torch.full_like(at["x"], SKIN, dtype=torch.int64)
        band, head = at["ring"] > -0.5, at["is_head"] > 0.5
        if clothes.socks is not None:
            zone[at.on_leg & (at["leg"] > clothes.sock_top)] = SOCKS
        body = ~at.on_arm & ~head
        below = body & (at["height"] < clothes.waist) & ((at["leg"] < clothes.leg_end) | ~at.on_leg)
        zone[below] = BOTTOM
        top = self._top(look, at) & ~head
        if clothes.tucked:
            top &= ~below
        zone[top] = TOP
        zone[band] = BAND
        if clothes.shoes is not None:
            zone[at.on_leg & (at["leg"] > places["shaft"]) & ~band] = SHOES
        if clothes.gloves is not None:
            zone[at.on_arm & (at["arm"] > 1.9)] = GLOVES
        elif clothes.watch is not None:
            watch = at.on_arm & ((at["arm"] - 1.88).abs() < 0.05) & (at["x"] > 0)
            zone[watch & (zone == SKIN)] = WATCH
        self._head_zones(look, at, zone)
        if clothes.pack is not None:
            zone[self._pack(look, at)] = PACK
        return zone

    def _top(self, look: _Look, at: Ground) -> Tensor:
        places, clothes = look.places, look.clothes
        garment = clothes.top
        if garment is None:
            return torch.zeros_like(at.on_arm)
        if look.bare:
            return ~at.on_arm & (at["height"] > 0.56) & (at["height"] < 0.78 - 0.05 * at["front"])
        low = at["lower"] < clothes.dress_end if clothes.dress_end > -9 else at["height"] > clothes.top_low
        torso = low & (at["height"] < places["neck"] - 0.12 * at["front"])
        if garment.cut > 0:
            torso &= ~(at.ahead & (v_edge(at, places["neck"], garment.cut, self.trunk.length, 0.5) > 0))
        return torch.where(at.on_arm, at["arm"] < places["sleeve"], torso)

    def _head_zones(self, look: _Look, at: Ground, zone: Tensor) -> None:
        """Tell hair, hat and scarf from skin."""
        places, clothes, head = look.places, look.clothes, look.head
        rows = ((at["is_head"] > 0.3) | (at["neck_back"] > 0.3)).nonzero()[:, 0]
        if not len(rows):
            return
        part = at.take(rows)
        own = zone[rows]
        above = hair_border(self.face, head, part)
        skull = part["is_head"] > 0.45
        hair = skull & (above > 0)
        if places["hair"] == 2:
            ends = places["hair_end"] + 0.03 * part.noise.smooth(part["x"], part["y"], 0.012, 0.05)
            hair |= (part["neck_back"] > 0.4) & (part["height"] > ends)
        if head.has_hair > 0:
            own[hair] = HAIR
        if clothes.scarf is not None:
            s = self.face.scale
            oval = torch.hypot(part["x"] / (0.062 * s), (part["y"] - self.face.eye + 0.025 * s) / (0.088 * s)) < 1
            own[~(oval & (part["z"] > self.face.middle))] = SCARF
        if clothes.hat is not None:
            tilt = part["y"] - self.face.eye - (0.055 + 0.4 * (part["z"] - self.face.middle)) * self.face.scale
            own[skull & ((part["hairline"] > places["brim"]) | (tilt > 0))] = HAT
        zone[rows] = own
        if clothes.scarf is not None:
            zone[(at["height"] > look.places["neck"] - 0.1) & ~at.on_arm & (at["is_head"] <= 0.3)] = SCARF

    def _pack(self, look: _Look, at: Ground) -> Tensor:
        panel = (at["back_panel"] > 0.35) & (at["height"] > look.places["pack_low"])
        inner = (at.across - 0.1).abs() < 0.018
        return panel | (inner & at.ahead & (at["height"] > 0.45) & ~at.on_arm & (at["is_head"] < 0.3))

    def _paint_zone(self, look: _Look, zone: int, at: Ground) -> Canvas:
        clothes = look.clothes
        if zone == SKIN:
            return paint_skin(self.face, look.head, at)
        if zone == HAIR:
            return paint_hair(self.face, look.head, at)
        if zone == WATCH:
            return Canvas.plain(at, clothes.watch or look.head.skin, 0.5)
        garments: dict[int, Garment | None] = {
            SOCKS: clothes.socks, BOTTOM: clothes.bottom, TOP: clothes.top, BAND: clothes.band, SHOES: clothes.shoes,
            GLOVES: clothes.gloves, HAT: clothes.hat, PACK: clothes.pack, SCARF: clothes.scarf,
        }  # fmt: skip
        garment = garments[zone]
        return paint_skin(self.face, look.head, at) if garment is None else paint_garment(garment, at)
