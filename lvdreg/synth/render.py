"""Pictures of people: colour, depth, normals, parts and correspondence, in pure torch for whole batches.

What is seen is found exactly at pixel centres (raster.py); colours are taken at finer steps and averaged. Light is
matt with a little gloss: surroundings, hollows that they do not reach, and a key light with a map of its shadows.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.config import RenderConfig
from lvdreg.synth.camera import Cameras
from lvdreg.synth.light import Lights, irradiance
from lvdreg.synth.outer import Outer
from lvdreg.synth.raster import NEAREST, Raster, Seen, look, place, rasterise
from lvdreg.synth.shade import bumped, encode, hollows, reflected, shadow_map
from lvdreg.synth.subjects import Pixels, Subjects

__all__ = ["NEAREST", "Raster", "Rendered", "rasterise", "render"]


@dataclass(frozen=True)
class Rendered:
    """Pictures of a batch of people, S pixels wide and high.

    Attributes:
        image: sRGB, 0 to 1, over black: ``image + (1 - alpha) * background`` puts it before something.
        alpha: Share of the pixel that is covered.
        mask: Whether the pixel's centre is covered; all that follows is taken there.
        depth: Along the camera's axis from its anchor, metres; infinite where there is nobody.
        normals: Unit, camera axes, of the side that is seen; zero where there is nobody.
        labels: The part of the body, -1 where there is nobody.
        rest: The place on the mean person at rest, metres; zero where there is nobody.
        joints: Column and row (pixels) and depth (metres) of the body's joints.
    """

    image: Float[Tensor, "B S S 3"]
    alpha: Float[Tensor, "B S S"]
    mask: Bool[Tensor, "B S S"]
    depth: Float[Tensor, "B S S"]
    normals: Float[Tensor, "B S S 3"]
    labels: Int[Tensor, "B S S"]
    rest: Float[Tensor, "B S S 3"]
    joints: Float[Tensor, "B J 3"]


@dataclass(frozen=True)
class _Grid:
    """The pixels of S x S pictures, looked at ``fineness`` times as finely each way.

    Attributes:
        batch: Number of pictures.
        size: Their width and height S.
        fineness: Looks a pixel and direction.
    """

    batch: int
    size: int
    fineness: int

    def spread(self, seen: Seen, values: Float[Tensor, "P *C"] | Int[Tensor, "P *C"], empty: float = 0) -> Tensor:
        """Put values of seen pixels into pictures."""
        side = self.size * self.fineness
        out = values.new_full((self.batch * side * side, *values.shape[1:]), empty)
        out[seen.pixel] = values
        return out.view(self.batch, side, side, *values.shape[1:])

    def pixel(self, seen: Seen) -> Int[Tensor, " P"]:
        """Return the pixel of the picture in which each fine look lies, counted through the batch."""
        if self.fineness == 1:
            return seen.pixel
        side = self.size * self.fineness
        column, line = seen.pixel % side, torch.div(seen.pixel, side, rounding_mode="floor")
        # Lines run on through the pictures, and each holds a whole number of coarse ones.
        coarse = torch.div(line, self.fineness, rounding_mode="floor") * self.size
        return coarse + torch.div(column, self.fineness, rounding_mode="floor")


@torch.no_grad()
def render(
    subjects: Subjects,
    cameras: Cameras,
    lights: Lights,
    size: int,
    supersample: int = 2,
    config: RenderConfig | None = None,
) -> Rendered:
    """Take pictures of people.

    Args:
        subjects: B people.
        cameras: One for each.
        lights: Likewise.
        size: Width and height of the pictures S, pixels.
        supersample: Colours are the mean of so many by so many looks within each pixel.
        config: What of the light is worth its time.
    """
    config = config or RenderConfig()
    outer, batch = subjects.outer, len(subjects.outer.vertices)
    screen = place(outer, cameras)
    coarse = look(screen, size)
    fine = coarse if supersample == 1 else look(screen, size * supersample, 1 / supersample)
    world_normals = normals_of(outer)
    normals = turned(cameras, world_normals)
    grid = _Grid(batch, size, 1)
    mask = grid.spread(coarse, torch.ones_like(coarse.front))
    depth = grid.spread(coarse, coarse.depth.to(normals.dtype), torch.inf)
    values = mix(coarse, torch.cat([normals, subjects.rest], -1))
    facing = grid.spread(coarse, _facing(values[:, :3], coarse))
    labels = subjects.labels[coarse.sample, coarse.corners.gather(1, coarse.bary.argmax(1, keepdim=True))[:, 0]]
    dark = config.occlusion * hollows(depth, facing, cameras) if config.occlusion else torch.zeros_like(depth)
    colours = _colours(fine, subjects, cameras, lights, world_normals, dark, _Grid(batch, size, supersample), config)
    image, alpha = _averaged(fine, colours, _Grid(batch, size, supersample))
    rest, joints = grid.spread(coarse, values[:, 3:]), cameras.project(subjects.joints)
    return Rendered(image, alpha, mask, depth, facing, grid.spread(coarse, labels, -1), rest, joints)


def normals_of(outer: Outer) -> Float[Tensor, "B N 3"]:
    """Return unit vertex normals of the faces that are kept, world, area weighted; zero where there are none."""
    a, b, c = (outer.vertices[:, outer.faces[:, i]] for i in range(3))
    crosses = torch.linalg.cross(b - a, c - a) * outer.face_keep[..., None]
    total = torch.zeros_like(outer.vertices)
    for i in range(3):
        total.index_add_(1, outer.faces[:, i], crosses)
    return functional.normalize(total, dim=-1, eps=1e-20)


def turned(cameras: Cameras, directions: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
    """Turn directions of the world to camera axes."""
    x, y, z = (cameras.rotation[:, None, :, i] * directions[..., i : i + 1] for i in range(3))
    return x + y + z


def mix(seen: Seen, values: Float[Tensor, "B N C"]) -> Float[Tensor, "P C"]:
    """Interpolate what vertices have at pixels."""
    rows = seen.corners + seen.sample[:, None] * values.shape[1]
    return functional.embedding_bag(
        rows, values.flatten(0, 1), per_sample_weights=seen.bary.to(values.dtype), mode="sum"
    )


def _facing(normals: Float[Tensor, "P 3"], seen: Seen) -> Float[Tensor, "P 3"]:
    """Return unit normals, of the inside where that is what is seen."""
    return functional.normalize(torch.where(seen.front[:, None], normals, -normals), dim=-1, eps=1e-20)


def _colours(
    fine: Seen,
    subjects: Subjects,
    cameras: Cameras,
    lights: Lights,
    world_normals: Float[Tensor, "B N 3"],
    dark: Float[Tensor, "B S S"],
    grid: _Grid,
    config: RenderConfig,
) -> Float[Tensor, "P 3"]:
    """Light what the fine looks see: linear."""
    material = subjects.texture(Pixels(fine.sample, fine.corners, fine.bary.to(world_normals.dtype)))
    shadows = shadow_map(subjects.outer, lights, config.shadow_size) if config.shadow_size else None
    parts = [turned(cameras, world_normals)]
    if shadows is not None:
        parts.append(shadows.coordinates(subjects.outer.vertices, world_normals))
    values = mix(fine, torch.cat(parts, -1))
    smooth = normals = _facing(values[:, :3], fine)
    side, step = grid.size * grid.fineness, 1 / grid.fineness
    if config.relief:
        normals = bumped(smooth, fine, material.relief, cameras, side, step)
    to_light = turned(cameras, lights.direction[:, None])[:, 0][fine.sample]
    # Relief does not turn to the light what the body keeps from it.
    reached = (8 * (smooth * to_light).sum(-1)).clamp(0, 1)
    if shadows is not None:
        reached = reached * (1 - lights.shadow[fine.sample] * (1 - shadows.lit(values[:, 3:], fine.sample)))
    open_share = 1 - dark.view(-1)[grid.pixel(fine)]
    key = lights.colour[fine.sample] * (reached * (0.5 + 0.5 * open_share))[:, None]
    around = irradiance(lights.sh, fine.sample, _to_world(cameras, normals, fine)) * open_share[:, None]
    return reflected(material, normals, to_light, _to_viewer(cameras, fine, side, step), key, around)


def _to_world(cameras: Cameras, directions: Float[Tensor, "P 3"], seen: Seen) -> Float[Tensor, "P 3"]:
    rows = cameras.rotation.flatten(1).to(directions.dtype)[seen.sample].view(-1, 3, 3)
    return (rows * directions[:, :, None]).sum(1)


def _to_viewer(cameras: Cameras, seen: Seen, side: int, step: float) -> Float[Tensor, "P 3"]:
    """Return unit vectors towards the camera, camera axes."""
    kind = cameras.scale.dtype
    column, row = seen.pixel % side, torch.div(seen.pixel, side, rounding_mode="floor") % side
    ray = (torch.stack([column, row], -1) + 0.5).to(kind) * step - cameras.centre[seen.sample]
    ray = ray * (cameras.perspective / cameras.scale)[seen.sample, None]
    return -functional.normalize(torch.cat([ray, torch.ones_like(ray[:, :1])], -1), dim=-1)


def _averaged(
    fine: Seen, colours: Float[Tensor, "P 3"], grid: _Grid
) -> tuple[Float[Tensor, "B S S 3"], Float[Tensor, "B S S"]]:
    """Average the looks within each pixel: sRGB over black, and the share of looks that saw something."""
    n = grid.fineness
    sums = grid.spread(fine, torch.cat([colours, torch.ones_like(colours[:, :1])], -1))
    sums = sums.view(grid.batch, grid.size, n, grid.size, n, 4).sum((2, 4))
    alpha = sums[..., 3:] / (n * n)
    return encode(sums[..., :3] / sums[..., 3:].clamp(min=1)) * alpha, alpha[..., 0]
