"""Exemplar fine-tuning: its loss against an oracle, what it tunes and what it leaves, and the way of a whole photo."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from fake_photo import Scene, scene, standing
from test_register_image import QUICK, show
from torch import Tensor, nn

import lvdreg
from lvdreg.base.errors import PhotoError
from lvdreg.body import BodyModel, BodyParams
from lvdreg.descent.uncertainty import JointErrors
from lvdreg.descent.weights import TrainedRegressor
from lvdreg.fit.eft import EFT, EFTConfig, copied_weights
from lvdreg.geometry.frames import rotvec_to_rotmat, six_to_rotmat
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.image.inputs import Sees
from lvdreg.image.regressor import FeedbackHead, Regressed, Regressor, RegressorConfig, RegressorNet, RegressorNetConfig

SMALL = RegressorConfig(64, (8, 16), 32)
FAST = EFTConfig(steps=12, rate=3e-3, enough=0.1)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def one(body: BodyModel) -> Scene:
    return scene(body, standing(body, 3), size=(700, 520), scale=220.0)


class Told(Regressor):
    """Says what its only weights are, whatever it sees."""

    def __init__(self, six: Tensor, others: Tensor) -> None:
        super().__init__()
        self.head = FeedbackHead(1, len(others) - 3, len(six), 4)
        betas, camera = others.split([len(others) - 3, 3])
        self.now = nn.Parameter(torch.cat([betas, six.flatten(), camera])[None])

    @property
    def sees(self) -> Sees:
        return replace(SMALL, size=256)

    def looked(self, image: Tensor, mask: Tensor, keypoints: Tensor | None = None) -> list[Tensor]:
        return [mask]

    def told(self, maps: list[Tensor]) -> list[Regressed]:
        return [self.head.said(self.head.mean(1)), self.head.said(self.now)]


def told(one: Scene, wrong: float) -> Told:
    """Return a regressor that knows a scene, with every number wrong by about as much."""
    crop = crop_around(one.rgb, one.shown.mask, CutConfig(), 256)
    pelvis = one.camera.project(one.joints[:1])[0]
    scale = torch.tensor([2 * one.camera.scale / crop.side]).log()
    others = torch.cat([one.params.betas, scale, torch.from_numpy(crop.to_unit(pelvis)).float()])
    six = rotvec_to_rotmat(one.params.pose)[:, :2].flatten(1)
    return Told(*(x + wrong * torch.randn(x.shape, generator=seeded()) for x in (six, others)))


def test_the_loss_is_that_of_keypoints_but_hips_and_feet_and_of_the_lower_legs(body: BodyModel) -> None:
    eft = EFT(body)
    draw = torch.randn(2, body.num_joints, 3, generator=seeded())
    betas = torch.randn(1, body.num_betas, generator=seeded())
    said = Regressed(betas, rotvec_to_rotmat(0.3 * draw[:1]), torch.ones(1), draw[1:, 0, :2])
    seen = torch.rand(len(eft.names), 3, generator=seeded())
    seen[eft.names.index("left_elbow"), 2] = 0
    landmarks = {name: place[:2].double() for name, place in zip(eft.names, said.vertices(eft.body)[0], strict=True)}
    at = {name: row.double() for name, row in zip(eft.names, seen, strict=True)}
    total, weights, far = 0.0, 0.0, []
    for name, row in at.items():
        if any(word in name for word in ("hip", "ankle", "heel", "toe")):
            continue
        unsure = {"shoulder": 1.2, "ear": 1.3, "little": 1.3, "index": 1.3, "thumb": 1.3}
        weight = float(row[2]) / unsure.get(name.partition("_")[2], 1.0) ** 2
        apart = float((landmarks[name] - row[:2]).norm())
        total, weights = total + weight * apart**2, weights + weight
        far += [apart] if weight > 0 else []
    for side in ("left", "right"):
        ends = [at[f"{side}_{name}"] for name in ("knee", "ankle")]
        wanted, shin = ends[1][:2] - ends[0][:2], landmarks[f"{side}_ankle"] - landmarks[f"{side}_knee"]
        weight = float(min(ends[0][2], ends[1][2]))
        total += weight * float((shin / shin.norm() * wanted.norm() - wanted).square().sum())
        weights += weight
    loss, missed = eft.loss(said, seen)
    expected = total / weights + EFTConfig.shape_weight * float(said.betas.square().mean())
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(missed) == pytest.approx(np.mean(far), rel=1e-5)
    hips = seen.clone()
    hips[[eft.names.index(f"{side}_hip") for side in ("left", "right")], :2] += 1
    assert torch.equal(eft.loss(said, hips)[0], loss)


def test_keypoints_may_mark_the_joints_themselves(body: BodyModel) -> None:
    posed = body(BodyParams.zeros(body))
    for at_joints, least, most in ((True, 0.0, 1e-6), (False, 0.01, 0.1)):
        eft = EFT(body, at_joints=at_joints)
        knee = eft.body(BodyParams.zeros(body)).vertices[eft.names.index("left_knee")]
        assert least <= float((knee - posed.joints[body.joint_names.index("left_knee")]).norm()) <= most
        assert float(eft.body.v_template[eft.names.index("nose"), 2]) > 0.05


def test_the_gradient_is_that_of_finite_differences(body: BodyModel) -> None:
    eft = EFT(body)
    eft.body.double()
    eft.sure = eft.sure.double()
    seen = torch.rand(len(eft.names), 3, generator=seeded(), dtype=torch.float64)
    six = torch.randn(1, body.num_joints, 6, generator=seeded(), dtype=torch.float64)
    numbers = [torch.randn(1, size, generator=seeded(), dtype=torch.float64) for size in (body.num_betas, 2)]

    def loss(scale: Tensor, shift: Tensor, betas: Tensor, some: Tensor) -> Tensor:
        rotations = six_to_rotmat(torch.cat([some, six[:, 3:]], 1))
        return eft.loss(Regressed(betas, rotations, scale, shift), seen)[0]

    inputs = (torch.ones(1, dtype=torch.float64), numbers[1], numbers[0][:, :], six[:, :3].clone())
    assert torch.autograd.gradcheck(loss, tuple(x.requires_grad_() for x in inputs), fast_mode=True)


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_photo_tunes_a_copy_and_the_network_keeps_every_bit(one: Scene, body: BodyModel, is_whole: bool) -> None:
    torch.manual_seed(0)
    net = RegressorNet(RegressorNetConfig("anny", body.num_betas, body.num_joints, SMALL)).eval().requires_grad_(False)
    nn.init.normal_(net.head.answer.weight, std=0.01)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    names = set(copied_weights(net))
    norms = ("norm", "layers.1.", "layers.4.", "entry.1.", "around.1.")
    assert names < set(before) and not any(word in name for name in names for word in norms)
    assert {"backbone.entry.0.weight", "head.layers.0.bias", "head.answer.weight"} < names
    eft, crop = EFT(body, replace(FAST, is_whole=is_whole)), crop_around(one.rgb, one.shown.mask, CutConfig(), 64)
    assert one.shown.keypoints is not None
    seen = eft.seen(crop, one.shown.keypoints)
    look = crop.image[None], crop.mask[None], torch.zeros(1, len(SMALL.keypoints), 3)
    tuned = eft.tune(net, *look, seen)
    assert torch.equal(tuned.said[0].rotations, net(*look).rotations)
    assert len(tuned.said) == 13 and tuned.missed[tuned.best] < 0.5 * tuned.missed[0]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(value.grad is None for value in net.parameters())
    again = eft.tune(net, *look, seen)
    assert torch.equal(again.said[-1].rotations, tuned.said[-1].rotations)


def test_what_lies_on_the_keypoints_is_left_alone(one: Scene, body: BodyModel) -> None:
    eft, crop = EFT(body), crop_around(one.rgb, one.shown.mask, CutConfig(), 256)
    assert one.shown.keypoints is not None
    seen = eft.seen(crop, one.shown.keypoints)
    look = crop.image[None], crop.mask[None], torch.zeros(1, len(SMALL.keypoints), 3)
    exact = eft.tune(told(one, 0.0), *look, seen)
    assert len(exact.said) == 1 and exact.missed[0] < 0.1
    blind = eft.tune(told(one, 0.1), *look, seen * torch.tensor([1.0, 1, 0]))
    assert len(blind.said) == 1 and blind.missed == (0.0,)


def test_methods_find_the_body_of_a_photo(one: Scene, body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [one])
    errors = JointErrors(*(np.full(body.num_joints, x) for x in (0.05, 0.03)))
    trained = TrainedRegressor(told(one, 0.05), errors, errors, {"weights/told": "abc"})
    monkeypatch.setattr(import_module("lvdreg.pipeline.estimate"), "spin_weights", lambda *_: trained)
    apart = {}
    for method, settings in (("spin", {}), ("eft", {})):
        found = lvdreg.register_image(
            one.rgb, height=1.7, camera="weak", method=method, refine=False, settings={**QUICK, **settings}
        )
        assert found.settings["method"] == method and "weights/told" in found.assets
        assert list(found.steps)[:1] == [{"spin": "iteration_1", "eft": "eft_0"}[method]]
        assert list(found.steps)[-2:] == [method, "fit"]
        apart[method] = np.linalg.norm(found.vertices - (one.vertices - one.joints[0]), axis=1).mean()
    assert apart["spin"] < 0.15
    assert one.shown.keypoints is not None
    show(monkeypatch, [replace(one, shown=replace(one.shown, keypoints=None))])
    lvdreg.register_image(one.rgb, method="spin", refine=False, settings=QUICK)
    with pytest.raises(PhotoError, match="expected 4 keypoints or more for --method eft, found none in"):
        lvdreg.register_image(one.rgb, method="eft")


def test_errors_of_joints_are_those_of_the_vertices_they_move() -> None:
    weights = np.array([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0]])
    usual = np.tile([0.1, 0.3, 0.2], (16, 1))
    missed = np.geomspace(0.01, 0.16, 16)
    scale = np.array([0.5, 1, 1, 2]).repeat(4)[:, None]
    scaled = JointErrors.fit(scale * usual, scale * usual / 2, weights, missed)
    errors = JointErrors.fit(usual, usual / 2, weights, missed)
    np.testing.assert_allclose(scaled.whole, errors.whole)
    for at, factor in ((0.001, 0.5), (missed[6], 1.0), (1.0, 2.0)):
        sigma, _ = JointErrors.from_dict(scaled.to_dict(), 3).at(torch.from_numpy(weights), float(at))
        np.testing.assert_allclose(sigma, factor * weights @ errors.whole)
    np.testing.assert_allclose(errors.whole, [0.2 / 1.5, 0.4 / 1.5, 0.2])
    again = JointErrors.from_dict(errors.to_dict(), 3)
    sigma, depth = again.at(torch.from_numpy(weights))
    np.testing.assert_allclose(sigma, weights @ errors.whole)
    np.testing.assert_allclose(depth, sigma / 2)
    for wrong in ({"whole": [1.0], "depth": [1.0]}, {"whole": [1.0, -1, 1], "depth": [1.0, 1, 1]}):
        with pytest.raises(ValueError, match="whole and depth"):
            JointErrors.from_dict(wrong, 3)
