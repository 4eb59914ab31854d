"""Hands and scans of them for the tests of cleaning: metres, wrist at the origin, fingers up (+Y), palm to +Z."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray

from lvdreg.body import BodyModel, BodyParams, load_body
from lvdreg.geometry.raster import rasterise, seen_values

Points = NDArray[np.float64]
Faces = NDArray[np.int64]
Mesh = tuple[Points, Faces]


@lru_cache
def hand_body() -> BodyModel:
    return BodyModel(load_body("anny-hand").data)


def hand_mesh(rng: np.random.Generator, curl: float = 0.3, forearm: float = 0.0) -> Mesh:
    """A right hand whose fingers bend by up to ``curl`` radians a joint, with some length of forearm below."""
    body = hand_body()
    params = BodyParams.zeros(body)
    pose = 0.05 * rng.normal(size=(body.num_joints, 3))
    fingers = [j for j, name in enumerate(body.joint_names) if name != "wrist" and "thumb" not in name]
    pose[fingers, 0] += curl * rng.uniform(0.3, 1, len(fingers))
    pose[0] = 0
    betas = rng.normal(size=body.num_betas).clip(-1, 1)
    params = replace(params, pose=torch.tensor(pose).float(), betas=torch.tensor(betas).float())
    with torch.no_grad():
        points = np.asarray(body(params).vertices.double())
    faces = body.data.faces.astype(np.int64)
    return (points, faces) if not forearm else with_forearm(points, faces, forearm)


def with_forearm(points: Points, faces: Faces, length: float) -> Mesh:
    """Draw the open ring at the wrist down along the arm, which widens a little; its end stays open."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {tuple(edge) for edge in edges.tolist()}
    rim = np.array([edge for edge in known if edge[::-1] not in known])
    ring = np.unique(rim)
    steps = np.linspace(0, 1, max(2, int(length / 0.006)))[1:]
    centre = points[ring].mean(axis=0)
    rings = [centre + (points[ring] - centre) * (1 + 0.4 * t) + [0, -length * t, 0] for t in steps]
    slot = np.searchsorted(ring, rim)
    new_faces, lower = [faces], rim
    for k in range(len(steps)):
        upper, lower = lower, len(points) + k * len(ring) + slot
        new_faces += [np.stack([upper[:, 1], upper[:, 0], lower[:, 0]], 1),
                      np.stack([upper[:, 1], lower[:, 0], lower[:, 1]], 1)]  # fmt: skip
    return np.concatenate([points, *rings]), np.concatenate(new_faces)


def surface(mesh: Mesh, count: int, rng: np.random.Generator, noise: float = 0.0) -> tuple[Points, Points]:
    """Even points all around, and their normals."""
    sampled = trimesh.Trimesh(*mesh, process=False)
    points, index = trimesh.sample.sample_surface(sampled, count, seed=int(rng.integers(1 << 30)))
    return points + noise * rng.normal(size=points.shape), sampled.face_normals[index]


def turned(rng: np.random.Generator) -> Points:
    """A random rotation."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return turn * np.sign(np.linalg.det(turn))


def depth_view(
    mesh: Mesh, turn: Points, pixel: float, rng: np.random.Generator, noise: float = 0.0005, away: float = 0.6
) -> tuple[Points, Points, Points]:
    """What a depth camera at the origin sees of a mesh ``away`` metres before it, one point every ``pixel`` metres.

    Returns:
        Points (P, 3) and true normals (P, 3) in the camera's frame, and the mesh's points there (V, 3).
    """
    points = mesh[0] @ turn.T
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2 + [0, 0, away]
    size = int(2 * np.abs(points[:, :2]).max() / pixel * 1.3) + 8
    columns_rows = points[:, :2] / points[:, 2:] * away / pixel + size / 2
    raster = rasterise(np.c_[columns_rows, points[:, 2] / pixel], mesh[1], size, size)
    seen = seen_values(raster, mesh[1], points)
    corners = points[mesh[1]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[raster.index[raster.mask]]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    rays = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    front = np.einsum("ij,ij->i", rays, normals) < 0  # no camera sees a hand from within
    seen = seen + noise * rng.normal(size=(len(seen), 1)) * rays
    return seen[front], normals[front], points
