"""SHREC'19, "Matching humans with different connectivity" (Melzi et al. 2019): pairs of meshes with given matches."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from lvdreg.base.errors import RegistrationError, ScanError
from lvdreg.base.files import read_text
from lvdreg.base.shapes import Faces, FloatArray, IntArray
from lvdreg.descent.boxes import METRES_PER_UNIT
from lvdreg.evaluate.cache import Arrays, CachedResult, run_key
from lvdreg.evaluate.faust import PAIR_FAILURE_MM, read_mesh
from lvdreg.evaluate.methods import OURS, Progress, arrays_of, folder_of, run_files, spread, verdict_note, words_of
from lvdreg.evaluate.regions import RECALLS_MM
from lvdreg.evaluate.table import Row, Table
from lvdreg.geometry.frames import scale_of
from lvdreg.geometry.graphs import graph_of
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.geometry.metrics import MM, carry, summarise
from lvdreg.pipeline.scan import register

MESHES = ("", "obj", "off", "ply")
"""Folders of the meshes ``N.obj``, ``N.off`` or ``N.ply``."""
MATCHES = ("FARMgt_txt", "matches/FARMgt_txt", "corres")
"""Folders of the matches ``I_J.txt`` or ``I_J.map``; the last is that of the remeshed shapes."""
PAIRS = "PAIRS_list_SHREC19_connectivity.txt"
POINTS = 500
"""Of so many vertices of a mesh geodesic distances are measured."""
AT_ONCE = 50


@dataclass(frozen=True)
class Pair:
    """Two meshes and the file that says, for each vertex of the first, which of the second it belongs to."""

    first: str
    second: str
    matches: Path


@dataclass(frozen=True)
class Shape:
    """A mesh as it is in its file, and what was registered to it."""

    vertices: Float64[np.ndarray, "N 3"]
    faces: Faces
    found: CachedResult

    @property
    def metres(self) -> float:
        """Metres per unit of the file, as registering found it; NaN where it found nothing."""
        return float(self.found.arrays.get("metres", np.nan))

    @cached_property
    def edges(self) -> csr_array:
        """The graph of the mesh's edges with their lengths."""
        ends = np.unique(np.sort(self.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
        lengths = np.linalg.norm(self.vertices[ends[:, 0]] - self.vertices[ends[:, 1]], axis=1)
        return graph_of(ends[:, 0], ends[:, 1], len(self.vertices), np.maximum(lengths, 1e-300))


def evaluate_shrec19(
    folder: str | Path,
    model: str = "anny+d",
    limit: int | None = None,
    out: str | Path = "out/shrec19",
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Register the meshes of SHREC'19 and match vertices of one to those of another through the registered surfaces.

    A vertex of the first mesh is carried to the second (``carry``), where the nearest vertex is its match, as the track
    asks. Its error is the distance to the given match: straight, and along the mesh's edges as the track measures it
    (straight where no edges lead there).

    Args:
        folder: Holds the meshes (``MESHES``), the matches (``MATCHES``) and, where not all are wanted, ``PAIRS``.
        model: ``anny`` or ``anny+d``.
        limit: Take only so many pairs, spread evenly; None = all.
        out: Where results are kept; run again to go on, remove it to start afresh.
        progress: Called after each mesh.
        settings: Passed to ``register`` for every mesh alike.

    Raises:
        ScanError: the folder holds no pairs, or matches that do not belong to their meshes.
        RegistrationError: no pair could be registered.
    """
    pairs = spread(shrec19_pairs(Path(folder)), limit)
    names = sorted({name for pair in pairs for name in (pair.first, pair.second)}, key=int)
    paths = [_mesh(Path(folder), name) for name in names]
    results = run_files(
        paths,
        Path(out) / folder_of(OURS),
        run_key(model, settings),
        lambda path: _registered(path, model, settings),
        OURS,
        progress,
    )
    shapes = {name: Shape(*read_mesh(path), found) for name, path, found in zip(names, paths, results, strict=True)}
    errors = [pair_errors(shapes[pair.first], shapes[pair.second], pair.matches) for pair in pairs]
    if not any(len(error) for error in errors):
        raise RegistrationError(f"expected at least one registered pair, got none; the first: {results[0].reason}")
    return _table(pairs, shapes, results, errors, model)


def _registered(path: Path, model: str, settings: dict[str, Any]) -> Arrays:
    """Register a mesh; the track scales some to one area, so that a person's size has to say what a metre is."""
    result = register(path, model=model, **settings)
    metres = METRES_PER_UNIT.get(result.unit, result.metrics["body_scale"] / scale_of(result.T_scan_model))
    return {**arrays_of(result), "metres": np.array(metres)}


def shrec19_pairs(folder: Path) -> list[Pair]:
    """Return the pairs that have matches: all, or those that ``PAIRS`` lists, one a line as ``I,J``.

    Raises:
        ScanError: there are none, or the list is damaged.
    """
    found = {}
    for path in sorted(path for name in MATCHES for path in (folder / name).glob("*_*.*")):
        if path.suffix in (".txt", ".map") and (ends := re.fullmatch(r"(\d+)_(\d+)", path.stem)):
            found[ends[1], ends[2]] = path
    try:
        listed = read_text(folder / PAIRS).split() if (folder / PAIRS).is_file() else []
    except (OSError, ValueError) as error:
        raise ScanError(f"{folder / PAIRS}: cannot be read ({error})") from None
    wanted = [tuple(line.split(",")) for line in listed] or sorted(found, key=lambda ends: (int(ends[0]), int(ends[1])))
    pairs = [Pair(*ends, found[ends]) for ends in wanted if ends in found]
    if not pairs:
        raise ScanError(f"expected matches I_J.txt in a folder FARMgt_txt or corres of {folder}, found none")
    return pairs


def _mesh(folder: Path, name: str) -> Path:
    for place in MESHES:
        for kind in ("obj", "off", "ply"):
            if (path := folder / place / f"{name}.{kind}").is_file():
                return path
    raise ScanError(f"expected {name}.obj, {name}.off or {name}.ply in {folder} or a folder obj or off of it")


def pair_errors(first: Shape, second: Shape, matches: Path) -> Float64[np.ndarray, "N 2"]:
    """Return the errors (N, 2) of matches in mm, straight and along edges; (0, 2) where a mesh was not registered.

    Raises:
        ScanError: the file of matches does not belong to the meshes.
    """
    given = read_matches(matches, len(first.vertices), len(second.vertices))
    if "vertices" not in first.found.arrays or "vertices" not in second.found.arrays:
        return np.zeros((0, 2))
    chosen = np.random.default_rng(0).permutation(len(given))[:POINTS]
    ours, theirs = first.found.arrays, second.found.arrays
    there = carry(first.vertices[chosen], ours["vertices"], theirs["vertices"], ours["faces"])
    matched = cKDTree(second.vertices).query(there)[1]
    straight = np.linalg.norm(second.vertices[matched] - second.vertices[given[chosen]], axis=1)
    along = along_edges(second.edges, matched, given[chosen])
    return MM * second.metres * np.stack([straight, np.where(np.isfinite(along), along, straight)], 1)


def read_matches(path: Path, num_first: int, num_second: int) -> Int64[np.ndarray, " N"]:
    """Read the vertex of the second mesh, from 0, that each of the first belongs to (N,).

    Files count from 1, as MATLAB does; one in which a 0 occurs counts from 0.

    Raises:
        ScanError: it is something else, or of other meshes.
    """
    try:
        values = np.array([int(word) for word in read_text(path).split()], np.int64)
    except (OSError, ValueError) as error:
        raise ScanError(f"{path}: expected a vertex's number a line ({error})") from None
    values -= int(len(values) > 0 and values.min() > 0)
    if len(values) != num_first or (len(values) > 0 and not 0 <= values.min() <= values.max() < num_second):
        raise ScanError(
            f"{path}: expected {num_first} numbers of {num_second} vertices, got {len(values)}, the largest "
            f"{values.max(initial=0)}; it belongs to other meshes"
        )
    return values


def along_edges(edges: csr_array, starts: IntArray, ends: IntArray) -> FloatArray:
    """Return the length of the shortest way along edges from each start to its end (N,); infinite where none leads."""
    lengths = np.full(len(starts), np.inf)
    for low in range(0, len(starts), AT_ONCE):
        some = slice(low, low + AT_ONCE)
        ways = dijkstra(edges, directed=False, indices=starts[some])
        lengths[some] = ways[np.arange(len(ways)), ends[some]]
    return lengths


def _table(
    pairs: list[Pair],
    shapes: dict[str, Shape],
    results: list[CachedResult],
    errors: list[FloatArray],
    model: str,
) -> Table:
    means = np.array([error.mean(0) if len(error) else (np.nan, np.nan) for error in errors])
    sizes = np.array([_size_mm(shapes[pair.second]) for pair in pairs])
    every = np.concatenate(errors)
    ways = ("straight", "along edges")
    rows = tuple(Row(OURS, f"{way}, pairs", summarise(means[:, i], PAIR_FAILURE_MM)) for i, way in enumerate(ways))
    notes = [
        f"{way}, all points alike: mean {every[:, i].mean():.1f} mm, median {np.median(every[:, i]):.1f} mm; "
        + ", ".join(f"{(every[:, i] < recall).mean():.1%} under {recall:g} mm" for recall in RECALLS_MM)
        for i, way in enumerate(ways)
    ]
    notes.append(f"along edges over the root of the area, as others report it: {np.nanmean(means[:, 1] / sizes):.4f}")
    notes.append(f"{OURS}: {verdict_note(results)}")
    details = {
        "meshes": list(shapes),
        "pairs": [(pair.first, pair.second) for pair in pairs],
        "mean_mm": means,
        **words_of(results),
    }
    return Table(f"SHREC'19, {len(pairs)} pairs of {len(shapes)} meshes, {model}", rows, tuple(notes), details)


def _size_mm(shape: Shape) -> float:
    return MM * shape.metres * float(np.sqrt(vertex_areas(shape.vertices, shape.faces).sum()))
