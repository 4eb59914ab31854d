"""Find what in a scan is not the body or hand: floors, walls and tables, stray clusters, flying points.

All lengths are relative to the scan's own extent: its unit is not known yet. "Samples" are points spread evenly over
the surface (a mesh) or through the cloud; decisions are made on them and then applied to all points or faces.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError, cKDTree

from lvdreg.base.shapes import Points
from lvdreg.geometry.graphs import pieces_of


@dataclass(frozen=True)
class CleanConfig:
    """Cleaning a scan. Shares of length are of the scan's extent: its unit is not known yet.

    Chosen by hand on composed scenes (tests/test_scan.py, tests/test_clean_hands.py); not tuned.
    """

    num_points: int = 30_000
    gap: float = 0.07
    """Pieces closer than this belong together, 12 cm of a person: partial scans come in many pieces."""
    limb_share: float = 0.02
    """Pieces with more than this share of the scan are taken back from farther away: half a forearm of a person."""
    limb_reach: float = 0.1
    """So much farther than the gap at most."""
    hem_share: float | None = 0.003
    """Pieces with more than this share of the scan are taken back from under the rest or inside of it: a foot under the
    hem of a wide skirt holds 0.5 to 2 %, and no path leads to it over the surface. None: never."""
    min_foot: float = 0.004
    """So thick they are at least, standard deviation over the scan's extent: a foot has three to six times as much,
    patches of a floor only their noise."""
    remove_planes: bool = True
    """Whether floors, walls and tables are looked for."""
    min_plane: float = 0.06
    """Planes are surroundings only if they hold at least this share of the scene."""
    min_left: float = 0.03
    """Planes are surroundings only if at least this share of the scene is left without them."""
    min_cover: float = 0.0
    """Planes are surroundings only if so much of what is left lies over them."""
    wall: float = 0.015
    """Surfaces no farther behind others than this may be second walls: 25 mm of a person."""
    bleeding_reach: float = 0.04
    """The side of a limb is no farther than this from what faces the camera: 7 cm of a person."""
    drop_mixed_pixels: bool = False
    """Whether points that float in all depths around and between thin parts, seen by one camera, are removed."""
    piece_share: float | None = None
    """Pieces apart are kept when they have more than this share of the largest, which may be a thing that lies beside
    a hand; None: only the largest is."""


PLANE_TOLERANCE = 0.006
"""Half thickness of a plane, of the scene's extent: 3 cm in a scene of 5 m, 1 cm for a person alone."""
SIMILAR = 0.4
"""A second piece with this share of the first is as likely to be what was meant."""
SIMILAR_REACH = 0.25
"""Such a piece belongs to the first only from nearer than this share of the extent, as where a watch hid the wrist."""

BLEEDING_COSINE = 0.35
"""Surfaces turned away from the ray by more than 70 degrees may be edge bleeding."""
MIXED_SPACING = 1.3
"""Scattered points are sparser than the surface by this factor, since they spread in depth too."""
MIXED_BULK = 0.42
"""Least ratio of the two smallest principal variances of scattered points; 0.7 of an isotropic cloud, 0 of a plane."""

_MAX_PLANES = 4
_NUM_HYPOTHESES = 300
_NUM_SCORED = 4_000


@dataclass(frozen=True)
class Plane:
    """Points with ``normal . p = offset``; the body or hand is on the positive side.

    Attributes:
        normal: (3,) unit.
        offset: In scan units.
        band: Half thickness of the layer to be removed, in scan units.
        share: Share of the samples in it.
    """

    normal: NDArray[np.float64]
    offset: float
    band: float
    share: float

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return signed distances, positive on the side of the body or hand, (P,)."""
        return points @ self.normal - self.offset

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which points are in the layer or behind it, (P,)."""
        return self.distance(points) <= self.band


def robust_extent(points: NDArray[np.float64]) -> float:
    """Return the largest side of the box that holds all but the outer 2 % of the points on each side."""
    low, high = np.percentile(points, [2, 98], axis=0)
    return float((high - low).max())


def find_planes(samples: Points, rng: np.random.Generator, config: CleanConfig) -> list[Plane]:
    """Find floors, walls and tables: planes at the border of the scene that reach well beyond what is left.

    A flat back or chest, soles, or the flat side of a robe are not found: their own outline encloses them. Hypotheses
    come from neighbouring points (local RANSAC, after Fischler and Bolles 1981), since a floor may hold few of all.

    Args:
        samples: (S, 3) even samples.
        rng: Source of the hypotheses.
        config: What counts as surroundings.

    Returns:
        Accepted planes, largest first.
    """
    extent = robust_extent(samples)
    candidates: list[Plane] = []
    left = np.ones(len(samples), bool)  # not in or behind a candidate
    pending = _large_planes(samples, extent, config.min_plane, rng)
    for _ in range(2):  # a floor that reaches behind a wall must go before the wall is seen to be at the border
        waiting = []
        for plane in (_facing(plane, samples[left]) for plane in pending):
            if (plane.distance(samples[left]) < -PLANE_TOLERANCE * extent).mean() > 0.06:
                waiting.append(plane)
                continue
            candidates.append(plane)
            left &= ~plane.holds(samples)
        pending = waiting
    return _accepted(candidates, samples, left, extent, config)


def _large_planes(
    samples: NDArray[np.float64], extent: float, min_share: float, rng: np.random.Generator
) -> list[Plane]:
    """Find planes that hold a good share of the samples, one after the other without those of the ones before."""
    planes: list[Plane] = []
    free = np.ones(len(samples), bool)
    least = max(100.0, min_share * len(samples))
    while len(planes) < _MAX_PLANES and free.sum() >= least:
        plane = _best_plane(samples[free], PLANE_TOLERANCE * extent, rng)
        if plane is None or plane.share * free.sum() < least:
            break
        planes.append(plane)
        free &= np.abs(plane.distance(samples)) > PLANE_TOLERANCE * extent
    return planes


def _facing(plane: Plane, points: NDArray[np.float64]) -> Plane:
    """Turn a plane so that most of the scene is on its positive side."""
    if plane.distance(points).mean() >= 0:
        return plane
    return replace(plane, normal=-plane.normal, offset=-plane.offset)


def _best_plane(points: NDArray[np.float64], tolerance: float, rng: np.random.Generator) -> Plane | None:
    scored = points[rng.choice(len(points), min(_NUM_SCORED, len(points)), replace=False)]
    normals, offsets = _hypotheses(scored, rng)
    if not len(normals):
        return None
    counts = (np.abs(scored @ normals.T - offsets) < tolerance).sum(axis=0)
    normal, offset = normals[counts.argmax()], float(offsets[counts.argmax()])
    for _ in range(4):
        inliers = points[np.abs(points @ normal - offset) < tolerance]
        if len(inliers) < 3:
            return None
        centre = inliers.mean(axis=0)
        normal = np.linalg.svd((inliers - centre).T @ (inliers - centre))[0][:, 2]
        offset = float(normal @ centre)
    residuals = np.abs(points @ normal - offset)
    is_inlier = residuals < tolerance
    # Three robust standard deviations, so that feet on the floor lose as little as the floor's noise allows.
    spread = 3 * 1.48 * float(np.median(residuals[is_inlier])) if is_inlier.any() else tolerance
    return Plane(normal, offset, max(min(spread, 1.5 * tolerance), 0.2 * tolerance), float(is_inlier.mean()))


def _hypotheses(
    points: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return unit normals (N, 3) and offsets (N,) of planes through a random point and two of its neighbours."""
    k = min(80, len(points))
    centres = rng.choice(len(points), min(_NUM_HYPOTHESES, len(points)), replace=False)
    neighbours = cKDTree(points).query(points[centres], k=k)[1]
    a = points[centres]
    # Only the farther half of the neighbours: a longer base makes a steadier normal.
    b, c = (points[neighbours[np.arange(len(centres)), rng.integers(k // 2, k, len(centres))]] for _ in range(2))
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1)
    usable = lengths > 0.1 * np.linalg.norm(b - a, axis=1) * np.linalg.norm(c - a, axis=1)
    usable &= lengths > 0
    normals = normals[usable] / lengths[usable, None]
    return normals, np.einsum("ij,ij->i", normals, a[usable])


def _accepted(
    candidates: list[Plane], samples: NDArray[np.float64], left: NDArray[np.bool_], extent: float, config: CleanConfig
) -> list[Plane]:
    if not candidates or left.sum() < config.min_left * len(samples):
        return []
    core = samples[left]
    core = core[main_cluster(core, np.ones(len(core)), config)[0]]
    core_extent = robust_extent(core)
    accepted = []
    for plane in candidates:
        inliers = samples[np.abs(plane.distance(samples)) <= PLANE_TOLERANCE * extent]
        height = np.percentile(plane.distance(core), 98)
        if height <= 0.1 * core_extent or _share_outside(plane, inliers, core) <= 0.35:
            continue
        if _share_outside(plane, core, inliers) <= 1 - config.min_cover:
            accepted.append(plane)
    return accepted


def _share_outside(plane: Plane, points: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the share of points outside the convex outline of others, seen along the normal of a plane."""
    axes = np.linalg.svd(plane.normal[None])[2][1:]
    try:
        hull = ConvexHull(others @ axes.T)
    except QhullError:
        return 0.0
    margin = 0.02 * robust_extent(others)
    distances = (points @ axes.T) @ hull.equations[:, :2].T + hull.equations[:, 2]
    return float((distances.max(axis=1) > margin).mean())


def main_cluster(
    points: Points,
    weights: Float64[np.ndarray, " P"],
    config: CleanConfig,
    edges: Int64[np.ndarray, "E 2"] | None = None,
) -> tuple[Bool[np.ndarray, " P"], list[float]]:
    """Find the heaviest cluster: single linkage over occupied voxels, refined while its extent shrinks.

    Args:
        points: (P, 3).
        weights: (P,) what each point counts, e.g. its share of the surface.
        config: Largest gaps within a cluster, as shares of the cluster's extent.
        edges: (E, 2) pairs of points that belong together at any distance, e.g. edges of a mesh.

    Returns:
        Which points belong to it (P,), and the shares of the clusters left out, largest first.
    """
    kept = np.arange(len(points))
    least = 0.0 if edges is not None else 2.5 * _spacing(points)
    for _ in range(4):
        extent = robust_extent(points[kept])
        if extent <= 0:
            break
        sub_edges = None if edges is None else _edges_within(edges, kept, len(points))
        labels = link(points[kept], max(config.gap * extent, least), sub_edges)
        main = np.bincount(labels, weights[kept]).argmax()
        if (labels == main).all():
            break
        kept = kept[labels == main]
        if robust_extent(points[kept]) > 0.8 * extent:
            break
    mask = np.zeros(len(points), bool)
    mask[kept] = True
    return _with_limbs(points, weights, edges, mask, config)


def main_clusters(
    points: Points,
    weights: Float64[np.ndarray, " P"],
    config: CleanConfig,
    edges: Int64[np.ndarray, "E 2"] | None = None,
) -> tuple[list[Bool[np.ndarray, " P"]], list[float]]:
    """Find the heaviest cluster and, where ``config.piece_share`` says so, others that weigh not much less.

    Arguments are those of ``main_cluster``.

    Returns:
        Which points belong to each (P,), the heaviest first, and the shares of the clusters left out, largest first.
    """
    keep, others = main_cluster(points, weights, config, edges)
    pieces, total = [keep], max(float(weights.sum()), 1e-300)
    while others and config.piece_share is not None:
        if others[0] * total <= config.piece_share * float(weights[pieces[0]].sum()):
            break
        rest = np.flatnonzero(~np.any(pieces, axis=0))
        inner = None if edges is None else _edges_within(edges, rest, len(points))
        keep, others = main_cluster(points[rest], weights[rest], config, inner)
        others = [float(share * weights[rest].sum() / total) for share in others]
        pieces.append(np.zeros(len(points), bool))
        pieces[-1][rest[keep]] = True
    return pieces, others


def _spacing(points: NDArray[np.float64]) -> float:
    """Return the typical distance to the sixth neighbour; zero for clouds too dense for it to matter."""
    if not 7 <= len(points) <= 5000:
        return 0.0
    return float(np.median(cKDTree(points).query(points, k=7)[0][:, 6]))


def _with_limbs(
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    edges: NDArray[np.int64] | None,
    mask: NDArray[np.bool_],
    config: CleanConfig,
) -> tuple[NDArray[np.bool_], list[float]]:
    """Take back larger pieces from somewhat farther away: where a scan is cut, a forearm holds 3 % of it, a leg 15 %.

    Returns:
        The points of the main cluster (P,), and the shares of all others, largest first.
    """
    rest = np.flatnonzero(~mask)
    if not len(rest):
        return mask, []
    extent = robust_extent(points[mask])
    sub_edges = None if edges is None else _edges_within(edges, rest, len(points))
    labels = link(points[rest], config.gap * extent, sub_edges)
    shares = np.bincount(labels, weights[rest]) / max(float(weights.sum()), 1e-300)
    similar = SIMILAR * float(weights[mask].sum() / max(float(weights.sum()), 1e-300))
    mask = mask.copy()
    is_limb = np.zeros(len(shares), bool)
    shadow = _Shadow(points[mask], config.gap * extent) if config.hem_share is not None else None
    for label in np.argsort(-shares)[: (shares > min(config.limb_share, config.hem_share or 1.0)).sum()]:
        piece = rest[labels == label]
        if shares[label] > config.limb_share:
            reach = config.gap + min(0.04 * shares[label] / config.limb_share, config.limb_reach)
            if shares[label] > similar:
                reach = min(reach, SIMILAR_REACH)
            is_limb[label] = _distance(points[piece], points[mask], 0.01 * extent) < reach * extent
        if shadow is not None and shares[label] < similar and _thickness(points[piece]) > config.min_foot * extent:
            is_limb[label] |= shadow.holds(points[piece])
        mask[piece] = is_limb[label]
    return mask, sorted(shares[~is_limb].tolist(), reverse=True)


def _thickness(points: NDArray[np.float64]) -> float:
    """Return the standard deviation of points (P, 3) across the plane that fits them best."""
    return float(np.linalg.svd(points - points.mean(0), compute_uv=False)[-1] / np.sqrt(len(points)))


class _Shadow:
    """What lies in a cluster or close under or over it, seen along its longest axis.

    Args:
        points: (P, 3) of the cluster.
        reach: How far beyond the cluster's ends it goes.
    """

    def __init__(self, points: NDArray[np.float64], reach: float) -> None:
        self.middle = points.mean(0)
        centred = points - self.middle
        self.axes = np.linalg.eigh(centred.T @ centred)[1]
        local = centred @ self.axes
        # Of the ends a few points in a thousand are noise.
        self.low, self.high = np.quantile(local[:, 2], [0.002, 0.998]) + [-reach, reach]
        try:
            self.sides = ConvexHull(local[:, :2]).equations
        except QhullError:
            self.sides = np.array([[0.0, 0.0, 1.0]])  # Nothing lies in the shadow of a line.

    def holds(self, piece: NDArray[np.float64]) -> bool:
        """Tell whether most points (P, 3) of a piece lie in it, and none far beyond the ends."""
        local = (piece - self.middle) @ self.axes
        inside = (local[:, :2] @ self.sides[:, :2].T + self.sides[:, 2] <= 0).all(1)
        beyond = np.maximum(self.low - local[:, 2].max(), local[:, 2].min() - self.high)
        return bool(inside.mean() > 0.8 and beyond <= 0)


def _distance(a: NDArray[np.float64], b: NDArray[np.float64], tolerance: float) -> float:
    """Return the distance between two sets of points, to within about twice the tolerance."""
    return float(cKDTree(voxel_of(b, tolerance)[1]).query(voxel_of(a, tolerance)[1])[0].min())


def _edges_within(edges: NDArray[np.int64], kept: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    index = np.full(count, -1)
    index[kept] = np.arange(len(kept))
    renamed = index[edges]
    return renamed[(renamed >= 0).all(axis=1)]


def link(points: Points, gap: float, edges: Int64[np.ndarray, "E 2"] | None = None) -> Int64[np.ndarray, " P"]:
    """Label points so that those nearer than about the gap share a label.

    Points are gathered in voxels of half the gap first, so the cost hardly depends on their number; the true limit
    therefore varies between 0.5 and 1.5 gaps.

    Returns:
        (P,) labels from 0.
    """
    voxel, centres = voxel_of(points, gap / 2)
    pairs = cKDTree(centres).query_pairs(gap, output_type="ndarray")
    if edges is not None:
        pairs = np.concatenate([pairs, voxel[edges]])
    return pieces_of(pairs, len(centres))[voxel]


def voxel_of(points: NDArray[np.float64], size: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each point's occupied voxel (P,), and the mean of the points in each voxel (N, 3)."""
    keys = voxel_keys(points, size)
    _, voxel, counts = np.unique(keys, return_inverse=True, return_counts=True)
    centres = np.stack([np.bincount(voxel, points[:, i]) for i in range(3)], axis=1) / counts[:, None]
    return voxel, centres


def voxel_keys(points: NDArray[np.float64], size: float) -> NDArray[np.int64]:
    """Return one integer per point, equal for points in the same voxel, (P,)."""
    low = points.min(axis=0)
    # 21 bits an axis; voxels finer than two millionths of the extent are not needed.
    size = max(size, float((points.max(axis=0) - low).max()) / (2**21 - 2), 1e-300)
    cells = np.minimum((points - low) / size, 2**21 - 1).astype(np.int64)
    return (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]


def bleeding_points(
    points: NDArray[np.float64], normals: NDArray[np.float64], camera: NDArray[np.float64], reach: float
) -> NDArray[np.bool_]:
    """Find the edge bleeding that depth cameras draw from a silhouette to the background, along their rays.

    Such points are seen at a grazing angle and, unlike the sides of a body, lie far from anything that is not.

    Args:
        points: (P, 3) seen by one camera.
        normals: (P, 3) unit, zero where unknown.
        camera: (3,) its position.
        reach: Sides of limbs end within this share of the extent from what faces the camera.

    Returns:
        (P,) True for a point of edge bleeding.
    """
    rays = points - camera
    cosines = np.abs(np.einsum("ij,ij->i", rays, normals)) / np.maximum(np.linalg.norm(rays, axis=1), 1e-300)
    facing = np.flatnonzero(cosines >= BLEEDING_COSINE)
    if len(facing) < 0.5 * len(points):
        return np.zeros(len(points), bool)
    extent = robust_extent(points[facing])
    # Crumbs among them that happen to face the camera hold nothing up.
    labels = link(points[facing], 0.02 * extent)
    solid = facing[(np.bincount(labels) >= 0.02 * len(facing))[labels]]
    if not len(solid):
        return np.zeros(len(points), bool)
    distances = cKDTree(points[solid]).query(points)[0]
    return (cosines < BLEEDING_COSINE) & (normals != 0).any(axis=1) & (distances > reach * extent)


def mixed_pixel_points(points: NDArray[np.float64], num_neighbours: int = 16) -> NDArray[np.bool_]:
    """Find points that a depth camera scatters in all depths around and between thin parts.

    Such points have neighbours in every direction and are sparser than the surface; both are averaged over the
    neighbourhood. Thin fingers of a coarse cloud are as round, but not sparse. Where a third of the cloud or more
    seems to be mixed pixels it is the surface itself that is uneven, and nothing is found.

    Args:
        points: (P, 3) seen by one camera.
        num_neighbours: Size of a neighbourhood.

    Returns:
        (P,) True for a scattered point.
    """
    distances, neighbours = cKDTree(points).query(points, k=min(num_neighbours + 1, len(points)))
    local = points[neighbours] - points[neighbours].mean(axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(np.einsum("pki,pkj->pij", local, local))
    bulk = variances[:, 0] / np.maximum(variances[:, 1], 1e-300)
    spacing = distances[:, 1:7].mean(axis=1)
    near = neighbours[:, :8]
    is_sparse = spacing[near].mean(axis=1) > MIXED_SPACING * float(np.median(spacing))
    mixed: NDArray[np.bool_] = is_sparse & (bulk[near].mean(axis=1) > max(MIXED_BULK, 1.2 * float(np.median(bulk))))
    return mixed if mixed.mean() < 1 / 3 else np.zeros(len(points), bool)


def flying_points(points: NDArray[np.float64], num_neighbours: int = 6) -> NDArray[np.bool_]:
    """Find points that hang in the air: much sparser than the cloud, or than their own neighbours.

    The mean distance to the nearest neighbours is held against the median of the cloud and against that of the
    neighbours, since scanners sample unevenly; at most 5 % of the points are taken.

    Returns:
        (P,) True for a flying point.
    """
    tree = cKDTree(points)
    order = np.asarray(tree.indices)  # neighbours in memory too, which halves the time of the queries
    distances, neighbours = tree.query(points[order], k=num_neighbours + 1)
    spacing, local = np.empty(len(points)), np.empty(len(points))
    spacing[order] = distances[:, 1:].mean(axis=1)
    local[order] = np.median(spacing[neighbours[:, 1:]], axis=1)
    typical = max(float(np.median(spacing)), 1e-150)
    local = np.maximum(local, 1e-6 * typical)
    excess = np.maximum(spacing / (6 * typical), np.where(spacing > 2 * typical, spacing / (2.5 * local), 0))
    limit = max(1.0, float(np.quantile(excess, 0.95)))
    return excess > limit
