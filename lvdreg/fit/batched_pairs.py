"""Which point of each scan belongs to which point of its body, many at once, in torch: ``correspond`` in batch.

Pairs are those of fit/correspond.py, which stays the oracle, of closed bodies; sought by comparing all with all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.fit.correspond import ScanIndex
from lvdreg.geometry.batched import closest_on_meshes, nearest_rows, rows_of
from lvdreg.geometry.mesh import vertex_normals

FAR_AWAY = 1e3
"""Metres: where points are put that fill up scans with fewer."""


@dataclass(frozen=True)
class Samples:
    """Points of scans made ready for pairing, those of ``ScanIndex``; filled up where scans have fewer.

    Attributes:
        points, normals: (B, P, 3).
        known: (B, P) whether there is a normal.
        there: (B, P) whether there is a point.
        on_rim: (B, P) whether it lies beside a cut.
        spacing: (B,) metres between them.
        reach: Length that turns normals into coordinates.
    """

    points: Float[Tensor, "B P 3"]
    normals: Float[Tensor, "B P 3"]
    known: Bool[Tensor, "B P"]
    there: Bool[Tensor, "B P"]
    on_rim: Bool[Tensor, "B P"]
    spacing: Float[Tensor, " B"]
    reach: float

    @classmethod
    def of_scans(cls, indices: Sequence[ScanIndex], like: Tensor) -> "Samples":
        """Stack those of several scans."""
        most = max(len(index.points) for index in indices)

        def stacked(arrays: Sequence[np.ndarray], fill: float | bool) -> Tensor:
            filled = [np.concatenate([a, np.full((most - len(a), *a.shape[1:]), fill, a.dtype)]) for a in arrays]
            return torch.as_tensor(np.stack(filled), device=like.device)

        return cls(
            stacked([index.points for index in indices], FAR_AWAY).to(like),
            stacked([index.normals for index in indices], 0.0).to(like),
            stacked([index.known for index in indices], False),
            stacked([np.ones(len(index.points), bool) for index in indices], False),
            stacked([index.on_rim for index in indices], False),
            torch.tensor([index.spacing for index in indices]).to(like),
            indices[0].reach,
        )

    def of(self, index: Int[Tensor, " M"]) -> "Samples":
        """Return those of some scans."""
        parts = (self.points, self.normals, self.known, self.there, self.on_rim, self.spacing)
        points, normals, known, there, on_rim, spacing = (part[index] for part in parts)
        return Samples(points, normals, known, there, on_rim, spacing, self.reach)


@dataclass(frozen=True)
class Surfaces:
    """Posed bodies: ``vertices`` and unit ``normals`` (B, V, 3), and ``faces`` (F, 3)."""

    vertices: Float[Tensor, "B V 3"]
    normals: Float[Tensor, "B V 3"]
    faces: Int[Tensor, "F 3"]

    @classmethod
    def of_vertices(cls, vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"]) -> "Surfaces":
        """Return surfaces with the normals of their vertices."""
        return cls(vertices, vertex_normals(vertices, faces), faces)


@dataclass(frozen=True)
class PairBatch:
    """Body points paired with scan points; see ``correspond.Pairs``."""

    corners: Int[Tensor, "B N 3"]
    bary: Float[Tensor, "B N 3"]
    body_points: Float[Tensor, "B N 3"]
    scan_points: Float[Tensor, "B N 3"]
    directions: Float[Tensor, "B N 3"]
    is_valid: Bool[Tensor, "B N"]

    @property
    def offsets(self) -> Float[Tensor, "B N 3"]:
        """From the scan points to the body points."""
        return self.body_points - self.scan_points

    @property
    def heights(self) -> Float[Tensor, "B N"]:
        """How far the body lies outside the scan's surface, metres; negative inside."""
        return (self.offsets * self.directions).sum(-1)

    @property
    def distances(self) -> Float[Tensor, "B N"]:
        """Distance between paired points, metres."""
        return self.offsets.norm(dim=-1)


def pair_bodies(
    samples: Samples, surfaces: Surfaces, index: Int[Tensor, " N"], reach: Float[Tensor, " B"], min_cosine: float
) -> PairBatch:
    """Pair vertices (N,) of each body with its scan; see ``ScanIndex.pair_body``."""
    points, normals = surfaces.vertices[:, index], surfaces.normals[:, index]
    found = _nearest_facing(points, normals, samples.points, samples.normals, samples.reach)
    corners = index[None, :, None].expand(len(points), -1, 3)
    bary = torch.eye(3).to(points)[0].expand_as(points)
    pairs = _pairs(samples, found, corners, bary, points, normals, reach, min_cosine)
    along = pairs.heights
    beside = (pairs.offsets - along[..., None] * pairs.directions).norm(dim=-1)
    seen = beside < (3 * samples.spacing + 0.2 * reach)[:, None] + 0.5 * along.abs()
    return replace(pairs, is_valid=pairs.is_valid & seen & ~rows_of(samples.on_rim, found))


def pair_scans(
    samples: Samples, surfaces: Surfaces, reach: Float[Tensor, " B"], min_cosine: float, exact: bool
) -> PairBatch:
    """Pair all points of each scan with its body; see ``ScanIndex.pair_scan``. Bodies are closed."""
    points, normals = samples.points, samples.normals
    found = _nearest_facing(points, normals, surfaces.vertices, surfaces.normals, samples.reach)
    corners, bary = found[..., None].expand(-1, -1, 3), torch.eye(3).to(points)[0].expand_as(points)
    if exact:
        hit = closest_on_meshes(points, surfaces.vertices, surfaces.faces)
        close = surfaces.faces[hit.face]
        facing = torch.einsum("bni,bnji,bnj->bn", normals, rows_of(surfaces.normals, close), hit.bary)
        elsewhere = (~(facing > min_cosine) & samples.known)[..., None]
        corners, bary = torch.where(elsewhere, corners, close), torch.where(elsewhere, bary, hit.bary)
    body_points = torch.einsum("bnj,bnji->bni", bary, rows_of(surfaces.vertices, corners))
    body_normals = _unit(torch.einsum("bnj,bnji->bni", bary, rows_of(surfaces.normals, corners)))
    own = torch.arange(points.shape[1], device=points.device).expand(len(points), -1)
    pairs = _pairs(samples, own, corners, bary, body_points, body_normals, reach, min_cosine)
    return replace(pairs, is_valid=pairs.is_valid & samples.there)


def _nearest_facing(
    points: Float[Tensor, "B Q 3"],
    normals: Float[Tensor, "B Q 3"],
    others: Float[Tensor, "B P 3"],
    their_normals: Float[Tensor, "B P 3"],
    reach: float,
) -> Int[Tensor, "B Q"]:
    return nearest_rows(torch.cat([points, reach * normals], -1), torch.cat([others, reach * their_normals], -1))


def _pairs(
    samples: Samples,
    found: Int[Tensor, "B N"],
    corners: Int[Tensor, "B N 3"],
    bary: Float[Tensor, "B N 3"],
    body_points: Float[Tensor, "B N 3"],
    body_normals: Float[Tensor, "B N 3"],
    reach: Float[Tensor, " B"],
    min_cosine: float,
) -> PairBatch:
    scan_points, normals, known = (rows_of(x, found) for x in (samples.points, samples.normals, samples.known))
    agree = (normals * body_normals).sum(-1)
    near = (body_points - scan_points).norm(dim=-1) < reach[:, None]
    is_valid = near & ((agree > min_cosine) | ~known)
    return PairBatch(corners, bary, body_points, scan_points, _unit(normals + body_normals), is_valid)


def _unit(vectors: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    return torch.nn.functional.normalize(vectors, dim=-1, eps=1e-300)
