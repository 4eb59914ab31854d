"""Light of synthetic pictures: surroundings as spherical harmonics, and one key light that casts shadows.

Colours are linear. Directions are in the world: Y up, people face +Z.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lvdreg.synth.camera.view import Cameras
from lvdreg.synth.draw import Draw

# Constants of the real spherical harmonics up to the second order, and of the clamped cosine: with these, the light
# of a distant source from d is the clamped cosine between n and d (Ramamoorthi and Hanrahan 2001).
_HARMONICS = (0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274)
_COSINE = (3.141593,) + (2.094395,) * 3 + (0.785398,) * 5

# Ranges by kind: share of the key light, its height over the horizon (degrees), its turn from the camera's side
# (degrees, either way), how warm it is, how dark its shadows are.
_KINDS: dict[str, tuple[tuple[float, float], ...]] = {
    "flat": ((0.00, 0.15), (20, 80), (0, 180), (-0.1, 0.1), (0.0, 0.5)),
    "studio": ((0.30, 0.60), (15, 50), (10, 60), (-0.05, 0.1), (0.6, 1.0)),
    "sun": ((0.55, 0.85), (25, 75), (0, 150), (0.0, 0.2), (0.85, 1.0)),
    "low": ((0.50, 0.80), (0, 20), (30, 110), (0.05, 0.4), (0.8, 1.0)),
    "back": ((0.50, 0.75), (10, 50), (120, 180), (-0.05, 0.3), (0.8, 1.0)),
    "ceiling": ((0.25, 0.55), (60, 88), (0, 180), (-0.05, 0.25), (0.5, 0.9)),
    "coloured": ((0.30, 0.70), (0, 60), (0, 150), (-0.5, 0.6), (0.6, 1.0)),
}
_PROBABILITIES = (0.14, 0.22, 0.24, 0.12, 0.08, 0.14, 0.06)
_NUM_SOURCES = 5
# Directions (not yet unit) that tell harmonics of the second order apart.
_LOOKS = [(x, y, z) for x in (-1.0, 0.2, 1.0) for y in (-1.0, 0.1, 1.0) for z in (-1.0, 0.3, 1.0)]


@dataclass(frozen=True)
class Lights:
    """How each sample of a batch is lit; a white matt surface has the colour ``irradiance + colour * cosine``.

    Attributes:
        sh: Light of the surroundings on a surface, by its normal, as spherical harmonics for red, green and blue.
        direction: Unit vector towards the key light, world.
        colour: Of the key light.
        shadow: How dark its shadows are: 0 lets all its light through, 1 none.
    """

    sh: Float[Tensor, "B 9 3"]
    direction: Float[Tensor, "B 3"]
    colour: Float[Tensor, "B 3"]
    shadow: Float[Tensor, " B"]

    def seen_by(self, cameras: Cameras) -> "Lights":
        """Return the same light with directions in the cameras' axes."""
        rotation = cameras.rotation.to(self.sh.dtype)
        direction = (rotation * self.direction[:, None]).sum(-1)
        # Turned harmonics are harmonics again, of which a few values tell all.
        looks = functional.normalize(self.sh.new_tensor(_LOOKS), dim=-1)
        world = (rotation[:, None] * looks[:, :, None]).sum(-2)
        values = (harmonics(world)[..., None] * self.sh[:, None]).sum(2)
        solved = torch.linalg.pinv(harmonics(looks).double()).to(values.dtype)
        return Lights((solved[:, :, None] * values[:, None]).sum(2), direction, self.colour, self.shadow)

    def to(self, device: torch.device) -> "Lights":
        """Return the same light on another device."""
        return Lights(self.sh.to(device), self.direction.to(device), self.colour.to(device), self.shadow.to(device))


def harmonics(directions: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 9"]:
    """Return the real spherical harmonics up to the second order at unit vectors."""
    x, y, z = directions.unbind(-1)
    basis = [torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
    return torch.stack([factor * term for factor, term in zip(_HARMONICS, basis, strict=True)], -1)


def surroundings(
    directions: Float[Tensor, "B K 3"], colours: Float[Tensor, "B K 3"], ambient: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 9 3"]:
    """Return the harmonics of distant sources and of even light from all sides, on white matt surfaces."""
    lobes = harmonics(directions) * directions.new_tensor(_COSINE)
    even = torch.zeros_like(lobes[:, 0])
    even[:, 0] = 1 / _HARMONICS[0]
    return (lobes[..., None] * colours[:, :, None]).sum(1) + even[..., None] * ambient[:, None]


def irradiance(
    sh: Float[Tensor, "B 9 3"], sample: Int[Tensor, " P"], normals: Float[Tensor, "3 P"]
) -> Float[Tensor, "3 P"]:
    """Return the light of the surroundings on surfaces, each in one of the samples, by their normals."""
    x, y, z = normals
    basis = (None, y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y)
    total = torch.zeros_like(normals)
    for factor, term, rows in zip(_HARMONICS, basis, (factors.T for factors in sh.unbind(1)), strict=True):
        term = factor if term is None else factor * term
        for colour, row in zip(total, rows, strict=True):
            colour += row.index_select(0, sample) * term
    return total.clamp(min=0)


def draw_lights(draw: Draw, yaw: Float[Tensor, " B"] | None = None) -> Lights:
    """Draw light as it is in photographs: even, studio, sun, low from the side, from behind, lamps, coloured.

    Args:
        draw: One row for each picture.
        yaw: Where the cameras stand (``look_at``): key lights are mostly on their side; None: anywhere.
    """
    low, high = torch.tensor(list(_KINDS.values()), device=draw.device)[draw.choice(_PROBABILITIES)].unbind(-1)
    share, height, turn, warmth, shadow = (low + (high - low) * draw.uniform(shape=(5,))).unbind(1)
    around = draw.uniform(0, 360)[:, 0] if yaw is None else torch.rad2deg(yaw.to(torch.float32))
    turn = around + torch.where(draw.chance(0.5)[:, 0], turn, -turn)
    direction = _towards(torch.deg2rad(turn), torch.deg2rad(height))
    exposure = draw.uniform(0.45, 1.2) * torch.exp(0.15 * draw.normal())
    key = 2.1 * exposure * share[:, None] * _tint(warmth, 0.04 * draw.normal((2,)))
    sh = _room(draw) * (exposure * (1 - share[:, None]))[..., None]
    return Lights(sh, direction, key, shadow)


def _towards(turn: Float[Tensor, " B"], height: Float[Tensor, " B"]) -> Float[Tensor, "B 3"]:
    return torch.stack([turn.sin() * height.cos(), height.sin(), turn.cos() * height.cos()], -1)


def _tint(warmth: Float[Tensor, " B"], odd: Float[Tensor, "B 2"]) -> Float[Tensor, "B 3"]:
    """Return colours of light of equal brightness: warm is red and yellow; ``odd`` is towards green and magenta."""
    red, blue = torch.exp(0.8 * warmth + odd[:, 0]), torch.exp(-1.2 * warmth + odd[:, 1])
    colour = torch.stack([red, torch.ones_like(red), blue], -1)
    return colour / (colour * colour.new_tensor([0.2126, 0.7152, 0.0722])).sum(1, keepdim=True)


def _room(draw: Draw) -> Float[Tensor, "B 9 3"]:
    """Draw surroundings that light a person about as much as a unit of even light: sky, ground, windows and walls."""
    batch, device = draw.batch, draw.device
    directions = functional.normalize(draw.normal((_NUM_SOURCES, 3)) + torch.tensor([0, 0.3, 0], device=device), dim=-1)
    strength = 2 * draw.uniform(shape=(_NUM_SOURCES, 1)) ** 2
    tints = [_tint(0.15 * draw.normal()[:, 0], 0.05 * draw.normal((2,))) for _ in range(_NUM_SOURCES)]
    up = torch.tensor([0.0, 1.0, 0.0], device=device).expand(batch, 1, 3)
    sky = draw.uniform(0.0, 0.8)[..., None] * _tint(-0.1 * draw.uniform()[:, 0], 0.03 * draw.normal((2,)))[:, None]
    ground = draw.uniform(0.0, 0.3)[..., None] * _tint(0.15 * draw.normal()[:, 0], 0.05 * draw.normal((2,)))[:, None]
    even = draw.uniform(0.05, 0.7) * _tint(0.1 * draw.normal()[:, 0], 0.03 * draw.normal((2,)))
    colours = torch.cat([strength * torch.stack(tints, 1), sky, ground], 1)
    sh = surroundings(torch.cat([directions, up, -up], 1), colours, even)
    # The mean over all normals is the first harmonic alone.
    return sh / (sh[:, :1] * _HARMONICS[0]).mean(-1, keepdim=True)
