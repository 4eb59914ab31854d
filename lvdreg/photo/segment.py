"""The outline of one person: two networks that fail differently, merged, then sharpened with the photo as guide.

BlazePose's segmentation knows which person is meant and loses limbs in rare poses; the selfie segmentation finds all of
every person and sometimes something else. Its mistakes depend on the crop, so it sees each person at two scales and
mirrored, and those who are not upright also turned: then what agrees better with the pose is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lvdreg.photo.graph import person_graph, run_graph
from lvdreg.photo.keypoints import KEYPOINTS, DetectedLandmarks
from lvdreg.photo.warp import Boxes, Pyramid, lay_back, pixel_centres

SCALES = (1.2, 1.5)
"""Crops for the selfie segmentation, over the person's extent."""
SLIMMEST = 0.5
"""Least ratio of sides of such crops: they are stretched to a square, and people more slender are taken for poles."""
SURE_POSE, SURE_SELFIE = 4.0, 6.0
"""Log-odds beyond which an answer counts no more: a very sure selfie segmentation overrules a very sure pose."""
UNSEEN = -1.0
"""Log-odds of pixels outside of the square that the landmarks were found in."""
VISIBLE, SEEN = 0.3, 0.5
WORK_SIDE = 448
"""Longer side in pixels of the picture in which masks are merged and sharpened; finer edges come from the photo."""
GUIDE_RADIUS = 0.012
"""Reach of the guided filter over the work picture's longer side: a pixel of the networks is 0.006 of it."""
GUIDE_EPS = 1e-4
"""Variance of colour below which the photo shows no edge."""

CONTRAST = 1.5
"""Steepens what the guided filter leaves: faint halos vanish, and what was likely is solid."""

SURE_OF_HEAD = 0.8
HEAD, SHOULDERS = 0.55, 0.3
"""Radii, over the distance from face to shoulders, about the face and the line of the shoulders: there the selfie
segmentation, which misses hidden faces and dark suits, does not overrule a pose that is surer than ``SURE_OF_HEAD``."""

BAND = 2
"""Pixels of the work picture around its edges in which the photo's own pixels are looked at."""


@dataclass(frozen=True)
class Rect:
    """Whole pixels of a photo: columns left to right - 1, rows top to bottom - 1."""

    left: int
    top: int
    right: int
    bottom: int

    def box(self, device: torch.device | str = "cpu") -> Boxes:
        """The same as a box."""
        return Boxes.upright(torch.tensor([[self.left, self.top, self.right, self.bottom]], device=device).float())

    def work_size(self) -> tuple[int, int]:
        """(height, width) of the work picture; no finer than the photo."""
        height, width = self.bottom - self.top, self.right - self.left
        factor = min(1.0, WORK_SIDE / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))


def person_bounds(marks: DetectedLandmarks, size: tuple[int, int]) -> Float[Tensor, "B 4"]:
    """Left, top, right, bottom of each person's landmarks and segmentation together, within the photo (W, H)."""
    rows = []
    for i in range(len(marks.boxes)):
        seen = marks.points[i][marks.visibility[i] > VISIBLE]
        y, x = torch.where(marks.segmentation[i, 0] > 0.5)
        height, width = marks.segmentation.shape[2:]
        inside = torch.stack([(x + 0.5) / width, (y + 0.5) / height], -1)
        outline = marks.boxes[i : i + 1].to_photo(inside[None])[0]
        both = torch.cat([seen, outline])
        both = both if len(both) else marks.points[i]
        limit = torch.tensor(size, device=both.device)
        low, high = (torch.minimum(v.clamp(min=0), limit) for v in (both.amin(0), both.amax(0)))
        rows.append(torch.cat([low, torch.maximum(high, low + 1)]))
    return torch.stack(rows)


def crops_around(bounds: Float[Tensor, "4"], scale: float) -> Boxes:
    """An upright box around bounds, enlarged, not too slender."""
    box = Boxes.upright(bounds[None])
    sides = torch.maximum(box.size, SLIMMEST * box.size.amax(1, keepdim=True)) * scale
    return Boxes(box.centre, sides, box.angle)


def turned_upright(upright: list[Boxes], angle: Tensor) -> list[Boxes]:
    """The same boxes, turned by the right angle that is nearest to the person's, so that crops show him upright."""
    quarters = int((angle / (np.pi / 2)).round())
    sides = [box.size.flip(1) if quarters % 2 else box.size for box in upright]
    turn = torch.full_like(upright[0].angle, quarters * np.pi / 2)
    return [Boxes(box.centre, side, turn) for box, side in zip(upright, sides, strict=True)]


def selfie_mask(pyramid: Pyramid, boxes: Boxes, device: str = "cpu") -> Float[Tensor, "B 2 h w"]:
    """Segment people in boxes: as they are, and mirrored (turned back)."""
    graph = person_graph("mask", device)
    crops = pyramid.crop(boxes, graph.input_shape[1:], "border")
    both = run_graph(graph, torch.cat([crops, crops.flip(3)]), "person-mask")["mask"]
    plain, mirrored = both.chunk(2)
    return torch.cat([plain, mirrored.flip(3)], 1)


def log_odds(share: Tensor, most: float) -> Tensor:
    """Log-odds, no further from zero than `most`."""
    return torch.logit(share, 1e-6).clamp(-most, most)


def answers_in(
    target: Boxes, size: tuple[int, int], boxes: Boxes, answers: Float[Tensor, "B C h w"]
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B 1 H W"]]:
    """Answers for boxes laid into the target, and where in it they have a say: 1 inside of each box, 0 outside."""
    known = torch.cat([answers, torch.ones_like(answers[:, :1])], 1)
    laid = lay_back(known, boxes, target, size)
    seen = laid[:, -1:]
    return laid[:, :-1] / seen.clamp(min=1e-6), seen  # the rim of a crop fades out, its answer does not


def selfie_odds(
    pyramid: Pyramid, boxes: list[Boxes], target: Boxes, size: tuple[int, int], device: str
) -> Float[Tensor, "h w"]:
    """Log-odds of the selfie segmentation, averaged over the crops that show a pixel."""
    total, weight = torch.zeros(size, device=device), torch.full(size, 1e-6, device=device)
    for box in boxes:
        laid, seen = answers_in(target, size, box, selfie_mask(pyramid, box, device))
        total += log_odds(laid, SURE_SELFIE).mean((0, 1)) * seen[0, 0]
        weight += seen[0, 0]
    return total / weight


def agreement(first: Tensor, second: Tensor) -> float:
    """Intersection over union."""
    return float((first & second).sum() / (first | second).sum().clamp(min=1))


def segment(pyramid: Pyramid, marks: DetectedLandmarks, index: int, device: str = "cpu") -> NDArray[np.float32]:
    """Outline one of several people.

    Args:
        pyramid: The photo.
        marks: Of all people: what is another's is not this one's.
        index: Which one.
        device: Where the networks run.

    Returns:
        (H, W) 0 to 1, of the photo's size.
    """
    bounds = person_bounds(marks, pyramid.size)[index]
    upright = [crops_around(bounds, scale) for scale in SCALES]
    rect = rect_of(upright[-1], pyramid.size)
    size, target = rect.work_size(), rect.box(device)
    poses, seen = (x[:, 0] for x in answers_in(target, size, marks.boxes, marks.segmentation))
    own = log_odds(poses[index], SURE_POSE) * seen[index] + UNSEEN * (1 - seen[index])
    views = [upright]
    if float(marks.boxes.angle[index].abs()) > np.pi / 4:
        views.append(turned_upright(upright, marks.boxes.angle[index]))
    answers = [selfie_odds(pyramid, boxes, target, size, device) for boxes in views]
    odds = own + max(answers, key=lambda answer: agreement(answer > 0, poses[index] > 0.5))
    surely = (poses[index] > SURE_OF_HEAD) & head_and_shoulders(marks, index, target, size)
    odds = torch.where(surely, odds.clamp(min=SURE_POSE), odds)
    others = torch.cat([poses[:index], poses[index + 1 :], torch.zeros_like(poses[:1])]).amax(0)
    odds = torch.where((others > 0.5) & (others > poses[index]), -SURE_SELFIE, odds)
    return sharpen(pyramid, rect, connected(odds.sigmoid(), poses[index] > 0.5))


def head_and_shoulders(
    marks: DetectedLandmarks, index: int, target: Boxes, size: tuple[int, int]
) -> Bool[Tensor, "h w"]:
    """Which pixels of a target's picture lie about a face and between the shoulders, where all of these are seen."""
    rows = [KEYPOINTS.index(name) for name in ("nose", "left_ear", "right_ear", "left_shoulder", "right_shoulder")]
    if float(marks.visibility[index, rows].amin()) < SEEN:
        return torch.zeros(size, dtype=torch.bool, device=target.centre.device)
    points = marks.points[index, rows]
    face, left, right = points[:3].mean(0), points[3], points[4]
    reach = (face - (left + right) / 2).norm()
    places = target.to_photo(pixel_centres(size, points.device).reshape(1, -1, 2))[0]
    along = ((places - left) @ (right - left) / (right - left).square().sum().clamp(min=1e-6)).clamp(0, 1)
    from_line = (places - left - along[:, None] * (right - left)).norm(dim=-1)
    near = ((places - face).norm(dim=-1) < HEAD * reach) | (from_line < SHOULDERS * reach)
    return near.reshape(size)


def segment_all(pyramid: Pyramid, bounds: Float[Tensor, "4"] | None, device: str = "cpu") -> NDArray[np.float32]:
    """Outline all people without landmarks, in the whole photo or within bounds; (H, W) 0 to 1."""
    width, height = pyramid.size
    whole = Boxes.upright(torch.tensor([[0.0, 0.0, width, height]], device=device))
    boxes = [whole] if bounds is None else [crops_around(bounds, scale) for scale in SCALES]
    rect = rect_of(boxes[-1], pyramid.size)
    size, target = rect.work_size(), rect.box(device)
    return sharpen(pyramid, rect, selfie_odds(pyramid, boxes, target, size, device).sigmoid())


def rect_of(box: Boxes, size: tuple[int, int]) -> Rect:
    """The whole pixels of a photo of (W, H) that an upright box touches."""
    half = box.size[0] / 2
    left, top = (box.centre[0] - half).floor().long().tolist()
    right, bottom = (box.centre[0] + half).ceil().long().tolist()
    return Rect(max(0, left), max(0, top), min(size[0], right), min(size[1], bottom))


def connected(mask: Float[Tensor, "h w"], core: Tensor) -> Float[Tensor, "h w"]:
    """Drop the pieces of a mask that hold nothing of the core: other people, and what was taken for one.

    Faint pixels around a piece that stays are kept with it.
    """
    pieces, count = ndimage.label((mask > 0.1).cpu().numpy())
    if not count or not bool(core.any()):
        return mask
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(pieces[core.cpu().numpy()])] = True
    kept[0] = False
    return mask * torch.from_numpy(kept[pieces]).to(mask.device)


def sharpen(pyramid: Pyramid, rect: Rect, mask: Float[Tensor, "h w"]) -> NDArray[np.float32]:
    """Bring a mask of a part of the photo to the photo's own size and edges; zero elsewhere.

    A guided filter (He et al., 2013) writes the mask as a linear function of colour in each small window; the
    functions are found in the work picture and applied to the photo's own pixels.

    Returns:
        (H, W) 0 to 1.
    """
    guide = pyramid.crop(rect.box(mask.device), mask.shape)
    radius = max(1, round(GUIDE_RADIUS * max(mask.shape)))
    terms = torch.cat(guided_filter(guide, mask[None, None], radius, GUIDE_EPS), 1)
    coarse = steepen((terms[:, :3] * guide).sum(1, keepdim=True) + terms[:, 3:])
    fine = at_full_size(pyramid, rect, terms, coarse)
    full = np.zeros(pyramid.size[::-1], np.float32)
    full[rect.top : rect.bottom, rect.left : rect.right] = fine
    return full


def at_full_size(
    pyramid: Pyramid, rect: Rect, terms: Float[Tensor, "1 4 h w"], coarse: Float[Tensor, "1 1 h w"]
) -> NDArray[np.float32]:
    """Apply the functions of colour to the photo's pixels along edges; elsewhere the work picture tells all."""
    reach = 2 * BAND + 1
    high, low = (F.max_pool2d(sign * coarse, reach, 1, BAND) * sign for sign in (1, -1))
    kinds = torch.where(low >= 1, 1, torch.where(high <= 0, 0, 2)).to(torch.uint8)
    size = (rect.bottom - rect.top, rect.right - rect.left)
    fine = F.interpolate(kinds, size=size, mode="nearest-exact")[0, 0].cpu().numpy().astype(np.float32)
    rows, columns = np.nonzero(fine == 2)
    if len(rows):
        places = torch.from_numpy(np.stack([columns, rows], -1)).to(terms.device) + 0.5
        grid = places / torch.tensor([size[1], size[0]], device=terms.device) * 2 - 1
        found = F.grid_sample(terms, grid[None, None].float(), "bilinear", "border", align_corners=False)[0, :, 0]
        colours = pyramid.colours(rows + rect.top, columns + rect.left).T
        fine[rows, columns] = steepen((found[:3] * colours).sum(0) + found[3]).cpu().numpy()
    return fine


def steepen(mask: Tensor) -> Tensor:
    """Raise the contrast around one half, within 0 to 1."""
    return ((mask - 0.5) * CONTRAST + 0.5).clamp(0, 1)


def guided_filter(
    guide: Float[Tensor, "1 3 h w"], mask: Float[Tensor, "1 1 h w"], radius: int, eps: float
) -> tuple[Float[Tensor, "1 3 h w"], Float[Tensor, "1 1 h w"]]:
    """Write a mask as slopes · colour + offset in windows of 2 radius + 1 pixels; averaged over all windows of a pixel.

    Returns:
        Slopes and offset at each pixel.
    """
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    products = torch.cat([guide[:, i : i + 1] * guide[:, j : j + 1] for i, j in pairs], 1)
    means = window_mean(torch.cat([guide, mask, guide * mask, products], 1), radius)
    colour, share, with_mask, squares = means.split([3, 1, 3, 6], 1)
    covariance = with_mask - colour * share
    variances = [squares[:, n] - colour[:, i] * colour[:, j] + eps * (i == j) for n, (i, j) in enumerate(pairs)]
    slopes = solve_symmetric(variances, covariance)
    offset = share - (slopes * colour).sum(1, keepdim=True)
    averaged = window_mean(torch.cat([slopes, offset], 1), radius)
    return averaged[:, :3], averaged[:, 3:]


def window_mean(image: Float[Tensor, "1 C h w"], radius: int) -> Float[Tensor, "1 C h w"]:
    """Mean over square windows; at the rim, over the part that is inside."""
    size = 2 * radius + 1
    rows = F.avg_pool2d(image, (size, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, size), 1, (0, radius), count_include_pad=False)


def solve_symmetric(entries: Sequence[Tensor], right: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
    """Solve a symmetric 3 x 3 system at each pixel by cofactors; entries 00, 01, 02, 11, 12, 22."""
    a, b, c, d, e, f = entries
    cofactors = [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b]
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]
    k, x = cofactors, right
    solved = [
        k[0] * x[:, 0] + k[1] * x[:, 1] + k[2] * x[:, 2],
        k[1] * x[:, 0] + k[3] * x[:, 1] + k[4] * x[:, 2],
        k[2] * x[:, 0] + k[4] * x[:, 1] + k[5] * x[:, 2],
    ]
    return torch.stack(solved, 1) / determinant[:, None]
