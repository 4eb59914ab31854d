"""Bodies behind one door: SMPL-format arrays, skinning and the catalogue of what is shipped."""

from lvdreg.body.catalogue import load_body
from lvdreg.body.files import body_names, load_body_data
from lvdreg.body.model import BodyData, BodyModel, BodyParams, Posed

__all__ = ["BodyData", "BodyModel", "BodyParams", "Posed", "body_names", "load_body", "load_body_data"]
