"""``lvdreg view`` and ``lvdreg render``."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lvdreg.base.errors import LvdregError
from lvdreg.base.text import one_line
from lvdreg.cli.batch import build_pages, check_out
from lvdreg.cli.status import FAILED, plain_errors

if TYPE_CHECKING:
    from lvdreg.report.subject import Shown


class Show(StrEnum):
    """What pictures show of a result; see lvdreg/report/render.py."""

    SCAN = "scan"
    SURFACE = "surface"
    BODY = "body"
    SIGMA = "sigma"
    DISTANCE = "distance"


class FilmKind(StrEnum):
    """Formats of turntables."""

    GIF = "gif"
    MP4 = "mp4"


def view(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A result folder, or a folder of results such as out.")],
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print where the page is.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Build pages again that are up to date.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that build pages at once.")] = 1,
) -> None:
    """Look at results in the browser, in 3D: a page for each result, and an index of a folder of results.

    Pages are built where they are missing: report.html in each result, index.html in the folder. They need no network.
    """
    with plain_errors("pages that were built are complete"):
        page = build_pages(path, force=force, workers=workers)
        if not no_browser:
            import webbrowser

            if not webbrowser.open(page.resolve().as_uri()):
                typer.echo("no browser is found here: open this file in one", err=True)


def render(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT", help="Result folders, or folders of them such as out.")
    ],
    show: Annotated[list[Show] | None, typer.Option(help="What to draw; give it again for more.")] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="SIDE",
            help="front, left, back, right; of a hand palm, thumb side, back of the hand, finger tips; or degrees TURN "
            "or TURN,RISE from the front. Give it again for more.",
        ),
    ] = None,
    turntable: Annotated[FilmKind | None, typer.Option(help="Film that goes around once; mp4 needs ffmpeg.")] = None,
    height: Annotated[int, typer.Option(min=16, max=4096, help="Of the pictures, pixels.")] = 800,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("renders"),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are in the way.")] = False,
) -> None:
    """Draw results from any side, as PNG, and as films that go around them."""
    with plain_errors():
        from lvdreg.report.render import find_ffmpeg
        from lvdreg.report.subject import read_shown
        from lvdreg.result.read import find_results

        check_out(out)
        if turntable is FilmKind.MP4:
            find_ffmpeg()
        failed = 0
        for folder in find_results(results):
            try:
                shown = read_shown(folder)
                sides = from_ or ([] if turntable else [shown.cameras[0].name])
                for what in show or [Show.SURFACE]:
                    for path in _written(shown, what, sides, turntable, height, out, force):
                        typer.echo(one_line(str(path)))
            except (LvdregError, OSError) as error:
                failed += 1
                typer.echo(f"lvdreg: {one_line(str(error))}", err=True)
        if failed:
            raise typer.Exit(FAILED)


def _written(
    shown: "Shown", what: Show, sides: list[str], film: FilmKind | None, height: int, out: Path, force: bool
) -> list[Path]:
    """Write the pictures of one result; their names are those of its folder, of what they show and from where."""
    from lvdreg.base.disk import write_file
    from lvdreg.base.errors import OutputError
    from lvdreg.base.names import folder_name
    from lvdreg.report.render import camera_of, drawn, turntable, write_film

    stem = f"{folder_name(shown.saved.folder.resolve().name)}-{what}"
    cameras = [camera_of(side, shown.cameras) for side in sides]
    places = [out / f"{stem}-{camera.name}.png" for camera in cameras]
    films = [] if film is None else [out / f"{stem}.{film}"]
    for path in [*places, *films]:
        if not force and path.exists():
            raise OutputError(f"{path}: is there already; --force replaces it")
    out.mkdir(parents=True, exist_ok=True)
    if cameras:
        for path, picture in zip(places, drawn(shown, what.value, cameras, height), strict=True):
            write_file(path, partial(picture.save, format="PNG"))
    if film is not None:
        frames = drawn(shown, what.value, turntable(shown.cameras), height)
        write_file(films[0], lambda part: write_film(part, frames, film.value))
    return [*places, *films]
