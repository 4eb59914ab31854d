"""What of the things that were guessed in a scan lies on the body after all, once it is known where the body is."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.spatial import cKDTree

from lvdreg.base.lengths import length_field
from lvdreg.base.shapes import BoolArray, FloatArray, Points, Transform
from lvdreg.fit.correspond import PosedSurface
from lvdreg.geometry.frames import transform_directions, transform_points
from lvdreg.geometry.mesh import closest_point_on_mesh
from lvdreg.scan.clean import keep_points, orient_cloud
from lvdreg.scan.model import Scan
from lvdreg.scan.segment import link
from lvdreg.scan.things import Things


@dataclass(frozen=True)
class LeaveOutConfig:
    """What is the body's; lengths in metres, of a person. Chosen as those of ``ThingConfig`` were."""

    near: float = length_field(0.05)
    """A thing of which half lies this near to the body, and faces as it does, is the person's: flat clothes."""
    skin: float = length_field(0.015)
    """Of other things only what lies so near, and faces so, stays."""
    loose: float = length_field(0.08)
    crumb: float = 0.05
    """Chunks further than this from the body that hang on a thing go with it, if they are less than this share of the
    scan: more of it may be a robe."""
    min_cosine: float = 0.3
    """Surfaces face alike whose normals agree by more."""


def leave_out(
    scan: Scan,
    points: Points,
    normals: Float64[np.ndarray, "P 3"],
    things: Things,
    surface: PosedSurface,
    T_world_scan: Transform,
    config: LeaveOutConfig,
    has_normals: bool = True,
) -> tuple[Scan, FloatArray, FloatArray]:
    """Take things out of a scan, and out of the points that were sampled from it.

    Args:
        scan: The cleaned scan.
        points: (P, 3) sampled from it, scan frame.
        normals: (P, 3) of them, zero where unknown.
        things: What was guessed.
        surface: The body about where it lies, world frame.
        T_world_scan: Between the frames.
        config: Settings.
        has_normals: Whether normals came with the scan; else those of a cloud are estimated anew.

    Returns:
        Scan, points and normals without; the scan says so in its notes. All of them where that would be nothing.
    """
    thing = things.at(points)
    directions = transform_directions(T_world_scan, normals)
    out = not_the_body(transform_points(T_world_scan, points), directions, thing, surface, config)
    out |= _crumbs(points, out, things.reach, transform_points(T_world_scan, points), surface, config)
    keep_vertices = ~out[cKDTree(points).query(scan.points)[1]]
    if not out.any() or out.mean() > 0.95 or not keep_vertices.any():
        return scan, points, normals
    rest, points, normals = keep_points(scan, keep_vertices), points[~out], normals[~out]
    if rest.faces is None:
        # Which way the normals of a cloud face was found with the things in it.
        rest = orient_cloud(rest if has_normals else replace(rest, normals=None))
        assert rest.normals is not None
        normals = rest.normals[cKDTree(rest.points).query(points)[1]]
    note = f"left out flat, box-like or long things that touch the body ({100 * out.mean():.0f} % of the scan)"
    return replace(rest, notes=(*scan.notes, note)), points, normals


def _crumbs(
    points: Points, out: BoolArray, reach: float, points_world: Points, surface: PosedSurface, config: LeaveOutConfig
) -> BoolArray:
    """Mark small chunks (P,) that hang on what is left out and lie away from the body: what no shape explained."""
    crumbs = np.zeros(len(points), bool)
    rest = np.flatnonzero(~out)
    if not out.any() or not len(rest):
        return crumbs
    hit = closest_point_on_mesh(points_world[rest], surface.vertices, surface.faces)
    away = rest[hit.distance > config.loose]
    if not len(away):
        return crumbs
    chunk = link(points[away], reach)
    apart = np.full(int(chunk.max()) + 1, np.inf)
    np.minimum.at(apart, chunk, cKDTree(points[out]).query(points[away])[0])
    crumbs[away] = ((apart < reach) & (np.bincount(chunk) < config.crumb * len(points)))[chunk]
    return crumbs


def not_the_body(
    points: Points,
    normals: Float64[np.ndarray, "P 3"],
    thing: Int64[np.ndarray, " P"],
    surface: PosedSurface,
    config: LeaveOutConfig,
) -> Bool[np.ndarray, " P"]:
    """Tell which points (P,) are of things: not those of a thing that half lies on the body, nor those on its skin.

    Args:
        points: (P, 3) world frame.
        normals: (P, 3) unit, zero where unknown.
        thing: (P,) the thing that each may belong to, from 0; -1: none.
        surface: The body.
        config: Settings.
    """
    out = np.zeros(len(thing), bool)
    index = np.flatnonzero(thing >= 0)
    if not len(index):
        return out
    hit = closest_point_on_mesh(points[index], surface.vertices, surface.faces)
    own = surface.normals[surface.faces[hit.face]]
    cosine = np.einsum("pi,pji,pj->p", normals[index], own, hit.bary)
    alike = (cosine > config.min_cosine) | ~normals[index].any(1)
    number = thing[index]
    on_body = np.bincount(number, alike & (hit.distance < config.near)) / np.maximum(np.bincount(number), 1)
    out[index] = (on_body < 0.5)[number] & ~(alike & (hit.distance < config.skin))
    return out
