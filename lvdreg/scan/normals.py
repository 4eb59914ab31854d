"""Make surfaces face outward, and estimate normals of raw points."""

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from lvdreg.base.shapes import Faces, Points
from lvdreg.geometry.graphs import graph_of, pieces_of, shared_edges
from lvdreg.geometry.mesh import face_normals, unit_rows
from lvdreg.geometry.rays import sphere
from lvdreg.scan.segment import robust_extent, voxel_keys

_NUM_DIRECTIONS = 200
_MAX_REPRESENTATIVES = 40_000
_NUM_SIDES = 20
_MAX_VOTERS = 10_000
_MAX_CANDIDATES = 100_000
_NEIGHBOURS = 16
_NUM_PROBES = 9
_CREASE_COSINE = 0.95
"""Chosen on clouds of six figures of capsules, whose arms lie against the trunk; ten scans of FAUST stay alike."""
_SURE_VOTE = 0.3


def vertex_normals(points: Points, faces: Faces) -> Points:
    """Return area-weighted unit normals of the vertices, (P, 3); zero where no face with an area is.

    As ``geometry.mesh.mesh_normals`` to 1e-13. It stays for its order of summation: the last digits of the other one
    move three of four registrations by up to 5 mm (LOG.md).
    """
    scale = max(float(np.ptp(points, axis=0).max()), 1e-300)
    weighted = face_normals(points / scale, faces)
    columns = [sum(np.bincount(faces[:, k], weighted[:, i], minlength=len(points)) for k in range(3)) for i in range(3)]
    return unit_rows(np.stack(columns, axis=1))


def outwardness(points: Points, normals: Float64[np.ndarray, "P 3"]) -> float:
    """Vote on whether normals point outward: those at the extremes along many directions should go along them.

    It needs neither a closed surface nor an inside, so it holds for scans with holes and for one-sided ones.

    Args:
        points: (S, 3) even samples of the surface.
        normals: (S, 3) unit, or zero where unknown (no vote).

    Returns:
        Mean cosine between normals and directions, -1 to 1; positive for outward.
    """
    step = -(-len(points) // _MAX_VOTERS)
    points, normals = points[::step], normals[::step]
    directions = sphere(_NUM_DIRECTIONS)
    heights = points @ directions.T
    num_top = max(1, len(points) // 300)
    top = np.argpartition(-heights, num_top - 1, axis=0)[:num_top]
    cosines = np.einsum("tdi,di->td", normals[top], directions)
    return float(cosines.mean())


def consistent_winding(faces: Faces, areas: Float64[np.ndarray, " F"]) -> Bool[np.ndarray, " F"]:
    """Find faces to reverse so that neighbours agree; in each piece the winding of the larger area stands.

    Every face is a pair of nodes, as it is and reversed, and an edge shared by two faces links the nodes that agree.
    An orientable piece then falls into two components, one the mirror of the other. Edges of more than two faces are
    left out, and one-sided (Moebius) pieces are left as they are.

    Args:
        faces: (F, 3).
        areas: (F,).

    Returns:
        (F,) True for faces to reverse.
    """
    count = len(faces)
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    first, second = shared_edges(faces)
    disagree = (edges[first, 0] == edges[second, 0]).astype(np.int64)
    if disagree.sum() <= 0.001 * len(disagree):
        return np.zeros(count, bool)
    i, j = first // 3, second // 3
    rows = np.r_[i, i + count]
    columns = np.r_[j + disagree * count, j + (1 - disagree) * count]
    labels = pieces_of(np.stack([rows, columns], 1), 2 * count)
    area_as_is = np.bincount(labels[:count], areas, minlength=labels.max() + 1)
    flip: NDArray[np.bool_] = area_as_is[labels[:count]] < area_as_is[labels[count:]]
    return flip


def inside_out_pieces(points: Points, faces: Faces) -> tuple[Bool[np.ndarray, " F"], Bool[np.ndarray, " F"]]:
    """Find the closed pieces of a mesh, and those among them that enclose a negative volume.

    Cavities, closed pieces within other pieces, rightly do so and are not reported.

    Args:
        points: (P, 3).
        faces: (F, 3) with consistent winding.

    Returns:
        Whether each face is of a closed piece (F,), and whether it is to be reversed (F,).
    """
    piece = face_pieces(faces, len(points))
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    keys = edges.min(axis=1) * len(points) + edges.max(axis=1)
    _, index, counts = np.unique(keys, return_inverse=True, return_counts=True)
    is_open = np.bincount(np.repeat(piece, 3), counts[index] != 2) > 0
    corners = points[faces] - points.mean(axis=0)
    volumes = np.bincount(piece, np.linalg.det(corners))
    flip = np.zeros(len(faces), bool)
    candidates = np.flatnonzero(~is_open & (volumes < 0))
    large = np.bincount(piece, minlength=len(volumes))[candidates] >= 0.002 * len(faces)
    for label in candidates[large]:
        members = piece == label
        if not _is_enclosed(corners[members], corners[~members]):
            flip |= members
    return ~is_open[piece], flip


def _is_enclosed(inner: NDArray[np.float64], outer: NDArray[np.float64]) -> bool:
    """Tell whether a piece is inside the rest, by solid angles (van Oosterom and Strackee 1983).

    Nearly all of its area must be: limbs that are meshes of their own reach into trunks, too.
    """
    covered = np.cumsum(np.linalg.norm(np.cross(inner[:, 1] - inner[:, 0], inner[:, 2] - inner[:, 0]), axis=1))
    evenly = (np.arange(_NUM_PROBES) + 0.5) / _NUM_PROBES * covered[-1]
    probes = inner[np.searchsorted(covered, evenly).clip(max=len(inner) - 1)].mean(axis=1)
    windings = []
    for probe in probes:
        a, b, c = np.moveaxis(outer - probe, 1, 0)
        la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
        dots = [np.einsum("ij,ij->i", u, v) for u, v in ((a, b), (b, c), (c, a))]
        below = la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb
        above = np.einsum("ij,ij->i", a, np.cross(b, c))
        windings.append(np.arctan2(above, below).sum() / (2 * np.pi))
    return float((np.abs(windings) > 0.5).mean()) > 0.75


def face_pieces(faces: NDArray[np.int64], num_points: int) -> NDArray[np.int64]:
    """Label faces so that those that share a point, directly or through others, share a label, (F,)."""
    labels = pieces_of(faces[:, [0, 1, 1, 2]].reshape(-1, 2), num_points)[faces[:, 0]]
    return np.unique(labels, return_inverse=True)[1]


def estimate_normals(
    points: Points, camera: Float64[np.ndarray, " 3"] | None = None, is_certain: bool = False
) -> tuple[Points, bool]:
    """Estimate outward normals of raw points by local planes (Hoppe et al. 1992).

    The least principal axis of each neighbourhood is the normal; signs spread along a minimum spanning tree of the
    most parallel neighbours, and each piece is turned outward by the vote of its extremes. With a camera, normals
    face it instead, unless the extremes say that the cloud is seen from behind.

    Args:
        points: (P, 3) distinct points.
        camera: (3,) from where the cloud is a single layer (see `find_camera`), or None.
        is_certain: Whether all points were seen from there, whatever the extremes say.

    Returns:
        (P, 3) unit normals, zero where the neighbourhood is a line or a ball; and whether they face the camera.
    """
    reps = points[_representatives(points)]
    tree = cKDTree(reps)
    neighbours = tree.query(reps, k=min(_NEIGHBOURS, len(reps)))[1]
    normals = _principal_normals(reps, neighbours)
    unknown = np.flatnonzero(~normals.any(axis=1))
    if len(unknown) > 0.05 * len(reps):  # noise beyond the spacing of the points: look at larger surroundings
        normals[unknown] = _principal_normals(reps, tree.query(reps[unknown], k=min(4 * _NEIGHBOURS, len(reps)))[1])
    spread = _spread_signs(reps, normals, neighbours[:, 1:9])
    nearest = tree.query(points)[1]
    if camera is not None and is_certain:
        return _facing(reps, spread, camera, 0.0)[nearest], True
    for position, is_real in ((camera, True), (_one_side(reps, normals), False)):
        # A one-sided scan looks the same from behind; the vote of the extremes tells which side was seen.
        if position is not None:
            facing = _facing(reps, spread, position, 0.0 if is_real else 0.25)
            agreement = np.einsum("ij,ij->i", facing, spread)[(spread != 0).any(axis=1)]
            if len(agreement) and (agreement > 0).mean() > 0.7:
                return facing[nearest], is_real
    return spread[nearest], False


def _facing(
    points: NDArray[np.float64], normals: NDArray[np.float64], camera: NDArray[np.float64], margin: float
) -> NDArray[np.float64]:
    """Turn those normals to the camera that face away from it by more than the margin, a cosine."""
    away = np.einsum("ij,ij->i", normals, unit_rows(camera - points)) < -margin
    return np.where(away[:, None], -normals, normals)


def _one_side(points: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Find a point far away that most normals are parallel to and from which the cloud is a single layer; or None.

    It decides the signs of a one-sided scan whose camera is not known: signs spread from neighbour to neighbour go
    wrong where limbs leave the trunk, since half of each crease was not seen.
    """
    step = -(-len(points) // 5000)
    points, normals = points[::step], normals[::step]
    directions = sphere(_NUM_DIRECTIONS)
    along = normals @ directions.T
    # Both ways are tried: normals have no sign yet, and the caller compares with the vote of the extremes.
    best = directions[np.argsort(-np.abs(along).mean(axis=0))[:_NUM_SIDES]]
    centre, extent = np.median(points, axis=0), robust_extent(points)
    for direction in best:
        if _doubled_share(points, centre + 4 * extent * direction) < 0.05:
            return centre + 4 * extent * direction
    return None


def _representatives(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose points so that none is much closer to another than the cloud's mean spacing demands."""
    if len(points) <= _MAX_REPRESENTATIVES:
        return np.arange(len(points))
    return thinned(points, _MAX_REPRESENTATIVES // 2, np.random.default_rng(0))


def thinned(points: NDArray[np.float64], at_least: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return indices of one random point per voxel, of voxels just small enough to give the wanted number."""
    # Several candidates for each wanted point even out the density nearly as well as all points would.
    order = rng.permutation(len(points))[: max(8 * at_least, _MAX_CANDIDATES)]
    size = max(float(np.ptp(points, axis=0).max()), 1e-300) / 32
    for _ in range(12):
        chosen = np.unique(voxel_keys(points[order], size), return_index=True)[1]
        if len(chosen) >= min(at_least, len(order)):
            break
        # Voxels on a surface go with the inverse square of their size; overshoot by a little.
        size *= min(0.9, (len(chosen) / (1.1 * at_least)) ** 0.5)
    return order[chosen]


def _principal_normals(points: NDArray[np.float64], neighbours: NDArray[np.int64]) -> NDArray[np.float64]:
    local = points[neighbours]
    local = local - local.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("pki,pkj->pij", local, local))
    is_line = values[:, 1] < 0.02 * values[:, 2]
    is_ball = values[:, 0] > 0.6 * values[:, 1]
    return np.where((is_line | is_ball)[:, None], 0.0, vectors[:, :, 0])


def _spread_signs(
    points: NDArray[np.float64], normals: NDArray[np.float64], neighbours: NDArray[np.int64]
) -> NDArray[np.float64]:
    count = len(points)
    i, j = np.repeat(np.arange(count), neighbours.shape[1]), neighbours.ravel()
    cosines = np.abs(np.einsum("ij,ij->i", normals[i], normals[j]))
    # A weight of zero would mean no edge.
    # Before 1.13 scipy returns a matrix.
    tree = csr_array(minimum_spanning_tree(graph_of(i, j, count, 1.001 - cosines)))
    num_pieces, pieces = connected_components(tree, directed=False)
    sign = np.ones(count)
    for piece in range(num_pieces):
        members = np.flatnonzero(pieces == piece) if num_pieces < 200 else np.array([], np.int64)
        if len(members) > 1:
            _walk(tree, normals, int(members[0]), sign)
    normals = _turn_pieces(points, normals * sign[:, None], pieces, num_pieces)
    # Signs are not to be trusted across creases: what hangs on creases alone, as an arm beside a trunk, votes itself.
    smooth = tree.copy()
    smooth.data[smooth.data > 1.001 - _CREASE_COSINE] = 0
    smooth.eliminate_zeros()
    num_parts, parts = connected_components(smooth, directed=False)
    for part in np.flatnonzero(np.bincount(parts, minlength=num_parts) >= 0.05 * count):
        members = parts == part
        if outwardness(points[members], normals[members]) < -_SURE_VOTE:
            normals[members] *= -1
    return normals


def _walk(tree: csr_array, normals: NDArray[np.float64], root: int, sign: NDArray[np.float64]) -> None:
    order, parents = breadth_first_order(tree, root, directed=False)
    up = parents[order[1:]]
    agree = np.einsum("ij,ij->i", normals[order[1:]], normals[up]) >= 0
    for child, parent, same in zip(order[1:].tolist(), up.tolist(), agree.tolist(), strict=True):
        sign[child] = sign[parent] if same else -sign[parent]


def _turn_pieces(
    points: NDArray[np.float64], normals: NDArray[np.float64], pieces: NDArray[np.integer], num_pieces: int
) -> NDArray[np.float64]:
    """Turn large pieces by the vote of their own extremes, small ones away from the cloud's centre."""
    radial = np.einsum("ij,ij->i", normals, points - np.median(points, axis=0))
    votes = np.bincount(pieces, radial)
    for piece in np.flatnonzero(np.bincount(pieces, minlength=num_pieces) >= 0.05 * len(points)):
        members = pieces == piece
        votes[piece] = outwardness(points[members], normals[members])
    return normals * np.where(votes < 0, -1.0, 1.0)[pieces][:, None]


def find_camera(points: Points, viewpoint: Float64[np.ndarray, " 3"] | None) -> Float64[np.ndarray, " 3"] | None:
    """Find the camera of a one-sided cloud: the stated viewpoint or the origin, if the cloud is a single layer from it.

    Args:
        points: (P, 3).
        viewpoint: (3,) as the file states it, often wrongly; or None.

    Returns:
        (3,) the camera's position; None where neither sees a single layer.
    """
    reps = points[_representatives(points)]
    for camera in ([] if viewpoint is None else [viewpoint]) + [np.zeros(3)]:
        if _is_single_layer(reps, camera):
            return camera
    return None


def _is_single_layer(points: NDArray[np.float64], camera: NDArray[np.float64]) -> bool:
    """Tell whether a camera outside the cloud sees a single layer of it."""
    to_points = np.median(points, axis=0) - camera
    distance = float(np.linalg.norm(to_points))
    if distance < 0.6 * robust_extent(points) or ((points - camera) @ to_points < 0.1 * distance**2).any():
        return False
    return _doubled_share(points, camera) < 0.1


def _doubled_share(points: NDArray[np.float64], camera: NDArray[np.float64]) -> float:
    """Return the share of a camera's pixels in which points lie far behind each other.

    The pixels hold about six points each, so that two layers meet in most of them; "far" is 4 % of the extent, less
    than the thickness of any limb but the forearm.
    """
    extent = robust_extent(points)
    axis = np.median(points, axis=0) - camera
    distance = float(np.linalg.norm(axis))
    depths = (points - camera) @ (axis / distance)
    across = np.linalg.svd(axis[None])[2][1:]
    flat = (points - camera) @ across.T * (distance / depths)[:, None]
    keys = voxel_keys(np.c_[flat, np.zeros(len(flat))], extent / max(4.0, (len(points) / 6) ** 0.5))
    order = np.lexsort((depths, keys))
    keys, depths = keys[order], depths[order]
    jumps = (np.diff(depths) > 0.04 * extent) & (keys[1:] == keys[:-1])
    return len(np.unique(keys[1:][jumps])) / len(np.unique(keys))
