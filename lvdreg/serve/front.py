"""The page of the server."""

from typing import Any

from lvdreg.report.markup import asset, json_block, page, tag
from lvdreg.serve.jobs import CHOICES, OPTIONS
from lvdreg.serve.work import STAGES

KIND_WORDS = {"scan": "scan of a person", "hand": "scan of a hand", "photo": "photo of a person"}
CHOICE_WORDS = {"unit": "unit", "up": "axis that points up", "side": "hand"}
KNOWN = {"options": OPTIONS, "choices": CHOICES, "words": CHOICE_WORDS, "stages": STAGES, "kinds": KIND_WORDS}


def front_page(about: dict[str, Any]) -> bytes:
    """Write the page.

    Args:
        about: What its script has to know: ``token``, ``models``, ``suffixes`` and ``limit``.
    """
    kinds = [tag("option", words, value=kind) for kind, words in KIND_WORDS.items()]
    form = tag(
        "form",
        tag("h2", "Add files", id="add-title"),
        tag("label", "They show a ", tag("select", *kinds, id="kind"), for_="kind"),
        tag("label", "Model ", tag("select", id="model"), for_="model"),
        tag("label", "Files ", tag("input", type="file", id="files", multiple="multiple"), for_="files"),
        tag("p", "Or drop files anywhere on this page. They stay on this computer.", class_="faint"),
        tag("p", id="said", role="status"),
        id="add",
        aria_labelledby="add-title",
    )
    title = tag("h1", "lvdreg")
    results = tag("ul", id="jobs", class_="cards jobs")
    body = [
        tag("header", title, tag("p", "Fits a body model to 3D scans of people and hands, and to photos.")),
        tag(
            "main",
            form,
            tag("section", tag("h2", "Results"), tag("p", "None yet.", id="none"), results),
            tag("section", tag("h2", "Result", id="shown-title"), tag("div", id="frame"), id="shown", hidden="hidden"),
        ),
        json_block("about", about | KNOWN),
    ]
    script = asset("serve.js", "lvdreg.serve")
    return page("lvdreg", body, script, img_src="'self' data:", connect_src="'self'", frame_src="'self'")
