"""How light falls on what pixels see: shadows, hollows, relief and gloss. Camera axes; pixels in flat lists."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.synth.camera import Cameras, framing
from lvdreg.synth.light import Lights
from lvdreg.synth.outer import Outer
from lvdreg.synth.raster import Seen, look, place
from lvdreg.synth.subjects import Material

_SHADOW_FILL = 0.95  # share of the shadow map that a person fills
_SHADOW_OFFSET = 1.6  # shadows are looked up so many texels off the surface, or it would shade itself
_SHADOW_BIAS = 0.6  # and so many nearer to the light
_REACHES = (0.05, 0.16)  # how far occlusion looks, metres
_DIRECTIONS = 6  # in how many directions
_TANGENT = 0.12  # what rises less over a surface's plane hides no light: the surface is not that smooth itself
_STEEPEST = 1.2  # relief is no steeper than this
_SHOULDER = 0.7  # brighter light than this is pressed into what is left below 1


@dataclass(frozen=True)
class ShadowMap:
    """What the key light reaches.

    Attributes:
        cameras: The light's, without perspective.
        depth: Of the surface nearest to the light, metres; infinite where there is none.
    """

    cameras: Cameras
    depth: Float[Tensor, "B R R"]

    def coordinates(self, vertices: Float[Tensor, "B N 3"], normals: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Return where vertices are looked up, to be interpolated over faces and given to ``lit``."""
        texel = 1 / self.cameras.scale[:, None, None]
        where = self.cameras.project(vertices + _SHADOW_OFFSET * texel * normals)
        return torch.cat([where[..., :2], where[..., 2:] - _SHADOW_BIAS * texel], -1)

    def lit(self, where: Float[Tensor, "P 3"], sample: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Return the share of the key light that reaches points: 3 x 3 looks, weighted by a quadratic spline."""
        size = self.depth.shape[-1]
        cell = where[:, :2].floor().clamp(1, size - 2)
        offset = (where[:, :2] - cell - 0.5).clamp(-0.5, 0.5)
        weights = torch.stack([0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2])
        cell = cell.long()
        middle = sample * (size * size) + cell[:, 1] * size + cell[:, 0]
        steps = torch.arange(-1, 2, device=middle.device)
        around = middle[:, None] + (steps[:, None] * size + steps).flatten()
        reached = (self.depth.view(-1)[around] >= where[:, 2:]).to(where.dtype)
        spread = (weights[:, None, :, 1] * weights[None, :, :, 0]).flatten(0, 1).T
        return (reached * spread).sum(1)


def shadow_map(outer: Outer, lights: Lights, size: int) -> ShadowMap:
    """Look at people from their key lights, with a picture of so many pixels."""
    away = -lights.direction
    # Any axis will do for up that is not the light's own.
    up = torch.eye(3, dtype=away.dtype, device=away.device)[away.abs().argmin(-1)]
    right = functional.normalize(torch.linalg.cross(up, away), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(away, right), away], 1)
    zero, one = torch.zeros_like(lights.shadow), torch.ones_like(lights.shadow)
    cameras = Cameras(rotation, torch.zeros_like(away), one, zero, torch.zeros_like(away[:, :2]))
    cameras = framing(outer.vertices, cameras, size, _SHADOW_FILL * one)
    seen = look(place(outer, cameras), size)
    depth = outer.vertices.new_full((len(outer.vertices) * size * size,), torch.inf)
    depth[seen.pixel] = seen.depth.to(depth.dtype)
    return ShadowMap(cameras, depth.view(-1, size, size))


def hollows(
    depth: Float[Tensor, "B S S"], normals: Float[Tensor, "B S S 3"], cameras: Cameras
) -> Float[Tensor, "B S S"]:
    """Return how much of the light of the surroundings each pixel misses, 0 to 1, by what is seen around it.

    A few looks at two distances (obscurance, as Bunnell 2005 and McGuire et al. 2011 take it) at half the resolution.
    """
    batch, size = depth.shape[:2]
    sample, row, column = torch.isfinite(depth[:, ::2, ::2]).nonzero(as_tuple=True)
    pixel = sample * (size * size) + 2 * row * size + 2 * column
    here, normal = depth.view(-1)[pixel], normals.view(-1, 3)[pixel]
    scale = cameras.scale.to(depth.dtype)[sample]
    hidden = torch.zeros_like(here)
    angles = torch.arange(_DIRECTIONS, device=depth.device) * (2 * torch.pi / _DIRECTIONS)
    for turn, reach in enumerate(_REACHES):
        length = (0.6 * reach * scale).clamp(min=1.5)
        for angle in (angles + turn * torch.pi / _DIRECTIONS).tolist():
            right = (2 * column + length * torch.tensor(angle).cos().item()).round().long().clamp(0, size - 1)
            down = (2 * row + length * torch.tensor(angle).sin().item()).round().long().clamp(0, size - 1)
            rise = depth.view(-1)[sample * (size * size) + down * size + right] - here
            step = torch.stack([(right - 2 * column) / scale, (down - 2 * row) / scale, rise], -1)
            distance = step.norm(dim=-1).clamp(min=1e-6)
            over = (step * normal).sum(-1) / distance - _TANGENT
            # What is far before the surface is another body part in front of it, not the side of a hollow.
            hidden += torch.where(rise.isfinite(), over.clamp(min=0) * (1.6 - distance / reach).clamp(0, 1), 0.0)
    half = (size + 1) // 2
    out = depth.new_zeros(2, batch, half, half)
    out[0, sample, row, column] = (hidden * (4.0 / (_DIRECTIONS * len(_REACHES)))).clamp(max=1)
    out[1, sample, row, column] = 1
    blurred = functional.avg_pool2d(out, 3, 1, 1)
    filled = blurred[0] / blurred[1].clamp(min=1e-6)
    return functional.interpolate(filled[:, None], scale_factor=2, mode="bilinear")[:, 0, :size, :size]


def bumped(
    normals: Float[Tensor, "P 3"], seen: Seen, relief: Float[Tensor, " P"], cameras: Cameras, size: int, step: float
) -> Float[Tensor, "P 3"]:
    """Tilt normals by a relief that is known at the pixels only (Mikkelsen 2010, unparametrised).

    Args:
        normals: Unit, camera axes, towards the viewer.
        seen: What the pixels see.
        relief: Height over the surface, metres.
        cameras: One for each sample.
        size: Pixels a side of the grid on which was looked.
        step: Its step, in the cameras' pixels.
    """
    number = torch.full((len(cameras.scale) * size * size,), -1, dtype=torch.int64, device=relief.device)
    number[seen.pixel] = torch.arange(len(seen.pixel), device=relief.device)
    column, row = seen.pixel % size, torch.div(seen.pixel, size, rounding_mode="floor") % size
    z = seen.depth.to(normals.dtype)
    scale, perspective = cameras.scale[seen.sample].to(z.dtype), cameras.perspective[seen.sample].to(z.dtype)
    centre = cameras.centre[seen.sample].to(z.dtype)
    ray = (torch.stack([column, row], -1) + 0.5) * step - centre
    ray = ray / scale[:, None]
    texel = step * (1 + perspective * z) / scale
    slopes = []
    for axis, at, skip in ((0, column, 1), (1, row, size)):
        other = number[(seen.pixel + skip).clamp(max=len(number) - 1)]
        rise_z, rise_h = z[other] - z, relief[other] - relief
        # Only within one surface: a jump in depth of more than a steep slope is an edge.
        same = (other >= 0) & (at < size - 1) & (rise_z.abs() < 6 * texel)
        rise_z, rise_h = torch.where(same, rise_z, 0.0), torch.where(same, rise_h, 0.0)
        along = torch.cat([ray * (perspective * rise_z)[:, None], rise_z[:, None]], -1)
        along[:, axis] += texel + step * perspective * rise_z / scale
        slopes.append((along, rise_h))
    (along_x, rise_x), (along_y, rise_y) = slopes
    across_x, across_y = torch.linalg.cross(along_y, normals), torch.linalg.cross(normals, along_x)
    area = (along_x * across_x).sum(-1, keepdim=True)
    gradient = (rise_x[:, None] * across_x + rise_y[:, None] * across_y) * area.sign()
    gradient = gradient / area.abs().clamp(min=1e-12)
    steepness = gradient.norm(dim=-1, keepdim=True)
    return functional.normalize(normals - gradient * (_STEEPEST / steepness.clamp(min=_STEEPEST)), dim=-1)


def reflected(
    material: Material,
    normals: Float[Tensor, "P 3"],
    to_light: Float[Tensor, "P 3"],
    to_viewer: Float[Tensor, "P 3"],
    key: Float[Tensor, "P 3"],
    around: Float[Tensor, "P 3"],
) -> Float[Tensor, "P 3"]:
    """Return the light that surfaces send to the viewer, linear.

    Args:
        material: Colours and gloss.
        normals: Unit, as the other directions, in whichever axes.
        to_light: Towards the key light.
        to_viewer: Towards the camera.
        key: What arrives of the key light at a surface that faces it.
        around: The light of the surroundings that arrives.
    """
    cosine = (normals * to_light).sum(-1).clamp(min=0)
    matt = material.albedo * (around + key * cosine[:, None])
    half = functional.normalize(to_light + to_viewer, dim=-1)
    sharp = 8 + 120 * material.gloss**2
    shine = (normals * half).sum(-1).clamp(min=0) ** sharp * (sharp + 8) / 8 * cosine
    rim = 0.04 + 0.4 * (1 - (normals * to_viewer).sum(-1).clamp(0, 1)) ** 5
    return matt + (material.gloss * rim)[:, None] * (shine[:, None] * key + around)


def encode(linear: Float[Tensor, "*P 3"]) -> Float[Tensor, "*P 3"]:
    """Turn linear light into sRGB, 0 to 1; what is too bright is pressed together rather than cut off."""
    room = 1 - _SHOULDER
    over = (linear - _SHOULDER).clamp(min=0)
    pressed = linear.clamp(0, _SHOULDER) + room * (1 - torch.exp(-over / room))
    return torch.where(pressed <= 0.0031308, 12.92 * pressed, 1.055 * pressed.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
