"""Settings of every stage: frozen, validated, and free of heavy imports.

The defaults are what the shipped weights were trained and benchmarked with. Each stage takes its own class; the effective
values are written into every checkpoint and every ``report.json``.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CleanConfig:
    """Reading and cleaning a scan (scan.py)."""

    num_points: int = 30_000


@dataclass(frozen=True)
class VoxelConfig:
    """The voxel grid and the encoder (voxel/)."""

    resolution: int = 64
    num_points: int = 8_000
    distance_clips: tuple[float, ...] = (0.1, 0.3)
    channels: tuple[int, ...] = (24, 48, 64, 96, 128, 160)


@dataclass(frozen=True)
class FieldConfig:
    """The vertex field (field.py)."""

    hidden: int = 512
    layers: int = 3
    rank: int = 128
    clip: float = 0.25


@dataclass(frozen=True)
class DescentConfig:
    """The descent loop (descent.py)."""

    max_steps: int = 10
    tolerance: float = 0.002


@dataclass(frozen=True)
class UncertaintyConfig:
    """Sigma from the spread of one step (uncertainty.py)."""

    num_samples: int = 6
    perturbation: float = 0.05
    floor_mm: float = 4.0


@dataclass(frozen=True)
class FitConfig:
    """Vertices to parameters (fit.py)."""

    max_iterations: int = 12


@dataclass(frozen=True)
class RefineConfig:
    """The body against the scan (refine.py)."""

    max_iterations: int = 60


@dataclass(frozen=True)
class DisplaceConfig:
    """Per-vertex displacements (displace.py)."""

    smoothness: float = 1.0


@dataclass(frozen=True)
class RegisterConfig:
    """Everything one registration uses."""

    clean: CleanConfig = field(default_factory=CleanConfig)
    descent: DescentConfig = field(default_factory=DescentConfig)
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    displace: DisplaceConfig = field(default_factory=DisplaceConfig)
    seed: int = 0
