"""Training on photos: batches made ahead, the parted loss, validation, and runs that go on where they stopped."""

import math
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import lvdreg.train.image as run
from lvdreg.base.errors import CheckpointError, DatasetError, UsageError
from lvdreg.base.tensors import read_tensors
from lvdreg.body import BodyModel
from lvdreg.body.landmarks import landmarks_of
from lvdreg.cli import app
from lvdreg.descent.checkpoint import load_network
from lvdreg.descent.descend import Descent
from lvdreg.field import FieldConfig
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.network import ImageNet, ImageNetConfig
from lvdreg.image.pymaf import PyMAFConfig, PyMAFNetConfig
from lvdreg.image.regressor import RegressorConfig, RegressorNetConfig
from lvdreg.synth.camera.view import Cameras, look_at
from lvdreg.synth.photos import Photos
from lvdreg.train.dataset_photos import ARRAYS, CAMERA_ARRAYS, DatasetPhotos
from lvdreg.train.image import ImageTrainer, any_starts, log_sigma_loss, parted_loss, train_image
from lvdreg.train.photos import Ahead, error_parts
from lvdreg.train.plans import image_plan
from lvdreg.train.run import VALIDATION_SEED, TrainConfig

SIZES = ImageConfig(size=32, inputs=("rgb", "mask"), keypoints=(), stem=8, stacks=2, stride=4, channels=(8, 12, 16))
NET = ImageNetConfig("anny", SIZES, FieldConfig(hidden=32, layers=2, rank=8, num_log_sigmas=2))
CONFIG = TrainConfig(
    steps=4,
    cooldown=2,
    warmup=1,
    batch=2,
    points_per_scan=64,
    learning_rate=3e-3,
    ema=0.9,
    validate_every=2,
    validation_scans=2,
    save_every=2,
)


class Splats:
    """Photos of the mean person, turned and scaled, every vertex a grey dot as bright as it is near."""

    def __init__(self, body: BodyModel, size: int = 32) -> None:
        self.body, self.size = body, size
        self.threads: set[str] = set()

    @torch.no_grad()
    def photos(self, batch: int, generator: torch.Generator) -> Photos:
        self.threads.add(threading.current_thread().name)
        angle = 6.28 * torch.rand(batch, generator=generator, device=generator.device)
        scale = 0.7 + 0.2 * torch.rand(batch, generator=generator, device=generator.device)
        c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
        turn = torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).view(batch, 3, 3) * scale[:, None, None]
        vertices = (self.body.v_template - self.body.J_template[0]) @ turn.mT
        joints = (self.body.J_template - self.body.J_template[0]) @ turn.mT
        column, row = (
            (x * self.size / 2).long().clamp(0, self.size - 1) for x in (vertices[..., 0] + 1, 1 - vertices[..., 1])
        )
        flat = torch.zeros(batch, self.size**2, device=generator.device)
        grey = flat.scatter_reduce(1, row * self.size + column, 0.5 + 0.3 * vertices[..., 2], "amax")
        image = grey.view(batch, 1, self.size, self.size)
        return Photos(image.expand(-1, 3, -1, -1), (image > 0).float(), vertices, joints, 1 / scale)


@pytest.fixture(autouse=True)
def prepared(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Photos that cost nothing, codes from the template, and one thread, where sums have one order."""
    rough = torch.cat([torch.ones(body.num_vertices, 1), body.v_template], 1).repeat(1, 2)
    monkeypatch.setattr(run, "load_body", lambda name: body)
    monkeypatch.setattr(run, "pose_codes", lambda body, rank: rough)
    monkeypatch.setattr("lvdreg.train.photos.PhotoStream", Splats)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_trainer(config: TrainConfig = CONFIG, net: ImageNetConfig = NET) -> ImageTrainer:
    return ImageTrainer(net, config, torch.device("cpu"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(a: Photos, b: Photos) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("image", "mask", "vertices"))


# ---- batches made ahead


def test_batches_made_ahead_are_the_batches() -> None:
    made: list[int] = []

    def make(seed: int) -> int:
        made.append(seed)
        return seed * seed

    ahead = Ahead(make)
    assert [ahead(5, 6), ahead(6, 7), ahead(7, None)] == [25, 36, 49]
    assert made == [5, 6, 7], "none is made twice"
    assert ahead(1, 2) == 1 and ahead(9, None) == 81, "what was promised and not asked for does no harm"


def test_a_batch_that_cannot_be_made_says_why() -> None:
    def make(seed: int) -> int:
        if seed == 2:
            raise CheckpointError("no photo")
        return seed

    ahead = Ahead(make)
    assert ahead(1, 2) == 1
    with pytest.raises(CheckpointError, match="no photo"):
        ahead(2, 3)


@pytest.mark.slow
def test_training_ahead_is_training() -> None:
    plain, ahead = make_trainer(), make_trainer(replace(CONFIG, ahead=True))
    for trainer in (plain, ahead):
        for _ in range(4):
            trainer.train_step()
    assert all(torch.equal(value, ahead.net.state_dict()[name]) for name, value in plain.net.state_dict().items())
    assert plain.source.threads == {"MainThread"} and ahead.source.threads == {"photos_0"}  # type: ignore[attr-defined]


# ---- the loss


def test_the_loss_is_the_error_across_plus_the_error_along() -> None:
    error = torch.tensor([0.03, 0.04, -0.1]).repeat(2, 5, 1).requires_grad_()
    loss = parted_loss(error)
    assert loss.item() == pytest.approx(0.05 + run.DEPTH_WEIGHT * 0.1)
    loss.backward()
    expected = torch.tensor([0.6, 0.8, -run.DEPTH_WEIGHT]).expand(2, 5, 3) / 10
    torch.testing.assert_close(error.grad, expected)


@pytest.mark.slow
def test_doubts_learn_what_68_percent_of_errors_stay_under() -> None:
    error = torch.randn(20_000, 3, generator=seeded()) * torch.tensor([0.02, 0.02, 0.08])
    log_sigma = torch.full((1, 2), -3.0, requires_grad=True)
    optimiser = torch.optim.Adam([log_sigma], 0.02)
    for _ in range(400):
        optimiser.zero_grad()
        log_sigma_loss(log_sigma.expand(1, 20_000, 2), error[None]).backward()
        assert log_sigma.grad is not None and log_sigma.grad.abs().max() <= 1
        optimiser.step()
    expected = [error.norm(dim=-1).quantile(0.68).item(), error[:, 2].abs().quantile(0.68).item()]
    assert log_sigma.exp()[0].tolist() == pytest.approx(expected, rel=0.03)


def test_what_steps_learn_does_not_depend_on_how_wrong_the_doubts_are() -> None:
    """The error that doubts are compared with is a fact: steps must not grow worse to agree with them."""
    trainer = make_trainer()
    batch = trainer.draw(0)
    assert trainer.net.field.log_sigma is not None
    gradients = []
    for bias in (0.0, 3.0):
        torch.nn.init.constant_(trainer.net.field.log_sigma.bias, bias)
        trainer.net.zero_grad()
        trainer.loss(batch, seeded()).backward()
        gradients.append(trainer.net.field.basis.weight.grad)
    assert gradients[0] is not None and gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


def test_starts_are_the_centre_others_and_anywhere_and_tell_nothing_of_the_truth() -> None:
    bodies = torch.arange(6.0)[:, None, None].expand(6, 50, 3) + 2
    vertices = torch.randint(50, (6, 4000), generator=seeded())
    starts = any_starts(bodies, vertices, seeded(1))
    others = bodies.roll(3, 0)[:, :1].expand_as(starts)
    centre, other = (starts == 0).all(-1), (starts == others).all(-1)
    anywhere = starts[~centre & ~other]
    assert [x.float().mean().item() for x in (centre, other)] == pytest.approx([0.4, 0.3], abs=0.01)
    assert anywhere.abs().max() <= 1 and anywhere.std(0).tolist() == pytest.approx([3**-0.5] * 3, abs=0.02)
    # Photos come in pairs of one person (PhotoStream): neither may tell of the other.
    moved = bodies.clone()
    moved[:2] += 1
    assert torch.equal(any_starts(moved, vertices, seeded(1))[:2], starts[:2])
    assert not torch.equal(any_starts(moved, vertices, seeded(1))[3], starts[3])


def test_errors_are_measured_with_depth_aligned() -> None:
    true = torch.randn(3, 400, 3, generator=seeded())
    assert error_parts(true + torch.tensor([0.0, 0.0, 5.0]), true).abs().max() < 1e-5
    off = error_parts(true + torch.tensor([0.3, 0.4, -2.0]), true)
    torch.testing.assert_close(off, torch.tensor([0.5, 0.5, 0.0]).expand(3, 3), atol=1e-5, rtol=0)
    wave = torch.zeros(3, 400, 3)
    wave[:, ::2, 2], wave[:, 1::2, 2] = 0.2, -0.2
    torch.testing.assert_close(error_parts(true + wave, true)[0], torch.tensor([0.2, 0.0, 0.2]), atol=1e-5, rtol=0)


# ---- the trainer


def test_steps_train_every_weight() -> None:
    trainer = make_trainer()
    before = {name: value.clone() for name, value in trainer.net.named_parameters()}
    losses = [trainer.train_step() for _ in range(4)]
    assert all(math.isfinite(loss) for loss in losses)
    still = [name for name, value in trainer.net.named_parameters() if torch.equal(value, before[name])]
    assert not still, f"never trained: {still}"


@pytest.mark.slow
def test_the_loss_falls() -> None:
    trainer = make_trainer(replace(CONFIG, steps=80, cooldown=20, batch=4))
    losses = [trainer.train_step() for _ in range(80)]
    assert sum(losses[-10:]) / 10 < 0.75 * sum(losses[:5]) / 5


def test_keypoints_are_those_of_the_truth_a_little_off(body: BodyModel) -> None:
    names = ("left_hip", "right_hip", "left_knee", "right_knee")
    seen = replace(NET, image=replace(SIZES, inputs=("mask", "keypoints"), keypoints=names))
    trainer = make_trainer(net=seen)
    photos = trainer.batch(2, 3)
    points = trainer.keypoints(photos, seeded())
    assert points is not None and points.shape == (2, 4, 3) and ((points[..., 2] >= 0) & (points[..., 2] <= 1)).all()
    rows = torch.arange(2).repeat(100)
    many = Photos(*(getattr(photos, field.name)[rows] for field in fields(Photos) if field.name != "params"))
    found = trainer.keypoints(many, seeded())
    landmarks = landmarks_of(body.data, names)[0].of(many.vertices, many.joints)
    assert found is not None
    off, sure = (found[..., :2] - landmarks[..., :2]).norm(dim=-1), found[..., 2] > 0.6
    assert 0.015 < float(off[sure].median()) < 0.04 < float(off[~sure].median())
    assert 0.7 < float(sure.float().mean()) < 0.85
    assert make_trainer().keypoints(photos, seeded()) is None
    assert math.isfinite(trainer.train_step())


def test_validation_measures_millimetres_on_the_same_unseen_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(replace(CONFIG, validation_scans=3))
    asked: list[Tensor] = []

    def lazy(field: Any, features: Any, count: int, config: Any, subset: Tensor) -> Descent:
        asked.append(subset)
        return Descent(torch.zeros(count, len(subset), 3), torch.zeros(1, count), (True,) * count)

    monkeypatch.setattr(run, "descend", lazy)
    scores = trainer.validate()
    photos = trainer.batch(3, VALIDATION_SEED)
    errors = -photos.vertices[:, asked[0]]
    errors = errors - errors.mean(1, keepdim=True) * torch.tensor([0.0, 0.0, 1.0])
    by_hand = 1000 * photos.metres_per_unit * errors.norm(dim=-1).mean(1)
    across = 1000 * photos.metres_per_unit * errors[..., :2].norm(dim=-1).mean(1)
    assert scores["error_mm_median"] == pytest.approx(float(by_hand.median()), rel=1e-4)
    assert scores["error_mm_mean"] == pytest.approx(float(by_hand.mean()), rel=1e-4)
    assert scores["error_mm_max"] == pytest.approx(float(by_hand.max()), rel=1e-4)
    assert scores["across_mm_median"] == pytest.approx(float(across.median()), rel=1e-4)
    assert 10 < scores["depth_mm_median"] < scores["error_mm_median"] < 1000
    trainer.train_step()
    assert trainer.validate() == scores


def test_the_step_is_computed_on_the_devices_that_were_asked_for() -> None:
    """Nothing may be made on the default device, so that training on a GPU works."""
    expected, found = make_trainer(), make_trainer()
    # torch 2.6 makes the optimiser's own state on the default device, in the first step.
    found.train_step()
    expected.train_step()
    expected.train_step()
    scores = expected.validate()
    with torch.device("meta"):
        found.train_step()
        assert found.validate() == scores


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole, half = make_trainer(replace(CONFIG, ahead=True)), make_trainer()
    for _ in range(4):
        whole.train_step()
    for _ in range(2):
        half.train_step()
    half.save(tmp_path, {})
    second = make_trainer()
    second.resume(tmp_path)
    second.train_step()
    second.train_step()
    whole.save(tmp_path / "whole", {})
    second.save(tmp_path / "second", {})
    expected, found = (read_tensors(tmp_path / name / "state.safetensors")[0] for name in ("whole", "second"))
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def test_train_image_writes_what_load_network_reads_and_goes_on(tmp_path: Path) -> None:
    reports: list[dict[str, float]] = []
    path = train_image(tmp_path / "run", NET, replace(CONFIG, steps=2), report=reports.append)
    assert path == tmp_path / "run" / "image.safetensors"
    net, meta = load_network(path)
    assert isinstance(net, ImageNet) and net.config == NET and meta["step"] == 2
    assert meta["validation"]["error_mm_median"] == reports[-1]["error_mm_median"]
    train_image(tmp_path / "run", NET, replace(CONFIG, steps=4), resume=True, report=reports.append)
    assert [report["step"] for report in reports] == [1, 2, 3, 4]
    other = train_image(tmp_path / "other", NET, replace(CONFIG, steps=1), start=path)
    assert load_network(other)[1]["step"] == 1
    wider = replace(NET, field=replace(NET.field, hidden=40))
    with pytest.raises(CheckpointError, match="do not fit the network"):
        train_image(tmp_path / "third", wider, CONFIG, start=path)


def test_photos_may_come_from_elsewhere(body: BodyModel, tmp_path: Path) -> None:
    source = Splats(body)
    train_image(tmp_path, NET, replace(CONFIG, steps=1), source=source)
    assert source.threads


def pictured(numbers: list[int]) -> Any:
    """What stands for a dataset: cameras and people at random, red pictures of the left half."""

    def batch(number: int, size: int, names: tuple[str, ...]) -> dict[str, Any]:
        numbers.append(number)
        generator = seeded(number)
        cameras = look_at(
            torch.zeros(size, 3),
            *torch.rand(3, size, generator=generator),
            torch.full((size,), 12.0),
            torch.zeros(size),
            32,
        )
        rows: dict[str, Tensor] = {f"camera_{item.name}": getattr(cameras, item.name) for item in fields(Cameras)}
        for name, shape in {
            "vertices": (9, 3),
            "joints": (4, 3),
            "betas": (5,),
            "pose": (4, 3),
            "transl": (3,),
        }.items():
            rows[name] = torch.rand(size, *shape, generator=generator)
        rows["mask"] = torch.zeros(size, 32, 32, dtype=torch.uint8)
        rows["mask"][:, :, :16] = 255
        rows["image"] = rows["mask"][..., None] * torch.tensor([1, 0, 0], dtype=torch.uint8)
        return {name: rows[name].numpy() for name in names}

    found = SimpleNamespace(size=32, batch=batch)
    found.require = lambda body, channels: found
    return found


def test_a_dataset_gives_photos_with_other_faults_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    monkeypatch.setattr("lvdreg.train.dataset_photos.Dataset", lambda folder: pictured(numbers))
    source = DatasetPhotos("there", "anny", 32)
    first, again, other = (source.photos(2, seeded(seed)) for seed in (7, 7, 8))
    assert numbers == [7, 7, 8], "the place in the dataset is that of the step"
    assert same(first, again) and not same(first, other)
    arrays = pictured([]).batch(7, 2, (*ARRAYS, *CAMERA_ARRAYS))
    cameras = Cameras(*(torch.from_numpy(arrays[name]) for name in CAMERA_ARRAYS))
    vertices, joints = torch.from_numpy(arrays["vertices"]), torch.from_numpy(arrays["joints"])
    expected = cameras.to_unit(vertices, 32, cameras.view(joints[:, :1])[:, 0, 2])
    torch.testing.assert_close(first.vertices, expected)
    assert first.joints[:, 0, 2].abs().max() < 1e-6, "the pelvis is at depth zero"
    assert first.image.shape == (2, 3, 32, 32) and first.mask.shape == (2, 1, 32, 32)
    assert first.mask[..., :10].mean() > 0.6 > 0.4 > first.mask[..., 22:].mean()
    assert first.image.min() >= 0 and first.image.max() <= 1
    assert first.params is not None and torch.equal(first.params.betas, torch.from_numpy(arrays["betas"]))
    with pytest.raises(DatasetError, match="expected pictures of 64 pixels a side, got 32; make it with --size 64"):
        DatasetPhotos("there", "anny", 64)


def test_the_command_line_trains_it_regressors_and_on_a_dataset(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = RegressorNetConfig(
        "anny", body.num_betas, body.num_joints, RegressorConfig(32, (8, 16), 32, inputs=("rgb", "mask"), keypoints=())
    )
    monkeypatch.setattr("lvdreg.train.plans.image_plan", lambda body: (NET, CONFIG))
    pyramid = PyMAFConfig(32, (8, 16), 1, 8, points=(0, 9), hidden=8, inputs=("rgb", "mask"), keypoints=())
    monkeypatch.setattr("lvdreg.train.plans.spin_plan", lambda body: (sizes, CONFIG))
    monkeypatch.setattr("lvdreg.train.plans.pymaf_plan", lambda body: (PyMAFNetConfig("anny", pyramid), CONFIG))
    for module in ("spin", "pymaf"):
        monkeypatch.setattr(f"lvdreg.train.{module}.load_body", lambda name: body)
    opened: list[tuple[str, int]] = []

    def open_dataset(folder: Path, body_name: str, size: int) -> Splats:
        opened.append((f"{folder.name} of {body_name}", size))
        return Splats(body)

    monkeypatch.setattr("lvdreg.train.dataset_photos.DatasetPhotos", open_dataset)
    of = {"image": ["--data", "somewhere"], "spin": ["--method", "spin"], "pymaf": ["--method", "pymaf"]}
    for name, options in of.items():
        wanted = ["train", "image", "--out", str(tmp_path / name), "--steps", "2", "--device", "cpu", *options]
        done = CliRunner().invoke(app, wanted)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{tmp_path / name / name}.safetensors\n"
        assert "across_mm_median" in done.stderr
    assert opened == [("somewhere of anny", 32)]


def test_hands_have_no_plan() -> None:
    net_config, config = image_plan("anny")
    assert net_config == ImageNetConfig("anny") and config.ahead
    with pytest.raises(UsageError, match="expected a body, got anny-hand"):
        image_plan("anny-hand")
