"""Initial vertex codes: the principal components of posed bodies.

Linear blend skinning makes every coordinate of a posed body a mixture of few scalar functions over the template; their
principal components are the best low-rank heads there are before training begins.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.body.model import BodyModel
from lvdreg.synth.streams import stream_of


@torch.no_grad()
def pose_codes(body: BodyModel, rank: int, num_bodies: int = 512, seed: int = 0) -> Float[Tensor, "V R"]:
    """Return ``rank`` codes per vertex: a constant, then components of ``num_bodies`` random bodies, strongest first.

    Columns have unit variance times the square root of their relative strength, so that the weak ones start small.
    """
    generator = torch.Generator(device=body.faces.device).manual_seed(seed)
    vertices = stream_of(body).bodies(num_bodies, generator).vertices
    centred = vertices - vertices.mean(1, keepdim=True)
    rows = centred.permute(0, 2, 1).reshape(-1, body.num_vertices)
    # The eigenvectors of the small Gram matrix give those of the large one.
    eigenvalues, u = torch.linalg.eigh((rows @ rows.T).double())
    strength = eigenvalues.flip(0).clamp_min(1e-12).sqrt()[: rank - 1]
    components = (rows.T.double() @ u.flip(1)[:, : rank - 1]) / strength
    scaled = components * body.num_vertices**0.5 * (strength / strength[0]).sqrt()
    return torch.cat([torch.ones(body.num_vertices, 1, device=rows.device), scaled.float()], 1)


def parameter_groups(net: nn.Module) -> list[dict[str, Any]]:
    """Return a network's parameters as the optimiser takes them; ``rate_scale`` multiplies the learning rate.

    The codes of a vertex field begin nearly right: they may drift, but not jump.
    """
    codes = [parameter for name, parameter in net.named_parameters() if name == "field.codes"]
    others = [parameter for name, parameter in net.named_parameters() if name != "field.codes"]
    groups: list[dict[str, Any]] = [{"params": others, "rate_scale": 1.0}]
    return [*groups, {"params": codes, "rate_scale": 0.1, "weight_decay": 0.0}] if codes else groups
