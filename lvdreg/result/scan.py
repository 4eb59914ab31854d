"""The result of one registration, as users hold it: what was found, and how to save it."""

from pathlib import Path

from lvdreg.result.data_scan import RegistrationData
from lvdreg.result.files_scan import write_result


class Registration(RegistrationData):
    """A body model registered to a scan; its attributes are those of ``RegistrationData``."""

    def save(self, folder: str | Path) -> list[Path]:
        """Write meshes, parameters, report and preview into a folder: all of them, or none.

        Args:
            folder: Made if it is missing; an earlier result in it is replaced once the new one is complete. Other files
                in it are left alone.
        Returns:
            The files written.
        Raises:
            OSError: the folder cannot be written; an earlier result is then still whole.
        """
        return write_result(self, Path(folder))
