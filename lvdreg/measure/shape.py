"""The shape that is measured: the registered one, as far as the scan shows skin, and how sure each part of it is.

A registration keeps the body inside its scan, and ends a little inside where skin was scanned; loose clothes it follows
too far out. Both are put right here on the way to the measures, by one step of least squares with the shape prior
(betas are standard normal). Its normal equations are the posterior from which measures have their sigma.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lvdreg.base.shapes import FloatArray
from lvdreg.geometry.mesh import mesh_normals, vertex_areas
from lvdreg.measure.model import StandingModel

SAMPLES = 1000.0
"""As so many independent observations a surface counts against the prior."""
NOISE = 0.003
"""One sigma of a vertex across a scanned surface, metres: noise, and what a body of few parameters cannot take."""
SIGMA_SHARE = 0.1
"""Share of the network's sigma that is left after refinement."""
OUTLIER = 0.02
"""Metres off at which a vertex counts a quarter: hair, fingers."""
SKIN = 0.004
"""Metres: a surface nearer to a body under clothes is taken for its skin, one farther off for cloth."""
SKIN_GAP, USUAL, MOST = 1.0, 1.5, 12.0
"""Millimetres between body and final surface: below the first all is skin; up to the second real people differ from a
model; what is more says how loose clothes are, and beyond the third no more."""
INSET, LOOSE_SIGMA, ELSEWHERE = 1.5, 20.0, 0.6
"""By how many times their looseness clothes took the body too far out, one sigma of it, and the share of that sigma
where clothes do not cover the body, but hair and shoes may. Chosen on synthetic people of seed 1 (LOG.md)."""
CLOTHED = ("trunk", "thigh", "shin", "upper arm", "forearm")


@dataclass(frozen=True)
class Shape:
    """Shape parameters (K,) and their covariance (K, K)."""

    betas: Float64[np.ndarray, " K"]
    covariance: Float64[np.ndarray, "K K"]


def shape_under(
    model: StandingModel,
    betas: Float64[np.ndarray, " K"],
    displacements: Float64[np.ndarray, "V 3"] | None,
    sigma: Float64[np.ndarray, " V"],
    gap_mm: float,
    bare: bool,
) -> Shape:
    """Return the shape of the person under the surface that was registered.

    Args:
        model: The model.
        betas: Of the registered body.
        displacements: From it to the registered surface, at rest, metres; None: they are the same.
        sigma: One sigma of each of the network's vertices, metres.
        gap_mm: How much farther the scan lies from the body than from the final surface, on average.
        bare: Whether nothing loose is worn: then the whole surface is skin.
    """
    body = model.standing(betas)
    normals = mesh_normals(body, model.faces)
    moved = model.standing(betas, displacements) - body
    out = np.einsum("vi,vi->v", normals, moved)
    slopes = np.einsum("vi,vik->vk", normals, model.shapes)
    share = vertex_areas(body, model.faces)
    variance = NOISE**2 + (SIGMA_SHARE * sigma) ** 2
    if not (bare := bare or gap_mm < SKIN_GAP):
        loose, covered = 0.001 * float(np.clip(gap_mm - USUAL, 0, MOST)), _clothed(model)
        out = out * np.exp(-((out / SKIN) ** 2)) - INSET * loose * covered
        variance = variance + (LOOSE_SIGMA * loose * (ELSEWHERE + (1 - ELSEWHERE) * covered)) ** 2
    weights = SAMPLES * share / share.sum() / variance
    found = np.array(betas)
    # A robust kernel needs a few steps; without it the first is exact.
    for _ in range(8):
        left = out - slopes @ (found - betas)
        kernel = weights / (1 + (left / OUTLIER) ** 2) ** 2 if bare else weights
        hessian = (slopes * kernel[:, None]).T @ slopes + np.eye(len(found))
        found = found + np.linalg.solve(hessian, slopes.T @ (kernel * left) - found)
    return Shape(found, np.linalg.inv(hessian))


def _clothed(model: StandingModel) -> FloatArray:
    """Return 1.0 for vertices (V,) that clothes cover."""
    parts = [of for name, of in model.parts.items() if name.removeprefix("left ").removeprefix("right ") in CLOTHED]
    return np.any(parts, axis=0).astype(np.float64) if parts else np.zeros(len(model.mean))
