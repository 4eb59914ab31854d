"""Is a body that was refined to a photo no worse than the network's fit it began with? As fit/guard.py asks of scans.

Outlines are of clothes, and may be of somebody else. What keypoints say of limbs, and what the network says of girth
and of knees, outweighs them: who leaves that is refined to the keypoints alone, or not at all.
"""

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel
from lvdreg.fit.cloth import rest_log_volume
from lvdreg.fit.evidence import Evidence2D
from lvdreg.fit.photo import SilhouetteConfig, keypoint_distances, refine_to_photo
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.solver import Kinematics, State
from lvdreg.fit.vertices import Fit

SIDES = ("left", "right")


@dataclass(frozen=True)
class PhotoGuardConfig:
    """How far refinement may lead away from its start.

    Chosen on gowned and standing people of seed 0, checked on seeds 10 and 11 (LOG.md, "Clothes").
    """

    most_missed: float = 0.01
    """By so much, metres, may the mean distance of keypoints grow;"""
    most_grown: float = 0.05
    """the logarithm of the body's volume in the picture grow;"""
    most_bent: float = 0.35
    """and a knee bend further, radians, unless keypoints alone bend it."""


@dataclass(frozen=True)
class Leaving:
    """How far a refined body is from its start; see ``PhotoGuardConfig``."""

    missed: float
    grown: float
    bent: float

    def is_too_far(self, config: PhotoGuardConfig) -> bool:
        """Say whether refinement should not have led there."""
        return self.missed > config.most_missed or self.grown > config.most_grown or self.bent > config.most_bent


def leaving(
    body: BodyModel, start: Fit, before: Evidence2D, refined: Fit, after: Evidence2D, min_visibility: float
) -> Leaving:
    """Measure how far a refined body is from its start.

    Args:
        body: The model of both.
        start: The network's fit.
        before: What the photo shows, at its size.
        refined: The refined body.
        after: What the photo shows, at its size.
        min_visibility: Keypoints that are seen less do not count.
    """
    grown = float(np.log(after.metres_per_unit / before.metres_per_unit))
    kernel, faces = Kinematics(body.data), np.asarray(body.data.faces, np.int64)
    states = [State.from_params(fit.params) for fit in (start, refined)]
    volumes = [rest_log_volume(kernel, faces, state.betas)[0] for state in states]
    missed = [
        np.mean(list(keypoint_distances(body, fit, shown, min_visibility).values()) or [0.0])
        for fit, shown in ((start, before), (refined, after))
    ]
    bends = [knee_bends(body, kernel.pose(state).joints) for state in states]
    return Leaving(
        float(missed[1] * np.exp(-grown) - missed[0]),
        volumes[1] - volumes[0] - 3 * grown,
        float(np.max(bends[1] - bends[0], initial=0.0)),
    )


def knee_bends(body: BodyModel, joints: FloatArray) -> FloatArray:
    """Return the angle between thigh and shin of each side that the body has, radians.

    Args:
        body: The model.
        joints: (J, 3).
    """
    names, found = list(body.joint_names), []
    for side in SIDES:
        leg = [f"{side}_{joint}" for joint in ("hip", "knee", "ankle")]
        if set(leg) <= set(names):
            hip, knee, ankle = (joints[names.index(joint)] for joint in leg)
            thigh, shin = knee - hip, ankle - knee
            cosine = thigh @ shin / max(float(np.linalg.norm(thigh) * np.linalg.norm(shin)), 1e-12)
            found.append(float(np.arccos(np.clip(cosine, -1.0, 1.0))))
    return np.array(found)


def refine_guarded(
    body: BodyModel,
    start: Fit,
    shown: Evidence2D,
    sigma: Tensor | None,
    config: SilhouetteConfig,
    held: RefineConfig,
    guard: PhotoGuardConfig,
) -> tuple[Fit, Evidence2D]:
    """Refine as ``refine_to_photo`` does; where that leads away from the start, to keypoints alone, or not at all.

    Args:
        body: The model of the fit.
        start: The network's fit.
        shown: What the photo shows.
        sigma: (V,) One-sigma of the start's vertices, metres.
        config: Of the refinement.
        held: Of the refinement, too.
        guard: What leads away.

    Returns:
        The body, with a warning where it is not the refined one, and what the photo shows at its size.
    """

    def leads_away(refined: Fit, after: Evidence2D, guard: PhotoGuardConfig) -> bool:
        return leaving(body, start, shown, refined, after, config.min_visibility).is_too_far(guard)

    refined, after = refine_to_photo(body, start, shown, sigma, config, held)
    if not leads_away(refined, after, guard):
        return refined, after
    if shown.keypoints is not None and shown.outline is not None:
        refined, sized = refine_to_photo(body, start, replace(shown, outline=None), sigma, config, held)
        after = shown.resized(sized.metres_per_unit / shown.metres_per_unit)
        if not leads_away(refined, after, replace(guard, most_bent=np.inf)):
            warnings = [
                *refined.warnings,
                "the outline led the refinement astray, and only keypoints guided it: clothes"
                " are loose, or the mask is wrong",
            ]
            return replace(refined, warnings=tuple(warnings)), after
    warnings = [
        *start.warnings,
        "the refinement led away from what network and keypoints say and was undone: the body"
        " is as the network's vertices have it",
    ]
    return replace(start, was_refined=False, warnings=tuple(warnings)), shown
