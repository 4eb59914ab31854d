"""Which files had a part in a result, by content."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lvdreg.base.files import open_plain

FileHashes = dict[str, str]
"""SHA-256 by the name of the file: ``weights/voxel-anny.safetensors``."""


@dataclass(frozen=True)
class InputFile:
    """The file that a scan or a photo was read from: its absolute path, and the SHA-256 of the bytes that were read."""

    path: str
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: it cannot be read, or is a pipe or the like.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def looks_of(paths: Iterable[Path | str]) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of change of files, and of those in folders; of what cannot be read nothing."""
    for path in paths:
        try:
            if os.path.isdir(path):
                yield from looks_of(sorted(entry.path for entry in os.scandir(path)))
            else:
                about = os.stat(path)
                yield os.path.basename(path), about.st_size, about.st_mtime_ns
        except OSError:
            continue


def input_file(path: Path, content: bytes) -> InputFile:
    """Note where something was read from, and what was read."""
    return InputFile(str(path.absolute()), hashlib.sha256(content).hexdigest())
