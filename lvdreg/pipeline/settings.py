"""Everything one registration uses: the settings of all stages, for people, hands and photos."""

from dataclasses import dataclass, field, replace

from lvdreg.base.settings import HAND_SCALE, scaled
from lvdreg.descent.descend import PHOTO_DESCENT, DescentConfig
from lvdreg.descent.scan import ViewConfig
from lvdreg.descent.uncertainty import UncertaintyConfig
from lvdreg.fit.correspond import TrimConfig
from lvdreg.fit.displace import DisplaceConfig
from lvdreg.fit.photo import SilhouetteConfig
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.vertices import FitConfig
from lvdreg.geometry.metrics import MeasureConfig
from lvdreg.image.crop import CutConfig
from lvdreg.result.verdict import VerdictConfig
from lvdreg.result.verdict_photo import PhotoVerdictConfig
from lvdreg.scan.segment import CleanConfig


@dataclass(frozen=True)
class RegisterConfig:
    """Everything one registration uses."""

    clean: CleanConfig = field(default_factory=CleanConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    descent: DescentConfig = field(default_factory=DescentConfig)
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    trim: TrimConfig | None = None
    refine: RefineConfig = field(default_factory=RefineConfig)
    displace: DisplaceConfig = field(default_factory=DisplaceConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    unit_tolerance: float = 1.3
    """Factor by which the likely size may miss a unit that is accepted (descent.boxes.find_size)."""


def hand_config() -> RegisterConfig:
    """Return the settings for hands: a person's, scaled, but for what hands do not share with people.

    Hands wear no clothes, so a scan pulls inwards and outwards alike; they have no up, so boxes know the way and views
    tilt a little; the noise of scanners does not shrink with what they scan; and the shape of a hand hardly tells its
    size: a child's is much like a grown person's, so the nearest unit is accepted as long as it is no other's.
    """
    small = scaled(replace(RegisterConfig(), trim=TrimConfig()), HAND_SCALE)
    return replace(
        small,
        unit_tolerance=1.55,
        clean=replace(
            small.clean,
            gap=0.12,  # fingers hide each other: what is seen of them comes in pieces further apart
            limb_share=0.01,
            limb_reach=0.3,
            min_plane=0.2,  # tables are large
            min_left=0.004,
            min_cover=0.15,  # the flat side of a hand is no table: nothing lies over it
            bleeding_reach=0.3,
            drop_mixed_pixels=True,
            piece_share=0.3,
        ),
        views=replace(
            small.views,
            tilt=15.0,
            coarse_vertices=160,
            coarse_steps=5,
            min_probability=0.02,
            consensus_exponent=8.0,
            coarse_views=4,
        ),
        refine=replace(
            small.refine,
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
            sigma_median_mm=(8.0, 20.0),
            fit_residual_mm=(7.0, 16.0),
            height_m=None,
            length_m=(0.09, 0.12, 0.24, 0.28),
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
    verdict: PhotoVerdictConfig = field(default_factory=PhotoVerdictConfig)
