"""Bodies by name: the free ones in the package, read without pickle."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lvdreg.assets import assets_dir
from lvdreg.body.model import BodyData, BodyModel, mirror_image
from lvdreg.errors import BodyError


def body_names() -> tuple[str, ...]:
    """Return the names of the bodies that `load_body` finds."""
    return tuple(sorted(path.stem for path in (assets_dir() / "bodies").glob("*.npz")))


def load_body(name: str = "anny", side: str = "right") -> BodyModel:
    """Return a body by name.

    The file is read once per process; every call gives a module of its own, so moving one to a device moves no other.

    Args:
        name: One of ``body_names``.
        side: Of a hand: "right" as it is in the file, or "left", its exact mirror image.

    Raises:
        BodyError: there is no body of that name, its file is damaged, or a body that is no hand is asked for its left.
    """
    if name not in body_names():
        known = ", ".join(body_names()) or "none"
        raise BodyError(f"no body named {name!r}; bodies found in {assets_dir() / 'bodies'}: {known}")
    data = _shipped_data(name)
    if side == "right":
        return BodyModel(data)
    if side != "left" or not data.is_hand:
        raise BodyError(f"expected side right, or left of a hand, got side {side!r} of body {name!r}")
    return BodyModel(mirror_image(data))


@lru_cache(maxsize=4)
def _shipped_data(name: str) -> BodyData:
    return load_body_data(assets_dir() / "bodies" / f"{name}.npz")


def load_body_data(path: str | Path) -> BodyData:
    """Read a body from an npz file with SMPL's array names, as `scripts/build_bodies.py` writes it.

    Raises:
        BodyError: the file is missing, not an npz without pickled objects, or its arrays do not fit together.
    """
    path = Path(path)
    arrays = _read_arrays(path)
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


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
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
