"""Arrays in files: npy and npz that users bring, parsed by numpy, held against the file's size before they are made.

Nothing is unpickled. An npz unpacks to at most ``MAX_RATIO`` times its own size (small ones to ``SMALL_BYTES``), all
arrays that are read of it together.
"""

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast, runtime_checkable

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lvdreg.base.files import open_plain, plain_size
from lvdreg.base.text import brief, shown

MAX_RATIO = 200
"""Of what an npz unpacks to, to its size: arrays of zeros reach 1000, whole models and scans stay below 10."""
SMALL_BYTES = 64 << 20
MAX_BYTES = 4 << 30
_MAX_READ = 1 << 20
"""No single read of an npz takes more. The zip module reads the list of members at once and makes 15 times as much of
it: some 20,000 members are taken."""

_KINDS = "biufcSU"
"""Numbers and words; of records and dates nothing here is made."""
_LAST_CHARACTER = 0x10FFFF

_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, ValueError, TypeError, KeyError,
    IndexError, AttributeError, OverflowError, MemoryError, RecursionError, NotImplementedError, RuntimeError,
    SyntaxError, tokenize.TokenError, Warning,
)  # fmt: skip
"""What zip module and numpy raise on damaged bytes; a warning, where warnings are errors."""


@runtime_checkable
class Stream(Protocol):
    """Bytes that are read: a file, a member of an archive, or what is in memory."""

    def read(self, count: int = -1, /) -> bytes:
        """Return the next bytes, all that are left when negative."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go elsewhere."""
        ...

    def tell(self) -> int:
        """Return the place."""
        ...


Objects = Callable[[bytes], Any]
"""Makes something of the pickle that follows the header of an array of objects."""


def read_npy(stream: Stream, size: int, objects: Objects | None = None) -> Any:
    """Read one array.

    Args:
        stream: At its beginning; can seek.
        size: Bytes in it.
        objects: What becomes of an array of objects; they are refused when None.

    Returns:
        The array, or what ``objects`` returns.

    Raises:
        ValueError: no array, or one that claims more than ``size``.
    """
    with _damage():
        version = npy.read_magic(stream)
        if version not in {(1, 0), (2, 0), (3, 0)}:
            raise ValueError(f"npy format {version[0]}.{version[1]} is unknown")
        # Formats 2 and 3 differ in the alphabet of field names, which nothing here asks for.
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if dtype.hasobject:
            if objects is None:
                raise ValueError("it holds Python objects, not numbers")
            return objects(_rest(stream))
        count, left = math.prod(shape), size - stream.tell()
        if min(shape, default=0) < 0 or count * max(1, dtype.itemsize) > left:
            raise ValueError(f"its header promises {count} values of {dtype}, but only {left} bytes follow")
        if dtype.kind not in _KINDS:
            raise ValueError(f"it holds {shown(str(dtype))}, neither numbers nor words")
        stream.seek(0)
        array = npy.read_array(stream, allow_pickle=False)
        # numpy looks at them only when words are made of them, and gives up as if it were itself at fault.
        if dtype.kind == "U" and dtype.itemsize and _characters(array).max(initial=0) > _LAST_CHARACTER:
            raise ValueError("its words hold characters that there are not")
        return array


def _characters(words: NDArray[Any]) -> NDArray[Any]:
    """Return the code points of words, those that are too short filled up with zeros."""
    numbers = np.dtype(np.uint32).newbyteorder(words.dtype.byteorder)
    return np.ascontiguousarray(words).reshape(-1).view(numbers)


def expect(arrays: Mapping[str, NDArray[Any]], name: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return one of the arrays that a file holds, if it is what it should be.

    Args:
        arrays: By name.
        name: Which.
        kinds: Letters of numpy's kinds of types that it may be of: "f" for fractions, "iu" for whole numbers ...
        shape: Its sizes; None matches any.

    Raises:
        ValueError: it is not there, of another type or shape, or not finite.
    """
    if name not in arrays:
        raise ValueError(f"it lacks the array {name}")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in kinds:
        raise ValueError(f"the array {name} is {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"the array {name} has numbers that are not finite")
    return array


class Npz:
    """An npz file opened for reading.

    Attributes:
        names: Of the arrays in it.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        """Take an opened archive and its size in bytes."""
        self._archive = archive
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        self._left = min(max(SMALL_BYTES, MAX_RATIO * size), MAX_BYTES)
        self.names = tuple(self._members)

    def array(self, name: str, objects: Objects | None = None) -> Any:
        """Read one array; see ``read_npy``.

        Raises:
            ValueError: it is damaged, would unpack to too much, or holds objects and ``objects`` is None.
        """
        info = self._members[name]
        self._left -= info.file_size
        if self._left < 0:
            raise ValueError(
                f"array {shown(name)} would unpack to {info.file_size} bytes, too many for the size of the file"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # numpy writes no others, and of those the zip module unpacks all at once, whatever is asked for.
            raise ValueError(f"array {shown(name)} is packed by method {info.compress_type}; save it by numpy")
        with _damage(), self._archive.open(info) as member:
            return read_npy(member, info.file_size, objects)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Read all arrays, none of them of objects.

        Raises:
            ValueError: as ``array``.
        """
        return {name: self.array(name) for name in self.names}


@contextmanager
def open_npz(source: Path | bytes) -> Iterator[Npz]:
    """Open an npz file, or its bytes.

    Raises:
        OSError: the file cannot be opened, or is a pipe or the like.
        ValueError: it is no npz file, or a damaged one.
    """
    size = len(source) if isinstance(source, bytes) else plain_size(source)
    with io.BytesIO(source) if isinstance(source, bytes) else open_plain(source) as file:
        with _damage():
            npz = Npz(zipfile.ZipFile(cast("BinaryIO", _Sparing(file))), size)
        yield npz


def member_names(source: Path | bytes) -> tuple[str, ...]:
    """Return the names of what is in a zip archive of any kind.

    Raises:
        OSError: the file cannot be opened, or is a pipe or the like.
        ValueError: it is none, or a damaged one.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open_plain(source) as file, _damage():
        return tuple(zipfile.ZipFile(cast("BinaryIO", _Sparing(file))).namelist())


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file, none of them of objects.

    Raises:
        OSError: the file cannot be opened, or is a pipe or the like.
        ValueError: it is no npz file, damaged, or holds objects.
    """
    with open_npz(path) as npz:
        return npz.arrays()


class _Sparing:
    """A file that never gives much at once."""

    def __init__(self, file: BinaryIO | io.BytesIO) -> None:
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close
        self._file = file

    def read(self, count: int = -1) -> bytes:
        """Read as files do, up to a limit."""
        data = self._file.read(_MAX_READ + 1 if count < 0 else min(count, _MAX_READ + 1))
        if len(data) > _MAX_READ:
            raise ValueError("its list of members is too long")
        return data


def _rest(stream: Stream) -> bytes:
    return b"".join(iter(lambda: stream.read(_MAX_READ), b""))


@contextmanager
def _damage() -> Iterator[None]:
    """Turn whatever damaged bytes raise into one line."""
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(brief(error)) from error


def write_npz(file: Path | BinaryIO | io.BytesIO, arrays: Mapping[str, Any]) -> None:
    """Write arrays as a compressed npz that needs no pickle.

    Raises:
        ValueError: one of them holds objects.
    """
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in plain.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name}: expected numbers or words, got Python objects")
    # Its argument allow_pickle is an array to numpy before 2.2: it would be written, too.
    savez: Any = np.savez_compressed
    savez(file, **plain)
