"""``report.html``: one result on a page that needs nothing else, and opens by double click."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from PIL import Image

from lvdreg.base.files import read_json
from lvdreg.base.text import one_line
from lvdreg.report.markup import asset, data_uri, json_block, page, table, tag
from lvdreg.report.scene import scene_of
from lvdreg.report.subject import Shown
from lvdreg.report.words import METRICS, VERDICTS, is_number, measured
from lvdreg.result.files import plain

SCRIPTS = ("viewer.js", "controls.js")
PICTURES = ("preview.png", "overlay.png")
PICTURE_WIDTH = 1000
"""Pixels: wide enough to read what stands on a picture."""
MAX_PICTURE_PIXELS = 40_000_000
QUALITY = 80
PARTS = (
    "Millimetres, the least certain first. Sigma is one standard deviation of the body, the median over the part; "
    "the distance is the median from the scan to the registered surface."
)


@dataclass(frozen=True)
class Picture:
    """The picture of a result as pages hold it: WebP, its size in pixels."""

    content: bytes
    size: tuple[int, int]


def report_page(shown: Shown, picture: Picture | None, measures: dict[str, Any]) -> bytes:
    """Write the page of a result.

    Args:
        shown: What is shown.
        picture: Seen where there is no WebGL, and in print.
        measures: As ``measures.json`` has them, or nothing.
    """
    report = shown.saved.report
    name = one_line(str(report.get("name") or shown.saved.folder.name))
    body = [
        _header(report, name, shown),
        tag("main", _view(name, picture, shown), *_sections(report, shown, measures)),
        json_block("scene", scene_of(shown)),
    ]
    return page(f"{name} - lvdreg", body, "\n".join(map(asset, SCRIPTS)))


def _header(report: dict[str, Any], name: str, shown: Shown) -> Element:
    verdict = verdict_of(report)
    kind = f"{shown.saved.side} hand" if shown.saved.side else "photo" if shown.is_photo else "scan"
    unit = report.get("scan", {}).get("unit")
    guess = " (a guess)" if report.get("scan", {}).get("unit_is_guess") else ""
    facts = [kind, f"model {report.get('model')}", *([f"unit {unit}{guess}"] if unit else [])]
    up = report.get("scan", {}).get("up")
    facts += [f"up {up}"] if up else []
    return tag(
        "header",
        tag("h1", name),
        tag("p", verdict_badge(verdict), f" {report.get('reason', '')}"),
        tag("p", f"{VERDICTS.get(verdict, '')} ({', '.join(facts)})", class_="faint"),
    )


def verdict_of(report: dict[str, Any]) -> str:
    """Return the verdict of a report; ``none`` where it is no verdict."""
    found = report.get("verdict")
    return found if isinstance(found, str) and found in VERDICTS else "none"


def verdict_badge(verdict: str) -> Element:
    """Return the verdict as a word in a box of its colour."""
    return tag("strong", verdict, class_=f"verdict {verdict}")


def _view(name: str, picture: Picture | None, shown: Shown) -> Element:
    notes = [tag("p", shown.scan_note, class_="faint")] if shown.scan_note else []
    section = tag(
        "section",
        tag("h2", "In 3D", id="view-title"),
        tag("noscript", tag("p", "Without JavaScript there is the picture only.")),
        tag("p", "This browser shows the picture only, not the 3D view", id="no3d", role="status", hidden="hidden"),
        tag("div", id="view3d"),
        *notes,
        id="view",
        aria_labelledby="view-title",
    )
    if picture is not None:
        width, height = map(str, picture.size)
        what = "the body over the photo, from other sides, and its uncertainty"
        what = what if shown.is_photo else "scan, result and uncertainty from four sides"
        image = tag(
            "img", src=data_uri(picture.content, "image/webp"), alt=f"{name}: {what}", width=width, height=height
        )
        # Open where there is no 3D view; of a photo always, which 3D does not show.
        fold = {} if shown.is_photo else {"data_fold": ""}
        section.append(tag("details", tag("summary", f"Picture: {what}"), tag("figure", image), open="", **fold))
    return section


def _sections(report: dict[str, Any], shown: Shown, measures: dict[str, Any]) -> Iterator[Element]:
    yield _warnings(report)
    columns = [_parts(report, shown), _numbers(report), _measures(measures), _timings(report)]
    yield tag("div", *(section for section in columns if section is not None), class_="columns")
    for title, key in (("Settings", "settings"), ("Files", "files"), ("Everything that report.json says", None)):
        content = report if key is None else report.get(key)
        text = json.dumps(plain(content), indent=1, ensure_ascii=False)
        yield tag("details", tag("summary", title), tag("pre", text, tabindex="0", role="region", aria_label=title))


def _section(title: str, *content: Element) -> Element:
    return tag("section", tag("h2", title), *content)


def _warnings(report: dict[str, Any]) -> Element:
    found = report.get("warnings")
    lines = [str(line) for line in found] if isinstance(found, list) else []
    if not lines:
        return _section("Warnings", tag("p", "None."))
    return _section("Warnings", tag("ul", *(tag("li", line) for line in lines)))


def _parts(report: dict[str, Any], shown: Shown) -> Element | None:
    found = report.get("part_sigma_mm")
    sigmas = {name: value for name, value in found.items() if is_number(value)} if isinstance(found, dict) else {}
    if not sigmas:
        return None
    rows = [
        (name, f"{sigma:.1f}", f"{shown.part_distances_mm[name]:.1f}" if name in shown.part_distances_mm else "")
        for name, sigma in sorted(sigmas.items(), key=lambda item: -item[1])
    ]
    return _section("Parts", table(PARTS, ("part", "sigma", "distance"), rows))


def _numbers(report: dict[str, Any]) -> Element | None:
    metrics = report.get("metrics")
    if not isinstance(metrics, dict):
        return None
    known = [key for key in METRICS if key in metrics]
    rows = [
        (METRICS.get(key, key), measured(key, metrics[key])) for key in [*known, *sorted(set(metrics) - set(known))]
    ]
    return _section("Numbers", table("Lengths at true size.", ("what", "value"), rows))


def _measures(measures: dict[str, Any]) -> Element | None:
    found = measures.get("measures")
    if not isinstance(found, dict) or not found:
        return None
    rows = [
        (name, f"{each['value_mm']:.0f}", f"{each['sigma_mm']:.0f}", str(each.get("definition", "")))
        for name, each in found.items()
        if isinstance(each, dict) and is_number(each.get("value_mm")) and is_number(each.get("sigma_mm"))
    ]
    caption = f"Millimetres, with one standard deviation; measured: {measures.get('measured', '')}."
    head = ("measure", "value", "sigma", "definition")
    made = table(caption, head, rows)
    for row in made.iter("tr"):
        row[-1].attrib.pop("class", None)
    return _section("Measures", made)


def _timings(report: dict[str, Any]) -> Element | None:
    timings = report.get("timings_s")
    if not isinstance(timings, dict):
        return None
    rows = [(name, f"{value:.1f}") for name, value in timings.items() if is_number(value)]
    return _section("Times", table("Seconds by stage.", ("stage", "seconds"), rows))


def read_picture(folder: Path) -> Picture | None:
    """Return the picture of a result, made smaller; None where there is none that can be read."""
    found = open_picture(folder)
    if found is None:
        return None
    found.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH))
    return Picture(as_webp(found), found.size)


def open_picture(folder: Path) -> Image.Image | None:
    """Read the picture of a result."""
    for path in (folder / name for name in PICTURES):
        try:
            with Image.open(path, formats=["PNG"]) as image:
                if image.width * image.height <= MAX_PICTURE_PIXELS:
                    return image.convert("RGB")
        except (OSError, ValueError, SyntaxError):
            continue
    return None


def as_webp(image: Image.Image) -> bytes:
    """Return a picture as the content of a file."""
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue()


def read_measures(folder: Path) -> dict[str, Any]:
    """Return what ``lvdreg measure`` found of a result and left beside it; nothing where it did not."""
    path = measures_file(folder)
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "lvdreg" in found else {}


def measures_file(folder: Path) -> Path:
    """Return where ``lvdreg measure`` leaves what it found of a result in the same ``--out``."""
    return folder.parent / "measures" / folder.name / "measures.json"
