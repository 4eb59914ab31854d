"""Which reader takes which file: one table by suffix, checked against what the file really holds."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lvdreg.base.arrays import member_names
from lvdreg.base.errors import ScanError
from lvdreg.base.files import as_utf8, has_mark, not_a_file, read_bytes
from lvdreg.base.foreign import foreign_kind, inside
from lvdreg.base.provenance import input_file
from lvdreg.scan.readers import depth, gltf, obj, off, pcd, ply, stl, table
from lvdreg.scan.readers.camera import PRESETS, camera_of
from lvdreg.scan.readers.isolated import LIBRARIES, read_isolated
from lvdreg.scan.readers.raw import MAX_ROWS, RawScan

MAX_BYTES = 2 << 30
MAX_TEXT_BYTES = 512 << 20
"""Text takes several times its own size while it is parsed; ten million vertices fit."""
MAX_BLOCK_TEXT_BYTES = MAX_BYTES
"""Of text that is parsed some megabytes at a time, OBJ and tables: twenty million points or faces fit."""
_SNIFF_BYTES = 4096

READERS: dict[str, Callable[[bytes], RawScan]] = {
    "ply": ply.read_ply,
    "obj": obj.read_obj,
    "stl": stl.read_stl,
    "off": off.read_off,
    "glb": gltf.read_gltf,
    "gltf": gltf.read_gltf,
    "pcd": pcd.read_pcd,
    "xyz": table.read_text,
    "npy": table.read_npy,
    "npz": table.read_npz,
}
"""One reader per format, from the file's bytes."""

SUFFIXES: dict[str, str] = (
    {f".{name}": name for name in READERS}
    | dict.fromkeys((".pts", ".txt", ".csv", ".asc", ".xyzn", ".xyzrgb"), "xyz")
    | {f".{name}": name for name in ("las", "laz", "e57", "fbx", "3ds", "dae", "usd")}
    | dict.fromkeys((".usda", ".usdc", ".usdz"), "usd")
)
"""Format by suffix, in lower case; depth images and their JSON files are scans only where they are named."""


def read_raw(path: Path, camera: str | Path | None = None) -> RawScan:
    """Read a file of any supported format; nothing is cleaned.

    The content decides over the suffix where the two disagree; that is noted.

    Args:
        path: The file.
        camera: What a depth image was taken with; see ``readers.camera.camera_of``.

    Raises:
        ScanError: missing, empty, too large, of no supported format, or damaged; the message names the file.
    """
    content = _load(path)
    named = SUFFIXES.get(path.suffix.lower())
    # The header of a binary STL may say anything: that it is of another format, or text with a byte-order mark.
    fits = stl.looks_binary(content) or (named == "stl" and stl.may_be_binary(content))
    is_stl = fits and not stl.is_text(as_utf8(content[:_SNIFF_BYTES]))
    data = content if is_stl else _without_mark(path, content)
    kind = "stl" if is_stl else _choose(path, data, named, camera is not None)
    _check_text(path, data, kind)
    try:
        with np.errstate(all="ignore"):  # damaged floats: NaN and infinity are removed in cleaning
            raw = _read(kind, path, data, camera)
    except ScanError as error:
        raise ScanError(f"{path.name}: {error}") from None
    except MemoryError:
        raise ScanError(f"{path.name}: not enough memory to read it; thin the scan first") from None
    if not len(raw.points):
        raise ScanError(f"{path.name}: expected points, got an empty {kind} file; export it again")
    if len(raw.points) > MAX_ROWS:
        raise ScanError(f"{path.name}: {len(raw.points)} points are over the limit of {MAX_ROWS}; thin the scan first")
    if named not in (None, kind) and kind != "depth" and {named, kind} not in _ALIKE:
        raw = replace(raw, notes=(*raw.notes, f"named {path.suffix} but holds {kind} data: read as {kind}"))
    return replace(raw, source=input_file(path, content))


_ALIKE = ({"glb", "gltf"}, {"las", "laz"})


def _read(kind: str, path: Path, data: bytes, camera: str | Path | None) -> RawScan:
    if kind == "depth":
        if camera is None:
            raise ScanError(
                f"it is a depth image: say which camera took it, by --camera FILE.json or one of {', '.join(PRESETS)}"
            )
        return depth.read_depth(data, camera_of(camera))
    if camera is not None:
        raise ScanError(f"--camera is for depth images, but this is a {kind} file; leave it out")
    if kind == "views":
        return depth.read_views(data, path.parent)
    if kind in ("glb", "gltf"):
        packed = gltf.packed_by(data)
        return gltf.read_gltf(data, path.parent) if packed is None else read_isolated(packed, path)
    return read_isolated(kind, path) if kind in LIBRARIES else READERS[kind](data)


def _load(path: Path) -> bytes:
    what = not_a_file(path)
    if what == "a folder":
        raise ScanError(f"{path}: expected a scan file, got a folder{inside(path, SUFFIXES, 'scan')}")
    if what is not None:
        raise ScanError(f"{path}: expected a scan file, got {what}; save what it gives to a file first")
    try:
        size = path.stat().st_size
        if size == 0:
            raise ScanError(f"{path.name}: the file is empty (0 bytes); copy or export it again")
        if size > MAX_BYTES:
            raise ScanError(f"{path.name}: {size / 2**30:.1f} GiB is over the limit of 2 GiB; thin the scan first")
        return read_bytes(path, MAX_BYTES)
    except FileNotFoundError:
        raise ScanError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # a null byte in the path is a ValueError
        raise ScanError(f"{path}: cannot be opened ({error}); check the path and its permissions") from None


def _without_mark(path: Path, data: bytes) -> bytes:
    """Return a file without a byte-order mark, text of UTF-16 as UTF-8.

    Raises:
        ScanError: it is too much.
    """
    if has_mark(data):
        _check_text(path, data, "text")
    return as_utf8(data)


def _check_text(path: Path, data: bytes, kind: str) -> None:
    """Refuse more text than memory takes."""
    limit = MAX_BLOCK_TEXT_BYTES if kind in ("obj", "xyz") else MAX_TEXT_BYTES
    if len(data) > limit and (has_mark(data) or b"\0" not in data[: 1 << 20]):
        size = f"{len(data) / 2**20:.0f} MiB of text are over the limit of {limit / 2**20:.0f} MiB"
        raise ScanError(f"{path.name}: {size}; thin the scan, or save it as binary PLY")


def _choose(path: Path, data: bytes, named: str | None, has_camera: bool) -> str:
    """Return the format of a file, from its content where that is clear; all pictures are depths with a camera."""
    if depth.is_depth_image(data) or (has_camera and data.startswith(_PICTURES)):
        return "depth"
    others = _sniff_others(data)
    if others is not None:
        return others
    foreign = foreign_kind(data, SUFFIXES)
    if foreign is not None:
        raise ScanError(f"{path.name}: expected a 3D scan, got {foreign.what}; {foreign.remedy}")
    kind = sniff(data) or named
    if kind is None:
        raise ScanError(f"{path.name}: not a supported scan file; supported are {_names()}, and depth images")
    return kind


_PICTURES = (b"\x89PNG", b"P5", b"P2", b"\x93NUMPY")
_BEGINNINGS = (
    (rb"LASF(?s:.{100})[\x80-\xff]", "laz"), (rb"LASF", "las"), (rb"ASTM-E57", "e57"), (rb"Kaydara FBX|;\s*FBX", "fbx"),
    (rb"PXR-USDC|#usda", "usd"), (rb"\s*<(?s:.{0,500}?)COLLADA\b", "dae"),
)  # fmt: skip


def _holds_usd(archive: bytes) -> bool:
    try:
        return any(name.lower().endswith((".usd", ".usda", ".usdc")) for name in member_names(archive))
    except ValueError:
        return False


def _sniff_others(data: bytes) -> str | None:
    """Tell formats that libraries of others read."""
    head = data[:_SNIFF_BYTES]
    found = next((kind for beginning, kind in _BEGINNINGS if re.match(beginning, head)), None)
    if found is None and head.startswith(b"MM") and int.from_bytes(data[2:6], "little") == len(data):
        return "3ds"
    if found is None and head.startswith(b"PK\x03\x04") and _holds_usd(data):
        return "usd"
    return found


def _names() -> str:
    return ", ".join(suffix[1:] for suffix in SUFFIXES)


def sniff(data: bytes) -> str | None:
    """Tell the format from the content; None where it says nothing certain."""
    head = data[:_SNIFF_BYTES]
    binary = {b"glTF": "glb", b"\x93NUMPY": "npy", b"PK\x03\x04": "npz"}
    for magic, kind in binary.items():
        if head.startswith(magic):
            return kind
    if re.match(rb"ply[ \t]*[\r\n]", head):
        return "ply"
    is_solid = re.match(rb"\s*solid\b", head, re.IGNORECASE)
    if stl.looks_binary(data) or (is_solid and (stl.may_be_binary(data) or b"facet" in head.lower())):
        return "stl"
    if re.match(rb"(\s*#[^\r\n]*[\r\n])*\s*(VERSION|FIELDS)\s", head):
        return "pcd"
    return None if b"\0" in head else _sniff_text(head)


def _sniff_text(head: bytes) -> str | None:
    if off.HEADER.match(head):
        return "off"
    if re.match(rb"(\s*#[^\r\n]*[\r\n])*\s*(v|vn|vt|f|o|g|s|mtllib|usemtl)[ \t]+\S", head):
        return "obj"
    if re.match(rb"\s*\{", head) and b'"asset"' in head:
        return "gltf"
    if re.match(rb"\s*\{", head) and b'"views"' in head:
        return "views"
    # A bare list of counts and vertices is OFF by its suffix only; anything may be a table of numbers.
    return None
