"""The shape of the code: budgets, documentation, light imports. The order of folders stands in pyproject.toml."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lvdreg"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ALL = [*SOURCES, *sorted(Path(__file__).parent.glob("*.py")), *sorted((PACKAGE.parent / "scripts").glob("*.py"))]
MAX_FUNCTION_LINES, MAX_FILE_LINES = 90, 500

TEMPLATE_NUMBERS = {6890, 6890 * 3, 10475, 778, 778 * 3, 13776, 1538}
HEAVY = {"torch", "scipy", "trimesh", "smplx", "chumpy", "manopth", "kaolin", "open3d", "anny", "warp"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    yield from (node for node in ast.walk(tree(path)) if isinstance(node, kinds))


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the public functions, classes and methods of a module; what is nested in functions is private."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


@pytest.fixture(params=SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def source(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_imports_are_absolute_and_annotations_are_real(source: Path) -> None:
    imports = [node for node in ast.walk(tree(source)) if isinstance(node, ast.ImportFrom)]
    assert not [node.lineno for node in imports if node.level > 0], "relative import"
    # Postponed annotations would hide the shapes from jaxtyping's checks at run time.
    assert "__future__" not in {node.module for node in imports}


def test_nothing_prints_or_exits(source: Path) -> None:
    calls = [node for node in ast.walk(tree(source)) if isinstance(node, ast.Call)]
    names = {(node.func.id, node.lineno) for node in calls if isinstance(node.func, ast.Name)}
    assert not [(name, line) for name, line in names if name in {"print", "exit", "quit", "breakpoint"}]


def test_no_bare_except_and_nothing_left_for_later(source: Path) -> None:
    handlers = [node for node in ast.walk(tree(source)) if isinstance(node, ast.ExceptHandler)]
    assert not [node.lineno for node in handlers if node.type is None]
    raised = [node.exc for node in ast.walk(tree(source)) if isinstance(node, ast.Raise) and node.exc]
    assert not [error.lineno for error in raised if "NotImplementedError" in ast.unparse(error)]
    assert not re.findall(r"\b(TODO|FIXME|XXX)\b", source.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_budgets(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    long = [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in functions(path)
        if not isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not long


def test_public_names_are_documented(source: Path) -> None:
    module = tree(source)
    assert ast.get_docstring(module), f"{source.name} says nothing about itself"
    bare = [name for name, node in public_definitions(module.body) if not ast.get_docstring(node)]
    assert not bare, f"without a docstring: {bare}"


def test_no_numbers_of_one_template(source: Path) -> None:
    numbers = [node for node in ast.walk(tree(source)) if isinstance(node, ast.Constant)]
    found = [
        (node.lineno, node.value) for node in numbers if type(node.value) is int and node.value in TEMPLATE_NUMBERS
    ]
    assert not found, f"ask the body instead: {found}"


@pytest.mark.parametrize("module", ["lvdreg", "lvdreg.cli", "lvdreg.base.errors", "lvdreg.base.lengths"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    assert not HEAVY & set(run.stdout.split())


def test_the_version_stands_in_one_place() -> None:
    root = PACKAGE.parent
    version = re.search(r'__version__ = "([^"]+)"', (PACKAGE / "base" / "version.py").read_text(encoding="utf-8"))
    assert version is not None
    for name in ("pyproject.toml", "CITATION.cff"):
        text = (root / name).read_text(encoding="utf-8")
        assert not re.search(rf'^version\s*[=:]\s*"?{re.escape(version[1])}', text, re.MULTILINE), name


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_allowed() -> None:
    root = PACKAGE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(needed(project)), re.MULTILINE))
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)", (root / "constraints-oldest.txt").read_text(), re.MULTILINE))
    assert {name: release(bound) for name, bound in bounds.items()} == {name: release(pins[name]) for name in bounds}


def needed(project: dict[str, Any]) -> list[str]:
    return [*project["dependencies"], *project["optional-dependencies"]["test"]]


def release(version: str) -> list[int]:
    """Return the numbers of a version without zeros at the end, which say nothing."""
    numbers = [int(number) for number in version.split(".")]
    return numbers[: max((i + 1 for i, number in enumerate(numbers) if number), default=0)]
