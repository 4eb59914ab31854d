"""What checks annotations while tests run: beartype, called for a function when that is first called.

Making the checks of a function takes some milliseconds; the package has thousands, of which one worker's tests call a
part, and functions within functions are made anew in each call.
"""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

CONFIG = BeartypeConf(is_pep484_tower=True)
"""A whole number passes for a float, as PEP 484 has it."""
MADE: dict[Any, Callable[..., Any]] = {}
"""Checks of functions within functions, by all that jaxtyping's stand-ins for them have."""


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that checks its arguments, and what jaxtyping hands it as the result, as annotated."""
    return function if isinstance(function, Checked) else Checked(function)


class Checked:
    """A function whose checks are made when they are first needed."""

    __slots__ = ("check", "function")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.check = function, self.first

    def first(self, *args: Any, **kwargs: Any) -> Any:
        """Make or find the checks, and check."""
        of = self.function
        key = (of.__module__, of.__qualname__, *of.__annotations__.items())
        if "<locals>" not in of.__qualname__:
            self.check = beartype(conf=CONFIG)(of)
        else:
            self.check = MADE[key] = MADE.get(key) or beartype(conf=CONFIG)(of)
        return self.check(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.check(*args, **kwargs)
