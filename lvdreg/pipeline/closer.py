"""The closer look at a person's hands that a refinement takes once the body has come near the scan."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.base.provenance import FileHashes
from lvdreg.base.shapes import Points
from lvdreg.body.chosen import Chosen
from lvdreg.body.files import shipped_data
from lvdreg.body.hands import HAND, SIDES, has_fingers, places_file
from lvdreg.body.model import BodyModel
from lvdreg.descent.hands import look_at_hands, with_hands
from lvdreg.descent.weights import voxel_weights
from lvdreg.fit.correspond import posed_surface
from lvdreg.fit.hands import pose_hands
from lvdreg.fit.known import Known, SeenVertices
from lvdreg.fit.vertices import Fit, Found, Look
from lvdreg.pipeline.assess_scan import posed_joints
from lvdreg.pipeline.config import RegisterConfig


def looks_closer(body: BodyModel, config: RegisterConfig) -> bool:
    """Say whether the hands of a body are looked at: not those of one without fingers."""
    return config.hands is not None and all(has_fingers(body.data, side) for side in SIDES)


def closer_files(body: BodyModel, config: RegisterConfig, device: str) -> FileHashes:
    """Return the SHA-256 of the files that closer looks are taken with."""
    if not looks_closer(body, config):
        return {}
    return voxel_weights(HAND, device).files | {f"bodies/{HAND}.npz": shipped_data(HAND).sha256} | places_file()


def closer_look(
    model: Chosen,
    free: Float[Tensor, "S 3"],
    sigma: Float[Tensor, " S"],
    points: Points,
    known: Known,
    config: RegisterConfig,
    device: str,
    seed: int,
) -> Look | None:
    """Return what looks at the hands of a body while it is refined; None of a body without fingers, or a hand.

    Args:
        model: What is fitted.
        free: (S, 3) vertices of the free body as its network has them, world frame.
        sigma: (S,) of them, metres.
        points: (P, 3) of the scan, world frame.
        known: What the user knows of the person.
        config: Settings of all stages.
        device: Where the network runs.
        seed: Of perturbations.
    """
    body, config_hands = model.body, config.hands
    if config_hands is None or not looks_closer(body, config):
        return None
    trained = voxel_weights(HAND, device)

    def look(fit: Fit) -> Found | None:
        posed = posed_surface(body, fit.params).vertices, posed_joints(body, fit.params)
        hands = look_at_hands(trained, shipped_data(HAND), points, body.data, *posed, config_hands, seed)
        if not hands:
            return None
        vertices, spread, own = with_hands(model, free, sigma, hands)
        index = np.flatnonzero(own)
        seen = SeenVertices(index, *(x[index].double().cpu().numpy() for x in (vertices, spread)))
        return pose_hands(body, fit, seen, config.fit, known)

    return look


def with_seen(
    seen: SeenVertices | None, vertices: Float[Tensor, "V 3"], sigma: Float[Tensor, " V"], known: Known
) -> tuple[Float[Tensor, "V 3"], Float[Tensor, " V"], Known]:
    """Put what a closer look saw in the place of what was predicted before, and among what is known."""
    if seen is None:
        return vertices, sigma, known
    vertices, sigma = vertices.clone(), sigma.clone()
    vertices[seen.index], sigma[seen.index] = (
        torch.from_numpy(seen.points).to(vertices),
        torch.from_numpy(seen.sigma).to(sigma),
    )
    return vertices, sigma, replace(known, seen=seen)
