"""What one registration found: everything in the scan's own frame and unit, and how sure it is."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from lvdreg.base.shapes import Transform, Vertices
from lvdreg.fit.errors import ErrorEvidence
from lvdreg.geometry.frames import scale_of
from lvdreg.result.data import ResultData
from lvdreg.scan.model import Scan


@dataclass(frozen=True, kw_only=True)
class RegistrationData(ResultData):
    """A body model registered to a scan; vertices, joints and steps are in the scan's own frame and unit.

    The final surface has displacements for ``+d``. Parameters are in the model's own frame (Y up); those of a left hand
    are of the mirror image (x to -x) of the model. ``steps`` also has the joints (J, 3) of the body that was fitted to
    the network's vertices ("fit_joints").

    Attributes:
        scan: The cleaned scan.
        body_vertices: (V, 3) the body under the clothes.
        sigma_across_mm: (V,) the part of ``sigma_mm`` across the surface.
        sigma_along_mm: (V,) its part along the surface: how far a vertex may have slipped.
        body_sigma_mm: (V,) as ``sigma_mm``, of ``body_vertices``.
        descent_sigma_mm: (V,) as ``sigma_mm``, of the network's vertices, before anything was fitted.
        T_scan_model: (4, 4) similarity that takes the posed model, in metres, to the scan frame and unit.
        unit: Unit of the scan's coordinates.
        up: Axis of the scan that points up; empty of a hand, which has none.
        unit_is_guess: Whether the size was assumed, not known.
        side: Which hand, ``left`` or ``right``; None of a body.
        side_confidence: How sure the side is, 0 to 1; 1 when it was given. None of a body.
        shape_with: Names of the other scans that have the same betas, to the last bit; see ``register_scans``.
        part_sigma_mm: Median of ``body_sigma_mm`` by part of the body, or of the hand.
        evidence: What ``body_sigma_mm`` was told from; None where the body was not refined.
    """

    scan: Scan = field(repr=False)
    body_vertices: Vertices = field(repr=False)
    sigma_across_mm: Float64[np.ndarray, " V"] = field(repr=False)
    sigma_along_mm: Float64[np.ndarray, " V"] = field(repr=False)
    body_sigma_mm: Float64[np.ndarray, " V"] = field(repr=False)
    descent_sigma_mm: Float64[np.ndarray, " V"] = field(repr=False)
    T_scan_model: Transform
    unit: str
    up: str
    unit_is_guess: bool
    side: Literal["left", "right"] | None = None
    side_confidence: float | None = None
    shape_with: tuple[str, ...] = ()
    part_sigma_mm: dict[str, float] = field(default_factory=dict)
    evidence: ErrorEvidence | None = field(default=None, repr=False)

    @property
    def sigma(self) -> Float64[np.ndarray, " V"]:
        """(V,) one-sigma uncertainty in the scan's own unit."""
        return self.sigma_mm * self.units_per_mm

    @property
    def units_per_mm(self) -> float:
        """What a millimetre of the person is in the scan's own unit."""
        return scale_of(self.T_scan_model) / (1000 * self.metrics.get("body_scale", 1.0))

    @property
    def headline(self) -> dict[str, Any]:
        """What stands in the summary of a batch."""
        return {
            "error_mm": self.metrics.get("point_to_surface_scan_to_registered_mm"),
            "unit": f"{self.unit}?" if self.unit_is_guess else self.unit,
            "up": self.up if self.side is None else None,
            "side": self.side,
            "side_confidence": self.side_confidence,
        }
