"""One input of many: registered, its result written, and what became of it told; wherever that happens."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.text import one_line
from lvdreg.batch.resume import look, run_key, settled_look, stamp
from lvdreg.batch.table import Outcome


@runtime_checkable
class Result(Protocol):
    """What registering gives: of a scan, of a person in a photo, or of everybody in it."""

    @property
    def verdict(self) -> str:
        """``good``, ``check`` or ``failed``."""
        ...

    @property
    def reason(self) -> str:
        """Why, in one line."""
        ...

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage."""
        ...

    @property
    def headline(self) -> dict[str, Any]:
        """Fields of an ``Outcome`` that are of this kind of result."""
        ...

    def save(self, folder: Path) -> list[Path]:
        """Write the result into a folder."""
        ...


@dataclass(frozen=True)
class Job:
    """An input that is to be registered.

    Attributes:
        number: In the batch, from 1.
        source: The input.
        folder: Where its result goes.
        common: ``resume.common_stamp`` of its options.
        own: Options that are this input's alone.
        tries: How many processes it has outlived.
    """

    number: int
    source: Path
    folder: Path
    common: str
    own: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 0

    @property
    def name(self) -> str:
        """What the table calls the input: its absolute path."""
        return str(self.source.absolute())

    def not_registered(self, reason: str, **about: Any) -> Outcome:
        """Return what became of it; where an earlier result lies, that stays and is named."""
        from lvdreg.result.files import read_report

        earlier = self.folder.name if read_report(self.folder) is not None else None
        return Outcome(self.name, earlier, None, one_line(reason), **about)


@dataclass(frozen=True)
class Work:
    """How inputs are registered; goes to other processes as it is.

    Attributes:
        register: Registers one.
        options: For it.
        progress: Hears which stage an input enters.
    """

    register: Callable[..., Result]
    options: dict[str, Any]
    progress: Callable[[str], None]

    @property
    def how(self) -> str:
        """What registers."""
        return getattr(self.register, "__name__", "")

    def options_of(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of one input."""
        return {**self.options, **own}

    def key(self, job: Job) -> str | None:
        """Return what the result of an input depends on, hashed; None if it cannot be read."""
        return run_key(job.source, self.how, self.options_of(job.own))

    def __call__(self, job: Job) -> Outcome:
        """Register an input and write its result.

        Raises:
            UsageError: the options are wrong.
        """
        seen, key = settled_look(job.source), self.key(job)
        outcome = self._registered(job)
        is_known = outcome.registered and seen == look(job.source)
        return replace(outcome, key=key, stamp=stamp(job.common, seen, job.folder) if is_known else None)

    def _registered(self, job: Job) -> Outcome:
        begin = time.perf_counter()
        where = None
        try:
            result = self.register(job.source, **self.options_of(job.own), progress=self.progress)
            registered = time.perf_counter()
            self.progress("write")
            result.save(job.folder)
            end = time.perf_counter()
            timings = {**result.timings, "write": end - registered}
            about = dict(result.headline, seconds=end - begin, timings=timings)
            return Outcome(job.name, job.folder.name, result.verdict, result.reason, **about)
        except UsageError:
            raise
        except LvdregError as error:
            reason = str(error)
        except MemoryError:
            reason = "not enough memory: thin the scan, or close other programs"
        except OSError as error:
            reason = f"cannot read or write ({error}): check permissions and free space"
        except Exception as error:  # noqa: BLE001 - a fault of ours in one scan must not lose the other scans' results
            reason = f"unexpected {type(error).__name__} ({error}): a fault in lvdreg, please report it"
            where = traceback.format_exc()
        return job.not_registered(reason, seconds=time.perf_counter() - begin, traceback=where)


def unheard(stage: str) -> None:
    """Nobody hears of the stages of several scans at once."""
