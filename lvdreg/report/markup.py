"""Pages as trees: whatever comes from files or their names is text, and is escaped by the writer of the tree."""

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from lvdreg.base.version import __version__
from lvdreg.result.files import plain

Child = ET.Element | str | None
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe\uffff]")


def tag(name: str, *children: Child, **about: str) -> ET.Element:
    """Make an element; ``class_`` and ``for_`` stand for the words that Python keeps, ``_`` within a name for ``-``."""
    element = ET.Element(name, {key.rstrip("_").replace("_", "-"): clean(value) for key, value in about.items()})
    last: ET.Element | None = None
    for child in children:
        if isinstance(child, ET.Element):
            element.append(child)
            last = child
        elif child is not None and last is None:
            element.text = (element.text or "") + clean(child)
        elif child is not None and last is not None:
            last.tail = (last.tail or "") + clean(child)
    return element


def clean(text: str) -> str:
    """Return text that every page can hold: valid Unicode, without control characters but line breaks."""
    return _UNPRINTABLE.sub(" ", text.encode("utf-8", "replace").decode("utf-8"))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 1) -> ET.Element:
    """Make a table; the first cell of a row is its head, and columns from ``numbers`` on are numbers."""

    def style(column: int) -> dict[str, str]:
        return {"class_": "number"} if column >= numbers else {}

    top = tag("tr", *(tag("th", text, scope="col", **style(i)) for i, text in enumerate(head)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", text, **style(i)) for i, text in enumerate(row[1:], 1)))
        for row in rows
    ]
    return tag("table", tag("caption", caption), tag("thead", top), tag("tbody", *body))


def data_uri(content: bytes, kind: str) -> str:
    """Return a file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def json_block(name: str, value: Any) -> ET.Element:
    """Make a block of data: no script, and nothing in it ends the block."""
    text = json.dumps(plain(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    block = ET.Element("script", {"type": "application/json", "id": name})
    block.text = text.replace("<", "\\u003c")
    return block


def asset(name: str, package: str = "lvdreg.report") -> str:
    """Return a script or a style that lies in a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def page(title: str, body: Sequence[ET.Element], script: str, **rules: str) -> bytes:
    """Write a page that holds all it needs, and may ask nobody for anything.

    Args:
        title: Of the window.
        body: What it shows.
        script: What runs in it.
        rules: More of its content security policy, ``_`` for ``-``: where pictures and the like may come from.

    Returns:
        The file. No script and no style runs but those whose hash its policy names.
    """
    style = asset("page.css")
    own = {"default_src": "'none'", "script_src": _hash(script), "style_src": _hash(style), "img_src": "data:"}
    own |= {"base_uri": "'none'", "form_action": "'none'"} | rules
    policy = "; ".join(f"{name.replace('_', '-')} {value}" for name, value in own.items())
    icon = "data:,"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        ET.Element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="generator", content=f"lvdreg {__version__}"),
        tag("title", title),
        tag("link", rel="icon", href=icon),
        _raw("style", style),
    )
    root = tag("html", head, tag("body", *body, _raw("script", script)), lang="en")
    return b"<!DOCTYPE html>\n" + ET.tostring(root, encoding="utf-8", method="html")


def _raw(name: str, text: str) -> ET.Element:
    element = ET.Element(name)
    element.text = text
    return element


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
