"""The image network: where a point is read, what the encoder keeps, what is seen, and weights on disk."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lvdreg.base.errors import CheckpointError
from lvdreg.descent.checkpoint import load_network, save_network
from lvdreg.descent.weights import image_weights
from lvdreg.field import FieldConfig
from lvdreg.image.encoder import PAPER_IMAGE, Hourglass, ImageConfig, ImageEncoder, ImageFeatures, Residual
from lvdreg.image.inputs import assemble, edges, heat_maps, num_inputs
from lvdreg.image.layers import ChannelNorm
from lvdreg.image.network import ImageNet, ImageNetConfig
from lvdreg.image.sampling import sample_map

SMALL = ImageConfig(size=32, inputs=("rgb", "mask"), keypoints=(), stem=8, stacks=2, stride=4, channels=(8, 16, 24))
NET = ImageNetConfig("anny", SMALL, FieldConfig(hidden=32, layers=2, rank=8))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed))


@pytest.fixture
def net() -> ImageNet:
    """A small network whose every weight is at work."""
    torch.manual_seed(0)
    net = ImageNet(NET, torch.randn(50, 8))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


# ---- sampling.py


def test_a_pixel_is_read_where_it_lies() -> None:
    """One-hot maps: column to the right, row downwards, half a pixel to the centre."""
    for column, row in [(0, 0), (7, 0), (0, 5), (3, 2), (6, 5)]:
        one_hot = torch.zeros(1, 1, 6, 8)
        one_hot[0, 0, row, column] = 1.0
        centre = torch.tensor([(column + 0.5) / 4 - 1, 1 - (row + 0.5) / 3, 0.37])
        assert sample_map(one_hot, centre.view(1, 1, 3)).item() == pytest.approx(1)
        half_right = centre + torch.tensor([0.125 if column < 7 else -0.125, 0.0, -2.0])
        assert sample_map(one_hot, half_right.view(1, 1, 3)).item() == pytest.approx(0.5)
        half_down = centre + torch.tensor([0.0, -1 / 6 if row < 5 else 1 / 6, 0.0])
        assert sample_map(one_hot, half_down.view(1, 1, 3)).item() == pytest.approx(0.5)


def test_up_and_right_are_up_and_right() -> None:
    brightness = torch.zeros(1, 2, 64, 64)
    brightness[0, 0, :, 32:] = 1  # right half
    brightness[0, 1, :32] = 1  # upper half
    points = torch.tensor([[[0.5, 0.5, 0.0], [-0.5, 0.5, 0.0], [-0.5, -0.5, 0.0], [0.5, -0.5, 0.0]]])
    assert sample_map(brightness, points)[0].tolist() == [[1, 1], [0, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize("shape", [(2, 5, 9, 9), (3, 4, 6, 11), (1, 2, 1, 1), (2, 3, 1, 4)])
def test_reading_is_grid_sample(shape: tuple[int, int, int, int]) -> None:
    features = torch.randn(shape, generator=seeded(), dtype=torch.float64)
    points = torch.randn(shape[0], 40, 3, generator=seeded(1))  # some beyond the border
    grid = (points * torch.tensor([1.0, -1.0, 1.0]))[:, :, None, :2].double()
    options = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}
    expected = torch.nn.functional.grid_sample(features, grid, **options)[..., 0].mT
    torch.testing.assert_close(sample_map(features, points), expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_four_pixels_around() -> None:
    features = torch.zeros(2, 3, 8, 8, requires_grad=True)
    read = sample_map(features, torch.tensor([[[0.0, 0.25, 0.0]], [[0.99, 0.99, 0.0]]]))
    read.sum().backward()
    assert features.grad is not None
    weight = features.grad[:, 0]
    assert weight.sum(dim=(1, 2)).tolist() == pytest.approx([1, 1])
    assert weight[0].nonzero().tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
    assert weight[1].nonzero().tolist() == [[0, 7]]


# ---- encoder.py


def test_a_unit_begins_as_nothing_and_learns() -> None:
    unit = Residual(16, 16)
    x = rand(2, 16, 12, 12)
    assert torch.equal(unit(x), x)
    unit(x).square().sum().backward()
    grad = unit.convs[2].weight.grad
    assert isinstance(grad, Tensor) and grad.abs().max() > 0


def test_an_hourglass_keeps_every_level() -> None:
    levels: list[Tensor] = []
    out = Hourglass((8, 16, 24, 32))(rand(2, 8, 16, 16), levels)
    assert out.shape == (2, 8, 16, 16)
    assert [tuple(level.shape) for level in levels] == [(2, 32, 2, 2), (2, 24, 4, 4), (2, 16, 8, 8)]


@pytest.mark.parametrize("pyramid", [True, False])
def test_features_of_every_stack_and_the_levels_of_the_last(pyramid: bool) -> None:
    config = replace(SMALL, pyramid=pyramid, stacks=3)
    encoder = ImageEncoder(config, 4)
    maps = encoder(rand(2, 4, 32, 32)).maps
    expected = [(2, 8, 8, 8)] * 3 + ([(2, 24, 2, 2), (2, 16, 4, 4)] if pyramid else [])
    assert [tuple(m.shape) for m in maps] == expected
    assert encoder.num_features == sum(m.shape[1] for m in maps)


def test_the_size_of_the_paper_can_be_built() -> None:
    """Four stacks, each of 128 x 128 x 256 features, group norm: 1024 features and the point, as in the supplement."""
    net = ImageNet(ImageNetConfig("anny", PAPER_IMAGE), torch.zeros(50, 96))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        maps = net.features(torch.rand(1, 3, 256, 256), torch.ones(1, 1, 256, 256)).maps
    assert [tuple(m.shape) for m in maps] == [(1, 256, 128, 128)] * 4
    assert net.field.entry.in_features == 1024 + 3
    kinds = {type(module) for module in net.encoder.modules()}
    assert ChannelNorm in kinds and torch.nn.BatchNorm2d not in kinds


def test_the_default_fits_the_budget() -> None:
    net = ImageNet(ImageNetConfig(), torch.zeros(6999, ImageNetConfig().field.rank))
    with torch.no_grad():
        maps = net.features(torch.rand(1, 3, 256, 256), torch.ones(1, 1, 256, 256)).maps
    assert 2 * sum(p.numel() for p in net.parameters()) <= 8_000_000
    assert maps[0].shape[-1] == 64 and maps[2].shape[-1] == 4 and len(maps) == 6


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    for wrong in ({"size": 250}, {"stride": 3}, {"stride": 1}, {"channels": (64,)}):
        with pytest.raises(ValueError, match="size: expected a multiple"):
            replace(ImageConfig(), **wrong)


def test_each_photo_is_encoded_by_itself(net: ImageNet) -> None:
    image, mask, points = rand(3, 3, 32, 32), rand(3, 1, 32, 32, seed=1), rand(3, 20, 3, seed=2) * 2 - 1
    together = net.features(image, mask)
    for i in range(3):
        alone = net.features(image[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(together.only(i)(points[i : i + 1]), alone(points[i : i + 1]), atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(together(points)[i : i + 1], alone(points[i : i + 1]), atol=2e-4, rtol=1e-4)


def test_the_whole_photo_is_seen_from_everywhere(net: ImageNet) -> None:
    image, mask = rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    other = image.clone()
    other[..., :2, :2] = 1 - other[..., :2, :2]
    far = torch.tensor([[[0.9, -0.9, 0.0]]])
    assert (net.features(image, mask)(far) - net.features(other, mask)(far)).abs().max() > 1e-4


def test_features_read_every_map_in_order() -> None:
    maps = [torch.full((2, c, s, s), float(c)) for c, s in ((2, 8), (3, 4))]
    read = ImageFeatures(maps)(rand(2, 5, 3))
    assert read.shape == (2, 5, 5) and read[0, 0].tolist() == [2, 2, 3, 3, 3]


# ---- inputs.py


def test_nothing_of_the_surroundings_is_seen(net: ImageNet) -> None:
    image, mask = rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 10:20] = 1
    elsewhere = torch.where(mask > 0, image, rand(1, 3, 32, 32, seed=5))
    points = rand(1, 30, 3) * 2 - 1
    assert torch.equal(net.features(image, mask)(points), net.features(elsewhere, mask)(points))
    seen = assemble(image, mask, None, SMALL)
    assert seen.shape == (1, 4, 32, 32)
    torch.testing.assert_close(seen[:, :3, 8:24, 10:20], 2 * image[..., 8:24, 10:20] - 1)


def test_edges_are_the_length_of_the_gradient() -> None:
    columns = torch.arange(8.0).expand(1, 3, 6, 8)
    assert (edges(0.1 * columns)[0, 0, 1:-1, 1:-1] - 0.1).abs().max() < 1e-6
    assert edges(columns.mT)[0, 0, 1:-1, 1:-1].unique().tolist() == [1.0]
    assert edges(torch.ones(1, 3, 6, 8)).abs().max() == 0 and edges(columns).shape == (1, 1, 6, 8)


def test_heat_maps_stand_where_the_keypoints_are() -> None:
    keypoints = torch.tensor([[[0.5, 0.75, 1.0], [-0.25, -0.5, 0.4], [0.0, 0.0, 0.0]]])
    maps = heat_maps(keypoints, 64)
    assert maps.shape == (1, 3, 64, 64) and maps[0, 2].max() == 0
    for index in range(2):
        at = (maps[0, index] ** 2).argmax().item()
        row, column = divmod(at, 64)
        place = torch.tensor([(column + 0.5) / 32 - 1, 1 - (row + 0.5) / 32])
        assert (place - keypoints[0, index, :2]).abs().max() <= 1 / 64 + 1e-6
        assert maps[0, index].max().item() == pytest.approx(keypoints[0, index, 2].item(), rel=0.3)
        read = sample_map(maps, keypoints)[0, index, index].item()
        assert read == pytest.approx(keypoints[0, index, 2].item(), rel=0.3)


def test_more_inputs_by_configuration() -> None:
    config = replace(SMALL, inputs=("mask", "edges", "keypoints", "rgb"), keypoints=("nose", "left_knee"))
    assert num_inputs(config) == 7
    image, mask = rand(2, 3, 32, 32), rand(2, 1, 32, 32)
    keypoints = torch.tensor([[[0.1, 0.2, 1.0], [0.0, -0.5, 1.0]]] * 2)
    seen = assemble(image, mask, keypoints, config)
    assert torch.equal(seen[:, :1], mask) and torch.equal(seen[:, 2:4], heat_maps(keypoints, 32))
    assert assemble(image, mask, None, config)[:, 2:4].abs().max() == 0
    net = ImageNet(replace(NET, image=config), torch.randn(50, 8))
    assert net.features(image, mask, keypoints)(rand(2, 4, 3)).shape == (2, 4, net.encoder.num_features)
    for wrong in (("rgb", "depth"), ()):
        with pytest.raises(ValueError, match="expected some of rgb, mask, edges, keypoints"):
            num_inputs(replace(SMALL, inputs=wrong))


# ---- network.py and weights on disk


def test_the_field_sees_depth(net: ImageNet) -> None:
    features = net.features(rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32))
    near, far = torch.tensor([[[0.2, 0.1, 0.4]]]), torch.tensor([[[0.2, 0.1, -0.4]]])
    assert torch.equal(features(near), features(far))
    vertex = torch.tensor([7])
    assert (net.field(features(near), near, vertex) - net.field(features(far), far, vertex)).abs().max() > 1e-4


def test_half_precision_is_close_to_single(net: ImageNet) -> None:
    image, mask, points = rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32), rand(2, 50, 3) * 2 - 1
    with torch.no_grad():
        exact = net.features(image, mask)(points)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net.features(image, mask)(points)
    assert ((rough.float() - exact).norm() / exact.norm()).item() < 0.05


def test_weights_come_back_from_disk(net: ImageNet, tmp_path: Path) -> None:
    path = tmp_path / "image.safetensors"
    save_network(path, net, {"step": 3})
    again, meta = load_network(path)
    assert isinstance(again, ImageNet) and again.config == NET and meta["step"] == 3
    image, mask, points = rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32), rand(1, 50, 3)
    close = again.features(image, mask)(points)
    torch.testing.assert_close(close, net.features(image, mask)(points), atol=0.05, rtol=0.05)
    assert path.stat().st_size < 2.5 * sum(p.numel() for p in net.parameters()) + 20_000


def test_shipped_weights_are_found_by_body(net: ImageNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.descent.weights.assets_dir", lambda: tmp_path)
    tables = [{"spread": [0.01, 0.1], "sigma": sigma} for sigma in ([0.02, 0.2], [0.01, 0.1])]
    meta = {"calibration": tables[0], "calibration_depth": tables[1], "step": 9}
    save_network(tmp_path / "weights" / "image-anny.safetensors", net, meta)
    save_network(tmp_path / "weights" / "image-other.safetensors", net, meta)
    save_network(tmp_path / "weights" / "voxel-anny.safetensors", net, meta)
    trained = image_weights.__wrapped__("anny")
    assert trained.net.config == NET and trained.meta["step"] == 9
    asked = torch.tensor([0.001, 0.1])
    assert [table(asked).tolist() for table in trained.calibrations] == [
        pytest.approx([0.02, 0.2]),
        pytest.approx([0.01, 0.1]),
    ]
    save_network(tmp_path / "weights" / "image-anny.safetensors", net, {"calibration": tables[0]})
    with pytest.raises(CheckpointError, match="expected a calibration"):
        image_weights.__wrapped__("anny")
    with pytest.raises(CheckpointError, match="expected weights of other, got those of anny"):
        image_weights.__wrapped__("other")
    with pytest.raises(CheckpointError, match="missing"):
        image_weights.__wrapped__("nobody")


def test_the_features_of_the_default_are_not_all_alike() -> None:
    """A freshly built network tells places apart: nothing that is read is dead or exploded."""
    torch.manual_seed(1)
    encoder = ImageEncoder(SMALL, 4)
    read = encoder(rand(2, 4, 32, 32) - 0.5)(rand(2, 200, 3) * 2 - 1).detach()
    spread = read.std(dim=(0, 1))
    assert (spread > 1e-3).float().mean() > 0.8 and read.abs().max() < 20 and math.isfinite(float(read.sum()))


def test_norms_are_group_norms_in_single_precision() -> None:
    x = 3 + torch.randn(2, 12, 6, 6, generator=seeded()).bfloat16()
    norm = ChannelNorm(12)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    assert norm.num_groups == 4 and norm(x).dtype == torch.bfloat16
    exact = torch.nn.functional.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double())
    torch.testing.assert_close(norm(x).double(), exact, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(norm(x.float()).double(), exact, atol=1e-5, rtol=1e-5)
