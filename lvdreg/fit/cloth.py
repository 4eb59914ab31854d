"""What clothes hide of a body in a photo: edges of hems are no edges of legs."""

import numpy as np
from scipy.spatial import cKDTree

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.fit.kinematics import Kinematics
from lvdreg.geometry.mesh import volume_slopes
from lvdreg.geometry.outline import BodyOutline, MaskOutline


def tightness(outline: BodyOutline, parts: IntArray, mask: MaskOutline, loose: tuple[float, float]) -> FloatArray:
    """Return how much the mask's edges say of each part of a body inside of them (parts,), 0 to 1, where clothes fit.

    Under a skirt, legs have edges where the mask has none, and those of the mask are far.

    Args:
        outline: Of the body, metres.
        parts: (V,) which part each vertex of the body belongs to.
        mask: Its outline, metres.
        loose: How far inside a part lies, on average along its outline, where edges begin to say less, and where they
            say nothing.
    """
    apart, nearest = cKDTree(mask.points).query(outline.points)
    inside = ((mask.points[nearest] - outline.points) * mask.normals[nearest]).sum(1) > 0
    part, count = parts[outline.edges[:, 0]], int(parts.max()) + 1
    total = np.bincount(part, outline.lengths, count)
    depth = np.bincount(part, outline.lengths * np.where(inside, apart, 0.0), count) / np.maximum(total, 1e-12)
    return np.clip((loose[1] - depth) / (loose[1] - loose[0]), 0.0, 1.0)


def rest_log_volume(kernel: Kinematics, faces: IntArray, betas: FloatArray) -> tuple[float, FloatArray]:
    """Return the logarithm of a body's volume at rest, m3, and its change with the betas (K,)."""
    rest = kernel.template + kernel.shapedirs @ betas
    slopes = volume_slopes(rest, faces)
    volume = float((slopes * rest).sum() / 3)
    return float(np.log(volume)), np.einsum("vd,vdk->k", slopes, kernel.shapedirs) / volume
