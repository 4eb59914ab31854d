"""Synthetic people and scans of them for the tests of fitting: exact, small, and made without the training code."""

import numpy as np
import torch

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.correspond import Target
from lvdreg.fit.kinematics import State
from lvdreg.fit.priors import pose_prior
from lvdreg.geometry.mesh import closest_point_on_mesh, face_normals, mesh_normals, sample_surface, unit_rows


def person(body: BodyModel, seed: int, spread: float = 0.35) -> BodyParams:
    """A random person; joint angles lie within ``spread`` of their ranges around the middle."""
    rng, prior = np.random.default_rng(seed), pose_prior(body.data)
    low, high = (np.where(np.isinf(x), np.sign(x) * np.pi / 2, x) for x in (prior.low, prior.high))
    angles = (low + high) / 2 + spread * (high - low) * rng.uniform(-1, 1, low.shape)
    pose = np.einsum("ja,jab->jb", angles, prior.axes)
    betas = rng.normal(size=body.num_betas).clip(-2.5, 2.5)
    return State(pose, betas, rng.normal(size=3)).to_params(body.v_template)


def standing(body: BodyModel, seed: int) -> BodyParams:
    """A person near the rest pose: nothing touches, so the scan is the whole surface."""
    rng = np.random.default_rng(seed)
    pose = 0.08 * rng.normal(size=(body.num_joints, 3))
    betas = rng.normal(size=body.num_betas).clip(-2, 2)
    return State(pose, betas, rng.normal(size=3)).to_params(body.v_template)


def disturbed(body: BodyModel, params: BodyParams, seed: int, angle: float = 0.08, shape: float = 0.4) -> BodyParams:
    """The person as a network would see it: every joint and the shape a little off."""
    rng, state = np.random.default_rng(seed), State.from_params(params)
    fingers = np.array([name[-1] in "123" and "spine" not in name for name in body.joint_names])
    pose = state.pose + angle * rng.normal(size=state.pose.shape) * ~fingers[:, None]
    betas = state.betas + shape * rng.normal(size=state.betas.shape)
    return State(pose, betas, state.transl + 0.01 * rng.normal(size=3)).to_params(body.v_template)


def vertices_of(body: BodyModel, params: BodyParams) -> FloatArray:
    with torch.no_grad():
        return np.asarray(body(params).vertices.double())


def scan_of(body: BodyModel, vertices: FloatArray, count: int = 6000, noise: float = 0.0, seed: int = 0) -> Target:
    """Points with face normals, evenly spread over a surface in the body's topology."""
    rng = np.random.default_rng(seed)
    points, index, _ = sample_surface(vertices, body.data.faces, count, rng)
    normals = unit_rows(face_normals(vertices, body.data.faces))[index]
    return Target(points + noise * rng.normal(size=points.shape), normals)


def dressed(body: BodyModel, vertices: FloatArray) -> FloatArray:
    """The outer surface of wide clothes: smooth, 10 to 50 mm off trunk and legs; head, hands and feet are bare."""
    joints = [
        j for j, name in enumerate(body.joint_names) if any(w in name for w in ("spine", "pelvis", "hip", "knee"))
    ]
    covered = body.data.weights[:, joints].sum(1).astype(np.float64)
    height = body.data.v_template[:, 1].astype(np.float64)
    thickness = covered * (0.03 + 0.02 * np.sin(9 * height))
    return vertices + thickness[:, None] * mesh_normals(vertices, body.data.faces)


def heights_over(body: BodyModel, vertices: FloatArray, surface: FloatArray) -> FloatArray:
    """How far vertices lie outside a surface of the body's topology, metres."""
    close = closest_point_on_mesh(vertices, surface, body.data.faces)
    normals = unit_rows(face_normals(surface, body.data.faces))[close.face]
    return np.einsum("vi,vi->v", vertices - close.points, normals)
