"""Model files that users bring: SMPL, SMPL-H, SMPL-X and MANO in the forms in circulation, checked field by field.

The kind is told from the number of joints, the form from the content of the file: names and suffixes are not asked.
Nothing in a file is run (`lvdreg.body.pickles`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import BodyError
from lvdreg.base.files import open_plain
from lvdreg.base.foreign import ZIP, foreign_kind
from lvdreg.body.model import FINGERS, BodyData
from lvdreg.body.pickles import Unreadable, load_npz, load_pickle

Array = NDArray[Any]
Floats = NDArray[np.float64]

MAX_BETAS_WHOLE = 16
"""So many shape directions are all used; of files with more, as those with 300, the first ten, as smplx does."""
DEFAULT_BETAS = 10
SMPLX_SHAPES, SMPLX_EXPRESSIONS = 300, 100
SMPLX_OLD = 10
"""SMPL-X files with fewer than 400 directions: ten of shape, then ten of expression, as smplx reads them."""
HAND_JOINTS = 15
MAX_NUMBER = 1e6
"""No array of a model has larger numbers: they are metres, shares and angles, kept in single precision."""

_BEGINNING = 64
_FINGERS = tuple(f"{finger}{i}" for finger in FINGERS for i in (1, 2, 3))
_BODY = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
_BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
_FACE = ("jaw", "left_eye_smplhf", "right_eye_smplhf")
_HANDS = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _FINGERS)

JOINT_NAMES: dict[str, tuple[str, ...]] = {
    "smpl": (*_BODY, "left_hand", "right_hand"),
    "smplh": (*_BODY, *_HANDS),
    "smplx": (*_BODY, *_FACE, *_HANDS),
    "mano": ("wrist", *_FINGERS),
}
"""Joints of each kind in the order of its files, under smplx's names; MANO's under those of the free hand."""
_KIND_OF = {len(names): kind for kind, names in JOINT_NAMES.items()}

_NEEDED = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
_OF_HANDS = {
    "mano": (("hands_mean",), ("hands_components",)),
    "smplh": (("hands_meanl", "hands_meanr"), ("hands_componentsl", "hands_componentsr")),
    "smplx": (("hands_meanl", "hands_meanr"), ("hands_componentsl", "hands_componentsr")),
}
_ALL = {*_NEEDED, *(name for fields in _OF_HANDS.values() for field in fields for name in field)}


@dataclass(frozen=True)
class LicensedModel:
    """A model as its file has it.

    Attributes:
        kind: "smpl", "smplh", "smplx" or "mano".
        side: Of MANO "left" or "right"; None of bodies.
        data: Its body. A left hand's shape directions are put right (see `read_model`).
        hand_mean: (H, 45) the pose that MANO's hands have on average, rotation vectors of the joints in a row, and that
            smplx adds to hand poses unless ``flat_hand_mean`` is set. H is 1 for MANO, 2 for SMPL-H and SMPL-X: left,
            right. None of SMPL, and of files without hand poses. ``data`` poses hands without it.
        hand_components: (H, C, 45) principal components of hand poses, or None.
        expression: (V, 3, E) metres per unit of SMPL-X's expression coefficients, or None. ``data`` has none of them.
        shapes_in_file: How many shape directions the file has, expressions not counted.
        mended_shapes: Whether the file had the wrong sign of the left hand's shape directions.
    """

    kind: str
    side: str | None
    data: BodyData
    hand_mean: NDArray[np.float32] | None = None
    hand_components: NDArray[np.float32] | None = None
    expression: NDArray[np.float32] | None = None
    shapes_in_file: int | None = None
    mended_shapes: bool = False


def read_model(path: Path, num_betas: int | None = None, mend_left: bool | None = None) -> LicensedModel:
    """Read a model file: .pkl with or without chumpy's objects, or .npz; regressor sparse or dense.

    The real MANO_LEFT has the x components of its shape directions with the wrong sign (vchoutas/smplx#48): its betas
    make hands thinner where they should grow. It is found out from the file alone: people's hands differ most in size,
    so a direction moves the vertices out, or in, along all three axes. With the wrong sign they go out along one axis
    and in along the others. Such directions get the right sign, as users of smplx give them with
    ``shapedirs[:, 0, :] *= -1``.

    Args:
        path: The file as it was downloaded.
        num_betas: Shape directions to keep. None: all where there are 16 or fewer, else ten. SMPL-X: of the first 300
            of its 400 directions, or of the first ten where there are fewer than 400; expressions come after.
        mend_left: Whether to change the sign for a left hand; None: where the file has the wrong one.

    Raises:
        BodyError: the file is damaged or lacks something; says which field, what was expected and what was found.
    """
    path = Path(path)
    fields = _Fields(path, _load(path))
    kind, parents = _tree(fields)
    template = fields.floats("v_template", ("V", 3), {})
    sizes = {"V": len(template), "J": len(parents), "P": 9 * (len(parents) - 1)}
    weights = fields.floats("weights", ("V", "J"), sizes)
    if (weights < -1e-4).any() or np.abs(weights.sum(1) - 1).max() > 1e-2:
        raise fields.error("weights", "rows that sum to one", f"sums from {weights.sum(1).min():.3g}")
    regressor = fields.floats("J_regressor", ("J", "V"), sizes)
    directions, expression = _split_shapes(kind, fields.floats("shapedirs", ("V", 3, "K"), sizes))
    kept = _num_betas(path, num_betas, directions.shape[-1])
    side = _side(regressor @ template) if kind == "mano" else None
    mended = side == "left" and (has_wrong_sign(template, directions) if mend_left is None else mend_left)
    if mended:
        directions = directions * np.array([-1.0, 1.0, 1.0])[:, None]
    name = "mano-left" if side == "left" else kind
    data = BodyData(
        name=name,
        v_template=_float32(template),
        shapedirs=_float32(directions[..., :kept]),
        posedirs=_float32(fields.floats("posedirs", ("V", 3, "P"), sizes)),
        weights=_float32(weights),
        faces=_faces(fields, len(template)),
        parents=parents,
        joint_names=JOINT_NAMES[kind],
        J_template=_float32(regressor @ template),
        J_shapedirs=_float32(np.einsum("jv,vck->jck", regressor, directions[..., :kept], optimize=True)),
        mirror_vertices=None,
        mirror_joints=None,
        provenance=_provenance(path, kind, mended),
        tpose=None if kind == "mano" else np.zeros((len(parents), 3), np.float32),
    )
    mean, components = _hand_poses(fields, kind)
    shown = None if expression is None else _float32(expression)
    return LicensedModel(kind, side, data, mean, components, shown, directions.shape[-1], bool(mended))


def has_wrong_sign(template: Floats, directions: Floats) -> bool:
    """Say whether the x components of shape directions (V, 3, K) have the wrong sign on a template (V, 3).

    Each direction is compared with growth about the middle: its slope along each axis. Of sound directions the slopes
    agree in sign, most of all where they are large, so that their sum is larger than with x turned round.
    """
    centred = template - template.mean(0)
    slopes = np.einsum("vc,vck->ck", centred, directions) / (centred**2).sum(0)[:, None]
    sound = float((slopes.sum(0) ** 2).sum())
    turned = float(((slopes[1] + slopes[2] - slopes[0]) ** 2).sum())
    return turned > sound


class _Fields:
    """The fields of a file, each checked as it is taken."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self.content = content

    def error(self, name: str, expected: str, got: str) -> BodyError:
        """Return the one line that says what is wrong with a field."""
        return BodyError(f"{self.path}: expected {name} with {expected}, got {got}; download the file again")

    def array(self, name: str) -> Array:
        """Return a field as a dense array of numbers."""
        if name not in self.content:
            there = ", ".join(sorted(set(self.content) & _ALL)) or "none of a model's"
            raise BodyError(
                f"{self.path}: expected a field {name}, found {there}; bring the model's own file, as it is downloaded"
            )
        value = self.content[name]
        if isinstance(value, Unreadable):
            raise self.error(name, "plain numbers", f"one that {value.reason}")
        if hasattr(value, "toarray"):
            value = value.toarray()
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
            raise self.error(name, "plain numbers", what)
        return value

    def floats(self, name: str, shape: tuple[str | int, ...], sizes: dict[str, int]) -> Floats:
        """Return a field of finite numbers whose shape is as said; letters that are not in ``sizes`` match any size."""
        value = self.array(name).astype(np.float64)
        wanted = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in shape)
        fits = len(wanted) == value.ndim and all(
            isinstance(n, str) or n == m for n, m in zip(wanted, value.shape, strict=True)
        )
        if not fits or value.size == 0:
            said = ", ".join(str(n) for n in wanted)
            raise self.error(name, f"shape ({said})", f"shape {value.shape}")
        if not np.isfinite(value).all():
            bad = int((~np.isfinite(value)).sum())
            raise self.error(name, "finite numbers", f"{bad} that are not")
        if np.abs(value).max() > MAX_NUMBER:
            raise self.error(name, f"numbers up to {MAX_NUMBER:g}", f"{np.abs(value).max():.3g}")
        return value


def _load(path: Path) -> dict[str, Any]:
    """Read what the file holds, by its first bytes: zip archives are npz files."""
    try:
        with open_plain(path) as handle:
            start = handle.read(_BEGINNING)
    except OSError as error:
        raise BodyError(f"{path}: cannot be read ({error.strerror or error})") from error
    is_npz = start.startswith(ZIP)
    foreign = foreign_kind(path if is_npz else start, (".pkl", ".npz"))
    if foreign is not None and not start.startswith(b"\x80"):
        raise BodyError(f"{path}: expected a model's pkl or npz, got {foreign.what}; {foreign.remedy}")
    return load_npz(path, sorted(_ALL)) if is_npz else load_pickle(path)


def _tree(fields: _Fields) -> tuple[str, NDArray[np.int64]]:
    """Return the kind of model and the parents of its joints."""
    table = fields.array("kintree_table")
    if table.ndim != 2 or len(table) != 2 or table.shape[1] not in _KIND_OF:
        known = ", ".join(f"{n} of {kind.upper()}" for n, kind in sorted(_KIND_OF.items()))
        raise fields.error("kintree_table", f"shape (2, J), J one of {known}", f"shape {table.shape}")
    kind = _KIND_OF[table.shape[1]]
    parents = table[0].astype(np.int64)
    # The root is -1, which files have as unsigned numbers of 32 or 64 bits.
    if parents[0] in (-1, 2**32 - 1):
        parents[0] = -1
    if parents[0] != -1 or (parents[1:] >= np.arange(1, len(parents))).any() or (parents[1:] < 0).any():
        raise fields.error("kintree_table", "a tree whose parents come before their children", "one that is no tree")
    expected = _parents(JOINT_NAMES[kind])
    if (parents != expected).any():
        j = int(np.flatnonzero(parents != expected)[0])
        raise fields.error(
            "kintree_table", f"the joints of {kind.upper()}", f"parent {parents[j]} of joint {j}, not {expected[j]}"
        )
    return kind, parents


def _parents(names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the parents that joints of these names have."""
    parents = []
    for j, name in enumerate(names):
        side, _, joint = name.rpartition("_")
        if names[0] == "pelvis" and j < len(_BODY):
            parents.append(_BODY_PARENTS[j])
        elif j == 0:
            parents.append(-1)
        elif name in _FACE:
            parents.append(names.index("head"))
        elif joint[-1] in "23":
            parents.append(j - 1)
        else:
            parents.append(names.index(f"{side}_wrist" if side else "wrist"))
    return np.array(parents, np.int64)


def _faces(fields: _Fields, num_vertices: int) -> NDArray[np.int64]:
    """Return the triangles."""
    faces = fields.array("f")
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise fields.error("f", "shape (F, 3)", f"shape {faces.shape}")
    indices = faces.astype(np.int64)
    if (indices != faces).any() or indices.min() < 0 or indices.max() >= num_vertices:
        raise fields.error("f", f"indices of {num_vertices} vertices", f"numbers from {faces.min()} to {faces.max()}")
    return indices


def _split_shapes(kind: str, directions: Floats) -> tuple[Floats, Floats | None]:
    """Return shape directions and SMPL-X's expressions, by smplx's rule."""
    if kind != "smplx":
        return directions, None
    start = SMPLX_SHAPES if directions.shape[-1] >= SMPLX_SHAPES + SMPLX_EXPRESSIONS else SMPLX_OLD
    count = SMPLX_EXPRESSIONS if start == SMPLX_SHAPES else SMPLX_OLD
    expression = directions[..., start : start + count]
    return directions[..., :start], expression if expression.shape[-1] else None


def _num_betas(path: Path, wanted: int | None, there: int) -> int:
    """Return how many shape directions to keep."""
    if wanted is None:
        return there if there <= MAX_BETAS_WHOLE else DEFAULT_BETAS
    if not 1 <= wanted <= there:
        raise BodyError(f"{path}: expected 1 to {there} betas, as the file has them, got {wanted}; ask for fewer")
    return wanted


def _side(joints: Floats) -> str:
    """Return whose hand MANO's file is: hands come as parts of a T-pose, fingers away from the body, left at +x."""
    return "left" if joints[1:, 0].mean() > joints[0, 0] else "right"


def _hand_poses(fields: _Fields, kind: str) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return mean poses (H, 45) and components (H, C, 45) of the hands; a body's file may be without."""
    if kind not in _OF_HANDS:
        return None, None
    means, components = _OF_HANDS[kind]
    if kind != "mano" and not any(name in fields.content for name in means + components):
        return None, None
    values = 3 * HAND_JOINTS
    mean = np.stack([fields.floats(name, (values,), {}) for name in means])
    parts = [fields.floats(name, ("C", values), {}) for name in components]
    if len({len(part) for part in parts}) > 1:
        raise fields.error(components[1], f"shape {parts[0].shape}, as the left hand's", f"shape {parts[1].shape}")
    return _float32(mean), _float32(np.stack(parts))


def _provenance(path: Path, kind: str, mended: bool) -> dict[str, str]:
    note = {"source": f"{kind.upper()}, file {path.name}", "licence": "that of the model's authors; do not pass it on"}
    if mended:
        note["changed"] = "sign of the x components of shapedirs (vchoutas/smplx#48)"
    return note


def _float32(array: Array) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)
