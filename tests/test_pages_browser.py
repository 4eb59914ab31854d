"""Pages in a real browser: they draw, layers switch, keys work, no network is asked, the console is silent."""

import io
from collections.abc import Iterator
from pathlib import Path

import browser
import numpy as np
import pytest
from browser import Page
from pages import REPORT, toy_shown
from PIL import Image

from lvdreg.report.index import card_of, index_page
from lvdreg.report.page import Picture, as_webp, report_page
from lvdreg.result.files import PAGE

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason=browser.MISSING)
NASTY = "<script>alert(1)</script>"
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One window for all tests."""
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a toy figure with a nasty name."""
    picture = Image.new("RGB", (60, 40), (200, 30, 30))
    path = tmp_path_factory.mktemp("report") / PAGE
    path.write_bytes(report_page(toy_shown(name=NASTY), Picture(as_webp(picture), picture.size), {}))
    return path.as_uri()


def view_of(page: Page) -> np.ndarray:
    """What is seen of the canvas, once it is drawn."""
    page.run(DRAWN)
    left, top, width, height = page.run(
        "(() => { const r = document.querySelector('canvas').getBoundingClientRect(); "
        "return [r.left, r.top, r.width, r.height].map(Math.round); })()"
    )
    seen = np.asarray(Image.open(io.BytesIO(page.picture())).convert("RGB"), np.int64)
    return seen[max(top, 0) + 12 : top + height - 12, left + 12 : left + width - 12]


def press(page: Page, label: str) -> None:
    page.run(f"[...document.querySelectorAll('button')].find((b) => b.textContent === '{label}').click()")


def test_a_report_draws_its_layers(page: Page, report: str) -> None:
    page.open(report)
    assert page.until("document.getElementById('view').dataset.ready") == "3D"
    views = [view_of(page)]
    assert (
        page.run("document.title").startswith(NASTY) and page.run("document.querySelector('h1').textContent") == NASTY
    )
    for label in ("Body", "Distances", "Uncertainty", "turn left"):
        press(page, label)
        views.append(view_of(page))
    background = views[0][0, 0]
    for view in views:
        assert 0.02 < (np.abs(view - background).max(-1) > 12).mean() < 0.8
    assert len({view.tobytes() for view in views}) == len(views), "each shows something else"
    colours = views[3][np.abs(views[3] - background).max(-1) > 60]
    assert np.ptp(colours[:, 1] - colours[:, 2]) > 40, "sigma has colours"
    words = "document.querySelector('.bars').textContent"
    assert "sigma" in page.run(words) and "and more" in page.run(words)
    assert page.asked() == [report] and page.complaints() == []


def test_values_are_said(page: Page, report: str) -> None:
    page.open(report)
    page.until("document.getElementById('view').dataset.ready")
    press(page, "Distances")
    page.run("document.querySelector('canvas').focus()")
    page.press("Enter")
    said = page.run("document.querySelector('[role=status].value').textContent")
    assert said.startswith("Scan: ") and "side of the surface" in said and 0 < float(said.split()[1]) <= 10.1
    press(page, "Uncertainty")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    page.press("Enter")
    said = page.run("document.querySelector('[role=status].value').textContent")
    assert said.startswith("Registered surface: sigma ") and 1 <= float(said.split()[-2]) <= 40


def test_everything_is_reached_by_keys(page: Page, report: str) -> None:
    page.open(report)
    page.until("document.getElementById('view').dataset.ready")
    reached = []
    for _ in range(24):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.textContent.slice(0, 12)"))
    assert page.run("document.querySelector('canvas').tabIndex") == 0
    for name in ("Result", "left", "turn left", "scan-show", "scan-opacity", "surface-colour", "body-show"):
        assert name in reached
    assert reached.index("Result") < reached.index("scan-show") < reached.index("surface-show")
    page.run("document.getElementById('scan-show').focus()")
    page.press(" ", " ")
    assert page.run("document.getElementById('scan-show').checked") is True, "not shown at first"
    page.run("document.querySelector('canvas').focus()")
    before = view_of(page)
    for key in ("ArrowLeft", "ArrowDown"):
        page.press(key)
    turned = view_of(page)
    assert (before != turned).any()
    page.press("Home")
    np.testing.assert_array_equal(view_of(page), before)
    unnamed = "[...document.querySelectorAll('input,select')].filter((e) => !e.labels.length).length"
    assert page.run(unnamed) == 0 and page.complaints() == []


def test_without_webgl_the_picture_is_shown(page: Page, report: str) -> None:
    script = page.call(
        "Page.addScriptToEvaluateOnNewDocument", source="HTMLCanvasElement.prototype.getContext = () => null"
    )
    page.open(report)
    assert page.until("document.getElementById('view').dataset.ready") == "picture"
    page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    assert page.run("document.querySelector('figure img').checkVisibility() && !document.querySelector('canvas')")
    assert page.run("document.querySelector('figure img').naturalWidth") == 60 and page.complaints() == []


def test_the_index_is_filtered(page: Page, tmp_path: Path) -> None:
    (tmp_path / "a10").mkdir()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "a10" / "thumbnail.webp")
    about = [("a10", "good", "anny"), ("a9", "check", "anny"), (NASTY, "failed", "smpl")]
    cards = [
        card_of(REPORT | {"name": name, "verdict": verdict, "model": model}, Path("a10"), PAGE, "thumbnail.webp")
        for name, verdict, model in about
    ]
    (tmp_path / "index.html").write_bytes(index_page("out", cards))
    page.open((tmp_path / "index.html").as_uri())

    def shown() -> list[str]:
        page.run("document.querySelectorAll('select,input').forEach((e) => e.dispatchEvent(new Event('input')))")
        return page.run("[...document.querySelectorAll('.cards li:not([hidden])')].map((e) => e.dataset.name)")

    names = [card.name for card in cards]
    assert shown() == [names[2], names[1], names[0]]
    assert page.until("[...document.querySelectorAll('img')].every((e) => e.naturalWidth === 8)")
    page.run("document.getElementById('order').value = 'name'")
    assert shown()[1:] == [names[1], names[0]] or shown()[:2] == [names[1], names[0]], "numbers in their order"
    page.run("document.getElementById('model').value = 'anny'")
    assert shown() == [names[1], names[0]]
    page.run("document.getElementById('text').value = 'A10 unusual'")
    page.run("document.getElementById('verdict').value = 'good'")
    assert shown() == [names[0]] and page.run("document.getElementById('count').textContent") == "1 of 3 shown"
    assert all(url.startswith(tmp_path.as_uri()) for url in page.asked()) and page.complaints() == []
