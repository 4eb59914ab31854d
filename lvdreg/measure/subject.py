"""Whom to measure: what a result folder says of a person or a hand, with landmarks in the frame of the scan."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from lvdreg.base.errors import RegistrationError, ScanError
from lvdreg.base.files import read_bytes
from lvdreg.base.shapes import FloatArray
from lvdreg.descent.boxes import METRES_PER_UNIT
from lvdreg.geometry.frames import scale_of, transform_points
from lvdreg.geometry.mesh import closest_point_on_mesh, nearest_neighbours
from lvdreg.measure.measured import Measured, take
from lvdreg.measure.model import standing_model
from lvdreg.measure.shape import Shape, shape_under
from lvdreg.result.read import SavedResult, original_scan, read_result
from lvdreg.scan.model import Scan
from lvdreg.scan.readers.ply import vertex_columns

MAX_PLY_BYTES = 1 << 30
NEAR_MM = 20.0
"""A landmark farther from the scan than this, and than its sigma, is not on what was scanned."""
SCAN_TO_BODY, SCAN_TO_SURFACE = "point_to_surface_scan_to_body_mm", "point_to_surface_scan_to_registered_mm"


@dataclass(frozen=True)
class Landmark:
    """A landmark in the frame and the unit of the scan.

    Attributes:
        name: CAESAR's, where it has one.
        surface: (3,) on the registered surface.
        body: (3,) on the body under the clothes.
        scan: (3,) the nearest point of the scan; None where the scan is not at hand, or shows nothing there.
        sigma_mm: One standard deviation at true size.
    """

    name: str
    surface: Float64[np.ndarray, " 3"]
    body: Float64[np.ndarray, " 3"]
    scan: Float64[np.ndarray, " 3"] | None
    sigma_mm: float

    @property
    def place(self) -> Float64[np.ndarray, " 3"]:
        """Where it is (3,): on the scan, or else on the registered surface."""
        return self.surface if self.scan is None else self.scan


@dataclass(frozen=True)
class Subject:
    """A registered person or hand.

    Attributes:
        saved: What its folder says.
        sigma_mm: (V,) one sigma of each vertex of the surface, millimetres at true size.
        descent_sigma_mm: (V,) the same of the network's vertices.
    """

    saved: SavedResult
    sigma_mm: Float64[np.ndarray, " V"]
    descent_sigma_mm: Float64[np.ndarray, " V"]

    @property
    def model(self) -> str:
        """Name of the model, without ``+d``."""
        return self.saved.body.data.name

    @property
    def unit(self) -> str:
        """Unit of the scan."""
        scan = self.saved.report.get("scan", {})
        return str(scan.get("unit", "none"))

    @property
    def verdict(self) -> str:
        """That of the result."""
        return str(self.saved.report.get("verdict", ""))

    @property
    def size_is_guess(self) -> bool:
        """Whether the size is not known from the scan's unit."""
        scan = self.saved.report.get("scan", {})
        return bool(scan.get("unit_is_guess", True)) or self.unit == "none"

    def measured(self, bare: bool = False, height: float | None = None) -> Measured:
        """Take all measures.

        Args:
            bare: Whether nothing loose is worn.
            height: Known stature, metres; of hands none.
        """
        return take(self.model, self.shape(bare), self.saved.body_scale, height)

    def shape(self, bare: bool = False) -> Shape:
        """Return the shape under the surface; see ``shape_under``."""
        params, metrics = self.saved.params, self.saved.report.get("metrics")
        moved = None if params.displacements is None else params.displacements.double().numpy()
        far, near = (
            _number(metrics.get(name)) if isinstance(metrics, dict) else 0.0 for name in (SCAN_TO_BODY, SCAN_TO_SURFACE)
        )
        return shape_under(
            standing_model(self.model),
            params.betas.double().numpy(),
            moved,
            self.descent_sigma_mm / (1000 * self.saved.body_scale),
            far - (near if moved is not None else 0.0),
            bare or self.saved.side is not None,
        )

    @torch.no_grad()
    def landmarks(self, scan: Scan | None = None) -> tuple[Landmark, ...]:
        """Return all landmarks, in the frame and unit of the scan.

        Args:
            scan: As it was registered; None: they are not projected.
        """
        model, saved = standing_model(self.model), self.saved
        posed = saved.body(replace(saved.params, displacements=None)).vertices.double().numpy()
        in_scan = [transform_points(saved.T_scan_model, model.places.points(v)) for v in (saved.surface, posed)]
        sigma = np.sqrt(np.einsum("pi,pi->p", model.places.weights, self.sigma_mm[model.places.corners] ** 2))
        found, far = in_scan[0], np.full(len(sigma), np.inf)
        if scan is not None:
            found, far = _projected(in_scan[0], scan)
            far = far * 1000 * saved.body_scale / scale_of(saved.T_scan_model)
        on_scan = far < np.maximum(NEAR_MM, sigma)
        return tuple(
            Landmark(name, in_scan[0][i], in_scan[1][i], found[i] if on_scan[i] else None, float(sigma[i]))
            for i, name in enumerate(model.names)
        )

    def scan(self) -> Scan | None:
        """Read the scan that was registered, if it still is where it was, unchanged; None otherwise."""
        try:
            return original_scan(self.saved.report)
        except (OSError, ScanError):
            return None

    @property
    def mm(self) -> float:
        """Millimetres at true size of one unit of the scan's coordinates."""
        return 1000 * METRES_PER_UNIT.get(self.unit, self.saved.body_scale / scale_of(self.saved.T_scan_model))


def read_subject(folder: Path) -> Subject:
    """Read a result folder of ``lvdreg register`` or ``lvdreg hands``.

    Raises:
        RegistrationError: a file of it is missing or damaged, or it is of a photo.
        BodyError: its body model is not there.
    """
    saved = read_result(folder)
    if "photo" in saved.report:
        raise RegistrationError(f"{folder}: expected the result of a scan, got that of a photo; its size is a guess")
    path = folder / "registered.ply"
    try:
        columns = vertex_columns(read_bytes(path, MAX_PLY_BYTES))
    except (ScanError, OSError):
        columns = {}
    found = [np.asarray(columns.get(name, ()), np.float64) for name in ("sigma", "sigma_descent")]
    if any(len(sigma) != len(saved.surface) or not np.isfinite(sigma).all() for sigma in found):
        raise RegistrationError(f"{path}: expected sigma and sigma_descent of every vertex; register the scan again")
    subject = Subject(saved, *found)
    return replace(subject, sigma_mm=subject.mm * found[0], descent_sigma_mm=subject.mm * found[1])


def _projected(points: FloatArray, scan: Scan) -> tuple[FloatArray, FloatArray]:
    """Return the nearest points (P, 3) of a scan and how far they are (P,)."""
    if scan.faces is not None and len(scan.faces):
        at = closest_point_on_mesh(points, scan.points, scan.faces)
        return at.points, at.distance
    distance, index = nearest_neighbours(points, scan.points)
    return scan.points[index], distance


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
