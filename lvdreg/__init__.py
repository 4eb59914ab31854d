"""Register 3D scans of people and hands to body models by Learned Vertex Descent.

>>> import lvdreg
>>> result = lvdreg.register("scan.ply", model="anny+d")
>>> result.save("out/scan")
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lvdreg.body.catalogue import load_body
    from lvdreg.body.model import BodyModel, BodyParams
    from lvdreg.errors import LvdregError
    from lvdreg.photograph import People, PhotoRegistration
    from lvdreg.register import register, register_hand
    from lvdreg.register_image import register_image, register_people
    from lvdreg.registration import Registration
    from lvdreg.scan import Scan, read_scan

__version__ = "0.1.0"

_HOMES = {
    "register": "lvdreg.register",
    "register_hand": "lvdreg.register",
    "register_image": "lvdreg.register_image",
    "register_people": "lvdreg.register_image",
    "Registration": "lvdreg.registration",
    "PhotoRegistration": "lvdreg.photograph",
    "People": "lvdreg.photograph",
    "Scan": "lvdreg.scan",
    "read_scan": "lvdreg.scan",
    "load_body": "lvdreg.body.catalogue",
    "BodyModel": "lvdreg.body.model",
    "BodyParams": "lvdreg.body.model",
    "LvdregError": "lvdreg.errors",
}

__all__ = [
    "register",
    "register_hand",
    "register_image",
    "register_people",
    "Registration",
    "PhotoRegistration",
    "People",
    "Scan",
    "read_scan",
    "load_body",
    "BodyModel",
    "BodyParams",
    "LvdregError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first used (PEP 562): ``lvdreg --help`` needs none of them, and no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lvdreg' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps ``lvdreg.register`` the function: importing the module of that name would put itself in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("register", "register_image") and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
