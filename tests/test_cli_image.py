"""``lvdreg image``: exit statuses, options that reach the story, one line for each failure."""

import csv
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lvdreg.base.errors import PhotoError
from lvdreg.cli import app
from lvdreg.cli.status import FAILED, NOT_GOOD, WRONG_USAGE

SEEN: dict[str, Any] = {}


class FakeResult:
    """What stands for a ``PhotoRegistration``: its verdict is the photo's content."""

    def __init__(self, verdict: str) -> None:
        self.verdict, self.reason = verdict, f"this one is {verdict}"
        self.timings = {"read": 0.1}
        self.headline = {"iou": 0.876, "height_m": 1.7, "height_is_guess": True}

    def save(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        return []


def fake(source: Path, **options: Any) -> FakeResult:
    SEEN.clear()
    SEEN.update(options)
    word = source.read_text(encoding="utf-8")
    if word == "nobody":
        raise PhotoError(f"{source.name}: expected a person,\nfound none")
    return FakeResult(word)


def fake_photos(sources: list[str], **options: Any) -> list[FakeResult | Exception]:
    found: list[FakeResult | Exception] = []
    for source in sources:
        try:
            found.append(fake(Path(source), **options, sources=sources))
        except PhotoError as error:
            found.append(error)
    return found


@pytest.fixture(autouse=True)
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder with made-up registering."""
    monkeypatch.setattr("lvdreg.pipeline.photos.register_photos", fake_photos)
    module = ModuleType("lvdreg.pipeline.photo")
    vars(module).update(register_image=fake, register_people=lambda source, **options: fake(source, all=1, **options))
    monkeypatch.setitem(sys.modules, "lvdreg.pipeline.photo", module)
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "added-models"))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["image", *arguments])


def photos(**files: str) -> None:
    for stem, content in files.items():
        Path(f"{stem}.jpg").write_text(content, encoding="utf-8")


def test_all_registered_is_status_0_and_the_table_names_height_and_mask() -> None:
    photos(ann="good", bob="check")
    result = run("ann.jpg", "bob.jpg")
    assert result.exit_code == 0, result.output
    assert "88%" in result.stdout and "1.70 m?" in result.stdout and "2 of 2 registered" in result.stdout
    assert "unit" not in result.stdout.splitlines()[0] and "error mm" not in result.stdout.splitlines()[0]
    with Path("out/results.csv").open(encoding="utf-8", newline="") as file:
        found = next(csv.DictReader(file))
    assert found["iou"] == "0.876" and found["height_is_guess"] == "true"


def test_nobody_is_status_1_and_one_line_and_the_others_go_on() -> None:
    photos(ann="nobody", bob="good")
    result = run("ann.jpg", "bob.jpg", "--strict")
    assert result.exit_code == FAILED
    lines = [line for line in result.stderr.splitlines() if "not registered" in line]
    assert len(lines) == 1 and "ann.jpg: expected a person, found none" in lines[0]
    assert Path("out/bob").is_dir() and not Path("out/ann").exists()


def test_strict_is_status_3() -> None:
    photos(ann="check")
    assert run("ann.jpg", "--strict").exit_code == NOT_GOOD
    assert run("ann.jpg").exit_code == 0


def test_options_reach_the_story() -> None:
    photos(ann="good")
    words = ["--mask", "m.png", "--person", "2", "--height", "1.62", "--no-refine", "--quality", "fast"]
    result = run(
        "ann.jpg", *words, "--keypoints", "k.json", "--set", "nose=4,5", "--focal", "26", "--method", "smplify"
    )
    assert result.exit_code == 0, result.output
    assert SEEN.pop("progress") is not None
    assert SEEN.pop("settings") == {"quality": "fast"}
    assert SEEN == {
        "mask": "m.png", "person": 2, "height": 1.62, "refine": False, "model": "anny", "device": "cpu",
        "keypoints": "k.json", "set_keypoints": {"nose": (4, 5)}, "camera": "perspective", "focal": 26,
        "method": "smplify",
    }  # fmt: skip


def test_all_registers_everybody() -> None:
    photos(ann="good")
    assert run("ann.jpg", "--all", "--camera", "weak").exit_code == 0
    assert SEEN["all"] == 1 and "mask" not in SEEN and "person" not in SEEN
    assert SEEN["camera"] == "weak" and SEEN["focal"] is None


@pytest.mark.parametrize(("option", "same"), [("--same-person", "shape"), ("--views", "pose")])
def test_photos_of_one_person_are_registered_together(option: str, same: str) -> None:
    photos(ann="good", bob="nobody", cid="check")
    result = run("ann.jpg", "bob.jpg", "cid.jpg", option, "--person", "2")
    assert result.exit_code == FAILED and "2 of 3 registered" in result.stdout
    assert "bob.jpg: expected a person, found none" in result.stderr
    assert SEEN["same"] == same and SEEN["person"] == 2 and len(SEEN["sources"]) == 3 and "set_keypoints" not in SEEN
    assert all(Path("out", name).is_dir() for name in ("ann", "cid")) and not Path("out/bob").exists()


def test_what_is_registered_together_depends_on_all_photos() -> None:
    from lvdreg.batch.resume import run_key

    photos(ann="good", bob="good")
    keys = []
    for content in ("good", "check", "good"):
        photos(bob=content)
        keys.append(run_key(Path("ann.jpg"), "register_photos", {"together": ["ann.jpg", "bob.jpg"]}))
    assert keys[0] == keys[2] != keys[1]


def test_a_fault_is_said_of_every_photo_and_not_tried_again() -> None:
    from lvdreg.batch import Together

    calls = []

    def faulty(sources: list[str], **_: Any) -> list[FakeResult | Exception]:
        calls.append(sources)
        raise ValueError("a fault")

    together, names = Together(faulty), ["ann.jpg", "bob.jpg"]
    for name in names:
        with pytest.raises(ValueError, match="a fault"):
            together(Path(name), together=names)
    assert calls == [names]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ann.jpg", "--views"], "--views: expected 2 to 8 photos of one person, got 1"),
        (["ann.jpg", "--same-person"], "--same-person: expected 2 to 16 photos of one person, got 1"),
        (["ann.jpg", "bob.jpg", "--all", "--views"], "--views: expected it without --all"),
        (["ann.jpg", "bob.jpg", "--views", "--set", "nose=4,5"], "--set: expected one photo"),
        (["ann.jpg", "--all", "--person", "1"], "--all: expected it without --person"),
        (["ann.jpg", "--all", "--mask", "m.png"], "--all: expected it without --mask"),
        (["ann.jpg", "bob.jpg", "--mask", "m.png"], "--mask: expected one photo"),
        (["ann.jpg", "--model", "anny-hand"], "is a hand"),
        (["ann.jpg", "--out", "ann.jpg"], "--out: expected a folder"),
    ],
)
def test_wrong_usage_is_status_2_and_one_line(arguments: list[str], words: str) -> None:
    photos(ann="good", bob="good")
    result = run(*arguments)
    assert result.exit_code == WRONG_USAGE and words in result.stderr
    assert not Path("out").exists() and len(result.stderr.strip().splitlines()) == 1


def test_folders_hold_photos_not_scans() -> None:
    Path("in").mkdir()
    for name in ("a.JPG", "b.png", "c.ply", "d.txt", ".hidden.jpg"):
        Path("in", name).write_text("good", encoding="utf-8")
    result = run("in")
    assert result.exit_code == 0 and "2 of 2 registered" in result.stdout


def test_help_is_there() -> None:
    result = run("--help")
    assert result.exit_code == 0 and "--height" in result.stdout and "METRES" in result.stdout
