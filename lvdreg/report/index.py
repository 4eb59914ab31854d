"""``index.html``: all results of a folder on one page, those first that need attention."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element

from lvdreg.base.text import one_line
from lvdreg.batch.table import Outcome
from lvdreg.report.markup import asset, page, tag
from lvdreg.report.page import verdict_badge, verdict_of
from lvdreg.report.words import is_number, measured, number_of

ORDER = ("none", "failed", "check", "good")
"""Of verdicts: what could not be registered needs attention first."""


@dataclass(frozen=True)
class Card:
    """A result in the index.

    Attributes:
        name: Of the scan or photo.
        link: Where its page is, from the index; None: there is no page.
        thumb: Where its picture is, likewise.
        verdict: ``none``: it could not be registered.
        reason: Why, in one line.
        model: That was registered.
        facts: Numbers in words.
        trouble: How uncertain it is: among equal verdicts the largest comes first.
    """

    name: str
    link: str | None
    thumb: str | None
    verdict: str
    reason: str
    model: str
    facts: tuple[str, ...] = ()
    trouble: float = 0.0


def card_of(report: dict[str, Any], place: Path, link: str | None, thumb: str | None, note: str = "") -> Card:
    """Return the card of a result.

    Args:
        report: Its report.
        place: Its folder, from the index.
        link: Name of its page in its folder.
        thumb: Name of its picture there.
        note: What else is to be said of it.
    """
    metrics = report.get("metrics")
    known = metrics if isinstance(metrics, dict) else {}
    facts = [
        f"{word} {measured(key, known[key])}"
        for key, word in (
            ("point_to_surface_scan_to_registered_mm", "scan to surface"),
            ("silhouette_iou", "overlap"),
            ("sigma_median_mm", "median sigma"),
            ("height_m", "height"),
            ("length_m", "length"),
        )
        if is_number(known.get(key))
    ]
    trouble = known.get("sigma_mean_mm", known.get("sigma_median_mm"))
    name = one_line(str(report.get("name") or place.name))
    return Card(
        name if place.name == name else f"{name} ({place})",
        None if link is None else _address(place / link),
        None if thumb is None else _address(place / thumb),
        verdict_of(report),
        one_line(str(report.get("reason", ""))),
        one_line(str(report.get("model", ""))),
        (*facts, *([note] if note else [])),
        number_of(trouble),
    )


def lost_card(outcome: Outcome) -> Card:
    """Return the card of an input that could not be registered."""
    return Card(one_line(Path(outcome.source).name), None, None, "none", one_line(outcome.reason), "")


def _address(path: Path) -> str:
    return quote(path.as_posix(), errors="surrogateescape")


def index_page(title: str, cards: Iterable[Card]) -> bytes:
    """Write the index; its pictures are files beside it, and loaded when they are scrolled to."""
    found = sorted(cards, key=lambda card: (ORDER.index(card.verdict), -card.trouble, card.name))
    counts = Counter(card.verdict for card in found)
    words = ", ".join(f"{counts[each]} {_word(each)}" for each in ORDER if counts[each])
    body = [
        tag("header", tag("h1", title), tag("p", f"{len(found)} results: {words or 'none'}.")),
        tag("main", _filters(found), tag("ul", *map(_item, found), class_="cards")),
    ]
    return page(f"{title} - lvdreg", body, asset("index.js"), img_src="'self' file: data:")


def _filters(cards: Sequence[Card]) -> Element:
    verdicts = [each for each in ORDER if any(card.verdict == each for card in cards)]
    models = sorted({card.model for card in cards if card.model})
    return tag(
        "div",
        _choice("verdict", "Verdict", [("", "all"), *((each, _word(each)) for each in verdicts)]),
        _choice("model", "Model", [("", "all"), *((model, model) for model in models)]),
        _choice("order", "Order", [("attention", "what needs attention first"), ("name", "by name")]),
        tag("label", "Search ", tag("input", type="search", id="text"), for_="text"),
        tag("span", id="count", role="status"),
        class_="filters",
        role="search",
        hidden="hidden",
    )


def _word(verdict: str) -> str:
    return "not registered" if verdict == "none" else verdict


def _choice(name: str, label: str, options: Sequence[tuple[str, str]]) -> Element:
    select = tag("select", *(tag("option", text, value=value) for value, text in options), id=name)
    return tag("label", f"{label} ", select, for_=name)


def _item(card: Card) -> Element:
    picture = tag("span", class_="blank")
    if card.thumb is not None:
        picture = tag("img", src=card.thumb, alt="", loading="lazy", width="80", height="88")
    title = tag("strong", card.name) if card.link is None else tag("a", tag("strong", card.name), href=card.link)
    badge = verdict_badge(card.verdict)
    badge.text = _word(card.verdict)
    text = f"{card.name} {card.reason} {card.model}".lower()
    data = {"data_verdict": card.verdict, "data_model": card.model, "data_name": card.name, "data_text": text}
    about = tag("p", ", ".join([*([card.model] if card.model else []), *card.facts]), class_="faint")
    return tag("li", picture, tag("div", tag("p", badge, " ", title), tag("p", card.reason), about), **data)
