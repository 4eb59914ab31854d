"""The command line in a test: a run of it, made-up registering, scans that say what becomes of them."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fake_registration import fake_hand, fake_registration
from PIL import Image
from typer.testing import CliRunner, Result

from lvdreg.base.errors import ScanError
from lvdreg.base.provenance import InputFile, sha256_of
from lvdreg.cli import app
from lvdreg.result.scan import Registration

OPTIONS_SEEN: dict[str, Any] = {}


def fake_register(source: Path, make: Callable[..., Registration] = fake_registration, **options: Any) -> Registration:
    OPTIONS_SEEN.clear()
    OPTIONS_SEEN.update(options)
    if not source.exists():
        raise ScanError(f"{source}: no such file; check the path")
    words = source.read_text(encoding="utf-8").split()
    if words[0] == "interrupt":
        raise KeyboardInterrupt
    if words[0] == "bug":
        raise ZeroDivisionError("by zero")
    if words[0] == "bad":
        raise ScanError(f"{source.name}: expected points,\ngot [red]none[/red]; export it again")
    origin = InputFile(str(source.absolute()), sha256_of(source))
    return make(name=source.stem, verdict=words[0], source=origin)


def fake_register_hand(source: Path, **options: Any) -> Registration:
    return fake_register(source, fake_hand, **options)


def fake_stories(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in an empty folder, with made-up registering, a body and a hand; see ``made_up_registering``."""
    fake_module(monkeypatch, "lvdreg.pipeline.scan", register=fake_register, register_hand=fake_register_hand)
    monkeypatch.setattr("lvdreg.body.files.body_names", lambda: ("anny", "anny-hand"))
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: Image.new("RGB", (4, 4)))
    monkeypatch.setenv("LVDREG_MODELS", str(folder / "added-models"))
    monkeypatch.chdir(folder)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def scans(**files: str) -> None:
    for stem, content in files.items():
        Path(f"{stem}.ply").write_text(content, encoding="utf-8")


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Any) -> None:
    module = ModuleType(name)
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)
