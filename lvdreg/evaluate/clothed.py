"""Naked bodies found under clothes, against those that data sets know."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from lvdreg.base.errors import RegistrationError
from lvdreg.base.provenance import sha256_of
from lvdreg.body.catalogue import load_body
from lvdreg.evaluate.cache import Arrays, CachedResult, kept, run_key
from lvdreg.evaluate.clothed_people import ClothedPerson, Mesh, clothed_people
from lvdreg.evaluate.methods import OURS, Progress, arrays_of, folder_of, spread, verdict_note, words_of
from lvdreg.evaluate.regions import REGION_HEAD, RegionTable, region_row, vertex_regions
from lvdreg.evaluate.table import Row, Table, TextTable
from lvdreg.geometry.mesh import closest_point_on_mesh, vertex_areas
from lvdreg.geometry.metrics import MM, summarise
from lvdreg.pipeline.scan import register
from lvdreg.scan.model import scan_from_arrays

FAILURE_MM = 30.0
"""A body is lost when its surface lies farther than this from the true one on average."""


@dataclass(frozen=True)
class Compared:
    """A body held against the true one, which has other vertices.

    Attributes:
        there_mm: (V,) from each of its vertices to the true surface.
        back_mm: (W,) from each vertex of the true body to its surface.
        nearest: (W,) its vertex next to where that is.
        sigma_mm: (V,) of its vertices.
        mean_mm: Of both ways, weighed by area.
    """

    there_mm: Float64[np.ndarray, " V"]
    back_mm: Float64[np.ndarray, " W"]
    nearest: Int64[np.ndarray, " W"]
    sigma_mm: Float64[np.ndarray, " V"]
    mean_mm: tuple[float, float]


def evaluate_clothed(
    folder: str | Path,
    model: str = "anny",
    limit: int | None = None,
    out: str | Path = "out/clothed",
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Register clothed people of CAPE or 4D-Dress, and compare the bodies under the clothes with the true ones.

    Args:
        folder: See ``clothed_people``.
        model: ``anny`` or ``anny+d``.
        limit: Take only so many scans, spread evenly; None = all.
        out: Where results are kept; run again to go on, remove it to start afresh.
        progress: Called after each scan.
        settings: Passed to ``register`` for every scan alike.

    Raises:
        ScanError: the folder holds no such scans, or one is damaged.
        BodyError: CAPE's need the model ``smpl``, which was not added; or a pickle is damaged.
        RegistrationError: no scan could be registered.
    """
    people, key = spread(clothed_people(Path(folder)), limit), run_key(model, settings)
    results: list[CachedResult] = []
    compared: list[Compared | None] = []
    for i, person in enumerate(people):
        scan, true = person.load()
        path = Path(out) / folder_of(OURS) / f"{person.name}.npz"
        compute = partial(_registered, scan, person.name, model, settings)
        results.append(kept(path, f"{key} {sha256_of(person.path)}", compute))
        compared.append(_compared(results[-1].arrays, true))
        if progress is not None:
            progress(i + 1, len(people), f"{OURS} {person.name}")
    if not any(compared):
        raise RegistrationError(f"expected at least one registered scan, got none; the first: {results[0].reason}")
    return _table(people, results, compared, model)


def _registered(scan: Mesh, name: str, model: str, settings: dict[str, Any]) -> Arrays:
    return arrays_of(register(scan_from_arrays(scan.vertices, scan.faces, name=name), model=model, **settings))


def _compared(found: Arrays, true: Mesh) -> Compared | None:
    if "body_vertices" not in found:
        return None
    own = Mesh(found["body_vertices"], found["faces"])
    there, back = (closest_point_on_mesh(a.vertices, b.vertices, b.faces) for a, b in ((own, true), (true, own)))
    means = [
        MM * float(np.average(hit.distance, weights=vertex_areas(one.vertices, one.faces)))
        for hit, one in ((there, own), (back, true))
    ]
    corner = own.faces[back.face, back.bary.argmax(1)]
    return Compared(MM * there.distance, MM * back.distance, corner, found["refined_sigma_mm"], (means[0], means[1]))


def _table(
    people: Sequence[ClothedPerson], results: Sequence[CachedResult], compared: Sequence[Compared | None], model: str
) -> Table:
    means = np.array([(np.nan, np.nan) if one is None else one.mean_mm for one in compared])
    both = means.mean(1)
    groups = [person.group for person in people]
    lines = {"body_to_body": both, "body to true body": means[:, 0], "true body to body": means[:, 1]}
    lines |= {f"body_to_body, {group}": both[[own == group for own in groups]] for group in sorted(set(groups))}
    rows = tuple(Row(OURS, words, summarise(values, FAILURE_MM)) for words, values in lines.items())
    known = [one for one in compared if one is not None]
    there, sigma = (np.concatenate([getattr(one, name) for one in known]) for name in ("there_mm", "sigma_mm"))
    region = vertex_regions(load_body(model.removesuffix("+d")).data)
    by_region = TextTable(
        "By region, all vertices alike",
        REGION_HEAD,
        (
            region_row("body to true body", there, np.tile(region, len(known))),
            region_row(
                "true body to body",
                np.concatenate([one.back_mm for one in known]),
                region[np.concatenate([one.nearest for one in known])],
            ),
        ),
    )
    notes = (
        f"{(there <= sigma).mean():.0%} of the body's vertices are within one sigma of the true surface, "
        f"{(there <= 2 * sigma).mean():.0%} within two; sigma speaks of places, which may be farther off",
        f"{OURS}: {verdict_note(results)}",
    )
    details = {
        "scans": [person.name for person in people],
        "groups": groups,
        "both_ways_mm": means,
        "by_region": asdict(by_region),
        **words_of(results),
    }
    return RegionTable(f"Clothed people, {len(people)} scans, {model}", rows, notes, details, (by_region,))
