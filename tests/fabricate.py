"""Model files in the exact public formats of SMPL, SMPL-H, SMPL-X and MANO, made from the free bodies.

No licensed file is needed to test reading them. The chumpy form is written as Python 2 wrote it (byte strings, old
module names, chumpy objects) without chumpy being installed.
"""

import io
import pickle
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, cast

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.spatial
import torch
from numpy.typing import NDArray

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyData, BodyModel, BodyParams, mirror_image

Form = Literal["pkl", "chumpy", "npz"]
Floats = NDArray[np.float64]

NUM_BETAS = {"smpl": 10, "smplh": 16, "smplx": 400, "mano": 10}
# The name each kind's file has where it is given out.
STEMS = {"smpl": "SMPL_NEUTRAL", "smplh": "SMPLH_NEUTRAL", "smplx": "SMPLX_NEUTRAL"}
FACE_JOINTS = ("jaw", "left_eye_smplhf", "right_eye_smplhf")
# Right hand: fingers along -x, palm down, thumb in front, as MANO's rest pose; the free hand has its fingers up.
MANO_FROM_HAND = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


def fabricate(
    kind: str, folder: Path, form: Form = "pkl", seed: int = 0, template: Floats | None = None,
    faces: NDArray[np.int64] | None = None, side: str = "right", num_betas: int | None = None,
    dense: bool = False, left_bug: bool = True,
) -> Path:  # fmt: skip
    """Write a model file and return its path.

    Args:
        kind: "smpl", "smplh", "smplx" or "mano".
        folder: Where to write; made if missing.
        form: "pkl" (plain arrays, a sparse regressor), "chumpy" (Python 2, chumpy objects) or "npz".
        seed: Of the pose blend shapes and of what else is random.
        template: Vertices (V, 3) of another mesh that lies on this body's T-pose rest surface; needs ``faces``.
        faces: Triangles of that mesh.
        side: Of MANO.
        num_betas: Shape directions, expressions included; the kind's own number unless given.
        dense: Store the regressor dense also in a pickle (npz files always are).
        left_bug: Give a left MANO the sign of the x components that the real file has (vchoutas/smplx#48).
    """
    arrays = fabricate_arrays(kind, seed, template, faces, side, num_betas, left_bug)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"MANO_{side.upper()}" if kind == "mano" else STEMS[kind]
    return write_model(arrays, folder / stem, form, dense)


def write_model(arrays: dict[str, Any], stem: Path, form: Form, dense: bool = False) -> Path:
    """Write the arrays of `fabricate_arrays` in one of the forms; the suffix is added."""
    arrays = dict(arrays)
    if form == "npz" or dense:
        arrays["J_regressor"] = arrays["J_regressor"].toarray()
    if form == "npz":
        path = stem.with_suffix(".npz")
        np.savez(path, **arrays)
        return path
    path = stem.with_suffix(".pkl")
    path.write_bytes(python2_pickle(arrays) if form == "chumpy" else pickle.dumps(arrays, protocol=4))
    return path


def fabricate_arrays(
    kind: str, seed: int = 0, template: Floats | None = None, faces: NDArray[np.int64] | None = None,
    side: str = "right", num_betas: int | None = None, left_bug: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Return what `fabricate` writes: the public array names, a sparse float64 ``J_regressor``, float64 elsewhere."""
    rng = np.random.default_rng(seed)
    count = num_betas or NUM_BETAS[kind]
    vertices, shapedirs, weights, triangles, names, parents, joints, regressor = _base(kind, side)
    if template is not None:
        nearest = scipy.spatial.cKDTree(vertices).query(template)[1]
        weights, shapedirs = weights[nearest], shapedirs[nearest]
        vertices = np.asarray(template, np.float64)
        triangles = triangles if faces is None else np.asarray(faces, np.int64)
        regressor = _regressor(vertices, joints)
    directions = _directions(kind, vertices, shapedirs, count, rng)
    if kind == "mano" and side == "left" and left_bug:
        directions[:, 0] *= -1
    arrays: dict[str, Any] = {
        "v_template": vertices,
        "shapedirs": directions,
        "posedirs": _smooth(vertices, 9 * (len(names) - 1), rng) * 1e-3,
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "weights": weights,
        "kintree_table": np.stack([parents % 2**32, np.arange(len(parents))]).astype(np.uint32),
        "f": triangles.astype(np.uint32),
        "J": regressor @ vertices,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    if kind == "smplx":  # The largest of the files: half of it will do.
        arrays |= {name: arrays[name].astype(np.float32) for name in ("shapedirs", "posedirs")}
    return arrays | _hands(kind, rng) | (_landmarks(names) if kind == "smplx" else {})


Base = tuple[Floats, Floats, Floats, NDArray[np.int64], tuple[str, ...], NDArray[np.int64], Floats, Floats]


@lru_cache(maxsize=8)
def _base(kind: str, side: str) -> Base:
    """Vertices, shapedirs, weights, faces, joint names, parents, joints and regressor, in the kind's rest pose."""
    if kind == "mano":
        data = _turned(load_body("anny-hand").data, MANO_FROM_HAND)
        data = mirror_image(data) if side == "left" else data
    else:
        data = _in_tpose(load_body("anny").data)
    data = {"smpl": _with_smpl_hands, "smplx": _with_face}.get(kind, lambda same: same)(data)
    weights = np.maximum(data.weights.astype(np.float64), 0)
    vertices, shapedirs = data.v_template.astype(np.float64), data.shapedirs.astype(np.float64)
    joints = data.J_template.astype(np.float64)
    return (
        vertices, shapedirs, weights / weights.sum(1, keepdims=True), data.faces, data.joint_names, data.parents,
        joints, _regressor(vertices, joints),
    )  # fmt: skip


def _turned(data: BodyData, rotation: Floats) -> BodyData:
    """Express a body in another rest frame."""
    rotation = rotation.astype(np.float32)
    return replace(
        data, v_template=data.v_template @ rotation.T, shapedirs=rotation @ data.shapedirs,
        J_template=data.J_template @ rotation.T, J_shapedirs=rotation @ data.J_shapedirs,
    )  # fmt: skip


def _in_tpose(data: BodyData) -> BodyData:
    """Let a body rest in its T-pose; its shape directions turn with the bones."""
    assert data.tpose is not None
    body = BodyModel(data)
    count = data.shapedirs.shape[-1]
    pose = torch.from_numpy(data.tpose)
    rest = BodyParams(torch.zeros(1 + count, count), pose.expand(1 + count, -1, -1), torch.zeros(1 + count, 3))
    rest.betas[1:] = torch.eye(count)
    posed = body(rest)
    vertices, joints = posed.vertices.numpy(), posed.joints.numpy()
    return replace(
        data, v_template=vertices[0], shapedirs=np.moveaxis(vertices[1:] - vertices[0], 0, -1).copy(),
        J_template=joints[0], J_shapedirs=np.moveaxis(joints[1:] - joints[0], 0, -1).copy(), tpose=None,
    )  # fmt: skip


def _with_smpl_hands(data: BodyData) -> BodyData:
    """Merge the fingers into SMPL's two hand joints."""
    weights, joints = [data.weights[:, :22]], [data.J_template[:22]]
    for side in ("left", "right"):
        fingers = [j for j, n in enumerate(data.joint_names) if n.startswith(f"{side}_") and n[-1].isdigit()]
        weights.append(data.weights[:, fingers].sum(1, keepdims=True))
        joints.append(data.J_template[[data.joint_names.index(f"{side}_middle1")]])
    return replace(
        data, weights=np.concatenate(weights, 1), J_template=np.concatenate(joints), mirror_joints=None,
        parents=np.append(data.parents[:22], [20, 21]), joint_names=(*data.joint_names[:22], "left_hand", "right_hand"),
        J_shapedirs=np.zeros((24, 3, data.shapedirs.shape[-1]), np.float32),
    )  # fmt: skip


def _with_face(data: BodyData) -> BodyData:
    """Put SMPL-X's jaw and eyes below the head and give them some of its skin."""
    head = data.joint_names.index("head")
    top = data.v_template[:, 1].max()
    centre = np.array([data.J_template[head, 0], (data.J_template[head, 1] + top) / 2, data.J_template[head, 2]])
    front = data.v_template[data.weights[:, head] > 0.5][:, 2].max() - 0.02
    places = np.stack([
        centre + [0, -0.05, 0.0], [centre[0] + 0.03, centre[1], front], [centre[0] - 0.03, centre[1], front]
    ])  # fmt: skip
    reach, lower = np.array([0.08, 0.02, 0.02]), np.array([centre + [0, -0.09, 0.08], *places[1:]])
    share = 0.8 * np.exp(-((np.linalg.norm(data.v_template[:, None] - lower, axis=-1) / reach) ** 2))
    own = data.weights[:, [head]] * share / np.maximum(share.sum(1, keepdims=True), 1)
    weights = data.weights.copy()
    weights[:, head] -= own.sum(1)
    shifted = np.where(data.parents >= 22, data.parents + 3, data.parents)
    return replace(
        data, weights=np.concatenate([weights[:, :22], own, weights[:, 22:]], 1).astype(np.float32),
        parents=np.concatenate([shifted[:22], [head] * 3, shifted[22:]]), mirror_joints=None,
        joint_names=(*data.joint_names[:22], *FACE_JOINTS, *data.joint_names[22:]),
        J_template=np.concatenate([data.J_template[:22], places, data.J_template[22:]]).astype(np.float32),
        J_shapedirs=np.zeros((55, 3, data.shapedirs.shape[-1]), np.float32),
    )  # fmt: skip


def _regressor(vertices: Floats, joints: Floats) -> Floats:
    """A sparse, non-negative regressor whose rows sum to one: near vertices around each joint."""
    regressor = np.zeros((len(joints), len(vertices)))
    tree = scipy.spatial.cKDTree(vertices)
    for row, joint in zip(regressor, joints, strict=True):
        near = tree.query(joint, k=min(250, len(vertices)))[1]
        offsets = (vertices[near] - joint).T
        solution = scipy.optimize.nnls(np.vstack([offsets, np.full(len(near), 0.1)]), np.array([0.0, 0, 0, 0.1]))[0]
        row[near] = solution / solution.sum()
    return regressor


def _directions(kind: str, vertices: Floats, shapedirs: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Shape directions: the free body's, then small smooth ones; SMPL-X's last hundred (or ten) move the face only."""
    expressions = 0 if kind != "smplx" else 100 if count >= 400 else 10
    shape = count - expressions
    known = shapedirs[..., :shape]
    more = _smooth(vertices, shape - known.shape[-1], rng) * 5e-4
    parts = [known, more]
    if expressions:
        face = vertices[:, 1].max() - 0.12
        mask = np.exp(-(((vertices[:, 1] - face) / 0.06) ** 2)) * (vertices[:, 2] > 0.03)
        parts.append(_smooth(vertices, expressions, rng) * 3e-3 * mask[:, None, None])
    return np.concatenate(parts, -1)


def _smooth(vertices: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Random displacement fields (V, 3, count) of unit size that vary slowly over the body."""
    scale = np.ptp(vertices, axis=0).max()
    waves = np.sin(vertices @ rng.normal(scale=6 / scale, size=(3, 24)) + rng.uniform(0, 2 * np.pi, 24))
    return (waves @ rng.normal(size=(24, 3 * count)) / np.sqrt(12)).reshape(len(vertices), 3, count)


def _hands(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """Mean pose and principal components of MANO's hands, under each kind's names."""
    if kind == "smpl":
        return {}
    mean = np.tile([0.05, 0.0, 0.3], 15) + rng.normal(scale=0.03, size=45)
    components = np.linalg.qr(rng.normal(size=(45, 45)))[0]
    if kind == "mano":
        return {"hands_mean": mean, "hands_components": components, "hands_coeffs": rng.normal(size=(20, 45))}
    flip = np.tile([1.0, -1.0, -1.0], 15)
    return {
        "hands_meanl": mean * flip, "hands_componentsl": components * flip,
        "hands_meanr": mean, "hands_componentsr": components,
        "hands_coeffsl": rng.normal(size=(20, 45)), "hands_coeffsr": rng.normal(size=(20, 45)),
    }  # fmt: skip


def _landmarks(names: tuple[str, ...]) -> dict[str, Any]:
    """SMPL-X's landmarks and its object arrays, which no reader of the body needs and real npz files contain."""
    table = {name: j for j, name in enumerate(names)}
    return {
        "lmk_faces_idx": np.arange(51), "lmk_bary_coords": np.full((51, 3), 1 / 3),
        "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64), "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
        "joint2num": np.array(table, dtype=object), "part2num": np.array(table, dtype=object),
    }  # fmt: skip


# --- Python 2 pickles -------------------------------------------------------------------------------------------------

OLD_MODULES = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "scipy.sparse._csc": "scipy.sparse.csc",
    "scipy.sparse._csr": "scipy.sparse.csr",
    "builtins": "__builtin__",
    "copyreg": "copy_reg",
}


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes protocol 2 as Python 2 did: strings and bytes are byte strings, modules have their old names."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2, fix_imports=False)

    def save_byte_string(self, value: str | bytes) -> None:
        """Save as BINSTRING."""
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = save_byte_string
    dispatch[bytes] = save_byte_string

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Save a reference under the module name of its time."""
        module = pickle.whichmodule(obj, obj.__qualname__)  # type: ignore[attr-defined]
        line = f"{OLD_MODULES.get(module, module)}\n{obj.__qualname__}\n"
        self.write(pickle.GLOBAL + line.encode("ascii"))
        self.memoize(obj)

    dispatch[type] = save_global
    dispatch[type(len)] = save_global
    dispatch[type(lambda: None)] = save_global


@contextmanager
def chumpy_classes() -> Iterator[Callable[[str, str], type]]:
    """Yield a maker of classes that pickle under chumpy's names; the modules are gone afterwards."""
    made: list[str] = []

    def make(module: str, name: str) -> type:
        for part in ("chumpy", module):
            if part not in sys.modules:
                sys.modules[part] = ModuleType(part)
                made.append(part)
        if not hasattr(sys.modules[module], name):
            setattr(sys.modules[module], name, type(name, (), {"__module__": module}))
        return cast(type, getattr(sys.modules[module], name))

    try:
        yield make
    finally:
        for module in made:
            del sys.modules[module]


def _chumpy(kind: type, **state: Any) -> Any:
    """An instance with the attributes that chumpy's own __getstate__ leaves."""
    thing = kind()
    vars(thing).update(state | {"_dirty_vars": set(), "_itr": None, "_depends_on_deps": {}})
    vars(thing).update({"_make_dense": False, "_make_sparse": False})
    return thing


def python2_pickle(arrays: dict[str, Any]) -> bytes:
    """Pickle a model as SMPL 1.0 and MANO are: arrays as Ch, shapedirs as a Select of a larger Ch."""
    arrays = dict(arrays)
    with chumpy_classes() as make:
        ch, select = make("chumpy.ch", "Ch"), make("chumpy.reordering", "Select")
        for name in ("v_template", "weights", "posedirs"):
            arrays[name] = _chumpy(ch, x=arrays[name])
        shapedirs = cast(Floats, arrays["shapedirs"])
        larger = np.concatenate([shapedirs, shapedirs[..., :2] * 0.5], -1)
        chosen = np.arange(larger.size).reshape(larger.shape)[..., : shapedirs.shape[-1]]
        arrays["shapedirs"] = _chumpy(
            select, a=_chumpy(ch, x=larger), idxs=chosen.ravel(), preferred_shape=shapedirs.shape
        )
        arrays["J"] = _chumpy(make("chumpy.ch_ops", "dot"), a=_chumpy(ch, x=np.eye(3)), b=_chumpy(ch, x=np.eye(3)))
        file = io.BytesIO()
        Python2Pickler(file).dump(arrays)
    return file.getvalue()
