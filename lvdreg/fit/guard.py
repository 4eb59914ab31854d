"""Is a refined body no worse than the one it began with? Both are held against the same scan.

Refinement follows the nearest surface. Where that is not the person's skin (a wall inside of a hollowed mesh, a chair,
the hem of a gown), it may end further from the scan than it began.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lvdreg.base.lengths import length_field
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.fit.correspond import PosedSurface, Target
from lvdreg.geometry.mesh import closest_point_on_mesh, on_rim


@dataclass(frozen=True)
class GuardConfig:
    """When a refined body is worse than its start.

    Chosen on twelve targets that mislead (walls inside, another person, a chair, noise, wrong axes: 0.02 to 0.24 more
    unexplained, 0.1 to 0.33 lost) and nine people in gowns and coats (0.03 more, 0.03 lost at most).
    """

    fits: float = length_field(0.02)
    """What lies within this of the other surface is explained, metres;"""
    apart: float = length_field(0.06)
    """and what lies further than this is not at all."""
    most_unexplained: float = 0.06
    """By so much may what is not explained grow, scan and body taken together: of two shares, their mean."""
    most_lost: float = 0.06
    """So much of what fitted well may be lost, whatever else was won."""
    points: int = 2000


@dataclass(frozen=True)
class Misfit:
    """How badly body and scan explain each other: from 0, explained, to 1, apart.

    Attributes:
        scan: (N,) of points of the scan.
        body: (M,) of vertices of the body.
    """

    scan: FloatArray
    body: FloatArray

    @property
    def mean(self) -> float:
        """Mean of the shares of both that are not explained."""
        return float(self.scan.mean() + self.body.mean()) / 2

    def lost(self, start: "Misfit") -> float:
        """Return which share of what the start explained is apart now: the larger one of scan and body."""
        pairs = ((self.scan, start.scan), (self.body, start.body))
        return max(float(np.mean((before == 0) * now)) for now, before in pairs)


def misfit(target: Target, surface: PosedSurface, vertices: IntArray, config: GuardConfig) -> Misfit:
    """Hold a body against a scan; which way surfaces face is not asked, for that is what misleads.

    Args:
        target: The scan.
        surface: The posed body.
        vertices: (M,) vertices that stand for it, evenly spread.
        config: Settings.
    """
    some = target.points[:: max(1, len(target.points) // config.points)]
    hit = closest_point_on_mesh(some, surface.vertices, surface.faces)
    scan = hit.distance
    if surface.rim is not None:
        # What lies beyond the end of the body is not its to explain.
        scan = np.where(on_rim(surface.rim, surface.faces[hit.face], hit.bary), 0.0, scan)
    body = cKDTree(target.points).query(surface.vertices[vertices])[0]
    return Misfit(*(np.clip((d - config.fits) / (config.apart - config.fits), 0, 1) for d in (scan, body)))


def is_worse(now: Misfit, start: Misfit, config: GuardConfig) -> bool:
    """Tell whether a body explains less of the scan than its start, or has lost what the start had right."""
    return now.mean - start.mean > config.most_unexplained or now.lost(start) > config.most_lost
