"""Bodies by name: the free ones in the package and the licensed ones that users added, read without pickle."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lvdreg.assets import assets_dir
from lvdreg.body.model import BodyData, BodyModel, mirror_image
from lvdreg.errors import BodyError


@dataclass(frozen=True)
class Kind:
    """A family of licensed models: what it is called, and where users get their own file of it."""

    title: str
    site: str
    file: str
    """Which of the site's files."""
    is_hand: bool = False


LICENCE = "Max Planck's licence for non-commercial research"
KINDS = {
    "smpl": Kind("SMPL", "https://smpl.is.tue.mpg.de", "SMPL for Python, v1.0 or v1.1"),
    "smplh": Kind("SMPL-H", "https://mano.is.tue.mpg.de", "extended SMPL-H, 16 betas"),
    "smplx": Kind("SMPL-X", "https://smpl-x.is.tue.mpg.de", "SMPL-X v1.1, npz or pkl"),
    "mano": Kind(
        "MANO", "https://mano.is.tue.mpg.de", "MANO_RIGHT.pkl; MANO_LEFT.pkl for left hands of their own", True
    ),
}
"""Licensed models that `lvdreg models add` reads, by the name they get."""


def kind_named(name: str) -> str | None:
    """Return the kind of licensed model that a name stands for before anything was added: "mano" for "mano-left"."""
    kind = name.removesuffix("-left").removesuffix("-right") if name.startswith("mano") else name
    return kind if kind in KINDS else None


def missing(name: str) -> BodyError:
    """Say that a licensed model was not added, where to get its file, under which licence, and what to do then."""
    kind = KINDS[kind_named(name) or name]
    return BodyError(
        f"{name}: {kind.title} is not part of lvdreg and was not added yet: register at {kind.site}, accept {LICENCE}, "
        f"download the file ({kind.file}), then run lvdreg models add FILE"
    )


def body_names() -> tuple[str, ...]:
    """Return the names of the free bodies."""
    return tuple(sorted(path.stem for path in (assets_dir() / "bodies").glob("*.npz")))


def load_body(name: str = "anny", side: str = "right") -> BodyModel:
    """Return a body by name.

    The file is read once per process; every call gives a module of its own, so moving one to a device moves no other.

    Args:
        name: One of ``body_names``, or of a model that was added; see ``lvdreg.body.store``.
        side: Of a hand: "right" as it is in the file, or "left", its exact mirror image.

    Raises:
        BodyError: there is no body of that name, or none yet (says where to get it), its file is damaged, or the left
            of a body that is no hand is asked for.
    """
    data = _data(name)
    if side == "right":
        return BodyModel(data)
    if side != "left" or not data.is_hand:
        raise BodyError(f"expected side right, or left of a hand, got side {side!r} of body {name!r}")
    return BodyModel(mirror_image(data))


def _data(name: str) -> BodyData:
    if name in body_names():
        return _shipped_data(name)
    # Late: the store reads its arrays with what is below.
    from lvdreg.body import store

    added = store.names()
    if name in added:
        return store.load(name)
    if kind_named(name):
        raise missing(name)
    free, own = ", ".join(body_names()) or "none", ", ".join(added) or "none"
    raise BodyError(f"no body named {name!r}; bodies found in {assets_dir() / 'bodies'}: {free}; added: {own}")


@lru_cache(maxsize=4)
def _shipped_data(name: str) -> BodyData:
    return load_body_data(assets_dir() / "bodies" / f"{name}.npz")


def load_body_data(path: str | Path) -> BodyData:
    """Read a body from an npz file with SMPL's array names, as `scripts/build_bodies.py` and ``body_arrays`` have it.

    Raises:
        BodyError: the file is missing, not an npz without pickled objects, or its arrays do not fit together.
    """
    path = Path(path)
    arrays = read_arrays(path)
    try:
        provenance = json.loads(str(arrays["provenance"]))
        return BodyData(
            name=path.stem,
            v_template=_float32(arrays["v_template"]),
            shapedirs=_float32(arrays["shapedirs"]),
            posedirs=_float32(arrays["posedirs"]) if "posedirs" in arrays else None,
            weights=_float32(arrays["weights"]),
            faces=arrays["f"].astype(np.int64),
            parents=_parents(arrays["kintree_table"]),
            joint_names=tuple(str(n) for n in arrays["joint_names"]),
            J_template=_float32(arrays["J_template"]),
            J_shapedirs=_float32(arrays["J_shapedirs"]),
            mirror_vertices=_indices(arrays.get("mirror_vertices")),
            mirror_joints=_indices(arrays.get("mirror_joints")),
            provenance={str(k): str(v) for k, v in provenance.items()},
            tpose=_float32(arrays["tpose"]) if "tpose" in arrays else None,
            people=_float32(arrays["people"]) if "people" in arrays else None,
        )
    except KeyError as error:
        raise BodyError(f"{path}: expected an array {error} of a body, found only {sorted(arrays)}") from error
    except (ValueError, AttributeError, IndexError) as error:
        raise BodyError(f"{path}: damaged body file ({error}); rebuild it or install lvdreg again") from error


def body_arrays(data: BodyData) -> dict[str, NDArray[Any]]:
    """Return what ``load_body_data`` reads again: the arrays of a body by SMPL's names, none of them an object."""
    same = (
        "v_template", "shapedirs", "posedirs", "weights", "J_template", "J_shapedirs",
        "mirror_vertices", "mirror_joints", "tpose", "people",
    )  # fmt: skip
    arrays = {name: getattr(data, name) for name in same}
    return {name: array for name, array in arrays.items() if array is not None} | {
        "f": data.faces,
        "kintree_table": np.stack([data.parents, np.arange(len(data.parents))]),
        "joint_names": np.array(data.joint_names),
        "provenance": np.array(json.dumps(data.provenance)),
    }


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz that holds no pickled objects.

    Raises:
        BodyError: the file is missing or something else.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise BodyError(f"{path}: no such body file") from error
    except (OSError, ValueError, AttributeError, EOFError, BadZipFile) as error:
        raise BodyError(f"{path}: expected an npz of plain arrays, got something else ({error})") from error


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


def _indices(array: NDArray[Any] | None) -> NDArray[np.int64] | None:
    return None if array is None else array.astype(np.int64)


def _parents(kintree_table: NDArray[Any]) -> NDArray[np.int64]:
    """Take the parents from SMPL's table, whose root is -1 written in any unsigned type."""
    parents = kintree_table[0].astype(np.int64)
    parents[0] = -1
    return parents
