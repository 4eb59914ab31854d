"""Install a built wheel into a new environment outside the checkout and register the shipped examples with it.

Tests run in the checkout see files that a wheel may have left behind; this does not.

    python scripts/check_wheel.py dist
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIND_EXAMPLES = (
    "import lvdreg, json; from lvdreg.base.assets import assets_dir; from lvdreg.cli.doctor import examples; "
    "print(json.dumps([lvdreg.__version__, str(assets_dir()), "
    "[[str(p) for p in examples(kind)] for kind in ('body', 'hand', 'photo')]]))"
)


def run(command: list[str | Path], folder: Path) -> str:
    """Run a command in a folder, fail with its output if it fails, and return what it wrote."""
    result = subprocess.run([str(part) for part in command], cwd=folder, text=True, capture_output=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def check(wheel: Path, folder: Path) -> None:
    """Install the wheel in a new environment below the folder and register the examples it holds."""
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    run([scripts / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel.resolve()], folder)
    version, assets, (people, hands, photos) = json.loads(run([scripts / "python", "-c", FIND_EXAMPLES], folder))
    print(f"lvdreg {version}, assets in {assets}")
    if not Path(assets).is_relative_to(folder.resolve()) or not (people and hands and photos):
        sys.exit(f"the wheel must bring its own assets and examples; found {people}, {hands}, {photos} in {assets}")
    run([scripts / "lvdreg", "--help"], folder)
    for command, scans, model in (
        ("register", people, "anny+d"), ("hands", hands, "anny-hand+d"), ("image", photos, "anny"),
    ):  # fmt: skip
        print(run([scripts / "lvdreg", command, *scans, "--model", model, "--out", folder / "out"], folder))
    by_keypoints = ("--method", "smplify", "--no-refine", "--out", folder / "smplify")
    print(run([scripts / "lvdreg", "image", photos[0], *by_keypoints], folder))
    for example in (*people, *hands, *photos):
        written = folder / "out" / Path(example).stem
        picture = "overlay.png" if example in photos else "preview.png"
        missing = [n for n in ("registered.ply", "report.json", picture) if not (written / n).is_file()]
        if missing:
            sys.exit(f"{written} lacks {', '.join(missing)}")
    print("the wheel works outside the checkout")


def main() -> None:
    """Check the newest wheel of the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the wheel lies")
    wheels = sorted(parser.parse_args().folder.glob("lvdreg-*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        parser.error("no lvdreg-*.whl there: run `make wheel`")
    with tempfile.TemporaryDirectory() as temporary:
        check(wheels[-1], Path(temporary))


if __name__ == "__main__":
    main()
