"""Measure trained weights on synthetic scans or photos, calibrate them, and put them where lvdreg looks for them.

    python scripts/ship_weights.py runs/voxel/voxel.safetensors [--scans 96] [--out assets/weights]

Knows all networks by what is in the file: the voxel network of a body or of a hand, the hand detector of a hand, the
image network of a body, and the regressors of SPIN and PyMAF. Writes NAME.safetensors, .json and the model card .md,
with NAME voxel-BODY, hand-detector-BODY, image-BODY, spin-BODY or pymaf-BODY. The scans are drawn from seeds that
neither training nor the benchmarks use. Ship the hand detector first: the voxel network of a hand is calibrated with
the hand detector that lies in --out, or else with boxes as wrong as a hand detector's usually are.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import PhotoError, ScanError
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.descent.boxes import UPS, Box, body_boxes, to_unit
from lvdreg.descent.checkpoint import Network, load_network, save_network
from lvdreg.descent.hand_boxes import find_hand
from lvdreg.descent.photo import descend_crop, seen_joints
from lvdreg.descent.scan import descend_scan, view_rotations
from lvdreg.descent.uncertainty import Calibration, JointErrors, one_step_spread, one_step_with_sigma
from lvdreg.evaluate.population import Subject, draw_hand
from lvdreg.fit.eft import EFT
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat, scale_of, similarity, transform_points
from lvdreg.image.crop import Crop, crop_around
from lvdreg.image.network import ImageNet
from lvdreg.image.pymaf import PyMAFNet
from lvdreg.image.regressor import Regressor, RegressorNet
from lvdreg.photo.model import Photo
from lvdreg.photo.shown import Shown, people_shown
from lvdreg.pipeline.config import HAND, ImageRegisterConfig, RegisterConfig
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import oriented_points
from lvdreg.synth.photos import Photos, PhotoStream
from lvdreg.synth.scans import SynthStream
from lvdreg.voxel.hand_detector import HALF_EXTENT, HandDetectorNet
from lvdreg.voxel.network import VoxelNet

SEED = 4_200_000
BOX_TURN, BOX_SCALE, BOX_SHIFT = 0.12, 0.08, 0.05
"""How wrong a hand detector's boxes usually are: radians per axis, share, box units per axis."""

VOXEL_CARD = """# voxel-{body}: the voxel network of the free {kind}

- Predicts the {vertices} vertices of `assets/bodies/{body}.npz` from a voxelised scan; {parameters:.1f} million
  parameters, half precision.
- Data: synthetic only, made while training by `lvdreg.synth` from that {kind}; no scan of a {person} was used.
- Training: {steps} steps of {batch} scans, seed {seed}, on {device};
  `{command}`.{note}
- Scores on {scans} synthetic scans of other seeds, {scanned};
  descent alone, no fitting: vertex error median {median:.{digits}f} mm, mean {mean:.{digits}f} mm,
  95th percentile {p95:.{digits}f} mm, worst {worst:.{digits}f} mm.
  Spread of equation 3 against error, Spearman over vertices: {spearman:.2f}.
- `calibration` in the JSON turns that spread into the error that 68 % of such vertices stay under.
- Licence: CC0, as the data it was made from.
- Limits: {limits}
"""
OF_PEOPLE = {
    "kind": "body", "person": "person", "digits": 0, "scanned": "clothed and damaged",
    "limits": "few children and lying people in training; a voxel is about 3 cm, so fingers are a guess.",
}  # fmt: skip
OF_HANDS = {
    "kind": "hand", "person": "hand", "digits": 1,
    "limits": "right hands only: a left one is shown to it as its mirror image; a voxel is about 4 mm; gloves,\n"
    "  jewellery and hands that clasp each other were not in training.",
}  # fmt: skip
DETECTOR_CARD = """# hand-detector-{body}: finds a hand, its side and its direction

- Says of a cloud in eight frames which shows a right hand best, and by which turn, shift and scale that hand differs
  from the palm's frame of `assets/bodies/{body}.npz`; {parameters:.1f} million parameters, half precision.
- Data: synthetic only, made while training by `lvdreg.synth` from that hand; no scan of a hand was used.
- Training: {steps} steps of {batch} scans, seed {seed}, on {device};
  `{command}`.{note}
- Scores of one look at the training's validation scans: side right in {side_afar:.1%} of whole clouds, turn off by
  {turn_afar_deg:.1f} degrees (median); from close by {side_close:.1%} and {turn_close_deg:.1f} degrees.
- Scores of all looks on {scans} synthetic scans of other seeds, cleaned, both hands, half of them with an object:
  side right in {side:.1%}, turn off by {turn_deg:.1f} degrees (median; 95th percentile {turn_p95_deg:.0f}), centre by
  {shift:.1%} and size by {scale:.1%} of the hand's (medians). What it is unsure of, the voxel network decides.
- Licence: CC0, as the data it was made from.
- Limits: one hand in a cloud, of which a good part is hand; gloves and clasped hands were not in training.
"""
IMAGE_CARD = """# image-{body}: the image network of the free body

- Predicts the {vertices} vertices of `assets/bodies/{body}.npz` from a square crop of a photo, {size} pixels a side,
  with {inputs}; {parameters:.1f} million parameters, half precision.
- Data: synthetic only, rendered while training by `lvdreg.synth` from that body; no photo of a person was used.
- Training: {steps} steps of {batch} photos, seed {seed}, on {device};
  `{command}`.{note}
- Scores on {scans} synthetic photos of other seeds, with the keypoints that lvdreg's own detector finds (in
  {with_keypoints:.0%}); descent alone, no fitting, at true size, mean depth aligned:
  vertex error median {median:.0f} mm, mean {mean:.0f} mm, 95th percentile {p95:.0f} mm, worst {worst:.0f} mm;
  of the median photo {across:.0f} mm across the line of sight and {depth:.0f} mm along it.
  What it says of its error against the error, Spearman over vertices: {spearman:.2f}, along the line of sight
  {spearman_depth:.2f}; over photos {spearman_photos:.2f}.
- `calibration` and `calibration_depth` in the JSON turn that into the error that 68 % of such vertices stay under.
- Licence: CC0, as the data it was made from.
- Limits: a photo tells neither size nor depth; weak perspective, so arms held towards the camera come out large; few
  lying and sitting people in training; clothes and surroundings are drawn, not photographed.
"""
REGRESSOR_CARD = """# {name}-{body}: {title} of the free body

- Says shape, pose and place of `assets/bodies/{body}.npz` in a square crop of a photo, {size} pixels a side, with
  {inputs}; {parameters:.1f} million parameters, eight bits, small tensors in half precision.
- Data: synthetic only, rendered while training by `lvdreg.synth` from that body; no photo of a person was used.
- Training: {steps} steps of {batch} photos, seed {seed}, on {device};
  `{command}`.{note}
- Scores on {scans} synthetic photos of other seeds, with the keypoints that lvdreg's own detector finds, no fitting, at
  true size, mean depth aligned: vertex error median {median:.0f} mm, mean {mean:.0f} mm, 95th percentile {p95:.0f} mm;
  of the median photo {across:.0f} mm across the line of sight and {depth:.0f} mm along it.
  Tuned to these keypoints (EFT): median {tuned_median:.0f} mm, mean {tuned_mean:.0f} mm; {tuned_across:.0f} mm across
  and {tuned_depth:.0f} mm along.
- `errors` and `errors_tuned` in the JSON are the errors, by joint and by how far the keypoints are missed,
  that 68 % of the vertices stay under.
- Licence: CC0, as the data it was made from.
- Limits: those of the image network; it does not say how sure it is.
"""
TITLES = {"spin": "the regressor of SPIN", "pymaf": "the regressors of PyMAF"}


@dataclass(frozen=True)
class Sample:
    """One scan's vertices: spread, or expected error, and error in the unit frame, and metres per unit."""

    spread: NDArray[np.float64]
    error: NDArray[np.float64]
    metres_per_unit: float


def descend(
    net: VoxelNet, points: NDArray[np.float64], boxes: list[Box], vertices: NDArray[np.float64], metres: float,
    config: RegisterConfig, seed: int,
) -> Sample:  # fmt: skip
    """Descend as registering does; ``metres`` is the size of the scan's unit."""
    views = descend_scan(net, points, boxes, view_rotations(config.views), config.views, config.descent)
    found, spread = one_step_spread(net.field, views, load_body(net.config.body).faces, config.uncertainty, seed)
    error = (found - to_unit(vertices, views.T_unit_scan)).norm(dim=-1)
    return Sample(spread.double().numpy(), error.double().numpy(), metres / scale_of(views.T_unit_scan))


@torch.no_grad()
def samples_of_people(net: VoxelNet, num_scans: int) -> list[Sample]:
    """Descend on scans of people, the up axis known."""
    stream, config, count = SynthStream(load_body(net.config.body)), RegisterConfig(), net.config.voxel.num_points
    samples = []
    for i in range(num_scans):
        scan = stream.scans(1, count, torch.Generator().manual_seed(SEED + i))
        points = scan.points[0][scan.valid[0]].double().numpy()
        boxes = body_boxes(points, {"+y": UPS["+y"]}, count)
        samples.append(descend(net, points, boxes, scan.vertices[0].double().numpy(), 1.0, config, i))
    return samples


@dataclass(frozen=True)
class PhotoSample(Sample):
    """One photo's vertices; the mean depth is aligned, which no photo tells.

    Attributes:
        depth_spread: Expected errors along the line of sight, unit frame.
        depth_error: Errors along it.
        across: Mean error across it.
        has_keypoints: Whether the detector found a pose.
    """

    depth_spread: NDArray[np.float64]
    depth_error: NDArray[np.float64]
    across: float
    has_keypoints: bool

    @property
    def depth(self) -> float:
        """Mean error along the line of sight, unit frame."""
        return float(self.depth_error.mean())


def photos_found(body: BodyModel, size: int, num_photos: int) -> Iterator[tuple[Photos, Shown, Crop]]:
    """Draw photos, one at a time, and find who is in them; those that show too little are passed over."""
    stream = PhotoStream(body, size, views=1)
    for i in range(num_photos):
        photos = stream.photos(1, torch.Generator().manual_seed(SEED + i))
        rgb = (255 * photos.image[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()
        photo = Photo(rgb, photos.mask[0, 0].numpy(), f"photo_{i}")
        try:
            shown = people_shown(photo, "auto")[0]
            crop = crop_around(photo.rgb, shown.mask, ImageRegisterConfig().cut, size)
        except PhotoError:
            continue
        yield photos, shown, crop


def errors_of(found: torch.Tensor, photos: Photos, crop: Crop) -> tuple[NDArray[np.float64], float]:
    """Return errors (V, 3) of vertices in a crop, unit frame, mean depth aligned; and the metres of the unit."""
    true, grown = in_crop(photos.vertices[0].double().numpy(), photos.image.shape[-1], crop)
    error = found.double().numpy() - true
    error[:, 2] -= error[:, 2].mean()
    return error, float(photos.metres_per_unit[0]) / grown


@torch.no_grad()
def samples_of_photos(net: ImageNet, num_photos: int) -> list[PhotoSample]:
    """Descend on photos as registering does, keypoints found; photos that show too little are passed over."""
    body, config, samples = load_body(net.config.body), ImageRegisterConfig(), []
    for photos, shown, crop in photos_found(body, net.config.image.size, num_photos):
        views = descend_crop(net, crop, shown.keypoints, config.descent)
        rounds = config.uncertainty.smoothing_rounds
        found, *raw_sigmas = one_step_with_sigma(net.field, views, body.faces, rounds)
        spread, depth_spread = (raw_sigma.double().numpy() for raw_sigma in raw_sigmas)
        error, metres = errors_of(found, photos, crop)
        whole, across = np.linalg.norm(error, axis=1), float(np.linalg.norm(error[:, :2], axis=1).mean())
        has_keypoints = shown.keypoints is not None
        samples.append(PhotoSample(spread, whole, metres, depth_spread, np.abs(error[:, 2]), across, has_keypoints))
    return samples


def in_crop(points: NDArray[np.float64], size: int, crop: Crop) -> tuple[NDArray[np.float64], float]:
    """Bring points (N, 3) of the unit frame of a whole photo to that of a crop; returns how much larger they are."""
    pixels, grown = size / 2 * (1 + points[:, :2] * [1.0, -1.0]), size / crop.side
    return np.concatenate([crop.to_unit(pixels), grown * points[:, 2:]], 1), grown


def clean_hands(body: str, num_scans: int) -> Iterator[tuple[Subject, NDArray[np.float64]]]:
    """Draw hands, left and right, and clean their scans; those of which too little is left are passed over."""
    for i in range(num_scans):
        subject = draw_hand(body, "mixed", SEED, i)
        try:
            scan = clean_scan(subject.scan, HAND.clean)
        except ScanError:
            continue
        yield subject, oriented_points(scan, HAND.clean.num_points, i)[0]


@torch.no_grad()
def samples_of_hands(net: VoxelNet, detector: HandDetectorNet | None, num_scans: int) -> list[Sample]:
    """Descend on scans of hands, the side known."""
    samples = []
    for i, (subject, points) in enumerate(clean_hands(net.config.body, num_scans)):
        side = str(subject.side)
        boxes = [rough_box(subject, i)] if detector is None else find_hand(detector, points, side, HAND.views)
        samples.append(descend(net, points, boxes, subject.vertices, subject.metres, HAND, i))
    return samples


def true_box(subject: Subject) -> Box:
    """Return the box that a perfect hand detector would name: the palm's axes, the hand in the middle, hand-sized."""
    palm = subject.vertices @ subject.frame.T
    low, high = palm.min(0), palm.max(0)
    scale = 2 * HALF_EXTENT / float((high - low).max())
    return Box(str(subject.side), similarity(scale, subject.frame, -scale * (low + high) / 2))


def rough_box(subject: Subject, seed: int) -> Box:
    """Return the true box, as wrong as a hand detector usually is."""
    rng = np.random.default_rng(seed)
    turn = rotvec_to_rotmat(torch.from_numpy(BOX_TURN * rng.normal(size=3))).numpy()
    wrong = similarity(float(np.exp(BOX_SCALE * rng.normal())), turn, BOX_SHIFT * rng.normal(size=3))
    return Box(str(subject.side), wrong @ true_box(subject).T_unit_scan)


def scores_of(samples: list[Sample]) -> dict[str, Any]:
    """Summarise errors over scans and rank the spread against the error."""
    per_scan = np.array([1000 * s.error.mean() * s.metres_per_unit for s in samples])
    spreads, errors = (np.concatenate([getattr(s, name) for s in samples]) for name in ("spread", "error"))
    return {
        "scans": len(samples), "median": float(np.median(per_scan)), "mean": float(per_scan.mean()),
        "p95": float(np.quantile(per_scan, 0.95)), "worst": float(per_scan.max()),
        "spearman": float(spearmanr(spreads, errors).statistic),
    }  # fmt: skip


def detector_scores(net: HandDetectorNet, num_scans: int) -> dict[str, Any]:
    """Find hands of either side, and compare the likeliest box with the true one."""
    right, turns, shifts, scales = [], [], [], []
    for subject, points in clean_hands(net.config.body, num_scans):
        found, true = find_hand(net, points, "auto", HAND.views)[0], true_box(subject)
        right.append(found.name == subject.side)
        if not right[-1]:
            continue
        T_found_true = found.T_unit_scan @ np.linalg.inv(true.T_unit_scan)
        turn = rotmat_to_rotvec(torch.from_numpy(T_found_true[:3, :3] / scale_of(T_found_true)))
        turns.append(float(turn.norm().rad2deg()))
        shifts.append(float(np.linalg.norm(transform_points(T_found_true, np.zeros(3)))) / (2 * HALF_EXTENT))
        scales.append(abs(np.log(scale_of(T_found_true))))
    return {
        "scans": len(right), "side": float(np.mean(right)), "turn_deg": float(np.median(turns)),
        "turn_p95_deg": float(np.quantile(turns, 0.95)), "shift": float(np.median(shifts)),
        "scale": float(np.median(scales)),
    }  # fmt: skip


def ship_voxel(net: VoxelNet, meta: dict[str, Any], num_scans: int, out: Path) -> Path:
    """Calibrate a voxel network and write it with its card."""
    body = load_body(net.config.body)
    words: dict[str, Any] = OF_PEOPLE
    if body.data.is_hand:
        detector = shipped_detector(out, net.config.body)
        boxes = "from the hand detector" if detector is not None else "as wrong as a hand detector's usually are"
        words = {**OF_HANDS, "scanned": f"half with an object, boxes {boxes}, hands scaled to 190 mm"}
        samples = samples_of_hands(net, detector, num_scans)
    else:
        samples = samples_of_people(net, num_scans)
    spread, error = (np.concatenate([getattr(s, name) for s in samples]) for name in ("spread", "error"))
    scores = scores_of(samples)
    about = {**words, **scores, "vertices": net.field.num_vertices}
    extra = {"calibration": Calibration.fit(spread, error).to_dict(), "scores": scores}
    return write(out / f"voxel-{net.config.body}.safetensors", net, {**meta, **extra}, VOXEL_CARD, about)


def ship_image(net: ImageNet, meta: dict[str, Any], num_photos: int, out: Path) -> Path:
    """Calibrate an image network and write it with its card."""
    samples = samples_of_photos(net, num_photos)
    names = ("spread", "error", "depth_spread", "depth_error")
    spread, error, depth_spread, depth_error = (np.concatenate([getattr(s, name) for s in samples]) for name in names)
    ranked = spearmanr(*([getattr(s, name).mean() for s in samples] for name in names[:2])).statistic
    parts = {
        name: float(np.median([1000 * getattr(s, name) * s.metres_per_unit for s in samples]))
        for name in ("across", "depth")
    }
    seen = float(np.mean([s.has_keypoints for s in samples]))
    ranks = {
        "spearman_depth": float(spearmanr(depth_spread, depth_error).statistic),
        "spearman_photos": float(ranked),
    }
    scores = {**scores_of(list(samples)), **ranks, **parts, "with_keypoints": seen}
    about = {
        **scores,
        "vertices": net.field.num_vertices,
        "size": net.config.image.size,
        "inputs": ", ".join(net.config.image.inputs),
    }
    extra = {
        "calibration": Calibration.fit(spread, error).to_dict(),
        "calibration_depth": Calibration.fit(depth_spread, depth_error).to_dict(),
        "scores": scores,
    }
    return write(out / f"image-{net.config.body}.safetensors", net, {**meta, **extra}, IMAGE_CARD, about)


def ship_detector(net: HandDetectorNet, meta: dict[str, Any], num_scans: int, out: Path) -> Path:
    """Measure a hand detector and write it with its card."""
    scores = detector_scores(net, num_scans)
    path = out / f"hand-detector-{net.config.body}.safetensors"
    return write(path, net, {**meta, "scores": scores}, DETECTOR_CARD, {**meta["validation"], **scores})


def ship_regressor(name: str, net: RegressorNet | PyMAFNet, meta: dict[str, Any], num_photos: int, out: Path) -> Path:
    """Measure a regressor, as it is and tuned to the keypoints that were found, and write it with its card."""
    body, sizes = load_body(net.config.body), net.sees
    eft, found = EFT(body), {"": list[NDArray[np.float64]](), "tuned_": list[NDArray[np.float64]]()}
    metres, missed = list[float](), {"": list[float](), "tuned_": list[float]()}
    for photos, shown, crop in photos_found(body, sizes.size, num_photos):
        if shown.keypoints is None:
            continue
        seen = eft.seen(crop, shown.keypoints)
        look = crop.image[None], crop.mask[None], seen_joints(crop, shown.keypoints, sizes.keypoints)[None]
        with torch.no_grad():
            said = net.steps(*look)[-1]
        tried = eft.tune(net, *look, seen)
        tuned = tried.said[tried.best]
        for kind, each in (("", said), ("tuned_", tuned)):
            error, metres_per_unit = errors_of(each.vertices(body)[0], photos, crop)
            found[kind].append(error)
            missed[kind].append(eft.missed(each, seen) or 1e-6)
        metres.append(metres_per_unit)
    scores: dict[str, Any] = {"scans": len(metres)}
    extra: dict[str, Any] = {"scores": scores}
    millimetres, weights = 1000 * np.array(metres), body.weights.double().numpy()
    for kind, table in (("", "errors"), ("tuned_", "errors_tuned")):
        errors = np.stack(found[kind])
        whole, across, depth = np.linalg.norm(errors, axis=-1), np.linalg.norm(errors[..., :2], axis=-1), errors[..., 2]
        extra[table] = JointErrors.fit(whole, np.abs(depth), weights, np.array(missed[kind])).to_dict()
        each, aside, along = (x.mean(1) * millimetres for x in (whole, across, np.abs(depth)))
        scores |= {f"{kind}median": float(np.median(each)), f"{kind}mean": float(each.mean())}
        scores |= {f"{kind}p95": float(np.quantile(each, 0.95))}
        scores |= {f"{kind}across": float(np.median(aside)), f"{kind}depth": float(np.median(along))}
    about = {**scores, "name": name, "title": TITLES[name], "size": sizes.size, "inputs": ", ".join(sizes.inputs)}
    return write(out / f"{name}-{net.config.body}.safetensors", net, {**meta, **extra}, REGRESSOR_CARD, about)


def shipped_detector(out: Path, body: str) -> HandDetectorNet | None:
    """Return the hand detector that lies beside, or among the assets; None where there is none."""
    for folder in (out, assets_dir() / "weights"):
        path = folder / f"hand-detector-{body}.safetensors"
        if path.exists():
            net = load_network(path)[0]
            return net if isinstance(net, HandDetectorNet) else None
    return None


def command_of(path: Path, net: Network, meta: dict[str, Any]) -> str:
    """Return the command that trained a network."""
    network, run = path.stem.removesuffix(f"-{net.config.body}"), meta["train"]
    if "minutes" in meta:
        minutes, rate = meta["minutes"], run["learning_rate"]
        words = f"python scripts/train_bare.py {network} --minutes {minutes:.0f} --rate {rate:g}"
    else:
        network = f"image --method {network}" if isinstance(net, Regressor) else network
        words = f"lvdreg train {network} --steps {meta['step']} --cooldown {run['cooldown']}"
    start = f" --start {meta['start']['file']}" if "start" in meta else ""
    return f"{words} --body {net.config.body} --batch {run['batch']}{start}"


def write(path: Path, net: Network, meta: dict[str, Any], card: str, about: dict[str, Any]) -> Path:
    """Write a network, its metadata and its card."""
    about_net = {name: value for name, value in meta.items() if name != "network"}
    save_network(path, net, about_net, in_eight_bits=isinstance(net, Regressor))
    of_run = {name: meta["train"][name] for name in ("batch", "seed")} | {"command": command_of(path, net, meta)}
    sizes = {"body": net.config.body, "parameters": sum(p.numel() for p in net.parameters()) / 1e6}
    path.with_suffix(".md").write_text(
        card.format(steps=meta["step"], device=meta["device"], note=meta.get("note", ""), **sizes, **of_run, **about),
        encoding="utf-8",
    )
    return path


def main() -> None:
    """Measure, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--scans", type=int, default=96)
    parser.add_argument("--out", type=Path, default=assets_dir() / "weights")
    parser.add_argument("--note", default="", help="what else to know of the training, for the card")
    args = parser.parse_args()
    net, meta = load_network(args.weights)
    meta["note"] = args.note and "\n  " + args.note
    if isinstance(net, HandDetectorNet):
        print(ship_detector(net, meta, args.scans, args.out))
    elif isinstance(net, ImageNet):
        print(ship_image(net, meta, args.scans, args.out))
    elif isinstance(net, RegressorNet):
        print(ship_regressor("spin", net, meta, args.scans, args.out))
    elif isinstance(net, PyMAFNet):
        print(ship_regressor("pymaf", net, meta, args.scans, args.out))
    elif isinstance(net, VoxelNet):
        print(ship_voxel(net, meta, args.scans, args.out))
    else:
        parser.error(f"{args.weights}: expected a network of lvdreg, got a {type(net).__name__}")


if __name__ == "__main__":
    main()
