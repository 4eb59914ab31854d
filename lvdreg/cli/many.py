"""``lvdreg batch``."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lvdreg.base.errors import UsageError
from lvdreg.base.text import brief, shown
from lvdreg.cli.batch import Batch, check_out, register_all
from lvdreg.cli.config import chosen_settings
from lvdreg.cli.image import photo_registrar
from lvdreg.cli.options import (
    CameraKind,
    ConfigOption,
    Device,
    DeviceOption,
    ExampleKind,
    ExportOption,
    Method,
    Posture,
    QualityOption,
    ReportOption,
    Sex,
    Side,
    Unit,
    Up,
    unfolded,
)
from lvdreg.cli.scans import registrar
from lvdreg.cli.status import plain_errors

if TYPE_CHECKING:
    from lvdreg.batch import Engine, Limits, Result, Source

Parser = Callable[[str], Any]


def one_of(kind: type[StrEnum]) -> Parser:
    """Return what parses a word of a kind."""

    def parse(word: str) -> str:
        if word not in list(kind):
            raise ValueError(f"expected one of {', '.join(kind)}, got {shown(word)}")
        return word

    return parse


def number(word: str) -> float:
    """Parse a number."""
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"expected a number, got {shown(word)}") from None


def whole(word: str) -> int:
    """Parse a whole number."""
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"expected a whole number, got {shown(word)}") from None


def yes_or_no(word: str) -> bool:
    """Parse yes or no."""
    if word.lower() not in ("yes", "no", "true", "false", "1", "0"):
        raise ValueError(f"expected yes or no, got {shown(word)}")
    return word.lower() in ("yes", "true", "1")


OPTIONS: dict[ExampleKind, dict[str, tuple[Parser, Any]]] = {
    ExampleKind.BODY: {
        "model": (str, "anny"), "unit": (one_of(Unit), "auto"), "up": (one_of(Up), "auto"), "height": (number, None),
        "sex": (one_of(Sex), None), "age": (number, None), "pose": (one_of(Posture), None), "keypoints": (str, None),
        "floor": (yes_or_no, False), "camera": (str, None), "seed": (whole, 0),
    },
    ExampleKind.HAND: {
        "model": (str, "anny-hand"), "unit": (one_of(Unit), "auto"), "side": (one_of(Side), "auto"),
        "camera": (str, None), "seed": (whole, 0),
    },
    ExampleKind.PHOTO: {
        "model": (str, "anny"), "height": (number, None), "person": (whole, None), "mask": (str, "auto"),
        "keypoints": (str, None), "focal": (number, None), "camera": (one_of(CameraKind), "perspective"),
        "method": (one_of(Method), "lvd"),
    },
}  # fmt: skip
"""Options that a batch may have for all inputs, or for one: their parser and default, which are those of ``lvdreg
register``, ``hands`` and ``image``: what these have finished is finished for a batch, too."""
COMMANDS = {ExampleKind.BODY: "register", ExampleKind.HAND: "hands", ExampleKind.PHOTO: "image"}


@dataclass(frozen=True)
class Each:
    """What each input may take, and what becomes of those that go wrong."""

    time_limit: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.1, help="What takes longer is put in quarantine.")
    ] = 600.0
    memory_limit: Annotated[
        float | None, typer.Option(metavar="GB", min=0.1, help="So is what takes more memory; Linux only.")
    ] = None
    retries: Annotated[
        int, typer.Option(min=0, max=100, help="How often to try again what has killed its process.")
    ] = 1
    release: Annotated[bool, typer.Option("--release", help="Try again what is in quarantine.")] = False
    again: Annotated[bool, typer.Option("--again", help="Register everything, also what is finished.")] = False


class EngineKind(StrEnum):
    """Where processes run."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class Machines:
    """Where processes run, and how many."""

    workers: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Processes that register at once; one for each core if not given."),
    ] = None
    engine: Annotated[EngineKind, typer.Option(help="This machine, or all of a Ray cluster.")] = EngineKind.LOCAL
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Of the cluster; by RAY_ADDRESS if not given.")
    ] = None


@unfolded
def register_batch(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Files, folders, patterns like 'in/*.ply', or such in a store: s3://..."),
    ] = None,
    *,
    listed: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="A path a line; or CSV: a column path, others with options."),
    ] = None,
    kind: Annotated[ExampleKind, typer.Option(help="What the inputs show.")] = ExampleKind.BODY,
    model: Annotated[str | None, typer.Option(help="Model to register, as of lvdreg register.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="For all inputs, as unit=mm; again for more."),
    ] = None,
    quality: QualityOption = None,
    config: ConfigOption = None,
    out: Annotated[str, typer.Option(help="Folder for the results, one folder each; or an address: s3://...")] = "out",
    machines: Machines,
    each: Each,
    device: DeviceOption = Device.CPU,
    export: ExportOption = None,
    report: ReportOption = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write results.parquet, too.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 if a verdict is not good.")] = False,
) -> None:
    """Register very many scans, hands or photos: run it again after whatever stopped it, and it goes on."""
    with plain_errors("run it again to go on"):
        from lvdreg.batch import Limits, Remote, is_remote
        from lvdreg.cli.doctor import check_device

        place = Remote(out) if is_remote(out) else Path(out)
        check_out(place)
        common = {name: default for name, (_, default) in OPTIONS[kind].items()}
        common |= {} if model is None else {"model": model}
        common |= parse_options(option or [], kind)
        sources, own = find_inputs(inputs or [], listed, kind)
        check_models(kind, [common, *own.values()])
        settings = chosen_settings(COMMANDS[kind], config, quality)
        common |= {"device": check_device(device.value), "settings": settings}
        if kind is ExampleKind.PHOTO:
            common |= {"refine": True, "set_keypoints": {}}
        memory_mb = None if each.memory_limit is None else 1000 * each.memory_limit
        limits = Limits(each.time_limit, memory_mb, each.retries)
        how = Batch(
            resume=not each.again,
            strict=strict,
            workers=machines.workers or os.cpu_count() or 1,
            exports=export or (),
            report=report,
            release=each.release,
            limits=limits,
            engine=engine_of(machines, limits),
            own=own,
            parquet=parquet,
        )
        register_all(sources, place, registrar_of(kind), **how, **common)


def engine_of(machines: Machines, limits: "Limits") -> "Engine | None":
    """Return what does the jobs; None: processes of this machine.

    Raises:
        UsageError: Ray is not installed, or an address is given without it.
    """
    if machines.engine is EngineKind.LOCAL:
        if machines.address is not None:
            raise UsageError("--address: means something with --engine ray only")
        return None
    from lvdreg.batch.cluster import Cluster

    return Cluster(machines.address, machines.workers, limits)


def parse_options(words: list[str], kind: ExampleKind) -> dict[str, Any]:
    """Parse what ``--option`` says.

    Raises:
        UsageError: it is not NAME=VALUE, or no option or value.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in OPTIONS[kind]:
            known = ", ".join(OPTIONS[kind])
            raise UsageError(f"--option: expected NAME=VALUE, NAME one of {known}; got {shown(word)}")
        try:
            found[name] = OPTIONS[kind][name][0](value)
        except ValueError as error:
            raise UsageError(f"--option: {name}: {brief(error)}") from None
    return found


def find_inputs(
    inputs: list[str], listed: Path | None, kind: ExampleKind
) -> "tuple[list[Source], dict[Source, dict[str, Any]]]":
    """Return the inputs, each once, and the options of single ones.

    Raises:
        UsageError: there are none, or the list has a fault.
    """
    from lvdreg.batch import PHOTO_SUFFIXES, find_sources, read_list
    from lvdreg.batch.inputs import identity

    if not inputs and listed is None:
        raise UsageError("expected inputs or --list FILE, got neither")
    suffixes = PHOTO_SUFFIXES if kind is ExampleKind.PHOTO else None
    parsers = {name: parser for name, (parser, _) in OPTIONS[kind].items()}
    sources, own = ([], {}) if listed is None else read_list(listed, parsers, suffixes)
    known = {identity(source) for source in sources}
    more = [source for source in find_sources(inputs, suffixes) if identity(source) not in known]
    return [*sources, *more], own


def check_models(kind: ExampleKind, options: list[dict[str, Any]]) -> None:
    """Check every model that is asked for, once."""
    from lvdreg.cli.doctor import check_model

    for model in dict.fromkeys(chosen["model"] for chosen in options if "model" in chosen):
        check_model(model, hands=kind is ExampleKind.HAND)


def registrar_of(kind: ExampleKind) -> "Callable[..., Result]":
    """Return the function that registers one input."""
    return photo_registrar(everyone=False) if kind is ExampleKind.PHOTO else registrar(kind)
