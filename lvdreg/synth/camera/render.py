"""Pictures of people: colour, depth, normals, parts and correspondence, in pure torch for whole batches.

What is seen is found exactly at pixel centres (raster.py); colours are taken at finer steps and averaged. Light is
matt with a little gloss: surroundings, hollows that they do not reach, and a key light with a map of its shadows.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.geometry.raster import Grid, SeenPixels, look
from lvdreg.synth.camera.light import Lights, irradiance
from lvdreg.synth.camera.raster import NEAREST, BatchRaster, place, rasterise
from lvdreg.synth.camera.shade import bumped, dot, encode, hollows, rays, reflected, shadow_map, unit
from lvdreg.synth.camera.view import Cameras
from lvdreg.synth.subjects import Pixels, Subjects
from lvdreg.synth.surface import Outer


@dataclass(frozen=True)
class RenderConfig:
    """What synthetic pictures are shaded with; each costs time."""

    shadow_size: int = 160
    """Width of the map of what the key light reaches, pixels; 0: no shadows."""
    occlusion: float = 0.8
    """How dark hollows are, 0 to 1."""
    relief: bool = True
    """Whether the fine structure of cloth and skin is lit."""

    def __post_init__(self) -> None:
        if self.shadow_size < 0 or not 0 <= self.occlusion <= 1:
            got = f"got {self.shadow_size} and {self.occlusion}"
            raise ValueError(f"shadow_size and occlusion: expected at least 0, and 0 to 1, {got}")


__all__ = ["NEAREST", "BatchRaster", "Rendered", "photograph", "rasterise", "render"]


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
        supersample: Colours are means over looks so many to a pixel and direction. Even numbers include the looks
            on the pixel's rim, which it shares with its neighbours.
        config: What of the light is worth its time.
    """
    frame = Frame(len(subjects.outer.vertices), size, supersample)
    shown = _shown(subjects, cameras, lights, frame, config or RenderConfig())
    centres = shown.centres
    largest = centres.corners.gather(1, centres.bary.argmax(1, keepdim=True))[:, 0]
    labels = frame.picture(centres, subjects.labels[centres.sample, largest], -1)
    rest, joints = frame.picture(centres, mix(centres, subjects.rest)), cameras.project(subjects.joints)
    return Rendered(shown.image, shown.alpha, labels >= 0, shown.depth, shown.facing, labels, rest, joints)


@torch.no_grad()
def photograph(
    subjects: Subjects, cameras: Cameras, lights: Lights, size: int
) -> tuple[Float[Tensor, "B S S 3"], Float[Tensor, "B S S"]]:
    """Take pictures of people with one look a pixel, and nothing else; as ``image`` and ``alpha`` of ``render``."""
    shown = _shown(subjects, cameras, lights, Frame(len(subjects.outer.vertices), size, 1), RenderConfig())
    return shown.image, shown.alpha


@dataclass(frozen=True)
class _Shown:
    """What a picture shows; see ``Rendered``.

    Attributes:
        centres: What pixel centres see.
    """

    image: Float[Tensor, "B S S 3"]
    alpha: Float[Tensor, "B S S"]
    centres: SeenPixels
    depth: Float[Tensor, "B S S"]
    facing: Float[Tensor, "B S S 3"]


def _shown(subjects: Subjects, cameras: Cameras, lights: Lights, frame: "Frame", config: RenderConfig) -> _Shown:
    fine = look(place(subjects.outer, cameras), frame.grid)
    centres, world_normals = frame.centres(fine), normals_of(subjects.outer)
    normals = mix(centres, turned(cameras, world_normals))
    facing = frame.picture(centres, _facing(normals.T, centres).T)
    depth = frame.picture(centres, centres.depth.to(normals.dtype), torch.inf)
    dark = config.occlusion * hollows(depth, facing, cameras) if config.occlusion else None
    colours = _colours(fine, subjects, cameras, lights, world_normals, dark, frame, config)
    image, alpha = frame.average(fine, colours)
    return _Shown(image, alpha, centres, depth, facing)


@dataclass(frozen=True)
class Frame:
    """Pictures S pixels wide, and the finer grid at which is looked: it holds all pixel centres.

    Attributes:
        batch: Number of pictures.
        size: Their width and height S.
        fineness: Steps of the grid to a pixel.
    """

    batch: int
    size: int
    fineness: int

    @property
    def grid(self) -> Grid:
        """Where is looked."""
        step = 1 / self.fineness
        if self.fineness % 2:
            return Grid(self.size * self.fineness, step / 2, step)
        return Grid(self.size * self.fineness + 1, 0.0, step)

    def _places(self, seen: SeenPixels) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
        line = torch.div(seen.pixel, self.grid.side, rounding_mode="floor")
        return seen.pixel - line * self.grid.side, line - seen.sample * self.grid.side

    def _pixel(self, seen: SeenPixels) -> Int[Tensor, " P"]:
        """Return the pixel in which each place lies, counted through the batch."""
        if self.fineness == 1:
            return seen.pixel
        column, row = (
            torch.div(x, self.fineness, rounding_mode="floor").clamp(max=self.size - 1) for x in self._places(seen)
        )
        return (seen.sample * self.size + row) * self.size + column

    def centres(self, seen: SeenPixels) -> SeenPixels:
        """Return the places that are pixel centres, numbered as pixels."""
        if self.fineness == 1:
            return seen
        column, row = (x % self.fineness == self.fineness // 2 for x in self._places(seen))
        rows = (column & row).nonzero()[:, 0]
        return seen.chosen(rows, self._pixel(seen).index_select(0, rows))

    def picture(
        self, seen: SeenPixels, values: Float[Tensor, "P *C"] | Int[Tensor, "P *C"], empty: float = 0
    ) -> Tensor:
        """Put values of pixel centres into pictures."""
        out = values.new_full((self.batch * self.size**2, *values.shape[1:]), empty)
        out[seen.pixel] = values
        return out.view(self.batch, self.size, self.size, *values.shape[1:])

    def at(self, seen: SeenPixels, picture: Float[Tensor, "B S S"]) -> Float[Tensor, " P"]:
        """Read a picture at the pixels in which places lie."""
        return picture.flatten().index_select(0, self._pixel(seen))

    def average(
        self, seen: SeenPixels, colours: Float[Tensor, "3 P"]
    ) -> tuple[Float[Tensor, "B S S 3"], Float[Tensor, "B S S"]]:
        """Average the looks within each pixel: sRGB over black, and the share of looks that saw something."""
        *light, alpha = (self._averaged(seen, x) for x in (*colours, torch.ones_like(colours[0])))
        covered = (alpha > 0).nonzero()[:, 0]
        share = alpha.index_select(0, covered)
        image = colours.new_zeros(3, len(alpha))
        image[:, covered] = encode(torch.stack([x.index_select(0, covered) for x in light]) / share) * share
        shape = (self.batch, self.size, self.size)
        return image.T.reshape(*shape, 3), alpha.view(shape)

    def _averaged(self, seen: SeenPixels, values: Float[Tensor, " P"]) -> Float[Tensor, " M"]:
        side = self.grid.side
        plane = values.new_zeros(self.batch * side * side)
        plane[seen.pixel] = values
        rows = _pooled(plane.view(self.batch, side, side), self.fineness)
        return _pooled(rows.mT, self.fineness).mT.flatten()


def _pooled(rows: Float[Tensor, "M H W"], fineness: int) -> Float[Tensor, "M h W"]:
    """Average the lines of each pixel: all alike if their number is odd, else half of those on its rims."""
    if fineness == 1:
        return rows
    if fineness % 2:
        total = rows[:, ::fineness].clone()
    else:
        total = 0.5 * (rows[:, :-1:fineness] + rows[:, fineness::fineness])
    for i in range(1, fineness):
        total += rows[:, i::fineness]
    return total / fineness


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


def mix(seen: SeenPixels, values: Float[Tensor, "B N C"]) -> Float[Tensor, "P C"]:
    """Interpolate what vertices have at places."""
    rows = seen.corners + seen.sample[:, None] * values.shape[1]
    weights = seen.bary.to(values.dtype)
    return functional.embedding_bag(rows, values.flatten(0, 1), per_sample_weights=weights, mode="sum")


def _facing(normals: Float[Tensor, "3 P"], seen: SeenPixels) -> Float[Tensor, "3 P"]:
    """Return unit normals, of the inside where that is what is seen."""
    return unit(torch.where(seen.front, normals, -normals))


def _colours(
    fine: SeenPixels,
    subjects: Subjects,
    cameras: Cameras,
    lights: Lights,
    world_normals: Float[Tensor, "B N 3"],
    dark: Float[Tensor, "B S S"] | None,
    frame: Frame,
    config: RenderConfig,
) -> Float[Tensor, "3 P"]:
    """Light what is seen: linear."""
    kind = world_normals.dtype
    material = subjects.texture(Pixels(fine.sample, fine.corners, fine.bary.to(kind)))
    shadows = shadow_map(subjects.outer, lights, config.shadow_size) if config.shadow_size else None
    parts = [turned(cameras, world_normals)]
    if shadows is not None:
        parts.append(shadows.coordinates(subjects.outer.vertices, world_normals))
    values = mix(fine, torch.cat(parts, -1)).T.contiguous()
    smooth = normals = _facing(values[:3], fine)
    if config.relief:
        normals = bumped(smooth, fine, material.relief, cameras, frame.grid)
    lights = lights.seen_by(cameras)
    to_light, key = (_spread(x, fine) for x in (lights.direction, lights.colour))
    # Relief does not turn to the light what the body keeps from it.
    reached = (8 * dot(smooth, to_light)).clamp(0, 1)
    if shadows is not None:
        reached = reached * (
            1 - lights.shadow.index_select(0, fine.sample) * (1 - shadows.lit(values[3:], fine.sample))
        )
    around = irradiance(lights.sh, fine.sample, normals)
    if dark is not None:
        open_share = 1 - frame.at(fine, dark)
        around, reached = around * open_share, reached * (0.5 + 0.5 * open_share)
    to_viewer = _to_viewer(cameras, fine, frame.grid, kind)
    albedo = material.albedo.T.contiguous()
    return reflected(albedo, material.gloss, normals, to_light, to_viewer, key * reached, around)


def _spread(values: Float[Tensor, "B 3"], seen: SeenPixels) -> Float[Tensor, "3 P"]:
    """Give all places what their samples have."""
    return torch.stack([column.index_select(0, seen.sample) for column in values.T])


def _to_viewer(cameras: Cameras, seen: SeenPixels, grid: Grid, kind: torch.dtype) -> Float[Tensor, "3 P"]:
    """Return unit vectors towards the camera, camera axes."""
    ray = rays(seen, cameras, grid, kind) * cameras.perspective.to(kind).index_select(0, seen.sample)
    return -unit(torch.cat([ray, torch.ones_like(ray[:1])]))
