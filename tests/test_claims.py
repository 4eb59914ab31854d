"""The benchmark of the papers' claims: its photos, its measures, its table, and that it goes on where it stopped."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lvdreg.body import BodyModel
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.image.regressor import Regressed, RegressorConfig, RegressorNet, RegressorNetConfig
from lvdreg.synth.photos import Photos
from lvdreg.train.bank import PhotoBank
from scripts import bench_claims, bench_regressors
from scripts.bench_claims import JOINTS, bank_of, measured, procrustes, table_of
from tests.test_spin import Posers


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def truth_of(photos: Photos) -> Regressed:
    assert photos.params is not None
    rotations = rotvec_to_rotmat(photos.params.pose)
    return Regressed(photos.params.betas, rotations, 1 / photos.metres_per_unit, photos.joints[:, 0, :2])


def test_procrustes_undoes_a_similarity_and_never_reflects() -> None:
    true = rand(3, 9, 3)
    turn = rotvec_to_rotmat(3 * rand(3, 3, seed=1) - 1.5)
    moved = 0.4 * true @ turn.mT + rand(3, 1, 3, seed=2)
    torch.testing.assert_close(procrustes(moved, true), true, atol=1e-5, rtol=0)
    reflected = procrustes(true * torch.tensor([-1.0, 1, 1]), true)
    assert (reflected - true).norm(dim=-1).mean() > 0.1


def test_procrustes_is_the_best_of_all_similarities() -> None:
    points, true = rand(1, 9, 3), rand(1, 9, 3, seed=1)
    best = ((procrustes(points, true) - true) ** 2).sum()
    for seed in range(50):
        turn = rotvec_to_rotmat(6 * rand(1, 3, seed=seed) - 3)
        turned = (points - points.mean(1, keepdim=True)) @ turn.mT
        about = true - true.mean(1, keepdim=True)
        scale = ((turned * about).sum() / (turned**2).sum()).clamp(min=0)
        assert ((scale * turned - about) ** 2).sum() >= best - 1e-6


def test_the_truth_has_no_error_and_errors_are_what_they_are(body: BodyModel) -> None:
    photos = Posers(body).photos(2, torch.Generator().manual_seed(0))
    truth = truth_of(photos)
    perfect = measured(truth, photos, body)
    assert all(perfect[name].max() < 0.1 for name in ("PVE", "MPJPE", "PA-MPJPE", "reprojection"))
    assert perfect["IoU"].min() > 0.99
    aside = measured(replace(truth, shift=truth.shift + torch.tensor([0.03, 0.04])), photos, body)
    assert aside["reprojection"].tolist() == pytest.approx([5.6, 5.6], rel=1e-3)  # 0.05 of half a crop of 224
    assert aside["PVE"].max() < 0.1 and aside["IoU"].max() < perfect["IoU"].min()
    turned = truth.rotations.clone()
    turned[:, 0] = rotvec_to_rotmat(torch.tensor([0, math.pi / 2, 0])) @ turned[:, 0]
    about = measured(replace(truth, rotations=turned), photos, body)
    assert about["MPJPE"].min() > 50 and about["PA-MPJPE"].max() < 0.1


def test_photos_are_drawn_once_and_kept(body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_claims, "PhotoStream", lambda body, size: Posers(body))
    drawn = bank_of(tmp_path / "bank.safetensors", body, 5, 32, 7)
    monkeypatch.delattr(bench_claims, "PhotoStream")
    kept = bank_of(tmp_path / "bank.safetensors", body, 5, 32, 7)
    for a, b in ((drawn.kept, kept.kept), (drawn.kept.params, kept.kept.params)):
        assert a is not None and b is not None
        for name, value in vars(a).items():
            assert not isinstance(value, Tensor) or torch.equal(value, getattr(b, name)), name


def test_the_table_has_every_method_and_how_far_seeds_lie_apart() -> None:
    level = {"PVE": 100.0, "MPJPE": 90.0, "PA-MPJPE": 50.0, "reprojection": 8.0, "IoU": 0.8}
    one = {"scores": [level, level, {**level, "PVE": 80.0}], "seconds_a_step": 0.2, "seconds_a_photo": 0.01}
    one |= {"parameters": 2_000_000, "fits": []}
    fitted = {**one, "fits": [[10, 7.0], [20, 6.5]]}
    other = json.loads(json.dumps(one))
    other["scores"][-1]["PVE"] = 84.0
    text = table_of({"PyMAF, grid": [one, other], "SPIN, truth": [one], "SPIN, static fits": [fitted]})
    assert "| PyMAF, grid | 2 | 82.0 ± 2.8 | 90.0 ± 0.0 |" in text and "| 2.0 | 79.7 |" in text
    assert "SPIN, static fits, seed 0, what its fits miss by, px: 7.00 after 10, 6.50 after 20" in text
    assert "| SPIN, truth | 1 | 80.0 | 90.0 | 50.0 | 8.0 | 0.800 | 200 | 10 |" in text
    assert "| PyMAF, grid | 100.0 ± 0.0 | 100.0 ± 0.0 | 82.0 ± 2.8 |" in text


def test_joints_are_those_of_the_body(body: BodyModel) -> None:
    assert len(set(JOINTS)) == 14 and set(JOINTS) <= set(body.joint_names)


SMALL = ("--size", "32", "--channels", "8", "8", "--batch", "2", "--steps", "2", "--photos", "2", "--test", "2")


def test_it_goes_on_where_it_stopped(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_claims, "PhotoStream", lambda body, size: Posers(body))
    monkeypatch.setattr("lvdreg.train.photos.PhotoStream", lambda body, size: Posers(body))
    monkeypatch.setattr(bench_claims, "load_body", lambda name: body)
    methods = ["SPIN, truth", "SPIN, keypoints alone"]
    wanted = ["bench_claims", *SMALL, "--out", str(tmp_path), "--only", *methods]
    for seeds in ("1", "2"):
        monkeypatch.setattr(sys, "argv", [*wanted, "--seeds", seeds])
        bench_claims.main()
        said = capsys.readouterr().out
        assert all(said.count(f"{name}, seed") == 1 for name in methods)


def test_regressors_are_measured_by_themselves_and_with_what_follows_them(body: BodyModel) -> None:
    torch.manual_seed(0)
    sizes = RegressorConfig(32, (8, 8), 8)
    net = RegressorNet(RegressorNetConfig("anny", body.num_betas, body.num_joints, sizes)).eval()
    torch.nn.init.normal_(net.head.answer.weight, std=0.01)
    bank = PhotoBank(Posers(body).photos(2, torch.Generator().manual_seed(0)))
    helper = bench_regressors.helper_of(body, bank)
    scores = bench_regressors.scores_of(net, helper, bank)
    tuned = [f"EFT, {steps} steps" for steps in bench_regressors.LOOKS]
    wanted = ["iteration 1", "iteration 2", "network", *tuned, "EFT, nearest to the keypoints"]
    assert list(scores) == [*wanted, "SMPLify from the network"]
    photos = bank.picked(torch.arange(2))
    said = []
    for number in range(2):
        one = bank.picked(torch.tensor([number]))
        said.append(net(one.image, one.mask, helper.keypoints(one, helper.generator(number))))
    expected = measured(Regressed.joined(said), photos, body)
    for name, value in scores["network"].items():
        assert value == pytest.approx(expected[name].mean().item(), rel=1e-3), name
    # From the mean body, with all landmarks within 2 cm, a fit is far nearer to the picture.
    assert scores["SMPLify from the network"]["reprojection"] < 0.5 * scores["network"]["reprojection"]
