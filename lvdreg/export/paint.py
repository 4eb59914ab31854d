"""Colours of a scan baked onto the registered surface: a texture where the body has a UV layout, and vertex colours.

A place of the surface takes the colour of the nearest place of the scan, if that faces the same way and has this place,
about, as its own nearest on the surface: so a hand before the chest paints the hand alone. What nothing is seen of is
filled in: from the other side of the body, or from around.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from scipy.ndimage import distance_transform_edt, gaussian_filter

from lvdreg.base.shapes import BoolArray, FloatArray, IntArray, Points
from lvdreg.body.colours import extended_colours
from lvdreg.export.figure import Layout, Paint
from lvdreg.geometry.frames import transform_points
from lvdreg.geometry.mesh import closest_point_on_mesh, interpolate, mesh_normals, unit_rows
from lvdreg.geometry.raster import rasterise, seen_values
from lvdreg.result.read import SavedResult
from lvdreg.scan.model import Scan, read_scan
from lvdreg.scan.textured import Pictured, bilinear, read_pictured, to_linear, to_srgb

REACH = 0.015
"""The scan shows a place if it is no further from it than this, metres; a body under clothes is painted with them."""
REACH_UNDER_CLOTHES = 0.06
MIN_COSINE = 0.3
BACK_SHARE, BACK_SLACK = 0.5, 0.003
"""What is seen of a place must lie nearest to it, of all places of the surface, but for this much of its distance and
this much besides, metres: else it belongs to something that lies before it."""
NEIGHBOURS = 4
"""Points of a cloud whose colours are mixed."""
FEATHER_PX = 3.0
"""Over so many pixels what was seen passes into what was filled in."""


@runtime_checkable
class Colours(Protocol):
    """A coloured scan: where it is, and how it looks there."""

    def at(self, points: Points) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the nearest places of the scan (P, 3), their normals, zero where unknown, and linear colours."""
        ...


class Cloud:
    """A scan of coloured points (Q, 3)."""

    def __init__(self, points: FloatArray, normals: FloatArray | None, colours: FloatArray) -> None:
        """Take points and normals in the frame of the surface, and linear colours."""
        self.points, self.colours = points, colours
        self.normals = np.zeros_like(points) if normals is None else normals

    def at(self, points: Points) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what ``Colours`` says; the colour is that of a few points, the nearest counts most."""
        from scipy.spatial import cKDTree

        distance, found = cKDTree(self.points).query(points, k=NEIGHBOURS)
        weight = 1 / np.maximum(distance, 1e-6)
        mixed = np.einsum("pk,pkc->pc", weight / weight.sum(1, keepdims=True), self.colours[found])
        return self.points[found[:, 0]], self.normals[found[:, 0]], mixed


class Mesh:
    """A scan of triangles, coloured at the vertices or by pictures."""

    def __init__(self, points: FloatArray, faces: IntArray, colours: FloatArray | Pictured) -> None:
        """Take points in the frame of the surface, and linear colours of them, or the pictures."""
        self.points, self.faces, self.colours = points, faces, colours
        self.normals = mesh_normals(points, faces)

    def at(self, points: Points) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what ``Colours`` says."""
        near = closest_point_on_mesh(points, self.points, self.faces)
        normals = unit_rows(interpolate(self.normals, self.faces, near.face, near.bary))
        if isinstance(self.colours, np.ndarray):
            return near.points, normals, interpolate(self.colours, self.faces, near.face, near.bary)
        uv = torch.from_numpy(interpolate(self.colours.uv, self.faces, near.face, near.bary)).float()
        image_of = self.colours.image_of[self.faces[near.face, 0]]
        out = np.zeros((len(points), 3))
        for number, image in enumerate(self.colours.images):
            own = image_of == number
            out[own] = bilinear(image, uv[torch.from_numpy(own)]).numpy()
        return near.points, normals, out


def read_colours(path: Path, result: SavedResult) -> Colours | None:
    """Read a scan's colours into the frame of the registered surface, metres of the model; None where it has none.

    Raises:
        ScanError: it cannot be read.
    """
    T_model_scan = np.linalg.inv(result.T_scan_model)
    pictured = read_pictured(path)
    if pictured is not None:
        return Mesh(transform_points(T_model_scan, pictured.points), pictured.faces, pictured)
    return colours_of(read_scan(path), T_model_scan)


def colours_of(scan: Scan, T_model_scan: Float64[np.ndarray, "4 4"]) -> Colours | None:
    """Return the vertex colours of a scan in another frame; None where it has none."""
    if scan.colors is None:
        return None
    usable = np.isfinite(scan.points).all(1)
    points = transform_points(T_model_scan, np.where(usable[:, None], scan.points, 0.0))
    linear = to_linear(torch.from_numpy(scan.colors)).double().numpy()
    if scan.faces is not None and len(scan.faces):
        return Mesh(points, scan.faces[usable[scan.faces].all(1)], linear)
    turn = np.linalg.det(T_model_scan[:3, :3]) ** (-1 / 3) * T_model_scan[:3, :3]
    normals = None if scan.normals is None else (scan.normals @ turn.T)[usable]
    return Cloud(points[usable], normals, linear[usable])


def painted(result: SavedResult, colours: Colours, size: int) -> Paint:
    """Bake colours onto the registered surface.

    Args:
        result: The registered surface is in the frame of the colours.
        colours: Of the scan.
        size: Pixels of the texture's side; of bodies without a layout there is none.
    """
    data = result.body.data
    surface = _Surface(result, colours)
    linear, is_seen = surface.look(surface.vertices, surface.normals)
    filled = extended_colours(linear, is_seen, data).double().numpy()
    if data.vt is None or data.ft is None:
        return Paint(None, None, to_srgb(filled))
    layout = Layout(data.vt.astype(np.float64), data.ft)
    image, seen = _texture(surface, filled, layout, size)
    return Paint(image, seen, to_srgb(filled))


class _Surface:
    """The registered surface, looked at from the scan."""

    def __init__(self, result: SavedResult, colours: Colours) -> None:
        self.vertices, self.faces = result.surface, result.body.data.faces
        self.normals, self.colours = mesh_normals(self.vertices, self.faces), colours
        follows = result.params.displacements is not None
        self.reach = (REACH if follows else REACH_UNDER_CLOTHES) / result.body_scale

    def look(self, points: Points, normals: Points) -> tuple[FloatArray, BoolArray]:
        """Return linear colours of places on the surface (P, 3), and whether the scan shows them (P,)."""
        places, facing, linear = self.colours.at(points)
        distance = np.linalg.norm(points - places, axis=1)
        cosine = np.einsum("pi,pi->p", normals, facing)
        seen = (distance < self.reach) & ((cosine > MIN_COSINE) | ~facing.any(1))
        back = closest_point_on_mesh(places[seen], self.vertices, self.faces).points
        off = np.linalg.norm(back - points[seen], axis=1)
        seen[seen] = off < BACK_SHARE * distance[seen] + BACK_SLACK
        return linear, seen


def _texture(
    surface: _Surface, filled: FloatArray, layout: Layout, size: int
) -> tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S"]]:
    """Return the picture (S, S, 3) and where it was seen (S, S), 8 bit; outside of the layout it goes on."""
    upright = np.hstack([size * layout.uv * [1, -1] + [0, size], np.zeros((len(layout.uv), 1))])
    raster = rasterise(upright, layout.corners, size, size)
    at = raster.mask
    points, normals, under = (
        seen_values(raster, surface.faces, values) for values in (surface.vertices, surface.normals, filled)
    )
    linear, is_seen = surface.look(points, unit_rows(normals))
    seen = np.zeros((size, size))
    seen[at] = is_seen
    # Between both it changes softly, and never with what lies beyond a seam.
    inside = gaussian_filter(at.astype(float), FEATHER_PX)
    share = np.where(seen > 0, gaussian_filter(seen, FEATHER_PX) / np.maximum(inside, 1e-9), 0)[at]
    share = np.clip(2 * share - 1, 0, 1)[:, None]
    picture = np.zeros((size, size, 3))
    picture[at] = share * linear + (1 - share) * under
    rows, columns = distance_transform_edt(~at, return_distances=False, return_indices=True)
    return to_srgb(picture[rows, columns]), (255 * seen).astype(np.uint8)
