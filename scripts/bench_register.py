"""Measure what one registration costs: seconds by stage, peak memory, and what the diagonal saves in the descent.

    python scripts/bench_register.py [SCAN] [--model anny+d | anny-hand+d] [--runs 3] [--threads 2]

A mesh of fewer than 40,000 vertices is subdivided until it has as many. The first run of the process is told apart
(cold: it loads bodies and weights), and of the others the fastest is shown: other work on the machine only ever adds.
--json FILE keeps the figures.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvdreg import __version__
from lvdreg.cli import ExampleKind, registrar
from lvdreg.cli.doctor import examples, is_hand
from lvdreg.descent.boxes import UPS, box_transform, to_unit
from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.descent.hand_boxes import find_hand
from lvdreg.descent.weights import hand_detector_weights, voxel_weights
from lvdreg.field import VertexField
from lvdreg.geometry.mesh import face_areas
from lvdreg.pipeline.config import HAND, RegisterConfig
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import Scan, oriented_points, read_scan, scan_from_arrays

NUM_VERTICES = 40_000


def subdivided(scan: Scan, least: int) -> Scan:
    """Split the largest triangles of a mesh at their centres until it has so many vertices; its surface stays."""
    vertices, faces = scan.points, scan.faces
    while faces is not None and len(vertices) < least:
        chosen = np.argsort(-face_areas(vertices, faces))[: least - len(vertices)]
        centres = np.arange(len(chosen)) + len(vertices)
        vertices = np.concatenate([vertices, vertices[faces[chosen]].mean(1)])
        parts = [np.column_stack([faces[chosen][:, [i, (i + 1) % 3]], centres]) for i in range(3)]
        faces = np.concatenate([np.delete(faces, chosen, axis=0), *parts])
    return scan_from_arrays(vertices, faces, name=scan.name)


def fastest(action: Callable[[], Any], runs: int) -> float:
    """Return the seconds of the fastest of some runs."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def stages(scan: Scan, model: str, runs: int) -> dict[str, dict[str, float]]:
    """Return the seconds of each stage and their sum: of the first run, and of the fastest of some later ones."""
    register = registrar(ExampleKind.HAND if is_hand(model) else ExampleKind.BODY)
    cold, *warm = (register(scan, model=model).timings for _ in range(runs + 1))
    best = min(warm, key=lambda timings: sum(timings.values()))
    return {name: {**seconds, "whole": sum(seconds.values())} for name, seconds in (("cold", cold), ("warm", best))}


class AllPairsField(VertexField):
    """The reference's way: every head at every point, of which the diagonal is kept."""

    def forward(
        self, features: torch.Tensor, points: torch.Tensor, vertices: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Evaluate all heads, some points at a time so that the N x N x 3 numbers need not be held at once."""
        steps = []
        heads = torch.arange(points.shape[1]) if vertices is None else vertices
        for i in range(0, points.shape[1], 500):
            part = self.all_heads(features[:, i : i + 500], points[:, i : i + 500])
            steps.append(part[:, torch.arange(part.shape[1]), heads[i : i + 500]])
        return torch.cat(steps, 1)


def in_box(scan: Scan, body: str) -> torch.Tensor:
    """Return points of a scan as the network sees them, (1, P, 3)."""
    config = HAND if is_hand(body) else RegisterConfig()
    points = oriented_points(clean_scan(scan, config.clean), voxel_weights(body).net.config.voxel.num_points)[0]
    if is_hand(body):
        return to_unit(points, find_hand(hand_detector_weights(body).net, points, "auto", config.views)[0].T_unit_scan)[
            None
        ]
    return to_unit(points, box_transform(points, UPS["+y"]))[None]


def descents(scan: Scan, body: str, runs: int) -> dict[str, float]:
    """Time whole descents from one point to rest of the same network on the same scan, the diagonal and all pairs.

    ``with_encoder`` is a descent and, before it, what the encoder makes of the points.
    """
    net, unit = voxel_weights(body).net, in_box(scan, body)
    valid = torch.ones(unit.shape[:2], dtype=torch.bool)
    all_pairs = AllPairsField.__new__(AllPairsField)
    all_pairs.__dict__ = net.field.__dict__
    config = DescentConfig()
    with torch.inference_mode():
        features = net.features(unit, valid)
        one, other = (descend(field, features, 1, config).vertices for field in (net.field, all_pairs))
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
        diagonal = fastest(lambda: descend(net.field, features, 1, config), runs)
        pairs = fastest(lambda: descend(all_pairs, features, 1, config), runs)
        both = fastest(lambda: descend(net.field, net.features(unit, valid), 1, config), runs)
    return {"diagonal": diagonal, "all_pairs": pairs, "ratio": pairs / diagonal, "with_encoder": both}


def help_seconds(runs: int) -> float:
    """Return how long ``lvdreg --help`` takes, from its own start to its end."""
    command = [sys.executable, "-m", "lvdreg", "--help"]
    return fastest(lambda: subprocess.run(command, check=True, capture_output=True), runs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", nargs="?", type=Path, help="By default the first example for the model.")
    parser.add_argument("--model", default="anny+d")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found_scans = [options.scan] if options.scan else examples("hand" if is_hand(options.model) else "body")
    if not found_scans:
        parser.error("no example scan is found: name a scan")
    options.scan = found_scans[0]
    torch.set_num_threads(options.threads)
    scan = subdivided(read_scan(options.scan), NUM_VERTICES)
    found: dict[str, Any] = {
        "lvdreg": __version__,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.threads} threads",
        "scan": f"{options.scan.name}, {len(scan.points)} vertices",
        "help_s": help_seconds(options.runs),
        "stages_s": stages(scan, options.model, options.runs),
        # Kilobytes on Linux, bytes on macOS.
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e9,
        "descent_s": descents(scan, options.model.removesuffix("+d"), options.runs),
    }
    print(json.dumps(found, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
