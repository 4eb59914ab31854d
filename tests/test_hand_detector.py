"""The hand detector: frames, hypotheses and boxes; what it says is tested with an oracle in the network's place."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.descent.choose import ViewConfig
from lvdreg.descent.hand_boxes import find_hand, hand_pose_hypotheses
from lvdreg.geometry.frames import rotvec_to_rotmat, scale_of, six_to_rotmat, transform_points
from lvdreg.pipeline.config import HAND
from lvdreg.synth.hand_scans import HandStream
from lvdreg.train.hand_detector import HandDetectorTrainer, shares, some_views
from lvdreg.train.run import TrainConfig
from lvdreg.voxel.hand_detector import (
    HALF_EXTENT,
    HandDetections,
    HandDetectorConfig,
    HandDetectorNet,
    HandDetectorNetConfig,
    Poses,
    hypotheses,
    principal_poses,
    toward_palm,
)

TINY = HandDetectorNetConfig(
    detector=HandDetectorConfig(resolution=16, num_points=500, channels=(8, 16, 16, 24), hidden=32)
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rotation(seed: int) -> Tensor:
    return rotvec_to_rotmat(3 * torch.randn(3, generator=seeded(seed)))


@pytest.fixture(scope="module")
def hand() -> tuple[Tensor, Tensor]:
    """Points and vertices of one hand with a forearm, canonical palm frame."""
    samples = HandStream(load_body("anny-hand")).scans(1, 4000, seeded(3))
    return samples.points[0][samples.valid[0]], samples.vertices[0]


class Oracle(HandDetectorNet):
    """Answers from the truth: knows where each of its points lies in the palm's frame."""

    def __init__(self, palm: Tensor, vertices: Tensor, is_left: bool) -> None:
        super().__init__(TINY)
        self.palm, self.is_left = palm, is_left
        low, high = vertices.amin(0), vertices.amax(0)
        self.middle, self.extent = (low + high) / 2, 0.5 * (high - low).amax()

    def forward(self, points: Tensor, valid: Tensor) -> HandDetections:
        logits, turns, centres, extents = [], [], [], []
        for here in points:
            source, goal = self.palm - self.palm.mean(0), here - here.mean(0)
            linear = torch.linalg.lstsq(source.double(), goal.double()).solution.T.float()
            proper = torch.linalg.det(linear) > 0
            scale = torch.linalg.det(linear).abs() ** (1 / 3)
            turn = (linear / scale).T
            trace = turn.diagonal().sum()
            logits.append(trace if proper else trace.new_tensor(-20.0))
            turns.append(turn if proper else torch.eye(3))
            centres.append(linear @ (self.middle - self.palm.mean(0)) + here.mean(0))
            extents.append(self.extent * scale)
        return HandDetections(torch.stack(logits), torch.stack(turns), torch.stack(centres), torch.stack(extents))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("scale", [1.0, 1000.0, 0.037])
def test_an_oracle_brings_any_hand_to_its_palm_frame(hand: tuple[Tensor, Tensor], side: str, scale: float) -> None:
    palm, vertices = hand
    palm = palm[: len(palm) // 2 * 2]
    oracle = Oracle(palm[np.linspace(0, len(palm) - 1, min(500, len(palm))).round().astype(int)], vertices, False)
    mirror = np.diag([-1.0 if side == "left" else 1.0, 1.0, 1.0])
    linear = scale * rotation(5).double().numpy() @ mirror
    there = palm.double().numpy() @ linear.T + scale * np.array([5.0, -3.0, 40.0])
    best = find_hand(oracle, there, "auto", ViewConfig())[0]
    assert best.name == side and best.probability > 0.9
    assert (np.linalg.det(best.T_unit_scan) < 0) == (side == "left")
    found = transform_points(best.T_unit_scan, there)
    half = (HALF_EXTENT / oracle.extent).item()
    np.testing.assert_allclose(found, half * (palm - oracle.middle).double().numpy(), atol=2e-3)
    assert scale_of(best.T_unit_scan) == pytest.approx(half / scale, rel=1e-3)


def test_a_known_side_is_not_doubted(hand: tuple[Tensor, Tensor]) -> None:
    net = HandDetectorNet(TINY).eval()
    for side in ("right", "left"):
        boxes = find_hand(net, hand[0].double().numpy(), side, ViewConfig())
        assert [box.name for box in boxes] == [side] and boxes[0].probability == pytest.approx(1)
    both = find_hand(net, hand[0].double().numpy(), "auto", ViewConfig())
    assert {box.name for box in both} == {"left", "right"}
    assert sum(box.probability for box in both) == pytest.approx(1)


def test_a_hand_is_sought_in_all_points_and_in_each_of_their_pieces(hand: tuple[Tensor, Tensor]) -> None:
    net = HandDetectorNet(TINY).eval()
    palm = hand[0].double().numpy()
    thing = 0.5 * palm[: int(0.6 * len(palm))] + [1.0, 0, 0]
    found = hand_pose_hypotheses(net, palm, "auto", HAND.views, HAND.clean)
    assert [box.group for box in found] == [0, 0]
    both = np.concatenate([thing, palm])
    boxes = hand_pose_hypotheses(net, both, "right", HAND.views, HAND.clean)
    more = np.concatenate([both, 0.9 * thing[: int(0.8 * len(thing))] - [3.0, 0, 0]])
    rest = np.concatenate([thing, more[len(both) :]])
    boxes += hand_pose_hypotheses(net, more, "right", HAND.views, HAND.clean)
    assert [box.group for box in boxes] == [0, 1, 2, 0, 1, 2, 3, 4]
    for box, part in zip(boxes, [both, palm, thing, more, palm, thing, more[len(both) :], rest], strict=True):
        (expected,) = find_hand(net, part, "right", HAND.views)
        np.testing.assert_allclose(box.T_unit_scan, expected.T_unit_scan, rtol=1e-5)


def test_a_mirrored_cloud_gives_mirrored_boxes(hand: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    net = HandDetectorNet(TINY).eval()
    torch.nn.init.normal_(net.answer.weight, std=0.02)
    points = hand[0].double().numpy()
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    plain = {box.name: box for box in find_hand(net, points, "auto", ViewConfig())}
    mirrored = {box.name: box for box in find_hand(net, points @ mirror[:3, :3], "auto", ViewConfig())}
    for name, other in (("right", "left"), ("left", "right")):
        assert plain[name].probability == pytest.approx(mirrored[other].probability, abs=1e-3)
        np.testing.assert_allclose(plain[name].T_unit_scan, mirrored[other].T_unit_scan @ mirror, atol=5e-3)


def test_principal_frames_do_not_depend_on_how_a_cloud_lies(hand: tuple[Tensor, Tensor]) -> None:
    points = hand[0][None]
    valid = torch.ones(points.shape[:2], dtype=torch.bool)
    here = principal_poses(points, valid)
    seen = here.apply(points)[0]
    covariance = (seen.T @ seen) / len(seen)
    torch.testing.assert_close(covariance, covariance.diag().diag(), atol=1e-4, rtol=0)
    spread = covariance.diag()
    assert spread[1] > spread[0] > spread[2] and spread[1] == pytest.approx(1 / 2.5**2, rel=1e-3)
    assert torch.linalg.det(here.linear) > 0
    turned = 7 * points @ rotation(1).T + 3
    there = principal_poses(turned, valid).apply(turned)[0]
    nearest = min((there @ h.T - seen).abs().max().item() for h in hypotheses(seen.device)[:4])
    assert nearest < 1e-3


def test_points_that_do_not_count_change_nothing(hand: tuple[Tensor, Tensor]) -> None:
    points = torch.cat([hand[0], torch.full((10, 3), 9.0)])[None]
    valid = torch.arange(points.shape[1])[None] < len(hand[0])
    torch.testing.assert_close(
        principal_poses(points, valid).linear, principal_poses(hand[0][None], valid[:, : len(hand[0])]).linear
    )


def test_hypotheses_are_a_group_of_rotations_and_their_mirror_images() -> None:
    tried = hypotheses(torch.device("cpu"))
    det = torch.linalg.det(tried)
    assert (det[:4] == 1).all() and (det[4:] == -1).all()
    products = {tuple((a @ b).flatten().tolist()) for a in tried for b in tried}
    assert products == {tuple(t.flatten().tolist()) for t in tried}


def test_six_numbers_make_rotations() -> None:
    R = six_to_rotmat(torch.randn(20, 6, generator=seeded()))
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(R) > 0.99).all()
    torch.testing.assert_close(six_to_rotmat(R[:, :2].flatten(1)), R, atol=1e-5, rtol=1e-5)


def test_truth_in_the_training_views_leads_to_the_palm() -> None:
    trainer = HandDetectorTrainer(TINY, TrainConfig(batch=2, scan_points=500), torch.device("cpu"))
    for close in (False, True):
        batch = trainer.views(2, 5, close)
        samples = trainer.stream.scans(2, 500, trainer.generator(5))
        torch.testing.assert_close(batch.share.sum(1), torch.ones(2))
        assert (batch.share[:, 4:] == 0).all()
        for k in range(4):
            truth = HandDetections(
                batch.share[:, k],
                batch.R_palm_here[:, k],
                batch.centre[:, k],
                HALF_EXTENT * batch.log_extent[:, k].exp(),
            )
            identity = Poses(torch.eye(3).expand(2, 3, 3), torch.zeros(2, 3))
            found = toward_palm(identity, truth).apply(batch.points[:, k])
            low, high = samples.vertices.amin(1), samples.vertices.amax(1)
            scale = 2 * HALF_EXTENT / (high - low).amax(-1)
            wanted = scale[:, None, None] * (samples.points - ((low + high) / 2)[:, None])
            torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_fewer_views_hold_the_right_one_and_stay_together() -> None:
    trainer = HandDetectorTrainer(TINY, TrainConfig(batch=3, scan_points=200), torch.device("cpu"))
    every = trainer.views(3, 9, close=True)
    some = some_views(every, seeded())
    assert some.points.shape[:2] == (3, 4) and torch.equal(some.valid, every.valid)
    torch.testing.assert_close(some.share.sum(1), torch.ones(3))
    assert (some.share.amax(1) >= every.share.amax(1)).all()
    for b in range(3):
        for k in range(4):
            (source,) = [i for i in range(8) if torch.equal(every.points[b, i], some.points[b, k])]
            assert torch.equal(every.centre[b, source], some.centre[b, k])
            assert torch.equal(every.R_palm_here[b, source], some.R_palm_here[b, k])


def test_the_nearest_hypothesis_has_the_largest_share() -> None:
    R = hypotheses(torch.device("cpu")) @ rotvec_to_rotmat(torch.tensor([0.2, 0.1, -0.1]))
    share = shares(R[None])[0]
    assert share.argmax() == 0 and share[0] > 0.99
    half_way = hypotheses(torch.device("cpu")) @ rotvec_to_rotmat(torch.tensor([0.0, 0.0, torch.pi / 2]))
    assert shares(half_way[None])[0][:2].tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


def test_a_tiny_hand_detector_learns_a_batch_by_heart() -> None:
    config = TrainConfig(batch=2, scan_points=400, steps=60, cooldown=0, warmup=5, learning_rate=2e-3)
    trainer = HandDetectorTrainer(TINY, config, torch.device("cpu"))
    fixed = trainer.views(2, 1, close=True)
    trainer.draw = lambda seed: fixed  # type: ignore[method-assign]
    losses = [trainer.train_step() for _ in range(60)]
    assert min(losses[-5:]) < 0.5 * losses[0]
