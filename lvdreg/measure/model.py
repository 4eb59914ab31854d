"""A body model ready to be measured: it stands upright, and knows where its landmarks and parts are."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float64

from lvdreg.base.shapes import BoolArray, Faces, Vertices
from lvdreg.body.catalogue import load_body
from lvdreg.body.chosen import free_model_of
from lvdreg.body.files import body_names
from lvdreg.body.landmarks import parts_of
from lvdreg.body.model import BodyData, BodyModel
from lvdreg.body.poses import standing_of
from lvdreg.body.store import correspondence
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.mesh import closest_point_on_mesh
from lvdreg.geometry.tape import Tape
from lvdreg.measure.places import on_template

_THUMB = ("thumb1", "thumb2", "thumb3")


@dataclass(frozen=True)
class StandingModel:
    """A model in the pose in which people are measured; its vertices depend linearly on the shape.

    Attributes:
        name: Of the model, without ``+d``.
        is_hand: Whether it is a hand.
        faces: (F, 3).
        mean: (V, 3) the mean person, metres, Y up, facing +Z; a hand's fingers point along Y.
        shapes: (V, 3, K) metres per unit of beta.
        joints: (J, 3) of the mean person.
        joint_shapes: (J, 3, K) their change, metres per unit of beta.
        joint_names: Of these.
        places: Landmarks (L) on the mesh, in the order of ``names``.
        names: Of the landmarks.
        parts: By name, which vertices (V,) belong to it.
        turns: (V, 3, 3) what turns displacements of each vertex from the rest frame.
    """

    name: str
    is_hand: bool
    faces: Faces
    mean: Vertices
    shapes: Float64[np.ndarray, "V 3 K"]
    joints: Float64[np.ndarray, "J 3"]
    joint_shapes: Float64[np.ndarray, "J 3 K"]
    joint_names: tuple[str, ...]
    places: Tape
    names: tuple[str, ...]
    parts: dict[str, BoolArray]
    turns: Float64[np.ndarray, "V 3 3"]

    def standing(
        self, betas: Float64[np.ndarray, " K"], displacements: Float64[np.ndarray, "V 3"] | None = None
    ) -> Vertices:
        """Return the vertices (V, 3) of a person who stands, metres.

        Args:
            betas: (K,) shape.
            displacements: (V, 3) at rest, for the surface with clothes; None: the body.
        """
        body = self.mean + self.shapes @ betas
        return body if displacements is None else body + np.einsum("vij,vj->vi", self.turns, displacements)

    def place(self, name: str) -> Tape:
        """Return one landmark as a tape of one place."""
        return self.places.chosen([self.names.index(name)])


@lru_cache(maxsize=4)
def standing_model(model: str) -> StandingModel:
    """Return a model ready to be measured; definitions live on the free models and are carried to added ones.

    Args:
        model: Name of a free or an added model.

    Raises:
        BodyError: there is no such model, or what carries the free one over to it is damaged.
    """
    body = load_body(model)
    free = load_body(free_model_of(body.data)).data
    found = on_template(free)
    points, mesh, faces = np.stack(list(found.values())), np.asarray(free.v_template, np.float64), free.faces
    parts = _parts(free)
    if model not in body_names():
        # The model's own mesh laid onto the free body: what is nearest there is the same place.
        carrier = correspondence(model)
        mesh, faces = carrier.carry(mesh, free.faces), body.data.faces
        nearest = free.faces[carrier.faces_index, carrier.bary.argmax(1)]
        parts = {name: of[nearest] for name, of in parts.items()}
    at = closest_point_on_mesh(points, mesh, np.asarray(faces, np.int64))
    places = Tape(np.asarray(faces, np.int64)[at.face], at.bary)
    return _standing(body, places, tuple(found), parts)


def _parts(data: BodyData) -> dict[str, BoolArray]:
    """Return which vertices (V,) belong to each part; thumbs are parts of their own, and of no other."""
    names, number = parts_of(data)
    parts = {name.replace("_", " "): number == i for i, name in enumerate(names)}
    owner = data.weights.argmax(1)
    for side in ("left_", "right_", ""):
        own = [j for j, name in enumerate(data.joint_names) if name in {f"{side}{joint}" for joint in _THUMB}]
        thumb = np.isin(owner, own)
        parts = {name: of & ~thumb for name, of in parts.items()}
        if own:
            parts[f"{side.replace('_', ' ')}thumb"] = thumb
    return parts


@torch.no_grad()
def _standing(body: BodyModel, places: Tape, names: tuple[str, ...], parts: dict[str, BoolArray]) -> StandingModel:
    """Let a model stand: it depends linearly on the betas, for its rotations stay."""
    data, body = body.data, body.double()
    rotations = rotvec_to_rotmat(torch.from_numpy(standing_of(data)))
    betas = torch.cat([torch.zeros(1, body.num_betas), torch.eye(body.num_betas)]).double()
    posed = body.turned(*body.rest(betas), rotations, torch.zeros(3).double())
    (mean, shapes), (joints, joint_shapes) = (
        (found[0].numpy(), np.ascontiguousarray((found[1:] - found[:1]).permute(1, 2, 0).numpy()))
        for found in (posed.vertices, posed.joints)
    )
    turns = torch.einsum("vj,jab->vab", body.weights, posed.Ts_world_rest[0, :, :3, :3]).numpy()
    faces = np.asarray(data.faces, np.int64)
    return StandingModel(
        data.name, data.is_hand, faces, mean, shapes, joints, joint_shapes, body.joint_names, places, names,
        parts, turns,
    )  # fmt: skip
