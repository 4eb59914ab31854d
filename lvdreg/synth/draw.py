"""Random draws for a batch of synthetic samples, one row per sample, from one seeded generator."""

import torch
from torch import Tensor


class Draw:
    """Draws of shape (B, ...) from one generator, on that generator's device.

    Args:
        batch: number of samples B.
        generator: the only source of randomness; equal generators give equal samples.
    """

    def __init__(self, batch: int, generator: torch.Generator) -> None:
        self.batch = batch
        self.generator = generator
        self.device = generator.device

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = (1,)) -> Tensor:
        """Draw evenly from [low, high); shape (B, *shape)."""
        u = torch.rand((self.batch, *shape), generator=self.generator, device=self.device)
        return low + (high - low) * u

    def normal(self, shape: tuple[int, ...] = (1,)) -> Tensor:
        """Draw standard normal numbers; shape (B, *shape)."""
        return torch.randn((self.batch, *shape), generator=self.generator, device=self.device)

    def chance(self, probability: float, shape: tuple[int, ...] = (1,)) -> Tensor:
        """Draw True with a probability; bool of shape (B, *shape)."""
        return self.uniform(shape=shape) < probability

    def choice(self, probabilities: tuple[float, ...]) -> Tensor:
        """Draw an index per sample with the given (unnormalised) probabilities; int64 of shape (B,)."""
        p = torch.tensor(probabilities, dtype=torch.float32, device=self.device).expand(self.batch, -1)
        return torch.multinomial(p, 1, generator=self.generator)[:, 0]

    def choice_by(self, probabilities: list[list[float]], row: Tensor | None = None) -> Tensor:
        """Draw as ``choice``, each sample by the probabilities in its own row of a table; all by the first if None."""
        if row is None:
            return self.choice(tuple(probabilities[0]))
        p = torch.tensor(probabilities, dtype=torch.float32, device=self.device)[row]
        return torch.multinomial(p, 1, generator=self.generator)[:, 0]
