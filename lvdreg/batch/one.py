"""One input of many: registered, its result written, and what became of it told; wherever that happens."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from lvdreg.base.errors import LvdregError, OutputError, UsageError
from lvdreg.base.provenance import InputFile
from lvdreg.base.text import brief, one_line
from lvdreg.batch.remote import Source, at_hand
from lvdreg.batch.resume import look, run_key, settled_look, stamp
from lvdreg.batch.store import Store
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
        folder: Name of the folder for its result.
        common: ``resume.common_stamp`` of its options.
        own: Options that are this input's alone.
        tries: How many processes it has outlived.
    """

    number: int
    source: Source
    folder: str
    common: str
    own: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 0

    @property
    def name(self) -> str:
        """What the table calls the input: its absolute path."""
        return str(self.source.absolute())


@dataclass(frozen=True)
class Work:
    """How inputs are registered; goes to other processes as it is.

    Attributes:
        register: Registers one.
        options: For it.
        progress: Hears which stage an input enters.
        store: Where results go.
    """

    register: Callable[..., Result]
    options: dict[str, Any]
    progress: Callable[[str], None]
    store: Store

    @property
    def how(self) -> str:
        """What registers."""
        return getattr(self.register, "__name__", "")

    def options_of(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of one input."""
        return {**self.options, **own}

    def key(self, job: Job, source: Path) -> str | None:
        """Return what the result of an input depends on, hashed; None if it cannot be read.

        Args:
            job: The job.
            source: Its input on this machine.
        """
        return run_key(source, self.how, self.options_of(job.own))

    def not_registered(self, job: Job, reason: str, **about: Any) -> Outcome:
        """Return what became of an input; where an earlier result lies, that stays and is named."""
        earlier = job.folder if self.store.report(job.folder) is not None else None
        return Outcome(job.name, earlier, None, one_line(reason), **about)

    def __call__(self, job: Job) -> Outcome:
        """Register an input and write its result.

        Raises:
            UsageError: the options are wrong.
        """
        seen, begin = settled_look(job.source), time.perf_counter()
        try:
            if not isinstance(job.source, Path):
                self.progress("fetch")
            with at_hand(job.source) as source:
                key = self.key(job, source)
                outcome = replace(self._registered(job, source, begin), key=key)
        except (OutputError, OSError) as error:
            return self.not_registered(job, f"cannot be fetched ({brief(error)})", seconds=time.perf_counter() - begin)
        is_known = outcome.registered and seen == look(job.source)
        mark = stamp(job.common, seen, self.store.looks(job.folder)) if is_known else None
        return replace(outcome, stamp=mark)

    def _registered(self, job: Job, source: Path, begin: float) -> Outcome:
        where = None
        try:
            result = self.register(source, **self.options_of(job.own), progress=self.progress)
            registered = time.perf_counter()
            self.progress("write")
            self.store.save(_from(result, job), job.folder)
            end = time.perf_counter()
            timings = {**result.timings, "write": end - registered}
            about = dict(result.headline, seconds=end - begin, timings=timings)
            return Outcome(job.name, job.folder, result.verdict, result.reason, **about)
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
        if source != job.source:
            reason = reason.replace(str(source), job.name)
        return self.not_registered(job, reason, seconds=time.perf_counter() - begin, traceback=where)


def _from(result: Result, job: Job) -> Result:
    """Return a result that says where its input really is, not where a copy of it was."""
    copied: Any = result
    origin = getattr(copied, "source", None)
    if isinstance(job.source, Path) or not isinstance(origin, InputFile):
        return result
    return cast(Result, replace(copied, source=replace(origin, path=job.name)))


def unheard(stage: str) -> None:
    """Nobody hears of the stages of several scans at once."""
