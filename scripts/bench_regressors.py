"""Measure trained regressors on the same unseen photos: after each step, after EFT, and after SMPLify from there.

    python scripts/bench_regressors.py assets/weights/spin-anny.safetensors assets/weights/pymaf-anny.safetensors

The networks see keypoints as in training: off, some missing, now and then left for right. EFT and SMPLify are
given all landmarks within the picture, 2 cm off each, none missing or exchanged. Measures are those
of bench_claims.py.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.checkpoint import load_network
from lvdreg.fit.eft import EFT
from lvdreg.image.regressor import Regressed, Regressor
from lvdreg.synth.photos import Photos, PhotoStream
from lvdreg.train.bank import PhotoBank
from lvdreg.train.plans import spin_plan
from lvdreg.train.run import TrainConfig
from lvdreg.train.spin_loop import SPINConfig, SPINLoopTrainer
from scripts.bench_claims import TEST_SEED, UNITS, measured

LANDMARK_NOISE = 0.02
"""Standard deviation of what EFT and SMPLify are given, unit frame: 2 cm of a person."""
LOOKS = (1, 2, 5, 10, 20)
"""Steps of EFT after which is looked."""


def looks_at(
    net: Regressor,
    photos: Photos,
    keypoints: Float[Tensor, "1 K 3"],
    helper: SPINLoopTrainer,
    seed: int,
    with_eft: bool = True,
) -> Iterator[tuple[str, Regressed]]:
    """Yield what is said of one photo by the network, and by what follows it."""
    look = photos.image, photos.mask, keypoints
    with torch.no_grad():
        *before, last = net.steps(*look)
    for number, said in enumerate(before):
        yield f"{net.step_name} {number + 1}", said
    yield "network", last
    seen = helper.seen(photos)
    noise = LANDMARK_NOISE * torch.randn(seen.places.shape, generator=torch.Generator().manual_seed(seed))
    seen = replace(seen, places=seen.places + noise.to(seen.places))
    if with_eft:
        eft = EFT(helper.body)
        tuned = eft.tune(net, *look, torch.cat([seen.places[0], seen.weight[0][:, None]], 1).to(eft.sure))
        for number in LOOKS:
            yield f"EFT, {number} steps", tuned.said[min(number, len(tuned.said) - 1)]
        yield "EFT, nearest to the keypoints", tuned.said[tuned.best]
    found = helper.short_fit.fit(seen, last.in_metres(helper.body))
    params = BodyParams(*(x.float() for x in (found.params.betas, found.params.pose, found.params.transl)))
    yield "SMPLify from the network", Regressed.of(helper.body, params, found.log_unit.float())


def scores_of(
    net: Regressor, helper: SPINLoopTrainer, bank: PhotoBank, with_eft: bool = True
) -> Mapping[str, dict[str, float]]:
    """Return means of ``bench_claims.measured`` over a bank of photos, by what was looked at."""
    found: dict[str, list[dict[str, Tensor]]] = {}
    for number in range(len(bank)):
        photos = bank.picked(torch.tensor([number]))
        keypoints = helper.keypoints(photos, helper.generator(number))
        assert keypoints is not None
        for name, said in looks_at(net, photos, keypoints, helper, number, with_eft):
            found.setdefault(name, []).append(measured(said, photos, helper.body))
    return {
        name: {key: float(torch.cat([each[key] for each in rows]).mean()) for key in UNITS}
        for name, rows in found.items()
    }


def helper_of(body: BodyModel, bank: PhotoBank) -> SPINLoopTrainer:
    """Return what draws keypoints and fits them; its own network is not used."""
    config = spin_plan("anny")[0]
    small = replace(config, regressor=replace(config.regressor, channels=(8,)))
    return SPINLoopTrainer(small, TrainConfig(batch=1), torch.device("cpu"), bank, SPINConfig(), body)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--without-eft", action="store_true", help="which takes most of the time")
    args = parser.parse_args()
    header = [f"{name}, {unit}".rstrip(", ") for name, unit in UNITS.items()]
    print(f"| {args.photos} photos | | " + " | ".join(header) + " |\n" + "|---" * (len(header) + 2) + "|")
    for path in args.weights:
        net = load_network(path)[0]
        if not isinstance(net, Regressor):
            parser.error(f"{path}: expected a regressor, got a {type(net).__name__}")
        body = load_body(net.config.body)
        bank = PhotoBank.drawn(PhotoStream(body, net.sees.size), args.photos, torch.device("cpu"), TEST_SEED)
        for name, scores in scores_of(net, helper_of(body, bank), bank, not args.without_eft).items():
            cells = [f"{scores[key]:.{3 if key == 'IoU' else 1}f}" for key in UNITS]
            print(f"| {path.stem} | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
