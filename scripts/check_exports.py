"""Read exports by programs of others, and compare with our own skinning: validator, three.js, USD, BVH, trimesh.

    python scripts/check_exports.py RESULT... [--motion SEQUENCE] [--out FOLDER]

Needs node and npm, which fetch three, gltf-validator and puppeteer-core into FOLDER; Chromium; and the Python packages
usd-core and bvh. Writes pictures of the models as three.js shows them. Status 1 if anything is further off than 0.1 mm.
"""

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyParams
from lvdreg.export.bones import bone_names
from lvdreg.export.figure import Figure, figure_of, rigged
from lvdreg.export.rigged import split_at_seams
from lvdreg.export.run import Wanted, export_result
from lvdreg.result.read import SavedResult, find_results, read_result

PACKAGES = ("three@0.187.0", "gltf-validator@2.0.0-dev.3.10", "puppeteer-core@24.43.1")
LIMIT_MM = 0.1
HERE = Path(__file__).parent


def main() -> int:
    """Export, read again, compare, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--motion", type=Path, help="result of lvdreg sequence")
    parser.add_argument("--out", type=Path, default=Path("out/exports"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = [] if args.motion is None else check_motion(args.motion, args.out)
    for folder in find_results(args.results) if args.results else []:
        result = read_result(folder)
        rows += check_rigged(result, args.out) + check_usd(result, args.out)
        rows += check_bvh(result, args.out) + check_obj(result, args.out)
    for name, error in rows:
        print(f"{name:60} {error:9.5f} mm" if error is not None else f"{name:60} clean")
    return int(any(error is not None and not error <= LIMIT_MM for _, error in rows))


def written(result: SavedResult, out: Path, wanted: Wanted) -> Path:
    """Export a result and return the first file."""
    return export_result(result.folder, wanted, out, force=True).files[0]


def off_mm(found: np.ndarray, ours: np.ndarray) -> float:
    """Return by how much points (..., 3) in metres differ at most."""
    return 1000 * float(np.linalg.norm(found - ours, axis=-1).max())


def source_of(figure: Figure) -> np.ndarray:
    """Return which vertex of the model each of a glTF file is."""
    if figure.layout is None:
        return np.arange(len(figure.rest))
    return split_at_seams(figure.faces, figure.layout, len(figure.rest)).source


def read_by_three(jobs: list[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
    """Let the validator and three.js read models; ends the program if either complains."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or shutil.which("npm") is None:
        raise SystemExit("expected chromium, node and npm, found not all: apt-get install chromium nodejs npm")
    if not (out / "node_modules" / "three").is_dir():
        subprocess.run(["npm", "install", "--prefix", str(out), "--silent", *PACKAGES], check=True)
    (out / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    subprocess.run(["node", str(HERE / "check_exports.mjs"), str(out), chromium], check=True)
    found = json.loads((out / "answers.json").read_text(encoding="utf-8"))
    for answer in found["answers"]:
        issues: dict[str, Any] = answer["issues"]
        if issues["numErrors"] or issues["numWarnings"]:
            raise SystemExit(f"{answer['file']}: the validator found {json.dumps(issues, indent=1)[:2000]}")
    if found["complaints"]:
        raise SystemExit(f"the browser's console says {found['complaints']}")
    answers: list[dict[str, Any]] = found["answers"]
    return answers


def check_rigged(result: SavedResult, out: Path) -> list[tuple[str, float | None]]:
    """Validate GLB files, load them in a browser and pose them anew there."""
    turns = np.random.default_rng(0).normal(0, 0.3, (len(result.body.parents), 3))
    jobs, expected = [], []
    for weights, bones, pose in ((8, "smpl", "scan"), (8, "vrm", "t"), (4, "mixamo", "a"), (4, "smpl", "scan")):
        wanted = Wanted(("glb",), pose=pose, bones=bones, weights=weights)
        figure = figure_of(result, pose, bones, weights, wanted.morphs)
        anew = Rotation.from_matrix(figure.rotations) * Rotation.from_rotvec(turns)
        moved = replace(figure, rotations=anew.as_matrix(), rest=figure.rest + 1.5 * figure.morphs[1])
        kept = [weight for _, weight in figure.named_morphs().values()]
        morphs = [1.5 if name == "beta_1" else w for name, w in zip(figure.named_morphs(), kept, strict=True)]
        name = f"{result.folder.name}-{weights}-{bones}-{pose}"
        shutil.copy(written(result, out, wanted), out / f"{name}.glb")
        jobs.append({"file": f"{name}.glb", "poses": [{}, {"bones": anew.as_quat().tolist(), "morphs": morphs}]})
        expected.append((name, figure, moved))
    rows: list[tuple[str, float | None]] = []
    for (name, figure, moved), answer in zip(expected, read_by_three(jobs, out), strict=True):
        issues = answer["issues"]
        rows.append((f"{name}: validator, {issues['numInfos']} infos, {issues['numHints']} hints", None))
        for pose, vertices, own in zip(("as written", "posed anew"), answer["vertices"], (figure, moved), strict=True):
            error = off_mm(np.array(vertices).reshape(-1, 3), own.posed()[source_of(figure)])
            rows.append((f"{name}: three.js, {pose}", error))
    return rows


def check_motion(folder: Path, out: Path) -> list[tuple[str, float | None]]:
    """Play an animation in a browser, and read its BVH; frames are held against our own skinning."""
    import bvh

    arrays = np.load(folder / "motion.npz")
    body, num = load_body(str(arrays["model"])), len(arrays["pose"])
    betas = torch.from_numpy(arrays["betas"])
    about = float(arrays["scale"]), "motion", bone_names(body.data.joint_names, "smpl", None)
    params = [BodyParams(betas, *(torch.from_numpy(arrays[x][i]) for x in ("pose", "transl"))) for i in range(num)]
    figures = [rigged(body, each, *about) for each in params]
    # All are moved as the first one is.
    moved = arrays["scale"] * (arrays["transl"] - arrays["transl"][0])
    figures = [replace(each, transl=figures[0].transl + move) for each, move in zip(figures, moved, strict=True)]
    shutil.copy(folder / "motion.glb", out / "motion.glb")
    numbers = np.unique(np.linspace(0, num - 1, 7).round().astype(int)).tolist()
    times = [float(np.float32(i / arrays["fps"])) for i in numbers]
    (answer,) = read_by_three([{"file": "motion.glb", "poses": [{"time": time} for time in times]}], out)
    issues = answer["issues"]
    rows: list[tuple[str, float | None]] = [(f"motion: validator, {issues['numInfos']} infos", None)]
    for i, vertices in zip(numbers, answer["vertices"], strict=True):
        error = off_mm(np.array(vertices).reshape(-1, 3), figures[i].posed()[source_of(figures[0])])
        rows.append((f"motion: three.js, frame {i + 1}", error))
    tree = bvh.Bvh((folder / "motion.bvh").read_text(encoding="utf-8"))
    if tree.nframes != num or abs(tree.frame_time * arrays["fps"] - 1) > 1e-4:
        raise SystemExit(f"motion.bvh: {tree.nframes} frames of {tree.frame_time} s")
    for i in numbers:
        ours = figures[i].bone_transforms()[:, :3, 3]
        rows.append((f"motion: BVH by package bvh, frame {i + 1}", off_mm(joints_of_bvh(tree, i, figures[i]), ours)))
    return rows


def check_usd(result: SavedResult, out: Path) -> list[tuple[str, float | None]]:
    """Let UsdSkel skin the mesh."""
    from pxr import Usd, UsdGeom, UsdSkel, Vt

    path = written(result, out, Wanted(("usd",)))
    stage = Usd.Stage.Open(str(path))
    root = UsdSkel.Root(stage.GetDefaultPrim())
    cache = UsdSkel.Cache()
    cache.Populate(root, Usd.PrimDefaultPredicate)
    (bound,) = cache.ComputeSkelBindings(root, Usd.PrimDefaultPredicate)
    skeleton = cache.GetSkelQuery(bound.GetSkeleton())
    (skin,) = bound.GetSkinningTargets()
    points = UsdGeom.Mesh(skin.GetPrim()).GetPointsAttr().Get()
    moved = Vt.Vec3fArray(points)
    if skin.HasBlendShapes():
        blend = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(skin.GetPrim()))
        weights = skeleton.GetAnimQuery().ComputeBlendShapeWeights()
        blend.ComputeDeformedPoints(
            *blend.ComputeSubShapeWeights(weights),
            blend.ComputeBlendShapePointIndices(),
            blend.ComputeSubShapePointOffsets(),
            moved,
        )
    skin.ComputeSkinnedPoints(skeleton.ComputeSkinningTransforms(Usd.TimeCode.Default()), moved)
    return [(f"{result.folder.name}: UsdSkel", off_mm(np.array(moved), figure_of(result).posed()))]


def check_bvh(result: SavedResult, out: Path) -> list[tuple[str, float | None]]:
    """Compose offsets and angles as the package bvh reads them, and compare the joints."""
    import bvh

    with open(written(result, out, Wanted(("bvh",))), encoding="utf-8") as file:
        tree = bvh.Bvh(file.read())
    figure = figure_of(result)
    ours = figure.bone_transforms()[:, :3, 3]
    return [(f"{result.folder.name}: BVH by package bvh", off_mm(joints_of_bvh(tree, 0, figure), ours))]


def joints_of_bvh(tree: Any, frame: int, figure: Figure) -> np.ndarray:
    """Compose offsets and angles of a frame, and return the joints (J, 3) in the order of a figure's bones."""
    names = tree.get_joints_names()
    worlds: dict[str, np.ndarray] = {}
    for name in names:
        channels = tree.joint_channels(name)
        values = dict(zip(channels, tree.frame_joint_channels(frame, name, channels), strict=True))
        own = np.eye(4)
        own[:3, 3] = np.array(tree.joint_offset(name)) + [values.get(f"{axis}position", 0.0) for axis in "XYZ"]
        own[:3, :3] = np.eye(3)
        for channel, angle in values.items():
            if channel.endswith("rotation"):
                own[:3, :3] = own[:3, :3] @ Rotation.from_euler(channel[0].lower(), angle, degrees=True).as_matrix()
        parent = tree.joint_parent(name)
        worlds[name] = own if parent is None else worlds[parent.name] @ own
    return np.stack([worlds[name][:3, 3] for name in figure.bones])


def check_obj(result: SavedResult, out: Path) -> list[tuple[str, float | None]]:
    """Read the mesh with trimesh."""
    mesh = trimesh.load(written(result, out, Wanted(("obj",))), process=False, maintain_order=True)
    figure = figure_of(result)
    return [(f"{result.folder.name}: OBJ by trimesh", off_mm(mesh.vertices[mesh.faces], figure.posed()[figure.faces]))]


if __name__ == "__main__":
    sys.exit(main())
