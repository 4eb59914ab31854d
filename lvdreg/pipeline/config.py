"""Everything one registration uses: the settings of all stages, for people, hands and photos, and what the settings of
users (lvdreg/settings.py) change in them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from lvdreg.base.lengths import HAND_SCALE, scaled
from lvdreg.descent.choose import ViewConfig
from lvdreg.descent.descend import PHOTO_DESCENT, DescentConfig
from lvdreg.descent.hands import HandLookConfig
from lvdreg.descent.uncertainty import UncertaintyConfig
from lvdreg.fit.correspond import TrimConfig
from lvdreg.fit.displace import DisplaceConfig
from lvdreg.fit.eft import EFTConfig
from lvdreg.fit.photo import SilhouetteConfig
from lvdreg.fit.photo_guard import PhotoGuardConfig
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.size import HAND_SIZE, SizeConfig
from lvdreg.fit.smplify import SMPLifyConfig
from lvdreg.fit.things import LeaveOutConfig
from lvdreg.fit.vertices import FitConfig
from lvdreg.geometry.metrics import MeasureConfig
from lvdreg.image.crop import CutConfig
from lvdreg.result.verdict import VerdictConfig
from lvdreg.result.verdict_photo import PhotoVerdictConfig
from lvdreg.scan.segment import CleanConfig
from lvdreg.scan.things import ThingConfig
from lvdreg.settings import Settings, preset


@dataclass(frozen=True)
class RegisterConfig:
    """Everything one registration uses."""

    clean: CleanConfig = field(default_factory=CleanConfig)
    things: ThingConfig | None = field(default_factory=ThingConfig)
    leave_out: LeaveOutConfig = field(default_factory=LeaveOutConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    descent: DescentConfig = field(default_factory=DescentConfig)
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    fit: FitConfig = field(default_factory=partial(FitConfig, guess=0.15))
    trim: TrimConfig | None = None
    refine: RefineConfig = field(default_factory=partial(RefineConfig, guess=0.15))
    displace: DisplaceConfig = field(default_factory=DisplaceConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    size: SizeConfig = field(default_factory=SizeConfig)
    hands: HandLookConfig | None = field(default_factory=HandLookConfig)


def hand_config() -> RegisterConfig:
    """Return the settings for hands: a person's, scaled, but for what hands do not share with people.

    Hands wear no clothes, so a scan pulls inwards and outwards alike; they have no up, so boxes know the way and views
    tilt a little; the noise of scanners does not shrink with what they scan; and the shape of a hand hardly tells its
    size: a child's is much like a grown person's.

    Chosen by hand on synthetic hands, with things and without, and looked at on the real ones of the data folder.
    """
    small = scaled(replace(RegisterConfig(), trim=TrimConfig(), hands=None), HAND_SCALE)
    return replace(
        small,
        size=HAND_SIZE,
        clean=replace(
            small.clean,
            gap=0.12,  # fingers hide each other: what is seen of them comes in pieces further apart
            limb_share=0.01,
            hem_share=None,  # what lies under a hand is what it lies on
            limb_reach=0.3,
            min_plane=0.2,  # tables are large
            min_left=0.004,
            min_cover=0.15,  # the flat side of a hand is no table: nothing lies over it
            wall=0.05,  # a centimetre
            bleeding_reach=0.3,
            drop_mixed_pixels=True,
            piece_share=0.3,
        ),
        things=ThingConfig(min_flat=0.12),  # palms are flatter than backs
        fit=replace(small.fit, guess=math.inf),  # no clothes hide a part of a hand, and it stretches nowhere else
        views=replace(
            small.views,
            tilt=15.0,
            coarse_vertices=160,
            coarse_steps=5,
            min_probability=0.02,
            consensus_exponent=8.0,
            extent_exponent=0.0,
            part_zooms=(),
            second_hand_ratio=8.0,
            coarse_views=4,
            rival_ratio=math.inf,
        ),
        refine=replace(
            small.refine,
            guess=math.inf,
            kernel=(0.013, 0.003),
            kernel_noises=5.0,
            fine_points=4000,
            noise=0.001,
            outside=1.0,
            coarse_inside=1.0,
            min_skin_weight=1.0,
        ),
        displace=replace(small.displace, num_points=12_000, noise_left=0.0003),
        verdict=replace(
            small.verdict,
            scan_to_registered_mm=(2.5, 8.0),
            registered_to_scan_mm=(2.5, 8.0),
            explained_share=(0.45, 0.2),
            sigma_mean_mm=(4.0, 20.0),
            sigma_descent_median_mm=(8.0, 20.0),
            fit_residual_mm=(7.0, 16.0),
            height_m=None,
            length_m=(0.05, 0.075, 0.24, 0.28),
            side_confidence=(0.95, 0.0),
        ),
    )


HAND = hand_config()


@dataclass(frozen=True)
class ImageRegisterConfig:
    """Everything one registration of a photo uses."""

    cut: CutConfig = field(default_factory=CutConfig)
    descent: DescentConfig = PHOTO_DESCENT
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    silhouette: SilhouetteConfig = field(default_factory=SilhouetteConfig)
    guard: PhotoGuardConfig = field(default_factory=PhotoGuardConfig)
    smplify: SMPLifyConfig = field(default_factory=SMPLifyConfig)
    eft: EFTConfig = field(default_factory=EFTConfig)
    verdict: PhotoVerdictConfig = field(default_factory=PhotoVerdictConfig)


def scan_config(settings: Settings, command: str) -> RegisterConfig:
    """Return the settings of all stages for scans: ``command`` is "register" or "hands"."""
    return _changed(HAND if command == "hands" else RegisterConfig(), settings, command, SCAN_KNOBS)


def image_config(settings: Settings) -> ImageRegisterConfig:
    """Return the settings of all stages for photos."""
    return _changed(ImageRegisterConfig(), settings, "image", IMAGE_KNOBS)


def _changed(config: Any, settings: Settings, command: str, knobs: Mapping[str, Callable[[Any, Any], Any]]) -> Any:
    """Change what differs from standard quality: whatever is as there stays what it is to the last bit."""
    standard = preset("standard", command)
    for name, value in settings.effective(command).items():
        if name in knobs and value != standard[name]:
            config = knobs[name](config, value)
    return config


def _num_points(config: RegisterConfig, count: int) -> RegisterConfig:
    """Sample more or fewer points, and let every stage that takes some of them take as many more or fewer."""
    factor = count / config.clean.num_points
    fine, displaced = (round(factor * n) for n in (config.refine.fine_points, config.displace.num_points))
    return replace(
        config,
        clean=replace(config.clean, num_points=count),
        refine=replace(config.refine, fine_points=fine),
        displace=replace(config.displace, num_points=displaced),
    )


def _num_views(config: RegisterConfig, count: int) -> RegisterConfig:
    return replace(config, views=replace(config.views, num_views=count))


def _refine_iterations(config: RegisterConfig, count: int) -> RegisterConfig:
    return replace(config, refine=replace(config.refine, max_iterations=count))


def _clothes(config: RegisterConfig, _never: bool) -> RegisterConfig:
    """Let skin be everywhere: what lies inside the scan is drawn out as what lies outside is drawn in, as of hands."""
    bare = replace(config.refine, outside=1.0, coarse_inside=1.0, min_skin_weight=1.0)
    return replace(config, refine=bare)


def _outlier_distance(config: RegisterConfig, distance_mm: float) -> RegisterConfig:
    last = distance_mm / 1000
    return replace(config, refine=replace(config.refine, kernel=(max(config.refine.kernel[0], last), last)))


def _smoothing(config: RegisterConfig, length_mm: float) -> RegisterConfig:
    """Set the least length of the last round; those of the first and of noisy scans are no shorter."""
    least = length_mm / 1000
    first, _, most = config.displace.smoothing
    return replace(config, displace=replace(config.displace, smoothing=(max(first, least), least, max(most, least))))


def _shape_prior(config: Any, weight: float) -> Any:
    """Weigh the prior in both places where a body is fitted; of scans and photos alike."""
    fit, refine = (replace(c, prior=replace(c.prior, shape_weight=weight)) for c in (config.fit, config.refine))
    return replace(config, fit=fit, refine=refine)


def _pose_prior(config: Any, weight: float) -> Any:
    fit, refine = (replace(c, prior=replace(c.prior, pose_weight=weight)) for c in (config.fit, config.refine))
    return replace(config, fit=fit, refine=refine)


def _remove_surroundings(config: RegisterConfig, wanted: bool) -> RegisterConfig:
    clean = replace(config.clean, remove_planes=wanted)
    return replace(config, clean=clean, things=config.things if wanted else None)


def _good_until(limits: tuple[float, ...], good: float) -> tuple[float, ...]:
    """Return limits of the verdict with another end of "good"; "failed" begins no earlier than at twice that."""
    return good, max(limits[1], 2 * good)


def _max_sigma(config: RegisterConfig, sigma_mm: float) -> RegisterConfig:
    verdict = config.verdict
    return replace(config, verdict=replace(verdict, sigma_mean_mm=_good_until(verdict.sigma_mean_mm, sigma_mm)))


def _max_distance(config: RegisterConfig, distance_mm: float) -> RegisterConfig:
    """Set the limit from scan to surface, and that of the way back in proportion."""
    verdict = config.verdict
    factor = distance_mm / verdict.scan_to_registered_mm[0]
    names = ("scan_to_registered_mm", "registered_to_scan_mm")
    old: dict[str, tuple[float, ...]] = {name: getattr(verdict, name) for name in names}
    limits: dict[str, Any] = {name: _good_until(own, factor * own[0]) for name, own in old.items()}
    return replace(config, verdict=replace(verdict, **limits))


SCAN_KNOBS: dict[str, Callable[[Any, Any], Any]] = {
    "num_points": _num_points,
    "num_views": _num_views,
    "refine_iterations": _refine_iterations,
    "clothes": _clothes,
    "outlier_distance_mm": _outlier_distance,
    "smoothing_mm": _smoothing,
    "shape_prior": _shape_prior,
    "pose_prior": _pose_prior,
    "remove_surroundings": _remove_surroundings,
    "max_sigma_mm": _max_sigma,
    "max_distance_mm": _max_distance,
}
"""What each setting changes for scans."""


def _photo_iterations(config: ImageRegisterConfig, count: int) -> ImageRegisterConfig:
    return replace(config, silhouette=replace(config.silhouette, max_iterations=count))


def _photo_clothes(config: ImageRegisterConfig, _never: bool) -> ImageRegisterConfig:
    """Let outlines be those of the body itself; hair and soles still stand off it."""
    return replace(config, silhouette=replace(config.silhouette, clothing_offset=BARE_OFFSET))


def _photo_outlier_distance(config: ImageRegisterConfig, distance_mm: float) -> ImageRegisterConfig:
    last = distance_mm / 1000
    return replace(config, silhouette=replace(config.silhouette, kernel=(max(config.silhouette.kernel[0], last), last)))


def _photo_max_sigma(config: ImageRegisterConfig, sigma_mm: float) -> ImageRegisterConfig:
    verdict = config.verdict
    return replace(config, verdict=replace(verdict, sigma_median_mm=_good_until(verdict.sigma_median_mm, sigma_mm)))


BARE_OFFSET = 0.0005
"""Metres, one-sigma: skin is its own outline to half a millimetre."""

IMAGE_KNOBS: dict[str, Callable[[Any, Any], Any]] = {
    "refine_iterations": _photo_iterations,
    "clothes": _photo_clothes,
    "outlier_distance_mm": _photo_outlier_distance,
    "shape_prior": _shape_prior,
    "pose_prior": _pose_prior,
    "max_sigma_mm": _photo_max_sigma,
}
"""What each setting changes for photos."""
