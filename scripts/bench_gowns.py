"""Measure what becomes of people in gowns, bell skirts, long coats and robes: feet, height and the axis that is up.

    python scripts/bench_gowns.py [--num 20] [--seed 0] [--out out/gowns]

Each scan is a standing person of the free body in a garment that falls around the legs, some down to the floor, seen by
a ring of cameras and turned so that any of the six axes points up. Every other scan is of the next person: ten people
for twenty. The errors are those of the body under the clothes: mean distance of corresponding vertices of the worse
foot, height stretched out, and whether the right axis was found up.
"""

import argparse
import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.boxes import UPS
from lvdreg.evaluate.cache import Arrays, kept, run_key
from lvdreg.evaluate.methods import arrays_of
from lvdreg.pipeline.scan import register
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.synth.clothes.layers import HANGING, Wardrobe
from lvdreg.synth.people.poses import PoseSampler
from lvdreg.synth.scanner import SynthConfig, scan_points

NUM_POINTS = 30_000
RING = replace(SynthConfig(), view_probabilities=(0.0, 1.0, 0.0, 0.0), crop_probability=0.0)
GROWN = 1.35
"""Metres: nobody smaller wears a gown here."""


class Gowns:
    """People in long garments, each with the naked body beneath."""

    def __init__(self, body: BodyModel, seed: int) -> None:
        """Choose who wears them: the same people for equal seeds."""
        assert body.data.people is not None
        self.body, self.seed = body, seed
        self.poses, self.wardrobe = PoseSampler(body), Wardrobe(body)
        people = torch.as_tensor(body.data.people)
        order = torch.randperm(len(people), generator=self._generator("people"))
        self.people = people[[i for i in order[:100] if height_of(body, people[i]) > GROWN]]

    def draw(self, index: int) -> tuple[Scan, FloatArray, Arrays]:
        """Return a scan, its true body (V, 3) in metres and the scan's frame, and what is known of it."""
        generator = self._generator(f"scan {index}")
        betas, garment = self.people[index // 2], HANGING[index % len(HANGING)]
        vertices = self._standing(betas, generator)
        outer = self.wardrobe.only(garment).dress(vertices, generator)
        points, normals, valid = (x[0] for x in scan_points(outer, NUM_POINTS, generator, RING))
        up = list(UPS)[index % len(UPS)]
        turn = UPS[up]
        seen, facing = (x[valid].double().numpy() @ turn for x in (points, normals))
        name = f"{garment.replace(' ', '_')}_{self.seed}_{index:02d}"
        scan = scan_from_arrays(seen, normals=facing if facing.any() else None, name=name)
        known = {"garment": np.array(garment), "up": np.array(up), "height": np.array(height_of(self.body, betas))}
        return scan, vertices[0].double().numpy() @ turn, known

    @torch.no_grad()
    def _standing(self, betas: torch.Tensor, generator: torch.Generator, tries: int = 200) -> torch.Tensor:
        """Return the vertices (1, V, 3) of somebody who stands upright, arms down and legs together."""
        many = betas.expand(tries, -1)
        posed = self.body(BodyParams(many, self.poses.sample(many, generator), torch.zeros(tries, 3)))
        at = {name: posed.joints[:, self.body.joint_names.index(name)] for name in self.body.joint_names}
        ankles, hips, wrists = (
            torch.stack([at[f"{s}_{j}"] for s in ("left", "right")]) for j in ("ankle", "hip", "wrist")
        )
        straight = (hips[..., 1] - ankles[..., 1]).amin(0)
        apart = (ankles[0] - ankles[1]).norm(dim=1)
        trunk = at["neck"] - at["pelvis"]
        aside = posed.vertices.mean(1)[:, ::2] - ankles.mean(0)[:, ::2]
        # Legs long, feet at most a third of that apart, the trunk within 15 degrees and over them, no hand above it.
        score = straight / straight.max() - (apart / straight.max() - 0.33).clamp(min=0)
        score = score + (trunk[:, 1] / trunk.norm(dim=1)).clamp(max=0.966)
        score = score - (aside.norm(dim=1) / straight.max() - 0.1).clamp(min=0)
        score = score - (wrists[..., 1] - at["neck"][:, 1]).amax(0).clamp(min=0)
        return posed.vertices[score.argmax()][None]

    def _generator(self, words: str) -> torch.Generator:
        digest = hashlib.sha256(f"gowns {self.seed} {words}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def height_of(body: BodyModel, betas: torch.Tensor) -> float:
    """Return how tall somebody stands stretched out, metres."""
    return float(np.ptp(body.rest(betas)[0].numpy()[:, 1]))


def foot_errors(body: BodyModel, found: FloatArray, true: FloatArray) -> tuple[float, float]:
    """Return the mean distance of corresponding vertices of the left and of the right foot, same unit."""
    owner, names = body.data.weights.argmax(1), body.joint_names
    distance = np.linalg.norm(found - true, axis=1)
    joints = [[names.index(f"{side}_{part}") for part in ("ankle", "foot")] for side in ("left", "right")]
    left, right = (float(distance[np.isin(owner, of)].mean()) for of in joints)
    return left, right


def outcome(scan: Scan) -> Arrays:
    """Register a scan as users do, and keep what is measured."""
    result = register(scan, unit="m")
    return {**arrays_of(result), "found_up": np.array(result.up), "found_height": np.array(result.metrics["height_m"])}


def main() -> None:
    """Print a line for each scan, and medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/gowns"))
    args = parser.parse_args()
    from lvdreg.body.catalogue import load_body

    body = load_body("anny")
    gowns, key = Gowns(body, args.seed), run_key("anny", {})
    rows = []
    for index in range(args.num):
        scan, true, known = gowns.draw(index)
        found = kept(args.out / f"{scan.name}.npz", f"{key} {index}", partial(outcome, scan))
        if "body_vertices" not in found.arrays:
            rows.append((np.inf, np.inf, False))
            print(f"{scan.name:22}  {found.reason}")
            continue
        foot = 1000 * max(foot_errors(body, found.arrays["body_vertices"], true))
        tall = 1000 * float(found.arrays["found_height"] - known["height"])
        up = str(found.arrays["found_up"])
        rows.append((foot, abs(tall), up == str(known["up"])))
        print(
            f"{scan.name:22}  foot {foot:4.0f} mm  height {float(known['height']):.2f} m {tall:+5.0f} mm  "
            f"up {up} (true {known['up']})  {found.verdict:6}  {found.seconds:4.1f} s"
        )
    foot, tall, right = (np.array(column) for column in zip(*rows, strict=True))
    print(
        f"\n{len(rows)} scans, median (worst): foot {np.median(foot):.0f} ({foot.max():.0f}) mm, "
        f"height {np.median(tall):.0f} ({tall.max():.0f}) mm, up right in {int(right.sum())}"
    )


if __name__ == "__main__":
    main()
