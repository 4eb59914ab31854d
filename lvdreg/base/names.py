"""Names of folders: whatever an input is called, one name that every file system takes and that stays in its place."""

import re
import unicodedata

MAX_BYTES = 200
"""Of the 255 bytes that file systems allow; hidden siblings (``.NAME.TOKEN.part``) and a number need the others."""
UNNAMED = "unnamed"
_FORBIDDEN = frozenset('/\\<>:"|?*')
"""The separators of paths, and what Windows, exFAT and SMB refuse."""
_UNPRINTABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Categories of Unicode: control characters, bytes that are no text (surrogates), line and paragraph separators."""
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *", re.IGNORECASE)
"""Devices of Windows, whatever follows after a dot."""


def folder_name(name: str) -> str:
    """Return the name of the folder for an input.

    Separators, characters that some system refuses and those that cannot be shown become ``_``; accents are composed
    (NFC); dots and spaces at either end are dropped, so that nothing is hidden and nothing means another folder; names
    of devices get a ``_``; what is too long is cut between characters. An allowed name stays as it is.

    Args:
        name: Of the input without its suffix; may be anything, also empty.

    Returns:
        A name of 1 to ``MAX_BYTES`` bytes in UTF-8 (and one more for a device), which is its own folder name.
    """
    shown = "".join("_" if c in _FORBIDDEN or unicodedata.category(c) in _UNPRINTABLE else c for c in name)
    composed = unicodedata.normalize("NFC", shown).strip(". ")
    text = composed.encode()[:MAX_BYTES].decode(errors="ignore").rstrip(". ")
    stem, dot, rest = text.partition(".")
    if _RESERVED.fullmatch(stem):
        text = f"{stem.rstrip()}_{dot}{rest}"
    return text or UNNAMED


def name_key(name: str) -> str:
    """Return what is equal for names that some file system takes for one: another case, accents composed or not."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
