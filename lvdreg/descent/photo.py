"""What the network says of a photo: every vertex descends from the middle of the crop.

It was trained on people whose trunk is upright, so who leans or lies is turned upright and looked at once more.

It believes what keypoints say of left and right, and turns the body's front to the camera or away from it accordingly.
Where that is in doubt it is asked without keypoints as well, and both ways.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.descent.boxes import Box
from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.descent.scan import Views
from lvdreg.geometry.frames import scale_of, transform_points
from lvdreg.geometry.outline import covered_cells
from lvdreg.image.crop import Crop, CutConfig, turned_crop
from lvdreg.image.network import ImageNet
from lvdreg.photo.keypoints import KEYPOINTS, MIRRORED

OTHER_NAMES = {"pinky1": "little", "index1": "index", "thumb2": "thumb"}
"""Joints that detectors of keypoints call otherwise."""
UNSEEN_SLOPE = 0.4
"""Growth of the sigma of what the photo cuts off, over the distance from where it ends: the spread of thighs of people
standing, walking and sitting about their mean, as the tangent of an angle."""
ALIKE = 12.0
"""Errors of what is cut off are alike: so many hundred vertices tell no more than one, and less than the population's
shape does; that is what their sigma is multiplied by when a body is fitted to them."""
SURE = 0.5
"""Visibility from which keypoints tell how a trunk leans."""
DOUBTED, BARE_WEIGHT = 0.8, 0.3
"""Keypoints' sides are doubted where looks agree less (``photo.sides``), and what the network says without keypoints
counts so much against that. Chosen on 239 synthetic photos, half of them with faces made unrecognisable; see LOG.md."""


@dataclass(frozen=True)
class Faced:
    """What the network says of a photo, once it is decided which side of the person is left.

    Attributes:
        views: The view whose vertices cover the mask best; its box says how it is turned: "scan" is the crop's frame.
        swapped: Whether left and right are not those of the keypoints that were found.
        sides: How much speaks for that decision: 1 everything, 0 as much for the other.
    """

    views: Views
    swapped: bool = False
    sides: float = 1.0


def descend_photo(
    net: ImageNet,
    rgb: NDArray[np.uint8],
    crop: Crop,
    keypoints: NDArray[np.floating] | None,
    faces: Int[Tensor, "F 3"],
    cut: CutConfig,
    descent: DescentConfig,
    sides: float = 1.0,
) -> Faced:
    """Encode a crop, and let all vertices descend; who leans or lies is looked at upright as well.

    Args:
        net: The network.
        rgb: (H, W, 3) sRGB, the photo.
        crop: The crop around the person.
        keypoints: (33, 3) column, row and visibility in the photo; None without a pose.
        faces: Of the network's body.
        cut: How crops are cut out.
        descent: Settings of the descent.
        sides: How sure it is which of the keypoints are left, -1 to 1: ``photo.sides.sides_agree``.
    """
    angle = leaning(keypoints)

    def look(at: NDArray[np.floating] | None) -> Views:
        return _upright(net, rgb, crop, at, angle, faces, cut, descent)

    views = look(keypoints)
    if keypoints is None or sides >= DOUBTED:
        return Faced(views)
    others = look(keypoints[MIRRORED])
    bare, named, other = (in_crop(each, each.vertices)[0] for each in (look(None), views, others))
    apart = [_apart(bare, each) for each in (named, other)]
    score = sides + BARE_WEIGHT * (apart[1] - apart[0]) / max(sum(apart), 1e-9)
    if score >= 0:
        return Faced(views, False, min(score, 1.0))
    return Faced(others, True, min(-score, 1.0))


def _apart(points: Float[Tensor, "V 3"], others: Float[Tensor, "V 3"]) -> float:
    """Return by which angle, radians, others are turned against points of the same body, wherever they are."""
    a, b = ((each - each.mean(0)).double() for each in (points, others))
    u, _, v = torch.linalg.svd(a.T @ b)
    sign = torch.ones(3, dtype=a.dtype, device=a.device)
    sign[2] = torch.linalg.det(u @ v)
    return float(torch.acos((((u * sign @ v).trace() - 1) / 2).clamp(-1, 1)))


def _upright(
    net: ImageNet,
    rgb: NDArray[np.uint8],
    crop: Crop,
    keypoints: NDArray[np.floating] | None,
    angle: float,
    faces: Int[Tensor, "F 3"],
    cut: CutConfig,
    descent: DescentConfig,
) -> Views:
    """Return what covers the mask better: the crop as it is or, of a person who leans by an angle, turned upright."""
    views = descend_crop(net, crop, keypoints, descent)
    if abs(angle) < np.radians(cut.min_lean):
        return views
    turned, T_turned_crop = turned_crop(rgb, crop, -angle, cut)
    at = None if keypoints is None else _turned_keypoints(keypoints, crop, turned, T_turned_crop)
    other = replace(descend_crop(net, turned, at, descent), box=Box("photo", T_turned_crop))
    return other if _overlap(other, turned, faces) > _overlap(views, crop, faces) else views


@torch.no_grad()
def descend_crop(net: ImageNet, crop: Crop, keypoints: Float[np.ndarray, "K 3"] | None, config: DescentConfig) -> Views:
    """Encode a crop as it is, and let all vertices descend.

    Args:
        net: The network.
        crop: The crop around the person.
        keypoints: (33, 3) column, row and visibility in the photo; None without a pose.
        config: Settings of the descent.

    Returns:
        The one view of the crop; its box is the crop's unit frame itself.
    """
    device = net.field.codes.device
    seen = seen_joints(crop, keypoints, net.config.image.keypoints)
    features = net.features(crop.image[None].to(device), crop.mask[None].to(device), seen.to(device)[None])
    result = descend(net.field, features, 1, config)
    return Views(
        box=Box("photo", np.eye(4)),
        confidence=1.0,
        Rs_view_unit=torch.eye(3, device=device)[None],
        features=features,
        vertices=result.vertices[0],
        step_lengths=result.step_lengths[:, 0],
        converged=result.converged[0],
        scores={},
    )


def _turned_keypoints(
    keypoints: NDArray[np.floating], crop: Crop, turned: Crop, T_turned_crop: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Return keypoints of the photo as those of the turned picture that the turned crop was cut out of."""
    flat = np.pad(crop.to_unit(keypoints[:, :2].astype(np.float64)), ((0, 0), (0, 1)))
    at = turned.to_photo(transform_points(T_turned_crop, flat))
    return np.concatenate([at, keypoints[:, 2:]], 1)


def leaning(keypoints: Float[np.ndarray, "K 3"] | None) -> float:
    """Return by how much the trunk leans to the left of the photo, radians, pi upside down; 0 where it is not seen."""
    if keypoints is None:
        return 0.0
    shoulders, hips = (
        np.array([keypoints[KEYPOINTS.index(f"{side}_{name}")] for side in ("left", "right")], np.float64)
        for name in ("shoulder", "hip")
    )
    if min(shoulders[:, 2].min(), hips[:, 2].min()) < SURE:
        return 0.0
    up = shoulders[:, :2].mean(0) - hips[:, :2].mean(0)
    return float(np.arctan2(-up[0], -up[1]))


def in_crop(views: Views, points: Float[Tensor, "V 3"], *lengths: Float[Tensor, " V"]) -> tuple[Tensor, ...]:
    """Bring points and lengths from the picture that was looked at to the unit frame of the crop."""
    T_crop_shown = torch.from_numpy(np.linalg.inv(views.T_unit_scan)).to(points)
    factor = 1 / scale_of(views.T_unit_scan)
    return transform_points(T_crop_shown, points), *(factor * length for length in lengths)


def widened(
    sigma: Float[Tensor, " V"], points: Float[Tensor, "V 3"], crop: Crop, slope: float = UNSEEN_SLOPE
) -> Float[Tensor, " V"]:
    """Return sigma for a photo that ends before the body does: the further beyond, the larger.

    The network has learned what bodies that it sees in part are like, but not how little that says of one of them: a
    leg that nobody sees may be bent, raised or long.

    Args:
        sigma: (V,) as the network has it, unit frame.
        points: (V, 3) unit frame of the crop.
        crop: Where the photo ends.
        slope: How fast it grows.
    """
    beyond = torch.from_numpy(crop.beyond(points.double().cpu().numpy())).to(sigma)
    return torch.where(beyond > 0, torch.hypot(sigma, slope * beyond), sigma)


def _overlap(views: Views, shown: Crop, faces: Int[Tensor, "F 3"]) -> float:
    """Return intersection over union of the vertices' surface and the mask."""
    mask = shown.mask[0].numpy() >= 0.5
    covered = covered_cells(views.vertices.double().cpu().numpy(), faces.cpu().numpy(), mask.shape[-1])
    return float((covered & mask).sum() / max((covered | mask).sum(), 1))


def seen_joints(
    crop: Crop, keypoints: Float[np.ndarray, "N 3"] | None, joints: tuple[str, ...]
) -> Float[Tensor, "K 3"]:
    """Return x, y of the unit frame and confidence of the joints that the network is told of; 0 where unknown."""
    out = np.zeros((len(joints), 3), np.float32)
    if keypoints is None:
        return torch.from_numpy(out)
    for row, joint in enumerate(joints):
        side, _, plain = joint.partition("_")
        name = f"{side}_{OTHER_NAMES.get(plain, plain)}"
        if name in KEYPOINTS:
            found = keypoints[KEYPOINTS.index(name)]
            out[row] = (*crop.to_unit(found[:2].astype(np.float64)), found[2])
    return torch.from_numpy(out)
