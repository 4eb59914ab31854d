"""Several processes that register at once: the same results, and one that dies costs its scan alone."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lvdreg.base.errors import UsageError
from lvdreg.batch import Limits, Listener, Outcome, read_results, register_many


@dataclass(frozen=True)
class Small:
    """A result that is soon written."""

    verdict: str
    reason: str
    timings: dict[str, float] = field(default_factory=dict)
    headline: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> list[Path]:
        folder.mkdir()
        (folder / "verdict").write_text(self.verdict, encoding="utf-8")
        return [folder / "verdict"]


def make(folder: Path, **files: str) -> list[Path]:
    """Write files ``stem="content"`` as .ply."""
    folder.mkdir(parents=True)
    for stem, content in files.items():
        (folder / f"{stem}.ply").write_text(content, encoding="utf-8")
    return [folder / f"{stem}.ply" for stem in files]


class Heard(Listener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def slow_register(source: Path, **options: Any) -> Small:
    """Register what the file says; or die, or wait until another file is there."""
    words = source.read_text(encoding="utf-8").split()
    if words[0] == "usage":
        raise UsageError("--up: expected an axis")
    if words[0] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == "meet":
        # Both scans must be at work at once.
        source.with_suffix(".here").touch()
        deadline = time.monotonic() + 60
        while not source.with_name(words[1]).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert source.with_name(words[1]).exists()
        words[0] = "good"
    options["progress"]("read")
    return Small(words[0], " ".join(words))


def test_several_workers_do_what_one_does_and_at_once(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", ann="meet bob.here", bob="meet ann.here", cat="check", dan="good")
    heard = Heard()
    outcomes = register_many(sources, tmp_path / "out", register=slow_register, workers=2, listener=heard)
    assert [outcome.verdict for outcome in outcomes] == ["good", "good", "check", "good"]
    assert [outcome.source for outcome in outcomes] == [str(source) for source in sources]
    assert sorted(outcome.source for outcome in heard.outcomes) == sorted(outcome.source for outcome in outcomes)
    assert [(tmp_path / "out" / s.stem / "verdict").read_text() for s in sources] == ["good", "good", "check", "good"]
    assert {outcome.source for outcome in read_results(tmp_path / "out")} == {str(source) for source in sources}


def test_a_worker_that_is_killed_costs_its_scan_alone(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", ann="good", bob="die", cat="good", dan="check")
    outcomes = register_many(sources, tmp_path / "out", register=slow_register, workers=2)
    assert [outcome.verdict for outcome in outcomes] == ["good", None, "good", "check"]
    assert "ended from outside" in outcomes[1].reason and "--workers" in outcomes[1].reason


def test_wrong_usage_ends_all_workers(tmp_path: Path) -> None:
    others = set(multiprocessing.active_children())
    sources = make(tmp_path / "in", ann="usage", bob="good", cat="good")
    with pytest.raises(UsageError, match="expected"):
        register_many(sources, tmp_path / "out", register=slow_register, workers=2)
    assert not set(multiprocessing.active_children()) - others


def hungry_register(source: Path, **options: Any) -> Small:
    """Take time or memory as the file says; the second time all goes well, where it says so."""
    words = source.read_text(encoding="utf-8").split()
    if words[0] in ("once", "die"):
        source.write_text("check" if words[0] == "once" else "die", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == "sleep":
        time.sleep(60)
    if words[0] == "eat":
        hoard = b"x" * (4 * 10**8)
        time.sleep(60 + len(hoard))
    return Small(words[0], "")


def test_what_takes_too_long_is_put_in_quarantine(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", ann="sleep")
    limits = Limits(seconds=0.5, retries=1)
    (outcome,) = register_many(sources, tmp_path / "out", register=hungry_register, limits=limits)
    assert outcome.quarantined and "more than 0.5 s" in outcome.reason


@pytest.mark.skipif(sys.platform != "linux", reason="memory is looked at on Linux only")
def test_what_takes_too_much_or_kills_is_put_in_quarantine_and_left_there(tmp_path: Path) -> None:
    sources = make(tmp_path / "in", ann="die", bob="eat", cat="once", eve="good")
    limits = Limits(memory_mb=350, retries=1)
    heard = Heard()
    outcomes = register_many(
        sources, tmp_path / "out", register=hungry_register, limits=limits, workers=2, listener=heard
    )
    assert [outcome.verdict for outcome in outcomes] == [None, None, "check", "good"]
    assert [outcome.quarantined for outcome in outcomes] == [True, True, False, False]
    assert "MB: raise" in outcomes[1].reason
    assert len(heard.outcomes) == 4
    # They are left there, unless they changed or are released.
    sources[1].write_text("good", encoding="utf-8")
    again = register_many(sources[:2], tmp_path / "out", register=hungry_register, limits=limits, resume=True)
    assert again[0] == outcomes[0] and again[1].verdict == "good" and not again[1].quarantined
