"""The story for several photos of one person: each is looked at by itself, then one body is refined against all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lvdreg.base.errors import UsageError
from lvdreg.base.timing import Clock, Progress
from lvdreg.body.model import BodyModel
from lvdreg.fit.together import Shared
from lvdreg.photo.model import Photo
from lvdreg.pipeline.agree import agreed_height, sharing, with_fused_sigma
from lvdreg.pipeline.arguments import check_arguments
from lvdreg.pipeline.assess_photo import FittedPhoto
from lvdreg.pipeline.config import ImageRegisterConfig, image_config
from lvdreg.pipeline.photo import asked_of, finish_photo, fit_photo, read_people, refine_photos
from lvdreg.result.photo import PhotoRegistration
from lvdreg.settings import Settings, settings_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

OPTIONS: dict[str, str] = {"shape": "--same-person", "pose": "--views"}
MOST: dict[str, int] = {"shape": 16, "pose": 8}
"""So many photos at most are refined together: every step solves for the unknowns of all of them."""


def register_photos(
    sources: "Sequence[str | Path | Photo | ArrayLike]",
    *,
    same: Shared = "shape",
    model: str = "anny",
    mask: str = "auto",
    person: int | None = None,
    keypoints: str | Path | None = None,
    height: float | None = None,
    camera: str = "perspective",
    focal: float | None = None,
    method: str = "lvd",
    refine: bool = True,
    device: str = "cpu",
    settings: "Settings | Mapping[str, Any] | None" = None,
    progress: Progress | None = None,
) -> list[PhotoRegistration | Exception]:
    """Register a body model to one person in several photos; other arguments are those of ``register_image``.

    A photo that cannot be registered, or does not go with the others, does not keep them from it.

    Args:
        sources: At least two photos: files, ``Photo`` or colours.
        same: "shape": the shape is the same in all photos; "pose": the pose is, too, as of photos from around somebody
            who stands still, 8 at most.

    Returns:
        For each photo its result, or the error that kept it from one. Betas of those that share the shape are the same
        bit for bit; ``shape_with`` and ``pose_with`` name the photos that a result shares them with. What takes time
        for all photos together is in the timings of the first.

    Raises:
        UsageError: an option has no such value, or there are too few or too many photos.
    """
    check_count(same, len(sources))
    given = {"model": model, "mask": mask, "person": person, "height": height, "camera": camera, "focal": focal}
    given["method"] = method
    check_arguments(progress, keypoints=keypoints, device=device, **given)
    chosen = settings_of(settings, "image")
    asked, config = asked_of(given, refine, device), image_config(chosen)
    asked |= {"keypoints": keypoints and str(keypoints), "set_keypoints": {}, "same": same, **chosen.reported()}
    results: dict[int, PhotoRegistration | Exception] = {}
    looked_at: dict[int, _LookedAt] = {}
    for i, source in enumerate(sources):
        clock = Clock(progress)
        try:
            photo, people = read_people(source, asked, False, clock)
            looked_at[i] = _LookedAt(*fit_photo(photo, people[0], asked, config, clock), clock.seconds)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - what is wrong with one photo must not lose the results of others
            results[i] = error
    finished = _together(list(looked_at.values()), same, asked, config, progress) if looked_at else []
    results |= dict(zip(looked_at, finished, strict=True))
    return [results[i] for i in range(len(sources))]


@dataclass(frozen=True)
class _LookedAt:
    """One photo's fit, and the seconds of each stage up to it."""

    body: BodyModel
    fitted: FittedPhoto
    seconds: dict[str, float]


def _together(
    photos: Sequence[_LookedAt],
    same: Shared,
    asked: dict[str, Any],
    config: ImageRegisterConfig,
    progress: Progress | None,
) -> list[PhotoRegistration]:
    """Refine what was looked at together, and finish each."""
    body, fitted = photos[0].body, [one.fitted for one in photos]
    clock = Clock(progress, photos[0].seconds)
    if asked["height"] is None and len(photos) > 1:
        with clock.stage("fit"):
            height = agreed_height(body, fitted)
            fitted = [each.at_height(body, height, config.fit) for each in fitted]
    found = refine_photos(body, fitted, asked, config, clock, same)
    shapes, poses = sharing(found)
    if same == "pose":
        found = with_fused_sigma(found, poses)
    names = [each.photo.name for each in fitted]
    results = []
    for i, (one, each) in enumerate(zip(photos, found, strict=True)):
        result = finish_photo(body, fitted[i], each, asked, config, Clock(progress, one.seconds))
        shape_with, pose_with = (tuple(names[j] for j in others[i]) for others in (shapes, poses))
        warnings = (*result.warnings, *alone_warnings(len(photos)))
        results.append(replace(result, warnings=warnings, shape_with=shape_with, pose_with=pose_with))
    return results


def alone_warnings(count: int) -> list[str]:
    """Say where only one photo of several could be registered."""
    return ["no other photo could be registered, so this one was by itself"] if count == 1 else []


def check_count(same: str, count: int) -> None:
    """Refuse what photos cannot have in common, and too few or too many of them.

    Raises:
        UsageError: says which.
    """
    if same not in OPTIONS:
        raise UsageError(f"same: expected 'shape' or 'pose', got {same!r:.60}")
    if not 2 <= count <= MOST[same]:
        raise UsageError(f"{OPTIONS[same]}: expected 2 to {MOST[same]} photos of one person, got {count}")
