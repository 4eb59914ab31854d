"""Draw the pictures of README and docs/ anew, from the shipped examples.

    python scripts/draw_docs.py

Writes to docs/: overview.png (one view each of scan, body, registered surface and uncertainty), preview.png, hand.png
and photo.png. augment.png and convergence.png come from ``lvdreg augment --preview`` and ``lvdreg evaluate images``.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw

import lvdreg
from lvdreg.result.draw_scan import preview
from lvdreg.result.sheet import BACKGROUND, CAPTION, FOOTER, HEADER, INK, MARGIN, font

ROOT = Path(__file__).parent.parent
EXAMPLES, DOCS = ROOT / "assets" / "examples", ROOT / "docs"


def front(sheet: Image.Image, row: int) -> Image.Image:
    """Cut the front view of a row (0: scan, 1: surface, 2: uncertainty) from a preview."""
    width = (sheet.width - 2 * MARGIN) // 4
    height = (sheet.height - HEADER - CAPTION - FOOTER) // 3 - CAPTION
    top = HEADER + 2 * CAPTION + row * (height + CAPTION)
    return sheet.crop((MARGIN, top, MARGIN + width, top + height))


def overview(result: lvdreg.Registration) -> Image.Image:
    """Set the front views of what goes in and what comes out side by side."""
    whole, body = preview(result), preview(replace(result, vertices=result.body_vertices))
    panels = {
        "your scan": front(whole, 0),
        "body.ply, under the clothes": front(body, 1),
        "registered.ply, the surface": front(whole, 1),
        "uncertainty.ply, pale is sure": front(whole, 2),
    }
    width, height = next(iter(panels.values())).size
    sheet = Image.new("RGB", (len(panels) * width, height + 2 * CAPTION), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, (caption, panel) in enumerate(panels.items()):
        sheet.paste(panel, (column * width, 0))
        draw.text((column * width + width // 2, height + CAPTION // 2), caption, INK, font(15), anchor="ma")
    return sheet


def main() -> None:
    """Register the examples and draw them."""
    person = lvdreg.register(EXAMPLES / "dressed.ply", model="anny+d")
    overview(person).save(DOCS / "overview.png")
    preview(person).save(DOCS / "preview.png")
    preview(lvdreg.register_hand(EXAMPLES / "hand.ply", model="anny-hand+d")).save(DOCS / "hand.png")
    with tempfile.TemporaryDirectory() as folder:
        lvdreg.register_image(EXAMPLES / "person.jpg").save(folder)
        Image.open(Path(folder, "overlay.png")).save(DOCS / "photo.png")


if __name__ == "__main__":
    main()
