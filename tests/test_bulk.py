"""Drawing in bulk, as GPUs want it, shows what drawing one by one shows; and how much is asked of them hardly grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from lvdreg.base import devices
from lvdreg.body import BodyModel
from lvdreg.geometry.raster import Grid, look
from lvdreg.synth.camera import degrade
from lvdreg.synth.camera.raster import place
from lvdreg.synth.camera.view import framing, look_at
from lvdreg.synth.characters import Characters
from lvdreg.synth.draw import Draw
from lvdreg.synth.paint.numbers import Mixed, Table, blend, entry, shade, structure, together
from lvdreg.synth.photos import PhotoStream
from lvdreg.synth.subjects import Pixels, Subjects

BATCH = 6


@pytest.fixture
def bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine be treated as a GPU."""
    monkeypatch.setattr(devices, "in_bulk", lambda device: True)


@pytest.fixture(scope="module")
def people(body: BodyModel) -> Subjects:
    return Characters(body).draw(BATCH, torch.Generator().manual_seed(0))


def seen(people: Subjects, size: int = 96) -> tuple[Any, ...]:
    """All that is seen of people from the front and a little above."""
    middle, one = people.outer.vertices.mean(1), torch.ones(BATCH)
    cameras = look_at(middle, 0.3 * one, 0.2 * one, 0 * one, one, 0.3 * one, size)
    cameras = framing(people.outer.vertices, cameras, size, 0.9 * one)
    found = look(place(people.outer, cameras), Grid(size))
    return tuple(getattr(found, name) for name in found.__dataclass_fields__)


def test_pixels_see_the_same_faces(people: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = seen(people)
    monkeypatch.setattr(devices, "in_bulk", lambda device: True)
    for first, second in zip(one_by_one, seen(people), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_everything_is_painted_as_it_is_one_by_one(people: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, keep = torch.Generator().manual_seed(1), people.outer.face_keep
    sample, face = (torch.randint(most, (9000,), generator=generator) for most in keep.shape)
    shown = keep[sample, face]
    bary = torch.rand(9000, 3, generator=generator)[shown]
    pixels = Pixels(sample[shown], people.outer.faces[face[shown]], bary / bary.sum(1, keepdim=True))
    expected = people.texture(pixels)
    monkeypatch.setattr(devices, "in_bulk", lambda device: True)
    found = people.texture(pixels)
    # A pixel on a border may fall on its other side: numbers are rounded to single precision before they are compared.
    off = (found.albedo - expected.albedo).abs().amax(1) > 1e-4
    assert off.float().mean() < 1e-3
    torch.testing.assert_close(found.gloss[~off], expected.gloss[~off], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.relief[~off], expected.relief[~off], atol=1e-6, rtol=0)
    assert expected.albedo.std(0).min() > 0.05  # there is something to see


class Counted(TorchDispatchMode):
    """Counts operations, and those whose result the CPU must wait for."""

    WAITS = ("aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select", "aten::bincount", "aten::equal")

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.waits = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        masked = func.name() == "aten::index.Tensor" and any(x is not None and x.dtype == torch.bool for x in args[1])
        self.operations += not func.is_view
        self.waits += masked or func.name() in self.WAITS
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.usefixtures("bulk")
def test_more_photos_take_hardly_more_operations_and_no_more_waits(body: BodyModel) -> None:
    stream, counts = PhotoStream(body, 32), []
    stream.photos(2, torch.Generator().manual_seed(1))  # what is built once
    for batch in (8, 32):
        with Counted() as counted:
            stream.photos(batch, torch.Generator().manual_seed(0))
        counts.append(counted)
    few, many = counts
    assert many.waits == few.waits < 25
    assert many.operations < 1.6 * few.operations


@dataclass(frozen=True)
class Paint(Mixed):
    """Something with numbers, colours, a name and a table."""

    name: str
    size: Any
    colour: Any
    spots: tuple[Any, ...]
    table: Any


def test_numbers_of_many_are_those_of_each() -> None:
    def paint(size: float, name: str = "a") -> Any:
        grey = (size, 2 * size, 3 * size)
        thing = Paint(name, size, grey, ((size, 0.0, 1.0), (1.0, 1.0, size)), torch.arange(4) * size)
        return partial(max, thing=thing, where=(size, -size), on=True, edge=partial(min, low=size), nothing=None)

    first, second = paint(1.0), paint(2.5)
    assert structure(first) == structure(second) != structure(paint(1.0, "b"))
    which = torch.tensor([1, 0, 1])
    many = together([first, second], which).keywords
    sizes = torch.tensor([2.5, 1.0, 2.5])
    assert torch.equal(many["thing"].size, sizes) and torch.equal(many["where"][1], -sizes)
    assert torch.equal(many["thing"].colour, sizes[:, None] * torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(many["thing"].spots[1][:, 2], sizes) and many["thing"].name == "a"
    assert many["on"] is True and many["nothing"] is None and torch.equal(many["edge"].keywords["low"], sizes)
    assert isinstance(many["thing"].table, Table)
    assert torch.equal(entry(many["thing"].table, torch.tensor([3, 2, 0])), torch.tensor([7.5, 2.0, 0.0]))
    colours, numbers = many["thing"].colour, 0.3 * sizes
    for function in (shade, partial(blend, (0.1, 0.2, 0.3))):
        each = [function((r, g, b), n) for (r, g, b), n in zip(colours.tolist(), numbers.tolist(), strict=True)]
        torch.testing.assert_close(function(colours, numbers), torch.tensor(each))


def test_clouds_are_sums_of_interpolated_grids() -> None:
    cells = (3, 7, 20)
    draw, expected = Draw(3, torch.Generator().manual_seed(2)), torch.zeros(3, 1, 40, 40)
    for count in cells:
        grid = draw.normal((1, count, count)) * (cells[0] / count) ** 0.5
        expected += functional.interpolate(grid, (40, 40), mode="bicubic", align_corners=False) / 2
    found = degrade.clouds(40, Draw(3, torch.Generator().manual_seed(2)), cells)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_strays_lie_beside_people() -> None:
    mask = torch.zeros(2, 1, 64, 64)
    mask[:, :, 24:40, 24:40] = 1
    sigma = torch.tensor([[0.5], [2.5]])
    exact = degrade.blurred(mask, sigma + 3, 5.5) > 0.02
    found = degrade._beside(mask, sigma) > 0
    assert bool(found[mask > 0].all())
    assert (found != exact).float().mean() < 0.06 and not bool(found[:, :, :8].any())
    assert found[1].sum() > found[0].sum()
