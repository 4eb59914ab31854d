"""What photos of one person say together: of the height, and how sure they are of a pose that they share."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel
from lvdreg.pipeline.assess_photo import FittedPhoto, FoundInPhoto, height_of

FLATTEST = 0.1
"""Of the variance of a vertex at least so much lies across the line of sight."""


def agreed_height(body: BodyModel, fitted: Sequence[FittedPhoto]) -> float:
    """Return the height of one person, metres, that photos guess: each knows little, so their geometric mean."""
    return float(np.exp(np.mean([np.log(height_of(body, each.sized.fit)) for each in fitted])))


def sharing(found: Sequence[FoundInPhoto]) -> tuple[list[list[int]], list[list[int]]]:
    """Return for each photo which others have the very same shape, and which the very same pose."""
    params = [each.refined.params for each in found]

    def alike(i: int, parts: Sequence[torch.Tensor]) -> list[int]:
        return [j for j, part in enumerate(parts) if j != i and torch.equal(part, parts[i])]

    betas, poses = [one.betas for one in params], [torch.cat([one.betas, one.pose[1:].reshape(-1)]) for one in params]
    return [alike(i, betas) for i in range(len(found))], [alike(i, poses) for i in range(len(found))]


def with_fused_sigma(found: Sequence[FoundInPhoto], poses: Sequence[Sequence[int]]) -> list[FoundInPhoto]:
    """Return photos with the sigma of all that share a pose, each along its own axes.

    Across the line of sight a photo is surer than along it; turned into the frame of the body's root, what one photo
    does not know another may. How far photos err alike is not known (they have network and clothes in common), so they
    are fused as if they might do so in any way: the inverse covariances are averaged, by the inverse of each one's
    trace, and a photo that is given twice adds nothing (covariance intersection: Julier and Uhlmann, ACC 1997; weights:
    Niehsen, FUSION 2002). What is assumed is that each photo's own sigma is right, and the pose the same.

    Args:
        found: Photos of one person.
        poses: For each the others that have the very same pose, see ``sharing``.
    """
    Rs_world_root = [Rotation.from_rotvec(each.refined.params.pose[0].double().numpy()).as_matrix() for each in found]
    covariances = np.stack([_covariance(each, R) for each, R in zip(found, Rs_world_root, strict=True)])
    fused = []
    for i, (each, R, others) in enumerate(zip(found, Rs_world_root, poses, strict=True)):
        own = covariances[[i, *others]]
        share = 1 / np.trace(own, axis1=2, axis2=3)
        covariance = np.linalg.inv(((share / share.sum(0))[..., None, None] * np.linalg.inv(own)).sum(0))
        whole, depth = np.trace(covariance, axis1=1, axis2=2), np.einsum("a,vab,b->v", R[2], covariance, R[2])
        fused.append(replace(each, sigma=np.sqrt(whole), sigma_depth=np.sqrt(depth)) if others else each)
    return fused


def _covariance(found: FoundInPhoto, R_world_root: FloatArray) -> FloatArray:
    """Return the covariance (V, 3, 3) of each vertex as one photo knows it, in the frame of the body's root, m2."""
    depth = found.sigma_depth**2
    across = np.maximum(found.sigma**2 - depth, FLATTEST * found.sigma**2) / 2
    axes = np.stack([across, across, depth], 1)
    return np.asarray(np.einsum("ca,vc,cb->vab", R_world_root, axes, R_world_root))
