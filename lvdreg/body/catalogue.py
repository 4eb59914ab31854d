"""Bodies by name: the free ones in the package and the licensed ones that users added, read without pickle."""

from lvdreg.base.arguments import check_type
from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import BodyError
from lvdreg.base.text import shown
from lvdreg.body import store
from lvdreg.body.files import KINDS, LICENCE, body_names, kind_named, shipped_data
from lvdreg.body.model import BodyData, BodyModel, mirror_image


def missing(name: str) -> BodyError:
    """Say that a licensed model was not added, where to get its file, under which licence, and what to do then."""
    kind = KINDS[kind_named(name) or name]
    return BodyError(
        f"{name}: {kind.title} is not part of lvdreg and was not added yet: register at {kind.site}, accept {LICENCE}, "
        f"download the file ({kind.file}), then run lvdreg models add FILE"
    )


def load_body(name: str = "anny", side: str = "right") -> BodyModel:
    """Return a body by name.

    The file is read once per process; every call gives a module of its own, so moving one to a device moves no other.

    Args:
        name: One of ``body_names``, or of a model that was added; see ``lvdreg.body.store``.
        side: Of a hand: "right" as it is in the file, or "left", its exact mirror image.

    Raises:
        BodyError: there is no body of that name, or none yet (says where to get it), its file is damaged, or the left
            of a body that is no hand is asked for.
    """
    check_type("name", name, str, "the name of a body, such as 'anny'", BodyError)
    data = _data(name)
    if side == "right":
        return BodyModel(data)
    if side != "left" or not data.is_hand:
        raise BodyError(f"expected side right, or left of a hand, got side {side!r} of body {name!r}")
    return BodyModel(mirror_image(data))


def _data(name: str) -> BodyData:
    if name in body_names():
        return shipped_data(name)
    added = store.names()
    if name in added:
        return store.load(name)
    if kind_named(name):
        raise missing(name)
    free, own = ", ".join(body_names()) or "none", ", ".join(added) or "none"
    raise BodyError(f"no body named {shown(name)}; bodies found in {assets_dir() / 'bodies'}: {free}; added: {own}")
