"""What README and docs/ hold: blocks of code, links, headings, tables."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def text_of(name: str) -> str:
    """Return a page: README.md, or one of docs/ by its name."""
    path = ROOT / name if (ROOT / name).exists() else ROOT / "docs" / name
    return path.read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of code in a language, whole."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of links and pictures that lie in the checkout."""
    return re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """Return what of a page can be linked to: GitHub's names of its headings."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of its level or above."""
    (found,) = re.findall(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    rest = text.split(f"{found} {heading}\n", 1)[1]
    return re.split(rf"^#{{1,{len(found)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables but their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, row in enumerate(cells) if all(re.fullmatch(r"-+", cell) for cell in row)]
    heads = {number for rule in rules for number in (rule - 1, rule)}
    return [row for number, row in enumerate(cells) if number not in heads]


def codes(text: str) -> list[str]:
    """Return what is marked as code within lines."""
    return re.findall(r"`([^`\n]+)`", text)
