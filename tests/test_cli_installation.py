"""What an installation has: ``lvdreg doctor``, ``models`` and ``example``."""

import re
import tomllib
from pathlib import Path

import pytest
import torch
from command_line import run
from safetensors.torch import save_file

from lvdreg.base.errors import BodyError

pytestmark = pytest.mark.usefixtures("made_up_registering")
ROOT = Path(__file__).resolve().parent.parent


def test_expected_errors_of_other_commands_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise BodyError("bodies/anny.npz: damaged; install lvdreg again")

    monkeypatch.setattr("lvdreg.body.catalogue.load_body", fail)
    models, doctor = run("models"), run("doctor")
    assert (models.exit_code, models.stderr) == (1, "lvdreg: bodies/anny.npz: damaged; install lvdreg again\n")
    assert doctor.exit_code == 1 and "!!" in doctor.stdout and "damaged" in doctor.stdout


def test_doctor_and_models_on_an_empty_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    monkeypatch.setattr("lvdreg.body.files.body_names", lambda: ())
    result = run("doctor")
    assert result.exit_code == 1
    for found in ("torch", "weights", "body", str(tmp_path)):
        assert found in result.stdout
    assert run("models").stdout == ""
    assert "none found" in run("register", "x.ply").stderr


def test_doctor_looks_for_both_bodies_and_their_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    monkeypatch.setattr("lvdreg.cli.doctor.describe_body", lambda name: f"{name} is fine")
    for folder in ("weights", "examples"):
        (tmp_path / folder).mkdir()
    for name in ("voxel-anny", "image-anny", "voxel-anny-hand", "hand-detector-anny-hand", "voxel-mine"):
        save_file({"weight": torch.zeros(1)}, tmp_path / "weights" / f"{name}.safetensors")
        (tmp_path / "weights" / f"{name}.json").write_text('{"step": 7}', encoding="utf-8")
    for name in ("dressed", "hand"):
        (tmp_path / "examples" / f"{name}.ply").write_text("", encoding="utf-8")
    found = run("doctor")
    assert found.exit_code == 0, found.output
    words = (
        "body anny ",
        "body anny-hand",
        "weights hand-detector-anny-hand",
        "weights voxel-mine",
        "7 steps",
        "hand.ply",
    )
    assert all(word in found.stdout for word in words)
    (tmp_path / "weights" / "hand-detector-anny-hand.safetensors").unlink()
    found = run("doctor")
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("!!")]
    assert found.exit_code == 1 and "weights hand-detector-anny-hand" in line and "install lvdreg again" in line


def test_doctor_promises_what_the_package_declares_and_uses() -> None:
    from lvdreg.cli.doctor import OPTIONAL, REQUIRED

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for name, group in project["optional-dependencies"].items() if name != "dev" for one in group]
    assert {*REQUIRED} == {package_of(one) for one in project["dependencies"]}
    assert {*OPTIONAL} <= {package_of(one) for one in extras}
    code = "".join(
        path.read_text(encoding="utf-8") for top in ("lvdreg", "scripts") for path in (ROOT / top).rglob("*.py")
    )
    modules = [{"warp-lang": "warp"}.get(name, name.replace("-", "_")) for name in OPTIONAL]
    used = [rf'(import|from) {module}\b|_imported\("{module}' for module in modules]
    assert all(re.search(pattern, code) for pattern in used)


def package_of(requirement: str) -> str:
    return re.split(r"[\[><=~! ]", requirement)[0]


def test_models_say_which_command_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.describe_body", lambda name: f"about {name}")
    assert [line.split()[:3] for line in run("models").stdout.splitlines()] == [
        ["anny", "lvdreg", "register"],
        ["anny+d", "lvdreg", "register"],
        ["anny-hand", "lvdreg", "hands"],
        ["anny-hand+d", "lvdreg", "hands"],
    ]


def test_the_example_hand_is_named_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    (tmp_path / "examples").mkdir()
    for name in ("walker", "hand"):
        (tmp_path / "examples" / f"{name}.ply").write_text("good", encoding="utf-8")
    (tmp_path / "examples" / "stroller.jpg").write_text("good", encoding="utf-8")
    both, body, hand = run("example"), run("example", "body"), run("example", "hand")
    assert run("example", "photo").stdout == f"{tmp_path}/examples/stroller.jpg\n"
    assert f"{tmp_path}/examples/stroller.jpg (a photo, for lvdreg image" in both.stderr
    assert body.stdout == both.stdout == f"{tmp_path}/examples/walker.ply\n" and body.stderr == ""
    assert hand.stdout == f"{tmp_path}/examples/hand.ply\n"
    assert f"{tmp_path}/examples/hand.ply" in both.stderr and "lvdreg hands" in both.stderr
    assert run("hands", hand.stdout.strip()).exit_code == 0
    run("example", "--out", "copy")
    assert sorted(path.name for path in Path("copy").iterdir()) == ["hand.ply", "stroller.jpg", "walker.ply"]
    (tmp_path / "examples" / "hand.ply").unlink()
    assert run("example", "hand").exit_code == 1 and "hand.ply" not in run("example").stderr


def test_example_prints_paths_that_register_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    assert run("example").exit_code == 1
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "walker.ply").write_text("good", encoding="utf-8")
    (there,) = run("example").stdout.splitlines()
    assert run("register", there).exit_code == 0
    assert run("example", "--out", "copy").stdout.splitlines() == ["copy/walker.ply"]
    assert Path("copy/walker.ply").read_text(encoding="utf-8") == "good"


@pytest.mark.parametrize("there", ["file", "link", "folder"])
def test_examples_are_copied_over_nothing(there: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lvdreg.cli.doctor.assets_dir", lambda: tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "walker.ply").write_text("good", encoding="utf-8")
    Path("diary").write_text("mine", encoding="utf-8")
    Path("copy").mkdir()
    target = Path("copy/walker.ply")
    if there == "file":
        target.write_text("mine", encoding="utf-8")
    elif there == "link":
        target.symlink_to("../diary")
    else:
        target.mkdir()
    result = run("example", "--out", "copy")
    assert result.exit_code == 1 and "walker.ply: is not lvdreg's" in result.stderr
    assert Path("diary").read_text(encoding="utf-8") == "mine" and (
        there != "file" or target.read_text(encoding="utf-8") == "mine"
    )
    assert [path.name for path in Path("copy").iterdir()] == ["walker.ply"]
