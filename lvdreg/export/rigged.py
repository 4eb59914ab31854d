"""A rigged model as binary glTF: skeleton, skin weights, morphs of shape, UV and texture.

Nodes of joints have the axes of the world at rest, so a joint's rotation is SMPL's own. A vertex that more than four
joints move has the others in a second set of weights (``JOINTS_1``); the first holds the strongest.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image
from scipy.spatial.transform import Rotation

from lvdreg.base.shapes import Faces, FloatArray
from lvdreg.export.figure import Figure, Layout
from lvdreg.geometry.mesh import mesh_normals
from lvdreg.result.glb import ARRAY_BUFFER, Glb
from lvdreg.result.sheet import BODY_COLOUR

UNLIT = "KHR_materials_unlit"
"""Colours of scans have the light of their room in them: they are shown as they are."""


@dataclass(frozen=True)
class Split:
    """A mesh whose vertices are split where its layout is cut, as glTF has it.

    Attributes:
        source: (N,) the vertex that each is; the first V are the vertices in their order.
        uv: (N, 2) (0, 0) the lower left corner.
        faces: (F, 3).
    """

    source: Int64[np.ndarray, " N"]
    uv: Float64[np.ndarray, "N 2"]
    faces: Faces


def split_at_seams(faces: Faces, layout: Layout, num_vertices: int) -> Split:
    """Give each vertex one place in the layout; where it has more, it comes again after all others."""
    pairs, index = np.unique(np.stack([faces, layout.corners], -1).reshape(-1, 2), axis=0, return_inverse=True)
    vertex, place = pairs.T
    is_first = np.append(True, vertex[1:] != vertex[:-1])
    number = np.where(is_first, vertex, num_vertices - 1 + np.cumsum(~is_first))
    count = num_vertices + int((~is_first).sum())
    source, uv = np.arange(count), np.zeros((count, 2))
    source[number], uv[number] = vertex, layout.uv[place]
    return Split(source, uv, number[index].reshape(-1, 3).astype(np.int64))


def weight_sets(
    weights: Float64[np.ndarray, "V J"],
) -> list[tuple[Int64[np.ndarray, "V 4"], Float64[np.ndarray, "V 4"]]]:
    """Return joints and weights of each vertex in sets of four, the strongest first; together they sum to one.

    Sets that hold no weight are left out; a weight of nothing names joint 0.
    """
    count = -(-int((weights > 0).sum(1).max()) // 4) * 4
    filled = np.pad(weights, ((0, 0), (0, max(0, count - weights.shape[1]))))
    joints = np.argsort(-filled, axis=1, kind="stable")[:, :count]
    held = np.take_along_axis(filled, joints, 1)
    joints = np.where(held > 0, joints, 0)
    return [(joints[:, i : i + 4], held[:, i : i + 4]) for i in range(0, count, 4)]


def write_rigged_glb(path: Path, figure: Figure, about: str, motion: Sequence[Figure] = (), fps: float = 30.0) -> None:
    """Write the figure, its skeleton in its pose; the mesh is at rest, and readers pose it.

    Args:
        path: The file.
        figure: Whom to write.
        about: What wrote it.
        motion: The same figure in the poses of an animation; none: there is no animation.
        fps: Poses a second.
    """
    glb = Glb(about)
    first_joint, root = _add_joints(glb, figure)
    mesh = _add_mesh(glb, figure)
    binds = np.tile(np.eye(4), (len(figure.joints), 1, 1))
    binds[:, :3, 3] = -figure.joints
    matrices = glb.array(binds.transpose(0, 2, 1).reshape(-1, 16), "f4")
    numbers = list(range(first_joint, first_joint + len(figure.joints)))
    skin = glb.add("skins", {"joints": numbers, "skeleton": root, "inverseBindMatrices": matrices})
    body = glb.add("nodes", {"name": figure.name, "mesh": mesh, "skin": skin})
    if motion:
        _add_motion(glb, motion, fps, first_joint)
    glb.document["scenes"] = [{"name": figure.name, "nodes": [root, body]}]
    glb.save(path)


def _add_joints(glb: Glb, figure: Figure) -> tuple[int, int]:
    """Add a node for each joint; returns the number of the first, and that of the root."""
    turns = Rotation.from_matrix(figure.rotations).as_quat()
    first = len(glb.document.get("nodes", []))
    for j, name in enumerate(figure.bones):
        node: dict[str, Any] = {
            "name": name, "translation": figure.offsets[j].tolist(), "rotation": turns[j].tolist(),
        }  # fmt: skip
        children = [first + int(k) for k in np.flatnonzero(figure.parents == j)]
        glb.add("nodes", node | ({"children": children} if children else {}))
    return first, first


def _add_motion(glb: Glb, motion: Sequence[Figure], fps: float, first_joint: int) -> None:
    """Add an animation: the rotations of all joints, and where the root is; linear in between."""
    times = glb.array(np.arange(len(motion)) / fps, "f4", extent=True)
    turns = np.stack([Rotation.from_matrix(figure.rotations).as_quat() for figure in motion])
    # q and -q turn alike, but between them readers would go the long way.
    flips = np.cumprod(np.where((turns[1:] * turns[:-1]).sum(-1, keepdims=True) < 0, -1, 1), axis=0)
    turns[1:] *= flips
    samplers, channels = list[dict[str, Any]](), list[dict[str, Any]]()

    def add(joint: int, path: str, values: FloatArray) -> None:
        samplers.append({"input": times, "output": glb.array(values, "f4")})
        channels.append({"sampler": len(channels), "target": {"node": first_joint + joint, "path": path}})

    add(0, "translation", np.stack([figure.offsets[0] for figure in motion]))
    for joint in range(turns.shape[1]):
        add(joint, "rotation", turns[:, joint])
    glb.add("animations", {"name": "motion", "samplers": samplers, "channels": channels})


def _add_mesh(glb: Glb, figure: Figure) -> int:
    num = len(figure.rest)
    whole = Split(np.arange(num), np.zeros((num, 2)), figure.faces)
    split = whole if figure.layout is None else split_at_seams(figure.faces, figure.layout, num)
    at = split.source
    # Normals are those of the mesh before it was split: seams would show.
    primitive = glb.surface(figure.rest[at], split.faces, mesh_normals(figure.rest, figure.faces)[at])
    attributes = primitive["attributes"]
    for k, (joints, weights) in enumerate(weight_sets(figure.weights)):
        attributes[f"JOINTS_{k}"] = glb.array(joints[at], "u1" if len(figure.joints) < 256 else "u2", ARRAY_BUFFER)
        attributes[f"WEIGHTS_{k}"] = glb.array(weights[at], "f4", ARRAY_BUFFER)
    if figure.layout is not None:
        # glTF's first row is on top.
        attributes["TEXCOORD_0"] = glb.array(split.uv * [1, -1] + [0, 1], "f4", ARRAY_BUFFER)
    primitive["material"] = _add_material(glb, figure, at, attributes)
    mesh: dict[str, Any] = {"name": figure.name, "primitives": [primitive]}
    morphs = figure.named_morphs()
    if morphs:
        primitive["targets"] = [
            {"POSITION": glb.array(moves[at], "f4", ARRAY_BUFFER, extent=True)} for moves, _ in morphs.values()
        ]
        mesh |= {"weights": [weight for _, weight in morphs.values()], "extras": {"targetNames": [*morphs]}}
    return glb.add("meshes", mesh)


def _add_material(glb: Glb, figure: Figure, at: Int64[np.ndarray, " N"], attributes: dict[str, int]) -> int:
    paint = figure.paint
    if paint is None:
        return glb.matt(BODY_COLOUR)
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 0.9}
    if paint.image is not None:
        stream = io.BytesIO()
        Image.fromarray(paint.image).save(stream, "PNG")
        image = glb.add("images", {"mimeType": "image/png", "bufferView": glb.view(stream.getvalue())})
        sampler = glb.add("samplers", {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071})
        surface["baseColorTexture"] = {"index": glb.add("textures", {"source": image, "sampler": sampler})}
    else:
        linear = (paint.colours[at] / 255.0) ** 2.2
        levels = np.append(np.rint(65535 * linear), np.full((len(at), 1), 65535), axis=1)
        attributes["COLOR_0"] = glb.array(levels, "u2", ARRAY_BUFFER, unit=True)
    glb.document["extensionsUsed"] = [UNLIT]
    return glb.add("materials", {"pbrMetallicRoughness": surface, "extensions": {UNLIT: {}}})
