"""What happens to a picture between the world and a file: exposure, blur, noise, compression; and to masks of people.

Pictures are (B, 3, S, S), sRGB 0 to 1; masks (B, 1, S, S), 0 to 1. Every sample of a batch draws its own faults.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lvdreg.synth.draw import Draw

# JPEG's example tables (ITU-T T.81, annex K) for quality 50, luminance and chrominance.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *[(99,) * 8] * 4,
)  # fmt: skip
_YCC_RGB = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_GREY = _YCC_RGB[0]
_MAX_BLUR = 2.0
_MAX_MASK_BLUR, _MASK_SURROUNDINGS = 2.5, 3.0  # pixels: of masks, and how much wider strays are spread about people
_COARSE = 4  # side of the cells in which it is told who is near whom, pixels


def degraded(image: Float[Tensor, "B 3 S S"], draw: Draw) -> Float[Tensor, "B 3 S S"]:
    """Photograph a picture with a random camera: its exposure and colours, its blur, its noise, its compression."""
    image = expose(image, draw)
    sigma = torch.where(draw.chance(0.6), draw.uniform(0.1, 0.6), draw.uniform(0.4, _MAX_BLUR))
    image = noisy(blurred(image, sigma), draw)
    quality = torch.where(draw.chance(0.7), draw.uniform(70, 98), draw.uniform(25, 75))
    return compressed(image, quality)


def expose(image: Float[Tensor, "B 3 S S"], draw: Draw) -> Float[Tensor, "B 3 S S"]:
    """Change brightness, white balance, contrast and saturation."""
    gain = torch.exp(0.15 + 0.25 * draw.normal()) * torch.exp(0.06 * draw.normal((3,)))
    gamma = torch.exp(0.18 * draw.normal())
    image = (image * gain[..., None, None]).clamp(0, 1) ** gamma[..., None, None]
    grey = (image * image.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
    saturation = torch.where(draw.chance(0.06), 0.0, draw.uniform(0.6, 1.3))  # black and white photos exist
    return (grey + saturation[..., None, None] * (image - grey)).clamp(0, 1)


def blurred(
    image: Float[Tensor, "B C S S"], sigma: Float[Tensor, "B 1"], widest: float = _MAX_BLUR
) -> Float[Tensor, "B C S S"]:
    """Blur every picture by a Gaussian of its own ``sigma``, pixels; ``widest`` is the most that occurs."""
    batch, channels, height, width = image.shape
    reach = max(1, math.ceil(2.5 * widest))  # Not of the largest sigma: to know it the CPU would have to wait.
    offset = torch.arange(-reach, reach + 1, device=image.device)
    kernel = torch.exp(-0.5 * (offset / sigma.clamp_min(1e-2)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None, None]
    flat = image.reshape(1, batch * channels, height, width)
    flat = functional.pad(flat, (reach, reach, reach, reach), mode="replicate")
    flat = functional.conv2d(functional.conv2d(flat, kernel, groups=len(kernel)), kernel.mT, groups=len(kernel))
    return flat.view_as(image)


def noisy(image: Float[Tensor, "B 3 S S"], draw: Draw) -> Float[Tensor, "B 3 S S"]:
    """Add noise that grows with brightness (photons) and noise that does not (electronics)."""
    shot, read = 0.05 * draw.uniform() ** 2, 0.03 * draw.uniform() ** 2
    sigma = (read[..., None, None] ** 2 + shot[..., None, None] ** 2 * image).sqrt()
    return (image + sigma * draw.normal(tuple(image.shape[1:]))).clamp(0, 1)


def compressed(image: Float[Tensor, "B 3 S S"], quality: Float[Tensor, "B 1"]) -> Float[Tensor, "B 3 S S"]:
    """Lose what JPEG loses: coefficients of 8 x 8 blocks rounded to multiples of the standard's tables.

    Args:
        image: Sides are multiples of 8.
        quality: 1 to 100, as libjpeg counts it.
    """
    batch, _, height, width = image.shape
    dct, mixing, unmixing, tables = _jpeg(image.dtype, image.device)
    blocks = image.view(batch, 3, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(batch, 3, -1, 64)
    scale = torch.where(quality < 50, 50 / quality.clamp_min(1), 2 - quality / 50)
    steps = torch.floor(scale[:, None, None] * tables + 0.5).clamp(1, 255)
    # Both transforms are linear and act on different axes: 64 coefficients of a block by one product, then the colours.
    coefficients = mixing @ ((255 * blocks) @ dct.mT).flatten(2)
    coefficients = coefficients.view_as(blocks)
    coefficients[:, 0, :, 0] -= _GREY_LEVEL
    coefficients = torch.round(coefficients / steps).mul_(steps)
    coefficients[:, 0, :, 0] += _GREY_LEVEL
    blocks = (unmixing @ coefficients.flatten(2)).view_as(blocks) @ dct
    planes = blocks.view(batch, 3, height // 8, width // 8, 8, 8).transpose(3, 4).reshape(image.shape)
    return (planes / 255).clamp(0, 1)


_GREY_LEVEL = 8 * 128.0  # What JPEG takes off the luminance before it is transformed, in the first coefficient.


@lru_cache(maxsize=8)
def _jpeg(kind: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the cosine transform of blocks (64, 64), YCC from RGB (3, 3), its inverse, and tables (3, 1, 64)."""
    k, n = torch.arange(8, device="cpu", dtype=torch.float64)[:, None], torch.arange(8, device="cpu")
    rows = torch.cos(math.pi / 8 * (n + 0.5) * k) / 2
    rows[0] /= math.sqrt(2)
    mixing = torch.tensor(_YCC_RGB, dtype=torch.float64, device="cpu")
    tables = torch.tensor([_LUMINANCE, _CHROMINANCE, _CHROMINANCE], device="cpu").flatten(1)[:, None]
    dct, unmixing = torch.kron(rows, rows), torch.linalg.inv(mixing)
    return dct.to(device, kind), mixing.to(device, kind), unmixing.to(device, kind), tables.to(device, kind)


def backgrounds(size: int, draw: Draw) -> Float[Tensor, "B 3 S S"]:
    """Draw surroundings: soft shapes of all sizes in a few colours, walls and boxes with straight edges."""
    colours = muted(draw.uniform(shape=(3, 3)))
    soft = clouds(size, draw, (3, 8, 24, 80))
    image = torch.lerp(colours[:, 0, :, None, None], colours[:, 1, :, None, None], (0.5 + soft).clamp(0, 1))
    at = (torch.arange(size, device=draw.device) + 0.5) / size
    for _ in range(4):
        left, top = draw.uniform(-0.2, 0.9), draw.uniform(-0.2, 0.9)
        inside_x = (at > left) & (at < left + draw.uniform(0.05, 0.7))
        inside_y = (at > top) & (at < top + draw.uniform(0.05, 0.7))
        box = (inside_x[:, None, None, :] & inside_y[:, None, :, None]) & draw.chance(0.5)[..., None, None]
        image = torch.where(box, muted(draw.uniform(shape=(1, 3)))[:, 0, :, None, None] + 0.2 * soft, image)
    return image.clamp(0, 1)


def muted(colours: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
    """Take colours drawn evenly towards grey: most surroundings are not garish."""
    return torch.lerp(colours.mean(-1, keepdim=True), colours, 0.45)


def clouds(size: int, draw: Draw, cells: tuple[int, ...]) -> Float[Tensor, "B 1 S S"]:
    """Draw smooth noise of about unit range: a sum of random grids of so many cells, each upsampled."""
    rows, columns = [], []
    for count in cells:
        grid = draw.normal((1, count, count)) * (0.5 * (cells[0] / count) ** 0.5)
        columns.append(_upsampling(count, size, draw.device))
        rows.append(columns[-1] @ grid)
    # Upsampling is a product from either side: all grids at once from the second.
    return torch.cat(rows, -1) @ torch.cat(columns, 1).mT


@lru_cache(maxsize=64)
def _upsampling(count: int, size: int, device: torch.device) -> Float[Tensor, "S N"]:
    """Return the weights by which bicubic interpolation makes ``size`` values of ``count``."""
    one = torch.eye(count, device=device)[None, None]
    return functional.interpolate(one, (size, count), mode="bicubic", align_corners=False)[0, 0]


def hide(size: int, draw: Draw, probability: float) -> Float[Tensor, "B 1 S S"]:
    """Draw what stands in front of some people: 1 where an ellipse or a half-plane covers the picture, else 0."""
    at = 2 * (torch.arange(size, device=draw.device) + 0.5) / size - 1
    angle, radius, stretch = draw.uniform(0, 6.28), draw.uniform(0.05, 0.35), draw.uniform(0.6, 3.0)
    x, y = (
        at[None, None, :] - draw.uniform(-0.8, 0.8)[..., None],
        at[None, :, None] - draw.uniform(-0.9, 0.9)[..., None],
    )
    cos, sin = angle.cos()[..., None], angle.sin()[..., None]
    along, across = (cos * x + sin * y) / stretch[..., None], -sin * x + cos * y
    is_box = draw.chance(0.5)[..., None]
    distance = torch.where(is_box, torch.maximum(along.abs(), across.abs()), torch.hypot(along, across))
    covered = (distance < radius[..., None]) & draw.chance(probability)[..., None]
    return covered[:, None].float()


def segmented(mask: Float[Tensor, "B 1 S S"], draw: Draw) -> Float[Tensor, "B 1 S S"]:
    """Find the person as networks do: borders too wide here and too narrow there, soft; now and then a hole or a stray.

    A quarter of the masks stay as they are: people bring good ones too.
    """
    size = mask.shape[-1]
    bend = torch.cat([clouds(size, draw, (6, 20)) for _ in range(2)], 1)  # borders off by so many pixels
    bent = _shifted(mask, bend * 4 * draw.uniform()[..., None, None] ** 2)
    sigma, wider = draw.uniform(0.4, _MAX_MASK_BLUR), (0.2 * draw.normal()).clamp(-0.4, 0.4)[..., None, None]
    amount = torch.where(draw.chance(0.25), draw.uniform(1.4, 2.2), 9.0)[..., None, None]
    blobs = clouds(size, draw, (5, 9))
    strays, holes = (blobs - amount).clamp(0, 0.1) * 10, (-blobs - amount).clamp(0, 0.1) * 10
    found = blurred(bent, sigma, _MAX_MASK_BLUR) + wider + strays * _beside(mask, sigma) - 2 * holes
    found = ((found - 0.5) / draw.uniform(0.1, 0.5)[..., None, None] + 0.5).clamp(0, 1)
    return torch.where(draw.chance(0.25)[..., None, None], mask, found)


def _beside(mask: Float[Tensor, "B 1 S S"], sigma: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1 S S"]:
    """Tell where it is near people, coarsely: 1 there, else 0."""
    cells = functional.avg_pool2d(mask, _COARSE)
    widest = (_MAX_MASK_BLUR + _MASK_SURROUNDINGS) / _COARSE
    near = blurred(cells, (sigma + _MASK_SURROUNDINGS) / _COARSE, widest) > 0.02
    return near.to(mask.dtype).repeat_interleave(_COARSE, 2).repeat_interleave(_COARSE, 3)


def _shifted(image: Float[Tensor, "B C S S"], flow: Float[Tensor, "B 2 S S"]) -> Float[Tensor, "B C S S"]:
    """Read every pixel from ``flow`` pixels beside it."""
    size = image.shape[-1]
    at = (2 * torch.arange(size, device=image.device) + 1) / size - 1
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)
    return functional.grid_sample(image, grid + flow.permute(0, 2, 3, 1) * (2 / size), align_corners=False)
