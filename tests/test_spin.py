"""SPIN's regressor: parameters to vertices of the crop, iterative feedback, training, weights on disk."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lvdreg.train.spin as run
from lvdreg.base.tensors import read_tensors
from lvdreg.body import BodyModel, BodyParams
from lvdreg.descent.checkpoint import load_network
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.image.regressor import Regressed, RegressorConfig, RegressorNet, RegressorNetConfig
from lvdreg.synth.photos import Photos
from lvdreg.train.plans import image_plan, spin_plan
from lvdreg.train.regression import KEYPOINT_WEIGHT
from lvdreg.train.run import TrainConfig
from lvdreg.train.spin import SPINTrainer, train_spin

CONFIG = TrainConfig(
    steps=4, cooldown=2, warmup=1, batch=2, learning_rate=1e-3, ema=0.9, validate_every=2, validation_scans=2
)


@pytest.fixture(scope="module")
def sizes(body: BodyModel) -> RegressorNetConfig:
    """A small network."""
    return RegressorNetConfig(
        "anny", body.num_betas, body.num_joints, RegressorConfig(32, (8, 16), 32, inputs=("rgb", "mask"), keypoints=())
    )


@pytest.fixture(autouse=True)
def one_thread(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums have one order; the body is loaded once."""
    monkeypatch.setattr(run, "load_body", lambda name: body)
    monkeypatch.setattr("lvdreg.train.photos.PhotoStream", lambda body, size: Posers(body))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Posers:
    """Photos without pictures: random bodies, and their shape as brightness so that there is something to learn."""

    def __init__(self, body: BodyModel, known: bool = True, still: bool = False) -> None:
        self.body, self.known, self.still = body, known, still

    @torch.no_grad()
    def photos(self, batch: int, generator: torch.Generator) -> Photos:
        betas = torch.randn(batch, self.body.num_betas, generator=generator, device=generator.device)
        pose = 0.2 * torch.randn(batch, self.body.num_joints, 3, generator=generator, device=generator.device)
        if self.still:
            betas, pose = betas * (torch.arange(betas.shape[1], device=betas.device) < 3), 0 * pose
        params = BodyParams(betas, pose, betas.new_zeros(batch, 3))
        posed = self.body(params)
        vertices = 0.9 * (posed.vertices - posed.joints[:, :1]) + betas.new_tensor([0.1, 0.2, 0.0])
        image = betas[:, :3, None, None].sigmoid().expand(-1, -1, 32, 32)
        whole = torch.ones_like(image[:, :1])
        joints = 0.9 * (posed.joints - posed.joints[:, :1]) + betas.new_tensor([0.1, 0.2, 0.0])
        metres = betas.new_full((batch,), 1 / 0.9)
        return Photos(image, whole, vertices, joints, metres, params if self.known else None)


class Knowing(RegressorNet):
    """Says the truth, whatever it sees."""

    def __init__(self, photos: Photos) -> None:
        torch.nn.Module.__init__(self)
        assert photos.params is not None
        place = photos.joints[:, 0, :2]
        rotations = rotvec_to_rotmat(photos.params.pose)
        self.said = Regressed(photos.params.betas, rotations, 1 / photos.metres_per_unit, place)

    def steps(self, image: Tensor, mask: Tensor, keypoints: torch.Tensor | None = None) -> list[Regressed]:
        return [self.said]


def make_trainer(sizes: RegressorNetConfig, body: BodyModel, config: TrainConfig = CONFIG) -> SPINTrainer:
    return SPINTrainer(sizes, config, torch.device("cpu"), body, Posers(body))


def test_the_truth_has_no_loss_and_no_error(sizes: RegressorNetConfig, body: BodyModel) -> None:
    trainer = make_trainer(sizes, body)
    photos = trainer.batch(3, 5)
    knowing = Knowing(photos)
    trainer.net = knowing  # type: ignore[assignment]
    assert trainer.loss(photos, seeded()).item() < 1e-3
    found = trainer.find(knowing, photos, torch.tensor([3, 99]), 0)  # type: ignore[arg-type]
    torch.testing.assert_close(found, photos.vertices[:, [3, 99]], atol=1e-5, rtol=0)
    assert make_trainer(sizes, body).loss(photos, seeded()).item() > 0.05


def test_a_new_network_says_the_mean_person_facing_the_viewer(sizes: RegressorNetConfig, body: BodyModel) -> None:
    said = RegressorNet(sizes)(torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32))
    torch.testing.assert_close(said.rotations, torch.eye(3).expand(2, body.num_joints, 3, 3))
    torch.testing.assert_close(said.vertices(body)[0], body.v_template - body.J_template[0], atol=1e-5, rtol=0)


def test_the_surroundings_are_not_seen(sizes: RegressorNetConfig) -> None:
    torch.manual_seed(0)
    net = RegressorNet(sizes)
    torch.nn.init.normal_(net.head.answer.weight)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:20, 4:30] = 1
    image = torch.rand(1, 3, 32, 32)
    other = torch.where(mask > 0, image, torch.rand(1, 3, 32, 32))
    assert torch.equal(net(image, mask).betas, net(other, mask).betas)
    assert not torch.equal(net(image, mask).betas, net(1 - image, mask).betas)


def test_it_learns(sizes: RegressorNetConfig, body: BodyModel) -> None:
    trainer = make_trainer(sizes, body, replace(CONFIG, steps=40, batch=4, learning_rate=3e-3))
    trainer.source = Posers(body, still=True)
    losses = [trainer.train_step() for _ in range(40)]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trainer.net.parameters())


def test_photos_without_parameters_train_by_their_vertices(sizes: RegressorNetConfig, body: BodyModel) -> None:
    photos = Posers(body, known=False).photos(2, seeded())
    trainer = make_trainer(sizes, body)
    vertices, joints = trainer.net(photos.image, photos.mask).placed(body)
    apart = (vertices - photos.vertices).norm(dim=-1) @ trainer.weights
    missed = (joints - photos.joints)[..., :2].norm(dim=-1).mean()
    torch.testing.assert_close(trainer.loss(photos, seeded()), apart.mean() + KEYPOINT_WEIGHT * missed)


def test_it_is_kept_and_goes_on(sizes: RegressorNetConfig, body: BodyModel, tmp_path: Path) -> None:
    path = train_spin(tmp_path / "a", sizes, CONFIG, source=Posers(body))
    assert path == tmp_path / "a" / "spin.safetensors"
    net, meta = load_network(path)
    assert isinstance(net, RegressorNet) and net.config == sizes
    assert set(meta["validation"]) >= {"error_mm_median", "across_mm_median", "depth_mm_median"}
    train_spin(tmp_path / "b", sizes, replace(CONFIG, steps=2, cooldown=0), source=Posers(body))
    train_spin(tmp_path / "b", sizes, CONFIG, source=Posers(body), resume=True)
    whole, parts = (read_tensors(tmp_path / name / "state.safetensors")[0] for name in ("a", "b"))
    assert whole.keys() == parts.keys()
    assert load_network(tmp_path / "b" / "spin.safetensors")[1]["step"] == 4


def test_estimates_are_fed_back(sizes: RegressorNetConfig) -> None:
    torch.manual_seed(0)
    net = RegressorNet(sizes)
    torch.nn.init.normal_(net.head.answer.weight, std=0.05)
    seen = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    steps = net.steps(*seen)
    assert len(steps) == 3
    features = net.backbone(torch.cat([2 * seen[0] - 1, seen[1]], 1))[-1].mean((2, 3))
    now = net.head.mean(2)
    for step in steps:
        now = now + net.head.answer(net.head.layers(torch.cat([features, now], 1)))
        torch.testing.assert_close(net.head.said(now).rotations, step.rotations)
        torch.testing.assert_close(now[:, -2:], step.shift)
    assert not torch.equal(steps[1].betas - steps[0].betas, steps[2].betas - steps[1].betas)
    assert torch.equal(net(*seen).betas, steps[-1].betas)


def test_what_is_said_is_a_body_in_metres_and_back(body: BodyModel) -> None:
    betas, pose = (torch.randn(3, *shape, generator=seeded()) for shape in ((body.num_betas,), (body.num_joints, 3)))
    said = Regressed(betas, rotvec_to_rotmat(0.4 * pose), torch.tensor([0.5, 1, 2]), torch.rand(3, 2))
    params, log_unit = said.in_metres(body)
    seen = body(params).vertices / log_unit.exp()[:, None, None]
    torch.testing.assert_close(seen, said.vertices(body), atol=1e-5, rtol=0)
    again = Regressed.of(body, params, log_unit)
    for name in ("betas", "rotations", "scale", "shift"):
        torch.testing.assert_close(getattr(again, name), getattr(said, name), atol=1e-5, rtol=0)


def test_the_plan_is_the_same_loop_and_a_narrow_residual_network_of_18_layers(body: BodyModel) -> None:
    sizes, loop = spin_plan("anny")
    same = image_plan("anny")[1]
    assert replace(loop, learning_rate=same.learning_rate) == same
    net = RegressorNet(sizes)
    layers = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1)]
    assert len(layers) == 17 and sum(p.numel() for p in net.parameters()) < 4.5e6
