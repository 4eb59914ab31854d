"""Files of bodies: arrays under SMPL's names, read without pickle; what the licensed models are called."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.arrays import read_npz
from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import BodyError
from lvdreg.base.files import parse_json
from lvdreg.base.provenance import sha256_of
from lvdreg.base.text import brief, shown
from lvdreg.body.model import BodyData


@dataclass(frozen=True)
class LicensedKind:
    """A family of licensed models: what it is called, and where users get their own file of it."""

    title: str
    site: str
    file: str
    """Which of the site's files."""
    is_hand: bool = False


LICENCE = "Max Planck's licence for non-commercial research"


KINDS = {
    "smpl": LicensedKind("SMPL", "https://smpl.is.tue.mpg.de", "SMPL for Python, v1.0 or v1.1"),
    "smplh": LicensedKind("SMPL-H", "https://mano.is.tue.mpg.de", "extended SMPL-H, 16 betas"),
    "smplx": LicensedKind("SMPL-X", "https://smpl-x.is.tue.mpg.de", "SMPL-X v1.1, npz or pkl"),
    "mano": LicensedKind(
        "MANO", "https://mano.is.tue.mpg.de", "MANO_RIGHT.pkl; MANO_LEFT.pkl for left hands of their own", True
    ),
}
"""Licensed models that `lvdreg models add` reads, by the name they get."""


MESH_KINDS = {"mesh": False, "hand-mesh": True}
"""What meshes that become models are noted as, and whether they are hands."""
MESH_SUFFIXES = frozenset((".ply", ".obj", ".off", ".stl", ".glb", ".gltf"))
"""Files that ``lvdreg models add`` takes for meshes."""


def is_hand_kind(kind: str) -> bool:
    """Say whether an added model of a kind is a hand."""
    return MESH_KINDS[kind] if kind in MESH_KINDS else KINDS[kind].is_hand


def kind_named(name: str) -> str | None:
    """Return the kind of licensed model that a name stands for before anything was added: "mano" for "mano-left"."""
    kind = name.removesuffix("-left").removesuffix("-right") if name.startswith("mano") else name
    return kind if kind in KINDS else None


def body_names() -> tuple[str, ...]:
    """Return the names of the free bodies."""
    return tuple(sorted(path.stem for path in (assets_dir() / "bodies").glob("*.npz")))


def load_body_data(path: str | Path) -> BodyData:
    """Read a body from an npz file with SMPL's array names, as `scripts/build_bodies.py` and ``body_arrays`` have it.

    Raises:
        BodyError: the file is missing, not an npz without pickled objects, or its arrays do not fit together.
    """
    path = Path(path)
    arrays = read_arrays(path)
    try:
        provenance = parse_json(str(arrays["provenance"]).encode())
        return BodyData(
            name=path.stem,
            v_template=_float32(arrays["v_template"]),
            shapedirs=_float32(arrays["shapedirs"]),
            posedirs=_float32(arrays["posedirs"]) if "posedirs" in arrays else None,
            weights=_float32(arrays["weights"]),
            faces=_faces(arrays["f"]),
            parents=_parents(arrays["kintree_table"]),
            joint_names=tuple(str(n) for n in arrays["joint_names"]),
            J_template=_float32(arrays["J_template"]),
            J_shapedirs=_float32(arrays["J_shapedirs"]),
            mirror_vertices=_indices(arrays.get("mirror_vertices")),
            mirror_joints=_indices(arrays.get("mirror_joints")),
            provenance={str(k): str(v) for k, v in provenance.items()},
            tpose=_float32(arrays["tpose"]) if "tpose" in arrays else None,
            people=_float32(arrays["people"]) if "people" in arrays else None,
            vt=_float32(arrays["vt"]) if "vt" in arrays else None,
            ft=_indices(arrays.get("ft")),
            sha256=sha256_of(path),
        )
    except KeyError as error:
        raise BodyError(f"{path}: expected an array {error} of a body, found only {shown(sorted(arrays))}") from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise BodyError(f"{path}: damaged body file ({brief(error)}); rebuild it or install lvdreg again") from error


def body_arrays(data: BodyData) -> dict[str, NDArray[Any]]:
    """Return what ``load_body_data`` reads again: the arrays of a body by SMPL's names, none of them an object."""
    same = (
        "v_template", "shapedirs", "posedirs", "weights", "J_template", "J_shapedirs",
        "mirror_vertices", "mirror_joints", "tpose", "people", "vt", "ft",
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
        return read_npz(path)
    except FileNotFoundError as error:
        raise BodyError(f"{path}: no such body file") from error
    except (OSError, ValueError) as error:
        raise BodyError(f"{path}: expected an npz of plain arrays, got something else ({brief(error)})") from error


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("numbers that are not finite, or too large for single precision")
    return numbers


def _faces(array: NDArray[Any]) -> NDArray[np.int64]:
    if not array.size:
        raise ValueError("it has no faces")
    return array.astype(np.int64)


def _indices(array: NDArray[Any] | None) -> NDArray[np.int64] | None:
    return None if array is None else array.astype(np.int64)


def _parents(kintree_table: NDArray[Any]) -> NDArray[np.int64]:
    """Take the parents from SMPL's table, whose root is -1 written in any unsigned type."""
    parents = kintree_table[0].astype(np.int64)
    parents[0] = -1
    return parents


@lru_cache(maxsize=4)
def shipped_data(name: str) -> BodyData:
    """Return the arrays of a free body, read once per process."""
    return load_body_data(assets_dir() / "bodies" / f"{name}.npz")
