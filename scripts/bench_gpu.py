"""Check a GPU against the CPU on the shipped example, and say what a scan costs on it, by stage and size of batch.

    PYTHONPATH=. python scripts/bench_gpu.py                              # three minutes on a GPU
    PYTHONPATH=. python scripts/bench_gpu.py --device cpu --batches 1 2   # without one

Needs torch, numpy, scipy, jaxtyping and safetensors, and nothing else. The example is sampled anew for each scan of a
batch. Every stage is given what the stage before found on the CPU, so that differences do not add up: largest
difference of any vertex, which must be below 0.1 mm. What would take longer than --minutes is left out. Preparing scans
for the refinement (trees, once a scan) is done on the CPU and counted.
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvdreg.base.arrays import read_npz
from lvdreg.base.assets import assets_dir
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.descent.boxes import body_boxes, to_unit, up_candidates
from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.descent.weights import voxel_weights
from lvdreg.fit.batched_displace import displace_bodies
from lvdreg.fit.batched_scan import refine_bodies
from lvdreg.fit.batched_vertices import fit_bodies
from lvdreg.fit.correspond import Target, target_of
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.frames import scale_of, transform_points
from lvdreg.pipeline.config import RegisterConfig
from lvdreg.scan.model import oriented_points, read_scan
from lvdreg.voxel.grid import voxelise
from lvdreg.voxel.network import VoxelNet

EXAMPLE, TRUTH = "examples/dressed.ply", "examples/dressed_truth.npz"
SOLE = 10.0
"""Millimetres under the skin."""
SIGMA = 0.03
"""Metres: how sure the network is said to be of every vertex."""
ALIKE_MM = 0.1
STAGES = ("encode", "descend", "fit", "refine", "displace")


@dataclass(frozen=True)
class Inputs:
    """Scans ready for all stages: points of the unit frame (B, P, 3), targets and the true body (V, 3) in metres."""

    points: Tensor
    targets: list[Target]
    true: Tensor
    metres: float

    def of(self, count: int) -> "Inputs":
        """Return the first scans."""
        return Inputs(self.points[:count], self.targets[:count], self.true, self.metres)


def inputs(count: int, num_points: int, config: RegisterConfig) -> Inputs:
    """Sample the example, whose Z points up, in millimetres, ``count`` times."""
    scan, true = read_scan(assets_dir() / EXAMPLE), read_npz(assets_dir() / TRUTH)["vertices"].astype(np.float64)
    samples = []
    for seed in range(count):
        points, normals = oriented_points(scan, config.clean.num_points, seed)
        # Without the floor, which ``register`` finds by itself.
        over = points[:, 2] > true[:, 2].min() - SOLE
        samples.append((points[over], normals[over]))
    box = body_boxes(samples[0][0], up_candidates("+z"), num_points)[0]
    metres = 0.001 / scale_of(box.T_unit_scan)
    T_world_scan = np.diag([metres, metres, metres, 1.0]) @ box.T_unit_scan
    unit = []
    for seed, (points, _) in enumerate(samples):
        some = np.random.default_rng(seed).choice(len(points), num_points, replace=False)
        unit.append(torch.as_tensor(to_unit(points[some], box.T_unit_scan)).float())
    targets = [target_of(scan, points, normals, T_world_scan) for points, normals in samples]
    return Inputs(torch.stack(unit), targets, torch.as_tensor(transform_points(T_world_scan, true)), metres)


class Machine:
    """The stages on one device."""

    def __init__(self, device: str, net: VoxelNet, body: BodyModel, config: RegisterConfig) -> None:
        self.device, self.config = torch.device(device), config
        self.net, self.body = (deepcopy(model).to(self.device) for model in (net, body))

    @torch.no_grad()
    def encode(self, scans: Inputs) -> Any:
        """Return what the network sees of points."""
        points = scans.points.to(self.device)
        valid = torch.ones(points.shape[:2], dtype=torch.bool, device=self.device)
        return self.net.encoder(voxelise(points, valid, self.net.config.voxel.resolution))

    def descend(self, features: Any, count: int) -> Tensor:
        """Return vertices (B, V, 3) of the unit frame."""
        return descend(self.net.field, features, count, DescentConfig()).vertices

    def fit(self, vertices: Tensor, scans: Inputs) -> list[Fit]:
        """Fit bodies to vertices, on the CPU or not."""
        there = scans.metres * vertices.to(self.device)
        return fit_bodies(self.body, there, torch.full_like(there[..., 0], SIGMA), self.config.fit)

    def refine(self, fits: list[Fit], scans: Inputs) -> list[Fit]:
        """Refine bodies against scans."""
        sigma = torch.full((len(fits), self.body.num_vertices), SIGMA, device=self.device)
        return refine_bodies(self.body, fits, scans.targets, sigma, self.config.refine)

    def displace(self, fits: list[Fit], scans: Inputs) -> list[Fit]:
        """Carry bodies onto scans."""
        return displace_bodies(self.body, fits, scans.targets, self.config.displace)

    def timed(self, stage: Callable[..., Any], *given: Any) -> tuple[Any, float]:
        """Return what a stage makes, and the seconds it took."""
        began = time.perf_counter()
        made = stage(*given)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return made, time.perf_counter() - began

    def run(self, scans: Inputs) -> tuple[dict[str, Any], dict[str, float]]:
        """Return what all stages make of scans, and the seconds of each."""
        made: dict[str, Any] = {}
        took: dict[str, float] = {}
        made["encode"], took["encode"] = self.timed(self.encode, scans)
        made["descend"], took["descend"] = self.timed(self.descend, made["encode"], len(scans.points))
        made["fit"], took["fit"] = self.timed(self.fit, made["descend"], scans)
        made["refine"], took["refine"] = self.timed(self.refine, made["fit"], scans)
        made["displace"], took["displace"] = self.timed(self.displace, made["refine"], scans)
        return made, took


def vertices_of(fits: list[Fit], body: BodyModel) -> Tensor:
    """Return posed vertices (B, V, 3), metres."""
    with torch.no_grad():
        return torch.stack([body(fit.params).vertices for fit in fits])


def differences(one: Machine, other: Machine, scans: Inputs) -> dict[str, float]:
    """Return by how much the stages differ, mm: the largest distance of a vertex, each given what ``other`` found."""
    made, _ = other.run(scans)
    count = len(scans.points)
    descended = 1000 * scans.metres * (one.descend(one.encode(scans), count).cpu() - made["descend"].cpu())
    apart = {"encode and descend": float(descended.norm(dim=-1).max())}
    pairs = {"fit": one.fit(made["descend"], scans), "refine": one.refine(made["fit"], scans)}
    pairs["displace"] = one.displace(made["refine"], scans)
    for name, fits in pairs.items():
        own, theirs = (vertices_of(some, other.body) for some in (fits, made[name]))
        apart[name] = 1000 * float((own - theirs).norm(dim=-1).max())
    return apart


def main() -> None:
    """Check, then measure."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64], help="so many scans at once")
    parser.add_argument("--minutes", type=float, default=3.0, help="what the whole may take")
    args = parser.parse_args()
    config, net, body = RegisterConfig(), voxel_weights("anny").net, load_body("anny")
    everything = inputs(max(args.batches), net.config.voxel.num_points, config)
    machine, cpu = (Machine(device, net, body, config) for device in (args.device, "cpu"))
    name = torch.cuda.get_device_name() if machine.device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{name}, torch {torch.__version__}; ready after {time.monotonic() - began:.0f} s", flush=True)
    if machine.device.type != "cpu":
        apart = differences(machine, cpu, everything.of(1))
        for stage, found in apart.items():
            print(f"{stage}: {found:.4f} mm from the CPU: {'alike' if found < ALIKE_MM else 'NOT ALIKE'}", flush=True)
    print("| scans at once | " + " | ".join(f"{stage}, ms a scan" for stage in STAGES) + " | all |")
    print("| ---: |" + " ---: |" * (len(STAGES) + 1), flush=True)
    last, refined = 0.0, everything.true[None]
    for before, count in zip([0, *args.batches], args.batches, strict=False):
        if time.monotonic() - began + last * count / max(before, 1) > 60 * args.minutes:
            print(f"{count} at once are left out: no time", flush=True)
            continue
        made, took = machine.run(everything.of(count))
        last, refined = sum(took.values()), vertices_of(made["refine"], body)
        cells = [f"{1000 * took[stage] / count:.1f}" for stage in STAGES]
        print(f"| {count} | " + " | ".join(cells) + f" | {1000 * last / count:.1f} |", flush=True)
    missed = 1000 * (refined - everything.true).norm(dim=-1).mean()
    print(f"refined bodies lie {missed:.1f} mm from the true one")


if __name__ == "__main__":
    main()
