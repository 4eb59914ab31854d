"""A scan bound to a body: reposed and reshaped with it, holes and cuts closed by what the registration knows.

Scan vertices get skinning weights and shape directions of the body under them (carry.py). Each is a point of the body
plus an offset that turns with it: reposing keeps folds and hair as they are. Faces that a new pose stretches much were
webs between parts that only touched, and are cut. Below lies the registered surface as filler, shown where the scan has
no surface of its own.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.augment.repose.carry import Carrier, Matches, WeldedMesh, match, weld
from lvdreg.augment.repose.filler import (
    Cover,
    WithFiller,
    cover_of,
    edge_lengths,
    filler_colours,
    find_parts,
    touched_vertices,
)
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.graphs import pieces_of
from lvdreg.geometry.mesh import closest_point_on_mesh, face_areas
from lvdreg.synth.subjects import Subjects, Texture
from lvdreg.synth.surface import Outer, join

STRETCH = (2.2, 0.012)
"""An edge this many times as long as in the scan, and this much more (metres), belonged to a web."""
WEAK_STRETCH = (1.5, 0.005)
"""The same beside webs."""
GROWTH = 3
"""How many faces further webs may reach."""
MOST_BODY_STRETCH = 2.0
"""Where skin itself stretches, as a groin does, so may the scan; but no more than this."""
ISLAND = 0.004
"""What is cut loose goes when it is smaller than this, square metres."""


@dataclass(frozen=True)
class BoundPoints:
    """N points that follow a body.

    Attributes:
        weights: Skinning weights, rows sum to one.
        base: The point of the mean body at rest that carries each, metres.
        shapedirs: How that moves with betas.
        posedirs: How that moves with the pose, or None.
        offsets: From there to the point itself, in the axes of the rest frame.
    """

    weights: Float[Tensor, "N J"]
    base: Float[Tensor, "N 3"]
    shapedirs: Float[Tensor, "N*3 K"]
    posedirs: Float[Tensor, "N*3 P"] | None
    offsets: Float[Tensor, "N 3"]

    def pose(self, params: BodyParams, Ts_world_rest: Float[Tensor, "B J 4 4"]) -> Float[Tensor, "B N 3"]:
        """Return the points in the world, for bone transforms that belong to ``params``."""
        places, turns = self.carried(params, Ts_world_rest)
        return places + (turns @ self.offsets[..., None]).squeeze(-1)

    def carried(
        self, params: BodyParams, Ts_world_rest: Float[Tensor, "B J 4 4"]
    ) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N 3 3"]]:
        """Return where the carrying points are in the world, and how the body turns there."""
        rest = self.base + (params.betas @ self.shapedirs.mT).unflatten(-1, (-1, 3))
        if self.posedirs is not None:
            rest = rest + (_pose_feature(params.pose) @ self.posedirs.mT).unflatten(-1, (-1, 3))
        blended = (self.weights @ Ts_world_rest[..., :3, :].flatten(-2)).unflatten(-1, (3, 4))
        places = (blended[..., :3] @ rest[..., None]).squeeze(-1) + blended[..., 3]
        return places, nearest_rotations(blended[..., :3])

    def bound_to(
        self, points: Float[Tensor, "N 3"], params: BodyParams, Ts_world_rest: Float[Tensor, "1 J 4 4"]
    ) -> "BoundPoints":
        """Return the same with offsets that put the points where they are given when posed with the same."""
        places, turns = self.carried(params, Ts_world_rest)
        return replace(self, offsets=(turns[0].mT @ (points - places[0])[..., None]).squeeze(-1))


def _pose_feature(pose: Float[Tensor, "*B J 3"]) -> Float[Tensor, "*B P"]:
    rotations = rotvec_to_rotmat(pose)[..., 1:, :, :]
    return (rotations - torch.eye(3, dtype=pose.dtype, device=pose.device)).flatten(-3)


def nearest_rotations(matrices: Float[Tensor, "*B 3 3"], rounds: int = 6) -> Float[Tensor, "*B 3 3"]:
    """Return the rotations next to mixtures of rotations: polar decomposition by Newton's iteration (Higham 1986).

    A mixture that has lost all direction gives some matrix near it, never what is not finite.
    """
    x = matrices
    for _ in range(rounds):
        a, b, c = x.unbind(-2)
        cofactor = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -2)
        determinant = (a * cofactor[..., 0, :]).sum(-1)[..., None, None]
        x = 0.5 * (x + cofactor / determinant.clamp_min(0.05))
    return torch.nn.functional.normalize(x, dim=-1)


@dataclass(frozen=True, eq=False)
class Bound:
    """A scan that moves with a body. Made by ``bind``.

    Attributes:
        body: The body.
        params: How the body lies in the scan, a batch of one, without displacements.
        scan: The scan's vertices.
        faces: Its triangles.
        welded: The same with one number for all vertices in one place.
        lengths: Of the three edges of each in the scan, metres.
        areas: Of each in the scan, square metres.
        below: The face of the body under each.
        filler: The registered surface, a little inside.
        cover: Where the scan covers it.
        held: Joints that keep the pose they have in the scan: fingers that were not found well enough.
        texture: How both together look, scan first.
        labels: The joint that moves each vertex of both most.
        rest: Where on the mean body at rest each vertex of both lies, metres.
    """

    body: BodyModel
    params: BodyParams
    scan: BoundPoints
    faces: Int[Tensor, "F 3"]
    welded: Int[Tensor, "F 3"]
    lengths: Float[Tensor, "F 3"]
    areas: Float[Tensor, " F"]
    below: Int[Tensor, " F"]
    filler: BoundPoints
    cover: Cover
    held: Bool[Tensor, " J"]
    texture: Texture
    labels: Int[Tensor, " M"]
    rest: Float[Tensor, "M 3"]

    def to(self, device: str | torch.device) -> "Bound":
        """Return the same on a device, with a body of its own."""
        parts = {field.name: _moved(getattr(self, field.name), device) for field in fields(self)}
        return Bound(**parts)

    @torch.no_grad()
    def pose(self, params: BodyParams) -> Subjects:
        """Return the scanned person in other poses and shapes.

        Args:
            params: A batch; displacements are not used. Fingers that were not found in the scan keep their pose.

        Returns:
            One subject for each, world frame; cut faces and covered filler are not kept.
        """
        given = torch.where(self.held[:, None], self.params.pose[0], params.pose)
        params = BodyParams(params.betas, given, params.transl)
        posed = self.body(params)
        vertices = self.scan.pose(params, posed.Ts_world_rest)
        inner = self.filler.pose(params, posed.Ts_world_rest)
        keep = ~self.webs(vertices, inner)
        bare = self.cover.bare_faces(keep, self.welded, self.body.faces)
        sunk = self.cover.sunk(inner, self.body.faces)
        outer = join([Outer(vertices, self.faces, keep), Outer(sunk, self.body.faces, bare)])
        batch = len(params.pose)
        labels, rest = self.labels.expand(batch, -1), self.rest.expand(batch, -1, -1)
        return Subjects(outer, self.texture, labels, rest, params, posed.vertices, posed.joints)

    def stretches(
        self, vertices: Float[Tensor, "B N 3"], inner: Float[Tensor, "B V 3"]
    ) -> tuple[Float[Tensor, "B F 3"], Float[Tensor, "B F"]]:
        """Return how long each edge of the posed scan is, metres, and how much the body below stretches, at least 1."""
        body = (edge_lengths(inner, self.body.faces) / self.cover.lengths).amax(-1)
        below = body[:, self.below].clamp(1, MOST_BODY_STRETCH)
        return edge_lengths(vertices, self.faces), below

    def webs(self, vertices: Float[Tensor, "B N 3"], inner: Float[Tensor, "B V 3"]) -> Bool[Tensor, "B F"]:
        """Say which faces of the posed scan are stretched so much that they joined what only touched.

        Beside those, less stretch is enough, and faces left standing between them go too: rims come out even.

        Args:
            vertices: The posed scan.
            inner: The posed registered surface.
        """
        lengths, below = self.stretches(vertices, inner)
        at_rest = self.lengths * below[..., None]
        cut = (lengths > STRETCH[0] * at_rest + STRETCH[1]).any(-1)
        weak = (lengths > WEAK_STRETCH[0] * at_rest + WEAK_STRETCH[1]).any(-1)
        count = int(self.welded.max()) + 1
        for _ in range(GROWTH):
            touched = touched_vertices(cut, self.welded, count)[:, self.welded]
            cut = cut | (weak & touched.any(-1)) | touched.all(-1)
        return cut | islands(self.welded, ~cut, self.areas, count)


def _moved(value: Any, device: str | torch.device) -> Any:
    """Move tensors, bodies, and what is made of such."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, BodyModel):
        # Modules move in place, and this one may be somebody else's too.
        return BodyModel(value.data).to(device, value.v_template.dtype)
    if isinstance(value, tuple):
        return tuple(_moved(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _moved(getattr(value, field.name), device) for field in fields(value)})
    return value


def islands(
    faces: Int[Tensor, "F 3"], keep: Bool[Tensor, "B F"], areas: Float[Tensor, " F"], count: int
) -> Bool[Tensor, "B F"]:
    """Say which kept faces hang together in small pieces that were parts of larger ones."""
    every = face_pieces(faces, torch.ones_like(keep[0]), count)
    whole = torch.bincount(every, areas.double(), minlength=len(faces))[every]
    small = torch.zeros_like(keep)
    for row, kept in zip(small, keep, strict=True):
        piece = face_pieces(faces, kept, count)
        size = torch.bincount(piece, areas.double() * kept, minlength=len(faces))[piece]
        row |= kept & (size < ISLAND) & (size < 0.5 * whole)
    return small


def face_pieces(faces: Int[Tensor, "F 3"], kept: Bool[Tensor, " F"], count: int) -> Int[Tensor, " F"]:
    """Number the connected pieces of the kept faces; what is not kept gets some number."""
    ends = faces[kept][:, [0, 1, 1, 2]].reshape(-1, 2).cpu().numpy()
    return torch.from_numpy(pieces_of(ends, count)).to(faces.device)[faces[:, 0]]


def bind(
    scan_vertices: FloatArray,
    scan_faces: IntArray,
    texture: Texture,
    body: BodyModel,
    params: BodyParams,
    registered_vertices: FloatArray,
) -> Bound:
    """Bind a scan to its registration.

    Args:
        scan_vertices: (N, 3) metres, the posed model's frame; vertices with equal coordinates move as one.
        scan_faces: (F, 3) counter-clockwise seen from outside.
        texture: How the scan looks; is asked about corners among its N vertices only.
        body: The body that was registered.
        params: Its parameters, without batch axis.
        registered_vertices: (V, 3) the registered surface, displacements included, same frame.

    Returns:
        The bound scan; posed with the same parameters it is the scan again.
    """
    whole = BodyParams(params.betas[None], params.pose[None], params.transl[None])
    first, inverse = weld(scan_vertices)
    scan = WeldedMesh.of(scan_vertices[first], inverse[scan_faces])
    surface = WeldedMesh.of(registered_vertices, body.data.faces)
    matches = match(scan, surface, np.ones(len(body.data.faces), bool))
    parts = find_parts(body.data, scan, surface, matches)
    if not parts.usable.all():
        matches = match(scan, surface, parts.usable)
    with torch.no_grad():
        rest = body.rest(params.betas)[0].double().numpy()
    carrier = Carrier(scan, matches, rest)
    table = carrier.carry(_body_table(body))
    outer_skin = _skin(body, table[inverse], whole, scan_vertices)
    filler = _skin(body, _body_table(body), whole, registered_vertices)
    cover = cover_of(scan, surface, table[:, : body.num_joints], body.data.weights.astype(np.float64), parts)
    colours = filler_colours(texture, cover, scan_faces, body.data)
    below = closest_point_on_mesh(scan_vertices[scan_faces].mean(1), registered_vertices, body.data.faces).face
    vertices = torch.from_numpy(scan_vertices).float()
    faces = torch.from_numpy(np.asarray(scan_faces, np.int64))
    areas = torch.from_numpy(face_areas(scan_vertices, scan_faces)).float()
    return Bound(
        body=body,
        params=whole,
        scan=outer_skin,
        faces=faces,
        welded=torch.from_numpy(scan.faces),
        lengths=edge_lengths(vertices, faces),
        areas=areas,
        below=torch.from_numpy(below),
        filler=filler,
        cover=cover,
        held=parts.held,
        texture=WithFiller(texture, len(scan_vertices), colours),
        labels=torch.cat([outer_skin.weights.argmax(-1), filler.weights.argmax(-1)]),
        rest=torch.cat([outer_skin.base, filler.base]),
    )


def _body_table(body: BodyModel) -> FloatArray:
    """Return all that is carried, one row for each vertex of the body: weights, rest place, shape, pose directions."""
    data, num = body.data, body.num_vertices
    columns = [data.weights, data.v_template, data.shapedirs.reshape(num, -1)]
    columns += [] if data.posedirs is None else [data.posedirs.reshape(num, -1)]
    return np.concatenate(columns, axis=1).astype(np.float64)


def _skin(body: BodyModel, table: FloatArray, params: BodyParams, points: FloatArray) -> BoundPoints:
    """Make a skin of rows as ``_body_table`` has them, bound where the points are."""
    widths = np.cumsum([body.num_joints, 3, 3 * body.num_betas])
    weights, base, shape, pose = (torch.from_numpy(part) for part in np.split(table, widths, axis=1))
    weights = weights.clamp_min(0)
    weights = weights / weights.sum(-1, keepdim=True)
    posedirs = None if body.posedirs is None else pose.reshape(3 * len(table), -1)
    shapedirs = shape.reshape(3 * len(table), -1)
    exact = BoundPoints(weights, base, shapedirs, posedirs, torch.zeros_like(base))
    double = BodyParams(params.betas.double(), params.pose.double(), params.transl.double())
    with torch.no_grad():
        Ts = body(params).Ts_world_rest.double()
        offsets = exact.bound_to(torch.from_numpy(points).double(), double, Ts).offsets
    few = None if posedirs is None else posedirs.float()
    return BoundPoints(weights.float(), base.float(), shapedirs.float(), few, offsets.float())


__all__ = ["Bound", "Matches", "BoundPoints", "bind", "edge_lengths", "nearest_rotations"]
