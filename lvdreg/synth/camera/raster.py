"""What the pixels of cameras see of surfaces, for batches: the z-buffer of geometry/raster.py behind a camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.geometry.raster import FLAT, Grid, Screen, look
from lvdreg.synth.camera.view import Cameras
from lvdreg.synth.surface import Outer

NEAREST = 0.05
"""Faces with a corner nearer to the camera's plane than this, metres, are dropped."""


@dataclass(frozen=True)
class BatchRaster:
    """What each pixel sees.

    Attributes:
        face: Number of the nearest face, -1 where there is none.
        bary: Weights of its corners, perspective-correct; zero where nothing is seen.
        depth: Along the camera's axis from the anchor, metres; infinite where nothing is seen.
        front: Whether the face is seen from outside (counter-clockwise).
    """

    face: Int[Tensor, "B S S"]
    bary: Float[Tensor, "B S S 3"]
    depth: Float[Tensor, "B S S"]
    front: Bool[Tensor, "B S S"]


@torch.no_grad()
def rasterise(outer: Outer, cameras: Cameras, size: int, cull: bool = False) -> BatchRaster:
    """Find what every pixel centre of a square picture sees.

    Args:
        outer: Surfaces, world, metres; faces that are not kept are not seen.
        cameras: One for each sample.
        size: Width and height of the picture, pixels.
        cull: Leave out faces seen from inside.

    Returns:
        The nearest face of every pixel, and of equally near ones the first.
    """
    batch = len(outer.vertices)
    seen = look(place(outer, cameras, cull), Grid(size))
    shape = (batch, size, size)

    def spread(values: Tensor, empty: float) -> Tensor:
        out = values.new_full((batch * size * size, *values.shape[1:]), empty)
        out[seen.pixel] = values
        return out.view(*shape, *values.shape[1:])

    kind = outer.vertices.dtype
    face, front = spread(seen.face, -1), spread(seen.front, 0)
    return BatchRaster(face, spread(seen.bary.to(kind), 0.0), spread(seen.depth.to(kind), torch.inf), front)


def place(outer: Outer, cameras: Cameras, cull: bool = False) -> Screen:
    """Bring triangles to the screen, in float64; the arguments are those of ``rasterise``."""
    cameras = cameras.double()
    points = cameras.project(outer.vertices.double())
    stretch = 1 + cameras.perspective[:, None] * points[..., 2]
    near = (stretch <= NEAREST * cameras.perspective[:, None]) | ~torch.isfinite(points).all(-1)
    x, y = (points[..., i].index_select(1, outer.faces.flatten()).unflatten(1, (-1, 3)) for i in (0, 1))
    area = (x[..., 1] - x[..., 0]) * (y[..., 2] - y[..., 0]) - (y[..., 1] - y[..., 0]) * (x[..., 2] - x[..., 0])
    # Rows run downwards: what is counter-clockwise to the eye has a negative area.
    keep = outer.face_keep & ((area < -FLAT) if cull else (area.abs() > FLAT))
    keep &= ~near.index_select(1, outer.faces.flatten()).unflatten(1, (-1, 3)).any(-1)
    sample, face = keep.nonzero(as_tuple=True)
    corners = outer.faces.index_select(0, face) + sample[:, None] * points.shape[1]
    table = torch.stack([*points.unbind(-1), stretch])
    return Screen(table.flatten(1), sample, face, corners, (area < 0)[keep], len(points))
