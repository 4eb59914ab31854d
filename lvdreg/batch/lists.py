"""Lists of inputs: a text with one a line, or a table (CSV) with options of single inputs."""

import csv
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from lvdreg.base.errors import UsageError
from lvdreg.base.files import read_text
from lvdreg.base.text import brief, shown
from lvdreg.batch.inputs import find_sources, identity
from lvdreg.batch.remote import Source, is_remote

MAX_LIST_BYTES = 256 << 20
"""A path has a hundred bytes: two and a half million of them."""
PATH = "path"
"""Name of the first column of a table."""


def read_list(
    path: Path, options: Mapping[str, Callable[[str], Any]], suffixes: Collection[str] | None = None
) -> tuple[list[Source], dict[Source, dict[str, Any]]]:
    """Read a list of inputs.

    A text has a file, folder or pattern a line; empty lines and those that begin with ``#`` are passed over. A table
    begins with the column ``path``; the names of the other columns are those of options, and an empty cell leaves one
    as it is for all. Columns whose name begins with ``#`` are passed over. Relative paths, of inputs and of files among
    the options, begin at the folder of the list.

    Args:
        path: The list.
        options: From the name of an option to what parses it, which raises ValueError.
        suffixes: Of what is taken from folders; see ``expand_inputs``.

    Returns:
        The inputs, each once, in order, and the options of those that have some.

    Raises:
        UsageError: it cannot be read, names no input, an unknown option or a value that is none, or an input twice
            with different options; says in which line.
    """
    try:
        lines = read_text(path, MAX_LIST_BYTES).splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--list: {path} cannot be read ({brief(error)})") from None
    rows = _table(lines, options, path) if lines and _is_head(lines[0]) else _text(lines)
    sources: dict[str, Source] = {}
    own: dict[Source, dict[str, Any]] = {}
    for number, entry, chosen in rows:
        for source in find_sources([entry if is_remote(entry) else path.parent / entry], suffixes):
            known = sources.setdefault(identity(source), source)
            if known is not source and own.get(known, {}) != chosen:
                raise UsageError(f"--list: {path}, line {number}: {shown(str(source))} stands twice, unlike each time")
            if chosen:
                own[known] = chosen
    if not sources:
        raise UsageError(f"--list: {path}: expected a path a line, got none")
    return list(sources.values()), own


def _is_head(line: str) -> bool:
    return line.split(",")[0].strip().strip('"').lower() == PATH


def _text(lines: list[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            yield number, line, {}


def _table(
    lines: list[str], options: Mapping[str, Callable[[str], Any]], path: Path
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    try:
        rows = csv.reader(lines, strict=True)
        names = [name.strip().lower() for name in next(rows)]
        for name in names[1:]:
            if name not in options and not name.startswith("#"):
                known = ", ".join(options)
                raise UsageError(f"--list: {path}: expected columns among {known}, got {shown(name)}")
        for row in rows:
            cells = dict(zip(names, map(str.strip, row), strict=False))
            if any(cells.values()):
                chosen = {name: cell for name, cell in cells.items() if cell and name in options}
                yield (
                    rows.line_num,
                    row[0],
                    {n: _parsed(options[n], n, c, rows.line_num, path) for n, c in chosen.items()},
                )
    except csv.Error as error:
        raise UsageError(f"--list: {path}: expected a table of cells between commas ({brief(error)})") from None


def _parsed(parse: Callable[[str], Any], name: str, cell: str, number: int, path: Path) -> Any:
    try:
        value = parse(cell)
    except ValueError as error:
        raise UsageError(f"--list: {path}, line {number}: {name}: {brief(error)}") from None
    beside = path.parent / cell
    return str(beside) if isinstance(value, str) and value == cell and os.path.isfile(beside) else value
