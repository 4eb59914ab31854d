"""What one registration found: everything in the scan's own frame and unit, and how sure it is."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lvdreg.geometry.frames import scale_of
from lvdreg.result.verdict import Verdict
from lvdreg.scan.model import Scan


@dataclass(frozen=True)
class RegistrationData:
    """A body model registered to a scan.

    Attributes:
        name: Name of the scan.
        model: ``anny`` or ``anny-hand`` (the body alone), or either with ``+d`` (with displacements).
        scan: The cleaned scan, scan frame and unit.
        vertices: (V, 3) final surface, scan frame and unit; with displacements for ``+d``.
        body_vertices: (V, 3) the body under the clothes, scan frame and unit.
        faces: (F, 3) triangles of both surfaces.
        params: ``betas``, ``global_orient`` (3,), ``body_pose``, ``left_hand_pose``, ``right_hand_pose`` (of a hand
            ``hand_pose`` instead of these three), ``transl``, ``scale`` and, for ``+d``, ``displacements`` (V, 3).
            Rotation vectors in radians, lengths in metres, in the model's own frame (Y up); those of a left hand are of
            the mirror image (x to -x) of the model.
        sigma_mm: (V,) calibrated one-sigma uncertainty, millimetres at true body size.
        T_scan_model: (4, 4) similarity that takes the posed model, in metres, to the scan frame and unit.
        unit: Unit of the scan's coordinates.
        up: Axis of the scan that points up; empty of a hand, which has none.
        unit_is_guess: Whether the size was assumed, not known.
        metrics: Numbers by name; the name ends in the unit.
        timings: Seconds by stage.
        settings: What the run was asked for.
        warnings: What a user should know, one plain line each.
        verdict: ``good``, ``check`` or ``failed``.
        reason: Why, in one plain line.
        side: Which hand, ``left`` or ``right``; None of a body.
        side_confidence: How sure the side is, 0 to 1; 1 when it was given. None of a body.
        joints: (J, 3) of the body under the clothes, scan frame and unit.
        steps: What was found on the way, scan frame and unit: vertices (V, 3) as the network has them ("descent") and
            of the body that was fitted to those ("fit"), and that body's joints (J, 3; "fit_joints").
    """

    name: str
    model: str
    scan: Scan
    vertices: NDArray[np.float64]
    body_vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    params: dict[str, NDArray[Any]]
    sigma_mm: NDArray[np.float64]
    T_scan_model: NDArray[np.float64]
    unit: str
    up: str
    unit_is_guess: bool
    metrics: dict[str, float]
    timings: dict[str, float]
    settings: dict[str, Any]
    warnings: tuple[str, ...]
    verdict: Verdict
    reason: str
    side: Literal["left", "right"] | None = None
    side_confidence: float | None = None
    joints: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def sigma(self) -> NDArray[np.float64]:
        """(V,) one-sigma uncertainty in the scan's own unit."""
        return self.sigma_mm * (scale_of(self.T_scan_model) / 1000)

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
