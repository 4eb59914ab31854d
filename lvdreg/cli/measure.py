"""``lvdreg measure``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lvdreg.cli.batch import check_out
from lvdreg.cli.options import Device, DeviceOption, ExampleKind, ModelOption, Unit, Up
from lvdreg.cli.scans import registrar
from lvdreg.cli.status import FAILED, plain_errors, plain_words

if TYPE_CHECKING:
    from lvdreg.measure.files import Sheet

EPILOG = "Exit status: 0 all measured, 1 something could not be registered or measured, 2 wrong usage."
MEASURES, PARAMS = "measures", "params.npz"
LEAST_HEIGHT, MOST_HEIGHT = 0.4, 2.6


def measure(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="SCAN|RESULT", help="Results, folders of them, or scans: these are registered first."),
    ],
    out: Annotated[Path, typer.Option(help="Folder: measures/ in it, and the results of scans.")] = Path("out"),
    bare: Annotated[
        bool, typer.Option("--bare", help="Nobody wears anything loose: the surface itself is measured.")
    ] = False,
    height: Annotated[
        float | None, typer.Option(metavar="METRES", help="Known stature: it fixes the scale. Of one person.")
    ] = None,
    model: ModelOption = "anny+d",
    unit: Annotated[Unit, typer.Option(help="Unit of the scans; none: their size means nothing.")] = Unit.AUTO,
    up: Annotated[Up, typer.Option(help="Axis of the scans that points up.")] = Up.AUTO,
    device: DeviceOption = Device.CPU,
) -> None:
    """Measure people and hands: girths, lengths, breadths, heights and landmarks, each with one sigma.

    Measures are those of ISO 8559-1 and ISO 7250-1, of the person standing upright, under the clothes.
    """
    with plain_errors():
        check_out(out)
        results, sources = _inputs(inputs, height)
        lost = len(sources)
        if sources:
            done = _registered(sources, out, model=model, unit=unit, up=up, device=device)
            results, lost = [*results, *done], lost - len(done)
        sheets: list[Sheet] = []
        for name, folder in _named(results).items():
            found = _measured(name, folder, out / MEASURES, bare, height)
            if found is not None:
                typer.echo(_line(found), err=True)
                sheets.append(found)
        _finish(sheets, lost + len(results) - len(sheets), out / MEASURES)


def _inputs(inputs: list[str], height: float | None) -> tuple[list[Path], list[Path]]:
    """Return the result folders and the scans that are meant.

    Raises:
        UsageError: the height cannot be meant.
    """
    from lvdreg.base.errors import UsageError
    from lvdreg.batch import expand_inputs
    from lvdreg.result.read import find_results

    found = {given: [path for path in find_results([given]) if (path / PARAMS).is_file()] for given in inputs}
    folders = list(dict.fromkeys(path for paths in found.values() for path in paths))
    scans = [given for given, paths in found.items() if not paths]
    sources = expand_inputs(scans) if scans else []
    if height is not None and not LEAST_HEIGHT <= height <= MOST_HEIGHT:
        raise UsageError(f"--height: expected metres from {LEAST_HEIGHT} to {MOST_HEIGHT}, got {height:g}")
    if height is not None and len(folders) + len(sources) > 1:
        raise UsageError(f"--height: it is that of one person, got {len(folders) + len(sources)} scans and results")
    return folders, sources


def _registered(sources: list[Path], out: Path, *, model: str, unit: Unit, up: Up, device: Device) -> list[Path]:
    """Register scans, unless they have their results already; return the folders of those that could be."""
    from lvdreg.batch import register_many
    from lvdreg.cli.console import registered
    from lvdreg.cli.doctor import check_device, check_model, is_hand

    hands = is_hand(model)
    asked: dict[str, Any] = {"model": check_model(model, hands=hands), "unit": unit.value}
    asked |= {"device": check_device(device.value)} | ({} if hands else {"up": up.value})
    register = registrar(ExampleKind.HAND if hands else ExampleKind.BODY)
    with registered() as progress:
        outcomes = register_many(sources, out, register=register, listener=progress, resume=True, **asked)
    return [out / outcome.folder for outcome in outcomes if outcome.folder is not None]


def _named(folders: list[Path]) -> dict[str, Path]:
    """Give every result a name of its own: that of its folder, with a number where two are called the same."""
    from lvdreg.base.names import folder_name, name_key

    found: dict[str, Path] = {}
    taken: set[str] = set()
    for folder in folders:
        plain, number = folder_name(folder.absolute().name), 1
        while name_key(name := plain if number == 1 else f"{plain}-{number}") in taken:
            number += 1
        taken.add(name_key(name))
        found[name] = folder
    return found


def _measured(name: str, folder: Path, out: Path, bare: bool, height: float | None) -> "Sheet | None":
    """Measure one result and write its files; None, and a line that says why, where it cannot be."""
    from lvdreg.base.errors import LvdregError, UsageError
    from lvdreg.base.text import one_line
    from lvdreg.measure.files import Sheet, save
    from lvdreg.measure.subject import read_subject

    try:
        subject = read_subject(folder)
        if height is not None and subject.saved.side is not None:
            raise UsageError(f"--height: it is that of a person, got the hand {folder}")
        sheet = Sheet(name, subject, subject.measured(bare, height), bare, height)
        save(sheet, out / name, subject.landmarks(subject.scan()))
    except (LvdregError, OSError) as error:
        typer.echo(f"lvdreg: {one_line(plain_words(error))}", err=True)
        return None
    return sheet


def _line(sheet: "Sheet") -> str:
    """Say the first measures of one person or hand."""
    first = ", ".join(
        f"{found.measure.name} {found.value_mm:.0f} ± {found.sigma_mm:.0f} mm"
        for found in sheet.measured.measurements
        if found.measure.name in ("stature", "bust girth", "waist girth", "hip girth", "hand length", "hand breadth")
    )
    guess = "; the size is a guess" if sheet.size_is_guess else ""
    return f"{sheet.name} ({sheet.subject.verdict}, {sheet.what}): {first}{guess}"


def _finish(sheets: "list[Sheet]", lost: int, out: Path) -> None:
    """Write the table, say where it is, and leave with the status."""
    from lvdreg.measure.files import TABLE, write_table

    if sheets:
        replaced = "; it replaces that of an earlier run" if (out / TABLE).exists() else ""
        write_table(out / TABLE, sheets)
        typer.echo(f"{len(sheets)} measured; table in {out / TABLE}{replaced}; drawings in {out}")
    if lost or not sheets:
        typer.echo(f"{lost or 'nothing'} could not be measured", err=True)
        raise typer.Exit(FAILED)
