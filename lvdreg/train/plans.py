"""What is trained for which body: sizes of the network and settings of the loop, by the network's name."""

from dataclasses import replace

import numpy as np

from lvdreg.base.errors import UsageError
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyData, BodyModel
from lvdreg.field import FieldConfig
from lvdreg.geometry.mesh import farthest_points
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.network import ImageNetConfig
from lvdreg.image.pymaf import PyMAFConfig, PyMAFNetConfig
from lvdreg.image.regressor import RegressorConfig, RegressorNetConfig
from lvdreg.train.run import TrainConfig
from lvdreg.voxel.hand_detector import HandDetectorNetConfig
from lvdreg.voxel.network import VoxelConfig, VoxelNetConfig

PYMAF_POINTS = 431
"""As many as PyMAF's thinned SMPL has vertices."""


def voxel_plan(body: str) -> tuple[VoxelNetConfig, TrainConfig]:
    """Return how the voxel network of a body is trained: a hand has fewer vertices, and lies as the hand detector says.

    Raises:
        BodyError: there is no body of that name.
    """
    if not load_body(body).data.is_hand:
        return VoxelNetConfig(body), TrainConfig()
    sizes = VoxelConfig(num_points=6_000, channels=(24, 48, 96, 128, 160, 192))
    loop = TrainConfig(scan_points=7_000, points_per_scan=640, box_jitter=0.25, turn_jitter=0.2)
    return VoxelNetConfig(body, sizes, FieldConfig(hidden=384, rank=96)), loop


def hand_detector_plan(body: str) -> tuple[HandDetectorNetConfig, TrainConfig]:
    """Return how the hand detector of a hand is trained.

    Raises:
        BodyError: there is no body of that name.
        UsageError: the body is no hand.
    """
    if not load_body(body).data.is_hand:
        raise UsageError(f"--body: expected a hand, got {body}: bodies stand upright and need no hand detector")
    return HandDetectorNetConfig(body), replace(TrainConfig(), scan_points=6_000, batch=12, validation_scans=64)


def image_plan(body: str) -> tuple[ImageNetConfig, TrainConfig]:
    """Return how the image network of a body is trained.

    Raises:
        BodyError: there is no body of that name.
        UsageError: the body is a hand.
    """
    _person(body)
    return ImageNetConfig(body), TrainConfig(steps=8_000, cooldown=3_000, points_per_scan=1_024, ahead=True)


def next_image_plan(body: str) -> tuple[ImageNetConfig, TrainConfig]:
    """Return a larger image network than the shipped one, to be trained from scratch where a GPU is lent for hours.

    Nearly three times the weights: a third hourglass, wider below, and vertex codes of higher rank. Errors as of
    ``image_plan``.
    """
    _, loop = image_plan(body)
    image = ImageConfig(stacks=3, channels=(64, 112, 160, 224, 288))
    return ImageNetConfig(body, image, FieldConfig(hidden=640, rank=128, num_log_sigmas=2)), loop


def spin_plan(body: str) -> tuple[RegressorNetConfig, TrainConfig]:
    """Return how SPIN's regressor of a body is trained; errors as of ``image_plan``."""
    data = _person(body).data
    sizes = RegressorNetConfig(body, data.shapedirs.shape[-1], len(data.joint_names), RegressorConfig())
    return sizes, replace(image_plan(body)[1], learning_rate=3e-4)


def pymaf_plan(body: str) -> tuple[PyMAFNetConfig, TrainConfig]:
    """Return how PyMAF's regressors of a body are trained; errors as of ``image_plan``."""
    points = spread_points(_person(body).data)
    return PyMAFNetConfig(body, PyMAFConfig(points=points)), replace(image_plan(body)[1], learning_rate=3e-4)


def spread_points(data: BodyData, count: int = PYMAF_POINTS) -> tuple[int, ...]:
    """Choose vertices at whose projections PyMAF reads: each the farthest from those before it on the mean person.

    So they lie evenly over the skin, as cells of a map do over the picture, where the vertices themselves crowd on face
    and hands, and many would read the same cell.
    """
    return tuple(farthest_points(data.v_template.astype(np.float64), count).tolist())


def _person(body: str) -> BodyModel:
    """Load a body that photos are made of."""
    model = load_body(body)
    if model.data.is_hand:
        raise UsageError(f"--body: expected a body, got {body}: there are no photos of hands to train on")
    return model
