"""The renderer of synthetic people: equal to ray casting, watertight, repeatable, and lit from where the light is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor
from torch.nn import functional

from lvdreg.body.model import BodyParams
from lvdreg.geometry.raster import Grid, look
from lvdreg.synth.camera.light import Lights, draw_lights, irradiance, surroundings
from lvdreg.synth.camera.raster import NEAREST, place
from lvdreg.synth.camera.render import BatchRaster, RenderConfig, Rendered, rasterise, render
from lvdreg.synth.camera.shade import bumped, encode, hollows, shadow_map
from lvdreg.synth.camera.view import Cameras, look_at
from lvdreg.synth.draw import Draw
from lvdreg.synth.subjects import Material, Pixels, Subjects
from lvdreg.synth.surface import Outer

PERSPECTIVES = (0.0, 0.6)
PLAIN = RenderConfig(shadow_size=0, occlusion=0.0, relief=False)
EVEN = torch.ones(1, 3)


def soup(generator: torch.Generator, batch: int, count: int = 40) -> Outer:
    """Triangles of all sizes and directions that pierce each other; some are not kept."""
    middle = 0.5 * torch.randn(batch, count, 1, 3, generator=generator, dtype=torch.float64)
    size = 0.6 * torch.rand(batch, count, 1, 1, generator=generator, dtype=torch.float64) ** 2
    corners = middle + size * torch.randn(batch, count, 3, 3, generator=generator, dtype=torch.float64)
    keep = torch.rand(batch, count, generator=generator) < 0.8
    return Outer(corners.flatten(1, 2), torch.arange(3 * count).view(-1, 3), keep)


def blobs(generator: torch.Generator, batch: int, subdivisions: int = 2) -> Outer:
    """Closed surfaces that fold over themselves in depth."""
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.6)
    vertices = torch.as_tensor(np.array(ball.vertices))
    waves = 5 * torch.randn(batch, 3, 3, generator=generator, dtype=torch.float64)
    vertices = vertices * (1 + 0.3 * torch.sin(vertices @ waves).sum(-1, keepdim=True))
    faces = torch.as_tensor(np.array(ball.faces), dtype=torch.int64)
    return Outer(vertices, faces, torch.ones(batch, len(faces), dtype=torch.bool))


def cameras_around(generator: torch.Generator, batch: int, perspective: float, size: int) -> Cameras:
    turns = 3 * torch.randn(3, batch, generator=generator, dtype=torch.float64)
    scale = size * (0.4 + 0.2 * torch.rand(batch, generator=generator, dtype=torch.float64))
    anchor = 0.1 * torch.randn(batch, 3, generator=generator, dtype=torch.float64)
    return look_at(anchor, turns[0], turns[1], turns[2], scale, torch.full_like(scale, perspective), size)


def cast(outer: Outer, cameras: Cameras, size: int) -> BatchRaster:
    """Ray casting written out (Moeller and Trumbore 1997): every pixel against every face, in float64."""
    at = torch.arange(size, dtype=torch.float64) + 0.5
    row, column = torch.meshgrid(at, at, indexing="ij")
    results = []
    for i, view in enumerate(cameras.view(outer.vertices.double())):
        x = (column - cameras.centre[i, 0]) / cameras.scale[i]
        y = (row - cameras.centre[i, 1]) / cameras.scale[i]
        p = cameras.perspective[i]
        origin = torch.stack([x, y, torch.zeros_like(x)], -1)[..., None, :]
        ray = torch.stack([p * x, p * y, torch.ones_like(x)], -1)[..., None, :]  # its parameter is the depth
        a, b, c = view[outer.faces].unbind(1)
        ab, ac = b - a, c - a
        normal = torch.linalg.cross(ab, ac)
        across = torch.linalg.cross(ray, ac.expand(size, size, -1, -1))
        det = (across * ab).sum(-1)
        offset = origin - a
        u = (offset * across).sum(-1) / det
        q = torch.linalg.cross(offset, ab.expand(size, size, -1, -1))
        v = (ray * q).sum(-1) / det
        depth = (ac * q).sum(-1) / det
        near = ((1 + p * view[outer.faces][..., 2]) <= NEAREST * p).any(-1) | ~outer.face_keep[i]
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & ~near
        depth = torch.where(hit, depth, torch.inf)
        best = depth.argmin(-1)
        seen = hit.any(-1)
        pick = [x.gather(-1, best[..., None])[..., 0] for x in (1 - u - v, u, v, depth, det)]
        weights = torch.where(seen[..., None], torch.stack(pick[:3], -1), 0.0)
        front = seen & ((ray[..., 0, :] * normal[best]).sum(-1) < 0)
        results.append((torch.where(seen, best, -1), weights, pick[3], front))
    return BatchRaster(*(torch.stack(x) for x in zip(*results, strict=True)))


def assert_same(got: BatchRaster, expected: BatchRaster) -> None:
    assert (expected.face >= 0).any()
    assert torch.equal(got.face, expected.face)
    torch.testing.assert_close(got.depth, expected.depth, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(got.bary, expected.bary, rtol=1e-6, atol=1e-6)
    assert torch.equal(got.front, expected.front)


@pytest.mark.parametrize("perspective", PERSPECTIVES)
@pytest.mark.parametrize("make", [soup, blobs])
@pytest.mark.parametrize("seed", range(3))
def test_rasters_equal_ray_casting(make, perspective: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outer, cameras = make(generator, 2), cameras_around(generator, 2, perspective, 37)
    assert_same(rasterise(outer, cameras, 37), cast(outer, cameras, 37))


def test_faces_next_to_the_camera_are_dropped() -> None:
    """The camera stands amid the soup, so faces reach behind it."""
    generator = torch.Generator().manual_seed(1)
    outer, cameras = soup(generator, 3, 80), cameras_around(generator, 3, 2.5, 32)
    depth = cameras.view(outer.vertices)[..., 2]
    assert (depth < -1 / 2.5).any(), "nothing lies behind the camera: the test would be vacuous"
    assert_same(rasterise(outer, cameras, 32), cast(outer, cameras, 32))


def test_finer_grids_see_what_larger_pictures_do() -> None:
    generator = torch.Generator().manual_seed(2)
    outer, cameras = soup(generator, 2), cameras_around(generator, 2, 0.4, 20)
    larger = rasterise(outer, replace(cameras, scale=2 * cameras.scale, centre=2 * cameras.centre), 40)
    fine = look(place(outer, cameras), Grid(40, 0.25, 0.5))
    face = torch.full((2 * 40 * 40,), -1)
    face[fine.pixel] = fine.face
    assert torch.equal(face.view(2, 40, 40), larger.face)


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_a_ball_is_a_disc_without_holes(perspective: float) -> None:
    size, radius = 150, 0.6
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    vertices, faces = torch.as_tensor(np.array(ball.vertices)), torch.as_tensor(np.array(ball.faces))
    outer = Outer(vertices.expand(6, -1, -1), faces.long(), torch.ones(6, len(faces), dtype=torch.bool))
    cameras = cameras_around(torch.Generator().manual_seed(4), 6, perspective, size)
    cameras = look_at(
        torch.zeros(6, 3).double(), *cameras.rotation[:, 0].T * 9, cameras.scale, cameras.perspective, size
    )
    at = torch.arange(size) + 0.5 - size / 2
    distance = torch.hypot(at, at[:, None]) / cameras.scale[:, None, None]
    rim = radius / (1 - (perspective * radius) ** 2) ** 0.5
    mask = rasterise(outer, cameras, size).face >= 0
    assert mask[distance < 0.99 * rim].all()
    assert not mask[distance > rim].any()


def sheet(step: float) -> Outer:
    """A square of many faces whose corners and edges lie exactly on pixel centres."""
    at = torch.arange(17, dtype=torch.float64) * step + 0.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    a = (torch.arange(16)[:, None] * 17 + torch.arange(16)).flatten()
    faces = torch.cat([torch.stack([a, a + 1, a + 18], -1), torch.stack([a, a + 18, a + 17], -1)])
    vertices = torch.stack([x, y, torch.zeros_like(x)], -1).view(1, -1, 3)
    return Outer(vertices, faces, torch.ones(1, len(faces), dtype=torch.bool))


@pytest.mark.parametrize("step", [1.0, 2.0, 1 / 3])
def test_pixel_centres_on_edges_are_never_missed(step: float) -> None:
    outer, one = sheet(step), torch.ones(1, dtype=torch.float64)
    cameras = Cameras(
        torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 3).double(), one, 0 * one, torch.zeros(1, 2).double()
    )
    raster = rasterise(outer, cameras, 34)
    end = int(16 * step) + 1
    assert (raster.face[0, :end, :end] >= 0).all()
    assert (raster.face[0] >= 0).sum() == end * end


def test_of_equal_faces_the_first_is_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    outer, cameras = blobs(generator, 2), cameras_around(generator, 2, 0.3, 40)
    keep = outer.face_keep.repeat(1, 2)
    keep[1, : len(outer.faces)] = False
    double = rasterise(replace(outer, faces=outer.faces.repeat(2, 1), face_keep=keep), cameras, 40).face
    once = rasterise(outer, cameras, 40).face
    assert torch.equal(double[0], once[0])
    assert torch.equal(double[1][once[1] >= 0], once[1][once[1] >= 0] + len(outer.faces))


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_culling_changes_nothing_on_closed_surfaces(perspective: float) -> None:
    generator = torch.Generator().manual_seed(0)
    outer, cameras = blobs(generator, 2), cameras_around(generator, 2, perspective, 40)
    assert_same(rasterise(outer, cameras, 40, cull=True), rasterise(outer, cameras, 40))
    inside_out = replace(outer, faces=outer.faces.flip(1))
    assert rasterise(outer, cameras, 40).front[rasterise(outer, cameras, 40).face >= 0].all()
    assert not rasterise(inside_out, cameras, 40).front.any()


def test_nobody_is_seen_where_nobody_is() -> None:
    generator = torch.Generator().manual_seed(0)
    outer, cameras = soup(generator, 2), cameras_around(generator, 2, 0.0, 16)
    raster = rasterise(replace(outer, face_keep=torch.zeros_like(outer.face_keep)), cameras, 16)
    assert (raster.face == -1).all() and raster.depth.isinf().all()
    subjects = people(replace(outer, vertices=outer.vertices + 90))
    picture = render(subjects, cameras.double(), lit_from([0.0, 0, 1], 2), 16)
    assert not picture.mask.any() and not picture.image.any() and not picture.alpha.any()


class Spots:
    """A texture that has to know where it is: colour by the rest position."""

    def __init__(self, rest: Tensor) -> None:
        self.rest = rest

    def __call__(self, pixels: Pixels) -> Material:
        at = pixels.read(self.rest)
        return Material((5 * at).sin().abs(), 0.5 * at[:, 0].cos().abs(), 0.01 * (20 * at[:, 1]).sin())


class White:
    """White, matt, smooth."""

    def __call__(self, pixels: Pixels) -> Material:
        blank = torch.zeros(len(pixels.sample))
        return Material(blank[:, None] + EVEN, blank, blank)


def people(outer: Outer, texture: object = None) -> Subjects:
    """Pass a surface off as people."""
    outer = replace(outer, vertices=outer.vertices.float())
    batch, count = outer.vertices.shape[:2]
    generator = torch.Generator().manual_seed(8)
    labels = torch.randint(0, 7, (batch, count), generator=generator)
    rest = torch.randn(batch, count, 3, generator=generator)
    params = BodyParams(torch.zeros(batch, 1), torch.zeros(batch, 1, 3), torch.zeros(batch, 3))
    look = texture or Spots(rest)
    return Subjects(outer, look, labels, rest, params, outer.vertices, outer.vertices[:, :4])  # type: ignore[arg-type]


def lit_from(direction: list[float], batch: int = 1, around: float = 0.0, key: float = 0.6) -> Lights:
    towards = functional.normalize(torch.tensor([direction] * batch), dim=-1)
    sh = surroundings(torch.zeros(batch, 1, 3), torch.zeros(batch, 1, 3), torch.full((batch, 3), around))
    return Lights(sh, towards, torch.full((batch, 3), key), torch.ones(batch))


def single(cameras: Cameras) -> Cameras:
    return Cameras(*(getattr(cameras, name).float() for name in cameras.__dataclass_fields__))


def sample_of(value, i: int):
    """Return one sample of a batch of anything made of tensors whose first axis is the batch."""
    if isinstance(value, Outer):
        return replace(value, vertices=value.vertices[i : i + 1], face_keep=value.face_keep[i : i + 1])
    return type(value)(*(getattr(value, name)[i : i + 1] for name in value.__dataclass_fields__))


def pictures(seed: int = 0, batch: int = 3, size: int = 48) -> tuple[Subjects, Cameras, Lights]:
    generator = torch.Generator().manual_seed(seed)
    cameras = single(cameras_around(generator, batch, 0.3, size))
    return people(blobs(generator, batch)), cameras, draw_lights(Draw(batch, generator))


@pytest.mark.parametrize("make", [soup, blobs])
def test_geometry_of_pictures_equals_ray_casting(make) -> None:
    generator = torch.Generator().manual_seed(3)
    subjects, cameras = people(make(generator, 2)), single(cameras_around(generator, 2, 0.3, 33))
    got = render(subjects, cameras, lit_from([0.0, 0, 1], 2), 33)
    expected = cast(subjects.outer, cameras.double(), 33)
    assert torch.equal(got.mask, expected.face >= 0)
    torch.testing.assert_close(got.depth.double(), expected.depth, rtol=1e-5, atol=1e-6)
    for i in range(2):
        at = expected.face[i] >= 0
        corners, bary = subjects.outer.faces[expected.face[i][at]], expected.bary[i][at]
        nearest = corners.gather(1, bary.argmax(1, keepdim=True))[:, 0]
        assert torch.equal(got.labels[i][at], subjects.labels[i][nearest])
        assert (got.labels[i][~at] == -1).all()
        rest = (subjects.rest[i][corners] * bary[..., None]).sum(1)
        torch.testing.assert_close(got.rest[i][at].double(), rest, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.joints, cameras.project(subjects.joints))


def test_normals_are_those_of_a_ball_and_face_the_viewer() -> None:
    ball = blobs(torch.Generator().manual_seed(0), 1, 4)
    outer = replace(ball, vertices=functional.normalize(ball.vertices, dim=-1) * 0.6)
    cameras = single(
        look_at(torch.zeros(1, 3).double(), *torch.tensor([[0.7], [0.3], [0.2], [30.0], [0.0]]).double(), 40)
    )
    for surface in (outer, replace(outer, faces=outer.faces.flip(1))):
        got = render(people(surface), cameras, lit_from([0.0, 0, 1]), 40)
        at = (torch.arange(40) + 0.5 - 20) / 30 / 0.6
        x, y = at.expand(40, 40)[None][got.mask], at[:, None].expand(40, 40)[None][got.mask]
        expected = torch.stack([x, y, -(1 - x * x - y * y).clamp(min=0).sqrt()], -1)
        inner = expected[:, 2] < -0.3
        torch.testing.assert_close(got.normals[got.mask][inner], expected[inner], rtol=0, atol=0.02)


def coverage(subjects: Subjects, cameras: Cameras, size: int, fineness: int) -> Tensor:
    """Share of each pixel that is covered, from a raster that sees the same places in a larger picture."""
    # The places of even grids lie on the pixels' rims: half a place is added on each side of the larger picture.
    extra = 1 - fineness % 2
    cameras = replace(cameras, scale=fineness * cameras.scale, centre=fineness * cameras.centre + extra / 2)
    seen = (rasterise(subjects.outer, cameras, fineness * size + extra).face >= 0).float()
    rim = torch.ones(fineness + extra)
    rim[0] = rim[-1] = 0.5 if extra else 1.0
    weights = (rim * rim[:, None] / fineness**2)[None, None]
    return functional.conv2d(seen[:, None], weights, stride=fineness)[:, 0]


@pytest.mark.parametrize("fineness", [1, 2, 3, 4])
def test_coverage_is_the_share_of_looks(fineness: int) -> None:
    subjects, cameras, lights = pictures()
    got = render(subjects, cameras, lights, 48, fineness)
    expected = coverage(subjects, cameras, 48, fineness)
    # The larger picture's cameras round differently, so that a place on a rim may fall to either side.
    assert (got.alpha - expected).abs().gt(1e-5).float().mean() < 1e-3
    assert (((got.alpha > 0) & (got.alpha < 1)).any()) == (fineness > 1)
    assert ((got.image > 0).any(-1) <= (got.alpha > 0)).all()


@pytest.mark.parametrize("fineness", [1, 3, 4])
def test_geometry_does_not_depend_on_how_finely_colours_are_looked_at(fineness: int) -> None:
    subjects, cameras, lights = pictures()
    first, second = (render(subjects, cameras, lights, 48, n) for n in (2, fineness))
    assert torch.equal(first.mask, second.mask) and torch.equal(first.labels, second.labels)
    torch.testing.assert_close(first.depth, second.depth)
    torch.testing.assert_close(first.rest, second.rest)


def test_light_is_the_same_from_everywhere() -> None:
    """Harmonics turned to the cameras' axes light normals there as they did in the world."""
    generator = torch.Generator().manual_seed(0)
    lights, cameras = draw_lights(Draw(5, generator)), single(cameras_around(generator, 5, 0.0, 9))
    normals = functional.normalize(torch.randn(5, 100, 3, generator=generator), dim=-1)
    seen = lights.seen_by(cameras)
    for i in range(5):
        turn = cameras.rotation[i]
        own = torch.full((100,), i)
        here = irradiance(lights.sh, own, normals[i].T)
        there = irradiance(seen.sh, own, turn @ normals[i].T)
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(seen.direction[i], turn @ lights.direction[i])


def assert_alike(got: Rendered, expected: Rendered) -> None:
    """What is seen is the same in batches of any size, as the rasteriser promises; colours but for their rounding.

    Powers, roots and sums of many pixels are taken by eights or fours, and the rest one by one: float32 allows a few
    of its last bits to differ. The light or the clothes of another sample would change whole surfaces.
    """
    for name in ("mask", "labels"):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name
    for name in ("image", "alpha", "depth", "normals", "rest", "joints"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-5, atol=1e-5, msg=name)


def test_pictures_are_repeatable_and_samples_do_not_know_each_other() -> None:
    subjects, cameras, lights = pictures(1)
    first, second = render(subjects, cameras, lights, 48), render(subjects, cameras, lights, 48)
    for name in Rendered.__dataclass_fields__:
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    for i in range(3):
        alone = replace(
            people(sample_of(subjects.outer, i), Spots(subjects.rest[i : i + 1])),
            labels=subjects.labels[i : i + 1],
            rest=subjects.rest[i : i + 1],
        )
        single_picture = render(alone, sample_of(cameras, i), sample_of(lights, i), 48)
        assert_alike(single_picture, sample_of(first, i))


def test_repeated_people_are_seen_from_each_camera() -> None:
    subjects, cameras, lights = pictures(1)
    rows = torch.tensor([0, 0, 1, 1, 2, 2])
    twice = Cameras(*(getattr(cameras, name)[rows] for name in cameras.__dataclass_fields__))
    light = Lights(*(getattr(lights, name)[rows] for name in lights.__dataclass_fields__))
    got = render(subjects.repeated(2), twice, light, 48)
    once = render(subjects, cameras, lights, 48)
    for start in (0, 1):
        assert_alike(Rendered(*(getattr(got, name)[start::2] for name in Rendered.__dataclass_fields__)), once)


def test_the_side_towards_the_light_is_bright() -> None:
    ball = blobs(torch.Generator().manual_seed(0), 1, 3)
    outer = replace(ball, vertices=functional.normalize(ball.vertices, dim=-1) * 0.6)
    cameras = single(
        look_at(torch.zeros(1, 3).double(), *torch.tensor([[0.0], [0.0], [0.0], [30.0], [0.3]]).double(), 40)
    )
    left = render(people(outer, White()), cameras, lit_from([1.0, 0.3, 0.3]), 40).image[0, ..., 0]
    assert left[:, 20:].mean() > 3 * left[:, :20].mean(), "+X is at the right of the picture of who faces the camera"
    above = render(people(outer, White()), cameras, lit_from([0.0, 1, 0.3]), 40).image[0, ..., 0]
    assert above[:20].mean() > 3 * above[20:].mean()


def table_and_plate(gap: float) -> Outer:
    """A large square on the floor and a small one over it, both facing up."""
    square = torch.tensor([[-1.0, 0, 1], [1, 0, 1], [1, 0, -1], [-1, 0, -1]])
    vertices = torch.cat([square, 0.25 * square + torch.tensor([0, gap, 0])])[None]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    return Outer(vertices, faces, torch.ones(1, 4, dtype=torch.bool))


def test_shadows_fall_where_rays_to_the_light_are_blocked() -> None:
    outer, lights = table_and_plate(0.5), lit_from([0.5, 1.0, 0.0])
    shadows = shadow_map(outer, lights, 200)
    at = torch.linspace(-0.9, 0.9, 61)
    x, z = (grid.flatten() for grid in torch.meshgrid(at, at, indexing="xy"))
    floor = torch.stack([x, torch.zeros_like(x), z], -1)[None]
    up = torch.tensor([0.0, 1, 0]).expand_as(floor)
    lit = shadows.lit(shadows.coordinates(floor, up)[0].T, torch.zeros(len(x), dtype=torch.int64))
    # The ray to the light passes the plate's height a quarter of a metre to the right.
    inside = torch.maximum((x + 0.25).abs(), z.abs()) - 0.25
    assert (lit[inside < -0.04] == 0).all()
    assert (lit[inside > 0.04] > 0.999).all()


def test_round_bodies_do_not_shade_themselves() -> None:
    ball = blobs(torch.Generator().manual_seed(0), 1, 3)
    vertices = (functional.normalize(ball.vertices, dim=-1) * 0.6).float()
    outer, lights = replace(ball, vertices=vertices), lit_from([0.4, 0.8, 0.3])
    shadows = shadow_map(outer, lights, 160)
    normals = functional.normalize(vertices, dim=-1)
    lit = shadows.lit(shadows.coordinates(vertices, normals)[0].T, torch.zeros(vertices.shape[1], dtype=torch.int64))
    cosine = (normals[0] * lights.direction).sum(-1)
    assert (lit[cosine > 0.2] > 0.999).all()
    assert (lit[cosine < -0.3] == 0).all()


def test_hollows_are_dark_and_planes_are_not() -> None:
    size, scale = 64, torch.full((1,), 64.0)
    cameras = Cameras(torch.eye(3)[None], torch.zeros(1, 3), scale, 0 * scale, torch.full((1, 2), 32.0))
    at = (torch.arange(size) + 0.5 - 32) / 64
    slope = 0.7 * at.expand(1, size, size)
    normal = functional.normalize(torch.tensor([0.7, 0.0, -1.0]), dim=0).expand(1, size, size, 3)
    assert hollows(slope, normal, cameras).abs().max() < 1e-6
    valley = -slope.abs()
    sides = normal * torch.stack([-at.sign(), torch.ones(size), torch.ones(size)], -1)
    dark = hollows(valley, sides, cameras)[0, 32]
    assert dark[32] > 0.1 and dark[32] > dark[24] and dark[6:14].abs().max() < 1e-6
    assert hollows(-valley, sides * torch.tensor([-1.0, 1, 1]), cameras).abs().max() < 1e-6


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_relief_tilts_normals_as_the_displaced_surface_has_them(perspective: float) -> None:
    one = torch.ones(1, dtype=torch.float64)
    slope = torch.tensor([0.2, -0.1, 0.15], dtype=torch.float64)
    outer = table_and_plate(0.001)
    outer = replace(outer, vertices=outer.vertices.double(), face_keep=torch.tensor([[True, True, False, False]]))
    cameras = look_at(torch.zeros(1, 3).double(), 0.3 * one, 0.9 * one, 0.2 * one, 20 * one, perspective * one, 40)
    grid = Grid(80, 0.25, 0.5)
    seen = look(place(outer, cameras), grid)
    world = (outer.vertices[seen.sample[:, None], seen.corners] * seen.bary[..., None]).sum(1)
    up = torch.tensor([0.0, 1, 0], dtype=torch.float64)
    turn = cameras.rotation[0]
    got = bumped((turn @ up)[:, None].expand(3, len(world)), seen, world @ slope, cameras, grid)
    # The surface y = slope . (x, 0, z) has this normal.
    expected = turn @ functional.normalize(up - slope * torch.tensor([1.0, 0, 1]), dim=0)
    right = (got - expected[:, None]).norm(dim=0) < 1e-5
    assert right.float().mean() > 0.9, "pixels at two rims know no neighbours; all others must be right"


def test_even_light_shows_colours_as_they_are() -> None:
    subjects, cameras, _ = pictures()
    lights = lit_from([0.0, 1, 0], 3, around=0.5, key=0.0)
    got = render(people(subjects.outer, White()), cameras, lights, 48, config=PLAIN)
    expected = encode(torch.full((1, 3), 0.5))[0]
    torch.testing.assert_close(got.image[got.alpha == 1], expected.expand(int((got.alpha == 1).sum()), 3))
    assert expected[0] == pytest.approx(0.7354, abs=1e-3), "half of the light is sRGB 188"


@pytest.mark.parametrize("config", [PLAIN, RenderConfig(occlusion=0.0), RenderConfig(relief=False)])
def test_what_light_costs_can_be_left_out(config: RenderConfig) -> None:
    subjects, cameras, lights = pictures()
    full, fast = render(subjects, cameras, lights, 48), render(subjects, cameras, lights, 48, config=config)
    assert torch.equal(full.alpha, fast.alpha) and torch.equal(full.depth, fast.depth)
    assert not torch.equal(full.image, fast.image)


def test_render_config_says_what_it_expects() -> None:
    with pytest.raises(ValueError, match="occlusion"):
        RenderConfig(occlusion=2.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_sees_the_same() -> None:
    subjects, cameras, lights = pictures()
    moved = [type(x)(*(getattr(x, n).cuda() for n in x.__dataclass_fields__)) for x in (cameras, lights)]
    outer = replace(
        subjects.outer,
        vertices=subjects.outer.vertices.cuda(),
        faces=subjects.outer.faces.cuda(),
        face_keep=subjects.outer.face_keep.cuda(),
    )
    other = replace(
        subjects,
        outer=outer,
        texture=Spots(subjects.rest.cuda()),
        labels=subjects.labels.cuda(),
        rest=subjects.rest.cuda(),
        joints=subjects.joints.cuda(),
    )
    here, there = render(subjects, cameras, lights, 48), render(other, *moved, 48)
    assert (there.labels.cpu() != here.labels).float().mean() < 1e-3
    assert (there.image.cpu() - here.image).abs().mean() < 1e-3
