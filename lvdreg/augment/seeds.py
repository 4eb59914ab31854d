"""Seeds that depend on what they are for and on nothing else: not on order, shards, processes or Python's hashes."""

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Seeds:
    """Seeds of one source.

    Attributes:
        seed: The dataset's.
        source: Name of the source.
        device: Where generators draw.
    """

    seed: int
    source: str
    device: str = "cpu"

    def number(self, *purpose: str | int) -> int:
        """Return the seed (63 bits) for a purpose."""
        words = "\x1f".join(map(str, (self.seed, self.source, *purpose)))
        return int.from_bytes(hashlib.sha256(words.encode("utf-8", "surrogateescape")).digest()[:8], "big") >> 1

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a fresh generator for a purpose."""
        return torch.Generator(self.device).manual_seed(self.number(*purpose))
