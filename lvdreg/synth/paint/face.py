"""Skin, faces and hair, painted from places that the body's own shape tells.

Nose tip and chin are found on the profile of the mean person, eyes and mouth as the hollows above and below the nose,
ears as what stands out farthest; all lengths scale with the face.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.body.model import BodyData
from lvdreg.synth.choice import RandomChoice
from lvdreg.synth.paint.canvas import Canvas, Ground
from lvdreg.synth.paint.fabric import linear
from lvdreg.synth.paint.numbers import Colour, Mixed, Number, Rgb, Table, blend, column, entry, rgb, shade

_FACE = 0.216  # chin to crown of a face to which the lengths below apply, metres
_AZIMUTHS = 256
# Skin of people from everywhere, sRGB, from pale to dark; hair and irises.
_SKINS = ("ecc9b2", "e4bb9f", "dcae8f", "d09a78", "c48a66", "b0754f", "96603f", "7d4d33", "643c29", "4b2d21", "38221b")
_HAIRS = {
    "0d0b0b": 7.0, "1c1411": 6.0, "2f1f17": 5.0, "4a3020": 4.0, "6b4a2f": 3.0, "8f6b43": 2.0, "b8945c": 2.0,
    "d8bd8a": 1.2, "7a3a1d": 1.0, "a8532a": 0.6, "8d8b89": 2.2, "c9c7c3": 1.5, "4d4b4a": 1.2,
}  # fmt: skip
_DYED = ("8f2340", "2b4f9a", "c65a94", "2e7a5a", "6f3fa0")
_IRISES = {"2b1a10": 6.0, "4b3018": 3.0, "5d6a3a": 1.0, "55749a": 2.0, "6d7d86": 1.0}


@dataclass(frozen=True)
class FacePlaces:
    """Where the parts of the mean person's face lie, metres, rest frame.

    Attributes:
        scale: size of the face, 1 for a common one.
        middle: depth of the middle of the skull.
        top, eye, nose, mouth, chin: heights of crown, eyes, tip of the nose, mouth and chin.
        eye_out: distance of an eye from the middle plane.
        ear: height and depth of the ears.
        chest: distance from the middle plane and height of the breasts' most forward place.
    """

    scale: float
    middle: float
    top: float
    eye: float
    nose: float
    mouth: float
    chin: float
    eye_out: float
    ear: tuple[float, float]
    chest: tuple[float, float]


def find_face(data: BodyData, is_head: NDArray[np.floating], is_torso: NDArray[np.floating]) -> FacePlaces:
    """Find the parts of a face on a body's mean shape."""
    v = data.v_template.astype(np.float64)
    head = v[is_head > 0.5]
    top, low = head[:, 1].max(), head[:, 1].min()
    middle = (head[:, 2].min() + head[:, 2].max()) / 2
    levels = np.linspace(low, top, 160)
    faces = data.faces[(is_head > 0.2)[data.faces].all(1)]
    profile = _profile(v, faces, levels, 0.003)
    nose = int(
        np.argmax(np.where((levels > low + 0.25 * (top - low)) & (levels < low + 0.7 * (top - low)), profile, 0))
    )
    stands = profile > middle + 0.75 * (profile[nose] - middle)
    chin = nose - int(np.argmin(np.append(stands[nose::-1], False))) + 1
    tall = top - levels[chin]
    eye_out = 0.146 * tall
    beside = _profile(v, faces, levels, 0.7 * eye_out) + _profile(v, faces, levels, eye_out)
    eye = _hollow(levels, beside, levels[nose] + 0.165 * tall, 0.05 * tall, 0.06 * tall)
    mouth = _hollow(levels, profile, levels[nose] - 0.145 * tall, 0.05 * tall, 0.03 * tall)
    out = np.abs(head[:, 0])
    ears = head[out > 0.93 * out.max()]
    upper = v[:, 1] > np.quantile(v[is_torso > 0.9, 1], 0.55)
    chest = (np.abs(v[:, 0]) > 0.04) & (np.abs(v[:, 0]) < 0.16) & (is_torso > 0.9) & upper
    foremost = v[chest][v[chest][:, 2].argmax()]
    return FacePlaces(
        scale=tall / _FACE, middle=middle, top=top, eye=eye, nose=float(levels[nose]), mouth=mouth,
        chin=float(levels[chin]), eye_out=eye_out, ear=(float(ears[:, 1].mean()), float(ears[:, 2].mean())),
        chest=(float(abs(foremost[0])), float(foremost[1])),
    )  # fmt: skip


def _profile(
    v: NDArray[np.float64], faces: NDArray[np.int64], levels: NDArray[np.float64], x: float
) -> NDArray[np.float64]:
    """Return the largest z of the surface at one x and each level of y; -1 where there is none."""
    a, b, c = (v[corner][:, :, None] for corner in faces.T)
    det = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    det = np.where(np.abs(det) < 1e-12, np.inf, det)
    s = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (levels - a[:, 1]) * (c[:, 0] - a[:, 0])) / det
    t = ((b[:, 0] - a[:, 0]) * (levels - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / det
    hit = (s >= 0) & (t >= 0) & (s + t <= 1) & np.isfinite(det)
    return np.where(hit, a[:, 2] + s * (b[:, 2] - a[:, 2]) + t * (c[:, 2] - a[:, 2]), -1.0).max(0)


def _hollow(
    levels: NDArray[np.float64], profile: NDArray[np.float64], expected: float, reach: float, width: float
) -> float:
    """Return the level near the expected one at which the profile lies deepest below its surroundings."""
    around = (np.interp(levels - width, levels, profile) + np.interp(levels + width, levels, profile)) / 2
    depth = np.where(np.abs(levels - expected) < reach, profile - around, np.inf)
    return float(levels[int(np.argmin(depth))])


@dataclass(frozen=True)
class Head(Mixed):
    """One person's skin, face and hair; of several that are painted together, those of every pixel.

    Attributes:
        skin, lip, hair, brow, iris: colours.
        mottle: how uneven the skin is.
        flush: redness of the cheeks.
        lid: opening of the eyes, 1 is usual.
        brow_height: thickness of the brows, metres.
        shadow: make-up and shade around the eyes.
        beard: name of the beard; and how dense it is.
        density: see beard.
        glasses: "", "glasses" or "sunglasses".
        hairline: height of the hairline at each azimuth (front to back).
        beard_line: height of a beard's upper border, likewise.
        jaw_line: height of its lower border.
        has_hair: whether hair grows; 1 full, less is shaved to a shade, 0 none.
        curl: 0 straight to 1 curly.
        straying: how ragged the hairline is, metres.
    """

    skin: Colour
    lip: Colour
    hair: Colour
    brow: Colour
    iris: Colour
    mottle: Number
    flush: Number
    lid: Number
    brow_height: Number
    shadow: Number
    beard: str
    density: Number
    glasses: str
    hairline: Float[Tensor, " A"] | Table
    beard_line: Float[Tensor, " A"] | Table
    jaw_line: Float[Tensor, " A"] | Table
    has_hair: Number
    curl: Number
    straying: Number


def skin_colour(choice: RandomChoice) -> Rgb:
    """Draw a skin colour over all of humanity."""
    place = choice.uniform(0, len(_SKINS) - 1.001)
    colour = blend(linear(_SKINS[int(place)]), linear(_SKINS[int(place) + 1]), place % 1)
    light, warm = math.exp(choice.uniform(-0.12, 0.12)), choice.uniform(-0.06, 0.06)
    return (
        min(colour[0] * light, 0.9),
        min(colour[1] * light * (1 + warm), 0.9),
        min(colour[2] * light * (1 - warm), 0.9),
    )


def _flushed(skin: Colour, light: float) -> Any:
    """Return a skin's colour where blood shows through."""
    if isinstance(skin, Tensor):
        factor, least = (
            skin.new_tensor([1.12 * light, 0.62 * light, 0.62 * light]),
            skin.new_tensor([0.03, 0.012, 0.012]),
        )
        return torch.minimum(factor * skin + least, skin.new_tensor([0.9, torch.inf, torch.inf]))
    r, g, b = skin
    return min(1.12 * light * r + 0.03, 0.9), 0.62 * light * g + 0.012, 0.62 * light * b + 0.012


def draw_head(
    face: FacePlaces, kind: int, grown: bool, dressy: bool, choice: RandomChoice, device: torch.device
) -> Head:
    """Draw a head.

    Args:
        face: where its parts are.
        kind: 0 no hair that stands out, 1 short, 2 long, 3 under a hat.
        grown: whether a beard or grey hair may be.
        dressy: whether make-up is likelier and a beard not.
        choice: random numbers.
        device: where tables live.
    """
    skin = skin_colour(choice)
    hair = linear(choice.weighted(_HAIRS))
    if sum(skin) < 0.6 and choice.chance(0.8):
        hair = linear("0f0c0b")
    brow = blend(hair, skin, choice.uniform(0.05, 0.4))
    if choice.chance(0.04):
        hair = linear(choice.pick(_DYED))
    iris = linear(choice.weighted(_IRISES if sum(skin) > 0.5 else {"2b1a10": 1.0}))
    beards = {"": 11.0, "stubble": 4.0, "full": 3.0, "goatee": 1.0, "moustache": 1.0}
    beard = choice.weighted(beards)
    if not grown or dressy or kind == 2:
        beard = ""
    made_up = dressy or (kind == 2 and choice.chance(0.5))
    lip = blend(skin, _flushed(skin, 0.75), choice.uniform(0.6, 1.0))
    if made_up and choice.chance(0.6):
        lip = blend(
            lip, choice.pick(((0.45, 0.03, 0.05), (0.5, 0.12, 0.16), (0.22, 0.03, 0.06))), choice.uniform(0.4, 0.9)
        )
    bald = choice.uniform()
    has_hair = 1.0 if kind in (1, 2) else (choice.uniform(0.35, 0.9) if bald < 0.65 else 0.0)
    tables = _lines(face, kind, choice)
    return Head(
        skin=skin, lip=lip, hair=hair, brow=brow,
        iris=iris, mottle=choice.uniform(0.01, 0.04), flush=choice.uniform(0, 0.5),
        lid=choice.uniform(0.6, 1.0), brow_height=choice.uniform(0.0035, 0.0075),
        shadow=choice.uniform(0.3, 0.6) if made_up else choice.uniform(0.05, 0.35),
        beard=beard, density=choice.uniform(0.25, 0.55) if beard == "stubble" else choice.uniform(0.75, 0.97),
        glasses=choice.weighted({"": 82.0, "glasses": 12.0, "sunglasses": 6.0}),
        hairline=tables[0].to(device), beard_line=tables[1].to(device), jaw_line=tables[2].to(device),
        has_hair=has_hair, curl=choice.uniform() if choice.chance(0.4) else 0.0, straying=choice.uniform(0.001, 0.0045),
    )  # fmt: skip


def _lines(face: FacePlaces, kind: int, choice: RandomChoice) -> tuple[Tensor, Tensor, Tensor]:
    """Return the borders of hair and beard at each azimuth from front (0) to back (pi)."""
    s, (ear, _) = face.scale, face.ear
    azimuth = np.linspace(0, np.pi, _AZIMUTHS)
    forehead = face.eye + (0.078 + choice.uniform(-0.008, 0.010)) * s
    recede = choice.uniform(0, 0.022) ** 1.0 * s if choice.chance(0.4) else 0.0
    side = ear - (0.035 * s if kind == 2 else choice.uniform(-0.010, 0.012) * s)
    over = ear + (-0.04 * s if kind == 2 else 0.022 * s)
    nape = face.mouth + choice.uniform(-0.012, 0.03) * s
    hair = {
        0.0: forehead, 0.40: forehead, 0.55: forehead + recede, 0.85: face.eye + 0.045 * s + 0.5 * recede,
        1.05: face.eye + 0.018 * s, 1.2: face.eye + 0.010 * s, 1.25: side, 1.42: side, 1.45: over, 1.85: over,
        2.0: min(over, ear - 0.01 * s), 2.3: nape, np.pi: nape,
    }  # fmt: skip
    base = (face.nose + face.mouth) / 2 - 0.001 * s
    beard = {
        0.0: base, 0.26: base - 0.002 * s, 0.40: face.mouth + 0.010 * s, 0.8: face.mouth + 0.018 * s,
        1.15: ear - 0.025 * s, 1.25: ear, 1.42: ear, 1.45: -1e3, np.pi: -1e3,
    }  # fmt: skip
    jaw = {0.0: face.chin - 0.015 * s, 0.7: face.chin - 0.008 * s, 1.3: face.mouth - 0.022 * s, np.pi: face.mouth}
    curves = [np.interp(azimuth, list(c), list(c.values())) for c in (hair, beard, jaw)]
    first, second, third = (torch.from_numpy(np.float32(curve)) for curve in curves)
    return first, second, third


def azimuth_index(face: FacePlaces, at: Ground) -> Tensor:
    """Return the entry of the lines' tables for each pixel of a head."""
    azimuth = torch.atan2(at.across, at["z"] - face.middle)
    return (azimuth * ((_AZIMUTHS - 1) / math.pi) + 0.5).long()


def hair_border(face: FacePlaces, head: Head, at: Ground) -> Float[Tensor, " P"]:
    """Return how far above the ragged hairline each pixel of a head lies, metres."""
    stray = at.noise.smooth(at["x"] + at["z"], at["y"], 0.007, 0.014)
    return at["y"] - entry(head.hairline, azimuth_index(face, at)) + head.straying * stray


def paint_skin(at: Ground, face: FacePlaces, head: Head) -> Canvas:
    """Return bare skin, with a face."""
    canvas = Canvas.plain(at, head.skin, 0.12)
    uneven = at.noise.smooth(at["x"] + 0.7 * at["z"], at["y"] + 0.4 * at["z"], 0.045, 0.06)
    canvas.albedo = canvas.albedo * (1 + head.mottle * uneven)[:, None]
    red = blend(head.skin, _flushed(head.skin, 0.9), 0.5)
    canvas.lay((at["arm"] > 2.15) & at.on_arm, red, 0.4)
    joints = _round((at["arm"] - 1) / 0.2) * at.on_arm + _round((at["leg"] - 1) / 0.2) * at.on_leg
    canvas.lay(joints, shade(red, 0.85), 0.3)
    _paint_chest(face, head, canvas)
    is_face = (at["is_head"] > 0.4) & (at["z"] > face.middle - 0.03)
    if at.in_bulk:
        painted = Canvas(at, canvas.albedo, canvas.gloss, canvas.relief)
        _paint_face(face, head, painted)
        canvas.show(is_face, painted)
        return canvas
    rows = is_face.nonzero()[:, 0]
    if len(rows):
        part = Canvas(at.take(rows), canvas.albedo[rows], canvas.gloss[rows], canvas.relief[rows])
        _paint_face(face, head, part)
        canvas.albedo[rows], canvas.gloss[rows], canvas.relief[rows] = part.albedo, part.gloss, part.relief
    return canvas


def _round(x: Tensor) -> Tensor:
    return (1 - x.square()).clamp(min=0)


def _oval(x: Tensor, y: Tensor, wide: float, tall: float, soft: float = 0.35) -> Tensor:
    """Return 1 within an ellipse, falling to 0 over a share of its size."""
    return ((1 - torch.hypot(x / wide, y / tall)) / soft + 0.5).clamp(0, 1)


def _paint_chest(face: FacePlaces, head: Head, canvas: Canvas) -> None:
    at = canvas.at
    near = (
        _oval(at.across - face.chest[0], at["y"] - face.chest[1], 0.014, 0.014)
        * (at["ahead"] > 0)
        * (at["is_arm"] < 0.4)
    )
    canvas.lay(near, blend(head.skin, (0.2, 0.05, 0.04), 0.45))
    canvas.darken(_oval(at["x"], at["height"] - 0.3, 0.006, 0.012) * (at["ahead"] > 0), 0.5)


def _paint_face(face: FacePlaces, head: Head, canvas: Canvas) -> None:
    at, s = canvas.at, face.scale
    out, up = at.across / s, (at["y"] - face.eye) / s
    ahead = at["z"] > face.middle
    dark = shade(head.skin, 0.35)
    cheek = _oval(out - 0.043, up + 0.036, 0.03, 0.025, 1.0) * ahead
    canvas.lay(cheek, _flushed(head.skin, 0.95), head.flush)
    _paint_beard(face, head, canvas)
    tip = (at["y"] - face.nose) / s
    canvas.darken(_oval(out - 0.016, tip + 0.004, 0.006, 0.010, 0.8), 0.22)
    canvas.lay(_oval(out - 0.0075, tip + 0.0105, 0.0045, 0.003) * ahead, shade(dark, 0.5), 0.85)
    _paint_mouth(face, head, canvas)
    _paint_eyes(face, head, canvas, out * ahead + 9.0 * ~ahead, up)


def _paint_mouth(face: FacePlaces, head: Head, canvas: Canvas) -> None:
    at, s = canvas.at, face.scale
    out, up = at.across / s, (at["y"] - face.mouth) / s
    width = (1 - (out / 0.026).square()).clamp(min=0)
    ahead = (at["z"] > face.middle + 0.05 * s).float()
    upper = (up >= 0) & (up < 0.0085 * width.sqrt() - 0.0015 * _round(out / 0.006))
    lower = (up < 0) & (up > -0.0105 * width.sqrt())
    canvas.lay((upper | lower) * ahead, head.lip, 0.85)
    canvas.lay((up.abs() < 0.0014) * (out < 0.027) * ahead, shade(head.lip, 0.25), 0.8)
    canvas.darken(_oval(out, up + 0.017, 0.018, 0.005, 0.8) * ahead, 0.15)


def _paint_eyes(face: FacePlaces, head: Head, canvas: Canvas, out: Tensor, up: Tensor) -> None:
    eye = out - face.eye_out / face.scale
    canvas.darken(_oval(eye, up - 0.003, 0.024, 0.015, 0.9), head.shadow)
    lid = 0.0058 * head.lid
    almond = (eye / 0.0145).square() + (up / lid).square()
    white = ((1 - almond) * 4).clamp(0, 1)
    light = (0.4 + 0.6 * rgb(white, head.skin).sum(-1)).clamp(max=1)  # In dark faces a full white would glow.
    white_colour = white.new_tensor([0.42, 0.40, 0.38]) * light[..., None]
    canvas.lay(white, blend(white_colour, head.skin, 0.25))
    radius = torch.hypot(eye, up - 0.0005)
    canvas.lay(white * (radius < 0.0060), head.iris)
    canvas.lay(white * (radius < 0.0028), (0.005, 0.005, 0.005))
    canvas.shine(almond < 1, 0.3)
    lash = (almond > 0.75) & (up > -0.001) & (eye.abs() < 0.017)
    canvas.lay(lash & ((eye / 0.0165).square() + (up / (lid + 0.0028)).square() < 1), (0.015, 0.01, 0.01), 0.9)
    canvas.darken(((almond > 0.9) & (almond < 1.5) & (up < 0)).float(), 0.3)
    arch = 0.0195 + 0.004 * _round((eye - 0.004) / 0.02)
    ends = ((0.021 - (eye - 0.001).abs()) / 0.006).clamp(0, 1)
    brow = ((head.brow_height * 0.5 * ends - (up - arch).abs()) / 0.0015 + 0.5).clamp(0, 1) * (ends > 0)
    canvas.lay(brow, head.brow, 0.9)
    if head.glasses:
        _paint_glasses(head, canvas, out, eye, up)


def _paint_glasses(head: Head, canvas: Canvas, out: Tensor, eye: Tensor, up: Tensor) -> None:
    lens = (eye / 0.0255).abs() ** 3 + ((up + 0.002) / 0.0195).abs() ** 3
    bridge = (out < 0.012) & ((up - 0.004).abs() < 0.002)
    arm = (out > 0.05) & (out < 1) & ((up - 0.006).abs() < 0.0025)
    if head.glasses == "sunglasses":
        canvas.lay(lens < 1, (0.01, 0.01, 0.012), 0.95)
        canvas.shine(lens < 1, 0.8)
    rim = (lens > 0.72) & (lens < 1.1)
    canvas.lay(rim | bridge | arm, (0.015, 0.013, 0.012))


def _paint_beard(face: FacePlaces, head: Head, canvas: Canvas) -> None:
    if not head.beard:
        return
    at, s = canvas.at, face.scale
    place = azimuth_index(face, at)
    stray = 0.004 * at.noise.smooth(at["x"] + at["z"], at["y"], 0.006, 0.006)
    above = (at["y"] - entry(head.jaw_line, place) + stray) / (0.006 * s)
    below = (entry(head.beard_line, place) - at["y"] + stray) / (0.006 * s)
    share = above.clamp(0, 1) * below.clamp(0, 1)
    if head.beard in ("goatee", "moustache"):
        share = share * (at.across < 0.033 * s)
    if head.beard == "moustache":
        share = share * (at["y"] > face.mouth - 0.002 * s)
    strands = 1 + 0.25 * at.noise.static(at["x"] + at["z"], at["y"], 0.004)
    canvas.lay((share * strands).clamp(0, 1), head.hair, head.density)
    canvas.gloss = canvas.gloss * (1 - share)


def paint_hair(at: Ground, face: FacePlaces, head: Head) -> Canvas:
    """Return hair: strands that run down from the crown, or curls."""
    canvas = Canvas.plain(at, head.hair, 0.1 * (1 - head.curl))
    around = 0.09 * torch.atan2(at["x"], at["z"] - face.middle)
    wide = 0.005 + 0.005 * head.curl
    strand = at.noise.smooth(around, at["y"], wide, 0.05 - 0.04 * head.curl)
    lock = at.noise.smooth(around, at["y"] + 0.3 * around, 0.018, 0.07 - 0.05 * head.curl, 1)
    canvas.albedo = (canvas.albedo * (1 + 0.18 * strand + 0.14 * lock)[:, None]).clamp(min=0.001)
    canvas.relief = 0.0003 * strand + 0.0007 * lock
    # Hair begins thin, where it grows from skin.
    thin = (1 - hair_border(face, head, at) / (0.009 * face.scale)).clamp(0, 0.75) * (at["is_head"] > 0.6)
    canvas.lay(thin * (at["neck_back"] < 0.3), head.skin)
    if not isinstance(head.has_hair, Tensor) and head.has_hair >= 1:
        return canvas
    share = torch.as_tensor(head.has_hair, dtype=around.dtype, device=around.device)
    skin = rgb(canvas.albedo, head.skin)
    canvas.albedo = skin + column(share if share.dim() else share.expand(len(around))) * (canvas.albedo - skin)
    canvas.relief = torch.where(share < 1, 0.1, 1.0) * canvas.relief
    return canvas
