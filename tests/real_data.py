"""Real scans and photos for the tests marked `real`: LVDREG_REAL_DATA names their folder, ../shared/data by default."""

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("LVDREG_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def real_path(name: str) -> Path:
    """Return where a file or folder of the real data lies; the test that asks is skipped where it is missing."""
    path = REAL / name
    if not path.exists():
        pytest.skip(f"no real data: {path} is missing (set LVDREG_REAL_DATA)")
    return path


def real_scans(folder: str) -> list[Path]:
    """Return the files of a real folder, with the bodies every tenth of FAUST's scans; skips where there are none."""
    files = [path for path in sorted(real_path(folder).iterdir()) if path.is_file()]
    faust = sorted((REAL / folder / "faust" / "scan").glob("*.ply"))[::10]
    if not files + faust:
        pytest.skip(f"no real data: {REAL / folder} is empty")
    return files + faust
