"""What files are that people hand in by mistake, told from how they begin, and what to do with them."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lvdreg.base.arrays import member_names
from lvdreg.base.text import brief

ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""How zip archives begin: with a file, with nothing in them, or cut into parts."""
_MODELLED = "export it as PLY, OBJ or GLB"
_UNPACK = "unpack it and give what is in it"

_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"Kaydara FBX", "an FBX file", _MODELLED),
    (b"BLENDER", "a Blender file", _MODELLED),
    (b"PXR-USDC", "a USD scene", _MODELLED),
    (b"#usda", "a USD scene", _MODELLED),
    (b"LASF", "a LAS file", "export it as PLY"),
    (b"ASTM-E57", "an E57 file", "export it as PLY"),
    (b"ISO-10303-21", "a STEP file", "export it as STL"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7-zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\xfd7zXZ", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"\x89PNG", "a PNG picture", "lvdreg image registers photos"),
    (b"\xff\xd8\xff", "a JPEG picture", "lvdreg image registers photos"),
    (b"%PDF", "a PDF document", "give the file itself"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it by: git lfs pull"),
    (b"<!DOCTYPE", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"<?xml", "an XML file", _MODELLED),
    (b"\x80\x04\x95", "a Python pickle", "save its arrays as npz"),
    (b"\xd0\xcf\x11\xe0", "an Office document", "export its table as CSV"),
    (b"SQLite format 3", "a database", "export its table as CSV"),
)
"""First bytes, what such a file is, and what to do with it where a scan is wanted."""

_IN_ZIP: tuple[tuple[str, str, str], ...] = (
    ("*.usdc", "a USDZ scene", _MODELLED),
    ("*.usda", "a USDZ scene", _MODELLED),
    ("*.usd", "a USDZ scene", _MODELLED),
    ("3D/*.model", "a 3MF model", "export it as STL, PLY or OBJ"),
    ("word/*", "a Word document", "give the file itself"),
    ("xl/*", "an Excel workbook", "export its table as CSV"),
    ("ppt/*", "a PowerPoint document", "give the file itself"),
    ("content.xml", "an OpenDocument file", "export its table as CSV"),
    ("*.kml", "a KMZ file", _MODELLED),
    ("*/data.pkl", "a PyTorch file", "save its arrays as npz"),
)
"""Patterns of names in a zip archive, what such an archive is, and what to do with it."""


@dataclass(frozen=True)
class Foreign:
    """What a file is, with its article, and what to do with it."""

    what: str
    remedy: str


def foreign_kind(source: bytes | Path, suffixes: Collection[str] = ()) -> Foreign | None:
    """Say what a file is if it is of another kind than any that lvdreg reads; None where that is not known.

    Args:
        source: Its content; of a zip archive also where it lies.
        suffixes: In lower case, of files that are wanted: an archive that holds one is to be unpacked.
    """
    if isinstance(source, Path) or source.startswith(ZIP):
        return _zip_kind(source, suffixes)
    return next((Foreign(what, remedy) for magic, what, remedy in _BEGINNINGS if source.startswith(magic)), None)


def _zip_kind(source: bytes | Path, suffixes: Collection[str]) -> Foreign | None:
    """Say what a zip archive is; None of numpy's."""
    try:
        names = [name for name in member_names(source) if not name.endswith("/")]
    except ValueError as error:
        return Foreign(f"a damaged zip archive ({brief(error)})", "copy or download it again")
    if not names:
        return Foreign("an empty zip archive", _UNPACK)
    if any(name.endswith(".npy") for name in names):
        return None
    paths = [PurePosixPath(name) for name in names]
    for pattern, what, remedy in _IN_ZIP:
        if any(path.match(pattern) for path in paths):
            return Foreign(what, remedy)
    wanted = next((path.name for path in paths if path.suffix.lower() in suffixes), None)
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Foreign(
        f"a zip archive of {(wanted or paths[0].name)[:60]}{others}",
        f"unpack it and give {wanted[:60]}" if wanted else _UNPACK,
    )


def inside(folder: Path, suffixes: Collection[str], wanted: str) -> str:
    """Say what is in a folder that was given for a file, and what to do: the end of a sentence.

    Args:
        folder: What was given.
        suffixes: In lower case, of files that can be read.
        wanted: What such a file is called.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return f" that cannot be read ({error.strerror}); name a file"
    usable = next((name for name in names if PurePosixPath(name).suffix.lower() in suffixes), None)
    if usable is not None:
        return f"; name a file in it, such as {usable}"
    kinds = sorted({path.suffix.lower() or path.name for path in (folder / name for name in names) if path.is_file()})
    found = f"only {', '.join(kinds[:5])}" if kinds else f"only folders ({names[0]})" if names else "nothing"
    supported = ", ".join(sorted(suffix[1:] for suffix in suffixes))
    return f" with {found} in it; name a {wanted}, or a folder of them; supported are {supported}"
