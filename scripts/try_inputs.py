"""Measure what the image network should see: equal networks, equal photos, with colours, keypoints or neither.

    LVDREG_REAL_DATA=... python scripts/try_inputs.py [--steps 500] [--photos 800] [--start WEIGHTS]

Every network trains on the same rendered photos, from scratch or from trained weights: their first layer loses what is
not seen, and knows nothing yet of what they have not seen. It is measured on the training's validation photos, whose
keypoints are the truth with a detector's faults; and, where there are real photos, by how the surface that it finds
agrees with the mask that lvdreg finds (intersection over union, median), with the detector's own keypoints.
"""

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvdreg.descent.checkpoint import load_network
from lvdreg.descent.descend import PHOTO_DESCENT
from lvdreg.descent.photo import descend_crop
from lvdreg.geometry.outline import covered_cells
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.image.inputs import NUM_CHANNELS
from lvdreg.image.network import ImageNet
from lvdreg.photo.model import read_photo
from lvdreg.photo.shown import people_shown
from lvdreg.synth.photos import Photos
from lvdreg.train.image import ImageTrainer
from lvdreg.train.plans import image_plan

BODY = "anny"
VARIANTS = {
    "colours, mask, keypoints": ("rgb", "mask", "keypoints"),
    "colours, mask": ("rgb", "mask"),
    "mask, keypoints": ("mask", "keypoints"),
    "mask, edges, keypoints": ("mask", "edges", "keypoints"),
}


class Pool:
    """Photos made once and drawn again and again."""

    def __init__(self, photos: list[Photos]) -> None:
        names = [field.name for field in fields(Photos) if field.name != "params"]
        self.arrays: dict[str, Any] = {name: torch.cat([getattr(batch, name) for batch in photos]) for name in names}

    def photos(self, batch: int, generator: torch.Generator) -> Photos:
        """Draw some of them."""
        rows = torch.randint(len(self.arrays["image"]), (batch,), generator=generator)
        return Photos(**{name: values[rows] for name, values in self.arrays.items()})


def begin_from(trainer: ImageTrainer, weights: Path) -> None:
    """Take trained weights; of the first layer those of the inputs that are seen, zero for new ones."""
    known = load_network(weights)[0]
    if not isinstance(known, ImageNet):
        raise SystemExit(f"{weights}: expected an image network, got a {type(known).__name__}")
    state, layer = known.state_dict(), "encoder.entry.weight"
    sizes = {**NUM_CHANNELS, "keypoints": len(known.config.image.keypoints)}
    inputs = known.config.image.inputs
    parts = dict(zip(inputs, state[layer].split([sizes[name] for name in inputs], 1), strict=True))
    blank = state[layer].new_zeros(len(state[layer]), 1, *state[layer].shape[2:])
    wanted = trainer.net.config.image.inputs
    state[layer] = torch.cat([parts.get(name, blank.expand(-1, sizes[name], -1, -1)) for name in wanted], 1)
    trainer.net.load_state_dict(state)
    trainer.ema = {name: value.detach().clone() for name, value in trainer.net.state_dict().items()}


def on_real_photos(net: ImageNet, faces: np.ndarray) -> str:
    """Say how the surface agrees with the mask in the middle one of the real photos."""
    folder = Path(os.environ.get("LVDREG_REAL_DATA", "")) / "images"
    found = []
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]):
        if path.stem.endswith(("_mask", "_parts")):
            continue
        photo = read_photo(path)
        person = people_shown(photo, "auto")[0]
        crop = crop_around(photo.rgb, person.mask, CutConfig(), net.config.image.size)
        views = descend_crop(net, crop, person.keypoints, PHOTO_DESCENT)
        mask = crop.mask[0].numpy() >= 0.5
        covered = covered_cells(views.vertices.double().numpy(), faces, mask.shape[-1])
        found.append(float((covered & mask).sum() / max((covered | mask).sum(), 1)))
    each = " ".join(f"{iou:.2f}" for iou in found)
    return f"IoU with the masks of {len(found)} real photos {np.median(found):.2f} ({each})" if found else ""


def main() -> None:
    """Render the photos, then train on what each variant sees of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--photos", type=int, default=800)
    parser.add_argument("--start", type=Path, help="weights of an image network")
    args = parser.parse_args()
    plan, loop = image_plan(BODY)
    loop = replace(loop, steps=args.steps, cooldown=args.steps // 3, warmup=100, ahead=False)
    pool = None
    for name, inputs in VARIANTS.items():
        trainer = ImageTrainer(replace(plan, image=replace(plan.image, inputs=inputs)), loop, torch.device("cpu"))
        if pool is None:
            pool = Pool([trainer.batch(8, 1_000_000 + i) for i in range(args.photos // 8)])
        trainer.source = pool
        if args.start is not None:
            begin_from(trainer, args.start)
        while trainer.step < args.steps:
            trainer.train_step()
        scores = ", ".join(f"{key} {value:.0f}" for key, value in trainer.validate().items())
        real = on_real_photos(trainer.averaged(), trainer.body.data.faces)
        print(f"{name}: {args.steps} steps, {scores}; {real}", flush=True)


if __name__ == "__main__":
    main()
