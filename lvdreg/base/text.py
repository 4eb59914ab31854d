"""Text for people: one line that every terminal and font takes."""


def one_line(text: str) -> str:
    """Return the text in one line of valid Unicode: file names may hold line breaks and bytes that are no text."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def brief(error: BaseException, length: int = 120) -> str:
    """Return the beginning of what an error says, in one line; its name where it says nothing."""
    return one_line(str(error))[:length] or type(error).__name__


def side_words(side: str, confidence: float | None) -> str:
    """Say which hand it is and how sure (0 to 1): ``left (98 %)``."""
    return side if confidence is None else f"{side} ({100 * confidence:.0f} %)"
