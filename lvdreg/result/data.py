"""What every registration found, of a scan or of a photo."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from lvdreg.base.provenance import FileHashes, InputFile
from lvdreg.base.shapes import Faces, Vertices
from lvdreg.result.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class ResultData:
    """What results of scans and of photos have in common; frame and unit of the vertices are theirs to say.

    Attributes:
        name: Name of the scan or the photo.
        model: Name of the body or hand; with ``+d`` where it has displacements.
        vertices: (V, 3) final surface.
        faces: (F, 3) triangles.
        joints: (J, 3) of the body, under the clothes.
        params: By smplx's names: ``betas``, ``global_orient`` (3,), ``body_pose``, ``left_hand_pose``,
            ``right_hand_pose`` (of a hand ``hand_pose`` instead of these three), ``transl``, ``scale`` and, for ``+d``,
            ``displacements`` (V, 3). Rotation vectors in radians, lengths in metres.
        sigma_mm: (V,) calibrated one-sigma uncertainty, millimetres at true body size.
        metrics: Numbers by name; the name ends in the unit.
        timings: Seconds by stage; together all the time from the call to the result.
        settings: What the run was asked for.
        warnings: What a user should know, one plain line each.
        verdict: ``good``, ``check`` or ``failed``.
        reason: Why, in one plain line.
        steps: What was found on the way: vertices (V, 3) as the network has them ("descent") and of the body that was
            fitted to those ("fit").
        source: The file that the scan or the photo was read from; None of arrays.
        assets: SHA-256 of every file of weights and of models, and of a mask that was given, by name: all that had a
            part in this.
    """

    name: str
    model: str
    vertices: Vertices = field(repr=False)
    faces: Faces = field(repr=False)
    joints: Float64[np.ndarray, "J 3"] = field(default_factory=lambda: np.zeros((0, 3)), repr=False)
    params: dict[str, NDArray[Any]] = field(repr=False)
    sigma_mm: Float64[np.ndarray, " V"] = field(repr=False)
    metrics: dict[str, float]
    timings: dict[str, float]
    settings: dict[str, Any] = field(repr=False)
    warnings: tuple[str, ...]
    verdict: Verdict
    reason: str
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    source: InputFile | None = None
    assets: FileHashes = field(default_factory=dict, repr=False)
