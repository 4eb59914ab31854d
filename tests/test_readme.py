"""The README's Python blocks run as they stand, in order, sharing their names, on the shipped example."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def readme() -> str:
    if not README.exists():
        pytest.skip("README.md is not written yet")
    return README.read_text(encoding="utf-8")


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_blocks_are_found_whole() -> None:
    text = "a\n```python\nx = 1\n\ny = 2\n```\nb\n```bash\nls\n```\n```python\nz = 3\n```\n"
    assert python_blocks(text) == ["x = 1\n\ny = 2\n", "z = 3\n"]


def test_readme_is_short_and_shows_python() -> None:
    text = readme()
    assert len(text.splitlines()) <= 150
    assert python_blocks(text)


def test_readme_python_runs(tmp_path: Path) -> None:
    """Run in a process of its own, as a reader would, below a folder that has the example scans where README says."""
    code = "\n".join(python_blocks(readme()))
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    (tmp_path / "block.py").write_text(code, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "block.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{code}\n{run.stderr}"


def test_readme_names_only_files_that_exist() -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", readme())
    assert not [target for target in targets if not (ROOT / target).exists()]
