"""What a method says of a person in a photo before a body is fitted: where each vertex is seen, how near, how surely.

Learned vertex descent looks at the pixels, SMPLify knows keypoints alone, SPIN and PyMAF regress parameters from
pixels, and EFT tunes SPIN's regressor to keypoints. Everything after it is the same for all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.base.errors import PhotoError, UsageError
from lvdreg.base.provenance import FileHashes
from lvdreg.base.timing import Clock
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.photo import descend_photo, in_crop, seen_joints
from lvdreg.descent.uncertainty import one_step_with_sigma
from lvdreg.descent.weights import TrainedRegressor, image_weights, pymaf_weights, spin_weights
from lvdreg.fit.eft import EFT
from lvdreg.fit.mixture import mixture_file
from lvdreg.fit.smplify import SMPLify, spread
from lvdreg.image.camera import Lens
from lvdreg.image.crop import Crop, crop_around
from lvdreg.image.encoder import ImageConfig
from lvdreg.photo.model import Photo
from lvdreg.photo.shown import Shown
from lvdreg.pipeline.assess_photo import as_faced
from lvdreg.pipeline.config import ImageRegisterConfig
from lvdreg.pipeline.lens import likely_unit


@dataclass(frozen=True)
class Estimate:
    """What a method says of one person.

    Attributes:
        person: Who, with the sides that were decided on.
        crop: Around the person, and the photo's lens.
        vertices: Of the free model, unit frame of the crop: where they are seen, and how near.
        sigma: Of them, units of the crop.
        sigma_depth: Its part along the line of sight.
        converged: Whether the last step was at rest.
        is_body: Whether the vertices are those of a body already, so that a body's distance from them says nothing.
        steps: What was said on the way, by name, as ``vertices``.
        files: SHA-256 of every file that had a part, by name.
    """

    person: Shown
    crop: Crop
    vertices: Float[Tensor, "V 3"]
    sigma: Float[Tensor, " V"]
    sigma_depth: Float[Tensor, " V"]
    converged: bool
    is_body: bool = False
    steps: Mapping[str, Float[Tensor, "V 3"]] = field(default_factory=dict)
    files: FileHashes = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """A person as far as no lens is needed: all people of a photo are looked at before one lens is chosen for them.

    Attributes:
        pixels_per_metre: How large the person is likely to be seen, pixels of the photo.
        with_lens: Says the rest; times its stages by the clock.
    """

    pixels_per_metre: float
    with_lens: Callable[[Lens, Clock], Estimate]


_FEW = "expected {} keypoints or more for --method {}, found {} in the photo; give them with --keypoints FILE"

Method = Callable[[BodyModel, Photo, Shown, dict[str, Any], ImageRegisterConfig, Clock], Look]


def by_descent(
    body: BodyModel, photo: Photo, person: Shown, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock
) -> Look:
    """Let all vertices of the free model descend."""
    with clock.stage("load"):
        trained = image_weights(body.data.name, asked["device"])
    with clock.stage("crop"):
        crop = crop_around(photo.rgb, person.mask, config.cut, trained.net.config.image.size)
    with clock.stage("descend"):
        faced = descend_photo(
            trained.net, photo.rgb, crop, person.keypoints, body.faces, config.cut, config.descent, person.sides
        )
        views, person = faced.views, as_faced(person, faced.swapped, faced.sides)
    with clock.stage("uncertainty"):
        predicted, *raw_sigmas = one_step_with_sigma(
            trained.net.field, views, body.faces, config.uncertainty.smoothing_rounds
        )
        expected = (table(raw_sigma) for table, raw_sigma in zip(trained.calibrations, raw_sigmas, strict=True))
        predicted, sigma, sigma_depth = in_crop(views, predicted, *expected)
    unit = likely_unit(predicted.double().cpu().numpy(), body, asked["height"])
    is_converged, files = views.converged, trained.files

    def with_lens(lens: Lens, _clock: Clock) -> Estimate:
        return Estimate(person, replace(crop, lens=lens), predicted, sigma, sigma_depth, is_converged, files=files)

    return Look(crop.side / 2 / unit, with_lens)


def by_smplify(
    body: BodyModel, photo: Photo, person: Shown, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock
) -> Look:
    """Fit the free model to keypoints, with the sides that most looks at the photo agree on.

    Raises:
        PhotoError: too few keypoints are known.
    """
    person = _decided(person)
    if asked["device"] != "cpu":
        notes = (*person.notes, f"--device {asked['device']}: smplify fitted on the CPU, which is quicker for one body")
        person = replace(person, notes=notes)
    if person.keypoints is None:
        raise PhotoError(_FEW.format(config.smplify.min_keypoints, "smplify", "none"))
    with clock.stage("crop"):
        crop = crop_around(photo.rgb, person.mask, config.cut, ImageConfig.size)
    with clock.stage("smplify"):
        smplify = SMPLify(body, config.smplify)
        keypoints = [person.keypoints]
        seen = smplify.seen([crop], keypoints)
        known = int((seen.weight[0] > 0).sum())
        if known < config.smplify.min_keypoints:
            raise PhotoError(_FEW.format(config.smplify.min_keypoints, "smplify", known or "none"))
        unit = float(smplify.likely_units(seen)[0].exp())

    def with_lens(lens: Lens, clock: Clock) -> Estimate:
        seen_so = replace(crop, lens=lens)
        with clock.stage("smplify"):
            found = smplify.fit(smplify.seen([seen_so], keypoints))
            sigma, sigma_depth = (x[0].float() for x in spread(body, found))
        steps = {f"smplify_{i + 1}": _seen_in(seen_so, body, *step) for i, step in enumerate(found.stages)}
        vertices, is_converged = _seen_in(seen_so, body, found.params, found.log_unit), bool(found.converged[0])
        return Estimate(person, seen_so, vertices, sigma, sigma_depth, is_converged, True, steps, mixture_file())

    return Look(crop.side / 2 / unit, with_lens)


def by_spin(
    body: BodyModel, photo: Photo, person: Shown, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock
) -> Look:
    """Regress the free model, with the sides that most looks at the photo agree on."""
    return _regressed(spin_weights, False, body, photo, _decided(person), asked, config, clock)


def by_eft(
    body: BodyModel, photo: Photo, person: Shown, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock
) -> Look:
    """Regress the free model as SPIN does, by a regressor that is tuned to the keypoints.

    Raises:
        PhotoError: too few keypoints are known.
    """
    return _regressed(spin_weights, True, body, photo, _decided(person), asked, config, clock)


def by_pymaf(
    body: BodyModel, photo: Photo, person: Shown, asked: dict[str, Any], config: ImageRegisterConfig, clock: Clock
) -> Look:
    """Regress the free model as PyMAF does, with the sides that most looks at the photo agree on."""
    return _regressed(pymaf_weights, False, body, photo, _decided(person), asked, config, clock)


def _regressed(
    load: Callable[[str, str], TrainedRegressor],
    is_tuned: bool,
    body: BodyModel,
    photo: Photo,
    person: Shown,
    asked: dict[str, Any],
    config: ImageRegisterConfig,
    clock: Clock,
) -> Look:
    """Ask a regressor, as it is or tuned to the keypoints of the photo (EFT)."""
    device = asked["device"]
    with clock.stage("load"):
        trained = load(body.data.name, device)
    net = trained.net
    with clock.stage("crop"):
        crop = crop_around(photo.rgb, person.mask, config.cut, net.sees.size)
    keypoints = seen_joints(crop, person.keypoints, net.sees.keypoints)
    image, mask, joints = (x[None].to(device) for x in (crop.image, crop.mask, keypoints))
    eft = EFT(body, config.eft, device)
    told = None if person.keypoints is None else eft.seen(crop, person.keypoints)
    if is_tuned:
        with clock.stage("tune"):
            known = 0 if told is None else int((told[:, 2] > 0).sum())
            if told is None or known < config.eft.min_keypoints:
                raise PhotoError(_FEW.format(config.eft.min_keypoints, "eft", known or "none"))
            tuned = eft.tune(net, image, mask, joints, told)
            said = {f"eft_{i}": each for i, each in enumerate(tuned.said[:-1])}
            last = tuned.said[tuned.best]
    else:
        with clock.stage("regress"), torch.no_grad():
            *before, last = net.steps(image, mask, joints)
            said = {f"{net.step_name}_{i + 1}": each for i, each in enumerate(before)}
    with torch.no_grad():
        vertices, *others = (each.detached("cpu").vertices(body)[0] for each in (last, *said.values()))
        missed = None if told is None else eft.missed(last, told)
    sigma, sigma_depth = (trained.errors_tuned if is_tuned else trained.errors).at(body.weights.cpu(), missed)
    steps, files = dict(zip(said, others, strict=True)), trained.files

    def with_lens(lens: Lens, _clock: Clock) -> Estimate:
        return Estimate(person, replace(crop, lens=lens), vertices, sigma, sigma_depth, True, True, steps, files)

    return Look(crop.side / 2 / likely_unit(vertices.double().numpy(), body, asked["height"]), with_lens)


def _decided(person: Shown) -> Shown:
    """Return a person with the sides that most looks at the photo agree on."""
    return as_faced(person, True, -person.sides) if person.sides < 0 else person


@torch.no_grad()
def _seen_in(crop: Crop, body: BodyModel, params: BodyParams, log_unit: Float[Tensor, " B"]) -> Float[Tensor, "V 3"]:
    """Return where the first body of a batch is seen, and how near: unit frame."""
    one = BodyParams(*(x[0].to(body.v_template) for x in (params.betas, params.pose, params.transl)))
    placed = body(one).vertices.double().numpy() / float(log_unit[0].exp())
    return torch.from_numpy(crop.camera(1.0).looked_at(placed)).to(body.v_template)


METHODS: dict[str, Method] = {
    "lvd": by_descent, "smplify": by_smplify, "spin": by_spin, "eft": by_eft, "pymaf": by_pymaf
}  # fmt: skip


def check_method(method: str) -> None:
    """Check that there is such a method.

    Raises:
        UsageError: there is none.
    """
    if method not in METHODS:
        raise UsageError(f"--method: expected {', '.join(METHODS)}, got {method[:60]}")
