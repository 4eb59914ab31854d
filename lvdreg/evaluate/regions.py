"""Regions of a body, and which of them true points belong to, though nobody says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from lvdreg.base.shapes import BoolArray, Faces, FloatArray
from lvdreg.body.landmarks import parts_of
from lvdreg.body.model import BodyData
from lvdreg.evaluate.table import Table, TextTable
from lvdreg.geometry.mesh import closest_point_on_mesh
from lvdreg.geometry.metrics import Halves

REGIONS = {
    "head": ("head", "neck"), "trunk": ("trunk",), "arms": ("upper arm", "forearm"), "hands": ("hand",),
    "legs": ("thigh", "shin"), "feet": ("foot",),
}  # fmt: skip
RECALLS_MM = (50.0, 100.0)
REGION_HEAD = ("mean / median, mm", "all", *REGIONS, *(f"under {recall:g} mm" for recall in RECALLS_MM))


@dataclass(frozen=True)
class RegionTable(Table):
    """A table with more tables below it: errors by region of the body."""

    regions: tuple[TextTable, ...] = ()

    def shown(self) -> tuple[TextTable, ...]:
        """Return what is shown of it, from top to bottom."""
        return (*super().shown(), *self.regions)


@dataclass(frozen=True)
class RegionsOfPoints:
    """What true points are of.

    Attributes:
        region: (P,) number in ``REGIONS``.
        halves: On which side of the body surface and points are.
    """

    region: Int64[np.ndarray, " P"]
    halves: Halves


def regions_of(
    data: BodyData,
    faces: Faces,
    surfaces: Float64[np.ndarray, "S V 3"],
    true_points: Float64[np.ndarray, "S P 3"],
) -> RegionsOfPoints | None:
    """Find out what true points belong to: to what most surfaces have nearest to them.

    Clasped hands lie nearer to each other than to themselves; in most scans they do not.

    Args:
        data: The body that was registered.
        faces: (F, 3) of the surfaces.
        surfaces: (S, V, 3); NaN where nothing was registered.
        true_points: (S, P, 3).

    Returns:
        None where the surfaces are not the body's.
    """
    if surfaces.shape[1] != len(data.v_template):
        return None
    names, part = parts_of(data)
    region_of_part = _regions_of_parts(names)
    side_of_part = np.array([name.startswith("left_") * 1 - name.startswith("right_") * 1 for name in names])
    of_face = part[faces[:, 0]]
    there = np.flatnonzero(np.isfinite(surfaces).all((1, 2)))
    found = np.stack([of_face[closest_point_on_mesh(true_points[s], surfaces[s], faces).face] for s in there])
    votes = np.stack([(found == i).sum(0) for i in range(len(names))])
    most = votes.argmax(0)
    return RegionsOfPoints(region_of_part[most], Halves(side_of_part[of_face], side_of_part[most]))


def vertex_regions(data: BodyData) -> Int64[np.ndarray, " V"]:
    """Return the number in ``REGIONS`` of each vertex (V,)."""
    names, part = parts_of(data)
    return _regions_of_parts(names)[part]


def _regions_of_parts(names: Sequence[str]) -> Int64[np.ndarray, " P"]:
    plain = [name.removeprefix("left_").removeprefix("right_") for name in names]
    return np.array([next(i for i, own in enumerate(REGIONS.values()) if name in own) for name in plain])


def region_table(
    title: str, errors: Float32[np.ndarray, "S S P"], of: RegionsOfPoints, pairs: Mapping[str, BoolArray]
) -> TextTable:
    """Return mean and median by region, all points alike, and which share lies under 50 and 100 mm.

    Args:
        title: Stands above.
        errors: (S, S, P) mm, NaN where there is none.
        of: What the points are of.
        pairs: Masks (S, S) of pairs by name.
    """
    rows = []
    for name, mask in pairs.items():
        known = errors[mask & np.isfinite(errors).all(2)].astype(np.float64)
        if len(known):
            rows.append(region_row(name, known, np.broadcast_to(of.region, known.shape)))
    return TextTable(title, REGION_HEAD, tuple(rows))


def region_row(name: str, known: FloatArray, region: Int64[np.ndarray, "*N"]) -> tuple[str, ...]:
    """Return the cells below ``REGION_HEAD`` for errors in mm of points of regions of the same shape."""
    each = [known, *(known[region == i] for i in range(len(REGIONS)))]
    cells = [f"{x.mean():.1f} / {np.median(x):.1f}" if x.size else "-" for x in each]
    return (name, *cells, *(f"{(known < recall).mean():.1%}" for recall in RECALLS_MM))
