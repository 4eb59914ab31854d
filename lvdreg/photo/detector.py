"""Find people: BlazePose's detector, a single-shot network with anchors.

Its output per anchor (Apache-2.0, MediaPipe's pose_detection): a box around the face, and four points: the middle of
the hips, a point whose distance and direction from there give size and direction of the whole body, and the same two
for the upper body.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.photo.graph import person_graph, run_graph
from lvdreg.photo.warp import Boxes, Pyramid, joined_boxes

STRIDES = (8, 16, 32)
ANCHORS_PER_CELL = (2, 2, 6)
"""Two at each of the strides 8, 16, 32, 32, 32; those of one stride lie together."""
OVERLAP = 0.3
"""Boxes that share more are of one person."""
ENLARGED = 1.25
"""A whole person, hands and feet included, lies in a box so much larger than the circle that the network gives."""


@dataclass(frozen=True)
class Detections:
    """People found by the detector, most certain first.

    Attributes:
        boxes: (B) Turned squares around whole persons, in pixels of the photo.
        scores: (B,) 0 to 1.
    """

    boxes: Boxes
    scores: Float[Tensor, " B"]


def anchors(size: int) -> Float[Tensor, "A 2"]:
    """Centres (x, y) of all anchors, in the box frame of the detector's input of `size` pixels a side."""
    rows = []
    for stride, count in zip(STRIDES, ANCHORS_PER_CELL, strict=True):
        cells = size // stride
        middle = (torch.arange(cells) + 0.5) / cells
        grid = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1).reshape(-1, 1, 2)
        rows.append(grid.expand(-1, count, 2).reshape(-1, 2))
    return torch.cat(rows)


def body_squares(hips: Float[Tensor, "B 2"], tops: Float[Tensor, "B 2"]) -> Boxes:
    """Turned squares around whole persons from the hips' middle and the point that gives size and direction."""
    up = tops - hips
    side = 2 * ENLARGED * up.norm(dim=-1, keepdim=True).expand(-1, 2)
    return Boxes(hips, side, torch.atan2(up[:, 0], -up[:, 1]))


def detect(pyramid: Pyramid, threshold: float, device: str = "cpu") -> Detections:
    """Find people in a photo, in one look at all of it.

    Args:
        pyramid: The photo.
        threshold: Detections below this certainty are dropped.
        device: Where the network runs.
    """
    width, height = pyramid.size
    side = max(width, height)
    whole = Boxes(
        torch.tensor([[width / 2, height / 2]], device=device),
        torch.full((1, 2), float(side), device=device),
        torch.zeros(1, device=device),
    )
    return detect_in(pyramid, whole, threshold, device)


def detect_in(pyramid: Pyramid, squares: Boxes, threshold: float, device: str = "cpu") -> Detections:
    """Find people in squares of a photo, which may reach beyond it; other arguments are those of ``detect``.

    Who is in several squares is found in each.
    """
    graph = person_graph("detector", device)
    found = run_graph(graph, pyramid.crop(squares, graph.input_shape[1:]), "person-detector")
    size = graph.input_shape[1]
    parts = []
    for i, logits in enumerate(found["scores"][..., 0]):
        good = logits.sigmoid() > threshold
        # Eight pairs would be four points; we need the box (centre, size) and the first two points.
        numbers = found["boxes"][i, good].reshape(-1, 6, 2) / size
        centre = anchors(size).to(numbers.device)[good]
        points = [numbers[:, 0] + centre, numbers[:, 1], numbers[:, 2] + centre, numbers[:, 3] + centre]
        merged, scores = merge_overlapping(torch.stack(points, 1), logits[good].sigmoid())
        photo = squares[i : i + 1].to_photo(merged[:, 2:].reshape(1, -1, 2)).reshape(-1, 2, 2)
        parts.append(Detections(body_squares(photo[:, 0], photo[:, 1]), scores))
    scores = torch.cat([part.scores for part in parts])
    order = scores.argsort(descending=True, stable=True)
    return Detections(joined_boxes([part.boxes for part in parts])[order], scores[order])


def merge_overlapping(
    points: Float[Tensor, "N 4 2"], scores: Float[Tensor, " N"]
) -> tuple[Float[Tensor, "B 4 2"], Float[Tensor, " B"]]:
    """Non-maximum suppression; those that overlap the best one are averaged with it by their scores.

    Args:
        points: Centre and size of the box, then what is averaged with it.
        scores: Of each.

    Returns:
        One row per person, most certain first, with the best score of each.
    """
    left, merged, best = scores.argsort(descending=True, stable=True), [], []
    while len(left):
        near = overlap(points[left[:1]], points[left])[0] > OVERLAP
        near[0] = True
        group = left[near]
        weights = scores[group] / scores[group].sum()
        merged.append((points[group] * weights[:, None, None]).sum(0))
        best.append(scores[group[0]])
        left = left[~near]
    if not merged:
        return points[:0], scores[:0]
    return torch.stack(merged), torch.stack(best)


def overlap(first: Float[Tensor, "A K 2"], second: Float[Tensor, "B K 2"]) -> Float[Tensor, "A B"]:
    """Intersection over union of upright boxes given by centre and size in the first two rows."""
    low = torch.maximum((first[:, 0] - first[:, 1] / 2)[:, None], (second[:, 0] - second[:, 1] / 2)[None])
    high = torch.minimum((first[:, 0] + first[:, 1] / 2)[:, None], (second[:, 0] + second[:, 1] / 2)[None])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [boxes[:, 1].clamp(min=0).prod(-1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp(min=1e-12)
