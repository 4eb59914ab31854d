"""Settings of the stages that only photos take; see config.py."""

from dataclasses import dataclass, field

from lvdreg.config import CROP_FILL, DescentConfig, FitConfig, RefineConfig, UncertaintyConfig

PHOTO_DESCENT = DescentConfig(turned=0.5)
"""In photos a hand may be in either of two places: vertices would go to and fro."""


@dataclass(frozen=True)
class CutConfig:
    """Cutting the person out of a photo (image/crop.py)."""

    size: int = 256
    """Side of the crop, pixels."""
    fill: float = CROP_FILL
    least_box: float = 24.0
    """A visible person with a shorter longer side, pixels of the photo, is too small to be registered."""
    least_piece: float = 0.05
    """Pieces of the mask with less than this share of the largest are stray."""
    least_lean: float = 30.0
    """Who leans by so many degrees is looked at upright as well."""


@dataclass(frozen=True)
class SilhouetteConfig:
    """The body against mask and keypoints (silhouette.py); lengths in metres."""

    max_iterations: int = 22
    kernel: tuple[float, float] = (0.12, 0.05)
    """Scale of the robust kernel, first and last."""
    mask_points: int = 900
    """Points of the mask's outline that are used at most."""
    turn_reach: float = 0.06
    """Length that turns normals into coordinates when pairs are sought."""
    min_cosine: float = 0.3
    observations: float = 200.0
    """How many independent observations an outline counts as, at most, against the network's fit."""
    noise: float = 0.03
    """One-sigma of the mask's outline."""
    ease: float = 0.006
    ease_ends: float = 0.025
    """How far a part's outline may lie outside of the body, all of it alike, one-sigma: clothes; hair and soles."""
    border: float = 0.02
    """Nearer than this to the end of the photo, in units of the crop, outlines are not the person's."""
    keypoint_sigma: float = 0.1
    """One-sigma of a keypoint's place on the body, were each independent of the others: they err together."""
    keypoint_kernel: tuple[float, float] = (0.3, 0.1)
    least_visibility: float = 0.3
    anchor_pose: float = 24.0
    anchor_shape: float = 40.0
    """As how many independent vertices the network's fit counts."""
    anchor_depth: float = 5.0
    """How much more it counts along the line of sight, where an outline pulls only by mistake."""
    expected_miss: float = 0.07
    """A fit that misses the keypoints by more than this, the median, counts as much less as it misses them, squared."""
    size_sigma: float = 0.02
    """How much the size in the crop, as a logarithm, may differ from the network's; the body's shape decides more."""
    height_sigma: float = 0.001
    """How exactly a height that was given is kept."""
    damping: float = 1e-3
    tolerance: float = 0.002
    """Mean motion of the last step below which the body has come to rest."""


@dataclass(frozen=True)
class PhotoVerdictConfig:
    """Limits of the verdict on a photo: where "good" ends and where "failed" begins; see ``VerdictConfig``."""

    silhouette_iou: tuple[float, ...] = (0.80, 0.45)
    keypoint_error_m: tuple[float, ...] = (0.10, 0.35)
    seen_share: tuple[float, ...] = (0.90, 0.15)
    """Of the body's outline: what lies within the photo."""
    sigma_median_mm: tuple[float, ...] = (80.0, 220.0)
    fit_residual_mm: tuple[float, ...] = (45.0, 130.0)
    shape_size: tuple[float, ...] = (2.0, 4.0)
    height_m: tuple[float, ...] = (0.9, 1.3, 2.1, 2.4)


@dataclass(frozen=True)
class ImageRegisterConfig:
    """Everything one registration of a photo uses."""

    cut: CutConfig = field(default_factory=CutConfig)
    descent: DescentConfig = PHOTO_DESCENT
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    silhouette: SilhouetteConfig = field(default_factory=SilhouetteConfig)
    verdict: PhotoVerdictConfig = field(default_factory=PhotoVerdictConfig)
