"""What lies nearest, for many scans and bodies at once, in torch on any device.

A GPU compares everything with everything sooner than it walks through a tree; a CPU does not, and takes the trees of
geometry/nearest.py where they are installed. Both are exact, in double precision.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from lvdreg.geometry.mesh import closest_point_on_mesh

ENTRIES_AT_ONCE = 1 << 27
"""Distances are computed in pieces of so many, a gigabyte."""
FIRST_CANDIDATES, MORE = 12, 8
"""So many faces are looked at closely first; where another might be nearer, so many times more."""


@dataclass(frozen=True)
class SurfaceHits:
    """Closest points of meshes: ``face`` (B, Q), ``bary`` (B, Q, 3) on it, and ``distance`` (B, Q)."""

    face: Int[Tensor, "B Q"]
    bary: Float[Tensor, "B Q 3"]
    distance: Float[Tensor, "B Q"]


def squared_distances(queries: Float[Tensor, "B Q D"], points: Float[Tensor, "B P D"]) -> Float[Tensor, "B Q P"]:
    """Return squared distances of all to all; about a common middle, so that little is lost."""
    middle = points.mean(1, keepdim=True)
    a, b = queries - middle, points - middle
    product = torch.baddbmm(b.square().sum(-1)[:, None].expand(-1, a.shape[1], -1), a, b.mT, alpha=-2)
    return product.add_(a.square().sum(-1)[..., None]).clamp_min_(0)


def nearest_rows(queries: Float[Tensor, "B Q D"], points: Float[Tensor, "B P D"]) -> Int[Tensor, "B Q"]:
    """Return which of the points (B, P, D) is nearest to each of the queries (B, Q, D)."""
    if queries.device.type == "cpu":
        from scipy.spatial import cKDTree

        pairs = zip(queries.numpy(), points.numpy(), strict=True)
        return torch.from_numpy(np.stack([cKDTree(own).query(some)[1] for some, own in pairs]))
    return nearest_of_all(queries, points)


def nearest_of_all(queries: Float[Tensor, "B Q D"], points: Float[Tensor, "B P D"]) -> Int[Tensor, "B Q"]:
    """Return the same as ``nearest_rows``, by comparing all with all."""
    step = max(1, ENTRIES_AT_ONCE // (len(queries) * points.shape[1]))
    return torch.cat([squared_distances(some, points).argmin(2) for some in queries.split(step, 1)], 1)


def rows_of(values: Shaped[Tensor, "B P *C"], index: Int[Tensor, "B *Q"]) -> Tensor:
    """Return the rows (B, Q..., C...) of each of a batch that an index of the same batch names."""
    batch = torch.arange(len(values), device=values.device).view(-1, *[1] * (index.dim() - 1))
    return values[batch, index]


def closest_on_triangles(
    points: Float[Tensor, "*B 3"], triangles: Float[Tensor, "*B 3 3"]
) -> tuple[Float[Tensor, "*B 3"], Float[Tensor, " *B"]]:
    """Return barycentric coordinates of the closest point of a triangle to each point, and the squared distance.

    Inside, where the point's projection is; else the closest point of the three edges.
    """
    a, b, c = triangles.unbind(-2)
    u, v, w = b - a, c - a, points - a
    uu, uv, vv, wu, wv = ((x * y).sum(-1) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    area = uu * vv - uv * uv
    known = torch.where(area > 0, area, 1.0)
    s, t = (vv * wu - uv * wv) / known, (uu * wv - uv * wu) / known
    inside = (area > 0) & (s >= 0) & (t >= 0) & (s + t <= 1)
    best = torch.stack([1 - s - t, s, t], -1)
    squared = torch.where(inside, (w - s[..., None] * u - t[..., None] * v).square().sum(-1), torch.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start = triangles[..., i, :]
        edge, off = triangles[..., j, :] - start, points - start
        length = edge.square().sum(-1)
        along = ((off * edge).sum(-1) / torch.where(length > 0, length, 1.0)).clamp(0, 1)
        apart = (off - along[..., None] * edge).square().sum(-1)
        bary = torch.zeros_like(best)
        bary[..., i], bary[..., j] = 1 - along, along
        nearer = apart < squared
        best, squared = torch.where(nearer[..., None], bary, best), torch.where(nearer, apart, squared)
    return best, squared


def closest_on_meshes(
    points: Float[Tensor, "B Q 3"], vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"]
) -> SurfaceHits:
    """Return the closest points of meshes with the same faces."""
    if points.device.type == "cpu":
        try:
            hits = [
                closest_point_on_mesh(some, own, faces.numpy())
                for some, own in zip(points.numpy(), vertices.numpy(), strict=True)
            ]
        except ImportError:  # On machines that are lent bare.
            return closest_of_all(points, vertices, faces)
        names = ("face", "bary", "distance")
        return SurfaceHits(*(torch.from_numpy(np.stack([getattr(hit, name) for hit in hits])) for name in names))
    return closest_of_all(points, vertices, faces)


def closest_of_all(
    points: Float[Tensor, "B Q 3"], vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"]
) -> SurfaceHits:
    """Return the same as ``closest_on_meshes``, by comparing all with all.

    No point of a face is nearer than its middle less its radius: faces are looked at in that order, until none that is
    left can be nearer.
    """
    corners = vertices[:, faces]
    middles = corners.mean(2)
    radii = (corners - middles[:, :, None]).norm(dim=-1).amax(2)
    step = max(1, ENTRIES_AT_ONCE // (len(points) * len(faces)))
    parts = [_closest(some, corners, middles, radii) for some in points.split(step, 1)]
    return SurfaceHits(*(torch.cat(x, 1) for x in zip(*parts, strict=True)))


def _closest(
    points: Float[Tensor, "B Q 3"],
    corners: Float[Tensor, "B F 3 3"],
    middles: Float[Tensor, "B F 3"],
    radii: Float[Tensor, "B F"],
) -> tuple[Int[Tensor, "B Q"], Float[Tensor, "B Q 3"], Float[Tensor, "B Q"]]:
    least = squared_distances(points, middles).sqrt_().sub_(radii[:, None])
    batch = torch.arange(len(points), device=points.device)[:, None].expand(points.shape[:2]).flatten()
    least, flat, num_faces = least.flatten(0, 1), points.flatten(0, 1), corners.shape[1]
    face = torch.zeros(len(flat), dtype=torch.long, device=points.device)
    bary, squared = torch.zeros_like(flat), torch.full_like(flat[:, 0], torch.inf)
    count, open_rows = FIRST_CANDIDATES, torch.arange(len(flat), device=points.device)
    while len(open_rows):
        count = min(count, num_faces)
        bound, candidate = least[open_rows].topk(min(count + 1, num_faces), 1, largest=False)
        own = corners[batch[open_rows, None], candidate[:, :count]]
        found, apart = closest_on_triangles(flat[open_rows, None].expand(-1, count, -1), own)
        nearest = apart.argmin(1, keepdim=True)
        squared[open_rows] = apart.gather(1, nearest)[:, 0]
        face[open_rows] = candidate.gather(1, nearest)[:, 0]
        bary[open_rows] = found.gather(1, nearest[..., None].expand(-1, -1, 3))[:, 0]
        # One nanometre is left for rounding.
        sure = (bound[:, -1] + 1e-9 > squared[open_rows].sqrt()) | (count == num_faces)
        open_rows, count = open_rows[~sure], count * MORE
    shape = points.shape[:2]
    return face.view(shape), bary.view(*shape, 3), squared.sqrt().view(shape)
