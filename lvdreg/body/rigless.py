"""A model of any mesh of a person or a hand: the rig of the free model that was registered to it, its own vertices.

Weights and shape directions are read where the vertices lie on the registered free model; then the mesh is brought from
the pose it stands in to the free model's rest, and from its person to the mean one. So the model has the joints, the
limits and the shape parameters of the free one, and every stage treats it as that.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.body.transfer import Correspondence, place_template
from lvdreg.geometry.mesh import interpolate


@dataclass(frozen=True)
class MeshTemplate:
    """A mesh that a model is made of, and its UV layout, if it has one.

    Attributes:
        name: What the model will be called.
        v_template: (V, 3) in the frame of the posed free model that was registered to it, metres.
        faces: (F, 3).
        vt: (T, 2) texture coordinates, or None.
        ft: (F, 3) those of the faces' corners, or None.
    """

    name: str
    v_template: Float64[np.ndarray, "V 3"]
    faces: Int64[np.ndarray, "F 3"]
    vt: Float64[np.ndarray, "T 2"] | None = None
    ft: Int64[np.ndarray, "F 3"] | None = None


def rigged_like(mesh: MeshTemplate, source: BodyModel, params: BodyParams) -> tuple[BodyData, Correspondence]:
    """Return a model with a mesh's vertices and the free model's rig, and where its vertices lie on that.

    Args:
        mesh: The mesh.
        source: The free model that was registered to it; of a left hand its mirror image.
        params: What poses it there, with the displacements that lead to the mesh's surface.
    """
    free = source.data
    transforms, moved, places = _places(mesh, source, params)

    def carried(values: FloatArray) -> FloatArray:
        flat = values.reshape(len(values), -1)
        return interpolate(flat, free.faces, places.faces_index, places.bary).reshape(-1, *values.shape[1:])

    weights = carried(free.weights.astype(np.float64))
    shapedirs = carried(free.shapedirs.astype(np.float64))
    blended = np.einsum("vj,jab->vab", weights, transforms)
    at_rest = np.linalg.solve(blended[:, :3, :3], (mesh.v_template - blended[:, :3, 3])[..., None])[..., 0]
    template = at_rest - shapedirs @ params.betas.double().numpy()
    data = BodyData(
        name=mesh.name,
        v_template=template.astype(np.float32),
        shapedirs=shapedirs.astype(np.float32),
        posedirs=None,
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        faces=mesh.faces,
        parents=free.parents,
        joint_names=free.joint_names,
        J_template=free.J_template,
        J_shapedirs=free.J_shapedirs,
        mirror_vertices=None,
        mirror_joints=None,
        provenance={"source": "a mesh that its user added", "rig": f"that of {free.name}, which was registered to it"},
        tpose=free.tpose,
        people=free.people,
        vt=None if mesh.vt is None else mesh.vt.astype(np.float32),
        ft=mesh.ft,
    )
    mean = free.v_template.astype(np.float64)
    return data, place_template(data, free, mean, mean + moved)


def _places(mesh: MeshTemplate, source: BodyModel, params: BodyParams) -> tuple[FloatArray, FloatArray, Correspondence]:
    """Return the bones' transforms (J, 4, 4), displacements (S, 3), and where vertices lie on the posed free model."""
    posed, bare = source(params), source(replace(params, displacements=None))
    moved = np.zeros(source.v_template.shape)
    if params.displacements is not None:
        moved = params.displacements.double().numpy()
    surfaces = (one.vertices.double().numpy() for one in (bare, posed))
    return posed.Ts_world_rest.double().numpy(), moved, place_template(mesh, source.data, *surfaces)
