"""Check what PyMAF, SPIN and their kin claim of how regressors are built and taught, on the same photos, in one table.

    PYTHONPATH=. python scripts/bench_claims.py                      # small, on two cores; a run that stopped goes on
    PYTHONPATH=. python scripts/bench_claims.py --device cuda --steps 1500 --photos 8192 --batch 64

Every method has the same encoder, photos, steps and seeds, and is measured on photos that none was trained on. Nothing
is needed but torch, numpy, jaxtyping and safetensors. What each run found lies in --out; remove it to start afresh.
Absolute errors are those of small networks that saw few photos; only orders and gaps mean something, and those only
where they are larger than what seeds do.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.base.tensors import read_tensors, write_tensors
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.regressor import Regressed, Regressor
from lvdreg.synth.photos import Photos, PhotoStream
from lvdreg.train.bank import PhotoBank
from lvdreg.train.dense import dense_target
from lvdreg.train.photos import PhotoTrainer
from lvdreg.train.plans import pymaf_plan, spin_plan
from lvdreg.train.pymaf import PyMAFTrainer
from lvdreg.train.run import TrainConfig
from lvdreg.train.spin import SPINTrainer
from lvdreg.train.spin_loop import Fits, SPINConfig, SPINLoopTrainer

JOINTS = (*ImageConfig.keypoints, "neck", "head")
"""Fourteen, as LSP has them."""
SIDE = 64
"""Silhouettes are compared on so many cells each way."""
CROP = 224
"""Errors in the picture are told in pixels of a crop of this size, the papers' one."""
AT_ONCE = 64
TRAINING_SEED, TEST_SEED, LOOK_SEED = 31_000_000, 32_000_000, 33


# ---- photos


def bank_of(path: Path, body: BodyModel, count: int, size: int, seed: int) -> PhotoBank:
    """Return photos, drawn unless they lie in a file already."""
    device = body.faces.device
    if path.exists():
        tensors = {name: tensor.to(device) for name, tensor in read_tensors(path)[0].items()}
        params = BodyParams(tensors.pop("betas"), tensors.pop("pose"), tensors.pop("transl"))
        return PhotoBank(Photos(params=params, **tensors))
    bank = PhotoBank.drawn(PhotoStream(body, size), count, device, seed)
    photos, params = bank.kept, bank.kept.params
    assert params is not None
    known = {item.name: getattr(photos, item.name) for item in fields(photos) if item.name != "params"}
    known |= {item.name: getattr(params, item.name) for item in fields(params) if item.name != "displacements"}
    write_tensors(path, {name: tensor.contiguous().cpu() for name, tensor in known.items()}, {"seed": seed})
    return bank


# ---- what is measured


def in_metres(said: Regressed, body: BodyModel) -> tuple[Float[Tensor, "B V 3"], Float[Tensor, "B J 3"]]:
    """Return vertices and joints about the root, metres."""
    unit = replace(said, scale=torch.ones_like(said.scale), shift=torch.zeros_like(said.shift))
    return unit.placed(body)


def procrustes(points: Float[Tensor, "B N 3"], true: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
    """Return points moved, turned and scaled to lie as near as can be to the true ones (Umeyama 1991)."""
    centre, true_centre = points.mean(1, keepdim=True), true.mean(1, keepdim=True)
    a, b = (points - centre).double(), (true - true_centre).double()
    u, s, vt = torch.linalg.svd(a.mT @ b)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.linalg.det(u @ vt).sign()
    scale = (s * sign).sum(1) / (a**2).sum((1, 2)).clamp(min=1e-12)
    return (scale[:, None, None] * (a @ (u * sign[:, None]) @ vt)).to(true.dtype) + true_centre


@torch.no_grad()
def measured(said: Regressed, photos: Photos, body: BodyModel) -> dict[str, Float[Tensor, " B"]]:
    """Return what the papers measure, of each photo: root-aligned errors in millimetres, and how the picture is met.

    PVE is the mean over all vertices, MPJPE over ``JOINTS``, PA-MPJPE the same after ``procrustes``; reprojection the
    mean distance of joints in the picture, pixels of a crop of ``CROP``; IoU that of the naked bodies' silhouettes.
    """
    assert photos.params is not None
    rotations = rotvec_to_rotmat(photos.params.pose)
    truth = Regressed(photos.params.betas, rotations, torch.ones_like(said.scale), torch.zeros_like(said.shift))
    chosen_joints = [body.joint_names.index(name) for name in JOINTS]
    (vertices, joints), (true_vertices, true_joints) = (in_metres(each, body) for each in (said, truth))
    joints, true_joints = joints[:, chosen_joints], true_joints[:, chosen_joints]
    seen_vertices, seen_joints = said.placed(body)
    aside = (seen_joints - photos.joints)[:, chosen_joints, :2].norm(dim=-1).mean(1)
    ours, true = (dense_target(body, each, SIDE).is_body for each in (seen_vertices, photos.vertices))
    both, either = ((ours & true).sum((1, 2)), (ours | true).sum((1, 2)))
    return {
        "PVE": 1000 * (vertices - true_vertices).norm(dim=-1).mean(1),
        "MPJPE": 1000 * (joints - true_joints).norm(dim=-1).mean(1),
        "PA-MPJPE": 1000 * (procrustes(joints, true_joints) - true_joints).norm(dim=-1).mean(1),
        "reprojection": CROP / 2 * aside,
        "IoU": both / either.clamp(min=1),
    }


UNITS = {"PVE": "mm", "MPJPE": "mm", "PA-MPJPE": "mm", "reprojection": "px", "IoU": ""}


@torch.no_grad()
def scores_of(net: Regressor, trainer: PhotoTrainer[Any], test: PhotoBank) -> list[dict[str, float]]:
    """Return the means of ``measured`` over all test photos, after each step of a network."""
    count, levels = len(test), []
    for first in range(0, count, AT_ONCE):
        rows = torch.arange(first, min(first + AT_ONCE, count), device=trainer.device)
        photos = test.picked(rows)
        keypoints = trainer.keypoints(photos, trainer.generator(LOOK_SEED + first))
        levels.append(
            [measured(each, photos, trainer.body) for each in net.steps(photos.image, photos.mask, keypoints)]
        )
    return [
        {name: float(torch.cat([part[level][name] for part in levels]).mean()) for name in UNITS}
        for level in range(len(levels[0]))
    ]


# ---- methods


@dataclass(frozen=True)
class Setting:
    """What all methods have in common."""

    body: BodyModel
    size: int
    channels: tuple[int, ...]
    loop: TrainConfig
    bank: PhotoBank

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.body.faces.device


Method = Callable[[Setting], PhotoTrainer[Any]]


def pymaf(setting: Setting, **sizes: Any) -> PhotoTrainer[Any]:
    """Return a trainer of PyMAF."""
    config = pymaf_plan("anny")[0]
    config = replace(config, pymaf=replace(config.pymaf, size=setting.size, channels=setting.channels, **sizes))
    return PyMAFTrainer(config, setting.loop, setting.device, setting.body, setting.bank)


def spin(setting: Setting, **sizes: Any) -> PhotoTrainer[Any]:
    """Return a trainer of SPIN."""
    config = spin_plan("anny")[0]
    regressor = replace(config.regressor, size=setting.size, channels=setting.channels, **sizes)
    return SPINTrainer(replace(config, regressor=regressor), setting.loop, setting.device, setting.body, setting.bank)


def spin_without_truth(setting: Setting, fits: Fits) -> PhotoTrainer[Any]:
    """Return a trainer of SPIN to which all truth in space is hidden."""
    config = spin(setting).net.config
    return SPINLoopTrainer(
        config, setting.loop, setting.device, setting.bank, SPINConfig(hidden=1.0, fits=fits), setting.body
    )


METHODS: Mapping[str, Method] = {
    "PyMAF, mesh-aligned, auxiliary": lambda setting: pymaf(setting),
    "PyMAF, mesh-aligned": lambda setting: pymaf(setting, dense=False),
    "PyMAF, grid": lambda setting: pymaf(setting, read="grid", dense=False),
    "PyMAF, global": lambda setting: pymaf(setting, read="global", dense=False),
    "SPIN, truth": lambda setting: spin(setting),
    "SPIN, keypoints alone": lambda setting: spin_without_truth(setting, "none"),
    "SPIN, static fits": lambda setting: spin_without_truth(setting, "static"),
    "SPIN, fits in the loop": lambda setting: spin_without_truth(setting, "loop"),
}
PAPERS = {
    "PyMAF, mesh-aligned, auxiliary": "75.1", "PyMAF, mesh-aligned": "76.8", "PyMAF, grid": "79.7",
    "PyMAF, global": "84.1", "SPIN, static fits": "PA 66.3", "SPIN, fits in the loop": "PA 59.2",
}  # fmt: skip
"""MPJPE on Human3.6M (PyMAF, tables 4 and 5) and PA-MPJPE on 3DPW (SPIN, table 4), millimetres."""
LOOKS = 6
"""How often the dictionary of SPIN's fits is looked at."""


def run(method: Method, setting: Setting, test: PhotoBank) -> dict[str, Any]:
    """Train and measure.

    Returns:
        ``scores`` after each level; seconds of a step of training and of a photo; and of SPIN's dictionary, step by
        step, the median error of its fits in the picture, pixels of a crop of ``CROP``.
    """
    trainer, fits = method(setting), []
    began = time.monotonic()
    for step in range(setting.loop.steps):
        trainer.advance(trainer.draw(trainer.seed()), trainer.learning_rate(), wait=False)
        if isinstance(trainer, SPINLoopTrainer) and (step + 1) % max(1, setting.loop.steps // LOOKS) == 0:
            missed = trainer.best.missed[trainer.best.missed.isfinite()]
            fits.append((step + 1, float(CROP / 2 * missed.median()) if len(missed) else None))
    waited(setting.device)
    trained = time.monotonic()
    net = trainer.averaged()
    scores = scores_of(net, trainer, test)
    waited(setting.device)
    return {
        "scores": scores,
        "fits": fits,
        "seconds_a_step": (trained - began) / setting.loop.steps,
        "seconds_a_photo": seconds_a_photo(net, trainer, test),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
    }


@torch.no_grad()
def seconds_a_photo(net: Regressor, trainer: PhotoTrainer[Any], test: PhotoBank) -> float:
    """Return how long a network looks at one photo: the best of five."""
    photo = test.picked(torch.zeros(1, dtype=torch.long, device=trainer.device))
    keypoints, times = trainer.keypoints(photo, trainer.generator(0)), []
    for _ in range(5):
        waited(trainer.device)
        began = time.monotonic()
        net(photo.image, photo.mask, keypoints)
        waited(trainer.device)
        times.append(time.monotonic() - began)
    return min(times)


def waited(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---- tables


def table_of(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """Return what was found, by method: mean over seeds, and how far seeds lie apart."""
    header = [*(f"{name}, {unit}".rstrip(", ") for name, unit in UNITS.items()), "step, ms", "photo, ms", "weights, M"]
    lines = ["| method | seeds | " + " | ".join(header) + " | paper |", "|---" * (len(header) + 3) + "|"]
    for name, runs in found.items():
        cells = [spread([each["scores"][-1][key] for each in runs], 3 if key == "IoU" else 1) for key in UNITS]
        cells += [f"{1000 * mean(each[key] for each in runs):.0f}" for key in ("seconds_a_step", "seconds_a_photo")]
        cells.append(f"{runs[0]['parameters'] / 1e6:.1f}")
        lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + f" | {PAPERS.get(name, '')} |")
    lines += ["", "| PVE after each level, mm | " + " | ".join(map(str, range(1, 4))) + " |", "|---" * 4 + "|"]
    for name, runs in found.items():
        levels = zip(*([level["PVE"] for level in each["scores"]] for each in runs), strict=True)
        lines.append(f"| {name} | " + " | ".join(spread(level, 1) for level in levels) + " |")
    looks = {name: runs[0]["fits"] for name, runs in found.items() if any(px for _, px in runs[0].get("fits", ()))}
    lines += [f"\n{name}, seed 0, what its fits miss by, px: {fit_words(each)}" for name, each in looks.items()]
    return "\n".join(lines) + "\n"


def fit_words(looks: Sequence[tuple[int, float]]) -> str:
    """Return what the dictionary missed by after so many steps."""
    return ", ".join(f"{px:.2f} after {step}" for step, px in looks)


def spread(values: Any, digits: int) -> str:
    """Return the mean, and the standard deviation where there is one."""
    values = list(values)
    off = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{off}"


def main() -> None:
    """Train what is not trained yet, and print the table of all."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="methods whose names begin so")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate; it falls over the second half")
    parser.add_argument("--photos", type=int, default=2048, help="to train on")
    parser.add_argument("--test", type=int, default=256, help="photos to measure on")
    parser.add_argument("--size", type=int, default=128, help="pixels of the photos")
    parser.add_argument("--channels", type=int, nargs="+", default=[24, 48, 64, 96], help="of the encoder's stages")
    parser.add_argument("--minutes", type=float, help="begin no run after so many")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/claims"))
    args = parser.parse_args()
    body = load_body("anny").to(args.device)
    train_bank, test = (
        bank_of(args.out / f"{name}.safetensors", body, count, args.size, seed)
        for name, count, seed in (("train", args.photos, TRAINING_SEED), ("test", args.test, TEST_SEED))
    )
    loop = TrainConfig(
        steps=args.steps, cooldown=args.steps // 2, warmup=min(100, args.steps // 10), batch=args.batch,
        learning_rate=args.rate, ema=0.98,
    )  # fmt: skip
    names = [name for name in METHODS if not args.only or any(name.startswith(word) for word in args.only)]
    found: dict[str, list[dict[str, Any]]] = {}
    # Seed by seed: whenever it stops, all methods have had their turn.
    for seed in range(args.seeds):
        for name in names:
            path = args.out / f"{name.lower().replace(', ', '_').replace(' ', '-')}_{seed}.json"
            if not path.exists() and (args.minutes is None or time.monotonic() - began < 60 * args.minutes):
                setting = Setting(body, args.size, tuple(args.channels), replace(loop, seed=seed), train_bank)
                path.write_text(json.dumps(run(METHODS[name], setting, test), indent=1))
                print(f"{name}, seed {seed}: {json.loads(path.read_text())['scores'][-1]}", flush=True)
            if path.exists():
                found.setdefault(name, []).append(json.loads(path.read_text()))
    print(table_of(found))


if __name__ == "__main__":
    main()
