"""Paints many garments, heads and whatever else at once: those that differ in numbers only, in one pass.

A garment is a cloth and details on it, painted one after the other. Of many garments the cloths of one pattern are
painted together; then, as long as there are any left, the kind of detail that most garments have next.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lvdreg.synth.paint.canvas import Canvas, Ground
from lvdreg.synth.paint.fabric import Fabric
from lvdreg.synth.paint.garments import Detail, Garment
from lvdreg.synth.paint.numbers import structure, together


@dataclass(frozen=True)
class Coat:
    """What is painted on some pixels.

    Attributes:
        ground: Makes a canvas of the pixels.
        details: Painted on it, in this order.
    """

    ground: Callable[[Ground], Canvas]
    details: tuple[Detail, ...] = ()

    def paint(self, at: Ground) -> Canvas:
        """Paint it on the pixels of one sample."""
        canvas = self.ground(at)
        for detail in self.details:
            detail(canvas)
        return canvas


def paint_together(coats: Sequence[Coat], number: Int[Tensor, " P"], at: Ground) -> Canvas:
    """Paint coats, each on its pixels.

    Args:
        coats: What is painted; those without pixels cost nothing.
        number: Which of them each pixel has.
        at: Where the pixels lie.
    """
    grounds = [_padded(coat.ground) for coat in coats]
    kinds = [structure(ground) for ground in grounds]
    ranks: dict[Any, int] = {}
    for kind in kinds:
        ranks.setdefault(kind, len(ranks))
    # Sorted by what is painted alike, then by coat: whoever is painted together lies together.
    order = sorted(range(len(coats)), key=lambda coat: (ranks[kinds[coat]], coat))
    place = torch.empty(len(coats), dtype=torch.int64, device="cpu")
    place[torch.tensor(order, device="cpu")] = torch.arange(len(coats), device="cpu")
    placed = place.to(number.device)[number]
    # The only time that anybody waits: how many pixels each coat has.
    found = torch.zeros(len(coats), dtype=torch.int64, device=number.device)
    counts: list[int] = found.scatter_add_(0, placed, torch.ones_like(placed)).tolist()
    rows = placed.argsort(stable=True)
    canvas = _Sorted([coats[coat] for coat in order], counts, at.take(rows))
    canvas.ground([grounds[coat] for coat in order], [ranks[kinds[coat]] for coat in order])
    canvas.details()
    back = torch.empty_like(rows).scatter_(0, rows, torch.arange(len(rows), device=rows.device))
    albedo, gloss, relief = (x.index_select(0, back) for x in (canvas.albedo, canvas.gloss, canvas.relief))
    return Canvas(at, albedo, gloss, relief)


class _Sorted:
    """The pixels of coats, one coat after the other, and their material so far."""

    def __init__(self, coats: Sequence[Coat], counts: Sequence[int], at: Ground) -> None:
        self.coats, self.counts, self.at = coats, counts, at
        self.starts = [0]
        for count in counts:
            self.starts.append(self.starts[-1] + count)
        x = at["x"]
        self.albedo, self.gloss, self.relief = x.new_zeros(len(x), 3), torch.zeros_like(x), torch.zeros_like(x)

    def _rows(self, coats: Sequence[int]) -> tuple[Int[Tensor, " Q"], Int[Tensor, " Q"]]:
        """Return the pixels of some coats, and which of these each belongs to; nobody has to wait for their number."""
        device = self.albedo.device
        ahead: list[int] = []
        counts, total = [self.counts[coat] for coat in coats], 0
        for coat, count in zip(coats, counts, strict=True):
            ahead.append(self.starts[coat] - total)
            total += count
        known = torch.tensor([counts, ahead], device="cpu").to(device)
        which = torch.arange(len(coats), device=device).repeat_interleave(known[0], output_size=total)
        return torch.arange(len(which), device=device) + known[1][which], which

    def ground(self, grounds: Sequence[Callable[[Ground], Canvas]], ranks: Sequence[int]) -> None:
        """Paint what lies below all details."""
        alike: dict[int, list[int]] = defaultdict(list)
        for coat, rank in enumerate(ranks):
            if self.counts[coat]:
                alike[rank].append(coat)
        for coats in alike.values():
            rows, which = self._rows(coats)
            self._keep(rows, together([grounds[coat] for coat in coats], which)(self.at.take(rows)))

    def details(self) -> None:
        """Paint details, each time those that most coats have next."""
        left = {coat: [_padded(d) for d in self.coats[coat].details] for coat, n in enumerate(self.counts) if n}
        following: dict[Any, list[int]] = defaultdict(list)
        for coat, details in left.items():
            if details:
                following[structure(details[0])].append(coat)
        while following:
            kind = max(following, key=lambda one: len(following[one]))
            coats = following.pop(kind)
            rows, which = self._rows(coats)
            albedo, gloss, relief = (x.index_select(0, rows) for x in (self.albedo, self.gloss, self.relief))
            canvas = Canvas(self.at.take(rows), albedo, gloss, relief)
            together([left[coat].pop(0) for coat in coats], which)(canvas)
            self._keep(rows, canvas)
            for coat in coats:
                if left[coat]:
                    following[structure(left[coat][0])].append(coat)

    def _keep(self, rows: Int[Tensor, " Q"], canvas: Canvas) -> None:
        self.albedo.index_copy_(0, rows, canvas.albedo.contiguous())
        self.gloss.index_copy_(0, rows, canvas.gloss)
        self.relief.index_copy_(0, rows, canvas.relief)


def _padded(call: Any) -> Any:
    """Return a call whose cloths have equally many colours."""
    if not isinstance(call, partial):
        return call
    changed: dict[str, Any] = {}
    for name, value in call.keywords.items():
        if isinstance(value, Fabric):
            changed[name] = value.padded()
        if isinstance(value, Garment):
            changed[name] = replace(value, fabric=value.fabric.padded())
    return partial(call.func, **(call.keywords | changed))
