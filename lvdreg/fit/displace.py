"""Displacements of every vertex (+D): the body's surface carried onto the scan, smooth where the scan says nothing.

Displacements live in the rest frame, before skinning, as in SMPL+D (Alldieck et al. 2018). Each round pairs surface and
scan and solves one sparse linear system: point-to-plane distances against bending, the bi-Laplacian energy ``length^4 *
int |lap d|^2`` (Botsch and Sorkine 2008, thin-plate term). ``length`` is metres: detail shorter than it is smoothed
away. It shrinks from round to round, and ends the longer, the noisier the scan is. Holes and unseen parts carry no
data, so they continue smoothly.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64
from scipy.sparse.linalg import LinearOperator, SuperLU, cg, splu

from lvdreg.base.lengths import length_field
from lvdreg.base.shapes import FloatArray, IntArray, Vertices
from lvdreg.base.threads import side_by_side
from lvdreg.body.model import BodyModel
from lvdreg.fit.correspond import Pairs, PosedSurface, ScanIndex, Target, rim_of, scan_distances, scan_noise
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.fit.solver import geman_mcclure
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.mesh import cotangent_laplacian, face_normals, mesh_normals, unit_rows, vertex_areas


@dataclass(frozen=True)
class DisplaceConfig:
    """Per-vertex displacements; lengths in metres.

    Least smoothing and last kernel were chosen on one suit, which is also what LOG.md reports ("Smoothing length of
    displacements"); FAUST's scans, which had no say, lie 0.9 mm from what they give. The rest was chosen by hand.
    """

    rounds: int = 6
    """How often surface and scan are paired anew."""
    smoothing: tuple[float, float, float] = length_field((0.08, 0.008, 0.03))
    """Smoothing length: in the first round, and the least and the most in the last round."""
    kernel: tuple[float, float] = length_field((0.1, 0.02))
    """Scale of the robust kernel, first and last."""
    min_kernel: float = length_field(0.01)
    kernel_errors: float = 4.0
    """The kernel is no wider than so many times what the body misses the scan by (90 % of it), but at least this."""
    min_reach: float = length_field(0.03)
    normal_reach: float = length_field(0.04)
    """Length that turns normals into coordinates when pairs are sought."""
    min_cosine: float = 0.4
    num_points: int = 30_000
    noise_left: float = length_field(0.001)
    """Smoothing goes on until so much of the scan's noise is left, one-sigma, metres."""
    stretching: float = 0.02
    sliding: float = 0.1
    leaving: float = 1e-4
    """Weights of moving along the body's surface and of moving at all, where a valid pair has 1."""
    fold_stiffness: float = 10.0
    """Where faces have turned over, bending costs so many times more in the next round."""


MAX_ITERATIONS = 200
"""Conjugate gradients take 20 to 40; what takes more is factorised."""

__all__ = ["displace"]


def displace(body: BodyModel, fit: Fit, target: Target, config: DisplaceConfig) -> Fit:
    """Add displacements that carry a fitted body onto the scan.

    Args:
        body: The model of the fit.
        fit: The body under the clothes, world frame.
        target: The scan in the same frame.
        config: Settings.
    Returns:
        The same parameters with ``displacements`` (V, 3) in the rest frame; ``residual_mm`` is the mean distance from
        scan to the displaced surface. Not differentiable.
    Raises:
        RegistrationError: the target has hardly any points.
    """
    target.check()
    sheet = DisplacedSurface(body, State.from_params(fit.params))
    index = ScanIndex(target, config.normal_reach, config.num_points)
    missed = float(np.quantile(scan_distances(target, sheet.surface(np.zeros_like(sheet.base))), 0.9))
    widest = max(config.kernel_errors * missed, config.min_kernel)
    last_length = final_length(index, sheet, config)
    displacements = np.zeros_like(sheet.base)
    stiffness = np.ones(len(sheet.base))
    for length, kernel in rounds(config, last_length):
        displacements = _solve(sheet, index, displacements, stiffness, length, min(kernel, widest), config)
        stiffness = np.where(sheet.folded(displacements), stiffness * config.fold_stiffness, stiffness)
    surface = sheet.surface(displacements)
    params = replace(fit.params, displacements=torch.as_tensor(displacements).to(body.v_template))
    return replace(fit, params=params, residual_mm=1000 * float(scan_distances(target, surface).mean()))


class DisplacedSurface:
    """The posed body as a sheet that displacements move: ``x = base + turn d`` at each vertex."""

    def __init__(self, body: BodyModel, state: State) -> None:
        kernel = Kinematics(body.data)
        posed = kernel.pose(state)
        self.faces = np.asarray(body.data.faces, np.int64)
        self.rim = rim_of(self.faces, body.num_vertices)
        self.base, self.turns = posed.vertices, posed.turns
        self.areas = np.maximum(vertex_areas(posed.rest, self.faces), 1e-9)
        laplacian = cotangent_laplacian(posed.rest, self.faces)
        self.scaled = sp.csr_matrix(sp.diags(1 / np.sqrt(self.areas)) @ laplacian)
        self.membrane = laplacian
        # Projectors onto the tangent planes of the body, turned to the rest frame.
        normals = np.einsum("vji,vj->vi", self.turns, mesh_normals(self.base, self.faces))
        self.tangents = np.eye(3) - normals[:, :, None] * normals[:, None, :]

    def moved(self, displacements: Float64[np.ndarray, "V 3"]) -> Vertices:
        """Return the displaced vertices (V, 3) in the world."""
        return self.base + np.einsum("vij,vj->vi", self.turns, displacements)

    def surface(self, displacements: Float64[np.ndarray, "V 3"]) -> PosedSurface:
        """Return the displaced surface in the world."""
        return PosedSurface(self.moved(displacements), self.faces, self.rim)

    def folded(self, displacements: Float64[np.ndarray, "V 3"]) -> Bool[np.ndarray, " V"]:
        """Mark the vertices (V,) of faces that displacements have turned over."""
        before, after = (unit_rows(face_normals(x, self.faces)) for x in (self.base, self.moved(displacements)))
        turned = np.einsum("fi,fi->f", before, after) < 0
        mask = np.zeros(len(self.base), bool)
        mask[self.faces[turned].ravel()] = True
        return mask

    def stiffness_matrix(self, stiffness: FloatArray, length: float, config: DisplaceConfig) -> sp.csr_matrix:
        """Return the energy matrix (3 V, 3 V) of bending, of stretching, of sliding, and of leaving the body."""
        bending = self.scaled.T @ sp.diags(stiffness) @ self.scaled * length**4
        stretching = self.membrane * (config.stretching * length**2)
        plain = bending + stretching + sp.diags(config.leaving * self.areas)
        num = len(self.areas)
        blocks = self.tangents * (config.sliding * self.areas)[:, None, None]
        sliding = sp.bsr_matrix((blocks, np.arange(num), np.arange(num + 1)), shape=(3 * num, 3 * num))
        return sp.csr_matrix(sp.kron(plain, sp.identity(3), format="csr") + sliding)


def rounds(config: DisplaceConfig, last_length: float) -> list[tuple[float, float]]:
    """Return (length, kernel scale) of each round, both shrinking geometrically."""
    steps = np.linspace(0, 1, config.rounds)
    first_length, (first, last) = config.smoothing[0], config.kernel
    lengths = first_length * (last_length / first_length) ** steps
    kernels = first * (last / first) ** steps
    return [(float(a), float(b)) for a, b in zip(lengths, kernels, strict=True)]


def final_length(index: ScanIndex, sheet: DisplacedSurface, config: DisplaceConfig) -> float:
    """Return the smoothing length at which the scan's own noise averages out to ``config.noise_left``.

    A patch of length l holds ``density * l^2`` points, whose mean has noise ``noise / sqrt(density) / l``.
    """
    density = len(index.points) / sheet.areas.sum()
    length = scan_noise(index.points, index.normals) / (config.noise_left * np.sqrt(density))
    return float(np.clip(length, config.smoothing[1], config.smoothing[2]))


def _solve(
    sheet: DisplacedSurface,
    index: ScanIndex,
    displacements: FloatArray,
    stiffness: FloatArray,
    length: float,
    kernel: float,
    config: DisplaceConfig,
) -> FloatArray:
    """Pair once and solve for displacements (V, 3)."""
    surface = sheet.surface(displacements)
    about = {"reach": max(3 * kernel, config.min_reach), "min_cosine": config.min_cosine}

    def data_terms(pairs: Pairs, area: FloatArray) -> tuple[sp.csr_matrix, FloatArray]:
        weights = geman_mcclure((pairs.distances / kernel) ** 2)[1] * pairs.is_valid * area
        return _data_terms(sheet, pairs, weights, displacements)

    def of_scan() -> tuple[sp.csr_matrix, FloatArray]:
        count = len(index.points)
        pairs = index.pair_scan(surface, np.arange(count), exact=True, **about)
        return data_terms(pairs, np.full(count, sheet.areas.sum() / count))

    def of_body() -> tuple[sp.csr_matrix, FloatArray]:
        return data_terms(index.pair_body(surface, np.arange(len(sheet.base)), **about), sheet.areas)

    def of_sheet() -> tuple[sp.csr_matrix, FloatArray]:
        return sheet.stiffness_matrix(stiffness, length, config), np.zeros(3 * len(sheet.base))

    # Both directions weigh as areas: a vertex its own, a scan point its share of the body's.
    terms = side_by_side(lambda term: term(), [of_scan, of_body, of_sheet])
    matrix, right = (sum(parts[1:], parts[0]) for parts in zip(*terms, strict=True))
    return solve_by_axes(sp.csr_matrix(matrix), right, displacements)


def solve_by_axes(
    matrix: sp.csr_matrix, right: Float64[np.ndarray, " N"], start: Float64[np.ndarray, "V 3"], tolerance: float = 1e-5
) -> Float64[np.ndarray, "V 3"]:
    """Solve ``matrix x = right`` for vectors (V, 3) by conjugate gradients (Hestenes and Stiefel 1952).

    Neighbours bind the three axes of a vector alike, and only data tell them apart: so what the axes have in common, a
    ninth of the entries, is factorised to precondition the whole, which takes a quarter of the time that factorising
    the whole does.

    Args:
        matrix: (3 V, 3 V), symmetric and positive definite.
        right: (3 V,).
        start: (V, 3) about the solution.
        tolerance: Of the residual, as a share of ``right``. At 1e-5 displacements are 0.01 mm off at most.
    """
    common = sum(matrix[axis::3, axis::3] for axis in range(3)) / 3
    factor = _factorised(common)
    precondition = LinearOperator(matrix.shape, lambda x: factor.solve(x.reshape(-1, 3)).ravel())
    solution, unfinished = cg(matrix, right, start.ravel(), rtol=tolerance, maxiter=MAX_ITERATIONS, M=precondition)
    if unfinished:
        solution = _factorised(matrix).solve(right)
    return solution.reshape(-1, 3)


def _factorised(matrix: sp.csr_matrix) -> SuperLU:
    """Factorise a symmetric, positive definite matrix."""
    options = {"SymmetricMode": True}
    return splu(sp.csc_matrix(matrix), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)


def _data_terms(
    sheet: DisplacedSurface, pairs: Pairs, weights: FloatArray, displacements: FloatArray
) -> tuple[sp.csr_matrix, FloatArray]:
    """Return the normal matrix (3 V, 3 V) and right side (3 V,) of pairs, along the normals."""
    keep = weights > 1e-4 * weights.max(initial=1e-12)
    corners, bary, weights = pairs.corners[keep], pairs.bary[keep], weights[keep]
    rows = _rows(sheet, corners, bary, pairs.directions[keep])
    # Rows act on absolute displacements: height now = row . d_now, so the wanted value is row . d_now - height.
    wanted = rows @ displacements.reshape(-1) - pairs.heights[keep]
    matrix = rows.T @ rows.multiply(weights[:, None])
    right = rows.T @ (weights * wanted)
    return sp.csr_matrix(matrix), right


def _rows(sheet: DisplacedSurface, corners: IntArray, bary: FloatArray, directions: FloatArray) -> sp.csr_matrix:
    """Return the derivative (N, 3 V) of surface points along directions by the displacements."""
    values = np.einsum("nk,nkij,ni->nkj", bary, sheet.turns[corners], directions)
    columns = 3 * corners[:, :, None] + np.arange(3)
    starts = np.arange(0, 9 * len(corners) + 1, 9)
    return sp.csr_matrix((values.ravel(), columns.ravel(), starts), shape=(len(corners), 3 * len(sheet.base)))
