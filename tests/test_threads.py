"""Results do not depend on how many threads torch may use, and its number of threads is left alone."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from lvdreg.base.threads import one_torch_thread, side_by_side
from lvdreg.descent.descend import DescentConfig, descend, steps_at
from lvdreg.field import FieldConfig, VertexField
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.network import ImageNet, ImageNetConfig
from lvdreg.voxel.hand_detector import HandDetectorConfig, HandDetectorNet, HandDetectorNetConfig
from lvdreg.voxel.network import VoxelConfig, VoxelNet, VoxelNetConfig


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def of_a_new_thread(what: Callable[[], int]) -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(what()))
    thread.start()
    thread.join()
    return found[0]


def test_the_number_of_threads_is_left_alone() -> None:
    torch.set_num_threads(3)
    with pytest.raises(ZeroDivisionError), one_torch_thread():
        assert torch.get_num_threads() == 1
        assert of_a_new_thread(torch.get_num_threads) == 3, "threads of others have what they would have"
        with one_torch_thread():
            pass
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == of_a_new_thread(torch.get_num_threads) == 3


def test_pieces_are_done_at_once_by_as_many_threads_as_torch_had_each_with_one() -> None:
    torch.set_num_threads(3)
    together = threading.Barrier(3, timeout=20)

    def piece(number: int) -> tuple[int, int, bool]:
        together.wait()
        return number, torch.get_num_threads(), torch.is_grad_enabled()

    with one_torch_thread(), torch.no_grad():
        assert side_by_side(piece, range(6)) == [(i, 1, False) for i in range(6)]
    assert torch.get_num_threads() == of_a_new_thread(torch.get_num_threads) == 3


def test_pieces_of_pieces_and_errors_come_back() -> None:
    torch.set_num_threads(2)

    def inner(number: int) -> int:
        return 10 // number

    with one_torch_thread():
        assert side_by_side(lambda i: sum(side_by_side(inner, [i, 1])), [1, 2, 5]) == [20, 15, 12]
        with pytest.raises(ZeroDivisionError):
            side_by_side(inner, [1, 0, 2])
    assert side_by_side(inner, [1, 2]) == [10, 5], "without the promise one after the other"


def with_threads(compute: Callable[[], list[Tensor]]) -> None:
    """Ask for the same bits from one, two and three threads."""
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        with torch.no_grad(), one_torch_thread():
            results.append(compute())
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def random_weights(net: torch.nn.Module) -> None:
    """Give every weight a value, those too that begin at zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            size = parameter.shape[-1] if parameter.ndim == 2 else parameter[0].numel()
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(size, 1) ** 0.5)


def test_features_and_descents_are_the_same() -> None:
    """The last stage reads one cell of many channels, whose sum oneDNN shares among its threads."""
    torch.manual_seed(0)
    config = VoxelNetConfig(voxel=VoxelConfig(8, 500, (24, 96, 256)), field=FieldConfig(hidden=192, rank=16))
    net = VoxelNet(config, torch.randn(1200, 16))
    random_weights(net)
    points, valid = torch.rand(3, 500, 3) * 2 - 1, torch.ones(3, 500, dtype=torch.bool)

    def compute() -> list[Tensor]:
        features = net.features(points, valid)
        found = descend(net.field, features, 3, DescentConfig(max_steps=3))
        return [*features.volumes, found.vertices, found.step_lengths]

    with_threads(compute)
    with torch.no_grad():
        alone = [net.features(points[i : i + 1], valid[i : i + 1]).volumes for i in range(3)]
        together = net.features(points, valid).volumes
    for level, volume in enumerate(together):
        assert torch.equal(volume, torch.cat([volumes[level] for volumes in alone])), "however many are asked about"


def test_hand_detections_are_the_same() -> None:
    from lvdreg.descent.hand_boxes import find_hand
    from lvdreg.descent.scan import ViewConfig

    net = HandDetectorNet(HandDetectorNetConfig(detector=HandDetectorConfig(8, 300, (16, 64, 160), 64)))
    random_weights(net)
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(1)).double().numpy() * [1, 2, 0.3]

    def compute() -> list[Tensor]:
        boxes = find_hand(net, points, "auto", ViewConfig())
        return [torch.from_numpy(box.T_unit_scan) for box in boxes] + [torch.tensor([b.probability for b in boxes])]

    with_threads(compute)


def test_features_of_photos_are_the_same() -> None:
    """Group norms and 1 x 1 convolutions are what torch and oneDNN share among threads there."""
    torch.manual_seed(0)
    image = ImageConfig(size=256, stem=32, stacks=1, channels=(64, 96), inputs=("rgb", "mask"))
    net = ImageNet(ImageNetConfig(image=image, field=FieldConfig(hidden=64, rank=16)), torch.randn(100, 16))
    random_weights(net)
    rgb, mask = torch.rand(1, 3, 256, 256), torch.ones(1, 1, 256, 256)
    with_threads(lambda: list(net.features(rgb, mask).maps))


def test_steps_in_pieces_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    field = VertexField(5, torch.randn(2500, 8), 32, 2)
    random_weights(field)
    weights, x = torch.randn(3, 5), torch.randn(2, 2500, 3)

    def features(points: Tensor) -> Tensor:
        return points @ weights

    with torch.no_grad():
        torch.testing.assert_close(steps_at(field, features, x), field(features(x), x), atol=1e-5, rtol=1e-5)
        some = torch.randperm(2500)[:1700]
        expected = field(features(x[:, some]), x[:, some], some)
        torch.testing.assert_close(steps_at(field, features, x[:, some], some), expected, atol=1e-5, rtol=1e-5)
