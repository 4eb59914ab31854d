"""How light falls on what is seen: shadows, hollows, relief and gloss.

Places are in flat lists, and vectors have their three components first (3, P): several times faster than last.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.geometry.raster import Grid, SeenPixels, look
from lvdreg.synth.camera.light import Lights
from lvdreg.synth.camera.raster import place
from lvdreg.synth.camera.view import Cameras, framing
from lvdreg.synth.surface import Outer

_SHADOW_FILL = 0.95  # share of the shadow map that a person fills
_SHADOW_OFFSET = 1.6  # shadows are looked up so many texels off the surface, or it would shade itself
_SHADOW_BIAS = 0.6  # and so many nearer to the light
_REACHES = (0.05, 0.16)  # how far occlusion looks, metres
_DIRECTIONS = 6  # in how many directions
_TANGENT = 0.12  # what rises less over a surface's plane hides no light: the surface is not that smooth itself
_STEEPEST = 1.2  # relief is no steeper than this
_BRIGHTEST, _TABLE = 9.0, 4096  # range and size of the table that encodes light
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

    def lit(self, where: Float[Tensor, "3 P"], sample: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Return the share of the key light that reaches places: 3 x 3 looks, weighted by a quadratic spline."""
        size = self.depth.shape[-1]
        column, row, depth = where
        left, top = column.floor().clamp(1, size - 2), row.floor().clamp(1, size - 2)
        corner = sample * (size * size) + (top.long() - 1) * size + (left.long() - 1)
        across, down = _spline(column - left - 0.5), _spline(row - top - 0.5)
        flat = self.depth.flatten()
        total = torch.zeros_like(depth)
        for i, weight in enumerate(down):
            line = [(flat.index_select(0, corner + (i * size + k)) >= depth) * across[k] for k in range(3)]
            total += weight * (line[0] + line[1] + line[2])
        return total


def _spline(offset: Float[Tensor, " P"]) -> tuple[Tensor, Tensor, Tensor]:
    offset = offset.clamp(-0.5, 0.5)
    return 0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2


def dot(a: Float[Tensor, "3 *#P"], b: Float[Tensor, "3 *#P"]) -> Float[Tensor, "*P"]:
    """Return the scalar products of vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(vectors: Float[Tensor, "3 P"]) -> Float[Tensor, "3 P"]:
    """Scale vectors to unit length; zero vectors stay zero."""
    return vectors * dot(vectors, vectors).clamp(min=1e-30).rsqrt()


def cross(a: Float[Tensor, "3 P"], b: Float[Tensor, "3 P"]) -> Float[Tensor, "3 P"]:
    """Return the vector products of vectors."""
    return torch.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


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
    # What turns away from the light lies in its own shade: what is behind it is mostly behind its front as well.
    seen = look(place(outer, cameras, cull=True), Grid(size))
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
    flat = depth.flatten()
    here = flat.index_select(0, pixel)
    normal = torch.stack([axis.flatten().index_select(0, pixel) for axis in normals.unbind(-1)])
    scale = cameras.scale.to(depth.dtype).index_select(0, sample)
    hidden = torch.zeros_like(here)
    number = torch.arange(_DIRECTIONS, dtype=here.dtype, device=here.device)[:, None]
    for turn, reach in enumerate(_REACHES):
        length = (0.6 * reach * scale).clamp(min=1.5)
        angle = (2 * number + turn) * (math.pi / _DIRECTIONS)
        right = (2 * column + length * angle.cos()).round().long().clamp(0, size - 1)
        down = (2 * row + length * angle.sin()).round().long().clamp(0, size - 1)
        rise = flat[sample * (size * size) + down * size + right] - here
        step = torch.stack([(right - 2 * column) / scale, (down - 2 * row) / scale, rise])
        distance = dot(step, step).clamp(min=1e-12).sqrt()
        over = dot(step, normal[:, None]) / distance - _TANGENT
        # What is far before the surface is another body part in front of it, not the side of a hollow.
        hides = over.clamp(min=0) * (1.6 - distance / reach).clamp(0, 1)
        hidden += torch.where(rise.isfinite(), hides, 0.0).sum(0)
    half = (size + 1) // 2
    out = depth.new_zeros(2, batch, half, half)
    out[0, sample, row, column] = (hidden * (4.0 / (_DIRECTIONS * len(_REACHES)))).clamp(max=1)
    out[1, sample, row, column] = 1
    blurred = functional.avg_pool2d(out, 3, 1, 1)
    filled = blurred[0] / blurred[1].clamp(min=1e-6)
    return functional.interpolate(filled[:, None], scale_factor=2, mode="bilinear")[:, 0, :size, :size]


def rays(seen: SeenPixels, cameras: Cameras, grid: Grid, kind: torch.dtype) -> Float[Tensor, "2 P"]:
    """Return where places lie at depth 0: x and y in camera axes, metres."""
    line = torch.div(seen.pixel, grid.side, rounding_mode="floor")
    column, row = seen.pixel - line * grid.side, line - seen.sample * grid.side
    places = torch.stack([column, row]).to(kind) * grid.step + grid.start
    centre, scale = cameras.centre.to(kind), cameras.scale.to(kind)
    lines = torch.stack([*(-centre / scale[:, None]).T, 1 / scale])
    start_x, start_y, metre = (x.index_select(0, seen.sample) for x in lines)
    return places * metre + torch.stack([start_x, start_y])


def bumped(
    normals: Float[Tensor, "3 P"],
    seen: SeenPixels,
    relief: Float[Tensor, " P"],
    cameras: Cameras,
    grid: Grid,
) -> Float[Tensor, "3 P"]:
    """Tilt normals by a relief that is known at the places only (Mikkelsen 2010, unparametrised).

    Args:
        normals: Unit, camera axes, towards the viewer.
        seen: What is seen at the places.
        relief: Height over the surface, metres.
        cameras: One for each sample.
        grid: Of the places.
    """
    number = torch.full((len(cameras.scale) * grid.side**2 + grid.side,), -1, dtype=torch.int32, device=relief.device)
    number[seen.pixel] = torch.arange(len(seen.pixel), dtype=torch.int32, device=relief.device)
    ray = rays(seen, cameras, grid, relief.dtype)
    along_x, rise_x = _step(seen, number, ray, relief, cameras, grid, 0)
    along_y, rise_y = _step(seen, number, ray, relief, cameras, grid, 1)
    across_x, across_y = cross(along_y, normals), cross(normals, along_x)
    area = dot(along_x, across_x)
    gradient = (rise_x * across_x + rise_y * across_y) * (area.sign() / area.abs().clamp(min=1e-12))
    steepness = dot(gradient, gradient).sqrt()
    return unit(normals - gradient * (_STEEPEST / steepness.clamp(min=_STEEPEST)))


def _step(
    seen: SeenPixels,
    number: Int[Tensor, " M"],
    ray: Float[Tensor, "2 P"],
    relief: Float[Tensor, " P"],
    cameras: Cameras,
    grid: Grid,
    axis: int,
) -> tuple[Float[Tensor, "3 P"], Float[Tensor, " P"]]:
    """Return the way on the surface to the next place to the right (axis 0) or below, and the rise of the relief.

    ``number`` says which of the P places each place of the grid is; ``ray`` is where they lie at depth 0.
    """
    other = number.index_select(0, seen.pixel + (1 if axis == 0 else grid.side))
    z = seen.depth.to(relief.dtype)
    scale, perspective = (x.to(z.dtype).index_select(0, seen.sample) for x in (cameras.scale, cameras.perspective))
    near = other.clamp(min=0)
    rise_z, rise = z.index_select(0, near) - z, relief.index_select(0, near) - relief
    texel = grid.step * (1 + perspective * z) / scale
    # Only within one surface: a jump in depth of more than a steep slope is an edge, as is the picture's.
    line = torch.div(seen.pixel, grid.side, rounding_mode="floor")
    last = (seen.pixel - line * grid.side if axis == 0 else line - seen.sample * grid.side) == grid.side - 1
    same = (other >= 0) & ~last & (rise_z.abs() < 6 * texel)
    rise_z, rise = rise_z * same, rise * same
    along = torch.cat([ray * (perspective * rise_z), rise_z[None]])
    along[axis] += texel + grid.step * perspective * rise_z / scale
    return along, rise


def reflected(
    albedo: Float[Tensor, "3 P"],
    gloss: Float[Tensor, " P"],
    normals: Float[Tensor, "3 P"],
    to_light: Float[Tensor, "3 P"],
    to_viewer: Float[Tensor, "3 P"],
    key: Float[Tensor, "3 P"],
    around: Float[Tensor, "3 P"],
) -> Float[Tensor, "3 P"]:
    """Return the light that surfaces send to the viewer, linear.

    Args:
        albedo: Colours.
        gloss: Strength of highlights, 0 to 1.
        normals: Unit, as the other directions, in whichever axes.
        to_light: Towards the key light.
        to_viewer: Towards the camera.
        key: What arrives of the key light at a surface that faces it.
        around: The light of the surroundings that arrives.
    """
    cosine = dot(normals, to_light).clamp(min=0)
    matt = albedo * (around + key * cosine)
    # Facets as Trowbridge and Reitz (1975) spread them: arithmetic only, so that lone and batched samples agree.
    spread = 2 / (10 + 120 * gloss * gloss)
    facing = dot(normals, unit(to_light + to_viewer)).clamp(min=0)
    denominator = 1 - facing * facing * (1 - spread)
    shine = 0.25 * spread / (denominator * denominator) * cosine
    edge = 1 - dot(normals, to_viewer).clamp(0, 1)
    rim = 0.04 + 0.4 * (edge * edge) * (edge * edge) * edge
    return matt + gloss * rim * (shine * key + around)


def encode(linear: Tensor) -> Tensor:
    """Turn linear light into sRGB, 0 to 1; what is too bright is pressed together rather than cut off.

    By a table over the square root, exact to 1e-5: powers are slow, and round differently at the end of an array.
    """
    root = torch.linspace(0, _BRIGHTEST**0.5, _TABLE, dtype=torch.float64, device=linear.device)
    table = _curve(root * root).to(linear.dtype)
    place = linear.clamp(0, _BRIGHTEST).sqrt() * ((_TABLE - 1) / _BRIGHTEST**0.5)
    low = place.long().clamp(max=_TABLE - 2)
    start = table.index_select(0, low.flatten()).view_as(linear)
    end = table.index_select(0, low.flatten() + 1).view_as(linear)
    return start + (place - low) * (end - start)


def _curve(linear: Tensor) -> Tensor:
    room = 1 - _SHOULDER
    over = (linear - _SHOULDER).clamp(min=0)
    pressed = linear.clamp(max=_SHOULDER) + room * (1 - torch.exp(-over / room))
    return torch.where(pressed <= 0.0031308, 12.92 * pressed, 1.055 * pressed.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
