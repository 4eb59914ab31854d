"""PyMAF: what levels read of the pyramid and where, dense correspondence, training, and weights on disk."""

import math
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import lvdreg
import lvdreg.train.pymaf as run
from lvdreg.base.errors import CheckpointError
from lvdreg.base.tensors import read_tensors
from lvdreg.body import BodyModel, BodyParams
from lvdreg.body.model import some_vertices
from lvdreg.descent.checkpoint import load_network, save_network
from lvdreg.descent.uncertainty import JointErrors
from lvdreg.descent.weights import TrainedRegressor, pymaf_weights
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.raster import rasterise
from lvdreg.image.pymaf import READ, PointReader, PyMAFConfig, PyMAFNet, PyMAFNetConfig, grid_points
from lvdreg.image.regressor import Regressed
from lvdreg.train.dense import dense_loss, dense_target
from lvdreg.train.plans import image_plan, pymaf_plan, spread_points
from lvdreg.train.pymaf import PyMAFTrainer, train_pymaf
from lvdreg.train.regression import Taught, regression_loss
from lvdreg.train.run import TrainConfig
from tests.fake_photo import scene, standing
from tests.test_eft import told
from tests.test_register_image import QUICK, show
from tests.test_spin import CONFIG, Posers

SMALL = PyMAFConfig(32, (8, 16, 16), 2, 16, 3, 4, (5, 99, 1234), 16, inputs=("rgb", "mask"), keypoints=())
"""The residual network ends at 2 x 2 cells; the pyramid has 4 and 8 each way."""
NET = PyMAFNetConfig("anny", SMALL)


@pytest.fixture(autouse=True)
def one_thread(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums have one order; the body is loaded once."""
    monkeypatch.setattr(run, "load_body", lambda name: body)
    monkeypatch.setattr("lvdreg.descent.checkpoint.load_body", lambda name: body)
    monkeypatch.setattr("lvdreg.train.photos.PhotoStream", lambda body, size: Posers(body))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed))


def at_work(body: BodyModel, sizes: PyMAFConfig = SMALL, std: float = 0.1) -> PyMAFNet:
    """Return a network whose every weight is at work."""
    torch.manual_seed(0)
    net = PyMAFNet(replace(NET, pymaf=sizes), body.data)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return net


def make_trainer(body: BodyModel, config: TrainConfig = CONFIG, sizes: PyMAFConfig = SMALL) -> PyMAFTrainer:
    return PyMAFTrainer(replace(NET, pymaf=sizes), config, torch.device("cpu"), body, Posers(body))


# ---- image/pymaf.py


def test_the_pyramid_doubles_from_the_residual_network_on(body: BodyModel) -> None:
    net = at_work(body)
    maps = net.looked(rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(2, 16, 2, 2), (2, 16, 4, 4), (2, 16, 8, 8)]
    assert net.sees.finest == 8
    whole = pymaf_plan("anny")[0].pymaf
    # 14, 28 and 56 of crops of 224 pixels, as in the paper.
    assert [replace(whole, size=224, levels=i).finest for i in (1, 2, 3)] == [14, 28, 56]


def test_the_grid_covers_the_crop_from_its_upper_left_corner() -> None:
    points = grid_points(3)
    third = 2 / 3
    assert points.shape == (9, 3) and points[:, 2].abs().max() == 0
    torch.testing.assert_close(points[:4, :2], torch.tensor([[-third, third], [0, third], [third, third], [-third, 0]]))


def read_slowly(features: Tensor, points: Tensor, layers: torch.nn.Module) -> Tensor:
    """Read a map (B, C, H, W) at points (B, N, 3) one by one, and reduce what is read."""
    rows = []
    for features_of_one, points_of_one in zip(features, points, strict=True):
        channels, height, width = features_of_one.shape
        for x, y, _ in points_of_one.tolist():
            column = min(max((x + 1) * width / 2 - 0.5, 0), width - 1)
            row = min(max((1 - y) * height / 2 - 0.5, 0), height - 1)
            value = torch.zeros(channels)
            for r in range(height):
                for c in range(width):
                    share = max(0.0, 1 - abs(c - column)) * max(0.0, 1 - abs(r - row))
                    value = value + share * features_of_one[:, r, c]
            rows.append(layers(value))
    return torch.stack(rows).view(len(features), -1)


def test_points_are_read_as_by_a_loop() -> None:
    torch.manual_seed(0)
    reader = PointReader(16, 3)
    features, points = torch.randn(2, 16, 5, 5), 3 * torch.rand(2, 7, 3) - 1.5
    torch.testing.assert_close(reader(features, points), read_slowly(features, points, reader.layers))


@pytest.mark.parametrize("read", READ)
def test_every_level_reads_its_own_map_where_the_body_is_now(body: BodyModel, read: str) -> None:
    """All levels again, step by step: the first on the grid, the others at the projections of the body so far."""
    net = at_work(body, replace(SMALL, read=read), std=0.3)
    with torch.no_grad():
        maps = [torch.cat([20 * m, -20 * m.flip(3)]) for m in net.looked(rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32))]
        levels = net.told(maps)
        now = net.heads[0].mean(2)
        for number, (head, level) in enumerate(zip(net.heads, levels, strict=True)):
            if read == "global":
                features = maps[0].mean((2, 3))
            else:
                on_body = head.said(now).vertices(body)[:, list(SMALL.points)]
                points = grid_points(4).expand(2, -1, -1) if number == 0 or read == "grid" else on_body
                features = read_slowly(maps[number + 1], points, net.readers[number].layers)
            now = head(features, now)
            for name in ("betas", "rotations", "scale", "shift"):
                torch.testing.assert_close(getattr(level, name), getattr(head.said(now), name), atol=2e-5, rtol=2e-4)
    # Neither do both levels say the same, nor is the same said of both photos.
    first, second = (level.vertices(body) for level in levels)
    assert (first - second).norm(dim=-1).mean() > 1e-2 and (first[0] - first[1]).norm(dim=-1).mean() > 1e-2


def test_gradients_do_not_pass_from_level_to_level(body: BodyModel) -> None:
    net = at_work(body)
    levels = net.steps(rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32))
    (levels[1].vertices(body) ** 2).mean().backward()
    assert all(p.grad is None for p in net.heads[0].parameters())
    assert all(p.grad is None for p in net.readers[0].parameters())
    used = [*net.heads[1].parameters(), *net.readers[1].parameters(), *net.pyramid.backbone.parameters()]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in used)


def test_the_gradient_is_that_of_finite_differences(body: BodyModel) -> None:
    """Of the error of the last level by the map that it reads, points and the estimate before it held still."""
    net, generator = at_work(body, std=0.3), seeded(3)
    maps = [torch.randn(1, 16, side, side, generator=generator) for side in (2, 4, 8)]
    maps[2].requires_grad_(True)
    target = torch.randn(1, body.num_vertices, 3, generator=generator)

    def error(features: Tensor) -> Tensor:
        said = net.told([maps[0], maps[1], features])[-1]
        return (said.vertices(body) - target).double().norm(dim=-1).mean()

    (gradient,) = torch.autograd.grad(error(maps[2]), maps[2])
    step, direction = 1e-2, torch.nn.functional.normalize(gradient.flatten(), dim=0).view_as(gradient)
    with torch.no_grad():
        numeric = (error(maps[2] + step * direction) - error(maps[2] - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-2)
    assert numeric > 1e-3


def test_a_batch_says_what_single_photos_say(body: BodyModel) -> None:
    net, image, mask = at_work(body).eval(), rand(3, 3, 32, 32), rand(3, 1, 32, 32, seed=1)
    together = net.steps(image, mask)
    for i in range(3):
        alone = net.steps(image[i : i + 1], mask[i : i + 1])
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a.rotations[i : i + 1], b.rotations, atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(a.shift[i : i + 1], b.shift, atol=2e-5, rtol=1e-4)


def test_some_vertices_of_a_body_are_posed_as_the_whole_one(toy_body: BodyModel) -> None:
    chosen = (200, 3, 77)
    few = BodyModel(some_vertices(toy_body.data, chosen))
    params = BodyParams(rand(2, toy_body.num_betas), rand(2, toy_body.num_joints, 3), rand(2, 3))
    torch.testing.assert_close(few(params).vertices, toy_body(params).vertices[:, list(chosen)])
    torch.testing.assert_close(few(params).joints, toy_body(params).joints)


def test_the_points_lie_evenly_over_the_skin(body: BodyModel) -> None:
    chosen = list(spread_points(body.data, 100))
    template = body.data.v_template.astype(np.float64)
    apart = np.linalg.norm(template[chosen][:, None] - template[chosen], axis=-1) + 9 * np.eye(100)
    farthest = np.linalg.norm(template[:, None] - template[chosen], axis=-1).min(1).max()
    assert len(set(chosen)) == 100 and farthest <= apart.min() + 1e-9


def test_what_is_read_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="read: expected one of mesh, grid, global, got all"):
        replace(SMALL, read="all")


def test_the_method_finds_the_body_of_a_photo(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    one = scene(body, standing(body, 3), size=(700, 520), scale=220.0)
    show(monkeypatch, [one])
    told_level = told(one, 0.05)
    monkeypatch.setattr(type(told_level), "step_name", PyMAFNet.step_name)
    errors = JointErrors(*(np.full(body.num_joints, x) for x in (0.05, 0.03)))
    trained = TrainedRegressor(told_level, errors, errors, {"weights/told": "abc"})
    monkeypatch.setattr(import_module("lvdreg.pipeline.estimate"), "pymaf_weights", lambda *_: trained)
    found = lvdreg.register_image(one.rgb, height=1.7, camera="weak", method="pymaf", refine=False, settings=QUICK)
    assert found.settings["method"] == "pymaf" and "weights/told" in found.assets
    assert list(found.steps) == ["level_1", "pymaf", "fit"]
    assert np.linalg.norm(found.vertices - (one.vertices - one.joints[0]), axis=1).mean() < 0.15


def test_shipped_weights_are_found_by_body(body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.descent.weights.assets_dir", lambda: tmp_path)
    rows = {"whole": [0.05] * body.num_joints, "depth": [0.03] * body.num_joints}
    path = tmp_path / "weights" / "pymaf-anny.safetensors"
    save_network(path, at_work(body).without_dense(), {"errors": rows, "errors_tuned": rows})
    assert isinstance(pymaf_weights.__wrapped__("anny").net, PyMAFNet)
    save_network(path, at_work(body).without_dense(), {})
    with pytest.raises(CheckpointError, match="expected its errors"):
        pymaf_weights.__wrapped__("anny")


# ---- train/dense.py


def test_the_mean_person_at_rest_sees_itself(body: BodyModel) -> None:
    """Looked at along z, a cell sees of the mean person at rest what has the cell's own x and y."""
    seen = dense_target(body, body.v_template[None], 48)
    at = (torch.arange(48) + 0.5) / 24 - 1
    where = seen.is_body[0]
    assert 100 < where.sum() < 1000
    torch.testing.assert_close(seen.rest[0, 0][where], at.expand(48, 48)[where], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.rest[0, 1][where], -at[:, None].expand(48, 48)[where], atol=1e-5, rtol=0)
    assert seen.rest[0][:, ~where].abs().max() == 0
    front = body.v_template[:, 2].max()
    assert seen.rest[0, 2].max() > 0.8 * front  # not the back of the person


def test_dense_targets_are_those_of_one_body_drawn_by_itself(toy_body: BodyModel) -> None:
    params = BodyParams(rand(2, toy_body.num_betas), rand(2, toy_body.num_joints, 3), torch.zeros(2, 3))
    vertices = 0.6 * toy_body(params).vertices
    seen = dense_target(toy_body, vertices, 20)
    for i in range(2):
        x, y, z = vertices[i].double().numpy().T
        faces = toy_body.data.faces.astype(np.int64)
        drawn = rasterise(np.stack([10 * (x + 1), 10 * (1 - y), -10 * z], 1), faces, 20, 20)
        assert np.array_equal(drawn.mask, seen.is_body[i].numpy()) and drawn.mask.any()
        corners = toy_body.data.v_template[faces[drawn.index.clip(0)]]
        expected = (drawn.weights[..., None] * corners).sum(-2)
        np.testing.assert_allclose(seen.rest[i].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_the_dense_loss_counts_coordinates_of_the_body_alone(toy_body: BodyModel) -> None:
    true = dense_target(toy_body, 0.6 * toy_body.v_template[None], 16)
    logits = torch.where(true.is_body, 50.0, -50.0)[:, None]
    perfect = torch.cat([true.rest, logits], 1)
    assert dense_loss(perfect, true).item() < 1e-6
    elsewhere = perfect.clone()
    elsewhere[:, :3] += 7 * ~true.is_body[:, None]
    assert dense_loss(elsewhere, true).item() < 1e-6
    aside = perfect.clone()
    aside[:, 0] += 1
    assert dense_loss(aside, true).item() == pytest.approx(0.95)  # smooth L1 with a round of 0.1
    assert dense_loss(perfect * torch.tensor([1, 1, 1, -1.0])[:, None, None], true).item() == pytest.approx(5)


def test_a_photo_without_a_body_has_a_dense_loss(toy_body: BodyModel) -> None:
    nowhere = dense_target(toy_body, 0.2 * toy_body.v_template[None] + 5, 16)
    assert not nowhere.is_body.any()
    assert math.isfinite(dense_loss(torch.zeros(1, 4, 16, 16), nowhere).item())


# ---- train/pymaf.py and weights on disk


def test_the_loss_is_the_mean_of_all_levels_and_the_dense_one(body: BodyModel) -> None:
    trainer = make_trainer(body)
    photos = trainer.batch(2, 5)
    net = trainer.net
    maps = net.looked(photos.image, photos.mask)
    errors = [regression_loss(each, Taught.truth(photos), body, trainer.weights) for each in net.told(maps)]
    assert net.dense is not None
    dense = dense_loss(net.dense(maps[-1]), dense_target(body, photos.vertices, 8))
    torch.testing.assert_close(trainer.loss(photos, seeded()), torch.stack(errors).mean() + dense)
    without = make_trainer(body, sizes=replace(SMALL, dense=False))
    assert without.net.dense is None
    torch.testing.assert_close(without.loss(photos, seeded()), torch.stack(errors).mean())


def test_the_truth_has_no_error(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(body, sizes=replace(SMALL, dense=False))
    photos = trainer.batch(3, 5)
    assert photos.params is not None
    rotations = rotvec_to_rotmat(photos.params.pose)
    truth = Regressed(photos.params.betas, rotations, 1 / photos.metres_per_unit, photos.joints[:, 0, :2])
    monkeypatch.setattr(PyMAFNet, "told", lambda net, maps: [truth, truth])
    assert trainer.loss(photos, seeded()).item() < 1e-3
    found = trainer.find(trainer.net, photos, torch.tensor([3, 99]), 0)
    torch.testing.assert_close(found, photos.vertices[:, [3, 99]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("read", ["mesh", "global"])
def test_it_learns(body: BodyModel, read: str) -> None:
    sizes = replace(SMALL, read=read)
    trainer = make_trainer(body, replace(CONFIG, steps=40, batch=4, learning_rate=3e-3), sizes)
    trainer.source = Posers(body, still=True)
    losses = [trainer.train_step() for _ in range(40)]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trainer.net.parameters())


def test_it_is_kept_without_the_dense_map_and_goes_on(body: BodyModel, tmp_path: Path) -> None:
    path = train_pymaf(tmp_path / "a", NET, CONFIG, source=Posers(body))
    assert path == tmp_path / "a" / "pymaf.safetensors"
    net, meta = load_network(path)
    assert isinstance(net, PyMAFNet) and net.config == replace(NET, pymaf=replace(SMALL, dense=False))
    assert not [name for name in read_tensors(path)[0] if name.startswith("dense")]
    assert set(meta["validation"]) >= {"error_mm_median", "across_mm_median", "depth_mm_median"}
    train_pymaf(tmp_path / "b", NET, replace(CONFIG, steps=2, cooldown=0), source=Posers(body))
    train_pymaf(tmp_path / "b", NET, CONFIG, source=Posers(body), resume=True)
    whole, parts = (read_tensors(tmp_path / name / "state.safetensors")[0] for name in ("a", "b"))
    assert whole.keys() == parts.keys() and "ema.dense.weight" in whole
    assert load_network(tmp_path / "b" / "pymaf.safetensors")[1]["step"] == 4
    train_pymaf(tmp_path / "c", NET, replace(CONFIG, steps=1), source=Posers(body), start=path)
    assert "ema.dense.weight" in read_tensors(tmp_path / "c" / "state.safetensors")[0]


def test_weights_come_back_from_disk(body: BodyModel, tmp_path: Path) -> None:
    net, image, mask = at_work(body).without_dense().eval(), rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    save_network(tmp_path / "pymaf.safetensors", net, {})
    again = load_network(tmp_path / "pymaf.safetensors")[0]
    assert isinstance(again, PyMAFNet)
    torch.testing.assert_close(again(image, mask).betas, net(image, mask).betas, atol=0.02, rtol=0.02)


def test_damaged_sizes_are_refused_in_one_line(body: BodyModel, tmp_path: Path) -> None:
    net = at_work(body)
    for wrong in ({"levels": 99}, {"points": (1, 10**6)}, {"read": "minds"}, {"grid": 5}):
        config = {"body": "anny", "pymaf": {**NET.to_dict()["pymaf"], **wrong}}
        save_network(tmp_path / "pymaf.safetensors", net, {"network": config})
        with pytest.raises(CheckpointError, match=r"^[^\n]*(describes no network|do not fit the network)"):
            load_network(tmp_path / "pymaf.safetensors")


def test_the_plan_is_the_same_loop_and_fits_the_budget(body: BodyModel) -> None:
    sizes, loop = pymaf_plan("anny")
    same = image_plan("anny")[1]
    assert replace(loop, learning_rate=same.learning_rate) == same
    with torch.device("meta"):
        net = PyMAFNet(sizes, body.data)
    assert len(sizes.pymaf.points) == 431 and sizes.pymaf.grid == 21 and len(net.heads) == 3
    assert 2 * sum(p.numel() for p in net.parameters()) <= 8_300_000
