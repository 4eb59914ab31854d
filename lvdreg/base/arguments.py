"""What users pass: an argument of another type than expected is said in one line."""

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.base.text import shown


def unexpected(name: str, expected: str, value: object, error: type[LvdregError] = UsageError) -> LvdregError:
    """Return the error that says what an argument should be and what it was."""
    return error(f"{name}: expected {expected}, got {shown(value)}")


def check_type(
    name: str,
    value: object,
    kinds: type | tuple[type, ...],
    expected: str,
    error: type[LvdregError] = UsageError,
) -> None:
    """Check the type of an argument.

    Args:
        name: Of the argument.
        value: What came.
        kinds: What it may be.
        expected: The same in words.
        error: What is raised.

    Raises:
        LvdregError: it is of another type.
    """
    if not isinstance(value, kinds):
        raise unexpected(name, expected, value, error)
