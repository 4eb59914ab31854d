"""A photo of a synthetic person whose body is known, and a network that knows it, to test what lies around it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from fake_network import Known, Seen
from numpy.typing import NDArray
from torch import Tensor, nn

from lvdreg.body.landmarks import landmarks_of
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.uncertainty import Calibration
from lvdreg.descent.weights import TrainedNet
from lvdreg.fit.kinematics import State
from lvdreg.fit.landmarks import kinematics_of
from lvdreg.geometry.raster import rasterise
from lvdreg.image.camera import Camera, Lens
from lvdreg.image.crop import Crop
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.network import ImageNet, ImageNetConfig
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.photo.shown import Shown


@dataclass(frozen=True)
class Scene:
    """A person (world, metres) as a camera sees them in a photo."""

    params: BodyParams
    vertices: NDArray[np.float64]
    joints: NDArray[np.float64]
    camera: Camera
    rgb: NDArray[np.uint8]
    shown: Shown

    def unit_vertices(self, crop: Crop) -> Tensor:
        """What a network should say: vertices in the unit frame of a crop where they are seen, the pelvis at z = 0."""
        pelvis = self.joints[0]
        flat = crop.to_unit(self.camera.project(self.vertices))
        depth = (self.vertices[:, 2] - pelvis[2]) * self.camera.moved(pelvis).scale * 2 / crop.side
        return torch.from_numpy(np.concatenate([flat, depth[:, None]], 1)).float()


def standing(body: BodyModel, seed: int = 0, bend: float = 0.1, yaw: float = 0.4) -> BodyParams:
    """Somebody standing about, turned a little."""
    generator = torch.Generator().manual_seed(seed)
    zero = BodyParams.zeros(body)
    pose = bend * torch.randn(zero.pose.shape, generator=generator)
    pose[0] = torch.tensor([0.0, yaw, 0.0])
    return replace(zero, pose=pose, betas=0.7 * torch.randn(zero.betas.shape, generator=generator))


def scene(
    body: BodyModel,
    params: BodyParams,
    size: tuple[int, int] = (480, 640),
    scale: float = 230.0,
    drop: float = 0.0,
    distance: float = np.inf,
) -> Scene:
    """Take a photo, width and height ``size``: a shaded silhouette on grey; ``drop`` metres lower than the middle.

    The camera stands at a distance from the world's origin, metres, and its axis meets the middle of the photo.
    """
    posed = body(params)
    vertices, joints = (x.double().numpy() for x in (posed.vertices, posed.joints))
    middle = (vertices.min(0) + vertices.max(0)) / 2
    centre = np.array(size) / 2 - scale * np.array([1.0, -1.0]) * (middle[:2] + [0, drop])
    camera = Camera(scale, centre, Lens(scale * distance, np.array(size) / 2))
    pixels = np.concatenate([camera.project(vertices), -scale * camera.seen(vertices)[:, 2:]], 1)
    seen = rasterise(pixels, np.asarray(body.data.faces, np.int64), size[1], size[0])
    rgb = np.full((size[1], size[0], 3), 120, np.uint8)
    rgb[seen.mask] = (200, 150, 120)
    landmarks, rows = landmarks_of(body.data, KEYPOINTS)
    at = camera.project(kinematics_of(body.data, landmarks).pose(State.from_params(params)).vertices)
    keypoints = np.zeros((len(KEYPOINTS), 3), np.float32)
    inside = ((at >= 0) & (at < size)).all(1)
    keypoints[rows] = np.concatenate([at, np.where(inside, 0.95, 0.05)[:, None]], 1)
    return Scene(params, vertices, joints, camera, rgb, Shown(seen.mask.astype(np.float32), keypoints))


class Sure(Known):
    """Knows the answer, and is equally sure of every vertex."""

    def __init__(self, vertices_unit: Tensor, sigma_unit: float) -> None:
        super().__init__(vertices_unit)
        self.sigma = sigma_unit

    def with_log_sigma(self, features: Tensor, points: Tensor, vertices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = self(features, points, vertices)
        return steps, steps.new_tensor([self.sigma, self.sigma / 2]).log().expand(*steps.shape[:-1], 2)


class KnownImageNet(ImageNet):
    """Its field alone decides; made for crops of a size, ``seen`` gathers the masks it is shown."""

    def __init__(self, field: Known, size: int = 256, seen: list[Tensor] | None = None) -> None:
        nn.Module.__init__(self)
        self.config = ImageNetConfig(image=ImageConfig(size=size, keypoints=("left_knee", "right_index1")))
        self.field, self.seen = field, [] if seen is None else seen

    def features(self, image: Tensor, mask: Tensor, keypoints: Tensor | None = None) -> Any:
        self.seen.append(mask)
        return Seen(mask)


class Believed(Calibration):
    """Takes what the network says for what is meant."""

    def __call__(self, spread: Tensor) -> Tensor:
        return spread


def known_image_weights(
    vertices_unit: Tensor, sigma_unit: float = 0.04, size: int = 256, seen: list[Tensor] | None = None
) -> TrainedNet[ImageNet]:
    """What stands for the trained image network; see ``KnownImageNet``."""
    believed, net = (
        Believed(np.ones(1), np.ones(1)),
        KnownImageNet(Sure(vertices_unit, sigma_unit), size, seen),
    )
    return TrainedNet(net, (believed, believed), {}, {"weights/known": "abc"})
