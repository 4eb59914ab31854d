"""Build pages where they are missing or older than what they show, and say where they are."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lvdreg.base.disk import refuse_others, write_file
from lvdreg.base.errors import LvdregError, OutputError, RegistrationError
from lvdreg.base.text import brief, one_line
from lvdreg.batch.crew import Crew, Limits, Lost
from lvdreg.batch.table import read_results
from lvdreg.report.index import Card, card_of, index_page, lost_card
from lvdreg.report.page import as_webp, measures_file, read_measures, read_picture, report_page
from lvdreg.report.render import What, drawn
from lvdreg.report.subject import read_shown
from lvdreg.result.files import EXPORTS, PAGE, REPORT, THUMB, note_exports, read_report
from lvdreg.result.read import find_results

INDEX = "index.html"
MADE = {PAGE: "page", THUMB: "thumbnail"}
THUMB_HEIGHT = 176
_MARK = b'<meta name="generator" content="lvdreg'


def build_report(folder: Path) -> Path:
    """Write the page of a result, and its thumbnail, into its folder; they go when it is replaced.

    Raises:
        RegistrationError: the folder holds no result, or a damaged one.
        BodyError: its model is not there.
        OutputError: files of others are in the way.
        OSError: it cannot be written.
    """
    shown = read_shown(folder)
    earlier = shown.saved.report.get(EXPORTS)
    for name in MADE:
        known = isinstance(earlier, dict) and name in earlier
        if os.path.lexists(folder / name) and not known:
            raise OutputError(f"{folder / name}: is not lvdreg's and is not overwritten; move it away")
    content = report_page(shown, read_picture(folder), read_measures(folder))
    what: What = "sigma" if "sigma" in shown.sigmas_mm else "surface"
    thumb = as_webp(drawn(shown, what, shown.cameras[:1], THUMB_HEIGHT)[0])
    # The report first: a page that is younger than it is up to date.
    note_exports(folder, shown.saved.report, MADE)
    write_file(folder / THUMB, lambda path: path.write_bytes(thumb))
    write_file(folder / PAGE, lambda path: path.write_bytes(content))
    return folder / PAGE


def is_current(folder: Path) -> bool:
    """Tell whether a result has a page that is younger than its report and its measures."""
    try:
        made = (folder / PAGE).stat().st_mtime_ns
    except OSError:
        return False
    sources = (path for path in (folder / REPORT, measures_file(folder)) if path.is_file())
    return all(path.stat().st_mtime_ns <= made for path in sources)


def page_for(
    path: Path, *, force: bool = False, workers: int = 1, progress: Callable[[int, int, str], None] | None = None
) -> Path:
    """Return the page of a result, or the index of a folder of results, and build what is missing of them.

    Args:
        path: The folder.
        force: Whether pages are built again that are up to date.
        workers: How many processes build the pages of a folder.
        progress: Told how many pages of how many are built, and which was the last.

    Raises:
        RegistrationError: there is no result.
        LvdregError, OSError: the page of a single result cannot be built; see ``build_report``.
    """
    path = path.parent if path.name in (REPORT, PAGE, INDEX) else path
    folders = [folder for folder in find_results([path]) if read_report(folder) is not None]
    if not folders:
        raise RegistrationError(f"{path}: expected a result of lvdreg, or a folder of results; got none")
    if folders == [path]:
        return path / PAGE if is_current(path) and not force else build_report(path)
    cards = [lost_card(outcome) for outcome in read_results(path) if not outcome.registered]
    made = dict(_all_built([f for f in folders if force or not is_current(f)], workers, progress))
    for folder in folders:
        found = made.get(folder, "")
        page, thumb = (None, None) if found else (PAGE, THUMB)
        cards.append(card_of(read_report(folder) or {}, folder.relative_to(path), page, thumb, found))
    return build_index(path, cards)


def _all_built(
    folders: list[Path], workers: int, progress: Callable[[int, int, str], None] | None
) -> Iterator[tuple[Path, str]]:
    """Build the pages of results; yield the folders, each with why its page could not be built, or nothing."""
    left = iter(folders)
    crew = Crew(workers, Limits(retries=0))(lambda: next(left, None), _built) if workers > 1 else None
    for number, (folder, found) in enumerate(crew or ((folder, _built(folder)) for folder in folders), 1):
        if progress is not None:
            progress(number, len(folders), one_line(folder.name))
        yield folder, f"without a page: {found.reason}" if isinstance(found, Lost) else found


def _built(folder: Path) -> str:
    """Build the page of a result; return why it cannot be, or nothing."""
    try:
        build_report(folder)
    except (LvdregError, OSError) as error:
        return f"without a page: {brief(error)}"
    return ""


def build_index(folder: Path, cards: list[Card]) -> Path:
    """Write the index of a folder.

    Raises:
        OutputError: a file of others is in the way.
    """
    content = index_page(one_line(folder.resolve().name), cards)
    refuse_others(folder / INDEX, _is_ours)
    write_file(folder / INDEX, lambda path: path.write_bytes(content))
    return folder / INDEX


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return _MARK in file.read(4096)
