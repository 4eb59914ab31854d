"""README and docs/ say what is true: links lead somewhere, code runs, commands parse, no message or key is missing."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from documents import PAGES, ROOT, anchors, blocks, codes, links, prose, rows, section, text_of
from fake_registration import fake_registration
from typer.testing import CliRunner
from user_messages import patterns

from lvdreg.batch import Outcome
from lvdreg.cli import app
from lvdreg.pipeline.config import HAND, ImageRegisterConfig, RegisterConfig
from lvdreg.result import files_photo, files_scan
from lvdreg.scan.read import SUFFIXES
from lvdreg.settings import COMMANDS, KNOBS, settings_of, words

RUN = [page for page in PAGES if page.name != "dataset.md" and blocks(page.read_text(encoding="utf-8"), "python")]
"""Pages whose Python runs here; that of dataset.md runs in test_dataset.py, on a dataset."""
OTHER_TOOLS = {"python", "cd", "git", "ruff", "mypy", "pytest", "lint-imports", "."}
CHEAP = (
    ["doctor"],
    ["example"],
    ["example", "hand"],
    ["models"],
    ["models", "list"],
    ["models", "where"],
    ["config"],
    ["--version"],
)


def ids(page: Path) -> str:
    return page.name


def test_readme_is_short() -> None:
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 120


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), f"{page.name}: no heading {target}"


def test_every_page_is_in_the_contents() -> None:
    listed = {line for block in blocks(text_of("index.md"), r"\{toctree\}") for line in block.split()}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"} <= listed


@pytest.mark.slow
def test_python_runs_and_what_it_leaves_is_described(tmp_path: Path) -> None:
    """One process runs the Python of all pages, as a reader would, below a folder that has the examples."""
    assert {"README.md", "scans.md", "files.md"} <= {page.name for page in RUN}
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    command = [sys.executable, str(ROOT / "tests" / "run_documents.py"), *map(str, RUN)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for name, kinds in (("person", ("scans", "bodies")), ("hand", ("scans", "hands")), ("photo", ("photos", "bodies"))):
        folder = tmp_path / "out" / name
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        check_messages(report)
        check_keys(folder, report, ("all", "+d", *kinds))


def commands(text: str) -> list[str]:
    """Return the lines of shell blocks, without comments and where their output goes."""
    lines = "".join(blocks(text, "bash")).splitlines()
    return [command for line in lines if (command := re.sub(r"(^|\s)[#>] .*", "", line).strip())]


def parse(words: list[str]) -> None:
    """Parse a command line of lvdreg as it would be, and run nothing."""
    command, context = typer.main.get_command(app), None
    while True:
        context = command.make_context(command.name, list(words), parent=context)
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "resolve_command") or not rest:
            return
        _, command, words = command.resolve_command(context, rest)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_are_those_of_the_command_line(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.safetensors").touch()
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    for line in commands(page.read_text(encoding="utf-8")):
        for command in line.split("&&"):
            inner = re.findall(r"\$\((.*?)\)", command)
            tool, *words = shlex.split(re.sub(r"\$\(.*?\)", "FILE", command))
            for each in inner:
                assert each.startswith("lvdreg example")
                parse(shlex.split(each)[1:])
            if tool == "lvdreg":
                parse(words)
            elif tool == "make":
                assert re.search(rf"^{words[0]}:", text_of("Makefile"), re.MULTILINE), line
            elif tool == "pip":
                named = [
                    extra for word in words for found in re.findall(r"\[(.*)\]", word) for extra in found.split(",")
                ]
                assert set(named) <= set(extras), line
            else:
                assert tool in OTHER_TOOLS, f"{page.name}: {line}"


def test_a_wrong_option_would_be_found() -> None:
    with pytest.raises(Exception, match="--units"):
        parse(["register", "scan.ply", "--units", "mm"])
    with pytest.raises(Exception, match="registre"):
        parse(["registre", "scan.ply"])


@pytest.mark.parametrize("words", CHEAP, ids=" ".join)
def test_cheap_commands_run(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "models"))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and result.stdout, result.output


def test_formats_and_extras_are_those_of_the_document() -> None:
    (own,) = (row[1].partition(";")[0] for row in rows(text_of("scans.md")) if row[0] == "formats")
    others = [row[0] for row in rows(section(text_of("scans.md"), "Formats by other libraries")) if len(row) == 3]
    names = {name for cell in (own, *others) for name in cell.partition(" packed")[0].split(", ")}
    assert {f".{name}" for name in names - {"files", "exr"}} == set(SUFFIXES)
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    assert {code for row in rows(section(text_of("install.md"), "Extras")) for code in codes(row[0])} == set(extras)


def options_of(command: Any) -> set[str]:
    """Return all options of a command and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*map(options_of, getattr(command, "commands", {}).values()))


def test_options_in_the_text_exist_and_are_marked_as_code() -> None:
    known = options_of(typer.main.get_command(app))
    for page in PAGES:
        text = prose(page.read_text(encoding="utf-8"))
        named = {code.split()[0] for code in codes(text) if code.startswith("--")}
        assert named <= known, f"{page.name}: {named - known}"
        assert not re.search(r"(^|\s)--\w", re.sub(r"`[^`\n]*`", "", text)), f"{page.name}: two hyphens become a dash"


def entries() -> list[str]:
    """Return the messages that the page on trouble explains."""
    text = text_of("trouble.md")
    quoted = [" ".join(found.replace("\n> ", " ").split()) for found in re.findall(r"^> (.*(?:\n> .*)*)", text, re.M)]
    tables = rows(section(text, "Warnings"))
    return [entry.replace("`", "") for entry in [*quoted, *(row[0] for row in tables)]]


def test_every_message_is_explained() -> None:
    found, messages = entries(), patterns()
    assert len(messages) > 55
    missing = [message for message, pattern in messages.items() if not any(map(pattern.fullmatch, found))]
    assert not missing, f"docs/trouble.md lacks {missing}"
    stale = [entry for entry in found if not any(pattern.fullmatch(entry) for pattern in messages.values())]
    assert [entry.split(":")[0] for entry in stale] == ["put right in it"], f"nothing says so: {stale}"


def check_messages(report: dict[str, Any]) -> None:
    told = report["warnings"] + ([] if report["verdict"] == "good" else [report["reason"]])
    for message in told:
        pattern = next(pattern for pattern in patterns().values() if pattern.fullmatch(message))
        assert any(map(pattern.fullmatch, entries())), message


def test_limits_of_verdicts_are_those_of_the_settings() -> None:
    told = {row[0].strip("`"): row[1:] for row in rows(section(text_of("trouble.md"), "Limits"))}
    configs = (RegisterConfig().verdict, HAND.verdict, ImageRegisterConfig().verdict)
    names = {field.name for config in configs for field in fields(config)} - {"explained_within_mm"}
    assert set(told) == names
    for name, cells in told.items():
        for cell, config in zip(cells, configs, strict=True):
            limits = getattr(config, name, None) or ()
            assert tuple(map(float, re.findall(r"[\d.]+", cell))) == pytest.approx(limits), (name, cell)


def test_settings_are_those_of_the_document() -> None:
    told = [[cell.strip("`") for cell in row] for row in rows(section(text_of("settings.md"), "Twelve settings"))]
    knobs = [
        [
            name,
            *(words(knob.standard[each]) if each in knob.standard else "-" for each in COMMANDS),
            knob.unit,
            knob.range,
        ]
        for name, knob in KNOBS.items()
    ]
    assert [row[:-1] for row in told] == knobs
    (example,) = blocks(text_of("settings.md"), "toml")
    for name, table in tomllib.loads(example).items():
        assert settings_of(table, name) if isinstance(table, dict) else KNOBS[name].allows(table)


def told_of(heading: str) -> set[str]:
    """Return the keys in the first column of a table of files.md."""
    return {key for row in rows(section(text_of("files.md"), heading)) for key in codes(row[0])}


def test_files_are_those_of_the_document() -> None:
    assert told_of("Of a scan") == set(files_scan.FILES)
    assert told_of("Of a photo") == set(files_photo.FILES)
    assert told_of("Columns of the table") == {field.name for field in fields(Outcome)}


def test_keys_of_a_made_up_result_are_those_of_the_document(tmp_path: Path) -> None:
    fake_registration().save(tmp_path / "person")
    report = json.loads((tmp_path / "person" / "report.json").read_text(encoding="utf-8"))
    described = section(text_of("files.md"), "Keys of the report").split("### Metrics")[0]
    assert {key for row in rows(described) if row[1] in ("all", "scans") for key in codes(row[0])} == set(report)
    with np.load(tmp_path / "person" / "params.npz") as saved:
        assert set(saved) <= told_of("Keys of the parameters")


def check_keys(folder: Path, report: dict[str, Any], kinds: tuple[str, ...]) -> None:
    with np.load(folder / "params.npz") as saved:
        params = set(saved)
    described, metrics = section(text_of("files.md"), "Keys of the report").split("### Metrics")
    parameters = section(text_of("files.md"), "Keys of the parameters")
    tables = ((described, 1, set(report)), (metrics, 1, set(report["metrics"])), (parameters, 2, params))
    for text, column, there in tables:
        told = {key for row in rows(text) if row[column].strip("`") in kinds for key in codes(row[0])}
        assert there <= told
        assert told - there <= {"up", "displacements"}, "the document names keys that are not there"


def test_the_page_on_the_method_names_every_module() -> None:
    text = text_of("pipeline.md")
    for folder in ("geometry", "scan", "photo", "voxel", "image", "descent", "body", "fit", "result", "pipeline"):
        for path in (ROOT / "lvdreg" / folder).glob("[!_]*.py"):
            assert f"**{path.name}**" in text, f"docs/pipeline.md does not say what {folder}/{path.name} does"
