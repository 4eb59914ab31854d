"""Licensed models that a user brought: each kept in a folder of plain arrays beside what carries the network over.

A model is added once. Its folder is written beside its place and then moved there: what fails leaves nothing behind.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.arrays import expect, write_npz
from lvdreg.base.assets import models_dir
from lvdreg.base.disk import PART, FolderKind, beside, replacing_folder, write_file
from lvdreg.base.errors import BodyError, UsageError
from lvdreg.base.files import read_json
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.base.text import brief, shown
from lvdreg.body.files import (
    KINDS,
    MESH_KINDS,
    MESH_SUFFIXES,
    body_arrays,
    body_names,
    is_hand_kind,
    load_body_data,
    read_arrays,
    shipped_data,
)
from lvdreg.body.model import BodyData, mirror_image

if TYPE_CHECKING:
    from lvdreg.body.licensed import LicensedModel
    from lvdreg.body.transfer import Correspondence

    Correspond = Callable[[LicensedModel], Correspondence]
    Rig = Callable[[Path, str], tuple[LicensedModel, Correspondence]]

ENTRY, CORRESPONDENCE = "model.json", "correspondence.npz"
EXTRA = "model_"
"""Prefix of the arrays of a model that a body has no place for: mean pose and components of a hand."""
Form = dict[str, tuple[str, tuple[int | None, ...]]]
_EXTRA: Form = {
    "hand_mean": ("f", (None, 45)), "hand_components": ("f", (None, None, 45)), "expression": ("f", (None, 3, None)),
    "shapes_in_file": ("iu", ()), "mended_shapes": ("b", ()),
}  # fmt: skip
_CORRESPONDENCE: Form = {
    "source": ("U", ()), "faces_index": ("i", (None,)), "bary": ("f", (None, 3)), "offsets": ("f", (None, 3)),
    "residual_mm": ("f", (None,)), "blind": ("b", (None,)), "size": ("f", ()), "key": ("U", ()),
}  # fmt: skip
"""Types and shapes of the arrays that are kept of a model; see ``expect``."""
NAME_RULE = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9])*")


@dataclass(frozen=True)
class Entry:
    """What is noted of an added model.

    Attributes:
        kind: "smpl", "smplh", "smplx" or "mano"; of meshes one of ``MESH_KINDS``.
        side: Of a hand, the one in the file: "left" or "right"; None of bodies.
        source: Name of the file it was read from.
        sha256: Of that file.
        date: When it was added, UTC.
    """

    kind: str
    side: str | None
    source: str
    sha256: str
    date: str

    @property
    def is_hand(self) -> bool:
        """Whether ``lvdreg hands`` registers it."""
        return is_hand_kind(self.kind)


def names() -> tuple[str, ...]:
    """Return the names of the added models, sorted; damaged ones too, so that they can be removed."""
    try:
        folders = sorted(models_dir().iterdir())
    except OSError:
        return ()
    return tuple(f.name for f in folders if NAME_RULE.fullmatch(f.name) and (f / ENTRY).is_file())


def entry(name: str) -> Entry:
    """Return what is noted of an added model.

    Raises:
        BodyError: there is none of that name, or its note is damaged.
    """
    path = _folder(name) / ENTRY
    try:
        found = Entry(**read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise BodyError(f"{path}: expected the note of an added model, got {brief(error)}; {_again(name)}") from error
    if not all(isinstance(value, str) or (key == "side" and value is None) for key, value in asdict(found).items()):
        raise BodyError(f"{path}: expected the note of an added model, got something else than text; {_again(name)}")
    if found.kind not in {*KINDS, *MESH_KINDS}:
        raise BodyError(f"{path}: expected one of {', '.join(KINDS)}, got kind {shown(found.kind)}; {_again(name)}")
    return found


def add(
    path: str | Path,
    name: str | None = None,
    *,
    correspond: "Correspond",
    rig: "Rig | None" = None,
    replace: bool = False,
    num_betas: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> str:
    """Read a model file and keep it, together with its correspondence to the free body or hand.

    Args:
        path: A file of SMPL, SMPL-H, SMPL-X or MANO, as users download it, or a mesh.
        name: What to call it: letters, digits and dashes; by its kind when None, "mano-left" for a left hand; a mesh by
            its file.
        correspond: What finds the correspondence: it registers, and registering comes later than bodies.
        rig: What makes a model of a mesh, called as said; None: meshes are refused.
        replace: Whether a model of that name may be replaced.
        num_betas: Shape directions to keep; see ``read_model``.
        progress: Receives what is being done.

    Returns:
        Its name.

    Raises:
        UsageError: the name cannot be used.
        BodyError: the file is no such model, or no correspondence to it was found. Nothing is left behind.
        OSError: the folder of models cannot be written.
    """
    from lvdreg.body.licensed import read_model

    path, tell = Path(path), progress or (lambda what: None)
    if name is not None:
        _check_name(name, replace)
    if rig is not None and path.suffix.lower() in MESH_SUFFIXES:
        name = name or _name_of(path)
        _check_name(name, replace)
        if name.casefold() in _kept_names():
            raise UsageError(
                f"--name: {name} is kept for a licensed model; choose another name than that of {path.name}"
            )
        tell("registering the free model to it")
        model, found = rig(path, name)
    else:
        tell("reading")
        model = read_model(path, num_betas)
        own = _default_name(model)
        name = name or own
        _check_name(name, replace)
        if name.casefold() in _kept_names() and name.casefold() != own:
            kept = f"{name} is kept for another file than {path.name}, a model of {own}"
            raise UsageError(f"--name: {kept}; choose another")
        tell("registering its template with the free model")
        found = correspond(model)
    tell("writing")
    note = Entry(model.kind, model.side, path.name, sha256_of(path), datetime.now(UTC).isoformat(timespec="seconds"))
    with replacing_folder(models_dir() / name, MODEL) as folder:
        write_npz(folder / f"{name}.npz", _model_arrays(model))
        (folder / CORRESPONDENCE).write_bytes(_correspondence_bytes(found))
        (folder / ENTRY).write_text(json.dumps(asdict(note), indent=1), encoding="utf-8")
    return name


def remove(name: str) -> None:
    """Remove an added model.

    Raises:
        BodyError: there is none of that name, or its folder holds what lvdreg did not put there.
    """
    folder = _folder(name)
    strange = sorted({path.name for path in folder.iterdir()} - _names_in(folder))
    if strange:
        raise BodyError(f"{folder}: expected only files of lvdreg, got {strange[0]}; remove the folder yourself")
    # Out of sight in one step, then deleted: half a model is never found.
    aside = beside(folder, PART)
    os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def load(name: str) -> BodyData:
    """Return the body of an added model; read once per process, and anew when it was replaced.

    Raises:
        BodyError: there is none of that name, or it is damaged.
    """
    return load_model(name).data


def load_model(name: str) -> "LicensedModel":
    """Return an added model as it was read from its file, with the pose components of its hands.

    Raises:
        BodyError: there is none of that name, or it is damaged.
    """
    return _load_model(name, _folder(name), entry(name))


# The note is part of the key: a model that was replaced is read anew.
@lru_cache(maxsize=4)
def _load_model(name: str, folder: Path, note: Entry) -> "LicensedModel":
    from lvdreg.body.licensed import LicensedModel

    path = folder / f"{name}.npz"
    own: dict[str, Any] = {"kind": note.kind, "side": note.side, "data": load_body_data(path)}
    arrays = {k.removeprefix(EXTRA): v for k, v in read_arrays(path).items() if k.startswith(EXTRA)}
    try:
        return LicensedModel(**own, **_expected(arrays, {k: form for k, form in _EXTRA.items() if k in arrays}))
    except ValueError as error:
        raise BodyError(f"{path}: damaged ({brief(error)}); {_again(name)}") from error


def correspondence(name: str) -> "Correspondence":
    """Return what carries the vertices of the free body over to an added model.

    Raises:
        BodyError: there is no added model of that name, or its correspondence is damaged.
    """
    from lvdreg.body.transfer import Correspondence

    path = _folder(name) / CORRESPONDENCE
    try:
        found = Correspondence(**_expected(read_arrays(path), _CORRESPONDENCE))
        if found.source in body_names() and found.faces_index.max() >= len(shipped_data(found.source).faces):
            raise ValueError(f"places on faces that {found.source} has not")
        return found
    except ValueError as error:
        raise BodyError(f"{path}: damaged ({brief(error)}); {_again(name)}") from error


def is_current(name: str) -> bool:
    """Say whether the correspondence of an added model is that of the free body as it is now.

    Raises:
        BodyError: there is no added model of that name, or it is damaged.
    """
    from lvdreg.body.transfer import key_of

    found, data = correspondence(name), load(name)
    if found.source not in body_names():
        return False
    if found.num_vertices != len(data.v_template):
        raise BodyError(f"{_folder(name)}: correspondence and model have other numbers of vertices; {_again(name)}")
    # A left hand is registered as its mirror image.
    seen = mirror_image(data) if entry(name).side == "left" else data
    return found.key == key_of(seen, shipped_data(found.source))


def renew(name: str, correspond: "Correspond") -> "Correspondence":
    """Find the correspondence of an added model anew, as when the free body has changed, and keep it if possible."""
    found = correspond(load_model(name))
    # A folder that may only be read is no reason to refuse a result; it will be found anew the next time.
    with suppress(OSError):
        write_file(_folder(name) / CORRESPONDENCE, lambda part: part.write_bytes(_correspondence_bytes(found)))
    return found


def files_of(name: str, data: BodyData, found: "Correspondence") -> FileHashes:
    """Return the SHA-256 of the files behind an added model: as its user brought it, and what is kept of that.

    Args:
        name: The model's.
        data: As it was loaded.
        found: Its correspondence as it is used, kept or not.
    """
    folder, note = f"models/{name}", entry(name)
    return {
        f"{folder}/{note.source}": note.sha256,
        f"{folder}/{name}.npz": data.sha256,
        f"{folder}/{CORRESPONDENCE}": hashlib.sha256(_correspondence_bytes(found)).hexdigest(),
    }


def _folder(name: str) -> Path:
    if name not in names():
        known = ", ".join(names()) or "none"
        raise BodyError(f"no model named {shown(name)} was added; those in {models_dir()}: {known}")
    return models_dir() / name


def _again(name: str) -> str:
    return f"run lvdreg models remove {name} and add its file again"


def _kept_names() -> set[str]:
    """Names that say what a model is."""
    return {*KINDS, "mano-left"}


def _name_of(path: Path) -> str:
    """Return a name after that of a file, as ``NAME_RULE`` has it."""
    return re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-") or "mesh"


def _default_name(model: "LicensedModel") -> str:
    return f"{model.kind}-left" if model.side == "left" else model.kind


def _check_name(name: str, replace: bool) -> None:
    if not NAME_RULE.fullmatch(name):
        raise UsageError(f"--name: expected letters and digits, with single dashes between them, got {name!r}")
    if name.casefold() in {free.casefold() for free in body_names()}:
        raise UsageError(f"--name: {name} is a free model of lvdreg; choose another name")
    # Some file systems cannot tell names apart that differ only in case.
    for there in names():
        if name.casefold() == there.casefold() and not (replace and name == there):
            raise UsageError(
                f"--name: a model named {there} was added before; give --replace to replace it, or another --name"
            )


def _model_arrays(model: "LicensedModel") -> dict[str, Any]:
    """Return the arrays of a body, and those of the model that a body has no place for."""
    own = {"kind", "side", "data"}
    extra = {f.name: getattr(model, f.name) for f in fields(model) if f.name not in own}
    return body_arrays(model.data) | {EXTRA + key: np.asarray(v) for key, v in extra.items() if v is not None}


def _correspondence_bytes(record: "Correspondence") -> bytes:
    """Return the content of a correspondence's file; equal ones have equal bytes: numpy's archives bear no date."""
    content = io.BytesIO()
    write_npz(content, {field.name: getattr(record, field.name) for field in fields(record)})
    return content.getvalue()


def _expected(arrays: dict[str, NDArray[Any]], form: Form) -> dict[str, Any]:
    """Return the arrays of a form, words and numbers as such; others are passed over.

    Raises:
        ValueError: one of them is something else.
    """
    found = {name: expect(arrays, name, kinds, shape) for name, (kinds, shape) in form.items()}
    return {name: array.item() if array.ndim == 0 else array for name, array in found.items()}


def _names_in(folder: Path) -> frozenset[str]:
    """Names of the files that the folder of an added model holds."""
    return frozenset((f"{folder.name}.npz", CORRESPONDENCE, ENTRY))


def _owned_names(folder: Path) -> frozenset[str]:
    """Return what in a folder is an added model's: nothing, where its note is not lvdreg's."""
    try:
        Entry(**read_json(folder / ENTRY))
    except (OSError, ValueError, TypeError):
        return frozenset()
    return frozenset(name for name in _names_in(folder) if not (folder / name).is_symlink())


MODEL = FolderKind(ENTRY, _owned_names)
