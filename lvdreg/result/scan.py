"""The result of one registration, as users hold it: what was found, and how to save it."""

from lvdreg.result.data_scan import RegistrationData
from lvdreg.result.files import Saved
from lvdreg.result.files_scan import SCAN_FORMAT


class Registration(RegistrationData, Saved):
    """A body model registered to a scan; its attributes are those of ``RegistrationData``."""

    form = SCAN_FORMAT
