"""The grid, its axes, and reading it: against brute force and one-hot volumes."""

import pytest
import torch
from torch import Tensor

from lvdreg.descent.boxes import unit_box
from lvdreg.voxel.encoder import VoxelEncoder
from lvdreg.voxel.grid import voxelise
from lvdreg.voxel.sampling import sample_volume


def cell_centre(index_xyz: tuple[int, int, int], resolution: int) -> Tensor:
    return -1 + (torch.tensor(index_xyz) + 0.5) * (2 / resolution)


def everything(points: Tensor) -> Tensor:
    return torch.ones(points.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("index", [(0, 0, 0), (1, 2, 3), (7, 0, 4), (3, 6, 7)])
def test_a_point_is_found_at_its_own_place_and_nowhere_else(index: tuple[int, int, int]) -> None:
    """No swapped axes and no half-voxel shift between writing a grid and reading it."""
    centre = cell_centre(index, 8)
    volume = voxelise(centre.view(1, 1, 3), everything(centre.view(1, 1, 3)), 8)
    assert volume[0, 0].sum() == 1
    assert volume[0, 0, index[2], index[1], index[0]] == 1
    assert sample_volume(volume, centre.view(1, 1, 3))[0, 0, 0] == pytest.approx(1)
    half_cell = torch.eye(3) * (1 / 8)
    read = sample_volume(volume, (centre - centre.sign() * half_cell)[None])[0, :, 0]
    assert read.tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_voxelise_equals_a_loop_over_points() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 300, 3, generator=generator) * 2.4 - 1.2
    valid = torch.rand(2, 300, generator=generator) < 0.8
    size = 6
    expected = torch.zeros(2, 4, size, size, size)
    for b in range(2):
        cells: dict[tuple[int, ...], list[Tensor]] = {}
        for p, ok in zip(points[b], valid[b], strict=True):
            cell = ((p + 1) * size / 2).floor().long()
            if ok and bool(((cell >= 0) & (cell < size)).all()):
                cells.setdefault(tuple(cell.tolist()), []).append(p)
        for (x, y, z), inside in cells.items():
            offset = (torch.stack(inside).mean(0) - cell_centre((x, y, z), size)) * size / 2
            expected[b, :, z, y, x] = torch.cat([torch.ones(1), offset])
    torch.testing.assert_close(voxelise(points, valid, size), expected, atol=1e-5, rtol=0)


def test_occupancy_does_not_depend_on_density() -> None:
    points = torch.rand(1, 50, 3) * 1.8 - 0.9
    dense = points.repeat(1, 7, 1)
    torch.testing.assert_close(
        voxelise(points, everything(points), 8), voxelise(dense, everything(dense), 8), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_sampling_equals_grid_sample(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    volume = torch.randn(2, 3, size, size, size, generator=generator)
    points = torch.rand(2, 40, 3, generator=generator) * 2.6 - 1.3
    expected = torch.nn.functional.grid_sample(
        volume, points[:, None, None], align_corners=False, padding_mode="border"
    )
    torch.testing.assert_close(sample_volume(volume, points), expected[:, :, 0, 0].mT, atol=1e-5, rtol=1e-5)


def test_sampling_gradient_equals_that_of_grid_sample() -> None:
    volume = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    points = torch.rand(1, 30, 3) * 2 - 1
    weight = torch.randn(1, 30, 2)
    (ours,) = torch.autograd.grad((sample_volume(volume, points) * weight).sum(), volume)
    theirs = torch.nn.functional.grid_sample(volume, points[:, None, None], align_corners=False, padding_mode="border")
    (expected,) = torch.autograd.grad((theirs[:, :, 0, 0].mT * weight).sum(), volume)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_unit_box_ignores_invalid_points_and_undoes_scale_and_shift() -> None:
    points = torch.randn(1, 100, 3)
    valid = torch.ones(1, 100, dtype=torch.bool)
    points[0, 7], valid[0, 7] = 50.0, False
    scale, centre = unit_box(points, valid)
    moved_scale, moved_centre = unit_box(points * 3 + 5, valid)
    box = scale[:, None, None] * (points - centre[:, None])
    assert box[0, valid[0]].abs().max() == pytest.approx(0.9, abs=1e-5)
    again = moved_scale[:, None, None] * (points * 3 + 5 - moved_centre[:, None])
    torch.testing.assert_close(box[valid], again[valid], atol=1e-5, rtol=1e-4)


def test_every_weight_of_the_encoder_is_used() -> None:
    # Where one cell is left, all of a wide kernel but its middle would lie outside of the volume and never be trained.
    torch.manual_seed(0)
    encoder = VoxelEncoder((8, 16, 16, 24), 16)
    volumes = encoder(torch.randn(2, 4, 16, 16, 16)).volumes
    assert [volume.shape[-1] for volume in volumes] == [16, 8, 4, 2, 1]
    sum(volume.square().sum() for volume in volumes[1:]).backward()
    assert all(bool((p.grad != 0).any(0).all()) for n, p in encoder.named_parameters() if n.endswith("weight"))


@torch.no_grad()
def test_a_volume_alone_is_encoded_as_torch_convolves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With strides and without, from many cells a side to one."""
    torch.manual_seed(0)
    volume, inner = torch.randn(1, 4, 16, 16, 16), VoxelEncoder([5, 6, 7, 8], 16)
    quick = inner(volume).volumes
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    for level, expected in zip(quick, inner(volume).volumes, strict=True):
        torch.testing.assert_close(level, expected, atol=1e-5, rtol=1e-4)


def test_encoder_keeps_every_level_and_scans_of_a_batch_apart() -> None:
    torch.manual_seed(0)
    encoder = VoxelEncoder((8, 16, 16), 16).eval()
    points = torch.rand(3, 200, 3) * 1.8 - 0.9
    volume = voxelise(points, everything(points), 16)
    queries = torch.rand(3, 11, 3)
    together = encoder(volume)(queries)
    assert together.shape == (3, 11, encoder.num_features)
    alone = encoder(volume[1:2])(queries[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)
