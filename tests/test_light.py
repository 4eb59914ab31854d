"""Light: spherical harmonics, what is drawn, and how light becomes sRGB."""

import numpy as np
import torch
from torch.nn import functional

from lvdreg.synth.camera.light import draw_lights, harmonics, irradiance, surroundings
from lvdreg.synth.camera.shade import encode
from lvdreg.synth.draw import Draw


def test_harmonics_are_orthonormal_and_give_the_clamped_cosine() -> None:
    generator = torch.Generator().manual_seed(0)
    normals = functional.normalize(torch.randn(200_000, 3, generator=generator), dim=-1)
    basis = harmonics(normals)
    torch.testing.assert_close(4 * torch.pi * basis.T @ basis / len(basis), torch.eye(9), rtol=0, atol=0.03)
    source = functional.normalize(torch.tensor([[[0.3, 0.8, -0.4]]]), dim=-1)
    sh = surroundings(source, torch.ones(1, 1, 3), torch.zeros(1, 3))
    got = irradiance(sh, torch.zeros(len(normals), dtype=torch.int64), normals.T)[0]
    assert (got - (normals @ source[0, 0]).clamp(min=0)).abs().max() < 0.1


def test_encoding_is_srgb_with_a_shoulder() -> None:
    linear = torch.linspace(0, 0.7, 2001, dtype=torch.float64)
    srgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    torch.testing.assert_close(encode(linear), srgb, rtol=0, atol=1e-5)
    bright = encode(torch.linspace(0, 30, 5000))
    assert (bright.diff() >= 0).all() and bright.max() <= 1
    assert encode(torch.tensor([1.0, 1.5])).diff() > 0.01, "highlights are still told apart"


def test_lights_vary_and_never_darken() -> None:
    lights = draw_lights(Draw(400, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(lights.direction.norm(dim=-1), torch.ones(400))
    assert (lights.colour >= 0).all() and lights.sh.isfinite().all()
    assert ((lights.shadow >= 0) & (lights.shadow <= 1)).all()
    again = draw_lights(Draw(400, torch.Generator().manual_seed(0)))
    assert torch.equal(lights.sh, again.sh) and torch.equal(lights.direction, again.direction)
    brightness = lights.colour.mean(-1)
    assert brightness.quantile(0.9) > 4 * brightness.quantile(0.1)
    assert (lights.direction[:, 1] > -0.1).all(), "key lights are not in the ground"


def test_key_lights_are_on_the_cameras_side() -> None:
    yaw = torch.full((400,), 2.0)
    lights = draw_lights(Draw(400, torch.Generator().manual_seed(0)), yaw)
    side = lights.direction @ torch.tensor([np.sin(2.0), 0.0, np.cos(2.0)], dtype=torch.float32)
    assert 0.55 < (side > 0).float().mean() < 0.95
