"""Where the hand is, which way it points, and which hand it is: the boxes in which the network looks at a cloud.

The hand detector (voxel/hand_detector.py) first sees the whole cloud in the frame of its principal axes, under eight
hypotheses. The likely ones it looks at again, each from the place that its own answer named, so that forearms and
things held fall out of the picture.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.shapes import Points
from lvdreg.base.threads import side_by_side
from lvdreg.descent.boxes import Box, evenly
from lvdreg.descent.choose import ViewConfig
from lvdreg.scan.readers.raw import equal_points
from lvdreg.scan.segment import CleanConfig, main_clusters
from lvdreg.voxel.hand_detector import HandDetections, HandDetectorNet, Poses, hypotheses, principal_poses, toward_palm

NUM_RIGHT = 4
"""The first of the hypotheses are right hands, the others their mirror images."""


def hand_pose_hypotheses(
    net: HandDetectorNet, points_scan: NDArray[np.float64], side: str, config: ViewConfig, clean: CleanConfig
) -> list[Box]:
    """Find a hand in a cloud that may come in pieces, such as a thing and the hand beside it.

    Args:
        net: The hand detector.
        points_scan: (P, 3) points of the scan in its own frame.
        side: "right" or "left" where it is known, or "auto".
        config: How often to look again, and at how many hypotheses.
        clean: What is a piece.

    Returns:
        The boxes of ``find_hand`` for all points, which are group 0, and where there is more than one piece for each of
        them, each a group of its own, and for all but the heaviest together.
    """
    # Clouds with too few points come with some repeated, which would hide how sparse they are.
    distinct = points_scan[equal_points(points_scan)[0]]
    pieces, _ = main_clusters(distinct, np.ones(len(distinct)), clean)
    if len(pieces) > 2:
        # The second of two hands may itself have come in pieces.
        pieces.append(np.any(pieces[1:], axis=0))
    parts = [points_scan] + [distinct[piece] for piece in pieces if len(pieces) > 1]
    return [replace(box, group=i) for i, part in enumerate(parts) for box in find_hand(net, part, side, config)]


@torch.no_grad()
def find_hand(net: HandDetectorNet, points_scan: Points, side: str, config: ViewConfig) -> list[Box]:
    """Find a hand in a cloud.

    Args:
        net: The hand detector.
        points_scan: (P, 3) points of the scan in its own frame.
        side: "right" or "left" where it is known, or "auto".
        config: How often to look again, and at how many hypotheses.

    Returns:
        At most one box for each side, the likelier side first; probabilities are how likely each side is.
    """
    device = net.answer.weight.device
    chosen = points_scan[evenly(len(points_scan), net.config.detector.num_points)]
    # Centred and scaled in double precision first: scans in millimetres may lie kilometres from their origin.
    middle, spread = np.median(chosen, axis=0), float(np.ptp(chosen, axis=0).max()) or 1.0
    points = torch.from_numpy((chosen - middle) / spread).float().to(device)[None]
    valid = torch.ones(points.shape[:2], dtype=torch.bool, device=device)
    poses = _principal_hypotheses(points, valid, side)
    detections = _detect(net, points, poses)
    for _ in range(config.detector_rounds):
        keep = _best_of_each_side(detections.logits, poses, config.detector_hypotheses)
        poses = _rows(toward_palm(poses, detections), keep)
        detections = _detect(net, points, poses)
    return _boxes(toward_palm(poses, detections), detections.logits, middle, spread)


def _principal_hypotheses(points: Float[Tensor, "1 P 3"], valid: Bool[Tensor, "1 P"], side: str) -> Poses:
    """Return the frames to try for a cloud: those of one side where it is known."""
    pose, tried = principal_poses(points, valid), hypotheses(points.device)
    tried = {"right": tried[:NUM_RIGHT], "left": tried[NUM_RIGHT:]}.get(side, tried)
    return Poses(tried @ pose.linear, (tried @ pose.shift[0]))


def _detect(net: HandDetectorNet, points: Float[Tensor, "1 P 3"], poses: Poses) -> HandDetections:
    """Ask the hand detector about one cloud in several frames, one at a time."""
    seen = poses.apply(points.expand(len(poses.linear), -1, -1))
    valid = torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device)
    rows = [slice(i, i + 1) for i in range(len(seen))]
    return HandDetections.joined(side_by_side(lambda row: net(seen[row], valid[row]), rows))


def _best_of_each_side(logits: Float[Tensor, " H"], poses: Poses, count: int) -> Tensor:
    """Return the best hypotheses of each side, ``count`` of each."""
    mirrored = torch.linalg.det(poses.linear) < 0
    rows = [torch.nonzero(mirrored == side)[:, 0] for side in (False, True)]
    return torch.cat([some[logits[some].argsort(descending=True)[:count]] for some in rows])


def _rows(poses: Poses, rows: Tensor) -> Poses:
    return Poses(poses.linear[rows], poses.shift[rows])


def _boxes(poses: Poses, logits: Float[Tensor, " H"], middle: NDArray[np.float64], spread: float) -> list[Box]:
    """Return the best frame of each side, with the probability of that side, in terms of the scan's own frame."""
    probability = logits.double().softmax(0).cpu().numpy()
    mirrored = (torch.linalg.det(poses.linear) < 0).cpu().numpy()
    boxes = []
    for name, of_side in (("right", ~mirrored), ("left", mirrored)):
        if of_side.any():
            best = int(np.flatnonzero(of_side)[probability[of_side].argmax()])
            T_unit_scan = np.eye(4)
            T_unit_scan[:3, :3] = _orthogonal(poses.linear[best].double().cpu().numpy()) / spread
            T_unit_scan[:3, 3] = poses.shift[best].double().cpu().numpy() - T_unit_scan[:3, :3] @ middle
            boxes.append(Box(name, T_unit_scan, float(probability[of_side].sum())))
    return sorted(boxes, key=lambda box: -box.probability)


def _orthogonal(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the similarity nearest to a product of several in single precision."""
    u, s, vt = np.linalg.svd(linear)
    return s.mean() * (u @ vt)
