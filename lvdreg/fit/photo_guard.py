"""Is a body that was refined to a photo no worse than the network's fit it began with? As fit/guard.py asks of scans.

Outlines are of clothes, and may be of somebody else. What keypoints say of limbs, and what the network says of girth
and of knees, outweighs them: who leaves that is refined to the keypoints alone, or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyModel
from lvdreg.fit.cloth import rest_log_volume
from lvdreg.fit.evidence import Evidence2D
from lvdreg.fit.kinematics import Kinematics, State
from lvdreg.fit.photo import PhotoStart, SilhouetteConfig, keypoint_distances
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.together import Shared, refine_together
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
    starts: Sequence[PhotoStart],
    config: SilhouetteConfig,
    held: RefineConfig,
    guard: PhotoGuardConfig,
    shared: Shared = "shape",
) -> list[tuple[Fit, Evidence2D]]:
    """Refine as ``refine_together`` does; what that leads away from its start, to keypoints alone, or not at all.

    Of several photos, one that is led away even so does not go with the others: it is refined by itself.

    Args:
        body: The model of the fits.
        starts: The network's fits of one person, one for each photo.
        config: Of the refinement.
        held: Of the refinement, too.
        guard: What leads away.
        shared: What photos have in common, where there are several.

    Returns:
        For each photo the body, with a warning where it is not the refined one, and what the photo shows at its size.
    """
    found = refine_together(body, starts, config, held, shared)
    astray = led_away(body, starts, found, config, [guard] * len(starts), shared)
    bare = [
        is_astray and start.shown.keypoints is not None and start.shown.outline is not None
        for is_astray, start in zip(astray, starts, strict=True)
    ]
    if any(bare):
        guided = [
            replace(start, shown=replace(start.shown, outline=None)) if is_bare else start
            for is_bare, start in zip(bare, starts, strict=True)
        ]
        found = [
            _by_keypoints(fit, start.shown, after) if is_bare else (fit, after)
            for is_bare, start, (fit, after) in zip(
                bare, starts, refine_together(body, guided, config, held, shared), strict=True
            )
        ]
        bounds = [replace(guard, most_bent=np.inf) if is_bare else guard for is_bare in bare]
        astray = led_away(body, starts, found, config, bounds, shared)
    if not any(astray):
        return found
    if len(starts) == 1:
        return [_undone(starts[0])]
    apart = iter(
        [_by_itself(*refine_guarded(body, [start], config, held, guard)[0]) for start in _where(starts, astray)]
    )
    rest = _where(starts, [not is_astray for is_astray in astray])
    together = iter(refine_guarded(body, rest, config, held, guard, shared) if rest else [])
    return [next(apart if is_astray else together) for is_astray in astray]


def led_away(
    body: BodyModel,
    starts: Sequence[PhotoStart],
    found: Sequence[tuple[Fit, Evidence2D]],
    config: SilhouetteConfig,
    bounds: Sequence[PhotoGuardConfig],
    shared: Shared,
) -> list[bool]:
    """Say of each photo whether refinement led its body further away from its start than its bounds."""
    each = [
        leaving(body, start.fit, start.shown, fit, after, config.min_visibility)
        for start, (fit, after) in zip(starts, found, strict=True)
    ]
    # The volume is that of one body, whatever the network made of it in each photo, and how knees bend along the line
    # of sight is what another photo of the same pose shows.
    grown = float(np.mean([one.grown for one in each]))
    others_know = shared == "pose" and len(starts) > 1
    judged = [replace(one, grown=grown, bent=0.0 if others_know else one.bent) for one in each]
    return [one.is_too_far(bound) for one, bound in zip(judged, bounds, strict=True)]


def _by_keypoints(fit: Fit, shown: Evidence2D, after: Evidence2D) -> tuple[Fit, Evidence2D]:
    warnings = [
        *fit.warnings,
        "the outline led the refinement astray, and only keypoints guided it: clothes are loose, or the mask is wrong",
    ]
    return replace(fit, warnings=tuple(warnings)), shown.resized(after.metres_per_unit / shown.metres_per_unit)


def _undone(start: PhotoStart) -> tuple[Fit, Evidence2D]:
    warnings = [
        *start.fit.warnings,
        "the refinement led away from what network and keypoints say and was undone: the body"
        " is as the network's vertices have it",
    ]
    return replace(start.fit, was_refined=False, warnings=tuple(warnings)), start.shown


def _by_itself(fit: Fit, shown: Evidence2D) -> tuple[Fit, Evidence2D]:
    warnings = [
        *fit.warnings,
        "this photo does not go with the others and was registered by itself: another person, or another pose",
    ]
    return replace(fit, warnings=tuple(dict.fromkeys(warnings))), shown


def _where(starts: Sequence[PhotoStart], wanted: Sequence[bool]) -> list[PhotoStart]:
    return [start for start, is_wanted in zip(starts, wanted, strict=True) if is_wanted]
