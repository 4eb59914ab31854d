"""Measure what dense meshes cost: seconds by stage, peak memory, and how far their result lies from the original's.

    python scripts/bench_dense.py [SCAN] [--faces 1000000 10000000] [--formats ply obj stl glb] [--model anny+d]

The mesh is split evenly, noise moves every vertex, and each size and format is registered and saved by a process of its
own. The original is registered as it is, with a second seed, and with the least dense mesh left unthinned: a yardstick
for the differences. Seconds are of the processor, so that other work on the machine hardly matters; ``wall`` is the
clock's. --json FILE keeps the figures.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.cli import ExampleKind, registrar
from lvdreg.cli.doctor import examples, is_hand
from lvdreg.geometry.mesh import edges_of, mesh_normals
from lvdreg.geometry.metrics import body_to_body, corresponding_vertex
from lvdreg.result.glb import write_glb
from lvdreg.result.ply import write_ply
from lvdreg.scan import clean
from lvdreg.scan.model import read_scan

ROWS_AT_ONCE = 200_000


def split_evenly(points: FloatArray, faces: IntArray, parts: int) -> tuple[FloatArray, IntArray]:
    """Split every edge into so many parts, and every face into their square; the surface stays."""
    weights = np.array([(i, j, parts - i - j) for i in range(parts + 1) for j in range(parts + 1 - i)])
    place = {tuple(w): index for index, w in enumerate(weights.tolist())}
    triangles = []
    for i, j, k in weights.tolist():
        triangles += [[place[i, j, k], place[i - 1, j + 1, k], place[i - 1, j, k + 1]]] if i else []
        triangles += [[place[i, j, k], place[i - 1, j, k + 1], place[i, j - 1, k + 1]]] if i and j else []
    edges = edges_of(faces)
    keys = edges[:, 0] * len(points) + edges[:, 1]
    index = np.empty((len(faces), len(weights)), np.int64)
    blocks, count = [points], len(points)
    on_edges = points[edges[:, :1]] + np.arange(1, parts)[None, :, None] / parts * (
        points[edges[:, 1:]] - points[edges[:, :1]]
    )
    blocks.append(on_edges.reshape(-1, 3))
    first_inner = count + len(edges) * (parts - 1)
    inner = np.flatnonzero((weights > 0).all(1))
    blocks.append(np.einsum("wk,fkc->fwc", weights[inner] / parts, points[faces]).reshape(-1, 3))
    index[:, inner] = first_inner + np.arange(len(faces) * len(inner)).reshape(len(faces), -1)
    for column, weight in enumerate(weights.tolist()):
        used = [k for k in range(3) if weight[k]]
        if len(used) == 1:
            index[:, column] = faces[:, used[0]]
        elif len(used) == 2:
            a, b = faces[:, used[0]], faces[:, used[1]]
            edge = np.searchsorted(keys, np.minimum(a, b) * len(points) + np.maximum(a, b))
            steps = np.where(a < b, weight[used[1]], weight[used[0]])
            index[:, column] = count + edge * (parts - 1) + steps - 1
    return np.concatenate(blocks), index[:, triangles].reshape(-1, 3)


def dense_copy(scan: Path, num_faces: int, noise: float, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Return vertices and faces of a scan split into about so many faces; noise is a share of the mesh's extent."""
    read = read_scan(scan)
    if read.faces is None:
        raise SystemExit(f"{scan}: expected a mesh")
    points, faces = split_evenly(read.points, read.faces, max(1, round(float(np.sqrt(num_faces / len(read.faces))))))
    along = noise * float(np.ptp(points, axis=0).max()) * np.random.default_rng(seed).normal(size=(len(points), 1))
    return points + along * mesh_normals(points, faces), faces


def write_mesh(path: Path, points: FloatArray, faces: IntArray) -> None:
    """Write a mesh in the format that the suffix names."""
    if path.suffix == ".ply":
        write_ply(path, points, faces)
    elif path.suffix == ".glb":
        write_glb(path, points, faces, np.full(3, 0.5), "lvdreg")
    elif path.suffix == ".stl":
        record = np.zeros(len(faces), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
        record["corners"] = points[faces]
        path.write_bytes(bytes(80) + len(faces).to_bytes(4, "little") + record.tobytes())
    else:
        with path.open("w", encoding="ascii") as file:
            for start in range(0, len(points), ROWS_AT_ONCE):
                rows = points[start : start + ROWS_AT_ONCE].tolist()
                file.write("".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in rows))
            for start in range(0, len(faces), ROWS_AT_ONCE):
                corners = (faces[start : start + ROWS_AT_ONCE] + 1).tolist()
                file.write("".join(f"f {a} {b} {c}\n" for a, b, c in corners))


def register_one(scan: Path, model: str, seed: int, unthinned: bool, out: Path) -> None:
    """Register a file, save its result, and keep what it cost beside it."""
    if unthinned:
        clean.MAX_MESH = clean.MAX_CLOUD = sys.maxsize
    begun, marks = time.perf_counter(), list[tuple[str, float]]()
    register = registrar(ExampleKind.HAND if is_hand(model) else ExampleKind.BODY)
    result = register(scan, model=model, seed=seed, progress=lambda name: marks.append((name, time.process_time())))
    marks.append(("save", time.process_time()))
    result.save(out)
    ends = [at for _, at in marks[1:]] + [time.process_time()]
    seconds = {name: round(end - at, 2) for (name, at), end in zip(marks, ends, strict=True)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    whole = {"whole": round(ends[-1] - marks[0][1], 2), "wall": round(time.perf_counter() - begun, 1)}
    metres = np.linalg.norm(result.T_scan_model[:3, 0])
    np.savez(
        out / "bench.npz", body=result.body_vertices / metres, surface=result.vertices / metres, faces=result.faces
    )
    cost = {"seconds": seconds | whole, "peak_gb": round(peak, 2), "verdict": result.verdict}
    (out / "bench.json").write_text(json.dumps(cost), encoding="utf-8")


def measured(scan: Path, model: str, out: Path, seed: int = 0, unthinned: bool = False) -> dict[str, Any]:
    """Register in a process of its own; return what it cost."""
    command = [sys.executable, __file__, str(scan), "--model", model, "--one", str(out), "--seed", str(seed)]
    subprocess.run([*command, *(["--unthinned"] if unthinned else [])], check=True)
    cost: dict[str, Any] = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    return cost


def differences(one: Path, other: Path) -> dict[str, float]:
    """Return how far two results lie apart, millimetres: of the surfaces, and along them."""
    a, b = np.load(one / "bench.npz"), np.load(other / "bench.npz")
    faces = a["faces"].astype(np.int64)
    apart = {}
    for name in ("body", "surface"):
        apart[f"{name}_mm"] = round(body_to_body(a[name], b[name], faces, faces), 3)
        apart[f"{name}_vertices_mm"] = round(corresponding_vertex(a[name], b[name], faces), 3)
    return apart


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", nargs="?", type=Path, help="By default the first example for the model.")
    parser.add_argument("--model", default="anny+d")
    parser.add_argument("--faces", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--formats", nargs="+", default=["ply", "obj", "stl", "glb"])
    parser.add_argument("--noise", type=float, default=1e-4, help="One-sigma, as a share of the mesh's extent.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--unthinned", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    scan = options.scan or examples("hand" if is_hand(options.model) else "body")[0]
    if options.one:
        register_one(scan, options.model, options.seed, options.unthinned, options.one)
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def run(name: str, file: Path, seed: int = 0, unthinned: bool = False) -> None:
            found[name] = measured(file, options.model, place / name, seed, unthinned)
            if name != "original":
                found[name] |= {"to_original": differences(place / name, place / "original")}
            print(name, json.dumps(found[name]), flush=True)

        run("original", scan)
        run("seed_1", scan, seed=1)
        for count in options.faces:
            points, faces = dense_copy(scan, count, options.noise)
            for suffix in options.formats:
                file = place / f"dense.{suffix}"
                write_mesh(file, points, faces)
                run(f"{len(faces)}_{suffix}", file)
                if count == min(options.faces) and suffix == options.formats[0]:
                    run(f"{len(faces)}_unthinned", file, unthinned=True)
                file.unlink()
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
