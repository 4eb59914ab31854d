"""What is registered: files, folders and patterns turned into inputs, and each input given a folder for its result."""

import glob
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from lvdreg.base.names import folder_name, name_key
from lvdreg.batch.remote import Source, expand_address, is_remote
from lvdreg.batch.store import Store
from lvdreg.batch.table import TABLE, is_table


def expand_inputs(inputs: Iterable[str | Path], suffixes: Collection[str] | None = None) -> list[Path]:
    """List the scans meant by files, folders and glob patterns, each once, in order.

    What matches nothing stays in the list, so that it is reported as a scan that could not be read and not passed over.

    Args:
        inputs: Files, folders and patterns.
        suffixes: In lower case, of what is taken from folders; those of scans when None.
    """
    if suffixes is None:
        from lvdreg.scan.read import SUFFIXES

        suffixes = SUFFIXES.keys()
    found: dict[str, Path] = {}
    for given in map(str, inputs):
        if os.path.isdir(given):
            inside = (Path(given, name) for name in sorted(os.listdir(given)) if not name.startswith("."))
            scans = [path for path in inside if path.suffix.lower() in suffixes and path.is_file()]
            scans = [path for path in scans if path.name != TABLE or not is_table(path)]
        elif not os.path.exists(given) and glob.has_magic(given):
            scans = [Path(name) for name in sorted(glob.glob(given, recursive=True)) if os.path.isfile(name)]
        else:
            scans = []
        for path in scans or [Path(given)]:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def find_sources(inputs: Iterable[str | Path], suffixes: Collection[str] | None = None) -> list[Source]:
    """List the inputs meant, as ``expand_inputs`` does, where some may be addresses of a store."""
    if suffixes is None:
        from lvdreg.scan.read import SUFFIXES

        suffixes = SUFFIXES.keys()
    found: dict[str, Source] = {}
    for given in map(str, inputs):
        sources: Sequence[Source] = (
            expand_address(given, suffixes) if is_remote(given) else expand_inputs([given], suffixes)
        )
        for source in sources:
            found.setdefault(identity(source), source)
    return list(found.values())


def identity(source: Source) -> str:
    """Return what two names of one input have in common."""
    return os.path.realpath(source) if isinstance(source, Path) else source.url


def result_names(sources: Sequence[Source], store: Store, earlier: Mapping[str, str]) -> list[str]:
    """Choose a result folder in ``store`` for every input, so that nothing is ever written over what is not its own.

    Args:
        sources: Inputs, all different.
        store: Where results go; may hold earlier results, and anything else.
        earlier: Folder by absolute source, from earlier runs; an input registered again keeps its folder while a result
            is in it.

    Returns:
        Names in the order of ``sources``: ``base.names.folder_name`` of the file's stem, or the same with ``-2`` and so
        on where that is taken. Names that some file system cannot tell apart count as equal.
    """
    there = {name_key(name): name for name in store.names()}
    own = {str(source.absolute()) for source in sources}
    names = {key: name for key, name in earlier.items() if key in own and _is_result(store, name)}
    taken = {*map(name_key, (*earlier.values(), *names.values(), TABLE))}

    def take(source: str, name: str) -> bool:
        key = name_key(name)
        if key in taken or (key in there and not (there[key] == name and _is_result_of(store, name, source))):
            return False
        taken.add(key)
        names[source] = name
        return True

    # Plain names first: of scan.ply, other/scan.ply and scan-2.ply it is the last that is called scan-2.
    plain = {str(source.absolute()): folder_name(source.stem) for source in sources}
    left = [source for source, name in plain.items() if source not in names and not take(source, name)]
    for source in left:
        number = 2
        while not take(source, f"{plain[source]}-{number}"):
            number += 1
    return [names[str(source.absolute())] for source in sources]


def _is_result(store: Store, name: str) -> bool:
    """Whether a folder holds a result of lvdreg (others' files may lie beside it), or is not there."""
    return store.is_free(name) or store.report(name) is not None


def _is_result_of(store: Store, name: str, source: str) -> bool:
    """Whether a folder holds the result of this very input, known by its report where the summary is lost."""
    origin = (store.report(name) or {}).get("input")
    return isinstance(origin, dict) and origin.get("path") == source
