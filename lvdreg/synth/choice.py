"""Random choices of one sample, where a batch has nothing in common: what a character wears, in plain numbers."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class RandomChoice:
    """Random numbers of one sample, used up one after another.

    Args:
        values: even draws from [0, 1), from the batch's generator (``Draw.uniform``).
    """

    def __init__(self, values: list[float]) -> None:
        self._values = iter(values)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw evenly from [low, high)."""
        return low + (high - low) * next(self._values)

    def chance(self, probability: float) -> bool:
        """Draw True with a probability."""
        return next(self._values) < probability

    def pick(self, options: Sequence[T]) -> T:
        """Draw one of some options."""
        return options[min(int(next(self._values) * len(options)), len(options) - 1)]

    def weighted(self, options: Mapping[T, float]) -> T:
        """Draw one of some options by their weights."""
        left = next(self._values) * sum(options.values())
        for option, weight in options.items():
            left -= weight
            if left < 0:
                return option
        return list(options)[-1]
