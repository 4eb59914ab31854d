"""Count the operations of drawing photos, and how often one of them makes a GPU's queue wait for the CPU.

    python scripts/count_operations.py [--batches 8 32 256] [--size 256] [--by file|function] [--top 12] [--cpu]

Counted are torch's own operations (views are free and not counted). A wait is one whose result the CPU must know before
it can go on: numbers of unknown count (``nonzero``, masks as indices), values read by Python, host memory copied over.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lvdreg.base import devices
from lvdreg.body import load_body
from lvdreg.synth.photos import PhotoStream

_WAITS = {
    "aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select", "aten::bincount", "aten::equal",
    "aten::_unique2", "aten::unique_dim", "aten::repeat_interleave.Tensor",
}  # fmt: skip
_FREE = {"aten::detach", "aten::alias", "aten::lift_fresh", "aten::empty", "aten::_to_copy_"}


class Counting(TorchDispatchMode):
    """Counts operations and waits, by the place in the package that asked for them."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by
        self.operations: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count one operation and run it."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.name() not in _FREE:
            place = self._place()
            self.operations[place] += 1
            self.names[func.name()] += 1
            # Whoever says how many there will be does not wait for their number.
            if self._waits(func.name(), args) and "output_size" not in (kwargs or {}):
                self.waits[place] += 1
        return result

    @staticmethod
    def _waits(name: str, args: Sequence[Any]) -> bool:
        if name in _WAITS:
            return True
        if name in ("aten::index.Tensor", "aten::index_put_", "aten::index_put"):
            return any(isinstance(x, Tensor) and x.dtype == torch.bool for x in args[1])
        return False

    def _place(self) -> str:
        frame = sys._getframe(2)
        while frame is not None:
            path = frame.f_code.co_filename
            if "lvdreg/" in path and "base/" not in path:
                stem = path.rsplit("lvdreg/", 1)[1]
                return stem if self.by == "file" else f"{stem}:{frame.f_code.co_name}"
            frame = frame.f_back
        return "elsewhere"


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--body", default="anny")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 256])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--by", choices=("file", "function"), default="file")
    parser.add_argument("--top", type=int, default=12)
    parser.add_argument("--cpu", action="store_true", help="count what a CPU is given instead of what a GPU is")
    given = parser.parse_args()
    if not given.cpu:
        # Whatever chooses between few large operations and many small ones asks this.
        devices.in_bulk = lambda device: True
    stream = PhotoStream(load_body(given.body), given.size)
    stream.photos(2, torch.Generator().manual_seed(1))
    for batch in given.batches:
        with Counting(given.by) as counter:
            stream.photos(batch, torch.Generator().manual_seed(0))
        total, waits = sum(counter.operations.values()), sum(counter.waits.values())
        print(f"{batch} photos: {total} operations, {waits} waits")
        for place, count in counter.operations.most_common(given.top):
            print(f"  {count:7d} {counter.waits[place]:5d}  {place}")
        others = {place: count for place, count in counter.waits.items() if count}
        print("  waits:", ", ".join(f"{count} {place}" for place, count in others.items()))


if __name__ == "__main__":
    main()
