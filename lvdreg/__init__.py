"""Register 3D scans of people and hands to body models by Learned Vertex Descent.

>>> import lvdreg
>>> result = lvdreg.register("scan.ply", model="anny+d")
>>> result.save("out/scan")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lvdreg.base.version import __version__

if TYPE_CHECKING:
    from lvdreg.base.errors import LvdregError
    from lvdreg.body.catalogue import load_body
    from lvdreg.body.model import BodyModel, BodyParams
    from lvdreg.pipeline.people import register_group
    from lvdreg.pipeline.photo import register_image, register_people
    from lvdreg.pipeline.photos import register_photos
    from lvdreg.pipeline.scan import register, register_hand
    from lvdreg.pipeline.scans import register_scans
    from lvdreg.pipeline.sequence import register_sequence
    from lvdreg.result.motion import Motion
    from lvdreg.result.photo import People, PhotoRegistration
    from lvdreg.result.scan import Group, Registration
    from lvdreg.scan.model import Scan, read_scan
    from lvdreg.settings import Settings

_HOMES = {
    "register": "lvdreg.pipeline.scan",
    "register_hand": "lvdreg.pipeline.scan",
    "register_scans": "lvdreg.pipeline.scans",
    "register_group": "lvdreg.pipeline.people",
    "register_sequence": "lvdreg.pipeline.sequence",
    "register_image": "lvdreg.pipeline.photo",
    "register_people": "lvdreg.pipeline.photo",
    "register_photos": "lvdreg.pipeline.photos",
    "Settings": "lvdreg.settings",
    "Registration": "lvdreg.result.scan",
    "Group": "lvdreg.result.scan",
    "Motion": "lvdreg.result.motion",
    "PhotoRegistration": "lvdreg.result.photo",
    "People": "lvdreg.result.photo",
    "Scan": "lvdreg.scan.model",
    "read_scan": "lvdreg.scan.model",
    "load_body": "lvdreg.body.catalogue",
    "BodyModel": "lvdreg.body.model",
    "BodyParams": "lvdreg.body.model",
    "LvdregError": "lvdreg.base.errors",
}

__all__ = [
    "register",
    "register_hand",
    "register_scans",
    "register_group",
    "register_sequence",
    "register_image",
    "register_people",
    "register_photos",
    "Settings",
    "Registration",
    "Group",
    "Motion",
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
