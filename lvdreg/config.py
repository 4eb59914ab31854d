"""Settings of every stage: frozen, validated, and free of heavy imports.

The defaults are what the shipped weights were trained and benchmarked with. Each stage takes its own class; the
effective values are written into every checkpoint and every ``report.json``.
"""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

HAND_SCALE = 0.19 / 1.75
"""A hand's length over a person's height: what suits a person's lengths times this suits a hand's."""

CROP_FILL = 0.85
"""Share of a photo's crop that the longer side of the visible person takes, in training and in use."""

ConfigT = TypeVar("ConfigT")


def length(default: Any) -> Any:
    """Declare a setting that is a length, or a tuple of lengths: it is made for people, and ``scaled`` scales it."""
    return field(default=default, metadata={"is_length": True})


def scaled(config: ConfigT, factor: float) -> ConfigT:
    """Return settings for something ``factor`` times the size of a person: lengths are multiplied, nothing else is."""
    changes: dict[str, Any] = {}
    for item in fields(config):  # type: ignore[arg-type]
        value = getattr(config, item.name)
        if item.metadata.get("is_length"):
            changes[item.name] = tuple(factor * x for x in value) if isinstance(value, tuple) else factor * value
        elif is_dataclass(value):
            changes[item.name] = scaled(value, factor)
    return replace(config, **changes)  # type: ignore[type-var]


@dataclass(frozen=True)
class CleanConfig:
    """Reading and cleaning a scan (scan.py). Shares of length are of the scan's extent: its unit is not known yet."""

    num_points: int = 30_000
    gap: float = 0.07
    """Pieces closer than this belong together, 12 cm of a person: partial scans come in many pieces."""
    limb_share: float = 0.02
    """Pieces with more than this share of the scan are taken back from farther away: half a forearm of a person."""
    limb_reach: float = 0.1
    """So much farther than the gap at most."""
    least_plane: float = 0.06
    """Planes are surroundings only if they hold at least this share of the scene."""
    least_left: float = 0.03
    """Planes are surroundings only if at least this share of the scene is left without them."""
    least_cover: float = 0.0
    """Planes are surroundings only if so much of what is left lies over them."""
    veil_reach: float = 0.04
    """The side of a limb is no farther than this from what faces the camera: 7 cm of a person."""
    drop_mist: bool = False
    """Whether points that float in all depths around and between thin parts, seen by one camera, are removed."""
    piece_share: float | None = None
    """Pieces apart are kept when they have more than this share of the largest, which may be a thing that lies beside
    a hand; None: only the largest is."""


@dataclass(frozen=True)
class VoxelConfig:
    """The voxel grid and the encoder (voxel/)."""

    resolution: int = 64
    num_points: int = 8_000
    channels: tuple[int, ...] = (24, 64, 96, 128, 192, 256)


@dataclass(frozen=True)
class CompassConfig:
    """The compass, which finds hands (voxel/compass.py)."""

    resolution: int = 32
    num_points: int = 6_000
    channels: tuple[int, ...] = (16, 40, 80, 112, 160)
    hidden: int = 256


@dataclass(frozen=True)
class ImageConfig:
    """The crop and the stacked hourglass (image/)."""

    size: int = 256
    """Side of the crop, pixels."""
    inputs: tuple[str, ...] = ("rgb", "mask", "keypoints")
    """What the network sees: "rgb" (masked), "mask", "edges", "keypoints"."""
    keypoints: tuple[str, ...] = tuple(
        f"{side}_{joint}"
        for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    )
    """Joints of the body whose heat maps are seen, if "keypoints" are."""
    stem: int = 32
    stacks: int = 2
    stride: int = 4
    """Pixels of the crop to one cell of the features."""
    channels: tuple[int, ...] = (64, 96, 128, 176, 224)
    """Of every level of the hourglasses, the finest first."""
    pyramid: bool = True
    """Whether the coarser levels of the last stack are read too."""

    def __post_init__(self) -> None:
        cells = self.stride * 2 ** (len(self.channels) - 1)
        if self.stride < 2 or self.stride & (self.stride - 1) or self.size % cells or len(self.channels) < 2:
            raise ValueError(
                f"size: expected a multiple of {cells} with a stride that is a power of two and at least two channels, "
                f"got size {self.size}, stride {self.stride}, channels {self.channels}"
            )


PAPER_IMAGE = ImageConfig(stem=64, stacks=4, stride=2, channels=(256,) * 5, pyramid=False)
"""The paper's encoder: four stacks, features of 128 x 128 x 256 from each."""


@dataclass(frozen=True)
class FieldConfig:
    """The vertex field (field.py)."""

    hidden: int = 512
    layers: int = 3
    rank: int = 128
    clip: float = 0.35
    doubts: int = 0
    """Of how many kinds of error it says how large they are."""


@dataclass(frozen=True)
class DescentConfig:
    """The descent loop (descent.py)."""

    max_steps: int = 10
    tolerance: float = 0.002
    turned: float = 1.0
    """So much is taken of steps that turn back against the one before."""


@dataclass(frozen=True)
class ViewConfig:
    """From how many sides the network looks at a scan (explain.py)."""

    num_views: int = 4
    tilt: float | None = None
    """Views turn by so many degrees about different axes, the first not at all; None: all around Y by equal steps."""
    glance_vertices: int = 350
    glance_steps: int = 6
    glance_points: int = 1500
    unusual: tuple[str, ...] = ("-y", "-z", "+x", "-x")
    unusual_penalty: float = 1.1
    """Boxes of these names must explain the scan clearly better."""
    least_probability: float = 0.05
    """Boxes less likely than this are not worth a glance."""
    sharpness: float = 8.0
    """How much a glance decides: the likelihood is the probability times the score to the minus this."""
    agreement_sharpness: float = 0.0
    """How much it decides that views agree: times their spread to the minus this."""
    glance_views: int = 2
    """Views of a glance, where there is more than one box to choose from."""
    rival: float = 8.0
    rival_spread: float = 0.028
    """A box apart holds a hand as well if its score times its spread is less than so many times the best one's, and its
    spread less than this: second hands had 0.011 to 0.026, and one 0.034, things 0.031 and more."""
    agreement: float = 0.08
    compass_looks: int = 2
    """How often the compass looks again where its last answer was."""
    compass_hypotheses: int = 2
    """At how many frames of each side."""

    def __post_init__(self) -> None:
        if self.num_views < 1:
            raise ValueError(f"num_views: expected at least 1, got {self.num_views}")


@dataclass(frozen=True)
class UncertaintyConfig:
    """Sigma from the spread of one step (uncertainty.py)."""

    num_samples: int = 2
    perturbation: float = 0.05
    smoothing_rounds: int = 10
    floor_mm: float = length(4.0)


@dataclass(frozen=True)
class FitConfig:
    """Vertices to parameters (fit.py)."""

    max_iterations: int = 20
    alternations: int = 5
    vertices_per_part: int = 32
    sigma: float = length(0.02)
    """One-sigma of a vertex when none is given, metres."""
    sigma_floor: float = length(0.004)
    tolerance: float = length(5e-5)
    """Largest motion of a vertex, metres, at which the fit has converged."""
    first_reach: float = length(0.3)
    """How far vertices may lie from the first closed-form start before they lose their say."""
    outlier: float = length(0.08)
    """Predicted vertices further than this from the fit are said to be wrong."""


@dataclass(frozen=True)
class TrimConfig:
    """What of a scan a hand can explain: neither forearm nor what it holds (correspond.py); lengths in metres."""

    margin: float = length(0.09)
    """What is nearest to the wrist's rim, and further than this, is forearm."""
    near: float = length(0.06)
    far: float = length(0.14)
    """Connected chunks of scan that all lie further from the hand than the first, and somewhere than the second, are
    no hand."""
    sigmas: float = 1.0
    """So many sigmas of the nearest vertices are taken off the distance first."""
    link: float = 1.5
    """Points closer than so many times the distance to the sixth neighbour are connected."""


@dataclass(frozen=True)
class RefineConfig:
    """The body against the scan (refine.py); lengths in metres."""

    max_iterations: int = 30
    kernel: tuple[float, float] = length((0.12, 0.015))
    """Scale of the robust kernel, first and last."""
    kernel_noises: float = 0.0
    """The last kernel is no narrower than so many times the scan's noise."""
    least_reach: float = length(0.06)
    """Pairs up to this far apart are considered however small the kernel is."""
    coarse_points: int = 1500
    fine_points: int = 5000
    body_points: int = 2500
    coarse_stride: int = 3
    coarse_reach: float = length(0.12)
    fine_reach: float = length(0.04)
    """Length that turns normals into coordinates when pairs are sought."""
    noise: float = length(0.006)
    observations: float = 1000.0
    """How many independent observations a scan counts as, at most, against the priors."""
    body_share: float = 0.5
    partial_share: float = 0.3
    """Weight of pairs from body to scan, and the factor on it for partial scans."""
    across: float = 0.03
    across_stride: int = 4
    """Weight of motion across the normals, and which pairs speak of it."""
    anchor_pose: tuple[float, float] = (300.0, 15.0)
    anchor_shape: tuple[float, float] = (2000.0, 150.0)
    """As how many independent vertices the start counts, first and last."""
    outside: float = 3.0
    """Weight of what lies outside the scan; skin that lies inside has 1."""
    coarse_inside: float = 0.3
    sigma: float = length(0.03)
    sigma_floor: float = length(0.008)
    skin: float = length(0.008)
    """Up to this spread between scan and body a part counts as skin."""
    least_inside: float = 0.03
    pool: float = 40.0
    smooth_neighbours: int = 8
    damping: float = 1e-3
    tolerance: float = length(0.002)
    """Mean motion of the last step, metres, below which the body has come to rest."""
    far: float = length(0.1)
    """Scan points further than this from the body are said to be far."""


@dataclass(frozen=True)
class DisplaceConfig:
    """Per-vertex displacements (displace.py); lengths in metres."""

    rounds: int = 6
    smoothing: tuple[float, float, float] = length((0.08, 0.008, 0.03))
    """Smoothing length: in the first round, and the least and the most in the last round."""
    kernel: tuple[float, float] = length((0.1, 0.02))
    """Scale of the robust kernel, first and last."""
    least_kernel: float = length(0.01)
    kernel_errors: float = 4.0
    """The kernel is no wider than so many times what the body misses the scan by (90 % of it), but at least this."""
    least_reach: float = length(0.03)
    normal_reach: float = length(0.04)
    """Length that turns normals into coordinates when pairs are sought."""
    min_cosine: float = 0.4
    num_points: int = 30_000
    noise_left: float = length(0.001)
    stretching: float = 0.02
    sliding: float = 0.1
    leaving: float = 1e-4
    """Weights of moving along the body's surface and of moving at all, where a pair at full trust has 1."""
    fold_stiffness: float = 10.0


@dataclass(frozen=True)
class SynthConfig:
    """Clothing and sensors of synthetic samples (synth/clothing.py, synth/sensors.py). Lengths in metres.

    Hands are scanned at the size of a person, ``HAND_SCALE`` of theirs (synth/hand_stream.py).
    """

    # Outfits are bare (underwear), tight (sportswear), light (shirt, trousers), heavy (jacket, coat), gown (dress).
    outfit_probabilities: tuple[float, ...] = (0.15, 0.13, 0.40, 0.20, 0.12)
    shoes_probabilities: tuple[float, ...] = (0.10, 0.40, 0.90, 0.95, 0.70)  # by outfit
    hair_probabilities: tuple[float, ...] = (0.20, 0.40, 0.25, 0.15)  # none, short, long, hat or cap
    bun_probability: float = 0.15
    backpack_probability: float = 0.02  # of light and heavy outfits
    # Sensors: closed surface, ring of cameras, two or three cameras, one camera.
    view_probabilities: tuple[float, ...] = (0.26, 0.50, 0.12, 0.12)
    camera_distance: tuple[float, float] = (1.8, 3.5)
    hole_probability: float = 0.35
    hole_radius: tuple[float, float] = (0.02, 0.14)
    max_holes: int = 6
    sole_missing_probability: float = 0.35
    top_missing_probability: float = 0.10  # hair absorbs light
    crop_probability: float = 0.05
    uneven_probability: float = 0.35
    sparse_probability: float = 0.06
    noise_sigma: float = 0.005  # largest usual standard deviation
    rough_probability: float = 0.06
    rough_sigma: float = 0.010
    depth_step: float = 0.006  # largest quantisation of a depth camera at 2 m
    misalignment: float = 0.004  # between cameras
    outlier_probability: float = 0.25
    max_outliers: float = 0.01  # share of the points
    flying_probability: float = 0.5  # of depth cameras: pixels trail behind the silhouette
    flying_depth: float = 0.25
    floor_probability: float = 0.06
    max_floor: float = 0.08  # share of the points
    floor_radius: tuple[float, float] = (0.1, 0.6)
    normals_absent_probability: float = 0.10
    normals_flipped_probability: float = 0.03

    @classmethod
    def for_hands(cls) -> "SynthConfig":
        """Return the sensors that scan hands: seen from one side more often, and noisier for their size.

        The noise of scanners does not shrink with what they scan: good ones have 0.2 to 0.6 mm, depth cameras 2 to
        4 mm, nine times as much on a hand made as large as a person.
        """
        return cls(
            view_probabilities=(0.28, 0.27, 0.15, 0.30),
            camera_distance=(3.5, 8.0),
            sole_missing_probability=0.0,
            top_missing_probability=0.0,
            crop_probability=0.0,
            sparse_probability=0.10,
            noise_sigma=0.008,
            rough_probability=0.18,
            rough_sigma=0.035,
            depth_step=0.02,
            misalignment=0.01,
            flying_depth=0.5,
            max_floor=0.25,
            floor_radius=(0.3, 1.5),
            normals_absent_probability=0.15,
        )


@dataclass(frozen=True)
class RenderConfig:
    """What synthetic pictures are shaded with (synth/render.py); each costs time."""

    shadow_size: int = 160
    """Width of the map of what the key light reaches, pixels; 0: no shadows."""
    occlusion: float = 0.8
    """How dark hollows are, 0 to 1."""
    relief: bool = True
    """Whether the fine structure of cloth and skin is lit."""

    def __post_init__(self) -> None:
        if self.shadow_size < 0 or not 0 <= self.occlusion <= 1:
            got = f"got {self.shadow_size} and {self.occlusion}"
            raise ValueError(f"shadow_size and occlusion: expected at least 0, and 0 to 1, {got}")


@dataclass(frozen=True)
class MeasureConfig:
    """Distances between scan and result (metrics.py)."""

    cover: float = length(0.010)
    """A point of a cloud covers at least so much around it, metres; see ``metrics.seen_points``."""


@dataclass(frozen=True)
class VerdictConfig:
    """Limits of the verdict (verdict.py).

    Each pair is where "good" ends and where "failed" begins, with "check" in between; four numbers are a range:
    failed, good, good, failed. None: does not apply.
    """

    explained_within_mm: float = length(80.0)  # clothes stand off the body, a bunny stands off much further
    explained_share: tuple[float, ...] = (0.90, 0.60)
    scan_to_registered_mm: tuple[float, ...] = length((8.0, 40.0))
    registered_to_scan_mm: tuple[float, ...] = length((8.0, 40.0))
    seen_share: tuple[float, ...] = (0.40, 0.12)
    sigma_median_mm: tuple[float, ...] = length((40.0, 120.0))
    fit_residual_mm: tuple[float, ...] = length((35.0, 90.0))
    shape_size: tuple[float, ...] = (2.0, 4.0)
    height_m: tuple[float, ...] | None = (0.9, 1.3, 2.1, 2.4)
    length_m: tuple[float, ...] | None = None
    """Of a hand, from the wrist's rim to the tip of the longest finger."""


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
    """Factor by which the likely size may miss a unit that is believed (normalise.find_size)."""


def hand_config() -> RegisterConfig:
    """Return the settings for hands: a person's, scaled, but for what hands do not share with people.

    Hands wear no clothes, so a scan pulls inwards and outwards alike; they have no up, so boxes know the way and views
    tilt a little; the noise of scanners does not shrink with what they scan; and the shape of a hand hardly tells its
    size: a child's is much like a grown person's, so the nearest unit is believed as long as it is no other's.
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
            least_plane=0.2,  # tables are large
            least_left=0.004,
            least_cover=0.15,  # the flat side of a hand is no table: nothing lies over it
            veil_reach=0.3,
            drop_mist=True,
            piece_share=0.3,
        ),
        views=replace(
            small.views,
            tilt=15.0,
            glance_vertices=160,
            glance_steps=5,
            least_probability=0.02,
            agreement_sharpness=8.0,
            glance_views=4,
        ),
        refine=replace(
            small.refine,
            kernel=(0.013, 0.003),
            kernel_noises=5.0,
            fine_points=4000,
            noise=0.001,
            outside=1.0,
            coarse_inside=1.0,
            least_inside=1.0,
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
class TrainConfig:
    """The training loop (train/run.py)."""

    steps: int = 20_000
    cooldown: int = 5_000
    warmup: int = 300
    batch: int = 8
    points_per_scan: int = 768
    scan_points: int = 8_000
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.01
    ema: float = 0.998
    box_jitter: float = 0.12
    turn_jitter: float = 0.0
    """Standard deviation of each component of the rotation that hands are turned by, radians."""
    validate_every: int = 500
    validation_scans: int = 48
    save_every: int = 250
    seed: int = 0
    ahead: bool = False
    """Whether photos are rendered in a second thread, a batch ahead: for two cores or more."""
