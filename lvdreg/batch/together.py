"""Inputs that are registered together, one after the other as a batch wants them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lvdreg.batch.one import Result


class Together:
    """Registers all inputs when it is first asked for one, and then gives out each one's result."""

    def __init__(self, register: Callable[..., Sequence[Result | Exception]]) -> None:
        """Take what registers all, such as ``lvdreg.register_photos``: it returns errors, not raises them."""
        self.register, self.__name__ = register, getattr(register, "__name__", "")
        self.found: dict[str, Result | Exception] = {}

    def __call__(self, source: Path, *, together: list[str], **options: Any) -> Result:
        """Return the result of one input.

        Args:
            source: The input.
            together: All of them: what each result depends on.
            options: For ``register``.

        Raises:
            Exception: what kept this input from being registered.
        """
        if not self.found:
            self.found = dict(zip(together, self._all(together, options), strict=True))
        found = self.found[str(source)]
        if isinstance(found, Exception):
            raise found
        return found

    def _all(self, together: list[str], options: dict[str, Any]) -> Sequence[Result | Exception]:
        from lvdreg.base.errors import UsageError

        try:
            return self.register(together, **options)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - said once for every input, and not tried again for each
            return [error] * len(together)
