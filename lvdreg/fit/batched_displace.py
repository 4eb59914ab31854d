"""Displacements onto many scans at once, in torch on any device: ``displace.displace`` in batch.

The rounds, pairs and equations are those of fit/displace.py, which stays the oracle. Its systems are solved by
conjugate gradients for all bodies at once (Hestenes and Stiefel 1952). Bending makes them stiff, so they are
preconditioned by the inverse of one matrix for all: what binds neighbours on an average body, and data everywhere;
dense, since a GPU multiplies by that at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lvdreg.body.model import BodyModel
from lvdreg.fit.batched_pairs import PairBatch, Samples, Surfaces, pair_bodies, pair_scans
from lvdreg.fit.batched_solver import robust
from lvdreg.fit.correspond import ScanIndex, Target
from lvdreg.fit.displace import DisplaceConfig, DisplacedSurface, final_length, rounds
from lvdreg.fit.kinematics import State
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.batched import closest_on_meshes, rows_of

TOLERANCE = 1e-5
"""Of the residual, as a share of the right side, as in ``displace.solve_by_axes``."""
MOST_ITERATIONS = 500
DATA = 2 / 3
"""How strongly data hold a vertex along each axis, by its area, where both directions pair it: a third of it each."""
SCORED_POINTS = 4000
"""At most so many points of a scan say how far the body lies from it."""


@dataclass(frozen=True)
class _Sheets:
    """Posed bodies as sheets that displacements move; see ``displace.DisplacedSurface``.

    Attributes:
        base, turns: (B, V, 3) and (B, V, 3, 3).
        areas: (B, V).
        tangents: (B, V, 3, 3).
        laplacian: Rows, columns and values of the cotangent Laplacians of all bodies, one after the other (B V, B V).
        faces: (F, 3).
    """

    base: Float[Tensor, "B V 3"]
    turns: Float[Tensor, "B V 3 3"]
    areas: Float[Tensor, "B V"]
    tangents: Float[Tensor, "B V 3 3"]
    laplacian: tuple[Int[Tensor, " E"], Int[Tensor, " E"], Float[Tensor, " E"]]
    faces: Int[Tensor, "F 3"]

    @classmethod
    def of_surfaces(cls, sheets: Sequence[DisplacedSurface], like: Tensor) -> "_Sheets":
        """Stack those of several bodies."""
        base, turns, areas, tangents = (
            torch.as_tensor(np.stack([getattr(sheet, name) for sheet in sheets])).to(like)
            for name in ("base", "turns", "areas", "tangents")
        )
        blocks = sp.coo_matrix(sp.block_diag([sheet.membrane for sheet in sheets]))
        rows, columns = (
            torch.as_tensor(index.astype(np.int64), device=like.device) for index in (blocks.row, blocks.col)
        )
        laplacian = rows, columns, torch.as_tensor(blocks.data).to(like)
        return cls(base, turns, areas, tangents, laplacian, torch.as_tensor(sheets[0].faces, device=like.device))

    def moved(self, displacements: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3"]:
        """Return the displaced vertices in the world."""
        return self.base + (self.turns @ displacements[..., None])[..., 0]

    def lap(self, values: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3"]:
        """Return the Laplacians of values of the vertices."""
        rows, columns, entries = self.laplacian
        flat = values.reshape(-1, 3)
        return torch.zeros_like(flat).index_add_(0, rows, entries[:, None] * flat[columns]).view_as(values)

    def folded(self, displacements: Float[Tensor, "B V 3"]) -> Tensor:
        """Mark the vertices (B, V) of faces that displacements have turned over."""
        before, after = (_face_normals(x, self.faces) for x in (self.base, self.moved(displacements)))
        turned = ((before * after).sum(-1) < 0).to(self.base)
        counts = torch.zeros_like(self.areas)
        for corner in self.faces.T:
            counts.index_add_(1, corner, turned)
        return counts > 0


def _face_normals(vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "B F 3"]:
    a, b, c = (vertices[:, corner] for corner in faces.T)
    return torch.linalg.cross(b - a, c - a)


@dataclass(frozen=True)
class _Data:
    """What pairs say of displacements: ``corners`` (B, N, 3), ``rows`` (B, N, 3, 3) and ``weights`` (B, N).

    A pair holds the sum over its corners of their displacements along their rows.
    """

    corners: Int[Tensor, "B N 3"]
    rows: Float[Tensor, "B N 3 3"]
    weights: Float[Tensor, "B N"]

    def of_displacements(self, values: Float[Tensor, "B V 3"]) -> Float[Tensor, "B N"]:
        """Return what displacements come to."""
        return (self.rows * rows_of(values, self.corners)).sum((-1, -2))

    def spread(self, values: Float[Tensor, "B N"], num: int) -> Float[Tensor, "B V 3"]:
        """Return the transpose of the same."""
        parts = (values[..., None, None] * self.rows).flatten(1, 2)
        out = torch.zeros(len(parts), num, 3, dtype=parts.dtype, device=parts.device)
        return out.scatter_add_(1, self.corners.flatten(1)[..., None].expand_as(parts), parts)


@torch.no_grad()
def displace_bodies(
    body: BodyModel, fits: Sequence[Fit], targets: Sequence[Target], config: DisplaceConfig
) -> list[Fit]:
    """Add displacements that carry fitted bodies onto their scans; see ``displace``.

    Args:
        body: The model of the fits, closed, on the device on which to compute.
        fits: The bodies under the clothes, world frame.
        targets: The scans in the same frame.
        config: Settings.

    Returns:
        What ``displace`` returns, on the CPU.

    Raises:
        RegistrationError: a target has hardly any points.
        ValueError: the body is open.
    """
    like = body.v_template.double()
    for target in targets:
        target.check()
    surfaces = [DisplacedSurface(body, State.from_params(fit.params)) for fit in fits]
    if surfaces[0].rim is not None:
        raise ValueError("expected a closed body")
    indices = [ScanIndex(target, config.normal_reach, config.num_points) for target in targets]
    sheets, samples = _Sheets.of_surfaces(surfaces, like), Samples.of_scans(indices, like)
    missed = [distances.quantile(0.9) for distances in _distances(sheets, sheets.base, targets)]
    widest = (config.kernel_errors * torch.stack(missed)).clamp_min(config.min_kernel)
    both = [rounds(config, final_length(index, own, config)) for index, own in zip(indices, surfaces, strict=True)]
    displacements, stiffness = torch.zeros_like(sheets.base), torch.ones_like(sheets.areas)
    for each in zip(*both, strict=True):
        lengths = torch.tensor([length for length, _ in each]).to(like)
        kernels = torch.minimum(torch.tensor([kernel for _, kernel in each]).to(like), widest)
        displacements = _solve(sheets, samples, displacements, stiffness, lengths, kernels, config, surfaces)
        stiffness = torch.where(sheets.folded(displacements), stiffness * config.fold_stiffness, stiffness)
    found = []
    left = _distances(sheets, sheets.moved(displacements), targets)
    for fit, own, distance in zip(fits, displacements.cpu(), left, strict=True):
        params = replace(fit.params, displacements=own.to(fit.params.betas))
        found.append(replace(fit, params=params, residual_mm=1000 * float(distance.mean())))
    return found


def _distances(sheets: _Sheets, vertices: Float[Tensor, "B V 3"], targets: Sequence[Target]) -> list[Tensor]:
    """Return the distances from points of each scan to its surface; see ``correspond.scan_distances``."""
    found = []
    for own, target in zip(vertices, targets, strict=True):
        points = target.points[:: max(1, len(target.points) // SCORED_POINTS)]
        queries = torch.as_tensor(points).to(vertices)[None]
        found.append(closest_on_meshes(queries, own[None], sheets.faces).distance[0])
    return found


def _solve(
    sheets: _Sheets,
    samples: Samples,
    displacements: Float[Tensor, "B V 3"],
    stiffness: Float[Tensor, "B V"],
    lengths: Float[Tensor, " B"],
    kernels: Float[Tensor, " B"],
    config: DisplaceConfig,
    surfaces: Sequence[DisplacedSurface],
) -> Float[Tensor, "B V 3"]:
    """Pair once and solve for displacements; see ``displace._solve``."""
    now = Surfaces.of_vertices(sheets.moved(displacements), sheets.faces)
    reach = (3 * kernels).clamp_min(config.min_reach)
    num = sheets.areas.shape[1]
    count = samples.there.sum(1, keepdim=True)
    share = sheets.areas.sum(1, keepdim=True) / count * samples.there
    on_scan = pair_scans(samples, now, reach, config.min_cosine, True)
    on_body = pair_bodies(samples, now, torch.arange(num, device=share.device), reach, config.min_cosine)
    terms = [_data(sheets, on_scan, share, kernels), _data(sheets, on_body, sheets.areas, kernels)]
    right = torch.zeros_like(displacements)
    for data, pairs in zip(terms, (on_scan, on_body), strict=True):
        wanted = data.of_displacements(displacements) - pairs.heights
        right = right + data.spread(data.weights * wanted, num)

    def energy(x: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3"]:
        """Return the product of the whole matrix and displacements."""
        bent = sheets.lap(x)
        length = lengths[:, None, None]
        out = sheets.lap(bent * (stiffness / sheets.areas)[..., None] * length**4)
        out = out + config.stretching * length**2 * bent + config.leaving * sheets.areas[..., None] * x
        out = out + config.sliding * sheets.areas[..., None] * (sheets.tangents @ x[..., None])[..., 0]
        for data in terms:
            out = out + data.spread(data.weights * data.of_displacements(x), num)
        return out

    inverse = _average_inverse(sheets, surfaces, float(lengths.log().mean().exp()), config)
    return conjugate_gradients(energy, right, displacements, lambda x: torch.einsum("vw,bwc->bvc", inverse, x))


def _data(sheets: _Sheets, pairs: PairBatch, area: Float[Tensor, "B N"], kernels: Float[Tensor, " B"]) -> _Data:
    """Return what pairs say, along the normals; see ``displace._data_terms``."""
    weights = robust((pairs.distances / kernels[:, None]) ** 2)[1] * pairs.is_valid * area
    weights = torch.where(weights > 1e-4 * weights.amax(1, keepdim=True).clamp_min(1e-12), weights, 0.0)
    turns = rows_of(sheets.turns, pairs.corners)
    rows = torch.einsum("bnk,bnkij,bni->bnkj", pairs.bary, turns, pairs.directions)
    return _Data(pairs.corners, rows, weights)


def _average_inverse(
    sheets: _Sheets, surfaces: Sequence[DisplacedSurface], length: float, config: DisplaceConfig
) -> Float[Tensor, "V V"]:
    """Return the inverse of what an average body's vertices have in common along each axis."""
    laplacian = sum((own.membrane for own in surfaces[1:]), surfaces[0].membrane) / len(surfaces)
    areas = sheets.areas.mean(0)
    dense = torch.as_tensor(laplacian.toarray()).to(areas)
    matrix = length**4 * (dense / areas) @ dense + config.stretching * length**2 * dense
    matrix.diagonal().add_((config.leaving + 2 / 3 * config.sliding + DATA) * areas)
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor],
    right: Float[Tensor, "B V 3"],
    start: Float[Tensor, "B V 3"],
    precondition: Callable[[Tensor], Tensor],
) -> Float[Tensor, "B V 3"]:
    """Solve ``matrix x = right`` for each of a batch, symmetric and positive definite.

    Args:
        matrix: Multiplies (B, V, 3) by the matrices.
        right: (B, V, 3).
        start: About the solution.
        precondition: Multiplies by something like their inverses.
    """
    x, residual = start, right - matrix(start)
    goal = TOLERANCE * right.flatten(1).norm(dim=1)
    direction = improved = precondition(residual)
    product = (residual * improved).sum((1, 2))
    for _ in range(MOST_ITERATIONS):
        if bool((residual.flatten(1).norm(dim=1) <= goal).all()):
            break
        turned = matrix(direction)
        # A body that is done has nothing left to divide by.
        step = product / (direction * turned).sum((1, 2)).clamp_min(1e-300)
        x, residual = x + step[:, None, None] * direction, residual - step[:, None, None] * turned
        improved = precondition(residual)
        before, product = product, (residual * improved).sum((1, 2))
        direction = improved + (product / before.clamp_min(1e-300))[:, None, None] * direction
    return x
