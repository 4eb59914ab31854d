"""What a scanner would have seen of an outer surface: points, normals, and which of them are real.

Everything runs for a whole batch at once on the surface's device; every sample draws its own kind of scanner.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lvdreg.synth.draw import Draw
from lvdreg.synth.surface import Outer


@dataclass(frozen=True)
class SynthConfig:
    """Clothing and sensors of synthetic samples (synth/clothes/layers.py, synth/scanner.py). Lengths in metres.

    Hands are scanned at the size of a person, ``HAND_SCALE`` of theirs (synth/hand_scans.py).
    """

    # Outfits are bare (underwear), tight (sportswear), light (shirt, trousers), heavy (jacket, coat), gown (dress).
    outfit_probabilities: tuple[float, ...] = (0.15, 0.13, 0.40, 0.20, 0.12)
    shoes_probabilities: tuple[float, ...] = (0.10, 0.40, 0.90, 0.95, 0.70)  # by outfit
    hair_probabilities: tuple[float, ...] = (0.20, 0.40, 0.25, 0.15)  # none, short, long, hat or cap
    bun_probability: float = 0.15
    backpack_probability: float = 0.02  # of light and heavy outfits
    # Sensors: closed surface, ring of cameras, two or three cameras, one camera.
    view_probabilities: tuple[float, ...] = (0.26, 0.50, 0.12, 0.12)
    camera_distance: tuple[float, float] = (1.8, 3.5)
    hole_probability: float = 0.35
    hole_radius: tuple[float, float] = (0.02, 0.14)
    max_holes: int = 6
    sole_missing_probability: float = 0.35
    top_missing_probability: float = 0.10  # hair absorbs light
    crop_probability: float = 0.05
    uneven_probability: float = 0.35
    sparse_probability: float = 0.06
    noise_sigma: float = 0.005  # largest usual standard deviation
    rough_probability: float = 0.06
    rough_sigma: float = 0.010
    depth_step: float = 0.006  # largest quantisation of a depth camera at 2 m
    misalignment: float = 0.004  # between cameras
    outlier_probability: float = 0.25
    max_outliers: float = 0.01  # share of the points
    flying_probability: float = 0.5  # of depth cameras: pixels trail behind the silhouette
    flying_depth: float = 0.25
    floor_probability: float = 0.06
    max_floor: float = 0.08  # share of the points
    floor_radius: tuple[float, float] = (0.1, 0.6)
    normals_absent_probability: float = 0.10
    normals_flipped_probability: float = 0.03

    @classmethod
    def for_hands(cls) -> "SynthConfig":
        """Return the sensors that scan hands: seen from one side more often, and noisier for their size.

        The noise of scanners does not shrink with what they scan: good ones have 0.2 to 0.6 mm, depth cameras 2 to
        4 mm, nine times as much on a hand made as large as a person.
        """
        return cls(
            view_probabilities=(0.28, 0.27, 0.15, 0.30),
            camera_distance=(3.5, 8.0),
            sole_missing_probability=0.0,
            top_missing_probability=0.0,
            crop_probability=0.0,
            sparse_probability=0.10,
            noise_sigma=0.008,
            rough_probability=0.18,
            rough_sigma=0.035,
            depth_step=0.02,
            misalignment=0.01,
            flying_depth=0.5,
            max_floor=0.25,
            floor_radius=(0.3, 1.5),
            normals_absent_probability=0.15,
        )


NUM_CAMERAS = 8
GRAZING = 0.17  # cosine of the angle (80 degrees) beyond which scanners see nothing
CLOSED, RING, FUSED, SINGLE = range(4)  # the order of SynthConfig.view_probabilities


def scan_points(
    outer: Outer, num_points: int, generator: torch.Generator, config: SynthConfig | None = None
) -> tuple[Float[Tensor, "B P 3"], Float[Tensor, "B P 3"], Bool[Tensor, "B P"]]:
    """Scan each surface of a batch with a random scanner.

    Args:
        outer: dressed surfaces, metres, Y up.
        num_points: points P per sample.
        generator: seeded, on the surface's device.
        config: probabilities and ranges.

    Returns:
        Points (world, metres), normals (unit, or zeros where absent), and a mask of the rows that hold a point. Rows
        outside the mask repeat a real point, so that bounding boxes stay right.
    """
    config = config or SynthConfig()
    draw = Draw(outer.vertices.shape[0], generator)
    size = _size(outer.vertices)
    points, normals = sample_surface(outer, 2 * num_points, draw, config)
    seen, rays, camera, kind = _look(points, normals, size, draw, config)
    valid = seen & ~_holes(points, normals, size, draw, config) & ~_cropped(points, outer.vertices, draw, config)
    order = _pick(valid, num_points, draw, config)
    valid = valid.gather(1, order) & _kept_when_sparse(num_points, draw, config)
    valid[:, 0] = True  # a scan is never empty
    points, normals, rays = (_rows(x, order) for x in (points, normals, rays))
    points = _noise(points, normals, rays, camera.gather(1, order), kind, draw, config)
    points = _flying(points, normals, rays, kind, draw, config)
    points, normals = _add_surroundings(points, normals, outer.vertices, draw, config)
    normals = _normal_faults(normals, draw, config)
    points = torch.where(valid[..., None], points, points[:, :1])
    normals = torch.where(valid[..., None], normals, normals[:, :1])
    return points, normals, valid


def sample_surface(
    outer: Outer, num_points: int, draw: Draw, config: SynthConfig
) -> tuple[Float[Tensor, "B M 3"], Float[Tensor, "B M 3"]]:
    """Sample points with their face normals, by area, or unevenly in some samples (stratified along the face list)."""
    corners = outer.vertices[:, outer.faces.reshape(-1)].unflatten(1, (-1, 3))
    a, ab, ac = corners[:, :, 0], corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    cross = torch.linalg.cross(ab, ac)
    double_area = cross.norm(dim=-1)
    weight = double_area * outer.face_keep * _density(a, cross, double_area, draw, config)
    total = weight.cumsum(1)
    step = (torch.arange(num_points, device=a.device) + draw.uniform(shape=(num_points,))) / num_points
    face = torch.searchsorted(total, step * total[:, -1:]).clamp(max=weight.shape[1] - 1)
    u, v = draw.uniform(shape=(num_points, 1)), draw.uniform(shape=(num_points, 1))
    fold = u + v > 1
    u, v = torch.where(fold, 1 - u, u), torch.where(fold, 1 - v, v)
    points = _rows(a, face) + u * _rows(ab, face) + v * _rows(ac, face)
    return points, functional.normalize(_rows(cross, face), dim=-1)


def visible(
    points: Float[Tensor, "B M 3"],
    normals: Float[Tensor, "B M 3"],
    cameras: Float[Tensor, "B C 3"],
    resolution: int = 96,
    tolerance: float = 0.01,
) -> Bool[Tensor, "B C M"]:
    """Tell which points each camera sees, by a depth image of splatted points.

    A point is seen when it faces the camera and lies no deeper than the nearest point around its pixel plus a
    tolerance that grows where the surface is seen at a slant. The pixels fit the sample's own extent.

    Args:
        points: dense samples of a closed surface, metres.
        normals: outward unit normals.
        cameras: camera positions in the same frame, outside the surface.
        resolution: pixels across the larger extent; one pixel should hold about one sample or less.
        tolerance: metres.
    """
    image, depth, angle_per_pixel = _project(points, cameras, resolution)
    batch, num_cameras, count = depth.shape
    far = float("inf")
    buffer = depth.new_full((batch * num_cameras, resolution * resolution), far)
    buffer.scatter_reduce_(1, image.reshape(batch * num_cameras, count), depth.reshape(-1, count), "amin")
    near = _nearest_around(buffer.view(-1, resolution, resolution)).flatten(1)
    near = near.gather(1, image.view(-1, count)).view_as(depth)
    # Cosine of the angle between normal and ray, (camera - p) . n / |camera - p|: linear in p, so one product.
    toward = cameras @ normals.mT - (points * normals).sum(-1)[:, None]
    cosine = toward / (cameras[:, :, None] - points[:, None]).norm(dim=-1).clamp(min=1e-6)
    bounded = cosine.clamp(GRAZING, 1)
    steps = 2 * angle_per_pixel[..., None] * depth  # the window reaches two pixels along its diagonal
    slant = steps * ((1 - bounded * bounded).sqrt() / bounded)
    return (cosine > GRAZING) & (depth <= near + tolerance + slant)


def _nearest_around(depth: Tensor) -> Tensor:
    """Return the smallest depth among each pixel and its eight neighbours (K, H, W)."""
    wide = functional.pad(depth, (1, 1, 1, 1), value=torch.inf)
    rows = torch.minimum(torch.minimum(wide[:, :-2], wide[:, 1:-1]), wide[:, 2:])
    return torch.minimum(torch.minimum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def _project(points: Tensor, cameras: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pixel numbers (B, C, M), depths along the optical axis (B, C, M), and the tangent per pixel (B, C)."""
    low, high = points.amin(1), points.amax(1)
    centre = (low + high) / 2
    forward = functional.normalize(centre[:, None] - cameras, dim=-1)
    up = forward.new_tensor([0.0, 1.0, 0.0]).expand_as(forward)
    up = torch.where(forward[..., 1:2].abs() > 0.95, forward.new_tensor([1.0, 0.0, 0.0]).expand_as(forward), up)
    right = functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    frame = torch.stack([right, torch.linalg.cross(forward, right), forward], 2)  # (B, C, 3, 3)
    offset = (frame @ cameras[..., None])[..., 0]
    local = torch.einsum("bcij,bmj->bcim", frame, points) - offset[..., None]
    depth = local[:, :, 2]
    plane = local[:, :, :2] / depth.clamp(min=1e-3)[:, :, None]
    corner = plane.amin(-1, keepdim=True)
    extent = (plane.amax(-1, keepdim=True) - corner).amax(2, keepdim=True).clamp(min=1e-6)
    pixel = ((plane - corner) * ((resolution - 1e-3) / extent)).long()
    return pixel[:, :, 1] * resolution + pixel[:, :, 0], depth, extent[:, :, 0, 0] / resolution


def _size(vertices: Tensor) -> Tensor:
    """Return a length (B, 1) that is 1 for a grown person: the root of the vertices' spread over its usual value."""
    spread = (vertices - vertices.mean(1, keepdim=True)).square().sum(-1).mean(1, keepdim=True).sqrt()
    return (spread / 0.5).clamp(0.5, 1.3)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Gather rows (B, M, 3) by index (B, P)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _density(a: Tensor, cross: Tensor, double_area: Tensor, draw: Draw, config: SynthConfig) -> Tensor:
    """Return relative densities (B, F): a smooth wave over space and a preferred direction, or 1."""
    wave = torch.sin((a @ (6 * draw.normal((3, 1))))[..., 0] + draw.uniform(0, 6.28))
    direction = functional.normalize(draw.normal((3, 1)), dim=1)
    facing = (cross @ direction)[..., 0] / double_area.clamp(min=1e-12)
    strength = draw.uniform(0, 1.5) * draw.chance(config.uneven_probability)
    return torch.exp(strength * (wave + facing) / 1.5)


def _look(
    points: Tensor, normals: Tensor, size: Tensor, draw: Draw, config: SynthConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return seen (B, M), unit rays from the seeing camera (B, M, 3), its number (B, M), the scanner's kind (B,)."""
    kind = draw.choice(config.view_probabilities)
    cameras = _camera_positions(points, size, draw, config)
    counts = torch.tensor([0, NUM_CAMERAS, 3, 1], device=points.device)[kind][:, None]
    counts = counts - (draw.chance(0.5) & (kind[:, None] == FUSED)).long()
    sample, number = torch.nonzero(torch.arange(NUM_CAMERAS, device=points.device) < counts, as_tuple=True)
    seen_by = points.new_zeros((len(points), NUM_CAMERAS, points.shape[1]), dtype=torch.bool)
    seen_by[sample, number] = visible(points[sample], normals[sample], cameras[sample, number, None])[:, 0]
    seen = (kind == CLOSED)[:, None].expand_as(seen_by[:, 0])
    camera = torch.zeros_like(seen, dtype=torch.int64)
    for c in reversed(range(NUM_CAMERAS)):
        seen, camera = seen | seen_by[:, c], torch.where(seen_by[:, c], c, camera)
    rays = functional.normalize(points - _rows(cameras, camera), dim=-1)
    return seen, rays, camera, kind


def _camera_positions(points: Tensor, size: Tensor, draw: Draw, config: SynthConfig) -> Tensor:
    """Return (B, C, 3): the first two or three stand around it, others fill the ring or look from above."""
    turn = torch.tensor([0.0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875], device=points.device)
    azimuth = 6.2832 * (turn + draw.uniform() + draw.uniform(-0.06, 0.06, (NUM_CAMERAS,)))
    tilt = torch.tensor([0.1, 0.1, 0.1, 0.4, 0.9, 0.9, -0.2, -0.2], device=points.device)
    elevation = tilt + 0.25 * draw.normal((NUM_CAMERAS,)).clamp(-2, 2)
    away = torch.stack([azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()], -1)
    middle = (points.amin(1) + points.amax(1)) / 2
    return middle[:, None] + away * (size * draw.uniform(*config.camera_distance))[..., None]


def _holes(points: Tensor, normals: Tensor, size: Tensor, draw: Draw, config: SynthConfig) -> Tensor:
    """Return True (B, M) where spheres cut holes, soles are missing, or the top of the head is missing."""
    count = config.max_holes
    centre = draw.uniform(0, points.shape[1], (count,)).long()
    low, high = config.hole_radius
    radius = size * (low + (high - low) * draw.uniform(shape=(count,)) ** 2)
    on = draw.chance(config.hole_probability) & draw.chance(0.6, (count,))
    cut = (torch.cdist(points, _rows(points, centre)) < (radius * on)[:, None]).any(-1)
    y, floor = points[..., 1], points[..., 1].amin(1, keepdim=True)
    sole = (y < floor + 0.02 * size) & (normals[..., 1] < -0.3) & draw.chance(config.sole_missing_probability)
    top = _rows(points, y.argmax(1, keepdim=True))
    cap = (points - top).norm(dim=-1) < size * draw.uniform(0.05, 0.15)
    return cut | sole | (cap & draw.chance(config.top_missing_probability))


def _cropped(points: Tensor, vertices: Tensor, draw: Draw, config: SynthConfig) -> Tensor:
    """Return True (B, M) below a random height (legs cut), seldom above one (head cut)."""
    low, high = vertices[..., 1].amin(1, keepdim=True), vertices[..., 1].amax(1, keepdim=True)
    fraction = (points[..., 1] - low) / (high - low)
    below = fraction < draw.uniform(0.05, 0.55)
    above = fraction > draw.uniform(0.85, 0.95)
    return torch.where(draw.chance(0.8), below, above) & draw.chance(config.crop_probability)


def _pick(valid: Tensor, num_points: int, draw: Draw, config: SynthConfig) -> Tensor:
    """Return indices (B, P) of random candidates, valid ones first."""
    return (draw.uniform(shape=(valid.shape[1],)) + valid).topk(num_points, dim=1).indices


def _kept_when_sparse(num_points: int, draw: Draw, config: SynthConfig) -> Tensor:
    """Return a mask (B, P) that keeps a share of the points in some samples."""
    share = torch.where(draw.chance(config.sparse_probability), draw.uniform(0.1, 0.5), 1.0)
    keep = torch.arange(num_points, device=share.device) < share * num_points
    return keep


def _noise(
    points: Tensor, normals: Tensor, rays: Tensor, camera: Tensor, kind: Tensor, draw: Draw, config: SynthConfig
) -> Tensor:
    """Add noise: along the ray and quantised for depth cameras, along the normal else, and a little in all others."""
    rough = draw.chance(config.rough_probability)
    sigma = torch.where(rough, config.rough_sigma * draw.uniform(0.3, 1), config.noise_sigma * draw.uniform() ** 2)
    count = points.shape[1]
    is_depth = (kind >= FUSED)[:, None]
    direction = torch.where(is_depth[..., None], rays, normals)
    along = sigma * draw.normal((count,))
    points = points + direction * along[..., None] + 0.4 * sigma[..., None] * draw.normal((count, 3))
    step = config.depth_step * draw.uniform(0.05, 1) * (is_depth & draw.chance(0.5))
    depth = (points * direction).sum(-1)
    snapped = torch.where(step > 0, (depth / step.clamp(min=1e-6)).round() * step, depth)
    points = points + direction * (snapped - depth)[..., None]
    shift = config.misalignment * draw.uniform()[..., None] * draw.normal((NUM_CAMERAS, 3))
    return points + _rows(shift, camera) * (kind == FUSED)[:, None, None]


def _flying(points: Tensor, normals: Tensor, rays: Tensor, kind: Tensor, draw: Draw, config: SynthConfig) -> Tensor:
    """Let pixels on the silhouettes that depth cameras see fly off behind, most of them not far."""
    on = draw.chance(config.flying_probability) & (kind >= FUSED)[:, None]
    slanted = 1 - (rays * normals).sum(-1).abs()
    flies = draw.uniform(shape=slanted.shape[1:]) < on * draw.uniform(0, 0.4) * slanted**3
    depth = config.flying_depth * draw.uniform() * draw.uniform(shape=slanted.shape[1:]) ** 2 - 0.01
    return points + rays * (flies * depth)[..., None]


def _add_surroundings(
    points: Tensor, normals: Tensor, vertices: Tensor, draw: Draw, config: SynthConfig
) -> tuple[Tensor, Tensor]:
    """Turn some points into stray points or a remnant of the floor."""
    count = points.shape[1]
    share = config.max_outliers * draw.uniform() * draw.chance(config.outlier_probability)
    lot = draw.uniform(shape=(count,))
    low, high = vertices.amin(1, keepdim=True), vertices.amax(1, keepdim=True)
    stray = low - 0.1 + (high - low + 0.2) * draw.uniform(shape=(count, 3))
    points = torch.where((lot < share)[..., None], stray, points)
    floor, is_floor = _floor(vertices, count, draw, config)
    up = torch.tensor([0.0, 1.0, 0.0], device=points.device)
    return torch.where(is_floor, floor, points), torch.where(is_floor, up, normals)


def _floor(vertices: Tensor, count: int, draw: Draw, config: SynthConfig) -> tuple[Tensor, Tensor]:
    """Return points (B, P, 3) on a patch of floor under the lowest part, and which rows (B, P, 1) they replace."""
    lowest = _rows(vertices, vertices[..., 1].argmin(1, keepdim=True))
    angle, radius = draw.uniform(0, 6.2832, (count,)), draw.uniform(*config.floor_radius)
    radius = radius * draw.uniform(shape=(count,)).sqrt()
    patch = torch.stack([radius * angle.cos(), 0.003 * draw.normal((count,)), radius * angle.sin()], -1)
    share = config.max_floor * draw.uniform() * draw.chance(config.floor_probability)
    return lowest + patch, (draw.uniform(shape=(count,)) < share)[..., None]


def _normal_faults(normals: Tensor, draw: Draw, config: SynthConfig) -> Tensor:
    """Make normals noisy; in some samples flip all of them, or leave them out (zeros)."""
    sigma = 0.3 * draw.uniform()[..., None] ** 2
    noisy = functional.normalize(normals + sigma * draw.normal(tuple(normals.shape[1:])), dim=-1)
    sign = 1 - 2 * draw.chance(config.normals_flipped_probability).float()
    present = ~draw.chance(config.normals_absent_probability)
    return noisy * (sign * present)[..., None]
