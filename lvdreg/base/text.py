"""Text for people: one line that every terminal and font takes."""

import reprlib

LONGEST_SHOWN = 80
"""Characters of what others wrote that a message quotes."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = LONGEST_SHOWN


def one_line(text: str) -> str:
    """Return the text in one line of valid Unicode: file names may hold line breaks and bytes that are no text."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def brief(error: BaseException, length: int = 120) -> str:
    """Return the beginning of what an error says, in one line; its name where it says nothing."""
    return one_line(str(error))[:length] or type(error).__name__


def shown(value: object) -> str:
    """Return what others wrote as messages quote it: as Python writes it, in one line of at most ``LONGEST_SHOWN``."""
    try:
        text = _REPR.repr(value)
    except (ValueError, RecursionError):  # a whole number of over 4,300 digits
        text = "something too long to show"
    return one_line(text)[:LONGEST_SHOWN]


def side_words(side: str, confidence: float | None) -> str:
    """Say which hand it is and how sure (0 to 1): ``left (98 %)``."""
    return side if confidence is None else f"{side} ({100 * confidence:.0f} %)"
