"""Commas in numbers: decimal points of half the world, separators of columns, or thousands; told apart or refused."""

import re

from lvdreg.base.errors import ScanError

_SAMPLE_ROWS = 1000
_DECIMAL = rb"[-+]?(?:\d+,\d*|,\d+)(?:[eE][-+]?\d+)?"
_OTHER_TOKEN = re.compile(rb"(?<!\S)(?!" + _DECIMAL + rb"(?!\S))[^\s,]*,\S*")
"""Something with a comma that is no number with a decimal comma."""
_IS_DECIMAL = re.compile(rb"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
_WITHIN = re.compile(rb"\d,\d")
_MAYBE_THOUSANDS = re.compile(rb"[-+]?[1-9]\d{0,2},\d{3}")
_THOUSANDS = re.compile(rb"[-+]?\d{1,3}(,\d{3})+\.\d*")
_HALF_A_NUMBER = re.compile(rb"-0|[-+]?0\d+")
"""What stands on one side of a decimal comma, and in no column of whole numbers."""
_QUOTED = re.compile(rb'"([^"]*)"')


def with_points(text: bytes) -> bytes:
    """Turn decimal commas into points, where white space alone separates numbers.

    Raises:
        ScanError: other commas are among them, or points, too.
    """
    other = _OTHER_TOKEN.search(text)
    if other or b"." in text:
        raise _unclear(other[0] if other else re.findall(rb"\S*,\S*", text)[0])
    return text.replace(b",", b".")


def plain_rows(rows: list[bytes]) -> tuple[list[bytes], bool]:
    """Return rows of numbers with decimal points and white space between them, and whether commas were points.

    Args:
        rows: Numbers separated by white space, commas or semicolons; their decimal marks are points or commas.

    Raises:
        ScanError: commas could be either; the message shows one.
    """
    sample = rows[:: max(1, len(rows) // _SAMPLE_ROWS)]
    is_quoted = any(b'"' in row for row in sample)
    if is_quoted:
        # A comma within quotes is no separator.
        rows, sample = ([_QUOTED.sub(_unquoted, row) for row in part] for part in (rows, sample))
    text = b"\n".join(sample)
    if b"," not in text and b";" not in text:
        return rows, is_quoted
    is_decimal = _is_decimal(text, sample)
    marks = bytes.maketrans(b",;", b". " if is_decimal else b"  ")
    return [row.translate(marks) for row in rows], is_decimal


def _unquoted(match: re.Match[bytes]) -> bytes:
    return match[1].strip().replace(b",", b".")


def _is_decimal(text: bytes, sample: list[bytes]) -> bool:
    """Tell decimal commas from separators."""
    tokens = [token for row in sample for token in row.split() if b"," in token]
    if b";" in text:
        # Semicolons separate: then commas do not.
        if tokens and b"." in text:
            raise _unclear(tokens[0])
        return bool(tokens)
    if b"." in text:
        thousands = next((token for token in tokens if _THOUSANDS.fullmatch(token)), None)
        if thousands:
            raise _unclear(thousands)
        return False
    table = [row.split() for row in sample if b"," in row]
    # Of "1 ,2 ,3" the commas separate, of ",1 ,2 ,3" and "0,5 ,2 ,3" they do not.
    are_within = any(map(_WITHIN.search, tokens)) or any(b"," in row[0] for row in table)
    if are_within and all(len(row) >= 3 for row in table) and all(map(_IS_DECIMAL.fullmatch, tokens)):
        has_others = sum(map(len, table)) > len(tokens)
        if has_others and all(_MAYBE_THOUSANDS.fullmatch(token) for token in tokens):
            raise _unclear(tokens[0])
        return True
    _refuse_both(table)
    return False


def _refuse_both(table: list[list[bytes]]) -> None:
    """Refuse rows such as ``0,5,1,25,0,3``, where commas both separate numbers and stand within them."""
    for row in table:
        line = b" ".join(row)
        cells = [cell for cell in re.split(rb"[\s,]+", line) if cell]
        in_pairs = len(row) >= 2 and all(re.fullmatch(rb"[-+]?\d+,\d+,?", token) for token in row)
        halves = len(cells) >= 6 and len(cells) % 2 == 0 and any(map(_HALF_A_NUMBER.fullmatch, cells))
        if in_pairs or halves:
            raise _unclear(line)


def _unclear(text: bytes) -> ScanError:
    shown = text[:40].decode("latin-1")
    return ScanError(
        f"a comma in {shown!r} could be a decimal point or a separator; export numbers with decimal points, "
        "or with semicolons between them"
    )
