"""Colours of a body's vertices where some were seen: the others are filled in."""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from scipy.sparse.linalg import splu
from torch import Tensor

from lvdreg.base.shapes import BoolArray, FloatArray
from lvdreg.body.model import BodyData
from lvdreg.geometry.mesh import cotangent_laplacian


def extended_colours(seen: FloatArray, is_seen: BoolArray, data: BodyData) -> Float[Tensor, "V 3"]:
    """Extend colours (V, 3) over a body from where they were seen (V,): from the other side, or from around."""
    sure = is_seen.astype(float)
    pull, target = sure.copy(), seen
    if data.mirror_vertices is not None:
        other = data.mirror_vertices
        target = np.where(is_seen[:, None], seen, seen[other])
        pull = sure + 0.01 * (1 - sure) * sure[other]
    laplacian = cotangent_laplacian(data.v_template.astype(float), data.faces)
    # Where a whole person is unseen the mean of all decides, ever so weakly.
    mean = np.average(seen, axis=0, weights=sure + 1e-9)
    matrix = laplacian * 0.02 + sp.diags(pull + 1e-9)
    solved = splu(sp.csc_matrix(matrix)).solve(pull[:, None] * target + 1e-9 * mean)
    return torch.from_numpy(np.clip(solved, 0, 1)).float()
