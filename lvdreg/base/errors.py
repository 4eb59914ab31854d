"""What lvdreg raises when the input, not the code, is at fault: one clear line each."""


class LvdregError(Exception):
    """Base of all expected errors; the message is one line, which the command line prints, and exits with status 1."""

    def __init__(self, message: str = "") -> None:
        """Take the message; line breaks, as in what others raise and in names of files, become spaces."""
        super().__init__(" ".join(message.splitlines()))


class UsageError(LvdregError):
    """The call itself is wrong: an unknown option value or a combination that cannot work (exit status 2)."""


class ScanError(LvdregError):
    """A scan cannot be read or holds nothing that can be registered."""


class BodyError(LvdregError):
    """A body model is missing, or its file is not what it should be."""


class CheckpointError(LvdregError):
    """Network weights are missing, damaged or made for something else."""


class RegistrationError(LvdregError):
    """The scan was read, but no person or hand could be registered to it."""


class PhotoError(LvdregError):
    """A photo or a mask cannot be read, or shows nobody that could be registered."""


class DatasetError(LvdregError):
    """A dataset is missing, not finished, damaged, or does not hold what is needed."""


class OutputError(LvdregError, OSError):
    """There is no writing where results should go: others' files, a link or another run are in the way."""
