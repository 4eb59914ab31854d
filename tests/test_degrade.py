"""Faults of cameras, files and masks: what they keep, what they lose, and that samples of a batch do not meet."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from lvdreg.synth.camera import degrade
from lvdreg.synth.draw import Draw

SIZE = 32


def draws(batch: int = 4, seed: int = 0) -> Draw:
    return Draw(batch, torch.Generator().manual_seed(seed))


def picture(batch: int = 4, size: int = SIZE) -> Tensor:
    """Smooth colours with an edge."""
    at = torch.arange(size) / size
    waves = torch.stack([0.5 + 0.4 * torch.sin(6 * at[:, None] + k + 3 * at) for k in range(3)])
    return torch.where(at > 0.6, 0.7 * waves, waves).expand(batch, -1, -1, -1).contiguous()


def disc(batch: int = 4, size: int = 128, radius: float = 0.6) -> Tensor:
    at = 2 * (torch.arange(size) + 0.5) / size - 1
    return (torch.hypot(at[:, None], at) < radius).float().expand(batch, 1, -1, -1).contiguous()


def test_compression_loses_what_jpeg_loses() -> None:
    image = picture(1, 64)
    pixels = (255 * image[0].permute(1, 2, 0)).round().byte().numpy()
    for quality in (20, 60, 92):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
        expected = np.asarray(Image.open(file)).astype(float)
        found = 255 * degrade.compressed(
            torch.from_numpy(pixels / 255).permute(2, 0, 1)[None].float(), torch.tensor([[float(quality)]])
        )
        # libjpeg rounds to whole numbers on the way, which moves single coefficients by a step.
        difference = np.abs(found[0].permute(1, 2, 0).numpy() - expected)
        assert difference.mean() < 1.0, quality
        assert difference.mean() < 0.2 * np.abs(pixels - expected).mean() + 0.6


def test_compression_at_its_best_changes_little_and_at_its_worst_much() -> None:
    image = picture()
    lost = [(degrade.compressed(image, torch.full((4, 1), float(q))) - image).abs().mean() for q in (100, 60, 10)]
    assert lost[0] < 0.003 < lost[1] < lost[2]


def test_blur_is_a_gaussian_of_each_samples_own_width() -> None:
    image = picture(3)
    sigma = torch.tensor([[0.02], [0.8], [1.9]])
    found = degrade.blurred(image, sigma)
    torch.testing.assert_close(found[0], image[0])
    for sample in (1, 2):
        one = image[sample, 0].double().numpy()
        expected = gaussian_filter(one, float(sigma[sample]), mode="nearest", truncate=5 / float(sigma[sample]))
        assert np.abs(found[sample, 0].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("fault", [degrade.degraded, degrade.expose, degrade.noisy])
def test_pictures_stay_pictures_and_repeat(fault: Callable[[Tensor, Draw], Tensor]) -> None:
    image = picture()
    first, again, other = (fault(image, draws(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == image.shape
    assert first.min() >= 0 and first.max() <= 1
    assert not torch.equal(first[0], first[1])  # every sample has its own


def test_masks_are_mostly_right_and_seldom_exact() -> None:
    true = disc(64)
    found = degrade.segmented(true, draws(64))
    assert found.min() >= 0 and found.max() <= 1
    inside, both = found > 0.5, true > 0.5
    overlap = (inside & both).sum((1, 2, 3)) / (inside | both).sum((1, 2, 3))
    assert overlap.median() > 0.93
    assert overlap.min() > 0.5
    exact = (found == true).all(-1).all(-1).all(-1)
    assert 6 < exact.sum() < 30
    assert (overlap < 0.97).sum() > 6


def test_what_stands_before_people_does_so_as_often_as_asked() -> None:
    assert degrade.hide(64, draws(50), 0.0).sum() == 0
    covered = degrade.hide(64, draws(200), 0.5).amax((1, 2, 3)).mean()
    assert 0.35 < covered < 0.55  # some lie beside the picture


def test_surroundings_differ_and_are_muted() -> None:
    image = degrade.backgrounds(64, draws(32))
    assert image.shape == (32, 3, 64, 64)
    assert image.std((2, 3)).mean() > 0.02
    assert (image.amax(1) - image.amin(1)).mean() < 0.35
