"""Formats that libraries of others read, each file in a process of its own: what they do to it costs one line.

Those libraries are written in C++ and Rust, and not for files that may be broken: such a file can end the process, take
all memory or never come to an end. So the process has limits of both, and hands back nothing but arrays of numbers.
"""

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.base.text import brief, one_line
from lvdreg.scan.readers.raw import RawScan

_MEMORY = 4 << 30
_SECONDS, _SECONDS_PER_BYTE = 15.0, 1e-7
_REFUSED = 3
_ARRAYS = ("points", "faces", "normals", "colors", "viewpoint")


@dataclass(frozen=True)
class Library:
    """What a format is called, the modules that read it, and the extra of lvdreg that installs them."""

    what: str
    modules: tuple[str, ...]
    extra: str

    def check(self) -> None:
        """Refuse what cannot be read here.

        Raises:
            ScanError: a module is not installed.
        """
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if missing:
            raise ScanError(
                f"{self.what} needs {missing[0]}, which is not installed: pip install 'lvdreg[{self.extra}]'"
            )


LIBRARIES: dict[str, Library] = {
    "las": Library("a LAS file", ("laspy",), "las"),
    "laz": Library("a LAZ file", ("laspy", "lazrs"), "las"),
    "e57": Library("an E57 file", ("pye57",), "e57"),
    "fbx": Library("an FBX file", ("assimp_py",), "models"),
    "3ds": Library("a 3DS file", ("assimp_py",), "models"),
    "dae": Library("a COLLADA file", ("assimp_py",), "models"),
    "usd": Library("a USD scene", ("pxr",), "usd"),
    "exr": Library("an EXR image", ("OpenEXR",), "exr"),
    "draco": Library("a glTF packed by Draco", ("DracoPy",), "packed"),
    "meshopt": Library("a glTF packed by meshopt", ("meshopt",), "packed"),
}
"""By format."""


def read_isolated(kind: str, path: Path) -> RawScan:
    """Read a file by the library of its kind, a key of ``LIBRARIES``.

    Raises:
        ScanError: the library is missing, or the file is damaged, or too much for the limits.
    """
    with tempfile.TemporaryDirectory(prefix="lvdreg-") as folder:
        found = _run(kind, path, Path(folder))
        notes, files = found.pop("notes", None), found.pop("files", None)
        texts = {} if notes is None else {"notes": tuple(map(str, notes.tolist()))}
        hashes = {} if files is None else {"files": {str(name): str(digest) for name, digest in files.tolist()}}
        unit = found.pop("unit", None)
        return RawScan(**found, **texts, **hashes, unit=None if unit is None else str(unit))  # type: ignore[arg-type]


def exr_depth(data: bytes) -> NDArray[Any]:
    """Return the depths of an EXR image, (H, W).

    Raises:
        ScanError: as ``read_isolated``.
    """
    with tempfile.TemporaryDirectory(prefix="lvdreg-") as folder:
        path = Path(folder, "depth.exr")
        path.write_bytes(data)
        return _run("exr", path, Path(folder))["points"]


def _run(kind: str, path: Path, folder: Path) -> dict[str, NDArray[Any]]:
    """Let a process read a file, and return its arrays."""
    LIBRARIES[kind].check()
    what, out = LIBRARIES[kind].what, folder / "out.npz"
    # No module is looked for in the folder where this happens to run.
    command = [sys.executable, "-P", "-W", "ignore", "-m", __name__, kind, str(path.absolute()), str(out)]
    seconds = _SECONDS + _SECONDS_PER_BYTE * path.stat().st_size
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise ScanError(f"expected {what}, got one that takes over {seconds:.0f} s to read; export it again") from None
    except OSError as error:
        raise ScanError(f"{what} could not be read: no process could be started ({brief(error)})") from None
    if done.returncode == _REFUSED:
        raise ScanError(one_line(done.stdout.decode("utf-8", "replace"))[:300])
    if done.returncode or not out.exists():
        raise ScanError(
            f"expected {what}, got one that {LIBRARIES[kind].modules[-1]} cannot read (it ended with status "
            f"{done.returncode}); it is damaged, or needs over {_MEMORY >> 30} GiB: export it again, or as PLY"
        )
    with np.load(out, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def main(kind: str, path: str, out: str) -> int:
    """Read one file, as the process that does nothing else; returns its exit status."""
    with contextlib.suppress(ImportError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from lvdreg.scan.readers.others import read

    try:
        found = read(kind, Path(path))
    except MemoryError:
        return _refuse(
            f"expected {LIBRARIES[kind].what}, got one that needs over {_MEMORY >> 30} GiB: damaged, or to be thinned"
        )
    except ScanError as error:
        return _refuse(str(error))
    except BaseException as error:  # noqa: BLE001 - libraries raise whatever a damaged file leads to, panics of Rust, too
        return _refuse(f"expected {LIBRARIES[kind].what}, got a damaged one ({brief(error)}); copy or export it again")
    arrays: dict[str, Any] = {name: getattr(found, name) for name in _ARRAYS if getattr(found, name) is not None}
    arrays |= {"notes": np.array(found.notes, str)} if found.notes else {}
    arrays |= {"files": np.array(list(found.files.items()), str)} if found.files else {}
    arrays |= {"unit": np.array(found.unit)} if found.unit else {}
    np.savez(out, **arrays)
    return 0


def _refuse(reason: str) -> int:
    sys.stdout.buffer.write(reason.encode("utf-8", "replace"))
    return _REFUSED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
