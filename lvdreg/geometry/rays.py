"""Straight lines and what they meet first: libigl's bounding-volume tree, double precision, the same on every run."""

import numpy as np
from jaxtyping import Float64, Int64

from lvdreg.base.shapes import Faces, Points

CLEARANCE = 1e-6
"""Lines begin so far off their start, as a share of the mesh's extent: they do not meet the face they start on."""


class RayCaster:
    """A mesh (P, 3), (F, 3) made ready for rays."""

    def __init__(self, points: Points, faces: Faces) -> None:
        import igl  # late, as ``nearest`` does: networks train without it

        self.points, self.faces = np.ascontiguousarray(points), np.ascontiguousarray(faces)
        self.clearance = CLEARANCE * float(np.ptp(points, axis=0).max())
        self._tree = igl.AABB()
        self._tree.init(self.points, self.faces)

    def first_hits(
        self, starts: Float64[np.ndarray, "N 3"], directions: Float64[np.ndarray, "N 3"]
    ) -> tuple[Int64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
        """Return the face (N,) that each ray meets first, -1 where it meets none, and how far away (N,).

        Args:
            starts: (N, 3).
            directions: (N, 3) unit.
        """
        found = self._tree.intersect_ray_first(
            self.points, self.faces, starts + self.clearance * directions, directions
        )
        return np.asarray(found[0], np.int64), np.asarray(found[1], np.float64)


def sphere(count: int) -> Float64[np.ndarray, "count 3"]:
    """Return evenly spread unit vectors (Fibonacci spiral), (count, 3)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.arange(count) * np.pi * (3 - 5**0.5)
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
