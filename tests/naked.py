"""People with nothing on and photos of them, to test the benchmark of photos; see the fixture ``small_photos``."""

from functools import cache

import torch
from fake_people import grey

from lvdreg.body import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.evaluate.subjects import STANDING, PhotoSubject, RenderedView, photograph
from lvdreg.geometry.metrics import Surface
from lvdreg.synth.subjects import Subjects
from lvdreg.synth.surface import Outer


def naked(
    seed: int = 0, yaw: float = 0.0, name: str = "somebody", pose: str = STANDING, model: BodyModel | None = None
) -> PhotoSubject:
    """Somebody with nothing on, in a pose that is near to rest, turned about the vertical."""
    body, generator = model or load_body("anny"), torch.Generator().manual_seed(seed)
    turns = 0.15 * torch.randn(1, body.num_joints, 3, generator=generator)
    turns[:, 0] = torch.tensor([0.0, yaw, 0.0])
    params = BodyParams(torch.randn(1, body.num_betas, generator=generator), turns, torch.tensor([[0.3, 1.0, -0.2]]))
    posed = body(params)
    outer = Outer(posed.vertices, body.faces, torch.ones(1, len(body.faces), dtype=torch.bool))
    labels = body.weights.argmax(-1)[None]
    subjects = Subjects(outer, grey, labels, body.v_template[None], params, posed.vertices, posed.joints)
    return PhotoSubject(
        name, subjects, Surface(posed.vertices[0].double().numpy(), body.data.faces), params, True, (pose,)
    )


@cache
def rendered_view(view: int = 0) -> RenderedView:
    """One photo of somebody; views are told apart, nobody may change it."""
    return photograph(naked(), (view,), load_body("anny"))[0]
