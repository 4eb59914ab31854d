"""Every verdict's reason and every warning that the package can give, read from its source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "lvdreg"
FOLDERS = ("scan", "photo", "fit", "pipeline", "result", "body")
"""Where what a user is told of a result comes from."""
LISTS = ("notes", "warnings")
SPEAKERS = re.compile(r".*_warnings|transfer_notes|cut_off")
"""Functions that return lines for users."""


def patterns() -> dict[str, re.Pattern[str]]:
    """Return what recognises each message, by the message with its gaps as ``{}``."""
    found: dict[str, re.Pattern[str]] = {}
    for folder in FOLDERS:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            for text in _messages(ast.parse(path.read_text(encoding="utf-8"))):
                found[text] = re.compile(".+?".join(re.escape(part) for part in text.split("{}")))
    return found


def _messages(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and _target(node) in ("COMPLAINTS", "ANOTHER_KIND", "NOT_AT_REST"):
            values = node.value.values if isinstance(node.value, ast.Dict) else [node.value]
            yield from (re.sub(r"\{[^}]*\}", "{}", text) for text in map(_text, values) if text)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for spoken in _spoken(function):
                yield from _texts(spoken, function)


def _spoken(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Yield the expressions of a function that reach a user."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "_noted" or name.rsplit(".", 1)[-1] == "Finding":
                yield node.args[-1]
            elif name in tuple(f"{each}.append" for each in LISTS):
                yield node.args[0]
            yield from (keyword.value for keyword in node.keywords if keyword.arg in LISTS)
        elif isinstance(node, ast.Assign) and _target(node) in LISTS:
            yield node.value
        elif isinstance(node, ast.Return) and node.value and SPEAKERS.fullmatch(function.name):
            yield node.value
            if isinstance(node.value, ast.Name):
                yield from (call.args[0] for call in _appended(function, node.value.id))


def _appended(function: ast.FunctionDef, name: str) -> Iterator[ast.Call]:
    calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
    return (call for call in calls if ast.unparse(call.func) == f"{name}.append")


def _texts(value: ast.expr, function: ast.FunctionDef) -> Iterator[str]:
    """Yield the texts that an expression may be; names stand for what the function gave them."""
    text = _text(value)
    if text is not None:
        yield text
    elif isinstance(value, ast.List | ast.Tuple):
        for item in value.elts:
            yield from _texts(item, function)
    elif isinstance(value, ast.IfExp | ast.BoolOp):
        for item in value.values if isinstance(value, ast.BoolOp) else (value.body, value.orelse):
            yield from _texts(item, function)
    elif isinstance(value, ast.Name):
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and _target(node) == value.id and node.value is not value:
                yield from _texts(node.value, function)


def _text(value: ast.expr | None) -> str | None:
    """Return a text with ``{}`` for what is filled in; None and "" if it is none."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value or None
    if isinstance(value, ast.JoinedStr):
        parts = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in value.values)
        return "".join(parts)
    return None


def _target(node: ast.Assign) -> str:
    return ast.unparse(node.targets[0])
