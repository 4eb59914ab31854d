"""Measure what it costs to find another topology with the free body's network: real scans, SMPL's own vertices.

    python scripts/bench_transfer.py FAUST [--out out/transfer] [--first 10] [--last 29] [--no-free] [--bare]

FAUST's registrations have the vertices of SMPL in their order. The first of them becomes the template of a model in
SMPL's format, with weights, joints and shape directions of the free body, all carried over from its registration. The
model is added as users add theirs, then scans are registered with it and compared with their registrations vertex by
vertex. Beside it stands what the free body itself reaches on the same scans: the inter-subject error of ``faust``.

With ``--bare`` the mesh is added as it is, without a rig.

The model and the results live in a temporary folder and in --out; nothing of FAUST's may enter the repository.
Interrupted runs go on where they were.
"""

import argparse
import json
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body import store
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.body.transfer import Correspondence, place_template, transfer_notes
from lvdreg.evaluate.faust import pair_masks, read_mesh
from lvdreg.geometry.mesh import interpolate, vertex_areas
from lvdreg.geometry.metrics import corresponding_vertex, corresponding_vertex_errors, faust_matrix, faust_pairs
from lvdreg.pipeline.scan import correspond, register
from lvdreg.pipeline.template import rig_mesh
from lvdreg.result.ply import write_ply
from lvdreg.result.scan import Registration
from lvdreg.scan.model import scan_from_arrays

SOURCE = "anny"
NUM_BETAS = 10
WIDER = 1.5
"""The template is one person, not the mean one: others lie further from it than shape directions expect."""
NUM_BODY_JOINTS = 22
HANDS = ("left_hand", "right_hand")
REGRESSED_FROM = 300


def smpl_like(vertices: FloatArray, faces: IntArray) -> dict[str, Any]:
    """Return the arrays of a model in SMPL's format whose template is a mesh (V, 3), (F, 3) of a person at rest.

    Weights, joints and shape directions are the free body's, read where the vertices lie on it. There is nothing to
    learn pose blend shapes from: they are zero.
    """
    found = register(scan_from_arrays(vertices, faces, name="template"), model=f"{SOURCE}+d", unit="m", up="+y")
    body = load_body(SOURCE)
    model = _Template(vertices, faces)
    places = place_template(model, body.data, found.body_vertices, found.vertices)
    shape, joint_shape = _directions(body, found)
    weights, joints, joint_shape = _with_hands(body, found, joint_shape)
    shapedirs = WIDER * _carried(shape.reshape(len(shape), -1), body, places).reshape(-1, 3, NUM_BETAS)
    regressor = _regressor(vertices, shapedirs, joints, WIDER * joint_shape)
    parents = [*(int(p) for p in body.data.parents[:NUM_BODY_JOINTS]), 20, 21]
    return {
        "v_template": vertices,
        "shapedirs": shapedirs,
        "posedirs": np.zeros((len(vertices), 3, 9 * (len(parents) - 1))),
        "weights": _carried(weights, body, places),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "kintree_table": np.stack([np.array(parents) % 2**32, np.arange(len(parents))]).astype(np.uint32),
        "f": faces.astype(np.uint32),
        "J": regressor @ vertices,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


class _Template(BodyData):
    """As much of a body as places are sought for."""

    def __init__(self, vertices: FloatArray, faces: IntArray) -> None:
        vars(self).update(v_template=vertices, faces=faces, name="template")


def _carried(values: FloatArray, body: BodyModel, places: Correspondence) -> FloatArray:
    return interpolate(values, body.data.faces, places.faces_index, places.bary)


@torch.no_grad()
def _directions(body: BodyModel, found: Registration) -> tuple[FloatArray, FloatArray]:
    """Return how vertices (S, 3, K) and joints (J, 3, K) of the free body move with its betas, as it stands there."""
    names = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose")
    pose = torch.from_numpy(np.concatenate([found.params[name] for name in names]).reshape(-1, 3))
    betas = torch.from_numpy(found.params["betas"]).repeat(1 + NUM_BETAS, 1)
    betas[1:, :NUM_BETAS] += torch.eye(NUM_BETAS)
    posed = body(BodyParams(betas, pose.expand(len(betas), -1, -1), torch.zeros(len(betas), 3)))
    turn = found.T_scan_model[:3, :3]
    moved = [(x[1:] - x[0]).double().numpy() @ turn.T for x in (posed.vertices, posed.joints)]
    return np.moveaxis(moved[0], 0, -1), np.moveaxis(moved[1], 0, -1)


def _with_hands(
    body: BodyModel, found: Registration, joint_shape: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Merge the fingers of each hand into one joint, as SMPL has it, at the middle finger's first."""
    names, weights = body.joint_names, body.data.weights.astype(np.float64)
    merged, at = [weights[:, :NUM_BODY_JOINTS]], list(range(NUM_BODY_JOINTS))
    for hand in HANDS:
        side = hand.removesuffix("hand")
        fingers = [j for j in range(NUM_BODY_JOINTS, len(names)) if names[j].startswith(side)]
        merged.append(weights[:, fingers].sum(1, keepdims=True))
        at.append(names.index(f"{side}middle1"))
    return np.concatenate(merged, axis=1), found.joints[at], joint_shape[at]


def _regressor(vertices: FloatArray, shapedirs: FloatArray, joints: FloatArray, joint_shape: FloatArray) -> FloatArray:
    """Return the smallest weights (J, V) of near vertices that give the joints, and their motion with the betas."""
    out = np.zeros((len(joints), len(vertices)))
    for row, joint, moved in zip(out, joints, joint_shape, strict=True):
        near = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:REGRESSED_FROM]
        rows = np.vstack([vertices[near].T, np.ones(len(near)), shapedirs[near].reshape(len(near), -1).T])
        wanted = np.concatenate([joint, [1.0], moved.ravel()])
        start = np.full(len(near), 1 / len(near))
        row[near] = start + np.linalg.lstsq(rows, wanted - rows @ start, rcond=1e-6)[0]
    return out


def add_template(registration: Path, folder: Path) -> str:
    """Make a model of one mesh, add it to the models in ``LVDREG_MODELS``, and return its name."""
    path = folder / "template.pkl"
    path.write_bytes(pickle.dumps(smpl_like(*read_mesh(registration)), protocol=2))
    return store.add(path, "smpl", correspond=correspond)


def add_bare(registration: Path, folder: Path) -> str:
    """Add the mesh itself, without a rig, and return its name."""
    vertices, faces = read_mesh(registration)
    write_ply(folder / "bare.ply", vertices, faces)
    return store.add(folder / "bare.ply", correspond=correspond, rig=rig_mesh)


def surfaces(scan: Path, model: str, out: Path) -> dict[str, NDArray[Any]]:
    """Register a scan, or read what was kept of it: ``surface`` and ``body``, both (V, 3), and ``seconds``."""
    kept = out / model / f"{scan.stem}.npz"
    if not kept.exists():
        result = register(scan, model=model, unit="m")
        kept.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"surface": result.vertices, "body": result.body_vertices, "faces": result.faces}
        arrays |= {"seconds": np.array(sum(result.timings.values())), "sigma_mm": result.sigma_mm}
        arrays |= {"descent": result.steps["descent"], "verdict": np.array(result.verdict)}
        np.savez_compressed(kept, **arrays)
    with np.load(kept) as file:
        return dict(file)


def line(name: str, values: list[float] | FloatArray, unit: str = "mm") -> str:
    """Return one line: mean, median, least and most."""
    v = np.asarray(values)
    return f"{name}: mean {v.mean():.1f}, median {np.median(v):.1f}, {v.min():.1f} to {v.max():.1f} {unit} of {v.size}"


def measure(faust: Path, model: str, names: list[str], out: Path, free: bool) -> dict[str, Any]:
    """Register all scans and return the figures; each is printed as it is known."""
    figures: dict[str, Any] = {}
    truths: dict[str, tuple[FloatArray, FloatArray]] = {}
    for name in ["000", *names]:
        truth, faces = read_mesh(faust / "registration" / f"{name}.ply")
        found = surfaces(faust / "scan" / f"{name}.ply", f"{model}+d", out)
        errors = corresponding_vertex_errors(found["surface"], truth)
        figures[name] = {
            "corresponding_vertex_mm": corresponding_vertex(found["surface"], truth, faces),
            "median_mm": float(np.median(errors)),
            "body_mm": corresponding_vertex(found["body"], truth, faces),
            "descent_mm": corresponding_vertex(found["descent"], truth, faces),
            "verdict": str(found["verdict"]),
            "seconds": float(found["seconds"]),
        }
        truths[name] = truth, vertex_areas(truth, faces)
        print(name, json.dumps({k: v if isinstance(v, str) else round(v, 1) for k, v in figures[name].items()}))
    for key in ("corresponding_vertex_mm", "median_mm", "body_mm", "descent_mm"):
        print(line(f"{model}+d, {key}", [figures[name][key] for name in names]))
    points, weights = np.stack([truths[n][0] for n in names]), np.stack([truths[n][1] for n in names])
    inter = pair_masks([int(n) // 10 for n in names])[0]
    for each in (f"{model}+d", *(["anny+d"] if free else [])):
        kept = [surfaces(faust / "scan" / f"{n}.ply", each, out) for n in names]
        errors = faust_pairs(np.stack([f["surface"] for f in kept]), kept[0]["faces"], points)
        mean = faust_matrix(errors, weights)[0]
        figures[f"faust inter, {each}"] = float(mean[inter].mean())
        print(line(f"{each}, faust inter-subject", mean[inter]))
    return figures


def main() -> None:
    """Read the command line, measure, print, and keep the figures in --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faust", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/transfer"))
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--last", type=int, default=29)
    parser.add_argument("--no-free", action="store_true", help="leave out the free body itself")
    parser.add_argument("--bare", action="store_true", help="add the mesh itself, without a rig")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LVDREG_MODELS"] = str(Path(folder) / "models")
        add = add_bare if given.bare else add_template
        name = add(given.faust / "registration" / "000.ply", Path(folder))
        places = store.correspondence(name)
        print(line("template to the free body", places.residual_mm[~places.blind]), *transfer_notes(places), sep="\n")
        names = [f"{i:03d}" for i in range(given.first, given.last + 1)]
        figures = measure(given.faust, name, names, given.out, not given.no_free)
    (given.out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
