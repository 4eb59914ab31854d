"""Where the package lies, and the shipped bodies, weights and example scans."""

from pathlib import Path

PACKAGE = Path(__file__).parent.parent
"""The folder of the package."""


def assets_dir() -> Path:
    """Return the folder of shipped assets: inside the package in a wheel, beside it in a checkout."""
    packaged = PACKAGE / "assets"
    return packaged if packaged.is_dir() else PACKAGE.parent / "assets"
