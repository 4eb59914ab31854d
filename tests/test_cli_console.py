"""What the command line shows: light help, plain lines for pipes, colours, other encodings, the pace of long work."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from command_line import run, scans
from typer.testing import CliRunner

import lvdreg
from lvdreg.cli import Side, Unit, Up
from lvdreg.cli.options import unfolded

pytestmark = pytest.mark.usefixtures("made_up_registering")
ROOT = Path(__file__).resolve().parent.parent


def test_units_and_axes_are_those_of_the_pipeline() -> None:
    from lvdreg.descent.boxes import METRES_PER_UNIT, UPS

    assert {unit.value for unit in Unit} == {"auto", "none", *METRES_PER_UNIT}
    assert {up.value for up in Up} == {"auto", *UPS}
    assert {side.value for side in Side} == {"auto", "left", "right"}


def test_the_pace_is_that_of_what_was_made_now(monkeypatch: pytest.MonkeyPatch) -> None:
    from lvdreg.cli.console import MovingLine, SpeedColumn

    now, speed = [0.0], SpeedColumn()
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    with MovingLine(speed) as line:
        assert str(speed.render(line.tasks[0])) == ""
        for seconds, done in ((0.0, 100), (100.0, 100), (200.0, 120)):
            now[0] = seconds
            line.show("pictures", done, 1000)
        assert str(speed.render(line.tasks[0])) == "0.1 a second"
        assert line.tasks[0].time_remaining == pytest.approx(8800)


def test_a_pipe_gets_plain_lines_that_are_never_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "a-long-name-" * 12
    scans(**{long: "good", "bob": "bad"})
    result = run("register", f"{long}.ply", "bob.ply")
    assert "\x1b" not in result.output and len(result.stderr.splitlines()) == 2
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:2] for row in rows[:3]] == [["scan", "verdict"], [long, "good"], ["bob.ply", "none"]]
    assert len(rows) == 4


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_gets_colours_unless_it_asks_for_none(monkeypatch: pytest.MonkeyPatch, more: dict[str, str]) -> None:
    terminal = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "0", "TERM": "xterm-256color", "COLUMNS": "60"}
    for name, value in {**terminal, **more}.items():
        monkeypatch.setenv(name, value)
    scans(ann="good")
    result = run("register", "ann.ply")
    assert ("\x1b[32m" in result.stdout) == ("\x1b[32m" in result.stderr) == (not more)


@pytest.mark.parametrize("command", [["augment", "--help"], ["register", "b\u00e4r.ply"]])
def test_terminals_of_other_encodings_get_escapes(command: list[str], umlauts_in_names: None) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "lvdreg", *command], env=env, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr and done.stdout.isascii()
    assert done.returncode == (0 if "--help" in command else 1)
    assert "--help" in command or b"b\\xe4r.ply" in done.stdout


def test_options_of_a_dataclass_are_options_of_the_command() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Both:
        size: Annotated[int, typer.Option(min=1)] = 3
        fast: Annotated[bool, typer.Option("--fast")] = False

    seen: list[Any] = []

    @unfolded
    def command(
        name: Annotated[str, typer.Argument()], *, both: Both, last: Annotated[int, typer.Option()] = 1
    ) -> None:
        seen.append((name, both, last))

    small = typer.Typer()
    small.command()(command)
    assert CliRunner().invoke(small, ["ann", "--size", "7", "--fast", "--last", "2"]).exit_code == 0
    assert CliRunner().invoke(small, ["ann"]).exit_code == 0
    assert CliRunner().invoke(small, ["ann", "--size", "0"]).exit_code == 2
    assert seen == [("ann", Both(7, True), 2), ("ann", Both(), 1)]


HEAVY = ("torch", "scipy", "numpy", "trimesh", "PIL", "igl")


@pytest.mark.parametrize(
    "command",
    ["--help", "register --help", "hands --help", "--version", "train voxel --help", "augment --help", "batch --help"],
)
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\n"
        "from lvdreg.cli import run\n"
        f"sys.argv[1:] = {command.split()!r}\n"
        "try: run()\n"
        "except SystemExit as error: assert not error.code\n"
        f"assert not [name for name in {HEAVY!r} if name in sys.modules], 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout or "lvdreg" in done.stdout


def test_public_names_are_lazy_and_register_stays_a_function() -> None:
    code = (
        "import sys, lvdreg\n"
        "assert 'torch' not in sys.modules and 'register' in dir(lvdreg)\n"
        "import lvdreg.pipeline.scan\n"
        "assert callable(lvdreg.register) and callable(lvdreg.register_image)\n"
        "from lvdreg import Registration, Scan, read_scan, LvdregError, BodyModel, BodyParams, load_body\n"
        "assert lvdreg.Scan is Scan and issubclass(lvdreg.LvdregError, Exception)\n"
        "try: lvdreg.nonsense\n"
        "except AttributeError: pass\n"
        "else: raise SystemExit('a name from nowhere')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version_and_module_run() -> None:
    done = subprocess.run([sys.executable, "-m", "lvdreg", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"lvdreg {lvdreg.__version__}\n"
    assert np.all([part.isdigit() for part in lvdreg.__version__.split(".")])
