"""The story for photos: a photo of a person in, a registered body out. Each step is one call; nothing is computed here.

The steps are those of scans (pipeline/scan.py); what differs is what the network sees, and what the body is refined
against.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lvdreg.base.errors import LvdregError, RegistrationError, UsageError
from lvdreg.base.text import one_line
from lvdreg.base.threads import one_torch_thread
from lvdreg.base.timing import Clock, Progress, one_blas_thread
from lvdreg.body.chosen import Chosen, choose
from lvdreg.body.model import BodyModel
from lvdreg.descent.photo import ALIKE, UNSEEN_SLOPE, widened
from lvdreg.fit.photo import PhotoStart, evidence_of
from lvdreg.fit.photo_guard import refine_guarded
from lvdreg.fit.together import Shared, agreed_fits
from lvdreg.image.camera import Lens
from lvdreg.photo.model import Photo, photo_of
from lvdreg.photo.shown import Shown, people_shown
from lvdreg.pipeline.arguments import check_arguments, check_height, check_kind
from lvdreg.pipeline.assess_photo import (
    FittedPhoto,
    FoundInPhoto,
    assemble_photo,
    fit_at_size,
    with_fitted_sigma,
)
from lvdreg.pipeline.config import ImageRegisterConfig, image_config
from lvdreg.pipeline.estimate import METHODS, Look, check_method
from lvdreg.pipeline.lens import check_camera, lens_of
from lvdreg.pipeline.scan import correspond
from lvdreg.result.photo import People, PhotoRegistration
from lvdreg.settings import Settings, settings_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def register_image(
    source: "str | Path | Photo | ArrayLike",
    *,
    model: str = "anny",
    mask: str | Path = "auto",
    person: int | None = None,
    keypoints: str | Path | None = None,
    set_keypoints: Mapping[str, tuple[float, float]] | None = None,
    height: float | None = None,
    camera: str = "perspective",
    focal: float | None = None,
    method: str = "lvd",
    refine: bool = True,
    device: str = "cpu",
    settings: "Settings | Mapping[str, Any] | None" = None,
    progress: Progress | None = None,
) -> PhotoRegistration:
    """Register a body model to a person in a photo.

    Args:
        source: Image file, a ``Photo``, or colours (H, W, 3): integers 0 to 255 or floats 0 to 1.
        model: Name of a body, free or added (``lvdreg models add``).
        mask: "auto": alpha channel or networks say which pixels are the person's; "none": nothing does; "rembg": the
            package of that name; or a file that does.
        person: Which of several people, from 1, the most prominent first; the first when None.
        keypoints: A JSON file of OpenPose or COCO, a report.json, or a folder of such files named after photos; the
            networks' keypoints when None.
        set_keypoints: Column and row in pixels of single keypoints that are to be moved, by name: ``report.json`` has
            the names, and where they were found.
        height: Of the person, metres; None: guessed from the body's proportions.
        camera: "perspective", or "weak" for a camera so far away that depth moves nothing in the picture.
        focal: Focal length, millimetres on 35 mm film; None: by the photo's EXIF data, else the likeliest.
        method: What looks for the body: "lvd", learned vertex descent; "smplify", which fits it to keypoints alone;
            "spin", a regressor of its parameters; "eft", that regressor tuned to the keypoints of this photo; or
            "pymaf", regressors that look where the body projects.
        refine: Whether the body is refined against outline and keypoints.
        device: Where the networks run.
        settings: ``lvdreg.Settings``, or some of them by name: {"quality": "fast"}; standard quality when None.
        progress: Receives the name of each stage as it begins.

    Returns:
        The result in metres, with the camera that projects it onto the photo, uncertainty, metrics and a verdict.

    Raises:
        PhotoError: the photo or the mask cannot be read, or shows nobody.
        BodyError, CheckpointError: body or weights are missing.
        UsageError: an option has no such value.
        RegistrationError: no body could be fitted.
    """
    given = {
        "model": model,
        "mask": mask,
        "person": person,
        "height": height,
        "camera": camera,
        "focal": focal,
        "method": method,
    }
    check_arguments(progress, keypoints=keypoints, set_keypoints=set_keypoints, device=device, **given)
    clock = Clock(progress)
    asked, chosen = asked_of(given, refine, device), settings_of(settings, "image")
    asked |= {"keypoints": keypoints and str(keypoints), "set_keypoints": dict(set_keypoints or {})}
    photo, people = read_people(source, asked, False, clock)
    return _register(photo, people[0], asked | chosen.reported(), image_config(chosen), clock)


def register_people(
    source: "str | Path | Photo | ArrayLike",
    *,
    model: str = "anny",
    keypoints: str | Path | None = None,
    height: float | None = None,
    camera: str = "perspective",
    focal: float | None = None,
    method: str = "lvd",
    refine: bool = True,
    device: str = "cpu",
    settings: "Settings | Mapping[str, Any] | None" = None,
    progress: Progress | None = None,
) -> People:
    """Register a body model to everybody in a photo; arguments and errors are those of ``register_image``.

    All are seen through one lens: where nothing says its focal length, it is the likeliest for all of them together.

    Raises:
        RegistrationError: nobody could be registered.
    """
    given = {"model": model, "height": height, "camera": camera, "focal": focal, "method": method}
    check_arguments(progress, keypoints=keypoints, device=device, **given)
    clock = Clock(progress)
    asked = asked_of({**given, "mask": "auto", "person": None}, refine, device)
    chosen = settings_of(settings, "image")
    asked |= {"keypoints": keypoints and str(keypoints), "set_keypoints": {}}
    photo, people = read_people(source, asked, True, clock)
    asked, config = asked | chosen.reported(), image_config(chosen)
    looked_at, results = list[tuple[LookedAt, dict[str, float]]](), list[PhotoRegistration]()
    failures, lost = dict[int, str](), dict[str, float]()

    def failed(number: int, error: LvdregError) -> None:
        failures[number] = f"person {number}: {one_line(str(error))}"
        lost.update({name: lost.get(name, 0.0) + seconds for name, seconds in clock.seconds.items()})

    for shown in people:
        try:
            looked_at.append((look_at(photo, shown, asked, config, clock), clock.seconds))
        except LvdregError as error:
            failed(shown.number, error)
        # Each result has its own times: the photo was read once.
        clock = Clock(progress)
    lens = common_lens([one for one, _ in looked_at], asked)
    for one, seconds in looked_at:
        clock = Clock(progress, seconds)
        try:
            fitted = fit_looked(one, lens, asked, config, clock)
            (found,) = refine_photos(one.model.body, [fitted], asked, config, clock)
            results.append(finish_photo(one.model.body, fitted, found, asked, config, clock))
        except LvdregError as error:
            failed(one.person.number, error)
    reasons = tuple(failures[number] for number in sorted(failures))
    if not results:
        raise RegistrationError("; ".join(reasons))
    return People(tuple(results), reasons, lost)


def asked_of(given: Mapping[str, Any], refine: bool, device: str) -> dict[str, Any]:
    """Check what can be checked before anything is computed; returns what stands in the report."""
    model = given["model"]
    if model.endswith("+d"):
        raise UsageError(
            f"--model: expected a body without displacements, got {model}: a photo does not show a surface"
        )
    check_height(given["height"])
    check_camera(given["camera"], given["focal"])
    check_method(given["method"])
    return {**given, "mask": str(given["mask"]), "with_refinement": refine, "device": device}


@one_blas_thread()
@one_torch_thread()
def read_people(source: Any, asked: dict[str, Any], everyone: bool, clock: Clock) -> tuple[Photo, list[Shown]]:
    """Read a photo and find the people in it that are asked for."""
    with clock.stage("read"):
        photo = photo_of(source)
    with clock.stage("mask"):
        keypoints = None if asked["keypoints"] is None else Path(asked["keypoints"])
        return photo, people_shown(
            photo, asked["mask"], asked["person"], everyone=everyone, device=asked["device"], keypoints=keypoints,
            places=asked["set_keypoints"],
        )  # fmt: skip


def _register(
    photo: Photo, person: Shown, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock
) -> PhotoRegistration:
    """Take all steps for one person."""
    model, fitted = fit_photo(photo, person, asked, config, clock)
    (found,) = refine_photos(model, [fitted], asked, config, clock)
    return finish_photo(model, fitted, found, asked, config, clock)


@dataclass(frozen=True)
class LookedAt:
    """One person of a photo, whom the method has looked at; the photo's lens is not chosen yet."""

    photo: Photo
    person: Shown
    model: Chosen
    look: Look


@one_blas_thread()
@one_torch_thread()
def look_at(photo: Photo, person: Shown, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock) -> LookedAt:
    """Let the method look at one person."""
    with clock.stage("load"):
        model = choose(asked["model"], correspond)
        check_kind(asked["model"], model.source.data, hands=False)
    look = METHODS[asked["method"]](model.source, photo, person, asked, config, clock)
    return LookedAt(photo, person, model, look)


def common_lens(looked_at: Sequence[LookedAt], asked: dict[str, Any]) -> Lens:
    """Choose the lens of the photo that shows these people."""
    if not looked_at:
        return Lens()
    return lens_of(looked_at[0].photo, [one.look.pixels_per_metre for one in looked_at], asked)


def fit_photo(
    photo: Photo, person: Shown, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock
) -> tuple[BodyModel, FittedPhoto]:
    """Let the method look at one person, and fit a body to what it says."""
    one = look_at(photo, person, asked, config, clock)
    return one.model.body, fit_looked(one, common_lens([one], asked), asked, config, clock)


@one_blas_thread()
@one_torch_thread()
def fit_looked(
    one: LookedAt, lens: Lens, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock
) -> FittedPhoto:
    """Fit a body to what the method says of one person, seen through the photo's lens."""
    model, said = one.model, one.look.with_lens(lens, clock)
    with clock.stage("fit"):
        crop = said.crop
        vertices_unit, sigma_unit = model.carried(said.vertices, said.sigma)
        _, depth_unit = model.carried(said.vertices, said.sigma_depth)
        held_unit = widened(sigma_unit, vertices_unit, crop, ALIKE * UNSEEN_SLOPE)
        sigma_unit, depth_unit = (widened(own, vertices_unit, crop) for own in (sigma_unit, depth_unit))
        seen_unit = vertices_unit.double().cpu().numpy()
        placed_unit = torch.from_numpy(crop.camera(1.0).unprojected(seen_unit)).to(vertices_unit)
        sized = fit_at_size(model.body, placed_unit, held_unit, asked["height"], config.fit)
    steps = {name: model.carried(step, said.sigma)[0].double().cpu().numpy() for name, step in said.steps.items()}
    files = {**model.files, **said.files, **one.person.files}
    return FittedPhoto(
        one.photo, said.person, crop, seen_unit, placed_unit, sigma_unit, depth_unit, held_unit, sized, said.converged,
        files, said.is_body, steps,
    )  # fmt: skip


@one_blas_thread()
@one_torch_thread()
def refine_photos(
    body: BodyModel,
    fitted: Sequence[FittedPhoto],
    asked: dict[str, Any],
    config: ImageRegisterConfig,
    clock: Clock,
    shared: Shared = "shape",
) -> list[FoundInPhoto]:
    """Refine one person's bodies against all photos of them, and say how sure they are."""
    with clock.stage("refine"):
        sigmas = [each.sigmas(config.fit.sigma_floor) for each in fitted]
        starts = [
            PhotoStart(each.sized.fit, evidence_of(
                each.crop, each.sized.metres_per_unit, each.person.keypoints, config.silhouette,
                with_mask=each.person.has_mask, height=asked["height"], sure=asked["set_keypoints"],
            ), sigma)
            for each, (sigma, _) in zip(fitted, sigmas, strict=True)
        ]  # fmt: skip
        if asked["with_refinement"] and config.silhouette.max_iterations:
            refined = refine_guarded(body, starts, config.silhouette, config.refine, config.guard, shared)
        else:
            refined = agreed_fits(body, starts, config.silhouette, config.refine, shared)
    found = []
    for each, both, (fit, shown) in zip(fitted, sigmas, refined, strict=True):
        sigma, sigma_depth = (x.double().cpu().numpy() for x in both)
        one = FoundInPhoto(each.predicted, each.sized, fit, sigma, sigma_depth, shown, each.converged, each.steps)
        found.append(one if each.is_body else with_fitted_sigma(one))
    return found


@one_blas_thread()
@one_torch_thread()
def finish_photo(
    body: BodyModel,
    fitted: FittedPhoto,
    found: FoundInPhoto,
    asked: dict[str, Any],
    config: ImageRegisterConfig,
    clock: Clock,
) -> PhotoRegistration:
    """Measure and judge a registration."""
    with clock.stage("assess"):
        result = assemble_photo(fitted.photo, fitted.person, body, found, asked, config)
    return replace(result, timings=dict(clock.seconds), assets=fitted.files)
