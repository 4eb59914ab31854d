"""One person's motion: the same shape in every frame, poses, and how sure they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from lvdreg.base.provenance import FileHashes
from lvdreg.base.shapes import Transform


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A body model registered to a sequence of scans; the model's frame is metres, Y up, and the same in all frames.

    Attributes:
        name: Of the first scan.
        model: Name of the body.
        fps: Frames a second.
        frames: Names of the scans.
        pose: (N, J, 3) rotation vectors from the body's rest pose, radians, smoothed.
        transl: (N, 3) metres of the model, smoothed.
        betas: (K,) the shape of all frames.
        joints: (N, J, 3) metres of the model.
        sigma_mm: (N,) median over the body of its one-sigma uncertainty: that of a frame by itself, which the key
            frames have, and what the smoothing leaves open of this one, by the refinements' posteriors.
        residual_mm: (N,) mean distance from the scan to the body before smoothing; NaN where nobody was found.
        how: Of each frame: registered "alone", followed "forwards" or "backwards", "found again" by the network, or
            "filled" in from its neighbours.
        raw_pose: (N, J, 3) as ``pose``, not smoothed; any where nobody was found.
        raw_transl: (N, 3) as ``transl``, likewise.
        T_scan_model: (4, 4) from the model to the scans' frame and unit.
        unit: Of the scans.
        body_scale: What lengths of the model are multiplied by to be true ones.
        timings: Seconds by stage.
        settings: What was asked for.
        assets: SHA-256 of every file that had a part.
    """

    name: str
    model: str
    fps: float
    frames: tuple[str, ...]
    pose: Float64[np.ndarray, "N J 3"] = field(repr=False)
    transl: Float64[np.ndarray, "N 3"] = field(repr=False)
    betas: Float64[np.ndarray, " K"] = field(repr=False)
    joints: Float64[np.ndarray, "N J 3"] = field(repr=False)
    sigma_mm: Float64[np.ndarray, " N"] = field(repr=False)
    residual_mm: Float64[np.ndarray, " N"] = field(repr=False)
    how: tuple[str, ...] = field(repr=False)
    raw_pose: Float64[np.ndarray, "N J 3"] = field(repr=False)
    raw_transl: Float64[np.ndarray, "N 3"] = field(repr=False)
    T_scan_model: Transform = field(repr=False)
    unit: str = "m"
    body_scale: float = 1.0
    timings: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    assets: FileHashes = field(default_factory=dict)

    @property
    def velocities(self) -> Float64[np.ndarray, "N J 3"]:
        """(N, J, 3) of the joints, metres a second at true size, by central differences."""
        return np.asarray(np.gradient(self.joints, axis=0) * self.fps * self.body_scale)
