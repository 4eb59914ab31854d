"""Turned rectangles of a photo: cut out for a network, and laid back over the photo.

Photo frame: pixels, x right, y down, spanning [0, W] x [0, H]. Box frame: [0, 1]^2, x right, y down, before turning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """Turned rectangles in a photo.

    Attributes:
        centre: (B, 2) pixels.
        size: (B, 2) width and height in pixels, before turning.
        angle: (B,) radians, clockwise as seen in the photo.
    """

    centre: Float[Tensor, "B 2"]
    size: Float[Tensor, "B 2"]
    angle: Float[Tensor, " B"]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.angle)

    def __getitem__(self, chosen: Tensor | slice) -> "Boxes":
        """Some of them."""
        return Boxes(self.centre[chosen], self.size[chosen], self.angle[chosen])

    @classmethod
    def upright(cls, bounds: Float[Tensor, "B 4"]) -> "Boxes":
        """Boxes that are not turned, from left, top, right, bottom in pixels."""
        low, high = bounds[:, :2], bounds[:, 2:]
        return cls((low + high) / 2, high - low, torch.zeros(len(bounds), device=bounds.device))

    def turn(self) -> Float[Tensor, "B 2 2"]:
        """R_photo_box."""
        cos, sin = self.angle.cos(), self.angle.sin()
        return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)

    def to_photo(self, points: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N 2"]:
        """From the box frame to the photo's."""
        offsets = (points - 0.5) * self.size[:, None]
        return self.centre[:, None] + torch.einsum("bij,bnj->bni", self.turn(), offsets)

    def to_box(self, points: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N 2"]:
        """From the photo's frame to the box's."""
        offsets = torch.einsum("bji,bnj->bni", self.turn(), points - self.centre[:, None])
        return offsets / self.size[:, None] + 0.5


def joined_boxes(parts: Sequence[Boxes]) -> Boxes:
    """All boxes of several batches."""
    return Boxes(*(torch.cat([getattr(part, name) for part in parts]) for name in ("centre", "size", "angle")))


class Pyramid:
    """A photo at full, half, quarter ... size, so that crops of any scale are cut out without aliasing.

    Attributes:
        size: (width, height) of the photo in pixels.
    """

    def __init__(self, rgb: NDArray[np.uint8], device: str | torch.device = "cpu") -> None:
        """Take a photo (H, W, 3); smaller levels are made when they are first asked for."""
        self.size = (rgb.shape[1], rgb.shape[0])
        self._device = torch.device(device)
        self._levels: dict[int, NDArray[np.uint8]] = {1: rgb}

    def level(self, factor: int) -> NDArray[np.uint8]:
        """The photo reduced by a power of two; pixels at the rim that fill no block are averaged as they are."""
        if factor not in self._levels:
            from PIL import Image

            self._levels[factor] = np.array(Image.fromarray(self._levels[1]).reduce(factor))
        return self._levels[factor]

    def pixels(self, rect: tuple[int, int, int, int], factor: int = 1) -> Float[Tensor, "1 3 h w"]:
        """Whole pixels (left, top, right, bottom) of a level, colours 0 to 1."""
        left, top, right, bottom = rect
        part = np.ascontiguousarray(self.level(factor)[top:bottom, left:right])
        return torch.from_numpy(part).to(self._device).permute(2, 0, 1)[None].float() / 255

    def colours(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Float[Tensor, "N 3"]:
        """Colours 0 to 1 of single pixels of the photo."""
        return torch.from_numpy(self._levels[1][rows, columns]).to(self._device).float() / 255

    def crop(self, boxes: Boxes, size: Sequence[int], border: str = "zeros") -> Float[Tensor, "B 3 h w"]:
        """Cut out boxes.

        Args:
            boxes: Where; they may reach beyond the photo.
            size: (height, width) of the crops in pixels.
            border: What lies outside of the photo: "zeros" (black) or "border" (its rim goes on).

        Returns:
            Colours 0 to 1.
        """
        crops = [self._crop(boxes[i : i + 1], size, border) for i in range(len(boxes))]
        return torch.cat(crops) if crops else torch.zeros(0, 3, *size, device=self._device)

    def _crop(self, box: Boxes, size: Sequence[int], border: str) -> Float[Tensor, "1 3 h w"]:
        shrink = float((box.size[0] / torch.tensor([size[1], size[0]], device=box.size.device)).max())
        factor = 1
        while factor * 2 <= shrink:
            factor *= 2
        places = box.to_photo(pixel_centres(size, self._device).reshape(1, -1, 2)) / factor
        rect = self._touched(places, factor)
        source = self.pixels(rect, factor)
        corner = torch.tensor(rect[:2], device=self._device)
        extent = torch.tensor([source.shape[3], source.shape[2]], device=self._device)
        grid = ((places - corner) / extent * 2 - 1).reshape(1, *size, 2)
        return F.grid_sample(source, grid, "bilinear", border, align_corners=False)

    def _touched(self, places: Float[Tensor, "1 N 2"], factor: int) -> tuple[int, int, int, int]:
        """Pixels of a level that sampling at places looks at; at least one, where all places are outside."""
        height, width = self.level(factor).shape[:2]
        low = (places.amin((0, 1)) - 2).long().tolist()
        high = (places.amax((0, 1)) + 2).long().tolist()
        left, top = min(max(low[0], 0), width - 1), min(max(low[1], 0), height - 1)
        return left, top, max(left + 1, min(high[0], width)), max(top + 1, min(high[1], height))


def pixel_centres(size: Sequence[int], device: torch.device | str = "cpu") -> Float[Tensor, "h w 2"]:
    """Centres (x, y) of the pixels of a crop of (height, width), in the box frame."""
    y, x = ((torch.arange(n, device=device) + 0.5) / n for n in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def lay_back(
    crops: Float[Tensor, "B C h w"], boxes: Boxes, target: Boxes, size: Sequence[int]
) -> Float[Tensor, "B C H W"]:
    """Bring what a network said about each box into another box of the same photo; zero outside.

    Args:
        crops: One for each box.
        boxes: Where the crops were cut out.
        target: (1) Where they go, for example the upright box of the whole photo.
        size: (height, width) of the result in pixels.
    """
    places = target.to_photo(pixel_centres(size, crops.device).reshape(1, -1, 2))
    grid = boxes.to_box(places.expand(len(boxes), -1, -1)) * 2 - 1
    return F.grid_sample(crops, grid.reshape(len(boxes), *size, 2), "bilinear", "zeros", align_corners=False)
