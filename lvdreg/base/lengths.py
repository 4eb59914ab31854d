"""What settings of every stage have in common: lengths that scale with what is registered."""

from dataclasses import field, fields, is_dataclass, replace
from typing import Any, TypeVar

HAND_SCALE = 0.19 / 1.75
"""A hand's length over a person's height: what suits a person's lengths times this suits a hand's."""


ConfigT = TypeVar("ConfigT")


def length_field(default: Any) -> Any:
    """Declare a setting that is a length, or a tuple of lengths: it is made for people, and ``scaled`` scales it."""
    return field(default=default, metadata={"is_length": True})


def scaled(config: ConfigT, factor: float) -> ConfigT:
    """Return settings for something ``factor`` times the size of a person: lengths are multiplied, nothing else is."""
    changes: dict[str, Any] = {}
    for item in fields(config):  # type: ignore[arg-type]
        value = getattr(config, item.name)
        if item.metadata.get("is_length"):
            changes[item.name] = tuple(factor * x for x in value) if isinstance(value, tuple) else factor * value
        elif is_dataclass(value):
            changes[item.name] = scaled(value, factor)
    return replace(config, **changes)  # type: ignore[type-var]
