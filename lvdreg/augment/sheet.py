"""A picture of a dataset to look at: samples from all of it, and one of them with everything that is stored."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.disk import write_file
from lvdreg.base.errors import DatasetError
from lvdreg.base.text import brief
from lvdreg.dataset import PREVIEW, Arrays, Dataset, decode_rest

if TYPE_CHECKING:
    from PIL import Image

TILE, COLUMNS, ROWS, NAME = 160, 10, 6, 14
"""Sizes in pixels and tiles; the last is the height of the name over a tile."""
GREY = 215
LINE = 20
Picture = NDArray[np.uint8]


def write_sheet(folder: str | Path) -> Path:
    """Draw the contact sheet of a dataset into its folder; return its path.

    Raises:
        DatasetError: it is missing, not finished or damaged.
    """
    dataset = Dataset(folder)
    try:
        with np.errstate(all="ignore"):  # numbers that are none fall outside of the pictures
            sheet = contact_sheet(dataset)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DatasetError(f"{dataset.folder}: damaged, cannot be drawn ({brief(error)}); make it again") from error
    path = dataset.folder / PREVIEW
    write_file(path, lambda part: sheet.save(part, "PNG"))
    return path


def contact_sheet(dataset: Dataset) -> "Image.Image":
    """Draw samples from all of a dataset, then one in every channel; no more are read than are shown."""
    from PIL import Image, ImageDraw

    picked = pick(len(dataset), COLUMNS * ROWS)
    tiles = [_front(dataset, int(index)) for index in picked]
    channels = _channels(dataset, int(picked[len(picked) // 2])) if len(picked) else []
    lines = _words(dataset)
    rows = -(-len(tiles) // COLUMNS)
    height = (TILE + NAME) * rows + (TILE + LINE) * bool(channels) + LINE * len(lines)
    sheet = Image.new("RGB", (TILE * COLUMNS, height), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        pen.text((6, 4 + LINE * i), line, (0, 0, 0))
    top = LINE * len(lines)
    for i, (name, tile) in enumerate(tiles):
        left, upper = TILE * (i % COLUMNS), top + (TILE + NAME) * (i // COLUMNS)
        sheet.paste(_tile(tile), (left, upper + NAME))
        pen.text((left + 4, upper), name, (60, 60, 60))
    top += (TILE + NAME) * rows
    for i, (name, tile) in enumerate(channels[:COLUMNS]):
        pen.text((TILE * i + 4, top + 4), name, (0, 0, 0))
        sheet.paste(_tile(tile), (TILE * i, top + LINE))
    return sheet


def pick(total: int, count: int) -> NDArray[np.int64]:
    """Pick up to so many of all, evenly but a little shifted each, so that not all are the same view of a person."""
    if total <= count:
        return np.arange(total)
    even = np.arange(count) * total // count
    shift = (np.arange(count) * 5) % max(1, total // count)
    return np.minimum(even + shift, total - 1)


def _words(dataset: Dataset) -> list[str]:
    counts = dataset.manifest["counts"]
    rejected = dataset.manifest["draws_rejected"]
    first = (
        f"{counts['images']} pictures of {counts['versions']} versions ({counts['scans']} scans, "
        f"{counts['characters']} characters), {dataset.size} x {dataset.size}, body {dataset.body}"
    )
    reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items()) or "none"
    lost = sum(dataset.manifest["versions_given_up"].values())
    return [first, f"draws rejected: {reasons}; versions given up: {lost}"]


def _front(dataset: Dataset, index: int) -> tuple[str, Picture]:
    """Return the name of a sample, and the best picture of it that is stored."""
    shown = next(
        (name for name in ("image", "normals", "depth", "parts", "mask", "rest") if name in dataset.channels), ""
    )
    names = [shown] if shown else []
    names += ["mask"] if "mask" in dataset.channels and shown == "image" else []
    sample = dataset.sample(index, [*names, "source", "pose_number", "shape_number", "joints_px"])
    words = f"{sample['source']} p{int(sample['pose_number'])} s{int(sample['shape_number'])}"
    return words, draw_channel(shown, sample, dataset) if shown else np.full((2, 2, 3), GREY, np.uint8)


def _channels(dataset: Dataset, index: int) -> list[tuple[str, Picture]]:
    sample = dataset.sample(index)
    drawn = [(name, draw_channel(name, sample, dataset)) for name in dataset.channels if name != "scan"]
    drawn.append(("joints", _dots(sample["joints_px"], dataset.size, 2)))
    drawn.append(("body", _body(sample, dataset.size)))
    if "scan" in dataset.channels:
        drawn.append(("scan", _seen(sample["scan_points"][sample["scan_valid"]], sample, dataset.size)))
    return drawn


def draw_channel(name: str, sample: Arrays, dataset: Dataset) -> Picture:
    """Draw one channel of a sample as a picture (S, S, 3)."""
    stored = sample[name]
    if name == "image":
        cover = sample["mask"][..., None] / 255 if "mask" in sample else 1.0
        return np.asarray(stored + (1 - cover) * GREY).clip(0, 255).astype(np.uint8)
    if name == "mask":
        return np.repeat(stored[..., None], 3, -1)
    if name == "depth":
        return _shades(stored.astype(np.float64))
    if name == "normals":
        there = stored.any(-1, keepdims=True)
        # Right is red, up is green, towards the viewer is blue, as is usual.
        return np.where(there, 127 + stored * [1.0, -1.0, -1.0], GREY).clip(0, 255).astype(np.uint8)
    if name == "parts":
        return _coloured(stored)
    places = decode_rest(stored, dataset.rest_box).astype(np.float64)
    share = 255 * (places - dataset.rest_box[0]) / (dataset.rest_box[1] - dataset.rest_box[0])
    return np.where(np.isnan(share), GREY, share).clip(0, 255).astype(np.uint8)


def _shades(depth: NDArray[np.float64]) -> Picture:
    there = np.isfinite(depth)
    out = np.full((*depth.shape, 3), GREY, np.uint8)
    if there.any():
        low, high = depth[there].min(), depth[there].max()
        out[there] = (235 - 200 * (depth[there] - low) / max(high - low, 1e-6))[:, None].astype(np.uint8)
    return out


def _coloured(parts: NDArray[Any]) -> Picture:
    """Give every part a colour; neighbours in number differ much."""
    angle = 2 * np.pi * 0.618034 * parts[..., None].astype(np.float64)
    colour = 140 + 90 * np.cos(angle + np.array([0.0, 2.1, 4.2]))
    return np.where((parts == np.iinfo(parts.dtype).max)[..., None], GREY, colour).astype(np.uint8)


def _dots(places: NDArray[Any], size: int, radius: int = 0) -> Picture:
    """Mark pixels (column, row)."""
    out = np.full((size, size, 3), 255, np.uint8)
    reach = range(-radius, radius + 1)
    for down, right in ((i, j) for i in reach for j in reach):
        row, column = (places[:, 1::-1].astype(np.int64) + [down, right]).T
        inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        out[row[inside], column[inside]] = 40
    return out


def project(points: NDArray[Any], sample: Arrays) -> NDArray[np.float64]:
    """Return column, row and depth of points in the world, by the camera that is stored with a sample."""
    seen = points.astype(np.float64) @ sample["camera_rotation"].T.astype(np.float64) + sample["camera_translation"]
    scale = sample["camera_scale"] / (1 + sample["camera_perspective"] * seen[:, 2:])
    return np.concatenate([sample["camera_centre"] + scale * seen[:, :2], seen[:, 2:]], 1)


def _body(sample: Arrays, size: int) -> Picture:
    return _dots(project(sample["vertices"], sample), size)


def _seen(points: NDArray[Any], sample: Arrays, size: int) -> Picture:
    return _dots(project(points, sample), size)


def _tile(picture: Picture) -> "Image.Image":
    from PIL import Image

    return Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.BILINEAR)
