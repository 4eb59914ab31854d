"""What a page or a picture shows of a result: surfaces, sigma, the scan and how far it lies from the surface."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from lvdreg.base.errors import LvdregError, ScanError
from lvdreg.base.files import read_bytes
from lvdreg.base.shapes import Faces, Points, Vertices
from lvdreg.base.text import brief
from lvdreg.body.landmarks import named_parts
from lvdreg.descent.boxes import METRES_PER_UNIT
from lvdreg.geometry.frames import rotvec_to_rotmat, scale_of, transform_directions, transform_points
from lvdreg.geometry.mesh import closest_point_on_mesh, interpolate, mesh_normals
from lvdreg.pipeline.config import scan_config
from lvdreg.result.draw_scan import Camera, Stance, cameras_of
from lvdreg.result.read import SavedResult, original_scan, read_result
from lvdreg.scan.clean import clean_scan, keep_points, thin_mesh
from lvdreg.scan.model import Scan
from lvdreg.scan.readers.ply import vertex_columns
from lvdreg.settings import settings_of

MAX_SHOWN = 60_000
"""Points of the scan that are shown: their numbers take two bytes each, and more look no better."""
MAX_PLY_BYTES = 1 << 30
SIGMAS = {
    "sigma": "sigma",
    "sigma_across": "sigma across the surface",
    "sigma_along": "sigma along the surface",
    "sigma_descent": "sigma of the network",
}
"""Uncertainties that files may hold, and what they are called."""


@dataclass(frozen=True)
class Shown:
    """A result as it is shown, in the model's own frame: metres of the model, Y up.

    Attributes:
        saved: What its folder says.
        body: (V, 3) the body under the clothes.
        sigmas_mm: (V,) each, uncertainties of the surface by their names in the file.
        body_sigma_mm: (V,) that of the body; None where the file has none.
        scan: The cleaned scan, thinned; None of a photo, and where it is not to be had.
        scan_note: Why there is none, or what was done to it.
    """

    saved: SavedResult
    body: Vertices
    sigmas_mm: dict[str, Float64[np.ndarray, " V"]]
    body_sigma_mm: Float64[np.ndarray, " V"] | None
    scan: Scan | None
    scan_note: str

    @property
    def surface(self) -> Vertices:
        """(V, 3) the registered surface."""
        return self.saved.surface

    @property
    def faces(self) -> Faces:
        """(F, 3) of the surface and the body."""
        return self.saved.body.data.faces

    @property
    def is_photo(self) -> bool:
        """Whether it was registered to a photo."""
        return "photo" in self.saved.report

    @cached_property
    def distance_mm(self) -> Float64[np.ndarray, " P"] | None:
        """(P,) how far the scan's points lie outside (inside: negative) of the surface, at true size."""
        return None if self.scan is None else self._nearest[0]

    @cached_property
    def part_distances_mm(self) -> dict[str, float]:
        """Median distance, without sign, of the scan's points that lie nearest to a part of the surface, by part."""
        if self.scan is None:
            return {}
        (names, part), (distance, vertex) = named_parts(self.saved.body.data), self._nearest
        own = {name: np.abs(distance[part[vertex] == i]) for i, name in enumerate(names)}
        return {name: float(np.median(found)) for name, found in own.items() if len(found)}

    @cached_property
    def _nearest(self) -> tuple[Float64[np.ndarray, " P"], Any]:
        assert self.scan is not None
        distance, vertex = signed_distances(self.scan.points, self.surface, self.faces)
        return 1000 * self.saved.body_scale * distance, vertex

    @cached_property
    @torch.no_grad()
    def cameras(self) -> list[Camera]:
        """Views of the model's frame from named sides; the first one sees a person's front, or the palm of a hand."""
        saved = self.saved
        rotation = rotvec_to_rotmat(saved.params.pose[0].double()).numpy()
        if self.is_photo:
            rotation = np.eye(3)
        posed = saved.body(replace(saved.params, displacements=None))
        return cameras_of(Stance(rotation, posed.joints.double().numpy(), saved.side))


def signed_distances(points: Points, vertices: Vertices, faces: Faces) -> tuple[Float64[np.ndarray, " P"], Any]:
    """Return how far points lie outside (inside: negative) of a surface (P,), and its nearest vertices (P,).

    The side is that of the normal at the closest point, interpolated from those of the vertices, so that it is right
    at edges and corners, too.
    """
    near = closest_point_on_mesh(points, vertices, faces)
    corners = faces[near.face]
    normals = interpolate(mesh_normals(vertices, faces), faces, near.face, near.bary)
    outside = np.einsum("pk,pk->p", points - near.points, normals) >= 0
    return np.where(outside, near.distance, -near.distance), corners[np.arange(len(points)), near.bary.argmax(1)]


def read_shown(folder: Path) -> Shown:
    """Read what there is to show of a result folder.

    Raises:
        RegistrationError: a file of the result is missing or damaged.
        BodyError: its body model is not there.
    """
    saved = read_result(folder)
    with torch.no_grad():
        body = saved.body(replace(saved.params, displacements=None)).vertices.double().numpy()
    unit = str(saved.report.get("scan", {}).get("unit"))
    mm = 1000 * METRES_PER_UNIT.get(unit, saved.body_scale / scale_of(saved.T_scan_model))
    sigmas = {name: mm * values for name, values in _columns(folder / "registered.ply", len(body)).items()}
    of_body = _columns(folder / "body.ply", len(body)).get("sigma")
    scan, note = _scan_of(saved)
    return Shown(saved, np.asarray(body), sigmas, None if of_body is None else mm * of_body, scan, note)


def _columns(path: Path, num_vertices: int) -> dict[str, Float64[np.ndarray, " V"]]:
    """Return the uncertainties (V,) that a file holds, in its own unit; nothing where it cannot be read."""
    try:
        columns = vertex_columns(read_bytes(path, MAX_PLY_BYTES))
    except (ScanError, OSError):
        return {}
    found = {name: np.asarray(columns[name], np.float64) for name in SIGMAS if name in columns}
    return {name: v for name, v in found.items() if len(v) == num_vertices and np.isfinite(v).all()}


def _scan_of(saved: SavedResult) -> tuple[Scan | None, str]:
    """Read and clean the scan again, thin it, and bring it to the model's frame; say why where that cannot be."""
    if "photo" in saved.report:
        return None, ""
    command = "register" if saved.side is None else "hands"
    try:
        raw = original_scan(saved.report)
        if raw is None:
            return None, "The scan is not shown: it is not where it was when it was registered, or has changed since."
        scan = clean_scan(raw, scan_config(settings_of(None, command), command).clean)
    except (LvdregError, OSError) as error:
        return None, f"The scan is not shown: {brief(error)}."
    points = len(scan.points)
    scan = thin_mesh(scan, MAX_SHOWN)
    if len(scan.points) > MAX_SHOWN:
        keep = np.zeros(len(scan.points), bool)
        keep[np.random.default_rng(0).permutation(len(keep))[:MAX_SHOWN]] = True
        scan = keep_points(scan, keep)
    T_model_scan = np.linalg.inv(saved.T_scan_model).astype(np.float64)
    normals = None if scan.normals is None else transform_directions(T_model_scan, scan.normals)
    note = "" if len(scan.points) == points else f"The scan is shown with {len(scan.points)} of its {points} points."
    return replace(scan, points=transform_points(T_model_scan, scan.points), normals=normals), note
