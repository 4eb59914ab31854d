"""Find surfaces that cannot be seen from outside: second walls, cavities, insides of voxel meshes, doubled layers.

Scanners see skin from outside, so a place from which no straight line leads out of the scan is no skin; on real scans
one place in five hundred is so enclosed, of second walls more than nine in ten (LOG.md, "Inner walls"). Near the rim of
an open scan a second wall sees a little of the outside: there it is known by the sheet that covers it closely and sees
far more.
"""

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from lvdreg.base.shapes import BoolArray, Faces, FloatArray, IntArray, Points
from lvdreg.geometry.graphs import graph_of, shared_edges
from lvdreg.geometry.mesh import face_areas, face_normals, sample_surface, unit_rows
from lvdreg.geometry.rays import RayCaster, sphere

NUM_RAYS = 32
NUM_SCREENED = 500
MIN_HIDDEN = 0.05
"""Less than this share of the surface is left where it is: armpits, folds and mouths are enclosed, too."""
NUM_PLACES = 3000
"""Places of a mesh whose openness is measured; all other faces take that of the nearest along the surface."""
MAJORITY = 0.6
"""A place is hidden if so many of those beside it are: single ones are enclosed by the roughness of a surface."""
ENCLOSED = 1.5 / NUM_RAYS
"""At most one ray in 32 leads out."""
HALF_OPEN = 0.2
"""A place that sees less of the outside than this is hidden if a sheet close to it sees three times as much."""
COVER_RATIO = 3.0


def hidden_faces(points: Points, faces: Faces, wall: float) -> Bool[np.ndarray, " F"]:
    """Find the faces of a mesh that are not seen from outside; none where they are a small share.

    Args:
        points: (P, 3).
        faces: (F, 3), wound either way.
        wall: A sheet may cover another from no farther than this, in the unit of the points.

    Returns:
        (F,) True for a hidden face.
    """
    caster = RayCaster(points, faces)
    samples, _, _ = sample_surface(points, faces, NUM_SCREENED, np.random.default_rng(0))
    if (openness(caster, samples) < ENCLOSED).mean() < MIN_HIDDEN:
        return np.zeros(len(faces), bool)
    areas, centres = face_areas(points, faces), points[faces].mean(1)
    graph = _neighbours(faces, centres)
    places, nearest = _places(graph, areas)
    seen = openness(caster, centres[places])
    hidden = seen < ENCLOSED
    doubtful = np.flatnonzero(~hidden & (seen < HALF_OPEN))
    if len(doubtful):
        at = places[doubtful]
        normals = unit_rows(face_normals(points, faces))
        covers = np.zeros(len(doubtful))
        for side in (1.0, -1.0):
            face, distance = caster.first_hits(centres[at], side * normals[at])
            is_cover = (face >= 0) & (distance < wall)
            is_cover &= np.abs(np.einsum("ni,ni->n", normals[face], normals[at])) > 0.5
            covers = np.maximum(covers, np.where(is_cover, seen[nearest[face]], 0.0))
        hidden[doubtful] = covers > COVER_RATIO * seen[doubtful]
    return _outvoted(hidden, graph, nearest)[nearest]


def _outvoted(hidden: BoolArray, graph: csr_array, nearest: IntArray) -> BoolArray:
    """Let each place and those beside it along the surface vote: in a rough surface single ones are enclosed."""
    pairs = graph.tocoo()
    i, j = nearest[pairs.row], nearest[pairs.col]
    apart = i != j
    beside = graph_of(np.r_[i[apart], j[apart]], np.r_[j[apart], i[apart]], len(hidden))
    links = (beside > 0).astype(float)
    return (links @ hidden + hidden) > MAJORITY * (links.sum(axis=1) + 1)


def openness(caster: RayCaster, places: Points) -> Float64[np.ndarray, " P"]:
    """Return the share (P,) of all directions in which a straight line from each place leads out of the mesh.

    Where more than one in four of the first few do, that share stands: only what is more enclosed is asked about all.
    """
    directions = sphere(NUM_RAYS)
    few = np.arange(NUM_RAYS) % 4 == 0
    out = _ways_out(caster, places, directions[few])
    share = out / few.sum()
    enclosed = np.flatnonzero(share <= 0.25)
    more = _ways_out(caster, places[enclosed], directions[~few])
    share[enclosed] = (out[enclosed] + more) / NUM_RAYS
    return share


def _ways_out(caster: RayCaster, places: FloatArray, directions: FloatArray) -> IntArray:
    starts, ways = np.repeat(places, len(directions), axis=0), np.tile(directions, (len(places), 1))
    out = caster.first_hits(starts, ways)[0] < 0
    return out.reshape(len(places), len(directions)).sum(1)


def _places(graph: csr_array, areas: NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    """Choose faces evenly by area, at least one of each piece, and return which of them is nearest to each (F,).

    Nearest along the surface: sheets that lie on each other are told apart.
    """
    _, piece = connected_components(graph, directed=False)
    share = np.cumsum(areas) / max(float(areas.sum()), 1e-300)
    even = np.searchsorted(share, (np.arange(NUM_PLACES) + 0.5) / NUM_PLACES).clip(max=len(areas) - 1)
    order = np.lexsort((-areas, piece))
    largest = order[np.r_[True, np.diff(piece[order]) != 0]]
    places = np.unique(np.r_[even, largest])
    _, _, source = dijkstra(graph, directed=False, indices=places, min_only=True, return_predecessors=True)
    row = np.full(len(areas), -1)
    row[places] = np.arange(len(places))
    return places, row[source]


def _neighbours(faces: NDArray[np.int64], centres: NDArray[np.float64]) -> csr_array:
    """Return the graph of faces that share an edge with each other and no third; its weights are their distances.

    Edges of more than two faces join nothing, so that the inner walls of voxel meshes are pieces of their own.
    """
    i, j = (half_edges // 3 for half_edges in shared_edges(faces))
    # A weight of zero would mean no edge.
    apart = np.maximum(np.linalg.norm(centres[i] - centres[j], axis=1), 1e-12 * float(np.ptp(centres)))
    return graph_of(i, j, len(faces), apart)
