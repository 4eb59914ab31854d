"""Where the shipped bodies, weights and example scans lie."""

from pathlib import Path


def assets_dir() -> Path:
    """Return the folder of shipped assets: inside the package in a wheel, beside it in a checkout."""
    packaged = Path(__file__).parent / "assets"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "assets"
