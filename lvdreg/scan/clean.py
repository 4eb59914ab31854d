"""The steps of cleaning: each takes a scan and returns a better one with a note of what it did."""

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.geometry.mesh import face_areas, face_normals, sample_surface, unit_rows, vertex_areas
from lvdreg.scan.hidden import hidden_faces
from lvdreg.scan.model import Scan, sample_oriented
from lvdreg.scan.normals import (
    consistent_winding,
    estimate_normals,
    face_pieces,
    find_camera,
    inside_out_pieces,
    outwardness,
    thinned,
    vertex_normals,
)
from lvdreg.scan.readers.raw import equal_points, equal_rows
from lvdreg.scan.segment import (
    CleanConfig,
    Plane,
    bleeding_points,
    find_planes,
    flying_points,
    main_clusters,
    mixed_pixel_points,
    robust_extent,
    voxel_keys,
)

MIN_POINTS = 200
MAX_CLOUD = 1_000_000
"""More raw points than this are thinned evenly first: a point for every other square millimetre of a whole person."""
MAX_MESH = 250_000
"""More vertices than this on what is left of a mesh are thinned: one for every ten square millimetres of a person."""
_MAX_COORDINATE = 1e15
_FACES_AT_ONCE = 4_000_000
_NUM_SAMPLES = 20_000


def clean_scan(scan: Scan, config: CleanConfig | None = None) -> Scan:
    """Remove what is broken or not the body or hand, and make normals face outward.

    In order: points that are no numbers, equal points, faces without area, far-away points; flying points of raw
    clouds, floors, walls and tables, stray clusters; then winding and normals. Nothing is moved.

    Args:
        scan: As read; not changed.
        config: What suits a body (the default) or a hand.

    Returns:
        The cleaned scan with normals; what was found or changed is added to `notes`.

    Raises:
        ScanError: too few distinct points are left, or they lie in one point, line or plane; the message
            names the scan.
    """
    try:
        return _clean(scan, config or CleanConfig())
    except ScanError as error:
        raise ScanError(f"{scan.name}: {error}") from None


def _clean(scan: Scan, config: CleanConfig) -> Scan:
    scan = drop_non_finite(scan)
    scan = drop_far(scan)
    scan = thin_mesh(scan, MAX_CLOUD)
    scan = merge_equal(scan)
    scan = drop_bad_faces(scan)
    scan = drop_far(scan)
    check_extent(scan)
    scan = thin_cloud(scan)
    scan = drop_flying(scan)
    if config.remove_planes:
        scan = drop_planes(scan, config)
    if config.drop_mixed_pixels:
        scan = drop_mixed_pixels(scan)
    scan = drop_edge_bleeding(scan, config)
    scan = drop_strays(scan, config)
    scan = thin_mesh(scan, MAX_MESH)
    check_extent(scan)
    if scan.faces is None:
        return orient_cloud(scan)
    # Closed pieces say which way is out: they are turned before what is hidden of them goes.
    return drop_hidden(orient_mesh(scan), config)


def _noted(scan: Scan, note: str) -> Scan:
    return replace(scan, notes=(*scan.notes, note))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def keep_points(scan: Scan, keep: Bool[np.ndarray, " P"]) -> Scan:
    """Keep some points, and the faces all of whose corners are kept."""
    if keep.all():
        return scan
    index = np.cumsum(keep) - 1
    faces = scan.faces
    if faces is not None:
        faces = index[faces[keep[faces].all(axis=1)]]
    return replace(
        scan,
        points=scan.points[keep],
        faces=faces,
        normals=None if scan.normals is None else scan.normals[keep],
        colors=None if scan.colors is None else scan.colors[keep],
    )


def keep_faces(scan: Scan, keep: Bool[np.ndarray, " F"]) -> Scan:
    """Keep some faces of a mesh, and the points that they use."""
    assert scan.faces is not None
    used = np.zeros(len(scan.points), bool)
    used[scan.faces[keep]] = True
    return keep_points(replace(scan, faces=scan.faces[keep]), used)


def drop_non_finite(scan: Scan) -> Scan:
    """Remove points with a coordinate that is NaN, infinite or absurdly large."""
    with np.errstate(invalid="ignore"):
        good = np.asarray((np.abs(scan.points) < _MAX_COORDINATE).all(axis=1))
    if good.all():
        return scan
    _require(int(good.sum()), "points with finite coordinates")
    return _noted(keep_points(scan, good), f"removed {(~good).sum()} points whose coordinates are not numbers")


def _require(count: int, what: str) -> None:
    if count < MIN_POINTS:
        raise ScanError(f"expected at least {MIN_POINTS} {what}, got {count}; is this the right file?")


def merge_equal(scan: Scan) -> Scan:
    """Make points with equal coordinates one; the normals of a raw cloud's are averaged."""
    keep, inverse = equal_points(scan.points)
    _require(len(keep), "different points")
    if len(keep) == len(scan.points):
        return scan
    normals = scan.normals
    if normals is not None:
        sums = [np.bincount(inverse, normals[:, i], minlength=len(keep)) for i in range(3)]
        normals = unit_rows(np.stack(sums, axis=1))
    merged = replace(
        scan,
        points=scan.points[keep],
        faces=None if scan.faces is None else inverse[scan.faces],
        normals=normals,
        colors=None if scan.colors is None else scan.colors[keep],
    )
    return _noted(merged, f"merged {len(scan.points) - len(keep)} points that the file holds more than once")


def drop_bad_faces(scan: Scan) -> Scan:
    """Remove faces without area, repeated faces, and points that no face uses; a mesh with hardly a face is a cloud."""
    if scan.faces is None:
        return scan
    good = _good_faces(scan.points, scan.faces)
    used = np.zeros(len(scan.points), bool)
    used[scan.faces[good]] = True
    if used.mean() < 0.5:
        note = f"only {_percent(used.mean())} of the points have a face: taken as raw points"
        return _noted(replace(scan, faces=None), note)
    if not good.all():
        scan = _noted(scan, f"removed {(~good).sum()} faces that were repeated or without area")
    if not used.all():
        scan = _noted(scan, f"removed {(~used).sum()} points that no face uses")
    return keep_faces(scan, good)


def _good_faces(points: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    extent = max(float(np.ptp(points, axis=0).max()), 1e-300)
    good: NDArray[np.bool_] = np.linalg.norm(face_normals((points - points[0]) / extent, faces), axis=1) > 1e-20
    is_first = np.zeros(len(faces), bool)
    is_first[equal_rows(np.sort(faces, axis=1))[0]] = True
    return good & is_first


def drop_far(scan: Scan) -> Scan:
    """Remove points so far away that they cannot be of the scene: they would spoil every relative tolerance."""
    some = scan.points[:: max(1, len(scan.points) // _NUM_SAMPLES)]
    offsets = np.abs(scan.points - np.median(some, axis=0)).max(axis=1)
    near = offsets <= 30 * np.percentile(offsets[:: max(1, len(offsets) // _NUM_SAMPLES)], 90)
    if near.all():
        return scan
    return _noted(keep_points(scan, near), f"removed {(~near).sum()} points far away from all others")


def check_extent(scan: Scan) -> None:
    """Refuse what is no surface in space.

    Raises:
        ScanError: too few points, or all in one point, line or plane.
    """
    _require(len(scan.points), "points")
    centred = scan.points - scan.points.mean(axis=0)
    centred /= max(float(np.abs(centred).max()), 1e-300)
    extents = np.sqrt(np.linalg.eigvalsh(centred.T @ centred)[::-1].clip(0))
    extents /= max(float(extents[0]), 1e-300)
    shape = "a line" if extents[1] < 1e-3 else "a plane" if extents[2] < 1e-3 else None
    if shape:
        raise ScanError(f"expected a body or hand, got points that all lie in {shape}; is this the right file?")


def thin_cloud(scan: Scan) -> Scan:
    """Thin raw points beyond what registration can use."""
    if scan.faces is not None or len(scan.points) <= MAX_CLOUD:
        return scan
    keep = np.zeros(len(scan.points), bool)
    keep[thinned(scan.points, MAX_CLOUD // 2, np.random.default_rng(0))] = True
    return _noted(keep_points(scan, keep), f"thinned {len(scan.points)} points to {keep.sum()}, evenly")


def thin_mesh(scan: Scan, most: int) -> Scan:
    """Thin a mesh of more than so many vertices: those in one voxel that face the same way become their mean.

    The two sides of a thin wall stay apart, what is closed stays closed, and rims stay rims.
    """
    if scan.faces is None or min(len(scan.points), len(scan.faces) // 2) <= most:
        return scan
    # The voxels of a far-away point would be as large as all the rest.
    scan = drop_far(scan)
    assert scan.faces is not None
    before, (normals, area) = len(scan.points), _summed_normals(scan.points, scan.faces)
    size = (1.5 * area / most) ** 0.5
    for _ in range(6):
        group, count = _same_place(scan.points, normals, size)
        if 0.4 * most < len(count) <= most:
            break
        size *= (len(count) / (0.7 * most)) ** 0.5
    points, colors = _mean_of(scan.points, group, count), scan.colors
    if colors is not None:
        colors = _mean_of(colors, group, count).round().astype(np.uint8)
    faces = _merged_faces(group[scan.faces])
    thin = replace(scan, points=points, faces=faces, normals=None, colors=colors)
    thin = keep_faces(thin, np.ones(len(faces), bool))
    return _noted(thin, f"thinned {before} points to {len(thin.points)}, evenly")


def _summed_normals(points: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Return the sum of the normals of the faces around each vertex (P, 3), area weighted, and the area of all."""
    normals, area = np.zeros((len(points), 3)), 0.0
    # In parts: at once, twenty million faces would take four gigabytes.
    for start in range(0, len(faces), _FACES_AT_ONCE):
        part = faces[start : start + _FACES_AT_ONCE]
        per_face = face_normals(points, part)
        area += 0.5 * float(np.linalg.norm(per_face, axis=1).sum())
        for axis in range(3):
            normals[:, axis] += np.bincount(part.ravel(), np.repeat(per_face[:, axis], 3), minlength=len(points))
    return normals, area


def _same_place(
    points: NDArray[np.float64], normals: NDArray[np.float64], size: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the group (P,) of each point, of those that share a voxel and a side, and how many each holds (N,)."""
    voxel = np.unique(voxel_keys(points, size), return_inverse=True)[1]
    facing = np.empty((int(voxel.max()) + 1, 3))
    facing[voxel] = normals  # of one of its points
    place = 2 * voxel + (np.einsum("pi,pi->p", normals, facing[voxel]) < 0)
    count = np.bincount(place)
    return (np.cumsum(count > 0) - 1)[place], count[count > 0]


def _mean_of(values: NDArray[Any], group: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.stack([np.bincount(group, column) for column in values.T], axis=1) / count[:, None]


def _merged_faces(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the faces (F, 3) that still have an area, and one of those that lie on each other an odd number of times.

    Of an even number none is left: so no edge of a closed mesh ends with one face.
    """
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    num = int(faces.max(initial=0)) + 1
    low, middle, high = np.sort(faces, axis=1).T
    _, first, count = np.unique((low * num + middle) * num + high, return_index=True, return_counts=True)
    return faces[np.sort(first[count % 2 == 1])]


def drop_flying(scan: Scan) -> Scan:
    """Remove points of a raw cloud that hang in the air."""
    if scan.faces is not None:
        return scan
    flying = flying_points(scan.points)
    if not flying.any():
        return scan
    note = f"removed {flying.sum()} flying points, off the surface ({_percent(flying.mean())})"
    return _noted(keep_points(scan, ~flying), note)


def drop_planes(scan: Scan, config: CleanConfig) -> Scan:
    """Remove floors, walls and tables."""
    rng = np.random.default_rng(0)
    if scan.faces is not None:
        samples, _, _ = sample_surface(scan.points, scan.faces, _NUM_SAMPLES, rng)
    else:
        samples = scan.points[thinned(scan.points, _NUM_SAMPLES, rng)]
    planes = find_planes(samples, rng, config)
    for plane in planes:
        before = len(scan.points)
        scan = _without_plane(scan, plane)
        note = f"removed a floor, wall or table ({_percent(1 - len(scan.points) / before)} of the points)"
        scan = _noted(scan, note)
    # What the noise of a plane lifts out of it now hangs in the air.
    return drop_flying(scan) if planes else scan


def _without_plane(scan: Scan, plane: Plane) -> Scan:
    if scan.faces is None:
        return keep_points(scan, ~plane.holds(scan.points))
    in_plane = plane.holds(scan.points)[scan.faces].all(axis=1)
    piece = face_pieces(scan.faces, len(scan.points))
    areas = face_areas(scan.points, scan.faces)
    areas_in_plane = np.bincount(piece, areas * in_plane)
    # Soles that stand on the floor stay: they are neither most of their own piece nor much of the plane.
    is_plane = areas_in_plane > np.minimum(0.8 * np.bincount(piece, areas), 0.3 * areas_in_plane.sum())
    return keep_faces(scan, ~(in_plane & is_plane[piece]))


def drop_mixed_pixels(scan: Scan) -> Scan:
    """Remove the points that a depth camera scatters in all depths around thin parts."""
    mixed = mixed_pixel_points(scan.points) if scan.faces is None else np.zeros(len(scan.points), bool)
    # Without mixed pixels one camera sees a single layer; fingers of an uneven cloud from all around look like them
    # too.
    if not mixed.any() or find_camera(scan.points[~mixed], scan.viewpoint) is None:
        return scan
    note = f"removed {mixed.sum()} mixed pixels, scattered around edges ({_percent(mixed.mean())})"
    return _noted(keep_points(scan, ~mixed), note)


def drop_edge_bleeding(scan: Scan, config: CleanConfig) -> Scan:
    """Remove edge bleeding between body and background in a cloud seen by one camera."""
    camera = None if scan.faces is not None else find_camera(scan.points, scan.viewpoint)
    if camera is None:
        return scan
    normals, faces_camera = estimate_normals(scan.points, camera, scan.is_depth_image)
    bleeding = np.zeros(len(scan.points), bool)
    if faces_camera:
        bleeding = bleeding_points(scan.points, normals, camera, config.bleeding_reach)
    if not bleeding.any():
        return scan
    note = f"removed {bleeding.sum()} points of edge bleeding behind silhouettes ({_percent(bleeding.mean())})"
    return _noted(keep_points(scan, ~bleeding), note)


def drop_strays(scan: Scan, config: CleanConfig) -> Scan:
    """Keep the main cluster with the pieces near it, and for hands other clusters that weigh not much less."""
    weights: NDArray[np.float64] = np.ones(len(scan.points))
    edges = None
    if scan.faces is not None:
        weights = vertex_areas(scan.points, scan.faces)
        edges = np.concatenate([scan.faces[:, [0, 1]], scan.faces[:, [1, 2]]])
    pieces, others = main_clusters(scan.points, weights, config, edges)
    if len(pieces) > 1:
        sizes = " and ".join(_percent(float(weights[piece].sum() / weights.sum())) for piece in pieces)
        scan = _noted(scan, f"found {len(pieces)} pieces of similar size ({sizes} of the scan): kept them all")
    if not others:
        return scan
    keep = np.any(pieces, axis=0)
    what = "a stray piece" if len(others) == 1 else f"{len(others)} stray pieces"
    scan = _noted(keep_points(scan, keep), f"left out {what} ({_percent(sum(others))} of the scan)")
    scan = replace(scan, left_out_share=max(scan.left_out_share, others[0]))
    if others[0] > 0.2:
        scan = _noted(
            scan,
            f"a large piece was left out ({_percent(others[0])} of the scan): if you mean that one, cut the rest away",
        )
    return scan


def drop_hidden(scan: Scan, config: CleanConfig) -> Scan:
    """Remove the faces of a mesh that cannot be seen from outside: second walls, cavities, doubled layers."""
    if scan.faces is None or not len(scan.faces):
        return scan
    hidden = hidden_faces(scan.points, scan.faces, config.wall * robust_extent(scan.points))
    if not hidden.any():
        return scan
    areas = face_areas(scan.points, scan.faces)
    share = float(areas[hidden].sum() / areas.sum())
    note = f"left out surfaces inside the scan, not seen from outside ({_percent(share)} of the area)"
    return _noted(keep_faces(scan, ~hidden), note)


def orient_mesh(scan: Scan) -> Scan:
    """Make the winding of a mesh consistent and outward, and compute the normals of its vertices."""
    assert scan.faces is not None
    faces = scan.faces
    mixed = consistent_winding(faces, face_areas(scan.points, faces))
    faces = _reversed(faces, mixed)
    is_closed, inside_out = inside_out_pieces(scan.points, faces)
    inside_out |= _open_inside_out(scan.points, faces, ~is_closed, by_piece=bool(mixed.any()))
    if mixed.any():
        scan = _noted(scan, f"turned {mixed.sum()} faces that faced the other way than their neighbours")
    if inside_out.any():
        what = "the surface was" if inside_out.all() else f"{_percent(inside_out.mean())} of the faces were"
        scan = _noted(scan, f"{what} inside out: turned")
    faces = _reversed(faces, inside_out)
    return replace(scan, faces=faces, normals=vertex_normals(scan.points, faces))


def _reversed(faces: NDArray[np.int64], which: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(which[:, None], faces[:, ::-1], faces)


def _open_inside_out(
    points: NDArray[np.float64], faces: NDArray[np.int64], is_open: NDArray[np.bool_], by_piece: bool
) -> NDArray[np.bool_]:
    """Find the open faces to be turned outward, (F,): all of them by one vote, or each larger piece by its own.

    Pieces are trusted to agree unless windings were mixed: a piece may rightly show its inner side.
    """
    piece = np.where(is_open, face_pieces(faces, len(points)) if by_piece else 0, -1)
    flip = np.zeros(len(faces), bool)
    for label in np.unique(piece[is_open]):
        members = piece == label
        if by_piece and members.mean() < 0.01:
            continue
        samples, normals = sample_oriented(points, faces[members], None, 5000, np.random.default_rng(0))
        if outwardness(samples, normals) < 0:
            flip |= members
    return flip


def orient_cloud(scan: Scan) -> Scan:
    """Check the normals that came with a cloud, or estimate them."""
    if scan.normals is not None and (scan.normals != 0).any(axis=1).mean() > 0.5:
        chosen = thinned(scan.points, 5000, np.random.default_rng(0))
        if outwardness(scan.points[chosen], scan.normals[chosen]) < -0.1:
            return _noted(replace(scan, normals=-scan.normals), "normals pointed inward: turned")
        return scan
    normals, by_camera = estimate_normals(scan.points, find_camera(scan.points, scan.viewpoint), scan.is_depth_image)
    how = "towards the camera" if by_camera else "outward"
    known = (normals != 0).any(axis=1).mean()
    return _noted(
        replace(scan, normals=normals), f"estimated normals from neighbouring points, {how} ({_percent(known)} known)"
    )
