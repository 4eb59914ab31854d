"""Landmarks of one person in a turned square: BlazePose's second network, and how its answers are read."""

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lvdreg.photo.detector import body_squares
from lvdreg.photo.graph import person_graph, run_graph
from lvdreg.photo.warp import Boxes, Pyramid, joined_boxes

KEYPOINTS = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_little", "right_little", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_toe", "right_toe",
)  # fmt: skip
"""In the order of the network; left and right are the person's own."""
OTHER_SIDE = {"left": "right", "right": "left"}
MIRRORED = [KEYPOINTS.index("_".join(OTHER_SIDE.get(word, word) for word in name.split("_"))) for name in KEYPOINTS]
"""Row of the same keypoint on the other side of the body."""
PartT = TypeVar("PartT", Tensor, Boxes)
WINDOW = 7
HEAT_LEAST = 0.5


@dataclass(frozen=True)
class DetectedLandmarks:
    """What the network says about each square.

    Attributes:
        points: (B, 33, 2) pixels of the photo.
        visibility: (B, 33) 0 to 1.
        presence: (B,) 0 to 1: that there is a person in the square.
        next: (B) The squares that fit the persons better, found from the landmarks.
        segmentation: (B, 1, h, w) 0 to 1, in the square.
        boxes: (B) The squares.
        world: (B, 33, 3) metres about the hips, along the photo's axes: x right, y up, z towards the viewer.
    """

    points: Float[Tensor, "B 33 2"]
    visibility: Float[Tensor, "B 33"]
    presence: Float[Tensor, " B"]
    next: Boxes
    segmentation: Float[Tensor, "B 1 h w"]
    boxes: Boxes
    world: Float[Tensor, "B 33 3"]

    def __len__(self) -> int:
        """How many squares."""
        return len(self.presence)

    def __getitem__(self, chosen: Tensor | slice) -> "DetectedLandmarks":
        """Some of them."""
        return DetectedLandmarks(**{name: value[chosen] for name, value in vars(self).items()})

    def __add__(self, other: "DetectedLandmarks") -> "DetectedLandmarks":
        """These, then the others."""
        return DetectedLandmarks(**{name: _joined(value, getattr(other, name)) for name, value in vars(self).items()})


def _joined(first: PartT, second: PartT) -> PartT:
    if isinstance(first, Boxes) and isinstance(second, Boxes):
        return joined_boxes([first, second])
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    return torch.cat([first, second])


def find_landmarks(pyramid: Pyramid, boxes: Boxes, device: str = "cpu", *, mirrored: bool = False) -> DetectedLandmarks:
    """Run the network on squares of a photo.

    Args:
        pyramid: The photo.
        boxes: The squares.
        device: Where the network runs.
        mirrored: Whether the network looks in a mirror; what it finds is that of the photo all the same.
    """
    graph = person_graph("landmarks", device)
    _, height, width = graph.input_shape
    crops = pyramid.crop(boxes, (height, width), "border")
    found = run_graph(graph, crops.flip(-1) if mirrored else crops, "person-landmarks")
    rows = found["landmarks"].unflatten(1, (-1, 5))  # x, y, depth, visibility, presence
    refined = refine_by_heat((rows[..., :2] / width)[:, :39], found["heatmap"].sigmoid())
    world, segmentation = found["world"].unflatten(1, (-1, 3)), found["segmentation"]
    if mirrored:
        other = [*MIRRORED, *range(len(MIRRORED), rows.shape[1])]
        rows, refined, world, segmentation = rows[:, other], refined[:, other], world[:, other], segmentation.flip(-1)
        refined = torch.stack([1 - refined[..., 0], refined[..., 1]], -1)
        world = world * world.new_tensor([-1.0, 1.0, 1.0])
    count = len(KEYPOINTS)
    photo = boxes.to_photo(refined)
    visible = rows[:, :count, 3].sigmoid() * rows[:, :count, 4].sigmoid()
    across = torch.einsum("bij,bnj->bni", boxes.turn(), world[:, :count, :2])
    return DetectedLandmarks(
        photo[:, :count],
        visible,
        found["presence"][:, 0],
        body_squares(photo[:, count], photo[:, count + 1]),
        segmentation.sigmoid(),
        boxes,
        torch.cat([across, world[:, :count, 2:]], -1) * world.new_tensor([1.0, -1.0, -1.0]),
    )


def refine_by_heat(points: Float[Tensor, "B K 2"], heat: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K 2"]:
    """Move points to the centre of the heat around them, where it is hot; box frame.

    As MediaPipe does: a window of 7 cells around the cell of each point; where nothing in it reaches 0.5, the point
    stays.
    """
    batch, count, height, width = heat.shape
    reach = WINDOW // 2
    scale = torch.tensor([width, height], device=points.device)
    cell = (points * scale).floor().long()
    inside = ((cell >= 0) & (cell < scale)).all(-1)
    cell = torch.minimum(cell.clamp(min=0), scale - 1)
    windows = F.unfold(F.pad(heat.reshape(-1, 1, height, width), [reach] * 4), WINDOW)
    at = (cell[..., 1] * width + cell[..., 0]).reshape(-1, 1, 1).expand(-1, WINDOW**2, 1)
    weights = windows.gather(2, at)[..., 0].reshape(batch, count, WINDOW**2)
    step = torch.arange(-reach, reach + 1, device=points.device)
    offsets = torch.stack(torch.meshgrid(step, step, indexing="xy"), -1).reshape(-1, 2)
    moved = (weights[..., None] * offsets).sum(2) / weights.sum(2, keepdim=True).clamp(min=1e-9)
    refined = (cell + moved) / scale
    hot = inside & (weights.amax(2) >= HEAT_LEAST)
    return torch.where(hot[..., None], refined, points)
