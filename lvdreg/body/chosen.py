"""The model that is fitted, and the free model whose network finds it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from lvdreg.base.provenance import FileHashes
from lvdreg.body import store
from lvdreg.body.catalogue import load_body
from lvdreg.body.files import body_names
from lvdreg.body.model import BodyData, BodyModel, mirror_image
from lvdreg.body.transfer import Correspondence

if TYPE_CHECKING:
    from lvdreg.body.licensed import LicensedModel


@dataclass(frozen=True)
class Chosen:
    """What is fitted, and the free model whose network finds it: the same, where nothing has to be carried over."""

    body: BodyModel
    """Of a hand always one that looks like a right hand."""
    source: BodyModel
    correspondence: Correspondence | None = None
    files: FileHashes = field(default_factory=dict)
    """All files that these were read from."""

    def carried(self, vertices: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vertices (V, 3) of the model and their sigma (V,) from those of the free one; unit and frame stay."""
        if self.correspondence is None:
            return vertices, sigma
        points, faces = vertices.double().cpu().numpy(), self.source.data.faces
        own = self.correspondence.carry(points, faces)
        own_sigma = self.correspondence.carry_sigma(sigma.double().cpu().numpy(), points, faces)
        return torch.from_numpy(own).to(vertices), torch.from_numpy(own_sigma).to(sigma)


def source_of(model: str) -> str:
    """Return the free model whose networks find a model: the model itself, unless it was added."""
    name = model.removesuffix("+d")
    return name if name in body_names() else free_model_of(load_body(name).data)


def free_model_of(data: BodyData) -> str:
    """Return the name of the free model that another one is like."""
    return "anny-hand" if data.is_hand else "anny"


def choose(name: str, correspond: Callable[["LicensedModel"], Correspondence]) -> Chosen:
    """Return a model by name, and what carries the network over to it.

    Args:
        name: A free model, or one that was added.
        correspond: Finds the correspondence anew, where the free model has changed since.

    Raises:
        BodyError: there is no such model, or it is damaged.
    """
    if name in body_names():
        body = load_body(name)
        return Chosen(body, body, files=_file_of(body))
    added = store.load_model(name) if name in store.names() else None
    data = as_right(load_body(name).data, added.side if added else None)
    source = load_body(free_model_of(data))
    found = store.correspondence(name) if store.is_current(name) else store.renew(name, correspond)
    return Chosen(BodyModel(data), source, found, _file_of(source) | store.files_of(name, data, found))


def _file_of(free: BodyModel) -> FileHashes:
    return {f"bodies/{free.data.name}.npz": free.data.sha256}


def of_side(name: str, model: Chosen, is_left: bool, correspond: Callable[["LicensedModel"], Correspondence]) -> Chosen:
    """Return the model whose own file is of the hand that was found, where there is one; else its mirror image."""
    own = _own_side(name, is_left)
    return model if own == name else choose(own, correspond)


def registered_body(name: str, side: str | None) -> BodyModel:
    """Return the body that the parameters of a result pose: of a left hand the model's mirror image.

    Args:
        name: A free model, or one that was added.
        side: Which hand the result is of; None of a body.

    Raises:
        BodyError: there is no such model, or it is damaged.
    """
    own = _own_side(name, side == "left") if side is not None else name
    data = as_right(load_body(own).data, store.entry(own).side if own in store.names() else None)
    return BodyModel(mirror_image(data) if side == "left" else data)


def _own_side(name: str, is_left: bool) -> str:
    """Return the model whose own file is of the hand that was found, where there is one."""
    other = "mano-left" if is_left else "mano"
    return other if name in {"mano", "mano-left"} and other in store.names() else name


def as_right(data: BodyData, side: str | None) -> BodyData:
    """Return a left hand's mirror image, which the pipeline takes it for; everything else as it is."""
    return mirror_image(data) if side == "left" else data
