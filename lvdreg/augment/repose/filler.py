"""What lies under a bound scan: the registered surface, seen where the scan shows none of its own.

It closes holes of the scan, cuts between parts that touched, and stands in for what the scanner never saw, such as a
hand in a pocket. Where the scan covers it, it is left out, and around openings it lies a little deeper than the scan.
Colours come from the scan above; elsewhere from the same place on the other side of the body, and from around.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.augment.repose.carry import Matches, WeldedMesh
from lvdreg.base.shapes import BoolArray, FloatArray, IntArray
from lvdreg.body.colours import extended_colours
from lvdreg.body.model import BodyData
from lvdreg.geometry.mesh import closest_point_on_mesh, edges_of, vertex_normals
from lvdreg.synth.subjects import Material, Pixels, Texture

DEPTH = 0.004
"""The filler lies this much below the scan, metres."""
DEEPEST = 0.012
NEAR = 0.03
"""The scan covers what is this near below it, metres."""
NEVER_SHOWN, SHOWN = 0.3, 0.7
"""A hand of which the scan covers less than the first share was not scanned; less than the second: nor, if what covers
it hangs together with other things more than with the arm, as the cloth of a pocket does."""
WELL_FOUND = 0.8
"""A hand of which it covers less than this share keeps its fingers as they are."""
CLOSE = 0.008
"""A hand that fits its scan worse than this, metres, keeps its fingers, and none of its own stand beside the scan's."""
MARGIN = 1
"""Rings of vertices around openings where the filler goes on below the scan."""


@dataclass(frozen=True)
class Parts:
    """Which parts of a body the scan shows.

    Attributes:
        usable: (F,) faces of the body that scan vertices may belong to.
        shown: (V,) vertices of hands that the scan shows elsewhere than they are: no filler stands beside it.
        held: (J,) joints whose pose is not known well enough to change it.
    """

    usable: BoolArray
    shown: BoolArray
    held: Bool[Tensor, " J"]


def edge_lengths(vertices: Float[Tensor, "*B N 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*B F 3"]:
    """Return the lengths of the edges opposite to the corners of each face."""
    corners = vertices[..., faces, :]
    return (corners.roll(-1, -2) - corners.roll(-2, -2)).norm(dim=-1)


def find_parts(data: BodyData, scan: WeldedMesh, surface: WeldedMesh, matches: Matches) -> Parts:
    """Find the hands that the scan does not show, and those that it shows but where fingers were not found well."""
    near = closest_point_on_mesh(surface.vertices, scan.vertices, scan.faces)
    facing = np.einsum("vi,vi->v", surface.normals, scan.normals[scan.faces[near.face]].mean(1))
    met = (near.distance < 0.01) & (facing > 0)
    missing, shown = np.zeros(len(met), bool), np.zeros(len(met), bool)
    held = torch.zeros(len(data.parents), dtype=torch.bool)
    for wrist, fingers in _hands(data).items():
        follows = data.weights[:, [wrist, *fingers]].sum(1).astype(np.float64)
        own = follows > 0.5
        share = float(np.average(met[own], weights=surface.areas[own]))
        arm = data.weights[:, _above(data, wrist)].sum(1).astype(np.float64)
        absent = share < NEVER_SHOWN or (share < SHOWN and _torn_share(scan, matches, follows, arm) > 0.5)
        held[fingers] = not absent and share < WELL_FOUND
        if absent:
            missing[own] = True
        elif _misfit(scan, matches, follows) > CLOSE:
            shown[own], held[fingers] = True, True
    usable: BoolArray = np.logical_not(missing[data.faces].any(1))
    return Parts(usable, shown, held)


def _misfit(scan: WeldedMesh, matches: Matches, follows: FloatArray) -> float:
    """Return how far nine tenths of what matches a hand are from it at most, metres."""
    own = matches.read(follows[:, None])[:, 0] > 0.5
    return float(np.quantile(matches.distance[own], 0.9)) if own.any() else 0.0


def _above(data: BodyData, wrist: int, count: int = 2) -> list[int]:
    """Return the joints between the wrist and the shoulder."""
    chain = [int(data.parents[wrist])]
    while len(chain) < count and chain[-1] > 0:
        chain.append(int(data.parents[chain[-1]]))
    return chain


def _torn_share(scan: WeldedMesh, matches: Matches, follows: FloatArray, arm: FloatArray) -> float:
    """Return how much of the rim of what matches a hand borders on something else than the arm: cloth over it."""
    table = matches.read(np.stack([follows, arm], axis=1))
    inside, joined = table[:, 0] > 0.5, table[:, 1] > 0.2
    i, j = edges_of(scan.faces).T
    i, j = np.concatenate([i, j]), np.concatenate([j, i])
    lengths = np.linalg.norm(scan.vertices[i] - scan.vertices[j], axis=1)
    rim = inside[i] & ~inside[j]
    return float(lengths[rim & ~joined[j]].sum() / max(lengths[rim].sum(), 1e-9))


def _hands(data: BodyData) -> dict[int, list[int]]:
    """Return the joints of the fingers by wrist; empty for bodies without wrists."""
    fingers: dict[int, list[int]] = {j: [] for j, name in enumerate(data.joint_names) if name.endswith("wrist")}
    carrier: dict[int, int] = {wrist: wrist for wrist in fingers}
    for j, parent in enumerate(data.parents):
        if int(parent) in carrier:
            carrier[j] = carrier[int(parent)]
            fingers[carrier[j]].append(j)
    return fingers


@dataclass(frozen=True)
class Cover:
    """Where the scan covers the registered surface.

    Attributes:
        faces: Of each vertex of the body, the face of the scan that covers it, -1 where none does.
        bary: The point of that face.
        shown: Vertices of which filler is never shown unless what covers them is cut.
        depth: How far below the registered surface the filler is shown, metres.
        lengths: Of the edges of the registered surface in the scan, metres.
    """

    faces: Int[Tensor, " V"]
    bary: Float[Tensor, "V 3"]
    shown: Bool[Tensor, " V"]
    depth: Float[Tensor, " V"]
    lengths: Float[Tensor, "G 3"]

    def sunk(self, vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "G 3"]) -> Float[Tensor, "B V 3"]:
        """Return the filler (its mesh has ``faces``) as far below its surface as it should be."""
        return vertices - self.depth[:, None] * vertex_normals(vertices, faces)

    def bare_faces(
        self, keep: Bool[Tensor, "B F"], scan_faces: Int[Tensor, "F 3"], body_faces: Int[Tensor, "G 3"]
    ) -> Bool[Tensor, "B G"]:
        """Say which faces of the filler show when some faces of the scan are cut."""
        cut = touched_vertices(~keep, scan_faces, int(scan_faces.max()) + 1)
        above = scan_faces[self.faces.clamp_min(0)]
        bare = cut[:, above].any(-1)
        bare = torch.where(self.faces >= 0, bare, ~self.shown)
        for _ in range(MARGIN):
            bare = touched_vertices(bare[:, body_faces].any(-1), body_faces, bare.shape[1])
        return bare[:, body_faces].all(-1)


def touched_vertices(chosen: Bool[Tensor, "B F"], faces: Int[Tensor, "F 3"], count: int) -> Bool[Tensor, "B N"]:
    """Say which vertices belong to a chosen face."""
    hits = torch.zeros(len(chosen), count, device=chosen.device)
    for i in range(3):
        hits = hits.index_add(1, faces[:, i], chosen.float())
    return hits > 0


def cover_of(
    scan: WeldedMesh, surface: WeldedMesh, scan_weights: FloatArray, weights: FloatArray, parts: Parts
) -> Cover:
    """Find where the scan covers the registered surface with what moves along with it."""
    near = closest_point_on_mesh(surface.vertices, scan.vertices, scan.faces)
    corners = scan.faces[near.face]
    normal = np.einsum("vi,vij->vj", near.bary, scan.normals[corners])
    offset = surface.vertices - near.points
    along = np.einsum("vi,vi->v", offset, surface.normals)
    beside = np.linalg.norm(offset - along[:, None] * surface.normals, axis=1)
    facing = np.einsum("vi,vi->v", normal, surface.normals)
    alike = np.minimum(np.einsum("vi,vij->vj", near.bary, scan_weights[corners]), weights).sum(1)
    covered = (near.distance < NEAR) & (facing > 0.3) & (beside < 0.01 + 0.5 * np.abs(along)) & (alike > 0.3)
    covered |= ~_beside(~covered, surface.faces) & (near.distance < NEAR)
    height = np.where(covered, np.clip(along, 0, DEEPEST), 0)
    # Between vertices the scan may lie deeper still: as deep as at the next ones.
    np.maximum.at(height, surface.faces[:, [0, 1, 2]], height[surface.faces].max(1)[:, None])
    depth = np.where(covered, DEPTH + height, _faded(covered, surface.faces) * DEPTH)
    return Cover(
        torch.from_numpy(np.where(covered, near.face, -1)),
        torch.from_numpy(near.bary).float(),
        torch.from_numpy(parts.shown),
        torch.from_numpy(depth).float(),
        edge_lengths(torch.from_numpy(surface.vertices).float(), torch.from_numpy(surface.faces)).clamp_min(1e-4),
    )


def _beside(chosen: BoolArray, faces: IntArray) -> BoolArray:
    """Say which vertices have a chosen neighbour."""
    out = np.zeros(len(chosen), bool)
    count = chosen[faces].sum(1)
    for i in range(3):
        out[faces[count - chosen[faces[:, i]] > 0, i]] = True
    return out


def _faded(covered: BoolArray, faces: IntArray, rings: int = 3) -> FloatArray:
    """Return 1 beside what is covered, falling to 0 a few rings away."""
    out = covered.astype(float)
    for k in range(1, rings):
        reached = np.zeros(len(covered), bool)
        reached[faces[(out[faces] > 0).any(1)].ravel()] = True
        out[reached & (out == 0)] = 1 - k / rings
    return out


def filler_colours(texture: Texture, cover: Cover, scan_faces: IntArray, data: BodyData) -> Float[Tensor, "V 3"]:
    """Return linear colours of the body's vertices: the scan's above, or of the other side, or from around."""
    corners = torch.from_numpy(np.asarray(scan_faces, np.int64))[cover.faces.clamp_min(0)]
    seen = texture(Pixels(torch.zeros_like(cover.faces), corners, cover.bary)).albedo.double().numpy()
    return extended_colours(seen, (cover.faces >= 0).numpy(), data)


@dataclass(frozen=True)
class WithFiller:
    """The texture of a scan whose filler follows it: vertex colours for corners from ``first`` on."""

    scan: Texture
    first: int
    colours: Float[Tensor, "V 3"]

    def __call__(self, pixels: Pixels) -> Material:
        """Return the material at pixels; no pixel mixes scan and filler."""
        is_filler = pixels.corners[:, 0] >= self.first
        below = Pixels(pixels.sample, (pixels.corners - self.first).clamp_min(0), pixels.bary)
        scanned = torch.where(is_filler[:, None], 0, pixels.corners)
        above = self.scan(Pixels(pixels.sample, scanned, pixels.bary))
        albedo = torch.where(is_filler[:, None], below.read_shared(self.colours), above.albedo)
        return Material(albedo, above.gloss.masked_fill(is_filler, 0), above.relief.masked_fill(is_filler, 0))
