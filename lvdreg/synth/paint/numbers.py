"""Numbers to paint with: of one garment, or of many garments at once, every pixel with those of its own.

What paints (``paint_cloth(at, fabric=...)``, ``belt(canvas, waist=..., colour=...)``) is given numbers and colours by
name. Of one garment these are plain. Of several that are painted alike, which differ in numbers only, they are tensors
with one value a pixel: the same functions then paint all of them in one pass, as GPUs want it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

ValueT = TypeVar("ValueT")
Rgb = tuple[float, float, float]
Number = float | Tensor
"""A number, or one for each pixel (P,)."""
Colour = Rgb | Tensor
"""Linear red, green, blue, or one such for each pixel (P, 3)."""


class Mixed:
    """Marks data classes whose numbers may differ between pixels; all others are the same for everybody."""


@dataclass(frozen=True)
class Table:
    """Rows of numbers, one of which each pixel reads."""

    rows: Float[Tensor, "N A"]
    which: Int[Tensor, " P"]


def entry(table: Tensor | Table, index: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Read a table (A,), or each pixel's own row of one."""
    return table.rows[table.which, index] if isinstance(table, Table) else table[index]


def rgb(like: Tensor, colour: Colour) -> Tensor:
    """Return a colour as a tensor: (3,), or (P, 3)."""
    return colour if isinstance(colour, Tensor) else like.new_tensor(colour)


def column(number: Number) -> Number:
    """Make a number of each pixel fit channels."""
    return number[:, None] if isinstance(number, Tensor) else number


def shade(colour: Colour, factor: Number) -> Any:
    """Return a lighter or darker colour."""
    if isinstance(colour, Tensor):
        return (colour * column(factor)).clamp(max=0.92)
    if isinstance(factor, Tensor):
        return (factor.new_tensor(colour) * factor[:, None]).clamp(max=0.92)
    r, g, b = (min(channel * factor, 0.92) for channel in colour)
    return r, g, b


def blend(a: Colour, b: Colour, share: Number) -> Any:
    """Return a mixture with a share of the second colour."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        like: Any = a if isinstance(a, Tensor) else b
        first = rgb(like, a)
        return first + column(share) * (rgb(first, b) - first)
    red, green, blue = (x + share * (y - x) for x, y in zip(a, b, strict=True))
    return red, green, blue


def some(number: Number) -> bool:
    """Tell whether a number is more than nothing, anywhere."""
    return isinstance(number, Tensor) or number > 0


def structure(value: Any) -> Any:
    """Return what must be equal of things that are painted together: all but their numbers."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, Tensor):
        return "table"
    if isinstance(value, tuple):
        return tuple(structure(part) for part in value)
    if isinstance(value, partial):
        return value.func, tuple((name, structure(part)) for name, part in sorted(value.keywords.items()))
    if isinstance(value, Mixed):
        return type(value), tuple(structure(part) for part in _parts(value))
    return value


def together(values: Sequence[ValueT], which: Int[Tensor, " P"]) -> ValueT:
    """Return one thing like some of the same structure, with the numbers of that which each pixel belongs to.

    Args:
        values: Partial calls, data classes, tuples of numbers.
        which: Which of them each pixel belongs to.
    """
    rows = [list(_numbers(value)) for value in values]
    table = torch.tensor(rows, dtype=torch.float32, device="cpu").T.to(which.device)
    columns = iter(table.index_select(1, which)) if rows[0] else iter(())
    return _rebuilt(list(values), columns, which)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (bool, str, Tensor)) or value is None:
        return
    if isinstance(value, (int, float)):
        yield float(value)
    for part in _parts(value):
        yield from _numbers(part)


def _parts(value: Any) -> Sequence[Any]:
    """Return what a thing holds, in an order of its own structure."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, partial):
        return [part for _, part in sorted(value.keywords.items())]
    return [getattr(value, name) for name in _names(value)] if isinstance(value, Mixed) else ()


def _names(value: Any) -> list[str]:
    return [item.name for item in fields(value)]


def _rebuilt(values: list[Any], columns: Iterator[Tensor], which: Tensor) -> Any:
    first: Any = values[0]
    if isinstance(first, (bool, str)) or first is None:
        return first
    if isinstance(first, Tensor):
        return Table(torch.stack(values), which)
    if isinstance(first, (int, float)):
        return next(columns)
    parts = [_rebuilt(list(part), columns, which) for part in zip(*(_parts(value) for value in values), strict=True)]
    if isinstance(first, tuple):
        is_colour = len(first) == 3 and all(structure(part) == "number" for part in first)
        return torch.stack(parts, 1) if is_colour else tuple(parts)
    if isinstance(first, partial):
        return partial(first.func, **dict(zip(sorted(first.keywords), parts, strict=True)))
    changed: Any = first
    return replace(changed, **dict(zip(_names(first), parts, strict=True))) if isinstance(first, Mixed) else first
