"""Write results in the formats of other programs: which there are, how files are called, and where they go."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lvdreg.base.arrays import write_npz
from lvdreg.base.disk import PART, beside
from lvdreg.base.errors import OutputError
from lvdreg.base.names import folder_name
from lvdreg.base.version import __version__
from lvdreg.body.poses import pose_to_smpl
from lvdreg.body.smplx_names import named_params
from lvdreg.export.bones import Bones
from lvdreg.export.bvh import write_bvh
from lvdreg.export.figure import MAX_WEIGHTS, Figure, Paint, PoseKind, figure_of, posed_params
from lvdreg.export.meshes import write_obj
from lvdreg.export.paint import painted, read_colours
from lvdreg.export.rigged import write_rigged_glb
from lvdreg.export.usd import check_usd, write_usd
from lvdreg.result.files import EXPORTS, note_exports
from lvdreg.result.read import SavedResult, original_file, read_result

ABOUT = f"lvdreg {__version__}"


@dataclass(frozen=True)
class Wanted:
    """What to write.

    Attributes:
        kinds: Names of ``FORMATS``.
        pose: That of the scan, a T-pose or an A-pose; BVH files and npz hold it as their parameters.
        bones: Whose names joints get.
        weights: How many joints move a vertex at most, 4 or 8.
        morphs: How many shape parameters become morphs of rigged models.
        texture: Pixels of a texture's side; 0: without the colours of the scan.
        scan: Where the colours come from; None: from the scan that was registered, if it is still where it was.
    """

    kinds: tuple[str, ...]
    pose: PoseKind = "scan"
    bones: Bones = "smpl"
    weights: int = MAX_WEIGHTS
    morphs: int = 10
    texture: int = 1024
    scan: Path | None = None


@dataclass(frozen=True)
class Source:
    """A result that is written, and how."""

    result: SavedResult
    wanted: Wanted

    @cached_property
    def figure(self) -> Figure:
        """The rigged result."""
        wanted = self.wanted
        figure = figure_of(self.result, wanted.pose, wanted.bones, wanted.weights, wanted.morphs)
        return figure if self.scan is None else replace(figure, paint=self._paint(self.scan))

    @cached_property
    def scan(self) -> Path | None:
        """Where the colours come from; None: there are to be none, or the scan is not where it was."""
        if not self.wanted.texture or not PAINTED & set(self.wanted.kinds):
            return None
        return self.wanted.scan or (None if "photo" in self.result.report else original_file(self.result.report))

    @property
    def note(self) -> str | None:
        """What a user should know."""
        is_asked = self.wanted.texture and PAINTED & set(self.wanted.kinds) and "photo" not in self.result.report
        return "without colours: the scan is not where it was; --scan names it" if is_asked and not self.scan else None

    def _paint(self, scan: Path) -> Paint | None:
        colours = read_colours(scan, self.result)
        return None if colours is None else painted(self.result, colours, self.wanted.texture)


PAINTED = frozenset(("glb", "obj", "usd"))
"""Formats that hold colours."""


def _glb(path: Path, source: Source) -> list[Path]:
    write_rigged_glb(path, source.figure, ABOUT)
    return [path]


def _obj(path: Path, source: Source) -> list[Path]:
    return write_obj(path, source.figure, ABOUT)


def _bvh(path: Path, source: Source) -> list[Path]:
    write_bvh(path, [source.figure], figure_of(source.result, "t", source.wanted.bones))
    return [path]


def _usd(path: Path, source: Source) -> list[Path]:
    return write_usd(path, source.figure, ABOUT)


def _npz(path: Path, source: Source) -> list[Path]:
    """Write smplx's arguments, rotations from the T-pose as SMPL has them, and the posed surface."""
    result, figure = source.result, source.figure
    params, data = posed_params(result, source.wanted.pose), result.body.data
    if data.tpose is not None:
        params = replace(params, pose=pose_to_smpl(params.pose, data))
    # The translation is that of the exports, whose floor is at zero.
    params = replace(params, transl=torch.from_numpy(figure.transl / result.body_scale))
    named = {name: np.asarray(value, np.float32) for name, value in named_params(result.body, params).items()}
    named = {name: array[None] if array.ndim == 1 else array for name, array in named.items()}
    named["scale"] = np.array(result.body_scale, np.float32)
    about = {"model": data.name, "gender": "neutral", "joint_names": np.array(data.joint_names)}
    places = {"joints": np.float32(figure.bone_transforms()[:, :3, 3]), "vertices": np.float32(figure.posed())}
    write_npz(path, named | about | places | {"faces": figure.faces.astype(np.int32)})
    return [path]


FORMATS: dict[str, tuple[str, Callable[[Path, Source], list[Path]]]] = {
    "glb": (".glb", _glb),
    "obj": (".obj", _obj),
    "bvh": (".bvh", _bvh),
    "usd": (".usdc", _usd),
    "npz": (".npz", _npz),
}
"""Ending of the file's name and what writes it, with all that lies beside; by name."""


def check_wanted(wanted: Wanted) -> None:
    """Say what is missing before anything is done.

    Raises:
        UsageError: a package is not installed.
    """
    if "usd" in wanted.kinds:
        check_usd()


@dataclass(frozen=True)
class Exported:
    """The files that were written, and what a user should know of them, if anything."""

    files: list[Path]
    note: str | None


def export_result(folder: Path, wanted: Wanted, out: Path | None = None, *, force: bool = False) -> Exported:
    """Write a result in other formats.

    Args:
        folder: The result.
        wanted: What to write.
        out: Folder for the files, which are called as the result's folder is; None: they go into that, are called
            ``export``, named in its report, and go with it when it is replaced.
        force: Whether other files that are in the way are replaced.

    Raises:
        ScanError: the scan that is to give the colours cannot be read.
        RegistrationError: the folder holds no result, or a damaged one.
        BodyError: its model is not there.
        OutputError: other files are in the way.
        OSError: the files cannot be written; then none of them is there.
    """
    folder = folder.resolve()
    source = Source(read_result(folder), wanted)
    target = folder if out is None else out
    stem = ("export" if out is None else folder_name(folder.name)) + (
        "" if wanted.pose == "scan" else f"-{wanted.pose}"
    )
    earlier = source.result.report.get(EXPORTS)
    ours = earlier if isinstance(earlier, dict) and out is None else {}
    target.mkdir(parents=True, exist_ok=True)
    part = beside(target / stem, PART)
    part.mkdir()
    try:
        made = {
            path.name: kind
            for kind in wanted.kinds
            for path in FORMATS[kind][1](part / f"{stem}{FORMATS[kind][0]}", source)
        }
        paint = source.figure.paint
        if paint is not None and paint.seen is not None:
            Image.fromarray(paint.seen).save(part / f"{stem}-seen.png")
            made[f"{stem}-seen.png"] = "mask"
        for name in made:
            if os.path.lexists(target / name) and name not in ours and not force:
                raise OutputError(f"{target / name}: is there already; --force replaces it")
        for name in made:
            os.replace(part / name, target / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if out is None:
        note_exports(folder, source.result.report, made)
    return Exported([target / name for name in made], source.note)
