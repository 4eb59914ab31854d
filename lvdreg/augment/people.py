"""People who step before the camera in whatever pose and shape is wanted: bound scans, and synthetic characters."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.augment.plan import Plan, Source
from lvdreg.augment.repose.bound import Bound
from lvdreg.augment.repose.faults import inspect
from lvdreg.augment.repose.sources import load_bound
from lvdreg.augment.seeds import Seeds
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.synth.characters import Characters
from lvdreg.synth.people.gaits import draw_pose
from lvdreg.synth.subjects import Subjects

POSE_KINDS = ("walking", "running", "sampled")
"""In turns; a source's own pose comes first."""
FIRST_CHANGE, OTHER_CHANGE, MOST = 2.0, 0.4, 3.5
"""The first shape direction is changed by up to so much (paper, supplement 2), others by so much (one sigma); no beta
is moved beyond the last."""


@dataclass(frozen=True)
class Drawn:
    """A person in a pose and shape.

    Attributes:
        subjects: A batch of one.
        pose_kind: "own", or one of ``POSE_KINDS``.
        shape_change: What was added to the source's own betas.
        faults: Kinds of what is wrong with it; none: it can be used.
    """

    subjects: Subjects
    pose_kind: str
    shape_change: Float[Tensor, " K"]
    faults: tuple[str, ...] = ()


@runtime_checkable
class Person(Protocol):
    """A source, ready to be drawn."""

    def draw(self, pose: int, shape: int, seeds: Seeds, attempt: int) -> Drawn:
        """Return the person in a pose and shape; further attempts give others under the same numbers."""
        ...


Opener = Callable[[Source, Plan], Person]


def open_person(source: Source, plan: Plan) -> Person:
    """Return the person a source stands for.

    Raises:
        LvdregError: the scan or its registration cannot be used.
    """
    if source.scan is None or source.result is None:
        return Character(_characters(plan.body, plan.asked.device), plan.asked.shapes)
    bound: Bound = moved(load_bound(source.scan, source.result), torch.device(plan.asked.device))
    return Scanned(bound, plan.asked.shapes)


def moved(value: Any, device: torch.device) -> Any:
    """Return a tensor, a module, or a dataclass or tuple of such, on a device; anything else as it is."""
    if isinstance(value, torch.Tensor | torch.nn.Module):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(moved(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: moved(getattr(value, item.name), device) for item in fields(value)})
    return value


@lru_cache(maxsize=1)
def _characters(body: str, device: str) -> Characters:
    return Characters(load_body(body).to(device))


@dataclass(frozen=True)
class Character:
    """A synthetic character: body, pose and clothes of its own, all from its seeds."""

    people: Characters
    shapes: int

    def draw(self, pose: int, shape: int, seeds: Seeds, attempt: int) -> Drawn:
        """Return the character in a pose and shape, in the same clothes."""
        own = self.people.stream.params(1, seeds.generator("person"))
        params, kind, change = drawn_params(self.people.body, own, pose, shape, self.shapes, seeds, attempt)
        return Drawn(self.people.dress(params, seeds.generator("clothes")), kind, change)


@dataclass(frozen=True)
class Scanned:
    """A scan that is bound to its registration."""

    bound: Bound
    shapes: int

    def draw(self, pose: int, shape: int, seeds: Seeds, attempt: int) -> Drawn:
        """Return the scanned person in a pose and shape, and what is wrong with it."""
        own = self.bound.params
        params, kind, change = drawn_params(self.bound.body, own, pose, shape, self.shapes, seeds, attempt)
        subjects = self.bound.pose(params)
        faults = tuple(sorted({fault.kind for fault in inspect(self.bound, subjects)}))
        return Drawn(subjects, kind, change, faults)


def drawn_params(
    body: BodyModel, own: BodyParams, pose: int, shape: int, shapes: int, seeds: Seeds, attempt: int
) -> tuple[BodyParams, str, Float[Tensor, " K"]]:
    """Draw the parameters of a version; number 0 keeps the source's own pose or shape.

    Args:
        body: The body.
        own: The source's own parameters, a batch of one, without displacements.
        pose: Number of the pose.
        shape: Number of the shape.
        shapes: How many shapes there are.
        seeds: Of the source: a pose has the same seed in all shapes, and a shape in all poses.
        attempt: How many draws were rejected before.

    Returns:
        Parameters, kind of the pose, and the change of betas.
    """
    betas, rotations, transl, kind = own.betas, own.pose, own.transl, "own"
    if shape:
        change = draw_change(betas, shape, shapes, seeds.generator("shape", shape, attempt))
        betas = (betas + change).clamp(-MOST, MOST).where(change != 0, betas)
    if pose:
        kind = POSE_KINDS[(pose - 1) % len(POSE_KINDS)]
        rotations = draw_pose(kind, body, betas, seeds.generator("pose", pose, attempt))
    return BodyParams(betas, rotations, transl), kind, (betas - own.betas)[0]


def draw_change(
    betas: Float[Tensor, "1 K"], shape: int, shapes: int, generator: torch.Generator
) -> Float[Tensor, "1 K"]:
    """Draw a change of shape: even steps along the first direction, a little of the others.

    Source: LVD paper, supplement 2: the first shape parameter in discrete steps about that of the scan.
    """
    change = OTHER_CHANGE * torch.randn(betas.shape, generator=generator, device=generator.device)
    step = (shape - 1 + torch.rand(1, generator=generator, device=generator.device)) / (shapes - 1)
    change[:, 0] = FIRST_CHANGE * (2 * step - 1)
    return change.to(betas.device)
