"""What users may change: twelve settings in plain words, each with its unit, its range and what it is for.

Everything else is private and stands beside the code it steers; pipeline/config.py says what each of these sets
there. A settings file is TOML: settings at its top are for every command, those of a table ``[register]``, ``[hands]``
or ``[image]`` for that command.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any

from lvdreg.base.arguments import check_type
from lvdreg.base.errors import UsageError
from lvdreg.base.files import read_text
from lvdreg.base.text import LONGEST_SHOWN, brief, one_line, shown

Value = bool | int | float | str

COMMANDS = {"register": "Scans of people", "hands": "Scans of hands", "image": "Photos"}
"""The commands, which are the tables of a settings file, and what each is for."""
QUALITIES = ("fast", "standard", "best")
OPTIONS = (
    "model", "unit", "up", "side", "height", "sex", "age", "pose", "keypoints", "floor", "camera", "focal", "method",
    "mask", "person", "out", "device", "seed", "strict",
)  # fmt: skip
"""Options of the command line that one might look for in a settings file."""
_COMMA = re.compile(r"(?m)^\s*\w+\s*=\s*[-+]?\d+,\d")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class Knob:
    """What there is to know of a setting.

    Attributes:
        name: As Python and settings files have it.
        meaning: One plain sentence.
        standard: What it is at standard quality, by the commands that it is for.
        fast: What it is at fast quality where that differs.
        best: What it is at best quality where that differs.
        unit: Of the value; empty for plain numbers.
        low: Least value of a number.
        high: Largest value of a number.
        choices: Values of a text.
    """

    name: str
    meaning: str
    standard: Mapping[str, Value]
    fast: Mapping[str, Value]
    best: Mapping[str, Value]
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> type:
        """bool, int, float or str."""
        return type(next(iter(self.standard.values())))

    @property
    def range(self) -> str:
        """What values it may have, in words: "1 to 32", "true or false"."""
        if self.kind is bool:
            return KINDS[bool]
        return ", ".join(self.choices) if self.choices else f"{self.low:g} to {self.high:g}"

    @property
    def expected(self) -> str:
        """What values it may have, as a message says it: "a whole number from 1 to 32"."""
        if self.kind is bool:
            return KINDS[bool]
        if self.choices:
            return f"one of {self.range}"
        return f"{KINDS[self.kind]} from {self.low:g} to {self.high:g}" + (f" ({self.unit})" if self.unit else "")

    def allows(self, value: Any) -> bool:
        """Say whether a value is of the right type and in range; a whole number is a number, true is none."""
        if self.kind in (bool, str):
            return isinstance(value, self.kind) and (self.kind is bool or value in self.choices)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (self.kind is float or isinstance(value, int)) and self.low <= value <= self.high


def _knob(
    meaning: str,
    standard: Mapping[str, Value],
    *,
    fast: Mapping[str, Value] | None = None,
    best: Mapping[str, Value] | None = None,
    default: Any = None,
    **about: Any,
) -> Any:
    """Declare a setting; None stands for what the quality says."""
    words = {"meaning": meaning, "standard": standard, "fast": fast or {}, "best": best or {}, **about}
    return field(default=default, metadata={"knob": words})


def _for(*commands: str, value: Value) -> dict[str, Value]:
    return dict.fromkeys(commands or COMMANDS, value)


@dataclass(frozen=True)
class Settings:
    """Settings of a registration. None: what ``quality`` says (``lvdreg config`` shows it).

    >>> lvdreg.register("scan.ply", settings=lvdreg.Settings(quality="fast", clothes=False))

    Raises:
        UsageError: a value is of the wrong type or out of range.
    """

    quality: str = _knob(
        "Time against accuracy: sets everything below that is not set itself.",
        _for(value="standard"),
        fast=_for(value="fast"),
        best=_for(value="best"),
        default="standard",
        choices=QUALITIES,
    )
    num_points: int | None = _knob(
        "Points sampled from the scan: more show finer detail and take longer.",
        _for("register", "hands", value=30_000),
        fast=_for("register", "hands", value=10_000),
        best=_for("register", "hands", value=100_000),
        unit="points",
        low=1_000,
        high=500_000,
    )
    num_views: int | None = _knob(
        "From how many sides the network looks at the scan: more are surer and take longer.",
        _for("register", "hands", value=4),
        fast=_for("register", "hands", value=2),
        best=_for("register", "hands", value=8),
        unit="views",
        low=1,
        high=32,
    )
    refine_iterations: int | None = _knob(
        "Steps that refine the body against scan or photo, at most; 0 leaves it as the network has it.",
        {"register": 30, "hands": 30, "image": 22},
        fast={"register": 12, "hands": 12, "image": 10},
        unit="steps",
        low=0,
        high=500,
    )
    clothes: bool | None = _knob(
        "Whether the person may wear clothes; false draws the body out to what is seen of it.",
        _for("register", "image", value=True),
    )
    outlier_distance_mm: float | None = _knob(
        "What is seen further than about this from the body counts less and less as the refinement ends.",
        {"register": 15.0, "hands": 3.0, "image": 50.0},
        unit="mm",
        low=0.5,
        high=500,
    )
    smoothing_mm: float | None = _knob(
        "With +d: detail of the scan finer than this is smoothed away; noisy scans are smoothed more.",
        {"register": 8.0, "hands": 0.87},
        best={"register": 5.0, "hands": 0.5},
        unit="mm",
        low=0.1,
        high=200,
    )
    shape_prior: float | None = _knob(
        "How strongly the shape is held to that of ordinary people; 2 is twice as strongly.",
        _for(value=1.0),
        unit="times",
        low=0.01,
        high=100,
    )
    pose_prior: float | None = _knob(
        "How strongly the pose is held to easy ones; 2 is twice as strongly. Limits of joints stay as they are.",
        _for(value=1.0),
        unit="times",
        low=0.01,
        high=100,
    )
    remove_surroundings: bool | None = _knob(
        "Whether floors, walls, tables and things that touch the person are found in the scan and left out.",
        _for("register", "hands", value=True),
    )

    max_sigma_mm: float | None = _knob(
        "Good is what is uncertain by no more than this: sigma, the mean over the body, in photos the median.",
        {"register": 22.0, "hands": 4.0, "image": 80.0},
        unit="mm",
        low=0.1,
        high=1_000,
    )
    max_distance_mm: float | None = _knob(
        "Good is what lies no further from the scan than this, on average.",
        {"register": 25.0, "hands": 2.5},
        unit="mm",
        low=0.05,
        high=1_000,
    )

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if not KNOBS[name].allows(value):
                raise UsageError(f"{name}: expected {KNOBS[name].expected}, got {shown(value)}")

    def given(self) -> dict[str, Value]:
        """Return what was set, the quality included."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def reported(self) -> dict[str, Any]:
        """Return what a report says of them beside the settings of all stages: the quality, and what else was set."""
        return {"quality": self.quality, "given": {k: v for k, v in self.given().items() if k != "quality"}}

    def effective(self, command: str) -> dict[str, Value]:
        """Return every setting that a command has: as given, or as the quality says."""
        return {
            **preset(self.quality, command),
            **{k: v for k, v in self.given().items() if command in KNOBS[k].standard},
        }


KNOBS: dict[str, Knob] = {item.name: Knob(item.name, **item.metadata["knob"]) for item in fields(Settings)}


def preset(quality: str, command: str) -> dict[str, Value]:
    """Return the settings that a quality stands for."""
    return {
        name: getattr(knob, quality).get(command, knob.standard[command])
        for name, knob in KNOBS.items()
        if command in knob.standard
    }


def settings_of(given: "Settings | Mapping[str, Any] | None", command: str) -> Settings:
    """Return settings as an object, whatever way they were given.

    Args:
        given: An object, names with values, or None for standard quality.
        command: One of ``COMMANDS``, which must have every setting that is named.

    Raises:
        UsageError: there is no such setting, or it has no such value.
    """
    check_type("settings", given, (Settings, Mapping, NoneType), "lvdreg.Settings, settings by name, or None")
    values: dict[str, Any] = {**given.given()} if isinstance(given, Settings) else {**(given or {})}
    for name, value in values.items():
        _check(name, value, command, "settings")
    return Settings(**values)


def read_file(path: Path) -> dict[str, Settings]:
    """Read and check a settings file; returns the settings of every command.

    Raises:
        UsageError: the file cannot be read, or holds what it should not; one line names file, setting and remedy.
    """
    try:
        document = tomllib.loads(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: cannot read {path} ({error}): expected a settings file") from error
    except (ValueError, RecursionError) as error:  # a date or a number that there is not, or brackets without end
        fault = "; write numbers with a decimal point, not a comma" if _COMMA.search(read_text(path)) else ""
        raise UsageError(
            f'{path}: expected TOML such as: quality = "fast"; got a fault: {brief(error)}{fault}'
        ) from error
    tables = {name: value for name, value in document.items() if isinstance(value, dict)}
    shared = {name: value for name, value in document.items() if name not in tables}
    for name in tables:
        if name not in COMMANDS:
            raise UsageError(
                f"{path}: [{one_line(name)[:LONGEST_SHOWN]}]: no such table; {_nearest(name, tuple(COMMANDS))}"
            )
    for name, value in shared.items():
        _check(name, value, None, str(path))
    found = {}
    for command in COMMANDS:
        values: dict[str, Any] = {k: v for k, v in shared.items() if command in KNOBS[k].standard}
        for name, value in tables.get(command, {}).items():
            _check(name, value, command, f"{path}: [{command}]")
            values[name] = value
        found[command] = Settings(**values)
    return found


def _check(name: str, value: Any, command: str | None, where: str) -> None:
    """Refuse a setting that does not exist, is not for the command, or has no such value."""
    knob, brief_name = KNOBS.get(name), one_line(name)[:LONGEST_SHOWN]
    if knob is None:
        raise UsageError(f"{where}: {brief_name}: no such setting; {_nearest(name, tuple(KNOBS))}")
    if command is not None and command not in knob.standard:
        raise UsageError(f"{where}: {name}: expected it only for {' and '.join(knob.standard)}; leave it out")
    if not knob.allows(value):
        raise UsageError(f"{where}: {name}: expected {knob.expected}, got {shown(value)}")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    """Say which of the known names was probably meant."""
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"did you mean {close[0]}?"
    if name in OPTIONS:
        return f"give it on the command line: --{name}"
    return f"expected one of {', '.join(known)}"


def as_toml(chosen: Mapping[str, Settings]) -> str:
    """Return a commented settings file: every setting with what it means; those that are not set are commented out.

    Args:
        chosen: Settings by command.
    """
    lines = [
        "# Settings of lvdreg. Use: lvdreg register SCAN --config FILE",
        "#",
        "# Take the # away in front of a setting to set it; what is not set is as the quality says. A setting above",
        "# the first table counts for all commands that have it, one in a table for that command. Options of the",
        "# command line win over this file. lvdreg config FILE checks it.",
    ]
    qualities = {command: settings.quality for command, settings in chosen.items()}
    is_shared = len(set(qualities.values())) == 1
    if is_shared:
        lines += ["", *_toml_lines("quality", next(iter(qualities.values())), True)]
    for command, title in COMMANDS.items():
        lines += ["", "", f"[{command}]", f"# {title}."]
        for name, value in chosen[command].effective(command).items():
            if name != "quality" or not is_shared:
                lines += ["", *_toml_lines(name, value, name in chosen[command].given())]
    return "\n".join(lines) + "\n"


def _toml_lines(name: str, value: Value, is_set: bool) -> list[str]:
    """Write one setting as TOML, with what it means above it."""
    knob = KNOBS[name]
    unit = f" {knob.unit}" if knob.unit and knob.unit != "times" else ""
    written = f'"{value}"' if isinstance(value, str) else words(value)
    return [f"# {knob.meaning}", f"# {knob.range}{unit}", f"{'' if is_set else '# '}{name} = {written}"]


def words(value: Value) -> str:
    """Write a value as settings files do, but for the quotes of a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_given(settings: Settings, **given: Value | None) -> Settings:
    """Return settings of which some are others; None: as they are."""
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(settings, **changes)
