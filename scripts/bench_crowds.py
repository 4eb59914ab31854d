"""Measure who is found in photos of several people: composed scenes in which everybody's true mask is known.

    python scripts/bench_crowds.py [--num 24] [--seed 0]

Drawn people of all sizes stand before drawn surroundings: one alone, one or two with others far behind them, a row
shoulder to shoulder, a street. Somebody counts as found where a mask overlaps the true one, as far as it is seen, to
half or more (intersection over union). Of masks left over, those that lie on somebody are doubles, the others nobody.
"""

import argparse
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment

from lvdreg.body.catalogue import load_body
from lvdreg.photo.model import photo_from_array
from lvdreg.photo.people import Crowd, find_people
from lvdreg.synth.camera import degrade
from lvdreg.synth.camera.light import draw_lights
from lvdreg.synth.camera.render import photograph
from lvdreg.synth.camera.view import framing
from lvdreg.synth.draw import Draw
from lvdreg.synth.photos import PhotoStream, stand

SIDE, WIDTH, HEIGHT = 1280, 1280, 960
PICTURE = 512
"""Side of the pictures of single people, pixels."""
LEAST_SEEN = 0.4
"""Of whom less is seen, others being before them, it does not count whether they are found."""
ON = 0.3
"""Of masks left over: those of which so much is on people are doubles."""
KINDS = ("alone", "behind", "row", "street")
SIZES = (0.0, 0.15, 0.25, 0.4, 1.0)
"""Figures are told apart by the person's extent over the photo's height."""


@dataclass(frozen=True)
class Scene:
    """A photo, and of everybody in it: the mask of what is seen, the extent over the photo's height, the share seen."""

    rgb: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    sizes: NDArray[np.float64]
    seen: NDArray[np.float64]


def extents(kind: str, rng: np.random.Generator) -> list[float]:
    """Draw how large people are, over the photo's height, the farthest first."""

    def some(least: int, most: int, low: float, high: float) -> list[float]:
        return sorted(np.exp(rng.uniform(np.log(low), np.log(high), rng.integers(least, most + 1))))

    if kind == "alone":
        return some(1, 1, 0.12, 0.9)
    if kind == "behind":
        return some(2, 4, 0.1, 0.3) + some(1, 2, 0.6, 0.85)
    if kind == "row":
        return some(3, 6, 0.45, 0.55)
    return some(4, 7, 0.12, 0.4)


def compose(kind: str, stream: PhotoStream, seed: int) -> Scene:
    """Draw people and lay them over one another, the farthest first."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    sizes = extents(kind, rng)
    draw = Draw(len(sizes), generator)
    people = stream.people.dress(stream.params(len(sizes), generator), generator)
    points = people.outer.vertices
    cameras, yaw = stand(points, PICTURE, draw)
    cameras = framing(points, cameras, PICTURE, torch.full((len(sizes),), 0.96))
    images, alphas = photograph(people, cameras, draw_lights(draw, yaw), PICTURE)
    one = Draw(1, generator)
    behind = degrade.blurred(degrade.backgrounds(SIDE, one), 2 * torch.ones(1, 1))
    canvas = behind[0].permute(1, 2, 0).numpy()[:HEIGHT].copy()
    masks = np.zeros((len(sizes), HEIGHT, WIDTH), bool)
    whole = np.zeros(len(sizes))
    step = rng.uniform(0.25, 0.4)
    for i, (size, image, alpha) in enumerate(zip(sizes, images.numpy(), alphas.numpy(), strict=True)):
        side = round(size * HEIGHT / 0.96)
        both = np.concatenate([image, alpha[..., None]], 2)
        small = np.stack(
            [np.asarray(Image.fromarray(both[..., c]).resize((side, side), Image.Resampling.BOX)) for c in range(4)], 2
        )
        centre = WIDTH * rng.uniform(0.1, 0.9)
        if kind == "row":
            centre = WIDTH / 2 + step * size * HEIGHT * (i - (len(sizes) - 1) / 2)
        left, bottom = round(centre - side / 2), round(HEIGHT * (0.45 + 0.52 * size + rng.uniform(-0.02, 0.02)))
        top = max(0, bottom - side)
        x0, x1, y1 = max(left, 0), min(left + side, WIDTH), min(top + side, HEIGHT)
        part = small[: y1 - top, x0 - left : x1 - left]
        place = np.s_[top:y1, x0:x1]
        canvas[place] = part[..., :3] + (1 - part[..., 3:]) * canvas[place]
        own = np.zeros((HEIGHT, WIDTH), bool)
        own[place] = part[..., 3] > 0.5
        masks &= ~own
        masks[i], whole[i] = own, own.sum()
    picture = torch.from_numpy(canvas).permute(2, 0, 1)[None].clamp(0, 1)
    picture = degrade.noisy(picture, one)[0].permute(1, 2, 0)
    seen = masks.sum((1, 2)) / whole.clip(1)
    return Scene((255 * picture).round().byte().numpy(), masks, np.array(sizes), seen)


class Tally:
    """What became of everybody, by kind of scene."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.overlaps: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: Counter[str] = Counter()

    def add(self, kind: str, scene: Scene, crowd: Crowd) -> None:
        """Compare who was found with who is there."""
        masks = np.array([one.mask > 0.5 for one in crowd.people]).reshape(-1, HEIGHT * WIDTH).astype(np.float32)
        true = scene.masks.reshape(-1, HEIGHT * WIDTH).astype(np.float32)
        shared = true @ masks.T
        overlap = shared / (true.sum(1)[:, None] + masks.sum(1) - shared).clip(1)
        taken = {a: b for a, b in zip(*linear_sum_assignment(-overlap), strict=True) if overlap[a, b] >= 0.5}
        counted = np.flatnonzero(scene.seen >= LEAST_SEEN)
        for a in counted:
            size = int(np.searchsorted(SIZES, scene.sizes[a])) - 1
            self.overlaps[kind, size].append(overlap[a, taken[a]] if a in taken else 0.0)
        is_left = np.isin(np.arange(len(masks)), list(taken.values()), invert=True)
        on_somebody = (shared.sum(0) / masks.sum(1).clip(1))[is_left]
        is_whole, is_warned = all(a in taken for a in counted), len(crowd.missed) > 0
        self.counts[kind].update(
            scenes=1, doubles=int((on_somebody >= ON).sum()), nobody=int((on_somebody < ON).sum()),
            incomplete=int(not is_whole), warned=int(is_warned and not is_whole), needless=int(is_warned and is_whole),
        )  # fmt: skip

    def line(self, kind: str) -> str:
        """Return the figures of a kind of scene."""
        counts, cells = self.counts[kind], []
        for j, low in enumerate(SIZES[:-1]):
            overlaps = self.overlaps[kind, j]
            hits = [x for x in overlaps if x > 0]
            if overlaps:
                cells.append(f"{low:.2f} and up: {len(hits)} of {len(overlaps)} (IoU {np.mean(hits or [0]):.2f})")
        words = ", ".join(
            f"{name} {counts[name]}" for name in ("doubles", "nobody", "incomplete", "warned", "needless")
        )
        seconds = self.seconds[kind] / max(counts["scenes"], 1)
        return f"{kind}: {counts['scenes']} scenes, {seconds:.2f} s; {'; '.join(cells)}; {words}"


def main() -> None:
    """Compose scenes, find people in them, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    stream, tally = PhotoStream(load_body("anny"), PICTURE), Tally()
    for i in range(args.num):
        kind = KINDS[i % len(KINDS)]
        scene = compose(kind, stream, 1000 * args.seed + i)
        start = time.process_time()
        crowd = find_people(photo_from_array(scene.rgb))
        tally.seconds[kind] += time.process_time() - start
        tally.add(kind, scene, crowd)
    print("\n".join(tally.line(kind) for kind in KINDS))


if __name__ == "__main__":
    main()
