"""What regressors of parameters are taught, and how wrong they are (Kolotouros et al. 2019, Eqs. 1, 3 and 4)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.image.regressor import Regressed
from lvdreg.synth.photos import Photos

KEYPOINT_WEIGHT = 0.5
POSE_WEIGHT = 0.1
SHAPE_WEIGHT = 0.01
"""Weights of the errors of joints in the picture, of rotation matrices and of betas, where vertices' distances in the
unit frame have 1."""


@dataclass(frozen=True)
class Taught:
    """What regressors should say of photos, in the unit frames of the crops.

    Attributes:
        vertices: Of the bodies.
        joints: Where they are seen.
        params: Shape and pose; None: unknown.
        in_space: How much vertices, pose and shape of each count; None: fully.
        sure: How much each joint counts; None: fully.
    """

    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 2"]
    params: BodyParams | None = None
    in_space: Float[Tensor, " B"] | None = None
    sure: Float[Tensor, "B J"] | None = None

    @classmethod
    def truth(cls, photos: Photos) -> "Taught":
        """Return all that is known of photos."""
        return cls(photos.vertices, photos.joints[..., :2], photos.params)

    def repeated(self, times: int) -> "Taught":
        """Return the same for several estimates of each photo: those of ``Regressed.joined``."""
        params = self.params
        if params is not None:
            rows = (params.betas, params.pose, params.transl)
            params = BodyParams(*(x.repeat(times, *[1] * (x.ndim - 1)) for x in rows))
        vertices, joints = self.vertices.repeat(times, 1, 1), self.joints.repeat(times, 1, 1)
        in_space = None if self.in_space is None else self.in_space.repeat(times)
        return Taught(vertices, joints, params, in_space, None if self.sure is None else self.sure.repeat(times, 1))


def regression_loss(
    said: Regressed, taught: Taught, body: BodyModel, weights: Float[Tensor, " V"]
) -> Float[Tensor, ""]:
    """Return the mean error of vertices and joints, unit frame, and of pose and shape where they are known; weighted.

    Args:
        said: What a regressor says.
        taught: What it should say.
        body: The body of both.
        weights: How much each vertex counts; their sum is 1.
    """
    vertices, joints = said.placed(body)
    apart = (joints[..., :2] - taught.joints).norm(dim=-1)
    missed = apart.mean(1) if taught.sure is None else (taught.sure * apart).sum(1) / taught.sure.sum(1).clamp_min(1)
    in_space = (vertices - taught.vertices).norm(dim=-1) @ weights
    if taught.params is not None:
        turn = (said.rotations - rotvec_to_rotmat(taught.params.pose)).flatten(2).norm(dim=-1).mean(1)
        in_space = in_space + POSE_WEIGHT * turn + SHAPE_WEIGHT * (said.betas - taught.params.betas).abs().mean(1)
    counted = in_space if taught.in_space is None else taught.in_space * in_space
    return (counted + KEYPOINT_WEIGHT * missed).mean()
