"""``lvdreg evaluate``."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lvdreg.cli.batch import check_out
from lvdreg.cli.options import (
    CameraKind,
    Device,
    DeviceOption,
    KeptOption,
    Method,
    ModelOption,
    Quality,
    QualityOption,
    SeedOption,
)
from lvdreg.cli.status import plain_errors

if TYPE_CHECKING:
    from lvdreg.evaluate.table import Table

TABLE = "table.json"
evaluate_app = typer.Typer(help="Measure registrations where the truth is known.", no_args_is_help=True)


@evaluate_app.command("faust")
def evaluate_faust(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="FAUST/training, or with --challenge FAUST/test; or scan/NNN.ply.")
    ],
    model: ModelOption = "anny+d",
    limit: Annotated[int | None, typer.Option(min=2, help="Take only so many scans.")] = None,
    challenge: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="inter_challenge.txt or intra_challenge.txt: write the zip to upload."),
    ] = None,
    out: KeptOption = Path("out/faust"),
    baseline: Annotated[bool, typer.Option(help="Also run the fit without correspondences.")] = True,
    quality: QualityOption = None,
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
) -> None:
    """Measure correspondence and surface distance on FAUST scans (bring your own copy)."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_challenge, evaluate_faust

        told: dict[str, Any] = {"out": out, "device": device, "seed": seed, **of_quality(quality)}
        name = check_model(model)
        if challenge is None:
            measure(evaluate_faust, folder, name, limit, with_baseline=baseline, **told)
        else:
            measure(evaluate_challenge, folder, challenge, name, **told)


@evaluate_app.command("clothed")
def evaluate_clothed(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Your copy of 4D-Dress, or of CAPE.")],
    model: ModelOption = "anny",
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many scans.")] = None,
    out: KeptOption = Path("out/clothed"),
    quality: QualityOption = None,
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
) -> None:
    """Measure bodies found under clothes on scans whose naked bodies are known (bring your own copy)."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_clothed as run

        measure(run, folder, check_model(model), limit, out=out, device=device, seed=seed, **of_quality(quality))


@evaluate_app.command("shrec19")
def evaluate_shrec19(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds N.obj, and matches in FARMgt_txt/I_J.txt.")],
    model: ModelOption = "anny+d",
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many pairs.")] = None,
    out: KeptOption = Path("out/shrec19"),
    quality: QualityOption = None,
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
) -> None:
    """Measure matches between meshes of SHREC'19, straight and along edges (bring your own copy)."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_shrec19 as run

        measure(run, folder, check_model(model), limit, out=out, device=device, seed=seed, **of_quality(quality))


@evaluate_app.command("synthetic")
def evaluate_synthetic(
    num: Annotated[int, typer.Option(min=1, help="So many fresh scans.")] = 200,
    model: ModelOption = "anny+d",
    out: KeptOption = Path("out/synthetic"),
    baseline: Annotated[bool, typer.Option(help="Also run the fit without correspondences.")] = True,
    quality: QualityOption = None,
    device: DeviceOption = Device.CPU,
    seed: Annotated[int, typer.Option(help="Which set of scans.")] = 0,
) -> None:
    """Measure errors and uncertainty on clothed, noisy synthetic scans whose true bodies are known."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_synthetic as run

        measure(
            run, num, seed, check_model(model), out=out, device=device, with_baseline=baseline, **of_quality(quality)
        )


@evaluate_app.command("robustness")
def evaluate_robustness(
    num: Annotated[int, typer.Option(min=1, help="So many people, each scanned some fifty times.")] = 3,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this damage, such as noise or 'cut off'; may be given again.")
    ] = None,
    model: ModelOption = "anny",
    out: KeptOption = Path("out/robustness"),
    quality: QualityOption = None,
    device: DeviceOption = Device.CPU,
    seed: Annotated[int, typer.Option(help="Which set of people.")] = 0,
) -> None:
    """Measure what scans may suffer: orientation, unit, few points, noise, outliers, holes, cuts, one side."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_robustness as run

        told: dict[str, Any] = {"kinds": tuple(kind or ()), **of_quality(quality)}
        measure(run, num, seed, check_model(model), out=out, device=device, **told)


@evaluate_app.command("measures")
def evaluate_measures(
    num: Annotated[int, typer.Option(min=1, help="So many fresh people, each naked and dressed.")] = 100,
    model: ModelOption = "anny+d",
    out: KeptOption = Path("out/evaluate-measures"),
    quality: QualityOption = None,
    device: DeviceOption = Device.CPU,
    seed: Annotated[int, typer.Option(help="Which set of people.")] = 0,
) -> None:
    """Measure measures and their sigma on synthetic people whose girths are known."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_measures as run

        measure(run, num, seed, check_model(model), out=out, device=device, **of_quality(quality))


@evaluate_app.command("landmarks")
def evaluate_landmarks(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds NNN.json: landmarks of scans, by name.")],
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Results of the scans, a folder NNN each.")],
    out: Annotated[Path, typer.Option(help="Folder for the table.")] = Path("out/landmarks"),
) -> None:
    """Measure how far landmarks of results lie from those that somebody placed on the scans."""
    with plain_errors():
        from lvdreg.cli.console import counted
        from lvdreg.evaluate import evaluate_landmarks as run

        check_kept(out)
        with counted() as progress:
            table = run(folder, results, progress=progress)
        show(table, out)


class HandViews(StrEnum):
    """What of a hand synthetic scans show."""

    COMPLETE = "complete"
    ONE_SIDED = "one-sided"
    MIXED = "mixed"


@evaluate_app.command("hands")
def evaluate_hands(
    num: Annotated[int, typer.Option(min=1, help="So many fresh scans.")] = 200,
    views: Annotated[
        HandViews, typer.Option(help="Whole surfaces, depth views from one side, or both.")
    ] = HandViews.COMPLETE,
    model: ModelOption = "anny-hand+d",
    out: KeptOption = Path("out/hands"),
    baseline: Annotated[bool, typer.Option(help="Also run the fit without correspondences.")] = False,
    quality: QualityOption = None,
    device: DeviceOption = Device.CPU,
    seed: Annotated[int, typer.Option(help="Which set of scans.")] = 0,
) -> None:
    """Measure errors, sides and uncertainty on synthetic scans of hands, half of them left, half with an object."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_hands as run

        name = check_model(model, hands=True)
        measure(
            run, num, views.value, seed, name, out=out, device=device, with_baseline=baseline, **of_quality(quality)
        )


@evaluate_app.command("rigged")
def evaluate_rigged(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Rigged hands (.glb) with WebXR's joint names.")],
    model: ModelOption = "anny-hand",
    out: KeptOption = Path("out/rigged"),
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
) -> None:
    """Measure sides and joints on hands that others modelled and rigged."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_rigged as run

        measure(run, files, check_model(model, hands=True), out=out, device=device, seed=seed)


@evaluate_app.command("images")
def evaluate_images(
    num: Annotated[int, typer.Option(min=0, help="So many characters, half of them standing.")] = 20,
    faust: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Photograph FAUST's scans (DIR/scan/NNN.ply), too; bodies/faust in $LVDREG_REAL_DATA if that is set.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many scans.")] = None,
    views: Annotated[str, typer.Option(help="Degrees around each person; 0 is the front.")] = "0,90,180,270",
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of a regressor to measure before any fit.")
    ] = None,
    height: Annotated[bool, typer.Option(help="Tell each person's height.")] = False,
    distance: Annotated[float, typer.Option(metavar="METRES", help="Of the camera from each person.")] = 4.0,
    focal: Annotated[bool, typer.Option("--focal", help="Tell the focal length.")] = False,
    camera: Annotated[CameraKind, typer.Option(help="How depth is seen.")] = CameraKind.PERSPECTIVE,
    method: Annotated[
        list[Method] | None, typer.Option(help="Also measure this method; may be given again. lvd is always measured.")
    ] = None,
    gowned: Annotated[int, typer.Option(min=0, help="So many more characters in skirts, gowns, coats and robes.")] = 0,
    convergence: Annotated[int, typer.Option(min=0, help="So many characters to show how descents converge.")] = 5,
    starts: Annotated[int, typer.Option(min=2, help="From so many random bodies.")] = 16,
    model: ModelOption = "anny",
    out: KeptOption = Path("out/images"),
    device: DeviceOption = Device.CPU,
    seed: SeedOption = 0,
) -> None:
    """Measure bodies found in photos of synthetic characters and real scans, from all sides (the paper's table 1)."""
    with plain_errors():
        from lvdreg.cli.doctor import check_model
        from lvdreg.evaluate import evaluate_convergence
        from lvdreg.evaluate import evaluate_images as run
        from lvdreg.evaluate.images import known_faust, views_of

        sides, name, photographed = views_of(views), check_model(model), faust or known_faust()
        told: dict[str, Any] = {"regressor": baseline, "with_height": height, "gowned": gowned}
        told |= {"distance": distance, "with_focal": focal, "camera": camera.value}
        told["methods"] = tuple(one.value for one in method or ())
        measure(run, num, seed, sides, photographed, limit, name, out=out, device=device, **told)
        if convergence:
            curves = (evaluate_convergence, convergence, starts, seed, sides, name)
            measure(*curves, out=out, device=device, table_in=out / "convergence")


def of_quality(quality: Quality | None) -> dict[str, Any]:
    """Return what tells a benchmark to register with a quality; nothing where none was asked for."""
    return {} if quality is None else {"settings": {"quality": quality.value}}


def measure(
    run: Callable[..., "Table"], *what: Any, out: Path, device: Device, table_in: Path | None = None, **settings: Any
) -> None:
    """Run a benchmark, print its table and keep it beside its results.

    Args:
        run: The benchmark.
        what: Its own arguments.
        out: Where results are kept.
        device: Where to compute.
        table_in: Folder for the table; ``out`` when None.
        settings: More for ``run``.
    """
    from lvdreg.cli.console import counted
    from lvdreg.cli.doctor import check_device

    kept = out if table_in is None else table_in
    check_kept(kept)
    with counted() as progress:
        table = run(*what, out, progress=progress, device=check_device(device.value), **settings)
    show(table, kept)


def show(table: "Table", kept: Path) -> None:
    """Keep a table in a folder, and print it."""
    from lvdreg.base.disk import write_file

    kept.mkdir(parents=True, exist_ok=True)
    write_file(kept / TABLE, lambda part: part.write_text(table.to_json(), encoding="utf-8"))
    typer.echo(table.render())


def check_kept(out: Path) -> None:
    """Refuse a folder that cannot hold results, before hours of work.

    Raises:
        UsageError: it is a file.
        OutputError: the table's name is taken by a file of others.
    """
    from lvdreg.base.disk import refuse_others

    check_out(out)
    refuse_others(out / TABLE, is_table)


def is_table(path: Path) -> bool:
    """Whether a file is a table of lvdreg."""
    from lvdreg.base.files import read_json

    try:
        found = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"title", "rows", "notes", "details"} <= found.keys()
