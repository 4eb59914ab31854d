"""Datasets on disk: rendered people with everything that is known of them, in shards that numpy alone can read.

A folder holds ``plan.json`` (what was asked for, written first), ``shard-NNNNNN.npz`` and ``manifest.json`` (what came
out, written last). Rows of a shard's image arrays are pictures; ``version`` says which row of its version arrays, one
person in one pose and shape, a picture shows. docs/dataset.md has every array with its shape, unit and frame.
"""

import json
import os
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.arrays import Npz, open_npz
from lvdreg.base.disk import write_file
from lvdreg.base.errors import DatasetError
from lvdreg.base.files import parse_json
from lvdreg.base.files import read_json as parse_file
from lvdreg.base.provenance import sha256_of
from lvdreg.base.text import brief, one_line, shown

Arrays = dict[str, NDArray[Any]]

FORMAT, FORMAT_VERSION = "lvdreg-dataset", 1
PLAN, MANIFEST, PREVIEW = "plan.json", "manifest.json", "preview.png"
IMAGE_CHANNELS = ("image", "mask", "depth", "normals", "parts", "rest")
"""Arrays (N, S, S, ...) of which each costs disk, so that each may be left out."""
VERSION_CHANNELS = ("scan",)
"""What a scanner sees of a version: ``scan_points``, ``scan_normals`` and ``scan_valid``."""
CHANNELS = (*IMAGE_CHANNELS, *VERSION_CHANNELS)
SCAN_ARRAYS = ("scan_points", "scan_normals", "scan_valid")
VERSION_ARRAYS = frozenset({
    "vertices", "joints", "betas", "pose", "transl", "shape_change", "source", "pose_kind", "pose_number",
    "shape_number", "seed", "tries", *SCAN_ARRAYS,
})  # fmt: skip
"""Arrays with a row for each version; all others but ``ABOUT`` have a row for each picture."""
_LONGEST_LIST = 300
MAX_SIZE = 8192
"""Pixels of a picture's side."""
ABOUT = "about"
"""JSON text in every shard: format, plan, and the draws that were rejected."""
COMPRESSION = 4
"""Of zlib: as small as 6 to a few percent, in half the time."""


def encode_normals(normals: NDArray[np.float32]) -> NDArray[np.int8]:
    """Store unit vectors as int8; divided by 127 they are unit to half a degree. Zeros stay zeros."""
    return np.rint(127 * np.nan_to_num(normals)).astype(np.int8)


def encode_rest(rest: NDArray[np.float32], mask: NDArray[np.bool_], box: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Store places on the mean person as uint16.

    Args:
        rest: (..., 3) metres.
        mask: (...) where there is a person; elsewhere 0 is stored.
        box: (2, 3) lower and upper corner of all places, which become 1 and 65535.
    """
    share = (np.nan_to_num(rest) - box[0]) / (box[1] - box[0])
    return (np.rint(1 + 65534 * share.clip(0, 1)) * mask[..., None]).astype(np.uint16)


def decode_rest(stored: NDArray[np.uint16], box: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return places on the mean person, metres; NaN where there is none. See ``encode_rest``."""
    places = box[0] + (stored.astype(np.float64) - 1) / 65534 * (box[1] - box[0])
    return np.where(stored.any(-1, keepdims=True), places, np.nan).astype(np.float32)


def part_type(num_joints: int) -> type[np.uint8] | type[np.uint16]:
    """Return the type of numbers of parts; its largest value stands for nobody."""
    return np.uint8 if num_joints < 255 else np.uint16


def layout(
    size: int, vertices: int, joints: int, betas: int, channels: Sequence[str], points: int
) -> dict[str, tuple[tuple[int, ...], type[Any]]]:
    """Return shape (without the leading axis) and type of every array of a shard but ``about``.

    Args:
        size: Width and height S of the pictures.
        vertices: Of the body, V.
        joints: Likewise, J.
        betas: Likewise, K.
        channels: What is kept of pictures; see ``CHANNELS``.
        points: Points P of a scan.
    """
    f4, image = np.float32, (size, size)
    chosen: dict[str, tuple[tuple[int, ...], type[Any]]] = {
        "image": ((*image, 3), np.uint8), "mask": (image, np.uint8), "depth": (image, np.float16),
        "normals": ((*image, 3), np.int8), "parts": (image, part_type(joints)), "rest": ((*image, 3), np.uint16),
    }  # fmt: skip
    pictures: dict[str, tuple[tuple[int, ...], type[Any]]] = {
        "joints_px": ((joints, 3), f4), "version": ((), np.int32), "view": ((), np.int32), "light": ((), np.int32),
        "camera_rotation": ((3, 3), f4), "camera_translation": ((3,), f4), "camera_scale": ((), f4),
        "camera_perspective": ((), f4), "camera_centre": ((2,), f4), "light_sh": ((9, 3), f4),
        "light_direction": ((3,), f4), "light_colour": ((3,), f4), "light_shadow": ((), f4),
    }  # fmt: skip
    versions: dict[str, tuple[tuple[int, ...], type[Any]]] = {
        "vertices": ((vertices, 3), f4), "joints": ((joints, 3), f4), "betas": ((betas,), f4),
        "pose": ((joints, 3), f4), "transl": ((3,), f4), "shape_change": ((betas,), f4), "source": ((), np.str_),
        "pose_kind": ((), np.str_), "pose_number": ((), np.int32), "shape_number": ((), np.int32),
        "seed": ((), np.int64), "tries": ((), np.int32),
    }  # fmt: skip
    scans: dict[str, tuple[tuple[int, ...], type[Any]]] = {
        "scan_points": ((points, 3), f4), "scan_normals": ((points, 3), np.int8), "scan_valid": ((points,), np.bool_)
    }  # fmt: skip
    kept = {name: entry for name, entry in chosen.items() if name in channels}
    return kept | pictures | versions | (scans if "scan" in channels else {})


_SIZE = -1
_LAYOUT = layout(_SIZE, -2, -3, -4, CHANNELS, -5)
"""Of every array; negative are sizes that differ from dataset to dataset, equal ones are equal."""


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:06d}.npz"


_SHARD_NAME = re.compile(r"shard-\d{6,12}\.npz")


def write_shard(path: Path, arrays: Arrays) -> None:
    """Write arrays as an .npz whose bytes depend on nothing else; it appears under its name complete or not at all."""

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as archive:
            for name, array in sorted(arrays.items()):
                # An entry made from a name alone has zip's first date, 1980, and not the present one.
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)

    write_file(path, write)


def read_shard(path: Path, names: Iterable[str] | None = None) -> Arrays:
    """Read arrays of a shard.

    Args:
        path: The shard.
        names: Only these; None: all.

    Raises:
        DatasetError: the file is missing or damaged, or lacks one of the arrays.
    """
    with _opened(path) as shard:
        wanted = list(shard.names if names is None else names)
        lacking = [name for name in wanted if name not in shard.names]
        if lacking:
            there = one_line(", ".join(sorted(shard.names)))[:_LONGEST_LIST]
            raise DatasetError(f"{path}: expected the array {lacking[0]}, got {there}")
        return {name: shard.array(name) for name in wanted}


@contextmanager
def _opened(path: Path) -> Iterator[Npz]:
    """Open a shard; say what is wrong with it in one line."""
    try:
        with open_npz(path) as shard:
            yield shard
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such shard; run lvdreg augment again with the same settings") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: damaged ({brief(error, 250)}); remove it and run lvdreg augment again") from error


def json_text(value: Any) -> str:
    """Return JSON whose text depends on the value alone."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read ``plan.json`` or ``manifest.json``.

    Raises:
        DatasetError: it is missing, damaged, or of another format.
    """
    try:
        value = parse_file(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(_missing(path)) from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: damaged ({brief(error)}); make the dataset again") from error
    found = (value.get("format"), value.get("version")) if isinstance(value, dict) else (None, None)
    if found != (FORMAT, FORMAT_VERSION):
        came = " version ".join(one_line(str(word))[:40] for word in found)
        what = f"expected {FORMAT} version {FORMAT_VERSION}, got {came}"
        raise DatasetError(f"{path}: {what}; make the dataset again with lvdreg augment")
    return dict(value)


def _missing(path: Path) -> str:
    if path.name == MANIFEST and (path.parent / PLAN).exists():
        return f"{path.parent}: this dataset is not finished; run the same lvdreg augment again to go on"
    return f"{path.parent}: expected a dataset, found no {path.name}; lvdreg augment makes one"


@dataclass(frozen=True)
class Shard:
    """A line of the manifest.

    Attributes:
        file: Name in the dataset's folder.
        images: So many pictures.
        versions: So many people in one pose and shape.
        sha256: Of the file.
        bytes: Its size.
    """

    file: str
    images: int
    versions: int
    sha256: str
    bytes: int


def _shard(line: dict[str, Any]) -> Shard:
    """Read a line of the manifest.

    Raises:
        TypeError, ValueError: it is none, or names a file elsewhere.
    """
    shard = Shard(**line)
    if _SHARD_NAME.fullmatch(shard.file) is None or not all(type(n) is int for n in (shard.images, shard.versions)):
        raise ValueError(f"a shard in the place of {shown(line)}")
    return shard


class Dataset:
    """A finished dataset, opened for reading; nothing but the manifest is read before it is asked for.

    Attributes:
        folder: Where it lies.
        manifest: What ``manifest.json`` says.
        shards: Its shards.
    """

    def __init__(self, folder: str | Path, cache: int = 8) -> None:
        """Open a dataset.

        Args:
            folder: Where it lies.
            cache: So many shards are shuffled together, and kept in memory as far as their arrays were asked for.

        Raises:
            DatasetError: it is missing, not finished, damaged or of another format.
        """
        self.folder, self.cache = Path(folder), cache
        self.manifest = read_json(self.folder / MANIFEST)
        try:
            self.shards = tuple(_shard(shard) for shard in self.manifest["shards"])
            self.body, self.size = str(self.manifest["body"]["name"]), int(self.manifest["asked"]["size"])
            self.channels = tuple(channel for channel in self.manifest["asked"]["channels"] if channel in CHANNELS)
            self.rest_box = np.array(self.manifest["rest_box"], np.float64)
            if not 0 < self.size <= MAX_SIZE or self.rest_box.shape != (2, 3) or not np.isfinite(self.rest_box).all():
                raise ValueError("sizes that pictures and people have")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"damaged, lacks {brief(error)}"
            raise DatasetError(f"{self.folder / MANIFEST}: {reason}; make the dataset again") from error
        gone = [shard.file for shard in self.shards if not os.path.isfile(self.folder / shard.file)]
        if gone:
            raise DatasetError(
                f"{self.folder}: {len(gone)} shards are missing, {gone[0][:60]} first; run augment again"
            )
        for shard in self.shards:
            # The order of the rows is drawn before a shard is opened: a row takes more than a byte, however packed.
            if (
                not 0
                <= min(rows := (shard.images, shard.versions))
                <= max(rows)
                <= (self.folder / shard.file).stat().st_size
            ):
                raise DatasetError(
                    f"{self.folder / MANIFEST}: damaged, {shard.file} holds less; make the dataset again"
                )
        self._sizes: dict[int, int] = {_SIZE: self.size}
        self._kept: OrderedDict[tuple[int, str], NDArray[Any]] = OrderedDict()
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def __len__(self) -> int:
        """Count the pictures."""
        return sum(shard.images for shard in self.shards)

    @property
    def num_versions(self) -> int:
        """How many people in one pose and shape there are."""
        return sum(shard.versions for shard in self.shards)

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compare every shard with its hash.

        Raises:
            DatasetError: one is not as it was written.
        """
        for i, shard in enumerate(self.shards):
            if sha256_of(self.folder / shard.file) != shard.sha256:
                raise DatasetError(f"{self.folder / shard.file}: damaged; remove it and run lvdreg augment again")
            if progress is not None:
                progress(i + 1, len(self.shards))

    def require(self, body: str | None = None, channels: Sequence[str] = ()) -> "Dataset":
        """Make sure that it is of use.

        Args:
            body: Whose vertices it should hold.
            channels: What it should hold.

        Raises:
            DatasetError: it is of another body, lacks a channel, or holds nothing.
        """
        if body is not None and self.body != body:
            raise DatasetError(
                f"{self.folder}: expected people of the body {body}, got {one_line(self.body)[:60]}; choose another"
            )
        lacking = [channel for channel in channels if channel not in self.channels]
        if lacking:
            wanted = ",".join((*self.channels, *lacking))
            raise DatasetError(f"{self.folder}: holds no {lacking[0]}; make it with --channels {wanted}")
        if not len(self):
            raise DatasetError(f"{self.folder}: expected pictures, got none: all versions were rejected")
        return self

    def names(self) -> tuple[str, ...]:
        """Return the names of the arrays."""
        with _opened(self.folder / self.shards[0].file) as shard:
            return tuple(name for name in shard.names if name != ABOUT)

    def sample(self, index: int, names: Iterable[str] | None = None) -> Arrays:
        """Return one picture and all that belongs to it, without the leading axis.

        Args:
            index: Which picture, 0 to ``len(self) - 1``.
            names: Only these arrays; None: all.

        Raises:
            DatasetError: its shard is missing or damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"expected a picture from 0 to {len(self) - 1}, got {index}")
        starts = np.cumsum([0, *(shard.images for shard in self.shards)])
        number = int(np.searchsorted(starts, index, "right")) - 1
        return self._rows(number, index - int(starts[number]), tuple(self.names() if names is None else names))

    def _rows(self, number: int, row: int, names: tuple[str, ...]) -> Arrays:
        """Return one picture of a shard."""
        version = int(self._array(number, "version")[row])
        if not 0 <= version < self.shards[number].versions:
            raise DatasetError(f"{self.folder / self.shards[number].file}: damaged, picture {row} shows no version")
        return {name: self._array(number, name)[version if name in VERSION_ARRAYS else row, ...] for name in names}

    def _array(self, number: int, name: str) -> NDArray[Any]:
        """Return an array of a shard, from memory if it was read lately."""
        key = (number, name)
        if key not in self._kept:
            path = self.folder / self.shards[number].file
            self._kept[key] = read_shard(path, [name])[name]
            self._check(path, self.shards[number], name, self._kept[key])
            numbers = list(OrderedDict.fromkeys(n for n, _ in self._kept))
            for old in [k for k in self._kept if k[0] in numbers[: -self.cache]]:
                del self._kept[old]
        return self._kept[key]

    def _check(self, path: Path, shard: "Shard", name: str, array: NDArray[Any]) -> None:
        """Refuse an array that is not as ``layout`` has it, or of other sizes than those before it.

        Raises:
            DatasetError: says what was expected.
        """
        rows = shard.versions if name in VERSION_ARRAYS else shard.images
        if name not in _LAYOUT:
            fits = array.ndim > 0 and len(array) == rows
        else:
            shape, kind = _LAYOUT[name]
            same = array.dtype == kind or kind is np.str_ or name == "parts"
            fits = (
                same and array.dtype.kind == np.dtype(kind).kind and array.ndim == 1 + len(shape) and len(array) == rows
            )
            sizes = zip(shape, array.shape[1:], strict=True) if fits else ()
            fits = fits and all(there == (self._sizes.setdefault(n, there) if n < 0 else n) for n, there in sizes)
        if not fits:
            what = f"{name} is {array.dtype} of shape {array.shape}, which does not fit the rest"
            raise DatasetError(f"{path}: damaged, {what}; remove it and run lvdreg augment again")

    def batch(self, number: int, size: int, names: Sequence[str], seed: int = 0, versions: bool = False) -> Arrays:
        """Return one batch of an endless shuffled sequence that passes all rows again and again.

        Any batch can be had at any time, so that training can be resumed; neighbouring ones cost least.

        Args:
            number: Which batch of the sequence.
            size: Rows B of a batch.
            names: Arrays wanted.
            seed: Which sequence.
            versions: Rows are versions instead of pictures.

        Returns:
            Arrays (B, ...) by name.

        Raises:
            DatasetError: a shard is missing or damaged.
        """
        total = self.num_versions if versions else len(self)
        picked: list[Arrays] = []
        for place in range(number * size, (number + 1) * size):
            shard, row = self._order(seed, place // total, versions)[place % total]
            if versions:
                picked.append({name: self._array(int(shard), name)[row] for name in names})
            else:
                picked.append(self._rows(int(shard), int(row), tuple(names)))
        return {name: np.stack([rows[name] for rows in picked]) for name in names}

    def batches(
        self, size: int, names: Sequence[str], seed: int = 0, start: int = 0, versions: bool = False
    ) -> Iterator[Arrays]:
        """Yield the batches of an endless shuffled sequence from number ``start`` on; see ``batch``."""
        number = start
        while True:
            yield self.batch(number, size, names, seed, versions)
            number += 1

    def _shuffled(self, seed: int, epoch: int, versions: bool) -> NDArray[np.int64]:
        """Return (T, 2) shard and row of every row in the order of one pass: few shards at a time, well mixed."""
        rng = np.random.default_rng([seed % 2**63, epoch])
        counts = [shard.versions if versions else shard.images for shard in self.shards]
        passed: list[NDArray[np.int64]] = []
        order = rng.permutation(len(self.shards))
        for first in range(0, len(order), self.cache):
            group = [
                np.stack([np.full(counts[i], i), np.arange(counts[i])], 1) for i in order[first : first + self.cache]
            ]
            passed.append(rng.permutation(np.concatenate(group)))
        return np.concatenate(passed)


def tally(shards: Iterable[dict[str, Any]], key: str) -> dict[str, int]:
    """Add up what the ``about`` of shards count by reason."""
    total: Counter[str] = Counter()
    for about in shards:
        total.update(about[key])
    return dict(sorted(total.items()))


def about_of(path: Path) -> dict[str, Any]:
    """Read what a shard says of itself.

    Raises:
        DatasetError: it is missing or damaged.
    """
    try:
        return dict(parse_json(str(read_shard(path, [ABOUT])[ABOUT]).encode()))
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{path}: damaged ({brief(error)}); remove it and run lvdreg augment again") from error
