"""Where the package lies, the shipped bodies, weights and example scans, and the models that users have added."""

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
"""The folder of the package."""


def assets_dir() -> Path:
    """Return the folder of shipped assets: inside the package in a wheel, beside it in a checkout."""
    packaged = PACKAGE / "assets"
    return packaged if packaged.is_dir() else PACKAGE.parent / "assets"


def models_dir() -> Path:
    """Return the folder of added models: ``LVDREG_MODELS``, or one in the user's own data; it need not exist."""
    given = os.environ.get("LVDREG_MODELS")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        data = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "lvdreg" / "models"
