"""SPIN with hidden truth: what is hidden stays so, the dictionary never gets worse, and a resumed run is the same."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from test_spin import CONFIG, Posers, seeded
from torch import Tensor
from typer.testing import CliRunner

from lvdreg.base.errors import CheckpointError
from lvdreg.base.tensors import read_tensors
from lvdreg.body import BodyModel, BodyParams
from lvdreg.cli import app
from lvdreg.fit.smplify import Found, Unknowns
from lvdreg.image.regressor import Regressed, RegressorConfig, RegressorNetConfig
from lvdreg.train.bank import PhotoBank
from lvdreg.train.regression import Taught, regression_loss
from lvdreg.train.run import train
from lvdreg.train.spin_loop import BestFits, SPINConfig, SPINLoopTrainer

COUNT = 5
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("lvdreg.train.photos.PhotoStream", lambda body, size: Posers(body))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bank(body: BodyModel) -> PhotoBank:
    return PhotoBank.drawn(Posers(body), COUNT, CPU)


def made(body: BodyModel, bank: PhotoBank, spin: SPINConfig | None = None, steps: int = 4) -> SPINLoopTrainer:
    sizes = RegressorConfig(32, (8, 16), 32, inputs=("rgb", "mask"), keypoints=())
    config = RegressorNetConfig("anny", body.num_betas, body.num_joints, sizes)
    return SPINLoopTrainer(config, replace(CONFIG, steps=steps, cooldown=0), CPU, bank, spin, body)


def found(missed: Tensor, number: int) -> Found:
    """Return fits that are all numbers alike, of which only some things matter here."""
    count = len(missed)
    alike = torch.full((count, 1), float(number))
    params = BodyParams(alike.expand(count, 4), alike[:, None].expand(count, 6, 3), alike.expand(count, 3))
    unit, nothing = torch.full((count,), 0.5), torch.zeros(count)
    unknowns = Unknowns(torch.zeros(0, dtype=torch.int64), 0)
    return Found(params, unit, nothing, missed * unit.exp(), torch.zeros(count, 4, 4), unknowns, nothing > 0)


def test_the_dictionary_never_gets_worse(toy_body: BodyModel) -> None:
    best, generator = BestFits(6, toy_body, CPU), seeded()
    least, whose = torch.full((6,), torch.inf), torch.zeros(6)
    for number in range(1, 20):
        rows = torch.randperm(6, generator=generator)[:4]
        missed = torch.rand(4, generator=generator)
        told = torch.rand(4, generator=generator) > 0.2
        better = best.update(rows, found(missed, number), told)
        assert torch.equal(better, told & (missed < least[rows]))
        least[rows[better]], whose[rows[better]] = missed[better], float(number)
        params, _, kept = best.of(torch.arange(6))
        torch.testing.assert_close(kept, least)
        assert torch.equal(params.betas[:, 0], whose) and torch.equal(params.pose[:, 3, 1], whose)


def test_fits_in_the_loop_make_it_better_and_static_ones_stay(body: BodyModel, bank: PhotoBank) -> None:
    loop, static = made(body, bank), made(body, bank, SPINConfig(fits="static"))
    history = []
    for _ in range(4):
        for trainer in (loop, static):
            trainer.train_step()
        history.append(loop.best.missed.clone())
    assert loop.best.missed.isfinite().sum() >= 4, "an epoch of two batches passes four of the five"
    for before, after in pairwise(history):
        assert (after <= before).all()
    fitted = static.best.missed.isfinite() & loop.best.missed.isfinite()
    assert (loop.best.missed <= static.best.missed)[fitted].all()
    assert (loop.best.missed < static.best.missed)[fitted].any()
    assert loop.best.missed[fitted].mean() < 0.05


def test_an_epoch_shows_every_photo_once(body: BodyModel, bank: PhotoBank) -> None:
    trainer = made(body, bank)
    seen = torch.cat([trainer.batch(2, step).numbers for step in range(4)])
    assert [len(set(part.tolist())) for part in seen.split(4)] == [4, 4]
    assert torch.equal(trainer.batch(6, 1).numbers, torch.cat([trainer.batch(2, step).numbers for step in (1, 2, 3)]))
    numbered = trainer.batch(2, 0)
    assert torch.equal(numbered.vertices, bank.kept.vertices[numbered.numbers])


def test_what_is_hidden_is_not_seen(body: BodyModel, bank: PhotoBank) -> None:
    spin = SPINConfig(hidden=0.6)
    trainer = made(body, bank, spin)
    numbers = torch.tensor([0, 4])
    photos = bank.picked(numbers)
    assert photos.params is not None
    nowhere = torch.tensor([torch.nan, 0.0])
    depth = photos.vertices[..., 2] + nowhere[:, None]
    betas, pose = photos.params.betas + nowhere[:, None], photos.params.pose + nowhere[:, None, None]
    veiled = replace(
        photos,
        vertices=torch.cat([photos.vertices[..., :2], depth[..., None]], -1),
        params=BodyParams(betas, pose, photos.params.transl),
    )
    losses = [made(body, bank, spin).loss(each, seeded()) for each in (photos, veiled)]
    assert torch.equal(*losses)
    taught = trainer.taught(photos, trainer.net(photos.image, photos.mask).detached())
    assert taught.params is not None and taught.sure is not None
    torch.testing.assert_close(taught.vertices[1], photos.vertices[1])
    assert not torch.allclose(taught.vertices[0], photos.vertices[0], atol=0.01)
    assert taught.sure[1].all() and 0 < taught.sure[0].sum() < 25


def test_bad_fits_give_keypoints_only_and_strange_shapes_the_mean_one(body: BodyModel, bank: PhotoBank) -> None:
    trainer = made(body, bank, SPINConfig(fits="none"))
    numbers = torch.arange(3)
    photos = bank.picked(numbers)
    trainer.best.missed[:3] = torch.tensor([0.01, 0.2, torch.inf])
    trainer.best.params.betas[0, 1], trainer.best.params.betas[1, 0] = 3.5, 2.0
    said = trainer.net(photos.image, photos.mask).detached()
    taught = trainer.taught(photos, said)
    assert taught.in_space is not None and taught.in_space.tolist() == [1, 0, 0]
    assert taught.params is not None
    assert taught.params.betas[0].eq(0).all() and taught.params.betas[1, 0] == 2
    loss = regression_loss(said, taught, body, trainer.weights)
    moved = replace(taught, vertices=taught.vertices + torch.tensor([0.0, 1, 1])[:, None, None])
    assert torch.equal(regression_loss(said, moved, body, trainer.weights), loss)


def test_samples_count_by_their_weights(body: BodyModel, bank: PhotoBank) -> None:
    photos = bank.picked(torch.arange(3))
    said = Regressed(
        torch.zeros(3, body.num_betas), torch.eye(3).expand(3, body.num_joints, 3, 3), torch.ones(3), torch.zeros(3, 2)
    )
    weights = torch.full((body.num_vertices,), 1 / body.num_vertices)
    truth = Taught.truth(photos)
    full = replace(truth, in_space=torch.ones(3), sure=torch.ones(3, body.num_joints))
    torch.testing.assert_close(regression_loss(said, full, body, weights), regression_loss(said, truth, body, weights))
    twice = full.repeated(2)
    assert twice.in_space is not None and twice.in_space.shape == (6,)


def test_a_resumed_run_is_the_same(body: BodyModel, bank: PhotoBank, tmp_path: Path) -> None:
    train(made(body, bank), tmp_path / "whole")
    train(made(body, bank, steps=2), tmp_path / "parts")
    train(made(body, bank), tmp_path / "parts", resume=True)
    for name in ("fits", "state"):
        whole, parts = (read_tensors(tmp_path / folder / f"{name}.safetensors")[0] for folder in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        for key, tensor in whole.items():
            torch.testing.assert_close(parts[key], tensor, atol=1e-4, rtol=1e-3, msg=key)
    (tmp_path / "parts" / "fits.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"fits\.safetensors"):
        made(body, bank).resume(tmp_path / "parts")


def test_only_spin_hides() -> None:
    done = CliRunner().invoke(app, ["train", "image", "--hidden", "0.5", "--out", "nowhere"])
    assert done.exit_code != 0 and "--hidden: expected it with --method spin, got lvd" in done.stderr
